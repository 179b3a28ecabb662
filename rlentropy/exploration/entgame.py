"""EntGame: maximum visitation entropy as a game of a forecaster and a sampler.

Tiapkin et al., "Fast Rates for Maximum Entropy Exploration", ICML 2023. Before each episode the
forecaster predicts the next state-action pair by the frequencies so far,

    d̄_h(s, a) = (n_h(s, a) + n_0) / (t - 1 + n_0 S A),

and the sampler plans optimistically on reward log 1/d̄ with the transitions seen so far
(exploration §2). The uniform mixture of the played policies has nearly maximal entropy; its last
one does not.

Differences from the paper: the bonus defaults to none, since the theoretical ones fail at practical
budgets (§6.4); besides VE it plays VE_S (forecaster of states), and AVE and AVE_S with a
forecaster that pools the stages, as the authors' code does for AVE; an episode that terminates
rests in its last state, which counts as absorbing, for the rest of the horizon.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import gymnasium
import numpy as np

from rlentropy import calls
from rlentropy.exploration.episodes import Explored, explore
from rlentropy.exploration.game import GameLearner, Rules, check_bonus, logarithms
from rlentropy.exploration.learner import Scoring
from rlentropy.exploration.setting import Setting, Simulator
from rlentropy.kernels.cache import inner
from rlentropy.kernels.confidence import kl_radius
from rlentropy.kernels.game import Memory, Schedule, plan_with_bonus
from rlentropy.kernels.rows import Task
from rlentropy.log import Log
from rlentropy.types import Count, VisitationObjective

Bonus = Literal["none", "inverse-n", "code", "hoeffding-kl", "bernstein-kl"]


@dataclass(frozen=True)
class Config:
    """Spreads visits over states and actions, as a game of a forecaster and a sampler.

    The forecaster predicts where the agent will be; the sampler plans to be where that is least
    expected. The mixture of all policies played is the answer. Use it as the paper's plain form:
    reg-entgame needs fewer episodes.

    Paper: Tiapkin et al., "Fast Rates for Maximum Entropy Exploration", ICML 2023; its defaults,
    with the prior and delta of its experiments.

    Example::

        rlentropy entgame --env-id rlentropy/DoubleChain-v0 --horizon 20 --episodes 5000
    """

    horizon: int | None = None  # steps an episode; default: the environment's time limit
    episodes: int = 5000  # budget, in episodes; the paper's DoubleChain runs have 5000
    objective: VisitationObjective = "VE"  # VE, VE_S: stage by stage; AVE, AVE_S: over an episode
    prior: float = 1.0  # n_0 > 0, visits that the forecaster adds to every cell
    bonus: Bonus = "none"  # optimism of the sampler; code: that of the authors' program
    bonus_scale: float = 1.0  # factor of the bonus, >= 0
    clip: bool = False  # cap optimistic values at what is possible, (H - h) log(t / n_0 + S A)
    delta: float = 0.1  # failure probability inside the bonus, in (0, 1)
    stage_dependent: bool = False  # estimate one kernel a stage instead of one for all
    mixture_size: int = 32  # policies kept, a uniform sample of those played; 0 keeps none
    simulator: Simulator = "auto"  # compiled: draw from the declared model; gymnasium: call step

    def __post_init__(self) -> None:
        check_bonus(self.bonus, get_args(Bonus), self.bonus_scale, self.delta)


# ---------------------------------------------------------------- the bonus

# b_h(s, a) = c factor L (H - h - 1{rest}) width(s, a), with L = log(t / n_0 + cells), the largest
# reward; width follows from the visits N of (s, a), n = max(N, 1), and β_KL of `kl_radius` (§2.3).


@inner
def inverse_n(memory: Memory, task: Task, i: int) -> None:
    """1 / n."""
    task.width[i] = 1.0 / max(memory.model.N[i], 1)


@inner
def code(memory: Memory, task: Task, i: int) -> None:
    """sqrt(β_KL / n), of the authors' code."""
    N, S = memory.model.N[i], memory.visits.shape[1]
    task.width[i] = np.sqrt(kl_radius(N, S, np.log(4.0 * memory.pairs)) / max(N, 1))


