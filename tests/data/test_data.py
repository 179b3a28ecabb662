"""Datasets of every format: what was saved comes back, and nothing else is read."""

import json
import os
import sys

import numpy as np
import pytest
from examples.datasets import (
    KEYS,
    MAKERS,
    SMALL,
    SPACES,
    WRITERS,
    continuous_arrays,
    equal,
    hdf5_without,
    made,
    same,
    small,
    small_arrays,
    tabular_arrays,
    write_folder,
)
from gymnasium.spaces import Discrete

from rlentropy import data as offline
from rlentropy.data import Batch, Transitions, load, save
from rlentropy.data import columns as on_disk
from rlentropy.errors import InputError, OutputError

# ---------------------------------------------------------------- round trips


@pytest.mark.parametrize("kind", list(MAKERS))
@pytest.mark.parametrize("suffix", [".npz", "/", ".hdf5", ".h5"])
def test_files_return_what_was_saved(tmp_path, kind, suffix):
    if suffix in (".hdf5", ".h5"):
        pytest.importorskip("h5py")
    observation_space, action_space = SPACES[kind]
    data = Transitions.from_arrays(
        **MAKERS[kind](),
        observation_space=observation_space,
        action_space=action_space,
        metadata={"who": ["me", 1.5]},
    )
    path = f"{tmp_path}/deep/data{suffix}"
    save(path, data)
    assert os.listdir(tmp_path / "deep") == [f"data{suffix}".rstrip("/")]
    found = load(path)
    same(found, data)
    assert found.metadata == {"who": ["me", 1.5]}
    assert (found.observation_space, found.action_space) == SPACES[kind]
    assert not found.guessed
    for column in (found.observations, found.actions, found.rewards, found.next_observations):
        assert isinstance(column, np.memmap)
        assert column.flags.aligned
        assert not column.flags.writeable


@pytest.mark.parametrize("kind", list(MAKERS))
@pytest.mark.parametrize("way", list(WRITERS))
def test_files_of_others_are_read(tmp_path, kind, way):
    write, suffix = WRITERS[way]
    arrays = MAKERS[kind]()
    names = {"terminations": "terminals", "truncations": "timeouts"}
    write(tmp_path / f"ours{suffix}", arrays)
    write(tmp_path / f"d4rl{suffix}", {names.get(k, k): x for k, x in arrays.items()})
    for name in ("ours", "d4rl"):
        found = load(str(tmp_path / f"{name}{suffix}"))
        same(found, Transitions.from_arrays(**arrays))
        assert found.guessed
        assert isinstance(found.observations, np.memmap)


def test_the_same_data_are_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        save(f"{tmp_path}/folder-{name}/", made("tabular"))
    a, b = (sorted((tmp_path / f"folder-{name}").iterdir()) for name in ("a", "b"))
    assert [file.read_bytes() for file in a] == [file.read_bytes() for file in b]
    for suffix in (".npz", ".hdf5"):
        if suffix == ".hdf5":
            pytest.importorskip("h5py")
        for name in ("a", "b"):
            save(tmp_path / (name + suffix), made("tabular"))
        a, b = ((tmp_path / (name + suffix)).read_bytes() for name in ("a", "b"))
        assert a == b


@pytest.mark.parametrize(
    ("first", "second", "joint"),
    [
        ("i1", "f8", "f8"),
        ("f4", "f8", "f4"),
        ("f4", "i8", "f4"),
        ("u1", "i8", "i8"),
        ("u8", "i8", "i8"),
        ("i8", "u1", "i8"),
    ],
)
@pytest.mark.parametrize("suffix", [".npz", "/", ".hdf5"])
def test_parts_of_other_types_lose_nothing_but_digits(tmp_path, first, second, joint, suffix):
    if suffix == ".hdf5":
        pytest.importorskip("h5py")
    parts = []
    for dtype, value in ((first, 1), (second, 100.5 if second == "f8" else 100)):
        arrays = tabular_arrays(20)
        arrays["rewards"] = np.full(20, value, dtype)
        parts.append(Batch(**arrays))
    file = offline.write(tmp_path, f"any{suffix}", parts, Discrete(6), Discrete(3), {})
    found = load(file).rewards
    assert found.dtype == joint
    np.testing.assert_array_equal(found, np.repeat([1.0, parts[1].rewards[0]], 20))


# ---------------------------------------------------------------- streaming


