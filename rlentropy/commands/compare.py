"""Compare algorithms over seeds: tables, CSV, pictures, and mean-with-band curves for TensorBoard.

Reads ``metrics.jsonl`` and ``summary.json`` of finished runs, and nothing else. Runs with the same
`label` (the command where none was given) are the seeds of one algorithm.

Conventions:
    - An interval is a 95 % percentile bootstrap over seeds (`rlentropy.intervals`).
    - A run reaches a gap at its first evaluation at or below it, so times are rounded up to the
      schedule of evaluations. A run that ends above the gap is censored at its end, and medians are
      Kaplan-Meier's: nothing is dropped, and a median beyond the budget is reported as such.
    - Curves of seeds whose steps differ are interpolated onto one grid, linearly in log(1 + step).
    - A slope is the least-squares slope of log(gap) against log(step) over the last decades.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from tyro.conf import Positional

from rlentropy import plots
from rlentropy.commands.console import aligned
from rlentropy.errors import InputError, whole
from rlentropy.files import csv_table, file_names, plain, replace_file, writing
from rlentropy.intervals import (
    Estimate,
    Statistic,
    estimate,
    median_time,
    on_common_grid,
    slope,
)
from rlentropy.runs.reading import COMPARABLE, Run, accepted, read_runs
from rlentropy.types import Array

METRICS = (  # what is compared where --metric is absent: the first row of which every run has one
    ("eval/mixture_gap", "eval/gap"),
    ("eval/mixture_entropy",),
    ("eval/visitation_entropy",),
    ("eval/trajectory_entropy",),
    ("eval/return",),
)

LONGEST = 120  # characters of an algorithm's name

Row = dict[str, Any]


@dataclass(frozen=True)
class Config:
    """Tables, pictures and TensorBoard curves of algorithms, from the folders of their runs."""

    runs: Positional[tuple[str, ...]] = ()  # run folders, folders that hold some, or quoted globs
    out: Path = Path("results/compare")  # where the tables and pictures go; replaces those there
    # tags to compare by, each run by the first it has; default: mixture_gap, gap, else an entropy
    metric: tuple[str, ...] = ()
    gaps: tuple[float, ...] = ()  # values to reach, in the metric's unit; default: some that fit
    statistic: Statistic = "mean"  # over seeds; iqm: interquartile mean
    slope_decades: float = 1.0  # decades of steps, up to the last, that slopes are of
    force: bool = False  # accept runs of different environments, objectives or horizons
    seed: int = 0  # seed of the bootstrap, >= 0
    quiet: bool = False  # print nothing but errors

    def __post_init__(self) -> None:
        if any(not 1e-300 < g < 1e300 for g in self.gaps):
            raise InputError(f"gaps must be > 0 and of a size that can be drawn, got {self.gaps}")
        if not 0 < self.slope_decades <= 300:
            raise InputError(f"slope_decades must be > 0 and <= 300, got {self.slope_decades}")
        whole("seed", self.seed, 0)


NAMES_OF_COSTS = {"env_steps": "environment steps", "updates": "updates", "labels": "labels"}


@dataclass(frozen=True)
class Algorithm:
    """The runs that differ by nothing but their seeds, and the tag they are compared by."""

    name: str
    metric: str
    runs: tuple[Run, ...]

    @property
    def costs(self) -> tuple[str, ...]:
        """What budgets and times are counted in; the last is that of the steps."""
        axis = self.runs[0].axis
        return ("episodes", axis) if axis == "env_steps" else (axis,)

    @property
    def final(self) -> Array:
        """Last value of the metric, (n,)."""
        return np.array([run.curves[self.metric][1][-1] for run in self.runs])


@dataclass(frozen=True)
class Curve:
    """A tag over seeds on their common grid of steps."""

    name: str
    steps: Array  # (T,)
    band: Estimate  # (T,)
    slope: Estimate
    from_step: float  # where the fit of the slope begins


def run(config: Config) -> int:
    """Compare, print and write; the exit code.

    Raises:
        InputError: no comparable runs, or an option out of its range.
    """
    algorithms, refused = read_algorithms(config)
    falling = all(a.metric.endswith("gap") for a in algorithms)
    gaps = config.gaps or (fitting_gaps if falling else fitting_values)(algorithms)
    rng = np.random.default_rng(config.seed)

    curves = [
        curve_of(a, a.metric, config.statistic, rng, config.slope_decades) for a in algorithms
    ]
    tables = {
        "final": [final_row(a, config.statistic, rng) for a in algorithms],
        "reach": [reach_row(a, g, falling, rng) for g in gaps for a in algorithms],
        "slopes": [slope_row(c) for c in curves] if falling else [],
        "curves": [row for c in curves for row in curve_rows(c)],
    }
    with writing(config.out):
        config.out.mkdir(parents=True, exist_ok=True)
        write_outputs(config.out, tables, curves, algorithms, falling)
        write_aggregates(config.out / "aggregate", algorithms, config.statistic, rng)
        record = {
            "argv": shlex.join(sys.argv),
            "statistic": config.statistic,
            "gaps": gaps,
            "metric": {a.name: a.metric for a in algorithms},
            "runs": {a.name: [str(r.folder) for r in a.runs] for a in algorithms},
            "refused": {str(folder): why for folder, why in refused},
        }
        replace_file(config.out / "comparison.json", json.dumps(record, indent=2).encode())
    if not config.quiet:
        print(report(tables, config.statistic))
        aggregate = config.out / "aggregate"
        print(plain(f"written to {config.out}; tensorboard --logdir {aggregate}"))
    return 0


# ---------------------------------------------------------------- which algorithms


def read_algorithms(config: Config) -> tuple[list[Algorithm], list[tuple[Path, str]]]:
    """The algorithms of the runs, and the folders that are refused, which are told, with why.

    Raises:
        InputError: no run is left, or not every run has the metric.
    """
    runs, refused = accepted(read_runs(config.runs), config.force)
    if not runs:
        reasons = "; ".join(f"{folder}: {why}" for folder, why in refused[:3])
        raise InputError(
            f"runs must hold a finished run, got {len(refused)} folders, all refused ({reasons})"
        )
    for folder, why in refused:
        print(plain(f"refused {folder}: {why}"), file=sys.stderr)
    return group(runs, config.metric), refused


def group(runs: list[Run], metrics: Sequence[str]) -> list[Algorithm]:
    """Runs by algorithm, in order of appearance; forced differences become part of the name.

    Raises:
        InputError: runs without any of the metrics.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.label, run.setting), []).append(run)
    choices = [tuple(metrics)] if metrics else METRICS
    shared = [set.intersection(*(set(run.curves) for run in g)) for g in groups.values()]
    tags = next((c for c in choices if all(tags & set(c) for tags in shared)), None)
    if tags is None:
        known = sorted(tag for tag in set.union(*shared) if tag.startswith("eval/"))
        asked = " or ".join(metrics) or "of the usual tags one"
        raise InputError(f"metric must be logged by every run ({', '.join(known)}), got {asked}")
    varying = [k for k in range(len(COMPARABLE)) if len({s[k] for _, s in groups}) > 1]
    names: list[str] = []
    for label, values in groups:
        name = plain(", ".join([label, *(values[k] for k in varying)]), LONGEST)
        others = (f"{name} ({k})" for k in range(2, len(groups) + 2))
        names.append(next(n for n in (name, *others) if n not in names))
    return [
        Algorithm(
            name=name,
            metric=next(tag for tag in tags if tag in logged),
            runs=tuple(sorted(members, key=lambda run: int(run.summary["seed"]))),
        )
        for name, members, logged in zip(names, groups.values(), shared, strict=True)
    ]


