"""Minari datasets: what comes back, and what is refused."""

import json
import os

import gymnasium
import pytest
from examples.datasets import MAKERS, SPACES, made, same, small, tabular_arrays
from examples.datasets import SMALL as N
from examples.hdf5 import external_bytes, external_link, plugin, virtual, write_elsewhere

from rlentropy import data as offline
from rlentropy.data import Transitions, load, save
from rlentropy.errors import InputError

# ---------------------------------------------------------------- episodes and Minari


@pytest.fixture
def minari(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    pytest.importorskip("h5py")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return minari


@pytest.mark.parametrize("kind", list(MAKERS))
def test_minari_returns_what_was_saved(minari, tmp_path, kind):
    spaces = dict(zip(("observation_space", "action_space"), SPACES[kind], strict=True))
    data = Transitions.from_arrays(**MAKERS[kind](), **spaces, metadata={"a": [1]})
    save("lab/test-v0", data)
    assert list(minari.list_local_datasets()) == ["lab/test-v0"]
    theirs = minari.load_dataset("lab/test-v0")
    assert (theirs.total_episodes, theirs.total_steps) == (len(data.returns()), len(data))
    for source in ("lab/test-v0", tmp_path / "minari/lab/test-v0"):
        found = load(source)
        same(found, data)
        assert (found.observation_space, found.action_space) == SPACES[kind]
        assert found.metadata == {"a": [1]}
    assert len(load(tmp_path / "minari/lab/test-v0/data")) == len(data)
    with pytest.raises(InputError, match="which exists"):
        save("lab/test-v0", data)
    assert os.environ["MINARI_DATASETS_PATH"] == str(tmp_path / "minari")


def test_minari_keeps_the_environment(minari):
    env = gymnasium.make("FrozenLake-v1", is_slippery=False)
    arrays = tabular_arrays(20, 16, 4)
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    save("lake-v1", Transitions.from_arrays(**arrays, **spaces), env)
    recovered = minari.load_dataset("lake-v1").recover_environment()
    assert recovered.spec.id == "FrozenLake-v1"
    assert recovered.spec.kwargs["is_slippery"] is False


def test_minari_data_that_are_missing_or_broken(minari, tmp_path):
    with pytest.raises(InputError, match="data must be on this machine"):
        load("lab/none-v3")
    save("test-v0", made("tabular"))
    file = tmp_path / "minari/test-v0/data/main_data.hdf5"
    content = file.read_bytes()
    for length in (0, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(InputError, match="data must be a whole Minari dataset"):
            load("test-v0")
    (tmp_path / "minari/test-v0/data/metadata.json").write_text("{")
    with pytest.raises(InputError, match="data must be a whole Minari dataset"):
        load("test-v0")


def test_a_minari_folder_is_not_written_to(tmp_path):
    with pytest.raises(InputError, match="data must be a Minari id to be written to"):
        save(tmp_path, made("tabular"))


h5py = pytest.importorskip("h5py")


# ---------------------------------------------------------------- outside the file


@pytest.fixture
def minari_folder(tmp_path, monkeypatch):
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    save("test-v0", small())
    return tmp_path / "minari/test-v0/data"


@pytest.mark.parametrize("trick", [external_bytes, external_link, virtual, plugin])
@pytest.mark.parametrize("place", ["rewards", "infos"])
def test_nothing_outside_a_minari_dataset_is_read(minari_folder, tmp_path, trick, place):
    write_elsewhere(tmp_path)
    with h5py.File(minari_folder / "main_data.hdf5", "a") as file:
        group = file["episode_1"]
        if place == "infos":  # which we don't use, but Minari reads
            group = group.create_group("infos")
        else:
            del group["rewards"]
        trick(group, "rewards", tmp_path)
    with pytest.raises(InputError, match="test-v0: rewards must"):
        load("test-v0")


def test_minari_does_not_make_the_environment_that_data_name(minari_folder, tmp_path):
    path = minari_folder / "metadata.json"
    metadata = json.loads(path.read_text())
    spec = {"id": "Any-v0", "entry_point": "os:mkdir", "additional_wrappers": []}
    metadata["env_spec"] = json.dumps(spec | {"kwargs": {"path": str(tmp_path / "ran")}})
    for name in ("observation_space", "action_space"):
        path.write_text(json.dumps({k: v for k, v in metadata.items() if k != name}))
        with pytest.raises(InputError, match=f"metadata.json must describe the {name}, got None"):
            load("test-v0")
    assert not (tmp_path / "ran").exists()


# ---------------------------------------------------------------- sizes


def test_a_minari_dataset_that_claims_many(minari_folder):
    with h5py.File(minari_folder / "main_data.hdf5", "a") as file:
        del file["episode_1/rewards"]
        file.create_dataset("episode_1/rewards", (10**12,), "f8", chunks=(100,))
    with pytest.raises(InputError, match=r"must fit in .* and each episode in memory, got"):
        load("test-v0")
    metadata = json.loads((minari_folder / "metadata.json").read_text())
    metadata["total_episodes"] = 10**12
    (minari_folder / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(InputError, match="data must hold 1000000000000 episodes, got 4"):
        load("test-v0")


# ---------------------------------------------------------------- checksums


def test_minari_checksums_go_on_where_episodes_are_added(tmp_path, minari_folder):
    root, data = tmp_path / "minari", small()
    spaces = (data.observation_space, data.action_space)
    offline.write(root, "test-v0", [data.columns], *spaces, {})
    assert len(load("test-v0")) == 2 * N
    with h5py.File(minari_folder / "main_data.hdf5", "a") as file:
        file["episode_6/rewards"][2] += 1.0
    with pytest.raises(InputError, match="rewards must have the checksum stored with it"):
        load("test-v0")


def test_minari_data_that_others_have_added_to(minari_folder):
    theirs = pytest.importorskip("minari").load_dataset("test-v0")
    episode = next(iter(theirs))
    buffer = pytest.importorskip("minari.data_collector").EpisodeBuffer
    names = ("observations", "actions", "rewards", "terminations", "truncations")
    theirs.update_dataset_from_buffer([buffer(**{k: getattr(episode, k) for k in names})])
    assert len(load("test-v0")) == N + 10  # the first N as they were
    data = small()
    spaces = (data.observation_space, data.action_space)
    offline.write(minari_folder.parents[1], "test-v0", [data.columns], *spaces, {})
    assert len(load("test-v0")) == 2 * N + 10


def test_minari_data_are_not_added_to_in_types_that_lose(minari_folder):
    data = small()
    spaces = (data.observation_space, data.action_space)
    part = data.columns._replace(observations=data.observations * 1.0)
    with pytest.raises(InputError, match="observations must be of int64 as in the data that are"):
        offline.write(minari_folder.parents[1], "test-v0", [part], *spaces, {})
    assert len(load("test-v0")) == N
