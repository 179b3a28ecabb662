"""Data for another task, against a loop over episodes that knows nothing of columns."""

import itertools

import numpy as np
import pytest
from examples.datasets import KEYS, made
from gymnasium.spaces import Box, Discrete
from hypothesis import given
from hypothesis import strategies as st

from rlentropy.data import Transitions, load, relabel, save
from rlentropy.data.relabel import terminated_elsewhere, with_goal, with_reward
from rlentropy.errors import InputError


def line(states, flags, **spaces):
    """Episodes of states on a line, each given with all its observations, and "t" or "c"."""
    rows = [
        (s, int(s2 > s), 7.0, s2, k == len(episode) - 2 and flag == "t", k == len(episode) - 2)
        for episode, flag in zip(states, flags, strict=True)
        for k, (s, s2) in enumerate(itertools.pairwise(episode))
    ]
    x, a, r, x2, terminated, last = map(np.array, zip(*rows, strict=True))
    return Transitions.from_arrays(x, a, r, x2, terminated, last & ~terminated, **spaces)


def rows(data):
    return [tuple(x.tolist() for x in row) for row in zip(*data.columns, strict=True)]


def by_hand(data, at_goal, reward):
    """Rows of the task, an episode at a time."""
    found, here = [], None
    for s, a, _, s2, terminated, truncated in rows(data):
        here = at_goal(s) if here is None else here
        reaches = at_goal(s2)
        if not here:
            r = -1.0 if reward == "cost" else float(reaches)
            found.append((s, a, r, s2, terminated or reaches, truncated and not reaches))
        here = None if terminated or truncated else reaches
    return found


@given(seed=st.integers(0, 10_000), reward=st.sampled_from(["sparse", "cost"]))
def test_goals_of_states_are_those_of_a_loop(seed, reward):
    rng = np.random.default_rng(seed)
    walks = [
        np.clip(np.cumsum(rng.integers(-1, 2, size=rng.integers(2, 12))) + 3, 0, 6).tolist()
        for _ in range(5)
    ]
    data = line([*walks, [2, 3]], [*rng.choice(["t", "c"], 5), "c"])
    found = with_goal(data, [3], reward=reward)
    assert rows(found) == by_hand(data, lambda s: s == 3, reward)


@given(seed=st.integers(0, 10_000))
def test_goals_of_boxes_are_those_of_a_loop(seed):
    data = made("continuous", seed=seed)
    goal, radius = data.next_observations[17, [2, 0]] + 0.01, 0.9

    def at_goal(x):
        return (x[2] - goal[0]) ** 2 + (x[0] - goal[1]) ** 2 <= radius**2

    found = with_goal(data, goal, radius, (2, 0))
    assert rows(found) == by_hand(data, at_goal, "sparse")
    assert (found.observation_space, found.action_space) == (
        data.observation_space,
        data.action_space,
    )


def test_what_follows_a_goal_is_another_episode():
    data = line([[0, 1, 2, 2, 1, 0, 1, 2]], "c")
    found = with_goal(data, [2])
    assert rows(found) == [
        (0, 1, 0.0, 1, False, False),
        (1, 1, 1.0, 2, True, False),
        (1, 0, 0.0, 0, False, False),
        (0, 1, 0.0, 1, False, False),
        (1, 1, 1.0, 2, True, False),
    ]
    assert found.episode_starts.tolist() == [0, 2]


def test_goals_of_tables_are_terminal_states():
    """As `counts` tells them: nothing leaves them, and all that enters them ends."""
    data = line([[0, 1, 2, 3, 2, 1, 2, 3], [3, 2, 1]], "cc")
    counts = with_goal(data, [2], reward="cost").counts()
    assert counts.terminal.tolist() == [False, False, True, False]
    assert counts.ends.nnz == 0


def test_the_return_of_costs_is_the_number_of_steps():
    data = line([[0, 1, 2, 3], [1, 2, 3], [0, 1, 0]], "ccc")
    assert with_goal(data, [3], reward="cost").returns().tolist() == [-3.0, -2.0, -2.0]
    assert with_goal(data, [3]).returns().tolist() == [1.0, 1.0, 0.0]


def test_ends_elsewhere_stay_and_are_counted():
    data = line([[0, 1, 2], [1, 0], [1, 2, 1]], "tct")
    found = with_goal(data, [2])
    assert terminated_elsewhere(found) == 0
    assert terminated_elsewhere(with_goal(data, [0])) == 2
    assert found.terminations.tolist() == [False, True, False, True]
    assert found.truncations.tolist() == [False, False, True, False]


def test_rewards_of_any_kind(monkeypatch):
    monkeypatch.setattr(relabel, "CHUNK", 3)
    data = made("tabular", N=50)
    nothing = np.zeros(50, bool)
    found = with_reward(data, lambda b: b.rewards + b.actions, lambda x: x < 0)
    for key in KEYS:
        if key != "rewards":
            np.testing.assert_array_equal(getattr(found, key), getattr(data, key))
    np.testing.assert_array_equal(found.rewards, data.rewards + data.actions)
    np.testing.assert_array_equal(found.terminations, nothing)
    assert found.guessed == data.guessed


