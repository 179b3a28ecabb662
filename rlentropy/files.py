"""Files of ours: written whole or not at all, opened whole or refused in one line.

Whatever a folder holds may be cut short, flipped, swapped, or somebody else's. Readers here look at
sizes before they unpack, compare checksums, never unpickle, and raise one `InputError` that names
the file and what is wrong with it. What the content means is for the caller to check.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import lzma
import os
import re
import struct
import sys
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rlentropy.errors import InputError, OutputError

TEMPORARY = ".tmp-"  # prefix of files that an interrupted write leaves behind
LARGEST = 2**31  # bytes that a file may unpack to
LARGEST_JSON = 2**26  # bytes
CHUNK = 2**24  # bytes read at once

BROKEN = (  # what json, zipfile, numpy and the disk make of damaged files
    *(
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        struct.error,
        EOFError,
        RecursionError,
        MemoryError,
    ),
    *(OSError, RuntimeError, ValueError, KeyError, TypeError, IndexError, SyntaxError),
    *(AttributeError, NotImplementedError, OverflowError),
)


# ---------------------------------------------------------------- writing


WRITABLE = "out must be a writable folder with free space"


@contextmanager
def writing(path: Path, must: str = WRITABLE) -> Iterator[None]:
    """Turn a failed write into one clear error, of the option that `must` names."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{must}, got {error.strerror or error} writing {path}") from error


