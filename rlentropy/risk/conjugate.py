"""Worst cases of a convex f that is only known by its values (robust §1.7.8).

`Table` has t(y) = argmax_t t y - f(t) = (f*)'(y) as a monotone piecewise cubic, made once from a
few thousand values of f; `generic_tilt` finds the η of all rows at once by Newton steps on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial import chebyshev

from rlentropy.errors import UNIT, InputError
from rlentropy.risk.tilts import total
from rlentropy.types import Array, Mask

LEAST = 2.0**-64  # of t, where f(0) is infinite: less mass than this moves no mean
LARGEST = 1e304  # of f, beyond which it counts as infinite
DEGREE = 12  # of the polynomial in a cell
ANGLES = np.pi * np.arange(DEGREE, -1, -1) / DEGREE
NODES = np.cos(ANGLES)
SHARES = 0.5 * (1.0 + NODES)  # of a cell's width, where f is asked


def _matrices() -> tuple[Array, Array]:
    """Values at the nodes to Chebyshev coefficients, and to derivatives at the nodes."""
    vander = chebyshev.chebvander(NODES, DEGREE)
    to_coefficients = np.linalg.inv(vander)
    slope = chebyshev.chebder(np.eye(DEGREE + 1))
    slopes = chebyshev.chebvander(NODES, DEGREE - 1) @ slope @ to_coefficients
    return np.asarray(to_coefficients, np.float64), np.asarray(slopes, np.float64)


COEFFICIENTS, SLOPES = _matrices()
TURNS, PATIENCE = 250, 6  # at most, and before jumps are looked for
Values = Callable[[Array], Array]
Respond = Callable[[Array], tuple[Array, Array]]  # y to t(y) and its derivative


def values_of(f: Callable[[Any], Any]) -> Values:
    """f over arrays of any shape, whether it takes arrays or numbers; f(0) by its limit.

    Raises:
        InputError: f gives neither arrays nor numbers.
    """
    probe = np.array([[0.5, 1.0], [1.5, 2.5]])
    try:
        at_once = np.asarray(f(probe), np.float64)
        takes_arrays = at_once.shape == probe.shape
    except (TypeError, ValueError):
        takes_arrays = False
    one = f if takes_arrays else np.vectorize(_number(f), otypes=[np.float64])
    try:
        with np.errstate(all="ignore"):
            low = np.asarray(one(np.array([0.0, 1e-300, LEAST])), np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"f must take t >= 0 and return a number, got {error!r}") from None
    zero = low[0]
    if np.isnan(zero):
        zero = low[1] if np.isfinite(low[1]) and abs(low[1] - low[2]) < 1e-3 else np.inf

    def values(t: Array) -> Array:
        with np.errstate(all="ignore"):
            found = np.asarray(one(np.where(t > 0.0, t, 1.0)), np.float64)
        return np.where(t > 0.0, np.where(np.isnan(found), np.inf, found), zero)

    return values


def _number(f: Callable[[Any], Any]) -> Callable[[Any], float]:
    def number(t: Any) -> float:
        try:
            return float(f(float(t)))
        except OverflowError:
            return np.inf
        except (ValueError, ZeroDivisionError):
            if t == 0.0:
                return np.nan
            raise

    return number


def nodes(low: Array, high: Array) -> Array:
    """Where f is asked in the cells between low and high, (m, nodes); the ends are exact."""
    t = low[:, None] + (high - low)[:, None] * SHARES
    t[:, 0], t[:, -1] = low, high
    return np.asarray(t)


@dataclass(frozen=True)
class Cells:
    """Intervals of t with f's values at their nodes."""

    low: Array  # (m,)
    high: Array  # (m,)
    f: Array  # (m, nodes)
    noise: Array  # (m,), how far these values may be off

    @property
    def width(self) -> Array:
        return np.asarray(self.high - self.low)

    @property
    def t(self) -> Array:
        return nodes(self.low, self.high)

    @property
    def secant(self) -> Array:
        return np.asarray((self.f[:, -1] - self.f[:, 0]) / self.width)

    @cached_property
    def bent(self) -> Array:
        """How far f is from a line, in units of the noise, (m,)."""
        line = self.f[:, :1] + (self.f[:, -1:] - self.f[:, :1]) * SHARES
        return np.asarray(np.abs(self.f - line).max(1) / self.noise)

    @property
    def straight(self) -> Mask:
        """Where f is a line to rounding, (m,)."""
        return np.asarray(self.bent <= 1.0)

    @cached_property
    def derivative(self) -> Array:
        """f' at the nodes, (m, nodes)."""
        return np.asarray(2.0 / self.width[:, None] * (self.f @ SLOPES.T), np.float64)

    @property
    def smooth(self) -> Mask:
        """Where the polynomial is f to rounding, and its inverse derivative a cubic, (m,).

        Near a kink what bends little may hide it: it must become straight.
        """
        tail = np.abs((self.f @ COEFFICIENTS.T)[:, -2:]).max(1)
        return np.asarray((self.bent >= 256.0) & (tail <= self.noise) & self._invertible)

    @property
    def _invertible(self) -> Mask:
        """Whether the cubics' t for a slope y costs no more than rounding beside the best t.

        That is δy² dt/dy at the middle of each step, δy the slope there less y.
        """
        slopes = np.maximum.accumulate(self.derivative, 1)
        steps = cubics(self.t, slopes, self.bend)
        middle = 0.5 * (slopes[:, 1:] + slopes[:, :-1])
        t = self.t[:, :-1] + 0.5 * (steps[..., 0] + 0.5 * (steps[..., 1] + 0.5 * steps[..., 2]))
        place = 2.0 * (t - self.low[:, None]) / self.width[:, None] - 1.0
        coefficients = (self.derivative @ COEFFICIENTS.T)[:, None]
        there = (chebyshev.chebvander(place, DEGREE) * coefficients).sum(-1)
        rise = np.diff(slopes)
        length = np.diff(self.t) / np.where(rise > 0.0, rise, np.inf)
        loss = (np.abs(there - middle) * np.sqrt(length)).max(1)  # its square would overflow
        return np.asarray(loss <= np.sqrt(self.noise))

    @property
    def bend(self) -> Array:
        """f'' at the nodes, (m, nodes)."""
        return np.asarray(2.0 / self.width[:, None] * (self.derivative @ SLOPES.T))


