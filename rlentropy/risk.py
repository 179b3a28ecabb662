"""Convex risk measures: robust expectations, worst-case distributions, penalties (robust spec §1).

A measure is a penalty D(q, p) that nature pays for playing q where the nominal law is p:

    W(p, V) = min_q E_q V + D(q, p)

W is `expectation`, the minimiser `worst_case`, D `penalty`; an uncertainty set is the penalty that
is 0 inside and infinite outside. p is an array (..., S) or a scipy.sparse kernel (R, S). Rewards
are maximised, so the worst case is the low one.

Where q may put mass is the ``support``: "nominal" (where p > 0), "full" (every state), or listed
candidates beside those with p > 0: states (K,), or a mask (S,) or like p. Measures without this
field force q << p, their penalty being infinite elsewhere (§1.4, Notes).

Entropic, the χ² measures, CVaR, fills and shifts are exact to rounding, and the rest are bisected
to it. Every W but Entropic's is E_q V + D(q, p) of the returned q, so an error in q counts twice
over: it is of second order in W.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from rlentropy import rows, tilts
from rlentropy.errors import InputError
from rlentropy.rows import Block
from rlentropy.tilts import Array

SLACK = 1e-8  # relative, by which a penalty forgives a q just outside a ball


class Measure:
    """A convex risk measure; see the module for what the three methods mean."""

    support: Any = "nominal"
    reach: ClassVar[int | None] = 1  # the lowest off-support states a worst case needs, None: all
    quadratic: ClassVar[bool] = False  # needs n arrays as large as a block

    def expectation(self, p: Any, V: Any) -> Array:
        """The robust expectation W(p, V).

        Args:
            p: nominal distributions, an array (..., S) or scipy.sparse (R, S).
            V: values, (S,); or like p, where p is an array.

        Returns:
            W, (...) or (R,).

        Raises:
            ValueError: a row of p is no distribution, or V doesn't fit p or isn't finite.
        """
        p, V = self._inputs(p, V)
        W = np.empty(_count(p))
        for block in self._blocks(p, V):
            W[block.index] = self._value(block)[:, 0]
        return W.reshape(p.shape[:-1])

    def worst_case(self, p: Any, V: Any) -> Any:
        """A minimising q*, like p: an array, or CSR; arguments and errors as `expectation`."""
        p, V = self._inputs(p, V)
        if not rows.is_sparse(p):
            q = np.empty((_count(p), p.shape[-1]))
            for block in self._blocks(p, V):
                q[block.index] = self._worst(block)
            return q.reshape(p.shape)
        parts = []
        for block in self._blocks(p, V):
            here = self._worst(block)
            row, column = np.nonzero(here)
            state = np.broadcast_to(block.state, here.shape)
            parts.append((block.index[row], state[row, column], here[row, column]))
        row, column, entries = (np.concatenate(a) for a in zip(*parts, strict=True))
        return _csr(entries, row, column, p.shape)

    def penalty(self, q: Any, p: Any) -> Array:
        """D(q, p), (...) or (R,); 0 or inf for an uncertainty set, which forgives rounding.

        Raises:
            ValueError: a row of q or p is no distribution, or their shapes differ.
        """
        q, p = rows.distributions(q, "q"), rows.distributions(p, "p")
        if q.shape != p.shape or rows.is_sparse(q) != rows.is_sparse(p):
            raise InputError(f"q must be like p {p.shape}, got {q.shape}")
        D = np.empty(_count(p))
        listed = rows.candidates(self.support, p.shape[-1])
        for q_rows, p_rows, state, index in rows.pairs(q, p):
            ok = p_rows > 0.0
            if listed is not None:
                ok |= listed[state] if listed.ndim == 1 else listed[index[:, None], state]
            cost = self._cost(q_rows, p_rows, state, index)[:, 0]
            D[index] = np.where(((q_rows > 0.0) & ~ok).any(1), np.inf, cost)
        return D.reshape(p.shape[:-1])

    def _inputs(self, p: Any, V: Any) -> tuple[Any, Array]:
        p = rows.distributions(p, "p")
        return p, rows.values(V, p)

    def _blocks(self, p: Any, V: Array) -> Iterator[Block]:
        listed = rows.candidates(self.support, p.shape[-1])
        return rows.blocks(p, V, listed, self.reach, self.quadratic)

    def _worst(self, block: Block) -> Array:
        """q*, (R, n)."""
        raise NotImplementedError

    def _cost(self, q: Array, p: Array, state: Any, index: Any) -> Array:
        """D, (R, 1), of a q on the support."""
        raise NotImplementedError

    def _value(self, block: Block) -> Array:
        """W, (R, 1)."""
        q = self._worst(block)
        cost = self._cost(q, block.p, block.state, block.index)
        return np.asarray(block.low + block.span * tilts.total(q * block.x) + cost)


class _Set(Measure):
    """An uncertainty set: D = 0 inside, infinite outside."""

    def _value(self, block: Block) -> Array:
        return np.asarray(block.low + block.span * tilts.total(self._worst(block) * block.x))

    def _cost(self, q: Array, p: Array, state: Any, index: Any) -> Array:
        return np.where(self._excess(q, p, state, index) <= 0.0, 0.0, np.inf)

    def _excess(self, q: Array, p: Array, state: Any, index: Any) -> Array:
        """Positive where q is outside by more than rounding, (R, 1)."""
        raise NotImplementedError


class _Ball(_Set):
    """A set of the q within a radius."""

    radius: float

    def __post_init__(self) -> None:
        _check("radius", self.radius, 0.0)

    def _radii(self, block: Block) -> Array:
        return np.full((len(block.p), 1), float(self.radius))

    def _excess(self, q: Array, p: Array, state: Any, index: Any) -> Array:
        return self._distance(q, p, state) - self.radius * (1.0 + SLACK) - 1e-12

    def _distance(self, q: Array, p: Array, state: Any) -> Array:
        raise NotImplementedError


class _Interval(_Set):
    """Bounds on each probability."""

    def _bounds(self, p: Array, ok: Any, state: Any, index: Any) -> tuple[Array, Array]:
        raise NotImplementedError

    def _worst(self, block: Block) -> Array:
        lower, upper = self._bounds(block.p, block.ok, block.state, block.index)
        return tilts.fill(lower, upper, block.x, block.ok)

    def _excess(self, q: Array, p: Array, state: Any, index: Any) -> Array:
        lower, upper = self._bounds(p, np.ones(p.shape, bool), state, index)
        outside = np.maximum(lower - q, q - upper * (1.0 + SLACK)).max(1, keepdims=True)
        return np.asarray(outside - 1e-12)


@dataclass(frozen=True)
class Nominal(_Set):
    """No robustness: W = E_p V."""

    def _worst(self, block: Block) -> Array:
        return block.p

    def _excess(self, q: Array, p: Array, state: Any, index: Any) -> Array:
        return np.asarray(np.abs(q - p).max(1, keepdims=True) - SLACK)


@dataclass(frozen=True)
class WorstCase(_Set):
    """Any q on the support at no cost: W = min V there."""

    support: Any = "nominal"

    def _worst(self, block: Block) -> Array:
        return tilts.point_mass(block.x, block.ok)

    def _excess(self, q: Array, p: Array, state: Any, index: Any) -> Array:
        return np.zeros((len(q), 1))


@dataclass(frozen=True)
class Entropic(Measure):
    """D = KL(q ‖ p) / β: W = -(1/β) log E_p exp(-β V) (§1.4, §1.7)."""

    risk_aversion: float  # β >= 0, 1 / reward units; 0 is Nominal

    def __post_init__(self) -> None:
        _check("risk_aversion", self.risk_aversion, 0.0)

    def _worst(self, block: Block) -> Array:
        return tilts.exponential(block.p, block.x, self.risk_aversion * block.span)

    def _value(self, block: Block) -> Array:
        exponent = self.risk_aversion * block.span
        return np.asarray(block.low + block.span * tilts.log_mean_exp(block.p, block.x, exponent))

    def _cost(self, q: Array, p: Array, state: Any, index: Any) -> Array:
        if self.risk_aversion == 0.0:
            return np.where(np.abs(q - p).max(1, keepdims=True) <= SLACK, 0.0, np.inf)
        return tilts.kl(q, p) / self.risk_aversion


@dataclass(frozen=True)
class Chi2Penalty(Measure):
    """D = κ Σ (q - p)² / p; W = E V - Var V / 4κ while no mass vanishes."""

    weight: float  # κ > 0, reward units

    def __post_init__(self) -> None:
        _check("weight", self.weight, 0.0, above=True)

    def _worst(self, block: Block) -> Array:
        return tilts.quadratic_tilt(block.p, block.x, block.scaled(self.weight))

    def _cost(self, q: Array, p: Array, state: Any, index: Any) -> Array:
        return self.weight * tilts.f_divergence(np.square, q, p)


@dataclass(frozen=True)
class L1Penalty(Measure):
    """D = κ ‖q - p‖₁ (λ TV with κ = λ/2): W = E_p min(V, min V + 2κ)."""

    weight: float  # κ >= 0, reward units
    support: Any = "nominal"

    def __post_init__(self) -> None:
        _check("weight", self.weight, 0.0)

    def _worst(self, block: Block) -> Array:
        return tilts.clip_tilt(block.p, block.x, block.ok, 2.0 * block.scaled(self.weight))

    def _value(self, block: Block) -> Array:
        clipped = np.minimum(block.span * block.x, 2.0 * self.weight)
        return np.asarray(block.low + tilts.total(block.p * clipped))

    def _cost(self, q: Array, p: Array, state: Any, index: Any) -> Array:
        return self.weight * tilts.total(np.abs(q - p))


@dataclass(frozen=True)
class CressieReadPenalty(Measure):
    """D = κ E_p f(q/p), f(t) = (t^a - a t + a - 1) / (a (a - 1)): κ KL(q ‖ p) at a = 1, κ KL(p ‖ q)
    at a = 0, half of χ² at a = 2.

    For a < 1 mass off the nominal support costs κ / (1 - a), finite; for a >= 1 it is infinite, and
    the support is nominal whatever it says.
    """

    weight: float  # κ > 0, reward units
    order: float  # a, finite; within 1e-4 of 1 (but not at 1) digits are lost
    support: Any = "nominal"

    def __post_init__(self) -> None:
        _check("weight", self.weight, 0.0, above=True)
        _check("order", self.order, -math.inf)
        if self.order >= 1.0:
            object.__setattr__(self, "support", "nominal")

    def _worst(self, block: Block) -> Array:
        k = block.scaled(self.weight)
        if self.order == 1.0:
            return tilts.exponential(block.p, block.x, 1.0 / k)
        return tilts.power_tilt(block.p, block.x, block.ok, k, self.order)

    def _cost(self, q: Array, p: Array, state: Any, index: Any) -> Array:
        inner = tilts.f_divergence(tilts.cressie_read(self.order), q, p)
        if self.order < 1.0:
            inner = inner + tilts.total(np.where(p > 0.0, 0.0, q)) / (1.0 - self.order)
        return np.asarray(self.weight * inner)


@dataclass(frozen=True)
class BurgPenalty(CressieReadPenalty):
    """D = κ KL(p ‖ q), the reverse of Entropic's divergence: BurgPenalty(κ, support)."""

    order: float = field(default=0.0, init=False)


