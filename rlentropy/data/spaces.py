"""Spaces that arrays hold: who is inside, and how JSON describes them."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from numpy.typing import NDArray

from rlentropy.errors import InputError

Space = gymnasium.Space[Any]

MOST_ELEMENTS = 2**27  # of an observation


def short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 100 else text[:97] + "..."


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
        "the environment's spaces must be Box, Discrete, MultiDiscrete or MultiBinary, "
        f"got {short(space)}"
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
