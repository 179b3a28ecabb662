"""What the networks of the offline commands see and say, and the policies they make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete

from rlentropy.data import Transitions
from rlentropy.errors import InputError
from rlentropy.files import check_fields
from rlentropy.neural.networks import MLP, check_shapes
from rlentropy.policies import one_or_many
from rlentropy.types import Array, Count

Tensor = torch.Tensor
Space = gymnasium.Space[Any]

CHUNK = 2**14  # observations evaluated at once
MOST_OUTPUTS, MOST_STATES = 5000, 5000
MOST_DIMENSIONS = 12  # of a grid of two points each, 2^12 outputs
MOST_ACTIONS = 2**20  # of a Discrete space
LARGEST = float(np.finfo(np.float32).max)


class Features:
    """Observations as the inputs of networks, (n, *shape) -> (n, width).

    Discrete ones are rows of a table (`state_features`); others are flattened and standardised.

    Args:
        first: what a Discrete space calls its first state; None for other spaces.
        table: (states, width) of a Discrete space, else (2, width), mean and deviation.
    """

    def __init__(self, first: int | None, table: Tensor) -> None:
        self.first, self.table = first, table

    @classmethod
    def of(cls, data: Transitions, embedding: str) -> Features:
        """Of a dataset, whose mean and deviation they take.

        Raises:
            InputError: a Discrete space of more than MOST_STATES states.
        """
        space = data.observation_space
        if isinstance(space, Discrete):
            if space.n > MOST_STATES:
                raise InputError(f"networks must have at most {MOST_STATES} states, got {space}")
            features = state_features(int(space.n), embedding)
            return cls(int(space.start), torch.as_tensor(features, dtype=torch.float32))
        count, total, squares = 0, np.zeros(1), np.zeros(1)
        for chunk in data.chunks(CHUNK):
            x = chunk.observations.reshape(len(chunk.rewards), -1).astype(np.float64)
            if np.abs(x).max(initial=0.0) > LARGEST:
                raise InputError(f"observations must be within ±{LARGEST:.3g} for networks")
            count, total, squares = count + len(x), total + x.sum(0), squares + (x**2).sum(0)
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        table = np.stack([mean, np.where(deviation > 1e-6, deviation, 1.0)])
        return cls(None, torch.as_tensor(table, dtype=torch.float32))

    @property
    def width(self) -> int:
        return int(self.table.shape[1])

    def __call__(self, observations: Any) -> Tensor:
        if self.first is not None:
            index = np.asarray(observations).astype(np.int64) - self.first
            return self.table[torch.as_tensor(index, device=self.table.device)]
        x = np.array(observations, np.float32).reshape(
            len(observations), -1
        )  # maps can't be written
        return (torch.as_tensor(x, device=self.table.device) - self.table[0]) / self.table[1]


def state_features(n: int, embedding: str) -> Array:
    """Inputs of n states, (n, width): one-hot, or sin and cos of 2πks/n for k = 1..n // 2."""
    if embedding == "one-hot":
        return np.eye(n)
    angle = 2.0 * np.pi * np.outer(np.arange(n), np.arange(1, n // 2 + 1)) / n
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


class Actions:
    """The K outputs of a network as actions: the elements of a Discrete space, or a grid in a Box.

    Args:
        space: Discrete, or a bounded Box.
        points: of the grid, in each dimension.

    Raises:
        InputError: another space, or a grid of more than MOST_OUTPUTS points.
    """

    def __init__(self, space: Space, points: int) -> None:
        if isinstance(space, Discrete):
            if space.n > MOST_ACTIONS:
                raise InputError(f"networks must have at most {MOST_ACTIONS} actions, got {space}")
            self.axes: list[Array] = []
            self.each = int(space.start) + np.arange(int(space.n))  # (K,)
            return
        if not (isinstance(space, Box) and space.is_bounded()):
            raise InputError(f"actions must be of a Discrete space or a bounded Box, got {space}")
        if not (dimensions := math.prod(space.shape)):
            raise InputError(f"actions must have at least one number, got {space}")
        if dimensions > MOST_DIMENSIONS or points**dimensions > MOST_OUTPUTS:
            raise InputError(
                f"action_grid must make at most {MOST_OUTPUTS} points in {dimensions} "
                f"dimensions, got {points}"
            )
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        if max(np.abs(low).max(initial=0.0), np.abs(high).max(initial=0.0)) > LARGEST:
            raise InputError(f"actions must be within ±{LARGEST:.3g} for networks, got {space}")
        bounds = zip(low.ravel().tolist(), high.ravel().tolist(), strict=True)
        self.axes = [np.linspace(*ends, points) for ends in bounds]
        grid = np.stack(np.meshgrid(*self.axes, indexing="ij"), axis=-1)
        self.each = grid.reshape(-1, *space.shape).astype(space.dtype)  # (K, *shape)

    def __len__(self) -> int:
        return len(self.each)

    def mixed(self, actions: Any) -> tuple[Count, Array]:
        """Actions as mixtures of C outputs: index (n, C) and weights (n, C) that sum to 1.

        A point of a grid's cell mixes its 2^d corners multilinearly.
        """
        if not self.axes:
            index = np.asarray(actions).astype(np.int64) - self.each[0]
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


def weights_of(network: MLP) -> list[Tensor]:
    """The weights and then the biases, of all members: (M, in, out) and (M, 1, out) each."""
    return [view.detach().cpu().clone() for view in (*network.weights, *network.biases)]


def unlikely(logits: Tensor, support: float) -> Tensor:
    """Where an action is less than `support` times as likely as the likeliest."""
    return logits < logits.amax(-1, keepdim=True) + float(np.log(support))


def with_weights(sizes: Sequence[int], weights: list[Tensor], member: int) -> MLP:
    """A network of one member, out of those of `weights_of`."""
    network = MLP(sizes, [np.random.default_rng(0)], "relu")
    with torch.no_grad():
        for view, stored in zip((*network.weights, *network.biases), weights, strict=True):
            view[0].copy_(stored[member])
    return network


class Greedy:
    """Takes the action of one member's largest output; see `rlentropy.policies.Policy`."""

    def __init__(self, saved: dict[str, Any], member: int = 0) -> None:
        first = saved["first_state"] if saved["discrete"] else None
        self.features = Features(first, saved["features"].to(torch.get_default_device()))
        self.network = with_weights(saved["sizes"], saved["network"], member)
        self.support = saved.get("support", 0.0)
        if self.support:
            self.behaviour = with_weights(saved["sizes"], saved["behaviour"], member)
        self.actions = saved["actions"].numpy()

        self.shape = tuple(saved["observation_shape"])

    def __repr__(self) -> str:
        return f"Greedy(observations {self.shape}, {len(self.actions)} actions)"

    def begin(self, index: Count, rng: np.random.Generator) -> None:
        pass

    @one_or_many
    @torch.inference_mode()
    def act(self, observations: Any, t: Count, rng: np.random.Generator) -> Any:
        inputs = self.features(np.asarray(observations))
        output = self.network(inputs)
        if self.support:
            output = output.masked_fill(unlikely(self.behaviour(inputs), self.support), -np.inf)
        return self.actions[output[0].argmax(-1).cpu().numpy()]


def check_saved(saved: dict[str, Any]) -> None:
    """Refuse what isn't as `Networks.saved` makes it.

    Raises:
        InputError: a part is missing, or of another kind or shape.
    """
    check_fields(saved, dict.fromkeys(("sizes", "network", "observation_shape"), list))
    check_fields(saved, {"first_state": int, "discrete": bool, "discrete_actions": bool})
    check_fields(saved, dict.fromkeys(("features", "actions"), Tensor))
    check_fields(saved, {"behaviour": list, "support": float} if "support" in saved else {})
    first = saved["network"][0] if saved["network"] else None
    if not (isinstance(first, Tensor) and first.ndim and saved["features"].ndim):
        raise InputError("policy.pt must hold layers of a network and features, got others")
    if not 0.0 <= saved.get("support", 0.0) <= 1.0:
        raise InputError(f"policy.pt must hold a support in [0, 1], got {saved['support']}")
    sizes, members = saved["sizes"], len(first)
    check_shapes(sizes, {})
    shapes = [(members, rows, columns) for rows, columns in pairwise(sizes)]
    shapes += [(members, 1, columns) for columns in sizes[1:]]
    rows = len(saved["features"]) if saved["discrete"] else 2
    tensors = {
        "features": (saved["features"], (rows, sizes[0])),
        "actions": (saved["actions"], (sizes[-1], *saved["actions"].shape[1:])),
    }
    for name in ("network", "behaviour")[: 2 if saved.get("support") else 1]:
        if len(saved[name]) != len(shapes):
            raise InputError(f"policy.pt must hold {len(shapes)} layers of {name}, got others")
        tensors |= {f"{name}[{k}]": (x, shapes[k]) for k, x in enumerate(saved[name])}
    check_shapes(sizes, tensors)
    if not saved["discrete"] and not bool((saved["features"][1] > 0.0).all()):
        raise InputError("policy.pt must hold deviations > 0 of observations, got others")


def load_policy(saved: dict[str, Any], env: gymnasium.Env[Any, Any], member: int = 0) -> Greedy:
    """The policy of a run's policy.pt, in an environment with the spaces of its dataset.

    Args:
        member: which of the run's seeds; 0 is that of the run itself.

    Raises:
        InputError: it is none of these commands, or of other spaces, or there is no such member.
    """
    check_saved(saved)
    if not 0 <= member < (members := len(saved["network"][0])):
        raise InputError(f"member must be in 0..{members - 1}, got {member}")
    observations, actions = env.observation_space, env.action_space
    fits = isinstance(observations, Discrete) == saved["discrete"]
    fits = fits and list(observations.shape or ()) == saved["observation_shape"]
    if not fits or (
        isinstance(observations, Discrete) and observations.n != len(saved["features"])
    ):
        raise InputError(
            f"env must have observations like the policy's dataset, got {observations}"
        )
    each = saved["actions"]
    same = isinstance(actions, Discrete) == saved["discrete_actions"]
    if same and isinstance(actions, Discrete):
        same = int(actions.n) == len(each) and int(actions.start) == int(each[0])
    if not same or (not isinstance(actions, Discrete) and actions.shape != tuple(each.shape[1:])):
        raise InputError(f"env must have actions like the policy's dataset, got {actions}")
    return Greedy(saved, member)
