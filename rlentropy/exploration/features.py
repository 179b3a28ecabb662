"""Features: what of an observation counts when states are told apart (exploration §8.4).

Observations become *points*, (n, d), in units where the range of each feature is [0, 1]; the bins
of that box are the *cells* of histograms. Ranges are an environment's own (`feature_ranges`), those
in which the literature draws it, the bounds of its space, or else what random actions see of it,
from seeds that are always the same: entropies of different runs and algorithms can be compared.

An environment declares features by attributes: `feature_names`, `feature_ranges` ((low, high) of
each), `feature_bins`, and a method `features`, observations (n, *shape) -> (n, d). Where a wrapper
shows observations of another space, nothing is known of them but that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete

from rlentropy.errors import InputError
from rlentropy.neural.episodes import Player
from rlentropy.neural.spaces import Encoder
from rlentropy.policies import random
from rlentropy.types import Array, Count, Env

MOST_CELLS = 2**22
MOST_FEATURES = 12
LARGEST_BOUND = 1e6  # a larger one is a way to say that there is none
WIDER = 4.0  # than what random actions see, where nothing else gives a range

Points = Array  # (..., d)
Axis = tuple[str, float, float, int]  # name, low, high, bins


@dataclass(frozen=True)
class Features:
    """d numbers that count, their ranges and bins."""

    names: tuple[str, ...]
    low: Array  # (d,), in the features' own units
    high: Array  # (d,)
    bins: tuple[int, ...]  # (d,)
    of: Callable[[Any], Any]  # observations (n, *shape) -> (n, d)
    discrete: bool = False  # a state is a cell, and has no density

    @property
    def num_cells(self) -> int:
        return math.prod(self.bins)

    @property
    def axes(self) -> tuple[Axis, ...]:
        ends = zip(self.names, self.low.tolist(), self.high.tolist(), self.bins, strict=True)
        return tuple(ends)

    def shown(self, counts: Count) -> Count:
        """Visits of cells, summed over all features but the first two, for a picture."""
        table = counts.reshape(self.bins).sum(axis=tuple(range(2, len(self.bins))))
        return np.ravel(table)

    @property
    def log_volume(self) -> float:
        """Of the box, in the features' own units."""
        return float(np.log(self.high - self.low).sum())

    def points(self, observations: Any) -> Points:
        """Observations (n, *shape) in units of the box, (n, d); beyond it outside of [0, 1]^d.

        Raises:
            InputError: an environment's own features are not finite, or not so many.
        """
        own = np.asarray(self.of(observations), np.float64)
        if own.shape != (shape := (len(observations), len(self.names))):
            raise InputError(f"features must be {shape} of so many observations, got {own.shape}")
        if not np.isfinite(own).all():
            raise InputError("features must be finite, got others")
        scaled: Points = (own - self.low) / (self.high - self.low)
        return scaled

    def cells(self, points: Points) -> Count:
        """Cells of points (..., d), (...); those beyond the box belong to its outermost bins."""
        index = np.zeros(points.shape[:-1], np.int64)
        for k, bins in enumerate(self.bins):
            column = np.clip(points[..., k] * bins, 0, bins - 1).astype(np.int64)
            index = index * bins + column
        return index


def features_of(env: Env, chosen: str = "", bins: str = "", ranges: str = "") -> Features:
    """The features of an environment.

    Args:
        chosen: coordinates of the flattened observation, "0,1"; default: those that the environment
            declares or the literature draws, else all.
        bins: of each, "12,11".
        ranges: of each, "-1.2:0.6,-0.07:0.07".

    Raises:
        InputError: an option doesn't suit the environment's observations.
    """
    if isinstance(space := env.observation_space, Discrete):
        if chosen not in ("", "0") or bins or ranges:
            raise InputError(
                f"features, bins and ranges must be left out for {space}, of which each state is "
                f"a cell, got {chosen or bins or ranges}"
            )
        if space.n > MOST_CELLS:
            raise InputError(f"env must have at most {MOST_CELLS} states, got {space}")
        return states(space)
    axes, of = axes_of(env, chosen, ranges)
    d = len(axes)
    low, high = (np.array([axis[k] for axis in axes], np.float64) for k in (1, 2))
    if ranges:
        low, high = parsed_ranges(ranges, d).T
    counts = parsed_bins(bins, d) if bins else [axis[3] for axis in axes]
    if not all(counts):
        counts = [default_bins(d)] * d
    if math.prod(counts) > MOST_CELLS:
        raise InputError(f"bins must make at most {MOST_CELLS} cells, got {counts}")
    return Features(tuple(axis[0] for axis in axes), low, high, tuple(counts), of)


