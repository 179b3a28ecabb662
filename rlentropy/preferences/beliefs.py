"""Beliefs about the reward behind the answers: Laplace posteriors of Bradley-Terry models.

A linear reward R_w(segment) = w·ψ(segment) makes a pair's return gap w·x, x = ψ(a) - ψ(b). Answers
are Bernoulli(σ(w·x)); w is normal before them and, by Laplace's approximation, after each batch of
them (preferences §5.1). A prior scale is as good as a teacher's temperature, since answers depend
on their ratio alone: several scales are kept, weighted by how well they predicted the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from rlentropy.errors import InputError, in_range, whole
from rlentropy.preferences.losses import sigmoid, softplus
from rlentropy.types import Array, State

TIE_WEIGHT = 4  # answers of 1/2 that one tie counts as: the curvature of 4 × 1/4 at a gap of 0
LEAST_WEIGHT = 1e-4  # of a prior scale against the likeliest; below it is dropped
NODES = 24  # of the Gauss-Hermite rule


@cache
def hermite(n: int = NODES) -> tuple[Array, Array]:
    """Nodes and weights (n,) with Σ w f(u) = E f(u) for a standard normal u."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    return nodes, weights / weights.sum()


class LaplacePosterior:
    """w ~ N(mu, Sigma), updated by batches of answers to pairs with feature differences x (n, D).

    Args:
        D: features.
        variance: of each w before any answer.
    """

    def __init__(self, D: int, variance: float) -> None:
        whole("D", D, 1)
        in_range("variance", variance, "(0, inf)")
        self.mu, self.Sigma = np.zeros(D), variance * np.eye(D)

    def moments(self, X: Array) -> tuple[Array, Array]:
        """Mean and variance of w·x for each row of X (N, D): (N,), (N,)."""
        return X @ self.mu, np.maximum(((X @ self.Sigma) * X).sum(1), 0.0)

    def log_predictive(self, X: Array, y: Array) -> float:
        """log P(answers) before they are learnt, of each pair on its own; a tie is half of each."""
        m, v = self.moments(X)
        nodes, weights = hermite()
        gaps = m + np.sqrt(v) * nodes[:, None]
        p = np.clip(weights @ sigmoid(gaps), 1e-12, 1.0 - 1e-12)
        return float((y * np.log(p) + (1.0 - y) * np.log1p(-p)).sum())

    def update(self, X: Array, y: Array, iterations: int = 50, tolerance: float = 1e-10) -> None:
        """Learn answers y (n,), 1, 0 or 1/2: the mode by Newton's method, and the curvature there.

        With K = X Σ Xᵀ the mode is mu + Σ Xᵀ α where α = y - σ(X mu + K α); with p = σ at the mode
        and W = diag(p (1 - p)), Σ becomes Σ - Σ Xᵀ (K + W⁻¹)⁻¹ X Σ.
        """
        repeat = np.where(y == 0.5, TIE_WEIGHT, 1)
        X, y = np.repeat(X, repeat, axis=0), np.repeat(y, repeat)
        XS = X @ self.Sigma
        K, m = XS @ X.T, X @ self.mu
        alpha, identity = np.zeros(len(y)), np.eye(len(y))
        value = self._objective(alpha, K, m, y)
        for _ in range(iterations):
            p = sigmoid(m + K @ alpha)
            step = np.linalg.solve(identity + (p * (1.0 - p))[:, None] * K, y - p - alpha)
            size = 1.0  # halved where Newton's step overshoots
            while (new := self._objective(alpha + size * step, K, m, y)) > value and size > 1e-4:
                size /= 2.0
            alpha, done = alpha + size * step, value - new <= tolerance * (1.0 + abs(value))
            value = new
            if done:
                break
        p = sigmoid(m + K @ alpha)
        W = np.maximum(p * (1.0 - p), 1e-4)
        self.mu = self.mu + XS.T @ alpha
        Sigma = self.Sigma - XS.T @ np.linalg.solve(K + np.diag(1.0 / W), XS)
        self.Sigma = 0.5 * (Sigma + Sigma.T)

    @staticmethod
    def _objective(alpha: Array, K: Array, m: Array, y: Array) -> float:
        """Negative log posterior at mu + Σ Xᵀ α, up to a constant."""
        Ka = K @ alpha
        f = m + Ka
        return float((softplus(f) - y * f).sum() + 0.5 * alpha @ Ka)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """w, (n, D)."""
        size = self.mu.size
        jitter = 1e-9 * np.trace(self.Sigma) / size  # rounding may leave eigenvalues below 0
        root = np.linalg.cholesky(self.Sigma + jitter * np.eye(size))
        return np.asarray(self.mu + rng.standard_normal((n, size)) @ root.T)


