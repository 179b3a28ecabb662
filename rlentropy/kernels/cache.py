"""Compiled functions, and the machine code that they keep on disk.

The cache lies where numba's own rules put it (NUMBA_CACHE_DIR, beside the source, in the home),
else in a private folder for temporary files; where none of these can be written, there is none.
Machine code holds that of the functions it calls, which numba forgets: it is stamped here with the
sources of all of them. Processes that need the same function at once wait for one to compile it.
"""

import os
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from inspect import getfile
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import event
from numba.core.caching import FunctionCache

try:
    import fcntl
except ImportError:  # no POSIX: processes may compile a function twice
    fcntl = None  # type: ignore[assignment]

Function = TypeVar("Function", bound=Callable[..., Any])


@cache
def checksum(*files: str) -> int:
    """Of the sources in this folder, and of the files given."""
    rooms = sorted(map(str, Path(__file__).parent.glob("*.py")))
    return zlib.crc32(b"".join(Path(file).read_bytes() for file in (*rooms, *files)))


def signed(value: Any) -> Any:
    """What a function that is closed over is called, and the code that it holds."""
    function = getattr(value, "py_func", None)
    if function is None:
        return value
    held = [signed(cell.cell_contents) for cell in function.__closure__ or ()]
    return function.__module__, function.__qualname__, checksum(getfile(function)), tuple(held)


class Cache(FunctionCache):  # type: ignore[misc]
    """Machine code on disk; what can't be read is compiled again, what can't be written is lost."""

    def __init__(self, function: Callable[..., Any], options: Any) -> None:
        super().__init__(function)
        self._options = tuple(sorted(options.items()))
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file._source_stamp = stamp, checksum()
        self._lock: int | None = None  # file descriptor

    def load_overload(self, signature: Any, target: Any) -> Any:
        code = self._load(signature, target)
        if code is None and self._claim(signature):
            code = self._load(signature, target)  # another process may have made it meanwhile
            if code is not None:
                self._release(signature)
        return code

    def save_overload(self, signature: Any, code: Any) -> None:
        with suppress(OSError):  # a full disk, a folder that can't be written any more
            super().save_overload(signature, code)
        self._release(signature)

    def _load(self, signature: Any, target: Any) -> Any:
        try:
            return super().load_overload(signature, target)
        except Exception:  # whatever a damaged index, or code of another machine, makes of pickle
            with suppress(Exception):
                self.flush()  # or it would stay damaged
            return None

    def _index_key(self, signature: Any, codegen: Any) -> Any:
        cells = self._py_func.__closure__ or ()
        held = tuple(signed(cell.cell_contents) for cell in cells)
        code = zlib.crc32(self._py_func.__code__.co_code)
        return signature, codegen.magic_tuple(), self._options, code, held

    # One file is locked byte by byte, a function a byte: those that call each other are compiled
    # from the caller down, so that no two processes wait for each other.

    def _claim(self, signature: Any) -> bool:
        """Wait until no other process compiles this; False where that can't be told."""
        if fcntl is None:
            return False
        with suppress(OSError):
            if self._lock is None:
                self._impl.locator.ensure_cache_path()
                self._lock = lock_file(self._cache_path)
            fcntl.lockf(self._lock, fcntl.LOCK_EX, 1, self._place(signature))
            return True
        return False

    def _release(self, signature: Any) -> None:
        if self._lock is not None:
            with suppress(OSError):
                fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, self._place(signature))

    def _place(self, signature: Any) -> int:
        return zlib.crc32(f"{self._impl.filename_base} {signature}".encode()) >> 1


@cache
def lock_file(folder: str) -> int:
    """Opened once: closing it would give up all locks of this process."""
    return os.open(Path(folder, "rlentropy.lock"), os.O_RDWR | os.O_CREAT, 0o600)


def cached(dispatcher: Any) -> Any:
    """Let a function of numba's keep its machine code on disk, if there is a place."""
    config = numba.config
    if config.DISABLE_JIT:
        return dispatcher
    try:
        options = dispatcher.targetoptions
        dispatcher._cache = Cache(dispatcher.py_func, options)  # as njit(cache=True)
    except RuntimeError:  # no folder of numba's can be written
        folder = private_folder()
        if folder is not None and config.CACHE_DIR != str(folder):
            config.CACHE_DIR = str(folder)
            return cached(dispatcher)
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


# A division by zero gives inf, as in numpy. Each kind of function says whether it counts references
# to arrays (_nrt), since callees would else do as their first caller does.
PLAIN: dict[str, Any] = {"no_cfunc_wrapper": True, "error_model": "numpy"}


def compiled(function: Function) -> Function:
    """Compile on first call and keep the machine code on disk."""
    return cast(Function, cached(numba.njit(_nrt=True, **PLAIN)(function)))


def inner(function: Function) -> Function:
    """As `compiled`, for compiled callers alone: what Python needs for a call is left out.

    A call from Python would end the process; `called_from_python` is for that.
    """
    return cast(Function, cached(numba.njit(_nrt=True, no_cpython_wrapper=True, **PLAIN)(function)))


@cache
def called_from_python(function: Function) -> Function:
    """An `inner` function once more, for the few callers that aren't compiled."""
    return compiled(function.py_func)  # type: ignore[attr-defined,no-any-return]


def inlined(function: Function) -> Function:
    """Compile into each caller, for what runs once a row: a call with arrays takes about 60 ns."""
    return cast(Function, cached(numba.njit(inline="always", **PLAIN)(function)))


def borrowing(function: Function) -> Function:
    """As `compiled`, for loops that make no arrays, so that none needs to be counted.

    Counting takes longer than the arithmetic of a short row, and much of the compiler's time.
    """
    return cast(Function, cached(numba.njit(_nrt=False, **PLAIN)(function)))


def piece(function: Function) -> Function:
    """As `inner`, for what `borrowing` loops run once a row: it becomes part of their own code."""
    options = PLAIN | {"forceinline": True, "no_cpython_wrapper": True}
    return cast(Function, cached(numba.njit(_nrt=False, **options)(function)))


class Compilation(event.Listener):  # type: ignore[misc]
    """Seconds spent in the compiler; `announce` is called when it first has something to do."""

    def __init__(self, announce: Callable[[], None]) -> None:
        self.announce, self.seconds = announce, 0.0
        self._depth, self._began = 0, 0.0

    def on_start(self, event: Any) -> None:
        if self._depth == 0:
            if self.seconds == 0.0:
                self.announce()
            self._began = time.perf_counter()
        self._depth += 1

    def on_end(self, event: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.seconds += time.perf_counter() - self._began


@contextmanager
def compilation(announce: Callable[[], None] = lambda: None) -> Iterator[Compilation]:
    """Time what is compiled inside; loading from the cache is not compiling."""
    listener = Compilation(announce)
    with event.install_listener("numba:compile", listener):
        yield listener
