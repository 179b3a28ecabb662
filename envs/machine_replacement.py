"""MachineReplacement: a machine that wears out, repaired at the cost of downtime."""

from __future__ import annotations

import numpy as np

from rlentropy.envs.tabular import TabularEnv, check_whole
from rlentropy.mdp import FiniteMDP


class MachineReplacementEnv(TabularEnv):  # type: ignore[misc]
    """Keep running (action 0) or repair (1); the first state is a new machine and the start.

    States 0..n-1, n = num_states - 2, are a working machine, n-1 the most worn; n is a short
    repair, n+1 a long one. With s+ = min(s + 1, n - 1):

        working s    run: 0.2 s, 0.8 s+              repair: 0.3 s+, 0.6 short, 0.1 long
        short        run: 0.2 short, 0.8 a new one   repair: 1 short
        long         run: 1 long                     repair: 0.6 short, 0.4 long

    so that run leaves the most worn machine as it is. Each step in the most worn state costs 20, in
    the short repair 2, in the long one 10; all else is free. An episode never terminates.

    The problem is that of Delage & Mannor (2010, Figure 3), with the probabilities and amounts of
    the machine replacement domain of MDPs.jl (RiskAverseRL), which cites it. There they are charged
    on arrival, save on going into repair from any but the most worn state; here each is the cost of
    a step in the state, so that rewards don't depend on the successor.

    Raises:
        ValueError: num_states < 3.
    """

    def __init__(self, num_states: int = 10, *, render_mode: str | None = None) -> None:
        check_whole("num_states", num_states, 3)
        n = num_states - 2
        short, long, work = n, n + 1, np.arange(n)
        worn = np.minimum(work + 1, n - 1)
        P = np.zeros((num_states, 2, num_states))
        P[work, 0, work] += 0.2
        P[work, 0, worn] += 0.8
        P[work, 1, worn] = 0.3
        P[:n, 1, [short, long]] = 0.6, 0.1
        P[short, 0, [short, 0]] = 0.2, 0.8
        P[short, 1, short] = P[long, 0, long] = 1.0
        P[long, 1, [short, long]] = 0.6, 0.4
        r = np.zeros((num_states, 2))
        r[[n - 1, short, long]] = np.array([-20.0, -2.0, -10.0])[:, None]
        super().__init__(
            FiniteMDP(P, r, np.eye(num_states)[0]),
            action_names=("run", "repair"),
            render_mode=render_mode,
        )
