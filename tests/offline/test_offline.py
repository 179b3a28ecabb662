"""RFZI, RFQI and FQI on tables: dense value iteration, closed forms, each other (robust §8)."""

import dataclasses

import gymnasium
import numpy as np
import pytest
from examples.offline import PASSED, SMALL, Bandit, boxed, dataset, learnt, table
from gymnasium.spaces import Box
from oracles import discounted

from rlentropy import FiniteMDP, cli, load_run, planning, risk
from rlentropy.data import Transitions, transitions
from rlentropy.envs.ring import RingEnv
from rlentropy.envs.tabular import TabularEnv
from rlentropy.log import Log
from rlentropy.offline import fqi, problem, rfqi, rfzi, tabular

GAMMA = 0.95


# ---------------------------------------------------------------- references and data


def random_model(rng, S=6, A=3, successor_rewards=False):
    P = np.zeros((S, A, S))
    for s in range(S):
        for a in range(A):
            n = rng.integers(1, 4)
            P[s, a, rng.choice(S, n, replace=False)] = rng.dirichlet(np.ones(n))
    r = rng.normal(size=(S, A, S) if successor_rewards else (S, A))
    return P, r


# ---------------------------------------------------------------- tables: exactness


@pytest.mark.parametrize("beta", [0.01, 0.5, 3.0])
@pytest.mark.parametrize("successor_rewards", [False, True])
def test_rfzi_with_the_exact_kernel_is_robust_value_iteration(rng, beta, successor_rewards):
    P, r = random_model(rng, successor_rewards=successor_rewards)
    mdp = FiniteMDP(P, r, np.full(6, 1 / 6))
    model = tabular.Model.of(mdp)
    found = tabular.solve(tabular.ValueIteration(model, risk.Entropic(beta), GAMMA))
    expected = discounted.action_values(P, r, GAMMA, discounted.entropic(beta / GAMMA))
    np.testing.assert_allclose(found.Q, expected, rtol=0.0, atol=1e-10)
    assert np.abs(found.V - expected.max(1)).max() <= found.bound + 4e-12  # of the reference


def test_golden_values_of_toy_10(rng):
    for p, beta, value in ((0.15, 0.1, 14.66570561), (0.01, 1.0, -0.78146507)):
        model = tabular.Model.of(RingEnv(p=p).mdp)
        found = tabular.solve(tabular.ValueIteration(model, risk.Entropic(beta), GAMMA))
        assert found.V.mean() == pytest.approx(value, abs=1e-8)


def test_the_empirical_model_is_what_the_data_say(rng):
    mdp = RingEnv(p=0.2).mdp
    data = dataset(mdp, 2000, seed=1)
    n = np.zeros((14, 3, 14))
    for s, a, s2 in zip(data.observations, data.actions, data.next_observations, strict=True):
        n[s, a, s2] += 1
    result = learnt(rfzi, data, risk="entropic:1")
    seen = n.sum(2, keepdims=True)
    assert (seen > 0).all()
    expected = discounted.action_values(n / seen, mdp.r, GAMMA, discounted.entropic(1.0 / GAMMA))
    np.testing.assert_allclose(result.policy["Q"], expected, rtol=0.0, atol=2e-9)
    np.testing.assert_array_equal(result.policy["pi"].argmax(1), expected.argmax(1))


@pytest.mark.parametrize("beta", [0.01, 1.0, 50.0])
def test_on_deterministic_models_risk_changes_nothing(rng, beta):
    S, A = 7, 3
    P = np.eye(S)[rng.integers(S, size=(S, A))]
    mdp = FiniteMDP(P, rng.normal(size=(S, A)), np.full(S, 1 / S))
    data = dataset(mdp, 4000, seed=0, horizon=5)
    robust, nominal = learnt(rfzi, data, risk=f"entropic:{beta}"), learnt(fqi, data)
    np.testing.assert_allclose(robust.policy["Q"], nominal.policy["Q"], atol=1e-7)
    np.testing.assert_allclose(nominal.policy["V"], planning.optimum(mdp, GAMMA).V, atol=1e-7)


