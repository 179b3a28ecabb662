"""Wasserstein-1 penalty and ball (robust §1.4, §1.5): mass moves at a price per distance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlentropy.errors import InputError, as_numbers
from rlentropy.risk import rows, tilts
from rlentropy.risk.base import Ball, Measure, check, csr
from rlentropy.risk.rows import Block
from rlentropy.types import Array, Mask


class _Wasserstein(Measure):
    """The ground metric, and the cost of transport between rows."""

    metric: Any
    reach = None
    quadratic = True

    def _check_metric(self) -> None:
        if self.metric is None:
            return
        d = as_numbers(self.metric, "metric", "(S, S)")
        square = d.ndim == 2 and d.shape[0] == d.shape[1]
        if not (square and np.isfinite(d).all() and (d >= 0.0).all() and (np.diag(d) == 0.0).all()):
            raise InputError("metric must be (S, S), >= 0, finite and 0 on the diagonal")
        object.__setattr__(self, "metric", d)

    def _distances(self, state: Any, donors: Any = slice(None)) -> Array:
        """d from the donors among a block's columns to its states, (R or 1, m, n)."""
        if self.metric is None:
            return np.asarray(np.abs(state[:, donors, None] - state[:, None, :]), np.float64)
        if state.max() >= len(self.metric):
            raise InputError(f"metric must be (S, S), got {self.metric.shape}")
        return np.asarray(self.metric[state[:, donors, None], state[:, None, :]])

    def _response(self, block: Block) -> tuple[Callable[[Array], tuple[Array, Array]], Array]:
        """Nature's best response to a price on transport, and the distances it knows."""
        donors = np.flatnonzero((block.p > 0.0).any(0))
        distance = self._distances(block.state, donors)
        return tilts.transport_response(block.p, block.x, block.ok, donors, distance), distance

    def _transport(self, q: Array, p: Array, state: Any) -> Array:
        """W₁(q, p), (R, 1): sorted on the line, else a linear program a row."""
        state = np.broadcast_to(state, p.shape)
        if self.metric is None:
            order = np.argsort(state, axis=1, kind="stable")
            ahead = np.cumsum(np.take_along_axis(q - p, order, 1), 1)[:, :-1]
            return tilts.total(np.abs(ahead) * np.diff(np.take_along_axis(state, order, 1), axis=1))
        return np.array(
            [[_transport_cost(*row)] for row in zip(q, p, self._each(state), strict=True)]
        )

    def _each(self, state: Any) -> Iterator[Array]:
        for row in state:
            yield self._distances(row[None])[0]


def _transport_cost(q: Array, p: Array, distance: Array) -> float:
    from scipy.optimize import linprog

    here, there = np.flatnonzero(p > 0.0), np.flatnonzero(q > 0.0)
    gives = np.kron(np.eye(here.size), np.ones(there.size))
    takes = np.kron(np.ones(here.size), np.eye(there.size))
    program = linprog(
        distance[np.ix_(here, there)].ravel(),
        A_eq=np.vstack([gives, takes])[:-1],  # the last one follows from the others
        b_eq=np.concatenate([p[here] / p.sum(), q[there] / q.sum()])[:-1],
        method="highs",
    )
    if program.status != 0:
        raise RuntimeError(f"the transport program failed: {program.message}")
    return float(program.fun)


@dataclass(frozen=True, eq=False)
class WassersteinPenalty(_Wasserstein):
    """D = κ W₁(q, p): W = E_p V_κ with V_κ(x) = min_y V(y) + κ d(x, y)."""

    weight: float  # κ >= 0, reward units per distance
    metric: Any = field(default=None, repr=False)  # d, (S, S); default |x - y|
    support: Any = "full"
    units = 8.0

    def __post_init__(self) -> None:
        check("weight", self.weight, 0.0)
        self._check_metric()

    def expectation(self, p: Any, V: Any) -> Array:
        p, V = self._inputs(p, V)
        if not self._shared(V):
            return super().expectation(p, V)
        envelope, _ = self._envelope(V)
        shifted = p @ (envelope - envelope.min())
        return np.asarray(envelope.min() + shifted)

    def worst_case(self, p: Any, V: Any) -> Any:
        p, V = self._inputs(p, V)
        if not (self._shared(V) and rows.is_sparse(p)):
            return super().worst_case(p, V)
        _, target = self._envelope(V)
        row = np.repeat(np.arange(p.shape[0]), np.diff(p.indptr))
        return csr(p.data, row, target[p.indices], p.shape)

    def _shared(self, V: Array) -> bool:
        return V.ndim == 1 and isinstance(self.support, str) and self.support == "full"

    def _envelope(self, V: Array) -> tuple[Array, Any]:
        """V_κ and the minimising y, (S,): two passes on the line, else S² in pieces."""
        S = V.size
        if self.metric is not None and len(self.metric) != S:
            raise InputError(f"metric must be (S, S) = {(S, S)}, got {self.metric.shape}")
        if self.metric is None:
            i = np.arange(S)
            left = _last_minimum(V - self.weight * i)
            right = S - 1 - _last_minimum((V + self.weight * i)[::-1])[::-1]
            from_left, from_right = (V[y] + self.weight * np.abs(i - y) for y in (left, right))
            target = np.where(from_left <= from_right, left, right)
            return np.minimum(from_left, from_right), target
        step = max(1, rows.ENTRIES // S)
        pieces = [self.metric[b : b + step] for b in range(0, S, step)]
        target = np.concatenate([(V + self.weight * d).argmin(1) for d in pieces])
        return V[target] + self.weight * self.metric[np.arange(S), target], target

    def _worst(self, block: Block) -> Array:
        respond, _ = self._response(block)
        return respond(block.scaled(self.weight))[0]

    def _value(self, block: Block) -> Array:
        respond, _ = self._response(block)
        q, moved = respond(block.scaled(self.weight))
        return np.asarray(block.low + block.span * tilts.total(q * block.x) + self.weight * moved)

    def _cost(self, q: Array, p: Array, state: Any, index: Any, ok: Mask) -> Array:
        return self.weight * self._transport(q, p, state)


def _last_minimum(a: Array) -> Any:
    """For each i, where the least of a[:i+1] is, the last such."""
    least = np.minimum.accumulate(a)
    return np.maximum.accumulate(np.where(a <= least, np.arange(a.size), 0))


@dataclass(frozen=True, eq=False)
class WassersteinBall(_Wasserstein, Ball):
    """W₁(q, p) <= ε."""

    radius: float  # ε >= 0, a distance
    metric: Any = field(default=None, repr=False)  # d, (S, S); default |x - y|
    support: Any = "full"
    units = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_metric()

    def _worst(self, block: Block) -> Array:
        respond, distance = self._response(block)
        positive = distance[distance > 0.0]
        ceiling = 2.0 / float(positive.min()) if positive.size else 1.0
        return tilts.on_budget(respond, ceiling, self._radii(block))

    def _distance(self, q: Array, p: Array, state: Any) -> Array:
        return self._transport(q, p, state)

    def _unit(self) -> float:
        """100 times the distances: a linear program rounds more than a sum."""
        return 100.0 * (1.0 if self.metric is None else float(self.metric.max()))
