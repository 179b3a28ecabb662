"""A proximal actor-critic under entropic risk, for any environment.

Each batch of rollouts is turned into advantages and weights by `rlentropy.neural.estimator`, whose
page of mathematics is this agent's. A policy network then takes several clipped steps on them
(PPO, Schulman et al., 2017), and a critic regresses on their targets: V̂ by least squares, ĝ by
LINEX. Both networks learn in epochs of minibatches, side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from rlentropy.errors import InputError, did_you_mean, in_range, one_of, whole
from rlentropy.neural.copies import MOST_WORKERS, copies
from rlentropy.neural.estimator import Estimates, estimate
from rlentropy.neural.losses import linex_gradient, mean_linex_loss
from rlentropy.neural.networks import MLP, Activation, Adam, Rows, forward, layers_of
from rlentropy.neural.rollouts import Rollouts, VectorEnv, next_values
from rlentropy.neural.saved import saved_policy
from rlentropy.neural.spaces import (
    OBSERVATION_CLIP,
    Actions,
    Encoder,
    NeuralPolicy,
    RunningMeanStd,
    make_head,
    standardised,
    warn_if_wide,
)
from rlentropy.types import Array, Env, State

Tensor = torch.Tensor


@dataclass(frozen=True)
class Config:
    """Learns a policy by networks in any environment, robust by an entropic risk.

    Use it where states or actions are continuous, or too many for a table. With --risk nominal it
    is a proximal actor-critic; with entropic:β it is wary of transitions that turn out badly. Sizes
    are those that CartPole-v1 likes.

    After Zhang, Hu and Li, "Soft Robust MDPs and Risk-Sensitive MDPs", ICLR 2024.

    Example::

        rlentropy robust-actor-critic --env-id CartPole-v1 --steps 30000
        rlentropy robust-actor-critic --env-id Pendulum-v1 --risk entropic:0.1 --steps 100000
    """

    steps: int = 200_000  # budget, in environment steps; whole batches are played
    risk: str = "nominal"  # nominal or entropic:β, β >= 0 per unit of reward
    gamma: float = 0.99  # discount, in (0, 1)
    num_envs: int = 8  # copies of the environment, stepped in turn
    env_workers: int = 0  # processes that step the copies; 0: this one, the faster for quick ones
    rollout_steps: int = 128  # steps of each copy in a batch
    epochs: int = 8  # passes over a batch
    minibatches: int = 4  # gradient steps a pass
    learning_rate: float = 1e-3  # of the policy (Adam)
    critic_learning_rate: float = 1e-3  # of the critic (Adam)
    gae_lambda: float = 0.95  # λ of the advantages, in [0, 1]
    clip: float = 0.2  # largest change of an action's probability ratio a batch, > 0
    entropy_bonus: float = 0.0  # reward for the policy's entropy, per nat, >= 0
    max_gradient_norm: float = 0.5  # of each network, > 0
    trace_decay: float = 0.9  # κ in [0, 1], how long transition weights act on later states
    max_weight: float = 10.0  # largest weight, > 1
    hidden: tuple[int, ...] = (64, 64)  # widths of the hidden layers
    activation: Activation = "tanh"  # between layers
    normalise_observations: bool = True  # those of a Box, by running mean and deviation
    normalise_rewards: bool = True  # by the running deviation of the discounted return
    # steps that truncate an episode, in training and evaluation; default: the environment's limit
    horizon: int | None = None
    random_action: float = 0.0  # probability that the environment plays a uniform action instead
    evaluation_episodes: int = 10  # of each eval/return
    final_episodes: int = 100  # of the summary's mean_return
    stochastic_evaluation: bool = False  # draw actions when evaluated, instead of the likeliest

    def __post_init__(self) -> None:
        risk_aversion(self.risk)
        for name in (
            *("steps", "num_envs", "rollout_steps", "epochs", "minibatches"),
            *("evaluation_episodes", "final_episodes"),
        ):
            whole(name, getattr(self, name), 1)
        whole("env_workers", self.env_workers, 0, MOST_WORKERS)
        if self.horizon is not None:
            whole("horizon", self.horizon, 1)
        if self.minibatches > self.num_envs * self.rollout_steps:
            raise InputError(
                "minibatches must be at most num_envs * rollout_steps = "
                f"{self.num_envs * self.rollout_steps}, got {self.minibatches}"
            )
        in_range("gamma", self.gamma, "(0, 1)")
        for name in ("gae_lambda", "trace_decay", "random_action"):
            in_range(name, getattr(self, name), "[0, 1]")
        for name in ("learning_rate", "critic_learning_rate", "clip", "max_gradient_norm"):
            in_range(name, getattr(self, name), "(0, inf)")
        in_range("entropy_bonus", self.entropy_bonus, "[0, inf)")
        in_range("max_weight", self.max_weight, "(1, inf]")
        for width in self.hidden:
            whole("hidden", width, 1)
        one_of("activation", self.activation, get_args(Activation))


def risk_aversion(risk: str) -> float:
    """β of --risk, which is nominal or entropic:β.

    Read here, not by `rlentropy.risk`: its measures are for solvers that know the model, and none
    of them is needed to learn from samples.

    Raises:
        InputError: another measure, or a β that is no finite number >= 0.
    """
    name, _, parameter = str(risk).strip().partition(":")
    if (name, parameter) == ("nominal", ""):
        return 0.0
    try:
        beta = float(parameter) if name == "entropic" else np.nan
    except ValueError:
        beta = np.nan
    if not 0.0 <= beta < np.inf:
        raise InputError(
            "risk must be nominal or entropic:β with a finite β >= 0, all that robust-actor-critic "
            f"supports, got {risk!r}{did_you_mean(name, {'nominal', 'entropic'} - {name})}"
        )
    return beta


def clipped_gain(ratio: Tensor, gain: Tensor, clip: float) -> Tensor:
    """PPO's objective of each action: no gain from moving its probability further than the clip."""
    return torch.min(ratio * gain, ratio.clamp(1.0 - clip, 1.0 + clip) * gain)


