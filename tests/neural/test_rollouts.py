"""Vector environments and their batches, against episodes that are known by construction."""

import math

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

pytest.importorskip("torch")

from rlentropy.errors import InputError
from rlentropy.neural.copies import replicate
from rlentropy.neural.rollouts import (
    EVALUATION_LIMIT,
    Evaluator,
    VectorEnv,
    next_values,
)
from rlentropy.neural.spaces import Categorical, Encoder
from rlentropy.wrappers import RandomAction

HEAD = Categorical(Discrete(3))


class Clock(gymnasium.Env):
    """Shows the step, and a number that is random but for seed and actions; pays the action."""

    observation_space = Box(-math.inf, math.inf, (2,), np.float64)
    action_space = Discrete(3)

    def __init__(self, end=math.inf):
        self.end = end

    def observation(self):
        return np.array([self.t, self.np_random.normal()])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observation(), {}

    def step(self, action):
        self.t += 1
        self.np_random.random(int(action))
        return self.observation(), float(action), self.t >= self.end, False, {}


def limited(env, steps):
    return gymnasium.wrappers.TimeLimit(env, steps)


def three():
    """Truncated after 3 steps, terminated after 2, both at once after 4."""
    return [limited(Clock(), 3), Clock(2), limited(Clock(4), 4)]


def vector(envs, seed=0):
    return VectorEnv(envs, Encoder.of(envs[0].observation_space), np.random.default_rng(seed))


def cycling(rows, t):
    """Action t + i modulo 3 in environment i."""
    return (t + np.arange(len(rows))[:, None]) % 3


def test_a_batch_holds_what_the_environments_did():
    envs = vector(three())
    rollouts = envs.roll_out(5, HEAD, cycling)
    np.testing.assert_array_equal(rollouts.observations[..., 0].T, [
        [0, 1, 2, 0, 1, 2], [0, 1, 0, 1, 0, 1], [0, 1, 2, 3, 0, 1]])  # fmt: skip
    actions = (np.arange(5)[:, None] + np.arange(3)) % 3
    np.testing.assert_array_equal(rollouts.actions[..., 0], actions)
    np.testing.assert_array_equal(rollouts.rewards, actions)
    np.testing.assert_array_equal(rollouts.ended.T, [
        [0, 0, 1, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 1, 0]])  # fmt: skip
    assert [(t, i, last[0]) for t, i, last in rollouts.truncated] == [(2, 0, 3.0)]
    assert rollouts.returns == [3.0, 3.0, 1.0, 5.0]  # 1 + 2, 0 + 1 + 2, 0 + 1, 2 + 0 + 1 + 2


def test_the_next_batch_goes_on_where_the_last_one_stopped():
    whole, parts = vector(three()), vector(three())
    all_of_it = whole.roll_out(7, HEAD, cycling)
    first = parts.roll_out(4, HEAD, cycling)
    second = parts.roll_out(3, HEAD, lambda rows, t: cycling(rows, t + 4))
    np.testing.assert_array_equal(first.observations[4], second.observations[0])
    for name in ("actions", "rewards", "ended"):
        joined = np.concatenate([getattr(first, name), getattr(second, name)])
        np.testing.assert_array_equal(joined, getattr(all_of_it, name))
    assert first.returns + second.returns == all_of_it.returns


def test_truncation_bootstraps_and_termination_does_not():
    rollouts = vector(three()).roll_out(5, HEAD, cycling)
    V = 10.0 + rollouts.observations[..., 0]  # V(s) = 10 + s
    after = next_values(V, rollouts, np.array([13.0]))
    np.testing.assert_array_equal(after.T, [
        [11, 12, 13, 11, 12], [11, 0, 11, 0, 11], [11, 12, 13, 0, 11]])  # fmt: skip


def test_every_episode_has_a_seed_of_its_own():
    rollouts = vector([Clock(2) for _ in range(3)]).roll_out(8, HEAD, cycling)
    first = rollouts.observations[::2, :, 1]
    assert np.unique(first).size == first.size


