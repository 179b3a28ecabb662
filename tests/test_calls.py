"""How algorithms are called from Python: the same results, and the same refusals, as elsewhere."""

import inspect
import json
import pickle
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from examples.offline import dataset

from rlentropy import calls, cli, data
from rlentropy.exploration import entgame, mepol, optimal, reg_entgame
from rlentropy.log import Log
from rlentropy.offline import fqi, rfzi
from rlentropy.preferences import active_preference, language_preference
from rlentropy.robust import planning
from rlentropy.runs.table import COMMANDS

LAKE, CHAIN = "FrozenLake-v1", "rlentropy/DoubleChain-v0"
SHORT = {"horizon": 6, "episodes": 20}


def ring():
    return dataset(gymnasium.make("rlentropy/Ring-v0").unwrapped.mdp, 200, 0, horizon=100)


def alike(one, two):
    assert one.summary == two.summary
    for name, array in one.policy.items():
        np.testing.assert_array_equal(array, two.policy[name])


def test_settings_an_id_and_a_seed_are_the_long_form():
    config = entgame.Config(horizon=6, episodes=20)
    env = gymnasium.make(CHAIN)
    long = entgame.run(env, config, np.random.default_rng(3), Log(None))
    alike(long, entgame.run(CHAIN, seed=3, **SHORT))
    alike(long, entgame.run(env, config, seed=3))
    alike(long, entgame.run(env=env, config=config, rng=np.random.default_rng(3)))
    alike(long, entgame.run(CHAIN, entgame.Config(horizon=6, episodes=7), episodes=20, seed=3))
    alike(entgame.run(CHAIN, **SHORT), entgame.run(CHAIN, seed=0, **SHORT))


def test_it_is_what_the_command_line_does(tmp_path):
    line = ["entgame", "--env-id", CHAIN, "--horizon", "6", "--episodes", "20", "--seed", "3"]
    assert cli.main([*line, "--quiet", "--out", str(tmp_path / "run")]) == 0
    written = json.loads((tmp_path / "run/summary.json").read_text())
    found = entgame.run(CHAIN, seed=3, **SHORT)
    assert {name: written[name] for name in found.summary} == json.loads(
        json.dumps(dict(found.summary))
    )
    with np.load(tmp_path / "run/policy.npz") as file:
        np.testing.assert_array_equal(file["pi"], found.policy["pi"])


def test_a_horizon_left_open_is_the_time_limit_and_a_given_one_takes_its_place():
    assert entgame.run(LAKE, episodes=2).summary["horizon"] == 100
    assert entgame.run(LAKE, episodes=2, horizon=110).summary["horizon"] == 110
    assert optimal.run(CHAIN, horizon=3).summary["horizon"] == 3


def test_data_may_be_a_path(tmp_path):
    data.save(tmp_path / "ring.npz", ring())
    settings = {"gamma": 0.9, "updates": 40}
    whole = rfzi.run(ring(), rfzi.Config(**settings), np.random.default_rng(0), Log(None))
    for where in (tmp_path / "ring.npz", str(tmp_path / "ring.npz")):
        found = rfzi.run(where, **settings)
        np.testing.assert_array_equal(found.policy["Q"], whole.policy["Q"])
        assert found.summary["dataset"] == str(where)
    scored = fqi.run(ring(), env="rlentropy/Ring-v0", **settings)
    assert scored.summary["value"] <= scored.summary["optimum"]


def test_texts_and_lists_become_what_a_field_holds(monkeypatch):
    seen = []
    module = import_module("rlentropy.exploration.coverage")
    monkeypatch.setattr(module, "explore", lambda env, config, *rest: seen.append(config))
    mepol.run("Pendulum-v1", mepol.Config(hidden=[3, np.int64(4)]))
    assert seen[0].hidden == (3, 4)
    config = mepol.Config(hidden=(3, 4))
    assert calls.configured(mepol.Config, config, {}) is config
    folder = calls.of_kind("reference_run", "runs/x", Path | None)
    assert folder == Path("runs/x")
    assert calls.of_kind("data", Path("x.npz"), str) == "x.npz"


