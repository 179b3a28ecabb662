"""DoubleChain, the first benchmark of the maximum-entropy exploration paper."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from rlentropy.envs.tabular import TabularEnv, check_probability, check_whole
from rlentropy.mdp import FiniteMDP


class DoubleChainEnv(TabularEnv):  # type: ignore[misc]
    """A line of states 0..num_states-1, walked left (action 0) or right (1), from the middle.

    The intended move happens with probability 1 - fail_probability, the opposite one otherwise; a
    move off either end stays there. The start is state num_states // 2, and an episode never
    terminates. The defaults are the paper's (Tiapkin et al., 2023), in episodes of 20 steps.

    The paper leaves the reward unused; here every action taken in one of the two ends pays 1.

    Raises:
        ValueError: num_states < 1, or fail_probability not in [0, 1].
    """

    def __init__(
        self,
        num_states: int = 31,
        fail_probability: float = 0.1,
        *,
        render_mode: str | None = None,
    ) -> None:
        check_whole("num_states", num_states, 1)
        check_probability("fail_probability", fail_probability)
        s = np.arange(num_states)
        left, right = np.maximum(s - 1, 0), np.minimum(s + 1, num_states - 1)
        rows = np.concatenate([2 * s, 2 * s + 1])
        p = np.full(2 * num_states, 1.0 - fail_probability)
        intended = sp.coo_array((p, (rows, np.concatenate([left, right]))))
        opposite = sp.coo_array((1.0 - p, (rows, np.concatenate([right, left]))))
        r = np.zeros((num_states, 2))
        r[[0, -1]] = 1.0
        mu = np.zeros(num_states)
        mu[num_states // 2] = 1.0
        super().__init__(
            FiniteMDP((intended + opposite).tocsr(), r, mu),
            action_names=("left", "right"),
            render_mode=render_mode,
        )
