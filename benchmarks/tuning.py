"""What a search found against the defaults, on seeds that chose nothing.

    rlentropy sweep --search results/tuning/pendulum.toml --out results/runs/tuning/pendulum
    rlentropy sweep --config results/tuning/fresh-seeds.toml --out results/runs/tuning/fresh-seeds
    python benchmarks/tuning.py results/runs/tuning/fresh-seeds     # prints the table

The difference is paired by seed; its interval is Student's, of the seeds' differences.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from scipy import stats


def returns(folder: Path, label: str) -> dict[int, float]:
    """Mean return of each finished run of a label, by seed."""
    found = {}
    for path in folder.glob(f"*/{label}/seed*/summary.json"):
        summary = json.loads(path.read_text())
        found[int(summary["seed"])] = float(summary["mean_return"])
    return found


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, and its 95 % interval by Student's t."""
    half = stats.t.ppf(0.975, values.size - 1) * stats.sem(values)
    return values.mean(), values.mean() - half, values.mean() + half


def main() -> None:
    folder = Path(sys.argv[1])
    found = {label: returns(folder, label) for label in ("default", "tuned")}
    seeds = sorted(set(found["default"]) & set(found["tuned"]))
    columns = {label: np.array([by_seed[s] for s in seeds]) for label, by_seed in found.items()}
    columns["difference"] = columns["tuned"] - columns["default"]
    print("seed," + ",".join(columns))
    for k, seed in enumerate(seeds):
        print(f"{seed}," + ",".join(f"{column[k]:.1f}" for column in columns.values()))
    for label, column in columns.items():
        mean, low, high = interval(column)
        worst, best = column.min(), column.max()
        print(f"# {label}: {mean:.1f} [{low:.1f}, {high:.1f}], seeds {worst:.1f} to {best:.1f}")


if __name__ == "__main__":
    main()
