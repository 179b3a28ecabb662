"""What a person sees of a command, and what the shell gets of it: its exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rlentropy.commands.answers import Pace, rows
from rlentropy.errors import InputError, InputWarning
from rlentropy.files import plain

EVERY = 30.0  # seconds between lines of progress, at most
PATIENCE = 5.0  # seconds until a run that says nothing is taken to have begun
TOO_LARGE = ("can't allocate memory", "Maximum allowed dimension", "array is too big")  # of arrays


def exit_code(command: Callable[[], int]) -> int:
    """Run a command; its exit code, or for what ends it in an error that isn't ours a line.

    Returns:
        What the command does, 2 for wrong input, 130 where it was interrupted.
    """
    try:
        with warnings_as_lines():
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
        if speaks():
            print("error:", plain(" ".join(refusal.split())), file=sys.stderr)
        return 2


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Show each warning of ours once, as a line on standard error, where quiet too."""
    told: set[str] = set()
    others = warnings.showwarning

    def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, InputWarning):
            others(message, category, *place, **more)
        elif str(message) not in told:
            told.add(str(message))
            print("warning:", plain(" ".join(str(message).split())), file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", InputWarning)
        warnings.showwarning = show
        yield


def speaks() -> bool:
    """Whether this process says what is wrong: of those that torchrun starts, one a machine."""
    from rlentropy.log import ranks

    return ranks.started().local == 0


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
        self.waiting: list[str] = []

    def opening(self, text: str) -> None:
        """A line for when the work has begun: not of what is refused at once."""
        self.waiting.append(text)

    def begin(self) -> None:
        """Show the opening lines, once."""
        while self.waiting:
            text = self.waiting.pop(0)
            if not self.quiet:
                print(plain(text), flush=True)

    def line(self, text: str) -> None:
        self.begin()
        if not self.quiet:
            print(plain(text), flush=True)

    def table(self, summary: dict[str, Any]) -> None:
        """A summary, the answer first; without what doesn't apply."""
        self.begin()
        if self.quiet:
            return
        found = rows(summary)
        width = max((len(name) for name, _ in found), default=0) + 2
        for name, value in found:
            print(plain(f"  {name:{width}}{value}"))

    @contextlib.contextmanager
    def progress(self, log: Any, pace: Pace) -> Iterator[None]:
        """Show the log's progress: a bar on a terminal, lines elsewhere."""
        if self.quiet or self.talks:
            self.begin()
            yield
            return
        show = Lines(log, pace, self.line)
        opening = threading.Timer(PATIENCE, self.begin)
        opening.daemon = True
        opening.start()
        if not sys.stdout.isatty():
            show.begin()
        try:
            with self._bar() if sys.stderr.isatty() else contextlib.nullcontext() as bar:

                def on_progress(done: int, total: int) -> None:
                    self.begin()
                    show(done, total, bar)

                log.on_progress = on_progress
                yield
        finally:
            opening.cancel()
            opening.join()
            show.end()

    @staticmethod
    @contextlib.contextmanager
    def _bar() -> Iterator[Callable[[int, int, str], None]]:
        from rich.console import Console as Terminal
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (BarColumn(), TextColumn("{task.description}", markup=False))
        with Progress(*columns, console=Terminal(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None)
            yield lambda done, total, text: bar.update(
                task, completed=done, total=total, description=text
            )


class Lines:
    """Lines of progress off a terminal: at each evaluation, and at least every 30 seconds."""

    def __init__(self, log: Any, pace: Pace, say: Callable[[str], None]) -> None:
        self.log, self.pace, self.say = log, pace, say
        self.last: tuple[int, int, set[int]] | None = (
            None  # where it is, and the steps of evaluations
        )
        self.told = time.monotonic()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._clock: threading.Thread | None = None

    def begin(self) -> None:
        """Start a clock of our own, as a single step may take longer than that."""
        self._clock = threading.Thread(target=self._watch, daemon=True)
        self._clock.start()

    def end(self) -> None:
        self._over.set()
        if self._clock is not None:
            self._clock.join()

    def __call__(self, done: int, total: int, bar: Callable[[int, int, str], None] | None) -> None:
        latest = dict(getattr(self.log, "latest", {}))
        with self._lock:
            text = self.pace.line(done, total, latest)
            steps = {step for step, _ in latest.values()}
            news = self.last is None or self.last[2] != steps or done == total
            self.last = (done, total, steps)
            if self._clock is not None and news:
                self._say(text)
        if bar is not None:
            bar(done, total, text)

    def _watch(self) -> None:
        while not self._over.wait(max(0.0, self.told + EVERY - time.monotonic())):
            with self._lock:
                if time.monotonic() < self.told + EVERY:
                    continue
                latest = dict(getattr(self.log, "latest", {}))
                where = self.last
                done = where and self.pace.line(where[0], where[1], latest)
                self._say(done or "nothing is done yet")

    def _say(self, text: str) -> None:
        self.told = time.monotonic()
        self.say(text)


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """A table as text, its columns as wide as what they hold."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
