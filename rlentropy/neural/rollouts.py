"""Environments stepped side by side: batches of rollouts to learn from, and evaluations.

N environments of one process take turns: what is played here costs less than passing it on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from rlentropy.errors import InputError
from rlentropy.neural.networks import Rows
from rlentropy.neural.spaces import Actions, Encoder, Head
from rlentropy.policies import Policy, plain, play
from rlentropy.types import Array, Env, State
from rlentropy.wrappers import Checked, RandomAction

EVALUATION_LIMIT = 10_000  # steps of an evaluation episode where the environment has no limit
SIDE_BY_SIDE = 20  # evaluation episodes that are played at once


def replicate(env: Env, n: int, random_action: float, horizon: int | None = None) -> list[Env]:
    """Environments like `env`, by its spec or else as deep copies, with random actions mixed in.

    Args:
        horizon: takes the place of the spec's time limit.
    """
    envs: list[Env] = []
    for _ in range(n):
        if env.spec is not None:
            twin = gymnasium.make(env.spec, horizon, disable_env_checker=True)
        else:
            twin = copy.deepcopy(env)
            twin = twin if horizon is None else gymnasium.wrappers.TimeLimit(twin, horizon)
        envs.append(RandomAction(twin, random_action) if random_action > 0.0 else twin)
    return envs


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

    def __init__(self, envs: list[Env], encode: Encoder, rng: np.random.Generator) -> None:
        self.envs, self.encode, self.rng = envs, encode, rng
        self.played = [Checked(env) for env in envs]
        self.seeds = [0] * len(envs)
        self.actions: list[list[Any]] = [[] for _ in envs]  # of the present episodes
        self.returns = [0.0] * len(envs)  # so far in the present episodes
        self.observations: list[Any] = [None] * len(envs)
        for i in range(len(envs)):
            self._begin(i)

    def _begin(self, i: int) -> None:
        """Start an episode in environment i."""
        self.seeds[i] = int(self.rng.integers(2**31))
        self.actions[i], self.returns[i] = [], 0.0
        self.observations[i] = self.played[i].reset(self.seeds[i])

    def roll_out(self, T: int, head: Head, choose: Callable[[Rows, int], Actions]) -> Rollouts:
        """Play T steps of every environment.

        Args:
            choose: the head's actions (N, K) for encoded observations (N, width), in step t < T.

        Raises:
            InputError: an environment returned what is not in its spaces, or numbers that single
                precision doesn't hold.
        """
        rollouts = Rollouts(T, len(self.envs), self.encode.width, head)
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
        given, rewards = plain(actions, self.envs[0].action_space), []
        for i, (env, action) in enumerate(zip(self.played, given, strict=True)):
            observation, reward, terminated, truncated = env.step(action)
            self.observations[i] = observation
            self.actions[i].append(action)
            self.returns[i] += reward
            rewards.append(reward)
            if terminated or truncated:
                rollouts.ended[t, i] = True
                if not terminated:
                    rollouts.truncated.append((t, i, np.copy(observation)))
                rollouts.returns.append(self.returns[i])
                self._begin(i)
        rollouts.rewards[t] = rewards

    def close(self) -> None:
        for env in self.envs:
            env.close()

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
        played = iter(plain(state["actions"], self.envs[0].action_space))
        for i, (env, length) in enumerate(zip(self.played, state["lengths"], strict=True)):
            self.observations[i] = env.reset(self.seeds[i])
            self.actions[i] = [next(played) for _ in range(length)]
            for action in self.actions[i]:
                self.observations[i] = env.step(action)[0]
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

    def __init__(self, envs: list[Env], horizon: int | None, seed: int) -> None:
        self.envs, self.horizon, self.seed = envs, horizon or EVALUATION_LIMIT, seed

    def returns(self, policy: Policy, episodes: int, step: int) -> Array:
        """Undiscounted returns, (episodes,); `step` of training makes the seeds, with ours."""
        rng, n = np.random.default_rng([self.seed, step]), len(self.envs)
        parts = np.split(rng.integers(2**31, size=episodes), range(n, episodes, n))
        played = [play(self.envs[: part.size], policy, part, self.horizon, rng) for part in parts]
        return np.concatenate([returns for returns, _ in played])

    def first_observations(self) -> list[Any]:
        """Of an episode in each environment, seeds 0, 1, …"""
        return [Checked(env).reset(seed) for seed, env in enumerate(self.envs)]

    def close(self) -> None:
        for env in self.envs:
            env.close()
