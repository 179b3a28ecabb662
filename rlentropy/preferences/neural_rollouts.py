"""Pairs of rollouts that start alike, in any environment (preferences §7).

The prompt is the seed of a reset. Both segments of a pair are reset with it, or the second one is
played in a deep copy of the first one's environment. After the reset every generator that the
environment and its wrappers hold is replaced: from the shared start on their dynamics are
independent, as their actions are.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlentropy.errors import InputError
from rlentropy.neural.networks import Rows, forward
from rlentropy.neural.spaces import OBSERVATION_CLIP, NeuralPolicy, RunningMeanStd, standardised
from rlentropy.policies import plain
from rlentropy.preferences.segments import Pairs, Segments
from rlentropy.types import Array, Count, Env, Mask
from rlentropy.wrappers import Checked


class SharedStarts:
    """Plays segments from starts that can be had again.

    Args:
        envs: copies of one environment, as many as are stepped side by side.
        seeds: of all resets there are, a finite set of starts; default: any seed.
        snapshots: whether the second segment of a pair begins in a copy of the first one's
            environment, for environments whose seed does not fix where they start.
    """

    def __init__(
        self, envs: Sequence[Env], seeds: Count | None = None, snapshots: bool = False
    ) -> None:
        self.envs, self.seeds, self.snapshots = list(envs), seeds, snapshots

    def draw(self, n: int, rng: np.random.Generator) -> Count:
        """n starts."""
        if self.seeds is None:
            return rng.integers(2**31, size=n)
        return np.asarray(rng.choice(self.seeds, size=n), np.int64)

    def close(self) -> None:
        for env in self.envs:
            env.close()

    def pairs(
        self,
        policy: NeuralPolicy,
        starts: Count,
        T: int,
        rng: np.random.Generator,
        temperature: float = 1.0,
    ) -> Pairs:
        """Two segments from each start.

        Raises:
            InputError: a start was not the same twice.
        """
        both = self._play(policy, np.repeat(starts, 2), T, rng, temperature, self.snapshots)
        index = np.arange(len(both)).reshape(-1, 2)
        pairs = Pairs(both.take(index[:, 0]), both.take(index[:, 1]))
        if not (same := pairs.same_start).all():
            name = env.spec.id if (env := self.envs[0]).spec else type(env.unwrapped).__name__
            raise InputError(
                "env must start alike when it is reset with the same seed, got other observations "
                f"for {len(pairs) - int(same.sum())} of {len(pairs)} starts of {name}"
            )
        return pairs

    def segments(
        self,
        policy: NeuralPolicy,
        starts: Count,
        T: int,
        rng: np.random.Generator,
        temperature: float = 1.0,
    ) -> Segments:
        """A segment from each start.

        Args:
            starts: seeds, (N,).
            T: steps at most.
            temperature: >= 0, of the logits, or the factor of a normal's deviation.
        """
        return self._play(policy, starts, T, rng, temperature, copied=False)

    def _play(
        self,
        policy: NeuralPolicy,
        starts: Count,
        T: int,
        rng: np.random.Generator,
        temperature: float,
        copied: bool,
    ) -> Segments:
        head, N = policy.head, len(starts)
        noise = head.noise(rng, (T, N)) * np.float32(temperature)
        streams = rng.integers(2**63, size=N)
        states = np.zeros((N, T + 1, policy.encode.width), np.float32)
        actions = np.zeros((N, T, head.num_components), head.dtype)
        found = Segments(states, actions, np.zeros((N, T)), np.zeros(N, np.int64),
                         np.zeros(N, bool), np.asarray(starts, np.int64), streams)  # fmt: skip
        side = len(self.envs) * (2 if copied else 1)
        for start in range(0, N, side):
            index = np.arange(start, min(start + side, N))
            played, seen = self._begin(starts[index], streams[index], copied)
            play_on(policy, played, seen, noise[:, index], found, index)
        if not np.isfinite(states).all():
            raise InputError("observations must be finite in single precision, got larger ones")
        return found

    def _begin(
        self, starts: Count, streams: Count, copied: bool
    ) -> tuple[list[Checked], list[Any]]:
        """Environments at their starts, and what they show there."""
        played: list[Checked] = []
        seen: list[Any] = []
        for i, start in enumerate(starts.tolist()):
            if copied and i % 2:
                played.append(snapshot(played[-1]))
                seen.append(seen[-1])
            else:
                played.append(Checked(self.envs[i // 2 if copied else i]))
                seen.append(played[-1].reset(start))
        for env, stream in zip(played, streams.tolist(), strict=True):
            reseed(env.env, np.random.default_rng(stream))
        return played, seen


def snapshot(played: Checked) -> Checked:
    """The same environment in the same state.

    Raises:
        InputError: it can't be copied.
    """
    try:
        return Checked(copy.deepcopy(played.env))
    except Exception as error:  # whatever a foreign object makes of being copied
        raise InputError(
            f"env must be one that copy.deepcopy copies, for snapshots, got {error!r}"
        ) from error


def reseed(env: Any, rng: np.random.Generator) -> None:
    """Give an environment and its wrappers generators of their own in place of those they hold."""
    while hasattr(env, "__dict__"):
        fields = vars(env)
        for name, value in fields.items():
            if isinstance(value, np.random.Generator):
                fields[name] = np.random.default_rng(int(rng.integers(2**63)))
        env = fields.get("env")


def play_on(
    policy: NeuralPolicy,
    played: Sequence[Checked],
    seen: list[Any],
    noise: Rows,
    found: Segments,
    index: Count,
) -> None:
    """Play environments on from what they show, into these rows of the segments.

    Args:
        noise: of actions, (T, n, …).
    """
    head, encode = policy.head, policy.encode
    found.states[index, 0] = encode(seen)
    live: Count = np.arange(len(played))
    for t, noises in enumerate(noise):
        rows = found.states[index[live], t]
        x = standardised(rows, *policy.scaling, OBSERVATION_CLIP)
        chosen = head.choose(forward(policy.layers, x, policy.activation), noises[live])
        found.actions[index[live], t] = chosen
        given = plain(head.to_space(chosen), head.space)
        goes_on: Mask = np.ones(len(live), bool)
        for k, i in enumerate(live.tolist()):
            seen[i], reward, terminated, truncated = played[i].step(given[k])
            found.rewards[index[i], t] = reward
            found.terminated[index[i]] = terminated
            goes_on[k] = not (terminated or truncated)
        found.lengths[index[live]] = t + 1
        found.states[index[live], t + 1] = encode([seen[i] for i in live])
        live = live[goes_on]
        if not live.size:
            return


def scaling_of(policy: NeuralPolicy, segments: Segments) -> tuple[Array, Array]:
    """Mean and deviation of what segments show, (width,) each; of states of a table 0 and 1."""
    if policy.encode.first is not None:
        return np.zeros(policy.encode.width), np.ones(policy.encode.width)
    running = RunningMeanStd(policy.encode.width)
    running.update(segments.states[:, :-1][segments.mask])
    return running.mean, running.deviation()
