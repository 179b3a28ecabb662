"""RFQI: robust fitted Q iteration, for total variation balls, from a dataset.

Panaganti, Xu, Kalathil & Ghavamzadeh, "Robust Reinforcement Learning using Offline Data", NeurIPS
2022. For the ball of radius ρ (½ ‖q - p‖₁ <= ρ), in which nature may also lead to a fail state of
value m (robust §1.5, §4.6):

    W = max_{η >= m} E[η - (η - x)₊] - ρ (η - m)

Differences from the paper: η is one network that learns along with Q, instead of a fresh one
trained to convergence at every step; all actions are compared instead of samples of a behaviour
model; terminations are respected. The paper has m = 0 and rewards >= 0; here m is an option.
Rewards are averaged, not worsened, where networks meet one that depends on s'; tables worsen it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlentropy import neural, offline
from rlentropy.data import Transitions
from rlentropy.errors import InputError, in_range, whole
from rlentropy.log import Log
from rlentropy.offline import problem
from rlentropy.offline.fitted import fit
from rlentropy.risk import Measure, TVBall, parse
from rlentropy.types import Result


@dataclass(frozen=True)
class Config(problem.Config):
    """Learns a robust policy from a dataset, for balls of total variation.

    Use it where nature may move any mass of at most ρ, also to a failure that the data don't show.
    With entropic risk rfzi is steadier.

    Paper: Panaganti, Xu, Kalathil and Ghavamzadeh, "Robust Reinforcement Learning using Offline
    Data", NeurIPS 2022.

    Example::

        rlentropy collect --env-id CartPole-v1 --steps 20000 --data cartpole.npz
        rlentropy rfqi --data cartpole.npz --risk tv-ball:0.1 --gamma 0.99 --updates 1000 --env-id
            CartPole-v1
    """

    risk: str = "tv-ball:0.1"  # tv-ball:ρ, total variation (half the L1 distance), ρ in [0, 1]
    # value of the state that nature may always lead to; default: 0, or where rewards are negative
    # the least discounted return
    fail_value: float | None = None
    dual_steps: int = 2  # gradient steps of the dual network an update
    dual_learning_rate: float = 1e-3  # of the dual network (Adam), > 0

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("dual_learning_rate", self.dual_learning_rate, "(0, inf)")
        whole("dual_steps", self.dual_steps, 1)
        if self.fail_value is not None:
            in_range("fail_value", self.fail_value, "(-inf, inf)")
        _ = self.radius

    @property
    def radius(self) -> float:
        measure = parse(self.risk)
        if not (isinstance(measure, TVBall) and measure.radius <= 1.0):
            raise InputError(f"risk must be tv-ball:RADIUS in [0, 1] for rfqi, got {self.risk!r}")
        return measure.radius


@problem.on_data(Config)
def run(
    data: Transitions, config: Config, rng: np.random.Generator, log: Log, env: Any = None
) -> Result:
    """Learn from the data alone; evaluate in the environment, to which the fail state is added."""
    radius, fail = config.radius, config.fail_value
    if fail is None:
        fail = min(0.0, problem.value_range(data, config.gamma)[0])

    def measure(n: int) -> Measure:
        return TVBall(radius, support=np.array([n - 1]))

    def objective(low: float, high: float) -> Any:
        return neural.losses.TVDual(
            low, high, radius, fail, config.dual_steps, config.dual_learning_rate
        )

    return fit(data, config, measure, fail, objective, rng, log, env)


def load_policy(saved: dict[str, Any], env: Any) -> Any:
    """The policy in a run's policy.pt."""
    return offline.policy.load_policy(saved, env)
