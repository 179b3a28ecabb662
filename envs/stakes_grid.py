"""StakesGrid: a grid of smooth hidden rewards with a corner where everything counts for more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from rlentropy.envs.grid_world import MOVES
from rlentropy.envs.tabular import TabularEnv, check_probability, check_whole
from rlentropy.mdp import FiniteMDP
from rlentropy.types import Array

if TYPE_CHECKING:
    from rlentropy.envs.picture import Layout

SMOOTHNESS = 1.5  # cells, the width of the bumps that the rewards are made of


class StakesGridEnv(TabularEnv):  # type: ignore[misc]
    """size x size cells, state = row * size + column; entering a cell pays its reward.

    Rewards are smooth, of mean 0 and deviation 1 over the cells, and those in the bottom right
    corner of corner x corner cells are multiplied by stakes. Labels differ in worth there, which
    is what active preference selection needs. Actions are 0 left, 1 right, 2 up, 3 down; a move
    off the grid stays. Starts are uniform, and an episode never terminates.

    Args:
        wind: probability that a uniformly random move takes the place of the chosen one.
        map_seed: of the rewards.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        size: int = 10,
        stakes: float = 15.0,
        corner: int = 4,
        wind: float = 0.0,
        map_seed: int = 0,
        *,
        render_mode: str | None = None,
    ) -> None:
        check_whole("size", size, 2)
        check_whole("corner", corner, 0)
        check_whole("map_seed", map_seed, 0)
        check_probability("wind", wind)
        if not np.isfinite(stakes):
            raise ValueError(f"stakes must be finite, got {stakes}")
        S = size * size
        self.grid_shape = (size, size)
        P = windy_kernel(size, wind)
        r = P.copy()
        r.data = cell_rewards(size, stakes, corner, map_seed)[P.indices]
        super().__init__(
            FiniteMDP(P, r, np.full(S, 1.0 / S)),
            action_names=("left", "right", "up", "down"),
            render_mode=render_mode,
        )

    def _layout(self) -> Layout:
        from rlentropy.envs.picture import lattice

        assert self.grid_shape is not None
        return lattice(self.mdp.num_states, self.grid_shape[1])


def windy_kernel(size: int, wind: float) -> sp.csr_array:
    """P(s' | s, a) as CSR (S*A, S): the chosen move with 1 - wind, else one of the four."""
    S = size * size
    cell = np.stack(np.divmod(np.arange(S), size), axis=1)
    beside = cell[:, None] + MOVES  # (S, 4, 2)
    inside = ((beside >= 0) & (beside < size)).all(axis=2)
    target = np.where(inside, beside @ [size, 1], np.arange(S)[:, None])  # (S, 4)
    p = (1.0 - wind) * np.eye(4) + wind / 4.0  # of each move, given the chosen one
    rows = np.repeat(np.arange(4 * S), 4)
    columns = np.repeat(target, 4, axis=0).ravel()  # row s*4 + a has the four targets of s
    P = sp.coo_array((np.tile(p.ravel(), S), (rows, columns)), shape=(4 * S, S)).tocsr()
    P.sum_duplicates()
    P.eliminate_zeros()
    return P


def cell_rewards(size: int, stakes: float, corner: int, seed: int) -> Array:
    """Reward of entering each cell, (S,)."""
    rng = np.random.default_rng(seed)
    x = np.arange(size)
    bump = np.exp(-((x[:, None] - x) ** 2) / (2.0 * SMOOTHNESS**2))
    field = bump @ rng.standard_normal((size, size)) @ bump.T
    field = (field - field.mean()) / field.std()
    if corner:
        field[-corner:, -corner:] *= stakes
    return np.asarray(field.ravel())
