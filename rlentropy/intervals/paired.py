"""Differences between two algorithms on the same seeds: intervals, an exact test, many at once.

The test is Fisher's, of sign flips: if it makes no difference which algorithm is which, each
difference is as likely to have the other sign, and the p-value is the share of all assignments
of signs with a mean as far from zero as that observed. It assumes no distribution, and is exact for
few seeds; of n seeds no p-value is below 2^(1-n), 0.06 for five and 0.002 for ten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlentropy.intervals.seeds import DRAWN_AT_ONCE, Estimate, estimate
from rlentropy.types import Array, Mask

MOST_ENUMERATED = 16  # differences of which every sign is tried, 65 536; of more as many at random
RELATIVE = 1e-9  # by which rounding may tell equal means apart


@dataclass(frozen=True)
class Difference:
    """Mean difference over shared seeds."""

    mean: Estimate  # ()
    p: float  # two-sided; NaN for fewer than two differences
    n: int  # differences


def difference(differences: Any, rng: np.random.Generator) -> Difference:
    """Estimate and test paired differences, (n,)."""
    d = np.asarray(differences, float)
    if not d.size:
        nothing = np.array(np.nan)
        return Difference(Estimate(nothing, nothing, nothing), np.nan, 0)
    return Difference(estimate(d, "mean", rng), sign_flip_p(d, rng), len(d))


def sign_flip_p(differences: Array, rng: np.random.Generator) -> float:
    """Two-sided p-value of the sign-flip test of a mean of zero, (n,).

    Exact up to `MOST_ENUMERATED` differences other than zero. Of more, as many flips are drawn, and
    the observation counts as one of them.
    """
    if len(differences) < 2:
        return float("nan")
    d = differences[differences != 0.0]
    least = abs(d.sum()) - RELATIVE * np.abs(d).sum()
    if len(d) <= MOST_ENUMERATED:
        signs = 1.0 - 2.0 * (np.arange(2 ** len(d))[:, None] >> np.arange(len(d)) & 1)
        return float((np.abs(signs @ d) >= least).mean())
    total, extreme = 2**MOST_ENUMERATED, 1
    size = max(1, DRAWN_AT_ONCE // len(d))
    for done in range(0, total, size):
        flips: Mask = rng.random((min(size, total - done), len(d))) < 0.5
        extreme += int((np.abs(np.where(flips, -d, d).sum(axis=1)) >= least).sum())
    return float(extreme / (total + 1))


def holm(p: Sequence[float] | Array) -> Array:
    """Holm's p-values of a family: below α, the chance of any false rejection is at most α.

    The k-th smallest of m is multiplied by m - k + 1, and none is below one before it. NaN is no
    member of the family.
    """
    p = np.asarray(p, float)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    adjusted = p.copy()
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return adjusted
