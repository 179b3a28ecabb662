"""What a search over settings draws: what its trials found, and which settings mattered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlentropy.plots.style import COLOURS, GREY, canvas, finish, shown, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def history(trials: Sequence[tuple[int, str, float]], metric: str, maximise: bool) -> Figure:
    """The score of each trial, and the best so far.

    Args:
        trials: number, state ("complete" or "pruned") and score of each, the first first; of a
            pruned one the last that was seen of it.
    """
    figure, ((axes,),) = canvas(height=2.2)
    for state, colour, filled in (("pruned", GREY, False), ("complete", COLOURS[0], True)):
        points = [(number, score) for number, s, score in trials if s == state]
        if points:
            x, y = zip(*points, strict=True)
            face = colour if filled else "white"
            axes.plot(x, y, "o", ms=3.5, color=colour, mfc=face, mew=0.8, label=state)
    found = [(number, score) for number, state, score in trials if state == "complete"]
    if found:
        x, y = zip(*found, strict=True)
        best = (np.maximum if maximise else np.minimum).accumulate(y)
        axes.step([*x, trials[-1][0]], [*best, best[-1]], where="post", color=COLOURS[1])
        axes.plot([], [], color=COLOURS[1], label="best so far")
    axes.set(xlabel="trial", ylabel=shown(metric))
    return finish(figure, axes, "")


@styled
def importance(shares: Sequence[tuple[str, float]]) -> Figure:
    """How much of the difference between trials each setting explains, the most first."""
    figure, ((axes,),) = canvas(height=0.6 + 0.22 * len(shares))
    names, values = zip(*shares, strict=True)
    y = np.arange(len(shares))
    axes.barh(y, values, height=0.65, color=COLOURS[0])
    axes.set_yticks(y, [shown(name.replace("_", " ")) for name in names])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="importance (PED-ANOVA, sums to 1)", xlim=(0.0, max(*values, 0.01) * 1.05))
    return finish(figure, axes, "")


@styled
def slices(
    trials: Sequence[dict[str, Any]], scores: Sequence[float], logs: set[str], metric: str
) -> Figure:
    """The score of complete trials against each setting; choices in their order of appearance."""
    from matplotlib.ticker import MaxNLocator

    names = list(trials[0])
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure, grid = canvas(rows, columns, width=6.9, height=1.7 * rows, sharey=True)
    for axes, name in zip(grid.flat, names, strict=False):
        values = [trial[name] for trial in trials]
        if any(isinstance(value, str | bool) for value in values):
            choices = list(dict.fromkeys(map(str, values)))
            axes.set_xticks(range(len(choices)), map(shown, choices))
            values = [choices.index(str(value)) for value in values]
        elif name in logs:
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.plot(values, scores, "o", ms=3.0, color=COLOURS[0], alpha=0.8)
        axes.set_xlabel(shown(name.replace("_", " ")))
    for spare in list(grid.flat)[len(names) :]:
        spare.set_visible(False)
    figure.supylabel(shown(metric))
    return figure  # type: ignore[no-any-return]
