"""Checkpoints: a nested state in one file that is replaced whole, and says whose it is.

An .npz file holds the arrays of the state, each under its path (``state/policy/flat``), and a text
``json`` with the rest: the state with references in the place of arrays and generators, the lengths
and checksums of the log files, the owner, the format, and a checksum of it all. The last checkpoint
of a finished run leaves out what the run's mixture.npz holds, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from rlentropy.errors import InputError
from rlentropy.files import pack, read_arrays, reading, replace_file, sum_of, sum_of_file
from rlentropy.types import State

CHECKPOINT = Path("checkpoint", "state.npz")  # in a run folder
FORMAT = 2  # 1, without a number, held flat states
COMPRESSIBLE = 2**28  # bytes
CURE = "put it back from a copy, or pass --overwrite to start anew"
ARRAY, GENERATOR = "$array", "$generator"  # the one key of an object that stands for either
BIT_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")  # of numpy.random

Marks = dict[str, tuple[int, int]]  # log file → its length and CRC-32


class Checkpoint(NamedTuple):
    """What a run needs to go on."""

    state: State
    seconds: tuple[float, float]  # of wall time that the run has taken: learning, compiling
    marks: Marks  # the log files as they were
    cut: Marks  # what of them a run that goes on keeps
    owner: dict[str, Any]  # the command and its settings


class _State(dict[str, Any]):
    """A state that says in one line what it lacks."""

    def __missing__(self, name: str) -> Any:
        raise InputError(f"the run's {CHECKPOINT} must hold {name}, got a checkpoint without")


def write_checkpoint(directory: Path, checkpoint: Checkpoint) -> None:
    """Replace a run's checkpoint; a kill at any instant leaves the old or the new one.

    Raises:
        TypeError: the state holds what a checkpoint can't (see `rlentropy.types.State`).
        OutputError: the folder can't be written to.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    header = {
        "_format": FORMAT,
        "_marks": checkpoint.marks,
        "_cut": checkpoint.cut,
        "_seconds": checkpoint.seconds,
        "_owner": checkpoint.owner,
        "state": _without_arrays(checkpoint.state, "state", arrays),
    }
    text = json.dumps(header | {"_sum": sum_of(arrays | header)})
    replace_file(directory / CHECKPOINT, pack(arrays | {"json": np.array(text)}))


def compress_checkpoint(
    directory: Path, others: Mapping[str, tuple[str, Any]] = MappingProxyType({})
) -> None:
    """Let a run's last checkpoint take less place; unless it is large, and that would take long.

    Args:
        others: .npz files beside it, and the name and content of an array in each. An array of the
            checkpoint that is the same isn't kept twice: it is read from there.

    Raises:
        OutputError: the folder can't be written to.
    """
    path = directory / CHECKPOINT
    if not path.is_file() or path.stat().st_size > COMPRESSIBLE:
        return
    arrays = read_arrays(path)
    elsewhere = {
        mine: (file, name)
        for mine, array in arrays.items()
        for file, (name, other) in others.items()
        if other is not None and (directory / file).is_file() and _same(array, other)
    }
    header = json.loads(str(arrays["json"]))
    header |= {"_elsewhere": elsewhere} if elsewhere else {}
    kept = {name: array for name, array in arrays.items() if name not in elsewhere}
    replace_file(path, pack(kept | {"json": np.array(json.dumps(header))}, compressed=True))


def _same(one: Any, other: Any) -> bool:
    return bool(one.size and one.dtype == other.dtype and np.array_equal(one, other))


def _elsewhere(path: Path, header: dict[str, Any]) -> dict[str, Any]:
    """The arrays that are kept in other files of the run."""
    found = {}
    for mine, (file, name) in header.pop("_elsewhere", {}).items():
        if Path(file).name != file:
            raise ValueError("it names files of other folders")
        other = path.parents[1] / file
        if not other.is_file():
            raise InputError(f"{other} must be there to go on from {path}, got none")
        found[mine] = read_arrays(other, (name,))[name]
    return found


