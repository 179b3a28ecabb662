"""Whether predicted preferences hold as often as they say: SmoothECE and reliability curves.

Błasiok and Nakkiran, "Smooth ECE: Principled Reliability Diagrams via Kernel Smoothing", ICLR 2024
(preferences §6.2). For predictions p_i and answers y_i in [0, 1], 1/2 for a tie,

    r_s(t) = (1/n) Σ_i (y_i - p_i) K_s(t, p_i),   smECE_s = ∫ |r_s(t)| dt over [0, 1],

K_s a Gaussian of deviation s that is reflected at 0 and 1; it never increases in s, and smECE is
the one s with smECE_s = s. No bins to choose, and no jumps as predictions move.

Smoothing with K_s is heat that flows for the time s²/2 in a bar with closed ends. So residuals are
put into cells and multiplied by what heat does to their cosine transform: one transform for each s.

A preference has no first and second segment. With `symmetric`, each pair counts in both orders, as
(p, y) and (1 - p, 1 - y), so that results don't depend on how it was asked. The pairs must be
random ones: those that a rule picked by its margins are not a sample of what p claims about.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.fft import dct, idct

from rlentropy.errors import InputError, in_range
from rlentropy.intervals import DRAWN_AT_ONCE, RESAMPLES, Estimate, interval
from rlentropy.types import Array

CELLS = 2048
COARSE = 256  # cells of resamples and of curves
LEAST_BANDWIDTH = 0.02  # of a curve, that few answers still make one
SEEN = 1e-3  # of the density 1 of uniform predictions: below it a curve has nothing to say


def smooth_ece(p: Any, y: Any, *, symmetric: bool = True) -> float:
    """smECE of predictions p (n,) for answers y (n,), in [0, 1].

    Raises:
        InputError: p and y are not (n,) numbers in [0, 1] with n >= 1.
    """
    p, y = _checked(p, y)
    residuals = _residuals((y - p) @ _cells(p, CELLS), symmetric) / p.size
    return float(_fixed_point(residuals, steps=30)[0])


def smooth_ece_at(p: Any, y: Any, s: float, *, symmetric: bool = True) -> float:
    """smECE_s at one bandwidth s >= 0."""
    p, y = _checked(p, y)
    in_range("s", s, "[0, inf)")
    residuals = _residuals((y - p) @ _cells(p, CELLS), symmetric) / p.size
    return float(np.abs(_flown(dct(residuals, norm="ortho"), np.array([[s]]))).sum())


def smooth_ece_interval(
    p: Any, y: Any, rng: np.random.Generator, *, symmetric: bool = True
) -> Estimate:
    """smECE and its 95 % bootstrap interval over pairs.

    Resamples add noise of their own, which smECE counts as miscalibration: near 0 the interval lies
    too high, and may even lie above the value.
    """
    p, y = _checked(p, y)
    n = p.size
    cells, found = sp.diags_array(y - p) @ _cells(p, COARSE), []
    size = max(1, DRAWN_AT_ONCE // n)
    for begin in range(0, RESAMPLES, size):
        k = min(size, RESAMPLES - begin)
        drawn = rng.integers(n, size=(k, n)) + n * np.arange(k)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=k * n).reshape(k, n)
        found.append(_fixed_point(_residuals(counts @ cells, symmetric) / n, steps=12))
    value = np.array(smooth_ece(p, y, symmetric=symmetric))
    return Estimate(value, *interval(np.concatenate(found), n))


class Reliability(NamedTuple):
    """A reliability diagram as curves over the predicted probability."""

    grid: Array  # (G,) in (0, 1)
    frequency: Array  # (G,) smoothed answers; NaN where hardly anything is predicted
    density: Array  # (G,) of predictions, smoothed alike; its mean is 1
    bandwidth: float


def reliability_curve(
    p: Any, y: Any, bandwidth: float | None = None, *, symmetric: bool = True
) -> Reliability:
    """How often predictions p (n,) came true, Σ y_i K_s(t, p_i) / Σ K_s(t, p_i).

    Args:
        bandwidth: s; default smECE, or 0.02 if that is less. Then ∫ |frequency - t| density dt is
            smECE, but for the smoothing of t.
    """
    p, y = _checked(p, y)
    if bandwidth is None:
        bandwidth = max(smooth_ece(p, y, symmetric=symmetric), LEAST_BANDWIDTH)
    in_range("bandwidth", bandwidth, "(0, inf)")
    both = np.stack([np.ones(p.size), y]) @ _cells(p, COARSE)  # (2, G): predictions, answers
    if symmetric:
        both = 0.5 * (both + np.stack([both[0], both[0] - both[1]])[:, ::-1])
    spectrum = dct(both * (COARSE / p.size), norm="ortho")
    density, answers = _flown(spectrum, np.full((2, 1), bandwidth))
    seen = density > SEEN
    frequency = np.where(seen, answers / np.where(seen, density, 1.0), np.nan)
    return Reliability((np.arange(COARSE) + 0.5) / COARSE, frequency, density, float(bandwidth))


# ---------------------------------------------------------------- heat in cells


def _checked(p: Any, y: Any) -> tuple[Array, Array]:
    p, y = np.asarray(p, np.float64), np.asarray(y, np.float64)
    if p.ndim != 1 or p.shape != y.shape or not p.size:
        raise InputError(f"p and y must both be (n,) with n >= 1, got {p.shape} and {y.shape}")
    for name, x in (("p", p), ("y", y)):
        if not (good := (x >= 0.0) & (x <= 1.0)).all():
            raise InputError(f"{name} must be in [0, 1], got {x[~good][0]}")
    return p, y


def _cells(p: Array, m: int) -> sp.csr_array:
    """Each prediction shared by the two cells whose centres are next to it, (n, m)."""
    x = p * m - 0.5
    low = np.floor(x)
    share = x - low
    columns = np.clip(np.stack([low, low + 1.0], axis=1), 0, m - 1).astype(np.int32)
    shares = np.stack([1.0 - share, share], axis=1)
    ends = 2 * np.arange(p.size + 1, dtype=np.int32)
    return sp.csr_array((shares.ravel(), columns.ravel(), ends), (p.size, m))


def _residuals(binned: Any, symmetric: bool) -> Array:
    """Sums of y - p in cells, (R, m), of both orders if symmetric: that is odd about 1/2."""
    r: Array = np.atleast_2d(binned)
    return 0.5 * (r - r[:, ::-1]) if symmetric else r


def _flown(spectrum: Array, s: Array) -> Array:
    """Cells (R, m) after heat flowed for s²/2, s (R, 1), from their cosine transform.

    The rates are those of heat between cells, k²π² in the limit: what flows so stays positive, and
    ∫ |r_s| never increases, however small s is.
    """
    m = spectrum.shape[1]
    rate = 2.0 * m**2 * (1.0 - np.cos(np.pi * np.arange(m) / m))
    flown: Array = idct(spectrum * np.exp(-0.5 * s**2 * rate), norm="ortho")
    return flown


def _fixed_point(residuals: Array, steps: int) -> Array:
    """The s with smECE_s = s of each row, (R, m) → (R,), by bisection of [0, 1]."""
    spectrum = dct(residuals, norm="ortho")
    low, high = np.zeros((len(spectrum), 1)), np.ones((len(spectrum), 1))
    for _ in range(steps):
        s = 0.5 * (low + high)
        above = np.abs(_flown(spectrum, s)).sum(1, keepdims=True) > s
        low, high = np.where(above, s, low), np.where(above, high, s)
    fixed: Array = (0.5 * (low + high))[:, 0]
    return fixed
