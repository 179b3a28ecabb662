"""Run algorithms × environments × seeds side by side, each run in one thread.

Every run is one command line with --resume, so a finished run is skipped and a broken one goes on;
a run whose folder holds other settings than those asked fails, and says which. A run that is killed
ends no other; where they run is the affair of an engine (`rlentropy.commands.engines`). With
--search the runs are trials of settings (`rlentropy.commands.search`).

A TOML file (--config) describes sweeps that one line can't::

    workers = 2                        # out, workers: as on the command line, which wins

    [common]                           # anything a [[runs]] table may hold; those win
    env_ids = ["rlentropy/DoubleChain-v0", "rlentropy/GridWorld-v0"]
    seeds = "0:10"                     # or a count, 10, or a list, [0, 3]
    episodes = 2000                    # any option of the command

    [[runs]]
    command = "entgame"

    [[runs]]
    command = "entgame"
    label = "entgame-as-published"     # names the folder, and the algorithm in compare
    bonus = "code"
"""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from tyro.conf import UseAppendAction

from rlentropy.commands.board import Board, write_failures
from rlentropy.commands.engines import (
    Engine,
    Event,
    Job,
    LocalEngine,
    Outcome,
    Progress,
    Take,
    cores,
    persistent,
)
from rlentropy.commands.plan import plan, read_file, tables
from rlentropy.commands.ray_engine import RayEngine
from rlentropy.commands.search import Search
from rlentropy.commands.slurm_engine import SlurmEngine
from rlentropy.commands.space import read_space
from rlentropy.errors import InputError, in_range, whole
from rlentropy.files import locked
from rlentropy.runs.folder import LOCK, stop_signals

ENGINES = {  # options that not every engine takes
    "ray_address": ("ray",),
    "slurm": ("slurm",),
    "cpus_per_run": ("ray", "slurm"),
    "gpus_per_run": ("ray", "slurm"),
}


@dataclass(frozen=True)
class Config:
    """Runs many algorithms, environments and seeds in parallel; skips what is finished.

    Use it for every comparison, and repeat it after a break: runs that were cut off go on, and what
    failed is listed with the reason.

    Example::

        rlentropy sweep --commands entgame maxent --env-ids rlentropy/DoubleChain-v0 --seeds 0:10
            --set episodes=2000
        rlentropy compare results/runs/rlentropy-DoubleChain-v0
    """

    commands: tuple[str, ...] = ()  # commands that train, such as entgame maxent
    env_ids: tuple[str, ...] = ()  # gymnasium ids, such as FrozenLake-v1
    seeds: tuple[str, ...] = ()  # a:b (b excluded), a list, or one number: how many; default: 5
    set: UseAppendAction[tuple[str, ...]] = ()  # option=value of every run, such as episodes=2000
    config: Path | None = None  # TOML file of [common] options and [[runs]]; the command line wins
    out: Path | None = None  # folder of the runs; default: results/runs, or results/search/<name>

    # search:

    search: Path | None = None  # TOML file of a space of settings to search (docs/scaling.md)
    trials: int = 0  # of --search, over all its sweeps; 0: as its file says

    # where they run:

    engine: Literal["local", "ray", "slurm"] = "local"  # where they run: docs/scaling.md
    workers: int = 0  # runs side by side, one thread each; 0: one for each core (of the cluster)
    retries: int = 2  # times a run is taken up again when its process or machine dies
    ray_address: str = ""  # of a Ray cluster, such as auto; default: one is started here
    cpus_per_run: int = 1  # cores that Ray or Slurm keeps for a run
    gpus_per_run: float = 0.0  # GPUs that Ray or Slurm keeps for a run; Ray takes parts of one
    slurm: UseAppendAction[tuple[str, ...]] = ()  # option=value of sbatch; time=MINUTES is needed
    quiet: bool = False  # print nothing but failures


