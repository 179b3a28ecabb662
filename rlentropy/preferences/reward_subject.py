"""Networks by way of a reward: labels fit an ensemble, and an actor-critic learns from its mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlentropy.neural.actor_critic import ActorCritic
from rlentropy.neural.spaces import NeuralPolicy
from rlentropy.preferences.neural import SegmentPolicy
from rlentropy.preferences.neural_subject import NeuralSubject
from rlentropy.preferences.reward_models import RewardModels, improve
from rlentropy.preferences.segments import Pairs
from rlentropy.types import Array, State

Generator = np.random.Generator


class RewardSubject(NeuralSubject):
    """A policy that never sees labels, but the reward that was learnt from them (preferences §7).

    Args:
        agent: learns the policy, in environments of its own.
        models: the ensemble, whose members are the belief that pairs are chosen by.
        steps: of the environment that the agent takes in a round.
    """

    def __init__(
        self,
        agent: ActorCritic,
        models: RewardModels,
        steps: int,
        *arguments: Any,
        **settings: Any,
    ) -> None:
        self.agent, self.models, self.steps = agent, models, steps
        self.fitted = False  # before the first labels the models say nothing
        super().__init__(*arguments, **settings)

    def acting(self) -> NeuralPolicy:
        policy = self.agent.acting()
        policy.stochastic = True
        return policy

    @property
    def scored(self) -> SegmentPolicy:
        return SegmentPolicy(self.acting(), 1.0)

    def margins(self, pairs: Pairs) -> Array:
        if not self.fitted:
            return np.zeros(len(pairs))
        return np.asarray(self.models.gaps(pairs).mean(0))

    def gaps(self, pairs: Pairs) -> tuple[Array, Array] | None:
        """What the members say of return gaps, (K, N), each with a weight of 1/K."""
        K = self.models.members
        return self.models.gaps(pairs), np.full(K, 1.0 / K)

    def learn(self, pairs: Pairs, y: Array, newest: int, rng: Generator) -> dict[str, float]:
        loss = self.models.fit(self.models.labelled(pairs), y, rng)
        self.fitted = True
        found: Mapping[str, float] = improve(self.agent, self.models, self.steps)
        return {"train/loss": loss, "train/return": float(found.get("train/return", np.nan))}

    def saved(self) -> dict[str, Any]:
        return {"network": self.agent.saved_policy()}

    def state_dict(self) -> State:
        return {
            "agent": self.agent.state_dict(),
            "models": self.models.state_dict(),
            "fitted": self.fitted,
        }

    def load_state_dict(self, state: State) -> None:
        self.agent.load_state_dict(state["agent"])
        self.models.load_state_dict(state["models"])
        self.fitted = state["fitted"]
