"""Estimates of entropy from samples, against brute force, closed forms and known laws."""

import math
import subprocess
import sys

import numpy as np
import pytest
from oracles import episodic

from rlentropy import entropy

EULER = 0.5772156649015329


def test_no_compiler_is_loaded() -> None:
    """Nor the trees of scipy, before a neighbour is asked for."""
    script = """
import sys
import rlentropy.entropy.samples
from rlentropy import entropy
entropy.miller_madow([1, 2])
print(*{"numba", "torch", "scipy"} & set(sys.modules))
entropy.visitation
print("numba" in sys.modules, set(entropy.__all__) == set(dir(entropy)))
"""
    argv = [sys.executable, "-c", script]
    found = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert found.splitlines() == ["", "True True"]
    with pytest.raises(AttributeError, match="has no attribute 'tsallis'"):
        _ = entropy.tsallis


# ---------------------------------------------------------------- counts


def test_shannon(rng) -> None:
    p = rng.dirichlet(np.ones(6), size=(2, 3))
    p[0, 0] = [0, 1, 0, 0, 0, 0]
    expected = np.array([[episodic.shannon(x) for x in row] for row in p])
    np.testing.assert_allclose(entropy.shannon(p), expected, atol=1e-15)
    np.testing.assert_allclose(entropy.shannon(np.moveaxis(p, 2, 0), axis=0), expected, atol=1e-15)
    assert entropy.shannon([0.0, 1.0]) == 0.0
    assert entropy.shannon(np.full(8, 1 / 8)) == pytest.approx(np.log(8), abs=1e-15)
    assert entropy.shannon([5e-324, 1.0]) >= 0.0


def test_miller_madow_by_hand() -> None:
    plug_in = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert entropy.miller_madow([3, 0, 1, 0]) == pytest.approx(plug_in + 1 / 8, abs=1e-15)
    assert entropy.miller_madow([7]) == 0.0


@pytest.mark.parametrize("counts", [[0, 0], [3, -1], [np.nan, 1.0]])
def test_counts_that_are_none(counts) -> None:
    with pytest.raises(ValueError, match="counts must be >= 0 with a positive sum"):
        entropy.miller_madow(counts)


def test_miller_madow_removes_most_of_the_bias(rng) -> None:
    """Test 23. Both biases are told apart from 0 by standard errors of the mean."""
    p = rng.dirichlet(np.full(30, 2.0))
    truth, n, repeats = entropy.shannon(p), 300, 2000
    samples = rng.multinomial(n, p, size=repeats)
    plug_in = entropy.shannon(samples / n)
    corrected = np.array([entropy.miller_madow(x) for x in samples])
    error = plug_in.std() / np.sqrt(repeats)
    assert plug_in.mean() < truth - 5 * error
    assert abs(corrected.mean() - truth) < 0.25 * (truth - plug_in.mean()) + 3 * error
    assert (plug_in > truth).any()  # counts can exceed the optimum by noise


# ---------------------------------------------------------------- neighbours


def brute_force(x, k, y=None):
    """Distances and indices of the k nearest of x, from all distances; ties by index."""
    d = np.sqrt((((x if y is None else y)[:, None] - x) ** 2).sum(2))
    if y is None:
        np.fill_diagonal(d, np.inf)
    order = np.argsort(d, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(d, order, 1), order


def psi(k):
    """ψ(k) of a whole number."""
    return -EULER + sum(1 / j for j in range(1, k))


def log_volumes(radius, dimension):
    return np.log(radius**dimension * math.pi ** (dimension / 2) / math.gamma(dimension / 2 + 1))


@pytest.mark.parametrize(("dimension", "k"), [(1, 1), (2, 4), (5, 7)])
def test_neighbours(rng, dimension, k) -> None:
    x, y = rng.normal(size=(60, dimension)), rng.normal(size=(9, dimension))
    for queries in (None, y):
        found, expected = entropy.neighbours(x, k, queries), brute_force(x, k, queries)
        np.testing.assert_allclose(found.distances, expected[0], rtol=1e-12)
        np.testing.assert_array_equal(found.indices, expected[1])
    assert found.distances.shape == found.indices.shape == (9, k)


def test_every_point_is_its_own_query() -> None:
    """As a query a point is at distance 0 of itself, else no point is its own neighbour."""
    x = np.array([[0.0], [1.0], [3.0]])
    np.testing.assert_array_equal(entropy.neighbours(x, 1).indices, [[1], [0], [1]])
    np.testing.assert_array_equal(entropy.neighbours(x, 1, x).indices, [[0], [1], [2]])
    np.testing.assert_array_equal(entropy.neighbours(x, 3, [[0.9]]).indices, [[1, 0, 2]])


@pytest.mark.parametrize("k", [1, 3, 11])
def test_copies_are_neighbours_and_oneself_is_not(k) -> None:
    """Thirty copies of a place: whichever k of them are found, the point is not among them."""
    x = np.repeat([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]], [30, 30, 2], axis=0)
    found = entropy.neighbours(x, k)
    assert (found.indices != np.arange(62)[:, None]).all()
    assert all(len(set(row)) == k for row in found.indices.tolist())
    np.testing.assert_allclose(found.distances, brute_force(x, k)[0])


