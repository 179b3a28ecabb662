"""What a store holds, for others: tables, rows for language-model trainers, pairs for imitation."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from rlentropy.errors import InputError
from rlentropy.files import Unreadable, csv_table, reading
from rlentropy.preferences.questions import JUDGE
from rlentropy.preferences.segments import Segments
from rlentropy.preferences.store import ASKINGS, Store
from rlentropy.preferences.units import Units, first
from rlentropy.types import Array

Describe = Callable[[Segments], str]  # of one segment; its first line says where it starts

SEPARATOR = "\n\x1f\n"  # between a prompt and its completion: a line that is U+001F alone
SIDES = ("a", "b")
# The columns of a table of answers, before what is the same for all of them.
COLUMNS = (
    *("round", "position", "query_id", "repeats", "start", "segment_a", "segment_b", "shown_left"),
    *("asking", "shown", "answer", "probability", "labeller", "seconds", "reason", "asked_at"),
    *("answered_at", "score", "entropy", "margin", "policy", "propensity", "id", "superseded_by"),
)


def as_text(segment: Segments) -> str:
    """One segment, a line a step: the start, then each action and where it led."""
    states, actions, length = segment.states[0], segment.actions[0], int(segment.lengths[0])
    lines = [f"start {_short(states[0])}"]
    for t in range(length):
        lines.append(f"{t + 1}: {_short(actions[t])} -> {_short(states[t + 1])}")
    return "\n".join([*lines, "end" if segment.terminated[0] else "cut"])


def _short(value: Any) -> str:
    array = np.asarray(value)
    if array.dtype.kind in "biu":
        return str(array.tolist())
    return np.array2string(array, precision=3, suppress_small=True, max_line_width=10**6)


def prompt_and_completion(text: str) -> tuple[str, str]:
    """Both parts of a text, between which `SEPARATOR` is.

    Without it the prompt is the first line, its end included, so that the parts laid end to end are
    the text.
    """
    prompt, found, completion = text.partition(SEPARATOR)
    if found:
        return prompt, completion
    prompt, line_end, completion = text.partition("\n")
    return prompt + line_end, completion


def text_of(store: Store, digest: str, describe: Describe = as_text) -> str:
    """A segment as text: the one that is stored beside it, else its description."""
    if (text := stored_text(store, digest)) is not None:
        return text
    return describe(store.segments([digest]))


def stored_text(store: Store, digest: str) -> str | None:
    """What a segment of a language model says; None where segments are of an environment.

    Raises:
        InputError: the file is damaged.
    """
    if store.folder is None:
        return None
    path = store.folder / "segments" / f"{digest}.txt"
    try:
        with reading(path):
            return path.read_bytes().decode()
    except FileNotFoundError:
        return None


# ---------------------------------------------------------------- records


def checked(store: Store) -> list[dict[str, Any]]:
    """The records of a store.

    Raises:
        InputError: one is as no store writes it, so that the file is damaged.
    """
    records = list(store.records())
    for record in records:
        for name, fits in FITS.items():
            if not fits(record[name]):
                where = f"round {record['round']}, position {record['position']}"
                raise Unreadable(store.database.path, f"{name} of {where} is {record[name]!r}")
    return records


def _number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and abs(value) < 1e300)


def _text(value: Any) -> bool:
    return value is None or isinstance(value, str)


FITS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("round", "position"), lambda value: type(value) is int),
    **dict.fromkeys(("segment_a", "segment_b", "query_id"), lambda value: isinstance(value, str)),
    **dict.fromkeys(("labeller", "reason", "policy", "start"), _text),
    **dict.fromkeys(("duration_ms", "margin", "score", "entropy", "propensity"), _number),
    **dict.fromkeys(("asked_at", "answered_at"), _number),
    "shown_left": lambda value: value in ("a", "b"),
    "asking": lambda value: value in (None, *ASKINGS),
    "answer": lambda value: value in (None, "a", "b", "tie", "skip", "undo"),
    "probability": lambda value: _number(value) and (value is None or 0.0 <= value <= 1.0),
}


def standing(records: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The records of answers that stand and prefer something, ties among them."""
    for record in records:
        if record["superseded_by"] is None and record["probability"] is not None:
            yield record


def shown_left(record: Mapping[str, Any]) -> str:
    """The segment that was shown left, "a" or "b", in a question as it was asked."""
    mirrored = record["asking"] == "mirror"
    return str(record["shown_left"]) if not mirrored else "ba"["ab".index(record["shown_left"])]


def by_judge(record: Mapping[str, Any]) -> bool:
    """Whether a judge gave an answer, who reads every pair in both orders."""
    return record["asking"] == "judge" or str(record["labeller"]).startswith(JUDGE)


