"""UCBVI-Ent: maximum trajectory entropy by optimistic soft planning.

Tiapkin et al., "Fast Rates for Maximum Entropy Exploration", ICML 2023. Trajectory entropy is the
value of an entropy-regularised MDP with reward H(p(·|s, a)) (exploration §1), so each episode plays
the softmax of an optimistic soft plan on the estimated model:

    Q̄_h = Ĥ + b_H + b_p + p̂ V̄_{h+1},   V̄_h = min(log Σ_a exp Q̄_h, (H - h) log SA),   π = softmax Q̄

Variants: ``code``, the bonuses of the authors' code (§3.1); ``none``, no bonus, which does best in
practice; ``pac``, upper and lower values with a linear gap and a stopping rule (§3.2); ``fast``,
the quadratic gap, with one least-certain action an episode (§3.3). The last two certify their
policy.

Difference from the authors' code: it counts the final transition (TE+) and ignores bonus_scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import gymnasium
import numpy as np

from rlentropy import calls
from rlentropy.errors import InputError
from rlentropy.exploration.episodes import Explored, explore
from rlentropy.exploration.game import GameLearner, Rules, check_bonus
from rlentropy.exploration.learner import Scoring
from rlentropy.exploration.setting import Setting, Simulator
from rlentropy.kernels.cache import compiled, inner
from rlentropy.kernels.confidence import confident_plan, kl_radius
from rlentropy.kernels.counting import row_entropy
from rlentropy.kernels.game import Guarantee, Memory, Schedule, good_enough, plan_with_bonus
from rlentropy.kernels.rows import Rows, Task
from rlentropy.log import Log
from rlentropy.mdp.empirical import EmpiricalModel
from rlentropy.types import Array, Count, TrajectoryObjective

Variant = Literal["none", "code", "pac", "fast"]


@dataclass(frozen=True)
class Config:
    """Spreads whole trajectories: maximum trajectory entropy by optimistic soft plans.

    Use it where what counts is the variety of episodes rather than of places. The variants pac and
    fast certify their policy, and can stop when it is good enough.

    Paper: Tiapkin et al., "Fast Rates for Maximum Entropy Exploration", ICML 2023.

    Example::

        rlentropy ucbvi-ent --env-id rlentropy/DoubleChain-v0 --horizon 20 --episodes 2000
    """

    horizon: int | None = None  # steps an episode; default: the environment's time limit
    episodes: int = 5000  # budget, in episodes
    objective: TrajectoryObjective = "TE"  # TE+ counts the state after the last action too
    # none: no bonus, the best in practice; code: bonuses of the authors' program; pac, fast: the
    # policy is certified, with a gap that is linear or quadratic in the widths
    variant: Variant = "none"
    bonus_scale: float = 1.0  # factor of the widths, >= 0; below 1 the certificate is heuristic
    delta: float = 0.1  # failure probability of the widths, in (0, 1)
    tolerance: float = 0.0  # nats: stop when the gap is certified to be this small; 0: never
    stage_dependent: bool = False  # estimate one kernel a stage instead of one for all
    simulator: Simulator = "auto"  # compiled: draw from the declared model; gymnasium: call step

    def __post_init__(self) -> None:
        check_bonus(self.variant, get_args(Variant), self.bonus_scale, self.delta)
        if self.tolerance > 0.0 and self.variant in ("none", "code"):
            raise InputError(
                "tolerance must be 0 unless the variant certifies a gap (pac, fast), "
                f"got {self.tolerance} for variant {self.variant}"
            )


@inner
def estimated(memory: Memory, task: Task, i: int) -> None:
    """Ĥ, the entropy of the row, is the reward; no bonus."""
    task.reward.reshape(-1)[i] = row_entropy(memory.model, i, memory.visits.shape[1])


@inner
def as_coded(memory: Memory, task: Task, i: int) -> None:
    """The authors' code: width sqrt(β_p / n), reward Ĥ + c (sqrt(β_H / n) + (β_KL + 1) / n)."""
    N, S = memory.model.N[i], memory.visits.shape[1]
    n = max(N, 1)
    beta = np.log(4.0 * memory.pairs) + np.log(4.0 * np.e * n * (2.0 * N + 1.0))
    task.width[i] = np.sqrt(beta / n)
    beta = np.log(4.0 * memory.pairs) + np.log(n) ** 2 * np.log(2.0 * n * (N + 1.0))
    entropy = row_entropy(memory.model, i, S)
    entropy += memory.bonus_scale * (np.sqrt(beta / n) + (kl_radius(N, S, 0.0) + 1.0) / n)
    task.reward.reshape(-1)[i] = entropy


