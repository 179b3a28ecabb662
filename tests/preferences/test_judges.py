"""Judges against counts by hand, and the routing to a person against routing by chance."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from rlentropy.errors import InputError
from rlentropy.preferences.judges import (
    WIDTH,
    Judge,
    conflict_rate,
    contradicts,
    doubt,
    evidence,
    judgement,
    outcome_entropy,
    position_bias,
    read,
    share_of,
    to_person,
    verdicts,
)


def uniforms(rng, *shape):
    return rng.uniform(1e-12, 1.0 - 1e-12, shape)


# ---------------------------------------------------------------- one pair


def test_entropy_of_outcomes():
    six = [[1, 1, 0.5, 1, 0, 1], [0] * 6, [1, 1, 0.5, 0.5, 0, 0], [0.5, 1, 0.5, 1, 1, 0.5]]
    want = [0.8676, 0.0, math.log(3), math.log(2)]
    np.testing.assert_allclose(outcome_entropy(six), want, atol=5e-5)


def test_verdicts_and_their_ties():
    differences = np.array([-2.0, -0.5, 0.0, 0.4, 0.6])
    np.testing.assert_array_equal(verdicts(differences), [0, 0, 0.5, 1, 1])
    np.testing.assert_array_equal(verdicts(differences, 0.5), [0, 0.5, 0.5, 0.5, 1])


def test_a_judge_from_the_scores_that_it_wrote():
    """Averages CS of each candidate over both orders, and the verdict of each order alone."""
    scores = [[[8, 5], [7, 6]], [[6, 4], [9, 8]]]  # pair, reading, shown left and right
    swapped = [[[7, 6], [9, 5]], [[3, 8], [4, 9]]]  # the second candidate is left
    readings = evidence(scores, swapped)
    for i in range(2):
        first = sum(s[0] for s in scores[i]) + sum(s[1] for s in swapped[i])
        second = sum(s[1] for s in scores[i]) + sum(s[0] for s in swapped[i])
        assert readings[i].mean() == (first - second) / 4
    found = judgement(readings)
    np.testing.assert_array_equal(found.answers, [0.0, 1.0])  # 26 to 27, 32 to 19
    np.testing.assert_array_equal(found.conflict, [True, False])
    np.testing.assert_allclose(found.entropy, [math.log(2), 0.0])


@pytest.mark.filterwarnings("error")
def test_infinite_scores_that_are_equal_say_nothing():
    readings = evidence([[[np.inf, np.inf]], [[np.inf, 0.0]]], [[[1.0, 2.0]], [[0.0, np.inf]]])
    np.testing.assert_array_equal(readings, [[[np.nan], [1.0]], [[np.inf], [np.inf]]])


def test_verdicts_do_not_depend_on_the_order_of_input(rng):
    readings = rng.normal(size=(50, 2, 3))
    here, other = judgement(readings, 0.2), judgement(-readings[:, ::-1], 0.2)
    np.testing.assert_array_equal(here.answers, 1.0 - other.answers)
    np.testing.assert_array_equal(here.conflict, other.conflict)
    np.testing.assert_allclose(here.entropy, other.entropy)


def test_a_bias_that_all_readings_share_cancels():
    judge = Judge(temperature=1.0, in_std=False, left_bias=3.0, readings=2)
    gaps = np.array([-1.0, 0.0, 2.0])
    readings = read(judge, gaps, np.full((3, 4), 0.5))  # without noise
    np.testing.assert_allclose(readings.mean((1, 2)), gaps)
    assert judgement(readings).conflict.all()


def test_a_reading_is_a_bradley_terry_answer(rng):
    n, judge = 4000, Judge(temperature=2.0, in_std=False, left_bias=0.7, readings=4)
    readings = read(judge, np.full(n, 1.5), uniforms(rng, n, 8))
    for order, sign in ((0, 1), (1, -1)):
        p = 1 / (1 + math.exp(-(1.5 / 2.0 + sign * 0.7)))
        rate = (readings[:, order] > 0).mean()
        assert abs(rate - p) < 4 * math.sqrt(p * (1 - p) / (4 * n))


# ---------------------------------------------------------------- who decides


def test_the_pairs_in_most_doubt_go_to_a_person():
    entropy = np.array([0.1, 0.9, 0.9, 0.0, 0.9])
    u = np.array([0.5, 0.3, 0.1, 0.2, 0.7])
    np.testing.assert_array_equal(np.flatnonzero(to_person(entropy, 2, u)), [1, 2])
    np.testing.assert_array_equal(np.flatnonzero(to_person(entropy, 4, u)), [0, 1, 2, 4])
    assert to_person(entropy, 0, u).sum() == 0
    assert to_person(entropy, 5, u).all()
    with pytest.raises(InputError, match="n must be >= 0, got -1"):
        to_person(entropy, -1, u)


def test_shares_round_down():
    cases = ((0.2, 16), (0.2, 4), (0.2, 5), (0.3, 10), (1.0, 7), (0.0, 9))
    assert [share_of(*case) for case in cases] == [3, 0, 1, 3, 7, 0]


def test_doubt_by_each_rule():
    readings = np.array(
        [
            [[1.0, 1.0], [1.0, 1.0]],  # sure of the first
            [[3.0, 3.0], [-2.0, -2.0]],  # it goes by the side; mean 1/2
            [[-1.0, -2.0], [-1.0, -2.0]],  # sure of the second
            [[0.1, 0.1], [0.1, 0.1]],  # four ties at a band of 1/4
        ]
    )
    found, margins = judgement(readings, 0.25), np.array([-4.0, 7.0, 2.0, -1.0])
    np.testing.assert_allclose(doubt("entropy", found, margins), [0.0, math.log(2), 0.0, 0.0])
    np.testing.assert_allclose(doubt("margin", found, margins), [-1.0, -0.5, -1.5, -0.1])
    np.testing.assert_allclose(doubt("contradiction", found, margins), [4.0, 0.0, 2.0, 1.0])
    np.testing.assert_array_equal(doubt("random", found, margins), np.zeros(4))
    with pytest.raises(InputError, match="routing must be one of entropy, margin, contradiction"):
        doubt("chance", found, margins)


def test_routing_by_entropy_beats_routing_by_chance(rng):
    """A fifth of the pairs goes to a person who knows; label accuracy, paired, 20 rounds."""
    judge, n = Judge(temperature=1.0, in_std=False, left_bias=1.0, tie=0.5), 400
    gains, accuracies = [], []
    for _ in range(20):
        gaps = rng.normal(size=n)
        truth = (gaps > 0).astype(float)
        found = judgement(read(judge, gaps, uniforms(rng, n, 6)), judge.tie)
        right = 1.0 - np.abs(found.answers - truth)
        doubted = to_person(found.entropy, n // 5, uniforms(rng, n))
        chance = to_person(np.zeros(n), n // 5, uniforms(rng, n))
        assert doubted.sum() == chance.sum() == n // 5
        by_doubt, by_chance = np.where(doubted, 1.0, right), np.where(chance, 1.0, right)
        gains.append(by_doubt.mean() - by_chance.mean())
        accuracies.append(right.mean())
    assert np.mean(gains) > 4 * np.std(gains, ddof=1) / math.sqrt(20)
    assert np.mean(accuracies) < 0.85  # there is something to gain


def test_contradictions_of_the_policy():
    answers = np.array([1.0, 0.0, 0.5, np.nan, 0.0])
    margins = np.array([-3.0, 3.0, 5.0, 5.0, -9.0])
    np.testing.assert_array_equal(
        contradicts(answers, margins, 2.0), [True, True, False] + [False] * 2
    )
    assert not contradicts(answers, margins, 4.0).any()


def test_conflict_rate():
    nan = float("nan")
    assert conflict_rate([1, 0, 0.5, 1, nan, 1], [1, 1, 0.5, nan, 0, 0.5]) == 0.5
    assert math.isnan(conflict_rate([nan], [1.0]))


# ---------------------------------------------------------------- position bias


def test_position_bias_is_the_best_logistic_fit(rng):
    margins = rng.normal(size=60) * 5.0
    chose = (rng.random(60) < 1 / (1 + np.exp(-0.6 - 0.3 * margins))).astype(float)
    chose[:3], chose[3:5] = 0.5, np.nan

    def loss(w):
        z, y = (w[0] + w[1] * margins)[~np.isnan(chose)], chose[~np.isnan(chose)]
        return -(y * z - np.logaddexp(0, z)).sum() + 0.5 * (w**2).sum() / WIDTH**2

    best = minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-9})
    found = position_bias(margins, chose)
    np.testing.assert_allclose([found.bias, found.slope], best.x, atol=1e-6)
    e = 1e-3 * np.eye(2)
    curvature = [
        [(loss(best.x + i + j) - loss(best.x + i - j) - loss(best.x - i + j) + loss(best.x - i - j))
         / 4e-6 for i in e] for j in e
    ]  # fmt: skip
    assert found.error == pytest.approx(math.sqrt(np.linalg.inv(curvature)[0, 0]), rel=1e-4)
    assert found.used == 58


def test_position_bias_of_a_biased_judge_is_found(rng):
    n, judge = 4000, Judge(temperature=1.0, in_std=False, left_bias=0.5, readings=1)
    gaps = rng.normal(size=n)
    left = read(judge, gaps, uniforms(rng, n, 2))[:, 0, 0] > 0
    found = position_bias(2.0 * gaps, left)
    assert abs(found.bias - 0.5) < 4 * found.error
    assert abs(found.slope - 0.5) < 0.1


def test_position_bias_stays_finite():
    separable = position_bias([1e3, 2e3, -1e3, -2e3], [1, 1, 0, 0])
    assert abs(separable.bias) < 1e-6
    assert 0 < separable.slope < WIDTH
    always = position_bias(np.zeros(20), np.ones(20))
    assert 3.0 < always.bias < WIDTH
    none = position_bias([], [])
    assert none == (0.0, 0.0, WIDTH, 0)


def test_fields_of_a_judge():
    for field, value in {
        "temperature": 0.0, "left_bias": np.nan, "readings": 0, "tie": -1.0, "human": 2.0,
    }.items():  # fmt: skip
        with pytest.raises(InputError, match=f"{field} must be"):
            Judge(**{field: value})
