"""Soft penalties (robust §1.4): nature may play any q of the support, at a price."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from rlentropy.errors import InputError
from rlentropy.risk import tilts
from rlentropy.risk.base import LARGEST, SLACK, Measure, check
from rlentropy.risk.conjugate import Table, generic_tilt, values_of
from rlentropy.risk.rows import Block
from rlentropy.types import Array, Mask

OCTAVES = (64, 1022)  # above 1 that tables of f may reach


@dataclass(frozen=True)
class Entropic(Measure):
    """D = KL(q ‖ p) / β: W = -(1/β) log E_p exp(-β V) (§1.4, §1.7)."""

    risk_aversion: float  # β >= 0, 1 / reward units; 0 is Nominal
    units = 4.0

    def __post_init__(self) -> None:
        check("risk_aversion", self.risk_aversion, 0.0)

    def compiled(self) -> tuple[str, tuple[float, ...]] | None:
        return "entropic", (float(self.risk_aversion),)

    def noticed(self, span: Any) -> Any:
        """W is a logarithm over β."""
        return np.minimum(1.0 / self.risk_aversion, 200.0 * span)

    def _worst(self, block: Block) -> Array:
        return tilts.exponential(block.p, block.x, self._exponent(block))

    def _exponent(self, block: Block) -> Array:
        """β per unit of x; beyond 1e300 all weight is on the least anyway."""
        return np.asarray(self.risk_aversion * np.minimum(block.span, 1e300 / LARGEST))

    def _value(self, block: Block) -> Array:
        exponent = self._exponent(block)
        return np.asarray(block.low + block.span * tilts.log_mean_exp(block.p, block.x, exponent))

    def _cost(self, q: Array, p: Array, state: Any, index: Any, ok: Mask) -> Array:
        if self.risk_aversion == 0.0:
            return np.where(np.abs(q - p).max(1, keepdims=True) <= SLACK, 0.0, np.inf)
        return tilts.kl(q, p) / self.risk_aversion


@dataclass(frozen=True)
class Chi2Penalty(Measure):
    """D = κ Σ (q - p)² / p; W = E V - Var V / 4κ while no mass vanishes."""

    weight: float  # κ > 0, reward units
    anonymous, units = True, 8.0

    def __post_init__(self) -> None:
        check("weight", self.weight, 0.0, above=True)

    def _worst(self, block: Block) -> Array:
        return tilts.quadratic_tilt(block.p, block.x, block.scaled(self.weight))

    def _cost(self, q: Array, p: Array, state: Any, index: Any, ok: Mask) -> Array:
        return self.weight * tilts.chi2(q, p)


@dataclass(frozen=True)
class L1Penalty(Measure):
    """D = κ ‖q - p‖₁ (λ TV with κ = λ/2): W = E_p min(V, min V + 2κ)."""

    weight: float  # κ >= 0, reward units
    support: Any = "nominal"
    one_outsider, units = True, 4.0

    def __post_init__(self) -> None:
        check("weight", self.weight, 0.0)

    def compiled(self) -> tuple[str, tuple[float, ...]] | None:
        return "l1-penalty", (float(self.weight),)

    def clipped(self, V: Array) -> Array:
        """min(V, min V + 2κ), (S,), whose mean is W where every state is admissible."""
        return np.asarray(np.minimum(V, V.min() + 2.0 * self.weight))

    def _worst(self, block: Block) -> Array:
        return tilts.clip_tilt(block.p, block.x, block.ok, 2.0 * block.scaled(self.weight))

    def _value(self, block: Block) -> Array:
        clipped = np.minimum(block.span * block.x, 2.0 * self.weight)
        return np.asarray(block.low + tilts.total(block.p * clipped))

    def _cost(self, q: Array, p: Array, state: Any, index: Any, ok: Mask) -> Array:
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
    anonymous, units = True, 32.0

    def __post_init__(self) -> None:
        check("weight", self.weight, 0.0, above=True)
        check("order", self.order, -math.inf)
        if self.order >= 1.0:
            object.__setattr__(self, "support", "nominal")

    @property
    def leaves_support(self) -> bool:
        return self.order < 1.0

    def _worst(self, block: Block) -> Array:
        k = block.scaled(self.weight)
        if self.order == 1.0:
            return tilts.exponential(block.p, block.x, 1.0 / k)
        return tilts.power_tilt(block.p, block.x, block.ok, k, self.order)

    def _cost(self, q: Array, p: Array, state: Any, index: Any, ok: Mask) -> Array:
        inner = tilts.f_divergence(tilts.cressie_read(self.order), q, p)
        if self.order < 1.0:
            inner = inner + tilts.total(np.where(p > 0.0, 0.0, q)) / (1.0 - self.order)
        return np.asarray(self.weight * inner)


def BurgPenalty(weight: float, support: Any = "nominal") -> CressieReadPenalty:
    """D = κ KL(p ‖ q), the reverse of Entropic's divergence."""
    return CressieReadPenalty(weight, 0.0, support)


