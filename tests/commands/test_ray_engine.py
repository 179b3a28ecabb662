"""Ray's engine: with a Ray of one process that stands in for it, and slowly with the real one."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from examples.runs import summary

from rlentropy.cli import main
from rlentropy.commands import ray_engine
from rlentropy.commands.engines import Job, Outcome, Progress, persistent
from rlentropy.commands.ray_engine import Call, Office, RayEngine, files_of, store, with_out
from rlentropy.errors import InputError
from rlentropy.files import locked
from rlentropy.runs.folder import LOCK

CHAIN = "rlentropy/DoubleChain-v0"


class RayError(Exception):
    pass


class RayTaskError(RayError):
    cause = None


class WorkerCrashedError(RayError):
    pass


class TaskCancelledError(RayError):
    pass


class Fake(types.ModuleType):
    """Ray, where every task and every call of an actor is done at once in this process."""

    def __init__(self, crashes=0):
        super().__init__("ray")
        self.crashes, self.log = crashes, []
        kinds = (RayError, RayTaskError, WorkerCrashedError, TaskCancelledError)
        self.exceptions = types.SimpleNamespace(**{kind.__name__: kind for kind in kinds})

    def init(self, **options):
        self.log.append(options)

    def shutdown(self):
        self.log.append("shutdown")

    def get_runtime_context(self):
        return types.SimpleNamespace(get_node_id=lambda: "node")

    def cluster_resources(self):
        return {"CPU": 2.0, "GPU": 1.0}

    def remote(self, what):
        fake = self

        class Remote:
            def options(self, **options):
                fake.log.append(options)
                return self

            def remote(self, *arguments):
                if isinstance(what, type):
                    return Actor(what(*arguments))
                return fake.reference(what, *arguments)

        class Actor:
            def __init__(self, actor):
                self.actor = actor

            def __getattr__(self, name):
                method = getattr(self.actor, name)
                return types.SimpleNamespace(remote=lambda *a: fake.reference(method, *a))

        return Remote()

    def reference(self, function, *arguments):
        reference = types.SimpleNamespace(value=None, error=None)
        try:
            if function is ray_engine.perform and self.crashes:
                self.crashes -= 1
                raise WorkerCrashedError("it\ncrashed")
            reference.value = function(*arguments)
        except RayError as error:
            reference.error = error
        except Exception as error:
            reference.error = RayTaskError("Traceback")
            reference.error.cause = error
        return Reference(reference)

    def get(self, reference):
        if reference.held.error is not None:
            raise reference.held.error
        return reference.held.value

    def wait(self, references, num_returns=1, timeout=None):
        return references[:1], references[1:]


class Reference:
    def __init__(self, held):
        self.held = held


@pytest.fixture
def ray(monkeypatch):
    fake = Fake()
    strategies = types.ModuleType("ray.util.scheduling_strategies")
    strategies.NodeAffinitySchedulingStrategy = lambda node, soft: node
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setitem(sys.modules, "ray.util", types.ModuleType("ray.util"))
    monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.setenv(name, "x")  # so that it is put back
        monkeypatch.delenv(name)
    return fake


def job(folder, seed=0, episodes=20):
    """A small run in a folder of a sweep."""
    arguments = ("--env-id", CHAIN, "--horizon", "4", "--episodes", str(episodes), "--resume")
    argv = ("random-policy", *arguments, "--seed", str(seed), "--quiet", "--out", str(folder))
    return Job("random-policy", CHAIN, "random-policy", seed, Path(folder), argv)


def events(engine, jobs):
    queue = list(jobs)
    return list(engine.run(lambda: queue.pop(0) if queue else None))


def outcomes(found):
    return [event for event in found if isinstance(event, Outcome)]


# ---------------------------------------------------------------- runs


def test_runs_on_the_disk_of_the_sweep(ray, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = events(RayEngine(Path("out"), cpus=2, gpus=0.5), [job("out/a"), job("out/b", 1)])
    assert [(o.job.seed, o.state) for o in outcomes(found)] == [(0, "done"), (1, "done")]
    where = {event.where for event in found if isinstance(event, Progress)}
    assert any(str(os.getpid()) in name for name in where)
    assert {"num_cpus": 2, "num_gpus": 0.5} == {
        k: v for k, v in ray.log[2].items() if k in ("num_cpus", "num_gpus")
    }
    assert ray.log[0]["address"] == "local"
    assert ray.log[-1] == "shutdown"
    assert sorted(path.name for path in Path("out").iterdir()) == ["a", "b"]  # and no marker
    again = outcomes(events(RayEngine(Path("out")), [job("out/a")]))
    assert again[0].state == "skipped"
    assert os.getcwd() == str(tmp_path)


def elsewhere(monkeypatch):
    """Let no run see the sweep's disk."""
    monkeypatch.setattr(ray_engine, "Call", lambda *a: Call(*a[:-1], "another disk"))


