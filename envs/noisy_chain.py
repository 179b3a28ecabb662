"""NoisyChain: a chain where trajectory entropy is not maximised by the uniform policy."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from rlentropy.envs.tabular import TabularEnv, check_whole
from rlentropy.mdp import FiniteMDP


class NoisyChainEnv(TabularEnv):  # type: ignore[misc]
    """A line of states 0..num_states-1 whose noise depends on the action and the place.

    Actions 0 left and 1 right move one state, surely, and stay at an end. Action 2 scatters: in the
    upper half, s >= num_states // 2, it draws d uniformly from -2..2 and goes to s + d, clipped to
    the chain (so an end gathers the probability of what lies behind it); in the lower half it
    stays. The start is state 0, and an episode never terminates.

    The reward is 1 for every action taken in the last state; trajectory entropy ignores it.

    Raises:
        ValueError: num_states < 2.
    """

    def __init__(self, num_states: int = 10, *, render_mode: str | None = None) -> None:
        check_whole("num_states", num_states, 2)
        S, s = num_states, np.arange(num_states)
        spread = np.arange(-2, 3) * (s[:, None] >= S // 2)  # (S, 5)
        row = np.concatenate([3 * s, 3 * s + 1, np.repeat(3 * s + 2, 5)])
        successor = np.concatenate([s - 1, s + 1, (s[:, None] + spread).ravel()]).clip(0, S - 1)
        p = np.concatenate([np.ones(2 * S), np.full(5 * S, 0.2)])
        r = np.zeros((S, 3))
        r[-1] = 1.0
        super().__init__(
            FiniteMDP(
                sp.coo_array((p, (row, successor)), shape=(3 * S, S)).tocsr(), r, np.eye(S)[0]
            ),
            action_names=("left", "right", "scatter"),
            render_mode=render_mode,
        )
