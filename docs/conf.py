"""The site: `sphinx-build -W --keep-going -n -c docs . build/site` in the root of a checkout.

Pages are plain Markdown, as a code host shows them. Only what a host has no need of is made here:
the side bar, from the links of the index pages, and the reference, from docstrings.
"""

from __future__ import annotations

import dataclasses
import inspect
import io
import re
import tokenize
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from sphinx.util.typing import stringify_annotation

import rlentropy
from rlentropy.runs.table import COMMANDS

ROOT = Path(__file__).parents[1]
project, author, copyright = "rlentropy", "The rlentropy developers", "the rlentropy developers"
version = release = rlentropy.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
root_doc = "docs/README"
include_patterns = ["*.md", "docs/*.md", "docs/**/*.md", "docs/api/*.rst"]
exclude_patterns = [".*", "build", "results", "tests", "rlentropy", "envs", "benchmarks"]
html_theme, html_title = "furo", "rlentropy"
html_static_path, html_css_files = ["site.css"], ["site.css"]
html_copy_source = False
pygments_style, highlight_language = "tango", "text"
myst_heading_anchors = 4
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
autosummary_generate = False  # `reference` writes the pages

# ---------------------------------------------------------------- the reference

# Heading: module: the names shown of it. None: those of its __all__, or all public ones.
PAGES = {
    "Models and runs": {
        "rlentropy": "FiniteMDP EmpiricalModel",
        "rlentropy.runs.reading": "load_run Run",
    },
    "Tools": {
        f"rlentropy.{name}": ""
        for name in (
            *("entropy", "planning", "risk", "policies", "perturbations", "data", "data.relabel"),
            *("plots", "estimators", "diversity", "intervals", "log", "errors"),
        )
    },
    "Algorithms": {row.module: "Config run" for row in COMMANDS.values()},
    "What algorithms share": {
        "rlentropy.exploration.episodes": "Explored",
        "rlentropy.exploration.setting": "Setting Goal",
        "rlentropy.exploration.learner": "EntropyScores Learner",
        "rlentropy.neural.episodes": "Player Episodes",
        "rlentropy.preferences.acquisition": "Pool Rule Selection select",
        "rlentropy.preferences.scores": "",
    },
}
nitpick_ignore_regex = [
    ("py:.*", ".*")
]  # types and names: links where there is something to link to


def reference(app: Any) -> None:
    """Write docs/api: a page a module, and the index of them."""
    folder = ROOT / "docs" / "api"
    folder.mkdir(exist_ok=True)
    index = [*heading("API reference", "=")]
    pages = {}
    for title, modules in PAGES.items():
        index += [*heading(title, "-"), ".. autosummary::", ""]
        for name, members in modules.items():
            module = import_module(name)
            shown = members.split() or getattr(module, "__all__", [])
            for lazy in shown:
                setattr(module, lazy, getattr(module, lazy))  # names that load when first used
            index.append(f"   {name}")
            pages[name] = [*heading(name, "="), f".. automodule:: {name}"]
            pages[name].append(f"   :members: {', '.join(shown)}".rstrip())
    index += ["", ".. toctree::", "   :hidden:", "", *(f"   {name}" for name in pages)]
    for name, lines in {**pages, "index": index}.items():
        path, text = folder / f"{name}.rst", "\n".join(lines) + "\n"
        if not path.exists() or path.read_text("utf-8") != text:  # else it would be read again
            path.write_text(text, "utf-8")


def heading(title: str, line: str) -> list[str]:
    return ["", title, line * len(title), ""]


def comments(cls: type) -> dict[str, str]:
    """What stands beside the fields of a dataclass, or right above them."""
    found: dict[str, str] = {}
    above: list[str] = []
    name = ""
    source = inspect.cleandoc(inspect.getsource(cls))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("#: ")
            if token.line.lstrip().startswith("#"):
                above.append(text)
            elif name:
                found[name] = " ".join([*above, text])
        elif token.type == tokenize.NAME and not name and token.start[1] == 4:
            name = token.string
        elif token.type == tokenize.NEWLINE:
            if name and above and name not in found:
                found[name] = " ".join(above)
            name, above = "", []
    return found


def fields(cls: type) -> list[str]:
    """The fields of a dataclass as a list, with type, default and comment."""
    said = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            said |= comments(base)
    lines = [""]
    for field in dataclasses.fields(cls):
        kind = (
            field.type if isinstance(field.type, str) else stringify_annotation(field.type, "smart")
        )
        kind = kind.replace("~", "")
        default = "" if field.default is dataclasses.MISSING else f" = {field.default!r}"
        text = plain(said.get(field.name, ""))
        lines += [f"- ``{field.name}: {kind}{default}``" + (f" — {text}" if text else "")]
    return [*lines, ""]


