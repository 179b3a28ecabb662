"""Gymnasium's spaces as networks meet them: observations become inputs, outputs become actions.

An observation is *encoded* as a row of float32, and the row *standardised*; both are in numpy, for
all agents. Outputs become actions in one of two ways: a `Head` reads them as the parameters of a
law that actions are drawn from (a policy network), an `ActionSet` as one number for each of
finitely many actions (values, or logits), which in a Box are the points of a grid.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from numpy.typing import NDArray

from rlentropy.errors import InputError, InputWarning
from rlentropy.neural.networks import Activation, Layers, Rows, forward
from rlentropy.policies import Policy, one_or_many, states_of
from rlentropy.spaces import Space, check_finite, check_held, short
from rlentropy.types import Array, Count, Env, State

Actions = NDArray[Any]  # (..., K) of a head's dtype
Tensor = torch.Tensor

OBSERVATION_CLIP = 10.0  # deviations; early running ones may be of next to nothing
LOG_DEVIATION = (-5.0, 2.0)  # range of a normal's logarithmic deviation
HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)

MOST_INPUTS = 1000  # of a network, beyond which it is worth a word that it is flat


# ---------------------------------------------------------------- observations


class Encoder:
    """Observations as rows of float32, (n, *shape of the space) -> (n, width).

    Box, MultiDiscrete and MultiBinary ones are flattened; Discrete ones become rows of a table,
    which is one-hot unless it is given.

    Args:
        first: what a Discrete space calls its first state; None for other spaces.
        width: of a row.
        table: features of a Discrete space's states, (S, width).
    """

    def __init__(self, first: int | None, width: int, table: Rows | None = None) -> None:
        self.first, self.width, self.table = first, width, table

    @classmethod
    def of(cls, space: Space) -> Encoder:
        """Of a space, one-hot where it is Discrete.

        Raises:
            InputError: another space.
        """
        check_held("observations", space)
        if isinstance(space, Discrete):
            return cls(int(space.start), int(space.n))
        return cls(None, math.prod(space.shape or ()))

    def __call__(self, observations: Any) -> Rows:
        values = np.asarray(observations)
        if self.first is None:
            return values.reshape(len(values), -1).astype(np.float32)
        if self.table is not None:
            return self.table[states_of(values, self.first, len(self.table))]
        rows = np.zeros((len(values), self.width), np.float32)
        rows[np.arange(len(values)), states_of(values, self.first, self.width)] = 1.0
        return rows


def warn_if_wide(space: Space) -> None:
    """Warn of a flat network on many inputs: what it is of, and the way on."""
    width = Encoder.of(space).width
    if width <= MOST_INPUTS:
        return
    way = "a gymnasium.ObservationWrapper can make features of them"
    if isinstance(space, Discrete):
        way = "commands for tables need no network"
    elif len(space.shape or ()) > 1:
        way = f"gymnasium.wrappers.ResizeObservation makes pictures smaller, {way}"
    warnings.warn(
        f"observations of {short(space)} are {width} inputs of a flat network, which learns slowly "
        f"from so many; {way}",
        InputWarning,
        stacklevel=2,
    )


def state_features(n: int, embedding: str) -> Array:
    """Inputs of n states, (n, width): one-hot, or sin and cos of 2πks/n for k = 1..n // 2."""
    if embedding == "one-hot":
        return np.eye(n)
    angle = 2.0 * np.pi * np.outer(np.arange(n), np.arange(1, n // 2 + 1)) / n
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


class RunningMeanStd:
    """Mean and standard deviation of rows (n, D) that come in batches, by Chan's formula."""

    def __init__(self, size: int) -> None:
        self.count, self.mean, self.squares = 0, np.zeros(size), np.zeros(size)

    def update(self, rows: NDArray[Any]) -> None:
        n, mean = len(rows), rows.mean(axis=0, dtype=np.float64)
        squares = ((rows - mean) ** 2).sum(axis=0, dtype=np.float64)
        total, shift = self.count + n, mean - self.mean
        self.mean = self.mean + shift * (n / total)
        self.squares = self.squares + squares + shift**2 * (self.count * n / total)
        self.count = total

    def deviation(self, least: float = 1e-8) -> Array:
        """Standard deviation (D,); 1 where it is not above `least`: nothing has varied yet."""
        deviation = np.sqrt(self.squares / max(self.count, 1))
        return np.where(deviation > least, deviation, 1.0)

    def state_dict(self) -> State:
        return dict(vars(self))

    def load_state_dict(self, state: State) -> None:
        vars(self).update(state)


def standardised(
    rows: Rows, mean: NDArray[Any], deviation: NDArray[Any], clip: float | None = None
) -> Rows:
    """(rows - mean) / deviation as float32, in the precision of the mean; cut off at ±clip."""
    scaled: NDArray[Any] = (rows - mean) / deviation
    if clip is not None:
        scaled = np.clip(scaled, -clip, clip)
    return scaled.astype(np.float32, copy=False)


# ---------------------------------------------------------------- laws of actions


class Head(Protocol):
    """Actions of one kind of space, and their law given the policy network's outputs.

    Inside the package an action is a row (K,) of `dtype`; `outputs` is the network's output.
    """

    space: Any
    dtype: Any
    num_components: int  # K
    num_outputs: int
    num_features: int  # of what a critic sees of an action

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Rows:
        """What `choose` needs to draw an action in each place of a shape."""

    def choose(self, outputs: Rows, noise: Rows | None) -> Actions:
        """Actions (..., K); without noise the likeliest (of a normal, the mean)."""

    def features(self, actions: Actions) -> Rows:
        """What a critic sees of actions, (..., num_features)."""

    def to_space(self, actions: Actions) -> Any:
        """Actions (n, K) as the environment takes them, (n, *shape of the space)."""

    def law(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (of a normal, log-densities) of actions (B, K), and entropies, (B,)."""

    def score(self, outputs: Rows, actions: Actions) -> tuple[Rows, Rows]:
        """The log-probabilities of `law`, (B,), and their slopes in the outputs, in numpy."""

    def entropies(self, outputs: Rows) -> Rows:
        """The entropies of `law`, (B,), in numpy."""


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

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Rows:
        """Gumbel variables: the likeliest action after adding them is a draw."""
        return rng.gumbel(size=(*shape, self.num_outputs)).astype(np.float32)

    def choose(self, outputs: Rows, noise: Rows | None) -> Actions:
        scores = outputs if noise is None else outputs + noise
        if self.num_components == 1:
            return np.asarray(scores.argmax(axis=-1))[..., None]
        return np.stack([scores[..., part].argmax(axis=-1) for part in self.parts], axis=-1)

    def features(self, actions: Actions) -> Rows:
        one_hot = np.zeros((*actions.shape[:-1], self.num_features), np.float32)
        for k, part in enumerate(self.parts):
            np.put_along_axis(one_hot[..., part], actions[..., k : k + 1], 1.0, axis=-1)
        return one_hot

    def to_space(self, actions: Actions) -> Any:
        if isinstance(self.space, Discrete):
            return actions[:, 0] + self.space.start
        shaped: Actions = actions.reshape(len(actions), *self.space.shape)
        if isinstance(self.space, MultiDiscrete):
            shaped = shaped + self.space.start
        return shaped.astype(self.space.dtype)

    def law(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        log_probability = entropy = torch.zeros((), device=outputs.device)
        for k, part in enumerate(self.parts):
            log_p = torch.log_softmax(outputs[:, part], dim=1)
            log_probability = log_probability + log_p.gather(1, actions[:, k : k + 1])[:, 0]
            entropy = entropy - (log_p.exp() * log_p).sum(dim=1)
        return log_probability, entropy

    def score(self, outputs: Rows, actions: Actions) -> tuple[Rows, Rows]:
        columns, index = np.ascontiguousarray(outputs.T), np.arange(len(outputs))
        total, slopes = np.zeros(len(outputs), np.float32), np.empty_like(columns)
        for k, part in enumerate(self.parts):
            log_p, chosen, slope = log_softmax(columns[part]), actions[:, k], slopes[part]
            total += log_p[chosen, index]
            np.negative(np.exp(log_p, out=slope), out=slope)
            slope[chosen, index] += 1.0
        return total, np.ascontiguousarray(slopes.T)

    def entropies(self, outputs: Rows) -> Rows:
        columns = np.ascontiguousarray(outputs.T)
        parts = [log_softmax(columns[part]) for part in self.parts]
        return np.asarray(-sum((np.exp(log_p) * log_p).sum(axis=0) for log_p in parts))


class Gaussian:
    """Independent normals: Box actions, in units where finite bounds are -1 and 1.

    Outputs are the means and the logarithms of the deviations. The environment gets the action
    clipped to its bounds; the law is that of the action drawn.
    """

    dtype: Any = np.float32

    def __init__(self, space: Box) -> None:
        self.space = space
        self.num_components = self.num_features = int(np.prod(space.shape))
        if not self.num_components:
            raise InputError(f"actions must have at least one number, got {space}")
        self.num_outputs = 2 * self.num_components
        self.low = space.low.ravel().astype(np.float64)
        self.high = space.high.ravel().astype(np.float64)
        bounded = np.isfinite(self.low) & np.isfinite(self.high)
        low, high = (np.where(bounded, x, np.nan) / 2.0 for x in (self.low, self.high))
        self.centre = np.where(bounded, low + high, 0.0)
        self.half = np.where(bounded, high - low, 1.0)

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Rows:
        return rng.standard_normal((*shape, self.num_components), dtype=np.float32)

    def choose(self, outputs: Rows, noise: Rows | None) -> Actions:
        mean = outputs[..., : self.num_components]
        if noise is None:
            return mean
        log_deviation = outputs[..., self.num_components :].clip(*LOG_DEVIATION)
        return np.asarray(mean + np.exp(log_deviation) * noise)

    def clipped(self, actions: Actions) -> Array:
        inside: Array = np.clip(self.centre + self.half * actions, self.low, self.high)
        return inside

    def features(self, actions: Actions) -> Rows:
        inside = (self.clipped(actions) - self.centre) / np.where(self.half > 0.0, self.half, 1.0)
        return np.asarray(inside, np.float32)

    def to_space(self, actions: Actions) -> Any:
        shaped = self.clipped(actions).reshape(len(actions), *self.space.shape)
        if not np.issubdtype(self.space.dtype, np.floating):
            shaped = np.rint(shaped)
        return shaped.astype(self.space.dtype)

    def law(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_deviation = outputs.split(self.num_components, dim=1)
        log_deviation = log_deviation.clamp(*LOG_DEVIATION)
        x = (actions - mean) * torch.exp(-log_deviation)
        log_density = (-0.5 * x.square() - log_deviation - HALF_LOG_2PI).sum(dim=1)
        return log_density, (log_deviation + (HALF_LOG_2PI + 0.5)).sum(dim=1)

    def score(self, outputs: Rows, actions: Actions) -> tuple[Rows, Rows]:
        mean, free = outputs[:, : self.num_components], outputs[:, self.num_components :]
        log_deviation = free.clip(*LOG_DEVIATION)
        inverse = np.exp(-log_deviation)
        x = (actions - mean) * inverse
        log_density = (-0.5 * x * x - log_deviation - HALF_LOG_2PI).sum(axis=1)
        by_log_deviation = (x * x - 1.0) * (free == log_deviation)
        return log_density, np.concatenate([x * inverse, by_log_deviation], axis=1)

    def entropies(self, outputs: Rows) -> Rows:
        log_deviation = outputs[:, self.num_components :].clip(*LOG_DEVIATION)
        return np.asarray((log_deviation + np.float32(HALF_LOG_2PI + 0.5)).sum(axis=1))


def log_softmax(logits: Rows) -> Rows:
    """Logarithms of each column's probabilities, (n, B); numpy sums down few rows the fastest."""
    shifted = logits - logits.max(axis=0)
    shifted -= np.log(np.exp(shifted).sum(axis=0))
    return np.asarray(shifted)


def make_head(space: Space) -> Head:
    """The law of actions of a space.

    Raises:
        InputError: the space is none of Box, Discrete, MultiDiscrete and MultiBinary.
    """
    check_held("actions", space)
    if isinstance(space, Discrete | MultiDiscrete | MultiBinary):
        return Categorical(space)
    assert isinstance(space, Box)
    return Gaussian(space)


class NeuralPolicy(Policy):
    """A trained policy: draws its actions, or takes the likeliest (of a normal, the mean)."""

    def __init__(
        self,
        env: Env,
        layers: Layers,
        activation: Activation,
        scaling: tuple[Array, Array],  # mean and deviation of observations, (width,)
        stochastic: bool,
    ) -> None:
        self.encode, self.head = Encoder.of(env.observation_space), make_head(env.action_space)
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
        x = standardised(self.encode(observations), *self.scaling, OBSERVATION_CLIP)
        outputs = forward(self.layers, x, self.activation)
        noise = self.head.noise(rng, outputs.shape[:1]) if self.stochastic else None
        return self.head.to_space(self.head.choose(outputs, noise))


# ---------------------------------------------------------------- finitely many actions


class ActionSet:
    """K outputs of a network as K actions: the elements of a space, or a grid in a Box.

    Args:
        space: Discrete, MultiDiscrete, MultiBinary, or a bounded Box.
        points: of the grid, in each dimension, >= 2.

    Raises:
        InputError: another space, or too many actions (`check_finite`).
    """

    def __init__(self, space: Space, points: int) -> None:
        check_finite(space, points)
        self.axes: list[Array] = []  # of a Box
        self.sizes: list[int] = []  # of each component of a MultiDiscrete or MultiBinary space
        self.first: Any = getattr(space, "start", 0)
        if isinstance(space, Discrete):
            self.elements = int(space.start) + np.arange(int(space.n))  # (K,)
            return
        if isinstance(space, Box):
            low, high = (x.astype(np.float64).ravel().tolist() for x in (space.low, space.high))
            self.axes = [np.linspace(*ends, points) for ends in zip(low, high, strict=True)]
        else:
            assert isinstance(space, MultiDiscrete | MultiBinary)
            self.sizes = Categorical(space).sizes
        ways = self.axes or [np.arange(n, dtype=np.float64) for n in self.sizes]
        grid = np.stack(np.meshgrid(*ways, indexing="ij"), axis=-1)
        shaped = grid.reshape(-1, *(space.shape or ())) + self.first
        self.elements = shaped.astype(space.dtype)  # (K, *shape)

    def __len__(self) -> int:
        return len(self.elements)

    def mixed(self, actions: Any) -> tuple[Count, Array]:
        """Actions as mixtures of C outputs: index (n, C) and weights (n, C) that sum to 1.

        A point of a grid's cell mixes its 2^d corners multilinearly.
        """
        if not self.axes:
            index = np.asarray(actions).astype(np.int64) - self.first
            if self.sizes:
                index = np.ravel_multi_index(index.reshape(len(index), -1).T, self.sizes)
            return index[:, None], np.ones((len(actions), 1))
        x = actions.reshape(len(actions), -1)
        index, weight = np.zeros((len(x), 1), np.int64), np.ones((len(x), 1))
        for k, axis in enumerate(self.axes):
            step = (axis[1] - axis[0]) or 1.0  # of one action alone
            place = np.clip((x[:, k] - axis[0]) / step, 0.0, axis.size - 1.0)
            left = np.minimum(place.astype(np.int64), axis.size - 2)
            right_weight = (place - left)[:, None]
            index = index * axis.size + left[:, None]
            index = np.concatenate([index, index + 1], axis=1)
            weight = np.concatenate([weight * (1.0 - right_weight), weight * right_weight], axis=1)
        return index, weight