# ---------------------------------------------------------------- what is compared


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
    """Of entropies round values, between where runs typically begin and the best they come to."""
    entropies = all(a.metric.endswith("entropy") for a in algorithms)
    curves = [run.curves[a.metric][1] for a in algorithms for run in a.runs]
    low = float(np.median([values[0] for values in curves]))
    high = max(float(values.max()) for values in curves)
    if not (entropies and 1e-9 * max(abs(low), abs(high)) < high - low < 1e300):
        return ()
    size = math.floor(math.log10(high - low))
    for step in (Decimal(m).scaleb(size - k) for k in (0, 1) for m in (5, 2, 1)):
        first, last = math.ceil(low / float(step)), math.floor(high / float(step))
        if last - first >= 2:
            return tuple(float(step * n) for n in range(first, last + 1))
    return ()


def first_reach(run: Run, tag: str, target: float, falling: bool) -> tuple[float, bool]:
    """The step at which a run reached a target, or at which it ended without."""
    steps, values = run.curves[tag]
    there = values <= target if falling else values >= target
    return (float(steps[there.argmax()]), True) if there.any() else (float(steps[-1]), False)


def final_row(a: Algorithm, statistic: Statistic, rng: np.random.Generator) -> Row:
    last = estimate(a.final, statistic, rng)
    row = {"algorithm": a.name, "metric": a.metric, "seeds": len(a.runs)}
    row |= {statistic: float(last.value), "low": float(last.low), "high": float(last.high)}
    for name in a.costs:
        row[name] = float(np.median([run.summary[name] for run in a.runs]))
    return row


