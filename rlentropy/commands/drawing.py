"""The pictures of a run: files in its folder, and TensorBoard's Images tab."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rlentropy.commands.answers import unit_of
from rlentropy.runs.table import COMMANDS

if TYPE_CHECKING:
    from rlentropy.log import Log
    from rlentropy.types import Film, Result

SHOWN = 10  # pictures of one tag that TensorBoard keeps, if it isn't told otherwise
GAPS = {  # eval/* tags of a run, by the names of their lines
    "policy": "eval/gap",
    "mixture": "eval/mixture_gap",
    "last iterate": "eval/last_iterate_gap",
    "certified": "eval/certified_gap",
}


def title_of(command: str, settings: dict[str, Any]) -> str:
    """What a run is, above its pictures."""
    where = settings.get("env_id") or settings.get("data") or ""
    return f"{settings.get('label') or command} on {where}" if where else command


@contextlib.contextmanager
def film_if_interrupted(log: Log, title: str) -> Iterator[None]:
    """Leave an interrupted run with the film of what it has seen so far.

    Its pictures come after the checkpoint: a run that goes on cuts them off, and draws them anew.
    """
    from rlentropy.log import Interrupted

    try:
        yield
    except Interrupted:
        draw_film(log.film(), log, title)
        raise


def draw(result: Result, log: Log, command: str = "", title: str = "") -> None:
    """Add the pictures of what a run found."""
    draw_film(result.film, log, title)
    curves = curves_of(log)
    gaps = {name: curves[tag] for name, tag in GAPS.items() if tag in curves}
    gaps = {name: curve for name, curve in gaps.items() if len(curve[0]) > 1}
    if not result.pictures and not gaps:
        return
    from rlentropy import plots

    step = int(max((steps[-1] for steps, _ in curves.values()), default=0))
    for name, content in result.pictures.items():
        picture = getattr(plots, name)(**content, title=title)
        log.figure(name, plots.on_screen(picture), step)
    if gaps:
        axes = {"ylabel": f"gap ({unit_of('gap', command)})", "cost": COMMANDS[command].axis}
        picture = plots.gaps(gaps, **axes, title=title)
        log.figure("gaps", plots.on_screen(picture), step)


def curves_of(log: Log) -> dict[str, Any]:
    """Steps and values of each eval/* tag so far, also of the processes before this one."""
    if log.directory is None:
        return {}
    from rlentropy.runs.reading import read_curves

    log.mark()  # what is logged is in the file then
    curves = read_curves(log.directory / "metrics.jsonl")
    return {tag: curve for tag, curve in curves.items() if tag.startswith("eval/")}


def draw_film(film: Film | None, log: Log, title: str) -> None:
    """The frames of a film, in TensorBoard some of them, and all of them as a GIF."""
    if film is None or not film.frames:
        return
    import numpy as np

    from rlentropy import plots

    pictures = plots.densities(film, title)
    for k in np.unique(np.linspace(0, len(pictures) - 1, SHOWN).round().astype(int)):
        log.figure("visits", pictures[k], film.frames[k][0])
    if len(pictures) > 1:
        log.figure("visits", plots.animation(pictures, plots.FRAME), film.frames[-1][0])
