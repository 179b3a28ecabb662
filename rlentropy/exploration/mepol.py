"""MEPOL: gradient ascent on an estimate of the entropy of visits by nearest neighbours.

Mutti, Pratissoli and Restelli, "Task-Agnostic Exploration via Policy Gradient of a Non-Parametric
State Entropy Estimate", AAAI 2021 (exploration §8.5). A batch of episodes leaves *particles*, the
states that its actions led to. Their places, neighbours and distances stay fixed while the policy
takes some steps of Adam; what changes are the particles' weights, the chances of the actions that
led there under the new policy, relative to the old. Then another batch is played.

Differences from the paper: distances are in units of the box of features, those shorter than
`resolution` count as that long, and an episode's particles end where the environment ends it.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import digamma

from rlentropy import calls
from rlentropy.entropy.samples import log_ball, neighbour_divergence, neighbours
from rlentropy.errors import InputError, in_range, whole
from rlentropy.exploration import coverage
from rlentropy.exploration.features import Features
from rlentropy.exploration.rounds import Round, Rounds, Scaling, Shared
from rlentropy.exploration.scaling import InputScaling
from rlentropy.log import Log
from rlentropy.neural.mixtures import (
    Members,
    Mixture,
    head_of,
    load_mixture,
    parameters_of,
    saved_mixture,
)
from rlentropy.neural.networks import MLP, Adam, Rows
from rlentropy.neural.spaces import (
    LOG_DEVIATION,
    OBSERVATION_CLIP,
    Encoder,
    Gaussian,
    standardised,
    warn_if_wide,
)
from rlentropy.types import Array, Count, Env, Mask, Result, State

__all__ = ["Config", "load_policy", "run"]

load_policy = load_mixture

Tensor = torch.Tensor

HALVINGS = 10  # most of the learning rate, where the first step goes too far
ZEROING = (5000, 100, 2.5e-4)  # observations, steps and learning rate that centre the first policy


@dataclass(frozen=True)
class Config(Shared):
    """Spreads visits over the features of any environment, by policy gradient.

    It ascends an estimate of the entropy by nearest neighbours, batch by batch. Use it as the
    baseline of neural-entgame that outputs one policy instead of a mixture; the sizes are the
    paper's for MountainCar.

    Paper: Mutti, Pratissoli and Restelli, "Task-Agnostic Exploration via Policy Gradient of a
    Non-Parametric State Entropy Estimate", AAAI 2021.

    Example::

        rlentropy mepol --env-id Pendulum-v1 --steps 100000
    """

    episodes: int = 20  # of a batch; 0: as many as make 4 000 steps
    hidden: tuple[int, ...] = (300, 300)  # widths of the hidden layers
    neighbours: int = 4  # k of the entropy that is ascended
    learning_rate: float = 1e-4  # of the policy (Adam)
    inner_steps: int = 30  # most steps of ascent on a batch
    kl_threshold: float = 15.0  # largest divergence from the policy that played a batch, > 0
    initial_log_deviation: float = -0.5  # of Box actions, in units where their bounds are -1 and 1
    normalise_observations: bool = False  # to [-1, 1] by their bounds, or by what was seen

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("neighbours", self.neighbours, 1)
        whole("inner_steps", self.inner_steps, 1)
        in_range("learning_rate", self.learning_rate, "(0, inf)")
        in_range("kl_threshold", self.kl_threshold, "(0, inf]")
        low, high = LOG_DEVIATION
        in_range("initial_log_deviation", self.initial_log_deviation, f"[{low:g}, {high:g}]")


class Particles(NamedTuple):
    """N states that actions led to, and what of their places counts."""

    visited: Mask  # which steps of n episodes led to one, (n, T)
    near: Count  # each particle and its k - 1 nearest, (N, k)
    log_volume: Array  # of the ball to the k-th nearest, (N,)


def particles_of(points: Any, visited: Mask, k: int, resolution: float) -> Particles:
    """Particles of episodes.

    Args:
        points: of all states but the first of each episode, (n, T, d).
        visited: which of them there are, (n, T); more than k.
        resolution: least distance, > 0.
    """
    x = points[visited]
    found = neighbours(x, k)
    near = np.column_stack([np.arange(len(x)), found.indices[:, :-1]])
    radius = np.maximum(found.distances[:, -1], resolution)
    return Particles(visited, near, log_ball(radius, x.shape[1]))


def particle_weights(log_ratios: Array, visited: Mask) -> Array:
    """Weights of particles, w ∝ Π_{u<=t} π(a_u | s_u) / π_0(a_u | s_u), of sum 1, (N,).

    Args:
        log_ratios: of actions, (N,), episode by episode.
        visited: (n, T).
    """
    each = np.zeros(visited.shape)
    each[visited] = log_ratios
    log_weights = each.cumsum(axis=1)[visited]
    w = np.exp(log_weights - log_weights.max())
    return np.asarray(w / w.sum())


def entropy_slopes(w: Array, particles: Particles) -> Array:
    """Slopes of Ĥ(w) of §8.3 in the log-probabilities of actions, (N,).

        G_j = ∂Ĥ/∂w_j = -(1/k) Σ_{i: j near i} (log(W_i / V_i) + 1)
        c_u = Σ_{t>=u} w_t (G_t - Σ_j w_j G_j)

    with t over the rest of the episode of u, j over all particles (§8.5).
    """
    near, visited = particles.near, particles.visited
    k, W = near.shape[1], w[near].sum(axis=1)
    g = -(np.log(np.where(W > 0.0, W, 1.0)) - particles.log_volume + 1.0) / k
    G = np.bincount(near.ravel(), np.repeat(g, k), minlength=len(w))
    each = np.zeros(visited.shape)
    each[visited] = w * (G - w @ G)
    slopes: Array = each[:, ::-1].cumsum(axis=1)[:, ::-1][visited]
    return slopes


class Batch(NamedTuple):
    """What the ascent needs of the N actions of a round."""

    x: Tensor  # inputs of the network, (N, width)
    actions: Tensor  # (N, components)
    particles: Particles


class MEPOL:
    """A stationary policy that ascends the entropy of its own visits, batch by batch."""

    stopped = False  # never before the budget is spent

    def __init__(
        self, env: Env, features: Features, horizon: int, config: Config, rng: np.random.Generator
    ) -> None:
        self.env, self.config, self.horizon = env, config, horizon
        if features.discrete:
            raise InputError(
                f"env must have states with a density, got {env.observation_space}; "
                "neural-entgame takes others"
            )
        network_rng, input_rng, round_rng, self.member_rng = rng.spawn(4)
        self.rounds = Rounds(env, features, horizon, config.episodes, round_rng, config.env_workers)
        if config.neighbours >= (most := self.rounds.size * horizon):
            k = config.neighbours
            raise InputError(f"neighbours must be < {most}, the steps of a batch, got {k}")
        self.encode = Encoder.of(env.observation_space)
        warn_if_wide(env.observation_space)
        self.scaling = InputScaling(env.observation_space)
        self.head = head_of("plain", env.action_space, 1)
        self.sizes = (self.encode.width, *config.hidden, self.head.num_outputs)
        self.network = MLP(self.sizes, [network_rng], "relu")
        self.adam = Adam(self.network, config.learning_rate)
        # Outputs from here on are logarithms of deviations, which no input moves.
        self.free = self.head.num_outputs
        if isinstance(self.head, Gaussian):
            self.free = self.head.num_components
        self._centre(input_rng)
        self.members = Members(config.mixture_size, self.network.flat.numel(), self.encode.width)

    @property
    def done(self) -> int:
        return self.rounds.env_steps

    @property
    def step(self) -> int:
        return self.rounds.env_steps

    def _centre(self, rng: np.random.Generator) -> None:
        """Regress means, or logits, to 0 on random observations; set the deviations."""
        network, free = self.network, self.free
        with torch.no_grad():
            network.weights[-1][..., free:] = 0.0
            network.biases[-1][..., free:] = self.config.initial_log_deviation
        rows, steps, rate = ZEROING
        space = deepcopy(self.env.observation_space)
        space.seed(int(rng.integers(2**31)))
        seen = np.stack([space.sample() for _ in range(rows)])
        x, adam = self._tensor(self.inputs(self.encode(seen))), Adam(network, rate)
        for _ in range(steps):
            network(x)[0, :, :free].square().mean().backward()
            adam.step()

    def inputs(self, rows: Rows) -> Rows:
        """Encoded observations (n, width) as the network sees them."""
        return standardised(rows, *self.scales, OBSERVATION_CLIP)

    @property
    def scales(self) -> Scaling:
        """Mean and deviation that observations are standardised by, (width,) each."""
        if self.config.normalise_observations:
            return self.scaling.now()
        return np.zeros(self.encode.width), np.ones(self.encode.width)

    def _tensor(self, values: Any) -> Tensor:
        return torch.as_tensor(values, device=self.network.flat.device)

    def policy(self, mixture: bool = False) -> Mixture:
        """The mixture of all batches' policies so far, or the newest."""
        members, (mean, deviation) = self.members, self.scales
        network, scaling = parameters_of(self.network)[None], (mean[None], deviation[None])
        if mixture and members.seen:
            network, scaling = members.parameters, (members.mean, members.deviation)
        return Mixture(self.env, self.head, network, self.sizes, scaling, **self.played)

    @property
    def played(self) -> dict[str, Any]:
        """How networks are played."""
        return {"horizon": self.horizon, "repeat": 1, "timed": False, "activation": "relu"}

    def advance(self, units: int) -> dict[str, float]:
        """Play a batch and ascend on it, however many steps are asked for."""
        self.members.add(parameters_of(self.network), self.scales, self.member_rng)
        played = self.rounds.play(self.policy())
        figures = self.learn(played)
        self.scaling.update(played.observations[:, :-1][played.real])
        return figures

    def learn(self, played: Round) -> dict[str, float]:
        """Ascend on a batch; returns its train/* figures."""
        config, visited = self.config, played.real
        if np.count_nonzero(visited) <= config.neighbours:
            return {}  # episodes that ended at once tell of no density
        points = played.points[:, 1:]
        particles = particles_of(points, visited, config.neighbours, config.resolution)
        batch = Batch(
            x=self._tensor(self.inputs(played.observations[:, :-1][visited])),
            actions=self._tensor(played.actions[visited]),
            particles=particles,
        )
        N, k = len(particles.near), config.neighbours
        entropy = np.log(N) - digamma(k) + particles.log_volume.mean()
        return {"train/knn_entropy": float(entropy)} | self._ascend(batch)

    def _ascend(self, batch: Batch) -> dict[str, float]:
        """Steps of Adam, as far as the divergence allows; the train/* figures.

        A step beyond it is taken back, and ends the ascent; the first is tried again at half the
        rate, up to HALVINGS times, and then it is the only one.
        """
        config, (visited, near, _) = self.config, batch.particles
        rate, kept, divergence, steps, halvings = config.learning_rate, self._kept(), 0.0, 0, 0
        w = np.full(len(near), 1.0 / len(near))
        log_p, policy_entropies = self._law(batch)
        old, policy_entropy = log_p.detach().cpu().numpy(), float(policy_entropies.detach().mean())
        while True:
            slopes = self._tensor(entropy_slopes(w, batch.particles).astype(np.float32))
            (-slopes @ log_p).backward()
            self._step(rate)
            log_p, _ = self._law(batch)
            moved = particle_weights(log_p.detach().cpu().numpy() - old, visited)
            finite = np.isfinite(moved).all()
            found = neighbour_divergence(moved, near) if finite else np.inf
            if found <= config.kl_threshold:
                w, divergence, kept, steps = moved, found, self._kept(), steps + 1
                if halvings or steps == config.inner_steps:
                    break
            else:
                self._restore(kept)
                if steps or halvings == HALVINGS:
                    break
                rate, halvings = rate / 2.0, halvings + 1
                log_p, _ = self._law(batch)
        return {"train/entropy": policy_entropy, "train/kl": divergence, "train/inner_steps": steps}

    def _law(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.head.law(self.network(batch.x)[0], batch.actions)

    def _step(self, rate: float) -> None:
        gradient = self.network.weights[-1].grad
        assert gradient is not None
        gradient[..., self.free :] = 0.0
        self.adam.step(rate)

    def _kept(self) -> tuple[Tensor, State]:
        return self.network.flat.detach().clone(), self.adam.state_dict()

    def _restore(self, kept: tuple[Tensor, State]) -> None:
        with torch.no_grad():
            self.network.flat.copy_(kept[0])
        self.adam.load_state_dict(kept[1])

    def saved_policy(self) -> dict[str, Any]:
        """What policy.pt holds."""
        last = parameters_of(self.network), self.scales
        return saved_mixture("plain", 1, self.members, last, self.sizes, **self.played)

    def state_dict(self) -> State:
        parts = {name: getattr(self, name).state_dict() for name in PARTS}
        return parts | {"member_rng": self.member_rng}

    def load_state_dict(self, state: State) -> None:
        for name in PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.member_rng = state["member_rng"]


PARTS = ("network", "adam", "rounds", "members", "scaling")  # of a checkpoint


@calls.on_env(Config)
def run(env: Env, config: Config, rng: np.random.Generator, log: Log) -> Result:
    """Explore copies of an environment, which is never stepped; evaluates and saves on the way.

    Raises:
        InputError: the environment's spaces are not supported, an option doesn't suit it, or it
            returns what is not in its spaces.
    """
    return coverage.explore(env, config, MEPOL, rng, log)