# ---------------------------------------------------------------- nearest-neighbour entropy


@pytest.mark.parametrize(("dimension", "k"), [(1, 1), (2, 4), (3, 5), (6, 2)])
def test_nearest_neighbour_is_its_definition(rng, dimension, k) -> None:
    x = rng.normal(size=(80, dimension))
    log_v = log_volumes(brute_force(x, k)[0][:, -1], dimension)
    terms = np.log(80) - psi(k) + log_v
    np.testing.assert_allclose(entropy.nearest_neighbour_terms(x, k), terms, rtol=1e-11)
    assert entropy.nearest_neighbour(x, k) == pytest.approx(terms.mean(), abs=1e-12)


@pytest.mark.parametrize("include_self", [False, True])
def test_with_weights_it_is_its_definition(rng, include_self) -> None:
    x, w, k = rng.normal(size=(70, 2)), rng.exponential(size=70) * (rng.random(70) > 0.6), 3
    distances, near = brute_force(x, k)
    if include_self:
        near = np.column_stack([np.arange(70), near[:, :-1]])
    w_near = (w / w.sum())[near].sum(1)
    assert (w_near == 0.0).any()  # 0 log 0
    log_v = log_volumes(distances[:, -1], 2)
    total = sum(-a / k * (np.log(a) - b) for a, b in zip(w_near, log_v, strict=True) if a > 0)
    found = entropy.nearest_neighbour(x, k, w, include_self=include_self)
    assert found == pytest.approx(total + np.log(k) - psi(k), abs=1e-12)
    kept = np.maximum(w, 0.1)
    w_near = (kept / kept.sum())[near].sum(1)
    found = entropy.neighbour_divergence(kept, brute_force(x, k)[1], include_self)
    assert found == pytest.approx(max(0.0, np.mean(np.log(k / (70 * w_near)))), abs=1e-12)


@pytest.mark.parametrize("include_self", [False, True])
def test_equal_weights_are_none(rng, include_self) -> None:
    x = rng.normal(size=(200, 3))
    expected = entropy.nearest_neighbour_terms(x, 5)
    for w in (np.ones(200), np.full(200, 1 / 200)):
        found = entropy.nearest_neighbour_terms(x, 5, w, include_self=include_self)
        np.testing.assert_allclose(found, expected, atol=1e-11)
        near = entropy.neighbours(x, 5).indices
        assert entropy.neighbour_divergence(w, near, include_self) == pytest.approx(0.0, abs=1e-12)


def test_weights_make_the_entropy_of_another_law(rng) -> None:
    """Beta(2, 2) from uniform draws: entropy log(1/6) + 5/3, divergence 2 - log 6.

    Within five standard errors: of a mean of -f log f and of -log f, and of the terms' own noise.
    """
    n, k = 20_000, 4
    x = rng.random(n)
    f = 6 * x * (1 - x)
    exact, divergence = 5 / 3 - np.log(6), 2 - np.log(6)
    error = np.sqrt((np.std(f * (np.log(f) + exact)) ** 2 + np.mean(f**2) / k) / n)
    near = entropy.neighbours(x[:, None], k).indices
    for include_self in (False, True):
        found = entropy.nearest_neighbour(x[:, None], k, f, include_self=include_self)
        assert abs(found - exact) < 5 * error
        found = entropy.neighbour_divergence(f, near, include_self)
        assert abs(found - divergence) < 5 * np.std(np.log(f)) / np.sqrt(n)


