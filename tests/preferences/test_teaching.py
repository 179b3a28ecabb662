"""The simulated teacher of a campaign: against answers that are worked out pair by pair."""

import math

import numpy as np
import pytest
from oracles.models import random_mdp

from rlentropy import FiniteMDP
from rlentropy.errors import InputError
from rlentropy.preferences.oracles import keyed_uniforms, parse_oracle
from rlentropy.preferences.segments import Pairs
from rlentropy.preferences.tables import TabularTask
from rlentropy.preferences.teaching import SimulatedTeacher

S, A, T, N = 5, 2, 4, 300


def make(rng, whole=True):
    """P, r (S, A, S), of whole numbers so that returns tie, and pairs of a uniform policy."""
    P = random_mdp(rng, S, A, successors=2).P
    r = rng.integers(-1, 2, size=(S, A, S)) * 1.0 if whole else rng.normal(size=(S, A, S))
    task = TabularTask.of(FiniteMDP(P, r, np.full(S, 1 / S)), T)
    starts = task.prompts(N, rng)
    pi = np.full((S, A), 1 / A)
    return P, r, task, Pairs(task.roll_out(pi, starts, rng), task.roll_out(pi, starts, rng))


def teacher(text, task, pairs, seed=7):
    return SimulatedTeacher(parse_oracle(text), pairs.a, task.optimum, seed)


def ask(one, pairs, repeats=0, left=True, **options):
    n = len(pairs)
    return one(pairs, pairs.query_ids(), np.full(n, repeats), np.full(n, left), **options)


def test_a_noise_free_teacher_knows_the_return(rng):
    _, _, task, pairs = make(rng)
    gaps = pairs.a.returns - pairs.b.returns
    expected = np.where(gaps > 0, 1.0, np.where(gaps < 0, 0.0, 0.5))
    assert {0.0, 0.5, 1.0} == set(expected.tolist())
    np.testing.assert_array_equal(ask(teacher("return", task, pairs), pairs), expected)


def test_sums_that_differ_by_rounding_tie(rng):
    _, _, task, pairs = make(rng)
    rewards = pairs.a.rewards + 1e-13 * rng.normal(size=(N, T))
    a = type(pairs.a)(pairs.a.states, pairs.a.actions, rewards, *(
        getattr(pairs.a, name) for name in ("lengths", "terminated", "starts")))  # fmt: skip
    one = teacher("return", task, pairs)
    np.testing.assert_array_equal(ask(one, Pairs(a, pairs.b)), ask(one, pairs))


def test_a_regret_is_what_optimal_values_say(rng):
    P, r, task, pairs = make(rng, whole=False)
    mean = (P * r).sum(2)
    Q, V = np.zeros((T, S, A)), np.zeros((T + 1, S))
    for t in reversed(range(T)):
        Q[t] = mean + P @ V[t + 1]
        V[t] = Q[t].max(1)

    def judged(part):
        return np.array(
            [
                sum(
                    Q[t][part.states[i, t], part.actions[i, t]] - V[t][part.states[i, t]]
                    for t in range(part.lengths[i])
                )
                for i in range(N)
            ]
        )

    gaps = (judged(pairs.a) - judged(pairs.b)).round(9)
    expected = np.where(gaps > 0, 1.0, np.where(gaps < 0, 0.0, 0.5))
    np.testing.assert_array_equal(ask(teacher("regret", task, pairs), pairs), expected)
    with pytest.raises(InputError, match="oracle regret must have an environment with a known"):
        SimulatedTeacher(parse_oracle("regret"), pairs.a, None, 0)


def test_bradley_terry_answers_at_its_temperature(rng):
    """By the frequency of 1 over seeds, of each of a few pairs."""
    _, _, task, pairs = make(rng)
    few = pairs.take(np.arange(12))
    n, p = 3000, 1.0 / (1.0 + np.exp(-few.gaps / 2.0))
    share = np.mean(
        [ask(teacher("bradley-terry:2", task, pairs, seed), few) for seed in range(n)], axis=0
    )
    assert (np.abs(share - p) <= 4.0 * np.sqrt(p * (1.0 - p) / n)).all()


def test_a_temperature_in_deviations_is_that_of_the_reference(rng):
    _, _, task, pairs = make(rng)
    one, std = teacher("bradley-terry:0.5std", task, pairs), pairs.a.returns.std()
    assert one.spec.temperature == pytest.approx(0.5 * std)
    assert not one.spec.in_std
    two = teacher(f"bradley-terry:{0.5 * std}", task, pairs)
    np.testing.assert_array_equal(ask(one, pairs), ask(two, pairs))
    flat = type(pairs.a)(pairs.a.states, pairs.a.actions, np.zeros((N, T)), *(
        getattr(pairs.a, name) for name in ("lengths", "terminated", "starts")))  # fmt: skip
    with pytest.raises(InputError, match="all segments of the reference score the same"):
        SimulatedTeacher(parse_oracle("bradley-terry:1std"), flat, None, 0)


