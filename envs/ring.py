"""Ring, the toy problems of the robust (risk-sensitive) MDP paper's companion code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from rlentropy.envs.tabular import TabularEnv, check_probability, check_whole
from rlentropy.mdp import FiniteMDP

if TYPE_CHECKING:
    from rlentropy.envs.picture import Layout

# The companion calls it "Toy-10", though it has 14 states.
TOY10 = np.array([0, 0, -1, 2, -1, 0, 0, -10, 5, -10, 0, 0.9, 1, 0])
LAYOUTS = ("toy10", "zone", "zone2", "fourier")


class RingEnv(TabularEnv):  # type: ignore[misc]
    """States on a ring, left (action 0), stay (1) or right (2), with noise; uniform start.

    s + a - 1 comes next with probability 1 - 2p, and either state beside it with p each (mod S).
    The reward depends on the state alone, see `ring_reward`. An episode never terminates.

    Args:
        layout: "toy10", "zone", "zone2" or "fourier".
        num_states: 14 for toy10, at least 3 for the others; default 14, and 100 for the others.
        p: noise, in [0, 0.5]; the companion uses 0.01 and 0.15.

    Raises:
        ValueError: an argument is out of range, or toy10 is asked for another size.
    """

    def __init__(
        self,
        layout: str = "toy10",
        num_states: int | None = None,
        p: float = 0.01,
        *,
        render_mode: str | None = None,
    ) -> None:
        if layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
        S = num_states if num_states is not None else TOY10.size if layout == "toy10" else 100
        check_whole("num_states", S, 3)
        check_probability("p", p, most=0.5)
        reward = ring_reward(layout, S)
        target = np.arange(S)[:, None] + [-1, 0, 1]  # (S, A)
        successor = (target[:, :, None] + [-1, 0, 1]) % S  # (S, A, 3)
        probability = np.broadcast_to([p, 1.0 - 2.0 * p, p], successor.shape)
        row = np.repeat(np.arange(3 * S), 3)
        P = sp.coo_array((probability.ravel(), (row, successor.ravel())), shape=(3 * S, S)).tocsr()
        P.eliminate_zeros()  # at p = 0: a stored zero would list a successor for nature
        super().__init__(
            FiniteMDP(P, np.repeat(reward[:, None], 3, axis=1), np.full(S, 1.0 / S)),
            action_names=("left", "stay", "right"),
            render_mode=render_mode,
        )

    def _layout(self) -> Layout:
        from rlentropy.envs.picture import circle

        return circle(self.mdp.num_states)


def ring_reward(layout: str, num_states: int) -> NDArray[np.float64]:
    """Reward of each state, (S,).

    With n = S // 2 states in a first, high-variance part, and i counted from 0 in each part:
        zone: 3 sin(iπ / 2.05), then sin(iπ / (S - n))
        zone2: 4 sin(iπ / 2.05) - 1, then sin(iπ / (S - n))
        fourier: sin(iπ / S) + cos(2iπ / S) + sin(3iπ / S) over the whole ring

    The companion has these at S = 100, and fourier also at 1000.
    """
    if layout == "toy10":
        if num_states != TOY10.size:
            raise ValueError(f"num_states must be {TOY10.size} for toy10, got {num_states}")
        return TOY10
    if layout == "fourier":
        x = np.pi * np.arange(num_states) / num_states
        reward: NDArray[np.float64] = np.sin(x) + np.cos(2.0 * x) + np.sin(3.0 * x)
        return reward
    n = num_states // 2
    rough = np.sin(np.arange(n) * np.pi / 2.05)
    smooth = np.sin(np.arange(num_states - n) * np.pi / (num_states - n))
    return np.concatenate([3.0 * rough if layout == "zone" else 4.0 * rough - 1.0, smooth])
