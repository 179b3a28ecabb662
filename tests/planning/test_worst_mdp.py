"""Nature's answer as a model of its own: an ordinary evaluation there gives the robust value."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp

from rlentropy import FiniteMDP, planning, risk

GAMMA = 0.9
MEASURES = [
    *("nominal", "worst-case", "entropic:1", "cvar:0.3", "mean-cvar:0.5,0.3", "chi2-penalty:1"),
    *("l1-penalty:0.5", "burg-penalty:1", "cressie-read-penalty:1,0.5", "wasserstein-penalty:0.5"),
    *("contamination:0.2", "kl-ball:0.1", "burg-ball:0.1", "chi2-ball:0.1", "tv-ball:0.2"),
    *("l1-ball:0.3", "linf-ball:0.1", "l2-ball:0.2", "wasserstein-ball:0.2"),
]
OWN = risk.FDivergencePenalty(1.0, lambda t: (t - 1.0) ** 2)


def model(rng, successors=False, terminal=False):
    S, A = 5, 2
    P = rng.dirichlet(np.ones(S), (S, A)) * (rng.random((S, A, S)) < 0.7)
    P[..., 0] += 1e-3
    P /= P.sum(-1, keepdims=True)
    r = rng.normal(size=(S, A, S) if successors else (S, A))
    ends = np.zeros(S, bool)
    if terminal:
        ends[-1], P[-1], r[-1] = True, 0.0, 0.0
        P[-1, :, -1] = 1.0
    return FiniteMDP(P, r, np.full(S, 1 / S), terminal=ends)


def value_in(mdp, pi):
    """By the linear system of a policy, from P and expected rewards."""
    S, A = mdp.r.shape
    P = np.einsum("sa,sat->st", pi, mdp.P.toarray().reshape(S, A, S))
    return np.linalg.solve(np.eye(S) - GAMMA * P, (pi * mdp.r).sum(1))


def check(mdp, found, tolerance=1e-7):
    worst = found.worst_mdp()
    np.testing.assert_allclose(value_in(worst, found.pi), found.V, atol=tolerance)
    again = planning.evaluation(worst, found.pi, GAMMA)
    np.testing.assert_allclose(again.V, found.V, atol=tolerance)
    np.testing.assert_array_equal(worst.P.toarray(), found.kernel().toarray())
    np.testing.assert_array_equal(worst.mu, mdp.mu)
    np.testing.assert_array_equal(worst.terminal, mdp.terminal)
    return worst


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("successors", [False, True])
@pytest.mark.parametrize("name", [*MEASURES, "own"])
def test_every_measure(rng, name, successors, terminal):
    mdp = model(rng, successors, terminal)
    measure = OWN if name == "own" else risk.parse(name)
    check(mdp, planning.robust_optimum(mdp, measure, GAMMA))
    pi = rng.dirichlet(np.ones(2), 5)
    worst = check(mdp, planning.robust_evaluation(mdp, pi, measure, GAMMA))
    if not measure.priced and not successors:  # a set: nature pays nothing
        np.testing.assert_array_equal(worst.r, mdp.r)
    if not measure.priced and successors:
        stored = worst.P.toarray().reshape(5, 2, 5) > 0
        np.testing.assert_allclose(
            worst.r, (worst.P.toarray().reshape(5, 2, 5) * paid(mdp) * stored).sum(-1), atol=1e-12
        )


def paid(mdp):
    """Rewards of successors, (S, A, S); 0 where none is stored."""
    rows, rewards = mdp.supported_rows
    i = np.repeat(np.arange(10), np.diff(rows.begin, append=rows.end[-1]))
    return sp.coo_array((rewards, (i, rows.successor)), (10, 5)).toarray().reshape(5, 2, 5)


@pytest.mark.parametrize("successors", [False, True])
@pytest.mark.parametrize("name", ["tv-ball:0.2", "l1-penalty:0.5", "worst-case", "burg-ball:0.1"])
def test_mass_where_the_model_has_none(rng, name, successors):
    P = np.zeros((5, 2, 5))  # two rooms, of which the second is bad
    P[:3, :, :3], P[3:, :, 3:] = 1 / 3, 1 / 2
    r = rng.random((5, 2, 5) if successors else (5, 2)) - 3.0 * (np.arange(5) > 2).reshape(
        5, 1, *[1] * successors
    )
    mdp = FiniteMDP(P, r, np.full(5, 0.2))
    found = planning.robust_optimum(mdp, risk.parse(name, "full"), GAMMA)
    worst = check(mdp, found)
    assert ((worst.P.toarray() > 0) & (mdp.P.toarray() == 0)).any()


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_budgets_of_whole_states(rng, norm, terminal):
    mdp, measure = model(rng, terminal=terminal), risk.SRectangular(0.3, norm)
    check(mdp, planning.robust_optimum(mdp, measure, GAMMA))
    pi = rng.dirichlet(np.ones(2), 5)
    check(mdp, planning.robust_evaluation(mdp, pi, measure, GAMMA))


def test_markov_risk_is_of_the_policys_own_chain(rng):
    mdp, pi = model(rng), rng.dirichlet(np.ones(2), 5)
    found = planning.robust_evaluation(mdp, pi, risk.Entropic(1.0), GAMMA, markov_risk=True)
    worst = found.worst_mdp()
    assert worst.num_actions == 1
    np.testing.assert_allclose(value_in(worst, found.pi), found.V, atol=1e-9)


def test_listed_successors_and_names_of_states(rng):
    P, r = np.eye(3)[:, None], np.array([[0.0], [1.0], [2.0]])
    listed = np.zeros((3, 1, 3), bool)
    listed[2, 0, 0] = True
    mdp = FiniteMDP(P, r, [0, 0, 1], support=listed, state_ids=[4, 5, 9])
    found = planning.robust_optimum(mdp, risk.parse("tv-ball:0.5"), GAMMA)
    worst = found.worst_mdp()
    np.testing.assert_allclose(worst.P.toarray()[2], [0.5, 0, 0.5])
    assert worst.state_ids.tolist() == [4, 5, 9]
    np.testing.assert_allclose(planning.evaluation(worst, found.pi, GAMMA).V, found.V, atol=1e-7)


def test_a_discount_of_zero(rng):
    for successors in (False, True):
        mdp = model(rng, successors)
        found = planning.robust_optimum(mdp, risk.Entropic(1.0), 0.0)
        again = planning.evaluation(found.worst_mdp(), found.pi, 0.0)
        np.testing.assert_allclose(again.V, found.V, atol=1e-9)


@pytest.mark.parametrize("name", [*MEASURES, "own", "joint"])
def test_plans_can_be_pickled_and_copied(rng, name):
    mdp = model(rng)
    measure = {"own": OWN, "joint": risk.SRectangular(0.1)}.get(name) or risk.parse(name)
    for found in (
        planning.robust_optimum(mdp, measure, GAMMA),
        planning.robust_evaluation(mdp, np.full((5, 2), 0.5), measure, GAMMA),
    ):
        for other in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
            np.testing.assert_array_equal(other.V, found.V)
            np.testing.assert_array_equal(other.kernel().toarray(), found.kernel().toarray())
            assert other.worst_mdp() == found.worst_mdp()
            assert repr(other) == repr(found)
            assert len(repr(found)) < 300
