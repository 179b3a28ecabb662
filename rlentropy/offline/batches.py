"""What networks regress on: batches of transitions, drawn one by one or as counts of outcomes.

Both kinds know Q = c + γ u of their data, and make targets x = (r - c) / γ + max_a' Q(s', a') from
the target network. While that network does not change, its values are cached where that takes fewer
evaluations of it; `forget` says that it has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from rlentropy.data import Transitions
from rlentropy.data.columns import Reading, extremes
from rlentropy.errors import InputError
from rlentropy.log import ranks
from rlentropy.neural import devices
from rlentropy.neural.networks import MLP
from rlentropy.neural.spaces import ActionSet
from rlentropy.offline.policy import CHUNK, Features
from rlentropy.offline.problem import Config, Problem, bound
from rlentropy.offline.tabular import Model
from rlentropy.types import Count

Tensor = torch.Tensor
Elementwise = Callable[[Tensor], Tensor]
ActionValues = Callable[[Tensor], Tensor]  # inputs (..., width) -> (M, ..., K)


class Batch(Protocol):
    """Pairs (s, a) of M members, and their targets."""

    @property
    def x(self) -> Tensor:
        """(M, B) or (M, n)."""

    def read(self, network: MLP, head: Elementwise) -> Tensor:
        """A network's head at the (s, a), like x."""

    def total(self, loss: Tensor) -> Tensor:
        """The members' mean losses, of losses like x, summed: their gradients are their own."""


class Batches(Protocol):
    """A dataset, as networks learn from it."""

    @property
    def excess_range(self) -> tuple[float, float]:
        """The range of (r - c) / γ over the data."""

    def action_values(self, u: Tensor) -> Tensor:
        """c + γ u, (M, n, K); of all states in order where these are Discrete."""

    def draw(self, rngs: Sequence[np.random.Generator], target: ActionValues) -> Batch:
        """A batch for each member, by its own generator.

        Args:
            target: Q of the target network.
        """

    def forget(self) -> None:
        """The target network has changed."""


# ---------------------------------------------------------------- transitions


@dataclass(frozen=True)
class TransitionBatch:
    """B transitions of each member."""

    inputs: Tensor  # (M, B, width)
    index: Tensor  # (M, B, C), outputs that the action mixes
    mixture: Tensor | None  # (M, B, C), their weights; None: C = 1
    x: Tensor  # (M, B)
    share: float = 1.0  # that these B are of the batch; the rest is other processes'

    def read(self, network: MLP, head: Elementwise) -> Tensor:
        u = head(network(self.inputs).gather(2, self.index))
        return u[..., 0] if self.mixture is None else (u * self.mixture).sum(-1)

    def total(self, loss: Tensor) -> Tensor:
        total = loss.mean(1).sum()
        return total if self.share == 1.0 else self.share * total