def test_divergence_is_infinite_where_nothing_is_left() -> None:
    near = np.array([[1], [0], [1]])
    assert entropy.neighbour_divergence([1.0, 0.0, 1.0], near) == np.inf
    assert entropy.neighbour_divergence([0.1, 1.0, 0.0], near) == 0.0  # never below


@pytest.mark.parametrize("weighted", [False, True])
def test_moving_points_changes_nothing_and_scaling_adds_its_logarithm(rng, weighted) -> None:
    """With weights, by Σ W_i / k instead of 1: the parts in which each point is a neighbour."""
    x, w = rng.normal(size=(300, 3)), rng.exponential(size=300) if weighted else None
    base = entropy.nearest_neighbour(x, 4, w)
    order, turn = rng.permutation(300), np.linalg.qr(rng.normal(size=(3, 3)))[0]
    moved = entropy.nearest_neighbour((x @ turn + 7.0)[order], 4, w[order] if weighted else None)
    assert moved == pytest.approx(base, abs=1e-9)
    share = (w / w.sum())[brute_force(x, 4)[1]].sum() / 4 if weighted else 1.0
    for a in (-3.0, 0.01):
        found = entropy.nearest_neighbour(a * x, 4, w)
        assert found == pytest.approx(base + 3 * np.log(abs(a)) * share, abs=1e-9)


def test_resolution(rng) -> None:
    """Places that are hit again and again count as spread over a ball of that radius."""
    x = np.concatenate([np.zeros((50, 2)), rng.normal(size=(50, 2))])
    distances = np.maximum(brute_force(x, 4)[0][:, -1], 0.3)
    terms = np.log(100) - psi(4) + log_volumes(distances, 2)
    np.testing.assert_allclose(entropy.nearest_neighbour_terms(x, 4, resolution=0.3), terms)
    with pytest.raises(ValueError, match="5 copies of one place: raise k or the resolution"):
        entropy.nearest_neighbour(x, 4)


# ---------------------------------------------------------------- known laws


@pytest.mark.parametrize(("k", "bias"), [(4, 0.05), (50, 0.1)])
def test_nearest_neighbour_entropy_of_a_box(rng, k, bias) -> None:
    """Exploration §9 property 24: log V within 0.1, and the edges bias it upwards."""
    sides = np.array([3.0, 0.5])
    terms = entropy.nearest_neighbour_terms(rng.random((20_000, 2)) * sides, k)
    assert -5 * terms.std() / np.sqrt(20_000) < terms.mean() - np.log(sides.prod()) < bias


@pytest.mark.parametrize(("k", "expected"), [(4, 4.627), (50, 4.675)])
def test_nearest_neighbour_entropy_of_the_continuous_grid(rng, k, expected) -> None:
    """The calibration of §8.1, log 100.25 = 4.6077 plus edges, within five standard errors."""
    x = rng.uniform(-6.0, 6.0, (40_000, 2))
    a, b = np.abs(x).T
    plus = ((a <= 1.25) & (b <= 2.5)) | ((a <= 2.5) & (b <= 1.25))
    sides = ((a >= 3.5) & (b <= 1.25)) | ((b >= 3.5) & (a <= 1.25))
    x = x[~(plus | sides)][:24_000]
    assert len(x) == 24_000
    spread = entropy.nearest_neighbour_terms(x, k).std() / np.sqrt(24_000)
    assert abs(entropy.nearest_neighbour(x, k) - expected) < 5 * spread


