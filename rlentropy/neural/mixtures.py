"""Mixtures of networks that act: one is drawn for an episode, and kept to its end.

A network of a mixture sees an observation, standardised by what was known when it was saved, and
the share of the episode that is left; it chooses an action, which is held for some steps. The
newest network is the last iterate.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete

from rlentropy.errors import InputError
from rlentropy.files import check_fields
from rlentropy.neural import devices
from rlentropy.neural.networks import MLP, Activation, Rows, check_shapes
from rlentropy.neural.spaces import (
    OBSERVATION_CLIP,
    Actions,
    ActionSet,
    Categorical,
    Encoder,
    Gaussian,
    Head,
    make_head,
    standardised,
)
from rlentropy.policies import Policy, one_or_many
from rlentropy.types import Array, Count, Env, State

Kind = Literal["softmax", "squashed", "plain", "uniform"]


class Choice(Categorical):
    """A softmax over finitely many actions, which in a Box are the points of a grid."""

    def __init__(self, actions: ActionSet) -> None:
        super().__init__(Discrete(len(actions)))
        self.elements: Any = actions.elements

    def to_space(self, actions: Actions) -> Any:
        chosen: Any = self.elements[actions[:, 0]]
        return chosen


class Squashed(Gaussian):
    """The hyperbolic tangent of independent normals: Box actions within their bounds.

    `law` and `score` are those of the normals.
    """

    def choose(self, outputs: Rows, noise: Rows | None) -> Actions:
        return np.asarray(np.tanh(super().choose(outputs, noise)))


class Uniform(Gaussian):
    """Box actions that are uniform within their bounds, else in [-1, 1], whatever the outputs.

    `law` and `score` are not theirs.
    """

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Rows:
        return rng.uniform(-1.0, 1.0, (*shape, self.num_components)).astype(np.float32)

    def choose(self, outputs: Rows, noise: Rows | None) -> Actions:
        return outputs[..., : self.num_components] if noise is None else noise


def head_of(kind: Kind, space: Any, points: int) -> Head:
    """What turns outputs into actions.

    Args:
        kind: "softmax" of finitely many actions; "squashed" normals of a Box; "plain": as
            `make_head` says; "uniform": so in a Box, elsewhere as "plain", of outputs 0.
        points: of a grid in a Box, in each dimension.

    Raises:
        InputError: the space is of another kind.
    """
    if kind == "softmax":
        return Choice(ActionSet(space, points))
    if kind == "squashed":
        if not (isinstance(space, Box) and space.is_bounded()):
            raise InputError(f"actions must be of a bounded Box for squashed normals, got {space}")
        return Squashed(space)
    if kind == "uniform" and isinstance(space, Box):
        return Uniform(space)
    return make_head(space)


class Mixture(Policy):
    """K networks of one shape that act in an environment's episodes.

    Args:
        parameters: of each network, as `MLP.flat` has them, (K, P).
        sizes: widths of all layers.
        scaling: mean and deviation by which each standardises observations, (K, width).
        horizon: T, steps of an episode; beyond it a network starts over.
        repeat: steps that an action is held for.
        timed: the networks see the time left, from 1 down to -1.
    """

    def __init__(
        self,
        env: Env,
        head: Head,
        parameters: Rows,
        sizes: tuple[int, ...],
        scaling: tuple[Array, Array],
        *,
        horizon: int,
        repeat: int,
        timed: bool,
        activation: Activation = "relu",
    ) -> None:
        self.encode, self.head = Encoder.of(env.observation_space), head
        self.shape = tuple(env.observation_space.shape or ())
        self.layers = stacked_layers(parameters, sizes)
        self.size, self.activation = len(parameters), activation
        self.scaling = scaling
        self.horizon, self.repeat, self.timed = horizon, repeat, timed
        self.chosen: Count = np.zeros(0, np.int64)  # of each slot
        self.held: Actions = np.zeros((0, head.num_components), head.dtype)

    def __repr__(self) -> str:
        return f"Mixture({self.size} networks, observations {self.shape}, {self.horizon} steps)"

    def begin(self, index: Count, rng: np.random.Generator) -> None:
        missing = int(index.max(initial=-1)) + 1 - self.chosen.size
        if missing > 0:
            self.chosen = np.append(self.chosen, np.zeros(missing, np.int64))
            more = np.zeros((missing, self.held.shape[1]), self.held.dtype)
            self.held = np.concatenate([self.held, more])
        if self.size > 1:
            self.chosen[index] = evenly(self.size, index.size, rng)
            self._own = [(W[self.chosen], b[self.chosen]) for W, b in self.layers]  # one a slot

    @one_or_many
    def act(self, observations: Any, t: Count, rng: np.random.Generator) -> Any:
        n, t = t.size, t % self.horizon
        if self.chosen.size < n:  # slots where no episode was begun
            self.begin(np.arange(self.chosen.size, n), rng)
        if (due := t % self.repeat == 0).any():
            outputs = self.outputs(observations, t)
            noise = self.head.noise(rng, outputs.shape[:1])
            self.held[:n] = np.where(due[:, None], self.head.choose(outputs, noise), self.held[:n])
        return self.head.to_space(self.held[:n])

    def outputs(self, observations: Any, t: Count) -> Rows:
        """Of the networks in slots 0..n - 1, (n, outputs)."""
        n = t.size
        which: Any = self.chosen[:n] if self.size > 1 else slice(0, 1)
        mean, deviation = (part[which] for part in self.scaling)
        x = standardised(self.encode(observations), mean, deviation, OBSERVATION_CLIP)
        if self.timed:
            x = np.concatenate([x, time_left(t, self.horizon)[:, None]], axis=1)
        if self.size == 1:
            return self._forward([(W[0], b[0]) for W, b in self.layers], x)
        return self._forward([(W[:n], b[:n]) for W, b in self._own], x[:, None])[:, 0]

    def _forward(self, layers: Any, x: Rows) -> Rows:
        for k, (weight, bias) in enumerate(layers):
            x = x @ weight
            x += bias
            if k + 1 < len(layers):
                x = np.tanh(x, out=x) if self.activation == "tanh" else np.maximum(x, 0.0, out=x)
        return x


def evenly(K: int, n: int, rng: np.random.Generator) -> Count:
    """n draws from 0..K - 1, each as good as uniform, all about equally often.

    They are dealt like cards, from as many packs of K as it takes: entropies of n episodes then
    vary less than with independent draws.
    """
    packs = rng.permuted(np.tile(np.arange(K), (-(-n // K), 1)), axis=1)
    dealt: Count = rng.permutation(packs.ravel()[:n])
    return dealt


def time_left(t: Any, horizon: int) -> Rows:
    """Steps left of T, scaled from 1 at the start to -1 at the end."""
    return (1.0 - 2.0 * np.asarray(t) / horizon).astype(np.float32)


def stacked_layers(parameters: Rows, sizes: tuple[int, ...]) -> list[tuple[Rows, Rows]]:
    """Weights (K, in, out) and biases (K, 1, out) of K networks, views of their parameters."""
    layers, start, K = [], 0, len(parameters)
    for rows, columns in pairwise(sizes):
        middle, end = start + rows * columns, start + (rows + 1) * columns
        weight = parameters[:, start:middle].reshape(K, rows, columns)
        layers.append((weight, parameters[:, middle:end].reshape(K, 1, columns)))
        start = end
    return layers


class Members:
    """The networks of a mixture as it grows: all of them, or so many that are drawn from them.

    Beyond `most` each network that came is kept with the same probability (Vitter, 1985).
    """

    def __init__(self, most: int, parameters: int, width: int) -> None:
        self.most, self.seen = most, 0
        self.parameters: Rows = np.zeros((0, parameters), np.float32)
        self.mean, self.deviation = np.zeros((0, width)), np.ones((0, width))

    def add(self, network: Rows, scaling: tuple[Array, Array], rng: np.random.Generator) -> None:
        """Take in a network's parameters (P,), and its scaling, (width,) each."""
        self.seen += 1
        parts: dict[str, Any] = {"parameters": network, "mean": scaling[0]}
        parts["deviation"] = scaling[1]
        if len(self.parameters) < self.most:
            for name, row in parts.items():
                setattr(self, name, np.concatenate([getattr(self, name), row[None]]))
        elif (place := int(rng.integers(self.seen))) < self.most:
            for name, row in parts.items():
                getattr(self, name)[place] = row

    def state_dict(self) -> State:
        return dict(vars(self))

    def load_state_dict(self, state: State) -> None:
        vars(self).update(state)


