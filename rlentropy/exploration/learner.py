"""What an exploration algorithm is to those who play it, and the entropy of what it plays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from rlentropy.exploration.setting import Goal, Setting
from rlentropy.mdp import FiniteMDP
from rlentropy.types import Array, Count, State


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

    def pictures(self, learner: Learner) -> dict[str, Any]:
        """What `rlentropy.plots` draws of it, by keyword."""
        return {}

    def state_dict(self) -> State:
        return {}

    def load_state_dict(self, state: State) -> None:
        pass


Scoring = Callable[[Setting, Goal, int], EntropyScores]


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
