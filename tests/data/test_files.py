"""NPZ files: what is written is a plain one, and no damaged one is read."""

import json
import zipfile

import numpy as np
import pytest
from examples.datasets import (
    KEYS,
    WRITERS,
    continuous_arrays,
    made,
    same,
    small_arrays,
    tabular_arrays,
    write_compressed_npz,
    write_hdf5,
    write_npz,
)

from rlentropy.data import Transitions, load, save
from rlentropy.errors import InputError

# ---------------------------------------------------------------- round trips


def test_arrays_in_fortran_order_and_flags_of_other_types_are_read(tmp_path):
    arrays = continuous_arrays()
    wanted = Transitions.from_arrays(**arrays)
    odd = arrays | {k: np.asfortranarray(arrays[k]) for k in ("observations", "actions")}
    odd |= {k: odd[k].astype(t) for k, t in (("terminations", float), ("truncations", np.uint8))}
    for write in (write_npz, write_compressed_npz):
        write(tmp_path / "data.npz", odd)
        same(load(tmp_path / "data.npz"), wanted)


def test_a_saved_npz_is_a_plain_npz(tmp_path):
    data = made("continuous")
    save(tmp_path / "data.npz", data)
    with np.load(tmp_path / "data.npz", allow_pickle=False) as file:
        assert set(file.files) == {*KEYS, "metadata"}
        np.testing.assert_array_equal(file["observations"], data.observations)
        assert json.loads(str(file["metadata"]))["observation_space"]["type"] == "Box"


def test_foreign_metadata_are_ignored(tmp_path):
    np.savez(tmp_path / "data.npz", **tabular_arrays(), metadata=np.arange(3))
    assert load(tmp_path / "data.npz").metadata == {}
    h5py = pytest.importorskip("h5py")
    write_hdf5(tmp_path / "data.hdf5", tabular_arrays())
    with h5py.File(tmp_path / "data.hdf5", "a") as file:
        file.create_group("metadata")["algorithm"] = "SAC"
    assert load(tmp_path / "data.hdf5").metadata == {}


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("way", ["npz", "hdf5"])
@pytest.mark.parametrize("key", KEYS)
def test_a_missing_key(tmp_path, way, key):
    write, suffix = WRITERS[way]
    arrays = tabular_arrays()
    del arrays[key]
    write(tmp_path / f"data{suffix}", arrays)
    with pytest.raises(InputError, match=f"data{suffix}: data must have the key {key}") as refused:
        load(tmp_path / f"data{suffix}")
    assert ("or timeouts" in str(refused.value)) == (key == "truncations")


def test_a_flipped_bit_in_an_npz(tmp_path):
    """The zip's checksums see it, wherever it is."""
    save(tmp_path / "whole.npz", made("tabular"))
    content = bytearray((tmp_path / "whole.npz").read_bytes())
    with zipfile.ZipFile(tmp_path / "whole.npz") as archive:
        where = archive.getinfo("rewards.npy").header_offset + 700
    content[where] ^= 1
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"bad.npz: data must be a whole NPZ file, .*CRC"):
        load(tmp_path / "bad.npz")


# ---------------------------------------------------------------- sizes


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


# ---------------------------------------------------------------- names


def test_near_misses_of_keys_are_named(tmp_path):
    others = small_arrays()
    others["observation"] = others.pop("observations")
    np.savez(tmp_path / "data.npz", **others)
    with pytest.raises(InputError, match=r"key observations, got .*; is it observation\?"):
        load(tmp_path / "data.npz")
