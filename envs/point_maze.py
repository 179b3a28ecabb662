"""A point with inertia in a maze of square cells: continuous states and actions, no noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from rlentropy.envs.batched import ArrayEnv, BatchedEnv, Step, Vector
from rlentropy.envs.raster import FLOOR, GOAL, WALL, Frame, disc
from rlentropy.errors import InputError, one_of
from rlentropy.types import Array

Cell = tuple[int, int]  # column, row

# "#" is a wall, "G" the goal; rows from the top, so that the y-axis points down.
MAZES = {
    "open": ("#######", "#     #", "#     #", "#  G  #", "#     #", "#     #", "#######"),
    "u": ("#######", "#     #", "#     #", "####  #", "#     #", "#G    #", "#######"),
    "rooms": ("#########", "#   #   #", "#       #", "#   #   #", "## ### ##", "#   #   #",
              "#      G#", "#   #   #", "#########"),
    "spiral": ("###########", "#         #", "######### #", "#       # #", "# ##### # #",
               "# #  G# # #", "# # ### # #", "# #     # #", "# ####### #", "#         #",
               "###########"),
    "large": ("############", "#    #     #", "# ## # ### #", "# #      # #", "# # ## # # #",
              "#   #  #   #", "# ### ## # #", "#   #    #G#", "############"),
}  # fmt: skip
PULL, DRAG, FASTEST = 0.04, 0.9, 0.3  # cells / step², share of the speed kept, cells / step
REACHED = 0.5  # distance at which the goal is reached, cells
PIXELS = 56  # of a cell
PAINT = {"#": WALL, " ": FLOOR, "G": GOAL}


class PointMazeEnv(ArrayEnv):  # type: ignore[misc]
    """Accelerates a point along two axes; walls stop it.

    Observations are position and speed (x, y, v_x, v_y) in cells and cells a step, actions the
    acceleration along each axis as a share of the largest, [-1, 1]². An episode starts at rest
    anywhere in the free cells. The dynamics are deterministic: v becomes 0.9 v + 0.04 a, at most
    0.3 along each axis, and the point moves by it, first along x, then along y. The features are
    the position, in two bins a cell along each axis.

    Args:
        maze: "u" (the goal is round a bend), "open", "rooms", "spiral" (one corridor), "large"
            (loops and dead ends), or rows of text of your own.
        reward: "dense" pays minus the distance to the goal after each step, in cells, and never
            ends; "sparse" pays 1 when the goal is reached, which ends the episode.
        start: the free cell (column, row) in which episodes start; None for all of them.
        goal: the free cell to which the goal is moved; None for where the maze has it.
        render_mode: "ansi" (text, the point an o), "rgb_array" or None.

    Raises:
        InputError: the maze is not walled in, has not one goal, a cell is not free, or an option is
            unknown.
    """

    feature_names = ("x", "y")

    def __init__(
        self,
        maze: str | tuple[str, ...] = "u",
        reward: str = "dense",
        *,
        start: Cell | None = None,
        goal: Cell | None = None,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode)
        if isinstance(maze, str):
            one_of("maze", maze, MAZES)
        one_of("reward", reward, ("dense", "sparse"))
        self.rows = check_maze(MAZES[maze] if isinstance(maze, str) else tuple(maze))
        self.reward = reward
        height, width = len(self.rows), len(self.rows[0])
        self.free = [[cell != "#" for cell in row] for row in self.rows]
        self._open = np.array(self.free)
        self.cells = [(x, y) for y in range(height) for x in range(width) if self.free[y][x]]
        self.starts = self.cells if start is None else [self._cell("start", start)]
        if goal is not None:
            self.rows = moved_goal(self.rows, self._cell("goal", goal))
        self.goal = next((x + 0.5, y + 0.5) for x, y in self.cells if self.rows[y][x] == "G")
        self.feature_ranges = ((1.0, width - 1.0), (1.0, height - 1.0))
        self.feature_bins = (2 * (width - 2), 2 * (height - 2))
        largest = np.array([width, height, FASTEST, FASTEST], np.float32)
        smallest = np.array([0.0, 0.0, -FASTEST, -FASTEST], np.float32)
        self.observation_space = Box(smallest, largest)
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)
        self.x = self.y = self.vx = self.vy = 0.0

    def _cell(self, name: str, cell: Any) -> Cell:
        if not isinstance(cell, Sequence) or tuple(cell) not in self.cells:
            raise InputError(f"{name} must be a free cell (column, row), got {cell!r}")
        return int(cell[0]), int(cell[1])

    @property
    def state(self) -> Array:
        return np.array((self.x, self.y, self.vx, self.vy))

    @state.setter
    def state(self, row: Array) -> None:
        self.x, self.y, self.vx, self.vy = row.tolist()

    def draw_start(self, rng: np.random.Generator) -> Sequence[float]:
        x, y = self.starts[int(rng.integers(len(self.starts)))]
        dx, dy = rng.uniform(0.05, 0.95, 2).tolist()
        return x + dx, y + dy, 0.0, 0.0

    def step(self, action: Vector) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """As `advance` of one row, in plain numbers: the same to the last bit but for distances."""
        ax, ay = (min(max(float(a), -1.0), 1.0) for a in action)
        self.vx = min(max(DRAG * self.vx + PULL * ax, -FASTEST), FASTEST)
        self.vy = min(max(DRAG * self.vy + PULL * ay, -FASTEST), FASTEST)
        x, y = self.x + self.vx, self.y + self.vy
        if self.free[int(self.y)][int(x)]:
            self.x = x
        else:
            self.vx = 0.0
        if self.free[int(y)][int(self.x)]:
            self.y = y
        else:
            self.vy = 0.0
        distance = ((self.x - self.goal[0]) ** 2 + (self.y - self.goal[1]) ** 2) ** 0.5
        if self.reward == "dense":
            return self._observation(), -distance, False, False, {}
        reached = distance <= REACHED
        return self._observation(), float(reached), reached, False, {}

    def _observation(self) -> Vector:
        return np.array((self.x, self.y, self.vx, self.vy), np.float32)

    def advance(self, states: Array, actions: NDArray[Any]) -> Step:
        pull = PULL * np.minimum(np.maximum(actions.astype(np.float64), -1.0), 1.0)
        v = np.minimum(np.maximum(DRAG * states[:, 2:] + pull, -FASTEST), FASTEST)
        moved = states[:, :2] + v
        x, y = states[:, 0].astype(np.intp), states[:, 1].astype(np.intp)
        to_x, to_y = moved[:, 0].astype(np.intp), moved[:, 1].astype(np.intp)
        goes_x = self._open[y, to_x]
        goes_y = self._open[to_y, np.where(goes_x, to_x, x)]
        goes = np.stack([goes_x, goes_y], axis=1)
        place = np.where(goes, moved, states[:, :2])
        after = np.concatenate([place, np.where(goes, v, 0.0)], axis=1)
        distance = np.sqrt(((place - self.goal) ** 2).sum(axis=1))
        if self.reward == "dense":
            return after, -distance, np.zeros(len(after), bool)
        reached = distance <= REACHED
        return after, reached.astype(np.float64), reached

    def features(self, observations: NDArray[Any]) -> Array:
        """Position (n, 2), in cells."""
        return np.asarray(observations, np.float64)[:, :2]

    def text(self, state: Array) -> str:
        lines = [list(row) for row in self.rows]
        lines[int(state[1])][int(state[0])] = "o"
        return "".join("".join(line) + "\n" for line in lines)

    def picture(self, state: Array) -> Frame:
        cells = np.array([[PAINT[cell] for cell in row] for row in self.rows], np.uint8)
        frame = cells.repeat(PIXELS, 0).repeat(PIXELS, 1)
        disc(frame, state[0] * PIXELS, state[1] * PIXELS, PIXELS / 6)
        return frame


class PointMazeBatch(BatchedEnv):  # type: ignore[misc]
    """Many points in a maze each, side by side."""

    single = PointMazeEnv


def check_maze(rows: tuple[str, ...]) -> tuple[str, ...]:
    """Rows of one length, walled in, with one goal.

    Raises:
        InputError: they are not.
    """
    known = all(isinstance(row, str) and set(row) <= set(PAINT) for row in rows)
    if not rows or not known or len({len(row) for row in rows}) != 1:
        raise InputError(f"maze must be rows of '#', ' ' and 'G' of one length, got {rows}")
    edge = rows[0] + rows[-1] + "".join(row[0] + row[-1] for row in rows if row)
    if not edge or set(edge) != {"#"}:
        raise InputError(f"maze must be walled in by '#', got {rows}")
    if "".join(rows).count("G") != 1:
        raise InputError(f"maze must have one goal 'G', got {''.join(rows).count('G')}")
    return rows


def moved_goal(rows: tuple[str, ...], cell: Cell) -> tuple[str, ...]:
    """The maze with its goal in another free cell."""
    cells = [list(row.replace("G", " ")) for row in rows]
    cells[cell[1]][cell[0]] = "G"
    return tuple(map("".join, cells))
