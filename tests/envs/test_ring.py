from math import cos, pi, sin

import numpy as np
import pytest
from oracles import discounted, models

from rlentropy.envs.ring import RingEnv

REWARDS = {
    ("toy10", None): [0, 0, -1, 2, -1, 0, 0, -10, 5, -10, 0, 0.9, 1, 0],
    ("zone", None): [3 * sin(i * pi / 2.05) for i in range(50)]
    + [sin(i * pi / 50) for i in range(50)],
    ("zone2", 100): [4 * sin(i * pi / 2.05) - 1 for i in range(50)]
    + [sin(i * pi / 50) for i in range(50)],
    ("zone", 5): [0.0, 3 * sin(pi / 2.05), 0.0, sin(pi / 3), sin(2 * pi / 3)],
    ("fourier", 1000): [
        sin(i * pi / 1000) + cos(2 * i * pi / 1000) + sin(3 * i * pi / 1000) for i in range(1000)
    ],
}


@pytest.mark.parametrize(("layout", "size"), REWARDS)
def test_rewards_are_the_companions(layout: str, size: int | None) -> None:
    mdp = RingEnv(layout, size).mdp
    expected = np.tile(np.array(REWARDS[layout, size])[:, None], 3)
    np.testing.assert_allclose(mdp.r, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(mdp.mu, 1.0 / mdp.num_states)


@pytest.mark.parametrize(("S", "p"), [(14, 0.15), (3, 0.2), (4, 0.5), (7, 0.0)])
def test_kernel_is_the_specs(S: int, p: float) -> None:
    P = np.zeros((S, 3, S))
    for s in range(S):
        for a in range(3):
            P[s, a, (s + a - 1) % S] = 1 - 2 * p
            P[s, a, (s + a) % S] += p
            P[s, a, (s + a - 2) % S] += p
    mdp = RingEnv("toy10" if S == 14 else "fourier", S, p).mdp
    np.testing.assert_allclose(models.dense(mdp), P, rtol=0, atol=1e-15)


@pytest.mark.parametrize(("p", "optimum"), [(0.01, 71.55682471), (0.15, 16.91444142)])
def test_discounted_optimum(p: float, optimum: float) -> None:
    mdp = RingEnv(p=p).mdp
    V = discounted.action_values(models.dense(mdp), mdp.r, 0.95).max(1)
    np.testing.assert_allclose(V.mean(), optimum, rtol=0, atol=1e-8)  # robust §8.4


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="layout must be one of toy10, zone, zone2, fourier, got"):
        RingEnv("torus")
    with pytest.raises(ValueError, match="num_states must be 14 for toy10, got 100"):
        RingEnv("toy10", 100)
    with pytest.raises(ValueError, match="num_states must be a whole number >= 3, got 2"):
        RingEnv("zone", 2)
    with pytest.raises(ValueError, match=r"p must be a probability in \[0, 0\.5\], got 0\.6"):
        RingEnv(p=0.6)
