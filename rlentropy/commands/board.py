"""What is shown of a sweep: what runs where, how fast, and how long it will take."""

from __future__ import annotations

import contextlib
import itertools
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlentropy.commands.answers import clock
from rlentropy.commands.console import EVERY
from rlentropy.commands.engines import Job, Outcome, Progress
from rlentropy.files import plain, replace_file, writing

MOST_ROWS = 30  # of the table on a terminal


class Board:
    """A live table on a terminal, lines elsewhere, nothing where quiet.

    Args:
        total: runs, or whatever is counted.
        unit: what that is, in the plural.
    """

    def __init__(self, total: int, quiet: bool, unit: str = "runs") -> None:
        self.total, self.quiet, self.unit = total, quiet, unit
        self.ends = self.failures = 0
        self.running: dict[Job, Progress] = {}
        self.live: Any = None
        self._work = 0.0  # runs' worth that was done here, in whole runs and in parts
        self._before: dict[Job, float] = {}  # the share of a run that an earlier sweep did
        self._began = self._told = time.monotonic()

    # ---------------------------------------------------------------- what happens

    def began(self, progress: Progress) -> None:
        """A run begins, or goes on."""
        job = progress.job
        if progress.text and job not in self._before:
            self._before[job] = progress.share
        self.running[job] = progress
        self._show()

    def ended(self, outcome: Outcome, counts: bool = True) -> None:
        """A run has ended.

        Args:
            counts: whether it is one of the total.
        """
        job = outcome.job
        self.running.pop(job, None)
        before = self._before.pop(job, 0.0)
        if counts:
            self.ends += 1
            self._work += (1.0 - before) * (outcome.state != "skipped")
        self.failures += outcome.state == "failed"
        count = f"{self.ends}/{self.total} " if counts else ""
        self.line(f"{count}{job}: {outcome.state} ({outcome.seconds:.1f} s)", passing=True)
        self._show()

    def line(self, text: str, passing: bool = False) -> None:
        """Say something.

        Args:
            passing: it needn't be said where the table shows it.
        """
        if self.quiet:
            return
        if self.live is None:
            print(plain(text), flush=True)
        elif not passing:
            self.live.console.print(plain(text), markup=False)

    def remind(self) -> None:
        """Time passes: off a terminal, what runs where is told now and then."""
        if time.monotonic() >= self._told + EVERY:
            self._told = time.monotonic()
            if self.live is None:
                for text in (self.head(), *map("  ".join, self.rows())):
                    self.line(text)

    # ---------------------------------------------------------------- what is shown

    def head(self) -> str:
        """Such as ``3/40 runs, 1 failed, 2 running, ETA 1:03:00``."""
        parts = [f"{self.ends}/{self.total} {self.unit}"]
        parts += [f"{self.failures} failed"] if self.failures else []
        parts += [f"{len(self.running)} running"]
        partly = sum(p.share - self._before.get(j, p.share) for j, p in self.running.items())
        work = self._work + partly
        left = self.total - self.ends - sum(p.share for p in self.running.values())
        if work > 0.0 and left > 0.0:
            parts.append(f"ETA {clock(left / work * (time.monotonic() - self._began))}")
        return ", ".join(parts)

    def rows(self) -> list[tuple[str, str, str]]:
        """Worker, run, and how far it is, of everything that runs."""
        found = [(p.where, str(job), p.text or "begins") for job, p in self.running.items()]
        return [tuple(map(plain, row)) for row in sorted(found)]  # type: ignore[misc]

    @contextlib.contextmanager
    def showing(self) -> Iterator[None]:
        """Keep the table on the screen, if there is one."""
        if self.quiet or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True)
        with Live(console=console, transient=True, auto_refresh=False) as self.live:
            self._show()
            yield
        self.live = None

    def _show(self) -> None:
        if self.live is None:
            return
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        rows = self.rows()
        for row in rows[:MOST_ROWS]:
            table.add_row(*map(Text, row))
        more = [Text(f"and {len(rows) - MOST_ROWS} more")] if len(rows) > MOST_ROWS else []
        bar = ProgressBar(total=max(self.total, 1), completed=self.ends, width=40)
        self.live.update(Group(bar, Text(f" {self.head()}"), table, *more), refresh=True)


def write_failures(path: Path, failed: Sequence[Outcome]) -> None:
    """A table of what failed and why, and a file with all that those runs printed."""
    if not failed:
        with writing(path.parent):
            path.unlink(missing_ok=True)
        return
    rows = [("failed", "environment", "seed", "why")]
    rows += [(o.job.label, o.job.env_id, str(o.job.seed), o.why) for o in failed]
    widths = [max(map(len, column)) for column in itertools.islice(zip(*rows, strict=True), 3)]
    for *cells, why in rows:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        print(plain("  ".join([*padded, why])), file=sys.stderr)
    for folder in {o.job.folder for o in failed}:
        remove_empty(folder, path.parent)
    printed = (f"$ rlentropy {shlex.join(o.job.argv)}\n{o.output or o.why}\n" for o in failed)
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, "\n".join(printed).encode("utf-8", "backslashreplace"))
    print(f"what they printed: {path}", file=sys.stderr)


def remove_empty(folder: Path, within: Path) -> None:
    """Remove what a run that was refused left of its folder, and those above, if empty."""
    for place in (folder, *folder.parents):
        if place == within or within not in place.parents:
            return
        try:
            place.rmdir()
        except FileNotFoundError:
            continue
        except OSError:  # something is there
            return
