"""Tabular tasks and policies: against enumeration, finite differences, torch, and closed forms."""

import dataclasses
import itertools
import math
from functools import partial

import gymnasium
import numpy as np
import pytest
from oracles.models import random_mdp

from rlentropy import FiniteMDP
from rlentropy.errors import InputError
from rlentropy.preferences.losses import preference_loss
from rlentropy.preferences.prompt_entropy import prompt_entropies
from rlentropy.preferences.segments import Pairs, Segments
from rlentropy.preferences.tables import (
    LinearLogits,
    TablePolicy,
    TabularTask,
    cell_positions,
    floored,
    noisy_expert,
    softmax,
    state_features,
)

S, A, T, BETA = 4, 2, 3, 0.2
DPO = partial(preference_loss, "dpo", beta=BETA)


def make(rng, S=S, A=A, T=T, deterministic=False, terminal=True):
    """P (S, A, S) with a reward of each successor, and a task on it; the last state is terminal."""
    P = random_mdp(rng, S, A, successors=1 if deterministic else 2).P
    r = rng.normal(size=(S, A, S))
    end = np.zeros(S, bool)
    if terminal:
        end[-1] = True
        P[-1], r[-1] = np.eye(S)[-1], 0.0
        P[0, 0] = np.eye(S)[-1] if deterministic else 0.5 * P[0, 0] + 0.5 * np.eye(S)[-1]
    mdp = FiniteMDP(P, r, np.full(S, 1.0 / S), terminal=end)
    return P, r, TabularTask.of(mdp, T)


def law(P, r, pi, s, T, end):
    """Probability, return, (s, a) and all that is seen, of every path from s."""
    if T == 0 or end[s]:
        yield 1.0, 0.0, [], (s,)
        return
    for a, after in itertools.product(range(P.shape[1]), range(len(P))):
        p = pi[s, a] * P[s, a, after]
        if p > 0.0:
            for q, R, steps, path in law(P, r, pi, after, T - 1, end):
                yield p * q, r[s, a, after] + R, [(s, a), *steps], (s, a, *path)


def random_policy(rng, S=S, A=A):
    return rng.dirichlet(np.ones(A), size=S)


# ---------------------------------------------------------------- tasks


def test_starts_are_what_can_be_reached_and_goes_on(rng):
    _, _, task = make(rng)
    assert task.starts.tolist() == [0, 1, 2]
    P = np.zeros((3, 1, 3))
    P[0, 0, 1] = P[1, 0, 1] = P[2, 0, 0] = 1.0  # 2 is never reached
    mdp = FiniteMDP(P, np.zeros((3, 1)), [1.0, 0.0, 0.0])
    assert TabularTask.of(mdp, 2).starts.tolist() == [0, 1]
    assert TabularTask.of(mdp, 2, from_all=False).starts.tolist() == [0]
    assert set(TabularTask.of(mdp, 2).prompts(50, rng).tolist()) == {0, 1}
    over = FiniteMDP(np.ones((1, 1, 1)), np.zeros((1, 1)), [1.0], terminal=[True])
    with pytest.raises(InputError, match="env must have a start state that is not terminal"):
        TabularTask.of(over, 2)


@pytest.mark.parametrize("deterministic", [False, True])
def test_rollouts_have_the_law_of_the_mdp(deterministic, rng):
    P, r, task = make(rng, deterministic=deterministic)
    pi, n = random_policy(rng), 40_000
    for s in range(S):
        part = task.roll_out(pi, np.full(n, s), rng)
        seen: dict = {}
        for i in range(n):
            L = part.lengths[i]
            path = [x for t in range(L) for x in (part.states[i, t], part.actions[i, t])]
            key = (*path, part.states[i, L])
            seen[tuple(int(x) for x in key)] = seen.get(tuple(int(x) for x in key), 0) + 1
        expected = {path: p for p, _, _, path in law(P, r, pi, s, T, task.mdp.terminal)}
        assert set(seen) <= set(expected)
        assert sum(expected.values()) == pytest.approx(1.0)
        for path, p in expected.items():
            error = math.sqrt(p * (1.0 - p) / n)
            assert abs(seen.get(path, 0) / n - p) <= 4.0 * error + 1e-12, path


