"""Damaged run folders, odd options, tables and labels end with 0, 2 or 130, never a traceback.

The inputs are drawn from fixed seeds, so every run sees the same ones. RLENTROPY_FUZZ=2000 draws so
many, instead of the few that fit into the fast tests.
"""

import contextlib
import dataclasses
import json
import os
import resource
import shutil
import signal
import traceback
from importlib import import_module

import numpy as np
import pytest

from rlentropy import cli
from rlentropy.commands.options import Options
from rlentropy.runs.table import COMMANDS, TOOLS

NUMBER = int(os.environ.get("RLENTROPY_FUZZ", "150"))
SECONDS = 3.0  # after which an input that is taken for valid is interrupted
MEMORY = 12 * 2**30  # bytes of addresses: what asks for more gets a MemoryError

TEXTS = (
    *("", " ", "x", "..", "../up", "/", "-", "--help", "-h", "=1+1", "@cmd", "$x$ $", "$\\frac$"),
    *("a\nb", "\x1b[2J\x1b]0;x\x07", "a\0b", "\ud800", "\u202e", "é", "状态", "🙂", "_hidden"),
    *("nan", "inf", "-inf", "1e308", "1e-320", "-1", "0", "0x10", "1_0", "9" * 400, "None"),
    *("[]", "{}", "null", "a:b", "os:x-v0", "a:b:c", ":", "%s", "{0}", "[/bold]", "entropic:"),
    *("kl-ball:nan", "cvar:0", "chi2-ball:-1", "FrozenLake-v1", "rlentropy/Ring-v0", "a" * 300),
    *('{"p": "x"}', "True", "1:0"),
)
VALUES = (
    *TEXTS, None, True, False, 0, -1, 1, 3, 10**30, -(10**30), 0.5, -0.5, 1e308, 1e-320, [], {},
    float("nan"), float("inf"), [1], [-1], ["x"], [[]], [None], {"a": 1}, {"a": {"b": []}}, [True],
    [1e400], 2**63, 2**31,
)  # fmt: skip

TINY = ("--env-id", "rlentropy/DoubleChain-v0", "--horizon", "4", "--episodes", "5")
RUNS = {
    "entgame": ("entgame", *TINY),
    "maxent": ("maxent", *TINY, "--mixture-size", "3"),
    "pg": ("robust-pg", "--env-id", "rlentropy/Ring-v0", "--updates", "5", "--gamma", "0.5"),
    "critic": (
        *("robust-actor-critic", "--env-id", "CartPole-v1", "--steps", "64", "--num-envs", "2"),
        *("--rollout-steps", "32", "--hidden", "4", "--evaluation-episodes", "1"),
        *("--final-episodes", "1", "--epochs", "1", "--minibatches", "1"),
    ),
}
ASKING = ("--env-id", "FrozenLake-v1", "--labels", "8", "--batch-size", "4", "--pool", "2")
WRITING = (
    *("--model", "random:1,4", "--labels", "2", "--batch-size", "2", "--pool", "1"),
    *("--max-new-tokens", "2", "--evaluation-prompts", "2", "--evaluation-pairs", "2"),
    *("--epochs", "1"),
)
EXPLORING = (
    *("--env-id", "MountainCar-v0", "--steps", "40", "--horizon", "10", "--episodes", "2"),
    *("--hidden", "4", "--final-episodes", "2"),
)
DATA = ("--env-id", "CartPole-v1", "--steps", "99", "--num-envs", "1")
NEURAL = ("--updates", "3", "--hidden", "4", "--batch-size", "8", "--evaluation-episodes", "1")
NUMBERS = (
    *["0", "1", "2", "3", "-1", "0.5", "nan", "inf", "1e308", "1e-320", "-0.0", "1e999"],
    10**6,
    10**12,
    2**63,
)
BUDGETS = {"entgame": "--episodes", "maxent": "--episodes", "pg": "--updates", "critic": "--steps"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of each kind."""
    base = tmp_path_factory.mktemp("finished")
    for name, command in RUNS.items():
        assert cli.main([*command, "--quiet", "--out", str(base / name)]) == 0
    assert cli.main(["collect", *DATA, "--data", str(base / "d.npz"), "--quiet"]) == 0
    asked = str(base / "asked")
    assert cli.main(["active-preference", *ASKING, "--quiet", "--out", asked]) == 0
    return base


# ---------------------------------------------------------------- one input


def attempt(argv, capsys):
    """What is wrong with how a command line ends; None: nothing."""
    timer = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, limits[1]))
    signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS)
    try:
        code = cli.main(argv)
    except SystemExit as end:
        code = None if end.code else "an exit that asks for help"
    except BaseException:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        code = traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, timer)
        resource.setrlimit(resource.RLIMIT_AS, limits)
    told = capsys.readouterr().err
    if code == 2:
        lines = [line for line in told.split("\n") if line.startswith("error: ")]
        whole = len(lines) == 1 and all(c.isprintable() for c in lines[0])
        whole = whole and told.rstrip("\n").endswith(lines[0])
        return None if whole else f"no clean line: {told!r}"
    fine = code in (0, 130) or (code == 1 and argv[0] == "sweep")
    return None if fine and "Traceback" not in told else f"{code}\n{told}"


def check(number, make, tmp_path, monkeypatch, capsys):
    """Try so many inputs; `make` gives the arguments from a generator and a new folder."""
    wrong = []
    for k in range(number):
        folder = tmp_path / str(k)
        folder.mkdir()
        monkeypatch.chdir(folder)
        argv = make(np.random.default_rng(k), folder)
        if (what := attempt(argv, capsys)) is not None:
            wrong.append(f"input {k}: {argv}\n{what}")
        shutil.rmtree(folder)
    assert not wrong, f"{len(wrong)} of {number}\n\n" + "\n\n".join(wrong)


def pick(rng, choices):
    choices = list(choices)
    return choices[rng.integers(len(choices))]


# ---------------------------------------------------------------- kinds of input


def damage(rng, folder, others):
    """Damage one file of a run folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".png")
    path = pick(rng, files)
    content = bytearray(path.read_bytes())
    kind = rng.integers(10)
    if path.suffix == ".json" and kind < 6:
        path.write_text(json.dumps(changed(rng, json.loads(content))))
    elif kind < 4 and content:
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        path.write_bytes(content)
    elif kind < 6:
        path.write_bytes(content[: rng.integers(len(content) + 1)])
    elif kind == 6:
        path.write_bytes(
            pick(rng, (b"", b"[" * 100_000, b"\0" * 99, rng.bytes(300), b"{}", b"null"))
        )
    elif kind == 7:
        path.unlink()
        if rng.random() < 0.5:
            path.mkdir()
    elif kind == 8:
        shutil.copy(pick(rng, sorted(p for p in others.rglob("*") if p.is_file())), path)
    else:
        damage_arrays(rng, folder)


