"""Samplers: maximum-entropy reinforcement learning at a fixed temperature (exploration §8.4).

Both maximise the sum of rewards less λ times the divergence of the policy from the uniform one,
which is λ times its entropy but for a constant; so λ means the same for finitely many actions and
for densities, whatever the units of actions.

    V(x) = λ log mean_a exp(Q(x, a) / λ),   π(a | x) ∝ exp(Q(x, a) / λ)      soft Q-learning
    V(x) = E_π[min_i Q_i(x, a) - λ log(π(a | x) / u)],   u uniform           soft actor-critic

(Haarnoja et al., 2017, 2018). Networks learn Q / SCALE by the Huber loss towards r + γ V̂(x'), with
V̂ of a network that follows slowly, and V = 0 after an episode's last decision.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from rlentropy.neural.mixtures import Kind, Squashed, parameters_of
from rlentropy.neural.networks import MLP, Adam, Rows
from rlentropy.neural.spaces import HALF_LOG_2PI, LOG_DEVIATION, ActionSet
from rlentropy.types import State

Tensor = torch.Tensor

SCALE = 20.0  # of what networks learn, nats


class Batch(NamedTuple):
    """B decisions, as tensors."""

    x: Tensor  # (B, inputs)
    actions: Tensor  # (B, components)
    rewards: Tensor  # (B,)
    x_next: Tensor  # (B, inputs)
    more: Tensor  # 1 where the episode goes on, else 0, (B,)


class Tuning(NamedTuple):
    """How a sampler learns."""

    temperature: float  # λ of a decision, nats
    gamma: float  # discount of a decision
    learning_rate: float  # of Adam
    polyak: float  # share of the network that its slow copy takes on a gradient step


class Sampler(Protocol):
    """Learns to act for rewards that change."""

    kind: Kind
    sizes: tuple[int, ...]  # of the network that acts

    def update(self, batch: Batch) -> Tensor:
        """One gradient step; the mean loss of Q, in nats²."""

    def acting(self) -> Rows:
        """Parameters of the network that acts, (P,)."""

    def state_dict(self) -> State: ...
    def load_state_dict(self, state: State) -> None: ...


class SoftQ:
    """Soft Q-learning over finitely many actions; starts with the uniform policy."""

    kind: Kind = "softmax"

    def __init__(
        self,
        actions: ActionSet,
        inputs: int,
        hidden: tuple[int, ...],
        rng: np.random.Generator,
        tuning: Tuning,
    ) -> None:
        self.sizes = (inputs, *hidden, len(actions))
        self.temperature, self.gamma, learning_rate, self.polyak = tuning
        self.network = MLP(self.sizes, [rng], "relu", output_gain=0.0)
        self.target = self.network.copy()
        self.adam = Adam(self.network, learning_rate)
        self.log_actions = math.log(len(actions))

    def update(self, batch: Batch) -> Tensor:
        lam = self.temperature / SCALE
        with torch.no_grad():
            after = torch.logsumexp(self.target(batch.x_next)[0] / lam, dim=1) - self.log_actions
            aim = batch.rewards / SCALE + self.gamma * batch.more * lam * after
        q = self.network(batch.x)[0].gather(1, batch.actions[:, :1])[:, 0]
        loss = torch.nn.functional.huber_loss(q, aim)
        loss.backward()
        self.adam.step()
        with torch.no_grad():
            self.target.flat.lerp_(self.network.flat, self.polyak)
        return loss.detach()

    def acting(self) -> Rows:
        return parameters_of(self.network, SCALE / self.temperature)  # logits Q / λ

    def state_dict(self) -> State:
        return {name: getattr(self, name).state_dict() for name in ("network", "target", "adam")}

    def load_state_dict(self, state: State) -> None:
        for name in ("network", "target", "adam"):
            getattr(self, name).load_state_dict(state[name])


class SoftActorCritic:
    """Soft actor-critic for Box actions, with two critics, of which the lower one counts."""

    kind: Kind = "squashed"

    def __init__(
        self,
        head: Squashed,
        inputs: int,
        hidden: tuple[int, ...],
        rng: np.random.Generator,
        tuning: Tuning,
    ) -> None:
        self.components = m = head.num_components
        self.sizes = (inputs, *hidden, head.num_outputs)
        self.temperature, self.gamma, learning_rate, self.polyak = tuning
        actor_rng, critic_rng, self.noise_rng = rng.spawn(3)
        self.actor = MLP(self.sizes, [actor_rng], "relu", output_gain=0.01)
        self.critic = MLP((inputs + m, *hidden, 1), critic_rng.spawn(2), "relu", output_gain=0.01)
        self.target = self.critic.copy()
        self.actor_adam = Adam(self.actor, learning_rate)
        self.critic_adam = Adam(self.critic, learning_rate)

    def draw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Actions in [-1, 1]^m, (B, m), and log π(a | x) / u of each, (B,)."""
        mean, log_deviation = self.actor(x)[0].split(self.components, dim=1)
        log_deviation = log_deviation.clamp(*LOG_DEVIATION)
        drawn = self.noise_rng.standard_normal(mean.shape, dtype=np.float32)
        noise = torch.as_tensor(drawn, device=x.device)
        y = mean + torch.exp(log_deviation) * noise
        log_normal = -0.5 * noise.square() - log_deviation - HALF_LOG_2PI
        # log(1 - tanh² y), without cancellation; u = 2^-m
        log_slope = 2.0 * (math.log(2.0) - y - torch.nn.functional.softplus(-2.0 * y))
        return torch.tanh(y), (log_normal - log_slope + math.log(2.0)).sum(dim=1)

    def update(self, batch: Batch) -> Tensor:
        lam = self.temperature / SCALE
        with torch.no_grad():
            following, log_ratio = self.draw(batch.x_next)
            after = self.target(torch.cat([batch.x_next, following], dim=1))[..., 0].amin(dim=0)
            after = after - lam * log_ratio
            aim = batch.rewards / SCALE + self.gamma * batch.more * after
        q = self.critic(torch.cat([batch.x, batch.actions], dim=1))[..., 0]
        loss = torch.nn.functional.huber_loss(q, aim.expand_as(q))
        (2.0 * loss).backward()  # the sum over critics
        self.critic_adam.step()
        actions, log_ratio = self.draw(batch.x)
        held = actions.detach().requires_grad_()
        value = self.critic(torch.cat([batch.x, held], dim=1))[..., 0].amin(dim=0)
        (slope,) = torch.autograd.grad(value.sum(), held)  # of the actions alone
        (lam * log_ratio - (slope * actions).sum(dim=1)).mean().backward()
        self.actor_adam.step()
        with torch.no_grad():
            self.target.flat.lerp_(self.critic.flat, self.polyak)
        return loss.detach()

    def acting(self) -> Rows:
        return parameters_of(self.actor)

    def state_dict(self) -> State:
        parts: Any = ("actor", "critic", "target", "actor_adam", "critic_adam")
        return {name: getattr(self, name).state_dict() for name in parts} | {
            "noise_rng": self.noise_rng
        }

    def load_state_dict(self, state: State) -> None:
        for name in ("actor", "critic", "target", "actor_adam", "critic_adam"):
            getattr(self, name).load_state_dict(state[name])
        self.noise_rng = state["noise_rng"]
