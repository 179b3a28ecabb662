"""Features and cells, against np.histogramdd and by hand."""

import math

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

pytest.importorskip("torch")

import rlentropy  # noqa: F401
from rlentropy.errors import InputError
from rlentropy.exploration.features import (
    MOST_CELLS,
    WIDER,
    default_bins,
    features_of,
)

ZERO, ONE = np.float32(0.0), np.float32(1.0)


class Space(gymnasium.Env):
    """Shows what its space draws; any observations."""

    action_space = Discrete(2)

    def __init__(self, space):
        self.observation_space = space

    def seen(self):
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.seen(), {}

    def step(self, action):
        return self.seen(), 0.0, False, False, {}


class Free(Space):
    """Without bounds: normal numbers with a mean and a deviation, the last of which stays 3."""

    def __init__(self, low=-np.inf, high=np.inf):
        super().__init__(Box(low, high, (3,), np.float64))

    def seen(self):
        return np.array([*self.np_random.normal([5.0, -1.0], [0.1, 2.0]), 3.0])


def box(low, high, dtype=np.float32):
    return Space(Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype))


def cells_of(features, observations):
    return features.cells(features.points(np.asarray(observations)))


# ---------------------------------------------------------------- cells


@pytest.mark.parametrize("bins", [(7,), (3, 5), (2, 4, 3)])
def test_cells_by_numpy(bins, rng):
    d = len(bins)
    low, high = rng.normal(size=d) - 2.0, rng.normal(size=d) + 3.0
    env = box(low, high, np.float64)
    features = features_of(env, bins=",".join(map(str, bins)))
    x = rng.uniform(low, high, (5000, d))
    counts = np.histogramdd(x, bins, list(zip(low, high, strict=True)))[0]
    found = np.bincount(cells_of(features, x), minlength=math.prod(bins))
    np.testing.assert_array_equal(found, counts.ravel())
    assert features.num_cells == math.prod(bins)
    np.testing.assert_array_equal(
        features.shown(found), counts.reshape(*bins[:2], -1).sum(-1).ravel()
    )
    assert features.log_volume == pytest.approx(math.log(np.prod(high - low)))
    points = features.points(x)
    assert points.dtype == np.float64
    np.testing.assert_allclose(low + points * (high - low), x)


def test_cells_of_many_axes_keep_their_shape(rng):
    features = features_of(box([0, 0], [1, 1]), bins="4,4")
    points = rng.random((3, 5, 2))
    found = features.cells(points)
    assert found.shape == (3, 5)
    np.testing.assert_array_equal(found.ravel(), features.cells(points.reshape(-1, 2)))


def test_what_is_beyond_the_box_is_in_its_outermost_bins():
    features = features_of(box([0.0, -1.0], [1.0, 1.0]), bins="4,2")
    x = np.array([[1.0, 1.0], [1e30, -1e30], [-5.0, 0.0], [-0.0, -1.0], [np.nextafter(1, 2), 0]])
    assert cells_of(features, x).tolist() == [7, 6, 1, 0, 7]


def test_the_wall_of_the_mountain_car_is_in_the_column_before_the_last():
    """(0.45 + 1.2) / 0.15 is 11 but for rounding; float32 has 0.45 just below it."""
    env = gymnasium.make("rlentropy/MountainCarWalled-v0")
    features = features_of(env)
    assert features.bins == (12, 11)
    wall = np.array([[0.45, 0.0], [-1.2, 0.0]], np.float32)
    assert (cells_of(features, wall) // 11).tolist() == [10, 0]
    single = ((wall[0, 0] + np.float32(1.2)) / np.float32(1.8)) * np.float32(12)
    assert int(single) == 11  # what arithmetic in float32 would say


@pytest.mark.parametrize("bins", [10, 12, 20, 40])
def test_edges_that_float32_holds_are_where_float64_puts_them(bins):
    features = features_of(box([0.0], [1.0]), bins=str(bins))
    edges = (np.arange(bins) / bins).astype(np.float32)
    exact = [math.floor(float(x) * bins) for x in edges]
    assert cells_of(features, edges[:, None]).tolist() == exact


# ---------------------------------------------------------------- kinds of observations


@pytest.mark.parametrize("start", [0, 3, -2])
def test_states_are_cells(start):
    features = features_of(Space(Discrete(5, start=start)))
    assert features.discrete
    assert features.names == ("state",)
    states = np.arange(start, start + 5)
    assert cells_of(features, states).tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(features.points(states)[:, 0], [0.1, 0.3, 0.5, 0.7, 0.9])


def test_many_states_are_cells_each():
    n = 50_021
    features = features_of(Space(Discrete(n, start=7)))
    np.testing.assert_array_equal(cells_of(features, np.arange(7, 7 + n)), np.arange(n))


@pytest.mark.parametrize("start", [None, np.array([2, -1])])
def test_whole_numbers_have_bins_around_them(start):
    space = MultiDiscrete([3, 4]) if start is None else MultiDiscrete([3, 4], start=start)
    features = features_of(Space(space), bins="3,4")
    first = np.zeros(2, int) if start is None else start
    x = [[first[0] + i, first[1] + j] for i in range(3) for j in range(4)]
    assert cells_of(features, x).tolist() == list(range(12))
    assert not features.discrete


def test_bits_have_two_bins():
    features = features_of(Space(MultiBinary(3)), bins="2,2,2")
    x = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], np.int8)
    assert cells_of(features, x).tolist() == list(range(8))


