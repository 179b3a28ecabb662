"""The command line: a table of commands, each a module with `Config` and `run`.

Options are the fields of `Options` and of the module's `Config`; their help is the comment beside
each field. Modules are imported when their command is named, so that help stays quick.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import json
import os
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from rlentropy.errors import InputError

if TYPE_CHECKING:
    import gymnasium

Parsed = TypeVar("Parsed")

COMMANDS = {
    "optimal-exploration": ("rlentropy.exploration.optimal", "exact optimum of a known model"),
    "entgame": ("rlentropy.exploration.entgame", "visitation entropy: forecaster against sampler"),
    "reg-entgame": ("rlentropy.exploration.reg_entgame", "visitation entropy: soft sampler"),
    "maxent": ("rlentropy.exploration.maxent", "visitation entropy: Frank-Wolfe (Hazan et al.)"),
    "rf-ucrl": ("rlentropy.exploration.rf_ucrl", "reward-free exploration: RF-UCRL, RF-Express"),
    "ucbvi-ent": ("rlentropy.exploration.ucbvi_ent", "trajectory entropy: optimistic soft plans"),
    "rf-explore-ent": ("rlentropy.exploration.rf_explore_ent", "trajectory entropy: two phases"),
    "random-policy": ("rlentropy.exploration.random_policy", "baseline: uniformly random actions"),
    "robust-planning": ("rlentropy.robust.value", "optimal robust value of a known model"),
    "robust-pg": ("rlentropy.robust.policy_gradient", "exact robust policy gradient"),
    "robust-actor-critic": ("rlentropy.robust.actor_critic", "neural robust policy gradient"),
    "rfzi": ("rlentropy.offline.rfzi", "robust fitted Z iteration on a dataset"),
    "rfqi": ("rlentropy.offline.rfqi", "robust fitted Q iteration on a dataset (TV ball)"),
    "fqi": ("rlentropy.offline.fqi", "fitted Q iteration on a dataset: the nominal baseline"),
}

TOOLS = {  # they take no environment: a `Config`, and `run(config)`, which returns the exit code
    "collect": ("rlentropy.collect", "an offline dataset from random actions or a run's policy"),
    "evaluate": ("rlentropy.evaluate", "returns of finished runs, over grids of perturbations"),
    "compare": ("rlentropy.compare", "tables, pictures and TensorBoard bands from run folders"),
    "sweep": ("rlentropy.sweep", "algorithms x environments x seeds in parallel processes"),
}


@dataclass(frozen=True)
class Options:
    """Options that every command shares."""

    env_id: str = ""  # gymnasium id, or module:id to import that first; offline only to evaluate
    env_kwargs: str = "{}"  # JSON object of its keyword arguments; max_episode_steps is its limit
    config: Path | None = None  # TOML file of any of these options; the command line wins
    seed: int = 0  # seed of everything random, >= 0
    label: str = ""  # what compare calls these settings; default: the command
    out: Path | None = None  # run folder; default results/runs/<env>/<command>/seed<k>
    resume: bool = False  # go on with the run in --out, to the same end as without the break
    overwrite: bool = False  # delete the run in --out first
    eval_every: int = 0  # units of the budget between evaluations; 0: about eight per decade
    checkpoint_every: int = 0  # units of the budget between checkpoints; 0: every 30 seconds
    device: str = "cpu"  # torch device of neural commands; tabular ones run on the CPU
    quiet: bool = False  # print nothing but errors


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 2 wrong input, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(overview())
            return 0
        if arguments[0] == "--version":
            from rlentropy import __version__

            print(__version__)
            return 0
        command, rest = arguments[0], arguments[1:]
        return use(command, rest) if command in TOOLS else train(command, rest)
    except InputError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; --resume goes on from the last checkpoint", file=sys.stderr)
        return 130


def overview() -> str:
    width = max(map(len, COMMANDS | TOOLS)) + 2
    lines = [f"  {name:{width}}{text}" for name, (_, text) in (COMMANDS | TOOLS).items()]
    return "\n".join(
        [
            "usage: rlentropy COMMAND [options]    (python train.py COMMAND in a checkout)",
            "",
            "commands:",
            *lines,
            "",
            "rlentropy COMMAND --help lists the options of a command, with defaults and units.",
        ]
    )


def train(command: str, arguments: list[str]) -> int:
    if command not in COMMANDS:
        choices, hint = ", ".join(COMMANDS | TOOLS), near(command, COMMANDS | TOOLS)
        raise InputError(f"command must be one of {choices}, got {command!r}{hint}")
    module = import_module(COMMANDS[command][0])
    options, config = parse(command, module.Config, arguments)
    offline = hasattr(config, "data")
    if options.env_id == "" and not offline:
        raise InputError("env_id must be a gymnasium id (--env-id), got none")
    if options.seed < 0:
        raise InputError(f"seed must be >= 0, got {options.seed}")

    import numpy as np
    from threadpoolctl import threadpool_limits

    from rlentropy.log import Log
    from rlentropy.run import RunFolder, stoppable

    env = None
    if options.env_id:
        env = make_env(options.env_id, options.env_kwargs, horizon_of(config) is not None)
        if hasattr(config, "horizon") and config.horizon is None:
            limit = env.spec.max_episode_steps if env.spec else None
            config = dataclasses.replace(config, horizon=limit)
    if offline:
        from rlentropy.data import load
    subject, *more = (load(config.data), env) if offline else (env,)
    path = folder_of(command, options, config)
    schedule = {"eval_every": options.eval_every, "checkpoint_every": options.checkpoint_every}
    log = Log(path, **schedule)
    settings = {**as_settings(options), **as_settings(config), "out": str(path)}
    folder = RunFolder.open(path, command, settings, options.resume, options.overwrite)
    say = Console(options.quiet)
    say.line(f"run folder: {path}")
    if (summary := folder.finished_summary()) is not None:
        say.line("already finished with this budget")
        say.table(summary)
        return 0

    rng = np.random.default_rng(np.random.SeedSequence(options.seed))
    with (
        on_device(options.device),
        threadpool_limits(1),
        stoppable(log),
        say.progress(log),
        folder.running(log),
    ):
        result = module.run(subject, config, rng, log, *more)
        log.text("config", "```json\n" + json.dumps(settings, indent=2) + "\n```")
        summary = folder.finish(log, result)
    if env is not None:
        env.close()
    say.table(summary)
    say.line(f"run folder: {path}")
    return 0


def folder_of(command: str, options: Options, config: Any) -> Path:
    """The run folder: --out, or one named after the environment or the dataset."""
    from rlentropy.run import default_folder

    where = options.env_id or Path(getattr(config, "data", "")).stem
    return options.out or default_folder(where, command, options.seed)


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


def use(tool: str, arguments: list[str]) -> int:
    """Run a command that takes no environment."""
    module = import_module(TOOLS[tool][0])
    code: int = module.run(ask_tyro(module.Config, tool, module.Config.__doc__, arguments))
    return code


# ---------------------------------------------------------------- options


def parse(command: str, config_class: type[Any], arguments: list[str]) -> tuple[Options, Any]:
    """Options from the run to resume, then the TOML file, then the command line: the last wins."""
    options, config = parse_arguments(command, config_class, arguments)
    before: list[str] = []
    if options.config is not None:
        try:
            table = tomllib.loads(options.config.read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"config must be a readable TOML file, got {error}") from None
        known = (*dataclasses.fields(Options), *dataclasses.fields(config_class))
        flags = {field.name for field in known if field.type in (bool, "bool")}
        for name, value in table.items():
            if name.replace("-", "_") in flags and not isinstance(value, bool):
                raise InputError(f"{name} must be true or false, got {value!r}")
        before = as_arguments(table)
        options, config = parse_arguments(command, config_class, before + arguments)
    if options.resume:
        from rlentropy.run import stored_settings

        folder = folder_of(command, options, config)
        if (stored := stored_settings(folder)) is not None:
            stored.pop("quiet", None)  # this time is asked anew
            if (before_command := stored.pop("command")) != command:
                raise InputError(
                    f"command must be {before_command} as in the run in {folder}, got {command}"
                )
            before = as_arguments(stored) + before
            options, config = parse_arguments(command, config_class, before + arguments)
    return options, config


def parse_arguments(
    command: str, config_class: type[Any], arguments: list[str]
) -> tuple[Options, Any]:
    import tyro

    def collect(options: Any, config: Any) -> tuple[Options, Any]:
        return options, config

    collect.__annotations__ = {
        "options": Annotated[Options, tyro.conf.arg(name="")],
        "config": Annotated[config_class, tyro.conf.arg(name="")],
        "return": tuple[Options, Any],
    }
    return ask_tyro(collect, command, config_class.__doc__, arguments)


def ask_tyro(
    target: Callable[..., Parsed], command: str, about: str | None, arguments: list[str]
) -> Parsed:
    """Parse with tyro, and make its complaint one line."""
    import tyro

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                target,
                prog=f"{Path(sys.argv[0]).name} {command}",
                description=(about or "").strip(),
                args=arguments,
            )
    except SystemExit as end:
        if not end.code:
            raise
        raise InputError(one_line(complaint.getvalue())) from None


def one_line(complaint: str) -> str:
    """The message inside tyro's box, with the names it suggests but without its help text."""
    sections: list[list[str]] = [[]]
    for line in complaint.splitlines():
        if line.startswith(("╭", "╰")):
            continue
        text = line.strip("│ ")
        if text.startswith("───"):
            sections.append([])
        elif text:
            sections[-1].append(text)
    kept = [s for s in sections[:-1] if s and not s[0].startswith("Argument helptext")]
    line = "; ".join(" ".join(section) for section in kept) or complaint.strip()
    return line.removeprefix("Error parsing Config: ")


