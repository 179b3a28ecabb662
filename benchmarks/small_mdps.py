"""Small MDPs on which float64 planners go wrong near γ = 1: styles, each from a generator.

A style returns arrays P (S, A, S), r (S, A) or (S, A, S), and which states are terminal, (S,).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np

Array = Any
Generator = np.random.Generator


class Arrays(NamedTuple):
    P: Array
    r: Array
    terminal: Array


def arrays(P: Array, r: Array, terminal: Any = ()) -> Arrays:
    ended = np.zeros(len(P), bool)
    ended[list(terminal)] = True
    return Arrays(P, np.asarray(r, float), ended)


def rewards(rng: Generator, *shape: int) -> Array:
    """Whole numbers, reals, or mostly zeros."""
    kind = rng.integers(3)
    if kind == 0:
        return rng.integers(-3, 11, shape).astype(float)
    if kind == 1:
        return rng.normal(size=shape)
    return np.where(rng.random(shape) < 0.2, rng.normal(size=shape), 0.0)


def row(rng: Generator, S: int, successors: int) -> Array:
    """A distribution on some states: dyadic, uniform, or Dirichlet with small and large parts."""
    p, n = np.zeros(S), min(successors, S)
    where = rng.choice(S, n, replace=False)
    kind = rng.integers(3)
    if kind == 0:
        p[where] = (1 + rng.multinomial(64 - n, np.full(n, 1.0 / n))) / 64.0
    elif kind == 1:
        p[where] = 1.0 / n
    else:
        p[where] = rng.dirichlet(np.full(n, rng.choice([0.3, 1.0])))
    return p


def kernel(rng: Generator, S: int, A: int, successors: int) -> Array:
    return np.array([[row(rng, S, successors) for _ in range(A)] for _ in range(S)])


def far_start(rng: Generator) -> Arrays:
    """Layers that end in a loop, often without reward: r / (1 - γ) is far from every value."""
    layers = [1, *rng.integers(1, 4, rng.integers(1, 4)).tolist(), 1]
    ends = np.cumsum(layers)
    S, A = int(ends[-1]), int(rng.integers(1, 3))
    P, r = np.zeros((S, A, S)), rewards(rng, S, A)
    for k, end in enumerate(ends[:-1]):
        for s in range(end - layers[k], end):
            for a in range(A):
                P[s, a, end : ends[k + 1]] = row(rng, layers[k + 1], 3)
    P[-1, :, -1] = 1.0
    if rng.random() < 0.8:
        r[-1] = 0.0
    return arrays(P, r)


def transient(rng: Generator) -> Arrays:
    """Some states that nothing enters, or that are left for good."""
    S, A = int(rng.integers(3, 9)), int(rng.integers(1, 4))
    P, cut = kernel(rng, S, A, 3), int(rng.integers(1, S))
    for s in range(cut):  # the first states never come back
        P[cut:, :, cut] += P[cut:, :, s]
        P[cut:, :, s] = 0.0
    return arrays(P, rewards(rng, S, A))


def near_absorbing(rng: Generator) -> Arrays:
    """States that are left with probability 1e-12 to 1e-6."""
    S, A = int(rng.integers(2, 7)), int(rng.integers(1, 3))
    P = kernel(rng, S, A, 2)
    for s in range(S):
        if rng.random() < 0.6:
            leaving = 10.0 ** -int(rng.integers(6, 13))
            P[s] *= leaving
            P[s, :, s] += 1.0 - leaving
    return arrays(P, rewards(rng, S, A))


def cycle(rng: Generator) -> Arrays:
    """A deterministic cycle; a second action may stay, skip or go back."""
    S, A = int(rng.integers(2, 10)), int(rng.integers(1, 3))
    P = np.zeros((S, A, S))
    P[np.arange(S), 0, (np.arange(S) + 1) % S] = 1.0
    if A == 2:
        P[np.arange(S), 1, (np.arange(S) + rng.choice([0, 2, -1])) % S] = 1.0
    return arrays(P, rewards(rng, S, A))


def frozen_lake(rng: Generator) -> Arrays:
    """gymnasium's, 4x4."""
    slippery = bool(rng.random() < 0.8)
    env = gymnasium.make("FrozenLake-v1", is_slippery=slippery).unwrapped
    P, r, ended = np.zeros((16, 4, 16)), np.zeros((16, 4, 16)), set()
    for s in range(16):
        for a in range(4):
            for p, after, reward, done in env.P[s][a]:
                P[s, a, after] += p
                r[s, a, after] = reward
                ended |= {after} if done else set()
    for s in ended:
        P[s], r[s] = np.eye(16)[s], 0.0
    return arrays(P, r, ended)


