"""Rollouts from shared starts, against the environments played by hand."""

import math

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

pytest.importorskip("torch")

from rlentropy.errors import InputError
from rlentropy.neural.copies import replicate
from rlentropy.preferences.neural import untrained
from rlentropy.preferences.neural_rollouts import SharedStarts, scaling_of
from rlentropy.wrappers import RandomAction


class Noisy(gymnasium.Env):
    """Starts where its seed says, or anywhere; then walks at random. Ends after some steps."""

    observation_space = Box(-math.inf, math.inf, (2,), np.float64)
    action_space = Discrete(2)

    def __init__(self, end=math.inf, seeded=True, largest=1.0):
        self.end, self.seeded, self.largest = end, seeded, largest
        self.other = np.random.default_rng(0)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.x = 0, (self.np_random if self.seeded else self.other).normal()
        return np.array([self.x, 0.0]), {}

    def step(self, action):
        self.t += 1
        self.x += self.np_random.normal() + action
        shown = np.array([self.x * self.largest, float(self.t)])
        return shown, float(action) + 0.5, self.t >= self.end, False, {}


def starts_of(env, n=4, **options):
    return SharedStarts(replicate(env, n, 0.0), **options)


def play(env, n=6, T=5, rng_seed=0, copies=4, temperature=1.0, **options):
    rng = np.random.default_rng(rng_seed)
    shared, policy = starts_of(env, copies, **options), untrained(env, (4,), rng)
    return shared.pairs(policy, shared.draw(n, rng), T, rng, temperature)


@pytest.mark.parametrize("snapshots", [False, True])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_segments_are_what_the_environment_does(env_id, snapshots):
    env = gymnasium.make(env_id)
    pairs = play(env, n=5, T=30, snapshots=snapshots)
    policy = untrained(env, (4,), np.random.default_rng(0))
    assert pairs.same_start.all()
    assert not pairs.identical.any()
    assert len(set(pairs.a.starts.tolist())) == 5
    np.testing.assert_array_equal(pairs.a.starts, pairs.b.starts)
    for part in (pairs.a, pairs.b):
        for i, length in enumerate(part.lengths):
            x, _ = env.reset(seed=int(part.starts[i]))
            np.testing.assert_array_equal(part.states[i, 0], x)
            terminated = truncated = False
            for t in range(length):
                assert not terminated
                assert not truncated
                action = policy.head.to_space(part.actions[i, t][None])[0]
                x, reward, terminated, truncated, _ = env.step(action)
                np.testing.assert_array_equal(part.states[i, t + 1], x.astype(np.float32))
                assert part.rewards[i, t] == reward
            assert part.terminated[i] == terminated
            assert terminated or truncated or length == 30
            assert not part.states[i, length + 1 :].any()
            assert not part.rewards[i, length:].any()
    lengths = np.concatenate([pairs.a.lengths, pairs.b.lengths])
    assert ((lengths < 30).any()) == (env_id == "CartPole-v1")


def test_a_time_limit_cuts_and_does_not_terminate():
    pairs = play(gymnasium.wrappers.TimeLimit(Noisy(), 3))
    assert (pairs.a.lengths == 3).all()
    assert not pairs.a.terminated.any()
    ended = play(Noisy(end=2))
    assert (ended.b.lengths == 2).all()
    assert ended.b.terminated.all()


@pytest.mark.parametrize("snapshots", [False, True])
def test_dynamics_are_independent_from_the_shared_start_on(snapshots):
    """The correlation of n independent walks is within five standard errors of 0."""
    n = 400
    pairs = play(Noisy(), n, T=1, copies=7, snapshots=snapshots)
    same = pairs.a.actions[:, 0, 0] == pairs.b.actions[:, 0, 0]
    assert 0.3 < same.mean() < 0.7
    moves = [p.states[:, 1, 0] - p.states[:, 0, 0] - p.actions[:, 0, 0] for p in (pairs.a, pairs.b)]
    assert abs(np.corrcoef(*moves)[0, 1]) < 5.0 / math.sqrt(n)
    assert abs(np.corrcoef(moves[0], pairs.a.states[:, 0, 0])[0, 1]) < 5.0 / math.sqrt(n)
    for move in moves:
        assert abs(move.mean()) < 5.0 / math.sqrt(n)