@dataclass(frozen=True)
class Batch:
    """What the update needs of B = T N steps, in normalised reward units."""

    x: Tensor  # observations, standardised, (B, D)
    actions: Tensor  # (B, components)
    log_p: Tensor  # of the actions, under the policy that drew them, (B,)
    seen: Tensor  # by V̂, to which actions are zeros, and by ĝ, (2, B, D + K)
    aims: Tensor  # targets of V̂, and surprises, those of ĝ, (2, B)
    gains: Tensor  # ρ times the normalised advantage, (B,)
    rho: Tensor  # ρ, of mean 1, (B,)
    b: float


class ActorCritic:
    """Policy, critic and running statistics; `play` fills a batch, `learn` updates on it."""

    stopped = False  # never before the budget is spent

    def __init__(self, env: Env, config: Config, rng: np.random.Generator) -> None:
        self.env, self.config = env, config
        warn_if_wide(env.observation_space)
        self.encode = Encoder.of(env.observation_space)
        self.head = make_head(env.action_space)
        policy_rng, critic_rng, env_rng, self.action_rng, self.order_rng = rng.spawn(5)
        D, K, hidden = self.encode.width, self.head.num_features, config.hidden
        sizes = (D, *hidden, self.head.num_outputs)
        self.policy = MLP(sizes, [policy_rng], config.activation, output_gain=0.01)
        # Members: V̂, which is shown no action, and ĝ.
        self.critic = MLP((D + K, *hidden, 1), critic_rng.spawn(2), config.activation, 0.01)
        self.policy_adam = Adam(self.policy, config.learning_rate, epsilon=1e-5)
        self.critic_adam = Adam(self.critic, config.critic_learning_rate, epsilon=1e-5)
        n, workers = config.num_envs, config.env_workers
        envs = copies(env, n, config.random_action, config.horizon, workers)
        self.envs = VectorEnv(envs, self.encode, env_rng)
        self.observed, self.gained = RunningMeanStd(D), RunningMeanStd(1)
        self.gain = np.zeros(config.num_envs)  # Σ γ^(t-k) r_k of the present episodes
        self.log_rho = np.zeros(config.num_envs)
        self.env_steps, self.episodes = 0, 0

    @property
    def done(self) -> int:
        return self.env_steps

    @property
    def step(self) -> int:
        return self.env_steps

    @property
    def scaling(self) -> tuple[Array, Array]:
        """Mean and deviation that observations are standardised by."""
        return self.observed.mean, self.observed.deviation()

    @property
    def reward_scale(self) -> float:
        return float(self.gained.deviation()[0])

    def acting(self) -> NeuralPolicy:
        """The policy as it is now, for evaluation."""
        config, layers = self.config, layers_of(self.policy)
        stochastic = config.stochastic_evaluation
        return NeuralPolicy(self.env, layers, config.activation, self.scaling, stochastic)

    def inputs(self, rows: Rows) -> Rows:
        """Encoded observations as the networks see them."""
        return standardised(rows, *self.scaling, OBSERVATION_CLIP)

    def values(self, x: Rows) -> Array:
        """V̂ of inputs (n, D), in normalised reward units."""
        shown = np.pad(x, ((0, 0), (0, self.head.num_features)))
        return forward(layers_of(self.critic, 0), shown, self.config.activation)[:, 0].astype(float)

    def certainties(self, x: Rows, features: Rows) -> Array:
        """ĝ of inputs (n, D) and features of actions (n, K)."""
        shown = np.concatenate([x, features], axis=1)
        return forward(layers_of(self.critic, 1), shown, self.config.activation)[:, 0].astype(float)

    def advance(self, units: int) -> dict[str, float]:
        """Play a batch and learn from it, however many steps are asked for."""
        return self.learn(self.play())

    def play(self) -> Rollouts:
        """A batch of rollouts of the present policy."""
        config, head, scaling = self.config, self.head, self.scaling
        shape = (config.rollout_steps, config.num_envs)
        layers, noise = layers_of(self.policy), head.noise(self.action_rng, shape)

        def choose(rows: Rows, t: int) -> Actions:
            x = standardised(rows, *scaling, OBSERVATION_CLIP)
            return head.choose(forward(layers, x, config.activation), noise[t])

        rollouts = self.envs.roll_out(config.rollout_steps, head, choose)
        self.env_steps += rollouts.rewards.size
        self.episodes += len(rollouts.returns)
        return rollouts

    def learn(self, rollouts: Rollouts) -> dict[str, float]:
        """Estimate, update the networks, then the statistics; returns the train/* figures."""
        if self.config.normalise_rewards:
            self._measure_rewards(rollouts)
        batch, figures = self._estimate(rollouts)
        figures |= self._update(batch)
        if self.config.normalise_observations and self.encode.first is None:
            self.observed.update(rollouts.observations[:-1].reshape(-1, self.encode.width))
        return figures

    def _measure_rewards(self, rollouts: Rollouts) -> None:
        gains = np.empty_like(rollouts.rewards)
        for t, rewards in enumerate(rollouts.rewards):
            gains[t] = self.config.gamma * self.gain + rewards
            self.gain = np.where(rollouts.ended[t], 0.0, gains[t])
        self.gained.update(gains.reshape(-1, 1))

    def _estimate(self, rollouts: Rollouts) -> tuple[Batch, dict[str, float]]:
        """The estimator on the critic's values, and its train/* figures."""
        config, (T, N) = self.config, rollouts.rewards.shape
        b = risk_aversion(config.risk) / config.gamma * self.reward_scale
        x = self.inputs(rollouts.observations.reshape((T + 1) * N, -1))
        last = [observation for _, _, observation in rollouts.truncated]
        x_last = self.inputs(self.encode(last)) if last else x[:0]
        values = self.values(np.concatenate([x, x_last]))
        V, x = values[: len(x)].reshape(T + 1, N), x[: T * N]
        features = self.head.features(rollouts.actions).reshape(T * N, -1)
        certainty = self.certainties(x, features).reshape(T, N)
        estimates = estimate(
            rollouts.rewards / self.reward_scale,
            V[:-1],
            next_values(V, rollouts, values[V.size :]),
            certainty,
            rollouts.ended,
            self.log_rho,
            b=b,
            gamma=config.gamma,
            gae_lambda=config.gae_lambda,
            trace_decay=config.trace_decay,
            max_weight=config.max_weight,
        )
        self.log_rho = estimates.log_rho
        figures = self._figures(estimates, certainty, b)
        if rollouts.returns:
            figures["train/return"] = np.mean(rollouts.returns)
        return self._batch(x, rollouts.actions.reshape(T * N, -1), features, estimates, b), figures

    def _batch(
        self, x: Rows, actions: Actions, features: Rows, estimates: Estimates, b: float
    ) -> Batch:
        def tensor(values: NDArray[Any]) -> Tensor:
            kind = torch.int64 if values.dtype.kind == "i" else torch.float32
            return torch.as_tensor(values, dtype=kind, device=self.policy.flat.device)

        blind, sighted = np.hstack([x, np.zeros_like(features)]), np.hstack([x, features])
        inputs, drawn = tensor(x), tensor(actions)
        with torch.no_grad():
            log_p, _ = self.head.law(self.policy(inputs)[0], drawn)
        return Batch(
            x=inputs,
            actions=drawn,
            log_p=log_p,
            seen=tensor(np.stack([blind, sighted])),
            aims=tensor(np.stack([estimates.value_targets.ravel(), estimates.surprise.ravel()])),
            gains=tensor(estimates.gains.ravel()),
            rho=tensor(estimates.rho.ravel()),
            b=b,
        )

    def _figures(self, estimates: Estimates, certainty: Array, b: float) -> dict[str, Any]:
        rho, tail = estimates.rho, float(np.log(self.config.max_weight))
        return {
            "train/effective_sample_size": rho.sum() ** 2 / (rho**2).sum(),
            "train/weight_max": np.exp(estimates.log_w.max()),
            "train/linex_loss": mean_linex_loss(certainty - estimates.surprise, b, tail),
            "train/reward_scale": self.reward_scale,
        }

    def _update(self, batch: Batch) -> dict[str, float]:
        """Several epochs of minibatches; the means of their figures."""
        config, device = self.config, self.policy.flat.device
        sums = torch.zeros(len(LOSSES), device=device)
        for _ in range(config.epochs):
            order = torch.as_tensor(self.order_rng.permutation(len(batch.x)), device=device)
            for part in order.tensor_split(config.minibatches):
                loss, figures = self._losses(batch, part)
                loss.backward()
                self.policy_adam.step(max_norm=config.max_gradient_norm)
                self.critic_adam.step(max_norm=config.max_gradient_norm)
                sums += figures
        means = (sums / (config.epochs * config.minibatches)).tolist()
        return {f"train/{name}": value for name, value in zip(LOSSES, means, strict=True)}

    def _losses(self, batch: Batch, part: Tensor) -> tuple[Tensor, Tensor]:
        """What a minibatch, of these rows, minimises, and its figures, those of LOSSES."""
        config, tail = self.config, float(np.log(self.config.max_weight))
        log_p, entropy = self.head.law(self.policy(batch.x[part])[0], batch.actions[part])
        log_ratio = log_p - batch.log_p[part]
        ratio = log_ratio.exp()
        policy_loss = -clipped_gain(ratio, batch.gains[part], config.clip).mean()
        mean_entropy = (batch.rho[part] * entropy).mean()
        V, g = self.critic(batch.seen[:, part])[..., 0]
        value_loss = 0.5 * (V - batch.aims[0, part]).square().mean()
        slope = linex_gradient(g.detach(), batch.aims[1, part], batch.b, tail)
        loss = policy_loss - config.entropy_bonus * mean_entropy
        loss = loss + value_loss + (slope * g).mean()  # of gradient dl/dĝ
        with torch.no_grad():
            kl = (ratio - 1.0 - log_ratio).mean()
            outside = ((ratio - 1.0).abs() > config.clip).float().mean()
            figures = torch.stack([policy_loss, value_loss, mean_entropy, kl, outside])
        return loss, figures

    def saved_policy(self) -> dict[str, Any]:
        """What policy.pt holds."""
        return saved_policy(self.policy, self.scaling, self.config.stochastic_evaluation)

    def state_dict(self) -> State:
        parts = {name: getattr(self, name).state_dict() for name in PARTS}
        return parts | {name: getattr(self, name) for name in FIELDS}

    def load_state_dict(self, state: State) -> None:
        for name in PARTS:
            getattr(self, name).load_state_dict(state[name])
        for name in FIELDS:
            setattr(self, name, state[name])


LOSSES = ("policy_loss", "value_loss", "entropy", "kl", "clip_fraction")  # train/*
# What a checkpoint holds of an ActorCritic.
PARTS = ("policy", "critic", "policy_adam", "critic_adam", "envs", "observed", "gained")
FIELDS = ("gain", "log_rho", "env_steps", "episodes", "action_rng", "order_rng")
