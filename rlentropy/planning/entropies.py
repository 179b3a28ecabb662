"""Exact optima of the entropies of `rlentropy.entropy`, with certificates.

A certificate is an upper bound on how far the returned value may lie below the true optimum.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlentropy.entropy.occupancies import (
    check_objective,
    markov_policy,
    visitation,
    visitation_entropy,
)
from rlentropy.entropy.samples import shannon
from rlentropy.errors import UNIT, InputError, in_range, whole
from rlentropy.kernels.rows import add_occupancy_of_plan, backward
from rlentropy.mdp import FiniteMDP
from rlentropy.planning.episodic import (
    backward_induction,
    check_horizon,
    planning_task,
    rounding_of_plan,
)
from rlentropy.types import Array, in_short


@dataclass(frozen=True)
class Exploration:
    """A policy of maximum entropy and how sure that is."""

    pi: Array  # (H, S, A)
    value: float  # nats, of pi; less its rounding, so that it is a lower bound of the optimum
    certificate: float  # the optimum is at most value + certificate, rounding included
    iterations: int  # evaluations of the dual: one backward and one forward pass each
    V: Array | None = None  # (H + 1, S) soft values, where the problem is an ordinary plan
    Q: Array | None = None  # (H, S, A)

    __repr__ = in_short


def max_trajectory_entropy(
    mdp: FiniteMDP, horizon: int, final_transition: bool = False
) -> Exploration:
    """The policy of maximum trajectory entropy, exactly: a soft plan for reward H(P(·|s, a))
    (exploration §1).

    Args:
        final_transition: count the state after the last action too (TE+).
    """
    check_horizon(mdp, horizon)
    r = np.tile(mdp.transition_entropy, (horizon, 1, 1))
    if not final_transition:
        r[-1] = 0.0
    plan = backward_induction(mdp, r, horizon, temperature=1.0)
    value = float(shannon(mdp.mu) + mdp.mu @ plan.V[0])
    # Rows' entropies and H(μ) are sums too.
    sums = horizon * (mdp.longest + 8.0) + mdp.num_states
    slack = rounding_of_plan(mdp, plan.V, plan.Q, 1.0)
    slack += float(UNIT * sums * (1.0 + np.log(mdp.num_states)))
    return Exploration(plan.pi, value - slack, 2.0 * slack, 1, plan.V, plan.Q)


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
    max_passes: int | None = None,
) -> Exploration:
    """The policy of maximum visitation entropy, by minimising the dual over forecasters.

    For VE_λ, λ > 0 (§7.2): max_d VE_λ(d) = min_θ g(θ), where g is the value of the soft plan
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
        max_passes: of a backward and a forward pass over the model, about, after which the search
            ends with what it has; default: as many as it takes.

    Raises:
        ValueError: an argument is out of range.
        RuntimeError: strict, and the tolerance was not reached.
    """
    check_horizon(mdp, horizon)
    check_objective(objective, temperature)
    temperature = float(temperature)
    if objective == "VE" and temperature == 0.0:
        objective, temperature = "VE_S", 1.0
    smooth = objective == "VE"
    tolerance = (1e-8 if smooth else 1e-5) if tolerance is None else tolerance
    in_range("tolerance", tolerance, "(0, inf]")
    if max_passes is not None:
        whole("max_passes", max_passes, 1)
    dual = _Dual(mdp, horizon, objective, max_passes)
    best = dual.minimise(temperature, tolerance) if smooth else dual.proximal_point(tolerance)
    if strict and not best.certificate <= tolerance:
        raise RuntimeError(
            f"max_visitation_entropy reached certificate {best.certificate:.3g} nats after "
            f"{best.iterations} passes, tolerance is {tolerance:.3g}: raise tolerance"
            f"{' or max_passes' if dual.left < 1 else ''}, or pass strict=False to accept this "
            "certificate"
        )
    return best


def visitation_entropy_bound(
    mdp: FiniteMDP, q: Any, objective: str = "VE", temperature: float = 1.0, horizon: int = 0
) -> float:
    """Upper bound on the maximum visitation entropy from any forecaster q (exploration §7.4).

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
    check_horizon(mdp, horizon)
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

    def __init__(
        self, mdp: FiniteMDP, horizon: int, objective: str, max_passes: int | None = None
    ) -> None:
        S, A = mdp.num_states, mdp.num_actions
        self.mdp, self.horizon, self.objective = mdp, horizon, objective
        pooled, states_only = objective in ("AVE", "AVE_S"), objective != "AVE"
        self.shape = (1 if pooled else horizon, S, 1 if states_only else A)
        self.weight = 1.0 / horizon if pooled else 1.0
        self.start = self.forecast_of(visitation(mdp, np.full((S, A), 1.0 / A), horizon))
        self.support = self.start > 0.0
        self.passes, self.max_passes = 0, max_passes

    @property
    def left(self) -> float:
        """Passes that may still be spent."""
        return np.inf if self.max_passes is None else self.max_passes - self.passes

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
        backward(self.mdp.rows, planning_task(r, H, temperature), V, Q)
        self.passes += 1
        return float(self.mdp.mu @ V[0]), V, Q

    def bound(self, log_q: Array, temperature: float) -> tuple[float, Array]:
        """The dual's value for a forecaster, rounded up, and Q of its plan."""
        value, V, Q = self.plan(log_q, temperature)
        cells = self.shape[1] * self.shape[2]  # whose forecasts sum to 1 but for rounding
        slack = rounding_of_plan(self.mdp, V, Q, temperature) + self.horizon * cells * UNIT
        return value + slack, Q

    def value(self, d: Array, temperature: float = 1.0) -> float:
        """The entropy of occupancies (H, S, A), rounded down."""
        value = visitation_entropy(d, self.objective, temperature)
        return value - _rounding_of_entropy(self.mdp, d, self.weight)

    def occupancy(self, Q: Array, temperature: float) -> Array:
        d = np.zeros_like(Q)
        add_occupancy_of_plan(self.mdp.rows, self.mdp.mu.copy(), Q, temperature, d)
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

        most = int(min(4 * steps, max(self.left, 1)))
        options = {"maxcor": memory, "maxiter": steps, "maxfun": most, "gtol": 1e-9, "ftol": 0}
        arguments = (temperature, log_prior)
        minimum = minimize(
            self.value_and_gradient, logits, arguments, "L-BFGS-B", jac=True, options=options
        )
        return np.asarray(minimum.x)

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
            if gap <= tolerance or stuck or self.left < 1:
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
            if bound - value <= tolerance or self.left < 1:
                break
        return Exploration(pi, value, bound - value, self.passes)
