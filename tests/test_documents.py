"""Links, names of files and tables of the documents; `test_pages` runs what they print."""

import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import architecture
import pytest

from rlentropy.commands.options import Options
from rlentropy.runs.table import COMMANDS, TOOLS

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def text_of(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.M)


def anchors(page: Path) -> set[str]:
    """What headings are called in addresses, by a code host and by the site alike."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.M)
    bare = (re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in bare}


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        assert path.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(path), target


# Options of programs of others.
STRANGERS = {"--details", "--max-restarts", "--node-ip-address", "--samples_per_plugin"}


def test_options_named_in_the_documents_exist() -> None:
    configs = [import_module(row.module).Config for row in (COMMANDS | TOOLS).values()]
    names = {field.name for config in (Options, *configs) for field in fields(config)}
    known = {"--" + name.replace("_", "-") for name in names} | {"--help", *STRANGERS}
    unknown = [
        f"{page.relative_to(ROOT)}: {option}"
        for page in DOCUMENTS
        if "results" not in page.parts and page.name != "reproducing.md"  # they name scripts'
        for option in re.findall(r"`(--[a-z][\w-]*\w)", text_of(page))
        if option.replace("--no-", "--") not in known and option != "--no"
    ]
    assert not unknown, "\n".join(unknown)


def test_every_page_is_reached_from_the_index() -> None:
    """And from the README, which leads to it."""
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            links = re.findall(r"\]\(([^)#:\s]+\.md)", text_of(page))
            waiting += [(page.parent / link).resolve() for link in links]
    assert set(DOCUMENTS) <= reached, set(DOCUMENTS) - reached


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
