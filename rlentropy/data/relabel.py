"""Another task for data that are there: rewards and ends that are chosen after the steps were.

Conventions:
    - A step that enters a terminal state is terminated, and ends its episode.
    - Steps from within terminal states are dropped: the task has none, and a table would learn from
      them that the states aren't terminal. Where the rest of an episode leaves them again, its
      steps begin another one: the step that leaves is the last that is dropped.
    - Ends that the data had stay as they were: a truncated episode still bootstraps, and one that
      terminated elsewhere has no future there either. With a cost of each step such an end is a way
      out that a learner will take; `terminated_elsewhere` counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from rlentropy.data.columns import Batch
from rlentropy.data.transitions import Transitions
from rlentropy.errors import InputError, as_numbers, in_range, one_of, whole
from rlentropy.spaces import short
from rlentropy.types import Array, Mask

Reward = Literal[
    "sparse", "cost"
]  # 1 for the step that reaches a goal; -1 for each step until then
CHUNK = 2**18  # steps that are looked at at once


def with_reward(
    data: Transitions, reward: Callable[[Batch], Any], terminal: Callable[[Any], Any]
) -> Transitions:
    """The same steps with other rewards and ends, in memory.

    Args:
        reward: of steps, n of them -> (n,).
        terminal: which observations (n, *shape) are of terminal states, (n,).

    Raises:
        InputError: rewards or flags of another shape or not finite, or no step from elsewhere than
            a terminal state.
    """
    parts = [
        (checked("reward", reward(batch), batch), ends(terminal, batch.next_observations))
        for batch in data.chunks(CHUNK)
    ]
    rewards, reached = (np.concatenate(column) for column in zip(*parts, strict=True))
    starts = data.episode_starts
    within = np.append(False, reached[:-1])  # the step begins where the one before it ended
    within[starts] = ends(terminal, data.observations[starts])
    if within.all():
        raise InputError(f"data must hold steps from outside of the goal, got {len(data)} within")
    kept = np.flatnonzero(~within)
    columns = data.sample(kept)._replace(
        rewards=rewards[kept],
        terminations=(data.terminations | reached)[kept],
        truncations=(data.truncations & ~reached)[kept],
    )
    spaces: Any = {name: getattr(data, name) for name in ("observation_space", "action_space")}
    metadata = {"relabelled": data.metadata}
    relabelled = Transitions.from_arrays(*columns, **spaces, metadata=metadata)
    return replace(relabelled, guessed=data.guessed)


def with_goal(
    data: Transitions,
    goal: Any,
    radius: float = 0.0,
    features: Sequence[int] | None = None,
    reward: Reward = "sparse",
) -> Transitions:
    """The same steps for the task to come within a distance of a goal.

    Args:
        goal: (d,), a number a feature; of a Discrete space the state.
        radius: Euclidean distance at which the goal is reached, in the features' unit.
        features: d coordinates of the flattened observation; default: all.
        reward: "sparse": 1 for the step that reaches the goal, 0 for others; "cost": -1 for each
            step, that one too, so that a return is minus the number of steps.

    Raises:
        InputError: an argument doesn't suit the observations, or no step reaches the goal.
    """
    in_range("radius", radius, "[0, inf)")
    one_of("reward", reward, ("sparse", "cost"))
    width = int(np.prod(data.observations.shape[1:]))
    index = list(range(width) if features is None else features)
    for k in index:
        whole("features", k, 0, width - 1)
    place = np.atleast_1d(as_numbers(goal, "goal", f"({len(index)},)"))
    if not index or place.shape != (len(index),) or not np.isfinite(place).all():
        raise InputError(
            f"goal must be {len(index)} finite numbers, one a feature of {width} coordinates, "
            f"got {short(goal)}"
        )

    def distance(observations: Any) -> Array:
        x = np.asarray(observations, np.float64).reshape(len(observations), width)[:, index]
        far: Array = np.linalg.norm(x - place, axis=1)
        return far

    def at_goal(observations: Any) -> Mask:
        return distance(observations) <= radius

    def rewards(batch: Batch) -> Array:
        if reward == "cost":
            return np.full(len(batch.rewards), -1.0)
        return at_goal(batch.next_observations).astype(np.float64)

    if not any(at_goal(batch.next_observations).any() for batch in data.chunks(CHUNK)):
        nearest = min(distance(batch.next_observations).min() for batch in data.chunks(CHUNK))
        raise InputError(
            f"goal must be reached by a step of the data, got {short(place.tolist())}, of which "
            f"the nearest is {nearest:.4g} away and the radius {radius:g}"
        )
    relabelled = with_reward(data, rewards, at_goal)
    task = {"goal": place.tolist(), "radius": float(radius), "features": index, "reward": reward}
    return replace(relabelled, metadata={"relabelled": data.metadata, "task": task})


def terminated_elsewhere(data: Transitions) -> int:
    """How many episodes of data for a goal terminate without reaching it."""
    task = data.metadata["task"]
    x = data.next_observations[data.terminations]
    x = np.asarray(x, np.float64).reshape(len(x), -1)[:, task["features"]]
    return int((np.linalg.norm(x - task["goal"], axis=1) > task["radius"]).sum())


def ends(terminal: Callable[[Any], Any], observations: Any) -> Mask:
    flags: Mask = checked("terminal", terminal(observations), observations)
    if flags.dtype.kind != "b":
        raise InputError(f"terminal must give flags, got {flags.dtype}")
    return flags


def checked(name: str, values: Any, like: Any) -> Any:
    """What a function gave of n steps or observations, (n,)."""
    values, n = np.asarray(values), len(like.rewards) if isinstance(like, Batch) else len(like)
    if values.shape != (n,):
        raise InputError(f"{name} must give {(n,)} of {n}, got {values.shape}")
    return values
