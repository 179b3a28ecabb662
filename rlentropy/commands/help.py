"""What `--help` prints: the commands in groups, and the options of one.

The text of an option is the comment beside or above its field, and that of a command the docstring
of its `Config`: what it does and when to use it, the paper, and after ``Example::`` command lines.
A comment that ends with a colon and stands apart heads the options below it.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rlentropy.commands.options import Options
from rlentropy.runs.table import COMMANDS, FAMILIES, TOOLS, Command

COLUMN = 24  # where texts begin
NARROWEST, WIDEST = 50, 100  # columns that are used, of whatever terminal

# Groups of options; what isn't here is the algorithm's.
EVALUATION = ("eval_every", "evaluation", "final_")  # beginnings, or parts, of names
RUN = (
    "env_id",
    "env_kwargs",
    "horizon",
    "config",
    "tuned",
    "seed",
    "resume",
    "simulator",
    "device",
)
OUTPUT = (
    *("out", "overwrite", "append", "label", "mixture_size", "checkpoint_every"),
    *("keep_checkpoint", "quiet"),
)

UNDOING = "Flags can be undone: --no-quiet where --config FILE has quiet = true."

UNITS = {"steps": "environment steps", "": "steps"}  # of budgets that are not their own word
KINDS = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}


@dataclass(frozen=True)
class Option:
    """A field, as help shows it."""

    name: str
    kind: Any  # its type
    default: Any
    about: str
    heading: str = ""  # over it; "" where it has none of its own
    positional: bool = False

    @property
    def spelled(self) -> str:
        """Such as ``--episodes INT``."""
        name = self.name.replace("_", "-")
        if self.kind is bool:
            return f"--[no-]{name}" if self.default is True else f"--{name}"
        if self.positional:
            return name.upper() + " ..." * (get_origin(self.kind) is tuple)
        return f"--{name} {metavar(self.kind)}"

    @property
    def text(self) -> str:
        """What it is, and its default where the text doesn't say that."""
        value = self.default
        if (
            re.search("(^|; )default", self.about)
            or value is None
            or value is False
            or value in ("", "{}", ())
        ):
            return self.about
        if isinstance(value, tuple):
            value = " ".join(map(str, value))
        return f"{self.about} (default: {'yes' if value is True else value})"


def overview() -> str:
    """The commands, in groups."""
    rows = COMMANDS | TOOLS
    width = max(map(len, rows)) + 2
    lines = ["usage: rlentropy COMMAND [options]    (python train.py COMMAND in a checkout)"]
    for family, (heading, examples) in FAMILIES.items():
        if not (names := [name for name, row in rows.items() if row.family == family]):
            continue
        lines += ["", f"{family}: {heading}"]
        lines += [f"  {name:{width}}{rows[name].about}" for name in names]
        lines += [f"  $ {example}" for example in examples]
    return "\n".join([*lines, "", "rlentropy COMMAND --help lists the options of a command."])


def command_help(command: str, width: int | None = None) -> str:
    """What a command does, its options in groups, and examples.

    Args:
        width: columns; default: those of the terminal.
    """
    columns = width or shutil.get_terminal_size((80, 24)).columns
    width = min(max(columns, NARROWEST), WIDEST)
    row = (COMMANDS | TOOLS)[command]
    config_class = import_module(row.module).Config
    about, examples = description(config_class)
    found = groups(command, row, config_class)
    needed = {"env": " --env-id ID", "data": " --data DATA"}.get(row.needs, "")
    needed += "".join(
        f" [{o.spelled}]" for options in found.values() for o in options if o.positional
    )
    parts = [f"usage: rlentropy {command}{needed} [options]"]
    parts += ["\n".join(wrapped(paragraph, width)) for paragraph in about]
    for heading, options in found.items():
        lines = [line for option in options for line in shown(option, width)]
        parts.append("\n".join([f"{heading}:", *lines]))
    if command in COMMANDS:
        parts.append("\n".join(wrapped(UNDOING, width)))
    parts.append("\n".join(["examples:", *(folded(example, width) for example in examples)]))
    return "\n\n".join(parts)


def description(config_class: type[Any]) -> tuple[list[str], list[str]]:
    """Paragraphs of a docstring, and the command lines after ``Example::``."""
    text, _, after = inspect.cleandoc(config_class.__doc__ or "").partition("Example::")
    examples: list[str] = []
    for line in filter(None, map(str.strip, after.splitlines())):
        if line.startswith("rlentropy "):
            examples.append(line)
        elif examples:
            examples[-1] += f" {line}"
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n")]
    return paragraphs, examples


