"""Segments in the units of an environment's spaces, and back, for those who read or make them.

A table counts its states and actions from 0, whatever the spaces call their first. Networks see
observations as rows of float32, and act in the units of their head, in which finite bounds of a Box
are -1 and 1; here an action is as it was drawn, which may lie beyond the bounds that clip it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from rlentropy import neural
from rlentropy.preferences.rows import Row
from rlentropy.preferences.segments import Segments
from rlentropy.types import Array, Env

Space = gymnasium.Space[Any]
UNKNOWN = -1  # the seed of a start that nobody wrote down


@dataclass(frozen=True)
class Units:
    """Of a campaign's environment."""

    observation_space: Space
    action_space: Space
    tabular: bool  # whether segments are of a table
    num_states: int = 0  # of the table, which may have one more than the space

    @classmethod
    def of(cls, env: Env, tabular: bool, num_states: int = 0) -> Units:
        return cls(env.observation_space, env.action_space, tabular, num_states)

    def fit(self, segments: Segments) -> bool:
        """Whether segments can be of these spaces."""
        both = (self.observation_space, self.action_space)
        if self.tabular:
            whole = segments.states.dtype.kind == segments.actions.dtype.kind == "i"
            return whole and all(isinstance(space, Discrete) for space in both)
        if segments.states.ndim != 3 or segments.actions.ndim != 3:
            return False
        width = neural.spaces.Encoder.of(self.observation_space).width
        head = neural.spaces.make_head(self.action_space)
        kind = np.dtype(head.dtype)
        return bool(
            segments.states.shape[2] == width
            and segments.actions.shape[2] == head.num_components
            and segments.actions.dtype == kind
        )

    # ---------------------------------------------------------------- to the spaces

    def observations(self, segment: Segments) -> Any:
        """What one segment shows, (length + 1, *shape of the space)."""
        rows = segment.states[0, : int(segment.lengths[0]) + 1]
        space = self.observation_space
        if self.tabular:
            return rows + first(space)
        if isinstance(space, Discrete):
            return rows.argmax(1) + first(space)
        return rows.reshape(len(rows), *(space.shape or ())).astype(np.float64)

    def actions(self, segment: Segments) -> Any:
        """What it does, (length, *shape of the space); in a Box before bounds clip it."""
        drawn = segment.actions[0, : int(segment.lengths[0])]
        if self.tabular:
            return drawn + first(self.action_space)
        head = neural.spaces.make_head(self.action_space)
        if isinstance(head, neural.spaces.Gaussian):
            inside = head.centre + head.half * drawn.astype(np.float64)
            return inside.reshape(len(drawn), *head.space.shape)
        return head.to_space(drawn)

    # ---------------------------------------------------------------- from the spaces

    def segment(self, row: Row, side: str, T: int, start: int | None) -> Segments:
        """One segment of at most T steps, from a row's cells of one side, padded.

        Raises:
            InputError: the cells are not of the spaces, or of other lengths.
        """
        states, actions = f"states_{side}", f"actions_{side}"
        did = row.numbers(actions)
        if (n := len(did)) > T:
            row.refuse(actions, f"of at most {T} steps", f"{n}")
        seen = self._within(row, states, row.numbers(states), self.observation_space)
        if len(seen) != n + 1:
            row.refuse(states, f"one more than {actions}, {n + 1} here", f"{len(seen)}")
        did = self._within(row, actions, did, self.action_space)
        x, a = (self._table if self.tabular else self._rows)(row, states, seen, did)
        behind = x[-1:] if self.tabular else np.zeros_like(x[:1])  # what stands behind the end
        none = np.zeros((T - n, *a.shape[1:]), a.dtype)
        known = int(x[0]) if self.tabular else UNKNOWN
        return Segments(
            np.concatenate([x, np.repeat(behind, T - n, 0)])[None],
            np.concatenate([a, none])[None],
            np.zeros((1, T)),
            np.array([n]),
            np.array([row.flag(f"terminated_{side}")]),
            np.array([known if start is None else start], np.int64),
        )

    def _within(self, row: Row, name: str, values: Array, space: Space) -> Any:
        """Numbers as elements of a space, (n, *shape); a Box may be left, as environments do."""
        shape = tuple(space.shape or ())
        if not len(values):
            return np.zeros((0, *shape), space.dtype)
        if values.shape[1:] != shape:
            row.refuse(name, f"of shape {('n', *shape)}", f"{values.shape}")
        if isinstance(space, Box):
            return values
        more = self.tabular and space is self.observation_space
        n = int(space.n) if isinstance(space, Discrete) else 0
        for value in values:
            end = more and value == first(space) + n < first(space) + self.num_states
            if not end and not (
                (value == np.rint(value)).all() and space.contains(_as(value, space))
            ):
                came = str(value.tolist()) if np.ndim(value) else f"{value:.17g}"
                row.refuse(name, f"in {space}", came)
        return values.astype(np.int64)

    def _table(self, row: Row, name: str, seen: Any, did: Any) -> tuple[Any, Any]:
        return seen - first(self.observation_space), did - first(self.action_space)

    def _rows(self, row: Row, name: str, seen: Any, did: Any) -> tuple[Any, Any]:
        encode = neural.spaces.Encoder.of(self.observation_space)
        head = neural.spaces.make_head(self.action_space)
        with np.errstate(over="ignore"):
            x = encode(seen)
        if not np.isfinite(x).all():
            row.refuse(name, "within single precision", "more")
        flat = did.reshape(len(did), math.prod(head.space.shape or (1,)))
        if isinstance(head, neural.spaces.Gaussian):
            half = np.where(head.half > 0.0, head.half, 1.0)
            return x, ((flat - head.centre) / half).astype(np.float32)
        return x, (flat - np.ravel(first(self.action_space))).astype(np.int64)


def first(space: Any) -> Any:
    """What a space of whole numbers calls its first."""
    return getattr(space, "start", 0)


def _as(value: Any, space: Space) -> Any:
    if isinstance(space, Discrete):
        return int(value)
    return value.astype(space.dtype)
