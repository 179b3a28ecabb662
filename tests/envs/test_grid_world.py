import tracemalloc

import numpy as np
import pytest
from oracles import episodic, models

from rlentropy.envs.grid_world import GridWorldEnv


def papers_kernel(n: int, success: float) -> np.ndarray:
    P = np.zeros((n, n, 4, n, n))
    for i in range(n):
        for j in range(n):
            ways = {0: (i, j - 1), 1: (i, j + 1), 2: (i - 1, j), 3: (i + 1, j)}
            valid = {a: x for a, x in ways.items() if 0 <= x[0] < n and 0 <= x[1] < n}
            for a in range(4):
                if a not in valid:
                    P[i, j, a, i, j] = 1.0
                    continue
                P[i, j, a][valid[a]] = success
                for b in valid.keys() - {a}:
                    P[i, j, a][valid[b]] = (1.0 - success) / (len(valid) - 1)
    return P.reshape(n * n, 4, n * n)


@pytest.mark.parametrize(
    ("size", "success"), [(21, 0.95), (4, 0.5), (3, 1.0), (3, 0.0), (2, 0.95), (1, 0.95)]
)
def test_kernel_is_the_papers(size: int, success: float) -> None:
    mdp = GridWorldEnv(size, success).mdp
    np.testing.assert_allclose(models.dense(mdp), papers_kernel(size, success), rtol=0, atol=1e-15)


def test_437_states_are_within_the_nineteen_moves_of_an_episode() -> None:
    mdp = GridWorldEnv().mdp
    assert mdp.mu[10 * 21 + 10] == 1.0
    step = models.dense(mdp).sum(axis=1) > 0
    seen = mdp.mu > 0
    for _ in range(19):
        seen = seen | (seen @ step)
    assert seen.sum() == 437
    np.testing.assert_array_equal(np.flatnonzero(~seen), [0, 20, 420, 440])


def test_goal_pays_on_every_step_that_ends_there() -> None:
    env = GridWorldEnv(3, 1.0, goal_reward=5.0)
    env.reset(seed=0)
    for s, a, gain in [(7, 1, 5.0), (5, 3, 5.0), (8, 1, 5.0), (8, 0, 0.0), (4, 3, 0.0)]:
        env.state = s
        assert env.step(a)[1] == gain
    mdp = GridWorldEnv(3, 0.5, goal_reward=5.0).mdp
    np.testing.assert_array_equal(mdp.r, 5.0 * mdp.P.toarray()[:, 8].reshape(9, 4))


def test_reward_leaves_the_dynamics_alone() -> None:
    a, b = GridWorldEnv(4).mdp, GridWorldEnv(4, goal_reward=0.0).mdp
    np.testing.assert_array_equal(models.dense(a), models.dense(b))
    assert not b.r.any()


def test_trajectory_entropy_optimum() -> None:
    P = models.dense(GridWorldEnv().mdp)
    best, _ = episodic.trajectory_entropy(P, 20)
    uniform, _ = episodic.trajectory_entropy(P, 20, uniform=True)
    np.testing.assert_allclose(best[220], 32.5409509257, rtol=0, atol=1e-9)  # exploration §6.4
    np.testing.assert_allclose(uniform[220], 32.5408790323, rtol=0, atol=1e-9)


def test_a_large_grid_stays_sparse() -> None:
    tracemalloc.start()
    mdp = GridWorldEnv(300).mdp
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mdp.num_states == 90_000
    assert peak < 1e9


def test_text_is_the_grid() -> None:
    env = GridWorldEnv(3, 1.0, render_mode="ansi")
    env.reset(seed=0)
    env.step(2)
    assert env.render() == ".@.\n.o.\n...\nstep 1   state 1   action up   reward 0"
    assert env.grid_shape == (3, 3)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="size must be a whole number >= 1, got 0"):
        GridWorldEnv(0)
    with pytest.raises(ValueError, match=r"success_probability must be .* \[0, 1\], got -0\.1"):
        GridWorldEnv(success_probability=-0.1)
    with pytest.raises(ValueError, match="goal_reward must be finite, got nan"):
        GridWorldEnv(goal_reward=float("nan"))
