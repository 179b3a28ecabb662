"""RF-Explore-Ent (exploration §4.1): its phases, and the samplers that replace the first two."""

import json

import gymnasium
import numpy as np
import pytest
from oracles import episodic, models
from scipy.stats import chi2

from rlentropy import FiniteMDP
from rlentropy.cli import main
from rlentropy.entropy import trajectory_entropy
from rlentropy.envs.tabular import TabularEnv
from rlentropy.errors import InputError
from rlentropy.exploration import rf_explore_ent
from rlentropy.exploration.setting import Setting
from rlentropy.log import Log
from rlentropy.planning import max_trajectory_entropy

SAMPLERS = ("targets", "rf-express", "rf-ucrl", "entgame", "random")


def make(m, H, seed=0, simulator="compiled", **options):
    config = rf_explore_ent.Config(horizon=H, simulator=simulator, **options)
    setting = Setting.of(TabularEnv(FiniteMDP(*m.args)), H, simulator)
    return rf_explore_ent.make_learner(setting, config, np.random.default_rng(seed))


def dense(model):
    """p̂ (K, S, A, S) and N of a model, from the rows it stores."""
    c, S, A = model.counts, model.num_states, model.num_actions
    p = np.repeat(c.uniform[:, None] / S, S, axis=1)
    for i in range(len(c.N)):
        places = slice(int(c.begin[i]), int(c.end[i]))
        p[i, c.successor[places]] += c.p[places]
    return p.reshape(-1, S, A, S), c.N.reshape(-1, S, A)


def play_by_hand(learner, m, episodes, rng):
    """Drive a learner as gymnasium would; yields what is known of each episode."""
    S = len(m.mu)
    H = learner.setting.horizon
    for _ in range(episodes):
        assert learner.begin_episode()
        sampler = learner.sampler
        searching, done = sampler.searching, sampler.search.episodes
        reward = sampler.search.task.reward.copy()
        states, actions = np.zeros(H + 1, np.int64), np.zeros(H, np.int64)
        states[0] = rng.choice(S, p=m.mu)
        for h in range(H):
            actions[h] = learner.act(h, int(states[h]))
            states[h + 1] = rng.choice(S, p=m.P[states[h], actions[h]])
        learner.end_episode(states, actions, -1)
        yield searching, done, reward, states, actions


# ---------------------------------------------------------------- phases 1 and 2


@pytest.mark.parametrize("staged", [False, True])
def test_every_target_is_searched_and_phase_two_alone_makes_the_model(staged):
    rng = np.random.default_rng(7)
    S, A, H, repeats, episodes = 3, 2, 3, 2, 60
    m = models.random_mdp(rng, S, A)
    options = {"target_episodes": repeats, "episodes": episodes, "stage_dependent": staged}
    learner = make(m, H, simulator="gymnasium", **options)
    targets, replays = [], np.zeros(S * H * repeats, int)
    n, visits = np.zeros((H if staged else 1, S, A, S)), np.zeros((H, S, A))
    for searching, done, reward, states, actions in play_by_hand(learner, m, episodes, rng):
        if searching:
            assert reward.sum() == reward.max() == 1.0
            targets.append(tuple(np.argwhere(reward[..., 0])[0]))
        else:
            replays[done - 1] += 1
        for h in range(H):
            visits[h, states[h], actions[h]] += 1
            if not searching:
                n[h if staged else 0, states[h], actions[h], states[h + 1]] += 1
    # N_0 searches for each (h*, s*), and N = episodes - S H N_0 replays, as drawn in advance.
    assert sorted(targets) == [t for t in np.ndindex(H, S) for _ in range(repeats)]
    np.testing.assert_array_equal(replays, learner.sampler.replays)
    assert replays.sum() == episodes - S * H * repeats
    p, N = dense(learner.sampler.model)
    np.testing.assert_array_equal(N, n.sum(-1))
    assert N.sum() == H * (episodes - S * H * repeats)
    want = np.where(
        n.sum(-1, keepdims=True) > 0, n / np.maximum(n.sum(-1, keepdims=True), 1), 1 / S
    )
    np.testing.assert_allclose(p, want, atol=1e-12)
    np.testing.assert_array_equal(learner.visits, visits)
    assert learner.episodes == episodes


@pytest.mark.parametrize("simulator", ["compiled", "gymnasium"])
def test_counts_add_up_for_every_sampler(simulator):
    for sampler in SAMPLERS:
        for staged in (False, True):
            m = models.random_mdp(np.random.default_rng(3), 4, 2)
            learner = make(
                m, 3, sampler=sampler, episodes=50, stage_dependent=staged, simulator=simulator
            )
            learner.play(50, np.random.default_rng(0))
            assert learner.episodes == 50
            assert learner.visits.sum() == 50 * 3
            _, N = dense(learner.sampler.model)
            model_episodes = 50 - 4 * 3 if sampler == "targets" else 50
            assert N.sum() == 3 * model_episodes
            if sampler != "targets":
                np.testing.assert_array_equal(N.sum(0), learner.visits.sum(0))


