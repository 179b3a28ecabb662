"""The page's command with real processes: campaigns to their end, kills, restarts, addresses."""

import json
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from rlentropy.commands import label
from rlentropy.commands.console import Console
from rlentropy.commands.label import Config, Place, address_of, listen, notes, token_of, write_notes
from rlentropy.errors import InputError, OutputError
from rlentropy.files import holder_of, lives, locked
from rlentropy.preferences.segments import Pairs, Segments
from rlentropy.preferences.store import Store
from rlentropy.runs.folder import LOCK

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
PROGRAM = "import sys; from rlentropy.cli import main; sys.exit(main())"
TABLE = (
    *("--env-id", "rlentropy/DoubleChain-v0", "--labels", "8", "--batch-size", "4"),
    *("--pool", "2", "--prompts", "1", "--acquisition", "random"),
)
CARTPOLE = (
    *("--env-id", "CartPole-v1", "--labels", "24", "--batch-size", "8", "--pool", "2"),
    *("--epochs", "1", "--hidden", "8", "--final-episodes", "2", "--evaluation-segments", "8"),
    *("--segment-length", "20", "--acquisition", "random"),
)
LIMIT = 60.0  # seconds for what takes a few


def program(*arguments, **options):
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *map(str, arguments)], **options)


def until(true, what="it"):
    end = time.monotonic() + LIMIT
    while not (found := true()):
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.02)
    return found


