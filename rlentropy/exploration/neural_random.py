"""The baseline of neural explorers: uniform actions at every step, scored as they are.

Its policy is a network of zeros, which says nothing about actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlentropy import calls
from rlentropy.exploration import coverage
from rlentropy.exploration.features import Features
from rlentropy.exploration.rounds import Rounds, Shared
from rlentropy.log import Log
from rlentropy.neural.mixtures import Kind, Members, Mixture, head_of, load_mixture, saved_mixture
from rlentropy.neural.networks import Rows
from rlentropy.neural.spaces import Encoder
from rlentropy.types import Env, Result, State

__all__ = ["Config", "load_policy", "run"]

load_policy = load_mixture


@dataclass(frozen=True)
class Config(Shared):
    """Plays uniformly random actions: the baseline of the explorers by networks.

    Use it beside them, with the same budget and features. --hidden and --mixture-size change
    nothing.

    Example::

        rlentropy neural-random --env-id Pendulum-v1 --steps 20000
    """


class Uniform:
    """Plays rounds of uniform actions, and learns nothing."""

    kind: Kind = "uniform"
    stopped = False  # never before the budget is spent

    def __init__(
        self, env: Env, features: Features, horizon: int, config: Config, rng: np.random.Generator
    ) -> None:
        self.env = env
        self.rounds = Rounds(env, features, horizon, config.episodes, rng, config.env_workers)
        self.head = head_of(self.kind, env.action_space, 1)
        self.width = Encoder.of(env.observation_space).width
        self.sizes = (self.width, self.head.num_outputs)
        self.network: Rows = np.zeros((self.width + 1) * self.head.num_outputs, np.float32)
        self.scaling = np.zeros(self.width), np.ones(self.width)
        self.played: dict[str, Any] = {"horizon": horizon, "repeat": 1, "timed": False}
        self.played["activation"] = "relu"

    @property
    def done(self) -> int:
        return self.rounds.env_steps

    @property
    def step(self) -> int:
        return self.rounds.env_steps

    def policy(self, mixture: bool = False) -> Mixture:
        """The one policy that there is."""
        mean, deviation = self.scaling
        scaling = mean[None], deviation[None]
        return Mixture(self.env, self.head, self.network[None], self.sizes, scaling, **self.played)

    def advance(self, units: int) -> None:
        """Play a round, however many steps are asked for."""
        self.rounds.play(self.policy())

    def saved_policy(self) -> dict[str, Any]:
        """What policy.pt holds; the mixture is of one."""
        members = Members(1, self.network.size, self.width)
        members.add(self.network, self.scaling, np.random.default_rng(0))
        last = self.network, self.scaling
        return saved_mixture(self.kind, 1, members, last, self.sizes, **self.played)

    def state_dict(self) -> State:
        return {"rounds": self.rounds.state_dict()}

    def load_state_dict(self, state: State) -> None:
        self.rounds.load_state_dict(state["rounds"])


@calls.on_env(Config)
def run(env: Env, config: Config, rng: np.random.Generator, log: Log) -> Result:
    """Play in copies of an environment, which is never stepped; scores uniform actions.

    Raises:
        InputError: the environment's spaces are not supported, an option doesn't suit it, or it
            returns what is not in its spaces.
    """
    return coverage.explore(env, config, Uniform, rng, log)
