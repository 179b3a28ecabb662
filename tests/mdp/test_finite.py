"""FiniteMDP: what it accepts, what it refuses and how; EmpiricalModel against dense counts."""

import pickle
import subprocess
import sys
import textwrap

import gymnasium
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from oracles import episodic, models

from rlentropy import FiniteMDP, planning, risk
from rlentropy.mdp import model_or_reason

seeds = st.integers(0, 2**32 - 1)


def sparse(P):
    S, A = P.shape[:2]
    return sp.csr_array(P.reshape(S * A, S))


# ---------------------------------------------------------------- accepted


@pytest.mark.parametrize(
    "form",
    [
        lambda P: P,
        lambda P: P.tolist(),
        sparse,
        lambda P: sparse(P).tocoo(),
        lambda P: sparse(P).tocsc(),
        lambda P: sp.csr_matrix(sparse(P)),
        lambda P: sparse(P).tolil(),
    ],
    ids=["dense", "list", "csr", "coo", "csc", "csr_matrix", "lil"],
)
def test_every_form_of_kernel_gives_the_same_model(form, rng) -> None:
    m = models.random_mdp(rng, S=5, A=3)
    r = rng.normal(size=(5, 3))
    mdp = FiniteMDP(form(m.P), r, m.mu)
    assert (mdp.num_states, mdp.num_actions) == (5, 3)
    np.testing.assert_array_equal(models.dense(mdp), m.P)
    np.testing.assert_array_equal(mdp.r, r)
    np.testing.assert_array_equal(mdp.mu, m.mu)
    assert not mdp.terminal.any()
    assert mdp.r_successor is None
    np.testing.assert_array_equal(models.dense_rows(mdp.rows, 5), m.P.reshape(15, 5))


def test_zeros_are_not_stored_and_rows_are_sorted() -> None:
    data, columns, indptr = [0.5, 0.0, 0.5, 1.0], [2, 1, 0, 1], [0, 3, 3, 4]
    P = sp.csr_array((data, columns, indptr), shape=(3, 3))
    P = sp.vstack([P[[0]], P[[2]], P[[2]]]).tocsr()
    mdp = FiniteMDP(P, np.zeros((3, 1)), np.eye(3)[0])
    assert mdp.P.nnz == 4
    np.testing.assert_array_equal(mdp.rows.successor, [0, 2, 1, 1])


@pytest.mark.parametrize("as_sparse", [False, True])
def test_a_reward_per_successor_gives_its_mean(as_sparse, rng) -> None:
    m = models.random_mdp(rng, S=4, A=2)
    r = rng.normal(size=(4, 2, 4))
    mdp = FiniteMDP(m.P, sparse(r) if as_sparse else r, m.mu)
    np.testing.assert_allclose(mdp.r, (m.P * r).sum(2), atol=1e-14)
    np.testing.assert_array_equal(mdp.r_successor, r[m.P > 0])


def test_a_reward_where_nothing_goes_does_not_count() -> None:
    P, _, mu = models.two_states()
    r = np.where(P > 0, 1.0, np.nan)
    np.testing.assert_array_equal(FiniteMDP(P, r, mu).r, np.ones((2, 2)))


def test_the_smallest_mdp() -> None:
    mdp = FiniteMDP(np.ones((1, 1, 1)), np.zeros((1, 1)), np.ones(1), terminal=[True])
    assert mdp.terminal.tolist() == [True]
    assert mdp.transition_entropy.tolist() == [[0.0]]


@given(seed=seeds)
def test_transition_entropy_is_the_entropy_of_each_row(seed) -> None:
    m = models.random_mdp(np.random.default_rng(seed), S=5, A=2)
    mdp = FiniteMDP(*m.args)
    np.testing.assert_allclose(mdp.transition_entropy, episodic.row_entropy(m), atol=1e-14)


@given(seed=seeds)
def test_reachable_is_the_transitive_closure(seed) -> None:
    rng = np.random.default_rng(seed)
    m = models.random_mdp(rng, S=12, A=2, successors=1, start=int(rng.integers(12)))
    step = np.eye(12) + m.P.sum(1) > 0
    closure = np.linalg.matrix_power(step.astype(float), 12) > 0
    np.testing.assert_array_equal(FiniteMDP(*m.args).reachable(), closure[m.mu > 0].any(0))


