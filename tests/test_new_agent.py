"""A new agent is a short module and a row in the table; all else comes with the house.

The agent is tests/agents/cem.py, the cross-entropy method. Its generations cost as many steps as
its episodes happen to take, so that no schedule and no budget is met exactly.
"""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlentropy import load_run
from rlentropy.cli import main
from rlentropy.log import CHECKPOINT, Log
from rlentropy.runs.table import COMMANDS, Command

AGENTS = Path(__file__).parent / "agents"
ROW = Command("cem", "cross-entropy method", needs="env", budget="steps", axis="env_steps")
TRAIN = (
    "cem",
    "--env-id",
    "CartPole-v1",
    "--seed",
    "1",
    "--steps",
    "6000",
    "--quiet",
    "--population",
    "8",
    "--elites",
    "2",
)
SAVED = ("--checkpoint-every", "500")
ALONE = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from rlentropy.cli import main
from rlentropy.runs.table import COMMANDS, Command
COMMANDS["cem"] = Command("cem", "cross-entropy method", needs="env", budget="steps",
                          axis="env_steps")
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def _row(monkeypatch):
    monkeypatch.syspath_prepend(str(AGENTS))
    monkeypatch.setitem(COMMANDS, "cem", ROW)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(AGENTS))
        patch.setitem(COMMANDS, "cem", ROW)
        assert main([*TRAIN, *SAVED, "--out", str(folder)]) == 0
    return folder


def outcome(folder):
    """All that a run leaves, to the bit, without the clock."""
    import torch

    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text())
    weights = torch.load(folder / "policy.pt", weights_only=True)["weights"]
    return (
        [row for row in rows if not row["tag"].startswith("time/")],
        {k: v for k, v in summary.items() if not k.endswith("_seconds")},
        weights.numpy().tobytes(),
        scalars(folder),
    )


def scalars(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
        if not tag.startswith("time/")
    }


def test_the_agent_is_short():
    lines = (AGENTS / "cem.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 60


def test_it_learns_and_its_folder_is_as_the_contract_says(whole):
    run = load_run(whole)
    assert run.summary["mean_return"] > 195  # what gymnasium once called solved
    assert run.summary["axis"] == "env_steps"
    assert run.summary["env_steps"] >= run.summary["steps"] == 6000
    steps, returns = run.metrics["eval/return"]
    assert returns[-1] == run.summary["mean_return"]
    assert steps[-1] == run.summary["env_steps"]
    assert {"train/return", "time/steps_per_second"} <= set(run.metrics)
    assert scalars(whole).keys() >= {"eval/return", "train/return", "hparam/mean_return"}


def test_killed_at_any_instant_and_resumed_to_the_same_bits(whole, tmp_path):
    """SIGKILL, whenever a checkpoint has been written."""
    command = [*TRAIN, *SAVED, "--out", str(tmp_path / "run")]
    process = subprocess.Popen([sys.executable, "-c", ALONE, str(AGENTS), *command])
    while process.poll() is None and not (tmp_path / "run" / CHECKPOINT).exists():
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "run" / "summary.json").exists()
    assert main([*command, "--resume"]) == 0
    assert outcome(tmp_path / "run") == outcome(whole)


def test_interrupted_and_resumed_to_the_same_bits(whole, tmp_path, monkeypatch, capsys):
    """Ctrl-C in every second generation."""
    agent = import_module("cem").CrossEntropy
    advance, calls = agent.advance, []

    def interrupted(self, steps):
        calls.append(steps)
        if len(calls) % 2 == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return advance(self, steps)

    monkeypatch.setattr(agent, "advance", interrupted)
    command = [*TRAIN, *SAVED, "--out", str(tmp_path / "run")]
    codes = [main(command)]
    while codes[-1] == 130 and len(codes) < 20:
        codes.append(main([*command, "--resume"]))
    assert codes[-1] == 0
    assert len(codes) > 2
    assert "interrupted; --resume goes on" in capsys.readouterr().err
    assert outcome(tmp_path / "run") == outcome(whole)


def test_killed_after_its_last_checkpoint_it_is_scored_and_ends(whole, tmp_path, monkeypatch):
    """The last generation goes beyond the budget, which is no reason to refuse it."""

    class Killed(Exception):
        pass

    def killed(log, *arguments):
        raise Killed

    command = [*TRAIN, *SAVED, "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(Log, "hparams", killed)
        with pytest.raises(Killed):
            main(command)
    assert main([*command, "--resume"]) == 0
    assert outcome(tmp_path / "run") == outcome(whole)
    assert main([*command[:-2], "--steps", "100", *command[-2:], "--resume"]) == 2


def test_a_longer_budget_goes_on_where_the_shorter_ended(whole, tmp_path):
    command = [*TRAIN, *SAVED, "--out", str(tmp_path / "run")]
    assert main([*command, "--steps", "2000"]) == 0
    assert main([*command, "--resume"]) == 0
    assert outcome(tmp_path / "run")[1:3] == outcome(whole)[1:3]


def test_compare_tabulates_its_seeds(whole, tmp_path):
    again = [*TRAIN, "--out", str(tmp_path / "other")]
    again[again.index("--seed") + 1] = "2"
    assert main(again) == 0
    folders = [str(whole), str(tmp_path / "other")]
    assert main(["compare", *folders, "--out", str(tmp_path / "out"), "--quiet"]) == 0
    (row,) = csv.DictReader((tmp_path / "out" / "final.csv").open())
    returns = [load_run(folder).summary["mean_return"] for folder in folders]
    assert (row["algorithm"], row["seeds"]) == ("cem", "2")
    assert float(row["mean"]) == pytest.approx(np.mean(returns))


def test_its_policy_plays_in_python_and_is_evaluated(whole, tmp_path):
    policy = load_run(whole).policy
    env = gymnasium.make("CartPole-v1")
    assert policy.act(env.reset(seed=0)[0]) in (0, 1)
    assert policy.act(np.zeros((3, 4))).shape == (3,)
    command = ["evaluate", "--run", str(whole), "--episodes", "3", "--quiet"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    (row,) = [
        row
        for row in csv.DictReader((tmp_path / "evaluation.csv").open())
        if row["metric"] == "return"
    ]
    assert float(row["mean"]) > 100.0


def test_the_bar_shows_its_budget(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    loud = [word for word in TRAIN if word != "--quiet"]
    assert main([*loud, "--steps", "2000", "--out", str(tmp_path / "run")]) == 0
    assert "/2 000" in terminal.getvalue()
