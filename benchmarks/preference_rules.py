"""Acquisition rules over 39 cells of regime x task, paired by seed; one line of CSV a run.

python benchmarks/preference_rules.py run RULE[,RULE...] --seeds 200-249 --out runs.csv
python benchmarks/preference_rules.py table runs.csv [--rules A,B] [--against C] [--out rules.csv]

`run` skips what the file has already, so that it can be stopped and started again. A rule may carry
settings, ``push-value:alpha=0;random_share=0``. `table` gives the mean difference of the area under
the curve with its standard error, t, the Wilcoxon test, and Holm's correction over the cells; with
--out it writes them, and a picture beside. Several files, separated by commas, are read together.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import redraw
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent))
from preference_tasks import Cell, cells, controls, run

from rlentropy import plots
from rlentropy.files import csv_table

CONTROLS = "controls"  # as --cells: other references than the study's
FIELDS = ("cell", "rule", "seed", "auc", "final", "kl")


def seeds_of(text: str) -> list[int]:
    """Seeds A-B, both included."""
    low, _, high = text.partition("-")
    return list(range(int(low), int(high or low) + 1))


def plan_of(rule: str) -> tuple[str, dict[str, Any]]:
    """A rule's name, and its settings as they stand after a colon."""
    name, _, settings = rule.partition(":")
    plan: dict[str, Any] = {}
    for part in filter(None, settings.split(";")):
        key, _, value = part.partition("=")
        numbers = tuple(float(x) for x in value.split(","))
        plan[key] = numbers if key == "prior_scales" else numbers[0]
    return name, plan


def one(job: tuple[Cell, str, int]) -> dict[str, Any]:
    cell, rule, seed = job
    name, plan = plan_of(rule)
    return {"cell": cell.name, "rule": rule, "seed": seed, **run(cell, name, seed, **plan)}


def read(path: Path) -> list[dict[str, str]]:
    if "," in str(path):
        return [row for part in str(path).split(",") for row in read(Path(part))]
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def simulate(
    rules: list[str], seeds: list[int], out: Path, only: str = "", processes: int = 1
) -> None:
    """Run what the file does not have yet, seed by seed, all rules of a cell side by side."""
    done = {(row["cell"], row["rule"], row["seed"]) for row in read(out)}
    wanted = [cell for cell in cells() if only in cell.name]
    if only == CONTROLS:
        wanted = controls()
    jobs = [(cell, rule, seed) for seed in seeds for cell in wanted for rule in rules]
    jobs = [job for job in jobs if (job[0].name, job[1], str(job[2])) not in done]
    out.parent.mkdir(parents=True, exist_ok=True)
    new = not out.exists()
    with out.open("a", newline="") as file, ProcessPoolExecutor(processes) as pool:
        writer = csv.DictWriter(file, FIELDS)
        if new:
            writer.writeheader()
        for row in pool.map(one, jobs, chunksize=4):
            writer.writerow(row)
            file.flush()


def holm(p: list[float]) -> list[float]:
    """Holm's adjusted p values."""
    order, adjusted, largest = np.argsort(p), np.empty(len(p)), 0.0
    for rank, k in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[k]))
        adjusted[k] = largest
    return adjusted.tolist()


def summary(path: Path, rule: str, against: str) -> list[dict[str, Any]]:
    """Of each cell: the paired difference of a rule and another."""
    areas: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for row in read(path):
        areas[row["cell"], row["rule"]][row["seed"]] = float(row["auc"])
    rows: list[dict[str, Any]] = []
    for cell in cells() + controls():
        mine, other = areas[cell.name, rule], areas[cell.name, against]
        both = sorted(set(mine) & set(other))
        if len(both) < 2:
            continue
        d = np.array([mine[s] - other[s] for s in both])
        error = float(d.std(ddof=1) / np.sqrt(len(d)))
        rows.append({
            "cell": cell.name, "seeds": len(d), "level": np.mean([other[s] for s in both]),
            "difference": d.mean(), "error": error, "t": d.mean() / error if error else np.nan,
            "p": stats.wilcoxon(d).pvalue if d.any() else 1.0, "wins": int((d > 0).sum()),
        })  # fmt: skip
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["holm"] = p
    return rows


def show(path: Path, rules: list[str], against: str) -> None:
    for rule in rules:
        rows = summary(path, rule, against)
        print(f"\n{rule} - {against}")
        for r in rows:
            print(
                f"{r['cell']:44s} n {r['seeds']:3d} {r['level']:6.3f} {r['difference']:+.3f} "
                f"({r['error']:.3f}) t {r['t']:5.1f} Holm {r['holm']:.3f} wins {r['wins']}"
            )
        above = sum(r["t"] > 3.0 for r in rows)
        below = sum(r["t"] < -3.0 for r in rows)
        print(f"t > 3 in {above} of {len(rows)} cells, t < -3 in {below}")


def write(path: Path, rules: list[str], against: str, out: Path) -> None:
    """The summary as a CSV, and its differences with two standard errors as a PNG."""
    tables = {rule: summary(path, rule, against) for rule in rules}
    rows = [{"rule": rule, **row} for rule in rules for row in tables[rule]]
    for row in rows:
        row |= {k: f"{row[k]:.4g}" for k in ("level", "difference", "error", "t", "p", "holm")}
    out.write_bytes(csv_table(rows))
    plots.save(redraw.cells(redraw.read(out), against), out.with_suffix(""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("run", "table"))
    parser.add_argument("what", help="rules, separated by commas, or a CSV file")
    parser.add_argument("--seeds", default="200-224")
    parser.add_argument("--cells", default="", help="a part of their names, or controls")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rules", default="")
    parser.add_argument("--against", default="random")
    options = parser.parse_args()
    if options.action == "run":
        rules = options.what.split(",")
        out = options.out or Path("preference_rules.csv")
        simulate(rules, seeds_of(options.seeds), out, options.cells, options.processes)
    else:
        path = Path(options.what)
        names = sorted({row["rule"] for row in read(path)} - {options.against})
        rules = options.rules.split(",") if options.rules else names
        show(path, rules, options.against)
        if options.out is not None:
            write(path, rules, options.against, options.out)


if __name__ == "__main__":
    main()
