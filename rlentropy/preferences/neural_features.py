"""Features of segments of any environment, in which a reward is taken to be linear.

A fixed random layer makes the reward's features of a step, ψ(s, a) = (1, tanh(W [s, a] + b)), and a
segment's are their sum over the steps that count (preferences §7). The first is 1: the length of a
segment is one of them, since a reward may pay for every step.
"""

from __future__ import annotations

import numpy as np

from rlentropy.errors import whole
from rlentropy.neural.gradients import BLOCK
from rlentropy.neural.networks import Rows
from rlentropy.neural.spaces import Actions, Head, standardised
from rlentropy.preferences.segments import Segments
from rlentropy.types import Array

FEATURE_CLIP = 10.0  # deviations of observations


class RandomFeatures:
    """ψ of D numbers.

    Args:
        head: of the actions of segments.
        scaling: mean and deviation that observations are standardised by, (width,).
        size: D >= 2.
        rng: draws W, normal with variance 1 / (numbers that it sees), and b, uniform in [-1, 1].

    Raises:
        InputError: D is none.
    """

    def __init__(
        self, head: Head, scaling: tuple[Array, Array], size: int, rng: np.random.Generator
    ) -> None:
        whole("features", size, 2)
        self.head, self.scaling = head, scaling
        width = len(scaling[0]) + head.num_features
        self.W = (rng.standard_normal((width, size - 1)) / np.sqrt(width)).astype(np.float32)
        self.b = rng.uniform(-1.0, 1.0, size - 1).astype(np.float32)

    @property
    def size(self) -> int:
        return len(self.b) + 1

    def of(self, observations: Rows, actions: Actions | None) -> Rows:
        """ψ of steps, (B, D), float32, from encoded observations (B, width) and actions (B, K).

        Without actions it is of the state alone.
        """
        x = standardised(observations, *self.scaling, FEATURE_CLIP)
        found = np.ones((len(x), self.size), np.float32)
        found[:, 1:] = x @ self.W[: x.shape[1]]
        if actions is not None:
            found[:, 1:] += self.head.features(actions) @ self.W[x.shape[1] :]
        found[:, 1:] += self.b
        np.tanh(found[:, 1:], out=found[:, 1:])
        return found

    def steps(self, segments: Segments) -> Rows:
        """ψ of each step, (N, T, D); 0 behind the end."""
        mask = segments.mask
        found = np.zeros((*mask.shape, self.size), np.float32)
        found[mask] = self.of(segments.states[:, :-1][mask], segments.actions[mask])
        return found

    def sums(self, segments: Segments) -> Array:
        """Of each segment, (N, D), float64."""
        found, T = np.zeros((len(segments), self.size)), segments.rewards.shape[1]
        chunk = max(1, 4 * BLOCK // T)
        for k in range(0, len(segments), chunk):
            part = segments.take(slice(k, k + chunk))
            found[k : k + chunk] = self.steps(part).sum(axis=1, dtype=np.float64)
        return found
