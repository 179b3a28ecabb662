"""Regularised EntGame: maximum visitation entropy as a game with an entropy-regularised sampler.

Tiapkin et al., "Fast Rates for Maximum Entropy Exploration", ICML 2023. Since VE = VE_S +
Σ_h E H(π_h), the forecaster need only predict states, and the sampler plans softly
(exploration §4.2):

    q_h(s)    = (n_h(s) + n_0) / (t - 1 + n_0 S)
    Q_h(s, a) = log 1/q_h(s) + Σ_s' p̂(s'|s, a) V_{h+1}(s')
    V_h(s)    = λ log Σ_a exp(Q_h(s, a) / λ),   π_h = softmax(Q_h / λ)

λ = 1 maximises VE, another λ the family VE_λ = VE_S + λ Σ_h E H(π_h). The mixture of the played
policies is nearly optimal, and unlike EntGame's so is the last of them.

Differences from the paper: the model is learned while playing, and an unvisited pair counts as
leading to the best state; with ``reward_free_episodes`` the model comes from that many episodes of
RF-UCRL and then stays frozen, as in the theory, which explores as RF-Explore-Ent does.
"""

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np

from rlentropy import calls, planning
from rlentropy.entropy.occupancies import visitation_entropy
from rlentropy.errors import InputError, in_range
from rlentropy.exploration import rf_ucrl
from rlentropy.exploration.entgame import BONUSES, forecaster_schedule, forecaster_shape
from rlentropy.exploration.episodes import Explored, explore
from rlentropy.exploration.game import GameLearner, check_bonus
from rlentropy.exploration.learner import Scoring
from rlentropy.exploration.rf_ucrl import RewardFree
from rlentropy.exploration.setting import Setting, Simulator
from rlentropy.exploration.two_phases import TwoPhases
from rlentropy.kernels.game import Schedule
from rlentropy.log import Log
from rlentropy.types import Count

Bonus = Literal["none", "inverse-n"]


@dataclass(frozen=True)
class Config:
    """Spreads visits over states and actions, by a game whose sampler plans softly.

    Only states need to be forecast, as the entropy of the actions is part of the plan. Use it where
    states and actions are Discrete: it is the best of the visitation explorers here, and its last
    policy is good without the mixture.

    Paper: Tiapkin et al., "Fast Rates for Maximum Entropy Exploration", ICML 2023.

    Example::

        rlentropy reg-entgame --env-id FrozenLake-v1 --horizon 20 --episodes 2000
    """

    horizon: int | None = None  # steps an episode; default: the environment's time limit
    episodes: int = 5000  # budget, in episodes, those of the reward-free phase included
    objective: Literal["VE"] = "VE"  # stage by stage; with a temperature VE_λ
    temperature: float = 1.0  # λ > 0 of VE_λ = VE_S + λ Σ H(π_h); 1: VE
    prior: float = 1.0  # n_0 > 0, visits that the forecaster adds to every state
    bonus: Bonus = "none"  # optimism of the sampler beyond that for unvisited pairs
    bonus_scale: float = 1.0  # factor of the bonus, >= 0
    reward_free_episodes: int = 0  # first episodes that only learn the model; then it is frozen
    stage_dependent: bool = False  # estimate one kernel a stage instead of one for all
    mixture_size: int = 32  # policies kept, a uniform sample of those played; 0 keeps none
    simulator: Simulator = "auto"  # compiled: draw from the declared model; gymnasium: call step

    def __post_init__(self) -> None:
        check_bonus(self.bonus, ("none", "inverse-n"), self.bonus_scale, 0.1)
        in_range("temperature", self.temperature, "(0, inf)")
        if not 0 <= self.reward_free_episodes < self.episodes:
            raise InputError(
                f"reward_free_episodes must be in 0..episodes - 1 = {self.episodes - 1}, "
                f"got {self.reward_free_episodes}"
            )


class RegEntGame(GameLearner):
    """Forecaster of states, soft sampler."""

    heuristic = False  # its certificate is a dual bound

    def __init__(
        self,
        setting: Setting,
        config: Config,
        rng: np.random.Generator,
        model: Any = None,
    ) -> None:
        self.bonus = BONUSES[config.bonus]
        super().__init__(
            setting,
            rng,
            reward=np.zeros(forecaster_shape(setting, "VE_S")),
            rules=self.bonus.rules,
            forecasts=True,
            temperature=config.temperature,
            bonus_scale=config.bonus_scale,
            prior=config.prior,
            stage_dependent=config.stage_dependent,
            optimistic=True,
            mixture_size=config.mixture_size,
            model=model,
        )

    def schedule(self, episodes: Count) -> Schedule:
        return forecaster_schedule(self, episodes, self.bonus, clip=False)

    def certified_gap(self) -> float | None:
        """Gap of the mixture by the forecaster's dual bound (§4.2, §7.4); needs a model."""
        d, mdp = self.mixture_occupancy(), self.setting.mdp
        if d is None or mdp is None:
            return None
        n = self.visits.sum(-1) + self.memory.prior
        bound = planning.visitation_entropy_bound(
            mdp, n / n.sum(-1, keepdims=True), "VE", self.task.temperature
        )
        return bound - visitation_entropy(d, "VE", self.task.temperature)


def make_learner(setting: Setting, config: Config, rng: np.random.Generator) -> Any:
    """The online game, or one on a model frozen after a reward-free phase."""
    if config.reward_free_episodes == 0:
        return RegEntGame(setting, config, rng)
    first, second = rng.spawn(2)
    reward_free = rf_ucrl.Config(stage_dependent=config.stage_dependent, mixture_size=0)
    return TwoPhases(
        RewardFree(setting, reward_free, first),
        config.reward_free_episodes,
        lambda model: RegEntGame(setting, config, second, model),
    )


@calls.on_env(Config)
def run(
    env: gymnasium.Env[Any, Any],
    config: Config,
    rng: np.random.Generator,
    log: Log,
    score: Scoring | None = None,
) -> Explored:
    """Explore a tabular environment; learns from `reset` and `step` alone."""
    return explore(env, config, make_learner, rng, log, score)
