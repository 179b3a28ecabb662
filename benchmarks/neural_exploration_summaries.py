"""Tables and pictures of the runs of neural_exploration.py."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import redraw

from rlentropy import plots
from rlentropy.exploration.features import Features, features_of
from rlentropy.files import replace_file
from rlentropy.intervals import Estimate, estimate, on_common_grid
from rlentropy.neural.episodes import Player
from rlentropy.runs.policies import load
from rlentropy.runs.reading import Run, load_run
from rlentropy.wrappers import make_env

TAGS = ("mixture_entropy", "last_iterate_entropy", "knn_entropy", "visit_entropy", "cells_visited")
FIGURES = (
    *("mixture_value", "last_iterate_value", "knn_entropy", "visit_entropy", "episode_value"),
    *("cells_visited", "cells_seen", "env_steps", "cpu_seconds"),
)
EPISODES = 100  # of a heat map
NONE = Estimate(*np.full(3, np.nan))
Row = dict[str, Any]
Arms = dict[str, list[Run]]


def mean_of(values: Any) -> Estimate:
    return estimate(values, "mean", np.random.default_rng(0))


def numbers(row: Row) -> Row:
    return {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()}


def write(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(numbers, rows))


def finished(runs: Path, tasks: Iterable[str]) -> dict[str, Arms]:
    """Task → arm → its finished runs, by seed."""
    found: dict[str, Arms] = {}
    for task in tasks:
        arms: Arms = defaultdict(list)
        for cost in sorted((runs / task).glob("*/seed*/cost.json")):
            arms[cost.parent.parent.name].append(load_run(cost.parent))
        if arms:
            found[task] = dict(arms)
    return found


# ---------------------------------------------------------------- tables


@dataclass(frozen=True)
class Line:
    """A curve over seeds, as `plots.curves` draws it."""

    name: str
    steps: Any
    band: Estimate
    slope: Estimate = NONE
    from_step: float = 0.0


def line(arm: str, runs: list[Run], tag: str) -> Line:
    steps, values = on_common_grid([run.curves[f"eval/{tag}"] for run in runs])
    return Line(arm, steps, mean_of(values))


def curve_rows(task: str, arms: Arms) -> list[Row]:
    rows = []
    for arm, runs in arms.items():
        for tag in TAGS:
            curve = line(arm, runs, tag)
            band = curve.band
            for step, *values in zip(curve.steps, band.value, band.low, band.high, strict=True):
                place = {"task": task, "arm": arm, "tag": tag, "seeds": len(runs)}
                ends = dict(zip(("mean", "low", "high"), map(float, values), strict=True))
                rows.append({**place, "step": int(step), **ends})
    return rows


def figures_of(run: Run) -> Row:
    cost = json.loads((run.folder / "cost.json").read_text())
    seen = {"cells_seen": run.curves["eval/cells_visited"][1][-1]}
    return {name: float((run.summary | seen | cost)[name]) for name in FIGURES}


def final_rows(task: str, arms: Arms) -> list[Row]:
    """Each seed, and over seeds the mean, its interval, and the least."""
    rows = []
    for arm, runs in arms.items():
        of_seeds = {str(run.summary["seed"]): figures_of(run) for run in runs}
        bands = {k: mean_of([row[k] for row in of_seeds.values()]) for k in FIGURES}
        for name in ("value", "low", "high"):
            of_seeds["mean" if name == "value" else name] = {
                k: float(getattr(band, name)) for k, band in bands.items()
            }
        of_seeds["least"] = {k: min(figures_of(run)[k] for run in runs) for k in FIGURES}
        rows += [{"task": task, "arm": arm, "seed": seed, **row} for seed, row in of_seeds.items()]
    return rows


def table(rows: Sequence[Row]) -> str:
    """Final rows in Markdown: means with intervals over seeds, and the least."""
    found: dict[tuple[str, str], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        found[row["task"], row["arm"]][row["seed"]] = row
    lines = ["| task | arm | seeds | mixture | least | last iterate | least | k-NN | CPU s |"]
    lines.append("|---|---|--:|---|--:|---|--:|---|--:|")
    for (task, arm), of in found.items():
        shown = [str(sum(seed.isdigit() for seed in of))]
        for k in ("mixture_value", "last_iterate_value", "knn_entropy"):
            mean, low, high = (of[row][k] for row in ("mean", "low", "high"))
            shown.append(f"{mean:.2f} [{low:.2f}, {high:.2f}]")
            if k != "knn_entropy":
                shown.append(f"{of['least'][k]:.3f}")
        shown.append(f"{of['mean']['cpu_seconds']:.0f}")
        lines.append(f"| {task} | {arm} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def goal_rows(runs: Path) -> list[Row]:
    """Success over seeds; where no step of the data reaches the goal, it is 0."""
    success: dict[tuple[str, ...], list[float]] = defaultdict(list)
    reached: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for path in sorted((runs / "goals").glob("*/*/seed*/reached.json")):
        task, giver = path.parts[-4:-2]
        for goal, times in json.loads(path.read_text()).items():
            returns = {} if times else {"rfzi": 0.0}  # there is nothing to learn
            for summary in sorted(path.parent.glob(f"{goal}-*/summary.json")):
                learner = summary.parent.name.rpartition("-")[2]
                returns[learner] = json.loads(summary.read_text())["mean_return"]
            for learner, value in returns.items():
                success[task, goal, giver, learner].append(value)
                reached[task, goal, giver, learner].append(times)
    rows = []
    for place, values in success.items():
        band, names = mean_of(values), ("task", "goal", "data", "learner")
        ends = {"success": band.value, "low": band.low, "high": band.high, "least": min(values)}
        times = {"seeds": len(values), "reached": float(np.mean(reached[place]))}
        row = dict(zip(names, place, strict=True)) | times
        rows.append(row | {k: float(v) for k, v in ends.items()})
    return rows


# ---------------------------------------------------------------- pictures


def visits_of(run: Run) -> tuple[Features, Any]:
    """Visits of the first two features by fresh episodes of a run's mixture."""
    env = make_env(run.summary["env_id"], run.summary["env_kwargs"], unlimited=False)
    features, T = features_of(env), int(run.summary["horizon"])
    policy, rng = load(run.folder, env, True), np.random.default_rng(0)
    player = Player(env, EPISODES, T)
    played = player.play(policy, rng.integers(2**31, size=EPISODES), rng)
    player.close()
    seen = played.observations[:, 1:][played.real]
    cells = features.cells(features.points(seen))
    counts = features.shown(np.bincount(cells, minlength=features.num_cells))
    return features, counts.reshape(features.bins[:2]).T[::-1]


def maps(task: str, arms: Arms, out: Path) -> None:
    """What the first seed's mixture visits, side by side."""
    panels = [(arm, visits_of(runs[0])[1]) for arm, runs in arms.items()]
    replace_file(out / f"{task}-visits.png", plots.png(plots.heat_maps(panels)))


def summarise(runs: Path, out: Path, tasks: Iterable[str]) -> None:
    """All tables and pictures that there are finished runs for."""
    out.mkdir(parents=True, exist_ok=True)
    found = finished(runs, tasks)
    if found:
        write(out / "curves.csv", [row for pair in found.items() for row in curve_rows(*pair)])
        rows = [row for pair in found.items() for row in final_rows(*pair)]
        write(out / "final.csv", rows)
        (out / "final.md").write_text(table(rows))
    if rows := goal_rows(runs):
        write(out / "goals.csv", rows)
    redraw.neural(out)
    for task, arms in found.items():
        maps(task, arms, out)
