"""Losses: closed forms, finite differences, and what may not change them."""

import math

import numpy as np
import pytest

from rlentropy.errors import InputError
from rlentropy.preferences.losses import cpl, dpo, ipo, preference_loss, sigmoid, softplus

BETA = 0.3
NAMES = [("dpo", {}), ("ipo", {}), ("cpl", {}), ("cpl", {"conservative": 0.5})]
every_loss = pytest.mark.parametrize(("name", "options"), NAMES)


@pytest.fixture
def sums(rng):
    """S of both segments, and answers: hard ones, ties and shares."""
    y = np.array([1.0, 0.0, 0.5, 0.3, 1.0, 0.0, 0.5, 0.9])
    return 4.0 * rng.standard_normal(8), 4.0 * rng.standard_normal(8), y


def by_hand(name, a, b, y, beta, smoothing=0.0, lam=1.0):
    """A pair's loss from its definition, in plain floats."""
    y = (1 - smoothing) * y + smoothing * (1 - y)
    if name == "ipo":
        return y * (a - b - 1 / (2 * beta)) ** 2 + (1 - y) * (b - a - 1 / (2 * beta)) ** 2

    def lost(w, l):  # -log of the share that the preferred one has
        w, l = beta * w, beta * l
        if name == "cpl":
            return -math.log(math.exp(w) / (math.exp(w) + math.exp(lam * l)))
        return -math.log(1 / (1 + math.exp(l - w)))

    return y * lost(a, b) + (1 - y) * lost(b, a)


@every_loss
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_values_by_hand(name, options, smoothing, sums):
    found = preference_loss(name, *sums, beta=BETA, smoothing=smoothing, **options)
    lam = options.get("conservative", 1.0)
    expected = [by_hand(name, *x, BETA, smoothing, lam) for x in zip(*sums, strict=True)]
    np.testing.assert_allclose(found.value, expected, rtol=1e-10)


@every_loss
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_slopes_are_finite_differences(name, options, smoothing, sums):
    a, b, y = sums

    def value(a, b):
        return preference_loss(name, a, b, y, beta=BETA, smoothing=smoothing, **options).value

    found, h = preference_loss(name, a, b, y, beta=BETA, smoothing=smoothing, **options), 1e-6
    by_a, by_b = ((value(a + h, b) - value(a - h, b)), (value(a, b + h) - value(a, b - h)))
    np.testing.assert_allclose(found.by_a, by_a / (2 * h), atol=2e-8)
    np.testing.assert_allclose(found.by_b, by_b / (2 * h), atol=2e-8)


def test_at_the_reference_the_loss_is_log_2_and_the_weight_a_half():
    zero = np.zeros(3)
    for function in (dpo, cpl):
        found = function(zero, zero, np.array([1.0, 0.0, 0.5]), BETA)
        np.testing.assert_allclose(found.value, 0.693147, atol=5e-7)
        np.testing.assert_allclose(found.by_a, BETA * np.array([-0.5, 0.5, 0.0]))
    np.testing.assert_allclose(ipo(zero, zero, np.ones(3), BETA).value, 1 / (4 * BETA**2))


@pytest.mark.parametrize("name", ["dpo", "ipo"])
def test_what_both_segments_share_cancels(name, sums, rng):
    a, b, y = sums
    shift = rng.normal(size=8)  # of the start state
    found, moved = (
        preference_loss(name, a + x, b + x, y, beta=BETA, smoothing=0.1) for x in (0.0, shift)
    )
    for x, z in zip(found, moved, strict=True):
        np.testing.assert_allclose(x, z, atol=1e-12)


@every_loss
def test_a_swap_with_the_answer_turned_round_changes_nothing(name, options, sums):
    a, b, y = sums
    found = preference_loss(name, a, b, y, beta=BETA, smoothing=0.1, **options)
    other = preference_loss(name, b, a, 1.0 - y, beta=BETA, smoothing=0.1, **options)
    np.testing.assert_allclose(found.value, other.value, rtol=1e-12)
    np.testing.assert_allclose(found.by_a, other.by_b, atol=1e-12)
    np.testing.assert_allclose(found.by_b, other.by_a, atol=1e-12)


def test_cpl_with_lambda_1_is_dpo(sums):
    for x, z in zip(cpl(*sums, BETA, 0.1, 1.0), dpo(*sums, BETA, 0.1), strict=True):
        np.testing.assert_allclose(x, z, atol=1e-12)


def test_cpl_grows_with_lambda_times_the_rejected_sum():
    lam, w = np.linspace(0.05, 1.0, 20), np.zeros(20)
    for l in (-3.0, 2.0):
        values = [float(cpl(w[:1], np.array([l]), np.ones(1), BETA, 0.0, x).value[0]) for x in lam]
        assert (np.sign(l) * np.diff(values) > 0.0).all()
    by_sum = cpl(w, np.linspace(-5.0, 5.0, 20), np.ones(20), BETA, 0.0, 0.5).value
    assert (np.diff(by_sum) > 0.0).all()


def test_ipo_aims_at_half_over_beta_and_no_further():
    aim = np.array([1 / (2 * BETA)])
    found = ipo(aim, np.zeros(1), np.ones(1), BETA)
    assert found.value[0] == found.by_a[0] == 0.0
    assert ipo(2 * aim, np.zeros(1), np.ones(1), BETA).by_a[0] > 0.0
    assert dpo(2 * aim, np.zeros(1), np.ones(1), BETA).by_a[0] < 0.0


def test_smoothing_has_its_minimum_at_the_share_of_right_labels():
    """dL/dm = 0 where σ(m) = 1 - ε."""
    m = np.array([math.log(0.9 / 0.1)])
    assert dpo(m, np.zeros(1), np.ones(1), 1.0, smoothing=0.1).by_a[0] == pytest.approx(0.0)


def test_nothing_overflows():
    far = np.array([1e8, -1e8, 1e8, -1e8])
    y = np.array([1.0, 1.0, 0.0, 0.0])
    found = dpo(far, -far, y, 1.0)
    np.testing.assert_allclose(found.value, [0.0, 2e8, 2e8, 0.0])
    np.testing.assert_allclose(found.by_a, [0.0, -1.0, 1.0, 0.0])
    assert np.isfinite(cpl(far, -far, y, 1.0).value).all()
    np.testing.assert_array_equal(sigmoid(np.array([-1e9, 0.0, 1e9])), [0.0, 0.5, 1.0])
    np.testing.assert_allclose(
        softplus(np.array([-50.0, 0.0, 1e9])), [0, math.log(2), 1e9], atol=1e-15
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hinge", {}, "loss must be one of dpo, cpl, ipo"),
        ("dpo", {"beta": 0.0}, "dpo_beta must be > 0 and finite"),
        ("dpo", {"smoothing": 0.5}, r"label_smoothing must be in \[0, 0.5\)"),
        ("cpl", {"conservative": 0.0}, r"conservative must be in \(0, 1\]"),
        ("ipo", {"conservative": 0.5}, "conservative must be 1 unless loss is cpl, got 0.5"),
    ],
)
def test_refusals(name, options, message):
    one = np.ones(1)
    with pytest.raises(InputError, match=message):
        preference_loss(name, one, one, one, **{"beta": BETA, **options})
