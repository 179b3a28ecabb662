"""Minari datasets: the only file that knows Minari.

Checksums of what we write are beside our metadata: ``rlentropy_crc32`` in metadata.json holds, for
each column of the first ``rows`` transitions and for the spaces, a CRC-32.

Minari's `DataCollector` and `EpisodeBuffer.add_step_data` need jax; whole episodes in an
`EpisodeBuffer` don't. Its HDF5 storage needs Pillow, which it doesn't declare.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rlentropy.data.columns import Batch, checksum
from rlentropy.data.files import CURE, MOST_METADATA, optional, reserve, whole
from rlentropy.data.hdf5 import bytes_of, check_sums, members
from rlentropy.data.transitions import Transitions
from rlentropy.errors import InputError
from rlentropy.files import available_memory, size_text
from rlentropy.spaces import Space, check_shape, space_to_json


def folder_of(dataset_id: str) -> Path:
    """Where the dataset of an id lies, or would."""
    return Path(optional("minari.storage.datasets_root_dir").get_dataset_path(dataset_id))


def read_minari(source: str | Path) -> Transitions:
    """A dataset by its id or folder; nothing is fetched.

    Raises:
        InputError: it isn't there or broken, its spaces are Tuple or Dict, or a package is missing.
    """
    minari = optional("minari")
    folder = Path(source) if Path(source).is_dir() else folder_of(str(source))
    data = folder if (folder / "metadata.json").is_file() else folder / "data"
    if not data.is_dir():
        raise InputError(
            f"data must be on this machine ('minari download {source}' fetches it), got no {data}"
        )
    try:
        with whole("Minari dataset"):
            stored = _checked(data)
            dataset = minari.MinariDataset(data)
            spaces = (dataset.observation_space, dataset.action_space)
            transitions = Transitions.from_episodes(
                dataset.iterate_episodes(),
                observation_space=spaces[0],
                action_space=spaces[1],
                metadata=dataset.storage.metadata.get("rlentropy"),
            )
            if stored is not None:
                head = Batch(*(column[: stored["rows"]] for column in transitions.columns))
                check_sums(_sums([head], *spaces), stored)
            return transitions
    except ImportError as error:
        raise InputError(f"data of this kind must have its reader ({CURE}), got {error}") from None


def _checked(data: Path) -> dict[str, Any] | None:
    """Look at a dataset before Minari does, and return its checksums, if it has any.

    Minari makes the environment where spaces are missing, which runs code that the data name; and
    it follows links to other files.

    Raises:
        InputError: spaces that are missing or huge, episodes that are missing or don't fit in
            memory, anything that lies in other files.
    """
    file = data / "metadata.json"
    if file.stat().st_size > MOST_METADATA:
        raise InputError(f"metadata.json must have at most {MOST_METADATA} bytes")
    metadata = json.loads(file.read_text())
    for name in ("observation_space", "action_space"):
        if not isinstance(space := metadata.get(name), str):
            raise InputError(f"metadata.json must describe the {name}, got {space}")
        check_shape(json.loads(space))
    if metadata.get("data_format") == "hdf5":
        h5py, episodes = optional("h5py"), metadata["total_episodes"]
        with h5py.File(data / "main_data.hdf5", "r") as content:
            if len(content) < episodes:
                raise InputError(f"data must hold {episodes} episodes, got {len(content)}")
            _check_room([(dataset.parent.name, bytes_of(dataset)) for dataset in members(content)])
    stored: dict[str, Any] | None = metadata.get("rlentropy_crc32")
    return stored


def _check_room(sizes: list[tuple[str, int]]) -> None:
    """Refuse what can't be read an episode at a time, or unpacked to a temporary file."""
    largest: dict[str, int] = {}
    for episode, size in sizes:
        largest[episode] = largest.get(episode, 0) + size
    most, total = max(largest.values(), default=0), 2 * sum(largest.values())
    memory, disk = available_memory(), shutil.disk_usage(tempfile.gettempdir()).free
    if most > memory or total > disk:
        raise InputError(
            f"data must fit in {tempfile.gettempdir()} and each episode in memory, got "
            f"{size_text(total)} and {size_text(most)} for {size_text(disk)} and "
            f"{size_text(memory)}"
        )