@pytest.mark.parametrize(
    "text",
    ["bradley-terry:2", "bradley-terry:2,mistake=0.2,left-bias=1.0"],
)
def test_answers_belong_to_the_query(text, rng):
    """Both orders add up to 1; company, time and position change nothing, asking again does."""
    _, _, task, pairs = make(rng)
    pairs = pairs.take(~pairs.identical)  # of which the other order is the same question
    one = teacher(text, task, pairs)
    y = ask(one, pairs)
    np.testing.assert_array_equal(ask(one, pairs.swapped(), left=False), 1.0 - y)
    np.testing.assert_array_equal(ask(one, pairs.take([5, 3]), session=4), y[[5, 3]])
    np.testing.assert_array_equal(ask(teacher(text, task, pairs), pairs, asked=50), y)
    assert (ask(one, pairs, repeats=1) != y).any()
    assert (ask(teacher(text, task, pairs, seed=8), pairs) != y).any()


def test_the_left_segment_has_its_bias(rng):
    _, _, task, pairs = make(rng)
    one = teacher("bradley-terry:2,left-bias=1.0", task, pairs)
    y, other = ask(one, pairs), ask(one, pairs, left=False)
    assert (y >= other).all()
    n, p = 2000, [1.0 / (1.0 + np.exp(-pairs.gaps[:12] / 2.0 - b)) for b in (1.0, -1.0)]
    for side, expected in zip((True, False), p, strict=True):
        share = np.mean(
            [
                ask(teacher("bradley-terry:2,left-bias=1.0", task, pairs, seed),
                    pairs.take(np.arange(12)), left=side)
                for seed in range(n)
            ],
            axis=0,
        )  # fmt: skip
        assert (np.abs(share - expected) <= 4.0 * np.sqrt(expected * (1.0 - expected) / n)).all()


def test_drift_counts_the_answers_before(rng):
    _, _, task, pairs = make(rng)
    few = pairs.take(np.arange(N))
    one = teacher("bradley-terry:0.5,drift=2", task, pairs)
    y = ask(one, few, asked=100)
    # The answer is the query's own uniform number against σ(gap / τ), τ = 0.5 exp(2 n / 100).
    ids = few.query_ids()
    u = keyed_uniforms(7, ids, np.zeros(N, int))[:, 0]
    expected = []
    for i, (a, b) in enumerate(zip(few.a.digests(), few.b.digests(), strict=True)):
        tau = 0.5 * math.exp(2.0 * (100 + i) / 100)
        p = 1.0 / (1.0 + math.exp(-few.gaps[i] / tau))
        expected.append(float((u[i] if a <= b else 1.0 - u[i]) < p))
    np.testing.assert_array_equal(y, expected)


def test_skips_and_ties_are_near_the_usual_return(rng):
    _, _, task, pairs = make(rng, whole=False)
    shifted = [
        type(part)(part.states, part.actions, part.rewards + 1.0, part.lengths, part.terminated,
                   part.starts) for part in (pairs.a, pairs.b)
    ]  # fmt: skip
    pairs = Pairs(*shifted)
    usual = np.concatenate([pairs.a.returns, pairs.b.returns]).mean()
    assert usual > 0.0
    one = SimulatedTeacher(
        parse_oracle("return:skip=0.6,equal=0.3"), pairs.a, task.optimum, 7
    )  # options alone
    y = ask(one, pairs)
    best = np.maximum(pairs.a.returns, pairs.b.returns)
    np.testing.assert_array_equal(np.isnan(y), best < 0.6 * usual)
    near = np.abs(pairs.gaps) < 0.3 * usual
    assert (y[near & ~np.isnan(y)] == 0.5).all()
    far = ~near & ~np.isnan(y)
    np.testing.assert_array_equal(y[far], (pairs.gaps > 0)[far])
    compat = SimulatedTeacher(
        parse_oracle("return:skip=0.6,equal=0.3,bpref-compat=true"), pairs.a, task.optimum, 7
    )
    np.testing.assert_array_equal(ask(compat, pairs, session=0), y)
    later = ask(compat, pairs, session=1)
    np.testing.assert_array_equal(np.isnan(later), best < 0.36 * usual)