def read_checkpoint(directory: Path) -> Checkpoint | None:
    """A run's checkpoint; None where there is none.

    Raises:
        InputError: it is damaged, none of ours, or of another version's format.
    """
    path = directory / CHECKPOINT
    try:
        with reading(path):
            arrays = read_arrays(path)
            header = json.loads(str(arrays.pop("json")))
            arrays |= _elsewhere(path, header)
            if header.pop("_sum") != sum_of(arrays | header):
                raise ValueError("its checksum differs")
            _check_format(path, header.get("_format", 1))
            marks, cut = (_marks(header[name]) for name in ("_marks", "_cut"))
            state = _with_arrays(header["state"], arrays)
            seconds = tuple(map(float, header["_seconds"]))
            return Checkpoint(state, seconds, marks, cut, header["_owner"])  # type: ignore[arg-type]
    except FileNotFoundError:
        return None
    except _OtherFormat:
        raise
    except InputError as error:
        raise InputError(f"{error}; {CURE}") from None


def owner_of(directory: Path) -> dict[str, Any] | None:
    """The command and settings that a run's checkpoint is of; None where there is none.

    Raises:
        InputError: it is damaged, or none of ours.
    """
    path = directory / CHECKPOINT
    try:
        with reading(path):
            owner = _header(path)["_owner"]
            return {"command": str(owner["command"])} | dict(owner)
    except FileNotFoundError:
        return None
    except InputError as error:
        raise InputError(f"{error}; {CURE}") from None


def _marks(stored: Mapping[str, Any]) -> Marks:
    if any(Path(name).name != name for name in stored):
        raise ValueError("it names files of other folders")
    return {name: (int(length), int(total)) for name, (length, total) in stored.items()}


def metrics_are_whole(directory: Path) -> bool:
    """Whether metrics.jsonl begins as the checkpoint says, where one does."""
    path, metrics = directory / CHECKPOINT, directory / "metrics.jsonl"
    try:
        with reading(path):
            length, total = _header(path)["_marks"][metrics.name]
            return sum_of_file(metrics, 0, int(length)) == int(total)
    except (FileNotFoundError, InputError):
        return True


def _header(path: Path) -> dict[str, Any]:
    """What a checkpoint says, without its arrays."""
    return dict(json.loads(str(read_arrays(path, ("json",))["json"])))


class _OtherFormat(InputError):
    """A checkpoint that is whole, and of another version."""


def _check_format(path: Path, found: Any) -> None:
    if found != FORMAT:
        raise _OtherFormat(
            f"{path} must be of checkpoint format {FORMAT}, got format {found}: finish the run "
            "with the version of rlentropy that began it, or pass --overwrite to start anew"
        )


# ---------------------------------------------------------------- states as JSON and arrays


def _without_arrays(value: Any, path: str, arrays: dict[str, Any]) -> Any:
    """A part of a state as JSON holds it; its arrays go to `arrays`, under their paths."""
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        arrays[path] = value
        return {ARRAY: path}
    if isinstance(value, np.random.Generator):
        return {GENERATOR: _without_arrays(value.bit_generator.state, path, arrays)}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or "/" in key or key.startswith("$"):
                raise TypeError(f"keys of a state must be text without / or a first $, got {key!r}")
        return {key: _without_arrays(part, f"{path}/{key}", arrays) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_arrays(part, f"{path}/{k}", arrays) for k, part in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{path} must be of a kind that a checkpoint holds, got {type(value).__name__}")


def _with_arrays(value: Any, arrays: Mapping[str, Any]) -> Any:
    """What `_without_arrays` was given."""
    if isinstance(value, list):
        return [_with_arrays(part, arrays) for part in value]
    if not isinstance(value, dict):
        return value
    if ARRAY in value:
        return arrays[value[ARRAY]]
    if GENERATOR in value:
        return _generator(_with_arrays(value[GENERATOR], arrays))
    return _State({key: _with_arrays(part, arrays) for key, part in value.items()})


def _generator(state: State) -> np.random.Generator:
    if (name := state["bit_generator"]) not in BIT_GENERATORS:
        raise ValueError(f"it has no generator that is known, but {name!r}")
    bits = getattr(np.random, name)(0)
    bits.state = state
    return np.random.Generator(bits)
