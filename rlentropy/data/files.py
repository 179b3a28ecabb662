"""HDF5 and NPZ files of transitions: read by memory map, written as a stream."""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rlentropy.data.columns import CHUNK, Batch, Order, mapped, row_bytes, slices, unpacked
from rlentropy.data.spaces import short
from rlentropy.errors import InputError

ALIASES = {"terminations": "terminals", "truncations": "timeouts"}  # D4RL's names
CURE = "pip install 'rlentropy[data]'"

BROKEN = (  # what zipfile, numpy and h5py make of damaged files
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError),
    *(OSError, RuntimeError, ValueError, KeyError, TypeError),
)

Stored = tuple[Batch, dict[str, Any]]  # columns and metadata


def optional(package: str) -> Any:
    """A package that the extra ``data`` installs.

    Raises:
        InputError: it is not there; names the cure.
    """
    from importlib import import_module

    try:
        return import_module(package)
    except ImportError as error:
        raise InputError(f"data of this kind must have its reader ({CURE}), got {error}") from None


def name_of(key: str, keys: Iterable[str]) -> str:
    """How a file spells a key.

    Raises:
        InputError: it doesn't have it.
    """
    names = [name for name in (key, ALIASES.get(key)) if name]
    found = [name for name in names if name in keys]
    if not found:
        wanted, got = " or ".join(names), ", ".join(sorted(map(str, keys))) or "none"
        raise InputError(f"data must have the key {wanted}, got {got}")
    return found[0]


def metadata_of(text: str) -> dict[str, Any]:
    """The metadata that a file holds; empty where it is something else of that name."""
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


# ---------------------------------------------------------------- NPZ


def read_npz(path: Path) -> Stored:
    """Columns, mapped where they are stored uncompressed, and metadata.

    Raises:
        InputError: the file is broken or cut short, or lacks a key.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist()]
            columns = [_npz_column(path, archive, name_of(key, keys)) for key in Batch._fields]
            text = ""
            if "metadata" in keys:
                with archive.open("metadata.npy") as member:
                    text = str(npy.read_array(member, allow_pickle=False))
            return Batch(*columns), metadata_of(text)
    except InputError:
        raise
    except BROKEN as error:
        what = short(error)
        raise InputError(f"data must be a whole NPZ file, got a broken one: {what}") from None


def _npz_column(path: Path, archive: zipfile.ZipFile, key: str) -> NDArray[Any]:
    info = archive.getinfo(f"{key}.npy")
    with archive.open(info) as member:
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, fortran, dtype = read[npy.read_magic(member)](member)
        if dtype.hasobject:
            raise InputError(f"{key} must be numbers, got Python objects")
        header = member.tell()
        if info.file_size - header != dtype.itemsize * int(np.prod(shape)):
            raise zipfile.BadZipFile(f"{key} is not as long as it says")
        order: Order = "F" if fortran else "C"
        if info.compress_type != zipfile.ZIP_STORED:
            return unpacked(iter(lambda: member.read(CHUNK), b""), dtype, shape, order)
        while member.read(CHUNK):  # to its end, where the checksum is compared
            pass
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)  # of the zip's own header: 30 bytes, a name, extra bytes
        extra = int(np.frombuffer(file.read(4), "<u2").sum())
        return mapped(file, dtype, shape, order, info.header_offset + 30 + extra + header)


def write_npz(path: Path, parts: Sequence[Batch], metadata: dict[str, Any]) -> None:
    """Columns of several parts, end to end; the types are those of the first."""
    with path.open("wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for key, column in zip(Batch._fields, zip(*parts, strict=True), strict=True):
                shape, dtype = _joint(column)
                header = {"shape": shape, "fortran_order": False, "descr": dtype.str}
                info = _aligned(f"{key}.npy", file.tell())
                with archive.open(info, "w", force_zip64=True) as member:
                    npy.write_array_header_1_0(member, header)
                    for piece in _pieces(column, dtype):
                        member.write(piece.tobytes())
            with archive.open("metadata.npy", "w") as member:
                npy.write_array(member, np.array(json.dumps(metadata)))
        file.flush()
        os.fsync(file.fileno())


def _aligned(name: str, begin: int) -> zipfile.ZipInfo:
    """A member whose bytes begin at a multiple of 64: unaligned columns take three times as long.

    Its header takes 30 bytes, the name, 20 bytes of large sizes, and a field of zeros.
    """
    info = zipfile.ZipInfo(name)
    zeros = -(begin + 30 + len(name) + 20 + 4) % 64
    info.extra = struct.pack("<HH", 0xD935, zeros) + bytes(zeros)
    return info


# ---------------------------------------------------------------- HDF5


def read_hdf5(path: Path) -> Stored:
    """Columns, mapped where they are contiguous, and metadata.

    Raises:
        InputError: the file is broken or cut short, or lacks a key; or there is no h5py.
    """
    h5py = optional("h5py")
    try:
        with h5py.File(path, "r") as file:
            columns = []
            for key in Batch._fields:
                dataset = file[name_of(key, file)]
                if not isinstance(dataset, h5py.Dataset) or dataset.dtype.hasobject:
                    raise InputError(f"{key} must be numbers, got {dataset}")
                columns.append(_hdf5_column(path, file, dataset))
            text = file.get("metadata")  # in D4RL a group
            is_ours = isinstance(text, h5py.Dataset) and h5py.check_string_dtype(text.dtype)
            return Batch(*columns), metadata_of(text.asstr()[()] if is_ours else "")
    except InputError:
        raise
    except BROKEN as error:
        what = short(error)
        raise InputError(f"data must be a whole HDF5 file, got a broken one: {what}") from None


def _hdf5_column(path: Path, file: Any, dataset: Any) -> NDArray[Any]:
    shape, dtype = dataset.shape, dataset.dtype
    offset = dataset.id.get_offset()  # none where it is chunked, or empty
    if offset is not None and dataset.external is None and not file.userblock_size:
        with path.open("rb") as plain:
            return mapped(plain, dtype, shape, "C", offset)
    if 0 in shape or not shape:
        return np.empty(shape, dtype)
    rows = max(1, CHUNK // row_bytes(dataset))
    pieces = (dataset[k : k + rows].tobytes() for k in range(0, shape[0], rows))
    return unpacked(pieces, dtype, shape, "C")


def write_hdf5(path: Path, parts: Sequence[Batch], metadata: dict[str, Any]) -> None:
    """Columns of several parts, end to end; the types are those of the first."""
    h5py = optional("h5py")
    reserve(path, sum(x.nbytes for part in parts for x in part) + 2**16)
    with h5py.File(path, "w") as file:
        for key, column in zip(Batch._fields, zip(*parts, strict=True), strict=True):
            dataset = file.create_dataset(key, *_joint(column))
            begin = 0
            for piece in _pieces(column, dataset.dtype):
                dataset[begin : begin + len(piece)] = piece
                begin += len(piece)
        file.create_dataset("metadata", data=json.dumps(metadata))
    with path.open("rb") as written:
        os.fsync(written.fileno())


# ---------------------------------------------------------------- both


def _joint(column: Sequence[NDArray[Any]]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of parts laid end to end."""
    return (sum(map(len, column)), *column[0].shape[1:]), column[0].dtype


def _pieces(column: Sequence[NDArray[Any]], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    for part in column:
        yield from (piece.astype(dtype) for piece in slices(part))


def reserve(path: Path, size: int) -> None:
    """Take space on a disk and give it back: HDF5 survives no disk that fills up as it writes.

    Raises:
        OSError: there is not so much.
    """
    try:
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(file.fileno(), 0, size)
    finally:
        path.unlink(missing_ok=True)
