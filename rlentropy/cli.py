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
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from rlentropy.errors import InputError
from rlentropy.files import locked, plain
from rlentropy.start import loading

if TYPE_CHECKING:
    import gymnasium

Parsed = TypeVar("Parsed")

LONGEST_LABEL = 100  # characters
TOO_LARGE = ("can't allocate memory", "Maximum allowed dimension", "array is too big")  # of arrays

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
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # whatever letters the terminal lacks
    try:
        code = dispatch(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("interrupted; --resume goes on from the last checkpoint", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what Python still flushes at its end
        return 0
    except Exception as error:
        if (refusal := refusal_of(error)) is None:
            raise
        print("error:", plain(" ".join(refusal.split())), file=sys.stderr)
        return 2


def dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return 0
    if arguments[0] == "--version":
        from rlentropy import __version__

        print(__version__)
        return 0
    command, rest = arguments[0], arguments[1:]
    return use(command, rest) if command in TOOLS else train(command, rest)


def refusal_of(error: Exception) -> str | None:
    """The line for an error that isn't our bug: wrong input, or what the machine doesn't give."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MemoryError) or any(part in str(error) for part in TOO_LARGE):
        return f"memory must suffice for what was asked, got too little: {error}"
    if isinstance(error, ImportError) and not (error.name or "").startswith("rlentropy"):
        return f"the packages that rlentropy needs must be importable, got {error}"
    if isinstance(error, OSError):
        return f"files and folders must be usable, got {error}"
    return None


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
        from rlentropy.run import LOCK, RunFolder, stoppable

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
    with loading():
        module = import_module(TOOLS[tool][0])
    config = ask_tyro(module.Config, tool, module.Config.__doc__, arguments)
    check_sizes(config)
    code: int = module.run(config)
    return code


# ---------------------------------------------------------------- options


def parse(command: str, config_class: type[Any], arguments: list[str]) -> tuple[Options, Any]:
    """Options from the run to resume, then the TOML file, then the command line: the last wins."""
    options, config = parse_arguments(command, config_class, arguments)
    before: list[str] = []
    if options.config is not None:
        table = read_toml(options.config)
        check_table(table, config_class)
        before = as_arguments(table)
        options, config = parse_arguments(command, config_class, before + arguments)
    if options.resume:
        from rlentropy.run import stored_settings, trusted

        folder = folder_of(command, options, config)
        if (stored := stored_settings(folder)) is not None:
            if (before_command := stored.pop("command")) != command:
                raise InputError(
                    f"command must be {before_command} as in the run in {folder}, got {command}"
                )
            for name in ("quiet", "out"):  # this time they are asked anew
                stored.pop(name, None)
            for name, typed in (("env_id", options.env_id), ("env_kwargs", options.env_kwargs)):
                if typed in ("", "{}") and stored.get(name):
                    trusted(name, stored[name], folder)
            check_stored(command, config_class, stored, folder)
            before = as_arguments(stored) + before
            options, config = parse_arguments(command, config_class, before + arguments)
            options = dataclasses.replace(options, out=folder)
    return options, config


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"config must be a readable TOML file, got {path}: {error}") from None


def check_table(table: dict[str, Any], config_class: type[Any]) -> None:
    """Refuse a table of options that are none, come twice, or are of another kind."""
    fields = (*dataclasses.fields(Options), *dataclasses.fields(config_class))
    kinds = {field.name: str(field.type).removeprefix("<class '").rstrip("'>") for field in fields}
    seen: dict[str, str] = {}
    for spelled, value in table.items():
        name = spelled.replace("-", "_")
        if name not in kinds or name == "config":
            raise InputError(f"config must hold options alone, got {spelled!r}{near(name, kinds)}")
        if name in seen:
            raise InputError(f"{name} must be given once, got {seen[name]!r} and {spelled!r}")
        seen[name] = spelled
        if kinds[name] == "bool" and not isinstance(value, bool):
            raise InputError(f"{name} must be true or false, got {value!r}")
        fits = isinstance(value, str | int | float)
        fits |= isinstance(value, list) and "tuple" in kinds[name]
        fits |= isinstance(value, dict) and name == "env_kwargs"
        if not fits or (isinstance(value, bool) and kinds[name] != "bool"):
            raise InputError(f"{name} must be a value of its option, got {value!r}")


def check_stored(
    command: str, config_class: type[Any], stored: dict[str, Any], folder: Path
) -> None:
    """Refuse the settings of a run that the command can't have written."""
    known = {field.name for kind in (Options, config_class) for field in dataclasses.fields(kind)}
    try:
        if unknown := sorted(set(stored) - known):
            raise InputError(f"it has no option {', '.join(unknown)}")
        parsed = parse_arguments(command, config_class, as_arguments(stored))
    except InputError as error:
        raise InputError(f"the settings stored in {folder} must suit {command}: {error}") from None
    now = as_settings(parsed[0]) | as_settings(parsed[1])
    for name, value in stored.items():
        if value is not None and json.dumps(now[name]) != json.dumps(value):
            raise InputError(
                f"{name} must be a value of its option in the settings stored in {folder}, "
                f"got {value!r}"
            )


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

    for argument in arguments:
        if re.search("[\0\ud800-\udc7f\udd00-\udfff]", argument):  # what no file name can hold
            raise InputError(f"options must be without null characters, got {argument!r}")
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
        if not end.code and {"-h", "--help"} & set(arguments):
            raise
        if not end.code:  # --quiet=--help
            raise InputError("--help must stand alone, got it as a value") from None
        raise InputError(one_line(complaint.getvalue())) from None


def check_sizes(*tables: Any) -> None:
    """Refuse numbers that no array index holds, or whose square no floating-point number does."""
    for table in tables:
        for name, value in vars(table).items():
            if isinstance(value, int) and abs(value) >= 2**63:
                raise InputError(f"{name} must be less than 2^63, got {value}")
            if isinstance(value, float) and 1e150 < abs(value) < float("inf"):
                raise InputError(f"{name} must be less than 1e150, got {value}")


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
    """Command-line arguments that say what a table of settings says.

    Raises:
        InputError: a list holds what would be taken for an option.
    """
    arguments: list[str] = []
    for name, value in table.items():
        flag = name.replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list | tuple):
            texts = [str(part) for part in value]
            if any(text.startswith("-") and not text[1:2].isdigit() for text in texts):
                raise InputError(f"{name} must be values without a leading -, got {value}")
            arguments += [f"--{flag}", *texts]
        else:
            text = json.dumps(value) if isinstance(value, dict) else str(value)
            arguments += [f"--{flag}={text}"] if text.startswith("-") else [f"--{flag}", text]
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
    except (ValueError, RecursionError):
        raise InputError(f"env_kwargs must be a JSON object, got {env_kwargs!r}") from None
    limit = kwargs.pop("max_episode_steps", None)
    if limit is not None and (type(limit) is not int or (limit < 1 and limit != -1)):
        raise InputError(
            "env_kwargs must have max_episode_steps >= 1, or -1 for no limit, as a whole number, "
            f"got {limit!r}"
        )
    limit = -1 if unlimited else limit
    module, colon, name = env_id.partition(":")
    if colon and (":" in name or not (name and all(map(str.isidentifier, module.split("."))))):
        raise InputError(f"env_id must be an id, or MODULE:ID, got {env_id!r}")
    if colon and os.getcwd() not in sys.path:
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
            print(plain(text), flush=True)

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
                print(plain(f"  {name:{width}}{shown}"))

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