@inner
def hoeffding_kl(memory: Memory, task: Task, i: int) -> None:
    """sqrt(β_KL / 2n): Pinsker's inequality."""
    N, S = memory.model.N[i], memory.visits.shape[1]
    task.width[i] = np.sqrt(kl_radius(N, S, np.log(2.0 * memory.pairs)) / (2.0 * max(N, 1)))


@inner
def bernstein_kl(memory: Memory, task: Task, i: int) -> None:
    """β_KL / n, and 2 c sqrt(Var V β_KL / n) beside it."""
    N, S = memory.model.N[i], memory.visits.shape[1]
    task.width[i] = kl_radius(N, S, np.log(2.0 * memory.pairs)) / max(N, 1)
    task.variance_width[i] = 4.0 * memory.bonus_scale**2 * task.width[i]


class Optimism(NamedTuple):
    """A bonus: its width, and the factor and the stages that multiply it."""

    rules: Rules
    factor: float
    rest: int  # 1: of the stages after this one alone


BONUSES = {
    "none": Optimism(Rules(), 0.0, 0),
    "inverse-n": Optimism(Rules(plan_with_bonus, inverse_n, has_width=True), 1.0, 0),
    "code": Optimism(Rules(plan_with_bonus, code, has_width=True), 1.0, 0),
    "hoeffding-kl": Optimism(Rules(plan_with_bonus, hoeffding_kl, has_width=True), 1.0, 1),
    "bernstein-kl": Optimism(
        Rules(plan_with_bonus, bernstein_kl, has_width=True, has_variance=True),
        2.0 * np.sqrt(2.0) + 2.0 / 3.0,
        1,
    ),
}


# ---------------------------------------------------------------- the forecaster


def forecaster_shape(setting: Setting, objective: VisitationObjective) -> tuple[int, int, int]:
    """Of what is forecast: stages pooled for AVE and AVE_S, states alone for VE_S and AVE_S."""
    H, S, A = setting.horizon, setting.num_states, setting.num_actions
    pooled, states_only = objective in ("AVE", "AVE_S"), objective in ("VE_S", "AVE_S")
    return (1 if pooled else H, S, 1 if states_only else A)


def forecaster_schedule(
    learner: GameLearner, episodes: Count, bonus: Optimism, clip: bool
) -> Schedule:
    """What the forecast's total and the bonus depend on after t episodes (§2.2, §2.3).

    log 1/d̄ = log(total + n_0 cells) - log(n + n_0), at most L = log(total / n_0 + cells).
    """
    H = learner.setting.horizon
    stages, S, A = learner.memory.forecast.shape
    cells, prior = S * A, learner.memory.prior
    total = episodes * (1 if stages == H else H)
    L = logarithms(total / prior + cells)[:, None]
    offset = np.repeat(logarithms(total + prior * cells)[:, None], H, axis=1)
    left = H - np.arange(H)
    scale = learner.memory.bonus_scale * bonus.factor * L * (left - bonus.rest)
    return Schedule(offset, scale, left * L if clip else np.full(offset.shape, np.inf))


class EntGame(GameLearner):
    """Forecaster, greedy sampler, and what they have seen."""

    def __init__(self, setting: Setting, config: Config, rng: np.random.Generator) -> None:
        self.bonus, self.clip = BONUSES[config.bonus], config.clip
        super().__init__(
            setting,
            rng,
            reward=np.zeros(forecaster_shape(setting, config.objective)),
            rules=self.bonus.rules,
            forecasts=True,
            bonus_scale=config.bonus_scale,
            delta=config.delta,
            prior=config.prior,
            stage_dependent=config.stage_dependent,
            mixture_size=config.mixture_size,
        )

    def schedule(self, episodes: Count) -> Schedule:
        return forecaster_schedule(self, episodes, self.bonus, self.clip)


@calls.on_env(Config)
def run(
    env: gymnasium.Env[Any, Any],
    config: Config,
    rng: np.random.Generator,
    log: Log,
    score: Scoring | None = None,
) -> Explored:
    """Explore a tabular environment; learns from `reset` and `step` alone."""
    return explore(env, config, EntGame, rng, log, score)
