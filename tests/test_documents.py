"""What the documents print runs as printed, and their command lines name options that there are."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import architecture
import pytest

from rlentropy import cli
from rlentropy.commands.options import ask_tyro, parse_arguments
from rlentropy.runs.table import COMMANDS, TOOLS

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FIRST_RUN = (
    "entgame --env-id rlentropy/DoubleChain-v0 --horizon 20 --episodes 20 --objective VE --quiet"
)


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.M)


def command_lines() -> list[tuple[str, str]]:
    """Document and command line, of every `rlentropy COMMAND` and `python train.py COMMAND`."""
    found = []
    for path in DOCUMENTS:
        for block in blocks(path, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                if match := re.search(r"\b(?:rlentropy|python train\.py) ([a-z].*)", line):
                    found.append((path.name, match[1]))
    return found


@pytest.mark.parametrize(("document", "line"), command_lines())
def test_command_lines_parse(document: str, line: str) -> None:
    command, *arguments = shlex.split(line, comments=True)
    if command in TOOLS:
        module = import_module(TOOLS[command].module)
        ask_tyro(module.Config, command, "", arguments)
    else:
        parse_arguments(command, import_module(COMMANDS[command].module).Config, arguments)


@pytest.mark.parametrize(
    ("document", "block"),
    [(path.name, block) for path in DOCUMENTS for block in blocks(path, "python")],
)
def test_python_runs(
    document: str, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "load_run" in block:
        assert cli.main(shlex.split(FIRST_RUN)) == 0
    exec(compile(block, document, "exec"), {"__name__": "__main__"})


def walk() -> list[tuple[str, list[str]]]:
    """The files that docs/architecture.md follows a run through, and the names it gives of each."""
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8").partition("## From `train.py")[2]
    steps = re.findall(r"^\d+\. `([\w/]+\.py)`(.*?)(?=^\d+\. |\n\n)", text, re.DOTALL | re.M)
    return [(file, re.findall(r"`(\w+)`", said)) for file, said in steps]


def test_a_run_is_followed_through_nine_files() -> None:
    assert 1 < len(walk()) <= 9
    for file, names in walk():
        words = set(re.findall(r"\w+", (ROOT / file).read_text("utf-8")))
        assert set(names) <= words, (file, set(names) - words)


def test_files_named_in_the_documents_exist() -> None:
    missing = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in DOCUMENTS
        for name in re.findall(r"`((?:[\w.]+/)+\w+\.(?:py|sh))`", path.read_text("utf-8"))
        if not any((folder / name).exists() for folder in (ROOT, ROOT / "rlentropy"))
    ]
    assert not missing, "\n".join(missing)


def test_the_table_of_layers_is_the_one_that_is_held() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    table = {
        unit: int(layer)
        for layer, units in re.findall(r"^\| (\d) \| (.*?) \|", text, re.M)
        for unit in re.findall(r"`(\w+)/?`", units)
    }
    units = {module.unit for module in architecture.read_modules(ROOT).values() if module.unit}
    assert table == {unit: architecture.LAYERS[unit] for unit in units}
