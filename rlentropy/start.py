"""What Ctrl-C does while modules load, before the command line can answer it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


def is_ours() -> bool:
    """Whether the program is `rlentropy` or `train.py`, not one that imports the package."""
    return Path(sys.argv[0] if sys.argv else "").name in ("rlentropy", "rlentropy.exe", "train.py")


def leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)


@contextmanager
def loading(ours: bool = True) -> Iterator[None]:
    """Let Ctrl-C end our programs at once: some modules swallow an exception while they load.

    Nothing is written yet.
    """
    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not (ours and main and callable(before)):  # ignored, as in the background of a script
        yield
        return
    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
