"""Columns in memory and on disk."""

from types import SimpleNamespace

import numpy as np
import pytest
from examples.datasets import SMALL as N
from examples.datasets import small_arrays, tabular_arrays

from rlentropy.data import columns, load
from rlentropy.data import columns as on_disk
from rlentropy.errors import InputError, OutputError

# ---------------------------------------------------------------- refusals


def test_an_unpacking_disk_that_is_full(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "data.npz", **tabular_arrays())

    def full():
        return open("/dev/full", "wb")

    monkeypatch.setattr(on_disk.tempfile, "TemporaryFile", full)
    with pytest.raises(OutputError, match="TMPDIR"):
        load(tmp_path / "data.npz")


# ---------------------------------------------------------------- sizes


def test_compressed_data_must_have_room(tmp_path, monkeypatch):
    many = {key: np.tile(x, 5000) for key, x in small_arrays().items()}
    np.savez_compressed(tmp_path / "packed.npz", **many)
    np.savez(tmp_path / "plain.npz", **many)
    size = sum(x.nbytes for x in many.values())
    room = SimpleNamespace(free=size - 1000)
    monkeypatch.setattr(columns.shutil, "disk_usage", lambda folder: room)
    monkeypatch.setattr(columns, "in_memory", lambda folder: False)
    with pytest.raises(InputError, match=r"when they are unpacked, got 6.49 MiB for 6.48 MiB"):
        load(tmp_path / "packed.npz")
    assert len(load(tmp_path / "plain.npz")) == 5000 * N
