"""How much a label of each candidate pair is worth asking for: pure functions of arrays.

A belief about the return differences ΔR of N pairs is `gaps` (J, N) with `weights` (J,) that sum
to 1: nodes of a quadrature, draws of a posterior, or members of an ensemble. With x_j the gaps of a
pair, P_j = σ(x_j) and h the entropy of a coin in nats (preferences §4.2):

    h(E P)          predictive entropy     E h(P)          expected entropy
    h(E P) - E h(P) BALD                   Cov(P, x)       pairwise divergence

Each gives (N,), is finite for gaps up to 1e150, and does not change when the segments of a pair
trade places.
"""

from __future__ import annotations

import math

import numpy as np

from rlentropy.errors import InputError
from rlentropy.preferences.losses import sigmoid
from rlentropy.types import Array

LOG2 = math.log(2.0)


def _entropy_of_logits(x: Array) -> Array:
    """h(σ(x)) = log(1 + e) + |x| e / (1 + e) with e = exp(-|x|), without a logarithm of 0."""
    size = np.abs(x)
    e = np.exp(-size)
    result: Array = np.log1p(e) + size * (e / (1.0 + e))
    return result


def _entropy_of_shares(p: Array, q: Array) -> Array:
    """-p log p - q log q, in which 0 log 0 = 0."""
    floor = np.finfo(np.float64).tiny
    result: Array = -(p * np.log(np.maximum(p, floor)) + q * np.log(np.maximum(q, floor)))
    return result


def _shares(gaps: Array, weights: Array) -> tuple[Array, Array]:
    """Probabilities E σ(x) and E σ(-x) of both answers, neither as 1 less the other."""
    half = np.tanh(0.5 * gaps)
    return weights @ (0.5 + 0.5 * half), weights @ (0.5 - 0.5 * half)


def _deviation(x: Array, weights: Array) -> Array:
    """Standard deviation under the weights."""
    result: Array = np.sqrt(weights @ (x - weights @ x) ** 2)
    return result


def predictive_entropy(gaps: Array, weights: Array) -> Array:
    """h(E P), what is unknown of an answer, in [0, log 2] (§4.2)."""
    return _entropy_of_shares(*_shares(gaps, weights))


def expected_entropy(gaps: Array, weights: Array) -> Array:
    """E h(P), what would stay unknown of an answer if the reward were known (§4.2).

    B-Pref's "entropy" is this mean of the members' entropies, not the entropy of their mean.
    """
    return weights @ _entropy_of_logits(gaps)


def bald(gaps: Array, weights: Array) -> Array:
    """h(E P) - E h(P), the information of an answer about the reward, in [0, log 2] (§4.2)."""
    return np.maximum(predictive_entropy(gaps, weights) - expected_entropy(gaps, weights), 0.0)


def pairwise_kl(gaps: Array, weights: Array, unbiased: bool = False) -> Array:
    """Mean divergence between two draws of the belief, Cov(P, x), >= BALD (§4.2).

    Args:
        unbiased: of two different members: times 1 / (1 - Σ w²), which is J / (J - 1) for equal
            weights. For draws from a posterior; without it the members are all that there is.

    Raises:
        InputError: unbiased, of a single member.
    """
    p = np.tanh(0.5 * gaps)  # 2 P - 1
    result: Array = 0.5 * (weights @ ((p - weights @ p) * (gaps - weights @ gaps)))
    result = np.maximum(result, 0.0)
    if not unbiased:
        return result
    if not (others := 1.0 - float(weights @ weights)) > 0.0:
        raise InputError(f"weights must be of two members or more, got {weights}")
    return result / others


def improved_total(gaps: Array, weights: Array, unbiased: bool = False) -> Array:
    """E h(P) + Cov(P, x), the cross entropy of two draws of the belief (§4.2)."""
    return expected_entropy(gaps, weights) + pairwise_kl(gaps, weights, unbiased)


def disagreement(gaps: Array, weights: Array) -> Array:
    """Standard deviation of P over the members, in [0, 1/2] (§4.2)."""
    return 0.5 * _deviation(np.tanh(0.5 * gaps), weights)


def logit_deviation(gaps: Array, weights: Array) -> Array:
    """Standard deviation of the gap itself, which prefers pairs of large returns (§4.2)."""
    return _deviation(gaps, weights)


