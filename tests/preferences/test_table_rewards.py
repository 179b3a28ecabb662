"""Rewards of tables: features by loops, luck by its identity, counts by counting."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.sparse as sp
from oracles.models import random_mdp

from rlentropy import FiniteMDP
from rlentropy.preferences.scores import label_information, push_value
from rlentropy.preferences.segments import Pairs
from rlentropy.preferences.table_rewards import SeenTransitions, TableFeatures, coordinates, luck
from rlentropy.preferences.table_subject import TableSubject
from rlentropy.preferences.tables import LinearLogits, TablePolicy, TabularTask
from rlentropy.preferences.training import Training

S, A, T, F = 6, 3, 5, 4


def make(rng, deterministic=False):
    """P (S, A, S) of a task whose last state is terminal."""
    P = random_mdp(rng, S, A, successors=1 if deterministic else 3).P
    P[-1] = np.eye(S)[-1]
    end = np.arange(S) == S - 1
    mdp = FiniteMDP(P, np.zeros((S, A)), np.full(S, 1.0 / S), terminal=end)
    return P, TabularTask.of(mdp, T)


def play(task, n, rng, pi=None):
    pi = rng.dirichlet(np.ones(A), size=S) if pi is None else pi
    return task.roll_out(pi, task.prompts(n, rng), rng)


def play_pairs(task, n, rng, pi=None):
    pi = rng.dirichlet(np.ones(A), size=S) if pi is None else pi
    starts = task.prompts(n, rng)
    return Pairs(task.roll_out(pi, starts, rng), task.roll_out(pi, starts, rng))


def padded(part, rng):
    states, actions = (np.array(x, copy=True) for x in (part.states, part.actions))
    for i, length in enumerate(part.lengths):
        states[i, length + 1 :] = rng.integers(S, size=states[i, length + 1 :].shape)
        actions[i, length:] = rng.integers(A, size=actions[i, length:].shape)
    return dataclasses.replace(part, states=states, actions=actions)


# ---------------------------------------------------------------- features


def test_coordinates_keep_inner_products_and_drop_what_is_small(rng):
    x = rng.normal(size=(7, 4))
    np.testing.assert_allclose(coordinates(x) @ coordinates(x).T, x @ x.T, atol=1e-12)
    thin = np.outer(rng.normal(size=7), [1.0, 2.0]) + 1e-4 * rng.normal(size=(7, 2))
    assert coordinates(thin).shape == (7, 1)
    assert coordinates(thin, cut=1e-6).shape == (7, 2)


def test_many_coordinates_are_projected_with_their_angles(rng):
    x = rng.normal(size=(300, 300))
    few = coordinates(x, cut=0.0, most=100)
    assert few.shape == (300, 100)
    np.testing.assert_array_equal(few, coordinates(x, cut=0.0, most=100))
    lengths = (few**2).sum(1) / (x**2).sum(1)  # near 1, of deviation sqrt(2 / 100)
    assert np.abs(lengths - 1.0).max() < 6.0 * math.sqrt(2 / 100)
    assert abs(lengths.mean() - 1.0) < 0.05


def test_groups_of_features(rng):
    _, task = make(rng)
    pairs = play_pairs(task, 20, rng)
    phi, reference = rng.normal(size=(S, F)), rng.dirichlet(np.ones(A), size=S)
    for entered in (True, False):
        psi = TableFeatures(phi, task.starts, reference, entered)
        x, groups = psi.of(pairs), psi.groups
        np.testing.assert_array_equal(x[:, groups["reference"]][:, 0], x[:, -1])
        assert x[:, groups["features"]].shape[1] == psi.size - 1 == x.shape[1] - 1
        size = psi.zeta.shape[1] if entered else psi.size - 1  # or what stands in for them
        assert x[:, groups["entered"]].shape[1] == size
    uniform = TableFeatures(phi, task.starts, np.full((S, A), 1 / A), True)
    assert not uniform.of(pairs)[:, -1].any()  # it would only count steps


@pytest.mark.parametrize("entered", [True, False])
def test_features_are_sums_over_steps(entered, rng):
    _, task = make(rng)
    reference = rng.dirichlet(np.ones(A), size=S)
    psi = TableFeatures(rng.normal(size=(S, F)), task.starts, reference, entered)
    pairs = play_pairs(task, 20, rng)
    x = psi.of(pairs)
    assert x.shape == (20, psi.size)
    for i in range(20):
        expected = np.zeros(psi.size)
        for part, sign in ((pairs.a, 1.0), (pairs.b, -1.0)):
            for t in range(part.lengths[i]):
                s, a, after = part.states[i, t], part.actions[i, t], part.states[i, t + 1]
                step = np.zeros((A, psi.z.shape[1]))
                step[a] = psi.z[s]
                likely = [math.log(reference[s, a])]
                expected += sign * np.concatenate([step.ravel(), psi.zeta[after], likely])
        np.testing.assert_allclose(x[i], expected, atol=1e-10)
    np.testing.assert_allclose(psi.of(pairs.swapped()), -x, atol=1e-12)
    behind = Pairs(padded(pairs.a, rng), padded(pairs.b, rng))
    np.testing.assert_array_equal(psi.of(behind), x)
    assert (psi.zeta.shape[1] > 0) == entered


def test_the_return_of_a_reward_is_linear_in_the_features(rng):
    _, task = make(rng)
    reference = rng.dirichlet(np.ones(A), size=S)
    psi = TableFeatures(rng.normal(size=(S, F)), task.starts, reference, True)
    pairs, w = play_pairs(task, 30, rng), rng.normal(size=(4, psi.size))
    r, entering = psi.rewards(w)
    assert r.shape == (S, A, 4)
    gaps = w @ psi.of(pairs).T
    for i in range(30):
        total = np.zeros(4)
        for part, sign in ((pairs.a, 1.0), (pairs.b, -1.0)):
            for t in range(part.lengths[i]):
                total += sign * (
                    r[part.states[i, t], part.actions[i, t]] + entering[part.states[i, t + 1]]
                )
        np.testing.assert_allclose(gaps[:, i], total, atol=1e-9)


def test_keys_are_equal_where_counts_are(rng):
    _, task = make(rng)
    psi = TableFeatures(np.eye(S), task.starts, np.full((S, A), 1 / A), True)
    part, other = play(task, 400, rng), play(task, 400, rng)

    def counted(x, i):
        steps = [(x.states[i, t], x.actions[i, t], x.states[i, t + 1]) for t in range(x.lengths[i])]
        return sorted(tuple(int(k) for k in step) for step in steps)

    same = (psi.keys(part) == psi.keys(other)).all(1)
    expected = [counted(part, i) == counted(other, i) for i in range(400)]
    assert 0 < sum(expected) < 400
    np.testing.assert_array_equal(same, expected)
    np.testing.assert_array_equal(psi.keys(part), psi.keys(padded(part, rng)))


# ---------------------------------------------------------------- transitions that were seen


def test_the_kernel_is_the_frequencies(rng):
    _, task = make(rng)
    seen, counts, ended = SeenTransitions(S, A), np.zeros((S * A, S)), np.zeros(S, bool)
    for n in (3, 40, 0, 20):
        part = play(task, n, rng)
        seen.add(part)
        for i in range(n):
            for t in range(part.lengths[i]):
                s, a = part.states[i, t], part.actions[i, t]
                counts[s * A + a, part.states[i, t + 1]] += 1
            if part.terminated[i]:
                ended[part.states[i, part.lengths[i]]] = True
    expected = np.zeros((S * A, S))
    for row in range(S * A):
        n = counts[row].sum()
        expected[row] = counts[row] / n if n else np.eye(S)[row // A]
    np.testing.assert_allclose(seen.kernel().toarray(), expected, atol=1e-12)
    assert (counts.sum(1) == 0).any()  # as the terminal state's
    np.testing.assert_array_equal(seen.ended, ended)
    assert ended[-1]
    assert seen.stochastic
    twin = SeenTransitions(S, A)
    np.testing.assert_allclose(twin.kernel().toarray(), np.repeat(np.eye(S), A, axis=0))
    state = seen.state_dict()
    twin.load_state_dict(state)
    more = play(task, 30, rng)
    for one in (seen, twin):
        one.add(more)
    np.testing.assert_array_equal(seen.kernel().toarray(), twin.kernel().toarray())
    np.testing.assert_array_equal(state["ended"], ended)  # states that are held don't change


def test_dynamics_are_stochastic_once_one_step_had_two_ends(rng):
    _, task = make(rng, deterministic=True)
    seen = SeenTransitions(S, A)
    for _ in range(5):
        seen.add(play(task, 50, rng))
        assert not seen.stochastic


# ---------------------------------------------------------------- luck


def advantages(part, pi, P, end, r, entering):
    """Σ_t A_t of each segment and V_0, by dense backward induction of a finite horizon."""
    J = r.shape[2]
    V, total = np.zeros((T + 1, S, J)), np.zeros((len(part), J))
    for t in reversed(range(T)):
        Q = r + np.einsum("sax,xj->saj", P, entering + V[t + 1])
        V[t] = np.where(end[:, None], 0.0, (pi[:, :, None] * Q).sum(1))
        for i in np.flatnonzero(part.lengths > t):
            s = part.states[i, t]
            total[i] += Q[s, part.actions[i, t]] - V[t, s]
    return total, V[0]


def returns(part, r, entering):
    total = np.zeros((len(part), r.shape[2]))
    for i, length in enumerate(part.lengths):
        for t in range(length):
            total[i] += r[part.states[i, t], part.actions[i, t]] + entering[part.states[i, t + 1]]
    return total


def some_rewards(rng, J=3):
    return rng.normal(size=(S, A, J)), rng.normal(size=(S, J))


def test_advantages_are_returns_without_start_and_luck(rng):
    for _ in range(5):
        P, task = make(rng)
        pi, (r, entering) = rng.dirichlet(np.ones(A), size=S), some_rewards(rng)
        part, end = play(task, 100, rng, pi), task.mdp.terminal
        kernel = sp.csr_array(P.reshape(S * A, S))
        found = luck(part, pi, kernel, end, r, entering)
        assert found.shape == (3, 100)
        total, V = advantages(part, pi, P, end, r, entering)
        R = returns(part, r, entering)
        np.testing.assert_allclose((R - V[part.states[:, 0]]).T - found, total.T, atol=1e-10)
        again = luck(padded(part, rng), pi, kernel, end, r, entering)
        np.testing.assert_array_equal(again, found)


def test_luck_is_0_where_nothing_is_left_to_chance(rng):
    P, task = make(rng, deterministic=True)
    pi, rewards = rng.dirichlet(np.ones(A), size=S), some_rewards(rng)
    part = play(task, 100, rng, pi)
    known = luck(part, pi, sp.csr_array(P.reshape(S * A, S)), task.mdp.terminal, *rewards)
    np.testing.assert_allclose(known, 0.0, atol=1e-12)
    seen = SeenTransitions(S, A)
    seen.add(part)
    np.testing.assert_allclose(luck(part, pi, seen.kernel(), seen.ended, *rewards), 0, atol=1e-12)


def test_luck_is_0_on_average(rng):
    P, task = make(rng)
    pi, rewards = rng.dirichlet(np.ones(A), size=S), some_rewards(rng)
    n = 20_000
    part = play(task, n, rng, pi)
    found = luck(part, pi, sp.csr_array(P.reshape(S * A, S)), task.mdp.terminal, *rewards)
    error = found.std(1) / math.sqrt(n)
    assert (found.std(1) > 0.1).all()
    assert (np.abs(found.mean(1)) <= 4.0 * error).all()
    behaviour = play(task, n, rng)  # also of segments that another policy played
    other = luck(behaviour, pi, sp.csr_array(P.reshape(S * A, S)), task.mdp.terminal, *rewards)
    assert (np.abs(other.mean(1)) <= 4.0 * other.std(1) / math.sqrt(n)).all()


# ---------------------------------------------------------------- as a campaign's subject has them


def subject_of(rng, deterministic, **options):
    _, task = make(rng, deterministic)
    phi = rng.normal(size=(S, F))
    reference = rng.dirichlet(np.ones(A), size=S)
    policy = TablePolicy(reference, LinearLogits(phi, A, 0.1))
    features = TableFeatures(phi, task.starts, reference, True)
    return TableSubject(task, policy, features, Training(), **options)


def moved(subject, rng):
    """The subject with its policy away from the reference."""
    pairs = subject.roll_out(subject.prompts(30, rng), rng)
    subject.learn(pairs, rng.integers(2, size=30) * 1.0, 30, rng)
    return subject


def test_values_are_gaps_without_the_luck_of_the_policy(rng):
    for options in ({}, {"temperature": 2.0}, {"offline": True}):
        subject = moved(subject_of(rng, False, **options), rng)
        pairs = subject.roll_out(subject.prompts(60, rng), rng)
        subject.observe(pairs)
        x, w = subject.features(pairs), rng.normal(size=(5, subject.psi.size))
        values, (r, entering) = subject.values(pairs, x, w), subject.psi.rewards(w)
        P = subject.seen.kernel().toarray().reshape(S, A, S)
        both = [
            advantages(part, subject.policy.pi, P, subject.seen.ended, r, entering)[0]
            for part in (pairs.a, pairs.b)
        ]
        np.testing.assert_allclose(values, (both[0] - both[1]).T, atol=1e-9)


def test_values_are_gaps_while_nothing_was_random(rng):
    subject = subject_of(rng, True)
    pairs = subject.roll_out(subject.prompts(60, rng), rng)
    subject.observe(pairs)
    assert not subject.saw_chance
    w = rng.normal(size=(2, subject.psi.size))
    x = subject.features(pairs)
    np.testing.assert_allclose(subject.values(pairs, x, w), w @ x.T, atol=1e-9)


def test_push_value_of_gaps_alone_is_a_brier_score(rng):
    """α = 0, κ = 1 and ΔA = ΔR: 2 E (σ(ΔR) - 1/2)², near label information for small gaps."""
    subject = subject_of(rng, True)
    pairs = subject.roll_out(subject.prompts(60, rng), rng)
    gaps, weights = 0.05 * rng.normal(size=(8, 60)), np.full(8, 1 / 8)
    margins = subject.margins(pairs)
    found = push_value(gaps, gaps, weights, margins, alpha=0.0, kappa=1.0)
    expected = 2.0 * (weights @ (1.0 / (1.0 + np.exp(-gaps)) - 0.5) ** 2)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(found, label_information(gaps, weights), rtol=1e-2)


def test_a_swap_of_a_pair_turns_everything_round(rng):
    subject = moved(subject_of(rng, False), rng)
    pairs = subject.roll_out(subject.prompts(60, rng), rng)
    subject.observe(pairs)
    w, weights = rng.normal(size=(5, subject.psi.size)), np.full(5, 0.2)
    scores = []
    for one in (pairs, pairs.swapped()):
        x = subject.features(one)
        values, margins = subject.values(one, x, w), subject.margins(one)
        scores.append(push_value(w @ x.T, values, weights, margins))
        scores.append(label_information(w @ x.T, weights))
        np.testing.assert_array_equal(subject.duplicates(one), subject.duplicates(pairs))
    np.testing.assert_allclose(scores[0], scores[2], atol=1e-12)
    np.testing.assert_allclose(scores[1], scores[3], atol=1e-12)
    assert np.abs(scores[0]).max() > 0.0
