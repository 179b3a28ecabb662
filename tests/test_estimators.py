"""Estimators against fractions, against risks summed over all outcomes, and inside the model."""

from fractions import Fraction
from itertools import pairwise
from math import comb, factorial, log, prod

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from oracles import models

from rlentropy.estimators import ESTIMATORS, binary_next, cesaro_add_one, estimate
from rlentropy.mdp.empirical import EmpiricalModel

seeds = st.integers(0, 2**32 - 1)


def added(estimator, n, N, k, c):
    """What an estimator adds to a count n, of N over k outcomes."""
    if estimator == "braess-sauer":
        return {0: Fraction(1, 2), 1: Fraction(1)}.get(n, Fraction(3, 4))
    return float(N) ** 0.5 / k if estimator == "add-root-n" else Fraction(c)


def reference(counts, estimator, c=0):
    counts = [int(n) for n in counts]
    N, k = sum(counts), len(counts)
    weights = [n + added(estimator, n, N, k, c) for n in counts]
    total = sum(weights)
    return [float(w / total) if total else 1.0 / k for w in weights]


def compositions(n, k):
    if k == 1:
        yield (n,)
        return
    for first in range(n + 1):
        for rest in compositions(n - first, k - 1):
            yield (first, *rest)


def probability(counts, p):
    ways = factorial(sum(counts)) / prod(factorial(x) for x in counts)
    return ways * prod(float(q) ** x for q, x in zip(p, counts, strict=True))


# ---------------------------------------------------------------- of counts


@given(seed=seeds, k=st.integers(1, 8), c=st.sampled_from([0, Fraction(1, 2), 1]))
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimates_are_their_formulas(estimator, seed, k, c) -> None:
    counts = np.random.default_rng(seed).integers(0, 4, (5, k))
    counts[0] = 0
    smoothing = float(c) if estimator == "add-c" else 0.0
    found = estimate(counts, estimator, smoothing)
    want = [reference(row, estimator, c) for row in counts]
    np.testing.assert_allclose(found, want, rtol=1e-14)
    np.testing.assert_allclose(found.sum(-1), 1.0, rtol=1e-14)
    np.testing.assert_allclose(found[0], 1.0 / k)


@given(seed=seeds)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimates_become_frequencies(estimator, seed) -> None:
    counts = np.random.default_rng(seed).integers(0, 9, 6) + 0
    counts[0] += 1
    frequencies = counts / counts.sum()
    for times in (10**4, 10**8, 10**12):
        N = counts.sum() * times
        error = np.abs(estimate(counts * times, estimator) - frequencies).max()
        assert error <= {"add-c": 1e-15, "braess-sauer": 6.0 / N, "add-root-n": N**-0.5}[estimator]
    np.testing.assert_allclose(estimate(counts, "add-c", 1e-12), frequencies, atol=1e-11)


@pytest.mark.parametrize("p", [(0.2, 0.3, 0.5), (1.0, 0.0, 0.0), (1 / 3, 1 / 3, 1 / 3)])
@pytest.mark.parametrize("N", [1, 4, 9])
def test_add_root_n_has_the_same_squared_risk_everywhere(p, N) -> None:
    risk = sum(
        probability(x, p) * ((estimate(x, "add-root-n") - p) ** 2).sum() for x in compositions(N, 3)
    )
    assert risk == pytest.approx((1 - 1 / 3) / (N**0.5 + 1) ** 2, rel=1e-12)


def divergence(p, q):
    return sum(x * log(x / y) for x, y in zip(p, q, strict=True) if x > 0)


def binomial_risk(estimator, p, N, c=0.0):
    """E KL(p || estimate), exactly, for k = 2."""
    total = 0.0
    for x in range(N + 1):
        chance = comb(N, x) * p**x * (1 - p) ** (N - x)
        total += chance * divergence((p, 1 - p), estimate([x, N - x], estimator, c))
    return total


@pytest.mark.parametrize("N", [1, 5, 20, 80])
def test_add_one_has_its_kl_risk(N) -> None:
    for p in (0.0, 0.01, 0.1, 0.5):
        assert binomial_risk("add-c", p, N, 1.0) <= 1.0 / (N + 1) + 1e-12
    for x in [(1 / 3, 1 / 3, 1 / 3), (0.1, 0.1, 0.8)]:
        if N <= 20:
            risk = sum(
                probability(n, x) * divergence(x, estimate(n, "add-c", 1.0))
                for n in compositions(N, 3)
            )
            assert risk <= 2.0 / (N + 1)


