"""The estimator of `robust-actor-critic`: advantages and weights under entropic risk.

The soft robust MDP of Zhang, Hu and Li (ICLR 2024; robust §1.2) with D = KL / β. Rewards of
gymnasium depend on s' and may be random, so with z = r + γ V(s'), V = 0 after termination, b = β/γ

    Q(s, a) = -(1/b) log E[exp(-b z) | s, a]        V(s) = Σ_a π(a|s) Q(s, a)         (§1.3)

which is r + γ U(s, a), U = -(1/β) log E exp(-β V(s')), where the reward is one of (s, a). The worst
case tilts each transition by w = exp(-b (z - Q)), whose mean given (s, a) is 1 (for such a reward
exp(-β V(s')) / Z(s, a)).

**The gradient** (§3.1) is an expectation under the worst-case kernel; on samples of the nominal one

    ∇J = E[Σ_t γ^t ρ_t A_t ∇log π(a_t|s_t)],    ρ_t = w_0 w_1 … w_{t-1}               (1)

for any A_t whose mean, given s_t, a_t and the past, is Q(s_t, a_t) less a function of s_t. Here,
with value estimates V̂ and Q̂,

    δ_t = Q̂ + (1 - w_t)/b - V̂(s_t),    w_t = exp(-b (z_t - Q̂(s_t, a_t)))              (2)
    A_t = δ_t + γ λ w_t A_{t+1}                                                        (3)

As -log x is 1 - x near x = 1, the mean of (2) is the robust Bellman backup of V̂ less V̂, up to a
term of second order in the error of Q̂. γ w_t is the derivative of that backup in V̂(s_{t+1}),
which makes (3) the generalised advantages of the robust problem: λ trades the bias of V̂ for
variance. Both become the ordinary ones as β → 0, where w = 1.

*Exact*: with the true V and Q, (1)-(3) are unbiased for every λ. `transition_weights`,
`advantages` and `occupancy_weights` compute them so with max_weight = inf, self_normalise = False
and trace_decay = 1; the test against exact gradients does.

*Approximate*, as shipped (`estimate`):
- ρ_t, a product as long as the episode, has a variance that grows exponentially. log ρ forgets:
  log ρ_t = κ (log ρ_{t-1} + log w_{t-1}), κ = `trace_decay`. κ = 0 leaves the nominal
  occupancy (the advantages stay robust), κ = 1 is (1).
- γ^t is left out, as usual: states late in an episode count like early ones.
- w and ρ have mean 1 in the batch, for w by a shift of Q̂, and are cut off at `max_weight` in the
  log domain.
- In (3) w is cut off at 1, as in V-trace (Espeholt et al., 2018): products of weights above 1 grow
  without bound. With the true V and Q any factor of s_{t+1} there leaves (1) unbiased; else it
  changes how far V̂ looks ahead, not what it tends to.
- The policy takes several clipped steps a batch (PPO, Schulman et al., 2017) with ρ and A fixed.
- Q̂ and V̂ are networks: w is wrong to first order in their error. The second-order term of (2) is
  negative: noise in Q̂ of variance v lowers a backup by about b v / 2.

*Deterministic dynamics* leave nature no law to tilt: there w = 1, the robust problem is the nominal
one, and whatever β then changes comes from the error of Q̂. `random_action` makes dynamics noisy.

**The critic.** V̂ regresses on V̂ + A. Q̂ = V̂ + ĝ, with ĝ the LINEX regression (§4.5) of the
surprise x = z - V̂(s) on (s, a): l = (e^y - y - 1)/b², y = b (ĝ - x), minimal at
ĝ = -(1/b) log E[e^{-bx} | s, a]. Its gradient (w - 1)/b is cut off with w, so at the minimum the
weights in use average to 1. With ĝ = 0 the value would be the classical Markov risk measure, which
counts the policy's own randomness as risk (§1.2). The loss tends to (ĝ - x)²/2.

Rewards are divided by a running deviation of the discounted return and b multiplied by it: the risk
stays that of the environment's own reward units. β is per unit: β = 1 / (a loss that matters). Once
β times that deviation (train/reward_scale) passes about 5 the weights amplify the critic's errors
more than it learns to avoid them, and training may collapse: CartPole-v1 does at β = 0.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlentropy.types import Array, Mask


def transition_weights(
    surprise: Array,
    certainty: Array,
    b: float,
    max_weight: float = np.inf,
    self_normalise: bool = False,
) -> tuple[Array, Array]:
    """log w and δ of (2), each shaped like the surprises x = z - V̂(s).

    Args:
        surprise: x, any shape, reward units.
        certainty: ĝ, the certainty equivalent of x given (s, a), likewise.
        b: β/γ >= 0, 1 / reward units.
        self_normalise: shift ĝ by the constant that makes the mean of w 1.
    """
    if b == 0.0:
        return np.zeros_like(surprise), surprise
    log_w = b * (certainty - surprise)
    if self_normalise:  # relative to the largest: where ĝ is far off, every w may be 0 or infinite
        top = log_w.max()
        log_mean = top + np.log1p(np.expm1(log_w - top).mean())
        log_w, certainty = log_w - log_mean, certainty - log_mean / b
    log_w = np.minimum(log_w, np.log(max_weight))
    return log_w, certainty - np.expm1(log_w) / b


def advantages(
    errors: Array,
    log_w: Array,
    ended: Mask,
    gamma: float,
    gae_lambda: float,
    max_trace: float = np.inf,
) -> Array:
    """A of (3), (T, N), from δ, log w and whether an episode ends with step t, each (T, N).

    Args:
        max_trace: where w is cut off in (3), > 0.
    """
    keep = gamma * gae_lambda * np.minimum(np.exp(log_w), max_trace) * ~ended
    A = np.empty_like(errors)
    after = np.zeros_like(errors[0])
    for t in reversed(range(len(errors))):
        A[t] = after = errors[t] + keep[t] * after
    return A


def occupancy_weights(
    log_w: Array, ended: Mask, start: Array, trace_decay: float
) -> tuple[Array, Array]:
    """log ρ (T, N), and that of step T (N,), where `start` (N,) is that of step 0.

    log ρ_t = κ (log ρ_{t-1} + log w_{t-1}) within an episode, 0 at its start; κ = 1 gives (1).
    """
    log_rho, now = np.empty_like(log_w), start
    for t in range(len(log_w)):
        log_rho[t] = now
        now = np.where(ended[t], 0.0, trace_decay * (now + log_w[t]))
    return log_rho, now


def self_normalised(log_weights: Array, max_weight: float) -> Array:
    """Weights of mean 1, cut off at max_weight times their mean before the cut."""
    top = log_weights.max()
    relative = log_weights - top - np.log(np.exp(log_weights - top).mean())
    weights = np.exp(np.minimum(relative, np.log(max_weight)))
    return np.asarray(weights / weights.mean())


@dataclass(frozen=True)
class Estimates:
    """What a batch of T steps of N environments says, in the units of V̂."""

    gains: Array  # ρ times the normalised advantage, (T, N)
    rho: Array  # ρ, of mean 1, (T, N)
    value_targets: Array  # of V̂, (T, N)
    surprise: Array  # x = z - V̂(s), targets of ĝ, (T, N)
    log_w: Array  # (T, N)
    log_rho: Array  # of the step that follows the batch, (N,)


def estimate(
    rewards: Array,
    values: Array,
    after: Array,
    certainty: Array,
    ended: Mask,
    log_rho: Array,
    *,
    b: float,
    gamma: float,
    gae_lambda: float,
    trace_decay: float,
    max_weight: float,
) -> Estimates:
    """The approximate estimator of a batch.

    Args:
        rewards, values, after, certainty: r, V̂(s), V̂(s') and ĝ(s, a), each (T, N).
        ended: whether an episode ends with the step, (T, N).
        log_rho: of the first step, (N,).
        b: β/γ >= 0, 1 / units of V̂.
    """
    surprise = rewards + gamma * after - values
    log_w, errors = transition_weights(surprise, certainty, b, max_weight, self_normalise=True)
    A = advantages(errors, log_w, ended, gamma, gae_lambda, max_trace=1.0)
    log_rho, next_log_rho = occupancy_weights(log_w, ended, log_rho, trace_decay)
    rho = self_normalised(log_rho, max_weight)
    mean = (rho * A).mean()
    deviation = np.sqrt((rho * (A - mean) ** 2).mean())
    return Estimates(
        gains=rho * (A - mean) / (deviation + 1e-8),
        rho=rho,
        value_targets=values + A,
        surprise=surprise,
        log_w=log_w,
        log_rho=next_log_rho,
    )
