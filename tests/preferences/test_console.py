"""A person at the console, played by a list of lines, through a pipe, and at a pseudo-terminal."""

import os
import signal
import sys
import time

import numpy as np
import pytest

from rlentropy.preferences import console
from rlentropy.preferences.console import Front, Lines, Window, note, side_by_side
from rlentropy.preferences.export import SEPARATOR
from rlentropy.preferences.judges import conflict_rate
from rlentropy.preferences.queue import GAP, Queue
from rlentropy.preferences.segments import Pairs, Segments
from rlentropy.preferences.store import Store

nan = float("nan")
unix = pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")


def pairs(rng, n):
    def some():
        return Segments(
            rng.integers(64, size=(n, 4)), rng.integers(4, size=(n, 3)), np.zeros((n, 3)),
            np.full(n, 3), np.zeros(n, bool), np.zeros(n, int),
        )  # fmt: skip

    return Pairs(some(), some())


class Person:
    """Types lines, and sees what is shown; what happens before each can be told."""

    def __init__(self, lines, before=None):
        self.lines, self.seen, self.before, self.prompts = list(lines), [], before, []

    def read(self, prompt, gone):
        self.prompts.append(prompt)
        if self.before is not None:
            self.before()
        if gone():
            return None
        if not self.lines:
            raise EOFError
        return self.lines.pop(0)

    def answers(self, store, stay=lambda: False, queue=None, **more):
        """How many answers were given, until nothing waits or the lines end."""
        more = {"show": self.seen.append, "holder": "here"} | more
        window = Window(queue or Queue(store, mirror=0.0), self.read, **more)
        try:
            window.ask(stay)
        except EOFError:
            assert not self.lines
        return window.given


def test_keys_mean_what_is_shown(tmp_path, rng):
    store, left = Store(tmp_path), np.array([True, False, True, False, True, False])
    store.ask(0, pairs(rng, 6), shown_left=left)
    person = Person(["l", "l", " R ", "right", "tie", "s"])
    clock = iter(range(100))
    ticks = {"clock": lambda: next(clock)}
    assert person.answers(store, labeller="anna", **ticks) == 6
    np.testing.assert_array_equal(store.answers(0), [1, 0, 0, 1, 0.5, nan])
    assert {row["labeller"] for row in store.records()} == {"anna"}
    assert {row["duration_ms"] for row in store.records()} == {1000.0}
    assert person.prompts == ["l/r/t/s/u> "] * 6
    keys, *questions = person.seen
    assert keys.startswith("l left is better, r right is better, t they are equal, s skip, u undo")
    headings = [text.splitlines()[0] for text in questions]
    assert headings[0] == "-- 6 left in round 0, 0 answered --"
    assert headings[5] == "-- 1 left in round 0, 5 answered --"


def test_each_answer_is_written_before_the_next_question(tmp_path, rng):
    store, counts = Store(tmp_path), []
    store.ask(0, pairs(rng, 4))
    person = Person(["l"] * 4, before=lambda: counts.append(Store(tmp_path).count()))
    person.answers(store)
    assert counts == [0, 1, 2, 3]


def test_undo_and_what_is_no_key(tmp_path, rng):
    store = Store(tmp_path)
    store.ask(0, pairs(rng, 3), shown_left=True)
    person = Person(["u", "x", "", "l", "l", "undo", "r", "u", "u", "r", "t", "t"])
    assert person.answers(store) == 3
    np.testing.assert_array_equal(store.answers(0), [0, 0.5, 0.5])
    assert person.seen.count("there is nothing to undo") == 1
    assert sum(text.startswith("l left is better") for text in person.seen[1:]) == 2
    assert [row["answer"] for row in store.records()].count("undo") == 3


def test_the_end_of_input_leaves_the_rest_to_others(tmp_path, rng):
    store = Store(tmp_path)
    store.ask(2, pairs(rng, 3))
    assert Person(["l"]).answers(store) == 1
    assert store.pending(2) == [1, 2]
    other = Person(["r", "r"])  # at once, while a question that nobody leaves takes two minutes
    assert other.answers(Store(tmp_path), holder="elsewhere") == 2
    assert Person([]).answers(store) == 0


