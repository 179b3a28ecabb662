"""Figures of campaigns against numbers that were worked out by hand."""

import math

import numpy as np
import pytest

from rlentropy.preferences.accounts import (
    Return,
    cost,
    figure,
    labeller,
    propensities,
    questions,
    report,
    seconds_spent,
)

P = {"a": 1.0, "b": 0.0, "tie": 0.5}


def record(position, answer, who="anna", asking="label", seconds=None, **more):
    return {
        "round": 0, "position": position, "query_id": f"{position:032x}", "labeller": who,
        "answer": answer, "asking": asking, "probability": P.get(answer), "superseded_by": None,
        "segment_a": "0", "segment_b": "1", "shown_left": "a", "margin": None, "propensity": None,
        "duration_ms": None if seconds is None else 1e3 * seconds,
    } | more  # fmt: skip


def pending(position, **more):
    return record(position, None, None, None) | more


CAMPAIGN = [
    record(0, "a", seconds=2.0),
    record(1, "b", seconds=4.0),
    record(2, "tie", seconds=900.0),
    record(3, "skip", seconds=3.0),
    record(4, "a", seconds=1.0, superseded_by=9),
    record(4, "undo", superseded_by=10),
    record(4, "a", seconds=5.0),
    pending(5),
    record(0, "a", asking="mirror", seconds=2.0),
    record(1, "a", asking="mirror", seconds=2.0),
    record(0, "b", "bert", "second", seconds=10.0),
    record(1, "b", "bert", "second", seconds=20.0),
    record(0, "a", "gpt", "judge"),
    record(1, "a", "gpt", "judge"),
    record(0, "b", "elsewhere", round=-1, query_id="x", seconds=50.0),
]


def test_questions_and_what_became_of_them():
    found = questions(CAMPAIGN, 10)
    values = {name: (f.value, f.n) for name, f in found.items()}
    assert values == {
        "questions": (6, 6), "rounds": (1, 6), "labels": (4, 5), "budget": (10, 5),
        "left_in_budget": (6, 5), "unanswered": (1, 6), "imported": (1, 1),
        "ties": (0.25, 4), "skips": (0.2, 5), "undone": (1, 13),
    }  # fmt: skip
    assert questions(CAMPAIGN, None)["budget"].value is None
    assert questions([], None)["ties"] == figure(math.nan, "share", 0)


def test_a_labeller():
    own = [r for r in CAMPAIGN if r["labeller"] == "anna"]
    found = labeller(own, CAMPAIGN)
    values = {name: (f.value, f.n) for name, f in found.items()}
    assert values["answers"] == (7, 7)
    assert values["labels"] == (4, 7)
    assert values["seconds_median"] == (3.0, 7)  # of 2 4 900 3 5 2 2
    assert values["seconds_mean"] == (3.0, 6)  # the pause of 900 s is left out
    assert values["pauses"] == (1, 7)
    assert values["seconds"] == (21.0, 8)  # 1 2 2 2 3 4 5, and their middle for the pause
    assert values["ties"] == (1 / 6, 6)
    assert values["skips"] == (1 / 7, 7)
    assert values["conflicts"] == (0.5, 2)
    # a is left, in mirrored questions right: left are 0 and 4; right 1, and both mirrored ones
    assert values["left"] == (0.4, 5)
    assert (found["position_bias"].value, found["position_bias"].n) == (None, 0)
    low, high = found["left"].ci95
    assert (low, high) == pytest.approx((0.1176, 0.7693), abs=1e-4)  # Wilson's, of tables


def test_pauses_count_as_the_median():
    assert seconds_spent(CAMPAIGN[:3]) == 2.0 + 4.0 + 3.0
    assert seconds_spent(CAMPAIGN[:3], pause=1000.0) == 906.0
    assert seconds_spent([record(0, "a", seconds=500.0)]) == 500.0
    assert math.isnan(seconds_spent([record(0, "a")]))


