"""RiverSwim: a small steady reward downstream, a large one upstream (Strehl & Littman, 2008)."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from rlentropy.envs.tabular import TabularEnv, check_whole
from rlentropy.mdp import FiniteMDP


class RiverSwimEnv(TabularEnv):  # type: ignore[misc]
    """States 0 (downstream) to num_states-1; drift left (action 0) or swim right (1), from state 0.

    Left always moves one state, and stays in state 0. Right moves left, stays or moves right:

        from 0: -, 0.7, 0.3;   from the middle: 0.1, 0.6, 0.3;   from the last state: 0.7, 0.3, -

    Left in state 0 pays 0.005 and right in the last state 1; all else pays 0. An episode never
    terminates.

    Raises:
        ValueError: num_states < 2.
    """

    def __init__(self, num_states: int = 6, *, render_mode: str | None = None) -> None:
        check_whole("num_states", num_states, 2)
        S, s = num_states, np.arange(num_states)
        swim = np.tile([0.1, 0.6, 0.3], (S, 1))  # (S, 3): to s-1, s, s+1
        swim[0], swim[-1] = [0.0, 0.7, 0.3], [0.7, 0.3, 0.0]
        row = np.concatenate([2 * s, np.repeat(2 * s + 1, 3)])
        successor = np.concatenate([s - 1, (s[:, None] + [-1, 0, 1]).ravel()]).clip(0, S - 1)
        p = np.concatenate([np.ones(S), swim.ravel()])
        r = np.zeros((S, 2))
        r[0, 0], r[-1, 1] = 0.005, 1.0
        super().__init__(
            FiniteMDP(
                sp.coo_array((p, (row, successor)), shape=(2 * S, S)).tocsr(), r, np.eye(S)[0]
            ),
            action_names=("left", "right"),
            render_mode=render_mode,
        )
