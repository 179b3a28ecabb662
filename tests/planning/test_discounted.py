"""Discounted optima against policy iteration and linear programs."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from oracles import models
from scipy.optimize import linprog

from rlentropy import FiniteMDP, planning

seeds = st.integers(0, 2**32 - 1)
H, S, A = 4, 5, 3


def problem(seed, **options):
    rng = np.random.default_rng(seed)
    m = models.random_mdp(rng, S, A, **options)
    return rng, m, FiniteMDP(*m.args)


def policy_iteration(P, r, gamma):
    """Howard's algorithm with dense linear solves."""
    S = len(P)
    choice = np.zeros(S, int)
    for _ in range(1000):
        V = np.linalg.solve(np.eye(S) - gamma * P[np.arange(S), choice], r[np.arange(S), choice])
        Q = r + gamma * P @ V
        better = Q.max(1) > Q[np.arange(S), choice] + 1e-14 * (1 + np.abs(V).max())
        if not better.any():
            return V
        choice = np.where(better, Q.argmax(1), choice)
    raise AssertionError("policy iteration cycles")


def check_optimum(best, V, P, r, gamma, tolerance) -> None:
    S = len(P)
    rounding = (1e-12 + 1e-15 / (1 - gamma)) * (1 + np.abs(V).max())
    assert (best.lower <= V + rounding).all()
    assert (best.upper + rounding >= V).all()
    assert (best.lower <= best.V).all()
    assert (best.upper >= best.V).all()
    assert (best.upper - best.lower <= tolerance + rounding).all()
    np.testing.assert_allclose(best.Q, r + gamma * P @ V, rtol=0, atol=tolerance + rounding)
    np.testing.assert_allclose(best.pi.sum(1), 1.0)
    kernel, reward = np.einsum("sa,sat->st", best.pi, P), (best.pi * r).sum(1)
    achieved = np.linalg.solve(np.eye(S) - gamma * kernel, reward)
    assert (achieved >= best.lower - rounding).all()


@given(seed=seeds, gamma=st.sampled_from([0.0, 0.3, 0.9, 0.99]), scale=st.sampled_from([1e-3, 50]))
def test_optimum_is_policy_iterations(seed, gamma, scale) -> None:
    rng, m, _ = problem(seed)
    r = scale * rng.normal(size=(S, A))
    best = planning.optimum(FiniteMDP(m.P, r, m.mu), gamma)
    check_optimum(best, policy_iteration(m.P, r, gamma), m.P, r, gamma, 1e-8)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-5, 1e-9])
def test_optimum_is_the_linear_programs(rng, tolerance) -> None:
    """min Σ V subject to V >= r + γ P V."""
    m = models.random_mdp(rng, 30, 4, successors=3)
    r, gamma = rng.random((30, 4)), 0.95
    rows = (gamma * m.P - np.eye(30)[:, None, :]).reshape(120, 30)
    V = linprog(np.ones(30), rows, -r.ravel(), bounds=(None, None)).x
    best = planning.optimum(FiniteMDP(m.P, r, m.mu), gamma, tolerance)
    assert (np.abs(best.V - V) <= tolerance + 1e-7).all()
    check_optimum(best, policy_iteration(m.P, r, gamma), m.P, r, gamma, tolerance)


@pytest.mark.parametrize("gamma", [0.999, 0.9999])
@pytest.mark.parametrize("seed", range(4))
def test_optimum_at_a_discount_close_to_one(seed, gamma) -> None:
    """Some of these have several recurrent classes, whose values drift apart along the way."""
    rng = np.random.default_rng(seed)
    m = models.random_mdp(rng, 40, 2, successors=2)
    r = rng.random((40, 2))
    best = planning.optimum(FiniteMDP(m.P, r, m.mu), gamma, 1e-6, max_iterations=10_000)
    check_optimum(best, policy_iteration(m.P, r, gamma), m.P, r, gamma, 1e-6)


@given(seed=seeds)
def test_optimum_of_deterministic_mdps(seed) -> None:
    """Many recurrent classes at an everyday discount."""
    rng = np.random.default_rng(seed)
    m = models.random_mdp(rng, 20, 2, successors=1)
    r = rng.random((20, 2))
    best = planning.optimum(FiniteMDP(m.P, r, m.mu), 0.99, 1e-6, max_iterations=10_000)
    check_optimum(best, policy_iteration(m.P, r, 0.99), m.P, r, 0.99, 1e-6)


def test_optimum_of_two_islands() -> None:
    """Rewards 0 and 1 forever: V = 0 and 1 / (1 - γ), for any kernel inside the islands."""
    P = np.zeros((4, 1, 4))
    P[:2, 0, :2] = [[0.5, 0.5], [0.9, 0.1]]
    P[2:, 0, 2:] = [[0.0, 1.0], [1.0, 0.0]]
    r = np.array([[0.0], [0.0], [1.0], [1.0]])
    best = planning.optimum(FiniteMDP(P, r, np.full(4, 0.25)), 0.999)
    np.testing.assert_allclose(best.V, [0.0, 0.0, 1000.0, 1000.0], atol=1e-8)


def test_optimum_of_a_periodic_chain() -> None:
    """Two states that swap: plain bounds on differences converge, averages of V don't."""
    P = np.array([[[0.0, 1.0]], [[1.0, 0.0]]])
    best = planning.optimum(FiniteMDP(P, [[1.0], [0.0]], [1.0, 0.0]), 0.9)
    np.testing.assert_allclose(best.V, [1 / (1 - 0.81), 0.9 / (1 - 0.81)], atol=1e-8)


def test_optimum_with_a_terminal_state_and_sparse_rewards() -> None:
    """A corridor of 50 states with reward 1 on entering the end: V = γ^(48 - s)."""
    n, gamma = 50, 0.9
    s = np.arange(n)
    P = sp.coo_array((np.ones(n), (s, np.minimum(s + 1, n - 1))), shape=(n, n)).tocsr()
    reward = sp.coo_array(([1.0], ([n - 2], [n - 1])), shape=(n, n)).tocsr()
    mdp = FiniteMDP(P, reward, np.eye(n)[0], terminal=s == n - 1)
    best = planning.optimum(mdp, gamma)
    expected = np.append(gamma ** (n - 2 - s[:-1]), 0.0)
    np.testing.assert_allclose(best.V, expected, atol=1e-8)


def test_optimum_refusals() -> None:
    _, m, mdp = problem(0)
    for gamma in (-0.1, 1.0, np.nan):
        with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\)"):
            planning.optimum(mdp, gamma)
    for tolerance in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="tolerance must be > 0"):
            planning.optimum(mdp, 0.9, tolerance)
    r = np.arange(15.0).reshape(5, 3)
    with pytest.raises(
        RuntimeError, match=r"apart after 1 applications of T, tolerance is 1e-08: raise"
    ):
        planning.optimum(FiniteMDP(m.P, r, m.mu), 0.99, max_iterations=1)
