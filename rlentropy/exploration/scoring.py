"""Scores of exploration against the optimum, and the Vendi score of its trajectories."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlentropy import planning
from rlentropy.diversity import vendi_score_of_policy
from rlentropy.exploration.learner import EntropyScores, Learner
from rlentropy.exploration.setting import Goal
from rlentropy.mdp import FiniteMDP
from rlentropy.types import State

WORK = 5 * 10**9  # transitions that a run's search for its optimum may go over: about a minute


def optimum(
    goal: Goal, mdp: FiniteMDP, horizon: int, max_passes: int | None = None
) -> planning.Exploration:
    """The exact optimum of an objective, as well as it can be certified in so many passes."""
    if goal.objective in ("TE", "TE+"):
        return planning.max_trajectory_entropy(mdp, horizon, goal.objective == "TE+")
    return planning.max_visitation_entropy(
        mdp, horizon, goal.objective, goal.temperature, strict=False, max_passes=max_passes
    )


class Scores(EntropyScores):
    """Entropies, how far they are from the optimum, and how diverse trajectories are.

    The optimum is found at the first evaluation, and kept in checkpoints. Of models so large that
    WORK ends the search, the certificate says what it may lack.
    """

    best: list[float] | None = None  # value and certificate of the optimum

    def exact(self, learner: Learner, mdp: FiniteMDP) -> dict[str, Any]:
        H, rng = self.setting.horizon, np.random.default_rng([self.seed, learner.episodes])
        if self.best is None:
            best = optimum(self.goal, mdp, H, max(1, WORK // (H * mdp.rows.successor.size)))
            self.best = [best.value, best.certificate]
        vendi_score = vendi_score_of_policy(mdp, learner.policy(), H, rng)
        scores = {"vendi_score": vendi_score} | super().exact(learner, mdp)
        return scores | dict(zip(("optimum", "certificate"), self.best, strict=True))

    def state_dict(self) -> State:
        return {"optimum": self.best}

    def load_state_dict(self, state: State) -> None:
        self.best = state["optimum"]
