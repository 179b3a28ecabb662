"""Runs sorted into tasks and algorithms: what may stand in one table, and what it is called.

A task is what its runs agree in (`COMPARABLE`): environment, objective, horizon and whatever else
changes the quantity that is compared. Runs with the same label (the command where none was given)
are the seeds of one algorithm. Returns are the environment's own, so runs that are compared by them
may have learnt for different risks or objectives, which then are part of the algorithm's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlentropy.errors import InputError
from rlentropy.files import plain
from rlentropy.runs.reading import Run
from rlentropy.types import Array

# What must agree between the runs of a task, and what holds where a summary doesn't say.
COMPARABLE = {
    "env_id": "",
    "env_kwargs": "{}",
    "objective": None,
    "temperature": 1.0,
    "horizon": None,
    "risk": None,
    "gamma": None,
    "features": None,
    "feature_ranges": None,
    "bins": None,
    "axis": "env_steps",
}
OF_RETURNS = ("env_id", "env_kwargs", "horizon", "axis")  # of them, what returns depend on

METRICS = (  # what is compared where --metric is absent: the first of which every run has one
    *("eval/mixture_gap", "eval/gap"),
    *("eval/mixture_entropy", "eval/visitation_entropy", "eval/trajectory_entropy"),
    *("eval/normalised_return", "eval/return"),
)
QUANTITIES = {
    "eval/mixture_gap": "gap of the mixture played",
    "eval/gap": "gap of the returned policy",
    "eval/last_iterate_gap": "gap of the last iterate",
    "eval/mixture_entropy": "entropy of the mixture's visits",
    "eval/normalised_return": "normalised return",
}
COSTS = {"env_steps": "environment steps", "updates": "updates", "labels": "labels"}

LONGEST = 120  # characters of a name


@dataclass(frozen=True)
class Algorithm:
    """The runs that differ by nothing but their seeds, and the tag they are compared by."""

    name: str
    metric: str
    runs: tuple[Run, ...]  # by seed

    @property
    def costs(self) -> tuple[str, ...]:
        """What budgets and times are counted in; the last is that of the steps."""
        axis = self.runs[0].axis
        return ("episodes", axis) if axis == "env_steps" else (axis,)

    @property
    def final(self) -> Array:
        """Last value of the metric, (n,)."""
        return np.array([run.curves[self.metric][1][-1] for run in self.runs])

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(int(run.summary["seed"]) for run in self.runs)


@dataclass(frozen=True)
class Task:
    """What some algorithms did, by which they can be compared."""

    name: str
    facts: dict[str, str]  # what its runs agree in
    algorithms: tuple[Algorithm, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The tags compared, each once: several where --metric gave several."""
        return tuple(dict.fromkeys(a.metric for a in self.algorithms))

    @property
    def falling(self) -> bool:
        """Whether less is better."""
        return all(tag.endswith("gap") for tag in self.metrics)

    @property
    def costs(self) -> tuple[str, ...]:
        return self.algorithms[0].costs

    @property
    def unit(self) -> str:
        tags = self.metrics
        if self.falling:
            return "nats" if self.algorithms[0].runs[0].summary.get("objective") else "reward"
        if all(tag.endswith("entropy") for tag in tags):
            return "nats"
        return "reward" if tags == ("eval/return",) else ""

    @property
    def quantity(self) -> str:
        """What is compared, in words, with its unit."""
        words = " / ".join(quantity(tag) for tag in self.metrics)
        return f"{words} ({self.unit})" if self.unit else words

    @property
    def said(self) -> str:
        """What its runs agree in beside the environment, in words."""
        objective, horizon = self.facts.get("objective", "None"), self.facts.get("horizon", "None")
        parts = [objective] if objective != "None" else []
        parts += [f"horizon {horizon}"] if horizon != "None" else []
        for name in ("risk", "gamma"):
            if self.facts.get(name, "None") != "None":
                parts.append(f"{name} {self.facts[name]}")
        return plain(", ".join(part for part in parts if part not in self.name), LONGEST)


def quantity(tag: str) -> str:
    return QUANTITIES.get(tag) or plain(tag.removeprefix("eval/").replace("_", " "), LONGEST)


def accepted(
    entries: Iterable[Run | tuple[Path, str]],
) -> tuple[list[Run], list[tuple[Path, str]]]:
    """The runs that can be compared, and the other folders with the reason."""
    runs: list[Run] = []
    refused: list[tuple[Path, str]] = []
    seeds: dict[Any, Path] = {}
    for entry in entries:
        if not isinstance(entry, Run):
            refused.append(entry)
            continue
        who = (entry.label, *setting(entry), entry.summary["seed"])
        if who in seeds:
            why = f"seed {entry.summary['seed']} of {entry.label} is that of {seeds[who]} already"
            refused.append((entry.folder, f"{why}; give runs of other settings their own --label"))
        else:
            seeds[who] = entry.folder
            runs.append(entry)
    return runs, refused


