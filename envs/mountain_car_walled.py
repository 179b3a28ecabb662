"""MountainCar without an end: a wall where its goal would be, as MEPOL explores it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from rlentropy.envs.batched import ArrayEnv, BatchedEnv, Step
from rlentropy.envs.raster import WALL, Frame, disc, paint
from rlentropy.errors import in_range
from rlentropy.types import Array

LEFT, RIGHT = -1.2, 0.45  # walls
STARTS = -0.6, -0.4
FASTEST = 0.07
POWER, GRAVITY = 0.0015, 0.0025  # a step²
PIXELS = 320  # of a unit


class MountainCarWalledEnv(ArrayEnv):  # type: ignore[misc]
    """A car in a valley, too weak to drive up at once; both ends are walls that stop it.

    Dynamics and starts are those of gymnasium's MountainCarContinuous-v0, but for the wall at 0.45,
    where the speed becomes 0 (Mutti, Pratissoli & Restelli, 2021, and their code). Observations are
    position and speed (x, v). The reward is 0, and no episode ends, unless there is a goal, which
    pays 1 when it is reached and ends the episode. The features' bins, 12 x 11
    over [-1.2, 0.6] x [-0.07, 0.07], are those of Hazan et al. (2019); a car at the wall is in the
    column before the last, which is never visited.

    Args:
        continuous: actions are the share of the engine's force, [-1, 1]; by default they are its
            full force to the left, none, and to the right. (That of MountainCar-v0 is 2/3 of it.)
        goal: the position from which on the goal is reached, above -0.4 and at most 0.45; None for
            no goal.
        render_mode: "ansi" (text, the car an o), "rgb_array" or None.

    Raises:
        InputError: the goal lies elsewhere, or ``render_mode`` is unknown.
    """

    feature_names = ("position", "velocity")
    feature_ranges = ((-1.2, 0.6), (-FASTEST, FASTEST))
    feature_bins = (12, 11)

    def __init__(
        self,
        continuous: bool = False,
        *,
        goal: float | None = None,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode)
        if goal is not None:
            in_range("goal", goal, f"({STARTS[1]}, {RIGHT}]")
        self.goal = goal
        self.continuous = continuous
        self.observation_space = Box(
            np.array([LEFT, -FASTEST], np.float32), np.array([RIGHT, FASTEST], np.float32)
        )
        self.action_space = Box(-1.0, 1.0, (1,), np.float32) if continuous else Discrete(3)

    def draw_start(self, rng: np.random.Generator) -> Sequence[float]:
        return float(rng.uniform(*STARTS)), 0.0

    def advance(self, states: Array, actions: NDArray[Any]) -> Step:
        x, v = states[:, 0], states[:, 1]
        share = actions[:, 0].astype(np.float64) if self.continuous else actions - 1.0
        push = POWER * np.minimum(np.maximum(share, -1.0), 1.0)
        v = np.minimum(np.maximum(v + (push - GRAVITY * np.cos(3.0 * x)), -FASTEST), FASTEST)
        x = x + v
        after = np.empty_like(states)
        after[:, 0] = np.minimum(np.maximum(x, LEFT), RIGHT)
        after[:, 1] = np.where((x > LEFT) & (x < RIGHT), v, 0.0)
        reached = after[:, 0] >= (np.inf if self.goal is None else self.goal)
        return after, reached.astype(np.float64), reached

    def text(self, state: Array) -> str:
        road = ["-"] * 33
        road[min(int((state[0] - LEFT) / 0.05), 32)] = "o"
        return f"|{''.join(road)}|\nspeed {state[1]:+.4f}\n"

    def picture(self, state: Array) -> Frame:
        x = (np.arange(round((RIGHT - LEFT) * PIXELS)) + 0.5) / PIXELS + LEFT
        rows = np.arange(PIXELS)[:, None]
        frame = paint(rows > height(x))
        disc(frame, (state[0] - LEFT) * PIXELS, height(state[0]) - 9, 9)
        frame[:, :4] = frame[:, -4:] = WALL
        return frame


class MountainCarWalledBatch(BatchedEnv):  # type: ignore[misc]
    """Many MountainCars side by side."""

    single = MountainCarWalledEnv


def height(x: Any) -> Any:
    """Of the road at positions x, in pixels from the top."""
    return (0.55 - 0.35 * np.sin(3.0 * x)) * PIXELS
