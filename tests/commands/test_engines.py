"""Engines: what a sweep survives, and what it leaves to go on with."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from examples.runs import summary

from rlentropy.cli import main
from rlentropy.commands import engines
from rlentropy.commands.engines import Job, LocalEngine, Outcome, Progress, persistent, wait_for
from rlentropy.errors import InputError
from rlentropy.files import locked
from rlentropy.runs.folder import LOCK

# ---------------------------------------------------------------- the runs


def test_one_failure_ends_no_other(worlds, capsys):
    """Broken and killed runs among good ones, on one worker and on two."""
    Path("sweep.toml").write_text(
        """
        workers = 2
        [common]
        command = "random-policy"
        env_id = "sweep_worlds:Sweep/World-v0"
        seeds = 2
        episodes = 10
        horizon = 3
        """
        + "".join(
            f'[[runs]]\nlabel = "{flaw}"\nenv_kwargs = {{ flaw = "{flaw}" }}\n'
            for flaw in ("dies", "raises", "none")
        )
    )
    for workers in ("1", "2"):
        arguments = ["--config", "sweep.toml", "--workers", workers, "--out", f"out{workers}"]
        assert main(["sweep", *arguments, "--quiet"]) == 1
        table = capsys.readouterr().err
        assert table.count("killed by SIGKILL") == 2
        assert table.count("RuntimeError: the world broke") == 2
        printed = Path(f"out{workers}/failures.txt").read_text()
        assert printed.count("Traceback") == 2
        for seed in range(2):
            done = list(Path(f"out{workers}").glob(f"*/none/seed{seed}/summary.json"))
            assert len(done) == 1
        assert len(list(Path(f"out{workers}").glob("**/summary.json"))) == 2


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_saves_and_the_same_command_goes_on(worlds, number):
    common = ["--set", "horizon=5", "--set", "episodes=60", "--set", "label=x"]
    world = ["--env-ids", "sweep_worlds:Sweep/World-v0", "--set", 'env_kwargs={"flaw": "slow"}']
    code = "import sys; from rlentropy.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "sweep", "--commands", "random-policy", *common, *world]
    command += ["--seeds", "3", "--workers", "2"]
    process = subprocess.Popen(
        [*command, "--out", "cut"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(Path("cut").glob("*/x/seed?/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    os.killpg(process.pid, number)  # as a terminal does: to the whole group
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "3 runs to go" in told
    assert "Traceback" not in told
    saved = list(Path("cut").glob("*/x/seed?/checkpoint/state.npz"))
    assert saved
    assert not list(Path("cut").glob("**/summary.json"))

    subprocess.run([*command, "--out", "cut", "--quiet"], check=True, timeout=120)
    subprocess.run([*command, "--out", "whole", "--quiet"], check=True, timeout=120)
    for path in Path("whole").glob("*/x/seed?/summary.json"):
        assert summary(path.parent) == summary(Path("cut", *path.parts[1:-1]))


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_workers_end_with_the_sweep_and_have_saved(worlds):
    """A killed sweep leaves no second writer for the repeated command to meet."""
    code = "import sys; from rlentropy.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "sweep", "--commands", "random-policy", "--seeds", "1"]
    command += ["--env-ids", "sweep_worlds:Sweep/World-v0", "--set", 'env_kwargs={"flaw": "slow"}']
    command += ["--set", "horizon=5", "--set", "episodes=100000", "--out", "out"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (found := list(Path("out").glob("*/*/seed0/metrics.jsonl"))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    folder = found[0].parent
    with pytest.raises(InputError, match="in use"), locked(folder / LOCK, "out", folder):
        pass
    process.kill()
    process.wait()
    while (folder / LOCK).exists():  # the worker takes it away when it ends
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (folder / "checkpoint" / "state.npz").exists()
    assert not (folder / "summary.json").exists()


# ---------------------------------------------------------------- events


class Scripted:
    """An engine whose runs end as they are told to."""

    def __init__(self, *ends):
        self.ends, self.asked, self.taken = list(ends), set(), []

    def run(self, take):
        while (job := take()) is not None:
            self.taken.append(job)
            yield Progress(job, "somewhere", 0.0, "")
            yield Outcome(job, *self.ends.pop(0), "", 1.0)

    def stop(self, job):
        self.asked.add(job)


JOB = Job("entgame", "A-v0", "entgame", 3, Path("x"), ())


@pytest.mark.parametrize(
    ("ends", "retries", "last"),
    [
        ([("died", "lost"), ("done", "")], 1, ("done", "")),
        ([("died", "lost"), ("died", "gone")], 1, ("failed", "gone (2 times)")),
        ([("died", "lost")], 0, ("failed", "lost")),
        ([("stopped", ""), ("skipped", "")], 1, ("skipped", "")),
        ([("stopped", "")], 0, ("failed", "told to stop by another process")),
        ([("failed", "wrong")], 5, ("failed", "wrong")),
    ],
)
def test_runs_that_die_are_taken_up_again(ends, retries, last):
    engine, jobs, said = Scripted(*ends), [JOB], []
    events = persistent(engine, lambda: jobs.pop() if jobs else None, retries, said.append)
    outcomes = [event for event in events if isinstance(event, Outcome)]
    assert [(o.state, o.why) for o in outcomes] == [last]
    assert engine.taken == [JOB] * len(ends)
    assert len(said) == len(ends) - 1


def test_a_run_that_was_to_stop_has_stopped():
    engine, jobs = Scripted(("died", "killed by SIGTERM")), [JOB]
    engine.stop(JOB)
    events = persistent(engine, lambda: jobs.pop() if jobs else None, 2, print)
    assert [event.state for event in events if isinstance(event, Outcome)] == ["stopped"]


def test_the_local_engine_tells_how_far_runs_are_and_stops_one(worlds):
    argv = ("--env-id", "sweep_worlds:Sweep/World-v0", "--env-kwargs", '{"flaw": "slow"}')
    argv = ("random-policy", *argv, "--horizon", "5", "--episodes", "100000", "--out", "out")
    job, engine = replace(JOB, argv=argv, folder=Path("out")), LocalEngine(1)
    jobs, seen, ticks = [job], [], 0
    for event in engine.run(lambda: jobs.pop() if jobs else None):
        if isinstance(event, Progress):
            seen.append(event)
            if event.text and not engine.asked:
                engine.stop(job)
        elif event is None:
            ticks += 1
        else:
            last = event
    assert last.state == "stopped"
    assert ticks > 0
    assert (seen[0].where, seen[0].share, seen[0].text) == ("worker 1", 0.0, "")
    assert 0.0 < seen[-1].share < 1.0
    assert "/100 000" in seen[-1].text
    assert Path("out/checkpoint/state.npz").exists()


def test_a_folder_that_a_killed_sweep_still_holds_is_waited_for(tmp_path, monkeypatch):
    holders = [7, 7, None]
    monkeypatch.setattr(engines, "holder_of", lambda lock: holders.pop(0))
    monkeypatch.setattr(engines.time, "sleep", lambda seconds: None)
    wait_for(tmp_path)
    assert not holders
    monkeypatch.setattr(engines, "GRACE", -5.0)
    monkeypatch.setattr(engines, "holder_of", lambda lock: 7)
    wait_for(tmp_path)  # no longer than that
