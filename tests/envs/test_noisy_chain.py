import numpy as np
import pytest
from oracles import episodic, models

from rlentropy.envs.noisy_chain import NoisyChainEnv


@pytest.mark.parametrize("S", [10, 7, 2])
def test_kernel_is_the_specs(S: int) -> None:
    P = np.zeros((S, 3, S))
    for s in range(S):
        P[s, 0, max(s - 1, 0)] = 1.0
        P[s, 1, min(s + 1, S - 1)] = 1.0
        for d in range(-2, 3):
            P[s, 2, min(max(s + d, 0), S - 1) if s >= S // 2 else s] += 0.2
    mdp = NoisyChainEnv(S).mdp
    np.testing.assert_allclose(models.dense(mdp), P, rtol=0, atol=1e-15)
    assert mdp.mu[0] == 1.0
    np.testing.assert_array_equal(np.argwhere(mdp.r), [[S - 1, a] for a in range(3)])


def test_trajectory_entropy_optimum() -> None:
    P = models.dense(NoisyChainEnv().mdp)
    best, _ = episodic.trajectory_entropy(P, 10)
    uniform, _ = episodic.trajectory_entropy(P, 10, uniform=True)
    np.testing.assert_allclose([best[0], uniform[0]], [11.115425, 11.019060], rtol=0, atol=1e-6)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="num_states must be a whole number >= 2, got 1"):
        NoisyChainEnv(1)
