"""Nature on the rows of an MDP: linear programs, scalar duals and exact arithmetic as oracles.

Q(s, a) = min_q E_q z + γ D(q, p) over the states where nature may put mass; z is r(s, a, s') +
γ V(s') where P stores s', and γ V(s') elsewhere.
"""

from decimal import Decimal, localcontext

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import brentq, linprog, minimize_scalar

from rlentropy import FiniteMDP, risk
from rlentropy.planning import robust_evaluation, robust_optimum, robust_policy_gradient
from rlentropy.planning.nature import Nature

# ------------------------------------------------------- oracles: one row, its states and values z


def program(z, p, cost, shape, weight=None, radius=None, lower=None, upper=None):
    """min E_q z + weight Σ cost x, or over Σ cost x <= radius; q = p + shape @ x, x >= 0."""
    low, span = z.min(), np.ptp(z) or 1.0
    y = (z - low) / span
    scale = cost.max() or 1.0
    price = 0.0 if weight is None else cost * (weight / span)
    limits, caps = [-shape], [p if lower is None else p - lower]
    if upper is not None:
        limits.append(shape)
        caps.append(upper - p)
    if radius is not None:
        limits.append(cost[None] / scale)
        caps.append(np.array([radius / scale]))
    found = linprog(
        shape.T @ y + price,
        A_ub=np.vstack(limits),
        b_ub=np.concatenate(caps),
        A_eq=shape.sum(0)[None],
        b_eq=[0.0],
        bounds=(0.0, 4.0),
        method="highs",
    )
    assert found.status == 0, found.message
    return low + span * (p @ y + found.fun)


def shifts(w):
    """What each state gains and loses, at a cost per unit of probability."""
    n = len(w)
    return np.concatenate([w, w]), np.hstack([np.eye(n), -np.eye(n)])


def moves(d):
    """Mass that moves from i to j, at a cost per unit and distance."""
    n = len(d)
    shape = np.zeros((n, n, n))
    for i in range(n):
        shape[i, i, :] -= 1.0
        shape[i, :, i] += 1.0
    return d.ravel(), shape.reshape(n, n * n)


def transported(q, p, d):
    gives = np.kron(np.eye(len(p)), np.ones(len(p)))
    takes = np.kron(np.ones(len(p)), np.eye(len(p)))
    found = linprog(d.ravel(), A_eq=np.vstack([gives, takes])[:-1], b_eq=np.append(p, q)[:-1])
    assert found.status == 0
    return found.fun


def between(z, p, lower, upper):
    """Least E_q z between bounds."""
    low, span = z.min(), np.ptp(z) or 1.0
    ones = np.ones((1, len(z)))
    limits = np.stack([lower, upper], 1)
    found = linprog((z - low) / span, A_eq=ones, b_eq=[1.0], bounds=limits)
    assert found.status == 0
    return low + span * found.fun


def entropic(p, z, k):
    """-k log E exp(-z / k), to 60 digits."""
    with localcontext() as context:
        context.prec = 60
        weights = [Decimal(float(x)) for x in p]
        scale, low = Decimal(float(k)), Decimal(float(z.min()))
        total = sum(weights)
        mean = sum(
            w / total * ((low - Decimal(float(x))) / scale).exp()
            for w, x in zip(weights, z, strict=True)
            if w
        )
        return float(low - scale * mean.ln())


def concave(f, low, high):
    """Largest value of a concave function on [low, high]; it is flat there, so 1e-9 is enough."""
    found = minimize_scalar(
        lambda x: -f(x), bounds=(low, high), method="bounded", options={"xatol": 1e-9}
    )
    return max(-found.fun, f(low), f(high))


def divergence_dual(p, z, k, conjugate, slope, radius=0.0):
    """max_η η - κ E f*((η - z)/κ) over η <= min z off p + κ f'(∞); at κ = k, or less κ radius."""
    if not np.ptp(z):
        return z[0]
    low, span = z.min(), np.ptp(z)
    y, on, k = (z - low) / span, p > 0.0, k / span

    def at(kappa):
        ceiling = y.min() + 1.0 + 2.0 * kappa + 2.0
        if np.isfinite(slope) and (~on).any():
            ceiling = min(ceiling, y[~on].min() + kappa * slope)
        if np.isfinite(slope):
            ceiling = min(ceiling, y[on].min() + kappa * slope * (1.0 - 1e-15))

        def dual(eta):
            return eta - kappa * (p[on] @ conjugate((eta - y[on]) / kappa))

        return concave(dual, -1.0 - 3.0 * kappa, ceiling)

    if not radius:
        return low + span * at(k)
    return low + span * concave(lambda t: at(np.exp(t)) - np.exp(t) * radius, -25.0, 7.0)


