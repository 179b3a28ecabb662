"""RFZI: robust fitted Z iteration, for the KL-penalised (entropic) robust MDP, from a dataset.

Zhang, Hu & Li, "Soft Robust MDPs and Risk-Sensitive MDPs", ICLR 2024, Algorithm 1. With
Z(s, a) = E exp(-β V(s')) an ordinary conditional expectation, one sampled s' is an unbiased target:

    Z_{k+1} = argmin_Z Σ_i (Z(s_i, a_i) - exp(-β max_a' [r(s'_i, a') - (γ/β) log Z_k(s'_i, a')]))²
    π(s) = argmax_a r(s, a) - (γ/β) log Z(s, a)

Here U = -(1/β) log Z is learnt (robust §4.5): tables iterate on it exactly (`tabular`), and
networks minimise the LINEX loss, whose population minimiser it is. ``--recipe published`` is the
companion code's recipe for comparison: Z by a sigmoid, squared errors, plain gradient descent.

Differences from the paper: the reward is learnt with the rest (see `fitted`) instead of known;
terminations are respected; U may leave [0, 1/(1-γ)].

The two conventions of β (robust §1.3): `--risk entropic:β` is the paper's penalty (1/β) KL on the
next state's value. `--erm-level b` is the nested entropic risk of r + γV at level b, which is the
same model with β = γ b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rlentropy import neural, offline
from rlentropy.data import Transitions
from rlentropy.errors import InputError, in_range, whole
from rlentropy.log import Log
from rlentropy.offline import problem
from rlentropy.offline.fitted import fit
from rlentropy.risk import Entropic, parse
from rlentropy.types import Result

BETAS = (1e-15, 1e15)  # whose squares float32 holds


@dataclass(frozen=True)
class Config(problem.Config):
    """Learns a robust policy from a dataset, under entropic risk (a KL penalty).

    Use it where you have data and no simulator, and the world may differ from them. β is per unit
    of reward: it acts once β times the spread of next values is about 1. Discrete spaces are solved
    by a table, others by networks.

    Paper: Zhang, Hu and Li, "Soft Robust MDPs and Risk-Sensitive MDPs", ICLR 2024, Algorithm 1.

    Example::

        rlentropy collect --env-id CartPole-v1 --steps 20000 --data cartpole.npz
        rlentropy rfzi --data cartpole.npz --gamma 0.99 --updates 1000 --env-id CartPole-v1
    """

    risk: str = "entropic:0.1"  # entropic:β, β > 0 per unit of reward
    # level b of a nested entropic risk of r + γV, in place of --risk: β = γ b
    erm_level: float | None = None
    # linex: networks learn -(1/β) log Z, by Adam; published: Z by a sigmoid, MSE and SGD
    recipe: Literal["linex", "published"] = "linex"
    tail: float = 3.0  # of LINEX: its exponential goes on as a tangent beyond this, > 0
    anneal: int = 0  # updates over which β grows from 0 to its value; 0: at once

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("tail", self.tail, "(0, inf]")
        whole("anneal", self.anneal, 0)
        _ = self.measure

    @property
    def measure(self) -> Entropic:
        """The entropic risk in the paper's convention."""
        if self.erm_level is not None:
            in_range("erm_level", self.erm_level, "(0, inf)")
            return Entropic(self.gamma * self.erm_level)
        measure = parse(self.risk)
        if not (isinstance(measure, Entropic) and measure.risk_aversion > 0.0):
            raise InputError(f"risk must be entropic:BETA with BETA > 0, got {self.risk!r}")
        return measure


@problem.on_data(Config)
def run(
    data: Transitions, config: Config, rng: np.random.Generator, log: Log, env: Any = None
) -> Result:
    """Learn from the data alone; evaluate in the environment."""
    measure = config.measure

    def objective(low: float, high: float) -> Any:
        if not BETAS[0] <= measure.risk_aversion <= BETAS[1]:
            got = measure.risk_aversion
            raise InputError(f"risk must have BETA in {BETAS} for networks, got {got}")
        if config.recipe == "published":
            return neural.losses.SquaredZ(measure.risk_aversion)
        return neural.losses.Linex(low, high, measure.risk_aversion, config.tail, config.anneal)

    return fit(data, config, lambda n: measure, None, objective, rng, log, env)


def load_policy(saved: dict[str, Any], env: Any) -> Any:
    """The policy in a run's policy.pt."""
    return offline.policy.load_policy(saved, env)
