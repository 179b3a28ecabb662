"""s-rectangular sets against linear and conic programs, an instance by hand and golden rows."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq, linprog

from rlentropy.envs.river_swim import RiverSwimEnv
from rlentropy.risk import L1Ball, L2Ball, SRectangular

NORMS = ("l1", "l2")
GAMMA = 0.95


# ------------------------------------------- oracles: the primal programs of one state, p is (A, S)


def linear_program(p, r, V, gamma, radius, ok, pi=None) -> float:
    """L1: variables q, |q - p| <= e and, for the best policy, θ >= r_a + γ E_{q_a} V."""
    A, S = p.shape
    n = A * S
    eye, zero = np.eye(n), np.zeros((n, 1))
    upper = [np.hstack([eye, -eye, zero]), np.hstack([-eye, -eye, zero])]
    bound = [p.ravel(), -p.ravel(), [radius]]
    upper.append(np.hstack([np.zeros((1, n)), np.ones((1, n)), [[0.0]]]))
    gain = np.kron(np.eye(A), gamma * V)  # (A, n)
    if pi is None:
        upper.append(np.hstack([gain, np.zeros((A, n)), -np.ones((A, 1))]))
        bound.append(-r)
        cost, constant = np.r_[np.zeros(2 * n), 1.0], 0.0
    else:
        cost, constant = np.r_[pi @ gain, np.zeros(n + 1)], pi @ r
    sums = np.hstack([np.kron(np.eye(A), np.ones(S)), np.zeros((A, n + 1))])
    limits = [(0.0, 1.0 if free else 0.0) for free in ok.ravel()]
    limits += [(0.0, None)] * n + [(None, None)]
    found = linprog(cost, np.vstack(upper), np.concatenate(bound), sums, np.ones(A), limits)
    assert found.status == 0
    return found.fun + constant


def conic_program(p, r, V, gamma, radius, ok, pi=None) -> float:
    cp = pytest.importorskip("cvxpy")
    q = cp.Variable(p.shape, nonneg=True)
    u = r + gamma * (q @ V)
    subject = [cp.sum(q, axis=1) == 1, cp.multiply(~ok, q) == 0]
    subject.append(cp.norm(cp.vec(q - p, order="C"), 2) <= radius)
    goal = cp.max(u) if pi is None else pi @ u
    return cp.Problem(cp.Minimize(goal), subject).solve(solver=cp.CLARABEL)


def kernel(rng, S, A, tied=False):
    """(S, A, S) with zeros, now and then a deterministic row or, if tied, equal entries."""
    p = rng.dirichlet(np.full(S, 0.7), size=(S, A)) * (rng.random((S, A, S)) < 0.7)
    p = np.ceil(4.0 * p) / 4.0 if tied else p
    p[..., 0] += p.sum(2) == 0.0
    p[0, 0] = np.eye(S)[-1]
    return p / p.sum(2, keepdims=True)


def random_state_values(rng, S, A, tied):
    V = rng.choice([0.0, 1.0, 2.5], S) if tied else rng.normal(size=S)
    r = rng.choice([0.0, 0.1], (S, A)) if tied else 0.3 * rng.normal(size=(S, A))
    return r, V


def expectations(backup, r, V, gamma=GAMMA):
    """r + γ E_q V, (S, A)."""
    return r + gamma * (backup.kernel @ V).reshape(r.shape)


def distance(backup, p, norm):
    gap = backup.kernel.toarray().reshape(p.shape) - p
    return np.abs(gap).sum((1, 2)) if norm == "l1" else np.sqrt((gap**2).sum((1, 2)))


# -------------------------------------------------------------------------------------- one backup


def test_hand_instance() -> None:
    """Robust §1.6: 12.35 with (1/2, 1/2); the best deterministic policy gets 11.40."""
    p = np.zeros((2, 2, 2))
    p[0], p[1] = [[0.8, 0.2], [0.7, 0.3]], [[0.0, 1.0], [0.0, 1.0]]
    V, r = np.array([20.0, 0.0]), np.zeros((2, 2))
    budget = SRectangular(0.4, "l1")
    backup = budget.solve(p, r, V, 0.95)
    np.testing.assert_allclose(backup.value, [12.35, 0.0], rtol=0, atol=1e-13)
    np.testing.assert_allclose(backup.pi[0], [0.5, 0.5], rtol=0, atol=1e-13)
    assert backup.pi[1].sum() == 1.0
    q = backup.kernel.toarray()
    np.testing.assert_allclose(q[:2], [[0.65, 0.35], [0.65, 0.35]], rtol=0, atol=1e-13)
    sure = [budget.solve(p, r, V, 0.95, pi=np.eye(2)[[a, a]]).value[0] for a in range(2)]
    np.testing.assert_allclose(sure, [11.4, 9.5], rtol=0, atol=1e-13)


@given(seed=st.integers(0, 2**32 - 1), tied=st.booleans(), full=st.booleans())
def test_l1_is_the_linear_program(seed, tied, full) -> None:
    rng = np.random.default_rng(seed)
    S, A = int(rng.integers(1, 6)), int(rng.integers(1, 5))
    radius = float(rng.choice([0.0, 0.05, 0.4, 1.0, 3.0, 20.0]))
    p, pi = kernel(rng, S, A, tied), rng.dirichlet(np.full(A, 0.5), size=S)
    r, V = random_state_values(rng, S, A, tied)
    budget = SRectangular(radius, "l1", "full" if full else "nominal")
    best, given_pi = budget.solve(p, r, V, GAMMA), budget.solve(p, r, V, GAMMA, pi=pi)
    for s in range(S):
        instance = p[s], r[s], V, GAMMA, radius, (p[s] > 0.0) | full
        assert best.value[s] == pytest.approx(linear_program(*instance), abs=1e-9)
        assert given_pi.value[s] == pytest.approx(linear_program(*instance, pi[s]), abs=1e-9)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_l2_is_the_conic_program(rng, tied, full) -> None:
    for radius in (0.05, 0.3, 1.0, 5.0):
        S, A = int(rng.integers(2, 5)), int(rng.integers(1, 4))
        p, pi = kernel(rng, S, A, tied), rng.dirichlet(np.full(A, 0.5), size=S)
        r, V = random_state_values(rng, S, A, tied)
        budget = SRectangular(radius, "l2", "full" if full else "nominal")
        best, given_pi = budget.solve(p, r, V, GAMMA), budget.solve(p, r, V, GAMMA, pi=pi)
        for s in range(S):
            instance = p[s], r[s], V, GAMMA, radius, (p[s] > 0.0) | full
            assert best.value[s] == pytest.approx(conic_program(*instance), abs=1e-6)
            assert given_pi.value[s] == pytest.approx(conic_program(*instance, pi[s]), abs=1e-6)


@pytest.mark.parametrize("norm", NORMS)
@given(
    seed=st.integers(0, 2**32 - 1),
    tied=st.booleans(),
    full=st.booleans(),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_saddle_point(norm, seed, tied, full, scale) -> None:
    """The value is the least for the returned policy and the most for the returned kernel."""
    rng = np.random.default_rng(seed)
    S, A = int(rng.integers(1, 12)), int(rng.integers(1, 6))
    radius = float(rng.choice([0.0, 1e-9, 0.01, 0.3, 1.0, 2.0, 50.0]))
    p = kernel(rng, S, A, tied)
    r, V = (scale * a for a in random_state_values(rng, S, A, tied))
    budget = SRectangular(radius, norm, "full" if full else "nominal")
    backup = budget.solve(p, r, V, GAMMA)
    answer = budget.solve(p, r, V, GAMMA, pi=backup.pi)
    tolerance = 1e-12 * scale
    np.testing.assert_allclose(answer.value, backup.value, rtol=0, atol=tolerance)
    np.testing.assert_allclose(
        expectations(backup, r, V).max(1), backup.value, rtol=0, atol=tolerance
    )
    for found in (backup, answer):
        q = found.kernel.toarray().reshape(p.shape)
        assert (q >= 0.0).all()
        np.testing.assert_allclose(q.sum(2), 1.0, rtol=0, atol=1e-13)
        assert full or not q[p == 0.0].any()
        assert (distance(found, p, norm) <= radius * (1.0 + 1e-9) + 1e-13).all()
    np.testing.assert_allclose(backup.pi.sum(1), 1.0, rtol=0, atol=1e-13)
    assert (backup.pi >= 0.0).all()
    np.testing.assert_allclose(
        (backup.pi * expectations(answer, r, V)).sum(1), backup.value, rtol=0, atol=tolerance
    )


@pytest.mark.parametrize("norm", NORMS)
def test_no_policy_does_better_and_no_kernel_worse(rng, norm) -> None:
    S, A, radius = 5, 3, 0.3
    p = kernel(rng, S, A)
    r, V = random_state_values(rng, S, A, False)
    budget = SRectangular(radius, norm)
    backup = budget.solve(p, r, V, GAMMA)
    for _ in range(50):
        pi = rng.dirichlet(np.full(A, 0.3), size=S)
        assert (budget.solve(p, r, V, GAMMA, pi=pi).value <= backup.value + 1e-12).all()
        rival = np.where(p > 0.0, rng.random(p.shape), 0.0)
        rival /= rival.sum(2, keepdims=True)
        gap = rival - p
        far = np.abs(gap).sum((1, 2)) if norm == "l1" else np.sqrt((gap**2).sum((1, 2)))
        share = np.minimum(radius / np.maximum(far, 1e-300), 1.0)[:, None, None]
        q = p + share * gap
        assert ((r + GAMMA * q @ V).max(1) >= backup.value - 1e-12).all()


@pytest.mark.parametrize(("norm", "ball"), [("l1", L1Ball), ("l2", L2Ball)])
@pytest.mark.parametrize("support", ["nominal", "full"])
def test_one_action_is_the_ball_and_more_gain_on_it(rng, norm, ball, support) -> None:
    """Sharing the budget that each action would have alone can only help (§8.2, 11)."""
    p = kernel(rng, 6, 1)
    r, V = random_state_values(rng, 6, 1, False)
    alone = SRectangular(0.3, norm, support).solve(p, r, V, GAMMA)
    W = ball(0.3, support).expectation(p[:, 0], V)
    np.testing.assert_allclose(alone.value, r[:, 0] + GAMMA * W, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(alone.pi, 1.0)
    p = kernel(rng, 6, 4)
    r, V = random_state_values(rng, 6, 4, False)
    joint = SRectangular(0.3, norm, support).solve(p, r, V, GAMMA).value
    separate = (r + GAMMA * ball(0.3, support).expectation(p, V)).max(1)
    assert (joint >= separate - 1e-9).all()
    assert (joint > separate + 1e-3).any()


def test_l2_without_positivity_is_a_threshold_policy(rng) -> None:
    """Σ (Q - x)_+² = (γ ξ ‖V - mean‖)², π ∝ (Q - x)_+, while no q reaches 0 (§1.6)."""
    S, A, radius = 6, 4, 0.02
    p = 0.05 * rng.dirichlet(np.ones(S), size=(S, A)) + 0.95 / S
    r, V = rng.normal(size=(S, A)) * 0.01, rng.normal(size=S)
    Q = r + GAMMA * p @ V
    c = GAMMA * radius * np.linalg.norm(V - V.mean())
    backup = SRectangular(radius, "l2").solve(p, r, V, GAMMA)
    for s in range(S):

        def excess(x, Q=Q[s]):
            return (np.maximum(Q - x, 0.0) ** 2).sum() - c**2

        x = brentq(excess, Q[s].max() - 2.0 * c, Q[s].max(), xtol=1e-15)
        weight = np.maximum(Q[s] - x, 0.0)
        assert backup.value[s] == pytest.approx(x, abs=1e-12)
        np.testing.assert_allclose(backup.pi[s], weight / weight.sum(), rtol=0, atol=1e-9)
    assert ((backup.pi > 0.0).sum(1) < A).any()
    assert ((backup.pi > 0.0).sum(1) > 1).any()


@pytest.mark.parametrize("norm", NORMS)
@given(seed=st.integers(0, 2**32 - 1))
def test_backup_is_monotone_and_contracts(norm, seed) -> None:
    rng = np.random.default_rng(seed)
    S, A = 5, 3
    p, pi = kernel(rng, S, A), rng.dirichlet(np.ones(A), size=S)
    r, V = random_state_values(rng, S, A, False)
    lower, other = V - rng.random(S), rng.normal(size=S)
    budget = SRectangular(float(rng.choice([0.1, 0.5, 2.0])), norm)
    for policy in (None, pi):

        def backup(v, policy=policy):
            return budget.solve(p, r, v, GAMMA, pi=policy).value

        value = backup(V)
        np.testing.assert_allclose(backup(V + 3.0), value + GAMMA * 3.0, rtol=0, atol=1e-12)
        assert (backup(lower) <= value + 1e-12).all()
        assert np.abs(backup(other) - value).max() <= GAMMA * np.abs(other - V).max() + 1e-12
        tighter = SRectangular(budget.radius * 0.7, norm).solve(p, r, V, GAMMA, pi=policy).value
        assert (tighter >= value - 1e-12).all()


@pytest.mark.parametrize("norm", NORMS)
def test_limits(rng, norm) -> None:
    p = kernel(rng, 6, 3)
    r, V = random_state_values(rng, 6, 3, False)
    Q = r + GAMMA * p @ V
    pi = rng.dirichlet(np.ones(3), size=6)
    zero = SRectangular(0.0, norm)
    np.testing.assert_allclose(zero.solve(p, r, V, GAMMA).value, Q.max(1), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(zero.solve(p, r, V, GAMMA).pi, np.eye(3)[Q.argmax(1)])
    np.testing.assert_allclose(
        zero.solve(p, r, V, GAMMA, pi=pi).value, (pi * Q).sum(1), rtol=0, atol=1e-14
    )
    floor = r + GAMMA * np.where(p > 0.0, V, np.inf).min(2)
    huge = SRectangular(100.0, norm)
    backup = huge.solve(p, r, V, GAMMA)
    np.testing.assert_allclose(backup.value, floor.max(1), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(backup.pi, np.eye(3)[floor.argmax(1)])
    np.testing.assert_allclose(
        huge.solve(p, r, V, GAMMA, pi=pi).value, (pi * floor).sum(1), rtol=0, atol=1e-14
    )
    flat = SRectangular(0.5, norm).solve(p, r, np.full(6, 2.0), GAMMA)
    np.testing.assert_allclose(flat.value, r.max(1) + GAMMA * 2.0, rtol=0, atol=1e-14)
    np.testing.assert_allclose(flat.kernel.toarray(), p.reshape(18, 6), rtol=0, atol=1e-15)
    undiscounted = SRectangular(0.5, norm).solve(p, r, V, 0.0)
    np.testing.assert_array_equal(undiscounted.value, r.max(1))


@pytest.mark.parametrize("norm", NORMS)
def test_sparse_ragged_and_explicit_zeros_are_the_dense_answer(rng, norm) -> None:
    S, A = 40, 3
    p = kernel(rng, S, A)
    p[::2] = np.eye(S)[rng.integers(S, size=(S // 2, A))]
    r, V = random_state_values(rng, S, A, False)
    row, column = np.nonzero((p.reshape(S * A, S) > 0.0) | (rng.random((S * A, S)) < 0.05))
    stored = p.reshape(S * A, S)[row, column]
    zeros = sp.coo_array((stored, (row, column)), shape=(S * A, S)).tocsr()
    assert (zeros.data == 0.0).any()
    before = zeros.copy()
    candidates = [3, 7, 21]
    for support in ("nominal", "full", candidates, rng.random((S * A, S)) < 0.1):
        for pi in (None, rng.dirichlet(np.ones(A), size=S)):
            budget = SRectangular(0.4, norm, support)
            one, two = (budget.solve(m, r, V, GAMMA, pi=pi) for m in (p, zeros))
            np.testing.assert_array_equal(one.value, two.value)
            np.testing.assert_array_equal(one.pi, two.pi)
            np.testing.assert_array_equal(one.kernel.toarray(), two.kernel.toarray())
    np.testing.assert_array_equal(before.data, zeros.data)  # the input is left alone


def test_candidates_are_the_support_of_the_linear_program(rng) -> None:
    S, A = 5, 3
    p = kernel(rng, S, A)
    r, V = random_state_values(rng, S, A, False)
    mask = rng.random((S, A, S)) < 0.4
    backup = SRectangular(0.6, "l1", mask).solve(p, r, V, GAMMA)
    cone = SRectangular(0.6, "l2", [int(V.argmin())]).solve(p, r, V, GAMMA)
    for s in range(S):
        exact = linear_program(p[s], r[s], V, GAMMA, 0.6, (p[s] > 0.0) | mask[s])
        assert backup.value[s] == pytest.approx(exact, abs=1e-9)
        ok = (p[s] > 0.0) | (V == V.min())
        assert cone.value[s] == pytest.approx(
            conic_program(p[s], r[s], V, GAMMA, 0.6, ok), abs=1e-6
        )


# -------------------------------------------------------------------------------------- planning


@pytest.mark.parametrize(("radius", "mean"), [(0.1, 1.6632510), (0.2, 0.8203345)])
def test_golden_river(radius, mean) -> None:
    """Robust §8.3, by value iteration."""
    mdp = RiverSwimEnv().mdp
    budget, V = SRectangular(radius, "l1", "full"), np.zeros(6)
    for _ in range(500):
        V = budget.solve(mdp.P, mdp.r, V, 0.95).value
    np.testing.assert_allclose(V.mean(), mean, rtol=0, atol=1e-7)
    np.testing.assert_array_equal(budget.solve(mdp.P, mdp.r, V, 0.95).pi.argmax(1), 1)


# ------------------------------------------------------------------------------------------ errors


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match=r"radius must be >= 0 and finite, got -1"):
        SRectangular(-1.0)
    with pytest.raises(ValueError, match=r"norm must be l1 or l2, got 'linf'"):
        SRectangular(1.0, "linf")
    with pytest.raises(ValueError, match=r"support must be nominal, full or a list"):
        SRectangular(1.0, support="everywhere")
    p, r, V = np.full((2, 3, 2), 0.5), np.zeros((2, 3)), np.zeros(2)
    solve = SRectangular(0.1).solve
    with pytest.raises(ValueError, match=r"p must be \(S, A, S\)"):
        solve(p.reshape(6, 2), r, V, 0.9)
    with pytest.raises(ValueError, match="p must sum to 1"):
        solve(0.9 * p, r, V, 0.9)
    with pytest.raises(ValueError, match=r"r must be \(S, A\)"):
        solve(p, r.T, V, 0.9)
    with pytest.raises(ValueError, match="r must be finite"):
        solve(p, r + np.nan, V, 0.9)
    with pytest.raises(ValueError, match=r"V must be \(S,\)"):
        solve(p, r, np.zeros(3), 0.9)
    with pytest.raises(ValueError, match="V must be finite"):
        solve(p, r, V + np.inf, 0.9)
    with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\], got 1.5"):
        solve(p, r, V, 1.5)
    with pytest.raises(ValueError, match="pi must sum to 1"):
        solve(p, r, V, 0.9, pi=r)
    with pytest.raises(ValueError, match=r"pi must be \(S, A\)"):
        solve(p, r, V, 0.9, pi=np.full((3, 2), 0.5))
    with pytest.raises(ValueError, match="support mask must be"):
        SRectangular(0.1, support=np.ones((5, 2), bool)).solve(p, r, V, 0.9)
