"""docs/algorithms: a page for each command, with the same sections, which names what exists, and
prints what runs print; and docs/choosing.md, whose tables are those of solvers and results."""

import csv
import dataclasses
import re
import shlex
from importlib import import_module
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from rlentropy import FiniteMDP, cli, entropy, planning
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


FIGURE = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
LEARNT = {"neural-entgame", "mepol", "neural-maxent", "robust-actor-critic", "language-preference"}


def figures(line: str) -> tuple[str, list[float]]:
    """The name that a line of a summary begins with, and its figures."""
    name, _, rest = line.strip().partition(" ")
    return name, [float(figure) for figure in FIGURE.findall(rest)]


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(LEARNING - LEARNT))
def test_runs_print_what_their_pages_say(page, tmp_path, monkeypatch, capsys) -> None:
    """Of tables, whose figures are the same everywhere but for rounding."""
    monkeypatch.chdir(tmp_path)
    run = sections(page)["A run"]
    for block in re.findall(r"```sh\n(.*?)```", run, re.S):
        for line in block.replace("\\\n", " ").splitlines():
            assert cli.main(shlex.split(line)[1:]) == 0
    printed = [figures(line) for line in capsys.readouterr().out.splitlines()]
    blocks = re.findall(r"```text\n(.*?)```", run, re.S)
    said = [figures(line) for block in blocks for line in block.splitlines()]
    assert said
    for name, values in said:
        close = pytest.approx(values, rel=1e-3, abs=1e-8)
        assert any(found == close for key, found in printed if key == name), name


# ---------------------------------------------------------------- choosing.md


def table(beginning: str) -> list[list[str]]:
    """The rows of the table of choosing.md whose head begins so, without bold."""
    text = (ROOT / "docs" / "choosing.md").read_text("utf-8")
    head, _, *rows = text[text.index(beginning) :].partition("\n\n")[0].splitlines()
    return [[cell.strip(" *") for cell in row.split("|")[1:-1]] for row in (head, *rows)]


def test_the_table_of_objectives_has_the_optima() -> None:
    head, *rows = table("| DoubleChain | VE |")
    mdp, H = FiniteMDP.from_env(gymnasium.make("rlentropy/DoubleChain-v0")), 20
    for name, *said in rows:
        objective = name.split()[-1]
        if objective == "actions":
            pi = np.full((H, mdp.num_states, mdp.num_actions), 1.0 / mdp.num_actions)
        elif objective == "TE":
            pi = planning.max_trajectory_entropy(mdp, H).pi
        else:
            pi = planning.max_visitation_entropy(mdp, H, objective).pi
        d = entropy.visitation(mdp, pi, H)
        found = [entropy.visitation_entropy(d, each) for each in head[1:-1]]
        found.append(entropy.trajectory_entropy(mdp, pi, H))
        for text, value in zip(said, found, strict=True):
            digits = len(text.partition(".")[2])
            assert abs(float(text) - value) <= 0.51 * 10.0**-digits, (name, text, value)


def test_the_table_of_beta_has_the_figures_of_its_file() -> None:
    file = (ROOT / "results" / "robust" / "choice.csv").read_text("utf-8").splitlines()[1:]
    rows = [row for row in csv.DictReader(file) if row["risk"] == "entropic"]
    for beta, scale, changed, *values in table("| β | scale |")[1:]:
        wanted = float(beta.split()[-1])
        row = min(rows, key=lambda row: abs(float(row["parameter"]) - wanted))
        assert float(row["parameter"]) == pytest.approx(wanted, rel=0.05)
        assert float(scale.split()[-1]) == pytest.approx(6.598 * wanted, rel=0.03)
        assert row["states_changed"] == changed
        found = [float(row[f"p={p}"]) for p in ("0.01", "0.1", "0.2", "0.3")]
        assert [float(value) for value in values] == pytest.approx(found, abs=0.051)


def test_the_tables_of_budgets_are_those_of_the_curves() -> None:
    worlds = {"GridWorld": ("grid-world", 20), "Taxi": ("taxi", 50)}
    worlds["Garnet, S = 200"] = ("garnet-200", 20)
    head, *rows = table("| | episodes | reg-entgame |")
    name = ""
    for world, episodes, *said in rows:
        name = world or name
        folder, horizon = worlds[name]
        path = ROOT / "results" / "exploration" / "complexity" / folder / "curves.csv"
        curves = list(csv.DictReader(path.read_text("utf-8").splitlines()))
        steps = horizon * float(episodes.replace(" ", ""))
        for algorithm, text in zip(head[2:], said, strict=True):
            algorithm = algorithm.replace("random", "random-policy")
            curve = [row for row in curves if row["algorithm"] == algorithm]
            row = min(curve, key=lambda row: abs(float(row["step"]) - steps))
            assert float(row["value"]) == pytest.approx(float(text), rel=0.05), (name, text)
