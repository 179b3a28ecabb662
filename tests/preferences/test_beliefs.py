"""Laplace posteriors: against a dense fit by scipy, quadrature, and moments of draws."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize

from rlentropy.errors import InputError
from rlentropy.preferences.beliefs import (
    LEAST_WEIGHT,
    TIE_WEIGHT,
    Belief,
    LaplacePosterior,
    Prior,
    hermite,
    variances,
)

D = 5


def sigma(x):
    return 1.0 / (1.0 + np.exp(-x))


def questions(rng, n=12, scale=1.0):
    X = scale * rng.standard_normal((n, D))
    return X, rng.choice([0.0, 0.5, 1.0], n, p=[0.4, 0.2, 0.4])


def dense_fit(mu, Sigma, X, y, tie=4):
    """Mode and covariance by a general optimiser and the Hessian there; ties as tie half-votes."""
    weight = np.where(y == 0.5, tie, 1.0)
    precision = np.linalg.inv(Sigma)

    def value(w):
        f = X @ w
        d = w - mu
        return weight @ (np.logaddexp(0.0, f) - y * f) + 0.5 * d @ precision @ d

    def slope(w):
        return X.T @ (weight * (sigma(X @ w) - y)) + precision @ (w - mu)

    def curvature(w):
        p = sigma(X @ w)
        return (X.T * (weight * p * (1.0 - p))) @ X + precision

    found = minimize(value, mu, jac=slope, hess=curvature, method="trust-exact",
                     options={"gtol": 1e-12})  # fmt: skip
    return found.x, np.linalg.inv(curvature(found.x))


def test_the_quadrature_is_exact_for_polynomials():
    nodes, weights = hermite()
    assert weights.sum() == pytest.approx(1.0)
    moments = [weights @ nodes**k for k in range(9)]
    np.testing.assert_allclose(moments, [1, 0, 1, 0, 3, 0, 15, 0, 105], atol=1e-10)


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_an_update_is_a_dense_laplace_fit(scale, rng):
    posterior = LaplacePosterior(D, 2.0)
    mu, Sigma = np.zeros(D), 2.0 * np.eye(D)
    for _ in range(3):  # batch after batch, each from where the last one ended
        X, y = questions(rng, scale=scale)
        mu, Sigma = dense_fit(mu, Sigma, X, y)
        posterior.update(X, y)
        np.testing.assert_allclose(posterior.mu, mu, atol=1e-6)
        np.testing.assert_allclose(posterior.Sigma, Sigma, atol=1e-6)
    np.testing.assert_array_equal(posterior.Sigma, posterior.Sigma.T)


def test_a_tie_counts_as_four_half_votes(rng):
    X = rng.standard_normal((3, D))
    y = np.array([1.0, 0.5, 0.0])
    posterior = LaplacePosterior(D, 2.0)
    posterior.update(X, y)
    once = dense_fit(np.zeros(D), 2.0 * np.eye(D), X, y, tie=1)[1]
    assert TIE_WEIGHT == 4
    assert np.abs(posterior.Sigma - once).max() > 0.01
    alone = LaplacePosterior(1, 1.0)
    alone.update(np.ones((1, 1)), np.array([0.5]))  # curvature 4/4 at a gap of 0, and the prior's
    assert alone.mu[0] == 0.0
    assert alone.Sigma[0, 0] == pytest.approx(0.5)


def test_answers_that_agree_beyond_doubt_stay_finite(rng):
    x = rng.standard_normal(D)
    X = np.tile(1e3 * x, (50, 1))
    posterior = LaplacePosterior(D, 100.0)
    posterior.update(X, np.ones(50))
    assert posterior.mu @ x > 0.0
    assert np.isfinite(posterior.Sigma).all()
    assert np.linalg.eigvalsh(posterior.Sigma).min() > -1e-6
    posterior.update(X, np.zeros(50))
    assert np.isfinite(posterior.mu).all()


def test_moments_are_those_of_the_linear_map(rng):
    posterior = LaplacePosterior(D, 2.0)
    posterior.update(*questions(rng))
    X = rng.standard_normal((7, D))
    m, v = posterior.moments(X)
    for i, x in enumerate(X):
        assert m[i] == pytest.approx(x @ posterior.mu)
        assert v[i] == pytest.approx(x @ posterior.Sigma @ x)


def test_the_predictive_probability_is_an_integral(rng):
    posterior = LaplacePosterior(D, 0.5)
    posterior.update(*questions(rng))
    X, y = questions(rng, 6)
    y[:3] = [0.0, 0.5, 1.0]
    expected = 0.0
    for x, answer in zip(X, y, strict=True):
        m, s = x @ posterior.mu, math.sqrt(x @ posterior.Sigma @ x)

        def density(u, m=m, s=s):
            return sigma(m + s * u) * math.exp(-u * u / 2) / math.sqrt(2 * math.pi)

        p = quad(density, -12, 12, epsabs=1e-12)[0]
        expected += answer * math.log(p) + (1.0 - answer) * math.log(1.0 - p)
    assert posterior.log_predictive(X, y) == pytest.approx(expected, abs=1e-5)


def test_draws_have_the_moments_of_the_posterior(rng):
    posterior = LaplacePosterior(D, 2.0)
    posterior.update(*questions(rng))
    n = 40_000
    w = posterior.draw(n, rng)
    deviation = np.sqrt(np.diag(posterior.Sigma))
    assert (np.abs(w.mean(0) - posterior.mu) <= 4.0 * deviation / math.sqrt(n)).all()
    S = posterior.Sigma
    error = np.sqrt((np.outer(np.diag(S), np.diag(S)) + S**2) / n)  # of a normal's covariance
    assert (np.abs(np.cov(w.T) - S) <= 4.0 * error).all()


# ---------------------------------------------------------------- several prior scales


GROUPS = {"features": slice(0, 4), "entered": slice(2, 4), "reference": slice(4, 5)}
ALL = {"features": 0.7, "reference": 0.3}


def belief_of(*scales, square=4.0):
    """With as many models as scales, and a typical gap of |x|² = square."""
    return Belief([np.full(D, scale**2 / square) for scale in scales])


def test_a_prior_gives_typical_pairs_its_gap(rng):
    """Over pairs like these: the variance of w·x is nats², each group's part its share of it."""
    X = rng.standard_normal((500, D)) * [1.0, 2.0, 0.5, 3.0, 10.0]
    priors = [Prior(3.0, ALL), Prior(12.0, {"features": 1.0}), Prior(0.5, {"entered": 1.0})]
    found = variances(priors, GROUPS, X)
    for prior, variance in zip(priors, found, strict=True):
        w = np.sqrt(variance) * rng.standard_normal((4000, D))
        gap = ((w @ X.T) ** 2).mean(0)
        expected = (X**2) @ variance
        np.testing.assert_allclose(gap.mean(), expected.mean(), rtol=0.1)
        assert expected.mean() == pytest.approx(prior.nats**2)
        for name, share in prior.shares.items():
            part = (X[:, GROUPS[name]] ** 2) @ variance[GROUPS[name]]
            assert part.mean() == pytest.approx(share * prior.nats**2)
    assert not found[1][4]
    assert not found[2][[0, 1, 4]].any()


