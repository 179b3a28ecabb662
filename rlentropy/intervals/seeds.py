"""Statistics over seeds or episodes: centres, bootstrap intervals, censored times, slopes.

Every interval of this package, but for shares of answers, is a 95 % percentile bootstrap: seeds
(or the episodes of one run) are drawn with replacement, the statistic is computed again, and its
2.5 % and 97.5 % quantiles are reported. With n of them it covers a little less than 95 % (about
90 % for a mean at n = 10). One seed, or one episode, has no interval: it is NaN.

Why not the mean ± 1.96 standard errors: that leaves the range in which returns can be (a success
rate below 0), is symmetric where returns are not, and knows no interquartile mean or median time.
For a mean of many values both agree; beyond `MOST_RESAMPLED` of them it stands in for the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rlentropy.types import Array, Mask, in_short

Statistic = Literal["mean", "iqm"]

RESAMPLES = 2000
TAILS = (0.025, 0.975)
NORMAL_TAIL = 1.959963984540054  # 97.5 % quantile of the standard normal distribution
DRAWN_AT_ONCE = 2**18  # numbers, of all the samples that are in memory together
MOST_RESAMPLED = 10_000  # values of a mean that are drawn again, in a tenth of a second


@dataclass(frozen=True)
class Estimate:
    """A statistic over seeds with its 95 % interval; arrays of one shape, () for a number."""

    value: Array
    low: Array
    high: Array

    __repr__ = in_short


def centre(values: Any, statistic: Statistic) -> Array:
    """Mean or interquartile mean over the last axis, (..., n) → (...).

    The interquartile mean drops the ⌊n/4⌋ lowest and as many highest values; below four seeds it is
    the mean.
    """
    values = np.asarray(values, float)
    if statistic == "iqm":
        cut = values.shape[-1] // 4
        values = np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut]
    result: Array = values.mean(axis=-1)
    return result


def resamples(values: Any, statistic: Statistic, rng: np.random.Generator) -> Array:
    """The statistic on bootstrap samples of seeds, (n, ...) → (RESAMPLES, ...)."""
    values = np.asarray(values, float)
    n = len(values)
    size = max(1, DRAWN_AT_ONCE // max(values.size, 1))  # samples
    sizes = (min(size, RESAMPLES - k) for k in range(0, RESAMPLES, size))
    drawn = (values[rng.integers(n, size=(k, n))] for k in sizes)  # (k, n, ...)
    return np.concatenate([centre(np.moveaxis(x, 1, -1), statistic) for x in drawn])


def interval(samples: Array, n: int) -> tuple[Array, Array]:
    """Quantiles at 2.5 % and 97.5 % over the first axis; NaN for a single seed.

    Quantiles are order statistics, not interpolated, so that they exist for infinite samples too.
    """
    if n < 2:
        return (nothing := np.full(samples.shape[1:], np.nan)), nothing
    low, high = np.quantile(samples, TAILS, axis=0, method="inverted_cdf")
    return low, high


def estimate(values: Any, statistic: Statistic, rng: np.random.Generator) -> Estimate:
    """A statistic over seeds or episodes and its interval, (n, ...) → (...)."""
    values = np.asarray(values, float)
    value = centre(np.moveaxis(values, 0, -1), statistic)
    if statistic == "mean" and len(values) > MOST_RESAMPLED:
        half = NORMAL_TAIL * values.std(axis=0, ddof=1) / np.sqrt(len(values))
        return Estimate(value, value - half, value + half)
    low, high = interval(resamples(values, statistic, rng), len(values))
    return Estimate(value, low, high)


def mean_ci95(values: Any) -> list[float]:
    """Both ends of the interval of a mean over seeds or episodes, (n,), as summaries hold them.

    The same values have the same interval, since what is drawn comes from a generator of its own.
    """
    mean = estimate(values, "mean", np.random.default_rng(0))
    return [float(mean.low), float(mean.high)]


def share_ci95(k: int, n: int) -> list[float]:
    """Both ends of Wilson's 95 % interval of a share k/n; NaN without any trial.

    They solve |p - k/n| = z sqrt(p (1 - p) / n) for p, and so are in [0, 1] and never equal, where
    resamples of few equal answers would all be alike.
    """
    if not n:
        return [float("nan")] * 2
    z2 = NORMAL_TAIL**2
    middle = (k + z2 / 2.0) / (n + z2)
    half = NORMAL_TAIL / (n + z2) * math.sqrt(k * (n - k) / n + z2 / 4.0)
    return [middle - half if k else 0.0, middle + half if k < n else 1.0]


# ---------------------------------------------------------------- censored times


def survival_medians(times: Array, reached: Mask, weights: Array) -> Array:
    """Kaplan-Meier medians of times of which some are only lower bounds.

    S(t) = Π_{t_i ≤ t} (1 - d_i / n_i), with d_i the runs that reach the target at t_i and n_i those
    still under way; the median is the first t with S(t) ≤ 1/2, infinite where S stays above. A run
    that ends without reaching it counts as under way until its end, and is never dropped.

    Args:
        times: when each run reached the target, or when it ended without, (n,).
        reached: which of the two, (n,).
        weights: how often each run counts, (B, n): ones for the sample, counts for a bootstrap.

    Returns:
        (B,).
    """
    order = np.lexsort((~reached, times))  # at equal times, those that reach it come first
    w = weights[:, order]
    under_way = np.cumsum(w[:, ::-1], axis=1)[:, ::-1]
    deaths = np.where(reached[order], w, 0.0)
    survival = np.cumprod(1.0 - deaths / np.maximum(under_way, 1e-300), axis=1)
    below = survival <= 0.5 + 1e-9
    first = below.argmax(axis=1)
    return np.where(below.any(axis=1), times[order][first], np.inf)


def median_time(
    times: Array, reached: Mask, rng: np.random.Generator, after: Array | None = None
) -> Estimate:
    """Kaplan-Meier median with its bootstrap interval; infinite means: not within the budget.

    Args:
        times, reached: as in `survival_medians`.
        after: where times are those of evaluations, the ones before, (n,): the target was reached
            between both, and the interval begins there.
    """
    n = len(times)
    weights = rng.multinomial(n, np.full(n, 1.0 / n), size=RESAMPLES).astype(float)
    value = survival_medians(times, reached, np.ones((1, n)))[0]
    low, high = interval(survival_medians(times, reached, weights), n)
    if after is not None:
        low, _ = interval(survival_medians(after, reached, weights), n)
    return Estimate(value, low, high)


# ---------------------------------------------------------------- curves


def on_common_grid(curves: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Curves (steps, values) of several seeds on one grid of steps: (T,), (n, T).

    Seeds differ in their steps where episodes end early. The grid is that of the seed that ends
    first, from the step at which all have begun; the others are interpolated onto it, linearly in
    log(1 + step). Seeds with equal steps keep their values to the bit.
    """
    begin = max(steps[0] for steps, _ in curves)
    shortest = min((steps for steps, _ in curves), key=lambda steps: float(steps[-1]))
    grid = shortest[shortest >= begin]
    if not grid.size:
        grid = shortest[-1:]
    rows = [np.interp(np.log1p(grid), np.log1p(steps), values) for steps, values in curves]
    return grid, np.stack(rows)


