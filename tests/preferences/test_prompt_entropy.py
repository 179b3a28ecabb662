"""Scores of start states: each against path-by-path enumeration, or within its standard error."""

import itertools
import math

import numpy as np
import pytest
from oracles.models import random_mdp

from rlentropy import FiniteMDP
from rlentropy.errors import InputError
from rlentropy.preferences.prompt_entropy import ESTIMATES, SAMPLES, prompt_entropies
from rlentropy.preferences.tables import TabularTask

S, A, T = 4, 2, 3


@pytest.fixture
def world(rng):
    """P (S, A, S) whose last state is terminal, its task, and a policy."""
    P = random_mdp(rng, S, A, successors=2).P
    P[-1] = np.eye(S)[-1]
    P[1, 0] = np.eye(S)[-1]
    end = np.arange(S) == S - 1
    task = TabularTask.of(FiniteMDP(P, np.zeros((S, A)), np.full(S, 1 / S), terminal=end), T)
    return P, task, rng.dirichlet(np.ones(A), size=S)


def paths(P, pi, s, T):
    """Probability, -log π, steps and last state of every path from s."""
    if T == 0 or s == S - 1:
        yield 1.0, 0.0, 0, s
        return
    for a, after in itertools.product(range(A), range(S)):
        if (p := pi[s, a] * P[s, a, after]) > 0.0:
            for q, surprise, steps, last in paths(P, pi, after, T - 1):
                yield p * q, surprise - math.log(pi[s, a]), steps + 1, last


def enumerated(P, pi):
    """Entropy, expected steps and entropy of the last state, of each state but the terminal."""
    H, steps, outcome = [], [], []
    for s in range(S - 1):
        every = list(paths(P, pi, s, T))
        H.append(sum(p * surprise for p, surprise, _, _ in every))
        steps.append(sum(p * n for p, _, n, _ in every))
        law = [sum(p for p, _, _, last in every if last == k) for k in range(S)]
        outcome.append(-sum(p * math.log(p) for p in law if p > 0.0))
    return np.array(H), np.array(steps), np.array(outcome)


def test_exact_scores(world, rng):
    P, task, pi = world
    H, steps, outcome = enumerated(P, pi)
    prompts = np.array([2, 0, 1, 0])
    for kind, expected in (("exact", H), ("per-step", H / steps), ("outcome", outcome)):
        found = prompt_entropies(kind, task, pi, prompts, rng)
        np.testing.assert_allclose(found, expected[prompts], rtol=1e-12, err_msg=kind)
    stratum = np.minimum(steps * 8 / T, 7).astype(int)[prompts]
    expected = [
        H[s] - np.mean([H[r] for r, k in zip(prompts, stratum, strict=True) if k == stratum[i]])
        for i, s in enumerate(prompts)
    ]
    found = prompt_entropies("stratified", task, pi, prompts, rng)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["monte-carlo", "rao-blackwell"])
def test_estimates_are_unbiased_prompt_by_prompt(kind, world, rng):
    P, task, pi = world
    H, _, _ = enumerated(P, pi)
    n = 3000
    prompts = rng.permutation(np.repeat(np.arange(S - 1), n))  # neighbours are of other states
    found = prompt_entropies(kind, task, pi, prompts, rng)
    for s in range(S - 1):
        values = found[prompts == s]
        assert abs(values.mean() - H[s]) <= 4.0 * values.std() / math.sqrt(n)


@pytest.mark.parametrize("kind", ["exact", "monte-carlo", "rao-blackwell", "per-step"])
def test_who_is_sure_scores_below_who_is_not(kind, rng):
    """Each prompt gets its own number, with the right sign, wherever it stands in the list."""
    P = np.zeros((2, A, 2))
    P[0, :, 0] = P[1, :, 1] = 1.0
    task = TabularTask.of(FiniteMDP(P, np.zeros((2, A)), [0.5, 0.5]), T)
    pi = np.array([[0.5, 0.5], [1.0, 0.0]])
    prompts = rng.integers(2, size=50)
    steps = 1 if kind == "per-step" else T
    found = prompt_entropies(kind, task, pi, prompts, rng)
    np.testing.assert_allclose(found, np.where(prompts == 0, steps * math.log(2), 0.0), atol=1e-12)


def test_other_names_are_refused(world, rng):
    _, task, pi = world
    assert SAMPLES == 8
    assert len(ESTIMATES) == 6
    with pytest.raises(InputError, match="entropy must be one of exact, monte-carlo"):
        prompt_entropies("plain", task, pi, np.zeros(1, int), rng)
