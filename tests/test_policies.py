"""Policies by the laws of what they draw, and how they play."""

from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from hypothesis import given
from hypothesis import strategies as st

from rlentropy import policies
from rlentropy.errors import InputError
from rlentropy.neural.spaces import NeuralPolicy
from rlentropy.offline.policy import Greedy
from rlentropy.policies import Mixture, Tabular, play
from rlentropy.wrappers import uniform_actions


def spaces(observation, action):
    return SimpleNamespace(observation_space=observation, action_space=action)


# ---------------------------------------------------------------- laws


def test_tabular_actions_follow_the_table(rng):
    pi = rng.dirichlet(np.ones(4), size=(1, 3))
    n = 30_000
    policy = Tabular(pi)
    for s in range(3):
        actions = policy.act(np.full(n, s), np.zeros(n, int), rng)
        share = np.bincount(actions, minlength=4) / n
        assert (np.abs(share - pi[0, s]) < 4.5 * np.sqrt(pi[0, s] * (1 - pi[0, s]) / n)).all()


def test_tabular_policy_starts_over_beyond_its_horizon(rng):
    choice = rng.integers(3, size=(4, 5))  # (H, S)
    policy = Tabular(np.eye(3)[choice])
    s, t = rng.integers(5, size=200), rng.integers(100, size=200)
    np.testing.assert_array_equal(policy.act(s, t, rng), choice[t % 4, s])


def test_spaces_that_do_not_start_at_zero(rng):
    choice = rng.integers(3, size=5)
    policy = Tabular(np.eye(3)[choice][None], first_state=10, first_action=-2)
    s = np.arange(5)
    np.testing.assert_array_equal(policy.act(s + 10, np.zeros(5, int), rng), choice - 2)


@given(seed=st.integers(0, 2**32 - 1))
def test_impossible_actions_are_never_drawn(seed):
    """Also where the draw lands on a boundary, or rounding leaves a row below 1."""
    rng = np.random.default_rng(seed)
    row = rng.dirichlet(np.ones(3)) * (1.0 - 1e-9)
    pi = np.zeros(6)
    pi[np.sort(rng.choice(6, size=3, replace=False))] = row
    policy = Tabular(pi[None, None])
    for u in (0.0, *np.cumsum(pi)[:-1], np.nextafter(1.0, 0.0)):
        fixed = SimpleNamespace(random=lambda n, u=u: np.full(n, u))
        action = policy.act(np.zeros(1, int), np.zeros(1, int), fixed)[0]
        assert pi[action] > 0.0 or u >= 1.0


def test_a_slot_draws_the_same_whatever_happens_in_the_others(rng):
    pi = rng.dirichlet(np.ones(4), size=(2, 3))
    for policy in (Tabular(pi), Mixture(np.stack([pi, pi[::-1]]))):
        runs = []
        for others in (0, 2):
            same = np.random.default_rng(1)
            policy.begin(np.arange(6), same)
            s = np.array([1, others, others, 2, others, 0])
            runs.append([policy.act(s, np.full(6, t), same)[[0, 3, 5]] for t in range(20)])
        np.testing.assert_array_equal(*runs)


def test_mixture_plays_one_of_its_policies_for_a_whole_episode(rng):
    K, n = 5, 4000
    policy = Mixture(np.eye(K)[:, None, None, :].repeat(3, axis=1))  # policy k plays action k
    policy.begin(np.arange(n), rng)
    first = policy.act(np.zeros(n, int), np.zeros(n, int), rng)
    for t in range(1, 5):
        np.testing.assert_array_equal(policy.act(np.zeros(n, int), np.full(n, t), rng), first)
    share = np.bincount(first, minlength=K) / n
    assert (np.abs(share - 1 / K) < 4 * np.sqrt(1 / K / n)).all()
    policy.begin(np.arange(10), rng)  # new episodes in ten slots
    after = policy.act(np.zeros(n, int), np.zeros(n, int), rng)
    np.testing.assert_array_equal(after[10:], first[10:])
    assert (after[:10] != first[:10]).any()


