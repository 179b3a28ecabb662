"""Run folders: what a run was asked, what it found, and how it goes on after a kill.

The names of the files and the keys of ``summary.json`` are the contract with everything that reads
runs. ``summary.json`` is written last: a folder that has one is finished.
"""

from __future__ import annotations

import io
import json
import math
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import MISSING, dataclass, field, fields
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any

import rlentropy
from rlentropy.errors import InputError
from rlentropy.files import TEMPORARY, pack, read_json, replace_file, writing
from rlentropy.log import Log, compress_checkpoint, owner_of, ranks
from rlentropy.runs.table import COMMANDS
from rlentropy.types import Result

# What a resumed run may change, beside its budget: how often it reports, where it writes and what,
# where it computes, and what it holds of the data, which move numbers by no more than rounding.
FREE = {"out", "device", "env_workers", "memory", "eval_every", "checkpoint_every"}
FREE |= {"keep_checkpoint", "quiet"}
PASSING = {"resume", "overwrite", "config", "tuned"}  # how it was typed; not part of the run

# TensorBoard's HParams tab compares runs by two of these, the first that a summary has.
ANSWERS = (
    *("gap", "normalised_return", "mixture_value", "mean_return", "value", "win_rate"),
    *("certified_gap", "labels", "updates", "env_steps"),
)

LOCK = TEMPORARY + "lock"  # held by the process that writes in the folder
# What --overwrite replaces is moved to one folder, waits in the next until the new run is not
# refused, and is deleted in the last: a kill at any instant leaves it whole, or its end clear.
MOVING, REPLACED, TRASH = (TEMPORARY + name for name in ("moving", "replaced", "trash"))


def default_folder(env_id: str, command: str, seed: int) -> Path:
    environment = env_id.replace("/", "-").replace(":", "-")
    return Path("results/runs") / environment / command / f"seed{seed}"


def stored_settings(folder: Path) -> dict[str, Any] | None:
    """The settings a folder was started with, and its command; None where there is no run.

    Where config.json is lost or damaged, those that the checkpoint holds.
    """
    for where in (folder, folder / MOVING, folder / REPLACED):  # of an --overwrite cut short
        with suppress(InputError, OSError, KeyError, TypeError, ValueError):
            config = read_json(where / "config.json")
            return dict(config["settings"]) | {"command": str(config["command"])}
    with suppress(InputError):
        return owner_of(folder)
    return None


