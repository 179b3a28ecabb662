"""Scales of observations: bounds where a space has them, else what was seen."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box

from rlentropy.exploration.features import LARGEST_BOUND
from rlentropy.neural.networks import Rows
from rlentropy.neural.spaces import Encoder, RunningMeanStd
from rlentropy.types import Array, State


class InputScaling:
    """Mean and deviation by which encoded observations are standardised, (width,) each.

    A bounded coordinate of a Box is scaled to [-1, 1], and a one-hot one is left as it is: networks
    that learn from all that was ever seen need units that stay. The others follow what was seen.
    """

    def __init__(self, space: Any) -> None:
        encode = Encoder.of(space)
        self.width = encode.width
        self.centre, self.half = np.zeros(self.width), np.ones(self.width)
        self.fixed = np.full(self.width, encode.first is not None)
        if isinstance(space, Box):
            low, high = (np.ravel(end).astype(np.float64) for end in (space.low, space.high))
            self.fixed = (np.maximum(np.abs(low), np.abs(high)) <= LARGEST_BOUND) & (low < high)
            bounds = np.where(self.fixed, low, -1.0), np.where(self.fixed, high, 1.0)
            self.centre, self.half = (bounds[0] + bounds[1]) / 2.0, (bounds[1] - bounds[0]) / 2.0
        self.seen = RunningMeanStd(self.width)

    def now(self) -> tuple[Array, Array]:
        mean = np.where(self.fixed, self.centre, self.seen.mean)
        return mean, np.where(self.fixed, self.half, self.seen.deviation())

    def update(self, rows: Rows) -> None:
        """Take in encoded observations, (n, width)."""
        if not self.fixed.all():
            self.seen.update(rows)

    def state_dict(self) -> State:
        return self.seen.state_dict()

    def load_state_dict(self, state: State) -> None:
        self.seen.load_state_dict(state)
