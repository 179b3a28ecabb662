"""A dataset in the making: what is saved on the way, and what a later collection goes on from.

Blocks of whole episodes come in order. Those that wait in memory are saved as parts, in a hidden
folder beside the data, and laid end to end when the budget is spent; how many blocks there are is
all that it takes to go on. The dataset appears, or is replaced, in one rename.

The last episode is cut at the budget. A collection that goes on with a larger one drops the block
of that episode, which is to be played again, and comes to what one longer collection would have
written, to the bit.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gymnasium.spaces import Discrete

from rlentropy.data import Batch, Transitions, kind_of, load, path_of, write, writing
from rlentropy.data.files import read_npz, write_npz
from rlentropy.errors import InputError
from rlentropy.files import TEMPORARY, read_json
from rlentropy.intervals import mean_ci95
from rlentropy.spaces import Space
from rlentropy.types import Array, Env

# new: nothing may be there; resume: go on, to the same end as without the break; append: after what
# is there; overwrite: what is there goes once the new data are complete.
Mode = Literal["new", "resume", "append", "overwrite"]


@dataclass(frozen=True)
class Start:
    """What a collection goes on from."""

    settings: dict[str, Any]  # that say which blocks it is of
    base: int = 0  # transitions of the present dataset that stay
    steps: int = 0  # the last of those, which are of this collection
    block: int = 0  # the first that they are not of
    metadata: dict[str, Any] = field(default_factory=dict)  # what the dataset says of itself


class Store:
    """What is saved of a dataset in the making, and what waits in memory.

    The hidden folder holds config.json while the collection is under way, and the parts. When the
    dataset is written, as `whole` in that folder, config.json goes, and then `whole` is renamed:
    whoever finds the folder without config.json has but to rename, or to delete.

    Args:
        data: a Minari id, or a path that ends in .npz, .hdf5 or .h5.
    """

    def __init__(self, data: str) -> None:
        self.data, self.path = data, path_of(data)
        self.folder = self.path.with_name(f".{self.path.name}.parts")
        self.config = self.folder / "config.json"  # holds the start
        self.start = Start({})
        self.parts: list[Batch] = []
        self.pending: list[Batch] = []  # blocks that wait
        self.steps = self.waiting = self.first_block = 0

    @property
    def block(self) -> int:
        """The next block."""
        return self.first_block + len(self.pending)

    def begin(
        self, mode: Mode, steps: int, settings: dict[str, Any], spaces: tuple[Space, Space]
    ) -> dict[str, Any] | None:
        """Claim the place, or take up what is there.

        Args:
            steps: the budget, in transitions.
            settings: what must be the same whenever the collection goes on.
            spaces: of observations and of actions.

        Returns:
            The summary, where the data are finished with this budget.

        Raises:
            InputError: the mode doesn't allow what is there, or that is of other settings, of a
                larger budget, or damaged.
            OutputError: the place can't be written.
        """
        with writing(self.path):
            self._settle()
        unfinished = self.config.is_file()
        there = unfinished or self.path.exists()
        self._check_mode(mode, there, unfinished)
        start = Start(settings)
        if mode == "resume" and unfinished:
            start = read_start(self.config)
            check_same(start.settings, settings)
        elif mode == "resume" and there:
            finished = load(self.data)
            last = self._last_record(finished, settings)
            self._check_budget(last["steps"], steps)
            if last["steps"] == steps:
                return dict(last["summary"])
            start = continued(finished, last, settings)
        elif mode == "append" and there:
            finished = load(self.data).check_spaces(*spaces)
            start = Start(settings, base=len(finished), metadata=finished.metadata)
        with writing(self.path):
            if mode == "overwrite":
                shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            content = json.dumps(asdict(start), indent=2)
            replace(self.config, lambda path: path.write_text(content))
        self._take_up(start)
        self._check_budget(self.steps, steps)
        return None

    def _check_mode(self, mode: Mode, there: bool, unfinished: bool) -> None:
        if mode == "new" and there:
            raise InputError(
                f"data must be new, got {self.path}: pass --resume to go on with the collection "
                "there, --append to add to the data, or --overwrite to replace them"
            )
        if mode == "append" and unfinished:
            raise InputError(
                f"data must be finished to be appended to, got {self.path}: pass --resume first"
            )

    def _last_record(self, finished: Transitions, settings: dict[str, Any]) -> dict[str, Any]:
        """What finished data say of the collection that they end with, which is to go on."""
        if not (records := finished.metadata.get("collections")):
            raise InputError(
                f"data must be of collect to be resumed, got {self.path}: --append adds to them"
            )
        try:
            last: dict[str, Any] = records[-1]
            whole = last["whole"]
            counts = (whole["steps"], whole["block"], last["steps"], len(finished))
            fits = 0 <= counts[0] <= counts[2] <= counts[3] and counts[1] >= 0
            if not (fits and all(type(n) is int for n in counts) and dict(last["summary"])):
                raise ValueError
            check_same(dict(last["settings"]), settings)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"data must be of collect to be resumed, got a strange record in {self.path}"
            ) from None
        return last

    @staticmethod
    def _check_budget(collected: int, steps: int) -> None:
        if collected > steps:
            raise InputError(
                f"steps must be >= {collected}, which are collected already, got {steps}"
            )

    def _take_up(self, start: Start) -> None:
        """Read the parts, and clear away what an interrupted write left."""
        self.start = start
        self.steps, self.first_block = start.steps, start.block
        for path in sorted(self.folder.iterdir()):
            if path.name.startswith("part-"):
                numbers = re.fullmatch(r"part-(\d{12})-(\d{12})", path.stem)
                if not numbers or int(numbers[1]) != self.first_block:
                    raise InputError(f"{path} must go on with block {self.first_block}, got others")
                self.first_block = int(numbers[2])
                self.parts.append(read_npz(path)[0])
                self.steps += len(self.parts[-1].rewards)
            elif path.name != "config.json":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def add(self, block: Batch) -> None:
        """Take the next block, in memory."""
        self.pending.append(block)
        self.steps += len(block.rewards)
        self.waiting += len(block.rewards)

    def flush(self) -> None:
        """Save the blocks that wait as a part; the blocks that it holds are in its name."""
        if not self.pending:
            return
        part = self.folder / f"part-{self.first_block:012}-{self.block:012}.npz"
        with writing(self.path):
            replace(part, lambda path: write_npz(path, self.pending, {}))
        self.first_block, self.pending, self.waiting = self.block, [], 0
        self.parts.append(read_npz(part)[0])

    def abandon(self) -> None:
        """Leave no trace where there is nothing to go on with."""
        if not (self.parts or self.pending):
            shutil.rmtree(self.folder, ignore_errors=True)

    def finish(self, cut: Batch | None, env: Env) -> dict[str, Any]:
        """Lay the parts end to end, and put the dataset in its place; its summary.

        Args:
            cut: the first transitions of a block that the budget didn't hold.
            env: whose spaces the data are of, and which a Minari dataset shall recover.
        """
        parts, base = [*self.parts, *([] if cut is None else [cut])], self.start.base
        collected = parts  # of this collection, also those that the dataset has already
        spaces = (env.observation_space, env.action_space)
        present = load(self.data).check_spaces(*spaces).columns if base else None
        if present is not None:
            staying = Batch(*(column[:base] for column in present))
            earlier = Batch(*(column[base - self.start.steps :] for column in staying))
            collected = [earlier, *parts] if len(earlier.rewards) else parts
        summary = report(collected, spaces[0], cut is not None)
        record = {"settings": self.start.settings, "steps": summary["steps"]}
        record |= {"whole": {"steps": self.steps, "block": self.block}, "summary": summary}
        metadata = dict(self.start.metadata)
        metadata["collections"] = [*metadata.get("collections", []), record]
        with writing(self.path):
            if present is not None:
                if kind_of(self.data) == "minari" and base == len(present.rewards):
                    shutil.copytree(self.path, self.folder / self.data)  # with what others put in
                else:
                    parts = [staying, *parts]
            written = write(self.folder, self.data, parts, *spaces, metadata, env)
            os.rename(written, self.folder / "whole")
            self.config.unlink()
            self._settle()
        return summary

    def _settle(self) -> None:
        """End what is left of a collection that has its dataset ready."""
        if not self.folder.is_dir() or self.config.exists():
            return
        whole = self.folder / "whole"
        if whole.exists():
            if whole.is_dir() and self.path.exists():  # only a file can be renamed over another
                self.path.rename(self.folder / "replaced")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            whole.rename(self.path)
        shutil.rmtree(self.folder)


def read_start(file: Path) -> Start:
    """From the config.json of an unfinished collection.

    Raises:
        InputError: it is damaged.
    """
    content = read_json(file)
    counts: Any = {name: content.get(name) for name in ("base", "steps", "block")}
    settings, metadata = content.get("settings"), content.get("metadata")
    whole = all(type(count) is int and count >= 0 for count in counts.values())
    if not (whole and isinstance(settings, dict) and isinstance(metadata, dict)):
        raise InputError(f"{file} must be that of an unfinished collection, got others")
    return Start(settings, **counts, metadata=metadata)


def continued(finished: Transitions, last: dict[str, Any], settings: dict[str, Any]) -> Start:
    """How to go on with the last collection of finished data: without the block that was cut."""
    whole = last["whole"]
    base = len(finished) - last["steps"] + whole["steps"]
    metadata = finished.metadata | {"collections": finished.metadata["collections"][:-1]}
    return Start(settings, base, whole["steps"], whole["block"], metadata)


def check_same(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with other settings."""
    for name, value in now.items():
        if before.get(name) != value:
            raise InputError(
                f"{name} must be {before.get(name)!r} as when the data were begun, got {value!r}"
            )


def replace(path: Path, write_to: Callable[[Path], object]) -> None:
    """Write a file so that its old or its new content is there at every instant."""
    temporary = path.with_name(TEMPORARY + path.name)
    write_to(temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def report(parts: list[Batch], observation_space: Space, cut: bool) -> dict[str, Any]:
    """What was collected; the mean return is that of the episodes that were not cut, if any.

    Args:
        cut: whether the last episode was cut at the budget.
    """
    rewards = np.concatenate([part.rewards for part in parts])
    ends = np.flatnonzero(np.concatenate([part.terminations | part.truncations for part in parts]))
    returns: Array = np.add.reduceat(rewards, np.append(0, ends[:-1] + 1))
    summary: dict[str, Any] = {"steps": len(rewards), "episodes": len(ends)}
    whole = returns[:-1] if cut and len(returns) > 1 else returns
    summary |= {"mean_return": float(whole.mean()), "return_ci95": mean_ci95(whole)}
    if isinstance(space := observation_space, Discrete):
        seen = np.zeros(int(space.n), bool)
        for part in parts:
            for states in (part.observations, part.next_observations):
                seen[np.asarray(states) - space.start] = True
        summary |= {"states_visited": int(seen.sum()), "states": int(space.n)}
    return summary