@pytest.mark.parametrize("dimension", range(1, 7))
def test_nearest_neighbour_entropy_of_a_gaussian(rng, dimension) -> None:
    """½ D log(2πe σ²) less the bias of §8.1, within five standard errors of the terms' mean."""
    n, bias = 24_000, [0.0, 0.0, 0.005, 0.021, 0.041, 0.057][dimension - 1]
    estimate = entropy.nearest_neighbour(2.0 * rng.normal(size=(n, dimension)))
    exact = dimension / 2 * np.log(2 * np.pi * np.e * 4.0)
    assert abs(estimate - exact + bias) < 5 * np.sqrt((dimension / 2 + 1 / 3) / n)


def test_nearest_neighbour_entropy_of_a_mixture(rng) -> None:
    """Two boxes too far apart to touch, a third and two thirds of the mass: H(1/3) + Σ p log V."""
    n, first = 20_000, rng.random(20_000) < 1 / 3
    x = rng.random((n, 2)) * np.where(first, 1.0, 0.1)[:, None] + 9.0 * first[:, None]
    exact = entropy.shannon([1 / 3, 2 / 3]) + 2 / 3 * 2 * np.log(0.1)
    terms = entropy.nearest_neighbour_terms(x)
    assert -5 * terms.std() / np.sqrt(n) < terms.mean() - exact < 0.1


# ---------------------------------------------------------------- rewards


def test_particle_rewards(rng) -> None:
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(6, 3))
    for queries in (None, y):
        d = brute_force(x, 4, queries)[0]
        expected = {"apt": np.log(1 + d.mean(1)), "re3": d[:, 3], "re3-log": np.log(1 + d[:, 3])}
        for kind, rewards in expected.items():
            found = entropy.particle_rewards(x, 4, kind, queries)
            np.testing.assert_allclose(found, rewards, rtol=1e-12)
    d = np.column_stack([np.zeros(40), brute_force(x, 3)[0]])
    found = entropy.particle_rewards(x, 4, "apt", include_self=True)
    np.testing.assert_allclose(found, np.log(1 + d.mean(1)), rtol=1e-12)
    found = entropy.particle_rewards(x, 4, "re3", include_self=True)
    np.testing.assert_allclose(found, d[:, 3], rtol=1e-12)


# ---------------------------------------------------------------- episodes


def autoregressive(rng, shape, rho):
    """Stationary paths of x' = ρ x + noise with variance 1 along the last axis of `shape`."""
    x = rng.normal(size=shape)
    for t in range(1, shape[-1]):
        x[..., t] = rho * x[..., t - 1] + np.sqrt(1 - rho**2) * x[..., t]
    return x


def test_histogram_by_hand() -> None:
    assert entropy.histogram([1, 1, 2, 0]) == pytest.approx(1.5 * np.log(2), abs=1e-15)
    assert entropy.histogram([[3, 0], [0, 0]]) == 0.0


def test_histogram_by_episode_is_the_jackknife(rng) -> None:
    """Pseudo-values one by one; for equal lengths the classical E H - (E - 1) mean H_e."""
    counts = rng.poisson(2.0, size=(6, 5)) + 1
    found, n = entropy.histogram_by_episode(counts), counts.sum()
    pooled = episodic.shannon(counts.sum(0) / n)
    pseudo, shares = [], counts.sum(1) / n
    for e in range(6):
        rest = np.delete(counts, e, axis=0).sum(0)
        h = n / counts[e].sum()
        pseudo.append(h * pooled - (h - 1) * episodic.shannon(rest / rest.sum()))
    value = np.sum(shares * pseudo)
    half = 2.570581835636314 * np.sqrt(6 / 5 * np.sum((shares * (pseudo - value)) ** 2))
    expected = pooled, value, value - half, value + half
    np.testing.assert_allclose((found.plug_in, found.value, found.low, found.high), expected)
    equal = np.array([[3, 1], [2, 2], [0, 4]])
    rests = [entropy.histogram(np.delete(equal, e, axis=0).sum(0)) for e in range(3)]
    expected = 3 * entropy.histogram(equal.sum(0)) - 2 * np.mean(rests)
    assert entropy.histogram_by_episode(equal).value == pytest.approx(expected, abs=1e-14)


