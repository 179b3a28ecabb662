"""Every space with every command: it trains, or is refused in one line that names the way on.

The table is that of docs/usage.md. Whatever `collect` takes without a warning is learnt from.
"""

import json
import re
import warnings

import numpy as np
import pytest
from examples.command_line import check_refusal
from examples.space_worlds import ACTIONS, OBSERVATIONS, WORLD
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Text

from rlentropy import cli
from rlentropy.commands.console import exit_code
from rlentropy.errors import InputError, InputWarning
from rlentropy.neural.spaces import ActionSet, warn_if_wide
from rlentropy.spaces import check_finite, check_held, check_learnable

TABLES = {"discrete", "discrete-from-5"}
FLAT = {*OBSERVATIONS} - {"text", "tuple-with-text"}  # observations that networks see
HEADS = {*ACTIONS} - {"tuple", "dict", "text"}  # actions that have a law
FEW = HEADS - {"unbounded", "many-dimensions", "many-combinations"}  # that have an output each
BOUNDED = {*FEW, "many-dimensions"}  # FEW, or in a bounded Box

SMALL_NETWORK = ("--hidden", "4", "--final-episodes", "2")
EXPLORING = ("--steps", "20", "--episodes", "2", "--evaluation-episodes", "2", *SMALL_NETWORK)
# The command line of a tiny budget, observations and actions that it takes.
COMMANDS = {
    "entgame": (("--episodes", "3"), TABLES, TABLES),
    "reg-entgame": (("--episodes", "3"), TABLES, TABLES),
    "maxent": (("--episodes", "3", "--round-episodes", "2"), TABLES, TABLES),
    "rf-ucrl": (("--episodes", "3"), TABLES, TABLES),
    "ucbvi-ent": (("--episodes", "3"), TABLES, TABLES),
    "rf-explore-ent": (("--episodes", "40"), TABLES, TABLES),
    "random-policy": (("--episodes", "3"), TABLES, TABLES),
    "neural-entgame": ((*EXPLORING, "--updates", "2"), FLAT, BOUNDED),
    "neural-maxent": ((*EXPLORING, "--updates", "2", "--oracle-rounds", "1"), FLAT, BOUNDED),
    "mepol": ((*EXPLORING, "--inner-steps", "1"), FLAT - TABLES, HEADS),
    "neural-random": (EXPLORING, FLAT, HEADS),
    "robust-actor-critic": (
        ("--steps", "16", "--num-envs", "2", "--rollout-steps", "8", "--minibatches", "1",
         "--epochs", "1", "--evaluation-episodes", "2", *SMALL_NETWORK),
        FLAT,
        HEADS,
    ),
    "active-preference": (
        ("--labels", "2", "--batch-size", "2", "--pool", "1", "--segment-length", "3",
         "--evaluation-segments", "2", "--acquisition", "random", *SMALL_NETWORK),
        FLAT,
        HEADS,
    ),
}  # fmt: skip
SLOW = {"neural-entgame", "neural-maxent", "mepol", "neural-random", "active-preference"}
CELLS = [pytest.param(c, marks=[pytest.mark.slow] if c in SLOW else []) for c in COMMANDS]
LEARNING = ("--updates", "2", "--hidden", "4", "--batch-size", "4", "--episodes", "2")
LEARNING += ("--action-grid", "2")
COLLECTING = ("--steps", "20", "--num-envs", "2")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def world(observations, actions):
    kwargs = {"observations": observations, "actions": actions}
    return ("--env-id", f"examples.{WORLD}", "--env-kwargs", json.dumps(kwargs), "--quiet")


def check(code, err, taken, *said):
    if taken:
        assert (code, err) == (0, "")
    else:
        check_refusal(code, err, *said)


def run(command, observations, actions, *more):
    return cli.main([command, *world(observations, actions), *more])


# ---------------------------------------------------------------- environments that are played


@pytest.mark.parametrize("command", CELLS)
def test_observations(command, capsys):
    options, taken, _ = COMMANDS[command]
    for name in OBSERVATIONS:
        more = ("--features", "0") if name == "picture" and options[:6] == EXPLORING[:6] else ()
        code = run(command, name, "discrete", *options, *more, "--out", name)
        check(
            code,
            capsys.readouterr().err,
            name in taken,
            "observation|env",
            r"; .*(gymnasium|neural)",
        )


@pytest.mark.parametrize("command", CELLS)
def test_actions(command, capsys):
    options, observations, taken = COMMANDS[command]
    seen = "box" if "box" in observations else "discrete"
    for name in ACTIONS:
        code = run(command, seen, name, *options, "--out", name)
        check(code, capsys.readouterr().err, name in taken, "action", r"(; |need)")


# ---------------------------------------------------------------- datasets


@pytest.mark.parametrize("observations", OBSERVATIONS)
def test_observations_that_are_collected_are_learnt_from(observations, capsys):
    code = run("collect", observations, "discrete", *COLLECTING, "--data", "d.npz")
    check(code, capsys.readouterr().err, observations in FLAT, "observations", "; gymnasium")
    if code == 0:
        learn(observations, "discrete")
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("observations", ["box", "discrete"])
def test_actions_that_are_collected_are_learnt_from_or_warned_of(observations, actions, capsys):
    code = run("collect", observations, actions, *COLLECTING, "--data", "d.npz")
    err = capsys.readouterr().err
    if actions not in HEADS:
        check_refusal(code, err, "actions must be of", r"; gymnasium\.wrappers\.TransformAction")
        return
    assert code == 0
    if actions in FEW:
        assert err == ""
        learn(observations, actions)
        assert capsys.readouterr().err == ""
        return
    assert err.count("\n") == 1
    assert err.startswith("warning: rfzi, rfqi and fqi can't learn from these data")
    assert cli.main(["fqi", "--data", "d.npz", "--quiet", *LEARNING]) == 2
    check_refusal(2, capsys.readouterr().err, "action")


