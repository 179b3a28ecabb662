"""Scores of pairs against their definitions, member by member, and at the edge of floats."""

import math
import timeit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlentropy.preferences import scores

BELIEFS = [
    scores.predictive_entropy,
    scores.expected_entropy,
    scores.bald,
    scores.pairwise_kl,
    scores.improved_total,
    scores.disagreement,
    scores.logit_deviation,
    scores.vote_entropy,
    scores.bayesian_certainty,
    scores.label_information,
    scores.volume_removal,
    scores.max_regret,
    scores.expected_gap,
]
LOG2 = math.log(2.0)


def h(p):
    return -sum(q * math.log(q) for q in (p, 1.0 - p) if q > 0.0)


def kl(p, q):
    return p * math.log(p / q) + (1.0 - p) * math.log((1.0 - p) / (1.0 - q))


def P(x):
    return 1.0 / (1.0 + math.exp(-x))


def mean(w, values):
    return sum(a * b for a, b in zip(w, values, strict=True))


def deviation(w, values):
    centre = mean(w, values)
    return math.sqrt(mean(w, [(v - centre) ** 2 for v in values]))


def double(w, x, f):
    return sum(
        a * b * f(i, j) for a, i in zip(w, x, strict=True) for b, j in zip(w, x, strict=True)
    )


# The definition of each score for one pair with member gaps x and weights w, in scalars.
DEFINITIONS = {
    scores.predictive_entropy: lambda w, x: h(mean(w, map(P, x))),
    scores.expected_entropy: lambda w, x: mean(w, [h(P(v)) for v in x]),
    scores.bald: lambda w, x: mean(w, [kl(P(v), mean(w, map(P, x))) for v in x]),
    scores.pairwise_kl: lambda w, x: double(w, x, lambda i, j: kl(P(i), P(j))),
    scores.improved_total: lambda w, x: double(
        w, x, lambda i, j: -P(i) * math.log(P(j)) - P(-i) * math.log(P(-j))
    ),
    scores.disagreement: lambda w, x: deviation(w, [P(v) for v in x]),
    scores.logit_deviation: deviation,
    scores.vote_entropy: lambda w, x: h(mean(w, [(v > 0) + 0.5 * (v == 0) for v in x])),
    scores.bayesian_certainty: lambda w, x: kl(mean(w, map(P, x)), 0.5),
    scores.label_information: lambda w, x: mean(w, [kl(P(v), 0.5) for v in x]),
    scores.volume_removal: lambda w, x: (
        1.0 - mean(w, map(P, x)) ** 2 - (1.0 - mean(w, map(P, x))) ** 2
    ),
    scores.max_regret: lambda w, x: double(w, x, lambda i, j: abs(i) * (i * j < 0.0)),
    scores.expected_gap: lambda w, x: mean(w, map(abs, x)),
}


def belief(rng, J=5, N=40, scale=3.0):
    gaps = rng.normal(size=(J, N)) * scale
    gaps[:, 0] = 0.0
    gaps[0, 1] = 0.0
    gaps[:, 2] = gaps[0, 2]
    return gaps, rng.dirichlet(np.ones(J))


@pytest.mark.parametrize("score", BELIEFS)
def test_each_score_is_its_definition(score, rng):
    gaps, weights = belief(rng)
    wanted = [DEFINITIONS[score](weights.tolist(), x.tolist()) for x in gaps.T]
    np.testing.assert_allclose(score(gaps, weights), wanted, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(
    ("score", "wanted"),
    [
        (scores.expected_entropy, 0.500402),
        (scores.predictive_entropy, 0.693147),
        (scores.bald, 0.192745),
        (scores.pairwise_kl, 0.415888),
        (scores.improved_total, 0.916291),
    ],
)
def test_two_members_of_opposite_mind(score, wanted):
    """P = (.2, .8): figures known to six places; the reverse divergence is the difference."""
    gaps = np.log([[0.25], [4.0]])
    half = np.full(2, 0.5)
    assert score(gaps, half)[0] == pytest.approx(wanted, abs=5e-7)
    reverse = scores.pairwise_kl(gaps, half) - scores.bald(gaps, half)
    assert reverse[0] == pytest.approx(0.223144, abs=1e-6)


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(0.01, 1.0)), min_size=1, max_size=6))
def test_order_of_the_measures_of_information(members):
    gaps = np.array([[x] for x, _ in members])
    weights = np.array([w for _, w in members])
    weights /= weights.sum()
    of = {score: score(gaps, weights)[0] for score in BELIEFS}
    eps = 1e-12
    assert 0.0 <= of[scores.bald] <= min(of[scores.pairwise_kl], LOG2) + eps
    assert of[scores.improved_total] >= of[scores.predictive_entropy] - eps
    assert 0.0 <= of[scores.label_information] <= LOG2 + eps
    assert 0.0 <= of[scores.volume_removal] <= 0.5 + eps
    assert 0.0 <= of[scores.disagreement] <= 0.5 + eps
    split = of[scores.bayesian_certainty] + of[scores.bald]
    assert of[scores.label_information] == pytest.approx(split, abs=1e-12)


