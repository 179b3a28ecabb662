"""What solvers near γ = 1 promise besides their bounds, which `test_certificates` holds them to."""

import json
import pickle
from fractions import Fraction

import gymnasium
import numpy as np
import pytest
import scipy.sparse as sp

from rlentropy import FiniteMDP, planning, risk
from rlentropy.cli import main
from rlentropy.planning import certified

CYCLE = FiniteMDP([[[0, 1.0]], [[1.0, 0]]], [[1.0], [0.0]], [1, 0])
LAKE = FiniteMDP.from_env(gymnasium.make("FrozenLake-v1"))


def walk(states: int) -> FiniteMDP:
    """Left or right with a slip, a reward at the right end, from which it starts over."""
    s = np.arange(states)
    left, right = np.maximum(s - 1, 0), np.where(s == states - 1, 0, s + 1)
    row = np.concatenate([2 * s, 2 * s, 2 * s + 1, 2 * s + 1])
    column = np.concatenate([left, right, right, left])
    p = np.repeat([0.75, 0.25, 0.75, 0.25], states)
    P = sp.coo_array((p, (row, column)), shape=(2 * states, states)).tocsr()
    r = np.zeros((states, 2))
    r[-1] = 1.0
    return FiniteMDP(P, r, np.full(states, 1.0 / states))


def test_an_exact_cycle_is_answered_at_the_default_tolerance() -> None:
    gamma = 0.999999
    best = planning.optimum(CYCLE, gamma)
    exact = 1.0 / ((1.0 - gamma) * (1.0 + gamma))
    assert best.V[0] == pytest.approx(exact, rel=1e-15)
    assert 0.0 <= (best.upper - best.lower).max() <= 1e-8


@pytest.mark.parametrize("measure", [risk.Nominal(), risk.KLBall(0.05), risk.SRectangular(0.1)])
def test_a_refusal_names_a_tolerance_that_is_met(measure) -> None:
    rng = np.random.default_rng(0)
    mdp = FiniteMDP(rng.dirichlet(np.ones(4), (4, 2)), rng.normal(size=(4, 2)), np.full(4, 0.25))
    with pytest.raises(RuntimeError, match="rounding keeps them apart") as refused:
        planning.robust_optimum(mdp, measure, 1 - 1e-7, 1e-12)
    named = float(str(refused.value).split("tolerance=")[1].split()[0])
    found = planning.robust_optimum(mdp, measure, 1 - 1e-7, named)
    assert (found.upper - found.lower).max() <= named
    loose = planning.robust_optimum(mdp, measure, 1 - 1e-7, 1e-12, strict=False)
    assert (loose.upper - loose.lower).max() <= named
    assert (loose.lower <= loose.V).all()
    assert (loose.V <= loose.upper).all()


@pytest.mark.parametrize("method", ["newton", "policy-iteration", "value-iteration"])
def test_max_iterations_bounds_the_work(method) -> None:
    for most in (1, 2, 7):
        with pytest.raises(RuntimeError, match=f"after {most} applications of T.*max_iterations"):
            planning.robust_optimum(
                LAKE, risk.KLBall(0.1), 0.9999, method=method, max_iterations=most
            )
    found = planning.robust_optimum(
        LAKE, risk.KLBall(0.1), 0.9999, method=method, max_iterations=3, strict=False
    )
    best = planning.robust_optimum(LAKE, risk.KLBall(0.1), 0.9999)
    assert found.iterations == 3
    assert (found.lower <= best.upper).all()
    assert (best.lower <= found.upper).all()


def eliminate(P, r, gamma):
    """V = r + γ P V in fractions."""
    S = len(r)
    rows = [[Fraction(int(i == j)) - gamma * P[i][j] for j in range(S)] + [r[i]] for i in range(S)]
    for c in range(S):
        pivot = next(i for i in range(c, S) if rows[i][c] != 0)
        rows[c], rows[pivot] = rows[pivot], rows[c]
        rows[c] = [x / rows[c][c] for x in rows[c]]
        for i in range(S):
            if i != c and rows[i][c] != 0:
                rows[i] = [x - rows[i][c] * y for x, y in zip(rows[i], rows[c], strict=True)]
    return [row[-1] for row in rows]