def test_a_restored_vector_goes_on_as_it_would_have():
    whole = vector(three())
    whole.roll_out(5, HEAD, cycling)
    state = whole.state_dict()
    rng = np.random.default_rng()
    rng.bit_generator.state = state["rng"].bit_generator.state
    resumed = vector(three(), seed=9)
    resumed.load_state_dict(state | {"rng": rng, "returns": list(state["returns"])})
    for name in ("observations", "actions", "rewards", "ended", "returns"):
        one, two = (getattr(v.roll_out(6, HEAD, cycling), name) for v in (whole, resumed))
        np.testing.assert_array_equal(one, two)


def test_environments_that_do_not_repeat_themselves_are_not_restored():
    chance = np.random.default_rng(0)

    class Moody(Clock):
        def observation(self):
            return chance.normal(size=2)

    state = vector([Moody()]).state_dict()
    with pytest.raises(InputError, match=r"env must repeat an episode .* for --resume, got other"):
        vector([Moody()]).load_state_dict(state)


@pytest.mark.parametrize(("reward", "observation", "message"), [
    (math.nan, 0.0, "reward must be finite, got nan at step 1"),
    (0.0, 1e300, "observations must be finite in single precision, got larger ones"),
])  # fmt: skip
def test_numbers_that_no_batch_holds_are_refused(reward, observation, message):
    class Odd(Clock):
        def step(self, action):
            return np.full(2, observation), reward, False, False, {}

    with pytest.raises(InputError, match=message), np.errstate(over="ignore"):
        vector([Odd()]).roll_out(2, HEAD, cycling)


def test_replicas_are_like_the_environment_and_apart_from_it():
    by_spec = replicate(gymnasium.make("CartPole-v1"), 2, 0.0, horizon=7)
    assert [env.spec.max_episode_steps for env in by_spec] == [7, 7]
    assert by_spec[0].unwrapped is not by_spec[1].unwrapped
    env = Clock(end=5)
    copied = replicate(env, 2, 0.25, horizon=3)
    assert all(isinstance(twin, RandomAction) for twin in copied)
    assert copied[0].unwrapped is not copied[1].unwrapped
    assert copied[0].unwrapped.end == 5
    copied[0].reset(seed=0)
    flags = [copied[0].step(0)[2:4] for _ in range(3)]
    assert flags == [(False, False), (False, False), (False, True)]


# ---------------------------------------------------------------- evaluation


class Ones:
    """A policy that always plays 1, and remembers how many episodes were begun at once."""

    def __init__(self):
        self.begun = []

    def begin(self, index, rng):
        self.begun.append(len(index))

    def act(self, observations, t=0, rng=None):
        return np.ones(len(observations), int)


def test_evaluations_play_all_episodes_a_few_at_a_time():
    policy = Ones()
    evaluator = Evaluator([Clock(4) for _ in range(3)], None, seed=1)
    returns = evaluator.returns(policy, 7, step=100)
    np.testing.assert_array_equal(returns, 4.0)
    assert returns.shape == (7,)
    assert policy.begun == [3, 3, 1]
    assert evaluator.horizon == EVALUATION_LIMIT
    assert [x[0] for x in evaluator.first_observations()] == [0.0, 0.0, 0.0]


def test_evaluations_repeat_themselves_and_are_cut_off():
    class Lottery(Clock):
        def step(self, action):
            observation, *rest = super().step(action)
            return observation, float(observation[1]), *rest[1:]

    evaluators = [Evaluator([Lottery() for _ in range(2)], 5, seed) for seed in (1, 1, 2)]
    same, again, other = (e.returns(Ones(), 3, step=100) for e in evaluators)
    np.testing.assert_array_equal(same, again)
    assert not np.isin(other, same).any()
    later = evaluators[0].returns(Ones(), 3, step=200)
    assert not np.isin(later, same).any()
    np.testing.assert_array_equal(evaluators[0].returns(Ones(), 3, step=100), same)
