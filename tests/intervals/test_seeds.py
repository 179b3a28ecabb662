"""Statistics over seeds against scipy, numpy and definitions."""

import math

import numpy as np
import pytest
from examples.runs import STEPS
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlentropy import intervals

# ---------------------------------------------------------------- statistics over seeds


@given(n=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_interquartile_mean_is_scipys_trimmed_mean(n, seed):
    x = np.random.default_rng(seed).normal(size=n)
    assert intervals.centre(x, "iqm") == pytest.approx(stats.trim_mean(x, 0.25))
    assert intervals.centre(x, "mean") == pytest.approx(x.sum() / n)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 20), shift=st.floats(-5, 5))
@pytest.mark.parametrize("statistic", ["mean", "iqm"])
def test_bootstrap_interval_lies_within_the_data_and_moves_with_it(statistic, seed, n, shift):
    x = np.random.default_rng(seed).normal(size=n)
    e = intervals.estimate(x, statistic, np.random.default_rng(0))
    assert x.min() - 1e-12 <= e.low <= e.high <= x.max() + 1e-12  # means round
    moved = intervals.estimate(3.0 * x + shift, statistic, np.random.default_rng(0))
    assert [moved.low, moved.high] == pytest.approx([3 * e.low + shift, 3 * e.high + shift])


def test_bootstrap_interval_covers_the_mean(rng):
    data = rng.exponential(size=(300, 30))
    hits = 0
    for x in data:
        e = intervals.estimate(x, "mean", rng)
        hits += e.low <= 1.0 <= e.high
    error = math.sqrt(0.9 * 0.1 / 300)
    assert abs(hits / 300 - 0.92) < 4 * error  # a percentile interval falls a little short of 0.95


def test_one_seed_has_no_interval():
    e = intervals.estimate([[3.0, 4.0]], "mean", np.random.default_rng(0))
    assert e.value.tolist() == [3.0, 4.0]
    assert np.isnan(e.low).all()
    assert np.isnan(e.high).all()


def test_intervals_in_summaries_are_reproducible_and_stay_in_the_range():
    """Two successes in fifty episodes: mean ± 1.96 standard errors would begin below 0."""
    returns = np.zeros(50)
    returns[[3, 8]] = 1.0
    low, high = intervals.mean_ci95(returns)
    assert [low, high] == intervals.mean_ci95(returns.copy())
    # The mean of a bootstrap sample is binomial: quantiles of that law, within one success.
    law = stats.binom(50, 0.04)
    assert low == pytest.approx(law.ppf(0.025) / 50)
    assert abs(high - law.ppf(0.975) / 50) <= 1 / 50 + 1e-12
    assert returns.mean() - 1.96 * returns.std(ddof=1) / math.sqrt(50) < 0.0 <= low


def test_intervals_of_very_many_values_are_normal_and_go_on_from_the_bootstrap(rng, monkeypatch):
    x = rng.exponential(size=3000)
    drawn = intervals.mean_ci95(x)
    monkeypatch.setattr(intervals.seeds, "MOST_RESAMPLED", len(x) - 1)
    normal = intervals.mean_ci95(x)
    half = stats.norm.ppf(0.975) * stats.sem(x)
    assert normal == pytest.approx([x.mean() - half, x.mean() + half])
    assert drawn == pytest.approx(normal, abs=0.15 * half)  # quantiles of 2000 draws


def survival_by_definition(times, reached):
    """Kaplan-Meier from its definition, one event time after another."""
    survival = 1.0
    for t in sorted({t for t, r in zip(times, reached, strict=True) if r}):
        under_way = sum(u >= t for u in times)
        ends = sum(u == t and r for u, r in zip(times, reached, strict=True))
        survival *= 1 - ends / under_way
        if survival <= 0.5 + 1e-9:
            return t
    return math.inf


