"""A pendulum that hangs at rest in the beginning, as maximum-entropy exploration plays it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from rlentropy.envs.batched import ArrayEnv, BatchedEnv, Step, Vector
from rlentropy.envs.raster import WALL, Frame, disc, paint
from rlentropy.errors import in_range
from rlentropy.types import Array

FASTEST = 8.0  # radians / s
SECONDS = 0.05  # a step
PIXELS = 320  # of the picture's sides


class HangingPendulumEnv(ArrayEnv):  # type: ignore[misc]
    """Swings a rod of length 1 and mass 1 by a torque; every episode starts at (π, 0).

    Dynamics, rewards and observations (cos θ, sin θ, ω) are those of gymnasium's Pendulum-v1, with
    θ = 0 upright; actions are the torque, [-m, m]. No episode ends. The start and the bins, 8 x 8
    over the folded angle |θ| in [0, π] and the speed ω in [-8, 8], are those of Hazan et al.
    (2019).

    Args:
        max_torque: m, > 0; Pendulum-v1 has 2.
        render_mode: "ansi" (text, the mass an o), "rgb_array" or None.

    Raises:
        InputError: an option is out of range.
    """

    feature_names = ("folded angle", "speed")
    feature_ranges = ((0.0, np.pi), (-FASTEST, FASTEST))
    feature_bins = (8, 8)

    def __init__(self, max_torque: float = 1.0, *, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        in_range("max_torque", max_torque, "(0, inf)")
        self.max_torque = float(max_torque)
        largest = np.array([1.0, 1.0, FASTEST], np.float32)
        self.observation_space = Box(-largest, largest)
        self.action_space = Box(-self.max_torque, self.max_torque, (1,), np.float32)

    def draw_start(self, rng: np.random.Generator) -> Sequence[float]:
        return np.pi, 0.0

    def advance(self, states: Array, actions: NDArray[Any]) -> Step:
        angle, speed = states[:, 0], states[:, 1]
        m = self.max_torque
        u = np.minimum(np.maximum(actions[:, 0].astype(np.float64), -m), m)
        off = (angle + np.pi) % (2.0 * np.pi) - np.pi
        costs = off**2 + 0.1 * speed**2 + 0.001 * u**2
        speed = speed + (15.0 * np.sin(angle) + 3.0 * u) * SECONDS
        after = np.empty_like(states)
        after[:, 1] = np.minimum(np.maximum(speed, -FASTEST), FASTEST)
        after[:, 0] = angle + after[:, 1] * SECONDS
        return after, -costs, np.zeros(len(after), bool)

    def observe(self, states: Array) -> Vector:
        seen = np.empty((len(states), 3), np.float32)
        np.cos(states[:, 0], out=seen[:, 0], casting="same_kind")
        np.sin(states[:, 0], out=seen[:, 1], casting="same_kind")
        seen[:, 2] = states[:, 1]
        return seen

    def features(self, observations: NDArray[Any]) -> Array:
        """Folded angle, arccos of what is seen, and speed (n, 2)."""
        seen = np.asarray(observations, np.float64)
        return np.stack([np.arccos(np.clip(seen[:, 0], -1.0, 1.0)), seen[:, 2]], axis=1)

    def text(self, state: Array) -> str:
        cells = np.full((9, 17), " ")
        cells[4, 8] = "+"
        cells[round(4 - 4 * np.cos(state[0])), round(8 - 8 * np.sin(state[0]))] = "o"
        return "".join("".join(line) + "\n" for line in cells) + f"speed {state[1]:+.3f}\n"

    def picture(self, state: Array) -> Frame:
        frame = paint(np.zeros((PIXELS, PIXELS), bool))
        reach = 0.4 * PIXELS
        for share in np.linspace(0.0, 1.0, 33):
            x, y = reach * share * np.sin(state[0]), reach * share * np.cos(state[0])
            disc(frame, PIXELS / 2 - x, PIXELS / 2 - y, 5, WALL)
        disc(frame, PIXELS / 2 - x, PIXELS / 2 - y, 16)
        return frame


class HangingPendulumBatch(BatchedEnv):  # type: ignore[misc]
    """Many hanging pendulums side by side."""

    single = HangingPendulumEnv
