"""Scores and pairs over tasks, on made-up finals."""

import math
from pathlib import Path

import numpy as np
import pytest

from rlentropy import intervals
from rlentropy.errors import InputError
from rlentropy.runs.across import compare_across, pairs, rectangle, scale_of, task_pairs
from rlentropy.runs.comparable import Algorithm, Task
from rlentropy.runs.reading import Run


def algorithm(name, finals, metric="eval/gap", command="entgame", **facts):
    runs = []
    for seed, value in finals.items() if isinstance(finals, dict) else enumerate(finals):
        summary = {"command": command, "seed": seed, "objective": "VE"} | facts
        runs.append(Run(Path(name), summary, {metric: (np.array([10.0]), np.array([value]))}))
    return Algorithm(name, metric, tuple(runs))


def task(name, *algorithms):
    return Task(name, {"env_id": name}, algorithms)


def rng():
    return np.random.default_rng(0)


def scale(t, zero=(), one=()):
    s = scale_of(t, zero, one, "mean")
    return s.zero, s.one


# ---------------------------------------------------------------- scales


def test_a_gap_scores_0_at_the_random_policy_and_1_at_the_optimum():
    t = task("a", algorithm("x", [1.0, 3.0]), algorithm("r", [8.0, 8.0], command="random-policy"))
    assert scale(t) == (8.0, 0.0)
    s = scale_of(t, (), (), "mean")
    assert (s.zero_is, s.one_is, s.wrong) == ("r", "the optimum", "")
    assert s(np.array([8.0, 2.0, 0.0, 16.0])).tolist() == [0.0, 0.75, 1.0, -1.0]


def test_without_either_the_worst_and_the_best_algorithm_are_0_and_1():
    values = [algorithm(n, x, "eval/return") for n, x in (("x", [5.0, 7.0]), ("y", [1.0, 2.0]))]
    assert scale(task("a", *values)) == (1.5, 6.0)
    assert scale(task("a", *values, algorithm("z", [9.0], "eval/return"))) == (1.5, 9.0)


def test_a_known_optimum_of_an_entropy_is_1():
    x = algorithm("x", [3.0, 4.0], "eval/visitation_entropy", optimum=5.0)
    y = algorithm("y", [1.0], "eval/visitation_entropy", optimum=5.0)
    assert scale(task("a", x, y)) == (1.0, 5.0)
    assert scale(task("a", x, algorithm("y", [1.0], "eval/visitation_entropy"))) == (1.0, 3.5)


def test_a_normalised_return_is_a_score():
    assert scale(task("a", algorithm("x", [0.4], "eval/normalised_return"))) == (0.0, 1.0)


def test_options_set_the_scale():
    t = task("a", algorithm("x", [1.0]), algorithm("y", [4.0]))
    assert scale(t, ("20",), ("x",)) == (20.0, 1.0)
    assert scale(t, ("20", "a=10"), ("b=3",)) == (10.0, 0.0)
    for wrong in ("z", "a=z", "nan", "a=inf"):
        with pytest.raises(InputError, match=r"zero must be an algorithm \(x, y\), a number, or"):
            scale(t, (wrong,))


@pytest.mark.parametrize(
    "finals", [{"x": [2.0]}, {"x": [2.0], "y": [2.0]}, {"x": [math.inf], "y": [1.0]}]
)
def test_where_0_is_no_worse_than_1_there_are_no_scores(finals):
    t = task("a", *(algorithm(name, x, "eval/return") for name, x in finals.items()))
    a = compare_across([t, t], (), (), "", "mean", rng())
    assert "scores" not in a.tables
    assert all("is no worse than" in line for line in a.left_out)
    assert all(math.isnan(row["score"]) for row in a.tables["runs"])


# ---------------------------------------------------------------- which tasks, which pairs


def names(tasks, algorithms):
    return [t.name for t in tasks], algorithms


