"""Offline data: transitions from Minari, HDF5 or NPZ, validated, without reading them into memory.

A dataset is six columns of one length N, under the keys of `Batch`:

    observations, actions, rewards, next_observations, terminations, truncations

(``terminals`` and ``timeouts``, as in D4RL, are read too). Columns are memory-mapped where they lie
as plain bytes: in an uncompressed NPZ or a contiguous HDF5. What is compressed or chunked, and
Minari, which stores episodes, is unpacked once, into temporary files that vanish with the process.
Sizes are looked at first: what has no room in memory or on that disk is refused. No file leads to
another one, unpickles, or runs code; and what was written here is compared with its checksums.

Conventions:
    - The rows of an episode follow each other, and its last row, alone, is terminated or truncated.
      A row without either flag must lead to where the next row is: next_observations[t] equals
      observations[t + 1] exactly. The last row of all must have a flag.
    - A terminated transition has no future: its target is the reward alone. A truncated one has,
      and bootstraps. A row may be both, and then counts as terminated.
    - Spaces are those the data declares (Minari's own; in HDF5 and NPZ the JSON under ``metadata``,
      which `save` writes). Where none is declared they are guessed, and `Transitions.guessed` says
      so: whole numbers (N,) are ids, Discrete(largest + 1), and so are actions (N, 1), or actions
      that are stored as floats 0., 1., …; other columns are a Box, unbounded for observations (for
      whole numbers, as wide as their type), and for actions as wide as the data. An environment's
      spaces take the place of guessed ones.
    - Columns may be of any whole or real type, also bool, half precision, or of the other byte
      order; flags and rewards may be (N, 1). Sums are taken in float64.
    - Actions must be in their space, and states in a Discrete one. Observations may leave the
      bounds of a Box, which many environments do.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import gymnasium

import rlentropy.files
from rlentropy.data.columns import Batch
from rlentropy.data.files import optional, read_npz, write_npz
from rlentropy.data.hdf5 import read_hdf5, write_hdf5
from rlentropy.data.minari import folder_of, read_minari, write_minari
from rlentropy.data.transitions import Counts, Episode, Transitions
from rlentropy.errors import InputError, OutputError, as_path, shown
from rlentropy.files import TEMPORARY
from rlentropy.spaces import Space, space_from_json, space_to_json

__all__ = ["Batch", "Counts", "Episode", "Transitions", "load", "save"]

Kind = Literal["npz", "hdf5", "minari"]
MINARI_ID = re.compile(r"\w[\w-]*(/\w[\w-]*)*-v\d+")
NEEDS = {"npz": (), "hdf5": ("h5py",), "minari": ("minari", "h5py", "PIL")}  # to write it
SPACES = ("observation_space", "action_space")
writing = partial(rlentropy.files.writing, must="data must be on a writable disk with free space")


def load(source: str | Path) -> Transitions:
    """Open a dataset: a Minari id, the folder of a Minari dataset, or a .npz, .hdf5 or .h5 file.

    Raises:
        InputError: it doesn't exist, is cut short, lacks a key, or is refused by
            `Transitions.from_arrays`; or the package that reads it is missing.
    """
    as_path("data", source, "the path or Minari id of a dataset")
    if not str(source):
        raise InputError(
            "data must be a Minari id, or a path ending in .npz or .hdf5, got none; "
            "rlentropy collect makes one"
        )
    kind, path = kind_of(source), Path(source)
    if kind != "minari" and not _is_file(path):
        raise InputError(f"data must be an existing file, got {source}")
    try:
        if kind == "minari":
            return read_minari(source)
        columns, metadata = (read_npz if kind == "npz" else read_hdf5)(path)
        spaces = {name: space_from_json(metadata[name]) for name in SPACES if name in metadata}
        rest = {name: value for name, value in metadata.items() if name not in SPACES}
        return Transitions.from_arrays(*columns, **spaces, metadata=rest)
    except OutputError:
        raise
    except InputError as error:
        raise InputError(" ".join(f"{source}: {error}".split())) from None


def save(target: str | Path, data: Transitions, env: gymnasium.Env[Any, Any] | None = None) -> None:
    """Write a dataset that is whole or not there; replaces none.

    Args:
        target: a Minari id, or a path that ends in .npz, .hdf5 or .h5.
        env: the environment that a Minari dataset shall recover.

    Raises:
        InputError: something is there already, or a package is missing.
        OutputError: it can't be written.
    """
    as_path("data", target, "a path or Minari id")
    if not isinstance(data, Transitions):
        raise InputError(f"data must be Transitions to be saved, got {shown(data)}")
    path = path_of(target)
    if path.exists():
        raise InputError(f"data must be a new path or Minari id, got {target}, which exists")
    folder = path.with_name(TEMPORARY + path.name)
    spaces = (data.observation_space, data.action_space)
    with writing(path):
        shutil.rmtree(folder, ignore_errors=True)  # of a save that was killed
        try:
            folder.mkdir(parents=True)
            written = write(folder, target, [data.columns], *spaces, data.metadata, env)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(written, path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as of a name that is too long
        return False


# ---------------------------------------------------------------- by the kind of target


def kind_of(target: str | Path) -> Kind:
    """The format that a name stands for.

    Raises:
        InputError: it is neither a Minari id, nor a folder, nor a path with a known suffix.
    """
    path = Path(target)
    if path.suffix in (".npz", ".hdf5", ".h5"):
        return "npz" if path.suffix == ".npz" else "hdf5"
    if path.is_dir() or MINARI_ID.fullmatch(str(target)):
        return "minari"
    raise InputError(
        "data must be a Minari id (NAME-v0), the folder of a Minari dataset, or a path that ends "
        f"in .npz, .hdf5 or .h5, got {str(target)!r}"
    )


def path_of(target: str | Path) -> Path:
    """Where a dataset is written: its file, or the folder that Minari gives its id.

    Raises:
        InputError: it is neither an id nor a path with a known suffix, or a package is missing.
    """
    for package in NEEDS[kind_of(target)]:
        optional(package)
    if kind_of(target) != "minari":
        return Path(target)
    if not MINARI_ID.fullmatch(str(target)):
        raise InputError(f"data must be a Minari id to be written to, got the folder {target}")
    return folder_of(str(target))


def write(
    folder: Path,
    target: str | Path,
    parts: Sequence[Batch],
    observation_space: Space,
    action_space: Space,
    metadata: dict[str, Any],
    env: gymnasium.Env[Any, Any] | None = None,
) -> Path:
    """Write parts, end to end, to a file or folder in `folder`; it lasts when this returns.

    Args:
        folder: where a Minari dataset of this id lies, its episodes come first.
        target: says the kind.
        parts: columns of whole episodes, at least one set.

    Returns:
        What was written, to be renamed.

    Raises:
        InputError: metadata or spaces that JSON can't hold.
    """
    kind, spaces = kind_of(target), (observation_space, action_space)
    try:
        json.dumps(metadata)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"metadata must be what JSON can hold, got other: {error}") from None
    if kind == "minari":
        write_minari(folder, str(target), parts, *spaces, metadata, env)
        return folder / str(target)
    described = {name: space_to_json(s) for name, s in zip(SPACES, spaces, strict=True)}
    file = folder / f"data.{kind}"
    (write_npz if kind == "npz" else write_hdf5)(file, parts, metadata | described)
    return file


def __dir__() -> list[str]:
    """What users want, without what is imported on the way."""
    return [*__all__]
