"""Transitions: six columns and two spaces, validated; `rlentropy.data` says the conventions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np
from gymnasium.spaces import Discrete
from numpy.typing import NDArray

from rlentropy.data.checks import (
    check_content,
    check_form,
    fitted_to,
    guessed_actions,
    guessed_states,
    plain,
    said,
    with_flags,
)
from rlentropy.data.columns import Batch, GrowingColumns
from rlentropy.errors import InputError, shown
from rlentropy.files import available_memory, size_text
from rlentropy.spaces import Space, outline, short
from rlentropy.types import in_short

if TYPE_CHECKING:
    import scipy.sparse as sp

CELL = 64  # bytes that a pair (s, a) takes while a table is counted and solved, as measured


class Episode(Protocol):
    """An episode of T steps as Minari has it: one observation more than steps."""

    observations: Any  # (T + 1, *shape)
    actions: Any  # (T, *shape)
    rewards: Any  # (T,)
    terminations: Any  # (T,)
    truncations: Any  # (T,)


class Counts(NamedTuple):
    """What tabular data say of a finite MDP; row s * A + a of a matrix is the pair (s, a)."""

    transitions: sp.csr_array  # (S*A, S) how often s' followed (s, a), where it isn't in `ends`
    rewards: sp.csr_array  # (S*A, S) the sum of the rewards of those transitions
    terminal: NDArray[np.bool_]  # (S,) entered always with termination: absorbing with reward 0
    starts: NDArray[np.int64]  # (S,) how many episodes began there
    ends: sp.csr_array | None = None  # (S*A, S) how often that was an end though s' isn't terminal
    end_rewards: sp.csr_array | None = None  # (S*A, S) the sum of the rewards of those transitions

    def __repr__(self) -> str:
        return in_short(self)


@dataclass(frozen=True, eq=False)
class Transitions:
    """A validated dataset of N transitions; make it by `load`, `from_arrays`, `from_episodes`."""

    observations: NDArray[Any]  # (N, *shape); read-only where it is memory-mapped, as all columns
    actions: NDArray[Any]  # (N, *shape)
    rewards: NDArray[Any]  # (N,)
    next_observations: NDArray[Any]  # (N, *shape)
    terminations: NDArray[np.bool_]  # (N,)
    truncations: NDArray[np.bool_]  # (N,)
    observation_space: Space
    action_space: Space
    metadata: dict[str, Any] = field(default_factory=dict)  # what JSON can hold
    guessed: str = ""  # what was guessed of the spaces; empty: they are declared

    def __repr__(self) -> str:
        spaces = f"{short(self.observation_space)} observations, {short(self.action_space)} actions"
        return f"Transitions({len(self)}, {spaces})"

    @classmethod
    def from_arrays(
        cls,
        observations: Any,
        actions: Any,
        rewards: Any,
        next_observations: Any,
        terminations: Any,
        truncations: Any,
        *,
        observation_space: Space | None = None,
        action_space: Space | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """From six columns, (N, ...); memory-mapped ones are not read into memory.

        Raises:
            InputError: no rows, columns of different lengths, NaN or infinities, actions or states
                outside their space, spaces that no array holds, episodes without ends.
        """
        if metadata is not None and not isinstance(metadata, Mapping):
            raise InputError(f"metadata must be a dictionary, got {shown(metadata)}")
        given = (observations, actions, rewards, next_observations, terminations, truncations)
        stored = (plain(key, x) for key, x in zip(Batch._fields, given, strict=True))
        columns, guesses = with_flags(Batch(*stored)), []
        if (states := observation_space) is None:
            states = guessed_states(columns)
            guesses.append(said("observations", states, columns.observations))
        if (acts := action_space) is None:
            acts = guessed_actions(columns.actions)
            guesses.append(said("actions", acts, columns.actions))
        columns = fitted_to(columns, states, acts, guessed=action_space is None)
        check_form(columns, states, acts)
        check_content(columns, states, acts)
        return cls(*columns, states, acts, dict(metadata or {}), "; ".join(guesses))

    @classmethod
    def from_episodes(cls, episodes: Iterable[Episode], **rest: Any) -> Self:
        """From episodes, such as Minari's, which are unpacked to temporary files.

        Args:
            rest: spaces and metadata, as of `from_arrays`.

        Raises:
            InputError: as `from_arrays`, or an episode with other than T + 1 observations.
        """
        growing = GrowingColumns()
        for k, episode in enumerate(episodes):
            if len((batch := _flat(episode, k)).rewards):  # an empty one has types of its own
                growing.add(batch)
        return cls.from_arrays(*growing.columns(), **rest)

    @property
    def columns(self) -> Batch:
        return Batch(*(getattr(self, key) for key in Batch._fields))

    def __len__(self) -> int:
        return len(self.rewards)

    def sample(self, indices: Any) -> Batch:
        """The transitions at these indices, (n,), in memory."""
        return Batch(*(np.array(column[indices]) for column in self.columns))

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Endless batches, drawn uniformly with replacement; `rng` is all their state."""
        while True:
            yield self.sample(rng.integers(len(self), size=size))

    def chunks(self, size: int) -> Iterator[Batch]:
        """All transitions in order, `size` at a time."""
        for begin in range(0, len(self), size):
            yield self.sample(slice(begin, begin + size))

    @property
    def episode_starts(self) -> NDArray[np.int64]:
        """Index of the first transition of each episode, increasing."""
        ends = np.flatnonzero(self.terminations | self.truncations)
        return np.append(0, ends[:-1] + 1)

    def returns(self) -> NDArray[np.float64]:
        """Undiscounted return of each episode, (episodes,)."""
        rewards = np.asarray(self.rewards, np.float64)
        result: NDArray[np.float64] = np.add.reduceat(rewards, self.episode_starts)
        return result

    def counts(self, num_states: int | None = None, num_actions: int | None = None) -> Counts:
        """Count tabular transitions in one pass.

        A state is terminal, that is, absorbing with reward 0 as in `FiniteMDP.from_table`, if it
        is always entered with termination, and nothing but loops with reward 0 leave it. Where
        others end an episode, that is said of (s, a, s'). A truncation is nothing special.

        Args:
            num_states, num_actions: S and A; default: those of the spaces.

        Raises:
            InputError: spaces that are not Discrete or larger than S and A, or tables that don't
                fit in memory.
        """
        import scipy.sparse as sp

        S, first_state = _size(self.observation_space, num_states, "observations")
        A, first_action = _size(self.action_space, num_actions, "actions")
        _check_table(S, A, first_state + S - 1, first_action + A - 1)
        # Column S + s' is s' with termination.
        count, total = sp.csr_array((S * A, 2 * S)), sp.csr_array((S * A, 2 * S))
        entered = np.zeros((2, S), bool)  # without and with termination
        left = np.zeros(S, bool)
        for batch in self.chunks(2**18):
            columns = (batch.observations, batch.actions, batch.next_observations)
            s, a, s2 = (column.astype(np.int64) for column in columns)
            s, a, s2 = s - first_state, a - first_action, s2 - first_state
            r, ended = batch.rewards.astype(np.float64), batch.terminations
            cell = (s * A + a, s2 + S * ended)
            count = count + sp.coo_array((np.ones(s.size), cell), count.shape).tocsr()
            total = total + sp.coo_array((r, cell), total.shape).tocsr()
            moved = (s2 != s) | (r != 0.0)
            entered[0, s2[moved & ~ended]] = True
            entered[1, s2[ended]] = True
            left[s[moved]] = True
        terminal = entered[1] & ~entered[0] & ~left
        (transitions, ends), (rewards, end_rewards) = (_parted(x, terminal) for x in (count, total))
        starts = self.observations[self.episode_starts].astype(np.int64) - first_state
        starts = np.bincount(starts, minlength=S)
        return Counts(transitions, rewards, terminal, starts, ends, end_rewards)

    def suspected_limit(self) -> int | None:
        """At which length terminations look like a time limit, if they do.

        That is where nothing is truncated, and five episodes or more have the largest length, of
        ten steps or more. A truncated episode bootstraps from its last state, so that a limit that
        is stored as termination biases all values.
        """
        ends = np.flatnonzero(self.terminations | self.truncations)
        lengths = np.diff(ends, prepend=-1)
        longest = int(lengths.max())
        often = int((lengths == longest).sum()) >= 5
        return longest if often and longest >= 10 and self.terminations[ends].all() else None

    def check_spaces(self, observation_space: Space, action_space: Space) -> Self:
        """Check that the data are of an environment with these spaces.

        Declared spaces must have the same kind, shape and number of elements (the bounds of a Box
        may differ, but actions must be inside); guessed ones must merely hold no more.

        Returns:
            The same transitions, with these spaces.

        Raises:
            InputError: naming the column that doesn't fit.
        """
        declared = {"observations": self.observation_space, "actions": self.action_space}
        for (name, before), space in zip(
            declared.items(), (observation_space, action_space), strict=True
        ):
            if not self.guessed and outline(before) != outline(space):
                raise InputError(f"{name} must be of {short(space)}, got data of {before}")
        spaces = (observation_space, action_space)
        columns = fitted_to(self.columns, *spaces, guessed=bool(self.guessed))
        check_form(columns, *spaces)
        check_content(columns, *spaces)
        return replace(
            self,
            **columns._asdict(),
            observation_space=observation_space,
            action_space=action_space,
            guessed="",
        )


