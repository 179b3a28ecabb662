"""Discounted values whose bounds hold in exact arithmetic, however close γ is to 1.

`approach` is the loop of every solver here. MacQueen's bounds hold at every V, whatever T is:

    T V + γ/(1-γ) min(T V - V)  <=  V*  <=  T V + γ/(1-γ) max(T V - V)

and with an error of T up to ε they are ε/(1-γ) wider. Where that or slow convergence keeps them
apart, `solve` goes on.

There, values are kept as V = ρ/(1-γ) + h with the number ρ in the middle. Since T moves
constants to γ times themselves, T V - V is that of h for rewards r - ρ: a difference of numbers of
the size of h, which near γ = 1 may be millions of times smaller than V.

`enclose` finds U with T U <= U, and L with T L >= L, which are bounds of the fixed point as T is
monotone: the fixed points of T plus and minus a little more than ε, its rounding at each state.
So an error counts as often as a state is visited, not 1/(1-γ) times.

`policy_iteration` gets there in finitely many steps: it evaluates a policy exactly, by Newton steps
that solve nature's last answer as a linear system, before it improves it. Joint steps of both
players may cycle, and sweeps take of the order of 1/(1-γ).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from rlentropy.errors import UNIT
from rlentropy.planning.operators import Operator, Sweep, Sweeps
from rlentropy.types import Array, Index

DENSE = 1000  # states up to which linear systems are factorised as dense matrices
SPARSE = 20_000  # states up to which sweeps that stall make way for linear systems


@dataclass
class Work:
    """How often T has been applied, and how often it may be."""

    done: int
    most: int

    def spend(self) -> bool:
        """Count one more application, where one is left."""
        left = self.done < self.most
        self.done += left
        return left


@dataclass(frozen=True)
class Enclosure:
    """A fixed point of T between bounds."""

    pi: Array  # (S, A)
    Q: Array  # (S, A)
    lower: Array  # (S,)
    upper: Array  # (S,)
    h: Array  # (S,) values up to a constant

    @property
    def width(self) -> float:
        return float((self.upper - self.lower).max())

    @property
    def V(self) -> Array:
        """Between the bounds, (S,)."""
        return np.asarray(self.lower + 0.5 * (self.upper - self.lower))


# (V, T V and its extremes, work) -> a better V, and T V there; None once no work is left.
Step = Callable[[Array, Sweep, Work], tuple[Array, Sweep] | None]


def approach(
    operator: Sweeps,
    step: Step,
    exact: Callable[[], Operator],
    V: Array,
    gamma: float,
    tolerance: float,
    window: int,
    work: Work,
) -> Enclosure:
    """Move V by steps until its bounds are within the tolerance, or hand over to exact steps.

    Args:
        operator: T, as fast as it gets; the first sweep is counted in `work`.
        exact: makes T with all that `solve` asks of it.
        window: steps in which bounds must come closer, see `stalled`.
    """
    scale, sweep = gamma / (1.0 - gamma), operator.apply(V)
    widths: list[float] = []
    while True:
        TV, low, high = sweep
        width, limited = high - low, False
        widths.append(width)
        tenth = len(widths) % 10 == 0
        if scale * width <= 0.9 * tolerance or tenth:
            reach = scale * max(abs(low), abs(high))
            rounding = 1.001 * operator.slack(V, reach) / (1.0 - gamma)
            if scale * width + 2.0 * rounding <= 0.9 * tolerance:
                bounds = macqueen(operator, V, TV, scale * low, scale * high, rounding)
                if bounds.width <= tolerance:  # values themselves round too
                    return bounds
            limited = scale * width <= 2.0 * rounding
        stuck = limited or (tenth and stalled(widths, window))
        after = None if stuck or not work.spend() else step(V, sweep, work)
        if after is None:
            return solve(exact(), V, gamma, tolerance, work)
        V, sweep = after


def macqueen(
    operator: Sweeps, V: Array, TV: Array, low: float, high: float, rounding: float
) -> Enclosure:
    """T V moved by MacQueen's constants, and by the rounding that they carry."""
    sums = 4.0 * UNIT * (np.abs(TV) + max(abs(low), abs(high)))
    lower, upper = TV + (low - rounding) - sums, TV + (high + rounding) + sums
    Q, ended = operator.Q + 0.5 * (low + high), operator.ended
    lower[ended], upper[ended], Q[ended] = 0.0, 0.0, 0.0
    return Enclosure(operator.policy(), Q, lower, upper, V)