def run(config: Config) -> int:
    """Run the sweep; the exit code: 0 all runs done, 1 some failed, 130 interrupted.

    Raises:
        InputError: the sweep asks for something that doesn't exist; nothing is run then.
        OutputError: the list of what failed can't be written.
    """
    if config.search is not None:
        return searched(config, config.search)
    if config.trials:
        raise InputError(f"trials must come with --search, got {config.trials} without")
    file = read_file(config.config)
    for name, kind in (("out", str), ("workers", int)):
        if type(value := file.get(name, kind())) is not kind:
            raise InputError(f"{name} must be {kind.__name__} in config, got {value!r}")
    out = config.out or Path(file.get("out", "results/runs"))
    engine = engine_of(config, config.workers or file.get("workers", 0), out)
    lines = tables(file, config.commands, config.env_ids, config.seeds, config.set)
    jobs = deque(plan(lines, out))
    board = Board(len(jobs), config.quiet)
    outcomes: list[Outcome] = []

    def take() -> Job | None:
        return jobs.popleft() if jobs else None

    def heard(event: Event) -> None:
        if isinstance(event, Progress):
            board.began(event)
        elif isinstance(event, Outcome):
            outcomes.append(event)
            board.ended(event)

    complete = listen(engine, take, config.retries, board, heard)
    if not complete:
        left = board.total - len(outcomes)
        print(f"interrupted with {left} runs to go; repeat the command", file=sys.stderr)
    count = {s: sum(o.state == s for o in outcomes) for s in ("done", "skipped", "failed")}
    board.line(", ".join(f"{number} {state}" for state, number in count.items()))
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    write_failures(out / "failures.txt", failed)
    return int(bool(failed)) if complete else 130


def searched(config: Config, path: Path) -> int:
    """Run the trials of a search; the exit code, as `run` has it."""
    for name in ("commands", "env_ids", "seeds", "set", "config"):
        if getattr(config, name):
            raise InputError(f"{name} must be left out with --search, whose file has it all")
    whole("trials", config.trials, 0)
    out = config.out or Path("results/search") / path.stem
    engine = engine_of(config, config.workers, out)
    with locked(out / LOCK, "out", out):
        search = Search(read_space(path), out, config.trials)
        board = Board(search.runs_left, config.quiet)
        complete = listen(
            engine,
            search.take,
            config.retries,
            board,
            lambda event: search.heard(event, engine, board),
        )
        for line in search.report():
            board.line(line)
        write_failures(out / "failures.txt", search.failed)
    if not complete:
        print("interrupted; repeat the command to go on", file=sys.stderr)
    return int(bool(search.failed)) if complete else 130


def engine_of(config: Config, workers: int, out: Path) -> Engine:
    """The engine that was asked for."""
    whole("workers", workers, 0)
    whole("retries", config.retries, 0)
    whole("cpus_per_run", config.cpus_per_run, 1)
    in_range("gpus_per_run", config.gpus_per_run, "[0, inf)")
    for name, engines in ENGINES.items():
        if config.engine not in engines and getattr(config, name) != getattr(Config(), name):
            raise InputError(f"{name} must come with --engine {' or '.join(engines)}, got none")
    if config.engine == "ray":
        return RayEngine(out, config.ray_address, workers, config.cpus_per_run, config.gpus_per_run)
    if config.engine == "slurm":
        gpus = int(config.gpus_per_run)
        if gpus != config.gpus_per_run:
            raise InputError(f"gpus_per_run must be whole for Slurm, got {config.gpus_per_run}")
        return SlurmEngine(out, workers, config.cpus_per_run, gpus, config.slurm)
    return LocalEngine(workers or cores())


def listen(
    engine: Engine, take: Take, retries: int, board: Board, heard: Callable[[Event], None]
) -> bool:
    """Run what `take` gives to the end, and hear of it; False where it was interrupted."""
    try:
        with (
            board.showing(),
            interruptible(),
            contextlib.closing(persistent(engine, take, retries, board.line)) as events,
        ):
            for event in events:
                heard(event)
                board.remind()
    except KeyboardInterrupt:
        return False
    return True


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, and say at once that it was heard."""

    def stop(number: int, frame: FrameType | None) -> None:
        print("stopping the runs under way, after a checkpoint; again: at once", file=sys.stderr)
        raise KeyboardInterrupt

    with stop_signals(stop):
        yield
