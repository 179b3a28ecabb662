"""What a person sees."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Any

from rlentropy.files import plain


class Console:
    """What a person sees: lines and a table on standard output, a bar on standard error."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    def line(self, text: str) -> None:
        if not self.quiet:
            print(plain(text), flush=True)

    def table(self, summary: dict[str, Any]) -> None:
        if self.quiet:
            return
        facts = {k: v for k, v in summary.items() if not isinstance(v, list)}
        facts |= {
            k: " to ".join(f"{end:.8g}" for end in summary[k]) for k in summary if "ci95" in k
        }
        width = max(map(len, facts)) + 2
        for name in summary:
            if name in facts:
                value = facts[name]
                shown = f"{value:.8g}" if isinstance(value, float) else value
                print(plain(f"  {name:{width}}{shown}"))

    @contextlib.contextmanager
    def progress(self, log: Any) -> Any:
        """Show the log's progress on a terminal."""
        if self.quiet or not sys.stderr.isatty():
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
