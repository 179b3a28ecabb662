"""EntGame: maximum visitation entropy as a game of a forecaster and a sampler.

Tiapkin et al., "Fast Rates for Maximum Entropy Exploration", ICML 2023. Before each episode the
forecaster predicts the next state-action pair by the frequencies so far,

    d̄_h(s, a) = (n_h(s, a) + n_0) / (t - 1 + n_0 S A),

and the sampler plans optimistically on reward log 1/d̄ with the transitions seen so far (spec §2).
The uniform mixture of the played policies has nearly maximal entropy; its last one does not.

Differences from the paper: the bonus defaults to none, since the theoretical ones fail at practical
budgets (spec §6.4); besides VE it plays VE_S (forecaster of states), and AVE and AVE_S with a
forecaster that pools the stages, as the authors' code does for AVE; an episode that terminates
rests in its last state, which counts as absorbing, for the rest of the horizon.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import gymnasium
import numpy as np

from rlentropy.exploration.episodes import Explored, Scoring, explore
from rlentropy.exploration.game import GameLearner, check_bonus
from rlentropy.exploration.setting import Setting, Simulator
from rlentropy.log import Log
from rlentropy.types import VisitationObjective

Bonus = Literal["none", "inverse-n", "code", "hoeffding-kl", "bernstein-kl"]


@dataclass(frozen=True)
class Config:
    """EntGame (spec §2). The defaults are those of spec §11 and, for prior and delta, of §6.2."""

    horizon: int | None = None  # steps an episode; default: the environment's time limit
    episodes: int = 5000  # budget, in episodes; the paper's DoubleChain runs have 5000
    objective: VisitationObjective = "VE"  # VE, VE_S: stage-wise; AVE, AVE_S: time-averaged
    prior: float = 1.0  # n_0 > 0, visits that the forecaster adds to every cell
    bonus: Bonus = "none"  # optimism of the sampler; "code" is the authors'
    bonus_scale: float = 1.0  # factor of the bonus, >= 0
    clip: bool = False  # cap optimistic values at what is possible, (H - h) log(t / n_0 + S A)
    delta: float = 0.1  # failure probability inside the bonus, in (0, 1)
    stage_dependent: bool = False  # estimate one kernel a stage instead of one for all
    mixture_size: int = 32  # policies kept, a uniform sample of those played; 0 keeps none
    simulator: Simulator = "auto"  # compiled: draw from the declared model; gymnasium: call step

    def __post_init__(self) -> None:
        check_bonus(self.bonus, get_args(Bonus), self.bonus_scale, self.delta)


class EntGame(GameLearner):
    """Forecaster, greedy sampler, and what they have seen."""

    def __init__(self, setting: Setting, config: Config, rng: np.random.Generator) -> None:
        super().__init__(
            setting,
            rng,
            reward="forecaster",
            objective=config.objective,
            forecasts_actions=config.objective in ("VE", "AVE"),
            bonus=config.bonus,
            bonus_scale=config.bonus_scale,
            clip=config.clip,
            delta=config.delta,
            prior=config.prior,
            stage_dependent=config.stage_dependent,
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
    return explore(env, config, EntGame, rng, log, score)
