import numpy as np
import pytest
from oracles import discounted, models

from rlentropy.envs.river_swim import RiverSwimEnv


def test_model_is_the_specs() -> None:
    P, r = np.zeros((6, 2, 6)), np.zeros((6, 2))
    for s in range(6):
        P[s, 0, max(s - 1, 0)] = 1.0
    P[0, 1, :2] = 0.7, 0.3
    for s in range(1, 5):
        P[s, 1, s - 1 : s + 2] = 0.1, 0.6, 0.3
    P[5, 1, 4:] = 0.7, 0.3
    r[0, 0], r[5, 1] = 0.005, 1.0
    mdp = RiverSwimEnv().mdp
    np.testing.assert_allclose(models.dense(mdp), P, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(mdp.r, r)
    assert mdp.mu[0] == 1.0


def test_discounted_optimum() -> None:
    mdp = RiverSwimEnv().mdp
    V = discounted.action_values(models.dense(mdp), mdp.r, 0.95).max(1)
    np.testing.assert_allclose(V.mean(), 3.525922598, rtol=0, atol=1e-9)  # robust §8.3
    np.testing.assert_allclose(V[0], 2.045977155, rtol=0, atol=1e-9)


@pytest.mark.parametrize("S", [2, 3, 50])
def test_any_length(S: int) -> None:
    mdp = RiverSwimEnv(S).mdp
    assert (mdp.num_states, mdp.reachable().sum()) == (S, S)
    np.testing.assert_array_equal(np.argwhere(mdp.r), [[0, 0], [S - 1, 1]])


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="num_states must be a whole number >= 2, got 1"):
        RiverSwimEnv(1)
