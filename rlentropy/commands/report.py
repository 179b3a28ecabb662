"""A comparison as one page: a static file with its tables, pictures and films inside.

Nothing is loaded from elsewhere and no script runs, which the page's own content security policy
demands; so it opens from a disk, an attachment or any server alike.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from rlentropy.commands.tables import Table
from rlentropy.files import plain
from rlentropy.runs.comparable import Task

FILMS = ("figures/visits.gif", "video.gif", "video.mp4")  # of a run's folder, where they are
LARGEST_FILM, LARGEST_FILMS = 2_000_000, 12_000_000  # bytes, of one and of a page

WORDS = """\
An interval, [low, high], is a 95 % percentile bootstrap over seeds; across tasks seeds are drawn
within each task, and tasks are kept. A cost begins at the evaluation before the one that reached
the target. Runs that never reach it count as still under way, and medians are Kaplan and Meier's.
Differences are of the same seeds; p is the share of all assignments of signs to them that give a
mean as far from 0, and Holm's p holds for all comparisons of its table together. P(first better) is
over all pairs of seeds, ties half."""

PICTURES = {
    "curves": "Learning curves of {}: mean over seeds and 95 % band",
    "final": "Final values of {} with 95 % intervals",
    "reach": "Cost until each target is reached on {}",
    "visits": "Mean visits to each state of {}",
    "scores": "Normalised scores over {}",
    "profiles": "Performance profiles over {}: the share of runs above each score",
    "improvement": "Probability that the first of two algorithms beats the second on {}",
}

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f3f4f7; --card: #fff; --ink: #16191f; --soft: #565d6b; --line: #d5d9e1; --link: #2853c4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #121418; --card: #1c1f25; --ink: #eceef2; --soft: #a4acb9; --line: #343941;
    --link: #8fb2ff;
  }
}
@media (prefers-contrast: more) { :root { --soft: var(--ink); --line: var(--ink); } }
* { box-sizing: border-box; }
body {
  max-width: 1180px; margin: 0 auto; padding: 16px clamp(10px, 3vw, 28px) 40px;
  background: var(--page); color: var(--ink);
  font: 16px/1.45 system-ui, "Segoe UI", Roboto, "Liberation Sans", "DejaVu Sans", sans-serif;
  overflow-wrap: anywhere;
}
h1 { font-size: 1.5rem; line-height: 1.2; margin: .4rem 0; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; border-top: 1px solid var(--line);
  padding-top: 1rem; }
h2 small { font-weight: 400; color: var(--soft); font-size: .9rem; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
nav ul { display: flex; flex-wrap: wrap; gap: 4px 18px; padding: 0; list-style: none; }
.table { margin: .8rem 0; background: var(--card); border-radius: 8px;
  border: 1px solid var(--line); }
table { border-collapse: collapse; font-size: .86rem; width: 100%;
  font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
h3 { font-size: .9rem; margin: 0; padding: 10px 12px 6px; }
th, td { text-align: left; padding: 5px 12px; white-space: nowrap;
  border-top: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
tbody th { color: inherit; position: sticky; left: 0; background: var(--card); font-weight: 400;
  max-width: 46vw; white-space: normal; }
.notes { color: var(--soft); font-size: .82rem; margin: 0; padding: 6px 12px 0; }
.notes:last-child { padding-bottom: 10px; }
.pictures { columns: 400px; column-gap: 14px; margin: .8rem 0; }
figure { break-inside: avoid; margin: 0 0 14px; padding: 10px; background: var(--card);
  border: 1px solid var(--line); border-radius: 8px; }
figure img, figure video { display: block; width: 100%; height: auto; max-height: 75vh;
  object-fit: contain; background: #fff; border-radius: 4px; }
figcaption { font-size: .82rem; color: var(--soft); padding-top: 6px; }
details { margin: .8rem 0; }
summary { cursor: pointer; color: var(--link); padding: 6px 0; }
pre, code { font: .82rem/1.4 ui-monospace, "DejaVu Sans Mono", monospace; white-space: pre-wrap; }
footer { margin-top: 2.4rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: .86rem; }
@media print { details { display: none; } figure, .table { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Section:
    """A heading, what stands under it, and films that are shown when asked for."""

    title: str
    said: str
    tables: Sequence[Table]
    pictures: dict[str, bytes]  # PNGs by name, of PICTURES
    films: Sequence[tuple[str, str, bytes]] = ()  # caption, media type, content


def page(title: str, sections: Sequence[Section], facts: dict[str, str], more: str) -> bytes:
    """The whole file.

    Args:
        facts: what stands at the end, by name: the command, versions.
        more: the rest, lines of text that are shown when asked for.
    """
    links = "".join(f'<li><a href="#s{k}">{text(s.title)}</a></li>' for k, s in enumerate(sections))
    body = "".join(html for k, section in enumerate(sections) for html in section_html(k, section))
    ends = "".join(
        f"<p>{text(name)}: <code>{text(value)}</code></p>" for name, value in facts.items()
    )
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; media-src data:; style-src 'sha256-{digest}'"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{text(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<header><h1>{text(title)}</h1><nav aria-label="Tasks"><ul>{links}</ul></nav></header>
<main>
{body}
</main>
<footer><p>{text(" ".join(WORDS.split()))}</p>{ends}
<details><summary>Runs</summary><pre>{escape(more)}</pre></details></footer>
</body>
</html>
""".encode("utf-8", "replace")


