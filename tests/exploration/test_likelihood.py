"""The likelihood forecaster: a law of the box whatever its weights, which learns known laws."""

import copy
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rlentropy.errors import InputError  # noqa: E402
from rlentropy.exploration.features import Features  # noqa: E402
from rlentropy.exploration.likelihood import (  # noqa: E402
    Likelihood,
    log_piecewise_linear,
)


def box(d: int) -> Features:
    names = tuple(f"x{j}" for j in range(d))
    return Features(names, np.zeros(d), np.ones(d), (5,) * d, np.asarray)


def small(d: int, seed: int = 0, **options: object) -> Likelihood:
    options = {"updates": 20, "batch_size": 64, "pieces": 8, "hidden": (16,)} | options
    return Likelihood(box(d), np.random.default_rng(seed), **options)  # type: ignore[arg-type]


def shaken(forecaster: Likelihood, scale: float = 0.5) -> Likelihood:
    """With weights that are nothing special."""
    rng = np.random.default_rng(7)
    with torch.no_grad():
        noise = scale * rng.standard_normal(len(forecaster.network.flat))
        forecaster.network.flat.add_(torch.as_tensor(noise))
    return forecaster


def midpoints(d: int, side: int) -> np.ndarray:
    line = (np.arange(side, dtype=np.float32) + 0.5) / side
    return np.stack(np.meshgrid(*[line] * d, indexing="ij"), axis=-1).reshape(-1, d)


