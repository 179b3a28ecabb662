"""What a person sees of a command, and what the shell gets of it: its exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from rlentropy.errors import InputError
from rlentropy.files import plain

TOO_LARGE = ("can't allocate memory", "Maximum allowed dimension", "array is too big")  # of arrays


def exit_code(command: Callable[[], int]) -> int:
    """Run a command; its exit code, or for what ends it in an error that isn't ours a line.

    Returns:
        What the command does, 2 for wrong input, 130 where it was interrupted.
    """
    try:
        code = command()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("interrupted; --resume goes on from the last checkpoint", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what Python still flushes at its end
        return 0
    except Exception as error:
        if (refusal := refusal_of(error)) is None:
            raise
        print("error:", plain(" ".join(refusal.split())), file=sys.stderr)
        return 2


def refusal_of(error: Exception) -> str | None:
    """The line for an error that isn't our bug: wrong input, or what the machine doesn't give."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MemoryError) or any(part in str(error) for part in TOO_LARGE):
        return f"memory must suffice for what was asked, got too little: {error}"
    if isinstance(error, ImportError) and not (error.name or "").startswith("rlentropy"):
        return f"the packages that rlentropy needs must be importable, got {error}"
    if isinstance(error, OSError):
        return f"files and folders must be usable, got {error}"
    return None


class Console:
    """What a person sees: lines and a table on standard output, a bar on standard error."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.talks = False  # whether a person is asked, over whose questions a bar would be drawn

    def line(self, text: str) -> None:
        if not self.quiet:
            print(plain(text), flush=True)

    def table(self, summary: dict[str, Any]) -> None:
        if self.quiet:
            return
        facts = {k: v for k, v in summary.items() if not isinstance(v, list)}
        facts |= {
            k: " to ".join(f"{end:.8g}" for end in summary[k])
            for k in summary
            if "ci95" in k and summary[k]
        }
        names = {k: v for k, v in summary.items() if v and isinstance(v, list)}
        facts |= {k: ", ".join(v) for k, v in names.items() if all(isinstance(x, str) for x in v)}
        width = max(map(len, facts)) + 2
        for name in summary:
            if name in facts:
                value = facts[name]
                shown = f"{value:.8g}" if isinstance(value, float) else value
                print(plain(f"  {name:{width}}{shown}"))

    @contextlib.contextmanager
    def progress(self, log: Any) -> Any:
        """Show the log's progress on a terminal."""
        if self.quiet or self.talks or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console as Terminal
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Terminal(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None)
            log.on_progress = lambda done, total: bar.update(task, completed=done, total=total)
            yield


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """A table as text, its columns as wide as what they hold."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
