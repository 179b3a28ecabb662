"""UCBVI-Ent: maximum trajectory entropy by optimistic soft planning.

Tiapkin et al., "Fast Rates for Maximum Entropy Exploration", ICML 2023. Trajectory entropy is the
value of an entropy-regularised MDP with reward H(p(·|s, a)) (spec §1), so each episode plays the
softmax of an optimistic soft plan on the estimated model:

    Q̄_h = Ĥ + b_H + b_p + p̂ V̄_{h+1},   V̄_h = min(log Σ_a exp Q̄_h, (H - h) log SA),   π = softmax Q̄

Variants: ``code``, the bonuses of the authors' code (§3.1); ``none``, no bonus, which does best in
practice; ``pac``, upper and lower values with a linear gap and a stopping rule (§3.2); ``fast``,
the quadratic gap, with one least-certain action an episode (§3.3). The last two certify their
policy.

Difference from the authors' code: it counts the final transition (TE+) and ignores bonus_scale.
"""

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np

from rlentropy.errors import InputError
from rlentropy.exploration.episodes import Explored, Scoring, explore
from rlentropy.exploration.game import GameLearner, check_bonus
from rlentropy.exploration.setting import Setting, Simulator
from rlentropy.log import Log
from rlentropy.types import TrajectoryObjective

Variant = Literal["none", "code", "pac", "fast"]
BONUS = {"none": "none", "code": "entropy-code", "pac": "linear-gap", "fast": "quadratic-gap"}


@dataclass(frozen=True)
class Config:
    """UCBVI-Ent (spec §3); the default variant is the one of spec §11."""

    horizon: int | None = None  # steps an episode; default: the environment's time limit
    episodes: int = 5000  # budget, in episodes
    objective: TrajectoryObjective = "TE"  # TE+ counts the state after the last action too
    variant: Variant = "none"  # see above
    bonus_scale: float = 1.0  # factor of the widths, >= 0; below 1 the certificate is heuristic
    delta: float = 0.1  # failure probability of the widths, in (0, 1)
    tolerance: float = 0.0  # nats: stop when the gap is certified to be this small; 0: never
    stage_dependent: bool = False  # estimate one kernel a stage instead of one for all
    simulator: Simulator = "auto"  # compiled: draw from the declared model; gymnasium: call step

    def __post_init__(self) -> None:
        check_bonus(self.variant, tuple(BONUS), self.bonus_scale, self.delta)
        if self.tolerance > 0.0 and self.variant in ("none", "code"):
            raise InputError(
                "tolerance must be 0 unless the variant certifies a gap (pac, fast), "
                f"got {self.tolerance} for variant {self.variant}"
            )


class UCBVIEnt(GameLearner):
    """Optimistic soft planning on the estimated model."""

    def __init__(self, setting: Setting, config: Config, rng: np.random.Generator) -> None:
        super().__init__(
            setting,
            rng,
            reward="transition-entropy",
            objective=config.objective,
            temperature=1.0,
            bonus=BONUS[config.variant],
            bonus_scale=config.bonus_scale,
            delta=config.delta,
            stage_dependent=config.stage_dependent,
            output="plan",
            tolerance=config.tolerance,
        )


def run(
    env: gymnasium.Env[Any, Any],
    config: Config,
    rng: np.random.Generator,
    log: Log,
    score: Scoring | None = None,
) -> Explored:
    """Explore a tabular environment; learns from `reset` and `step` alone."""
    return explore(env, config, UCBVIEnt, rng, log, score)