def test_runs_elsewhere_send_their_files(ray, tmp_path, monkeypatch):
    """A run that goes on elsewhere begins with its checkpoint, and ends as it would have here."""
    monkeypatch.chdir(tmp_path)
    events(RayEngine(Path("out")), [job("out/a", episodes=10), job("out/whole", episodes=40)])
    elsewhere(monkeypatch)
    monkeypatch.setattr(ray_engine, "SENDING", 0.0)
    monkeypatch.setattr("rlentropy.commands.engines.TELLING", 0.0)
    stored = []
    keep = Office.store
    monkeypatch.setattr(Office, "store", lambda *a: stored.append(a[-1]) or keep(*a))
    (end,) = outcomes(events(RayEngine(Path("out")), [job("out/a", episodes=40)]))
    assert end.state == "done"
    assert stored[-1] is True
    assert stored.count(False) >= 1
    assert summary("out/a") == summary("out/whole")
    assert not list(Path("out").glob("**/.tmp-*"))
    config = Path("out/a/config.json").read_text()
    assert "rlentropy-" in config  # it was done in a folder for temporary files


def test_a_folder_in_use_is_not_lent(ray, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    elsewhere(monkeypatch)
    with locked(Path("out/a") / LOCK, "out", Path("out/a")):
        (end,) = outcomes(events(RayEngine(Path("out")), [job("out/a")]))
    assert end.state == "failed"
    assert "out must not be in use" in end.why


@pytest.mark.parametrize(("crashes", "state"), [(2, "done"), (3, "failed")])
def test_a_run_whose_worker_dies_is_taken_up_again(ray, tmp_path, crashes, state):
    ray.crashes = crashes
    said, queue = [], [job(tmp_path / "a")]
    engine = RayEngine(tmp_path)
    found = list(persistent(engine, lambda: queue.pop() if queue else None, 2, said.append))
    (end,) = outcomes(found)
    assert end.state == state
    assert len(said) == 2
    assert "its process was killed; taken up again, 1 of 2 times" in said[0]
    assert end.why == ("" if state == "done" else "its process was killed (3 times)")


def test_a_run_is_stopped_when_it_next_says_something(ray, tmp_path, monkeypatch):
    class Heard(RayEngine):
        def _office(self, ray):
            office = self.office = super()._office(ray)
            self.stop(one)
            return office

    one = job(tmp_path / "a")
    engine = Heard(tmp_path)
    (end,) = outcomes(events(engine, [one]))
    assert end.state == "stopped"
    assert engine.asked == {one}


def test_what_a_machine_lacks_is_told(ray, tmp_path, monkeypatch):
    def perform(call, office):
        raise ModuleNotFoundError("No module named 'rlentropy'")

    monkeypatch.setattr(ray_engine, "perform", perform)
    (end,) = outcomes(events(RayEngine(tmp_path), [job(tmp_path / "a")]))
    assert (end.state, end.why) == ("failed", "ModuleNotFoundError: No module named 'rlentropy'")


def test_a_lost_cluster_ends_the_sweep_in_a_line(ray, tmp_path, monkeypatch):
    def heard(self):
        raise RayError("the head is gone\nand more")

    monkeypatch.setattr(Office, "heard", heard)
    with pytest.raises(InputError, match="must stay until the sweep ends, got RayError: the head"):
        events(RayEngine(tmp_path), [job(tmp_path / "a")])
    assert ray.log[-1] == "shutdown"


def test_how_many_run_at_once(ray):
    assert RayEngine(Path())._room(ray) == 2
    assert RayEngine(Path(), cpus=2)._room(ray) == 1
    assert RayEngine(Path(), gpus=0.25)._room(ray) == 2
    assert RayEngine(Path(), gpus=0.75)._room(ray) == 1
    assert RayEngine(Path(), workers=9)._room(ray) == 9


# ---------------------------------------------------------------- clusters that aren't there


def test_no_ray(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'rlentropy\[ray\]'"):
        events(RayEngine(tmp_path), [])


def test_nobody_at_the_address(ray, tmp_path):
    with pytest.raises(InputError, match="ray_address must be of a cluster that answers"):
        events(RayEngine(tmp_path, "127.0.0.1:9"), [])
    assert "shutdown" not in ray.log


def test_ray_refuses(ray, tmp_path, monkeypatch):
    def init(**options):
        raise ConnectionError("Could not find any running Ray instance.\nPlease start one.")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(InputError, match="got 'auto': ConnectionError: Could not find any") as e:
        events(RayEngine(tmp_path, "auto"), [])
    assert "\n" not in str(e.value)


def test_what_is_started_here_has_a_token_of_its_own(ray, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    ray_engine.configure("auto")
    assert "RAY_AUTH_MODE" not in os.environ
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("laid down")
    ray_engine.configure("auto")
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert "RAY_AUTH_TOKEN" not in os.environ
    ray_engine.configure("")
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


# ---------------------------------------------------------------- files


def test_files_go_and_come(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    (a / "checkpoint").mkdir(parents=True)
    for name in ("metrics.jsonl", "checkpoint/state.npz", "summary.json", ".tmp-lock"):
        (a / name).write_bytes(name.encode())
    (b / "checkpoint").mkdir(parents=True)
    for name in ("old.npz", ".tmp-lock"):
        (b / name).write_bytes(b"")
    files = files_of(a)
    assert list(files) == ["checkpoint/state.npz", "metrics.jsonl", "summary.json"]
    store(b, files)
    assert files_of(b) == files  # what isn't among them is gone
    assert (b / ".tmp-lock").exists()


def test_what_a_checkpoint_counts_on_is_written_before_it(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(ray_engine, "replace_file", lambda path, content: written.append(path.name))
    store(tmp_path, dict.fromkeys(("checkpoint/s.npz", "summary.json", "metrics.jsonl"), b""))
    assert written == ["metrics.jsonl", "s.npz", "summary.json"]


@pytest.mark.parametrize("name", ["../up", "/etc/x", "a/../../b"])
def test_files_of_other_folders_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="must lie in its folder"):
        store(tmp_path, {name: b""})


def test_with_out():
    assert with_out(("c", "--out", "a", "--seed", "1"), Path("b")) == (
        *("c", "--out", "b"),
        *("--seed", "1"),
    )


# ---------------------------------------------------------------- the real one


@pytest.mark.slow
@pytest.mark.parametrize("disk", ["shared", "other"])
def test_ray_finds_what_the_local_engine_finds(tmp_path, monkeypatch, disk):
    """On a cluster that is started here; benchmarks/engines.py kills one of two machines."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    monkeypatch.chdir(tmp_path)
    sweep = ["--commands", "random-policy", "--env-ids", CHAIN, "--seeds", "3", "--quiet"]
    sweep += ["--set", "episodes=50", "--set", "horizon=4", "--workers", "2"]
    assert main(["sweep", *sweep, "--out", "here"]) == 0
    code = "import sys; from rlentropy.cli import main; sys.exit(main())"
    if disk == "other":
        code = (
            "from rlentropy.commands import ray_engine; C = ray_engine.Call; "
            f"ray_engine.Call = lambda *a: C(*a[:-1], 'another disk'); {code}"
        )
    command = [sys.executable, "-c", code, "sweep", *sweep, "--engine", "ray", "--out", "there"]
    subprocess.run(command, check=True, timeout=120)
    folders = [path.parent for path in Path("here").glob("**/summary.json")]
    assert len(folders) == 3
    for folder in folders:
        assert summary(folder) == summary(Path("there", *folder.parts[1:]))
