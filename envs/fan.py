"""Fan: one sure and one random action, the smallest test of trajectory entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from rlentropy.envs.tabular import TabularEnv, check_whole
from rlentropy.mdp import FiniteMDP

if TYPE_CHECKING:
    from rlentropy.envs.picture import Layout


class FanEnv(TabularEnv):  # type: ignore[misc]
    """From state 0, action 0 leads to state 1 and action 1 uniformly to one of 2..K+1.

    In those K + 1 leaves both actions do the same. Leaves are absorbing but not terminal, since an
    episode of two steps still chooses an action there. There is no reward.

    Over two steps the trajectory entropy is at most log(2 (K + 1)), by choosing action 1 first
    with probability K / (K + 1).

    Args:
        K: random leaves, at least 1.

    Raises:
        ValueError: K < 1.
    """

    def __init__(self, K: int = 5, *, render_mode: str | None = None) -> None:
        check_whole("K", K, 1)
        S, leaf = K + 2, np.arange(1, K + 2)
        row = np.concatenate([[0], np.full(K, 1), 2 * leaf, 2 * leaf + 1])
        successor = np.concatenate([leaf, leaf, leaf])
        p = np.concatenate([[1.0], np.full(K, 1.0 / K), np.ones(2 * S - 2)])
        super().__init__(
            FiniteMDP(
                sp.coo_array((p, (row, successor)), shape=(2 * S, S)),
                np.zeros((S, 2)),
                np.eye(S)[0],
            ),
            action_names=("sure", "random"),
            render_mode=render_mode,
        )

    def _layout(self) -> Layout:
        from rlentropy.envs.picture import fan

        return fan(self.mdp.num_states - 1)