def test_independent_steps_have_the_bias_of_miller_and_madow(rng) -> None:
    """Each step an episode: the jackknife and Miller-Madow agree to second order."""
    steps = rng.integers(8, size=500)
    found = entropy.histogram_by_episode(np.eye(8)[steps])
    assert found.value == pytest.approx(entropy.miller_madow(np.bincount(steps)), abs=8 / 500**1.5)


def test_clustered_interval_is_that_of_means_of_equal_episodes(rng) -> None:
    terms = rng.normal(size=(9, 20)) + rng.normal(size=(9, 1))
    ids = np.repeat(rng.permutation(9) * 3 - 7, 20)
    order = rng.permutation(180)
    found = entropy.clustered_interval(terms.ravel()[order], ids[order])
    half = 2.306004135204166 * terms.mean(1).std(ddof=1) / 3
    assert float(found.value) == pytest.approx(terms.mean(), abs=1e-14)
    assert float(found.high - found.value) == pytest.approx(half, rel=1e-12)
    assert float(found.value - found.low) == pytest.approx(half, rel=1e-12)


def test_clustered_interval_of_unequal_episodes() -> None:
    """By hand: mean 2, sums of deviations -2 and 2, E / (E - 1) = 2, n = 4, t of 1 degree."""
    found = entropy.clustered_interval([1.0, 1.0, 2.0, 4.0], [0, 0, 1, 1])
    assert float(found.high) == pytest.approx(2 + 12.706204736432095 * np.sqrt(2 * 8) / 4)
    found = entropy.clustered_interval([1.0, 2.0, 2.0, 3.0], [5, 1, 1, 1])
    assert float(found.high) == pytest.approx(2 + 12.706204736432095 * np.sqrt(2 * 2) / 4)


def test_nearest_neighbour_by_episode_is_the_jackknife(rng) -> None:
    """Seven episodes in three groups, of 3, 2 and 2, whatever their ids and order."""
    ids = rng.permutation(np.repeat(np.arange(7) * 5, rng.integers(8, 14, size=7)))
    x = rng.normal(size=(len(ids), 2))

    def estimate(points):
        v = log_volumes(np.maximum(brute_force(points, 3)[0][:, -1], 0.05), 2)
        return np.log(len(points)) - psi(3) + v.mean()

    found = entropy.nearest_neighbour_by_episode(x, ids, 3, resolution=0.05, groups=3)
    pseudo, shares = [], []
    for group in ([0, 5, 10], [15, 20], [25, 30]):
        out = np.isin(ids, group)
        share = out.mean()
        pseudo.append((estimate(x) - (1 - share) * estimate(x[~out])) / share)
        shares.append(share)
    value = np.dot(shares, pseudo)
    deviations = np.array(shares) * (np.array(pseudo) - value)
    half = 4.302652729911275 * np.sqrt(3 / 2 * (deviations**2).sum())
    expected = estimate(x), value, value - half, value + half
    np.testing.assert_allclose((found.plug_in, found.value, found.low, found.high), expected)


@pytest.mark.parametrize("resolution", [0.0, 0.4])
def test_nearest_neighbour_across_episodes(rng, resolution) -> None:
    """Point by point, from the points of other episodes alone."""
    ids = rng.permutation(np.repeat([3, -1, 8, 20], [5, 9, 2, 14]))
    x = rng.normal(size=(30, 3)) + (ids == 8)[:, None] * np.array([1.0, 0.0, 0.0])
    x[ids == 8] = x[ids == 8][:1]  # copies within an episode do no harm
    terms = []
    for point, own in zip(x, ids, strict=True):
        others = x[ids != own]
        radius = max(np.sort(np.sqrt(((others - point) ** 2).sum(1)))[3], resolution)
        terms.append(np.log(len(others)) - psi(4) + log_volumes(radius, 3))
    found = entropy.nearest_neighbour_across(x, ids, 4, resolution)
    np.testing.assert_allclose(found, terms, rtol=1e-12)


