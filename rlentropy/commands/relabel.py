"""A task for data of exploration, chosen after they were collected (`rlentropy.data.relabel`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rlentropy.commands.console import Console
from rlentropy.data import load, path_of, save
from rlentropy.data.relabel import Reward, terminated_elsewhere, with_goal
from rlentropy.errors import InputError, in_range


@dataclass(frozen=True)
class Config:
    """Gives data a goal afterwards: rewards for coming close to it.

    Use it on what an explorer saw, to learn any task from one dataset with rfzi or fqi.

    Example::

        rlentropy collect --env-id rlentropy/PointMaze-v0 --steps 20000 --data seen.npz
        rlentropy relabel --data seen.npz --out-data goal.npz --goal 1.5,5.5 --features 0,1
            --radius 0.5
    """

    data: str = ""  # a Minari id, or a path that ends in .npz, .hdf5 or .h5 (required)
    # where the data for the task go, as --data says; nothing is there (required)
    out_data: str = ""
    goal: str = ""  # of each feature, as 5,5; --goal=-1,0 where it begins with a minus (required)
    radius: float = 0.0  # distance at which it is reached, in the features' unit, >= 0
    features: str = ""  # coordinates of the observation that the goal is of, as 0,1; default: all
    reward: Reward = "sparse"  # 1 for reaching the goal; cost: -1 a step until it is reached
    quiet: bool = False  # print nothing but errors

    def __post_init__(self) -> None:
        for name in ("data", "out_data"):
            if not getattr(self, name):
                raise InputError(
                    f"{name} must be a Minari id, or a path ending in .npz or .hdf5, got none"
                )
        in_range("radius", self.radius, "[0, inf)")


def run(config: Config) -> int:
    """Relabel and save; the exit code.

    Raises:
        InputError: data that can't be read or are there already, or a goal that doesn't suit them.
    """
    goal = numbers("goal", config.goal, float)
    features = numbers("features", config.features, int) if config.features else None
    if path_of(config.out_data).exists():
        raise InputError(f"out_data must be new, got {config.out_data}, which exists")
    data = load(config.data)
    found = with_goal(data, goal, config.radius, features, config.reward)
    save(config.out_data, found)
    say, elsewhere = Console(config.quiet), terminated_elsewhere(found)
    facts: dict[str, Any] = {"steps": len(found), "dropped": len(data) - len(found)}
    facts |= {"episodes": len(found.episode_starts), "mean_return": float(found.returns().mean())}
    facts |= {"reached": int(found.terminations.sum()) - elsewhere}
    say.table(facts | {"terminated_elsewhere": elsewhere})
    if config.reward == "cost" and elsewhere:
        say.line(f"{elsewhere} episodes terminate elsewhere than at the goal: costs end there, too")
    say.line(f"data: {config.out_data}")
    return 0


def numbers(name: str, text: str, kind: Callable[[str], Any]) -> list[Any]:
    """Numbers that commas separate.

    Raises:
        InputError: they are none.
    """
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{name} must be numbers with commas between, got {text!r}") from None
