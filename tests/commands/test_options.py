"""Options: from tables, from the command line, and which of them wins."""

from pathlib import Path

import pytest
from examples.command_line import CHAIN, SMALL, check_refusal, load, read_json

# ---------------------------------------------------------------- what is refused


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
def test_wrong_toml_is_one_line_and_exit_2(command_line, tmp_path, content, said):
    (tmp_path / "run.toml").write_bytes(content)
    code, _, err = command_line("entgame", *SMALL, "--config", "run.toml")
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
def test_tables_that_hold_more_than_options(command_line, tmp_path, content, said):
    (tmp_path / "run.toml").write_text(content)
    if "--help" in content:  # a text, whatever it looks like
        assert (
            command_line("entgame", *SMALL, "--episodes", 2, "--config", "run.toml", "--out", "x")[
                0
            ]
            == 0
        )
        assert read_json("x/summary.json")["label"] == "--help"
        return
    code, out, err = command_line("entgame", *SMALL, "--config", "run.toml")
    check_refusal(code, err, said)
    assert out == ""


@pytest.mark.parametrize(
    ("option", "value"),
    [("--prior", "1e308"), ("--eval-every", str(2**63))],
)
def test_numbers_beyond_all_arithmetic(command_line, option, value):
    code, _, err = command_line("entgame", *SMALL, "--episodes", "2", option, value)
    check_refusal(code, err, f"{option[2:].replace('-', '_')} must be less than")


# ---------------------------------------------------------------- whose folder it is


def test_missing_toml_and_folder_as_toml(command_line, tmp_path):
    code, _, err = command_line("entgame", *SMALL, "--config", "nowhere.toml")
    check_refusal(code, err, "config", "nowhere.toml")
    code, _, err = command_line("entgame", *SMALL, "--config", tmp_path)
    check_refusal(code, err, "config")


# ---------------------------------------------------------------- options


def test_toml_gives_any_option_and_the_command_line_wins(command_line, tmp_path):
    (tmp_path / "run.toml").write_text(
        f'env_id = "{CHAIN}"\nepisodes = 9\nhorizon = 4\nclip = true\nobjective = "AVE"\n'
        'prior = 0.5\nseed = 5\nbonus = "code"\nquiet = true\nout = "from-toml"\n'
        "[env_kwargs]\nnum_states = 5\n"
    )
    code, out, _ = command_line(
        *("entgame", "--config", "run.toml", "--no-clip", "--seed", 6, "--objective", "VE_S")
    )
    assert (code, out) == (0, "")
    config = read_json("from-toml/config.json")
    wanted = {"episodes": 9, "horizon": 4, "prior": 0.5, "bonus": "code"}  # from the file
    wanted |= {"clip": False, "seed": 6, "objective": "VE_S"}  # from the command line
    assert {k: config["settings"][k] for k in wanted} == wanted
    assert load("from-toml")["pi"].shape == (4, 5, 2)


def test_toml_with_hyphens_and_with_env_kwargs_as_text(command_line, tmp_path):
    (tmp_path / "run.toml").write_text(
        f"env-id = '{CHAIN}'\nenv-kwargs = '{{\"num_states\": 5}}'\neval-every = 2\nepisodes = 3\n"
    )
    assert command_line("entgame", "--config", "run.toml", "--horizon", "4", "--out", "run")[0] == 0
    assert load("run")["pi"].shape == (4, 5, 2)


def test_default_folder_and_default_horizon(command_line):
    assert (
        command_line(
            "random-policy", "--env-id", "FrozenLake-v1", "--episodes", "3", "--seed", "4"
        )[0]
        == 0
    )
    folders = list(Path("results/runs").glob("*/*/*"))
    assert [(f.parent.name, f.name) for f in folders] == [("random-policy", "seed4")]
    assert load(folders[0])["pi"].shape == (100, 16, 4)
