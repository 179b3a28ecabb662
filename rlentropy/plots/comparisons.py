"""What `compare` draws: learning curves, final values, costs of targets, maps of visits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlentropy.plots import style
from rlentropy.plots.style import (
    bare,
    canvas,
    colour_bar,
    finish,
    panels,
    round_ticks,
    shown,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def curves(
    lines: Sequence[Any],
    ylabel: str,
    cost: str,
    log_log: bool,
    note: str = "",
    among: Sequence[str] = (),
) -> Figure:
    """Learning curves with bands, and where they are log-log the fitted slopes.

    Args:
        lines: with `name`, `steps` (T,), `band` (value, low, high: (T,)), `slope`, `from_step`.
        note: what lines and bands are.
        among: the names of all pictures that go together, so that each keeps its look.
    """
    figure, ((axes,),) = canvas(height=2.2)
    axes.set(xscale="log", xlabel=cost, ylabel=shown(ylabel))
    fitted = [line for line in lines if log_log and np.isfinite(line.slope.value)]
    number = style.numbered((line.name for line in lines), among)
    for line in lines:
        label = shown(line.name)
        if any(line is f for f in fitted) and len(lines) <= len(
            style.COLOURS
        ):  # more would fill the legend
            label += f" ({round(float(line.slope.value), 2) + 0.0:.2f})"  # no -0.00
        style.line(
            axes, number[line.name], line.steps, line.band, label.replace("(-", "(\N{MINUS SIGN}")
        )
    for line in fitted:
        _fit(axes, line)
    if log_log:
        axes.set_yscale("log", nonpositive="mask")
        round_ticks(axes.yaxis)
    round_ticks(axes.xaxis)
    few = len(lines) <= len(style.COLOURS)
    fits = f"dotted: fits{', their slopes in brackets' * few}" if fitted else ""
    return finish(figure, axes, "; ".join(filter(None, (note, fits))))


def _fit(axes: Any, line: Any) -> None:
    """The line of a fitted slope, through the middle of what it is fitted to."""
    use = (line.steps >= line.from_step) & (line.band.value > 0)
    x, y = line.steps[use], line.band.value[use]
    with np.errstate(over="ignore", invalid="ignore"):
        middle = np.exp(np.log(y).mean() - line.slope.value * np.log(x).mean())
        y = middle * x**line.slope.value
    axes.plot(x, y, color=style.GREY, lw=0.8, ls=(0, (1, 1)), zorder=4)


@styled
def final(
    rows: Sequence[dict[str, Any]],
    xlabel: str,
    log: bool,
    note: str = "",
    among: Sequence[str] = (),
) -> Figure:
    """Final values with their intervals, one algorithm a line, and in figures beside its name."""
    figure, ((axes,),) = canvas(height=0.55 + 0.3 * len(rows))
    statistic = "iqm" if "iqm" in rows[0] else "mean"
    number = style.numbered((row["algorithm"] for row in rows), among)
    for k, row in enumerate(rows):
        colour, value = style.series(number[row["algorithm"]])["color"], row[statistic]
        axes.barh(k, row["high"] - row["low"], 0.46, row["low"], color=colour, alpha=0.3, lw=0)
        axes.vlines([row["low"], row["high"]], k - 0.23, k + 0.23, color=colour, lw=0.8)
        axes.vlines(value, k - 0.36, k + 0.36, color=colour, lw=1.8)
    axes.use_sticky_edges = False  # of the bars: the outermost would lie on the frame
    names = [
        f"{style.folded(shown(row['algorithm']), 26)}\n{_interval(row, statistic)}" for row in rows
    ]
    axes.set_yticks(range(len(rows)), names)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"final {shown(xlabel)}", loc="right")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    if log and all(row[statistic] > 0 for row in rows):
        axes.set_xscale("log")
        round_ticks(axes.xaxis)
    else:
        axes.locator_params(axis="x", nbins=4)
    return finish(figure, axes, note or style.over_seeds(statistic, [r["seeds"] for r in rows]))


def _interval(row: dict[str, Any], statistic: str) -> str:
    value, low, high = (f"{row[k]:#.3g}".rstrip(".") for k in (statistic, "low", "high"))
    alike = np.isclose(row["low"], row["high"], rtol=1e-9, atol=0.0)
    sure = "" if np.isnan(row["low"]) or alike else f"  [{low}, {high}]"
    return f"{value}{sure}".replace("-", "\N{MINUS SIGN}").replace("e\N{MINUS SIGN}", "e-")


@styled
def reach(
    rows: Sequence[dict[str, Any]],
    cost: str,
    name_of_cost: str,
    falling: bool,
    note: str = "",
    among: Sequence[str] = (),
) -> Figure:
    """Median cost of each target with intervals; hollow triangles are lower bounds."""
    figure, ((axes,),) = canvas(height=2.2)
    names = list(dict.fromkeys(row["algorithm"] for row in rows))
    targets = sorted({row["gap"] for row in rows})
    axes.set(yscale="log", xscale="log" if falling else "linear")
    steps = np.diff(np.log(targets) if falling else targets)
    apart = min(0.6 * steps.min(initial=np.inf) / len(names), 0.03 * (steps.sum() or 2.0))
    number = style.numbered(names, among)
    for k, name in enumerate(names):
        of_name = sorted((r for r in rows if r["algorithm"] == name), key=lambda row: row["gap"])
        x = np.array([row["gap"] for row in of_name])
        aside = apart * (k - (len(names) - 1) / 2)  # so that intervals stand side by side
        x = x * np.exp(aside) if falling else x + aside
        y, low, high, end = (
            np.array([row[f"{cost}{part}"] for row in of_name])
            for part in ("", "_low", "_high", "_followed")
        )
        look, there = style.series(number[name]), np.isfinite(y)
        if there.any():
            axes.plot(x[there], y[there], label=shown(name), **look, **style.marker(number[name]))
        colour = look["color"]
        axes.vlines(x, np.minimum(low, end), np.minimum(high, end), color=colour, lw=2.5, alpha=0.4)
        beyond = None if there.any() else shown(name)
        above = ~np.isfinite(high)
        axes.plot(x[above], end[above], "^", mfc="none", color=colour, ms=6.5, label=beyond)
    axes.set(
        ylabel=f"{name_of_cost} until reached", xlabel=f"{'gap' if falling else 'value'} to reach"
    )
    axes.set_xticks(targets, [style.number(target) for target in targets])
    axes.set_xticks([], minor=True)
    round_ticks(axes.yaxis)
    seeds = style.over_seeds("median", [row["seeds"] for row in rows])
    bounds = "hollow triangles: not reached, a lower bound"
    some = any(np.isinf(row[f"{cost}_high"]) for row in rows)
    return finish(figure, axes, note or "; ".join([seeds, *[bounds] * some]))


@styled
def heat_maps(maps: Sequence[tuple[str, Any]], note: str = "") -> Figure:
    """Visits per state on grids, side by side on one colour scale; those without any are grey."""
    from matplotlib.colors import LogNorm

    tall, wide = maps[0][1].shape
    columns = min(len(maps), 3 if tall > 0.5 * wide else 2)
    side = (style.COLUMN - 0.6) / columns * min(max(tall / wide, 0.15), 1.5)
    figure, grid = panels(len(maps), side + 0.36, columns=columns)
    seen = np.concatenate([visits[visits > 0] for _, visits in maps])
    norm = LogNorm(vmin=seen.min(), vmax=max(seen.max(), 1.01 * seen.min()))
    colours = style.sequential()
    for axes, (name, visits) in zip(grid, maps, strict=True):
        image = axes.imshow(np.ma.masked_equal(visits, 0), norm=norm, cmap=colours)
        visited = f"{np.count_nonzero(visits)} of {visits.size}"
        axes.set_title(f"{style.folded(shown(name), 42 // columns)}\n{visited}", fontsize=7.0)
        bare(axes)
    colour_bar(figure, image, "visits per run (grey: none)", ax=grid, fraction=0.05)
    return finish(figure, grid[0], note)