def test_rfzi_tends_to_fqi_as_beta_falls(rng):
    data = dataset(RingEnv(p=0.15).mdp, 5000, seed=0)
    nominal = learnt(fqi, data).policy["Q"]
    distances = [
        np.abs(learnt(rfzi, data, risk=f"entropic:{beta}").policy["Q"] - nominal).max()
        for beta in (1e-2, 1e-4, 1e-6)
    ]
    assert distances[0] / distances[1] == pytest.approx(100.0, rel=0.1)  # linear in β
    assert distances[2] < 1e-2


def test_two_conventions_of_beta_are_one_model():
    data = dataset(RingEnv(p=0.15).mdp, 5000, seed=0)
    nested, paper = 0.4, 0.4 * GAMMA
    by_level = learnt(rfzi, data, erm_level=nested, risk="entropic:9").policy["Q"]
    by_beta = learnt(rfzi, data, risk=f"entropic:{paper}").policy["Q"]
    np.testing.assert_array_equal(by_level, by_beta)
    r, V = 2.0, np.array([1.0, -3.0])  # the definition: -(1/b) log E e^{-b (r + γ V)}
    p = np.array([0.3, 0.7])
    by_definition = -np.log(p @ np.exp(-nested * (r + GAMMA * V))) / nested
    measure = rfzi.Config(erm_level=nested).measure
    assert r + GAMMA * measure.expectation(p, V) == pytest.approx(by_definition, abs=1e-12)


def test_terminations_end_the_sum_and_truncations_do_not():
    # From 0, action 0 pays 1 and terminates in 2; action 1 pays 0.2 and stays, cut off there.
    rows = [(0, 0, 1.0, 2, True), (0, 1, 0.2, 0, False)]
    for module in (fqi, rfzi):
        result = learnt(module, table(*rows), gamma=0.9)
        np.testing.assert_allclose(result.policy["Q"][0], [1.0, 0.2 + 0.9 * 2.0], atol=1e-8)


def test_an_end_may_depend_on_the_whole_transition():
    """Against dense value iteration on the model with a state more, to which all ends lead."""
    P, r = np.zeros((4, 2, 4)), np.zeros((4, 2, 4))
    P[3, :, 3] = 1.0
    P[0, 0, 1], r[0, 0, 1] = 1.0, 1.0
    P[0, 1, 3], r[0, 1, 3] = 1.0, 3.0
    P[1, 0, [1, 2, 3]], r[1, 0, [1, 2, 3]] = (0.25, 0.25, 0.5), (0.0, 2.0, 1.0)
    P[1, 1, 0], r[1, 1, 0] = 1.0, -1.0
    P[2, 0, 1], r[2, 0, 1] = 1.0, -2.0
    P[2, 1, 3], r[2, 1, 3] = 1.0, 7.0
    data = table(*PASSED)
    for module, risk_text, expectation in (
        (rfzi, "entropic:1.5", discounted.entropic(1.5 / 0.9)),
        (fqi, "nominal", lambda p, z: (p * z).sum(-1)),
    ):
        result = learnt(module, data, gamma=0.9, risk=risk_text)
        expected = discounted.action_values(P, r, 0.9, expectation)
        np.testing.assert_allclose(result.policy["Q"], expected[:3], rtol=0.0, atol=1e-8)
        assert result.policy["pi"].shape == (3, 2)
        warning = result.summary["warning"]
        assert "states that others pass through (1 of them, such as 2)" in warning
        assert "if that is a time limit, store it as truncations" in warning


def test_ends_of_different_rewards_are_different_outcomes():
    # Both end in states that others pass through; worse is 0, better is 4, and risk minds.
    rows = [
        (0, 0, 0.0, 1, True),
        (0, 0, 4.0, 2, True),
        (1, 0, 0.5, 2, False),
        (2, 0, 0.5, 1, False),
    ]
    Q = learnt(rfzi, table(*rows, A=1), gamma=0.9, risk="entropic:2").policy["Q"]
    b = 2.0 / 0.9
    assert Q[0, 0] == pytest.approx(-np.log(0.5 + 0.5 * np.exp(-4.0 * b)) / b, abs=1e-9)