@pytest.mark.parametrize("seed", range(40))
def test_rows_as_they_are_and_rows_that_sum_to_one(seed) -> None:
    """Floats leave rows 1e-16 away from 1: bounds hold for both models that they may mean."""
    rng = np.random.default_rng(seed)
    S, gamma = int(rng.integers(2, 6)), 1.0 - 10.0 ** -float(rng.integers(1, 9))
    P = rng.dirichlet(np.full(S, 0.7), S)
    if seed % 2:  # nearly absorbing
        P = (P + 10.0 ** rng.integers(3, 12) * np.eye(S)) / (1.0 + 10.0 ** rng.integers(3, 12))
        P /= P.sum(1, keepdims=True)
    r = rng.normal(size=S) * 10.0 ** rng.integers(-9, 10) + rng.choice([0.0, 1e6, -1e6, 1e12])
    mdp = FiniteMDP(P[:, None], r[:, None], np.full(S, 1.0 / S))
    exact = [[Fraction(float(x)) for x in row] for row in P]
    models = exact, [[x / sum(row) for x in row] for row in exact]
    values = [eliminate(m, [Fraction(float(x)) for x in r], Fraction(gamma)) for m in models]
    size = max(abs(float(x)) for x in values[0])
    for tolerance in (1e-9 * size, 1e-14 * size):
        for found in (
            planning.optimum(mdp, gamma, tolerance, strict=False),
            planning.robust_optimum(mdp, risk.TVBall(0.0), gamma, tolerance, strict=False),
            planning.robust_evaluation(
                mdp, np.ones((S, 1)), risk.CVaR(1.0), gamma, tolerance, strict=False
            ),
            planning.optimum(mdp, gamma, tolerance, max_iterations=2, strict=False),
        ):
            for V in values:
                for low, x, high in zip(found.lower, V, found.upper, strict=True):
                    assert Fraction(float(low)) <= x <= Fraction(float(high))


def test_terminal_states_are_worth_exactly_nothing() -> None:
    for best in (
        planning.optimum(LAKE, 0.9),
        planning.optimum(LAKE, 1 - 1e-6),
        planning.robust_optimum(LAKE, risk.TVBall(0.1), 0.9),
        planning.robust_optimum(LAKE, risk.TVBall(0.1), 1 - 1e-6),
    ):
        for found in (best.V, best.lower, best.upper, best.Q):
            assert (found[LAKE.terminal] == 0.0).all()


@pytest.mark.parametrize("measure", [None, risk.L1Ball(0.3), risk.Entropic(2.0)])
def test_more_states_than_are_solved_densely(measure) -> None:
    """Bounds of 1 500 states by Bellman residuals in extended precision, written from scratch."""
    mdp, gamma = walk(1500), 0.9999
    if measure is None:
        best = planning.optimum(mdp, gamma)
        W = (mdp.P @ best.V).reshape(-1, 2)
    else:
        best = planning.robust_optimum(mdp, measure, gamma, 1e-6)
        P = mdp.P.tocsr()
        at, p = P.indices.reshape(-1, 2), P.data.reshape(-1, 2)  # each row has two successors
        V = best.V.astype(np.longdouble)[at]
        if isinstance(measure, risk.L1Ball):
            low, high = V.argmin(1), V.argmax(1)
            each = np.arange(len(V))
            moved = np.minimum(0.15, p[each, high])
            W = (p * V).sum(1) - moved * (V[each, high] - V[each, low])
        else:
            low = V.min(1, keepdims=True)
            W = low[:, 0] - np.log((p * np.exp(-2.0 * (V - low))).sum(1)) / 2.0
        W = W.reshape(-1, 2)
    residual = (mdp.r + gamma * W).max(1) - best.V
    width = float((best.upper - best.lower).max())
    assert np.abs(residual).max() <= (1.0 - gamma) * (width + 1e-8) + 1e-11
    assert width <= 1e-6


