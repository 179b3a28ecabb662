"""What the documents print runs as printed, and their command lines name options that there are."""

import re
import shlex
from importlib import import_module
from pathlib import Path

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
