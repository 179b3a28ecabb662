"""Reward-free exploration: RF-UCRL and RF-Express.

Kaufmann et al., "Adaptive Reward-Free Exploration", 2021, plays greedily for the error that a model
can still make,

    E_h(s, a) = c (H - h) sqrt(β(N) / N) + Σ_s' p̂(s'|s, a) max_a' E_{h+1}(s', a'),

as coded in exploration §5.3; Ménard et al., "Fast Active Learning for Pure Exploration", 2021
(RF-Express) shrinks its bonus with 1/N instead,

    W_h(s, a) = min(H, 15 H² β(N) / N + (1 + 1/H) Σ_s' p̂(s'|s, a) max_a' W_{h+1}(s', a')).

Both stop when the error at the start certifies every reward to within ε. What they visit on the way
is compared here with maximum-entropy exploration; `policy.npz` holds its Markov projection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np

from rlentropy import calls
from rlentropy.exploration.episodes import Explored, explore
from rlentropy.exploration.game import GameLearner, Rules, check_bonus
from rlentropy.exploration.learner import Scoring
from rlentropy.exploration.setting import Setting, Simulator
from rlentropy.kernels.cache import compiled, inner
from rlentropy.kernels.confidence import kl_radius
from rlentropy.kernels.game import Guarantee, Memory, Schedule, good_enough
from rlentropy.kernels.rows import Rows, Task, backward_with_bonus
from rlentropy.log import Log
from rlentropy.types import Array, Count, VisitationObjective

Variant = Literal["rf-ucrl", "rf-express"]


@dataclass(frozen=True)
class Config:
    """Learns the model well enough to plan for any reward, by RF-UCRL or RF-Express.

    It goes where the model could still be wrong, and can stop when every reward is certified to
    within --tolerance. Use it before rewards are known, or as a baseline of the entropy explorers,
    by whose objectives it is scored.

    Papers: Kaufmann et al., "Adaptive Reward-Free Exploration", 2021; Ménard et al., "Fast Active
    Learning for Pure Exploration", 2021.

    Example::

        rlentropy rf-ucrl --env-id rlentropy/DoubleChain-v0 --horizon 20 --episodes 5000
    """

    horizon: int | None = None  # steps an episode; default: the environment's time limit
    episodes: int = 5000  # budget, in episodes
    objective: VisitationObjective = "VE"  # the entropy that is reported; it changes nothing else
    variant: Variant = "rf-ucrl"  # bonus falling with 1/sqrt(n), or with 1/n (rf-express)
    bonus_scale: float = 1.0  # factor of the bonus, >= 0; below 1 the certificate is heuristic
    clip: bool = False  # cap the bound at 2 (H - h), as the paper's DoubleChain runs do; it hurts
    delta: float = 0.1  # failure probability inside the bonus, in (0, 1)
    tolerance: float = 0.0  # stop when every reward is certified to within it; 0: never
    stage_dependent: bool = False  # estimate one kernel a stage instead of one for all
    mixture_size: int = 32  # policies kept, a uniform sample of those played; 0 keeps none
    simulator: Simulator = "auto"  # compiled: draw from the declared model; gymnasium: call step

    def __post_init__(self) -> None:
        check_bonus(self.variant, ("rf-ucrl", "rf-express"), self.bonus_scale, self.delta)


@inner
def rf_ucrl_width(memory: Memory, task: Task, i: int) -> None:
    """sqrt(β_KL(N) / N)."""
    N, S = memory.model.N[i], memory.visits.shape[1]
    task.width[i] = np.sqrt(kl_radius(N, S, np.log(2.0 * memory.pairs)) / max(N, 1))


@inner
def rf_express_width(memory: Memory, task: Task, i: int) -> None:
    """β(N) / N with β(N) = log(3 S A H / δ) + S log(8e (N + 1))."""
    N, S = memory.model.N[i], memory.visits.shape[1]
    beta = np.log(3.0 * memory.pairs) + S * np.log(8.0 * np.e * (N + 1.0))
    task.width[i] = beta / max(N, 1)


@compiled
def rf_ucrl_plan(rows: Rows, task: Task, guarantee: Guarantee, V: Array, Q: Array) -> bool:
    """V = E; every reward is known to within 2 E_1 at the start."""
    backward_with_bonus(rows, task, V, Q)
    for s in range(guarantee.gap.size):
        guarantee.gap[s] = 2.0 * V[0, s]
    return good_enough(guarantee)


@compiled
def rf_express_plan(rows: Rows, task: Task, guarantee: Guarantee, V: Array, Q: Array) -> bool:
    """V = W; every reward is known to within 2 (3e sqrt(W_1) + W_1) at the start."""
    backward_with_bonus(rows, task, V, Q)
    for s in range(guarantee.gap.size):
        guarantee.gap[s] = 2.0 * (3.0 * np.e * np.sqrt(V[0, s]) + V[0, s])
    return good_enough(guarantee)


RULES = {
    "rf-ucrl": Rules(rf_ucrl_plan, rf_ucrl_width, has_width=True, certifies=True),
    "rf-express": Rules(rf_express_plan, rf_express_width, has_width=True, certifies=True),
}


class RewardFree(GameLearner):
    """Plays for what the model doesn't know."""

    def __init__(self, setting: Setting, config: Config, rng: np.random.Generator) -> None:
        self.config = config
        express = config.variant == "rf-express"
        super().__init__(
            setting,
            rng,
            reward=np.zeros((1, setting.num_states, 1)),
            rules=RULES[config.variant],
            growth=1.0 + 1.0 / setting.horizon if express else 1.0,
            bonus_scale=config.bonus_scale,
            delta=config.delta,
            stage_dependent=config.stage_dependent,
            tolerance=config.tolerance,
            mixture_size=config.mixture_size,
        )

    def schedule(self, episodes: Count) -> Schedule:
        """The factors c (H - h) and 15 c H² of the widths, and the caps of E and W."""
        H, c = self.setting.horizon, self.config.bonus_scale
        left = H - np.arange(H)
        scale, cap = c * left, 2.0 * left if self.config.clip else np.full(H, np.inf)
        if self.config.variant == "rf-express":
            scale, cap = np.full(H, c * 15.0 * H * H), np.full(H, float(H))
        rows = (np.zeros(H), scale, cap)
        return Schedule(*(np.tile(np.asarray(row, np.float64), (episodes.size, 1)) for row in rows))


@calls.on_env(Config)
def run(
    env: gymnasium.Env[Any, Any],
    config: Config,
    rng: np.random.Generator,
    log: Log,
    score: Scoring | None = None,
) -> Explored:
    """Explore a tabular environment; learns from `reset` and `step` alone."""
    return explore(env, config, RewardFree, rng, log, score)
