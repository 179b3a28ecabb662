"""Coefficients of agreement against textbook examples, and definitions that count pair by pair."""

import itertools

import numpy as np
import pytest

from rlentropy.preferences.agreement import (
    answered_twice,
    between,
    coefficient,
    cohen_kappa,
    coincidences,
    krippendorff_alpha,
    labellers_of,
    tables,
    votes,
)

X = None
# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): four observers, twelve units.
FOUR = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, X, X, X],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, X, 3],
        [X, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, X],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, X],
    ]
).T


def answers(units):
    return [[x - 1 for x in unit if x is not None] for unit in units]


def record(query, labeller, answer, asking="label", **more):
    return {
        "query_id": query, "labeller": labeller, "answer": answer, "asking": asking,
        "probability": {"a": 1.0, "b": 0.0, "tie": 0.5, "skip": None}[answer],
        "superseded_by": None, "round": 0, "position": 0, "segment_a": "0", "segment_b": "1",
    } | more  # fmt: skip


def alpha_by_pairs(units):
    """1 - observed / expected disagreement, by going through all couples of values."""
    units = [unit for unit in units if len(unit) > 1]
    values = [x for unit in units for x in unit]
    n = len(values)
    observed = sum(
        sum(x != y for x, y in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in units
    )
    expected = sum(x != y for x, y in itertools.permutations(values, 2)) / (n - 1)
    return 1.0 - observed / expected


def kappa_by_counting(pairs):
    """Chance is a partner drawn from all that the other one said."""
    observed = np.mean([x == y for x, y in pairs])
    first, second = zip(*pairs, strict=True)
    chance = np.mean([x == y for x in first for y in second])
    return (observed - chance) / (1 - chance)


def test_krippendorff_s_own_examples():
    """His worked example of four observers has α = .743, of two .692, of yes and no .095."""
    four = coincidences(answers(FOUR), 5)
    assert krippendorff_alpha(four.sum(0)) == pytest.approx(0.743, abs=5e-4)
    first, second = "aabbdcccedda", "babbbccceddd"
    two = [["abcde".index(x) for x in both] for both in zip(first, second, strict=True)]
    assert krippendorff_alpha(coincidences(two, 5).sum(0)) == pytest.approx(0.692, abs=5e-4)
    yes, no = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    binary = coincidences(zip(yes, no, strict=True), 2)
    assert krippendorff_alpha(binary.sum(0)) == pytest.approx(0.095, abs=5e-4)


def test_cohen_s_kappa_of_a_textbook_table():
    """20 + 15 of 50 agree; 50 × 60 + 50 × 40 of 10,000 by chance: (.7 - .5) / .5 = .4."""
    assert cohen_kappa(np.array([[20.0, 5.0], [10.0, 15.0]])) == pytest.approx(0.4, abs=1e-12)
    assert cohen_kappa(np.array([[45.0, 15.0], [25.0, 15.0]])) == pytest.approx(0.1304, abs=5e-5)
    assert cohen_kappa(np.array([[25.0, 35.0], [5.0, 35.0]])) == pytest.approx(0.2593, abs=5e-5)


@pytest.mark.parametrize("seed", range(5))
def test_coefficients_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    units = [rng.integers(3, size=rng.integers(0, 5)).tolist() for _ in range(30)]
    found = krippendorff_alpha(coincidences(units).sum(0))
    assert found == pytest.approx(alpha_by_pairs(units), abs=1e-12)
    pairs = [tuple(both) for both in rng.integers(3, size=(25, 2)).tolist()]
    kappa = kappa_by_counting(pairs)
    assert cohen_kappa(tables(pairs).sum(0)) == pytest.approx(kappa, abs=1e-12)


def test_agreement_by_chance_is_none_and_the_interval_says_so(rng):
    pairs = rng.integers(2, size=(400, 2)).tolist()
    value, (low, high) = coefficient(tables(pairs), cohen_kappa)
    assert low < value < high
    assert abs(value) < 4 / np.sqrt(400)  # the standard error of κ at chance with even words
    assert (high - low) == pytest.approx(2 * 1.96 / np.sqrt(400), rel=0.15)
    alpha, ends = coefficient(coincidences(pairs), krippendorff_alpha)
    assert alpha == pytest.approx(value, abs=0.01)
    assert ends == pytest.approx([low, high], abs=0.03)


def test_what_is_undefined_is_nan():
    assert np.isnan(cohen_kappa(tables([]).sum(0)))
    assert np.isnan(cohen_kappa(tables([(0, 0), (0, 0)]).sum(0)))
    assert np.isnan(krippendorff_alpha(coincidences([[1, 1], [1], []]).sum(0)))
    assert np.isnan(krippendorff_alpha(coincidences([]).sum(0)))
    for pairs in ([], [(0, 0)] * 5):
        value, ends = coefficient(tables(pairs), cohen_kappa)
        assert np.isnan([value, *ends]).all()
    value, ends = coefficient(coincidences([[0, 1]]), krippendorff_alpha)
    assert value == 0.0
    assert np.isnan(ends).all()


def test_votes_know_no_order_and_no_second_thoughts():
    found = votes(
        [
            record("x", "anna", "a"),
            record("x", "bert", "b", "second", segment_a="1", segment_b="0"),  # the same segment
            record("x", "anna", "b", "mirror"),
            record("x", "gpt", "b", "judge"),
            record("x", "anna", "b", round=3),
            record("y", "anna", "tie"),
            record("y", "bert", "skip", "second"),
            record("z", "anna", "a", superseded_by=5),
            record("z", "bert", "tie", segment_a="1", segment_b="0"),
        ]
    )
    assert found == {"x": {"anna": 0, "bert": 0}, "y": {"anna": 2}, "z": {"bert": 2}}
    assert between(found, "anna", "bert") == [(0, 0)]
    assert labellers_of(found) == [("anna", "bert")]


def test_answers_beside_the_label():
    records = [
        record("x", "anna", "a"),
        record("x", "anna", "b", "mirror"),
        record("y", "bert", "tie", position=1),
        record("y", "gpt", "a", "judge", position=1),
        record("z", "anna", "b", "mirror", position=2),
        record("w", "anna", "skip", position=3),
    ]
    assert answered_twice(records, "mirror") == [("anna", "a", "anna", "b")]
    assert answered_twice(records, "judge") == [("bert", "tie", "gpt", "a")]
