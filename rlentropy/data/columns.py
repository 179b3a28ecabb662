"""Columns of transitions in memory and on disk: one array a key, memory-mapped where it can be."""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from rlentropy.errors import InputError, OutputError
from rlentropy.files import available_memory, size_text
from rlentropy.types import in_short

CHUNK = 2**24  # bytes of a column that are read at once
TOLD = 2**27  # bytes from which on it is told that they are unpacked, which takes a second or more
Tell = Callable[[str], object]  # says a line to whoever waits
Order = Literal["C", "F"]


class Batch(NamedTuple):
    """Some transitions, as arrays of one length n; the fields are the keys of every format."""

    observations: NDArray[Any]  # (n, *shape)
    actions: NDArray[Any]  # (n, *shape)
    rewards: NDArray[Any]  # (n,)
    next_observations: NDArray[Any]  # (n, *shape)
    terminations: NDArray[np.bool_]  # (n,)
    truncations: NDArray[np.bool_]  # (n,)

    def __repr__(self) -> str:
        return in_short(self)


def silent(text: str) -> None:
    """Tell nobody."""


def row_bytes(x: NDArray[Any]) -> int:
    return max(1, x.dtype.itemsize * math.prod(x.shape[1:]))


def slices(x: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """An array in slices of about CHUNK bytes; those behind are no longer held in memory."""
    rows = max(1, CHUNK // row_bytes(x))
    for k in range(0, len(x), rows):
        yield x[k : k + rows]
        release(x)


def extremes(x: NDArray[Any]) -> tuple[Any, Any]:
    """The least and the largest number of an array, in one pass."""
    ends = [(piece.min(), piece.max()) for piece in slices(x)]
    return min(low for low, _ in ends), max(high for _, high in ends)


# ---------------------------------------------------------------- what memory is held by


def mapping_of(x: Any) -> mmap.mmap | None:
    """The map of a file that an array is a part of; not of one that may differ from its file."""
    while x is not None and not isinstance(x, np.memmap):
        x = getattr(x, "base", None)
    return None if x is None or x.mode == "c" else getattr(x, "_mmap", None)


class Source(NamedTuple):
    """The file that an array was mapped from."""

    descriptor: int
    address: int  # where the file's first byte would be in memory

    def read(self, x: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
        """Some rows of a part of the mapped array, whose rows are each in one piece.

        Raises:
            InputError: the file has become shorter.
        """
        taken, size = np.empty((len(rows), *x.shape[1:]), x.dtype), row_bytes(x)
        if not taken.size:
            return taken
        begin, parts = int(x.ctypes.data) - self.address, memoryview(cast(Any, taken)).cast("B")
        if hasattr(os, "posix_fadvise"):  # a disk that knows of all of them reads many at once
            for row in rows.tolist():
                os.posix_fadvise(self.descriptor, begin + row * size, size, os.POSIX_FADV_WILLNEED)
        for k, row in enumerate(rows.tolist()):
            part = parts[k * size : (k + 1) * size]
            if os.preadv(self.descriptor, [part], begin + row * size) != size:
                raise InputError(
                    f"data must stay as they are while they are read, got no row {row}"
                )
        return taken


def source_of(x: Any) -> Source | None:
    """What an array was read from by `mapped`."""
    while x is not None and not hasattr(x, "source"):
        x = getattr(x, "base", None)
    return None if x is None else cast(Source, x.source)


def release(*columns: NDArray[Any]) -> None:
    """Give back the memory that holds what was read of mapped columns, which stays on the disk."""
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        for mapping in {id(m): m for m in map(mapping_of, columns) if m is not None}.values():
            mapping.madvise(mmap.MADV_DONTNEED)


class Reading:
    """Rows drawn at random from columns on the disk, of which a bounded part is held in memory.

    Of a mapped column the system may come to hold all that it is long. So the smallest columns stay
    mapped, as many as fit in the bound; rows of the others are read from their files.

    Args:
        memory: bytes.
    """

    def __init__(self, columns: Iterable[NDArray[Any]], memory: int) -> None:
        self.files: dict[mmap.mmap, Source] = {}  # of a column's map: what is read instead
        for x in sorted(columns, key=lambda x: x.nbytes):
            if (mapping := mapping_of(x)) is not None:
                memory -= x.nbytes
                source = source_of(x) if memory < 0 and hasattr(os, "preadv") else None
                if source is not None:
                    self.files[mapping] = source

    def rows(self, column: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
        """Some rows of one of the columns, or of a part of it, (n, ...)."""
        mapping = mapping_of(column)
        source = None if mapping is None else self.files.get(mapping)
        if source is not None and column.flags.c_contiguous:
            return source.read(column, rows)
        taken = column[rows]
        if source is not None:  # rows in pieces, as Fortran has them
            release(column)
        return taken


def checksum(x: NDArray[Any], before: int | None = None, dtype: Any = None) -> int:
    """CRC-32 of an array's type, shape of a row, and bytes.

    Args:
        before: that of the rows that come before these.
        dtype: of the numbers whose bytes are meant; default: those of the array.
    """
    wanted = np.dtype(dtype or x.dtype)
    crc = zlib.crc32(f"{wanted.str} {x.shape[1:]}".encode()) if before is None else before
    for piece in slices(x):
        crc = zlib.crc32(piece.astype(wanted, copy=False).tobytes(), crc)
    return crc


def mapped(
    file: IO[bytes], dtype: Any, shape: tuple[int, ...], order: Order, offset: int = 0
) -> NDArray[Any]:
    """An array whose bytes begin at an offset in a file, read-only."""
    if 0 in shape:
        return np.empty(shape, dtype)
    x: Any = np.memmap(file, dtype, "r", offset, shape, order)
    x.source = Source(os.dup(file.fileno()), x.ctypes.data - offset)
    weakref.finalize(x, os.close, x.source.descriptor)
    return cast(NDArray[Any], x)


def unpacked(
    pieces: Iterable[bytes], dtype: Any, shape: tuple[int, ...], order: Order
) -> NDArray[Any]:
    """An array from its bytes, in a temporary file without a name."""
    file = _temporary()
    try:
        for piece in pieces:
            with _spare_disk():
                file.write(piece)
        with _spare_disk():
            file.flush()
        return mapped(file, dtype, shape, order)
    finally:
        with suppress(OSError):  # of what is still in its buffer
            file.close()


def converted(x: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """An array of another type, in a temporary file where the array is in a file."""
    if mapping_of(x) is None or not x.ndim:
        return x.astype(dtype)
    return unpacked((piece.astype(dtype).tobytes() for piece in slices(x)), dtype, x.shape, "C")


def check_unpacked(size: int, tell: Tell) -> None:
    """Refuse to unpack more bytes than the folder for temporary files has room for.

    A small file may claim any size, and compressed zeros are a thousandth of themselves.

    Args:
        tell: is told what takes its time.

    Raises:
        InputError: says how many bytes there are, and room for how many.
    """
    folder = tempfile.gettempdir()
    room = available_memory() if in_memory(folder) else 2**63
    with suppress(OSError):
        room = min(room, shutil.disk_usage(folder).free)
    if size > room:
        raise InputError(
            f"data that are compressed or chunked must fit in {folder} when they are unpacked, got "
            f"{size_text(size)} for {size_text(room)} (the environment variable TMPDIR names "
            "another folder); uncompressed, contiguous data are mapped where they lie"
        )
    if size >= TOLD:
        tell(f"unpacking the data to {folder}: {size_text(size)}")


def in_memory(folder: str) -> bool:
    """Whether what is written to a folder takes memory, as of Linux's tmpfs; False if unknown."""
    places: dict[str, str] = {}
    with suppress(OSError, ValueError):
        for line in Path("/proc/mounts").read_text().splitlines():
            _, place, kind, *_ = line.split(" ")
            places[place] = kind
    above = [str(path) for path in (Path(folder).resolve(), *Path(folder).resolve().parents)]
    return next((places[place] for place in above if place in places), "") in ("tmpfs", "ramfs")


def _temporary() -> IO[bytes]:
    with _spare_disk():
        return tempfile.TemporaryFile()


@contextmanager
def _spare_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            "data that can't be memory-mapped must be unpacked to a folder with free space (the "
            f"environment variable TMPDIR), got {error.strerror} in {tempfile.gettempdir()}"
        ) from error


class GrowingColumns:
    """Six columns that grow, in temporary files without names."""

    def __init__(self) -> None:
        self.files = [_temporary() for _ in Batch._fields]
        self.first: Batch | None = None
        self.length = 0

    def add(self, batch: Batch) -> None:
        if self.first is None:
            self.first = batch
        for key, file, first, x in zip(Batch._fields, self.files, self.first, batch, strict=True):
            how: Any = "same_kind" if first.dtype.kind == "f" else "safe"  # floats are rounded
            if x.shape[1:] != first.shape[1:] or not np.can_cast(x.dtype, first.dtype, how):
                raise InputError(
                    f"{key} must have one shape and type in all episodes, "
                    f"{first.shape[1:]} of {first.dtype}, got {x.shape[1:]} of {x.dtype}"
                )
            with _spare_disk():
                file.write(x.astype(first.dtype).tobytes())
        self.length += len(batch.rewards)

    def columns(self) -> Batch:
        if self.first is None:
            raise InputError("data must hold at least one transition, got none")
        columns = []
        for file, first in zip(self.files, self.first, strict=True):
            with _spare_disk(), file:
                file.flush()
                columns.append(mapped(file, first.dtype, (self.length, *first.shape[1:]), "C"))
        return Batch(*columns)
