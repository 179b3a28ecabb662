"""NPZ files and folders of NPY files, read by memory map, written as a stream; what all share."""

from __future__ import annotations

import difflib
import json
import math
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rlentropy.data.columns import (
    CHUNK,
    Batch,
    Order,
    Tell,
    check_unpacked,
    checksum,
    mapped,
    silent,
    slices,
    unpacked,
)
from rlentropy.errors import InputError
from rlentropy.spaces import short

ALIASES = {"terminations": "terminals", "truncations": "timeouts"}  # D4RL's names
CURE = "pip install 'rlentropy[data]'"

MOST_METADATA = 2**26  # bytes that are read as metadata
SUMS = "rlentropy_crc32"  # in a folder's metadata: checksums of its columns and the other metadata

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


def read_npz(path: Path, tell: Tell = silent) -> Stored:
    """Columns, mapped where they are stored uncompressed, and metadata.

    Raises:
        InputError: the file is broken or cut short, or lacks a key.
    """
    with whole("NPZ file"), zipfile.ZipFile(path) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist()]
        members = [archive.getinfo(f"{name_of(key, keys)}.npy") for key in Batch._fields]
        packed = [m.file_size for m in members if m.compress_type != zipfile.ZIP_STORED]
        check_unpacked(sum(packed), tell)
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
        shape, order, dtype, header = read_header(member, key, info.file_size)
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
                info = _aligned(f"{key}.npy", file.tell())
                with archive.open(info, "w", force_zip64=True) as member:
                    write_column(member, column)
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


# ---------------------------------------------------------------- a folder of NPY files


def read_folder(path: Path, tell: Tell = silent) -> Stored:
    """Columns, mapped where they lie, of KEY.npy each, and metadata of metadata.json.

    Raises:
        InputError: a file is broken, cut short, a link, or other than its checksum says, or there
            is none of a key.
    """
    with whole("folder of NPY files"):
        keys = [file.stem for file in path.glob("*.npy")]
        columns = Batch(
            *(_npy_column(path / f"{name_of(key, keys)}.npy", key) for key in Batch._fields)
        )
        text, described = "", path / "metadata.json"
        if described.exists() or described.is_symlink():
            check_plain(described, "metadata")
            if described.stat().st_size > MOST_METADATA:
                raise InputError(f"metadata must be at most {MOST_METADATA} bytes of JSON")
            text = described.read_text("utf-8")
            json.loads(text)  # refused where it isn't JSON, unlike what is called so in other files
        metadata = metadata_of(text)
        stored = metadata.pop(SUMS, None)
        if isinstance(stored, dict):
            check_sums(sums_of(columns._asdict(), metadata), stored)
        return columns, metadata


def check_replaceable(path: Path) -> None:
    """Refuse to replace a folder with anything but a dataset in it.

    Raises:
        InputError: names what is there.
    """
    own = {f"{key}.npy" for key in (*Batch._fields, *ALIASES.values())} | {"metadata.json"}
    others = sorted({file.name for file in path.iterdir()} - own) if path.is_dir() else ["a file"]
    if others:
        raise InputError(
            f"data must be a folder with nothing but a dataset in it to be replaced, got {path} "
            f"with {short(', '.join(others))}"
        )


def check_plain(path: Path, key: str) -> None:
    """Refuse what isn't a file of the folder: a link leads elsewhere, and a pipe has no end."""
    if not stat.S_ISREG(path.lstat().st_mode):
        kind = "a link" if path.is_symlink() else "something else"
        raise InputError(f"{key} must be a file in the folder itself, got {kind}")


def _npy_column(path: Path, key: str) -> NDArray[Any]:
    check_plain(path, key)
    with path.open("rb") as file:
        shape, order, dtype, header = read_header(file, key, path.stat().st_size)
        return mapped(file, dtype, shape, order, header)


def sums_of(columns: Mapping[str, NDArray[Any]], metadata: dict[str, Any]) -> dict[str, int]:
    """CRC-32 of each column and of the metadata, as JSON writes them."""
    sums = {key: checksum(column) for key, column in columns.items()}
    return sums | {"metadata": zlib.crc32(json.dumps(metadata).encode())}


def check_sums(computed: Mapping[str, int], stored: Mapping[str, Any]) -> None:
    """Refuse what isn't what was written.

    Raises:
        InputError: names the first column whose CRC-32 isn't the stored one.
    """
    for name, crc in computed.items():
        if (wanted := stored.get(name)) != crc:
            got = "none" if wanted is None else short(wanted)
            raise InputError(f"{name} must have the checksum stored with it, {got}, got {crc}")


def write_folder(path: Path, parts: Sequence[Batch], metadata: dict[str, Any]) -> None:
    """Columns of several parts, end to end, a file each; their types are those of `joint`."""
    path.mkdir()
    sums = {"metadata": zlib.crc32(json.dumps(metadata).encode())}
    for key, column in zip(Batch._fields, zip(*parts, strict=True), strict=True):
        with (path / f"{key}.npy").open("wb") as file:
            sums[key] = write_column(file, column)
            file.flush()
            os.fsync(file.fileno())
    with (path / "metadata.json").open("w", encoding="utf-8") as described:
        json.dump(metadata | {SUMS: sums}, described)
        described.flush()
        os.fsync(described.fileno())


# ---------------------------------------------------------------- both


def read_header(
    file: IO[bytes], key: str, size: int
) -> tuple[tuple[int, ...], Order, np.dtype[Any], int]:
    """Shape, order and type of an NPY array, and where its bytes begin.

    Args:
        size: bytes of header and array.
    """
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    shape, fortran, dtype = read[npy.read_magic(file)](file)
    if dtype.hasobject:
        raise InputError(f"{key} must be numbers, got Python objects")
    header = file.tell()
    if min(shape, default=0) < 0 or size - header != dtype.itemsize * math.prod(shape):
        raise ValueError(f"{key} is not as long as it says")
    return shape, "F" if fortran else "C", dtype, header


def write_column(file: IO[bytes], column: Sequence[NDArray[Any]]) -> int:
    """Write parts of a column, end to end, as an NPY array; its checksum."""
    shape, dtype = joint(column)
    header = {"shape": shape, "fortran_order": False, "descr": dtype.str}
    npy.write_array_header_1_0(file, header)
    crc: int | None = None
    for piece in pieces(column, dtype):
        file.write(piece.tobytes())
        crc = checksum(piece, crc)
    return crc or 0


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
