"""Datasets of every wrong kind, by the hundreds: they are read, or refused in one line.

python tests/data/test_fuzz.py 2000 sends so many through the command line. The k-th is made from
the seed k alone.
"""

import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from rlentropy import data as offline
from rlentropy.data import Batch, Transitions, load, save
from rlentropy.errors import InputError

KEYS = Batch._fields
TYPES = [
    "?",
    "i1",
    "u1",
    ">i2",
    "i4",
    "u8",
    "f2",
    "f4",
    ">f8",
    "g",
    "c8",
    "U3",
    "S2",
    "M8[s]",
    "V4",
]
NUMBERS = [np.nan, np.inf, -1.0, 0.5, 2.0, 1e39, 1e300, 2.0**31, 2.0**62, 2.0**63, -(2.0**63)]
NAMES = ["observation", "rewards ", "", "terminals", "timeouts", "metadata", "a/b", "../x", "Ω"]
SPACES = [
    {"type": "Discrete", "n": 9, "start": 0},
    {"type": "Discrete", "n": 9, "start": -3},
    {"type": "Discrete", "n": 10**14, "start": 0},
    {"type": "Discrete", "n": -1, "start": 0},
    {"type": "Box", "low": -1e9, "high": 1e9, "shape": [2], "dtype": "float32"},
    {"type": "Box", "low": 0, "high": 1, "shape": [10**7, 10**7], "dtype": "float32"},
    {"type": "Box", "low": None, "high": "x", "shape": [1.5], "dtype": "O"},
    {"type": "Box", "low": 0, "high": 1, "shape": [2], "dtype": "f8,f8"},
    {"type": "MultiDiscrete", "nvec": [3, 3], "start": [0, 0]},
    {"type": "MultiDiscrete", "nvec": [], "start": []},
    {"type": "MultiBinary", "n": 2},
    {"type": "MultiBinary", "n": -2},
    {"type": "Tuple"},
    [1, 2],
    "Discrete",
    None,
]


def plain(rng):
    """A dataset that is right: episodes of 5 steps, of states or of vectors."""
    N = 5 * int(rng.integers(1, 8))
    last = np.arange(N) % 5 == 4
    if rng.random() < 0.5:
        x = rng.integers(6, size=N + 1)
    else:
        x = rng.normal(size=(N + 1, 2)).astype(np.float32)
    actions = rng.integers(3, size=N)
    if rng.random() < 0.3:
        actions = rng.uniform(-1, 1, (N, 1))
    terminated = last & (rng.random(N) < 0.5)
    column = (x[:-1], actions, rng.normal(size=N), x[1:], terminated, last & ~terminated)
    return dict(zip(KEYS, column, strict=True))


# ---------------------------------------------------------------- mutations of arrays


def retyped(arrays, key, rng):
    with np.errstate(all="ignore"):
        arrays[key] = arrays[key].astype(TYPES[rng.integers(len(TYPES))])


def reshaped(arrays, key, rng):
    x = arrays[key]
    arrays[key] = [
        lambda: x[:, None],
        lambda: x[..., None, None],
        lambda: x[0],
        lambda: x[:-1],
        lambda: x[:0],
        lambda: np.repeat(x, 2, 0),
        lambda: x.reshape(-1),
        lambda: np.asfortranarray(np.stack([x, x], -1)),
        lambda: x.T,
        lambda: np.zeros((len(x), 0)),
        lambda: x[::-1],
    ][rng.integers(11)]()


def revalued(arrays, key, rng):
    x = arrays[key] = arrays[key].copy()
    value = NUMBERS[rng.integers(len(NUMBERS))]
    if rng.random() < 0.5 and x.dtype.kind not in "fc":
        x = arrays[key] = x.astype(np.float64)
    if x.size:
        with np.errstate(all="ignore"), contextlib.suppress(ValueError, OverflowError, TypeError):
            x.reshape(-1)[rng.integers(x.size)] = value


def renamed(arrays, key, rng):
    arrays[NAMES[rng.integers(len(NAMES))]] = arrays.pop(key)


def dropped(arrays, key, rng):
    del arrays[key]


def described(arrays, key, rng):
    content = {}
    for name in ("observation_space", "action_space"):
        if rng.random() < 0.7:
            content[name] = SPACES[rng.integers(len(SPACES))]
    text = json.dumps(content)
    arrays["metadata"] = np.array([text, text[:-3], "[" * 5000, "", "null"][rng.integers(5)])


