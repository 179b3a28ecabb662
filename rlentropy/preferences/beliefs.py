"""Beliefs about the reward behind the answers: Laplace posteriors of Bradley-Terry models.

A linear reward R_w(segment) = w·ψ(segment) makes a pair's return gap w·x, x = ψ(a) - ψ(b). Answers
are Bernoulli(σ(w·x)); w is normal before them and, by Laplace's approximation, after each batch of
them (preferences §5.1). A prior scale is as good as a teacher's temperature, since answers depend
on their ratio alone. Several models of the reward are kept, of several scales and of richer and
poorer features, weighted by how well they predicted the answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from rlentropy.errors import InputError, in_range, whole
from rlentropy.preferences.losses import sigmoid, softplus
from rlentropy.types import Array, State

TIE_WEIGHT = 4  # answers of 1/2 that one tie counts as: the curvature of 4 × 1/4 at a gap of 0
LEAST_WEIGHT = 1e-4  # of a model against the likeliest; below it is dropped
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
        variance: of each w before any answer, one for all or (D,); where it is 0, w stays 0.
    """

    def __init__(self, D: int, variance: Any) -> None:
        whole("D", D, 1)
        variances = np.broadcast_to(np.asarray(variance, np.float64), (D,))
        if not ((variances >= 0.0).all() and variances.any() and np.isfinite(variances).all()):
            raise InputError(f"variance must be >= 0, finite and not all 0, got {variance}")
        self.active: Any = np.flatnonzero(variances)  # the others cost nothing
        if self.active.size == D:
            self.active = slice(None)
        self.size = D
        self.mu, self.Sigma = np.zeros(np.count_nonzero(variances)), np.diag(variances[self.active])

    def moments(self, X: Array) -> tuple[Array, Array]:
        """Mean and variance of w·x for each row of X (N, D): (N,), (N,)."""
        X = X[:, self.active]
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
        X, y = np.repeat(X[:, self.active], repeat, axis=0), np.repeat(y, repeat)
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
        w = np.zeros((n, self.size))
        w[:, self.active] = self.mu + rng.standard_normal((n, size)) @ root.T
        return w

    def mean(self) -> Array:
        """E w, (D,)."""
        w = np.zeros(self.size)
        w[self.active] = self.mu
        return w

    def covariance(self) -> Array:
        """Of w, (D, D)."""
        everything = np.zeros((self.size, self.size))
        index = np.arange(self.size)[self.active]
        everything[np.ix_(index, index)] = self.Sigma
        return everything


class Prior(NamedTuple):
    """A model of the reward: how large a typical gap is, and which features it is made of."""

    nats: float  # standard deviation of the gap of a typical pair before any answer
    shares: Mapping[str, float]  # group of features → its share of that variance


def variances(priors: Sequence[Prior], groups: Mapping[str, slice], X: Array) -> list[Array]:
    """Prior variances of w, (D,) each, that give pairs like X (N, D) the priors' gaps.

    Args:
        groups: of features, by name; a prior's own may not overlap. Where no pair differs in a
            group, the others have its share.

    Raises:
        InputError: there is no prior, or one whose scale is not > 0.
    """
    if not priors:
        raise InputError("prior_scales must have at least one scale, got none")
    squares = (X * X).mean(0) if len(X) else np.ones(X.shape[1])
    found = []
    for prior in priors:
        in_range("prior_scales", prior.nats, "(0, inf)")
        totals = {name: float(squares[groups[name]].sum()) for name in prior.shares}
        shares = {name: share for name, share in prior.shares.items() if totals[name] > 0.0}
        variance = np.zeros(X.shape[1])
        for name, share in shares.items():
            part = prior.nats**2 * share / sum(shares.values())
            variance[groups[name]] = part / totals[name]
        found.append(variance if shares else np.full(X.shape[1], prior.nats**2))
    return found


class Belief:
    """Posteriors of several models of the reward, weighted by the evidence of the answers so far.

    Args:
        variances: prior variances of w under each model, (D,) each.
    """

    def __init__(self, variances: Sequence[Array]) -> None:
        self.variances = list(variances)
        self.posteriors = [LaplacePosterior(len(v), v) for v in variances]
        self.evidence = np.zeros(len(variances))  # log P(answers so far)

    @property
    def weights(self) -> Array:
        """Of the models; those that predict much worse than the best get 0."""
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
        """Rewards w from the posterior, (n, D), each model as often as its weight says."""
        counts = rng.multinomial(n, self.weights)
        both = zip(self.posteriors, counts.tolist(), strict=True)
        return np.concatenate([posterior.draw(count, rng) for posterior, count in both if count])

    def mean(self) -> Array:
        """E w, (D,)."""
        total: Array = sum(weight * p.mean() for p, weight in self._likely())  # type: ignore[assignment]
        return total

    def covariance(self) -> Array:
        """Of w under the likeliest model, (D, D)."""
        return self.posteriors[int(np.argmax(self.evidence))].covariance()

    def state_dict(self) -> State:
        parts = [{"mu": p.mu, "Sigma": p.Sigma} for p in self.posteriors]
        return {"variances": self.variances, "posteriors": parts, "evidence": self.evidence}

    def load_state_dict(self, state: State) -> None:
        for posterior, part in zip(self.posteriors, state["posteriors"], strict=True):
            posterior.mu, posterior.Sigma = part["mu"], part["Sigma"]
        self.evidence = state["evidence"]
