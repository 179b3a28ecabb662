"""Forecasters: densities of all past visits, under log loss (exploration §8.4).

A forecaster's q is mixed with the uniform law of the box, as if that had been seen n_0 times before
the first visit, so that the rewards -log q̄ stay bounded:

    q̄ = (1 - α) q + α,   α = n_0 / (n + n_0)        n visits so far, in units of the box

A histogram that adds one to every cell is that with n_0 the number of cells.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from rlentropy.exploration.features import Features, Points
from rlentropy.types import Array, Count, State


class Forecaster(Protocol):
    """A density on the box of features, [0, 1]^d, of all visits so far."""

    def update(self, visits: Points, new: int) -> None:
        """Learn from all visits so far, (n, d), of which the last `new` are new."""

    def log_density(self, points: Points) -> Array:
        """log q̄ of points (n, d), (n,): per unit of volume, where the box has volume 1."""

    def state_dict(self) -> State: ...
    def load_state_dict(self, state: State) -> None: ...


class Histogram:
    """Frequencies of cells, of which each is counted once beforehand: exact follow-the-leader."""

    def __init__(self, features: Features, prior: float = 1.0) -> None:
        self.features, self.prior = features, prior
        self.counts: Count = np.zeros(features.num_cells, np.int64)

    def update(self, visits: Points, new: int) -> None:
        cells = self.features.cells(visits[len(visits) - new :])
        self.counts += np.bincount(cells, minlength=len(self.counts))

    def log_density(self, points: Points) -> Array:
        total = self.counts.sum() + self.prior * len(self.counts)
        table = np.log((self.counts + self.prior) * (len(self.counts) / total))
        log_density: Array = table[self.features.cells(points)]
        return log_density

    def state_dict(self) -> State:
        return {"counts": self.counts}

    def load_state_dict(self, state: State) -> None:
        self.counts = state["counts"]


def mixed_with_uniform(log_density: Any, visits: int, prior: float) -> Array:
    """log((1 - α) q + α) from log q, with α = prior / (visits + prior)."""
    alpha = prior / (visits + prior)
    mixed: Array = np.logaddexp(np.log1p(-alpha) + np.asarray(log_density), np.log(alpha))
    return mixed
