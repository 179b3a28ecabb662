"""Forecasters without networks, against brute force, closed forms and bounds."""

import copy
import math

import numpy as np
import pytest
from gymnasium.spaces import Discrete

pytest.importorskip("torch")

from rlentropy.errors import InputError
from rlentropy.exploration.features import Features, states
from rlentropy.exploration.forecasters import (
    Histogram,
    Neighbours,
    log_volume,
    mixed_with_uniform,
)

EULER = 0.5772156649015329


def box(*bins: int) -> Features:
    d = len(bins)
    return Features(tuple(f"x{j}" for j in range(d)), np.zeros(d), np.ones(d), bins, np.asarray)


def uniform(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    return rng.random((n, d), dtype=np.float32)


def digamma(k: int) -> float:
    return sum(1.0 / j for j in range(1, k)) - EULER


def test_histograms_count_cells_once_or_more_beforehand(rng):
    forecaster, visits = Histogram(box(3, 4), prior=2.5), uniform(rng, 40, 2)
    forecaster.update(visits[:25], 25)
    forecaster.update(visits, 15)
    for x in uniform(rng, 20, 2):
        cell = np.floor(x * [3, 4])
        count = sum((np.floor(visit * [3, 4]) == cell).all() for visit in visits)
        wanted = (count + 2.5) / (40 + 2.5 * 12) * 12
        found = forecaster.log_density(x[None])
        np.testing.assert_allclose(np.exp(found), [wanted], rtol=1e-12)


def test_histograms_are_frequencies_mixed_with_the_uniform_law(rng):
    visits, points = uniform(rng, 30, 2), uniform(rng, 50, 2)
    forecaster = Histogram(box(2, 2))
    forecaster.update(visits, 30)
    counts = np.histogram2d(*visits.T, bins=2, range=[[0, 1], [0, 1]])[0]
    q = 4 * counts[tuple(np.floor(points * 2).astype(int).T)] / 30
    mixed = mixed_with_uniform(np.log(q), 30, prior=4.0)
    np.testing.assert_allclose(forecaster.log_density(points), mixed, rtol=1e-12)


@pytest.mark.parametrize("kind", ["constant", "turns", "rarest", "random", "drifts"])
@pytest.mark.parametrize("m", [2, 7])
def test_add_one_has_little_regret_on_every_sequence(kind, m, rng):
    """(m-1) log(e (1 + T/(m-1))) against the best fixed law in hindsight (exploration §2.1)."""
    forecaster, T = Histogram(states(Discrete(m))), 300
    sequence: list[int] = []
    loss = 0.0
    for t in range(T):
        counts = np.bincount(sequence, minlength=m)
        symbol = {
            "constant": 0,
            "turns": t % m,
            "rarest": int(counts.argmin()),
            "random": int(rng.integers(m)),
            "drifts": t * m // T,
        }[kind]
        points = (np.array([*sequence, symbol])[:, None] + np.float32(0.5)) / np.float32(m)
        loss -= forecaster.log_density(points[-1:])[0] - math.log(m)
        sequence.append(symbol)
        forecaster.update(points, 1)
    shares = np.bincount(sequence, minlength=m) / T
    best = -T * sum(p * math.log(p) for p in shares if p > 0)
    assert loss - best <= (m - 1) * math.log(math.e * (1 + T / (m - 1)))


def test_mixing_bounds_rewards():
    log_q = np.array([-np.inf, -800.0, 0.0, 3.0, 50.0])
    mixed = mixed_with_uniform(log_q, visits=300, prior=100.0)
    np.testing.assert_allclose(mixed[2:], np.log(0.75 * np.exp(log_q[2:]) + 0.25), atol=1e-12)
    np.testing.assert_allclose(mixed[:2], math.log(0.25), rtol=1e-12)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_neighbours_are_those_of_brute_force(d, rng):
    visits = uniform(rng, 60, d) * np.float32(0.9)
    points = uniform(rng, 40, d) * np.float32(1.4) - np.float32(0.2)
    forecaster = Neighbours(box(*[5] * d), rng, k=4, reservoir=60, prior=7.0)
    forecaster.update(visits, 60)
    for x, found in zip(points, forecaster.log_density(points), strict=True):
        centre = [min(max(float(c), 0.0), 1.0) for c in x]
        r = sorted(math.dist(centre, visit.tolist()) for visit in visits)[3]
        volume = math.pi ** (d / 2) / math.gamma(d / 2 + 1)
        for c in centre:
            volume *= (min(c + r, 1.0) - max(c - r, 0.0)) / 2
        q = math.exp(digamma(4)) / (60 * volume)
        np.testing.assert_allclose(found, math.log((60 * q + 7) / 67), rtol=1e-5)


@pytest.mark.parametrize("centre", [(0.5, 0.5), (0.0, 0.4), (0.3, 1.0), (1.0, 0.0)])
def test_balls_leave_out_what_is_beyond_the_box(centre, rng):
    """By drawing points of the ball, where the share of the cube is that of the ball."""
    n, radius = 20_000, 0.2
    angle, r = 2 * np.pi * rng.random(n), radius * np.sqrt(rng.random(n))
    x = np.array(centre) + r[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    share = ((x >= 0) & (x <= 1)).all(axis=1).mean()
    found = np.exp(log_volume(np.array([centre]), np.array([radius])))[0]
    wanted = np.pi * radius**2 * share
    assert abs(found - wanted) <= 4 * np.pi * radius**2 * 0.5 / math.sqrt(n)


@pytest.mark.parametrize("d", [1, 2])
def test_neighbours_of_uniform_visits(d, rng):
    """Unbiased in the log; the integral is e^ψ(k) / (k-1). N/k balls are about independent."""
    N, k = 5000, 10
    forecaster = Neighbours(box(*[5] * d), rng, k=k, reservoir=N, resolution=1e-9, prior=1e-9)
    forecaster.update(uniform(rng, N, d), N)
    side = {1: 40_000, 2: 200}[d]
    line = (np.arange(side, dtype=np.float32) + 0.5) / side
    grid = np.stack(np.meshgrid(*[line] * d), axis=-1).reshape(-1, d)
    log_q = forecaster.log_density(grid)
    error = math.sqrt(1.0 / (k - 1)) / math.sqrt(N / k)  # deviation of one ball: ψ'(k)^½
    assert abs(log_q.mean()) <= 4 * error
    assert abs(np.exp(log_q).mean() - math.exp(digamma(k)) / (k - 1)) <= 4 * error


def test_places_hit_again_and_again_are_as_dense_as_they_are_often_hit(rng):
    visits = np.concatenate([np.full((300, 2), 0.5, np.float32), uniform(rng, 700, 2)])
    forecaster = Neighbours(box(5, 5), rng, reservoir=1000, resolution=1e-3, prior=1.0)
    forecaster.update(visits, 1000)
    found = np.exp(forecaster.log_density(np.array([[0.5, 0.5], [0.5005, 0.5]], np.float32)))
    wanted = 0.3 / (math.pi * 1e-6)
    np.testing.assert_allclose(found, wanted, rtol=1e-2)


def test_neighbours_tell_discrete_states_by_their_counts(rng):
    features, counts = states(Discrete(6, start=3)), np.array([50, 40, 30, 20, 12, 0])
    visits = features.points(np.repeat(np.arange(3, 9), counts))
    forecaster = Neighbours(features, rng, reservoir=len(visits), prior=1.0)
    forecaster.update(visits, len(visits))
    found = np.exp(forecaster.log_density(features.points(np.arange(3, 9))))
    np.testing.assert_allclose(found[:4] / found[3], counts[:4] / 20, rtol=0.06)
    assert (np.diff(found) < 0).all()


@pytest.mark.parametrize("forecaster", [Histogram, Neighbours])
def test_before_any_visit_the_law_is_uniform_and_points_beyond_the_box_are_at_its_edge(
    forecaster, rng
):
    tested = forecaster(box(4, 4)) if forecaster is Histogram else forecaster(box(4, 4), rng)
    far = np.array([[-3.0, 0.4], [0.2, 7.0], [9.0, -9.0]], np.float32)
    np.testing.assert_array_equal(tested.log_density(far), 0.0)
    tested.update(uniform(rng, 500, 2), 500)
    near = np.clip(far, 0.0, 1.0)
    np.testing.assert_array_equal(tested.log_density(far), tested.log_density(near))


def test_fewer_visits_than_neighbours(rng):
    forecaster = Neighbours(box(4), rng, k=10)
    visits = np.array([[0.2], [0.4]], np.float32)
    forecaster.update(visits, 2)
    q = math.exp(digamma(2)) / (2 * 0.4)
    wanted = math.log((2 * q + 100) / 102)
    np.testing.assert_allclose(forecaster.log_density(visits), wanted, rtol=1e-6)


def test_rewards_of_neighbours_are_bounded(rng):
    forecaster = Neighbours(box(4, 4), rng, prior=50.0)
    forecaster.update(np.full((950, 2), 0.1, np.float32), 950)
    rewards = -forecaster.log_density(uniform(rng, 200, 2))
    assert rewards.max() <= math.log(1000 / 50)


def test_samples_are_spaced_evenly_over_all_visits_and_drawn_afresh(rng):
    visits = np.arange(4000)[:, None] / 4000
    forecaster = Neighbours(box(4), rng, reservoir=1000)
    first = []
    for _ in range(30):
        forecaster.update(visits, 10)
        index = np.rint(forecaster.sample[:, 0] * 4000).astype(int)
        np.testing.assert_array_equal(np.diff(index), 4)
        first.append(index[0])
    assert set(first) == {0, 1, 2, 3}
    forecaster.update(visits[:30], 10)
    np.testing.assert_array_equal(forecaster.sample, visits[:30])


def test_neighbours_resume_bit_for_bit(rng):
    visits, points = uniform(rng, 600, 2), uniform(rng, 100, 2)
    one = Neighbours(box(4, 4), np.random.default_rng(1), reservoir=100)
    one.update(visits[:300], 300)
    two = Neighbours(box(4, 4), np.random.default_rng(2), reservoir=100)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for n in (300, 600):
        for forecaster in (one, two):
            if n > 300:
                forecaster.update(visits[:n], 300)
        np.testing.assert_array_equal(one.log_density(points), two.log_density(points))


def test_histograms_resume(rng):
    visits, points = uniform(rng, 200, 2), uniform(rng, 100, 2)
    one, two = Histogram(box(4, 4)), Histogram(box(4, 4))
    one.update(visits[:100], 100)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for forecaster in (one, two):
        forecaster.update(visits, 100)
    np.testing.assert_array_equal(one.log_density(points), two.log_density(points))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be >= 1, got 0"),
        ({"reservoir": 9}, "reservoir must be >= 20, got 9"),
        ({"resolution": 0.0}, r"resolution must be in \(0, 1\), got 0.0"),
        ({"prior": 0.0}, "prior must be > 0 and finite, got 0.0"),
    ],
)
def test_odd_options_are_refused(options, message, rng):
    with pytest.raises(InputError, match=message):
        Neighbours(box(4), rng, **options)