def patience(states: int, entries: int, sweeps: int) -> int:
    """Steps of so many sweeps over a chain that cost what its linear system does, 10 to 300."""
    if states > SPARSE:
        return 1 << 62
    return int(min(max(min(states, DENSE) ** 3 / (3.0 * sweeps * entries), 10), 300))


def stalled(widths: list[float], window: int) -> bool:
    """Whether the bounds have not come five times as close in a window of steps, or took four."""
    late = len(widths) > window and not widths[-1] < 0.2 * widths[-1 - window]
    return late or len(widths) > 4 * window


def solve(operator: Operator, V: Array, gamma: float, tolerance: float, work: Work) -> Enclosure:
    """The fixed point of T from values V (S,), with bounds as close as float64 allows.

    Those may be further apart than the tolerance, which only saves work: that the bounds from
    values around 0 are tried too.
    """
    h = centred(operator, V, 0.0, gamma)
    h = policy_iteration(operator, h, gamma, work)
    h = h if np.isfinite(h).all() else np.zeros_like(h)  # its systems were singular to rounding
    bounds = enclose(operator, h, gamma, work)
    if bounds.width > tolerance and operator.rho != 0.0:
        # A state whose value is 0 rounds nothing there, and may be where all others end.
        V = 0.5 * (bounds.lower + bounds.upper)
        operator.shift(0.0)
        bounds = min(bounds, enclose(operator, V, gamma, work), key=lambda bounds: bounds.width)
    return bounds


def centred(operator: Operator, h: Array, rho: float, gamma: float) -> Array:
    """h around 0, its constant moved to ρ; where episodes end values must stay what they are."""
    if operator.ended.any():
        operator.shift(0.0)
        return np.where(operator.ended, 0.0, h + rho / (1.0 - gamma))
    middle = 0.5 * (float(h.max()) + float(h.min()))
    operator.shift(rho + (1.0 - gamma) * middle)
    return h - middle


class Progress:
    """Tells steps that still lead to T V = V from those that only stir the rounding."""

    def __init__(self) -> None:
        self.best, self.waits = np.inf, 0

    def over(self, change: Array, slack: Array) -> bool:
        """Whether to stop at a V with this T V - V, whose rounding is up to `slack`, (S,) each."""
        left, unit = float((np.abs(change) - 3.0 * slack).max()), float(slack.max())
        self.best, self.waits = (left, 0) if left < 0.5 * self.best else (self.best, self.waits + 1)
        return left <= 0.0 or self.waits > (5 if left <= 100.0 * unit else 500)


def policy_iteration(operator: Operator, h: Array, gamma: float, work: Work) -> Array:
    """Improve policies, each evaluated exactly, until what is left is rounding."""
    seen: set[bytes] = set()
    progress = Progress()
    while work.spend():
        change = operator.apply(h)[0] - h
        policy = operator.policy().tobytes()
        if progress.over(change, operator.rounding(h)) or policy in seen:
            break  # a policy comes back where only rounding tells it from its successor
        seen.add(policy)
        h = evaluation(operator, h, change, gamma, work)
    return h


def evaluation(operator: Operator, h: Array, change: Array, gamma: float, work: Work) -> Array:
    """The robust value of the policy that the last `apply` found, from h and T h - h."""
    progress = Progress()
    while work.spend():
        h = h + linear_solve(*operator.chain(h), change, gamma)
        h = centred(operator, h, operator.rho, gamma)
        change = operator.hold(h) - h
        if progress.over(change, operator.rounding(h)):
            break
    return h


