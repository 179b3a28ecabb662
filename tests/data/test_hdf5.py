"""HDF5 files of strangers: nothing outside the file is read, no size believed, no bit lost."""

import numpy as np
import pytest
from examples.datasets import KEYS, hdf5_without, small, small_arrays
from examples.datasets import SMALL as N

from rlentropy.data import load, save
from rlentropy.errors import InputError

h5py = pytest.importorskip("h5py")


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


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("chunks", [None, (1024,)])
def test_an_hdf5_that_claims_a_trillion_rows(tmp_path, chunks):
    with h5py.File(tmp_path / "data.hdf5", "w") as file:
        for key, x in small_arrays().items():
            file.create_dataset(key, (10**12,), x.dtype, chunks=chunks)
    with pytest.raises(InputError, match=r"must fit in memory and .* when they are unpacked, got"):
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
