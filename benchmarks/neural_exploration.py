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
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from neural_exploration_summaries import summarise

from rlentropy.data import load, save
from rlentropy.data.relabel import with_goal
from rlentropy.errors import InputError

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


def mepol(learning_rate: str, *options: str) -> Options:
    """The paper's rates are for millions of steps; "fast" ones are from a sweep on seed 0."""
    return ("mepol", "--learning-rate", learning_rate, *options)


@dataclass(frozen=True)
class Task:
    """An environment, and who explores it how."""

    env_id: str
    arms: dict[str, Options]
    env_kwargs: str = "{}"
    shared: Options = ()  # options of every arm
    steps: int = 300_000


def in_maze(arms: dict[str, Options]) -> dict[str, Options]:
    """At 2 nats a decision, the default when these ran; in two dimensions it is 3 now."""
    return {arm: (*options, "--temperature", "1") for arm, options in arms.items()}


SEEN: Options = ("--normalise-observations",)
# The paper's deviation e^-1.5 is of actions up to 0.2, ours are in units of 0.2.
GRID_SCALE: Options = ("--neighbours", "50", "--initial-log-deviation", "0.11")
LOCOMOTION: Options = (
    *("--horizon", "500", "--evaluation-episodes", "20", "--final-episodes", "100"),
    *("--eval-every", "25000"),
)
ON_THE_WAY: Options = ("--eval-every", "30000")
ANT = (
    '{"exclude_current_positions_from_observation": false, "terminate_when_unhealthy": false, '
    '"include_cfrc_ext_in_observation": false}'
)
MAZE = '{"maze": "large", "start": [1, 1], "max_episode_steps": 200'
TASKS = {
    "mountain-car": Task(
        "rlentropy/MountainCarWalled-v0",
        {**ENTGAME, "mepol": mepol("1e-4"), "mepol-fast": mepol("1e-3", *SEEN), **OTHERS},
        '{"continuous": true}',
        ON_THE_WAY,
    ),
    "pendulum": Task(
        "rlentropy/HangingPendulum-v0",
        {**ENTGAME, **CONTINUOUS, "mepol-fast": mepol("1e-3", *SEEN), **OTHERS},
        shared=ON_THE_WAY,
    ),
    "continuous-grid": Task(
        "rlentropy/ContinuousGrid-v0",
        {
            **ENTGAME,
            "mepol": mepol("1e-5", *GRID_SCALE),
            "mepol-fast": mepol("1e-4", *GRID_SCALE, *SEEN),
            **OTHERS,
        },
        shared=ON_THE_WAY,
    ),
    "point-maze": Task(
        "rlentropy/PointMaze-v0",
        {**in_maze(ENTGAME), **CONTINUOUS, "mepol-fast": mepol("1e-3", *SEEN), **OTHERS},
        MAZE + "}",
        ON_THE_WAY,
    ),
    "half-cheetah": Task(
        "HalfCheetah-v5",
        {
            **ENTGAME,
            "mepol-fast": mepol("1e-3", *SEEN),
            **OTHERS,
        },
        '{"exclude_current_positions_from_observation": false}',
        LOCOMOTION,
        100_000,
    ),
    "ant": Task(
        "Ant-v5",
        {**ENTGAME, "mepol-fast": mepol("1e-3", *SEEN), **OTHERS},
        ANT,
        LOCOMOTION,
        100_000,
    ),
}

# ---------------------------------------------------------------- what data are good for


@dataclass(frozen=True)
class Goals:
    """Goals that are chosen when the data are there."""

    features: str  # what they are places of
    radius: str
    places: dict[str, tuple[str, str]]  # name: place, and the env_kwargs of the task with it
    learners: tuple[str, ...] = ("rfzi",)


