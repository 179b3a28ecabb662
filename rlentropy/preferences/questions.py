"""Rows of the table of questions, and the words of answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlentropy.errors import InputError, in_range
from rlentropy.preferences.segments import Pairs, query_id

COLUMNS = ("score", "entropy", "margin", "policy", "propensity")  # what a campaign may add
JUDGE = "judge "  # how the names of judges among labellers begin
ASK = (
    "INSERT INTO questions "
    "WITH asked (round, position, id, start, a, b, side, at, v, w, x, y, z) "
    "AS (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)) "
    "SELECT round, position, id, (SELECT count(*) FROM questions WHERE query_id = asked.id), "
    "start, a, b, side, at, v, w, x, y, z, 0 FROM asked"
)
QUESTION = (
    *("round", "position", "query_id", "repeats", "start", "segment_a", "segment_b", "shown_left"),
    *("asked_at", *COLUMNS),
)


def word(value: float) -> str:
    """What a probability says.

    Raises:
        InputError: it is none.
    """
    if np.isnan(value):
        return "skip"
    in_range("answer", value, "[0, 1]")
    return "tie" if value == 0.5 else "a" if value > 0.5 else "b"


def _column(name: str, values: Any, n: int) -> list[Any]:
    """A column's n cells, from as many values or from one for all."""
    if values is None or isinstance(values, str):
        return [values] * n
    cells = np.asarray(values).tolist() if np.ndim(values) else [values] * n
    if len(cells) != n:
        raise InputError(f"{name} must be one for each of {n} pairs, got {len(cells)}")
    return [None if cell != cell else cell for cell in cells]


def rows_of(
    round: int,
    first: int,
    pairs: Pairs,
    a: Sequence[str],
    b: Sequence[str],
    shown_left: Any,
    columns: Mapping[str, Any],
) -> list[tuple[Any, ...]]:
    """Rows of `ASK`, for positions first, first + 1, … of a round.

    Raises:
        InputError: an unknown column, or one of another length.
    """
    if unknown := set(columns) - set(COLUMNS):
        raise InputError(f"columns must be of {', '.join(COLUMNS)}, got {', '.join(unknown)}")
    n, now = len(pairs), time.time()
    ids = [query_id(*both) for both in zip(a, b, strict=True)]
    drawn = [key[0] < "8" for key in ids]
    left = drawn if shown_left is None else _column("shown_left", shown_left, n)
    sides = ["a" if x else "b" for x in left]
    starts = [str(start) for start in np.asarray(pairs.a.starts).tolist()]
    more = [_column(name, columns.get(name), n) for name in COLUMNS]
    rows = zip(ids, starts, a, b, sides, [now] * n, *more, strict=True)
    return [(round, first + i, *row) for i, row in enumerate(rows)]
