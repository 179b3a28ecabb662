"""Scores of policies: their statistics, and the environments that grids are of."""

import numpy as np
import pytest

from rlentropy.perturbations.grids import Grid
from rlentropy.runs.scores import NominalEnv, area, resolved

# ---------------------------------------------------------------- several runs


def test_area_is_the_mean_of_the_curve():
    x = np.array([0.0, 1.0, 3.0])
    curves = np.array([[1.0, 1.0, 1.0], [0.0, 2.0, 0.0]])
    np.testing.assert_allclose(area(x, curves), [1.0, (1.0 + 2.0) / 3.0])
    np.testing.assert_allclose(area(np.array([0.3]), np.array([[5.0]])), [5.0])


def test_parameters_without_one_nominal_value_have_multiples():
    pytest.importorskip("Box2D")
    lander = NominalEnv("LunarLander-v3", "{}", 10, False)
    with pytest.raises(ValueError, match="engine_power must be in multiples of nominal"):
        resolved(Grid.parse("engine_power=0.5:1.5:0.5"), lander, [])
    found = resolved(Grid.parse("engine_power=x0.5:1.5:0.5"), lander, [])
    assert (found.values.tolist(), found.unit) == ([0.5, 1.0, 1.5], "times nominal")
    found = resolved(Grid.parse("gravity=x0.2:1.8:0.8"), lander, [])
    assert found.values.tolist() == [-18.0, -10.0, -2.0]