@unix
def test_who_was_killed_is_shown_the_same_question(tmp_path, rng, terminal, monkeypatch):
    """A window that never left, in the same terminal, or of the same name where there is none."""

    class Killed(Exception):
        pass

    def killed(prompt, gone):
        raise Killed

    store, seen = Store(tmp_path), []
    store.ask(0, pairs(rng, 2), shown_left=True)

    def show(labeller):
        with pytest.raises(Killed):
            Window(Queue(store), killed, labeller=labeller, show=seen.append).ask()

    show("ann")
    show("ben")
    with open(os.devnull) as file:
        monkeypatch.setattr(sys, "stdin", file)
        show("eve")
        show("eve")
    first, second, third, fourth = seen[1::2]
    assert first == second
    assert third == fourth
    assert first != third


def test_a_prompt_whose_question_is_answered_elsewhere_moves_on(tmp_path, rng):
    store = Store(tmp_path)
    store.ask(0, pairs(rng, 3), shown_left=True)
    page = Queue(Store(tmp_path), mirror=0.0)
    others = iter([lambda: page.store.answer(0, 0, 0.0), lambda: None, lambda: None])
    person = Person(["l", "t"], before=lambda: next(others)())
    assert person.answers(store) == 2
    np.testing.assert_array_equal(store.answers(0), [0, 1, 0.5])
    assert person.seen[2] == "answered elsewhere"


def test_an_answer_that_came_too_late_is_said_to_be(tmp_path, rng):
    store, page = Store(tmp_path), Store(tmp_path)
    store.ask(0, pairs(rng, 2), shown_left=True)
    person = Person(["l", "l"])

    def read(prompt, gone):
        line = person.read(prompt, lambda: False)
        page.answer(0, 0, 0.0)
        return line

    window = Window(Queue(store, mirror=0.0), read, show=person.seen.append)
    window.ask()
    assert window.given == 1
    np.testing.assert_array_equal(store.answers(0), [0, 1])
    assert person.seen[2] == "answered elsewhere"


def test_the_page_is_shown_other_questions_at_the_same_time(tmp_path, rng):
    store, page = Store(tmp_path), Queue(Store(tmp_path), mirror=0.0)
    store.ask(0, pairs(rng, 6))
    seen = []

    def answer_there():
        if (ticket := page.next("browser", "eve")) is not None:
            seen.append(ticket.position)
            assert page.answer("eve", ticket, "left")

    assert Person(["l"] * 6, before=answer_there).answers(store) == 3
    assert sorted(seen) == [1, 3, 5]
    assert not store.pending(0)


def test_some_questions_come_again_with_their_sides_changed(rng):
    store, n = Store(None), 200
    store.ask(0, pairs(rng, n))
    always_left = Person(["l"] * 2 * n)
    assert always_left.answers(store, queue=Queue(store, mirror=0.1)) > n
    again = store.answers(0, asking="mirror")
    share = (~np.isnan(again)).mean()
    assert abs(share - 0.1) < 4 * np.sqrt(0.09 / n)
    assert conflict_rate(store.answers(0), again) == 1.0
    ids = {row["asking"]: [] for row in store.records()}
    for row in store.records():
        ids[row["asking"]].append((row["id"], row["query_id"]))
    labels = {query: number for number, query in ids["label"]}
    assert min(number - labels[query] for number, query in ids["mirror"]) > GAP


def test_second_opinions_are_asked_here_too(tmp_path, rng):
    store = Store(tmp_path)
    store.ask(0, pairs(rng, 4))
    store.answer_all(0, 0, np.ones(4), "eve")
    queue = Queue(store, mirror=0.0, second=1.0)
    assert Person(["l", "r", "t", "s"]).answers(store, queue=queue) == 4
    assert np.isnan(store.answers(0, asking="second")).sum() == 1


def test_where_nothing_is_to_be_asked_the_last_answer_can_be_undone(tmp_path, rng):
    store, looks = Store(tmp_path), iter(range(100))
    store.ask(0, pairs(rng, 1), shown_left=True)
    asked = pairs(rng, 1)

    def before():
        if next(looks) == 4:
            store.settle(0)
            store.ask(1, asked, shown_left=True)

    person = Person(["l", "x", "u", "r", "t"], before=before)
    assert person.answers(store, stay=lambda: len(person.prompts) < 6) == 2
    waiting = "nothing to ask now; u undo> "
    usual = "l/r/t/s/u> "
    assert person.prompts == [usual, waiting, waiting, usual, waiting, usual]
    assert store.answers(0) == [0.0]
    assert store.answers(1) == [0.5]
    assert not any("l left" in text for text in person.seen[1:])