# ---------------------------------------------------------------- frozen


def test_attributes_cannot_be_set() -> None:
    mdp = FiniteMDP(*models.two_states())
    for name in ("r", "mu", "terminal", "r_successor", "num_states", "num_actions"):
        with pytest.raises(AttributeError, match=f"immutable.*{name}"):
            setattr(mdp, name, None)
    for name in ("P", "rows", "transition_entropy"):
        with pytest.raises(AttributeError):
            setattr(mdp, name, None)


def test_arrays_cannot_be_written() -> None:
    P, _, mu = models.two_states()
    mdp = FiniteMDP(P, np.arange(8.0).reshape(2, 2, 2), mu)
    for array in (mdp.r, mdp.mu, mdp.terminal, mdp.r_successor, mdp.transition_entropy):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0


def test_a_reward_that_no_successor_changes_is_one_of_state_and_action(rng) -> None:
    m, r = models.random_mdp(rng, S=5, A=2), rng.random((5, 2))
    mdp = FiniteMDP(m.P, np.broadcast_to(r[:, :, None], m.P.shape), m.mu)
    assert mdp.r_successor is None
    np.testing.assert_array_equal(mdp.r, r)


def test_the_callers_arrays_are_copied() -> None:
    P, r, mu = models.two_states()
    kernel, terminal = sparse(P), np.zeros(2, bool)
    mdp = FiniteMDP(kernel, r, mu, terminal=terminal)
    kernel.data[:], r[:], mu[:], terminal[:] = 0.0, 9.0, 9.0, True
    np.testing.assert_array_equal(models.dense(mdp), P)
    assert mdp.r.max() == 4.0
    assert mdp.mu.tolist() == [0.5, 0.5]
    assert not mdp.terminal.any()


def test_models_are_pickled_for_worker_processes(rng) -> None:
    m = models.random_mdp(rng, S=4, A=2)
    mdp = FiniteMDP(m.P, rng.normal(size=(4, 2, 4)), m.mu)
    again = pickle.loads(pickle.dumps(mdp))
    np.testing.assert_array_equal(models.dense(again), m.P)
    np.testing.assert_array_equal(again.r, mdp.r)
    with pytest.raises(AttributeError, match="immutable"):
        again.r = mdp.r


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("entry", "what"),
    [(np.nan, "nan"), (-0.5, "-0.5"), (np.inf, "inf"), (0.7, "sum")],
)
@pytest.mark.parametrize("form", [np.asarray, sparse])
def test_a_row_that_is_no_distribution(entry, what, form) -> None:
    P, r, mu = models.two_states()
    P[1, 0, 0] = P[1, 1, 0] = entry  # (1, 0) is the first of two
    with pytest.raises(ValueError, match=rf"P\[s, a\] must be a distribution.*{what}.*\(1, 0\)"):
        FiniteMDP(form(P), r, mu)


def test_negative_entries_do_not_cancel() -> None:
    P, r, mu = models.two_states()
    P[0, 1] = [-0.5, 1.5]
    with pytest.raises(ValueError, match=r"-0\.5.*\(0, 1\)"):
        FiniteMDP(P, r, mu)


def test_an_empty_row_and_a_row_off_by_more_than_rounding() -> None:
    P, r, mu = models.two_states()
    P[0, 1] = 0.0
    with pytest.raises(ValueError, match=r"sum 0.*\(0, 1\)"):
        FiniteMDP(P, r, mu)
    P[0, 1] = [0.0, 1.0 + 2e-8]
    with pytest.raises(ValueError, match=r"sum 1\.0.*\(0, 1\)"):
        FiniteMDP(P, r, mu)
    P[0, 1] = [0.0, 1.0 + 5e-9]
    FiniteMDP(P, r, mu)


