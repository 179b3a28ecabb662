"""The one style of every picture, and how a picture becomes a file.

Pictures are made for a column of print, 3.3 inches wide, with no letter below 7 points. Series k
has a colour, a line style and a marker of its own: the six colours stay apart for readers without
one kind of cones, and in grey; the next six series have them again, with another line style, and
hollow markers of other shapes.
"""

from __future__ import annotations

import functools
import io
import math
import textwrap
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, get_args

import numpy as np

from rlentropy.errors import InputError
from rlentropy.files import plain, replace_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")
T = TypeVar("T")

LONGEST = 60  # characters of a name in a picture
Format = Literal["png", "pdf", "svg"]
FORMATS: tuple[Format, ...] = get_args(Format)
COLUMN, PAGE = 3.3, 6.9  # inches: widths of a column and of a page of print
DPI = 220

# Blue, vermilion, green, plum, amber, black: near Okabe and Ito's, of lightness 40, 52, 63, 29, 74
# and 0, moved until any two are 24 apart in CIELAB for everyone (tests/plots/test_style.py).
COLOURS = ("#0063A2", "#C85B00", "#00AD76", "#7C1F56", "#E5AD01", "#000000")
DASHES = ((5, 2), (6, 1.5, 1, 1.5), (1, 1.2), (6, 1.5, 1, 1.5, 1, 1.5), (10, 2))
STYLES: tuple[Any, ...] = ("-", *((0, dashes) for dashes in DASHES))
MARKERS = "osD^vPX*<>dh"
GREY, PALE = "0.35", "#D9D9D9"  # words and lines beside the data; cells without any

LOOK: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # matplotlib's own: the same letters everywhere
    **dict.fromkeys(("font.size", "axes.labelsize", "axes.titlesize", "figure.labelsize"), 8.0),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 7.5),
    **dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.6),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    "axes.grid": True,
    "axes.axisbelow": True,
    **{"grid.color": "0.85", "grid.linewidth": 0.5, "grid.linestyle": "-"},
    **{"lines.linewidth": 1.3, "lines.markersize": 4.0, "figure.dpi": DPI},
    "svg.hashsalt": "rlentropy",  # else names in it are drawn at random
    "pdf.fonttype": 42,  # letters that can be edited
}

FAMILIES = (  # of matplotlib's settings that a picture may depend on
    *("axes", "errorbar", "figure", "font", "grid", "hatch", "image", "legend", "lines", "patch"),
    *("savefig", "text", "xtick", "ytick"),
)


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Let a function draw in this style, whatever matplotlib is set to."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> T:
        from matplotlib import rc_context, rcParamsDefault

        usual: dict[Any, Any] = {
            k: v for k, v in rcParamsDefault.items() if k.partition(".")[0] in FAMILIES
        }
        with rc_context(usual | LOOK):
            return draw(*args, **kwargs)

    return drawn


