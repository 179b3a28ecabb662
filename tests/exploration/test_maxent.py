"""MaxEnt (exploration §5.1): gradient, line search and mixture, by definitions and statistics."""

import gymnasium
import numpy as np
import pytest
from oracles import episodic, models

from rlentropy import FiniteMDP
from rlentropy.envs.tabular import TabularEnv
from rlentropy.errors import InputError
from rlentropy.exploration import maxent
from rlentropy.exploration.setting import Setting
from rlentropy.log import Log

OBJECTIVES = ("VE", "VE_S", "AVE", "AVE_S")


def make(m, H, seed=0, simulator="compiled", **options):
    config = maxent.Config(horizon=H, simulator=simulator, **options)
    setting = Setting.of(TabularEnv(FiniteMDP(*m.args)), H, simulator)
    return maxent.MaxEnt(setting, config, np.random.default_rng(seed))


@pytest.mark.parametrize("smoothing", [1e-4, 0.1, 2.0])
def test_gradient_by_finite_differences(rng, smoothing):
    def smoothed(d):
        return -(d * np.log(d + smoothing)).sum()

    d = rng.dirichlet(np.ones(6)).reshape(2, 3) + 1e-3
    got = maxent.smoothed_gradient(d, smoothing)
    for i in np.ndindex(d.shape):
        step = np.zeros_like(d)
        step[i] = 1e-6
        slope = (smoothed(d + step) - smoothed(d - step)) / 2e-6
        assert got[i] == pytest.approx(slope, abs=1e-6)
    # At zero it is finite, and largest.
    zero = maxent.smoothed_gradient(np.zeros(1), smoothing)[0]
    assert zero == pytest.approx(-np.log(smoothing))
    assert zero >= got.max()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_reward_is_the_gradient_of_the_objective(rng, objective):
    """Moving mass towards an occupancy changes the objective by <reward, d' - d> (scaled for AVE).

    With σ → 0 the smoothed entropy is the entropy.
    """
    m = models.random_mdp(rng, 4, 2)
    d, other = (episodic.occupancy(m, models.random_policy(rng, 3, 4, 2)) for _ in range(2))
    r = maxent.smoothed_gradient(maxent.marginal(d, objective), 1e-12)
    scale = 1 / 3 if objective.startswith("AVE") else 1.0
    predicted = scale * (r * (other - d)).sum()
    t = 1e-6
    change = episodic.visitation_entropy((1 - t) * d + t * other, objective)
    change = (change - episodic.visitation_entropy(d, objective)) / t
    assert predicted == pytest.approx(change, abs=1e-4)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_line_search_against_a_grid(objective):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        m = models.random_mdp(rng, 5, 2)
        old, new = (episodic.occupancy(m, models.random_policy(rng, 3, 5, 2)) for _ in range(2))
        if seed == 0:
            new = old
        eta = maxent.line_search(old, new, objective)
        assert 0.0 <= eta <= 1.0
        grid = [
            episodic.visitation_entropy((1 - x) * old + x * new, objective)
            for x in np.linspace(0, 1, 501)
        ]
        reached = episodic.visitation_entropy((1 - eta) * old + eta * new, objective)
        assert reached >= max(grid) - 1e-5  # η is found to within 1e-5


class Recorded(maxent.MaxEnt):
    """Keeps the policy and the step of every round, as seen from outside."""

    def __init__(self, *args):
        super().__init__(*args)
        self.played, self.steps, self.rollouts = [], [], []

    def _end_round(self):
        before, fresh = self.d.copy(), self.fresh / self.config.round_episodes
        self.played.append(self.pi.copy())
        self.rollouts.append(fresh)
        super()._end_round()
        k = np.unravel_index(np.abs(fresh - before).argmax(), fresh.shape)
        self.steps.append(float((self.d[k] - before[k]) / (fresh[k] - before[k])))


