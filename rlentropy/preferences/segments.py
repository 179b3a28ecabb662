"""Segments of trajectories, and the pairs of them that are shown to a teacher.

A prompt is the state that a segment starts in, its completion the actions and states that follow.
A segment ends where the environment terminates, or is cut after T steps; what stands behind its end
is padding, and `Segments.mask` is the one place that says so: log-probabilities, entropies,
divergences, features and returns all sum over it (preferences §1.2).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlentropy.errors import InputError
from rlentropy.types import Array, Count, Mask


def alive(lengths: Any, T: int) -> Mask:
    """Which steps of segments count, (N, T), from the steps that were taken, (N,).

    A segment that terminates with its t-th action has t + 1 of them, counted from t = 0.
    """
    mask: Mask = np.arange(T) < np.asarray(lengths)[:, None]
    return mask


@dataclass(frozen=True)
class Segments:
    """N segments of at most T steps."""

    states: Any  # (N, T + 1) states of a table, or (N, T + 1, width) encoded observations
    actions: Any  # (N, T) of a table, or (N, T, K) of a head
    rewards: Array  # (N, T) of the environment itself; teachers read them, learners never do
    lengths: Count  # (N,) steps taken, 0..T; 0 where the start is terminal
    terminated: Mask  # (N,) whether the environment ended it; else it was cut
    starts: Count  # (N,) the prompt: a state that was set, or the seed of the reset
    # (N,) seeds of what happened by chance after the start, so that it can be played again; 0
    # where nothing says
    streams: Count = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.streams is None:
            object.__setattr__(self, "streams", np.zeros(len(self), np.int64))

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def mask(self) -> Mask:
        """Which steps count, (N, T)."""
        return alive(self.lengths, self.rewards.shape[1])

    @property
    def returns(self) -> Array:
        """Undiscounted sums of rewards, (N,)."""
        total: Array = np.where(self.mask, self.rewards, 0.0).sum(1)
        return total

    @property
    def last(self) -> Any:
        """The states that the segments end in, (N,) or (N, width)."""
        return self.states[np.arange(len(self)), self.lengths]

    def take(self, index: Any) -> Segments:
        """Some of them, in the order of an index."""
        return Segments(*(getattr(self, f.name)[index] for f in dataclasses.fields(self)))

    def digests(self) -> list[str]:
        """A hash of what each segment shows: states and actions up to its end, and how it ended."""
        found = []
        for i, length in enumerate(self.lengths.tolist()):
            text = hashlib.sha256(np.ascontiguousarray(self.states[i, : length + 1]).tobytes())
            text.update(np.ascontiguousarray(self.actions[i, :length]).tobytes())
            text.update(bytes([bool(self.terminated[i])]))
            found.append(text.hexdigest())
        return found


@dataclass(frozen=True)
class Pairs:
    """N pairs of segments; an answer 1 prefers `a`, 0 prefers `b`, 1/2 is a tie, NaN none."""

    a: Segments
    b: Segments

    def __len__(self) -> int:
        return len(self.a)

    @property
    def gaps(self) -> Array:
        """True return of `a` less that of `b`, (N,), which teachers alone may know."""
        return self.a.returns - self.b.returns

    @property
    def same_start(self) -> Mask:
        """Whether both segments start in the same state, (N,)."""
        first = self.a.states[:, 0] == self.b.states[:, 0]
        same: Mask = first.reshape(len(self), -1).all(1)
        return same

    @property
    def identical(self) -> Mask:
        """Whether both segments show the same states and actions, (N,)."""
        a, b = self.a, self.b
        differs = (a.lengths != b.lengths) | ~self.same_start
        for x, y, mask in (
            (a.actions, b.actions, a.mask),
            (a.states[:, 1:], b.states[:, 1:], a.mask),
        ):
            other = (x != y).reshape(*x.shape[:2], -1).any(2)
            differs = differs | (other & mask).any(1)
        same: Mask = ~differs
        return same

    def take(self, index: Any) -> Pairs:
        """Some of them, in the order of an index."""
        return Pairs(self.a.take(index), self.b.take(index))

    def swapped(self) -> Pairs:
        """The same pairs the other way round."""
        return Pairs(self.b, self.a)

    def query_ids(self) -> list[str]:
        """A hash of each pair that does not depend on the order of its segments."""
        return [query_id(*both) for both in zip(self.a.digests(), self.b.digests(), strict=True)]


def query_id(a: str, b: str) -> str:
    """The hash of a pair from those of its segments, in either order."""
    return hashlib.sha256((a + b if a <= b else b + a).encode()).hexdigest()[:32]


def check_starts(pairs: Pairs) -> None:
    """Refuse pairs for losses that compare segments from one state only (§1.2).

    Raises:
        InputError: some pair's segments start in different states.
    """
    if not (same := pairs.same_start).all():
        raise InputError(
            "pairs must start in one state each, unless loss is cpl or reward-model, got "
            f"{len(pairs) - int(same.sum())} of {len(pairs)} that don't"
        )


def joined(parts: Sequence[Segments]) -> Segments:
    """Segments of several batches, which must agree in T.

    Raises:
        InputError: there is none, or they differ in T.
    """
    if len({part.rewards.shape[1] for part in parts}) != 1:
        raise InputError(
            f"parts must be segments of one length, got {[p.rewards.shape for p in parts]}"
        )
    names = [field.name for field in dataclasses.fields(Segments)]
    return Segments(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def joined_pairs(parts: Sequence[Pairs]) -> Pairs:
    """Pairs of several batches."""
    return Pairs(joined([part.a for part in parts]), joined([part.b for part in parts]))
