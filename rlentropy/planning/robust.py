"""Robust dynamic programming with certified bounds (robust §2).

Every solver here is `rlentropy.planning.certified.approach`, by other steps between sweeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

from rlentropy import risk
from rlentropy.errors import UNIT, InputError, floats, one_of
from rlentropy.kernels.discounted import evaluation_sweeps, link_chain, solve_chain
from rlentropy.kernels.rows import Rows
from rlentropy.mdp import FiniteMDP
from rlentropy.planning import certified
from rlentropy.planning.discounted import optimum
from rlentropy.planning.nature import Nature
from rlentropy.planning.operators import (
    Evaluation,
    Joint,
    Operator,
    Optimality,
    Sweep,
    check_discounted,
)
from rlentropy.risk.joint import SRectangular
from rlentropy.types import Array, in_short

Method = Literal["newton", "policy-iteration", "value-iteration"]


@dataclass(frozen=True)
class RobustValue:
    """A robust value, optimal or of one policy, with bounds at every state."""

    pi: Array  # (S, A)
    V: Array  # (S,), between the bounds
    Q: Array  # (S, A), r + γ W(P, V)
    lower: Array  # (S,) <= the value
    upper: Array  # (S,) >= the value
    iterations: int  # applications of T to all states
    nature: Callable[[], sp.csr_array] = field(repr=False)  # see `kernel`
    mdp: FiniteMDP = field(repr=False)  # the nominal model; with markov_risk that of the policy
    gamma: float
    priced: bool = field(repr=False)  # nature pays a penalty for what it does

    __repr__ = in_short

    def kernel(self) -> sp.csr_array:
        """The worst case at V of every (s, a), (S*A, S)."""
        return self.nature()

    def worst_mdp(self) -> FiniteMDP:
        """The MDP with nature's worst kernel, where `evaluation` of `pi` gives V again.

        What nature pays for a kernel, γ D(q, P) of a penalty, is part of its rewards.
        """
        mdp, K = self.mdp, self.kernel()
        rows, paid = mdp.supported_rows
        reward: Any = mdp.r
        if paid is not None:  # successors that aren't stored pay nothing
            pointers = np.append(rows.begin, rows.end[-1])
            reward = sp.csr_array((paid, rows.successor, pointers), K.shape)
            expected = K.multiply(reward).sum(axis=1).reshape(mdp.r.shape)
        if self.priced:
            moved = (K @ self.V).reshape(mdp.r.shape)
            price = self.Q - (mdp.r if paid is None else expected) - self.gamma * moved
            price[mdp.terminal] = 0.0
            if paid is not None:
                price = sp.diags_array(price.ravel()) @ (K != 0).astype(np.float64)
            reward = reward + price
        ids: dict[str, Any] = {"state_ids": mdp.state_ids, "action_ids": mdp.action_ids}
        return FiniteMDP(K, reward, mdp.mu, terminal=mdp.terminal, **ids)


class Answer:
    """A kernel, found when it is first asked for; pickled, it is found first."""

    def __init__(self, find: Callable[[], sp.csr_array]) -> None:
        self.find: Callable[[], sp.csr_array] | None = find
        self.found: sp.csr_array | None = None

    def __call__(self) -> sp.csr_array:
        if self.found is None:
            assert self.find is not None
            self.found, self.find = self.find(), None  # which lets go of the loops' tables
        return self.found

    def __getstate__(self) -> dict[str, Any]:
        return {"found": self(), "find": None}


def robust_optimum(
    mdp: FiniteMDP,
    measure: risk.Measure | SRectangular,
    gamma: float,
    tolerance: float = 1e-8,
    *,
    method: Method = "newton",
    max_iterations: int = 100_000,
    strict: bool = True,
) -> RobustValue:
    """The optimal robust value V* = max_a r + γ W(P, V*), and a policy that attains it.

    Args:
        measure: any risk measure, or `risk.SRectangular`, whose optimal policy is randomised.
        gamma: discount, in [0, 1).
        tolerance: largest accepted upper - lower at any state, in reward units; the policy's value
            is within it of the optimum.
        method: how V moves between applications of T. "newton": to the value of the greedy policy
            in its worst kernel, while that brings the bounds together, as value iteration would
            (residual-conditioned policy iteration; Badger, Huang and Petrik, 2025).
            "policy-iteration": 20 robust sweeps of the greedy policy from the lower bound
            (Puterman & Shin, 1978, whose argument needs T V >= V alone). "value-iteration": to T V,
            moved to the middle of the bounds. Each makes way for exact policy iteration once it
            no longer brings the bounds together (`rlentropy.planning.certified`).
        max_iterations: applications of T.
        strict: False returns the best bounds found even where they are further apart.

    Raises:
        ValueError: an argument is out of range.
        RuntimeError: strict, and the bounds are still further apart after max_iterations, or
            rounding keeps them apart; the message then tells the tolerance that can be met.
    """
    check_problem(mdp, gamma, tolerance, max_iterations, method)
    if isinstance(measure, SRectangular):
        operator: Operator = Joint(mdp, measure, gamma, None)
    else:
        operator = Optimality(Nature(mdp, measure, gamma))
    # A start without risk costs little, and brings rows close to their final order.
    near = max(1e-3 * float(np.abs(mdp.r).max()) / (1.0 - gamma), 1e-300)
    V = optimum(mdp, gamma, near, strict=False).V
    return fixed_point(mdp, operator, V, tolerance, method, max_iterations, strict)


def robust_evaluation(
    mdp: FiniteMDP,
    pi: Any,
    measure: risk.Measure | SRectangular,
    gamma: float,
    tolerance: float = 1e-8,
    *,
    markov_risk: bool = False,
    start: Any = None,
    max_iterations: int = 100_000,
    strict: bool = True,
) -> RobustValue:
    """The robust value of a policy, by semismooth Newton: each step solves nature's last answer.

    Args:
        pi: (S, A), each row sums to 1.
        measure, gamma, tolerance, max_iterations, strict: as for `robust_optimum`.
        markov_risk: take the risk of action and successor together, as Ruszczynski (2010) does,
            V = Σ_a π r + γ W(Σ_a π P, V), instead of the paper's V = Σ_a π (r + γ W(P, V)). It is
            lower for randomised policies, the same for deterministic ones (§1.2). Q and the kernel
            are then those of the policy, (S, 1) and (S, S).
        start: values to start from, (S,).

    Raises:
        ValueError: an argument is out of range, or markov_risk is asked where rewards depend on
            the successor or of an s-rectangular set.
        RuntimeError: as for `robust_optimum`.
    """
    check_problem(mdp, gamma, tolerance, max_iterations, "newton")
    pi = check_policy(mdp, pi)
    if markov_risk:
        if mdp.supported_rows[1] is not None or isinstance(measure, SRectangular):
            raise InputError(
                "markov_risk must come with rewards r(s, a) and a measure of single rows, got "
                f"{measure!r}"
                + (" and rewards of successors" if mdp.supported_rows[1] is not None else "")
            )
        S, A = pi.shape
        mix = sp.csr_array((pi.ravel(), np.arange(S * A), np.arange(0, S * A + 1, A)))
        r, listed = (pi * mdp.r).sum(1)[:, None], mdp.support
        listed = None if listed is None else (mix != 0) @ listed
        mdp = FiniteMDP(mix @ mdp.P, r, mdp.mu, terminal=mdp.terminal, support=listed)
        pi = np.ones((S, 1))
    if isinstance(measure, SRectangular):
        operator: Operator = Joint(mdp, measure, gamma, pi)
    else:
        operator = Evaluation(Nature(mdp, measure, gamma), pi)
    V = (pi * mdp.r).sum(1) / (1.0 - gamma) if start is None else floats("start", start).copy()
    if V.shape != (mdp.num_states,) or not np.isfinite(V).all():
        raise InputError(f"start must be (S,) = {(mdp.num_states,)} and finite, got {V.shape}")
    return fixed_point(mdp, operator, V, tolerance, "newton", max_iterations, strict)


def evaluation(
    mdp: FiniteMDP, pi: Any, gamma: float, tolerance: float = 1e-8, *, strict: bool = True
) -> RobustValue:
    """The value of a policy, (S, A), without any risk: `robust_evaluation` of `risk.Nominal()`."""
    return robust_evaluation(mdp, pi, risk.Nominal(), gamma, tolerance, strict=strict)


def robust_policy_gradient(
    mdp: FiniteMDP,
    pi: Any,
    measure: risk.Measure | SRectangular,
    gamma: float,
    tolerance: float = 1e-10,
) -> Array:
    """dJ/dπ, (S, A), of J = Σ μ V^π: d(s) Q(s, a) / (1-γ) (robust §3.1).

    d is the discounted occupancy of π in its worst kernel. Where W has a kink the worst case is not
    unique, and this is one of the directions that it leaves.

    Args:
        tolerance: of the robust value, as for `robust_evaluation`; what float64 attains suffices.

    Raises:
        ValueError: as for `robust_evaluation`.
    """
    value = robust_evaluation(mdp, pi, measure, gamma, tolerance, strict=False)
    return worst_occupancy(mdp, value, gamma)[:, None] * value.Q / (1.0 - gamma)


def worst_occupancy(mdp: FiniteMDP, value: RobustValue, gamma: float, pi: Any = None) -> Array:
    """(1-γ) Σ_t γ^t P(s_t = s), (S,), from μ in the worst kernel of `value`.

    Args:
        pi: the policy that is played there, (S, A); default: that of `value`.
    """
    pi = value.pi if pi is None else check_policy(mdp, pi)
    S, A = pi.shape
    mix = sp.csr_array((pi.ravel(), np.arange(S * A), np.arange(0, S * A + 1, A)))
    flow = sp.csr_array((mix @ value.kernel()).T)
    source = (1.0 - gamma) * mdp.mu
    return certified.linear_solve(flow.indptr, flow.indices, flow.data, source, gamma)


def bounds_at(mu: Array, value: RobustValue) -> tuple[float, float]:
    """Bounds of the value from an initial distribution (S,): those of Σ μ V, rounded outward."""
    low, high = (math.fsum((mu * bound).tolist()) for bound in (value.lower, value.upper))
    if (mu == 1.0).any():
        return low, high
    largest = np.maximum(abs(value.lower), abs(value.upper))
    rounding = 4.0 * UNIT * math.fsum((mu * largest).tolist())
    return low - rounding, high + rounding


def check_policy(mdp: FiniteMDP, pi: Any) -> Array:
    """A policy as float64 (S, A).

    Raises:
        ValueError: the shape is wrong, an entry negative, or a row does not sum to 1.
    """
    pi = floats("pi", pi)
    if pi.shape != mdp.r.shape:
        raise InputError(f"pi must be (S, A) = {mdp.r.shape}, got {pi.shape}")
    bad = ~((pi >= 0.0).all(1) & (np.abs(pi.sum(1) - 1.0) <= 1e-8))
    if bad.any():
        s = int(bad.argmax())
        raise InputError(f"pi must be >= 0 and sum to 1 in every state, got {pi[s]} in state {s}")
    return np.asarray(pi / pi.sum(1, keepdims=True))


def check_problem(
    mdp: FiniteMDP, gamma: float, tolerance: float, max_iterations: int, method: str
) -> None:
    check_discounted(mdp, gamma, tolerance, max_iterations)
    one_of("method", method, METHODS)


# ---------------------------------------------------------------- steps from sweep to sweep


def to_the_middle(operator: Operator, gamma: float, sweep: Sweep) -> tuple[Array, Sweep]:
    """T V, moved to the middle of its bounds."""
    TV, low, high = sweep
    V = TV + gamma / (1.0 - gamma) * 0.5 * (low + high)
    return V, operator.apply(V)


def by_value(
    operator: Operator, gamma: float, V: Array, sweep: Sweep, work: certified.Work
) -> tuple[Array, Sweep] | None:
    """A step of value iteration."""
    return to_the_middle(operator, gamma, sweep)


def by_policy(
    operator: Operator, gamma: float, V: Array, sweep: Sweep, work: certified.Work
) -> tuple[Array, Sweep] | None:
    """Up to 20 robust sweeps of the greedy policy, from the lower bound."""
    TV, low, high = sweep
    V = TV + gamma / (1.0 - gamma) * low
    for _ in range(20):
        before, V = V, operator.hold(V)
        if np.ptp(V - before) <= 0.03 * (high - low):
            break
    return V, operator.apply(V)


def by_newton(
    operator: Operator, gamma: float, V: Array, sweep: Sweep, work: certified.Work
) -> tuple[Array, Sweep] | None:
    """To the value of the greedy policy in its worst kernel, or to the middle if that is no nearer.

    The first costs an application of T that may be in vain.
    """
    TV, low, high = sweep
    candidate = V + newton_direction(operator, V, TV - V, gamma, low, high)
    after = operator.apply(candidate)
    if after[2] - after[1] <= gamma * (high - low):
        return candidate, after
    return to_the_middle(operator, gamma, sweep) if work.spend() else None


def newton_direction(
    operator: Operator, V: Array, residual: Array, gamma: float, low: float, high: float
) -> Array:
    """x = residual + γ P^π_q x with nature's answer q held at V, nearly."""
    start, state, q = operator.chain(V)
    S, width = residual.size, high - low
    x = residual + gamma / (1.0 - gamma) * 0.5 * (low + high)
    chain = Rows(start[:-1].copy(), start[1:].copy(), state, q, np.zeros(S))
    task = (chain, residual[:, None].copy(), gamma, np.zeros(S, np.uint32), x, np.empty(S))
    left = evaluation_sweeps(*task, 8, 1e-3 * width)
    if left <= 0.3 * width:  # it mixes: plain sweeps bring changes together
        left = evaluation_sweeps(*task, 100, 1e-3 * width)
    if left > 1e-2 * width:  # sweeps in place carry values across long chains
        begin, end = np.empty(S, np.uint32), np.empty(S, np.uint32)
        loopless = (begin, end, np.empty_like(state), np.empty_like(q), np.empty(S))
        link_chain(gamma, start, state, q, residual, *loopless)
        solve_chain(*loopless, x, False, 400, 1e-4 * width)
    return x


