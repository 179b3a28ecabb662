"""The point maze: its dynamics by hand, its walls, its rewards."""

import gymnasium
import numpy as np
import pytest

import rlentropy  # noqa: F401  (registers the id)
from rlentropy.envs.point_maze import FASTEST, MAZES, PointMazeEnv
from rlentropy.errors import InputError

ID = "rlentropy/PointMaze-v0"


def at(env, x, y, vx=0.0, vy=0.0):
    env.reset(seed=0)
    env.x, env.y, env.vx, env.vy = x, y, vx, vy
    return env


def test_free_motion_by_hand():
    env = at(PointMazeEnv("open"), 2.5, 2.5, 0.1, 0.0)
    x, reward, *flags, info = env.step(np.array([0.5, -3.0], np.float32))  # the second is cut off
    np.testing.assert_allclose(x, [2.61, 2.46, 0.11, -0.04], rtol=1e-6)
    assert reward == pytest.approx(-np.hypot(3.5 - 2.61, 3.5 - 2.46))
    assert flags == [False, False]
    assert info == {}
    for _ in range(10):
        x, *_ = at(env, 2.0, 2.0, FASTEST).step(np.ones(2, np.float32))
    assert x[2] == np.float32(FASTEST)


def test_walls_stop_the_point_along_their_normal_alone():
    env = at(PointMazeEnv("open"), 1.1, 2.5, -0.3, 0.1)
    x, *_ = env.step(np.zeros(2, np.float32))
    np.testing.assert_allclose(x, [1.1, 2.59, 0.0, 0.09], rtol=1e-6)


@pytest.mark.parametrize("maze", MAZES)
def test_the_point_stays_in_free_cells_and_in_the_space(maze, rng):
    env = PointMazeEnv(maze)
    for seed in range(20):
        x, _ = env.reset(seed=seed)
        pull = rng.uniform(-1.0, 1.0, 2)
        for _ in range(100):
            assert x.dtype == np.float32
            assert env.observation_space.contains(x)
            assert MAZES[maze][int(x[1])][int(x[0])] != "#"
            pull = np.clip(pull + rng.normal(0.0, 0.3, 2), -1.0, 1.0)
            x, *_ = env.step(pull.astype(np.float32))


def test_starts_are_anywhere_and_seeds_fix_them():
    env = PointMazeEnv("u")
    starts = np.array([env.reset(seed=k)[0] for k in range(400)])
    assert len({(int(x), int(y)) for x, y, *_ in starts}) == len(env.cells)
    assert not starts[:, 2:].any()
    np.testing.assert_array_equal(env.reset(seed=7)[0], starts[7])


def test_sparse_rewards_end_at_the_goal():
    env = gymnasium.make(ID, maze="open", reward="sparse")
    env.reset(seed=0)
    at(env.unwrapped, 2.2, 3.5)
    rewards, terminated = [], False
    while not terminated:
        _, reward, terminated, truncated, _ = env.step(np.array([1.0, 0.0], np.float32))
        rewards.append(reward)
        assert not truncated
    assert rewards == [0.0] * (len(rewards) - 1) + [1.0]
    assert np.hypot(env.unwrapped.x - 3.5, env.unwrapped.y - 3.5) <= 0.5


def test_dense_episodes_are_cut_at_their_limit():
    env = gymnasium.make(ID)
    env.reset(seed=0)
    flags = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(100)]
    assert flags == [(False, False)] * 99 + [(False, True)]


def test_frames_show_the_point():
    env = gymnasium.make(ID, render_mode="rgb_array")
    env.reset(seed=3)
    before = env.render()
    for _ in range(10):
        env.step(np.ones(2, np.float32))
    after = env.render()
    assert before.shape == (7 * 56, 7 * 56, 3)
    assert before.dtype == np.uint8
    assert (before != after).any()
    assert PointMazeEnv().render() is None


