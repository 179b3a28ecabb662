"""Environments stepped side by side: batches of rollouts to learn from, and evaluations.

N environments of one process take turns, unless they are in processes of their own (`copies`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rlentropy.errors import InputError
from rlentropy.neural.networks import Rows
from rlentropy.neural.spaces import Actions, Encoder, Head
from rlentropy.policies import Policy, Several, plain, play, side_by_side
from rlentropy.types import Array, Env, State

EVALUATION_LIMIT = 10_000  # steps of an evaluation episode where the environment has no limit
SIDE_BY_SIDE = 20  # evaluation episodes that are played at once


class Rollouts:
    """What T steps of each of N environments brought."""

    def __init__(self, T: int, N: int, width: int, head: Head) -> None:
        self.observations: Rows = np.empty((T + 1, N, width), np.float32)  # encoded
        self.actions: Actions = np.empty((T, N, head.num_components), head.dtype)
        self.rewards: Array = np.zeros((T, N))
        self.ended = np.zeros((T, N), bool)  # terminated or truncated with this step
        self.truncated: list[tuple[int, int, Any]] = []  # t, i, the episode's last observation
        self.returns: list[float] = []  # of the episodes that ended


def next_values(values: Array, rollouts: Rollouts, last_values: Array) -> Array:
    """V(s_{t+1}), (T, N): 0 after termination; after truncation that of the last observation.

    Args:
        values: of the observations acted on, (T + 1, N); one after an end begins an episode.
        last_values: of the observations in `rollouts.truncated`.
    """
    after = np.where(rollouts.ended, 0.0, values[1:])
    for (t, i, _), value in zip(rollouts.truncated, last_values, strict=True):
        after[t, i] = value
    return after


class VectorEnv:
    """N environments, each in an episode; one that ends is followed by the next.

    Every episode has a seed of its own: seed and actions make it again when a run is resumed. That
    takes as long as playing it did, and a checkpoint holds the actions of the present episodes.
    """

    def __init__(
        self, envs: Sequence[Env] | Several, encode: Encoder, rng: np.random.Generator
    ) -> None:
        self.played, self.encode, self.rng = side_by_side(envs), encode, rng
        n = len(self.played)
        self.seeds = [0] * n
        self.actions: list[list[Any]] = [[] for _ in range(n)]  # of the present episodes
        self.returns = [0.0] * n  # so far in the present episodes
        self.observations: list[Any] = [None] * n
        self._begin(range(n))

    def __len__(self) -> int:
        return len(self.played)

    def _begin(self, index: Sequence[int]) -> None:
        """Start an episode in each of these environments."""
        for i in index:
            self.seeds[i] = int(self.rng.integers(2**31))
            self.actions[i], self.returns[i] = [], 0.0
        seen = self.played.reset(index, [self.seeds[i] for i in index])
        for i, observation in zip(index, seen, strict=True):
            self.observations[i] = observation

    def roll_out(self, T: int, head: Head, choose: Callable[[Rows, int], Actions]) -> Rollouts:
        """Play T steps of every environment.

        Args:
            choose: the head's actions (N, K) for encoded observations (N, width), in step t < T.

        Raises:
            InputError: an environment returned what is not in its spaces, or numbers that single
                precision doesn't hold.
        """
        rollouts = Rollouts(T, len(self), self.encode.width, head)
        for t in range(T):
            rollouts.observations[t] = self.encode(self.observations)
            rollouts.actions[t] = choose(rollouts.observations[t], t)
            self.step(head.to_space(rollouts.actions[t]), rollouts, t)
        rollouts.observations[T] = self.encode(self.observations)
        if not np.isfinite(rollouts.observations).all():  # float64 ones are rounded to float32
            raise InputError("observations must be finite in single precision, got larger ones")
        return rollouts

    def step(self, actions: Any, rollouts: Rollouts, t: int) -> None:
        """Step every environment, and write what came of it into row t."""
        given, rewards, over = plain(actions, self.played.action_space), [], []
        steps = self.played.step(range(len(self)), given)
        for i, (observation, reward, terminated, truncated) in enumerate(steps):
            self.observations[i] = observation
            self.actions[i].append(given[i])
            self.returns[i] += reward
            rewards.append(reward)
            if terminated or truncated:
                rollouts.ended[t, i] = True
                if not terminated:
                    rollouts.truncated.append((t, i, np.copy(observation)))
                rollouts.returns.append(self.returns[i])
                over.append(i)
        if over:
            self._begin(over)
        rollouts.rewards[t] = rewards

    def close(self) -> None:
        self.played.close()

    def state_dict(self) -> State:
        return {
            "rng": self.rng,
            "seeds": self.seeds,
            "returns": self.returns,
            "lengths": [len(actions) for actions in self.actions],
            "actions": np.array([action for actions in self.actions for action in actions]),
            "observations": self.encode(self.observations),
        }

    def load_state_dict(self, state: State) -> None:
        """Play the present episodes again, up to where they were.

        Raises:
            InputError: other observations came of it.
        """
        self.rng, self.seeds, self.returns = state["rng"], state["seeds"], state["returns"]
        played = iter(plain(state["actions"], self.played.action_space))
        self.actions = [[next(played) for _ in range(length)] for length in state["lengths"]]
        self.observations = self.played.replay(range(len(self)), self.seeds, self.actions)
        if not np.array_equal(self.encode(self.observations), state["observations"]):
            raise InputError(
                "env must repeat an episode when its seed and actions are repeated, for --resume, "
                "got other observations"
            )


class Evaluator:
    """Plays episodes of policies in environments of its own, with the same seeds for the same step.

    Args:
        envs: alike; as many episodes are played at once.
        horizon: steps that truncate an episode; default: EVALUATION_LIMIT.
    """

    def __init__(self, envs: Sequence[Env] | Several, horizon: int | None, seed: int) -> None:
        self.envs, self.horizon, self.seed = side_by_side(envs), horizon or EVALUATION_LIMIT, seed

    def returns(self, policy: Policy, episodes: int, step: int) -> Array:
        """Undiscounted returns, (episodes,); `step` of training makes the seeds, with ours."""
        rng, n = np.random.default_rng([self.seed, step]), len(self.envs)
        parts = np.split(rng.integers(2**31, size=episodes), range(n, episodes, n))
        played = [play(self.envs, policy, part, self.horizon, rng) for part in parts if part.size]
        return np.concatenate([returns for returns, _ in played])

    def first_observations(self) -> list[Any]:
        """Of an episode in each environment, seeds 0, 1, …"""
        n = len(self.envs)
        return self.envs.reset(range(n), range(n))

    def close(self) -> None:
        self.envs.close()