def _size(space: Space, least: int | None, name: str) -> tuple[int, int]:
    if not isinstance(space, Discrete) or space.n > (least or space.n):
        wanted = "Discrete" if least is None else f"Discrete with at most {least} elements"
        raise InputError(f"{name} must be of a space that is {wanted}, got {short(space)}")
    return least or int(space.n), int(space.start)


def _parted(x: sp.csr_array, terminal: NDArray[np.bool_]) -> tuple[sp.csr_array, sp.csr_array]:
    """Columns (s', s' with termination), (S*A, 2 S), as (s' or its end where it is terminal, ends).

    Where all ends are in terminal states, the second has no entries.
    """
    import scipy.sparse as sp

    S, entries = terminal.size, x.tocoo()
    row, s2, ended = entries.row, entries.col % S, entries.col >= S
    ended &= ~terminal[s2]
    first, second = (
        sp.coo_array((entries.data[where], (row[where], s2[where])), (x.shape[0], S)).tocsr()
        for where in (~ended, ended)
    )
    return first, second


def _check_table(S: int, A: int, last_state: int, last_action: int) -> None:
    """Refuse tables that don't fit in memory, before it is taken."""
    size, room = S * A * CELL, available_memory()
    if size > room:
        raise InputError(
            f"data must have ids for which a table fits in memory, got states up to {last_state} "
            f"and actions up to {last_action}, which take {size_text(size)} of {size_text(room)}: "
            "number the ids that occur (numpy.unique, return_inverse=True)"
        )


