"""Losses of preferences as functions of what a policy gives two segments, with their derivatives.

S is a segment's sum over its steps of γ^t log π(a_t|s_t)/π_ref(a_t|s_t), or without a reference of
γ^t log π(a_t|s_t). y is the probability that the first segment is preferred: 1, 0, or 1/2 for a
tie. Tables and networks share these functions: a network hands dL/dS to its backward pass.

    dpo    -y log σ(m) - (1 - y) log σ(-m),  m = β (S_a - S_b)      (preferences §1.1)
    ipo    y (h - 1/2β)² + (1 - y) (h + 1/2β)²,  h = S_a - S_b      (§1.4)
    cpl    softplus(λ S_l - S_w) with S scaled by β                 (§1.3)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from rlentropy.errors import InputError, in_range, one_of
from rlentropy.types import Array

LossName = Literal["dpo", "cpl", "ipo"]
LOSSES = ("dpo", "cpl", "ipo")


class Loss(NamedTuple):
    """Of each pair, (N,): the loss and its derivatives by the two sums."""

    value: Array
    by_a: Array
    by_b: Array


LossFunction = Callable[[Array, Array, Array], Loss]  # of S_a, S_b and y, (N,) each


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    result: Array = 0.5 * (1.0 + np.tanh(0.5 * x))
    return result


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), without overflow."""
    result: Array = np.logaddexp(0.0, x)
    return result


def dpo(S_a: Array, S_b: Array, y: Array, beta: float, smoothing: float = 0.0) -> Loss:
    """Direct preference optimisation (Rafailov et al., 2023); dL/dm = σ(m) - y.

    Args:
        S_a, S_b: (N,).
        y: (N,), in [0, 1].
        smoothing: probability that a label is wrong: y becomes y (1 - 2ε) + ε.
    """
    y = y * (1.0 - 2.0 * smoothing) + smoothing
    m = beta * (S_a - S_b)
    slope = beta * (sigmoid(m) - y)
    return Loss(y * softplus(-m) + (1.0 - y) * softplus(m), slope, -slope)


def ipo(S_a: Array, S_b: Array, y: Array, beta: float, smoothing: float = 0.0) -> Loss:
    """Identity preference optimisation (Azar et al., 2024): margins aim at ±1/2β, no further."""
    y = y * (1.0 - 2.0 * smoothing) + smoothing
    h, aim = S_a - S_b, 0.5 / beta
    value = y * (h - aim) ** 2 + (1.0 - y) * (h + aim) ** 2
    slope = 2.0 * (h + aim * (1.0 - 2.0 * y))
    return Loss(value, slope, -slope)


def cpl(
    S_a: Array, S_b: Array, y: Array, beta: float, smoothing: float = 0.0, conservative: float = 1.0
) -> Loss:
    """Contrastive preference learning (Hejna et al., 2024), β for its α.

    Args:
        conservative: λ in (0, 1] of the rejected segment's sum. With 1, a reference and γ = 1 this
            is the DPO loss.
    """
    y = y * (1.0 - 2.0 * smoothing) + smoothing
    a, b, lam = beta * S_a, beta * S_b, conservative
    wins, loses = lam * b - a, lam * a - b  # what is small when a, or when b, is preferred
    p, q = y * sigmoid(wins), (1.0 - y) * sigmoid(loses)
    value = y * softplus(wins) + (1.0 - y) * softplus(loses)
    return Loss(value, beta * (lam * q - p), beta * (lam * p - q))


def preference_loss(
    name: str,
    S_a: Array,
    S_b: Array,
    y: Array,
    *,
    beta: float,
    smoothing: float = 0.0,
    conservative: float = 1.0,
) -> Loss:
    """One of the losses above by its name.

    Raises:
        InputError: an unknown name, β that is not > 0, ε outside [0, 1/2), or λ outside (0, 1].
    """
    one_of("loss", name, LOSSES)
    in_range("dpo_beta", beta, "(0, inf)")
    in_range("label_smoothing", smoothing, "[0, 0.5)")
    in_range("conservative", conservative, "(0, 1]")
    if name == "cpl":
        return cpl(S_a, S_b, y, beta, smoothing, conservative)
    if conservative != 1.0:
        raise InputError(f"conservative must be 1 unless loss is cpl, got {conservative}")
    return (dpo if name == "dpo" else ipo)(S_a, S_b, y, beta, smoothing)
