"""A person answers the questions of a campaign at the console, as a window of the page does.

Both take their questions from one queue, so that they can be used at once. A prompt that waits
sees that its question was answered elsewhere, that the process is to stop, and that the shell has
put it into the background, where reading the terminal would stop it.
"""

from __future__ import annotations

import math
import os
import select
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import zip_longest
from typing import Protocol

from rlentropy.files import plain
from rlentropy.preferences.export import SEPARATOR, Describe, as_text, text_of
from rlentropy.preferences.queue import Queue, Ticket
from rlentropy.preferences.store import Store

KEYS = {"l": "left", "r": "right", "t": "equal", "s": "skip"}
HELP = "l left is better, r right is better, t they are equal, s skip, u undo"
LEGEND = "a line a step: action -> state; on a board o is the start, * the way, @ the end"
PROMPT, WAITING = "l/r/t/s/u> ", "nothing to ask now; u undo> "
GAP = "   |   "
LOOK = 0.2  # seconds between looks at whether a prompt still counts

Condition = Callable[[], bool]


class Read(Protocol):
    """Gives a line for a prompt, or None once it is gone; raises EOFError at the end."""

    def __call__(self, prompt: str, gone: Condition) -> str | None: ...


class Window:
    """A window of a queue at the console: what it asks is leased to it.

    Args:
        labeller: who answers.
        describe: a segment as lines of text.
        holder: name of the window: nobody else's, and the same after a kill, so that the question
            that was shown is shown again; default: of its terminal, or of the labeller.
    """

    def __init__(
        self,
        queue: Queue,
        read: Read,
        *,
        labeller: str = "person",
        describe: Describe = as_text,
        show: Callable[[str], None] = print,
        holder: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queue, self.read, self.labeller = queue, read, labeller
        self.describe, self.show, self.clock = describe, show, clock
        self.holder = holder or f"console {terminal() or labeller}"
        self.begun = False  # whether the keys were explained
        self.given, self.last = 0, -math.inf  # answers, those undone left out; time of the last

    def ask(self, stay: Condition = lambda: False) -> None:
        """Show what waits for the labeller, one by one; each answer is on disk before the next.

        Args:
            stay: whether to wait for more where nothing is to be asked; the last answer can then
                be undone.

        Raises:
            EOFError: the input has ended; what was shown returns to the queue.
        """
        try:
            while (ticket := self._next()) is not None or stay():
                self._answer(ticket) if ticket is not None else self._wait(stay)
        except EOFError:
            self.queue.leave(self.holder)
            raise

    def _next(self) -> Ticket | None:
        return self.queue.next(self.holder, self.labeller)

    def _answer(self, ticket: Ticket) -> None:
        """Ask a question, until it is answered here or elsewhere."""
        store, begin = self.queue.store, self.clock()
        pending = len(store.pending(ticket.round))
        if not self.begun:
            self.begun = True
            self.show(f"{HELP}\n{LEGEND}")
        heading = f"-- {pending} left in round {ticket.round}, {store.count()} answered --"
        left, right = (
            text_of(store, digest, self.describe).replace(SEPARATOR, "\n\n")
            for digest in (ticket.left, ticket.right)
        )
        self.show("\n".join([heading, *side_by_side(left, right)]))
        key = self._key(PROMPT, lambda: not self.queue.waits(self.labeller, ticket))
        if key == "u":
            self._undo()
        elif key is not None:
            seconds = self.clock() - begin
            if self.queue.answer(self.labeller, ticket, KEYS[key], seconds):
                self.given, self.last = self.given + 1, self.clock()
                return
        if key != "u":
            self.show("answered elsewhere")

    def _wait(self, stay: Condition) -> None:
        """Wait for the next question, or for the last answer to be taken back."""
        if self._key(WAITING, lambda: not stay() or self._next() is not None) == "u":
            self._undo()

    def _undo(self) -> None:
        if self.queue.undo(self.holder, self.labeller) is None:
            self.show("there is nothing to undo")
        else:
            self.given -= 1

    def _key(self, prompt: str, gone: Condition) -> str | None:
        """The first letter of the first line that begins with one of ours; None once gone."""
        while (line := self.read(prompt, gone)) is not None:
            if (key := line.strip().lower()[:1]) == "u" or (key in KEYS and prompt == PROMPT):
                return key
            if prompt == PROMPT:
                self.show(HELP)
        return None


def side_by_side(left: str, right: str) -> Iterator[str]:
    """Two texts in two columns, or one below the other where the terminal is too narrow."""
    first, second = (
        [heading, *(plain(line) for line in text.splitlines())]
        for heading, text in (("LEFT", left), ("RIGHT", right))
    )
    width = max(map(len, first))
    if width + len(GAP) + max(map(len, second)) > shutil.get_terminal_size().columns:
        yield from [*first, "", *second]
        return
    for x, y in zip_longest(first, second, fillvalue=""):
        yield f"{x:{width}}{GAP}{y}".rstrip()


def terminal() -> str:
    """The name of the terminal that is read; empty where none is."""
    with suppress(OSError, ValueError, AttributeError):
        return os.ttyname(sys.stdin.fileno())
    return ""


class Lines:
    """Lines of standard input, a terminal, a pipe or a file.

    Args:
        stopped: whether the process is to end; a prompt then ends as the input does.
    """

    def __init__(self, stopped: Condition = lambda: False) -> None:
        self.stopped, self.ended, self.typed = stopped, False, b""
        self.descriptor = -1
        with suppress(OSError, ValueError, AttributeError):  # closed, or replaced
            self.descriptor = sys.stdin.fileno()
        self.terminal = self.descriptor >= 0 and os.isatty(self.descriptor)

    def open(self) -> bool:
        """Whether there may be a line, now or after some waiting."""
        if self.descriptor < 0:
            return False
        if self.terminal:
            return self._in_front() and not self.ended
        if not (self.ended or self.typed) and self._ready(0.0):
            self._take()
        return bool(self.typed) or not self.ended

    def __call__(self, prompt: str, gone: Condition) -> str | None:
        """A line without its end; None once `gone` says that it isn't wanted any more.

        Raises:
            EOFError: there is none, the process is to end, or is in the background.
        """
        print(prompt, end="", flush=True)
        while b"\n" not in self.typed and not self.ended:
            if self.stopped() or not self.open():
                break
            if gone():
                self._forget()
                return None
            if self._ready(LOOK):
                self._take()
        if self.stopped() or not self.typed:
            print(flush=True)
            raise EOFError
        line, _, self.typed = self.typed.partition(b"\n")
        return line.decode("utf-8", "replace").rstrip("\r")

    def _ready(self, seconds: float) -> bool:
        """Whether a read would not wait; Windows can't say it of a console."""
        if sys.platform == "win32":
            return True
        return bool(select.select([self.descriptor], [], [], seconds)[0])

    def _take(self) -> None:
        try:
            piece = os.read(self.descriptor, 4096)
        except OSError:  # a terminal that is gone, or another's
            piece = b""
        self.typed += piece
        self.ended = not piece

    def _in_front(self) -> bool:
        """Whether the terminal is ours to read, as far as the system knows of such things."""
        if sys.platform == "win32":
            return True
        try:
            return os.tcgetpgrp(self.descriptor) == os.getpgrp()
        except OSError:
            return False

    def _forget(self) -> None:
        """Drop what was typed for a question that is gone; what a pipe holds is for the next."""
        print(flush=True)
        if self.terminal and sys.platform != "win32":
            import termios

            self.typed = b""
            termios.tcflush(self.descriptor, termios.TCIFLUSH)


class Front:
    """Asks a person where a campaign trains; or says in a line who else can.

    Args:
        stopped: whether the process is to end.
        grace: seconds in which the last answer of a round can be undone at a terminal.
        describe: a segment as lines of text.
    """

    def __init__(
        self, stopped: Condition, grace: float = 0.0, describe: Describe = as_text
    ) -> None:
        self.lines, self.grace, self.describe = Lines(stopped), grace, describe
        self.window: Window | None = None
        self.told = -1  # the last round whose questions were said to wait

    def __call__(self, store: Store, round: int) -> int:
        """Ask what waits; how many answers were given."""
        if not self.lines.open():
            if self.told != round and not self.lines.stopped():
                self.told = round
                print(note(store, round), flush=True)
            return 0
        if self.window is None or self.window.queue.store is not store:
            self.window = Window(Queue(store), self.lines, describe=self.describe)
        window, before = self.window, self.window.given
        grace = self.grace if self.lines.terminal else 0.0  # a pipe's lines are for questions
        with suppress(EOFError):
            window.ask(lambda: window.clock() - window.last < grace)
        return max(0, window.given - before)


def note(store: Store, round: int) -> str:
    """That questions wait, and how they are answered."""
    n = len(store.pending(round))
    waiting = (
        f"{n} questions of round {round} wait" if n != 1 else f"1 question of round {round} waits"
    )
    if store.folder is None:
        return f"{waiting}, and nobody can answer them without a folder"
    folder = store.folder.parent if store.folder.name == "campaign" else store.folder
    return f"{waiting}; rlentropy label --campaign {shlex.quote(str(folder))} answers them"
