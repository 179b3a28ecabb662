"""Optimal discounted values of known MDPs, with certified bounds."""

from dataclasses import dataclass

import numpy as np

from rlentropy import risk
from rlentropy.kernels.discounted import evaluation_sweeps, greedy_sweep, in_place_sweeps
from rlentropy.mdp import FiniteMDP
from rlentropy.planning import certified
from rlentropy.planning.nature import Nature, rounding_of_backups
from rlentropy.planning.operators import Optimality, check_discounted
from rlentropy.types import Array


@dataclass(frozen=True)
class Optimum:
    """A discounted optimum with bounds at every state."""

    pi: Array  # (S, A), deterministic
    V: Array  # (S,), between the bounds
    Q: Array  # (S, A)
    lower: Array  # (S,) <= V*
    upper: Array  # (S,) >= V*
    iterations: int  # Bellman sweeps; each is followed by cheaper sweeps of one policy


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
    (`rlentropy.robust.certified`).

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
    check_discounted(gamma, tolerance, max_iterations)
    S, A = mdp.num_states, mdp.num_actions
    rows, r = mdp.rows, mdp.r.copy()
    V, Q, TV, choice = r.max(1), np.empty((S, A)), np.empty(S), np.zeros(S, np.uint32)
    ended, mixes, widths = np.flatnonzero(mdp.terminal), True, []
    scale, window = gamma / (1.0 - gamma), certified.patience(S, rows.p.size // A, 40)
    for iteration in range(1, max_iterations + 1):
        low, high = greedy_sweep(rows, r, gamma, V, Q, TV, choice)
        width, limited = high - low, False
        widths.append(width)
        tenth = iteration % 10 == 0
        if scale * width <= 0.9 * tolerance or tenth:
            reach = scale * max(abs(low), abs(high))
            rounding = 1.001 * rounding_of_backups(mdp, V, gamma, reach) / (1.0 - gamma)
            if scale * width + 2.0 * rounding <= 0.9 * tolerance:
                bounds = (TV, scale * low, scale * high, rounding, mdp.terminal)
                found = certified.macqueen(np.eye(A)[choice], Q, V, *bounds)
                work = certified.Work(iteration, max_iterations)
                if found.width <= tolerance:  # values themselves round too
                    break
            limited = scale * width <= 2.0 * rounding
        stuck = limited or (tenth and certified.stalled(widths, window))
        if stuck or iteration == max_iterations:
            work = certified.Work(iteration, max_iterations)
            operator = Optimality(Nature(mdp, risk.Nominal(), gamma))
            found = certified.solve(operator, V, gamma, tolerance, work)
            break
        V = TV + scale * low
        if ended.size:
            V[ended] = 0.0
        if mixes:
            left = evaluation_sweeps(rows, r, gamma, choice, V, 20, 0.03 * width)
            mixes = left <= 0.3 * width
        if not mixes:
            backwards = iteration % 2 == 1
            in_place_sweeps(rows, r, gamma, V, backwards, 40, 1e-3 * width)
    if strict and not found.width <= tolerance:
        raise certified.short_of("optimum", found.width, tolerance, work)
    return Optimum(found.pi, found.V, found.Q, found.lower, found.upper, work.done)
