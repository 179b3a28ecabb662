"""What the networks of the offline commands see and say, and the policies they make."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete, MultiBinary, MultiDiscrete

from rlentropy.data import Transitions
from rlentropy.errors import InputError
from rlentropy.files import check_fields
from rlentropy.neural import devices
from rlentropy.neural.networks import check_shapes, with_weights
from rlentropy.neural.spaces import (
    ActionSet,
    Encoder,
    RunningMeanStd,
    standardised,
    state_features,
)
from rlentropy.policies import Policy, one_or_many
from rlentropy.spaces import LARGEST, check_states
from rlentropy.types import Count, Env

Tensor = torch.Tensor

CHUNK = 2**14  # observations evaluated at once


class Features:
    """Observations as the inputs of networks, (n, *shape) -> (n, width).

    Discrete ones are rows of a table (`state_features`); others are flattened and standardised.

    Args:
        first: what a Discrete space calls its first state; None for other spaces.
        table: (states, width) of a Discrete space, else (2, width), mean and deviation.
    """

    def __init__(self, first: int | None, table: Tensor) -> None:
        self.table = table
        rows = table.cpu().numpy()
        self.encode = Encoder(first, rows.shape[1], None if first is None else rows)
        self.scaling = rows[:2] if first is None else None

    @classmethod
    def of(cls, data: Transitions, embedding: str) -> Features:
        """Of a dataset, whose mean and deviation they take.

        Raises:
            InputError: a Discrete space of more than MOST_STATES states.
        """
        space = data.observation_space
        if isinstance(space, Discrete):
            check_states(space)
            features = state_features(int(space.n), embedding)
            return cls(int(space.start), devices.put(features, devices.current(), torch.float32))
        observed = RunningMeanStd(math.prod(space.shape or ()))
        for chunk in data.chunks(CHUNK):
            rows = chunk.observations.reshape(len(chunk.rewards), -1).astype(np.float64)
            if np.abs(rows).max(initial=0.0) > LARGEST:
                raise InputError(f"observations must be within ±{LARGEST:.3g} for networks")
            observed.update(rows)
        table = np.stack([observed.mean, observed.deviation(least=1e-6)])
        return cls(None, devices.put(table, devices.current(), torch.float32))

    @property
    def first(self) -> int | None:
        return self.encode.first

    @property
    def width(self) -> int:
        return self.encode.width

    def __call__(self, observations: Any) -> Tensor:
        rows = self.encode(observations)
        if self.scaling is not None:
            rows = standardised(rows, *self.scaling)
        return torch.as_tensor(rows, device=self.table.device)


def unlikely(logits: Tensor, support: float) -> Tensor:
    """Where an action is less than `support` times as likely as the likeliest."""
    return logits < logits.amax(-1, keepdim=True) + float(np.log(support))


class Greedy(Policy):
    """Takes the action of one member's largest output; see `rlentropy.policies.Policy`."""

    def __init__(self, saved: dict[str, Any], member: int = 0) -> None:
        first = saved["first_state"] if saved["discrete"] else None
        self.features = Features(first, saved["features"])
        self.network = with_weights(saved["sizes"], saved["network"], member, "relu")
        self.support = saved.get("support", 0.0)
        if self.support:
            self.behaviour = with_weights(saved["sizes"], saved["behaviour"], member, "relu")
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


def load_policy(saved: dict[str, Any], env: Env, member: int = 0) -> Greedy:
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
    if isinstance(actions, MultiDiscrete | MultiBinary):
        same = np.array_equal(ActionSet(actions, 2).elements, each.numpy())
    if not same or (not isinstance(actions, Discrete) and actions.shape != tuple(each.shape[1:])):
        raise InputError(f"env must have actions like the policy's dataset, got {actions}")
    return Greedy(saved, member)