@pytest.mark.parametrize(("k", "other"), [(4, 1), (32, 4)])
def test_across_episodes_that_stay_where_they_are(rng, k, other) -> None:
    """Paths of m = 8 steps within 1e-6 of a place, places normal in the plane (§8.2).

    All neighbours may be one path's: log m + ψ(⌈k/m⌉) - ψ(k) above log(2πe), within five standard
    errors of a mean over the places; with its own path each point would be 10 nats below.
    """
    truth = np.log(2 * np.pi * np.e)
    places = rng.normal(size=(500, 1, 2)) + 1e-6 * rng.normal(size=(500, 8, 2))
    x, ids = places.reshape(-1, 2), np.repeat(np.arange(500), 8)
    terms = entropy.nearest_neighbour_across(x, ids, k)
    error = np.sqrt((1.0 + math.pi**2 / 6) / 500)
    assert abs(terms.mean() - truth - (np.log(8) + psi(other) - psi(k))) < 5 * error
    assert entropy.nearest_neighbour(x, 4) < truth - 10.0


def assert_less_biased(before, after):
    """Half of the bias is gone at least, up to three standard errors."""
    assert before.mean() < 0.0
    assert abs(after.mean()) < 0.5 * abs(before.mean()) + 3 * after.std() / np.sqrt(len(after))


@pytest.mark.parametrize("episodes", [20, 100])
def test_intervals_of_histograms_cover(rng, episodes) -> None:
    """95 % less five standard errors, where steps taken for independent ones cover half of that."""
    repeats, T, edges = 400, 50, np.arange(-2.0, 2.5, 0.5)
    cdf = np.array([0.0, *(0.5 * (1 + math.erf(e / math.sqrt(2))) for e in edges), 1.0])
    truth = episodic.shannon(np.diff(cdf))
    cells = np.searchsorted(edges, autoregressive(rng, (repeats, episodes, T), 0.95))
    hits, naive, clustered, errors = 0, 0, 0, []
    for each in cells:
        counts = (each[..., None] == np.arange(10)).sum(1)
        found = entropy.histogram_by_episode(counts)
        hits += found.low <= truth <= found.high
        errors.append((found.plug_in - truth, found.value - truth))
        terms = -np.log(counts.sum(0) / (episodes * T) + 1e-300)[each].ravel()
        half = 1.96 * terms.std() / np.sqrt(len(terms))
        naive += abs(entropy.miller_madow(counts.sum(0)) - truth) <= half
        linear = entropy.clustered_interval(terms, np.repeat(np.arange(episodes), T))
        assert float(linear.value) == pytest.approx(found.plug_in, abs=1e-9)
        clustered += linear.low <= truth <= linear.high
    assert hits / repeats > 0.95 - 5 * np.sqrt(0.95 * 0.05 / repeats)
    assert naive < 0.5 * hits
    assert clustered <= hits + 3 * np.sqrt(0.95 * 0.05 * repeats)
    assert_less_biased(*np.transpose(errors))


def test_intervals_of_nearest_neighbours_cover(rng) -> None:
    """As above: 20 episodes in the plane, whose law is a standard normal."""
    repeats, E, T = 60, 20, 50
    ids, truth = np.repeat(np.arange(E), T), np.log(2 * np.pi * np.e)
    hits, naive, errors = 0, 0, []
    paths = autoregressive(rng, (repeats, E, 2, T), 0.9).swapaxes(2, 3)
    for x in paths.reshape(repeats, E * T, 2):
        found = entropy.nearest_neighbour_by_episode(x, ids)
        hits += found.low <= truth <= found.high
        errors.append((found.plug_in - truth, found.value - truth))
        half = 1.96 * entropy.nearest_neighbour_terms(x).std() / np.sqrt(len(x))
        naive += abs(found.plug_in - truth) <= half
    assert hits / repeats > 0.95 - 5 * np.sqrt(0.95 * 0.05 / repeats)
    assert naive < 0.6 * hits
    assert_less_biased(*np.transpose(errors))


def test_one_episode_has_no_interval() -> None:
    found = entropy.histogram_by_episode([[1, 3]])
    assert found.plug_in == entropy.histogram([1, 3])
    assert np.isnan([found.value, found.low, found.high]).all()
    found = entropy.clustered_interval([1.0, 3.0], [4, 4])
    assert float(found.value) == 2.0
    assert np.isnan([found.low, found.high]).all()
    x = np.arange(9.0)[:, None] ** 2
    found = entropy.nearest_neighbour_by_episode(x, np.zeros(9, int))
    assert found.plug_in == entropy.nearest_neighbour(x)
    assert np.isnan([found.value, found.low, found.high]).all()


