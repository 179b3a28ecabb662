"""Data files of strangers: nothing outside the file is read, no size believed, no bit lost."""

import json
import os
import zipfile

import numpy as np
import pytest

from rlentropy import data as offline
from rlentropy.data import Batch, Transitions, columns, load, save
from rlentropy.errors import InputError

h5py = pytest.importorskip("h5py")

KEYS = Batch._fields
N = 40


def arrays():
    s = np.arange(N) % 5
    last = np.arange(N) % 10 == 9
    column = (s, s % 2, np.sin(np.arange(N)), np.roll(s, -1), last & (s == 3), last)
    return dict(zip(KEYS, column, strict=True))


def made():
    spaces = {
        "observation_space": offline.space_from_json({"type": "Discrete", "n": 7, "start": 0})
    }
    return Transitions.from_arrays(**arrays(), **spaces, metadata={"who": "me"})


def hdf5_without(path, key):
    """An open file with all columns but one."""
    file = h5py.File(path, "w")
    for name, x in arrays().items():
        if name != key:
            file[name] = x
    return file


def equal(found, wanted):
    spaces = (found.observation_space, found.action_space)
    return spaces == (wanted.observation_space, wanted.action_space) and all(
        x.dtype == y.dtype and np.array_equal(x, y)
        for x, y in zip(found.columns, wanted.columns, strict=True)
    )


# ---------------------------------------------------------------- outside the file


@pytest.fixture
def elsewhere(tmp_path):
    """Another HDF5 file, and one of bytes."""
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["secret"] = np.arange(float(N))
        file.create_group("group")["secret"] = np.arange(float(N))
    (tmp_path / "secret.bin").write_bytes(bytes(range(200)))
    return tmp_path


def external_bytes(file, key, folder):
    file.create_dataset(key, (N,), "u1", external=[(folder / "secret.bin", 0, N)])


def external_link(file, key, folder):
    file[key] = h5py.ExternalLink(folder / "other.hdf5", "/secret")


def soft_link_to_external(file, key, folder):
    file["out"] = h5py.ExternalLink(folder / "other.hdf5", "/group")
    file[key] = h5py.SoftLink("/out/secret")


def virtual(file, key, folder):
    layout = h5py.VirtualLayout((N,), "f8")
    layout[:] = h5py.VirtualSource(folder / "other.hdf5", "secret", shape=(N,))
    file.create_virtual_dataset(key, layout)


def reference(file, key, folder):
    data = file.create_dataset(key, (N,), h5py.ref_dtype)
    data[:] = [file["actions"].ref] * N


def plugin(file, key, folder):
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_chunk((N,))
    how.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (1,))
    space = h5py.h5s.create_simple((N,))
    h5py.h5d.create(file.id, key.encode(), h5py.h5t.IEEE_F64LE, space, how)


@pytest.mark.parametrize(
    ("trick", "why"),
    [
        (external_bytes, "rewards must lie in the file itself, got one whose bytes are elsewhere"),
        (external_link, "rewards must lie in the file itself, got a link to .*other.hdf5"),
        (soft_link_to_external, "rewards must lie in the file itself, got a link to /out/secret"),
        (virtual, "rewards must lie in the file itself, got one whose bytes are elsewhere"),
        (reference, "rewards must be numbers, got"),
        (plugin, "rewards must be compressed by HDF5's own filters .*, got 32015"),
    ],
)
def test_nothing_outside_an_hdf5_is_read(elsewhere, trick, why):
    with hdf5_without(elsewhere / "data.hdf5", "rewards") as file:
        trick(file, "rewards", elsewhere)
    with pytest.raises(InputError, match=why):
        load(elsewhere / "data.hdf5")


def test_metadata_are_no_link_either(elsewhere):
    with hdf5_without(elsewhere / "data.hdf5", None) as file:
        external_link(file, "metadata", elsewhere)
    with pytest.raises(InputError, match="metadata must lie in the file itself"):
        load(elsewhere / "data.hdf5")


@pytest.fixture
def minari(tmp_path, monkeypatch):
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    save("test-v0", made())
    return tmp_path / "minari/test-v0/data"


