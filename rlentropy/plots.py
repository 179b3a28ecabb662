"""Every picture: for TensorBoard, run folders, comparisons and evaluations.

matplotlib is imported when one is drawn: it takes longer than most commands that draw none.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlentropy.files import plain
from rlentropy.preferences.losses import sigmoid
from rlentropy.types import Film

LONGEST = 60  # characters of a name in a picture
FRAME = 400  # milliseconds of a picture of a film


def shown(text: str) -> str:
    """Text as matplotlib shall draw it: short, no formula between dollars, no hidden label."""
    text = plain(text, LONGEST)
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def visits(counts: Any, grid_shape: tuple[int, int] | None) -> bytes:
    """Visits per state, (S,): a heat map where states form a grid, else bars. Returns a PNG."""
    from matplotlib.colors import SymLogNorm
    from matplotlib.figure import Figure

    counts = np.asarray(counts)
    title = f"{np.count_nonzero(counts)} of {counts.size} states visited"
    if grid_shape is None:
        figure = Figure(figsize=(7.0, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.bar(np.arange(counts.size), counts, width=1.0, color="#3b6ea5")
        axes.set(xlabel="state", ylabel="visits", yscale="symlog", title=title)
        axes.set_xlim(-0.5, counts.size - 0.5)
    else:
        rows, columns = grid_shape
        figure = Figure(figsize=(5.4, 1.2 + 4.2 * min(rows / columns, 1.5)), layout="constrained")
        axes = figure.subplots()
        norm = SymLogNorm(linthresh=max(1.0, counts.max() / 100), vmin=0, vmax=max(1, counts.max()))
        image = axes.imshow(counts.reshape(grid_shape), norm=norm, cmap="viridis")
        axes.set(title=title, xticks=[], yticks=[])
        figure.colorbar(image, label="visits")
    return _png(figure, dpi=110)


# ---------------------------------------------------------------- visits of features


def density(counts: Any, axes: Sequence[tuple[str, float, float, int]], step: int) -> bytes:
    """Visits of the cells of features after some environment steps, as `densities` draws them."""
    return densities(Film(tuple(axes), ((step, counts),)))[0]


def densities(film: Film) -> list[bytes]:
    """Visits of the cells of features, a PNG a frame, all on one scale.

    Of two features a heat map over their ranges, of more that of the first two, of one bars.
    """
    from matplotlib.figure import Figure

    shape = tuple(bins for *_, bins in film.axes)
    frames = [np.asarray(counts, float).reshape(shape) for _, counts in film.frames]
    maps = np.stack([counts.sum(tuple(range(2, len(shape)))) for counts in frames])
    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    axes = figure.subplots()
    draw = (_bars if len(shape) == 1 else _heat_map)(figure, axes, film.axes, maps)
    kind = "cells of both" if len(shape) > 2 else "cells"
    pictures = []
    for (step, _), visits in zip(film.frames, maps, strict=True):
        draw(visits)
        visited = f"{np.count_nonzero(visits)} of {visits.size} {kind} visited"
        axes.set_title(f"{step:,} environment steps\n{visited}".replace(",", "\N{THIN SPACE}"))
        pictures.append(_png(figure, dpi=110))
        figure.set_layout_engine("none")  # the first picture's, which is what takes the time
    return pictures


def _heat_map(figure: Any, axes: Any, features: Any, maps: Any) -> Any:
    """What shows a map of visits, (bins, bins), on a scale for all maps."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    (x, left, right, _), (y, bottom, top, _) = features[:2]
    low = min(maps[maps > 0], default=1.0)
    image = axes.imshow(
        np.zeros(maps.shape[2:0:-1]),
        norm=LogNorm(vmin=low, vmax=max(maps.max(), 1.01 * low)),
        cmap=colormaps["viridis"].with_extremes(bad="#d4d4d4"),
        extent=(left, right, bottom, top),
        origin="lower",
        aspect="auto",
    )
    axes.set(xlabel=shown(x), ylabel=shown(y))
    figure.colorbar(image, label="visits (grey: none)")
    return lambda visits: image.set_data(np.ma.masked_equal(visits.T, 0))


