"""Runs as jobs of a Slurm cluster, by submitit; every machine must see the sweep's disk.

What a run says of itself is a small file on that disk, and so is the word that it shall stop.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlentropy.commands.engines import GRACE, TICK, Events, Job, Outcome, Progress, Take, execute
from rlentropy.errors import InputError
from rlentropy.files import TEMPORARY, replace_file, writing

FOLDER = TEMPORARY + "slurm"  # in the sweep's
MANY = 256  # jobs in the queue, where --workers doesn't say
MISSING = "engine slurm must have submitit, got none: pip install 'rlentropy[slurm]'"


def perform(argv: Sequence[str], note: str, stop: str) -> tuple[str, str, str]:
    """Run a job in this process; how it ended, why it failed, and what it printed.

    Args:
        note, stop: files for what it says of itself, and for the word to stop.
    """

    def tell(share: float, text: str) -> bool:
        with suppress(InputError):  # a full disk is not the run's affair
            replace_file(Path(note), json.dumps([share, text]).encode())
        return not Path(stop).exists()

    tell(0.0, "")
    return execute(argv, tell)


@dataclass
class SlurmEngine:
    """Jobs of a Slurm cluster.

    Args:
        out: folder of the runs.
        workers: jobs in the queue and running; 0: 256.
        cpus, gpus: of each run.
        options: of sbatch, as "option=value".
    """

    out: Path
    workers: int = 0
    cpus: int = 1
    gpus: int = 0
    options: Sequence[str] = ()
    asked: set[Job] = field(default_factory=set)
    cluster = "slurm"  # submitit's name of it

    def run(self, take: Take) -> Events:
        """As `Engine.run` says.

        Raises:
            InputError: there is no submitit, no Slurm, or it refuses a job.
        """
        executor = self._executor()
        self._running: dict[Any, tuple[Job, float]] = {}
        try:
            while True:
                while len(self._running) < (self.workers or MANY) and (job := take()) is not None:
                    yield self._submit(executor, job)
                if not self._running:
                    return
                time.sleep(TICK)
                for handle, (job, began) in list(self._running.items()):
                    if handle.done():
                        del self._running[handle]
                        yield outcome_of(handle, job, time.monotonic() - began)
                    elif (said := read_note(self._files(job)[0])) is not None:
                        yield Progress(job, f"job {handle.job_id}", *said)
                yield None
        finally:
            self._end()

    def _executor(self) -> Any:
        try:
            import submitit
        except ImportError:
            raise InputError(MISSING) from None
        if self.cluster == "slurm" and shutil.which("sbatch") is None:
            raise InputError("engine slurm must be used where Slurm's sbatch is, got none")
        given = dict(option.partition("=")[::2] for option in self.options)
        if "time" not in given:
            raise InputError("slurm must hold time=MINUTES (or D-HH:MM:SS) of a run, got none")
        folder = self.out / FOLDER
        cancel_left(folder)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        known = submitit.SlurmExecutor._valid_parameters()
        named: dict[str, Any] = {f"slurm_{k}": v for k, v in given.items() if k in known}
        named["slurm_additional_parameters"] = {k: v for k, v in given.items() if k not in known}
        named |= {"slurm_job_name": "rlentropy", "slurm_cpus_per_task": self.cpus}
        executor = submitit.AutoExecutor(folder, cluster=self.cluster)
        executor.update_parameters(**named, **({"gpus_per_node": self.gpus} if self.gpus else {}))
        return executor

    def _files(self, job: Job) -> tuple[Path, Path]:
        """Where a run says how far it is, and where it is told to stop."""
        name = job.folder.relative_to(self.out).as_posix().replace("/", "+")
        folder = (self.out / FOLDER).absolute()
        return folder / f"{name}.note", folder / f"{name}.stop"

    def _submit(self, executor: Any, job: Job) -> Progress:
        note, stop = self._files(job)
        for file in (note, stop):
            file.unlink(missing_ok=True)
        try:
            handle = executor.submit(perform, job.argv, str(note), str(stop))
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise InputError(f"slurm must be options that sbatch takes, got {reason}") from None
        self._running[handle] = job, time.monotonic()
        return Progress(job, f"job {handle.job_id}", 0.0, "queued")

    def stop(self, job: Job) -> None:
        """As `Engine.stop` says."""
        self.asked.add(job)
        for handle, (other, _) in self._running.items():
            if other == job:
                note, stop = self._files(job)
                stop.touch()
                if not note.exists():
                    handle.cancel(check=False)

    def _end(self) -> None:
        """End all runs, at a checkpoint where that is soon."""
        left, end = list(self._running), time.monotonic() + GRACE
        try:
            for job, _ in list(self._running.values()):
                self.stop(job)
            while left and time.monotonic() < end:
                time.sleep(TICK)
                left = [handle for handle in left if not handle.done(force_check=True)]
        finally:
            for handle in left:
                handle.cancel(check=False)
            if not left:
                shutil.rmtree(self.out / FOLDER, ignore_errors=True)


def cancel_left(folder: Path) -> None:
    """End the jobs of a sweep that was killed, at a checkpoint, as they would be in the way."""
    ended = {path.name.partition("_")[0] for path in folder.glob("*_result.pkl")}
    ids = {path.name.partition("_")[0] for path in folder.glob("*_submitted.pkl")} - ended
    if ids and shutil.which("scancel"):
        subprocess.run(["scancel", *sorted(ids)], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def read_note(path: Path) -> tuple[float, str] | None:
    """What a run says of itself; None where it hasn't begun."""
    with suppress(OSError, ValueError, TypeError):
        share, text = json.loads(path.read_text())
        return float(share), str(text)
    return None


def outcome_of(handle: Any, job: Job, seconds: float) -> Outcome:
    """How a job of Slurm ended."""
    error = handle.exception()
    if error is None:
        state, why, output = handle.result()
        return Outcome(job, state, why, output, seconds)
    return Outcome(job, "died", f"job {handle.job_id} ended: {handle.state}", str(error), seconds)
