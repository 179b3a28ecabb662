"""The tables of one task: final values, costs of targets, curves over seeds, slopes.

Conventions:
    - An interval is a 95 % percentile bootstrap over seeds (`rlentropy.intervals`).
    - A run reaches a target at its first evaluation at or beyond it, so times are rounded up to the
      schedule of evaluations; an interval of them begins at the evaluation before, where the target
      was still ahead. A run that ends without is censored at its end, and medians are
      Kaplan-Meier's: nothing is dropped, and a median beyond the budget is reported as such.
    - Curves of seeds whose steps differ are interpolated onto one grid, linearly in log(1 + step).
    - A slope is the least-squares slope of log(gap) against log(step) over the last decades, where
      that line runs within 5 % of every interval of the curve; where it doesn't there is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from rlentropy.files import plain
from rlentropy.intervals import (
    Estimate,
    Statistic,
    estimate,
    median_time,
    off_the_line,
    on_common_grid,
    slope,
)
from rlentropy.runs.comparable import Algorithm, Task
from rlentropy.runs.reading import Run
from rlentropy.types import Array

STRAIGHT = 0.05  # relative distance at which a curve is still a line

Row = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """A tag over seeds on their common grid of steps."""

    name: str
    steps: Array  # (T,)
    band: Estimate  # (T,)
    slope: Estimate  # NaN where the curve isn't a line
    from_step: float  # where the fit of the slope begins
    why: str  # why there is no slope; empty where there is one


@dataclass(frozen=True)
class Compared:
    """A task with its tables, by name."""

    task: Task
    curves: list[Curve]
    tables: dict[str, list[Row]]  # final, reach, slopes, curves


def compare_task(
    task: Task,
    targets: Sequence[float],
    statistic: Statistic,
    decades: float,
    rng: np.random.Generator,
) -> Compared:
    """Every table of a task.

    Args:
        targets: values to reach; empty: some that fit.
        decades: of steps, up to the last, that slopes are of.
    """
    fitting = fitting_gaps if task.falling else fitting_values
    targets = targets or fitting(task.algorithms)
    curves = [curve_of(a, a.metric, statistic, rng, decades) for a in task.algorithms]
    tables = {
        "final": [final_row(a, statistic, rng) for a in task.algorithms],
        "reach": [reach_row(a, g, task.falling, rng) for g in targets for a in task.algorithms],
        "slopes": [slope_row(c) for c in curves] if task.falling else [],
        "curves": [row for c in curves for row in curve_rows(c)],
    }
    named = {name: [{"task": task.name} | row for row in rows] for name, rows in tables.items()}
    return Compared(task, curves, named)


# ---------------------------------------------------------------- targets


def fitting_gaps(algorithms: Sequence[Algorithm]) -> tuple[float, ...]:
    """Round values, falling, between where runs typically begin and the best of them ends."""
    curves = [run.curves[a.metric][1] for a in algorithms for run in a.runs]
    high = float(np.median([values[0] for values in curves]))
    low = max(min(float(values.min()) for values in curves), 1e-6 * max(high, 1e-300))
    if not 0 < low <= high:
        return ()
    inside: list[float] = []
    for mantissas in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        inside = [float(f"{m}e{k}") for k in exponents for m in mantissas]
        inside = sorted((g for g in inside if low <= g <= high), reverse=True)
        if len(inside) >= 3:
            break
    return tuple(inside)


def fitting_values(algorithms: Sequence[Algorithm]) -> tuple[float, ...]:
    """Round values between where runs typically begin and the best they come to; not of returns."""
    known = all(a.metric.endswith(("entropy", "eval/normalised_return")) for a in algorithms)
    curves = [run.curves[a.metric][1] for a in algorithms for run in a.runs]
    low = float(np.median([values[0] for values in curves]))
    high = max(float(values.max()) for values in curves)
    if not (known and 1e-9 * max(abs(low), abs(high)) < high - low < 1e300):
        return ()
    size = math.floor(math.log10(high - low))
    for step in (Decimal(m).scaleb(size - k) for k in (0, 1) for m in (5, 2, 1)):
        first, last = math.floor(low / float(step)) + 1, math.floor(high / float(step))
        if last - first >= 2:
            return tuple(float(step * n) for n in range(first, last + 1))
    return ()


def reach(run: Run, tag: str, target: float, falling: bool) -> tuple[float, float, bool]:
    """The evaluation before a run reached a target, that at which it had, and whether it did.

    The first is 0 where there is none before. Of a run that never does both are its end.
    """
    steps, values = run.curves[tag]
    there = values <= target if falling else values >= target
    if not there.any():
        return float(steps[-1]), float(steps[-1]), False
    k = int(there.argmax())
    return float(steps[k - 1]) if k else 0.0, float(steps[k]), True


def spacing(algorithms: Sequence[Algorithm]) -> float:
    """The factor from one evaluation to the next, typically; 1 where there is a single one."""
    factors = []
    for a in algorithms:
        steps = a.runs[0].curves[a.metric][0]
        factors.append(steps[steps > 0][1:] / steps[steps > 0][:-1])
    every = np.concatenate(factors)
    return float(np.median(every)) if every.size else 1.0


# ---------------------------------------------------------------- rows


def final_row(a: Algorithm, statistic: Statistic, rng: np.random.Generator) -> Row:
    last = estimate(a.final, statistic, rng)
    row = {"algorithm": a.name, "metric": a.metric, "seeds": len(a.runs)}
    row |= {statistic: float(last.value), "low": float(last.low), "high": float(last.high)}
    for name in a.costs:
        row[name] = float(np.median([run.summary[name] for run in a.runs]))
    return row


def reach_row(a: Algorithm, target: float, falling: bool, rng: np.random.Generator) -> Row:
    """Median steps and episodes until a target; infinite where it lies beyond the budget."""
    before, steps, reached = map(
        np.array, zip(*(reach(r, a.metric, target, falling) for r in a.runs), strict=True)
    )
    spent = {a.costs[-1]: (before, steps)}
    if "episodes" in a.costs:
        starts, ends = (
            np.array([r.episodes_at(t) for r, t in zip(a.runs, times, strict=True)])
            for times in (before, steps)
        )
        spent = {"episodes": (starts, ends)} | spent
    row = {"algorithm": a.name, "gap": target, "seeds": len(a.runs), "reached": int(reached.sum())}
    for name, (earlier, times) in spent.items():
        median = median_time(times, reached, rng, earlier)
        row[name] = float(median.value)
        row[f"{name}_low"], row[f"{name}_high"] = float(median.low), float(median.high)
        row[f"{name}_followed"] = float(times.max())
    return row


def curve_of(
    a: Algorithm, tag: str, statistic: Statistic, rng: np.random.Generator, decades: float
) -> Curve:
    steps, values = on_common_grid([run.curves[tag] for run in a.runs])
    from_step = float(steps[-1]) / 10**decades
    band = estimate(values, statistic, rng)
    if why := crooked(steps, band, from_step):
        none = np.array(math.nan)
        return Curve(a.name, steps, band, Estimate(none, none, none), from_step, why)
    fit = slope(steps, values, from_step, statistic, rng)
    return Curve(a.name, steps, band, fit, from_step, "")


def crooked(steps: Array, band: Estimate, from_step: float) -> str:
    """Why a curve has no slope; empty where it is a line."""
    off = off_the_line(steps, band, from_step)
    if math.isnan(off):
        return "fewer than three evaluations"
    if math.isinf(off):
        return "the gap comes to 0"
    return "" if off <= STRAIGHT else f"no line: {off:.0%} off the fit" if off < 10 else "no line"


def slope_row(c: Curve) -> Row:
    row = {"algorithm": c.name, "slope": float(c.slope.value)}
    row |= {"low": float(c.slope.low), "high": float(c.slope.high)}
    return row | {"from_step": c.from_step, "to_step": float(c.steps[-1]), "why_none": c.why}


def curve_rows(c: Curve) -> Iterator[Row]:
    columns = (c.steps, c.band.value, c.band.low, c.band.high)
    for step, value, low, high in zip(*columns, strict=True):
        yield {"algorithm": c.name, "step": step, "value": value, "low": low, "high": high}


# ---------------------------------------------------------------- pictures of visits


def visits_of(algorithms: Sequence[Algorithm]) -> list[tuple[str, Array]]:
    """Mean visits over seeds on the grid of states, for the algorithms whose runs recorded them."""
    panels = []
    for a in algorithms:
        recorded = [r.summary for r in a.runs if r.summary.get("grid_shape")]
        recorded = [summary for summary in recorded if any(summary["state_visits"])]
        shapes = {tuple(s["grid_shape"]) for s in recorded}
        if recorded and len(shapes) == 1:
            mean = np.mean([s["state_visits"] for s in recorded], axis=0)
            panels.append((plain(a.name), mean.reshape(shapes.pop())))
    return panels
