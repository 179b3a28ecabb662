"""Runs as tasks of a Ray cluster: one that is started here, or one that `ray start --head` began.

A run writes in its folder where its machine sees the sweep's disk, which it knows by a marker that
lies there. Elsewhere it works in a folder for temporary files, and sends what is in it now and
then, and at the end. Whatever dies, the sweep's disk holds checkpoints to go on from.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from rlentropy.commands.engines import (
    GRACE,
    TICK,
    Events,
    Job,
    Outcome,
    Progress,
    Take,
    cores,
    execute,
)
from rlentropy.errors import InputError
from rlentropy.files import TEMPORARY, lives, locked, replace_file, writing
from rlentropy.runs.folder import LOCK

SENDING = 60.0  # seconds between the files that a run without the sweep's disk sends, at least
MARKER = TEMPORARY + "shared-"  # and the number of the sweep's process
MISSING = "engine ray must have Ray, got none: pip install 'rlentropy[ray]'"

Files = dict[str, bytes]  # of a folder, by their names in it


# ---------------------------------------------------------------- files of a run folder


def files_of(folder: Path) -> Files:
    """What a run folder holds; its checkpoint first, since logs are to hold what that counts."""
    paths = [p for p in sorted(folder.glob("**/*")) if p.is_file() and not p.is_symlink()]
    paths = [p for p in paths if not p.name.startswith(TEMPORARY)]
    paths.sort(key=lambda p: p.parent.name != "checkpoint")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


def store(folder: Path, files: Files) -> None:
    """Make a folder hold these files; a kill at any instant leaves a run that can go on.

    Raises:
        ValueError: a name leads out of the folder.
    """
    if any(".." in PurePosixPath(name).parts or name.startswith("/") for name in files):
        raise ValueError(f"files of a run must lie in its folder, got {sorted(files)}")

    def rank(name: str) -> int:  # a checkpoint counts on the logs, a summary on everything
        return 2 if name == "summary.json" else int(name.startswith("checkpoint/"))

    with writing(folder):
        for name in sorted(files, key=rank):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            replace_file(folder / name, files[name])
        for path in folder.glob("**/*"):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and name not in files and not path.name.startswith(TEMPORARY):
                path.unlink()


# ---------------------------------------------------------------- on the machine of the sweep


class Office:
    """An actor beside the sweep, between it and its runs: what they say, and files they send."""

    def __init__(self) -> None:
        self.news: dict[str, tuple[str, float, str]] = {}
        self.stopped: set[str] = set()
        self.closed = False
        self.locks: dict[str, ExitStack] = {}

    def tell(self, key: str, where: str, share: float, text: str) -> bool:
        """What a run says of itself; whether it shall go on."""
        self.news[key] = (where, share, text)
        return not self.closed and key not in self.stopped

    def heard(self) -> dict[str, tuple[str, float, str]]:
        """The latest that each run has said since this was asked."""
        news, self.news = self.news, {}
        return news

    def stop(self, key: str | None) -> None:
        """Stop a run, or all of them, when they next say something."""
        self.closed |= key is None
        self.stopped |= {key or ""}

    def lend(self, folder: str) -> Files:
        """The files of a run that is done elsewhere, whose folder is taken here."""
        if folder not in self.locks:
            self.locks[folder] = ExitStack()
            path = Path(folder)
            self.locks[folder].enter_context(locked(path / LOCK, "out", path))
        return files_of(Path(folder))

    def store(self, folder: str, files: Files, last: bool) -> None:
        """Keep what a run sends."""
        store(Path(folder), files)
        if last and folder in self.locks:
            self.locks.pop(folder).close()


# ---------------------------------------------------------------- on the machine of a run


@dataclass(frozen=True)
class Call:
    """What a machine must know of a run."""

    argv: tuple[str, ...]
    folder: str  # absolute
    cwd: str
    path: tuple[str, ...]  # where Python looks for modules
    marker: str  # a file beside the runs
    token: str  # its content


def perform(call: Call, office: Any) -> tuple[str, str, str, str]:
    """Run a job in this process; where, how it ended, why it failed, and what it printed."""
    import ray

    where = f"{socket.gethostname()} {os.getpid()}"
    sys.path += [entry for entry in call.path if entry not in sys.path]
    shared = reads(call.marker) == call.token
    here = shared and os.path.isdir(call.cwd)
    with ExitStack() as stack:
        stack.callback(os.chdir, os.getcwd())
        if here:
            place = call.cwd
        else:
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="rlentropy-"))
        os.chdir(place)
        folder = Path(call.folder) if shared else Path(place, "run")
        if not shared:
            store(folder, ray.get(office.lend.remote(call.folder)))
        sent = time.monotonic()

        def tell(share: float, text: str) -> bool:
            nonlocal sent
            if not shared and time.monotonic() > sent + SENDING:
                ray.get(office.store.remote(call.folder, files_of(folder), False))
                sent = time.monotonic()
            return bool(ray.get(office.tell.remote(call.folder, where, share, text)))

        argv = call.argv if here else with_out(call.argv, folder)
        state, why, output = ("stopped", "", "")
        if tell(0.0, ""):
            state, why, output = execute(argv, tell)
        if not shared:
            ray.get(office.store.remote(call.folder, files_of(folder), True))
    return where, state, why, output


def with_out(argv: Sequence[str], folder: Path) -> tuple[str, ...]:
    """A command line with another folder for its run."""
    place = argv.index("--out") + 1
    return (*argv[:place], str(folder), *argv[place + 1 :])


def reads(path: str) -> str | None:
    """The text of a file; None where it can't be read."""
    with suppress(OSError, ValueError):
        return Path(path).read_text()
    return None


