"""Robust expectations whose worst case tilts a row."""

from typing import Any

import numpy as np

from rlentropy.kernels.arithmetic import _exp, _log
from rlentropy.kernels.cache import compiled, inlined
from rlentropy.types import Array, Index

# Measures whose worst case has compiled loops (robust spec §1.4, §1.5): indices into these.
TILTS = ("entropic", "worst-case", "l1-penalty", "contamination", "kl-ball")


@inlined
def _outsider(
    outside: Index, successor: Index, first: Any, n: Any, paid: bool, V: Array, low: float
) -> int:
    """The first state of `outside` below `low` that the row doesn't store, -1 for none.

    Where rewards don't depend on the successor a state that is stored is never below the row's low.
    """
    for k in range(outside.size):
        s = outside[k]
        if not V[s] < low:
            return -1
        stored = False
        if paid:
            for j in range(n):
                stored |= successor[first + j] == s
        if not stored:
            return int(s)
    return -1


@inlined
def _mean_exp(z: Array, p: Array, n: Any, top: float, b: float, e: Array) -> tuple[float, float]:
    """e = exp(-b z), and log Σ p e, Σ p z e / Σ p e; z in [0, top] with its least at 0.

    Below b z = 0.01 the logarithm is taken of 1 + Σ p (e - 1) with the differences by their series,
    so that it keeps its digits relative to b (robust spec §1.7, form 2).
    """
    total = first = 0.0
    if b * top < 1e-2:
        for j in range(n):
            x = -b * z[j]
            tail = x * (1.0 / 24.0 + x * (1.0 / 120.0 + x / 720.0))
            e[j] = x * (1.0 + x * (0.5 + x * (1.0 / 6.0 + tail)))
        for j in range(n):
            total += p[j] * e[j]
            first += p[j] * z[j] * (1.0 + e[j])
        for j in range(n):
            e[j] += 1.0
        return np.log1p(total), first / (1.0 + total)
    for j in range(n):
        e[j] = _exp(-b * z[j])
    for j in range(n):
        weight = p[j] * e[j]
        total += weight
        first += weight * z[j]
    return _log(total), first / total


@inlined
def _kl_ball(
    z: Array, p: Array, n: Any, delta: float, guess: float, e: Array
) -> tuple[float, float]:
    """min E_q z over KL(q ‖ p) <= δ, and the b at which q = p e^{-b z} / Z attains it; z in [0, 1].

    The dual W(b) = -(log Z + δ) / b has W'(b) = (δ - KL(b)) / b². Newton on √KL, which is nearly
    linear in b, inside a bracket. W is flat at its maximum: with a last step of s, the trapezoid
    W + W' s / 2 is off by no more than s³. Less than e^-δ of p lies at z = 0, and KL <= b² / 8.
    """
    least = np.sqrt(8.0 * delta)
    b = guess
    if not b > least:
        mean = square = 0.0
        for j in range(n):
            mean += p[j] * z[j]
        for j in range(n):
            square += p[j] * (z[j] - mean) ** 2
        b = np.sqrt(2.0 * delta / square) if square > 0.0 else 1.0
    low, high, value, root = 0.5 * least, np.inf, 0.0, np.sqrt(delta)
    for _ in range(200):
        log_z, tilted = _mean_exp(z, p, n, 1.0, b, e)
        kl = max(-b * tilted - log_z, 0.0)
        total = spread = 0.0
        for j in range(n):
            weight = p[j] * e[j]
            total += weight
            spread += weight * (z[j] - tilted) ** 2
        if kl > delta:
            high = b
        else:
            low = b
        value = -(log_z + delta) / b
        size = np.sqrt(kl)
        step = np.inf
        if kl > 0.0 and b * spread > 0.0:
            step = 2.0 * size * (root - size) * total / (b * spread)
        if abs(step) <= 3e-5 * b:
            value += 0.5 * step * (delta - kl) / (b * b)
            b += step
            break
        if not low < b + step < high:
            step = np.sqrt(low * high) - b if high < np.inf else b
        if (high < np.inf and high - low <= 1e-12 * high) or low > 1e18:
            break
        b += step
    return value, b