@inner
def with_radius(memory: Memory, task: Task, i: int) -> None:
    """Ĥ, and the radius κ = β_KL / n of the event KL(p̂ ‖ p) <= κ."""
    N, S = memory.model.N[i], memory.visits.shape[1]
    task.width[i] = kl_radius(N, S, np.log(2.0 * memory.pairs)) / max(N, 1)
    task.reward.reshape(-1)[i] = row_entropy(memory.model, i, S)


@compiled
def linear_gap(rows: Rows, task: Task, guarantee: Guarantee, V: Array, Q: Array) -> bool:
    """Upper and lower values, and a gap that is linear in the widths (§3.2)."""
    confident_plan(rows, task, V, Q, guarantee.width, guarantee.gap, guarantee.scale, False)
    return good_enough(guarantee)


@compiled
def quadratic_gap(rows: Rows, task: Task, guarantee: Guarantee, V: Array, Q: Array) -> bool:
    """Upper and lower values, and a gap that is quadratic in them (§3.3)."""
    confident_plan(rows, task, V, Q, guarantee.width, guarantee.gap, guarantee.scale, True)
    return good_enough(guarantee)


VARIANTS = {
    "none": Rules(revise=estimated),
    "code": Rules(plan_with_bonus, as_coded, has_width=True),
    "pac": Rules(linear_gap, with_radius, has_width=True, certifies=True),
    "fast": Rules(quadratic_gap, with_radius, has_width=True, certifies=True, deviates=True),
}


class UCBVIEnt(GameLearner):
    """Optimistic soft planning on the estimated model."""

    plays_plan = True

    def __init__(
        self,
        setting: Setting,
        config: Config,
        rng: np.random.Generator,
        model: EmpiricalModel | None = None,
    ) -> None:
        H, S, A = setting.horizon, setting.num_states, setting.num_actions
        stages = model.stages if model else H if config.stage_dependent else 1
        super().__init__(
            setting,
            rng,
            reward=np.zeros((stages, S, A)),
            rules=VARIANTS[config.variant],
            temperature=1.0,
            bonus_scale=config.bonus_scale,
            delta=config.delta,
            stage_dependent=config.stage_dependent,
            tolerance=config.tolerance,
            model=model,
        )
        if config.objective == "TE":  # the last transition isn't counted
            self.task.reward_scale[-1] = 0.0

    def schedule(self, episodes: Count) -> Schedule:
        """The widths' factor c (H - h) log SA and the cap (H - h) log SA, of values to go."""
        H = self.setting.horizon
        left, most = H - np.arange(H), math.log(self.setting.num_states * self.setting.num_actions)
        rows = (np.zeros(H), self.memory.bonus_scale * left * most, left * most)
        return Schedule(*(np.tile(row, (episodes.size, 1)) for row in rows))


@calls.on_env(Config)
def run(
    env: gymnasium.Env[Any, Any],
    config: Config,
    rng: np.random.Generator,
    log: Log,
    score: Scoring | None = None,
) -> Explored:
    """Explore a tabular environment; learns from `reset` and `step` alone."""
    return explore(env, config, UCBVIEnt, rng, log, score)