@pytest.mark.parametrize(
    ("P", "message"),
    [
        (np.ones((2, 2)), r"P must be \(S, A, S\).*\(2, 2\)"),
        (np.ones((2, 1, 3)), r"P must be \(S, A, S\).*\(2, 1, 3\)"),
        (np.ones((0, 1, 0)), "at least one state"),
        (np.ones((2, 0, 2)), "at least one state and one action"),
        (sp.csr_array((3, 2)), r"sparse P must be \(S\*A, S\), got \(3, 2\)"),
        (sp.csr_array((0, 2)), "at least one state and one action"),
        (sp.csr_array((2, 0)), r"sparse P must be"),
    ],
)
def test_kernels_of_a_wrong_shape(P, message) -> None:
    with pytest.raises(ValueError, match=message):
        FiniteMDP(P, np.zeros((2, 1)), np.ones(2) / 2)


def test_a_duplicate_coordinate_is_named_not_summed() -> None:
    rows, columns, p = [0, 1, 2, 3, 2], [1, 0, 1, 1, 1], [1.0, 1.0, 0.5, 1.0, 0.5]
    P = sp.coo_array((p, (rows, columns)), shape=(4, 2))
    with pytest.raises(ValueError, match=r"duplicate entry at \(s, a\) = \(1, 0\), s' = 1"):
        FiniteMDP(P, np.zeros((2, 2)), [1.0, 0.0])


def test_a_duplicate_in_a_csr_that_is_not_canonical() -> None:
    P = sp.csr_array(([0.5, 0.5, 1.0], [1, 1, 0], [0, 2, 3]), shape=(2, 2))
    with pytest.raises(ValueError, match=r"duplicate entry at \(s, a\) = \(0, 0\), s' = 1"):
        FiniteMDP(P, np.zeros((2, 1)), [1.0, 0.0])


@pytest.mark.parametrize("successor", [2, -1])
def test_a_successor_out_of_range_is_named(successor) -> None:
    P = sp.csr_array(([1.0, 1.0, 1.0, 1.0], [1, 0, 1, 0], [0, 1, 2, 3, 4]), shape=(4, 2))
    P.indices[2] = successor  # scipy checks on construction alone
    with pytest.raises(ValueError, match=r"successors must be in 0\.\.1.*\(1, 0\)"):
        FiniteMDP(P, np.zeros((2, 2)), [1.0, 0.0])


@pytest.mark.parametrize(
    ("mu", "message"),
    [
        (np.ones(3) / 3, r"mu must be \(S,\) = \(2,\), got \(3,\)"),
        ([0.5, 0.6], r"mu must be a distribution.*sum 1\.1"),
        ([1.5, -0.5], r"mu must be a distribution.*-0\.5"),
        ([np.nan, 1.0], "mu must be a distribution.*nan"),
        (0, r"mu must be \(S,\)"),
    ],
)
def test_initial_distributions(mu, message) -> None:
    P, r, _ = models.two_states()
    with pytest.raises(ValueError, match=message):
        FiniteMDP(P, r, mu)


@pytest.mark.parametrize("form", [np.asarray, sparse])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_bad_reward_of_one_successor(form, value) -> None:
    P, _, mu = models.two_states()
    r = np.ones((2, 2, 2))
    r[1, 0, 1] = r[1, 1, 0] = value
    with pytest.raises(ValueError, match=r"r must be finite.*\(s, a\) = \(1, 0\)"):
        FiniteMDP(P, form(r), mu)


def test_rewards() -> None:
    P, r, mu = models.two_states()
    with pytest.raises(ValueError, match=r"r must be \(S, A\) = \(2, 2\).*got \(2,\)"):
        FiniteMDP(P, np.ones(2), mu)
    with pytest.raises(ValueError, match=r"sparse r must be \(S\*A, S\) = \(4, 2\), got \(2, 2\)"):
        FiniteMDP(P, sp.csr_array(r), mu)
    r[0, 1] = r[1, 1] = np.nan
    with pytest.raises(ValueError, match=r"r must be finite, got nan at \(s, a\) = \(0, 1\)"):
        FiniteMDP(P, r, mu)


