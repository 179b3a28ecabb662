"""Datasets larger than their bound of memory: less is held, and the same is learnt."""

import subprocess
import sys

import numpy as np
import pytest
from examples.datasets import WRITERS, continuous_arrays

from rlentropy import cli
from rlentropy.data import columns, load
from rlentropy.errors import InputError
from rlentropy.log import Log
from rlentropy.offline import batches, rfzi
from rlentropy.offline.problem import held

SMALL = {"updates": 30, "hidden": (8,), "batch_size": 32, "action_grid": 3, "target_every": 3}

# Learns from so many rows of 526 bytes, and prints the most memory held, in kB.
LEARNS = """
import re, sys
from pathlib import Path
import numpy as np
from numpy.lib.format import open_memmap
from rlentropy.data import load
from rlentropy.log import Log
from rlentropy.offline import rfzi
folder, N = Path(sys.argv[1]), int(sys.argv[2])
folder.mkdir()
shapes = {"observations": (N, 64), "next_observations": (N, 64), "actions": (N,), "rewards": (N,)}
kinds = {"actions": "i8"}
for key, shape in shapes.items():
    open_memmap(folder / f"{key}.npy", "w+", kinds.get(key, "f4"), shape)
np.save(folder / "terminations.npy", np.zeros(N, bool))
np.save(folder / "truncations.npy", np.arange(N) % 100 == 99)
data = load(folder)
config = rfzi.Config(memory=16, updates=20, hidden=(8,), batch_size=1000)
rfzi.run(data, config, np.random.default_rng(0), Log(None))
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted as Linux counts it")
def test_memory_does_not_grow_with_the_data(tmp_path):
    peaks = {}
    for rows in (1000, 400_000):  # 0.5 and 210 MB
        argv = [sys.executable, "-c", LEARNS, str(tmp_path / str(rows)), str(rows)]
        told = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout
        peaks[rows] = int(told) / 1024
    assert peaks[400_000] - peaks[1000] < 80.0


def test_what_is_learnt_is_the_same_to_the_bit(tmp_path, monkeypatch):
    learnt = []
    for way, bound in (("folder", 0), ("folder", 10**9), ("npz", 0), ("chunked hdf5", 0)):
        write, suffix = WRITERS[way]
        path = tmp_path / f"data{bound}{suffix}"
        if not path.exists():
            write(path, continuous_arrays(600))
        monkeypatch.setattr(batches, "bound", lambda config, bound=bound: bound)
        data = load(path)
        result = rfzi.run(data, rfzi.Config(**SMALL), np.random.default_rng(0), Log(None))
        learnt.append(result.network["network"])
    for other in learnt[1:]:
        for x, y in zip(learnt[0], other, strict=True):
            assert (x == y).all()


def test_batches_of_a_user_are_the_same(tmp_path):
    WRITERS["folder"][0](tmp_path / "data", continuous_arrays(600))
    data = load(tmp_path / "data")
    rows = np.random.default_rng(3).integers(600, size=50)
    for memory in (None, 0):
        batch = next(data.batches(50, np.random.default_rng(3), memory))
        for found, wanted in zip(batch, data.sample(rows), strict=True):
            assert type(found) is np.ndarray
            np.testing.assert_array_equal(found, wanted)


def test_how_much_is_held_is_said_where_it_is_not_all(tmp_path):
    WRITERS["folder"][0](tmp_path / "data", continuous_arrays(60_000))
    data = load(tmp_path / "data")
    assert (
        held(data, rfzi.Config(memory=1)) == "2.4 MiB on disk, at most 1 MiB of it held (--memory)"
    )
    assert held(data, rfzi.Config(memory=3)) == ""


def test_the_console_says_what_is_unpacked_and_held(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(columns, "TOLD", 1000)
    WRITERS["compressed npz"][0](tmp_path / "data.npz", continuous_arrays(60_000))
    rfzi_on = ["rfzi", "--data", f"{tmp_path}/data.npz", "--out", f"{tmp_path}/run"]
    rfzi_on += ["--hidden", "4", "--batch-size", "8", "--action-grid", "3"]
    assert cli.main([*rfzi_on, "--memory", "1", "--updates", "2"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"unpacking the data to {columns.tempfile.gettempdir()}: 2.4 MiB\n")
    assert "data: 2.4 MiB on disk, at most 1 MiB of it held (--memory)\n" in said
    more = [*rfzi_on, "--resume", "--memory", "9", "--updates", "4"]  # of another machine, say
    assert cli.main(more) == 0
    assert "of it held" not in capsys.readouterr().out


def test_a_bound_is_a_number_of_mebibytes():
    with pytest.raises(InputError, match="memory must be >= 0, got -1"):
        rfzi.Config(memory=-1)