def reach_row(a: Algorithm, target: float, falling: bool, rng: np.random.Generator) -> Row:
    """Median steps and episodes until a target; infinite where it lies beyond the budget."""
    steps, reached = map(
        np.array, zip(*(first_reach(r, a.metric, target, falling) for r in a.runs), strict=True)
    )
    spent = {a.costs[-1]: steps}
    if "episodes" in a.costs:
        each = [r.episodes_at(t) for r, t in zip(a.runs, steps, strict=True)]
        spent = {"episodes": np.array(each)} | spent
    row = {"algorithm": a.name, "gap": target, "seeds": len(a.runs), "reached": int(reached.sum())}
    for name, times in spent.items():
        median = median_time(times, reached, rng)
        row[name] = float(median.value)
        row[f"{name}_low"], row[f"{name}_high"] = float(median.low), float(median.high)
        row[f"{name}_followed"] = float(times.max())
    return row


def curve_of(
    a: Algorithm, tag: str, statistic: Statistic, rng: np.random.Generator, decades: float
) -> Curve:
    steps, values = on_common_grid([run.curves[tag] for run in a.runs])
    from_step = float(steps[-1]) / 10**decades
    fit = slope(steps, values, from_step, statistic, rng)
    return Curve(a.name, steps, estimate(values, statistic, rng), fit, from_step)


def slope_row(c: Curve) -> Row:
    row = {"algorithm": c.name, "slope": float(c.slope.value)}
    row |= {"low": float(c.slope.low), "high": float(c.slope.high)}
    return row | {"from_step": c.from_step, "to_step": float(c.steps[-1])}


def curve_rows(c: Curve) -> Iterator[Row]:
    columns = (c.steps, c.band.value, c.band.low, c.band.high)
    for step, value, low, high in zip(*columns, strict=True):
        yield {"algorithm": c.name, "step": step, "value": value, "low": low, "high": high}


# ---------------------------------------------------------------- what is written


def write_outputs(
    out: Path,
    tables: dict[str, list[Row]],
    curves: list[Curve],
    algorithms: list[Algorithm],
    falling: bool,
) -> None:
    """CSV files and pictures; removes those of an earlier comparison that this one lacks."""
    cost = NAMES_OF_COSTS[algorithms[0].costs[-1]]
    pictures = {"curves": plots.curves(curves, axis_label(algorithms), cost, falling)}
    pictures["final"] = plots.final(tables["final"], axis_label(algorithms), falling)
    if tables["reach"]:
        pictures["reach"] = plots.reach(tables["reach"], algorithms[0].costs[-1], cost, falling)
    if panels := visits_of(algorithms):
        pictures["visits"] = plots.heat_maps(panels)
    for name, rows in tables.items():
        path = out / f"{name}.csv"
        path.unlink(missing_ok=True)
        if rows:
            replace_file(path, csv_table(rows))
    for name in ("curves", "final", "reach", "visits"):
        (out / f"{name}.png").unlink(missing_ok=True)
        if name in pictures:
            plots.save(pictures[name], out / name)


def axis_label(algorithms: Sequence[Algorithm]) -> str:
    if all(a.metric.endswith("gap") for a in algorithms):
        unit = "nats" if algorithms[0].runs[0].summary.get("objective") else "reward"
        return f"gap to the exact optimum ({unit})"
    tags = sorted({a.metric.removeprefix("eval/") for a in algorithms})
    unit = " (nats)" if all(tag.endswith("entropy") for tag in tags) else ""
    return " / ".join(tags).replace("_", " ") + unit


def visits_of(algorithms: Sequence[Algorithm]) -> list[tuple[str, Array]]:
    """Mean visits over seeds on the grid of states, for the algorithms whose runs recorded them."""
    panels = []
    for a in algorithms:
        recorded = [r.summary for r in a.runs if r.summary.get("grid_shape")]
        recorded = [summary for summary in recorded if any(summary["state_visits"])]
        shapes = {tuple(s["grid_shape"]) for s in recorded}
        if recorded and len(shapes) == 1:
            mean = np.mean([s["state_visits"] for s in recorded], axis=0)
            panels.append((a.name, mean.reshape(shapes.pop())))
    return panels


