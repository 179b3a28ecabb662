"""What campaigns of preferences draw: how sure policies were, and how well that is calibrated."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlentropy.plots.style import COLOURS, STYLES, finish, shown
from rlentropy.preferences.losses import sigmoid


def margins(panels: Sequence[tuple[str, Any]]) -> Any:
    """How sure a policy was of what teachers then preferred, a panel a name.

    Args:
        panels: names, and β times the log-ratio of the preferred segment less that of the other,
            (n,). Its σ is above 1/2 where the policy was right; at 1/2 one half counts as right.
            NaN, of ties, is left out.
    """
    from matplotlib.figure import Figure

    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure = Figure(dpi=200, figsize=(2.6 * columns + 0.8, 2.2 * rows + 0.6), layout="constrained")
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


def reliability(curves: Sequence[tuple[str, Any]]) -> Any:
    """Reliability diagrams over the densities of what was predicted.

    Args:
        curves: names, and what has `grid`, `frequency` and `density`, (G,) each.
    """
    from matplotlib.figure import Figure

    figure = Figure(dpi=200, figsize=(4.8, 5.6), layout="constrained")
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
