"""The arguments of `FiniteMDP`: arrays and scipy.sparse kernels as checked, ordered entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rlentropy.errors import ROUNDING, InputError, as_numbers, rounding_of
from rlentropy.kernels.rows import Rows
from rlentropy.types import Array, Count

SAME_REWARD = 1e-12  # relative: rewards of one (s, a) that are as close are one reward
Place = Callable[[int], tuple[int, int]]  # row s * A + a -> (s, a) as the user calls them


class Entries(NamedTuple):
    """A kernel's stored entries, ordered by row s * A + a, then column; p may be 0."""

    S: int
    A: int
    row: Count  # (n,)
    column: Count  # (n,)
    p: Array  # (n,)
    rounding: float  # how far rows may sum from 1, by the type they came in


def kernel_entries(P: Any) -> Entries:
    """The entries of P: those of an array that aren't 0, and all that a sparse one stores."""
    if hasattr(P, "tocoo"):
        if P.ndim != 2 or P.shape[1] == 0 or P.shape[0] % P.shape[1]:
            raise InputError(f"sparse P must be (S*A, S), got {P.shape}")
        S, A = P.shape[1], P.shape[0] // P.shape[1]
        return Entries(S, A, *sparse_entries(P, "P", A), rounding_of(P))
    if _has_sparse(P):
        raise InputError(
            f"P must be (S, A, S), or scipy.sparse (S*A, S), got a list of {len(P)} sparse arrays; "
            "FiniteMDP.from_mdptoolbox(P, R) takes one (S, S) for each action"
        )
    array = as_numbers(P, "P", "(S, A, S)")
    if array.ndim != 3 or array.shape[0] != array.shape[2]:
        actions_first = array.ndim == 3 and array.shape[1] == array.shape[2]
        hint = "; FiniteMDP.from_mdptoolbox(P, R) takes (A, S, S)" if actions_first else ""
        raise InputError(f"P must be (S, A, S), or scipy.sparse (S*A, S), got {array.shape}{hint}")
    S, A = array.shape[:2]
    flat = array.reshape(S * A, S)
    row, column = np.nonzero(flat)  # NaN counts as nonzero, and is refused later
    return Entries(S, A, row, column, flat[row, column], rounding_of(P))


def _has_sparse(given: Any) -> bool:
    return isinstance(given, list | tuple) and any(hasattr(part, "tocoo") for part in given)


def sparse_entries(M: Any, name: str, A: int) -> tuple[Count, Count, Array]:
    """The entries of a sparse (S*A, S), ordered; refuses what scipy would sum or trip over."""
    R, S = M.shape
    if np.dtype(M.dtype).kind not in "biuf":
        raise InputError(f"{name} must hold real numbers, got a {type(M).__name__} of {M.dtype}")
    row, column, values = _as_stored(M, name) if M.format == "csr" else _as_coo(M, name)
    if (bad := np.flatnonzero((row < 0) | (row >= R))).size:
        raise InputError(f"{name}: rows must be in 0..{R - 1}, got {row[bad[0]]}")
    if (bad := np.flatnonzero((column < 0) | (column >= S))).size:
        k = bad[np.argmin(row[bad])]
        raise InputError(
            f"{name}: successors must be in 0..{S - 1}, got {column[k]} at (s, a) = "
            f"{divmod(int(row[k]), A)}"
        )
    rising = (np.diff(row) > 0) | ((np.diff(row) == 0) & (np.diff(column) > 0))
    if not rising.all():
        order = np.lexsort((column, row))
        row, column, values = row[order], column[order], values[order]
        same = (np.diff(row) == 0) & (np.diff(column) == 0)
        if same.any():
            k = int(same.argmax())
            raise InputError(
                f"{name}: duplicate entry at (s, a) = {divmod(int(row[k]), A)}, s' = {column[k]}"
            )
    return row, column, values


def _as_stored(M: Any, name: str) -> tuple[Count, Count, Array]:
    """Rows, columns and values of a CSR array; scipy's own conversion may crash on bad indices."""
    R, indptr = M.shape[0], np.asarray(M.indptr)
    if (
        indptr.shape != (R + 1,)
        or indptr[0] != 0
        or (np.diff(indptr) < 0).any()
        or not indptr[-1] == M.indices.size == M.data.size
    ):
        raise InputError(
            f"{name}.indptr must be {R + 1} numbers that rise from 0 to the number of entries, "
            f"got {indptr.size} up to {max(indptr, default=0)} for {M.data.size} entries"
        )
    row = np.repeat(np.arange(R), np.diff(indptr))
    return row, M.indices.astype(np.int64), M.data.astype(np.float64)


