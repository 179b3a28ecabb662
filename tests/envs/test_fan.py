import numpy as np
import pytest
from oracles import episodic, models

from rlentropy.envs.fan import FanEnv


@pytest.mark.parametrize("K", [1, 5, 12])
def test_model_and_its_closed_form(K: int) -> None:
    P = np.stack([np.eye(K + 2)] * 2, axis=1)
    P[0] = 0.0
    P[0, 0, 1] = 1.0
    P[0, 1, 2:] = 1.0 / K
    mdp = FanEnv(K).mdp
    np.testing.assert_allclose(models.dense(mdp), P, rtol=0, atol=1e-15)
    assert mdp.mu[0] == 1.0
    assert not mdp.r.any()
    V, pi = episodic.trajectory_entropy(models.dense(mdp), 2)
    np.testing.assert_allclose(V[0], np.log(2 * (K + 1)), rtol=1e-12)
    np.testing.assert_allclose(pi[0, 1], K / (K + 1), rtol=1e-12)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="K must be a whole number >= 1, got 0"):
        FanEnv(0)
