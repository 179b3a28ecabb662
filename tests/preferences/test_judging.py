"""Judges behind one door: against readings that are worked out one by one."""

import math
import sys

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from oracles.models import random_mdp
from scipy.optimize import minimize
from scipy.stats import norm

from rlentropy import FiniteMDP
from rlentropy.errors import InputError
from rlentropy.preferences.judges import Judge
from rlentropy.preferences.judging import (
    NATS,
    Ensemble,
    Scripted,
    Simulated,
    load_function,
    trajectories,
)
from rlentropy.preferences.segments import Pairs, Segments
from rlentropy.preferences.tables import TabularTask
from rlentropy.preferences.units import Units

S, A, T = 5, 2, 4
TABLE = Units(Discrete(S, start=10), Discrete(A), True, S)


def make(rng, n):
    P = random_mdp(rng, S, A, successors=2).P
    r = rng.integers(-1, 2, size=(S, A, S)) * 1.0
    task = TabularTask.of(FiniteMDP(P, r, np.full(S, 1 / S)), T)
    starts, pi = task.prompts(n, rng), np.full((S, A), 1 / A)
    return Pairs(task.roll_out(pi, starts, rng), task.roll_out(pi, starts, rng))


def test_the_simulated_judge_reads_returns(rng):
    pairs, u = make(rng, 9), rng.uniform(0.01, 0.99, (9, 5))
    judge = Simulated(Judge(temperature=2.0, in_std=False, left_bias=0.7, readings=3))
    scores = judge(pairs.a, pairs.b, u)
    assert scores.shape == (9, 3, 2)
    for i in range(9):
        for j in range(3):
            wanted = pairs.gaps[i] / 2.0 + math.log(u[i, j] / (1 - u[i, j])) + 0.7
            assert scores[i, j, 0] - scores[i, j, 1] == pytest.approx(wanted)


# ---------------------------------------------------------------- learnt from people


def test_the_learnt_judge_is_a_laplace_posterior(rng):
    """Its mode by BFGS, its readings at the quantiles of what it leaves open."""
    features = {}

    def psi(pairs):
        keys = list(zip(pairs.a.digests(), pairs.b.digests(), strict=True))
        for key in keys:
            features.setdefault(key, rng.normal(size=3))
        return np.array([features[key] for key in keys])

    sample, pairs = make(rng, 40), make(rng, 12)
    judge = Ensemble(psi, {"features": slice(0, 3)}, sample, members=4)
    nothing = judge(pairs.a, pairs.b, np.zeros((12, 1)))
    assert nothing.shape == (12, 4, 2)
    assert np.isnan(nothing).all()
    y = rng.choice([0.0, 1.0], 12)
    judge.learn(pairs, y)
    X, few = psi(pairs), make(rng, 5)
    variance = NATS**2 / (psi(sample) ** 2).mean(0).sum()

    def loss(w):
        z = X @ w
        return (np.logaddexp(0, z) - y * z).sum() + 0.5 * (w @ w) / variance

    w = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-10}).x
    p = 1 / (1 + np.exp(-X @ w))
    Sigma = np.linalg.inv((X.T * (p * (1 - p))) @ X + np.eye(3) / variance)
    scores = judge(few.a, few.b, np.zeros((5, 1)))
    for i, x in enumerate(psi(few)):
        wanted = norm(x @ w, math.sqrt(x @ Sigma @ x)).ppf([0.125, 0.375, 0.625, 0.875])
        np.testing.assert_allclose(scores[i, :, 0] - scores[i, :, 1], wanted, rtol=2e-3, atol=2e-3)
    with pytest.raises(InputError, match="members must be >= 1, got 0"):
        Ensemble(psi, {"features": slice(0, 3)}, sample, members=0)


# ---------------------------------------------------------------- the user's function


def script(tmp_path, text, name="score"):
    path = tmp_path / "rubric.py"
    path.write_text(text)
    return f"{path}:{name}"


def test_a_rubric_sees_the_environments_units_and_no_rewards():
    segments = Segments(
        np.array([[3, 1, 4, 4]]),
        np.array([[1, 0, 0]]),
        np.full((1, 3), 7.0),
        np.array([2]),
        np.array([True]),
        np.array([3]),
    )
    (one,) = trajectories(segments, TABLE)
    assert one._fields == ("observations", "actions", "ended")
    np.testing.assert_array_equal(one.observations, [13, 11, 14])
    np.testing.assert_array_equal(one.actions, [1, 0])
    assert one.ended is True
    assert one.length == 2


