"""Dynamic programming over a finite horizon on known MDPs: pure functions, no sampling."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlentropy.errors import UNIT, InputError, floats, in_range, whole
from rlentropy.kernels.rows import Task, backward, decisions
from rlentropy.mdp import FiniteMDP, check_mdp
from rlentropy.types import Array, in_short

MOST = 2**31  # stages


@dataclass(frozen=True)
class Plan:
    """Optimum of E[Σ r] + temperature × E[Σ H(π)] over a finite horizon, with H in nats."""

    pi: Array  # (H, S, A), each row sums to 1
    Q: Array  # (H, S, A)
    V: Array  # (H + 1, S), V[H] = 0

    __repr__ = in_short


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
    """Plan for reward plus policy entropy over a finite horizon (exploration §1).

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
    check_horizon(mdp, horizon)
    S, A = mdp.num_states, mdp.num_actions
    r = floats("r", r)
    if r.shape not in ((S, A), (horizon, S, A)):
        raise InputError(f"r must be (S, A) = {(S, A)} or (H, S, A), got {r.shape}")
    if not np.isfinite(r).all():
        raise InputError(f"r must be finite, got {r[~np.isfinite(r)][0]}")
    in_range("temperature", temperature, "[0, inf)")
    task = planning_task(r.reshape(-1, S, A), horizon, temperature)
    V, Q = np.zeros((horizon + 1, S)), np.empty((horizon, S, A))
    backward(mdp.rows, task, V, Q)
    pi = np.empty_like(Q)
    decisions(Q, task.temperature, pi)
    return Plan(pi=pi, Q=Q, V=V)


def rounding_of_plan(mdp: FiniteMDP, V: Array, Q: Array, temperature: float) -> float:
    """How far μ·V_0 of a backward induction in float64 may be from what it is exactly."""
    H, S, A = Q.shape
    largest = float(max(np.abs(V).max(), np.abs(Q).max()))
    sums = H * (mdp.longest + 8.0) * largest + H * (A + 32.0) * temperature
    return float(UNIT * (sums + (S + 2.0) * largest) + H * mdp.defect * largest)


def check_horizon(mdp: FiniteMDP, horizon: int) -> None:
    check_mdp(mdp)
    whole("horizon", horizon, 1, MOST)
