"""Train: a command with an environment or a dataset, in a run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from rlentropy.commands.console import Console
from rlentropy.commands.options import as_settings, check_sizes, folder_of, parse
from rlentropy.commands.start import loading
from rlentropy.errors import InputError, did_you_mean
from rlentropy.files import locked
from rlentropy.runs.table import COMMANDS, TOOLS
from rlentropy.wrappers import make_env

SCORED = (
    "entgame",
    "reg-entgame",
    "maxent",
    "rf-ucrl",
    "ucbvi-ent",
    "rf-explore-ent",
    "random-policy",
)
LONGEST_LABEL = 100  # characters


def train(command: str, arguments: list[str]) -> int:
    if command not in COMMANDS:
        choices, hint = ", ".join(COMMANDS | TOOLS), did_you_mean(command, COMMANDS | TOOLS)
        raise InputError(f"command must be one of {choices}, got {command!r}{hint}")
    with loading():
        module = import_module(COMMANDS[command][0])
    options, config = parse(command, module.Config, arguments)
    check_sizes(options, config)
    offline = hasattr(config, "data")
    if options.env_id == "" and not offline:
        raise InputError("env_id must be a gymnasium id (--env-id), got none")
    if options.seed < 0:
        raise InputError(f"seed must be >= 0, got {options.seed}")
    if not (options.label.isprintable() and len(options.label) <= LONGEST_LABEL):
        raise InputError(
            f"label must be at most {LONGEST_LABEL} printable characters, got {options.label!r}"
        )

    with loading():
        import numpy as np
        from threadpoolctl import threadpool_limits

        from rlentropy.data import load
        from rlentropy.log import Log
        from rlentropy.runs.folder import LOCK, RunFolder, stoppable

        env = None
        if options.env_id:
            env = make_env(options.env_id, options.env_kwargs, horizon_of(config) is not None)
    if env is not None and hasattr(config, "horizon") and config.horizon is None:
        limit = env.spec.max_episode_steps if env.spec else None
        config = dataclasses.replace(config, horizon=limit)
    subject, *more = (load(config.data), env) if offline else (env,)
    path = folder_of(command, options, config)
    schedule = {"eval_every": options.eval_every, "checkpoint_every": options.checkpoint_every}
    log = Log(path, **schedule)
    settings = {**as_settings(options), **as_settings(config), "out": str(path)}
    rng = np.random.default_rng(np.random.SeedSequence(options.seed))
    say = Console(options.quiet)
    with on_device(options.device), locked(path / LOCK, "out", path):
        folder = RunFolder.open(path, command, settings, options.resume, options.overwrite)
        say.line(f"run folder: {path}")
        if offline and (guessed := getattr(subject, "guessed", "")):
            say.line(f"assumed of the data: {guessed}")
        if (summary := folder.finished_summary()) is not None:
            say.line("already finished with this budget")
            say.table(summary)
            return 0
        with threadpool_limits(1), stoppable(log), say.progress(log), folder.running(log):
            if command in SCORED:
                more.append(import_module("rlentropy.exploration.scoring").Scores)
            result = module.run(subject, config, rng, log, *more)
            if result.visits is not None:
                from rlentropy import plots

                picture = plots.visits(result.visits.sum((0, 2)), result.grid_shape)
                log.figure("visits", picture, result.summary["env_steps"])
            log.text("config", "```json\n" + json.dumps(settings, indent=2) + "\n```")
            summary = folder.finish(log, result)
    if env is not None:
        env.close()
    say.table(summary)
    say.line(f"run folder: {path}")
    return 0


@contextlib.contextmanager
def on_device(name: str) -> Iterator[None]:
    """Make a torch device the default; torch is not imported for the CPU, its own default."""
    if name == "cpu":
        yield
        return
    import torch

    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"device must be a torch device that is here, got {name!r}: {reason}"
        ) from None
    with device:
        yield


def horizon_of(config: Any) -> int | None:
    horizon: int | None = getattr(config, "horizon", None)
    if horizon is not None and horizon < 1:
        raise InputError(f"horizon must be >= 1, got {horizon}")
    return horizon