@pytest.mark.parametrize("snapshots", [False, True])
def test_streams_say_what_happened_by_chance(snapshots):
    """A reset with the start's seed, then a generator from the stream, and the same actions."""
    pairs, env = play(Noisy(), n=5, snapshots=snapshots), Noisy()
    for part in (pairs.a, pairs.b):
        for i, stream in enumerate(part.streams.tolist()):
            x, _ = env.reset(seed=int(part.starts[i]))
            outer = np.random.default_rng(stream)  # one draw for each generator, in their order
            _, env.np_random = (np.random.default_rng(int(outer.integers(2**63))) for _ in "ab")
            for t, action in enumerate(part.actions[i, :, 0].tolist()):
                np.testing.assert_array_equal(part.states[i, t], x.astype(np.float32))
                x, *_ = env.step(action)


def test_noise_of_wrappers_is_independent_too():
    """A wrapper that replaces every action draws others for the two segments."""
    env = RandomAction(Noisy(), 1.0)
    rng = np.random.default_rng(0)
    policy = untrained(env, (4,), rng)
    shared = SharedStarts([RandomAction(Noisy(), 1.0) for _ in range(4)])
    pairs = shared.pairs(policy, shared.draw(200, rng), 1, rng)
    share = (pairs.a.rewards == pairs.b.rewards).mean()
    assert abs(share - 0.5) < 5.0 * 0.5 / math.sqrt(200)


def test_only_snapshots_share_starts_that_no_seed_fixes():
    with pytest.raises(InputError, match=r"env must start alike .* 6 of 6 starts of Noisy"):
        play(Noisy(seeded=False), copies=1)
    assert play(Noisy(seeded=False), snapshots=True).same_start.all()


def test_environments_that_cannot_be_copied_are_refused():
    env = Noisy()
    env.handle = (i for i in ())  # generators of Python can't be
    shared = SharedStarts([env], snapshots=True)
    policy = untrained(env, (4,), np.random.default_rng(0))
    with pytest.raises(InputError, match=r"env must be one that copy\.deepcopy copies, .* TypeErr"):
        shared.pairs(policy, np.array([1]), 2, np.random.default_rng(0))


@pytest.mark.filterwarnings("ignore:overflow")
def test_numbers_too_large_for_single_precision_are_refused():
    with pytest.raises(InputError, match="observations must be finite in single precision"):
        play(Noisy(largest=1e200))


def test_the_same_whatever_the_copies():
    """How many environments there are, and what was played in them before, changes nothing."""
    wanted = play(gymnasium.make("CartPole-v1"), copies=1, T=20)
    for copies in (2, 5, 12):
        found = play(gymnasium.make("CartPole-v1"), copies=copies, T=20)
        np.testing.assert_array_equal(found.a.actions, wanted.a.actions)
        np.testing.assert_array_equal(found.b.states, wanted.b.states)


def test_temperature():
    """0 takes the likeliest action, 1 the policy's own law, a low one in between."""
    env, rng = Noisy(), np.random.default_rng(0)
    policy = untrained(env, (4,), rng)
    policy.layers[-1][1][:] = [0.0, 1.0]  # logits
    shared, n = starts_of(env), 2000
    for temperature in (0.0, 0.5, 1.0):
        part = shared.segments(policy, shared.draw(n, rng), 1, rng, temperature)
        p = 1.0 / (1.0 + math.exp(-1.0 / temperature)) if temperature else 1.0
        assert abs(part.actions.mean() - p) <= 5.0 * math.sqrt(p * (1.0 - p) / n)


def test_a_finite_set_of_starts():
    rng = np.random.default_rng(0)
    shared = starts_of(Noisy(), seeds=np.array([3, 5, 8]))
    assert set(shared.draw(50, rng).tolist()) == {3, 5, 8}
    drawn = starts_of(Noisy()).draw(1000, rng)
    assert len(set(drawn.tolist())) == 1000
    assert drawn.min() >= 0


def test_scaling_is_of_what_counts():
    env = Noisy(end=3)
    pairs = play(env, n=20, T=8)
    policy = untrained(env, (4,), np.random.default_rng(0))
    mean, deviation = scaling_of(policy, pairs.a)
    seen = pairs.a.states[:, :3].reshape(-1, 2).astype(float)
    np.testing.assert_allclose(mean, seen.mean(0))
    np.testing.assert_allclose(deviation, seen.std(0))
    lake = gymnasium.make("FrozenLake-v1")
    table = play(lake, n=4)
    mean, deviation = scaling_of(untrained(lake, (4,), np.random.default_rng(0)), table.a)
    assert (mean == 0.0).all()
    assert (deviation == 1.0).all()
    np.testing.assert_array_equal(table.a.states[:, 0].argmax(1), 0)
