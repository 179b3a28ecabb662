"""The command line from outside: what it refuses and how, what it writes, what it learns from.

The environments live in a module written to a temporary folder, as a user's would.
"""

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from rlentropy.cli import main
from rlentropy.envs.double_chain import DoubleChainEnv
from rlentropy.errors import InputError
from rlentropy.exploration import entgame, random_policy
from rlentropy.files import locked
from rlentropy.log import Log
from rlentropy.runs.folder import LOCK

ROOT = Path(__file__).parents[1]
CHAIN = "rlentropy/DoubleChain-v0"
SMALL = ("--env-id", CHAIN, "--env-kwargs", '{"num_states": 7}', "--horizon", "5")
COMMANDS = ("entgame", "random-policy", "optimal-exploration")

OUTSIDE = '''
"""A random world of six states, the last one terminal, that shows its model, a lie, or nothing."""
import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from rlentropy import FiniteMDP

S, A = 6, 3
STEPS = [0]  # real steps taken in this process


def kernel(seed=99):
    rng = np.random.default_rng(seed)
    P = np.zeros((S, A, S))
    for s in range(S):
        for a in range(A):
            P[s, a, rng.choice(S, 3, replace=False)] = rng.dirichlet(np.ones(3))
    P[S - 1] = np.eye(S)[S - 1]
    return P


class World(gymnasium.Env):
    def __init__(self, shows="nothing", first_state=0, first_action=0, flaw=None):
        self.observation_space = Discrete(S, start=first_state)
        self.action_space = Discrete(A, start=first_action)
        self.first_state, self.first_action, self.flaw = first_state, first_action, flaw
        self.true = kernel()
        mu, terminal = np.eye(S)[0], np.arange(S) == S - 1
        if shows in ("mdp", "lie"):
            P = self.true if shows == "mdp" else self.true[:, ::-1]
            self.mdp = FiniteMDP(P, np.zeros((S, A)), mu, terminal=terminal)
        elif shows == "table":
            self.initial_state_distrib = mu
            self.P = {
                s: {
                    a: [(float(p), j, 0.0, bool(j == S - 1)) for j, p in enumerate(self.true[s, a])]
                    for a in range(A)
                }
                for s in range(S)
            }
        elif shows == "foreign-mdp":
            self.mdp = object()
        elif shows == "array":
            self.P = self.true

    def see(self):
        if self.flaw == "outside":
            return self.s + self.first_state + (S if self.s > 1 else 0)
        if self.flaw == "fraction":
            return self.s + self.first_state + 0.5
        return self.s + self.first_state

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s, self.t = 0, 0
        return self.see(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        STEPS[0] += 1
        self.t += 1
        self.s = int(self.np_random.choice(S, p=self.true[self.s, action - self.first_action]))
        truncated = self.flaw == "truncates" and self.t == 3
        return self.see(), 0.0, self.s == S - 1, truncated, {}


class Grid(World):
    """Spaces that are not Discrete."""

    def __init__(self, actions=False):
        super().__init__()
        if actions:
            self.action_space = Box(-1.0, 1.0, (1,))
        else:
            self.observation_space = MultiDiscrete([2, 3])


for name, kwargs in {
    "Known": {"shows": "mdp"},
    "Table": {"shows": "table"},
    "Hidden": {},
    "Liar": {"shows": "lie"},
}.items():
    gymnasium.register(f"QA/{name}-v0", f"{__name__}:World", kwargs=kwargs, max_episode_steps=12)
gymnasium.register("QA/Endless-v0", f"{__name__}:World")
gymnasium.register("QA/Grid-v0", f"{__name__}:Grid", max_episode_steps=12)
'''


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """A folder with the module qa_outside, from which the command line is used."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "qa_outside.py").write_text(OUTSIDE)
    yield folder
    sys.modules.pop("qa_outside", None)
    for env_id in [e for e in gymnasium.registry if e.startswith("QA/")]:
        del gymnasium.registry[env_id]


@pytest.fixture
def cli(capfd, monkeypatch, outside, tmp_path):
    """Run the command line in this process, in a folder of its own; (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(outside)])

    def run(*arguments):
        capfd.readouterr()
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as end:
            code = end.code
        return (code, *capfd.readouterr())

    return run


def process(*arguments, cwd, python=()):
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, *python, str(ROOT / "train.py"), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def check_refusal(code, err, *said):
    assert code == 2, err
    assert err.count("\n") == 1, err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    for pattern in said:
        assert re.search(pattern, err), (pattern, err)


def load(folder):
    with np.load(Path(folder) / "policy.npz") as file:
        return {name: file[name] for name in file.files}