def test_a_rubric_of_networks_sees_boxes():
    units = Units(Box(-9, 9, (2, 2)), Box(0.0, 4.0, (1,)), False)
    segments = Segments(
        np.arange(12.0, dtype=np.float32).reshape(1, 3, 4),
        np.array([[[-1.0], [0.5]]], np.float32),
        np.zeros((1, 2)),
        np.array([2]),
        np.array([False]),
        np.array([5]),
    )
    (one,) = trajectories(segments, units)
    np.testing.assert_array_equal(one.observations[1], [[4, 5], [6, 7]])
    np.testing.assert_allclose(one.actions, [[0.0], [3.0]])
    assert not one.ended


def test_a_function_of_one_trajectory_scores_each(tmp_path, rng):
    pairs = make(rng, 6)
    rubric = "def score(t):\n    return t.observations.sum() - 10 * t.ended"
    judge = Scripted(script(tmp_path, rubric), TABLE)
    scores = judge(pairs.a, pairs.b, np.zeros((6, 1)))
    assert scores.shape == (6, 1, 2)
    for i in range(6):
        for side, part in enumerate((pairs.a, pairs.b)):
            seen = part.states[i, : part.lengths[i] + 1] + 10
            assert scores[i, 0, side] == seen.sum() - 10 * part.terminated[i]


def test_a_function_of_two_sees_left_and_right(tmp_path, rng):
    pairs = make(rng, 3)
    rubric = (
        "def score(left, right, more=1):\n"
        "    return [left.observations[0], 3.0, 1.0], [right.length, 2.0, float('nan')]"
    )
    scores = Scripted(script(tmp_path, rubric), TABLE)(pairs.a, pairs.b, np.zeros((3, 1)))
    assert scores.shape == (3, 3, 2)
    np.testing.assert_array_equal(scores[:, 0, 0], pairs.a.states[:, 0] + 10)
    np.testing.assert_array_equal(scores[:, 0, 1], pairs.b.lengths)
    np.testing.assert_array_equal(scores[:, 1], [[3.0, 2.0]] * 3)
    assert np.isnan(scores[:, 2, 1]).all()


def test_a_function_of_a_module(tmp_path, monkeypatch):
    script(tmp_path, "def better(t):\n    return 4.5")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_function("rubric:better")(None) == 4.5
    sys.modules.pop("rubric")


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("x = 1", "score", "judge must be a function of .*, got 'score'"),
        ("score = 3", "score", "judge must be a function of .*, got 'score'"),
        ("import nothing_of_this_name", "score", "that runs, got ModuleNotFoundError: No module"),
        ("def f(:", "f", "judge must be in a file or module that runs, got SyntaxError"),
        ("def score(): ...", "score", "judge must take one trajectory or two, got .* of 0"),
        ("def score(a, b, c): ...", "score", "judge must take one trajectory or two, got .* of 3"),
    ],
)
def test_scripts_that_are_none(text, name, message, tmp_path):
    with pytest.raises(InputError, match=message):
        Scripted(script(tmp_path, text, name), TABLE)


def test_names_that_are_none(tmp_path):
    for name in ("rubric.py", ":score", "a.py:b c"):
        with pytest.raises(InputError, match=r"judge must be FILE\.py:FUNCTION or MODULE:FUNCTION"):
            load_function(name)
    with pytest.raises(InputError, match="that runs, got FileNotFoundError"):
        load_function(f"{tmp_path}/none.py:score")
    with pytest.raises(InputError, match="that runs, got ModuleNotFoundError"):
        load_function("no_module_of_this_name:score")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def score(t):\n    return 1 / 0", "return scores, got ZeroDivisionError: division by"),
        ("def score(t):\n    return 'good'", "return a number, or a list of as many .*, got"),
        ("def score(t):\n    return None", "return a number, or a list of as many .*, got"),
        ("def score(t):\n    return [1.0] * t.observations[0]", "return a number, or a list of as"),
        ("def score(a, b):\n    return 1.0", "judge .* must return two, got 1.0"),
        ("def score(a, b):\n    return 1.0, 2.0, 3.0", "judge .* must return two, got"),
    ],
)
def test_scores_that_are_none(text, message, tmp_path, rng):
    pairs = make(rng, 7)
    with pytest.raises(InputError, match=message):
        Scripted(script(tmp_path, text), TABLE)(pairs.a, pairs.b, np.zeros((7, 1)))
