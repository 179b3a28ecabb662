"""What campaigns of preferences draw: how sure policies were, and how well that is calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlentropy.plots import style
from rlentropy.plots.style import canvas, finish, panels, shown, styled
from rlentropy.preferences.losses import sigmoid

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def margins(parts: Sequence[tuple[str, Any]], columns: int = 2, title: str = "") -> Figure:
    """How sure a policy was of what teachers then preferred, a panel a name.

    Args:
        parts: names, and β times the log-ratio of the preferred segment less that of the other,
            (n,). Its σ is above 1/2 where the policy was right; at 1/2 one half counts as right.
            NaN, of ties, is left out.
        columns: most panels side by side.
        title: of the whole picture.
    """
    width = style.COLUMN if columns < 3 else style.PAGE
    shared = {"sharex": True, "sharey": True, "width": width}
    figure, grid = panels(len(parts), 1.3, columns=columns, **shared)
    edges = np.linspace(0.0, 1.0, 21)  # 1/2 is one
    for axes, (name, margin) in zip(grid, parts, strict=True):
        margin = np.asarray(margin, float)
        chance = sigmoid(margin[~np.isnan(margin)])
        share = np.histogram(chance, edges)[0] / max(chance.size, 1)
        undecided = 0.5 * (chance == 0.5).sum() / max(chance.size, 1)
        share[9:11] += undecided, -undecided
        for side, part, k, hatch in (("wrong", 0, 1, "////"), ("right", 10, 0, "")):
            look: dict[str, Any] = {"color": style.COLOURS[k], "hatch": hatch, "edgecolor": "white"}
            left, heights = edges[part : part + 10], share[part : part + 10]
            axes.bar(left, heights, 0.05, align="edge", lw=0.4, label=side, **look)
        right = f"{share[10:].sum():.0%} right of {chance.size}" if chance.size else "no answers"
        axes.set_title(f"{shown(name)}\n{right}", fontsize=7.0)
        axes.set(xlim=(0.0, 1.0), xticks=(0.0, 0.5, 1.0))
    names = {"xlabel": "predicted probability of the answer", "ylabel": "share of answers"}
    return finish(figure, grid[0], title=title, **names)


@styled
def reliability(curves: Sequence[tuple[str, Any]], title: str = "") -> Figure:
    """Reliability diagrams over the densities of what was predicted.

    Args:
        curves: names, and what has `grid`, `frequency` and `density`, (G,) each, such as
            `rlentropy.preferences.calibration.reliability_curve` returns.
    """
    figure, grid = canvas(2, 1, height=3.4, sharex=True, height_ratios=(4, 1))
    axes, below = grid.ravel()
    axes.plot([0, 1], [0, 1], color=style.GREY, ls=(0, (4, 3)), lw=0.8)
    for k, (name, curve) in enumerate(curves):
        axes.plot(curve.grid, curve.frequency, label=shown(name), **style.series(k))
        below.plot(curve.grid, curve.density, lw=1.0, **style.series(k))
    axes.set(ylabel="observed frequency", xlim=(0, 1), ylim=(0, 1))
    below.set(xlabel="predicted probability", ylabel="density", ylim=(0, None))
    return finish(figure, axes, "dashed: as often as predicted", title=title)
