"""Pictures for TensorBoard and the run folder."""

import io
from typing import Any

import numpy as np


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
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
