"""What a comparison leaves in its folder: tables as CSV, pictures, the record of it all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlentropy import plots
from rlentropy.files import csv_table, file_names, replace_file
from rlentropy.intervals import Statistic
from rlentropy.plots.style import over_seeds
from rlentropy.runs.across import Across, Row
from rlentropy.runs.comparable import COSTS, Task
from rlentropy.runs.comparisons import Compared, visits_of

RECORD = "comparison.json"
OURS = (".csv", ".png", ".pdf", ".svg", ".html")


def remove_stale(out: Path) -> None:
    """Remove what an earlier comparison wrote, says its record; nothing outside of the folder."""
    try:
        written = json.loads((out / RECORD).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in written if isinstance(written, list) else []:
        path = out / str(name)
        if path.suffix in OURS and path.resolve().is_relative_to(out.resolve()):
            path.unlink(missing_ok=True)
            if path.parent != out and path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()


def write_tables(out: Path, compared: Sequence[Compared], across: Across) -> list[Path]:
    """A CSV file for each table that has rows; those of all tasks are in one."""
    tables: dict[str, list[Row]] = {}
    for c in compared:
        for name, rows in c.tables.items():
            tables.setdefault(name, []).extend(rows)
    for name, rows in across.tables.items():
        tables.setdefault(name, []).extend(rows)
    written = []
    for name, rows in tables.items():
        if rows:
            columns = dict.fromkeys(column for row in rows for column in row)
            every = [dict.fromkeys(columns, "") | row for row in rows]
            replace_file(path := out / f"{name}.csv", csv_table(every))
            written.append(path)
    return written


# ---------------------------------------------------------------- pictures


def task_folders(tasks: Sequence[Task]) -> dict[str, str]:
    """The folder of each task's pictures: none of its own where there is a single task."""
    return {tasks[0].name: "."} if len(tasks) == 1 else file_names(task.name for task in tasks)


def algorithms_of(compared: Sequence[Compared]) -> list[str]:
    """The names of all tasks' algorithms, each of which looks the same in every picture."""
    return list(dict.fromkeys(a.name for c in compared for a in c.task.algorithms))


def task_pictures(
    c: Compared, statistic: Statistic, among: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    """Pictures of a task, by name, drawn one by one.

    Args:
        among: the algorithms of all tasks.
    """
    task, cost = c.task, COSTS[c.task.costs[-1]]
    label = task.quantity
    note = over_seeds(statistic, [len(a.runs) for a in task.algorithms])
    yield "curves", plots.curves(c.curves, label, cost, task.falling, note, among)
    yield "final", plots.final(c.tables["final"], label, task.falling, among=among)
    if c.tables["reach"]:
        yield (
            "reach",
            plots.reach(c.tables["reach"], task.costs[-1], cost, task.falling, among=among),
        )
    if panels := visits_of(task.algorithms):
        yield "visits", plots.heat_maps(panels)


def across_pictures(across: Across, among: Sequence[str]) -> Iterator[tuple[str, Any]]:
    if "scores" in across.tables:
        yield "scores", plots.scores(across.tables["scores"], among)
        yield "profiles", plots.profiles(across.tables["profiles"], among)
        if across.tables["pairs"]:
            yield "improvement", plots.improvement(across.tables["pairs"])


def record(
    argv: str,
    settings: dict[str, Any],
    compared: Sequence[Compared],
    refused: Sequence[tuple[Path, str]],
    files: Sequence[str],
) -> bytes:
    """``comparison.json``: what was compared, how, and what was written."""
    tasks = {
        c.task.name: {
            "facts": c.task.facts,
            "metric": {a.name: a.metric for a in c.task.algorithms},
            "runs": {a.name: [str(r.folder) for r in a.runs] for a in c.task.algorithms},
        }
        for c in compared
    }
    found = {"argv": argv, **settings, "tasks": tasks}
    found["refused"] = {str(folder): why for folder, why in refused}
    return json.dumps(found | {"files": list(files)}, indent=2).encode()
