"""docs/algorithms: a page for each command, with the same sections, which names what exists."""

import dataclasses
import re
from importlib import import_module
from pathlib import Path

import pytest

from rlentropy.commands.options import Options
from rlentropy.risk import NAMES
from rlentropy.runs.table import COMMANDS, TOOLS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "algorithms"
SHARED = {"neural-random": "random-policy"}  # commands on the page of another
SECTIONS = [
    *("When to use it", "Equations", "A run", "Main options", "Tags"),
    *("Differences from the paper", "Results", "In Python"),
]
TAGS = set(re.findall(r"^\| `([^`]+)`", (ROOT / "docs" / "tags.md").read_text("utf-8"), re.M))
LEARNING = {SHARED.get(command, command) for command in COMMANDS}


def commands_of(page: str) -> list[str]:
    return [command for command in COMMANDS if SHARED.get(command, command) == page]


def options_of(module: str) -> set[str]:
    fields = dataclasses.fields(import_module(module).Config)
    return {field.name.replace("_", "-") for field in fields}


def sections(page: str) -> dict[str, str]:
    _, *parts = re.split(r"^## (.+)$", (FOLDER / f"{page}.md").read_text("utf-8"), flags=re.M)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_command_has_a_page_and_every_page_a_command() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} - {"README"} == LEARNING
    index = (FOLDER / "README.md").read_text("utf-8")
    assert set(re.findall(r"\]\(([\w-]+)\.md\)", index)) == LEARNING


@pytest.mark.parametrize("page", sorted(LEARNING))
def test_a_page_has_the_sections_of_all_and_names_what_exists(page) -> None:
    found, commands = sections(page), commands_of(page)
    assert list(found) == SECTIONS
    text = (FOLDER / f"{page}.md").read_text("utf-8")
    assert all(f"`{command}`" in text.splitlines()[0] for command in commands)
    shared = {field.name.replace("_", "-") for field in dataclasses.fields(Options)}
    own = set().union(*(options_of(COMMANDS[command].module) for command in commands))
    listed = re.findall(r"`--([a-z-]+)", found["Main options"])
    assert listed
    assert set(listed) <= own
    tools = set().union(*(options_of(row.module) for row in TOOLS.values()))
    elsewhere = tools if page != "rfzi" else tools | options_of(COMMANDS["rfzi"].module)
    assert set(re.findall(r"--([a-z][a-z-]+)", text)) <= own | shared | elsewhere
    tags = set(re.findall(r"`((?:eval|train|time)/[\w/]+)`", text))
    assert tags
    assert tags <= TAGS, tags - TAGS


@pytest.mark.parametrize("page", sorted(LEARNING))
def test_the_run_is_of_the_command_and_the_python_of_its_module(page) -> None:
    found = sections(page)
    for command in commands_of(page):
        assert re.search(rf"^rlentropy {command} ", found["A run"], re.M)
    assert "```python" in found["In Python"]
    family = COMMANDS[commands_of(page)[0]].module.split(".")[1]
    planned = {"optimal-exploration", "robust-planning", "robust-pg"}  # by the solvers behind them
    home = "planning" if page in planned else family
    assert re.search(rf"from rlentropy(\.{home}| import .*\b{home})\b", found["In Python"])
    assert re.search(r"\]\(\.\./theory/", found["Equations"])
    assert re.search(r"\]\(\.\./results/", found["Results"])


def test_choosing_names_measures_that_exist() -> None:
    text = (ROOT / "docs" / "choosing.md").read_text("utf-8")
    measures = set(re.findall(r"`([a-z0-9-]+):[^`]*`", text)) - {"bradley-terry", "regret"}
    assert measures
    assert measures <= set(NAMES)
