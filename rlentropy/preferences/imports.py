"""Answers and pairs from elsewhere, checked as a whole before anything is written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlentropy.errors import InputError
from rlentropy.preferences.export import checked
from rlentropy.preferences.rows import Row, as_float, read_rows
from rlentropy.preferences.segments import Pairs, check_starts, joined
from rlentropy.preferences.store import ASKINGS, IMPORTED, Asking, Reply, Store
from rlentropy.preferences.units import Units

WORDS = {"a": 1.0, "b": 0.0, "tie": 0.5, "equal": 0.5, "skip": float("nan")}
SIDES = {"left": 1.0, "right": 0.0}  # that what was shown left is better
NAME = 100  # characters of a labeller
ELSEWHERE = "elsewhere"  # the labeller of pairs that name none


class Imported(NamedTuple):
    """What became of the rows of a file."""

    written: int
    late: int  # others' answers stand
    passed_over: int  # rows without an answer, or whose answer was taken back


def import_answers(store: Store, path: Path) -> Imported:
    """Give a store the answers of a file, all of them or, where a row is malformed, none.

    A row names its question by `query_id`, or by `round` and `position`. Its `answer` is a, b, tie
    or skip, or left, right or equal as the sides were stored, or the probability that a is
    preferred; `labeller` says whose it is. `seconds`, `reason` and `asking` may be there. Rows
    without an answer, and those with `superseded_by`, are passed over: what `export` wrote can be
    filled in.

    Raises:
        InputError: the file can't be read, or a row is malformed or names no question.
        OutputError: the store can't be written.
    """
    rows = read_answered(path, "answers")
    standing = [row for row in rows if not _passed_over(row)]
    stood = store.reply(replies(standing, checked(store)))
    return Imported(sum(stood), len(stood) - sum(stood), len(rows) - len(standing))


def read_answered(path: Path, option: str) -> list[Row]:
    """The rows of a file, of which some may have no answer, but which has a place for them.

    Raises:
        InputError: the file can't be read, or has no column `answer`.
    """
    rows = read_rows(path, option)
    if rows and not any("answer" in row.cells for row in rows):
        rows[0].refuse("answer", "as a column", ", ".join(rows[0].cells))
    return rows


def _passed_over(row: Row) -> bool:
    return row.value("answer") in (None, "undo") or row.value("superseded_by") is not None


def replies(rows: Iterable[Row], records: Iterable[Mapping[str, Any]]) -> list[Reply]:
    """Rows as answers to the questions of a store.

    An id that was asked several times is that of the first question that has no answer yet.

    Raises:
        InputError: a row is malformed, or names no question.
    """
    questions: dict[tuple[int, int], Mapping[str, Any]] = {}
    by_id: dict[str, list[tuple[int, int]]] = defaultdict(list)
    answered: set[tuple[int, int, str]] = set()
    for record in records:
        where = record["round"], record["position"]
        if where not in questions:
            questions[where] = record
            by_id[record["query_id"]].append(where)
        if record["superseded_by"] is None and record["answer"] not in (None, "undo"):
            answered.add((*where, record["asking"]))
    found = []
    for row in rows:
        asking = _asking(row)
        places = _places(row, questions, by_id)
        where = next((p for p in places if (*p, asking) not in answered), places[0])
        answered.add((*where, asking))
        a_left = (questions[where]["shown_left"] == "a") != (asking == "mirror")
        found.append(_reply(row, *where, asking, a_left))
    return found


def _asking(row: Row) -> Asking:
    word = row.one_of("asking", ASKINGS)
    return next(asking for asking in ASKINGS if asking == (word or "label"))


def _places(
    row: Row,
    questions: Mapping[tuple[int, int], Any],
    by_id: Mapping[str, list[tuple[int, int]]],
) -> list[tuple[int, int]]:
    """The questions that a row may mean."""
    key, of_round = row.text("query_id"), row.whole("round", IMPORTED)
    position = row.whole("position", 0)
    if key is not None and key not in by_id:
        row.refuse("query_id", "of a question that was asked", key)
    if of_round is not None and position is not None:
        where = of_round, position
        if where not in questions or key not in (None, questions[where]["query_id"]):
            row.refuse("round and position", "of a question that was asked", f"{where} {key or ''}")
        return [where]
    if key is None:
        row.refuse("query_id, or round and position,", "in each row", "none")
    return by_id[key]


def _reply(
    row: Row,
    round: int,
    position: int,
    asking: Asking,
    a_left: bool | None,
    labeller: str | None = None,
) -> Reply:
    seconds = row.number_in("seconds", 0.0)
    if seconds is None and (milliseconds := row.number_in("duration_ms", 0.0)) is not None:
        seconds = milliseconds / 1e3
    labeller = row.text("labeller", NAME) or labeller
    if labeller is None:
        row.refuse("labeller", "in each row", "none")
    value, reason = answer_of(row, a_left), row.text("reason")
    return Reply(round, position, value, labeller, seconds, asking, reason)


def answer_of(row: Row, a_left: bool | None) -> float:
    """The probability that a is preferred; NaN for a skip.

    Args:
        a_left: whether a was shown left; None where nobody knows.

    Raises:
        InputError: it is no answer, or another one than the row's `probability`.
    """
    said = row.needed("answer")
    word = said.lower() if isinstance(said, str) else ""
    if word in SIDES and a_left is not None:
        return SIDES[word] if a_left else 1.0 - SIDES[word]
    if word not in WORDS:
        value = as_float(said)
        if value is None or not 0.0 <= value <= 1.0:
            sides = "left, right, " if a_left is not None else ""
            row.refuse("answer", f"as a, b, tie, skip, {sides}or a probability", repr(said))
        return value
    p = row.number_in("probability", 0.0, 1.0)
    if p is None:
        return WORDS[word]
    if (np.sign(p - 0.5) != np.sign(WORDS[word] - 0.5)) or word == "skip":
        row.refuse("probability", f"that suits the answer {word}", p)
    return p


# ---------------------------------------------------------------- pairs


class LabelledPairs(NamedTuple):
    """Pairs that were labelled elsewhere."""

    pairs: Pairs
    replies: list[Reply]
    shown_left: list[bool | None]


def import_pairs(store: Store, path: Path, units: Units, T: int, shared_start: bool) -> None:
    """Write the pairs of a file into a store, as round -1; again is no change.

    Args:
        T: steps of a segment at most.
        shared_start: whether both segments of a pair must start alike.

    Raises:
        InputError: the file can't be read, or a row is malformed; then nothing was written.
    """
    if store.identities(IMPORTED)[0]:
        return
    found = labelled_pairs(read_answered(path, "pairs"), units, T, shared_start)
    left = [key[0] < "8" if x is None else x
            for key, x in zip(found.pairs.query_ids(), found.shown_left, strict=True)]  # fmt: skip
    store.ask(IMPORTED, found.pairs, shown_left=left, replies=found.replies)


def labelled_pairs(rows: Iterable[Row], units: Units, T: int, shared_start: bool) -> LabelledPairs:
    """Rows as pairs and what was said of them, in their order.

    A row has `states_a` (one more than actions), `actions_a`, the same of b, and an `answer`, in
    the units of the environment's spaces; `terminated_a`, `labeller`, `seconds`, `reason`,
    `shown_left` and `start` may be there. Of what `export` wrote, answers that stand and were
    learnt from are taken.

    Raises:
        InputError: a row is malformed, or none is left.
    """
    a, b, sides = [], [], []
    said: list[Reply] = []
    for row in rows:
        if _passed_over(row) or _asking(row) != "label":
            continue
        start = row.whole("start", -(2**31))
        pair = Pairs(units.segment(row, "a", T, start), units.segment(row, "b", T, start))
        if shared_start and not pair.same_start[0]:
            try:
                check_starts(pair)
            except InputError as error:
                raise InputError(f"{error} in row {row.number} of {row.path}") from None
        shown = row.one_of("shown_left", ("a", "b"))
        a_left = None if shown is None else shown == "a"
        said.append(_reply(row, IMPORTED, len(said), "label", a_left, ELSEWHERE))
        a.append(pair.a)
        b.append(pair.b)
        sides.append(a_left)
    if not said:
        raise InputError("pairs must have a row with an answer, got none")
    return LabelledPairs(Pairs(joined(a), joined(b)), said, sides)
