"""The list of environments, against gymnasium's registry and the environments themselves."""

import json
from pathlib import Path

import gymnasium
import pytest

from rlentropy import cli
from rlentropy.commands.envs import named, spaces
from rlentropy.errors import InputError
from rlentropy.perturbations import allowed

MODULE = """
import gymnasium


class Own(gymnasium.Env):
    observation_space = gymnasium.spaces.Dict({f"part{k}": gymnasium.spaces.Discrete(2)
                                               for k in range(3)})
    action_space = gymnasium.spaces.MultiDiscrete([2, 3])


class Broken(gymnasium.Env):
    def __init__(self):
        print("loud")
        raise OSError("no such\\nscreen")


for version in (1, 2, 11):
    gymnasium.register(id=f"own/Thing-v{version}", entry_point=Own)
gymnasium.register(id="own/Broken-v0", entry_point=Broken)
gymnasium.register(id="own/Plain", entry_point=Own, max_episode_steps=7)
"""


def listing(capsys, *arguments):
    assert cli.main(["envs", "--json", *arguments]) == 0
    rows = json.loads(capsys.readouterr().out)
    return {row.pop("env_id"): row for row in rows}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module with environments, in the working directory."""
    monkeypatch.chdir(tmp_path)
    before, name = dict(gymnasium.registry), "own_worlds"
    Path(f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    yield name
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


def test_ours_are_all_there_with_what_they_say(capsys):
    found = listing(capsys, "rlentropy/")
    ids = [name for name in gymnasium.registry if name.startswith("rlentropy/")]
    assert list(found) == ids
    for env_id, row in found.items():
        env = gymnasium.make(env_id)
        assert row == {
            "observation_space": spaces(env)[0],
            "action_space": spaces(env)[1],
            "horizon": gymnasium.spec(env_id).max_episode_steps,
            "known_model": hasattr(env.unwrapped, "mdp"),
            "unavailable": None,
            "perturbations": allowed(env),
        }


def test_gymnasiums_own(capsys):
    lake = listing(capsys, "frozenlake-v1")["FrozenLake-v1"]
    assert list(lake.pop("perturbations")) == ["success_rate", "random_action"]
    assert lake == {
        **{"observation_space": "Discrete(16)", "action_space": "Discrete(4)"},
        **{"horizon": 100, "known_model": True, "unavailable": None},
    }
    pole = listing(capsys, "CartPole-v1")["CartPole-v1"]
    assert (pole["observation_space"], pole["known_model"]) == ("Box(4)", False)
    assert listing(capsys, "CliffWalking-v1")["CliffWalking-v1"]["horizon"] is None


def test_of_one_environment_the_parameters_are_listed(capsys):
    assert cli.main(["envs", "CartPole-v1"]) == 0
    said = capsys.readouterr().out
    assert "\n\nevaluate --perturb NAME=LO:HI:STEP\n  force_mag " in said
    assert "  attr.tau " in said
    assert cli.main(["envs", "Mountain"]) == 0
    assert "--perturb" not in capsys.readouterr().out


def test_a_table_for_people(capsys):
    assert cli.main(["envs", "lake"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["env", "id", "observations", "actions", "horizon", "model"]
    assert lines[0].split() == ["FrozenLake-v1", "Discrete(16)", "Discrete(4)", "100", "known"]
    assert cli.main(["envs", "cart", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_the_newest_version_unless_all_are_asked(capsys, own):
    found = listing(capsys, f"{own}:")
    assert list(found) == [f"{own}:own/{name}" for name in ("Thing-v11", "Broken-v0", "Plain")]
    found = {name.partition(":")[2]: row for name, row in found.items()}  # as --env-id takes them
    assert found["own/Thing-v11"]["observation_space"] == "Dict"
    assert found["own/Thing-v11"]["action_space"] == "MultiDiscrete([2 3])"
    assert found["own/Plain"]["horizon"] == 7
    assert found["own/Broken-v0"]["unavailable"] == "no such screen"
    assert list(listing(capsys, "own/Thing-v1")) == ["own/Thing-v1", "own/Thing-v11"]
    assert list(listing(capsys, "thing", "--all")) == [f"own/Thing-v{k}" for k in (1, 2, 11)]


def test_what_cannot_be_made_says_why(capsys, own):
    assert cli.main(["envs", f"{own}:own/broken"]) == 0
    assert capsys.readouterr().out == f"{own}:own/Broken-v0 can't be made here: no such screen\n"


def test_our_ids_come_first():
    assert next(spec.id for spec in named("cartpole")) == "CartPole-v1"
    assert named("")[0].id.startswith("rlentropy/")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("CartPloe-v1", "text must be part of an environment's id, got 'CartPloe-v1'.*CartPole-v1"),
        ("no_such_module:x", "text must name a module that is here, got 'no_such_module'"),
        ("a b:x", "text must be part of an id, or MODULE:part, got 'a b:'"),
        (":x", "text must be part of an id, or MODULE:part, got ':'"),
    ],
)
def test_refusals(text, said):
    with pytest.raises(InputError, match=said):
        named(text)