def canvas(
    rows: int = 1, columns: int = 1, *, width: float = COLUMN, height: float = 2.3, **shared: Any
) -> tuple[Any, Any]:
    """A figure and its axes (rows, columns), of so many inches; `finish` adds those of a legend."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from rlentropy.plots.figure import Picture

    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03)
    figure = Picture(figsize=(width, height), layout=layout)
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def panels(
    count: int, side: float, *, columns: int = 3, width: float = COLUMN, **shared: Any
) -> tuple[Any, list[Any]]:
    """A figure of `count` axes, `side` inches high, side by side in as few rows as can be."""
    columns = min(count, columns)
    rows = -(-count // columns)
    figure, grid = canvas(rows, columns, width=width, height=side * rows, **shared)
    for spare in grid.flat[count:]:
        spare.set_visible(False)
    return figure, list(grid.flat[:count])


def numbered(names: Iterable[str], among: Sequence[str] = ()) -> dict[str, int]:
    """Which series each name is: its place among the names of all pictures that go together."""
    return {name: k for k, name in enumerate(dict.fromkeys([*among, *names]))}


def series(k: int) -> dict[str, Any]:
    """Colour and line style of the k-th line of a picture; `Axes.plot` takes both."""
    n = len(COLOURS)
    return {"color": COLOURS[k % n], "ls": STYLES[(k + 2 * (k // n)) % len(STYLES)]}


def marker(k: int) -> dict[str, Any]:
    """Marker of the k-th line: of the first six filled, of the next six hollow."""
    hollow = k // len(COLOURS) % 2 == 1
    shape = MARKERS[k % len(MARKERS)]
    size = {"*": 6.0, "h": 5.0, "d": 5.0}.get(shape, 4.0)
    colour = COLOURS[k % len(COLOURS)]
    return {"marker": shape, "ms": size, "mfc": "white" if hollow else colour, "mec": colour}


def line(axes: Any, k: int, x: Any, band: Any, label: str, marks: int = 5) -> None:
    """The k-th curve with its band (value, low, high: (T,)), and a few markers on it."""
    x, look = np.asarray(x, float), series(k)
    at = _spread(axes, x, k, marks)
    axes.plot(x, band.value, label=shown(label), markevery=at, **look, **marker(k), zorder=3)
    axes.fill_between(x, band.low, band.high, color=look["color"], alpha=0.2, lw=0)


def _spread(axes: Any, x: Any, k: int, marks: int) -> list[int]:
    """Which points have a marker: about as many, evenly, aside from those of k - 1."""
    if not x.size:
        return []
    log = axes.get_xscale() == "log" and x.min() > 0
    u = np.log(x) if log else x
    wanted = np.linspace(u[0], u[-1], marks + 1)[:-1] + (u[-1] - u[0]) / marks * (k % 6 + 0.5) / 6
    return sorted({int(np.abs(u - w).argmin()) for w in wanted})


def shown(text: str) -> str:
    """Text as matplotlib shall draw it: short, no formula between dollars, no hidden label."""
    text = plain(text, LONGEST)
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def folded(text: str, width: int) -> str:
    """Text in lines of at most so many letters."""
    return "\n".join(textwrap.wrap(text, width, drop_whitespace=False)) or text


def over_seeds(statistic: str, seeds: Collection[int], of: str = "seed") -> str:
    """What lines and bands over so many seeds (of each series) are: a caption for a picture."""
    few, many = min(seeds), max(seeds)
    if many <= 1:
        return f"one {of}"
    name = {"iqm": "interquartile mean", "": "mean"}.get(statistic, statistic)
    return f"{name}, 95 % bootstrap over {few if few == many else f'{few} to {many}'} {of}s"


def mark_nominal(axes: Any, grid: Any) -> None:
    """A dashed line at the nominal value of a grid, where it is in range."""
    if grid.values[0] <= grid.nominal <= grid.values[-1]:
        axes.axvline(grid.nominal, color="0.4", ls=(0, (4, 3)), lw=1.0, zorder=0)


def number(value: float, plain_below: int = 6) -> str:
    """A number as axes show it: 0.003, 200 000, 3·10⁶; powers of ten from a decade on."""
    if not math.isfinite(value) or value == 0.0:
        return f"{value:g}"
    exponent = math.floor(math.log10(abs(value)) + 1e-9)
    if -4 <= exponent < plain_below:
        return f"{value:,.10g}".replace(",", "\N{THIN SPACE}")
    mantissa = f"{value / 10.0**exponent:g}" if exponent > -300 else "1"
    power = rf"10^{{{exponent}}}"
    return f"${power}$" if mantissa == "1" else rf"${mantissa}\cdot{power}$"


def round_ticks(axis: Any, short: bool = False) -> None:
    """Plain numbers on a log axis: 1, 10, 100, and more between where these are too few.

    Args:
        short: 10⁴ and 10⁵ instead of 10 000 and 100 000.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    low, high = sorted(axis.get_view_interval())
    for subs in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        axis.set_major_locator(LogLocator(subs=subs, numticks=7))
        if sum(low <= tick <= high for tick in axis.get_majorticklocs()) >= 3:
            break
    most = 4 if short else 6
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value, most)))
    if len(subs) > 1:
        axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def plain_symlog(axis: Any, linear: float) -> None:
    """Plain numbers on an axis that is logarithmic beyond some value, and linear below it."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    most = max(abs(end) for end in axis.get_view_interval())
    decades = range(math.floor(math.log10(linear)), math.ceil(math.log10(most)) + 1)
    every = max(1, -(-len(decades) // 5))
    axis.set_major_locator(FixedLocator([0.0, *(10.0**k for k in decades[::every])]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axis.set_minor_locator(NullLocator())


def bare(axes: Any) -> None:
    """Leave of axes that show a map nothing but the map."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def sequential(name: str = "viridis") -> Any:
    """Colours of a map, of even lightness steps; what has no value is grey."""
    from matplotlib import colormaps

    return colormaps[name].with_extremes(bad=PALE)


def colour_bar(figure: Any, image: Any, label: str, **place: Any) -> Any:
    """A bar of an image's colours, with plain numbers where they are logarithmic."""
    from matplotlib.colors import LogNorm

    bar = figure.colorbar(image, label=label, **place)
    bar.outline.set_visible(False)
    if isinstance(image.norm, LogNorm):
        round_ticks(bar.ax.yaxis)
    return bar


