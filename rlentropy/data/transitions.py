"""Transitions: six columns and two spaces, validated; `rlentropy.data` says the conventions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from numpy.typing import NDArray

from rlentropy.data.columns import (
    CHUNK,
    Batch,
    Spool,
    available_memory,
    converted,
    row_bytes,
    size_text,
    slices,
)
from rlentropy.data.spaces import Space, inside, outline, short
from rlentropy.errors import InputError

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
        plain = (_plain(key, x) for key, x in zip(Batch._fields, given, strict=True))
        columns, guesses = _with_flags(Batch(*plain)), []
        if (states := observation_space) is None:
            states = _guessed_states(columns)
            guesses.append(_said("observations", states, columns.observations))
        if (acts := action_space) is None:
            acts = _guessed_actions(columns.actions)
            guesses.append(_said("actions", acts, columns.actions))
        columns = _fitted(columns, states, acts, guessed=action_space is None)
        _check_form(columns, states, acts)
        _check_content(columns, states, acts)
        return cls(*columns, states, acts, dict(metadata or {}), "; ".join(guesses))

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
            place = (s * A + a, s2 + S * ended)
            count = count + sp.coo_array((np.ones(s.size), place), count.shape).tocsr()
            total = total + sp.coo_array((r, place), total.shape).tocsr()
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
        mine = {"observations": self.observation_space, "actions": self.action_space}
        for (name, declared), space in zip(
            mine.items(), (observation_space, action_space), strict=True
        ):
            if not self.guessed and outline(declared) != outline(space):
                raise InputError(f"{name} must be of {short(space)}, got data of {declared}")
        spaces = (observation_space, action_space)
        columns = _fitted(self.columns, *spaces, guessed=bool(self.guessed))
        _check_form(columns, *spaces)
        _check_content(columns, *spaces)
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


# ---------------------------------------------------------------- validation


def _plain(key: str, given: Any) -> NDArray[Any]:
    """A column as an array of the machine's own numbers: bool as 0 and 1, no wider than 64 bits."""
    try:
        x: NDArray[Any] = np.asanyarray(given)
    except Exception as error:  # of ragged lists, or whatever another library makes of it
        what = short(f"{type(given).__name__}: {error}")
        raise InputError(f"{key} must be an array of numbers, got {what}") from None
    if isinstance(x, np.ma.MaskedArray):
        if np.ma.getmaskarray(x).any():
            raise InputError(f"{key} must be without gaps, got masked entries")
        x = x.data
    if not isinstance(x, np.memmap):
        x = np.asarray(x)  # a matrix, say, has shapes of its own
    if x.dtype.kind == "b":
        return x.view(np.uint8)
    if x.dtype.kind == "f" and x.dtype.itemsize > 8:
        return converted(x, np.float64) if x.ndim else x.astype(np.float64)
    if x.dtype.kind in "iuf" and not x.dtype.isnative and x.ndim:
        return converted(x, x.dtype.newbyteorder("="))
    return x


def _with_flags(columns: Batch) -> Batch:
    """The columns, of one length, with rewards (N,) and flags (N,) of bool.

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
    for key in ("rewards", "terminations", "truncations"):
        if (x := getattr(columns, key)).shape == (N, 1):
            columns = columns._replace(**{key: x[:, 0]})
    flags = {}
    for key in ("terminations", "truncations"):
        column = np.asarray(getattr(columns, key))
        if column.shape != (N,) or column.dtype.kind not in "iuf":
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
        return _ids("observations", *(y for y in (x, x2) if y.dtype.kind in "iu"))
    if x.dtype.kind in "iu":
        limits = np.iinfo(x.dtype)
        return Box(limits.min, limits.max, x.shape[1:], x.dtype.type)
    return Box(-np.inf, np.inf, x.shape[1:], x.dtype.type if x.dtype.kind == "f" else np.float64)


def _guessed_actions(x: NDArray[Any]) -> Space:
    """The space of actions that none is declared for."""
    if x.dtype.kind not in "iuf" or not all(np.isfinite(c).all() for c in slices(x)):
        return Box(-np.inf, np.inf, x.shape[1:], np.float64)  # refused for its content
    if x.shape[1:] in ((), (1,)):
        if x.dtype.kind in "iu" and (x.ndim == 1 or x.min() >= 0):
            return _ids("actions", x)
        if x.dtype.kind == "f" and x.min() >= 0 and _whole(x):
            return _ids("actions", x)
    return Box(x.min(0), x.max(0), x.shape[1:], x.dtype.type)


def _ids(key: str, *columns: NDArray[Any]) -> Discrete:
    """The smallest space of ids from 0 that holds what occurs."""
    largest = max(int(x.max()) for x in columns)
    if largest >= 2**63 - 1:
        raise InputError(f"{key} must be ids below 2^63 - 1, got {largest}")
    return Discrete(max(largest + 1, 1))


def _said(key: str, space: Space, x: NDArray[Any]) -> str:
    """What was made of a column without a space, in words."""
    shape = ", ".join(["N", *map(str, x.shape[1:])]) + ("," if x.ndim == 1 else "")
    return f"{key} as {short(space)} from {x.dtype} ({shape})"


def _fitted(columns: Batch, observation_space: Space, action_space: Space, guessed: bool) -> Batch:
    """Columns (N,) and (N, 1) as their spaces have them, and guessed actions 0., 1. as 0, 1."""
    spaces = {
        "observations": observation_space,
        "actions": action_space,
        "next_observations": observation_space,
    }
    fitted = {}
    for key, space in spaces.items():
        x = getattr(columns, key)
        wanted = getattr(space, "shape", None)
        if {x.shape[1:], wanted} == {(), (1,)}:
            x = x[:, 0] if wanted == () else x[:, None]
        fitted[key] = x
    x = fitted["actions"]
    if guessed and isinstance(action_space, Discrete) and x.dtype.kind == "f" and _whole(x):
        fitted["actions"] = x.astype(np.int64)
    return columns._replace(**fitted)


def _whole(x: NDArray[Any]) -> bool:
    """Whether these floats are whole numbers that floats hold exactly."""
    pieces = (piece.astype(np.float64) for piece in slices(x))
    return all(((np.abs(c) < 2**53) & (c == np.floor(c))).all() for c in pieces)


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
    types = [x.dtype for x in (columns.observations, columns.next_observations)]
    floats = all(dtype.kind == "f" for dtype in types)
    narrow = min(types, key=lambda dtype: dtype.itemsize) if floats else None
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
        before, after = part.next_observations[:-1], part.observations[1:]
        if narrow is not None:  # one may have been rounded to it
            before, after = before.astype(narrow), after.astype(narrow)
        jumps = before != after
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