def plain(text: str) -> str:
    """Text whose stars, bars and underscores are no markup, but within backticks."""
    parts = re.split(r"(`+[^`]+`+)", text)
    parts[::2] = [re.sub(r"([*|\\]|_(?=\W|$))", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def formulas(lines: list[str]) -> list[str]:
    """Docstrings with what is indented after an empty line, outside of sections, as it stands."""
    result: list[str] = []
    section = literal = False
    for line in lines:
        if re.match(r"(Args|Raises|Returns|Yields|Attributes|Conventions):$", line):
            section = True
        indented = line.startswith("    ")
        if indented and not section and not literal and result and not result[-1].strip():
            result += [] if "".join(result[-2:]).endswith("::") else [".. code-block:: text", ""]
            literal = True
        elif line.strip() and not indented:
            literal = False
        result.append(line if literal else re.sub(CITATION, cited, plain(line)))
    return result


CITATION = r"\b(exploration|robust|preferences|diversity) §([\d.]*\d)"


@cache
def sections(page: str) -> dict[str, str]:
    """The sections of a page of theory by their numbers, as addresses have them."""
    text = (ROOT / "docs" / "theory" / f"{page}.md").read_text("utf-8")
    headings = re.findall(r"^#+ (([\d.]+) .+)$", text, re.M)
    return {k: re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h, k in headings}


def cited(found: re.Match[str]) -> str:
    page, number = found.groups()
    anchor = sections(page).get(number, "")
    return f"`{found[0]} <../theory/{page}.html#{anchor}>`__" if anchor else found[0]


def document(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = formulas(lines)
    if what == "class" and dataclasses.is_dataclass(thing):
        lines += fields(thing)


def signature(
    app: Any, what: str, name: str, thing: Any, options: Any, given: str, returns: str
) -> tuple[str, str] | None:
    return ("", "") if what == "class" and dataclasses.is_dataclass(thing) else None


# ---------------------------------------------------------------- the pages


def page(app: Any, name: str, text: list[str]) -> None:
    """Make of a page what Sphinx wants beyond Markdown."""
    if name.endswith(".rst") or name.startswith("docs/api/"):
        return
    folder = ROOT / Path(name).parent
    text[0] = re.sub(r"(?<!!)\[([^\]]*)\]\(([^)#:\s]+)\)", lambda m: link(folder, m), text[0])
    if name.startswith("docs/") and name.endswith("README"):
        text[0] += side_bar(text[0], is_root=name == root_doc)


def link(folder: Path, found: re.Match[str]) -> str:
    """A folder is left as text, and a file that is no page is copied; Sphinx knows the rest."""
    text, target = found.groups()
    path = (folder / target).resolve()
    if path.is_dir():
        return text
    inside = path.is_file() and path.relative_to(ROOT).parts[0] in ("docs", path.name)
    return found[0] if inside and path.suffix == ".md" else f"[{text}](<path:{target}>)"


def side_bar(text: str, is_root: bool) -> str:
    """Hidden trees of the pages that an index page links to, one a section."""
    trees = ""
    for section in re.split(r"^## ", text, flags=re.M):
        links = re.findall(r"\]\(([^)#:]+)\.md\)", section)
        below = [link for link in dict.fromkeys(links) if is_root or "/" not in link]
        title = "" if section.startswith("#") else section.partition("\n")[0]
        if title == "Reference":
            below.append("api/index")
        elif is_root and not title:
            continue  # the introduction
        if below:
            options = [":hidden:", *([f":caption: {title}"] if title else [])]
            trees += "\n".join(["\n```{toctree}", *options, "", *below, "```\n"])
    return trees


def front_door(app: Any, exception: Exception | None) -> None:
    """The site opens with the index of docs."""
    if exception is None and app.builder.name == "html":
        head = f'<!doctype html><meta http-equiv="refresh" content="0; url={root_doc}.html">\n'
        Path(app.outdir, "index.html").write_text(head, "utf-8")


def setup(app: Any) -> None:
    app.connect("builder-inited", reference)
    app.connect("autodoc-process-docstring", document, priority=100)  # before napoleon
    app.connect("autodoc-process-signature", signature)
    app.connect("source-read", page)
    app.connect("build-finished", front_door)
