"""Small datasets, and files of them as others would write them."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from rlentropy.data import Batch, Transitions

KEYS = Batch._fields


def tabular_arrays(N=200, S=6, A=3, seed=0):
    """Episodes of 7 steps that never terminate, the last one shorter."""
    rng = np.random.default_rng(seed)
    s = rng.integers(S, size=N + 1)
    ends = np.arange(N) % 7 == 6
    ends[-1] = True
    s2 = np.where(ends, rng.integers(S, size=N), s[1:])
    a, r = rng.integers(A, size=N), rng.normal(size=N)
    return dict(zip(KEYS, (s[:-1], a, r, s2, np.zeros(N, bool), ends), strict=True))


def continuous_arrays(N=150, seed=0):
    """Episodes of 10 steps, every other one terminated."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, 3)).astype(np.float32)
    last = np.arange(N) % 10 == 9
    x2 = np.where(last[:, None], rng.normal(size=(N, 3)), np.roll(x, -1, 0)).astype(np.float32)
    terminated = last & (np.arange(N) // 10 % 2 == 0)
    a, r = rng.uniform(-1, 1, (N, 2)).astype(np.float32), rng.normal(size=N)
    return dict(zip(KEYS, (x, a, r, x2, terminated, last & ~terminated), strict=True))


MAKERS = {"tabular": tabular_arrays, "continuous": continuous_arrays}
SPACES = {
    "tabular": (Discrete(9), Discrete(3)),
    "continuous": (Box(-np.inf, np.inf, (3,)), Box(-1.0, 1.0, (2,))),
}


def made(kind, **more):
    return Transitions.from_arrays(**MAKERS[kind](**more))


def same(found, wanted):
    for key, x, y in zip(KEYS, found.columns, wanted.columns, strict=True):
        assert x.dtype == y.dtype, key
        np.testing.assert_array_equal(x, y, err_msg=key)


def write_npz(path, arrays):
    np.savez(path, **arrays)


def write_folder(path, arrays):
    path.mkdir()
    for key, x in arrays.items():
        np.save(path / f"{key}.npy", x)


def write_compressed_npz(path, arrays):
    np.savez_compressed(path, **arrays)


def write_hdf5(path, arrays, **how):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for key, x in arrays.items():
            file.create_dataset(key, data=x, **how)


def write_chunked_hdf5(path, arrays):
    write_hdf5(path, arrays, chunks=True, compression="gzip")


WRITERS = {
    "npz": (write_npz, ".npz"),
    "compressed npz": (write_compressed_npz, ".npz"),
    "folder": (write_folder, ""),
    "hdf5": (write_hdf5, ".hdf5"),
    "chunked hdf5": (write_chunked_hdf5, ".h5"),
}


SMALL = 40  # transitions of `small`


def small_arrays():
    """Four episodes of ten steps."""
    s = np.arange(SMALL) % 5
    last = np.arange(SMALL) % 10 == 9
    column = (s, s % 2, np.sin(np.arange(SMALL)), np.roll(s, -1), last & (s == 3), last)
    return dict(zip(KEYS, column, strict=True))


def small():
    spaces = {"observation_space": Discrete(7)}
    return Transitions.from_arrays(**small_arrays(), **spaces, metadata={"who": "me"})


def hdf5_without(path, key):
    """An open file with all columns but one."""
    h5py = pytest.importorskip("h5py")
    file = h5py.File(path, "w")
    for name, x in small_arrays().items():
        if name != key:
            file[name] = x
    return file


def equal(found, wanted):
    spaces = (found.observation_space, found.action_space)
    return spaces == (wanted.observation_space, wanted.action_space) and all(
        x.dtype == y.dtype and np.array_equal(x, y)
        for x, y in zip(found.columns, wanted.columns, strict=True)
    )