def write_aggregates(
    out: Path, algorithms: Sequence[Algorithm], statistic: Statistic, rng: np.random.Generator
) -> None:
    """One TensorBoard run per algorithm: <tag>/mean, /low and /high, and charts of the bands.

    The layout draws each tag of every algorithm in one chart of the Custom Scalars tab. With a
    single seed the band has no width.
    """
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    for stale in out.glob("*/events.out.tfevents.*"):
        stale.unlink()
        if not any(stale.parent.iterdir()):
            stale.parent.rmdir()
    folders = file_names(a.name for a in algorithms)
    for a in algorithms:
        writer = EventFileWriter(str(out / folders[a.name]))
        shared = set.intersection(*(set(run.curves) for run in a.runs))
        tags = sorted(tag for tag in shared if tag.startswith("eval/"))
        writer.add_event(layout_event(tags, statistic))
        for tag in tags:
            steps, values = on_common_grid([run.curves[tag] for run in a.runs])
            band = estimate(values, statistic, rng)
            low, high = (np.where(np.isnan(e), band.value, e) for e in (band.low, band.high))
            for name, series in ((statistic, band.value), ("low", low), ("high", high)):
                for step, value in zip(steps, series, strict=True):
                    writer.add_event(scalar_event(f"{tag}/{name}", value, int(step)))
        writer.close()


def scalar_event(tag: str, value: float, step: int) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    summary = Summary(value=[Summary.Value(tag=tag, simple_value=float(value))])
    return Event(wall_time=time.time(), step=step, summary=summary)


def layout_event(tags: Sequence[str], statistic: Statistic) -> Any:
    """Custom Scalars layout: one margin chart a tag."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.plugins.custom_scalar import layout_pb2, metadata

    charts = []
    for tag in tags:
        series = layout_pb2.MarginChartContent.Series(
            value=f"{tag}/{statistic}", lower=f"{tag}/low", upper=f"{tag}/high"
        )
        margin = layout_pb2.MarginChartContent(series=[series])
        charts.append(layout_pb2.Chart(title=tag, margin=margin))
    title = f"{statistic} over seeds, 95 % interval"
    layout = layout_pb2.Layout(category=[layout_pb2.Category(title=title, chart=charts)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[layout.SerializeToString()])
    value = Summary.Value(
        tag=metadata.CONFIG_SUMMARY_TAG,
        tensor=tensor,
        metadata=metadata.create_summary_metadata(),
    )
    return Event(wall_time=time.time(), step=0, summary=Summary(value=[value]))


# ---------------------------------------------------------------- what is printed


def report(tables: dict[str, list[Row]], statistic: Statistic) -> str:
    """The tables as text."""
    costs = [name for name in ("episodes", *NAMES_OF_COSTS) if name in tables["final"][0]]
    named = [NAMES_OF_COSTS.get(name, name) for name in costs]
    medians = [f"median {name} [95 %]" for name in named]
    lines: dict[str, list[tuple[str, ...]]] = {
        "final": [("algorithm", "metric", "seeds", *named, f"final {statistic} [95 %]")],
        "reach": [("to reach", "algorithm", "reached", *medians)],
        "slopes": [("algorithm", "log-log slope [95 %]", named[-1])],
    }
    for r in tables["final"]:
        last = f"{r[statistic]:.4g} [{r['low']:.4g}, {r['high']:.4g}]"
        budget = (str(r["seeds"]), *(number(r[name]) for name in costs))
        lines["final"].append((r["algorithm"], r["metric"], *budget, last))
    for r in tables["reach"]:
        share, times = f"{r['reached']}/{r['seeds']}", (time_text(r, name) for name in costs)
        lines["reach"].append((f"{r['gap']:g}", r["algorithm"], share, *times))
    for r in tables["slopes"]:
        slope, low, high = (round(r[k], 3) + 0.0 for k in ("slope", "low", "high"))  # no -0.000
        fit = f"{slope:.3f} [{low:.3f}, {high:.3f}]"
        span = f"{number(r['from_step'])} to {number(r['to_step'])}"
        lines["slopes"].append((r["algorithm"], fit, span))
    return "\n\n".join(aligned(rows) for rows in lines.values() if len(rows) > 1)


def number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")


def time_text(row: Row, name: str) -> str:
    """A median and its interval; beyond what was followed they are lower bounds."""
    beyond = f"> {number(row[f'{name}_followed'])}"
    parts = [row[name], row[f"{name}_low"], row[f"{name}_high"]]
    shown = ["-" if math.isnan(p) else beyond if math.isinf(p) else number(p) for p in parts]
    return shown[0] if math.isinf(parts[1]) else f"{shown[0]} [{shown[1]}, {shown[2]}]"