def kl_ball(p, z, radius):
    on = p > 0.0
    p, low = p[on] / p[on].sum(), z[on].min()
    span = np.ptp(z[on]) or 1.0
    y = (z[on] - low) / span
    if not y.any() or radius == 0.0:
        return low + span * (p @ y)
    if radius >= -np.log(p[y == 0.0].sum()):
        return low

    def tilted(log_b):
        q = p * np.exp(-np.exp(log_b) * y)
        return q / q.sum()

    def excess(log_b):
        q = tilted(log_b)
        t = q / p - 1.0
        small = np.where(np.abs(t) < 1e-4, t * t / 2 - t**3 / 6, 0.0)
        safe = np.where(q > 0.0, q / p, 1.0)
        return (p * np.where(np.abs(t) < 1e-4, small, safe * np.log(safe) - t)).sum() - radius

    return low + span * (tilted(brentq(excess, -20.0, 40.0, xtol=1e-14, rtol=1e-14)) @ y)


def chi2_ball(p, z, radius):
    on = p > 0.0
    low, span = z[on].min(), np.ptp(z[on]) or 1.0
    p, y = p[on] / p[on].sum(), (z[on] - low) / span

    def dual(eta):
        below = np.maximum(eta - y, 0.0)
        return eta - np.sqrt((1.0 + radius) * (p @ below**2))

    # beyond the largest value the dual is that of mean and deviation
    deviation = np.sqrt(p @ (y - p @ y) ** 2)
    top = 1.0 + deviation / np.sqrt(max(radius, 1e-12)) + 1.0
    return low + span * concave(dual, 0.0, top)


def l2_ball(p, z, radius):
    """Project p - t z on the simplex, for the t at which the ball ends."""
    low, span = z.min(), np.ptp(z) or 1.0
    y = (z - low) / span

    def projected(v):
        shift = brentq(lambda c: np.maximum(v - c, 0.0).sum() - 1.0, v.min() - 1.0, v.max())
        return np.maximum(v - shift, 0.0)

    def at(log_t):
        return projected(p - np.exp(log_t) * y)

    least = projected(np.where(y == 0.0, p, -10.0))
    if np.linalg.norm(least - p) <= radius or not y.any():
        return low + span * (least @ y) if y.any() else low
    t = brentq(lambda u: np.linalg.norm(at(u) - p) - radius, -20.0, 20.0, xtol=1e-14)
    return low + span * (at(t) @ y)


def ratio(q, p):
    return np.where(p > 0.0, q / np.where(p > 0.0, p, 1.0), 1.0)


def kl(q, p):
    t = ratio(q, p)
    return (p * (t * np.log(np.where(t > 0.0, t, 1.0)) - t + 1.0))[p > 0.0].sum()


def burg(q, p):
    t = np.maximum(ratio(q, p), 1e-300)
    return (p * (t - 1.0 - np.log(t)))[p > 0.0].sum() + q[p == 0.0].sum()


def cressie_read(a):
    def distance(q, p):
        inner = (p * (ratio(q, p) ** a - a * ratio(q, p) + a - 1.0))[p > 0.0].sum()
        return inner / (a * (a - 1.0)) + (q[p == 0.0].sum() / (1.0 - a) if a < 1.0 else 0.0)

    def conjugate(y):
        with np.errstate(divide="ignore"):
            return (np.maximum(1.0 + (a - 1.0) * y, 0.0) ** (a / (a - 1.0)) - 1.0) / a

    return distance, conjugate, 1.0 / (1.0 - a) if a < 1.0 else np.inf


def burg_conjugate(y):
    with np.errstate(divide="ignore", invalid="ignore"):
        return -np.log1p(-y)


def kinked(t):
    return np.abs(t - 1.0)


def kinked_response(y):
    return np.where(y < -1.0, 0.0, np.where(y <= 1.0, 1.0, np.inf))


CR_LOW, CR_HIGH = cressie_read(0.5), cressie_read(1.5)
S = 6
WEIGHTS = np.array([0.5, 1.0, 2.0, 1.5, 0.7, 1.0])
LINE = np.abs(np.arange(S)[:, None] - np.arange(S)).astype(float)
METRIC = np.array([[abs(i - j) ** 0.5 * (1 + (i > j) / 2) for j in range(S)] for i in range(S)])
FREE = ("nominal", "full", np.array([1, 3]), np.arange(S) % 2 == 0, "rows")