def test_a_duplicate_reward_is_named_not_summed() -> None:
    P, _, mu = models.two_states()
    r = sp.coo_array(([1.0, 2.0, 4.0], ([2, 1, 2], [1, 1, 1])), shape=(4, 2))
    with pytest.raises(ValueError, match=r"r: duplicate entry at \(s, a\) = \(1, 0\), s' = 1"):
        FiniteMDP(P, r, mu)


def test_terminal_states_must_absorb_without_reward() -> None:
    P, r, mu = models.two_states()
    with pytest.raises(ValueError, match=r"terminal must be \(S,\) of bool, got \(3,\)"):
        FiniteMDP(P, r, mu, terminal=np.zeros(3, bool))
    with pytest.raises(ValueError, match=r"terminal must be \(S,\) of bool.*int"):
        FiniteMDP(P, r, mu, terminal=[0, 1])
    with pytest.raises(ValueError, match=r"absorbing with reward 0.*\(1, 0\)"):
        FiniteMDP(P, r, mu, terminal=[False, True])
    P[1] = [0.0, 1.0]
    r[1] = [0.0, 4.0]
    with pytest.raises(ValueError, match=r"absorbing with reward 0.*\(1, 1\)"):
        FiniteMDP(P, r, mu, terminal=[False, True])
    r[1] = 0.0
    assert FiniteMDP(P, r, mu, terminal=[False, True]).terminal.tolist() == [False, True]


# ---------------------------------------------------------------- gymnasium's tables