def ring(rng: Generator) -> Arrays:
    """The 14 states of the robust paper's companion: left, stay, right, with noise."""
    gain = np.array([0, 0, -1, 2, -1, 0, 0, -10, 5, -10, 0, 0.9, 1, 0])
    p = float(rng.choice([0.01, 0.125, 0.15]))
    P = np.zeros((14, 3, 14))
    for s in range(14):
        for a in range(3):
            for step, mass in ((-1, p), (0, 1.0 - 2.0 * p), (1, p)):
                P[s, a, (s + a - 1 + step) % 14] += mass
    return arrays(P, np.repeat(gain[:, None], 3, axis=1))


def reducible(rng: Generator) -> Arrays:
    """Two or three recurrent classes of different means, and states that choose among them."""
    sizes = rng.integers(1, 4, rng.integers(2, 4))
    lead, A = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    S = int(sizes.sum()) + lead
    P, r, begin = np.zeros((S, A, S)), rewards(rng, S, A), lead
    P[:lead] = kernel(rng, S, A, 3)[:lead]
    for size in sizes:
        P[begin : begin + size, :, begin : begin + size] = kernel(rng, int(size), A, 2)
        begin += int(size)
    return arrays(P, r)


def garnet(rng: Generator) -> Arrays:
    S, A = int(rng.integers(3, 11)), int(rng.integers(2, 4))
    return arrays(kernel(rng, S, A, int(rng.integers(1, 5))), rewards(rng, S, A))


def dirichlet(rng: Generator) -> Arrays:
    S, A = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    return arrays(rng.dirichlet(np.ones(S), (S, A)), rewards(rng, S, A))


def episodic(rng: Generator) -> Arrays:
    """A garnet where some states are terminal, and others lead there."""
    S = int(rng.integers(3, 9))
    P, r, _ = garnet_of(rng, S)
    ended = rng.choice(S, rng.integers(1, max(2, S // 2)), replace=False)
    P[ended], r[ended] = np.eye(S)[ended][:, None], 0.0
    return arrays(P, r, ended)


def garnet_of(rng: Generator, S: int) -> Arrays:
    return arrays(kernel(rng, S, 2, 3), rewards(rng, S, 2))


def no_rewards(rng: Generator) -> Arrays:
    P, r, _ = garnet_of(rng, int(rng.integers(2, 7)))
    return arrays(P, np.zeros_like(r))


def successor_rewards(rng: Generator) -> Arrays:
    """Rewards of (s, a, s')."""
    S, A = int(rng.integers(2, 7)), int(rng.integers(1, 3))
    return arrays(kernel(rng, S, A, 3), rewards(rng, S, A, S))


def river_swim(rng: Generator) -> Arrays:
    """Six states against the stream, with rewards of 5 and 10 000 at the ends or 0.005 and 1."""
    P, r = np.zeros((6, 2, 6)), np.zeros((6, 2))
    for s in range(6):
        P[s, 0, max(s - 1, 0)] = 1.0
        back, ahead = (0.0, 0.3) if s == 0 else (0.3, 0.3) if s == 5 else (0.1, 0.3)
        P[s, 1, max(s - 1, 0)] += back
        P[s, 1, min(s + 1, 5)] += ahead
        P[s, 1, s] += 1.0 - back - ahead
    r[0, 0], r[5, 1] = (5.0, 10_000.0) if rng.random() < 0.5 else (0.005, 1.0)
    return arrays(P, r)


def reachability(rng: Generator) -> Arrays:
    """Reward 1 once on the way into a loop, none elsewhere: probabilities of arriving."""
    S, A = int(rng.integers(3, 9)), int(rng.integers(1, 3))
    P, r = kernel(rng, S, A, 3), np.zeros((S, A, S))
    P[-2:] = np.eye(S)[-2:, None]
    r[:-2, :, -1] = 1.0
    return arrays(P, r, (S - 2, S - 1) if rng.random() < 0.5 else ())


STYLES: dict[str, Callable[[Generator], Arrays]] = {
    "far start": far_start,
    "transient": transient,
    "near-absorbing": near_absorbing,
    "cycle": cycle,
    "FrozenLake": frozen_lake,
    "Ring": ring,
    "reducible": reducible,
    "garnet": garnet,
    "dirichlet": dirichlet,
    "terminal": episodic,
    "zero rewards": no_rewards,
    "successor rewards": successor_rewards,
    "river swim": river_swim,
    "reachability": reachability,
}
