"""Robust Bellman operators (robust §2): T V = max_a r + γ W(P, V) and T^π V, and their rounding.

T is monotone, moves constants to γ times themselves and contracts, soft and s-rectangular or not.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Protocol

import numpy as np
import scipy.sparse as sp

from rlentropy import risk
from rlentropy.errors import UNIT, InputError, in_range, whole
from rlentropy.kernels.discounted import greedy
from rlentropy.mdp import FiniteMDP, check_mdp
from rlentropy.planning.nature import Nature
from rlentropy.risk.joint import SRectangular
from rlentropy.types import Array, Index, Mask

JOINT_ERROR = 8.0  # of s-rectangular backups, as `nature.ERRORS` has those of measures


Sweep = tuple[Array, float, float]  # T V (S,), and the extremes of T V - V


class Sweeps(Protocol):
    """A Bellman operator T, as far as bounds on its fixed point need it."""

    ended: Mask  # (S,) terminal states

    def slack(self, V: Array, reach: float = 0.0) -> float:
        """The most that rounding can move T V, or T (V + c) - γ c with |c| <= reach, anywhere."""

    def apply(self, V: Array) -> Sweep:
        """T V (S,), and the extremes of T V - V."""

    @property
    def Q(self) -> Array:
        """(S, A), of the last `apply`."""

    def policy(self) -> Array:
        """(S, A), of the last `apply`."""


class Operator(Sweeps, Protocol):
    """A robust Bellman operator, of all policies or of one.

    It is that of rewards r - ρ, whose values V are those for r less ρ/(1-γ); ρ = 0 to begin with.
    """

    rho: float
    gamma: float
    priced: bool  # nature pays a penalty

    def shift(self, rho: float) -> None:
        """Set ρ; 0 where there are terminal states, whose value is 0 for r - ρ too."""

    def rounding(self, V: Array, reach: float = 0.0) -> Array:
        """How far `apply` and `hold` may be from T V, (S,), and from T (V + c) - γ c, |c| <= reach.

        They differ at a model whose rows don't sum to 1, which is one that floats may mean.
        `slack` is the most that this can be, at a glance.
        """

    def hold(self, V: Array) -> Array:
        """T^π V (S,) for the policy that the last `apply` found best."""

    def chain(self, V: Array) -> tuple[Index, Index, Array]:
        """P^π under q*(V), π from the last `apply`, as CSR (S, S); V as last applied or held."""

    def kernel(self, V: Array) -> sp.csr_array:
        """q*(V), (S*A, S)."""


def size(operator: Operator, V: Array) -> float:
    """The largest |value| that V stands for."""
    return abs(operator.rho) / (1.0 - operator.gamma) + float(np.abs(V).max())


class Optimality:
    """T V = max_a Q; nature sees the action."""

    def __init__(self, nature: Nature) -> None:
        self.nature, self.scale, self.gamma = nature, nature.scale, nature.gamma
        self.priced = nature.measure.priced
        self.rho, self.ended = 0.0, nature.mdp.terminal
        S, A = nature.r.shape
        self.TV, self.choice = np.empty(S), np.empty(S, np.uint32)
        self.Q, self.first = np.empty((S, A)), np.arange(S, dtype=np.uint32) * np.uint32(A)

    def shift(self, rho: float) -> None:
        self.rho = rho
        self.nature.shift(rho)

    def slack(self, V: Array, reach: float = 0.0) -> float:
        return self.nature.slack(V, size(self, V) + reach)

    def rounding(self, V: Array, reach: float = 0.0) -> Array:
        return np.asarray(self.nature.rounding(V, size(self, V) + reach).max(1))

    def apply(self, V: Array) -> Sweep:
        self.Q = self.nature.backup(V)
        low, high = greedy(self.Q, V, self.TV, self.choice)
        return self.TV.copy(), low, high

    def hold(self, V: Array) -> Array:
        index = self.first + self.choice
        return np.asarray(
            self.nature.r.ravel()[index] + self.scale * self.nature.expectations(V, index)
        )

    def chain(self, V: Array) -> tuple[Index, Index, Array]:
        return self.nature.worst_cases(V, self.first + self.choice)

    def kernel(self, V: Array) -> sp.csr_array:
        return self.nature.kernel(V)

    def policy(self) -> Array:
        return np.eye(self.Q.shape[1])[self.choice]


class Evaluation:
    """T^π V = Σ_a π Q of one policy, (S, A); nature sees the action."""

    def __init__(self, nature: Nature, pi: Array) -> None:
        self.nature, self.scale, self.pi = nature, nature.scale, pi
        self.priced = nature.measure.priced
        self.rho, self.gamma, self.ended = 0.0, nature.gamma, nature.mdp.terminal
        self.defect: float = float(np.abs(pi.sum(1) - 1.0).max()) + pi.shape[1] * UNIT
        S, A = nature.r.shape
        self.index = np.flatnonzero(pi).astype(np.uint32)
        self.weight, self.state = pi.ravel()[self.index], self.index // np.uint32(A)
        self.bounds = np.searchsorted(self.state, np.arange(S + 1))
        self.reward = (pi * nature.r).sum(1)
        self.last = np.zeros(S)

    @cached_property
    def defects(self) -> Array:
        """|Σ π - 1|, exactly, (S,): as in kernels, it leaves open which policy is meant."""
        return np.abs([math.fsum([-1.0, *row]) for row in self.pi.tolist()])

    def shift(self, rho: float) -> None:
        self.rho = rho
        self.nature.shift(rho)
        self.reward = (self.pi * self.nature.r).sum(1)

    def slack(self, V: Array, reach: float = 0.0) -> float:
        most = self.nature.slack(V, size(self, V) + reach, self.pi.shape[1])
        return most + self.defect * (size(self, V) + reach)

    def rounding(self, V: Array, reach: float = 0.0) -> Array:
        rows = self.nature.rounding(V, size(self, V) + reach, self.pi.shape[1])
        mixing = np.where(self.ended, 0.0, self.defects * (size(self, V) + reach))
        return np.asarray(np.where(self.pi > 0.0, rows, 0.0).max(1) + mixing)

    def apply(self, V: Array) -> Sweep:
        self.last, TV = V, self.hold(V)
        change = TV - V
        return TV, float(change.min()), float(change.max())

    def hold(self, V: Array) -> Array:
        W = self.nature.expectations(V, self.index)
        return np.asarray(
            self.reward + self.scale * np.add.reduceat(self.weight * W, self.bounds[:-1])
        )

    def chain(self, V: Array) -> tuple[Index, Index, Array]:
        start, state, q = self.nature.worst_cases(V, self.index)
        weights = np.repeat(self.weight, start[1:] - start[:-1])
        return start[self.bounds], state, weights * q

    def kernel(self, V: Array) -> sp.csr_array:
        return self.nature.kernel(V)

    @property
    def Q(self) -> Array:
        return self.nature.backup(self.last)

    def policy(self) -> Array:
        return self.pi


class Joint:
    """s-rectangular sets: nature picks all of a state's rows before it sees the action (§1.6)."""

    def __init__(
        self, mdp: FiniteMDP, measure: SRectangular, gamma: float, pi: Array | None
    ) -> None:
        if mdp.supported_rows[1] is not None:
            raise InputError(
                "measure must not be s-rectangular where rewards depend on the successor, "
                f"got {measure!r}"
            )
        self.mdp, self.scale, self.fixed, self.priced = mdp, gamma, pi, False
        self.measure = measure.listing(mdp.support, mdp.num_states)
        self.rho, self.gamma, self.ended, self.r = 0.0, gamma, mdp.terminal, mdp.r
        self.P, self.nominal = mdp.P, Nature(mdp, risk.Nominal(), gamma)
        self.nominal.factor = JOINT_ERROR
        self.pi, self.q = np.zeros(mdp.r.shape), self.P

    def shift(self, rho: float) -> None:
        self.rho, self.r = rho, self.mdp.r - rho
        self.nominal.shift(rho)

    def slack(self, V: Array, reach: float = 0.0) -> float:
        return self.nominal.slack(V, size(self, V) + reach, self.mdp.num_actions)

    def rounding(self, V: Array, reach: float = 0.0) -> Array:
        # Nature may lead to any state that is listed, or stored by a row of the state.
        largest = np.full_like(V, np.abs(V).max())
        rows = self.nominal.rounding(largest, size(self, V) + reach, self.mdp.num_actions)
        return np.where(self.ended, 0.0, rows.max(1))

    def _solve(self, V: Array, pi: Array | None) -> tuple[Array, Array, sp.csr_array]:
        """The value (S,), the policy (S, A), and nature's kernel (S*A, S)."""
        backup, ended = self.measure.solve(self.P, self.r, V, self.scale, pi), self.ended
        if not ended.any():
            return backup.value, backup.pi, backup.kernel
        stays = np.repeat(ended, self.mdp.num_actions).astype(np.float64)
        lives, ends = sp.diags_array(1.0 - stays), sp.diags_array(stays)
        kernel = sp.csr_array(lives @ backup.kernel + ends @ self.P)
        return np.where(ended, self.scale * V, backup.value), backup.pi, kernel

    def apply(self, V: Array) -> Sweep:
        TV, self.pi, self.q = self._solve(V, self.fixed)
        self.Q = self.r + self.scale * (self.q @ V).reshape(self.r.shape)
        change = TV - V
        return TV, float(change.min()), float(change.max())

    def hold(self, V: Array) -> Array:
        value, _, self.q = self._solve(V, self.pi)
        return value

    def chain(self, V: Array) -> tuple[Index, Index, Array]:
        S, A = self.mdp.r.shape
        mix = sp.csr_array((self.pi.ravel(), np.arange(S * A), np.arange(0, S * A + 1, A)))
        P = sp.csr_array(mix @ self.q)
        return P.indptr.astype(np.uint32), P.indices.astype(np.uint32), P.data

    def kernel(self, V: Array) -> sp.csr_array:
        return self._solve(V, self.pi)[2]

    def policy(self) -> Array:
        return self.pi


def check_discounted(mdp: FiniteMDP, gamma: float, tolerance: float, max_iterations: int) -> None:
    check_mdp(mdp)
    in_range("gamma", gamma, "[0, 1)")
    in_range("tolerance", tolerance, "(0, inf]")
    whole("max_iterations", max_iterations, 1)
