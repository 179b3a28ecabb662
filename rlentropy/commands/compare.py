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
from typing import Any

import numpy as np
from tyro.conf import Positional

from rlentropy import plots
from rlentropy.commands.bands import write_bands
from rlentropy.commands.outputs import (
    RECORD,
    across_pictures,
    algorithms_of,
    record,
    remove_stale,
    task_folders,
    task_pictures,
    write_tables,
)
from rlentropy.commands.report import Section, films_of, page
from rlentropy.commands.tables import Table, across_tables, task_tables
from rlentropy.errors import InputError, one_of, whole
from rlentropy.files import plain, replace_file, writing
from rlentropy.intervals import Statistic
from rlentropy.plots.style import Format, known_formats
from rlentropy.runs.across import Across, compare_across, task_pairs
from rlentropy.runs.comparable import Task, accepted, tasks_of
from rlentropy.runs.comparisons import Compared, compare_task
from rlentropy.runs.folder import git_commit, versions
from rlentropy.runs.reading import read_runs

REPORT = "report.html"


@dataclass(frozen=True)
class Config:
    """Compares algorithms over seeds and tasks: tables, pictures, a page, curves for TensorBoard.

    Runs with one label are the seeds of an algorithm, and runs of one environment, objective and
    horizon a task. Of each task: final values, the cost of targets, slopes, paired differences with
    Holm's correction. Of several: normalised scores, interquartile means, performance profiles and
    the probability of improvement.

    Use it on whatever the learners left, several seeds of each; `evaluate` scores policies anew.

    Example::

        rlentropy compare results/runs --html
        rlentropy compare results/runs --baseline random-policy --format pdf
    """

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
    html: bool = False  # also a page, report.html, with everything inside
    force: bool = False  # one task of all runs, whatever their environments, objectives, horizons
    seed: int = 0  # seed of the bootstrap, >= 0
    quiet: bool = False  # print nothing but errors

    def __post_init__(self) -> None:
        if any(not 1e-300 < g < 1e300 for g in self.gaps):
            raise InputError(f"gaps must be > 0 and of a size that can be drawn, got {self.gaps}")
        if not 0 < self.slope_decades <= 300:
            raise InputError(f"slope_decades must be > 0 and <= 300, got {self.slope_decades}")
        whole("seed", self.seed, 0)
        known_formats(self.format)


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
        pictures, pngs = write_pictures(config, compared, across)
        files += pictures
        write_bands(config.out / "aggregate", tasks, config.statistic, rng)
        if config.html:
            replace_file(
                path := config.out / REPORT, report(config, compared, across, pngs, refused)
            )
            files.append(path)
        names = [str(path.relative_to(config.out)) for path in files]
        settings: dict[str, Any] = {"statistic": config.statistic, "gaps": config.gaps}
        settings["baseline"] = config.baseline
        content = record(shlex.join(sys.argv), settings, compared, refused, names)
        replace_file(config.out / RECORD, content)
    if not config.quiet:
        for heading, tables in sections(compared, across, config.statistic):
            print("\n\n".join([plain(heading), *(table.text() for table in tables)]) + "\n")
        aggregate = config.out / "aggregate"
        print(plain(f"written to {config.out}; tensorboard --logdir {aggregate}"))
        if config.html:
            print(plain(f"page: {config.out / REPORT}"))
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
        tables = across_tables(across)
        why = "; ".join(across.left_out[:3])
        said = f"{len(compared)} tasks" + ("" if tables else f": no scores across them ({why})")
        found.append((said, tables))
    return found


def write_pictures(
    config: Config, compared: Sequence[Compared], across: Across
) -> tuple[list[Path], dict[str, dict[str, bytes]]]:
    """Every picture in every format; several tasks have a folder each.

    Returns:
        The files, and where there is a page its PNGs: by task ("" for all of them), and name.
    """
    folders = task_folders([c.task for c in compared]) | {"": "."}
    among = algorithms_of(compared)
    drawn = [(c.task.name, task_pictures(c, config.statistic, among)) for c in compared] + [
        ("", across_pictures(across, among))
    ]
    files: list[Path] = []
    pngs: dict[str, dict[str, bytes]] = {}
    for task, pictures in drawn:
        here = config.out / folders[task]
        here.mkdir(parents=True, exist_ok=True)
        pngs[task] = {}
        for name, figure in pictures:
            files += plots.save(figure, here / name, config.format)
            if config.html:
                pngs[task][name] = plots.png(figure)
    return files, pngs


def report(
    config: Config,
    compared: Sequence[Compared],
    across: Across,
    pngs: dict[str, dict[str, bytes]],
    refused: Sequence[tuple[Path, str]],
) -> bytes:
    """The page: all tasks first, then each."""
    films = films_of([c.task for c in compared])
    found = []
    for c in compared:
        name, tables = c.task.name, task_tables(c, config.statistic)
        found.append(Section(name, c.task.said, tables, pngs[name], films[name]))
    if tables := across_tables(across):
        found.insert(0, Section(f"{len(across.tasks)} tasks", "", tables, pngs[""]))
    names = dict.fromkeys(a.name for c in compared for a in c.task.algorithms)
    used = {"commit": git_commit() or "", **versions()}
    facts = {
        "Command": shlex.join(["rlentropy", *sys.argv[1:]]),
        "Versions": ", ".join(f"{name} {number}" for name, number in used.items() if number),
    }
    lines = [
        f"{c.task.name}, {a.name}, seed {seed}: {run.folder}"
        for c in compared
        for a in c.task.algorithms
        for seed, run in zip(a.seeds, a.runs, strict=True)
    ]
    lines += [f"refused {folder}: {why}" for folder, why in refused]
    title = f"{len(names)} algorithms on {len(compared)} tasks"
    if len(compared) == 1:
        title = f"{len(names)} algorithms on {compared[0].task.name}"
    return page(title, found, facts, "\n".join(map(plain, lines)))
