"""Copies of an environment, stepped in turn to fill batches that are learnt from."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np

from rlentropy.errors import InputError
from rlentropy.neural.spaces import Array, Encoder, Env, Head
from rlentropy.policies import plain
from rlentropy.types import State
from rlentropy.wrappers import Checked, RandomAction


def make_copies(env: Env, n: int, random_action: float, horizon: int | None = None) -> list[Env]:
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


class Batch:
    """What T steps of N copies brought."""

    def __init__(self, T: int, N: int, observed: int, head: Head) -> None:
        self.observations = np.empty((T + 1, N, observed), np.float32)
        self.actions = np.empty((T, N, head.num_components), head.dtype)
        self.rewards = np.zeros((T, N))
        self.ended = np.zeros((T, N), bool)  # terminated or truncated with this step
        self.cut: list[tuple[int, int, Any]] = []  # t, i, last observation of truncated episodes
        self.returns: list[float] = []  # of the episodes that ended


def next_values(values: Array, batch: Batch, cut_values: Array) -> Array:
    """V(s_{t+1}), (T, N): 0 after termination; after truncation that of the last observation.

    Args:
        values: of the observations acted on, (T + 1, N); one after an end begins an episode.
        cut_values: of the last observations in `batch.cut`.
    """
    found = np.where(batch.ended, 0.0, values[1:])
    for (t, i, _), value in zip(batch.cut, cut_values, strict=True):
        found[t, i] = value
    return found


class Copies:
    """N copies of an environment, each in an episode; one that ends is followed by the next.

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

    def begin(self, i: int) -> None:
        """Start an episode in copy i."""
        self.seeds[i] = int(self.rng.integers(2**31))
        self.actions[i], self.returns[i] = [], 0.0
        self.observations[i] = self.played[i].reset(self.seeds[i])

    def step(self, actions: Any, batch: Batch, t: int) -> None:
        """Step every copy, and write what came of it into row t of the batch."""
        given, rewards = plain(actions, self.envs[0].action_space), []
        for i, (env, action) in enumerate(zip(self.played, given, strict=True)):
            observation, reward, terminated, truncated = env.step(action)
            self.observations[i] = observation
            self.actions[i].append(action)
            self.returns[i] += reward
            rewards.append(reward)
            if terminated or truncated:
                batch.ended[t, i] = True
                if not terminated:
                    batch.cut.append((t, i, np.copy(observation)))
                batch.returns.append(self.returns[i])
                self.begin(i)
        batch.rewards[t] = rewards

    def state_dict(self) -> State:
        return {
            "env_seeds": self.seeds,
            "env_lengths": [len(actions) for actions in self.actions],
            "env_actions": np.array([action for actions in self.actions for action in actions]),
            "env_returns": self.returns,
            "env_observations": self.encode(self.observations),
            "env_rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: State) -> None:
        """Play the present episodes again, up to where they were.

        Raises:
            InputError: other observations came of it.
        """
        self.rng.bit_generator.state = state["env_rng"]
        self.seeds, self.returns = state["env_seeds"], state["env_returns"]
        played = iter(plain(state["env_actions"], self.envs[0].action_space))
        for i, (env, length) in enumerate(zip(self.played, state["env_lengths"], strict=True)):
            self.observations[i] = env.reset(self.seeds[i])
            self.actions[i] = [next(played) for _ in range(length)]
            for action in self.actions[i]:
                self.observations[i] = env.step(action)[0]
        if not np.array_equal(self.encode(self.observations), state["env_observations"]):
            raise InputError(
                "env must repeat an episode when its seed and actions are repeated, for --resume, "
                "got other observations"
            )
