"""What nature does to the rows of one MDP: robust expectations at speed, and worst cases.

Rewards that depend on the successor enter the risk with it (robust spec §1.3):

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
from rlentropy.errors import InputError
from rlentropy.kernels.arithmetic import log_all
from rlentropy.kernels.discounted import expect_rows
from rlentropy.kernels.fills import FILLS, fill_rows
from rlentropy.kernels.tilts import TILTS, tilt_rows
from rlentropy.mdp import FiniteMDP
from rlentropy.risk.rows import candidates, is_sparse, padded
from rlentropy.types import Array, Count, Index

Expect = Callable[[Array, Index, Array], None]  # V, rows, where to put W
Worst = Callable[[Array, Index], tuple[Index, Index, Array]]  # V, rows -> CSR of q*
ANONYMOUS = (  # measures without arguments by state
    risk.Chi2Penalty, risk.CressieReadPenalty, risk.FDivergencePenalty,
    risk.BurgBall, risk.Chi2Ball, risk.L2Ball,
)  # fmt: skip
PENALTIES = (
    risk.Entropic, risk.Chi2Penalty, risk.L1Penalty, risk.CressieReadPenalty,
    risk.FDivergencePenalty, risk.WassersteinPenalty,
)  # fmt: skip
OUTSIDER = (risk.WorstCase, risk.L1Penalty, risk.Contamination, risk.TVBall, risk.L1Ball)
UNIT = 2.0**-53  # half the distance of 1 to the next float64
# What a measure's arithmetic adds to that of a mean, in units: measured against 60 digits
# (benchmarks/certificates.py), with room.
ERRORS: tuple[tuple[Any, float], ...] = (
    (risk.Nominal, 1.0),
    (OUTSIDER, 4.0),
    ((risk.MeanCVaR, risk.LinfBall, risk.Entropic, risk.IntervalBall, risk.Scenarios), 4.0),
    ((risk.Chi2Penalty, risk.L2Ball, risk.WassersteinPenalty, risk.WassersteinBall), 8.0),
    ((risk.CressieReadPenalty, risk.BurgBall, risk.WeightedL1Ball), 32.0),
    ((risk.KLBall, risk.Chi2Ball), 64.0),  # at radii of 1e-6
)
DENSE = 1 << 20  # entries of a block of rows that has to be made dense
NOTHING = 1e-33  # KL radius up to which √(2δ Var V) is lost in the rounding of E V
SHIFTED = 600.0  # β span(V) up to which exponentials are taken once a state (robust spec §1.7)


def rounding_of_backups(mdp: FiniteMDP, V: Array, gamma: float, reach: float) -> float:
    """How far r + γ P V in float64 may be from what it is at any model with these floats, and from
    r + γ P (V + c) - γ c, |c| <= reach.
    """
    largest = max(float(V.max()), -float(V.min()))
    count = mdp.longest
    own = UNIT * ((count + 2.0) * gamma * largest + 3.0 * (mdp.largest_reward + largest))
    return own + gamma * (mdp.defect + count * UNIT) * (largest + reach)


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
            raise InputError(f"measure must be a risk.Measure, got {measure!r}")
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
            if isinstance(measure, PENALTIES):
                self.measure = risk.WorstCase(self.measure.support)
        self.r = np.zeros((S, A)) if paid else mdp.r.copy()
        self.begin, self.end, self.successor, self.p = rows.begin, rows.end, rows.successor, rows.p
        self.defect = mdp.defect
        if self.defect > 1e-13:  # constants must move W by themselves
            self.p = rows.p / np.repeat(mdp.sums, np.diff(rows.begin, append=rows.end[-1]))
            self.defect = UNIT
        # What the measure lists itself; the rows store what the model does.
        stored = is_sparse(measure.support)
        self.listed = None if stored else candidates(measure.support, S)
        # Successors beyond those of a row that a sum may run over.
        self.others = 0
        if stored or self.listed is not None:
            self.others = 1 if isinstance(measure, OUTSIDER) else S
        self.longest = int((rows.end - rows.begin).max()) + self.others
        self.bonus, middle = np.zeros(0), 0.0
        if paid:
            assert r_successor is not None
            middle = 0.5 * float(r_successor.max() + r_successor.min())
            # A large offset would drown values; but successors that aren't stored pay nothing.
            if self.listed is None and not mdp.terminal.any():
                self.r = np.full((S, A), middle)
                self.bonus = (r_successor - middle) / self.scale
            else:
                self.bonus = r_successor / self.scale
        self.reward, self.by_row = self.r, False
        self.most_earned = abs(middle) if paid else mdp.largest_reward
        self.most_paid = float(np.abs(self.bonus).max()) if paid else 0.0
        self.alive = np.flatnonzero(np.repeat(~mdp.terminal, A)).astype(np.uint32)
        self.ended = np.repeat(mdp.terminal, A)
        self.multiplier = np.zeros(0)  # warm starts of KL balls
        if self.listed is not None and self.listed.ndim == 2 and len(self.listed) != S * A:
            raise InputError(
                f"support mask must be (S,) or (S*A, S) = {(S * A, S)}, got {self.listed.shape}"
            )
        self._expect: Expect
        self._worst: Worst
        self._expect, self._worst = self._plan(paid, stored)

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
        error = self._error(low - self.most_paid, high + self.most_paid, self.longest)
        own = 3.0 * UNIT * (self.most_earned + largest)
        arithmetic = (1.0 + mean / 3.0) * (self.scale * error + own)
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
        own = 3.0 * UNIT * (np.abs(self.r) + np.abs(V)[:, None])
        error = self.scale * self._error(low, high, count).reshape(self.r.shape) + own
        doubt = self.scale * size * self.defects.reshape(self.r.shape)
        error = (1.0 + mean / 3.0) * error + doubt
        error[self.mdp.terminal] = 0.0
        return np.asarray(error)

    @cached_property
    def factor(self) -> float:
        """What `ERRORS` says of the measure; 1024 of one that it doesn't know."""
        return next((f for kinds, f in ERRORS if isinstance(self.measure, kinds)), 1024.0)

    @cached_property
    def defects(self) -> Array:
        """|Σ p - 1| of every row, exactly, (S*A,)."""
        p = self.p.tolist()
        places = zip(self.begin.tolist(), self.end.tolist(), strict=True)
        return np.abs([math.fsum([-1.0, *p[i:j]]) for i, j in places])

    def _error(self, low: Any, high: Any, count: Any) -> Any:
        """The rounding of W over rows of so many successors with values in [low, high]."""
        largest, span = np.maximum(np.abs(low), np.abs(high)), high - low
        if isinstance(self.measure, risk.Nominal):
            return self.factor * (count + 2.0) * UNIT * largest
        if isinstance(self.measure, risk.Entropic):  # a logarithm's, over β
            span = np.minimum(1.0 / self.measure.risk_aversion, 200.0 * span)
        # Costs near 0 round by weight × unit², but p is known to cost nothing, and no q less: then
        # the error is at most the geometric mean of that and of nature's gain, about span²/weight.
        return UNIT * (4.0 * largest + self.factor * (count + 8.0) * span) + 1e-305

    def worst_cases(self, V: Array, index: Index) -> tuple[Index, Index, Array]:
        """q* of rows `index` (K,) as CSR: start (K + 1,), state and probability (N,)."""
        V = np.zeros_like(V) if self.myopic else V
        ended = self.ended[index]
        if not ended.any():
            return self._worst(V, index)
        start, state, q = self._worst(V, index[~ended]) if not ended.all() else _nothing()
        counts = np.ones(index.size, np.int64)
        counts[~ended] = np.diff(start.astype(np.int64))
        own = np.repeat(ended, counts)
        everyone, chances = np.empty(own.size, np.uint32), np.empty(own.size)
        everyone[own], chances[own] = index[ended] // self.mdp.num_actions, 1.0
        everyone[~own], chances[~own] = state, q
        return np.append(0, np.cumsum(counts)).astype(np.uint32), everyone, chances

    def kernel(self, V: Array) -> sp.csr_array:
        """The worst case of all rows, (S*A, S)."""
        S, rows = self.mdp.num_states, self.ended.size
        start, state, q = self.worst_cases(V, np.arange(rows, dtype=np.uint32))
        matrix = sp.csr_array((q, state.astype(np.int32), start.astype(np.int32)), (rows, S))
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        return matrix

    # ---------------------------------------------------------------- measures

    def _plan(self, paid: bool, stored: bool) -> tuple[Expect, Worst]:
        """The fastest loops that fit the measure: (V, index, W) -> None, (V, index) -> CSR."""
        measure, listed = self.measure, self.listed
        simple = not stored and (listed is None or listed.ndim == 1)
        match measure:
            case risk.Nominal():
                return self._linear(lambda V: V), self._nominal
            case risk.Entropic(risk_aversion=beta):
                expect, worst = self._tilt("entropic", beta)
                return self._entropic(beta, expect), worst
            case risk.WorstCase() if simple:
                return self._tilt("worst-case", 0.0)
            case risk.L1Penalty(weight=kappa) if simple:
                expect, worst = self._tilt("l1-penalty", kappa)
                if listed is not None and listed.all() and not paid:
                    return self._linear(lambda V: np.minimum(V, V.min() + 2.0 * kappa)), worst
                return expect, worst
            case risk.Contamination(fraction=epsilon) if simple:
                return self._tilt("contamination", epsilon)
            case risk.KLBall(radius=delta):
                self.multiplier = np.zeros(self.ended.size)
                return self._tilt("kl-ball", delta if delta > NOTHING else 0.0)
            case risk.TVBall(radius=delta) if simple:
                return self._fill("tv-ball", min(delta, 1.0), 1.0)
            case risk.L1Ball(radius=xi) if simple:
                return self._fill("tv-ball", min(0.5 * xi, 1.0), 1.0)
            case risk.MeanCVaR(cvar_weight=weight, level=alpha):
                return self._fill("mean-cvar", weight, alpha)
            case risk.LinfBall(radius=xi) if simple and listed is None:
                return self._fill("linf-ball", min(xi, 1.0), 1.0)
        return self._generic, self._generic_worst

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
        """Exponentials once a state, one product, one logarithm a row (robust spec §1.7.2-3).

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
                log_all(W)
            W *= -1.0 / beta
            W += low + least
            if lost.size:
                again = np.empty(lost.size)
                by_row(V, index[lost], again)
                W[lost] = again

        return expect

    def _tilt(self, name: str, parameter: float) -> tuple[Expect, Worst]:
        kind, parameter = TILTS.index(name), float(parameter)

        def call(V: Array, index: Index, W: Array, start: Index, state: Index, q: Array) -> None:
            tilt_rows(
                kind, parameter, self.begin, self.end, self.successor, self.p, self.bonus, V,
                self._outside(V), index, W, self.multiplier, start, state, q,
            )  # fmt: skip

        return self._pair(call)

    def _fill(self, name: str, parameter: float, level: float) -> tuple[Expect, Worst]:
        kind, parameter, level = FILLS.index(name), float(parameter), float(level)
        # The loops rearrange rows: not those of the MDP.
        self.successor, self.p = self.successor.copy(), self.p.copy()
        self.bonus = self.bonus.copy()

        def call(V: Array, index: Index, W: Array, start: Index, state: Index, q: Array) -> None:
            fill_rows(
                kind, parameter, level, self.begin, self.end, self.successor, self.p, self.bonus, V,
                self._outside(V), index, W, start, state, q,
            )  # fmt: skip

        return self._pair(call)

    def _pair(self, call: Callable[..., None]) -> tuple[Expect, Worst]:
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
            found = self.measure.of_rows(index).worst_case(self._rows(index), V)
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
            found = sp.coo_array((np.concatenate(entries), places), shape).tocsr()
        return found.indptr.astype(np.uint32), found.indices.astype(np.uint32), found.data

    def _blocks(self, V: Array, index: Index) -> Iterator[tuple[Count, Count, Array, Array]]:
        """Rows by blocks: which, the states of their columns, p and V + r / γ, (n, columns).

        As short as the rows are where the measure doesn't care which states its columns stand for,
        else dense.
        """
        P = self._rows(index)
        bonus = sp.csr_array((self.bonus, *self._places()), (self.ended.size, self.mdp.num_states))
        bonus = bonus[index]
        short = isinstance(self.measure.support, str) and self.measure.support == "nominal"
        if short and isinstance(self.measure, ANONYMOUS):
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
