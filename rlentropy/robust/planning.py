"""Robust planning on a known model: the optimal value and policy, with bounds (robust §2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np

from rlentropy import calls, risk
from rlentropy.errors import InputError
from rlentropy.log import Log
from rlentropy.mdp import FiniteMDP, of_observations
from rlentropy.planning.robust import (
    Method,
    RobustValue,
    bounds_at,
    robust_evaluation,
    robust_optimum,
)
from rlentropy.types import Result

Support = Literal["nominal", "full"]


@dataclass(frozen=True)
class Config:
    """Computes the optimal robust value and policy, where the model is known.

    Nature may replace each transition law by a worse one, within a ball or at a price. Use it to
    plan for a model that may be wrong; every state's value comes with bounds.

    After Zhang, Hu and Li, "Soft Robust MDPs and Risk-Sensitive MDPs", ICLR 2024; other measures as
    docs/usage.md lists them.

    Example::

        rlentropy robust-planning --env-id FrozenLake-v1 --risk kl-ball:0.1 --gamma 0.99
    """

    # NAME or NAME:PARAMETER, such as kl-ball:0.1; a wrong name lists them all
    risk: str = "entropic:1"
    # where nature may put mass: where the model has some, or anywhere; default: the measure's own,
    # full for contamination and Wasserstein, else nominal
    risk_support: Support | None = None
    gamma: float = 0.95  # discount, in [0, 1)
    tolerance: float | None = None  # of the bounds, in reward units; default: 1e-8 if within reach
    method: Method = "newton"  # how values move between Bellman sweeps
    max_iterations: int = 100_000  # Bellman sweeps after which the answer is refused


def known_model(env: gymnasium.Env[Any, Any]) -> FiniteMDP:
    """The environment's model.

    Raises:
        InputError: it is not known; names the command that does without.
    """
    try:
        return FiniteMDP.from_env(env)
    except InputError as error:
        raise InputError(f"{error}; robust-actor-critic needs no model") from None


@calls.on_env(Config)
def run(env: gymnasium.Env[Any, Any], config: Config, rng: np.random.Generator, log: Log) -> Result:
    """Solve the environment's model; nothing is sampled.

    Raises:
        InputError: the environment's model is not known, or the tolerance can't be met.
    """
    measure = risk.parse(config.risk, config.risk_support)
    mdp = known_model(env)
    log.restore()  # cuts off what a killed process had logged
    asked = 1e-8 if config.tolerance is None else config.tolerance
    best = refuse(
        robust_optimum, mdp, measure, config.gamma, asked, method=config.method,
        max_iterations=config.max_iterations, strict=config.tolerance is not None,
    )  # fmt: skip
    low, high = bounds_at(mdp.mu, best)
    if best.iterations >= config.max_iterations and high - low > asked:
        raise InputError(
            f"max_iterations must be > {config.max_iterations} here, got bounds {high - low:.3g} "
            "apart by then"
        )
    attained = robust_evaluation(mdp, best.pi, measure, config.gamma, start=best.V, strict=False)
    optimum = min(max(float(mdp.mu @ best.V), low), high)
    figures = {  # the policy attains `lower`, and no more than the optimum
        "value": min(max(float(mdp.mu @ attained.V), low), optimum),
        "optimum": optimum,
        "lower_bound": low,
        "upper_bound": high,
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
    return Result(summary, of_observations(env, arrays))


def refuse(solve: Any, mdp: FiniteMDP, *arguments: Any, **options: Any) -> RobustValue:
    """A solver's answer; a tolerance that it can't meet is wrong input to a command."""
    try:
        value: RobustValue = solve(mdp, *arguments, **options)
    except RuntimeError as error:
        raise InputError(f"tolerance must be within reach: {error}") from None
    return value