def damage_arrays(rng, folder):
    """Write an array, or a tensor, of another kind into a whole file."""
    odd = (np.nan, -1.0, 0.0, 2.0, 1j, True, "x", np.inf, 1e-300)
    for path in sorted(folder.rglob("*.npz")):
        with np.load(path) as file:
            arrays = dict(file)
        name = pick(rng, arrays)
        shape = pick(rng, (arrays[name].shape, (0,), (), (1, 2, 3), arrays[name].shape[:-1]))
        arrays[name] = np.full(shape, pick(rng, odd))
        np.savez(path, **arrays)
    if (path := folder / "policy.pt").exists():
        import torch

        saved = torch.load(path, weights_only=True)
        name = pick(rng, saved)
        saved[name] = pick(rng, (None, [], [0], "x", torch.full((3,), np.nan), torch.zeros(2), 1e9))
        torch.save(saved, path)


def changed(rng, value):
    """JSON with one value replaced, or one name gone."""
    if isinstance(value, dict) and value and rng.random() < 0.95:
        name = pick(rng, value)
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != name}
        return value | {name: changed(rng, value[name])}
    return pick(rng, VALUES)


def table_text(table):
    """A table as TOML, as well as it goes: some values have no form there."""

    def text(value):
        if isinstance(value, dict):
            return "{" + ", ".join(f"{json.dumps(k)} = {text(v)}" for k, v in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(text, value)) + "]"
        if isinstance(value, str):
            return json.dumps(value)
        return str(value).lower()

    return "".join(f"{json.dumps(name)} = {text(value)}\n" for name, value in table.items())


def fields_of(command):
    module = import_module((COMMANDS | TOOLS)[command].module)
    shared = dataclasses.fields(Options) if command in COMMANDS else ()
    return [field.name for field in (*shared, *dataclasses.fields(module.Config))]


