"""The console script: it answers Ctrl-C before anything slow is imported."""

import os
import signal
from types import FrameType


def leave(number: int, frame: FrameType | None) -> None:
    """End the process at once: nothing is written yet, and imports may swallow an exception."""
    os.write(2, b"interrupted\n")
    os._exit(130)


def main() -> int:
    before = signal.getsignal(signal.SIGINT)
    if callable(before):  # not where it is ignored, as in the background of a script
        signal.signal(signal.SIGINT, leave)
    from rlentropy.cli import main

    signal.signal(signal.SIGINT, before)
    return main()
