"""Players of a soft sampler: what the neural explorers that learn from rewards have in common.

They play rounds of a sampler's present policy, remember every decision, and let the sampler learn
from decisions that are paid anew, by what the explorer now says of states.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from gymnasium.spaces import Box

from rlentropy.errors import InputError, in_range, one_of, whole
from rlentropy.exploration.features import Features, Points
from rlentropy.exploration.replay import Replay, centred_rewards
from rlentropy.exploration.rounds import (
    MOST_BYTES,
    Round,
    Rounds,
    Scaling,
    Shared,
    default_repeat,
)
from rlentropy.exploration.samplers import Batch, Sampler, SoftActorCritic, SoftQ, Tuning
from rlentropy.exploration.scaling import InputScaling
from rlentropy.neural import devices
from rlentropy.neural.mixtures import (
    Kind,
    Members,
    Mixture,
    Squashed,
    head_of,
    saved_mixture,
    time_left,
)
from rlentropy.neural.networks import Rows
from rlentropy.neural.spaces import OBSERVATION_CLIP, ActionSet, standardised, warn_if_wide
from rlentropy.types import Array, Env, State

SamplerName = Literal["auto", "soft-q", "actor-critic"]
POOL = 25_000  # decisions a round that are paid anew, and that its gradient steps draw from
LARGEST_GRID = 9  # actions up to which a Box is discretised by default
FINE_GRID = 256  # points of a Box of one dimension where few decisions must lead everywhere


class Sizes(NamedTuple):
    """Of a sampler's learning, where nothing else is asked for."""

    updates: int  # gradient steps a round
    batch_size: int
    temperature: float  # λ of a decision, in multiples of the horizon


DEFAULTS: dict[Kind, Sizes] = {
    "softmax": Sizes(100, 512, 1.0 / 200.0),
    "squashed": Sizes(200, 256, 1.0 / 400.0),
}


@dataclass(frozen=True)
class Sampling(Shared):
    """Options of explorers that have a soft sampler."""

    # the sampler:

    # auto: soft-q for few actions or one dimension, else actor-critic
    sampler: SamplerName = "auto"
    action_grid: int = 3  # points a dimension at which soft-q discretises a Box
    # λ per environment step, nats; default: so that a decision has at least 1/2 and horizon / 200,
    # thrice that in two dimensions of a Box; for actor-critic horizon / 400, less beyond two
    temperature: float | None = None
    action_repeat: int = 0  # steps an action is held for; 0: horizon / 100, from 1 to 5
    gamma: float = 0.99  # discount a decision, in (0, 1]
    learning_rate: float = 1e-3  # of all networks (Adam)
    updates: int = 0  # gradient steps of the sampler a round; 0: 100, of actor-critic 200
    batch_size: int = 0  # decisions a gradient step; 0: 512, of actor-critic 256
    polyak: float = 0.02  # share of the network that its slow copy takes on a gradient step

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("sampler", self.sampler, get_args(SamplerName))
        whole("action_grid", self.action_grid, 2)
        for name in ("action_repeat", "updates", "batch_size"):
            whole(name, getattr(self, name), 0)
        if self.temperature is not None:
            in_range("temperature", self.temperature, "(0, inf)")
        in_range("learning_rate", self.learning_rate, "(0, inf)")
        for name in ("gamma", "polyak"):
            in_range(name, getattr(self, name), "(0, 1]")


