"""Successors of probability 0 that a model lists: nature may choose them, the nominal model not.

The oracles are linear programs over one row, written here, and dense arrays without the package.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import linprog

from rlentropy import FiniteMDP, risk
from rlentropy.offline.scoring import with_fail_state
from rlentropy.planning import optimum, robust_evaluation, robust_optimum
from rlentropy.planning.nature import Nature

S, A, GAMMA = 7, 2, 0.9


def row_program(kind, radius, p, z, may):
    """min E_q z + D(q, p) over q >= 0 on the states of `may`, as a linear program.

    Variables are q, then |q - p| bounded from above by t.
    """
    n = len(p)
    eye, zero = np.eye(n), np.zeros((n, n))
    limits, caps = [np.hstack([eye, -eye]), np.hstack([-eye, -eye])], [p, -p]
    cost = np.append(z, np.zeros(n))
    if kind == "l1-penalty":
        cost[n:] = radius
    elif kind in ("tv-ball", "l1-ball"):
        limits.append(np.append(np.zeros(n), np.ones(n))[None])
        caps.append([radius * (2.0 if kind == "tv-ball" else 1.0)])
    elif kind == "linf-ball":
        limits.append(np.hstack([zero, eye]))
        caps.append(np.full(n, radius))
    elif kind == "contamination":
        limits.append(np.hstack([-eye, zero]))
        caps.append(-(1.0 - radius) * p)
    bounds = [(0.0, None if m else 0.0) for m in may] + [(0.0, None)] * n
    found = linprog(
        cost,
        A_ub=np.vstack(limits),
        b_ub=np.concatenate(caps),
        A_eq=np.append(np.ones(n), np.zeros(n))[None],
        b_eq=[1.0],
        bounds=bounds,
    )
    assert found.status == 0, found.message
    return found.fun


LINEAR = ["worst-case:", "tv-ball:0.3", "l1-ball:0.5", "linf-ball:0.15", "l1-penalty:0.2"]
LINEAR += ["contamination:0.3"]
CONVEX = ["l2-ball:0.3", "burg-ball:0.4", "burg-penalty:0.5", "cressie-read-penalty:0.5,0.5"]
BOUND = ["nominal", "entropic:1", "cvar:0.4", "mean-cvar:0.5,0.3", "kl-ball:0.2", "chi2-ball:0.3"]
BOUND += ["chi2-penalty:0.4", "cressie-read-penalty:0.5,2"]


def model(rng, paid):
    """A kernel with zeros, some of them listed; rewards of (s, a) or of successors."""
    P = rng.dirichlet(np.ones(S), (S, A)) * (rng.random((S, A, S)) < 0.5)
    P[:, :, 0] += 1e-3
    P /= P.sum(2, keepdims=True)
    listed = (rng.random((S, A, S)) < 0.3) & (P == 0.0)
    r = rng.normal(size=(S, A, S)) if paid else rng.normal(size=(S, A))
    return P, r, listed


def answers(mdp, measure, V):
    """What `Nature` says of all rows, and the value of the worst cases that it names."""
    nature = Nature(mdp, measure, GAMMA)
    return nature.backup(V), nature.kernel(V).toarray().reshape(S, A, S)


@pytest.mark.parametrize("paid", [False, True])
@pytest.mark.parametrize("name", LINEAR)
def test_nature_solves_the_linear_program_of_each_row(rng, name, paid) -> None:
    P, r, listed = model(rng, paid)
    mdp = FiniteMDP(P, r, np.eye(S)[0], support=listed)
    assert mdp.support.nnz == listed.sum()
    V = rng.normal(size=S)
    kind, _, radius = name.partition(":")
    radius = float(radius or 0.0)
    measure = risk.parse(name.strip(":"), "nominal")
    Q, q = answers(mdp, measure, V)
    z = (r if paid else r[:, :, None]) + GAMMA * V
    for s in range(S):
        for a in range(A):
            may = (P[s, a] > 0.0) | listed[s, a]
            price = radius * (GAMMA if kind == "l1-penalty" else 1.0)
            exact = row_program(kind, price, P[s, a], z[s, a], may)
            assert Q[s, a] == pytest.approx(exact, abs=1e-8)
            cost = price * np.abs(q[s, a] - P[s, a]).sum() if kind == "l1-penalty" else 0.0
            assert q[s, a] @ z[s, a] + cost == pytest.approx(exact, abs=1e-8)
            assert not q[s, a][~may].any()


@pytest.mark.parametrize("paid", [False, True])
@pytest.mark.parametrize("name", LINEAR + CONVEX)
def test_listed_successors_are_what_a_mask_of_the_measure_allows(rng, name, paid) -> None:
    P, r, listed = model(rng, paid)
    mask = listed.reshape(S * A, S)
    V = rng.normal(size=S)
    measure = risk.parse(name.strip(":"), "nominal")
    masked = risk.parse(name.strip(":"), mask | (P > 0.0).reshape(S * A, S))
    if paid:  # a mask's successors pay nothing
        r = np.where(listed, 0.0, r)
    with_list = FiniteMDP(P, r, np.eye(S)[0], support=sp.csr_array(mask))
    Q, q = answers(with_list, measure, V)
    other, _ = answers(FiniteMDP(P, r, np.eye(S)[0]), masked, V)
    np.testing.assert_allclose(Q, other, rtol=0, atol=1e-9)
    np.testing.assert_allclose(q.sum(2), 1.0, atol=1e-12)
    assert not q[(P == 0.0) & ~listed].any()


@pytest.mark.parametrize("name", ["tv-ball:0.3", "l2-ball:0.3", "linf-ball:0.2", "worst-case"])
def test_a_measures_own_candidates_come_beside_the_models(rng, name) -> None:
    P, r, listed = model(rng, False)
    V, states = rng.normal(size=S), np.array([2, 5])
    mask = np.zeros(S, bool)
    mask[states] = True
    by_row = rng.random((S * A, S)) < 0.2
    mdp, bare = FiniteMDP(P, r, np.eye(S)[0], support=listed), FiniteMDP(P, r, np.eye(S)[0])
    for support, union in (
        (states, listed | mask),
        (by_row, listed | by_row.reshape(S, A, S)),
        (sp.csr_array(by_row), listed | by_row.reshape(S, A, S)),
        ("full", np.ones((S, A, S), bool)),
    ):
        Q, _ = answers(mdp, risk.parse(name, support), V)
        other, _ = answers(bare, risk.parse(name, union.reshape(S * A, S)), V)
        np.testing.assert_allclose(Q, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("paid", [False, True])
@pytest.mark.parametrize("name", BOUND)
def test_measures_that_force_absolute_continuity_take_no_notice(rng, name, paid) -> None:
    P, r, listed = model(rng, paid)
    mu, V = np.eye(S)[0], rng.normal(size=S)
    plain, with_list = FiniteMDP(P, r, mu), FiniteMDP(P, r, mu, support=listed)
    np.testing.assert_array_equal(with_list.r, plain.r)
    np.testing.assert_array_equal(with_list.P.toarray(), plain.P.toarray())
    measure = risk.parse(name)
    for one, two in zip(answers(plain, measure, V), answers(with_list, measure, V), strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(optimum(plain, 0.9).V, optimum(with_list, 0.9).V)
    one, two = (robust_optimum(m, measure, 0.9) for m in (plain, with_list))
    np.testing.assert_array_equal(one.V, two.V)


def test_solvers_reach_the_listed_trap() -> None:
    """0 leads to 1 (reward 1 for ever); 2 (reward 0 for ever) is listed, and TV may move 0.1."""
    P = np.zeros((3, 1, 3))
    P[0, 0, 1] = P[1, 0, 1] = P[2, 0, 2] = 1.0
    r, mu, listed = np.array([[0.0], [1.0], [0.0]]), np.eye(3)[0], np.zeros((3, 1, 3), bool)
    listed[0, 0, 2] = True
    ball, good = risk.TVBall(0.1), 1.0 / (1.0 - GAMMA)
    for mdp, share in ((FiniteMDP(P, r, mu), 1.0), (FiniteMDP(P, r, mu, support=listed), 0.9)):
        assert robust_optimum(mdp, ball, GAMMA).V[0] == pytest.approx(share * GAMMA * good)
        value = robust_evaluation(mdp, np.ones((3, 1)), ball, GAMMA)
        assert value.V[0] == pytest.approx(share * GAMMA * good)
        np.testing.assert_allclose(value.kernel().toarray()[0], [0.0, share, 1.0 - share])


def test_a_listed_successor_pays_its_own_reward() -> None:
    """Rewards of what is possible agree, so r stays r(s, a); the listed one pays -5."""
    P = np.zeros((2, 1, 2))
    P[:, 0, 0] = 1.0
    r, listed = np.ones((2, 1, 2)), np.zeros((2, 1, 2), bool)
    r[0, 0, 1], listed[0, 0, 1] = -5.0, True
    mdp = FiniteMDP(P, r, [1.0, 0.0], support=listed)
    assert mdp.r_successor is None
    V = np.zeros(2)
    Q = Nature(mdp, risk.TVBall(0.25), GAMMA).backup(V)
    np.testing.assert_allclose(Q, [[0.75 * 1.0 - 0.25 * 5.0], [1.0]])
    assert Nature(mdp, risk.Entropic(1.0), GAMMA).backup(V).tolist() == [[1.0], [1.0]]


def test_forms_of_a_support() -> None:
    P = np.zeros((2, 1, 2))
    P[:, 0, 0] = 1.0
    r, mu = np.zeros((2, 1)), [1.0, 0.0]
    stored = sp.csr_array(([1.0, 0.0, 1.0], [0, 1, 0], [0, 2, 3]), shape=(2, 2))
    dense = np.array([[[True, True]], [[False, False]]])
    for mdp in (
        FiniteMDP(stored, r, mu),
        FiniteMDP(P, r, mu, support=dense),
        FiniteMDP(P, r, mu, support=sp.csr_array(dense.reshape(2, 2))),
        FiniteMDP(P, r, mu, support=sp.csr_array([[0, 3], [0, 0]])),
    ):
        assert mdp.P.nnz == 2
        assert mdp.support.toarray().tolist() == [[False, True], [False, False]]
        again = FiniteMDP(mdp.P, r, mu, support=mdp.support)
        assert again.support.toarray().tolist() == mdp.support.toarray().tolist()
        assert repr(mdp) == "FiniteMDP(states=2, actions=1, transitions=2, listed=1)"
    assert FiniteMDP(P, r, mu).support is None
    for wrong in (np.ones((2, 2), bool), np.ones((2, 1, 2)), sp.csr_array((4, 2)), "full"):
        with pytest.raises(ValueError, match=r"support must be"):
            FiniteMDP(P, r, mu, support=wrong)


def test_terminal_states_list_nothing() -> None:
    P = np.eye(2)[:, None]
    everything = np.ones((2, 1, 2), bool)
    mdp = FiniteMDP(P, np.zeros((2, 1)), [1.0, 0.0], terminal=[False, True], support=everything)
    assert mdp.support.toarray().tolist() == [[False, True], [False, False]]


def test_a_large_model_lists_successors_sparsely(rng) -> None:
    n, k = 50_000, 4
    columns = (np.arange(n)[:, None] + rng.integers(1, n, (n, 1)) * np.arange(1, k + 1)) % n
    p = np.tile([0.5, 0.5, 0.0, 0.0], (n, 1))
    columns = np.sort(columns, 1) + 0
    unique = (np.diff(columns, axis=1) > 0).all(1)
    columns[~unique] = np.arange(k)
    P = sp.csr_array((p.ravel(), columns.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    mdp = FiniteMDP(P, rng.random((n, 1)), np.eye(1, n)[0])
    V = rng.random(n)
    W = Nature(mdp, risk.WorstCase(), GAMMA).expectations(V)
    np.testing.assert_array_equal(W, V[columns].min(1))


@pytest.mark.parametrize("name", LINEAR + CONVEX)
def test_a_sparse_support_of_a_measure(rng, name) -> None:
    """The same successors as a dense mask: expectation, worst case and penalty."""
    P, _, listed = model(rng, False)
    p, mask = P.reshape(S * A, S), listed.reshape(S * A, S)
    V = rng.normal(size=S)
    name = name.strip(":")
    dense, sparse = risk.parse(name, mask), risk.parse(name, sp.csr_array(mask))
    exact = dense.expectation(p, V)
    np.testing.assert_allclose(sparse.expectation(sp.csr_array(p), V), exact, atol=1e-9)
    np.testing.assert_allclose(sparse.expectation(p, V), exact, atol=1e-9)
    q = sparse.worst_case(sp.csr_array(p), V)
    assert not q.toarray()[(p == 0.0) & ~mask].any()
    paid = (q @ V) + sparse.penalty(q, sp.csr_array(p))
    np.testing.assert_allclose(paid, exact, atol=1e-8)
    with pytest.raises(ValueError, match="sparse support must be like p"):
        sparse.expectation(sp.csr_array(p[:3]), V)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_s_rectangular_sets_take_what_a_model_lists(rng, norm) -> None:
    P, r, listed = model(rng, False)
    mdp, V = FiniteMDP(P, r, np.eye(S)[0], support=listed), rng.normal(size=S)
    for support in ("nominal", "full", [2, 5]):
        ball = risk.SRectangular(0.4, norm, support)
        own = np.zeros(S, bool) if support == "nominal" else np.isin(np.arange(S), [2, 5])
        mask = listed | (np.ones(S, bool) if support == "full" else own)
        one = ball.listing(mdp.support, S).solve(mdp.P, r, V, GAMMA)
        two = risk.SRectangular(0.4, norm, mask).solve(P, r, V, GAMMA)
        np.testing.assert_allclose(one.value, two.value, rtol=0, atol=1e-12)
        np.testing.assert_allclose(one.kernel.toarray(), two.kernel.toarray(), atol=1e-9)
    assert ball.listing(None, S) is ball


def test_a_fail_state_leaves_the_list_as_it_is(rng) -> None:
    P, r, listed = model(rng, False)
    mdp = FiniteMDP(P, r, np.eye(S)[0], support=listed)
    wider = with_fail_state(mdp, SimpleNamespace(fail=-3.0, gamma=GAMMA))
    assert wider.num_states == S + 1
    np.testing.assert_array_equal(
        wider.support.toarray().reshape(S + 1, A, S + 1)[:S, :, :S], listed
    )
    assert wider.support.nnz == listed.sum()


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_solvers_with_s_rectangular_sets_go_where_the_model_lists(rng, norm) -> None:
    P, r, listed = model(rng, False)
    mdp, bare = (FiniteMDP(P, r, np.eye(S)[0], **o) for o in ({"support": listed}, {}))
    masked = risk.SRectangular(0.4, norm, (listed | (P > 0.0)).reshape(S * A, S))
    one = robust_optimum(mdp, risk.SRectangular(0.4, norm), GAMMA)
    two = robust_optimum(bare, masked, GAMMA)
    np.testing.assert_allclose(one.V, two.V, rtol=0, atol=2e-8)
    paying = FiniteMDP(P, np.where(listed, -5.0, r[:, :, None]), np.eye(S)[0], support=listed)
    with pytest.raises(ValueError, match="rewards depend on the successor"):
        robust_optimum(paying, masked, GAMMA)


def test_the_markov_risk_goes_where_a_played_action_lists(rng) -> None:
    P, r, listed = model(rng, False)
    pi = rng.dirichlet(np.ones(A), S)
    pi[0] = [1.0, 0.0]
    mdp, ball = FiniteMDP(P, r, np.eye(S)[0], support=listed), risk.TVBall(0.3)
    V = robust_evaluation(mdp, pi, ball, GAMMA, markov_risk=True).V
    mixed = np.einsum("sa,sat->st", pi, P)
    may = (mixed > 0.0) | (listed & (pi > 0.0)[:, :, None]).any(1)
    for s in range(S):
        exact = row_program("tv-ball", 0.3, mixed[s], GAMMA * V, may[s])
        assert V[s] == pytest.approx(pi[s] @ r[s] + exact, abs=1e-8)
