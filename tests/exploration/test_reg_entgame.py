"""Regularised EntGame against dense numpy from exploration §4.2; properties 14, 15 and 20."""

import json

import gymnasium
import numpy as np
import pytest
from oracles import episodic, models
from scipy.special import logsumexp

from rlentropy import FiniteMDP
from rlentropy.cli import main
from rlentropy.envs.tabular import TabularEnv
from rlentropy.exploration import entgame, reg_entgame
from rlentropy.exploration.setting import Setting
from rlentropy.log import Log
from rlentropy.planning import max_visitation_entropy

CHAIN, GRID = "rlentropy/DoubleChain-v0", "rlentropy/GridWorld-v0"
CHAIN_VE, GRID_VE = 53.7249578547, 108.5401265520  # exploration §6.4


def environment(m):
    return TabularEnv(FiniteMDP(*m.args))


def make(m, H, seed=0, simulator="compiled", **options):
    config = reg_entgame.Config(horizon=H, simulator=simulator, **options)
    setting = Setting.of(environment(m), H, simulator)
    return reg_entgame.make_learner(setting, config, np.random.default_rng(seed))


def make_entgame(m, H, seed=0, **options):
    setting = Setting.of(environment(m), H, "compiled")
    return entgame.EntGame(setting, entgame.Config(**options), np.random.default_rng(seed))


def run(module, env_id, seed, **options):
    env, rng = gymnasium.make(env_id), np.random.default_rng(seed)
    return module.run(env, module.Config(**options), rng, Log(None))


# ---------------------------------------------------------------- the equations, dense


def dense_plan(n_h, n, H, temperature, prior, scale):
    """§4.2: visits n_h (H, S) of t - 1 episodes, transition counts n (K, S, A, S)."""
    K, S, A, _ = n.shape
    episodes = n_h[0].sum()
    Q, V = np.zeros((H, S, A)), np.zeros((H + 1, S))
    L = np.log(episodes / prior + S)
    for h in range(H - 1, -1, -1):
        k = h if K > 1 else 0
        for s in range(S):
            q = (n_h[h, s] + prior) / (episodes + prior * S)
            for a in range(A):
                N = n[k, s, a].sum()
                after = V[h + 1].max() if N == 0 else n[k, s, a] @ V[h + 1] / N
                bonus = scale * (H - h) * L / max(N, 1)
                Q[h, s, a] = np.log(1.0 / q) + bonus + after
            V[h, s] = temperature * logsumexp(Q[h, s] / temperature)
    pi = np.exp((Q - V[:-1, :, None]) / temperature)
    return Q, V, pi


@pytest.mark.parametrize("bonus", ["none", "inverse-n"])
@pytest.mark.parametrize("staged", [False, True])
def test_plan_is_that_of_the_equations(bonus, staged):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        S, A, H = (int(x) for x in rng.integers((1, 1, 1), (6, 4, 6)))
        temperature = float(rng.choice([0.05, 0.5, 1.0, 3.0]))
        prior, scale = float(rng.choice([0.5, 1.0, 4.0])), float(rng.choice([0.0, 0.01, 1.0]))
        learner = make(
            models.random_mdp(rng, S, A), H, temperature=temperature, prior=prior, bonus=bonus,
            bonus_scale=scale, stage_dependent=staged,
        )  # fmt: skip
        n, n_h = np.zeros((H if staged else 1, S, A, S), np.int64), np.zeros((H, S))
        for episode in range(25):
            assert learner.begin_episode()
            used = scale if bonus == "inverse-n" else 0.0
            Q, V, pi = dense_plan(n_h, n, H, temperature, prior, used)
            np.testing.assert_allclose(learner.Q, Q, rtol=1e-11, atol=1e-11)
            np.testing.assert_allclose(learner.V, V, rtol=1e-11, atol=1e-11)
            np.testing.assert_allclose(learner.last_iterate(), pi, rtol=1e-9, atol=1e-12)
            states, actions = rng.integers(S, size=H + 1), rng.integers(A, size=H)
            end = -1
            if episode % 4 == 3:
                end = int(rng.integers(0, H + 1))
                states[end:] = states[end]
                for k in range(len(n)):
                    for a in range(A):
                        if n[k, states[end], a].sum() == 0:
                            n[k, states[end], a, states[end]] = 1
            learner.end_episode(states, actions, end)
            for h in range(H):
                n_h[h, states[h]] += 1
                n[h if staged else 0, states[h], actions[h], states[h + 1]] += 1


