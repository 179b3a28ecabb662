"""What `evaluate` draws: scores along a grid of perturbations."""

from collections.abc import Sequence
from typing import Any

from rlentropy.plots.style import COLOURS, STYLES, finish, mark_nominal, shown


def robustness(bands: Sequence[Any], metric: str) -> Any:
    """Robustness curves of one grid with their intervals.

    Args:
        bands: with `algorithm`, `seeds`, `grid` (K values), `band` (value, low, high: (K,)).
    """
    from matplotlib.figure import Figure

    figure = Figure(dpi=200, figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for k, b in enumerate(bands):
        colour, x = COLOURS[k % len(COLOURS)], b.grid.values
        label = f"{shown(b.algorithm)} ({b.seeds} seed{'s' * (b.seeds > 1)})"
        axes.plot(x, b.band.value, color=colour, ls=STYLES[k % 5], lw=1.8, label=label)
        axes.fill_between(x, b.band.low, b.band.high, color=colour, alpha=0.2, lw=0)
    mark_nominal(axes, bands[0].grid)
    axes.set(xlabel=bands[0].grid.axis, ylabel=metric)
    return finish(figure, axes)