@dataclass(frozen=True, eq=False)
class FDivergencePenalty(Measure):
    """D = κ E_p f(q/p) for the user's own convex f with f(1) = 0, on the nominal support.

    f takes and returns arrays of t >= 0 and may be infinite at 0. Kinks are allowed.
    """

    weight: float  # κ > 0, reward units
    f: Callable[[Array], Any]
    response: Callable[[Array], Any] | None = None  # y ↦ argmax_t t y - f(t) = (f*)'(y): faster

    def __post_init__(self) -> None:
        _check("weight", self.weight, 0.0, above=True)
        at = np.concatenate([np.linspace(0.05, 2.0, 40), np.linspace(3.0, 40.0, 38)])
        low, middle, high = (
            np.asarray(self.f(t)) for t in (at[:-1], (at[:-1] + at[1:]) / 2, at[1:])
        )
        one = float(np.asarray(self.f(np.ones(1)))[0])
        if not abs(one) <= 1e-12:
            raise InputError(f"f must be 0 at 1, got {one}")
        if not (middle <= (low + high) / 2.0 + 1e-9 * (1.0 + np.abs(middle))).all():
            raise InputError("f must be convex and finite on t > 0, got one that isn't")

    def _worst(self, block: Block) -> Array:
        k = block.scaled(self.weight)
        with np.errstate(divide="ignore", invalid="ignore"):
            return tilts.generic_tilt(block.p, block.x, k, self.f, self.response)

    def _cost(self, q: Array, p: Array, state: Any, index: Any) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.weight * tilts.f_divergence(lambda u: np.asarray(self.f(1.0 + u)), q, p)


