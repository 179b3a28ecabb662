"""What every risk measure shares: inputs, blocks of rows, outputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from rlentropy.errors import UNIT, InputError
from rlentropy.risk import rows, tilts
from rlentropy.risk.rows import Block
from rlentropy.types import Array, Mask

LARGEST = 1e100  # of a parameter, and its inverse
SLACK = 1e-8  # relative, by which a penalty forgives a q just outside a ball


class Measure:
    """A convex risk measure; see the module for what the three methods mean.

    What solvers must know of it is said by the class: it is one class, and one row of `NAMES`.
    """

    support: Any = "nominal"
    priced: ClassVar[bool] = True  # whether nature pays; False: a set, where D = 0 inside
    reach: ClassVar[int | None] = 1  # the lowest off-support states a worst case needs, None: all
    quadratic: ClassVar[bool] = False  # needs n arrays as large as a block
    anonymous: ClassVar[bool] = False  # sure that it doesn't matter which states columns stand for
    one_outsider: ClassVar[bool] = False  # sure that W sums over one state off the support at most
    # What its arithmetic adds to that of a mean, in units of rounding: measured against 60 digits
    # (benchmarks/certificates.py), with room.
    units: ClassVar[float] = 1024.0

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
        W = np.empty(count(p))
        for block in self._blocks(p, V):
            W[block.index] = self._value(block)[:, 0]
        return W.reshape(p.shape[:-1])

    def worst_case(self, p: Any, V: Any) -> Any:
        """A minimising q*, like p: an array, or CSR; arguments and errors as `expectation`."""
        p, V = self._inputs(p, V)
        if not rows.is_sparse(p):
            q = np.empty((count(p), p.shape[-1]))
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
        return csr(entries, row, column, p.shape)

    def penalty(self, q: Any, p: Any) -> Array:
        """D(q, p), (...) or (R,); 0 or inf for an uncertainty set, which forgives rounding.

        Raises:
            ValueError: a row of q or p is no distribution, or their shapes differ.
        """
        q, p = rows.distributions(q, "q"), self._nominal(p)
        if q.shape != p.shape or rows.is_sparse(q) != rows.is_sparse(p):
            raise InputError(f"q must be like p {p.shape}, got {q.shape}")
        D = np.empty(count(p))
        listed = self._listed(p)
        both = rows.pairs(q, p, self._required(p.shape[-1]))
        for q_rows, p_rows, inside, ok, state, index in both:
            if listed is not None:
                here = listed[state] if listed.ndim == 1 else listed[index[:, None], state]
                ok = ok | here & inside
            with np.errstate(over="ignore"):  # where p is 1e-300, infinity is what it costs
                cost = self._cost(q_rows, p_rows, state, index, ok)[:, 0]
            D[index] = np.where(((q_rows > 0.0) & ~ok).any(1), np.inf, cost)
        return D.reshape(p.shape[:-1])

    def compiled(self) -> tuple[str, tuple[float, ...]] | None:
        """Its loop in `planning.nature.LOOPS`, and what parameters that takes; None: it has none.

        The arrays here and that loop are each other's oracle.
        """
        return None

    def error(self, low: Any, high: Any, count: Any) -> Any:
        """How far W may round over rows of so many successors with values in [low, high].

        Costs near 0 round by weight × unit², but p is known to cost nothing, and no q less: then
        the error is at most the geometric mean of that and of nature's gain, about span² / weight.
        """
        largest, span = np.maximum(np.abs(low), np.abs(high)), self.noticed(high - low)
        return UNIT * (4.0 * largest + self.units * (count + 8.0) * span) + 1e-305

    def noticed(self, span: Any) -> Any:
        """What of the span of a row's values W can round by."""
        return span

    def of_rows(self, index: Any) -> Measure:
        """The measure for rows `index` (K,) of a kernel alone; only arguments by row change."""
        if isinstance(self.support, np.ndarray) and self.support.ndim > 1:
            mask = self.support.reshape(-1, self.support.shape[-1])
            return replace(self, support=mask[index])  # type: ignore[type-var]
        if rows.is_sparse(self.support):
            return replace(self, support=self.support.tocsr()[index])  # type: ignore[type-var]
        return self

    def remembering(self, count: int) -> Measure:
        """The measure for a solver, with room for starts of the rows of its kernel."""
        return self

    @property
    def leaves_support(self) -> bool:
        """Whether nature may give mass to a state where p = 0, once it is listed."""
        return is_dataclass(self) and any(f.name == "support" for f in fields(self))

    def listing(self, listed: Any, S: int) -> Measure:
        """The measure with more successors admissible: scipy.sparse (R, S) of bool, or None."""
        if listed is None or not self.leaves_support:
            return self
        support = rows.joined(self.support, listed, S)
        return replace(self, support=support)  # type: ignore[type-var]

    def _inputs(self, p: Any, V: Any) -> tuple[Any, Array]:
        p = self._nominal(p)
        return p, rows.values(V, p)

    def _nominal(self, p: Any) -> Any:
        """p, checked, storing a 0 where a sparse support lists a state."""
        p = rows.distributions(p, "p")
        both = rows.is_sparse(p) and rows.is_sparse(self.support)
        return rows.storing(p, self.support) if both else p

    def _listed(self, p: Any) -> Mask | None:
        """What the support lists and p doesn't store, as `rows.candidates` gives it."""
        both = rows.is_sparse(p) and rows.is_sparse(self.support)
        return None if both else rows.candidates(self.support, p.shape[-1])

    def _blocks(self, p: Any, V: Array) -> Iterator[Block]:
        return rows.blocks(p, V, self._listed(p), self.reach, self.quadratic)

    def _required(self, S: int) -> Any:
        """States where a q = 0 that a sparse row doesn't store may still matter to the penalty."""
        return np.zeros(0, np.int64)

    def _worst(self, block: Block) -> Array:
        """q*, (R, n)."""
        raise NotImplementedError

    def _cost(self, q: Array, p: Array, state: Any, index: Any, ok: Mask) -> Array:
        """D, (R, 1), of a q on the support."""
        return np.where(self._excess(q, p, state, index, ok) <= 0.0, 0.0, np.inf)

    def _excess(self, q: Array, p: Array, state: Any, index: Any, ok: Mask) -> Array:
        """Positive where q is outside of a set by more than rounding, (R, 1)."""
        raise NotImplementedError

    def _value(self, block: Block) -> Array:
        """W, (R, 1); p itself costs nothing, where a large penalty makes much of rounding in q."""
        q = self._worst(block)
        worst = block.span * tilts.total(q * block.x)
        if not self.priced:
            return np.asarray(block.low + worst)
        cost = self._cost(q, block.p, block.state, block.index, block.ok)
        nominal = block.span * tilts.total(block.p * block.x)
        return np.asarray(block.low + np.minimum(worst + np.maximum(cost, 0.0), nominal))


