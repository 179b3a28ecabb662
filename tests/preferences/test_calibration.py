"""SmoothECE against quadrature of the definition, with a kernel of mirror images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from rlentropy.preferences import calibration as cal

seeds = st.integers(0, 2**32 - 1)
T = (np.arange(3000) + 0.5) / 3000


def kernel(t, p, s):
    """A Gaussian at each p (n,), with its images in mirrors at 0 and 1, on t (G,) → (G, n)."""
    images = [2.0 * k + sign * p for k in range(-3, 4) for sign in (1.0, -1.0)]
    z = [np.exp(-0.5 * ((t[:, None] - x) / s) ** 2) for x in images]
    return np.sum(z, axis=0) / (s * np.sqrt(2 * np.pi))


def defined(p, y, s):
    """∫ |r_s|, from the definition."""
    p, y = np.asarray(p, float), np.asarray(y, float)
    return np.abs(kernel(T, p, s) @ (p - y) / len(p)).mean()


def both_orders(p, y):
    return np.concatenate([p, 1 - p]), np.concatenate([y, 1 - y])


def answers(rng, n, slope=1.0, ties=0.1):
    """Predictions σ(x) of answers of probability σ(slope x), some of them ties."""
    x = 2.0 * rng.normal(size=n)
    y = (rng.random(n) < 1 / (1 + np.exp(-slope * x))).astype(float)
    y[rng.random(n) < ties] = 0.5
    return 1 / (1 + np.exp(-x)), y


# ---------------------------------------------------------------- the number


@pytest.mark.parametrize("s", [0.0, 1e-4, 0.01, 0.2, 1.0, 3.0])
def test_half_of_what_is_said_to_be_at_seven_tenths(s) -> None:
    p, y = np.full(10, 0.7), np.tile([0.0, 1.0], 5)
    assert cal.smooth_ece_at(p, y, s, symmetric=False) == pytest.approx(0.2, rel=1e-12)
    assert cal.smooth_ece(p, y, symmetric=False) == pytest.approx(0.2, abs=1e-8)
    assert cal.smooth_ece(p, np.full(10, 0.5), symmetric=False) == pytest.approx(0.2, abs=1e-8)
    assert cal.smooth_ece(p, np.full(10, 0.7)) < 1e-8


def test_predictions_that_are_certain() -> None:
    p = np.array([0.0, 1.0, 1.0, 0.0])
    assert cal.smooth_ece(p, p) < 1e-8
    assert cal.smooth_ece(p, 1 - p) == pytest.approx(
        brentq(lambda s: defined(*both_orders(p, 1 - p), s) - s, 0.05, 1.0), abs=1e-4
    )


def test_four_answers_by_hand() -> None:
    p, y = [0.1, 0.4, 0.4, 0.9], [0, 1, 0, 1]
    assert cal.smooth_ece_at(p, y, 0.05, symmetric=False) == pytest.approx(0.0998, abs=1e-4)
    assert cal.smooth_ece_at(p, y, 0.1, symmetric=False) == pytest.approx(0.0907, abs=1e-4)
    assert cal.smooth_ece(p, y, symmetric=False) == pytest.approx(0.0927, abs=1e-4)


@given(seed=seeds, n=st.integers(1, 40), s=st.floats(0.02, 1.0))
def test_the_definition(seed, n, s) -> None:
    p, y = answers(np.random.default_rng(seed), n)
    assert cal.smooth_ece_at(p, y, s, symmetric=False) == pytest.approx(defined(p, y, s), abs=2e-4)
    two = both_orders(p, y)
    assert cal.smooth_ece_at(p, y, s) == pytest.approx(defined(*two, s), abs=2e-4)
    assert cal.smooth_ece_at(*two, s, symmetric=False) == pytest.approx(
        cal.smooth_ece_at(p, y, s), abs=1e-12
    )


@pytest.mark.parametrize("slope", [1.0, 0.3, -1.0])
def test_the_fixed_point(slope) -> None:
    p, y = answers(np.random.default_rng(5), 60, slope)
    root = brentq(lambda s: defined(*both_orders(p, y), s) - s, 0.005, 1.0)
    found = cal.smooth_ece(p, y)
    assert found == pytest.approx(root, abs=2e-4)
    assert cal.smooth_ece_at(p, y, found) == pytest.approx(found, abs=1e-8)


@given(seed=seeds, n=st.integers(1, 50))
def test_never_increases_in_s_and_knows_no_order(seed, n) -> None:
    rng = np.random.default_rng(seed)
    p, y = answers(rng, n)
    for symmetric in (False, True):
        each = [cal.smooth_ece_at(p, y, s, symmetric=symmetric) for s in np.geomspace(1e-5, 2, 25)]
        assert (np.diff(each) <= 1e-12).all()
        assert 0.0 <= cal.smooth_ece(p, y, symmetric=symmetric) <= 1.0
        mirrored = cal.smooth_ece(1 - p, 1 - y, symmetric=symmetric)
        assert mirrored == pytest.approx(cal.smooth_ece(p, y, symmetric=symmetric), abs=1e-8)
    swap = rng.random(n) < 0.5
    found = cal.smooth_ece(np.where(swap, 1 - p, p), np.where(swap, 1 - y, y))
    assert found == pytest.approx(cal.smooth_ece(p, y), abs=1e-8)


def test_calibrated_predictions_score_less_the_more_there_are(rng) -> None:
    few, many = (
        np.mean([cal.smooth_ece(*answers(rng, n, ties=0.0)) for _ in range(20)]) for n in (50, 3200)
    )
    assert many < 0.03
    assert few > 2 * many  # n^(-1/3) would be 4
    assert cal.smooth_ece(*answers(rng, 3200, slope=0.3, ties=0.0)) > 5 * many


# ---------------------------------------------------------------- the interval


def test_the_interval_is_one_of_pairs(rng) -> None:
    p, y = answers(rng, 300, slope=0.4)
    found = cal.smooth_ece_interval(p, y, np.random.default_rng(1))
    again = cal.smooth_ece_interval(p, y, np.random.default_rng(1))
    assert found == again
    assert found.value == cal.smooth_ece(p, y)
    drawn = np.random.default_rng(2).integers(300, size=(400, 300))
    slow = np.array([cal.smooth_ece(p[i], y[i]) for i in drawn])
    error = slow.std() * np.sqrt(1 / 400 + 1 / 2000)  # of a mean of resamples, twice that of a tail
    for end, q in ((found.low, 0.025), (found.high, 0.975)):
        assert abs(end - np.quantile(slow, q)) < 4 * 2.7 * error + 1e-3  # cells and bisection
    assert found.low < found.value < found.high
    assert np.isnan(cal.smooth_ece_interval([0.5], [1.0], rng).low)


# ---------------------------------------------------------------- the curve


@given(seed=seeds, s=st.floats(0.02, 0.5))
def test_the_curve_is_a_kernel_regression(seed, s) -> None:
    p, y = answers(np.random.default_rng(seed), 30)
    found = cal.reliability_curve(p, y, s)
    two = both_orders(p, y)
    K = kernel(found.grid, two[0], s)
    np.testing.assert_allclose(found.density, K.mean(1), rtol=0.05, atol=0.02)
    want = (K @ two[1]) / K.sum(1)
    sure = found.density > 0.05
    np.testing.assert_allclose(found.frequency[sure], want[sure], atol=0.02)
    assert found.density.mean() == pytest.approx(1.0, rel=1e-12)
    np.testing.assert_allclose(found.density, found.density[::-1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose((found.frequency + found.frequency[::-1])[sure], 1.0, atol=1e-9)
    with_nan = np.isnan(cal.reliability_curve(np.full(5, 0.9), np.ones(5), 0.02).frequency)
    assert 0.5 < with_nan.mean() < 0.9


def test_the_curve_of_calibrated_predictions_is_the_diagonal(rng) -> None:
    p = rng.random(200_000)
    y = (rng.random(p.size) < p).astype(float)
    found = cal.reliability_curve(p, y, symmetric=False)
    assert found.bandwidth == cal.LEAST_BANDWIDTH
    middle = (found.grid > 0.1) & (found.grid < 0.9)  # edges reflect what they smooth
    # Each point averages 2 n s √π answers of deviation <= 1/2.
    error = 0.5 / np.sqrt(2 * p.size * found.bandwidth * np.sqrt(np.pi))
    assert (np.abs(found.frequency - found.grid)[middle] < 5 * error).all()


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("p", "y", "message"),
    [
        ([0.5, 0.5], [1.0], r"p and y must both be \(n,\) with n >= 1, got \(2,\) and \(1,\)"),
        ([], [], r"p and y must both be \(n,\) with n >= 1"),
        ([0.5, 1.5], [1.0, 0.0], r"p must be in \[0, 1\], got 1.5"),
        ([0.5, 0.5], [1.0, np.nan], r"y must be in \[0, 1\], got nan"),
    ],
)
def test_what_are_no_predictions(p, y, message, rng) -> None:
    for f in (cal.smooth_ece, cal.reliability_curve):
        with pytest.raises(ValueError, match=message):
            f(p, y)
    with pytest.raises(ValueError, match=message):
        cal.smooth_ece_at(p, y, 0.1)
    with pytest.raises(ValueError, match=message):
        cal.smooth_ece_interval(p, y, rng)


def test_what_are_no_bandwidths() -> None:
    with pytest.raises(ValueError, match=r"s must be >= 0 and finite, got -1.0"):
        cal.smooth_ece_at([0.5], [1.0], -1.0)
    with pytest.raises(ValueError, match=r"bandwidth must be > 0 and finite, got 0"):
        cal.reliability_curve([0.5], [1.0], 0)