class SoftPlayer:
    """A sampler and all that it played; a unit of the budget is an environment step."""

    stopped = False  # never before the budget is spent
    # What a checkpoint holds.
    parts: tuple[str, ...] = ("rounds", "replay", "scaling", "sampler", "members")
    fields: tuple[str, ...] = (
        *("last_network", "last_scaling", "network_rng", "batch_rng", "member_rng"),
    )

    def __init__(
        self,
        env: Env,
        features: Features,
        horizon: int,
        config: Sampling,
        rng: np.random.Generator,
    ) -> None:
        self.env, self.features, self.horizon = env, features, horizon
        self.repeat = config.action_repeat or default_repeat(horizon)
        space, decisions = env.action_space, -(-horizon // self.repeat)
        self.options = chosen_sampler(config, space, decisions, features.num_cells)
        rounds_rng, self.network_rng, self.batch_rng, self.member_rng = rng.spawn(4)
        self.rounds = Rounds(
            env, features, horizon, config.episodes, rounds_rng, config.env_workers
        )
        warn_if_wide(env.observation_space)
        self.scaling = InputScaling(env.observation_space)
        check_replay(config.steps, self.repeat, self.scaling.width)
        self.begin()
        self.last_network: Rows = self.sampler.acting()
        self.last_scaling: Array = np.stack(self.scaling.now())  # (2, width)
        self.members = Members(config.mixture_size, self.last_network.size, self.scaling.width)

    def begin(self) -> None:
        """A new sampler, which has seen nothing."""
        self.replay = Replay(self.horizon, self.repeat)
        width, rng = self.scaling.width, np.random.default_rng(self.network_rng.integers(2**63))
        options, space = self.options, self.env.action_space
        self.sampler = make_sampler(options, space, width + 1, self.horizon, self.repeat, rng)

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
        return self._alone(self.last_network, self.last_scaling)

    def _alone(self, network: Rows, scaling: Any) -> Mixture:
        mean, deviation = scaling
        return self._mixture(network[None], (mean[None], deviation[None]))

    def _mixture(self, parameters: Rows, scaling: Scaling) -> Mixture:
        head = head_of(self.sampler.kind, self.env.action_space, self.options.action_grid)
        return Mixture(self.env, head, parameters, self.sampler.sizes, scaling, **self.played)

    @property
    def played(self) -> dict[str, Any]:
        """How networks are played."""
        return {"horizon": self.horizon, "repeat": self.repeat, "timed": True, "activation": "relu"}

    def play(self, member: bool = True) -> Round:
        """A round of the sampler's present policy, which is remembered.

        Args:
            member: the policy comes into the mixture.
        """
        network, scaling = self.sampler.acting(), self.scaling.now()
        played = self.rounds.play(self._alone(network, scaling))
        if member:
            self.members.add(network, scaling, self.member_rng)
        self.replay.add(played)
        self.scaling.update(played.observations[:, :-1][played.real])
        return played

    def learn(self, log_density: Callable[[Points], Array]) -> tuple[dict[str, float], float]:
        """Gradient steps of the sampler, which is paid -log_density of states.

        Returns:
            Figures, and the mean of what was paid for a state, which they are paid beyond.

        Raises:
            InputError: the sampler's values are not finite any more.
        """
        config, device = self.options, devices.current()
        pool = self.replay.sample(POOL, self.batch_rng)
        flat = pool.points.reshape(-1, pool.points.shape[-1])
        found = log_density(flat).reshape(pool.real.shape)
        centre = -float(found[pool.real].mean())
        rewards = centred_rewards(found, pool.real, centre)
        columns = (
            self._inputs(pool.observations, pool.t),
            pool.actions,
            rewards.astype(np.float32),
            self._inputs(pool.next_observations, pool.next_t),
            (~pool.last).astype(np.float32),
        )
        whole_pool = Batch(*(torch.as_tensor(column, device=device) for column in columns))
        losses = torch.zeros((), device=device)
        default = DEFAULTS[self.sampler.kind]
        updates, size = config.updates or default.updates, config.batch_size or default.batch_size
        for _ in range(updates):
            drawn = self.batch_rng.integers(len(rewards), size=size)
            index = torch.as_tensor(drawn, device=device)
            losses += self.sampler.update(Batch(*(column[index] for column in whole_pool)))
        if not bool(torch.isfinite(losses)):
            raise InputError(
                f"learning_rate must be small enough for finite values, got {config.learning_rate}"
            )
        figures = {
            "train/q_loss": float(losses) / updates,
            "train/reward_deviation": float(rewards.std()),
        }
        return figures, centre

    def _inputs(self, observations: Rows, t: Any) -> Rows:
        x = standardised(observations, *self.scaling.now(), OBSERVATION_CLIP)
        return np.concatenate([x, time_left(t, self.horizon)[:, None]], axis=1)

    def saved_policy(self) -> dict[str, Any]:
        """What policy.pt holds."""
        last = self.last_network, (self.last_scaling[0], self.last_scaling[1])
        kind, points, sizes = self.sampler.kind, self.options.action_grid, self.sampler.sizes
        return saved_mixture(kind, points, self.members, last, sizes, **self.played)

    def state_dict(self) -> State:
        parts = {name: getattr(self, name).state_dict() for name in self.parts}
        return parts | {name: getattr(self, name) for name in self.fields}

    def load_state_dict(self, state: State) -> None:
        for name in self.parts:
            getattr(self, name).load_state_dict(state[name])
        for name in self.fields:
            setattr(self, name, state[name])


def check_replay(steps: int, repeat: int, width: int) -> None:
    """Refuse decisions whose observations no memory holds.

    Raises:
        InputError: they take more than MOST_BYTES.
    """
    size = steps / repeat * width * np.dtype(np.float32).itemsize
    if size > MOST_BYTES:
        raise InputError(
            f"steps must make at most {MOST_BYTES / 2**30:g} GiB of observations to learn from, of "
            f"{width} numbers every {repeat} steps, got {steps}, {size / 2**30:.3g} GiB"
        )


def chosen_sampler(config: Sampling, space: Any, decisions: int, cells: int) -> Sampling:
    """The options, with a sampler in the place of auto.

    Finitely many actions will do where they are all there are, or where the points of a grid lead
    far: in so few decisions that they lead to hardly more places than there are cells, they won't.
    A Box of one dimension then has a fine grid, and others take the actor-critic, whose law has one
    peak.
    """
    if config.sampler != "auto":
        return config
    if not isinstance(space, Box):
        return replace(config, sampler="soft-q")
    dimensions = int(np.prod(space.shape))
    size = config.action_grid**dimensions
    if size <= LARGEST_GRID and decisions * np.log(size) >= np.log(100.0 * cells):
        return replace(config, sampler="soft-q")
    if dimensions == 1:
        return replace(config, sampler="soft-q", action_grid=max(FINE_GRID, config.action_grid))
    return replace(config, sampler="actor-critic")


def make_sampler(
    config: Sampling, space: Any, inputs: int, horizon: int, repeat: int, rng: np.random.Generator
) -> Sampler:
    """The sampler that is asked for, by name.

    Raises:
        InputError: actions that are neither Discrete nor of a bounded Box.
    """
    discrete = config.sampler == "soft-q"
    dimensions = max(1, int(np.prod(space.shape or ()))) if isinstance(space, Box) else 1
    default = DEFAULTS["softmax" if discrete else "squashed"]
    times = 3.0 ** (dimensions - 1) if discrete else min(1.0, 2.0 / dimensions)
    of_decision = max(0.5, horizon * default.temperature) * times
    if config.temperature is not None:
        of_decision = config.temperature * repeat
    tuning = Tuning(of_decision, config.gamma, config.learning_rate, config.polyak)
    if discrete:
        return SoftQ(ActionSet(space, config.action_grid), inputs, config.hidden, rng, tuning)
    head = head_of("squashed", space, config.action_grid)
    assert isinstance(head, Squashed)
    return SoftActorCritic(head, inputs, config.hidden, rng, tuning)
