import numpy as np
import pytest
from oracles import episodic, models

from rlentropy.envs.double_chain import DoubleChainEnv


@pytest.mark.parametrize(("L", "fail"), [(31, 0.1), (2, 0.3), (1, 0.1), (5, 0.0), (5, 1.0)])
def test_kernel_is_the_papers(L: int, fail: float) -> None:
    P = np.zeros((L, 2, L))
    for s in range(L):
        for a, move in enumerate((-1, 1)):
            P[s, a, min(max(s + move, 0), L - 1)] += 1.0 - fail
            P[s, a, min(max(s - move, 0), L - 1)] += fail
    mdp = DoubleChainEnv(L, fail).mdp
    np.testing.assert_allclose(models.dense(mdp), P, rtol=0, atol=1e-15)
    assert mdp.mu[L // 2] == 1.0


def test_ends_pay() -> None:
    r = DoubleChainEnv(5).mdp.r
    np.testing.assert_array_equal(r, np.outer([1, 0, 0, 0, 1], [1, 1]))


def test_uniform_policy_maximises_trajectory_entropy() -> None:
    V, pi = episodic.trajectory_entropy(models.dense(DoubleChainEnv().mdp), 20)
    H, noise = 20, -0.9 * np.log(0.9) - 0.1 * np.log(0.1)
    np.testing.assert_allclose(V, H * np.log(2) + (H - 1) * noise, rtol=1e-12)
    np.testing.assert_allclose(V[15], 20.0395201056, rtol=0, atol=1e-10)  # exploration §6.4
    np.testing.assert_allclose(pi, 0.5, rtol=1e-12)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="num_states must be a whole number >= 1, got 0"):
        DoubleChainEnv(0)
    with pytest.raises(ValueError, match=r"num_states must be a whole number >= 1, got 3\.5"):
        DoubleChainEnv(3.5)
    with pytest.raises(ValueError, match=r"fail_probability must be .* in \[0, 1\], got 1\.1"):
        DoubleChainEnv(fail_probability=1.1)
