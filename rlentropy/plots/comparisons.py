"""What `compare` draws: learning curves, final values, costs of targets, maps of visits."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlentropy.plots.style import COLOURS, MARKERS, STYLES, finish, round_ticks, shown


def curves(lines: Sequence[Any], ylabel: str, cost: str, log_log: bool) -> Any:
    """Learning curves with bands, and where they are log-log the fitted slopes.

    Args:
        lines: with `name`, `steps` (T,), `band` (value, low, high: (T,)), `slope`, `from_step`.
    """
    from matplotlib.figure import Figure

    figure = Figure(dpi=200, figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for k, line in enumerate(lines):
        colour, band = COLOURS[k % len(COLOURS)], line.band
        fitted = log_log and np.isfinite(line.slope.value)
        slope = round(float(line.slope.value), 2) + 0.0  # no -0.00
        label = shown(line.name) + (f" (slope {slope:.2f})" if fitted else "")
        axes.plot(line.steps, band.value, color=colour, ls=STYLES[k % 5], lw=1.8, label=label)
        axes.fill_between(line.steps, band.low, band.high, color=colour, alpha=0.2, lw=0)
        if fitted:
            x = line.steps[(line.steps >= line.from_step) & (band.value > 0)]
            y = band.value[(line.steps >= line.from_step) & (band.value > 0)]
            middle = np.exp(np.log(y).mean() - line.slope.value * np.log(x).mean())
            axes.plot(x, middle * x**line.slope.value, color="black", lw=0.8, ls=(0, (1, 1)))
    axes.set(xscale="log", xlabel=cost, ylabel=shown(ylabel))
    if log_log:
        axes.set_yscale("log", nonpositive="mask")
        round_ticks(axes.yaxis)
    return finish(figure, axes)


def final(rows: Sequence[dict[str, Any]], xlabel: str, log: bool) -> Any:
    """Final values with their intervals, one algorithm a line."""
    from matplotlib.figure import Figure

    names = [f"{shown(row['algorithm'])} ({row['seeds']} seeds)" for row in rows]
    wide = 4.4 + 0.08 * max(map(len, names))
    figure = Figure(dpi=200, figsize=(wide, 1.0 + 0.35 * len(rows)), layout="constrained")
    axes = figure.subplots()
    statistic = "iqm" if "iqm" in rows[0] else "mean"
    for k, row in enumerate(rows):
        colour = COLOURS[k % len(COLOURS)]
        axes.plot([row["low"], row["high"]], [k, k], color=colour, lw=3, alpha=0.5)
        axes.plot([row[statistic]], [k], MARKERS[k % 8], color=colour, ms=7)
    axes.set_yticks(range(len(rows)), names)
    axes.set(xlabel=f"final {shown(xlabel)}")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    if log and all(row[statistic] > 0 for row in rows):
        axes.set_xscale("log")
        round_ticks(axes.xaxis)
    return finish(figure, axes)


def reach(rows: Sequence[dict[str, Any]], cost: str, name_of_cost: str, falling: bool) -> Any:
    """Median cost of each target with intervals; open arrows are lower bounds."""
    from matplotlib.figure import Figure

    figure = Figure(dpi=200, figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(row["algorithm"] for row in rows))
    targets = sorted({row["gap"] for row in rows}, reverse=falling)
    for k, name in enumerate(names):
        of_name = [row for row in rows if row["algorithm"] == name]
        x = np.array([row["gap"] for row in of_name])
        aside = 0.03 * (k - (len(names) - 1) / 2)  # so that intervals stand side by side
        x = x * np.exp(aside) if falling else x + aside * np.diff(targets).min(initial=1.0)
        y, low, high, end = (
            np.array([row[f"{cost}{part}"] for row in of_name])
            for part in ("", "_low", "_high", "_followed")
        )
        colour, there = COLOURS[k % len(COLOURS)], np.isfinite(y)
        if there.any():
            style: dict[str, Any] = {"marker": MARKERS[k % 8], "ls": STYLES[k % 5], "color": colour}
            axes.plot(x[there], y[there], lw=1.4, label=shown(name), **style)
        axes.vlines(x, np.minimum(low, end), np.minimum(high, end), color=colour, lw=3, alpha=0.35)
        beyond = None if there.any() else f"{shown(name)} (beyond the budget)"
        above = ~np.isfinite(high)
        axes.plot(x[above], end[above], "^", mfc="none", color=colour, ms=9, label=beyond)
    axes.set(yscale="log", ylabel=f"median {name_of_cost} until reached")
    axes.set(xlabel="gap to reach", xscale="log") if falling else axes.set(xlabel="value to reach")
    axes.set_xticks(targets, [f"{target:g}" for target in targets])
    axes.set_xticks([], minor=True)
    if falling:
        axes.invert_xaxis()
    return finish(figure, axes)


def heat_maps(panels: Sequence[tuple[str, Any]]) -> Any:
    """Visits per state on grids, side by side on one colour scale."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    tall, wide = panels[0][1].shape
    side = 2.6 * min(max(tall / wide, 0.25), 1.5)
    figure = Figure(
        dpi=200, figsize=(2.6 * columns + 1.2, (side + 0.4) * rows + 0.3), layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    seen = np.concatenate([visits[visits > 0] for _, visits in panels])
    norm = LogNorm(vmin=seen.min(), vmax=max(seen.max(), 1.01 * seen.min()))
    colours = colormaps["viridis"].with_extremes(bad="#e4e4e4")
    for axes, (name, visits) in zip(grid, panels, strict=False):
        image = axes.imshow(np.ma.masked_equal(visits, 0), norm=norm, cmap=colours)
        visited = f"{np.count_nonzero(visits)} of {visits.size} states"
        axes.set_title(f"{shown(name)}\n{visited}", fontsize=9)
        axes.set(xticks=[], yticks=[])
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    figure.colorbar(image, ax=grid.tolist(), label="visits per run (grey: none)")
    return figure
