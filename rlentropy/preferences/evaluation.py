"""What a campaign's curves say: labels to a level, return at a divergence (preferences §6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlentropy.errors import InputError
from rlentropy.preferences.tables import TabularTask
from rlentropy.types import Array

LEVEL = 0.8  # of the normalised return, for the summary's labels_to_80


def labels_to(level: float, labels: Sequence[int], values: Sequence[float]) -> int | None:
    """The fewest labels at which two evaluations in a row reach a level; None: censored (§6.3).

    Args:
        labels, values: of the evaluations, in the order of labels.
    """
    reached = np.asarray(values, np.float64) >= level
    both = np.flatnonzero(reached[:-1] & reached[1:])
    return int(labels[both[0]]) if both.size else None


def return_at_divergence(kl: float, divergences: Array, returns: Array) -> float:
    """Return where a run first moved so far from its reference, by linear interpolation (§6.1).

    It guards against gains that are bigger steps and nothing else. NaN where the run stayed nearer.

    Args:
        kl: nats, >= 0.
        divergences, returns: along a run, (K,).

    Raises:
        InputError: the two differ in length, or are empty.
    """
    d, v = np.asarray(divergences, np.float64), np.asarray(returns, np.float64)
    if d.shape != v.shape or d.ndim != 1 or not d.size:
        raise InputError(f"divergences and returns must be (K,), got {d.shape} and {v.shape}")
    beyond = np.flatnonzero(d >= kl)
    if not beyond.size:
        return float("nan")
    k = int(beyond[0])
    if k == 0 or d[k] == d[k - 1]:
        return float(v[k])
    share = (kl - d[k - 1]) / (d[k] - d[k - 1])
    return float(v[k - 1] + share * (v[k] - v[k - 1]))


def win_rate(
    task: TabularTask, pi: Array, reference: Array, n: int, rng: np.random.Generator
) -> float:
    """How often a segment of a policy returns more than one of the reference, ties half (§6.1).

    Both play from the same starts with the same random numbers, so that equal policies tie.
    """
    starts, seed = task.prompts(n, rng), int(rng.integers(2**63))
    ours, theirs = (
        task.roll_out(policy, starts, np.random.default_rng(seed)).returns
        for policy in (pi, reference)
    )
    return float((0.5 * (1.0 + np.sign((ours - theirs).round(9)))).mean())