def test_rollouts_say_what_happened(rng):
    _, r, task = make(rng, T=6)
    part = task.roll_out(random_policy(rng), task.prompts(300, rng), rng)
    assert set(part.lengths.tolist()) >= {1, 6}
    for i, length in enumerate(part.lengths):
        steps = zip(part.states[i, :length], part.actions[i], part.states[i, 1:], strict=False)
        np.testing.assert_allclose(part.rewards[i, :length], [r[x] for x in steps], rtol=1e-12)
        assert not part.rewards[i, length:].any()
        assert part.terminated[i] == (part.states[i, length] == S - 1)
        assert part.terminated[i] or length == 6
        assert (part.states[i, :length] != S - 1).all()
    np.testing.assert_array_equal(part.starts, part.states[:, 0])


def test_a_terminal_start_has_no_steps(rng):
    _, _, task = make(rng)
    part = task.roll_out(random_policy(rng), np.array([S - 1]), rng)
    assert part.lengths.tolist() == [0]
    assert part.terminated.tolist() == [True]
    assert part.returns.tolist() == [0.0]
    assert prompt_entropies("exact", task, random_policy(rng), np.array([S - 1]), rng) == [0.0]


def test_the_same_generator_gives_the_same_noise_whatever_the_policy(rng):
    _, _, task = make(rng, T=8)
    starts, pi = task.prompts(500, rng), random_policy(rng)
    near = floored(pi, 0.02)

    def played(pi):
        return task.roll_out(pi, starts, np.random.default_rng(5))

    one, two, other = played(pi), played(pi), played(near)
    assert one.digests() == two.digests()
    equal = np.mean([a == b for a, b in zip(one.digests(), other.digests(), strict=True)])
    assert 0.9 < equal < 1.0  # a segment changes only where a number falls between the two laws
    apart = task.roll_out(near, starts, np.random.default_rng(6))
    assert np.mean([a == b for a, b in zip(one.digests(), apart.digests(), strict=True)]) < 0.5
    few = task.roll_out(pi, starts[:1], np.random.default_rng(5))  # and each its own numbers
    assert few.lengths[0] >= 1


def test_score_and_entropies_are_sums_over_all_paths(rng):
    P, r, task = make(rng)
    pi, reference = random_policy(rng), random_policy(rng)
    J = kl = 0.0
    entropies, steps_taken = [], []
    for s in task.starts.tolist():
        entropies.append(0.0)
        steps_taken.append(0.0)
        for p, R, steps, _ in law(P, r, pi, s, T, task.mdp.terminal):
            J += p * R / task.starts.size
            kl += p * sum(math.log(pi[x] / reference[x]) for x in steps) / task.starts.size
            entropies[-1] -= p * sum(math.log(pi[x]) for x in steps)
            steps_taken[-1] += p * len(steps)
    np.testing.assert_allclose(task.score(pi, reference), [J, kl], rtol=1e-12)
    for kind, scores in (("exact", entropies), ("per-step", np.divide(entropies, steps_taken))):
        found = prompt_entropies(kind, task, pi, task.starts, rng)
        np.testing.assert_allclose(found, scores, rtol=1e-12)
    assert task.score(pi, pi)[1] == 0.0
    greedy = np.eye(A)[pi.argmax(1)]
    assert task.score(greedy, np.full((S, A), 0.5))[1] == pytest.approx(
        sum(
            p * len(steps) * math.log(2)
            for s in task.starts
            for p, _, steps, _ in law(P, r, greedy, s, T, task.mdp.terminal)
        )
        / task.starts.size
    )


def test_the_optimum_is_that_of_enumerated_plans(rng):
    """Every deterministic policy of every stage, on a problem that is small enough."""
    P, r, task = make(rng, S=3, T=2)
    mean = (P * r).sum(2)
    tables = [np.array(x) for x in itertools.product(range(A), repeat=3)]
    best = np.full(3, -np.inf)
    for first, second in itertools.product(tables, repeat=2):
        V1 = mean[range(3), second]
        best = np.maximum(best, mean[range(3), first] + P[range(3), first] @ V1)
    np.testing.assert_allclose(task.optimum.V[0], best, rtol=1e-12)


