"""The one style of every picture, and how a picture becomes a file."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlentropy.files import plain, replace_file

LONGEST = 60  # characters of a name in a picture
FORMATS = ("png", "pdf", "svg")

# Okabe and Ito's colours, told apart by the colour-blind and, with the line styles, in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A7A00")
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = "osD^vP*X"


def shown(text: str) -> str:
    """Text as matplotlib shall draw it: short, no formula between dollars, no hidden label."""
    text = plain(text, LONGEST)
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def mark_nominal(axes: Any, grid: Any) -> None:
    """A dashed line at the nominal value of a grid, where it is in range."""
    if grid.values[0] <= grid.nominal <= grid.values[-1]:
        axes.axvline(grid.nominal, color="0.4", ls=(0, (4, 3)), lw=1.0, zorder=0)


def round_ticks(axis: Any) -> None:
    """Plain numbers on a log axis, as many as its range leaves room for."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    subs = (1, 1.5, 2, 3, 5, 7) if high < 10 * low else (1, 2, 5) if high < 300 * low else (1,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def finish(figure: Any, axes: Any) -> Any:
    """Grid and legend, above the axes so that it hides nothing."""
    axes.grid(True, which="major", alpha=0.3, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        columns = max(1, min(len(labels), 80 // (max(map(len, labels)) + 8)))
        style = {"frameon": False, "fontsize": 9, "ncols": columns}
        figure.legend(handles, labels, loc="outside upper center", **style)
    return figure


# ---------------------------------------------------------------- files


def encode(figure: Any, kind: str, dpi: float | str = "figure") -> bytes:
    """A figure as a file of one of FORMATS, the same bytes for the same figure."""
    from matplotlib import rc_context

    dates = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "rlentropy", "pdf.fonttype": 42}):  # fonts that can be edited
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=dates[kind])
    return buffer.getvalue()


def png(figure: Any, dpi: float | str = "figure") -> bytes:
    """A figure as a PNG."""
    return encode(figure, "png", dpi)


def save(figure: Any, path: Path | str, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Write a figure to `path` with the suffix of each format; returns the paths.

    The other formats' files of that name, which would be those of an earlier figure, are removed.
    """
    paths = []
    for kind in FORMATS:
        file = Path(f"{path}.{kind}")
        if kind in formats:
            replace_file(file, encode(figure, kind))
            paths.append(file)
        else:
            file.unlink(missing_ok=True)
    return paths
