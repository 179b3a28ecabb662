"""Scales of observations, by bounds and by what was seen."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

pytest.importorskip("torch")

from rlentropy.exploration.scaling import InputScaling


def test_bounded_coordinates_are_scaled_to_their_bounds(rng):
    low, high = np.array([-1.2, -0.07, 3.0]), np.array([0.6, 0.07, 5.0])
    scaling = InputScaling(Box(low, high, dtype=np.float64))
    before = scaling.now()
    scaling.update(rng.normal(size=(100, 3)).astype(np.float32))
    for mean, deviation in (before, scaling.now()):
        np.testing.assert_allclose((low - mean) / deviation, -1.0)
        np.testing.assert_allclose((high - mean) / deviation, 1.0)
    assert scaling.width == 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("far", [np.inf, 3.4e38, 2e6])
def test_the_others_follow_what_was_seen(far, dtype, rng):
    """Only the second has bounds; the fourth is of one number alone, the last never changes."""
    low = np.array([-far, -2.0, 0.0, 1.0, -far]).astype(dtype)
    high = np.array([far, 2.0, far, 1.0, far]).astype(dtype)
    scaling = InputScaling(Box(low, high, dtype=dtype))
    mean, deviation = scaling.now()
    np.testing.assert_array_equal(mean, np.zeros(5))
    np.testing.assert_array_equal(deviation, [1.0, 2.0, 1.0, 1.0, 1.0])
    rows = rng.normal([5.0, 0.0, -3.0, 1.0, 7.0], [2.0, 1.0, 0.1, 0.0, 0.0], (600, 5))
    rows = rows.astype(np.float32)
    for part in np.split(rows, [1, 50, 400]):
        scaling.update(part)
    mean, deviation = scaling.now()
    exact = rows.astype(np.float64)
    np.testing.assert_allclose(mean[[0, 2, 3, 4]], exact.mean(0)[[0, 2, 3, 4]], rtol=1e-9)
    np.testing.assert_allclose(deviation[[0, 2]], exact.std(0)[[0, 2]], rtol=1e-6)
    assert (mean[1], deviation[1]) == (0.0, 2.0)
    np.testing.assert_array_equal(deviation[3:], [1.0, 1.0])


def test_one_hot_rows_are_left_as_they_are(rng):
    scaling = InputScaling(Discrete(4, start=2))
    scaling.update(np.eye(4, dtype=np.float32))
    mean, deviation = scaling.now()
    np.testing.assert_array_equal(mean, np.zeros(4))
    np.testing.assert_array_equal(deviation, np.ones(4))


@pytest.mark.parametrize("space", [MultiDiscrete([3, 50]), MultiBinary(2)])
def test_whole_numbers_follow_what_was_seen(space, rng):
    scaling = InputScaling(space)
    rows = rng.integers([2, 2], [3, 50], (300, 2)).astype(np.float32)
    scaling.update(rows)
    mean, deviation = scaling.now()
    np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(deviation, [1.0, rows[:, 1].std()], rtol=1e-5)


def test_pictures_are_flattened():
    scaling = InputScaling(Box(0, 255, (2, 3), np.uint8))
    mean, deviation = scaling.now()
    np.testing.assert_array_equal(mean, np.full(6, 127.5))
    np.testing.assert_array_equal(deviation, np.full(6, 127.5))


def test_a_state_goes_on_as_it_was(rng):
    space = Box(-np.inf, np.inf, (2,), np.float64)
    one, two = InputScaling(space), InputScaling(space)
    one.update(rng.normal(size=(30, 2)).astype(np.float32))
    two.load_state_dict(one.state_dict())
    rows = rng.normal(size=(5, 2)).astype(np.float32)
    for each in (one, two):
        each.update(rows)
    for a, b in zip(one.now(), two.now(), strict=True):
        np.testing.assert_array_equal(a, b)
