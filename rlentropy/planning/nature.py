"""What nature does to the rows of one MDP: robust expectations at speed, and worst cases.

Rewards that depend on the successor enter the risk with it (robust §1.3):

    Q(s, a) = min_q E_q[r(s, a, s') + γ V(s')] + γ D(q, P(. | s, a)) = γ W(P(. | s, a), V + r / γ)

and successors where P stores nothing pay nothing. Terminal states stay where they are. Successors
that the model lists with probability 0 are stored for the measures that may choose them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from rlentropy import risk
from rlentropy.errors import UNIT, InputError, shown
from rlentropy.kernels import fills, tilts
from rlentropy.kernels.arithmetic import log_all
from rlentropy.kernels.cache import called_from_python
from rlentropy.kernels.discounted import expect_rows
from rlentropy.mdp import FiniteMDP
from rlentropy.risk.rows import candidates, is_sparse, padded
from rlentropy.types import Array, Count, Index

Expect = Callable[[Array, Index, Array], None]  # V, rows, where to put W
Worst = Callable[[Array, Index], tuple[Index, Index, Array]]  # V, rows -> CSR of q*
LOOPS: dict[str, Any] = {  # of measures that have one, see `risk.Measure.compiled`
    "entropic": tilts.entropic_rows,
    "worst-case": tilts.worst_case_rows,
    "l1-penalty": tilts.l1_penalty_rows,
    "contamination": tilts.contamination_rows,
    "kl-ball": tilts.kl_ball_rows,
    "tv-ball": fills.tv_ball_rows,
    "mean-cvar": fills.mean_cvar_rows,
    "linf-ball": fills.linf_ball_rows,
}
REARRANGING = ("tv-ball", "mean-cvar", "linf-ball")  # loops that keep rows in order of their values
DENSE = 1 << 20  # entries of a block of rows that has to be made dense
SHIFTED = 600.0  # β span(V) up to which exponentials are taken once a state (robust §1.7)


class Nature:
    """The adversary of a measure on the kernel of an MDP.

    Args:
        measure: any `rlentropy.risk.Measure`.
        gamma: discount, in [0, 1).

    Raises:
        ValueError: the discount is out of range, or the measure's support doesn't fit the states.
    """

    def __init__(self, mdp: FiniteMDP, measure: risk.Measure, gamma: float) -> None:
        if not 0.0 <= gamma < 1.0:
            raise InputError(f"gamma must be in [0, 1), got {gamma}")
        if not isinstance(measure, risk.Measure):
            raise InputError(f"measure must be a risk.Measure, got {shown(measure)}")
        if isinstance(measure, risk.Entropic) and measure.risk_aversion == 0.0:
            measure = risk.Nominal()
        S, A = mdp.num_states, mdp.num_actions
        self.mdp, self.measure, self.gamma = mdp, measure.listing(mdp.support, S), gamma
        rows, r_successor = mdp.rows, mdp.r_successor
        if measure.leaves_support:
            rows, r_successor = mdp.supported_rows
        paid = r_successor is not None and not isinstance(measure, risk.Nominal)
        self.scale = max(gamma, 1e-250) if paid else gamma
        self.myopic = paid and gamma == 0.0
        if self.myopic:  # nature sees rewards alone, and penalties cost 0 times what they say
            self.scale = 1.0
            if measure.priced:
                self.measure = risk.WorstCase(self.measure.support)
        self.begin, self.end, self.successor, self.p = rows.begin, rows.end, rows.successor, rows.p
        self.defect = mdp.defect
        if self.defect > 1e-13:  # constants must move W by themselves
            self.p = rows.p / np.repeat(mdp.sums, np.diff(rows.begin, append=rows.end[-1]))
            self.defect = UNIT
        self.measure = self.measure.remembering(S * A)
        self.factor = 1.0  # of the measure's own rounding
        self.ended = np.repeat(mdp.terminal, A)
        self.alive = np.flatnonzero(~self.ended).astype(np.uint32)
        self.longest = int((rows.end - rows.begin).max()) + self._list(measure)
        self._pay(r_successor if paid else None)
        self._expect, self._worst = self._plan(paid)

    def _list(self, measure: risk.Measure) -> int:
        """Read the states that the measure lists itself; the rows store what the model does.

        Returns how many successors beyond those of a row a sum may run over.
        """
        R, S = self.ended.size, self.mdp.num_states
        self.stored = is_sparse(measure.support)
        self.listed = None if self.stored else candidates(measure.support, S)
        if self.listed is not None and self.listed.ndim == 2 and len(self.listed) != R:
            raise InputError(
                f"support mask must be (S,) or (S*A, S) = {(R, S)}, got {self.listed.shape}"
            )
        self.others = 0
        if self.stored or self.listed is not None:
            self.others = 1 if measure.one_outsider else S
        return self.others

    def _pay(self, r_successor: Array | None) -> None:
        """Rewards r (S, A), and what stored transitions pay over γ; None: rewards of (s, a)."""
        mdp = self.mdp
        self.r, self.by_row, self.bonus = mdp.r.copy(), False, np.zeros(0)
        self.most_earned, self.most_paid = mdp.largest_reward, 0.0
        if r_successor is not None:
            middle = 0.5 * float(r_successor.max() + r_successor.min())
            # A large offset would drown values; but successors that aren't stored pay nothing.
            centred = self.listed is None and not mdp.terminal.any()
            self.r = np.full_like(self.r, middle if centred else 0.0)
            self.bonus = (r_successor - (middle if centred else 0.0)) / self.scale
            self.most_earned, self.most_paid = abs(middle), float(np.abs(self.bonus).max())
        self.reward = self.r

    def expectations(self, V: Array, index: Index | None = None) -> Array:
        """W of rows `index` (K,), default all S * A, from values V (S,)."""
        index = self.alive if index is None else index
        if not (whole := index is self.alive):
            ended = self.ended[index]
            if ended.any():
                W = V[index // self.mdp.num_actions]
                W[~ended] = self.expectations(V, index[~ended])
                return W
        V = np.zeros_like(V) if self.myopic else V
        W = np.empty(index.size)
        self._expect(V, index, W)
        if not whole or self.alive.size == self.ended.size:
            return W
        full = np.repeat(V, self.mdp.num_actions)
        full[self.alive] = W
        return full

    def backup(self, V: Array) -> Array:
        """Q = r + γ W(P, V), (S, A)."""
        Q = self.expectations(V).reshape(self.r.shape)
        Q *= self.scale
        Q += self.r
        return Q

    def shift(self, rho: float) -> None:
        """Pay ρ less for every action; from now on rows round by their own values alone."""
        self.r, self.by_row = self.reward - rho, True
        self.most_earned = float(np.abs(self.r).max())

    def slack(self, V: Array, size: float, mean: int = 0) -> float:
        """The most that `rounding` can be anywhere, at a glance."""
        low, high = float(V.min()), float(V.max())
        largest = max(high, -low)
        error = self.factor * self.measure.error(
            low - self.most_paid, high + self.most_paid, self.longest
        )
        sums = 3.0 * UNIT * (self.most_earned + largest)
        arithmetic = (1.0 + mean / 3.0) * (self.scale * error + sums)
        return float(arithmetic + self.scale * (self.defect + self.longest * UNIT) * size)

    def rounding(self, V: Array, size: float, mean: int = 0) -> Array:
        """How far `backup` may be from r + γ W(P, V) at any model with these floats, (S, A).

        A row whose floats don't sum to 1 exactly stands for itself and for the distribution that it
        is a multiple of, so what it leaves out of 1 counts too.

        Args:
            size: the largest |value| that V stands for, which may be less a constant.
            mean: over how many actions a mean is taken.
        """
        begin = self.begin.astype(np.int64)
        values = V[self.successor] + self.bonus if self.bonus.size else V[self.successor]
        low, high = np.minimum.reduceat(values, begin), np.maximum.reduceat(values, begin)
        if self.others:
            low, high = np.minimum(low, V.min()), np.maximum(high, V.max())
        count = (self.end - self.begin).astype(np.float64) + self.others
        sums = 3.0 * UNIT * (np.abs(self.r) + np.abs(V)[:, None])
        error = self.factor * self.measure.error(low, high, count)
        error = self.scale * error.reshape(self.r.shape) + sums
        doubt = self.scale * size * self.defects.reshape(self.r.shape)
        error = (1.0 + mean / 3.0) * error + doubt
        error[self.mdp.terminal] = 0.0
        return np.asarray(error)

    @cached_property
    def defects(self) -> Array:
        """|Σ p - 1| of every row, exactly, (S*A,)."""
        p = self.p.tolist()
        places = zip(self.begin.tolist(), self.end.tolist(), strict=True)
        return np.abs([math.fsum([-1.0, *p[i:j]]) for i, j in places])

    def worst_cases(self, V: Array, index: Index) -> tuple[Index, Index, Array]:
        """q* of rows `index` (K,) as CSR: start (K + 1,), state and probability (N,)."""
        V = np.zeros_like(V) if self.myopic else V
        ended = self.ended[index]
        if not ended.any():
            return self._worst(V, index)
        start, state, q = self._worst(V, index[~ended]) if not ended.all() else _nothing()
        counts = np.ones(index.size, np.int64)
        counts[~ended] = np.diff(start.astype(np.int64))
        stays = np.repeat(ended, counts)
        states, chances = np.empty(stays.size, np.uint32), np.empty(stays.size)
        states[stays], chances[stays] = index[ended] // self.mdp.num_actions, 1.0
        states[~stays], chances[~stays] = state, q
        return np.append(0, np.cumsum(counts)).astype(np.uint32), states, chances

    def kernel(self, V: Array) -> sp.csr_array:
        """The worst case of all rows, (S*A, S)."""
        S, rows = self.mdp.num_states, self.ended.size
        start, state, q = self.worst_cases(V, np.arange(rows, dtype=np.uint32))
        matrix = sp.csr_array((q, state.astype(np.int32), start.astype(np.int32)), (rows, S))
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        return matrix

    # ---------------------------------------------------------------- measures

    def _plan(self, paid: bool) -> tuple[Expect, Worst]:
        """The fastest loops that fit the measure: (V, index, W) -> None, (V, index) -> CSR."""
        measure, listed = self.measure, self.listed
        if isinstance(measure, risk.Nominal):
            return self._linear(lambda V: V), self._nominal
        # Compiled loops know one list of states for all rows, of which they need the least.
        simple = not self.stored and (listed is None or (listed.ndim == 1 and measure.reach == 1))
        loop = measure.compiled() if simple or not measure.leaves_support else None
        if loop is None:
            return self._generic, self._generic_worst
        expect, worst = self._row_by_row(*loop)
        match measure:
            case risk.Entropic(risk_aversion=beta):
                expect = self._entropic(beta, expect)
            case risk.L1Penalty() if listed is not None and listed.all() and not paid:
                expect = self._linear(measure.clipped)
        return expect, worst

    def _outside(self, V: Array) -> Index:
        """The least listed states, enough that no row stores them all."""
        if self.listed is None:
            return np.zeros(0, np.uint32)
        states = np.flatnonzero(self.listed)
        enough = int((self.end - self.begin).max()) + 1 if self.bonus.size else 1
        if enough < states.size:
            states = states[np.argpartition(V[states], enough - 1)[:enough]]
        return states[np.argsort(V[states], kind="stable")].astype(np.uint32)

    def _linear(self, transform: Callable[[Array], Array]) -> Expect:
        def expect(V: Array, index: Index, W: Array) -> None:
            rows = (self.begin, self.end, self.successor, self.p)
            expect_rows(*rows, transform(V), index, W)

        return expect

    def _entropic(self, beta: float, by_row: Expect) -> Expect:
        """Exponentials once a state, one product, one logarithm a row (robust §1.7.2-3).

        Rewards of successors go into the weights: p e^{-β (V + bonus)} = (p e^{-β bonus}) e^{-β V}.
        """
        weight, least = self.p, 0.0
        if self.bonus.size:
            least = float(self.bonus.min())
            weight = self.p * np.exp(-beta * (self.bonus - least))

        def expect(V: Array, index: Index, W: Array) -> None:
            low, high = V.min(), V.max()
            if self.by_row:
                by_row(V, index, W)
                return
            narrow = beta * (high - low) < 1e-2
            if not beta * (high - low) < SHIFTED or (narrow and self.bonus.size):
                by_row(V, index, W)
                return
            rows = (self.begin, self.end, self.successor, weight)
            if narrow:
                low = 0.5 * (low + high)
                expect_rows(*rows, np.expm1(-beta * (V - low)), index, W)
                np.log1p(W, out=W)
                lost = np.zeros(0, np.int64)
            else:
                expect_rows(*rows, np.exp(-beta * (V - low)), index, W)
                lost = np.flatnonzero(W < 1e-280)  # rows far above the least state
                W[lost] = 1.0
                called_from_python(log_all)(W)
            W *= -1.0 / beta
            W += low + least
            if lost.size:
                again = np.empty(lost.size)
                by_row(V, index[lost], again)
                W[lost] = again

        return expect

    def _row_by_row(self, name: str, parameters: tuple[float, ...]) -> tuple[Expect, Worst]:
        """The compiled loop of a measure."""
        loop, multiplier = LOOPS[name], np.zeros(self.ended.size)
        longest = int((self.end - self.begin).max())
        scratch = np.empty(longest), np.empty(longest)
        if name in REARRANGING:  # not the rows of the MDP
            self.successor, self.p = self.successor.copy(), self.p.copy()
            self.bonus = self.bonus.copy()

        def call(V: Array, index: Index, W: Array, start: Index, state: Index, q: Array) -> None:
            loop(
                parameters, self.begin, self.end, self.successor, self.p, self.bonus, V,
                self._outside(V), index, W, multiplier, *scratch, start, state, q,
            )  # fmt: skip

        def expect(V: Array, index: Index, W: Array) -> None:
            call(V, index, W, *_nothing())

        def worst(V: Array, index: Index) -> tuple[Index, Index, Array]:
            room = np.cumsum(self.end[index].astype(np.int64) - self.begin[index] + 1)
            start = np.append(0, room).astype(np.uint32)
            state, q = np.empty(room[-1], np.uint32), np.empty(room[-1])
            call(V, index, np.empty(index.size), start, state, q)
            return start, state, q

        return expect, worst

    def _nominal(self, V: Array, index: Index) -> tuple[Index, Index, Array]:
        matrix = self._rows(index)
        return matrix.indptr.astype(np.uint32), matrix.indices.astype(np.uint32), matrix.data

    def _rows(self, index: Index) -> sp.csr_array:
        shape = (self.ended.size, self.mdp.num_states)
        P = sp.csr_array((self.p, *self._places()), shape)
        return P if index.size == shape[0] else P[index]

    def _places(self) -> tuple[Any, Any]:
        """Columns and row pointers of the kernel as scipy takes them."""
        pointers = np.append(self.begin, self.end[-1]).astype(np.int32)
        return self.successor.astype(np.int32), pointers

    def _generic(self, V: Array, index: Index, W: Array) -> None:
        """The measure's own arrays."""
        if not self.bonus.size:
            W[:] = self.measure.of_rows(index).expectation(self._rows(index), V)
        else:
            for part, _, p, z in self._blocks(V, index):
                W[part] = self.measure.of_rows(index[part]).expectation(p, z)

    def _generic_worst(self, V: Array, index: Index) -> tuple[Index, Index, Array]:
        if not self.bonus.size:
            worst = self.measure.of_rows(index).worst_case(self._rows(index), V)
        else:
            rows, columns, entries = [], [], []
            for part, states, p, z in self._blocks(V, index):
                q = self.measure.of_rows(index[part]).worst_case(p, z)
                row, column = np.nonzero(q)
                rows.append(part[row])
                columns.append(np.broadcast_to(states, q.shape)[row, column])
                entries.append(q[row, column])
            places = (np.concatenate(rows), np.concatenate(columns))
            shape = (index.size, self.mdp.num_states)
            worst = sp.coo_array((np.concatenate(entries), places), shape).tocsr()
        return worst.indptr.astype(np.uint32), worst.indices.astype(np.uint32), worst.data

    def _blocks(self, V: Array, index: Index) -> Iterator[tuple[Count, Count, Array, Array]]:
        """Rows by blocks: which, the states of their columns, p and V + r / γ, (n, columns).

        As short as the rows are where the measure doesn't care which states its columns stand for,
        else dense.
        """
        P = self._rows(index)
        bonus = sp.csr_array((self.bonus, *self._places()), (self.ended.size, self.mdp.num_states))
        bonus = bonus[index]
        short = isinstance(self.measure.support, str) and self.measure.support == "nominal"
        if short and self.measure.anonymous:
            for (part, states, inside, p), (_, _, _, paid) in zip(
                padded(P), padded(bonus), strict=True
            ):
                yield part, states, p, np.where(inside, V[states] + paid, 0.0)
            return
        step = max(1, DENSE // self.mdp.num_states)
        states = np.arange(self.mdp.num_states)[None]
        for k in range(0, index.size, step):
            part = np.arange(k, min(k + step, index.size))
            yield part, states, P[part].toarray(), V + bonus[part].toarray()


def _nothing() -> tuple[Index, Index, Array]:
    return np.zeros(0, np.uint32), np.zeros(0, np.uint32), np.zeros(0)
