"""Several processes that learn together, against one that learns alone."""

import json
import pickle
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from examples.command_line import ROOT, check_refusal, process
from examples.ranks import RUNS, free_ports, places, play
from hypothesis import given
from hypothesis import strategies as st

from rlentropy.errors import InputError
from rlentropy.log import ranks

TWO = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
DATA = ("--env-id", "CartPole-v1", "--steps", "2000", "--data", "cart.npz")
LINE = ("rfzi", "--data", "cart.npz", "--hidden", "24", "24", "--batch-size", "60", "--out", "run")


def start(size, *arguments, cwd, program=ROOT / "train.py", ports=None):
    """The processes of a command, as torchrun starts them."""
    return [
        subprocess.Popen(
            [sys.executable, str(program), *map(str, arguments)],
            cwd=cwd,
            env=place,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for place in places(size, ports or free_ports(1))
    ]


def ends(processes):
    """Exit code and standard error of each."""
    told = [process.communicate(timeout=100)[1] for process in processes]
    return [process.returncode for process in processes], told


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a dataset."""
    base = tmp_path_factory.mktemp("ranks")
    assert process("collect", *DATA, "--quiet", cwd=base).returncode == 0
    return base


@pytest.fixture
def begun(folder, tmp_path):
    """A folder with a long run of two processes, which have saved a checkpoint."""
    shutil.copy(folder / "cart.npz", tmp_path)
    line = (*LINE, "--updates", "1000000", "--checkpoint-every", "20", "--quiet")
    processes = start(2, *line, cwd=tmp_path)
    until = time.monotonic() + 100
    while not (tmp_path / "run/checkpoint/state.npz").exists() and time.monotonic() < until:
        assert [p.poll() for p in processes] == [None, None], ends(processes)
        time.sleep(0.05)
    yield tmp_path, processes
    for left in processes:
        left.kill()
        left.communicate()


# ---------------------------------------------------------------- places and parts


def test_a_place_is_what_torchrun_says():
    assert ranks.Place.of(TWO) == ranks.Place(1, 2, 1)
    assert ranks.Place.of({}) == ranks.Place.of(TWO | {"RANK": "x"}) == ranks.ALONE
    assert (ranks.size(), ranks.follows(), ranks.part_of(7)) == (1, False, slice(0, 7))


@given(n=st.integers(0, 1000), size=st.integers(1, 50))
def test_parts_are_all_there_is(n, size):
    before = ranks._here
    rows = []
    for rank in range(size):
        ranks._here = ranks.Place(rank, size, rank)
        part = ranks.part_of(n)
        assert n // size <= part.stop - part.start <= -(-n // size)
        rows += range(n)[part]
    ranks._here = before
    assert rows == list(range(n))


def test_alone_nothing_is_shared():
    agent = object()
    with ranks.joined("cpu") as device:
        assert device == "cpu"
        assert ranks.led(agent) is agent
        ranks.add_up(None)


@pytest.mark.parametrize(
    ("device", "name", "match"),
    [
        ("cuda", "cuda.device_count", "device cuda must have a GPU for each process, got 1 for 2"),
        ("mps", "cuda.device_count", "device must be cpu or cuda for several processes, got mps"),
        ("cpu", "distributed.is_available", "torch must have torch.distributed for several"),
    ],
)
def test_processes_that_can_not_be_joined(monkeypatch, device, name, match):
    torch = pytest.importorskip("torch")
    for variable, value in TWO.items():
        monkeypatch.setenv(variable, value)
    where, _, what = name.partition(".")
    monkeypatch.setattr(getattr(torch, where), what, lambda: int(where == "cuda"))
    with pytest.raises(InputError, match=match), ranks.joined(device):
        pass


# ---------------------------------------------------------------- the same as alone


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_processes_find_what_one_finds(size, tmp_path):
    ports = free_ports(len(RUNS))
    program = ROOT / "tests/examples/ranks.py"
    processes = start(size, tmp_path / "found", *ports, cwd=tmp_path, program=program, ports=ports)
    alone = {name: play(name) for name in RUNS}
    codes, told = ends(processes)
    assert codes == [0] * size, told
    together = pickle.loads((tmp_path / "found").read_bytes())
    for name, parts in alone.items():
        assert parts.keys() == together[name].keys()
        for part, values in parts.items():
            gap = np.linalg.norm(together[name][part] - values)
            assert gap <= 1e-5 * np.linalg.norm(values), (name, part)


# ---------------------------------------------------------------- ends


@pytest.mark.parametrize("killed", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_killed_process_ends_all_and_the_run_goes_on_in_one(begun, killed):
    cwd, processes = begun
    processes[killed].kill()
    codes, told = ends(processes)
    assert codes[killed] == -signal.SIGKILL
    assert codes[1 - killed] == 2
    if killed:
        check_refusal(codes[0], told[0], "got one that ended: --resume goes on")
    assert told[1] == ""  # it follows, and rank 0 speaks
    assert not list(cwd.glob("run/summary.json"))
    line = (*LINE, "--updates", "100000", "--quiet", "--resume", "--eval-every", "50")
    done = json.loads(process_state(cwd))["updates"]
    ended = process(*(x if x != "100000" else str(done + 50) for x in line), cwd=cwd)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads((cwd / "run/summary.json").read_text())["updates"] == done + 50


def process_state(cwd):
    """Of the checkpoint's agent, what isn't arrays."""
    with np.load(cwd / "run/checkpoint/state.npz") as file:
        return json.dumps(json.loads(str(file["json"]))["state"]["agent"])


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_stop_saves_and_ends_all(begun, number):
    cwd, processes = begun
    for one in processes:
        one.send_signal(number)
    codes, told = ends(processes)
    assert codes == [130, 130]
    assert told == ["interrupted; --resume goes on from the last checkpoint\n", ""]
    assert json.loads(process_state(cwd))["updates"] > 0


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(folder, tmp_path):
    shutil.copy(folder / "cart.npz", tmp_path)
    found = []
    for name, sizes in (("alone", (1, 1)), ("more", (2, 3))):
        for size, updates in zip(sizes, ("100", "200"), strict=True):
            line = (*LINE[:-1], name, "--updates", updates, "--quiet", "--resume")
            codes, told = ends(start(size, *line, cwd=tmp_path))
            assert codes == [0] * size, told
        found.append(networks(tmp_path / name))
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert config["processes"] == sizes[1]
    for alone, more in zip(*found, strict=True):
        assert np.linalg.norm(alone - more) <= 1e-5 * np.linalg.norm(alone)


def networks(run):
    torch = pytest.importorskip("torch")
    saved = torch.load(run / "policy.pt", weights_only=True)
    return [part.numpy() for part in saved["network"]]


@pytest.mark.slow
def test_torchrun_starts_a_run(folder, tmp_path):
    shutil.copy(folder / "cart.npz", tmp_path)
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    line += [str(ROOT / "train.py"), *LINE, "--updates", "50", "--quiet"]
    ended = subprocess.run(line, cwd=tmp_path, env=next(places(1, [0])))
    assert ended.returncode == 0
    assert json.loads((tmp_path / "run/summary.json").read_text())["finished"]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("entgame", "--env-id", "FrozenLake-v1"), "entgame must run in one process, got 2 of tor"),
        (("robust-actor-critic", "--env-id", "CartPole-v1"), "must run in one process"),
        (
            ("evaluate", "--run", "run"),
            "evaluate must run in one process, .* which rfzi, rfqi, fqi",
        ),
    ],
)
def test_commands_that_do_not_share(command_line, monkeypatch, line, said):
    for name, value in (TWO | {"RANK": "0", "LOCAL_RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    code, _, err = command_line(*line)
    check_refusal(code, err, said)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert command_line(*line) == (2, "", "")


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        (
            "fqi, states",
            {"approximator": "tabular", "seeds": 1},
            "approximator must be neural for several",
        ),
        ("rfzi", {"batch_size": 1}, "batch_size must be >= 2, the processes, got 1"),
    ],
)
def test_runs_that_can_not_be_shared(monkeypatch, name, options, match):
    monkeypatch.setattr(ranks, "_here", ranks.Place(0, 2, 0))
    monkeypatch.setitem(RUNS, name, (*RUNS[name][:2], RUNS[name][2] | options))
    with pytest.raises(InputError, match=match):
        play(name)