# ---------------------------------------------------------------- policy.pt


def saved_mixture(
    kind: Kind,
    points: int,
    members: Members,
    last: tuple[Rows, tuple[Array, Array]],
    sizes: tuple[int, ...],
    **played: Any,
) -> dict[str, Any]:
    """What policy.pt holds; `load_mixture` reads it.

    Args:
        last: the last iterate, (P,), and its scaling.
        played: horizon, repeat, timed and activation of `Mixture`.
    """
    network, scaling = last
    stacked = {
        "flat": np.concatenate([members.parameters, network[None]]),
        "mean": np.concatenate([members.mean, scaling[0][None]]),
        "deviation": np.concatenate([members.deviation, scaling[1][None]]),
    }
    tensors = {name: torch.as_tensor(part, device=devices.CPU) for name, part in stacked.items()}
    return tensors | {"kind": kind, "points": points, "sizes": list(sizes)} | played


def load_mixture(saved: dict[str, Any], env: Env, mixture: bool = False) -> Mixture:
    """The last iterate in policy.pt, or the mixture, to act in an environment.

    Raises:
        InputError: it is none of these commands', or of other spaces than the environment's.
    """
    check_fields(saved, {"kind": str, "points": int, "sizes": list, "activation": str})
    check_fields(saved, {"horizon": int, "repeat": int, "timed": bool})
    check_fields(saved, dict.fromkeys(("flat", "mean", "deviation"), torch.Tensor))
    sizes, kind = saved["sizes"], saved["kind"]
    check_shapes(sizes, {})
    if kind not in get_args(Kind) or saved["activation"] not in get_args(Activation):
        raise InputError("policy.pt must hold a known kind and activation, got others")
    if min(saved["horizon"], saved["repeat"], saved["points"]) < 1:
        raise InputError("policy.pt must hold a horizon, repeat and points >= 1, got less")
    width, P = sizes[0] - saved["timed"], sum((m + 1) * n for m, n in pairwise(sizes))
    K = len(saved["flat"]) if saved["flat"].ndim else 0
    shapes = {"flat": (K, P), "mean": (K, width), "deviation": (K, width)}
    check_shapes(sizes, {name: (saved[name], shape) for name, shape in shapes.items()})
    for name in shapes:
        if not bool(torch.isfinite(saved[name]).all()):
            raise InputError(f"policy.pt must hold finite numbers as {name}, got others")
    if not (K and bool((saved["deviation"] > 0.0).all())):
        raise InputError("policy.pt must hold networks and deviations > 0, got others")
    if mixture and K == 1:
        raise InputError("run must hold a mixture, got one network alone")
    head = head_of(kind, env.action_space, saved["points"])
    if (width, sizes[-1]) != (Encoder.of(env.observation_space).width, head.num_outputs):
        raise InputError(
            f"env must have {width} observed numbers and actions of {sizes[-1]} parameters, as the "
            f"policy was trained on, got {env.observation_space} and {env.action_space}"
        )
    which = slice(0, K - 1) if mixture else slice(K - 1, K)
    flat, mean, deviation = (saved[name][which].numpy() for name in shapes)
    return Mixture(
        env,
        head,
        flat.astype(np.float32, copy=False),
        tuple(sizes),
        (mean.astype(np.float64), deviation.astype(np.float64)),
        horizon=saved["horizon"],
        repeat=saved["repeat"],
        timed=saved["timed"],
        activation=saved["activation"],
    )


def parameters_of(network: MLP, last_scale: float = 1.0) -> Rows:
    """A network's parameters, (P,), copied; its outputs multiplied by `last_scale`."""
    flat: Rows = network.flat.detach().cpu().numpy().copy()
    outputs = (network.sizes[-2] + 1) * network.sizes[-1]
    flat[-outputs:] *= np.float32(last_scale)
    return flat
