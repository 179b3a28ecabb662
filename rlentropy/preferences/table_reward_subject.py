"""Tables by way of a reward: labels fit a linear reward, which the policy is then planned for."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlentropy.preferences.beliefs import LaplacePosterior, Prior, variances
from rlentropy.preferences.segments import Pairs
from rlentropy.preferences.table_rewards import soft_plan
from rlentropy.preferences.table_subject import TableSubject
from rlentropy.types import Array, Count, State

Generator = np.random.Generator

PRIOR = Prior(3.0, {"features": 1.0})


class PlannedLogits:
    """A table of logits that is planned, not descended to."""

    def __init__(self, num_states: int, num_actions: int) -> None:
        self.values = np.zeros((num_states, num_actions))

    def table(self) -> Array:
        return self.values

    def descend(self, gradient: Array) -> None:
        raise NotImplementedError("planned logits take no gradient steps")

    def reset(self) -> None:
        self.values = np.zeros_like(self.values)

    def fresh_optimiser(self) -> None:
        """There is none."""

    def state_dict(self) -> State:
        return {"values": self.values}

    def load_state_dict(self, state: State) -> None:
        self.values = state["values"]


class TableRewardSubject(TableSubject):
    """A table whose policy is the soft optimum of the mean reward on the transitions seen so far.

    π(a|s) is proportional to π_ref(a|s) exp(Q(s, a) / β) with T steps left (preferences §7). The
    margin of a pair is the mean gap of the posterior.
    """

    model: LaplacePosterior | None = None

    def roll_out(self, prompts: Count, rng: Generator) -> Pairs:
        pairs = super().roll_out(prompts, rng)
        for segments in (pairs.a, pairs.b):
            self.seen.add(segments)
        return pairs

    def observe(self, pairs: Pairs) -> None:
        """Each rollout was counted when it was played."""

    def margins(self, pairs: Pairs) -> Array:
        if self.model is None:
            return np.zeros(len(pairs))
        return self.model.moments(self.features(pairs))[0]

    def learn(self, pairs: Pairs, y: Array, newest: int, rng: Generator) -> dict[str, float]:
        new = slice(len(y) - newest, len(y))
        x = self.features(pairs.take(new))
        if self.model is None:
            (variance,) = variances([PRIOR], self.groups, x)
            self.model = LaplacePosterior(x.shape[1], variance)
        loss = -self.model.log_predictive(x, y[new]) / newest
        self.model.update(x, y[new])
        r, entered = self.psi.rewards(self.model.mean()[None])
        Q = soft_plan(
            self.seen.kernel(),
            self.seen.ended,
            r[:, :, 0],
            entered[:, 0],
            self.original,
            self.training.beta,
            self.task.length,
        )
        assert isinstance(self.policy.logits, PlannedLogits)
        self.policy.logits.values = Q / self.training.beta
        self.policy.refresh()
        return {"train/loss": loss}

    def state_dict(self) -> State:
        model = self.model
        held = None if model is None else {"mu": model.mu, "Sigma": model.Sigma}
        if held is not None:
            held["active"] = np.arange(model.size)[model.active]  # type: ignore[union-attr]
        return super().state_dict() | {"model": held}

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        if (held := state["model"]) is not None:
            variance: Any = np.zeros(self.psi.size)
            variance[held["active"]] = 1.0
            self.model = LaplacePosterior(variance.size, variance)
            self.model.mu, self.model.Sigma = held["mu"], held["Sigma"]
