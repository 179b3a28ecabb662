# ruff: noqa: E402
"""Estimators of entropy from samples: their speed, bias on known laws, and coverage of intervals.

python benchmarks/estimators.py [speed | calibration | coverage] [--repeats N]

speed        CPU time of one thread for 24,000 points, medians of 7, against all distances in numpy
             (and scikit-learn where it is installed), which must find the same neighbours
calibration  mean error and standard deviation of the estimate by nearest neighbours on known laws
coverage     of 95 % intervals, where each of two coordinates of an episode of 200 steps is a
             stationary x' = ρ x + noise, of variance 1, over 12 x 11 cells of [-3, 3]² and over
             points; steps taken for independent, summed by episode, and the jackknife

The tables of docs/theory/exploration.md are its output (exploration §8.1-8.2).
"""

import os

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # read when numpy is imported

import argparse
import importlib.util
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rlentropy.entropy import samples
from rlentropy.intervals import NORMAL_TAIL
from rlentropy.types import Array, Count

N, STEPS = 24_000, 200
GAUSSIAN = 0.5 * math.log(2 * math.pi * math.e)  # nats a coordinate


def median_cpu_s(work: Callable[[], Any], repeats: int) -> float:
    spent = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return float(np.median(spent))


def speed(repeats: int) -> None:
    rng = np.random.default_rng(0)
    print(f"{'points':28} {'k':>3} {'seconds':>9} {'times faster than numpy':>24}")
    for dimension in (2, 4, 7):
        x = rng.random((N, dimension))
        numpy_s = median_cpu_s(lambda x=x: all_distances(x, x[:1000], 4), 1) * N / 1000
        near = samples.neighbours(x, 4).distances[:1000]
        np.testing.assert_allclose(near, all_distances(x, x[:1000], 4), atol=1e-6)
        for k in (4, 50):
            ours = median_cpu_s(lambda x=x, k=k: samples.nearest_neighbour(x, k), repeats)
            print(
                f"{f'{N:,} in {dimension} dimensions':28} {k:3} {ours:9.3f} {numpy_s / ours:24.0f}"
            )
        if importlib.util.find_spec("sklearn"):
            peer = importlib.import_module("sklearn.neighbors").NearestNeighbors(n_neighbors=5)
            theirs = median_cpu_s(lambda x=x, peer=peer: peer.fit(x).kneighbors(x), repeats)
            print(f"{'    scikit-learn':28} {4:3} {theirs:9.3f}")
    x, ids = rng.random((N, 2)), np.repeat(np.arange(100), N // 100)
    ours = median_cpu_s(lambda: samples.nearest_neighbour_by_episode(x, ids), repeats)
    print(f"{'jackknife, 2 dimensions':28} {4:3} {ours:9.3f}")


def all_distances(x: Array, y: Array, k: int) -> Array:
    """To the k nearest other x of each y, which are the first x, from |y|² + |x|² - 2 y·x."""
    squared = (x * x).sum(1) + (y * y).sum(1)[:, None] - 2.0 * y @ x.T
    squared[np.arange(len(y)), np.arange(len(y))] = np.inf
    return np.sqrt(np.sort(np.partition(squared, k - 1, axis=1)[:, :k], axis=1))


def continuous_grid(rng: np.random.Generator) -> Array:
    """Uniform on the free area of MEPOL's GridWorld, 100.25."""
    x = rng.uniform(-6.0, 6.0, (2 * N, 2))
    a, b = np.abs(x).T
    walls = (a <= 1.25) & ((b <= 2.5) | (b >= 3.5)) | (b <= 1.25) & ((a <= 2.5) | (a >= 3.5))
    return x[~walls][:N]


def calibration(repeats: int) -> None:
    rng = np.random.default_rng(1)
    laws: dict[str, tuple[Callable[[], Array], float]] = {
        "continuous grid": (lambda: continuous_grid(rng), math.log(100.25))
    }
    for d in range(1, 8):
        laws[f"box, {d} dimensions"] = (lambda d=d: rng.random((N, d))), 0.0
    for d in range(1, 8):
        laws[f"Gaussian, {d} dimensions"] = (lambda d=d: rng.normal(size=(N, d))), d * GAUSSIAN
    print(f"{'N = 24,000':24} {'exact':>8}" + "".join(f"{f'k = {k}':>16}" for k in (1, 4, 12, 50)))
    for name, (draw, exact) in laws.items():
        row = f"{name:24} {exact:8.4f}"
        for k in (1, 4, 12, 50):
            errors = (
                np.array([samples.nearest_neighbour(draw(), k) for _ in range(repeats)]) - exact
            )
            row += f"{errors.mean():+9.4f} {errors.std():.4f}"
        print(row, flush=True)


def paths(rng: np.random.Generator, episodes: int, rho: float) -> Array:
    """(episodes, STEPS, 2)."""
    x = rng.normal(size=(episodes, STEPS, 2))
    for t in range(1, STEPS):
        x[:, t] = rho * x[:, t - 1] + math.sqrt(1 - rho**2) * x[:, t]
    return x


def cells_of(x: Array) -> Count:
    columns = (
        np.searchsorted(np.linspace(-3, 3, n + 1)[1:-1], x[..., i]) for i, n in enumerate((12, 11))
    )
    return np.ravel_multi_index(tuple(columns), (12, 11))


def entropy_of_cells() -> float:
    def normal(n: int) -> Array:
        inner = [0.5 * (1 + math.erf(e / math.sqrt(2))) for e in np.linspace(-3, 3, n + 1)[1:-1]]
        return np.diff([0.0, *inner, 1.0])

    return float(samples.shannon(normal(12)) + samples.shannon(normal(11)))


def of_cells(x: Array, ids: Count) -> tuple[Array, samples.PooledEstimate]:
    cells = cells_of(x)
    counts = np.stack([np.bincount(row, minlength=132) for row in cells])
    p = counts.sum(0) / counts.sum()
    terms = -np.log(np.where(p > 0, p, 1.0))[cells.ravel()]
    return terms, samples.histogram_by_episode(counts)


def of_points(x: Array, ids: Count) -> tuple[Array, samples.PooledEstimate]:
    x = x.reshape(-1, 2)
    return samples.nearest_neighbour_terms(x), samples.nearest_neighbour_by_episode(x, ids)


def coverage(repeats: int) -> None:
    rng = np.random.default_rng(2)
    columns = ("bias", "jackknife", "independent", "by episode", "jackknife")
    print(f"{'':8}{'episodes':>10}{'ρ':>7}" + "".join(f"{c:>13}" for c in columns))
    kinds = {
        "cells": (of_cells, entropy_of_cells(), repeats),
        "points": (of_points, 2 * GAUSSIAN, max(1, repeats // 5)),
    }
    for kind, (estimate, exact, times) in kinds.items():
        for episodes in (20, 100):
            ids = np.repeat(np.arange(episodes), STEPS)
            for rho in (0.0, 0.9, 0.99, 0.999):
                found = []
                for _ in range(times):
                    terms, pooled = estimate(paths(rng, episodes, rho), ids)
                    half = NORMAL_TAIL * terms.std() / math.sqrt(len(terms))
                    linear = samples.clustered_interval(terms, ids)
                    found.append((
                        pooled.plug_in - exact,
                        pooled.value - exact,
                        abs(pooled.plug_in - exact) <= half,
                        linear.low <= exact <= linear.high,
                        pooled.low <= exact <= pooled.high,
                    ))  # fmt: skip
                means = np.mean(np.array(found, float), axis=0)
                row = "".join(f"{v:13.4f}" for v in means[:2]) + "".join(
                    f"{v:13.1%}" for v in means[2:]
                )
                print(f"{kind:8}{episodes:10}{rho:7}{row}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    tables = {"speed": (speed, 7), "calibration": (calibration, 10), "coverage": (coverage, 1000)}
    parser.add_argument("table", nargs="?", choices=tables, default="speed")
    parser.add_argument("--repeats", type=int, default=0, help="instead of 7, 10 or 1000")
    options = parser.parse_args()
    table, repeats = tables[options.table]
    table(options.repeats or repeats)


if __name__ == "__main__":
    main()
