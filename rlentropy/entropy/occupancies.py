"""Entropies of occupancies and trajectories, in nats, with 0 log 0 = 0.

The objectives of maximum-entropy exploration (Tiapkin et al., ICML 2023), for occupancies d
(H, S, A):

    VE    = Σ_h H(d_h)                stage-wise, state-action
    VE_S  = Σ_h H(Σ_a d_h)            stage-wise, state
    AVE   = H(mean_h d_h)             time-averaged, state-action
    AVE_S = H(mean_h Σ_a d_h)         time-averaged, state
    TE    = H(s_1, a_1, …, s_H, a_H), and TE+ with the state s_{H+1} that follows

An initial distribution counts as part of the first stage, so its entropy is in VE and in TE.
"""

from typing import Any, get_args

import numpy as np

from rlentropy.entropy.samples import shannon
from rlentropy.errors import InputError, floats, in_range, one_of, whole
from rlentropy.kernels.rows import occupancy
from rlentropy.mdp import ROUNDING, FiniteMDP, check_mdp
from rlentropy.types import Array, VisitationObjective


def staged_policy(mdp: FiniteMDP, pi: Any, horizon: int) -> Array:
    """A policy as (H, S, A), from (S, A) or (H, S, A).

    Raises:
        ValueError: another shape, or rows that are not distributions; names the first (h, s).
    """
    check_mdp(mdp)
    whole("horizon", horizon, 1)
    shape = (int(horizon), mdp.num_states, mdp.num_actions)
    pi = floats("pi", pi)
    if pi.shape not in (shape, shape[1:]):
        raise InputError(f"pi must be (S, A) = {shape[1:]} or (H, S, A) = {shape}, got {pi.shape}")
    staged: Array = np.array(np.broadcast_to(pi, shape), order="C")
    good = (staged >= 0.0).all(-1) & (np.abs(staged.sum(-1) - 1.0) <= ROUNDING)
    if not good.all():
        h, s = np.argwhere(~good)[0].tolist()
        raise InputError(f"pi must be a distribution in each state, got {staged[h, s]} at {(h, s)}")
    return staged


def visitation(mdp: FiniteMDP, pi: Any, horizon: int) -> Array:
    """Occupancies d_h(s, a) = P(s_h = s, a_h = a) of a policy, (H, S, A) (exploration §1).

    Args:
        pi: (S, A) or (H, S, A).
        horizon: H >= 1.
    """
    staged = staged_policy(mdp, pi, horizon)
    d = np.empty_like(staged)
    occupancy(mdp.rows, mdp.mu.copy(), staged, d)
    return d


def markov_policy(d: Any) -> Array:
    """The policy π_h(a|s) = d_h(s, a) / Σ_a d_h(s, a), uniform where a state has no mass.

    It has the occupancies d whenever d is feasible, so a mixture of policies and the projection of
    its occupancies are equally good. Works on visit counts just as well.
    """
    d = floats("d", d)
    mass = d.sum(-1, keepdims=True)
    pi: Array = np.where(mass > 0.0, d / np.where(mass > 0.0, mass, 1.0), 1.0 / d.shape[-1])
    return pi


def visitation_entropy(d: Any, objective: str = "VE", temperature: float = 1.0) -> float:
    """Entropy of occupancies d (H, S, A) under one of the four visitation objectives.

    With a temperature λ, VE is the regularised VE_λ = VE_S + λ Σ_h E[H(π_h)]: λ = 1 is VE itself.

    Raises:
        ValueError: d is not (H, S, A) or the objective is not a visitation objective.
    """
    d = floats("d", d)
    if d.ndim != 3:
        raise InputError(f"d must be (H, S, A), got {d.shape}")
    check_objective(objective, temperature)
    if objective == "VE":
        state_entropy = float(shannon(d.sum(-1)).sum())
        return (1.0 - temperature) * state_entropy + temperature * float(shannon(d, (1, 2)).sum())
    if objective == "VE_S":
        return float(shannon(d.sum(-1)).sum())
    mean = d.mean(0)
    return float(shannon(mean, (0, 1)) if objective == "AVE" else shannon(mean.sum(-1)))


def check_objective(objective: str, temperature: float = 1.0) -> None:
    """Refuse anything but a visitation objective, and a temperature where it means nothing."""
    one_of("objective", objective, get_args(VisitationObjective))
    in_range("temperature", temperature, "[0, inf)")
    if objective != "VE" and temperature != 1.0:
        raise InputError(f"temperature must be 1 unless the objective is VE, got {temperature}")


def trajectory_entropy(
    mdp: FiniteMDP, pi: Any, horizon: int, final_transition: bool = False
) -> float:
    """Entropy of the law of (s_1, a_1, …, s_H, a_H), by the chain rule (exploration §1).

    TE = H(μ) + Σ_h E[H(π_h(·|s_h))] + Σ_{h<H} E[H(p(·|s_h, a_h))]

    Args:
        final_transition: count the state after the last action too (the TE+ of the paper's code).
    """
    d = visitation(mdp, pi, horizon)
    state_entropy = shannon(d.sum(-1)).sum()
    policy_entropy = shannon(d, (1, 2)).sum() - state_entropy
    counted = d if final_transition else d[:-1]
    kernel_entropy = (counted.sum(0) * mdp.transition_entropy).sum()
    return float(shannon(mdp.mu) + policy_entropy + kernel_entropy)
