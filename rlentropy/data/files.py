"""NPZ files of transitions, read by memory map, written as a stream; what they share with HDF5."""

from __future__ import annotations

import difflib
import json
import math
import os
import struct
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rlentropy.data.columns import CHUNK, Batch, Order, check_unpacked, mapped, slices, unpacked
from rlentropy.errors import InputError
from rlentropy.spaces import short

ALIASES = {"terminations": "terminals", "truncations": "timeouts"}  # D4RL's names
CURE = "pip install 'rlentropy[data]'"

MOST_METADATA = 2**26  # bytes that are read as metadata

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
    present = [name for name in names if name in keys]
    if not present:
        others = sorted(name for name in map(str, keys) if name not in Batch._fields)
        close = difflib.get_close_matches(key, others, n=1)
        wanted, got = " or ".join(names), ", ".join(sorted(map(str, keys))) or "none"
        hint = f"; is it {close[0]}?" if close else ""
        raise InputError(f"data must have the key {wanted}, got {short(got)}{hint}")
    return present[0]


@contextmanager
def whole(kind: str) -> Iterator[None]:
    """Turn whatever a reader makes of a damaged file into one clear error."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # zipfile, numpy, h5py and Minari raise a dozen kinds
        what = short(error) or type(error).__name__
        raise InputError(f"data must be a whole {kind}, got a broken one: {what}") from None


def metadata_of(text: str) -> dict[str, Any]:
    """The metadata that a file holds; empty where it is something else of that name."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


# ---------------------------------------------------------------- NPZ


def read_npz(path: Path) -> Stored:
    """Columns, mapped where they are stored uncompressed, and metadata.

    Raises:
        InputError: the file is broken or cut short, or lacks a key.
    """
    with whole("NPZ file"), zipfile.ZipFile(path) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist()]
        members = [archive.getinfo(f"{name_of(key, keys)}.npy") for key in Batch._fields]
        check_unpacked(sum(m.file_size for m in members if m.compress_type != zipfile.ZIP_STORED))
        columns = [
            _npz_column(path, archive, key, member)
            for key, member in zip(Batch._fields, members, strict=True)
        ]
        text = ""
        if "metadata" in keys:
            if archive.getinfo("metadata.npy").file_size > MOST_METADATA:
                raise InputError(f"metadata must be at most {MOST_METADATA} bytes of JSON")
            with archive.open("metadata.npy") as file:
                text = str(npy.read_array(file, allow_pickle=False))
        return Batch(*columns), metadata_of(text)


def _npz_column(
    path: Path, archive: zipfile.ZipFile, key: str, info: zipfile.ZipInfo
) -> NDArray[Any]:
    with archive.open(info) as member:
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, fortran, dtype = read[npy.read_magic(member)](member)
        if dtype.hasobject:
            raise InputError(f"{key} must be numbers, got Python objects")
        header, size = member.tell(), dtype.itemsize * math.prod(shape)
        if min(shape, default=0) < 0 or info.file_size - header != size:
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
    """Columns of several parts, end to end; their types are those of `joint`."""
    with path.open("wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for key, column in zip(Batch._fields, zip(*parts, strict=True), strict=True):
                shape, dtype = joint(column)
                header = {"shape": shape, "fortran_order": False, "descr": dtype.str}
                info = _aligned(f"{key}.npy", file.tell())
                with archive.open(info, "w", force_zip64=True) as member:
                    npy.write_array_header_1_0(member, header)
                    for piece in pieces(column, dtype):
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


# ---------------------------------------------------------------- both


def joint(column: Sequence[NDArray[Any]]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of parts laid end to end: of floats the first's, else one that holds all."""
    shape, types = column[0].shape[1:], [part.dtype for part in column]
    dtype = types[0]
    if not all(
        np.can_cast(other, dtype, "same_kind" if dtype.kind == "f" else "safe") for other in types
    ):
        dtype = np.result_type(*types)
        if all(other.kind in "iu" for other in types) and dtype.kind == "f":
            dtype = np.dtype(np.int64)  # of int64 and uint64
    return (sum(map(len, column)), *shape), dtype


def pieces(column: Sequence[NDArray[Any]], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
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
