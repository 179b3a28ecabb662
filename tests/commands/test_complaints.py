"""Command lines that can't be parsed: the option, what it must be, what came."""

import pytest

from rlentropy import cli
from rlentropy.commands.complaints import refusal

ENTGAME = "options must be those of entgame (rlentropy entgame --help), got "


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("entgame --env x", f"{ENTGAME}--env x; did you mean --env-id or --env-kwargs"),
        ("entgame --episode 4", f"{ENTGAME}--episode 4; did you mean --episodes"),
        ("entgame --xyzzy", f"{ENTGAME}--xyzzy"),
        ("entgame extra", f"{ENTGAME}extra"),
        ("entgame --clip yes", f"{ENTGAME}yes"),
        (
            "entgame --episodes",
            "episodes must have a value, with = before one that begins with a minus "
            "(--episodes=-1), got none",
        ),
        ("entgame --episodes 1e3", "episodes must be a whole number, got '1e3'"),
        ("entgame --prior a", "prior must be a number, got 'a'"),
        ("entgame --eval-every x", "eval_every must be a whole number, got 'x'"),
        (
            "entgame --objective ve",
            "objective must be one of VE, VE_S, AVE, AVE_S, got 've'; did you mean VE",
        ),
        ("active-preference --pool x", "pool must be a whole number, got 'x'"),
        ("active-preference --train x", ", got 'x'"),
        (
            "robust-actor-critic --hidden 64,64",
            "hidden must be values with spaces between them, got '64,64'",
        ),
        ("evaluate --runs x", "evaluate --help), got --runs x; did you mean --run"),
        ("evaluate --run", "run must name at least one run folder, got none"),
    ],
)
def test_one_line_that_names_the_way_on(argv, said, capsys):
    assert cli.main(argv.split()) == 2
    err = capsys.readouterr().err
    assert (err.count("\n"), err.startswith("error: ")) == (1, True)
    assert said in err
    assert "Argument" not in err
    assert "{" not in err


def test_what_is_not_known_is_left_as_it_is():
    assert refusal("something else\n", "entgame", ()) == "something else"
    assert refusal("Error parsing --x: odd", "entgame", ()) == "Error parsing --x: odd"
