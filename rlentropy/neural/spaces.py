"""Policies over gymnasium's spaces: how observations enter a network and actions leave it.

Acting is in numpy, without torch: for small networks torch's calls cost more than its arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from rlentropy.errors import InputError
from rlentropy.neural.networks import MLP, Activation
from rlentropy.policies import one_or_many
from rlentropy.types import Count, State

Env = gymnasium.Env[Any, Any]
Array = npt.NDArray[Any]  # float32 in networks, float64 in estimates
Layers = Sequence[tuple[Array, Array]]  # weights (in, out) and biases (out,)

OBSERVATION_CLIP = 10.0  # deviations
LOG_DEVIATION = (-5.0, 2.0)  # range of a normal's logarithmic deviation


class Head(Protocol):
    """Actions of one kind of space, and their law given the policy network's outputs.

    Inside the module an action is a row (K,) of `dtype`; `outputs` is the network's output.
    """

    space: Any
    dtype: Any
    num_components: int  # K
    num_outputs: int
    num_features: int  # of what the critic sees of an action

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array: ...
    def choose(self, outputs: Array, noise: Array | None) -> Array: ...
    def features(self, actions: Array) -> Array: ...
    def to_space(self, actions: Array) -> Any: ...
    def law(
        self, outputs: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]: ...


class Categorical:
    """One softmax a component: Discrete, MultiDiscrete and MultiBinary actions."""

    dtype: Any = np.int64

    def __init__(self, space: Discrete | MultiDiscrete | MultiBinary) -> None:
        self.space = space
        if isinstance(space, Discrete):
            self.sizes = [int(space.n)]
        elif isinstance(space, MultiDiscrete):
            self.sizes = [int(n) for n in space.nvec.ravel()]
        else:
            self.sizes = [2] * int(np.prod(space.shape))
        self.num_components = len(self.sizes)
        self.num_outputs = self.num_features = sum(self.sizes)
        ends = np.cumsum(self.sizes)
        self.parts = [slice(int(e) - n, int(e)) for e, n in zip(ends, self.sizes, strict=True)]

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Gumbel variables: the likeliest action after adding them is a draw."""
        return rng.gumbel(size=(*shape, self.num_outputs)).astype(np.float32)

    def choose(self, outputs: Array, noise: Array | None) -> Array:
        scores = outputs if noise is None else outputs + noise
        if self.num_components == 1:
            return np.asarray(scores.argmax(axis=-1))[..., None]
        return np.stack([scores[..., part].argmax(axis=-1) for part in self.parts], axis=-1)

    def features(self, actions: Array) -> Array:
        found = np.zeros((*actions.shape[:-1], self.num_features), np.float32)
        for k, part in enumerate(self.parts):
            np.put_along_axis(found[..., part], actions[..., k : k + 1], 1.0, axis=-1)
        return found

    def to_space(self, actions: Array) -> Any:
        if isinstance(self.space, Discrete):
            return actions[:, 0] + self.space.start
        shaped: Array = actions.reshape(len(actions), *self.space.shape)
        if isinstance(self.space, MultiDiscrete):
            shaped = shaped + self.space.start
        return shaped.astype(self.space.dtype)

    def law(
        self, outputs: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities and entropies (B,)."""
        log_probability = entropy = torch.zeros((), device=outputs.device)
        for k, part in enumerate(self.parts):
            log_p = torch.log_softmax(outputs[:, part], dim=1)
            log_probability = log_probability + log_p.gather(1, actions[:, k : k + 1])[:, 0]
            entropy = entropy - (log_p.exp() * log_p).sum(dim=1)
        return log_probability, entropy


class Gaussian:
    """Independent normals: Box actions, in units where finite bounds are -1 and 1.

    The environment gets the action clipped to its bounds; the law is that of the action drawn.
    """

    dtype: Any = np.float32

    def __init__(self, space: Box) -> None:
        self.space = space
        self.num_components = self.num_features = int(np.prod(space.shape))
        self.num_outputs = 2 * self.num_components
        self.low = space.low.ravel().astype(np.float64)
        self.high = space.high.ravel().astype(np.float64)
        bounded = np.isfinite(self.low) & np.isfinite(self.high)
        self.centre = np.where(bounded, self.low / 2.0 + self.high / 2.0, 0.0)
        self.half = np.where(bounded, self.high / 2.0 - self.low / 2.0, 1.0)

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return rng.standard_normal((*shape, self.num_components), dtype=np.float32)

    def choose(self, outputs: Array, noise: Array | None) -> Array:
        mean = outputs[..., : self.num_components]
        if noise is None:
            return mean
        log_deviation = outputs[..., self.num_components :].clip(*LOG_DEVIATION)
        return np.asarray(mean + np.exp(log_deviation) * noise)

    def clipped(self, actions: Array) -> Array:
        inside: Array = np.clip(self.centre + self.half * actions, self.low, self.high)
        return inside

    def features(self, actions: Array) -> Array:
        inside = (self.clipped(actions) - self.centre) / np.where(self.half > 0.0, self.half, 1.0)
        return np.asarray(inside, np.float32)

    def to_space(self, actions: Array) -> Any:
        shaped = self.clipped(actions).reshape(len(actions), *self.space.shape)
        if not np.issubdtype(self.space.dtype, np.floating):
            shaped = np.rint(shaped)
        return shaped.astype(self.space.dtype)

    def law(
        self, outputs: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-densities and entropies (B,)."""
        mean, log_deviation = outputs.split(self.num_components, dim=1)
        log_deviation = log_deviation.clamp(*LOG_DEVIATION)
        x = (actions - mean) * torch.exp(-log_deviation)
        constant = 0.5 * float(np.log(2.0 * np.pi))
        log_density = (-0.5 * x.square() - log_deviation - constant).sum(dim=1)
        return log_density, (log_deviation + (constant + 0.5)).sum(dim=1)


def make_head(env: Env) -> Head:
    """The law of actions in an environment.

    Raises:
        InputError: the action space is none that the command supports.
    """
    space = env.action_space
    if isinstance(space, Discrete | MultiDiscrete | MultiBinary):
        return Categorical(space)
    if isinstance(space, Box):
        return Gaussian(space)
    raise InputError(
        "env must have Box, Discrete, MultiDiscrete or MultiBinary actions for "
        f"robust-actor-critic, got {space}"
    )


class Encoder:
    """Observations as rows of float32: Box ones flat, Discrete ones one-hot."""

    def __init__(self, env: Env) -> None:
        space = env.observation_space
        if not isinstance(space, Box | Discrete):
            raise InputError(
                f"env must have Box or Discrete observations for robust-actor-critic, got {space}"
            )
        self.first = int(space.start) if isinstance(space, Discrete) else None
        self.size = int(space.n if isinstance(space, Discrete) else np.prod(space.shape))

    def __call__(self, observations: Any) -> Array:
        """(n, *shape of the space) or (n,) -> (n, size)."""
        values: Array = np.asarray(observations)
        if self.first is None:
            return values.reshape(len(values), -1).astype(np.float32)
        rows = np.zeros((len(values), self.size), np.float32)
        rows[np.arange(len(values)), values - self.first] = 1.0
        return rows


class Moments:
    """Running mean and variance of rows (n, D), by Chan's formula for batches."""

    def __init__(self, size: int) -> None:
        self.count, self.mean, self.squares = 0, np.zeros(size), np.zeros(size)

    def update(self, rows: Array) -> None:
        n, mean = len(rows), rows.mean(axis=0, dtype=np.float64)
        squares = ((rows - mean) ** 2).sum(axis=0, dtype=np.float64)
        total, shift = self.count + n, mean - self.mean
        self.mean = self.mean + shift * (n / total)
        self.squares = self.squares + squares + shift**2 * (self.count * n / total)
        self.count = total

    @property
    def deviation(self) -> Array:
        """Standard deviation (D,); 1 where nothing has varied yet."""
        found = np.sqrt(self.squares / max(self.count, 1))
        return np.where(found > 1e-8, found, 1.0)

    def state_dict(self) -> State:
        return dict(vars(self))

    def load_state_dict(self, state: State) -> None:
        vars(self).update(state)


def layers_of(network: MLP, member: int = 0) -> Layers:
    """A member's layers as numpy arrays; on the CPU they share the network's memory."""
    return [
        (weight.detach()[member].cpu().numpy(), bias.detach()[member, 0].cpu().numpy())
        for weight, bias in zip(network.weights, network.biases, strict=True)
    ]


def forward(layers: Layers, x: Array, activation: Activation) -> Array:
    """What MLP computes, in numpy: (n, in) -> (n, out)."""
    for k, (weight, bias) in enumerate(layers):
        x = x @ weight
        x += bias
        if k + 1 < len(layers):
            x = np.tanh(x, out=x) if activation == "tanh" else np.maximum(x, 0.0, out=x)
    return x


class NeuralPolicy:
    """A trained policy: draws its actions, or takes the likeliest (of a normal, the mean)."""

    def __init__(
        self,
        env: Env,
        layers: Layers,
        activation: Activation,
        scaling: tuple[Array, Array],  # mean and deviation of observations, (size,)
        stochastic: bool,
    ) -> None:
        self.encode, self.head = Encoder(env), make_head(env)
        self.layers, self.activation = layers, activation
        self.scaling, self.stochastic = scaling, stochastic
        self.shape = tuple(env.observation_space.shape or ())

    def __repr__(self) -> str:
        kind = "stochastic" if self.stochastic else "deterministic"
        return f"NeuralPolicy(observations {self.shape}, {self.head.space} actions, {kind})"

    def begin(self, index: Count, rng: np.random.Generator) -> None:
        pass

    @one_or_many
    def act(self, observations: Any, t: Count, rng: np.random.Generator) -> Any:
        x = normalised(self.encode(observations), *self.scaling)
        outputs = forward(self.layers, x, self.activation)
        noise = self.head.noise(rng, outputs.shape[:1]) if self.stochastic else None
        return self.head.to_space(self.head.choose(outputs, noise))


def normalised(rows: Array, mean: Array, deviation: Array) -> Array:
    """(rows - mean) / deviation, cut off; float32."""
    scaled = (rows - mean) / deviation
    return np.clip(scaled, -OBSERVATION_CLIP, OBSERVATION_CLIP).astype(np.float32)
