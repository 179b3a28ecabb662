"""What the code cites is on the theory pages, and what these name is in the code.

How a citation is written, and which page a bare number is of: docs/theory/README.md.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "theory"
HEADINGS = {
    page.stem: re.findall(r"^#{2,} (\d+(?:\.\d+)*) ", page.read_text("utf-8"), re.MULTILINE)
    for page in sorted(PAGES.glob("*.md"))
    if page.stem != "README"
}
SIGN = "\N{SECTION SIGN}"
# A number, or a range of numbers whose end may leave out what it shares with the start.
NUMBER = r"(\d+(?:\.\d+)*)(?:[-–](\d+(?:\.\d+)*))?(?!\w|\.\w)"
CITATION = re.compile(rf"(?:\b(\w+)(?:[ ]|\n[\s#]*))?{SIGN}(?=\w|\s*\d)(?:{NUMBER})?")
BEFORE_A_NUMBER = {
    "and", "as", "at", "by", "for", "from", "in", "of", "on", "or", "see", "than", "then", "to",
    "under", "with",
}  # fmt: skip
UNREADABLE = re.compile(rf"\bspec(?:ification)?\b[^{SIGN}\n]{{0,30}}\s+{SIGN}", re.IGNORECASE)


def cited_numbers(start: str, end: str | None) -> list[str]:
    """Both ends of a range: 1.7.2 and 1.7.3 of 1.7.2-3."""
    if end is None:
        return [start]
    shared = start.split(".")[: -len(end.split("."))]
    return [start, ".".join([*shared, end])]


def mistakes(text: str, page: str | None) -> Iterator[tuple[int, str]]:
    """Line and what is wrong there, for each citation that no heading answers.

    Args:
        page: the page that a bare number is of, before the text names one.
    """
    for match in CITATION.finditer(text):
        line = text.count("\n", 0, match.end()) + 1
        word, start, end = match.groups()
        if word and word.lower() in HEADINGS:
            page = word.lower()
        elif word and word not in BEFORE_A_NUMBER:
            yield line, f"{word!r} before {SIGN} is no page of {', '.join(HEADINGS)}"
            continue
        if start is None:
            yield line, f"{SIGN} without a section number right after it"
        elif page is None:
            yield line, f"{SIGN}{start}, but no page is named before it"
        else:
            for number in cited_numbers(start, end):
                if number not in HEADINGS[page]:
                    yield line, f"{page} {SIGN}{number} has no heading"
    for match in UNREADABLE.finditer(text):
        line = text.count("\n", 0, match.end()) + 1
        yield line, "a spec is cited, which users can't read: name a page of docs/theory"


def files() -> list[Path]:
    """Code, tests, benchmarks and documents."""
    found = [*ROOT.glob("*.py"), *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for folder in ("rlentropy", "envs", "tests", "benchmarks"):
        found += (ROOT / folder).rglob("*.py")
    return sorted(found)


def test_every_citation_has_a_heading() -> None:
    wrong = []
    for path in files():
        own = path.stem if path.parent == PAGES and path.stem in HEADINGS else None
        for line, what in mistakes(path.read_text("utf-8"), own):
            wrong.append(f"{path.relative_to(ROOT)}:{line}: {what}")
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("exploration $2.3, then $3.1-3.4, and of $4.1", []),
        ("Robust $1.7.2-3 (robust $1.4, $1.5); exploration\n    # $2.3", []),
        ("the $ sign, exploration $1.", []),
        ("\n$2.3", ["2: $2.3, but no page is named before it"]),
        ("robust $1, exploration $1.7", ["1: exploration $1.7 has no heading"]),
        ("robust $1.4-9", ["1: robust $1.9 has no heading"]),
        (
            "unknown $1",
            ["1: 'unknown' before $ is no page of diversity, exploration, preferences, robust"],
        ),
        ("robust $ 1", ["1: $ without a section number right after it"]),
        ("robust $1.4a", ["1: $ without a section number right after it"]),
        (
            "exploration $1 (as the\nspec $2 says)",
            [
                "2: 'spec' before $ is no page of diversity, exploration, preferences, robust",
                "2: a spec is cited, which users can't read: name a page of docs/theory",
            ],
        ),
    ],
)
def test_what_counts_as_a_citation(text: str, expected: list[str]) -> None:
    found = [f"{line}: {what}" for line, what in mistakes(text.replace("$", SIGN), None)]
    assert found == [line.replace("$", SIGN) for line in expected]


@pytest.mark.parametrize("page", HEADINGS)
def test_section_numbers_are_addresses(page: str) -> None:
    numbers = HEADINGS[page]
    assert len(numbers) == len(set(numbers))
    assert numbers == sorted(numbers, key=lambda number: [int(part) for part in number.split(".")])


def test_links_lead_somewhere() -> None:
    dead = []
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text("utf-8")):
            if "://" not in target and not (path.parent / target).exists():
                dead.append(f"{path.relative_to(ROOT)}: {target}")
    assert not dead, "\n" + "\n".join(dead)


def test_names_on_the_pages_are_in_the_code() -> None:
    folders = [ROOT / "rlentropy", ROOT / "envs"]
    code = "\n".join(path.read_text("utf-8") for f in folders for path in sorted(f.rglob("*.py")))
    words = set(re.findall(r"\w+", code))
    missing = []
    for path in sorted(PAGES.glob("*.md")):
        names = re.findall(r"`(\w+)`", path.read_text("utf-8"))
        missing += [f"{path.name}: {name}" for name in names if name not in words]
        files_named = re.findall(r"`([\w/]+\.py)`", path.read_text("utf-8"))
        missing += [f"{path.name}: {name}" for name in files_named if not (ROOT / name).exists()]
    assert not missing, "\n" + "\n".join(missing)
