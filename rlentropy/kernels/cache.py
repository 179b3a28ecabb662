"""Compiled functions, and the machine code that they keep on disk.

The cache lies where numba's own rules put it (NUMBA_CACHE_DIR, beside the source, in the home),
else in a private folder for temporary files; where none of these can be written, there is none.
"""

import os
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache

Function = TypeVar("Function", bound=Callable[..., Any])


@cache
def sources() -> int:
    """A checksum of all rooms: code holds that of the functions it calls, which numba forgets."""
    rooms = sorted(Path(__file__).parent.glob("*.py"))
    return zlib.crc32(b"".join(room.read_bytes() for room in rooms))


class Cache(FunctionCache):  # type: ignore[misc]
    """Machine code on disk; what can't be read is compiled again, what can't be written is lost."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = self._impl.locator.get_source_stamp(), sources()

    def load_overload(self, signature: Any, target: Any) -> Any:
        try:
            return super().load_overload(signature, target)
        except Exception:  # whatever a damaged index, or code of another machine, makes of pickle
            with suppress(Exception):
                self.flush()  # or it would stay damaged
            return None

    def save_overload(self, signature: Any, code: Any) -> None:
        with suppress(OSError):  # a full disk, a folder that can't be written any more
            super().save_overload(signature, code)


def kept(dispatcher: Any) -> Any:
    """Let a function of numba's keep its machine code on disk, if there is a place."""
    config = numba.config
    if config.DISABLE_JIT:
        return dispatcher
    try:
        dispatcher._cache = Cache(dispatcher.py_func)  # as njit(cache=True), with a class of ours
    except RuntimeError:  # no folder of numba's can be written
        folder = private_folder()
        if folder is not None and config.CACHE_DIR != str(folder):
            config.CACHE_DIR = str(folder)
            return kept(dispatcher)
    return dispatcher


def private_folder() -> Path | None:
    """A folder for temporary files that lasts, and that nobody else can put code into."""
    folder = Path(tempfile.gettempdir(), f"rlentropy-{os.getuid() if os.name == 'posix' else 0}")
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if os.name != "posix" or (status.st_uid == os.getuid() and status.st_mode == 0o40700):
            return folder
    return None


def compiled(function: Function) -> Function:
    """Compile on first call and keep the machine code on disk."""
    return cast(Function, kept(numba.njit(function)))


def inlined(function: Function) -> Function:
    """Compile into each caller, for what runs once a row: a call with arrays takes about 60 ns."""
    return cast(Function, kept(numba.njit(inline="always")(function)))