MUTATIONS = [retyped, retyped, reshaped, reshaped, revalued, revalued, renamed, dropped, described]


# ---------------------------------------------------------------- files


def written(folder, arrays, rng):
    """A file of these arrays, in one of the ways that people write them."""
    way = int(rng.integers(5))
    if way == 4:
        path = folder / "data"
        path.mkdir()
        for name, x in arrays.items():
            with contextlib.suppress(OSError):  # a name that no file has
                np.save(path / f"{name}.npy", x)
        return path
    if way < 2:
        path = folder / "data.npz"
        (np.savez, np.savez_compressed)[way](path, **arrays)
        return path
    import h5py

    path = folder / "data.hdf5"
    with h5py.File(path, "w") as file:
        for name, x in arrays.items():
            if x.dtype.kind == "U":
                x = x.astype(h5py.string_dtype())
            how = {"compression": "gzip"} if way == 3 and x.ndim and x.size else {}
            with contextlib.suppress(TypeError, ValueError):  # types and names that HDF5 has not
                file.create_dataset(name, data=x, **how)
    return path


def damaged(path, rng):
    """Bytes flipped, cut, doubled, or another file's."""
    if path.is_dir():
        files = sorted(path.iterdir())
        path = files[int(rng.integers(len(files)))]
    content = bytearray(path.read_bytes())
    for _ in range(int(rng.integers(1, 4))):
        at, way = int(rng.integers(len(content))), int(rng.integers(5))
        if way < 3:
            content[at] ^= 1 << int(rng.integers(8))
        elif way == 3:
            del content[at : at + int(rng.integers(1, 50))]
        else:
            content[at:at] = content[: int(rng.integers(1, 50))]
        if not content:
            break
    path.write_bytes(content)


def made(folder, k):
    """The k-th dataset: a path in the folder."""
    rng = np.random.default_rng(k)
    arrays = plain(rng)
    if k % 3 == 0:  # one of ours, damaged
        path = f"{folder}/" + ("data.npz", "data.hdf5", "data/")[int(rng.integers(3))]
        save(path, Transitions.from_arrays(**arrays))
        damaged(Path(path), rng)
        return path
    for _ in range(int(rng.integers(1, 3))):
        keys = [key for key in KEYS if key in arrays]
        MUTATIONS[rng.integers(len(MUTATIONS))](arrays, keys[rng.integers(len(keys))], rng)
    path = written(folder, arrays, rng)
    if k % 3 == 1 and rng.random() < 0.3:
        damaged(path, rng)
    return path


def test_datasets_are_read_or_refused_in_one_line(tmp_path, monkeypatch):
    pytest.importorskip("h5py")
    pytest.importorskip("torch")
    from rlentropy.log import Log
    from rlentropy.offline import rfzi

    for module in (offline.transitions, offline.columns):
        monkeypatch.setattr(module, "available_memory", lambda: 2**27)
    options = {"updates": 2, "hidden": (4,), "batch_size": 8, "action_grid": 3}
    read = 0
    for k in range(300):
        folder = tmp_path / str(k)
        folder.mkdir()
        try:
            data = load(made(folder, k))
            rfzi.run(data, rfzi.Config(**options), np.random.default_rng(0), Log(None))
            read += 1
        except InputError as refused:
            message = str(refused)
            assert message
            assert "\n" not in message
    assert 30 < read < 200


def main(count):
    """Send datasets through the command line; prints how many were read and refused, and others."""
    from rlentropy import cli

    codes = {0: 0, 2: 0}
    with tempfile.TemporaryDirectory() as root:
        for k in range(count):
            folder = Path(root) / str(k)
            folder.mkdir()
            line = ["rfzi", "--data", str(made(folder, k)), "--updates", "2", "--hidden", "4"]
            line += ["--batch-size", "8", "--action-grid", "3", "--out", str(folder / "run")]
            errors = io.StringIO()
            with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
                try:
                    code = cli.main(line)
                except Exception as error:
                    code = f"{type(error).__name__}: {error}"
            said = errors.getvalue().strip().splitlines()
            if code not in codes or (code == 2 and len(said) != 1):
                print(k, code, said)
            codes[code] = codes.get(code, 0) + 1
    print(codes)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main(int(sys.argv[1]))
