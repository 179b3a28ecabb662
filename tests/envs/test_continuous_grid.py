"""The continuous grid against its walls as a list of rectangles, and exact areas."""

import itertools
import warnings
from fractions import Fraction

import gymnasium
import numpy as np
import pytest
from examples.random_play import random_visits
from gymnasium.utils.env_checker import check_env

import rlentropy  # noqa: F401  (registers the id)
from rlentropy.envs.continuous_grid import AREA, ContinuousGridEnv, free
from rlentropy.envs.raster import GOAL, POINT, WALL
from rlentropy.errors import InputError

ID = "rlentropy/ContinuousGrid-v0"
WALLS = (  # left, right, bottom, top
    (-1.25, 1.25, -2.5, 2.5),
    (-2.5, 2.5, -1.25, 1.25),
    (-6.0, -3.5, -1.25, 1.25),
    (3.5, 6.0, -1.25, 1.25),
    (-1.25, 1.25, -6.0, -3.5),
    (-1.25, 1.25, 3.5, 6.0),
)
CUTS = (-6, -3.5, -2.5, -1.25, 1.25, 2.5, 3.5, 6)  # all edges of walls, of both axes


def is_free(x, y):
    walled = any(a <= x <= b and c <= y <= d for a, b, c, d in WALLS)
    return -6 < x < 6 and -6 < y < 6 and not walled


def free_rectangles():
    """(left, right, bottom, top), in exact numbers, of which the free part consists."""
    sides = list(itertools.pairwise(map(Fraction, CUTS)))
    for (a, b), (c, d) in itertools.product(sides, sides):
        if free(np.array([float(a + b) / 2, float(c + d) / 2])):
            yield a, b, c, d


def test_the_free_part_is_what_its_rectangles_leave(rng):
    lattice = np.arange(-26, 27) / 4  # edges and corners too
    points = np.array([*itertools.product(lattice, lattice), *rng.uniform(-6.5, 6.5, (4000, 2))])
    np.testing.assert_array_equal(free(points), [is_free(x, y) for x, y in points])


def test_its_area_is_exact(rng):
    assert sum((b - a) * (d - c) for a, b, c, d in free_rectangles()) == Fraction(AREA)
    assert Fraction(AREA) == Fraction(401, 4)
    assert np.log(AREA) == pytest.approx(4.6077, abs=5e-5)
    n, share = 200_000, AREA / 144
    error = np.sqrt(share * (1 - share) / n)
    assert free(rng.uniform(-6, 6, (n, 2))).mean() == pytest.approx(share, abs=4 * error)


def test_288_bins_can_be_visited():
    env, width = ContinuousGridEnv(), Fraction(12, 20)
    assert (env.feature_ranges, env.feature_bins) == (((-6, 6), (-6, 6)), (20, 20))
    visited = set()
    for a, b, c, d in free_rectangles():  # bins with which it shares more than an edge
        columns, rows = (
            range((low + 6) // width, -(-(high + 6) // width)) for low, high in ((a, b), (c, d))
        )
        visited |= set(itertools.product(columns, rows))
    assert len(visited) == 288


def test_steps_by_hand(rng):
    """Long pushes, so that all walls are met; actions beyond the space are cut off."""
    env, refused = ContinuousGridEnv(), 0
    for seed in range(12):
        seen, _ = env.reset(seed=seed)
        x, y = env.state.tolist()
        push = rng.uniform(-0.5, 0.5, 2)
        for t in range(300):
            if t % 30 == 0:
                push = rng.uniform(-0.5, 0.5, 2).astype(np.float32)
            dx, dy = (min(max(float(u), -0.2), 0.2) for u in push)
            if is_free(x + dx, y + dy):
                x, y = x + dx, y + dy
            else:
                refused += 1
            seen, reward, *flags, info = env.step(push)
            assert (reward, flags, info) == (0.0, [False, False], {})
            np.testing.assert_array_equal(seen, np.array([x, y], np.float32))
    assert refused > 100


def test_starts_are_uniform_in_the_lower_left():
    starts = gymnasium.make_vec(ID, 2000)
    points, _ = starts.reset(seed=0)
    assert ((points >= -6) & (points <= -4)).all()
    n = len(points)
    np.testing.assert_allclose(points.mean(axis=0), -5, rtol=0, atol=4 * np.sqrt(1 / 3 / n))
    # The variance of (u - 5)² of a uniform u is 4/45.
    np.testing.assert_allclose(points.var(axis=0), 1 / 3, rtol=0, atol=4 * np.sqrt(4 / 45 / n))


def test_a_goal_pays_once_it_is_reached():
    env = gymnasium.make(ID, goal=(-4.0, -5.0), radius=0.3)
    env.reset(seed=0)
    env.unwrapped.state = np.array([-5.0, -5.0])
    steps = [env.step(np.array([0.2, 0.0], np.float32)) for _ in range(4)]
    assert [step[1:3] for step in steps] == [(0.0, False)] * 3 + [(1.0, True)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


@pytest.mark.parametrize("goal", [(5, 5), (2, 5), (5, 2)])
def test_the_goals_of_mepol_are_free(goal):
    assert ContinuousGridEnv(goal).goal == goal


def test_pictures_show_point_goal_and_walls():
    env = ContinuousGridEnv((5, 2), render_mode="rgb_array")
    env.state = np.array([-3.0, -5.0])
    frame = env.render()
    assert frame.shape == (480, 480, 3)
    assert tuple(frame[4 * 40, 11 * 40]) == GOAL
    assert tuple(frame[11 * 40, 3 * 40]) == POINT
    walls = (frame == WALL).all(axis=-1).sum()
    assert walls == (144 - AREA) * 40**2  # every edge lies between two pixels
    env = ContinuousGridEnv((5, 2), render_mode="ansi")
    env.state = np.array([-3.0, -5.0])
    lines = env.render().splitlines()
    assert [len(line) for line in lines] == [20] * 20
    assert (lines[6][18], lines[18][5]) == ("G", "o")
    assert "".join(lines).count("#") == 112  # bins whose middles are walled: 400 - 288
    env.state = np.nextafter([6.0, 6.0], 0.0)  # which is 20 bins from the left, rounded
    assert env.render()[19] == "o"
    assert ContinuousGridEnv().render() is None


def test_random_play_visits_as_the_reference_did(rng):
    """Measured elsewhere: 4.21 nats pooled, 3.21 an episode; 0.034, 0.010 from seed to seed."""
    pooled, per_episode, bins = random_visits(ID, lambda n: rng.uniform(-0.2, 0.2, (n, 2)))
    assert pooled == pytest.approx(4.21, abs=4 * 0.034)
    assert per_episode == pytest.approx(3.21, abs=4 * 0.010)
    assert bins <= 288


@pytest.mark.parametrize(("options", "message"), [
    ({"goal": (0, 0)}, r"goal must be a free point \(x, y\), got \(0, 0\)"),
    ({"goal": (6, 5)}, r"goal must be a free point \(x, y\), got \(6, 5\)"),
    ({"goal": (float("nan"), 5)}, r"goal must be a free point \(x, y\), got \(nan, 5\)"),
    ({"goal": 5}, r"goal must be a free point \(x, y\), got 5"),
    ({"goal": "ab"}, r"goal must be numbers \(x, y\), got str"),
    ({"radius": 0.0}, "radius must be > 0 and finite, got 0.0"),
    ({"render_mode": "human"}, "render_mode must be one of ansi, rgb_array, got 'human'"),
])  # fmt: skip
def test_wrong_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        ContinuousGridEnv(**options)