# ---------------------------------------------------------------- refusals


def test_refusals_of_points() -> None:
    for bad in ([1.0, 2.0], np.zeros((0, 2)), [[np.nan, 1.0]]):
        with pytest.raises(ValueError, match=r"points must be \(N, D\) with N, D >= 1 and finite"):
            entropy.nearest_neighbour(bad)
    with pytest.raises(ValueError, match=r"k must be in 1\.\.2 for 3 points, got 3"):
        entropy.nearest_neighbour(np.eye(3), 3)
    with pytest.raises(ValueError, match=r"k must be in 1\.\.3 for 3 points, got 4"):
        entropy.neighbours(np.eye(3), 4, np.eye(3))
    with pytest.raises(ValueError, match="k must be >= 1, got 0"):
        entropy.neighbours(np.eye(3), 0)
    with pytest.raises(ValueError, match=r"queries must be \(n, 3\) as points are, got \(1, 2\)"):
        entropy.neighbours(np.eye(3), 1, [[0.0, 1.0]])
    with pytest.raises(ValueError, match="resolution must be >= 0 and finite, got -1"):
        entropy.nearest_neighbour(np.eye(3), 1, resolution=-1.0)
    with pytest.raises(ValueError, match=r"weights must be \(N,\) = \(3,\), got \(2,\)"):
        entropy.nearest_neighbour(np.eye(3), 1, [1.0, 1.0])
    for w in ([0.0, 0.0, 0.0], [-1.0, 1.0, 1.0], [np.inf, 1.0, 1.0], [np.nan, 1.0, 1.0]):
        with pytest.raises(ValueError, match="weights must be >= 0 with a positive sum, got sum"):
            entropy.nearest_neighbour(np.eye(3), 1, w)
    with pytest.raises(ValueError, match="kind must be one of apt, re3, re3-log, got 'icm'"):
        entropy.particle_rewards(np.eye(3), 1, "icm")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="include_self must be False where there are queries"):
        entropy.particle_rewards(np.eye(3), 2, queries=np.eye(3), include_self=True)
    with pytest.raises(ValueError, match="k must be >= 2, got 1"):
        entropy.particle_rewards(np.eye(3), 1, include_self=True)


def test_refusals_of_episodes() -> None:
    with pytest.raises(ValueError, match=r"counts must be \(E, K\) with E, K >= 1, got \(2,\)"):
        entropy.histogram_by_episode([1, 2])
    for bad in ([[1, 2], [0, 0]], [[1, -1], [1, 1]], [[np.inf, 1], [1, 1]], [[np.nan, 1], [1, 1]]):
        with pytest.raises(ValueError, match="counts must be >= 0 with a positive sum in each row"):
            entropy.histogram_by_episode(bad)
    with pytest.raises(ValueError, match=r"terms must be \(n,\) with n >= 1, got \(0,\)"):
        entropy.clustered_interval([], [])
    for ids in ([0], [0.0, 1.0]):
        with pytest.raises(ValueError, match="episodes must be whole numbers, one for each of 2"):
            entropy.clustered_interval([1.0, 2.0], ids)
    with pytest.raises(ValueError, match="episodes must leave 2 points of others, got 1"):
        entropy.nearest_neighbour_across(np.eye(3), [0, 0, 1], 2)
    with pytest.raises(ValueError, match="2 copies of one place: raise k or the resolution"):
        entropy.nearest_neighbour_across(np.zeros((6, 1)), [0, 0, 1, 1, 2, 2], 2)
    with pytest.raises(ValueError, match="groups must be >= 2, got 1"):
        entropy.nearest_neighbour_by_episode(np.eye(3), [0, 1, 2], 1, groups=1)
    with pytest.raises(ValueError, match=r"k must be in 1\.\.1 for 2 points, got 2"):
        entropy.nearest_neighbour_by_episode(np.eye(3), [0, 1, 2], 2)