def test_a_start_that_ends_the_episode_when_it_is_entered_keeps_its_values():
    rows = [
        (0, 0, 0.0, 1, False),
        (0, 1, 5.0, 1, False),
        (1, 0, 1.0, 0, True),
        (1, 1, 2.0, 0, True),
    ]
    Q = learnt(fqi, table(*rows, S=2), gamma=0.9).policy["Q"]
    np.testing.assert_allclose(Q, [[0.9 * 2.0, 5.0 + 0.9 * 2.0], [1.0, 2.0]], atol=1e-8)


def test_time_limits_stored_as_terminations_are_doubted():
    ends = np.arange(200) % 20 == 19
    x = np.arange(200.0)[:, None]
    data = Transitions.from_arrays(x, np.arange(200) % 2, x[:, 0], x + 1, ends, ends & False)
    summary = learnt(fqi, data, updates=1, **SMALL).summary
    assert "the longest episodes all end terminated at step 20: if that is" in summary["warning"]
    assert summary["guessed_spaces"].startswith("observations as Box")
    truncated = dataclasses.replace(data, terminations=ends & False, truncations=ends, guessed="")
    summary = learnt(fqi, truncated, updates=1, **SMALL).summary
    assert not {"warning", "guessed_spaces"} & set(summary)


def test_rewards_of_states_and_actions_stay_that(rng):
    """Means of equal rewards differ by rounding alone, which is no dependence on s'."""
    P, r = random_model(rng, S=8, A=2)
    mdp = FiniteMDP(P, r * 0.1, np.full(8, 1 / 8))
    data = dataset(mdp, 20_000, seed=3)
    model = tabular.Model.counted(data.counts())
    assert not model.excess.any()
    varied = dataclasses.replace(data, rewards=data.rewards + 1e-9 * data.next_observations)
    assert tabular.Model.counted(varied.counts()).excess.any()


@pytest.mark.parametrize(
    ("unvisited", "value"), [("pessimistic", -10.0), ("optimistic", 30.0), ("zero", 0.0)]
)
def test_cells_without_data(unvisited, value):
    rows = [(0, 0, -1.0, 1, False), (1, 0, 3.0, 0, False)]
    result = learnt(rfzi, table(*rows, S=2), gamma=0.9, unvisited=unvisited)
    np.testing.assert_allclose(result.policy["Q"][:, 1], value)


def test_rfqi_worsens_by_mass_moved_to_the_fail_state(rng):
    P, r = random_model(rng)
    r = np.abs(r)
    mdp = FiniteMDP(P, r, np.full(6, 1 / 6))
    model = tabular.Model.of(mdp)
    measure = risk.TVBall(0.2, support=np.array([model.successor.size]))
    found = tabular.solve(tabular.ValueIteration(model, measure, GAMMA, fail=0.0))
    for s in range(6):
        for a in range(3):
            V = found.V
            x = np.append(V[P[s, a] > 0], 0.0)
            p = np.append(P[s, a][P[s, a] > 0], 0.0)
            etas = x[:, None]  # the dual of §1.5 peaks at a value
            dual = (etas[:, 0] - np.maximum(etas - x, 0.0) @ p - 0.2 * etas[:, 0]).max()
            assert found.Q[s, a] == pytest.approx(r[s, a] + GAMMA * dual, abs=1e-9)


def mean_gaps(options, beta, N, seeds):
    """E V* - E V^π of tables learnt from N steps, (seeds,)."""
    mdp, measure = RingEnv(**options).mdp, risk.Entropic(beta)
    best = planning.robust_optimum(mdp, measure, GAMMA).V.mean()
    gaps = []
    for seed in range(seeds):
        model = tabular.Model.counted(dataset(mdp, N, seed).counts())
        unvisited = mdp.r.min() / (1 - GAMMA)
        iteration = tabular.ValueIteration(model, measure, GAMMA, unvisited)
        pi = problem.greedy(tabular.solve(iteration, 1e-6).Q)
        gaps.append(best - planning.robust_evaluation(mdp, pi, measure, GAMMA).V.mean())
    assert min(gaps) > -1e-7
    return np.array(gaps)