def vote_entropy(gaps: Array, weights: Array) -> Array:
    """h of the share of members that prefer the first segment; a gap of 0 is half a vote (§4.2)."""
    sign = weights @ np.sign(gaps)
    return _entropy_of_shares(np.maximum(0.5 + 0.5 * sign, 0.0), np.maximum(0.5 - 0.5 * sign, 0.0))


def bayesian_certainty(gaps: Array, weights: Array) -> Array:
    """log 2 - h(E P), how sure the belief is of the answer (§4.4)."""
    return np.maximum(LOG2 - predictive_entropy(gaps, weights), 0.0)


def label_information(gaps: Array, weights: Array) -> Array:
    """log 2 - E h(P), what a label tells of the better segment, in [0, log 2] (§4.4).

    It is `bayesian_certainty` + `bald`, and E[ΔR²] / 8 where gaps are small.
    """
    return weights @ np.maximum(LOG2 - _entropy_of_logits(gaps), 0.0)


def volume_removal(gaps: Array, weights: Array) -> Array:
    """1 - (E P)² - (E (1 - P))², the mass that an answer removes, in [0, 1/2] (§4.3)."""
    p, q = _shares(gaps, weights)
    return 2.0 * p * q


def max_regret(gaps: Array, weights: Array) -> Array:
    """What a draw of the belief loses by another's choice, when they disagree (§4.3).

    P(ΔR < 0) E[ΔR⁺] + P(ΔR > 0) E[ΔR⁻], in units of the gaps.
    """
    up, down = np.maximum(gaps, 0.0), np.maximum(-gaps, 0.0)
    wins, loses = weights @ (gaps > 0.0), weights @ (gaps < 0.0)
    result: Array = loses * (weights @ up) + wins * (weights @ down)
    return result


def certainty(margins: Array) -> Array:
    """|margin| of the policy, (N,) (§4.1)."""
    return np.abs(margins)


def uncertainty(margins: Array) -> Array:
    """-|margin| of the policy, (N,) (§4.1)."""
    return -np.abs(margins)


def value_scale(values: Array, weights: Array) -> float:
    """κ of `push_value`: root mean square of ΔA over pool and belief, at least 1 (§4.5).

    Args:
        values: (J, N).
    """
    mean_square = weights @ values**2
    return max(1.0, math.sqrt(float(mean_square.mean()))) if mean_square.size else 1.0


def push_value(
    gaps: Array,
    values: Array,
    weights: Array,
    margins: Array,
    alpha: float = 0.5,
    kappa: float | None = None,
) -> Array:
    """How far a label pushes the policy, times what that push is worth (§4.5).

        2 κ E[(σ(ΔR) - 1/2 - α (σ(margin) - 1/2)) (σ(ΔA / κ) - 1/2)]

    Both factors are under one draw of the reward, so a label that luck decides has no worth. With
    α = 0, κ = 1 and ΔA = ΔR it is 2 E (σ(ΔR) - 1/2)², near `label_information`.

    Args:
        gaps: ΔR, what the teacher answers about, (J, N).
        values: ΔA, differences of the policy's summed advantages under the same draws, (J, N).
        margins: of the policy, (N,).
        alpha: share of the policy's own preference that counts as pushed already, in [0, 1].
        kappa: scale above which values no longer count in full; default `value_scale`.
    """
    if kappa is None:
        kappa = value_scale(values, weights)
    push = np.tanh(0.5 * gaps) - alpha * np.tanh(0.5 * margins)
    return 0.5 * kappa * (weights @ (push * np.tanh((0.5 / kappa) * values)))


def expected_gap(gaps: Array, weights: Array) -> Array:
    """E |ΔR|, what a Thompson draw ranks by on average (§4.3)."""
    return weights @ np.abs(gaps)


def design_gain(X: Array, covariance: Array, margins: Array) -> Array:
    """p (1 - p) xᵀ Σ x at p = σ(margin), what a label adds to a design, (N,) (§4.3).

    Args:
        X: feature differences, (N, D).
        covariance: Σ of the belief about the features' weights, (D, D).
        margins: (N,).
    """
    p = sigmoid(margins)
    result: Array = p * (1.0 - p) * ((X @ covariance) * X).sum(1)
    return result
