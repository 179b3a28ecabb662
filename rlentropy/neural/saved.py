"""Policy networks as policy.pt holds them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args

import numpy as np
import torch

from rlentropy.errors import InputError
from rlentropy.files import check_fields
from rlentropy.neural import devices
from rlentropy.neural.networks import MLP, Activation, check_shapes, layers_of
from rlentropy.neural.spaces import Encoder, NeuralPolicy, make_head
from rlentropy.policies import Policy
from rlentropy.types import Array, Env


def saved_policy(network: MLP, scaling: tuple[Array, Array], stochastic: bool) -> dict[str, Any]:
    """What policy.pt holds; `load_policy` reads it.

    Args:
        scaling: mean and deviation that observations are standardised by, (width,).
        stochastic: whether actions are drawn.
    """
    mean, deviation = scaling
    return {
        "flat": network.flat.detach().cpu().clone(),
        "sizes": list(network.sizes),
        "activation": network.activation,
        "mean": torch.as_tensor(mean, device=devices.CPU),
        "deviation": torch.as_tensor(deviation, device=devices.CPU),
        "stochastic": stochastic,
    }


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
    if activation not in get_args(Activation) or not bool((saved["deviation"] > 0.0).all()):
        raise InputError("policy.pt must hold a known activation and deviations > 0, got others")
    encode, head = Encoder.of(env.observation_space), make_head(env.action_space)
    if (sizes[0], sizes[-1]) != (encode.width, head.num_outputs):
        raise InputError(
            f"env must have {sizes[0]} observed numbers and actions of {sizes[-1]} parameters, "
            f"as the policy was trained on, got {env.observation_space} and {env.action_space}"
        )
    network = MLP(sizes, [np.random.default_rng(0)], activation, device=devices.CPU)
    network.load_state_dict({"flat": saved["flat"]})
    scaling = saved["mean"].numpy(), saved["deviation"].numpy()
    return NeuralPolicy(env, layers_of(network), activation, scaling, saved["stochastic"])