@pytest.mark.parametrize("trick", [external_bytes, external_link, virtual, plugin])
@pytest.mark.parametrize("place", ["rewards", "infos"])
def test_nothing_outside_a_minari_dataset_is_read(minari, elsewhere, trick, place):
    with h5py.File(minari / "main_data.hdf5", "a") as file:
        group = file["episode_1"]
        if place == "infos":  # which we don't use, but Minari reads
            group = group.create_group("infos")
        else:
            del group["rewards"]
        trick(group, "rewards", elsewhere)
    with pytest.raises(InputError, match="test-v0: rewards must"):
        load("test-v0")


def test_minari_does_not_make_the_environment_that_data_name(minari, tmp_path):
    path = minari / "metadata.json"
    metadata = json.loads(path.read_text())
    spec = {"id": "Any-v0", "entry_point": "os:mkdir", "additional_wrappers": []}
    metadata["env_spec"] = json.dumps(spec | {"kwargs": {"path": str(tmp_path / "ran")}})
    for name in ("observation_space", "action_space"):
        path.write_text(json.dumps({k: v for k, v in metadata.items() if k != name}))
        with pytest.raises(InputError, match=f"metadata.json must describe the {name}, got None"):
            load("test-v0")
    assert not (tmp_path / "ran").exists()


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("chunks", [None, (1024,)])
def test_an_hdf5_that_claims_a_trillion_rows(tmp_path, chunks):
    with h5py.File(tmp_path / "data.hdf5", "w") as file:
        for key, x in arrays().items():
            file.create_dataset(key, (10**12,), x.dtype, chunks=chunks)
    with pytest.raises(InputError, match=r"must fit in memory and .* when they are unpacked, got"):
        load(tmp_path / "data.hdf5")


