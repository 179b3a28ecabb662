"""What `train` draws of a run: visits of states and of cells of features, and films of them.

These are made for a screen: of fewer dots than those for print, and the frames of a film have one
size and one scale.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlentropy.plots import style
from rlentropy.plots.style import (
    bare,
    canvas,
    colour_bar,
    finish,
    number,
    round_ticks,
    shown,
    styled,
)
from rlentropy.types import Film

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COSTS = {"env_steps": "environment steps"}  # names of axes, but for those that are their own
FRAME = 400  # milliseconds of a picture of a film
SCREEN, PALETTE = 120, 128  # dots per inch, colours


def visits(counts: Any, grid_shape: tuple[int, int] | None, title: str = "") -> bytes:
    """Visits per state, (S,): a heat map where states form a grid, else bars. Returns a PNG."""
    counts = np.asarray(counts)
    axes = (("state", -0.5, counts.size - 0.5, counts.size),)
    return densities(Film(axes, ((-1, counts),), grid_shape), title)[0]


def density(counts: Any, axes: Sequence[tuple[str, float, float, int]], step: int) -> bytes:
    """Visits of the cells of features after some environment steps, as `densities` draws them."""
    return densities(Film(tuple(axes), ((step, counts),)))[0]


@styled
def densities(film: Film, title: str = "") -> list[bytes]:
    """Visits of the cells of features, or of states, a PNG a frame, all on one scale.

    States on a grid, and two features, are a heat map; of more features it is that of the first
    two; one feature, and states without a grid, are bars.

    Args:
        title: what the run is, above every frame.
    """
    shape = film.grid_shape or tuple(bins for *_, bins in film.axes)
    frames = [np.asarray(counts, float).reshape(shape) for _, counts in film.frames]
    maps = np.stack([counts.sum(tuple(range(2, len(shape)))) for counts in frames])
    tall = min(max(shape[0] / shape[1], 0.2), 1.5) if film.grid_shape else 0.8
    figure, ((axes,),) = canvas(height=0.95 + 2.3 * tall)
    kind = _grid if film.grid_shape else _bars if len(shape) == 1 else _heat_map
    drawn, show = kind(figure, axes, film.axes, maps)
    of_tables = film.grid_shape or film.axes[0][0] == "state"
    cells = "states" if of_tables else "cells of both" if len(shape) > 2 else "cells"
    heads = [shown(title)] if title else []
    texts = []
    for (step, _), counts in zip(film.frames, maps, strict=True):
        at = [f"{number(step)} environment steps"] if step >= 0 else []
        visited = f"{np.count_nonzero(counts)} of {counts.size} {cells} visited"
        texts.append("\n".join([*heads, *at, visited]))
    finish(figure, axes).set_dpi(SCREEN)
    return _frames(figure, axes, drawn, show, maps, texts)


def _frames(
    figure: Any, axes: Any, drawn: Any, show: Any, maps: Any, texts: Sequence[str]
) -> list[bytes]:
    """PNGs of a figure in which nothing changes but one artist and the title: these alone are
    drawn again.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    heading = axes.set_title(texts[0])
    for artist in (drawn, heading):
        artist.set_animated(True)
    canvas.draw()
    background = canvas.copy_from_bbox(figure.bbox)
    pictures = []
    for counts, text in zip(maps, texts, strict=True):
        show(counts)
        heading.set_text(text)
        canvas.restore_region(background)
        for artist in (drawn, heading):
            axes.draw_artist(artist)
        pictures.append(encoded(figure, np.asarray(canvas.buffer_rgba())))
    return pictures


def encoded(_: Any, pixels: Any) -> bytes:
    """Pixels of a figure, (height, width, 4), as a small PNG."""
    return style.few_colours(pixels, PALETTE)