@dataclass(frozen=True)
class Contamination(_Set):
    """q = (1 - ε) p + ε u with u free on the support: W = (1 - ε) E_p V + ε min V."""

    fraction: float  # ε in [0, 1]
    support: Any = "full"

    def __post_init__(self) -> None:
        _check("fraction", self.fraction, 0.0, 1.0)

    def _worst(self, block: Block) -> Array:
        worst = tilts.point_mass(block.x, block.ok)
        return np.asarray((1.0 - self.fraction) * block.p + self.fraction * worst)

    def _excess(self, q: Array, p: Array, state: Any, index: Any) -> Array:
        short = ((1.0 - self.fraction) * p * (1.0 - SLACK) - q).max(1, keepdims=True)
        return np.asarray(short - 1e-12)


@dataclass(frozen=True)
class MeanCVaR(_Interval):
    """(1 - w) E_p V + w CVaR_α V: (1 - w) p <= q <= (1 - w + w/α) p."""

    cvar_weight: float  # w in [0, 1]
    level: float  # α in (0, 1]

    def __post_init__(self) -> None:
        _check("cvar_weight", self.cvar_weight, 0.0, 1.0)
        _check("level", self.level, 0.0, 1.0, above=True)

    def _bounds(self, p: Array, ok: Any, state: Any, index: Any) -> tuple[Array, Array]:
        w = self.cvar_weight
        return (1.0 - w) * p, (1.0 - w) * p + w * np.minimum(p / self.level, 1.0)