def test_a_minari_dataset_that_claims_many(minari):
    with h5py.File(minari / "main_data.hdf5", "a") as file:
        del file["episode_1/rewards"]
        file.create_dataset("episode_1/rewards", (10**12,), "f8", chunks=(100,))
    with pytest.raises(InputError, match=r"must fit in .* and each episode in memory, got"):
        load("test-v0")
    metadata = json.loads((minari / "metadata.json").read_text())
    metadata["total_episodes"] = 10**12
    (minari / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(InputError, match="data must hold 1000000000000 episodes, got 4"):
        load("test-v0")


def test_compressed_data_must_have_room(tmp_path, monkeypatch):
    many = {key: np.tile(x, 5000) for key, x in arrays().items()}
    np.savez_compressed(tmp_path / "packed.npz", **many)
    np.savez(tmp_path / "plain.npz", **many)
    size = sum(x.nbytes for x in many.values())
    monkeypatch.setattr(columns, "available_memory", lambda: size - 1000)
    with pytest.raises(InputError, match=r"when they are unpacked, got 6.49 MiB for 6.48 MiB"):
        load(tmp_path / "packed.npz")
    assert len(load(tmp_path / "plain.npz")) == 5000 * N


def npz_of_claims(path, shape):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key in KEYS:
            with archive.open(f"{key}.npy", "w") as member:
                header = {"shape": shape, "fortran_order": False, "descr": "<f8"}
                np.lib.format.write_array_header_1_0(member, header)
                member.write(bytes(16))


@pytest.mark.parametrize("shape", [(10**12,), (2**32, 2**32), (-1, -2), (2**62, 4)])
def test_an_npz_that_lies_about_its_shape(tmp_path, shape):
    npz_of_claims(tmp_path / "data.npz", shape)
    with pytest.raises(InputError, match="data must be a whole NPZ file, got a broken one"):
        load(tmp_path / "data.npz")


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
    np.savez_compressed(tmp_path / "data.npz", **arrays(), metadata=np.array(metadata))
    with pytest.raises(InputError, match=why):
        load(tmp_path / "data.npz")


def test_deep_metadata_are_no_metadata(tmp_path):
    np.savez(tmp_path / "data.npz", **arrays(), metadata=np.array("[" * 100_000))
    assert load(tmp_path / "data.npz").metadata == {}


# ---------------------------------------------------------------- checksums


@pytest.mark.parametrize("key", [*KEYS, "metadata"])
def test_each_column_of_an_hdf5_has_its_checksum(tmp_path, key):
    path = tmp_path / "data.hdf5"
    save(path, made())
    with h5py.File(path) as file:
        where = file[key].id.get_offset()
    content = bytearray(path.read_bytes())
    if key == "metadata":
        where = content.index(b'"Discrete"')
    content[where + 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"data.hdf5: {key} must have the checksum stored with"):
        load(path)


def test_data_without_checksums_are_read_as_they_are(tmp_path):
    with hdf5_without(tmp_path / "data.hdf5", None) as file:
        file["rewards"][3] = 7.0
    assert load(tmp_path / "data.hdf5").rewards[3] == 7.0
    save(tmp_path / "ours.hdf5", made())
    with h5py.File(tmp_path / "ours.hdf5", "a") as file:
        del file["actions"].attrs["crc32"]  # all have one, or none
    with pytest.raises(InputError, match=r"actions must have the checksum .*, none, got"):
        load(tmp_path / "ours.hdf5")


@pytest.mark.parametrize("kind", ["data.hdf5", "data.npz", "flips-v0"])
def test_no_flipped_bit_makes_other_data(tmp_path, monkeypatch, kind):
    path = source = tmp_path / kind
    if kind == "flips-v0":
        pytest.importorskip("minari")
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
        path, source = tmp_path / kind / "data/main_data.hdf5", kind
    wanted = made()
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


def test_minari_checksums_go_on_where_episodes_are_added(tmp_path, minari):
    root, data = tmp_path / "minari", made()
    spaces = (data.observation_space, data.action_space)
    offline.write(root, "test-v0", [data.columns], *spaces, {})
    assert len(load("test-v0")) == 2 * N
    with h5py.File(minari / "main_data.hdf5", "a") as file:
        file["episode_6/rewards"][2] += 1.0
    with pytest.raises(InputError, match="rewards must have the checksum stored with it"):
        load("test-v0")


def test_minari_data_that_others_have_added_to(minari):
    theirs = pytest.importorskip("minari").load_dataset("test-v0")
    episode = next(iter(theirs))
    buffer = pytest.importorskip("minari.data_collector").EpisodeBuffer
    names = ("observations", "actions", "rewards", "terminations", "truncations")
    theirs.update_dataset_from_buffer([buffer(**{k: getattr(episode, k) for k in names})])
    assert len(load("test-v0")) == N + 10  # the first N as they were
    data = made()
    spaces = (data.observation_space, data.action_space)
    offline.write(minari.parents[1], "test-v0", [data.columns], *spaces, {})
    assert len(load("test-v0")) == 2 * N + 10


def test_minari_data_are_not_added_to_in_types_that_lose(minari):
    data = made()
    spaces = (data.observation_space, data.action_space)
    part = data.columns._replace(observations=data.observations * 1.0)
    with pytest.raises(InputError, match="observations must be of int64 as in the data that are"):
        offline.write(minari.parents[1], "test-v0", [part], *spaces, {})
    assert len(load("test-v0")) == N


# ---------------------------------------------------------------- types that are not numpy's


def test_hdf5_types_are_read_as_hdf5_means_them(tmp_path):
    odd = h5py.h5t.IEEE_F64LE.copy()
    odd.set_ebias(1022)  # the same bytes are half as large
    with hdf5_without(tmp_path / "data.hdf5", "rewards") as file:
        data = h5py.h5d.create(file.id, b"rewards", odd, h5py.h5s.create_simple((N,)))
        h5py.Dataset(data)[:] = np.arange(N)
    np.testing.assert_array_equal(load(tmp_path / "data.hdf5").rewards, np.arange(N))


def test_flags_of_other_bytes_than_0_and_1(tmp_path):
    with hdf5_without(tmp_path / "data.hdf5", "terminations") as file:
        file["terminations"] = np.full(N, 2, np.uint8).view(bool)
    with pytest.raises(InputError, match="terminations must be 0 or 1, got 2 at transition 0"):
        load(tmp_path / "data.hdf5")


# ---------------------------------------------------------------- names


def test_near_misses_of_keys_are_named(tmp_path):
    others = arrays()
    others["observation"] = others.pop("observations")
    np.savez(tmp_path / "data.npz", **others)
    with pytest.raises(InputError, match=r"key observations, got .*; is it observation\?"):
        load(tmp_path / "data.npz")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "data must be a Minari id, or a path ending in .npz or .hdf5, got none"),
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
    save(tmp_path / "data.npz", made())
    assert os.listdir(tmp_path) == ["data.npz"]
    assert equal(load(tmp_path / "data.npz"), made())