@pytest.mark.parametrize("way", list(WRITERS))
def test_streams_say_what_memory_says(tmp_path, way, monkeypatch):
    write, suffix = WRITERS[way]
    arrays = continuous_arrays()
    write(tmp_path / f"data{suffix}", arrays)
    monkeypatch.setattr(on_disk, "CHUNK", 100)  # bytes: a few rows
    monkeypatch.setattr(offline.files, "CHUNK", 100)
    monkeypatch.setattr(offline.hdf5, "CHUNK", 100)
    monkeypatch.setattr(offline.checks, "CHUNK", 100)
    data = load(tmp_path / f"data{suffix}")
    indices = np.array([3, 149, 3, 0])
    for key, x in data.sample(indices)._asdict().items():
        np.testing.assert_array_equal(x, arrays[key][indices])
        assert type(x) is np.ndarray
    pieces = list(data.chunks(64))
    assert [len(piece.rewards) for piece in pieces] == [64, 64, 22]
    for key, parts in zip(KEYS, zip(*pieces, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(parts), arrays[key])


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("none.npz", "data must be an existing file, got"),
        ("none.hdf5", "data must be an existing file, got"),
        ("data.csv", "data must be a Minari id .NAME-v0. or its folder, a folder of .npy"),
        ("data", "data must be a Minari id"),
    ],
)
def test_names_that_mean_nothing(tmp_path, name, why):
    with pytest.raises(InputError, match=why):
        load(tmp_path / name)


@pytest.mark.parametrize("way", list(WRITERS))
def test_a_file_cut_short_anywhere(tmp_path, way):
    write, suffix = WRITERS[way]
    path = file = tmp_path / f"cut{suffix}"
    write(path, tabular_arrays())
    if way == "folder":
        file = path / "observations.npy"
    content = file.read_bytes()
    for length in [0, 1, 100, *range(500, len(content), len(content) // 25), len(content) - 1]:
        file.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"must be a whole .* files?, got a broken") as error:
            load(path)
        assert "\n" not in str(error.value)


def test_files_of_something_else(tmp_path):
    for name in ("a.npz", "a.hdf5"):
        if name == "a.hdf5":
            pytest.importorskip("h5py")
        (tmp_path / name).write_text("observations,actions\n1,2\n")
        with pytest.raises(InputError, match=f"{name}: data must be a whole"):
            load(tmp_path / name)
    arrays = tabular_arrays() | {"rewards": np.array([{}] * 200)}
    np.savez(tmp_path / "pickled.npz", **arrays)
    write_folder(tmp_path / "pickled", arrays)
    for name in ("pickled.npz", "pickled"):
        with pytest.raises(InputError, match="rewards must be numbers, got Python objects"):
            load(tmp_path / name)


@pytest.mark.parametrize("name", ["rewards.npy", "metadata.json"])
def test_a_folder_leads_nowhere_else(tmp_path, name):
    save(f"{tmp_path}/data/", small())
    file = (tmp_path / "data" / name).rename(tmp_path / name)
    assert load(tmp_path / "data").guessed if name == "metadata.json" else True
    (tmp_path / "data" / name).symlink_to(file)
    with pytest.raises(InputError, match=f"{file.stem} must be a file in the folder .* a link"):
        load(tmp_path / "data")
    (tmp_path / "data" / name).unlink()
    os.mkfifo(tmp_path / "data" / name)
    with pytest.raises(InputError, match=f"{file.stem} must be a file in the folder"):
        load(tmp_path / "data")


def test_a_folder_that_claims_what_it_has_not(tmp_path):
    write_folder(tmp_path / "data", small_arrays())
    for shape in ((2**50,), (2**31, 2**31), (-1,), (SMALL + 1,)):
        with (tmp_path / "data" / "rewards.npy").open("wb") as file:
            header = {"shape": shape, "fortran_order": False, "descr": "<f8"}
            np.lib.format.write_array_header_1_0(file, header)
            file.write(bytes(8 * SMALL))
        with pytest.raises(InputError, match=r"data must be a whole folder of NPY files"):
            load(tmp_path / "data")


def test_a_missing_package_names_its_cure(tmp_path, monkeypatch):
    (tmp_path / "data.hdf5").touch()
    for package, source in (("h5py", tmp_path / "data.hdf5"), ("minari", "any-v0")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(InputError, match=r"pip install 'rlentropy\[data\]'"):
            load(source)
    np.savez(tmp_path / "data.npz", **tabular_arrays())
    assert len(load(tmp_path / "data.npz")) == 200


def test_what_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="data must be on a writable disk"):
        save(tmp_path / "file" / "data.npz", made("tabular"))
    save(tmp_path / "data.npz", made("tabular"))
    before = (tmp_path / "data.npz").read_bytes()
    with pytest.raises(InputError, match="data must be a new path or Minari id"):
        save(tmp_path / "data.npz", made("continuous"))
    assert (tmp_path / "data.npz").read_bytes() == before


def test_metadata_that_json_cannot_hold(tmp_path):
    loop: list = []
    loop.append(loop)
    for value in (np.zeros(2), {1, 2}, loop):
        data = Transitions.from_arrays(**tabular_arrays(), metadata={"a": value})
        with pytest.raises(InputError, match="metadata must be what JSON can hold"):
            save(tmp_path / "data.npz", data)
        assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ("x" * 2**24, r"metadata must be at most \d+ bytes"),  # of four bytes a letter
        ({"shape": [10**5, 10**6]}, "a space of at most"),
        ({"shape": [2**33, 2**33]}, "a space of at most"),
        ({"shape": [-1]}, "got one of the shape"),
        ({"shape": "3"}, "got one of the shape"),
        ({"type": "Discrete", "n": 10**30, "start": 0}, "metadata must describe a space, got"),
    ],
)
def test_metadata_that_would_take_memory(tmp_path, metadata, why):
    if isinstance(metadata, dict):
        box = {"type": "Box", "low": 0, "high": 1, "dtype": "float32"}
        metadata = json.dumps({"observation_space": box | metadata})
    np.savez_compressed(tmp_path / "data.npz", **small_arrays(), metadata=np.array(metadata))
    with pytest.raises(InputError, match=why):
        load(tmp_path / "data.npz")
    write_folder(tmp_path / "data", small_arrays())
    metadata += " " * (2**26 if metadata[0] == "x" else 0)
    (tmp_path / "data" / "metadata.json").write_text(metadata)
    with pytest.raises(InputError, match=why):
        load(tmp_path / "data")


