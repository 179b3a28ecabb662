"""Minari datasets: the only file that knows Minari.

Its `DataCollector` and `EpisodeBuffer.add_step_data` need jax; whole episodes in an `EpisodeBuffer`
don't. Its HDF5 storage needs Pillow, which it doesn't declare.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rlentropy.data.columns import Batch
from rlentropy.data.files import CURE, optional, reserve
from rlentropy.data.spaces import Space, short
from rlentropy.data.transitions import Transitions
from rlentropy.errors import InputError


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
        dataset = minari.MinariDataset(data)
        return Transitions.from_episodes(
            dataset.iterate_episodes(),
            observation_space=dataset.observation_space,
            action_space=dataset.action_space,
            metadata=dataset.storage.metadata.get("rlentropy"),
        )
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"data of this kind must have its reader ({CURE}), got {error}") from None
    except (OSError, RuntimeError, ValueError, KeyError, AssertionError) as error:
        what = short(f"{type(error).__name__}: {error}")
        raise InputError(f"data must be a whole Minari dataset, got a broken one: {what}") from None


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
        storage.update_episodes(buffers)
    else:
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
    storage.update_metadata({"rlentropy": metadata})
    for file in data.iterdir():
        with file.open("rb") as written:
            os.fsync(written.fileno())
    namespaces, mine = optional("minari.namespace"), str(Path(dataset_id).parent)
    if mine != "." and mine not in namespaces.list_local_namespaces():
        namespaces.create_namespace(mine)  # where the dataset will be, so that Minari lists it


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
