"""Numbers that other packages and books publish, typed in; each test names its source.

Every model is built here from the source's description. Actions that a source forbids in a state
are repeats of one that it allows, which changes no optimum. Where a source doesn't discount, γ is
1 - 1e-8 and the agreement as close as that allows.
"""

import gymnasium
import numpy as np
import pytest

from rlentropy import FiniteMDP, planning, risk

ALMOST_ONE = 1.0 - 1e-8


def uniform(S):
    return np.full(S, 1.0 / S)


def deterministic(actions, A):
    return np.eye(A)[actions]


def values(P, r, gamma, terminal=None):
    return planning.optimum(FiniteMDP(P, r, uniform(len(P)), terminal=terminal), gamma)


# ---------------------------------------------------------------- quantecon


def test_quantecon_puterman_two_states():
    """test_ddp.py, TestDiscreteDP: Puterman (2005), sections 3.1 and 6.2.1."""
    P = [[[0.5, 0.5], [0, 1]], [[0, 1], [0, 1]]]
    r = [[5.0, 10.0], [-1.0, -1.0]]
    best = values(P, r, 0.95)
    expected = [(5 - 5.5 * 0.95) / ((1 - 0.5 * 0.95) * (1 - 0.95)), -1 / (1 - 0.95)]
    np.testing.assert_allclose(best.V, expected, rtol=0, atol=1e-8)
    np.testing.assert_allclose(best.V, [-8.57142857, -20.0], rtol=0, atol=1e-8)  # README of mdp
    assert best.pi.argmax(1).tolist() == [0, 0]


def test_quantecon_beta_0():
    """test_ddp.py, test_ddp_beta_0."""
    best = values(np.full((3, 2, 3), 1 / 3), [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], 0.0)
    assert best.V.tolist() == [1.0, 1.0, 1.0]
    assert best.pi.argmax(1).tolist() == [1, 0, 1]


def test_quantecon_puterman_inventory():
    """test_ddp.py, TestFiniteHorizon: Puterman (2005), sections 3.2 and 4.6.1, three stages."""
    r = [[0, -1, -2, -5], [5, 0, -3, 5], [6, -1, 6, 6], [5, 5, 5, 5]]
    left = {0: [1, 0, 0, 0], 1: [0.75, 0.25, 0, 0], 2: [0.25, 0.5, 0.25, 0]}
    left[3] = [0, 0.25, 0.5, 0.25]
    stock = [[0, 1, 2, 3], [1, 2, 3, 1], [2, 3, 2, 2], [3, 3, 3, 3]]  # after ordering
    P = [[left[level] for level in levels] for levels in stock]
    plan = planning.backward_induction(FiniteMDP(P, r, uniform(4)), np.array(r, float), horizon=3)
    expected = [[67 / 16, 129 / 16, 194 / 16, 227 / 16], [2, 25 / 4, 10, 21 / 2], [0, 5, 6, 5]]
    np.testing.assert_allclose(plan.V[:3], expected, rtol=0, atol=1e-12)
    assert plan.Q[0, 0].argmax() == 3
    assert plan.Q[1, 0].argmax() == 2


def test_quantecon_asset_replacement():
    """QuantEcon.notebooks, ddp_ex_MF_7_6_2_py: Miranda and Fackler (2002), section 7.6.2."""
    P = np.zeros((5, 2, 5))
    P[range(5), 0, [1, 2, 3, 4, 0]] = 1.0
    P[:, 1, 0] = 1.0
    r = [[45.0, -25.0], [35.0, -25.0], [20.0, -25.0], [0.0, -25.0], [-25.0, -25.0]]
    best = values(P, r, 0.9)
    expected = [216.56004653, 190.62227392, 172.91363769, 169.90404187, 169.90404187]
    np.testing.assert_allclose(best.V, expected, rtol=0, atol=1e-8)
    assert best.pi[:4].argmax(1).tolist() == [0, 0, 0, 1]


