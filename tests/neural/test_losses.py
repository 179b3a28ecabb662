"""Losses against closed forms, torch's differentiation and an exact dual."""

import math

import numpy as np
import pytest
from scipy.special import logsumexp

from rlentropy import risk

torch = pytest.importorskip("torch")

from rlentropy.neural.losses import (  # noqa: E402
    Linex,
    Squared,
    SquaredZ,
    TVDual,
    linex_gradient,
    linex_loss,
    mean_linex_loss,
    squared_loss,
)


def entropic_mean(x, beta):
    return -logsumexp(-beta * x, b=1 / x.size) / beta


def minimiser(slope, low, high):
    """Where an increasing slope crosses 0, by bisection."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return low


# ---------------------------------------------------------------- LINEX


@pytest.mark.parametrize("beta", [0.0, 1e-9, 0.1, 0.3, 1.5, 3.0])
def test_linex_is_minimised_by_the_entropic_mean(rng, beta):
    x = rng.normal(0.0, 1.5, size=200)
    target = torch.as_tensor(x)

    def slope(u):
        return float(linex_gradient(torch.full((200,), u).double(), target, beta).mean())

    want = x.mean() if beta < 1e-3 else entropic_mean(x, beta)
    assert minimiser(slope, x.min(), x.max()) == pytest.approx(want, abs=1e-6)
    if beta >= 0.1:
        u = torch.tensor(want, dtype=torch.float64, requires_grad=True)
        loss = linex_loss(u, target, beta).mean()
        loss.backward()
        assert abs(float(u.grad)) < 1e-10
        for other in (want - 0.1, want + 0.1):
            assert linex_loss(torch.tensor(other), target, beta).mean() > loss


@pytest.mark.parametrize("tail", [0.7, 3.0, math.inf])
@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_the_three_functions_are_one_linex(beta, tail):
    """Against the formula with its tangent, in double precision; errors on both sides of 0."""
    error = torch.linspace(-4.0, 4.0, 1001, dtype=torch.float64, requires_grad=True)
    y = beta * error.detach().numpy()
    bend = np.minimum(y, tail)
    formula = (np.exp(bend) * (1.0 + y - bend) - y - 1.0) / beta**2
    loss = linex_loss(error, torch.zeros(()), beta, tail)
    (slope,) = torch.autograd.grad(loss.sum(), error)
    np.testing.assert_allclose(loss.detach(), formula, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(slope, (np.exp(bend) - 1.0) / beta, rtol=1e-6, atol=1e-9)
    gradient = linex_gradient(error.detach(), torch.zeros(()), beta, tail)
    np.testing.assert_allclose(gradient, (np.exp(bend) - 1.0) / beta, rtol=1e-12, atol=1e-15)
    mean = mean_linex_loss(error.detach().numpy(), beta, tail)
    assert mean == pytest.approx(formula.mean(), rel=1e-9)


def test_linex_tends_to_the_squared_loss(rng):
    """The error of gradient and loss falls in proportion to β; both are right at 0."""
    error = rng.normal(size=50)
    u = torch.as_tensor(error, dtype=torch.float64).requires_grad_()
    (limit,) = torch.autograd.grad(squared_loss(u, torch.zeros(())).mean(), u)
    far = {"autograd": [], "gradient": [], "mean": []}
    for beta in (1e-1, 1e-2, 1e-3, 1e-5):
        (slope,) = torch.autograd.grad(linex_loss(u, torch.zeros(()), beta).mean(), u)
        far["autograd"].append(float((slope - limit).abs().max()))
        alone = linex_gradient(u.detach(), torch.zeros(()), beta)
        far["gradient"].append(float((alone - u.detach()).abs().max()))
        far["mean"].append(abs(mean_linex_loss(error, beta) - (error**2).mean() / 2))
    for name, errors in far.items():
        assert errors[1] / errors[2] == pytest.approx(10.0, rel=0.1), name
        assert errors[3] < 2e-4 * errors[0], name
    assert mean_linex_loss(error, 0.0) == pytest.approx((error**2).mean() / 2)
    assert torch.equal(linex_gradient(u.detach(), torch.zeros(()), 0.0), u.detach())
    single = linex_gradient(torch.tensor([1e-4]), torch.zeros(1), 1e-4)  # no digits cancel
    assert float(single) == pytest.approx(1e-4, rel=1e-6)


def test_a_rare_low_target_moves_the_minimum_only_so_far():
    x = np.append(np.zeros(99), -1000.0)
    target = torch.as_tensor(x)

    def slope(tail):
        return lambda u: float(
            linex_gradient(torch.full((100,), u).double(), target, 1.0, tail).mean()
        )

    assert minimiser(slope(math.inf), -1000.0, 0.0) < -990.0
    # 99 (e^u - 1) + (e^3 - 1) = 0
    assert minimiser(slope(3.0), -1000.0, 0.0) == pytest.approx(math.log(1 - math.expm1(3) / 99))


# ---------------------------------------------------------------- objectives


def test_heads_keep_their_bounds():
    output = torch.tensor([-40.0, 0.0, 40.0])
    for objective in (
        Squared(-1.0, 3.0),
        Linex(-1.0, 3.0, risk_aversion=0.5, tail=3.0),
        TVDual(-1.0, 3.0, radius=0.1, fail=0.0, steps=1, learning_rate=1e-3),
    ):
        torch.testing.assert_close(objective.head(output), torch.tensor([-1.0, 1.0, 3.0]))
        assert not objective.descent
    dual = TVDual(-1.0, 3.0, radius=0.1, fail=0.5, steps=1, learning_rate=1e-3)
    torch.testing.assert_close(dual.threshold(output), torch.tensor([0.5, 1.75, 3.0]))


def test_the_published_recipe_is_least_squares_of_a_sigmoid(rng):
    """Z = exp(-βu) is the sigmoid itself, and its minimiser the mean of exp(-βx)."""
    objective, output = SquaredZ(0.7), torch.as_tensor(rng.normal(size=20))
    u = objective.head(output)
    torch.testing.assert_close(torch.exp(-0.7 * u), torch.sigmoid(output))
    x = torch.as_tensor(rng.uniform(0.0, 3.0, size=500))
    best = torch.tensor(entropic_mean(x.numpy(), 0.7), requires_grad=True)
    objective.loss(best, x, 0).mean().backward()
    assert abs(float(best.grad)) < 1e-12
    assert objective.descent


def test_risk_aversion_is_annealed():
    """A quarter of β after the first of four updates, all of it from the fourth on."""
    objective = Linex(-1.0, 1.0, risk_aversion=2.0, tail=3.0, anneal=4)
    u, x = torch.tensor([0.3]), torch.tensor([-0.6])
    for updates, share in ((0, 0.25), (1, 0.5), (3, 1.0), (100, 1.0)):
        want = linex_loss(u, x, share * 2.0, 3.0)
        torch.testing.assert_close(objective.loss(u, x, updates), want)
    at_once = Linex(-1.0, 1.0, risk_aversion=2.0, tail=3.0)
    torch.testing.assert_close(at_once.loss(u, x, 0), linex_loss(u, x, 2.0, 3.0))


def test_the_tv_dual_peaks_at_the_worst_case(rng):
    objective = TVDual(0.0, 10.0, radius=0.3, fail=0.0, steps=1, learning_rate=1e-3)
    x = torch.as_tensor(rng.uniform(0.0, 10.0, size=500))
    etas = torch.linspace(0.0, 10.0, 4001, dtype=torch.float64)
    peak = objective.dual(etas[:, None], x).mean(1).max()
    p = np.append(np.full(500, 1 / 500), 0.0)
    measure = risk.TVBall(0.3, support=np.array([500]))
    assert float(peak) == pytest.approx(measure.expectation(p, np.append(x.numpy(), 0.0)), abs=1e-4)
