"""Robust expectations whose worst case tilts a row (robust §1.4, §1.5)."""

from typing import Any

import numpy as np

from rlentropy.kernels.arithmetic import exp, log
from rlentropy.kernels.cache import piece
from rlentropy.kernels.nature import row_by_row
from rlentropy.types import Array


@piece
def to_the_least(z: Array, low: float, n: Any, mass: Array) -> None:
    """Give what is left of 1 to the first of the least values."""
    total, least = 0.0, n
    for j in range(n):
        total += mass[j]
        if z[j] == low and least == n:
            least = j
    mass[least] += max(1.0 - total, 0.0)


@piece
def tilted(p: Array, first: Any, n: Any, mass: Array) -> None:
    """mass = p mass / Σ p mass."""
    total = 0.0
    for j in range(n):
        mass[j] = p[first + j] * mass[j]
        total += mass[j]
    for j in range(n):
        mass[j] /= total


@piece
def worst_case(
    parameters: tuple[float, ...], z: Array, low: float, top: float, p: Array, first: Any, n: Any,
    left: bool, multiplier: Array, i: Any, wanted: bool, mass: Array,
) -> float:  # fmt: skip
    """W = min V: all mass goes to the least value."""
    if wanted:
        for j in range(n):
            mass[j] = 0.0
        if not left:
            to_the_least(z, low, n, mass)
    return 0.0


@piece
def l1_penalty(
    parameters: tuple[float, ...], z: Array, low: float, top: float, p: Array, first: Any, n: Any,
    left: bool, multiplier: Array, i: Any, wanted: bool, mass: Array,
) -> float:  # fmt: skip
    """W = E_p min(V, min V + 2κ): mass moves to the least value where that gains more than 2κ."""
    (weight,) = parameters
    value = 0.0
    for j in range(n):
        value += p[first + j] * min(z[j] - low, 2.0 * weight)
    if wanted:
        for j in range(n):
            mass[j] = 0.0 if z[j] - low > 2.0 * weight else p[first + j]
        if not left:
            to_the_least(z, low, n, mass)
    return value


@piece
def contamination(
    parameters: tuple[float, ...], z: Array, low: float, top: float, p: Array, first: Any, n: Any,
    left: bool, multiplier: Array, i: Any, wanted: bool, mass: Array,
) -> float:  # fmt: skip
    """W = (1 - ε) E_p V + ε min V."""
    (fraction,) = parameters
    value = 0.0
    for j in range(n):
        value += p[first + j] * (z[j] - low)
    if wanted:
        for j in range(n):
            mass[j] = p[first + j] * (1.0 - fraction)
        if not left:
            to_the_least(z, low, n, mass)
    return value * (1.0 - fraction)


@piece
def above(z: Array, low: float, n: Any) -> None:
    """z = z - low."""
    for j in range(n):
        z[j] -= low


@piece
def log_mean_exp(
    z: Array, p: Array, first: Any, n: Any, top: float, b: float, e: Array
) -> tuple[float, float]:
    """e = exp(-b z), and log Σ p e, Σ p z e / Σ p e; z in [0, top] with its least at 0.

    Below b z = 0.01 the logarithm is taken of 1 + Σ p (e - 1) with the differences by their series,
    so that it keeps its digits relative to b (robust §1.7, form 2).
    """
    total = moment = 0.0
    if b * top < 1e-2:
        for j in range(n):
            x = -b * z[j]
            tail = x * (1.0 / 24.0 + x * (1.0 / 120.0 + x / 720.0))
            e[j] = x * (1.0 + x * (0.5 + x * (1.0 / 6.0 + tail)))
        for j in range(n):
            total += p[first + j] * e[j]
            moment += p[first + j] * z[j] * (1.0 + e[j])
        for j in range(n):
            e[j] += 1.0
        return np.log1p(total), moment / (1.0 + total)
    for j in range(n):
        e[j] = exp(-b * z[j])
    for j in range(n):
        weight = p[first + j] * e[j]
        total += weight
        moment += weight * z[j]
    return log(total), moment / total


@piece
def entropic(
    parameters: tuple[float, ...], z: Array, low: float, top: float, p: Array, first: Any, n: Any,
    left: bool, multiplier: Array, i: Any, wanted: bool, mass: Array,
) -> float:  # fmt: skip
    """W = -(1/β) log E_p exp(-β V), β > 0, attained at q ∝ p exp(-β V)."""
    (risk_aversion,) = parameters
    value = 0.0
    above(z, low, n)
    if top > low:
        log_z, _ = log_mean_exp(z, p, first, n, top - low, risk_aversion, mass)
        value = -log_z / risk_aversion
    else:
        for j in range(n):
            mass[j] = 1.0
    if wanted:
        tilted(p, first, n, mass)
    return value