@dataclass(frozen=True)
class CVaR(MeanCVaR):
    """The mean of the worst share α of outcomes, q <= p / α: CVaR(α)."""

    cvar_weight: float = field(default=1.0, init=False)


@dataclass(frozen=True)
class KLBall(_Ball):
    """KL(q ‖ p) <= δ, nature's distribution first."""

    radius: float  # δ >= 0, nats

    def _worst(self, block: Block) -> Array:
        return tilts.kl_ball(block.p, block.x, self._radii(block))

    def _distance(self, q: Array, p: Array, state: Any) -> Array:
        return tilts.kl(q, p)


@dataclass(frozen=True)
class BurgBall(_Ball):
    """KL(p ‖ q) <= δ, the nominal distribution first."""

    radius: float  # δ >= 0, nats
    support: Any = "nominal"

    def _worst(self, block: Block) -> Array:
        return tilts.burg_ball(block.p, block.x, block.ok, self._radii(block))

    def _distance(self, q: Array, p: Array, state: Any) -> Array:
        inner = tilts.f_divergence(tilts.cressie_read(0.0), q, p)
        return np.asarray(inner + tilts.total(np.where(p > 0.0, 0.0, q)))


@dataclass(frozen=True)
class Chi2Ball(_Ball):
    """Σ (q - p)² / p <= δ."""

    radius: float  # δ >= 0

    def _worst(self, block: Block) -> Array:
        return tilts.quadratic_ball(block.p, block.x, self._radii(block))

    def _distance(self, q: Array, p: Array, state: Any) -> Array:
        return tilts.f_divergence(np.square, q, p)


@dataclass(frozen=True)
class TVBall(_Ball):
    """½ ‖q - p‖₁ <= δ."""

    radius: float  # δ >= 0
    support: Any = "nominal"

    def _worst(self, block: Block) -> Array:
        return tilts.shift(block.p, block.x, block.ok, self._radii(block))

    def _distance(self, q: Array, p: Array, state: Any) -> Array:
        return 0.5 * tilts.total(np.abs(q - p))


@dataclass(frozen=True)
class L1Ball(_Ball):
    """‖q - p‖₁ <= ξ: the TV ball of half the radius."""

    radius: float  # ξ >= 0
    support: Any = "nominal"

    def _worst(self, block: Block) -> Array:
        return tilts.shift(block.p, block.x, block.ok, 0.5 * self._radii(block))

    def _distance(self, q: Array, p: Array, state: Any) -> Array:
        return tilts.total(np.abs(q - p))