def test_a_reference_is_a_policy_or_the_setting():
    settings = {"labels": 8, "batch_size": 4, "segment_length": 4}
    plain = active_preference.run(LAKE, reference="uniform", **settings)
    alike(plain, active_preference.run(LAKE, **settings))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_algorithm_can_be_called_so(name):
    module = import_module(COMMANDS[name].module)
    shown = inspect.signature(module.run).parameters
    assert {f.name for f in fields(module.Config)} <= {*shown, "data", "reference"}
    assert shown["seed"].kind is shown["seed"].KEYWORD_ONLY
    assert [shown[part].default for part in ("config", "rng", "log")] == [None] * 3
    assert "seed: as on the command line" in module.run.__doc__
    assert pickle.loads(pickle.dumps(module.run)) is module.run
    first = (LAKE,) if COMMANDS[name].needs == "env" else ()
    first = (ring(),) if COMMANDS[name].needs == "data" else first
    with pytest.raises(ValueError, match=r"^setting must be one of .*, got 'gama'"):
        module.run(*first, gama=3)
    with pytest.raises(ValueError, match=r"^seed must be >= 0, got -1"):
        module.run(*first, seed=-1)
    for f in fields(module.Config):  # no default is refused, and no number is taken for another
        if f.type in ("int", int):
            with pytest.raises(ValueError, match=f"^{f.name} must be a whole number, got '10'"):
                module.run(*first, **{f.name: "10"})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: entgame.run(LAKE, epsodes=3), "setting must be one of .* did you mean episodes"),
        (lambda: entgame.run(LAKE, episodes=-3), "episodes must be >= 1, got -3"),
        (lambda: entgame.run(LAKE, episodes=2.0), r"episodes must be a whole number, got 2\.0"),
        (lambda: entgame.run(LAKE, episodes=True), "episodes must be a whole number, got True"),
        (lambda: entgame.run(LAKE, entgame.Config(episodes="10")), "whole number, got '10'"),
        (lambda: entgame.run(LAKE, prior="1"), "prior must be a number, got '1'"),
        (lambda: entgame.run(LAKE, clip=1), "clip must be True or False, got 1"),
        (lambda: entgame.run(LAKE, objective="VX"), "objective must be one of VE, .* got 'VX'"),
        (lambda: entgame.run(LAKE, objective=[]), r"objective must be one of VE, .* got \[\]"),
        (lambda: mepol.run(LAKE, hidden=[3.5]), r"hidden must be a whole number, got 3\.5"),
        (lambda: mepol.run(LAKE, hidden=3), "hidden must be a list, got 3"),
        (lambda: planning.run(LAKE, risk=3), "risk must be text, got 3"),
        (lambda: active_preference.run(LAKE, pairs=3), "pairs must be a path, got 3"),
        (lambda: entgame.run("FrozenLak-v1"), "env_id must name .* did you mean FrozenLake-v1"),
        (lambda: entgame.run(3), r"env must be a gymnasium\.Env, .*, or an id, got a int"),
        (lambda: entgame.run(), r"env must be a gymnasium\.Env, .*, or an id, got none"),
        (lambda: entgame.run(LAKE, rfzi.Config()), r"config must be a rlentropy\.exploration\.ent"),
        (lambda: entgame.run(LAKE, None, 0), r"rng must be a numpy\.random\.Generator .*, got 0"),
        (lambda: entgame.run(LAKE, seed="0"), "seed must be a whole number >= 0, got '0'"),
        (lambda: entgame.run(LAKE, seed=0, rng=np.random.default_rng()), "seed must not come with"),
        (lambda: entgame.run(LAKE, log="runs"), r"log must be a rlentropy\.log\.Log, got 'runs'"),
        (lambda: entgame.run(LAKE, env=LAKE), "env must be given once, got it twice"),
        (
            lambda: reg_entgame.run(LAKE, None, None, None, None, 3),
            r"reg_entgame\.run must be given at most 5 arguments without a name \(env, config, rng",
        ),
        (
            lambda: rfzi.run(3),
            "data must be Transitions, or the path or Minari id of some, got a i",
        ),
        (lambda: rfzi.run("no.npz"), r"data must be an existing file, got no\.npz"),
        (lambda: rfzi.run(ring(), env=3), r"env must be a gymnasium\.Env, .* got a int"),
        (lambda: language_preference.run(labels="3"), "labels must be a whole number, got '3'"),
    ],
)
def test_what_does_not_suit_is_one_line(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_only_what_was_opened_here_is_closed(monkeypatch):
    closed = []
    monkeypatch.setattr(gymnasium.Env, "close", lambda self: closed.append(self))
    env = gymnasium.make(LAKE)
    planning.run(env)
    assert not closed
    planning.run("rlentropy/Ring-v0")
    assert len(closed) == 1