class Table(gymnasium.Env):
    """A toy-text environment that is nothing but its table."""

    def __init__(self, P, starts=(0,)) -> None:
        self.P, self.starts = P, starts
        self.observation_space = gymnasium.spaces.Discrete(len(P))
        self.action_space = gymnasium.spaces.Discrete(len(P[0]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = int(self.np_random.choice(self.starts))
        return self.s, {}

    def step(self, action):
        entries = self.P[self.s][action]
        k = self.np_random.choice(len(entries), p=[p for p, *_ in entries])
        _, self.s, reward, terminated = entries[k]
        return self.s, reward, terminated, False, {}


def test_successors_listed_twice_are_merged() -> None:
    table = {
        0: {0: [(0.25, 0, 4.0, False), (0.25, 0, 8.0, False), (0.5, 1, 2.0, True)]},
        1: {0: [(1.0, 0, 99.0, False)]},  # what a table says after the end doesn't happen
    }
    mdp = FiniteMDP.from_table(table, [1.0, 0.0])
    np.testing.assert_array_equal(models.dense(mdp)[:, 0], [[0.5, 0.5], [0.0, 1.0]])
    np.testing.assert_array_equal(mdp.r, [[4.0], [0.0]])
    np.testing.assert_array_equal(mdp.r_successor, [6.0, 2.0, 0.0])
    assert mdp.terminal.tolist() == [False, True]


def test_a_state_entered_both_ways_ends_in_one_more(rng) -> None:
    """State 1 is entered by (0, 0) with termination and by (0, 1) without."""
    table = {
        0: {0: [(0.5, 1, 5.0, True), (0.5, 0, 1.0, False)], 1: [(1.0, 1, 2.0, False)]},
        1: {0: [(1.0, 0, 3.0, False)], 1: [(1.0, 2, 7.0, True)]},
        2: {0: [(1.0, 2, 0.0, True)], 1: [(1.0, 2, 0.0, True)]},
    }
    mdp = FiniteMDP.from_table(table, [1.0, 0.0, 0.0])
    assert (mdp.num_states, mdp.terminal.tolist()) == (4, [False, False, True, True])
    gamma = 0.9  # stay at 0 and leave by 1: V0 = max(.5 * 5 + .5 (1 + γ V0), 2 + γ V1)
    V = np.zeros(3)
    for _ in range(1000):
        V[0] = max(2.5 + 0.5 * (1.0 + gamma * V[0]), 2.0 + gamma * V[1])
        V[1] = max(3.0 + gamma * V[0], 7.0)
    np.testing.assert_allclose(planning.optimum(mdp, gamma).V, [*V, 0.0], atol=1e-7)
    assert FiniteMDP.from_env(Table(table)).num_states == 4
    model, why = model_or_reason(Table(table))
    assert model is None
    assert "entered both with and without termination" in why


def test_ends_of_one_action_that_pay_differently_are_told_apart() -> None:
    """Merged, they would pay 5 for certain, and a risk measure would see no risk."""
    table = {
        0: {0: [(0.5, 1, 10.0, True), (0.5, 2, 0.0, True)], 1: [(1.0, 1, 0.0, False)]},
        1: {0: [(1.0, 2, 0.0, False)], 1: [(1.0, 2, 0.0, True)]},
        2: {0: [(1.0, 0, 0.0, False)], 1: [(1.0, 0, 0.0, False)]},
    }
    mdp = FiniteMDP.from_table(table, [1.0, 0.0, 0.0])
    assert mdp.terminal.tolist() == [False, False, False, True, True]
    row = mdp.P.toarray()[0]
    assert row.tolist() == [0.0, 0.0, 0.0, 0.5, 0.5]
    assert mdp.P.toarray()[3].tolist() == [0.0, 0.0, 0.0, 1.0, 0.0]
    pi = np.eye(2)[[0] * 5]
    value = planning.robust_evaluation(mdp, pi, risk.Entropic(1.0), 0.9)
    gamma = 0.9  # r + γ W: the entropic measure of 10 / γ and 0
    exact = -gamma * np.log(0.5 * np.exp(-10.0 / gamma) + 0.5)
    assert value.V[0] == pytest.approx(exact, abs=1e-8)


def test_a_start_that_is_entered_with_termination_is_played() -> None:
    table = {0: {0: [(1.0, 1, 1.0, False)]}, 1: {0: [(1.0, 0, 5.0, True)]}}  # there and back
    mdp = FiniteMDP.from_table(table, [1.0, 0.0])
    assert mdp.terminal.tolist() == [False, False, True]
    np.testing.assert_allclose(planning.optimum(mdp, 0.5).V, [3.5, 5.0, 0.0], atol=1e-7)


def test_a_state_entered_both_ways_only_from_nowhere_is_fine() -> None:
    table = {
        0: {0: [(1.0, 1, 1.0, True)]},
        1: {0: [(1.0, 1, 0.0, True)]},
        2: {0: [(1.0, 1, 0.0, False)]},  # never reached
    }
    assert FiniteMDP.from_table(table, [1.0, 0.0, 0.0]).terminal.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("transitions", "message"),
    [
        ([(1.0, 5, 0.0, False)], r"successor of \(s, a\) = \(0, 0\) must be in 0\.\.1, got 5"),
        ([(1.0, -1, 0.0, False)], r"successor of \(s, a\) = \(0, 0\).*got -1"),
        ([(1.5, 0, 0.0, False), (-0.5, 0, 0.0, False)], r"got -0\.5 at \(s, a\) = \(0, 0\)"),
        ([(np.nan, 0, 0.0, False)], r"got nan at \(s, a\) = \(0, 0\)"),
        ([(0.5, 0, 0.0, False)], r"sum 0\.5 at \(s, a\) = \(0, 0\)"),
        ([(1.0, 0, np.nan, False)], r"r must be finite, got nan at \(s, a\) = \(0, 0\)"),
        ([], r"\(0, 0\)"),
    ],
)
def test_tables_that_are_no_mdp(transitions, message) -> None:
    table = {0: {0: transitions}, 1: {0: [(1.0, 1, 0.0, False)]}}
    with pytest.raises(ValueError, match=message):
        FiniteMDP.from_table(table, [1.0, 0.0])


def test_ragged_tables() -> None:
    table = {0: {0: [(1.0, 0, 0.0, False)]}, 1: {}}
    with pytest.raises(ValueError, match=r"P\[1\] must have 1 actions like P\[0\], got 0"):
        FiniteMDP.from_table(table, [1.0, 0.0])


def test_a_table_without_a_declared_start() -> None:
    stay = {s: {0: [(1.0, s, 0.0, False)]} for s in range(3)}
    assert FiniteMDP.from_env(Table(stay, starts=(2,))).mu.tolist() == [0.0, 0.0, 1.0]
    with pytest.raises(ValueError, match=r"start states vary.*\[0, 2\]"):
        FiniteMDP.from_env(Table(stay, starts=(0, 2)))


@pytest.mark.parametrize(
    ("env_id", "S", "A", "terminal"),
    [
        ("FrozenLake-v1", 16, 4, [5, 7, 11, 12, 15]),
        ("CliffWalking-v1", 48, 4, [47]),
        ("Taxi-v4", 500, 6, [0, 85, 410, 475]),
    ],
)
def test_toy_text(env_id, S, A, terminal) -> None:
    env = gymnasium.make(env_id)
    mdp = FiniteMDP.from_env(env)
    P, r = np.zeros((S, A, S)), np.zeros((S, A))
    for s, actions in env.unwrapped.P.items():
        for a, transitions in actions.items():
            for p, s2, reward, _ in transitions if s not in terminal else [(1.0, s, 0.0, True)]:
                P[s, a, s2] += p
                r[s, a] += p * reward
    assert np.flatnonzero(mdp.terminal).tolist() == terminal
    np.testing.assert_allclose(models.dense(mdp), P, atol=1e-15)
    np.testing.assert_allclose(mdp.r, r, atol=1e-14)
    np.testing.assert_allclose(mdp.mu, env.unwrapped.initial_state_distrib, atol=1e-15)
    np.testing.assert_array_equal(models.dense(mdp)[terminal, :, terminal], 1.0)
    np.testing.assert_array_equal(mdp.r[terminal], 0.0)
    optimum = planning.optimum(mdp, 0.9)
    assert (optimum.lower[terminal] <= 0.0).all()
    assert (optimum.upper[terminal] >= 0.0).all()


def test_taxi_starts_where_taxi_starts(rng) -> None:
    env = gymnasium.make("Taxi-v4")
    starts = {int(env.reset(seed=seed)[0]) for seed in range(100)}
    assert (FiniteMDP.from_env(env).mu[list(starts)] > 0).all()


# ---------------------------------------------------------------- memory

GARNET = """
S, A, b = 100_000, 4, 8
columns = (rng.integers(0, S // b, (S * A, b)) + S // b * np.arange(b)).ravel()
p = rng.dirichlet(np.ones(b), S * A).ravel()
P = sp.csr_array((p, columns, np.arange(0, S * A * b + 1, b)), shape=(S * A, S))
"""
GRID = """
n, A = 300, 4
S = n * n
i, j = np.divmod(np.arange(S), n)
near = [np.clip(i + x, 0, n - 1) * n + np.clip(j + y, 0, n - 1)
        for x, y in ((0, -1), (0, 1), (-1, 0), (1, 0))]
columns = np.stack(near, 1)[:, None, :].repeat(A, 1)
p = np.full((S, A, A), 0.02) + 0.92 * np.eye(A)
rows = np.arange(S * A).repeat(A)
P = sp.coo_array((p.ravel(), (rows, columns.ravel())), shape=(S * A, S)).tocsr()
P.sum_duplicates()
"""


@pytest.mark.parametrize("build", [GARNET, GRID], ids=["garnet", "grid"])
def test_large_models_are_never_densified(build) -> None:
    script = """
import resource
import sys
import numpy as np
import scipy.sparse as sp
from rlentropy import FiniteMDP, planning
rng = np.random.default_rng(0)
BUILD
r = rng.random((S, A))
mdp = FiniteMDP(P, r, np.full(S, 1 / S))
plan = planning.backward_induction(mdp, r, 3)
V = np.zeros(S)
for _ in range(3):
    V = (r.ravel() + P @ V).reshape(S, A).max(1)
np.testing.assert_allclose(plan.V[0], V, rtol=1e-12)
if sys.platform == "linux":  # where ru_maxrss begins with that of the process that started this one
    print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2)
"""
    script = textwrap.dedent(script).replace("BUILD", build)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1000, "MB at the peak"
