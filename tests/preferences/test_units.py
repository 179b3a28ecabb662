"""Segments to the units of spaces and back, against what environments themselves take and show."""

import json
import re
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from rlentropy import neural
from rlentropy.errors import InputError
from rlentropy.preferences.rows import Row
from rlentropy.preferences.segments import Segments
from rlentropy.preferences.units import UNKNOWN, Units

T = 4
BOX = Box(-np.ones((2, 2), np.float32), np.ones((2, 2), np.float32))
SPACES = {
    "pendulum": (Box(-8.0, 8.0, (3,)), Box(np.float32(-2.0), np.float32(2.0), (1,))),
    "odd bounds": (BOX, Box(np.array([-1.0, -np.inf]), np.array([5.0, 3.0]), dtype=np.float64)),
    "discrete": (Discrete(5, start=3), Discrete(3, start=-1)),
    "binary": (MultiBinary(4), MultiDiscrete([2, 3], start=[1, 0])),
    "pixels": (Box(0, 255, (2, 3), np.uint8), MultiBinary([2, 1])),
}


def row_of(units, segment, **more):
    cells = {
        "states_a": json.loads(json.dumps(units.observations(segment).tolist())),
        "actions_a": json.loads(json.dumps(units.actions(segment).tolist())),
        "terminated_a": bool(segment.terminated[0]),
    }
    return Row("pairs", Path("p.jsonl"), 7, cells | more)


def drawn(spaces, rng, length):
    """A segment as networks have it, of random observations and normal actions."""
    encode, head = neural.spaces.Encoder.of(spaces[0]), neural.spaces.make_head(spaces[1])
    spaces[0].seed(int(rng.integers(2**31)))
    seen = [spaces[0].sample() for _ in range(T + 1)]
    outputs = rng.normal(size=(T, head.num_outputs)).astype(np.float32)
    actions = head.choose(outputs, head.noise(rng, (T,))).astype(head.dtype)
    states = encode(np.array(seen))
    states[length + 1 :], actions[length:] = 0, 0
    return seen[: length + 1], Segments(
        states[None], actions[None], np.zeros((1, T)), np.array([length]), np.array([True]),
        np.array([UNKNOWN]),
    )  # fmt: skip


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("length", [0, 1, T])
def test_networks(name, length, rng):
    spaces = SPACES[name]
    units = Units(*spaces, tabular=False)
    seen, segment = drawn(spaces, rng, length)
    assert units.fit(segment)
    np.testing.assert_array_equal(units.observations(segment), np.array(seen))
    given = neural.spaces.make_head(spaces[1]).to_space(segment.actions[0, :length])
    did = units.actions(segment)
    if isinstance(spaces[1], Box):  # what the environment took is clipped
        did = np.clip(did, spaces[1].low, spaces[1].high)
    np.testing.assert_allclose(did, given, rtol=1e-6)
    back = units.segment(row_of(units, segment), "a", T, None)
    assert back.digests() == segment.digests()
    for one, other in ((back.states, segment.states), (back.actions, segment.actions)):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert (back.starts.tolist(), back.rewards.shape) == ([UNKNOWN], (1, T))


def test_tables(rng):
    units = Units(Discrete(5, start=1), Discrete(2, start=1), tabular=True, num_states=6)
    segment = Segments(
        np.array([[0, 4, 5, 5, 5]]), np.array([[1, 0, 0, 0]]), np.zeros((1, T)), np.array([2]),
        np.array([True]), np.array([0]),
    )  # fmt: skip
    assert units.fit(segment)
    assert units.observations(segment).tolist() == [1, 5, 6]  # the model has an end of its own
    assert units.actions(segment).tolist() == [2, 1]
    back = units.segment(row_of(units, segment), "a", T, None)
    assert back.digests() == segment.digests()
    np.testing.assert_array_equal(back.states, segment.states)
    assert back.starts.tolist() == [0]
    assert units.segment(row_of(units, segment), "a", T, 9).starts.tolist() == [9]


def test_what_is_played_can_be_written_and_read(rng):
    """Actions in the units of the space lead an environment through the states beside them."""
    env = gymnasium.make("Pendulum-v1")
    units = Units.of(env, False)
    observation, _ = env.reset(seed=4)
    states, actions = [observation], rng.uniform(-2, 2, size=(T, 1)).astype(np.float32)
    for action in actions:
        states.append(env.step(action)[0])
    cells = {"states_b": np.array(states).tolist(), "actions_b": actions.tolist()}
    found = units.segment(Row("pairs", Path("p"), 1, cells), "b", T, 4)
    np.testing.assert_array_equal(found.states[0], np.array(states))
    env.reset(seed=4)
    for action, after in zip(units.actions(found), states[1:], strict=True):
        np.testing.assert_allclose(env.step(action.astype(np.float32))[0], after, rtol=1e-5)


def test_spaces_that_do_not_fit(rng):
    _, segment = drawn(SPACES["pendulum"], rng, 2)
    assert not Units(BOX, SPACES["pendulum"][1], False).fit(segment)
    assert not Units(SPACES["pendulum"][0], Discrete(1), False).fit(segment)
    assert not Units(Discrete(3), Discrete(2), True).fit(segment)
    table = Segments(*(np.zeros((1, 2), np.int64),) * 6)
    assert not Units(*SPACES["pendulum"], True).fit(table)
    assert not Units(*SPACES["pendulum"], False).fit(table)


@pytest.mark.parametrize(
    ("name", "cells", "why"),
    [
        ("discrete", {"actions_a": [0] * 5}, "actions_a of at most 4 steps, got 5 in row 7"),
        ("discrete", {"states_a": [3]}, "states_a one more than actions_a, 3 here, got 1"),
        ("discrete", {"states_a": [3, 4, 8]}, "states_a in Discrete(5, start=3), got 8 in row 7"),
        ("discrete", {"states_a": [3, 4, 4.5]}, "states_a in Discrete(5, start=3), got 4.5"),
        ("discrete", {"actions_a": [0, 2]}, "actions_a in Discrete(3, start=-1), got 2"),
        ("discrete", {"states_a": [[3], [4], [5]]}, "states_a of shape ('n',), got (3, 1)"),
        ("discrete", {"states_a": [1e300] * 3}, "states_a in Discrete(5, start=3)"),
        ("binary", {"states_a": [[0, 1, 2, 0]] * 3}, "states_a in MultiBinary(4), got [0.0, 1.0"),
        ("binary", {"actions_a": [[1, 0], [3, 0]]}, "actions_a in MultiDiscrete([2 3]"),
        ("pendulum", {"states_a": [[1e300] * 3] * 3}, "states_a within single precision, got more"),
        ("pendulum", {"states_a": [[1.0, 2.0]] * 3}, "states_a of shape ('n', 3), got (3, 2)"),
        ("pendulum", {"terminated_a": "maybe"}, "terminated_a as true or false"),
    ],
)
def test_cells_that_are_not_of_the_spaces(name, cells, why, rng):
    units = Units(*SPACES[name], tabular=False)
    _, segment = drawn(SPACES[name], rng, 2)
    with pytest.raises(InputError, match=re.escape(f"pairs must have {why}")):
        units.segment(row_of(units, segment, **cells), "a", T, None)


def test_a_table_has_no_more_states_than_its_model(rng):
    units = Units(Discrete(5), Discrete(2), tabular=True, num_states=5)
    cells = {"states_a": [4, 5], "actions_a": [0]}
    with pytest.raises(InputError, match=r"states_a in Discrete\(5\), got 5"):
        units.segment(Row("pairs", Path("p"), 1, cells), "a", T, None)
