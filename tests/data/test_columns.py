"""Columns in memory and on disk."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
from examples.datasets import SMALL as N
from examples.datasets import small_arrays, tabular_arrays

from rlentropy.data import Batch, Transitions, columns, load, save
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


def test_a_folder_for_temporary_files_in_memory(tmp_path, monkeypatch):
    """Needs room in memory, too."""
    mounts = "disk / ext4 rw 0 0\ntmpfs /tmp/fast tmpfs rw 0 0\ndisk /tmp/fast/slow xfs rw 0 0\nx\n"
    monkeypatch.setattr(columns.Path, "read_text", lambda path: mounts)
    found = [columns.in_memory(at) for at in ("/tmp", "/tmp/fast", "/tmp/fast/a", "/tmp/fast/slow")]
    assert found == [False, True, True, False]
    monkeypatch.setattr(columns, "in_memory", lambda folder: True)
    monkeypatch.setattr(columns, "available_memory", lambda: 1000)
    np.savez_compressed(tmp_path / "packed.npz", **small_arrays())
    with pytest.raises(InputError, match=r"when they are unpacked, got .* for 0.000954 MiB"):
        load(tmp_path / "packed.npz")


def test_what_is_unpacked_is_told_where_it_is_much(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "packed.npz", **small_arrays())
    told = []
    load(tmp_path / "packed.npz", told.append)
    assert not told
    monkeypatch.setattr(columns, "TOLD", 1000)
    load(tmp_path / "packed.npz", told.append)
    (line,) = told
    assert line.startswith("unpacking the data to ")
    assert line.endswith(": 0.00203 MiB")


# ---------------------------------------------------------------- rows at random


def arranged(way, x, path):
    """An array on the disk, in one of the ways that columns are."""
    if way == "unnamed":
        return columns.unpacked([x.tobytes()], x.dtype, x.shape, "C")
    if way == "others":  # what `numpy.load` maps has no source: it stays mapped
        np.save(f"{path}.npy", x)
        return np.load(f"{path}.npy", mmap_mode="r")
    order = "F" if way == "fortran" else "C"
    path.write_bytes(b"#" * 72 + x.tobytes(order) + b"#" * 9)
    with path.open("rb") as file:
        return columns.mapped(file, x.dtype, x.shape, order, 72)


@pytest.mark.parametrize("way", ["offset", "fortran", "unnamed", "others", "memory"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "i2", "u1"])
@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3), (50, 2, 4), (1, 3), (50, 0)])
def test_rows_are_those_of_the_array(tmp_path, way, dtype, shape):
    x = np.random.default_rng(0).integers(0, 100, size=shape).astype(dtype)
    column = x if way == "memory" else arranged(way, x, tmp_path / "x")
    views = [(column, x), (column[3:40], x[3:40]), (column[5:][::2], x[5:][::2])]
    views += [(column[::-1], x[::-1])]
    if x.ndim == 2 and x.shape[1]:
        views.append((column[:, 0], x[:, 0]))
    if dtype == "u1":
        views.append((column.view(bool), x.view(bool)))
    rng = np.random.default_rng(1)
    for memory in (0, 10**9):
        reading = on_disk.Reading([column], memory)
        for view, wanted in views:
            rows = rng.integers(len(wanted), size=20) if len(wanted) else np.zeros(0, np.int64)
            for k in (rows, rows[:0], np.sort(rows)):
                found = reading.rows(view, k)
                assert found.dtype == x.view(wanted.dtype).dtype
                np.testing.assert_array_equal(found, wanted[k])


def test_the_smallest_columns_stay_mapped(tmp_path):
    many = Batch(*(np.tile(x, 10) for x in small_arrays().values()))  # 400 of 8 and of 1 bytes
    save(f"{tmp_path}/data/", Transitions.from_arrays(*many))
    data = load(tmp_path / "data")
    read = {memory: len(on_disk.Reading(data.columns, memory).files) for memory in (0, 500, 3999)}
    assert read == {0: 6, 500: 5, 3999: 4}
    assert not on_disk.Reading(data.columns, 4 * 3200 + 800).files


def test_a_file_that_becomes_shorter(tmp_path):
    column = arranged("offset", np.arange(10_000.0), tmp_path / "x")
    reading = on_disk.Reading([column], 0)
    os.truncate(tmp_path / "x", 4000)
    with pytest.raises(InputError, match="data must stay as they are while they are read, got no"):
        reading.rows(column, np.array([3, 9999]))


def test_what_was_changed_in_memory_alone_stays(tmp_path):
    """A copy-on-write map differs from its file, and is never given back to it."""
    np.save(tmp_path / "x.npy", np.zeros(10_000))
    x = np.load(tmp_path / "x.npy", mmap_mode="c")
    x[:] = 1.0
    for piece in on_disk.slices(x):
        assert piece.all()
    on_disk.release(x)
    assert x.all()
    assert on_disk.converted(x, np.float32).all()


def test_extremes(tmp_path, monkeypatch):
    monkeypatch.setattr(on_disk, "CHUNK", 100)
    x = np.random.default_rng(0).normal(size=1000)
    assert on_disk.extremes(arranged("offset", x, tmp_path / "x")) == (x.min(), x.max())