def states(space: Discrete) -> Features:
    """The states of a Discrete space, each a cell."""
    first, n = int(space.start), int(space.n)
    low, high = np.array([first - 0.5]), np.array([first + n - 0.5])
    return Features(("state",), low, high, (n,), as_column, discrete=True)


def as_column(observations: Any) -> Array:
    return np.asarray(observations, np.float64).reshape(-1, 1)


def axes_of(env: Env, chosen: str, ranges: str) -> tuple[list[Axis], Callable[[Any], Any]]:
    """The axes of an environment, and how observations become numbers on them."""
    inner: Any = env.unwrapped
    width = Encoder.of(env.observation_space).width
    if not width:
        raise InputError(f"env must show at least one number, got {env.observation_space}")
    own = env.observation_space == inner.observation_space  # else a wrapper shows something else
    env_id = env.spec.id if env.spec and own else ""
    if own and not chosen and hasattr(inner, "feature_names"):
        return declared(inner), inner.features
    if not chosen and env_id.startswith("Pendulum-"):
        return [("angle", 0.0, math.pi, 8), ("speed", -8.0, 8.0, 8)], folded
    known = drawn(env_id, width)
    index = coordinates(chosen, width) or tuple(known) or tuple(range(width))
    if len(index) > MOST_FEATURES:
        hidden = getattr(inner, "_exclude_current_positions_from_observation", False)  # of MuJoCo's
        hint = (
            ", after env_kwargs exclude_current_positions_from_observation false" if hidden else ""
        )
        raise InputError(
            f"features must name at most {MOST_FEATURES} of the {width} coordinates of an "
            f"observation (--features 0,1{hint}), got {len(index)}"
        )
    axes = [known.get(k) or ("", math.nan, math.nan, 0) for k in index]
    return completed(axes, env, index, bool(ranges)), Coordinates(index)


def declared(env: Any) -> list[Axis]:
    """The axes that an environment declares.

    Raises:
        InputError: it has not a range and a number of bins for each name.
    """
    try:
        rows = zip(env.feature_names, env.feature_ranges, env.feature_bins, strict=True)
        axes = [(str(name), float(low), float(high), int(n)) for name, (low, high), n in rows]
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"env must declare a range and bins of each feature, got {error}"
        ) from None
    if not all(low < high and bins >= 1 for _, low, high, bins in axes):
        raise InputError(f"env must declare ranges LO < HI and bins >= 1, got {axes}")
    return axes


@dataclass(frozen=True)
class Coordinates:
    """Some of the numbers of an observation."""

    index: tuple[int, ...]

    def __call__(self, observations: Any) -> Array:
        flat = np.asarray(observations).reshape(len(observations), -1)
        return flat[:, self.index].astype(np.float64)


def folded(observations: Any) -> Array:
    """Of a pendulum (cos, sin, speed): the angle without its sign, in [0, π], and the speed."""
    angle = np.arccos(np.clip(observations[:, 0], -1.0, 1.0))
    return np.stack([angle, observations[:, 2]], axis=1).astype(np.float64)


def drawn(env_id: str, width: int) -> dict[int, Axis]:
    """Coordinates that the literature draws, with its ranges and bins (exploration §8.4).

    MuJoCo's torsos have places where observations hold them.
    """
    name = env_id.rpartition("/")[2].partition("-")[0]
    return DRAWN.get((name, width), {})


