"""Spaces that arrays hold: who is inside, and how JSON describes them."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from numpy.typing import NDArray

from rlentropy.errors import InputError

Space = gymnasium.Space[Any]

# The spaces that agents meet: docs/usage.md has them as a table. Whatever plays an environment or
# reads a dataset takes these as observations and as actions; tables take Discrete alone.
HELD = (Box, Discrete, MultiDiscrete, MultiBinary)
MOST_OUTPUTS = 5000  # of finitely many actions, those of a grid in a Box among them
MOST_DIMENSIONS = 12  # of a grid of two points each, 2^12 outputs
MOST_ACTIONS = 2**20  # of a Discrete space
MOST_STATES = 5000  # of a Discrete space whose states a network sees one-hot from a dataset
LARGEST = float(np.finfo(np.float32).max)

MOST_ELEMENTS = 2**27  # of an observation


def short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 100 else text[:97] + "..."


def check_held(part: str, space: Space) -> None:
    """Refuse spaces of which no array holds a column.

    Args:
        part: observations or actions.

    Raises:
        InputError: names the wrapper that makes another space of it.
    """
    if not isinstance(space, HELD):
        wrapper = f"Transform{part.capitalize()[:-1]}"
        if part == "observations" and isinstance(space, Dict | Tuple):
            wrapper = "FlattenObservation"
        raise InputError(
            f"{part} must be of a Box, Discrete, MultiDiscrete or MultiBinary space, got "
            f"{short(space)}; gymnasium.wrappers.{wrapper} makes one of it"
        )


def check_states(space: Discrete) -> None:
    """Refuse states of which there are too many for a network that learns from a dataset."""
    if space.n > MOST_STATES:
        raise InputError(f"networks must have at most {MOST_STATES} states, got {space}")


def check_learnable(observation_space: Space, action_space: Space) -> None:
    """Refuse spaces whose data no offline learner takes, whatever its options."""
    if isinstance(observation_space, Discrete):
        if isinstance(action_space, Discrete):
            return  # for a table
        check_states(observation_space)
    check_finite(action_space, 2)


def check_finite(space: Space, points: int) -> None:
    """Refuse actions of which there are too many for a network with an output for each.

    Args:
        points: of the grid in a Box, in each dimension, >= 2.

    Raises:
        InputError: no such space, an unbounded Box, or more than MOST_OUTPUTS actions.
    """
    check_held("actions", space)
    if isinstance(space, Discrete):
        if space.n > MOST_ACTIONS:
            raise InputError(f"networks must have at most {MOST_ACTIONS} actions, got {space}")
        return
    if not (dimensions := math.prod(space.shape or ())):
        raise InputError(f"actions must have at least one number, got {short(space)}")
    if not isinstance(space, Box):
        sizes = (
            space.nvec.ravel().tolist() if isinstance(space, MultiDiscrete) else [2] * dimensions
        )
        if math.prod(sizes) > MOST_OUTPUTS:
            raise InputError(
                f"actions must be at most {MOST_OUTPUTS} combinations for a network with an output "
                f"for each, got {short(space)}; robust-actor-critic takes more"
            )
        return
    if not space.is_bounded():
        raise InputError(
            f"actions must be of a Discrete space or a bounded Box, got {short(space)}; "
            "gymnasium.wrappers.TransformAction gives them bounds, robust-actor-critic needs none"
        )
    if dimensions > MOST_DIMENSIONS or points**dimensions > MOST_OUTPUTS:
        few = dimensions <= MOST_DIMENSIONS
        raise InputError(
            f"action_grid must make at most {MOST_OUTPUTS} points in {dimensions} dimensions, got "
            f"{points}; {'a smaller --action-grid does' if few else 'robust-actor-critic has none'}"
        )
    bound = max(np.abs(space.low.astype(float)).max(), np.abs(space.high.astype(float)).max())
    if bound > LARGEST:
        raise InputError(f"actions must be within ±{LARGEST:.3g} for networks, got {short(space)}")


def outline(space: Space) -> tuple[Any, ...]:
    """What must agree between the spaces of data and environment."""
    if isinstance(space, Discrete):
        return Discrete, int(space.n), int(space.start)
    if isinstance(space, MultiDiscrete):
        return MultiDiscrete, space.nvec.tolist(), space.start.tolist()
    return type(space), space.shape


def inside(space: Space, values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows of values (n, ...), of the right shape, are in a space, (n,)."""
    if isinstance(space, Discrete):
        low, high = space.start, space.start + space.n - 1
    elif isinstance(space, MultiDiscrete):
        low, high = space.start, space.start + space.nvec - 1
    elif isinstance(space, MultiBinary):
        low, high = 0, 1
    else:
        assert isinstance(space, Box)
        low, high = space.low, space.high
        if space.dtype.kind == "f":
            values = values.astype(space.dtype)  # as the bounds were rounded
    within = (values >= low) & (values <= high)
    result: NDArray[np.bool_] = within.all(tuple(range(1, within.ndim)))
    return result


def space_to_json(space: Space) -> dict[str, Any]:
    """A space that arrays hold, as JSON; bounds that are all equal are one number."""

    def bound(x: NDArray[Any]) -> Any:
        flat = x.ravel()
        return flat[0].item() if flat.size and (flat == flat[0]).all() else x.tolist()

    content: dict[str, Any] = {"type": type(space).__name__}
    if isinstance(space, Box):
        content |= {"low": bound(space.low), "high": bound(space.high)}
        return content | {"shape": list(space.shape), "dtype": space.dtype.name}
    if isinstance(space, Discrete):
        return content | {"n": int(space.n), "start": int(space.start)}
    if isinstance(space, MultiDiscrete):
        return content | {"nvec": space.nvec.tolist(), "start": space.start.tolist()}
    if isinstance(space, MultiBinary):
        return content | {"n": space.n if isinstance(space.n, int) else list(space.n)}
    raise InputError(
        f"spaces must be Box, Discrete, MultiDiscrete or MultiBinary, got {short(space)}"
    )


def check_shape(content: Any) -> None:
    """Refuse a Box of more than `MOST_ELEMENTS`, before anyone allocates its bounds.

    Args:
        content: what `space_to_json`, or Minari, makes of a space.
    """
    shape = content.get("shape", ()) if isinstance(content, dict) else ()
    if not (isinstance(shape, list | tuple) and all(type(n) is int and n >= 0 for n in shape)):
        raise InputError(f"metadata must describe a space, got one of the shape {short(shape)}")
    if math.prod(shape) > MOST_ELEMENTS:
        raise InputError(
            f"metadata must describe a space of at most {MOST_ELEMENTS} elements, got {shape}"
        )


def space_from_json(content: Any) -> Space:
    """The space that `space_to_json` described."""
    try:
        check_shape(content)
        match content["type"]:
            case "Box":
                shape, dtype = tuple(content["shape"]), np.dtype(content["dtype"])
                low, high = (
                    np.broadcast_to(np.array(content[name], dtype), shape)
                    for name in ("low", "high")
                )
                return Box(low, high, shape, dtype.type)
            case "Discrete":
                return Discrete(int(content["n"]), start=int(content["start"]))
            case "MultiDiscrete":
                return MultiDiscrete(np.array(content["nvec"]), start=content["start"])
            case "MultiBinary":
                return MultiBinary(content["n"])
    except InputError:
        raise
    except Exception:  # numpy and gymnasium raise half a dozen kinds
        pass
    raise InputError(f"metadata must describe a space, got {short(content)}")