def begin(folder, *options):
    """A run that has asked its first questions, and was interrupted."""
    process = program(
        *("active-preference", "--oracle", "human", "--out", folder, "--quiet", *options),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip

    def ready():
        assert process.poll() is None, process.stderr.read()
        with suppress(InputError):  # not begun
            return read(folder, lambda store: store.latest() is not None)

    until(ready, "the first question")
    process.send_signal(signal.SIGINT)
    assert process.wait(LIMIT) == 130
    process.stderr.close()
    return folder


def read(folder, what):
    with closing(Store(folder / "campaign", must_exist=True)) as store:
        return what(store)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return begin(tmp_path_factory.mktemp("table") / "run", *TABLE)


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    return begin(tmp_path_factory.mktemp("cartpole") / "run", *CARTPOLE)


@pytest.fixture
def begun(table, tmp_path):
    return shutil.copytree(table, tmp_path / "run")


@pytest.fixture
def bare(tmp_path):
    """A campaign of nobody's, with one question."""
    one = Segments(
        np.array([[0, 1]]), np.array([[1]]), np.zeros((1, 1)), np.ones(1, int),
        np.zeros(1, bool), np.zeros(1, int),
    )  # fmt: skip
    with closing(Store(tmp_path / "c", {"env_id": "", "env_kwargs": "{}"})) as store:
        store.ask(0, Pairs(one, one))
    return tmp_path / "c"


class Served:
    """The command in a process, and a client of it."""

    def __init__(self, folder, *options):
        self.folder, self.options, self.begin = folder, options, None
        self.start()

    def start(self):
        self.process = program(
            *("label", "--campaign", self.folder, *self.options),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.address = self.process.stdout.readline().strip()
        if not self.address:
            pytest.fail(self.process.stderr.read())
        parts = urlsplit(self.address)
        self.base, self.token = f"http://{parts.netloc}", parse_qs(parts.query)["token"][0]

    def kill(self):
        self.process.kill()
        self.process.communicate(timeout=LIMIT)

    def interrupt(self, signal_=signal.SIGINT):
        """Exit code, what else was printed, errors."""
        self.process.send_signal(signal_)
        out, err = self.process.communicate(timeout=LIMIT)
        return self.process.returncode, out, err

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.process.poll() is None:
            self.interrupt()
        if (pid := trainer_of(self.folder)) is not None:
            os.kill(pid, signal.SIGKILL)

    def send(self, path, **body):
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        content = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self.base + path, content, headers)
        with urllib.request.urlopen(request, timeout=LIMIT) as reply:
            return json.load(reply) if "json" in reply.headers["content-type"] else reply.read()


def trainer_of(folder):
    return holder_of(folder / LOCK)


class Person(threading.Thread):
    """Answers in a window until nothing more comes; sends again what was not confirmed."""

    def __init__(self, served, name, clips=False, seed=0, pause=0.0):
        super().__init__(daemon=True)
        self.served, self.clips, self.pause = served, clips, pause
        self.who = {"window": f"window of {name}", "labeller": name}
        self.rng = random.Random(seed)
        self.said, self.confirmed, self.again, self.error = {}, set(), [], None
        self.reply = None
        self.start()

    def run(self):
        try:
            self.label()
        except BaseException as error:
            self.error = error

    def label(self):
        path, body = "/api/next", self.who
        while True:
            reply = self.reply = self.persist(path, body)
            path, body = "/api/next", self.who
            if (question := reply["question"]) is not None:
                key = (question["round"], question["position"], question["asking"])
                if key in self.confirmed:
                    self.again.append(key)
                if self.clips:
                    self.look(question)
                side = self.said.setdefault(key, self.rng.choice(["left", "right", "equal"]))
                time.sleep(self.pause * self.rng.random())
                body = {**self.who, "campaign": reply["campaign"], "side": side, **question}
                path = "/api/answer"
                confirmed = self.reply = self.persist(path, {**body, "seconds": 0.1})
                if not confirmed["late"]:
                    self.confirmed.add(key)
                path, body = "/api/next", self.who
            elif reply["state"] == "done":
                return
            else:
                time.sleep(0.05)

    def look(self, question):
        for side in ("left", "right"):
            clip = self.persist(f"/api/clip/{question[side]}")
            if clip["kind"] == "image":
                assert self.persist(f"/api/sprite/{question[side]}")[:4] == b"\x89PNG"

    def persist(self, path, body=None):
        end = time.monotonic() + LIMIT
        while True:
            try:
                return self.served.send(path, **(body or {}))
            except urllib.error.HTTPError:
                raise
            except OSError:  # the server is gone, or going
                assert time.monotonic() < end
                time.sleep(0.05)

    def finish(self):
        self.join(LIMIT)
        assert not self.is_alive(), self.reply
        if self.error is not None:
            raise self.error


def check_store(folder, people, labels):
    """All that was confirmed is there, as it was said, once; and the budget is spent exactly."""
    rows = read(folder, lambda store: [row for row in store.records() if row["id"] is not None])
    standing = {}
    for row in rows:
        if row["superseded_by"] is None and row["answer"] != "undo":
            key = (row["round"], row["position"], row["asking"])
            assert key not in standing
            standing[key] = row
    for person in people:
        assert not person.again
        for key in person.confirmed:
            row, said = standing[key], person.said[key]
            assert row["labeller"] == person.who["labeller"]
            a_left = (row["shown_left"] == "a") != (row["asking"] == "mirror")
            left, right = ("a", "b") if a_left else ("b", "a")
            assert row["answer"] == {"left": left, "right": right, "equal": "tie"}[said]
    assert sum(len(person.confirmed) for person in people) == len(standing)
    assert sum(key[2] == "label" for key in standing) == labels
    assert len(rows) == len(standing)


# ---------------------------------------------------------------- to the end


@posix
def test_a_campaign_is_labelled_to_its_end(begun):
    with Served(begun, "--labeller", "anna", "--mirror", "0.3") as served:
        assert served.address.startswith("http://127.0.0.1:")
        assert parse_qs(urlsplit(served.address).query)["labeller"] == ["anna"]
        person = Person(served, "anna", clips=True)
        person.finish()
        assert person.reply["progress"]["answered"] == person.reply["progress"]["budget"] == 8
        until((begun / "summary.json").exists, "the end of the training")
        code, out, err = served.interrupt()
    assert (code, err) == (0, "")
    assert "training is finished" in out
    check_store(begun, [person], 8)
    summary = json.loads((begun / "summary.json").read_text())
    assert (summary["finished"], summary["labels"]) == (True, 8)
    with Served(begun) as served:  # nothing is left to do, and nothing is trained
        assert served.send("/api/next", window="w", labeller="l")["state"] == "done"
        assert trainer_of(begun) is None


@posix
def test_ctrl_c_interrupts_the_training_and_label_goes_on(begun):
    """The address is the same, and so is what the window shows."""
    with Served(begun) as served:
        first = served.send("/api/next", window="w", labeller="l")
        until(lambda: trainer_of(begun), "the training")
        code, out, err = served.interrupt()
        assert (code, err) == (130, "")
        assert "training stops after a checkpoint" in out
        assert trainer_of(begun) is None
        address = served.address
        served.start()
        assert served.address == address
        again = served.send("/api/next", window="w", labeller="l")
        assert again["question"] == first["question"]
    assert stat.S_IMODE((begun / "campaign" / "page.json").stat().st_mode) == 0o600


@pytest.mark.slow
@posix
def test_a_training_that_fails_is_a_line(begun):
    config = json.loads((begun / "config.json").read_text())
    config["settings"]["epochs"] = 99
    (begun / "config.json").write_text(json.dumps(config))
    with Served(begun) as served:
        line = served.process.stderr.readline()
        assert line.startswith("training ended: error: epochs must be 3 as when the run of the")
        assert line.endswith("; label again goes on\n")
        for _ in range(4):
            reply = served.send("/api/next", window="w", labeller="l")
            body = {"campaign": reply["campaign"], "window": "w", "labeller": "l", "side": "left"}
            reply = served.send("/api/answer", **body, **reply["question"])
        assert reply["state"] == "stopped"


@pytest.mark.slow
@posix
def test_no_train(begun):
    with Served(begun, "--no-train", "--quiet") as served:
        person = served.send("/api/next", window="w", labeller="l")
        assert person["question"] is not None
        assert trainer_of(begun) is None
        assert served.interrupt(signal.SIGTERM) == (130, "", "")


@pytest.mark.slow
@posix
def test_two_people_label_cartpole(cartpole, tmp_path):
    folder = shutil.copytree(cartpole, tmp_path / "run")
    with Served(folder, "--mirror", "0.2", "--second", "0.2") as served:
        people = [Person(served, name, clips=True, pause=0.05) for name in ("anna", "bert")]
        for person in people:
            person.finish()
        until((folder / "summary.json").exists, "the end of the training")
        assert served.interrupt()[0] == 0
    check_store(folder, people, 24)
    assert all(len(person.confirmed) > 4 for person in people)


@pytest.mark.slow
@posix
def test_the_last_answer_of_a_round_can_be_taken_back_for_some_seconds(begun):
    """Though the training waits for it; what was taken back is asked again, and then learnt."""
    with Served(begun, "--mirror", "0") as served:
        until(lambda: trainer_of(begun), "the training")
        who = {"window": "w", "labeller": "anna"}
        reply = served.send("/api/next", **who)
        who["campaign"] = reply["campaign"]
        for _ in range(4):
            last = reply["question"]
            reply = served.send("/api/answer", **who, side="left", **last)
        assert (reply["question"], reply["can_undo"]) == (None, True)
        reply = served.send("/api/undo", **who)
        assert reply["question"] == last
        time.sleep(5.0)  # the training must not go on
        assert served.send("/api/next", **who)["question"] == last
        served.send("/api/answer", **who, side="right", **last)

        def next_round():
            reply = served.send("/api/next", **who)
            return reply["question"] is not None and reply

        reply = until(next_round, "the next round")
        assert (reply["question"]["round"], reply["can_undo"]) == (1, False)
        reply = served.send("/api/undo", **who)  # too late
        assert reply["question"]["round"] == 1
    a_left = read(begun, lambda store: store.question(0, last["position"]).left)
    answers = read(begun, lambda store: store.answers(0))
    assert answers[last["position"]] == (0.0 if a_left else 1.0)


# ---------------------------------------------------------------- kills


@pytest.mark.slow
@posix
@pytest.mark.parametrize("seed", range(3))
def test_servers_killed_at_any_instant(cartpole, tmp_path, seed):
    """Seven of them, twenty-one in all; the training is never stopped, and never begun twice."""
    folder, rng = shutil.copytree(cartpole, tmp_path / "run"), random.Random(seed)
    trainers = set()
    with Served(folder, "--mirror", "0.2") as served:
        people = [Person(served, name, True, seed, 0.6) for name in ("anna", "bert")]
        for _ in range(7):
            time.sleep(rng.uniform(0.1, 1.2))
            trainers.add(until(lambda: trainer_of(folder) or (folder / "summary.json").exists()))
            served.kill()
            time.sleep(rng.uniform(0, 0.1))
            address = served.address
            served.start()
            assert served.address == address
        for person in people:
            person.finish()
        until((folder / "summary.json").exists, "the end of the training")
        assert served.interrupt()[0] == 0
    check_store(folder, people, 24)
    assert len(trainers - {True}) == 1


@pytest.mark.slow
@posix
def test_a_training_that_is_killed_is_resumed(begun):
    with Served(begun) as served:
        pid = until(lambda: trainer_of(begun), "the training")
        os.kill(pid, signal.SIGKILL)
        line = served.process.stderr.readline()
        assert line == "training ended: signal 9; label again goes on\n"
        for _ in range(4):
            reply = served.send("/api/next", window="w", labeller="l")
            body = {"campaign": reply["campaign"], "window": "w", "labeller": "l", "side": "left"}
            reply = served.send("/api/answer", **body, **reply["question"])
        assert reply["state"] == "stopped"
        assert served.interrupt()[0] == 130
        served.start()
        person = Person(served, "bert")
        person.finish()
        until((begun / "summary.json").exists, "the end of the training")
        assert served.interrupt()[0] == 0
    assert len(person.confirmed) == 4 + sum(k[2] == "mirror" for k in person.confirmed)


@pytest.mark.slow
@posix
def test_a_server_that_is_killed_leaves_the_training_to_the_next(begun):
    with Served(begun) as served:
        pid = until(lambda: trainer_of(begun), "the training")
        served.kill()
        assert trainer_of(begun) == pid
        served.start()
        served.send("/api/next", window="w", labeller="l")
        assert trainer_of(begun) == pid
        code, out, _ = served.interrupt()
        assert code == 130
        assert "training stops after a checkpoint" in out
        assert trainer_of(begun) is None


# ---------------------------------------------------------------- where it listens


@pytest.mark.slow
@posix
def test_a_port_that_is_taken(bare):
    with Served(bare) as one, Served(bare) as other:
        assert one.token == other.token
        ports = [urlsplit(served.address).port for served in (one, other)]
        assert ports[1] == ports[0] + 1 or ports[1] != ports[0]
        process = program(
            *("label", "--campaign", bare, "--port", ports[0]),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        out, err = process.communicate(timeout=LIMIT)
        assert (process.returncode, out) == (2, "")
        assert err == f"error: port must be free, got {ports[0]} (Address already in use)\n"


def test_ports_are_kept_where_they_are_free():
    with listen("127.0.0.1", 0, None) as one:
        port = one.getsockname()[1]
        assert one.proto == socket.IPPROTO_TCP  # else a reply in two parts takes 40 ms more
        with listen("127.0.0.1", 0, port) as other:
            assert port < other.getsockname()[1]
        with pytest.raises(InputError, match=rf"port must be free, got {port} \(.*in use\)"):
            listen("127.0.0.1", port, None)
    with listen("127.0.0.1", 0, port) as again:
        assert again.getsockname()[1] == port
    for odd in ("x", -1, True, 2.5, 10**9, [port]):
        with listen("127.0.0.1", 0, odd) as found:
            assert found.getsockname()[1] > 0


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7", "\ud800", "a" * 300])
def test_hosts_that_are_not_here(host):
    with pytest.raises(InputError, match="host must be an address of this machine, got "):
        listen(host, 0, None)


def test_addresses(monkeypatch):
    config = Config("x", labeller="Ann & Bert")
    with listen("127.0.0.1", 0, None) as here:
        port = here.getsockname()[1]
        found = f"http://127.0.0.1:{port}/?token=tt&labeller=Ann+%26+Bert"
        assert address_of(config, here, "tt") == found
    with listen("0.0.0.0", 0, None) as here:
        port = here.getsockname()[1]
        assert (
            address_of(Config("x"), here, "t") == f"http://{socket.gethostname()}:{port}/?token=t"
        )
    if socket.has_ipv6:
        try:
            here = listen("::1", 0, None)
        except InputError:  # a machine without
            return
        with here:
            assert address_of(Config("x"), here, "t").startswith("http://[::1]:")


@posix
def test_whoever_reaches_this_machine(bare):
    with Served(bare, "--host", "0.0.0.0") as served:
        assert served.process.stderr.readline() == (
            "note: whoever reaches this machine and has the token can answer; nothing is "
            "encrypted\n"
        )


def test_the_token_is_kept_and_is_nobody_elses(tmp_path):
    first = token_of(tmp_path)
    assert len(first) == 32
    assert token_of(tmp_path) != first
    (tmp_path / "page.json").write_text("{}")
    (tmp_path / "page.json").chmod(0o644)
    write_notes(tmp_path, token=first, port=8)
    write_notes(tmp_path, trainer=5)
    assert notes(tmp_path) == {"token": first, "port": 8, "trainer": 5}
    assert token_of(tmp_path) == first
    assert stat.S_IMODE((tmp_path / "page.json").stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["page.json"]
    for odd in ("[]", "{", '{"token": "short"}', '{"token": 3}', '{"token": "' + "é" * 40 + '"}'):
        (tmp_path / "page.json").write_text(odd)
        assert len(token_of(tmp_path)) == 32


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="out must be a writable folder"):
        write_notes(tmp_path / "gone", port=1)


# ---------------------------------------------------------------- what is refused


def test_what_is_no_campaign(command_line, tmp_path):
    (tmp_path / "empty").mkdir()
    for path, more in (("empty", ""), ("nowhere", ", which is not there (yet)")):
        code, out, err = command_line("label", "--campaign", path)
        assert (code, out) == (2, "")
        assert err == (
            "error: campaign must be a run folder of active-preference --oracle human, or the "
            f"campaign folder in it, got {path}{more}\n"
        )
    code, _, err = command_line("label")
    assert (code, err) == (
        2, "error: campaign must be a run folder of active-preference, got none\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--port", "70000"), "port must be <= 65535, got 70000"),
        (("--port=-1",), "port must be >= 0, got -1"),
        (("--mirror", "2"), "mirror must be in [0, 1], got 2.0"),
        (("--second", "nan"), "second must be in [0, 1], got nan"),
        (("--patience", "0"), "patience must be > 0 and finite, got 0.0"),
        (("--labeller", "a\nb"), "labeller must be at most 64 printable characters, got 'a\\nb'"),
    ],
)
def test_options_that_are_refused(command_line, bare, options, line):
    assert command_line("label", "--campaign", bare, *options) == (2, "", f"error: {line}\n")