def cubics(t: Array, slope: Array, bend: Array) -> Array:
    """Monotone Hermite cubics of t over slopes: t + u (a + u (b + u c)), u in [0, 1], (..., 3).

    The derivatives 1 / f'' are limited to three times the secant (Fritsch and Carlson, 1980).
    """
    rise, step = np.diff(slope), np.diff(t)
    flat = np.where(bend > 0.0, bend, 1e-300)
    with np.errstate(over="ignore"):
        left = np.minimum(rise / flat[..., :-1], 3.0 * step)
        right = np.minimum(rise / flat[..., 1:], 3.0 * step)
    return np.stack([left, 3.0 * step - 2.0 * left - right, left + right - 2.0 * step], -1)


class Table:
    """(f*)' of one f, for t up to 2^octaves.

    Cells [0, 1], [1, 2], [2, 4], … are halved until f is, to the rounding of its values, a line or
    a polynomial there. So kinks end up in cells as narrow as their size tells from rounding, and
    what an answer costs beside the best one is of the size of f's own rounding.
    """

    def __init__(self, f: Values, octaves: int) -> None:
        edges = np.append(0.0, 2.0 ** np.arange(octaves + 1.0))
        near = np.abs(f(np.array([0.5, 0.75, 1.5, 2.0])))
        scale = float(near[np.isfinite(near)].max(initial=0.0)) or 1.0
        for rough in UNIT * 10.0 ** np.arange(13.0):
            cells = self._split(f, edges, 8.0 * rough, scale)
            if cells is not None:
                break
        else:
            raise InputError("f must be convex and computed to 1e-4, got one that isn't")
        self.noise = float(rough * scale)  # of f near 1
        with np.errstate(all="ignore"):  # second derivatives near the largest float
            self._join(cells)

    @staticmethod
    def _split(f: Values, edges: Array, rough: float, scale: float) -> Cells | None:
        """Cells in which f is known, in order; None where that takes too many."""
        low, high, kept, left = edges[:-1], edges[1:], [], 40 * edges.size + 50_000
        while low.size:
            left -= low.size
            if left < 0:
                return None
            known = f(nodes(low, high))
            finite = np.asarray(np.abs(known) <= LARGEST)
            some, whole = finite.any(1), np.asarray(finite.all(1))
            known = np.where(whole[:, None], known, 0.0)
            noise = rough * (scale + np.abs(known).max(1))
            cells = Cells(low, high, known, noise)
            narrow = (high - low <= 8.0 * UNIT * high) | (high <= LEAST)
            with np.errstate(all="ignore"):
                done = whole & (cells.straight | cells.smooth | narrow)
            kept.append((low[done], high[done], known[done], noise[done]))
            more = some & ~(done | narrow)
            middle = 0.5 * (low[more] + high[more])
            low, high = np.append(low[more], middle), np.append(middle, high[more])
        low, high, known, noise = (np.concatenate(parts) for parts in zip(*kept, strict=True))
        order = np.argsort(low)
        return Cells(low[order], high[order], known[order], noise[order])

    def _join(self, cells: Cells) -> None:
        """One monotone function of all slopes."""
        straight = cells.straight | (cells.width <= 8.0 * UNIT * cells.high)
        slope = np.where(straight[:, None], cells.secant[:, None], cells.derivative)
        # f' lies between the secants of the neighbours, whose rounding is less.
        below = np.append(-np.inf, cells.secant[:-1])[:, None]
        above = np.append(cells.secant[1:], np.inf)[:, None]
        slope = np.clip(slope, np.minimum(below, above), np.maximum(below, above))
        use = ~straight[:, None] | np.isin(np.arange(DEGREE + 1), (0, DEGREE))
        t, bend = cells.t, np.where(straight[:, None], 0.0, cells.bend)
        self.t, y, bend = t[use], np.maximum.accumulate(slope[use]), bend[use]
        # Where f ends, products and quotients by p must not round to beyond.
        self.ends = self.t[0] * (1.0 + 64.0 * UNIT), self.t[-1] * (1.0 - 64.0 * UNIT)
        one = np.searchsorted(self.t, [1.0, np.nextafter(1.0, 2.0)])
        self.base = float(0.5 * (y[one[0]] + y[one[1] - 1]))  # a slope at 1
        self.y = y - self.base
        self.kink = float(0.5 * (y[one[1] - 1] - y[one[0]]))  # slopes at 1 are base ± kink
        rise = np.diff(self.y)
        scale = 1.0 / np.where(rise > 0.0, rise, np.inf)
        steps = cubics(self.t, self.y, bend)
        steps = np.concatenate([self.t[:-1, None], self.y[:-1, None], scale[:, None], steps], 1)
        ends = np.zeros((2, 6))
        ends[:, 0] = self.t[[0, -1]]
        self.steps = np.concatenate([ends[:1], steps, ends[1:]])

    def __call__(self, y: Array) -> tuple[Array, Array]:
        """t(base + y) and dt/dy, like y; slopes are counted from that at t = 1."""
        place = np.searchsorted(self.y, y.ravel(), side="right")
        t, start, scale, a, b, c = np.moveaxis(self.steps[place].reshape(*y.shape, 6), -1, 0)
        u = (y - start) * scale
        return t + u * (a + u * (b + u * c)), (a + u * (2.0 * b + u * (3.0 * c))) * scale

    def slope(self, t: Array) -> Array:
        """Nearly f'(t), where t jumps exactly, like t; less that at 1."""
        return np.interp(t, self.t, self.y)