@dataclass(frozen=True, eq=False)
class WeightedL1Ball(_Ball):
    """Σ w |q - p| <= ξ."""

    radius: float  # ξ >= 0
    weights: Any = field(repr=False)  # (S,), > 0
    support: Any = "nominal"
    reach = None

    def __post_init__(self) -> None:
        super().__post_init__()
        w = np.array(self.weights, np.float64)
        if w.ndim != 1 or not (np.isfinite(w) & (w > 0.0)).all():
            raise InputError(f"weights must be (S,), > 0 and finite, got {self.weights}")
        object.__setattr__(self, "weights", w)

    def _at(self, state: Any, shape: tuple[int, ...]) -> Array:
        if state.max() >= self.weights.size:
            raise InputError(f"weights must be (S,), got {self.weights.shape}")
        return np.broadcast_to(self.weights[state], shape)

    def _worst(self, block: Block) -> Array:
        w = self._at(block.state, block.p.shape)
        respond = tilts.weighted_response(block.p, block.x, block.ok, w)
        return tilts.on_budget(respond, 0.5 / float(self.weights.min()), self._radii(block))

    def _distance(self, q: Array, p: Array, state: Any) -> Array:
        return tilts.total(self._at(state, p.shape) * np.abs(q - p))


@dataclass(frozen=True)
class LinfBall(_Interval):
    """|q_i - p_i| <= ξ for every state of the support."""

    radius: float  # ξ >= 0
    support: Any = "nominal"

    def __post_init__(self) -> None:
        _check("radius", self.radius, 0.0)

    @property
    def reach(self) -> int | None:  # type: ignore[override]
        """Off-support states take ξ each, and at most 1 in all."""
        return math.ceil(1.0 / self.radius) + 1 if self.radius > 1e-6 else None

    def _bounds(self, p: Array, ok: Any, state: Any, index: Any) -> tuple[Array, Array]:
        upper = np.where(ok, np.minimum(p + self.radius, 1.0), 0.0)
        return np.maximum(p - self.radius, 0.0), upper


@dataclass(frozen=True, eq=False)
class IntervalBall(_Interval):
    """lower <= q <= upper, whatever p is, on the support.

    The bounds are (S,), or (R, S) for the R rows of p in order. A row without a distribution
    between its bounds is refused.
    """

    lower: Any = field(repr=False)
    upper: Any = field(repr=False)
    support: Any = "nominal"
    reach = None

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            bound = np.array(getattr(self, name), np.float64)
            bound = bound if bound.ndim <= 1 else bound.reshape(-1, bound.shape[-1])
            if bound.ndim == 0 or not ((bound >= 0.0) & (bound <= 1.0)).all():
                raise InputError(f"{name} must be (S,) or (R, S), in [0, 1], got {bound}")
            object.__setattr__(self, name, bound)

    def _bounds(self, p: Array, ok: Any, state: Any, index: Any) -> tuple[Array, Array]:
        lower, upper = (
            np.where(ok, b[state] if b.ndim == 1 else b[index[:, None], state], 0.0)
            for b in (self.lower, self.upper)
        )
        least, most = lower.sum(1), upper.sum(1)
        if not ((least <= 1.0 + SLACK) & (most >= 1.0 - SLACK) & (lower <= upper).all(1)).all():
            raise InputError(
                "lower and upper must leave room for a distribution, got a row without"
            )
        return lower, upper


@dataclass(frozen=True)
class L2Ball(_Ball):
    """‖q - p‖₂ <= ξ with q >= 0, exactly."""

    radius: float  # ξ >= 0
    support: Any = "nominal"
    reach = None

    def _worst(self, block: Block) -> Array:
        return tilts.euclidean_ball(block.p, block.x, block.ok, self._radii(block))

    def _distance(self, q: Array, p: Array, state: Any) -> Array:
        return np.sqrt(tilts.total((q - p) ** 2))


class _Wasserstein(Measure):
    """The ground metric, and the cost of transport between rows."""

    metric: Any
    reach = None
    quadratic = True

    def _check_metric(self) -> None:
        if self.metric is None:
            return
        d = np.array(self.metric, np.float64)
        square = d.ndim == 2 and d.shape[0] == d.shape[1]
        if not (square and np.isfinite(d).all() and (d >= 0.0).all() and (np.diag(d) == 0.0).all()):
            raise InputError("metric must be (S, S), >= 0, finite and 0 on the diagonal")
        object.__setattr__(self, "metric", d)

    def _distances(self, state: Any) -> Array:
        """d between the states of a block, (R or 1, n, n)."""
        if self.metric is None:
            return np.asarray(np.abs(state[:, :, None] - state[:, None, :]), np.float64)
        if state.max() >= len(self.metric):
            raise InputError(f"metric must be (S, S), got {self.metric.shape}")
        return np.asarray(self.metric[state[:, :, None], state[:, None, :]])

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
    found = linprog(
        distance[np.ix_(here, there)].ravel(),
        A_eq=np.vstack([gives, takes])[:-1],  # the last one follows from the others
        b_eq=np.concatenate([p[here] / p.sum(), q[there] / q.sum()])[:-1],
        method="highs",
    )
    if found.status != 0:
        raise RuntimeError(f"the transport program failed: {found.message}")
    return float(found.fun)