def _as_coo(M: Any, name: str) -> tuple[Count, Count, Array]:
    """Rows, columns and values of a sparse array that isn't CSR."""
    try:
        if M.format in ("csc", "bsr"):
            M = M.copy()
            M.check_format(full_check=True)
        coo = M.tocoo()
    except (ValueError, IndexError, TypeError) as error:
        raise InputError(f"{name} must be a valid {M.format} array, got one with {error}") from None
    return coo.row.astype(np.int64), coo.col.astype(np.int64), coo.data.astype(np.float64)


def with_support(entries: Entries, support: Any) -> Entries:
    """The entries, and one of probability 0 wherever the support has something that they lack."""
    S, A = entries.S, entries.A
    if hasattr(support, "tocoo"):
        if support.shape != (S * A, S):
            raise InputError(f"sparse support must be (S*A, S) = {(S * A, S)}, got {support.shape}")
        row, column, chosen = sparse_entries(support, "support", A)
        row, column = row[chosen != 0], column[chosen != 0]
    else:
        mask = np.asarray(support)
        if mask.shape != (S, A, S) or mask.dtype != np.bool_:
            raise InputError(
                f"support must be of bool (S, A, S) = {(S, A, S)}, or scipy.sparse (S*A, S), "
                f"got {mask.shape} of {mask.dtype}"
            )
        row, column = np.nonzero(mask.reshape(S * A, S))
    row = np.concatenate([entries.row, row])
    column = np.concatenate([entries.column, column])
    p = np.concatenate([entries.p, np.zeros(row.size - entries.p.size)])
    order = np.lexsort((column, row))  # stable: what was there comes first
    row, column, p = row[order], column[order], p[order]
    fresh = np.ones(row.size, bool)
    fresh[1:] = (np.diff(row) != 0) | (np.diff(column) != 0)
    return entries._replace(row=row[fresh], column=column[fresh], p=p[fresh])


def checked_kernel(entries: Entries, normalise: bool, place: Place) -> Array:
    """The probabilities, once every row is a distribution; those of narrow types sum to 1.

    Raises:
        InputError: naming the first row that is none.
    """
    S, A, row, _, p, rounding = entries
    begin = np.flatnonzero(np.append(True, row[1:] != row[:-1])) if row.size else row
    filled, count = row[begin], np.diff(begin, append=row.size)
    with np.errstate(over="ignore", invalid="ignore"):  # infinity is no sum to accept
        total = np.add.reduceat(p, begin) if row.size else np.zeros(0)
    fits = (total > 0.0) & (total < np.inf) if normalise else np.abs(total - 1.0) <= rounding
    bad = np.concatenate([filled[~fits], row[~(np.isfinite(p) & (p >= 0.0))]])
    if filled.size < S * A:  # found before memory for S * A rows is taken
        gap = np.flatnonzero(filled != np.arange(filled.size))
        bad = np.append(bad, gap[0] if gap.size else filled.size)
    if bad.size:
        i = int(bad.min())
        here = p[row == i]
        with np.errstate(over="ignore"):
            what = f"sum {here.sum()}" if (here >= 0.0).all() else f"entry {here.min()}"
        raise InputError(
            f"P[s, a] must be a distribution (entries >= 0, sum 1 within {rounding:.2g}), "
            f"got {what} at (s, a) = {place(i)}"
        )
    return p / np.repeat(total, count) if normalise or rounding > ROUNDING else p


def checked_rewards(r: Any, entries: Entries, place: Place) -> tuple[Array, Array, Any]:
    """r(s, a), (S, A); the reward of each entry, (n,); where that differs from r(s, a), (n,).

    Rewards of one (s, a) that are equal within rounding are no rewards of successors.
    """
    S, A, row, column, p, _ = entries
    if hasattr(r, "tocoo"):
        if r.shape != (S * A, S):
            raise InputError(f"sparse r must be (S*A, S) = {(S * A, S)}, got {r.shape}")
        each = _looked_up(sparse_entries(r, "r", A), row, column, S)
    else:
        if _has_sparse(r):
            raise InputError(
                "r must be (S, A), (S, A, S), or scipy.sparse (S*A, S), got a list of sparse "
                "arrays; FiniteMDP.from_mdptoolbox(P, R) takes one (S, S) for each action"
            )
        r = as_numbers(r, "r", "(S, A) or (S, A, S)")
        if r.shape == (S, A):
            check_finite(r.ravel(), np.arange(S * A), place)
            return r, r.ravel()[row], np.zeros(row.size, bool)
        if r.shape != (S, A, S):
            hint = "; FiniteMDP.from_mdptoolbox(P, R) takes that" if _action_major(r, S, A) else ""
            raise InputError(
                f"r must be (S, A) = {(S, A)}, (S, A, S), or scipy.sparse (S*A, S), got {r.shape}"
                f"{hint}"
            )
        each = r.reshape(S * A, S)[row, column]
    check_finite(each, row, place)
    begin = np.searchsorted(row, np.arange(S * A))
    counted = np.where(p > 0.0, each, np.nan)  # fmin and fmax pass over NaN
    least, most = (f.reduceat(counted, begin) for f in (np.fmin, np.fmax))
    mean = np.bincount(row, weights=p * each, minlength=S * A)
    mean = np.where(least == most, least, mean)
    size = SAME_REWARD * np.maximum(np.abs(least), np.abs(most))
    return np.asarray(mean.reshape(S, A)), each, np.abs(each - mean[row]) > size[row]