@dataclass(frozen=True, eq=False)
class FDivergencePenalty(Measure):
    """D = κ E_p f(q/p) for the user's own convex f with f(1) = 0, on the nominal support (§1.7.8).

    f takes t >= 0, arrays or single numbers; where it has no value at 0 its limit counts. It may be
    infinite at 0 or beyond an end, have kinks and flat parts.
    """

    weight: float  # κ > 0, reward units
    f: Callable[[Any], Any]
    response: Callable[[Array], Any] | None = None  # y ↦ argmax_t t y - f(t) = (f*)'(y), if known
    anonymous = True
    # Set by `remembering`: η - E_p V by row of a kernel, and which rows these are.
    memory: Array | None = field(default=None, init=False, repr=False)
    rows: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check("weight", self.weight, 0.0, above=True)
        at = np.concatenate([np.linspace(0.05, 2.0, 40), np.linspace(3.0, 40.0, 38)])
        low, middle, high = (self._f(t) for t in (at[:-1], (at[:-1] + at[1:]) / 2, at[1:]))
        one = float(self._f(np.ones(1))[0])
        if not abs(one) <= 1e-12:
            raise InputError(f"f must be 0 at 1, got {one}")
        if not (middle <= (low + high) / 2.0 + 1e-9 * (1.0 + np.abs(middle))).all():
            raise InputError("f must be convex, got one that isn't")

    @cached_property
    def _f(self) -> Callable[[Array], Array]:
        return values_of(self.f)

    @cached_property
    def _tables(self) -> dict[int, Table]:
        """By how many octaves above 1 they reach."""
        return {}

    def _table(self, octaves: int) -> Table:
        if octaves not in self._tables:
            self._tables[octaves] = Table(self._f, octaves)
        return self._tables[octaves]

    def error(self, low: Any, high: Any, count: Any) -> Any:
        """As for others, and what f's own rounding moves the cost by."""
        rounding = 128.0 * self._table(OCTAVES[0]).noise * self.weight
        return super().error(low, high, count) + np.minimum(rounding, high - low)

    def _worst(self, block: Block) -> Array:
        least = float(np.where(block.p > 0.0, block.p, 1.0).min())
        table = self._table(OCTAVES[least < 2.0 ** -OCTAVES[0]])
        respond = table if self.response is None else partial(self._given, table.base)
        k, start, span = block.scaled(self.weight), np.zeros_like(block.span), block.span
        if self.memory is not None:
            here = block.index if self.rows is None else self.rows[block.index]
            start = self.memory[here, None] / np.where(span > 0.0, span, 1.0)
        q, start = generic_tilt(block.p, block.x, k, table, respond, start)
        if self.memory is not None:
            self.memory[here] = (start * span)[:, 0]
        return q

    def remembering(self, count: int) -> FDivergencePenalty:
        return self._with(memory=np.zeros(count), rows=None)

    def of_rows(self, index: Any) -> FDivergencePenalty:
        return self if self.memory is None else self._with(rows=np.asarray(index))

    def _with(self, **changes: Any) -> FDivergencePenalty:
        """A copy that shares the tables."""
        other = copy(self)
        other.__dict__.update(changes, _f=self._f, _tables=self._tables)
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Without what f's values tell again."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_f", "_tables")}

    def _given(self, base: float, y: Array) -> tuple[Array, Array]:
        """The user's response, and its slope by a difference."""
        assert self.response is not None
        step = 1e-6 * (1.0 + np.abs(y))
        with np.errstate(all="ignore"):
            t, more = (np.asarray(self.response(base + z), np.float64) for z in (y, y + step))
            return t, np.where(np.isfinite(more), (more - t) / step, 0.0)

    def _cost(self, q: Array, p: Array, state: Any, index: Any, ok: Mask) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.weight * tilts.f_divergence(lambda t, u: self._f(t), q, p)
