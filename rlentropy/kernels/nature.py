"""What nature does to one row after another: the loop that all compiled risk measures share.

`row_by_row` makes a measure's own loop from two pieces: how it reads a row, and its arithmetic.
A piece is compiled into the loop, so that a command compiles the measure that it uses alone.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from rlentropy.kernels.cache import borrowing, piece
from rlentropy.types import Array, Index


@piece
def gather(
    V: Array, successor: Index, p: Array, bonus: Array, first: Any, n: Any, z: Array
) -> tuple[float, float]:
    """z[j] = V(s') + bonus of the j-th of n transitions from `first` on; its least and largest."""
    low, top = np.inf, -np.inf
    if bonus.size > 0:
        for j in range(n):
            value = V[successor[first + j]] + bonus[first + j]
            z[j] = value
            low, top = min(low, value), max(top, value)
    else:
        for j in range(n):
            value = V[successor[first + j]]
            z[j] = value
            low, top = min(low, value), max(top, value)
    return low, top


@piece
def least_outside(
    outside: Index, successor: Index, first: Any, n: Any, paid: bool, V: Array, low: float
) -> int:
    """The first state of `outside` below `low` that the row doesn't store, -1 for none.

    Where rewards don't depend on the successor a state that is stored is never below the row's low.
    """
    for k in range(outside.size):
        s = outside[k]
        if not V[s] < low:
            return -1
        stored = False
        if paid:
            for j in range(n):
                stored |= successor[first + j] == s
        if not stored:
            return int(s)
    return -1


@piece
def write(
    mass: Array, successor: Index, first: Any, n: Any, other: int, at: Any, state: Index, q: Array
) -> None:
    """A row's worst case from place `at` on: its transitions, then what the state `other` gets."""
    for j in range(n):
        state[at + j], q[at + j] = successor[first + j], mass[j]
    state[at + n], q[at + n] = successor[first], 0.0
    if other >= 0:
        total = 0.0
        for j in range(n):
            total += mass[j]
        state[at + n], q[at + n] = other, max(1.0 - total, 0.0)


def row_by_row(
    measure: Callable[..., float], gather: Callable[..., Any] = gather, leaves: bool = False
) -> Any:
    """The loop of a measure: robust expectations W (K,) of rows index[k], and their worst cases.

    It takes, in this order:
        parameters: of the measure.
        begin, end, successor, p: as of `rows.Rows`; some measures rearrange rows.
        bonus: what is added to V(s') at each stored transition, (M,); or (0,) for nothing.
        V: values, (S,).
        outside: states where mass may go that a row doesn't store, by ascending V; as many as the
            longest row has transitions and one, or fewer if there are no more.
        index, W: (K,).
        multiplier: (R,) where a row's search starts, and leaves what it found.
        z, mass: free to be written to, as long as the longest row.
        start: (K + 1,) places in state and q: a row's transitions, then one outside. Or (0,).
        state, q: worst cases, (N,). Or (0,).

    Args:
        measure: a piece, (parameters, z, low, top, p, first, n, left, multiplier, i, wanted, mass)
            -> W - low, for a row with probabilities p[first : first + n] and values z (n,), of
            which top is the largest; low is the least that nature may reach. `left` says that low
            is the value of a state that the row doesn't store. If wanted, mass (n,) is what
            nature leaves on the row's own transitions; it is free to be written to in any case.
            multiplier[i] is the row's own.
        gather: a piece that reads a row into z.
        leaves: whether nature may lead to a state that a row doesn't store.
    """

    @borrowing
    def expect(
        parameters: tuple[float, ...],
        begin: Index,
        end: Index,
        successor: Index,
        p: Array,
        bonus: Array,
        V: Array,
        outside: Index,
        index: Index,
        W: Array,
        multiplier: Array,
        z: Array,
        mass: Array,
        start: Index,
        state: Index,
        q: Array,
    ) -> None:
        """Fill W, and the worst cases if there is room for them."""
        wanted = start.size > 0
        for k in range(index.size):
            i = index[k]
            first = np.uint64(begin[i])  # unsigned indices are not checked for being negative
            n = np.uint64(end[i]) - first
            low, top = gather(V, successor, p, bonus, first, n, z)
            other = -1
            if leaves:
                other = least_outside(outside, successor, first, n, bonus.size > 0, V, low)
                if other >= 0:
                    low = V[other]
            W[k] = low + measure(
                parameters, z, low, top, p, first, n, other >= 0, multiplier, i, wanted, mass
            )
            if wanted:
                write(mass, successor, first, n, other, np.uint64(start[k]), state, q)

    return expect
