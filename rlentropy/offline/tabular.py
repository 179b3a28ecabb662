"""Fitted iteration on tables: exact value iteration on the empirical robust MDP (robust §4.4).

With the frequencies p(s' | s, a) of the data, mean rewards r(s, a, s') and c(s, a) = E_p r,

    Q(s, a) = c(s, a) + γ W(p, x),    x(s') = (r(s, a, s') - c(s, a)) / γ + V(s')

is min_q E_q[r + γ V] + γ D(q, p), the backup of §1.3 for rewards that depend on s', since W moves
with constants; x is V(s') where they don't. For the entropic measure W is U = -(1/β) log Z, so
that these are the iterations of RFZI in the log domain; no Z is ever formed.

Differences from the paper: the reward is averaged from the data instead of known, and cells
without data have a value of their own, see `Model`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from rlentropy.data import Counts
from rlentropy.errors import InputError
from rlentropy.mdp import FiniteMDP
from rlentropy.risk import Measure
from rlentropy.types import Array, Count


@dataclass(frozen=True)
class Model:
    """Successors of the R visited cells, n pairs in all; a cell is s * A + a."""

    visits: Count  # (S, A)
    terminal: Any  # (S,), of bool
    cell: Count  # (R,)
    reward: Array  # (R,), c
    p: Any  # CSR (R, n): a column is one (s, a, s'), not shared by cells
    excess: Array  # (n,), r - c
    successor: Count  # (n,)
    alive: Any  # (n,), of bool: the episode goes on in the successor

    @classmethod
    def counted(cls, counts: Counts) -> Model:
        """The empirical model, with rewards averaged over each (s, a, s') and over its ends."""
        S, terminal = counts.terminal.size, counts.terminal
        n, total = counts.transitions, counts.rewards
        if counts.ends is not None:
            n = sparse.hstack([n, counts.ends], format="csr")
            total = sparse.hstack([total, counts.end_rewards], format="csr")
        n = n.tocoo()
        rewards = (np.zeros(n.nnz) + total[n.row, n.col]) / n.data
        visits = np.bincount(n.row, n.data, n.shape[0])
        s2 = n.col % S
        alive = (n.col < S) & ~terminal[s2]
        cells = visits.astype(np.int64).reshape(S, -1)
        return cls._of(cells, terminal, n.row, n.data / visits[n.row], rewards, s2, alive)

    @classmethod
    def of(cls, mdp: FiniteMDP) -> Model:
        """A known model: every cell counts as visited once."""
        rows, S, A = mdp.rows, mdp.num_states, mdp.num_actions
        cell = np.repeat(np.arange(S * A), (rows.end - rows.begin).astype(np.int64))
        r = mdp.r.ravel()[cell] if mdp.r_successor is None else mdp.r_successor
        visits, alive = np.ones((S, A), np.int64), ~mdp.terminal[rows.successor]
        return cls._of(visits, mdp.terminal, cell, rows.p, r, rows.successor, alive)

    @classmethod
    def _of(
        cls, visits: Count, terminal: Any, cell: Any, p: Array, r: Array, s2: Any, alive: Any
    ) -> Model:
        cells, row = np.unique(cell.astype(np.int64), return_inverse=True)
        begin = np.searchsorted(row, np.arange(cells.size + 1))
        c = np.asarray(np.bincount(row, p * r, cells.size), np.float64)
        P = sparse.csr_array((p, np.arange(p.size), begin), shape=(cells.size, p.size))
        excess = r - c[row]
        # Rewards of (s, a) stay that: the means of n equal numbers differ by rounding alone.
        terms = visits.ravel()[cells] + 4 * np.diff(begin)
        largest = np.maximum.reduceat(np.abs(r), begin[:-1])
        rounding = np.finfo(np.float64).eps * terms * largest
        excess[np.abs(excess) <= rounding[row]] = 0.0
        return cls(visits, terminal, cells, c, P, excess, s2.astype(np.int64), alive)


def bellman(
    model: Model, measure: Measure, gamma: float, V: Array, unvisited: float, fail: float | None
) -> Array:
    """Q (S, A) of one backup of V (S,).

    Args:
        gamma: discount, in (0, 1).
        unvisited: Q of the cells without data.
        fail: value of one more state that may follow every cell, which has probability 0; None
            for no such state. The measure must let nature go there.
    """
    x = model.excess / gamma + np.where(model.alive, V[model.successor], 0.0)
    p = model.p
    if fail is not None:
        x = np.append(x, fail)
        p = sparse.csr_array((p.data, p.indices, p.indptr), shape=(p.shape[0], x.size))
    Q = np.full(model.visits.shape, float(unvisited))
    Q.ravel()[model.cell] = model.reward + gamma * measure.expectation(p, x)
    Q[model.terminal] = 0.0
    return Q


class ValueIteration:
    """Value iteration with bounds that tell when it is done.

    After each backup MacQueen's bounds hold: V* is in TV + γ/(1-γ) [low, high], where [low, high]
    is the range of TV - V. Values that are fixed (after termination, of unvisited cells, of the
    fail state) count as a TV - V of 0.

    Args:
        model, measure, gamma, unvisited, fail: as of `bellman`.
    """

    def __init__(
        self,
        model: Model,
        measure: Measure,
        gamma: float,
        unvisited: float = 0.0,
        fail: float | None = None,
    ) -> None:
        self.model, self.measure, self.gamma = model, measure, gamma
        self.unvisited, self.fail = unvisited, fail
        S, A = model.visits.shape
        self.fixed = fail is not None or model.cell.size < S * A or not model.alive.all()
        self.V, self.Q = np.zeros(S), np.zeros((S, A))
        self.bound = np.inf  # on max |V - V*|

    def update(self) -> None:
        """One backup; V and Q move to the middle of the bounds where nothing is fixed.

        Raises:
            InputError: the values overflow.
        """
        gamma = self.gamma
        scale = gamma / (1.0 - gamma)
        Q = bellman(self.model, self.measure, gamma, self.V, self.unvisited, self.fail)
        change = Q.max(1) - self.V
        low, high = float(change.min()), float(change.max())
        if not np.isfinite(low + high):
            raise InputError("rewards must be small enough for finite values, got an overflow")
        if self.fixed:
            low, high = min(low, 0.0), max(high, 0.0)
            self.bound = scale * max(-low, high)
        else:
            self.bound = scale * (high - low) / 2.0
            Q += scale * (low + high) / 2.0
        self.Q, self.V = Q, Q.max(1)


def solve(
    iteration: ValueIteration, tolerance: float = 1e-11, max_updates: int = 100_000
) -> ValueIteration:
    """Iterate until V is known to the tolerance.

    Raises:
        RuntimeError: it is not after max_updates backups.
    """
    for _ in range(max_updates):
        iteration.update()
        if iteration.bound <= tolerance:
            return iteration
    raise RuntimeError(
        f"fitted iteration: V is known to {iteration.bound:.3g} after {max_updates} updates, "
        f"tolerance is {tolerance:.3g}: raise tolerance or max_updates"
    )
