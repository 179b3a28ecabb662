"""Runs that are killed, interrupted, starved of disk, extended: the end must be the same.

A server process imports everything once and forks a child a command, so that a kill costs no
import. Inside a child, a kill can also be placed before or after any one write to the disk.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]

SERVER = r"""
import json, os, resource, shutil, signal, sys, tempfile, time
sys.path.insert(0, sys.argv[1])
import matplotlib.figure, tyro
from rlentropy import cli

# One warm run loads every module and compiled function, so that children only fork.
warm = tempfile.mkdtemp()
for command in ("entgame", "random-policy"):
    for simulator in ("gymnasium", "compiled"):
        cli.main([command, "--env-id", "rlentropy/DoubleChain-v0", "--episodes", "2", "--quiet",
                  "--simulator", simulator, "--overwrite", "--out", warm + "/run"])
shutil.rmtree(warm)


def crash_at(point):
    # Number every call that makes a write last or visible; die just before or after one of them.
    calls = [0]

    def watched(call):
        def wrapper(*args, **kwargs):
            calls[0] += 1
            if 2 * calls[0] - 1 == point:
                if call is fsync:  # a temporary file torn in the middle
                    path = os.readlink(f"/proc/self/fd/{args[0]}")
                    if ".tmp" in path:
                        os.truncate(path, os.path.getsize(path) // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            last = 2 * calls[0] == point
            try:
                return call(*args, **kwargs)
            finally:
                if last:
                    os.kill(os.getpid(), signal.SIGKILL)

        return wrapper

    fsync = os.fsync
    for name in ("fsync", "replace", "truncate", "unlink", "mkdir", "rmdir", "rename"):
        setattr(os, name, watched(getattr(os, name)))
    return calls


print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.chdir(job["folder"])
        for number, name in ((1, "stdout"), (2, "stderr")):
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, number)
        if job.get("file_limit"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit"],) * 2)
        calls = crash_at(job["crash_at"]) if "crash_at" in job else None
        code = cli.main(job["arguments"])
        if calls is not None:
            print("calls", calls[0])
        if job.get("file_limit"):  # see what the interpreter says when it closes its files
            raise SystemExit(code)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    if "signal" in job:
        while "signal_when" in job and not os.path.exists(job["signal_when"]):
            time.sleep(0.001)
        time.sleep(job.get("signal_after", 0.0))
        try:
            os.kill(pid, job["signal"])
        except ProcessLookupError:
            pass
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(json.dumps({"code": code, "seconds": time.monotonic() - began}), flush=True)
"""


class Server:
    def __init__(self, folder):
        self.folder = folder
        script = folder / "server.py"
        script.write_text(SERVER)
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(ROOT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdout.readline() == "ready\n"

    def run(self, *arguments, **job):
        """Run the command line in a fork; returns (exit code, stdout, stderr)."""
        job |= {"arguments": [str(a) for a in arguments], "folder": str(self.folder)}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        self.seconds = answer["seconds"]
        out, err = ((self.folder / name).read_text() for name in ("stdout", "stderr"))
        assert "Traceback" not in err, err
        return answer["code"], out, err


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.process.stdin.close()
    server.process.wait()


CHAIN = ("--env-id", "rlentropy/DoubleChain-v0", "--env-kwargs", '{"num_states": 9}')
LAKE = ("--env-id", "FrozenLake-v1")
RUNS = {
    "compiled": (
        *("entgame", *CHAIN, "--horizon", 6, "--episodes", 60, "--seed", 5),
        *("--mixture-size", 7, "--checkpoint-every", 20, "--simulator", "compiled"),
    ),
    "gymnasium": (
        *("entgame", *LAKE, "--horizon", 8, "--episodes", 60, "--seed", 5, "--objective", "VE_S"),
        *("--bonus", "bernstein-kl", "--bonus-scale", 0.01, "--clip", "--stage-dependent"),
        *("--mixture-size", 7, "--checkpoint-every", 20),
    ),
    "random": (
        *("random-policy", *CHAIN, "--horizon", 6, "--episodes", 60, "--checkpoint-every", 20),
        *("--seed", 5),
    ),
    "optimal": ("optimal-exploration", *CHAIN, "--horizon", 6),
}


def result(folder):
    """All that two runs must have in common, to the bit."""
    folder = Path(folder)
    files = sorted(p for p in folder.glob("*.npz"))
    assert "policy.npz" in [p.name for p in files]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary.pop("wall_seconds") > 0.0
    assert summary.pop("compile_seconds") >= 0.0
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    keys = [(row["tag"], row["step"]) for row in rows]
    assert len(keys) == len(set(keys)), "a line was written twice"
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1
    assert not list(folder.rglob(".tmp*"))
    found = {p.name: p.read_bytes() for p in files}
    return found | {
        "summary": summary,
        "metrics": [row for row in rows if not row["tag"].startswith("time/")],
        "figures": {p.name: p.read_bytes() for p in (folder / "figures").glob("*.png")},
    }


def tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return [
        (tag, event.step, event.value)
        for tag in sorted(accumulator.Tags()["scalars"])
        if not tag.startswith("time/")
        for event in accumulator.Scalars(tag)
    ]


@pytest.fixture(scope="module")
def reference(server):
    """The undisturbed end of each run: its results and its events."""
    found = {}

    def end(name):
        if name not in found:
            folder = server.folder / f"reference-{name}"
            code, _, err = server.run(*RUNS[name], "--out", folder)
            assert (code, err) == (0, "")
            found[name] = result(folder), tensorboard(folder)
        return found[name]

    return end


def resume(server, folder, command, *more):
    """Go on with nothing but --out and --resume where there is something to go on with."""
    if (folder / "config.json").exists():
        return server.run(command[0], "--out", folder, "--resume", *more)
    return server.run(*command, "--out", folder, "--resume", *more)


def check_same(folder, reference):
    want, events = reference
    found = result(folder)
    assert found == want
    assert tensorboard(folder) == events


# ---------------------------------------------------------------- SIGKILL


@pytest.mark.parametrize("name", ["compiled", "gymnasium"])
def test_a_kill_at_any_instant(server, reference, tmp_path, name):
    """Random instants over the whole life of the run, and then once more during the resumed one."""
    want = reference(name)
    long = server.seconds
    rng, code = np.random.default_rng(31), 0
    for k, delay in enumerate([0.0, *rng.uniform(0.0, 1.1 * long, 5)]):
        folder = tmp_path / f"run{k}"
        killed = {"signal": signal.SIGKILL, "signal_after": float(delay)}
        code, _, _ = server.run(*RUNS[name], "--out", folder, **killed)
        if code == 0:
            continue
        killed["signal_after"] = float(rng.uniform(0.0, long))
        if (folder / "config.json").exists():
            server.run(RUNS[name][0], "--out", folder, "--resume", **killed)
        code, _, err = resume(server, folder, RUNS[name])
        assert (code, err) == (0, "")
        check_same(folder, want)


def crash_and_resume(server, reference, folder, name, point):
    code, _, _ = server.run(*RUNS[name], "--out", folder, crash_at=point)
    assert code == -signal.SIGKILL
    code, _, err = resume(server, folder, RUNS[name])
    assert (code, err) == (0, ""), f"after a kill at point {point}"
    check_same(folder, reference(name))


def crash_points(server, reference, folder, name):
    """Two for each call that makes a write last or visible: just before it and just after."""
    reference(name)  # fills the compiler's cache, which writes too
    code, out, _ = server.run(*RUNS[name], "--out", folder, crash_at=0)
    assert code == 0
    return range(1, 2 * int(out.split()[-1]) + 1)


@pytest.mark.parametrize("name", ["compiled", "random", "optimal"])
def test_a_kill_around_the_first_and_last_writes(server, reference, tmp_path, name):
    points = crash_points(server, reference, tmp_path / "count", name)
    for point in [*points[:2], *points[-7:]]:
        crash_and_resume(server, reference, tmp_path / f"run{point}", name, point)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(RUNS))
def test_a_kill_around_every_write(server, reference, tmp_path, name):
    for point in crash_points(server, reference, tmp_path / "count", name):
        crash_and_resume(server, reference, tmp_path / f"run{point}", name, point)


def test_a_kill_of_a_real_process(server, reference, tmp_path):
    """No fork, no server: as a person would do it."""
    command = [sys.executable, str(ROOT / "train.py"), *map(str, RUNS["compiled"])]
    command += ["--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None and not (tmp_path / "run" / "checkpoint" / "state.npz").exists():
        time.sleep(0.002)
    process.kill()
    process.communicate()
    if not (tmp_path / "run" / "summary.json").exists():
        assert subprocess.run([*command, "--resume"], capture_output=True).returncode == 0
    check_same(tmp_path / "run", reference("compiled"))


def test_a_kill_while_overwriting(server, reference, tmp_path):
    """The old run may be gone or half gone; the same command still leads to a whole new one."""
    reference("compiled")
    for point in range(1, 30, 5):
        folder = tmp_path / f"run{point}"
        shutil.copytree(server.folder / "reference-compiled", folder)
        code, _, _ = server.run(
            *RUNS["compiled"], "--seed", 6, "--out", folder, "--overwrite", crash_at=point
        )
        assert code in (0, -signal.SIGKILL)  # 0: there are fewer points than that
        code, _, err = server.run(*RUNS["compiled"], "--out", folder, "--overwrite")
        assert (code, err) == (0, ""), f"after a kill at point {point}"
        check_same(folder, reference("compiled"))


def test_a_kill_while_overwriting_leaves_the_old_run_or_the_new(server, reference, tmp_path):
    """Never a mixture of both: --resume ends one or the other."""
    old, new = reference("compiled"), tmp_path / "new"
    assert server.run(*RUNS["compiled"], "--seed", 6, "--out", new)[0] == 0
    ends = {5: old, 6: (result(new), tensorboard(new))}
    seen = set()
    for point in range(1, 62, 5):
        folder = tmp_path / f"run{point}"
        shutil.copytree(server.folder / "reference-compiled", folder)
        code, _, _ = server.run(
            *RUNS["compiled"], "--seed", 6, "--out", folder, "--overwrite", crash_at=point
        )
        assert code in (0, -signal.SIGKILL)  # 0: there are fewer points than that
        code, _, err = server.run("entgame", "--out", folder, "--resume")
        assert (code, err) == (0, ""), f"after a kill at point {point}"
        seed = json.loads((folder / "config.json").read_text())["seed"]
        check_same(folder, ends[seed])
        seen.add(seed)
    assert seen == {5, 6}


# ---------------------------------------------------------------- two writers, foreign files


def test_a_second_process_is_refused(server, tmp_path):
    folder = tmp_path / "run"
    slow = (*RUNS["gymnasium"][:-2], "--checkpoint-every", 1, "--episodes", 100_000)
    command = [sys.executable, str(ROOT / "train.py"), *map(str, slow), "--out", str(folder)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not (folder / "checkpoint" / "state.npz").exists():
        assert first.poll() is None
        time.sleep(0.01)
    for flag in ("--resume", "--overwrite"):
        code, _, err = server.run(*slow, "--out", folder, flag)
        assert code == 2
        said = f"out must not be in use, got {folder}, where process {first.pid} writes"
        assert err == f"error: {said}\n"
    first.kill()
    first.communicate()
    rows = (folder / "metrics.jsonl").read_text().splitlines()[:-1]
    keys = [(row["tag"], row["step"]) for row in map(json.loads, rows)]
    assert len(keys) == len(set(keys))
    code, _, _ = server.run("entgame", "--out", folder, "--resume", signal=signal.SIGINT,
                            signal_after=1.0)  # fmt: skip
    assert code in (130, -signal.SIGINT)


@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_a_lost_config_comes_back_from_the_checkpoint(server, reference, tmp_path, how):
    folder = tmp_path / "run"
    assert server.run(*RUNS["compiled"], "--episodes", 32, "--out", folder)[0] == 0
    path = folder / "config.json"
    path.unlink() if how == "lost" else path.write_text("{")
    code, _, err = server.run("entgame", "--out", folder, "--resume", "--episodes", 60)
    assert (code, err) == (0, "")
    check_same(folder, reference("compiled"))
    assert json.loads(path.read_text())["settings"]["episodes"] == 60


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("episodes", "x", "must suit entgame: episodes must be a whole number, got 'x'"),
        ("episodes", "60", "episodes must be a value of its option in the settings stored"),
        ("episodes", 60.0, "must suit entgame: episodes must be a whole number, got '60.0'"),
        ("horizon", [6], "horizon must be a value of its option"),
        ("clip", 1, "must suit entgame"),
        ("objective", "--help", "must suit entgame"),
        ("help", True, "must suit entgame"),
        ("nothing", 3, "must suit entgame"),
        ("seed", 6, "seed must be 5 as when the run of the checkpoint there was started, got 6"),
    ],
)
def test_a_config_that_no_command_wrote(server, reference, tmp_path, name, value, said):
    reference("compiled")
    folder = tmp_path / "run"
    shutil.copytree(server.folder / "reference-compiled", folder)
    config = json.loads((folder / "config.json").read_text())
    config["settings"][name] = value
    (folder / "config.json").write_text(json.dumps(config))
    code, out, err = server.run("entgame", "--out", folder, "--resume", "--episodes", 80)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err


def test_a_foreign_checkpoint_or_log_is_refused_and_nothing_is_lost(server, reference, tmp_path):
    for name in ("compiled", "random"):
        reference(name)
    for file, said in (
        ("checkpoint/state.npz", "command must be 'random-policy' as when the run of the check"),
        ("metrics.jsonl", "metrics.jsonl must begin with the"),
    ):
        folder = tmp_path / file.replace("/", "-")
        shutil.copytree(server.folder / "reference-compiled", folder)
        shutil.copy(server.folder / "reference-random" / file, folder / file)
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        code, _, err = server.run("entgame", "--out", folder, "--resume", "--episodes", 80)
        assert code == 2
        assert err.count("\n") == 1
        assert said in err
        after = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        assert {p: c for p, c in after.items() if p.name != "config.json"} == {
            p: c for p, c in before.items() if p.name != "config.json"
        }


# ---------------------------------------------------------------- Ctrl-C


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_saves_exits_130_and_resumes_exactly(server, tmp_path, number):
    command = ("entgame", "--env-id", "rlentropy/DoubleChain-v0", "--episodes", 6_000)
    code, _, err = server.run(*command, "--out", tmp_path / "whole")
    assert (code, err) == (0, "")
    folder = tmp_path / "broken"
    when = str(folder / "metrics.jsonl")  # when episodes are being played
    code, _, err = server.run(*command, "--out", folder, signal=number, signal_when=when)
    assert code == 130
    assert err.count("\n") == 1
    assert "--resume" in err
    assert (folder / "checkpoint" / "state.npz").exists()
    assert not (folder / "summary.json").exists()
    before = len((folder / "metrics.jsonl").read_text().splitlines())
    assert before > 0
    code, _, err = server.run("entgame", "--out", folder, "--resume")
    assert (code, err) == (0, "")
    check_same(folder, (result(tmp_path / "whole"), tensorboard(tmp_path / "whole")))


def test_interrupt_while_importing_or_solving_shows_no_traceback(server, tmp_path):
    command = (
        *("entgame", "--env-id", "rlentropy/DoubleChain-v0", "--objective", "AVE_S"),
        *("--env-kwargs", '{"num_states": 61}', "--horizon", 40),
    )
    for k, delay in enumerate((0.0, 0.02, 0.3)):
        code, _, err = server.run(
            *command, "--episodes", 1, "--out", tmp_path / str(k), signal=signal.SIGINT,
            signal_after=delay,
        )  # fmt: skip
        assert code in (0, 130, -signal.SIGINT)
        assert err.count("\n") <= 1


# ---------------------------------------------------------------- longer and other runs


@pytest.mark.parametrize("name", ["compiled", "gymnasium", "random"])
def test_half_and_resume_is_the_whole(server, reference, tmp_path, name):
    """run(2n) == run(n) + resume; 32 is on the schedule of evaluations, 17 is not."""
    for n, length in enumerate((17, 32)):
        folder = tmp_path / f"run{n}"
        code, _, _ = server.run(*RUNS[name], "--episodes", length, "--out", folder)
        assert code == 0
        assert json.loads((folder / "summary.json").read_text())["episodes"] == length
        code, _, err = server.run(RUNS[name][0], "--out", folder, "--resume", "--episodes", 60)
        assert (code, err) == (0, "")
        found, (want, _) = result(folder), reference(name)
        if length == 17:  # it evaluated there, being its end
            extra = [row for row in found["metrics"] if row not in want["metrics"]]
            assert len({row["step"] for row in extra}) == 1
            found["metrics"] = [row for row in found["metrics"] if row not in extra]
            want = want | {"figures": dict(want["figures"])}
            for each in (found, want):  # which shows that evaluation, too
                each["figures"].pop("gaps.png")
        assert found == want


def test_resuming_a_finished_run_prints_it_and_changes_nothing(server, reference, tmp_path):
    reference("compiled")
    folder = tmp_path / "run"
    shutil.copytree(server.folder / "reference-compiled", folder)
    before = {p.name: p.read_bytes() for p in folder.rglob("*") if p.suffix in (".npz", ".jsonl")}
    before["summary.json"] = (folder / "summary.json").read_bytes()
    code, out, err = server.run("entgame", "--out", folder, "--resume")
    assert (code, err) == (0, "")
    assert str(folder) in out
    assert "mixture_value" in out
    after = {p.name: p.read_bytes() for p in folder.rglob("*") if p.name in before}
    assert after == before


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (("--seed", 6), "seed"),
        (("--horizon", 7), "horizon"),
        (("--objective", "VE_S"), "objective"),
        (("--bonus", "code"), "bonus"),
        (("--clip",), "clip"),
        (("--prior", 0.5), "prior"),
        (("--env-id", "rlentropy/RiverSwim-v0"), "env_id"),
        (("--env-kwargs", "{}"), "env_kwargs"),
        (("--simulator", "gymnasium"), "simulator"),
        (("--mixture-size", 3), "mixture_size"),
        (("--episodes", 30), "episodes"),
    ],
)
def test_resume_refuses_other_settings_and_touches_nothing(
    server, reference, tmp_path, change, name
):
    reference("compiled")
    folder = tmp_path / "run"
    shutil.copytree(server.folder / "reference-compiled", folder)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    code, _, err = server.run("entgame", "--out", folder, "--resume", *change)
    assert code == 2, err
    assert err.count("\n") == 1
    assert name in err
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_resume_of_another_command(server, reference, tmp_path):
    reference("compiled")
    code, _, err = server.run(
        "random-policy", "--out", server.folder / "reference-compiled", "--resume"
    )
    assert code == 2
    assert "command" in err
    assert "entgame" in err  # whose run it is


def test_resume_may_change_how_it_reports(server, reference, tmp_path):
    folder = tmp_path / "run"
    assert server.run(*RUNS["compiled"], "--episodes", 20, "--out", folder)[0] == 0
    code, out, err = server.run(
        *("entgame", "--out", folder, "--resume", "--episodes", 60, "--quiet"),
        *("--eval-every", 11, "--checkpoint-every", 0),
    )
    assert (code, out, err) == (0, "", "")
    assert result(folder)["policy.npz"] == reference("compiled")[0]["policy.npz"]
    assert result(folder)["summary"] == reference("compiled")[0]["summary"]


def test_resume_of_nothing(server, tmp_path):
    code, _, err = server.run("entgame", "--out", tmp_path / "nothing", "--resume")
    assert code == 2
    assert err.count("\n") == 1
    assert "out" in err or "env_id" in err


def test_a_moved_run_resumes(server, reference, tmp_path):
    assert server.run(*RUNS["compiled"], "--episodes", 32, "--out", tmp_path / "here")[0] == 0
    (tmp_path / "here").rename(tmp_path / "there")
    code, _, err = server.run("entgame", "--out", tmp_path / "there", "--resume", "--episodes", 60)
    assert (code, err) == (0, "")
    check_same(tmp_path / "there", reference("compiled"))
    assert not (tmp_path / "here").exists()


# ---------------------------------------------------------------- no space


def check_no_space(code, err):
    assert code == 2, err
    assert err.count("\n") == 1, err
    assert err.startswith("error: out must be")


def test_file_limit_during_a_checkpoint(server, tmp_path, reference):
    """Writes of more than so many bytes fail, as on a full disk; the last checkpoint survives."""
    folder = tmp_path / "run"
    assert server.run(*RUNS["compiled"], "--episodes", 32, "--out", folder)[0] == 0
    state = folder / "checkpoint" / "state.npz"
    before = state.read_bytes()
    config = (folder / "config.json").stat().st_size
    assert config < len(before)
    for limit in (config + 100, len(before) // 2, len(before)):
        code, _, err = server.run(
            *("entgame", "--out", folder, "--resume", "--episodes", 60, "--checkpoint-every", 1),
            file_limit=limit,
        )
        check_no_space(code, err)
        assert not (folder / "summary.json").exists()
    code, _, err = server.run(
        *("entgame", "--out", folder, "--resume", "--episodes", 60, "--checkpoint-every", 20)
    )
    assert (code, err) == (0, "")
    check_same(folder, reference("compiled"))


@pytest.mark.parametrize("limit", [600, 1500])
def test_file_limit_from_the_start(server, tmp_path, limit, reference):
    code, _, err = server.run(*RUNS["compiled"], "--out", tmp_path / "run", file_limit=limit)
    check_no_space(code, err)
    code, _, err = resume(server, tmp_path / "run", RUNS["compiled"])
    assert (code, err) == (0, "")
    check_same(tmp_path / "run", reference("compiled"))


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 512 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    """Write until there is no space."""
    with open(folder / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 1024)
        except OSError:
            pass


def test_full_disk(server, tiny_disk, reference):
    folder = tiny_disk / "run"
    # Few episodes at first: the rest must need more than the pages that resuming itself frees.
    assert server.run(*RUNS["compiled"], "--episodes", 10, "--out", folder)[0] == 0
    before = (folder / "checkpoint" / "state.npz").read_bytes()
    fill(tiny_disk)
    again = ("entgame", "--out", folder, "--resume", "--episodes", 60)
    check_no_space(*server.run(*again)[::2])
    for left in (3, 9, 20, 40):  # KiB: it gets further each time
        os.truncate(tiny_disk / "filler", 0)
        fill(tiny_disk)
        os.truncate(tiny_disk / "filler", (tiny_disk / "filler").stat().st_size - left * 1024)
        code, _, err = server.run(*again)
        if code == 0:
            break
        check_no_space(code, err)
        with np.load(folder / "checkpoint" / "state.npz") as file:
            assert json.loads(str(file["json"]))["state"]["agent"]["learner"]["episodes"] >= 10
    assert before
    (tiny_disk / "filler").unlink()
    code, _, err = server.run(*again)
    assert (code, err) == (0, "")
    check_same(folder, reference("compiled"))


def test_full_disk_from_the_start(server, tiny_disk):
    fill(tiny_disk)
    check_no_space(*server.run(*RUNS["compiled"], "--out", tiny_disk / "run")[::2])


def test_read_only_disk(server, tiny_disk, reference):
    folder = tiny_disk / "run"
    assert server.run(*RUNS["compiled"], "--episodes", 32, "--out", folder)[0] == 0
    remount = ["mount", "-o", "remount,{}", str(tiny_disk)]
    subprocess.run([x.format("ro") for x in remount], check=True)
    check_no_space(*server.run(*RUNS["compiled"], "--out", tiny_disk / "other")[::2])
    again = ("entgame", "--out", folder, "--resume", "--episodes", 60)
    check_no_space(*server.run(*again)[::2])
    subprocess.run([x.format("rw") for x in remount], check=True)
    code, _, err = server.run(*again)
    assert (code, err) == (0, "")
    check_same(folder, reference("compiled"))
