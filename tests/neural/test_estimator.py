"""The robust estimator against exactly solved MDPs, closed forms and plain loops."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax

from rlentropy import FiniteMDP, planning, risk
from rlentropy.neural.estimator import (
    advantages,
    estimate,
    occupancy_weights,
    self_normalised,
    transition_weights,
)
from rlentropy.neural.losses import linex_gradient

GAMMA, S, A = 0.7, 4, 3


def random_problem(seed):
    """P (S, A, S) with zeros, rewards of transitions, mu; the last state is terminal."""
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.full(S, 0.6), size=(S, A))
    P[rng.random(P.shape) < 0.2] = 0.0
    P[..., 0] += 0.05
    P /= P.sum(-1, keepdims=True)
    mu = rng.dirichlet(np.ones(S))
    mu[-1] = 0.0
    return P, rng.normal(size=(S, A, S)), mu / mu.sum()


def solved(P, R, pi, beta):
    """Fixed point V of the entropic evaluation by plain iteration, and Q (S, A)."""
    V, b, live = np.zeros(S), beta / GAMMA, np.arange(S) < S - 1
    for _ in range(300):
        z = R + GAMMA * V
        Q = -logsumexp(-b * z, axis=-1, b=P) / b if b > 0.0 else (P * z).sum(-1)
        V = live * (pi * Q).sum(-1)
    return V, Q


def exact_gradient(P, R, mu, theta, beta, h=1e-5):
    """Central differences of mu · V in the logits of a softmax policy."""
    found = np.zeros((S, A))
    for s, a in np.ndindex(S, A):
        up, down = theta.copy(), theta.copy()
        up[s, a] += h
        down[s, a] -= h
        values = [mu @ solved(P, R, softmax(t, axis=1), beta)[0] for t in (up, down)]
        found[s, a] = (values[0] - values[1]) / (2 * h)
    return found


def sampled_gradients(P, R, mu, theta, beta, gae_lambda, trace_decay, rng, T=25, N=20_000):
    """The estimate of each of N episodes, (N, S, A), with the exact critics."""
    pi, b = softmax(theta, axis=1), beta / GAMMA
    V, Q = solved(P, R, pi, beta)
    states, actions = np.empty((T + 1, N), int), np.empty((T, N), int)
    rewards, ended = np.empty((T, N)), np.zeros((T, N), bool)
    states[0] = rng.choice(S, N, p=mu)
    for t in range(T):
        actions[t] = (rng.random(N)[:, None] > pi.cumsum(1)[states[t]][:, :-1]).sum(1)
        rows = P[states[t], actions[t]].cumsum(1)
        states[t + 1] = (rng.random(N)[:, None] > rows[:, :-1]).sum(1)
        rewards[t] = R[states[t], actions[t], states[t + 1]]
        ended[t] = states[t + 1] == S - 1
    alive = np.vstack([np.ones((1, N), bool), ~np.logical_or.accumulate(ended)[:-1]])
    surprise = rewards + GAMMA * V[states[1:]] - V[states[:-1]]
    certainty = Q[states[:-1], actions] - V[states[:-1]]
    log_w, errors = transition_weights(surprise, certainty, b)
    found = advantages(errors, log_w, ended, GAMMA, gae_lambda)
    log_rho, _ = occupancy_weights(log_w, ended, np.zeros(N), trace_decay)
    weight = GAMMA ** np.arange(T)[:, None] * np.exp(log_rho) * found * alive
    gradients = np.zeros((N, S, A))
    score = np.eye(A)[actions] - pi[states[:-1]]  # d log pi(a|s) / d theta[s, :]
    for s in range(S):
        gradients[:, s] = np.einsum("tn,tna->na", weight * (states[:-1] == s), score)
    return gradients


def deviations(gradients, exact):
    """(mean - exact) in standard errors, where the estimate varies."""
    error = gradients.std(0, ddof=1) / math.sqrt(len(gradients))
    return ((gradients.mean(0) - exact) / np.where(error > 0, error, np.inf))[:-1]


@pytest.mark.parametrize(
    ("beta", "gae_lambda"), [(0.0, 0.9), (0.3, 0.0), (1.0, 0.0), (1.0, 0.9), (1.0, 1.0)]
)
def test_mean_of_the_estimate_is_the_exact_gradient(beta, gae_lambda):
    P, R, mu = random_problem(3)
    rng = np.random.default_rng(7)
    theta = rng.normal(size=(S, A))
    exact = exact_gradient(P, R, mu, theta, beta)
    gradients = sampled_gradients(P, R, mu, theta, beta, gae_lambda, 1.0, rng)
    assert np.abs(deviations(gradients, exact)).max() < 4.5


def test_without_occupancy_weights_the_estimate_is_another():
    """The check above can fail: trace_decay = 0 leaves the nominal occupancy."""
    P, R, mu = random_problem(3)
    rng = np.random.default_rng(7)
    theta = rng.normal(size=(S, A))
    exact = exact_gradient(P, R, mu, theta, 2.0)
    gradients = sampled_gradients(P, R, mu, theta, 2.0, 0.9, 0.0, rng, N=60_000)
    assert np.abs(deviations(gradients, exact)).max() > 6.5


def test_mean_of_the_estimate_is_the_planned_gradient():
    """`planning.robust_policy_gradient` is in π; the softmax turns it into π (G - Σ π G)."""
    P, R, mu = random_problem(11)
    R = np.repeat(R[..., :1], S, axis=2)  # planning takes rewards of (s, a)
    R[-1], P[-1] = 0.0, np.eye(S)[-1]
    rng = np.random.default_rng(1)
    theta = rng.normal(size=(S, A))
    pi = softmax(theta, axis=1)
    mdp = FiniteMDP(P, R[..., 0], mu, terminal=np.arange(S) == S - 1)
    G = planning.robust_policy_gradient(mdp, pi, risk.Entropic(1.0), GAMMA)
    exact = pi * (G - (pi * G).sum(1, keepdims=True))
    gradients = sampled_gradients(P, R, mu, theta, 1.0, 0.9, 1.0, rng)
    assert np.abs(deviations(gradients, exact)).max() < 4.5


def test_robust_error_is_second_order_in_the_critic():
    """E δ, as the certainty equivalent is off by e: the bias falls fourfold as e is halved."""
    rng = np.random.default_rng(0)
    p, x, b = rng.dirichlet(np.ones(6)), rng.normal(size=6), 0.8
    exact = -logsumexp(-b * x, b=p) / b
    bias = []
    for e in (0.1, 0.05, 0.025):
        _, errors = transition_weights(x, np.full(6, exact + e), b)
        bias.append(p @ errors - exact)
    assert bias[0] / bias[1] == pytest.approx(4.0, rel=0.1)
    assert bias[1] / bias[2] == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize("self_normalise", [False, True])
def test_weights_and_errors_tend_to_the_ordinary_ones(rng, self_normalise):
    surprise, certainty = rng.normal(size=(2, 5, 7))
    for b in (1e-12, 1e-8, 1e-4):
        log_w, errors = transition_weights(surprise, certainty, b, 10.0, self_normalise)
        np.testing.assert_allclose(errors, surprise, atol=20 * b + 1e-12)
        np.testing.assert_allclose(log_w, 0.0, atol=10 * b)
    log_w, errors = transition_weights(surprise, certainty, 0.0, 10.0, self_normalise)
    np.testing.assert_array_equal(errors, surprise)
    np.testing.assert_array_equal(log_w, 0.0)


def test_advantages_and_occupancy_weights_by_hand():
    w = np.array([[0.5, 2.0], [3.0, 1.0], [0.1, 4.0]])
    errors = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    ended = np.array([[False, True], [False, False], [False, False]])
    found = advantages(errors, np.log(w), ended, 0.5, 0.8)
    one = 3.0 + 0.4 * 3.0 * 5.0
    two = 4.0 + 0.4 * 1.0 * 6.0
    np.testing.assert_allclose(found, [[1.0 + 0.4 * 0.5 * one, 2.0], [one, two], [5.0, 6.0]])
    log_rho, after = occupancy_weights(np.log(w), ended, np.log([2.0, 3.0]), 1.0)
    np.testing.assert_allclose(np.exp(log_rho), [[2.0, 3.0], [1.0, 1.0], [3.0, 1.0]])
    np.testing.assert_allclose(np.exp(after), [0.3, 4.0])


def test_self_normalised_weights_have_mean_one_and_are_cut_off(rng):
    log_weights = rng.normal(scale=3.0, size=1000) + 700.0
    weights = self_normalised(log_weights, math.inf)
    np.testing.assert_allclose(weights, 1000 * softmax(log_weights))
    cut = self_normalised(log_weights, 5.0)
    assert cut.mean() == pytest.approx(1.0)
    order = np.argsort(log_weights)
    assert (np.diff(cut[order]) >= 0).all()
    assert cut.max() / cut[order[500]] < weights.max() / weights[order[500]]


def test_weights_cut_off_in_the_regression_average_to_one(rng):
    x = rng.normal(size=500)
    x[0], b, most = -40.0, 2.0, 10.0
    target, u = torch.as_tensor(x), torch.zeros(500, dtype=torch.float64)
    for _ in range(5000):
        u -= 0.01 * linex_gradient(u, target, b, math.log(most)).mean()
    log_w, _ = transition_weights(x, u.numpy(), b, most)
    assert np.exp(log_w).mean() == pytest.approx(1.0, abs=1e-6)
    assert np.exp(log_w).max() == pytest.approx(most)


# ---------------------------------------------------------------- as shipped

SETTINGS = {"gamma": 0.9, "gae_lambda": 0.8, "trace_decay": 0.7, "max_weight": 5.0}


def random_batch(rng, T=6, N=4):
    """Rewards, V, V', ĝ, ends and log ρ."""
    rewards, values, after, certainty = rng.normal(size=(4, T, N))
    return rewards, values, after, certainty, rng.random((T, N)) < 0.3, rng.normal(size=N)