def chosen(entries: Entries, some: Any) -> Entries:
    """The entries of a mask."""
    if some.all():
        return entries
    row, column, p = entries.row[some], entries.column[some], entries.p[some]
    return entries._replace(row=row, column=column, p=p)


def as_rows(entries: Entries) -> Rows:
    """The entries as the compiled loops read them.

    These take writable arrays: read-only ones are another type to numba, and a second compilation.
    """
    R = entries.S * entries.A
    indptr = np.zeros(R + 1, np.uint32)
    np.cumsum(np.bincount(entries.row, minlength=R), out=indptr[1:])
    successor = entries.column.astype(np.uint32)
    return Rows(indptr[:-1], indptr[1:], successor, entries.p, np.zeros(R))


def _action_major(r: Array, S: int, A: int) -> bool:
    return r.shape in ((S,), (A, S, S))


def _looked_up(stored: tuple[Count, Count, Array], row: Count, column: Count, S: int) -> Array:
    """The stored values at (row, column), 0 where nothing is stored."""
    at, values = stored[0] * S + stored[1], np.append(stored[2], 0.0)
    wanted = row * S + column
    k = np.searchsorted(at, wanted)
    there = np.append(at, -1)[k] == wanted  # the last stands for "no such entry"
    return np.where(there, values[k], 0.0)


def check_finite(r: Array, row: Count, place: Place) -> None:
    bad = ~np.isfinite(r.ravel())
    if bad.any():
        k = int(bad.argmax())
        raise InputError(f"r must be finite, got {r.ravel()[k]} at (s, a) = {place(int(row[k]))}")


def distribution(given: Any, S: int, name: str, normalise: bool = False) -> Array:
    """Probabilities (S,); those of narrow types, and those to be normalised, sum to 1."""
    mu: Array = as_numbers(given, name, "(S,)")
    if mu.shape != (S,):
        raise InputError(f"{name} must be (S,) = {(S,)}, got {mu.shape}")
    rounding, total = rounding_of(given), float(mu.sum())
    fits = 0.0 < total < np.inf if normalise else abs(total - 1.0) <= rounding
    if not ((mu >= 0.0).all() and fits):
        raise InputError(
            f"{name} must be a distribution (entries >= 0, sum 1 within {rounding:.2g}), "
            f"got least entry {mu.min()}, sum {total}"
        )
    return mu / total if normalise or rounding > ROUNDING else mu


def terminal_flags(terminal: Any, S: int) -> Any:
    flags = np.zeros(S, bool) if terminal is None else np.array(terminal)
    if flags.shape != (S,) or flags.dtype != bool:
        raise InputError(f"terminal must be (S,) of bool, got {flags.shape} of {flags.dtype}")
    return flags


def check_absorbing(terminal: Any, A: int, rows: Rows, r: Array, place: Place) -> None:
    i = (np.flatnonzero(terminal)[:, None] * A + np.arange(A)).ravel()
    stays = (rows.end[i] - rows.begin[i] == 1) & (rows.successor[rows.begin[i]] == i // A)
    if (bad := i[~stays | (r.ravel()[i] != 0.0)]).size:
        raise InputError(
            "terminal states must be absorbing with reward 0, got a state that is not at (s, a) = "
            f"{place(int(bad[0]))}"
        )


def checked_ids(given: Any, n: int, name: str) -> Count:
    """What a file calls states or actions, (n,): whole numbers that rise."""
    ids: Array = as_numbers(given, name, f"({n},)")
    whole = ids.shape == (n,) and (ids == np.floor(ids)).all() and (np.abs(ids) < 2.0**53).all()
    if not (whole and (np.diff(ids) > 0).all()):
        raise InputError(f"{name} must be {n} whole numbers that rise, got {ids.tolist()}")
    return ids.astype(np.int64)
