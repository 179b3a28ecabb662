"""Refusals that name the way on: another command, an option, a list."""

import re

import pytest
from examples.command_line import check_refusal

from rlentropy import cli

POLE, CLIFF = ("--env-id", "CartPole-v1"), ("--env-id", "CliffWalking-v1")
CARDS = ("--env-id", "Blackjack-v1", "--horizon", "10")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ("entgame", *POLE),
            r"observation space must be Discrete, got Box.*; neural-entgame",
        ),
        (("optimal-exploration", *POLE), r"bin it by a gymnasium\.ObservationWrapper"),
        (("entgame", *CARDS), r"space must be Discrete, got Box.*; neural-entgame takes it"),
        (("neural-entgame", *CARDS), r"at most 12 of the 45 coordinates .* \(--features 0,1\)"),
        (("robust-planning", *POLE), r"known model .*; robust-actor-critic needs no model"),
        (("robust-pg", *POLE), r"known model .*; robust-actor-critic needs no model"),
        (("entgame", *CLIFF), r"horizon must be >= 1 \(--horizon\), .*no limit.*, got none"),
        (("neural-entgame", *CLIFF), r"horizon must be >= 1 \(--horizon\), .*, got none"),
        (
            ("collect", *CLIFF, "--data", "x.npz"),
            r"horizon must be >= 1 \(--horizon\), .*, got none",
        ),
        (("entgame",), r"env_id must be a gymnasium id .*, got none; rlentropy envs lists"),
        (("entgame", "--env-id", "lakes-v0"), r"got 'lakes-v0': .*; rlentropy envs lists"),
        (("entgame", "--env-id", "frozen"), r"did you mean FrozenLake-v1"),
        (("fqi",), r"data must be .*, got none; rlentropy collect makes one"),
    ],
)
def test_a_refusal_names_the_way_on(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = cli.main([*argv, "--quiet"])
    check_refusal(code, capsys.readouterr().err, said)


def test_the_ways_are_there(capsys):
    """Every command that a refusal names."""
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    for command in ("neural-entgame", "robust-actor-critic", "envs", "collect"):
        assert re.search(rf"^  {command} ", shown, re.M)


def test_tuples_and_dictionaries_are_flattened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["neural-random", *CARDS[:2], "--horizon", "5", "--features", "0,1", "--steps", "50"]
    assert cli.main([*argv, "--quiet", "--out", "run"]) == 0
