"""How tabular exploration algorithms are played, evaluated and saved.

An algorithm is a `Learner`; `explore` plays it, episode by episode, in the one outer loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np

from rlentropy import exploration
from rlentropy.errors import InputError, whole
from rlentropy.exploration.learner import EntropyScores, Learner, Scoring, evaluation_tags
from rlentropy.exploration.setting import Goal, Setting, Simulator
from rlentropy.log import Log, drive
from rlentropy.types import Array, Count, Film, Objective, Result, State
from rlentropy.wrappers import Checked

MOST_FILMED = 10_000  # states: of more, visits are neither drawn nor in the summary


class EpisodicConfig(Protocol):
    """The fields that every episodic `Config` has."""

    @property
    def horizon(self) -> int | None: ...
    @property
    def episodes(self) -> int: ...
    @property
    def objective(self) -> Objective: ...
    @property
    def simulator(self) -> Simulator: ...


@dataclass(frozen=True, repr=False)
class Explored(Result):
    """What an exploration run returns: pi is (H, S, A), the mixture's policies (K, H, S, A)."""

    last_iterate: Array | None = None  # (H, S, A)


def play_episode(
    env: gymnasium.Env[Any, Any], setting: Setting, learner: Learner, rng: np.random.Generator
) -> int:
    """Play one episode through gymnasium; returns the environment steps taken.

    Every episode has its own seed, so that a resumed run needs no access to the environment's
    generator. After termination the rest of the horizon is spent in the last state.
    """
    H = setting.horizon
    states, actions = np.empty(H + 1, np.int64), np.empty(H, np.int64)
    if not learner.begin_episode():
        return 0
    played = Checked(env)
    s = states[0] = played.reset(int(rng.integers(2**31))) - setting.first_state
    terminated_at, steps = -1, 0
    for h in range(H):
        a = learner.act(h, int(s))
        if terminated_at < 0:
            observation, _, terminated, truncated = played.step(a + setting.first_action)
            s, steps = observation - setting.first_state, steps + 1
            if terminated:
                terminated_at = h + 1
            elif truncated and h + 1 < H:
                raise InputError(
                    f"horizon must be at most {h + 1}, where the environment truncates, got {H}"
                )
        actions[h], states[h + 1] = a, s
    learner.end_episode(states, actions, terminated_at)
    return steps


def next_frame(episodes: int) -> int:
    """Episodes at the next frame of a film, four a decade, however they are played."""
    k = int(4 * np.log10(max(episodes, 1)))
    while round(10 ** (k / 4)) <= episodes:
        k += 1
    return round(10 ** (k / 4))


class Exploration:
    """A learner and its environment, as `drive` has them."""

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        setting: Setting,
        learner: Learner,
        scores: EntropyScores,
        rng: np.random.Generator,
    ) -> None:
        self.env, self.setting, self.learner, self.scores = env, setting, learner, scores
        self.rng = rng  # of the environment
        self.env_steps = 0
        self.frames: list[tuple[int, Count]] = []  # of the film: steps, and visits of states

    @property
    def done(self) -> int:
        return self.learner.episodes

    @property
    def step(self) -> int:
        return self.env_steps

    @property
    def stopped(self) -> bool:
        return self.learner.stopped

    def advance(self, episodes: int) -> None:
        """Play episodes; where a frame of the film is due, in parts."""
        end = self.done + episodes
        while self.done < end and not self.stopped:
            before, frame = self.done, next_frame(self.done)
            self._play(min(end, frame) - before)
            if self.done >= frame and self.setting.num_states <= MOST_FILMED:
                self.frames.append((self.env_steps, self.state_visits))
            if self.done == before:
                break

    def _play(self, episodes: int) -> None:
        if self.setting.compiled:
            self.env_steps += self.learner.play(episodes, self.rng)
        else:
            for _ in range(episodes):
                self.env_steps += play_episode(self.env, self.setting, self.learner, self.rng)

    @property
    def state_visits(self) -> Count:
        """So far, (S,)."""
        visits: Count = self.learner.visits.sum((0, 2))
        return visits

    def film(self) -> Film | None:
        """Visits of states, up to now; None of too many states."""
        if self.setting.num_states > MOST_FILMED or not self.env_steps:
            return None
        frames = [frame for frame in self.frames if frame[0] < self.env_steps]
        frames.append((self.env_steps, self.state_visits))
        S = self.setting.num_states
        return Film((("state", -0.5, S - 0.5, S),), tuple(frames), self.setting.grid_shape)

    def evaluate(self) -> tuple[dict[str, float], dict[str, Any]]:
        scores = self.scores(self.learner)
        tags = evaluation_tags(scores, self.learner, self.scores.goal)
        return tags | {"time/episodes": self.done}, scores

    def state_dict(self) -> State:
        return {
            "learner": self.learner.state_dict(),
            "scores": self.scores.state_dict(),
            "rng": self.rng,
            "env_steps": self.env_steps,
            "frames": self.frames,
        }

    def load_state_dict(self, state: State) -> None:
        self.learner.load_state_dict(state["learner"])
        self.scores.load_state_dict(state["scores"])
        self.rng, self.env_steps = state["rng"], state["env_steps"]
        self.frames = [(step, visits) for step, visits in state.get("frames", [])]


def explore(
    env: gymnasium.Env[Any, Any],
    config: EpisodicConfig,
    make_learner: Callable[[Setting, Any, np.random.Generator], Learner],
    rng: np.random.Generator,
    log: Log,
    score: Scoring | None = None,
) -> Explored:
    """Play a learner for ``config.episodes`` episodes, evaluating and saving it on the way.

    Args:
        config: the algorithm's `Config`, with the fields of `EpisodicConfig`.
        make_learner: called with the setting, the config and a generator of its own.
        score: what scores it; default: `scoring.Scores`. `EntropyScores` takes less time where the
            optimum isn't wanted.
    """
    whole("episodes", config.episodes, 1)
    setting = Setting.of(env, config.horizon, config.simulator)
    goal = Goal(config.objective, getattr(config, "temperature", 1.0))
    env_rng, learner_rng, evaluation_rng = rng.spawn(3)
    scores = (score or exploration.scoring.Scores)(
        setting, goal, int(evaluation_rng.integers(2**63))
    )
    learner = make_learner(setting, config, learner_rng)
    agent = Exploration(env, setting, learner, scores, env_rng)
    log.film = agent.film
    final = drive(
        agent, log, agent.evaluate, total=config.episodes, budget="episodes", unit="steps"
    )
    summary: dict[str, Any] = {
        "env_steps": agent.env_steps,
        "episodes": learner.episodes,
        "horizon": setting.horizon,
        "objective": config.objective,
        "temperature": goal.temperature,
        "stopped_by_certificate": learner.stopped,
    }
    if setting.unknown:
        summary["model_unknown"] = setting.unknown
    if setting.num_states <= MOST_FILMED:  # what `compare` draws
        summary["state_visits"] = learner.visits.sum((0, 2)).tolist()
        summary["grid_shape"] = setting.grid_shape
    return Explored(
        film=agent.film(),
        pictures=scores.pictures(learner),
        policy={"pi": learner.policy()},
        summary=summary | final,
        visits=learner.visits,
        grid_shape=setting.grid_shape,
        mixture=learner.mixture,
        last_iterate=learner.last_iterate(),
    )