GIVERS = ("entgame-histogram", "mepol-fast", "random")
GOALS = {
    "point-maze": Goals(
        "0,1",
        "0.5",
        {
            f"{x}-{y}": (f"{x}.5,{y}.5", MAZE + f', "reward": "sparse", "goal": [{x}, {y}]}}')
            for x, y in ((7, 3), (10, 1), (7, 7), (10, 7))  # 7, 13, 14 and 15 cells away
        },
    ),
    "mountain-car": Goals(
        "0",
        "0.01",
        {"top": ("0.45", '{"continuous": true, "goal": 0.44}')},
        ("rfzi", "fqi"),
    ),
}
LEARNERS: dict[str, Options] = {"rfzi": ("rfzi", "--risk", "entropic:0.01"), "fqi": ("fqi",)}
LEARNING: Options = (
    *("--gamma", "0.98", "--updates", "8000", "--batch-size", "512", "--hidden", "128", "128"),
    *("--action-grid", "3", "--target-every", "1", "--tau", "0.01"),
    *("--episodes", "100", "--eval-every", "8000"),
)

# ---------------------------------------------------------------- processes

Job = Callable[[], Any]


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


def reach_goals(name: str, giver: str, seed: int, runs: Path) -> None:
    """Data of one explorer, relabelled with each goal and learnt from by each learner.

    A goal that no step of the data reaches teaches nothing, and no learner is run on it.
    """
    task, goals, place = TASKS[name], GOALS[name], runs / "goals" / name / giver / f"seed{seed}"
    if (place / "reached.json").exists():
        return
    place.mkdir(parents=True, exist_ok=True)
    data, labelled = place / "data.npz", place / "goal.npz"
    source: Options = ("--env-id", task.env_id, "--env-kwargs", task.env_kwargs)
    if giver != "random":
        source = ("--policy", str(explore(name, giver, seed, runs)), "--mixture")
    steps = ("--steps", str(task.steps), "--seed", str(seed), "--overwrite")
    rlentropy(place / "collected", "collect", *source, "--data", str(data), *steps)
    steps_of_data, reached = load(str(data)), {}
    for goal, (where, env_kwargs) in goals.places.items():
        index = [int(k) for k in goals.features.split(",")]
        place_of_goal = [float(x) for x in where.split(",")]
        try:
            found = with_goal(steps_of_data, place_of_goal, float(goals.radius), index, "cost")
        except InputError:
            reached[goal] = 0
            continue
        reached[goal] = int(found.terminations.sum())
        save(str(labelled), found)
        for learner in goals.learners:
            folder = place / f"{goal}-{learner}"
            where_to = ("--env-id", task.env_id, "--env-kwargs", env_kwargs, "--out", str(folder))
            options = ("--data", str(labelled), "--seed", str(seed), *where_to, *LEARNING)
            rlentropy(folder, *LEARNERS[learner], *options)
        labelled.unlink()
    data.unlink()
    (place / "reached.json").write_text(json.dumps(reached))


# ---------------------------------------------------------------- command line


def seeds_of(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def chosen(text: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if not text or name in text.split(",")]


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """Seed by seed, all arms of a task side by side."""
    runs = Path(options.runs)
    for seed in seeds_of(options.seeds):
        for name in chosen(options.tasks, TASKS if options.what == "explore" else GOALS):
            if options.what == "explore":
                for arm in chosen(options.arms, TASKS[name].arms):
                    yield partial(explore, name, arm, seed, runs)
            else:
                for giver in chosen(options.arms, GIVERS):
                    yield partial(reach_goals, name, giver, seed, runs)


def play(options: argparse.Namespace) -> None:
    """Run what isn't finished; what fails is said at the end."""
    failed = []
    with ThreadPoolExecutor(options.processes) as pool:
        for done in [pool.submit(job) for job in jobs(options)]:
            try:
                done.result()
            except RuntimeError as error:
                failed.append(str(error))
    if failed:
        sys.exit("\n".join(failed))


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
    if options.what == "summarise":
        summarise(Path(options.runs), Path(options.out), TASKS)
    else:
        play(options)


if __name__ == "__main__":
    main()
