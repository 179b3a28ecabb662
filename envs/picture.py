"""Frames of an agent in a finite MDP, from a layout that says where each state is drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

WIDTH, HEIGHT, HEADER, MARGIN = 640, 480, 40, 16  # pixels; the first two are upper limits
NEUTRAL, GAIN, LOSS = (238, 238, 238), (67, 147, 195), (214, 96, 77)
INK, FAINT, AGENT = (30, 30, 30), (170, 170, 170), (255, 190, 0)


@dataclass(frozen=True)
class Layout:
    """Places of the states, in pixels from the top left corner of the area below the header."""

    centres: NDArray[np.float64]  # (S, 2): x to the right, y down
    radius: float  # half a cell
    size: tuple[int, int]  # width, height
    round: bool = False  # discs rather than squares
    edges: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))  # (E, 2)

    @property
    def numbered(self) -> bool:
        """Whether a cell has room for its state's number."""
        digits = len(str(len(self.centres) - 1))
        return self.radius >= 3 + 3 * digits


def lattice(num_states: int, columns: int) -> Layout:
    """Squares in reading order, ``columns`` to a row."""
    rows = -(-num_states // columns)
    room = min((WIDTH - 2 * MARGIN) // columns, (HEIGHT - 2 * MARGIN) // rows)
    cell = min(max(room, 1), 96)
    row, column = np.divmod(np.arange(num_states), columns)
    width = max(cell * columns + 2 * MARGIN, 400)
    left = (width - cell * columns) / 2
    centres = np.stack([left + (column + 0.5) * cell, (row + 0.5) * cell], axis=1)
    return Layout(centres, cell / 2, (width, cell * rows + MARGIN))


def circle(num_states: int) -> Layout:
    """Discs clockwise around a circle, state 0 at the top."""
    angle = 2.0 * np.pi * np.arange(num_states) / num_states
    reach = HEIGHT / 2 - MARGIN
    radius = min(reach * np.sin(np.pi / num_states) / (1 + np.sin(np.pi / num_states)), 30.0)
    centres = HEIGHT / 2 + (reach - radius) * np.stack([np.sin(angle), -np.cos(angle)], axis=1)
    return Layout(centres, radius, (HEIGHT, HEIGHT), round=True)


def fan(num_leaves: int) -> Layout:
    """State 0 on the left, an edge to each of the leaves 1..num_leaves on the right."""
    height = min(max(70 * num_leaves, 140), HEIGHT)
    spacing = (height - MARGIN) / num_leaves
    y = np.append(height / 2, (np.arange(num_leaves) + 0.5) * spacing)
    x = np.append(90.0, np.full(num_leaves, 390.0))
    edges = np.stack([np.zeros(num_leaves, np.int64), np.arange(1, num_leaves + 1)], axis=1)
    radius = min(0.4 * spacing, 28.0)
    return Layout(np.stack([x, y], axis=1), radius, (480, height), round=True, edges=edges)


def background(layout: Layout, reward: NDArray[np.float64], starts: NDArray[np.int64]) -> Image:
    """The cells alone: blue where a state's reward (S,) is positive, red where negative.

    ``starts`` get a dark outline.
    """
    from PIL import Image, ImageDraw

    width, height = layout.size
    picture = Image.new("RGB", (width + width % 2, HEADER + height + height % 2), "white")
    draw = ImageDraw.Draw(picture)
    for s, t in layout.edges:
        draw.line([_centre(layout, s), _centre(layout, t)], fill=FAINT, width=2)
    scale = max(float(np.abs(reward).max()), np.finfo(float).tiny)
    share = reward[:, None] / scale  # (S, 1), in [-1, 1]
    colours = NEUTRAL + np.abs(share) * (np.where(share > 0, GAIN, LOSS) - np.array(NEUTRAL))
    outline = FAINT if layout.radius >= 3 else None
    for s, colour in enumerate(colours.astype(int).tolist()):
        _cell(draw, layout, s, tuple(colour), outline, 1)
    for s in starts:
        _cell(draw, layout, s, None, INK, 2)
    if layout.numbered:
        for s in range(len(layout.centres)):
            _number(draw, layout, s)
    return picture


def frame(
    layout: Layout, background: Image, previous: int | None, state: int, status: str
) -> NDArray[np.uint8]:
    """The agent on the background, an arrow from where it came, and a header; (h, w, 3) uint8."""
    from PIL import ImageDraw

    picture = background.copy()
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, HEADER / 2), status, fill=INK, font=_font(18), anchor="lm")
    x, y = _centre(layout, state)
    radius = max(0.84 * layout.radius, 5.0)
    if previous is not None and previous != state:
        _arrow(draw, _centre(layout, previous), (x, y), radius)
    box = (x - radius, y - radius, x + radius, y + radius)
    draw.ellipse(box, fill=AGENT, outline=INK, width=2)
    if layout.numbered:
        _number(draw, layout, state)
    return np.array(picture, np.uint8)


def _centre(layout: Layout, s: int) -> tuple[float, float]:
    x, y = layout.centres[s]
    return float(x), float(y) + HEADER


def _cell(draw: ImageDraw, layout: Layout, s: int, fill: Any, outline: Any, width: int) -> None:
    (x, y), radius = _centre(layout, s), layout.radius
    shape = draw.ellipse if layout.round else draw.rectangle
    box = (x - radius, y - radius, x + radius - 1, y + radius - 1)
    shape(box, fill=fill, outline=outline, width=width)


def _number(draw: ImageDraw, layout: Layout, s: int) -> None:
    size = min(max(int(0.8 * layout.radius), 10), 22)
    draw.text(_centre(layout, s), str(s), fill=INK, font=_font(size), anchor="mm")


def _arrow(
    draw: ImageDraw, tail: tuple[float, float], tip: tuple[float, float], gap: float
) -> None:
    """From the tail's centre to the rim of a disc of radius ``gap`` around the tip."""
    along = np.subtract(tip, tail)
    length = float(np.hypot(*along))
    along = along / max(length, 1e-9)
    across = np.array([-along[1], along[0]])
    end = np.array(tip) - gap * along
    draw.line([tail, tuple(end)], fill=INK, width=3)
    head = max(0.45 * gap, 4.0)
    wings = [end - head * along + side * 0.7 * head * across for side in (-1, 1)]
    draw.polygon([tuple(end), *map(tuple, wings)], fill=INK)


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)