def test_quantecon_water_management():
    """QuantEcon.notebooks, ddp_ex_MF_7_6_5_py: Miranda and Fackler (2002), section 7.6.5."""
    n, rain = 31, (0.1, 0.2, 0.4, 0.2, 0.1)
    P, r = np.zeros((n, n, n)), np.zeros((n, n))
    for s in range(n):
        for x in range(n):
            used = min(x, s)
            r[s, x] = 14.0 * used**0.8 + 10.0 * (s - used) ** 0.4
            for more, p in enumerate(rain):
                P[s, x, min(s - used + more, n - 1)] += p
    best = values(P, r, 0.9)
    expected = [
        338.41645251, 361.98791375, 377.4257383, 391.4257383, 405.2360958, 417.9622843,
        429.86115765, 441.17106277, 452.06672421, 462.66012607, 473.03554185, 483.40234488,
        493.51237732, 503.35334776, 512.93797732, 522.31628408, 531.65601391, 540.88902181,
        549.98545145, 558.93954761, 567.74582688, 576.47074514, 585.14046164, 593.69786291,
        602.15675175, 610.510884, 618.80539659, 627.0562497, 635.2098027, 643.28164235,
        651.27787278,
    ]  # fmt: skip
    np.testing.assert_allclose(best.V, expected, rtol=0, atol=1e-8)
    policy = [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4]
    assert np.minimum(best.pi.argmax(1), range(n)).tolist() == [*policy, 5, 5, 5, 5, 5]


# ---------------------------------------------------------------- pymdptoolbox


@pytest.fixture
def forest():
    """mdptoolbox.example.forest(): wait or cut, fire with probability 0.1."""
    P = np.zeros((3, 2, 3))
    P[:, 0] = [[0.1, 0.9, 0], [0.1, 0, 0.9], [0.1, 0, 0.9]]
    P[:, 1, 0] = 1.0
    return FiniteMDP(P, [[0.0, 0.0], [0.0, 1.0], [4.0, 2.0]], uniform(3))


def test_pymdptoolbox_policy_iteration(forest):
    """test_PolicyIteration.py, matrix evaluation, discount 0.9."""
    best = planning.optimum(forest, 0.9)
    np.testing.assert_allclose(best.V, [26.244, 29.484, 33.484], rtol=0, atol=1e-8)
    assert best.pi.argmax(1).tolist() == [0, 0, 0]
    pi = deterministic([0, 1, 0], 2)
    worth = planning.robust_evaluation(forest, pi, risk.Nominal(), 0.9).V
    expected = [4.47513812154696, 5.02762430939227, 23.17243384704857]
    np.testing.assert_allclose(worth, expected, rtol=0, atol=1e-8)


def test_pymdptoolbox_finite_horizon(forest):
    """mdp.py, FiniteHorizon: three periods at discount 0.9."""
    r = 0.9 ** np.arange(3)[:, None, None] * forest.r
    plan = planning.backward_induction(forest, r, horizon=3)
    first = [plan.V[h] / 0.9**h for h in range(3)]
    expected = [[2.6973, 5.9373, 9.9373], [0.81, 3.24, 7.24], [0.0, 1.0, 4.0]]
    np.testing.assert_allclose(first, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("example", "gamma", "stopped"),
    [
        ("forest", 0.96, [5.93215488, 9.38815488, 13.38815488]),
        ("small", 0.9, [40.048625392716815, 33.65371175967546]),
    ],
)
def test_pymdptoolbox_value_iteration_but_for_a_constant(example, gamma, stopped, forest):
    """mdp.py, ValueIteration: it stops on the span of a change, so its V lack a constant."""
    small = FiniteMDP(
        [[[0.5, 0.5], [0, 1]], [[0.8, 0.2], [0.1, 0.9]]], [[5.0, 10.0], [-1.0, 2.0]], uniform(2)
    )
    best = planning.optimum(forest if example == "forest" else small, gamma)
    np.testing.assert_allclose(np.diff(best.V), np.diff(stopped), rtol=0, atol=2e-3)
    assert best.pi.argmax(1).tolist() == ([0, 0, 0] if example == "forest" else [1, 0])
    assert (best.V > stopped).all()


# ---------------------------------------------------------------- CRAAM


def test_craam_l1_worst_case():
    """craam2, core_tests.hpp, test_l1_worst_case."""
    p, z = np.array([0.4, 0.3, 0.1, 0.2]), np.array([1.0, 2.0, 5.0, 4.0])
    for radius, expected in [(0.0, 2.3), (1.0, 1.1), (2.0, 1.0)]:
        assert risk.L1Ball(radius).expectation(p, z) == pytest.approx(expected, abs=1e-12)
        assert risk.L1Ball(radius).expectation(np.ones(1), np.full(1, 2.0)) == 2.0


