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
        (("entgame", *CARDS), r"got Tuple.*; gymnasium\.wrappers\.FlattenObservation and neural-"),
        (("neural-entgame", *CARDS), r"got Tuple.*; gymnasium\.wrappers\.FlattenObservation makes"),
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


def test_the_way_from_a_dictionary_to_the_networks(tmp_path, monkeypatch):
    """What flattens it can be named as an id of one's own, and is then explored."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flat_cards.py").write_text(
        "import gymnasium\n\n\n"
        "def make(**kwargs):\n"
        "    env = gymnasium.make('Blackjack-v1', **kwargs)\n"
        "    return gymnasium.wrappers.FlattenObservation(env)\n\n\n"
        "gymnasium.register(id='flat/Cards-v0', entry_point=make)\n"
    )
    argv = ["neural-random", "--env-id", "flat_cards:flat/Cards-v0", "--horizon", "5"]
    assert cli.main([*argv, "--features", "0,1", "--steps", "50", "--quiet", "--out", "run"]) == 0
