"""All that was played, as decisions to learn from.

A decision holds its action for K steps. What it is paid for are the states that these steps lead
to, of which every one is kept as a point, so that rewards can be made anew whenever the forecaster
has learnt: a replayed reward would be stale.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rlentropy.exploration.features import Points
from rlentropy.exploration.rounds import Round
from rlentropy.neural.networks import Rows
from rlentropy.neural.spaces import Actions
from rlentropy.types import Array, Count, Mask, State


class Growing:
    """Rows that are only ever added, in an array that doubles."""

    def __init__(self) -> None:
        self.size, self.store = 0, np.zeros((0,))

    @property
    def rows(self) -> Any:
        return self.store[: self.size]

    def add(self, rows: Any) -> None:
        size = self.size + len(rows)
        if size > len(self.store) or not self.size:
            larger = np.zeros((max(size, 2 * self.size), *rows.shape[1:]), rows.dtype)
            larger[: self.size] = self.rows if self.size else larger[:0]
            self.store = larger
        self.store[self.size : size] = rows
        self.size = size


class Decisions(NamedTuple):
    """n decisions."""

    observations: Rows  # encoded, (n, width)
    t: Count  # the step in which each was made, (n,)
    actions: Actions  # (n, components)
    points: Points  # of the states that its steps led to, (n, K, d)
    real: Mask  # which of them there were, (n, K)
    next_observations: Rows  # (n, width)
    next_t: Count  # (n,)
    last: Mask  # whether the episode ended with it, by time or by itself, (n,)


class Replay:
    """Decisions of all rounds so far.

    Args:
        horizon: T, steps of an episode.
        repeat: K, steps of a decision; the last one of an episode may have fewer.
    """

    NAMES = ("observations", "actions", "points", "lengths", "visits")

    def __init__(self, horizon: int, repeat: int) -> None:
        self.horizon, self.repeat = horizon, repeat
        self.times = np.append(np.arange(0, horizon, repeat), horizon)  # of decisions, and the end
        self.parts = {name: Growing() for name in self.NAMES}

    def add(self, played: Round) -> None:
        columns = {
            "observations": played.observations[:, self.times],
            "actions": played.actions,
            "points": played.points,
            "lengths": played.lengths,
            "visits": played.visits,
        }
        for name, rows in columns.items():
            self.parts[name].add(rows)

    @property
    def visits(self) -> Points:
        """Points of all states that steps led to, in the order of their rounds, (N, d)."""
        visits: Points = self.parts["visits"].rows
        return visits

    def sample(self, n: int, rng: np.random.Generator) -> Decisions:
        """n decisions of all, or each of them once where there are fewer; uniformly."""
        lengths: Count = self.parts["lengths"].rows
        counts = -(-lengths // self.repeat)  # decisions of each episode
        ends = np.cumsum(counts)
        total = int(ends[-1])
        chosen = rng.integers(total, size=n) if total > n else np.arange(total)
        episode = np.searchsorted(ends, chosen, side="right")
        j = chosen - (ends - counts)[episode]
        return self._decisions(episode, j, lengths[episode])

    def _decisions(self, episode: Count, j: Count, lengths: Count) -> Decisions:
        observations, points = self.parts["observations"].rows, self.parts["points"].rows
        steps = self.times[j][:, None] + np.arange(1, self.repeat + 1)
        real = steps <= lengths[:, None]
        steps = np.minimum(steps, self.horizon)
        end = self.times[j + 1]
        return Decisions(
            observations[episode, j],
            self.times[j],
            self.parts["actions"].rows[episode, j],
            points[episode[:, None], steps],
            real,
            observations[episode, j + 1],
            end,
            end >= lengths,
        )

    def state_dict(self) -> State:
        return {name: part.rows for name, part in self.parts.items()}

    def load_state_dict(self, state: State) -> None:
        for name, part in self.parts.items():
            part.size = 0
            if len(state[name]):
                part.add(state[name])


def centred_rewards(log_density: Array, real: Mask, centre: float) -> Array:
    """Rewards of decisions, (n,): Σ_k (-log q̄(s_k) - c) over the states that there were.

    Args:
        log_density: of the points of each, (n, K).
        centre: c, the mean of -log q̄ over past visits: a constant shift, which leaves the policies
            of a fixed horizon as they are, and keeps values small.
    """
    rewards: Array = np.where(real, -log_density - centre, 0.0).sum(axis=1)
    return rewards