TABLE = [  # §8.4: options, β, gaps by dataset size
    ({"p": 0.15}, 0.1, {1_000: 0.22, 10_000: 0.034, 100_000: 0.004}),
    ({"p": 0.15}, 1.0, {1_000: 0.44, 10_000: 0.135, 100_000: 0.042}),
    ({"layout": "zone", "p": 0.15}, 0.5, {1_000: 7.7, 10_000: 0.64, 100_000: 0.080}),
]


@pytest.mark.parametrize(("options", "beta", "gaps"), TABLE)
def test_the_gap_falls_with_the_data_as_measured(options, beta, gaps):
    for N in (1_000, 10_000):
        assert mean_gaps(options, beta, N, seeds=5).mean() <= 3.0 * gaps[N]


@pytest.mark.slow
@pytest.mark.parametrize(("options", "beta", "gaps"), TABLE)
def test_the_gap_of_many_data_is_small(options, beta, gaps):
    """At β = 0.1 two actions are so nearly equal that the gap is 0.021 or 0, as they are ordered.

    That takes more than the table's 5 seeds to average: hence 20, and two standard errors.
    """
    found = mean_gaps(options, beta, 100_000, seeds=20)
    assert found.mean() - 2.0 * found.std() / np.sqrt(20) <= 3.0 * gaps[100_000]


# ---------------------------------------------------------------- runs


class Stop(Exception):
    """The process is killed."""


class Killed(Log):
    """A log whose process dies in the loop."""

    def __init__(self, directory, at, **options):
        super().__init__(directory, **options)
        self.at = at

    def checkpoint(self, state):
        super().checkpoint(state)
        if state["agent"]["updates"] >= self.at:
            raise Stop


@pytest.mark.parametrize(
    ("module", "kind", "options"),
    [
        (rfzi, "states", {}),
        (rfzi, "states", SMALL | {"seeds": 2}),
        (rfzi, "states", SMALL | {"recipe": "published", "learning_rate": 0.1}),
        (rfqi, "boxes", SMALL | {"tau": 0.5}),
        (fqi, "actions", SMALL | {"support": 0.3}),
    ],
)
def test_a_killed_run_ends_as_if_it_had_not_been(tmp_path, module, kind, options):
    data = {
        "states": lambda: dataset(RingEnv(p=0.2).mdp, 1000, seed=0),
        "boxes": boxed,
        "actions": lambda: boxed(actions="box"),
    }[kind]()
    schedule = {"eval_every": 10, "checkpoint_every": 7}
    options = {"updates": 40} | options

    def run(name, log):
        result = learnt(module, data, log=log, seed=3, **options)
        log.close()
        return result, (tmp_path / name / "metrics.jsonl").read_text()

    whole, lines = run("whole", Log(tmp_path / "whole", **schedule))
    for at in (7, 21):
        with pytest.raises(Stop):
            run("broken", Killed(tmp_path / "broken", at, **schedule))
    again, same = run("broken", Log(tmp_path / "broken", **schedule))
    rest = [[line for line in text.splitlines() if "time/" not in line] for text in (lines, same)]
    assert rest[0] == rest[1]
    assert whole.summary == again.summary
    for name, array in whole.policy.items():
        np.testing.assert_array_equal(array, again.policy[name])
    if whole.network is not None:
        for one, two in zip(whole.network["network"], again.network["network"], strict=True):
            np.testing.assert_array_equal(one.numpy(), two.numpy())


