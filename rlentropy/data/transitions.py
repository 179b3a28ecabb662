"""Transitions: six columns and two spaces, validated; `rlentropy.data` says the conventions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from numpy.typing import NDArray

from rlentropy.data.columns import CHUNK, Batch, Spool, row_bytes, slices
from rlentropy.data.spaces import Space, inside, outline, short
from rlentropy.errors import InputError

if TYPE_CHECKING:
    import scipy.sparse as sp


class Episode(Protocol):
    """An episode of T steps as Minari has it: one observation more than steps."""

    observations: Any  # (T + 1, *shape)
    actions: Any  # (T, *shape)
    rewards: Any  # (T,)
    terminations: Any  # (T,)
    truncations: Any  # (T,)


class Counts(NamedTuple):
    """What tabular data say of a finite MDP; row s * A + a of a matrix is the pair (s, a)."""

    transitions: sp.csr_array  # (S*A, S) how often s' followed (s, a), terminated or not
    rewards: sp.csr_array  # (S*A, S) the sum of the rewards of those transitions
    terminal: NDArray[np.bool_]  # (S,) entered with termination: absorbing with reward 0
    starts: NDArray[np.int64]  # (S,) how many episodes began there


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
    guessed: bool = False  # whether the spaces are

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
        given = (observations, actions, rewards, next_observations, terminations, truncations)
        columns = _with_flags(Batch(*(np.asanyarray(x) for x in given)))
        declared = (observation_space, action_space)
        spaces = (
            observation_space or _guessed_states(columns),
            action_space or _guessed_actions(columns.actions),
        )
        _check_form(columns, *spaces)
        _check_content(columns, *spaces)
        return cls(*columns, *spaces, dict(metadata or {}), guessed=None in declared)

    @classmethod
    def from_episodes(cls, episodes: Iterable[Episode], **rest: Any) -> Self:
        """From episodes, such as Minari's, which are unpacked to temporary files.

        Args:
            rest: spaces and metadata, as of `from_arrays`.

        Raises:
            InputError: as `from_arrays`, or an episode with other than T + 1 observations.
        """
        spool = Spool()
        for k, episode in enumerate(episodes):
            spool.add(_flat(episode, k))
        return cls.from_arrays(*spool.columns(), **rest)

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

        A terminated transition counts as any other, and marks its successor as terminal: a state
        that is absorbing with reward 0, as in `FiniteMDP.from_table`. A truncated one is nothing
        special.

        Args:
            num_states, num_actions: S and A; default: those of the spaces.

        Raises:
            InputError: spaces that are not Discrete or larger than S and A, or a state that is
                entered both with and without termination, which no state-based model expresses.
        """
        import scipy.sparse as sp

        S, first_state = _size(self.observation_space, num_states, "observations")
        A, first_action = _size(self.action_space, num_actions, "actions")
        transitions, rewards = sp.csr_array((S * A, S)), sp.csr_array((S * A, S))
        entered = np.zeros((2, S), bool)  # without and with termination
        for batch in self.chunks(2**18):
            columns = (batch.observations, batch.actions, batch.next_observations)
            s, a, s2 = (column.astype(np.int64) for column in columns)
            s, a, s2 = s - first_state, a - first_action, s2 - first_state
            place = (s * A + a, s2)
            transitions = transitions + sp.coo_array((np.ones(s.size), place), (S * A, S)).tocsr()
            rewards = rewards + sp.coo_array((batch.rewards, place), (S * A, S)).tocsr()
            entered[batch.terminations.astype(int), s2] = True
        if (both := np.flatnonzero(entered.all(0))).size:
            raise InputError(
                f"terminations: state {both[0] + first_state} must be entered either always or "
                "never with termination, got both"
            )
        starts = self.observations[self.episode_starts].astype(np.int64) - first_state
        return Counts(transitions, rewards, entered[1], np.bincount(starts, minlength=S))

    def check_spaces(self, observation_space: Space, action_space: Space) -> Self:
        """Check that the data are of an environment with these spaces.

        Declared spaces must have the same kind, shape and number of elements (the bounds of a Box
        may differ, but actions must be inside); guessed ones must merely hold no more.

        Returns:
            The same transitions, with these spaces.

        Raises:
            InputError: naming the column that doesn't fit.
        """
        mine = {"observations": self.observation_space, "actions": self.action_space}
        for (name, declared), space in zip(
            mine.items(), (observation_space, action_space), strict=True
        ):
            if not self.guessed and outline(declared) != outline(space):
                raise InputError(f"{name} must be of {short(space)}, got data of {declared}")
        _check_form(self.columns, observation_space, action_space)
        _check_content(self.columns, observation_space, action_space)
        return replace(
            self, observation_space=observation_space, action_space=action_space, guessed=False
        )


def _size(space: Space, least: int | None, name: str) -> tuple[int, int]:
    if not isinstance(space, Discrete) or space.n > (least or space.n):
        wanted = "Discrete" if least is None else f"Discrete with at most {least} elements"
        raise InputError(f"{name} must be of a space that is {wanted}, got {short(space)}")
    return least or int(space.n), int(space.start)


# ---------------------------------------------------------------- validation


def _with_flags(columns: Batch) -> Batch:
    """The columns, of one length, with flags as bool.

    Raises:
        InputError: no rows, lengths that differ, flags that are not 0 or 1.
    """
    lengths = {key: len(x) if x.ndim else -1 for key, x in columns._asdict().items()}
    N = lengths["observations"]
    for key, length in lengths.items():
        if length != N or length < 0:
            got = "no array" if length < 0 else length
            raise InputError(f"{key} must have the length of observations, {N}, got {got}")
    if N == 0:
        raise InputError("data must hold at least one transition, got none")
    flags = {}
    for key in ("terminations", "truncations"):
        column = np.asarray(getattr(columns, key))
        if column.shape != (N,) or column.dtype.kind not in "biuf":
            raise InputError(f"{key} must be flags (N,), got {column.shape} of {column.dtype}")
        if (bad := np.flatnonzero((column != 0) & (column != 1))).size:
            k = bad[0]
            raise InputError(f"{key} must be 0 or 1, got {column[k]} at transition {k}")
        flags[key] = column.astype(bool)
    return columns._replace(**flags)


