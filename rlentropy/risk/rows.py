"""Transition rows as padded blocks: one dense code path for arrays and for scipy.sparse kernels.

A block holds rows of about the same number of successors, never (rows, S) for a sparse kernel,
unless a worst case may use every state and its mass does not all go to the same few.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlentropy.errors import ROUNDING, InputError, as_numbers, rounding_of
from rlentropy.types import Array, Count, Mask

ENTRIES = 1 << 20  # of a block: 8 MB an array


@dataclass(frozen=True)
class Block:
    """Rows (R, n) whose column j stands for state[:, j]; columns with inside False are padding."""

    p: Array  # (R, n), each row sums to 1
    x: Array  # (R, n), values scaled to [0, 1] over the admissible states
    ok: Mask  # (R, n), where a worst case may put mass
    inside: Mask  # (R, n)
    state: Count  # (R or 1, n)
    index: Count  # (R,) which rows of the kernel
    low: Array  # (R, 1), V = low + span * x
    span: Array  # (R, 1)

    def scaled(self, value: float) -> Array:
        """A penalty weight per unit of x, (R, 1)."""
        return value / np.maximum(np.where(self.span > 0.0, self.span, 1.0), 1e-290 * value)


def is_sparse(p: Any) -> bool:
    return hasattr(p, "tocsr")


def candidates(support: Any, S: int) -> Mask | None:
    """States that a support lists, (S,) or (R, S), written out; None for "nominal".

    Raises:
        ValueError: the support is no choice, or its mask or states don't fit S.
    """
    if isinstance(support, str):
        if support not in ("nominal", "full"):
            raise InputError(f"support must be nominal, full or a list of states, got {support!r}")
        return None if support == "nominal" else np.ones(S, bool)
    try:
        listed = support.toarray() != 0 if is_sparse(support) else np.asarray(support)
    except ValueError:
        raise InputError(
            f"support must be states (K,) or a mask (..., S), got {support!r}"
        ) from None
    if listed.dtype == np.bool_:
        if listed.ndim == 0 or listed.shape[-1] != S:
            raise InputError(f"support mask must be (..., S) with S = {S}, got {listed.shape}")
        return listed if listed.ndim == 1 else listed.reshape(-1, S)
    if listed.ndim != 1 or not np.issubdtype(listed.dtype, np.integer):
        raise InputError(f"support must be states (K,) or a mask (..., S), got {support!r}")
    if listed.size and not (0 <= listed.min() and listed.max() < S):
        raise InputError(
            f"support must list states in 0..{S - 1}, got {listed.min(), listed.max()}"
        )
    mask = np.zeros(S, bool)
    mask[listed] = True
    return mask


def storing(p: Any, support: Any) -> Any:
    """Canonical CSR p (R, S) with a 0 stored wherever a sparse support lists what p lacks.

    Raises:
        ValueError: the shapes differ.
    """
    if support.shape != p.shape:
        raise InputError(f"sparse support must be like p {p.shape}, got {support.shape}")
    listed = support.tocoo()
    some = listed.data != 0
    return with_zeros(p, listed.row[some].astype(np.int64) * p.shape[1] + listed.col[some])


def with_zeros(p: Any, places: Count) -> Any:
    """Canonical CSR p (R, S) with a 0 stored at those places i * S + s that it lacks."""
    import scipy.sparse as sp

    R, S = p.shape
    stored = np.repeat(np.arange(R), np.diff(p.indptr)) * S + p.indices
    key = np.union1d(stored, places)
    entries = np.zeros(key.size)
    entries[np.searchsorted(key, stored)] = p.data
    return sp.csr_array((entries, key % S, np.searchsorted(key, np.arange(R + 1) * S)), p.shape)


def joined(support: Any, listed: Any, S: int) -> Any:
    """A support with more successors listed, both as scipy.sparse (R, S) of bool; or "full"."""
    import scipy.sparse as sp

    if isinstance(support, str):
        candidates(support, S)
        return listed if support == "nominal" else support
    if is_sparse(support):
        return sp.csr_array(support != 0) + sp.csr_array(listed)
    mask = candidates(support, S)
    assert mask is not None
    if mask.ndim == 1:
        states = np.flatnonzero(mask)
        places = np.tile(states, listed.shape[0]), np.arange(listed.shape[0] + 1) * states.size
        here = sp.csr_array((np.ones(places[0].size, bool), *places), listed.shape)
        return here + sp.csr_array(listed)
    return sp.csr_array(mask) + sp.csr_array(listed)


def distributions(p: Any, name: str) -> Any:
    """p as float64, an array (..., S) or canonical CSR (R, S), once it is known to be valid.

    Raises:
        ValueError: an entry is negative or NaN, or a row doesn't sum to 1.
    """
    rounding = rounding_of(p)
    if is_sparse(p):
        if np.dtype(p.dtype).kind not in "biuf":
            raise InputError(
                f"{name} must hold real numbers, got a {type(p).__name__} of {p.dtype}"
            )
        p = p.tocsr().astype(np.float64)
        if not p.has_canonical_format:
            p = p.copy()
            p.sum_duplicates()
        if not p.data.all():
            p = p.copy()
            p.eliminate_zeros()
        entries, sums = p.data, np.asarray(p.sum(1)).ravel()
    else:
        p = as_numbers(p, name, "(..., S)")
        if p.ndim == 0 or p.shape[-1] == 0:
            raise InputError(f"{name} must be (..., S) with S >= 1, got {p.shape}")
        entries, sums = p, p.sum(-1)
    if not (entries >= 0.0).all():
        raise InputError(f"{name} must be >= 0, got {entries[~(entries >= 0.0)][0]}")
    off = np.abs(sums - 1.0)
    if not (off <= rounding).all():
        worst = np.unravel_index(off.argmax(), off.shape)
        raise InputError(f"{name} must sum to 1, got {sums[worst]} in row {worst}")
    if rounding == ROUNDING:
        return p
    if is_sparse(p):
        p.data /= np.repeat(sums, np.diff(p.indptr))
        return p
    return p / sums[..., None]


def values(given: Any, p: Any) -> Array:
    """The values V as float64, (S,) or like a dense p.

    Raises:
        ValueError: the shape doesn't fit p, or a value is not finite.
    """
    V: Array = as_numbers(given, "V", "(S,)")
    S = p.shape[-1]
    if V.shape != (S,) and (is_sparse(p) or V.shape != p.shape):
        raise InputError(f"V must be (S,) = {(S,)} to match p, got {V.shape}")
    if not np.isfinite(V).all():
        raise InputError(f"V must be finite, got {V[~np.isfinite(V)][0]}")
    return V


def blocks(
    p: Any, V: Array, listed: Mask | None, reach: int | None, per_entry: bool = False
) -> Iterator[Block]:
    """The rows of p, in some order.

    Args:
        p: from `distributions`, or `storing`: what a sparse one stores is admissible.
        V: from `values`.
        listed: from `candidates`; where p > 0 is always admissible.
        reach: how many of the lowest listed states a worst case may need, None for all.
        per_entry: the caller makes an array of a block's size for each stored entry of a row.
    """
    if not is_sparse(p):
        S = p.shape[-1]
        rows = p.reshape(-1, S)
        step = max(1, ENTRIES // (S * S if per_entry else S))
        for begin in range(0, len(rows), step):
            index = np.arange(begin, min(begin + step, len(rows)))
            here = rows[index]
            v = np.broadcast_to(V, p.shape).reshape(-1, S)[index] if V.ndim > 1 else V
            inside = np.ones(here.shape, bool)
            yield _block(here, v, inside, here > 0.0, np.arange(S)[None], index, listed)
        return
    extra = np.zeros(0, np.int64)
    if listed is not None:
        extra = np.flatnonzero(listed.any(0) if listed.ndim == 2 else listed)
        if reach is not None and listed.ndim == 1 and reach < extra.size:
            extra = extra[np.argsort(V[extra], kind="stable")[:reach]]
    for index, columns, inside, data in padded(p, extra.size, per_entry):
        stored = inside
        if extra.size:
            fresh = _fresh(columns, inside, extra, p.shape[1])
            columns = np.hstack([columns, np.broadcast_to(extra, fresh.shape)])
            inside = np.hstack([inside, fresh])
            data = np.hstack([data, np.zeros(fresh.shape)])
            stored = np.hstack([stored, np.zeros(fresh.shape, bool)])
        yield _block(data, V[columns], inside, stored, columns, index, listed)


def padded(
    p: Any, extra: int = 0, per_entry: bool = False
) -> Iterator[tuple[Count, Count, Mask, Array]]:
    """Groups of CSR rows of like length: row numbers, columns, which are real, entries."""
    counts = np.diff(p.indptr).astype(np.int64)
    width = np.where(counts <= 8, counts, 1 << np.ceil(np.log2(np.maximum(counts, 1))).astype(int))
    for n in np.unique(width):
        members = np.flatnonzero(width == n)
        size = int(n) + extra
        step = max(1, ENTRIES // (size * max(int(n), 1) if per_entry else size))
        for begin in range(0, members.size, step):
            index = members[begin : begin + step]
            inside = np.arange(n) < counts[index, None]
            at = np.where(inside, p.indptr[index, None].astype(np.int64) + np.arange(n), 0)
            yield index, p.indices[at].astype(np.int64), inside, np.where(inside, p.data[at], 0.0)


def _fresh(columns: Count, inside: Mask, extra: Count, S: int) -> Mask:
    """Which of the extra states a row doesn't hold yet, (R, K)."""
    if extra.size <= 64:
        return ~np.stack([((columns == e) & inside).any(1) for e in extra], axis=1)
    seen = np.zeros((len(columns), S), bool)
    row, column = np.nonzero(inside)
    seen[row, columns[row, column]] = True
    return np.asarray(~seen[:, extra])