def generic_tilt(
    p: Array, x: Array, k: Array, table: Table, response: Respond, start: Array
) -> tuple[Array, Array]:
    """The worst case of k E_p f(q/p): q = p t((η - x)/k), Σ q = 1 (§1.4, §1.7.8).

    Args:
        response: the table, or what stands for it.
        start: a guess of η - E_p x, (R, 1).

    Returns:
        q, and η - E_p x. Slopes and η are less those that f has at 1.

    Where t jumps (f is a line) the answers on both sides of η are mixed.
    """
    on = p > 0.0
    search = Search(p, np.where(on, x, 0.0), k, table, response)
    mean = total(p * search.x)
    # All t are at most 1 at the first η, and at least 1 at the second, beyond a line through 1 too.
    reach = k * table.kink + 8.0 * UNIT * (1.0 + k * table.kink)
    low = np.where(on, x, np.inf).min(1, keepdims=True) - reach
    high = np.where(on, x, -np.inf).max(1, keepdims=True) + reach
    low, high = search.brackets(low, high, mean + start)
    less, more = (p * search.shares(eta)[0] for eta in (low, high))
    gap = total(more) - total(less)
    share = np.clip((1.0 - total(less)) / np.where(gap > 0.0, gap, 1.0), 0.0, 1.0)
    q = np.where(gap > 0.0, share * more + (1.0 - share) * less, more)
    return q / total(q), 0.5 * (low + high) - mean


