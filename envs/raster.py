"""Pictures of continuous environments, painted in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]  # (height, width, 3)
Colour = tuple[int, int, int]
WALL, FLOOR, GOAL, POINT = (58, 64, 74), (245, 245, 242), (156, 208, 150), (206, 70, 60)


def paint(mask: NDArray[np.bool_], of: Colour = WALL, others: Colour = FLOOR) -> Frame:
    """A frame of two colours, by a mask (height, width)."""
    return np.where(mask[..., None], np.array(of, np.uint8), np.array(others, np.uint8))


def disc(frame: Frame, x: float, y: float, radius: float, colour: Colour = POINT) -> None:
    """Paint a disc into the frame: pixels from the left, from the top, and its radius."""
    rows, columns = np.ogrid[: frame.shape[0], : frame.shape[1]]
    frame[(columns - x) ** 2 + (rows - y) ** 2 <= radius**2] = colour
