"""What is shown of a sweep, by a clock that is set."""

from pathlib import Path

import pytest

from rlentropy.commands import board
from rlentropy.commands.board import Board, remove_empty
from rlentropy.commands.engines import Job, Outcome, Progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that are what they are set to."""
    now = [1000.0]
    monkeypatch.setattr(board.time, "monotonic", lambda: now[0])
    return now


def job(seed):
    return Job("entgame", "A-v0", "entgame", seed, Path(f"{seed}"), ())


def test_how_long_it_will_take(clock):
    """Four runs, two at once; a run that an earlier sweep had begun counts from there."""
    b = Board(4, quiet=True)
    assert b.head() == "0/4 runs, 0 running"
    b.began(Progress(job(0), "w1", 0.0, ""))
    b.began(Progress(job(1), "w2", 0.0, ""))
    b.began(Progress(job(0), "w1", 0.0, "begun"))
    b.began(Progress(job(1), "w2", 0.5, "resumed"))
    clock[0] += 10.0
    b.began(Progress(job(0), "w1", 0.25, "on"))
    b.began(Progress(job(1), "w2", 0.75, "on"))
    # 0.5 runs in 10 s; 3 are left: 60 s.
    assert b.head() == "0/4 runs, 2 running, ETA 1:00"
    b.ended(Outcome(job(1), "done", "", "", 10.0))
    # 0.25 and 0.5 runs in 10 s; 2.75 are left.
    assert b.head() == "1/4 runs, 1 running, ETA 0:37"
    b.ended(Outcome(job(0), "failed", "why", "", 10.0))
    assert b.head() == "2/4 runs, 1 failed, 0 running, ETA 0:13"
    b.ended(Outcome(job(2), "skipped", "", "", 0.0))  # is no work
    assert b.head() == "3/4 runs, 1 failed, 0 running, ETA 0:07"


def test_lines_where_there_is_no_terminal(clock, capsys):
    b = Board(2, quiet=False)
    with b.showing():
        b.began(Progress(job(0), "w1", 0.0, ""))
        b.remind()
        assert capsys.readouterr().out == ""
        clock[0] += board.EVERY
        b.remind()
        b.remind()
        assert capsys.readouterr().out == ("0/2 runs, 1 running\nw1  A-v0 entgame seed 0  begins\n")
        b.ended(Outcome(job(0), "done", "", "", 3.21))
        b.line("said")
    assert capsys.readouterr().out == "1/2 A-v0 entgame seed 0: done (3.2 s)\nsaid\n"


def test_quiet_says_nothing(clock, capsys):
    b = Board(1, quiet=True)
    with b.showing():
        b.began(Progress(job(0), "w1", 0.5, "on"))
        clock[0] += 1e3
        b.remind()
        b.ended(Outcome(job(0), "done", "", "", 1.0))
    assert capsys.readouterr() == ("", "")


def test_empty_folders_of_what_failed_go(tmp_path):
    out = tmp_path / "out"
    (out / "env" / "label" / "seed0").mkdir(parents=True)
    (out / "env" / "other").mkdir()
    remove_empty(out / "env" / "label" / "seed0", out)
    assert sorted(p.name for p in out.rglob("*")) == ["env", "other"]
    (out / "env" / "other" / "kept").write_text("")
    remove_empty(out / "env" / "other", out)
    remove_empty(out / "gone" / "seed0", out)
    remove_empty(tmp_path / "elsewhere", out)
    assert (out / "env" / "other" / "kept").exists()