class Ball(Measure):
    """A set of the q within a radius."""

    radius: float
    priced = False

    def __post_init__(self) -> None:
        check("radius", self.radius, 0.0)

    def _radii(self, block: Block) -> Array:
        return np.full((len(block.p), 1), float(self.radius))

    def _excess(self, q: Array, p: Array, state: Any, index: Any, ok: Mask) -> Array:
        return self._distance(q, p, state) - self.radius * (1.0 + SLACK) - 1e-14 * self._unit()

    def _distance(self, q: Array, p: Array, state: Any) -> Array:
        raise NotImplementedError

    def _unit(self) -> float:
        """The size of the distances, to which rounding is relative."""
        return 1.0


class Interval(Measure):
    """A set by bounds on each probability."""

    priced = False

    def _bounds(self, p: Array, ok: Any, state: Any, index: Any) -> tuple[Array, Array]:
        raise NotImplementedError

    def _worst(self, block: Block) -> Array:
        lower, upper = self._bounds(block.p, block.ok, block.state, block.index)
        return tilts.fill(lower, upper, block.x, block.ok)

    def _excess(self, q: Array, p: Array, state: Any, index: Any, ok: Mask) -> Array:
        lower, upper = self._bounds(p, ok, state, index)
        outside = np.maximum(lower - q, q - upper * (1.0 + SLACK)).max(1, keepdims=True)
        return np.asarray(outside - 1e-12)


def count(p: Any) -> int:
    return math.prod(p.shape[:-1])


def csr(entries: Any, row: Any, column: Any, shape: tuple[int, int]) -> Any:
    import scipy.sparse as sp

    return sp.coo_array((entries, (row, column)), shape=shape).tocsr()


def check(name: str, value: float, low: float, high: float = math.inf, above: bool = False) -> None:
    """Refuse what is no number, or not in [low, high], or ((low, high] if `above`).

    Numbers must also be 0, or of a size whose products with values are numbers too.
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        got = f"an array {np.shape(value)}" if np.ndim(value) else repr(value)
        raise InputError(f"{name} must be one number, got {got}")
    inside = low < value if above else low <= value
    if not (inside and value <= high and math.isfinite(value)):
        least = f"{'(' if above else '['}{low:g}"
        if high == math.inf:
            want = "finite" if low == -math.inf else f"{'>' if above else '>='} {low:g} and finite"
        else:
            want = f"in {least}, {high:g}]"
        raise InputError(f"{name} must be {want}, got {value}")
    if value != 0 and not 1.0 / LARGEST <= abs(float(value)) <= LARGEST:
        raise InputError(
            f"{name} must be of a size between {1.0 / LARGEST:g} and {LARGEST:g}, got {value}"
        )
