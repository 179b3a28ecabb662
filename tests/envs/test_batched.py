"""Slots stepped at once against as many single environments, through gymnasium's front door."""

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode

import rlentropy  # noqa: F401  (registers the ids)
from rlentropy.envs.batched import ArrayEnv, BatchedEnv
from rlentropy.errors import InputError

CASES = (
    ("ContinuousGrid", {}),
    ("ContinuousGrid", {"goal": (-5.0, -5.0), "radius": 1.0}),
    ("MountainCarWalled", {}),
    ("MountainCarWalled", {"continuous": True}),
    ("HangingPendulum", {}),
    ("HangingPendulum", {"max_torque": 2.0}),
    ("PointMaze", {}),
    ("PointMaze", {"maze": "open", "reward": "sparse"}),
    ("PointMaze", {"maze": "large", "start": (1, 1), "goal": (4, 3)}),
    ("PointMaze", {"maze": ("####", "#G #", "####")}),
)
every_case = pytest.mark.parametrize(("name", "kwargs"), CASES)
every_name = pytest.mark.parametrize("name", dict(CASES))


def batch(name, n=3, **kwargs):
    mode = "vector_entry_point"
    return gymnasium.make_vec(f"rlentropy/{name}-v0", n, vectorization_mode=mode, **kwargs)


