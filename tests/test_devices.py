"""Every command with networks on the device of RLENTROPY_DEVICE; without one, a few on the CPU.

    RLENTROPY_DEVICE=cuda python -m pytest tests/test_devices.py

On the CPU a stand-in takes the part of mps, which has no double precision.
"""

import contextlib
import json
import os
import sys

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rlentropy import cli, load_run
from rlentropy.errors import InputError
from rlentropy.neural import devices
from rlentropy.neural.networks import MLP, Adam
from rlentropy.runs.folder import accelerator

DEVICE = os.environ.get("RLENTROPY_DEVICE", "cpu")
ELSEWHERE = pytest.mark.skipif(
    DEVICE == "cpu", reason="needs an accelerator: set RLENTROPY_DEVICE to cuda or mps"
)

EXPLORING = ("--hidden", "16", "--horizon", "20", "--episodes", "4", "--final-episodes", "4")
CAR = ("--env-id", "MountainCarContinuous-v0", *EXPLORING, "--evaluation-episodes", "4")
SOFT = (*CAR, "--updates", "20")
CRITIC = (
    *("robust-actor-critic", "--env-id", "CartPole-v1", "--num-envs", "2", "--rollout-steps"),
    *("64", "--hidden", "16", "--evaluation-episodes", "1", "--final-episodes", "2"),
    *("--risk", "entropic:0.01"),
)
FITTED = (
    "--hidden",
    "32",
    "32",
    "--batch-size",
    "64",
    "--target-every",
    "5",
    "--episodes",
    "2",
    "--eval-every",
    "25",
)
ASKED = (
    *("active-preference", "--env-id", "CartPole-v1", "--batch-size", "4", "--pool", "2"),
    *("--segment-length", "10", "--hidden", "8", "--evaluation-segments", "4"),
    *("--final-episodes", "2", "--policy-steps", "256"),
)
WROTE = (
    *("language-preference", "--model", "random:2,8", "--batch-size", "4", "--pool", "1"),
    *("--max-new-tokens", "6", "--evaluation-prompts", "4", "--evaluation-pairs", "4"),
    *("--epochs", "2", "--learning-rate", "1e-3", "--reward", "share:aeiou"),
)