def test_pictures_are_flattened(rng):
    env = Space(Box(0, 255, (2, 3), np.uint8))
    features = features_of(env, "5,0", bins="2,2")
    x = rng.integers(256, size=(100, 2, 3)).astype(np.uint8)
    slow = 2 * (x[:, 1, 2] >= 127.5) + (x[:, 0, 0] >= 127.5)
    np.testing.assert_array_equal(cells_of(features, x), slow)
    assert features.names == ("x5", "x0")


# ---------------------------------------------------------------- ranges


def test_bounds_are_the_ranges_of_chosen_coordinates():
    features = features_of(box([-1.0, 0.0, 2.0], [1.0, 5.0, 3.0]), "2,0")
    assert features.axes == (("x2", 2.0, 3.0, 20), ("x0", -1.0, 1.0, 20))


def test_ranges_and_bins_that_are_typed():
    features = features_of(box([0.0, 0.0], [1.0, 1.0]), "1", "7", "-2.5:1e1")
    assert features.axes == (("x1", -2.5, 10.0, 7),)


@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (-1e30, 1e30), (-1.0, np.inf)])
def test_without_bounds_ranges_are_those_of_random_play(bounds):
    """4 times as far from the mean as the farthest that random actions see."""
    features = features_of(Free(*bounds), bins="5,5,5")
    env, seen = Free(*bounds), []
    for seed in range(10):
        env.reset(seed=seed)
        seen += [env.step(0)[0] for _ in range(1000)]
    mean = np.mean(seen, axis=0)
    reach = WIDER * np.abs(seen - mean).max(axis=0)
    reach[2] = WIDER  # of a number that stays
    np.testing.assert_allclose(features.low, mean - reach, rtol=1e-9)
    np.testing.assert_allclose(features.high, mean + reach, rtol=1e-9)


def test_the_same_ranges_for_every_run():
    """Whatever was drawn from the environment's and its spaces' generators before."""
    found = []
    for seed in range(3):
        env = gymnasium.make("CartPole-v1")
        env.reset(seed=seed)
        env.action_space.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        features = features_of(env, bins="4,4,4,4")
        found.append((features.low.tolist(), features.high.tolist()))
    assert found[0] == found[1] == found[2]
    high = found[0][1]
    assert (high[0], high[2]) == pytest.approx((4.8, 0.41887903), rel=1e-6)  # the bounds
    assert 1.0 < high[1] < 30.0  # of a cart's speed there are none


# ---------------------------------------------------------------- declared and known ones


class Declared(Space):
    feature_names, feature_bins = ("radius",), (6,)
    feature_ranges = ((0.0, 2.0),)

    def __init__(self):
        super().__init__(Box(-1.0, 1.0, (2,), np.float32))

    def features(self, observations):
        return np.hypot(observations[:, 0], observations[:, 1])[:, None]


def test_an_environment_declares_features(rng):
    features = features_of(Declared())
    assert features.axes == (("radius", 0.0, 2.0, 6),)
    x = rng.uniform(-1, 1, (500, 2)).astype(np.float32)
    slow = np.floor(np.sqrt((x.astype(float) ** 2).sum(1)) / 2.0 * 6).astype(int)
    np.testing.assert_array_equal(cells_of(features, x), slow)