def _block(
    p: Array, V: Array, inside: Mask, ok: Mask, state: Count, index: Count, listed: Mask | None
) -> Block:
    if listed is not None:
        ok = ok | (listed[state] if listed.ndim == 1 else listed[index[:, None], state]) & inside
    v = np.broadcast_to(V, p.shape)
    low = np.where(ok, v, np.inf).min(1, keepdims=True)
    span = np.where(ok, v, -np.inf).max(1, keepdims=True) - low
    x = np.where(ok, (v - low) / np.where(span > 0.0, span, 1.0), 1.0)
    return Block(p / p.sum(1, keepdims=True), x, ok, inside, state, index, low, span)


def pairs(
    q: Any, p: Any, required: Count
) -> Iterator[tuple[Array, Array, Mask, Mask, Count, Count]]:
    """Rows of q and p side by side: q, p, inside (R, n), where p has or stores something (R, n),
    state (R or 1, n), row numbers (R,).

    Sparse rows hold the states that q or p stores, and the required ones.
    """
    if not is_sparse(p):
        S = p.shape[-1]
        q, p = q.reshape(-1, S), p.reshape(-1, S)
        yield q, p, np.ones(p.shape, bool), p > 0.0, np.arange(S)[None], np.arange(len(p))
        return
    import scipy.sparse as sp

    S, R = p.shape[1], p.shape[0]
    keys = [np.repeat(np.arange(R), np.diff(m.indptr)) * S + m.indices for m in (q, p)]
    key = np.unique(np.concatenate([*keys, (np.arange(R)[:, None] * S + required).ravel()]))
    aligned = []
    start = np.searchsorted(key, np.arange(R + 1) * S)
    for data, places in ((q.data, keys[0]), (p.data, keys[1]), (np.ones(p.nnz), keys[1])):
        entries = np.zeros(key.size)
        entries[np.searchsorted(key, places)] = data
        aligned.append(padded(sp.csr_array((entries, key % S, start), shape=p.shape)))
    for (index, columns, inside, q_here), (*_, p_here), (*_, stored) in zip(*aligned, strict=True):
        yield q_here, p_here, inside, stored > 0.0, columns, index
