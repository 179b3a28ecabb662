"""Convex risk measures: robust expectations, worst-case distributions, penalties (robust spec §1).

A measure is a penalty D(q, p) that nature pays for playing q where the nominal law is p:

    W(p, V) = min_q E_q V + D(q, p)

W is `expectation`, the minimiser `worst_case`, D `penalty`; an uncertainty set is the penalty that
is 0 inside and infinite outside. p is an array (..., S) or a scipy.sparse kernel (R, S). Rewards
are maximised, so the worst case is the low one.

Where q may put mass is the ``support``: "nominal" (where p > 0), "full" (every state), or listed
candidates beside those with p > 0: states (K,), or a mask (S,) or like p. Solvers add what the
model itself lists with probability 0 (`FiniteMDP.support`), whatever the support is. Measures
without this field force q << p, their penalty being infinite elsewhere (§1.4, Notes).

`SRectangular` is no measure of single rows: its budget is for all actions of a state (§1.6).

Entropic, the χ² measures, CVaR, fills and shifts are exact to rounding, and the rest are bisected
to it. Every W but Entropic's is E_q V + D(q, p) of the returned q, so an error in q counts twice
over: it is of second order in W.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any

from rlentropy.errors import InputError
from rlentropy.risk.base import Measure
from rlentropy.risk.joint import JointBackup, SRectangular
from rlentropy.risk.penalties import (
    BurgPenalty,
    Chi2Penalty,
    CressieReadPenalty,
    Entropic,
    FDivergencePenalty,
    L1Penalty,
)
from rlentropy.risk.rows import candidates
from rlentropy.risk.sets import (
    BurgBall,
    Chi2Ball,
    Contamination,
    CVaR,
    IntervalBall,
    KLBall,
    L1Ball,
    L2Ball,
    LinfBall,
    MeanCVaR,
    Nominal,
    Scenarios,
    TVBall,
    WeightedL1Ball,
    WorstCase,
)
from rlentropy.risk.transport import WassersteinBall, WassersteinPenalty

__all__ = [
    "BurgBall",
    "BurgPenalty",
    "CVaR",
    "Chi2Ball",
    "Chi2Penalty",
    "Contamination",
    "CressieReadPenalty",
    "Entropic",
    "FDivergencePenalty",
    "IntervalBall",
    "JointBackup",
    "KLBall",
    "L1Ball",
    "L1Penalty",
    "L2Ball",
    "LinfBall",
    "MeanCVaR",
    "Measure",
    "Nominal",
    "SRectangular",
    "Scenarios",
    "TVBall",
    "WassersteinBall",
    "WassersteinPenalty",
    "WeightedL1Ball",
    "WorstCase",
    "parse",
]

NAMES: dict[str, tuple[Callable[..., Any], int]] = {
    "nominal": (Nominal, 0),
    "worst-case": (WorstCase, 0),
    "entropic": (Entropic, 1),
    "cvar": (CVaR, 1),
    "mean-cvar": (MeanCVaR, 2),
    "chi2-penalty": (Chi2Penalty, 1),
    "l1-penalty": (L1Penalty, 1),
    "burg-penalty": (BurgPenalty, 1),
    "cressie-read-penalty": (CressieReadPenalty, 2),
    "wasserstein-penalty": (WassersteinPenalty, 1),
    "contamination": (Contamination, 1),
    "kl-ball": (KLBall, 1),
    "burg-ball": (BurgBall, 1),
    "chi2-ball": (Chi2Ball, 1),
    "tv-ball": (TVBall, 1),
    "l1-ball": (L1Ball, 1),
    "linf-ball": (LinfBall, 1),
    "l2-ball": (L2Ball, 1),
    "wasserstein-ball": (WassersteinBall, 1),
    "s-l1-ball": (partial(SRectangular, norm="l1"), 1),
    "s-l2-ball": (partial(SRectangular, norm="l2"), 1),
}
_SUPPORTED = {"worst-case", "l1-penalty", "burg-penalty", "cressie-read-penalty", "contamination"}
_SUPPORTED |= {"wasserstein-penalty", "burg-ball", "tv-ball", "l1-ball", "linf-ball", "l2-ball"}
_SUPPORTED |= {"wasserstein-ball", "s-l1-ball", "s-l2-ball"}


def parse(text: str, support: Any = None) -> Measure | SRectangular:
    """The measure that ``--risk`` names: NAME, NAME:PARAMETER or NAME:PARAMETER,PARAMETER.

    Args:
        support: "nominal", "full" or candidates; None leaves the measure's own default: full for
            contamination and Wasserstein, else nominal. Measures that force q << p have no use
            for it.

    Raises:
        ValueError: no such name, the wrong number of parameters, or one out of range.
    """
    if not isinstance(text, str):
        raise InputError(f"risk must be NAME or NAME:PARAMETER, got {text!r}")
    name, _, tail = text.strip().partition(":")
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise InputError(f"risk must be one of {', '.join(NAMES)}, got {name!r}{hint}")
    make, count = NAMES[name]
    parts = tail.split(",") if tail else []
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(parts) != count or len(numbers) != count:
        wanted = "1 number" if count == 1 else f"{count} numbers"
        raise InputError(f"risk {name} must have {wanted} after the colon, got {text!r}")
    if isinstance(support, str):
        candidates(support, 1)
    options = {} if support is None or name not in _SUPPORTED else {"support": support}
    measure: Measure | SRectangular = make(*numbers, **options)
    return measure
