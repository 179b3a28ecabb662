"""A point that steps through a walled square: the continuous gridworld of MEPOL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from rlentropy.envs.batched import ArrayEnv, BatchedEnv, Step
from rlentropy.envs.raster import GOAL, Frame, disc, paint
from rlentropy.errors import InputError, as_numbers, in_range
from rlentropy.types import Array, Mask

SIDE = 6.0  # the square is (-SIDE, SIDE)²
STRIDE = 0.2  # largest step along each axis
START = (-6.0, -4.0)  # of each coordinate of the start
AREA = 100.25  # of the free part; the largest differential entropy is its logarithm, 4.6077 nats
PIXELS = 40  # of a unit


class ContinuousGridEnv(ArrayEnv):  # type: ignore[misc]
    """Moves a point by up to 0.2 along each axis; a move that ends in a wall is not made.

    The square (-6, 6)² has a plus in its middle, whose arms are 2.5 wide and reach 2.5 from the
    centre, and a block of 2.5 x 2.5 in the middle of each side (Mutti, Pratissoli & Restelli, 2021,
    and their code). Observations are the position (x, y), actions the step, [-0.2, 0.2]². An
    episode starts uniformly in [-6, -4]². The reward is 0 unless there is a goal. The bins are
    20 x 20, of which 288 can be visited.

    Args:
        goal: (x, y), a free point, which pays 1 when it is reached and ends the episode; MEPOL's
            tasks have (5, 5), (2, 5) and (5, 2). None for no goal.
        radius: distance at which the goal is reached, > 0.
        render_mode: "ansi" (text, a character a bin, the point an o), "rgb_array" or None.

    Raises:
        InputError: the goal is no free point, or an option is out of range.
    """

    feature_names = ("x", "y")
    feature_ranges = ((-SIDE, SIDE), (-SIDE, SIDE))
    feature_bins = (20, 20)

    def __init__(
        self,
        goal: tuple[float, float] | None = None,
        radius: float = 0.1,
        *,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode)
        in_range("radius", radius, "(0, inf)")
        if goal is not None:
            point = as_numbers(goal, "goal", "(x, y)")
            if point.shape != (2,) or not free(point):
                raise InputError(f"goal must be a free point (x, y), got {goal!r}")
        self.goal, self.radius = goal, radius
        self.observation_space = Box(-SIDE, SIDE, (2,), np.float32)
        self.action_space = Box(-STRIDE, STRIDE, (2,), np.float32)

    def draw_start(self, rng: np.random.Generator) -> Sequence[float]:
        x, y = rng.uniform(*START, 2)
        return float(x), float(y)

    def advance(self, states: Array, actions: NDArray[Any]) -> Step:
        moved = states + np.minimum(np.maximum(actions.astype(np.float64), -STRIDE), STRIDE)
        after = np.where(free(moved)[:, None], moved, states)
        if self.goal is None:
            return after, np.zeros(len(after)), np.zeros(len(after), bool)
        reached = ((after - self.goal) ** 2).sum(axis=1) <= self.radius**2
        return after, reached.astype(np.float64), reached

    def text(self, state: Array) -> str:
        middles = (np.arange(20) - 9.5) * 0.6
        cells = np.where(free(lattice(middles)), " ", "#")
        for mark, place in (("G", self.goal), ("o", state)):
            if place is not None:
                column, row = (min(int((u + SIDE) / 0.6), 19) for u in place)
                cells[19 - row, column] = mark
        return "".join("".join(line) + "\n" for line in cells)

    def picture(self, state: Array) -> Frame:
        middles = (np.arange(2 * SIDE * PIXELS) + 0.5) / PIXELS - SIDE
        frame = paint(~free(lattice(middles)))
        if self.goal is not None:
            radius = max(self.radius, 0.15)
            disc(frame, *pixels(self.goal), radius * PIXELS, GOAL)
        disc(frame, *pixels(state), 0.15 * PIXELS)
        return frame


class ContinuousGridBatch(BatchedEnv):  # type: ignore[misc]
    """Many ContinuousGrids side by side."""

    single = ContinuousGridEnv


def free(points: Array) -> Mask:
    """Whether points (..., 2) are inside the square and outside its walls, which are closed."""
    away = np.abs(points)
    near = away <= 1.25
    far = (away <= 2.5) | (away >= 3.5)  # where a wall is, if the other coordinate is near
    inside: Mask = (away < SIDE) & ~(near & far[..., ::-1])
    return inside[..., 0] & inside[..., 1]


def lattice(middles: NDArray[np.floating]) -> Array:
    """The points (n, n, 2) of a picture, whose rows go from the top: y falls, x rises."""
    y, x = np.meshgrid(middles[::-1], middles, indexing="ij")
    return np.stack([x, y], axis=-1)


def pixels(point: Sequence[float] | Array) -> tuple[float, float]:
    return (point[0] + SIDE) * PIXELS, (SIDE - point[1]) * PIXELS