def q_of(forecaster: Likelihood, points: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.exp(forecaster.log_q(torch.as_tensor(points)).double().numpy())


@pytest.mark.parametrize("pieces", [1, 2, 9])
def test_densities_between_nodes_are_interpolated(pieces, rng):
    outputs, x = 3 * rng.standard_normal((5, pieces + 1)), rng.random(5)
    x[0], x[1] = 0.0, 1.0
    nodes = np.linspace(0, 1, pieces + 1)
    heights = np.exp(outputs)
    areas = np.trapezoid(heights, nodes, axis=1)
    wanted = [np.interp(x[i], nodes, heights[i]) / areas[i] for i in range(5)]
    found = log_piecewise_linear(torch.as_tensor(outputs), torch.as_tensor(x))
    np.testing.assert_allclose(found.exp().numpy(), wanted, rtol=1e-12)


@pytest.mark.parametrize(("d", "side"), [(1, 800), (2, 80), (3, 40)])
def test_the_density_integrates_to_1_whatever_the_weights(d, side):
    """By midpoints of a grid that has the nodes among its corners, so that each is exact in x_d."""
    q = q_of(shaken(small(d)), midpoints(d, side))
    assert q.std() > 0.3
    np.testing.assert_allclose(q.mean(), 1.0, rtol=1e-5 if d == 1 else 1e-2)


def test_a_feature_depends_on_those_before_it_only():
    """∫ q dx_3 is a function of x_1, x_2, and ∫ q dx_3 dx_2 one of x_1."""
    forecaster = shaken(small(3))
    q = q_of(forecaster, midpoints(3, 40)).reshape(40, 40, 40)
    x = torch.as_tensor(midpoints(3, 40))
    with torch.no_grad():
        first, second, _ = (
            row.exp().double().numpy().reshape(40, 40, 40) for row in forecaster.log_factors(x)
        )
    np.testing.assert_allclose(q.mean(axis=2), (first * second)[:, :, 0], rtol=1e-5)
    np.testing.assert_allclose(np.ptp(first, axis=(1, 2)), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.ptp(second, axis=2), 0.0, atol=1e-6)
    assert np.ptp(second, axis=0).max() > 0.1


def test_the_gradient_is_that_of_finite_differences(rng):
    torch.set_default_dtype(torch.float64)
    try:
        forecaster = shaken(small(2))
        x = torch.as_tensor(rng.random((50, 2)))
        network = forecaster.network

        def loss() -> torch.Tensor:
            return -forecaster.log_q(x).mean()

        loss().backward()
        for index in rng.integers(len(network.flat), size=40).tolist():
            values = []
            for step in (1e-6, -2e-6):
                with torch.no_grad():
                    network.flat[index] += step
                    values.append(float(loss()))
            with torch.no_grad():
                network.flat[index] += 1e-6
            slope = (values[0] - values[1]) / 2e-6
            assert float(network.gradient[index]) == pytest.approx(slope, rel=1e-5, abs=1e-7)
    finally:
        torch.set_default_dtype(torch.float32)


def intervals(rng: np.random.Generator, n: int) -> tuple[np.ndarray, float]:
    """Uniform on (0.1, 0.2), with mass 0.7, and (0.5, 0.9)."""
    x = np.where(rng.random(n) < 0.7, rng.uniform(0.1, 0.2, n), rng.uniform(0.5, 0.9, n))
    return x[:, None], 0.7 * math.log(0.1 / 0.7) + 0.3 * math.log(0.4 / 0.3)


def corner(rng: np.random.Generator, n: int) -> tuple[np.ndarray, float]:
    """Uniform on the square without one of its quarters."""
    x = rng.random((2 * n, 2))
    return x[~((x > 0.5).all(axis=1))][:n], math.log(0.75)


def bent(rng: np.random.Generator, n: int) -> tuple[np.ndarray, float]:
    """Normal noise around a wave."""
    x = rng.random(n)
    y = 0.5 + 0.3 * np.sin(6 * x) + 0.03 * rng.standard_normal(n)
    return np.stack([x, y], axis=1), 0.5 * math.log(2 * math.pi * math.e * 0.03**2)


@pytest.mark.parametrize("law", [intervals, corner, bent])
def test_the_loss_of_unseen_points_comes_near_to_the_entropy(law, rng):
    visits, entropy = law(rng, 20_000)
    forecaster = Likelihood(box(visits.shape[1]), rng, prior=1.0)
    visits = visits.astype(np.float32)
    for _ in range(3):
        forecaster.update(visits, len(visits))
    loss = -forecaster.log_density(law(rng, 20_000)[0].astype(np.float32))
    assert loss.mean() - entropy <= 0.06 + 4 * loss.std() / math.sqrt(20_000)
    assert loss.mean() - entropy >= -4 * loss.std() / math.sqrt(20_000)  # no law has less


def test_rewards_are_bounded(rng):
    forecaster = small(2, prior=50.0)
    forecaster.update(np.full((950, 2), 0.1, np.float32), 950)
    rewards = -forecaster.log_density(rng.random((200, 2), dtype=np.float32))
    assert rewards.max() <= math.log(1000 / 50) + 1e-9
    heights = shaken(small(2), 20.0).log_density(midpoints(2, 20))
    assert heights.max() <= 2 * math.log(2 * 8)


def test_before_any_visit_the_law_is_uniform_and_points_beyond_the_box_are_at_its_edge(rng):
    forecaster = small(2)
    far = np.array([[-3.0, 0.4], [0.2, 7.0], [9.0, -9.0]], np.float32)
    np.testing.assert_array_equal(forecaster.log_density(far), 0.0)
    forecaster.update(rng.random((500, 2), dtype=np.float32), 500)
    near = np.clip(far, 0.0, 1.0)
    found = forecaster.log_density(far)
    np.testing.assert_array_equal(found, forecaster.log_density(near))
    assert np.isfinite(found).all()


def test_it_learns_of_all_visits_and_from_where_it_was(rng):
    """Old visits in one half, new ones in the other: both stay dense."""
    visits = rng.random((2000, 1), dtype=np.float32) * np.float32(0.5)
    visits[1000:] += np.float32(0.5)
    forecaster = small(1, updates=200, prior=1.0)
    forecaster.update(visits[:1000], 1000)
    halves = np.array([[0.25], [0.75]], np.float32)
    q = np.exp(forecaster.log_density(halves))
    assert q[0] > 1.6 > 0.4 > q[1]
    for _ in range(2):
        forecaster.update(visits, 1000)
    np.testing.assert_allclose(np.exp(forecaster.log_density(halves)), 1.0, atol=0.3)


def test_it_resumes_bit_for_bit(rng):
    visits, points = (rng.random((400, 2), dtype=np.float32) for _ in range(2))
    one = small(2)
    one.update(visits[:200], 200)
    two = small(2, seed=5)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for n in (200, 400):
        for forecaster in (one, two):
            if n > 200:
                forecaster.update(visits, 200)
        np.testing.assert_array_equal(one.log_density(points), two.log_density(points))


def test_global_generators_change_nothing(rng):
    visits = rng.random((200, 2), dtype=np.float32)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        forecaster = small(2)
        forecaster.update(visits, 200)
        found.append(forecaster.log_density(visits))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"updates": 0}, "updates must be >= 1, got 0"),
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"pieces": 0}, "pieces must be >= 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be > 0 and finite, got 0.0"),
        ({"prior": -1.0}, "prior must be > 0 and finite, got -1.0"),
    ],
)
def test_odd_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        small(1, **options)
