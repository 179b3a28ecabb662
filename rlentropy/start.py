"""What Ctrl-C does while our own programs load, before the command line can answer it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

PROGRAMS = ("rlentropy", "rlentropy.exe", "train.py")


def leave(number: int, frame: FrameType | None) -> None:
    """End the process at once: nothing is written yet, and imports may swallow an exception."""
    os.write(2, b"interrupted\n")
    os._exit(130)


@contextmanager
def loading() -> Iterator[None]:
    """Ctrl-C ends `rlentropy` and `train.py` in one line; other programs keep their own answer."""
    before = signal.getsignal(signal.SIGINT)
    ours = Path(sys.argv[0] if sys.argv else "").name in PROGRAMS
    if not (ours and callable(before) and threading.current_thread() is threading.main_thread()):
        yield
        return
    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