@pytest.mark.parametrize("step", ["line-search", "fixed"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_occupancy_is_the_weighted_sum_of_those_played(step, objective):
    rng = np.random.default_rng(1)
    m = models.random_mdp(rng, 5, 2)
    config = maxent.Config(
        horizon=4, step=step, step_size=0.15, round_episodes=20, objective=objective
    )
    setting = Setting.of(TabularEnv(FiniteMDP(*m.args)), 4, "compiled")
    learner = Recorded(setting, config, rng)
    for episodes in (7, 20, 133, 91):  # rounds end within and between these
        learner.play(episodes, rng)
    assert learner.rounds == 251 // 20 == len(learner.played)
    assert learner.steps[0] == pytest.approx(1.0)
    if step == "fixed":
        np.testing.assert_allclose(learner.steps[1:], 0.15, atol=1e-9)
    weights = np.zeros(0)
    for eta in learner.steps:
        weights = np.append((1 - eta) * weights, eta)
    assert weights.sum() == pytest.approx(1.0)
    D = sum(w * episodic.occupancy(m, pi) for w, pi in zip(weights, learner.played, strict=True))
    np.testing.assert_allclose(learner.mixture_occupancy(), D, atol=1e-9)
    d = sum(w * x for w, x in zip(weights, learner.rollouts, strict=True))
    np.testing.assert_allclose(learner.d, d, atol=1e-9)
    mass = d.sum(-1, keepdims=True)
    projection = np.where(mass > 0, d / np.where(mass > 0, mass, 1), 0.5)
    np.testing.assert_allclose(learner.policy(), projection, atol=1e-9)
    assert learner.visits.sum() == 251 * 4
    assert learner.model.N.sum() == 251 * 4


def test_policy_is_greedy_for_the_gradient_on_the_estimated_model():
    """One round by hand: counts, reward, dense planning with unvisited pairs optimistic."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        S, A, H = 5, 3, 3
        m = models.random_mdp(rng, S, A)
        learner = make(m, H, seed, simulator="gymnasium", round_episodes=6, smoothing=0.01)
        n, visits = np.zeros((S, A, S)), np.zeros((H, S, A))
        for _ in range(6):
            states, actions = rng.integers(S, size=H + 1), rng.integers(A, size=H)
            learner.end_episode(states, actions, -1)
            for h in range(H):
                n[states[h], actions[h], states[h + 1]] += 1
                visits[h, states[h], actions[h]] += 1
        d = visits / 6
        V = np.zeros(S)
        for h in reversed(range(H)):
            Q = np.zeros((S, A))
            for s, a in np.ndindex(S, A):
                N = n[s, a].sum()
                x = d[h, s, a]
                r = -np.log(x + 0.01) - x / (x + 0.01)
                Q[s, a] = r + (n[s, a] @ V / N if N else V.max())
            V = Q.max(1)
            best = np.isclose(Q, Q.max(1, keepdims=True), rtol=0.0, atol=1e-8)
            want = best / best.sum(1, keepdims=True)
            np.testing.assert_allclose(learner.pi[h], want, atol=1e-9)


def test_mixture_places_are_draws_with_the_weights_of_the_mixture():
    rng = np.random.default_rng(3)
    m = models.random_mdp(rng, 4, 2)
    K = 4000
    config = maxent.Config(horizon=3, step="fixed", step_size=0.2, round_episodes=5, mixture_size=K)
    setting = Setting.of(TabularEnv(FiniteMDP(*m.args)), 3, "compiled")
    learner = Recorded(setting, config, rng)
    learner.play(60, rng)
    weights = np.zeros(0)
    for eta in learner.steps:
        weights = np.append((1 - eta) * weights, eta)
    seen = 0
    for pi in np.unique(np.array(learner.played, np.float32), axis=0):
        same = [np.array_equal(np.float32(other), pi) for other in learner.played]
        share = (learner.mixture == pi).all((1, 2, 3)).mean()
        alpha = weights[same].sum()
        assert abs(share - alpha) <= 4.5 * np.sqrt(alpha * (1 - alpha) / K)
        seen += share
    assert seen == pytest.approx(1.0)
    mean = np.mean([episodic.occupancy(m, pi.astype(float)) for pi in learner.mixture[:1000]], 0)
    assert np.abs(mean - learner.mixture_occupancy()).max() < 5 * 0.5 / np.sqrt(1000)
    # Places are independent of each other.
    first = (learner.mixture == np.float32(learner.played[-1])).all((1, 2, 3))
    together = (first[0::2] & first[1::2]).mean()
    p = first.mean()
    assert abs(together - p * p) <= 4.5 * np.sqrt(p * p * (1 - p * p) / (K / 2))


@pytest.mark.parametrize("objective", ["VE", "AVE_S"])
def test_gap_decreases(objective):
    gaps = []
    for episodes in (100, 1000, 5000):
        env = gymnasium.make("rlentropy/DoubleChain-v0", num_states=11)
        config = maxent.Config(episodes=episodes, objective=objective, horizon=8)
        found = maxent.run(env, config, np.random.default_rng(0), Log(None)).summary
        gap = found["optimum"] + found["certificate"] - found["mixture_value"]
        assert gap >= -1e-9
        gaps.append(gap)
    assert gaps[1] < 0.6 * gaps[0]
    assert gaps[2] < 0.8 * gaps[1]


def test_fixed_step_converges_near_the_optimum():
    env = gymnasium.make("rlentropy/DoubleChain-v0", num_states=9)
    config = maxent.Config(episodes=20_000, objective="AVE_S", horizon=6, step="fixed")
    found = maxent.run(env, config, np.random.default_rng(0), Log(None)).summary
    assert found["optimum"] - found["mixture_value"] < 0.05


def test_fewer_episodes_than_a_round_leave_the_uniform_policy():
    m = models.random_mdp(np.random.default_rng(0), 3, 2)
    learner = make(m, 3, round_episodes=50)
    learner.play(49, np.random.default_rng(0))
    assert (learner.rounds, learner.mixture_occupancy()) == (0, None)
    for pi in (learner.policy(), learner.last_iterate(), learner.mixture[0]):
        np.testing.assert_array_equal(pi, np.full((3, 3, 2), 0.5))
    learner.play(1, np.random.default_rng(0))
    assert learner.rounds == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"round_episodes": 0}, "round_episodes must be >= 1, got 0"),
        ({"step": "big"}, "step must be line-search or fixed, got 'big'"),
        ({"step_size": 0.0}, r"step_size must be in \(0, 1\], got 0.0"),
        ({"step_size": 1.5}, r"step_size must be in \(0, 1\], got 1.5"),
        ({"smoothing": 0.0}, "smoothing must be > 0 and finite, got 0.0"),
        ({"smoothing": np.inf}, "smoothing must be > 0 and finite, got inf"),
        ({"mixture_size": -1}, "mixture_size must be >= 0, got -1"),
    ],
)
def test_refusals(options, said):
    with pytest.raises(InputError, match=said):
        maxent.Config(**options)
