"""Compare algorithms over seeds and tasks: tables, CSV, pictures, a page, bands for TensorBoard.

Reads ``metrics.jsonl`` and ``summary.json`` of finished runs, and nothing else. What is compared
with what is in `rlentropy.runs.comparable`, the tables of a task in `comparisons` beside it, those
across tasks in `across`.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tyro.conf import Positional

from rlentropy import plots
from rlentropy.commands.bands import write_bands
from rlentropy.commands.outputs import (
    RECORD,
    across_pictures,
    record,
    remove_stale,
    task_folders,
    task_pictures,
    write_tables,
)
from rlentropy.commands.tables import Table, across_tables, task_tables
from rlentropy.errors import InputError, one_of, whole
from rlentropy.files import plain, replace_file, writing
from rlentropy.intervals import Statistic
from rlentropy.runs.across import Across, compare_across, task_pairs
from rlentropy.runs.comparable import Task, accepted, tasks_of
from rlentropy.runs.comparisons import Compared, compare_task
from rlentropy.runs.reading import read_runs

Format = Literal["png", "pdf", "svg"]


@dataclass(frozen=True)
class Config:
    """Tables, pictures and TensorBoard curves of algorithms, from the folders of their runs."""

    runs: Positional[tuple[str, ...]] = ()  # run folders, folders that hold some, or quoted globs
    out: Path = Path("results/compare")  # where tables and pictures go; replaces those there
    # tags to compare by, each algorithm by the first it has; default: mixture_gap if all have it,
    # else gap, else an entropy or a return
    metric: tuple[str, ...] = ()
    gaps: tuple[float, ...] = ()  # values to reach, in the metric's unit; default: some that fit
    statistic: Statistic = "mean"  # over seeds; iqm: interquartile mean
    slope_decades: float = 1.0  # decades of steps, up to the last, that slopes are of
    baseline: str = ""  # algorithm that every other is compared with in pairs; default: all pairs
    # final value that is a score of 0: an algorithm, a number, or ENV_ID=number; default: the
    # random policy's, else the worst algorithm's
    zero: tuple[str, ...] = ()
    # final value that is a score of 1; default: the optimum where known, else the best algorithm's
    one: tuple[str, ...] = ()
    format: tuple[Format, ...] = ("png",)  # of pictures
    force: bool = False  # one task of all runs, whatever their environments, objectives, horizons
    seed: int = 0  # seed of the bootstrap, >= 0
    quiet: bool = False  # print nothing but errors

    def __post_init__(self) -> None:
        if any(not 1e-300 < g < 1e300 for g in self.gaps):
            raise InputError(f"gaps must be > 0 and of a size that can be drawn, got {self.gaps}")
        if not 0 < self.slope_decades <= 300:
            raise InputError(f"slope_decades must be > 0 and <= 300, got {self.slope_decades}")
        whole("seed", self.seed, 0)


def run(config: Config) -> int:
    """Compare, print and write; the exit code.

    Raises:
        InputError: no comparable runs, or an option out of its range.
    """
    tasks, refused = read_tasks(config)
    rng = np.random.default_rng(config.seed)
    compared = [
        compare_task(task, config.gaps, config.statistic, config.slope_decades, rng)
        for task in tasks
    ]
    for c in compared:
        c.tables["pairs"] = task_pairs(c.task, config.baseline, rng)
    across = compare_across(tasks, config.zero, config.one, config.baseline, config.statistic, rng)
    with writing(config.out):
        config.out.mkdir(parents=True, exist_ok=True)
        remove_stale(config.out)
        files = write_tables(config.out, compared, across)
        files += write_pictures(config, compared, across)
        write_bands(config.out / "aggregate", tasks, config.statistic, rng)
        names = [str(path.relative_to(config.out)) for path in files]
        settings: dict[str, Any] = {"statistic": config.statistic, "gaps": config.gaps}
        settings["baseline"] = config.baseline
        content = record(shlex.join(sys.argv), settings, compared, refused, names)
        replace_file(config.out / RECORD, content)
    if not config.quiet:
        for heading, tables in sections(compared, across, config.statistic):
            print(plain(heading) + "\n")
            print("\n\n".join(table.text() for table in tables) + "\n")
        aggregate = config.out / "aggregate"
        print(plain(f"written to {config.out}; tensorboard --logdir {aggregate}"))
    return 0


def read_tasks(config: Config) -> tuple[list[Task], list[tuple[Path, str]]]:
    """The tasks of the runs, and the folders that are refused, which are told, with why.

    Raises:
        InputError: no run is left, not every run has the metric, or the baseline is none of them.
    """
    runs, refused = accepted(read_runs(config.runs))
    if not runs:
        reasons = "; ".join(f"{folder}: {why}" for folder, why in refused[:3])
        raise InputError(
            f"runs must hold a finished run, got {len(refused)} folders, all refused ({reasons})"
        )
    for folder, why in refused:
        print(plain(f"refused {folder}: {why}"), file=sys.stderr)
    tasks = tasks_of(runs, config.metric, config.force)
    if config.baseline:
        names = dict.fromkeys(a.name for task in tasks for a in task.algorithms)
        one_of("baseline", config.baseline, list(names))
    return tasks, refused


def sections(
    compared: Sequence[Compared], across: Across, statistic: Statistic
) -> list[tuple[str, list[Table]]]:
    """Headings and the tables under them: of each task, then of all."""
    found = [
        (f"{c.task.name}: {c.task.said}".removesuffix(": "), task_tables(c, statistic))
        for c in compared
    ]
    if len(compared) > 1:
        found.append((f"{len(compared)} tasks", across_tables(across)))
    return found


def write_pictures(config: Config, compared: Sequence[Compared], across: Across) -> list[Path]:
    """Every picture in every format; several tasks have a folder each."""
    folders = task_folders([c.task for c in compared])
    files = []
    for c in compared:
        here = config.out / folders[c.task.name]
        here.mkdir(parents=True, exist_ok=True)
        for name, figure in task_pictures(c):
            files += plots.save(figure, here / name, config.format)
    for name, figure in across_pictures(across):
        files += plots.save(figure, config.out / name, config.format)
    return files
