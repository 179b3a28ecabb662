"""Risk measures against conic and linear programs, closed forms and the tables of robust §8.3."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import linprog

from rlentropy import FiniteMDP, risk
from rlentropy.envs.ring import RingEnv

W5 = np.array([0.5, 1.0, 2.0, 1.5, 0.7])
METRIC = np.array([[abs(i - j) ** 0.5 * (1 + (i > j) / 2) for j in range(5)] for i in range(5)])
LOWER, UPPER = np.full(5, 0.05), np.array([0.5, 0.3, 0.6, 0.9, 0.4])


# ------------------------------------------------- oracles: the primal programs, written for cvxpy


def kl_div(cp, q, p):
    on = p > 0
    return cp.sum(cp.rel_entr(q[on], p[on]))


def burg(cp, q, p):
    on = p > 0
    return cp.sum(cp.rel_entr(p[on], q[on]))


def chi2(cp, q, p):
    on = p > 0
    return cp.sum(cp.multiply(1 / p[on], cp.square(q[on] - p[on])))


def cressie_read(a):
    def divergence(cp, q, p):
        on = p > 0
        moment = cp.sum(cp.multiply(p[on] ** (1 - a), cp.power(q[on], a)))
        # E_p f(q/p) over p > 0, and the slope 1/(1-a) of f at infinity for mass off it
        inner = (moment - a * cp.sum(q[on]) + (a - 1)) / (a * (a - 1))
        return inner + (cp.sum(q[~on]) / (1 - a) if a < 1 and (~on).any() else 0)

    return divergence


def l1(weights=1.0):
    return lambda cp, q, p: cp.sum(cp.multiply(weights * np.ones(len(p)), cp.abs(q - p)))


def l2(cp, q, p):
    return cp.norm(q - p, 2)


def linf(cp, q, p):
    return cp.max(cp.abs(q - p))


LINE = np.abs(np.arange(5)[:, None] - np.arange(5)[None]).astype(float)


def program(cp, p, V, ok, divergence, weight, radius, bounds=None, metric=None):
    """min E_q V + weight * D(q, p) subject to D <= radius, on values scaled to [0, 1]."""
    low, span = V[ok].min(), np.ptp(V[ok]) or np.abs(V).max()
    q = cp.Variable(len(p))
    constraints = [q >= 0, cp.sum(q) == 1]
    if (~ok).any():
        constraints.append(q[~ok] == 0)
    cost = 0
    if metric is not None:
        flow = cp.Variable((len(p), len(p)), nonneg=True)
        constraints += [cp.sum(flow, axis=1) == p, cp.sum(flow, axis=0) == q]
        cost = cp.sum(cp.multiply(metric, flow))
    elif divergence is not None:
        cost = divergence(cp, q, p)
    if bounds is not None:
        lower, upper = bounds(p)
        constraints += [q >= np.where(ok, lower, 0), q <= upper]
    if radius is not None:
        constraints.append(cost <= radius)
    objective = ((V - low) / span) @ q + (cost * (weight / span) if weight is not None else 0)
    problem = cp.Problem(cp.Minimize(objective), constraints)
    for tolerance in (1e-9, 1e-8):  # the tighter one is out of reach of some
        try:
            problem.solve(
                cp.CLARABEL, tol_gap_abs=tolerance, tol_gap_rel=tolerance, tol_feas=tolerance
            )
        except cp.error.SolverError:
            continue
        if problem.status == "optimal":
            break
    assert problem.status == "optimal"
    return low + span * problem.value


# Measure of a value scale, and the oracle's divergence, weight, radius, bounds or metric.
PENALTIES = {
    "entropic": (lambda k, u: risk.Entropic(1 / k), {"divergence": kl_div}),
    "chi2": (lambda k, u: risk.Chi2Penalty(k), {"divergence": chi2}),
    "l1": (lambda k, u: risk.L1Penalty(k, u), {"divergence": l1()}),
    "burg": (lambda k, u: risk.BurgPenalty(k, u), {"divergence": burg}),
    "cr-1": (lambda k, u: risk.CressieReadPenalty(k, -1.0, u), {"divergence": cressie_read(-1.0)}),
    "cr.5": (lambda k, u: risk.CressieReadPenalty(k, 0.5, u), {"divergence": cressie_read(0.5)}),
    "cr1.5": (lambda k, u: risk.CressieReadPenalty(k, 1.5, u), {"divergence": cressie_read(1.5)}),
    "cr3": (lambda k, u: risk.CressieReadPenalty(k, 3.0, u), {"divergence": cressie_read(3.0)}),
    "wasserstein": (lambda k, u: risk.WassersteinPenalty(k, support=u), {"metric": LINE}),
    "wasserstein-metric": (
        lambda k, u: risk.WassersteinPenalty(k, METRIC, u),
        {"metric": METRIC},
    ),
}
BALLS = {
    "kl": (lambda d, u: risk.KLBall(d), {"divergence": kl_div}),
    "burg": (lambda d, u: risk.BurgBall(d, u), {"divergence": burg}),
    "chi2": (lambda d, u: risk.Chi2Ball(d), {"divergence": chi2}),
    "tv": (lambda d, u: risk.TVBall(d, u), {"divergence": l1(0.5)}),
    "l1": (lambda d, u: risk.L1Ball(d, u), {"divergence": l1()}),
    "weighted-l1": (lambda d, u: risk.WeightedL1Ball(d, W5, u), {"divergence": l1(W5)}),
    "linf": (lambda d, u: risk.LinfBall(d, u), {"divergence": linf}),
    "l2": (lambda d, u: risk.L2Ball(d, u), {"divergence": l2}),
    "wasserstein": (lambda d, u: risk.WassersteinBall(d, support=u), {"metric": LINE}),
    "wasserstein-metric": (lambda d, u: risk.WassersteinBall(d, METRIC, u), {"metric": METRIC}),
}
FREE = {"l1", "burg", "cr-1", "cr.5", "wasserstein", "wasserstein-metric", "tv", "weighted-l1"}
FREE |= {"linf", "l2"}  # may leave the nominal support
FREE_BALLS = FREE - {"cr-1", "cr.5"}
CANDIDATES = np.array([1, 3])


def hard_rows(rng, n=4):
    """Full, sparse, deterministic, uniform and lopsided rows."""
    p = rng.dirichlet(np.ones(5), size=n)
    p[0] = [0.0, 0.4, 0.6, 0.0, 0.0]
    p[1] = [0.0, 0.0, 1.0, 0.0, 0.0]
    p[2] = [0.3, 0.0, 0.3, 0.1, 0.3]
    return p


def supports(free):
    return ("nominal", "full", CANDIDATES) if free else ("nominal",)


def admissible(p, support):
    ok = p > 0
    if isinstance(support, str):
        return ok | (support == "full")
    ok[support] = True
    return ok


def check_against_program(rng, measure, support, scale, **oracle):
    cp = pytest.importorskip("cvxpy")
    p = hard_rows(rng)
    V = scale * rng.choice([-1.0, 0.3, 0.3, 2.0, 0.9], 5)  # ties
    W = measure.expectation(p, V)
    for i in range(len(p)):
        want = program(cp, p[i], V, admissible(p[i], support), **oracle)
        assert W[i] == pytest.approx(want, abs=2e-6 * scale), (p[i], V)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_against_conic_programs(rng, name, scale):
    make, oracle = PENALTIES[name]
    for support in supports(name in FREE):
        weight = scale * rng.choice([0.1, 0.6, 3.0])
        arguments = {"divergence": None, "radius": None, "weight": weight} | oracle
        check_against_program(rng, make(weight, support), support, scale, **arguments)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("name", BALLS)
def test_balls_against_conic_programs(rng, name, scale):
    make, oracle = BALLS[name]
    for support in supports(name in FREE_BALLS):
        radius = rng.choice([0.01, 0.15, 0.5])
        arguments = {"divergence": None, "radius": radius, "weight": None} | oracle
        check_against_program(rng, make(radius, support), support, scale, **arguments)


def linear_program(p, V, ok, lower, upper):
    found = linprog(V, A_eq=np.ones((1, 5)), b_eq=[1.0], bounds=np.stack([lower, upper * ok], 1))
    assert found.status == 0
    return found.fun


@pytest.mark.parametrize("support", ["nominal", "full"])
def test_sets_of_bounds_against_linear_programs(rng, support):
    full = support == "full"
    sets = [
        (risk.CVaR(0.3), lambda p: (0 * p, np.minimum(p / 0.3, 1.0)), False),
        (
            risk.MeanCVaR(0.4, 0.2),
            lambda p: (0.6 * p, 0.6 * p + 0.4 * np.minimum(p / 0.2, 1)),
            False,
        ),
        (
            risk.LinfBall(0.1, support),
            lambda p: (np.maximum(p - 0.1, 0), np.minimum(p + 0.1, 1)),
            full,
        ),
        (risk.Contamination(0.2, support), lambda p: (0.8 * p, 0.8 * p + 0.2), full),
        (risk.WorstCase(support), lambda p: (0 * p, 0 * p + 1), full),
        (risk.Nominal(), lambda p: (p, p), False),
    ]
    if full:
        sets.append((risk.IntervalBall(LOWER, UPPER, "full"), lambda p: (LOWER, UPPER), True))
    for measure, bounds, everywhere in sets:
        p, V = hard_rows(rng), rng.choice([-1.0, 0.3, 2.0, 0.9], 5)
        W, q = measure.expectation(p, V), measure.worst_case(p, V)
        for i in range(len(p)):
            ok = (p[i] > 0) | everywhere
            want = linear_program(p[i], V, ok, *bounds(p[i]))
            assert W[i] == pytest.approx(want, abs=1e-9)
        assert (measure.penalty(q, p) == 0.0).all()


# -------------------------------------------------------------------- robust §8.1


def everything(scale=1.0):
    """One of each, on 5 states, for values of that scale; True where W <= E_p V is promised."""
    measures = [make(0.4 * scale, u) for make, _ in PENALTIES.values() for u in ("nominal", "full")]
    measures += [make(0.12, u) for make, _ in BALLS.values() for u in ("nominal", CANDIDATES)]
    measures += [risk.Nominal(), risk.WorstCase(), risk.WorstCase("full"), risk.CVaR(0.3)]
    measures += [risk.MeanCVaR(0.3, 0.1), risk.Contamination(0.2)]
    measures += [
        risk.FDivergencePenalty(0.4 * scale, lambda t: t**2 - 1, lambda y: np.maximum(y / 2, 0))
    ]
    return measures


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_properties_of_every_measure(rng, scale):
    p = hard_rows(rng, 6)
    for measure in everything(scale):
        V, U = scale * rng.normal(size=(2, 5))
        V[3] = V[1]
        W, q = measure.expectation(p, V), measure.worst_case(p, V)
        size = np.abs(V).max()
        tight, name = 1e-9 * size, repr(measure)
        # 8.1.2: in the simplex and on the support, strong duality, supergradient
        assert (q >= 0).all(), name
        np.testing.assert_allclose(q.sum(1), 1.0, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(
            q @ V + measure.penalty(q, p), W, rtol=0, atol=tight, err_msg=name
        )
        assert (measure.expectation(p, U) <= W + q @ (U - V) + tight).all(), name
        # 8.1.1: between the extremes, translation, monotone, concave, non-expansive
        assert (W <= p @ V + tight).all(), name
        assert (V.min() - tight <= W).all(), name
        np.testing.assert_allclose(
            measure.expectation(p, V + 3 * scale), W + 3 * scale, rtol=0, atol=tight, err_msg=name
        )
        higher = measure.expectation(p, V + np.abs(U))
        assert (higher >= W - tight).all(), name
        assert (np.abs(higher - W) <= np.abs(U).max() + tight).all(), name
        middle = measure.expectation(p, (V + U) / 2)
        assert (middle >= (W + measure.expectation(p, U)) / 2 - tight).all(), name
        # scale rule of §1.3 for sets; D(p, p) = 0; constants cost nothing
        np.testing.assert_allclose(measure.penalty(p, p), 0.0, atol=1e-12 * scale, err_msg=name)
        np.testing.assert_allclose(measure.expectation(p, np.full(5, V[0])), V[0], rtol=1e-12)


def hostile_rows(rng, S):
    """Probabilities down to 1e-300, one state, ties, zeros."""
    p = np.vstack([rng.dirichlet(np.full(S, 0.3), 3), 10.0 ** rng.uniform(-30, 0, (2, S))])
    p[2] *= rng.random(S) < 0.5
    p[2, 0] += 1e-9
    p = np.vstack([p, np.full((3, S), [[1e-300], [1e-17], [1.0]])])
    p[5:7, rng.integers(S)] = 1.0
    return p / p.sum(1, keepdims=True)


def hostile_values(rng, S):
    near = np.where(rng.random(S) < 0.5, 1e-13 * rng.random(S), 1.0)
    choices = [rng.normal(size=S), rng.choice([0.0, 1.0], S), 10.0 ** rng.uniform(-12, 3, S)]
    choices += [near, np.zeros(S), 1.0 + 1e-12 * rng.normal(size=S)]
    return choices[rng.integers(6)] * 10.0 ** rng.integers(-6, 7)


OWN = (  # divergences as a user writes them
    lambda t: (np.sqrt(t) - 1.0) ** 2,
    lambda t: np.abs(t - 1.0) / 3.0,
    lambda t: np.maximum(np.abs(t - 1.0) - 0.5, 0.0) ** 2,
    lambda t: t * np.log(np.maximum(t, 1e-300)) - t + 1.0,
    lambda t: 1.0 / t + t - 2.0,
)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(20))
def test_hostile_input(seed):
    rng = np.random.default_rng(seed)
    S = rng.integers(1, 8)
    p, V = hostile_rows(rng, S), hostile_values(rng, S)
    size = np.abs(V).max() or 1.0
    radius, weight = 10.0 ** rng.uniform(-12, 1.5), size * 10.0 ** rng.uniform(-9, 6)
    u = rng.choice(["nominal", "full"])
    plain = ("wasserstein-metric", "weighted-l1")
    measures = [make(weight, u) for name, (make, _) in PENALTIES.items() if name not in plain]
    measures += [make(radius, u) for name, (make, _) in BALLS.items() if name not in plain]
    measures += [risk.CVaR(min(radius, 1.0)), risk.MeanCVaR(0.3, min(radius, 1.0))]
    measures.append(risk.WeightedL1Ball(radius, 10.0 ** rng.uniform(-2, 2, S), u))
    measures += [risk.FDivergencePenalty(weight, f) for f in OWN]
    rival = rng.dirichlet(np.ones(S), len(p)) * (p > 0)
    rival /= rival.sum(1, keepdims=True)
    for measure in measures:
        W, q, name = measure.expectation(p, V), measure.worst_case(p, V), repr(measure)
        tight = 1e-9 * size + 1e-14 * weight
        assert (q >= 0.0).all(), name
        np.testing.assert_allclose(q.sum(1), 1.0, atol=1e-11, err_msg=name)
        np.testing.assert_allclose(q @ V + measure.penalty(q, p), W, 0, tight, err_msg=name)
        assert (W <= p @ V + tight).all(), name
        for share in (1e-6, 1e-3, 0.1, 1.0):  # no rival does worse for us
            for start in (p, q):
                other = (1 - share) * start + share * rival
                assert (other @ V + measure.penalty(other, p) >= W - 1e-7 * size - tight).all(), (
                    name
                )


def test_gradient_of_the_expectation_is_the_worst_case(rng):
    p = rng.dirichlet(np.ones(5), size=3)
    smooth = [risk.Entropic(1.3), risk.Chi2Penalty(0.7), risk.BurgPenalty(0.4), risk.KLBall(0.1)]
    smooth += [risk.CressieReadPenalty(0.5, 1.5), risk.BurgBall(0.1), risk.Chi2Ball(0.1)]
    smooth += [risk.L2Ball(0.05)]
    for measure in smooth:
        V, step = rng.normal(size=5), 1e-5 * rng.normal(size=5)
        rise = measure.expectation(p, V + step) - measure.expectation(p, V - step)
        want = 2 * measure.worst_case(p, V) @ step
        np.testing.assert_allclose(rise, want, rtol=1e-5, atol=1e-12)


def test_one_state_and_one_successor():
    for measure in everything():
        if isinstance(measure, risk.WeightedL1Ball) or not isinstance(measure.support, str):
            continue
        if getattr(measure, "metric", None) is not None:
            continue
        assert measure.expectation(np.ones(1), np.array([-7.0])) == pytest.approx(-7.0)
        assert measure.worst_case(np.ones((2, 1)), np.array([3.0])).tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("magnitude", [1e-6, 1.0, 1e6])
def test_limits(rng, magnitude):
    p, V = hard_rows(rng, 6), magnitude * rng.normal(size=5)
    mean, tight = p @ V, 1e-9 * magnitude
    variance = p @ V**2 - mean**2
    least = np.array([V[row > 0].min() for row in p])

    def near(measure, want, error=tight):
        np.testing.assert_allclose(measure.expectation(p, V), want, rtol=0, atol=error)

    for beta in (1e-12, 1e-6, 1e-3):
        near(
            risk.Entropic(beta / magnitude),
            mean - beta / magnitude / 2 * variance,
            magnitude * (beta**2 + 1e-14) * 10,
        )
    near(risk.Entropic(0.0), mean)
    near(risk.Entropic(1e12 / magnitude), least)
    near(risk.CVaR(1.0), mean)
    near(risk.CVaR(1e-9), least)
    near(risk.Chi2Penalty(20 * magnitude), mean - variance / 80 / magnitude)
    near(risk.Chi2Penalty(1e-12 * magnitude), least)
    near(risk.L1Penalty(np.ptp(V) / 2, "full"), mean)
    near(risk.L1Penalty(0.0, "full"), V.min())
    near(risk.WassersteinPenalty(np.ptp(V)), mean)
    for make, _ in BALLS.values():
        near(make(0.0, "nominal"), mean)
        near(make(1e-13, "nominal"), mean, 1e-5 * magnitude)
        if make(1.0, "nominal").__class__ is not risk.BurgBall:
            near(make(100.0, "nominal"), least)
    near(risk.BurgBall(50.0), least, 1e-6 * magnitude)
    for name, (make, _) in PENALTIES.items():
        near(make(1e9 * magnitude, "nominal"), mean, 1e-8 * magnitude)
        near(
            make(1e-9 * magnitude, "nominal"), least, magnitude * (1e-3 if name == "cr-1" else 1e-6)
        )  # sqrt


def test_entropic_small_risk_aversion_keeps_its_digits():
    p, V = np.array([0.25, 0.75]), np.array([1e3, 1e3 + 1.0])
    want = 1e3 + 0.75 - 1e-12 / 2 * 0.25 * 0.75
    assert risk.Entropic(1e-12).expectation(p, V) == pytest.approx(want, abs=3e-13)


def test_impossible_successors_do_not_reach_the_exponent():
    p, V = np.array([0.0, 0.5, 0.5]), np.array([-1e6, 0.0, 1.0])
    want = -np.log((1 + np.exp(-1.0)) / 2)
    assert risk.Entropic(1.0).expectation(p, V) == pytest.approx(want, abs=1e-12)


def test_relations_between_measures(rng):
    p, V = rng.dirichlet(np.ones(5), size=4), rng.normal(size=5)
    ball = risk.KLBall(0.1).expectation(p, V)
    best = np.full(4, -np.inf)
    for beta in np.exp(np.linspace(-3, 4, 2000)):
        soft = risk.Entropic(beta).expectation(p, V) - 0.1 / beta
        assert (soft <= ball + 1e-12).all()
        best = np.maximum(best, soft)
    np.testing.assert_allclose(best, ball, atol=1e-5)
    assert (ball >= risk.TVBall(np.sqrt(0.05)).expectation(p, V)).all()  # Pinsker
    l1, tv = risk.L1Ball(0.3).expectation(p, V), risk.TVBall(0.15).expectation(p, V)
    np.testing.assert_allclose(l1, tv, rtol=1e-12)
    weighted = risk.WeightedL1Ball(0.6, np.full(5, 2.0)).expectation(p, V)
    np.testing.assert_allclose(weighted, l1, rtol=1e-10)
    three = np.array([0.2, 0.5, 0.3])
    np.testing.assert_allclose(
        risk.LinfBall(0.1).expectation(three, V[:3]), risk.TVBall(0.1).expectation(three, V[:3])
    )
    entropic = risk.Entropic(2.0).expectation(p, V)
    assert (entropic >= p @ V - 2.0 * np.ptp(V) ** 2 / 8).all()  # Hoeffding
    for same in (
        risk.CressieReadPenalty(0.5, 1.0),
        risk.FDivergencePenalty(0.5, lambda t: t * np.log(np.maximum(t, 1e-300))),
    ):
        np.testing.assert_allclose(same.expectation(p, V), entropic, atol=1e-9)
    np.testing.assert_allclose(
        risk.CressieReadPenalty(0.8, 2.0).expectation(p, V),
        risk.Chi2Penalty(0.4).expectation(p, V),
        atol=1e-12,
    )
    kinked = risk.FDivergencePenalty(0.3, lambda t: np.abs(t - 1))
    np.testing.assert_allclose(
        kinked.expectation(p, V), risk.L1Penalty(0.3).expectation(p, V), atol=1e-7
    )
    given = risk.FDivergencePenalty(
        0.5, lambda t: t * np.log(np.maximum(t, 1e-300)) - t + 1, np.exp
    )
    np.testing.assert_allclose(given.expectation(p, V), entropic, atol=1e-10)


def test_scenarios_take_the_least_mean(rng):
    models = rng.dirichlet(np.ones(5), size=(3, 4))
    V, p = rng.normal(size=5), models[0]
    for measure, like in (
        (risk.Scenarios(models), p),
        (risk.Scenarios([sp.csr_array(m) for m in models]), sp.csr_array(p)),
    ):
        np.testing.assert_allclose(measure.expectation(like, V), (models @ V).min(0))
        q = measure.worst_case(like, V)
        np.testing.assert_allclose(q @ V, (models @ V).min(0))
        assert (measure.penalty(q, like) == 0.0).all()
    inside, outside = models.mean(0), np.eye(5)[[0, 0, 0, 0]]
    assert (risk.Scenarios(models).penalty(inside, p) == 0.0).all()
    assert np.isinf(risk.Scenarios(models).penalty(outside, p)).all()


def test_penalty_is_infinite_outside():
    p = np.array([[0.5, 0.5, 0.0, 0.0, 0.0]])
    q = np.array([[0.2, 0.5, 0.0, 0.0, 0.3]])
    for measure in everything():
        nominal = isinstance(measure.support, str) and measure.support == "nominal"
        if nominal or not isinstance(measure.support, str):
            assert np.isinf(measure.penalty(q, p)), measure
    near = np.array([[0.45, 0.55, 0.0, 0.0, 0.0]])
    for make, _ in BALLS.values():
        assert np.isinf(make(1e-4, "nominal").penalty(near, p))
        assert make(0.2, "nominal").penalty(near, p) == 0.0


# ----------------------------------------------------------------------------- shapes and sparsity


def test_leading_axes_and_values_per_row(rng):
    p, V = rng.dirichlet(np.ones(5), size=(2, 3)), rng.normal(size=5)
    for measure in (risk.Entropic(1.0), risk.TVBall(0.1), risk.WassersteinPenalty(0.3)):
        W = measure.expectation(p, V)
        assert W.shape == (2, 3)
        assert measure.worst_case(p, V).shape == (2, 3, 5)
        assert W[1, 2] == pytest.approx(float(measure.expectation(p[1, 2], V)))
        np.testing.assert_allclose(measure.expectation(p, np.broadcast_to(V, p.shape)), W)


def sparse_kernel(rng, rows, S, most=9):
    P = np.zeros((rows, S))
    for row in P:
        n = rng.integers(1, most + 1)
        row[rng.choice(S, n, replace=False)] = rng.dirichlet(np.ones(n))
    return P


def test_sparse_agrees_with_dense(rng):
    S = 30
    P, V = sparse_kernel(rng, 40, S), rng.normal(size=S)
    V[4] = V[9] = V.min()
    metric = np.abs(rng.normal(size=S)[:, None] - rng.normal(size=S)[None])
    metric = (metric + metric.T) * (1 - np.eye(S))
    sets = [rng.integers(0, S, 4), rng.random((40, S)) < 0.1]
    measures = [
        make(0.3, u)
        for make, _ in PENALTIES.values()
        for u in ("nominal", "full", *sets)
        if make is not PENALTIES["wasserstein-metric"][0]
    ]
    measures += [
        make(0.1, u)
        for n, (make, _) in BALLS.items()
        for u in ("nominal", "full", *sets)
        if n not in ("weighted-l1", "wasserstein-metric")
    ]
    measures += [risk.WeightedL1Ball(0.2, rng.uniform(0.5, 2.0, S), u) for u in ("nominal", "full")]
    measures += [risk.WassersteinBall(0.2, metric, u) for u in ("nominal", "full")]
    measures += [risk.WassersteinPenalty(0.2, metric, u) for u in ("nominal", "full")]
    measures += [risk.Contamination(0.1), risk.CVaR(0.2), risk.WorstCase("full"), risk.Nominal()]
    lower, upper = 0.5 * P, np.minimum(2 * P + 0.1, 1)
    measures += [risk.IntervalBall(lower, upper, u) for u in ("nominal", "full")]
    for measure in measures:
        sparse = sp.csr_array(P)
        W = measure.expectation(P, V)
        np.testing.assert_allclose(
            measure.expectation(sparse, V), W, atol=1e-12, err_msg=repr(measure)
        )
        q = measure.worst_case(sparse, V)
        assert sp.issparse(q)
        cost = measure.penalty(q, sparse)
        np.testing.assert_allclose(q @ V + cost, W, atol=1e-9, err_msg=repr(measure))
        np.testing.assert_allclose(measure.penalty(q.toarray(), P), cost, atol=1e-10)


def test_many_states_stay_sparse(rng):
    S, n = 50_000, 4
    columns = np.sort(rng.integers(0, S - n, (2000, 1)) + np.arange(n), axis=1)
    data = rng.dirichlet(np.ones(n), size=2000)
    P = sp.csr_array((data.ravel(), columns.ravel(), np.arange(0, 8001, n)), shape=(2000, S))
    V = rng.normal(size=S)
    measures = [
        make(0.3, "nominal") for name, (make, _) in PENALTIES.items() if "metric" not in name
    ]
    measures += [risk.KLBall(0.1), risk.TVBall(0.1, "full"), risk.LinfBall(0.1, "full")]
    measures += [risk.BurgBall(0.1, "full"), risk.L2Ball(0.1), risk.WassersteinPenalty(0.1)]
    few = P[[0, 1]]
    for measure in measures:
        W = measure.expectation(P, V)
        q = measure.worst_case(P, V)
        np.testing.assert_allclose(q @ V + measure.penalty(q, P), W, atol=1e-9)
        if not measure.quadratic:
            np.testing.assert_allclose(measure.expectation(few.toarray(), V), W[:2], atol=1e-12)


# --------------------------------------------------------------------------- golden tables 8.3, 8.4


def robust_value_iteration(P, r, measure, gamma=0.95, tolerance=1e-10):
    V = np.zeros(len(r))
    while True:
        Q = r + gamma * measure.expectation(P, V).reshape(r.shape)
        change = Q.max(1) - V
        V = Q.max(1) + gamma / (1 - gamma) * (change.max() + change.min()) / 2
        if np.ptp(change) * gamma / (1 - gamma) < tolerance:
            return V, Q.argmax(1)


def river():
    P, r = np.zeros((6, 2, 6)), np.zeros((6, 2))
    r[0, 0], r[5, 1] = 0.005, 1.0
    for s in range(6):
        P[s, 0, max(s - 1, 0)] = 1.0
        P[s, 1, max(s - 1, 0) : s + 2] = [0.1, 0.6, 0.3][: min(s, 4) and 3] if 0 < s < 5 else 0.0
    P[0, 1, :2], P[5, 1, 4:] = [0.7, 0.3], [0.7, 0.3]
    return P, r


GOLDEN = [
    (risk.Nominal(), 3.525922598, 2.045977155, "RRRRRR"),
    (risk.Entropic(0.1), 3.281329609, 1.867298931, "RRRRRR"),
    (risk.Entropic(1.0), 1.797952795, 0.890667867, "RRRRRR"),
    (risk.WorstCase(), 0.254969370, 0.100000000, "LLLLLR"),
    (risk.Chi2Penalty(1.0), 2.429277220, 1.286528233, "RRRRRR"),
    (risk.L1Penalty(0.5, "full"), 1.112258707, 0.575919118, "RRRRRR"),
    (risk.L1Penalty(0.5, "nominal"), 1.906504586, 1.046756641, "RRRRRR"),
    (risk.CVaR(0.9), 2.119574385, 0.947673638, "RRRRRR"),
    (risk.CVaR(0.5), 0.254969370, 0.100000000, "LLLLLR"),
    (risk.KLBall(0.05), 1.106196714, 0.300688184, "RRRRRR"),
    (risk.TVBall(0.1, "nominal"), 1.191012575, 0.361023478, "RRRRRR"),
    (risk.LinfBall(0.1, "nominal"), 1.191012575, 0.361023478, "RRRRRR"),
    (risk.LinfBall(0.1, "full"), 0.535513918, 0.100000000, "LRRRRR"),
    (risk.WassersteinPenalty(2.0), 3.525922598, 2.045977155, "RRRRRR"),
    (risk.Contamination(0.1), 1.363893140, 0.568481647, "RRRRRR"),
]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("measure", "mean", "first", "policy"), GOLDEN)
def test_golden_river(measure, mean, first, policy, sparse):
    P, r = river()
    V, choice = robust_value_iteration(FiniteMDP(P, r, np.eye(6)[0]).P if sparse else P, r, measure)
    assert V.mean() == pytest.approx(mean, abs=1e-8)
    assert V[0] == pytest.approx(first, abs=1e-8)
    assert "".join("LR"[a] for a in choice) == policy


TOY10 = {
    0.01: "71.55682471 71.16011760 65.24502456 -0.78146507 -18.83821789 -24.77020559 -39.81725974",
    0.15: "16.91444142 16.69727730 14.66570561 -24.58112602 -33.34292193 -37.50450869 -44.90551375",
}
BETAS = [0.0, 0.01, 0.1, 1.0, 2.0, 3.0, 10.0]
POLICIES = {
    (0.01, 0.1): "00222222100000",
    (0.01, 1.0): "22210000122222",
    (0.01, 2.0): "00210000122210",
    (0.01, 3.0): "00010000122210",
    (0.15, 0.01): "22210000122212",
    (0.15, 0.1): "22210000122210",
    (0.15, 1.0): "00000000122210",
}


@pytest.mark.parametrize("noise", TOY10)
def test_golden_ring(noise):
    mdp = RingEnv(p=noise).mdp
    for beta, mean in zip(BETAS, map(float, TOY10[noise].split()), strict=True):
        V, choice = robust_value_iteration(mdp.P, mdp.r, risk.Entropic(beta))
        assert V.mean() == pytest.approx(mean, abs=2e-8)
        if (noise, beta) in POLICIES:
            assert "".join(map(str, choice)) == POLICIES[noise, beta]
