"""StakesGrid against its description, cell by cell."""

import gymnasium
import numpy as np
import pytest

import rlentropy  # noqa: F401  (registers the id)
from rlentropy.envs.stakes_grid import StakesGridEnv, cell_rewards, windy_kernel

MOVES = [(0, -1), (0, 1), (-1, 0), (1, 0)]  # left, right, up, down


def after(size, s, a):
    row, column = s // size + MOVES[a][0], s % size + MOVES[a][1]
    return row * size + column if 0 <= row < size and 0 <= column < size else s


@pytest.mark.parametrize("wind", [0.0, 0.4, 1.0])
def test_the_kernel_by_hand(wind):
    size = 3
    P = np.zeros((9, 4, 9))
    for s in range(9):
        for a in range(4):
            P[s, a, after(size, s, a)] += 1.0 - wind
            for b in range(4):
                P[s, a, after(size, s, b)] += wind / 4
    np.testing.assert_allclose(windy_kernel(size, wind).toarray().reshape(9, 4, 9), P, atol=1e-15)
    env = StakesGridEnv(size, corner=1, wind=wind)
    assert (env.mdp.P.data > 0.0).all()
    np.testing.assert_allclose(env.mdp.P.toarray().reshape(9, 4, 9), P, atol=1e-15)


def test_rewards_are_smooth_standard_and_larger_in_the_corner():
    plain = cell_rewards(10, 15.0, 0, seed=3)
    assert plain.mean() == pytest.approx(0.0, abs=1e-12)
    assert plain.std() == pytest.approx(1.0)
    field = plain.reshape(10, 10)
    beside = np.mean(field[:, 1:] * field[:, :-1])
    far = np.mean(field[:, 5:] * field[:, :-5])
    assert beside > 0.7 > far
    staked = cell_rewards(10, 15.0, 4, seed=3).reshape(10, 10)
    corner = np.zeros((10, 10), bool)
    corner[6:, 6:] = True
    np.testing.assert_allclose(staked[corner], 15.0 * field[corner])
    np.testing.assert_array_equal(staked[~corner], field[~corner])
    assert not np.allclose(plain, cell_rewards(10, 15.0, 0, seed=4))
    np.testing.assert_array_equal(plain, cell_rewards(10, 15.0, 0, seed=3))


def test_entering_a_cell_pays_its_reward():
    env = gymnasium.make("rlentropy/StakesGrid-v0", size=5, corner=2, map_seed=1)
    rewards = cell_rewards(5, 15.0, 2, 1)
    s, _ = env.reset(seed=0)
    rng, steps = np.random.default_rng(0), 0
    while True:
        a = int(rng.integers(4))
        new, reward, terminated, truncated, _ = env.step(a)
        assert new == after(5, s, a)
        assert reward == pytest.approx(rewards[new])
        assert not terminated
        s, steps = new, steps + 1
        if truncated:
            break
    assert steps == 12


def test_starts_are_uniform_and_nothing_ends():
    mdp = StakesGridEnv(4, corner=1).mdp
    np.testing.assert_allclose(mdp.mu, 1 / 16)
    assert not mdp.terminal.any()
    assert mdp.num_actions == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 1}, "size must be"),
        ({"corner": -1}, "corner must be"),
        ({"wind": 1.5}, "wind must be"),
        ({"map_seed": -1}, "map_seed must be"),
        ({"stakes": np.inf}, "stakes must be finite, got inf"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        StakesGridEnv(**options)