def test_braess_sauer_is_minimax_to_first_order() -> None:
    """Its worst N KL comes up to (k - 1) / 2 = 1/2; that of a constant c goes beyond."""
    grid = np.concatenate([[0.0], np.geomspace(1e-5, 0.5, 60)])

    def worst(estimator, N, c=0.0):
        return N * max(binomial_risk(estimator, float(p), N, c) for p in grid)

    assert 0.48 <= worst("braess-sauer", 30) <= 0.5
    assert 0.497 <= worst("braess-sauer", 300) <= 0.5
    assert all(worst("add-c", 300, c) >= 0.507 for c in (0.4, 0.5, 0.6, 0.75, 1.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], "good-turing"), "estimator must be one of add-c, braess-sauer, add-root-n, got"),
        (([1, 2], "add-c", -1.0), "smoothing must be >= 0 and finite, got -1"),
        (([1, 2], "add-root-n", 0.5), "smoothing must be 0 unless estimator is add-c, got 0.5"),
        (([1, -2],), r"counts must be \(\.\.\., k\) with k >= 1, finite and >= 0, got"),
        ((3,), "counts must be"),
        (([],), "counts must be"),
    ],
)
def test_estimate_arguments(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        estimate(*arguments)


# ---------------------------------------------------------------- in the empirical model


@given(seed=seeds, n=st.integers(0, 200), restricted=st.booleans(), stages=st.sampled_from([1, 2]))
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_model_estimates_each_row(estimator, seed, n, restricted, stages) -> None:
    rng = np.random.default_rng(seed)
    S, A = 9, 2
    allowed = rng.random((S * A, S)) < 0.4
    allowed[np.arange(S * A), rng.integers(0, S, S * A)] = True
    if not restricted:
        allowed[:] = True
    support = sp.csr_array(allowed.astype(float)) if restricted else None
    model = EmpiricalModel(S, A, estimator=estimator, support=support, stages=stages)
    h, s, a = rng.integers(0, stages, n), rng.integers(0, S, n), rng.integers(0, A, n)
    s2 = np.array([rng.choice(np.flatnonzero(allowed[i])[:3]) for i in s * A + a], np.int64)
    counts = np.zeros((stages * S * A, S), np.int64)
    np.add.at(counts, ((h * S + s) * A + a, s2), 1)
    model.update(s[: n // 3], a[: n // 3], s2[: n // 3], h[: n // 3])
    model.update(s[n // 3 :], a[n // 3 :], s2[n // 3 :], h[n // 3 :])
    want = np.zeros((stages * S * A, S))
    for i, row in enumerate(counts):
        where = allowed[i % (S * A)]
        want[i, where] = reference(row[where], estimator)
    found = models.dense_rows(model.rows, S)
    np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(found.sum(1), 1.0, rtol=1e-13)
    again = EmpiricalModel(S, A, estimator=estimator, support=support, stages=stages)
    again.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(models.dense_rows(again.rows, S), found)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_one_state(estimator) -> None:
    model = EmpiricalModel(1, 1, estimator=estimator)
    for _ in range(3):
        np.testing.assert_allclose(models.dense_rows(model.rows, 1), 1.0, rtol=1e-15)
        model.update(0, 0, 0)


def test_the_model_refuses_what_the_estimator_does() -> None:
    with pytest.raises(ValueError, match=r"estimator must be one of add-c.*got 'mle'"):
        EmpiricalModel(2, 1, estimator="mle")
    with pytest.raises(ValueError, match="smoothing must be 0 unless estimator is add-c, got 1"):
        EmpiricalModel(2, 1, estimator="braess-sauer", smoothing=1.0)


# ---------------------------------------------------------------- of a path


def slow_cesaro(path, k):
    n = len(path)
    total = [Fraction(0)] * k
    for t in range(1, n + 1):
        window = path[n - t :]
        seen = [y for x, y in pairwise(window) if x == path[-1]]
        for j in range(k):
            total[j] += Fraction(seen.count(j) + 1, len(seen) + k)
    return [float(x / n) for x in total]


@given(path=st.lists(st.integers(0, 3), min_size=1, max_size=25), spare=st.integers(0, 2))
def test_cesaro_add_one(path, spare) -> None:
    found = cesaro_add_one(path, 4 + spare)
    np.testing.assert_allclose(found, slow_cesaro(path, 4 + spare), rtol=1e-13)
    assert found.sum() == pytest.approx(1.0, rel=1e-13)


def test_binary_next() -> None:
    np.testing.assert_allclose(binary_next([1]), [0.5, 0.5])
    c = 1.0 / log(100)  # no switch: 99 stays
    np.testing.assert_allclose(binary_next([0] * 100), np.array([99 + c, c]) / (99 + 2 * c))
    once = [0] * 90 + [1] * 10  # 9 stays at 1 since the one switch
    np.testing.assert_allclose(binary_next(once), np.array([c, 9 + c]) / (9 + 2 * c))
    twice = [0] * 50 + [1] * 10 + [0] * 40  # 49 + 39 stays at 0, and one leaving
    np.testing.assert_allclose(binary_next(twice), np.array([89.0, 2.0]) / 91.0)
    short = binary_next([0, 0])  # 1 / log 2 > 1 would add more than add-one
    np.testing.assert_allclose(short, [2 / 3, 1 / 3])


@pytest.mark.parametrize(
    ("path", "k", "message"),
    [
        ([0, 1], 0, "num_symbols must be >= 1, got 0"),
        ([], 2, r"path must be \(n,\) whole numbers with n >= 1, got \(0,\)"),
        ([0.5], 2, "path must be .* of float64"),
        ([0, 2], 2, r"path must be in 0\.\.1, got 0\.\.2"),
        ([-1, 1], 2, r"path must be in 0\.\.1, got -1\.\.1"),
    ],
)
def test_what_is_no_path(path, k, message) -> None:
    with pytest.raises(ValueError, match=message):
        cesaro_add_one(path, k)
    if k == 2:
        with pytest.raises(ValueError, match=message):
            binary_next(path)