def test_played_actions_follow_the_plan():
    """Visits of the compiled loop in one episode, many times over, against its occupancy."""
    rng = np.random.default_rng(1)
    m = models.random_mdp(rng, 4, 3)
    learner = make(m, 3, temperature=0.7)
    learner.play(50, rng.spawn(1)[0])
    state = learner.state_dict()
    visits = learner.visits.copy()
    pi, n, drawn = learner.last_iterate(), 4000, np.zeros(visits.shape)
    for k in range(n):
        learner.load_state_dict(state | {"visits": visits})
        learner.policy_rng = np.random.default_rng((1, k))
        learner.play(1, np.random.default_rng((2, k)))
        drawn += learner.visits - visits
    d = episodic.occupancy(m, pi)
    assert (np.abs(drawn / n - d) < 5 * np.sqrt(d * (1 - d) / n) + 1e-12).all()


# ---------------------------------------------------------------- what it reaches


@pytest.fixture(scope="module")
def chain_runs():
    return {
        module.__name__.rpartition(".")[2]: [run(module, CHAIN, seed).summary for seed in range(5)]
        for module in (reg_entgame, entgame)
    }


def test_double_chain_at_5000_episodes(chain_runs):
    for summary in chain_runs["reg_entgame"]:
        assert summary["optimum"] == pytest.approx(CHAIN_VE, abs=1e-8)
        assert -1e-9 <= CHAIN_VE - summary["mixture_value"] <= 0.02
        assert -1e-9 <= CHAIN_VE - summary["value"] <= 0.06
    last = [CHAIN_VE - s["last_iterate_value"] for s in chain_runs["reg_entgame"]]
    # Exploration §4.2 measured a mean of 0.0327 over five seeds; the issue asks for <= 0.06.
    assert np.mean(last) <= 0.06, last


def test_property_20(chain_runs):
    """The mixture is no worse than EntGame's, and the last iterate has a gap below 0.1."""
    ours, theirs = (
        np.array([CHAIN_VE - s["mixture_value"] for s in chain_runs[name]])
        for name in ("reg_entgame", "entgame")
    )
    assert ours.mean() <= theirs.mean()
    assert (ours <= theirs.max()).all()
    for summary in chain_runs["reg_entgame"]:
        assert CHAIN_VE - summary["last_iterate_value"] < 0.1
    assert min(CHAIN_VE - s["last_iterate_value"] for s in chain_runs["entgame"]) > 10.0


def test_grid_world_at_5000_episodes():
    summary = run(reg_entgame, GRID, 0).summary
    assert summary["optimum"] == pytest.approx(GRID_VE, abs=1e-8)
    assert -1e-9 <= GRID_VE - summary["mixture_value"] <= 0.35
    assert GRID_VE - summary["last_iterate_value"] <= 0.8  # exploration §4.2: 0.42, one seed
    assert summary["certified_gap"] >= GRID_VE - summary["mixture_value"]