@compiled
def tilt_rows(
    kind: int,
    parameter: float,
    begin: Index,
    end: Index,
    successor: Index,
    p: Array,
    bonus: Array,
    V: Array,
    outside: Index,
    index: Index,
    W: Array,
    multiplier: Array,
    start: Index,
    state: Index,
    q: Array,
) -> None:
    """Robust expectations W (K,) of rows index[k], and their worst cases where q has room.

    Args:
        kind: into TILTS.
        parameter: of the measure; the entropic one's is > 0.
        bonus: what is added to V(s') at each stored transition, (M,); or (0,) for nothing.
        outside: states where mass may go that a row doesn't store, by ascending V; as many as the
            longest row has transitions and one, or fewer if there are no more.
        multiplier: (R,) where KL balls start their search, and leave what they found.
        start: (K + 1,) places in state and q: a row's transitions, then one outside. Or (0,).
    """
    longest: Any = 1
    for k in range(index.size):
        longest = max(longest, np.int64(end[index[k]]) - np.int64(begin[index[k]]))
    z, e, weight = np.empty(longest), np.empty(longest), np.empty(longest)
    wanted, paid = start.size > 0, bonus.size > 0
    for k in range(index.size):
        i = index[k]
        first = np.int64(begin[i])
        n = np.int64(end[i]) - first
        for j in range(n):
            z[j] = V[successor[first + j]]
        if paid:
            for j in range(n):
                z[j] += bonus[first + j]
        low = top = z[0]
        for j in range(1, n):
            low, top = min(low, z[j]), max(top, z[j])
        other = -1
        if outside.size > 0:
            other = _outsider(outside, successor, first, n, paid, V, low)
            if other >= 0:
                low = V[other]
        value = 0.0
        if kind == 2:
            for j in range(n):
                value += p[first + j] * min(z[j] - low, 2.0 * parameter)
        elif kind == 3:
            for j in range(n):
                value += p[first + j] * (z[j] - low)
            value *= 1.0 - parameter
        if 1 <= kind <= 3 and not wanted:  # the rest is for the others
            W[k] = low + value
            continue
        for j in range(n):
            weight[j] = p[first + j]
        top -= low
        for j in range(n):
            z[j] -= low
        if kind == 0:
            if top > 0.0:
                log_z, _ = _mean_exp(z, weight, n, top, parameter, e)
                value = -log_z / parameter
            else:
                e[:n] = 1.0
        elif kind == 4:
            lowest = 0.0
            for j in range(n):
                lowest += weight[j] if z[j] == 0.0 else 0.0
            if parameter <= 0.0 or top <= 0.0:
                e[:n] = 1.0
                for j in range(n):
                    value += weight[j] * z[j]
            elif parameter >= -_log(lowest):
                for j in range(n):
                    e[j] = 1.0 if z[j] == 0.0 else 0.0
            else:
                unit = 1.0 / top if top > 1e-300 else 1e300
                for j in range(n):
                    z[j] *= unit  # so that the multiplier fits V of every scale
                value, b = _kl_ball(z, weight, n, parameter, multiplier[i], e)
                value /= unit
                multiplier[i] = b
                if wanted:
                    _mean_exp(z, weight, n, 1.0, b, e)
        W[k] = low + value
        if wanted:
            at = np.int64(start[k])
            total, least = 0.0, -1
            for j in range(n):
                state[at + j] = successor[first + j]
                stay = weight[j]
                if kind == 0 or kind == 4:
                    stay *= e[j]
                elif kind == 1 or (kind == 2 and z[j] > 2.0 * parameter):
                    stay = 0.0
                elif kind == 3:
                    stay *= 1.0 - parameter
                q[at + j] = stay
                total += stay
                if z[j] == 0.0 and least < 0:
                    least = j
            state[at + n], q[at + n] = successor[first], 0.0
            if kind == 0 or kind == 4:
                for j in range(n):
                    q[at + j] /= total
            elif other >= 0:
                state[at + n], q[at + n] = other, max(1.0 - total, 0.0)
            else:
                q[at + least] += max(1.0 - total, 0.0)
