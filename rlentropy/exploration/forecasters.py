"""Forecasters: densities of all past visits, under log loss (exploration §8.6).

A forecaster's q is mixed with the uniform law of the box, as if that had been seen n_0 times before
the first visit, so that the rewards -log q̄ stay bounded:

    q̄ = (1 - α) q + α,   α = n_0 / (n + n_0)        n visits so far, in units of the box

A histogram that adds one to every cell is that with n_0 the number of cells.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import digamma

from rlentropy.errors import in_range, whole
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


class Neighbours:
    """Density by the k-th nearest of a sample of all visits, which every update draws afresh.

        log q(x) = ψ(k) - log N - log V(x)        V: of the ball to the k-th of N, within the box

    A ball is never smaller than the resolution, and k then counts all that is in it: places that
    are hit again and again, such as a fixed start or a wall, are as dense as they are often hit.

    Args:
        reservoir: most visits of a sample.
        resolution: smallest radius, in units of the box.
        prior: n_0 of the uniform law.
    """

    def __init__(
        self,
        features: Features,
        rng: np.random.Generator,
        k: int = 20,
        reservoir: int = 10_000,
        resolution: float = 1e-3,
        prior: float = 100.0,
    ) -> None:
        whole("k", k, 1)
        whole("reservoir", reservoir, k)
        in_range("resolution", resolution, "(0, 1)")
        in_range("prior", prior, "(0, inf)")
        self.rng, self.k, self.reservoir = rng, k, reservoir
        self.resolution, self.prior = resolution, prior
        self.sample: Points = np.zeros((0, len(features.names)), np.float32)
        self.visits = 0
        self.tree = cKDTree(self.sample)

    def update(self, visits: Points, new: int) -> None:
        self.visits = len(visits)
        size = min(self.visits, self.reservoir)
        # Evenly spaced along paths: of independent draws, large regions would have too many or too
        # few, and a policy follows such noise far.
        spaced = (np.arange(size) + self.rng.random()) * (self.visits / size)
        chosen = spaced.astype(np.int64)
        self._index(np.clip(visits[chosen], 0.0, 1.0))

    def _index(self, sample: Points) -> None:
        self.sample, self.tree = sample, cKDTree(sample)

    def log_density(self, points: Points) -> Array:
        if not self.visits:
            return np.zeros(len(points))
        x = np.clip(points, 0.0, 1.0).astype(np.float64)
        N = len(self.sample)
        k = min(self.k, N)
        radius = self.tree.query(x, [k])[0][:, 0]
        near = np.full(len(x), k)
        crowded = radius < self.resolution
        radius[crowded] = self.resolution
        near[crowded] = self.tree.query_ball_point(x[crowded], self.resolution, return_length=True)
        log_density = digamma(near) - math.log(N) - log_volume(x, radius)
        return mixed_with_uniform(log_density, self.visits, self.prior)

    def state_dict(self) -> State:
        return {"rng": self.rng, "sample": self.sample, "visits": self.visits}

    def load_state_dict(self, state: State) -> None:
        self.rng, self.visits = state["rng"], state["visits"]
        self._index(state["sample"])


def log_volume(centres: Array, radius: Array) -> Array:
    """Log volumes of balls, (n,), of which the part outside of the unit box is left out.

    That part is taken to be as large a share of the ball as of the cube around it: exact where only
    one coordinate leaves the box through the middle of the ball, and at corners.

    Args:
        centres: in the box, (n, d).
        radius: (n,).
    """
    d = centres.shape[1]
    unit_ball = 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d + 1.0)
    r = radius[:, None]
    inside = np.minimum(centres + r, 1.0) - np.maximum(centres - r, 0.0)
    log_volume: Array = unit_ball + (np.log(inside) - math.log(2.0)).sum(axis=1)
    return log_volume


def mixed_with_uniform(log_density: Any, visits: int, prior: float) -> Array:
    """log((1 - α) q + α) from log q, with α = prior / (visits + prior)."""
    alpha = prior / (visits + prior)
    mixed: Array = np.logaddexp(np.log1p(-alpha) + np.asarray(log_density), np.log(alpha))
    return mixed
