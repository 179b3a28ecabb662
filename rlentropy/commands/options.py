"""Options of the command line: the fields of `Options` and of a command's `Config`.

Their help is the comment beside each field.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from rlentropy.commands.complaints import refusal
from rlentropy.errors import InputError, did_you_mean

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Options:
    """Options that every command shares; BUDGET stands for what a command's budget counts."""

    env_id: str = ""  # gymnasium id, as `rlentropy envs` lists them; module:id imports that first
    env_kwargs: str = "{}"  # JSON object of its keyword arguments; max_episode_steps is its limit
    config: Path | None = None  # TOML file of any of these options; the command line wins
    tuned: bool = False  # settings found for this environment by a search; all that is given wins
    seed: int = 0  # of everything random, >= 0
    label: str = ""  # what compare calls these settings; default: the command
    out: Path | None = None  # run folder; default: results/runs/<env>/<command>/seed<k>
    resume: bool = False  # go on with the run in --out, to the same end as without the break
    overwrite: bool = False  # delete the run in --out first
    eval_every: int = 0  # BUDGET between evaluations; 0: about eight evaluations a decade
    checkpoint_every: int = 0  # BUDGET between checkpoints; 0: one every 30 seconds
    keep_checkpoint: bool = True  # of a finished run, so that a larger budget can extend it
    device: str = "cpu"  # torch device of networks, such as cuda; tables stay on the CPU
    quiet: bool = False  # print nothing but errors and warnings


def parse(command: str, config_class: type[Any], arguments: list[str]) -> tuple[Options, Any]:
    """Options from the run to resume, then the TOML file, then the command line: the last wins."""
    options, config = parse_arguments(command, config_class, arguments)
    before: list[str] = []
    if options.config is not None:
        table = read_toml(options.config)
        check_table(table, config_class)
        before = as_arguments(table)
        options, config = parse_arguments(command, config_class, before + arguments)
    if options.tuned:
        before = as_arguments(tuned_settings(command, options.env_id)) + before
        options, config = parse_arguments(command, config_class, before + arguments)
    if options.resume:
        from rlentropy.runs.folder import stored_settings
        from rlentropy.wrappers import trusted

        folder = folder_of(command, options, config)
        if (stored := stored_settings(folder)) is not None:
            if (before_command := stored.pop("command")) != command:
                raise InputError(
                    f"command must be {before_command} as in the run in {folder}, got {command}"
                )
            for name in ("quiet", "out"):  # this time they are asked anew
                stored.pop(name, None)
            typed = {"env_id": options.env_id, "env_kwargs": options.env_kwargs}
            typed |= {name: getattr(config, name) for name in getattr(config, "CODE", ())}
            for name, value in typed.items():
                if value in (None, "", "{}") and stored.get(name):
                    trusted(name, stored[name], folder)
            check_stored(command, config_class, stored, folder)
            before = as_arguments(stored) + before
            options, config = parse_arguments(command, config_class, before + arguments)
            options = dataclasses.replace(options, out=folder)
    return options, config


def read_toml(path: Path, option: str = "config") -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{option} must be a readable TOML file, got {path}: {error}") from None


def tuned_file(command: str) -> Path:
    """The file of a command's tuned settings: a table of options for each environment."""
    return Path(__file__).parents[1] / "tuned" / f"{command}.toml"


def tuned_settings(command: str, env_id: str) -> dict[str, Any]:
    """Settings that a search found for an environment.

    Raises:
        InputError: none are known; names those that are.
    """
    path = tuned_file(command)
    known = read_toml(path, "tuned") if path.is_file() else {}
    env_id = env_id.rpartition(":")[2]  # without the module that registers it
    if env_id not in known:
        others = sorted(file.stem for file in path.parent.glob("*.toml"))
        there = f"for {', '.join(known)}" if known else f"of {', '.join(others)} alone"
        raise InputError(
            f"tuned must be asked where {command} has settings, which are {there}, "
            f"got {env_id or 'no environment'}{did_you_mean(env_id, known)}"
        )
    return dict(known[env_id])


def check_table(table: dict[str, Any], config_class: type[Any]) -> None:
    """Refuse a table of options that are none, come twice, or are of another kind."""
    fields = (*dataclasses.fields(Options), *dataclasses.fields(config_class))
    kinds = {field.name: str(field.type).removeprefix("<class '").rstrip("'>") for field in fields}
    seen: dict[str, str] = {}
    for spelled, value in table.items():
        name = spelled.replace("-", "_")
        if name not in kinds or name == "config":
            raise InputError(
                f"config must hold options alone, got {spelled!r}{did_you_mean(name, kinds)}"
            )
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
    return ask_tyro(collect, command, arguments, (Options, config_class))


def ask_tyro(
    target: Callable[..., Parsed],
    command: str,
    arguments: list[str],
    tables: Sequence[type[Any]],
) -> Parsed:
    """Parse with tyro, and make its complaint one line.

    Args:
        tables: the dataclasses whose fields are the options.
    """
    import tyro

    for argument in arguments:
        if re.search("[\0\ud800-\udc7f\udd00-\udfff]", argument):  # what no file name can hold
            raise InputError(f"options must be without null characters, got {argument!r}")
    complaint = io.StringIO()
    unseen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # whose letters decide how it draws
    try:
        with contextlib.redirect_stderr(complaint), contextlib.redirect_stdout(unseen):
            return tyro.cli(target, prog=f"{Path(sys.argv[0]).name} {command}", args=arguments)
    except SystemExit as end:
        if not end.code:  # --quiet=--help
            raise InputError("--help must stand alone, got it as a value") from None
        names = [field.name for table in tables for field in dataclasses.fields(table)]
        raise InputError(refusal(complaint.getvalue(), command, names)) from None


def check_sizes(*tables: Any) -> None:
    """Refuse numbers that no array index holds, or whose square no floating-point number does."""
    for table in tables:
        for name, value in vars(table).items():
            if isinstance(value, int) and abs(value) >= 2**63:
                raise InputError(f"{name} must be less than 2^63, got {value}")
            if isinstance(value, float) and 1e150 < abs(value) < float("inf"):
                raise InputError(f"{name} must be less than 1e150, got {value}")


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


def folder_of(command: str, options: Options, config: Any) -> Path:
    """The run folder: --out, or one named after the environment, the dataset or the model."""
    from rlentropy.runs.folder import default_folder

    given = getattr(config, "data", "") or getattr(config, "model", "")
    where = options.env_id or Path(given).stem
    return options.out or default_folder(where, command, options.seed)
