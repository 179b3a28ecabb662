"""Two learners in turn: one explores without a reward, the other plays on the model it learned."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rlentropy.exploration.game import GameLearner
from rlentropy.mdp.empirical import EmpiricalModel
from rlentropy.types import Array, Count, State


class TwoPhases:
    """`first` for a number of episodes; then the learner that `second` makes of its model.

    Scores are those of the second learner, whose episodes alone are in its mixture; before it
    starts, those of the first.
    """

    def __init__(
        self,
        first: GameLearner,
        first_episodes: int,
        second: Callable[[EmpiricalModel], GameLearner],
    ) -> None:
        self.first, self.first_episodes, self.second = first, first_episodes, second
        self.now = first

    @property
    def episodes(self) -> int:
        return self.first.episodes + (self.now.episodes if self.now is not self.first else 0)

    @property
    def stopped(self) -> bool:
        return self.now is not self.first and self.now.stopped

    @property
    def heuristic(self) -> bool:
        return self.now.heuristic

    @property
    def visits(self) -> Count:
        return self.now.visits

    @property
    def mixture(self) -> NDArray[np.float32]:
        return self.now.mixture

    def _turn(self) -> None:
        if self.now is self.first and self.first.episodes >= self.first_episodes:
            self.now = self.second(self.first.model)

    def begin_episode(self) -> bool:
        self._turn()
        return self.now.begin_episode()

    def act(self, h: int, s: int) -> int:
        return self.now.act(h, s)

    def end_episode(self, states: Count, actions: Count, terminated_at: int) -> None:
        self.now.end_episode(states, actions, terminated_at)

    def play(self, episodes: int, env_rng: np.random.Generator) -> int:
        steps, left = 0, self.first_episodes - self.first.episodes
        if left > 0:
            steps = self.first.play(min(episodes, left), env_rng)
        if episodes > left:
            self._turn()
            steps += self.now.play(episodes - max(left, 0), env_rng)
        return steps

    def policy(self) -> Array:
        return self.now.policy()

    def last_iterate(self) -> Array:
        return self.now.last_iterate()

    def mixture_occupancy(self) -> Array | None:
        return self.now.mixture_occupancy()

    def certified_gap(self) -> float | None:
        return self.now.certified_gap() if self.now is not self.first else None

    def state_dict(self) -> State:
        second = None if self.now is self.first else self.now.state_dict()
        return {"first": self.first.state_dict(), "second": second}

    def load_state_dict(self, state: State) -> None:
        self.first.load_state_dict(state["first"])
        if state["second"] is not None:
            self._turn()
            self.now.load_state_dict(state["second"])