@pytest.mark.parametrize("reader", ["evaluate", "compare", "collect", "resume", "load"])
def test_damaged_folders(finished, reader, tmp_path, monkeypatch, capsys):
    def make(rng, folder):
        name = pick(rng, RUNS)
        run = folder / "run"
        shutil.copytree(finished / name, run)
        for _ in range(1 + int(rng.integers(2))):
            with contextlib.suppress(Exception):  # what is damaged already
                damage(rng, run, finished)
        if reader == "evaluate":
            return ["evaluate", "--run", "run", "--episodes", "1", "--quiet"]
        if reader == "compare":
            return ["compare", "run", str(finished / name), "--quiet", "--out", "out", "--force"]
        if reader == "collect":
            steps = ["--steps", "9", "--horizon", "5", "--quiet", "--num-envs", "1"]
            return ["collect", "--policy", "run", "--data", "d.npz", *steps]
        more = [BUDGETS[name], "96" if name == "critic" else "9"] if rng.random() < 0.8 else []
        command = RUNS[name] if rng.random() < 0.5 else RUNS[name][:1]
        return [*command, *more, "--resume", "--out", "run", "--quiet"]

    if reader == "load":
        monkeypatch.setattr(cli, "main", load_everything)
    check(NUMBER // 10, make, tmp_path, monkeypatch, capsys)


def load_everything(argv):
    from rlentropy import load_run
    from rlentropy.errors import InputError

    try:
        run = load_run("run")
        assert run.config
        assert isinstance(run.metrics, dict)
        assert repr(run.policy)
    except InputError as error:
        print("error:", " ".join(str(error).split()), file=cli.sys.stderr)
        return 2
    return 0


def sound(command, base):
    """A short command line that is fine."""
    data = ("--data", str(base / "d.npz"), *NEURAL)
    return {
        **{name: TINY for name in COMMANDS if "exploration" in COMMANDS[name].module},
        **dict.fromkeys(("neural-entgame", "neural-maxent", "neural-random", "mepol"), EXPLORING),
        "optimal-exploration": TINY[:-2],
        "robust-planning": RUNS["pg"][1:3],
        "robust-pg": RUNS["pg"][1:],
        "robust-actor-critic": RUNS["critic"][1:],
        **dict.fromkeys(("rfzi", "rfqi", "fqi"), data),
        "active-preference": ASKING,
        "language-preference": WRITING,
        "collect": (*DATA, "--data", "x.npz"),
        "evaluate": ("--run", str(base / "entgame"), "--out", "out", "--episodes", "1"),
        "video": ("--run", str(base / "entgame"), "--out", "out.gif"),
        "relabel": (
            *("--data", str(base / "d.npz"), "--out-data", "y.npz"),
            *("--goal", "0", "--features", "0", "--radius", "0.01"),
        ),
        "envs": ("Chain",),
        "campaign": ("--campaign", str(base / "asked")),
        "compare": (str(base / "entgame"),),
        "label": ("--campaign", str(base / "asked"), "--no-train"),
        "sweep": ("--commands", "rfzi", "--env-ids", "CartPole-v1", "--out", "out"),
    }[command]


def test_odd_options(finished, tmp_path, monkeypatch, capsys):
    def make(rng, folder):
        command = pick(rng, COMMANDS | TOOLS)
        argv = [command, *sound(command, finished)]
        for _ in range(1 + int(rng.integers(2))):
            flag = f"--{pick(rng, fields_of(command)).replace('_', '-')}"
            value = str(pick(rng, NUMBERS if rng.random() < 0.6 else TEXTS))
            argv += [f"{flag}={value}"] if rng.random() < 0.7 else [flag, value]
        return [a for a in argv if a not in ("--help", "-h")]

    check(NUMBER * 3 // 10, make, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_odd_tables(command, tmp_path, monkeypatch, capsys):
    def make(rng, folder):
        name = pick(rng, ("entgame", "robust-pg", "rfzi"))
        names = [*fields_of(name), "help", "h", "env-id", "x", "runs", "command"]
        table = {pick(rng, names): pick(rng, VALUES) for _ in range(1 + int(rng.integers(3)))}
        if command == "train":
            (folder / "c.toml").write_text(table_text(table), errors="replace")
            return [name, *(TINY if name == "entgame" else ()), "--config", "c.toml", "--quiet"]
        line = {
            "command": name,
            "env_id": "rlentropy/Nothing-v0",
            "seeds": 1,
            "episodes": 2,
        } | table
        own = {pick(rng, ("out", "workers", "common", "x")): pick(rng, VALUES)}
        for name in ("command", "env_ids", "seeds", "label", "env_kwargs"):
            if rng.random() < 0.2:
                line[name] = pick(rng, VALUES)
        text = (table_text(own) if rng.random() < 0.4 else "") + "[[runs]]\n" + table_text(line)
        (folder / "c.toml").write_text(text, errors="replace")
        return ["sweep", "--config", "c.toml", "--quiet", "--workers", "1", "--out", "out"]

    check(NUMBER // 10, make, tmp_path, monkeypatch, capsys)


def test_odd_labels(finished, tmp_path, monkeypatch, capsys):
    """Few, as `compare` draws pictures of three runs for each."""

    def make(rng, folder):
        for k in range(3):
            run = folder / "runs" / str(k)
            shutil.copytree(finished / "entgame", run)
            summary = json.loads((run / "summary.json").read_text())
            parts = [pick(rng, TEXTS) for _ in range(int(rng.integers(1, 4)))]
            summary |= {"label": "".join(parts), "seed": k}
            (run / "summary.json").write_text(json.dumps(summary))
        tool = pick(rng, ("compare", "evaluate"))
        if tool == "compare":
            return ["compare", "runs", "--out", "out"]
        return ["evaluate", "--run", "runs", "--out", "out", "--episodes", "1"]

    check(NUMBER // 30, make, tmp_path, monkeypatch, capsys)
