"""Reward-free exploration: RF-UCRL and RF-Express.

Kaufmann et al., "Adaptive Reward-Free Exploration", 2021, plays greedily for the error that a model
can still make,

    E_h(s, a) = c (H - h) sqrt(β(N) / N) + Σ_s' p̂(s'|s, a) max_a' E_{h+1}(s', a'),

as coded in spec §5.3; Ménard et al., "Fast Active Learning for Pure Exploration", 2021 (RF-Express)
shrinks its bonus with 1/N instead,

    W_h(s, a) = min(H, 15 H² β(N) / N + (1 + 1/H) Σ_s' p̂(s'|s, a) max_a' W_{h+1}(s', a')).

Both stop when the error at the start certifies every reward to within ε. What they visit on the way
is compared here with maximum-entropy exploration; `policy.npz` holds its Markov projection.
"""

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np

from rlentropy.exploration.episodes import Explored, Scoring, explore
from rlentropy.exploration.game import GameLearner, check_bonus
from rlentropy.exploration.setting import Setting, Simulator
from rlentropy.log import Log
from rlentropy.types import VisitationObjective

Variant = Literal["rf-ucrl", "rf-express"]


@dataclass(frozen=True)
class Config:
    """RF-UCRL or RF-Express (spec §5.3); delta as in the paper's experiments (§6.2)."""

    horizon: int | None = None  # steps an episode; default: the environment's time limit
    episodes: int = 5000  # budget, in episodes
    objective: VisitationObjective = "VE"  # the entropy that is reported; it changes nothing else
    variant: Variant = "rf-ucrl"  # bonus falling with 1/sqrt(n), or with 1/n (rf-express)
    bonus_scale: float = 1.0  # factor of the bonus, >= 0; below 1 the certificate is heuristic
    clip: bool = False  # cap E at 2 (H - h); the paper's DoubleChain runs do, and it hurts
    delta: float = 0.1  # failure probability inside the bonus, in (0, 1)
    tolerance: float = 0.0  # ε: stop when every reward is certified to within it; 0: never
    stage_dependent: bool = False  # estimate one kernel a stage instead of one for all
    mixture_size: int = 32  # policies kept, a uniform sample of those played; 0 keeps none
    simulator: Simulator = "auto"  # compiled: draw from the declared model; gymnasium: call step

    def __post_init__(self) -> None:
        check_bonus(self.variant, ("rf-ucrl", "rf-express"), self.bonus_scale, self.delta)


class RewardFree(GameLearner):
    """Plays for what the model doesn't know."""

    def __init__(self, setting: Setting, config: Config, rng: np.random.Generator) -> None:
        super().__init__(
            setting,
            rng,
            reward="nothing",
            objective=config.objective,
            bonus=config.variant,
            bonus_scale=config.bonus_scale,
            clip=config.clip,
            delta=config.delta,
            stage_dependent=config.stage_dependent,
            tolerance=config.tolerance,
            mixture_size=config.mixture_size,
        )


def run(
    env: gymnasium.Env[Any, Any],
    config: Config,
    rng: np.random.Generator,
    log: Log,
    score: Scoring | None = None,
) -> Explored:
    """Explore a tabular environment; learns from `reset` and `step` alone."""
    return explore(env, config, RewardFree, rng, log, score)