@styled
def on_screen(figure: Figure) -> bytes:
    """A figure as a small PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(SCREEN)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return encoded(figure, np.asarray(canvas.buffer_rgba()))


def _scale(maps: Any, decades: float = math.inf) -> dict[str, Any]:
    """One logarithmic scale for all maps, of so many decades; where nothing is, they are grey."""
    from matplotlib.colors import LogNorm

    low = max(min(maps[maps > 0], default=1.0), float(maps.max()) / 10.0**decades)
    norm = LogNorm(vmin=low, vmax=max(maps.max(), 1.01 * low))
    return {"norm": norm, "cmap": style.sequential()}


def _grid(figure: Any, axes: Any, _: Any, maps: Any) -> Any:
    """An artist, and what lets it show a map of visits to the states of a grid, (rows, columns)."""
    image = axes.imshow(np.zeros(maps.shape[1:]), **_scale(maps))
    bare(axes)
    colour_bar(figure, image, "visits (grey: none)")
    return image, lambda counts: image.set_data(np.ma.masked_equal(counts, 0))


def _heat_map(figure: Any, axes: Any, features: Any, maps: Any) -> Any:
    """An artist, and what lets it show visits to the cells of two features, (bins, bins)."""
    (x, left, right, _), (y, bottom, top, _) = features[:2]
    place = {"extent": (left, right, bottom, top), "origin": "lower", "aspect": "auto"}
    image = axes.imshow(np.zeros(maps.shape[2:0:-1]), **place, **_scale(maps))
    axes.set(xlabel=shown(x), ylabel=shown(y))
    axes.grid(visible=False)
    colour_bar(figure, image, "visits (grey: none)")
    return image, lambda counts: image.set_data(np.ma.masked_equal(counts.T, 0))


def _bars(figure: Any, axes: Any, features: Any, maps: Any) -> Any:
    """An artist, and what lets it show visits of the bins of one feature, (bins,)."""
    ((name, left, right, bins),) = features
    edges = np.linspace(left, right, bins + 1)
    drawn = axes.stairs(np.zeros(bins), edges, fill=True, color=style.COLOURS[0])
    axes.set(xlabel=shown(name), ylabel="visits", yscale="symlog", xlim=(left, right))
    axes.set_ylim(0.0, 2.0 * max(maps.max(), 1.0))
    return drawn, drawn.set_data


@styled
def occupancies(
    parts: Mapping[str, Any], grid_shape: tuple[int, int] | None, title: str = ""
) -> Figure:
    """Shares of time in each state, (S,) by name, on one scale: maps on a grid, else lines."""
    if grid_shape is None:
        figure, ((axes,),) = canvas(height=2.0)
        axes.set(xlabel="state", ylabel="share of time")
        for k, (name, d) in enumerate(parts.items()):
            axes.plot(np.asarray(d), drawstyle="steps-mid", label=shown(name), **style.series(k))
        axes.set_ylim(bottom=0.0)
        axes.locator_params(axis="x", integer=True)
        return finish(figure, axes, title=title)
    side = (style.COLUMN - 0.6) / 2 * min(max(grid_shape[0] / grid_shape[1], 0.15), 1.5)
    figure, panes = style.panels(len(parts), side + 0.2, columns=2)
    scale = _scale(np.concatenate([np.asarray(d) for d in parts.values()]), decades=4.0)
    for axes, (name, d) in zip(panes, parts.items(), strict=True):
        shares = np.ma.masked_equal(np.reshape(d, grid_shape), 0.0)
        image = axes.imshow(shares, **scale)
        axes.set_title(shown(name))
        bare(axes)
    colour_bar(figure, image, "share of time (grey: none)", ax=panes, fraction=0.05)
    return finish(figure, panes[0], title=title)


@styled
def gaps(curves: Mapping[str, Any], ylabel: str, cost: str, title: str = "") -> Figure:
    """Gaps of one run, by name steps (T,) and values (T,), both axes logarithmic."""
    figure, ((axes,),) = canvas(height=2.0)
    axes.set(xscale="log", xlabel=COSTS.get(cost, cost), ylabel=shown(ylabel))
    for k, (name, (steps, values)) in enumerate(curves.items()):
        axes.plot(steps, values, label=shown(name), **style.series(k), **style.marker(k))
    if any((np.asarray(values) > 0).any() for _, values in curves.values()):
        axes.set_yscale("log", nonpositive="mask")
        round_ticks(axes.yaxis)
    if axes.get_xlim()[0] > 0:
        round_ticks(axes.xaxis)
    return finish(figure, axes, title=title)


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
