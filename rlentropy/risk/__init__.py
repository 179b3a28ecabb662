"""Convex risk measures: robust expectations, worst-case distributions, penalties (robust §1).

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

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from rlentropy.errors import InputError, did_you_mean, shown
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
    "NAMES",
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
    "Named",
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


class Named(NamedTuple):
    """A measure that the command line can name."""

    make: Callable[..., Measure | SRectangular]
    parameters: int  # numbers after the colon
    supported: bool = False  # whether it takes a support


NAMES: dict[str, Named] = {
    "nominal": Named(Nominal, 0),
    "worst-case": Named(WorstCase, 0, supported=True),
    "entropic": Named(Entropic, 1),
    "cvar": Named(CVaR, 1),
    "mean-cvar": Named(MeanCVaR, 2),
    "chi2-penalty": Named(Chi2Penalty, 1),
    "l1-penalty": Named(L1Penalty, 1, supported=True),
    "burg-penalty": Named(BurgPenalty, 1, supported=True),
    "cressie-read-penalty": Named(CressieReadPenalty, 2, supported=True),
    "wasserstein-penalty": Named(WassersteinPenalty, 1, supported=True),
    "contamination": Named(Contamination, 1, supported=True),
    "kl-ball": Named(KLBall, 1),
    "burg-ball": Named(BurgBall, 1, supported=True),
    "chi2-ball": Named(Chi2Ball, 1),
    "tv-ball": Named(TVBall, 1, supported=True),
    "l1-ball": Named(L1Ball, 1, supported=True),
    "linf-ball": Named(LinfBall, 1, supported=True),
    "l2-ball": Named(L2Ball, 1, supported=True),
    "wasserstein-ball": Named(WassersteinBall, 1, supported=True),
    "s-l1-ball": Named(partial(SRectangular, norm="l1"), 1, supported=True),
    "s-l2-ball": Named(partial(SRectangular, norm="l2"), 1, supported=True),
}


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
        raise InputError(f"risk must be NAME or NAME:PARAMETER, got {shown(text)}")
    name, _, tail = text.strip().partition(":")
    if name not in NAMES:
        raise InputError(
            f"risk must be one of {', '.join(NAMES)}, got {name!r}{did_you_mean(name, NAMES)}"
        )
    named, parts = NAMES[name], tail.split(",") if tail else []
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(parts) != named.parameters or len(numbers) != named.parameters:
        wanted = "1 number" if named.parameters == 1 else f"{named.parameters} numbers"
        raise InputError(f"risk {name} must have {wanted} after the colon, got {text!r}")
    if isinstance(support, str):
        candidates(support, 1)
    options = {"support": support} if named.supported and support is not None else {}
    return named.make(*numbers, **options)


def __dir__() -> list[str]:
    """What users want, without what is imported on the way."""
    return [*__all__]
