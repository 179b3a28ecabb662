"""HDF5 files of strangers: nothing outside the file is read, no size believed, no bit lost."""

import numpy as np
import pytest
from examples.datasets import KEYS, hdf5_without, small, small_arrays
from examples.datasets import SMALL as N
from examples.hdf5 import external_bytes, external_link, plugin, virtual, write_elsewhere

from rlentropy.data import load, save
from rlentropy.errors import InputError

h5py = pytest.importorskip("h5py")


# ---------------------------------------------------------------- outside the file


def soft_link_to_external(file, key, folder):
    file["out"] = h5py.ExternalLink(folder / "other.hdf5", "/group")
    file[key] = h5py.SoftLink("/out/secret")


def reference(file, key, folder):
    data = file.create_dataset(key, (N,), h5py.ref_dtype)
    data[:] = [file["actions"].ref] * N


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
def test_nothing_outside_an_hdf5_is_read(tmp_path, trick, why):
    write_elsewhere(tmp_path)
    with hdf5_without(tmp_path / "data.hdf5", "rewards") as file:
        trick(file, "rewards", tmp_path)
    with pytest.raises(InputError, match=why):
        load(tmp_path / "data.hdf5")


def test_metadata_are_no_link_either(tmp_path):
    write_elsewhere(tmp_path)
    with hdf5_without(tmp_path / "data.hdf5", None) as file:
        external_link(file, "metadata", tmp_path)
    with pytest.raises(InputError, match="metadata must lie in the file itself"):
        load(tmp_path / "data.hdf5")


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("chunks", [None, (1024,)])
def test_an_hdf5_that_claims_a_trillion_rows(tmp_path, chunks):
    with h5py.File(tmp_path / "data.hdf5", "w") as file:
        for key, x in small_arrays().items():
            file.create_dataset(key, (10**12,), x.dtype, chunks=chunks)
    with pytest.raises(InputError, match=r"must fit in .* when they are unpacked, got"):
        load(tmp_path / "data.hdf5")


# ---------------------------------------------------------------- checksums


@pytest.mark.parametrize("key", [*KEYS, "metadata"])
def test_each_column_of_an_hdf5_has_its_checksum(tmp_path, key):
    path = tmp_path / "data.hdf5"
    save(path, small())
    with h5py.File(path) as file:
        where = file[key].id.get_offset()
    content = bytearray(path.read_bytes())
    if key == "metadata":
        where = content.index(b'"Discrete"')
    content[where + 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"data.hdf5: {key} must have the checksum stored with"):
        load(path)


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