# Name → the command line, and its budget: half of it, and all.
CASES = {
    "histogram, soft-q": (("neural-entgame", *SOFT, "--sampler", "soft-q"), "steps", 160, 320),
    "likelihood, actor-critic": (
        ("neural-entgame", *SOFT, "--sampler", "actor-critic", "--forecaster", "likelihood"),
        *("steps", 160, 320),
    ),
    "knn, soft-q": (
        ("neural-entgame", *SOFT, "--sampler", "soft-q", "--forecaster", "knn"),
        *("steps", 160, 320),
    ),
    "mepol": (("mepol", *CAR, "--inner-steps", "5"), "steps", 160, 320),
    "neural-maxent": (("neural-maxent", *SOFT, "--oracle-rounds", "2"), "steps", 160, 480),
    "neural-random": (("neural-random", *CAR), "steps", 160, 320),
    "robust-actor-critic": (CRITIC, "steps", 256, 512),
    "robust-actor-critic, normal": (
        tuple("Pendulum-v1" if x == "CartPole-v1" else x for x in CRITIC),
        *("steps", 256, 512),
    ),
    "rfzi": (("rfzi", "--data", "cart.npz", *FITTED), "updates", 25, 50),
    "rfzi, seeds": (
        ("rfzi", "--data", "cart.npz", *FITTED, "--seeds", "2", "--support", "0.2"),
        *("updates", 25, 50),
    ),
    "rfzi, published": (
        ("rfzi", "--data", "cart.npz", *FITTED, "--recipe", "published"),
        *("updates", 25, 50),
    ),
    "rfqi": (("rfqi", "--data", "swing.npz", *FITTED), "updates", 25, 50),
    "fqi": (("fqi", "--data", "swing.npz", *FITTED, "--tau", "0.5"), "updates", 25, 50),
    "fqi, states": (
        ("fqi", "--data", "ring.npz", *FITTED, "--approximator", "neural"),
        *("updates", 25, 50),
    ),
    "dpo": ((*ASKED, "--loss", "dpo"), "labels", 4, 8),
    "cpl": ((*ASKED, "--loss", "cpl"), "labels", 4, 8),
    "ipo": ((*ASKED, "--loss", "ipo"), "labels", 4, 8),
    "reward-model": ((*ASKED, "--loss", "reward-model"), "labels", 4, 8),
    "language-preference": (WROTE, "labels", 4, 8),
}
ON_CPU = ("histogram, soft-q", "robust-actor-critic", "rfzi", "fqi, states")
DOUBTFUL = ("likelihood, actor-critic", "rfqi", "fqi, states")  # that mps has no doubles for
HERE = CASES if DEVICE != "cpu" else ON_CPU
PLAYED = {"cart.npz": "CartPole-v1", "swing.npz": "Pendulum-v1"}
EVALUATED = {"cart.npz": "CartPole-v1", "swing.npz": "Pendulum-v1", "ring.npz": "rlentropy/Ring-v0"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with datasets."""
    base = tmp_path_factory.mktemp("devices")
    with contextlib.chdir(base):
        for name, env_id in EVALUATED.items():
            line = ["collect", "--env-id", env_id, "--steps", "1000", "--data", name, "--quiet"]
            assert cli.main([*line, "--horizon", "20"]) == 0
    return base


@pytest.fixture
def played(folder, monkeypatch):
    """Runs of a case, by device and budget; each is played once."""
    monkeypatch.chdir(folder)

    def play(name, out, budget, device=DEVICE, *more):
        line, option, *budgets = CASES[name]
        needs_extra(name)
        if "--data" in line:
            line = (*line, "--env-id", EVALUATED[line[line.index("--data") + 1]])
        out = folder / f"{name.replace(', ', '-')}-{out}"
        argv = [*line, f"--{option}", str(budgets[budget]), "--device", device, "--quiet", *more]
        assert cli.main([*argv, "--out", str(out)]) == 0
        return out

    return play


def needs_extra(name):
    if name == "language-preference":
        for module in ("transformers", "trl", "datasets"):
            pytest.importorskip(module)


def parts(folder):
    """What a run found, and what it logged but for the clock."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = {
        f"{line['tag']} {line['step']}": line["value"]
        for line in lines
        if not line["tag"].startswith("time/")
    }
    if (folder / "policy.pt").is_file():
        found |= dict(tensors(torch.load(folder / "policy.pt", weights_only=True)))
    if (folder / "policy.npz").is_file():
        with np.load(folder / "policy.npz") as arrays:
            found |= {name: arrays[name].tobytes() for name in arrays.files}
    return found


def tensors(content, name="policy"):
    """Name → bits of each tensor, which must all be of the CPU."""
    if isinstance(content, torch.Tensor):
        assert content.device.type == "cpu", name
        yield name, content.numpy().tobytes()
    elif isinstance(content, dict | list):
        for key, part in content.items() if isinstance(content, dict) else enumerate(content):
            yield from tensors(part, f"{name}.{key}")


def differing(one, other):
    """Names of what two runs have otherwise."""
    one, other = parts(one), parts(other)
    return [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]


# ---------------------------------------------------------------- on this device


@pytest.mark.parametrize("name", HERE)
def test_a_run_repeats_itself_and_resumes_to_the_same_bits(played, name):
    whole = played(name, "whole", 1)
    assert differing(whole, played(name, "again", 1)) == []
    half = played(name, "half", 0)
    assert played(name, "half", 1, DEVICE, "--resume") == half
    assert differing(whole, half) == []


@ELSEWHERE
@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("devices", [("cpu", DEVICE), (DEVICE, "cpu")])
def test_a_run_goes_on_on_another_device(played, name, devices):
    out = f"moved-{devices[0]}"
    played(name, out, 0, devices[0])
    moved = played(name, out, 1, devices[1], "--resume")
    assert json.loads((moved / "summary.json").read_text())["finished"]