def test_declared_features_take_other_bins_and_ranges_and_give_way_to_chosen_ones():
    features = features_of(Declared(), bins="3", ranges="0:1")
    assert features.axes == (("radius", 0.0, 1.0, 3),)
    assert features_of(Declared(), "1,0").names == ("x1", "x0")


def test_wrapped_observations_are_not_those_that_were_declared():
    """Of another space they are coordinates like any; of the same, the environment's own."""
    shown = Box(0.0, 1.0, (2,), np.float32)
    flat = gymnasium.wrappers.RescaleObservation(Declared(), ZERO, ONE)
    assert features_of(flat).axes == (("x0", 0.0, 1.0, 20), ("x1", 0.0, 1.0, 20))
    assert features_of(gymnasium.wrappers.TimeLimit(Declared(), 5)).names == ("radius",)
    for env_id, names in (("Pendulum-v1", ("x0", "x1", "x2")), ("MountainCar-v0", ("x0", "x1"))):
        env = gymnasium.wrappers.RescaleObservation(gymnasium.make(env_id), ZERO, ONE)
        features = features_of(env)
        assert features.names == names
        assert features.low.tolist() == [0.0] * len(names)
    assert flat.observation_space == shown


def test_pendulums_have_folded_angles(rng):
    features = features_of(gymnasium.make("Pendulum-v1"))
    angle, speed = rng.uniform(-np.pi, np.pi, 1000), rng.uniform(-8, 8, 1000)
    x = np.stack([np.cos(angle), np.sin(angle), speed], axis=1)
    counts = np.histogram2d(np.abs(angle), speed, 8, [[0, np.pi], [-8, 8]])[0]
    found = np.bincount(cells_of(features, x), minlength=64)
    np.testing.assert_array_equal(found, counts.ravel())
    ends = np.array([[1.0 + 1e-7, 0.0, 0.0], [-1.0 - 1e-7, 0.0, 0.0]], np.float32)
    assert (cells_of(features, ends) // 8).tolist() == [0, 7]


def test_mountain_cars_have_the_bins_of_hazan_et_al():
    for env_id in ("MountainCar-v0", "MountainCarContinuous-v0"):
        assert features_of(gymnasium.make(env_id)).axes == (
            ("position", -1.2, 0.6, 12),
            ("velocity", -0.07, 0.07, 11),
        )
    chosen = features_of(gymnasium.make("MountainCar-v0"), "1")
    assert chosen.axes == (("velocity", -0.07, 0.07, 11),)


@pytest.mark.parametrize("name", ["ContinuousGrid", "PointMaze", "HangingPendulum"])
def test_our_environments_declare_theirs(name):
    env = gymnasium.make(f"rlentropy/{name}-v0")
    features, inner = features_of(env), env.unwrapped
    assert features.names == tuple(inner.feature_names)
    assert features.bins == tuple(inner.feature_bins)
    assert features.axes[0][1:3] == tuple(inner.feature_ranges[0])


@pytest.mark.parametrize(
    ("env_id", "names"),
    [
        ("Ant-v5", ("x", "y")),
        ("HalfCheetah-v5", ("x", "x velocity")),
        ("Walker2d-v5", ("x", "x velocity")),
        ("Swimmer-v5", ("x", "y")),
    ],
)
def test_torsos_have_places_where_observations_hold_them(env_id, names):
    """Against the simulator's own state: coordinates of its positions and speeds."""
    pytest.importorskip("mujoco")
    known = {"exclude_current_positions_from_observation": False}
    if env_id == "Ant-v5":
        known["include_cfrc_ext_in_observation"] = False
    env = gymnasium.make(env_id, **known)
    features = features_of(env)
    assert features.names == names
    env.reset(seed=0)
    for _ in range(30):
        seen = env.step(env.action_space.sample() * 0.0 + 1.0)[0]
    data = env.unwrapped.data
    place = {"x": data.qpos[0], "y": data.qpos[1], "x velocity": data.qvel[0]}
    found = features.low + features.points(seen[None])[0] * (features.high - features.low)
    np.testing.assert_allclose(found, [place[name] for name in names], rtol=1e-6)


def test_torsos_without_places_have_too_many_coordinates():
    pytest.importorskip("mujoco")
    with pytest.raises(InputError, match="features must name at most 12 of the 17"):
        features_of(gymnasium.make("HalfCheetah-v5"))


# ---------------------------------------------------------------- bins by default, refusals


def test_default_bins_fill_about_as_many_cells():
    assert [default_bins(d) for d in (1, 2, 3, 4)] == [50, 20, 10, 6]
    for d in range(5, 13):
        assert 2**d <= default_bins(d) ** d <= 4096
    for d in (1, 3, 5):
        features = features_of(box([0.0] * d, [1.0] * d))
        assert features.bins == (default_bins(d),) * d


@pytest.mark.parametrize(
    ("chosen", "bins", "ranges", "message"),
    [
        ("2", "", "", r"features must be different coordinates of 0\.\.1, got '2'"),
        ("0,0", "", "", "features must be different coordinates"),
        ("-1", "", "", "features must be different coordinates"),
        ("x", "", "", "features must be numbers with commas between, got 'x'"),
        ("0,", "", "", "features must be numbers with commas between"),
        ("", "3", "", "bins must be 2 whole numbers >= 1, one a feature, got '3'"),
        ("", "3,0", "", "bins must be 2 whole numbers >= 1"),
        ("", "3.5,2", "", "bins must be numbers with commas between"),
        ("", "3000,3000", "", f"bins must make at most {MOST_CELLS} cells"),
        ("", "", "0:1", "ranges must be 2 of the form LO:HI with LO < HI, one a feature"),
        ("", "", "0:1,1:0", "ranges must be 2 of the form"),
        ("", "", "0:1,0:inf", "ranges must be 2 of the form"),
        ("", "", "0:1,nan:1", "ranges must be 2 of the form"),
        ("", "", "0:1,1", "ranges must be 2 of the form"),
        ("", "", "0:1:2,0:1", "ranges must be numbers with commas between"),
        ("", "", "0:1,,0:1", "ranges must be 2 of the form"),
        ("", "", "a:b,0:1", "ranges must be numbers with commas between"),
    ],
)
def test_refused_options(chosen, bins, ranges, message):
    with pytest.raises(InputError, match=message):
        features_of(box([0.0, 0.0], [1.0, 1.0]), chosen, bins, ranges)


@pytest.mark.parametrize("options", [("0,1",), ("1",), ("", "5"), ("", "", "0:1")])
def test_states_take_no_options(options):
    with pytest.raises(InputError, match="features, bins and ranges must be left out for Discrete"):
        features_of(Space(Discrete(5)), *options)


def test_the_only_number_of_a_state_may_be_named():
    assert features_of(Space(Discrete(5)), "0").bins == (5,)


def test_too_many_coordinates_must_be_chosen():
    env = box([0.0] * 13, [1.0] * 13)
    with pytest.raises(InputError, match=r"at most 12 of the 13 coordinates .* got 13"):
        features_of(env)
    assert features_of(env, "12,0").names == ("x12", "x0")


def test_too_many_states_are_refused():
    with pytest.raises(InputError, match=f"env must have at most {MOST_CELLS} states"):
        features_of(Space(Discrete(MOST_CELLS + 1)))


@pytest.mark.parametrize(
    ("names", "ranges", "bins", "message"),
    [
        (("a", "b"), ((0.0, 1.0),), (2,), "declare a range and bins of each feature"),
        (("a",), (0.0, 1.0), (2,), "declare a range and bins of each feature"),
        (("a",), ((1.0, 1.0),), (2,), r"declare ranges LO < HI and bins >= 1, got \[\('a'"),
        (("a",), ((0.0, np.nan),), (2,), "declare ranges LO < HI"),
        (("a",), ((0.0, 1.0),), (0,), "declare ranges LO < HI and bins >= 1"),
    ],
)
def test_declarations_that_are_none(names, ranges, bins, message):
    env = Declared()
    env.feature_names, env.feature_ranges, env.feature_bins = names, ranges, bins
    with pytest.raises(InputError, match=message):
        features_of(env)


def test_features_that_are_none():
    env = Declared()
    features = features_of(env)
    with pytest.raises(InputError, match="features must be finite, got others"):
        features.points(np.full((4, 2), np.nan))
    env.features = lambda observations: observations[:, 0]
    with pytest.raises(InputError, match=r"features must be \(4, 1\) .* got \(4,\)"):
        features_of(env).points(np.zeros((4, 2)))


def test_observations_of_nothing_are_refused():
    with pytest.raises(InputError, match=r"env must show at least one number, got Box"):
        features_of(Space(Box(-1.0, 1.0, (0,), np.float32)))


def test_other_observations_are_refused():
    with pytest.raises(InputError, match="observations must be of a Box, Discrete, MultiDiscrete"):
        features_of(Space(Dict(x=Discrete(2))))