def text(words: object) -> str:
    return escape(plain(words))


def section_html(number: int, section: Section) -> Iterator[str]:
    said = f" <small>{text(section.said)}</small>" if section.said else ""
    yield f'<section id="s{number}" aria-labelledby="h{number}">'
    yield f'<h2 id="h{number}">{text(section.title)}{said}</h2>\n'
    if section.pictures:
        figures = "".join(picture_html(section.title, *item) for item in section.pictures.items())
        yield f'<div class="pictures">{figures}</div>\n'
    yield from map(table_html, section.tables)
    if section.films:
        shown = "".join(film_html(*film) for film in section.films)
        yield f'<details><summary>Films of runs</summary><div class="pictures">{shown}</div>'
        yield "</details>\n"
    yield "</section>\n"


def table_html(table: Table) -> str:
    head = "".join(f'<th scope="col">{text(cell)}</th>' for cell in table.header)
    rows = []
    for first, *rest in table.rows:
        cells = "".join(f"<td>{text(cell)}</td>" for cell in rest)
        rows.append(f'<tr><th scope="row">{text(first)}</th>{cells}</tr>')
    notes = "".join(f'<p class="notes">{text(note)}</p>' for note in table.notes)
    return (
        f'<div class="table"><h3>{text(table.title)}</h3>'
        f'<div class="wide" tabindex="0" role="region" aria-label="{text(table.title)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{notes}</div>\n"
    )


def picture_html(title: str, name: str, png: bytes) -> str:
    caption = text(PICTURES[name].format(title))
    return f'<figure><img alt="{caption}" src="{data("image/png", png)}">{below(caption)}</figure>'


def film_html(caption: str, kind: str, content: bytes) -> str:
    said, source = text(caption), data(kind, content)
    film = f'<img alt="{said}" src="{source}">'
    if kind == "video/mp4":
        film = f'<video controls muted loop aria-label="{said}" src="{source}"></video>'
    return f"<figure>{film}{below(said)}</figure>"


def below(caption: str) -> str:
    return f"<figcaption>{caption}</figcaption>"


def data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


# ---------------------------------------------------------------- films


def films_of(tasks: Sequence[Task]) -> dict[str, list[tuple[str, str, bytes]]]:
    """Of each algorithm the first seed's films, as they lie in its folder, by task.

    Those that are none, or larger than `LARGEST_FILM`, are left out; all that come after
    `LARGEST_FILMS`, too.
    """
    left = LARGEST_FILMS
    films: dict[str, list[tuple[str, str, bytes]]] = {}
    for task in tasks:
        films[task.name] = []
        for a in task.algorithms:
            for name in FILMS:
                if (film := read_film(a.runs[0].folder / name)) and len(film[1]) <= left:
                    left -= len(film[1])
                    caption = f"{a.name}, seed {a.seeds[0]}: {Path(name).stem}"
                    films[task.name].append((caption, *film))
    return films


def read_film(path: Path) -> tuple[str, bytes] | None:
    """Its media type and content, if it is a film of acceptable size."""
    try:
        if not (path.is_file() and path.stat().st_size <= LARGEST_FILM):
            return None
        content = path.read_bytes()
    except OSError:
        return None
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif", content
    return ("video/mp4", content) if content[4:8] == b"ftyp" else None
