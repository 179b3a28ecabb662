"""Ways to draw a batch of n of N candidates, and how likely each of them is to be in it.

Each function returns the chosen indices (n,) and propensities (N,) that sum to n, for 0 < n < N
(preferences §4.6). Equal candidates are chosen among uniformly.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlentropy import diversity
from rlentropy.preferences.losses import sigmoid
from rlentropy.types import Array, Count

Generator = np.random.Generator

FLOOR = 1e-12  # the least score that soft draws tell from 0, and no difference of scores
REPLICAS = 256  # of a Thompson batch, for its propensities
DIVERSITIES = ("k-center", "dpp", "vendi")


class Batch(NamedTuple):
    """What was chosen, and the probability of each candidate to be."""

    indices: Count  # (n,)
    propensities: Array  # (N,)


def uniform(N: int, n: int, rng: Generator) -> Batch:
    """Any n of N, exactly."""
    return Batch(rng.choice(N, n, replace=False), np.full(N, n / max(N, 1)))


def largest(scores: Array, n: int, rng: Generator) -> Batch:
    """The n largest, in falling order; propensities are exact, those of equal scores shared."""
    least = np.partition(scores, -n)[-n]
    above, level = scores > least, scores == least
    chances = above + level * ((n - above.sum()) / level.sum())
    return Batch(_first(scores, n, rng), chances)


def _first(scores: Array, n: int, rng: Generator) -> Count:
    """Indices of the n largest, in falling order, equal ones in random order."""
    return np.lexsort((rng.random(len(scores)), -scores))[:n]


def soft(scores: Array, n: int, rng: Generator, power: float) -> Batch:
    """Without replacement, each in proportion to score^power among those that are left.

    These are the n largest of power log(score) + Gumbel, or the n first of exponential clocks with
    rates p = score^power. Propensities are 1 - exp(-t p) with the t at which they sum to n: what
    the clocks show by a fixed time, instead of the random time of the n-th.
    """
    logits = power * np.log(np.maximum(scores, FLOOR))
    return Batch(_first(logits + rng.gumbel(size=len(logits)), n, rng), _by_clocks(logits, n))


def _by_clocks(logits: Array, n: int) -> Array:
    """1 - exp(-t exp(logit)) with the t at which they sum to n < N, by bisection of log t."""
    falling = np.sort(logits)[::-1]
    low = np.log(n) - np.logaddexp.reduce(falling)  # the sum is <= n, as 1 - exp(-x) <= x
    high = np.log(np.log(n + 1.0)) - falling[n]  # n + 1 of them are >= n / (n + 1)
    shown = np.empty_like(logits)
    for _ in range(64):
        middle = 0.5 * (low + high)
        shown = -np.expm1(-np.exp(np.minimum(logits + middle, 700.0)))
        low, high = (middle, high) if shown.sum() < n else (low, middle)
    return shown


def thompson(gaps: Array, weights: Array, n: int, rng: Generator, duel: bool = False) -> Batch:
    """Slot by slot, the free pair with the largest |ΔR| under an own draw of the belief (§4.3).

    Replicas of the batch run side by side: the first is the choice, and propensities are the share
    of replicas that take a pair.

    Args:
        gaps: (J, N).
        weights: (J,), the probability of each draw.
        duel: two draws a slot, and the largest |ΔR_1 - ΔR_2|, what both would lose by the other's
            choice if they disagree.
    """
    J, N = gaps.shape
    size = np.abs(gaps[:, None] - gaps if duel else gaps).reshape(-1, N)
    order = rng.permutation(N)  # of equal ones
    best = order[np.argsort(-size[:, order], axis=1, kind="stable")[:, :n]]  # (J or J², n)
    chance = weights / weights.sum()
    draw = rng.choice(J, (REPLICAS, n), p=chance)
    if duel:
        draw = draw * J + rng.choice(J, (REPLICAS, n), p=chance)
    rows = np.arange(REPLICAS)
    taken, picks = np.zeros((REPLICAS, N), bool), np.empty((REPLICAS, n), np.int64)
    for slot in range(n):
        listed = best[draw[:, slot]]
        free = taken[rows[:, None], listed].argmin(1)
        picks[:, slot] = listed[rows, free]
        taken[rows, picks[:, slot]] = True
    return Batch(picks[0], _evened(taken.mean(0), gaps))


def _evened(chances: Array, keys: Array) -> Array:
    """The mean over candidates with equal columns of keys, which only the order of ties tells."""
    _, group = np.unique(keys, axis=1, return_inverse=True)
    group = group.ravel()
    result: Array = (np.bincount(group, chances) / np.bincount(group))[group]
    return result


def d_optimal(X: Array, covariance: Array, margins: Array, n: int, rng: Generator) -> Batch:
    """Greedily the pairs whose labels most shrink the volume of the belief (§4.3).

    A label adds p (1 - p) x xᵀ to the inverse of Σ and so divides det Σ by 1 + p (1 - p) xᵀ Σ x;
    Sherman and Morrison's formula gives the next Σ. Propensities are 1 for what is taken, shared by
    equal candidates.

    Args:
        X: feature differences, (N, D).
        covariance: Σ, (D, D).
        margins: of the policy, (N,), with p = σ(margin).
    """
    p = sigmoid(margins)
    X, cov = np.sqrt(p * (1.0 - p))[:, None] * X, np.array(covariance, np.float64)
    gain = ((X @ cov) * X).sum(1)
    order = rng.permutation(len(X))  # of equal ones
    picks, among = np.empty(n, np.int64), np.zeros(len(X))
    for slot in range(n):
        pick = picks[slot] = order[np.argmax(gain[order])]
        step = cov @ X[pick] / np.sqrt(1.0 + gain[pick])
        cov -= np.outer(step, step)
        gain = np.maximum(gain - (X @ step) ** 2, 0.0)
        among[pick] = 1.0
        gain[among > 0.0] = -1.0
    return Batch(picks, _evened(among, X.T))


def diverse(name: str, X: Array, scores: Array, n: int) -> Batch:
    """n that are unlike one another by the query kernel of X (N, D); greedy, of propensity 1 or 0.

    "k-center" heeds distances alone, "dpp" and "vendi" weigh likeness against scores, of which
    those below 1e-12 count as that. Pairs of no difference come last, in the order given.
    """
    norm = np.linalg.norm(X, axis=1)
    some = norm > FLOOR * norm.max()
    picks = np.concatenate([np.flatnonzero(some), np.flatnonzero(~some)])[:n]
    if some.sum() > n:
        K, quality = diversity.query_kernel(X[some]), np.maximum(scores[some], FLOOR)
        if name == "k-center":
            size, axes = np.linalg.eigh(K)
            found = diversity.k_center(axes * np.sqrt(np.maximum(size, 0.0)), n)
        elif name == "dpp":
            found = diversity.dpp_greedy(K, quality, n)
        else:
            found = diversity.vendi_greedy(K, np.log(quality), n)
        picks = np.flatnonzero(some)[found]
    return Batch(picks, np.bincount(picks, minlength=len(X)).astype(np.float64))