@pytest.mark.parametrize("name", [name for name in HERE if name != "language-preference"])
def test_a_policy_acts_where_there_is_no_accelerator(played, name, monkeypatch, tmp_path):
    run = played(name, "whole", 1, DEVICE, "--resume")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices, "current", lambda: pytest.fail("a network was made"))
    argv = ["evaluate", "--run", str(run), "--episodes", "2", "--horizon", "10", "--quiet"]
    assert cli.main([*argv, "--out", str(tmp_path / "out")]) == 0
    if (run / "policy.pt").is_file():
        assert load_run(run).policy is not None


# ---------------------------------------------------------------- the device itself


def test_networks_are_made_where_they_are_asked_for():
    assert devices.current() == torch.get_default_device()
    with devices.on(torch.device("meta")):
        assert devices.current().type == "meta"
        with devices.on(devices.CPU):
            assert MLP((2, 3), [np.random.default_rng(0)]).flat.device.type == "cpu"
    with torch.device("meta"):
        assert devices.current().type == "meta"
    assert devices.current().type == "cpu"


@pytest.mark.parametrize("name", ["meta", "nowhere", "cuda:99", ""])
def test_a_device_that_is_not_here_is_refused(name):
    with pytest.raises(InputError, match=f"device must be a torch device that is here, .*'{name}'"):
        devices.found(name)


def test_memory_that_does_not_suffice_is_one_line():
    match = "device must have room for networks and batches, got cpu: CUDA out of memory"
    with pytest.raises(InputError, match=match), devices.on(devices.CPU):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB. GPU 0 has")


def test_doubles_are_single_where_a_device_has_none():
    assert devices.precise(torch.device("mps")) == torch.float32
    assert devices.precise(torch.device("cuda")) == torch.float64
    assert devices.put([0.1], devices.CPU).dtype == torch.float64
    assert devices.put([0.1], devices.CPU, torch.float32).dtype == torch.float32


def test_an_optimiser_is_saved_and_restored_on_the_device():
    device = devices.found(DEVICE)
    one = MLP((2, 3, 1), [np.random.default_rng(0)], device=device)
    adam = Adam(one, 1e-2)
    x = torch.ones(4, 2, device=device)

    def step(network, optimiser):
        network(x).square().mean().backward()
        optimiser.step()

    step(one, adam)
    two = one.copy()
    restored = Adam(two, 1e-2)
    restored.load_state_dict(adam.state_dict())
    for network, optimiser in ((one, adam), (two, restored)):
        step(network, optimiser)
    assert torch.equal(one.flat, two.flat)
    assert two.flat.device.type == device.type


def test_a_run_knows_its_gpu_by_name(monkeypatch):
    assert accelerator("cpu") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a GPU, {device}")
    assert accelerator("cuda:1") == "a GPU, cuda:1"
    monkeypatch.delitem(sys.modules, "torch")
    assert accelerator("cuda") is None


# ---------------------------------------------------------------- as if it were mps


class NoDoubles(TorchDispatchMode):
    """Refuses what mps refuses: every operation that reads or makes double precision."""

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        out = op(*args, **(kwargs or {}))
        moved = ("aten.lift_fresh", "aten.detach", "aten._to_copy", "aten.copy_", "aten.isfinite")
        if not str(op).startswith(moved):  # on the way to the CPU's files
            for x in torch.utils._pytree.tree_leaves((args, kwargs, out)):
                if isinstance(x, torch.Tensor) and x.dtype == torch.float64 and x.ndim:
                    raise TypeError(f"{op} has double precision, which mps does not have")
        return out


@pytest.mark.skipif(DEVICE != "cpu", reason="the CPU stands in for mps")
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in DOUBTFUL else pytest.mark.slow) for name in CASES],
)
def test_no_double_precision_reaches_a_network(played, name, monkeypatch):
    monkeypatch.setattr(devices, "precise", lambda device: torch.float32)
    with NoDoubles():
        played(name, "single", 0)


def test_the_stand_in_refuses_doubles():
    with NoDoubles(), pytest.raises(TypeError, match="double precision"):
        torch.ones(2, dtype=torch.float64) + 1.0