def read_json(path):
    return json.loads(Path(path).read_text())


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("entgame", *SMALL, "--episoeds", "5"), ["episoeds", "--episodes"]),
        (("entgame", *SMALL, "--objectiv", "VE"), ["objectiv", "--objective"]),
        (("entgame", *SMALL, "stray"), ["stray"]),
        (("entgame", *SMALL, "--episodes", "many"), ["episodes", "int", "many"]),
        (("entgame", *SMALL, "--episodes", "2.5"), ["episodes", "2.5"]),
        (("entgame", *SMALL, "--episodes"), ["episodes"]),
        (("entgame", *SMALL, "--objective", "TE"), ["objective", "VE_S", "AVE_S", "TE"]),
        (("random-policy", *SMALL, "--objective", "H"), ["objective", "TE", "H"]),
        (("entgame", *SMALL, "--bonus", "hoefding-kl"), ["bonus", "hoeffding-kl", "hoefding-kl"]),
        (("entgam", *SMALL), ["command must be", "'entgam'", "did you mean .*entgame"]),
        (("optimal", *SMALL), ["command must be", "optimal-exploration"]),
        (("", *SMALL), ["command must be"]),
        (("entgame", "--env-id", "rlentropy/DoubleChian-v0"), ["env_id", "DoubleChain"]),
        (("entgame", "--env-id", "FrozenLke-v1"), ["env_id", "FrozenLake"]),
        (("entgame", "--env-id", "rlentropy/DoubleChain-v9"), ["env_id", "DoubleChain-v0|`v0`"]),
        (("entgame", "--env-id", "Nothing/At:all"), ["env_id must"]),
        (("entgame", "--env-id", "no_such_module_qa:QA/Known-v0"), ["env_id", "no_such_module_qa"]),
        (("entgame", "--env-id", "Taxi-v3"), ["env_id", "Taxi-v4|v4"]),
        (("entgame", "--env-id", CHAIN, "--env-kwargs", "{n: 5}"), ["env_kwargs", "JSON", "n: 5"]),
        (("entgame", "--env-id", CHAIN, "--env-kwargs", "[5]"), ["env_kwargs", "JSON object"]),
        (("entgame", "--env-id", CHAIN, "--env-kwargs", '{"sise": 5}'), ["env_kwargs", "sise"]),
        (
            ("entgame", "--env-id", CHAIN, "--env-kwargs", '{"num_states": 0}'),
            ["env_kwargs", "num_states must be", "got 0"],
        ),
        (
            ("entgame", "--env-id", "FrozenLake-v1", "--env-kwargs", '{"map_name": "9x9"}'),
            ["env_kwargs", "9x9"],
        ),
        (("entgame",), ["env_id must be"]),
        (("entgame", *SMALL, "--episodes", "-5"), ["episodes must be >= 1", "-5"]),
        (("entgame", *SMALL, "--episodes", "0"), ["episodes must be >= 1", "got 0"]),
        (("random-policy", *SMALL, "--episodes", "-1"), ["episodes must be >= 1", "-1"]),
        (("entgame", "--env-id", CHAIN, "--horizon", "-3"), ["horizon must be >= 1", "-3"]),
        (("random-policy", "--env-id", CHAIN, "--horizon", "0"), ["horizon must be >= 1", "got 0"]),
        (("entgame", "--env-id", "qa_outside:QA/Endless-v0"), ["horizon must be"]),
        (("entgame", *SMALL, "--seed", "-1"), ["seed must be >= 0", "-1"]),
        (("entgame", *SMALL, "--seed", "one"), ["seed", "one"]),
        (("entgame", *SMALL, "--eval-every", "-2"), ["eval_every must be >= 0", "-2"]),
        (("entgame", *SMALL, "--checkpoint-every", "-2"), ["checkpoint_every must be >= 0", "-2"]),
        (("entgame", *SMALL, "--prior", "0"), ["prior must be", "got 0"]),
        (("entgame", *SMALL, "--prior", "nan"), ["prior must be", "nan"]),
        (("entgame", *SMALL, "--prior", "inf"), ["prior must be", "inf"]),
        (("entgame", *SMALL, "--bonus-scale", "-1"), ["bonus_scale must be", "-1"]),
        (
            ("entgame", *SMALL, "--bonus", "code", "--bonus-scale", "inf"),
            ["bonus_scale must be", "inf"],
        ),
        (("entgame", *SMALL, "--delta", "1"), ["delta must be", "got 1"]),
        (("entgame", *SMALL, "--mixture-size", "-1"), ["mixture_size must be", "-1"]),
        (("entgame", *SMALL, "--resume", "--overwrite"), ["resume", "overwrite"]),
        (("entgame", *SMALL, "--out", "x" * 300), ["out must be"]),
        (
            ("entgame", "--env-id", "qa_outside:QA/Hidden-v0", "--simulator", "compiled"),
            ["simulator must be", "compiled"],
        ),
        (("optimal-exploration", "--env-id", "qa_outside:QA/Hidden-v0"), ["model"]),
        (("optimal-exploration", "--env-id", "Blackjack-v1", "--horizon", "3"), ["Discrete"]),
        *[((command, "--env-id", "CartPole-v1"), ["Discrete", "Box"]) for command in COMMANDS],
        (("entgame", "--env-id", "qa_outside:QA/Grid-v0"), ["observation", "Discrete"]),
        (
            ("entgame", "--env-id", "qa_outside:QA/Grid-v0", "--env-kwargs", '{"actions": true}'),
            ["action", "Discrete", "Box"],
        ),
    ],
    ids=lambda x: "-".join(x[:1] + x[3:])[:60] if isinstance(x, tuple) else "",
)
def test_wrong_input_is_one_line_and_exit_2(cli, arguments, said):
    code, out, err = cli(*arguments)
    check_refusal(code, err, *said)
    assert "Traceback" not in out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"episodes = [", ["config", "TOML"]),
        (b"episodes = 5\nepisodes = 6", ["config", "TOML"]),
        (b"title = '\xff\xfe'", ["config"]),
        (b"episoeds = 5", ["episoeds", "episodes"]),
        (b"[entgame]\nepisodes = 5", ["entgame"]),
        (b"episodes = 'few'", ["episodes", "few"]),
        (b"episodes = 1.5", ["episodes", "1.5"]),
        (b"clip = 'yes'", ["clip", "yes"]),
        (b"clip = 1", ["clip"]),
        (b"objective = 've'", ["objective", "'ve'"]),
    ],
)
def test_wrong_toml_is_one_line_and_exit_2(cli, tmp_path, content, said):
    (tmp_path / "run.toml").write_bytes(content)
    code, _, err = cli("entgame", *SMALL, "--config", "run.toml")
    check_refusal(code, err, *said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("help = 0", "config must hold options alone, got 'help'"),
        ("h = 1", "config must hold options alone, got 'h'"),
        ('"env-id" = "a"\nenv_id = "b"', "env_id must be given once, got 'env-id' and 'env_id'"),
        ('config = "other.toml"', "config must hold options alone, got 'config'"),
        ("episodes = [3]", r"episodes must be a value of its option, got \[3\]"),
        ("episodes = true", "episodes must be a value of its option, got True"),
        ("episodes = {a = 1}", "episodes must be a value"),
        ("label = 1979-05-27", "label must be a value"),
        ('label = "--help"', "label"),
        ('label = "a\\u0000b"', "without null characters"),
        ('out = "a\\u0000b"', "without null characters"),
        ("episodes = " + "9" * 5000, "TOML"),
        ("episodes = " + "[" * 50_000, "TOML"),
    ],
)
def test_tables_that_hold_more_than_options(cli, tmp_path, content, said):
    (tmp_path / "run.toml").write_text(content)
    if "--help" in content:  # a text, whatever it looks like
        assert cli("entgame", *SMALL, "--episodes", 2, "--config", "run.toml", "--out", "x")[0] == 0
        assert read_json("x/summary.json")["label"] == "--help"
        return
    code, out, err = cli("entgame", *SMALL, "--config", "run.toml")
    check_refusal(code, err, said)
    assert out == ""