def test_replays_are_multinomial():
    """Over many seeds: mean N / M, and the variance and covariance of a multinomial."""
    m = models.random_mdp(np.random.default_rng(0), 2, 2)
    M, N, runs = 2 * 3 * 2, 48, 600
    options = {"episodes": M + N, "target_episodes": 2}
    drawn = np.array([make(m, 3, seed, **options).sampler.replays for seed in range(runs)])
    assert (drawn.sum(1) == N).all()
    p = 1 / M
    assert (np.abs(drawn.mean(0) - N * p) < 4.5 * np.sqrt(N * p * (1 - p) / runs)).all()
    statistic = ((drawn - N * p) ** 2 / (N * p)).sum()  # chi-square, runs (M - 1) degrees
    assert chi2.ppf(1e-4, runs * (M - 1)) < statistic < chi2.ppf(1 - 1e-4, runs * (M - 1))


@pytest.mark.parametrize("simulator", ["compiled", "gymnasium"])
def test_phase_one_visits_each_target(simulator):
    """A deterministic ring with a choice: each (s*, h*) within reach is visited in most of the
    later searches for it, which random actions would reach with probability 2^-h at the ends."""
    S, H, repeats = 4, 4, 60
    P = np.zeros((S, 2, S))
    for s in range(S):
        P[s, 0, s] = 1.0
        P[s, 1, min(s + 1, S - 1)] = 1.0
    m = models.Dense(P, np.eye(S)[0])
    options = {"target_episodes": repeats, "episodes": S * H * repeats + 1, "bonus_scale": 0.3}
    learner = make(m, H, simulator=simulator, **options)
    searches, hits = np.zeros((H, S)), np.zeros((H, S))
    rng = np.random.default_rng(0)
    for searching, done, reward, states, _ in play_by_hand(learner, m, S * H * repeats + 1, rng):
        h, s = np.argwhere(reward[..., 0])[0]
        if searching and done % repeats >= repeats // 2:
            searches[h, s] += 1
            hits[h, s] += states[h] == s
    assert (searches == repeats // 2).all()
    within = np.array([[s <= h for s in range(S)] for h in range(H)])
    assert (hits[~within] == 0).all()
    assert (hits[within] >= 0.8 * repeats / 2).all(), hits


def test_replayed_policies_are_uniform_at_their_target():
    """At (s*, h*) phase 2 draws actions uniformly; elsewhere as the search just before did."""
    rng = np.random.default_rng(5)
    m = models.random_mdp(rng, 3, 4)
    H = 3
    learner = make(m, H, simulator="gymnasium", episodes=200)
    Q = None
    for searching, done, *_ in play_by_hand(learner, m, 200, rng):
        sampler = learner.sampler
        if searching:
            Q = sampler.search.Q.copy()
            continue
        top = Q.max(-1, keepdims=True)
        greedy = top - Q <= 1e-9 * (1 + np.abs(top))
        want = greedy / greedy.sum(-1, keepdims=True)
        h, s = divmod(done - 1, 3)
        want[h, s] = 0.25
        np.testing.assert_allclose(sampler.pi, want, atol=1e-12)


def test_phase_one_never_sees_phase_two():
    """The searches of two runs that differ only in their replays are the same."""
    rng = np.random.default_rng(11)
    m = models.random_mdp(rng, 3, 2, successors=1, start=0)  # the same actions, the same path
    found = []
    for extra in (1, 40):
        learner = make(m, 3, 4, simulator="gymnasium", episodes=9 + extra)
        for _ in play_by_hand(learner, m, 9 + extra, np.random.default_rng(0)):
            pass
        found.append(learner.sampler.search)
    for name in ("length", "successor", "hits"):
        one, other = (search.model.state_dict()[name] for search in found)
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(found[0].visits, found[1].visits)


# ---------------------------------------------------------------- phase 3


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("objective", ["TE", "TE+"])
def test_phase_three_is_the_exact_plan_on_the_estimated_model(sampler, objective):
    rng = np.random.default_rng(2)
    m = models.random_mdp(rng, 4, 2, successors=4)
    learner = make(m, 4, sampler=sampler, objective=objective, episodes=400, target_episodes=3)
    learner.play(400, rng)
    p, N = dense(learner.sampler.model)
    assert N.min() > 0, "the model must be fully visited for this test"
    want = max_trajectory_entropy(
        FiniteMDP(p[0], np.zeros((4, 2)), m.mu), 4, final_transition=objective == "TE+"
    )
    np.testing.assert_allclose(learner.policy(), want.pi, atol=1e-10)
    estimated = models.Dense(p[0], m.mu)
    reward = episodic.trajectory_reward(estimated, 4, objective == "TE+")
    np.testing.assert_allclose(
        learner.policy(), episodic.softmax(episodic.plan(estimated, reward, 1.0)[0]), atol=1e-10
    )


def test_phase_three_with_a_kernel_a_stage_and_unvisited_pairs():
    """Dense backward induction on p̂_h; a pair never seen counts as uniform."""
    rng = np.random.default_rng(6)
    S, A, H = 5, 3, 4
    m = models.random_mdp(rng, S, A, start=0)
    learner = make(m, H, sampler="random", episodes=15, stage_dependent=True)
    learner.play(15, rng)
    p, N = dense(learner.sampler.model)
    assert (N == 0).any()
    V = np.zeros(S)
    for h in reversed(range(H)):
        Q = p[h] @ V
        if h < H - 1:
            Q = Q + np.array([[episodic.shannon(row) for row in rows] for rows in p[h]])
        V = np.log(np.exp(Q).sum(1))
        np.testing.assert_allclose(learner.policy()[h], episodic.softmax(Q), atol=1e-10)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_gap_on_noisy_chain_vanishes(sampler):
    """10 000 episodes, half of them of phase 1 for the paper's sampler."""
    env = gymnasium.make("rlentropy/NoisyChain-v0")
    config = rf_explore_ent.Config(sampler=sampler, episodes=10_000, target_episodes=50)
    found = rf_explore_ent.run(env, config, np.random.default_rng(0), Log(None))
    gap = found.summary["optimum"] - found.summary["value"]
    assert -1e-9 <= gap < 0.1 * (11.115425 - 11.019060), gap
    mdp = env.unwrapped.mdp
    value = trajectory_entropy(mdp, found.policy["pi"], 10)
    assert found.summary["value"] == pytest.approx(value, abs=1e-12)
    assert found.summary["episodes"] == 10_000
    assert found.summary["env_steps"] == 100_000


def test_searches_are_not_distracted_by_what_comes_after_their_target():
    """The reward 1{s_h* = s*} is known, and nothing follows stage h*, so nothing is uncertain from
    there on. Bonuses there cap every value at 1, and the policies kept are then worse than random:
    gaps of 0.05 to 0.2 after 5000 episodes, where random actions leave 0.003."""
    for seed in range(3):
        env = gymnasium.make("rlentropy/NoisyChain-v0")
        config = rf_explore_ent.Config(episodes=5000, target_episodes=5)
        found = rf_explore_ent.run(env, config, np.random.default_rng(seed), Log(None)).summary
        assert found["optimum"] - found["value"] < 0.1 * (11.115425 - 11.019060)


# ---------------------------------------------------------------- budgets


def test_budget_must_exceed_phase_one():
    m = models.random_mdp(np.random.default_rng(0), 3, 2)
    with pytest.raises(InputError, match=r"episodes must be > .* 18, got 18"):
        make(m, 3, episodes=18, target_episodes=2)
    assert make(m, 3, episodes=19, target_episodes=2).sampler.replays.sum() == 1
    with pytest.raises(InputError, match="target_episodes must be >= 1, got 0"):
        rf_explore_ent.Config(target_episodes=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sampler": "tragets"}, "sampler must be one of"),
        ({"bonus_scale": -1.0}, "bonus_scale must be >= 0"),
        ({"bonus_scale": np.nan}, "bonus_scale must be >= 0"),
        ({"delta": 0.0}, "delta must be in"),
        ({"delta": 1.0}, "delta must be in"),
    ],
)
def test_refusals(options, said):
    m = models.random_mdp(np.random.default_rng(0), 3, 2)
    with pytest.raises(InputError, match=said):
        make(m, 3, **options)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_finished_run_can_be_given_a_larger_budget(tmp_path, capsys, sampler):
    """`episodes` is free to change on resume: the run plays that many, or says that it can't."""
    out = tmp_path / "run"
    run = (
        *("rf-explore-ent", "--env-id", "rlentropy/NoisyChain-v0", "--env-kwargs"),
        *('{"num_states": 4}', "--horizon", "3", "--sampler", sampler, "--out", str(out)),
    )
    assert main([*run, "--episodes", "40", "--quiet"]) == 0
    code = main([*run, "--episodes", "80", "--resume"])
    if code == 2:
        assert "error: episodes must" in capsys.readouterr().err
        return
    assert code == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["episodes"] == 80
    assert sum(summary["state_visits"]) == 80 * 3
