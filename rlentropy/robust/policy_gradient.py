"""Exact robust policy gradient (robust §3), with its convergence guarantee.

The gradient of J = Σ μ V^π is that of a policy in its own worst kernel P^π = q*(P, V^π):

    dJ/dπ(a|s) = d(s) Q^π(s, a) / (1-γ),    d the occupancy of π in P^π

One step of each parametrisation, for all states at once:

    direct    π' = Proj( π + η d Q / (1-γ) )          projected gradient
    softmax   π' ∝ π exp( η Q / (1-γ) )               natural gradient; mirror descent with KL
    mirror    π' = Proj( π + η_k Q / (1-γ) )          mirror descent with ‖·‖², η_k = η γ^-k
                                                      (Li, Lan and Zhao, 2022)

With exact gradients every step of every size improves every state: <π' - π, Q> >= 0, hence
T^{π'} V^π >= V^π. So large steps are the default, and η = 1/L, under which the rate of §3.2 is
proved, is on request. The gap is certified at each step by gradient domination (Lemma 2):

    V*(μ) - V^π(μ) <= max_s d*(s) / d(s) · max_{π̄} <π̄ - π, ∇J>

with d* the occupancy of an optimal policy in the worst kernel of the present one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np

from rlentropy import calls, risk
from rlentropy.errors import InputError, in_range, whole
from rlentropy.log import Log, drive
from rlentropy.mdp import FiniteMDP, of_observations
from rlentropy.planning.robust import (
    RobustValue,
    bounds_at,
    robust_evaluation,
    robust_optimum,
    worst_occupancy,
)
from rlentropy.risk.tilts import project_simplex
from rlentropy.robust.planning import Support, known_model
from rlentropy.types import Array, Result, State

Parametrisation = Literal["direct", "softmax", "mirror"]
Step = Literal["constant", "theory"]


@dataclass(frozen=True)
class Config:
    """Ascends the exact robust policy gradient, where the model is known.

    Use it to study policy gradients under risk: each step's gap to the optimum is certified. For
    the answer alone robust-planning is faster.

    Paper: Zhang, Hu and Li, "Soft Robust MDPs and Risk-Sensitive MDPs", ICLR 2024; the
    parametrisation mirror is that of Li, Lan and Zhao, 2022.

    Example::

        rlentropy robust-pg --env-id rlentropy/Ring-v0 --risk entropic:0.1 --parametrisation softmax
    """

    # NAME or NAME:PARAMETER, such as kl-ball:0.1; a wrong name lists them all
    risk: str = "entropic:1"
    # where nature may put mass: where the model has some, or anywhere; default: the measure's own,
    # full for contamination and Wasserstein, else nominal
    risk_support: Support | None = None
    gamma: float = 0.95  # discount, in [0, 1)
    # what is moved: direct: probabilities; softmax: logits, by the natural gradient; mirror:
    # probabilities, by steps that grow
    parametrisation: Parametrisation = "direct"
    updates: int = 10_000  # budget, in gradient steps
    step: Step = "constant"  # theory: 1/L, proved for direct and entropic or nominal risk
    step_size: float | None = None  # > 0, 1 / reward units; default: 100 / max |r|
    tolerance: float = 1e-6  # stop once the gap to the optimum is no more, in reward units

    def __post_init__(self) -> None:
        if self.parametrisation not in ("direct", "softmax", "mirror"):
            raise InputError(
                f"parametrisation must be direct, softmax or mirror, got {self.parametrisation!r}"
            )
        whole("updates", self.updates, 0)
        if self.step not in ("constant", "theory"):
            raise InputError(f"step must be constant or theory, got {self.step!r}")
        if self.step == "theory" and self.parametrisation != "direct":
            raise InputError(
                f"step theory must come with parametrisation direct, got {self.parametrisation!r}"
            )
        if self.step_size is not None:
            in_range("step_size", self.step_size, "(0, inf)")
        in_range("tolerance", self.tolerance, "(0, inf]")


def smoothness(A: int, gamma: float, risk_aversion: float, reward_span: float = 1.0) -> float:
    """L of J in π for entropic risk (§3.2): rewards in [0, k] are those in [0, 1] with β k."""
    H, beta = 1.0 / (1.0 - gamma), risk_aversion * reward_span
    return reward_span * 0.5 * gamma * A * (3.0 + beta * H**2) * H**3


def policy_of(parameters: Array, parametrisation: Parametrisation) -> Array:
    """π (S, A): the parameters themselves, or their softmax."""
    if parametrisation != "softmax":
        return parameters
    weights = np.exp(parameters - parameters.max(1, keepdims=True))
    return np.asarray(weights / weights.sum(1, keepdims=True))


def improve(
    parameters: Array,
    Q: Array,
    d: Array,
    gamma: float,
    parametrisation: Parametrisation,
    step_size: float,
) -> Array:
    """One step of the parameters, (S, A); the mirror variant takes its η_k as the step size.

    The softmax's are logits, not probabilities: those may round to 0, which nothing undoes.
    """
    move = step_size * Q / (1.0 - gamma)
    if parametrisation == "softmax":
        logits = parameters + move
        return np.asarray(logits - logits.max(1, keepdims=True))
    if parametrisation == "direct":
        move *= d[:, None]
    move -= move.max(1, keepdims=True)  # the projection is blind to it, its rounding is not
    return project_simplex(parameters + move, np.ones(move.shape, bool))


def domination(
    mdp: FiniteMDP, value: RobustValue, d: Array, best: Array, gamma: float
) -> tuple[float, float]:
    """The bound of gradient domination on V*(μ) - V^π(μ), and its mismatch coefficient."""
    d_best = worst_occupancy(mdp, value, gamma, best)
    reached = d_best > 1e-15
    with np.errstate(divide="ignore"):
        mismatch = float((d_best[reached] / np.maximum(d[reached], 0.0)).max())
    slack = float(d @ (value.Q.max(1) - (value.pi * value.Q).sum(1))) / (1.0 - gamma)
    return (mismatch * slack if slack > 0.0 else 0.0), mismatch


class Ascent:
    """Gradient ascent from the uniform policy, one exact evaluation a step.

    Args:
        step_size: η, 1 / reward units.
        tolerance: of each evaluation, in reward units.
        optimum: μ·V*, to which the gap is measured.
    """

    def __init__(
        self,
        mdp: FiniteMDP,
        measure: risk.Measure | risk.SRectangular,
        config: Config,
        step_size: float,
        tolerance: float,
        optimum: float,
    ) -> None:
        self.mdp, self.measure, self.config = mdp, measure, config
        self.step_size, self.tolerance, self.optimum = step_size, tolerance, optimum
        self.parameters = np.full(mdp.r.shape, 1.0 / mdp.num_actions)
        self.done = 0
        self._evaluate(np.zeros(mdp.num_states))

    def _evaluate(self, start: Array) -> None:
        """Value and worst occupancy of the present policy; kept with what they began from."""
        gamma = self.config.gamma
        self.pi = policy_of(self.parameters, self.config.parametrisation)
        self.start = start
        self.value = robust_evaluation(
            self.mdp, self.pi, self.measure, gamma, self.tolerance, start=start, strict=False
        )
        self.d = worst_occupancy(self.mdp, self.value, gamma)

    @property
    def step(self) -> int:
        return self.done

    @property
    def initial_value(self) -> float:
        return float(self.mdp.mu @ self.value.V)

    @property
    def gap(self) -> float:
        return self.optimum - self.initial_value

    @property
    def stopped(self) -> bool:
        return self.gap <= self.config.tolerance

    def advance(self, updates: int) -> None:
        gamma, parametrisation = self.config.gamma, self.config.parametrisation
        for _ in range(updates):
            growth = gamma ** -float(min(self.done, 10_000)) if parametrisation == "mirror" else 1.0
            size = min(self.step_size * growth, 1e12)
            self.parameters = improve(
                self.parameters, self.value.Q, self.d, gamma, parametrisation, size
            )
            self.done += 1
            self._evaluate(self.value.V)
            if self.stopped:
                return

    def state_dict(self) -> State:
        return {"parameters": self.parameters, "start": self.start, "updates": self.done}

    def load_state_dict(self, state: State) -> None:
        self.parameters, self.done = state["parameters"], state["updates"]
        self._evaluate(state["start"])


def step_size(mdp: FiniteMDP, measure: risk.Measure | risk.SRectangular, config: Config) -> float:
    """η as the config asks: its own, that of the theory, or one that suits the rewards."""
    if config.step == "theory":
        if not isinstance(measure, risk.Entropic | risk.Nominal):
            raise InputError(f"risk must be entropic or nominal for step theory, got {config.risk}")
        beta = measure.risk_aversion if isinstance(measure, risk.Entropic) else 0.0
        span = float(np.ptp(mdp.r)) or 1.0
        return 1.0 / smoothness(mdp.num_actions, config.gamma, beta, span)
    if config.step_size is not None:
        return config.step_size
    return 100.0 / max(float(np.abs(mdp.r).max()), 1e-300)


@calls.on_env(Config)
def run(env: gymnasium.Env[Any, Any], config: Config, rng: np.random.Generator, log: Log) -> Result:
    """Follow the gradient from the uniform policy on the environment's model.

    Raises:
        InputError: the environment's model is not known, or the theory's step is asked of a risk
            that it isn't proved for.
    """
    measure = risk.parse(config.risk, config.risk_support)
    mdp, gamma = known_model(env), config.gamma
    size = step_size(mdp, measure, config)
    fine = max(1e-11 * float(np.abs(mdp.r).max()) / max(1.0 - gamma, 1e-12), 1e-300)
    best = robust_optimum(mdp, measure, gamma, max(fine, 1e-3 * config.tolerance), strict=False)
    optimum = float(mdp.mu @ best.V)
    agent = Ascent(mdp, measure, config, size, fine, optimum)

    def evaluate() -> tuple[dict[str, float], dict[str, float]]:
        bound, mismatch = domination(mdp, agent.value, agent.d, best.pi, gamma)
        scores = {"gap": agent.gap, "domination_bound": bound, "mismatch": mismatch}
        tags = {"robust_value": agent.initial_value} | scores
        return {f"eval/{name}": value for name, value in tags.items()}, scores

    scores = drive(
        agent, log, evaluate, total=config.updates, budget="updates", evaluate_first=True
    )
    summary = {
        "env_steps": 0,
        "episodes": 0,
        "updates": agent.done,
        "stopped_by_certificate": agent.stopped,
        "risk": config.risk,
        "gamma": gamma,
        "step_size": size,
        "value": agent.initial_value,
        "optimum": optimum,
        "lower_bound": bounds_at(mdp.mu, agent.value)[0],  # of the value, and so of the optimum
        "upper_bound": bounds_at(mdp.mu, best)[1],
        **scores,
        "iterations": agent.done,
    }
    arrays = {"pi": agent.pi, "V": agent.value.V, "Q": agent.value.Q}
    return Result(summary, of_observations(env, arrays))
