"""What risk changes: a table learnt under a risk measure beside the one without, of the same data.

Networks have no such comparison: two of them differ by their training, risk or no risk.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rlentropy.offline.tabular import Model, ValueIteration
from rlentropy.risk import Nominal
from rlentropy.types import Array

SWEEPS = 10_000  # of the nominal table, at most
ROUNDING = 1e-11  # of its values, relative to the largest


class Comparison(NamedTuple):
    """A greedy policy against those that are optimal on the same data without risk."""

    differing: int  # states whose greedy action is none of the best without risk
    spread: float  # of next values without risk, in reward units


def with_nominal(
    model: Model, Q: Array, gamma: float, unvisited: float, tolerance: float
) -> Comparison | None:
    """Solve the table without risk, and compare the greedy policy of Q (S, A) with it.

    An action that is as good as the best without risk, but for what that table's error can make,
    is no difference: so ties, ends and states without data count as alike. The spread is the
    median of max - min over the successors of a cell, of the cells where that isn't 0.

    Args:
        gamma, unvisited: as of `bellman`.
        tolerance: to which the values without risk must be known, or to their rounding.

    Returns:
        None where they aren't after SWEEPS backups.
    """
    nominal = ValueIteration(model, Nominal(), gamma, unvisited)
    for _ in range(SWEEPS):
        nominal.update()
        if nominal.bound <= max(tolerance, ROUNDING * np.abs(nominal.Q).max()):
            break
    else:
        return None
    slack = 2.0 * nominal.bound + ROUNDING * np.abs(nominal.Q).max()
    chosen = np.take_along_axis(nominal.Q, Q.argmax(1)[:, None], 1)[:, 0]
    spreads = next_value_spreads(model, gamma, nominal.V)
    some = spreads[spreads > slack]
    return Comparison(
        differing=int((chosen < nominal.V - slack).sum()),
        spread=float(np.median(some)) if some.size else 0.0,
    )


def next_value_spreads(model: Model, gamma: float, V: Array) -> Array:
    """Largest less least of what may follow each visited cell, (R,): V(s'), or 0 at an end, and
    what the reward of s' is above the cell's mean, over γ."""
    x = model.excess / gamma + np.where(model.alive, V[model.successor], 0.0)
    begin = model.p.indptr[:-1]
    return np.asarray(np.maximum.reduceat(x, begin) - np.minimum.reduceat(x, begin))
