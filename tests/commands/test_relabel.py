"""`relabel` from outside."""

import numpy as np
import pytest
from examples.datasets import made

from rlentropy.data import load, save
from rlentropy.data.relabel import with_goal

GOAL = ("--goal", "0.1,-0.3", "--features", "2,0", "--radius", "0.9")


@pytest.fixture
def explored(tmp_path):
    save(tmp_path / "in.npz", made("continuous"))
    return tmp_path


@pytest.mark.parametrize("reward", ["sparse", "cost"])
def test_it_writes_what_with_goal_gives(explored, command_line, reward):
    out = explored / "out.npz"
    arguments = ("--data", explored / "in.npz", "--out-data", out, *GOAL, "--reward", reward)
    code, told, _ = command_line("relabel", *arguments)
    assert code == 0
    wanted, found = with_goal(made("continuous"), [0.1, -0.3], 0.9, [2, 0], reward), load(out)
    for key in ("observations", "rewards", "terminations", "truncations"):
        np.testing.assert_array_equal(getattr(found, key), getattr(wanted, key))
    assert found.metadata == wanted.metadata
    near = np.hypot(found.next_observations[:, 2] - 0.1, found.next_observations[:, 0] + 0.3) <= 0.9
    said = dict(line.split() for line in told.splitlines() if len(line.split()) == 2)
    assert int(said["steps"]) + int(said["dropped"]) == 150
    assert int(said["reached"]) == near.sum() > 0
    assert int(said["terminated_elsewhere"]) == (found.terminations & ~near).sum() > 0
    assert int(said["episodes"]) == len(found.episode_starts)
    assert ("costs end there, too" in told) == (reward == "cost")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out-data", "y.npz", *GOAL), "data must be a Minari id, or a path"),
        (("--data", "in.npz", *GOAL), "out_data must be a Minari id, or a path"),
        (("--data", "in.npz", "--out-data", "in.npz", *GOAL), "out_data must be new, got in.npz"),
        (("--data", "in.npz", "--out-data", "y.npz"), "goal must be numbers with commas between"),
        (("--data", "in.npz", "--out-data", "y.npz", "--goal", "a,b"), "goal must be numbers"),
        (("--data", "in.npz", "--out-data", "y.npz", "--goal=-9,0,0"), "goal must be reached by"),
        (
            ("--data", "in.npz", "--out-data", "y.npz", "--goal=0", "--features", "1.5"),
            "features must be numbers with commas between, got '1.5'",
        ),
        (("--data", "in.npz", "--out-data", "y.npz", *GOAL, "--radius=-1"), "radius must be >= 0"),
        (("--data", "x.npz", "--out-data", "y.npz", *GOAL), "data must be an existing file"),
        (("--data", "in.npz", "--out-data", "y.csv", *GOAL), "data must be a Minari id"),
    ],
)
def test_refusals_are_one_line_and_write_nothing(explored, command_line, arguments, message):
    """The command line is used in `tmp_path`, which is where the data are."""
    code, _, error = command_line("relabel", *arguments)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert [path.name for path in explored.iterdir()] == ["in.npz"]
