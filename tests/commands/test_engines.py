"""Engines: what a sweep survives, and what it leaves to go on with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from examples.runs import summary

from rlentropy.cli import main
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
