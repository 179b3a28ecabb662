"""RF-Explore-Ent: explore without a reward, then plan for trajectory entropy once.

Tiapkin et al., "Fast Rates for Maximum Entropy Exploration", ICML 2023; the exploration is that of
Jin et al., "Reward-Free Exploration for Reinforcement Learning", 2020 (exploration §4.1):

1. for each state s* and stage h*, N_0 episodes of UCBVI on the reward 1{s_{h*} = s*}; each policy
   it plays, made uniform at (s*, h*), joins the set Ψ;
2. N episodes, each with a policy drawn uniformly from Ψ; they alone make the estimate p̂;
3. the soft plan on p̂ with reward H(p̂(·|s, a)) and no bonus.

A policy is played in phase 2 as often as a multinomial draw says, right after phase 1 has played
it, so that Ψ need not be kept; phase 1 never sees that data, so nothing else changes.

The sampler may be replaced (``sampler``): RF-Express, RF-UCRL, EntGame or random actions, each for
the whole budget, followed by phase 3. This is what works at practical budgets.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal, get_args

import gymnasium
import numpy as np

from rlentropy import calls
from rlentropy.errors import InputError, one_of, whole
from rlentropy.exploration import entgame, rf_ucrl, ucbvi_ent
from rlentropy.exploration.entgame import EntGame
from rlentropy.exploration.episodes import Explored, explore
from rlentropy.exploration.game import GameLearner, Rules, check_bonus
from rlentropy.exploration.learner import Learner, Scoring
from rlentropy.exploration.random_policy import RandomPolicy
from rlentropy.exploration.rf_ucrl import RewardFree
from rlentropy.exploration.setting import Setting, Simulator
from rlentropy.exploration.ucbvi_ent import UCBVIEnt
from rlentropy.kernels.cache import called_from_python, inner
from rlentropy.kernels.game import Memory, Schedule, plan_with_bonus
from rlentropy.kernels.rows import Task, decisions
from rlentropy.kernels.sampling import draw_action, rollout
from rlentropy.log import Log
from rlentropy.mdp.empirical import EmpiricalModel
from rlentropy.types import Array, Count, State, TrajectoryObjective

Sampler = Literal["targets", "rf-express", "rf-ucrl", "entgame", "random"]


@dataclass(frozen=True)
class Config:
    """Explores without a reward first, then plans once for trajectory entropy.

    Use it where exploring and planning are apart, or to see what a sampler's data are worth:
    --sampler puts RF-Express, RF-UCRL, EntGame or random actions in the place of the paper's two
    phases, which need more episodes than most have.

    Paper: Tiapkin et al., "Fast Rates for Maximum Entropy Exploration", ICML 2023.

    Example::

        rlentropy rf-explore-ent --env-id rlentropy/DoubleChain-v0 --horizon 20 --episodes 5000
            --sampler rf-express
    """

    horizon: int | None = None  # steps an episode; default: the environment's time limit
    episodes: int = 5000  # budget, in episodes, of all phases together
    objective: TrajectoryObjective = "TE"  # TE+ counts the state after the last action too
    # targets: the paper's, each state and stage in turn; another explores for the whole budget
    sampler: Sampler = "targets"
    target_episodes: int = 1  # a state and stage, for the sampler targets, >= 1
    bonus_scale: float = 1.0  # factor of the sampler's bonus, >= 0
    delta: float = 0.1  # failure probability of the sampler's bonus, in (0, 1)
    stage_dependent: bool = False  # estimate one kernel a stage instead of one for all
    simulator: Simulator = "auto"  # compiled: draw from the declared model; gymnasium: call step

    def __post_init__(self) -> None:
        one_of("sampler", self.sampler, get_args(Sampler))
        check_bonus("none", ("none",), self.bonus_scale, self.delta)
        whole("target_episodes", self.target_episodes, 1)


@inner
def unit_width(memory: Memory, task: Task, i: int) -> None:
    """sqrt(log(2 S A H n / δ) / 2n): Hoeffding's, for values in [0, 1]."""
    n = max(memory.model.N[i], 1)
    task.width[i] = np.sqrt(np.log(2.0 * memory.pairs * n) / (2.0 * n))


