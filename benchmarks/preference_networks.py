"""Acquisition rules for policy networks on continuous tasks, paired by seed; a CSV line a run.

python benchmarks/preference_networks.py --envs Pendulum-v1 --rules random,push-value --seeds 0-19 \
    --out runs.csv [--set learning_rate=0.01] [--set train=all]

A run is `rlentropy.preferences.active_preference.run` without a folder. Runs that the file has are
skipped. `preference_rules.py` has the statistics.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from preference_rules import read, seeds_of

import rlentropy  # noqa: F401  # registers environments
from rlentropy.log import Log
from rlentropy.preferences import active_preference

KEYS = ("return_auc", "mean_return", "reference_return", "kl", "win_rate", "episode_return")
KEYS += ("reference_episode_return",)
FIELDS = ("env", "settings", "rule", "seed", *KEYS, "seconds")


def one(job: tuple[str, str, str, int]) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    name, settings, rule, seed = job
    config = active_preference.Config(acquisition=rule, **parsed(settings))
    begin = time.perf_counter()
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    summary = active_preference.run(gymnasium.make(name), config, rng, Log(None)).summary
    row = {"env": name, "settings": settings, "rule": rule, "seed": seed}
    return row | {key: summary[key] for key in KEYS} | {"seconds": time.perf_counter() - begin}


def parsed(settings: str) -> dict[str, Any]:
    """``learning_rate=0.01 train=all`` as keyword arguments of the command's Config."""
    found: dict[str, Any] = {}
    for part in settings.split():
        key, _, text = part.partition("=")
        found[key] = text
        for kind in (float, int):
            try:
                found[key] = kind(text)
            except ValueError:
                continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--envs", default="Pendulum-v1")
    parser.add_argument("--rules", default="random,label-information,push-value")
    parser.add_argument("--seeds", default="0-19")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--out", type=Path, default=Path("preference_networks.csv"))
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    settings = " ".join(options.settings)
    done = {(r["env"], r["settings"], r["rule"], r["seed"]) for r in read(options.out)}
    jobs = [
        (env, settings, rule, seed)
        for seed in seeds_of(options.seeds)
        for env in options.envs.split(",")
        for rule in options.rules.split(",")
    ]
    jobs = [job for job in jobs if (*job[:3], str(job[3])) not in done]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    new = not options.out.exists()
    with options.out.open("a", newline="") as file, ProcessPoolExecutor(options.processes) as pool:
        writer = csv.DictWriter(file, FIELDS)
        if new:
            writer.writeheader()
        for row in pool.map(one, jobs):
            writer.writerow(row)
            file.flush()


if __name__ == "__main__":
    main()
