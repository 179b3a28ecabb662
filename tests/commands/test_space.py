"""The file of a search: what it may hold, and how it is refused."""

from pathlib import Path

import pytest

from rlentropy.cli import main
from rlentropy.commands.space import defaults, distributions, ends, read_space
from rlentropy.errors import InputError

GOOD = """
command = "robust-actor-critic"
env_id = "Pendulum-v1"
seeds = "3:5"
trials = 7
[options]
steps = 2048
[space]
learning_rate = { low = 1e-4, high = 1e-2, log = true }
epochs = { low = 4, high = 16, step = 2 }
hidden = { choices = [[64, 64], [32]] }
activation = { choices = ["tanh", "relu"] }
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "space.toml"
        path.write_text(text)
        return path

    return write


def test_a_space(written):
    space = read_space(written(GOOD))
    assert (space.metric, space.direction, space.trials, space.prune) == (
        *("eval/return", "maximize"),
        *(7, "median"),
    )
    job = space.job(3, 4, {"hidden": [32], "learning_rate": 0.001}, Path("out"))
    assert job.folder == Path("out/Pendulum-v1/trial0003/seed4")
    settings = " ".join(job.argv)
    assert "--hidden 32 --" in settings
    assert "--steps 2048" in settings
    assert space.value("hidden", "[64, 64]") == [64, 64]
    assert space.value("activation", "tanh") == "tanh"
    assert space.value("epochs", 6) == 6
    assert set(space.facts()) == {
        *("command", "env_id", "space", "options", "metric", "direction", "seeds")
    }


def test_optuna_draws_from_it(written):
    pytest.importorskip("optuna")
    space = read_space(written(GOOD))
    found = distributions(space)
    assert (found["learning_rate"].low, found["learning_rate"].log) == (1e-4, True)
    assert (found["epochs"].high, found["epochs"].step) == (16, 2)
    assert found["hidden"].choices == ("[64, 64]", "[32]")
    assert defaults(space) == {
        "learning_rate": 1e-3,
        "epochs": 8,
        "hidden": "[64, 64]",
        "activation": "tanh",
    }
    assert defaults(read_space(written(GOOD.replace("low = 4", "low = 10")))) is None
    assert defaults(read_space(written(GOOD.replace("[64, 64]", "[128]")))) is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('command = "robust-actor-critic"', "", "command must be one of"),
        ("robust-actor-critic", "robust-actor-critc", "did you mean robust-actor-critic"),
        ('env_id = "Pendulum-v1"', "", "search must hold env_id"),
        ('env_id = "Pendulum-v1"', "env_id = 3", "env_id must be text, got 3"),
        ("trials = 7", "trails = 7", "alone, got 'trails'; did you mean trials"),
        ("trials = 7", "trials = 0", "trials must be >= 1"),
        ("trials = 7", 'direction = "up"', "direction must be one of maximize, minimize"),
        ("trials = 7", 'prune = "hard"', "prune must be one of median, none"),
        ("trials = 7", "finalists = -1", "finalists must be >= 0"),
        ("trials = 7", "finalists = 2\nfinal_seeds = [4]", "final_seeds must be none of the seeds"),
        ("trials = 7", 'final_seeds = "x"', "seeds must be"),
        ("trials = 7", "metric = 1", "metric must be text"),
        ('"3:5"', '"x"', "seeds must be"),
        ("[options]\nsteps = 2048", "options = 3", "options must be a table"),
        ("steps = 2048", "stepz = 2048", "did you mean steps"),
        ("steps = 2048", "steps = 0", "steps must be >= 1"),
        ("steps = 2048", "seed = 1", "seed must be left to the sweep"),
        ("learning_rate =", "learning_rat =", "got 'learning_rat'; did you mean learning_rate"),
        ("low = 1e-4", "low = -1.0", "learning_rate must be"),
        ("high = 16", "high = 2.5", "epochs must be { low, high }"),
        ("low = 4, high", "low = 0, high", "epochs must be >= 1"),
        ("steps = 2048", "epochs = 4", "epochs must be in space or in options, got both"),
        ('["tanh", "relu"]', '["tanh", "rely"]', "activation"),
        (GOOD[GOOD.index("[space]") :], "[space]", "search must hold space"),
        (GOOD[GOOD.index("[space]") :], "space = 3", "space must be a table|space"),
    ],
)
def test_what_is_no_space(written, capsys, tmp_path, old, new, message):
    assert old in GOOD
    path = written(GOOD.replace(old, new))
    with pytest.raises(InputError, match=message):
        read_space(path)
    assert main(["sweep", "--search", str(path), "--out", str(tmp_path / "out")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "dimension",
    [
        *(3, {}, {"low": 1}, {"choices": []}, {"choices": [1]}, {"choices": 3}),
        *({"low": 1, "high": 1}, {"low": 2, "high": 1}, {"low": 1, "high": 2.0}),
        *({"low": 0.0, "high": 1.0, "log": True}, {"low": 1.0, "high": 2.0, "log": 1}),
        *({"low": 1.0, "high": 2.0, "log": True, "step": 0.5}, {"low": 1, "high": 9, "step": 0.5}),
        *({"low": 1, "high": 9, "step": 0}, {"low": 1, "high": 9, "to": 3}),
        *({"low": True, "high": 2}, {"low": 0.0, "high": float("inf")}, {"low": "a", "high": "b"}),
        {"low": 1, "high": 2, "choices": [1, 2]},
    ],
)
def test_what_is_no_dimension(dimension):
    with pytest.raises(InputError, match=r"epochs must be \{ low, high \} of one kind"):
        ends("epochs", dimension)


@pytest.mark.parametrize(
    ("dimension", "found"),
    [
        ({"low": 1, "high": 9, "step": 2}, [1, 9]),
        ({"low": 1, "high": 9, "log": True}, [1, 9]),
        ({"low": 0.0, "high": 1.0, "step": 0.25}, [0.0, 1.0]),
        ({"low": -1.0, "high": 1.0, "log": False}, [-1.0, 1.0]),
        ({"choices": [[1], "a", True]}, [[1], "a", True]),
    ],
)
def test_dimensions(dimension, found):
    assert ends("x", dimension) == found