def as_settings(dataclass_: Any) -> dict[str, Any]:
    """Fields as JSON holds them, so that a run's own settings equal those it stored."""
    plain = {Path: str, tuple: list}
    return {
        name: next((make(value) for kind, make in plain.items() if isinstance(value, kind)), value)
        for name, value in dataclasses.asdict(dataclass_).items()
    }


def as_arguments(table: dict[str, Any]) -> list[str]:
    """Command-line arguments that say what a table of settings says."""
    arguments: list[str] = []
    for name, value in table.items():
        flag = name.replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, dict):
            arguments += [f"--{flag}", json.dumps(value)]
        elif isinstance(value, list | tuple):
            arguments += [f"--{flag}", *map(str, value)]
        else:
            arguments += [f"--{flag}", str(value)]
    return arguments


def horizon_of(config: Any) -> int | None:
    horizon: int | None = getattr(config, "horizon", None)
    if horizon is not None and horizon < 1:
        raise InputError(f"horizon must be >= 1, got {horizon}")
    return horizon


def near(name: str, choices: Any) -> str:
    close = difflib.get_close_matches(name, list(choices), n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def make_env(env_id: str, env_kwargs: str, unlimited: bool) -> gymnasium.Env[Any, Any]:
    """Make an environment; unlimited drops its time limit, since the horizon takes its place.

    `max_episode_steps` among the keyword arguments is that of `gymnasium.make`. So that nothing is
    said twice, gymnasium's own checker is left out: `rlentropy.checked` does its work.
    """
    import gymnasium

    try:
        kwargs = json.loads(env_kwargs)
        if not isinstance(kwargs, dict):
            raise ValueError("no object")
    except ValueError:
        raise InputError(f"env_kwargs must be a JSON object, got {env_kwargs!r}") from None
    limit = kwargs.pop("max_episode_steps", None)
    if limit is not None and (type(limit) is not int or (limit < 1 and limit != -1)):
        raise InputError(
            "env_kwargs must have max_episode_steps >= 1, or -1 for no limit, as a whole number, "
            f"got {limit!r}"
        )
    limit = -1 if unlimited else limit
    if ":" in env_id and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        env = gymnasium.make(env_id, limit, **{"disable_env_checker": True} | kwargs)
    except (gymnasium.error.Error, ImportError) as error:
        hint = near(env_id, gymnasium.registry)
        raise InputError(
            f"env_id must name a gymnasium environment, got {env_id!r}: {error}{hint}"
        ) from None
    except Exception as error:  # whatever a constructor makes of arguments that it wasn't made for
        if not kwargs:
            raise
        what = f"{type(error).__name__}: {error}"
        raise InputError(f"env_kwargs must suit {env_id}, got {env_kwargs}: {what}") from error
    for name in ("observation_space", "action_space"):
        if not isinstance(space := getattr(env, name, None), gymnasium.Space):
            raise InputError(f"env must have a gymnasium space as its {name}, got {space!r}")
    return env


# ---------------------------------------------------------------- console


class Console:
    """What a person sees: lines and a table on standard output, a bar on standard error."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    def line(self, text: str) -> None:
        if not self.quiet:
            print(text, flush=True)

    def table(self, summary: dict[str, Any]) -> None:
        if self.quiet:
            return
        facts = {k: v for k, v in summary.items() if not isinstance(v, list)}
        facts |= {
            k: " to ".join(f"{end:.8g}" for end in summary[k]) for k in summary if "ci95" in k
        }
        width = max(map(len, facts)) + 2
        for name in summary:
            if name in facts:
                value = facts[name]
                shown = f"{value:.8g}" if isinstance(value, float) else value
                print(f"  {name:{width}}{shown}")

    @contextlib.contextmanager
    def progress(self, log: Any) -> Any:
        """Show the log's progress on a terminal."""
        if self.quiet or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console as Terminal
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Terminal(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None)
            log.on_progress = lambda done, total: bar.update(task, completed=done, total=total)
            yield