def _flat(episode: Episode, k: int) -> Batch:
    """The transitions of the k-th episode."""
    names = ("observations", "actions", "rewards", "terminations", "truncations")
    parts = [getattr(episode, name, None) for name in names]
    if any(part is None or isinstance(part, dict | tuple) for part in parts):
        raise InputError(f"episode {k} must hold arrays, got a dict or tuple (Dict, Tuple spaces)")
    arrays = [plain(name, part) for name, part in zip(names, parts, strict=True)]
    lengths = [len(y) if y.ndim else 0 for y in arrays]
    x, actions, rewards, terminations, truncations = arrays
    T = lengths[2]
    if lengths != [T + 1, T, T, T, T]:
        raise InputError(
            f"episode {k} must hold T + 1 observations and T actions, rewards, terminations and "
            f"truncations, got {lengths}"
        )
    if odd := [str(y.dtype) for y in arrays if y.dtype.kind not in "iuf"]:
        raise InputError(f"episode {k} must hold real numbers, got {', '.join(odd)}")
    if T and not ((terminations[-1] != 0) | (truncations[-1] != 0)).any():
        raise InputError(f"episodes must end terminated or truncated, got neither in episode {k}")
    flags: Any = (y.astype(np.float64) for y in (terminations, truncations))  # of any types
    return Batch(x[:-1], actions, rewards, x[1:], *flags)
