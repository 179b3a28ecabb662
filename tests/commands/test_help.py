"""What --help prints: every option with a text, examples that parse, 80 columns, no riddles."""

import ast
import dataclasses
import inspect
import re
import shlex
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

import gymnasium
import pytest

from rlentropy.cli import main
from rlentropy.commands import help as helping
from rlentropy.commands.options import Options, ask_tyro, parse_arguments
from rlentropy.runs.table import COMMANDS, FAMILIES, TOOLS, Command

ROWS = COMMANDS | TOOLS


def config_of(command):
    return import_module(ROWS[command].module).Config


def test_the_overview_has_every_command_once_in_a_group_with_an_example(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) < 80
    for command, row in ROWS.items():
        assert row.family in FAMILIES
        assert len(re.findall(rf"^  {command} ", text, re.M)) == 1
    shown = text.split("\n\n")[1:-1]
    assert [group.split(":")[0] for group in shown] == [
        *("explore", "plan", "offline", "preferences", "tools")
    ]
    for group in shown:
        assert re.search(r"^  \$ rlentropy ", group, re.M)
    for _, examples in FAMILIES.values():
        for example in examples:
            check_example(example)


def check_example(line):
    """A command line that parses, in an environment that exists."""
    program, command, *arguments = shlex.split(line)
    assert program == "rlentropy"
    if command in TOOLS:
        ask_tyro(config_of(command), command, arguments, (config_of(command),))
        return
    options, _ = parse_arguments(command, config_of(command), arguments)
    if options.env_id:
        assert gymnasium.spec(options.env_id)
    else:
        assert ROWS[command].needs != "env"