class Belief:
    """Posteriors of several prior scales, weighted by the evidence of the answers so far.

    Args:
        D: features.
        square: mean of |x|² over the pairs of a first pool, which sets the unit of the scales.
        scales: standard deviations of a typical gap before any answer, in nats.
    """

    def __init__(self, D: int, square: float, scales: Sequence[float] = (3.0,)) -> None:
        if not scales:
            raise InputError("prior_scales must have at least one scale, got none")
        for scale in scales:
            in_range("prior_scales", scale, "(0, inf)")
        in_range("square", square, "(0, inf)")
        self.posteriors = [LaplacePosterior(D, scale**2 / square) for scale in scales]
        self.evidence = np.zeros(len(scales))  # log P(answers so far)

    @property
    def weights(self) -> Array:
        """Of the scales, (len(scales),); those that predict much worse get 0."""
        ratio = np.exp(self.evidence - self.evidence.max())
        ratio = np.where(ratio < LEAST_WEIGHT, 0.0, ratio)
        weights: Array = ratio / ratio.sum()
        return weights

    def _likely(self) -> list[tuple[LaplacePosterior, float]]:
        both = zip(self.posteriors, self.weights.tolist(), strict=True)
        return [(posterior, weight) for posterior, weight in both if weight > 0.0]

    def update(self, X: Array, y: Array) -> None:
        """Learn answers y (n,) to pairs with feature differences X (n, D)."""
        said = [posterior.log_predictive(X, y) for posterior in self.posteriors]
        self.evidence = self.evidence + said  # not in place: a checkpoint may hold the array
        for posterior in self.posteriors:
            posterior.update(X, y)

    def gaps(self, X: Array) -> tuple[Array, Array]:
        """Gaps w·x at the nodes of a Gauss-Hermite rule, (J, N), and their weights (J,)."""
        nodes, rule = hermite()
        gaps, weights = [], []
        for posterior, weight in self._likely():
            m, v = posterior.moments(X)
            gaps.append(m + np.sqrt(v) * nodes[:, None])
            weights.append(weight * rule)
        return np.concatenate(gaps), np.concatenate(weights)

    def draws(self, n: int, rng: np.random.Generator) -> Array:
        """Rewards w from the posterior, (n, D), each scale as often as its weight says."""
        counts = rng.multinomial(n, self.weights)
        both = zip(self.posteriors, counts.tolist(), strict=True)
        return np.concatenate([posterior.draw(count, rng) for posterior, count in both if count])

    def mean(self) -> Array:
        """E w, (D,)."""
        total: Array = sum(weight * p.mu for p, weight in self._likely())  # type: ignore[assignment]
        return total

    def covariance(self) -> Array:
        """Of w under the likeliest scale, (D, D)."""
        return self.posteriors[int(np.argmax(self.evidence))].Sigma

    def state_dict(self) -> State:
        parts = [{"mu": p.mu, "Sigma": p.Sigma} for p in self.posteriors]
        return {"posteriors": parts, "evidence": self.evidence}

    def load_state_dict(self, state: State) -> None:
        for posterior, part in zip(self.posteriors, state["posteriors"], strict=True):
            posterior.mu, posterior.Sigma = part["mu"], part["Sigma"]
        self.evidence = state["evidence"]
