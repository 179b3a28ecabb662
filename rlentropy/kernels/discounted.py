"""Sweeps of discounted planning, and chains of one policy."""

import numpy as np

from rlentropy.kernels.arithmetic import dot
from rlentropy.kernels.cache import borrowing
from rlentropy.kernels.rows import Rows
from rlentropy.types import Array, Index


@borrowing
def greedy_sweep(
    rows: Rows, r: Array, gamma: float, V: Array, Q: Array, TV: Array, choice: Index
) -> tuple[float, float]:
    """Q = r + γ P V, TV = max_a Q, its greedy actions, and the extremes of TV - V."""
    S, A = r.shape
    begin, end, successor, p = rows.begin, rows.end, rows.successor, rows.p
    low, high = np.inf, -np.inf
    for s in range(S):
        best = -np.inf
        for a in range(A):
            i = s * A + a
            q = r[s, a] + gamma * dot(successor, p, V, begin[i], end[i])
            Q[s, a] = q
            if q > best:
                best = q
                choice[s] = np.uint32(a)
        TV[s] = best
        low, high = min(low, best - V[s]), max(high, best - V[s])
    return low, high


@borrowing
def evaluation_sweeps(
    rows: Rows,
    r: Array,
    gamma: float,
    choice: Index,
    V: Array,
    after: Array,
    sweeps: int,
    target: float,
) -> float:
    """Sweeps V = r + γ P V of a fixed policy; returns how far apart the last one's changes are.

    Stops early when they are within `target`; adding a constant brings V close to the fixed point.
    after (S,) is free to be written to.
    """
    S, A = r.shape
    begin, end, successor, p = rows.begin, rows.end, rows.successor, rows.p
    width = np.inf
    for _ in range(sweeps):
        low, high = np.inf, -np.inf
        for s in range(S):
            a = np.int64(choice[s])
            i = s * A + a
            after[s] = r[s, a] + gamma * dot(successor, p, V, begin[i], end[i])
            low, high = min(low, after[s] - V[s]), max(high, after[s] - V[s])
        for s in range(S):
            V[s] = after[s]
        width = high - low
        if width <= target:
            break
    return width


@borrowing
def greedy_sweep_in_place(
    rows: Rows,
    r: Array,
    gamma: float,
    V: Array,
    backwards: bool,
    chain_begin: Index,
    chain_end: Index,
    chain_successor: Index,
    weight: Array,
    reward: Array,
) -> None:
    """A greedy sweep that uses new values at once, and the chain of the policy that it chose.

    It solves self-loops exactly, v = (r + γ Σ_{s' ≠ s} p V) / (1 - γ p(s)). The chain, for
    `solve_chain`, is without them: reward + Σ weight V, rows in the order of the sweep.
    """
    S, A = r.shape
    begin, end, successor, p = rows.begin, rows.end, rows.successor, rows.p
    n = np.uint32(0)
    for k in range(S):
        s = S - 1 - k if backwards else k
        best, chosen, stretch = -np.inf, 0, 1.0
        for a in range(A):
            stay = expected = 0.0
            for j in range(begin[s * A + a], end[s * A + a]):
                if successor[j] == s:
                    stay += p[j]
                else:
                    expected += p[j] * V[successor[j]]
            q, scale = r[s, a] + gamma * expected, 1.0
            if stay > 0.0:
                scale = 1.0 / (1.0 - gamma * stay)
                q *= scale
            if q > best:
                best, chosen, stretch = q, a, scale
        V[s] = best
        reward[s] = stretch * r[s, chosen]
        chain_begin[s] = n
        for j in range(begin[s * A + chosen], end[s * A + chosen]):
            if successor[j] != s:
                chain_successor[n] = successor[j]
                weight[n] = stretch * gamma * p[j]
                n += np.uint32(1)
        chain_end[s] = n


@borrowing
def solve_chain(
    begin: Index,
    end: Index,
    successor: Index,
    weight: Array,
    reward: Array,
    x: Array,
    backwards: bool,
    sweeps: int,
    target: float,
) -> float:
    """Sweeps x(s) = reward(s) + Σ weight x in place, in alternating directions, from x on.

    Stops early when one sweep changes all states by amounts within `target` of each other; returns
    how far apart those of the last one are.
    """
    S, width = x.size, np.inf
    for _ in range(sweeps):
        low, high = np.inf, -np.inf
        for k in range(S):
            s = S - 1 - k if backwards else k
            v = reward[s]
            for j in range(begin[s], end[s]):
                v += weight[j] * x[successor[j]]
            low, high = min(low, v - x[s]), max(high, v - x[s])
            x[s] = v
        width = high - low
        if width <= target:
            break
        backwards = not backwards
    return width


@borrowing
def expect_rows(
    begin: Index, end: Index, successor: Index, p: Array, x: Array, index: Index, out: Array
) -> None:
    """out[k] = Σ p x over row index[k]."""
    for k in range(index.size):
        i = index[k]
        out[k] = dot(successor, p, x, begin[i], end[i])


@borrowing
def greedy(Q: Array, V: Array, TV: Array, choice: Index) -> tuple[float, float]:
    """TV = max_a Q, its first greedy actions, and the extremes of TV - V."""
    low, high = np.inf, -np.inf
    S, A = Q.shape
    for s in range(S):
        best, chosen = Q[s, 0], 0
        for a in range(1, A):
            if Q[s, a] > best:
                best, chosen = Q[s, a], a
        TV[s], choice[s] = best, np.uint32(chosen)
        low, high = min(low, best - V[s]), max(high, best - V[s])
    return low, high


@borrowing
def link_chain(
    gamma: float,
    start: Index,
    state: Index,
    q: Array,
    residual: Array,
    begin: Index,
    end: Index,
    successor: Index,
    weight: Array,
    reward: Array,
) -> None:
    """The chain x = residual + γ q x, for `solve_chain`: self-loops and zeros taken out."""
    n = np.uint32(0)
    for s in range(residual.size):
        stay = 0.0
        for j in range(start[s], start[s + 1]):
            if state[j] == s:
                stay += q[j]
        scale = 1.0 / (1.0 - gamma * stay)
        reward[s] = scale * residual[s]
        begin[s] = n
        for j in range(start[s], start[s + 1]):
            if state[j] != s and q[j] > 0.0:
                successor[n], weight[n] = state[j], scale * gamma * q[j]
                n += np.uint32(1)
        end[s] = n