def log_slopes(steps: Array, curves: Array, from_step: float) -> Array:
    """Least-squares slopes of log(value) against log(step), (B, T) → (B,).

    Uses steps >= from_step where the value is positive; NaN with fewer than three such points.
    """
    use = (steps >= max(from_step, 1)) & (curves > 0)  # (B, T)
    x = np.where(use, np.log(np.maximum(steps, 1.0)), 0.0)
    y = np.log(np.where(use, curves, 1.0))
    count = np.maximum(use.sum(axis=1), 1)
    x = np.where(use, x - (x.sum(axis=1) / count)[:, None], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes: Array = (x * y).sum(axis=1) / (x * x).sum(axis=1)
    return np.where(use.sum(axis=1) >= 3, slopes, np.nan)


def off_the_line(steps: Array, band: Estimate, from_step: float) -> float:
    """How far a curve leaves its log-log least-squares line, as a relative error: 0.2 is 20 %.

    What counts is the largest distance from the line to the interval of the curve, over steps >=
    from_step; 0 where the line runs through every interval. NaN with fewer than three steps,
    infinite where the curve isn't positive.
    """
    use = steps >= max(from_step, 1)
    if use.sum() < 3:
        return math.nan
    value, low, high = (end[use] for end in (band.value, band.low, band.high))
    if not (value > 0).all():
        return math.inf
    x, y = np.log(steps[use]), np.log(value)
    x = x - x.mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        line = y.mean() + x * (x @ y) / (x @ x)
        above = line - np.log(np.fmax(value, high))
        below = np.log(np.clip(np.fmin(value, low), 0.0, None)) - line
    return math.expm1(min(max(0.0, float(above.max()), float(below.max())), 700.0))


def slope(
    steps: Array, values: Array, from_step: float, statistic: Statistic, rng: np.random.Generator
) -> Estimate:
    """Log-log slope of the curve over seeds, values (n, T), with its bootstrap interval."""
    value = log_slopes(steps, centre(values.T, statistic)[None], from_step)[0]
    samples = log_slopes(steps, resamples(values, statistic, rng), from_step)
    return Estimate(value, *interval(samples, len(values)))
