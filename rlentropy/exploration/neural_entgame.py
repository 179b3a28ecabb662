"""EntGame with networks, for any environment (exploration §8.4).

Rounds of a game. A *forecaster* learns the density q of all past visits under log loss; a *sampler*
is paid -log q̄ for where it goes, q̄ being q mixed with the uniform law, and acts softly, at a fixed
temperature. A round plays some whole episodes of the sampler's present policy, the forecaster
learns them, all replayed decisions are paid by what it says now, and the sampler takes some
gradient steps. Policies see the time left, and hold an action for some steps.

The output is a mixture of the policies of all rounds, one drawn for an episode, whose visits are
those of training; and the last iterate, a slow average of the sampler's network.

After Tiapkin et al. (ICML 2023), whose game is tabular, and Hazan et al. (ICML 2019). Differences:
the objective is the entropy of the states that are visited at any time, AVE_S of the features;
nothing here is optimistic, and no guarantee of the table carries over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from rlentropy import calls
from rlentropy.errors import InputError, in_range, one_of, whole
from rlentropy.exploration import coverage
from rlentropy.exploration.features import Features
from rlentropy.exploration.forecasters import Forecaster, Histogram, Neighbours
from rlentropy.exploration.likelihood import Likelihood
from rlentropy.exploration.soft_players import Sampling, SoftPlayer
from rlentropy.log import Log
from rlentropy.neural.mixtures import load_mixture
from rlentropy.types import Env, Result

__all__ = ["Config", "load_policy", "run"]

load_policy = load_mixture

ForecasterName = Literal["histogram", "knn", "likelihood"]
PRIOR_VISITS = 100.0  # of knn and likelihood, times the prior


@dataclass(frozen=True)
class Config(Sampling):
    """Spreads visits over the features of any environment, by networks.

    A forecaster learns the density of all past visits; a sampler is paid for going where it is low.
    Use it where states or actions are continuous, or too many for a table. The mixture of the
    policies of all rounds is the answer, the last iterate the handy one.

    After Tiapkin et al., "Fast Rates for Maximum Entropy Exploration", ICML 2023.

    Example::

        rlentropy neural-entgame --env-id Pendulum-v1 --steps 100000
    """

    # the forecaster:

    forecaster: ForecasterName = "histogram"  # of the density of all past visits
    prior: float = 1.0  # visits of a cell before the first; of knn, likelihood: hundreds in all
    neighbours: int = 20  # k of knn
    reservoir: int = 10_000  # most visits that knn looks among, drawn anew every round
    forecaster_updates: int = 100  # gradient steps of likelihood a round
    average: float = 0.1  # share of the network that the last iterate takes on a round, at least

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("forecaster", self.forecaster, get_args(ForecasterName))
        for name in ("neighbours", "reservoir", "forecaster_updates"):
            whole(name, getattr(self, name), 1)
        in_range("prior", self.prior, "(0, inf)")
        in_range("average", self.average, "(0, 1]")


class NeuralEntGame(SoftPlayer):
    """Forecaster against sampler."""

    parts = (*SoftPlayer.parts, "forecaster")

    def __init__(
        self, env: Env, features: Features, horizon: int, config: Config, rng: np.random.Generator
    ) -> None:
        player_rng, forecaster_rng = rng.spawn(2)
        super().__init__(env, features, horizon, config, player_rng)
        self.config, self.forecaster = config, make_forecaster(features, config, forecaster_rng)

    def advance(self, units: int) -> dict[str, float]:
        """Play a round and learn from it, however many steps are asked for."""
        played = self.play()
        self.forecaster.update(self.replay.visits, len(played.visits))
        figures, centre = self.learn(self.forecaster.log_density)
        share = max(self.config.average, 1.0 / self.members.seen)  # at first a plain mean
        self.last_network = (1.0 - share) * self.last_network + share * self.sampler.acting()
        self.last_scaling = np.stack(self.scaling.now())
        return figures | {"train/cross_entropy": centre + self.features.log_volume}


def make_forecaster(features: Features, config: Config, rng: np.random.Generator) -> Forecaster:
    """The forecaster that was asked for.

    Raises:
        InputError: a density of states that have none.
    """
    if config.forecaster == "histogram":
        return Histogram(features, config.prior)
    if features.discrete:
        raise InputError(
            f"forecaster must be histogram where states are discrete, got {config.forecaster}"
        )
    prior = PRIOR_VISITS * config.prior
    if config.forecaster == "likelihood":
        return Likelihood(features, rng, config.forecaster_updates, prior=prior)
    k, reservoir = config.neighbours, config.reservoir
    return Neighbours(features, rng, k, reservoir, config.resolution, prior)


@calls.on_env(Config)
def run(env: Env, config: Config, rng: np.random.Generator, log: Log) -> Result:
    """Explore copies of an environment, evaluating and saving on the way.

    The copies are made from ``env.spec``, or are deep copies where there is none; `env` itself is
    never stepped.

    Raises:
        InputError: the environment's spaces are not supported, an option doesn't suit it, or it
            returns what is not in its spaces.
    """
    return coverage.explore(env, config, NeuralEntGame, rng, log)
