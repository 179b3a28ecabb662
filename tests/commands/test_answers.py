"""What is said of a run on the screen, and its units against docs/tags.md."""

import re
from pathlib import Path

import pytest

from rlentropy.commands import answers
from rlentropy.commands.answers import Pace, clock, grouped, rows, unit_of
from rlentropy.runs.table import COMMANDS

TAGS = Path(__file__).parents[2] / "docs" / "tags.md"
ENTGAME = {
    **{"command": "entgame", "env_id": "Chain", "env_kwargs": "{}", "seed": 0, "label": "entgame"},
    **{"episodes": 9, "temperature": 1.0, "stopped_by_certificate": False, "grid_shape": None},
    **{"value": 53.72, "value_is_exact": True, "optimum": 53.725, "certificate": 0.0},
    **{"last_iterate_value": 20.5, "state_visits": [3, 4], "axis": "env_steps"},
    **{"compile_seconds": 0.0, "wall_seconds": 1.5, "finished": True},
}


def documented():
    """The unit column of each key of summary.json."""
    text = TAGS.read_text().split("## summary.json")[1].split("## What collect says")[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text, re.M))


@pytest.mark.parametrize("command", COMMANDS)
def test_units_are_those_of_the_documentation(command):
    """A unit that is shown is one of the key's there; and nats, reward and seconds are shown."""
    keys = documented()
    keys["gap"] = keys["optimum"]  # of exploration it is on the screen alone
    for key, said in keys.items():
        unit = unit_of(key, command)
        assert unit in said.split(", or ") if unit else True, (key, unit, said)
        if {"nats", "reward", "s"} & set(said.split(", or ")) and key not in ("values", "returns"):
            assert unit, key


def test_families_have_their_own_unit():
    assert unit_of("gap", "entgame") == unit_of("value", "neural-entgame") == "nats"
    assert unit_of("gap", "rfzi") == unit_of("value", "robust-pg") == "reward"
    assert (unit_of("certified_gap", "rf-ucrl"), unit_of("certified_gap", "reg-entgame")) == (
        *("reward", "nats"),
    )


def test_the_answer_comes_first_and_what_does_not_apply_is_hidden():
    shown = rows(ENTGAME)
    assert shown[:3] == [
        ("gap", "0.005 nats"),
        ("value", "53.72 nats, exact"),
        ("optimum", "53.725 nats"),
    ]
    assert [name for name, _ in shown[3:]] == [
        *("last_iterate_value", "command", "env_id", "seed", "episodes", "certificate"),
        *("wall_seconds",),
    ]
    assert dict(shown)["last_iterate_value"] == "20.5 nats, of the last policy alone"
    assert dict(shown)["command"] == "entgame"


def test_what_differs_from_the_defaults_is_shown():
    other = {"label": "slow", "env_kwargs": '{"size": 5}', "temperature": 0.5}
    other |= {"stopped_by_certificate": True, "compile_seconds": 2.0, "value_is_exact": False}
    shown = dict(rows(ENTGAME | other))
    assert (shown["label"], shown["env_kwargs"], shown["temperature"]) == (
        *("slow", '{"size": 5}', "0.5"),
    )
    assert (shown["stopped_by_certificate"], shown["compile_seconds"]) == ("yes", "2 s")
    assert shown["value"] == "53.72 nats, estimated"


def test_without_an_optimum_returns_lead():
    summary = {"command": "robust-actor-critic", "value": 51.25, "value_is_exact": False}
    summary |= {"optimum": None, "mean_return": 480.0, "return_ci95": [470.0, None], "steps": 10}
    assert rows(summary)[:3] == [
        ("mean_return", "480 reward"),
        ("return_ci95", "470 to ? reward"),
        ("value", "51.25 reward, estimated"),
    ]


def test_what_is_played_beyond_the_budget_is_said():
    summary = {"command": "robust-actor-critic", "env_steps": 1024, "horizon": 500, "steps": 10}
    shown = dict(rows(summary))
    assert shown["steps"] == "10, asked; what is begun is played to its end"
    assert shown["horizon"] == "500 steps"
    assert dict(rows(summary | {"env_steps": 10}))["steps"] == "10"
    assert dict(rows(summary | {"wall_seconds": 5.75805}))["wall_seconds"] == "5.76 s"


def test_planners_play_nothing():
    summary = {"command": "robust-planning", "value": 1.0, "optimum": 1.5, "env_steps": 0}
    assert rows(summary | {"episodes": 0, "seeds": 1, "iterations": 0}) == [
        *(("gap", "0.5 reward"), ("value", "1 reward"), ("optimum", "1.5 reward")),
        *(("command", "robust-planning"), ("iterations", "0")),
    ]


def test_facts_of_tools_are_shown_as_they_are():
    facts = {"episodes": 0, "mean_return": 1.23456789, "features": ["x", "y"], "bins": [1, 2]}
    facts |= {"return_ci95": [float("nan"), float("nan")]}  # of one episode
    assert rows(facts | {"nothing": None}) == [
        *(("mean_return", "1.2345679"), ("episodes", "0"), ("features", "x, y")),
    ]


def test_a_line_of_progress(monkeypatch):
    """Over a window of time: 1 560 episodes a second, of which 288 000 are left."""
    now = [100.0]
    monkeypatch.setattr(answers.time, "monotonic", lambda: now[0])
    pace, latest = Pace("entgame"), {"eval/states_visited": (5, 3.0)}
    assert pace.line(0, 300_000, latest) == "0/300 000 episodes"
    now[0] += 12_000 / 1560
    latest["eval/gap"] = (5, 0.41)
    line = pace.line(12_000, 300_000, latest)
    assert line == "12 000/300 000  gap 0.41 nats  1 560 episodes/s  ETA 3:05"
    now[0] += 1000.0  # it slows down: the speed is that of late
    pace.line(12_100, 300_000, latest)
    now[0] += 10.0
    assert "10 episodes/s" in pace.line(12_200, 300_000, latest)
    assert pace.line(300_000, 300_000, latest).endswith("episodes/s")


@pytest.mark.parametrize(
    ("command", "latest", "said"),
    [
        ("rfzi", {"eval/gap": (1, 2.0), "eval/return": (1, 9.0)}, "gap 2"),
        ("robust-actor-critic", {"eval/return": (1, 480.25)}, "return 480.2"),
        ("neural-entgame", {"eval/mixture_entropy": (1, 4.5)}, "mixture entropy 4.5 nats"),
        ("active-preference", {"eval/normalised_return": (1, 0.5)}, "normalised return 0.5"),
        ("mepol", {"eval/episode_entropy": (1, 0.5)}, None),
    ],
)
def test_the_figure_of_each_family(command, latest, said):
    assert Pace(command).line(1, 9, latest) == (f"1/9  {said}" if said else "1/9 steps")


def test_numbers_and_times():
    assert [grouped(x) for x in (0, 999, 1000, 12_000_000)] == ["0", "999", "1 000", "12 000 000"]
    assert [grouped(x) for x in (0.8333, 99.4, 1560.4)] == ["0.833", "99.4", "1 560"]
    assert [clock(x) for x in (0.2, 59.6, 182, 3600, 100_000)] == [
        *("0:00", "1:00", "3:02", "1:00:00", "27:46:40"),
    ]
