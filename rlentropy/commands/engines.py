"""Where the runs of a sweep run: an engine takes jobs, and tells how far they are and how they end.

A run is one command line with --resume, in a folder of its own, and needs nothing else. So an
engine may run it anywhere that sees the folder, or gets its files, as often as it takes.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

from rlentropy.commands.answers import Pace
from rlentropy.commands.console import exit_code
from rlentropy.commands.train import train
from rlentropy.files import holder_of
from rlentropy.runs.folder import LOCK

GRACE = 30.0  # seconds in which a run saves a checkpoint when the sweep is gone
TICK = 0.5  # seconds between events, at most
TELLING = 1.0  # seconds between what a run says of itself, at least


@dataclass(frozen=True)
class Job:
    """One run to be."""

    command: str
    env_id: str
    label: str
    seed: int
    folder: Path
    argv: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.env_id} {self.label} seed {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    job: Job
    state: str  # done, skipped, failed; stopped, as it was told to; died: its process or machine
    why: str  # one line, empty unless it failed or died
    output: str  # what it printed
    seconds: float


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    job: Job
    where: str  # the worker
    share: float  # of its budget, in [0, 1]
    text: str  # a line such as `Pace` writes; empty at first


Event = Outcome | Progress | None  # None: nothing new, a tick
Events = Generator[Event, None, None]
Take = Callable[[], Job | None]  # the next job; None: none now
Tell = Callable[[float, str], bool]  # share and text; whether the run shall go on


class Engine(Protocol):
    """Runs jobs, side by side."""

    asked: set[Job]  # those that `stop` was called for

    def run(self, take: Take) -> Events:
        """What happens, as it does, and a tick at least every `TICK` seconds.

        It ends when no run is under way and `take` has none. Closing it stops the runs under way,
        at a checkpoint.
        """

    def stop(self, job: Job) -> None:
        """Stop a run, at a checkpoint; its outcome is "stopped" unless it ended before."""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def persistent(engine: Engine, take: Take, retries: int, say: Callable[[str], None]) -> Events:
    """The events of an engine, where a run whose process dies is taken up again so often.

    One that was stopped by somebody else is taken up again, too. A run that dies once more has
    failed.
    """
    again: deque[Job] = deque()
    deaths: Counter[Job] = Counter()
    with contextlib.closing(engine.run(lambda: again.popleft() if again else take())) as events:
        for event in events:
            if not isinstance(event, Outcome) or event.state not in ("died", "stopped"):
                yield event
                continue
            job = event.job
            if job in engine.asked:
                yield replace(event, state="stopped")
                continue
            deaths[job] += 1
            why = event.why or "told to stop by another process"
            if deaths[job] <= retries:
                say(f"{job}: {why}; taken up again, {deaths[job]} of {retries} times")
                again.append(job)
                yield None
            else:
                times = f" ({deaths[job]} times)" if retries else ""
                yield replace(event, state="failed", why=why + times)


# ---------------------------------------------------------------- processes on this machine


class LocalEngine:
    """Processes on this machine, each of which takes one run after another.

    Args:
        workers: how many processes, each with one thread.
    """

    def __init__(self, workers: int) -> None:
        self.limit = workers
        self.asked: set[Job] = set()
        self.workers: list[Worker] = []

    def run(self, take: Take) -> Events:
        """As `Engine.run` says."""
        try:
            while True:
                while (worker := self._free()) is not None and (job := take()) is not None:
                    yield worker.give(job)
                busy = {w.connection: w for w in self.workers if w.job is not None}
                if not busy:
                    return
                for connection in wait(list(busy), TICK):
                    assert isinstance(connection, Connection)
                    yield busy[connection].event()
                yield None
        finally:
            stop(self.workers)

    def _free(self) -> Worker | None:
        """A worker without a run, if there may be one more."""
        idle = [worker for worker in self.workers if worker.job is None]
        if not idle and len(self.workers) < self.limit:
            idle = [Worker(f"worker {len(self.workers) + 1}")]
            self.workers += idle
        return idle[0] if idle else None

    def stop(self, job: Job) -> None:
        """As `Engine.stop` says."""
        self.asked.add(job)
        for worker in self.workers:
            if worker.job == job:
                worker.process.terminate()


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

    def __init__(self, name: str) -> None:
        self.name = name
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

    def give(self, job: Job) -> Progress:
        self.job, self.began = job, time.monotonic()
        with contextlib.suppress(OSError):  # it died idle; `event` will tell
            self.connection.send(job.argv)
        return Progress(job, self.name, 0.0, "")

    def event(self) -> Event:
        """What the worker says, once the connection is readable; a dead one is replaced."""
        assert self.job is not None
        job, output = self.job, ""
        try:
            said = self.connection.recv()
            if isinstance(said[1], float):
                return Progress(job, self.name, *said[1:])
            state, why, output = said
        except (EOFError, OSError):
            self.process.join()
            state, why = "died", reason(self.process.exitcode, "")
            self._start()
        self.job = None
        return Outcome(job, state, why, output, time.monotonic() - self.began)

    def stop(self) -> None:
        """End it: at once where idle, else when the run has saved a checkpoint."""
        if self.job is not None:
            self.process.terminate()
        self.connection.close()


def serve(connection: Connection) -> None:
    """What a worker does: receive a command line, run it, answer, until the other end closes."""
    if hasattr(os, "setsid"):
        os.setsid()  # a terminal's Ctrl-C is for the sweep, which then tells each worker once
    Thread(target=end_with_parent, daemon=True).start()

    def tell(share: float, text: str) -> bool:
        with contextlib.suppress(OSError):  # the sweep is gone; `end_with_parent` sees to it
            connection.send(("", share, text))
        return True

    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send(execute(connection.recv(), tell))


def end_with_parent() -> None:
    """Wait for the sweep to die, and then end this process, after a checkpoint if that is soon."""
    if (parent := parent_process()) is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)  # what a run takes for Ctrl-C; without a run, the end
        time.sleep(GRACE)
        os._exit(1)


# ---------------------------------------------------------------- one run, wherever it is


def execute(argv: Sequence[str], tell: Tell) -> tuple[str, str, str]:
    """Run a command line in this process: how it ended, why it failed, and what it printed."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    folder = Path(argv[argv.index("--out") + 1])
    wait_for(folder)
    before, printed = modified(folder), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            watch = reporting(argv[0], tell)
            code = exit_code(lambda: train(argv[0], list(argv[1:]), watch))
        except BaseException:
            traceback.print_exc()
            code = 1
    output = printed.getvalue()
    if code == 130:
        return "stopped", "", output
    if code:
        return "failed", reason(code, output), output
    unchanged = before is not None and before == modified(folder)
    return "skipped" if unchanged else "done", "", output


def reporting(command: str, tell: Tell) -> Callable[[Any], None]:
    """What hooks a run's log up, so that it says now and then how far the run is."""

    def watch(log: Any) -> None:
        pace, told = Pace(command), -TELLING

        def progress(done: int, total: int) -> None:
            nonlocal told
            text = pace.line(done, total, dict(log.latest))
            if time.monotonic() - told >= TELLING:
                told = time.monotonic()
                if not tell(done / max(total, 1), text):
                    log.interrupted = True

        log.on_progress = progress

    return watch


def wait_for(folder: Path) -> None:
    """Let the process of a sweep that was killed leave a folder, which it does within `GRACE`."""
    end = time.monotonic() + GRACE + 5.0
    while holder_of(folder / LOCK) is not None and time.monotonic() < end:
        time.sleep(0.2)


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