def groups(command: str, row: Command, config_class: type[Any]) -> dict[str, list[Option]]:
    """Options by heading: the command's own first, what it can't do without before all."""
    own = options_of(config_class)
    own.sort(key=lambda option: option.name not in (row.budget, *["data"] * (row.needs == "data")))
    found: dict[str, list[Option]] = {}
    for option in own:
        found.setdefault(group_of(option, row, command), []).append(option)
    common = [] if command in TOOLS else [o for o in options_of(Options) if applies(o.name, row)]
    for option in common:
        unit = UNITS.get(row.budget, row.budget)
        option = dataclasses.replace(option, about=option.about.replace("BUDGET", unit))
        found.setdefault(group_of(option, row, command), []).append(option)
    for heading, names in (("evaluation", EVALUATION), ("run", RUN), ("output", OUTPUT)):
        if options := found.pop(heading, []):  # they come last, in this order
            rank = {name: k for k, name in enumerate(names)}
            found[heading] = sorted(options, key=lambda o: rank.get(o.name, -1))
    return found


def group_of(option: Option, row: Command, command: str) -> str:
    name = option.name
    if any(part in name for part in EVALUATION):
        return "evaluation"
    if row.needs == "data" and name in ("env_id", "env_kwargs", "episodes", "horizon"):
        return "evaluation"
    if name in OUTPUT:
        return "output"
    if command in TOOLS:
        return option.heading or "options"
    return "run" if name in RUN else option.heading or "algorithm"


def applies(name: str, row: Command) -> bool:
    """Whether an option that every command takes does anything there."""
    if name in ("env_id", "env_kwargs"):
        return row.needs != ""
    if name == "device":
        return row.networks
    return row.budget != "" or name not in ("eval_every", "checkpoint_every", "keep_checkpoint")


def options_of(config_class: type[Any]) -> list[Option]:
    """The options of a dataclass, those of its own body before those of its bases."""
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    hints = get_type_hints(config_class, include_extras=True)
    found: dict[str, Option] = {}
    for part in config_class.__mro__[:-1]:
        for name, about, heading in comments(part):
            if name not in found and name in fields:
                kind, positional = hints[name], False
                while hasattr(kind, "__metadata__"):
                    positional |= "Positional" in map(str, kind.__metadata__)  # tyro's marker
                    kind = get_args(kind)[0]
                default = fields[name].default
                found[name] = Option(name, kind, default, about, heading, positional)
    return list(found.values())


def comments(config_class: type[Any]) -> Iterator[tuple[str, str, str]]:
    """Name, comment and heading of each field in the body of a class."""
    source = textwrap.dedent(inspect.getsource(config_class))
    lines, heading = source.splitlines(), ""
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    for node in body.body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        first, last = node.lineno - 1, node.end_lineno or node.lineno
        above: list[str] = []
        while lines[first - 1].lstrip().startswith("#"):
            first -= 1
            above.insert(0, lines[first].strip(" #"))
        apart = lines[first - 2].strip() if not lines[first - 1].strip() else ""
        if apart.startswith("#") and apart.endswith(":"):
            heading = apart.strip("# :")
        beside = [
            line.rpartition("  # ")[2] for line in lines[node.lineno - 1 : last] if "  # " in line
        ]
        yield node.target.id, " ".join(beside or above), heading


def metavar(kind: Any) -> str:
    """What stands for a value: INT, a|b, INT ...; nothing for an absent one."""
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        return f"{metavar(get_args(kind)[0])} ..."
    if get_args(kind) and get_origin(kind) is not None:
        parts = [part for part in get_args(kind) if part is not NoneType]
        if get_origin(kind) is Union or NoneType in get_args(kind):
            return "|".join(map(metavar, parts))
    return KINDS.get(kind, "VALUE")


def shown(option: Option, width: int) -> list[str]:
    """The lines of an option."""
    start, indent = f"  {option.spelled}", " " * COLUMN
    texts = [indent + text for text in wrapped(option.text, width - COLUMN)]
    if len(start) > COLUMN - 2:
        return [start, *texts]
    return [f"{start:{COLUMN}}{texts[0].lstrip()}", *texts[1:]]


def wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def folded(example: str, width: int) -> str:
    """A command line over several, broken before options, each but the last with a backslash."""
    whole = example.replace(" ", "\0").replace("\0--", " --")  # values stay with their options
    lines = [line.replace("\0", " ") for line in wrapped(whole, width - 8)]
    return " \\\n      ".join([f"  {lines[0]}", *lines[1:]])
