"""Evaluate the policies of finished runs: `rlentropy.runs.scores` in tables, files and pictures.

The area under a robustness curve is the mean of the curve over the grid, by the trapezoid rule.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Iterator, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from rlentropy import plots
from rlentropy.commands.console import aligned
from rlentropy.errors import InputError, whole
from rlentropy.files import csv_table, replace_file, writing
from rlentropy.intervals import estimate
from rlentropy.perturbations.grids import Grid
from rlentropy.plots.style import Format, known_formats
from rlentropy.runs import scores
from rlentropy.runs.reading import find_folders
from rlentropy.runs.scores import Band, Curve
from rlentropy.runs.summaries import read_summary

Row = dict[str, Any]


@dataclass(frozen=True)
class Config:
    """Scores the policies of finished runs, also over grids of perturbations.

    Use it to see how policies hold when the world changes: tables, CSV and pictures, of exact
    values where the model is known, else of returns.

    Example::

        rlentropy evaluate --run runs/cartpole --perturb force_mag=5:15:5
    """

    run: tuple[str, ...] = ()  # run folders, folders that hold some, or quoted globs (required)
    env_id: str = ""  # where to evaluate; default: the environment of the runs
    env_kwargs: str = ""  # JSON object of its keyword arguments; default: those of the runs
    episodes: int = 20  # of each run at each point of the grid, >= 1
    horizon: int | None = None  # steps an episode; default: the runs', else the time limit
    # NAME=LO:HI:STEP, both ends included; repeat it for several. NAME is a parameter of the
    # environment (`rlentropy envs ID` lists them), or any number among its keywords, or attr.PATH,
    # any among its attributes. The numbers are values in its own unit: force_mag=5:15:5 is 5, 10,
    # 15 N. With an x they are multiples of the nominal value: force_mag=x0.5:1.5:0.5. With a known
    # model NAME may be a risk measure: kl-ball=0:0.6:0.1
    perturb: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    mixture: bool = False  # evaluate the mixture that a run played, one policy an episode
    seed: int = 0  # of the episodes, >= 0
    out: Path | None = None  # folder of the results; default: evaluation in the first run's folder
    format: tuple[Format, ...] = ("png",)  # of the pictures
    quiet: bool = False  # print nothing but errors

    def __post_init__(self) -> None:
        if not self.run:
            raise InputError("run must name at least one run folder, got none")
        whole("episodes", self.episodes, 1)
        if self.horizon is not None:
            whole("horizon", self.horizon, 1)
        whole("seed", self.seed, 0)
        known_formats(self.format)


def run(config: Config) -> int:
    """Evaluate, write and print; the exit code.

    Raises:
        InputError: no finished runs, a policy that doesn't suit the environment, or a perturbation
            that it doesn't allow; nothing is evaluated then.
    """
    grids = [Grid.parse(text) for text in config.perturb] or [Grid()]
    if len({grid.name for grid in grids}) < len(grids):
        raise InputError(f"perturb must name each parameter once, got {', '.join(config.perturb)}")
    folders = list(find_folders(config.run))
    summaries = [read_summary(folder) for folder in folders]
    asked = (config.env_id, config.env_kwargs, config.horizon)
    nominal = scores.nominal_env(*asked, summaries, folders)
    agents = scores.read_agents(nominal, summaries, folders, config.mixture)
    grids = [scores.resolved(grid, nominal, agents) for grid in grids]

    rng = np.random.default_rng([config.seed, 1])
    curves: list[Curve] = []
    for grid in grids:
        if not config.quiet:
            print(f"{grid}: {counted(grid.values.size, 'value')}, {counted(len(agents), 'run')}")
        curves += scores.scored(grid, nominal, agents, config.episodes, config.seed)
    rows = [row for curve in curves for row in curve_rows(curve, rng)]
    bands = [scores.band_of(group, rng) for group in scores.by_algorithm(curves)]
    out = config.out or folders[0] / "evaluation"
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        members: dict[str, list[str]] = {}
        for agent in agents:
            members.setdefault(agent.algorithm, []).append(str(agent.folder))
        record = asdict(nominal) | {"episodes": config.episodes, "seed": config.seed}
        record |= {"perturb": config.perturb, "mixture": config.mixture}
        write(out, rows, bands, record | {"runs": members, "argv": shlex.join(sys.argv)})
        draw(out, bands, config, {agent.gamma for agent in agents})
    if not config.quiet:
        print(report(rows, bands))
        print(f"written to {out}")
    return 0


# ---------------------------------------------------------------- rows of tables


def curve_rows(curve: Curve, rng: np.random.Generator) -> Iterator[Row]:
    """The rows of evaluation.csv; exact values have no deviation, length or episodes."""
    n, exact = len(curve.samples), curve.lengths is None
    means = estimate(curve.samples, "mean", rng)
    for k, value in enumerate(curve.grid.values.tolist()):
        mean = float(means.value[k])
        yield {
            "run": str(curve.agent.folder),
            "label": curve.agent.algorithm,
            "seed": curve.agent.seed,
            "perturbation": curve.grid.name or "none",
            "value": value,
            **curve.grid.scale,
            "metric": curve.metric,
            "mean": mean,
            "low": mean if exact else float(means.low[k]),
            "high": mean if exact else float(means.high[k]),
            "std": float(curve.samples[:, k].std(ddof=1)) if n > 1 else math.nan,
            "length": math.nan if curve.lengths is None else float(curve.lengths[:, k].mean()),
            "episodes": 0 if exact else n,
        }


def band_rows(b: Band) -> Iterator[Row]:
    """The rows of bands.csv."""
    head = {"label": b.algorithm, "seeds": b.seeds, "perturbation": b.grid.name or "none"}
    columns = (b.grid.values, b.band.value, b.band.low, b.band.high)
    for value, mean, low, high in zip(*(c.tolist() for c in columns), strict=True):
        row = head | {"value": value} | b.grid.scale
        yield row | {"metric": b.metric, "mean": mean, "low": low, "high": high}


def area_row(b: Band) -> Row:
    """A row of areas.csv."""
    worst = int(b.band.value.argmin())
    return {
        "label": b.algorithm,
        "seeds": b.seeds,
        "perturbation": b.grid.name,
        "from": float(b.grid.values[0]),
        "to": float(b.grid.values[-1]),
        **b.grid.scale,
        "metric": b.metric,
        "area": float(b.area.value),
        "low": float(b.area.low),
        "high": float(b.area.high),
        "worst": float(b.band.value[worst]),
        "worst_at": float(b.grid.values[worst]),
    }


# ---------------------------------------------------------------- what is written and printed


def write(out: Path, rows: Sequence[Row], bands: Sequence[Band], record: Row) -> None:
    """CSV files and evaluation.json.

    Replaces those of an earlier evaluation, also where this one has no such file, and its pictures.
    """
    pictures = [f"*-{end}.{kind}" for end in ("return", "value") for kind in plots.FORMATS]
    for stale in (*pictures, "areas.csv", "evaluation.json"):
        for path in out.glob(stale):
            path.unlink()
    replace_file(out / "evaluation.csv", csv_table(rows))
    replace_file(out / "bands.csv", csv_table([row for b in bands for row in band_rows(b)]))
    if areas := [area_row(b) for b in bands if b.grid.name]:
        replace_file(out / "areas.csv", csv_table(areas))
    replace_file(out / "evaluation.json", (json.dumps(record, indent=2) + "\n").encode())


def draw(out: Path, bands: Sequence[Band], config: Config, gammas: Set[float | None]) -> None:
    """A picture for each grid and metric."""
    for name, metric in dict.fromkeys((b.grid.name, b.metric) for b in bands if b.grid.name):
        shown = [b for b in bands if (b.grid.name, b.metric) == (name, metric)]
        xlabel = radius_of(name) if name in scores.measures() else shown[0].grid.axis
        figure = plots.robustness(shown, named(metric, gammas), xlabel, note(shown, config))
        plots.save(figure, out / f"{name}-{metric.replace(' ', '-')}", config.format)


def named(metric: str, gammas: Set[float | None]) -> str:
    """What an axis of a metric is called."""
    if metric == scores.RETURN:
        return "return of an episode"
    discounts = [f"{gamma:g}" for gamma in gammas if gamma is not None]
    if len(discounts) == len(gammas) == 1:
        return f"{metric} (discount {discounts[0]})"
    return f"{metric} of an episode" if not discounts else metric


def radius_of(measure: str) -> str:
    """What an axis of a risk measure's parameter is called."""
    family, _, kind = measure.rpartition("-")
    if kind == "ball":
        unit = " (nats)" if family in ("kl", "burg") else ""
        return f"radius of the {family} ball{unit}"
    return f"weight of the {family} penalty" if kind == "penalty" else f"parameter of {measure}"


