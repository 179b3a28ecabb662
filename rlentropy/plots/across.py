"""What `compare` draws of several tasks: scores, performance profiles, who beats whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlentropy.plots.style import COLOURS, MARKERS, STYLES, finish, shown

STATISTICS = {"iqm": "interquartile mean", "mean": "mean", "optimality_gap": "optimality gap"}


def scores(rows: Sequence[dict[str, Any]], tasks: int) -> Any:
    """Normalised scores over tasks with their intervals, a panel a statistic."""
    from matplotlib.figure import Figure

    figure = Figure(dpi=200, figsize=(8.4, 1.1 + 0.32 * len(rows)), layout="constrained")
    grid = figure.subplots(1, len(STATISTICS), sharey=True)
    for axes, (name, title) in zip(grid, STATISTICS.items(), strict=True):
        for k, row in enumerate(rows):
            colour = COLOURS[k % len(COLOURS)]
            ends = [row[f"{name}_low"], row[f"{name}_high"]]
            axes.plot(ends, [k, k], color=colour, lw=3, alpha=0.5)
            axes.plot([row[name]], [k], MARKERS[k % 8], color=colour, ms=6)
        axes.set_title(title, fontsize=9)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(True, alpha=0.3, lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    grid[0].set_yticks(range(len(rows)), [shown(row["algorithm"]) for row in rows])
    figure.supxlabel(f"score over {tasks} tasks, 95 % stratified bootstrap", fontsize=9)
    return figure


def profiles(rows: Sequence[dict[str, Any]], of: Sequence[dict[str, Any]]) -> Any:
    """Shares of runs above each score, with pointwise bands."""
    from matplotlib.figure import Figure

    figure = Figure(dpi=200, figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for k, name in enumerate(row["algorithm"] for row in of):
        mine = [row for row in rows if row["algorithm"] == name]
        x, y, low, high = (
            np.array([row[part] for row in mine]) for part in ("score", "share", "low", "high")
        )
        colour = COLOURS[k % len(COLOURS)]
        axes.step(x, y, color=colour, ls=STYLES[k % 5], lw=1.6, label=shown(name), where="post")
        axes.fill_between(x, low, high, color=colour, alpha=0.2, lw=0, step="post")
    axes.set(xlabel="normalised score τ", ylabel="share of runs with a score > τ", ylim=(0, 1.02))
    return finish(figure, axes)


def improvement(rows: Sequence[dict[str, Any]]) -> Any:
    """How probably the first of each pair beats the second, with intervals, a line a pair."""
    from matplotlib.figure import Figure

    names = [f"{shown(row['algorithm'])} > {shown(row['less'])}" for row in rows]
    wide = 3.6 + 0.07 * max(map(len, names))
    figure = Figure(dpi=200, figsize=(wide, 1.0 + 0.28 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for k, row in enumerate(rows):
        ends = [row["better_low"], row["better_high"]]
        axes.plot(ends, [k, k], color=COLOURS[0], lw=3, alpha=0.4)
        axes.plot([row["better"]], [k], "o", color=COLOURS[0], ms=5)
    axes.axvline(0.5, color="0.4", ls=(0, (4, 3)), lw=1.0, zorder=0)
    axes.set_yticks(range(len(rows)), names)
    axes.set(xlim=(-0.02, 1.02), xlabel="probability of improvement", ylim=(len(rows) - 0.5, -0.5))
    return finish(figure, axes)