def test_two_columns(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    texts = "start 1\nlonger \x1b[2J line", "start 2"
    assert list(side_by_side(*texts)) == [
        f"{'LEFT':16}   |   RIGHT",
        f"{'start 1':16}   |   start 2",
        "longer ?[2J line   |",
    ]
    monkeypatch.setenv("COLUMNS", "20")
    assert list(side_by_side(*texts)) == [
        *("LEFT", "start 1", "longer ?[2J line", "", "RIGHT", "start 2"),
    ]


def test_texts_of_language_models_are_shown_as_they_are(tmp_path, rng):
    store, asked = Store(tmp_path), pairs(rng, 1)
    store.ask(0, asked, shown_left=True)
    for part, word in ((asked.a, "yes"), (asked.b, "no")):
        path = tmp_path / "segments" / f"{part.digests()[0]}.txt"
        path.write_bytes(f"Is it?{SEPARATOR}{word}".encode())
    person = Person(["l"])
    person.answers(store)
    lines = [line.split("|") for line in person.seen[1].splitlines()[2:]]
    assert [[cell.strip() for cell in line] for line in lines] == [
        *(["Is it?", "Is it?"], ["", ""], ["yes", "no"]),
    ]


# ---------------------------------------------------------------- lines


def lines_of(monkeypatch, file, **options):
    monkeypatch.setattr(sys, "stdin", file)
    return Lines(**options)


def never():
    return False


@unix
def test_a_pipe_gives_all_its_lines_whenever_they_come(monkeypatch, capsys):
    out, into = os.pipe()
    with os.fdopen(out) as file:
        lines = lines_of(monkeypatch, file)
        os.write(into, "l\r\nä\nr".encode())
        assert [lines("a> ", never), lines("b> ", never)] == ["l", "ä"]
        asked = iter([False, False, True])
        assert lines("c> ", lambda: next(asked)) is None  # half a line is none yet
        os.write(into, b"ight\n\n")
        assert [lines("", never), lines("", never)] == ["right", ""]
        os.write(into, b"last")
        os.close(into)
        assert lines("", never) == "last"
        assert not lines.open()
        with pytest.raises(EOFError):
            lines("", never)
    assert capsys.readouterr().out == "a> b> c> \n\n"


@unix
def test_a_process_that_is_to_stop_reads_no_more(monkeypatch):
    out, into = os.pipe()
    with os.fdopen(out) as file, os.fdopen(into, "w"):
        looks = iter([False] * 4 + [True] * 9)
        lines = lines_of(monkeypatch, file, stopped=lambda: next(looks))
        with pytest.raises(EOFError):
            lines("> ", never)
        assert lines.open()


@pytest.mark.parametrize("kind", ["null", "closed", "none", "replaced"])
def test_no_input_at_all(kind, monkeypatch, tmp_path):
    with open(os.devnull) as file:
        if kind == "closed":
            file.close()

        class Other:
            pass

        stdin = {"none": None, "replaced": Other()}.get(kind, file)
        assert not lines_of(monkeypatch, stdin).open()


class Terminal:
    """A pseudo-terminal, at which a process of our own sits."""

    def __init__(self, monkeypatch):
        self.person, inside = os.openpty()
        self.file = os.fdopen(inside)
        monkeypatch.setattr(sys, "stdin", self.file)
        self.front = True
        monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp() if self.front else 1)

    def types(self, text):
        os.write(self.person, text.encode())
        time.sleep(0.05)

    def close(self):
        os.close(self.person)
        self.file.close()


@pytest.fixture
def terminal(monkeypatch):
    found = Terminal(monkeypatch)
    yield found
    found.close()