def lasting(space, n, steps, rng):
    """Random actions (steps, n, ...), held for 15 steps so that walls and limits are met."""
    space.seed(int(rng.integers(2**31)))
    drawn = np.array([[space.sample() for _ in range(n)] for _ in range(-(-steps // 15))])
    drawn = drawn * 3 - 2 if drawn.dtype == np.float32 else drawn  # often beyond the space
    return drawn.repeat(15, axis=0)[:steps]


@every_case
def test_slots_are_single_environments(name, kwargs, rng):
    n, steps, seeds = 6, 130, [4, 4, 0, 9, 12, 3]
    slots = batch(name, n, max_episode_steps=120, **kwargs)
    singles = [gymnasium.make(f"rlentropy/{name}-v0", 120, **kwargs) for _ in seeds]
    seen, info = slots.reset(seed=seeds)
    assert info == {}
    firsts = [env.reset(seed=seed)[0] for env, seed in zip(singles, seeds, strict=True)]
    np.testing.assert_array_equal(seen, firsts)
    assert isinstance(slots, BatchedEnv)
    assert seen in slots.observation_space
    ends = 0
    for actions in lasting(slots.single_action_space, n, steps, rng):
        before = seen.copy()
        after, rewards, terminated, truncated, info = slots.step(actions)
        np.testing.assert_array_equal(seen, before)  # what was given is not written into
        seen = after
        assert info == {}
        assert (seen.dtype, rewards.dtype) == (np.float32, np.float64)
        assert seen in slots.observation_space
        for i, env in enumerate(singles):
            x, reward, *flags, _ = env.step(actions[i])
            np.testing.assert_array_equal(seen[i], x)
            assert rewards[i] == pytest.approx(reward, rel=1e-12)
            assert [terminated[i], truncated[i]] == flags
        ends += terminated.sum()
    assert truncated.all()
    assert (ends > 0) == ("radius" in kwargs or "reward" in kwargs)


@every_name
def test_each_slot_keeps_its_generator(name):
    slots, singles = batch(name), [gymnasium.make(f"rlentropy/{name}-v0") for _ in range(3)]
    rounds = ((7, [7, 8, 9]), (None, [None] * 3), (np.array([2, 1, 2]), [2, 1, 2]))
    for seed, seeds in (*rounds, ([None, 5, None], [None, 5, None])):
        seen, _ = slots.reset(seed=seed)
        theirs = [env.reset(seed=s)[0] for env, s in zip(singles, seeds, strict=True)]
        np.testing.assert_array_equal(seen, theirs)


@every_name
def test_a_mask_resets_some_slots(name):
    slots = batch(name, max_episode_steps=2)
    action = slots.action_space.sample()
    first, _ = slots.reset(seed=1)
    seen, *_ = slots.step(action)
    after, _ = slots.reset(seed=1, options={"reset_mask": np.array([False, True, False])})
    np.testing.assert_array_equal(after[1], first[1])
    np.testing.assert_array_equal(after[[0, 2]], seen[[0, 2]])
    assert slots.step(action)[3].tolist() == [True, False, True]
    assert slots.step(action)[3].tolist() == [True, True, True]


@every_case
def test_a_spec_makes_the_slots_of_its_environment(name, kwargs):
    env = gymnasium.make(f"rlentropy/{name}-v0", **kwargs)
    slots = gymnasium.make_vec(env.spec, 2, vectorization_mode="vector_entry_point")
    assert slots.single_observation_space == env.observation_space
    assert slots.single_action_space == env.action_space
    np.testing.assert_array_equal(slots.reset(seed=[3, 3])[0], [env.reset(seed=3)[0]] * 2)
    assert slots.limit == env.spec.max_episode_steps
    assert slots.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    again = gymnasium.make_vec(slots.spec)
    assert again.num_envs == 2
    assert again.env.feature_names == env.unwrapped.feature_names


@every_name
def test_no_limit_no_truncation_and_one_slot_by_default(name):
    slots = type(batch(name))()
    assert slots.num_envs == 1
    slots.reset(seed=0)
    for _ in range(3):
        assert not slots.step(slots.action_space.sample())[3].any()


@every_name
@pytest.mark.parametrize("mode", ["ansi", "rgb_array"])
def test_pictures_are_those_of_single_environments(name, mode):
    slots = batch(name, render_mode=mode)
    env = gymnasium.make(f"rlentropy/{name}-v0", render_mode=mode)
    slots.reset(seed=[5, 6, 7])
    env.reset(seed=6)
    for _ in range(3):
        actions = slots.action_space.sample()
        slots.step(actions)
        env.step(actions[1])
    drawn = slots.render()
    assert len(drawn) == 3
    np.testing.assert_array_equal(drawn[1], env.render())
    assert batch(name).render() is None


@every_name
def test_features_are_declared(name, rng):
    slots = batch(name, 20)
    env = slots.env
    assert isinstance(env, ArrayEnv)
    d = len(env.feature_names)
    assert len(env.feature_ranges) == len(env.feature_bins) == d
    low, high = np.array(env.feature_ranges).T
    seen, _ = slots.reset(seed=0)
    for actions in lasting(slots.single_action_space, 20, 100, rng):
        points = env.features(seen)
        assert points.shape == (20, d)
        assert points.dtype == np.float64
        assert ((points >= low - 1e-6) & (points <= high + 1e-6)).all()
        seen, *_ = slots.step(actions)


def test_wrong_arguments_are_refused():
    slots = batch("ContinuousGrid")
    with pytest.raises(ResetNeeded, match="before they are reset"):
        slots.step(slots.action_space.sample())
    with pytest.raises(ResetNeeded, match="before they are reset"):
        slots.reset(options={"reset_mask": [True, False, True]})
    with pytest.raises(InputError, match="seed and reset_mask must have 3 entries, got 2 and 3"):
        slots.reset(seed=[1, 2])
    with pytest.raises(InputError, match="seed and reset_mask must have 3 entries, got 3 and 1"):
        slots.reset(options={"reset_mask": [True]})
    slots.reset(seed=0)
    with pytest.raises(InputError, match=r"actions must be \(3, 2\), got \(1, 2\)"):
        slots.step(np.zeros((1, 2)))
    with pytest.raises(InputError, match="num_envs must be >= 1, got 0"):
        batch("ContinuousGrid", 0)
    with pytest.raises(InputError, match="max_episode_steps must be >= 1, got 0"):
        batch("ContinuousGrid", max_episode_steps=0)
    with pytest.raises(InputError, match="render_mode must be one of ansi, rgb_array, got 'human'"):
        batch("ContinuousGrid", render_mode="human")
