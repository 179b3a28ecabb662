"""Draws from known models: states, actions, episodes."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlentropy.kernels.cache import compiled, inner
from rlentropy.types import Array, Count, Index


class World(NamedTuple):
    """What the simulator needs of a known MDP."""

    begin: Index  # (S*A,)
    end: Index  # (S*A,)
    successor: Index  # (M,)
    cumulative: Array  # (M,) running sums of p within each row
    start: Array  # (S,) running sums of the initial distribution
    terminal: NDArray[np.bool_]  # (S,)


@inner
def search(cumulative: Array, begin: np.uint32, end: np.uint32, u: float) -> np.int64:
    """First j in [begin, end) with cumulative[j] > u, else the last: rounding can't leave it."""
    low, high = np.int64(begin), np.int64(end) - 1
    while low < high:
        middle = (low + high) // 2
        if cumulative[middle] > u:
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def running_sums(begin: Index, end: Index, p: Array, out: Array) -> None:
    for i in range(begin.size):
        total = 0.0
        for j in range(begin[i], end[i]):
            total += p[j]
            out[j] = total


@inner
def draw_state(world: World, rng: np.random.Generator) -> np.int64:
    return search(world.start, np.uint32(0), np.uint32(world.start.size), rng.random())


@inner
def draw_successor(world: World, i: int, rng: np.random.Generator) -> np.int64:
    j = search(world.cumulative, world.begin[i], world.end[i], rng.random())
    return np.int64(world.successor[j])


@inner
def pick_action(p: Array, s: Any, u: float) -> int:
    """The action at u in [0, 1) of the probabilities p (S, A) of state s, laid end to end."""
    chosen = 0
    for a in range(p.shape[1]):
        if p[s, a] > 0.0:
            chosen = a
            if u < p[s, a]:
                break
            u -= p[s, a]
    return chosen


@inner
def draw_action(p: Array, s: Any, rng: np.random.Generator) -> int:
    """Draw from the probabilities p (S, A) of state s; a sure action costs no random number."""
    for a in range(p.shape[1]):
        if p[s, a] == 1.0:
            return a
    return pick_action(p, s, rng.random())


@compiled
def rollout(
    world: World,
    pi: Array,
    states: Count,
    actions: Count,
    lengths: Count,
    env_rng: np.random.Generator,
    policy_rng: np.random.Generator,
) -> None:
    """Fill states (n, H + 1), actions (n, H), lengths (n,) with episodes of pi (H or 1, S, A).

    After a terminal state the episode stays there; its length counts the steps really taken.
    """
    A = pi.shape[2]
    n, H = actions.shape
    for episode in range(n):
        s = draw_state(world, env_rng)
        states[episode, 0] = s
        lengths[episode] = H
        for h in range(H):
            if world.terminal[s] and lengths[episode] == H:
                lengths[episode] = h
            a = draw_action(pi[0 if pi.shape[0] == 1 else h], s, policy_rng)
            if not world.terminal[s]:
                s = draw_successor(world, s * A + a, env_rng)
            actions[episode, h] = a
            states[episode, h + 1] = s
