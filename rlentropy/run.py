"""Run folders: what a run was asked, what it found, and how it goes on after a kill.

The names of the files and the keys of ``summary.json`` are the contract with everything that reads
runs. ``summary.json`` is written last: a folder that has one is finished.
"""

from __future__ import annotations

import io
import json
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any

import rlentropy
from rlentropy.errors import InputError
from rlentropy.log import TEMPORARY, Log, pack, replace_file, writing

# What a resumed run may change: how long it goes on, how often it reports, where it writes.
FREE = {"episodes", "steps", "updates", "labels", "out", "eval_every", "checkpoint_every", "quiet"}
PASSING = {"resume", "overwrite", "config"}  # how the command was typed; not part of the run


def default_folder(env_id: str, command: str, seed: int) -> Path:
    environment = env_id.replace("/", "-").replace(":", "-")
    return Path("results/runs") / environment / command / f"seed{seed}"


def stored_settings(folder: Path) -> dict[str, Any] | None:
    """The settings a folder was started with, and its command; None where there is no run."""
    try:
        config = json.loads((folder / "config.json").read_text())
        return dict(config["settings"]) | {"command": str(config["command"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class Result:
    """What a command's `run` returns, and where each part of it goes."""

    summary: Mapping[str, Any]  # figures; summary.json
    policy: Mapping[str, Any] = field(default_factory=dict)  # arrays; policy.npz
    network: Mapping[str, Any] | None = None  # tensors, numbers, strings, lists; policy.pt
    mixture: Any = None  # policies (K, ...), one drawn an episode; mixture.npz


@dataclass
class RunFolder:
    """One run on disk."""

    path: Path
    command: str
    settings: dict[str, Any]
    kept: dict[str, bytes] = field(default_factory=dict)  # files as they were before this process

    @property
    def replaced(self) -> Path:
        """Where the run that --overwrite replaces waits until the new one is not refused."""
        return self.path.with_name(f"{TEMPORARY}replaced-{self.path.name}")

    @classmethod
    def open(
        cls, path: Path, command: str, settings: dict[str, Any], resume: bool, overwrite: bool
    ) -> RunFolder:
        """Make the folder, or take up the run that is there.

        Raises:
            InputError: the folder is in use and neither resume nor overwrite was asked, or resume
                was asked with settings other than those the run was started with.
        """
        settings = {k: v for k, v in settings.items() if k not in PASSING}
        run = cls(path, command, settings)
        if resume and overwrite:
            raise InputError("resume must not come with overwrite, got both")
        with writing(path):
            if path.exists() and not path.is_dir():
                raise InputError(f"out must be a folder, got the file {path}")
            content = [p.name for p in path.iterdir()] if path.exists() else []
        before = stored_settings(path)
        if before is None and not all(name.startswith(TEMPORARY) for name in content):
            raise InputError(f"out must be a new folder or that of a run, got {path}")
        if before is not None and not (resume or overwrite):
            raise InputError(
                f"out must be a new folder, got {path}: pass --resume to go on with the run there, "
                "or --overwrite to replace it"
            )
        if before is not None and resume:
            for name, now in ({"command": command} | settings).items():
                if name not in FREE and name in before and before[name] != now:
                    raise InputError(
                        f"{name} must be {before[name]!r} as when the run was started, got {now!r}"
                    )
        with writing(path):
            if before is not None and overwrite:
                shutil.rmtree(run.replaced, ignore_errors=True)
                path.rename(run.replaced)
            path.mkdir(parents=True, exist_ok=True)
            for stale in path.glob(f"**/{TEMPORARY}*"):
                stale.unlink()
            for name in ("config.json", "summary.json"):
                if (path / name).exists():
                    run.kept[name] = (path / name).read_bytes()
        if not run.kept:  # first of all files: a folder without it is not taken for a run
            run._write_config()
        return run

    @contextmanager
    def running(self, log: Log) -> Iterator[None]:
        """Claim the folder. Input that is refused before anything was saved leaves it as it was."""
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
            shutil.rmtree(self.replaced, ignore_errors=True)

    def _abandon(self) -> None:
        with suppress(OSError):
            for name, content in self.kept.items():
                (self.path / name).write_bytes(content)
            if not self.kept:
                shutil.rmtree(self.path)
            if self.replaced.exists():
                self.replaced.rename(self.path)

    def _write_config(self) -> None:
        facts = {
            "command": self.command,
            "settings": self.settings,
            "seed": self.settings.get("seed"),
            "threads": 1,
            "platform": platform.platform(),
            "versions": versions(),
            "git_commit": git_commit(),
            "argv": sys.argv,
        }
        replace_file(self.path / "config.json", _json(facts))

    def finished_summary(self) -> dict[str, Any] | None:
        """The summary, where the run is finished with its present budget."""
        try:
            summary = dict(json.loads((self.path / "summary.json").read_text()))
        except (FileNotFoundError, ValueError):
            return None
        budgets = [k for k in ("episodes", "steps", "updates", "labels") if k in self.settings]
        done = all(summary.get(k) == self.settings[k] for k in budgets)
        done = done or bool(summary.get("stopped_by_certificate"))
        return summary if done else None

    def finish(self, log: Log, result: Result) -> dict[str, Any]:
        """Write the policies, the HParams and, last, the summary."""
        summary = result.summary
        if result.policy:
            replace_file(self.path / "policy.npz", pack(result.policy, compressed=True))
        if result.mixture is not None and len(result.mixture):
            content = pack({"pi": result.mixture}, compressed=True)
            replace_file(self.path / "mixture.npz", content)
        if result.network is not None:
            import torch

            buffer = io.BytesIO()
            torch.save(dict(result.network), buffer)
            replace_file(self.path / "policy.pt", buffer.getvalue())
        numbers = {k: float(v) for k, v in summary.items() if type(v) in (int, float)}
        log.hparams({"command": self.command, **self.settings}, numbers)
        log.close()
        header = {k: self.settings[k] for k in ("env_id", "env_kwargs", "seed")}
        header["label"] = self.settings.get("label") or self.command
        full = {"command": self.command, **header, **summary}
        full |= {"wall_seconds": log.seconds, "finished": True}
        lines = [f"  {json.dumps(k)}: {json.dumps(v, default=str)}" for k, v in full.items()]
        text = "{\n" + ",\n".join(lines) + "\n}\n"  # a line a key, however long its list
        replace_file(self.path / "summary.json", text.encode())
        return full


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, default=str) + "\n").encode()


def versions() -> dict[str, str | None]:
    """Installed versions, without importing anything."""
    found: dict[str, str | None] = {
        "rlentropy": rlentropy.__version__,
        "python": platform.python_version(),
    }
    for package in ("numpy", "torch", "gymnasium", "scipy", "numba", "tensorboard"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


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
    """Let Ctrl-C and SIGTERM end the run at its next tick, after a checkpoint; twice: at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        if log.interrupted:
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
