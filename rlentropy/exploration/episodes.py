"""How tabular exploration algorithms are played, evaluated and saved.

An algorithm is a `Learner`; `explore` plays it, episode by episode, in the one outer loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np

from rlentropy.errors import InputError, whole
from rlentropy.exploration.setting import Goal, Setting, Simulator
from rlentropy.log import Log, drive
from rlentropy.mdp import FiniteMDP
from rlentropy.types import Array, Count, Objective, Result, State
from rlentropy.wrappers import Checked


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


class Learner(Protocol):
    """A tabular exploration algorithm."""

    @property
    def episodes(self) -> int: ...  # played so far
    @property
    def stopped(self) -> bool: ...  # certified to be good enough before the budget is spent
    @property
    def visits(self) -> Count: ...  # (H, S, A)
    @property
    def heuristic(self) -> bool: ...  # whether its certified gap is no guarantee
    @property
    def mixture(self) -> Any: ...  # (K, H, S, A): draws from the mixture it plays, or None
    def begin_episode(self) -> bool: ...  # False: stopped, nothing to play
    def act(self, h: int, s: int) -> int: ...
    def end_episode(self, states: Count, actions: Count, terminated_at: int) -> None: ...
    def play(self, episodes: int, env_rng: np.random.Generator) -> int: ...
    def policy(self) -> Array: ...
    def last_iterate(self) -> Array: ...
    def mixture_occupancy(self) -> Array | None: ...
    def certified_gap(self) -> float | None: ...
    def state_dict(self) -> State: ...
    def load_state_dict(self, state: State) -> None: ...


@dataclass(frozen=True)
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


class EntropyScores:
    """Scores by the entropy of what a learner plays: exact where the model is known.

    Without a model, `value` is the plug-in entropy of the visit frequencies: they are the
    occupancies of the projected policy under the stage-wise empirical model. It is biased low.

    Args:
        seed: of the trajectories that are drawn to score a policy. With the number of episodes it
            is all they depend on, so that a resumed run draws the same ones.
    """

    def __init__(self, setting: Setting, goal: Goal, seed: int) -> None:
        self.setting, self.goal, self.seed = setting, goal, seed

    def __call__(self, learner: Learner) -> dict[str, Any]:
        """Figures of summary.json."""
        mdp, goal = self.setting.mdp, self.goal
        scores: dict[str, Any] = {"value": None, "value_is_exact": mdp is not None}
        scores["last_iterate_value"] = None
        if mdp is not None:
            scores |= self.exact(learner, mdp)
        elif goal.tag == "visitation_entropy":
            scores["value"] = goal.of_occupancy(visit_frequencies(learner))
        if (gap := learner.certified_gap()) is not None:
            scores["certified_gap"] = gap
            scores["certified_gap_is_heuristic"] = learner.heuristic
        return scores

    def exact(self, learner: Learner, mdp: FiniteMDP) -> dict[str, Any]:
        """What a known model tells."""
        goal, H = self.goal, self.setting.horizon
        scores = {
            "value": goal.of_policy(mdp, learner.policy(), H),
            "last_iterate_value": goal.of_policy(mdp, learner.last_iterate(), H),
        }
        if (d := learner.mixture_occupancy()) is not None and goal.tag == "visitation_entropy":
            scores["mixture_value"] = goal.of_occupancy(d)
        return scores

    def state_dict(self) -> State:
        return {}

    def load_state_dict(self, state: State) -> None:
        pass


Scoring = Callable[[Setting, Goal, int], EntropyScores]


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
        if self.setting.compiled:
            self.env_steps += self.learner.play(episodes, self.rng)
        else:
            for _ in range(episodes):
                self.env_steps += play_episode(self.env, self.setting, self.learner, self.rng)

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
        }

    def load_state_dict(self, state: State) -> None:
        self.learner.load_state_dict(state["learner"])
        self.scores.load_state_dict(state["scores"])
        self.rng, self.env_steps = state["rng"], state["env_steps"]


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
        score: what scores it; default: `EntropyScores`. The command line's also knows the optimum.
    """
    whole("episodes", config.episodes, 1)
    setting = Setting.of(env, config.horizon, config.simulator)
    goal = Goal(config.objective, getattr(config, "temperature", 1.0))
    env_rng, learner_rng, evaluation_rng = rng.spawn(3)
    scores = (score or EntropyScores)(setting, goal, int(evaluation_rng.integers(2**63)))
    learner = make_learner(setting, config, learner_rng)
    agent = Exploration(env, setting, learner, scores, env_rng)
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
    if setting.num_states <= 10_000:  # what `compare` draws
        summary["state_visits"] = learner.visits.sum((0, 2)).tolist()
        summary["grid_shape"] = setting.grid_shape
    return Explored(
        policy={"pi": learner.policy()},
        summary=summary | final,
        visits=learner.visits,
        grid_shape=setting.grid_shape,
        mixture=learner.mixture,
        last_iterate=learner.last_iterate(),
    )


def visit_frequencies(learner: Learner) -> Array:
    """Occupancies as counted, (H, S, A)."""
    visits = learner.visits
    return visits / max(int(visits[0].sum()), 1)


def evaluation_tags(scores: dict[str, Any], learner: Learner, goal: Goal) -> dict[str, float]:
    """The eval/* tags of one evaluation; docs/tags.md defines each."""
    tags = {}
    for prefix in ("", "mixture_", "last_iterate_"):
        if (value := scores.get(f"{prefix}value")) is not None:
            tags[f"eval/{prefix}{goal.tag}"] = value
            if "optimum" in scores:
                tags[f"eval/{prefix}gap"] = scores["optimum"] - value
    for name in ("certified_gap", "vendi_score"):
        if name in scores:
            tags[f"eval/{name}"] = scores[name]
    if goal.tag == "visitation_entropy":
        frequencies = visit_frequencies(learner)
        tags["eval/visit_frequency_entropy"] = goal.of_occupancy(frequencies)
    tags["eval/states_visited"] = float(np.count_nonzero(learner.visits.sum((0, 2))))
    return tags
