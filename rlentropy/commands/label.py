"""The labelling page of a campaign, served from this machine, and the training beside it."""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlencode

import rlentropy
from rlentropy.commands.console import Console
from rlentropy.errors import InputError, in_range, whole
from rlentropy.files import TEMPORARY, holder_of, plain, read_json, writing
from rlentropy.page.clips import Clips
from rlentropy.page.desk import Desk
from rlentropy.preferences.boards import describing
from rlentropy.preferences.console import Lines, Window
from rlentropy.preferences.database import FILE
from rlentropy.preferences.queue import Queue
from rlentropy.preferences.store import Store
from rlentropy.runs.folder import LOCK, stop_signals, stored_settings
from rlentropy.runs.table import COMMANDS
from rlentropy.wrappers import trusted

NOTES = "page.json"  # token and port, so that a server that starts again has the same address
TRAINING = "training.log"  # what the training says of errors
COMMAND = "active-preference"
TOKEN = re.compile("[A-Za-z0-9_-]{32,64}")
PORTS = 32  # that are tried after the one kept
LOOK = 0.1  # seconds between looks at a process that is to end


@dataclass(frozen=True)
class Config:
    """Serves a page on which people answer the questions of a campaign, and trains beside it.

    Use it with a run of active-preference or language-preference whose oracle is human; several
    people may answer. It prints the page's address. Needs pip install 'rlentropy[label]'.

    Example::

        rlentropy label --campaign runs/mine
    """

    campaign: str = ""  # a run folder of active-preference, or the campaign folder in it (required)
    host: str = "127.0.0.1"  # address to listen at; by default nobody else's machine gets through
    port: int = 0  # 0: that of the last time if it is free, else any
    mirror: float = 0.05  # share of the questions that are asked again, sides changed, in [0, 1]
    second: float = 0.0  # share that another labeller is asked too, in [0, 1]
    patience: float = 120.0  # seconds until a question that nobody answered is shown to others
    env_id: str = ""  # where segments are drawn; default: the campaign's
    env_kwargs: str = ""  # JSON object of its keyword arguments; default: the campaign's
    # of the run that goes on, where it is a function; no folder is trusted with one
    judge: str = ""
    labeller: str = ""  # name that the page begins with; default: one it draws
    console: bool = False  # ask in this terminal instead of a browser
    train: bool = True  # train beside, where no other process does and the run isn't finished
    quiet: bool = False  # print the address, and nothing but errors

    def __post_init__(self) -> None:
        if not self.campaign:
            raise InputError(f"campaign must be a run folder of {COMMAND}, got none")
        whole("port", self.port, 0, 65535)
        in_range("mirror", self.mirror, "[0, 1]")
        in_range("second", self.second, "[0, 1]")
        in_range("patience", self.patience, "(0, inf)")
        if not (self.labeller.isprintable() and len(self.labeller) <= 64):
            raise InputError(
                f"labeller must be at most 64 printable characters, got {self.labeller!r}"
            )


def run(config: Config) -> int:
    """Serve until Ctrl-C; the exit code: 0 where all labels are given, else 130.

    Raises:
        InputError: no campaign, a port that is taken, or packages that are not installed.
    """
    place = Place(Path(config.campaign))
    say = Console(config.quiet)
    if not config.console:
        check_packages()
    place.trust(config.env_id, config.env_kwargs)
    with closing(Store(place.campaign, must_exist=True)) as store:
        clips = Clips(store, config.env_id, config.env_kwargs)
    stop, training = Stop(), Training(place, config, say)
    with stop_signals(stop):
        if config.console:
            at_console(config, place, training, clips, stop)
        else:
            serve(config, place, training, clips, say, stop)
        training.stop(stop)
    with closing(Store(place.campaign)) as store:
        return 0 if all_given(store, place.budget()) else 130


def check_packages() -> None:
    """Refuse to serve without what the extra `label` brings."""
    for name in ("starlette", "uvicorn"):
        if find_spec(name) is None:
            raise InputError(
                "campaign must be labelled with --console, unless the page's packages are there "
                f"(pip install 'rlentropy[label]'), got no {name}"
            )


def all_given(store: Store, budget: int | None) -> bool:
    """Whether all labels are given that the campaign buys, or as far as one knows."""
    if budget is not None:
        return store.count() >= budget
    latest = store.latest()
    return latest is not None and not store.pending(latest)