@dataclass
class RunFolder:
    """One run on disk."""

    path: Path
    command: str
    settings: dict[str, Any]
    before: dict[str, bytes] = field(default_factory=dict)  # files as they were before this process

    @classmethod
    def open(
        cls, path: Path, command: str, settings: dict[str, Any], resume: bool, overwrite: bool
    ) -> RunFolder:
        """Make the folder, or take up the run that is there. The caller holds its lock.

        Raises:
            InputError: the folder is in use and neither resume nor overwrite was asked, or resume
                was asked with settings or a checkpoint other than those of the run.
        """
        settings = {k: v for k, v in settings.items() if k not in PASSING}
        run = cls(path, command, settings)
        if resume and overwrite:
            raise InputError("resume must not come with overwrite, got both")
        with writing(path):
            if path.exists() and not path.is_dir():
                raise InputError(f"out must be a folder, got the file {path}")
            run._settle()
            content = run._content()
        before = stored_settings(path)
        if before is None and content:
            raise InputError(
                f"out must be a new folder or that of a run, got {path}, which has neither a "
                "config.json nor a checkpoint of ours"
            )
        if before is not None and not (resume or overwrite):
            raise InputError(f"out must be a new folder, got {path}{run._taken(before)}")
        if before is not None and resume:
            run._check_same(before)
            if (owner := owner_of(path)) is not None:
                run._check_same(owner, " of the checkpoint there")
            else:
                run._check_finished()
        with writing(path):
            if before is not None and overwrite:
                run._set_aside()
            path.mkdir(parents=True, exist_ok=True)
            for stale in path.glob(f"**/{TEMPORARY}*"):
                if stale.name != LOCK and stale.is_file():
                    stale.unlink()
            for name in ("config.json", "summary.json"):
                if (path / name).is_file():
                    run.before[name] = (path / name).read_bytes()
        if not run.before:  # first of all files: a folder without it is not taken for a run
            run._write_config()
        return run

    def _check_same(self, before: dict[str, Any], where: str = "") -> None:
        for name, now in ({"command": self.command} | self.settings).items():
            free = name in FREE or name == COMMANDS[self.command].budget
            if not free and name in before and before[name] != now:
                raise InputError(
                    f"{name} must be {before[name]!r} as when the run{where} was started, "
                    f"got {now!r}"
                )

    def _taken(self, before: dict[str, Any]) -> str:
        """What a run is that is in the way, and the ways on."""
        budget = COMMANDS[self.command].budget
        if (self.path / "summary.json").exists():
            more = f" with a larger --{budget}" if budget else ""
            same = {"command": self.command} | self.settings == before
            return (
                f", where {'this very' if same else 'a'} run is finished: --resume shows it, or "
                f"goes on{more}; --overwrite replaces it; --seed or --out makes another"
            )
        return ": pass --resume to go on with the run there, or --overwrite to replace it"

    def _check_finished(self) -> None:
        """Refuse to extend a finished run that has no checkpoint: it would be played anew."""
        budget = COMMANDS[self.command].budget
        try:
            done = read_json(self.path / "summary.json").get(budget)
        except (FileNotFoundError, InputError):
            return
        if done is not None and self.finished_summary() is None:
            raise InputError(
                f"{budget} must be {done}, as the finished run in {self.path} has no checkpoint to "
                f"go on from (--keep-checkpoint), got {self.settings[budget]}: pass --overwrite "
                "to start anew"
            )

    def _content(self) -> list[Path]:
        """What the folder holds, config.json last, without what a kill or a lock left."""
        if not self.path.exists():
            return []
        files = [file for file in self.path.iterdir() if not file.name.startswith(TEMPORARY)]
        return sorted(files, key=lambda file: (file.name == "config.json", file.name))

    def _set_aside(self) -> None:
        moving = self.path / MOVING
        moving.mkdir()
        for file in self._content():
            file.rename(moving / file.name)
        moving.rename(self.path / REPLACED)

    def _put_back(self) -> None:
        moving = self.path / MOVING
        with suppress(FileNotFoundError):
            (self.path / REPLACED).rename(moving)
        for file in moving.iterdir():
            file.rename(self.path / file.name)
        moving.rmdir()

    def _settle(self) -> None:
        """End an --overwrite that was killed: the old run is put back, if the new hadn't begun."""
        waits = (self.path / REPLACED).is_dir() and not (self.path / "config.json").exists()
        if waits or (self.path / MOVING).is_dir():
            self._put_back()
        self._discard()

    def _discard(self) -> None:
        for name in (TRASH, REPLACED):
            with suppress(FileNotFoundError):
                (self.path / name).rename(self.path / TRASH)
                shutil.rmtree(self.path / TRASH)

    @contextmanager
    def running(self, log: Log) -> Iterator[None]:
        """Claim the folder. Input that is refused before anything was saved leaves it as it was."""
        log.owner = {"command": self.command} | self.settings
        try:
            with writing(self.path):
                (self.path / "summary.json").unlink(missing_ok=True)  # of a smaller budget
            self._write_config()
            yield
        except InputError:
            if not log.saved:
                self._abandon()
            raise
        finally:
            with suppress(InputError):
                log.close()  # while the folder is still ours
            with suppress(OSError):
                self._discard()

    def _abandon(self) -> None:
        with suppress(OSError):
            for name, content in self.before.items():
                (self.path / name).write_bytes(content)
            if not self.before:
                for file in reversed(self._content()):  # config.json first: no run without it
                    shutil.rmtree(file) if file.is_dir() else file.unlink()
            if (self.path / REPLACED).exists():
                self._put_back()

    def _write_config(self) -> None:
        facts = {
            "command": self.command,
            "settings": self.settings,
            "seed": self.settings.get("seed"),
            "threads": 1,
            "processes": ranks.size(),
            "accelerator": accelerator(self.settings.get("device", "cpu")),
            "platform": platform.platform(),
            "versions": versions(),
            "git_commit": git_commit(),
            "argv": sys.argv,
        }
        replace_file(self.path / "config.json", _json(facts))

    def finished_summary(self) -> dict[str, Any] | None:
        """The summary, where the run is finished with its present budget."""
        try:
            summary = read_json(self.path / "summary.json")
        except (FileNotFoundError, InputError):
            return None
        if any(summary.get(k) != v for k, v in (("finished", True), ("command", self.command))):
            return None
        budget = COMMANDS[self.command].budget
        done = not budget or summary.get(budget) == self.settings[budget]
        return summary if done or summary.get("stopped_by_certificate") else None

    def finish(self, log: Log, result: Result) -> dict[str, Any]:
        """Write the policies, the HParams and, last, the summary."""
        summary = result.summary
        if result.policy:
            replace_file(self.path / "policy.npz", pack(result.policy, compressed=True))
        if result.mixture is not None and len(result.mixture):
            content = pack({"pi": result.mixture}, small=True)
            replace_file(self.path / "mixture.npz", content)
        if result.network is not None:
            import torch

            buffer = io.BytesIO()
            torch.save(dict(result.network), buffer)
            replace_file(self.path / "policy.pt", buffer.getvalue())
        settings, set_by_user = hyperparameters(self.command, self.settings)
        log.hparams(settings, results(summary), set_by_user)
        log.close()
        header = {k: self.settings[k] for k in ("env_id", "env_kwargs", "seed")}
        header["label"] = self.settings.get("label") or self.command
        full = {"command": self.command, **header, **summary}
        full |= {"axis": COMMANDS[self.command].axis, "wall_seconds": log.seconds}
        full |= {"compile_seconds": log.compile_seconds, "finished": True}
        lines = [
            f"  {json.dumps(k)}: {json.dumps(strict(v), default=str)}" for k, v in full.items()
        ]
        text = "{\n" + ",\n".join(lines) + "\n}\n"  # a line a key, however long its list
        if self.settings["keep_checkpoint"]:
            compress_checkpoint(self.path, {"mixture.npz": ("pi", result.mixture)})
        replace_file(self.path / "summary.json", text.encode())
        if not self.settings["keep_checkpoint"]:
            with writing(self.path):
                shutil.rmtree(self.path / "checkpoint", ignore_errors=True)
        return full