def test_uniform_actions(rng):
    box = Box(np.array([-1.0, 2.0], np.float32), np.array([0.0, 8.0], np.float32))
    n = 20_000
    x = uniform_actions(box, n, rng)
    assert x.shape == (n, 2)
    assert x.dtype == np.float32
    assert (x >= box.low).all()
    assert (x <= box.high).all()
    width = box.high - box.low
    assert (np.abs(x.mean(0) - (box.low + width / 2)) < 4 * width / np.sqrt(12 * n)).all()
    a = uniform_actions(Discrete(3, start=5), n, rng)
    share = np.bincount(a - 5, minlength=3) / n
    assert share.size == 3
    assert (np.abs(share - 1 / 3) < 4 * np.sqrt(2 / 9 / n)).all()
    assert uniform_actions(MultiDiscrete([2, 3]), 7, rng).shape == (7, 2)
    assert uniform_actions(Box(-np.inf, np.inf, (2,)), 7, rng).shape == (7, 2)
    whole = uniform_actions(Box(0, 3, (2,), np.int64), 500, rng)
    assert set(np.unique(whole)) == {0, 1, 2, 3}


def test_random_policy_leaves_the_space_of_the_environment_alone(rng):
    env = spaces(Discrete(2), MultiDiscrete([50, 50]))
    env.action_space.seed(3)
    expected = env.action_space.sample()
    env.action_space.seed(3)
    policies.random(env).act(np.zeros(4), np.zeros(4, int), rng)
    np.testing.assert_array_equal(env.action_space.sample(), expected)


# ---------------------------------------------------------------- one observation


def test_one_observation_gets_one_action(rng):
    pi = np.eye(3)[[0, 2, 1, 0]]  # deterministic
    for policy in (Tabular(pi[None], 5, 7), Mixture(np.stack([pi[None]] * 2), 5, 7)):
        for observation in (6, np.int64(6), np.array(6)):
            action = policy.act(observation, 0, rng)
            assert action == 9
            assert np.shape(action) == ()
            assert policy.act(observation) == 9
        np.testing.assert_array_equal(policy.act([5, 6, 7]), [7, 9, 8])
        np.testing.assert_array_equal(policy.act(np.array([6])), [9])


def test_without_a_generator_a_policy_uses_its_own(rng):
    fair = np.full((1, 4, 2), 0.5)
    first, second = ([Tabular(fair).act(1) for _ in range(30)] for _ in range(2))
    assert first == second
    policy = Tabular(fair)
    drawn = [int(policy.act(1)) for _ in range(200)]
    assert 60 < sum(drawn) < 140


def test_a_mixture_that_was_not_begun_chooses_for_each_slot(rng):
    pi = np.stack([np.full((1, 3, 2), [1.0, 0.0]), np.full((1, 3, 2), [0.0, 1.0])])
    policy = Mixture(pi)
    first = policy.act(np.zeros(50, int), 0, rng)
    assert 5 < first.sum() < 45
    np.testing.assert_array_equal(policy.act(np.ones(50, int), 1, rng), first)


def test_uniform_actions_for_one_and_for_many(rng):
    env = spaces(Box(-1, 1, (3,)), Discrete(4))
    policy = policies.random(env)
    assert policy.act(np.zeros(3), 0, rng) in range(4)
    assert policy.act(np.zeros((3, 3)), 0, rng).shape == (3,)
    unseen = policies.Uniform(Discrete(4))
    assert np.shape(unseen.act("anything", 0, rng)) == ()
    assert unseen.act([{}, {}], [0, 3], rng).shape == (2,)


@pytest.mark.parametrize(
    ("observations", "t", "said"),
    [
        ([[1, 2]], 0, r"must be of shape \(\), or a batch of such, got \(1, 2\)"),
        (np.array([1, 2]), [0, 1, 2], r"t must be of shape \(\) or \(2,\), .* got \(3,\)"),
        (4, 0, r"must be in 0\.\.3, got 4\.\.4"),
        ([-1, 2], 0, r"must be in 0\.\.3, got -1\.\.2"),
        (1.0, 0, "must be whole numbers, got float64"),
        (True, 0, "must be whole numbers, got bool"),
        ("a", 0, "must be numbers, got <U1"),
        ([1, 2], 0.5, r"t must be whole numbers >= 0, got 0\.5"),
        ([1, 2], -1, r"t must be whole numbers >= 0, got -1"),
        (np.array([1.0, np.nan]), 0, r"observations must be finite, got nan at index \[1\]"),
        (None, 0, "must be numbers, got object"),
        ([[1], [2, 3]], 0, "observations must be"),
    ],
)
def test_observations_that_are_none(observations, t, said, rng):
    with pytest.raises(InputError, match=said):
        Tabular(np.full((1, 4, 2), 0.5)).act(observations, t, rng)