# name: measure from weight k, radius d, support u; Q from p, z, states, k (times γ), d; penalty or
# distance of q from p; whether nature may leave the nominal support
PENALTIES = {
    "entropic": (
        lambda k, d, u: risk.Entropic(1.0 / k),
        lambda p, z, x, k, d: entropic(p, z, k),
        lambda q, p, x: kl(q, p),
        False,
    ),
    "chi2-penalty": (
        lambda k, d, u: risk.Chi2Penalty(k),
        lambda p, z, x, k, d: divergence_dual(
            p, z, k, lambda y: np.where(y >= -2.0, y + y * y / 4.0, -1.0), np.inf
        ),
        lambda q, p, x: (p * (ratio(q, p) - 1.0) ** 2).sum(),
        False,
    ),
    "l1-penalty": (
        lambda k, d, u: risk.L1Penalty(k, u),
        lambda p, z, x, k, d: program(z, p, *shifts(np.ones(len(z))), weight=k),
        lambda q, p, x: np.abs(q - p).sum(),
        True,
    ),
    "burg-penalty": (
        lambda k, d, u: risk.BurgPenalty(k, u),
        lambda p, z, x, k, d: divergence_dual(p, z, k, burg_conjugate, 1.0),
        lambda q, p, x: burg(q, p),
        True,
    ),
    "cressie-read-penalty .5": (
        lambda k, d, u: risk.CressieReadPenalty(k, 0.5, u),
        lambda p, z, x, k, d: divergence_dual(p, z, k, CR_LOW[1], CR_LOW[2]),
        lambda q, p, x: CR_LOW[0](q, p),
        True,
    ),
    "cressie-read-penalty 1.5": (
        lambda k, d, u: risk.CressieReadPenalty(k, 1.5),
        lambda p, z, x, k, d: divergence_dual(p, z, k, CR_HIGH[1], CR_HIGH[2]),
        lambda q, p, x: CR_HIGH[0](q, p),
        False,
    ),
    "f-divergence": (
        lambda k, d, u: risk.FDivergencePenalty(k, kinked, kinked_response),
        lambda p, z, x, k, d: program(z, p, *shifts(np.ones(len(z))), weight=k),
        lambda q, p, x: np.abs(q - p).sum(),
        False,
    ),
    "wasserstein-penalty": (
        lambda k, d, u: risk.WassersteinPenalty(k, METRIC, u),
        lambda p, z, x, k, d: program(z, p, *moves(METRIC[np.ix_(x, x)]), weight=k),
        lambda q, p, x: transported(q, p, METRIC[np.ix_(x, x)]),
        True,
    ),
    "wasserstein-penalty line": (
        lambda k, d, u: risk.WassersteinPenalty(k, support=u),
        lambda p, z, x, k, d: program(z, p, *moves(LINE[np.ix_(x, x)]), weight=k),
        lambda q, p, x: transported(q, p, LINE[np.ix_(x, x)]),
        True,
    ),
}
BALLS = {
    "kl-ball": (
        lambda k, d, u: risk.KLBall(d),
        lambda p, z, x, k, d: kl_ball(p, z, d),
        lambda q, p, x: kl(q, p),
        False,
    ),
    "burg-ball": (
        lambda k, d, u: risk.BurgBall(d, u),
        lambda p, z, x, k, d: divergence_dual(p, z, 1.0, burg_conjugate, 1.0, radius=d),
        lambda q, p, x: burg(q, p),
        True,
    ),
    "chi2-ball": (
        lambda k, d, u: risk.Chi2Ball(d),
        lambda p, z, x, k, d: chi2_ball(p, z, d),
        lambda q, p, x: (p * (ratio(q, p) - 1.0) ** 2).sum(),
        False,
    ),
    "tv-ball": (
        lambda k, d, u: risk.TVBall(d, u),
        lambda p, z, x, k, d: program(z, p, *shifts(np.full(len(z), 0.5)), radius=d),
        lambda q, p, x: 0.5 * np.abs(q - p).sum(),
        True,
    ),
    "l1-ball": (
        lambda k, d, u: risk.L1Ball(d, u),
        lambda p, z, x, k, d: program(z, p, *shifts(np.ones(len(z))), radius=d),
        lambda q, p, x: np.abs(q - p).sum(),
        True,
    ),
    "weighted-l1-ball": (
        lambda k, d, u: risk.WeightedL1Ball(d, WEIGHTS, u),
        lambda p, z, x, k, d: program(z, p, *shifts(WEIGHTS[x]), radius=d),
        lambda q, p, x: WEIGHTS[x] @ np.abs(q - p),
        True,
    ),
    "linf-ball": (
        lambda k, d, u: risk.LinfBall(d, u),
        lambda p, z, x, k, d: between(z, p, np.maximum(p - d, 0.0), np.minimum(p + d, 1.0)),
        lambda q, p, x: np.abs(q - p).max(),
        True,
    ),
    "l2-ball": (
        lambda k, d, u: risk.L2Ball(d, u),
        lambda p, z, x, k, d: l2_ball(p, z, d),
        lambda q, p, x: np.linalg.norm(q - p),
        True,
    ),
    "wasserstein-ball": (
        lambda k, d, u: risk.WassersteinBall(d, METRIC, u),
        lambda p, z, x, k, d: program(z, p, *moves(METRIC[np.ix_(x, x)]), radius=d),
        lambda q, p, x: transported(q, p, METRIC[np.ix_(x, x)]),
        True,
    ),
    "wasserstein-ball line": (
        lambda k, d, u: risk.WassersteinBall(d, support=u),
        lambda p, z, x, k, d: program(z, p, *moves(LINE[np.ix_(x, x)]), radius=d),
        lambda q, p, x: transported(q, p, LINE[np.ix_(x, x)]),
        True,
    ),
}


