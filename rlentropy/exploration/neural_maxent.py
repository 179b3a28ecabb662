"""MaxEnt with networks: Frank-Wolfe for the entropy of the cells that are visited.

Hazan, Kakade, Singh and Van Soest, "Provably Efficient Maximum Entropy Exploration", ICML 2019
(exploration §5.1), on the harness and with the samplers of EntGame (§8.4). With d̂ the frequencies
of cells under the mixture so far, of fresh episodes of each of its policies, and a smoothing σ, a
round

    fixes the reward of a cell x, r(x) = -log(d̂(x) + σ) - d̂(x) / (d̂(x) + σ)
    lets an oracle learn to collect it: a sampler that starts anew and plays for itself
    plays fresh episodes of what the oracle found, which comes into the mixture

The budget counts what the oracles play too; one that it cuts off has found nothing. The mixture is
uniform over rounds, its first policy the uniform one. For finite horizons instead of discounting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from rlentropy import calls
from rlentropy.errors import in_range, one_of, whole
from rlentropy.exploration import coverage
from rlentropy.exploration.features import Features, Points
from rlentropy.exploration.rounds import Round
from rlentropy.exploration.soft_players import Sampling, SoftPlayer
from rlentropy.log import Log
from rlentropy.neural.mixtures import load_mixture
from rlentropy.types import Array, Env, Result

__all__ = ["Config", "load_policy", "run"]

load_policy = load_mixture

Reward = Literal["gradient", "log"]


@dataclass(frozen=True)
class Config(Sampling):
    """Spreads visits over the cells of features, by the Frank-Wolfe method with networks.

    Each round lets an oracle learn to collect the gradient of the entropy, and adds what it finds
    to the mixture. Use it as the classical baseline of neural-entgame; its oracles spend most of
    the budget.

    Paper: Hazan et al., "Provably Efficient Maximum Entropy Exploration", ICML 2019.

    Example::

        rlentropy neural-maxent --env-id Pendulum-v1 --steps 100000
    """

    oracle_rounds: int = 5  # rounds of episodes that an oracle plays, and learns after
    smoothing: float = 1e-4  # σ: probability added to each frequency in the reward, > 0
    reward: Reward = "gradient"  # of a cell: gradient of -Σ d log(d + σ), or -log(d + σ) alone
    warm_start: bool = False  # an oracle goes on from the last one's networks and episodes

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("oracle_rounds", self.oracle_rounds, 1)
        in_range("smoothing", self.smoothing, "(0, inf)")
        one_of("reward", self.reward, get_args(Reward))


def cell_rewards(d: Array, smoothing: float, reward: Reward) -> Array:
    """Rewards of cells of frequencies d, (cells,) (exploration §5.1)."""
    rewards: Array = -np.log(d + smoothing)
    return rewards - d / (d + smoothing) if reward == "gradient" else rewards


class NeuralMaxEnt(SoftPlayer):
    """A mixture that grows by one policy a round."""

    fields = (*SoftPlayer.fields, "density", "rewards", "found", "oracle_rounds")

    def __init__(
        self, env: Env, features: Features, horizon: int, config: Config, rng: np.random.Generator
    ) -> None:
        super().__init__(env, features, horizon, config, rng)
        self.config = config
        self.density: Array = np.zeros(features.num_cells)  # d̂
        self.rewards: Array = np.zeros(features.num_cells)
        self.found = 0  # policies of the mixture
        self.oracle_rounds = 0  # that the present oracle has played

    def advance(self, units: int) -> dict[str, float] | None:
        """Play a round of the oracle, which learns from it, or of what it found."""
        if self.found and self.oracle_rounds < self.config.oracle_rounds:
            self.oracle_rounds += 1
            self.play(member=False)
            return self.learn(self.unpaid)[0]
        self.last_network, self.last_scaling = self.sampler.acting(), np.stack(self.scaling.now())
        self._take_in(self.play())
        return None

    def unpaid(self, points: Points) -> Array:
        """-r of points (n, d), (n,)."""
        unpaid: Array = -self.rewards[self.features.cells(points)]
        return unpaid

    def _take_in(self, played: Round) -> None:
        """Move d̂ by fresh episodes of the policy that was found, and let an oracle begin."""
        counts = np.bincount(self.features.cells(played.visits), minlength=len(self.density))
        self.found, self.oracle_rounds = self.found + 1, 0
        self.density = self.density + (counts / counts.sum() - self.density) / self.found
        self.rewards = cell_rewards(self.density, self.config.smoothing, self.config.reward)
        if not self.config.warm_start:
            self.begin()


@calls.on_env(Config)
def run(env: Env, config: Config, rng: np.random.Generator, log: Log) -> Result:
    """Explore copies of an environment, which is never stepped; evaluates and saves on the way.

    Raises:
        InputError: the environment's spaces are not supported, an option doesn't suit it, or it
            returns what is not in its spaces.
    """
    return coverage.explore(env, config, NeuralMaxEnt, rng, log)