def test_deep_metadata_are_no_metadata(tmp_path):
    np.savez(tmp_path / "data.npz", **small_arrays(), metadata=np.array("[" * 100_000))
    assert load(tmp_path / "data.npz").metadata == {}


# ---------------------------------------------------------------- checksums


def test_data_without_checksums_are_read_as_they_are(tmp_path):
    h5py = pytest.importorskip("h5py")
    with hdf5_without(tmp_path / "data.hdf5", None) as file:
        file["rewards"][3] = 7.0
    assert load(tmp_path / "data.hdf5").rewards[3] == 7.0
    save(tmp_path / "ours.hdf5", small())
    with h5py.File(tmp_path / "ours.hdf5", "a") as file:
        del file["actions"].attrs["crc32"]  # all have one, or none
    with pytest.raises(InputError, match=r"actions must have the checksum .*, none, got"):
        load(tmp_path / "ours.hdf5")


def test_a_folder_is_compared_with_its_checksums(tmp_path):
    save(f"{tmp_path}/ours/", small())
    (tmp_path / "ours" / "rewards.npy").unlink()
    np.save(tmp_path / "ours" / "rewards.npy", small_arrays()["rewards"] + 1.0)
    with pytest.raises(InputError, match=r"rewards must have the checksum stored with it"):
        load(tmp_path / "ours")
    (tmp_path / "ours" / "metadata.json").unlink()
    assert load(tmp_path / "ours").guessed


@pytest.mark.parametrize(
    "kind", ["data.hdf5", "data.npz", "data/rewards.npy", "data/metadata.json", "flips-v0"]
)
def test_no_flipped_bit_makes_other_data(tmp_path, monkeypatch, kind):
    path = source = tmp_path / kind
    if kind.startswith("data/"):
        source = f"{tmp_path}/data/"
    if kind == "flips-v0":
        pytest.importorskip("minari")
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
        path, source = tmp_path / kind / "data/main_data.hdf5", kind
    wanted = small()
    save(source, wanted)
    content, refused = path.read_bytes(), 0
    rng = np.random.default_rng(0)
    for _ in range(100):
        flipped = bytearray(content)
        flipped[rng.integers(len(content))] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        try:
            assert equal(load(source), wanted)
        except InputError:
            refused += 1
    assert refused > 0


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "data must be a Minari id, a folder of .npy files, or a path ending in .npz or .hdf5"),
        ("a" * 300 + ".npz", "data must be an existing file"),
        ("a\0b.npz", "data must be an existing file"),
        ("../other-v0", "data must be a Minari id"),
        ("/tmp/../other-v0", "data must be a Minari id"),
        ("a/../../b-v0", "data must be a Minari id"),
    ],
)
def test_names_that_lead_nowhere(name, why):
    with pytest.raises(InputError, match=why):
        load(name)


def test_a_device_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(InputError, match="data must be an existing file"):
        load(tmp_path / "pipe.npz")


def test_what_a_killed_save_left_is_no_hindrance(tmp_path):
    (tmp_path / ".tmp-data.npz").mkdir()
    (tmp_path / ".tmp-data.npz" / "data.npz").write_text("half")
    save(tmp_path / "data.npz", small())
    assert os.listdir(tmp_path) == ["data.npz"]
    assert equal(load(tmp_path / "data.npz"), small())
