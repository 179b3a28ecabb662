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
from typing import Any, Literal, get_args

import numpy as np
import torch
from gymnasium.spaces import Box

from rlentropy.errors import InputError, in_range, one_of, whole
from rlentropy.exploration import coverage
from rlentropy.exploration.features import Features, features_of
from rlentropy.exploration.forecasters import Forecaster, Histogram, Neighbours
from rlentropy.exploration.likelihood import Likelihood
from rlentropy.exploration.replay import Replay, centred_rewards
from rlentropy.exploration.rounds import Rounds, Scaling, Shared, default_repeat, horizon_of
from rlentropy.exploration.samplers import Batch, Sampler, SoftActorCritic, SoftQ
from rlentropy.exploration.scaling import InputScaling
from rlentropy.log import Log
from rlentropy.neural.mixtures import (
    Members,
    Mixture,
    Squashed,
    head_of,
    load_mixture,
    saved_mixture,
    time_left,
)
from rlentropy.neural.networks import Rows
from rlentropy.neural.spaces import OBSERVATION_CLIP, ActionSet, standardised
from rlentropy.types import Env, Result, State

__all__ = ["Config", "load_policy", "run"]

load_policy = load_mixture

ForecasterName = Literal["histogram", "knn", "likelihood"]
SamplerName = Literal["auto", "soft-q", "actor-critic"]
POOL = 25_000  # decisions a round that are paid anew, and that its gradient steps draw from
PRIOR_VISITS = 100.0  # of knn and likelihood, times the prior
LARGEST_GRID = 9  # actions up to which a Box is discretised by default


@dataclass(frozen=True)
class Config(Shared):
    """EntGame with networks; sizes chosen on walled MountainCar, Pendulum and ContinuousGrid."""

    forecaster: ForecasterName = "histogram"  # of the density of all past visits
    prior: float = 1.0  # visits of each cell before the first; knn, likelihood: hundreds in all
    neighbours: int = 10  # k of knn
    reservoir: int = 5000  # most visits that knn looks among, drawn anew every round
    forecaster_updates: int = 100  # gradient steps of likelihood a round
    sampler: SamplerName = "auto"  # auto: soft-q for few actions, else actor-critic
    action_grid: int = 3  # points a dimension at which soft-q discretises a Box
    # λ per environment step, nats; default: so that a decision has horizon / 200, at least 1/2
    temperature: float | None = None
    action_repeat: int = 0  # steps an action is held for; 0: horizon / 100, from 1 to 5
    gamma: float = 0.99  # discount a decision, in (0, 1]
    learning_rate: float = 1e-3  # of all networks (Adam)
    updates: int = 100  # gradient steps of the sampler a round
    batch_size: int = 512  # decisions a gradient step
    polyak: float = 0.02  # share of the network that its slow copy takes on a gradient step
    average: float = 0.125  # share of the network that the last iterate takes on a round

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("forecaster", self.forecaster, get_args(ForecasterName))
        one_of("sampler", self.sampler, get_args(SamplerName))
        whole("action_grid", self.action_grid, 2)
        whole("action_repeat", self.action_repeat, 0)
        for name in ("updates", "batch_size", "neighbours", "reservoir", "forecaster_updates"):
            whole(name, getattr(self, name), 1)
        if self.temperature is not None:
            in_range("temperature", self.temperature, "(0, inf)")
        for name in ("prior", "learning_rate"):
            in_range(name, getattr(self, name), "(0, inf)")
        for name in ("gamma", "polyak", "average"):
            in_range(name, getattr(self, name), "(0, 1]")


