"""Robust expectations whose worst case pours mass into the lowest values first (robust §1.4, §1.5).

A row's transitions are kept in the order of its values: successor, p and bonus are rearranged in
place, which costs little while that order changes little from call to call.
"""

from typing import Any

import numpy as np

from rlentropy.kernels.cache import inner, piece
from rlentropy.kernels.nature import row_by_row
from rlentropy.types import Array, Index


@inner
def sort_row(z: Array, successor: Index, p: Array, bonus: Array, first: Any, n: Any) -> None:
    """Rearrange a row by its values z (n,)."""
    order = np.argsort(z[:n], kind="mergesort")
    values, states, chances = np.empty(n), np.empty(n, np.uint32), np.empty(n)
    for j in range(n):
        here = order[j]
        values[j], states[j], chances[j] = z[here], successor[first + here], p[first + here]
    for j in range(n):
        z[j], successor[first + j], p[first + j] = values[j], states[j], chances[j]
    if bonus.size > 0:
        for j in range(n):
            values[j] = bonus[first + order[j]]
        for j in range(n):
            bonus[first + j] = values[j]


@piece
def insert(z: Array, successor: Index, p: Array, bonus: Array, first: int, n: int) -> None:
    """Sort a row by its values z (n,), by insertion: cheap while it is nearly in order."""
    paid, moves = bonus.size > 0, 0
    for j in range(1, n):
        v = z[j]
        if v < z[j - 1]:
            s, w, here = successor[first + j], p[first + j], j
            extra = bonus[first + j] if paid else 0.0
            while here > 0 and v < z[here - 1]:
                z[here] = z[here - 1]
                successor[first + here] = successor[first + here - 1]
                p[first + here] = p[first + here - 1]
                if paid:
                    bonus[first + here] = bonus[first + here - 1]
                here -= 1
            z[here], successor[first + here], p[first + here] = v, s, w
            if paid:
                bonus[first + here] = extra
            moves += j - here
            if moves > 8 * n:
                sort_row(z, successor, p, bonus, first, n)
                break


@piece
def in_order(
    V: Array, successor: Index, p: Array, bonus: Array, first: Any, n: Any, z: Array
) -> tuple[float, float]:
    """As `gather`, once the row is in the order of its values."""
    before, ordered = -np.inf, True
    for j in range(n):
        v = V[successor[first + j]]
        if bonus.size > 0:
            v += bonus[first + j]
        z[j] = v
        ordered &= v >= before
        before = v
    if not ordered:
        insert(z, successor, p, bonus, int(first), int(n))
    return z[0], z[int(n) - 1]


@piece
def tv_ball(
    parameters: tuple[float, ...], z: Array, low: float, top: float, p: Array, first: Any, n: Any,
    left: bool, multiplier: Array, i: Any, wanted: bool, mass: Array,
) -> float:  # fmt: skip
    """min E_q V over ½ ‖q - p‖₁ <= δ: that much moves from the largest values to the least."""
    (radius,) = parameters
    value = 0.0
    for j in range(n):
        value += p[first + j] * (z[j] - low)
    last, giver = n - np.uint64(1), np.uint64(0 if left else 1)  # what receives gives nothing
    rest = radius
    for back in range(n):
        k = last - back
        if k < giver or not rest > 0.0:
            break
        take = min(rest, p[first + k])
        value -= take * (z[k] - low)
        rest -= take
    if wanted:
        moved = radius - max(rest, 0.0)
        for k in range(n):
            mass[k] = p[first + k]
        rest = moved
        for back in range(n):
            k = last - back
            if k < giver or not rest > 0.0:
                break
            take = min(rest, mass[k])
            mass[k] -= take
            rest -= take
        if not left:
            mass[0] += moved
    return value


@piece
def mean_cvar(
    parameters: tuple[float, ...], z: Array, low: float, top: float, p: Array, first: Any, n: Any,
    left: bool, multiplier: Array, i: Any, wanted: bool, mass: Array,
) -> float:  # fmt: skip
    """(1 - w) E_p V + w CVaR_α V: (1 - w) p, and w poured as w p / α into the least values."""
    weight, level = parameters
    value, rest = 0.0, weight
    for j in range(n):
        mass[j] = (1.0 - weight) * p[first + j]
        value += mass[j] * (z[j] - low)
    for j in range(n):
        if not rest > 0.0:
            break
        take = min(weight * min(p[first + j] / level, 1.0), rest)
        mass[j] += take
        value += take * (z[j] - low)
        rest -= take
    return value


@piece
def linf_ball(
    parameters: tuple[float, ...], z: Array, low: float, top: float, p: Array, first: Any, n: Any,
    left: bool, multiplier: Array, i: Any, wanted: bool, mass: Array,
) -> float:  # fmt: skip
    """min E_q V over |q - p| <= ξ: p - ξ, and the rest poured as up to p + ξ."""
    (radius,) = parameters
    value, rest = 0.0, 1.0
    for j in range(n):
        mass[j] = max(p[first + j] - radius, 0.0)
        value += mass[j] * (z[j] - low)
        rest -= mass[j]
    for j in range(n):
        if not rest > 0.0:
            break
        take = min(min(p[first + j] + radius, 1.0) - mass[j], rest)
        mass[j] += take
        value += take * (z[j] - low)
        rest -= take
    return value


tv_ball_rows = row_by_row(tv_ball, in_order, leaves=True)
mean_cvar_rows = row_by_row(mean_cvar, in_order)
linf_ball_rows = row_by_row(linf_ball, in_order)