def enclose(operator: Operator, h: Array, gamma: float, work: Work) -> Enclosure:
    """Bounds from h, nearly the fixed point for rewards r - ρ."""
    sides = []
    for sign in (1.0, -1.0):  # the lower one last: its greedy policy is worth no less
        x = h
        for _ in range(12):
            change = operator.apply(x)[0] - x
            slack = operator.rounding(x)
            excess = sign * change + slack
            if (excess <= 0.0).all():
                break
            if not work.spend():
                x = x + sign * constant(operator, x, sign * change, gamma)
                break
            x = x + sign * linear_solve(*operator.chain(x), excess + 0.25 * slack, gamma)
            x = np.where(operator.ended, 0.0, x)
        else:
            change = operator.apply(h)[0] - h
            x = h + sign * constant(operator, h, sign * change, gamma)
        sides.append(np.where(operator.ended, 0.0, x))
    base = operator.rho / (1.0 - gamma)
    lower, upper = (
        base + x + sign * 4.0 * UNIT * (abs(base) + np.abs(x))
        for x, sign in zip(reversed(sides), (-1.0, 1.0), strict=True)
    )
    Q = np.where(operator.ended[:, None], 0.0, operator.Q + base)
    return Enclosure(operator.policy(), Q, lower, upper, h)


def constant(operator: Operator, x: Array, change: Array, gamma: float) -> float:
    """c with T (x + c) <= x + c, from change = T x - x; for the lower side with signs turned."""
    reach = max(float((change + operator.rounding(x)).max()), 0.0) / (1.0 - gamma)
    excess = change + operator.rounding(x, 2.0 * reach)
    return 1.001 * max(float(excess.max()), 0.0) / (1.0 - gamma)


def linear_solve(start: Index, state: Index, q: Array, b: Array, gamma: float) -> Array:
    """x = b + γ q x, q being a chain or its transpose in CSR (S, S)."""
    S = b.size
    P = sp.csr_array((q, state.astype(np.int32), start.astype(np.int32)), (S, S))
    if S <= DENSE:
        try:
            return np.asarray(np.linalg.solve(np.eye(S) - gamma * P.toarray(), b))
        except np.linalg.LinAlgError:  # singular to rounding, as γ is 1 to rounding
            return b
    from scipy.sparse.linalg import LinearOperator, bicgstab, spilu, splu

    system = sp.csc_array(sp.eye_array(S) - gamma * P)
    for incomplete in (False, True):
        with suppress(RuntimeError):  # incomplete factors may be singular
            factors = spilu(system, drop_tol=1e-6, fill_factor=20.0) if incomplete else None
            near = None if factors is None else LinearOperator((S, S), factors.solve)
            x, _ = bicgstab(system, b, rtol=1e-12, maxiter=100, M=near)
            if np.abs(system @ x - b).max() <= 1e-6 * np.abs(b).max():
                return np.asarray(x)
    return np.asarray(splu(system).solve(b))


def attainable(width: float) -> str:
    """A tolerance that is met from another start too, where rounding falls differently."""
    if not width < 1e300:
        return "inf"
    width = max(3.0 * width, 1e-290)
    unit = 10.0 ** (math.floor(math.log10(width)) - 1)
    return f"{math.ceil(width / unit) * unit:.2g}"


def short_of(what: str, width: float, tolerance: float, work: Work) -> RuntimeError:
    """The error of bounds that are further apart than the tolerance."""
    why = (
        "raise tolerance or max_iterations"
        if work.done >= work.most
        else f"rounding keeps them apart, float64 attains tolerance={attainable(width)} here"
    )
    return RuntimeError(
        f"{what}: bounds are {width:.3g} apart after {work.done} applications of T, tolerance is "
        f"{tolerance:.3g}: {why}"
    )