@pytest.mark.parametrize("temperature", [0.2, 1.0, 2.5])
@pytest.mark.parametrize("reward_free", [0, 60])
def test_the_certificate_bounds_the_true_gap(temperature, reward_free):
    """At every evaluation, against the optimum by the package and the mixture by hand."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        m = models.random_mdp(rng, 5, 2)
        learner = make(
            m, 4, seed, temperature=temperature, reward_free_episodes=reward_free, episodes=3000
        )
        best = max_visitation_entropy(FiniteMDP(*m.args), 4, temperature=temperature)
        env_rng = rng.spawn(1)[0]
        for t in (61, 65, 100, 300, 1000):
            learner.play(t - learner.episodes, env_rng)
            d = learner.mixture_occupancy()
            states = sum(episodic.shannon(x.sum(1)) for x in d)
            value = states + temperature * (episodic.visitation_entropy(d, "VE") - states)
            gap = best.value + best.certificate - value
            assert gap >= -1e-9
            assert learner.certified_gap() >= gap - best.certificate - 1e-9
            assert learner.certified_gap() <= gap + 4 * np.log(t + 5.0) * 2


def test_certificate_is_logged_at_every_evaluation(tmp_path):
    out = tmp_path / "run"
    command = ("reg-entgame", "--env-id", CHAIN, "--env-kwargs", '{"num_states": 9}')
    options = ("--horizon", "6", "--episodes", "60", "--eval-every", "7", "--quiet")
    assert main([*command, *options, "--out", str(out)]) == 0
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    certified = {r["step"]: r["value"] for r in rows if r["tag"] == "eval/certified_gap"}
    true = {r["step"]: r["value"] for r in rows if r["tag"] == "eval/mixture_gap"}
    assert sorted(certified) == sorted(true) == [6 * t for t in (*range(7, 60, 7), 60)]
    assert all(certified[t] >= true[t] >= -1e-9 for t in true)


def test_mixture_occupancy_is_the_average_of_what_was_played():
    rng = np.random.default_rng(0)
    m = models.random_mdp(rng, 5, 3)
    learner = make(m, 4, simulator="gymnasium", temperature=0.6)
    total = np.zeros((4, 5, 3))
    for t in range(30):
        total += episodic.occupancy(m, learner.last_iterate())
        assert learner.begin_episode()
        states, actions = rng.integers(5, size=5), rng.integers(3, size=4)
        learner.end_episode(states, actions, -1)
        np.testing.assert_allclose(learner.mixture_occupancy(), total / (t + 1), atol=1e-12)


@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_temperatures_other_than_one(temperature):
    """VE_λ has its own optimum, which the mixture approaches; its last iterate too."""
    options = {"temperature": temperature, "episodes": 4000, "horizon": 8}
    summary = run(reg_entgame, "rlentropy/Garnet-v0", 1, **options).summary
    assert -1e-9 <= summary["optimum"] - summary["mixture_value"] < 0.1
    assert summary["optimum"] - summary["last_iterate_value"] < 0.2
    plain = run(reg_entgame, "rlentropy/Garnet-v0", 1, episodes=100, horizon=8).summary
    assert abs(summary["optimum"] - plain["optimum"]) > 0.1


# ---------------------------------------------------------------- the frozen version


@pytest.mark.parametrize("simulator", ["compiled", "gymnasium"])
def test_phase_two_learns_no_transitions(simulator):
    rng = np.random.default_rng(2)
    m = models.random_mdp(rng, 5, 2)
    config = reg_entgame.Config(
        horizon=4, episodes=400, reward_free_episodes=100, simulator=simulator
    )
    setting = Setting.of(environment(m), 4, simulator)
    learner = reg_entgame.make_learner(setting, config, rng)
    learner.play(100, rng)
    before = {k: v.copy() for k, v in learner.first.model.state_dict().items()}
    assert before["hits"].sum() == 400
    learner.play(300, rng)
    assert learner.episodes == 400
    after = learner.now.model.state_dict()
    assert learner.now is not learner.first
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])
    assert learner.now.visits.sum() == 300 * 4


def test_frozen_version_on_the_chain():
    """With 500 episodes of RF-UCRL the game comes close, and its certificate says so."""
    for temperature in (1.0, 0.5):
        options = {"reward_free_episodes": 500, "episodes": 5000, "temperature": temperature}
        summary = run(reg_entgame, CHAIN, 0, **options).summary
        assert summary["episodes"] == 5000
        assert summary["env_steps"] == 100_000
        assert -1e-9 <= summary["optimum"] - summary["mixture_value"] < 0.1
        assert summary["certified_gap"] >= summary["optimum"] - summary["mixture_value"]


def test_visit_frequencies_of_the_second_phase_are_frequencies(tmp_path):
    """eval/visit_frequency_entropy is an entropy of a law: at most log A + (H - 1) log SA, and
    near that of the mixture; frequencies that sum to 0.1 have neither property."""
    out = tmp_path / "run"
    command = ("reg-entgame", "--env-id", CHAIN, "--env-kwargs", '{"num_states": 9}')
    options = ("--horizon", "6", "--episodes", "4000", "--reward-free-episodes", "3600")
    assert main([*command, *options, "--out", str(out), "--quiet"]) == 0
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    last = {row["tag"]: row["value"] for row in rows}
    mixture = last["eval/mixture_visitation_entropy"]
    assert last["eval/visit_frequency_entropy"] == pytest.approx(mixture, abs=0.5)


def test_value_without_a_model_is_that_of_the_second_phase():
    """Without a known model the value is the plug-in entropy of the visit frequencies."""

    class Hidden(gymnasium.Env):
        observation_space = gymnasium.spaces.Discrete(4)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.s = 0
            return 0, {}

        def step(self, action):
            self.s = (self.s + int(action)) % 4
            return self.s, 0.0, False, False, {}

    config = reg_entgame.Config(horizon=3, episodes=1000, reward_free_episodes=800)
    found = reg_entgame.run(Hidden(), config, np.random.default_rng(0), Log(None))
    assert found.summary["value_is_exact"] is False
    d = found.visits / found.visits[0].sum()
    expected = -(d[d > 0] * np.log(d[d > 0])).sum()
    assert found.summary["value"] == pytest.approx(expected, abs=1e-9)


# ---------------------------------------------------------------- EntGame: properties 14 and 15


def test_property_14_hoeffding_kl_is_optimistic():
    """V̄_1 >= max_π <d^π, r^t> for the true kernel, in a share 1 - δ of the runs at every t."""
    runs, delta, wrong = 25, 0.1, 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        S, A, H = 4, 2, 4
        m = models.random_mdp(rng, S, A)
        learner = make_entgame(m, H, seed, bonus="hoeffding-kl", delta=delta)
        right = True
        for t in (0, 1, 3, 10, 50, 300, 2000):
            learner.play(t - learner.episodes, rng)
            V, Q = np.zeros((H + 1, S)), np.zeros((H, S, A))
            learner.fill(V, Q)
            reward = np.log((t + S * A) / (learner.visits + 1.0))
            best = episodic.plan(m, reward)[1][0]
            right &= bool((V[0] >= best - 1e-9).all())
        wrong += not right
    assert wrong <= runs * delta + 3 * np.sqrt(runs * delta * (1 - delta))


def test_property_15_gap_of_entgame_falls_fast():
    """Slope of log gap on log T over [10², 10⁴]: at most -0.8; 3 seeds, mean gap."""
    T = np.array([100, 215, 464, 1000, 2154, 4642, 10_000])
    gaps = np.zeros((3, T.size))
    for seed in range(3):
        learner = make_entgame(models.double_chain(), 20, seed, mixture_size=0)
        rng = np.random.default_rng(seed)
        for k, t in enumerate(T):
            learner.play(int(t) - learner.episodes, rng)
            gaps[seed, k] = CHAIN_VE - episodic.visitation_entropy(
                learner.mixture_occupancy(), "VE"
            )
    assert (gaps > 0).all()
    slope = np.polyfit(np.log(T), np.log(gaps.mean(0)), 1)[0]
    assert slope <= -0.8, gaps.mean(0)


def test_table_of_gaps():
    """§4.2: mixture gaps on the chain, EntGame 0.262, 0.083 and reg-EntGame 0.161, 0.050 after
    416 and 1443 episodes; a single seed there, so 4 sd of ours about our mean."""
    reference = {"entgame": (0.262, 0.083, 0.0249), "reg": (0.161, 0.050, 0.0141)}
    for name, values in reference.items():
        gaps = np.zeros((5, 3))
        for seed in range(5):
            m = models.double_chain()
            maker = make_entgame if name == "entgame" else make
            learner, rng = maker(m, 20, seed, mixture_size=0), np.random.default_rng(50 + seed)
            for k, t in enumerate((416, 1443, 5000)):
                learner.play(t - learner.episodes, rng)
                d = learner.mixture_occupancy()
                gaps[seed, k] = CHAIN_VE - episodic.visitation_entropy(d, "VE")
        sd, mean = gaps.std(0, ddof=1), gaps.mean(0)
        sd[2] /= np.sqrt(5)  # the last column is a mean over five seeds
        assert (np.abs(mean - values) <= 4 * sd * np.sqrt(1 + 1 / 5)).all(), (name, mean, sd)
