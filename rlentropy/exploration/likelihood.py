"""A likelihood forecaster: one network a feature, given the features before it (exploration §8.6).

    q(x) = Π_j q_j(x_j | x_1, …, x_{j-1})

where q_j, a density on [0, 1], is linear between P + 1 nodes, at which it is a softmax of the
outputs of network j. It is a law of the box whatever the outputs, at most 2P a feature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rlentropy.errors import in_range, whole
from rlentropy.exploration.features import Features, Points
from rlentropy.exploration.forecasters import mixed_with_uniform
from rlentropy.neural.networks import MLP, Adam
from rlentropy.types import Array, State

Tensor = torch.Tensor

OCTAVES = 4  # of sines and cosines by which networks see a feature, so that they tell walls apart
BLOCK = 4096  # points that are evaluated at once


class Likelihood:
    """Log loss on minibatches of all visits so far; an update starts where the last one ended.

    Args:
        rng: draws the weights and the minibatches.
        updates: gradient steps an update.
        batch_size: visits a gradient step.
        pieces: P, on which the density of a feature is linear.
        hidden: widths of the hidden layers.
        learning_rate: of Adam.
        prior: n_0 of the uniform law.
        device: default: `devices.current`.
    """

    def __init__(
        self,
        features: Features,
        rng: np.random.Generator,
        updates: int = 100,
        batch_size: int = 512,
        pieces: int = 64,
        hidden: Sequence[int] = (64, 64),
        learning_rate: float = 1e-3,
        prior: float = 100.0,
        device: torch.device | None = None,
    ) -> None:
        for name, value in (("updates", updates), ("batch_size", batch_size), ("pieces", pieces)):
            whole(name, value, 1)
        for name, rate in (("learning_rate", learning_rate), ("prior", prior)):
            in_range(name, rate, "(0, inf)")
        d = len(features.names)
        self.updates, self.batch_size, self.prior = updates, batch_size, prior
        self.rng, self.visits = rng, 0
        sizes = (1 + d * (1 + 2 * OCTAVES), *hidden, pieces + 1)
        self.network = MLP(sizes, rng.spawn(d), "relu", output_gain=0.1, device=device)
        self.adam = Adam(self.network, learning_rate)
        earlier = np.tri(d, k=-1, dtype=np.float32).repeat(1 + 2 * OCTAVES, axis=1)
        seen = np.insert(earlier, 0, 1.0, axis=1)
        self.seen = self._tensor(seen)[:, None]  # of the inputs by each network, (d, 1, inputs)

    def update(self, visits: Points, new: int) -> None:
        self.visits = len(visits)
        for _ in range(self.updates):
            drawn = self.rng.integers(self.visits, size=self.batch_size)
            loss = -self.log_q(self._tensor(visits[drawn])).mean()
            loss.backward()
            self.adam.step()

    def log_q(self, points: Tensor) -> Tensor:
        """log q of points (B, d), (B,), before it is mixed with the uniform law."""
        return self.log_factors(points).sum(dim=0)

    def log_factors(self, points: Tensor) -> Tensor:
        """log q_j of each feature given those before it, (d, B)."""
        x = points.clamp(0.0, 1.0)
        return log_piecewise_linear(self.network(encoded(x) * self.seen), x.T)

    def log_density(self, points: Points) -> Array:
        if not self.visits:
            return np.zeros(len(points))
        with torch.no_grad():
            blocks = [self.log_q(block).cpu() for block in self._tensor(points).split(BLOCK)]
        log_density = torch.cat(blocks).double().numpy()
        return mixed_with_uniform(log_density, self.visits, self.prior)

    def _tensor(self, rows: Any) -> Tensor:
        return torch.as_tensor(rows, dtype=torch.float32, device=self.network.flat.device)

    def state_dict(self) -> State:
        parts = {"network": self.network.state_dict(), "adam": self.adam.state_dict()}
        return parts | {"rng": self.rng, "visits": self.visits}

    def load_state_dict(self, state: State) -> None:
        self.network.load_state_dict(state["network"])
        self.adam.load_state_dict(state["adam"])
        self.rng, self.visits = state["rng"], state["visits"]


def encoded(x: Tensor) -> Tensor:
    """Inputs of points (B, d): 1, and of each feature x - 1/2, its sines and its cosines."""
    angles = x[..., None] * (math.pi * 2.0 ** torch.arange(OCTAVES, device=x.device))
    columns = torch.cat([x[..., None] - 0.5, torch.sin(angles), torch.cos(angles)], dim=-1)
    return torch.nn.functional.pad(columns.flatten(1), (1, 0), value=1.0)


def log_piecewise_linear(outputs: Tensor, x: Tensor) -> Tensor:
    """Log densities on [0, 1], linear between nodes i/P and there in proportion to e^{outputs}.

    Args:
        outputs: of the nodes, (..., P + 1).
        x: where, in [0, 1], (...).
    """
    pieces = outputs.shape[-1] - 1
    node = (x * pieces).floor().clamp(max=pieces - 1)
    share = x * pieces - node
    ends = node.long()[..., None] + torch.arange(2, device=x.device)
    weights = torch.stack([1.0 - share, share], dim=-1)
    log_height = torch.logsumexp(outputs.gather(-1, ends) + weights.log(), dim=-1)
    log_width = outputs.new_full((pieces + 1,), -math.log(pieces))
    log_width[[0, -1]] -= math.log(2.0)
    return log_height - torch.logsumexp(outputs + log_width, dim=-1)
