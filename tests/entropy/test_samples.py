"""Estimates of entropy from samples, against brute force, closed forms and known laws."""

import numpy as np
import pytest
from oracles import episodic

from rlentropy import entropy


def test_shannon(rng) -> None:
    p = rng.dirichlet(np.ones(6), size=(2, 3))
    p[0, 0] = [0, 1, 0, 0, 0, 0]
    expected = np.array([[episodic.shannon(x) for x in row] for row in p])
    np.testing.assert_allclose(entropy.shannon(p), expected, atol=1e-15)
    np.testing.assert_allclose(entropy.shannon(np.moveaxis(p, 2, 0), axis=0), expected, atol=1e-15)
    assert entropy.shannon([0.0, 1.0]) == 0.0
    assert entropy.shannon(np.full(8, 1 / 8)) == pytest.approx(np.log(8), abs=1e-15)
    assert entropy.shannon([5e-324, 1.0]) >= 0.0


def test_miller_madow_by_hand() -> None:
    plug_in = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert entropy.miller_madow([3, 0, 1, 0]) == pytest.approx(plug_in + 1 / 8, abs=1e-15)
    assert entropy.miller_madow([7]) == 0.0


@pytest.mark.parametrize("counts", [[0, 0], [3, -1], [np.nan, 1.0]])
def test_counts_that_are_none(counts) -> None:
    with pytest.raises(ValueError, match="counts must be >= 0 with a positive sum"):
        entropy.miller_madow(counts)


def test_miller_madow_removes_most_of_the_bias(rng) -> None:
    """Test 23. Both biases are told apart from 0 by standard errors of the mean."""
    p = rng.dirichlet(np.full(30, 2.0))
    truth, n, repeats = entropy.shannon(p), 300, 2000
    samples = rng.multinomial(n, p, size=repeats)
    plug_in = entropy.shannon(samples / n)
    corrected = np.array([entropy.miller_madow(x) for x in samples])
    error = plug_in.std() / np.sqrt(repeats)
    assert plug_in.mean() < truth - 5 * error
    assert abs(corrected.mean() - truth) < 0.25 * (truth - plug_in.mean()) + 3 * error
    assert (plug_in > truth).any()  # counts can exceed the optimum by noise


@pytest.mark.parametrize(("k", "bias"), [(4, 0.05), (50, 0.1)])
def test_nearest_neighbour_entropy_of_a_box(rng: np.random.Generator, k: int, bias: float) -> None:
    """Exploration §9 property 24: log V within 0.1, and the edges bias it upwards."""
    sides = np.array([3.0, 0.5])
    estimate = entropy.nearest_neighbour(rng.random((20_000, 2)) * sides, k)
    assert 0.0 < estimate - np.log(sides.prod()) < bias


def test_nearest_neighbour_entropy_of_a_gaussian(rng: np.random.Generator) -> None:
    """Without edges: ½ log det(2πe Σ), here within five standard errors of mean log density."""
    n, scales = 20_000, np.array([1.0, 2.0, 0.1])
    estimate = entropy.nearest_neighbour(rng.normal(size=(n, 3)) * scales)
    exact = 1.5 * np.log(2 * np.pi * np.e) + np.log(scales).sum()
    assert abs(estimate - exact) < 5 * np.sqrt((1.5 + 1 / 3) / n) + 0.01


def test_nearest_neighbour_refusals() -> None:
    with pytest.raises(ValueError, match=r"points must be \(N, D\)"):
        entropy.nearest_neighbour([1.0, 2.0])
    with pytest.raises(ValueError, match="k must be in 1"):
        entropy.nearest_neighbour(np.eye(3), 3)
    with pytest.raises(ValueError, match="raise k"):
        entropy.nearest_neighbour(np.zeros((9, 2)), 4)
