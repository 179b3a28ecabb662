"""GridWorld, the second benchmark of the maximum-entropy exploration paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from rlentropy.envs.tabular import TabularEnv, check_probability, check_whole
from rlentropy.mdp import FiniteMDP

if TYPE_CHECKING:
    from rlentropy.envs.picture import Layout

MOVES = np.array([[0, -1], [0, 1], [-1, 0], [1, 0]])  # (row, column) of left, right, up, down


class GridWorldEnv(TabularEnv):  # type: ignore[misc]
    """An open square of size x size cells, state = row * size + column, from the middle cell.

    Actions are 0 left, 1 right, 2 up (row - 1) and 3 down. A move that would leave the grid stays,
    surely. Any other goes the chosen way with success_probability, and to each other neighbour
    inside the grid with an equal share of the rest. An episode never terminates. The defaults are
    the paper's (Tiapkin et al., 2023), in episodes of 20 steps.

    The paper leaves the reward unused; here every step that ends in the bottom right corner, which
    is 20 moves from the start, pays goal_reward.

    Raises:
        ValueError: size < 1, success_probability not in [0, 1], or goal_reward not finite.
    """

    def __init__(
        self,
        size: int = 21,
        success_probability: float = 0.95,
        goal_reward: float = 1.0,
        *,
        render_mode: str | None = None,
    ) -> None:
        check_whole("size", size, 1)
        check_probability("success_probability", success_probability)
        if not np.isfinite(goal_reward):
            raise ValueError(f"goal_reward must be finite, got {goal_reward}")
        S = size * size
        self.grid_shape = (size, size)
        P = grid_kernel(size, success_probability)
        r = P.copy()
        r.data = goal_reward * (P.indices == S - 1)
        mu = np.zeros(S)
        mu[(size // 2) * size + size // 2] = 1.0
        super().__init__(
            FiniteMDP(P, r, mu),
            action_names=("left", "right", "up", "down"),
            render_mode=render_mode,
        )

    def _layout(self) -> Layout:
        from rlentropy.envs.picture import lattice

        assert self.grid_shape is not None
        return lattice(self.mdp.num_states, self.grid_shape[1])


def grid_kernel(size: int, success_probability: float) -> sp.csr_array:
    """P(s' | s, a) as CSR (S*A, S), with S = size², A = 4."""
    S = size * size
    cell = np.stack(np.divmod(np.arange(S), size), axis=1)  # (S, 2)
    beside = cell[:, None] + MOVES  # (S, 4, 2)
    inside = ((beside >= 0) & (beside < size)).all(axis=2)  # (S, 4)
    slip = (1.0 - success_probability) / np.maximum(inside.sum(axis=1) - 1, 1)  # (S,)
    # Axes (s, a, b): the probability that choosing a moves the way b does; b = a stays at a wall.
    p = np.where(inside[:, :, None], slip[:, None, None] * inside[:, None, :], 0.0)
    b = np.arange(4)
    p[:, b, b] = np.where(inside, success_probability, 1.0)
    successor = np.where(inside, beside @ [size, 1], np.arange(S)[:, None])  # (S, 4)
    row, way = np.nonzero(p.reshape(4 * S, 4))
    coordinates = (row, successor[row // 4, way])
    return sp.coo_array((p.reshape(4 * S, 4)[row, way], coordinates), shape=(4 * S, S)).tocsr()