def outside(q, lower, upper):
    return max(0.0, (lower - q).max(), (q - upper).max())


SETS = {  # parameters of their own; the distance is to the set, and the radius 0
    "nominal": (
        lambda k, d, u: risk.Nominal(),
        lambda p, z, x, k, d: p @ z,
        lambda q, p, x: np.abs(q - p).max(),
        False,
    ),
    "worst-case": (
        lambda k, d, u: risk.WorstCase(u),
        lambda p, z, x, k, d: z.min(),
        lambda q, p, x: 0.0,
        True,
    ),
    "contamination": (
        lambda k, d, u: risk.Contamination(0.2, u),
        lambda p, z, x, k, d: between(z, p, 0.8 * p, np.ones(len(p))),
        lambda q, p, x: outside(q, 0.8 * p, np.ones(len(p))),
        True,
    ),
    "cvar": (
        lambda k, d, u: risk.CVaR(0.3),
        lambda p, z, x, k, d: between(z, p, 0.0 * p, p / 0.3),
        lambda q, p, x: outside(q, 0.0 * p, p / 0.3),
        False,
    ),
    "mean-cvar": (
        lambda k, d, u: risk.MeanCVaR(0.4, 0.2),
        lambda p, z, x, k, d: between(z, p, 0.6 * p, 2.6 * p),
        lambda q, p, x: outside(q, 0.6 * p, 2.6 * p),
        False,
    ),
    "interval-ball": (
        lambda k, d, u: risk.IntervalBall(np.zeros(S), np.linspace(0.9, 1.0, S), "full"),
        lambda p, z, x, k, d: between(z, p, 0.0 * p, np.linspace(0.9, 1.0, S)[x]),
        lambda q, p, x: outside(q, 0.0 * p, np.linspace(0.9, 1.0, S)[x]),
        None,
    ),
}
CASES = PENALTIES | BALLS | SETS


class Model:
    """P (S, A, S) with zeros, ties, deterministic rows and one end; r (S, A) or (S, A, S)."""

    def __init__(self, rng, paid):
        P = rng.dirichlet(np.full(S, 0.8), size=(S, 2)) * (rng.random((S, 2, S)) < 0.6)
        P[0] = np.ceil(4.0 * P[0]) / 4.0
        P[1, 0] = 10.0 ** rng.uniform(-6, 0, S)
        P[..., 2] += P.sum(2) == 0.0
        P[2, 1] = np.eye(S)[4]
        self.terminal = np.arange(S) == 5
        P[5] = np.eye(S)[5]
        self.P = P / P.sum(2, keepdims=True)
        r = rng.choice([-1.0, 0.0, 0.3, 1.0], (S, 2, S)) if paid else rng.normal(size=(S, 2))
        r[5] = 0.0
        self.r, self.paid = r, paid

    @property
    def mdp(self):
        return FiniteMDP(self.P, self.r, np.full(S, 1.0 / S), terminal=self.terminal)

    def row(self, i, V, gamma, allowed):
        """p, z and the states of row i that are allowed."""
        s, a = divmod(i, 2)
        p = self.P[s, a]
        x = np.flatnonzero((p > 0.0) | allowed[i])
        z = gamma * V + (np.where(p > 0.0, self.r[s, a], 0.0) if self.paid else self.r[s, a])
        return p[x], z[x], x


def supports(rng, case):
    """(support, the states that it allows in each row)."""
    free = CASES[case][3]
    for support in FREE if free else ("full",) if free is None else ("nominal",):
        allowed = np.zeros((2 * S, S), bool)
        if isinstance(support, str) and support == "rows":
            allowed = rng.random((2 * S, S)) < 0.4
            support = allowed
        elif isinstance(support, str):
            allowed[:] = support == "full"
        else:
            allowed[:, support] = True
        yield support, allowed


