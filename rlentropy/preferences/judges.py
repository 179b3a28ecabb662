"""What a judge's readings of pairs in both orders come to, and what goes to a person.

Readings are (N, 2, k): how much better the first segment was found, in the k readings that show it
left and in the k that show it right (preferences §3.2). `judging` has the judges themselves,
`routing` who answers in a campaign.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rlentropy.errors import in_range, one_of, whole
from rlentropy.preferences.losses import sigmoid, softplus
from rlentropy.types import Array, Mask

ROUTES = ("entropy", "margin", "contradiction", "random")


@dataclass(frozen=True)
class Judge:
    """An ensemble of noisy readings with a taste for the left, and a person for the hard pairs."""

    temperature: float = 1.0  # τ of a reading, > 0, in units of return or of its std
    in_std: bool = True
    left_bias: float = 0.5  # extra logit of the segment that is shown left
    readings: int = 3  # of each order
    tie: float = 0.5  # a reading of a difference up to this many logits is a tie, >= 0
    human: float = 0.2  # share of a round that goes to a person, those most in doubt

    def __post_init__(self) -> None:
        in_range("temperature", self.temperature, "(0, inf)")
        in_range("left_bias", self.left_bias, "(-inf, inf)")
        whole("readings", self.readings, 1)
        in_range("tie", self.tie, "[0, inf)")
        in_range("human", self.human, "[0, 1]")


class Judgement(NamedTuple):
    """What a judge says of N pairs."""

    answers: Array  # (N,), 1, 1/2 or 0, of both orders together
    entropy: Array  # (N,), nats, of the outcomes of its readings
    conflict: Mask  # (N,), whether the verdict changes with the order
    mean: Array  # (N,), the mean reading of both orders


def read(judge: Judge, gaps: Array, uniforms: Array) -> Array:
    """Readings in logits, (N, 2, k): gap / τ + logistic noise ± b.

    Without the tie band each prefers the first segment with the probability of a Bradley-Terry
    teacher that is biased to the left (§3.1).

    Args:
        gaps: return of the first less that of the second, (N,).
        uniforms: (N, 2 k), in (0, 1).
    """
    u = uniforms.reshape(len(gaps), 2, judge.readings)
    bias = np.array([judge.left_bias, -judge.left_bias])[:, None]
    readings: Array = (gaps / judge.temperature)[:, None, None] + np.log(u / (1.0 - u)) + bias
    return readings


def evidence(scores: Any, swapped: Any) -> Array:
    """Readings (N, 2, k) from the scores that a judge wrote down.

    Args:
        scores: (N, k, 2), of what was shown left and right, the first segment left.
        swapped: the same for the second segment left.

    Infinite scores that are equal can't be told apart: NaN.
    """
    scores, swapped = np.asarray(scores, np.float64), np.asarray(swapped, np.float64)
    with np.errstate(invalid="ignore"):  # ∞ - ∞
        readings: Array = np.stack(
            [scores[..., 0] - scores[..., 1], swapped[..., 1] - swapped[..., 0]], axis=1
        )
    return readings


def verdicts(differences: Array, tie: float = 0.0) -> Array:
    """1 where the first is better, 0 where it is worse, 1/2 where the two are within `tie`."""
    decided: Array = np.where(np.abs(differences) <= tie, 0.5, (differences > 0.0).astype(float))
    return decided


def judgement(readings: Array, tie: float = 0.0) -> Judgement:
    """Average the readings of each order, then both orders, and see how far they agree (§3.2).

    Args:
        tie: the band of single readings; averages are compared as they are.
    """
    each = readings.mean(2)
    in_order, mean = verdicts(each), each.mean(1)
    return Judgement(
        answers=verdicts(mean),
        entropy=outcome_entropy(verdicts(readings, tie).reshape(len(readings), -1)),
        conflict=in_order[:, 0] != in_order[:, 1],
        mean=mean,
    )


def outcome_entropy(outcomes: Any) -> Array:
    """Entropy of win, tie and lose among m outcomes (N, m), in [0, log 3] nats (BPDE, §3.2)."""
    outcomes = np.asarray(outcomes)
    shares = np.stack([(outcomes == value).mean(1) for value in (1.0, 0.5, 0.0)], axis=1)
    entropy: Array = -(shares * np.log(np.where(shares > 0.0, shares, 1.0))).sum(1)
    return entropy


def doubt(rule: str, found: Judgement, margins: Array) -> Array:
    """How much each pair asks for a person, (N,), by one of `ROUTES` (§3.2).

    Args:
        margins: of the policy, in the direction of the answers, (N,).
    """
    one_of("routing", rule, ROUTES)
    if rule == "entropy":
        return found.entropy
    if rule == "margin":
        return -np.abs(found.mean)
    if rule == "random":
        return np.zeros(len(margins))
    against = contradicts(found.answers, margins, 0.0)
    return np.where(against, np.abs(margins), 0.0)


def to_person(doubt: Array, n: int, uniforms: Array) -> Mask:
    """Which pairs go to a person, (N,): the n that are most in doubt.

    Few entropies are possible, so many are equal: uniforms (N,) decide among these.
    """
    whole("n", n, 0)
    mask = np.zeros(len(doubt), bool)
    mask[np.lexsort((uniforms, -doubt))[:n]] = True
    return mask


def share_of(share: float, n: int) -> int:
    """A share of n pairs, rounded down."""
    return int(share * n + 1e-9)


def contradicts(answers: Array, margins: Array, least: float) -> Mask:
    """Where a judge says the opposite of a policy whose margin is at least so large, (N,)."""
    against: Mask = ((answers - 0.5) * margins < 0.0) & (np.abs(margins) >= least)
    return against


def conflict_rate(answers: Any, mirrored: Any) -> float:
    """Share of pairs whose answer changes when the sides do, both of the same first segment.

    Skips, NaN, do not count; without any pair that was answered twice it is NaN.
    """
    answers, mirrored = np.asarray(answers, np.float64), np.asarray(mirrored, np.float64)
    both = ~(np.isnan(answers) | np.isnan(mirrored))
    return float((answers[both] != mirrored[both]).mean()) if both.any() else float("nan")


class PositionBias(NamedTuple):
    """A logistic regression of choices of the left on the margin."""

    bias: float  # b, logits
    slope: float  # c, of the margin
    error: float  # standard error of b
    used: int  # answers that it rests on


WIDTH = 10.0  # standard deviation of the normal prior of b and c, which separable answers need


def position_bias(margins: Any, chose_left: Any) -> PositionBias:
    """Fit P(left) = σ(b + c margin) by Newton's method with a wide prior (§3.2).

    Args:
        margins: of the left segment over the right one, (N,), of a fitted policy.
        chose_left: 1, 0, 1/2 for a tie, NaN for no answer, (N,).
    """
    m, y = np.asarray(margins, np.float64), np.asarray(chose_left, np.float64)
    m, y = m[~np.isnan(y)], y[~np.isnan(y)]
    scale = float(np.abs(m).max(initial=0.0)) or 1.0
    X = np.stack([np.ones_like(m), m / scale], axis=1)
    prior = np.array([1.0, 1.0 / scale**2]) / WIDTH**2

    def loss(w: Array) -> float:
        z = X @ w
        return float((y * softplus(-z) + (1.0 - y) * softplus(z)).sum() + 0.5 * prior @ w**2)

    w, hessian = np.zeros(2), np.diag(prior)
    for _ in range(100):
        p = sigmoid(X @ w)
        gradient = X.T @ (p - y) + prior * w
        hessian = (X.T * (p * (1.0 - p))) @ X + np.diag(prior)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while loss(w - size * step) > loss(w) and size > 1e-6:
            size *= 0.5
        w = w - size * step
        if np.abs(step).max() < 1e-10:
            break
    error = float(np.sqrt(np.linalg.inv(hessian)[0, 0]))
    return PositionBias(float(w[0]), float(w[1] / scale), error, len(y))