def test_without_risk_it_is_generalised_advantages(rng):
    """Against the sum Σ_k (γλ)^k δ_{t+k} of each step up to its episode's end; then ρ = 1."""
    rewards, values, after, certainty, ended, _ = random_batch(rng)
    found = estimate(rewards, values, after, certainty, ended, np.zeros(4), b=0.0, **SETTINGS)
    A = np.zeros((6, 4))
    for t, i in np.ndindex(6, 4):
        for k in range(t, 6):
            delta = rewards[k, i] + 0.9 * after[k, i] - values[k, i]
            A[t, i] += (0.9 * 0.8) ** (k - t) * delta
            if ended[k, i]:
                break
    np.testing.assert_allclose(found.value_targets, values + A)
    np.testing.assert_allclose(found.gains, (A - A.mean()) / A.std(), rtol=1e-6)
    np.testing.assert_array_equal(found.rho, 1.0)
    np.testing.assert_array_equal(found.log_w, 0.0)
    np.testing.assert_array_equal(found.log_rho, 0.0)
    np.testing.assert_array_equal(found.surprise, rewards + 0.9 * after - values)


def test_its_weights_are_normalised_and_cut_off(rng):
    batch = random_batch(rng, T=50)
    loose = estimate(*batch, b=0.5, **SETTINGS | {"max_weight": math.inf})
    assert np.exp(loose.log_w).mean() == pytest.approx(1.0)
    tight = estimate(*batch, b=0.5, **SETTINGS | {"max_weight": 1.5})
    np.testing.assert_allclose(tight.log_w, np.minimum(loose.log_w, math.log(1.5)))
    for found in (loose, tight):
        assert found.rho.mean() == pytest.approx(1.0)
        assert found.gains.mean() == pytest.approx(0.0, abs=1e-12)
        A = found.value_targets - batch[1]
        mean = (found.rho * A).mean()
        spread = math.sqrt((found.rho * (A - mean) ** 2).mean())
        np.testing.assert_allclose(found.gains, found.rho * (A - mean) / spread, rtol=1e-6)


def test_occupancy_weights_go_on_from_batch_to_batch(rng):
    log_w, ended = rng.normal(size=(9, 3)), rng.random((9, 3)) < 0.2
    whole, last = occupancy_weights(log_w, ended, np.zeros(3), 0.7)
    first, between = occupancy_weights(log_w[:4], ended[:4], np.zeros(3), 0.7)
    second, end = occupancy_weights(log_w[4:], ended[4:], between, 0.7)
    np.testing.assert_array_equal(np.vstack([first, second]), whole)
    np.testing.assert_array_equal(end, last)