def test_the_text_has_the_point_in_its_cell():
    env = gymnasium.make(ID, render_mode="ansi")
    env.reset(seed=0)
    base = env.unwrapped
    lines = env.render().splitlines()
    assert [len(line) for line in lines] == [len(row) for row in base.rows]
    assert lines[int(base.y)][int(base.x)] == "o"
    assert "".join(lines).count("o") == 1


def test_mazes_of_ones_own():
    env = PointMazeEnv(("####", "#G #", "####"))
    assert env.cells == [(1, 1), (2, 1)]
    for maze, message in (
        (("###", "#G", "###"), "maze must be rows of '#', ' ' and 'G' of one length"),
        (("###", "#X#", "###"), "maze must be rows of '#', ' ' and 'G' of one length"),
        ((), "maze must be rows of"),
        (("####", "#G  ", "####"), "maze must be walled in by '#'"),
        (("####", "#  #", "####"), "maze must have one goal 'G', got 0"),
    ):
        with pytest.raises(InputError, match=message):
            PointMazeEnv(maze)


def test_every_free_cell_is_reached_from_every_other():
    for rows in MAZES.values():
        free = {(x, y) for y, row in enumerate(rows) for x, cell in enumerate(row) if cell != "#"}
        reached, edge = set(), {min(free)}
        while edge:
            reached |= edge
            edge = {
                (x + dx, y + dy) for x, y in edge for dx, dy in ((0, 1), (1, 0), (0, -1), (-1, 0))
            }
            edge = (edge & free) - reached
        assert reached == free


def test_episodes_start_in_a_cell_of_ones_own(rng):
    env = PointMazeEnv("large", start=(10, 7))
    starts = np.array([env.reset(seed=k)[0] for k in range(300)])
    inside = starts[:, :2] - (10, 7)
    assert ((inside >= 0.05) & (inside <= 0.95)).all()
    error = 0.9 / np.sqrt(12 * 300)
    np.testing.assert_allclose(inside.mean(axis=0), 0.5, rtol=0, atol=4 * error)
    assert not starts[:, 2:].any()


def test_the_goal_is_moved():
    env = PointMazeEnv("large", "sparse", goal=(1, 1), render_mode="ansi")
    assert env.goal == (1.5, 1.5)
    _, reward, terminated, *_ = at(env, 1.2, 1.4).step(np.zeros(2, np.float32))
    assert (reward, terminated) == (1.0, True)
    at(env, 5.5, 3.5)
    lines = env.render().splitlines()
    assert lines[1][1] == "G"
    assert "".join(lines).count("G") == 1
    assert env.render() == PointMazeEnv(env.rows, start=(5, 3), render_mode="ansi").text(env.state)
    assert PointMazeEnv("large").goal == PointMazeEnv("large", goal=(10, 7)).goal == (10.5, 7.5)


def test_features_are_places_inside_the_outer_walls():
    env = PointMazeEnv("large")
    assert env.feature_names == ("x", "y")
    assert env.feature_ranges == ((1.0, 11.0), (1.0, 8.0))
    assert env.feature_bins == (20, 14)
    np.testing.assert_array_equal(env.features(np.array([[1.5, 2.5, 0.1, 0.2]])), [[1.5, 2.5]])


@pytest.mark.parametrize(("options", "message"), [
    ({"start": (0, 0)}, r"start must be a free cell \(column, row\), got \(0, 0\)"),
    ({"start": 3}, r"start must be a free cell \(column, row\), got 3"),
    ({"goal": (1, 3)}, r"goal must be a free cell \(column, row\), got \(1, 3\)"),
    ({"goal": (1.5, 1.5)}, r"goal must be a free cell \(column, row\), got \(1.5, 1.5\)"),
    ({"maze": "roms"}, "maze must be one of open, u, rooms, .*, got 'roms'; did you mean rooms"),
    ({"reward": "none"}, "reward must be one of dense, sparse, got 'none'"),
    ({"render_mode": "human"}, "render_mode must be one of ansi, rgb_array, got 'human'"),
])  # fmt: skip
def test_unknown_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        PointMazeEnv(**options)
