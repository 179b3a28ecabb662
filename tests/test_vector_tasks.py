"""The numpy twins of continuous tasks against the environments themselves, step by step."""

import gymnasium
import numpy as np
import pytest

pytest.importorskip("torch")

from vector_tasks import dynamics_of, vector_starts

from rlentropy.neural.copies import replicate
from rlentropy.preferences.neural import untrained
from rlentropy.preferences.neural_rollouts import SharedStarts

TASKS = ("Pendulum-v1", "MountainCar-v0", "rlentropy/PointMaze-v0")
WALLED = {"low": -1.2, "high": 0.55}  # of a MountainCar; from some starts the goal is near


def lively(env, scale, rng):
    """A policy with weights and biases on its outputs, so that actions depend on the state."""
    policy = untrained(env, (8,), rng)
    w, b = policy.layers[-1]
    w += scale * rng.standard_normal(w.shape).astype(np.float32)
    b += scale * rng.standard_normal(b.shape).astype(np.float32)
    return policy


@pytest.mark.parametrize("name", TASKS)
def test_segments_are_those_of_the_environment(name, rng):
    env = gymnasium.make(name)
    policy = lively(env, 1.0, rng)
    theirs, ours = SharedStarts(replicate(env, 8, 0.0)), vector_starts(name)
    starts = theirs.draw(12, rng)
    for T in (1, 60):
        a, b = (
            each.pairs(policy, starts, T, np.random.default_rng(3), 0.7) for each in (theirs, ours)
        )
        for x, y in ((a.a, b.a), (a.b, b.b)):
            np.testing.assert_allclose(y.states, x.states, rtol=1e-5, atol=1e-5)
            assert x.states.dtype == y.states.dtype
            np.testing.assert_allclose(y.actions, x.actions, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(y.rewards, x.rewards, rtol=1e-4, atol=1e-4)
            np.testing.assert_array_equal(y.lengths, x.lengths)
            np.testing.assert_array_equal(y.terminated, x.terminated)
            np.testing.assert_array_equal(y.starts, x.starts)


CASES = (
    ("Pendulum-v1", {}, None),
    ("MountainCar-v0", {}, WALLED),
    ("rlentropy/PointMaze-v0", {}, None),
    ("rlentropy/PointMaze-v0", {"maze": "open", "reward": "sparse"}, None),
)


@pytest.mark.parametrize(("name", "kwargs", "options"), CASES)
def test_steps_follow_the_same_actions(name, kwargs, options, rng):
    """One step at a time from what the environment is in, pushed hard enough to meet all limits."""
    env = gymnasium.make(name, 400, **kwargs)
    twin, ends, stopped = dynamics_of(env), 0, 0
    for episode in range(15):
        env.reset(seed=episode, options=options)
        env.action_space.seed(episode)
        action = env.action_space.sample()
        if name == "MountainCar-v0" and episode % 2:
            env.unwrapped.state = np.array([-1.1, -0.06])  # it is about to meet the wall
        for t in range(100):
            if t % 20 == 0:  # pushes that last drive it into walls, limits and goals
                action = env.action_space.sample()
            states = np.array([twin.state(env.unwrapped)], np.float64)
            seen, reward, terminated, *_ = env.step(action)
            after, r, over = twin.step(states, np.array([action]))
            np.testing.assert_allclose(after[0], twin.state(env.unwrapped), rtol=0, atol=1e-12)
            np.testing.assert_allclose(twin.observe(after)[0], seen, rtol=1e-6, atol=1e-7)
            assert r[0] == pytest.approx(reward, abs=1e-6)
            assert over[0] == terminated
            stopped += bool((after[0] == 0.0).any())  # speed, at a wall
            if terminated:
                ends += 1
                break
    if name.startswith("Mountain") or kwargs:
        assert ends > 0
    if name != "Pendulum-v1":
        assert stopped > 0


def test_resets_take_options_and_tasks_without_a_twin_are_refused(rng):
    starts = vector_starts("MountainCar-v0", {"low": -1.0, "high": 0.3})
    policy = untrained(starts.envs[0], (4,), rng)
    places = starts.segments(policy, starts.draw(200, rng), 1, rng).states[:, 0, 0]
    assert places.min() < -0.9
    assert places.max() > 0.2
    with pytest.raises(ValueError, match="env must be Pendulum"):
        vector_starts("CartPole-v1")
