"""Summaries of finished runs, checked: what ``summary.json`` must hold where it has it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlentropy.errors import InputError
from rlentropy.files import Unreadable, read_json
from rlentropy.runs.table import COMMANDS

AXES = ("env_steps", "updates", "labels")  # what the steps of eval/* may count


def is_amount(value: Any) -> bool:
    """A number >= 0 that a 64-bit integer could hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2.0**63


def is_whole(value: Any) -> bool:
    return is_amount(value) and value == int(value)


# What a summary's fields must be where it has them: (said of it, test).
Field = tuple[str, Callable[[Any], bool]]
TEXT: Field = ("text", lambda value: isinstance(value, str))
AMOUNT: Field = ("a number >= 0", is_amount)
WHOLE: Field = ("a whole number >= 0", is_whole)
COUNTS: Field = ("numbers >= 0", lambda x: isinstance(x, list) and all(map(is_amount, x)))
AXIS: Field = (" or ".join(AXES), lambda value: value in AXES)
FIELDS = {
    **dict.fromkeys(("command", "env_id", "env_kwargs", "label", "objective", "risk"), TEXT),
    **dict.fromkeys(("env_steps", "episodes", "updates", "labels", "steps"), AMOUNT),
    **dict.fromkeys(("temperature", "gamma", "wall_seconds", "compile_seconds"), AMOUNT),
    **dict.fromkeys(("seed", "horizon"), WHOLE),
    **dict.fromkeys(("state_visits", "grid_shape"), COUNTS),
    "axis": AXIS,
}
NEEDED = ("command", "env_id", "seed")  # of these, what can't be null


class Refused(Exception):
    """Why a folder is left out."""


def summary_of(folder: Path) -> dict[str, Any]:
    """The summary of a finished run, with the fields in `FIELDS` checked, where it has them.

    Raises:
        FileNotFoundError: there is none.
        Refused: the run is not finished.
        Unreadable: it is damaged, or none of ours.
    """
    path = folder / "summary.json"
    summary = read_json(path)
    if "finished" not in summary:
        raise Unreadable(path, KeyError("finished"))
    if summary["finished"] is not True:
        raise Refused("it is not finished")
    for name, (what, holds) in FIELDS.items():
        value = summary.get(name)
        if not (holds(value) if value is not None else name not in NEEDED or name not in summary):
            raise Unreadable(path, f"{name} must be {what}, got {str(value)[:60]!r}")
    shape, visits = summary.get("grid_shape"), summary.get("state_visits")
    if shape is not None and (
        len(shape) != 2 or not all(map(is_whole, shape)) or visits is None
        or math.prod(map(int, shape)) != len(visits)
    ):  # fmt: skip
        raise Unreadable(path, f"grid_shape must be that of state_visits, got {str(shape)[:60]}")
    return summary


def read_summary(run: Path) -> dict[str, Any]:
    """The summary of a finished run.

    Raises:
        InputError: there is none.
    """
    try:
        summary = summary_of(run)
        missing = [name for name in ("command", "env_id", "seed") if name not in summary]
        if not missing and summary["command"] in COMMANDS:
            return summary
        why = f"its summary.json has no {', '.join(missing)}"
        if summary.get("command") not in COMMANDS:
            why = f"it is of the command {summary.get('command')!r}"
    except FileNotFoundError:
        why = "it has no summary.json"
    except Refused as error:
        why = str(error)
    except Unreadable as error:
        why = f"its summary.json is not readable: {error.why}"
    raise InputError(f"run must be the folder of a finished run, got {run} ({why})")
