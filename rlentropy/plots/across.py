"""What `compare` draws of several tasks: scores, performance profiles, who beats whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlentropy.plots import style
from rlentropy.plots.style import canvas, finish, shown, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATISTICS = {"iqm": "IQM", "mean": "mean", "optimality_gap": "optimality gap"}
LEAST = -1.0  # score below which a panel doesn't go
BOOTSTRAP = "95 % stratified bootstrap over seeds"


@styled
def scores(rows: Sequence[dict[str, Any]], among: Sequence[str] = ()) -> Figure:
    """Normalised scores over tasks with their intervals, a panel a statistic.

    Those that are out of range, scores below -1, are triangles at the edge.

    Args:
        among: the names of all pictures that go together, so that each keeps its look.
    """
    number = style.numbered((row["algorithm"] for row in rows), among)
    figure, (grid,) = canvas(1, 3, height=0.45 + 0.2 * len(rows), sharey=True)
    for axes, (name, title) in zip(grid, STATISTICS.items(), strict=True):
        low, high = (0.0, 1.0 - LEAST) if name == "optimality_gap" else (LEAST, np.inf)
        for k, row in enumerate(rows):
            value, colour = row[name], style.series(number[row["algorithm"]])["color"]
            ends = np.clip([row[f"{name}_low"], row[f"{name}_high"]], low, high)
            axes.barh(k, ends[1] - ends[0], 0.5, ends[0], color=colour, alpha=0.3, lw=0)
            if low <= value <= high:
                axes.vlines(value, k - 0.36, k + 0.36, color=colour, lw=1.8)
            else:
                shape = "<" if value < low else ">"
                axes.plot(np.clip(value, low, high), k, shape, color=colour, clip_on=False)
        axes.set_title(title)
        axes.locator_params(axis="x", nbins=3, steps=[1, 2, 5, 10])
        axes.margins(x=0.1)
        axes.use_sticky_edges = False
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.set_ylim(len(rows) - 0.5, -0.5)
    grid[0].set_yticks(range(len(rows)), [style.folded(shown(r["algorithm"]), 20) for r in rows])
    tasks = f"scores over {rows[0]['tasks']} tasks"
    return finish(figure, grid[0], f"{tasks}, {BOOTSTRAP}; triangles: beyond")


@styled
def profiles(rows: Sequence[dict[str, Any]], among: Sequence[str] = ()) -> Figure:
    """Shares of runs above each score, with pointwise bands."""
    names = list(dict.fromkeys(row["algorithm"] for row in rows))
    number = style.numbered(names, among)
    figure, ((axes,),) = canvas(height=2.2)
    for name in names:
        mine = [row for row in rows if row["algorithm"] == name]
        x, y, low, high = (
            np.array([row[part] for row in mine]) for part in ("score", "share", "low", "high")
        )
        look = style.series(number[name])
        axes.step(x, y, label=shown(name), where="post", **look)
        axes.fill_between(x, low, high, color=look["color"], alpha=0.2, lw=0, step="post")
    axes.locator_params(axis="x", nbins=5)
    axes.set(xlabel="score", ylabel="share of runs above it", ylim=(-0.02, 1.02))
    return finish(figure, axes, f"bands: {BOOTSTRAP}")


@styled
def improvement(rows: Sequence[dict[str, Any]]) -> Figure:
    """How probably the first of each pair beats the second, with intervals, a line a pair."""
    figure, ((axes,),) = canvas(height=0.45 + 0.19 * len(rows))
    colour = style.COLOURS[0]
    for k, row in enumerate(rows):
        low, high = row["better_low"], row["better_high"]
        axes.barh(k, high - low, 0.5, low, color=colour, alpha=0.3, lw=0)
        axes.vlines(row["better"], k - 0.36, k + 0.36, color=colour, lw=1.8)
    names = [f"{shown(row['algorithm'])} > {shown(row['less'])}" for row in rows]
    axes.axvline(0.5, color=style.GREY, ls=(0, (4, 3)), lw=0.8, zorder=0)
    axes.set_yticks(range(len(rows)), [style.folded(name, 34) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set(xlim=(-0.02, 1.02), xlabel="probability of improvement")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    return finish(figure, axes, BOOTSTRAP)
