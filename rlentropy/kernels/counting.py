"""Transition counts in rows that grow, and the estimates that they make."""

from typing import Any, NamedTuple

import numpy as np

from rlentropy.kernels.cache import compiled, inner
from rlentropy.types import Array, Count, Index

ADD_C, BRAESS_SAUER, ADD_ROOT_N = range(3)  # estimates of a row from its counts


class Counts(NamedTuple):
    """Transition counts in rows that grow: a row that is full moves to the end of the pool."""

    begin: Index  # (R,)
    end: Index  # (R,)
    capacity: Index  # (R,) places reserved for the row
    successor: Index  # (pool,)
    hits: Count  # (pool,) how often the row went to that successor
    p: Array  # (pool,)
    uniform: Array  # (R,)
    N: Count  # (R,) visits
    used: Count  # (1,) places of the pool given out
    smoothing: float  # c
    estimator: int  # one of the three above
    restricted: bool  # smoothing only over the successors listed at the start


@inner
def _renormalise(model: Counts, i: int, S: int) -> None:
    # All in one function: a call with these arrays would take half as long as the whole.
    b, e = model.begin[i], model.end[i]
    c = model.smoothing
    if model.estimator == ADD_ROOT_N:
        c = np.sqrt(model.N[i]) / (e - b if model.restricted else S)
    if model.estimator == BRAESS_SAUER:
        unseen = 0.0 if model.restricted else 0.5  # carried by the uniform part
        total = unseen * S
        for j in range(b, e):
            hits = model.hits[j]
            model.p[j] = hits + (0.5 if hits == 0 else 1.0 if hits == 1 else 0.75) - unseen
            total += model.p[j]
        model.uniform[i] = unseen * S / total
        for j in range(b, e):
            model.p[j] /= total
    elif model.restricted:
        total = model.N[i] + c * (e - b)
        for j in range(b, e):
            model.p[j] = (model.hits[j] + c) / total if total > 0.0 else 1.0 / (e - b)
    else:
        total = model.N[i] + c * S
        model.uniform[i] = c * S / total if total > 0.0 else 1.0
        for j in range(b, e):
            model.p[j] = model.hits[j] / total


@inner
def to_frequencies(model: Counts, i: int) -> None:
    """p of row i, which has visits, without smoothing."""
    model.uniform[i] = 0.0
    for j in range(model.begin[i], model.end[i]):
        model.p[j] = model.hits[j] / model.N[i]


@inner
def _place(model: Counts, i: int, successor: int) -> np.int64:
    """Where the successor stands in row i, or would."""
    low, high = np.int64(model.begin[i]), np.int64(model.end[i])
    while low < high:
        middle = (low + high) // 2
        if model.successor[middle] < successor:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def first_unsupported(model: Counts, rows: Count, successors: Count) -> int:
    """Index of the first transition that no row has stored, or -1."""
    for k in range(rows.size):
        j = _place(model, rows[k], successors[k])
        if j == model.end[rows[k]] or model.successor[j] != successors[k]:
            return k
    return -1


@inner
def count(model: Counts, i: int, successor: int) -> None:
    """Count one transition of row i; the pool must have room."""
    place = _place(model, i, successor)
    if place < model.end[i] and model.successor[place] == successor:
        model.hits[place] += 1
    else:
        if model.end[i] - model.begin[i] == model.capacity[i]:
            place += _relocate(model, i)
        for j in range(np.int64(model.end[i]), place, -1):
            model.successor[j] = model.successor[j - 1]
            model.hits[j] = model.hits[j - 1]
        model.successor[place] = successor
        model.hits[place] = 1
        model.end[i] += np.uint32(1)
    model.N[i] += 1


@inner
def _relocate(model: Counts, i: int) -> Any:
    """Double the room of row i at the end of the pool; returns how far the row moved."""
    b, length = np.int64(model.begin[i]), np.int64(model.end[i]) - np.int64(model.begin[i])
    new = model.used[0]
    room: Any = max(4, 2 * length)
    for j in range(length):
        model.successor[new + j] = model.successor[b + j]
        model.hits[new + j] = model.hits[b + j]
    model.begin[i], model.end[i] = np.uint32(new), np.uint32(new + length)
    model.capacity[i] = np.uint32(room)
    model.used[0] = new + room
    return new - b


@compiled
def renormalise_all(model: Counts, S: int) -> None:
    for i in range(model.N.size):
        _renormalise(model, i, S)


@compiled
def record_many(model: Counts, rows: Count, successors: Count, S: int) -> None:
    for k in range(rows.size):
        count(model, rows[k], successors[k])
        _renormalise(model, rows[k], S)


@inner
def row_entropy(model: Counts, i: int, S: int) -> float:
    """H(p̂(· | row i)) in nats."""
    if model.uniform[i] == 1.0:
        return float(np.log(S))
    H = 0.0
    spread = model.uniform[i] / S
    for j in range(model.begin[i], model.end[i]):
        p = model.p[j] + spread
        if p > 0.0:
            H -= p * np.log(p)
    if spread > 0.0:
        H -= (S - (np.int64(model.end[i]) - np.int64(model.begin[i]))) * spread * np.log(spread)
    return float(H)