# A method's step, and how many sweeps over the greedy policy's chain that costs; 0: none.
METHODS: dict[str, tuple[Callable[..., tuple[Array, Sweep] | None], int]] = {
    "newton": (by_newton, 500),
    "policy-iteration": (by_policy, 20),
    "value-iteration": (by_value, 0),
}


def fixed_point(
    mdp: FiniteMDP,
    operator: Operator,
    V: Array,
    tolerance: float,
    method: Method,
    max_iterations: int,
    strict: bool,
) -> RobustValue:
    """The fixed point of a robust operator from V (S,) on."""
    gamma, work, (step, sweeps) = operator.gamma, certified.Work(1, max_iterations), METHODS[method]
    window = 1000
    if sweeps:
        window = certified.patience(V.size, mdp.rows.p.size // mdp.num_actions, sweeps)
    bounds = certified.approach(
        operator,
        partial(step, operator, gamma),
        lambda: operator,
        V,
        gamma,
        tolerance,
        window,
        work,
    )
    if strict and not bounds.width <= tolerance:
        raise certified.short_of("robust value", bounds.width, tolerance, work)
    kernel = Answer(partial(operator.kernel, bounds.h))
    found = (bounds.pi, bounds.V, bounds.Q, bounds.lower, bounds.upper, work.done)
    return RobustValue(*found, kernel, mdp, gamma, operator.priced)
