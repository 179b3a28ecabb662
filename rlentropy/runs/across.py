"""What holds across tasks, and between pairs of algorithms: scores, profiles, paired differences.

A score is a final value made comparable between tasks, (value - zero) / (one - zero), where

    zero   is --zero, else the random policy's final mean where it was run, else the worst one
    one    is --one, else the known optimum (a gap of 0, an entropy of `optimum`), else the best
           algorithm's final mean

and both are held fixed when seeds are drawn again. A normalised return is a score already.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlentropy.errors import InputError
from rlentropy.intervals import (
    AGGREGATES,
    Estimate,
    Statistic,
    aggregate,
    centre,
    difference,
    holm,
    improvement,
    profile,
)
from rlentropy.runs.comparable import Task
from rlentropy.types import Array

RANDOM = ("random-policy", "neural-random")  # commands whose policy is where scores are 0
THRESHOLDS = 201  # of a profile
LOWEST = -1.0  # of them: a run that is as far below 0 as the optimum is above is just bad
EVERY_TASK = "all tasks, as scores"

Row = dict[str, Any]


# ---------------------------------------------------------------- scores


@dataclass(frozen=True)
class Scale:
    """Which final value is a score of 0 and which of 1, and what they are."""

    zero: float
    one: float
    zero_is: str
    one_is: str
    wrong: str = ""  # why there are no scores

    def __call__(self, values: Array) -> Array:
        scores: Array = np.round((values - self.zero) / (self.one - self.zero), 12)  # 0 is 0
        return scores


def scale_of(task: Task, zero: Sequence[str], one: Sequence[str], statistic: Statistic) -> Scale:
    """The scale of a task.

    Args:
        zero, one: each an algorithm's name, a number, or ENV_ID=number for one environment.
    """
    finals = {a.name: float(centre(a.final, statistic)) for a in task.algorithms}
    ranked = sorted(finals, key=finals.__getitem__, reverse=task.falling)  # from worst to best
    bottom = chosen("zero", zero, task, finals) or usual_zero(task, finals, ranked[0])
    top = chosen("one", one, task, finals) or usual_one(task, finals, ranked[-1])
    (low, low_is), (high, high_is) = bottom, top
    better = low > high if task.falling else low < high
    finite = math.isfinite(high - low)
    wrong = "" if better and finite else f"{low_is} ({low:g}) is no worse than {high_is} ({high:g})"
    return Scale(low, high, low_is, high_is, wrong)


def chosen(
    option: str, given: Sequence[str], task: Task, finals: dict[str, float]
) -> tuple[float, str] | None:
    """What an option says of a task; None where it says nothing.

    Raises:
        InputError: it is neither an algorithm nor a number.
    """
    for text in sorted(given, key=lambda text: "=" not in text):  # one environment's wins
        if text in finals:
            return finals[text], text
        env_id, equals, number = text.rpartition("=")
        if equals and env_id != task.facts.get("env_id"):
            continue
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            names = ", ".join(finals)
            raise InputError(
                f"{option} must be an algorithm ({names}), a number, or ENV_ID=number, got {text!r}"
            )
        return value, f"{value:g}"
    return None


def usual_zero(task: Task, finals: dict[str, float], worst: str) -> tuple[float, str]:
    if task.metrics == ("eval/normalised_return",):
        return 0.0, "the reference policy"
    for a in task.algorithms:
        if all(run.summary["command"] in RANDOM for run in a.runs):
            return finals[a.name], a.name
    return finals[worst], f"{worst}, the worst"


def usual_one(task: Task, finals: dict[str, float], best: str) -> tuple[float, str]:
    if task.falling:
        return 0.0, "the optimum"
    if task.metrics == ("eval/normalised_return",):
        return 1.0, "the optimum"
    if task.metrics[0] in ("eval/visitation_entropy", "eval/trajectory_entropy"):
        optima = {run.summary.get("optimum") for a in task.algorithms for run in a.runs}
        if len(optima) == 1 and isinstance(optimum := optima.pop(), float):
            return optimum, "the optimum"
    return finals[best], f"{best}, the best"


# ---------------------------------------------------------------- which algorithms on which tasks


def rectangle(tasks: Sequence[Task]) -> tuple[list[Task], list[str]]:
    """Tasks and algorithms such that every one of these was run on every one of those.

    Either the tasks that have all algorithms, or the algorithms that are on all tasks, whichever
    are more pairs.
    """
    names = list(dict.fromkeys(a.name for task in tasks for a in task.algorithms))
    have = {task.name: {a.name for a in task.algorithms} for task in tasks}
    complete = [task for task in tasks if len(have[task.name]) == len(names)]
    everywhere = [name for name in names if all(name in have[task.name] for task in tasks)]
    if len(complete) * len(names) >= len(tasks) * len(everywhere):
        return complete, names
    return list(tasks), everywhere


def pairs(names: Sequence[str], baseline: str) -> list[tuple[str, str]]:
    """Each algorithm against the baseline, if that is one of them; without one, all pairs."""
    if baseline:
        return [(name, baseline) for name in names if name != baseline and baseline in names]
    return list(itertools.combinations(names, 2))


# ---------------------------------------------------------------- tables


@dataclass(frozen=True)
class Across:
    """Tables over all tasks, and what they are of."""

    tasks: list[Task]
    algorithms: list[str]
    scales: dict[str, Scale]  # by task's name
    tables: dict[str, list[Row]]
    left_out: list[str]  # a line each


def compare_across(
    tasks: Sequence[Task],
    zero: Sequence[str],
    one: Sequence[str],
    baseline: str,
    statistic: Statistic,
    rng: np.random.Generator,
) -> Across:
    """Scores, aggregates, profiles, probabilities of improvement and paired differences."""
    every = {task.name: scale_of(task, zero, one, statistic) for task in tasks}
    left_out = [f"{name}: {s.wrong}" for name, s in every.items() if s.wrong]
    scaled = [task for task in tasks if not every[task.name].wrong]
    used, names = rectangle(scaled)
    left_out += [f"{t.name}: not every algorithm ran on it" for t in scaled if t not in used]
    missing = {a.name for t in scaled for a in t.algorithms} - set(names)
    left_out += [f"{name}: it did not run on every task" for name in sorted(missing)]
    tables: dict[str, list[Row]] = {"runs": [row for t in tasks for row in run_rows(t, every)]}
    if len(used) > 1 and names:
        scores = {
            name: [every[t.name](a.final) for t in used for a in t.algorithms if a.name == name]
            for name in names
        }
        tables["scores"] = [score_row(name, scores[name], rng) for name in names]
        tables["profiles"] = list(profile_rows(scores, rng))
        values = {name: scored(used, name, every) for name in names}
        rows = pair_rows(pairs(names, baseline), values, 1.0, rng)
        tables["pairs"] = [{"task": EVERY_TASK} | row for row in rows]
    tables["scale"] = [
        {"task": name, "zero": s.zero, "zero_is": s.zero_is, "one": s.one, "one_is": s.one_is}
        for name, s in every.items()
    ]
    return Across(used, names, every, tables, left_out)


def run_rows(task: Task, scales: dict[str, Scale]) -> Iterator[Row]:
    """Every run's final value and score."""
    scale = scales[task.name]
    for a in task.algorithms:
        scores = np.full(len(a.runs), math.nan) if scale.wrong else scale(a.final)
        for seed, value, score in zip(a.seeds, a.final, scores, strict=True):
            row = {"task": task.name, "algorithm": a.name, "seed": seed, "metric": a.metric}
            yield row | {"value": float(value), "score": float(score)}