def test_a_longer_budget_goes_on(tmp_path):
    data = boxed()
    for updates in (10, 20):
        half = learnt(fqi, data, log=Log(tmp_path), updates=updates, **SMALL)
    whole = learnt(fqi, data, updates=20, **SMALL)
    for one, two in zip(whole.network["network"], half.network["network"], strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    with pytest.raises(ValueError, match=r"updates must be >= 20, which the run has done, got 10"):
        learnt(fqi, data, log=Log(tmp_path), updates=10, **SMALL)


def test_summary_scores_the_policy_by_the_known_model():
    env = gymnasium.make("rlentropy/Ring-v0", p=0.15)
    mdp = env.unwrapped.mdp
    data = dataset(mdp, 3000, seed=0)
    for module, text in ((rfzi, "entropic:0.5"), (fqi, "nominal")):
        config = module.Config(data="ring.npz", risk=text)
        result = module.run(data, config, np.random.default_rng(0), Log(None), env)
        measure = risk.parse(text)
        best = planning.robust_optimum(mdp, measure, GAMMA).V.mean()
        value = planning.robust_evaluation(mdp, result.policy["pi"], measure, GAMMA).V.mean()
        summary = result.summary
        assert summary["value"] == pytest.approx(value, abs=1e-6)
        assert summary["optimum"] == pytest.approx(best, abs=1e-6)
        assert summary["gap"] == pytest.approx(best - value, abs=1e-6)
        assert summary["dataset_size"] == 3000
        assert summary["dataset"] == "ring.npz"
        assert summary["coverage"] == pytest.approx(1.0, abs=1e-6)


def test_rfqi_is_scored_with_its_fail_state():
    """The value is that of a ball around a kernel with one more state, worked out densely."""
    rng = np.random.default_rng(1)
    P, r = random_model(rng)
    r = np.abs(r)
    mdp = FiniteMDP(P, r, np.full(6, 1 / 6))
    env = TabularEnv(mdp)
    result = learnt(rfqi, dataset(mdp, 20_000, seed=0), env=env, risk="tv-ball:0.2", tolerance=1e-7)
    Q = np.zeros((6, 3))
    for _ in range(500):
        V = np.append(Q.max(1), 0.0)
        etas = V[:, None]
        loss = np.maximum(etas - V, 0.0)[:, :6]  # (η, s')
        duals = V - np.einsum("saj,ej->sae", P, loss) - 0.2 * V
        Q = r + GAMMA * duals.max(2)
    assert result.summary["optimum"] == pytest.approx(Q.max(1).mean(), abs=1e-6)
    assert 0.0 <= result.summary["gap"] < 0.05 * result.summary["optimum"]


def test_without_a_model_episodes_are_played():
    gymnasium.register("rlentropy-test/Bandit-v0", Bandit, max_episode_steps=5)
    env = gymnasium.make("rlentropy-test/Bandit-v0")
    rng = np.random.default_rng(0)
    N = 300
    x, a = rng.uniform(-1, 1, (2, N, 1)).astype(np.float32)
    ends = np.ones(N, bool)
    r = 1.0 - (a - x)[:, 0] ** 2
    data = Transitions.from_arrays(x, a, r, x, ends, ~ends)
    result = learnt(fqi, data, env=env, updates=5, seeds=3, **SMALL)
    assert len(result.summary["returns"]) == 3
    low, high = result.summary["return_ci95"]
    assert low <= result.summary["mean_return"] <= high
    assert result.summary["mean_return"] == pytest.approx(np.mean(result.summary["returns"]))


def test_diagnostics_are_logged(tmp_path):
    env = gymnasium.make("rlentropy/Ring-v0", p=0.15)
    data = dataset(env.unwrapped.mdp, 2000, seed=0)
    log = Log(tmp_path, eval_every=10)
    learnt(rfzi, data, log=log, env=env, updates=20, holdout=0.2, **SMALL)
    log.close()
    tags = {line.split('"')[3] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()}
    for name in ("robust_value", "gap", "overestimation", "coverage", "bellman_residual"):
        assert f"eval/{name}" in tags
    for name in ("u_min", "u_max", "saturation"):
        assert f"eval/{name}" in tags


# ---------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (rfzi, {"risk": "kl-ball:0.1"}, "risk must be entropic:BETA with BETA > 0, got 'kl-ball"),
        (rfzi, {"risk": "entropic:0"}, "risk must be entropic:BETA with BETA > 0"),
        (rfzi, {"erm_level": -1.0}, "erm_level must be > 0 and finite, got -1.0"),
        (rfzi, {"tail": 0.0}, "tail must be > 0, got 0.0"),
        (rfzi, {"anneal": -1}, "anneal must be >= 0, got -1"),
        (rfqi, {"risk": "nominal"}, "risk must be tv-ball:RADIUS"),
        (rfqi, {"risk": "tv-ball:1.5"}, "risk must be tv-ball:RADIUS"),
        (rfqi, {"dual_steps": 0}, "dual_steps must be >= 1, got 0"),
        (rfqi, {"dual_learning_rate": 0.0}, "dual_learning_rate must be > 0"),
        (rfqi, {"fail_value": float("nan")}, "fail_value must be finite, got nan"),
        (fqi, {"risk": "entropic:1"}, "risk must be nominal for fqi, got 'entropic:1'"),
        (fqi, {"gamma": 1.0}, r"gamma must be in \(0, 1\), got 1.0"),
        (fqi, {"updates": 0}, "updates must be >= 1, got 0"),
        (fqi, {"holdout": 1.0}, r"holdout must be in \[0, 1\), got 1.0"),
        (fqi, {"tau": 0.0}, r"tau must be in \(0, 1\], got 0.0"),
        (fqi, {"hidden": ()}, "hidden must be widths >= 1"),
        (fqi, {"support": 1.0}, r"support must be in \[0, 1\), got 1.0"),
        (fqi, {"action_grid": 1}, "action_grid must be >= 2, got 1"),
        (fqi, {"learning_rate": float("inf")}, "learning_rate must be > 0 and finite, got inf"),
        (fqi, {"updates": 2.5}, "updates must be a whole number >= 1, got 2.5"),
        (fqi, {"seeds": True}, "seeds must be a whole number >= 1, got True"),
        (fqi, {"seeds": 10**9}, "seeds must be <= 10000, got 1000000000"),
        (fqi, {"episodes": 10**12}, "episodes must be <= 1000000, got"),
        (fqi, {"gamma": "0.9"}, "gamma must be a number, got '0.9'"),
        (fqi, {"gamma": float("nan")}, r"gamma must be in \(0, 1\), got nan"),
        (fqi, {"hidden": (64, 0.5)}, "hidden must be widths >= 1, got 0.5"),
        (fqi, {"hidden": 64}, "hidden must be widths >= 1, got 64"),
        (fqi, {"risk": 3}, "risk must be NAME or NAME:PARAMETER, got 3"),
        (fqi, {"unvisited": "hopeful"}, "unvisited must be one of pessimistic, optimistic, zero"),
        (fqi, {"approximator": "deep"}, "approximator must be one of auto, tabular, neural"),
        (rfzi, {"recipe": "secret"}, "recipe must be one of linex, published, got 'secret'"),
        (rfzi, {"tail": "long"}, "tail must be a number, got 'long'"),
        (rfzi, {"anneal": 0.5}, "anneal must be a whole number >= 0, got 0.5"),
        (rfqi, {"dual_steps": None}, "dual_steps must be a whole number >= 1, got None"),
        (rfqi, {"fail_value": "low"}, "fail_value must be a number, got 'low'"),
    ],
)
def test_wrong_options_are_refused(module, options, message):
    with pytest.raises(ValueError, match=message):
        module.Config(**options)


