"""What `evaluate` draws: scores along a grid of perturbations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rlentropy.plots import style
from rlentropy.plots.style import canvas, finish, mark_nominal, shown, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def robustness(bands: Sequence[Any], ylabel: str, xlabel: str = "", note: str = "") -> Figure:
    """Robustness curves of one grid with their intervals.

    Args:
        bands: with `algorithm`, `seeds`, `grid` (K values), `band` (value, low, high: (K,)).
        xlabel: what the grid's values are; default: its name, unit and nominal value.
        note: what lines and bands are.
    """
    figure, ((axes,),) = canvas(height=2.2)
    grid = bands[0].grid
    axes.set(xlabel=shown(xlabel or grid.axis).replace("^2", "²"), ylabel=shown(ylabel))
    mark_nominal(axes, grid)
    several = len({b.seeds for b in bands}) > 1
    for k, b in enumerate(bands):
        count = f" ({b.seeds} seed{'s' * (b.seeds > 1)})" * several
        style.line(axes, k, grid.values, b.band, shown(b.algorithm) + count)
    return finish(figure, axes, note or style.over_seeds("mean", [b.seeds for b in bands]))
