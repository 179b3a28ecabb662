"""What a store holds, for others: JSON lines, rows for language-model trainers, sides chosen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from rlentropy.preferences.segments import Segments
from rlentropy.preferences.store import Store
from rlentropy.types import Array

Describe = Callable[[Segments], str]  # of one segment; its first line says where it starts


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


def json_lines(store: Store) -> Iterator[str]:
    """A line for each answer that was ever given, and for each question without one.

    Both segments come with their hash, length, end and actions; their states are in the files
    that the hashes name.
    """
    for record in store.records():
        for side in ("segment_a", "segment_b"):
            segment = store.segments([record[side]])
            length = int(segment.lengths[0])
            record[side] = {
                "hash": record[side],
                "length": length,
                "terminated": bool(segment.terminated[0]),
                "actions": np.asarray(segment.actions[0, :length]).tolist(),
            }
        yield json.dumps(record, ensure_ascii=False)


def standing(store: Store) -> Iterator[dict[str, Any]]:
    """The records of answers that stand and prefer something, ties among them."""
    for record in store.records():
        if record["superseded_by"] is None and record["probability"] is not None:
            yield record


def trl_rows(store: Store, describe: Describe = as_text) -> Iterator[dict[str, str]]:
    """Rows of texts `prompt`, `chosen` and `rejected`, as TRL's DPO trainer takes them.

    The prompt is the first line of a description, the completion the rest of it. Ties, skips and
    questions that were asked again with their sides changed are left out.
    """
    for record in standing(store):
        if record["asking"] != "label" or record["answer"] == "tie":
            continue
        texts = {}
        for side in ("a", "b"):
            segment = store.segments([record[f"segment_{side}"]])
            texts[side] = describe(segment).partition("\n")
        chosen, rejected = texts[record["answer"]], texts["ba"["ab".index(record["answer"])]]
        yield {"prompt": chosen[0], "chosen": chosen[2], "rejected": rejected[2]}


def sides_chosen(store: Store) -> tuple[Array, Array]:
    """For `judges.position_bias`: margins of the left segment, and answers for it, (n,) each.

    Answers to questions without a margin are left out.
    """
    margins, left = [], []
    for record in standing(store):
        if record["margin"] is not None:
            a_left = (record["shown_left"] == "a") != (record["asking"] == "mirror")
            margins.append(record["margin"] if a_left else -record["margin"])
            left.append(record["probability"] if a_left else 1.0 - record["probability"])
    return np.array(margins, np.float64), np.array(left, np.float64)