class NeuralEntGame:
    """Forecaster against sampler; a unit of its budget is an environment step."""

    stopped = False  # never before the budget is spent

    def __init__(
        self, env: Env, features: Features, horizon: int, config: Config, rng: np.random.Generator
    ) -> None:
        self.env, self.config, self.features = env, config, features
        self.horizon = horizon
        self.repeat = config.action_repeat or default_repeat(horizon)
        rounds_rng, sampler_rng, forecaster_rng, self.batch_rng, self.member_rng = rng.spawn(5)
        self.rounds = Rounds(env, features, horizon, config.episodes, rounds_rng)
        self.replay = Replay(horizon, self.repeat)
        self.scaling = InputScaling(env.observation_space)
        self.sampler = make_sampler(
            env, features, self.rounds, self.repeat, self.scaling.width, config, sampler_rng
        )
        self.forecaster = make_forecaster(features, config, forecaster_rng)
        network = self.sampler.acting()
        self.average: Rows = network
        self.members = Members(config.mixture_size, network.size, self.scaling.width)

    @property
    def done(self) -> int:
        return self.rounds.env_steps

    @property
    def step(self) -> int:
        return self.rounds.env_steps

    def policy(self, mixture: bool = False) -> Mixture:
        """The mixture so far, or the last iterate."""
        if mixture and self.members.seen:
            members = self.members
            return self._mixture(members.parameters, (members.mean, members.deviation))
        return self._alone(self.average)

    def _alone(self, network: Rows) -> Mixture:
        mean, deviation = self.scaling.now()
        return self._mixture(network[None], (mean[None], deviation[None]))

    def _mixture(self, parameters: Rows, scaling: Scaling) -> Mixture:
        head = head_of(self.sampler.kind, self.env.action_space, self.config.action_grid)
        return Mixture(self.env, head, parameters, self.sampler.sizes, scaling, **self.played)

    @property
    def played(self) -> dict[str, Any]:
        """How networks are played."""
        return {"horizon": self.horizon, "repeat": self.repeat, "timed": True, "activation": "relu"}

    def advance(self, units: int) -> dict[str, float]:
        """Play a round and learn from it, however many steps are asked for."""
        network = self.sampler.acting()
        played = self.rounds.play(self._alone(network))
        self.members.add(network, self.scaling.now(), self.member_rng)
        self.replay.add(played)
        self.scaling.update(played.observations[:, :-1][played.real])
        self.forecaster.update(self.replay.visits, len(played.visits))
        figures = self._learn()
        share = self.config.average
        self.average = (1.0 - share) * self.average + share * self.sampler.acting()
        return figures

    def _learn(self) -> dict[str, float]:
        """Gradient steps of the sampler on rewards of the present forecaster."""
        config, device = self.config, torch.get_default_device()
        pool = self.replay.sample(POOL, self.batch_rng)
        flat = pool.points.reshape(-1, pool.points.shape[-1])
        log_density = self.forecaster.log_density(flat).reshape(pool.real.shape)
        centre = -float(log_density[pool.real].mean())
        rewards = centred_rewards(log_density, pool.real, centre)
        columns = (
            self._inputs(pool.observations, pool.t),
            pool.actions,
            rewards.astype(np.float32),
            self._inputs(pool.next_observations, pool.next_t),
            (~pool.last).astype(np.float32),
        )
        whole_pool = Batch(*(torch.as_tensor(column, device=device) for column in columns))
        losses = torch.zeros((), device=device)
        for _ in range(config.updates):
            drawn = self.batch_rng.integers(len(rewards), size=config.batch_size)
            index = torch.as_tensor(drawn, device=device)
            losses += self.sampler.update(Batch(*(column[index] for column in whole_pool)))
        return {
            "train/q_loss": float(losses) / config.updates,
            "train/cross_entropy": centre + self.features.log_volume,
            "train/reward_deviation": float(rewards.std()),
        }

    def _inputs(self, observations: Rows, t: Any) -> Rows:
        x = standardised(observations, *self.scaling.now(), OBSERVATION_CLIP)
        return np.concatenate([x, time_left(t, self.horizon)[:, None]], axis=1)

    def saved_policy(self) -> dict[str, Any]:
        """What policy.pt holds."""
        last = (self.average, self.scaling.now())
        kind, points, sizes = self.sampler.kind, self.config.action_grid, self.sampler.sizes
        return saved_mixture(kind, points, self.members, last, sizes, **self.played)

    def state_dict(self) -> State:
        parts = {name: getattr(self, name).state_dict() for name in PARTS}
        return parts | {name: getattr(self, name) for name in FIELDS}

    def load_state_dict(self, state: State) -> None:
        for name in PARTS:
            getattr(self, name).load_state_dict(state[name])
        for name in FIELDS:
            setattr(self, name, state[name])


PARTS = ("rounds", "replay", "scaling", "sampler", "forecaster", "members")
FIELDS = ("average", "batch_rng", "member_rng")


def make_sampler(
    env: Env,
    features: Features,
    rounds: Rounds,
    repeat: int,
    width: int,
    config: Config,
    rng: np.random.Generator,
) -> Sampler:
    """Soft Q-learning where actions are few, or asked to be; else soft actor-critic.

    Raises:
        InputError: actions that are neither Discrete nor of a bounded Box.
    """
    space, of_decision = env.action_space, max(0.5, rounds.horizon / 200.0)
    if config.temperature is not None:
        of_decision = config.temperature * repeat
    options: dict[str, Any] = {
        "temperature": of_decision,
        "gamma": config.gamma,
        "learning_rate": config.learning_rate,
        "polyak": config.polyak,
    }
    asked = config.sampler
    if asked == "auto":
        decisions = -(-rounds.horizon // repeat)
        suits = suits_grid(space, config.action_grid, decisions, features.num_cells)
        asked = "soft-q" if suits else "actor-critic"
    if asked == "actor-critic":
        head = head_of("squashed", space, config.action_grid)
        assert isinstance(head, Squashed)
        return SoftActorCritic(head, width + 1, config.hidden, rng, **options)
    return SoftQ(ActionSet(space, config.action_grid), width + 1, config.hidden, rng, **options)


def suits_grid(space: Any, points: int, decisions: int, cells: int) -> bool:
    """Whether finitely many actions will do: those of a Discrete space, or the points of a grid.

    So few decisions that their grid leads to hardly more places than there are cells need all
    actions of a Box.
    """
    if not isinstance(space, Box):
        return True
    size = points ** int(np.prod(space.shape))
    return bool(size <= LARGEST_GRID and decisions * np.log(size) >= np.log(100.0 * cells))


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


def run(env: Env, config: Config, rng: np.random.Generator, log: Log) -> Result:
    """Explore copies of an environment, evaluating and saving on the way.

    The copies are made from ``env.spec``, or are deep copies where there is none; `env` itself is
    never stepped.

    Raises:
        InputError: the environment's spaces are not supported, an option doesn't suit it, or it
            returns what is not in its spaces.
    """
    horizon = horizon_of(env, config.horizon)
    features = features_of(env, config.features, config.bins, config.ranges)
    agent_rng, evaluation_rng = rng.spawn(2)
    agent = NeuralEntGame(env, features, horizon, config, agent_rng)
    return coverage.explore(env, agent, features, config, evaluation_rng, log)