def sides_chosen(records: Iterable[Mapping[str, Any]]) -> tuple[Array, Array]:
    """For `judges.position_bias`: margins of the left segment, and answers for it, (n,) each.

    Answers to questions without a margin are left out, and those of judges, who read both orders.
    """
    margins, left = [], []
    for record in standing(records):
        if record["margin"] is not None and not by_judge(record):
            a_left = shown_left(record) == "a"
            margins.append(record["margin"] if a_left else -record["margin"])
            left.append(record["probability"] if a_left else 1.0 - record["probability"])
    return np.array(margins, np.float64), np.array(left, np.float64)


# ---------------------------------------------------------------- formats


def json_lines(store: Store, units: Units | None = None) -> Iterator[str]:
    """A line for each answer that was ever given, and for each question without one.

    Both segments come in full: as text, or, where units are given, as the states, actions and end
    that `imports.labelled_pairs` takes. `segment_a` and `segment_b` are their hashes.
    """
    for record in checked(store):
        row = dict(record)
        for side in SIDES:
            digest = record[f"segment_{side}"]
            if (text := stored_text(store, digest)) is not None:
                row[f"text_{side}"] = text
                continue
            segment = store.segments([digest])
            row[f"length_{side}"] = int(segment.lengths[0])
            row[f"terminated_{side}"] = bool(segment.terminated[0])
            if units is not None:
                row[f"states_{side}"] = units.observations(segment).tolist()
                row[f"actions_{side}"] = units.actions(segment).tolist()
        yield json.dumps(row, ensure_ascii=False)


def answers_table(store: Store) -> bytes:
    """Who answered what, as CSV: a row for each answer, and for each question without one."""
    rows = []
    for record in checked(store):
        milliseconds = record["duration_ms"]
        row = dict(record) | {
            "shown": None if record["asking"] is None else f"{shown_left(record)} left",
            "seconds": None if milliseconds is None else milliseconds / 1e3,
        }
        rows.append({name: row[name] for name in (*COLUMNS, "schema", *store.about)})
    if rows:
        return csv_table(rows)
    text = io.StringIO(newline="")
    csv.writer(text).writerow([*COLUMNS, "schema", *store.about])
    return text.getvalue().encode()


def trl_rows(store: Store, describe: Describe = as_text) -> Iterator[dict[str, str]]:
    """Rows of texts `prompt`, `chosen` and `rejected`, as TRL's DPO trainer takes them.

    A prompt and a completion laid end to end are what a model reads. Ties, skips and questions
    that were asked again are left out.
    """
    for record in standing(checked(store)):
        if record["asking"] != "label" or record["answer"] == "tie":
            continue
        texts = {}
        for side in SIDES:
            text = text_of(store, record[f"segment_{side}"], describe)
            texts[side] = prompt_and_completion(text)
        chosen, rejected = texts[record["answer"]], texts["ba"["ab".index(record["answer"])]]
        yield {"prompt": chosen[0], "chosen": chosen[1], "rejected": rejected[1]}


def imitation_arrays(store: Store, units: Units) -> dict[str, Any]:
    """Labelled pairs as arrays from which imitation's pairs of trajectories are made.

    Returns:
        `obs` and `acts` of all fragments end to end in the dtypes of the spaces, whose bounds clip
        the actions; `lengths`, steps of each fragment, one less than its observations, (2 N,);
        `terminal`, (2 N,); `preferences`, (N,), the probability that fragment 2 i is preferred to
        2 i + 1; and `query_ids`, (N,).

    Raises:
        InputError: there is none, or one ends in a state that the environment doesn't have.
    """
    labels = [record for record in standing(checked(store)) if record["asking"] == "label"]
    if not labels:
        raise InputError("campaign must have an answer that isn't a skip, for imitation, got none")
    parts = [store.segments([r[f"segment_{side}"]]) for r in labels for side in SIDES]
    actions = units.action_space
    acts = np.concatenate([units.actions(part) for part in parts])
    if isinstance(actions, Box):
        acts = np.clip(acts, actions.low, actions.high)
        if not np.issubdtype(actions.dtype, np.floating):
            acts = np.rint(acts)
    obs, space = (
        np.concatenate([units.observations(part) for part in parts]),
        units.observation_space,
    )
    if isinstance(space, Discrete) and obs.max() >= first(space) + space.n:
        raise InputError(
            "campaign must have states of the environment alone, for imitation, got an end that "
            f"its model adds, {obs.max()} where observations are {space}"
        )
    return {
        "obs": obs.astype(space.dtype),
        "acts": acts.astype(actions.dtype),
        "lengths": np.array([int(part.lengths[0]) for part in parts]),
        "terminal": np.array([bool(part.terminated[0]) for part in parts]),
        "preferences": np.array([record["probability"] for record in labels], np.float32),
        "query_ids": np.array([record["query_id"] for record in labels]),
    }