@pytest.mark.parametrize(
    ("option", "value"),
    [("--prior", "1e308"), ("--eval-every", str(2**63))],
)
def test_numbers_beyond_all_arithmetic(cli, option, value):
    code, _, err = cli("entgame", *SMALL, "--episodes", "2", option, value)
    check_refusal(code, err, f"{option[2:].replace('-', '_')} must be less than")


@pytest.mark.parametrize("label", ["a\nb", "\x1b[2J", "x" * 101, "\u202e"])
def test_labels_that_would_steer_a_terminal(cli, label):
    code, _, err = cli("entgame", *SMALL, "--episodes", "2", "--label", label)
    check_refusal(code, err, "label must be at most 100 printable characters")


@pytest.mark.parametrize("env_id", ["a:b:c", ":", "a:", ":b", ".x:y", "x y:z", "rlentropy/"])
def test_ids_that_are_none(cli, env_id):
    code, _, err = cli("entgame", "--env-id", env_id, "--episodes", "2", "--horizon", "3")
    check_refusal(code, err, "env_id")


def test_deep_json_as_keyword_arguments(cli):
    code, _, err = cli("entgame", *SMALL, "--episodes", "2", "--env-kwargs", "[" * 100_000)
    check_refusal(code, err, "env_kwargs must be a JSON object")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError("7 TiB"), "memory must suffice .* 7 TiB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "memory must suffice"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "importable, got .*torch"),
        (ImportError("libtorch.so is no library"), "importable, got libtorch"),
        (OSError(36, "File name too long", "xxx"), "File name too long: 'xxx'"),
    ],
)
def test_what_the_machine_refuses_is_one_line(cli, monkeypatch, error, said):
    def fail(*arguments, **named):
        raise error

    monkeypatch.setattr(entgame, "run", fail)
    code, _, err = cli("entgame", *SMALL, "--episodes", "2", "--out", "x")
    check_refusal(code, err, said)


