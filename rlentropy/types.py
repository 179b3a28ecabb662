"""Names of types that everything shares; imports nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.uint32]
Count = NDArray[np.int64]
Mask = NDArray[np.bool_]

Env = gymnasium.Env[Any, Any]
# What a checkpoint holds: arrays and generators of numpy, numbers, texts, None, and lists and
# dictionaries of them at any depth. Tuples come back as lists, and numpy's scalars as Python's.
State = dict[str, Any]

VisitationObjective = Literal["VE", "VE_S", "AVE", "AVE_S"]
TrajectoryObjective = Literal["TE", "TE+"]
Objective = Literal["VE", "VE_S", "AVE", "AVE_S", "TE", "TE+"]


class Film(NamedTuple):
    """Visits of the cells of some features, in the course of training."""

    axes: tuple[tuple[str, float, float, int], ...]  # of each feature: name, low, high, bins
    frames: tuple[tuple[int, Any], ...]  # environment steps, and visits of cells so far, (cells,)
    grid_shape: tuple[int, int] | None = None  # (rows, columns), where the cells are states on one


def in_short(part: Any) -> str:
    """The repr of a dataclass or a named tuple: of arrays their shapes and extremes."""
    names = getattr(part, "_fields", None) or [f.name for f in fields(part) if f.repr]
    shown = [(name, shortened(getattr(part, name))) for name in names]
    return f"{type(part).__name__}({', '.join(f'{name}={text}' for name, text in shown if text)})"


def shortened(value: Any) -> str:
    """A value in a few words; nothing of what is empty."""
    shape, kind = getattr(value, "shape", None), getattr(getattr(value, "dtype", None), "kind", "")
    if shape:
        text = "x".join(map(str, shape))
        if kind in "iuf" and isinstance(value, np.ndarray) and value.size:
            return f"<{text}: {value.min():.4g} to {value.max():.4g}>"
        return f"<{text}>"
    if shape == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, Mapping):
        return f"{{{', '.join(map(str, value))}}}" if value else ""
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else repr(value)


@dataclass(frozen=True, repr=False)
class Result:
    """What a command's `run` returns, and where each part of it goes."""

    summary: Mapping[str, Any]  # figures; summary.json
    policy: Mapping[str, Any] = field(default_factory=dict)  # arrays; policy.npz
    network: Mapping[str, Any] | None = None  # tensors, numbers, strings, lists; policy.pt
    visits: Any = None  # counts (H, S, A) of states and actions
    grid_shape: tuple[int, int] | None = None  # (rows, columns), where the states are cells
    film: Film | None = None  # pictures of the visits to cells
    mixture: Any = None  # policies (K, ...), one drawn an episode; mixture.npz
    pictures: Mapping[str, Any] = field(default_factory=dict)  # of `plots`: name → keywords

    def __repr__(self) -> str:
        figures = {k: v for k, v in self.summary.items() if isinstance(v, int | float | str)}
        shown = [f"{k}={shortened(figures[k])}" for k in SHOWN if k in figures]
        shown += [f"{k}={shortened(v)}" for k, v in self.policy.items()]
        return f"{type(self).__name__}({', '.join(shown)})"


# What the repr of a result shows of its summary.
SHOWN = (
    *("value", "optimum", "mixture_value", "mean_return", "normalised_return"),
    *("episodes", "env_steps", "updates", "labels"),
)
