"""The baseline of every exploration figure: actions drawn uniformly at every step."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from rlentropy import calls
from rlentropy.entropy.occupancies import visitation
from rlentropy.exploration.episodes import Explored, explore
from rlentropy.exploration.learner import Scoring
from rlentropy.exploration.setting import Setting, Simulator
from rlentropy.kernels.sampling import rollout
from rlentropy.log import Log
from rlentropy.types import Array, Count, Objective, State


@dataclass(frozen=True)
class Config:
    """Plays uniformly random actions: the baseline of the explorers of tables.

    Use it beside them, with the same budget and objective: what it reaches is for free.

    Example::

        rlentropy random-policy --env-id rlentropy/DoubleChain-v0 --horizon 20 --episodes 5000
    """

    horizon: int | None = None  # steps an episode; default: the environment's time limit
    episodes: int = 5000  # budget, in episodes
    objective: Objective = "VE"  # the entropy that is reported; it changes nothing else
    simulator: Simulator = "auto"  # compiled: draw from the declared model; gymnasium: call step


class RandomPolicy:
    """Counts where uniform actions lead."""

    mixture = None
    heuristic = False

    def __init__(self, setting: Setting, config: Config, rng: np.random.Generator) -> None:
        self.setting, self.rng = setting, rng
        self.episodes, self.stopped = 0, False
        self.visits: Count = np.zeros(
            (setting.horizon, setting.num_states, setting.num_actions), np.int64
        )

    def begin_episode(self) -> bool:
        return True

    def act(self, h: int, s: int) -> int:
        return int(self.rng.integers(self.setting.num_actions))

    def count(self, states: Count, actions: Count) -> None:
        """Count episodes: states (n, H + 1), actions (n, H)."""
        np.add.at(self.visits, (np.arange(actions.shape[1]), states[:, :-1], actions), 1)
        self.episodes += len(actions)

    def end_episode(self, states: Count, actions: Count, terminated_at: int) -> None:
        self.count(states[None], actions[None])

    def play(self, episodes: int, env_rng: np.random.Generator) -> int:
        H = self.setting.horizon
        states = np.empty((episodes, H + 1), np.int64)
        actions = np.empty((episodes, H), np.int64)
        lengths = np.empty(episodes, np.int64)
        pi = np.full((1, *self.visits.shape[1:]), 1.0 / self.setting.num_actions)
        rollout(self.setting.world, pi, states, actions, lengths, env_rng, self.rng)
        self.count(states, actions)
        return int(lengths.sum())

    def policy(self) -> Array:
        return np.full(self.visits.shape, 1.0 / self.setting.num_actions)

    last_iterate = policy

    def mixture_occupancy(self) -> Array | None:
        """That of the policy itself, as it plays no other."""
        mdp, H = self.setting.mdp, self.setting.horizon
        return visitation(mdp, self.policy(), H) if mdp is not None and self.episodes else None

    def certified_gap(self) -> None:
        return None

    def state_dict(self) -> State:
        state = {"visits": self.visits, "episodes": self.episodes}
        return state | {"rng": self.rng}

    def load_state_dict(self, state: State) -> None:
        self.visits[...] = state["visits"]
        self.episodes = state["episodes"]
        self.rng = deepcopy(state["rng"])


@calls.on_env(Config)
def run(
    env: gymnasium.Env[Any, Any],
    config: Config,
    rng: np.random.Generator,
    log: Log,
    score: Scoring | None = None,
) -> Explored:
    """Play the uniform policy in a tabular environment."""
    return explore(env, config, RandomPolicy, rng, log, score)