@pytest.mark.parametrize("command", sorted(ROWS))
def test_help_of_a_command(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith(f"usage: rlentropy {command} ")
    assert "§" not in text
    assert "spec " not in text
    assert "see above" not in text
    assert "BUDGET" not in text
    assert "``" not in text
    about, examples = helping.description(config_of(command))
    assert 2 <= len(" ".join(about).split(". "))  # what it does, and when to use it
    assert "Use it" in " ".join(about)
    assert any(example.startswith(f"rlentropy {command}") for example in examples)
    for example in examples:
        check_example(example)
        assert " ".join(example.split()) in text.replace(" \\\n     ", "")


@pytest.mark.parametrize("command", ROWS)
def test_every_option_has_a_text(command):
    config = config_of(command)
    found = [
        o for options in helping.groups(command, ROWS[command], config).values() for o in options
    ]
    names = [option.name for option in found]
    assert len(set(names)) == len(names)
    own = {field.name for field in dataclasses.fields(config)}
    shared = {field.name for field in dataclasses.fields(Options)} if command in COMMANDS else set()
    assert own <= set(names) <= own | shared
    for option in found:
        assert len(option.about) > 4, option.name
        assert option.kind is bool or option.positional or "VALUE" not in option.spelled


def test_options_that_do_nothing_are_not_shown_and_are_taken(capsys):
    hidden = {
        "entgame": {"device"},
        "robust-planning": {"device", "eval_every", "checkpoint_every", "keep_checkpoint"},
        "language-preference": {"env_id", "env_kwargs"},
        "rfzi": set(),
    }
    shared = {field.name for field in dataclasses.fields(Options)}
    for command, names in hidden.items():
        found = helping.groups(command, ROWS[command], config_of(command)).values()
        assert shared - {option.name for options in found for option in options} == names
        options, _ = parse_arguments(command, config_of(command), ["--device", "cpu"])
        assert options.device == "cpu"


@pytest.mark.parametrize(("columns", "used"), [("3", 50), ("200", 100)])
def test_odd_terminals(columns, used, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    widest = max(map(len, helping.command_help("rfzi").splitlines()))
    assert used - 15 < widest <= used + 15  # choices are never broken


def test_budgets_are_named_and_come_first():
    for command, unit in (
        *(("entgame", "episodes"), ("mepol", "environment steps")),
        *(("rfzi", "updates"), ("active-preference", "labels")),
    ):
        text = helping.command_help(command, 80)
        assert f"{unit} between evaluations" in text
        row = ROWS[command]
        first = text.split("algorithm:\n")[1].split()[0]
        assert first == ("--data" if row.needs == "data" else f"--{row.budget}")


def test_groups_come_in_order():
    text = helping.command_help("robust-actor-critic", 80)
    assert re.findall(r"^([a-z ]+):$", text, re.M) == [
        *("algorithm", "evaluation", "run", "output", "examples")
    ]
    run = text.split("\nrun:\n")[1].split("\n\n")[0]
    assert re.findall(r"^  --([a-z-]+)", run, re.M) == [
        *("env-id", "env-kwargs", "horizon", "config", "tuned", "seed", "resume", "device")
    ]


def test_both_ways_of_a_flag_work():
    config = config_of("robust-actor-critic")
    text = helping.command_help("robust-actor-critic", 80)
    assert "--[no-]normalise-rewards" in text
    assert "--no-quiet" not in text.split("Flags can be undone")[0]
    for spelled, value in (("--normalise-rewards", True), ("--no-normalise-rewards", False)):
        assert (
            parse_arguments("robust-actor-critic", config, [spelled])[1].normalise_rewards == value
        )
    for spelled, value in (("--quiet", True), ("--no-quiet", False)):
        assert parse_arguments("robust-actor-critic", config, [spelled])[0].quiet == value


Few = Literal["a", "b"]


@dataclass(frozen=True)
class Base:
    """A base."""

    shared: Path | None = None  # of the base
    changed: int = 0  # in the base


@dataclass(frozen=True)
class Sample(Base):
    """Does something to a sample. Use it in a test.

    Example::

        rlentropy sample --changed 3
            --few b
        rlentropy sample
    """

    changed: int = 1  # here; a # within stays
    # above, over
    # two lines
    few: Few = "a"

    # a heading:

    pair: tuple[float, ...] = (1.0, 2.0)
    single: bool = True  # a flag
    given: int = 0  # default: none


def test_comments_become_texts():
    found = {option.name: option for option in helping.options_of(Sample)}
    assert list(found) == ["changed", "few", "pair", "single", "given", "shared"]
    assert found["changed"].text == "here; a # within stays (default: 1)"
    assert (found["few"].spelled, found["few"].text) == (
        "--few a|b",
        "above, over two lines (default: a)",
    )
    assert (found["pair"].spelled, found["pair"].heading) == ("--pair FLOAT ...", "a heading")
    assert found["pair"].text == " (default: 1.0 2.0)"
    assert (found["single"].spelled, found["single"].text) == (
        *("--[no-]single", "a flag (default: yes)"),
    )
    assert found["given"].text == "default: none"
    assert (found["shared"].spelled, found["shared"].text) == ("--shared PATH", "of the base")


def test_help_as_a_command(capsys):
    assert main(["help"]) == 0
    assert capsys.readouterr().out == f"{helping.overview()}\n"
    assert main(["help", "entgame"]) == 0
    assert capsys.readouterr().out.startswith("usage: rlentropy entgame ")
    assert main(["help", "entgme"]) == 2
    assert "did you mean entgame" in capsys.readouterr().err


def test_a_docstring_becomes_paragraphs_and_examples():
    about, examples = helping.description(Sample)
    assert about == ["Does something to a sample. Use it in a test."]
    assert examples == ["rlentropy sample --changed 3 --few b", "rlentropy sample"]


def test_long_examples_are_folded_before_options():
    line = "rlentropy x --aaaa b --cccc d e"
    assert helping.folded(line, 80) == f"  {line}"
    assert helping.folded(line, 30) == "  rlentropy x --aaaa b \\\n      --cccc d e"
    assert helping.folded(line, 20) == "  rlentropy x \\\n      --aaaa b \\\n      --cccc d e"


def test_tyro_stays_in_one_file():
    """Every call of it is in options.py; elsewhere its markers are named in annotations alone."""
    root = Path(inspect.getfile(helping)).parents[1]
    users = {
        path.name
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("tyro.cli", "tyro.extras")
    }
    assert users == {"options.py"}


def test_a_row_of_no_family_is_shown_among_others(monkeypatch):
    monkeypatch.setitem(COMMANDS, "mine", Command("mine", "something new"))
    assert "\nothers: of other packages\n  mine  " in helping.overview()
