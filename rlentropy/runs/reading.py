"""Finished runs, read from ``metrics.jsonl`` and ``summary.json``."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np

from rlentropy.errors import InputError, as_path
from rlentropy.files import Unreadable, read_json, reading
from rlentropy.log import metrics_are_whole
from rlentropy.policies import Policy
from rlentropy.runs.policies import load
from rlentropy.runs.summaries import Refused, is_whole, summary_of
from rlentropy.types import Array, Env
from rlentropy.wrappers import make_env, trusted


@dataclass(frozen=True)
class Run:
    """A finished run."""

    folder: Path
    summary: dict[str, Any]
    curves: dict[str, tuple[Array, Array]]  # tag → steps (T,) increasing, values (T,)
    env: Env | None = None  # where its policy acts; None: the run's own

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.label}, {len(self.curves)} metrics)"

    @property
    def metrics(self) -> dict[str, tuple[Array, Array]]:
        """What metrics.jsonl holds: tag → steps (T,) increasing, values (T,)."""
        return self.curves

    @cached_property
    def config(self) -> dict[str, Any]:
        """What config.json holds: the command, every option resolved, versions."""
        try:
            config = read_json(path := self.folder / "config.json")
        except FileNotFoundError:
            raise InputError(f"run must hold config.json, got {self.folder}") from None
        if not (isinstance(config.get("settings"), dict) and "command" in config):
            raise Unreadable(path, "it has no command or no settings")
        return config

    @cached_property
    def policy(self) -> Policy:
        """The policy, in the run's environment or the one given to `load_run`.

        Raises:
            InputError: there is none, it is damaged, or the environment must be given.
        """
        if self.env is not None:
            return load(self.folder, self.env)
        if not self.summary.get("env_id"):
            raise InputError(f"env must be given for a run without environment, got {self.folder}")
        made = make_env(
            self._env_id(),
            trusted("env_kwargs", self.summary.get("env_kwargs") or "{}", self.folder),
            unlimited=False,
        )
        policy = load(self.folder, made)
        made.close()
        return policy

    def _env_id(self) -> str:
        """Of the run's environment, if making it imports nothing that isn't imported already."""
        env_id = self.summary["env_id"]
        module, colon, _ = str(env_id).partition(":")
        if colon and module in sys.modules:
            return str(env_id)
        if colon:
            raise InputError(
                f"env must be given to load_run, or {module} be imported first, for a run in "
                f"{env_id}, got {self.folder} alone"
            )
        return trusted("env_id", env_id, self.folder)

    @property
    def label(self) -> str:
        return (self.summary.get("label") or "").strip() or str(self.summary["command"])

    @property
    def axis(self) -> str:
        """What the steps of eval/* count: "env_steps", "updates" or "labels"."""
        if stored := self.summary.get("axis"):
            return str(stored)
        return next((name for name in ("labels", "updates") if name in self.summary), "env_steps")

    def episodes_at(self, step: float) -> float:
        """Episodes played after so many steps: exact at an evaluation that logged them."""
        if "time/episodes" in self.curves and step > 0:
            return float(np.interp(step, *self.curves["time/episodes"]))
        return step * float(self.summary["episodes"]) / max(float(self.summary["env_steps"]), 1.0)


def find_folders(patterns: Sequence[str]) -> Iterator[Path]:
    """Run folders that paths and globs name, or hold, each once; in order of patterns, then names.

    Raises:
        InputError: a pattern without a run.
    """
    seen = set()
    for pattern in patterns:
        paths = [pattern] if os.path.exists(pattern) else sorted(glob(pattern, recursive=True))
        folders = [folder for path in map(Path, paths) for folder in folders_in(path)]
        if not folders:
            raise InputError(f"runs must be run folders or globs of them, got {pattern!r}")
        for folder in folders:
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
        summary = summary_of(folder)
        run = Run(folder, summary, read_curves(folder / "metrics.jsonl"))
        played = {"env_steps", "episodes"} if run.axis == "env_steps" else {run.axis}
        missing = ({"command", "env_id", "seed"} | played) - set(summary)
        if missing:
            raise Refused(f"its summary.json has no {', '.join(sorted(missing))}")
        if not metrics_are_whole(folder):
            raise Refused("its metrics.jsonl is not what the run wrote, says its checkpoint")
        return run
    except FileNotFoundError as error:
        name = Path(str(error.filename)).name
        raise Refused(f"it is not finished (no {name}); --resume goes on with it") from None
    except Unreadable as error:
        raise Refused(f"it is not readable ({error.why})") from None


def load_run(path: str | Path, env: Env | None = None) -> Run:
    """A finished run: `.summary`, `.config`, `.metrics` (tag → steps, values) and `.policy`.

    Args:
        path: the run folder.
        env: where the policy shall act; default: an environment like that of the run, which must be
            given where the run's names a module, since making it would import that.

    Raises:
        InputError: there is no finished run, or it is damaged.
    """
    try:
        run = read_run(as_path("run", path, "the folder of a run"))
    except Refused as why:
        raise InputError(f"run must be the folder of a finished run, got {path}: {why}") from None
    return Run(run.folder, run.summary, run.curves, env)


def read_curves(path: Path) -> dict[str, tuple[Array, Array]]:
    """Tag → (steps, values), of two at one step the last; null and what isn't finite is left out.

    Raises:
        FileNotFoundError: there is no such file.
        Unreadable: a line is damaged, or none of ours.
    """
    points: dict[str, dict[int, float]] = {}
    with reading(path), path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            entry = json.loads(line)
            tag, step, value = (entry[name] for name in ("tag", "step", "value"))
            fits = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
            if not (isinstance(tag, str) and is_whole(step) and fits):
                raise ValueError(f"line {number} is none of a log")
            if value is not None and math.isfinite(value):
                points.setdefault(tag, {})[int(step)] = float(value)
    return {
        tag: (np.array(sorted(at), float), np.array([at[step] for step in sorted(at)]))
        for tag, at in points.items()
    }
