"""The 60-digit oracle of `benchmarks/exact` against closed forms, and its measures against ours."""

from decimal import Decimal
from fractions import Fraction

import exact
import numpy as np
import pytest

from rlentropy import risk


def test_discounted_values_are_the_fractions():
    """A two-state cycle: V = 1 / (1 - γ²) at γ = 1 - 1e-8, to 55 digits."""
    gamma = 1.0 - 1e-8
    model = exact.Model.of([[[0, 1.0]], [[1.0, 0]]], [[1.0], [0.0]], gamma)
    V = exact.optimum(model)
    g = Fraction(gamma)
    with exact.context():
        for value, true in zip(V, (1 / (1 - g * g), g / (1 - g * g)), strict=True):
            assert abs(value * true.denominator / true.numerator - 1) < Decimal("1e-55")


def test_rows_are_normalised_exactly():
    row = exact.distribution(np.array([0.1, 0.0, 0.2, 0.7]))
    with exact.context():
        assert set(row) == {0, 2, 3}
        assert abs(sum(row.values()) - 1) < Decimal("1e-88")


def test_joint_budget_by_hand():
    """Robust §1.6: budget 0.4 on two actions is worth 12.35, with the actions mixed evenly."""
    P = np.zeros((4, 2, 4))
    P[0, :, 1:3] = [[0.8, 0.2], [0.7, 0.3]]
    P[[1, 2, 3], :, [1, 2, 3]] = 1.0
    r = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])  # V = 20 and 0
    model = exact.Model.of(P, r, 0.95)
    with exact.context():
        V, pi = exact.Robust(model, "s-l1-ball:0.4").optimum()
    # the loops have a budget of their own, but nowhere to move mass
    assert float(V[0]) == pytest.approx(12.35, abs=1e-12)
    assert {a: round(float(x), 12) for a, x in pi[0].items()} == {0: 0.5, 1: 0.5}


@pytest.mark.parametrize("support", ["nominal", "full", [0]])
@pytest.mark.parametrize(
    "measure",
    [
        "nominal", "worst-case", "entropic:0.7", "entropic:30", "cvar:0.3", "mean-cvar:0.4,0.25",
        "chi2-penalty:0.3", "chi2-penalty:2", "l1-penalty:0.4", "burg-penalty:0.6",
        "cressie-read-penalty:0.5,0.5", "cressie-read-penalty:0.5,1.5",
        "cressie-read-penalty:0.5,3", "cressie-read-penalty:1,-1", "contamination:0.2",
        "kl-ball:0.1", "kl-ball:2", "burg-ball:0.2", "burg-ball:3", "chi2-ball:0.3",
        "tv-ball:0.2", "l1-ball:0.7", "linf-ball:0.1", "l2-ball:0.2", "l2-ball:0.7",
        "wasserstein-penalty:0.3", "wasserstein-ball:0.6",
    ],
)  # fmt: skip
def test_robust_expectations(measure, support):
    """Two derivations, one in decimals of 90 digits and one in floats."""
    rng = np.random.default_rng(5)
    name, _, numbers = measure.partition(":")
    for p in ([0.5, 0.25, 0.25, 0.0], [0.0, 1.0, 0.0, 0.0], [0.2, 0.3, 0.1, 0.4]):
        V = rng.normal(size=4)
        states = {"nominal": [], "full": range(4)}.get(str(support), support)
        with exact.context():
            row = exact.distribution(np.array(p))
            z = {j: Decimal(float(V[j])) for j in sorted({*row, *states})}
            numbers_ = [Decimal(float(x)) for x in numbers.split(",") if x]
            q, paid = exact.NATURE[name](row, z, Decimal(1), numbers_, [])
            assert abs(sum(q.values()) - 1) < Decimal("1e-75")
            found = float(sum(x * z[j] for j, x in q.items()) + paid)
        ours = float(risk.parse(measure, support).expectation(np.array(p), V))
        assert found == pytest.approx(ours, abs=1e-12)