def ends(name: str, e: Estimate) -> Row:
    return {name: float(e.value), f"{name}_low": float(e.low), f"{name}_high": float(e.high)}


def score_row(name: str, scores: Sequence[Array], rng: np.random.Generator) -> Row:
    row = {"algorithm": name, "tasks": len(scores), "runs": sum(map(len, scores))}
    estimates = aggregate(scores, rng)
    for statistic in AGGREGATES:
        row |= ends(statistic, estimates[statistic])
    return row


def profile_rows(scores: dict[str, list[Array]], rng: np.random.Generator) -> Iterator[Row]:
    every = np.concatenate([x for parts in scores.values() for x in parts])
    low, high = max(LOWEST, min(0.0, float(every.min()))), max(1.0, float(every.max()))
    thresholds = np.linspace(low, high, THRESHOLDS)
    for name, parts in scores.items():
        e = profile(parts, thresholds, rng)
        for score, *shares in zip(thresholds, e.value, e.low, e.high, strict=True):
            share, least, most = map(float, shares)
            row = {"algorithm": name, "score": float(score)}
            yield row | {"share": share, "low": least, "high": most}


# ---------------------------------------------------------------- pairs of algorithms

Seeded = list[dict[int, float]]  # of each task, final values by seed


def scored(tasks: Sequence[Task], name: str, scales: dict[str, Scale]) -> Seeded:
    """The scores of an algorithm."""
    found = []
    for task in tasks:
        a = next(a for a in task.algorithms if a.name == name)
        scores = scales[task.name](a.final)
        found.append(dict(zip(a.seeds, map(float, scores), strict=True)))
    return found


def task_pairs(task: Task, baseline: str, rng: np.random.Generator) -> list[Row]:
    """Pairs of algorithms on one task, in the metric's unit; of one tag, never of two."""
    values = {
        a.name: [dict(zip(a.seeds, map(float, a.final), strict=True))] for a in task.algorithms
    }
    tag = {a.name: a.metric for a in task.algorithms}
    compared = [(x, y) for x, y in pairs(list(values), baseline) if tag[x] == tag[y]]
    rows = pair_rows(compared, values, -1.0 if task.falling else 1.0, rng)
    return [{"task": task.name} | row for row in rows]


def pair_rows(
    compared: Sequence[tuple[str, str]],
    values: dict[str, Seeded],
    sign: float,
    rng: np.random.Generator,
) -> list[Row]:
    """Each pair's difference on the seeds that both have, and how often the first is better.

    What differs is a seed's mean over tasks, on seeds that both have on every task.

    Args:
        sign: 1 where more is better, -1 where less is.
    """
    rows: list[Row] = []
    for x, y in compared:
        shared = set.intersection(*map(set, [*values[x], *values[y]]))
        both = list(zip(values[x], values[y], strict=True))
        d = difference([np.mean([a[s] - b[s] for a, b in both]) for s in sorted(shared)], rng)
        first, second = (
            [sign * np.array(list(seeds.values())) for seeds in values[name]] for name in (x, y)
        )
        better = improvement(first, second, rng)
        row = {"algorithm": x, "less": y, "seeds": d.n} | ends("difference", d.mean)
        rows.append(row | {"p": d.p} | ends("better", better))
    family = holm([row["p"] for row in rows])
    comparisons = int((~np.isnan(family)).sum())
    return [
        row | {"p_holm": float(p), "comparisons": comparisons}
        for row, p in zip(rows, family, strict=True)
    ]