def test_linear_systems_of_both_sizes() -> None:
    rng = np.random.default_rng(1)
    for S in (20, 1200):
        P = sp.csr_array(sp.random_array((S, S), density=4 / S, rng=rng) + sp.eye_array(S))
        P = sp.csr_array(P / P.sum(1)[:, None])
        b = rng.normal(size=S)
        chain = (P.indptr.astype(np.uint32), P.indices.astype(np.uint32), P.data)
        x = certified.linear_solve(*chain, b, 0.999)
        np.testing.assert_allclose(x - 0.999 * (P @ x), b, atol=1e-8)


def test_rows_that_are_rounded_text_mean_their_normalised_ones() -> None:
    """Probabilities with nine digits: the optimum is that of p / Σ p, here a closed form."""
    third = 0.333333333
    P = np.array([[[third, third, third]], [[0, 1.0, 0]], [[0, 0, 1.0]]])
    mdp = FiniteMDP(P, np.array([[0.0], [1.0], [2.0]]), np.eye(3)[0])
    gamma = 0.999
    ends = np.array([1.0, 2.0]) / (1.0 - gamma)
    exact = gamma * ends.sum() / 3.0 / (1.0 - gamma / 3.0)
    for best in (planning.optimum(mdp, gamma), planning.robust_optimum(mdp, risk.CVaR(1.0), gamma)):
        assert best.lower[0] <= exact <= best.upper[0]
        assert best.V[0] == pytest.approx(exact, abs=1e-8)


@pytest.mark.parametrize(
    "find",
    [
        lambda: planning.optimum(LAKE, 0.9),
        lambda: planning.robust_optimum(LAKE, risk.KLBall(0.1), 0.9),
        lambda: planning.robust_optimum(LAKE, risk.KLBall(0.1), 1 - 1e-6),
        lambda: planning.robust_optimum(
            LAKE, risk.FDivergencePenalty(1.0, lambda t: (t - 1.0) ** 2), 0.9
        ),
        lambda: planning.robust_evaluation(CYCLE, [[1.0], [1.0]], risk.SRectangular(0.1), 0.9),
        lambda: planning.robust_evaluation(
            CYCLE, [[1.0], [1.0]], risk.CVaR(0.5), 0.9, markov_risk=True
        ),
        lambda: planning.max_visitation_entropy(CYCLE, 3),
        lambda: planning.max_trajectory_entropy(CYCLE, 3),
        lambda: planning.backward_induction(LAKE, LAKE.r, 3),
    ],
)
def test_what_planning_returns_pickles(find) -> None:
    found = find()
    again = pickle.loads(pickle.dumps(found))
    for name in ("pi", "V", "Q", "lower", "upper"):
        np.testing.assert_array_equal(getattr(again, name, None), getattr(found, name, None))
    if hasattr(found, "kernel"):
        assert abs(again.kernel() - found.kernel()).max() <= 1e-14  # warm starts


def test_the_command_answers_by_default_and_keeps_a_tolerance_that_is_asked(tmp_path, capsys):
    command = ["robust-planning", "--env-id", "rlentropy/Ring-v0", "--gamma", "0.99999"]
    assert main([*command, "--out", str(tmp_path / "a"), "--quiet"]) == 0
    summary = json.loads((tmp_path / "a/summary.json").read_text())
    assert summary["lower_bound"] <= summary["value"] <= summary["upper_bound"]
    assert summary["lower_bound"] <= summary["optimum"] <= summary["upper_bound"]
    assert summary["upper_bound"] - summary["lower_bound"] <= 1e-3
    capsys.readouterr()
    assert main([*command, "--out", str(tmp_path / "b"), "--tolerance", "1e-9"]) == 2
    assert "float64 attains tolerance=" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["newton", "policy-iteration", "value-iteration"])
def test_values_of_summaries_lie_within_their_bounds(tmp_path, method) -> None:
    for k, (env, name) in enumerate(
        [("FrozenLake-v1", "kl-ball:0.1"), ("rlentropy/RiverSwim-v0", "s-l1-ball:0.2")]
    ):
        command = ["robust-planning", "--env-id", env, "--risk", name, "--gamma", "0.95"]
        command += ["--method", method, "--out", str(tmp_path / str(k)), "--quiet"]
        assert main(command) == 0
        summary = json.loads((tmp_path / str(k) / "summary.json").read_text())
        assert summary["lower_bound"] <= summary["value"] <= summary["upper_bound"]