def test_craam_average_value_at_risk():
    """craam2, core_tests.hpp, risk_measures."""
    p = np.array([0.1, 0.2, 0.3, 0.1, 0.3, 0.0])
    z = np.array([4.0, 5.0, 1.0, 2.0, -1.0, -2.0])
    for level, expected in [(0.01, -1.0), (0.5, -0.2), (0.6, 0.0), (1.0, 1.6)]:
        assert risk.CVaR(level).expectation(p, z) == pytest.approx(expected, abs=1e-12)
        assert risk.CVaR(level).expectation(p[:-1], z[:-1]) == pytest.approx(expected, abs=1e-12)


def test_craam_three_states():
    """craam2, core_tests.hpp, test_simple_vi: values and occupancies at γ = 0.9."""
    P, r = np.zeros((3, 2, 3)), [[0.0, 0.0], [1.0, 0.0], [1.0, 1.1]]
    P[[0, 1, 2], 0, [0, 0, 1]] = 1.0
    P[[0, 1, 2], 1, [1, 2, 2]] = 1.0
    mdp = FiniteMDP(P, r, uniform(3))
    for measure in (risk.L1Ball(0.0), risk.SRectangular(0.0), risk.Nominal()):
        best = planning.robust_optimum(mdp, measure, 0.9)
        np.testing.assert_allclose(best.V, [8.91, 9.9, 11.0], rtol=0, atol=1e-8)
        assert best.pi.argmax(1).tolist() == [1, 1, 1]
    chain = best.kernel().toarray().reshape(3, 2, 3)[:, 1]
    d = np.linalg.solve(np.eye(3) - 0.9 * chain.T, uniform(3))
    np.testing.assert_allclose(d, [1 / 3, 0.6333333333, 9.0333333333], rtol=0, atol=1e-9)


CSV = "idstatefrom,idaction,idstateto,probability,reward\n"
LOOPS = "1,0,1,1,2\n2,0,2,1,3\n3,0,3,1,1\n4,0,4,1,4\n1,1,1,1,2\n2,1,2,1,3\n3,1,3,1,1\n4,1,4,1,4\n"
ENDS = LOOPS.replace(",1,1,2\n", ",5,1,20\n").replace(",2,1,3\n", ",5,1,30\n")
ENDS = ENDS.replace(",3,1,1\n", ",5,1,10\n").replace(",4,1,4\n", ",5,1,40\n")
CHOICE = "0,0,1,0.5,0\n0,0,2,0.5,0\n0,1,3,0.5,0\n0,1,4,0.5,0\n"


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize(
    ("radius", "first"), [(2.0, 18.0), (1.0, 18.0), (0.5, 0.9 * 90 / 4), (0.0, 0.9 * 25)]
)
def test_craam_csv(radius, first, ends, tmp_path):
    """craam2, core_tests.hpp, test_randomized_mdp and .._with_terminal_state, γ = 0.9.

    Its outcomes, among which nature may choose within an L1 ball around the uniform distribution,
    lead to one state each: they are successors here.
    """
    path = tmp_path / "outcomes.csv"
    path.write_text(CSV + CHOICE + (ENDS if ends else LOOPS))
    best = planning.robust_optimum(FiniteMDP.from_csv(path), risk.L1Ball(radius), 0.9)
    expected = [first, 20.0, 30.0, 10.0, 40.0, *([0.0] if ends else [])]
    np.testing.assert_allclose(best.V, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("radius", "first"), [(2.0, 10.0), (1.0, 10.0), (0.5, 12.5), (0.0, 15.0)])
def test_craam_outcomes_of_one_state(radius, first):
    """craam2, core_tests.hpp, test_value_function_thr: rewards 1 or 2 at nature's choice."""
    P, r = np.full((2, 1, 2), 0.5), np.broadcast_to([1.0, 2.0], (2, 1, 2))
    mdp = FiniteMDP(P, r, uniform(2))
    worst = planning.robust_optimum(mdp, risk.L1Ball(radius), 0.9).V
    np.testing.assert_allclose(worst, first, rtol=0, atol=1e-8)
    kind = planning.robust_optimum(FiniteMDP(P, -r, uniform(2)), risk.L1Ball(radius), 0.9).V
    np.testing.assert_allclose(-kind, 30.0 - first, rtol=0, atol=1e-8)  # its optimistic values


