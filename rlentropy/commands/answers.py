"""What is said of a run on the screen: first its answer, with units; not what doesn't apply.

docs/tags.md defines every key and tag, and has their units.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from rlentropy.runs.table import COMMANDS

WINDOW = 30.0  # seconds over which speed is measured

# The evaluation that a line of progress shows: the first of these that there is.
TAGS = (
    *("gap", "normalised_return", "mixture_entropy", "return", "robust_value", "win_rate"),
    *("visitation_entropy", "trajectory_entropy", "visit_frequency_entropy", "bellman_loss"),
)

# The first rows of a summary, in this order, where it has them: against an optimum, or else.
AGAINST = ("gap", "value", "optimum")
LEAD = (
    *("normalised_return", "auc", "mixture_value", "mixture_ci95", "mean_return", "return_ci95"),
    *("value", "win_rate", "last_iterate_value", "last_iterate_ci95"),
)
LAST = ("wall_seconds", "compile_seconds")

NATS = {"kl", "knn_entropy", "knn_ci95", "episode_value", "visit_entropy", "certificate"}
NATS |= {"last_iterate_value", "mixture_value", "last_iterate_ci95", "mixture_ci95"}
REWARD = {"mean_return", "return_ci95", "reference_return", "optimal_return", "return_auc"}
REWARD |= {"lower_bound", "upper_bound", "domination_bound", "overestimation", "value_ci95"}
REWARD |= {"episode_return", "reference_episode_return", "next_value_spread"}
REWARD |= {"episode_return_ci95", "reference_episode_return_ci95"}
FAMILY = {*AGAINST, "certified_gap"}  # nats of exploration, reward of the others

NOTES = {
    ("value", True): "exact",
    ("value", False): "estimated",
    ("mixture_value", None): "of all policies played",
    ("last_iterate_value", None): "of the last policy alone",
}
SILENT = {"axis", "finished", "value_is_exact"}  # of every run, or said beside another
DEFAULTS: dict[str, Any] = {"env_kwargs": "{}", "temperature": 1.0, "compile_seconds": 0.0}
DEFAULTS |= {"env_steps": 0, "episodes": 0, "skipped": 0, "seeds": 1}


def unit_of(key: str, command: str) -> str:
    """The unit of a figure of `summary.json`; "" where it has none, or its name says it."""
    explores = command in COMMANDS and "exploration" in COMMANDS[command].module
    if key in FAMILY:
        return "nats" if explores and (key, command) != ("certified_gap", "rf-ucrl") else "reward"
    if key in LAST or key == "horizon":
        return "s" if key in LAST else "steps"
    return "nats" if key in NATS else "reward" if key in REWARD else ""


def rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and figures of a run's summary, the answer first; of a tool's facts, which others read.

    Those have no units, and more digits.
    """
    command = str(summary.get("command", ""))
    digits = 6 if command else 8
    facts = dict(summary)
    if all(isinstance(facts.get(key), int | float) for key in ("value", "optimum")):
        facts.setdefault("gap", facts["optimum"] - facts["value"])
    first = (*(AGAINST if facts.get("gap") is not None else ()), *LEAD)
    order = dict.fromkeys((*first, *(key for key in facts if key not in LAST), *LAST))
    found = []
    for key in (key for key in order if key in facts and key not in SILENT):
        value = facts[key]
        text = (
            None
            if command and value == DEFAULTS.get(key, command)
            else shown(value, "ci95" in key, 3 if key in LAST else digits)
        )
        if text is not None or key == "command":
            figure = f"{text or command} {unit_of(key, command) if command else ''}".rstrip()
            note = NOTES.get((key, facts.get("value_is_exact") if key == "value" else None))
            if key == "steps" and facts.get("env_steps", value) != value:
                note = "asked; what is begun is played to its end"
            found.append((key, f"{figure}, {note}" if note else figure))
    return found


def shown(value: Any, interval: bool, digits: int) -> str | None:
    """A figure as text; None for what doesn't apply, or is a long list."""
    if value is None or value is False or value == "":
        return None
    if isinstance(value, list | tuple):
        if value and interval:
            known = [None if end is None or math.isnan(end) else end for end in value]
            ends = ["?" if end is None else f"{end:.{digits}g}" for end in known]
            return " to ".join(ends) if any(end is not None for end in known) else None
        return ", ".join(value) if value and all(isinstance(x, str) for x in value) else None
    if value is True:
        return "yes"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


class Pace:
    """How far a run is, how well it does, how fast it goes and when it will be done, as a line.

    Args:
        command: of the run; its budget is what is counted.
    """

    def __init__(self, command: str = "", unit: str = "") -> None:
        self.command = command
        self.unit = unit or (COMMANDS[command].budget if command in COMMANDS else "")
        self._points: deque[tuple[float, int]] = deque()

    def line(self, done: int, total: int, latest: Mapping[str, tuple[int, float]]) -> str:
        """Such as ``12 000/300 000  gap 0.41 nats  1 560 episodes/s  ETA 3:02``.

        Args:
            latest: step and value of each eval/* tag at the last evaluation.
        """
        now, points = time.monotonic(), self._points
        if not points or points[-1][1] < done:
            points.append((now, done))
        while len(points) > 2 and points[0][0] < now - WINDOW:
            points.popleft()
        parts = [f"{grouped(done)}/{grouped(total)}"]
        if tag := next((tag for tag in TAGS if f"eval/{tag}" in latest), None):
            value = latest[f"eval/{tag}"][1]
            explores = unit_of("gap", self.command) == "nats"
            unit = " nats" if tag.endswith("entropy") or (tag == "gap" and explores) else ""
            parts.append(f"{tag.replace('_', ' ')} {value:.4g}{unit}")
        seconds, units = now - points[0][0], done - points[0][1]
        if seconds > 0 and units > 0:
            speed = units / seconds
            parts.append(f"{grouped(speed)} {self.unit}/s")
            if done < total:
                parts.append(f"ETA {clock((total - done) / speed)}")
        if len(parts) == 1:
            return f"{parts[0]} {self.unit}".rstrip()
        return "  ".join(parts)


def grouped(number: float) -> str:
    """Thousands apart; three digits of what is small."""
    small = isinstance(number, float) and abs(number) < 100
    return f"{number:.3g}" if small else f"{number:,.0f}".replace(",", " ")


def clock(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