def test_a_group_without_differences_leaves_its_share_to_the_others(rng):
    X = rng.standard_normal((50, D))
    X[:, 4] = 0.0
    (found,) = variances([Prior(3.0, ALL)], GROUPS, X)
    assert found[4] == 0.0
    assert ((X**2) @ found).mean() == pytest.approx(9.0)
    np.testing.assert_allclose(found[:4], found[0])
    for nothing in (np.zeros((0, D)), np.zeros((3, D))):
        (found,) = variances([Prior(3.0, ALL)], GROUPS, nothing)
        assert np.isfinite(found).all()
        assert found.max() > 0.0


def test_weights_without_a_prior_stay_0(rng):
    """As the posterior of the other features alone, in every number."""
    some = np.array([1.0, 0.0, 2.0, 0.0, 0.5])
    one, two = LaplacePosterior(D, some), LaplacePosterior(3, some[some > 0])
    X, y = questions(rng)
    one.update(X, y)
    two.update(X[:, some > 0], y)
    full = np.zeros(D)
    full[some > 0] = two.mu
    np.testing.assert_allclose(one.mean(), full, atol=1e-12)
    covariance = np.zeros((D, D))
    covariance[np.ix_(some > 0, some > 0)] = two.Sigma
    np.testing.assert_allclose(one.covariance(), covariance, atol=1e-12)
    for a, b in zip(one.moments(X), two.moments(X[:, some > 0]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    assert one.log_predictive(X, y) == pytest.approx(two.log_predictive(X[:, some > 0], y))
    draws = one.draw(5, np.random.default_rng(0))
    np.testing.assert_allclose(
        draws[:, some > 0], two.draw(5, np.random.default_rng(0)), atol=1e-12
    )
    assert not draws[:, some == 0].any()


def test_weights_are_the_evidence_and_gaps_a_mixture(rng):
    belief = belief_of(0.5, 3.0)
    alone = [LaplacePosterior(D, scale**2 / 4.0) for scale in (0.5, 3.0)]
    evidence = np.zeros(2)
    for _ in range(3):
        X, y = questions(rng, 8)
        for k, posterior in enumerate(alone):
            evidence[k] += posterior.log_predictive(X, y)  # before the answers are learnt
            posterior.update(X, y)
        belief.update(X, y)
    share = np.exp(evidence) / np.exp(evidence).sum()
    np.testing.assert_allclose(belief.weights, share, rtol=1e-9)
    X = rng.standard_normal((6, D))
    gaps, weights = belief.gaps(X)
    assert gaps.shape == (48, 6)
    assert weights.sum() == pytest.approx(1.0)
    first = sum(w * p.moments(X)[0] for w, p in zip(share, alone, strict=True))
    second = sum(
        w * (p.moments(X)[0] ** 2 + p.moments(X)[1]) for w, p in zip(share, alone, strict=True)
    )
    np.testing.assert_allclose(weights @ gaps, first, atol=1e-9)
    np.testing.assert_allclose(weights @ gaps**2, second, atol=1e-9)
    np.testing.assert_allclose(X @ belief.mean(), first, atol=1e-9)
    best = alone[int(np.argmax(share))]
    np.testing.assert_allclose(belief.covariance(), best.Sigma, atol=1e-12)


def test_a_scale_that_predicts_much_worse_is_dropped(rng):
    belief = belief_of(0.5, 3.0, 12.0)
    belief.evidence = np.array([-10.0, -10.0 + math.log(LEAST_WEIGHT) - 0.01, -11.0])
    e = math.exp(-1.0)
    np.testing.assert_allclose(belief.weights, [1 / (1 + e), 0.0, e / (1 + e)])
    gaps, weights = belief.gaps(rng.standard_normal((2, D)))
    assert len(gaps) == len(weights) == 48
    belief.evidence = np.array([-1e6, -1e6 - 1.0, -2e6])  # far below what exp can hold
    assert belief.weights[2] == 0.0
    assert belief.weights.sum() == pytest.approx(1.0)


def test_draws_come_from_each_scale_as_often_as_it_weighs(rng):
    belief = Belief([np.ones(1), 25.0 * np.ones(1)])
    belief.evidence = np.log([0.8, 0.2])
    n = 20_000
    w = belief.draws(n, rng)[:, 0]
    square = 0.8 * 1.0 + 0.2 * 25.0
    fourth = 0.8 * 3.0 + 0.2 * 3.0 * 625.0
    assert abs((w**2).mean() - square) <= 4.0 * math.sqrt((fourth - square**2) / n)


def test_a_state_goes_on_to_the_same_bits_and_stays_as_it_was(rng):
    one = belief_of(3.0, 12.0)
    one.update(*questions(rng))
    state = one.state_dict()
    X, y = questions(rng)
    one.update(X, y)  # must not reach into the state, which a waiting campaign saves later
    two = Belief(state["variances"])
    two.load_state_dict(state)
    two.update(X, y)
    np.testing.assert_array_equal(one.weights, two.weights)
    for p, q in zip(one.posteriors, two.posteriors, strict=True):
        np.testing.assert_array_equal(p.mu, q.mu)
        np.testing.assert_array_equal(p.Sigma, q.Sigma)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LaplacePosterior(0, 1.0), "D must be"),
        (lambda: LaplacePosterior(2, 0.0), "variance must be >= 0, finite and not all 0, got 0"),
        (lambda: LaplacePosterior(2, [1.0, -1.0]), "variance must be >= 0"),
        (lambda: LaplacePosterior(2, np.inf), "variance must be >= 0, finite"),
        (lambda: variances([], GROUPS, np.ones((1, D))), "prior_scales must have at least one"),
        (lambda: variances([Prior(-1.0, ALL)], GROUPS, np.ones((1, D))), "prior_scales must be >"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(InputError, match=message):
        make()