def replace_file(path: Path, content: bytes, must: str = WRITABLE) -> None:
    """Write a file so that its old or its new content is there at every instant."""
    temporary = path.with_name(TEMPORARY + path.name)
    with writing(path, must):
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def pack(arrays: Mapping[str, Any], compressed: bool = False, small: bool = False) -> bytes:
    """Arrays as the bytes of an .npz file, the same bytes for the same arrays.

    Args:
        small: compressed better, for which all takes some times as long.
    """
    buffer = io.BytesIO()
    if small:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
            for name, array in arrays.items():
                member = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
                member.compress_type = zipfile.ZIP_LZMA
                with archive.open(member, "w", force_zip64=True) as file:
                    npy.write_array(file, np.asarray(array), allow_pickle=False)
    else:
        (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def csv_table(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows with the columns of the first; no cell of text is a formula to a spreadsheet."""

    def cell(value: Any) -> Any:
        formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
        return f"'{value}" if formula else value

    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


# ---------------------------------------------------------------- names


def plain(text: object, most: int | None = None) -> str:
    """Text that can't steer a terminal or break a line: ? for what isn't printable.

    Args:
        most: characters; a longer text loses its middle.
    """
    shown = "".join(c if c.isprintable() or c == " " else "?" for c in str(text))
    if most is None or len(shown) <= most:
        return shown
    return f"{shown[: most - most // 3 - 1]}…{shown[len(shown) - most // 3 :]}"


def file_names(names: Iterable[str]) -> dict[str, str]:
    """A file name for each text: portable, none like another, none that leads out of its folder."""
    files: dict[str, str] = {}
    for name in names:
        letters = unicodedata.normalize("NFKC", name)
        base = re.sub(r"[^\w.+-]+", "-", letters).strip("-.")[:60] or "unnamed"
        file, k = base, 1
        while file.casefold() in {other.casefold() for other in files.values()}:
            file, k = f"{base}-{k + 1}", k + 1
        files[name] = file
    return files


# ---------------------------------------------------------------- reading


class Unreadable(InputError):
    """A file of a run that is damaged, or none of ours."""

    def __init__(self, path: Path, why: object) -> None:
        kind = f"{type(why).__name__}: " if isinstance(why, Exception) else ""
        self.why = plain(f"{kind}{why}")
        super().__init__(plain(f"run must hold a readable {path.name}, got {path}: {self.why}"))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes of its reader into one clear error.

    Raises:
        FileNotFoundError: there is no such file, which callers may allow.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError("no file")
        yield
    except (InputError, FileNotFoundError):
        raise
    except BROKEN as error:
        raise Unreadable(path, error) from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: the file holds anything else.
        FileNotFoundError: there is none.
    """
    with reading(path):
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError(f"{path.stat().st_size} bytes are too many")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"an object was expected, not {type(content).__name__}")
        return content


@contextmanager
def unzipping(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive, whose members are all different and not larger than `LARGEST` together."""
    with reading(path), zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        if len(sizes) < len(archive.infolist()):
            raise ValueError("a member comes twice")
        if sum(sizes.values()) > LARGEST:
            size = f"{sum(sizes.values()) / 2**30:.3g} GiB"
            raise ValueError(f"it unpacks to {size}, more than {LARGEST / 2**30:g}")
        yield archive


def read_arrays(
    path: Path, only: Collection[str] | None = None, optional: Collection[str] = ()
) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file.

    Args:
        only: their names; default: all.
        optional: those of them that may be missing.

    Raises:
        InputError: the file is damaged, too large, or has Python objects, or lacks a name.
        FileNotFoundError: there is none.
    """
    with unzipping(path) as archive:
        arrays = {}
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if only is None or name in only:
                with archive.open(info) as member:
                    arrays[name] = _array(member, info.file_size)
                    if member.read(1):
                        raise ValueError(f"{name} is longer than it says")
        if missing := set(only or ()) - set(optional) - set(arrays):
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
        return arrays


def _array(member: Any, size: int) -> NDArray[Any]:
    headers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    shape, fortran, dtype = headers[npy.read_magic(member)](member)
    count = 1
    for axis in shape:  # in Python's integers, which don't overflow
        count *= int(axis)
    if dtype.hasobject or count < 0 or count * dtype.itemsize != size - member.tell():
        raise ValueError("an array is not as long as it says, or not of numbers")
    if not count * dtype.itemsize:
        return np.empty(shape, dtype)
    content = np.empty(count * dtype.itemsize, np.uint8)
    for k in range(0, content.size, CHUNK):
        piece = member.read(min(CHUNK, content.size - k))
        content[k : k + len(piece)] = np.frombuffer(piece, np.uint8)
    return content.view(dtype).reshape(shape, order="F" if fortran else "C")


def read_tensors(path: Path) -> dict[str, Any]:
    """What `torch.save` wrote of a dictionary of tensors, numbers, texts and lists of them.

    Raises:
        InputError: the file is damaged, which torch doesn't notice, or holds anything else, or
            numbers that are not finite.
        FileNotFoundError: there is none.
    """
    with unzipping(path) as archive:
        if (name := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {name} differs")
    import torch

    def check(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            storage = value.untyped_storage().nbytes()
            if value.layout != torch.strided or value.nbytes > storage:
                raise ValueError("a tensor is longer than its numbers")
            if not bool(torch.isfinite(value).all()):
                raise ValueError("some numbers are not finite")
        elif isinstance(value, list | tuple):
            for part in value:
                check(part)
        elif not isinstance(value, int | float | str | None):
            raise ValueError(f"it holds {type(value).__name__}")

    with reading(path):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except InputError:
            raise
        except Exception as error:  # torch raises a dozen kinds
            raise ValueError(str(error).splitlines()[0] if str(error) else repr(error)) from None
        if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
            raise ValueError("named tensors were expected")
        for value in content.values():
            check(value)
        return content


def check_fields(saved: Mapping[str, Any], kinds: Mapping[str, type | tuple[type, ...]]) -> None:
    """Refuse what `read_tensors` gave where a name is missing or of another kind."""
    for name, kind in kinds.items():
        if name not in saved or not isinstance(saved[name], kind):
            came = f"{type(saved[name]).__name__} as {name}" if name in saved else f"no {name}"
            raise InputError(f"policy.pt must be of the run's command, got one with {came}")


def sum_of(content: Mapping[str, Any]) -> int:
    """A checksum of arrays, names, shapes and types among it, and of what JSON can hold."""
    total = 0
    for name in sorted(content):
        value = content[name]
        if isinstance(value, np.ndarray):
            total = zlib.crc32(f"{name} {value.dtype.str} {value.shape}".encode(), total)
            total = zlib.crc32(np.ascontiguousarray(value).view(np.uint8).ravel().data, total)
        else:
            total = zlib.crc32(f"{name} {json.dumps(value)}".encode(), total)
    return total


def sum_of_file(path: Path, begin: int, end: int, total: int = 0) -> int:
    """CRC-32 of a part of a file, given that of what comes before."""
    with path.open("rb") as file:
        file.seek(begin)
        while (left := end - file.tell()) > 0 and (piece := file.read(min(left, 2**20))):
            total = zlib.crc32(piece, total)
    return total


# ---------------------------------------------------------------- memory


def available_memory() -> int:
    """Bytes of memory that are free, by the system's estimate and the container's limit."""
    with suppress(OSError, ValueError, IndexError):
        text = Path("/proc/meminfo").read_text()
        free = int(text.split("MemAvailable:")[1].split()[0]) * 1024
        with suppress(OSError, ValueError):  # "max" is no limit
            group = Path("/sys/fs/cgroup")
            limit = int((group / "memory.max").read_text())
            free = min(free, limit - int((group / "memory.current").read_text()))
        return free
    return 2**40  # nobody says: leave it to the allocation


def size_text(size: int) -> str:
    """Bytes for people."""
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{size / 2**20:.3g} MiB"


# ---------------------------------------------------------------- one process a folder


@contextmanager
def locked(file: Path, what: str, folder: Path) -> Iterator[None]:
    """Hold a place for this process alone, until the block or the process ends, however it ends.

    Args:
        file: the lock, which holds the process's number; removed in the end. Its folders are made,
            and removed where nothing was put into them.
        what: the option that named the place.
        folder: the place.

    Raises:
        InputError: another process holds it.
    """
    new = [p for p in file.parents if not os.path.exists(p)]  # of a name that is too long, too
    descriptor = _take(file, what, folder)
    try:
        yield
    finally:
        if descriptor is not None:
            with suppress(OSError):
                file.unlink()  # before it is let go, so that nobody holds a file that is gone
            with suppress(OSError):
                os.close(descriptor)
        with suppress(OSError):  # where something was written there
            for empty in new:
                empty.rmdir()


def _take(file: Path, what: str, folder: Path) -> int | None:
    """A descriptor that holds the lock; None where nothing can be written, or locked."""
    vanished = 0
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:  # whoever writes there says so
            vanished += 1
            if isinstance(error, FileNotFoundError) and vanished < 10:
                continue  # another process has just removed a folder that was empty
            return None
        try:
            _lock(descriptor)
            if os.path.samestat(os.fstat(descriptor), os.stat(file)):
                os.ftruncate(descriptor, 0)
                with suppress(OSError):  # a full disk
                    os.write(descriptor, str(os.getpid()).encode())
                return descriptor
        except FileNotFoundError:  # its holder has just ended, and removed it
            pass
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                number = os.read(descriptor, 20).decode("ascii", "replace")
                who = f"process {number}" if number.isdigit() else "another process"
                os.close(descriptor)
                raise InputError(
                    f"{what} must not be in use, got {folder}, where {who} writes"
                ) from None
            os.close(descriptor)
            note = (
                f"note: {folder} can't be locked ({error.strerror}); let nothing else write there"
            )
            print(plain(note), file=sys.stderr)
            return None
        os.close(descriptor)


def holder_of(file: Path) -> int | None:
    """The process that holds a place, by its lock; 0 where it isn't known, None where nobody does.

    A place is not taken to find out unless the process that held it last lives, so that nobody who
    wants it at this instant is refused.
    """
    try:
        with file.open("rb+") as lock:
            number = lock.read(20)
            pid = int(number) if number.isdigit() else 0
            if pid and not lives(pid):
                return None
            try:
                _lock(lock.fileno())
            except OSError:
                return pid
    except OSError:
        return None
    return None


def lives(pid: int) -> bool:
    """Whether there is a process of this number; on Windows nobody says no."""
    if sys.platform != "win32":
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except OSError:  # another user's
            return True
    return True


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, 2**20, os.SEEK_SET)  # a byte that nobody reads
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
