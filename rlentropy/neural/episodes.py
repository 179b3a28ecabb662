"""Whole episodes, played side by side: in arrays where an environment can, else in turns.

An environment that is registered with a `vector_entry_point` whose class never resets itself
(``AutoresetMode.DISABLED``) steps all episodes in a few array operations; `rlentropy/*` ones do.
Others are stepped one after the other, as everywhere in this package.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from rlentropy.errors import InputError
from rlentropy.neural.copies import copies
from rlentropy.neural.rollouts import SIDE_BY_SIDE
from rlentropy.policies import Policy, Several, plain
from rlentropy.spaces import LARGEST
from rlentropy.types import Array, Count, Env, Mask


class Episodes(NamedTuple):
    """N episodes of at most T steps; what lies beyond an episode's end repeats its end."""

    observations: Any  # (N, T + 1, *shape of the space), in its dtype
    lengths: Count  # steps, (N,)
    terminated: Mask  # whether the environment ended it, (N,)
    returns: Array  # undiscounted, (N,)

    @property
    def real(self) -> Mask:
        """Which steps were taken, (N, T)."""
        steps: Mask = np.arange(self.observations.shape[1] - 1) < self.lengths[:, None]
        return steps


def vector_env(env: Env, n: int, horizon: int) -> Any:
    """n copies of an environment as a gymnasium vector environment; None where there is no such."""
    spec = env.spec
    if spec is None or spec.vector_entry_point is None or spec.additional_wrappers:
        return None
    try:
        made = gymnasium.make_vec(
            spec,
            n,
            vectorization_mode="vector_entry_point",
            max_episode_steps=horizon,
        )
    except Exception:  # of a class that takes other arguments; the environment alone will do
        return None
    if made.metadata.get("autoreset_mode") is AutoresetMode.DISABLED:
        return made
    made.close()
    return None


class Player:
    """Plays whole episodes in copies of an environment, which is never stepped itself.

    Args:
        num_envs: most episodes that are played side by side.
        horizon: steps that truncate an episode, in the place of the environment's limit.
        workers: processes that play them where they don't step in arrays; 0: this one.
    """

    def __init__(self, env: Env, num_envs: int, horizon: int, workers: int = 0) -> None:
        self.space, self.action_space = env.observation_space, env.action_space
        self.horizon, self.num_envs = horizon, num_envs
        self.vector = vector_env(env, num_envs, horizon)
        if self.vector is None:
            self.num_envs = min(num_envs, SIDE_BY_SIDE)
            self.envs: Several = copies(env, self.num_envs, 0.0, horizon, workers)

    def play(self, policy: Policy, seeds: Any, rng: np.random.Generator) -> Episodes:
        """An episode from each seed, (N,); fewer at once than there are seeds, where need be.

        Raises:
            InputError: the environment returned what is not in its spaces.
        """
        size = self.num_envs
        parts = [
            self._play(policy, np.asarray(seeds[k : k + size]), rng)
            for k in range(0, len(seeds), size)
        ]
        if len(parts) == 1:
            return parts[0]
        return Episodes(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _play(self, policy: Policy, seeds: Count, rng: np.random.Generator) -> Episodes:
        n, T = len(seeds), self.horizon
        policy.begin(np.arange(n), rng)
        seen = np.zeros((T + 1, n, *(self.space.shape or ())), self.space.dtype)
        lengths, returns = np.zeros(n, np.int64), np.zeros(n)
        terminated, alive = np.zeros(n, bool), np.ones(n, bool)
        step = self._step_all if self.vector is not None else self._step_each
        seen[0] = self._reset(seeds)
        for t in range(T):
            actions = policy.act(seen[t], np.full(n, t), rng)
            seen[t + 1] = seen[t]
            rewards, ended, cut = step(actions, alive, seen[t + 1])
            returns += rewards
            lengths += alive
            terminated |= ended
            alive &= ~(ended | cut)
            if not alive.any():
                seen[t + 2 :] = seen[t + 1]
                break
        if seen.dtype.kind == "f" and not (np.abs(seen) <= LARGEST).all():
            raise InputError("observations must be finite in single precision, got others")
        return Episodes(np.ascontiguousarray(seen.swapaxes(0, 1)), lengths, terminated, returns)

    def _reset(self, seeds: Count) -> Any:
        if self.vector is None:
            return np.stack(self.envs.reset(range(len(seeds)), seeds.tolist()))
        idle = self.num_envs - len(seeds)  # slots that nobody looks at
        return self.vector.reset(seed=[*seeds.tolist(), *[0] * idle])[0][: len(seeds)]

    def _step_all(self, actions: Any, alive: Mask, seen: Any) -> tuple[Array, Mask, Mask]:
        """Step the vector environment; rows of `seen` that are alive are replaced."""
        n = len(actions)
        if n < self.num_envs:
            idle = np.repeat(actions[:1], self.num_envs - n, axis=0)
            actions = np.concatenate([actions, idle])
        x, rewards, ended, cut, _ = self.vector.step(actions)
        if alive.all():
            seen[...] = x[:n]
            return rewards[:n], ended[:n], cut[:n]
        seen[alive] = x[:n][alive]
        return np.where(alive, rewards[:n], 0.0), ended[:n] & alive, cut[:n] & alive

    def _step_each(self, actions: Any, alive: Mask, seen: Any) -> tuple[Array, Mask, Mask]:
        n = len(alive)
        rewards, ended, cut = np.zeros(n), np.zeros(n, bool), np.zeros(n, bool)
        given = plain(actions, self.action_space)
        index = np.flatnonzero(alive).tolist()
        steps = self.envs.step(index, [given[i] for i in index])
        for i, step in zip(index, steps, strict=True):
            seen[i], rewards[i], ended[i], cut[i] = step
        return rewards, ended, cut

    def close(self) -> None:
        if self.vector is not None:
            self.vector.close()
        else:
            self.envs.close()
