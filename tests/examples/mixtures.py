"""Run folders that hold mixtures of networks, each of which always plays an action of its own."""

import json
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np
import torch

from rlentropy.neural.mixtures import Members, load_mixture, saved_mixture
from rlentropy.neural.spaces import Encoder
from rlentropy.runs.table import COMMANDS, Command

NAME = "a-mixture-of-networks"
load_policy = load_mixture  # as a module of an algorithm has it


@dataclass(frozen=True)
class Config:
    """None."""


def register(monkeypatch):
    """Let the table know the command."""
    monkeypatch.setitem(COMMANDS, NAME, Command(__name__, "", needs="env", axis="env_steps"))


def write_run(folder, env_id, *, points=3, members=(0, 1), last=2, sharp=50.0, **changes):
    """What a finished run leaves whose k-th network plays the k-th of `members` of its actions.

    Args:
        points: of the grid of actions of a Box.
        sharp: how many times e more likely that action is than another.
    """
    env = gymnasium.make(env_id)
    width = Encoder.of(env.observation_space).width
    space = env.action_space
    outputs = int(space.n) if hasattr(space, "n") else points ** int(np.prod(space.shape))
    sizes = (width + 1, outputs)

    def network(action):
        flat = np.zeros(((width + 2) * outputs,), np.float32)
        flat[(width + 1) * outputs + action] = sharp
        return flat

    scaling = np.zeros(width), np.ones(width)
    mixture = Members(len(members), len(network(0)), width)
    for action in members:
        mixture.add(network(action), scaling, np.random.default_rng(0))
    played = {"horizon": 20, "repeat": 4, "timed": True, "activation": "relu"} | changes
    saved = saved_mixture("softmax", points, mixture, (network(last), scaling), sizes, **played)
    folder = Path(folder)
    folder.mkdir(parents=True)
    torch.save(saved, folder / "policy.pt")
    facts = {"env_id": env_id, "env_kwargs": "{}", "seed": 0}
    (folder / "config.json").write_text(json.dumps({"command": NAME, "settings": facts}))
    facts |= {"command": NAME, "finished": True, "horizon": played["horizon"]}
    (folder / "summary.json").write_text(json.dumps(facts))
    return str(folder)
