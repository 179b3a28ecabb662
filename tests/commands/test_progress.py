"""Progress as a person or a file gets it: lines off a terminal, a bar on one, nothing if quiet."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from examples.command_line import ROOT

from rlentropy import cli
from rlentropy.commands import console
from rlentropy.commands.answers import Pace
from rlentropy.commands.console import Console

CHAIN = ("--env-id", "rlentropy/DoubleChain-v0", "--episodes", "100")
LINE = re.compile(r"(\d+)/100  gap [\d.]+ nats(?:  [\d .]+ episodes/s(?:  ETA [\d:]+)?)?")


def evaluations(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [line for line in lines if '"eval/gap"' in line]


def test_a_line_at_each_evaluation(tmp_path, capsys):
    assert cli.main(["entgame", *CHAIN, "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out.splitlines()
    told = [LINE.fullmatch(line) for line in out if re.match(r"[\d ]+/", line)]
    assert all(told)
    assert len(told) == len(evaluations(tmp_path))
    assert int(told[-1][1]) == 100
    start = out.index(next(line for line in out if line.startswith("  gap ")))
    assert out[start].split()[2] == "nats"  # the summary's first row
    assert not any("False" in line or "None" in line for line in out)
    assert out[-1] == f"run folder: {tmp_path}"


def test_opening_lines_wait_for_the_first_word_or_a_second(capsys, monkeypatch):
    monkeypatch.setattr(console, "PATIENCE", 0.05)
    log = SimpleNamespace(on_progress=None, latest={})
    works = (lambda: log.on_progress(1, 2), lambda: time.sleep(0.5), lambda: None)
    for work, shown in zip(works, (True, True, False), strict=True):
        say = Console(quiet=False)
        say.opening("the folder")
        with say.progress(log, Pace("entgame")):
            assert capsys.readouterr().out == ""
            work()
        assert capsys.readouterr().out.startswith("the folder\n") == shown
        say.line("the end")
        assert capsys.readouterr().out == ("" if shown else "the folder\n") + "the end\n"


def test_quiet_is_silent(tmp_path, capsys):
    assert cli.main(["entgame", *CHAIN, "--quiet", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr() == ("", "")


def at_a_terminal(*arguments):
    """What a command shows at a pseudo-terminal."""
    pty = pytest.importorskip("pty")
    reader, writer = pty.openpty()
    with subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *map(str, arguments)], stdout=writer,
        stderr=writer, env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
    ) as process:  # fmt: skip
        os.close(writer)
        shown = b""
        with contextlib.suppress(OSError):  # the end of it
            while piece := os.read(reader, 65536):
                shown += piece
        os.close(reader)
    assert process.returncode == 0
    return shown.decode()


def test_a_bar_on_a_terminal(tmp_path):
    shown = at_a_terminal("entgame", *CHAIN[:2], "--episodes", 20_000, "--out", tmp_path)
    text = re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", shown)
    assert re.search(r"━.*/20 000  gap [\d.]+ nats", text)
    assert not re.search(r"^[\d ]+/20 000", text, re.M)  # a line off a terminal
    assert "\x1b" not in shown.split("gap  ")[-1]
    assert at_a_terminal("entgame", *CHAIN, "--quiet", "--out", tmp_path / "quiet") == ""


def played(monkeypatch, quiet=False, every=0.05):
    """A log whose run evaluates once, and then takes long."""
    monkeypatch.setattr(console, "EVERY", every)
    log, say = SimpleNamespace(latest={}), Console(quiet)
    with say.progress(log, Pace("entgame")):
        time.sleep(4 * every)
        log.latest = {"eval/gap": (1, 2.0)}
        log.on_progress(5, 10) if not quiet else None
        time.sleep(4 * every)


def test_the_clock_tells_where_a_step_takes_long(monkeypatch, capsys):
    played(monkeypatch)
    out = capsys.readouterr().out.splitlines()
    assert out.count("nothing is done yet") >= 2
    assert sum(line.startswith("5/10  gap 2 nats") for line in out) >= 2
    assert len(out) <= 12  # not more often than asked, with some room for a slow machine


def test_no_clock_is_started_when_quiet(monkeypatch, capsys):
    played(monkeypatch, quiet=True)
    assert capsys.readouterr().out == ""


def test_repeated_calls_say_nothing_new(monkeypatch, capsys):
    log = SimpleNamespace(latest={"eval/gap": (1, 2.0)})
    with Console(False).progress(log, Pace("entgame")):
        for done in range(5):
            log.on_progress(done, 10)
        log.latest = {"eval/gap": (6, 1.0)}
        log.on_progress(6, 10)
        log.on_progress(10, 10)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        *("0/10", "6/10", "10/10"),
    ]


def test_the_clock_ends_with_an_error(monkeypatch):
    before = threading.active_count()
    with pytest.raises(ValueError, match="broken"), Console(False).progress(
        SimpleNamespace(latest={}), Pace()
    ):  # fmt: skip
        raise ValueError("broken")
    assert threading.active_count() == before
