"""A point with inertia in a maze of square cells: continuous states and actions, no noise."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from rlentropy.errors import InputError, one_of

Frame = NDArray[np.uint8]  # (height, width, 3)
Vector = NDArray[np.float32]

# "#" is a wall, "G" the goal; rows from the top, so that the y-axis points down.
MAZES = {
    "open": ("#######", "#     #", "#     #", "#  G  #", "#     #", "#     #", "#######"),
    "u": ("#######", "#     #", "#     #", "####  #", "#     #", "#G    #", "#######"),
    "rooms": ("#########", "#   #   #", "#       #", "#   #   #", "## ### ##", "#   #   #",
              "#      G#", "#   #   #", "#########"),
}  # fmt: skip
PULL, DRAG, FASTEST = 0.04, 0.9, 0.3  # cells / step², share of the speed kept, cells / step
REACHED = 0.5  # distance at which the goal is reached, cells
PIXELS = 56  # of a cell
PAINT = {"#": (58, 64, 74), " ": (245, 245, 242), "G": (156, 208, 150)}
POINT = (206, 70, 60)


class PointMazeEnv(gymnasium.Env[Vector, Vector]):
    """Accelerates a point along two axes; walls stop it.

    Observations are position and speed (x, y, v_x, v_y) in cells and cells a step, actions the
    acceleration along each axis as a share of the largest, [-1, 1]². An episode starts at rest
    anywhere in the free cells. The dynamics are deterministic: v becomes 0.9 v + 0.04 a, at most
    0.3 along each axis, and the point moves by it, first along x, then along y.

    Args:
        maze: "u" (the goal is round a bend), "open", "rooms", or rows of text of your own.
        reward: "dense" pays minus the distance to the goal after each step, in cells, and never
            ends; "sparse" pays 1 when the goal is reached, which ends the episode.
        render_mode: "ansi" (text, the point an o), "rgb_array" or None.

    Raises:
        InputError: the maze is not walled in, has not one goal, or an option is unknown.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 15}

    def __init__(
        self,
        maze: str | tuple[str, ...] = "u",
        reward: str = "dense",
        *,
        render_mode: str | None = None,
    ) -> None:
        if isinstance(maze, str):
            one_of("maze", maze, MAZES)
        one_of("reward", reward, ("dense", "sparse"))
        if render_mode is not None:
            one_of("render_mode", render_mode, self.metadata["render_modes"])
        self.rows = check_maze(MAZES[maze] if isinstance(maze, str) else tuple(maze))
        self.reward, self.render_mode = reward, render_mode
        height, width = len(self.rows), len(self.rows[0])
        self.free = [[cell != "#" for cell in row] for row in self.rows]
        self.cells = [(x, y) for y in range(height) for x in range(width) if self.free[y][x]]
        self.goal = next((x + 0.5, y + 0.5) for x, y in self.cells if self.rows[y][x] == "G")
        largest = np.array([width, height, FASTEST, FASTEST], np.float32)
        smallest = np.array([0.0, 0.0, -FASTEST, -FASTEST], np.float32)
        self.observation_space = Box(smallest, largest)
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)
        self.x = self.y = self.vx = self.vy = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Vector, dict[str, Any]]:
        super().reset(seed=seed)
        x, y = self.cells[int(self.np_random.integers(len(self.cells)))]
        dx, dy = self.np_random.uniform(0.05, 0.95, 2).tolist()
        self.x, self.y, self.vx, self.vy = x + dx, y + dy, 0.0, 0.0
        return self._observation(), {}

    def step(self, action: Vector) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
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

    def render(self) -> Frame | str | None:
        """The maze and the point: lines of text, or a picture (height, width, 3)."""
        if self.render_mode is None:
            return None
        if self.render_mode == "ansi":
            lines = [list(row) for row in self.rows]
            lines[int(self.y)][int(self.x)] = "o"
            return "".join("".join(line) + "\n" for line in lines)
        cells = np.array([[PAINT[cell] for cell in row] for row in self.rows], np.uint8)
        frame = cells.repeat(PIXELS, 0).repeat(PIXELS, 1)
        rows, columns = np.ogrid[: frame.shape[0], : frame.shape[1]]
        offset = (columns - self.x * PIXELS) ** 2 + (rows - self.y * PIXELS) ** 2
        frame[offset <= (PIXELS / 6) ** 2] = POINT
        return frame


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