def test_craam_robustification():
    """craam2, core_tests.hpp, test_robustification: successors of probability 0 pay nothing."""
    P, r = np.zeros((4, 1, 4)), np.zeros((4, 1, 4))
    P[0, 0, [1, 2]], r[0, 0, [1, 2]] = 0.5, (1.0, 2.0)
    P[1:, 0] = np.eye(4)[1:]
    mdp = FiniteMDP(P, r, uniform(4), terminal=[False, True, True, True])
    for measure, expected in [
        (risk.L1Ball(0.0), 1.5),
        (risk.L1Ball(0.5), 1.0 * (0.5 + 0.25) + 2.0 * (0.5 - 0.25)),
        (risk.L1Ball(0.5, support="full"), 1.0 * 0.5 + 2.0 * (0.5 - 0.25)),
    ]:
        assert planning.robust_optimum(mdp, measure, 0.9).V[0] == pytest.approx(expected, abs=1e-8)


# ---------------------------------------------------------------- Storm


def reach(rows, S, targets, sign, gamma=ALMOST_ONE):
    """V at state 0 of ± the probability of reaching the targets, rows {s: [{s': (low, high)}]}.

    sign 1: the agent wants to arrive, nature not; sign -1: the other way round.
    """
    A = max(map(len, rows.values()))
    P, r, low, high = (np.zeros((S, A, S)) for _ in range(4))
    ended = np.ones(S, bool)
    ended[list(rows)] = False
    for s in range(S):
        for a in range(A):
            actions = rows.get(s, [{s: (1.0, 1.0)}])
            for after, (least, most) in actions[min(a, len(actions) - 1)].items():
                P[s, a, after] = low[s, a, after] = least
                high[s, a, after] = most
                r[s, a, after] = sign * (after in targets and not ended[s])
    P /= P.sum(2, keepdims=True)
    mdp = FiniteMDP(P, r, uniform(S), terminal=ended)
    ball = risk.IntervalBall(low.reshape(-1, S), high.reshape(-1, S))
    return sign * planning.robust_optimum(mdp, ball, gamma, tolerance=1e-5).V[0]


TINY_1 = {0: [{1: (0.4, 0.9), 2: (0.5, 0.8)}]}
TINY_3 = {0: [{1: (0.4, 0.9), 2: (0.5, 0.8)}, {1: (0.4, 0.9), 2: (0.5, 0.8)}]}
TINY_4 = {
    0: [{1: (0.4, 0.4), 2: (0.3, 0.3), 3: (0.1, 0.6)}],
    1: [{1: (1, 1)}, {2: (1, 1)}],
    2: [{3: (0.4, 0.9), 4: (0.5, 0.8)}, {3: (0.4, 0.9), 4: (0.5, 0.8)}, {0: (1, 1)}],
}
TINY_5 = {0: [{1: (0.3, 0.4), 2: (0.4, 0.9)}]}  # with its state 2 first
ROBOT = {
    0: [{1: (0.6, 0.6), 0: (0.4, 0.4)}, {3: (0.8, 0.8), 1: (0.1, 0.1), 4: (0.1, 0.1)}],
    1: [{2: (0.8, 0.9), 1: (0.1, 0.2)}, {4: (0.4, 0.6), 2: (0.4, 0.6)}],
    4: [{5: (1, 1)}, {3: (0.6, 0.6), 4: (0.4, 0.4)}],
    5: [{2: (0.9, 0.9), 5: (0.1, 0.1)}, {4: (1, 1)}],
}


@pytest.mark.parametrize(
    ("rows", "S", "targets", "most", "least"),
    [
        (TINY_1, 3, {1}, 0.4, 0.5),
        (TINY_3, 3, {1}, 0.4, 0.5),
        (TINY_4, 5, {3}, 1.0, 3 / 7),
        (TINY_5, 3, {1}, 0.3, 0.4),
        (ROBOT, 6, {2, 3}, 1.0, 0.6),
    ],
    ids=["tiny-01", "tiny-03", "tiny-04", "tiny-05", "robot"],
)
def test_storm_interval_models(rows, S, targets, most, least):
    """RobustMdpPrctlModelCheckerTest.cpp: Pmax and Pmin [F target] against a robust nature."""
    assert reach(rows, S, targets, 1.0) == pytest.approx(most, abs=1.1e-5)
    assert reach(rows, S, targets, -1.0) == pytest.approx(least, abs=1.1e-5)