def _sums(
    parts: Sequence[Batch], observation_space: Space, action_space: Space, before: Any = None
) -> dict[str, int]:
    """Checksums of columns, which go on from those of the rows before, and of the spaces."""
    sums = {}
    for key, column in zip(Batch._fields, zip(*parts, strict=True), strict=True):
        crc = None if before is None else before[key]
        for part in column:
            crc = checksum(part.astype(column[0].dtype), crc)
        sums[key] = crc or 0
    spaces = [space_to_json(space) for space in (observation_space, action_space)]
    return sums | {"spaces": zlib.crc32(json.dumps(spaces).encode())}


def write_minari(
    root: Path,
    dataset_id: str,
    parts: Sequence[Batch],
    observation_space: Space,
    action_space: Space,
    metadata: dict[str, Any],
    env: gymnasium.Env[Any, Any] | None,
) -> None:
    """Write episodes to root/dataset_id; where a dataset is there, they come after its own.

    Args:
        root: an existing folder.
        parts: columns of whole episodes.
        env: the environment that the dataset shall recover.
    """
    minari, storages = optional("minari"), optional("minari.dataset.minari_storage")
    buffers = (buffer for part in parts for buffer in _buffers(part))
    data = root / dataset_id / "data"
    reserve(root / "space", sum(map(_size, parts)))
    if data.exists():
        storage = storages.MinariStorage.read(data)
        rows, before = storage.total_steps, storage.metadata.get("rlentropy_crc32")
        if before is not None and before["rows"] != rows:
            before = None  # others have written in between
        _check_types(next(iter(storage.get_episodes([0]))), parts[0])
        storage.update_episodes(buffers)
    else:
        rows, before = 0, None
        with _datasets_path(root), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one for each description that is left out
            storage = minari.create_dataset_from_buffers(
                dataset_id,
                buffers,
                env=env if env is not None and env.spec is not None else None,
                observation_space=observation_space,
                action_space=action_space,
                jpeg_encoding=False,
            ).storage
    sums = None
    if rows == 0 or before is not None:
        sums = _sums(parts, observation_space, action_space, before)
        sums["rows"] = rows + sum(len(part.rewards) for part in parts)
    storage.update_metadata({"rlentropy": metadata, "rlentropy_crc32": sums})
    for file in data.iterdir():
        with file.open("rb") as written:
            os.fsync(written.fileno())
    namespaces, namespace = optional("minari.namespace"), str(Path(dataset_id).parent)
    if namespace != "." and namespace not in namespaces.list_local_namespaces():
        namespaces.create_namespace(namespace)  # where the dataset will be, so that Minari lists it


def _check_types(episode: dict[str, Any], part: Batch) -> None:
    """Refuse to add numbers that the type of the present ones doesn't hold.

    Raises:
        InputError: names the column.
    """
    for key in ("observations", "actions", "rewards"):
        there, new = episode[key].dtype, getattr(part, key).dtype
        if not np.can_cast(new, there, "same_kind" if there.kind == "f" else "safe"):
            raise InputError(f"{key} must be of {there} as in the data that are there, got {new}")


def _size(part: Batch) -> int:
    """Bytes that episodes take at most in Minari's HDF5, as measured: 13 kB for an empty one."""
    episodes = int((part.terminations | part.truncations).sum())
    return sum(x.nbytes for x in part) + 14_000 * episodes


def _buffers(part: Batch) -> Iterator[Any]:
    """Minari's episodes, which have one observation more than steps."""
    buffer, begin = optional("minari.data_collector").EpisodeBuffer, 0
    for end in (np.flatnonzero(part.terminations | part.truncations) + 1).tolist():
        last = part.next_observations[end - 1 : end]
        yield buffer(
            observations=np.concatenate([part.observations[begin:end], last]),
            **{
                key: np.array(getattr(part, key)[begin:end])
                for key in ("actions", "rewards", "terminations", "truncations")
            },
        )
        begin = end


@contextmanager
def _datasets_path(root: Path) -> Iterator[None]:
    """Let Minari write elsewhere; it knows its folder from the process's environment alone."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(root)
    try:
        yield
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before