@pytest.mark.parametrize("name", ["starlette", "uvicorn"])
def test_without_the_extra(command_line, bare, monkeypatch, name):
    monkeypatch.setattr(label, "find_spec", lambda wanted: None if wanted == name else object())
    code, out, err = command_line("label", "--campaign", bare)
    assert (code, out) == (2, "")
    assert err == (
        "error: campaign must be labelled with --console, unless the page's packages are there "
        f"(pip install 'rlentropy[label]'), got no {name}\n"
    )


def test_an_environment_that_must_be_typed(command_line, begun):
    config = json.loads((begun / "config.json").read_text())
    for name, value, line in (
        ("env_id", "os:x-v0", "env_id must be given (--env-id) where the one stored in"),
        ("env_kwargs", '{"f": "a/b"}', "env_kwargs must be given (--env-kwargs) where those"),
    ):
        changed = {**config, "settings": {**config["settings"], name: value}}
        (begun / "config.json").write_text(json.dumps(changed))
        code, out, err = command_line("label", "--campaign", begun)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {line}")


def test_a_judge_that_is_code_must_be_typed(command_line, tmp_path, monkeypatch):
    """A run folder alone runs no function, neither resumed nor gone on with beside the page."""
    (tmp_path / "mine.py").write_text("print('ran')\ndef f(t):\n    return 1.0\n")
    out, judge = tmp_path / "run", f"{tmp_path}/mine.py:f"
    options = ("--env-id", "FrozenLake-v1", "--labels", 4, "--batch-size", 4, "--quiet")
    ask = ("--oracle", "judge", "--judge", judge, "--out", out)
    code, said, err = command_line("active-preference", *options, *ask)
    assert (code, said, err) == (0, "ran\n", "")
    again = ("active-preference", "--resume", "--out", out, "--labels", 8, "--quiet")
    code, said, err = command_line(*again)
    assert (code, said) == (2, "")
    assert err.startswith(
        "error: judge must be given (--oracle judge --judge) where the one stored in"
    )
    code, said, err = command_line(*again, "--oracle", "judge", "--judge", judge)
    assert (code, said, err) == (0, "ran\n", "")


