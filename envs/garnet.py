"""Garnet: random MDPs of given size and branching (Archibald et al., 1995)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from rlentropy.envs.tabular import TabularEnv, check_whole
from rlentropy.mdp import FiniteMDP

if TYPE_CHECKING:
    from rlentropy.envs.picture import Layout


class GarnetEnv(TabularEnv):  # type: ignore[misc]
    """A random sparse MDP, the same for the same arguments; it starts in state 0.

    Each (s, a) has ``branching`` distinct successors, uniform among all such sets, with the
    spacings of sorted uniform cut points as probabilities. r(s, a) is uniform in [0, 1). An episode
    never terminates.

    Args:
        num_states, num_actions: S and A, at least 1.
        branching: successors of each (s, a), in 1..S.
        seed: of the model, at least 0; the draws of an episode are seeded by ``reset``.
        heterogeneous: each (s, a) has a number of successors uniform in 1..branching instead, so
            that some actions are much noisier than others.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        num_states: int = 100,
        num_actions: int = 4,
        branching: int = 8,
        seed: int = 0,
        *,
        heterogeneous: bool = False,
        render_mode: str | None = None,
    ) -> None:
        check_whole("num_states", num_states, 1)
        check_whole("num_actions", num_actions, 1)
        check_whole("branching", branching, 1)
        check_whole("seed", seed, 0)
        if branching > num_states:
            raise ValueError(f"branching must be <= num_states = {num_states}, got {branching}")
        rng = np.random.default_rng(seed)
        R = num_states * num_actions
        successor = distinct(rng, R, num_states, branching)
        cuts = np.sort(rng.random((R, branching - 1)), axis=1)
        p = np.diff(cuts, prepend=0.0, append=1.0, axis=1)
        if heterogeneous:
            keys = rng.random((R, branching)).argsort(axis=1)
            successor = np.take_along_axis(successor, keys, axis=1)  # so that any subset is kept
            kept = np.arange(branching) < rng.integers(1, branching + 1, size=(R, 1))
            p = np.where(kept, rng.exponential(size=p.shape), 0.0)  # their shares are spacings
            p /= p.sum(axis=1, keepdims=True)
        row = np.repeat(np.arange(R, dtype=np.int32), branching)
        P = sp.coo_array((p.ravel(), (row, successor.ravel())), shape=(R, num_states))
        mu = np.zeros(num_states)
        mu[0] = 1.0
        super().__init__(
            FiniteMDP(P.tocsr(), rng.random((num_states, num_actions)), mu),
            render_mode=render_mode,
        )

    def _layout(self) -> Layout:
        from rlentropy.envs.picture import lattice

        return lattice(self.mdp.num_states, int(np.ceil(np.sqrt(self.mdp.num_states))))


def distinct(rng: np.random.Generator, rows: int, n: int, k: int) -> NDArray[np.int32]:
    """k distinct integers below n in each row, (rows, k); every set is equally likely.

    Floyd's algorithm (Bentley & Floyd, 1987), all rows at once. The order within a row is not
    uniform, which spacings of cut points, being exchangeable, don't mind.
    """
    chosen = np.empty((rows, k), np.int32)
    for i, largest in enumerate(range(n - k, n)):
        draw = rng.integers(largest + 1, size=rows, dtype=np.int32)
        taken = (chosen[:, :i] == draw[:, None]).any(axis=1)
        chosen[:, i] = np.where(taken, largest, draw)
    return chosen