def test_wrong_data_are_refused():
    with pytest.raises(ValueError, match="approximator must be neural unless all is Discrete"):
        learnt(fqi, boxed(), approximator="tabular")
    with pytest.raises(ValueError, match="seeds must be 1 for tables"):
        learnt(fqi, dataset(RingEnv().mdp, 1000, seed=0), seeds=2)
    env = gymnasium.make("rlentropy/RiverSwim-v0")
    with pytest.raises(ValueError, match="observations must be"):
        learnt(fqi, dataset(RingEnv().mdp, 1000, seed=0), env=env)
    unbounded = boxed(actions="box")
    space = Box(-np.inf, np.inf, (1,))
    with pytest.raises(ValueError, match="actions must be of a Discrete space or a bounded Box"):
        learnt(fqi, dataclasses.replace(unbounded, action_space=space), **SMALL)
    wide = Box(-1.0, 1.0, (5,))
    with pytest.raises(ValueError, match="action_grid must make at most 5000 points"):
        learnt(fqi, dataclasses.replace(unbounded, action_space=wide), **SMALL)


def test_many_actions_take_no_square_of_memory():
    Q = np.zeros((2, 3, 10**5))
    Q[1, 2, 7] = 1.0
    pi = problem.greedy(Q)
    assert pi[1, 2, 7] == 1.0
    assert pi[0, 0, 0] == 1.0
    assert pi.sum() == 6.0


