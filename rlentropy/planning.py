"""Dynamic programming on known finite MDPs: pure functions, no sampling.

Exact optima of the entropies of `rlentropy.entropy` come with certificates: an upper bound on how
far the returned value may lie below the true optimum.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlentropy import kernels, risk
from rlentropy.entropy import (
    check_objective,
    markov_policy,
    shannon,
    visitation,
    visitation_entropy,
)
from rlentropy.errors import InputError
from rlentropy.kernels import Array, Task
from rlentropy.mdp import FiniteMDP
from rlentropy.robust import certified
from rlentropy.robust.dynamics import (
    RobustValue,
    check_discounted,
    robust_evaluation,
    robust_optimum,
    robust_policy_gradient,
)
from rlentropy.robust.nature import UNIT, Nature, rounding_of_backups
from rlentropy.robust.operators import Optimality

__all__ = [
    "Exploration",
    "Optimum",
    "Plan",
    "RobustValue",
    "backward_induction",
    "max_trajectory_entropy",
    "max_visitation_entropy",
    "optimum",
    "planning_task",
    "robust_evaluation",
    "robust_optimum",
    "robust_policy_gradient",
    "visitation_entropy_bound",
]


@dataclass(frozen=True)
class Plan:
    """Optimum of E[Σ r] + temperature × E[Σ H(π)] over a finite horizon, with H in nats."""

    pi: Array  # (H, S, A), each row sums to 1
    Q: Array  # (H, S, A)
    V: Array  # (H + 1, S), V[H] = 0


@dataclass(frozen=True)
class Exploration:
    """A policy of maximum entropy and how sure that is."""

    pi: Array  # (H, S, A)
    value: float  # nats, of pi; less its rounding, so that it is a lower bound of the optimum
    certificate: float  # the optimum is at most value + certificate, rounding included
    iterations: int  # evaluations of the dual: one backward and one forward pass each
    V: Array | None = None  # (H + 1, S) soft values, where the problem is an ordinary plan
    Q: Array | None = None  # (H, S, A)


@dataclass(frozen=True)
class Optimum:
    """A discounted optimum with bounds at every state."""

    pi: Array  # (S, A), deterministic
    V: Array  # (S,), between the bounds
    Q: Array  # (S, A)
    lower: Array  # (S,) <= V*
    upper: Array  # (S,) >= V*
    iterations: int  # Bellman sweeps; each is followed by cheaper sweeps of one policy


def planning_task(r: Array, horizon: int, temperature: float = 0.0) -> Task:
    """A problem for the compiled loops: reward r (H or 1, S, A or 1), no bonus, no clipping."""
    return Task(
        reward=np.ascontiguousarray(r, np.float64),
        reward_scale=np.ones(horizon),
        offset=np.zeros(horizon),
        width=np.zeros(0),
        width_scale=np.zeros(horizon),
        variance_width=np.zeros(0),
        cap=np.full(horizon, np.inf),
        temperature=float(temperature),
        growth=1.0,
        optimistic=False,
    )


def backward_induction(mdp: FiniteMDP, r: Any, horizon: int, temperature: float = 0.0) -> Plan:
    """Plan for reward plus policy entropy over a finite horizon (spec §1).

    For h = H-1, …, 0 with τ the temperature:
        Q_h(s, a) = r_h(s, a) + Σ_s' P(s'|s, a) V_{h+1}(s')
        V_h(s)    = τ log Σ_a exp(Q_h(s, a) / τ), or max_a Q_h(s, a) at τ = 0

    Args:
        r: reward, (S, A) or (H, S, A).
        horizon: H >= 1.
        temperature: τ >= 0, reward units per nat; greedy ties at 0 are shared evenly.

    Raises:
        ValueError: the shapes disagree, r is not finite, or the temperature is negative.
    """
    _check_horizon(horizon)
    S, A = mdp.num_states, mdp.num_actions
    r = np.asarray(r, np.float64)
    if r.shape not in ((S, A), (horizon, S, A)):
        raise InputError(f"r must be (S, A) = {(S, A)} or (H, S, A), got {r.shape}")
    if not np.isfinite(r).all():
        raise InputError(f"r must be finite, got {r[~np.isfinite(r)][0]}")
    if not (temperature >= 0.0 and np.isfinite(temperature)):
        raise InputError(f"temperature must be >= 0 and finite, got {temperature}")
    task = planning_task(r.reshape(-1, S, A), horizon, temperature)
    V, Q = np.zeros((horizon + 1, S)), np.empty((horizon, S, A))
    kernels.backward(mdp.rows, task, V, Q)
    pi = np.empty_like(Q)
    kernels.decisions(Q, task.temperature, pi)
    return Plan(pi=pi, Q=Q, V=V)


def max_trajectory_entropy(
    mdp: FiniteMDP, horizon: int, final_transition: bool = False
) -> Exploration:
    """The policy of maximum trajectory entropy, exactly: a soft plan for reward H(P(·|s, a)) (§1).

    Args:
        final_transition: count the state after the last action too (TE+).
    """
    _check_horizon(horizon)
    r = np.tile(mdp.transition_entropy, (horizon, 1, 1))
    if not final_transition:
        r[-1] = 0.0
    plan = backward_induction(mdp, r, horizon, temperature=1.0)
    value = float(shannon(mdp.mu) + mdp.mu @ plan.V[0])
    # Rows' entropies and H(μ) are sums too.
    sums = horizon * (mdp.longest + 8.0) + mdp.num_states
    slack = _rounding_of_plan(mdp, plan.V, plan.Q, 1.0)
    slack += float(UNIT * sums * (1.0 + np.log(mdp.num_states)))
    return Exploration(plan.pi, value - slack, 2.0 * slack, 1, plan.V, plan.Q)


def _rounding_of_plan(mdp: FiniteMDP, V: Array, Q: Array, temperature: float) -> float:
    """How far μ·V_0 of a backward induction in float64 may be from what it is exactly."""
    H, S, A = Q.shape
    largest = float(max(np.abs(V).max(), np.abs(Q).max()))
    sums = H * (mdp.longest + 8.0) * largest + H * (A + 32.0) * temperature
    return float(UNIT * (sums + (S + 2.0) * largest) + H * mdp.defect * largest)


def _rounding_of_entropy(mdp: FiniteMDP, d: Array, weight: float = 1.0) -> float:
    """How far an entropy of occupancies d (H, S, A) of a policy, `weight` Σ_h H(d_h) or less
    finely, may be off in float64: at stage h each entry is a product of h sums of positive terms.
    """
    H, S, A = d.shape
    entering = int(np.bincount(mdp.rows.successor, minlength=S).max())
    each = (H + 1.0) * (entering + A + 8.0) * UNIT + H * (mdp.defect + mdp.longest * UNIT)
    return float(weight * H * (each + (S * A + 8.0) * UNIT) * (1.0 + np.log(S * A)))


def max_visitation_entropy(
    mdp: FiniteMDP,
    horizon: int,
    objective: str = "VE",
    temperature: float = 1.0,
    tolerance: float | None = None,
    strict: bool = True,
) -> Exploration:
    """The policy of maximum visitation entropy, by minimising the dual over forecasters.

    For VE_λ, λ > 0 (spec §7.2): max_d VE_λ(d) = min_θ g(θ), where g is the value of the soft plan
    at temperature λ for reward -log q_h(s), q_h = softmax(θ_h). g is smooth and convex with
    gradient q_h - d_h, and L-BFGS minimises it.

    AVE and the state-only objectives have no policy entropy to smooth them. They are solved by the
    proximal point method: step k maximises objective - τ_k Σ_h E[KL(π_h ‖ π_h^{k-1})], which has a
    smooth dual of the same kind, with temperature τ_k and reward -log q + τ_k log π^{k-1}. As the
    penalty vanishes at its own centre, the error falls like 1 / Σ_k 1/τ_k while τ_k stays large
    enough for L-BFGS; plain annealing (§7.3) needs τ itself as small as the error.

    The certificate is the gap between the value of the policy and the dual bound of its forecaster.

    Args:
        objective: VE, VE_S, AVE or AVE_S.
        temperature: λ >= 0 of VE_λ; only VE takes one other than 1.
        tolerance: largest accepted certificate, in nats; default 1e-8 for λ > 0, else 1e-5.
        strict: False returns the best policy found even where its certificate is larger.

    Raises:
        ValueError: an argument is out of range.
        RuntimeError: strict, and the tolerance was not reached.
    """
    _check_horizon(horizon)
    check_objective(objective, temperature)
    if objective == "VE" and temperature == 0.0:
        objective, temperature = "VE_S", 1.0
    smooth = objective == "VE"
    tolerance = (1e-8 if smooth else 1e-5) if tolerance is None else tolerance
    if not tolerance > 0.0:
        raise InputError(f"tolerance must be > 0, got {tolerance}")
    dual = _Dual(mdp, horizon, objective)
    best = dual.minimise(temperature, tolerance) if smooth else dual.proximal_point(tolerance)
    if strict and not best.certificate <= tolerance:
        raise RuntimeError(
            f"max_visitation_entropy reached certificate {best.certificate:.3g} nats after "
            f"{best.iterations} passes, tolerance is {tolerance:.3g}: raise tolerance, or pass "
            "strict=False to accept this certificate"
        )
    return best


def visitation_entropy_bound(
    mdp: FiniteMDP, q: Any, objective: str = "VE", temperature: float = 1.0, horizon: int = 0
) -> float:
    """Upper bound on the maximum visitation entropy from any forecaster q (spec §7.4).

    Args:
        q: state probabilities (H, S) for VE and VE_S, (S, A) for AVE, (S,) for AVE_S, positive
            wherever some policy can be; each forecast sums to 1.
        horizon: H, needed for AVE and AVE_S, whose q doesn't tell it.

    Raises:
        ValueError: q has the wrong shape, is not a distribution, or is 0 at a reachable cell.
    """
    check_objective(objective, temperature)
    q = np.asarray(q, np.float64)
    horizon = horizon or (len(q) if objective in ("VE", "VE_S") else 0)
    _check_horizon(horizon)
    dual = _Dual(mdp, horizon, objective)
    shape = {"AVE": dual.shape[1:], "AVE_S": dual.shape[1:2]}.get(objective, dual.shape[:2])
    if q.shape != shape:
        raise InputError(f"q must be {shape} for {objective}, got {q.shape}")
    forecast = q.reshape(dual.shape)
    sums = forecast.sum((1, 2))
    if not ((forecast >= 0.0).all() and (np.abs(sums - 1.0) <= 1e-8).all()):
        raise InputError(f"q must be a distribution, got least {q.min()}, sums {sums}")
    if (forecast[dual.support] == 0.0).any():
        raise InputError("q must be > 0 wherever some policy can be, got a reachable 0")
    log_q = np.log(np.where(dual.support, forecast / sums[:, None, None], 1.0))
    return dual.bound(log_q, temperature if objective == "VE" else 0.0)[0]


class _Dual:
    """The dual of a visitation entropy: the value of a plan for reward -log q, over forecasters q.

    q has the shape of the law whose entropy is wanted: axes of length 1 are those it doesn't see,
    (H, S, 1) for VE and VE_S, (1, S, A) for AVE and (1, S, 1) for AVE_S. The coordinates are the
    logits of the cells that some policy reaches; elsewhere q = 0 and the reward is 0.
    """

    def __init__(self, mdp: FiniteMDP, horizon: int, objective: str) -> None:
        S, A = mdp.num_states, mdp.num_actions
        self.mdp, self.horizon, self.objective = mdp, horizon, objective
        pooled, states_only = objective in ("AVE", "AVE_S"), objective != "AVE"
        self.shape = (1 if pooled else horizon, S, 1 if states_only else A)
        self.weight = 1.0 / horizon if pooled else 1.0
        self.start = self.forecast_of(visitation(mdp, np.full((S, A), 1.0 / A), horizon))
        self.support = self.start > 0.0
        self.passes = 0

    def forecast_of(self, d: Array) -> Array:
        """The marginal of d (H, S, A) that the objective takes the entropy of."""
        d = d if self.shape[2] > 1 or self.mdp.num_actions == 1 else d.sum(2, keepdims=True)
        return d if self.shape[0] > 1 or self.horizon == 1 else d.mean(0, keepdims=True)

    def log_forecast(self, logits: Array) -> Array:
        z: Array = np.full(self.shape, -np.inf)
        z[self.support] = logits
        z -= z.max((1, 2), keepdims=True)
        z -= np.log(np.exp(z).sum((1, 2), keepdims=True))
        return z

    def plan(
        self, log_q: Array, temperature: float, log_prior: Array | None = None
    ) -> tuple[float, Array, Array]:
        """Value, V and Q of the plan for -log q plus policy entropy, or minus KL to a prior."""
        r = np.where(self.support, -self.weight * log_q, 0.0)
        if log_prior is not None:
            r = r + temperature * log_prior
        H, S, A = self.horizon, self.mdp.num_states, self.mdp.num_actions
        V, Q = np.zeros((H + 1, S)), np.empty((H, S, A))
        kernels.backward(self.mdp.rows, planning_task(r, H, temperature), V, Q)
        self.passes += 1
        return float(self.mdp.mu @ V[0]), V, Q

    def bound(self, log_q: Array, temperature: float) -> tuple[float, Array]:
        """The dual's value for a forecaster, rounded up, and Q of its plan."""
        value, V, Q = self.plan(log_q, temperature)
        cells = self.shape[1] * self.shape[2]  # whose forecasts sum to 1 but for rounding
        slack = _rounding_of_plan(self.mdp, V, Q, temperature) + self.horizon * cells * UNIT
        return value + slack, Q

    def value(self, d: Array, temperature: float = 1.0) -> float:
        """The entropy of occupancies (H, S, A), rounded down."""
        value = visitation_entropy(d, self.objective, temperature)
        return value - _rounding_of_entropy(self.mdp, d, self.weight)

    def occupancy(self, Q: Array, temperature: float) -> Array:
        d = np.zeros_like(Q)
        kernels.add_occupancy_of_plan(self.mdp.rows, self.mdp.mu.copy(), Q, temperature, d)
        return d

    def value_and_gradient(
        self, logits: Array, temperature: float, log_prior: Array | None
    ) -> tuple[float, Array]:
        log_q = self.log_forecast(logits)
        value, _, Q = self.plan(log_q, temperature, log_prior)
        d = self.forecast_of(self.occupancy(Q, temperature))
        return value, (np.exp(log_q) - d)[self.support]

    def descend(
        self, logits: Array, temperature: float, log_prior: Array | None, steps: int, memory: int
    ) -> Array:
        from scipy.optimize import minimize

        options = {"maxcor": memory, "maxiter": steps, "maxfun": 4 * steps, "gtol": 1e-9, "ftol": 0}
        arguments = (temperature, log_prior)
        found = minimize(
            self.value_and_gradient, logits, arguments, "L-BFGS-B", jac=True, options=options
        )
        return np.asarray(found.x)

    def minimise(self, temperature: float, tolerance: float) -> Exploration:
        """L-BFGS on the smooth dual of VE_λ, restarted while that still helps."""
        logits, best = np.log(self.start[self.support]), None
        for _ in range(5):
            logits = self.descend(logits, temperature, None, steps=2000, memory=50)
            bound, Q = self.bound(self.log_forecast(logits), temperature)
            d = self.occupancy(Q, temperature)
            value = self.value(d, temperature)
            gap = bound - value
            stuck = best is not None and gap > 0.5 * best.certificate
            if best is None or gap < best.certificate:
                best = Exploration(markov_policy(d), value, gap, self.passes)
            if gap <= tolerance or stuck:
                break
        assert best is not None
        return best

    def proximal_point(self, tolerance: float, steps: int = 40) -> Exploration:
        """Proximal point steps on the policy, each an L-BFGS on its smooth dual."""
        mdp, A = self.mdp, self.mdp.num_actions
        logits = np.log(self.start[self.support])
        log_pi = np.full((self.horizon, mdp.num_states, A), -np.log(A))
        value, bound, pi = -np.inf, np.inf, np.exp(log_pi)
        for k in range(steps):
            # On 21×21 and 31 states, from 0.3 by factors 0.6 certified 1e-6 in the fewest passes of
            # the schedules tried; below 1e-4 the dual is too stiff for 300 steps of L-BFGS.
            temperature = max(0.3 * 0.6**k, 1e-4) * self.weight
            logits = self.descend(logits, temperature, log_pi, steps=300, memory=30)
            log_q = self.log_forecast(logits)
            _, V, Q = self.plan(log_q, temperature, log_pi)
            d = self.occupancy(Q, temperature)
            log_pi = (Q - V[:-1, :, None]) / temperature
            reached = self.value(d)
            if reached > value:
                value, pi = reached, markov_policy(d)
            bound = min(bound, self.bound(log_q, 0.0)[0])
            if bound - value <= tolerance:
                break
        return Exploration(pi, value, bound - value, self.passes)


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
        low, high = kernels.greedy_sweep(rows, r, gamma, V, Q, TV, choice)
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
            left = kernels.evaluation_sweeps(rows, r, gamma, choice, V, 20, 0.03 * width)
            mixes = left <= 0.3 * width
        if not mixes:
            backwards = iteration % 2 == 1
            kernels.in_place_sweeps(rows, r, gamma, V, backwards, 40, 1e-3 * width)
    if strict and not found.width <= tolerance:
        raise certified.short_of("optimum", found.width, tolerance, work)
    return Optimum(found.pi, found.V, found.Q, found.lower, found.upper, work.done)


def _check_horizon(horizon: int) -> None:
    if not (isinstance(horizon, int | np.integer) and horizon >= 1):
        raise InputError(f"horizon must be a whole number >= 1, got {horizon}")