def note(bands: Sequence[Band], config: Config) -> str:
    """What lines and bands are."""
    seeds, exact = [b.seeds for b in bands], bands[0].metric != scores.RETURN
    if max(seeds) > 1:
        return plots.over_seeds("mean", seeds)
    one = "one run each" if len(bands) > 1 else "one run"
    episodes = plots.over_seeds("mean", [config.episodes], "episode")
    return f"{one}, exact values" if exact else f"{one}: {episodes}"


def report(rows: Sequence[Row], bands: Sequence[Band]) -> str:
    """In the nominal environment the scores of runs and algorithms, else areas under curves."""
    if all(b.grid.name for b in bands):
        heads = ("perturbation", "metric", "label", "seeds", "mean over grid [95 %]", "worst", "at")
        lines = [heads]
        for b, r in zip(bands, map(area_row, bands), strict=True):
            worst = (number(r["worst"]), number(r["worst_at"]))
            head = (str(b.grid), r["metric"], r["label"], str(r["seeds"]))
            lines.append((*head, interval(r, "area"), *worst))
        return aligned(lines)
    lines = [("label", "seed", "metric", "mean [95 %]", "std", "length", "episodes")]
    for r in rows:
        sizes = (number(r["std"]), number(r["length"]), str(r["episodes"] or "exact"))
        lines.append((r["label"], str(r["seed"]), r["metric"], interval(r, "mean"), *sizes))
    over_seeds = [("label", "seeds", "metric", "mean [95 %]")]
    for r in (row for b in bands if b.seeds > 1 for row in band_rows(b)):
        over_seeds.append((r["label"], str(r["seeds"]), r["metric"], interval(r, "mean")))
    return "\n\n".join(aligned(part) for part in (lines, over_seeds) if len(part) > 1)


def counted(n: int, name: str) -> str:
    return f"{n} {name}{'s' * (n > 1)}"


def number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.5g}"


def interval(row: Row, name: str) -> str:
    """A number with its interval, where it has one."""
    if math.isnan(row["low"]) or row["low"] == row["high"]:
        return number(row[name])
    return f"{number(row[name])} [{number(row['low'])}, {number(row['high'])}]"
