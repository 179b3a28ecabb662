"""What a column may be: types and shapes as they are stored, guessed spaces, and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from numpy.typing import NDArray

from rlentropy.data.columns import CHUNK, Batch, converted, row_bytes, slices
from rlentropy.errors import InputError
from rlentropy.spaces import Space, inside, short


def plain(key: str, given: Any) -> NDArray[Any]:
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


def with_flags(columns: Batch) -> Batch:
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


def guessed_states(columns: Batch) -> Space:
    """The space of observations that none is declared for."""
    x, x2 = columns.observations, columns.next_observations
    if x.ndim == 1 and x.dtype.kind in "iu":
        return _ids("observations", *(y for y in (x, x2) if y.dtype.kind in "iu"))
    if x.dtype.kind in "iu":
        limits = np.iinfo(x.dtype)
        return Box(limits.min, limits.max, x.shape[1:], x.dtype.type)
    return Box(-np.inf, np.inf, x.shape[1:], x.dtype.type if x.dtype.kind == "f" else np.float64)


def guessed_actions(x: NDArray[Any]) -> Space:
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


def said(key: str, space: Space, x: NDArray[Any]) -> str:
    """What was made of a column without a space, in words."""
    shape = ", ".join(["N", *map(str, x.shape[1:])]) + ("," if x.ndim == 1 else "")
    return f"{key} as {short(space)} from {x.dtype} ({shape})"


def fitted_to(
    columns: Batch, observation_space: Space, action_space: Space, guessed: bool
) -> Batch:
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


def check_form(columns: Batch, observation_space: Space, action_space: Space) -> None:
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


def check_content(columns: Batch, observation_space: Space, action_space: Space) -> None:
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