# ---------------------------------------------------------------- the engine


@dataclass
class RayEngine:
    """Tasks of a Ray cluster, with cores and GPUs that it keeps for each.

    Args:
        out: folder of the runs.
        address: of a cluster, such as "auto"; "": one is started here, and ends with the sweep.
        workers: runs side by side; 0: as many as the cluster has room for.
        cpus, gpus: of each run.
    """

    out: Path
    address: str = ""
    workers: int = 0
    cpus: int = 1
    gpus: float = 0.0
    asked: set[Job] = field(default_factory=set)

    def run(self, take: Take) -> Events:
        """As `Engine.run` says.

        Raises:
            InputError: Ray isn't installed, no cluster has this address, or it is lost.
        """
        ray = self._connect()
        marker, token = self.out.absolute() / f"{MARKER}{os.getpid()}", secrets.token_hex(16)
        try:
            with writing(self.out):
                self.out.mkdir(parents=True, exist_ok=True)
                for old in self.out.glob(f"{MARKER}*"):
                    if not lives(int(old.name.removeprefix(MARKER))):
                        old.unlink()
                replace_file(marker, token.encode())
            self.office = self._office(ray)
            yield from self._events(ray, take, marker, token)
        except ray.exceptions.RayError as error:
            raise InputError(
                f"the Ray cluster must stay until the sweep ends, got {one_line(error)}; "
                "repeat the command to go on"
            ) from None
        finally:
            marker.unlink(missing_ok=True)
            ray.shutdown()

    def _connect(self) -> Any:
        configure(self.address)
        try:
            import ray
        except ImportError:
            raise InputError(MISSING) from None
        options: dict[str, Any] = {"address": self.address or "local"}
        answers(self.address)
        if not self.address:
            options["num_cpus"] = max(cores(), self.workers * self.cpus)
            options["include_dashboard"] = False
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        except (ConnectionError, RuntimeError, ValueError, OSError, AssertionError) as error:
            raise InputError(
                "ray_address must be of a cluster that answers, or auto on one of its machines, "
                f"got {self.address!r}: {one_line(error)}"
            ) from None
        return ray

    def _office(self, ray: Any) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return ray.remote(Office).options(num_cpus=0, scheduling_strategy=here).remote()

    def stop(self, job: Job) -> None:
        """As `Engine.stop` says."""
        self.asked.add(job)
        self.office.stop.remote(str(job.folder.absolute()))

    def _events(self, ray: Any, take: Take, marker: Path, token: str) -> Events:
        task = ray.remote(perform).options(
            num_cpus=self.cpus, num_gpus=self.gpus, max_retries=0, scheduling_strategy="SPREAD"
        )
        running: dict[Any, tuple[Job, float]] = {}
        try:
            while True:
                while len(running) < self._room(ray) and (job := take()) is not None:
                    folder, path = str(job.folder.absolute()), tuple(filter(None, sys.path))
                    call = Call(job.argv, folder, os.getcwd(), path, str(marker), token)
                    running[task.remote(call, self.office)] = job, time.monotonic()
                    yield Progress(job, "-", 0.0, "waits for a machine")
                if not running:
                    return
                ready, _ = ray.wait(list(running), timeout=TICK)
                news = ray.get(self.office.heard.remote())
                for job, _ in running.values():
                    if (said := news.get(str(job.folder.absolute()))) is not None:
                        yield Progress(job, *said)
                for reference in ready:
                    job, began = running.pop(reference)
                    yield outcome_of(ray, reference, job, time.monotonic() - began)
                yield None
        finally:
            end(ray, self.office, list(running))

    def _room(self, ray: Any) -> int:
        """How many runs may be under way."""
        if self.workers:
            return self.workers
        has = ray.cluster_resources()
        room = has.get("CPU", 0.0) / self.cpus
        if self.gpus:
            room = min(room, has.get("GPU", 0.0) / self.gpus)
        return max(1, int(room))