def hyperparameters(command: str, settings: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Settings of the algorithm, and its seed; and which of them are not the defaults."""
    own = fields(import_module(COMMANDS[command].module).Config)
    shown = {"command": command, "seed": settings.get("seed", 0)}
    changed = set(shown)
    for each in (each for each in own if each.name in settings):
        value = shown[each.name] = settings[each.name]
        default = each.default if each.default_factory is MISSING else each.default_factory()
        if value != (list(default) if isinstance(default, tuple) else default):
            changed.add(each.name)
    return shown, changed


def results(summary: Mapping[str, Any]) -> dict[str, float]:
    """The two figures of a run that say how good it is."""
    figures = {k: float(v) for k, v in summary.items() if type(v) in (int, float)}
    if figures.keys() >= {"optimum", "value"}:
        figures["gap"] = figures["optimum"] - figures["value"]
    best = [name for name in ANSWERS if math.isfinite(figures.get(name, math.nan))]
    return {f"hparam/{name}": figures[name] for name in best[:2]}


def strict(value: Any) -> Any:
    """A figure as JSON has it: null for what isn't finite, such as the interval of one episode."""
    if isinstance(value, list | tuple):
        return [strict(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, default=str) + "\n").encode()


def versions() -> dict[str, str | None]:
    """Installed versions, without importing anything."""
    installed: dict[str, str | None] = {
        "rlentropy": rlentropy.__version__,
        "python": platform.python_version(),
    }
    for package in ("numpy", "torch", "gymnasium", "scipy", "numba", "tensorboard"):
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = None
    return installed


def accelerator(device: str) -> str | None:
    """The name of the GPU that networks are on, where torch is in use."""
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda") or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name(device))


def git_commit() -> str | None:
    """The commit of the checkout this package runs from, with a + where files differ from it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        )
        listed = subprocess.run(
            [*git, "ls-files", "--error-unmatch", __file__], capture_output=True, timeout=5
        )
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    if listed.returncode:  # installed inside somebody else's repository
        return None
    return commit.stdout.strip() + ("+" if changed.returncode else "")


@contextmanager
def stoppable(log: Log) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the run after its present chunk of work, with a checkpoint.

    A second Ctrl-C ends it at once; a second SIGTERM doesn't, since a sweep's worker may get one
    from the sweep and one when that is gone.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        if log.interrupted and number == signal.SIGINT:
            raise KeyboardInterrupt
        log.interrupted = True

    with stop_signals(stop):
        yield


@contextmanager
def stop_signals(stop: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let `stop` answer Ctrl-C and SIGTERM."""
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
