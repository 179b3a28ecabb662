"""Names of types that everything shares; imports nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
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
