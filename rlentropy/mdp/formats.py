"""Models as others write them: CSV files, gymnasium's toy-text tables, action-major arrays."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlentropy.errors import InputError, as_numbers, as_path
from rlentropy.mdp.arrays import sparse_entries
from rlentropy.types import Array, Count

CSV_HEADER = ["idstatefrom", "idaction", "idstateto", "probability", "reward"]
OPENERS: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
UNPACKED = 2**30  # bytes that a compressed file may hold
ENCODINGS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
LARGEST_ID = 2**53  # beyond, doubles skip whole numbers


class Lines(NamedTuple):
    """Transitions, one a line; states and actions are numbered from 0."""

    s: Count
    a: Count
    s2: Count
    p: Array
    r: Array

    def where(self, chosen: Any) -> Lines:
        return Lines(*(column[chosen] for column in self))


# ---------------------------------------------------------------- CSV


def read_csv(path: str | Path) -> tuple[Lines, Any, Count, Count]:
    """Lines, terminal (S,), and the ids of states (S,) and actions (A,), which ascend.

    Raises:
        InputError: naming the file.
    """
    path = as_path("path", path)
    numbers = _read_numbers(path)
    ids = numbers[:, :3]
    whole = ((ids >= 0) & (ids < LARGEST_ID) & (ids == np.floor(ids))).all(1)
    if not whole.all():
        got = ids[np.argmin(whole)].tolist()
        raise InputError(f"{path}: ids must be whole numbers >= 0 and < 2**53, got {got}")
    called = ids.astype(np.int64)
    states, number = np.unique(called[:, [0, 2]], return_inverse=True)
    actions, a = np.unique(called[:, 1], return_inverse=True)
    s, s2 = number.reshape(-1, 2).T
    order = np.lexsort((s2, a, s))
    same = (np.diff(called[order], axis=0) == 0).all(1)
    if same.any():
        i, j, k = called[order[same.argmax()]].tolist()
        raise InputError(f"{path}: duplicate entry at (s, a) = ({i}, {j}), s' = {k}")
    p, r = numbers[:, 3], numbers[:, 4]
    stays = (p == 0.0) & (s == s2) & (r == 0.0)
    terminal = np.ones(states.size, bool)
    terminal[s[~stays]] = False
    lines = Lines(s, a, s2, p, r).where(~terminal[s])
    check_complete(path, lines, terminal, states, actions)
    return lines, terminal, states, actions


def check_complete(path: Any, lines: Lines, terminal: Any, states: Count, actions: Count) -> None:
    """Refuse a state that has lines, but not for every action, before memory for S * A is taken."""
    A, live = actions.size, np.flatnonzero(~terminal)
    rank = np.cumsum(~terminal) - 1
    filled = np.unique(rank[lines.s] * A + lines.a)
    if filled.size < live.size * A:
        gap = np.flatnonzero(filled != np.arange(filled.size))
        i, j = divmod(int(gap[0]) if gap.size else filled.size, A)
        raise InputError(
            f"{path}: P[s, a] must be a distribution for each of the {A} actions in every state "
            f"that has lines, got sum 0 at (s, a) = ({states[live[i]]}, {actions[j]})"
        )
    if (need := 40 * states.size * A) > 2**34:  # terminal states need no lines
        raise InputError(
            f"{path}: states and actions must fit in memory, got {states.size} x {A}, "
            f"which takes {need / 2**30:.0f} GiB"
        )


def _read_numbers(path: str | Path) -> Array:
    """The five columns in the order of the header, (n, 5)."""
    text = _read_text(path)
    head, _, body = text.partition("\n")
    separator = next((mark for mark in (",", ";", "\t") if mark in head), ",")
    header = [name.strip() for name in next(csv.reader([head], delimiter=separator), [])]
    if sorted(header) != sorted(CSV_HEADER):
        got = str(header) if len(str(header)) <= 200 else str(header)[:200] + "…"
        raise InputError(f"{path}: header must be {','.join(CSV_HEADER)} in any order, got {got}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of no lines
            table = np.loadtxt(io.StringIO(body), delimiter=separator, ndmin=2, quotechar='"')
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: every line must hold five numbers: {error}") from None
    if table.shape[1:] != (5,) or not table.size:
        got = f"{table.shape[1]} in each" if table.size else "no lines"
        raise InputError(f"{path}: every line must hold five numbers, got {got}")
    return np.asarray(table[:, [header.index(name) for name in CSV_HEADER]])


def _read_text(path: str | Path) -> str:
    try:
        data = Path(path).read_bytes()
        opener = next((o for mark, o in OPENERS.items() if data.startswith(mark)), None)
        if opener is not None:
            with opener(io.BytesIO(data)) as file:
                data = file.read(UNPACKED + 1)
    except (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError) as error:
        raise InputError(f"{path}: must be a readable CSV file, got {error}") from None
    if opener is not None and len(data) > UNPACKED:
        raise InputError(f"{path}: must unpack to at most {UNPACKED / 2**30:g} GiB, got more")
    encoding = next((name for mark, name in ENCODINGS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InputError(
            f"{path}: must be CSV text in UTF-8, or UTF-16 with its mark, plain or as .gz, .bz2 "
            f"or .xz, got bytes {data[:8].hex(' ')}"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def write_csv(path: str | Path, columns: Iterable[Any]) -> None:
    """Write lines under the header; numbers keep every digit."""
    with open(as_path("path", path), "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_HEADER)
        writer.writerows(zip(*(column.tolist() for column in columns), strict=True))


# ---------------------------------------------------------------- toy-text tables


def read_table(table: Any) -> tuple[Lines, Any, int]:
    """Lines, which of them terminate, and the number of actions, of gymnasium's toy-text format.

    Lines of probability 0 are left out.

    Raises:
        InputError: it is no such table.
    """
    try:
        S = len(table)
        A = len(table[0])
        short = next((i for i in range(S) if len(table[i]) != A), None)
        entries = [
            (i, j, s2, p, r, done)
            for i in range(S if short is None else 0)
            for j in range(A)
            for p, s2, r, done in table[i][j]
        ]
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise InputError(
            "P must be a toy-text table, P[s][a] a list of (probability, next state, reward, "
            f"terminated), got {type(table).__name__} ({type(error).__name__}: {error})"
        ) from None
    if short is not None:
        raise InputError(f"P[{short}] must have {A} actions like P[0], got {len(table[short])}")
    if not entries:
        raise InputError("P must be a toy-text table with transitions, got none, from (0, 0) on")
    s, a = (np.array([entry[k] for entry in entries]) for k in (0, 1))
    s2, p, r, done = (
        as_numbers([entry[k] for entry in entries], f"P's {name}", "(one each)")
        for k, name in ((2, "next states"), (3, "probabilities"), (4, "rewards"), (5, "terminated"))
    )
    _check_table(s, a, s2, p, r, done, S)
    some = p > 0.0
    return Lines(s, a, s2.astype(np.int64), p, r).where(some), done[some] != 0, A


def _check_table(s: Any, a: Any, s2: Array, p: Array, r: Array, done: Array, S: int) -> None:
    """Refuse lines of a toy-text table that are no transitions between S states."""
    if max(x.ndim for x in (s2, p, r, done)) > 1:
        raise InputError("P must be a toy-text table of one number each, got arrays")
    if (odd := np.flatnonzero((s2 != np.floor(s2)) | ((done != 0) & (done != 1)))).size:
        k = odd[0]
        raise InputError(
            "P must have whole next states, and terminated True or False, got "
            f"{s2[k]}, {done[k]} at (s, a) = ({s[k]}, {a[k]})"
        )
    if (outside := np.flatnonzero((s2 < 0) | (s2 >= S))).size:
        k = outside[0]
        raise InputError(
            f"P: successor of (s, a) = ({s[k]}, {a[k]}) must be in 0..{S - 1}, got {int(s2[k])}"
        )
    if (bad := np.flatnonzero(~(p >= 0.0))).size:  # before sums can hide it
        k = bad[0]
        raise InputError(f"P[s, a] must be probabilities, got {p[k]} at (s, a) = ({s[k]}, {a[k]})")


def with_ends(lines: Lines, ends: Any, S: int) -> tuple[Count, int]:
    """Successors where some lines lead to states of their own, S, S + 1, …; and how many of these.

    The first such successor of an (s, a) becomes S, the second S + 1, and so on.
    """
    s2 = lines.s2.copy()
    at = np.flatnonzero(ends)
    at = at[np.lexsort((s2[at], lines.a[at], lines.s[at]))]
    row = np.stack([lines.s[at], lines.a[at]])
    first = np.append(True, (np.diff(row) != 0).any(0)) if at.size else ends[:0]
    new = first | np.append(True, np.diff(s2[at]) != 0) if at.size else first
    count = np.cumsum(new)
    rank = count - np.maximum.accumulate(np.where(first, count, 0))
    s2[at] = S + rank
    return s2, int(rank.max(initial=-1)) + 1


# ---------------------------------------------------------------- arguments of FiniteMDP


def as_arguments(lines: Lines, terminal: Any, A: int) -> tuple[Any, Any]:
    """P and r, scipy.sparse (S*A, S): repeated lines merged, terminal states absorbing.

    A successor that comes several times counts with the sum of its probabilities, and with their
    mean reward where rewards differ.
    """
    import scipy.sparse as sp

    S, ends = terminal.size, np.flatnonzero(terminal)
    stay = (ends[:, None] * A + np.arange(A)).ravel()
    row = np.concatenate([lines.s * A + lines.a, stay])
    column = np.concatenate([lines.s2, np.repeat(ends, A)])
    p, r = (np.append(x, np.full(stay.size, y)) for x, y in ((lines.p, 1.0), (lines.r, 0.0)))
    order = np.lexsort((column, row))
    row, column, p, r = row[order], column[order], p[order], r[order]
    first = np.ones(row.size, bool)
    first[1:] = (np.diff(row) != 0) | (np.diff(column) != 0)
    if not first.all():
        group = np.cumsum(first) - 1
        total, gain = np.bincount(group, p), np.bincount(group, p * r)
        begin = np.flatnonzero(first)
        alike = np.minimum.reduceat(r, begin) == np.maximum.reduceat(r, begin)
        with np.errstate(invalid="ignore"):
            r = np.where(alike, r[begin], gain / total)
        row, column, p = row[begin], column[begin], total
    indptr = np.searchsorted(row, np.arange(S * A + 1))
    return tuple(sp.csr_array((x, column, indptr), shape=(S * A, S)) for x in (p, r))


def read_mdptoolbox(P: Any, R: Any) -> tuple[Any, Any]:
    """P and r as `FiniteMDP` takes them, from those of `FiniteMDP.from_mdptoolbox`."""
    import scipy.sparse as sp

    if hasattr(P, "tocoo"):
        if P.ndim != 2 or P.shape[1] == 0 or P.shape[0] % P.shape[1]:
            raise InputError(f"sparse P must be (A*S, S) in row order a*S + s, got {P.shape}")
        A, S = P.shape[0] // P.shape[1], P.shape[1]
        kernel = _state_major(P, A, "P")
    elif _is_list_of_sparse(P):
        A, S = len(P), P[0].shape[-1]
        _check_squares(P, S, "P")
        kernel = _state_major(sp.vstack(list(P)), A, "P")
    else:
        array = as_numbers(P, "P", "(A, S, S)")
        if array.ndim != 3 or array.shape[1] != array.shape[2]:
            swapped = array.ndim == 3 and array.shape[0] == array.shape[2]
            hint = "; FiniteMDP(P, r, mu) takes (S, A, S)" if swapped else ""
            raise InputError(
                f"P must be (A, S, S), or a list of A scipy.sparse (S, S), got {array.shape}{hint}"
            )
        A, S = array.shape[:2]
        kernel = np.asarray(P).transpose(1, 0, 2)  # in its own type, whose rounding counts
    return kernel, _read_rewards(R, S, A)


def _read_rewards(R: Any, S: int, A: int) -> Any:
    """r (S, A), (S, A, S) or sparse (S*A, S), from that of `FiniteMDP.from_mdptoolbox`."""
    import scipy.sparse as sp

    if hasattr(R, "tocoo"):
        if R.shape == (A * S, S):
            return _state_major(R, A, "R")
        R = R.toarray() if R.shape == (S, A) else R
    if _is_list_of_sparse(R):
        if len(R) != A:
            raise InputError(f"R must have one array for each of {A} actions, got {len(R)}")
        _check_squares(R, S, "R")
        return _state_major(sp.vstack([sp.csr_array(part) for part in R]), A, "R")
    r = as_numbers(R, "R", "(S,), (S, A) or (A, S, S)")
    if r.shape == (A, S, S):
        return r.transpose(1, 0, 2)
    if r.shape == (S,):
        return np.repeat(r[:, None], A, axis=1)
    if r.shape != (S, A):
        raise InputError(
            f"R must be (S,) = {(S,)}, (S, A) = {(S, A)}, (A, S, S), or a list of A scipy.sparse "
            f"(S, S), got {r.shape}"
        )
    return r


def _is_list_of_sparse(given: Any) -> bool:
    rows = isinstance(given, list | tuple) or getattr(given, "dtype", None) == np.dtype(object)
    return rows and len(given) > 0 and any(hasattr(part, "tocoo") for part in given)


def _check_squares(parts: Any, S: int, name: str) -> None:
    for a, part in enumerate(parts):
        if np.shape(part) != (S, S):
            raise InputError(
                f"{name}[{a}] must be (S, S) = {(S, S)} like the others, got {np.shape(part)}"
            )


def _state_major(M: Any, A: int, name: str) -> Any:
    """Rows a * S + s in the order s * A + a, stored zeros included."""
    import scipy.sparse as sp

    S = M.shape[1]
    row, column, values = sparse_entries(M, name, 1)
    a, s = np.divmod(row, S)
    return sp.coo_array((values.astype(M.dtype), (s * A + a, column)), shape=M.shape)
