"""--horizon, and max_episode_steps in --env-kwargs, wherever an environment is played."""

import csv
import json
import shlex
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from rlentropy.cli import main
from rlentropy.data import load


class Endless(gymnasium.Env):
    """Pays 1 a step and never ends; nothing is registered that would end it."""

    action_space = Discrete(2)

    def __init__(self, states=0, pay=1.0):
        self.observation_space = Discrete(states) if states else Box(0.0, 1.0, (1,))
        self.pay = pay

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), self.pay, False, False, {}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = gymnasium.envs.registration.EnvSpec
    monkeypatch.setitem(gymnasium.registry, "Endless-v0", spec("Endless-v0", Endless))
    limited = spec("Limited-v0", Endless, max_episode_steps=6)
    monkeypatch.setitem(gymnasium.registry, "Limited-v0", limited)


def call(line, code=0):
    assert main([*shlex.split(line), "--quiet"]) == code


def summary(folder):
    with open(f"{folder}/summary.json") as file:
        return json.load(file)


COLLECT = "collect --env-id Endless-v0 --steps 60 --num-envs 3 --data d.npz"
OFFLINE = "fqi --data d.npz --updates 2 --hidden 4 --episodes 2 --env-id Endless-v0 --out run"
ONLINE = (
    "robust-actor-critic --env-id Endless-v0 --steps 40 --num-envs 2 --rollout-steps 20 "
    "--minibatches 1 --epochs 1 --hidden 4 --evaluation-episodes 1 --final-episodes 2 --out run"
)
LIMITS = [  # options, and the length of an episode that follows from them
    ("--horizon 7", 7),
    ("--env-kwargs '{\"max_episode_steps\": 5}'", 5),
    ('--horizon 4 --env-kwargs \'{"max_episode_steps": 5, "pay": 1.0}\'', 4),
]


@pytest.mark.parametrize(("limit", "steps"), LIMITS)
def test_every_command_that_plays(limit, steps, capsys):
    call(f"{COLLECT} {limit}")
    found = load("d.npz")
    assert set(np.diff(found.episode_starts)) == {steps}
    call(f"{OFFLINE} {limit}")
    assert (summary("run")["mean_return"], summary("run")["horizon"]) == (steps, steps)
    call(f"{ONLINE} {limit} --overwrite")
    found = summary("run")
    assert (found["mean_return"], found["horizon"]) == (steps, steps)
    assert found["episodes"] == 2 * (20 // steps)  # in training too
    call(f"evaluate --run run --episodes 2 --out scores {limit}")
    with open("scores/evaluation.csv") as file:
        (row,) = csv.DictReader(file)
    assert float(row["mean"]) == float(row["length"]) == steps
    pay = "--env-kwargs '{\"pay\": 2.0}'"  # by default those of the run are played
    call(f"evaluate --run run --episodes 2 --out scores --env-id Endless-v0 {pay}")
    with open("scores/evaluation.csv") as file:
        (row,) = csv.DictReader(file)
    assert (float(row["mean"]), float(row["length"])) == (2.0 * steps, steps)


@pytest.mark.parametrize(("limit", "steps"), LIMITS)
def test_exploration(limit, steps):
    states = limit.replace('{"max', '{"states": 3, "max')
    if "kwargs" not in states:
        states += " --env-kwargs '{\"states\": 3}'"
    call(f"random-policy --env-id Endless-v0 --episodes 4 --out run {states}")
    found = summary("run")
    assert (found["env_steps"], found["horizon"]) == (4 * steps, steps)


def test_limits_of_the_registry_are_overridden_as_by_gymnasium_make():
    command = COLLECT.replace("Endless", "Limited")
    for k, (value, steps) in enumerate((("3", 3), ("9", 9), ("null", 6))):
        line = command.replace("d.npz", f"{k}.npz")
        call(f"{line} --env-kwargs '{{\"max_episode_steps\": {value}}}'")
        assert set(np.diff(load(f"{k}.npz").episode_starts)) == {steps}
    call(f"{command} --env-kwargs '{{\"max_episode_steps\": -1}}' --horizon 11")
    assert set(np.diff(load("d.npz").episode_starts)) == {11}


def test_runs_with_and_without_a_horizon_are_compared_where_it_is_the_limit():
    """A run that names no horizon is played to the environment's limit."""
    for seed, horizon in ((0, "--horizon 6"), (1, "")):
        line = ONLINE.replace("Endless", "Limited").replace("--out run", f"--out run/{seed}")
        call(f"{line} --seed {seed} {horizon}")
    silent = {k: v for k, v in summary("run/1").items() if k != "horizon"}
    Path("run/1/summary.json").write_text(json.dumps(silent))
    call("evaluate --run run --episodes 1 --out scores")


@pytest.mark.parametrize("command", [COLLECT, OFFLINE, ONLINE])
@pytest.mark.parametrize("value", ["0", "-2", '"7"', "2.5", "true", "[3]"])
def test_limits_that_are_none_are_one_line(command, value, capsys):
    call(f"{command} --env-kwargs '{{\"max_episode_steps\": {value}}}'", 2)
    said = capsys.readouterr().err
    assert "max_episode_steps >= 1, or -1 for no limit, as a whole number, got" in said
    assert said.count("\n") == 1
    call(f"{command} --horizon 0", 2)
    assert "horizon must be >= 1, got 0" in capsys.readouterr().err


def test_offline_learners_ask_for_a_horizon_before_they_learn(capsys, tmp_path):
    call(f"{COLLECT} --horizon 5")
    call(OFFLINE.replace("--updates 2", "--updates 1000000"), 2)
    said = capsys.readouterr().err
    assert "horizon must be >= 1 to evaluate in Endless-v0, which has no time limit, got" in said
    assert not (tmp_path / "run").exists()