def test_the_command_line_says_what_it_made_of_the_data(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(transitions, "available_memory", lambda: 2**35)
    s, ends = np.arange(100) % 5, np.arange(100) % 10 == 9
    names = ("observations", "actions", "rewards", "next_observations", "terminations")
    columns = (s, (s % 3)[:, None], np.ones(100, np.float16), np.roll(s, -1), ends & False)
    good = dict(zip(names, columns, strict=True)) | {"truncations": ends}
    huge = good | {k: good[k] * 10**9 for k in ("observations", "next_observations")}
    for name, arrays, code in (("good", good, 0), ("huge", huge, 2)):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        line = ["rfzi", "--data", str(tmp_path / f"{name}.npz"), "--out", str(tmp_path / name)]
        assert cli.main(line) == code
    out, err = capsys.readouterr()
    assert (
        "observations as Discrete(5) from int64 (N,); actions as Discrete(3) from int64 (N" in out
    )
    assert err.count("\n") == 1
    assert "got states up to 4000000000 and actions up to 2, which take 715 GiB of 32 GiB" in err
    assert not (tmp_path / "huge").exists()


def test_a_finished_run_is_loaded_and_compared(tmp_path, capsys) -> None:
    data, runs = str(tmp_path / "ring.npz"), []
    collect = ["collect", "--env-id", "rlentropy/Ring-v0", "--steps", "600", "--horizon", "20"]
    assert cli.main([*collect, "--data", data, "--quiet"]) == 0
    for seed in ("0", "1"):
        runs.append(str(tmp_path / seed))
        command = ["rfzi", "--data", data, "--env-id", "rlentropy/Ring-v0", "--seed", seed]
        assert cli.main([*command, "--gamma", "0.9", "--out", runs[-1], "--quiet"]) == 0
    run = load_run(runs[0])
    assert run.summary["env_steps"] == run.summary["episodes"] == 0
    assert run.policy.act(3) in range(3)
    assert run.metrics["eval/gap"][1][-1] >= -1e-8
    capsys.readouterr()
    assert cli.main(["compare", *runs, "--out", str(tmp_path / "compared")]) == 0
    assert "updates" in capsys.readouterr().out


def test_what_was_assumed_of_the_data_is_said_before_learning(tmp_path, capsys) -> None:
    rng, n = np.random.default_rng(0), 60
    states, actions = rng.integers(3, size=n), rng.integers(2, size=(n, 1)).astype(float)
    np.savez(
        tmp_path / "data.npz",
        observations=states,
        actions=actions,
        rewards=np.ones(n),
        next_observations=np.roll(states, -1),
        terminations=np.zeros(n, bool),
        truncations=np.arange(n) % 10 == 9,
    )
    data, out = str(tmp_path / "data.npz"), str(tmp_path / "run")
    assert cli.main(["fqi", "--data", data, "--out", out]) == 0
    said = capsys.readouterr().out
    assert "assumed of the data: observations as Discrete(3)" in said
    assert said.index("actions as Discrete(2) from float64 (N, 1)") < said.index("guessed_spaces")
