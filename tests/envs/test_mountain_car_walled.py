"""The walled mountain car against gymnasium's two, away from the wall, and by hand at it."""

import warnings

import gymnasium
import numpy as np
import pytest
from examples.random_play import random_visits
from gymnasium.utils.env_checker import check_env

import rlentropy  # noqa: F401  (registers the id)
from rlentropy.envs.mountain_car_walled import MountainCarWalledEnv
from rlentropy.envs.raster import POINT
from rlentropy.errors import InputError

ID = "rlentropy/MountainCarWalled-v0"


def states(rng, n=400):
    """From all over the road and its speeds, the left wall too."""
    some = np.stack([rng.uniform(-1.2, 0.35, n), rng.uniform(-0.07, 0.07, n)], axis=1)
    some[:40, 0] = rng.uniform(-1.2, -1.13, 40)
    some[:40, 1] = rng.uniform(-0.07, -0.03, 40)
    return some


def test_steps_are_those_of_the_discrete_car_with_a_stronger_engine(rng):
    theirs, ours = gymnasium.make("MountainCar-v0").unwrapped, MountainCarWalledEnv()
    theirs.force = 0.0015
    stopped = 0
    for state in states(rng):
        action = int(rng.integers(3))
        theirs.state, ours.state = tuple(state), state
        seen, *_ = theirs.step(action)
        x, reward, *flags, info = ours.step(action)
        np.testing.assert_allclose(ours.state, theirs.state, rtol=0, atol=1e-15)
        np.testing.assert_allclose(x, seen, rtol=1e-6, atol=1e-9)
        assert (reward, flags, info) == (0.0, [False, False], {})
        stopped += ours.state.tolist() == [-1.2, 0.0]
    assert stopped > 10


def test_steps_are_those_of_the_continuous_car(rng):
    theirs = gymnasium.make("MountainCarContinuous-v0").unwrapped
    ours, stopped = MountainCarWalledEnv(continuous=True), 0
    for state in states(rng):
        action = rng.uniform(-1.5, 1.5, 1).astype(np.float32)  # what is beyond 1 is cut off
        theirs.state, ours.state = state, state
        seen, *_ = theirs.step(action)
        x, reward, *flags, _ = ours.step(action)
        np.testing.assert_allclose(x, seen, rtol=1e-6, atol=1e-8)
        assert (reward, flags) == (0.0, [False, False])
        stopped += x[1] == 0.0
    assert stopped > 10


@pytest.mark.parametrize("continuous", [False, True])
def test_starts_are_those_of_gymnasium(continuous):
    theirs = gymnasium.make("MountainCarContinuous-v0")
    ours = gymnasium.make(ID, continuous=continuous)
    for seed in range(20):
        np.testing.assert_array_equal(ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(ours.unwrapped)


def test_the_right_wall_stops_the_car_and_lets_it_go():
    env = MountainCarWalledEnv()
    env.state = np.array([0.43, 0.05])
    assert env.step(2)[0].tolist() == [np.float32(0.45), 0.0]
    v = 0.0015 - 0.0025 * np.cos(3 * 0.45)  # its engine holds it at the wall
    assert v > 0
    assert env.step(2)[0].tolist() == [np.float32(0.45), 0.0]
    v = -0.0015 - 0.0025 * np.cos(3 * 0.45)
    np.testing.assert_allclose(env.step(0)[0], [0.45 + v, v], rtol=1e-6)


def test_a_goal_pays_once_and_ends_the_episode():
    env = MountainCarWalledEnv(goal=0.44)
    env.state = np.array([0.42, 0.01])
    assert env.step(2)[1:4] == (0.0, False, False)
    env.state = np.array([0.42, 0.03])
    assert env.step(2)[1:4] == (1.0, True, False)
    at_the_wall = MountainCarWalledEnv(goal=0.45)
    at_the_wall.state = np.array([0.44, 0.03])
    assert at_the_wall.step(2)[1:4] == (1.0, True, False)
    for goal in (-0.4, 0.5):
        with pytest.raises(InputError, match=r"goal must be in \(-0.4, 0.45\]"):
            MountainCarWalledEnv(goal=goal)


def test_at_the_wall_the_car_is_in_the_column_before_the_last():
    env = MountainCarWalledEnv()
    assert env.feature_bins == (12, 11)
    assert env.feature_ranges == ((-1.2, 0.6), (-0.07, 0.07))
    x = env.features(env.observe(np.array([[0.45, 0.0]])))[0, 0]
    assert int((x + 1.2) / 1.8 * 12) == 10
    assert env.features(env.observe(np.array([[-1.2, -0.07]])))[0, 0] >= -1.2 - 1e-7


def test_episodes_last_400_steps():
    slots = gymnasium.make_vec(ID, 5, continuous=True)
    seen, _ = slots.reset(seed=0)
    for t in range(400):  # pushed along, it swings up, and meets the right wall
        seen, rewards, terminated, truncated, _ = slots.step(np.sign(seen[:, 1:] + 1e-9))
        assert not rewards.any()
        assert not terminated.any()
        assert truncated.all() == truncated.any() == (t == 399)
        if t == 200:
            assert slots.states[:, 0].max() == 0.45


def test_random_play_visits_as_the_reference_did(rng):
    """Measured elsewhere: 2.89 nats pooled, from seed to seed 0.051."""
    pooled, _, bins = random_visits(ID, lambda n: rng.integers(0, 3, n))
    assert pooled == pytest.approx(2.89, abs=4 * 0.051)
    assert bins <= 121


def test_pictures_show_the_car_on_its_road():
    env = MountainCarWalledEnv(render_mode="rgb_array")
    for x in (-1.1, -0.5, 0.4):
        env.state = np.array([x, 0.0])
        frame = env.render()
        assert frame.shape == (320, 528, 3)
        rows, columns = np.nonzero((frame == POINT).all(axis=-1))
        assert columns.mean() == pytest.approx((x + 1.2) * 320, abs=1)
        assert (0.55 - 0.35 * np.sin(3 * x)) * 320 - rows.mean() == pytest.approx(9, abs=1)
    text = MountainCarWalledEnv(render_mode="ansi")
    for x, column in ((-1.2, 1), (0.45, 33), (-0.51, 14)):
        text.state = np.array([x, -0.0125])
        road, speed, end = text.render().split("\n")
        assert (len(road), road.index("o"), speed, end) == (35, column, "speed -0.0125", "")


def test_unknown_render_modes_are_refused():
    with pytest.raises(InputError, match="render_mode must be one of ansi, rgb_array, got 'human'"):
        MountainCarWalledEnv(render_mode="human")