def test_the_larger_rectangle_is_kept():
    x, y, z = (algorithm(name, [1.0]) for name in "xyz")
    tasks = [task("a", x, y), task("b", x, y), task("c", x, y, z)]
    assert names(*rectangle(tasks)) == (["a", "b", "c"], ["x", "y"])
    tasks = [task("a", x, y, z), task("b", x, y, z), task("c", z)]
    assert names(*rectangle(tasks)) == (["a", "b"], ["x", "y", "z"])
    assert rectangle([task("a", x), task("b", y)])[0] == []


def test_pairs_are_all_or_with_the_baseline():
    assert pairs(["a", "b", "c"], "") == [("a", "b"), ("a", "c"), ("b", "c")]
    assert pairs(["a", "b", "c"], "b") == [("a", "b"), ("c", "b")]
    assert pairs(["a"], "") == pairs(["a", "b"], "c") == []


# ---------------------------------------------------------------- tables


def test_scores_of_two_tasks():
    random = algorithm("r", [10.0] * 3, command="random-policy")
    tasks = [
        task("a", algorithm("x", [1.0, 2.0, 3.0]), random),
        task("b", algorithm("x", [5.0, 5.0, 5.0]), random),
    ]
    a = compare_across(tasks, (), (), "", "mean", rng())
    x, r = a.tables["scores"]
    assert (x["algorithm"], x["tasks"], x["runs"]) == ("x", 2, 6)
    assert x["mean"] == pytest.approx((0.8 + 0.5) / 2)
    assert x["iqm"] == pytest.approx(np.mean([0.5, 0.5, 0.7, 0.8]))
    assert x["optimality_gap"] == pytest.approx(1 - 0.65)
    assert (r["mean"], r["mean_low"], r["mean_high"]) == (0.0, 0.0, 0.0)
    (pair,) = a.tables["pairs"]
    assert pair["seeds"] == 3
    assert pair["difference"] == pytest.approx(0.65)
    assert pair["p"] == pytest.approx(2 / 8)
    assert pair["better"] == 1.0
    assert not a.left_out
    profile = [row for row in a.tables["profiles"] if row["algorithm"] == "x"]
    for row in profile:
        finals = (0.9, 0.8, 0.7, 0.5, 0.5, 0.5)
        near = min(abs(row["score"] - s) for s in finals) < 1e-9
        assert near or row["share"] == pytest.approx(np.mean([s > row["score"] for s in finals]))


def test_pairs_share_seeds_and_never_mix_tags():
    x = algorithm("x", {0: 1.0, 1: 2.0, 2: 9.0})
    y = algorithm("y", {1: 5.0, 2: 4.0, 7: 0.5})
    other = algorithm("z", [1.0], "eval/mixture_gap")
    (row,) = task_pairs(task("a", x, y, other), "", rng())
    assert (row["algorithm"], row["less"], row["seeds"]) == ("x", "y", 2)
    assert row["difference"] == pytest.approx((2 - 5 + 9 - 4) / 2)
    assert row["better"] == pytest.approx(4 / 9)  # 1 and 2 are below 5 and 4
    assert row["p"] == 1.0
    lone = algorithm("y", {7: 1.0})
    (row,) = task_pairs(task("a", x, lone), "", rng())
    assert row["seeds"] == 0
    assert math.isnan(row["p"])
    assert math.isnan(row["p_holm"])


def test_a_seed_counts_by_its_mean_over_tasks():
    """One seed's results on several tasks are one observation: no test is surer than its seeds."""
    tasks = [
        task(str(k), algorithm("x", {0: 1.0, 1: 2.0}), algorithm("y", {0: 3.0 + k, 1: 3.0 + k}))
        for k in range(6)
    ]
    a = compare_across(tasks, ("9",), (), "y", "mean", rng())
    (row,) = a.tables["pairs"]
    assert (row["seeds"], row["p"]) == (2, 0.5)


def test_holm_is_over_the_table():
    generator = np.random.default_rng(4)
    t = task("a", *(algorithm(str(k), generator.normal(k, 2.0, 8)) for k in range(4)))
    rows = task_pairs(t, "", rng())
    assert [row["comparisons"] for row in rows] == [6] * 6
    assert [r["p_holm"] for r in rows] == pytest.approx(intervals.holm([r["p"] for r in rows]))
    assert [row["comparisons"] for row in task_pairs(t, "2", rng())] == [3] * 3