@pytest.mark.parametrize(
    "error", [KeyError("x"), RuntimeError("y"), ImportError("z", name="rlentropy.z")]
)
def test_our_bugs_show_a_traceback(cli, monkeypatch, error):
    def fail(*arguments, **named):
        raise error

    monkeypatch.setattr(entgame, "run", fail)
    with pytest.raises(type(error)):
        cli("entgame", *SMALL, "--episodes", "2", "--out", "x")


def test_a_neural_command_without_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    code = "import sys; from rlentropy.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "robust-actor-critic", "--env-id", "CartPole-v1"]
    ended = subprocess.run(
        [*command, "--steps", "64"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    check_refusal(ended.returncode, ended.stderr, "importable, got no torch here")


def test_a_reader_that_has_seen_enough(tmp_path):
    command = f"{sys.executable} {ROOT / 'train.py'} entgame --help | head -1"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert ended.stdout.count("\n") == 1
    assert ended.stderr == ""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("command", [("entgame", *SMALL), ("compare",)])
def test_an_interrupt_while_modules_load(tmp_path, command):
    for delay in (0.15, 0.4, 0.8):
        ended = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *command],
            cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        time.sleep(delay)
        ended.send_signal(signal.SIGINT)
        _, err = ended.communicate(timeout=120)
        assert ended.returncode in (130, -signal.SIGINT, 0, 2)
        assert "Traceback" not in err
        assert err.count("\n") <= 1


# ---------------------------------------------------------------- whose folder it is


def test_here_is_a_folder_too(cli, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    run = ("entgame", *SMALL, "--out", ".", "--quiet")
    assert cli(*run, "--episodes", "5") == (0, "", "")
    assert read_json("summary.json")["episodes"] == 5
    assert cli(*run, "--episodes", "4", "--overwrite") == (0, "", "")
    assert read_json("summary.json")["episodes"] == 4
    assert cli(*run, "--episodes", "6", "--resume") == (0, "", "")
    assert not [p for p in Path().iterdir() if p.name.startswith(".")]
    code, _, err = cli(*run, "--episodes", "-4", "--overwrite")
    check_refusal(code, err, "episodes")
    assert read_json("summary.json")["episodes"] == 6


@pytest.mark.parametrize("flag", ["--resume", "--overwrite"])
def test_a_folder_in_use_is_left_alone(cli, tmp_path, flag):
    run = ("entgame", *SMALL, "--episodes", "5", "--out", "run")
    assert cli(*run)[0] == 0
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    with locked(tmp_path / "run" / LOCK, "out", tmp_path / "run"):
        code, _, err = cli(*run, "--episodes", "9", flag)
        check_refusal(code, err, f"out must not be in use, got run, where process {os.getpid()}")
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before
    with locked(tmp_path / "new" / LOCK, "out", tmp_path / "new"):
        code, _, err = cli("entgame", *SMALL, "--episodes", "5", "--out", "new")
        check_refusal(code, err, "out must not be in use")
    assert not (tmp_path / "new").exists()


def test_missing_toml_and_folder_as_toml(cli, tmp_path):
    code, _, err = cli("entgame", *SMALL, "--config", "nowhere.toml")
    check_refusal(code, err, "config", "nowhere.toml")
    code, _, err = cli("entgame", *SMALL, "--config", tmp_path)
    check_refusal(code, err, "config")


@pytest.mark.parametrize(
    ("flaw", "said"),
    [("outside", ["observation", r"0\.\.5"]), ("truncates", ["horizon must be at most 3", "12"])],
)
def test_misbehaving_environment_in_a_real_process(outside, tmp_path, flaw, said):
    """In a process of its own, where gymnasium's warnings would land on standard error."""
    ended = process(
        *("entgame", "--env-id", "qa_outside:QA/Hidden-v0", "--env-kwargs"),
        *(json.dumps({"flaw": flaw}), "--episodes", 50, "--out", tmp_path / "run"),
        cwd=outside,
    )
    check_refusal(ended.returncode, ended.stderr, *said)


def test_observation_that_is_no_whole_number(cli):
    code, _, err = cli(
        *("entgame", "--env-id", "qa_outside:QA/Hidden-v0", "--episodes", "5"),
        *("--env-kwargs", '{"flaw": "fraction"}'),
    )
    check_refusal(code, err, "observation", "0.5")


def test_existing_folders(cli, tmp_path):
    run = ("entgame", *SMALL, "--episodes", "12", "--out", "run")
    assert cli(*run)[0] == 0
    before = (tmp_path / "run" / "summary.json").read_bytes()
    code, _, err = cli(*run)
    check_refusal(code, err, "out must be", "--resume", "--overwrite")
    assert (tmp_path / "run" / "summary.json").read_bytes() == before
    code, out, _ = cli(*run, "--overwrite", "--seed", "3")
    assert code == 0
    assert read_json("run/summary.json")["seed"] == 3
    lines = out.strip().splitlines()
    assert "run" in lines[0]  # the path comes first and last
    assert lines[0] == lines[-1]


@pytest.mark.parametrize("flag", [(), ("--resume",), ("--overwrite",)])
@pytest.mark.parametrize("files", [{"thesis.tex": "x"}, {"config.json": '{"model_type": "bert"}'}])
def test_a_folder_that_is_no_run_is_left_alone(cli, tmp_path, flag, files):
    """Another program's folder, even one that also has a config.json, is never deleted or used."""
    folder = tmp_path / "precious"
    folder.mkdir()
    for name, content in (files | {"weights.bin": "years of work"}).items():
        (folder / name).write_text(content)
    code, _, err = cli("entgame", *SMALL, "--episodes", "5", "--out", "precious", *flag)
    check_refusal(code, err, "out must")
    found = {p.name: p.read_text() for p in folder.iterdir()}
    assert found == files | {"weights.bin": "years of work"}


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/rlentropy/run"])
def test_unwritable_folder(cli, tmp_path, out):
    (tmp_path / "file").write_text("not a folder")
    code, _, err = cli("entgame", *SMALL, "--episodes", "5", "--out", out)
    check_refusal(code, err, "out must be")
    assert (tmp_path / "file").read_text() == "not a folder"


@pytest.mark.parametrize(
    "wrong",
    [
        *(("--episodes", "-5"), ("--eval-every", "-1"), ("--simulator", "compiled")),
        *(("--device", "nowhere"), ("--seed", str(2**63))),
    ],
)
def test_a_refused_command_can_be_corrected(cli, wrong):
    """It must not leave a half-made run behind that stands in the way of the corrected command."""
    hidden = ("entgame", "--env-id", "qa_outside:QA/Hidden-v0", "--out", "run")
    assert cli(*hidden, *wrong)[0] == 2
    code, _, err = cli(*hidden, "--episodes", "3")
    assert (code, err) == (0, "")


# ---------------------------------------------------------------- help and imports


def test_help_is_quick_and_without_torch(tmp_path):
    for arguments in (["--help"], *[[command, "--help"] for command in COMMANDS]):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = process(*arguments, cwd=tmp_path, python=["-X", "importtime"])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert ended.returncode == 0
        imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
        assert "rlentropy.cli" in imported
        assert not imported & {"torch", "tensorboard", "matplotlib.pyplot"}
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3.0
        for command in COMMANDS if len(arguments) == 1 else ["--env-id", "--resume", "default"]:
            assert command in ended.stdout


def test_importing_the_package_is_light(tmp_path):
    code = (
        "import sys, gymnasium, rlentropy; "
        "print([m for m in ('torch', 'tensorboard', 'numba', 'scipy', 'matplotlib', 'tyro')"
        " if m in sys.modules], 'rlentropy/GridWorld-v0' in gymnasium.registry)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert ended.stdout == "[] True\n", ended.stderr


def test_tabular_run_imports_no_torch(tmp_path):
    code = (
        "import sys; from rlentropy.cli import main; "
        f"codes = [main([c, *{SMALL!r}, '--quiet', '--out', c, *more]) for c, more in "
        "[('entgame', ['--episodes', '5']), ('random-policy', ['--episodes', '5']), "
        "('optimal-exploration', [])]]; "
        "print(codes, 'torch' in sys.modules, 'tensorflow' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert ended.stdout == "[0, 0, 0] False False\n", ended.stderr
    assert ended.stderr == ""


def test_no_arguments_and_version(cli):
    from rlentropy import __version__

    assert cli()[0] == 0
    assert cli("--version") == (0, f"{__version__}\n", "")


def test_quiet_says_nothing(cli):
    assert cli("entgame", *SMALL, "--episodes", "3", "--out", "run", "--quiet") == (0, "", "")


# ---------------------------------------------------------------- options


def test_toml_gives_any_option_and_the_command_line_wins(cli, tmp_path):
    (tmp_path / "run.toml").write_text(
        f'env_id = "{CHAIN}"\nepisodes = 9\nhorizon = 4\nclip = true\nobjective = "AVE"\n'
        'prior = 0.5\nseed = 5\nbonus = "code"\nquiet = true\nout = "from-toml"\n'
        "[env_kwargs]\nnum_states = 5\n"
    )
    code, out, _ = cli(
        *("entgame", "--config", "run.toml", "--no-clip", "--seed", 6, "--objective", "VE_S")
    )
    assert (code, out) == (0, "")
    config = read_json("from-toml/config.json")
    wanted = {"episodes": 9, "horizon": 4, "prior": 0.5, "bonus": "code"}  # from the file
    wanted |= {"clip": False, "seed": 6, "objective": "VE_S"}  # from the command line
    assert {k: config["settings"][k] for k in wanted} == wanted
    assert load("from-toml")["pi"].shape == (4, 5, 2)


def test_toml_with_hyphens_and_with_env_kwargs_as_text(cli, tmp_path):
    (tmp_path / "run.toml").write_text(
        f"env-id = '{CHAIN}'\nenv-kwargs = '{{\"num_states\": 5}}'\neval-every = 2\nepisodes = 3\n"
    )
    assert cli("entgame", "--config", "run.toml", "--horizon", "4", "--out", "run")[0] == 0
    assert load("run")["pi"].shape == (4, 5, 2)


def test_default_folder_and_default_horizon(cli):
    assert (
        cli("random-policy", "--env-id", "FrozenLake-v1", "--episodes", "3", "--seed", "4")[0] == 0
    )
    folders = list(Path("results/runs").glob("*/*/*"))
    assert [(f.parent.name, f.name) for f in folders] == [("random-policy", "seed4")]
    assert load(folders[0])["pi"].shape == (100, 16, 4)


# ---------------------------------------------------------------- the run folder


def test_run_folder_is_as_the_contract_says(cli):
    code, out, _ = cli(
        *("entgame", "--env-id", "FrozenLake-v1", "--horizon", "9", "--episodes", "60"),
        *("--env-kwargs", '{"is_slippery": true}', "--seed", "11", "--out", "run"),
    )
    assert code == 0
    config, summary = read_json("run/config.json"), read_json("run/summary.json")
    assert config["command"] == "entgame"
    assert config["seed"] == 11
    assert config["threads"] == 1
    assert config["platform"]
    assert {"rlentropy", "python", "numpy", "torch", "gymnasium"} <= set(config["versions"])
    assert "git_commit" in config
    settings = config["settings"]
    for name in ("env_id", "env_kwargs", "seed", "horizon", "episodes", "objective", "bonus"):
        assert name in settings
    common = {"command", "env_id", "seed", "env_steps", "episodes", "wall_seconds", "finished"}
    common |= {"axis", "compile_seconds"}
    exploration = {"objective", "value", "value_is_exact", "mixture_value", "optimum"}
    assert common | exploration | {"certificate", "last_iterate_value"} <= set(summary)
    assert summary["finished"] is True
    assert (summary["command"], summary["env_id"]) == ("entgame", "FrozenLake-v1")
    assert (summary["seed"], summary["episodes"], summary["objective"]) == (11, 60, "VE")
    assert 60 <= summary["env_steps"] <= 540
    assert summary["wall_seconds"] > 0.0
    assert summary["value_is_exact"] is True
    assert max(summary["value"], summary["mixture_value"]) <= summary["optimum"] + 1e-6
    assert summary["last_iterate_value"] < summary["mixture_value"]
    pi = load("run")["pi"]
    assert pi.shape == (9, 16, 4)
    np.testing.assert_allclose(pi.sum(-1), 1.0, atol=1e-12)
    assert pi.min() >= 0.0
    for line in Path("run/metrics.jsonl").read_text().splitlines():
        assert set(json.loads(line)) == {"tag", "step", "value"}
    assert len(list(Path("run").glob("events.out.tfevents.*"))) == 1
    assert list(Path("run").rglob("*.png"))
    assert Path("run/checkpoint").is_dir()
    assert not list(Path("run").rglob(".tmp*"))
    for name in ("value", "optimum"):
        assert name in out  # the final table


def test_value_in_the_summary_is_that_of_the_policy_in_the_file(cli):
    """Recomputed with dense arrays from the environment's own table."""
    lake = ("--env-id", "FrozenLake-v1", "--horizon", 6)
    assert cli("entgame", *lake, "--episodes", 80, "--out", "run")[0] == 0
    env, pi = gymnasium.make("FrozenLake-v1").unwrapped, load("run")["pi"]
    m, value = np.array(env.initial_state_distrib), 0.0
    for h in range(6):
        d = m[:, None] * pi[h]
        value -= (d[d > 0] * np.log(d[d > 0])).sum()
        m = np.zeros(16)
        for s in range(16):
            for a in range(4):
                for p, s2, _, _ in env.P[s][a]:
                    m[s2] += d[s, a] * p
    assert read_json("run/summary.json")["value"] == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("objective", ["VE", "VE_S", "AVE", "AVE_S", "TE", "TE+"])
def test_optimal_exploration_folder(cli, objective):
    code, _, _ = cli("optimal-exploration", *SMALL, "--objective", objective, "--out", "run")
    assert code == 0
    summary, arrays = read_json("run/summary.json"), load("run")
    assert summary["value_is_exact"] is True
    assert summary["optimum"] == pytest.approx(summary["value"], abs=1e-9)
    assert 0.0 <= summary["certificate"] < 1e-4
    assert arrays["pi"].shape == (5, 7, 2)
    np.testing.assert_allclose(arrays["pi"].sum(-1), 1.0, atol=1e-12)
    tags = {json.loads(x)["tag"] for x in Path("run/metrics.jsonl").read_text().splitlines()}
    assert any(tag.startswith("eval/") for tag in tags)


def test_mixture_file_holds_policies_only(cli):
    """Fewer episodes than places: what was never filled must not pass for a policy."""
    assert cli("entgame", *SMALL, "--episodes", "5", "--mixture-size", "8", "--out", "run")[0] == 0
    with np.load("run/mixture.npz") as file:
        mixture = file["pi"]
    assert mixture.shape[0] in (5, 8)
    np.testing.assert_allclose(mixture.sum(-1), 1.0, atol=1e-6)


# ---------------------------------------------------------------- environments of others


def test_what_the_environment_shows_changes_nothing_that_is_learned(cli):
    """With its model, a table, a false model or none: the same policy, bit for bit."""
    found = {}
    for name in ("Known", "Table", "Liar", "Hidden"):
        code, _, err = cli(
            *("entgame", "--env-id", f"qa_outside:QA/{name}-v0", "--horizon", "12"),
            *("--episodes", "150", "--seed", "8", "--out", name),
        )
        assert (code, err) == (0, "")
        found[name] = load(name)["pi"]
    for name, pi in found.items():
        np.testing.assert_array_equal(pi, found["Hidden"], err_msg=name)
    known, table, hidden = (read_json(f"{n}/summary.json") for n in ("Known", "Table", "Hidden"))
    assert known["value_is_exact"] is table["value_is_exact"] is True
    assert hidden["value_is_exact"] is False
    assert "optimum" not in hidden or hidden["optimum"] is None
    for name in ("value", "mixture_value", "optimum"):
        assert known[name] == pytest.approx(table[name], abs=1e-9)
    assert known["env_steps"] == hidden["env_steps"] < 150 * 12


@pytest.mark.parametrize("shows", ["foreign-mdp", "array"])
def test_attributes_that_are_no_model_of_ours_hinder_nobody(cli, shows):
    """Only a FiniteMDP or a toy-text table is a known model."""
    code, _, err = cli(
        *("entgame", "--env-id", "qa_outside:QA/Hidden-v0", "--episodes", "20", "--out", "run"),
        *("--env-kwargs", json.dumps({"shows": shows})),
    )
    assert (code, err) == (0, "")
    assert read_json("run/summary.json")["value_is_exact"] is False


@pytest.mark.parametrize("shows", ["mdp", "nothing"])
def test_spaces_that_start_elsewhere(cli, shows):
    results = []
    for first_state, first_action in ((0, 0), (10, -1), (-3, 5)):
        kwargs = {"shows": shows, "first_state": first_state, "first_action": first_action}
        code, _, err = cli(
            *("entgame", "--env-id", "qa_outside:QA/Hidden-v0", "--env-kwargs", json.dumps(kwargs)),
            *("--episodes", "40", "--out", f"run{first_state}"),
        )
        assert (code, err) == (0, "")
        results.append(load(f"run{first_state}")["pi"])
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("module", [entgame, random_policy])
def test_early_termination_rests_in_the_last_state(cli, outside, module):
    gymnasium.make("qa_outside:QA/Hidden-v0")
    world = sys.modules["qa_outside"]
    world.STEPS[0] = 0
    env = gymnasium.make("QA/Hidden-v0")
    found = module.run(
        env, module.Config(horizon=12, episodes=70), np.random.default_rng(0), Log(None)
    )
    np.testing.assert_array_equal(found.visits.sum((1, 2)), np.full(12, 70))
    assert found.summary["env_steps"] == world.STEPS[0]
    assert found.visits[:, :-1].sum() == world.STEPS[0]  # real steps leave live states
    resting = found.visits[:, -1].sum(-1)
    assert (np.diff(resting) >= 0).all()
    assert resting[-1] > 0


class LeftStart(DoubleChainEnv):
    """Inherits a step that samples the model, but starts elsewhere."""

    def reset(self, **kwargs):
        _, info = super().reset(**kwargs)
        self.state = 0
        return np.int64(0), info


class Frozen(DoubleChainEnv):
    """Overrides step, and so must lose the promise that step samples the model."""

    def step(self, action):
        return np.int64(self.state), 0.0, False, False, {}


def test_a_subclass_that_starts_elsewhere_is_believed():
    found = entgame.run(
        LeftStart(), entgame.Config(horizon=4, episodes=5), np.random.default_rng(0), Log(None)
    )
    assert found.visits[0, 0].sum() == 5


def test_a_subclass_that_steps_otherwise_is_believed():
    found = entgame.run(
        Frozen(), entgame.Config(horizon=4, episodes=5), np.random.default_rng(0), Log(None)
    )
    assert found.visits[:, 15].sum() == 20


def test_a_wrapper_that_changes_actions_is_believed():
    env = gymnasium.wrappers.TransformAction(
        gymnasium.make(CHAIN, fail_probability=0.0), lambda a: 0, gymnasium.spaces.Discrete(2)
    )
    found = random_policy.run(
        env, random_policy.Config(horizon=9, episodes=5), np.random.default_rng(0), Log(None)
    )
    assert [int(np.argmax(x)) for x in found.visits.sum(2)] == list(range(15, 6, -1))


def test_a_model_that_contradicts_the_spaces_is_unknown():
    env = DoubleChainEnv(5)
    env.observation_space = gymnasium.spaces.Discrete(6)
    config = entgame.Config(horizon=3, episodes=2)
    summary = entgame.run(env, config, np.random.default_rng(0), Log(None)).summary
    assert not summary["value_is_exact"]
    assert "must be Discrete(5) as its model has it, got Discrete(6)" in summary["model_unknown"]
    config = entgame.Config(horizon=3, episodes=2, simulator="compiled")
    with pytest.raises(InputError, match=r"without a known model, got compiled: .*Discrete\(5\)"):
        entgame.run(env, config, np.random.default_rng(0), Log(None))


# ---------------------------------------------------------------- determinism


@pytest.mark.parametrize("simulator", ["gymnasium", "compiled"])
def test_same_seed_same_bytes_whatever_happens_elsewhere(cli, simulator):
    results = []
    for k, seed in enumerate((3, 3, 4)):
        np.random.seed(k)  # noqa: NPY002
        random.seed(k)
        code, _, _ = cli(
            *("entgame", *SMALL, "--episodes", "30", "--simulator", simulator),
            *("--seed", seed, "--out", f"run{k}", "--mixture-size", "4"),
        )
        assert code == 0
        np.random.random(k)  # noqa: NPY002
        lines = Path(f"run{k}/metrics.jsonl").read_text().splitlines()
        results.append(
            (
                Path(f"run{k}/policy.npz").read_bytes(),
                Path(f"run{k}/mixture.npz").read_bytes(),
                [line for line in lines if '"time/' not in line],
                {
                    x: y
                    for x, y in read_json(f"run{k}/summary.json").items()
                    if not x.endswith("_seconds")
                },
            )
        )
    assert results[0] == results[1]
    assert results[0][0] != results[2][0]
    assert results[0][3]["mixture_value"] != results[2][3]["mixture_value"]


@pytest.mark.parametrize("simulator", ["gymnasium", "compiled"])
def test_global_generators_are_left_alone(simulator):
    """The algorithm neither reads nor moves them (the command line's parser, tyro, does)."""
    env = gymnasium.make(CHAIN)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    before = np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    config = entgame.Config(episodes=20, simulator=simulator)
    entgame.run(env, config, np.random.default_rng(0), Log(None))
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before  # noqa: NPY002


@pytest.mark.parametrize("simulator", ["gymnasium", "compiled"])
def test_looking_changes_nothing(cli, simulator):
    """Neither the evaluation schedule nor that of checkpoints touches what is learned."""
    files = []
    for k, schedule in enumerate(
        ([], ["--eval-every", 1], ["--eval-every", 7, "--checkpoint-every", 3])
    ):
        code, _, _ = cli(
            *("entgame", *SMALL, "--episodes", "25", "--simulator", simulator),
            *("--out", f"run{k}", *schedule),
        )
        assert code == 0
        files.append(Path(f"run{k}/policy.npz").read_bytes())
    assert files[0] == files[1] == files[2]
