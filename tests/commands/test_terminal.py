"""Whole campaigns, labelled at a pseudo-terminal by a scripted person."""

import contextlib
import fcntl
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rlentropy.preferences.store import Store

pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")

ROOT = Path(__file__).parents[2]
PROGRAM = "import sys; from rlentropy.cli import main; sys.exit(main())"
PROMPT, WAITING = "l/r/t/s/u> ", "nothing to ask now; u undo> "
HEADING = re.compile(r"-- (\d+) left in round (\d+), (\d+) answered --")
PATIENCE = 60.0  # seconds that the slowest start may take
CAMPAIGN = [
    *("active-preference", "--env-id", "rlentropy/RiverSwim-v0", "--oracle", "human"),
    *("--labels", "6", "--batch-size", "3", "--pool", "2", "--segment-length", "3"),
    *("--acquisition", "random", "--grace", "0"),
]


def environment():
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    kept = {name: os.environ[name] for name in os.environ if name not in ("COLUMNS", "LINES")}
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "TERM": "dumb"}


class Terminal:
    """A command at a terminal of its own."""

    def __init__(self, *arguments):
        self.seen, self.shown = "", ""  # since the last prompt, and altogether
        self.pid, self.person = pty.fork()
        if self.pid == 0:
            argv = [sys.executable, "-P", "-c", PROGRAM, *map(str, arguments)]
            os.execve(sys.executable, argv, environment())
        self.resize(100)

    def resize(self, columns):
        fcntl.ioctl(self.person, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def more(self, seconds=0.1):
        """Read what is shown; whether it goes on."""
        if select.select([self.person], [], [], seconds)[0]:
            try:
                piece = os.read(self.person, 65536).decode().replace("\r\n", "\n")
            except OSError:  # nobody is there any more
                piece = ""
            self.seen, self.shown = self.seen + piece, self.shown + piece
            return bool(piece)
        return True

    def until(self, *texts):
        """Wait for one of some texts; what was shown up to its end."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for text in texts:
                if text in self.seen:
                    before, _, self.seen = self.seen.partition(text)
                    return before + text
            assert self.more(), f"ended before {texts}: {self.shown}"
        raise AssertionError(f"waited for {texts}: {self.shown}")

    def types(self, text):
        os.write(self.person, text.encode())

    def answer(self, line):
        """Wait for a question, and type a line; (left, round, answered) of its heading."""
        shown = self.until(PROMPT)
        self.types(f"{line}\n")
        return tuple(map(int, HEADING.findall(shown)[-1])) if HEADING.search(shown) else shown

    def end(self):
        """The exit code."""
        end = time.monotonic() + PATIENCE
        while self.more() and time.monotonic() < end:
            pass
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.person)


@pytest.fixture
def terminal():
    with contextlib.ExitStack() as stack:

        def start(*arguments):
            found = Terminal(*arguments)
            stack.callback(found.close)
            return found

        yield start


def records(folder):
    store = Store(folder / "campaign", must_exist=True)
    found = list(store.records())
    store.close()
    return found


def standing(folder):
    """Answers that are learnt from, by round and position."""
    return {
        (row["round"], row["position"]): row["answer"]
        for row in records(folder)
        if row["asking"] == "label" and row["superseded_by"] is None and row["answer"]
    }


def learnt(folder):
    with np.load(folder / "policy.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def wanted(folder, keys):
    """The answers that keys give, in the order of the questions."""
    left = {(row["round"], row["position"]): row["shown_left"] for row in records(folder)}
    other = {"a": "b", "b": "a"}
    return {
        where: {"l": left[where], "r": other[left[where]], "t": "tie", "s": "skip"}[key]
        for where, key in zip(sorted(left), keys, strict=True)
    }


def test_a_whole_campaign(terminal, tmp_path):
    """With wrong keys, undo, a skip, which is asked anew, and a terminal whose width changes."""
    out = tmp_path / "run"
    person = terminal(*CAMPAIGN, "--out", out)
    assert person.answer("l") == (3, 0, 0)
    assert person.answer("what?") == (2, 0, 1)
    assert "l left is better, r right is better" in person.answer("u")
    assert person.answer("r") == (3, 0, 0)  # the first again
    person.resize(20)
    assert person.answer("") == (2, 0, 1)
    assert "r right is better" in person.answer("  Left")
    assert person.answer("s") == (1, 0, 2)
    assert person.answer("t") == (1, 0, 2)  # another in place of the one that was skipped
    for key, heading in (("l", (3, 1, 3)), ("r", (2, 1, 4)), ("l", (1, 1, 5))):
        assert person.answer(key) == heading
    assert person.end() == 0
    assert standing(out) == wanted(out, "rlstlrl")
    assert json.loads((out / "summary.json").read_text())["labels"] == 6
    wide, narrow = (text for text in person.shown.split("-- 2 left in round 0, 1 answered --")[1:])
    assert "LEFT        |   RIGHT" in wide.replace("   |   ", "   |   ")
    assert "|" not in narrow.split("--")[0].split(PROMPT)[0]


@pytest.mark.slow
def test_the_same_answers_through_a_pipe_teach_the_same(terminal, tmp_path):
    out, piped = tmp_path / "run", tmp_path / "piped"
    person = terminal(*CAMPAIGN, "--out", out)
    for key in "rlstlrl":
        person.answer(key)
    assert person.end() == 0
    code = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, *CAMPAIGN, "--out", str(piped), "--quiet"],
        input="r\nl\ns\nt\nl\nr\nl\n", text=True, env=environment(), stdout=subprocess.PIPE,
        check=False,
    ).returncode  # fmt: skip
    assert code == 0
    assert standing(piped) == standing(out)
    for name, array in learnt(out).items():
        np.testing.assert_array_equal(array, learnt(piped)[name])


def test_ctrl_c_keeps_what_was_answered(terminal, tmp_path):
    out = tmp_path / "run"
    first = terminal(*CAMPAIGN, "--out", out)
    first.answer("l")
    first.until(PROMPT)
    first.types("r")  # half an answer
    first.types("\x03")
    assert first.end() == 130
    assert set(standing(out)) == {(0, 0)}
    second = terminal("active-preference", "--resume", "--out", out)
    for heading in ((2, 0, 1), (1, 0, 2), (3, 1, 3), (2, 1, 4), (1, 1, 5)):
        assert second.answer("r") == heading
    assert second.end() == 0
    assert standing(out) == wanted(out, "lrrrrr")


def test_the_end_of_input_leaves_the_rest_to_another_console(terminal, tmp_path):
    """Ctrl-D at the training's terminal; then `label --console` answers beside it."""
    out = tmp_path / "run"
    training = terminal(*CAMPAIGN, "--out", out)
    training.answer("l")
    training.until(PROMPT)
    training.types("\x04")
    note = training.until("answers them")
    assert f"2 questions of round 0 wait; rlentropy label --campaign {out}" in note
    person = terminal("label", "--campaign", out, "--console", "--mirror", "0")
    for key, heading in (("r", (2, 0, 1)), ("l", (1, 0, 2)), ("l", (3, 1, 3)), ("u", (2, 1, 4))):
        assert person.answer(key) == heading
    for key, heading in (("t", (3, 1, 3)), ("r", (2, 1, 4)), ("r", (1, 1, 5))):
        assert person.answer(key) == heading
    assert person.end() == 0
    assert training.end() == 0
    assert standing(out) == wanted(out, "lrltrr")
    assert "answered elsewhere" not in person.shown


def test_half_by_console_half_by_another_process(terminal, tmp_path):
    """What is answered elsewhere while a prompt waits is not asked again, nor its keys kept."""
    out = tmp_path / "run"
    training = terminal(*CAMPAIGN, "--out", out)
    training.until(PROMPT)
    training.types("r")  # not sent
    time.sleep(0.5)
    store = Store(out / "campaign", must_exist=True)
    assert store.answer(0, 0, 0.5, "eve")
    assert "answered elsewhere" in training.until(PROMPT)
    training.types("l\n")
    training.until(PROMPT)
    assert store.answer(0, 2, 0.5, "eve")
    for position in (0, 1):
        training.until(PROMPT)
        assert store.answer(1, position, 0.5, "eve")
    training.until("-- 1 left in round 1, 5 answered --")
    training.until(PROMPT)
    training.types("l\n")
    assert training.end() == 0
    store.close()
    by = {(row["round"], row["position"]): row["labeller"] for row in records(out)}
    assert [by[where] for where in sorted(by)] == ["eve", "person", "eve", "eve", "eve", "person"]
    assert standing(out) == wanted(out, "tltttl")


def test_label_alone_trains_beside_and_ctrl_c_stops_both(terminal, tmp_path):
    out = tmp_path / "run"
    training = terminal(*CAMPAIGN, "--out", out)
    training.until(PROMPT)
    training.types("\x03")
    assert training.end() == 130
    label = ("label", "--campaign", out, "--console", "--labeller", "ann", "--mirror", "1")
    first = terminal(*label)
    for _ in range(4):
        first.answer("l")
    first.until(PROMPT)
    first.types("\x03")
    assert first.end() == 130
    second = terminal(*label)
    for _ in range(8):  # in all six questions, and each with its sides changed
        second.answer("l")
    assert second.end() == 0
    assert standing(out) == wanted(out, "llllll")
    again = [row for row in records(out) if row["asking"] == "mirror"]
    assert {(row["round"], row["position"]) for row in again} == set(standing(out))
    assert {row["labeller"] for row in records(out)} == {"ann"}
    for row in again:  # always left, so never the same one twice
        assert row["answer"] != standing(out)[row["round"], row["position"]]


def test_a_campaign_in_the_background_goes_on(tmp_path):
    """`active-preference … &`, as a shell does it: it says who answers, and is not stopped."""
    out = tmp_path / "run"
    pid, person = pty.fork()
    if pid == 0:
        worker = os.fork()
        if worker == 0:
            os.setpgid(0, 0)
            argv = [sys.executable, "-P", "-c", PROGRAM, *CAMPAIGN, "--out", str(out)]
            os.execve(sys.executable, argv, environment())
        _, status = os.waitpid(worker, os.WUNTRACED)
        os._exit(99 if os.WIFSTOPPED(status) else os.WEXITSTATUS(status))
    try:
        end, shown = time.monotonic() + PATIENCE, ""
        while "answers them" not in shown:
            assert time.monotonic() < end, shown
            if select.select([person], [], [], 0.1)[0]:
                shown += os.read(person, 65536).decode()
        assert "3 questions of round 0 wait; rlentropy label --campaign" in shown
        store = Store(out / "campaign", must_exist=True)
        for round in range(2):
            while store.latest() != round:
                assert time.monotonic() < end
                time.sleep(0.05)
            store.answer_all(round, 0, [1.0, 0.0, 0.5])
        _, status = os.waitpid(pid, 0)
        pid = 0
        assert os.waitstatus_to_exitcode(status) == 0
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(person)
    assert (out / "summary.json").exists()
