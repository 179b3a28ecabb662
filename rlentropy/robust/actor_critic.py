"""Neural robust policy gradient: a proximal actor-critic under entropic risk, for any environment.

The soft robust MDP of Zhang, Hu and Li (ICLR 2024; robust spec §1.2) with D = KL / β. Rewards of
gymnasium depend on s' and may be random, so with z = r + γ V(s'), V = 0 after termination, b = β/γ

    Q(s, a) = -(1/b) log E[exp(-b z) | s, a]        V(s) = Σ_a π(a|s) Q(s, a)         (§1.3)

which is r + γ U(s, a), U = -(1/β) log E exp(-β V(s')), where the reward is one of (s, a). The worst
case tilts each transition by w = exp(-b (z - Q)), whose mean given (s, a) is 1 (for such a reward
exp(-β V(s')) / Z(s, a)).

**The gradient** (§3.1) is an expectation under the worst-case kernel; on samples of the nominal one

    ∇J = E[Σ_t γ^t ρ_t A_t ∇log π(a_t|s_t)],    ρ_t = w_0 w_1 … w_{t-1}               (1)

for any A_t whose mean, given s_t, a_t and the past, is Q(s_t, a_t) less a function of s_t. Here,
with value estimates V̂ and Q̂,

    δ_t = Q̂ + (1 - w_t)/b - V̂(s_t),    w_t = exp(-b (z_t - Q̂(s_t, a_t)))              (2)
    A_t = δ_t + γ λ w_t A_{t+1}                                                        (3)

As -log x is 1 - x near x = 1, the mean of (2) is the robust Bellman backup of V̂ less V̂, up to a
term of second order in the error of Q̂. γ w_t is the derivative of that backup in V̂(s_{t+1}),
which makes (3) the generalised advantages of the robust problem: λ trades the bias of V̂ for
variance. Both become the ordinary ones as β → 0, where w = 1.

*Exact*: with the true V and Q, (1)-(3) are unbiased for every λ. `transition_weights`,
`advantages` and `occupancy_weights` compute them so with max_weight = inf, self_normalise = False
and trace_decay = 1; the test against exact gradients does.

*Approximate*, as shipped:
- ρ_t, a product as long as the episode, has a variance that grows exponentially. log ρ forgets:
  log ρ_t = κ (log ρ_{t-1} + log w_{t-1}), κ = `trace_decay`. κ = 0 leaves the nominal
  occupancy (the advantages stay robust), κ = 1 is (1).
- γ^t is left out, as usual: states late in an episode count like early ones.
- w and ρ have mean 1 in the batch, for w by a shift of Q̂, and are cut off at `max_weight` in the
  log domain.
- In (3) w is cut off at 1, as in V-trace (Espeholt et al., 2018): products of weights above 1 grow
  without bound. With the true V and Q any factor of s_{t+1} there leaves (1) unbiased; else it
  changes how far V̂ looks ahead, not what it tends to.
- The policy takes several clipped steps a batch (PPO, Schulman et al., 2017) with ρ and A fixed.
- Q̂ and V̂ are networks: w is wrong to first order in their error. The second-order term of (2) is
  negative: noise in Q̂ of variance v lowers a backup by about b v / 2.

*Deterministic dynamics* leave nature no law to tilt: there w = 1, the robust problem is the nominal
one, and whatever β then changes comes from the error of Q̂. `random_action` makes dynamics noisy.

**The critic.** V̂ regresses on V̂ + A. Q̂ = V̂ + ĝ, with ĝ the LINEX regression (§4.5) of the
surprise x = z - V̂(s) on (s, a): l = (e^y - y - 1)/b², y = b (ĝ - x), minimal at
ĝ = -(1/b) log E[e^{-bx} | s, a]. Its gradient (w - 1)/b is cut off with w, so at the minimum the
weights in use average to 1. With ĝ = 0 the value would be the classical Markov risk measure, which
counts the policy's own randomness as risk (§1.2). The loss tends to (ĝ - x)²/2.

Rewards are divided by a running deviation of the discounted return and b multiplied by it: the risk
stays that of the environment's own reward units. β is per unit: β = 1 / (a loss that matters). Once
β times that deviation (train/reward_scale) passes about 5 the weights amplify the critic's errors
more than it learns to avoid them, and training may collapse: CartPole-v1 does at β = 0.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from rlentropy import risk
from rlentropy.errors import InputError
from rlentropy.files import check_fields
from rlentropy.log import Log, drive
from rlentropy.neural.networks import MLP, Activation, Adam, check_shapes
from rlentropy.neural.rollouts import Batch, Copies, make_copies, next_values
from rlentropy.neural.spaces import (
    Array,
    Encoder,
    Env,
    Moments,
    NeuralPolicy,
    forward,
    layers_of,
    make_head,
    normalised,
)
from rlentropy.policies import Policy, play
from rlentropy.types import Result, State
from rlentropy.wrappers import Checked

EVALUATION_LIMIT = 10_000  # steps of an evaluation episode where the environment has no limit
SIDE_BY_SIDE = 20  # evaluation episodes that are played at once


@dataclass(frozen=True)
class Config:
    """Proximal actor-critic under entropic risk; sizes chosen on CartPole-v1."""

    steps: int = 200_000  # budget, in environment steps; whole batches are played
    risk: str = "nominal"  # nominal or entropic:β, β >= 0 per unit of reward
    gamma: float = 0.99  # discount, in (0, 1)
    num_envs: int = 8  # copies of the environment, stepped in turn
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
    normalise_observations: bool = True  # Box observations, by running mean and deviation
    normalise_rewards: bool = True  # by the running deviation of the discounted return
    # steps that truncate an episode, in training and evaluation; default: the environment's limit
    horizon: int | None = None
    random_action: float = 0.0  # probability that the environment plays a uniform action instead
    evaluation_episodes: int = 10  # of each eval/return
    final_episodes: int = 100  # of the summary's mean_return
    stochastic_evaluation: bool = False  # draw actions when evaluated, instead of the likeliest

    def __post_init__(self) -> None:
        risk_aversion(self.risk)
        for name in ("steps", "num_envs", "rollout_steps", "epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be >= 1, got {getattr(self, name)}")
        for name in ("evaluation_episodes", "final_episodes"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.horizon is not None and self.horizon < 1:
            raise InputError(f"horizon must be >= 1, got {self.horizon}")
        if self.minibatches > self.num_envs * self.rollout_steps:
            raise InputError(
                "minibatches must be at most num_envs * rollout_steps = "
                f"{self.num_envs * self.rollout_steps}, got {self.minibatches}"
            )
        if not 0.0 < self.gamma < 1.0:
            raise InputError(f"gamma must be in (0, 1), got {self.gamma}")
        for name in ("gae_lambda", "trace_decay", "random_action"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("learning_rate", "critic_learning_rate", "clip", "max_gradient_norm"):
            if not 0.0 < getattr(self, name) < np.inf:
                raise InputError(f"{name} must be > 0 and finite, got {getattr(self, name)}")
        if not 0.0 <= self.entropy_bonus < np.inf:
            raise InputError(f"entropy_bonus must be >= 0 and finite, got {self.entropy_bonus}")
        if not self.max_weight > 1.0:
            raise InputError(f"max_weight must be > 1, got {self.max_weight}")
        if any(width < 1 for width in self.hidden):
            raise InputError(f"hidden must be widths >= 1, got {self.hidden}")
        if self.activation not in ("tanh", "relu"):
            raise InputError(f"activation must be tanh or relu, got {self.activation!r}")


def risk_aversion(name: str) -> float:
    """β of --risk; the command knows no other measure than the entropic.

    Raises:
        InputError: another measure, or one that does not exist.
    """
    measure = risk.parse(name)
    if isinstance(measure, risk.Entropic):
        return measure.risk_aversion
    if not isinstance(measure, risk.Nominal):
        raise InputError(
            f"risk must be nominal or entropic:β, all that robust-actor-critic supports, got {name}"
        )
    return 0.0


# ---------------------------------------------------------------- the estimator


def transition_weights(
    surprise: Array,
    certainty: Array,
    b: float,
    max_weight: float = np.inf,
    self_normalise: bool = False,
) -> tuple[Array, Array]:
    """log w and δ of (2), each shaped like the surprises x = z - V̂(s).

    Args:
        surprise: x, any shape, reward units.
        certainty: ĝ, the certainty equivalent of x given (s, a), likewise.
        b: β/γ >= 0, 1 / reward units.
        self_normalise: shift ĝ by the constant that makes the mean of w 1.
    """
    if b == 0.0:
        return np.zeros_like(surprise), surprise
    log_w = b * (certainty - surprise)
    if self_normalise:  # relative to the largest: where ĝ is far off, every w may be 0 or infinite
        top = log_w.max()
        log_mean = top + np.log1p(np.expm1(log_w - top).mean())
        log_w, certainty = log_w - log_mean, certainty - log_mean / b
    log_w = np.minimum(log_w, np.log(max_weight))
    return log_w, certainty - np.expm1(log_w) / b


def advantages(
    errors: Array,
    log_w: Array,
    ended: Array,
    gamma: float,
    gae_lambda: float,
    max_trace: float = np.inf,
) -> Array:
    """A of (3), (T, N), from δ, log w and whether an episode ends with step t, each (T, N).

    Args:
        max_trace: where w is cut off in (3), > 0.
    """
    keep = gamma * gae_lambda * np.minimum(np.exp(log_w), max_trace) * ~ended
    found = np.empty_like(errors)
    after = np.zeros_like(errors[0])
    for t in reversed(range(len(errors))):
        found[t] = after = errors[t] + keep[t] * after
    return found


def occupancy_weights(
    log_w: Array, ended: Array, start: Array, trace_decay: float
) -> tuple[Array, Array]:
    """log ρ (T, N), and that of step T (N,), where `start` (N,) is that of step 0.

    log ρ_t = κ (log ρ_{t-1} + log w_{t-1}) within an episode, 0 at its start; κ = 1 gives (1).
    """
    log_rho, now = np.empty_like(log_w), start
    for t in range(len(log_w)):
        log_rho[t] = now
        now = np.where(ended[t], 0.0, trace_decay * (now + log_w[t]))
    return log_rho, now


def self_normalised(log_weights: Array, max_weight: float) -> Array:
    """Weights of mean 1, cut off at max_weight times their mean before the cut."""
    top = log_weights.max()
    relative = log_weights - top - np.log(np.exp(log_weights - top).mean())
    weights = np.exp(np.minimum(relative, np.log(max_weight)))
    return np.asarray(weights / weights.mean())


def linex_gradient(
    prediction: torch.Tensor, target: torch.Tensor, b: float, max_weight: float
) -> torch.Tensor:
    """(w - 1)/b with w = min(exp(b (u - x)), max_weight): dl/du of the LINEX loss (§4.5).

    At b = 0 u - x, that of the squared loss.
    """
    error = prediction - target
    if b == 0.0:
        return error
    return torch.expm1((b * error).clamp(max=float(np.log(max_weight)))) / b


def linex_loss(error: Array, b: float, max_weight: float = np.inf) -> float:
    """Mean of (e^y - y - 1)/b², y = b × error; e^y goes on as its tangent from max_weight on.

    It tends to error²/2 as b does to 0.
    """
    y = b * error
    small = np.abs(y) < 1e-3
    bent = np.where(small, 1.0, np.minimum(y, np.log(max_weight)))
    straight = np.where(small, 1.0, y)
    large = np.expm1(bent) + np.exp(bent) * (straight - bent) - straight
    ratio = np.where(small, 0.5 + y / 6.0 + y**2 / 24.0, large / straight**2)
    return float((error**2 * ratio).mean())


# ---------------------------------------------------------------- learning


@dataclass(frozen=True)
class Estimates:
    """What the update needs of a batch of B = T N steps, in normalised reward units."""

    x: Array  # observations, normalised, (B, D)
    features: Array  # of the actions, (B, K)
    actions: Array  # (B, components)
    gains: Array  # ρ times the normalised advantage, (B,)
    rho: Array  # ρ, of mean 1, (B,)
    aims: Array  # targets of V̂, and surprises, those of ĝ, (2, B)
    b: float


class ActorCritic:
    """Policy, critic and running statistics; `play` fills a batch, `learn` updates on it."""

    stopped = False

    def __init__(self, env: Env, config: Config, rng: np.random.Generator) -> None:
        self.env, self.config = env, config
        self.encode, self.head = Encoder(env), make_head(env)
        policy_rng, critic_rng, env_rng, self.action_rng, self.order_rng = rng.spawn(5)
        D, K, hidden = self.encode.size, self.head.num_features, config.hidden
        sizes = (D, *hidden, self.head.num_outputs)
        self.policy = MLP(sizes, [policy_rng], config.activation, output_gain=0.01)
        # Members: V̂, which is shown no action, and ĝ.
        self.critic = MLP((D + K, *hidden, 1), critic_rng.spawn(2), config.activation, 0.01)
        self.policy_adam = Adam(self.policy, config.learning_rate, epsilon=1e-5)
        self.critic_adam = Adam(self.critic, config.critic_learning_rate, epsilon=1e-5)
        envs = make_copies(env, config.num_envs, config.random_action, config.horizon)
        self.copies = Copies(envs, self.encode, env_rng)
        self.observed, self.gained = Moments(D), Moments(1)
        self.gain = np.zeros(config.num_envs)  # Σ γ^(t-k) r_k of the present episodes
        self.log_rho = np.zeros(config.num_envs)
        self.env_steps, self.episodes = 0, 0

    @property
    def scaling(self) -> tuple[Array, Array]:
        """Mean and deviation that observations are normalised by."""
        return self.observed.mean, self.observed.deviation

    @property
    def reward_scale(self) -> float:
        return float(self.gained.deviation[0])

    def acting(self) -> NeuralPolicy:
        """The policy as it is now, for evaluation."""
        config, layers = self.config, layers_of(self.policy)
        stochastic = config.stochastic_evaluation
        return NeuralPolicy(self.env, layers, config.activation, self.scaling, stochastic)

    def values(self, x: Array) -> Array:
        """V̂ of normalised observations (n, D), in normalised reward units."""
        shown = np.pad(x, ((0, 0), (0, self.head.num_features)))
        return forward(layers_of(self.critic, 0), shown, self.config.activation)[:, 0].astype(float)

    def certainties(self, x: Array, features: Array) -> Array:
        """ĝ of normalised observations (n, D) and features of actions (n, K)."""
        shown = np.concatenate([x, features], axis=1)
        return forward(layers_of(self.critic, 1), shown, self.config.activation)[:, 0].astype(float)

    @property
    def done(self) -> int:
        return self.env_steps

    @property
    def step(self) -> int:
        return self.env_steps

    def advance(self, steps: int) -> dict[str, float]:
        """Play one batch and learn from it, however many steps are asked for."""
        if self.env_steps == 0:
            for i in range(self.config.num_envs):
                self.copies.begin(i)
        return self.learn(self.play())

    def play(self) -> Batch:
        """Play T steps of every copy."""
        config, head, scaling = self.config, self.head, self.scaling
        batch = Batch(config.rollout_steps, config.num_envs, self.encode.size, head)
        layers, noise = layers_of(self.policy), head.noise(self.action_rng, batch.rewards.shape)
        for t in range(config.rollout_steps):
            batch.observations[t] = self.encode(self.copies.observations)
            x = normalised(batch.observations[t], *scaling)
            batch.actions[t] = head.choose(forward(layers, x, config.activation), noise[t])
            self.copies.step(head.to_space(batch.actions[t]), batch, t)
        batch.observations[-1] = self.encode(self.copies.observations)
        if not np.isfinite(batch.observations).all():  # float64 ones are rounded to float32
            raise InputError("observations must be finite in single precision, got larger ones")
        self.env_steps += batch.rewards.size
        self.episodes += len(batch.returns)
        return batch

    def learn(self, batch: Batch) -> dict[str, float]:
        """Estimate, update the networks, then the statistics; returns the train/* figures."""
        if self.config.normalise_rewards:
            self._measure_rewards(batch)
        estimates, figures = self._estimate(batch)
        figures |= self._update(estimates)
        if self.config.normalise_observations and self.encode.first is None:
            self.observed.update(batch.observations[:-1].reshape(-1, self.encode.size))
        return figures

    def _measure_rewards(self, batch: Batch) -> None:
        gains = np.empty_like(batch.rewards)
        for t, rewards in enumerate(batch.rewards):
            gains[t] = self.config.gamma * self.gain + rewards
            self.gain = np.where(batch.ended[t], 0.0, gains[t])
        self.gained.update(gains.reshape(-1, 1))

    def _estimate(self, batch: Batch) -> tuple[Estimates, dict[str, float]]:
        config, (T, N) = self.config, batch.rewards.shape
        b = risk_aversion(config.risk) / config.gamma * self.reward_scale
        x = normalised(batch.observations.reshape((T + 1) * N, -1), *self.scaling)
        last = [observation for _, _, observation in batch.cut]
        cut = normalised(self.encode(last), *self.scaling) if last else x[:0]
        values = self.values(np.concatenate([x, cut]))
        V, x = values[: len(x)].reshape(T + 1, N), x[: T * N]
        features = self.head.features(batch.actions).reshape(T * N, -1)
        certainty = self.certainties(x, features).reshape(T, N)

        after = next_values(V, batch, values[V.size :])
        surprise = batch.rewards / self.reward_scale + config.gamma * after - V[:-1]
        log_w, errors = transition_weights(
            surprise, certainty, b, config.max_weight, self_normalise=True
        )
        A = advantages(errors, log_w, batch.ended, config.gamma, config.gae_lambda, max_trace=1.0)
        log_rho, self.log_rho = occupancy_weights(
            log_w, batch.ended, self.log_rho, config.trace_decay
        )
        rho = self_normalised(log_rho, config.max_weight)
        mean = (rho * A).mean()
        deviation = np.sqrt((rho * (A - mean) ** 2).mean())
        estimates = Estimates(
            x=x,
            features=features,
            actions=batch.actions.reshape(T * N, -1),
            gains=(rho * (A - mean) / (deviation + 1e-8)).ravel(),
            rho=rho.ravel(),
            aims=np.stack([(V[:-1] + A).ravel(), surprise.ravel()]),
            b=b,
        )
        figures = {
            "train/effective_sample_size": rho.sum() ** 2 / (rho**2).sum(),
            "train/weight_max": np.exp(log_w.max()),
            "train/linex_loss": linex_loss(certainty - surprise, b, config.max_weight),
            "train/reward_scale": self.reward_scale,
        }
        if batch.returns:
            figures["train/return"] = np.mean(batch.returns)
        return estimates, figures

    def _update(self, estimates: Estimates) -> dict[str, float]:
        """Several epochs of minibatches."""
        config, device, n = self.config, self.policy.flat.device, len(estimates.x)

        def tensor(values: Array) -> torch.Tensor:
            kind = torch.int64 if values.dtype.kind == "i" else torch.float32
            return torch.as_tensor(values, dtype=kind, device=device)

        x, actions, aims = map(tensor, (estimates.x, estimates.actions, estimates.aims))
        gains, rho = tensor(estimates.gains), tensor(estimates.rho)
        blind = np.zeros_like(estimates.features)
        shown = tensor(np.stack([np.hstack([estimates.x, seen])
                                 for seen in (blind, estimates.features)]))  # fmt: skip
        with torch.no_grad():
            before, _ = self.head.law(self.policy(x)[0], actions)
        sums = torch.zeros(5, device=device)
        for _ in range(config.epochs):
            order = torch.as_tensor(self.order_rng.permutation(n), device=device)
            for part in order.tensor_split(config.minibatches):
                log_p, entropy = self.head.law(self.policy(x[part])[0], actions[part])
                log_ratio = log_p - before[part]
                ratio, gain = log_ratio.exp(), gains[part]
                clipped = ratio.clamp(1.0 - config.clip, 1.0 + config.clip)
                policy_loss = -torch.min(ratio * gain, clipped * gain).mean()
                mean_entropy = (rho[part] * entropy).mean()
                V, g = self.critic(shown[:, part])[..., 0]
                value_loss = 0.5 * (V - aims[0, part]).square().mean()
                slope = linex_gradient(g.detach(), aims[1, part], estimates.b, config.max_weight)
                loss = policy_loss - config.entropy_bonus * mean_entropy
                loss = loss + value_loss + (slope * g).mean()  # of gradient dl/dĝ
                loss.backward()
                self.policy_adam.step(max_norm=config.max_gradient_norm)
                self.critic_adam.step(max_norm=config.max_gradient_norm)
                with torch.no_grad():
                    kl = (ratio - 1.0 - log_ratio).mean()
                    outside = ((ratio - 1.0).abs() > config.clip).float().mean()
                    sums += torch.stack([policy_loss, value_loss, mean_entropy, kl, outside])
        names = ("policy_loss", "value_loss", "entropy", "kl", "clip_fraction")
        means = (sums / (config.epochs * config.minibatches)).tolist()
        return {f"train/{name}": value for name, value in zip(names, means, strict=True)}

    def saved_policy(self) -> dict[str, Any]:
        """What policy.pt holds; `load_policy` reads it."""
        mean, deviation = self.scaling
        return {
            "flat": self.policy.flat.detach().cpu().clone(),
            "sizes": list(self.policy.sizes),
            "activation": self.config.activation,
            "mean": torch.as_tensor(mean),
            "deviation": torch.as_tensor(deviation),
            "stochastic": self.config.stochastic_evaluation,
        }

    def _parts(self) -> dict[str, Any]:
        names = ("policy", "critic", "policy_adam", "critic_adam", "observed", "gained")
        return {name: getattr(self, name) for name in names}

    def state_dict(self) -> State:
        state = self.copies.state_dict()
        for prefix, part in self._parts().items():
            state |= {f"{prefix}.{name}": value for name, value in part.state_dict().items()}
        rngs = [rng.bit_generator.state for rng in (self.action_rng, self.order_rng)]
        names = ("gain", "log_rho", "env_steps", "episodes")
        return state | {"rngs": rngs} | {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: State) -> None:
        self.copies.load_state_dict(state)
        for prefix, part in self._parts().items():
            below = {k.partition(".")[2]: v for k, v in state.items() if k.startswith(f"{prefix}.")}
            part.load_state_dict(below)
        self.action_rng.bit_generator.state, self.order_rng.bit_generator.state = state["rngs"]
        for name in ("gain", "log_rho", "env_steps", "episodes"):
            setattr(self, name, state[name])


def load_policy(saved: dict[str, Any], env: Env) -> Policy:
    """The policy in policy.pt, to act in an environment.

    Raises:
        InputError: it is none of this command, or of other spaces than the environment's.
    """
    check_fields(saved, {"sizes": list, "activation": str, "stochastic": bool})
    check_fields(saved, dict.fromkeys(("flat", "mean", "deviation"), torch.Tensor))
    sizes, activation = saved["sizes"], saved["activation"]
    check_shapes(sizes, {})
    parameters = sum((rows + 1) * columns for rows, columns in pairwise(sizes))
    shapes = {"flat": (parameters,), "mean": tuple(sizes[:1]), "deviation": tuple(sizes[:1])}
    check_shapes(sizes, {name: (saved[name], shape) for name, shape in shapes.items()})
    if activation not in ("tanh", "relu") or not bool((saved["deviation"] > 0.0).all()):
        raise InputError("policy.pt must hold a known activation and deviations > 0, got others")
    encode, head = Encoder(env), make_head(env)
    if (sizes[0], sizes[-1]) != (encode.size, head.num_outputs):
        raise InputError(
            f"env must have {sizes[0]} observed numbers and actions of {sizes[-1]} parameters, "
            f"as the policy was trained on, got {env.observation_space} and {env.action_space}"
        )
    network = MLP(sizes, [np.random.default_rng(0)], activation)
    network.load_state_dict({"flat": saved["flat"]})
    scaling = saved["mean"].numpy(), saved["deviation"].numpy()
    return NeuralPolicy(env, layers_of(network), activation, scaling, saved["stochastic"])


def run(env: Env, config: Config, rng: np.random.Generator, log: Log) -> Result:
    """Train on copies of an environment, evaluating and saving on the way.

    The copies are made from ``env.spec``, or are deep copies where there is none; `env` itself is
    never stepped.

    Raises:
        InputError: the environment's spaces are not supported, it returns what is not in them or
            not finite, or it does not repeat itself on resuming.
    """
    learner_rng, evaluation_rng = rng.spawn(2)
    seed = int(evaluation_rng.integers(2**63))
    learner = ActorCritic(env, config, learner_rng)
    copies = min(SIDE_BY_SIDE, max(config.evaluation_episodes, config.final_episodes))
    judges = make_copies(env, copies, config.random_action, config.horizon)
    horizon = config.horizon or (env.spec.max_episode_steps if env.spec else None)
    limit = horizon or EVALUATION_LIMIT
    size = config.num_envs * config.rollout_steps
    total = -(-config.steps // size) * size  # whole batches are played

    def evaluate() -> tuple[dict[str, float], Array]:
        """Returns of evaluation episodes, of more of them for the final policy."""
        over = learner.done >= total
        episodes = config.final_episodes if over else config.evaluation_episodes
        draws, policy = np.random.default_rng([seed, learner.env_steps]), learner.acting()
        parts = np.split(draws.integers(2**31, size=episodes), range(copies, episodes, copies))
        returns = np.concatenate(
            [play(judges[: part.size], policy, part, limit, draws)[0] for part in parts]
        )
        shown = returns
        if over and log.evaluation_due(total - size, total):  # a point like any other
            shown = returns[: config.evaluation_episodes]
        return {"eval/return": float(shown.mean())}, returns

    returns = drive(learner, log, evaluate, total=total, budget="steps")
    starts = [Checked(judge).reset(k) for k, judge in enumerate(judges)]
    values = learner.values(normalised(learner.encode(starts), *learner.scaling))
    for copy in (*learner.copies.envs, *judges):
        copy.close()
    mean = float(returns.mean())
    half = 1.96 * float(returns.std(ddof=min(returns.size - 1, 1))) / returns.size**0.5
    summary = {
        "env_steps": learner.env_steps,
        "episodes": learner.episodes,
        "steps": config.steps,
        "risk": config.risk,
        "gamma": config.gamma,
        "horizon": horizon,
        "value": float(values.mean() * learner.reward_scale),
        "value_is_exact": False,
        "mean_return": mean,
        "return_ci95": [mean - half, mean + half],
        "evaluation_episodes": returns.size,
    }
    return Result(summary, network=learner.saved_policy())