@pytest.mark.parametrize(("gamma", "first"), [(0.9, 18 / 5), (15 / 16, 15 / 4), (ALMOST_ONE, 5.0)])
def test_storm_discounted_mdp(gamma, first):
    """DiscountingMdpPrctlModelCheckerTest.cpp, SmallDiscount."""
    P = np.zeros((4, 2, 4))
    P[0, 0, 1] = P[0, 1, 2] = P[1, :, 3] = P[3, :, 3] = 1.0
    P[2, :, 2], P[2, :, 3] = 0.8, 0.2
    best = values(P, [[0.0, 0.0], [4.0, 4.0], [1.0, 1.0], [0.0, 0.0]], gamma)
    assert best.V[0] == pytest.approx(first, abs=1e-6)


def test_storm_discounted_horizons():
    """Discounting{Mdp,Dtmc}PrctlModelCheckerTest.cpp: OneStateDiscounting, SmallDiscount."""
    one = FiniteMDP(np.ones((1, 2, 1)), [[1.0, 100.0]], [1.0])
    assert planning.optimum(one, 0.9).V[0] == pytest.approx(1000.0, abs=1e-8)
    P = np.zeros((3, 1, 3))
    P[0, 0, 1] = P[2, 0, 2] = 1.0
    P[1, 0, 1:] = 0.8, 0.2
    chain = FiniteMDP(P, [[0.0], [1.0], [0.0]], [1.0, 0.0, 0.0])
    assert planning.optimum(chain, 0.9).V[0] == pytest.approx(45 / 14, abs=1e-8)
    for mdp, gamma, horizon, expected in [
        (one, 0.9, 5, 40951 / 100),
        (one, 0.9, 10, 6513215599 / 10_000_000),
        (chain, 0.9, 4, 12591 / 6250),
        (chain, 15 / 16, 4, 555 / 256),
    ]:
        r = gamma ** np.arange(horizon)[:, None, None] * mdp.r
        V = planning.backward_induction(mdp, r, horizon).V
        assert V[0, 0] == pytest.approx(expected, rel=1e-13)


# ---------------------------------------------------------------- books


def grid(height, width, jumps=None):
    """Successors (S, 4) of north, south, west, east; moves off the grid stay."""
    after = np.empty((height * width, 4), int)
    for s in range(height * width):
        row, column = divmod(s, width)
        for a, (down, right) in enumerate([(-1, 0), (1, 0), (0, -1), (0, 1)]):
            y, x = row + down, column + right
            after[s, a] = y * width + x if 0 <= y < height and 0 <= x < width else s
    for s, target in (jumps or {}).items():
        after[s] = target
    return after


def test_sutton_barto_gridworld():
    """Sutton and Barto (2018), figures 3.2 and 3.5, γ = 0.9."""
    after = grid(5, 5, {1: 21, 3: 13})
    r = np.where(after == np.arange(25)[:, None], -1.0, 0.0)
    r[1], r[3] = 10.0, 5.0
    mdp = FiniteMDP(np.eye(25)[after], r, uniform(25))
    random = [
        3.3, 8.8, 4.4, 5.3, 1.5, 1.5, 3.0, 2.3, 1.9, 0.5, 0.1, 0.7, 0.7, 0.4, -0.4,
        -1.0, -0.4, -0.4, -0.6, -1.2, -1.9, -1.3, -1.2, -1.4, -2.0,
    ]  # fmt: skip
    optimal = [
        22.0, 24.4, 22.0, 19.4, 17.5, 19.8, 22.0, 19.8, 17.8, 16.0, 17.8, 19.8, 17.8, 16.0, 14.4,
        16.0, 17.8, 16.0, 14.4, 13.0, 14.4, 16.0, 14.4, 13.0, 11.7,
    ]  # fmt: skip
    found = planning.robust_evaluation(mdp, np.full((25, 4), 0.25), risk.Nominal(), 0.9).V
    np.testing.assert_allclose(found, random, rtol=0, atol=0.05 + 1e-9)
    np.testing.assert_allclose(planning.optimum(mdp, 0.9).V, optimal, rtol=0, atol=0.05 + 1e-9)