@given(
    st.lists(st.tuples(st.integers(1, 8), st.booleans()), min_size=1, max_size=12),
    st.lists(st.integers(1, 3), min_size=12, max_size=12),
)
def test_kaplan_meier_median_is_that_of_the_definition(runs, repeats):
    times = np.array([t for t, _ in runs], float)
    reached = np.array([r for _, r in runs])
    weights = np.array(repeats[: len(runs)], float)
    found = intervals.survival_medians(times, reached, np.stack([np.ones(len(runs)), weights]))
    assert found[0] == survival_by_definition(times, reached)
    copies = weights.astype(int)
    assert found[1] == survival_by_definition(np.repeat(times, copies), np.repeat(reached, copies))


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 15), budget=st.floats(0.1, 3.0))
def test_a_common_budget_gives_the_plain_median(seed, n, budget):
    """With one budget for all, censoring only hides times beyond it."""
    true = np.random.default_rng(seed).exponential(size=n)
    lower_median = np.sort(true)[(n - 1) // 2]
    found = intervals.survival_medians(np.minimum(true, budget), true <= budget, np.ones((1, n)))[0]
    assert found == (lower_median if lower_median <= budget else math.inf)


def test_censoring_does_not_bias_the_median(rng):
    """Exponential times, half of them cut by random budgets: dropping those would halve it."""
    times, budgets = rng.exponential(size=4000), rng.exponential(size=4000)
    reached = times <= budgets
    found = intervals.median_time(np.minimum(times, budgets), reached, rng)
    assert np.median(times[reached]) < 0.4
    # Greenwood: its sd is √(∫ e^{2t} dt / n) over t from 0 to log 2, which is √(1.5 / n).
    assert abs(found.value - math.log(2)) < 4 * math.sqrt(1.5 / 4000)
    assert found.low < found.value < found.high


def test_median_intervals_cover(rng):
    hits = 0
    for _ in range(200):
        times, budgets = rng.exponential(size=25), rng.exponential(2.0, size=25)
        e = intervals.median_time(np.minimum(times, budgets), times <= budgets, rng)
        hits += e.low <= math.log(2) <= e.high
    assert hits / 200 > 0.94 - 4 * math.sqrt(0.94 * 0.06 / 200)


def test_nobody_reaching_is_beyond_the_budget():
    e = intervals.median_time(np.full(5, 7.0), np.zeros(5, bool), np.random.default_rng(0))
    assert (e.value, e.low, e.high) == (math.inf, math.inf, math.inf)


@given(st.floats(-2, 2), st.floats(0.01, 100))
def test_slope_of_a_power_law_is_its_exponent(exponent, scale):
    steps = STEPS.astype(float)
    values = scale * np.stack([steps**exponent, 3 * steps**exponent])
    assert intervals.log_slopes(steps, values, 100.0) == pytest.approx([exponent] * 2, abs=1e-9)


def test_slope_is_numpys_fit_and_skips_what_has_no_logarithm(rng):
    steps, values = STEPS.astype(float), rng.uniform(0.1, 1, size=(1, 7))
    values[0, 3] = -0.2
    keep = np.array([2, 4, 5, 6])
    oracle = np.polyfit(np.log(steps[keep]), np.log(values[0, keep]), 1)[0]
    assert intervals.log_slopes(steps, values, 100.0) == pytest.approx(oracle)
    assert np.isnan(intervals.log_slopes(steps, values, 3000.0)).all()  # two points are no fit


def test_common_grid_keeps_equal_steps_and_interpolates_others():
    one, two = np.array([0.1, 0.2, 0.7]), np.array([5.0, 6.0, 7.0])
    steps = np.array([1.0, 10.0, 100.0])
    grid, values = intervals.on_common_grid([(steps, one), (steps, two)])
    assert (grid == steps).all()
    assert (values == np.stack([one, two])).all()
    other = np.array([3.0, 50.0, 200.0])  # begins and ends later
    grid, values = intervals.on_common_grid([(steps, one), (other, np.log1p(other))])
    assert grid.tolist() == [10.0, 100.0]
    assert values[1] == pytest.approx(np.log1p(grid))


def test_wilson_intervals():
    """Ends at which the share lies 1.96 standard errors away, found by bisection."""
    z = 1.959963984540054

    def end(k, n, low, high):
        rising = low < k / n
        for _ in range(200):
            p = (low + high) / 2
            far = abs(p - k / n) > z * np.sqrt(p * (1 - p) / n)
            low, high = (p, high) if far == rising else (low, p)
        return (low + high) / 2

    for k, n in [(3, 10), (7, 8), (50, 100), (1, 400)]:
        ends = end(k, n, 0.0, k / n), end(k, n, k / n, 1.0)
        assert intervals.share_ci95(k, n) == pytest.approx(ends, abs=1e-9)
    assert intervals.share_ci95(0, 10) == pytest.approx([0.0, z**2 / (10 + z**2)])
    assert intervals.share_ci95(10, 10) == pytest.approx([10 / (10 + z**2), 1.0])
    assert np.isnan(intervals.share_ci95(0, 0)).all()


# ---------------------------------------------------------------- what is a line


def band(values, width=0.0):
    values = np.asarray(values, float)
    return intervals.Estimate(values, values * (1 - width), values * (1 + width))


@given(st.floats(-2.0, 1.0), st.floats(0.01, 100.0))
def test_a_power_law_is_a_line(exponent, scale):
    steps = STEPS.astype(float)
    assert intervals.off_the_line(steps, band(scale * steps**exponent), 100.0) < 1e-9


def test_how_far_a_curve_is_off_its_line():
    """Of three points at equal distances the outer ones lie d/6 and the middle one d/3 off."""
    steps, bend = np.array([1.0, 10.0, 100.0]), math.log(1.5)
    values = np.exp([0.0, bend, 0.0])  # least squares: the level of the mean, bend / 3
    off = intervals.off_the_line(steps, band(values), 1.0)
    assert off == pytest.approx(math.exp(2 * bend / 3) - 1)
    inside = intervals.off_the_line(steps, band(values, 0.2), 1.0)
    assert inside == pytest.approx(math.exp(2 * bend / 3) * 0.8 - 1)
    assert intervals.off_the_line(steps, band(values, 0.5), 1.0) == 0.0
    nothing = np.full(3, np.nan)
    alone = intervals.Estimate(values, nothing, nothing)  # one seed
    assert intervals.off_the_line(steps, alone, 1.0) == pytest.approx(off)


def test_what_has_no_line():
    steps = np.array([1.0, 10.0, 100.0])
    assert math.isnan(intervals.off_the_line(steps, band([3.0, 2.0, 1.0]), 5.0))
    assert math.isinf(intervals.off_the_line(steps, band([3.0, 2.0, 0.0]), 1.0))
    assert intervals.off_the_line(steps, band([1e-300, 1e300, 1e-300]), 1.0) > 1e300


# ---------------------------------------------------------------- times between evaluations


def test_an_interval_of_times_begins_at_the_evaluation_before(rng):
    times, before = np.full(5, 316.0), np.full(5, 237.0)
    e = intervals.median_time(times, np.ones(5, bool), rng, before)
    assert (e.value, e.low, e.high) == (316.0, 237.0, 316.0)
    true = np.random.default_rng(0).exponential(1000.0, 40)
    grid = 10.0 ** np.arange(0, 6, 0.125)
    at = grid[np.searchsorted(grid, true)]
    e = intervals.median_time(at, np.ones(40, bool), rng, at / 10**0.125)
    exact = intervals.median_time(true, np.ones(40, bool), np.random.default_rng(0))
    assert e.low <= exact.low * 1.2
    assert e.low < e.value <= e.high
    alone = intervals.median_time(times[:1], np.ones(1, bool), rng, before[:1])
    assert np.isnan([alone.low, alone.high]).all()