class Search(GameLearner):
    """UCBVI for one reward of 1 an episode, at one state and stage."""

    plays_plan = True

    def __init__(self, setting: Setting, config: Config, rng: np.random.Generator) -> None:
        super().__init__(
            setting,
            rng,
            reward=np.zeros((setting.horizon, setting.num_states, 1)),
            rules=Rules(plan_with_bonus, unit_width, has_width=True),
            bonus_scale=config.bonus_scale,
            delta=config.delta,
            stage_dependent=config.stage_dependent,
        )

    def aim(self, h: int, s: int) -> None:
        """Reward state s at stage h, and nothing else."""
        self.task.reward[...] = 0.0
        self.task.reward[h, s] = 1.0

    def schedule(self, episodes: Count) -> Schedule:
        """Once the reward has been paid, or missed, the rest is known to be worth 0."""
        paid = np.cumsum(self.task.reward.sum((1, 2)))
        scale = np.where(paid == 0.0, self.memory.bonus_scale, 0.0)
        rows = (np.zeros(paid.size), scale, np.ones(paid.size))
        return Schedule(*(np.tile(row, (episodes.size, 1)) for row in rows))


class TargetSampler:
    """Phases 1 and 2: visit every state at every stage as well as possible."""

    def __init__(self, setting: Setting, config: Config, rng: np.random.Generator) -> None:
        H, S, A = setting.horizon, setting.num_states, setting.num_actions
        searches = S * H * config.target_episodes
        if config.episodes <= searches:
            raise InputError(
                "episodes must be > S * H * target_episodes, the length of phase 1, "
                f"{searches}, got {config.episodes}"
            )
        draw_rng, search_rng, self.policy_rng = rng.spawn(3)
        self.setting, self.repeats = setting, config.target_episodes
        self.budget = config.episodes
        self.search = Search(setting, config, search_rng)
        self.model = EmpiricalModel(S, A, stages=H if config.stage_dependent else 1)
        extra = config.episodes - searches
        self.replays: Count = draw_rng.multinomial(extra, np.full(searches, 1.0 / searches))
        self.replayed = 0  # of the latest search
        self.visits: Count = np.zeros((H, S, A), np.int64)
        self.episodes, self.stopped = 0, False
        self.pi: Array = np.full((H, S, A), 1.0 / A)  # what phase 2 plays now
        self.searching = True

    def _next(self) -> None:
        """Decide whether the next episode searches or replays, and with what policy."""
        done = self.search.episodes
        self.searching = done == 0 or self.replayed == self.replays[done - 1]
        if self.searching:
            self.search.aim(*divmod(done // self.repeats, self.setting.num_states))
        elif self.replayed == 0:
            decisions(self.search.Q, 0.0, self.pi)
            h, s = divmod((done - 1) // self.repeats, self.setting.num_states)
            self.pi[h, s] = 1.0 / self.setting.num_actions

    def begin_episode(self) -> bool:
        self._next()
        return self.search.begin_episode() if self.searching else True

    def act(self, h: int, s: int) -> int:
        if self.searching:
            return self.search.act(h, s)
        return int(called_from_python(draw_action)(self.pi[h], s, self.policy_rng))

    def end_episode(self, states: Count, actions: Count, terminated_at: int) -> None:
        H = actions.size
        if self.searching:
            self.search.end_episode(states, actions, terminated_at)
            self.replayed = 0
        else:
            stages = np.arange(H) if self.model.stages > 1 else 0
            self.model.update(states[:-1], actions, states[1:], stages)
            self.replayed += 1
        self.visits[np.arange(H), states[:-1], actions] += 1
        self.episodes += 1

    def play(self, episodes: int, env_rng: np.random.Generator) -> int:
        H, steps = self.setting.horizon, 0
        states, actions = np.empty((1, H + 1), np.int64), np.empty((1, H), np.int64)
        length = np.empty(1, np.int64)
        world = self.setting.world
        for _ in range(episodes):
            self._next()
            if self.searching:
                self.search.begin_episode()
                decisions(self.search.Q, 0.0, self.pi)
            rngs = (env_rng, self.policy_rng)
            rollout(world, self.pi, states, actions, length, *rngs)
            self.end_episode(states[0], actions[0], int(length[0]) if length[0] < H else -1)
            steps += int(length[0])
        return steps

    def state_dict(self) -> State:
        state: State = {"search": self.search.state_dict(), "model": self.model.state_dict()}
        state |= {"Q": self.search.Q, "replays": self.replays, "visits": self.visits}
        state |= {"pi": self.pi, "replayed": self.replayed, "episodes": self.episodes}
        return state | {"policy_rng": self.policy_rng}

    def load_state_dict(self, state: State) -> None:
        if (planned := int(state["replays"].sum()) + state["replays"].size) != self.budget:
            raise InputError(
                f"episodes must be {planned} as when the run was started, since the phases of "
                f"sampler targets divide it, got {self.budget}"
            )
        self.search.load_state_dict(state["search"])
        self.model.load_state_dict(state["model"])
        self.search.Q[...], self.visits[...] = state["Q"], state["visits"]
        self.replays, self.pi = state["replays"], np.array(state["pi"])
        self.replayed, self.episodes = state["replayed"], state["episodes"]
        self.policy_rng = deepcopy(state["policy_rng"])


class RandomSampler(RandomPolicy):
    """Uniformly random actions, with the transitions they showed."""

    def __init__(self, setting: Setting, config: Any, rng: np.random.Generator) -> None:
        super().__init__(setting, config, rng)
        stages = setting.horizon if config.stage_dependent else 1
        self.model = EmpiricalModel(setting.num_states, setting.num_actions, stages=stages)

    def count(self, states: Count, actions: Count) -> None:
        super().count(states, actions)
        stages = np.arange(actions.shape[1]) if self.model.stages > 1 else 0
        self.model.update(states[:, :-1], actions, states[:, 1:], stages)

    def state_dict(self) -> State:
        return super().state_dict() | {"model": self.model.state_dict()}

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        self.model.load_state_dict(state["model"])


class RFExploreEnt:
    """A sampler, and the soft plan on what it has counted."""

    mixture = None
    heuristic = False

    def __init__(self, setting: Setting, config: Config, rng: np.random.Generator) -> None:
        self.setting, self.objective = setting, config.objective
        self.sampler: Any
        if config.sampler == "targets":
            self.sampler = TargetSampler(setting, config, rng)
        elif config.sampler == "random":
            self.sampler = RandomSampler(setting, config, rng)
        elif config.sampler == "entgame":
            staged = config.stage_dependent
            game = entgame.Config(stage_dependent=staged, mixture_size=0)
            self.sampler = EntGame(setting, game, rng)
        else:
            free = rf_ucrl.Config(
                variant=config.sampler,
                bonus_scale=config.bonus_scale,
                delta=config.delta,
                stage_dependent=config.stage_dependent,
                mixture_size=0,
            )
            self.sampler = RewardFree(setting, free, rng)

    @property
    def episodes(self) -> int:
        return int(self.sampler.episodes)

    @property
    def stopped(self) -> bool:
        return bool(self.sampler.stopped)

    @property
    def visits(self) -> Count:
        visits: Count = self.sampler.visits
        return visits

    def policy(self) -> Array:
        """Phase 3: softmax of the soft plan on the estimated model, (H, S, A)."""
        config, rng = ucbvi_ent.Config(objective=self.objective), np.random.default_rng(0)
        return UCBVIEnt(self.setting, config, rng, self.sampler.model).plan()  # which draws nothing

    last_iterate = policy

    def begin_episode(self) -> bool:
        return bool(self.sampler.begin_episode())

    def act(self, h: int, s: int) -> int:
        return int(self.sampler.act(h, s))

    def end_episode(self, states: Count, actions: Count, terminated_at: int) -> None:
        self.sampler.end_episode(states, actions, terminated_at)

    def play(self, episodes: int, env_rng: np.random.Generator) -> int:
        return int(self.sampler.play(episodes, env_rng))

    def mixture_occupancy(self) -> None:
        return None

    def certified_gap(self) -> None:
        return None

    def state_dict(self) -> State:
        state: State = self.sampler.state_dict()
        return state

    def load_state_dict(self, state: State) -> None:
        self.sampler.load_state_dict(state)


def make_learner(setting: Setting, config: Config, rng: np.random.Generator) -> Learner:
    return RFExploreEnt(setting, config, rng)


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
