"""HDF5 columns that lead out of their file, or that need a plugin to be read."""

import numpy as np
import pytest
from examples.datasets import SMALL as N

h5py = pytest.importorskip("h5py")


def write_elsewhere(folder):
    """Another HDF5 file, and one of bytes."""
    with h5py.File(folder / "other.hdf5", "w") as file:
        file["secret"] = np.arange(float(N))
        file.create_group("group")["secret"] = np.arange(float(N))
    (folder / "secret.bin").write_bytes(bytes(range(200)))


def external_bytes(file, key, folder):
    file.create_dataset(key, (N,), "u1", external=[(folder / "secret.bin", 0, N)])


def external_link(file, key, folder):
    file[key] = h5py.ExternalLink(folder / "other.hdf5", "/secret")


def virtual(file, key, folder):
    layout = h5py.VirtualLayout((N,), "f8")
    layout[:] = h5py.VirtualSource(folder / "other.hdf5", "secret", shape=(N,))
    file.create_virtual_dataset(key, layout)


def plugin(file, key, folder):
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_chunk((N,))
    how.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (1,))
    space = h5py.h5s.create_simple((N,))
    h5py.h5d.create(file.id, key.encode(), h5py.h5t.IEEE_F64LE, space, how)
