"""Ways over boards, by hand."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete

from rlentropy.preferences.boards import board, describing, shown_states
from rlentropy.preferences.export import as_text
from rlentropy.preferences.segments import Segments


class Grid(gymnasium.Env):
    """Six cells; action 1 ends in the next one, but from the first in one of two."""

    observation_space, action_space = Discrete(6), Discrete(2)
    grid_shape = (2, 3)

    def __init__(self):
        self.P = {
            s: {0: [(1.0, (s + 1) % 6, 0.0, False)], 1: [(1.0, (s + 1) % 6, 0.0, True)]}
            for s in range(6)
        }
        self.P[0][1] = [(0.5, 1, 0.0, True), (0.5, 5, 0.0, True), (0.0, 2, 0.0, True)]


def segment(states, actions, padding=2):
    T = len(actions)
    behind = [0] * padding
    return Segments(
        np.array([[*states, *behind]]), np.array([[*actions, *behind]]),
        np.zeros((1, T + padding)), np.array([T]), np.array([False]), np.array(states[:1]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("states", "rows"),
    [
        ([4], ["...", ".@."]),
        ([0, 1, 4], ["o*.", ".@."]),
        ([0, 1, 2, 1], ["o@*", "..."]),
        ([3, 4, 3], ["...", "@*."]),
    ],
)
def test_the_way(states, rows):
    assert board(Grid(), states) == rows


def test_letters_of_a_map_stay_and_other_states_have_no_board():
    lake = gymnasium.make("FrozenLake-v1")
    assert board(lake, [0, 4, 8]) == ["oFFF", "*HFH", "@FFH", "HFFG"]
    assert board(gymnasium.make("Taxi-v4"), [3]) == []
    assert board(gymnasium.make("CartPole-v1"), [3]) == []


@pytest.mark.parametrize(
    ("states", "actions", "shown"),
    [
        ([0, 1, 2], [0, 0], [0, 1, 2]),
        ([0, 1, 6], [0, 1], [0, 1, 2]),
        ([5, 0, 6], [0, 1], [5, 0, 0]),
        ([3], [], [3]),
    ],
)
def test_states_behind_the_table(states, actions, shown):
    """6 is one that the model adds."""
    assert shown_states(Grid(), segment(states, actions)) == shown


def test_descriptions_of_tables_have_their_board():
    made = []

    def make():
        made.append(Grid())
        return made[0]

    describe = describing(make)
    vectors = Segments(
        np.zeros((1, 3, 2)), np.zeros((1, 2, 1)), np.zeros((1, 2)), np.array([2]),
        np.array([False]), np.array([0]),
    )  # fmt: skip
    assert describe(vectors) == as_text(vectors)
    assert not made
    part = segment([0, 1, 2], [0, 0])
    for _ in range(2):
        assert describe(part) == "start 0\no*@\n...\n1: 0 -> 1\n2: 0 -> 2\ncut"
    assert len(made) == 1


def test_without_an_environment_there_is_no_board():
    def make():
        made.append(1)
        raise RuntimeError("no licence")

    made, part = [], segment([0, 1], [0])
    describe = describing(make)
    assert [describe(part), describe(part)] == [as_text(part)] * 2
    assert made == [1]
