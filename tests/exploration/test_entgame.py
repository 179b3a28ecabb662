"""EntGame against a slow second implementation of exploration §2, and measured values (§9)."""

import itertools
import math

import gymnasium
import numpy as np
import pytest
from oracles import episodic
from scipy.stats import chi2

from rlentropy import FiniteMDP, entropy
from rlentropy.envs.tabular import TabularEnv
from rlentropy.exploration import entgame, random_policy
from rlentropy.exploration.entgame import Config, EntGame
from rlentropy.exploration.episodes import play_episode
from rlentropy.exploration.setting import Setting
from rlentropy.log import Log

BONUSES = ("none", "inverse-n", "code", "hoeffding-kl", "bernstein-kl")
OBJECTIVES = ("VE", "VE_S", "AVE", "AVE_S")


# ---------------------------------------------------------------- a slow second implementation


def slow_plan(visits, transitions, episodes, config):
    """Exploration §2.2 and §2.3, one (h, s, a) at a time; returns V, Q, L and the forecasts.

    visits (H, S, A) by stage; transitions (H or 1, S, A, S).
    """
    H, S, A = visits.shape
    pooled, states_only = config.objective.startswith("A"), config.objective.endswith("_S")
    n0, cells = config.prior, S if states_only else S * A
    total = episodes * H if pooled else episodes
    L = math.log(total / n0 + cells)
    V, Q, forecast = np.zeros((H + 1, S)), np.zeros((H, S, A)), np.zeros((H, S, A))
    for h in range(H - 1, -1, -1):
        left = H - h  # H - h + 1 with stages counted from 1
        for s in range(S):
            for a in range(A):
                seen = 0.0
                for k in range(H) if pooled else [h]:
                    seen += visits[k, s].sum() if states_only else visits[k, s, a]
                forecast[h, s, a] = (seen + n0) / (total + n0 * cells)
                after = transitions[h if len(transitions) > 1 else 0, s, a]
                N = after.sum()
                p = after / N if N > 0 else np.full(S, 1.0 / S)
                n, mean = max(N, 1), float(p @ V[h + 1])
                growth = (S - 1) * math.log(math.e * (1 + N / (S - 1))) if S > 1 else 0.0
                beta = math.log(2 * S * A * H / config.delta) + growth
                if config.bonus == "none":
                    bonus = 0.0
                elif config.bonus == "inverse-n":
                    bonus = left * L / n
                elif config.bonus == "code":
                    beta = math.log(4 * S * A * H / config.delta) + growth
                    bonus = L * left * math.sqrt(beta / n)
                elif config.bonus == "hoeffding-kl":
                    bonus = L * (left - 1) * math.sqrt(beta / (2 * n))
                else:
                    variance = float(p @ (V[h + 1] - mean) ** 2)
                    bonus = 2 * math.sqrt(variance * beta / n)
                    bonus += (2 * math.sqrt(2) + 2 / 3) * L * (left - 1) * beta / n
                Q[h, s, a] = -math.log(forecast[h, s, a]) + config.bonus_scale * bonus + mean
            V[h, s] = max(Q[h, s])
            if config.clip:
                V[h, s] = min(V[h, s], left * L)
    return V, Q, L, forecast


def slow_policy(Q):
    ties = np.isclose(Q, Q.max(-1, keepdims=True), rtol=1e-9, atol=1e-9)
    return ties / ties.sum(-1, keepdims=True)


def setting_of(H, S, A, mdp=None):
    return Setting(H, S, A, 0, 0, mdp, compiled=mdp is not None)


