"""What `train` draws of a run: visits of states and of cells of features, and films of them."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlentropy.plots import style
from rlentropy.plots.style import shown
from rlentropy.types import Film

FRAME = 400  # milliseconds of a picture of a film


def visits(counts: Any, grid_shape: tuple[int, int] | None) -> Any:
    """Visits per state, (S,): a heat map where states form a grid, else bars."""
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
    figure.set_dpi(110)
    return figure


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
        pictures.append(style.png(figure, dpi=110))
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
