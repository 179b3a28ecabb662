"""The space of a search: a TOML file of settings to draw, checked against the command.

Such as::

    command = "robust-actor-critic"
    env_id = "Pendulum-v1"
    metric = "eval/return"     # judged at the last evaluation, and pruned on
    direction = "maximize"     # or "minimize"
    trials = 40
    seeds = 2                  # of each trial, one after the other: a count, "a:b", or a list
    prune = "median"           # or "none"
    finalists = 5              # trials that are run once more in the end, on other seeds
    final_seeds = "10:15"

    [options]                  # of every run
    steps = 30000

    [space]
    learning_rate = { low = 1e-4, high = 1e-2, log = true }
    epochs = { low = 4, high = 16 }          # whole numbers; step = 2 is possible
    hidden = { choices = [[64, 64], [128, 128]] }
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from rlentropy.commands.engines import Job
from rlentropy.commands.options import read_toml
from rlentropy.commands.plan import Table, job_of, parse_seeds
from rlentropy.errors import InputError, did_you_mean, one_of, whole
from rlentropy.runs.table import COMMANDS

FIELDS = (
    *("command", "env_id", "metric", "direction", "trials", "seeds", "prune"),
    *("finalists", "final_seeds", "options", "space"),
)
FREE = ("trials", "prune", "finalists", "final_seeds")  # may change while a study goes on


@dataclass(frozen=True)
class Space:
    """What is searched, and how its runs are judged."""

    command: str
    env_id: str
    space: dict[str, Any]  # option → table of low and high, or of choices
    options: Table = field(default_factory=dict)  # of every run
    metric: str = "eval/return"
    direction: str = "maximize"
    trials: int = 40
    seeds: Any = 1
    prune: str = "median"
    finalists: int = 0
    final_seeds: Any = "1000:1005"

    def job(self, trial: int, seed: int, settings: Table, out: Path) -> Job:
        """The run of a trial with a seed."""
        line = self.options | settings | {"command": self.command, "label": f"trial{trial:04}"}
        return job_of(line, self.env_id, seed, out)

    def value(self, name: str, drawn: Any) -> Any:
        """The value of an option, from what Optuna drew: lists are text to it."""
        lists = {json.dumps(c): c for c in self.space[name].get("choices", []) if type(c) is list}
        return lists.get(drawn, drawn) if isinstance(drawn, str) else drawn

    def facts(self) -> Table:
        """What must not change while a study goes on."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in FREE}


def read_space(path: Path) -> Space:
    """A space of settings from a TOML file, each end of it checked against the command.

    Raises:
        InputError: it asks for what doesn't exist, or is no space.
    """
    table = read_toml(path, "search")
    for name in set(table) - set(FIELDS):
        raise InputError(
            f"search must hold {', '.join(FIELDS)} alone, got {name!r}{did_you_mean(name, FIELDS)}"
        )
    one_of("command", table.get("command"), COMMANDS)
    for name in ("env_id", "space"):
        if not table.get(name):
            raise InputError(f"search must hold {name}, got {path} without")
    space = Space(**table)
    for name in ("env_id", "metric"):
        if not isinstance(getattr(space, name), str):
            raise InputError(f"{name} must be text, got {getattr(space, name)!r}")
    for name in ("space", "options"):
        if not isinstance(getattr(space, name), dict):
            raise InputError(f"{name} must be a table, got {getattr(space, name)!r}")
    one_of("direction", space.direction, ("maximize", "minimize"))
    one_of("prune", space.prune, ("median", "none"))
    whole("trials", space.trials, 1)
    whole("finalists", space.finalists, 0)
    seeds, final = parse_seeds(space.seeds), parse_seeds(space.final_seeds)
    if space.finalists and set(seeds) & set(final):
        raise InputError(f"final_seeds must be none of the seeds, got {space.final_seeds!r}")
    known = {
        f.name for f in dataclasses.fields(import_module(COMMANDS[space.command].module).Config)
    }
    for name, dimension in space.space.items():
        if name not in known:
            raise InputError(
                f"space must hold options of {space.command}, got {name!r}"
                f"{did_you_mean(name, known)}"
            )
        if name in space.options:
            raise InputError(f"{name} must be in space or in options, got both")
        for value in ends(name, dimension):
            space.job(0, 0, {name: value}, Path())
    space.job(0, 0, {}, Path())
    return space


def ends(name: str, dimension: Any) -> list[Any]:
    """The least and the greatest value of a dimension, or all its choices.

    Raises:
        InputError: it has neither, or both, or is empty.
    """
    table: Any = dimension if isinstance(dimension, dict) else {}
    names, choices = set(table), table.get("choices")
    if names == {"choices"} and isinstance(choices, list) and len(choices) > 1:
        return choices
    low, high = table.get("low"), table.get("high")
    log, step = table.get("log", False), table.get("step", 1)
    numbers = all(type(x) in (int, float) and math.isfinite(x) for x in (low, high, step))
    if {"low", "high"} <= names <= {"low", "high", "log", "step"} and numbers and type(log) is bool:
        fits = type(low) is type(high) and (type(low) is float or type(step) is int)
        if fits and low < high and step > 0 and not (log and ("step" in names or low <= 0)):
            return [low, high]
    raise InputError(
        f"{name} must be {{ low, high }} of one kind, with log = true (low > 0) or a step if any, "
        f"or {{ choices }} of two or more, got {dimension!r}"
    )


def distributions(space: Space) -> dict[str, Any]:
    """The space as Optuna has it."""
    from optuna import distributions as d

    found: dict[str, Any] = {}
    for name, dimension in space.space.items():
        if "choices" in dimension:
            texts = [json.dumps(c) if type(c) is list else c for c in dimension["choices"]]
            found[name] = d.CategoricalDistribution(texts)
        else:
            kind = d.IntDistribution if type(dimension["low"]) is int else d.FloatDistribution
            found[name] = kind(**dimension)
    return found


def defaults(space: Space) -> Table | None:
    """The command's own settings, as Optuna would have drawn them; None where it can't."""
    config = import_module(COMMANDS[space.command].module).Config()
    drawn: Table = {}
    for name, distribution in distributions(space).items():
        value = getattr(config, name)
        value = json.dumps(list(value)) if isinstance(value, tuple) else value
        try:
            held = distribution._contains(distribution.to_internal_repr(value))
        except (TypeError, ValueError):
            held = False
        if not held:
            return None
        drawn[name] = value
    return drawn
