"""Figures that a notebook shows by itself, with matplotlib.pyplot or without."""

import io

from matplotlib.figure import Figure


class Picture(Figure):
    """A figure whose value at the end of a notebook's cell is its picture."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()
