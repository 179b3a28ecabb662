"""Scores of exploration against the optimum, and the Vendi score of its trajectories."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlentropy import planning
from rlentropy.diversity import vendi_score_of_policy
from rlentropy.entropy import visitation
from rlentropy.exploration.learner import EntropyScores, Learner
from rlentropy.exploration.setting import Goal
from rlentropy.mdp import FiniteMDP
from rlentropy.types import Array, State

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
    optimal: Array | None = None  # its occupancies, mean over stages, (S,)

    def exact(self, learner: Learner, mdp: FiniteMDP) -> dict[str, Any]:
        H, rng = self.setting.horizon, np.random.default_rng([self.seed, learner.episodes])
        if self.best is None:
            best = optimum(self.goal, mdp, H, max(1, WORK // (H * mdp.rows.successor.size)))
            self.best = [best.value, best.certificate]
            self.optimal = over_stages(visitation(mdp, best.pi, H))
        vendi_score = vendi_score_of_policy(mdp, learner.policy(), H, rng)
        scores = {"vendi_score": vendi_score} | super().exact(learner, mdp)
        return scores | dict(zip(("optimum", "certificate"), self.best, strict=True))

    def pictures(self, learner: Learner) -> dict[str, Any]:
        """Time in each state: by all policies played, where they are known, against the optimum."""
        if self.optimal is None or self.setting.mdp is None:
            return {}
        d, name = learner.mixture_occupancy(), "played"
        if d is None:
            d, name = visitation(self.setting.mdp, learner.policy(), self.setting.horizon), "policy"
        shown = {name: over_stages(d), "optimum": self.optimal}
        return {"occupancies": {"parts": shown, "grid_shape": self.setting.grid_shape}}

    def state_dict(self) -> State:
        return {"optimum": self.best, "optimal_occupancy": self.optimal}

    def load_state_dict(self, state: State) -> None:
        self.best, self.optimal = state["optimum"], state.get("optimal_occupancy")


def over_stages(d: Array) -> Array:
    """Mean occupancy of states, (H, S, A) → (S,)."""
    mean: Array = d.sum(-1).mean(0)
    return mean