def setting(run: Run) -> tuple[str, ...]:
    """What a run has of `COMPARABLE`, in that order."""
    facts = run.summary | {"axis": run.axis}
    return tuple(str(facts.get(name, usual)) for name, usual in COMPARABLE.items())


Member = tuple[str, tuple[str, ...]]  # label and setting of the runs of one algorithm


def tasks_of(runs: Sequence[Run], metrics: Sequence[str], force: bool) -> list[Task]:
    """Runs by task and algorithm, in order of appearance.

    Args:
        metrics: tags, of which each algorithm is compared by the first that all its runs have.
        force: all that is counted in the same unit is one task, and what differs in it a name.

    Raises:
        InputError: runs without any of the metrics.
    """
    members: dict[Member, list[Run]] = {}
    for run in runs:
        members.setdefault((run.label, setting(run)), []).append(run)
    groups: dict[tuple[str, ...], list[Member]] = {}
    for member in members:
        groups.setdefault(member[1][-1:] if force else member[1], []).append(member)
    merged: dict[Any, list[Member]] = {}
    tags: dict[Any, tuple[str, ...]] = {}
    for key, group in groups.items():
        found = shared_tags([members[m] for m in group], metrics)
        names = ("axis",) if force else tuple(COMPARABLE)
        if found == ("eval/return",) and not force:
            names = OF_RETURNS
            key = tuple(key[k] for k, name in enumerate(COMPARABLE) if name in names)
        merged.setdefault((names, key), []).extend(group)
        tags[names, key] = found
    called = names_of(merged)
    return [
        Task(
            name,
            dict(zip(names, key, strict=True)),
            tuple(
                algorithm(called[names, m], members[m], tags[names, key])
                for m in merged[names, key]
            ),
        )
        for name, (names, key) in zip(task_names(list(merged)), merged, strict=True)
    ]


def algorithm(name: str, runs: Sequence[Run], tags: Sequence[str]) -> Algorithm:
    logged = set.intersection(*(set(run.curves) for run in runs))
    metric = next(tag for tag in tags if tag in logged)
    return Algorithm(name, metric, tuple(sorted(runs, key=lambda run: int(run.summary["seed"]))))


def shared_tags(members: Sequence[Sequence[Run]], metrics: Sequence[str]) -> tuple[str, ...]:
    """The tags by which algorithms are compared: those asked for, else one that all have.

    Raises:
        InputError: there is an algorithm without any of them.
    """
    choices = [tuple(metrics)] if metrics else [(tag,) for tag in METRICS]
    shared = [set.intersection(*(set(run.curves) for run in runs)) for runs in members]
    for tags in choices:
        if all(logged & set(tags) for logged in shared):
            return tags
    known = sorted(tag for tag in set.union(*shared) if tag.startswith("eval/"))
    asked = " or ".join(metrics) or "none that all have of the usual ones"
    one = members[0][0]
    raise InputError(
        f"metric must be logged by every run on {one.summary['env_id'] or one.folder} "
        f"({', '.join(known)}), got {asked}"
    )


def names_of(tasks: dict[Any, list[Member]]) -> dict[Any, str]:
    """What algorithms are called, the same on every task: their label, and what else differs.

    Returns:
        By names of a task's facts, and member.
    """
    texts: dict[Any, str] = {}
    for names in dict.fromkeys(names for names, _ in tasks):
        here = [m for (of, _), group in tasks.items() if of == names for m in group]
        free = [k for k, name in enumerate(COMPARABLE) if name not in names]
        varying = [k for k in free if len({values[k] for _, values in here}) > 1]
        for label, values in here:
            parts = (label, *(values[k] for k in varying))
            texts[names, (label, values)] = ", ".join(parts)
    unique = distinct(dict.fromkeys(texts.values()))
    return {key: unique[text] for key, text in texts.items()}


def task_names(keys: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> list[str]:
    """The environment's id, and of tasks that share it what tells them apart."""
    facts = [dict(zip(names, key, strict=True)) for names, key in keys]
    texts = []
    for own in facts:
        alike = [f for f in facts if f.get("env_id") == own.get("env_id")]
        varying = [n for n in own if len({f[n] for f in alike if n in f}) > 1]
        kwargs = own.get("env_kwargs", "{}")
        first = own["env_id"] or "no environment" if "env_id" in own else "every environment"
        parts = [first, *([kwargs] if kwargs != "{}" else [])]
        told = [n for n in varying if n not in ("env_id", "env_kwargs") and own[n] != "None"]
        texts.append(", ".join(parts + [f"{n} {own[n]}" for n in told]))
    unique = distinct(dict.fromkeys(f"{text}\0{k}" for k, text in enumerate(texts)))
    return [unique[f"{text}\0{k}"] for k, text in enumerate(texts)]


def distinct(texts: Iterable[str]) -> dict[str, str]:
    """A short printable name for each text (what follows a NUL is left out), none like another."""
    names: dict[str, str] = {}
    for text in texts:
        name = plain(text.partition("\0")[0], LONGEST)
        others = (f"{name} ({k})" for k in range(2, len(names) + 2))
        names[text] = next(n for n in (name, *others) if n not in names.values())
    return names
