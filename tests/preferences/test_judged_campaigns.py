"""Campaigns of the command with a judge: options, who answered, and what comes out."""

import sqlite3

import gymnasium
import numpy as np
import pytest

from rlentropy.errors import InputError
from rlentropy.log import Log
from rlentropy.preferences import active_preference
from rlentropy.preferences.active_preference import Config
from rlentropy.preferences.oracles import Human

SMALL = {"labels": 24, "batch_size": 8, "pool": 2, "acquisition": "random", "segment_length": 6}


def run(folder=None, seed=3, env="FrozenLake-v1", **options):
    log = Log(folder)
    made = gymnasium.make(env, **({"is_slippery": False} if "Lake" in env else {}))
    config = Config(**{**SMALL, **options})
    try:
        return active_preference.run(made, config, np.random.default_rng(seed), log)
    finally:
        log.close()


def answered(folder):
    """Labeller → asking → how many."""
    database = sqlite3.connect(folder / "campaign" / "answers.sqlite")
    rows = database.execute("SELECT labeller, asking, count(*) FROM answers GROUP BY 1, 2")
    found = {(labeller, asking): n for labeller, asking, n in rows}
    database.close()
    return found


@pytest.fixture
def rubric(tmp_path):
    """Reaching higher states is better."""
    path = tmp_path / "rubric.py"
    path.write_text("def score(t):\n    return float(t.observations[-1])\n")
    return f"{path}:score"


def test_a_rubric_and_a_simulated_person(rubric, tmp_path):
    result = run(tmp_path / "run", oracle="judge", judge=rubric, human_share=0.25)
    assert answered(tmp_path / "run") == {
        (f"judge {rubric}", "label"): 18,
        (f"judge {rubric}", "judge"): 6,
        ("return", "label"): 6,
    }
    assert result.summary["labels"] == 24
    assert np.isfinite(result.summary["calibration_error"])


def test_labels_of_the_person_in_all(rubric, tmp_path):
    run(tmp_path / "run", oracle="judge", judge=rubric, human_labels=7, person="bradley-terry:0.5")
    assert answered(tmp_path / "run")["bradley-terry:0.5", "label"] == 7


def test_a_judge_that_learns_begins_with_a_person(tmp_path):
    run(tmp_path / "run", oracle="judge", judge="ensemble", human_share=0.25)
    found = answered(tmp_path / "run")
    assert found["judge ensemble", "label"] == 12  # of the last two rounds
    assert found["return", "label"] == 8 + 2 + 2


def test_the_noisy_judge_and_its_shares(tmp_path):
    for name, options in (("a", {"oracle": "judge:0.5"}), ("b", {"oracle": "judge:0.5,human=0.5"})):
        run(tmp_path / name, **options)
    run(tmp_path / "c", oracle="judge:0.5", human_share=0.5)
    assert answered(tmp_path / "a")["return", "label"] == 3
    assert answered(tmp_path / "b")["return", "label"] == 12
    assert answered(tmp_path / "c")["return", "label"] == 12


def test_networks_are_judged_in_their_units(tmp_path):
    """Pendulum's observation is (cos, sin, speed), whatever the network is shown."""
    path = tmp_path / "upright.py"
    path.write_text(
        "def better(left, right):\n"
        "    for t in (left, right):\n"
        "        assert t.observations.shape == (t.length + 1, 3) and t.actions.shape[1:] == (1,)\n"
        "        assert abs((t.observations[:, :2] ** 2).sum(1) - 1).max() < 1e-5\n"
        "    return left.observations[:, 0].sum(), right.observations[:, 0].sum()\n"
    )
    result = run(
        env="Pendulum-v1", oracle="judge", judge=f"{path}:better", labels=8, final_episodes=2
    )
    assert result.summary["labels"] == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"judge": "ensemble"}, "judge must be left open unless oracle is judge, got 'ensemble'"),
        ({"routing": "margin"}, "routing must be left open unless oracle is judge, got 'margin'"),
        ({"human_share": 0.1}, "human_share must be left open unless oracle is judge, got 0.1"),
        ({"human_labels": 4}, "human_labels must be left open unless oracle is judge, got 4"),
        ({"person": "human"}, "person must be left open unless oracle is judge, got 'human'"),
        ({"oracle": "judge", "person": "judge:2"}, "person must be human or a simulated teacher"),
        ({"oracle": "judge", "person": "me"}, "person must be one of return"),
        ({"oracle": "judge", "human_share": 1.5}, r"human_share must be in \[0, 1\], got 1.5"),
        ({"oracle": "judge", "human_labels": 99}, "human_labels must be <= 24, got 99"),
        ({"oracle": "judge", "human_labels": -1}, "human_labels must be >= 0, got -1"),
        (
            {"oracle": "judge", "human_labels": 4, "human_share": 0.2},
            "human_share must be left open where human_labels is given, got 0.2",
        ),
        (
            {"oracle": "judge", "judge": "ensemble", "human_labels": 7},
            "human_labels must be >= batch_size, 8, for judge ensemble, which people teach in",
        ),
        (
            {"oracle": "judge", "judge": "ensemble", "human_share": 0.0},
            r"human_share must be in \(0, 1\], got 0.0",
        ),
        ({"grace": -1.0}, "grace must be >= 0 and finite, got -1"),
    ],
)
def test_options_that_do_not_suit(options, message):
    with pytest.raises(InputError, match=message):
        Config(**{**SMALL, **options})


def test_who_is_at_the_console():
    assert Config(oracle="human").at_console
    assert Config(oracle="judge", person="human").at_console
    assert isinstance(Config(oracle="judge", person="human").teacher, Human)
    assert not Config(oracle="judge").at_console
    assert not Config().at_console