class TransitionBatches:
    """Batches of transitions, drawn with replacement; c = 0."""

    def __init__(
        self, problem: Problem, config: Config, features: Features, actions: ActionSet
    ) -> None:
        self.data, self.gamma, self.size = problem.train, problem.gamma, config.batch_size
        self.features, self.actions = features, actions
        self.device = features.table.device
        self.part = ranks.part_of(self.size)  # of a batch, this process's
        self.own = self.part.stop - self.part.start
        if not self.own:
            least = ranks.size()
            raise InputError(f"batch_size must be >= {least}, the processes, got {self.size}")
        self.reading = Reading(self.data.columns[:5], bound(config))  # truncations aren't read
        # Whether evaluating all next states once takes fewer evaluations than those of each batch.
        self.caches = len(self.data) <= self.own * config.target_every
        self.cached_values: Tensor | None = None  # (M, N)

    @property
    def excess_range(self) -> tuple[float, float]:
        low, high = extremes(self.data.rewards)
        return float(low) / self.gamma, float(high) / self.gamma

    def action_values(self, u: Tensor) -> Tensor:
        return self.gamma * u

    def draw(self, rngs: Sequence[np.random.Generator], target: ActionValues) -> TransitionBatch:
        N, shape = len(self.data), (len(rngs), self.own)
        rows = np.stack([rng.integers(N, size=self.size)[self.part] for rng in rngs]).ravel()
        inputs, index, weights = self.seen(self.data, rows)
        reward, alive = (part.view(shape) for part in self.ends(self.data, rows))
        x = reward / self.gamma + alive * self._next_values(rows, shape, target)
        return TransitionBatch(
            inputs=inputs.view(*shape, -1),
            index=index.view(*shape, -1),
            mixture=None if index.shape[1] == 1 else weights.float().view(*shape, -1),
            x=x,
            share=self.own / self.size,
        )

    def seen(self, data: Transitions, rows: Count) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs (n, width), and actions as mixtures of outputs: index and weights (n, C)."""
        index, weights = self.actions.mixed(self.reading.rows(data.actions, rows))
        inputs = self.features(self.reading.rows(data.observations, rows))
        return inputs, self._tensor(index), self._tensor(weights)

    def ends(self, data: Transitions, rows: Count) -> tuple[Tensor, Tensor]:
        """Rewards, and whether the episode went on, (n,)."""
        reward = self._tensor(self.reading.rows(data.rewards, rows).astype(np.float32))
        return reward, self._tensor(~self.reading.rows(data.terminations, rows))

    def after(self, data: Transitions, rows: Count) -> Any:
        """The next observations, (n, *shape)."""
        return self.reading.rows(data.next_observations, rows)

    @torch.inference_mode()
    def _next_values(self, rows: Count, shape: tuple[int, int], target: ActionValues) -> Tensor:
        """max_a γ u of the target network after transitions (M * B,), (M, B)."""
        if not self.caches:
            inputs = self.features(self.after(self.data, rows))
            return target(inputs.view(*shape, self.features.width)).amax(-1)
        if self.cached_values is None:
            N = len(self.data)
            chunks = (np.arange(k, min(k + CHUNK, N)) for k in range(0, N, CHUNK))
            values = [target(self.features(self.after(self.data, k))).amax(-1) for k in chunks]
            self.cached_values = torch.cat(values, dim=1)
        return self.cached_values.gather(1, self._tensor(rows).view(shape))

    def forget(self) -> None:
        self.cached_values = None

    def _tensor(self, x: Any) -> Tensor:
        return devices.put(x, self.device)


# ---------------------------------------------------------------- outcomes


@dataclass(frozen=True)
class OutcomeBatch:
    """How often each of n outcomes is in the batches of the members."""

    states: Tensor  # inputs of all states, (S, width); of several processes, of their own ones
    cell: Tensor  # (n,), s * A + a, of these states
    share: Tensor  # (M, n) of the batch
    x: Tensor  # (M, n)

    def read(self, network: MLP, head: Elementwise) -> Tensor:
        return head(network(self.states).flatten(1)[:, self.cell])

    def total(self, loss: Tensor) -> Tensor:
        return (loss * self.share).sum()


class OutcomeBatches:
    """The n distinct (s, a, s') of Discrete data, with their mean rewards; c is a cell's mean.

    Drawing a batch is drawing how often each of them comes, whatever the size of either.
    """

    def __init__(self, problem: Problem, config: Config, features: Features, model: Model) -> None:
        self.gamma, self.size, self.device = problem.gamma, config.batch_size, features.table.device
        self.states = features.table
        outcomes = np.diff(model.p.indptr)  # of each cell with data
        cell = np.repeat(model.cell, outcomes)
        S, A = model.visits.shape
        # A process has the outcomes of its own states, which follow each other.
        self.own_states = ranks.part_of(S)
        first = self.own_states.start * A
        self.own = slice(*np.searchsorted(cell, [first, self.own_states.stop * A]).tolist())
        count = np.repeat(model.visits.ravel()[model.cell], outcomes) * model.p.data
        unvisited = {"pessimistic": problem.low, "optimistic": problem.high, "zero": 0.0}
        fixed = np.where(model.visits > 0, np.nan, unvisited[config.unvisited])
        c = np.zeros(model.visits.shape)
        c.ravel()[model.cell] = model.reward
        self.share = count / count.sum()  # (n,) of the data
        self.cell = self._tensor(cell[self.own] - first)
        excess = self._tensor(model.excess / problem.gamma, torch.float32)
        self.range = float(excess.min()), float(excess.max())
        self.excess = excess[self.own]  # (r - c) / γ, (n,)
        self.successor = self._tensor(model.successor[self.own])  # (n,)
        self.alive = self._tensor(model.alive[self.own])  # whether the episode went on, (n,)
        self.c = self._tensor(c, torch.float32)  # mean reward of visited cells, (S, A)
        self.fixed = self._tensor(fixed, torch.float32)  # Q of cells without data, NaN of others
        self.cached_targets: Tensor | None = None  # targets, (M, n)

    @property
    def excess_range(self) -> tuple[float, float]:
        return self.range

    def action_values(self, u: Tensor) -> Tensor:
        Q = self.c + self.gamma * u
        return torch.where(self.fixed.isnan(), Q, self.fixed)

    def draw(self, rngs: Sequence[np.random.Generator], target: ActionValues) -> OutcomeBatch:
        drawn = np.stack([rng.multinomial(self.size, self.share)[self.own] for rng in rngs])
        share = self._tensor(drawn / self.size, torch.float32)
        states = self.states[self.own_states]
        return OutcomeBatch(states, self.cell, share, self._targets(target))

    @torch.inference_mode()
    def _targets(self, target: ActionValues) -> Tensor:
        if self.cached_targets is None:
            V = target(self.states).amax(-1)  # (M, S)
            self.cached_targets = self.excess + self.alive * V[:, self.successor]
        return self.cached_targets

    def forget(self) -> None:
        self.cached_targets = None

    def _tensor(self, x: Any, dtype: torch.dtype | None = None) -> Tensor:
        return devices.put(x, self.device, dtype)