def tidy(axes: Any, title: str = "") -> None:
    """Grid, spines, sizes of letters, and a title, of axes that may be drawn elsewhere."""
    axes.tick_params(labelsize=LOOK["xtick.labelsize"], width=0.6, length=2.5)
    axes.tick_params(which="minor", width=0.4, length=1.5)
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(title, fontsize=LOOK["axes.titlesize"])


def finish(
    figure: Figure,
    axes: Any,
    note: str = "",
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
) -> Figure:
    """Add what belongs to all axes: title and legend above them, labels, and a note below.

    The legend takes no room of theirs: the figure grows by its height.

    Args:
        axes: whose series the legend lists.
        note: what lines and bands are, such as `over_seeds` says.
    """
    for each in figure.axes:
        if each.axison and not hasattr(each, "_colorbar"):
            tidy(each)
    width, height = figure.get_size_inches()
    head, size = folded(shown(title), round(width / 0.068)), LOOK["axes.titlesize"]
    handles, labels = axes.get_legend_handles_labels()
    height += 0.17 * bool(title) + 0.17 * bool(xlabel)
    if title and not labels:
        figure.suptitle(head, fontsize=size)
    if labels:
        labels = [folded(label, round(width / 0.068)) for label in labels]
        letters = LOOK["legend.fontsize"] if len(labels) <= len(COLOURS) else 7.0
        rows, columns = _rows_of(labels, width, letters)
        style = {
            "handlelength": 2.6,
            "columnspacing": 1.2,
            "borderaxespad": 0.1,
            "labelspacing": 0.3,
        }
        legend = {"title": head or None, "title_fontsize": size, "ncols": columns}
        legend["fontsize"] = letters
        figure.legend(handles, labels, loc="outside upper center", **legend, **style)
        height += 0.15 * rows + 0.05
    lines = textwrap.wrap(note, round(width / (0.061 if xlabel else 0.052)))
    if ylabel:
        figure.supylabel(ylabel)
    if xlabel:
        figure.supxlabel("\n".join([xlabel, *lines]))
    elif lines:
        figure.supxlabel("\n".join(lines), fontsize=7.0, color=GREY)
    figure.set_size_inches(width, height + 0.12 * len(lines))
    return figure


def _rows_of(labels: Sequence[str], width: float, letters: float) -> tuple[int, int]:
    """Lines and columns of a legend as wide as its figure, in inches."""
    from matplotlib.textpath import TextPath

    parts = [part for label in labels for part in label.split("\n")]
    longest = max(TextPath((0, 0), part, letters).get_extents().width for part in parts) / 72
    rows = -(-len(labels) // max(1, int((width - 0.05) / (longest + 0.42))))
    return rows + len(parts) - len(labels), -(-len(labels) // rows)


# ---------------------------------------------------------------- files


@styled
def encode(figure: Any, kind: str, dpi: float | str = "figure") -> bytes:
    """A figure as a file of one of FORMATS, the same bytes for the same figure."""
    undated: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=dpi, metadata=undated.get(kind))
    return few_colours(buffer, 256) if kind == "png" else buffer.getvalue()


def few_colours(picture: Any, colours: int) -> bytes:
    """A picture, a file or pixels (height, width, 4), as a PNG with a palette: a third of it."""
    from PIL import Image

    pixels = isinstance(picture, np.ndarray)
    image = Image.fromarray(picture) if pixels else Image.open(picture)
    dpi = {} if pixels else {"dpi": image.info["dpi"]}
    buffer = io.BytesIO()
    reduced = image.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    reduced.save(buffer, "PNG", optimize=True, **dpi)
    return buffer.getvalue()


def png(figure: Any, dpi: float | str = "figure") -> bytes:
    """A figure as a PNG."""
    return encode(figure, "png", dpi)


def known_formats(formats: Sequence[str]) -> tuple[Format, ...]:
    """The formats, each once.

    Raises:
        InputError: none, or an unknown one.
    """
    if not formats or set(formats) - set(FORMATS):
        raise InputError(
            f"format must be of {', '.join(FORMATS)}, got {' '.join(formats) or 'none'}"
        )
    return tuple(kind for kind in FORMATS if kind in formats)


def save(figure: Any, path: Path | str, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Write a figure to `path` with the suffix of each format; returns the paths.

    The other formats' files of that name, which would be those of an earlier figure, are removed.

    Raises:
        InputError: an unknown format.
        OutputError: the folder can't be written to.
    """
    known, paths = known_formats(formats), []
    for kind in FORMATS:
        file = Path(f"{path}.{kind}")
        if kind in known:
            replace_file(file, encode(figure, kind))
            paths.append(file)
        else:
            file.unlink(missing_ok=True)
    return paths
