"""The table of commands against the modules that it names."""

import dataclasses
import inspect
from importlib import import_module

import pytest

from rlentropy.commands.options import Options
from rlentropy.runs.table import COMMANDS, TOOLS


@pytest.mark.parametrize("name", COMMANDS)
def test_a_row_says_what_its_module_is_like(name):
    row = COMMANDS[name]
    module = import_module(row.module)
    options = {field.name for field in dataclasses.fields(module.Config)}
    signature = inspect.signature(module.run)
    parameters = [n for n, p in signature.parameters.items() if p.kind is not p.KEYWORD_ONLY]
    first = [row.needs] if row.needs else []
    assert first in (["env"], ["data"], [])
    shared = [*first, "config", "rng", "log"]
    assert parameters[: len(shared)] == shared
    assert set(parameters[len(shared) :]) == {
        *["env"] * (first == ["data"]),
        *["score"] * (row.budget == "episodes"),
        *["reference"] * (row.budget == "labels" and first == ["env"]),
    }
    assert ("data" in options) == (row.needs == "data")
    assert row.budget == "" or row.budget in options
    assert row.axis in ("env_steps", "updates", "labels")
    assert not options & {field.name for field in dataclasses.fields(Options)}


@pytest.mark.parametrize("name", TOOLS)
def test_tools_have_a_config_and_an_exit_code(name):
    row = TOOLS[name]
    module = import_module(row.module)
    assert dataclasses.is_dataclass(module.Config)
    assert list(inspect.signature(module.run).parameters) == ["config"]
    assert inspect.signature(module.run).return_annotation in (int, "int")
    assert (row.needs, row.budget, row.axis) == ("", "", "")


def test_names_are_different_and_descriptions_fit_a_terminal():
    assert not COMMANDS.keys() & TOOLS.keys()
    width = max(map(len, COMMANDS | TOOLS))
    for row in (COMMANDS | TOOLS).values():
        assert 0 < len(row.about) <= 75 - width