@dataclass(frozen=True, eq=False)
class WassersteinPenalty(_Wasserstein):
    """D = κ W₁(q, p): W = E_p V_κ with V_κ(x) = min_y V(y) + κ d(x, y)."""

    weight: float  # κ >= 0, reward units per distance
    metric: Any = field(default=None, repr=False)  # d, (S, S); default |x - y|
    support: Any = "full"

    def __post_init__(self) -> None:
        _check("weight", self.weight, 0.0)
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
        return _csr(p.data, row, target[p.indices], p.shape)

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
        distance = self._distances(block.state)
        respond = tilts.transport_response(block.p, block.x, block.ok, distance)
        return respond(block.scaled(self.weight))[0]

    def _value(self, block: Block) -> Array:
        distance = self._distances(block.state)
        respond = tilts.transport_response(block.p, block.x, block.ok, distance)
        q, moved = respond(block.scaled(self.weight))
        return np.asarray(block.low + block.span * tilts.total(q * block.x) + self.weight * moved)

    def _cost(self, q: Array, p: Array, state: Any, index: Any) -> Array:
        return self.weight * self._transport(q, p, state)


def _last_minimum(a: Array) -> Any:
    """For each i, where the least of a[:i+1] is, the last such."""
    least = np.minimum.accumulate(a)
    return np.maximum.accumulate(np.where(a <= least, np.arange(a.size), 0))


@dataclass(frozen=True, eq=False)
class WassersteinBall(_Wasserstein, _Ball):
    """W₁(q, p) <= ε."""

    radius: float  # ε >= 0, a distance
    metric: Any = field(default=None, repr=False)  # d, (S, S); default |x - y|
    support: Any = "full"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_metric()

    def _worst(self, block: Block) -> Array:
        distance = self._distances(block.state)
        positive = distance[distance > 0.0]
        ceiling = 2.0 / float(positive.min()) if positive.size else 1.0
        respond = tilts.transport_response(block.p, block.x, block.ok, distance)
        return tilts.on_budget(respond, ceiling, self._radii(block))

    def _distance(self, q: Array, p: Array, state: Any) -> Array:
        return self._transport(q, p, state)


class Scenarios(Measure):
    """The least of finitely many models, or of their convex hull; p itself does not matter.

    Args:
        models: K kernels, each (S,) or like p (sparse where p is). List p among them if it is to
            be a scenario.
    """

    def __init__(self, models: Any) -> None:
        self.models = [rows.distributions(model, "models") for model in models]
        if not self.models:
            raise InputError("models must hold at least one model, got none")

    def _expectations(self, p: Any, V: Array) -> Array:
        """E V under each scenario, (K, ...)."""
        S, low = p.shape[-1], V.min()
        for model in self.models:
            if model.shape not in ((S,), p.shape):
                raise InputError(f"models must be (S,) or like p {p.shape}, got {model.shape}")
        means = []
        for model in self.models:
            mean = (model * (V - low)).sum(-1) if V.ndim > 1 else model @ (V - low)
            means.append(low + np.broadcast_to(mean, p.shape[:-1]))
        return np.stack(means)

    def expectation(self, p: Any, V: Any) -> Array:
        """min over the scenarios of E V."""
        return np.asarray(self._expectations(*self._inputs(p, V)).min(0))

    def worst_case(self, p: Any, V: Any) -> Any:
        """The first scenario of least E V, row by row."""
        p, V = self._inputs(p, V)
        choice = self._expectations(p, V).argmin(0)
        if not rows.is_sparse(p):
            q = np.empty(p.shape)
            for k, model in enumerate(self.models):
                q[choice == k] = np.broadcast_to(model, p.shape)[choice == k]
            return q
        import scipy.sparse as sp

        stacked = sp.vstack([sp.csr_array(m) for m in self.models], "csr")
        sizes = [m.shape[0] if m.ndim == 2 else 1 for m in self.models]
        start = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        own = np.where(np.array(sizes)[choice] > 1, np.arange(p.shape[0]), 0)
        return stacked[start[choice] + own]

    def penalty(self, q: Any, p: Any) -> Array:
        """0 in the convex hull of the scenarios, else inf: nonnegative least squares a row."""
        from scipy.optimize import nnls

        q, p = rows.distributions(q, "q"), rows.distributions(p, "p")
        if q.shape != p.shape:
            raise InputError(f"q must be like p {p.shape}, got {q.shape}")
        S = p.shape[-1]

        def row(m: Any, i: int) -> Array:
            if rows.is_sparse(m):
                return np.asarray(m[[i]].toarray()[0])
            return np.asarray(m if m.ndim == 1 else m.reshape(-1, S)[i])

        D = np.empty(_count(p))
        for i in range(D.size):
            hull = np.stack([row(m, i) for m in self.models], axis=1)
            left = nnls(hull, row(q, i))[1]  # weights sum to 1 as all columns and q do
            D[i] = 0.0 if left <= SLACK else np.inf
        return D.reshape(p.shape[:-1])