def test_the_task_is_in_the_metadata_and_the_old_is_no_collection(tmp_path):
    declared = {"observation_space": Discrete(4), "action_space": Discrete(2)}
    data = line([[0, 1, 2]], "c", **declared, metadata={"collections": [1]})
    save(tmp_path / "goal.npz", with_goal(data, 2, 0.25))
    found = load(tmp_path / "goal.npz")
    task = {"goal": [2.0], "radius": 0.25, "features": [0], "reward": "sparse"}
    assert found.metadata == {"relabelled": {"collections": [1]}, "task": task}
    assert (found.observation_space, found.guessed) == (Discrete(4), "")


def test_observations_that_were_rounded_are_of_one_place():
    """A step begins where the one before it ended, though it says so in single precision."""
    x = np.array([0.0, 0.1, 0.2, 0.3])[:, None]
    columns = (x[:-1].astype(np.float32), np.zeros(3, int), np.zeros(3), x[1:])
    data = Transitions.from_arrays(*columns, np.zeros(3, bool), np.arange(3) == 2)
    found = with_goal(data, [0.1])
    assert found.observations[:, 0].tolist() == [0.0, np.float32(0.2)]
    assert found.terminations.tolist() == [True, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.0, 1.0],), "goal must be 3 finite numbers, one a feature of 3 coordinates, got"),
        (([np.nan], 0.1, [0]), "goal must be 1 finite numbers"),
        (([], 0.1, []), "goal must be 0 finite numbers"),
        (("x", 0.1, [0]), r"goal must be numbers \(1,\), got str"),
        (([0.0], -0.1, [0]), r"radius must be >= 0 and finite, got -0.1"),
        (([0.0], 0.1, [3]), "features must be <= 2, got 3"),
        (([0.0], 0.1, [0], "dense"), "reward must be one of sparse, cost, got 'dense'"),
        (([99.0], 0.1, [0]), r"goal must be reached by a step .* got \[99.0\], of which the near"),
        (([0.0], 99.0, [0]), "data must hold steps from outside of the goal, got 150 within"),
    ],
)
def test_goals_that_do_not_suit_the_data(arguments, message):
    with pytest.raises(InputError, match=message):
        with_goal(made("continuous"), *arguments)


def test_functions_that_give_something_else():
    data = made("continuous", N=20)
    with pytest.raises(InputError, match=r"reward must give \(20,\) of 20, got \(\)"):
        with_reward(data, lambda b: 1.0, lambda x: x[:, 0] > 9)
    with pytest.raises(InputError, match=r"terminal must give \(20,\) of 20, got \(20, 3\)"):
        with_reward(data, lambda b: b.rewards, lambda x: x > 9)
    with pytest.raises(InputError, match="terminal must give flags, got float32"):
        with_reward(data, lambda b: b.rewards, lambda x: x[:, 0])
    with pytest.raises(InputError, match="rewards must be finite"):
        with_reward(data, lambda b: b.rewards * np.nan, lambda x: x[:, 0] > 9)


# ---------------------------------------------------------------- learning from them


def corridor(kind, rng):
    """Random walks between 0 and 6, in episodes of 30 steps; actions are steps in a Box, or ±1."""
    n, T = 40, 30
    x = np.full(n, 3.0) + rng.normal(scale=0.1, size=n)
    columns = []
    for t in range(T):
        a = rng.integers(2, size=n) if kind == "discrete" else rng.uniform(-1.0, 1.0, n)
        x2 = np.clip(x + (2.0 * a - 1.0 if kind == "discrete" else a), 0.0, 6.0)
        columns.append((x, a, np.zeros(n), x2, np.zeros(n, bool), np.full(n, t == T - 1)))
        x = x2
    x, a, r, x2, terminated, truncated = (
        np.stack(column, axis=1).ravel() for column in zip(*columns, strict=True)
    )
    x, x2 = (y.astype(np.float32)[:, None] for y in (x, x2))
    actions = a if kind == "discrete" else a.astype(np.float32)[:, None]
    space = Discrete(2) if kind == "discrete" else Box(-1.0, 1.0, (1,))
    spaces = {"observation_space": Box(0.0, 6.0, (1,)), "action_space": space}
    return Transitions.from_arrays(x, actions, r, x2, terminated, truncated, **spaces)


@pytest.mark.parametrize("kind", ["discrete", "continuous"])
@pytest.mark.parametrize("command", ["fqi", "rfzi"])
@pytest.mark.parametrize("reward", ["sparse", "cost"])
def test_learners_go_to_the_goal(kind, command, reward, tmp_path, rng):
    from rlentropy import load_run
    from rlentropy.cli import main

    data = with_goal(corridor(kind, rng), [5.5], 0.6, reward=reward)
    save(tmp_path / "goal.npz", data)
    options = ["--updates", "500", "--hidden", "32", "--batch-size", "64", "--gamma", "0.8"]
    options += ["--learning-rate", "0.003", "--quiet", "--out", str(tmp_path / "run")]
    assert main([command, "--data", str(tmp_path / "goal.npz"), *options]) == 0
    env = type("Spaces", (), vars(data) | {"spec": None})
    policy = load_run(tmp_path / "run", env).policy
    actions = policy.act(np.linspace(1.0, 4.0, 7, dtype=np.float32)[:, None], np.zeros(7, int), rng)
    right = actions == 1 if kind == "discrete" else actions[:, 0] > 0.2
    assert right.mean() > 0.8