@unix
def test_what_was_typed_for_a_question_that_is_gone_is_forgotten(terminal):
    lines = Lines()
    assert lines.terminal
    terminal.types("l")
    asked = iter([False, True])
    assert lines("> ", lambda: next(asked)) is None
    terminal.types("\nr\n")
    assert [lines("> ", never), lines("> ", never)] == ["", "r"]
    terminal.types("\x04")
    with pytest.raises(EOFError):
        lines("> ", never)
    assert lines.ended


@unix
def test_a_terminal_is_left_alone_from_the_background(terminal):
    """And read again once the shell brings the process to the front."""
    lines = Lines()
    terminal.types("l\n")
    terminal.front = False
    assert not lines.open()
    with pytest.raises(EOFError):
        lines("> ", never)
    terminal.front = True
    assert lines.open()
    assert lines("> ", never) == "l"


# ---------------------------------------------------------------- where a campaign trains


@unix
def test_a_campaign_in_the_background_says_once_who_can_answer(terminal, tmp_path, rng, capsys):
    store, front = Store(tmp_path / "my run" / "campaign"), Front(never)
    store.ask(0, pairs(rng, 2))
    terminal.front = False
    for _ in range(3):
        assert front(store, 0) == 0
    told = f"2 questions of round 0 wait; rlentropy label --campaign '{tmp_path}/my run' answers"
    assert capsys.readouterr().out == f"{told} them\n"
    terminal.front = True
    terminal.types("l\nr\n")
    assert front(store, 0) == 2
    assert not store.pending(0)
    terminal.front = False
    store.settle(0)
    store.ask(1, pairs(rng, 1))
    capsys.readouterr()
    assert front(store, 1) == 0
    assert capsys.readouterr().out.startswith("1 question of round 1 waits; rlentropy label")


def test_no_input_is_said_without_the_question(tmp_path, rng, monkeypatch, capsys):
    with open(os.devnull) as file:
        monkeypatch.setattr(sys, "stdin", file)
        store, front = Store(tmp_path), Front(never)
        store.ask(0, pairs(rng, 2))
        assert [front(store, 0), front(store, 0)] == [0, 0]
    assert capsys.readouterr().out == f"{note(store, 0)}\n"
    in_memory = Store(None)
    in_memory.ask(0, pairs(rng, 2))
    assert note(in_memory, 0).endswith("wait, and nobody can answer them without a folder")


@unix
def test_at_a_terminal_the_last_answer_of_a_round_can_be_undone(terminal, tmp_path, rng, capsys):
    store, front = Store(tmp_path), Front(never, grace=0.5)
    store.ask(0, pairs(rng, 1), shown_left=True)
    terminal.types("l\nu\nr\n")
    begin = time.monotonic()
    assert front(store, 0) == 1
    assert store.answers(0) == [0.0]
    assert 0.5 <= time.monotonic() - begin < 3.0
    assert "nothing to ask now; u undo> " in capsys.readouterr().out


@unix
@pytest.mark.parametrize("lines", ["l\nl\nr\n", "l\nl\nr"])
def test_a_campaign_is_answered_by_a_file(lines, tmp_path, rng, monkeypatch):
    (tmp_path / "answers").write_text(lines)
    with (tmp_path / "answers").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        store, front = Store(tmp_path / "campaign"), Front(never, grace=60.0)
        for round, n in ((0, 2), (1, 1)):
            store.ask(round, pairs(rng, n), shown_left=True)
            assert front(store, round) == n
            store.settle(round)
    np.testing.assert_array_equal(store.answers(0), [1, 1])
    np.testing.assert_array_equal(store.answers(1), [0])


@unix
def test_reading_from_the_background_does_not_stop_the_process(tmp_path):
    """A real shell's job control: a child in a background group of its own terminal."""
    pid, person = os.forkpty()
    if pid == 0:  # a session with this terminal
        worker = os.fork()
        if worker == 0:
            os.setpgid(0, 0)  # not the group in front
            sys.stdin = os.fdopen(0)
            open_there = console.Lines().open()
            os._exit(7 if open_there else 5)
        _, status = os.waitpid(worker, os.WUNTRACED)
        os._exit(99 if os.WIFSTOPPED(status) else os.WEXITSTATUS(status))
    try:
        _, status = os.waitpid(pid, 0)
        assert os.WEXITSTATUS(status) == 5
    finally:
        os.close(person)
        assert signal.getsignal(signal.SIGTTIN) == signal.SIG_DFL
