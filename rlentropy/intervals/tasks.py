"""Statistics of an algorithm across tasks: robust means, profiles, probability of improvement.

Scores are given as one array of seeds a task, comparable between tasks: normalised, but for the
probability of improvement, which compares within tasks alone. Intervals are 95 % percentile
bootstraps, stratified: the seeds of each task are drawn with replacement among themselves, and
tasks are never drawn, so that an interval is of other seeds on the same tasks (Agarwal, Schwarzer,
Castro, Courville and Bellemare, "Deep Reinforcement Learning at the Edge of the Statistical
Precipice", NeurIPS 2021). With one seed on every task nothing can be drawn, and ends are NaN.

Tasks count alike however many seeds they have, but for the interquartile mean, where runs do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from rlentropy.intervals.seeds import DRAWN_AT_ONCE, RESAMPLES, Estimate, centre, interval
from rlentropy.types import Array

Scores = Sequence[Array]  # of the seeds of each task, (n_t,)


def iqm(scores: Scores) -> Array:
    """Mean of the middle half of all runs of all tasks, (..., n_t) each → (...)."""
    return centre(np.concatenate(scores, axis=-1), "iqm")


def mean(scores: Scores) -> Array:
    """Mean over tasks of the means over seeds, (..., n_t) each → (...)."""
    result: Array = np.mean([x.mean(axis=-1) for x in scores], axis=0)
    return result


def optimality_gap(scores: Scores) -> Array:
    """How far below 1 runs are on average, those above counting as 1; (..., n_t) each → (...)."""
    return 1.0 - mean([np.minimum(x, 1.0) for x in scores])


AGGREGATES: dict[str, Callable[[Scores], Array]] = {
    "iqm": iqm,
    "mean": mean,
    "optimality_gap": optimality_gap,
}


def aggregate(scores: Scores, rng: np.random.Generator) -> dict[str, Estimate]:
    """Each of `AGGREGATES` with its interval, all from the same resamples."""
    drawn = list(resampled(scores, rng))
    most = max(len(x) for x in scores)
    estimates = {}
    for name, statistic in AGGREGATES.items():
        samples = np.concatenate([statistic(part) for part in drawn])
        estimates[name] = Estimate(statistic(scores), *interval(samples, most))
    return estimates


def resampled(scores: Scores, rng: np.random.Generator) -> Iterator[list[Array]]:
    """RESAMPLES stratified bootstrap samples, in parts of k: (k, n_t) a task."""
    size = max(1, DRAWN_AT_ONCE // sum(len(x) for x in scores))
    for done in range(0, RESAMPLES, size):
        k = min(size, RESAMPLES - done)
        yield [x[rng.integers(len(x), size=(k, len(x)))] for x in scores]


def weights(n: int, rng: np.random.Generator) -> Array:
    """How much each of n seeds weighs in each bootstrap sample, (RESAMPLES, n); rows sum to 1."""
    return rng.multinomial(n, np.full(n, 1.0 / n), size=RESAMPLES) / n


def profile(scores: Scores, thresholds: Array, rng: np.random.Generator) -> Estimate:
    """Performance profile: the share of runs with a score above each threshold, (K,).

    Bands are pointwise.
    """
    above = [(x[:, None] > thresholds).astype(float) for x in scores]  # (n_t, K)
    value = np.mean([a.mean(axis=0) for a in above], axis=0)
    samples = np.mean([weights(len(a), rng) @ a for a in above], axis=0)
    return Estimate(value, *interval(samples, max(map(len, above))))


def improvement(scores: Scores, others: Scores, rng: np.random.Generator) -> Estimate:
    """How probably a run of one algorithm beats one of another on the same task, ().

    P(X > Y) + P(X = Y) / 2 over all pairs of their seeds, which is Mann and Whitney's U over the
    number of pairs; the mean over tasks. Both algorithms' seeds are drawn, each by themselves.
    """
    values, samples = [], []
    for x, y in zip(scores, others, strict=True):
        wins = (x[:, None] > y) + 0.5 * (x[:, None] == y)  # (n, m)
        values.append(wins.mean())
        samples.append(((weights(len(x), rng) @ wins) * weights(len(y), rng)).sum(axis=1))
    drawn = np.clip(np.mean(samples, axis=0), 0.0, 1.0)  # of rounding
    return Estimate(np.mean(values), *interval(drawn, max(map(len, [*scores, *others]))))