def _bars(figure: Any, axes: Any, features: Any, maps: Any) -> Any:
    """What shows visits of the bins of one feature, (bins,), on a scale for all."""
    ((name, left, right, bins),) = features
    edges = np.linspace(left, right, bins + 1)
    drawn = axes.stairs(np.zeros(bins), edges, fill=True, color="#3b6ea5")
    axes.set(xlabel=shown(name), ylabel="visits", yscale="symlog", xlim=(left, right))
    axes.set_ylim(0.0, 2.0 * max(maps.max(), 1.0))
    return drawn.set_data


def animation(pictures: Sequence[bytes], milliseconds: int) -> bytes:
    """PNGs of one size as a GIF, each for so long, over and over; the last for five times that."""
    from PIL import Image

    frames = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    palette = frames[-1].quantize(256, dither=Image.Dither.NONE)  # one for all: half the bytes
    shades = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    times = [milliseconds] * (len(frames) - 1) + [5 * milliseconds]
    return gif(shades, times)


def gif(frames: Sequence[Any], milliseconds: Sequence[int]) -> bytes:
    """Images of Pillow, of one size and each with a palette, as a GIF that starts over."""
    buffer = io.BytesIO()
    first, *rest = frames
    first.save(
        buffer, "GIF", save_all=True, append_images=rest, duration=list(milliseconds), loop=0
    )
    return buffer.getvalue()


# ---------------------------------------------------------------- comparisons

# Okabe and Ito's colours, told apart by the colour-blind and, with the line styles, in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A7A00")
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = "osD^vP*X"


def curves(lines: Sequence[Any], ylabel: str, cost: str, log_log: bool) -> bytes:
    """Learning curves with bands, and where they are log-log the fitted slopes. Returns a PNG.

    Args:
        lines: with `name`, `steps` (T,), `band` (value, low, high: (T,)), `slope`, `from_step`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
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
        _round_ticks(axes.yaxis)
    return finish(figure, axes)


def final(rows: Sequence[dict[str, Any]], xlabel: str, log: bool) -> bytes:
    """Final values with their intervals, one algorithm a line. Returns a PNG."""
    from matplotlib.figure import Figure

    names = [f"{shown(row['algorithm'])} ({row['seeds']} seeds)" for row in rows]
    wide = 4.4 + 0.08 * max(map(len, names))
    figure = Figure(figsize=(wide, 1.0 + 0.35 * len(rows)), layout="constrained")
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
        _round_ticks(axes.xaxis)
    return finish(figure, axes)


def reach(rows: Sequence[dict[str, Any]], cost: str, name_of_cost: str, falling: bool) -> bytes:
    """Median cost of each target with intervals; open arrows are lower bounds. Returns a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
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


def heat_maps(panels: Sequence[tuple[str, Any]]) -> bytes:
    """Visits per state on grids, side by side on one colour scale. Returns a PNG."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    tall, wide = panels[0][1].shape
    side = 2.6 * min(max(tall / wide, 0.25), 1.5)
    figure = Figure(figsize=(2.6 * columns + 1.2, (side + 0.4) * rows + 0.3), layout="constrained")
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
    return _png(figure, dpi=200)


def robustness(bands: Sequence[Any], metric: str) -> bytes:
    """Robustness curves of one grid with their intervals. Returns a PNG.

    Args:
        bands: with `algorithm`, `seeds`, `grid` (K values), `band` (value, low, high: (K,)).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for k, b in enumerate(bands):
        colour, x = COLOURS[k % len(COLOURS)], b.grid.values
        label = f"{shown(b.algorithm)} ({b.seeds} seed{'s' * (b.seeds > 1)})"
        axes.plot(x, b.band.value, color=colour, ls=STYLES[k % 5], lw=1.8, label=label)
        axes.fill_between(x, b.band.low, b.band.high, color=colour, alpha=0.2, lw=0)
    mark_nominal(axes, bands[0].grid)
    axes.set(xlabel=bands[0].grid.axis, ylabel=metric)
    return finish(figure, axes)