DRAWN: dict[tuple[str, int], dict[int, Axis]] = {
    ("MountainCar", 2): {0: ("position", -1.2, 0.6, 12), 1: ("velocity", -0.07, 0.07, 11)},
    ("MountainCarContinuous", 2): {
        0: ("position", -1.2, 0.6, 12),
        1: ("velocity", -0.07, 0.07, 11),
    },
    ("Ant", 29): {0: ("x", -12.0, 12.0, 40), 1: ("y", -12.0, 12.0, 40)},
    ("HalfCheetah", 18): {0: ("x", -20.0, 20.0, 20), 9: ("x velocity", -5.0, 5.0, 15)},
    ("Walker2d", 18): {0: ("x", -20.0, 20.0, 20), 9: ("x velocity", -8.0, 8.0, 20)},
    ("Swimmer", 10): {0: ("x", -12.0, 12.0, 10), 1: ("y", -12.0, 12.0, 10)},
}


def default_bins(d: int) -> int:
    """Bins of each of d features: few enough that visits fill them."""
    return {1: 50, 2: 20, 3: 10, 4: 6}.get(d) or max(2, int(4096 ** (1.0 / d)))


def completed(axes: list[Axis], env: Env, index: tuple[int, ...], given: bool) -> list[Axis]:
    """Axes with names, and ranges where none are known: of the space, or of what random play sees.

    Args:
        given: the ranges are typed, and needn't be found.
    """
    space: Any = env.observation_space
    flat = np.stack([np.ravel(getattr(space, end, np.nan)) for end in ("low", "high")], axis=-1)
    if not hasattr(space, "low"):  # MultiBinary, MultiDiscrete
        sizes = np.ravel(getattr(space, "nvec", np.full(space.shape, 2)))
        start = np.broadcast_to(np.ravel(getattr(space, "start", 0)), sizes.shape)
        flat = np.stack([start - 0.5, start + sizes - 0.5], axis=-1)
    seen: Array | None = None
    found: list[Axis] = []
    for k, (name, low, high, bins) in zip(index, axes, strict=True):
        if math.isnan(low) and not given:
            low, high = flat[k].tolist()
            if not (max(abs(low), abs(high)) <= LARGEST_BOUND and low < high):
                seen = seen_ranges(env) if seen is None else seen
                low, high = seen[k].tolist()
        found.append((name or f"x{k}", low, high, bins))
    return found


def seen_ranges(env: Env, episodes: int = 10, steps: int = 1000) -> Array:
    """Ranges of all coordinates, (width, 2): WIDER than those of random actions, seeds 0, 1, …"""
    limit = env.spec.max_episode_steps if env.spec else None
    player = Player(env, episodes, min(limit or steps, steps))
    played = player.play(random(env), range(episodes), np.random.default_rng(0))
    player.close()
    x = played.observations[:, 1:][played.real].astype(np.float64)
    x = x.reshape(len(x), -1)
    middle, reach = x.mean(axis=0), np.abs(x - x.mean(axis=0)).max(axis=0)
    reach = WIDER * np.where(reach > 1e-6, reach, 1.0)
    return np.stack([middle - reach, middle + reach], axis=1)


def coordinates(text: str, width: int) -> tuple[int, ...]:
    """Coordinates in "0,1", which must be different ones of width."""
    index = numbers("features", text, int)
    if len(set(index)) < len(index) or not all(0 <= k < width for k in index):
        raise InputError(f"features must be different coordinates of 0..{width - 1}, got {text!r}")
    return tuple(index)


def parsed_bins(text: str, d: int) -> Count:
    bins = numbers("bins", text, int)
    if len(bins) != d or min(bins) < 1:
        raise InputError(f"bins must be {d} whole numbers >= 1, one a feature, got {text!r}")
    return np.array(bins)


def parsed_ranges(text: str, d: int) -> Array:
    """Ranges "LO:HI,LO:HI", (d, 2)."""
    pairs = [numbers("ranges", part.replace(":", ",", 1), float) for part in text.split(",")]
    good = len(pairs) == d and all(len(pair) == 2 and pair[0] < pair[1] for pair in pairs)
    if not good or not np.isfinite(pairs).all():
        raise InputError(
            f"ranges must be {d} of the form LO:HI with LO < HI, one a feature, got {text!r}"
        )
    return np.array(pairs)


def numbers(name: str, text: str, kind: Callable[[str], Any]) -> list[Any]:
    """Numbers that commas separate.

    Raises:
        InputError: they are none.
    """
    try:
        return [kind(part) for part in text.split(",")] if text else []
    except ValueError:
        raise InputError(f"{name} must be numbers with commas between, got {text!r}") from None