def networks():
    env = spaces(Box(-1, 1, (3,)), Discrete(4))
    layers = [(torch.zeros(3, 4).numpy(), np.arange(4.0))]
    yield NeuralPolicy(env, layers, "tanh", (np.zeros(3), np.ones(3)), stochastic=False)
    saved = {
        **{"discrete": False, "first_state": 0, "features": torch.tensor([[0.0] * 3, [1.0] * 3])},
        **{"sizes": [3, 4], "observation_shape": [3], "actions": torch.arange(4)},
        "network": [torch.zeros(1, 3, 4), torch.arange(4.0).reshape(1, 1, 4)],
    }
    yield Greedy(saved)


@pytest.mark.parametrize("k", range(4))
def test_batches_have_a_name_of_their_own(k, rng):
    table = Tabular(np.eye(4)[[3] * 5][None])
    policy = [table, *networks(), policies.random(spaces(Box(-1, 1, (3,)), Discrete(4)))][k]
    one = 2 if k == 0 else np.full(3, 0.5)
    shape = "" if k == 0 else "3,"
    for n in (1, 2):
        assert policy.act_batch([one] * n, 0, rng).shape == (n,)
    if k < 3:
        np.testing.assert_array_equal(policy.act_batch([one, one]), [3, 3])
        assert policy.act(one) == 3
    with pytest.raises(
        InputError, match=rf"must be a batch, got one of shape \({shape}\), .* for act"
    ):
        policy.act_batch(one)
    with pytest.raises(InputError, match=r"rng must be a numpy\.random\.Generator, got 0"):
        policy.act_batch([one], 0, 0)
    with pytest.raises(InputError, match="observations must be"):
        policy.act(np.zeros((2, 4)))
    if k:
        with pytest.raises(InputError, match=r"must be finite, got inf at index \[1, 0\]"):
            policy.act_batch([one, [np.inf, 0, 0]])
        with pytest.raises(InputError, match="must be numbers, got <U1"):
            policy.act(list("abc"))


def test_batches_without_a_shape_take_their_number_from_the_list(rng):
    policy = policies.Uniform(Discrete(4))
    assert policy.act_batch([{}, {}, {}], 0, rng).shape == (3,)
    assert policy.act_batch([{}], 0, rng).shape == (1,)


def test_policies_say_what_they_are():
    assert repr(Tabular(np.ones((1, 16, 4)) / 4)) == "Tabular(16 states, 4 actions, stationary)"
    assert repr(Tabular(np.ones((9, 16, 4)) / 4)) == "Tabular(16 states, 4 actions, 9 steps)"
    mixture = "Mixture(3 policies, 16 states, 4 actions, 9 steps)"
    assert repr(Mixture(np.ones((3, 9, 16, 4)) / 4)) == mixture
    assert repr(policies.Uniform(Discrete(3))) == "Uniform(Discrete(3))"


# ---------------------------------------------------------------- episodes


class Countdown(gymnasium.Env):
    """Ends after as many steps as its seed; each step gives its number and the action."""

    observation_space, action_space = Discrete(100), Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.left, self.t = seed, 0
        return np.int64(self.left), {}

    def step(self, action):
        self.left, self.t = self.left - 1, self.t + 1
        return np.int64(self.left), self.t + 100.0 * action, self.left == 0, False, {}


def test_play_adds_up_each_episode_to_its_own_end(rng):
    odd = Tabular(np.eye(2)[np.arange(100) % 2][None])  # the action is the state's parity
    seeds = np.array([3, 1, 9])
    returns, lengths = play([Countdown() for _ in seeds], odd, seeds, 5, rng)
    assert lengths.tolist() == [3, 1, 5]
    # 1 + 2 + 3 with odd states 3 and 1; 1 with 1; 1 + ... + 5 with 9, 7 and 5
    assert returns.tolist() == [206.0, 101.0, 315.0]


def test_dicts_are_to_be_flattened():
    with pytest.raises(
        InputError, match=r"shape \(3,\), .* got a dict, which .*flatten makes flat"
    ):
        policies.as_batch({"x": np.zeros(3)}, 0, (3,))