@piece
def first_multiplier(z: Array, p: Array, first: Any, n: Any, radius: float) -> float:
    """b at which KL(q ‖ p) <= δ about binds: KL ≈ b² Var z / 2 for small b."""
    mean = square = 0.0
    for j in range(n):
        mean += p[first + j] * z[j]
    for j in range(n):
        square += p[first + j] * ((z[j] - mean) * (z[j] - mean))
    return float(np.sqrt(2.0 * radius / square)) if square > 0.0 else 1.0


@piece
def kl_multiplier(
    z: Array,
    p: Array,
    first: Any,
    n: Any,
    radius: float,
    guess: float,
    wanted: bool,
    e: Array,
) -> tuple[float, float]:
    """min E_q z over KL(q ‖ p) <= δ, and the b at which q = p e^{-b z} / Z attains it; z in [0, 1].

    The dual W(b) = -(log Z + δ) / b has W'(b) = (δ - KL(b)) / b². Newton on √KL, which is nearly
    linear in b, inside a bracket. W is flat at its maximum: with a last step of s, the trapezoid
    W + W' s / 2 is off by no more than s³. Less than e^-δ of p lies at z = 0, and KL <= b² / 8.
    """
    least = np.sqrt(8.0 * radius)
    b = guess
    if not b > least:
        b = first_multiplier(z, p, first, n, radius)
    low, high, value, root = 0.5 * least, np.inf, 0.0, np.sqrt(radius)
    settled, steps = False, 0
    while True:
        log_z, mean = log_mean_exp(z, p, first, n, 1.0, b, e)
        if settled or steps == 200:
            break  # e is that of the answer
        steps += 1
        kl = max(-b * mean - log_z, 0.0)
        total = spread = 0.0
        for j in range(n):
            weight = p[first + j] * e[j]
            total += weight
            spread += weight * ((z[j] - mean) * (z[j] - mean))
        if kl > radius:
            high = b
        else:
            low = b
        value = -(log_z + radius) / b
        size = np.sqrt(kl)
        step = np.inf
        if kl > 0.0 and b * spread > 0.0:
            step = 2.0 * size * (root - size) * total / (b * spread)
        if abs(step) <= 3e-5 * b:
            value += 0.5 * step * (radius - kl) / (b * b)
            settled = True
            if not wanted:
                b += step
                break
        elif not low < b + step < high:
            step = np.sqrt(low * high) - b if high < np.inf else b
        if not settled and ((high < np.inf and high - low <= 1e-12 * high) or low > 1e18):
            break
        b += step
    return value, b


@piece
def kl_ball(
    parameters: tuple[float, ...], z: Array, low: float, top: float, p: Array, first: Any, n: Any,
    left: bool, multiplier: Array, i: Any, wanted: bool, mass: Array,
) -> float:  # fmt: skip
    """min E_q V over KL(q ‖ p) <= δ: q ∝ p exp(-b V), or all mass on the least once it may be."""
    (radius,) = parameters
    value = lowest = 0.0
    above(z, low, n)
    top -= low
    for j in range(n):
        lowest += p[first + j] if z[j] == 0.0 else 0.0
    if radius <= 0.0 or top <= 0.0:
        for j in range(n):
            mass[j] = 1.0
            value += p[first + j] * z[j]
    elif radius >= -log(lowest):
        for j in range(n):
            mass[j] = 1.0 if z[j] == 0.0 else 0.0
    else:
        unit = 1.0 / top if top > 1e-300 else 1e300
        for j in range(n):
            z[j] *= unit  # so that the multiplier fits V of every scale
        value, b = kl_multiplier(z, p, first, n, radius, multiplier[i], wanted, mass)
        value /= unit
        multiplier[i] = b
    if wanted:
        tilted(p, first, n, mass)
    return value


worst_case_rows = row_by_row(worst_case, leaves=True)
l1_penalty_rows = row_by_row(l1_penalty, leaves=True)
contamination_rows = row_by_row(contamination, leaves=True)
entropic_rows = row_by_row(entropic)
kl_ball_rows = row_by_row(kl_ball)
