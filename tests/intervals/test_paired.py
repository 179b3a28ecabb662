"""Paired differences against scipy's permutation test, loops, and statsmodels' Holm."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlentropy import intervals
from rlentropy.intervals import paired


def rng():
    return np.random.default_rng(0)


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=9))
def test_the_p_value_is_the_share_of_signs_as_extreme(d):
    every = [
        abs(sum(sign * x for sign, x in zip(signs, d, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(d))
    ]
    expected = sum(total >= abs(sum(d)) for total in every) / len(every)
    assert intervals.sign_flip_p(np.array(d, float), rng()) == pytest.approx(expected)


@pytest.mark.parametrize("n", [2, 5, 9, 12])
def test_it_is_scipys_paired_permutation_test(n):
    x, y = np.random.default_rng(n).normal([[0.7], [0.0]], size=(2, n))
    theirs = stats.permutation_test(
        (x, y), lambda a, b, axis: (a - b).mean(axis=axis), permutation_type="samples",
        vectorized=True, n_resamples=np.inf,
    )  # fmt: skip
    assert intervals.sign_flip_p(x - y, rng()) == pytest.approx(theirs.pvalue)


def test_many_differences_are_flipped_at_random():
    d = np.random.default_rng(1).normal(0.25, 1.0, 60)
    exact = stats.ttest_1samp(d, 0.0).pvalue  # near, of so many that are normal
    assert intervals.sign_flip_p(d, rng()) == pytest.approx(exact, abs=0.01)
    surely = intervals.sign_flip_p(d + 9.0, rng())
    assert surely == 1 / (2**paired.MOST_ENUMERATED + 1)  # the observation itself


def test_the_test_rejects_as_often_as_it_says():
    generator = np.random.default_rng(2)
    p = [intervals.sign_flip_p(generator.standard_t(2, 8), generator) for _ in range(2000)]
    for level in (0.05, 0.2):
        assert np.mean(np.array(p) <= level) == pytest.approx(level, abs=0.025)


def test_no_difference_at_all():
    d = intervals.difference(np.zeros(5), rng())
    assert (d.p, d.n) == (1.0, 5)
    assert (d.mean.value, d.mean.low, d.mean.high) == (0.0, 0.0, 0.0)


def test_one_difference_has_neither_interval_nor_p():
    d = intervals.difference([0.5], rng())
    assert d.mean.value == 0.5
    assert np.isnan([d.mean.low, d.mean.high, d.p]).all()


def test_no_shared_seed_is_nothing():
    d = intervals.difference([], rng())
    assert d.n == 0
    assert np.isnan([d.mean.value, d.mean.low, d.mean.high, d.p]).all()


def test_zeros_take_no_part_in_the_enumeration():
    many = np.concatenate([np.zeros(500), [1.0, 2.0, 3.0]])
    assert intervals.sign_flip_p(many, rng()) == pytest.approx(2 / 8)


# ---------------------------------------------------------------- Holm

levels = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=0, max_size=12)


@given(levels)
def test_holm_steps_down(p):
    found = intervals.holm(p)
    m = len(p)
    for k, value in enumerate(p):  # each by the definition: the largest product so far
        order = sorted(range(m), key=lambda j: p[j])
        place = order.index(k)
        products = [(m - j) * p[order[j]] for j in range(place + 1)]
        assert found[k] == pytest.approx(min(1.0, max(products)))
        assert found[k] >= value - 1e-15


@given(levels, st.integers(0, 3))
def test_what_was_not_tested_is_no_comparison(p, missing):
    found = intervals.holm([*p, *[math.nan] * missing])
    np.testing.assert_array_equal(found[: len(p)], intervals.holm(p))
    assert np.isnan(found[len(p) :]).all()


def test_holm_is_that_of_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    for n in (1, 2, 10, 50):
        p = np.random.default_rng(n).random(n) ** 3
        assert intervals.holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])
