"""Estimates of categorical laws from counts, and of the next symbol of a Markov chain.

Hao, Orlitsky and Pichapati, "On Learning Markov Chains", NeurIPS 2018, and what is known of it
since (diversity §2). For N draws of which n_j gave j out of k:

    add-c         (n_j + c) / (N + k c)            c = 0: frequencies, 1/2: Krichevsky-Trofimov,
                                                   1: Laplace, with KL risk <= (k - 1) / (N + 1)
    braess-sauer  (n_j + β(n_j)) / (N + Σ β)       β = 1/2, 1, 3/4 at counts 0, 1, above: KL risk
                                                   (k - 1) / 2N to first order, which is minimax
    add-root-n    (n_j + √N / k) / (N + √N)        minimax in squared L2 (Trybula): its risk is
                                                   (1 - 1/k) / (√N + 1)² whatever the law

The risks are those of independent draws. `EmpiricalModel` has these as options; they fit the policy
of an opaque agent from its state-action counts just as well.

The last two functions predict the next symbol of one path of a chain. They depend on the order of
the path, not on counts alone, so they can't be options of a model that keeps counts.
"""

from typing import Any

import numpy as np

from rlentropy.errors import InputError, floats, in_range, one_of, shown, whole
from rlentropy.types import Array

ESTIMATORS = ("add-c", "braess-sauer", "add-root-n")

__all__ = [
    "binary_next",
    "cesaro_add_one",
    "estimate",
]


def __dir__() -> list[str]:
    """What users want, without what is imported on the way."""
    return [*__all__]


def check_estimator(estimator: str, smoothing: float) -> None:
    """Refuse an unknown estimator, a smoothing out of range, or one that would be ignored."""
    one_of("estimator", estimator, ESTIMATORS)
    in_range("smoothing", smoothing, "[0, inf)")
    if smoothing != 0.0 and estimator != "add-c":
        raise InputError(f"smoothing must be 0 unless estimator is add-c, got {smoothing}")


def estimate(counts: Any, estimator: str = "add-c", smoothing: float = 0.0) -> Array:
    """Estimated laws (..., k) from counts (..., k); uniform where nothing is known.

    Args:
        estimator: one of `ESTIMATORS`, see above.
        smoothing: c of add-c, >= 0.

    Raises:
        ValueError: an argument is out of range.
    """
    check_estimator(estimator, smoothing)
    n = floats("counts", counts)
    if n.ndim < 1 or n.shape[-1] < 1 or not (n >= 0.0).all() or not np.isfinite(n).all():
        got = shown(counts)
        raise InputError(f"counts must be (..., k) with k >= 1, finite and >= 0, got {got}")
    N, k = n.sum(-1, keepdims=True), n.shape[-1]
    added: Any = smoothing
    if estimator == "braess-sauer":
        added = np.where(n == 0.0, 0.5, np.where(n == 1.0, 1.0, 0.75))
    elif estimator == "add-root-n":
        added = np.sqrt(N) / k
    weight = n + added
    total = weight.sum(-1, keepdims=True)
    p: Array = np.where(total > 0.0, weight / np.where(total > 0.0, total, 1.0), 1.0 / k)
    return p


def cesaro_add_one(path: Any, num_symbols: int) -> Array:
    """Law (k,) of the symbol after a path (n,) by the Cesàro mean of add-one.

        p = (1/n) Σ_{t = 1..n} (add-one at the last symbol, from the transitions among the last t)

    Reaches the minimax KL rate (k²/n) log(n/k²) of prediction for 3 <= k <= c √n; whether add-c on
    the whole path does is open.
    """
    x = _path(path, num_symbols)
    n, k = x.size, num_symbols
    # Going back in time: the transitions out of the last symbol, as the window takes them in.
    leaving = x[:-1] == x[-1]
    into = leaving[:, None] & (x[1:, None] == np.arange(k))
    counts = np.zeros((n, k))
    counts[1:] = np.cumsum(into[::-1], axis=0)
    p: Array = estimate(counts, "add-c", 1.0).mean(0)
    return p


def binary_next(path: Any) -> Array:
    """Law (2,) of the symbol after a binary path: the rule of minimax KL rate log log n / n.

    At the last symbol add-1/log n where the path, of length n, switches at most once, else add-1.
    """
    x = _path(path, 2)
    counts = np.bincount(x[1:][x[:-1] == x[-1]], minlength=2)
    steady = np.count_nonzero(np.diff(x)) <= 1
    # Up to n = e the rule would add more than 1, up to 1 nothing finite.
    return estimate(counts, "add-c", 1.0 / max(np.log(x.size), 1.0) if steady else 1.0)


def _path(path: Any, num_symbols: int) -> Any:
    x = np.asarray(path)
    whole("num_symbols", num_symbols, 1)
    if x.ndim != 1 or not x.size or not np.issubdtype(x.dtype, np.integer):
        raise InputError(f"path must be (n,) whole numbers with n >= 1, got {x.shape} of {x.dtype}")
    if x.min() < 0 or x.max() >= num_symbols:
        raise InputError(f"path must be in 0..{num_symbols - 1}, got {x.min()}..{x.max()}")
    return x
