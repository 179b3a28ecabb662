"""The exact optimum of an exploration objective on a known model, with a certificate.

Visitation entropies by their smooth dual (exploration §7), trajectory entropies by soft planning.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from rlentropy import calls
from rlentropy.errors import InputError, whole
from rlentropy.exploration.episodes import Explored
from rlentropy.exploration.scoring import optimum
from rlentropy.exploration.setting import Goal, Setting
from rlentropy.log import Log
from rlentropy.types import Objective


@dataclass(frozen=True)
class Config:
    """Computes the exact optimum of an exploration objective, where the model is known.

    Use it as the yardstick of what learns from samples, or where the model is yours. The
    certificate bounds how far below the true optimum the answer may be.

    After Tiapkin et al., "Fast Rates for Maximum Entropy Exploration", ICML 2023.

    Example::

        rlentropy optimal-exploration --env-id FrozenLake-v1 --horizon 20 --objective VE
    """

    horizon: int | None = None  # steps an episode; default: the environment's time limit
    objective: Objective = "VE"  # visitation (VE, AVE; _S: of states) or trajectory entropy (TE)
    temperature: float = 1.0  # λ >= 0 of VE_λ = VE_S + λ Σ H(π_h); VE alone has λ ≠ 1
    # over the model, back and forth, after which the answer is what was found, with its
    # certificate; default: as many as it takes, minutes for thousands of states; TE takes one
    max_passes: int | None = None

    def __post_init__(self) -> None:
        if self.max_passes is not None:
            whole("max_passes", self.max_passes, 1)


@calls.on_env(Config)
def run(
    env: gymnasium.Env[Any, Any], config: Config, rng: np.random.Generator, log: Log
) -> Explored:
    """Solve the environment's model; nothing is sampled.

    Raises:
        InputError: the environment's model is not known.
    """
    setting = Setting.of(env, config.horizon, "gymnasium")
    if (mdp := setting.mdp) is None:
        raise InputError(setting.unknown)
    log.restore()  # cuts off what a killed process had logged
    goal = Goal(config.objective, config.temperature)
    best = optimum(goal, mdp, setting.horizon, config.max_passes)
    log.scalar(f"eval/{goal.tag}", best.value, 0)
    log.scalar("eval/certificate", best.certificate, 0)
    arrays = {"pi": best.pi, "V": best.V, "Q": best.Q}
    summary = {
        "env_steps": 0,
        "episodes": 0,
        "horizon": setting.horizon,
        "objective": config.objective,
        "value": best.value,
        "value_is_exact": True,
        "optimum": best.value,
        "certificate": best.certificate,
        "iterations": best.iterations,
    }
    policy = {name: array for name, array in arrays.items() if array is not None}
    return Explored(policy=policy, summary=summary)
