"""Train: a command that learns, in a run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlentropy.commands.answers import Pace
from rlentropy.commands.console import Console, speaks
from rlentropy.commands.drawing import draw, film_if_interrupted, title_of
from rlentropy.commands.options import (
    Options,
    as_settings,
    check_sizes,
    folder_of,
    parse,
    tuned_file,
)
from rlentropy.errors import LISTED, InputError, one_of, whole
from rlentropy.files import locked
from rlentropy.runs.table import COMMANDS, TOOLS, Command
from rlentropy.start import loading

if TYPE_CHECKING:
    from rlentropy.log import Log
    from rlentropy.types import Env

LONGEST_LABEL = 100  # characters


def train(
    command: str, arguments: list[str], watch: Callable[[Log], None] = lambda log: None
) -> int:
    """Run a command of the table to the end of its budget; returns the exit code.

    Args:
        watch: is given the log before the run begins.
    """
    one_of("command", command, COMMANDS | TOOLS)
    row = COMMANDS[command]
    check_processes(command)
    with loading():
        module = import_module(row.module)
    options, config = parse(command, module.Config, arguments)
    check(row, options, config)
    with loading():
        import numpy as np
        from threadpoolctl import threadpool_limits

        from rlentropy.log import Log, ranks
        from rlentropy.runs.folder import LOCK, RunFolder, stoppable

        env, config = environment(options, config)
    say = Console(options.quiet)
    given, named = inputs(row, config, env, say)
    path = folder_of(command, options, config)
    settings = {**as_settings(options), **as_settings(config), "out": str(path)}
    rng = np.random.default_rng(np.random.SeedSequence(options.seed))
    with contextlib.ExitStack() as stack:
        device = stack.enter_context(ranks.joined(options.device))
        stack.enter_context(on_device(device))
        if ranks.follows():
            stack.enter_context(threadpool_limits(1))
            return ranks.follow(lambda: module.run(*given, config, rng, Log(None), **named))
        stack.enter_context(locked(path / LOCK, "out", path))
        log = Log(path, eval_every=options.eval_every, checkpoint_every=options.checkpoint_every)
        folder = RunFolder.open(path, command, settings, options.resume, options.overwrite)
        say.opening(f"run folder: {path}")
        if options.tuned:
            say.opening(f"tuned settings: {tuned_file(command)}, {options.env_id}")
        if row.needs == "data":
            tell_of_data(given[0], config, say)
        if (summary := folder.finished_summary()) is not None:
            say.line("already finished with this budget")
            say.table(summary)
            return 0
        say.talks = getattr(config, "at_console", False)
        with (
            threadpool_limits(1),
            stoppable(log),
            say.progress(log, Pace(command)),
            folder.running(log),
        ):
            watch(log)
            title = title_of(command, settings)
            with compiling(row, say, log), film_if_interrupted(log, title):
                result = module.run(*given, config, rng, log, **named)
            draw(result, log, command, title)
            log.text("config", "```json\n" + json.dumps(settings, indent=2) + "\n```")
            summary = folder.finish(log, result)
    if env is not None:
        env.close()
    say.table(summary)
    say.line(f"run folder: {path}")
    return 0


def check_processes(command: str) -> None:
    """Refuse several processes of torchrun where they would all do the same."""
    from rlentropy.log import ranks

    row = (COMMANDS | TOOLS)[command]
    if (size := ranks.started().size) > 1 and not row.parallel:
        able = ", ".join(name for name, row in COMMANDS.items() if row.parallel)
        raise InputError(
            f"{command} must run in one process, got {size} of torchrun, which {able} share "
            "batches among"
        )


def check(row: Command, options: Options, config: Any) -> None:
    """Refuse options that no command of this kind takes."""
    check_sizes(options, config)
    if options.env_id == "" and row.needs == "env":
        raise InputError(f"env_id must be a gymnasium id (--env-id), got none; {LISTED}")
    if options.env_id and row.needs == "":
        raise InputError(
            f"env_id must be left out, as no environment is played, got {options.env_id}"
        )
    whole("seed", options.seed, 0)
    if not (options.label.isprintable() and len(options.label) <= LONGEST_LABEL):
        raise InputError(
            f"label must be at most {LONGEST_LABEL} printable characters, got {options.label!r}"
        )


def environment(options: Options, config: Any) -> tuple[Env | None, Any]:
    """The environment that was asked for, and the config with its time limit.

    A horizon takes the place of the limit, and the limit that of a horizon left open.
    """
    from rlentropy.wrappers import make_env

    horizon: int | None = getattr(config, "horizon", None)
    if horizon is not None:
        whole("horizon", horizon, 1)
    if not options.env_id:
        return None, config
    env = make_env(options.env_id, options.env_kwargs, horizon is not None)
    if env.spec is not None and getattr(config, "horizon", 0) is None:
        config = dataclasses.replace(config, horizon=env.spec.max_episode_steps)
    return env, config


def inputs(
    row: Command, config: Any, env: Env | None, say: Console
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a command's `run` is given first, and by name."""
    if row.needs == "":
        return (), {}
    if row.needs != "data":
        return (env,), reference_of(config, env)
    from rlentropy.data import load

    return (load(config.data, lambda text: say.line(text) if speaks() else None),), {"env": env}


def tell_of_data(data: Any, config: Any, say: Console) -> None:
    """Say what was assumed of a dataset, and how much of it is held where that isn't all."""
    from rlentropy.offline.problem import held

    if data.guessed:
        say.opening(f"assumed of the data: {data.guessed}")
    if text := held(data, config):
        say.opening(f"data: {text}")


def reference_of(config: Any, env: Env | None) -> dict[str, Any]:
    """The policy of the run that --reference names, for commands that start from one."""
    folder: Path | None = getattr(config, "reference_run", None)
    if env is None or folder is None or not folder.is_dir():
        return {}
    from rlentropy.runs.policies import load

    return {"reference": load(folder, env, mixture=False)}


@contextlib.contextmanager
def compiling(row: Command, say: Console, log: Log) -> Iterator[None]:
    """Let the log know the seconds that functions take to compile; say so where any must be."""
    kernels = sys.modules.get("rlentropy.kernels.cache")
    if kernels is None:  # numba, which takes a second to load, has no part in this command
        yield
        return
    about = f": about {row.compiling} s" if row.compiling else ""
    with kernels.compilation(lambda: say.line(f"compiling kernels, once{about}")) as compilation:
        log.compiling = lambda: compilation.seconds
        yield


@contextlib.contextmanager
def on_device(name: str) -> Iterator[None]:
    """Make networks on a torch device; torch is not imported for the CPU, its own default."""
    if name == "cpu":
        yield
        return
    from rlentropy.neural import devices

    with devices.on(devices.found(name)):
        yield
