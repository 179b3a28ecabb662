"""The command line as a whole: what it says of what fails, help, and what is imported."""

import os
import resource
import signal
import subprocess
import sys
import time

import pytest
from examples.command_line import ROOT, SMALL, check_refusal, process

from rlentropy.exploration import entgame

COMMANDS = ("entgame", "random-policy", "optimal-exploration")


# ---------------------------------------------------------------- what is refused


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
def test_what_the_machine_refuses_is_one_line(command_line, monkeypatch, error, said):
    def fail(*arguments, **named):
        raise error

    monkeypatch.setattr(entgame, "run", fail)
    code, _, err = command_line("entgame", *SMALL, "--episodes", "2", "--out", "x")
    check_refusal(code, err, said)


@pytest.mark.parametrize(
    "error", [KeyError("x"), RuntimeError("y"), ImportError("z", name="rlentropy.z")]
)
def test_our_bugs_show_a_traceback(command_line, monkeypatch, error):
    def fail(*arguments, **named):
        raise error

    monkeypatch.setattr(entgame, "run", fail)
    with pytest.raises(type(error)):
        command_line("entgame", *SMALL, "--episodes", "2", "--out", "x")


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


LOADING = """
import runpy, sys

class Told:  # says when the package loads its first part
    def find_spec(name, path=None, target=None):
        if name == "rlentropy.envs":
            print(flush=True)

sys.meta_path.insert(0, Told)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("command", [("entgame", *SMALL), ("compare",)])
def test_an_interrupt_while_modules_load(tmp_path, command):
    for delay in (0.0, 0.25, 0.65):
        ended = subprocess.Popen(
            [sys.executable, "-c", LOADING, str(ROOT / "train.py"), *command],
            cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        ended.stdout.readline()
        time.sleep(delay)
        ended.send_signal(signal.SIGINT)
        _, err = ended.communicate(timeout=120)
        assert ended.returncode in (130, -signal.SIGINT, 0, 2), err
        assert "Traceback" not in err
        assert err.count("\n") <= 1


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


def test_no_arguments_and_version(command_line):
    from rlentropy import __version__

    assert command_line()[0] == 0
    assert command_line("--version") == (0, f"{__version__}\n", "")