def test_a_damaged_store(command_line, bare):
    (bare / "answers.sqlite").write_bytes(b"odd" * 999)
    code, out, err = command_line("label", "--campaign", bare)
    assert (code, out, err.count("\n")) == (2, "", 1)


# ---------------------------------------------------------------- parts


def test_places(begun, bare, tmp_path):
    for path in (begun, begun / "campaign"):
        place = Place(path)
        assert place.campaign == begun / "campaign"
        assert place.run.resolve() == begun.resolve()
        assert place.budget() == 8
    config = json.loads((begun / "config.json").read_text())
    for labels, budget in ((12, 12), ("x", None), (True, None)):
        config["settings"]["labels"] = labels
        (begun / "config.json").write_text(json.dumps(config))
        assert place.budget() == budget  # of a run that goes on with more
    assert Place(bare).run is None
    assert Place(bare).budget() is None


def test_when_all_labels_are_given(bare):
    with closing(Store(bare)) as store:
        assert not label.all_given(store, None)
        assert not label.all_given(store, 1)
        store.answer(0, 0, 1.0, "anna")
        assert label.all_given(store, None)
        assert label.all_given(store, 1)
        assert not label.all_given(store, 2)


def test_who_holds_a_lock(tmp_path):
    file = tmp_path / "lock"
    assert holder_of(file) is None
    with locked(file, "out", tmp_path):
        assert holder_of(file) == os.getpid()
        assert Path(file).read_text() == str(os.getpid())
    assert holder_of(file) is None
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for content in (str(gone.pid), str(os.getpid()), "", "x", "9" * 19):
        file.write_text(content)  # of somebody who was killed
        assert holder_of(file) is None
        with locked(file, "out", tmp_path):
            pass
    assert lives(os.getpid())
    assert not lives(gone.pid)


@pytest.mark.parametrize("command", ["entgame", "nothing", ""])
def test_runs_of_other_commands_are_not_begun(begun, command):
    config = json.loads((begun / "config.json").read_text())
    (begun / "config.json").write_text(json.dumps({**config, "command": command}))
    training = label.Training(Place(begun), Config(str(begun)), Console(True))
    training.start()
    assert training.child is None


def test_training_without_a_run(bare):
    training = label.Training(Place(bare), Config(str(bare)), Console(True))
    training.start()
    assert training.child is None
    assert not training()
    training.stop(label.Stop())
