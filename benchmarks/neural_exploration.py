"""The runs behind docs/results/neural_exploration.md.

python benchmarks/neural_exploration.py explore [--tasks A,B] [--arms A,B] [--seeds 100-104]
                                                [--processes 2] [--runs DIR]
python benchmarks/neural_exploration.py goals [the same options]
python benchmarks/neural_exploration.py summarise [--runs DIR] [--out results/neural_exploration]

`explore` runs the package's own commands, a process a run on one thread, for every task, arm and
seed; a run is the folder DIR/TASK/ARM/seedK, and one that is finished is not run again, so that
the study can be stopped and started. What a process cost is in its cost.json.

`goals` rolls the mixtures of the arms in GIVERS out into data without rewards, relabels them with
goals that were chosen afterwards, and gives them to offline learners. `summarise` is
neural_exploration_summaries.py.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

ROOT = Path(__file__).parents[1]
RUNS, RESULTS = "results/runs/neural-exploration", "results/neural_exploration"
SEEDS = "100-104"  # fixed before the first run; none was used to choose anything
Options = tuple[str, ...]

# ---------------------------------------------------------------- what is explored

ENTGAME: dict[str, Options] = {
    "entgame-histogram": ("neural-entgame",),
    "entgame-knn": ("neural-entgame", "--forecaster", "knn"),
    "entgame-likelihood": ("neural-entgame", "--forecaster", "likelihood"),
}
OTHERS: dict[str, Options] = {"maxent": ("neural-maxent",), "random": ("neural-random",)}
CONTINUOUS: dict[str, Options] = {
    "entgame-continuous": ("neural-entgame", "--sampler", "actor-critic")
}
FAST: Options = ("--learning-rate", "1e-3")  # of MEPOL: the best of a sweep on seeds 0-2


def mepol(*options: str) -> Options:
    return ("mepol", *options)


@dataclass(frozen=True)
class Task:
    """An environment, and who explores it how."""

    env_id: str
    arms: dict[str, Options]
    env_kwargs: str = "{}"
    shared: Options = ()  # options of every arm
    steps: int = 300_000


GRID_SCALE: Options = ("--neighbours", "50", "--initial-log-deviation", "0.11")
LOCOMOTION: Options = (
    *("--horizon", "500", "--evaluation-episodes", "10", "--final-episodes", "100"),
    *("--eval-every", "50000"),
)
ON_THE_WAY: Options = ("--eval-every", "30000")
SPARSE_ANT = (
    '{"exclude_current_positions_from_observation": false, "terminate_when_unhealthy": false, '
    '"include_cfrc_ext_in_observation": false}'
)
MAZE = '{"maze": "large", "start": [1, 1], "max_episode_steps": 200'
TASKS = {
    "mountain-car": Task(
        "rlentropy/MountainCarWalled-v0",
        {**ENTGAME, "mepol": mepol(), "mepol-fast": mepol(*FAST), **OTHERS},
        '{"continuous": true}',
        ON_THE_WAY,
    ),
    "pendulum": Task(
        "rlentropy/HangingPendulum-v0",
        {**ENTGAME, **CONTINUOUS, "mepol-fast": mepol(*FAST), **OTHERS},
        shared=ON_THE_WAY,
    ),
    "continuous-grid": Task(
        "rlentropy/ContinuousGrid-v0",
        {
            **ENTGAME,
            "mepol": mepol(*GRID_SCALE, "--learning-rate", "1e-5"),
            "mepol-fast": mepol(*GRID_SCALE, *FAST),
            **OTHERS,
        },
        shared=ON_THE_WAY,
    ),
    "point-maze": Task(
        "rlentropy/PointMaze-v0",
        {**ENTGAME, **CONTINUOUS, "mepol-fast": mepol(*FAST), **OTHERS},
        MAZE + "}",
        ON_THE_WAY,
    ),
    "half-cheetah": Task(
        "HalfCheetah-v5",
        {
            **{name: ENTGAME[name] for name in ("entgame-histogram", "entgame-knn")},
            "mepol-fast": mepol(*FAST),
            **OTHERS,
        },
        '{"exclude_current_positions_from_observation": false}',
        LOCOMOTION,
        200_000,
    ),
    "ant": Task(
        "Ant-v5",
        {
            "entgame-histogram": ENTGAME["entgame-histogram"],
            "mepol-fast": mepol(*FAST),
            "random": OTHERS["random"],
        },
        SPARSE_ANT,
        LOCOMOTION,
        100_000,
    ),
}

# ---------------------------------------------------------------- processes

Job = Callable[[], None]


def rlentropy(folder: Path, *arguments: str) -> None:
    """Run a command of the package unless it is finished; its CPU seconds go to cost.json.

    Args:
        folder: what it writes into `folder`, or beside it.
    """
    if (folder / "cost.json").exists():
        return
    if folder.exists():
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments, "--quiet"],
        env={**os.environ, **threads},
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{folder}: {' '.join(arguments)} ended with {process.returncode}")
    folder.mkdir(exist_ok=True)
    cost = {"cpu_seconds": used.ru_utime + used.ru_stime, "megabytes": used.ru_maxrss / 1024}
    (folder / "cost.json").write_text(json.dumps(cost))
    print(f"{folder}: {cost['cpu_seconds']:.0f} s", flush=True)


def explore(name: str, arm: str, seed: int, runs: Path) -> Path:
    """A run folder of an arm."""
    task, folder = TASKS[name], runs / name / arm / f"seed{seed}"
    command, *options = task.arms[arm]
    place = ("--env-id", task.env_id, "--env-kwargs", task.env_kwargs, "--out", str(folder))
    budget = ("--steps", str(task.steps), "--seed", str(seed), "--label", arm)
    rlentropy(folder, command, *place, *budget, *task.shared, *options)
    return folder


# ---------------------------------------------------------------- command line


def seeds_of(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def chosen(text: str, names: Iterator[str] | list[str]) -> list[str]:
    names = list(names)
    return [name for name in names if not text or name in text.split(",")]


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """Seed by seed, all arms of a task side by side."""
    runs = Path(options.runs)
    for seed in seeds_of(options.seeds):
        for name in chosen(options.tasks, list(TASKS)):
            for arm in chosen(options.arms, list(TASKS[name].arms)):
                yield lambda name=name, arm=arm, seed=seed: explore(name, arm, seed, runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("explore", "goals", "summarise"))
    parser.add_argument("--tasks", default="", help=", ".join(TASKS))
    parser.add_argument("--arms", default="", help="names; default: all of a task")
    parser.add_argument("--seeds", default=SEEDS, help="A-B")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time")
    parser.add_argument("--runs", default=RUNS, help="folder of the runs")
    parser.add_argument("--out", default=RESULTS, help="folder of tables and pictures")
    options = parser.parse_args()
    failed = []
    with ThreadPoolExecutor(options.processes) as pool:
        for done in [pool.submit(job) for job in jobs(options)]:
            try:
                done.result()
            except RuntimeError as error:
                failed.append(str(error))
    print(*failed, sep="\n")


if __name__ == "__main__":
    main()
