"""Statistics across tasks against loops over their definitions, scipy, and rliable where it is."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlentropy import intervals
from rlentropy.intervals.tasks import AGGREGATES, resampled

finite = st.floats(-50, 50, allow_subnormal=False)
tasks = st.lists(st.lists(finite, min_size=1, max_size=7), min_size=1, max_size=4)


def arrays(lists):
    return [np.array(values, float) for values in lists]


def rng():
    return np.random.default_rng(0)


@given(tasks)
def test_aggregates_are_what_they_say(lists):
    scores, every = arrays(lists), sorted(x for values in lists for x in values)
    cut = len(every) // 4
    middle = every[cut : len(every) - cut]
    assert AGGREGATES["iqm"](scores) == pytest.approx(math.fsum(middle) / len(middle))
    means = [math.fsum(values) / len(values) for values in lists]
    assert AGGREGATES["mean"](scores) == pytest.approx(math.fsum(means) / len(means))
    short = [math.fsum(max(1.0 - x, 0.0) for x in values) / len(values) for values in lists]
    gap = AGGREGATES["optimality_gap"](scores)
    assert gap == pytest.approx(math.fsum(short) / len(short), abs=1e-9)


@given(tasks, st.lists(finite, min_size=1, max_size=5))
def test_a_profile_is_the_share_above_each_threshold(lists, thresholds):
    found = intervals.profile(arrays(lists), np.array(sorted(thresholds)), rng())
    for share, threshold in zip(found.value, sorted(thresholds), strict=True):
        each = [sum(x > threshold for x in values) / len(values) for values in lists]
        assert share == pytest.approx(math.fsum(each) / len(each))
    assert (np.diff(found.value) <= 1e-12).all()
    if max(map(len, lists)) > 1:
        assert (found.low <= found.value + 1e-12).all()
        assert (found.value <= found.high + 1e-12).all()
        assert found.low.min() >= -1e-12
        assert found.high.max() <= 1 + 1e-12


@given(st.integers(1, 3), st.data())
def test_probability_of_improvement_counts_pairs_and_halves_ties(count, data):
    values = st.lists(st.integers(0, 4).map(float), min_size=1, max_size=6)
    x, y = (arrays(data.draw(st.lists(values, min_size=count, max_size=count))) for _ in range(2))
    each = []
    for a, b in zip(x, y, strict=True):
        wins = sum((u > v) + 0.5 * (u == v) for u in a for v in b)
        each.append(wins / (len(a) * len(b)))
        assert wins == pytest.approx(stats.mannwhitneyu(a, b).statistic)
    found = intervals.improvement(x, y, rng())
    assert found.value == pytest.approx(np.mean(each))
    assert intervals.improvement(y, x, rng()).value == pytest.approx(1 - found.value)


def test_one_seed_on_every_task_has_no_interval():
    scores = [np.array([0.3]), np.array([0.9])]
    for e in intervals.aggregate(scores, rng()).values():
        assert np.isfinite(e.value)
        assert np.isnan([e.low, e.high]).all()
    assert np.isnan(intervals.improvement(scores, scores, rng()).low)
    assert np.isnan(intervals.profile(scores, np.array([0.5]), rng()).high).all()


def test_resamples_stay_within_their_task():
    scores = [np.arange(5.0), 100 + np.arange(3.0), np.array([7.0])]
    drawn = [np.concatenate(parts) for parts in zip(*resampled(scores, rng()), strict=True)]
    for x, samples in zip(scores, drawn, strict=True):
        assert samples.shape == (intervals.RESAMPLES, len(x))
        assert set(np.unique(samples)) == set(x)


def test_intervals_cover_the_mean_over_fixed_tasks():
    """Of 300 data sets with tasks of very different scores: what is drawn is within tasks alone."""
    generator = np.random.default_rng(5)
    centres, inside = np.array([0.0, 10.0, 200.0]), 0
    for _ in range(300):
        scores = list(centres[:, None] + generator.normal(size=(3, 10)))
        e = intervals.aggregate(scores, generator)["mean"]
        inside += e.low <= centres.mean() <= e.high
        assert e.high - e.low < 2.0  # the mean of 30 normal variables
    assert 0.87 < inside / 300 < 0.98


# ---------------------------------------------------------------- rliable


@pytest.fixture(scope="module")
def rliable():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from rliable import library, metrics
        except Exception as error:  # it needs other packages of certain versions
            pytest.skip(f"rliable can't be imported: {error!r}")
    return library, metrics


@pytest.mark.parametrize("shape", [(10, 5), (3, 4), (7, 1), (13, 26)])
def test_values_are_those_of_rliable(rliable, shape):
    library, metrics = rliable
    generator = np.random.default_rng(shape[0])
    x, y = generator.normal(0.6, 0.5, (2, *shape))
    scores, others = list(x.T), list(y.T)
    assert AGGREGATES["iqm"](scores) == pytest.approx(metrics.aggregate_iqm(x))
    assert AGGREGATES["mean"](scores) == pytest.approx(metrics.aggregate_mean(x))
    gap = metrics.aggregate_optimality_gap(x)
    assert AGGREGATES["optimality_gap"](scores) == pytest.approx(gap)
    better = metrics.probability_of_improvement(x, y)
    assert intervals.improvement(scores, others, rng()).value == pytest.approx(better)
    thresholds = np.linspace(-1, 2, 31)
    shares = library.score_distributions(x, thresholds)
    found = intervals.profile(scores, thresholds, rng()).value
    assert found == pytest.approx(shares)


def test_intervals_are_those_of_rliable(rliable):
    """Both are percentile bootstraps of their own random numbers, so ends agree to their noise."""
    library, metrics = rliable
    generator = np.random.default_rng(3)
    x, y = generator.normal(0.6, 0.5, (2, 10, 5))
    ours = intervals.aggregate(list(x.T), rng())
    names = ("aggregate_iqm", "aggregate_mean", "aggregate_optimality_gap")
    _, theirs = library.get_interval_estimates(
        {"x": x}, lambda s: np.array([getattr(metrics, name)(s) for name in names]), reps=2000
    )
    for name, (low, high) in zip(AGGREGATES, theirs["x"].T, strict=True):
        noise = 0.06 * (high - low)
        assert [ours[name].low, ours[name].high] == pytest.approx([low, high], abs=noise)
    _, theirs = library.get_interval_estimates(
        {"xy": [x, y]}, metrics.probability_of_improvement, reps=1000
    )
    low, high = np.ravel(theirs["xy"])
    better = intervals.improvement(list(x.T), list(y.T), rng())
    assert [better.low, better.high] == pytest.approx([low, high], abs=0.08 * (high - low))
    thresholds = np.linspace(0, 1.5, 7)
    _, bands = library.create_performance_profile({"x": x}, thresholds, reps=2000)
    band = intervals.profile(list(x.T), thresholds, rng())
    assert np.stack([band.low, band.high]) == pytest.approx(np.array(bands["x"]), abs=0.025)
