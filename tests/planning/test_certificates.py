"""Certificates hold in exact arithmetic: bounds contain the value, answers meet their tolerance,
refusals name a tolerance that is then met. The cases are those of benchmarks/certificates.py."""

from decimal import Decimal

import certificates
import exact
import numpy as np
import pytest
import small_mdps

from rlentropy import FiniteMDP, planning, risk

SEED = 9


def assert_certified(line):
    assert line.outcome in ("answered", "refused"), line
    if line.outcome == "refused":
        assert not line.idle, line
        assert line.attainable is not None, line
        assert line.attained, line
    else:
        assert not line.missed, line
        assert line.outside == 0, line
        assert line.astray == 0, line


@pytest.mark.parametrize("style", small_mdps.STYLES)
def test_drawn_cases(style):
    """Five of each style, among them every solver, and most measures and discounts."""
    first = list(small_mdps.STYLES).index(style)
    for solve in range(first, 5 * len(small_mdps.STYLES), len(small_mdps.STYLES)):
        assert_certified(certificates.run(certificates.draw(SEED, solve)))


def fan():
    """The start moves to rewards 5 or 10, and then to a loop without reward: V = 6.5 γ."""
    P = np.zeros((4, 1, 4))
    P[0, 0, [1, 2]] = 0.5
    P[1:, 0, 3] = 1.0
    return FiniteMDP(P, [[0.0], [5.0], [10.0], [0.0]], np.eye(4)[0])


def test_start_far_from_the_value():
    """An evaluation starts r / (1 - γ) away, and must not stop there for rounding."""
    mdp, ball = fan(), risk.TVBall(0.2)
    for gamma in (1.0 - 1e-7, 1.0 - 1e-8):
        found = planning.robust_evaluation(mdp, np.ones((4, 1)), ball, gamma, 1e-6)
        best = planning.robust_optimum(mdp, ball, gamma, 1e-6)
        for answer in (found, best):
            assert answer.V[0] == pytest.approx(6.5 * gamma, abs=1e-6)
            assert answer.lower[0] <= 6.5 * gamma <= answer.upper[0]


def test_cycle_near_one():
    gamma = 0.999999
    cycle = FiniteMDP([[[0, 1.0]], [[1.0, 0]]], [[1.0], [0.0]], [1, 0])
    best = planning.optimum(cycle, gamma, tolerance=1e-2)
    assert best.V[0] == pytest.approx(500000.24998, abs=1e-2)


@pytest.mark.parametrize("gamma", [0.9999, 0.99999])
@pytest.mark.parametrize(
    ("build", "measure"), [("FrozenLake", "kl-ball:0.1"), ("Ring", "entropic:1")]
)
def test_lake_and_ring_near_one(build, measure, gamma):
    """Problems of 16 and 14 states on which joint Newton cycles."""
    P, r, ended = small_mdps.STYLES[build](np.random.default_rng(0))
    S = len(P)
    mdp = FiniteMDP(P, r, np.full(S, 1 / S), terminal=ended)
    tolerance = 1e-8 if build == "FrozenLake" else 1e-3
    best = planning.robust_optimum(mdp, risk.parse(measure), gamma, tolerance)
    true = exact.optimum(exact.Model.of(P, r, gamma, ended), measure)
    assert np.abs(best.V - np.array(true, float)).max() <= tolerance


def long_chain(S):
    """Right with 0.9, else left; rewards of 1 at the far end and 0.01 at the near one."""
    P, r = np.zeros((S, 2, S)), np.zeros((S, 2))
    for s in range(S):
        for a, p in ((0, 0.1), (1, 0.9)):
            P[s, a, min(s + 1, S - 1)] += p
            P[s, a, max(s - 1, 0)] += 1.0 - p
    r[-1], r[0] = 1.0, 0.01
    return P, r


def long_cycle(S):
    """A cycle, where the other action waits; the reward is at one place."""
    P, r = np.zeros((S, 2, S)), np.zeros((S, 2))
    P[np.arange(S), 0, (np.arange(S) + 1) % S] = 1.0
    P[np.arange(S), 1, np.arange(S)] = 0.5
    P[np.arange(S), 1, (np.arange(S) + 1) % S] = 0.5
    r[0, 0] = 1.0
    return P, r


def arrivals(S):
    """Probabilities of arriving, from a random graph into two loops."""
    rng = np.random.default_rng(7)
    P, r = small_mdps.kernel(rng, S, 2, 3), np.zeros((S, 2, S))
    P[-2:] = np.eye(S)[-2:, None]
    r[:-2, :, -1] = 1.0
    return P, r


@pytest.mark.parametrize("gamma", [0.9999, 1.0 - 1e-6])
@pytest.mark.parametrize("measure", ["nominal", "tv-ball:0.05", "entropic:1", "kl-ball:0.02"])
@pytest.mark.parametrize("build", [long_chain, long_cycle, arrivals])
def test_a_few_hundred_states(build, measure, gamma):
    """Answered, and within the tolerance by one exact application of T:
    V* - V is between the extremes of (T V - V) / (1 - γ)."""
    P, r = build(200)
    mdp = FiniteMDP(P, r, np.full(200, 1 / 200))
    tolerance = 1e-7 * np.abs(r).max() / (1.0 - gamma)
    best = planning.robust_optimum(mdp, risk.parse(measure), gamma, tolerance)
    model = exact.Model.of(P, r, gamma)
    with exact.context():
        V = [Decimal(float(v)) for v in best.V]
        robust = exact.Robust(model, measure)
        TV = [robust.best(V, s, {0: exact.ONE})[1] for s in range(200)]
        away = max(abs(x - y) for x, y in zip(TV, V, strict=True)) / (1 - model.gamma)
        assert away <= 2 * Decimal(tolerance)


@pytest.mark.parametrize("k", range(6))
def test_exploration_optima(k):
    """Each objective once: value is that of pi, and the optimum at most value + certificate."""
    line = certificates.explore(SEED, k)
    assert line.outcome == "answered"
    assert line.error <= 1e-12
    assert line.outside == line.astray == 0
    assert line.loss <= line.tolerance