def test_sutton_barto_small_gridworld():
    """Sutton and Barto (2018), figure 4.1: the random policy on the 4 × 4 grid, undiscounted."""
    ended = np.isin(np.arange(16), (0, 15))
    P = np.eye(16)[np.where(ended[:, None], np.arange(16)[:, None], grid(4, 4))]
    r = np.where(ended[:, None], 0.0, np.full((16, 4), -1.0))
    mdp = FiniteMDP(P, r, uniform(16), terminal=ended)
    pi = np.full((16, 4), 0.25)
    found = planning.robust_evaluation(mdp, pi, risk.Nominal(), ALMOST_ONE, tolerance=1e-6).V
    top = [0.0, -14.0, -20.0, -22.0, -14.0, -18.0, -20.0, -20.0]
    np.testing.assert_allclose(found, top + top[::-1], rtol=0, atol=1e-5)
    mixed = FiniteMDP(P.mean(1, keepdims=True), r.mean(1, keepdims=True), uniform(16))
    third = planning.backward_induction(mixed, mixed.r, horizon=3).V[0]
    top = [0.0, -2.4, -2.9, -3.0, -2.4, -2.9, -3.0, -2.9]
    np.testing.assert_allclose(third, top + top[::-1], rtol=0, atol=0.05)


def test_random_walk():
    """Sutton and Barto (2018), example 6.2: 1/6 to 5/6."""
    P, r = np.zeros((7, 1, 7)), np.zeros((7, 1, 7))
    for s in range(1, 6):
        P[s, 0, [s - 1, s + 1]] = 0.5
    P[0, 0, 0] = P[6, 0, 6] = r[5, 0, 6] = 1.0
    ended = np.isin(np.arange(7), (0, 6))
    best = planning.optimum(FiniteMDP(P, r, uniform(7), terminal=ended), ALMOST_ONE, 1e-7)
    np.testing.assert_allclose(best.V[1:6], np.arange(1, 6) / 6, rtol=0, atol=1e-6)


def test_gamblers_problem():
    """Sutton and Barto (2018), example 4.3, p_h = 0.4: bold play is optimal, by hand
    V(50) = p_h, V(25) = p_h V(50), V(75) = p_h + (1 - p_h) V(50)."""
    P, r = np.zeros((101, 50, 101)), np.zeros((101, 50, 101))
    for s in range(1, 100):
        for a in range(50):
            stake = min(a + 1, s, 100 - s)
            P[s, a, s + stake], P[s, a, s - stake] = 0.4, 0.6
    P[0, :, 0] = P[100, :, 100] = 1.0
    r[1:100, :, 100] = 1.0
    ended = np.isin(np.arange(101), (0, 100))
    best = planning.optimum(FiniteMDP(P, r, uniform(101), terminal=ended), ALMOST_ONE, 1e-7)
    np.testing.assert_allclose(best.V[[25, 50, 75]], [0.16, 0.4, 0.64], rtol=0, atol=1e-6)


def test_russell_norvig_4x3():
    """Russell and Norvig, figure 17.3: moves slip to either side with 0.1, each step costs 0.04."""
    free = [(y, x) for y in range(3) for x in range(4) if (y, x) != (1, 1)]
    state = {cell: i for i, cell in enumerate(free)}
    ends = {(0, 3): 1.0, (1, 3): -1.0}
    P, r = np.zeros((11, 4, 11)), np.zeros((11, 4, 11))
    moves = [(-1, 0), (0, 1), (1, 0), (0, -1)]
    for (y, x), s in state.items():
        for a in range(4):
            if (y, x) in ends:
                P[s, a, s] = 1.0
                continue
            for turn, p in ((0, 0.8), (1, 0.1), (3, 0.1)):
                down, right = moves[(a + turn) % 4]
                cell = (y + down, x + right)
                cell = cell if cell in state else (y, x)
                P[s, a, state[cell]] += p
                r[s, a, state[cell]] = ends.get(cell, 0.0) - 0.04
    ended = np.array([cell in ends for cell in free])
    best = planning.optimum(FiniteMDP(P, r, uniform(11), terminal=ended), ALMOST_ONE, 1e-7)
    expected = [0.812, 0.868, 0.918, 0.762, 0.660, 0.705, 0.655, 0.611, 0.388]
    np.testing.assert_allclose(best.V[~ended], expected, rtol=0, atol=5.1e-4)


def test_frozen_lake_at_point_nine():
    """FrozenLake 4x4 at γ = 0.9, as several courses print it: 0.0688909."""
    mdp = FiniteMDP.from_env(gymnasium.make("FrozenLake-v1"))
    assert planning.optimum(mdp, 0.9).V[0] == pytest.approx(0.0688909, abs=5e-8)
    mdp = FiniteMDP.from_env(gymnasium.make("FrozenLake-v1", is_slippery=False))
    assert planning.optimum(mdp, 0.9).V[0] == pytest.approx(0.59049, abs=1e-9)
