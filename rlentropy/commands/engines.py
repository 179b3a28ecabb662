"""Where the runs of a sweep run: an engine takes command lines, and tells how each ended.

A run is one command line with --resume, in a folder of its own, and needs nothing else. So an
engine may run it anywhere that sees the folder, as often as it takes.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Thread
from typing import Protocol

from rlentropy.commands.console import exit_code
from rlentropy.commands.train import train

GRACE = 30.0  # seconds in which a run saves a checkpoint when the sweep is gone


@dataclass(frozen=True)
class Job:
    """One run to be."""

    command: str
    env_id: str
    label: str
    seed: int
    folder: Path
    argv: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    job: Job
    state: str  # done, skipped, failed
    why: str  # one line, empty unless it failed
    output: str  # what it printed
    seconds: float


class Engine(Protocol):
    """Runs jobs, side by side."""

    def run(self, jobs: Sequence[Job]) -> Generator[Outcome, None, None]:
        """Outcomes as the runs end. Closing it stops the runs under way, at a checkpoint."""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ---------------------------------------------------------------- processes on this machine


class LocalEngine:
    """Processes on this machine, each of which takes one run after another.

    Args:
        workers: how many processes, each with one thread.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, jobs: Sequence[Job]) -> Generator[Outcome, None, None]:
        """As `Engine.run` says."""
        queue = deque(jobs)
        workers = [Worker() for _ in range(min(self.workers, len(jobs)))]
        try:
            for worker in workers:
                worker.give(queue.popleft())
            while busy := {w.connection: w for w in workers if w.job is not None}:
                for connection in wait(list(busy)):
                    assert isinstance(connection, Connection)
                    worker = busy[connection]
                    outcome = worker.take()
                    if queue:
                        worker.give(queue.popleft())
                    yield outcome
        finally:
            stop(workers)


def stop(workers: Sequence[Worker]) -> None:
    """End workers when what they run has saved a checkpoint; on a second Ctrl-C at once."""
    try:
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.process.join()
    except BaseException:
        for worker in workers:
            worker.process.kill()
        raise


class Worker:
    """A process that takes one run after another; a new one is started when it dies."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.began = 0.0
        self._start()

    def _start(self) -> None:
        method = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
        context = get_context(method)
        self.connection, far_end = context.Pipe()
        # A daemon is stopped with this process, whatever ends it in an orderly way.
        self.process = context.Process(target=serve, args=(far_end,), daemon=True)  # type: ignore[attr-defined]
        self.process.start()
        far_end.close()

    def give(self, job: Job) -> None:
        self.job, self.began = job, time.monotonic()
        with contextlib.suppress(OSError):  # it died idle; `take` will tell
            self.connection.send(job.argv)

    def take(self) -> Outcome:
        """The outcome of the run, once the connection is readable; a dead worker is replaced."""
        assert self.job is not None
        job, self.job = self.job, None
        try:
            code, state, output = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            code, state, output = self.process.exitcode, "failed", ""
            self._start()
        seconds = time.monotonic() - self.began
        why = "" if state != "failed" else reason(code, output)
        return Outcome(job, state, why, output, seconds)

    def stop(self) -> None:
        """End it: at once where idle, else when the run has saved a checkpoint."""
        if self.job is not None:
            self.process.terminate()
        self.connection.close()


def serve(connection: Connection) -> None:
    """What a worker does: receive a command line, run it, answer, until the other end closes."""
    if hasattr(os, "setsid"):
        os.setsid()  # a terminal's Ctrl-C is for the sweep, which then tells each worker once
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    Thread(target=end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send(execute(connection.recv()))


def end_with_parent() -> None:
    """Wait for the sweep to die, and then end this process, after a checkpoint if that is soon."""
    if (parent := parent_process()) is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)  # what a run takes for Ctrl-C; without a run, the end
        time.sleep(GRACE)
        os._exit(1)


def execute(argv: Sequence[str]) -> tuple[int, str, str]:
    """Run a command line; its exit code, how it ended, and what it printed."""
    out = argv[argv.index("--out") + 1]
    before, printed = modified(Path(out)), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code = exit_code(lambda: train(argv[0], list(argv[1:])))
        except BaseException:
            traceback.print_exc()
            code = 1
    unchanged = before is not None and before == modified(Path(out))
    state = "failed" if code else "skipped" if unchanged else "done"
    return code, state, printed.getvalue()


def modified(folder: Path) -> int | None:
    """When the summary of a run was written, in ns; None where there is none."""
    try:
        return (folder / "summary.json").stat().st_mtime_ns
    except OSError:
        return None


def reason(code: int | None, output: str) -> str:
    """Why a run failed, in a line: the signal that killed it, or the last line it printed."""
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else f"ended with exit code {code}"