def learn(observations, actions):
    """Three learners, evaluated where the data come from."""
    for command in ("fqi", "rfqi", "rfzi"):
        more = (*world(observations, actions), *LEARNING)
        assert cli.main([command, "--data", "d.npz", *more, "--out", command]) == 0
    for tool in ("evaluate", "collect"):
        where = ("--run", "fqi") if tool == "evaluate" else ("--policy", "fqi", "--data", "e.npz")
        more = ("--episodes", "1") if tool == "evaluate" else COLLECTING
        assert cli.main([tool, *where, *world(observations, actions), *more]) == 0


# ---------------------------------------------------------------- wide networks

WIDE = r"^warning: observations of Box.* are 1200 inputs of a flat network, .*ResizeObservation"


@pytest.mark.parametrize("command", ["robust-actor-critic", "mepol", "neural-entgame"])
def test_a_wide_network_is_warned_of_once_and_where_quiet(command, capsys):
    options = COMMANDS[command][0]
    more = () if command == "robust-actor-critic" else ("--features", "0")
    code = run(command, "wide-picture", "discrete", *options, *more)
    err = capsys.readouterr().err
    assert (code, err.count("\n")) == (0, 1)
    assert re.search(WIDE, err)


def test_offline_and_preferences_warn_too(capsys):
    assert run("collect", "wide-picture", "discrete", *COLLECTING, "--data", "d.npz") == 0
    assert capsys.readouterr().err == ""
    assert cli.main(["fqi", "--data", "d.npz", "--quiet", *LEARNING, "--out", "x"]) == 0
    assert re.search(WIDE, capsys.readouterr().err)
    options = COMMANDS["active-preference"][0]
    assert run("active-preference", "wide-picture", "discrete", *options) == 0
    err = capsys.readouterr().err
    assert (re.search(WIDE, err) is not None, err.count("\n")) == (True, 1)


def test_the_warning_is_pythons_where_no_command_line_is():
    with pytest.warns(InputWarning, match="are 1001 inputs of a flat network.*commands for tables"):
        warn_if_wide(Discrete(1001))
    with pytest.warns(InputWarning, match="; a gymnasium.ObservationWrapper"):
        warn_if_wide(Box(0.0, 1.0, (1001,)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_wide(Discrete(1000))


def test_other_warnings_are_left_to_python(capsys):
    def told():
        warnings.warn("first", InputWarning, stacklevel=1)
        warnings.warn("first", InputWarning, stacklevel=1)
        warnings.warn("second\nline", InputWarning, stacklevel=1)
        return 0

    assert exit_code(told) == 0
    assert capsys.readouterr().err == "warning: first\nwarning: second line\n"
    with pytest.warns(UserWarning, match="another"):
        exit_code(lambda: warnings.warn("another", UserWarning, stacklevel=1) or 0)


# ---------------------------------------------------------------- the checks themselves


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (Discrete(2**20 + 1), "at most 1048576 actions"),
        (MultiBinary(13), "at most 5000 combinations .*; robust-actor-critic takes more"),
        (Box(-np.inf, 1.0, (1,)), "a bounded Box, got .*TransformAction gives them bounds"),
        (Box(0.0, 1.0, (0,)), "at least one number"),
        (Box(0.0, 1.0, (13,)), "action_grid must make at most 5000 points in 13 dimensions"),
        (Box(-1e300, 1e300, (1,), np.float64), "within ±3.4e"),
        (Text(3), "actions must be of a Box.*TransformAction makes one of it"),
    ],
)
def test_too_many_actions(space, said):
    with pytest.raises(InputError, match=said):
        check_finite(space, 2)


@pytest.mark.parametrize(
    "space", [MultiDiscrete([2, 3], start=[1, 4]), MultiBinary([2, 2]), MultiDiscrete([[3], [2]])]
)
def test_combinations_of_actions_are_numbered(space):
    """Each element of the space once, and `mixed` finds its number."""
    actions = ActionSet(space, 2)
    found = {tuple(x.ravel().tolist()) for x in actions.elements}
    sizes = space.nvec.ravel() if isinstance(space, MultiDiscrete) else [2] * 4
    assert len(found) == len(actions) == np.prod(sizes)
    assert all(space.contains(x) for x in actions.elements)
    index, weights = actions.mixed(actions.elements)
    assert index.tolist() == [[k] for k in range(len(actions))]
    assert (weights == 1.0).all()


def test_data_that_nobody_learns_from():
    check_learnable(Discrete(10**6), Discrete(2))  # a table
    with pytest.raises(InputError, match="at most 5000 states"):
        check_learnable(Discrete(5001), Box(-1.0, 1.0, (1,)))
    with pytest.raises(InputError, match=r"observations must be of a Box.*TransformObservation"):
        check_held("observations", Text(3))
