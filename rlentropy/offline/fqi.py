"""Fitted Q iteration (Ernst, Geurts & Wehenkel, 2005): the baseline that is robust to nothing.

Q_{k+1} = argmin_Q Σ_i (Q(s_i, a_i) - r_i - γ max_a' Q_k(s'_i, a'))²: the code of `rfzi`, with the
mean in the place of the risk measure, to which RFZI tends as β falls to 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlentropy import neural, offline
from rlentropy.data import Transitions
from rlentropy.errors import InputError
from rlentropy.log import Log
from rlentropy.offline import problem
from rlentropy.offline.fitted import fit
from rlentropy.risk import Nominal, parse
from rlentropy.types import Result


@dataclass(frozen=True)
class Config(problem.Config):
    """Learns a policy from a dataset, without robustness: the baseline of rfzi and rfqi.

    Use it beside them, on the same data, to see what robustness costs and buys.

    Paper: Ernst, Geurts and Wehenkel, "Tree-Based Batch Mode Reinforcement Learning", JMLR 2005.

    Example::

        rlentropy collect --env-id CartPole-v1 --steps 20000 --data cartpole.npz
        rlentropy fqi --data cartpole.npz --gamma 0.99 --updates 1000 --env-id CartPole-v1
    """

    risk: str = "nominal"  # nominal, the only one

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(parse(self.risk), Nominal):
            raise InputError(f"risk must be nominal for fqi, got {self.risk!r}")


@problem.on_data(Config)
def run(
    data: Transitions, config: Config, rng: np.random.Generator, log: Log, env: Any = None
) -> Result:
    """Learn from the data alone; evaluate in the environment."""

    def objective(low: float, high: float) -> Any:
        return neural.losses.Squared(low, high)

    return fit(data, config, lambda n: Nominal(), None, objective, rng, log, env)


def load_policy(saved: dict[str, Any], env: Any) -> Any:
    """The policy in a run's policy.pt."""
    return offline.policy.load_policy(saved, env)
