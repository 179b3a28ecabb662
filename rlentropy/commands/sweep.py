"""Run algorithms × environments × seeds in parallel processes, each run in one thread.

Every run is one command line with --resume, so a finished run is skipped and a broken one goes on;
a run whose folder holds other settings than those asked fails, and says which. A run that is killed
ends no other; where they run is the affair of `rlentropy.commands.engines`.

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
import itertools
import json
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from tyro.conf import UseAppendAction

from rlentropy.commands.engines import Engine, Job, LocalEngine, Outcome, cores
from rlentropy.commands.options import (
    as_arguments,
    as_settings,
    check_table,
    parse_arguments,
    read_toml,
)
from rlentropy.errors import InputError, one_of
from rlentropy.files import plain, replace_file, writing
from rlentropy.runs.folder import default_folder, stop_signals
from rlentropy.runs.table import COMMANDS

Table = dict[str, Any]

MOST_SEEDS = 100_000  # of one line of a sweep
PLAN = ("command", "env_id", "env_ids", "seeds")  # of a [[runs]] table; the rest are options
RESERVED = ("seed", "out", "config", "resume", "overwrite", "quiet")  # options that the sweep sets


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
    out: Path | None = None  # folder of the runs; default: results/runs
    workers: int = 0  # parallel processes, one thread each; 0: one for each core
    quiet: bool = False  # print nothing but failures


def run(config: Config) -> int:
    """Run the sweep; the exit code: 0 all runs done, 1 some failed, 130 interrupted.

    Raises:
        InputError: the sweep asks for something that doesn't exist; nothing is run then.
        OutputError: the list of what failed can't be written.
    """
    file = read_file(config.config)
    for name, kind in (("out", str), ("workers", int)):
        if type(value := file.get(name, kind())) is not kind:
            raise InputError(f"{name} must be {kind.__name__} in config, got {value!r}")
    out = config.out or Path(file.get("out", "results/runs"))
    workers = config.workers or file.get("workers") or cores()
    if workers < 1:
        raise InputError(f"workers must be an integer >= 0, got {workers}")
    jobs = list(plan(tables(config, file), out))
    engine: Engine = LocalEngine(workers)
    outcomes: list[Outcome] = []
    say = Progress(len(jobs), config.quiet)
    try:
        with say.showing(), interruptible(), contextlib.closing(engine.run(jobs)) as ends:
            for outcome in ends:
                outcomes.append(outcome)
                say.ended(outcome)
        code = 0
    except KeyboardInterrupt:
        left = len(jobs) - len(outcomes)
        print(f"interrupted with {left} runs to go; repeat the command", file=sys.stderr)
        code = 130
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    count = {s: sum(o.state == s for o in outcomes) for s in ("done", "skipped", "failed")}
    say.line(", ".join(f"{number} {state}" for state, number in count.items()))
    write_failures(out / "failures.txt", failed)
    return code or int(bool(failed))


# ---------------------------------------------------------------- what to run


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


def tables(config: Config, file: Table) -> list[Table]:
    """One table of options a line of the sweep; the command line wins over the file."""
    if file and config.commands:
        raise InputError("commands must come from --commands or from --config, got both")
    typed: Table = dict(split_option(text) for text in config.set)
    if config.env_ids:
        typed["env_ids"] = list(config.env_ids)
    if config.seeds:
        typed["seeds"] = config.seeds[0] if len(config.seeds) == 1 else list(config.seeds)
    lines = file.get("runs") or [{"command": command} for command in config.commands]
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


# ---------------------------------------------------------------- what is shown


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, and say at once that it was heard."""

    def stop(number: int, frame: FrameType | None) -> None:
        print("stopping the runs under way, after a checkpoint; again: at once", file=sys.stderr)
        raise KeyboardInterrupt

    with stop_signals(stop):
        yield


class Progress:
    """A live line on a terminal, a line a run elsewhere, nothing where quiet."""

    def __init__(self, total: int, quiet: bool) -> None:
        self.total, self.quiet = total, quiet
        self.ends = self.failures = 0
        self.bar: Any = None

    def line(self, text: str) -> None:
        if not self.quiet:
            if self.bar:
                self.bar.console.print(plain(text), markup=False)
            else:
                print(plain(text))

    @contextlib.contextmanager
    def showing(self) -> Iterator[None]:
        if self.quiet or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        text = TextColumn("{task.description}", markup=False)
        with Bar(*columns, text, console=Console(stderr=True), transient=True) as self.bar:
            self.bar.add_task("", total=self.total)
            yield
        self.bar = None

    def ended(self, outcome: Outcome) -> None:
        job = outcome.job
        self.ends += 1
        self.failures += outcome.state == "failed"
        text = f"{job.env_id} {job.label} seed {job.seed}: {outcome.state}"
        if self.bar:
            failed = f"{self.failures} failed, " if self.failures else ""
            self.bar.update(self.bar.task_ids[0], advance=1, description=failed + "last: " + text)
        else:
            self.line(f"{self.ends}/{self.total} {text} ({outcome.seconds:.1f} s)")


def write_failures(path: Path, failed: Sequence[Outcome]) -> None:
    """A table of what failed and why, and a file with all that those runs printed."""
    if not failed:
        with writing(path.parent):
            path.unlink(missing_ok=True)
        return
    rows = [("failed", "environment", "seed", "why")]
    rows += [(o.job.label, o.job.env_id, str(o.job.seed), o.why) for o in failed]
    widths = [max(map(len, column)) for column in itertools.islice(zip(*rows, strict=True), 3)]
    for *cells, why in rows:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        print(plain("  ".join([*padded, why])), file=sys.stderr)
    printed = (f"$ rlentropy {shlex.join(o.job.argv)}\n{o.output or o.why}\n" for o in failed)
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, "\n".join(printed).encode("utf-8", "backslashreplace"))
    print(f"what they printed: {path}", file=sys.stderr)
