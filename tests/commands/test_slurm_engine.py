"""Slurm's engine: with a submitit that stands in for it, and slowly with real processes of it."""

import json
import sys
import types
from pathlib import Path

import pytest
from examples.runs import summary

from rlentropy.commands import slurm_engine
from rlentropy.commands.engines import Job, Outcome, Progress
from rlentropy.commands.slurm_engine import FOLDER, SlurmEngine, cancel_left, perform, read_note
from rlentropy.errors import InputError

CHAIN = "rlentropy/DoubleChain-v0"


def job(folder, seed=0):
    arguments = ("--env-id", CHAIN, "--horizon", "4", "--episodes", "20", "--resume")
    argv = ("random-policy", *arguments, "--seed", str(seed), "--quiet", "--out", str(folder))
    return Job("random-policy", CHAIN, "random-policy", seed, Path(folder), argv)


class Handle:
    """A job that does its work when it is first asked whether it is done."""

    def __init__(self, number, work):
        self.job_id, self.work, self.asks, self.state = str(number), work, 0, "FAILED"
        self.cancelled = False

    def done(self, force_check=False):
        self.asks += 1
        if self.asks == 2 or self.cancelled:
            try:
                self.value = ("stopped", "", "") if self.cancelled else self.work()
            except RuntimeError as error:
                self.error = error
        return self.asks >= 2 or self.cancelled

    def exception(self):
        return getattr(self, "error", None)

    def result(self):
        return self.value

    def cancel(self, check):
        self.cancelled = True


class Executor:
    def __init__(self, folder, cluster):
        self.handles = []

    def update_parameters(self, **parameters):
        self.parameters = parameters

    def submit(self, function, *arguments):
        if self.parameters.get("slurm_partition") == "none":
            raise RuntimeError("sbatch: error:\ninvalid partition")
        self.handles.append(Handle(len(self.handles), lambda: function(*arguments)))
        return self.handles[-1]


@pytest.fixture
def made(monkeypatch):
    """The executors that an engine makes."""
    made = []
    fake = types.ModuleType("submitit")
    fake.AutoExecutor = lambda *a, **k: made.append(Executor(*a, **k)) or made[-1]
    names = lambda: {"time", "partition", "job_name", "cpus_per_task"}  # noqa: E731
    fake.SlurmExecutor = types.SimpleNamespace(_valid_parameters=names)
    monkeypatch.setitem(sys.modules, "submitit", fake)
    monkeypatch.setattr(slurm_engine.shutil, "which", lambda name: None)
    monkeypatch.setattr(SlurmEngine, "cluster", "local")
    monkeypatch.setattr(slurm_engine, "TICK", 0.01)
    return made


def events(engine, jobs):
    queue = list(jobs)
    return list(engine.run(lambda: queue.pop(0) if queue else None))


def test_jobs_run_with_what_was_asked(made, tmp_path):
    options = ("time=4:00:00", "partition=cpu", "mail=x")
    engine = SlurmEngine(tmp_path, 1, 2, 1, options)
    found = events(engine, [job(tmp_path / "a"), job(tmp_path / "b", 1)])
    assert made[0].parameters == {
        "slurm_time": "4:00:00",
        "slurm_partition": "cpu",
        "slurm_additional_parameters": {"mail": "x"},
        "slurm_job_name": "rlentropy",
        "slurm_cpus_per_task": 2,
        "gpus_per_node": 1,
    }
    assert [o.state for o in found if isinstance(o, Outcome)] == ["done", "done"]
    assert [(p.where, p.text) for p in found if isinstance(p, Progress)] == [
        *(("job 0", "queued"), ("job 1", "queued")),
    ]
    assert not (tmp_path / FOLDER).exists()


def test_a_job_that_ends_without_a_word_has_died(made, tmp_path, monkeypatch):
    def perform(*arguments):
        raise RuntimeError("time limit")

    monkeypatch.setattr(slurm_engine, "perform", perform)
    ends = events(SlurmEngine(tmp_path, options=("time=5",)), [job(tmp_path / "a")])
    (end,) = (event for event in ends if isinstance(event, Outcome))
    assert (end.state, end.why, end.output) == ("died", "job 0 ended: FAILED", "time limit")


def test_a_job_in_the_queue_is_cancelled_and_a_running_one_told(made, tmp_path):
    engine = SlurmEngine(tmp_path, options=("time=5",))
    one, two = job(tmp_path / "a"), job(tmp_path / "b")
    queue = [one, two]
    found = engine.run(lambda: queue.pop(0) if queue else None)
    assert next(found).text == next(found).text == "queued"
    note, stop = engine._files(two)
    note.write_text(json.dumps([0.5, "half"]))
    assert read_note(note) == (0.5, "half")
    engine.stop(one)
    engine.stop(two)
    assert stop.exists()
    assert [handle.cancelled for handle in made[0].handles] == [True, False]
    found.close()
    assert engine.asked == {one, two}


def test_a_run_says_how_far_it_is_and_obeys(tmp_path, monkeypatch):
    monkeypatch.setattr("rlentropy.commands.engines.TELLING", 0.0)
    note, stop = tmp_path / "note", tmp_path / "stop"
    assert perform(job(tmp_path / "a").argv, str(note), str(stop)) == ("done", "", "")
    assert read_note(note)[0] == 1.0
    stop.touch()
    state, _, _ = perform(job(tmp_path / "b").argv, str(note), str(stop))
    assert state == "stopped"
    assert (tmp_path / "b" / "checkpoint" / "state.npz").exists()
    assert read_note(tmp_path / "nothing") is None


def test_jobs_of_a_killed_sweep_are_cancelled(tmp_path, monkeypatch):
    folder = tmp_path / FOLDER
    folder.mkdir()
    for name in ("7_submitted.pkl", "7_0_result.pkl", "8_submitted.pkl"):
        (folder / name).touch()
    commands = []
    monkeypatch.setattr(slurm_engine.shutil, "which", lambda name: name)
    monkeypatch.setattr(slurm_engine.subprocess, "run", lambda c, **k: commands.append(c))
    cancel_left(folder)
    assert commands == [["scancel", "8"]]
    assert not folder.exists()


def test_refusals(made, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="slurm must hold time=MINUTES"):
        events(SlurmEngine(tmp_path), [])
    with pytest.raises(InputError, match="options that sbatch takes, got invalid partition"):
        events(SlurmEngine(tmp_path, options=("time=5", "partition=none")), [job(tmp_path / "a")])
    monkeypatch.setattr(SlurmEngine, "cluster", "slurm")
    with pytest.raises(InputError, match="used where Slurm's sbatch is"):
        events(SlurmEngine(tmp_path), [])
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match=r"pip install 'rlentropy\[slurm\]'"):
        events(SlurmEngine(tmp_path), [])


@pytest.mark.slow
def test_the_real_submitit(tmp_path, monkeypatch):
    """Its executor of local processes; no Slurm is here."""
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    monkeypatch.setattr(SlurmEngine, "cluster", "local")
    engine = SlurmEngine(tmp_path, 2, options=("time=5",))
    found = events(engine, [job(tmp_path / "a"), job(tmp_path / "b", 1)])
    assert [o.state for o in found if isinstance(o, Outcome)] == ["done", "done"]
    assert summary(tmp_path / "a")["seed"] == 0
    assert not (tmp_path / FOLDER).exists()
