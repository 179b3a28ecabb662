"""Robust planning on a known model: the optimal robust value and policy, with bounds (spec §2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np

from rlentropy import risk
from rlentropy.errors import InputError
from rlentropy.log import Log
from rlentropy.mdp import FiniteMDP
from rlentropy.robust.dynamics import Method, RobustValue, robust_evaluation, robust_optimum
from rlentropy.run import Result

Support = Literal["nominal", "full"]


@dataclass(frozen=True)
class Config:
    """Robust planning; needs an environment whose model is known."""

    risk: str = "entropic:1"  # risk measure, NAME:PARAMETER; a wrong name lists them all
    risk_support: Support | None = None  # where nature may put mass; default: the measure's own
    gamma: float = 0.95  # discount, in [0, 1)
    tolerance: float = 1e-8  # largest accepted distance of the bounds, in reward units
    method: Method = "newton"  # how values move between Bellman sweeps
    max_iterations: int = 100_000  # Bellman sweeps after which the answer is refused


def run(env: gymnasium.Env[Any, Any], config: Config, rng: np.random.Generator, log: Log) -> Result:
    """Solve the environment's model; nothing is sampled.

    Raises:
        InputError: the environment's model is not known, or the tolerance can't be met.
    """
    measure = risk.parse(config.risk, config.risk_support)
    mdp = FiniteMDP.from_env(env)
    log.restore()
    best = refuse(
        robust_optimum, mdp, measure, config.gamma, config.tolerance,
        method=config.method, max_iterations=config.max_iterations,
    )  # fmt: skip
    found = refuse(robust_evaluation, mdp, best.pi, measure, config.gamma, config.tolerance)
    figures = {
        "value": float(mdp.mu @ found.V),
        "optimum": float(mdp.mu @ best.V),
        "lower_bound": float(mdp.mu @ best.lower),
        "upper_bound": float(mdp.mu @ best.upper),
    }
    log.scalar("eval/robust_value", figures["value"], 0)
    log.scalar("eval/gap", figures["upper_bound"] - figures["value"], 0)
    summary = {
        "env_steps": 0,
        "episodes": 0,
        "risk": config.risk,
        "gamma": config.gamma,
        **figures,
        "iterations": best.iterations,
    }
    arrays = {"pi": best.pi, "V": best.V, "Q": best.Q, "lower": best.lower, "upper": best.upper}
    return Result(summary, arrays)


def refuse(solve: Any, mdp: FiniteMDP, *arguments: Any, **options: Any) -> RobustValue:
    """A solver's answer; a tolerance that it can't meet is wrong input to a command."""
    try:
        value: RobustValue = solve(mdp, *arguments, **options)
    except RuntimeError as error:
        raise InputError(f"tolerance must be within reach: {error}") from None
    return value