def test_a_whole_report():
    found = report(CAMPAIGN, 10, Return(7.0, 5.0), hourly_wage=36.0)
    assert list(found.labellers) == ["anna", "bert", "elsewhere", "gpt"]
    assert list(found.between) == ["anna and bert"]
    both = found.between["anna and bert"]
    assert (both["agreement"].value, both["agreement"].n) == (0.5, 2)
    assert both["cohen_kappa"].value == 0.0  # anna a b, bert b b: chance alone agrees as often
    at_all = found.campaign
    assert (at_all["agreement"].value, at_all["agreement"].n) == (0.5, 2)
    # Values a b b b: of 12 ordered couples 6 differ, of the two units' two couples one does.
    assert at_all["krippendorff_alpha"].value == pytest.approx(1 - (2 / 4) / (6 / 12))
    assert (at_all["judge_agreement"].value, at_all["judge_agreement"].n) == (0.5, 2)
    assert (at_all["conflicts"].value, at_all["conflicts"].n) == (0.5, 2)
    assert at_all["return_gained"].value == 2.0
    assert at_all["labels_per_return"].value == 2.0
    assert at_all["seconds"].value == 21.0 + 30.0
    assert at_all["seconds_per_return"].value == 51.0 / 2
    assert at_all["money"].value == pytest.approx(0.51)
    assert at_all["money_per_return"].value == pytest.approx(0.255)
    every = [*found.campaign.values(), *found.labellers["anna"].values(), *both.values()]
    assert all(f.n >= 0 and f.unit for f in every)


def test_costs_are_unknown_where_nothing_was_gained():
    for earned in (Return(5.0, 5.0), Return(4.0, 5.0), Return(None, 5.0), Return(None, None)):
        found = cost(CAMPAIGN, earned, 36.0)
        for name in ("labels_per_return", "seconds_per_return", "money_per_return"):
            assert found[name].value is None
    found = cost([record(0, "a")], Return(2.0, 1.0))
    assert (found["labels_per_return"].value, found["seconds"].value) == (1.0, None)
    assert found["money_per_return"].value is None


def test_no_records_and_no_figures():
    found = report([])
    assert found.labellers == found.between == {}
    numbers = {name: f.value for name, f in found.campaign.items() if f.value is not None}
    assert set(numbers.values()) == {0.0}
    assert {name for name in numbers if "share" in found.campaign[name].unit} == set()


def test_propensities_are_of_questions():
    rows = [record(0, "a", propensity=0.5), record(0, "a", asking="mirror", propensity=0.5),
            record(1, "b", propensity=0.1), pending(2)]  # fmt: skip
    found = {name: (f.value, f.n) for name, f in propensities(rows).items()}
    assert found == {
        "propensity_mean": (pytest.approx(0.3), 2), "propensity_least": (0.1, 2),
        "pairs_stood_for": (pytest.approx(12.0), 2),
        "effective_questions": (pytest.approx(144 / 104), 2),
    }  # fmt: skip


def test_position_bias_is_found(rng):
    """Someone who takes the left in four of five, whatever the margin: logit(.8) = 1.386."""
    n = 800
    rows = [
        record(i, "a" if (rng.random() < 0.8) == (left == "a") else "b", shown_left=left,
               margin=float(rng.normal()))
        for i, left in enumerate(np.where(rng.random(n) < 0.5, "a", "b").tolist())
    ]  # fmt: skip
    found = labeller(rows, rows)
    error = found["position_bias_error"].value
    assert error == pytest.approx(1 / np.sqrt(n * 0.16), rel=0.1)
    assert abs(found["position_bias"].value - math.log(4.0)) < 4 * error
    low, high = found["position_bias"].ci95
    assert high - low == pytest.approx(2 * 1.96 * error, rel=1e-3)
    assert abs(found["left"].value - 0.8) < 4 * math.sqrt(0.16 / n)
    assert report(rows).campaign["position_bias"] == found["position_bias"]
