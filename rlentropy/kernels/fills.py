"""Robust expectations whose worst case pours mass into the lowest values first."""

from typing import Any

import numpy as np

from rlentropy.kernels.cache import compiled
from rlentropy.kernels.tilts import _outsider
from rlentropy.types import Array, Index

FILLS = ("tv-ball", "mean-cvar", "linf-ball")  # these need a row's values in order


@compiled
def _sort_row(z: Array, successor: Index, p: Array, bonus: Array, first: Any, n: Any) -> None:
    """Rearrange a row by its values z (n,)."""
    order = np.argsort(z[:n], kind="mergesort")
    z[:n] = z[:n][order]
    successor[first : first + n] = successor[first : first + n][order]
    p[first : first + n] = p[first : first + n][order]
    if bonus.size > 0:
        bonus[first : first + n] = bonus[first : first + n][order]


@compiled
def fill_rows(
    kind: int,
    parameter: float,
    level: float,
    begin: Index,
    end: Index,
    successor: Index,
    p: Array,
    bonus: Array,
    V: Array,
    outside: Index,
    index: Index,
    W: Array,
    start: Index,
    state: Index,
    q: Array,
) -> None:
    """As `tilt_rows`, for measures that pour mass into the lowest values first.

    A row's transitions are kept in the order of its values: successor, p and bonus are rearranged
    in place, which costs little while that order changes little from call to call.

    Args:
        kind: into FILLS.
        parameter: radius of TV (the mass that moves) or L∞, or the weight of CVaR in the mean.
        level: of CVaR.
    """
    longest: Any = 1
    for k in range(index.size):
        longest = max(longest, np.int64(end[index[k]]) - np.int64(begin[index[k]]))
    z, mass = np.empty(longest), np.empty(longest)
    wanted, paid = start.size > 0, bonus.size > 0
    for k in range(index.size):
        i = index[k]
        first = np.int64(begin[i])
        n = np.int64(end[i]) - first
        for j in range(n):
            z[j] = V[successor[first + j]]
        if paid:
            for j in range(n):
                z[j] += bonus[first + j]
        moves = 0  # by insertion: cheap while nearly sorted
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
                    _sort_row(z, successor, p, bonus, first, n)
                    break
        low, value, other = z[0], 0.0, -1
        if kind == 0:
            if outside.size > 0:
                other = _outsider(outside, successor, first, n, paid, V, low)
                if other >= 0:
                    low = V[other]
            for j in range(n):
                value += p[first + j] * (z[j] - low)
            left, j = parameter, int(n - 1)
            kept: Any = -1 if other >= 0 else 0  # the state that receives gives nothing
            while j > kept and left > 0.0:
                take = min(left, p[first + j])
                value -= take * (z[j] - low)
                left -= take
                j -= 1
            if wanted:
                moved = parameter - max(left, 0.0)
                for j in range(n):
                    mass[j] = p[first + j]
                left, j = moved, int(n - 1)
                while j > kept and left > 0.0:
                    take = min(left, mass[j])
                    mass[j] -= take
                    left -= take
                    j -= 1
                if other < 0:
                    mass[0] += moved
        else:
            left = parameter if kind == 1 else 1.0
            for j in range(n):
                w = p[first + j]
                mass[j] = (1.0 - parameter) * w if kind == 1 else max(w - parameter, 0.0)
                value += mass[j] * (z[j] - low)
                if kind == 2:
                    left -= mass[j]
            j = 0
            while j < n and left > 0.0:
                w = p[first + j]
                if kind == 1:
                    room = parameter * min(w / level, 1.0)
                else:
                    room = min(w + parameter, 1.0) - mass[j]
                take = min(room, left)
                mass[j] += take
                value += take * (z[j] - low)
                left -= take
                j += 1
        W[k] = low + value
        if wanted:
            at, total = np.int64(start[k]), 0.0
            for j in range(n):
                state[at + j], q[at + j] = successor[first + j], mass[j]
                total += mass[j]
            state[at + n], q[at + n] = successor[first], 0.0
            if other >= 0:
                state[at + n], q[at + n] = other, max(1.0 - total, 0.0)
