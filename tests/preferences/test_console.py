"""A person at the console, played by a list of lines."""

import numpy as np
import pytest

from rlentropy.preferences.console import ask_person, side_by_side
from rlentropy.preferences.judges import conflict_rate
from rlentropy.preferences.segments import Pairs, Segments
from rlentropy.preferences.store import Store

nan = float("nan")


def pairs(rng, n):
    def some():
        return Segments(
            rng.integers(64, size=(n, 4)), rng.integers(4, size=(n, 3)), np.zeros((n, 3)),
            np.full(n, 3), np.zeros(n, bool), np.zeros(n, int),
        )  # fmt: skip

    return Pairs(some(), some())


class Person:
    """Types lines, and sees what is shown; what it is asked for is counted."""

    def __init__(self, lines, before=None):
        self.lines, self.seen, self.before = list(lines), [], before

    def read(self, prompt):
        assert prompt == "l/r/t/s/u> "
        if self.before is not None:
            self.before()
        if not self.lines:
            raise EOFError
        return self.lines.pop(0)

    def console(self, **more):
        return {"read": self.read, "show": self.seen.append, **more}


def test_keys_mean_what_is_shown(tmp_path, rng):
    store, left = Store(tmp_path), np.array([True, False, True, False, True, False])
    store.ask(0, pairs(rng, 6), shown_left=left)
    person = Person(["l", "l", " R ", "right", "tie", "s"])
    clock = iter(range(100))
    given = ask_person(store, 0, **person.console(labeller="anna", clock=lambda: next(clock)))
    assert given == 6
    np.testing.assert_array_equal(store.answers(0), [1, 0, 0, 1, 0.5, nan])
    assert {row["labeller"] for row in store.records()} == {"anna"}
    assert {row["duration_ms"] for row in store.records()} == {1000.0}


def test_each_answer_is_written_before_the_next_question(tmp_path, rng):
    store, counts = Store(tmp_path), []
    store.ask(0, pairs(rng, 4))
    person = Person(["l"] * 4, before=lambda: counts.append(Store(tmp_path).count()))
    ask_person(store, 0, **person.console())
    assert counts == [0, 1, 2, 3]


def test_undo_and_what_is_no_key(tmp_path, rng):
    store = Store(tmp_path)
    store.ask(0, pairs(rng, 3), shown_left=True)
    person = Person(["u", "x", "", "l", "l", "undo", "r", "u", "u", "r", "t", "t"])
    assert ask_person(store, 0, **person.console()) == 3
    np.testing.assert_array_equal(store.answers(0), [0, 0.5, 0.5])
    assert person.seen.count("there is nothing to undo") == 1
    assert sum(text.startswith("l left is better") for text in person.seen) == 2
    assert [row["answer"] for row in store.records()].count("undo") == 3


def test_the_end_of_input_leaves_the_rest_to_others(tmp_path, rng):
    store = Store(tmp_path)
    store.ask(2, pairs(rng, 3))
    assert ask_person(store, 2, **Person(["l"]).console()) == 1
    assert store.pending(2) == [1, 2]
    assert ask_person(Store(tmp_path), 2, **Person(["r", "r"]).console()) == 2
    assert ask_person(store, 2, **Person([]).console()) == 0


def test_another_front_end_was_quicker(tmp_path, rng):
    store = Store(tmp_path)
    store.ask(0, pairs(rng, 2), shown_left=True)
    page = iter([lambda: store.answer(0, 0, 0.0), lambda: None])
    assert ask_person(store, 0, **Person(["l", "l"], before=lambda: next(page)()).console()) == 1
    np.testing.assert_array_equal(store.answers(0), [0, 1])


def test_some_questions_come_again_with_their_sides_changed(rng):
    store, n = Store(None), 200
    store.ask(0, pairs(rng, n))
    assert store.settle(0) is False
    always_left = Person(["l"] * 2 * n)
    assert ask_person(store, 0, **always_left.console(mirror=0.1)) == n
    again = store.answers(0, asking="mirror")
    share = (~np.isnan(again)).mean()
    assert abs(share - 0.1) < 4 * np.sqrt(0.09 / n)
    assert conflict_rate(store.answers(0), again) == 1.0
    assert ask_person(store, 0, **Person([]).console(mirror=0.1)) == 0


def test_skips_do_not_come_again_and_mirrors_can_end(tmp_path, rng):
    store = Store(tmp_path)
    store.ask(0, pairs(rng, 3))
    ask_person(store, 0, **Person(["s", "l", "l", "u", "l"]).console(mirror=1.0))
    assert store.pending(0, asking="mirror") == [0, 2]


def test_two_columns(tmp_path, rng, monkeypatch):
    store, asked = Store(tmp_path), pairs(rng, 2)
    store.ask(0, asked, shown_left=[True, False])

    def text(segment):
        return f"start {segment.states[0, 0]}\nlonger \x1b[2J line"

    monkeypatch.setenv("COLUMNS", "80")
    first, second = asked.a.states[:, 0], asked.b.states[:, 0]
    for i, (left, right) in enumerate([(first[0], second[0]), (second[1], first[1])]):
        assert list(side_by_side(store.question(0, i), text)) == [
            f"{'LEFT':16}   |   RIGHT",
            f"{f'start {left}':16}   |   start {right}",
            "longer ?[2J line   |   longer ?[2J line",
        ]
    monkeypatch.setenv("COLUMNS", "30")
    assert list(side_by_side(store.question(0, 0), text))[:4] == [
        *("LEFT", f"start {first[0]}", "longer ?[2J line", ""),
    ]


def test_the_console_needs_a_question(tmp_path):
    assert ask_person(Store(tmp_path), 0, **Person(["l"]).console()) == 0
    with pytest.raises(EOFError):
        Person([]).read("l/r/t/s/u> ")
