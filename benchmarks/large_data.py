"""A dataset larger than its bound of memory, made on the spot and learnt from: memory and speed.

python benchmarks/large_data.py [--gigabytes 5] [--width 64] [--kinds folder hdf5 minari]
                                [--memory 512] [--updates 300] [--at FOLDER] [--out CSV]

A row for each format (a folder of NPY files; HDF5 in compressed chunks; Minari) and way of reading:
within the bound, mapped (the system holds what it likes), and all read into memory beforehand.
Each is a process of its own: the most memory that it held, as the system counts it, the seconds
until the data were open and checked, and updates a second of rfzi (256 x 256, batches of 1 000):
of a cold disk, whose cache of these files is dropped first (not of what is unpacked, which has no
name), and of a warm one. All see the same batches; `sum` is of the weights that they end with.
The last row of a format is the command itself, `rfzi --memory`, from start to end.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from rlentropy.data import Batch, load

EPISODE = 1000  # steps
KINDS = {"folder": "data", "hdf5": "data.h5", "minari": "minari/large-v0"}
WAYS = ("bounded", "mapped", "loaded")


def episodes(steps: int, width: int) -> Iterator[Batch]:
    """Noise, of which the first coordinate is rewarded, and small actions."""
    rng, flags = np.random.default_rng(0), np.zeros(EPISODE, bool)
    truncated = flags.copy()
    truncated[-1] = True
    for _ in range(steps // EPISODE):
        x = rng.standard_normal((EPISODE + 1, width), np.float32)
        a = rng.uniform(-1.0, 1.0, (EPISODE, 2)).astype(np.float32)
        reward = x[:-1, 0] - np.square(a).sum(1)
        yield Batch(x[:-1], a, reward, x[1:], flags, truncated)


def make(path: Path, kind: str, steps: int, width: int) -> None:
    """Write the dataset as others would, an episode at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "minari":
        import minari
        from gymnasium.spaces import Box
        from minari.data_collector import EpisodeBuffer

        os.environ["MINARI_DATASETS_PATH"] = str(path.parent)
        minari.create_dataset_from_buffers(
            path.name,
            (
                EpisodeBuffer(
                    observations=np.concatenate([b.observations, b.next_observations[-1:]]),
                    actions=b.actions,
                    rewards=b.rewards,
                    terminations=b.terminations,
                    truncations=b.truncations,
                )
                for b in episodes(steps, width)
            ),
            observation_space=Box(-np.inf, np.inf, (width,)),
            action_space=Box(-1.0, 1.0, (2,)),
        )
        return
    columns: dict[str, Any] = {}
    first = next(episodes(EPISODE, width))._asdict()
    if kind == "folder":
        path.mkdir()
        for key, x in first.items():
            shape = (steps, *x.shape[1:])
            columns[key] = open_memmap(path / f"{key}.npy", "w+", x.dtype, shape)
    else:
        import h5py

        file = h5py.File(path, "w")
        for key, x in first.items():
            how = {"chunks": x.shape, "compression": "gzip", "compression_opts": 1}
            columns[key] = file.create_dataset(key, (steps, *x.shape[1:]), x.dtype, **how)
    for k, batch in enumerate(episodes(steps, width)):
        for key, x in batch._asdict().items():
            columns[key][k * EPISODE : (k + 1) * EPISODE] = x
    if kind == "hdf5":
        file.close()


def drop(path: Path) -> None:
    """Let the system forget what it holds of files."""
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def learn(path: Path, way: str, memory: int, updates: int) -> None:
    """Learn in this process; prints seconds, rates, memory and a sum of the weights."""
    from rlentropy.neural import losses
    from rlentropy.offline import rfzi
    from rlentropy.offline.networks import Networks
    from rlentropy.offline.problem import split

    began = time.perf_counter()
    data = load(path)
    if way == "loaded":
        data = replace(data, **{key: np.array(x) for key, x in data.columns._asdict().items()})
    seconds = time.perf_counter() - began
    config = rfzi.Config(memory=memory if way == "bounded" else 2**40)
    problem = split(data, config, lambda n: config.measure, None)

    def objective(low: float, high: float) -> Any:
        return losses.Linex(low, high, 0.1, 3.0)

    learner, rates = Networks(problem, config, objective, [np.random.default_rng(0)]), []
    drop(path)
    for _ in range(2):
        began = time.perf_counter()
        learner.advance(updates)
        rates.append(updates / (time.perf_counter() - began))
    peak = int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024
    total = float(learner.network.flat.double().sum())
    print(len(data), f"{peak:.0f} {seconds:.1f} {rates[0]:.1f} {rates[1]:.1f} {total!r}")


def command(path: Path, memory: int, updates: int) -> tuple[float, float]:
    """Peak MiB and seconds of the command line."""
    train = Path(__file__).parents[1] / "train.py"
    with tempfile.TemporaryDirectory() as out:
        argv = [sys.executable, str(train), "rfzi", "--data", str(path), "--memory", str(memory)]
        began = time.perf_counter()
        process = subprocess.Popen(
            [*argv, "--updates", str(updates), "--out", f"{out}/run"], stdout=sys.stderr
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"rfzi ended with {process.returncode}")
        return used.ru_maxrss / 1024, time.perf_counter() - began


def rows(args: argparse.Namespace, root: Path) -> Iterator[dict[str, Any]]:
    row_bytes = 8 * args.width + 2 * 4 + 4 + 2
    steps = int(args.gigabytes * 1e9 / row_bytes) // EPISODE * EPISODE
    for kind in args.kinds:
        path = root / KINDS[kind]
        if not path.exists():  # by another process, whose memory isn't counted with theirs
            argv = [sys.executable, __file__, "make", str(path), kind, str(steps), str(args.width)]
            subprocess.run(argv, check=True)
        data = {"kind": kind, "GB": round(steps * row_bytes / 1e9, 2), "width": args.width}
        data["bound MiB"] = args.memory
        for way in args.ways:
            argv = [sys.executable, __file__, "learn", str(path), way]
            argv += [str(args.memory), str(args.updates)]
            told = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout
            names = ("steps", "peak MiB", "open s", "cold updates/s", "warm updates/s", "sum")
            yield data | {"way": way} | dict(zip(names, told.split(), strict=True))
        peak, seconds = command(path, args.memory, args.updates)
        yield data | {"way": "command", "peak MiB": round(peak), "command s": round(seconds)}


def main() -> None:
    if sys.argv[1:2] == ["make"]:
        make(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
        return
    if sys.argv[1:2] == ["learn"]:
        learn(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=5.0)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["folder"])
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=WAYS[:2])
    parser.add_argument("--memory", type=int, default=512)
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--at", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    print("load", os.getloadavg()[0], file=sys.stderr)
    names = ["kind", "GB", "width", "bound MiB", "way", "steps", "peak MiB", "open s"]
    names += ["cold updates/s", "warm updates/s", "command s", "sum"]
    with tempfile.TemporaryDirectory() as spare:
        found = []
        for row in rows(args, args.at or Path(spare)):
            print(row, flush=True)
            found.append(row)
    if args.out:
        with args.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(found)


if __name__ == "__main__":
    main()
