"""Tuned settings: each file suits its command, and what is typed wins."""

import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from examples.command_line import check_refusal

import rlentropy
from rlentropy.commands import options
from rlentropy.commands.options import check_table, parse, tuned_settings
from rlentropy.commands.plan import job_of
from rlentropy.errors import InputError
from rlentropy.neural.actor_critic import Config
from rlentropy.runs.table import COMMANDS
from rlentropy.wrappers import make_env

FILES = sorted(Path(rlentropy.__file__).parent.glob("tuned/*.toml"))
TABLES = [
    (file.stem, env_id, table)
    for file in FILES
    for env_id, table in tomllib.loads(file.read_text()).items()
]


def test_there_are_some():
    assert {"robust-actor-critic", "mepol", "rfzi"} <= {file.stem for file in FILES}


@pytest.mark.parametrize(("command", "env_id", "table"), TABLES)
def test_each_suits_its_command(command, env_id, table):
    config_class = import_module(COMMANDS[command].module).Config
    check_table(table, config_class)
    found, config = parse(command, config_class, ["--env-id", env_id, "--tuned"])
    for name, value in table.items():
        value = tuple(value) if isinstance(value, list) else value
        assert getattr(config if hasattr(config, name) else found, name) == value
    assert not {"seed", "out", "label", "env_id"} & set(table)


@pytest.mark.parametrize(
    "env_id", sorted({env_id for _, env_id, _ in TABLES if "ntropy" in env_id})
)
def test_there_is_such_an_environment(env_id):
    make_env(env_id, "{}", unlimited=False).close()


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A file of settings made for this test."""
    (tmp_path / "robust-actor-critic.toml").write_text(
        '["CartPole-v1"]\nepochs = 3\nclip = 0.3\nhidden = [8]\n'
    )
    monkeypatch.setattr(options, "tuned_file", lambda command: tmp_path / f"{command}.toml")
    return tmp_path


def test_what_is_typed_wins_over_the_file_and_that_over_them(made):
    (made / "more.toml").write_text("epochs = 4\nclip = 0.4\n")
    typed = ["--env-id", "CartPole-v1", "--tuned", "--clip", "0.5"]
    _, config = parse("robust-actor-critic", Config, [*typed, "--config", str(made / "more.toml")])
    assert (config.epochs, config.clip, config.hidden) == (4, 0.5, (8,))
    _, config = parse("robust-actor-critic", Config, typed)
    assert (config.epochs, config.clip) == (3, 0.5)
    _, config = parse("robust-actor-critic", Config, typed[:2])
    assert config.epochs == Config().epochs


def test_the_module_of_an_environment_is_not_part_of_its_name(made):
    assert tuned_settings("robust-actor-critic", "mine:CartPole-v1")["epochs"] == 3


def test_in_a_sweep(made):
    line = {"command": "robust-actor-critic", "tuned": "true", "clip": 0.1}
    argv = " ".join(job_of(line, "CartPole-v1", 0, Path("out")).argv)
    assert "--epochs 3 " in argv
    assert "--clip 0.1 " in argv
    assert "--no-tuned" in argv  # they are spelled out
    with pytest.raises(InputError, match="tuned must be asked where"):
        job_of(line, "CartPole-v0", 0, Path("out"))


def test_where_there_are_none(made):
    with pytest.raises(InputError, match=r"which are for CartPole-v1, got CartPole-v0; did you"):
        tuned_settings("robust-actor-critic", "CartPole-v0")
    with pytest.raises(InputError, match="of robust-actor-critic alone, got no environment"):
        tuned_settings("entgame", "")


def test_the_console_says_which_file(command_line):
    small = ("--steps", "256", "--num-envs", "2", "--final-episodes", "1", "--out", "run")
    small += ("--rollout-steps", "64", "--evaluation-episodes", "1")
    code, out, _ = command_line("robust-actor-critic", "--env-id", "Pendulum-v1", "--tuned", *small)
    assert code == 0
    path = Path(rlentropy.__file__).parent / "tuned" / "robust-actor-critic.toml"
    assert f"tuned settings: {path}, Pendulum-v1\n" in out
    code, out, _ = command_line(  # as the run is already there, in full
        *("robust-actor-critic", "--resume", "--out", "run", "--final-episodes", "1")
    )
    assert code == 0
    assert "already finished" in out
    code, _, err = command_line("entgame", "--env-id", "Taxi-v4", "--tuned", "--out", "none")
    check_refusal(code, err, "tuned", "Taxi-v4")
    assert not Path("none").exists()
