"""A user's f: its conjugate against closed forms, its measures against closed and conic ones."""

import math
import pickle

import numpy as np
import pytest
import scipy.sparse as sp

from rlentropy import FiniteMDP, planning, risk
from rlentropy.errors import InputError
from rlentropy.planning.nature import Nature
from rlentropy.risk.conjugate import Table, values_of


def xlogx(t):
    return t * np.log(np.maximum(t, 1e-300))


def burg(t):
    return t - 1.0 - np.log(t)


def cressie_read(a):
    return lambda t: (t**a - a * t + a - 1.0) / (a * (a - 1.0))


def plateau(t):
    """0 within 0.5 of 1, then quadratic."""
    return np.maximum(np.abs(t - 1.0) - 0.5, 0.0) ** 2


def kinked(t):
    """Slopes -2, 0.25, 3 that change at 1 and at 1.37."""
    return np.maximum(-2.0 * (t - 1.0), np.maximum((t - 1.0) / 4.0, 3.0 * t - 4.0175))


def scalar_kl(t):
    return t * math.log(t) - t + 1.0


def scalar_kinked(t):
    return 2.0 * (1.0 - t) if t < 1.0 else 0.5 * (t - 1.0)


# f, its (f*)', and slopes y to try it at
CONJUGATES = {
    "kl": (lambda t: xlogx(t) - t + 1.0, np.exp, np.linspace(-15.0, 30.0, 4001)),
    "chi2": (lambda t: t**2 - 1.0, lambda y: np.maximum(y / 2.0, 0.0), np.linspace(-3, 90, 4001)),
    "burg": (burg, lambda y: 1.0 / (1.0 - y), np.linspace(-1e6, 0.9999, 4001)),
    "hellinger": (
        lambda t: (np.sqrt(t) - 1.0) ** 2,
        lambda y: (1.0 - y) ** -2.0,
        np.linspace(-1e3, 0.999, 4001),
    ),
    "quartic": (
        lambda t: (t - 1.0) ** 4,
        lambda y: 1.0 + np.cbrt(y / 4.0),
        np.linspace(-4.0, 99.0, 4001),
    ),
    "plateau": (
        plateau,
        lambda y: np.maximum(np.where(y > 0.0, 1.5, 0.5) + y / 2.0, 0.0),
        np.linspace(-2.0, 50.0, 4000),
    ),
    "exponential": (
        lambda t: np.exp(t - 1.0) - t,
        lambda y: np.maximum(1.0 + np.log(np.maximum(1.0 + y, 1e-300)), 0.0),
        np.linspace(-0.99, 1e4, 4001),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONJUGATES)
def test_what_the_table_answers_costs_no_more_than_rounding(name):
    f, want, y = CONJUGATES[name]
    table = Table(values_of(f), 64)
    t, best = table(y - table.base)[0], want(y)
    assert (np.diff(t) >= 0.0).all()
    assert table.noise <= 1e-14
    lost = (f(np.maximum(t, 1e-300)) - y * t) - (f(np.maximum(best, 1e-300)) - y * best)
    assert (np.abs(lost) <= 1e-14 * (1.0 + np.abs(y * t) + f(np.maximum(t, 1e-300)))).all()


@pytest.mark.parametrize("name", CONJUGATES)
def test_derivative_of_the_answer(name):
    f, _, y = CONJUGATES[name]
    table = Table(values_of(f), 64)
    y = y[1:-1] - table.base
    rise = table(y)[1]
    step = 1e-7 * (1.0 + np.abs(y))
    near = (table(y + step)[0] - table(y - step)[0]) / (2.0 * step)
    off = np.abs(rise - near) > 1e-4 * (1e-6 + rise)
    assert off.mean() < 0.01  # but where t or its slope jumps


def test_kinks_are_found_to_rounding():
    table = Table(values_of(kinked), 64)
    y = np.array([-2.001, -1.999, 0.2499, 0.2501, 2.999]) - table.base
    np.testing.assert_allclose(table(y)[0], [0.0, 1.0, 1.0, 1.37, 1.37], rtol=4e-15)
    assert table(np.array([3.001 - table.base]))[0] >= 2.0**64
    assert table.kink == pytest.approx(1.125)
    assert table.slope(np.array([1.2])) + table.base == pytest.approx(0.25, rel=1e-14)


def test_f_given_by_a_hundred_points():
    at = np.concatenate([np.linspace(0.0, 2.0, 101), np.geomspace(2.1, 50.0, 40)])
    table = Table(
        values_of(lambda t: np.maximum(np.interp(t, at, (at - 1) ** 2), 99 * t - 2549)), 64
    )
    y = np.diff((at - 1.0) ** 2) / np.diff(at)
    np.testing.assert_allclose(table(0.5 * (y[1:] + y[:-1]) - table.base)[0], at[1:-1], rtol=1e-10)


def test_f_of_numbers_only_and_its_limit_at_zero():
    t = np.array([[0.0, 0.5], [1.0, 4.0]])
    np.testing.assert_allclose(
        values_of(scalar_kl)(t), [[1.0, 0.5 - 0.5 * np.log(2.0)], [0.0, 4.0 * np.log(4.0) - 3.0]]
    )
    np.testing.assert_allclose(values_of(scalar_kinked)(t), [[2.0, 1.0], [0.0, 1.5]])
    with np.errstate(all="ignore"):
        assert values_of(lambda t: t * np.log(t))(np.zeros(1)) == pytest.approx(0.0, abs=1e-290)
    assert values_of(burg)(np.zeros(1)) == np.inf
    assert values_of(lambda t: 1.0 / t - 1.0 + math.log(1.0))(np.zeros(1)) == np.inf
    assert values_of(lambda t: t - 1.0 - math.log(t))(np.zeros(1)) == np.inf
    assert values_of(lambda t: math.exp(t - 1.0) - t)(np.full(1, 1e6)) == np.inf


def test_f_that_is_none():
    with pytest.raises(InputError, match="f must take t >= 0 and return a number, got TypeError"):
        risk.FDivergencePenalty(1.0, lambda t: "a" + t)
    wild = risk.FDivergencePenalty(
        1.0, lambda t: (t - 1.0) ** 2 * (1.0 + 0.4 * np.where(t > 50.0, np.sin(1e6 * t**2), 0.0))
    )
    with pytest.raises(InputError, match="f must be convex and computed to 1e-4"):
        wild.expectation(np.full(2, 0.5), np.arange(2.0))


def rows_and_values(rng, R, n):
    """Distributions with zeros and small entries, values of each row."""
    p = rng.dirichlet(np.full(n, 0.4), R) * (rng.random((R, n)) < 0.8)
    p[:, 0] += 1e-9
    return p / p.sum(1, keepdims=True), rng.normal(size=(R, n))


CLOSED = {
    "kl": (lambda t: xlogx(t) - t + 1.0, lambda k: risk.Entropic(1.0 / k)),
    "kl, plain": (xlogx, lambda k: risk.Entropic(1.0 / k)),
    "kl, numbers": (scalar_kl, lambda k: risk.Entropic(1.0 / k)),
    "chi2": (lambda t: t**2 - 1.0, risk.Chi2Penalty),
    "burg": (burg, risk.BurgPenalty),
    "tv": (lambda t: np.abs(t - 1.0), risk.L1Penalty),
    "cr-1": (cressie_read(-1.0), lambda k: risk.CressieReadPenalty(k, -1.0)),
    "cr.5": (cressie_read(0.5), lambda k: risk.CressieReadPenalty(k, 0.5)),
    "cr1.5": (cressie_read(1.5), lambda k: risk.CressieReadPenalty(k, 1.5)),
    "cr3": (cressie_read(3.0), lambda k: risk.CressieReadPenalty(k, 3.0)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_at_weights_of_all_sizes(rng, name):
    f, closed = CLOSED[name]
    p, V = rows_and_values(rng, 100, 6)
    span = np.where(p > 0.0, V, -np.inf).max(1) - np.where(p > 0.0, V, np.inf).min(1)
    for weight in 10.0 ** np.arange(-6.0, 13.0, 3.0):
        ours, theirs = risk.FDivergencePenalty(weight, f), closed(weight)
        W, q = ours.expectation(p, V), ours.worst_case(p, V)
        low, high = V.min(1), V.min(1) + span
        allowed = ours.error(low, high, 6) + theirs.error(low, high, 6)
        assert (np.abs(W - theirs.expectation(p, V)) <= 0.5 * allowed).all(), weight
        noise = 1e-13 * weight  # of the sum of f, which `expectation` knows to be at least 0
        np.testing.assert_allclose((q * V).sum(1) + ours.penalty(q, p), W, 0, 1e-12 + noise)
        assert (q >= 0.0).all()
        assert (q[p == 0.0] == 0.0).all()
        if name != "tv" and 1e-4 < weight < 1e4:  # there q is not unique
            np.testing.assert_allclose(q, theirs.worst_case(p, V), 0, 1e-7)


@pytest.mark.parametrize("least", [1e-12, 1e-30, 1e-300])
def test_rare_successors(least):
    p, V = np.array([least, 1.0 - least]), np.array([0.0, 1.0])
    for name, (f, closed) in CLOSED.items():
        for weight in (1e-3, 0.03, 1.0):
            got = risk.FDivergencePenalty(weight, f).expectation(p, V)
            want = closed(weight).expectation(p, V)
            assert got == pytest.approx(want, abs=1e-12), (name, weight)


def test_cvar_as_a_divergence(rng):
    p, V = rows_and_values(rng, 200, 6)
    for share in (0.05, 0.3, 0.9):
        ours = risk.FDivergencePenalty(1.0, lambda t, s=share: np.where(t <= 1.0 / s, 0.0, np.inf))
        want = risk.CVaR(share).expectation(p, V)
        np.testing.assert_allclose(ours.expectation(p, V), want, 0, 1e-13)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(10))
def test_hostile_rows_within_the_stated_error(seed):
    """Probabilities down to 1e-30, values of all sizes and nearly equal, any weight."""
    rng = np.random.default_rng(seed)
    p = np.vstack([rng.dirichlet(np.full(5, 0.3), 5), 10.0 ** rng.uniform(-30.0, 0.0, (10, 5))])
    p /= p.sum(1, keepdims=True)
    V = rng.choice([1e-13, 1.0, 3.0], 5) * rng.random((15, 5)) * 10.0 ** rng.integers(-6, 7)
    weight = np.abs(V).max() * 10.0 ** rng.uniform(-9.0, 9.0)
    for name, (f, closed) in CLOSED.items():
        ours, theirs = risk.FDivergencePenalty(weight, f), closed(weight)
        off = np.abs(ours.expectation(p, V) - theirs.expectation(p, V))
        allowed = sum(m.error(V.min(1), V.max(1), 5) for m in (ours, theirs))
        assert (off <= 0.5 * allowed).all(), name


# f beside its perspective p f(q/p) for cvxpy
ODD = {
    "hellinger": (
        lambda t: (np.sqrt(t) - 1.0) ** 2,
        lambda cp, q, p: cp.sum(q + p) - 2.0 * cp.sum(cp.multiply(np.sqrt(p), cp.sqrt(q))),
    ),
    "quartic": (
        lambda t: (t - 1.0) ** 4,
        lambda cp, q, p: cp.sum(cp.multiply(p, cp.power(cp.multiply(1 / p, q) - 1.0, 4))),
    ),
    "plateau": (
        plateau,
        lambda cp, q, p: cp.sum(
            cp.multiply(p, cp.square(cp.pos(cp.abs(cp.multiply(1 / p, q) - 1.0) - 0.5)))
        ),
    ),
    "kinked": (
        kinked,
        lambda cp, q, p: cp.sum(
            cp.maximum(-2 * (q - p), cp.maximum((q - p) / 4, 3 * q - 4.0175 * p))
        ),
    ),
    "huber": (
        lambda t: np.where(np.abs(t - 1) < 0.3, (t - 1) ** 2, 0.6 * np.abs(t - 1) - 0.09),
        lambda cp, q, p: cp.sum(cp.multiply(p, cp.huber(cp.multiply(1 / p, q) - 1.0, 0.3))),
    ),
    "jensen-shannon": (
        lambda t: xlogx(t) - (t + 1.0) * np.log((t + 1.0) / 2.0),
        lambda cp, q, p: cp.sum(cp.rel_entr(q, (q + p) / 2) + cp.rel_entr(p, (q + p) / 2)),
    ),
    "exponential": (
        lambda t: np.exp(t - 1.0) - t,
        lambda cp, q, p: cp.sum(cp.multiply(p, cp.exp(cp.multiply(1 / p, q) - 1.0)) - q),
    ),
    "capped": (
        lambda t: np.where((t >= 0.4) & (t <= 1.5), (t - 1.0) ** 2, np.inf),
        lambda cp, q, p: cp.sum(
            cp.multiply(1 / p, cp.square(q - p))
            + cp.transforms.indicator([q <= 1.5 * p, q >= 0.4 * p])
        ),
    ),
    "barrier": (
        lambda t: 1.0 / t + t - 2.0,
        lambda cp, q, p: cp.sum(cp.multiply(p**2, cp.inv_pos(q)) + q - 2.0 * p),
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_divergences_against_conic_programs(rng, name):
    cp = pytest.importorskip("cvxpy")
    f, perspective = ODD[name]
    for weight in (0.02, 0.3, 3.0):
        p, V = rng.dirichlet(np.ones(5)) + 0.01, rng.choice([0.0, 0.3, 1.0, 0.7], 5)
        p /= p.sum()
        q = cp.Variable(5, nonneg=True)
        cost = V @ q + weight * perspective(cp, q, p)
        problem = cp.Problem(cp.Minimize(cost), [cp.sum(q) == 1])
        problem.solve(cp.CLARABEL)
        assert problem.status == "optimal"
        ours = risk.FDivergencePenalty(weight, f)
        W, worst = ours.expectation(p, V), ours.worst_case(p, V)
        assert W == pytest.approx(problem.value, abs=1e-7)
        assert worst @ V + ours.penalty(worst, p) == pytest.approx(W, abs=1e-12)


@pytest.mark.parametrize("name", ODD)
def test_no_rival_is_worse(rng, name):
    """To rounding, where the conic programs reach 1e-7: W is a minimum over q."""
    p, V = rows_and_values(rng, 50, 6)
    for weight in (1e-3, 0.3, 30.0, 1e5):
        ours = risk.FDivergencePenalty(weight, ODD[name][0])
        W, q = ours.expectation(p, V), ours.worst_case(p, V)
        rival = rng.dirichlet(np.ones(6), 50) * (p > 0.0)
        rival /= rival.sum(1, keepdims=True)
        span = np.ptp(V, axis=1)
        for share in (1e-9, 1e-6, 1e-3, 0.1, 1.0):
            for other in ((1 - share) * q + share * rival, (1 - share) * q + share * p):
                there = (other * V).sum(1) + ours.penalty(other, p)
                assert (there >= W - ours.error(0.0, span, 6)).all(), (weight, share)


def test_rough_f_widens_its_error(rng):
    def rough(t):
        return xlogx(t) - t + 1.0 + 1e-10 * np.sin(1e7 * t) * (np.abs(t - 1.0) > 1e-9)

    p, V = rows_and_values(rng, 100, 6)
    ours = risk.FDivergencePenalty(1.0, rough)
    assert ours._table(64).noise > 1e-13
    error = np.abs(ours.expectation(p, V) - risk.Entropic(1.0).expectation(p, V))
    assert (error <= ours.error(0.0, np.ptp(V, axis=1), 6)).all()
    assert error.max() <= 1e-8


def test_a_given_response_stands_for_the_table(rng):
    p, V = rows_and_values(rng, 50, 6)
    given = risk.FDivergencePenalty(0.3, burg, lambda y: np.where(y < 1.0, 1.0 / (1.0 - y), np.inf))
    want = risk.BurgPenalty(0.3)
    np.testing.assert_allclose(given.expectation(p, V), want.expectation(p, V), 0, 1e-13)
    np.testing.assert_allclose(given.worst_case(p, V), want.worst_case(p, V), 0, 1e-7)


def test_pickles_without_its_table(rng):
    p, V = rows_and_values(rng, 5, 4)
    ours = risk.FDivergencePenalty(0.3, burg)
    W = ours.expectation(p, V)
    again = pickle.loads(pickle.dumps(ours))
    assert (again.weight, again.f) == (0.3, burg)
    np.testing.assert_array_equal(again.expectation(p, V), W)


# ---------------------------------------------------------------------------------- in solvers


def garnet(rng, S, A, n, by_successor=False):
    columns = np.concatenate([rng.choice(S, n, replace=False) for _ in range(S * A)])
    P = sp.csr_array((rng.dirichlet(np.ones(n), S * A).ravel(), columns, np.arange(S * A + 1) * n))
    P.sort_indices()
    r = rng.random((S, A))
    if by_successor:
        r = sp.csr_array((rng.random(P.nnz), P.indices, P.indptr), (S * A, S))
    return FiniteMDP(P, r, np.full(S, 1.0 / S))


def test_starts_from_the_sweep_before_change_nothing_but_rounding(rng):
    mdp = garnet(rng, 40, 3, 6)
    for f in (xlogx, burg, kinked):
        measure = risk.FDivergencePenalty(0.2, f)
        nature = Nature(mdp, measure, 0.9)
        V = rng.normal(size=40)
        for _ in range(4):
            fresh = Nature(mdp, measure, 0.9)
            np.testing.assert_allclose(nature.backup(V), fresh.backup(V), 0, 1e-14)
            some = rng.permutation(120)[:50].astype(np.uint32)
            np.testing.assert_allclose(
                nature.expectations(V, some), fresh.expectations(V, some), 0, 1e-14
            )
            V = V + 0.1 * rng.normal(size=40)
        assert measure.memory is None


@pytest.mark.parametrize("by_successor", [False, True])
@pytest.mark.parametrize("name", ["kl", "kl, numbers", "chi2", "burg", "tv", "cr.5"])
def test_bounds_of_robust_optima_hold_those_of_closed_forms(rng, name, by_successor):
    f, closed = CLOSED[name]
    mdp = garnet(rng, 30, 3, 5, by_successor)
    for weight in (0.05, 1.0, 1e3):
        ours = planning.robust_optimum(mdp, risk.FDivergencePenalty(weight, f), 0.95, 1e-8)
        theirs = planning.robust_optimum(mdp, closed(weight), 0.95, 1e-8)
        assert (ours.upper - ours.lower).max() <= 1e-8
        assert (ours.lower <= theirs.upper).all()
        assert (theirs.lower <= ours.upper).all()
        pi = np.full((30, 3), 1.0 / 3.0)
        ours, theirs = (
            planning.robust_evaluation(mdp, pi, measure, 0.95, 1e-8)
            for measure in (risk.FDivergencePenalty(weight, f), closed(weight))
        )
        np.testing.assert_allclose(ours.V, theirs.V, 0, 2e-8)