def configure(address: str) -> None:
    """Set what Ray reads from the environment when it is loaded, unless the user has.

    Nothing is told to Ray's makers. What is started here is for those who know a token that only
    this user's processes can read; elsewhere a token is used where one was laid down.
    """
    environ = os.environ
    environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    given = environ.get("RAY_AUTH_TOKEN") or environ.get("RAY_AUTH_TOKEN_PATH")
    if not address and not given:
        environ["RAY_AUTH_TOKEN"] = given = secrets.token_hex(32)
    if given or Path("~/.ray/auth_token").expanduser().is_file():
        environ.setdefault("RAY_AUTH_MODE", "token")


def answers(address: str) -> None:
    """Refuse an address at which nobody listens, for which Ray itself would wait for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5.0).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"ray_address must be of a cluster that answers, got {address!r}: {error}"
        ) from None


def outcome_of(ray: Any, reference: Any, job: Job, seconds: float) -> Outcome:
    """How a task ended."""
    broken = ray.exceptions
    try:
        _, state, why, output = ray.get(reference)
    except broken.TaskCancelledError:
        state, why, output = "stopped", "", ""
    except broken.RayTaskError as error:  # an error of Python, such as a module that isn't there
        state, why, output = "failed", one_line(error.cause or error), str(error)
    except broken.RayError as error:
        state, why, output = "died", DEATHS.get(type(error).__name__, one_line(error)), ""
    return Outcome(job, state, why, output, seconds)


DEATHS = {
    "WorkerCrashedError": "its process was killed",
    "OutOfMemoryError": "its process was killed for memory",
    "NodeDiedError": "its machine is gone",
}


def end(ray: Any, office: Any, running: Sequence[Any]) -> None:
    """Let tasks end at a checkpoint, if that is soon; what is left ends when Ray is left."""
    if running:
        ray.get(office.stop.remote(None))
        ray.wait(list(running), num_returns=len(running), timeout=GRACE)


def one_line(error: BaseException) -> str:
    """The first line of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
