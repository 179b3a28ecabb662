"""Datasets in the making: what a break leaves, and who may go on with it."""

import json
import os

import gymnasium
import numpy as np
import pytest

from rlentropy import cli
from rlentropy.commands import collect as collect_command
from rlentropy.data import Batch, load
from rlentropy.data.store import Store
from rlentropy.errors import InputError
from rlentropy.files import locked
from rlentropy.intervals import mean_ci95
from rlentropy.wrappers import make_env

# ---------------------------------------------------------------- by itself

SETTINGS = {"env_id": "CartPole-v1", "seed": 3}


def block(k):
    """An episode of k + 1 steps of CartPole, truncated."""
    x = np.full((k + 2, 4), float(k), np.float32)
    flags = np.zeros(k + 1, bool)
    ends = flags.copy()
    ends[-1] = True
    return Batch(x[:-1], np.zeros(k + 1, np.int64), np.ones(k + 1), x[1:], flags, ends)


def begun(mode, steps, settings=SETTINGS):
    env = gymnasium.make("CartPole-v1")
    store = Store("d.npz")
    return store, store.begin(mode, steps, settings, (env.observation_space, env.action_space)), env


def test_a_store_goes_on_from_its_parts(tmp_path, monkeypatch):
    """Two blocks, a break in which one is lost, and the rest: as without the break."""
    monkeypatch.chdir(tmp_path)
    store, _, _ = begun("new", 10)
    store.add(block(0))
    store.add(block(1))
    store.flush()
    store.add(block(2))  # never saved
    store, finished, env = begun("resume", 10)
    assert (store.block, store.steps, finished) == (2, 3, None)
    for k in (2, 3):
        store.add(block(k))
    store.flush()
    summary = store.finish(None, env)
    assert (summary["steps"], summary["episodes"], summary["mean_return"]) == (10, 4, 2.5)
    assert summary["return_ci95"] == mean_ci95([1.0, 2.0, 3.0, 4.0])
    assert load("d.npz").observations[:, 0].tolist() == [0, 1, 1, 2, 2, 2, 3, 3, 3, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["d.npz"]
    assert begun("resume", 10)[1] == summary


def test_a_store_with_a_larger_budget_drops_the_block_that_was_cut(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store, _, env = begun("new", 2)
    store.add(block(0))
    store.flush()
    cut = Batch(*(column[:1] for column in block(1)))
    cut.truncations[-1] = True
    assert store.finish(cut, env)["steps"] == 2
    store, _, env = begun("resume", 3)
    assert (store.block, store.steps) == (1, 1)
    store.add(block(1))
    store.flush()
    summary = store.finish(None, env)
    assert (summary["steps"], summary["mean_return"]) == (3, 1.5)  # of both collections


@pytest.mark.parametrize(
    ("mode", "steps", "settings", "message"),
    [
        ("new", 9, SETTINGS, "data must be new, got d.npz: pass --resume"),
        ("append", 9, SETTINGS, "data must be finished to be appended to"),
        ("resume", 2, SETTINGS, "steps must be >= 3, which are collected already, got 2"),
        ("resume", 9, SETTINGS | {"seed": 4}, "seed must be 3 as when the data were begun, got 4"),
    ],
)
def test_what_a_store_refuses(tmp_path, monkeypatch, mode, steps, settings, message):
    monkeypatch.chdir(tmp_path)
    store, _, _ = begun("new", 10)
    store.add(block(2))
    store.flush()
    with pytest.raises(InputError, match=message):
        begun(mode, steps, settings)


# ---------------------------------------------------------------- what collect writes


@pytest.fixture
def unfinished(tmp_path, monkeypatch):
    """A collection of CartPole that was stopped."""
    monkeypatch.chdir(tmp_path)
    collect = ["collect", "--env-id", "CartPole-v1", "--data", "d.npz", "--num-envs", "1"]
    collect += ["--quiet", "--checkpoint-every", "50"]
    play, calls = make_env, []

    class Stops(gymnasium.Wrapper):
        def step(self, action):
            calls.append(1)
            if len(calls) == 130:
                raise KeyboardInterrupt
            return self.env.step(action)

    with monkeypatch.context() as patch:
        patch.setattr(collect_command, "make_env", lambda *a, **k: Stops(play(*a, **k)))
        assert cli.main([*collect, "--steps", "200"]) == 130
    (folder,) = tmp_path.glob(".d.npz.parts")
    assert list(folder.glob("part-*"))
    return collect, folder


def test_data_in_use_are_left_alone(unfinished, tmp_path, capsys):
    collect, folder = unfinished
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    for flag in ("--resume", "--overwrite"):
        with locked(tmp_path / ".d.npz.lock", "data", tmp_path / "d.npz"):
            assert cli.main([*collect, "--steps", "200", flag]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
        assert f"data must not be in use, got d.npz, where process {os.getpid()}" in line
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert cli.main([*collect, "--steps", "200", "--resume"]) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["d.npz"]


@pytest.mark.parametrize("damage", ["brackets", "numbers", "settings", "part", "name", "gap"])
def test_parts_that_no_collection_wrote(unfinished, capsys, damage):
    collect, folder = unfinished
    config, part = folder / "config.json", min(folder.glob("part-*"))
    begun = json.loads(config.read_text())
    if damage == "brackets":
        config.write_text("[" * 100_000)
    elif damage in ("numbers", "settings"):
        changed = {"steps": "many"} if damage == "numbers" else {"settings": []}
        config.write_text(json.dumps(begun | changed))
    elif damage == "part":
        part.write_bytes(part.read_bytes()[:-40])
    else:
        names = {"name": "part-x.npz", "gap": "part-000000000007-000000000009.npz"}
        part.rename(folder / names[damage])
    capsys.readouterr()
    assert cli.main([*collect, "--steps", "200", "--resume"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert cli.main([*collect, "--steps", "200", "--overwrite"]) == 0


@pytest.mark.parametrize("record", [[], [5], [{}], {"a": 1}, [{"settings": {}, "steps": -1}], "x"])
def test_finished_data_with_a_strange_record(unfinished, tmp_path, capsys, record):
    from rlentropy import data

    collect, _ = unfinished
    assert cli.main([*collect, "--steps", "200", "--resume"]) == 0
    old = data.load("d.npz")
    strange = data.Transitions.from_arrays(
        *old.columns,
        observation_space=old.observation_space,
        action_space=old.action_space,
        metadata=old.metadata | {"collections": record},
    )
    data.save("e.npz", strange)
    capsys.readouterr()
    assert cli.main([*collect, "--data", "e.npz", "--steps", "300", "--resume"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "data must be of collect to be resumed" in line


# ---------------------------------------------------------------- folders of NPY files


def collected(*more, steps=60, code=0, data="big/"):
    line = ["collect", "--env-id", "CartPole-v1", "--data", data, "--num-envs", "2", "--quiet"]
    assert cli.main([*line, "--steps", str(steps), *more]) == code
    return load(data) if code == 0 else None


def test_folders_are_collected_in_all_modes(tmp_path, monkeypatch, capsys):
    """As a file is, to the bit."""
    monkeypatch.chdir(tmp_path)
    for more, steps in ([], 60), (["--resume"], 90), (["--append"], 40), (["--resume"], 70):
        folder, file = (collected(*more, steps=steps, data=data) for data in ("big/", "one.npz"))
        assert folder.metadata == file.metadata
        for x, y in zip(folder.columns, file.columns, strict=True):
            np.testing.assert_array_equal(x, y)
    collected(code=2)
    assert "data must be new, got big: pass --resume" in capsys.readouterr().err
    assert len(collected("--overwrite", steps=50)) == 50
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big", "one.npz"]


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_folder_survives_a_kill_as_it_is_replaced(tmp_path, monkeypatch, at):
    """Renamed to whole; what was there put aside; and the new one in its place."""
    monkeypatch.chdir(tmp_path)
    before, renamed, calls = collected(steps=60), os.rename, []

    def killed(*paths):
        calls.append(paths)
        if len(calls) == at:
            raise KeyboardInterrupt
        renamed(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        collected("--resume", steps=90, code=130)
    after = collected("--resume", steps=90)
    assert (len(before), len(after)) == (60, 90)
    np.testing.assert_array_equal(after.rewards, collected(steps=90, data="one.npz").rewards)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big", "one.npz"]


def test_a_folder_of_others_is_never_replaced(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    collected("--overwrite", data="home/", code=2)
    assert "data must be a folder with nothing but a dataset in it to" in capsys.readouterr().err
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"
    collected("--overwrite", data="../", code=2)
    assert "data must be a folder with a name of its own, got '../'" in capsys.readouterr().err