class State(NamedTuple):
    """Where a search stands, (R, 1) each."""

    low: Array  # Σ p t <= 1
    high: Array  # Σ p t >= 1
    eta: Array  # between them, where to ask next
    left: Array  # |Σ p t - 1| at the last Newton step
    other: Array  # the η at the other side of a jump, or NaN

    def of(self, rows: Any) -> State:
        return State(*(part[rows] for part in self))


class Search:
    """The η of rows, all at once; those that are found drop out."""

    def __init__(self, p: Array, x: Array, k: Array, table: Table, response: Respond) -> None:
        self.p, self.x, self.k, self.table, self.response = p, x, k, table, response
        self.least, most = table.ends
        self.top = np.where(p > 0.0, np.minimum(1.0 / np.where(p > 0.0, p, 1.0), most), self.least)

    def of(self, rows: Any) -> Search:
        return Search(self.p[rows], self.x[rows], self.k[rows], self.table, self.response)

    def shares(self, eta: Array) -> tuple[Array, Array]:
        """q / p at η, and its derivative in η, (R, n) each."""
        t, rise = self.response((eta - self.x) / self.k)
        free = (t > self.least) & (t < self.top)
        return np.clip(t, self.least, self.top), np.where(free, rise, 0.0) / self.k

    def brackets(self, low: Array, high: Array, eta: Array) -> tuple[Array, Array]:
        """Σ p t <= 1 at the first and >= 1 at the second, rounding apart, (R, 1) each.

        Args:
            low, high: such brackets, however wide.
            eta: a guess.
        """
        found, rows, here = (low.copy(), high.copy()), np.arange(len(self.p)), self
        nothing = np.full_like(low, np.nan)
        state = State(low, high, np.clip(eta, low, high), np.full_like(low, np.inf), nothing)
        for turn in range(TURNS):
            state, done = here.narrowed(turn, state)
            found[0][rows], found[1][rows] = state.low, state.high
            keep = np.flatnonzero(~done)
            if keep.size == 0:
                break
            if keep.size < rows.size:
                here, rows, state = here.of(keep), rows[keep], state.of(keep)
        return found

    def narrowed(self, turn: int, state: State) -> tuple[State, Mask]:
        """Ask at η, and say where to ask next.

        That is a Newton step on the logarithm of the mass Σ p t, exact for KL, while these halve
        its distance from 1; else the middle; later, in turn, where t may jump.

        Returns:
            The state, and where the bracket is as narrow as rounding, (R,).
        """
        low, high, eta, left, other = state
        t, rise = self.shares(eta)
        mass = total(self.p * t)
        over, error = mass >= 1.0, np.abs(mass - 1.0)
        exact = error <= 4.0 * UNIT
        low, high = np.where(over & ~exact, low, eta), np.where(over | exact, eta, high)
        unit = 2.0 * UNIT * np.maximum(np.abs(low), np.abs(high)) + 1e-300
        with np.errstate(all="ignore"):
            step = -mass * np.log(mass) / total(self.p * rise)
        # A step of rounding's size goes a little further, to close the bracket from that side.
        step = np.where(np.abs(step) <= unit, np.where(over, -2.0, 2.0) * unit, step)
        good = (eta + step > low) & (eta + step < high) & (error <= 0.5 * left)
        following = np.where(good, eta + step, 0.5 * (low + high))
        if turn >= PATIENCE and turn % 4 < 3:
            across = (other > low) & (other < high)
            following, other = np.where(across, other, following), np.where(across, np.nan, other)
            stuck = np.flatnonzero(~(good | across)[:, 0])
            if stuck.size:
                jump = self.of(stuck).jumps(low[stuck], high[stuck])
                before, after = jump - 1.5 * unit[stuck], jump + 1.5 * unit[stuck]
                first = np.where(before > low[stuck], before, after)
                inside = (first > low[stuck]) & (first < high[stuck])
                following[stuck] = np.where(inside, first, following[stuck])
                other[stuck] = after
        left = np.where(good, error, np.inf)
        done = (high - low <= 4.0 * unit)[:, 0]
        return State(low, high, following, left, np.asarray(other)), np.asarray(done)

    def jumps(self, low: Array, high: Array) -> Array:
        """Where what moves the most mass within a bracket is halfway, (R, 1)."""
        before, after = self.shares(low)[0], self.shares(high)[0]
        most = (self.p * (after - before)).argmax(1)[:, None]
        t, x = (np.take_along_axis(a, most, 1) for a in (0.5 * (before + after), self.x))
        return np.asarray(x + self.k * self.table.slope(t))