def test_identical_members_know_nothing_more_of_each_other(rng):
    gaps = np.repeat(rng.normal(size=(1, 20)) * 4.0, 5, 0)
    weights = np.full(5, 0.2)
    for score in (scores.bald, scores.pairwise_kl, scores.disagreement, scores.logit_deviation):
        np.testing.assert_allclose(score(gaps, weights), 0.0, atol=2e-15)
    np.testing.assert_array_equal(scores.max_regret(gaps, weights), 0.0)


def test_unbiased_divergence_is_of_two_different_members(rng):
    x = (rng.normal(size=4) * 2.0).tolist()
    others = [kl(P(a), P(b)) for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
    found = scores.pairwise_kl(np.array(x)[:, None], np.full(4, 0.25), unbiased=True)
    assert found[0] == pytest.approx(sum(others) / len(others), rel=1e-12)
    w = rng.dirichlet(np.ones(4))
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    mass = [w[i] * w[j] for i, j in pairs]
    wanted = sum(m * kl(P(x[i]), P(x[j])) for m, (i, j) in zip(mass, pairs, strict=True))
    found = scores.improved_total(np.array(x)[:, None], w, unbiased=True)
    entropy = scores.expected_entropy(np.array(x)[:, None], w)
    assert (found - entropy)[0] == pytest.approx(wanted / sum(mass), rel=1e-12)
    with pytest.raises(ValueError, match="weights must be of two members or more"):
        scores.pairwise_kl(np.ones((1, 1)), np.ones(1), unbiased=True)


@pytest.mark.parametrize("score", BELIEFS)
def test_trading_places_changes_nothing(score, rng):
    gaps, weights = belief(rng)
    np.testing.assert_array_equal(score(gaps, weights), score(-gaps, weights))


@pytest.mark.parametrize("score", BELIEFS)
@pytest.mark.parametrize("size", [30.0, 1e3, 1e150])
def test_finite_where_the_sigmoid_is_flat(score, size, rng):
    gaps = rng.choice([-size, size, 0.0], size=(5, 50))
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert np.isfinite(score(gaps, np.full(5, 0.2))).all()


def test_limits_of_certain_members():
    agree, split = np.full((2, 1), 1e3), np.array([[1e3], [-1e3]])
    half = np.full(2, 0.5)
    assert scores.bald(agree, half)[0] == 0.0
    assert scores.bald(split, half)[0] == pytest.approx(LOG2, abs=1e-15)
    assert scores.label_information(split, half)[0] == pytest.approx(LOG2, abs=1e-15)
    assert scores.bayesian_certainty(split, half)[0] == 0.0
    assert scores.pairwise_kl(split, half)[0] == pytest.approx(500.0)
    assert scores.max_regret(split, half)[0] == pytest.approx(500.0)
    # (1 + x) exp(-x) to first order in exp(-x): a tail that 1 - σ(x) would round to 0
    tail = scores.expected_entropy(np.full((1, 1), 40.0), np.ones(1))[0]
    assert tail == pytest.approx(41.0 * math.exp(-40.0), rel=1e-12)
    assert scores.label_information(np.zeros((3, 1)), np.full(3, 1 / 3))[0] == 0.0


def test_small_gaps_inform_by_their_second_moment():
    """E[ΔR²] / 8 = .00281 and .00279 for a normal gap: .0225 is its second moment."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    gaps, weights = (0.1 + math.sqrt(0.0125) * nodes)[:, None], weights / weights.sum()
    found = scores.label_information(gaps, weights)[0]
    assert found == pytest.approx(0.00279, abs=5e-6)
    assert weights @ gaps[:, 0] ** 2 / 8.0 == pytest.approx(0.00281, abs=5e-6)


def test_a_vote_of_no_preference_is_half_a_vote():
    gaps = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 3.0]])
    found = scores.vote_entropy(gaps, np.full(2, 0.5))
    np.testing.assert_allclose(found, [0.0, LOG2, h(0.75)], atol=1e-15)


def test_push_value_is_its_definition(rng):
    gaps, weights = belief(rng)
    values, margins = rng.normal(size=gaps.shape) * 2.0, rng.normal(size=gaps.shape[1])
    kappa = scores.value_scale(values, weights)
    pool = [mean(weights, [v**2 for v in column]) for column in values.T]
    assert kappa == pytest.approx(math.sqrt(sum(pool) / len(pool)))
    for alpha, scale in ((0.5, None), (0.3, 2.0), (0.0, 1.0)):
        k = kappa if scale is None else scale
        wanted = [
            2.0
            * k
            * mean(
                weights,
                [
                    (P(r) - 0.5 - alpha * (P(m) - 0.5)) * (P(a / k) - 0.5)
                    for r, a in zip(x, v, strict=True)
                ],
            )
            for x, v, m in zip(gaps.T, values.T, margins, strict=True)
        ]
        found = scores.push_value(gaps, values, weights, margins, alpha, scale)
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-13)
        swapped = scores.push_value(-gaps, -values, weights, -margins, alpha, scale)
        np.testing.assert_array_equal(found, swapped)


def test_push_value_without_luck_is_information_in_quadratic_form(rng):
    gaps, weights = belief(rng)
    margins = rng.normal(size=gaps.shape[1])
    found = scores.push_value(gaps, gaps, weights, margins, alpha=0.0, kappa=1.0)
    wanted = [2.0 * mean(weights, [(P(v) - 0.5) ** 2 for v in x]) for x in gaps.T]
    np.testing.assert_allclose(found, wanted, rtol=1e-10)
    small = 1e-2 * gaps
    found = scores.push_value(small, small, weights, margins, alpha=0.0, kappa=1.0)
    np.testing.assert_allclose(found, scores.label_information(small, weights), rtol=1e-2)
    assert found[0] == scores.label_information(small, weights)[0] == 0.0


def test_push_value_forgets_what_is_luck_or_is_fitted():
    weights = np.full(2, 0.5)
    gaps = np.array([[2.0, 2.0], [2.0, 2.0]])
    values = np.array([[0.0, 2.0], [0.0, 2.0]])  # the first pair differs by luck alone
    margins = np.array([0.0, 2.0])  # the second is fitted already
    found = scores.push_value(gaps, values, weights, margins, alpha=1.0)
    np.testing.assert_allclose(found, 0.0, atol=1e-15)
    assert (scores.push_value(gaps, values, weights, margins) >= 0.0).all()
    huge = scores.push_value(1e3 * gaps, 1e3 * values, weights, 1e3 * margins)
    assert np.isfinite(huge).all()


def test_value_scale_is_at_least_one():
    assert scores.value_scale(np.full((2, 3), 0.1), np.full(2, 0.5)) == 1.0
    assert scores.value_scale(np.empty((2, 0)), np.full(2, 0.5)) == 1.0
    assert scores.value_scale(np.full((2, 3), -4.0), np.full(2, 0.5)) == 4.0


def test_scores_of_margins():
    margins = np.array([-3.0, 0.0, 2.0])
    np.testing.assert_array_equal(scores.certainty(margins), [3.0, 0.0, 2.0])
    np.testing.assert_array_equal(scores.uncertainty(margins), [-3.0, 0.0, -2.0])


def test_design_gain_is_a_form(rng):
    X, A, margins = rng.normal(size=(6, 3)), rng.normal(size=(3, 3)), rng.normal(size=6)
    cov = A @ A.T
    wanted = [P(m) * P(-m) * float(x @ cov @ x) for x, m in zip(X, margins, strict=True)]
    np.testing.assert_allclose(scores.design_gain(X, cov, margins), wanted, rtol=1e-12)


def test_ten_thousand_pairs_take_milliseconds(rng):
    """Each takes 1.5 ms or less of one core; ten times that, so that a busy machine passes."""
    gaps, weights = rng.normal(size=(5, 10_000)) * 3.0, np.full(5, 0.2)
    margins = rng.normal(size=10_000)
    for score in BELIEFS:
        took = min(timeit.repeat(lambda score=score: score(gaps, weights), number=1, repeat=7))
        assert took < 0.02, score.__name__
    took = timeit.repeat(
        lambda: scores.push_value(gaps, gaps, weights, margins), number=1, repeat=7
    )
    assert min(took) < 0.02
