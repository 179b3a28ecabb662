"""What others read of a store, against what was put in."""

import json

import numpy as np
from gymnasium.spaces import Discrete

from rlentropy.preferences.export import as_text, json_lines, sides_chosen, trl_rows
from rlentropy.preferences.segments import Pairs, Segments
from rlentropy.preferences.store import Store
from rlentropy.preferences.units import Units

nan = float("nan")
PARTS = ("length", "terminated", "actions", "states")


def two():
    """Two pairs of a table: three steps that are cut, against one that ends."""
    a = Segments(
        np.array([[4, 5, 6, 7], [1, 2, 3, 4]]), np.array([[0, 1, 2], [3, 3, 3]]),
        np.ones((2, 3)), np.array([3, 3]), np.zeros(2, bool), np.array([4, 1]),
    )  # fmt: skip
    b = Segments(
        np.array([[4, 8, 99, 99], [1, 9, 99, 99]]), np.array([[3, 99, 99], [2, 99, 99]]),
        np.ones((2, 3)), np.array([1, 1]), np.ones(2, bool), np.array([4, 1]),
    )  # fmt: skip
    return Pairs(a, b)


def test_segments_as_text():
    assert as_text(two().a.take([0])) == "start 4\n1: 0 -> 5\n2: 1 -> 6\n3: 2 -> 7\ncut"
    assert as_text(two().b.take([1])) == "start 1\n1: 2 -> 9\nend"
    vectors = Segments(
        np.array([[[0.5, -1.25], [1e-9, 2.0]]]), np.array([[[0.12345]]]), np.zeros((1, 1)),
        np.array([1]), np.array([True]), np.array([0]),
    )  # fmt: skip
    assert as_text(vectors) == "start [ 0.5  -1.25]\n1: [0.123] -> [0. 2.]\nend"


def test_json_lines():
    store = Store(None, {"env_id": "X-v0"})
    store.ask(0, two(), score=[nan, 0.5])
    store.answer(0, 0, 1.0)
    store.undo(0)
    units = Units(Discrete(50, start=100), Discrete(4, start=7), tabular=True)
    lines = [json.loads(line) for line in json_lines(store, units)]
    assert [line["answer"] for line in lines] == ["a", "undo", None]
    first = {name: lines[0][f"{name}_b"] for name in (*PARTS, "segment")}
    assert first == {
        "segment": two().b.digests()[0], "length": 1, "terminated": True,
        "actions": [10], "states": [104, 108],
    }  # fmt: skip
    assert lines[2]["actions_a"] == [10, 10, 10]
    assert lines[2]["states_a"] == [101, 102, 103, 104]
    bare = json.loads(next(json_lines(store)))
    assert (bare["length_a"], "states_a" in bare) == (3, False)
    assert (lines[0]["score"], lines[2]["score"], lines[2]["env_id"]) == (None, 0.5, "X-v0")


def test_rows_for_trl():
    store, pairs = Store(None), two()
    store.ask(0, pairs)
    store.ask(1, pairs)
    store.answer_all(0, 0, [1.0, 0.0])
    store.answer_all(1, 0, [0.5, nan])
    store.answer(0, 0, 0.0, asking="mirror")
    assert list(trl_rows(store)) == [
        {
            "prompt": "start 4\n",
            "chosen": "1: 0 -> 5\n2: 1 -> 6\n3: 2 -> 7\ncut",
            "rejected": "1: 3 -> 8\nend",
        },
        {
            "prompt": "start 1\n",
            "chosen": "1: 2 -> 9\nend",
            "rejected": "1: 3 -> 2\n2: 3 -> 3\n3: 3 -> 4\ncut",
        },
    ]


def test_sides_that_were_chosen():
    store, pairs = Store(None), two()
    store.ask(0, pairs, margin=[2.0, -3.0], shown_left=[True, False])
    store.ask(1, pairs, margin=nan)
    store.answer_all(0, 0, [1.0, 1.0])
    store.answer(0, 1, 0.5, asking="mirror")
    store.answer(0, 0, 0.0, asking="judge")
    store.answer_all(1, 0, [1.0, 0.0])
    store.ask(2, pairs, margin=[1.0, 1.0])
    store.answer_all(2, 0, [1.0, 0.0], "judge of mine")  # who reads both orders
    margins, left = sides_chosen(store.records())
    np.testing.assert_array_equal(margins, [2.0, 3.0, -3.0])
    np.testing.assert_array_equal(left, [1.0, 0.0, 0.5])
