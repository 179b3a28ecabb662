"""HDF5 files of transitions: read by memory map, written as a stream, with checksums of their own.

Nothing but the file itself is read: links and datasets that lead to other files, and filters that
would load a plugin, are refused. What `write_hdf5` wrote has a CRC-32 on each column and on the
metadata, in the attribute ``crc32``; what others wrote has none.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlentropy.data.columns import CHUNK, Batch, check_unpacked, checksum, mapped, unpacked
from rlentropy.data.files import (
    MOST_METADATA,
    Stored,
    joint,
    metadata_of,
    name_of,
    optional,
    pieces,
    reserve,
    whole,
)
from rlentropy.errors import InputError
from rlentropy.spaces import short

FILTERS = {1, 2, 3, 4, 5, 6, 32000}  # HDF5's own (deflate, shuffle, …), and h5py's lzf
CRC = "crc32"


def read_hdf5(path: Path) -> Stored:
    """Columns, mapped where they are contiguous, and metadata.

    Raises:
        InputError: the file is broken or cut short, lacks a key, differs from its checksums, or
            leads to other files; or there is no h5py.
    """
    h5py = optional("h5py")
    with whole("HDF5 file"), h5py.File(path, "r") as file:
        names = list(file)
        datasets = {key: member(file, name_of(key, names)) for key in Batch._fields}
        for key, dataset in datasets.items():
            if not isinstance(dataset, h5py.Dataset) or dataset.dtype.hasobject:
                raise InputError(f"{key} must be numbers, got {short(dataset)}")
        check_unpacked(sum(bytes_of(x) for x in datasets.values() if _offset(file, x) is None))
        columns = {key: _column(path, file, dataset) for key, dataset in datasets.items()}
        described: Any = member(file, "metadata") if "metadata" in names else None  # D4RL: a group
        text = _text(h5py, described)
        stored = {key: dataset.attrs.get(CRC) for key, dataset in datasets.items()}
        stored["metadata"] = None if text is None else described.attrs.get(CRC)
        if any(crc is not None for crc in stored.values()):  # ours, where all of them have one
            sums = {key: checksum(column) for key, column in columns.items()}
            check_sums(sums | {"metadata": zlib.crc32((text or "").encode())}, stored)
        return Batch(**columns), metadata_of(text or "")


def check_sums(computed: Mapping[str, int], stored: Mapping[str, Any]) -> None:
    """Refuse what isn't what was written.

    Raises:
        InputError: names the first column whose CRC-32 isn't the stored one.
    """
    for name, crc in computed.items():
        if (wanted := stored.get(name)) != crc:
            got = "none" if wanted is None else short(wanted)
            raise InputError(f"{name} must have the checksum stored with it, {got}, got {crc}")


def member(group: Any, name: str) -> Any:
    """What a group holds itself.

    Raises:
        InputError: a link, or bytes in other files, or a filter that isn't HDF5's own.
    """
    h5py = optional("h5py")
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        to = getattr(link, "filename", None) or getattr(link, "path", "elsewhere")
        raise InputError(f"{name} must lie in the file itself, got a link to {short(to)}")
    node = group[name]
    if not isinstance(node, h5py.Dataset):
        return node
    if node.is_virtual or node.external:
        raise InputError(f"{name} must lie in the file itself, got one whose bytes are elsewhere")
    how = node.id.get_create_plist()
    for k in range(how.get_nfilters()):
        code, _, _, title = how.get_filter(k)
        if code not in FILTERS:
            raise InputError(
                f"{name} must be compressed by HDF5's own filters or not at all, got {code} "
                f"({short(title.decode(errors='replace'))}), which needs a plugin"
            )
    return node


def members(group: Any) -> Iterator[Any]:
    """The datasets in a group and in the groups in it, each once; refuses what `member` does."""
    h5py = optional("h5py")
    seen, waiting = set(), [group]
    while waiting:
        for name in (top := waiting.pop()):
            node = member(top, name)
            if (where := h5py.h5o.get_info(node.id).addr) in seen:
                continue
            seen.add(where)
            if isinstance(node, h5py.Group):
                waiting.append(node)
            elif isinstance(node, h5py.Dataset):
                yield node


def bytes_of(dataset: Any) -> int:
    """How much memory a dataset takes, by what it says of itself."""
    return int(dataset.dtype.itemsize) * math.prod(dataset.shape or ())


def _offset(file: Any, dataset: Any) -> int | None:
    """Where the bytes of a dataset begin in the file, if they lie there as numpy has them."""
    h5py = optional("h5py")
    as_numpy = h5py.h5t.py_create(dataset.dtype, logical=True)
    plain = dataset.id.get_type() == as_numpy and not file.userblock_size
    offset: int | None = dataset.id.get_offset() if plain else None  # None: chunked, or empty
    return offset


def _column(path: Path, file: Any, dataset: Any) -> NDArray[Any]:
    shape, dtype = dataset.shape, dataset.dtype
    if (offset := _offset(file, dataset)) is not None:
        with path.open("rb") as plain:
            return mapped(plain, dtype, shape, "C", offset)
    if not shape or 0 in shape:
        return np.empty(shape or (), dtype)
    rows = max(1, CHUNK // max(1, bytes_of(dataset) // shape[0]))
    parts = (dataset[k : k + rows].tobytes() for k in range(0, shape[0], rows))
    return unpacked(parts, dtype, shape, "C")


def _text(h5py: Any, dataset: Any) -> str | None:
    """What is under ``metadata``, where it is a text."""
    if not isinstance(dataset, h5py.Dataset) or h5py.check_string_dtype(dataset.dtype) is None:
        return None
    if dataset.shape != () or dataset.dtype.itemsize > MOST_METADATA:
        return None
    return str(dataset.asstr()[()])


def write_hdf5(path: Path, parts: Sequence[Batch], metadata: dict[str, Any]) -> None:
    """Columns of several parts, end to end; their types are those of `joint`."""
    h5py = optional("h5py")
    reserve(path, sum(x.nbytes for part in parts for x in part) + 2**16)
    with h5py.File(path, "w") as file:
        for key, column in zip(Batch._fields, zip(*parts, strict=True), strict=True):
            dataset = file.create_dataset(key, *joint(column))
            begin, crc = 0, None
            for piece in pieces(column, dataset.dtype):
                dataset[begin : begin + len(piece)] = piece
                begin, crc = begin + len(piece), checksum(piece, crc)
            dataset.attrs[CRC] = np.uint32(crc or 0)
        text = json.dumps(metadata)
        dataset = file.create_dataset("metadata", data=text)
        dataset.attrs[CRC] = np.uint32(zlib.crc32(text.encode()))
    with path.open("rb") as written:
        os.fsync(written.fileno())