def _guessed_states(columns: Batch) -> Space:
    """The space of observations that none is declared for."""
    x, x2 = columns.observations, columns.next_observations
    if x.ndim == 1 and x.dtype.kind in "iu":
        largest = max(int(y.max()) for y in (x, x2) if y.dtype.kind in "iu")
        return Discrete(max(largest + 1, 1))
    if x.dtype.kind in "iu":
        limits = np.iinfo(x.dtype)
        return Box(limits.min, limits.max, x.shape[1:], x.dtype.type)
    return Box(-np.inf, np.inf, x.shape[1:], x.dtype.type if x.dtype.kind == "f" else np.float64)


def _guessed_actions(x: NDArray[Any]) -> Space:
    """The space of actions that none is declared for."""
    if x.ndim == 1 and x.dtype.kind in "iu":
        return Discrete(max(int(x.max()) + 1, 1))
    if x.dtype.kind not in "iuf" or not all(np.isfinite(c).all() for c in slices(x)):
        return Box(-np.inf, np.inf, x.shape[1:], np.float64)  # refused for its content
    return Box(x.min(0), x.max(0), x.shape[1:], x.dtype.type)


def _check_form(columns: Batch, observation_space: Space, action_space: Space) -> None:
    """Refuse shapes and types that don't fit the spaces."""
    spaces = {
        "observations": observation_space,
        "actions": action_space,
        "next_observations": observation_space,
        "rewards": Box(-np.inf, np.inf, ()),
    }
    for key, space in spaces.items():
        column = getattr(columns, key)
        if not isinstance(space, Box | Discrete | MultiDiscrete | MultiBinary):
            raise InputError(
                f"{key} must be of a Box, Discrete, MultiDiscrete or MultiBinary space, "
                f"got {short(space)}"
            )
        if column.shape[1:] != space.shape:
            raise InputError(
                f"{key} must be (N, *shape) with the shape {space.shape} of {short(space)}, "
                f"got {column.shape}"
            )
        whole = not isinstance(space, Box)
        if column.dtype.kind not in ("iu" if whole else "iuf"):
            kind = f"whole numbers for {short(space)}" if whole else "real numbers"
            raise InputError(f"{key} must be {kind}, got {column.dtype}")


def _check_content(columns: Batch, observation_space: Space, action_space: Space) -> None:
    """Refuse what is not finite, outside its space, or without end; in one pass."""
    size, N = max(1, CHUNK // max(map(row_bytes, columns))), len(columns.rewards)
    for begin in range(0, N, size):
        # One row more than the chunk, in which its last row must continue.
        part = Batch(*(x[begin : begin + size + 1] for x in columns))
        for key in ("observations", "actions", "rewards", "next_observations"):
            values = getattr(part, key)
            _refuse(~np.isfinite(values), key, "finite", values, begin)
        _refuse(~inside(action_space, part.actions), "actions", action_space, part.actions, begin)
        if isinstance(observation_space, Discrete):
            for key in ("observations", "next_observations"):
                states = getattr(part, key)
                _refuse(~inside(observation_space, states), key, observation_space, states, begin)
        ended = part.terminations | part.truncations
        jumps = part.next_observations[:-1] != part.observations[1:]
        jumps = jumps.any(tuple(range(1, jumps.ndim))) & ~ended[:-1]
        if jumps.any():
            k = int(jumps.argmax()) + begin
            raise InputError(
                "episodes must end terminated or truncated, got neither at transition "
                f"{k}, though transition {k + 1} begins elsewhere"
            )
    if not (columns.terminations[-1] or columns.truncations[-1]):
        raise InputError(
            "episodes must end terminated or truncated, got neither at the last transition, "
            f"{N - 1}"
        )


def _refuse(
    bad: NDArray[np.bool_], key: str, wanted: str | Space, values: NDArray[Any], begin: int
) -> None:
    if bad.any():
        k = int(bad.any(tuple(range(1, bad.ndim))).argmax())
        what = wanted if isinstance(wanted, str) else f"in {short(wanted)}"
        raise InputError(f"{key} must be {what}, got {short(values[k])} at transition {k + begin}")


def _flat(episode: Episode, k: int) -> Batch:
    """The transitions of the k-th episode."""
    names = ("observations", "actions", "rewards", "terminations", "truncations")
    if any(isinstance(getattr(episode, name), dict | tuple) for name in names):
        raise InputError(f"episode {k} must hold arrays, got a dict or tuple (Dict, Tuple spaces)")
    x, actions, rewards, terminations, truncations = (
        np.asarray(getattr(episode, name)) for name in names
    )
    T = len(rewards)
    if len(x) != T + 1 or any(len(y) != T for y in (actions, terminations, truncations)):
        lengths = [len(y) for y in (x, actions, rewards, terminations, truncations)]
        raise InputError(
            f"episode {k} must hold T + 1 observations and T actions, rewards, terminations and "
            f"truncations, got {lengths}"
        )
    ended = (np.asarray(terminations) != 0) | (np.asarray(truncations) != 0)
    if T and not ended[-1]:
        raise InputError(f"episodes must end terminated or truncated, got neither in episode {k}")
    return Batch(x[:-1], actions, rewards, x[1:], terminations, truncations)