# ---------------------------------------------------------------- features and references


def lake():
    env = gymnasium.make("FrozenLake-v1", map_name="4x4", is_slippery=False)
    return TabularTask.of(FiniteMDP.from_env(env), 8, (4, 4))


def test_state_features(rng):
    task, (_, _, plain) = lake(), make(rng)
    np.testing.assert_array_equal(state_features(task, "one-hot"), np.eye(task.mdp.num_states))
    np.testing.assert_array_equal(state_features(plain, "auto"), np.eye(S))
    rbf = state_features(task, "rbf", width=1.5)
    np.testing.assert_array_equal(state_features(task, "auto", width=1.5), rbf)
    for s, c in itertools.product(range(16), repeat=2):
        square = (s // 4 - c // 4) ** 2 + (s % 4 - c % 4) ** 2
        assert rbf[s, c] == pytest.approx(math.exp(-square / (2 * 1.5**2)))
    cells = state_features(task, "cells")
    assert cells.shape == (task.mdp.num_states, 2)
    np.testing.assert_allclose(cells[:16].mean(0), 0.0, atol=1e-12)
    np.testing.assert_allclose(cells[:16].std(0), 1.0)
    assert cells[1, 0] == cells[0, 0]
    assert cells[1, 1] > cells[0, 1]
    np.testing.assert_array_equal(cell_positions(task)[[0, 5, 15]], [[0, 0], [1, 1], [3, 3]])
    assert cell_positions(plain) is None


def test_features_that_there_are_not(rng):
    _, _, plain = make(rng)
    with pytest.raises(InputError, match="features must be one of auto, one-hot, rbf, cells"):
        state_features(plain, "tiles")
    with pytest.raises(InputError, match="features must be one-hot where states are no cells"):
        state_features(plain, "rbf")


def test_the_noisy_expert_prefers_what_is_good(rng):
    P, r, task = make(rng)
    mean = (P * r).sum(2)
    going = ~task.mdp.terminal
    V = np.zeros(S)
    for _ in range(T):
        Q = mean + P @ V
        V = going * Q.max(1)
    advantage = Q - Q.max(1, keepdims=True)
    x = advantage[task.starts]
    noise = np.random.default_rng(7).standard_normal((S, A))
    logits = 0.9 * (advantage - x.mean()) / x.std() + 0.4 * noise
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = noisy_expert(task, np.random.default_rng(7), scale=0.9, noise=0.4)
    np.testing.assert_allclose(found[task.starts], expected[task.starts], rtol=1e-12)
    sure = noisy_expert(task, rng, scale=1e4, noise=0.0)
    np.testing.assert_array_equal(sure[task.starts].argmax(1), Q[task.starts].argmax(1))
    flat = TabularTask.of(FiniteMDP(P, np.zeros((S, A)), np.full(S, 0.25)), T)
    np.testing.assert_allclose(noisy_expert(flat, rng, noise=0.0), 0.5)


def test_floors_and_softmax():
    np.testing.assert_allclose(floored(np.array([[1.0, 0, 0, 0]]), 0.1), [[0.925, *[0.025] * 3]])
    np.testing.assert_allclose(softmax(np.array([[1e9, 1e9], [0.0, math.log(3)]])),
                               [[0.5, 0.5], [0.25, 0.75]])  # fmt: skip


# ---------------------------------------------------------------- policies


class Free:
    """Logits that are the table, and that keep the gradient they are given."""

    def __init__(self, table):
        self.values, self.gradient = table, None

    def table(self):
        return self.values

    def descend(self, gradient):
        self.gradient = gradient


def some_pairs(rng, n=40, T=6):
    _, _, task = make(rng, T=T)
    starts, pi = task.prompts(n, rng), random_policy(rng)
    return Pairs(task.roll_out(pi, starts, rng), task.roll_out(pi, starts, rng))


def padded(part, rng):
    """Other numbers behind the ends."""
    states, actions, rewards = (
        np.array(x, copy=True) for x in (part.states, part.actions, part.rewards)
    )
    for i, length in enumerate(part.lengths):
        states[i, length + 1 :] = rng.integers(S, size=states[i, length + 1 :].shape)
        actions[i, length:] = rng.integers(A, size=actions[i, length:].shape)
        rewards[i, length:] = np.nan
    return dataclasses.replace(part, states=states, actions=actions, rewards=rewards)


def sums(part, table, gamma):
    return [
        sum(gamma**t * table[part.states[i, t], part.actions[i, t]] for t in range(length))
        for i, length in enumerate(part.lengths)
    ]


@pytest.mark.parametrize("gamma", [1.0, 0.8])
@pytest.mark.parametrize("with_reference", [True, False])
def test_log_ratios_step_by_step(gamma, with_reference, rng):
    reference, table, part = random_policy(rng), rng.normal(size=(S, A)), some_pairs(rng).a
    policy = TablePolicy(reference, Free(table), gamma, with_reference)
    pi = reference * np.exp(table)
    pi /= pi.sum(1, keepdims=True)
    np.testing.assert_allclose(policy.pi, pi, rtol=1e-12)
    expected = sums(part, np.log(pi / reference) if with_reference else np.log(pi), gamma)
    np.testing.assert_allclose(policy.log_ratios(part), expected, atol=1e-12)
    np.testing.assert_array_equal(
        policy.log_ratios(part), policy.log_ratios(padded(part, np.random.default_rng(1)))
    )


def test_log_ratios_are_exactly_0_at_the_reference(rng):
    pairs = some_pairs(rng)
    for _ in range(20):
        policy = TablePolicy(random_policy(rng), LinearLogits(np.eye(S), A, 0.1))
        assert not policy.log_ratios(pairs.a).any()
        np.testing.assert_array_equal(policy.pi, policy.reference)


def test_logits_far_apart_stay_finite(rng):
    table = np.array([[800.0, -800.0], [0.0, 5000.0], [1.0, 1.0], [0.0, 0.0]])
    for with_reference in (True, False):
        policy = TablePolicy(np.full((S, A), 0.5), Free(table), with_reference=with_reference)
        assert np.isfinite(policy.log_ratios(some_pairs(rng).a)).all()
    assert policy.summed[0, 1] == pytest.approx(-1600.0)


@pytest.mark.parametrize("gamma", [1.0, 0.8])
@pytest.mark.parametrize("with_reference", [True, False])
@pytest.mark.parametrize(
    ("name", "options"), [("dpo", {}), ("ipo", {}), ("cpl", {"conservative": 0.5})]
)
def test_gradients_are_finite_differences(gamma, with_reference, name, options, rng):
    pairs, y = some_pairs(rng, 30), rng.choice([0.0, 0.5, 1.0], 30)
    reference, table = random_policy(rng), rng.normal(size=(S, A))
    loss = partial(preference_loss, name, beta=BETA, **options)

    def value(table):
        log_pi = np.log(reference) + table
        log_pi -= np.log(np.exp(log_pi).sum(1, keepdims=True))
        if with_reference:
            log_pi = log_pi - np.log(reference)
        a, b = (np.array(sums(part, log_pi, gamma)) for part in (pairs.a, pairs.b))
        return loss(a, b, y).value.mean()

    free = Free(table)
    policy = TablePolicy(reference, free, gamma, with_reference)
    assert policy.learn(policy.labelled(pairs), y, loss) == pytest.approx(value(table))
    h, expected = 1e-5, np.zeros((S, A))
    for i in np.ndindex(S, A):
        step = np.zeros((S, A))
        step[i] = h
        expected[i] = (value(table + step) - value(table - step)) / (2 * h)
    np.testing.assert_allclose(free.gradient, expected, atol=1e-9)
    again = TablePolicy(reference, Free(table), gamma, with_reference)
    behind = Pairs(*(padded(part, rng) for part in (pairs.a, pairs.b)))
    again.learn(again.labelled(behind), y, loss)
    np.testing.assert_array_equal(again.logits.gradient, free.gradient)


def test_identical_segments_teach_nothing(rng):
    part, free = some_pairs(rng).a, Free(rng.normal(size=(S, A)))
    policy = TablePolicy(random_policy(rng), free)
    policy.learn(policy.labelled(Pairs(part, part)), rng.integers(2, size=len(part)) * 1.0, DPO)
    np.testing.assert_allclose(free.gradient, 0.0, atol=1e-15)


def test_pairs_of_different_starts_are_for_cpl_alone(rng):
    pairs = some_pairs(rng)
    turned = Pairs(pairs.a, pairs.b.take(np.argsort(-pairs.b.starts)))
    policy = TablePolicy(random_policy(rng), Free(np.zeros((S, A))))
    with pytest.raises(InputError, match="pairs must start in one state each, unless loss is cpl"):
        policy.labelled(turned)
    assert np.isfinite(policy.learn(policy.labelled(turned, False), np.ones(len(pairs)), DPO))


def test_adam_is_that_of_torch(rng):
    torch = pytest.importorskip("torch")
    features = rng.normal(size=(S, 3))
    logits = LinearLogits(features, A, 0.05)
    W = torch.zeros((3, A), dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([W], 0.05)
    for _ in range(20):
        gradient = rng.normal(size=(S, A))
        logits.descend(gradient)
        W.grad = torch.as_tensor(features.T @ gradient)
        adam.step()
    np.testing.assert_allclose(logits.W, W.detach().numpy(), rtol=1e-9)
    np.testing.assert_allclose(logits.table(), features @ logits.W, rtol=1e-12)


def learnt(policy, pairs, y, steps):
    labelled = policy.labelled(pairs)
    for _ in range(steps):
        policy.learn(labelled, y, DPO)


def test_reset_and_a_fresh_optimiser(rng):
    pairs, reference = some_pairs(rng), random_policy(rng)
    y = rng.integers(2, size=len(pairs)) * 1.0
    policy = TablePolicy(reference, LinearLogits(np.eye(S), A, 0.1))
    before, kept = policy.pi.copy(), reference.copy()
    learnt(policy, pairs, y, 5)
    after = policy.pi.copy()
    assert np.abs(after - before).max() > 0.01
    policy.reset()
    np.testing.assert_array_equal(policy.pi, before)  # bit for bit
    np.testing.assert_array_equal(policy.reference, kept)
    assert not policy.log_ratios(pairs.a).any()
    learnt(policy, pairs, y, 5)
    np.testing.assert_array_equal(policy.pi, after)  # the optimiser was fresh, too
    logits = policy.logits
    policy.fresh_optimiser()
    assert logits.count == 0
    assert not logits.mean.any()
    np.testing.assert_array_equal(policy.pi, after)


def test_a_policy_that_becomes_the_reference_is_where_it_was(rng):
    pairs = some_pairs(rng)
    policy = TablePolicy(random_policy(rng), LinearLogits(np.eye(S), A, 0.1))
    learnt(policy, pairs, np.ones(len(pairs)), 5)
    was = policy.pi.copy()
    policy.rebase()
    np.testing.assert_allclose(policy.pi, was, rtol=1e-12)
    assert not policy.log_ratios(pairs.b).any()
    learnt(policy, pairs, np.ones(len(pairs)), 2)
    policy.reset()
    np.testing.assert_allclose(policy.pi, was, rtol=1e-12)


def test_a_state_goes_on_to_the_same_bits(rng):
    pairs, reference = some_pairs(rng), random_policy(rng)
    y = rng.integers(2, size=len(pairs)) * 1.0
    one, two = (TablePolicy(reference, LinearLogits(np.eye(S), A, 0.1)) for _ in range(2))
    learnt(one, pairs, y, 3)
    one.rebase()
    learnt(one, pairs, y, 4)
    two.load_state_dict(one.state_dict())
    for policy in (one, two):
        learnt(policy, pairs, y, 4)
    np.testing.assert_array_equal(one.pi, two.pi)
    np.testing.assert_array_equal(one.reference, two.reference)
    np.testing.assert_array_equal(one.log_ratios(pairs.a), two.log_ratios(pairs.a))


def test_a_policy_refuses_a_gamma_of_0(rng):
    with pytest.raises(InputError, match="gamma must be"):
        TablePolicy(random_policy(rng), Free(np.zeros((S, A))), gamma=0.0)


# ---------------------------------------------------------------- what training comes to


def arms(*chosen):
    """Segments of a bandit of state 0, of these arms."""
    n = len(chosen)
    actions = np.array(chosen)[:, None]
    return Segments(np.tile([0, 1], (n, 1)), actions, 1.0 - actions, np.ones(n, np.int64),
                    np.ones(n, bool), np.zeros(n, np.int64))  # fmt: skip


@pytest.mark.parametrize(
    ("temperature", "share", "name"),
    [(1.0, 0.993307, "dpo"), (2.0, 0.924142, "dpo"), (2.0, 0.924142, "cpl")],
)
def test_a_bandit_ends_at_the_temperature_of_policy_times_teacher(temperature, share, name):
    """π(1) = σ(1 / βτ), all labels at once: y is the probability that an arm is preferred."""
    pairs = Pairs(arms(0, 1, 0, 1), arms(1, 0, 0, 1))
    p = 1.0 / (1.0 + math.exp(-1.0 / temperature))
    y = np.array([p, 1.0 - p, 0.5, 0.5])
    policy = TablePolicy(np.full((2, 2), 0.5), LinearLogits(np.eye(2), 2, 0.05))
    labelled, loss = policy.labelled(pairs), partial(preference_loss, name, beta=BETA)
    for _ in range(1500):
        policy.learn(labelled, y, loss)
    assert policy.pi[0, 0] == pytest.approx(share, abs=2e-6)


def layered(P, r, T):
    """The same MDP with the stage in its state t * S + s, so that a stationary policy is not."""
    S, A = P.shape[:2]
    Q, q = np.zeros((T + 1, S, A, T + 1, S)), np.zeros((T + 1, S, A, T + 1, S))
    for t in range(T):
        Q[t, :, :, t + 1], q[t, :, :, t + 1] = P, r
    Q[T, range(S), :, T, range(S)] = 1.0
    n = (T + 1) * S
    return Q.reshape(n, A, n), q.reshape(n, A, n)


@pytest.mark.parametrize("deterministic", [False, True])
def test_implicit_rewards_telescope(deterministic, rng):
    """β Σ log π*/π_ref = Σ r - V_0(s_0) + ξ, ξ = Σ E f - f, f = r + V_{t+1}(s'), of mean 0."""
    S, A, T, beta = 6, 3, 5, 0.7
    for _ in range(5):
        P, r, task = make(rng, S, A, T, deterministic)
        going = ~task.mdp.terminal
        reference = np.tile(random_policy(rng, S, A), (T + 1, 1))
        Q, V = np.zeros((T + 1, S, A)), np.zeros((T + 1, S))
        for t in reversed(range(T)):
            Q[t] = (P * r).sum(2) + P @ V[t + 1]
            soft = reference[:S] * np.exp(Q[t] / beta)
            V[t] = going * beta * np.log(soft.sum(1))
        long_P, long_r = layered(P, r, T)
        end = np.tile(task.mdp.terminal, T + 1)
        end[T * S :] = True
        for s in np.flatnonzero(end):  # terminal states stay
            long_P[s], long_r[s] = np.eye(len(end))[s], 0.0
        first = np.zeros(len(end))
        first[:S] = 1.0 / S
        long = TabularTask.of(FiniteMDP(long_P, long_r, first, terminal=end), T)
        policy = TablePolicy(reference, Free(Q.reshape(-1, A) / beta))
        starts = rng.choice(task.starts, size=4000)
        part = long.roll_out(random_policy(rng, len(end), A), starts, rng)
        xi = np.zeros(len(part))
        for t in range(T):
            i = np.flatnonzero(part.mask[:, t])
            s, a, after = (x[i] for x in (part.states[:, t], part.actions[:, t],
                                          part.states[:, t + 1]))  # fmt: skip
            f = r + V[t + 1]  # what a step may come to, of (s, a, s')
            xi[i] += (P * f).sum(2)[s % S, a] - f[s % S, a, after % S]
        expected = part.returns - V[0][part.states[:, 0]] + xi
        np.testing.assert_allclose(beta * policy.log_ratios(part), expected, atol=1e-10)
        if deterministic:
            np.testing.assert_allclose(xi, 0.0, atol=1e-12)
        else:
            assert xi.std() > 0.01
            assert abs(xi.mean()) <= 4.0 * xi.std() / math.sqrt(len(xi))