def margins(panels: Sequence[tuple[str, Any]]) -> bytes:
    """How sure a policy was of what teachers then preferred, a panel a name. Returns a PNG.

    Args:
        panels: names, and β times the log-ratio of the preferred segment less that of the other,
            (n,). Its σ is above 1/2 where the policy was right; at 1/2 one half counts as right.
            NaN, of ties, is left out.
    """
    from matplotlib.figure import Figure

    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(2.6 * columns + 0.8, 2.2 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    edges = np.linspace(0.0, 1.0, 21)  # 1/2 is one
    for axes, (name, margin) in zip(grid, panels, strict=False):
        margin = np.asarray(margin, float)
        chance = sigmoid(margin[~np.isnan(margin)])
        share = np.histogram(chance, edges)[0] / max(chance.size, 1)
        undecided = 0.5 * (chance == 0.5).sum() / max(chance.size, 1)
        share[9:11] += undecided, -undecided
        for side, part, colour, hatch in (("wrong", 0, 1, "//"), ("right", 10, 0, "")):
            style: dict[str, Any] = {"color": COLOURS[colour], "hatch": hatch, "edgecolor": "white"}
            left, heights = edges[part : part + 10], share[part : part + 10]
            axes.bar(left, heights, 0.05, align="edge", lw=0.5, label=side, **style)
        right = f"{share[10:].sum():.0%} right of {chance.size}" if chance.size else "no answers"
        axes.set_title(f"{shown(name)}\n{right}", fontsize=9)
        axes.set(xlim=(0.0, 1.0), xticks=(0.0, 0.5, 1.0), axisbelow=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, alpha=0.3, lw=0.6)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    figure.supxlabel("predicted probability of the answer", fontsize=10)
    figure.supylabel("share of answers", fontsize=10)
    return finish(figure, grid[0])


def reliability(curves: Sequence[tuple[str, Any]]) -> bytes:
    """Reliability diagrams over the densities of what was predicted. Returns a PNG.

    Args:
        curves: names, and what has `grid`, `frequency` and `density`, (G,) each.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 5.6), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    axes.plot([0, 1], [0, 1], color="0.4", ls=(0, (4, 3)), lw=1.0)
    for k, (name, curve) in enumerate(curves):
        style: dict[str, Any] = {"color": COLOURS[k % len(COLOURS)], "ls": STYLES[k % 5]}
        axes.plot(curve.grid, curve.frequency, lw=1.8, label=shown(name), **style)
        below.plot(curve.grid, curve.density, lw=1.2, **style)
    axes.set(ylabel="frequency of the answer", xlim=(0, 1), ylim=(0, 1))
    below.set(xlabel="predicted probability", ylabel="density", ylim=(0, None))
    below.spines[["top", "right"]].set_visible(False)
    return finish(figure, axes)


def mark_nominal(axes: Any, grid: Any) -> None:
    """A dashed line at the nominal value of a grid, where it is in range."""
    if grid.values[0] <= grid.nominal <= grid.values[-1]:
        axes.axvline(grid.nominal, color="0.4", ls=(0, (4, 3)), lw=1.0, zorder=0)


def _round_ticks(axis: Any) -> None:
    """Plain numbers on a log axis, as many as its range leaves room for."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    subs = (1, 1.5, 2, 3, 5, 7) if high < 10 * low else (1, 2, 5) if high < 300 * low else (1,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def finish(figure: Any, axes: Any) -> bytes:
    """Grid and legend, above the axes so that it hides nothing."""
    axes.grid(True, which="major", alpha=0.3, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        columns = max(1, min(len(labels), 80 // (max(map(len, labels)) + 8)))
        style = {"frameon": False, "fontsize": 9, "ncols": columns}
        figure.legend(handles, labels, loc="outside upper center", **style)
    return _png(figure, dpi=200)


def _png(figure: Any, dpi: int) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