def _count(p: Any) -> int:
    return math.prod(p.shape[:-1])


def _csr(entries: Any, row: Any, column: Any, shape: tuple[int, int]) -> Any:
    import scipy.sparse as sp

    return sp.coo_array((entries, (row, column)), shape=shape).tocsr()


def _check(
    name: str, value: float, low: float, high: float = math.inf, above: bool = False
) -> None:
    inside = low < value if above else low <= value
    if not (inside and value <= high and math.isfinite(value)):
        least = f"{'(' if above else '['}{low:g}"
        if high == math.inf:
            want = "finite" if low == -math.inf else f"{'>' if above else '>='} {low:g} and finite"
        else:
            want = f"in {least}, {high:g}]"
        raise InputError(f"{name} must be {want}, got {value}")


_NAMES: dict[str, tuple[Callable[..., Measure], int]] = {
    "nominal": (Nominal, 0),
    "worst-case": (WorstCase, 0),
    "entropic": (Entropic, 1),
    "cvar": (CVaR, 1),
    "mean-cvar": (MeanCVaR, 2),
    "chi2-penalty": (Chi2Penalty, 1),
    "l1-penalty": (L1Penalty, 1),
    "burg-penalty": (BurgPenalty, 1),
    "cressie-read-penalty": (CressieReadPenalty, 2),
    "wasserstein-penalty": (WassersteinPenalty, 1),
    "contamination": (Contamination, 1),
    "kl-ball": (KLBall, 1),
    "burg-ball": (BurgBall, 1),
    "chi2-ball": (Chi2Ball, 1),
    "tv-ball": (TVBall, 1),
    "l1-ball": (L1Ball, 1),
    "linf-ball": (LinfBall, 1),
    "l2-ball": (L2Ball, 1),
    "wasserstein-ball": (WassersteinBall, 1),
}
_SUPPORTED = {WorstCase, L1Penalty, BurgPenalty, CressieReadPenalty, WassersteinPenalty}
_SUPPORTED |= {Contamination, BurgBall, TVBall, L1Ball, LinfBall, L2Ball, WassersteinBall}


def parse(text: str, support: Any = None) -> Measure:
    """The measure that ``--risk`` names: NAME, NAME:PARAMETER or NAME:PARAMETER,PARAMETER.

    Args:
        support: "nominal", "full" or candidates; None leaves the measure's own default: full for
            contamination and Wasserstein, else nominal. Measures that force q << p have no use
            for it.

    Raises:
        ValueError: no such name, the wrong number of parameters, or one out of range.
    """
    name, _, tail = text.strip().partition(":")
    if name not in _NAMES:
        near = difflib.get_close_matches(name, _NAMES, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise InputError(f"risk must be one of {', '.join(_NAMES)}, got {name!r}{hint}")
    make, count = _NAMES[name]
    parts = tail.split(",") if tail else []
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(parts) != count or len(numbers) != count:
        raise InputError(f"risk {name} must have {count} numbers after the colon, got {text!r}")
    if support is None:
        return make(*numbers)
    rows.candidates(support, 1) if isinstance(support, str) else None
    return make(*numbers, support=support) if make in _SUPPORTED else make(*numbers)