class Place:
    """A campaign's folder, and that of the run that it belongs to, if any."""

    def __init__(self, path: Path) -> None:
        """What a path names: a run, or a folder with a store.

        Raises:
            InputError: it holds no store.
        """
        inside = (path / "campaign" / FILE).is_file()
        self.campaign = path / "campaign" if inside else path
        if not (self.campaign / FILE).is_file():
            raise InputError(
                f"campaign must be a run folder of {COMMAND} --oracle human, or the campaign "
                f"folder in it, got {path}{'' if path.exists() else ', which is not there (yet)'}"
            )
        run = path if inside else path.resolve().parent
        self.run = run if (run / "config.json").is_file() else None
        self._budget: tuple[int, int | None] = (0, None)  # as of a time of config.json

    def trust(self, env_id: str, env_kwargs: str) -> None:
        """Refuse an environment whose making would import a module or open a file, unless typed.

        Raises:
            InputError: names the option.
        """
        stored = (stored_settings(self.run) or {}) if self.run is not None else {}
        for name, typed in (("env_id", env_id), ("env_kwargs", env_kwargs)):
            if not typed and name in stored and self.run is not None:
                trusted(name, stored[name], self.run)

    def budget(self) -> int | None:
        """Labels that the run buys now; None where there is none, or it doesn't say."""
        with suppress(OSError):
            if self.run is not None:
                written = (self.run / "config.json").stat().st_mtime_ns
                if written != self._budget[0]:
                    labels = (stored_settings(self.run) or {}).get("labels")
                    self._budget = (written, labels if type(labels) is int else None)
        return self._budget[1]


class Stop:
    """Counts Ctrl-C and SIGTERM, and lets a server know that has no handlers of its own yet."""

    pressed = 0
    server: Any = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.pressed += 1
        if self.server is not None:
            self.server.should_exit = True


# ---------------------------------------------------------------- the training beside


