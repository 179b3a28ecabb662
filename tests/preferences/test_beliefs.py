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


def of_scales(D, square, scales=(3.0,)):
    """A belief of all features alike, whose pairs have squares of this mean."""
    X = np.full((1, D), np.sqrt(square / D))
    priors = [Prior(scale, {"features": 1.0}) for scale in scales]
    return Belief(variances(priors, {"features": slice(0, D)}, X))


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


def test_a_scale_is_the_deviation_of_a_typical_gap(rng):
    X = rng.standard_normal((500, D))
    square = (X**2).sum(1).mean()
    belief = of_scales(D, square, (3.0, 12.0))
    for posterior, scale in zip(belief.posteriors, (3.0, 12.0), strict=True):
        assert math.sqrt(posterior.moments(X)[1].mean()) == pytest.approx(scale)
    np.testing.assert_array_equal(belief.weights, [0.5, 0.5])


def test_weights_are_the_evidence_and_gaps_a_mixture(rng):
    belief = of_scales(D, 4.0, (0.5, 3.0))
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
    belief = of_scales(D, 4.0, (0.5, 3.0, 12.0))
    belief.evidence = np.array([-10.0, -10.0 + math.log(LEAST_WEIGHT) - 0.01, -11.0])
    e = math.exp(-1.0)
    np.testing.assert_allclose(belief.weights, [1 / (1 + e), 0.0, e / (1 + e)])
    gaps, weights = belief.gaps(rng.standard_normal((2, D)))
    assert len(gaps) == len(weights) == 48
    belief.evidence = np.array([-1e6, -1e6 - 1.0, -2e6])  # far below what exp can hold
    assert belief.weights[2] == 0.0
    assert belief.weights.sum() == pytest.approx(1.0)


def test_draws_come_from_each_scale_as_often_as_it_weighs(rng):
    belief = of_scales(1, 1.0, (1.0, 5.0))
    belief.evidence = np.log([0.8, 0.2])
    n = 20_000
    w = belief.draws(n, rng)[:, 0]
    square = 0.8 * 1.0 + 0.2 * 25.0
    fourth = 0.8 * 3.0 + 0.2 * 3.0 * 625.0
    assert abs((w**2).mean() - square) <= 4.0 * math.sqrt((fourth - square**2) / n)


def test_a_state_goes_on_to_the_same_bits_and_stays_as_it_was(rng):
    one, two = of_scales(D, 4.0, (3.0, 12.0)), of_scales(D, 1.0, (3.0, 12.0))
    one.update(*questions(rng))
    state = one.state_dict()
    X, y = questions(rng)
    one.update(X, y)  # must not reach into the state, which a waiting campaign saves later
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
        (lambda: LaplacePosterior(2, 0.0), "variance must be >= 0, finite and not all 0"),
        (lambda: of_scales(2, 1.0, ()), "prior_scales must have at least one scale, got none"),
        (lambda: of_scales(2, 1.0, (3.0, -1.0)), "prior_scales must be > 0"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(InputError, match=message):
        make()
