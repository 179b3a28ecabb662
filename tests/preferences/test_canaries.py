"""End to end, as the study of acquisition rules runs: large effects that must not get lost.

Arms are paired by seed: the same starts, the same noise of actions, the same noise of answers.
"""

from functools import cache

import numpy as np
import pytest
from preference_tasks import Cell, run

LAKE, SLIPPERY, NOISY = Cell("lake8"), Cell("slip4"), Cell("lake8", oracle="bradley-terry:1std")


@cache
def area(cell, rule, seed):
    """Under the curve of normalised return."""
    return run(cell, rule, seed)["auc"]


def ahead(cell, rule, seeds, of="random"):
    """By how much a rule's area is larger, seed by seed."""
    return np.array([area(cell, rule, k) - area(cell, of, k) for k in range(seeds)])


def test_who_knows_the_gaps_beats_random():
    assert (ahead(LAKE, "oracle-gap", 3) > 0.05).all()


def test_uncertainty_loses_to_random():
    found = ahead(LAKE, "uncertainty", 4)
    assert found.mean() < -0.03
    assert found.max() < 0.0


def test_label_information_beats_random():
    found = ahead(LAKE, "label-information", 5)
    assert found.mean() > 0.05
    assert found.min() > 0.0


def test_push_value_beats_random_where_luck_decides():
    found = ahead(SLIPPERY, "push-value", 4)
    assert found.mean() > 0.08
    assert found.min() > 0.0


@pytest.mark.slow
def test_with_more_seeds():
    """All at 10 seeds, by their standard errors; also where answers are noisy."""
    for cell, rule, least in [
        (LAKE, "oracle-gap", 0.1),
        (LAKE, "label-information", 0.08),
        (NOISY, "oracle-gap", 0.1),
        (NOISY, "label-information", 0.0),
        (SLIPPERY, "push-value", 0.08),
    ]:
        found = ahead(cell, rule, 10)
        assert found.mean() - 2.0 * found.std(ddof=1) / np.sqrt(10) > least, (cell.name, rule)
    assert (ahead(SLIPPERY, "push-value", 10, of="label-information")).mean() > 0.0