def feed(learner, rng, episodes, H, S, A, concentrated=False):
    """Tell the learner made-up episodes; returns the counts of them, kept by hand."""
    visits = np.zeros((H, S, A), np.int64)
    transitions = np.zeros((learner.model.stages, S, A, S), np.int64)
    for _ in range(episodes):
        learner.begin_episode()
        states = rng.integers(S, size=H + 1)
        if concentrated:
            states = np.minimum(states, rng.integers(S, size=H + 1) // 2)
        actions = rng.integers(A, size=H)
        learner.end_episode(states.astype(np.int64), actions.astype(np.int64), -1)
        for h in range(H):
            visits[h, states[h], actions[h]] += 1
            stage = h if learner.model.stages > 1 else 0
            transitions[stage, states[h], actions[h], states[h + 1]] += 1
    return visits, transitions


def planned(learner, H, S, A):
    V, Q = np.zeros((H + 1, S)), np.empty((H, S, A))
    learner.fill(V, Q)
    return V, Q


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("bonus", BONUSES)
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("stage_dependent", [False, True])
def test_same_counts_same_plan(objective, bonus, clip, stage_dependent):
    config = Config(
        objective=objective,
        bonus=bonus,
        clip=clip,
        stage_dependent=stage_dependent,
        bonus_scale=0.3,
        prior=0.5,
        delta=0.05,
    )
    rng = np.random.default_rng(OBJECTIVES.index(objective) * 10 + BONUSES.index(bonus))
    for (H, S, A), episodes in itertools.product([(4, 5, 3), (1, 3, 2)], [0, 1, 17]):
        learner = EntGame(setting_of(H, S, A), config, np.random.default_rng(0))
        visits, transitions = feed(learner, rng, episodes, H, S, A, concentrated=True)
        np.testing.assert_array_equal(learner.visits, visits)
        V, Q = planned(learner, H, S, A)
        want_V, want_Q, _, _ = slow_plan(visits, transitions, episodes, config)
        np.testing.assert_allclose(Q, want_Q, rtol=0, atol=1e-9)
        np.testing.assert_allclose(V, want_V, rtol=0, atol=1e-9)
        np.testing.assert_allclose(learner.last_iterate(), slow_policy(want_Q), atol=1e-12)


@pytest.mark.parametrize("clip", [False, True])
def test_clipping_binds_on_values_and_never_on_action_values(clip):
    config = Config(bonus="code", clip=clip)
    learner = EntGame(setting_of(4, 3, 2), config, np.random.default_rng(0))
    visits, transitions = feed(learner, np.random.default_rng(1), 8, 4, 3, 2)
    V, Q = planned(learner, 4, 3, 2)
    L = slow_plan(visits, transitions, 8, config)[2]
    cap = (4 - np.arange(4)) * L
    assert (Q.max((1, 2)) > cap).all()
    assert (V[:-1].max(1) <= cap + 1e-9).all() == clip


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("bonus", BONUSES)
def test_first_episode_is_uniform(objective, bonus):
    config = Config(objective=objective, bonus=bonus, clip=True)
    learner = EntGame(setting_of(7, 5, 3), config, np.random.default_rng(0))
    np.testing.assert_allclose(learner.last_iterate(), 1 / 3, atol=1e-15)
    learner.begin_episode()
    draws = np.bincount([learner.act(0, 2) for _ in range(3000)], minlength=3)
    # Pearson's statistic, 2 degrees of freedom
    assert ((draws - 1000.0) ** 2 / 1000.0).sum() < chi2.isf(1e-6, 2)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("prior", [1.0, 0.5, 0.01])
def test_forecasts_are_distributions_bounded_below(objective, prior):
    """Σ d̄ = 1 and log 1/d̄ <= L_t, whatever was seen."""
    config = Config(objective=objective, prior=prior)
    H, S, A = 3, 4, 2
    learner = EntGame(setting_of(H, S, A), config, np.random.default_rng(0))
    rng = np.random.default_rng(4)
    for _ in range(12):
        visits, transitions = np.zeros((H, S, A), np.int64), np.zeros((1, S, A, S), np.int64)
        feed(learner, rng, 1, H, S, A, concentrated=True)
        planned(learner, H, S, A)
        task = learner.task
        surprise = task.reward + task.offset[: task.reward.shape[0], None, None]
        np.testing.assert_allclose(np.exp(-surprise).sum((1, 2)), 1.0, atol=1e-12)
        L = slow_plan(visits, transitions, learner.episodes, config)[2]
        assert surprise.max() <= L + 1e-12
        assert surprise.min() >= 0.0


def test_policy_is_the_projection_of_the_counts():
    learner = EntGame(setting_of(3, 4, 2), Config(), np.random.default_rng(0))
    visits, _ = feed(learner, np.random.default_rng(5), 9, 3, 4, 2, concentrated=True)
    pi = learner.policy()
    for h, s in np.ndindex(3, 4):
        n = visits[h, s].sum()
        want = visits[h, s] / n if n else np.full(2, 0.5)
        np.testing.assert_allclose(pi[h, s], want, atol=1e-15)
    assert (visits.sum(-1) == 0).any()


# ---------------------------------------------------------------- a played game, recomputed


def tiny_mdp(seed=3, S=5, A=3):
    rng = np.random.default_rng(seed)
    P = np.zeros((S, A, S))
    for s, a in np.ndindex(S, A):
        P[s, a, rng.choice(S, 3, replace=False)] = rng.dirichlet(np.ones(3))
    return P, FiniteMDP(P, np.zeros((S, A)), rng.dirichlet(np.ones(S)))


def slow_visitation(P, mu, pi):
    d, m = np.zeros(pi.shape), mu.copy()
    for h in range(len(pi)):
        d[h] = m[:, None] * pi[h]
        m = np.einsum("sa,sat->t", d[h], P)
    return d


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("bonus", ["none", "bernstein-kl"])
def test_mixture_occupancy_is_the_mean_of_the_played_ones(compiled, bonus):
    """§9, 10: average of occupancies = occupancy of the projection; VE(mix) >= mean VE."""
    P, mdp = tiny_mdp()
    H, S, A, T = 4, 5, 3, 60
    setting = setting_of(H, S, A, mdp)
    config = Config(bonus=bonus, bonus_scale=0.01, objective="VE")
    learner = EntGame(setting, config, np.random.default_rng(1))
    env, env_rng = TabularEnv(mdp), np.random.default_rng(2)
    total, values = np.zeros((H, S, A)), []
    for t in range(T):
        pi = slow_policy(planned(learner, H, S, A)[1])
        d = slow_visitation(P, np.array(mdp.mu), pi)
        np.testing.assert_allclose(entropy.visitation(mdp, pi, H), d, atol=1e-14)
        total += d
        values.append(entropy.visitation_entropy(d, "VE"))
        if compiled:
            learner.play(1, env_rng)
        else:
            play_episode(env, setting, learner, env_rng)
        assert learner.episodes == t + 1
    mixture = learner.mixture_occupancy()
    assert mixture is not None
    np.testing.assert_allclose(mixture, total / T, rtol=0, atol=1e-12)
    projection = entropy.markov_policy(mixture)
    np.testing.assert_allclose(entropy.visitation(mdp, projection, H), mixture, atol=1e-12)
    assert entropy.visitation_entropy(mixture, "VE") >= np.mean(values) - 1e-12


@pytest.mark.parametrize("chunks", [[50], [1, 49], [10, 1, 39]])
def test_chunks_change_nothing(chunks):
    _, mdp = tiny_mdp()
    config = Config(mixture_size=5)
    whole, parts = (
        EntGame(setting_of(4, 5, 3, mdp), config, np.random.default_rng(1)) for _ in "ab"
    )
    one, other = np.random.default_rng(2), np.random.default_rng(2)
    whole.play(50, one)
    for n in chunks:
        parts.play(n, other)
    for name in ("visits", "D", "mixture", "Q"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    assert one.random() == other.random()


@pytest.mark.parametrize(("objective", "prior"), [("VE", 1.0), ("VE_S", 1.0), ("AVE", 1.0)])
def test_forecaster_regret_over_its_own_game(objective, prior):
    """§9, 11: log loss - that of the best constant <= (m - 1) log(e (1 + T / (m - 1)))."""
    env = gymnasium.make("rlentropy/DoubleChain-v0", num_states=9).unwrapped
    setting, T, H = Setting.of(env, 6, "gymnasium"), 300, 6
    learner = EntGame(setting, Config(objective=objective, prior=prior), np.random.default_rng(0))
    rng = np.random.default_rng(1)
    task = learner.task
    stages, m = task.reward.shape[0], task.reward.shape[1] * task.reward.shape[2]
    loss, hits = np.zeros(stages), np.zeros(task.reward.shape)
    for _ in range(T):
        before = learner.visits.copy()
        planned(learner, H, 9, 2)
        surprise = task.reward + task.offset[:stages, None, None]
        play_episode(env, setting, learner, rng)
        new = (learner.visits - before).astype(float)
        new = new.sum(2, keepdims=True) if objective == "VE_S" else new
        if stages == 1:  # the pooled forecaster predicts a whole episode from what came before it
            new = new.sum(0, keepdims=True)
        loss += (new * surprise).sum((1, 2))
        hits += new
    p = hits / hits.sum((1, 2), keepdims=True)
    best = -(hits * np.log(np.where(p > 0, p, 1.0))).sum((1, 2))
    n = hits.sum((1, 2))
    bound = (m - 1) * np.log(math.e * (1 + n / (m - 1)))
    # Pooling adds at most log(1 + H) a predicted symbol to begin with; the bound is for stages.
    slack = 0.0 if stages > 1 else (m * H) * math.log(1 + H)
    assert (loss - best <= bound + slack + 1e-9).all()
    assert (loss >= best - 1e-9).all() or stages == 1


def test_the_mixture_is_a_uniform_sample_of_the_played_policies():
    """Counts of which policies, and which pairs, are in the reservoir, over many seeds."""
    H, S, A, T, K, runs = 3, 6, 3, 10, 3, 1500
    data = np.random.default_rng(6)
    episodes = [(data.integers(S, size=H + 1), data.integers(A, size=H)) for _ in range(T)]
    single, pair = np.zeros(T), np.zeros((T, T))
    played = []
    for seed in range(runs):
        learner = EntGame(setting_of(H, S, A), Config(mixture_size=K), np.random.default_rng(seed))
        for states, actions in episodes:
            learner.begin_episode()
            if seed == 0:
                played.append(slow_policy(learner.Q))
            learner.end_episode(states, actions, -1)
        far = np.abs(learner.mixture[:, None] - np.array(played)).max((2, 3, 4))  # (K, T)
        near = far < 1e-3  # they are kept in multiples of 1/4096
        assert (near.sum(1) == 1).all(), "the test needs policies that differ"
        kept = near.argmax(1).tolist()
        assert len(set(kept)) == K
        single[kept] += 1
        for i, j in itertools.combinations(sorted(kept), 2):
            pair[i, j] += 1
    p = K / T
    assert (np.abs(single / runs - p) < 5 * math.sqrt(p * (1 - p) / runs)).all(), single
    p = K * (K - 1) / (T * (T - 1))
    off = pair[np.triu_indices(T, 1)]
    assert (np.abs(off / runs - p) < 5 * math.sqrt(p * (1 - p) / runs)).all(), off


def test_saved_and_loaded_goes_on_with_the_same_bits():
    _, mdp = tiny_mdp()
    for config in (
        Config(mixture_size=4, bonus="bernstein-kl", bonus_scale=0.01, clip=True),
        Config(mixture_size=4, objective="AVE_S", stage_dependent=True, bonus="code"),
        Config(mixture_size=0, objective="VE_S", prior=0.3),
    ):
        first, second = (
            EntGame(setting_of(4, 5, 3, mdp), config, np.random.default_rng(k)) for k in (1, 9)
        )
        rng = np.random.default_rng(2)
        first.play(37, rng)
        second.load_state_dict(first.state_dict())
        again = np.random.default_rng(0)
        again.bit_generator.state = rng.bit_generator.state
        first.play(41, rng)
        second.play(41, again)
        for name in ("visits", "D", "mixture", "Q", "V"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


# ---------------------------------------------------------------- one process, two samplers

WORLDS = {
    "double-chain": ("rlentropy/DoubleChain-v0", {"num_states": 9}, 12),
    "grid-world": ("rlentropy/GridWorld-v0", {"size": 4, "success_probability": 0.6}, 12),
    "noisy-chain": ("rlentropy/NoisyChain-v0", {}, 10),
    "garnet": ("rlentropy/Garnet-v0", {"num_states": 12, "num_actions": 3, "branching": 4}, 12),
    "frozen-lake": ("FrozenLake-v1", {}, 20),
}


def sampled_transitions(env_id, kwargs, H, compiled, episodes, seed):
    """Transition counts (S, A, S) of a game, from the learner's own model; and its first states."""
    env = gymnasium.make(env_id, max_episode_steps=-1, **kwargs)
    setting = Setting.of(env, H, "compiled" if compiled else "gymnasium")
    learner = EntGame(setting, Config(mixture_size=0), np.random.default_rng(seed))
    rng = np.random.default_rng(seed + 1)
    if compiled:
        learner.play(episodes, rng)
    else:
        for _ in range(episodes):
            play_episode(env, setting, learner, rng)
    S, A = setting.num_states, setting.num_actions
    rows, N = learner.model.rows, learner.model.N.ravel()
    counts = np.zeros((S * A, S))
    for i in range(S * A):
        places = slice(rows.begin[i], rows.end[i])
        counts[i, rows.successor[places]] = np.rint(rows.p[places] * N[i])
    live = ~np.repeat(setting.mdp.terminal, A)
    return counts * live[:, None], setting.mdp


@pytest.mark.parametrize("world", list(WORLDS))
def test_simulator_and_step_draw_from_the_same_process(world):
    """Pearson's chi-square of each against the model, and of the two against each other."""
    env_id, kwargs, H = WORLDS[world]
    counts = []
    for compiled, episodes in ((True, 2500), (False, 700)):
        n, mdp = sampled_transitions(env_id, kwargs, H, compiled, episodes, seed=40)
        P = mdp.P.toarray()
        assert (n[P == 0.0] == 0).all(), "a transition that the model rules out"
        expected = n.sum(1, keepdims=True) * P
        enough = (expected >= 5.0) | (P == 0.0)
        rows = enough.all(1) & (n.sum(1) > 0)
        assert rows.any()
        cells = rows[:, None] & (P > 0.0)
        statistic = ((n - expected)[cells] ** 2 / expected[cells]).sum()
        freedom = cells.sum() - rows.sum()
        assert freedom > 10
        assert statistic < chi2.isf(1e-6, freedom), (compiled, statistic, freedom)
        counts.append(n)
    totals = [n.sum(1, keepdims=True) for n in counts]
    pooled = sum(counts) / np.maximum(sum(totals), 1)
    expected = [t * pooled for t in totals]
    rows = np.all([((e >= 5.0) | (pooled == 0.0)).all(1) & (t[:, 0] > 0)
                   for e, t in zip(expected, totals, strict=True)], axis=0)  # fmt: skip
    cells = rows[:, None] & (pooled > 0.0)
    statistic = sum(
        ((n - e)[cells] ** 2 / e[cells]).sum() for n, e in zip(counts, expected, strict=True)
    )
    freedom = cells.sum() - rows.sum()
    assert statistic < chi2.isf(1e-6, freedom), (statistic, freedom)


@pytest.mark.parametrize("compiled", [False, True])
def test_random_policy_draws_from_the_same_process(compiled):
    """Occupancies of the uniform policy, stage by stage, on a random start."""
    P, mdp = tiny_mdp(seed=8)
    env, H, T = TabularEnv(mdp), 5, 4000 if compiled else 800
    config = random_policy.Config(
        horizon=H, episodes=T, simulator="auto" if compiled else "gymnasium"
    )
    found = random_policy.run(env, config, np.random.default_rng(3), Log(None))
    d = slow_visitation(P, np.array(mdp.mu), np.full((H, 5, 3), 1 / 3))
    deviation = (found.visits - T * d) / np.sqrt(T * d * (1 - d) + 1e-300)
    assert np.abs(deviation[d > 0]).max() < 5.5  # standard errors; 75 cells
    assert (found.visits[d == 0] == 0).all()
    np.testing.assert_array_equal(found.visits.sum((1, 2)), T)
    assert found.summary["mixture_value"] == found.summary["value"]  # it plays one policy


@pytest.mark.parametrize("world", ["noisy-chain", "frozen-lake"])
def test_both_paths_end_with_equal_mixtures(world):
    env_id, kwargs, H = WORLDS[world]
    values = {}
    for simulator in ("compiled", "gymnasium"):
        config = Config(horizon=H, episodes=40, simulator=simulator, mixture_size=0)
        values[simulator] = []
        for seed in range(16):
            env = gymnasium.make(env_id, max_episode_steps=-1, **kwargs)
            setting = Setting.of(env, H, simulator)
            learner = EntGame(setting, config, np.random.default_rng(seed))
            rng = np.random.default_rng(1000 + seed)
            if simulator == "compiled":
                learner.play(40, rng)
            else:
                for _ in range(40):
                    play_episode(env, setting, learner, rng)
            values[simulator].append(entropy.visitation_entropy(learner.mixture_occupancy(), "VE"))
    one, two = (np.array(v) for v in values.values())
    error = math.sqrt(one.var(ddof=1) / one.size + two.var(ddof=1) / two.size)
    assert abs(one.mean() - two.mean()) < 4.5 * error
    assert one.std() > 0.0


# ---------------------------------------------------------------- the measured numbers


def chain_learner(seed, **options):
    env = gymnasium.make("rlentropy/DoubleChain-v0")
    setting = Setting.of(env, 20, "compiled")
    config = Config(mixture_size=0, **options)
    learner = EntGame(setting, config, np.random.default_rng([seed, 0]))
    learner.play(5000, np.random.default_rng([seed, 1]))
    return learner


def average_entropy(visits):
    return episodic.shannon(visits.sum(0) / visits.sum())


def test_published_comparison_on_the_chain():
    """Exploration §9, 19: entropy of the visits in 5000 episodes, 10 seeds."""
    plain = [average_entropy(chain_learner(k, objective="AVE").visits) for k in range(10)]
    assert min(plain) >= 3.99
    assert max(plain) < 3.99353136 + 0.005
    clipped = [
        average_entropy(chain_learner(k, objective="AVE", bonus="code", clip=True).visits)
        for k in range(10)
    ]
    assert max(clipped) < 3.3
    assert np.mean(clipped) == pytest.approx(2.996, abs=4 * 0.007)
    env = gymnasium.make("rlentropy/DoubleChain-v0")
    setting, random = Setting.of(env, 20, "compiled"), []
    for seed in range(10):
        learner = random_policy.RandomPolicy(
            setting, random_policy.Config(), np.random.default_rng([seed, 0])
        )
        learner.play(5000, np.random.default_rng([seed, 1]))
        random.append(average_entropy(learner.visits))
    assert np.mean(random) == pytest.approx(3.218, abs=0.02)


def test_visits_a_state_on_the_chain():
    """§6.4: mean visits per 100 000 steps of EntGame without bonus, at states 0, 5, 10, 15."""
    visits = [chain_learner(20 + k, objective="AVE").visits.sum((0, 2)) for k in range(6)]
    mean, error = np.mean(visits, 0), np.std(visits, 0, ddof=1) / math.sqrt(6)
    for s, published in ((0, 1637), (5, 2400), (10, 4136), (15, 6708)):
        assert abs(mean[s] - published) < 6 * error[s] + 0.02 * published, (s, mean[s], error[s])


def test_double_chain_gap_after_5000_episodes():
    gaps = []
    for seed in range(5):
        learner = chain_learner(seed)
        gaps.append(53.7249578547 - entropy.visitation_entropy(learner.mixture_occupancy(), "VE"))
    assert min(gaps) > 0.0
    assert np.mean(gaps) <= 0.05, gaps


def test_grid_world_visits_at_most_the_reachable_states():
    """§9, 22: the four corners are 20 moves away and can't be among 20 visited states."""
    env = gymnasium.make("rlentropy/GridWorld-v0")
    setting = Setting.of(env, 20, "compiled")
    learner = EntGame(setting, Config(objective="AVE", mixture_size=0), np.random.default_rng(0))
    learner.play(1500, np.random.default_rng(1))
    seen = learner.visits.sum((0, 2)) > 0
    assert not seen[[0, 20, 420, 440]].any()
    assert 425 <= seen.sum() <= 437


# ---------------------------------------------------------------- the edges


def edge_mdp(S, A, terminal=None):
    P = np.zeros((S, A, S))
    P[np.arange(S), :, (np.arange(S) + 1) % S] = 1.0
    flags = np.zeros(S, bool)
    if terminal is not None:
        flags[terminal] = True
        P[terminal] = np.eye(S)[terminal]
    return FiniteMDP(P, np.zeros((S, A)), np.eye(S)[0], terminal=flags)


@pytest.mark.parametrize("bonus", BONUSES)
@pytest.mark.parametrize("simulator", ["compiled", "gymnasium"])
@pytest.mark.parametrize(
    ("H", "S", "A", "terminal"),
    [
        (3, 1, 2, None),
        (3, 4, 1, None),
        (1, 3, 2, None),
        (1, 1, 1, None),
        (4, 3, 2, 0),
        (4, 5, 2, 1),
    ],
)
def test_edges(bonus, simulator, H, S, A, terminal):
    """Exploration §9, 25: one state, one action, one stage, a terminal start; nothing is NaN."""
    for objective, stage_dependent in itertools.product(OBJECTIVES, [False, True]):
        config = Config(
            horizon=H,
            episodes=8,
            objective=objective,
            bonus=bonus,
            clip=True,
            stage_dependent=stage_dependent,
            simulator=simulator,
            mixture_size=3,
        )
        env = TabularEnv(edge_mdp(S, A, terminal))
        found = entgame.run(env, config, np.random.default_rng(0), Log(None))
        np.testing.assert_array_equal(found.visits.sum((1, 2)), 8)
        for pi in (found.policy["pi"], found.last_iterate):
            np.testing.assert_allclose(pi.sum(-1), 1.0, atol=1e-12)
        assert found.mixture.shape == (3, H, S, A)
        np.testing.assert_allclose(found.mixture.sum(-1), 1.0, atol=1e-6)
        for name in ("value", "mixture_value", "last_iterate_value", "optimum", "certificate"):
            assert math.isfinite(found.summary[name]), name
        assert found.summary["value"] <= found.summary["optimum"] + 1e-6


@pytest.mark.parametrize("simulator", ["compiled", "gymnasium"])
def test_environment_steps_are_the_real_ones(simulator):
    """Each real step leaves a live state, so they can be counted from the visits."""
    env = gymnasium.make("FrozenLake-v1", max_episode_steps=-1)
    for module in (entgame, random_policy):
        config = module.Config(horizon=30, episodes=50, simulator=simulator)
        found = module.run(env, config, np.random.default_rng(0), Log(None))
        terminal = FiniteMDP.from_env(env).terminal
        assert found.summary["env_steps"] == found.visits[:, ~terminal].sum()
        assert found.visits[:, terminal].sum() > 0
        np.testing.assert_array_equal(found.visits.sum((1, 2)), 50)


def test_counts_grow_without_limit_or_loss():
    """Many successors a row: rows move through the pool of counts many times."""
    rng = np.random.default_rng(0)
    S = 40
    P = rng.dirichlet(np.ones(S), size=(S, 2))
    learner = EntGame(
        setting_of(6, S, 2, FiniteMDP(P, np.zeros((S, 2)), np.full(S, 1 / S))),
        Config(stage_dependent=True, mixture_size=0),
        np.random.default_rng(0),
    )
    learner.play(3000, np.random.default_rng(1))
    np.testing.assert_array_equal(learner.model.N, learner.visits)
    rows = learner.model.rows
    for i, (b, e) in enumerate(zip(rows.begin, rows.end, strict=True)):
        counts = rows.p[b:e] * learner.model.N.ravel()[i]
        np.testing.assert_allclose(counts, np.rint(counts), atol=1e-9)
        assert np.rint(counts).sum() == learner.model.N.ravel()[i]
    for b, e in zip(rows.begin, rows.end, strict=True):
        assert (np.diff(rows.successor[b:e].astype(int)) > 0).all()