class Training:
    """The process that learns from the answers: a child, or what somebody else has started."""

    def __init__(self, place: Place, config: Config, say: Console) -> None:
        self.place, self.config, self.say = place, config, say
        self.child: subprocess.Popen[bytes] | None = None

    def __call__(self) -> bool:
        """Whether any process trains."""
        child = self.child is not None and self.child.poll() is None
        return child or self._holder() is not None

    def _holder(self) -> int | None:
        return None if self.place.run is None else holder_of(self.place.run / LOCK)

    def _finished(self) -> bool:
        return self.place.run is not None and (self.place.run / "summary.json").exists()

    def start(self) -> None:
        """Go on with the run, unless it is finished or somebody does.

        The child is no part of our session: Ctrl-C does not reach it but through `stop`, and it
        goes on where this process is killed.
        """
        run = self.place.run
        if not self.config.train or run is None:
            return
        stored = stored_settings(run) or {}
        command = stored.get("command", "")
        asks = command in COMMANDS and COMMANDS[command].budget == "labels"
        if not asks or self._finished() or self._holder() is not None:
            return
        program = "import sys; from rlentropy.cli import main; sys.exit(main())"
        argv = [command, "--resume", "--out", str(run), "--quiet"]
        for name in ("env_id", "env_kwargs", "judge"):  # which a folder alone is not trusted with
            if value := getattr(self.config, name):
                argv.append(f"--{name.replace('_', '-')}={value}")
        if self.config.judge:  # which stands beside it alone
            argv.append(f"--oracle={stored.get('oracle')}")
        paths = [str(Path(rlentropy.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        log = self.place.campaign / TRAINING
        with writing(log), log.open("wb") as errors:
            self.child = subprocess.Popen(
                [sys.executable, "-P", "-c", program, *argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
                start_new_session=True,
            )
        write_notes(self.place.campaign, trainer=self.child.pid)
        threading.Thread(target=self._watch, args=(self.child, log), daemon=True).start()

    def _watch(self, child: subprocess.Popen[bytes], log: Path) -> None:
        """Say in a line how the child ended."""
        code = child.wait()
        if code == 0:
            self.say.line("training is finished")
            return
        if code in (130, -signal.SIGINT):
            self.say.line("training stopped after a checkpoint; label again goes on")
            return
        lines = [b""]
        with suppress(OSError):
            lines = log.read_bytes()[-2000:].splitlines() or lines
        why = f"signal {-code}" if code < 0 else lines[-1].decode("utf-8", "replace")
        print(plain(f"training ended: {why}; label again goes on"), file=sys.stderr, flush=True)

    def stop(self, stop: Stop) -> None:
        """Interrupt what we, or the server before us, began, and wait for its checkpoint."""
        pid = self.child.pid if self.child is not None else self._left_behind()
        if pid is None or not self():
            return
        before = stop.pressed
        if not self._finished():
            self.say.line("training stops after a checkpoint; Ctrl-C again: without waiting")
            with suppress(OSError):
                os.kill(pid, signal.SIGTERM if sys.platform == "win32" else signal.SIGINT)
        while self() and stop.pressed == before:
            time.sleep(LOOK)

    def _left_behind(self) -> int | None:
        """The training that a server began which is gone, where it still goes on."""
        pid = notes(self.place.campaign).get("trainer")
        return pid if type(pid) is int and pid > 1 and pid == self._holder() else None


# ---------------------------------------------------------------- the address


def notes(campaign: Path) -> dict[str, Any]:
    """What the server before us wrote down; empty where it is lost."""
    with suppress(OSError, InputError):
        return read_json(campaign / NOTES)
    return {}


def write_notes(campaign: Path, **more: Any) -> None:
    """Add to them; the file is its owner's alone, as it holds the token."""
    path = campaign / NOTES
    temporary = path.with_name(TEMPORARY + path.name)
    with writing(path):
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(notes(campaign) | more, file)
        os.replace(temporary, path)


def token_of(campaign: Path) -> str:
    """The token that is kept, or a new one."""
    kept = notes(campaign).get("token")
    return kept if isinstance(kept, str) and TOKEN.fullmatch(kept) else secrets.token_urlsafe(24)


def listen(host: str, port: int, kept: Any) -> socket.socket:
    """A socket that listens at an address of this machine.

    Args:
        port: 0: the one kept, or the next that is free, or any.

    Raises:
        InputError: the port that was asked for is taken, or the host is not this machine's.
    """
    usable = type(kept) is int and 0 < kept < 65536
    ports = [port] if port else [*(range(kept, min(kept + PORTS, 65536)) if usable else ()), 0]
    here = "host must be an address of this machine"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"{here}, got {host!r}: {error}") from None
    for number in ports:
        found = socket.socket(family, kind, protocol)  # asyncio sends at once where it is TCP
        try:
            if sys.platform != "win32":  # where it would let two servers have one port
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((address[0], number, *address[2:]))
            found.listen(128)
            return found
        except OSError as error:
            found.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise InputError(f"{here}, got {host!r}: {error.strerror or error}") from None
            if number == ports[-1]:
                why = error.strerror or error
                raise InputError(f"port must be free, got {number or port} ({why})") from None
    raise AssertionError("the last port returns or raises")


def address_of(config: Config, listening: socket.socket, token: str) -> str:
    """The page's address, with the token."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = socket.gethostname()
    host = f"[{host}]" if ":" in host else host
    query = {"token": token} | ({"labeller": config.labeller} if config.labeller else {})
    return f"http://{host}:{port}/?{urlencode(query)}"


# ---------------------------------------------------------------- asking


def serve(
    config: Config, place: Place, training: Training, clips: Clips, say: Console, stop: Stop
) -> None:
    """Serve the page until Ctrl-C."""
    import uvicorn

    from rlentropy.page import server

    kept, token = notes(place.campaign).get("port"), token_of(place.campaign)
    with listen(config.host, config.port, kept) as listening:
        write_notes(place.campaign, token=token, port=listening.getsockname()[1])
        print(address_of(config, listening, token), flush=True)
        if not ipaddress.ip_address(listening.getsockname()[0]).is_loopback:
            print(
                "note: whoever reaches this machine and has the token can answer; nothing is "
                "encrypted",
                file=sys.stderr,
                flush=True,
            )
        training.start()
        say.line("open it in a browser; Ctrl-C ends the page, and label again goes on")

        def desk() -> Desk:
            store = Store(place.campaign, must_exist=True)
            return Desk(store, queue_of(config, store), place.budget, training)

        app = server.application(desk, clips.of, token)
        options: Any = {"log_level": "error", "access_log": False, "ws": "none"}
        options |= {"timeout_graceful_shutdown": 2, "server_header": False, "loop": "asyncio"}
        stop.server = uvicorn.Server(uvicorn.Config(app, **options))
        if not stop.pressed:
            stop.server.run(sockets=[listening])


def at_console(config: Config, place: Place, training: Training, clips: Clips, stop: Stop) -> None:
    """Ask in this terminal, round after round, until the labels are given or Ctrl-C."""
    training.start()
    with closing(Store(place.campaign, must_exist=True)) as store:
        lines = Lines(lambda: stop.pressed > 0)
        window = Window(
            queue_of(config, store),
            lines,
            labeller=config.labeller or "person",
            describe=describing(clips.make),
        )

        def more() -> bool:
            """Whether a question waits, or may come."""
            if stop.pressed or lines.ended or all_given(store, place.budget()):
                return False
            return training() or bool(store.pending(store.latest() or 0))

        while more():
            if lines.open():
                with suppress(EOFError):
                    window.ask(more)
            time.sleep(LOOK)
        done = all_given(store, place.budget())
    if done and training():
        training.say.line("all labels are given; training goes on to its end")
    while done and training() and not stop.pressed:
        time.sleep(LOOK)


def queue_of(config: Config, store: Store) -> Queue:
    return Queue(store, mirror=config.mirror, second=config.second, patience=config.patience)
