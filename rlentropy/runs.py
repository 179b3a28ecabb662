"""Finished runs, read from ``metrics.jsonl`` and ``summary.json``, and which are comparable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np

from rlentropy.errors import InputError
from rlentropy.intervals import Array

# What must agree between runs, and what holds where a summary doesn't say.
COMPARABLE = {
    "env_id": "",
    "env_kwargs": "{}",
    "objective": None,
    "temperature": 1.0,
    "horizon": None,
    "risk": None,
    "gamma": None,
    "scarce": "env_steps",
}


class Refused(Exception):
    """Why a folder is left out."""


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    summary: dict[str, Any]
    curves: dict[str, tuple[Array, Array]]  # tag → steps (T,) increasing, values (T,)

    @property
    def label(self) -> str:
        return str(self.summary.get("label") or self.summary["command"])

    @property
    def scarce(self) -> str:
        """What the steps of eval/* count: "labels", "updates" or "env_steps"."""
        return next((name for name in ("labels", "updates") if name in self.summary), "env_steps")

    @property
    def setting(self) -> tuple[str, ...]:
        """What must agree between runs, in the order of `COMPARABLE`."""
        facts = self.summary | {"scarce": self.scarce}
        return tuple(str(facts.get(name, usual)) for name, usual in COMPARABLE.items())

    def episodes_at(self, step: float) -> float:
        """Episodes played after so many steps: exact at an evaluation that logged them."""
        if "time/episodes" in self.curves:
            return float(np.interp(step, *self.curves["time/episodes"]))
        return step * float(self.summary["episodes"]) / max(float(self.summary["env_steps"]), 1.0)


def find_folders(patterns: Sequence[str]) -> Iterator[Path]:
    """Run folders that paths and globs name, or hold, each once; in order of patterns, then names.

    Raises:
        InputError: a pattern without a run.
    """
    seen = set()
    for pattern in patterns:
        paths = [pattern] if Path(pattern).exists() else sorted(glob(pattern, recursive=True))
        found = [folder for path in map(Path, paths) for folder in folders_in(path)]
        if not found:
            raise InputError(f"runs must be run folders or globs of them, got {pattern!r}")
        for folder in found:
            if folder.resolve() not in seen:
                seen.add(folder.resolve())
                yield folder


def folders_in(path: Path) -> list[Path]:
    """The path where it is a run folder, else the run folders below it."""
    marks = ("metrics.jsonl", "summary.json")
    if any((path / mark).is_file() for mark in marks):
        return [path]
    files = (file for mark in marks for file in path.glob(f"**/{mark}"))
    hidden = (".tmp-", ".git")  # among them runs that --overwrite is about to delete
    return sorted({f.parent for f in files if not any(p.startswith(hidden) for p in f.parts)})


def read_runs(patterns: Sequence[str]) -> Iterator[Run | tuple[Path, str]]:
    """Each run, or its folder and why it can't be read."""
    if not patterns:
        raise InputError("runs must name at least one run folder, got none")
    for folder in find_folders(patterns):
        try:
            yield read_run(folder)
        except Refused as why:
            yield folder, str(why)


def read_run(folder: Path) -> Run:
    """Read a run.

    Raises:
        Refused: it is not finished, or not readable.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text())
        if not summary["finished"]:
            raise Refused("it is not finished")
        missing = {"command", "env_id", "seed", "env_steps", "episodes"} - set(summary)
        if missing:
            raise Refused(f"its summary.json has no {', '.join(sorted(missing))}")
        return Run(folder, summary, read_curves(folder / "metrics.jsonl"))
    except FileNotFoundError as error:
        name = Path(str(error.filename)).name
        raise Refused(f"it is not finished (no {name}); --resume goes on with it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"it is not readable ({type(error).__name__}: {error})") from None


def read_curves(path: Path) -> dict[str, tuple[Array, Array]]:
    """Tag → (steps, values); null values are left out, and of two at one step the last counts."""
    points: dict[str, dict[int, float]] = {}
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        if entry["value"] is not None:
            points.setdefault(entry["tag"], {})[int(entry["step"])] = float(entry["value"])
    return {
        tag: (np.array(sorted(at), float), np.array([at[step] for step in sorted(at)]))
        for tag, at in points.items()
    }


def accepted(
    found: Iterable[Run | tuple[Path, str]], force: bool
) -> tuple[list[Run], list[tuple[Path, str]]]:
    """The runs that are comparable with the first, and the others with the reason."""
    runs: list[Run] = []
    refused: list[tuple[Path, str]] = []
    seeds: dict[Any, Path] = {}
    for entry in found:
        if not isinstance(entry, Run):
            refused.append(entry)
            continue
        differs = [
            f"{name} is {mine}, not {first}"
            for name, mine, first in zip(
                COMPARABLE, entry.setting, (runs or [entry])[0].setting, strict=True
            )
            if mine != first
        ]
        who = (entry.label, *entry.setting, entry.summary["seed"])
        if differs and not force:
            refused.append((entry.folder, f"{'; '.join(differs)} as in {runs[0].folder} (--force)"))
        elif who in seeds:
            why = f"seed {entry.summary['seed']} of {entry.label} is that of {seeds[who]} already"
            refused.append((entry.folder, f"{why}; give runs of other settings their own --label"))
        else:
            seeds[who] = entry.folder
            runs.append(entry)
    return runs, refused