def check(m, case, V, gamma, k, d, support, allowed, nature=None):
    make, solve, distance, _ = CASES[case]
    nature = Nature(m.mdp, make(k, d, support), gamma) if nature is None else nature
    Q, kernel = nature.backup(V).ravel(), nature.kernel(V).toarray()
    size = gamma * np.ptp(V) + np.abs(m.r).max()
    tight = 2e-8 * size + 1e-14 * np.abs(V).max()
    assert (kernel >= 0.0).all()
    np.testing.assert_allclose(kernel.sum(1), 1.0, rtol=0, atol=1e-12)
    for i in range(2 * S):
        if m.terminal[i // 2]:
            assert Q[i] == gamma * V[i // 2]
            assert kernel[i, i // 2] == 1.0
            continue
        p, z, x = m.row(i, V, gamma, allowed)
        q = kernel[i, x]
        assert q.sum() == pytest.approx(1.0, abs=1e-12)
        want = solve(p, z, x, gamma * k, d)
        assert Q[i] == pytest.approx(want, rel=0, abs=tight), (case, support, i)
        far = distance(q, p, x)
        if case in PENALTIES:
            assert q @ z + gamma * k * far == pytest.approx(Q[i], rel=0, abs=tight)
        else:
            assert q @ z == pytest.approx(Q[i], rel=0, abs=tight)
            assert far <= (d if case in BALLS else 0.0) * (1.0 + 1e-6) + 1e-9
    return Q


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("paid", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_backups_and_worst_cases(rng, case, paid, scale) -> None:
    for support, allowed in list(supports(rng, case))[:: 1 if scale == 1.0 else 2]:
        m = Model(rng, paid)
        m.r *= scale
        V = scale * rng.choice([-1.0, 0.3, 0.3, 2.0, 0.9, -3.0], S)
        k, d = scale * rng.choice([0.2, 0.7, 3.0]), rng.choice([0.01, 0.15, 0.5])
        check(m, case, V, 0.9, k, d, support, allowed)


def test_planning_leaves_the_model_alone(rng) -> None:
    for case in CASES:
        m = Model(rng, True)
        mdp, support = m.mdp, next(iter(supports(rng, case)))[0]
        robust_optimum(mdp, CASES[case][0](0.4, 0.2, support), 0.9, 1e-2)
        np.testing.assert_array_equal(mdp.P.toarray(), m.P.reshape(-1, S))
        np.testing.assert_array_equal(mdp.r, FiniteMDP(m.P, m.r, mdp.mu, terminal=m.terminal).r)


@pytest.mark.parametrize("paid", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_answers_do_not_depend_on_earlier_calls(rng, case, paid) -> None:
    """Fills rearrange their rows, and KL balls start where they ended."""
    m = Model(rng, paid)
    support, _ = list(supports(rng, case))[-1]
    measure = CASES[case][0](0.4, 0.2, support)
    used = Nature(m.mdp, measure, 0.9)
    every = np.arange(2 * S, dtype=np.uint32)
    V = rng.normal(size=S)
    for scale in (1.0, 1e3, 1e-9, 0.0):
        V = V[::-1] + scale * rng.normal(size=S) if scale else np.full(S, 3.0)
        fresh, size = Nature(m.mdp, measure, 0.9), np.abs(V).max() + 1.0
        Q = used.backup(V)
        np.testing.assert_allclose(Q, fresh.backup(V), rtol=0, atol=1e-11 * size)
        some = rng.permutation(every)[:5]
        np.testing.assert_allclose(
            used.expectations(V, some), fresh.expectations(V)[some], rtol=0, atol=1e-11 * size
        )
        # where the worst case is not unique the two may differ, but not in what they cost
        one, two = used.kernel(V).toarray(), fresh.kernel(V).toarray()
        z = np.where(m.P > 0.0, m.r, 0.0) if paid else np.zeros((S, 2, S))
        gain = [(q.reshape(S, 2, S) * (z + 0.9 * V)).sum(2) for q in (one, two)]
        np.testing.assert_allclose(*gain, rtol=0, atol=1e-6 * size)
        start, state, q = used.worst_cases(V, some)
        for k, i in enumerate(some):
            row = np.zeros(S)
            np.add.at(row, state[start[k] : start[k + 1]], q[start[k] : start[k + 1]])
            np.testing.assert_allclose(row, one[i], rtol=0, atol=1e-6)


@pytest.mark.parametrize("exponent", range(-12, 6))
@pytest.mark.parametrize("paid", [False, True])
def test_entropic_over_all_of_its_range(rng, paid, exponent) -> None:
    """β span(V) from 1e-12 to 1e5, where rows far above the least state underflow."""
    m = Model(rng, paid)
    for magnitude in (1e-6, 1.0, 1e6):
        V = magnitude * np.append(rng.random(3), [0.0, 1.0, 1.0 - 1e-9])
        m.r = magnitude * rng.normal(size=m.r.shape)
        m.r[5] = 0.0
        k = magnitude / 10.0**exponent
        Q = Nature(m.mdp, risk.Entropic(1.0 / k), 0.9).backup(V).ravel()
        for i in range(2 * (S - 1)):
            p, z, _ = m.row(i, V, 0.9, np.zeros((2 * S, S), bool))
            want = entropic(p, z, 0.9 * k)
            assert Q[i] == pytest.approx(want, rel=0, abs=2e-14 * (np.abs(z).max() + magnitude))


@pytest.mark.parametrize("least", [0.4, 1e-3, 1e-9, 1e-22])
def test_kl_ball_from_tiny_radii_to_its_collapse(rng, least) -> None:
    """Where the least state is rare, KL stays level over many orders of the multiplier."""
    for n in (2, 3, 6):
        p = np.zeros((S, 1, S))
        p[:, 0, 1:n] = rng.dirichlet(np.ones(n - 1), S) * (1.0 - least)
        p[:, 0, 0] = least
        mdp = FiniteMDP(p, np.zeros((S, 1)), np.full(S, 1.0 / S))
        V = np.append(0.0, rng.choice([1.0, 0.5, 1e-2, 1e-7], S - 1))
        edge = -np.log(least)
        radii = [1e-14, 1e-10, 1e-6, 1e-3, 0.02 * edge, 0.5 * edge, 2.0 * edge]
        radii += [edge * (1.0 + sign * gap) for sign in (-1, 1) for gap in (1e-3, 1e-6, 1e-12)]
        for radius in radii:
            nature = Nature(mdp, risk.KLBall(radius), 0.5)
            want = [0.5 * kl_ball(row, V, radius) for row in p[:, 0]]
            np.testing.assert_allclose(
                nature.backup(V)[:, 0], want, rtol=1e-8, atol=2e-11, err_msg=f"{radius}"
            )
            for q, row in zip(nature.kernel(V).toarray(), p[:, 0], strict=True):
                assert kl(q, row) <= radius + 1e-6


@pytest.mark.parametrize(
    "measure", [risk.KLBall(0.1), risk.Entropic(1.0), risk.TVBall(0.1)], ids=repr
)
def test_values_that_all_but_vanish(measure) -> None:
    """As they do where nothing is earned any more: squares underflow."""
    mdp = FiniteMDP(np.full((2, 1, 2), 0.5), np.zeros((2, 1)), [0.5, 0.5])
    for gap in (1e-100, 1e-200, 1e-310):
        W = Nature(mdp, measure, 0.9).expectations(np.array([0.0, gap]))
        assert (W >= 0.0).all()
        assert (W <= 0.5 * gap).all()


@pytest.mark.parametrize("support", ["nominal", "full"])
def test_worst_cases_are_never_negative(rng, support) -> None:
    """Rows that sum to 1 and a bit leave no negative rest for the least state."""
    P = rng.dirichlet(np.full(S, 0.05), (S, 300))
    P *= rng.random(P.shape) < 0.7
    P[..., 0] += P.sum(2) == 0.0
    P /= P.sum(2, keepdims=True)
    mdp = FiniteMDP(P, np.zeros((S, 300)), np.full(S, 1.0 / S))
    measures = [risk.L1Penalty(0.5, support), risk.Contamination(0.2, support)]
    measures += [risk.TVBall(0.1, support), risk.KLBall(0.1), risk.CVaR(0.3), risk.LinfBall(0.05)]
    for measure in measures:
        for V in (np.full(S, 100.0), 0.1 * rng.random(S), rng.normal(size=S)):
            kernel = Nature(mdp, measure, 0.9).kernel(V)
            assert (kernel.data >= 0.0).all(), measure
            np.testing.assert_allclose(kernel.sum(1), 1.0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("paid", [False, True])
def test_scenarios(rng, paid) -> None:
    """The least of three models, sparse or not; worst cases are models."""
    m, stay = Model(rng, paid), np.repeat(np.eye(S)[:, None], 2, axis=1)
    kernels = [m.P, 0.9 * m.P + 0.1 * stay, 0.5 * m.P + 0.5 * m.P[:, ::-1]]
    z = np.where(m.P > 0.0, m.r, 0.0) if paid else m.r[..., None]
    for form in (np.asarray, sp.csr_array):
        nature = Nature(m.mdp, risk.Scenarios([form(P.reshape(-1, S)) for P in kernels]), 0.9)
        V = rng.normal(size=S)
        means = np.array([(P * (z + 0.9 * V)).sum(2) for P in kernels])
        np.testing.assert_allclose(nature.backup(V)[:5], means.min(0)[:5], rtol=0, atol=1e-12)
        q = nature.kernel(V).toarray().reshape(S, 2, S)
        np.testing.assert_allclose(
            (q * (z + 0.9 * V)).sum(2)[:5], means.min(0)[:5], rtol=0, atol=1e-12
        )
        found = robust_optimum(m.mdp, nature.measure, 0.9, 1e-9)
        again = robust_optimum(m.mdp, nature.measure, 0.9, 1e-9, method="value-iteration")
        np.testing.assert_allclose(found.V, again.V, rtol=0, atol=2e-9)


@pytest.mark.parametrize("case", CASES)
def test_one_state_and_no_future(rng, case) -> None:
    make, solve, _, _ = CASES[case]
    m = Model(rng, True)
    for paid in (False, True):
        r = np.array([[2.0, 3.0]])[..., None] if paid else np.array([[2.0, 3.0]])
        single = FiniteMDP(np.ones((1, 2, 1)), r, [1.0])
        plain = case not in ("interval-ball", "weighted-l1-ball") and "wasserstein" not in case
        if plain or "line" in case:
            found = robust_optimum(single, make(0.4, 0.2, "nominal"), 0.9, 1e-9)
            assert found.V[0] == pytest.approx(30.0)
    support, allowed = list(supports(rng, case))[-1]
    found = Nature(m.mdp, make(0.4, 0.2, support), 0.0).backup(rng.normal(size=S)).ravel()
    for i in range(2 * (S - 1)):
        p, z, x = m.row(i, np.zeros(S), 0.0, allowed)
        want = z.min() if case in PENALTIES else solve(p, z, x, 1.0, 0.2)
        assert found[i] == pytest.approx(want, rel=0, abs=1e-7)


# ------------------------------------------------------------------------------------- solvers


def bellman(m, case, V, gamma, k, d, allowed):
    """T's Q by the oracles, (S, 2)."""
    Q = np.empty(2 * S)
    for i in range(2 * S):
        p, z, x = m.row(i, V, gamma, allowed)
        Q[i] = gamma * V[i // 2] if m.terminal[i // 2] else CASES[case][1](p, z, x, gamma * k, d)
    return Q.reshape(S, 2)


@pytest.mark.parametrize("method", ["newton", "policy-iteration", "value-iteration"])
@pytest.mark.parametrize("case", CASES)
def test_bounds_are_bounds(rng, case, method) -> None:
    """L <= T L and T U <= U, hence L <= V* <= U as T is monotone, by the oracles' T."""
    gamma, k, d = 0.8, 0.5, 0.1
    *_, (support, allowed) = supports(rng, case)
    m = Model(rng, rng.random() < 0.5)
    pi = rng.dirichlet(np.ones(2), S)
    measure = CASES[case][0](k, d, support)
    tolerance = {"newton": 1e-7, "policy-iteration": 1e-2, "value-iteration": 5.0}[method]
    found = robust_optimum(m.mdp, measure, gamma, tolerance, method=method)
    assert (found.lower <= found.V).all()
    assert (found.V <= found.upper).all()
    assert (found.upper - found.lower <= tolerance).all()
    below = bellman(m, case, found.lower, gamma, k, d, allowed)
    above = bellman(m, case, found.upper, gamma, k, d, allowed).max(1)
    assert (found.lower <= below.max(1) + 1e-7).all()
    assert (above <= found.upper + 1e-7).all()
    assert (found.lower <= (found.pi * below).sum(1) + 1e-7).all()  # so pi is worth it
    if method == "newton":
        found = robust_evaluation(m.mdp, pi, measure, gamma, 1e-7)
        below = (pi * bellman(m, case, found.lower, gamma, k, d, allowed)).sum(1)
        above = (pi * bellman(m, case, found.upper, gamma, k, d, allowed)).sum(1)
        assert (found.lower <= below + 1e-7).all()
        assert (above <= found.upper + 1e-7).all()


@pytest.mark.parametrize("case", CASES)
def test_markov_risk_takes_action_and_successor_together(rng, case) -> None:
    m, gamma, k, d = Model(rng, False), 0.8, 0.5, 0.1
    pi = rng.dirichlet(np.ones(2), S)
    support, allowed = next(iter(supports(rng, case)))
    measure = CASES[case][0](k, d, support)
    found = robust_evaluation(m.mdp, pi, measure, gamma, 1e-9, markov_risk=True)
    for s in np.flatnonzero(~m.terminal):
        p = pi[s] @ m.P[s]
        x = np.flatnonzero((p > 0.0) | allowed[0])
        W = CASES[case][1](p[x], gamma * found.V[x], x, gamma * k, d)
        assert found.V[s] == pytest.approx(pi[s] @ m.r[s] + W, rel=0, abs=1e-6)


@pytest.mark.parametrize("method", ["newton", "policy-iteration", "value-iteration"])
def test_what_cannot_be_met_is_refused(rng, method) -> None:
    m = Model(rng, True)
    with pytest.raises(RuntimeError, match=r"apart after 1 .* raise tolerance or max_iterations"):
        robust_optimum(m.mdp, risk.TVBall(0.1), 0.99, method=method, max_iterations=1)
    with pytest.raises(RuntimeError, match="rounding keeps them apart"):
        robust_evaluation(m.mdp, np.full((S, 2), 0.5), risk.Entropic(1.0), 0.99, 1e-300)


BAD = [
    (lambda mdp, pi: risk.KLBall(-0.1), "radius must be >= 0 and finite, got -0.1"),
    (lambda mdp, pi: risk.CVaR(0.0), r"level must be in \(0, 1\], got 0"),
    (lambda mdp, pi: risk.CVaR(1.5), r"level must be in \(0, 1\], got 1.5"),
    (
        lambda mdp, pi: risk.parse("klball:0.1"),
        "risk must be one of .* mean kl-ball",
    ),
    (lambda mdp, pi: risk.parse("kl-ball"), "risk kl-ball must have 1 number after the colon"),
    (lambda mdp, pi: risk.parse("kl-ball:-1"), "radius must be >= 0"),
    (lambda mdp, pi: robust_optimum(mdp, risk.Nominal(), 1.0), r"gamma must be in \[0, 1\), got 1"),
    (lambda mdp, pi: Nature(mdp, risk.Nominal(), 1.0), r"gamma must be in \[0, 1\), got 1"),
    (
        lambda mdp, pi: robust_evaluation(mdp, pi, risk.Nominal(), -0.1),
        r"gamma must be in \[0, 1\)",
    ),
    (lambda mdp, pi: robust_policy_gradient(mdp, pi, risk.Nominal(), 2.0), "gamma must be in"),
    (lambda mdp, pi: robust_optimum(mdp, risk.Nominal(), 0.9, 0.0), "tolerance must be > 0, got 0"),
    (lambda mdp, pi: robust_evaluation(mdp, pi, risk.Nominal(), 0.9, np.nan), "tolerance must be"),
    (
        lambda mdp, pi: robust_optimum(mdp, risk.Nominal(), 0.9, method="policy"),
        "method must be one of newton, policy-iteration, value-iteration, got 'policy'",
    ),
    (lambda mdp, pi: robust_optimum(mdp, risk.Nominal(), 0.9, max_iterations=0), "max_iterations"),
    (lambda mdp, pi: robust_optimum(mdp, "entropic:1", 0.9), "measure must be a risk.Measure"),
    (lambda mdp, pi: robust_evaluation(mdp, pi[:-1], risk.Nominal(), 0.9), r"pi must be \(S, A\)"),
    (lambda mdp, pi: robust_evaluation(mdp, 2 * pi, risk.Nominal(), 0.9), "pi must .* sum to 1"),
    (lambda mdp, pi: robust_policy_gradient(mdp, pi - 1, risk.Nominal(), 0.9), "pi must be >= 0"),
    (
        lambda mdp, pi: robust_evaluation(mdp, pi, risk.Nominal(), 0.9, start=np.zeros(2)),
        r"start must be \(S,\)",
    ),
    (
        lambda mdp, pi: robust_evaluation(mdp, pi, risk.Nominal(), 0.9, markov_risk=True),
        "markov_risk must come with",
    ),
    (lambda mdp, pi: Nature(mdp, risk.TVBall(0.1, np.ones(3, bool)), 0.9), "support mask must be"),
    (lambda mdp, pi: Nature(mdp, risk.TVBall(0.1, np.array([9])), 0.9), "support must list states"),
    (
        lambda mdp, pi: robust_optimum(mdp, risk.TVBall(0.1, np.ones((5, S), bool)), 0.9),
        "support mask must be",
    ),
    (
        lambda mdp, pi: robust_optimum(mdp, risk.IntervalBall(np.zeros(3), np.ones(3)), 0.9),
        "lower must be|lower and upper must be|bounds must be",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[text for _, text in BAD])
def test_bad_input_is_one_clear_error(rng, call, message) -> None:
    m = Model(rng, True)
    with pytest.raises(ValueError, match=message) as caught:
        call(m.mdp, rng.dirichlet(np.ones(2), S))
    assert "\n" not in str(caught.value)
