"""What comparing 250 runs costs, and the statistics across tasks beside rliable's.

python train.py sweep --config results/across/sweep.toml --out results/runs/across    # 25 minutes
python benchmarks/across_tasks.py results/runs/across --out results/across

Writes speed.json: `compare`'s seconds and peak memory in a process of its own, with and without
its page, and the processor's seconds of its statistics alone, median of five. `--rliable PYTHON`, a
Python that has it: the same statistics of the same scores by rliable with as many resamples, its
seconds over ours, and how far the values are apart.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from rlentropy import intervals
from rlentropy.runs.across import compare_across, pairs
from rlentropy.runs.comparable import accepted, tasks_of
from rlentropy.runs.reading import read_runs

MEGABYTE = 1e6
REPEATS = 5

THEIRS = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np
from rliable import library, metrics
given = json.load(sys.stdin)
scores = {name: np.array(x).T for name, x in given["scores"].items()}
names = ("aggregate_iqm", "aggregate_mean", "aggregate_optimality_gap")
began = time.process_time()
values, ends = library.get_interval_estimates(
    scores, lambda s: np.array([getattr(metrics, n)(s) for n in names]), reps=given["reps"]
)
aggregates = time.process_time() - began
library.create_performance_profile(scores, np.array(given["thresholds"]), reps=given["reps"])
profiles = time.process_time() - began - aggregates
wins, _ = library.get_interval_estimates(
    {f"{x} > {y}": [scores[x], scores[y]] for x, y in given["pairs"]},
    metrics.probability_of_improvement, reps=given["reps"],
)
improvement = time.process_time() - began - aggregates - profiles
print(json.dumps({
    "seconds": {"aggregates": aggregates, "profiles": profiles, "improvement": improvement},
    "values": {name: list(v) for name, v in values.items()},
    "improvement": {name: float(v) for name, v in wins.items()},
}))
"""


def command(runs: Path, *options: str) -> dict[str, float]:
    """Seconds and peak memory of a comparison in a process of its own."""
    with tempfile.TemporaryDirectory() as out:
        argv = [sys.executable, "train.py", "compare", str(runs), "--out", out, "--quiet"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        subprocess.run([*argv, *options], check=True)
        wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "peak_megabytes": after.ru_maxrss * 1024 / MEGABYTE,
    }


def timed(statistic: Any) -> float:
    """Median seconds of the process's own time."""
    taken = []
    for _ in range(REPEATS):
        began = time.process_time()
        statistic()
        taken.append(time.process_time() - began)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rliable", default=sys.executable, help="a Python that has rliable")
    arguments = parser.parse_args()
    found: dict[str, Any] = {"compare": command(arguments.runs)}  # before what is read here
    found["compare --html"] = command(arguments.runs, "--html")

    runs, _ = accepted(read_runs([str(arguments.runs)]))
    tasks = tasks_of(runs, (), force=False)
    rng = np.random.default_rng(0)
    across = compare_across(tasks, (), (), "", "mean", rng)
    scores = {
        name: [
            across.scales[t.name](a.final)
            for t in across.tasks
            for a in t.algorithms
            if a.name == name
        ]
        for name in across.algorithms
    }
    rows = across.tables["profiles"]
    thresholds = np.array(sorted({row["score"] for row in rows}))
    compared = pairs(across.algorithms, "")
    ours = {
        "aggregates": timed(lambda: [intervals.aggregate(s, rng) for s in scores.values()]),
        "profiles": timed(lambda: [intervals.profile(s, thresholds, rng) for s in scores.values()]),
        "improvement": timed(
            lambda: [intervals.improvement(scores[x], scores[y], rng) for x, y in compared]
        ),
    }
    found |= {"runs": len(runs), "resamples": intervals.RESAMPLES, "statistics_seconds": ours}
    found |= beside_rliable(arguments.rliable, scores, thresholds, compared, across, ours)
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=2)
    (arguments.out / "speed.json").write_text(text + "\n", "utf-8")
    print(text)


def beside_rliable(
    python: str, scores: Any, thresholds: Any, compared: Any, across: Any, ours: dict[str, float]
) -> dict[str, Any]:
    """Its times over ours, and the largest difference of a value; empty without it."""
    given = {"scores": {n: [list(x) for x in s] for n, s in scores.items()}, "pairs": compared}
    given |= {"thresholds": list(thresholds), "reps": intervals.RESAMPLES}
    process = subprocess.run(
        [python, "-c", THEIRS], input=json.dumps(given), capture_output=True, text=True
    )
    if process.returncode:
        print("without rliable:", process.stderr.strip().splitlines()[-1], file=sys.stderr)
        return {}
    theirs = json.loads(process.stdout)
    apart = [
        abs(row[name] - value)
        for row in across.tables["scores"]
        for name, value in zip(
            intervals.AGGREGATES, theirs["values"][row["algorithm"]], strict=True
        )
    ]
    apart += [
        abs(row["better"] - theirs["improvement"][f"{row['algorithm']} > {row['less']}"])
        for row in across.tables["pairs"]
    ]
    seconds = theirs["seconds"]
    return {
        "rliable_seconds": seconds,
        "rliable_over_ours": {name: seconds[name] / ours[name] for name in ours},
        "largest_difference_of_a_value": max(apart),
    }


if __name__ == "__main__":
    main()
