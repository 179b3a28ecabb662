"""Optimal discounted values of known MDPs, with certified bounds."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rlentropy import risk
from rlentropy.errors import UNIT
from rlentropy.kernels.discounted import (
    evaluation_sweeps,
    greedy_sweep,
    greedy_sweep_in_place,
    solve_chain,
)
from rlentropy.mdp import FiniteMDP
from rlentropy.planning import certified
from rlentropy.planning.nature import Nature
from rlentropy.planning.operators import Optimality, Sweep, check_discounted
from rlentropy.types import Array, Index, in_short


@dataclass(frozen=True)
class Optimum:
    """A discounted optimum with bounds at every state."""

    pi: Array  # (S, A), deterministic
    V: Array  # (S,), between the bounds
    Q: Array  # (S, A)
    lower: Array  # (S,) <= V*
    upper: Array  # (S,) >= V*
    iterations: int  # Bellman sweeps; each is followed by cheaper sweeps of one policy

    __repr__ = in_short


def optimum(
    mdp: FiniteMDP,
    gamma: float,
    tolerance: float = 1e-8,
    max_iterations: int = 100_000,
    *,
    strict: bool = True,
) -> Optimum:
    """Optimal discounted values by modified policy iteration with certified bounds.

    Each Bellman sweep gives MacQueen's bounds T V + γ/(1-γ) [min, max](T V - V), and V moves to the
    lower one. There T V >= V, so the sweeps of one policy that follow (Puterman & Shin, 1978) rise
    to V* without passing it, whatever the recurrent classes. They are plain sweeps while these
    bring the bounds together, else sweeps in place, which carry values across long chains. Where
    both stall, or rounding keeps the bounds apart, exact policy iteration goes on
    (`rlentropy.planning.certified`).

    Args:
        gamma: discount, in [0, 1).
        tolerance: largest accepted upper - lower, in reward units.
        max_iterations: Bellman sweeps.
        strict: False returns the best bounds found even where they are further apart.

    Raises:
        ValueError: an argument is out of range.
        RuntimeError: strict, and the bounds are still further apart after max_iterations, or
            rounding keeps them apart; the message then tells the tolerance that can be met.
    """
    check_discounted(mdp, gamma, tolerance, max_iterations)
    sweeps, work = GreedySweeps(mdp, gamma), certified.Work(1, max_iterations)
    window = certified.patience(mdp.num_states, mdp.rows.p.size // mdp.num_actions, 40)

    def exact() -> Optimality:
        return Optimality(Nature(mdp, risk.Nominal(), gamma))

    V = mdp.r.max(1)
    best = certified.approach(sweeps, sweeps.step, exact, V, gamma, tolerance, window, work)
    if strict and not best.width <= tolerance:
        raise certified.short_of("optimum", best.width, tolerance, work)
    return Optimum(best.pi, best.V, best.Q, best.lower, best.upper, work.done)


class GreedySweeps:
    """T V = max_a r + γ P V in one compiled pass, and the cheaper sweeps between two of them."""

    def __init__(self, mdp: FiniteMDP, gamma: float) -> None:
        self.mdp, self.gamma, self.r, self.rows = mdp, gamma, mdp.r.copy(), mdp.rows
        S, A = self.r.shape
        self.Q, self.TV, self.choice = np.empty((S, A)), np.empty(S), np.zeros(S, np.uint32)
        self.after = np.empty(S)
        self.ended, self.ends = mdp.terminal, np.flatnonzero(mdp.terminal)
        self.mixes = True  # whether plain sweeps of a policy bring changes together

    @cached_property
    def chain(self) -> tuple[Index, Index, Index, Array, Array]:
        """Room for the chain of a policy: begin, end (S,), successor, weight (M,), reward (S,)."""
        S, rows = self.TV.size, self.rows
        begin, end = np.empty(S, np.uint32), np.empty(S, np.uint32)
        return begin, end, np.empty_like(rows.successor), np.empty_like(rows.p), np.empty(S)

    def slack(self, V: Array, reach: float = 0.0) -> float:
        mdp, gamma, count = self.mdp, self.gamma, self.mdp.longest
        largest = max(float(V.max()), -float(V.min()))
        sums = UNIT * ((count + 2.0) * gamma * largest + 3.0 * (mdp.largest_reward + largest))
        return sums + gamma * (mdp.defect + count * UNIT) * (largest + reach)

    def apply(self, V: Array) -> Sweep:
        task = (self.rows, self.r, self.gamma)
        low, high = greedy_sweep(*task, V, self.Q, self.TV, self.choice)
        return self.TV, low, high

    def policy(self) -> Array:
        return np.eye(self.r.shape[1])[self.choice]

    def step(self, V: Array, sweep: Sweep, work: certified.Work) -> tuple[Array, Sweep]:
        """To the lower bound, and on by sweeps of the greedy policy."""
        TV, low, high = sweep
        rows, r, gamma, width = self.rows, self.r, self.gamma, high - low
        V = TV + gamma / (1.0 - gamma) * low
        if self.ends.size:
            V[self.ends] = 0.0
        if self.mixes:
            spread = 0.03 * width
            left = evaluation_sweeps(rows, r, gamma, self.choice, V, self.after, 20, spread)
            self.mixes = left <= 0.3 * width
        if not self.mixes:
            backwards = work.done % 2 == 0
            greedy_sweep_in_place(rows, r, gamma, V, backwards, *self.chain)
            solve_chain(*self.chain, V, not backwards, 40, 1e-3 * width)
        return V, self.apply(V)
