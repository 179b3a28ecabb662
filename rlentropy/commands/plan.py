"""What a sweep runs: tables of options, from a TOML file or the command line, made into jobs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from rlentropy.commands.engines import Job
from rlentropy.commands.options import (
    as_arguments,
    as_settings,
    check_table,
    parse_arguments,
    read_toml,
    tuned_settings,
)
from rlentropy.errors import InputError, one_of
from rlentropy.runs.folder import default_folder
from rlentropy.runs.table import COMMANDS

Table = dict[str, Any]

MOST_SEEDS = 100_000  # of one line of a sweep
PLAN = ("command", "env_id", "env_ids", "seeds")  # of a [[runs]] table; the rest are options
RESERVED = ("seed", "out", "config", "resume", "overwrite", "quiet")  # options that the sweep sets


def read_file(path: Path | None) -> Table:
    if path is None:
        return {}
    file = read_toml(path)
    known = ("out", "workers", "common", "runs")
    for name in set(file) - set(known):
        raise InputError(f"config must hold {', '.join(known)} alone, got {name!r}")
    runs, common = file.get("runs"), file.get("common", {})
    if not isinstance(runs, list) or not all(isinstance(t, dict) for t in [*runs, common]):
        raise InputError("config must hold [[runs]] tables, and [common] must be a table")
    return file


def tables(
    file: Table,
    commands: Sequence[str] = (),
    env_ids: Sequence[str] = (),
    seeds: Sequence[str] = (),
    options: Sequence[str] = (),
) -> list[Table]:
    """One table of options a line of the sweep; the command line wins over the file."""
    if file and commands:
        raise InputError("commands must come from --commands or from --config, got both")
    typed: Table = dict(split_option(text) for text in options)
    if env_ids:
        typed["env_ids"] = list(env_ids)
    if seeds:
        typed["seeds"] = seeds[0] if len(seeds) == 1 else list(seeds)
    lines = file.get("runs") or [{"command": command} for command in commands]
    if not lines:
        raise InputError("commands must name at least one algorithm (--commands), got none")
    merged = []
    for line in lines:
        table = file.get("common", {}) | line
        if "env_ids" in line or "env_ids" in typed:  # a list in one place replaces an id in another
            table.pop("env_id", None)
        elif "env_id" in line:
            table.pop("env_ids", None)
        merged.append(table | typed)
    return merged


def split_option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise InputError(f"set must be option=value, got {text!r}")
    return name.strip().lstrip("-").replace("-", "_"), value.strip()


def parse_seeds(given: Any) -> list[int]:
    """Seeds from a count, a list of seeds, or the text of a count or of "a:b" with b excluded."""
    try:
        if isinstance(given, float | bool):
            raise ValueError
        if isinstance(given, list):
            if any(isinstance(seed, float | bool) for seed in given):
                raise ValueError
            seeds = [int(seed) for seed in given]
        elif ":" in str(given):
            first, last = str(given).split(":")
            seeds = list(range(int(first), min(int(last), int(first) + MOST_SEEDS + 1)))
        else:
            seeds = list(range(min(int(given), MOST_SEEDS + 1)))
    except (TypeError, ValueError):
        seeds = []
    if len(seeds) > MOST_SEEDS:
        raise InputError(f"seeds must be at most {MOST_SEEDS}, got {given!r}")
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds must be a count, a:b, or different seeds >= 0, got {given!r}")
    return seeds


def plan(lines: Sequence[Table], out: Path) -> Iterator[Job]:
    """Every run of the sweep, one seed of all before the next, so that results come in evenly.

    Raises:
        InputError: an unknown command or option, no environment, or two runs with one folder.
    """
    cells = []
    for line in lines:
        env_ids = line.get("env_ids") or ([line["env_id"]] if line.get("env_id") else [])
        if not isinstance(env_ids, list) or not env_ids:
            raise InputError("env_ids must name at least one environment (--env-ids), got none")
        if not all(isinstance(env_id, str) and env_id for env_id in env_ids):
            raise InputError(f"env_ids must be gymnasium ids, got {env_ids}")
        for rank, seed in enumerate(parse_seeds(line.get("seeds", 5))):
            cells += [(rank, line, env_id, seed) for env_id in env_ids]
    taken: dict[Path, str] = {}
    for _, line, env_id, seed in sorted(cells, key=lambda cell: cell[0]):
        job = job_of(line, str(env_id), seed, out)
        if job.folder in taken:
            raise InputError(
                f"label must tell the runs of {job.command} on {env_id} apart, got {job.label!r} "
                f"for two with seed {seed}"
            )
        taken[job.folder] = job.label
        yield job


def job_of(line: Table, env_id: str, seed: int, out: Path) -> Job:
    """A run with every option spelled out, so that a folder made with others is noticed."""
    command: Any = line.get("command")
    one_of("command", command, COMMANDS)
    options = {name: value for name, value in line.items() if name not in PLAN}
    for name in set(options) & {*RESERVED, *(name.replace("_", "-") for name in RESERVED)}:
        raise InputError(f"{name} must be left to the sweep, got {name} = {options[name]!r}")
    if str(options.pop("tuned", False)).lower() == "true":
        options = tuned_settings(command, env_id) | options
    label = str(options.get("label") or command)
    if not re.fullmatch(r"[\w.,=+-]+", label) or label.startswith("."):
        raise InputError(f"label must be letters, digits and any of .,=+-_, got {label!r}")
    kwargs = options.get("env_kwargs", {})
    folder = out / environment_folder(env_id, kwargs) / label / f"seed{seed}"
    fixed = {"env_id": env_id, "seed": seed, "out": str(folder), "quiet": True}
    module = import_module(COMMANDS[command].module)
    try:
        check_table(options, module.Config)
        typed = as_arguments(options | fixed)
        shared, special = parse_arguments(command, module.Config, typed)
    except InputError as error:
        raise InputError(f"options of {command} must suit it: {error}") from None
    settings = as_settings(shared) | as_settings(special) | {"resume": True}
    return Job(command, env_id, label, seed, folder, (command, *as_arguments(settings)))


def environment_folder(env_id: str, env_kwargs: Any) -> str:
    """The folder of an environment: as where no sweep is used, then its keyword arguments."""
    try:
        kwargs = json.loads(env_kwargs) if isinstance(env_kwargs, str) else dict(env_kwargs)
        suffix = "".join(f",{name}={value}" for name, value in kwargs.items())
    except (AttributeError, TypeError, ValueError):
        raise InputError(f"env_kwargs must be a JSON object, got {env_kwargs!r}") from None
    name = default_folder(env_id, "command", 0).parts[-3]
    return name + re.sub(r"[^\w.,=+-]+", "-", suffix)
