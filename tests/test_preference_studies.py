"""The preference studies: wrong entropies, figures of a run, statistics over seeds."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from preference_studies import EXPERIMENTS, judged, one, rule_of
from preference_subjects import (
    ENTROPIES,
    Setting,
    disjoint,
    misshaped,
    negated,
    sliding_window,
    subject_of,
    surprisals,
    taxi_features,
    the_task,
)
from preference_summaries import (
    Curve,
    across,
    at_best,
    at_kl,
    best_rates,
    comparisons,
    confidence,
    confidently_wrong,
    improvement,
    labels_to,
    paired,
    secondary,
    write,
)

from rlentropy.preferences.acquisition import RULES
from rlentropy.preferences.path_entropy import path_entropy

QUICK = Setting(rounds=2, batch=4)


def curve(returns: list[float], kls: list[float] | None = None) -> Curve:
    n = len(returns)
    labels = 16 * np.arange(1, n + 1)
    return Curve(labels, np.array(returns), np.array(kls or np.arange(1.0, n + 1)))


# ---------------------------------------------------------------- entropies


def test_scores_of_constant_prompts() -> None:
    c = np.array([3.0, 1.0, 4.0, 1.5, 9.0])
    values = np.repeat(c, 3)
    assert disjoint(values, 3) == pytest.approx(c)
    assert negated(values, 3) == pytest.approx(-c)
    assert sliding_window(values, 3) == pytest.approx([3.0, 7 / 3, 5 / 3, 1.0, 2.0])
    # places 0, 5, 10 are of prompts 0, 1, 3; places 2, 7, 12 of 0, 2, 4
    assert misshaped(values, 3) == pytest.approx([5.5 / 3, 8.5 / 3, 16 / 3, 14 / 3, 11.5 / 3])


@pytest.mark.parametrize("n", [1, 2, 5])
def test_sliding_window_is_what_the_loop_does(n: int) -> None:
    values = np.random.default_rng(0).normal(size=7 * n)
    expected = [np.mean(values[p : p + n]) for p in range(7)]
    assert sliding_window(values, n) == pytest.approx(expected)
    if n == 1:
        assert disjoint(values, 1) == pytest.approx(expected)


def test_wrong_scores_know_nothing_of_their_prompts() -> None:
    rng = np.random.default_rng(1)
    c = rng.normal(size=4000)
    values = np.repeat(c, 8)
    for name, least, most in (
        ("disjoint", 1.0, 1.0),
        ("negated", -1.0, -1.0),
        *((wrong, -0.07, 0.07) for wrong in ("sliding-window", "misshaped", "random-prompts")),
    ):  # 4 standard errors of a correlation of 4000 are 0.063
        found = np.corrcoef(ENTROPIES[name](values, 8), c)[0, 1]
        assert least - 1e-9 <= found <= most + 1e-9, name


def test_sampled_surprisals_are_around_the_exact_entropy() -> None:
    subject = subject_of("lake8", Setting(), "disjoint", 3)
    prompts = np.repeat(subject.task.starts[:4], 500)
    rng = np.random.default_rng(2)
    found = surprisals(subject, prompts, rng).reshape(4, -1)
    error = found.std(1) / np.sqrt(found.shape[1])
    task = subject.task
    exact = path_entropy(task.mdp, subject.policy.pi, task.length)[task.starts[:4]]
    assert (np.abs(found.mean(1) - exact) < 4.0 * error).all()
    scores = subject.prompt_scores(subject.task.starts, rng)
    assert len(scores) == len(subject.task.starts)
    assert subject.correlations[0] > 0.5


# ---------------------------------------------------------------- of a run


def test_labels_to_a_level_takes_two_in_a_row() -> None:
    assert labels_to(0.8, curve([0.1, 0.9, 0.5, 0.8, 0.9, 0.1])) == (64, True)
    assert labels_to(0.8, curve([0.9, 0.9])) == (16, True)
    assert labels_to(0.8, curve([0.1, 0.2, 0.9])) == (48, False)


def test_return_at_a_divergence() -> None:
    c = curve([0.2, 0.1, 0.6], [1.0, 0.5, 2.5])
    assert at_kl(0.0, c) == 0.0
    assert at_kl(0.5, c) == pytest.approx(0.1)  # first crossing, half of the way to 0.2
    assert at_kl(1.75, c) == pytest.approx(0.1 + 0.5 * 1.25 / 2.0)
    assert np.isnan(at_kl(3.0, c))


def test_margins_of_what_was_bought() -> None:
    first = (0, np.zeros(2), np.array([1.0, 0.0]))  # the reference: not counted
    margins = np.array([3.0, -3.0, 3.0, -0.1, 0.0, 5.0, 5.0])
    answers = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.5, np.nan])  # the last two: tie, skip
    said = [first, (1, margins, answers)]
    agreement, wrong = confidently_wrong(said)
    assert agreement == pytest.approx(3.5 / 5)
    assert wrong == pytest.approx(1 / 3)
    rounds = confidence(said).split("|")
    counts = np.array([[int(x) for x in r.split(";")] for r in rounds])
    assert counts.sum(1).tolist() == [2, 5]
    assert counts[1, [0, 10, 19]].tolist() == [1, 2, 2]
    assert np.isnan(confidently_wrong([first])).all()


def test_a_run_is_a_row() -> None:
    row = one("lake8", QUICK, "certainty", 3, bins=True)
    c = Curve.of(row)
    assert c.labels.tolist() == [4.0, 8.0]
    assert row["auc"] == pytest.approx(c.returns.mean(), abs=1e-4)
    assert len(row["margins"].split("|")) == 2
    again = one("lake8", QUICK, "certainty", 3, bins=True)
    assert str({**again, "seconds": 0}) == str({**row, "seconds": 0})


def test_whole_and_cut_episodes_are_scored_alike() -> None:
    whole = subject_of("slip4", Setting(), "random", 3)
    cut = subject_of("slip4", Setting(cut=6), "random", 3)
    assert cut.task.length == 6
    assert whole.task.length == 16
    assert cut.score() == whole.score()


def test_regret_and_return_are_one_label_on_ice_that_is_not_slippery() -> None:
    a = one("lake4", QUICK, "random", 3)
    b = one("lake4", Setting(rounds=2, batch=4, oracle="regret", loss="cpl"), "random", 3)
    assert a["curve"] == b["curve"]


def test_taxi_features_know_place_and_errand() -> None:
    phi = taxi_features(501)
    assert phi.shape == (501, 200)
    assert not phi[500].any()
    errands = phi[:500].reshape(500, 8, 25)
    assert ((errands > 0.0).any(2).sum(1) == 1).all()
    assert (errands.max((1, 2)) == 1.0).all()
    task = the_task("taxi", 0)
    assert task.length == 20
    assert task.mdp.num_actions == 6


def test_every_arm_has_a_rule() -> None:
    for experiment in EXPERIMENTS.values():
        if "judge" not in experiment.arms:
            assert {rule_of(arm) for arm in experiment.arms} <= set(RULES)


def test_a_person_is_never_wrong_and_doubt_finds_errors() -> None:
    setting = Setting(oracle="judge:4std,left_bias=1")
    right = {
        route: judged("grid", setting, route, 3)["accuracy"]
        for route in ("judge", "random", "entropy", "oracle")
    }
    assert right["judge"] < right["random"] < right["entropy"] < right["oracle"] <= 1.0


# ---------------------------------------------------------------- over seeds


def rows_of(**arms: list[float]) -> list[dict[str, object]]:
    return [
        {"task": "a", "setting": "", "arm": arm.replace("_", "-"), "seed": str(k), "auc": str(x)}
        for arm, values in arms.items()
        for k, x in enumerate(values)
    ]


def test_paired_comparisons() -> None:
    rng = np.random.default_rng(4)
    base = rng.normal(size=20)
    better, same = base + 0.5 + 0.1 * rng.normal(size=20), base + 0.1 * rng.normal(size=20)
    rows = rows_of(random=list(base), better=list(better), same=list(same))
    found = {r["arm"]: r for r in comparisons(rows)}
    test = stats.ttest_rel(better, base)
    assert found["better"]["t"] == pytest.approx(test.statistic)
    assert found["better"]["p_t"] == pytest.approx(test.pvalue)
    assert found["better"]["difference"] == pytest.approx(0.5, abs=4 * 0.1 / np.sqrt(20))
    assert found["better"]["low"] < found["better"]["difference"] < found["better"]["high"]
    assert found["better"]["holm_wilcoxon"] == pytest.approx(2 * found["better"]["p_wilcoxon"])
    assert found["same"]["holm_t"] == pytest.approx(found["same"]["p_t"])
    assert found["random"]["difference"] == 0.0
    assert found["random"]["p_wilcoxon"] == 1.0
    assert paired({"1": 2.0, "2": 3.0}, {"2": 1.0, "3": 9.0})["seeds"] == 1


def test_probability_of_improvement() -> None:
    assert improvement([2.0, 3.0], [1.0, 2.0]) == 0.875
    assert improvement([1.0], [1.0]) == 0.5
    rows = rows_of(random=[0.0, 1.0, 2.0, 3.0], up=[4.0, 5.0, 6.0, 107.0])
    found = {r["arm"]: r for r in across(rows)}
    assert found["up"]["improvement"] == 1.0
    assert found["up"]["iqm"] == 5.5
    assert found["random"]["improvement"] == 0.5


def test_secondary_figures() -> None:
    rows = []
    for k, (reached, at) in enumerate([("1", 32), ("1", 48), ("0", 64), ("0", 64)]):
        rows.append({
            **{"task": "a", "setting": "", "arm": "random", "seed": str(k), "final": "0.5"},
            **{"kl": "1.5", "labels_to": str(at), "reached": reached, "agreement": "0.5"},
            **{"wrong": "nan", "seconds": "1", "labels": "32;64", "curve": "0.2;0.4"},
            "kls": "1.0;2.0" if k else "0.5;1.0",
        })  # fmt: skip
    found = secondary(rows)["a", "", "random"]
    assert found["labels_to_80"] == 52.0
    assert found["reached_80"] == 0.5
    assert found["median_to_80"] == 48.0
    assert (found["return_at_kl"], found["share_at_kl"]) == (pytest.approx(0.4), 1.0)
    quick = [dict(r, arm="quick", kls="4.0;5.0") for r in rows[1:]] + [
        dict(rows[0], arm="quick", kls="0.1;0.9")
    ]
    found = secondary([*rows, *quick])["a", "", "quick"]
    assert found["return_at_kl"] == pytest.approx(0.1)  # half of the way to 0.2, at 2 of 4
    assert (found["share_at_kl"], found["at_kl"]) == (0.75, 1.75)
    assert np.isnan(found["confidently_wrong"])


def test_rates_are_chosen_on_other_seeds() -> None:
    def at(setting: str, arm: str, auc: float) -> dict[str, str]:
        return {"task": "a", "setting": setting, "arm": arm, "seed": "0", "auc": str(auc)}

    tuned = [at("lr 0.02", "x", 0.1), at("lr 0.08", "x", 0.4), at("lr 0.02", "y", 0.3)]
    assert best_rates(tuned) == {("a", "x"): "lr 0.08", ("a", "y"): "lr 0.02"}
    usual = [at("", "x", 0.7), at("", "y", 0.6)]
    other = [at("lr 0.08 online", "x", 0.5), at("lr 0.08 retrain", "x", 0.9)]
    found = at_best(usual, other, tuned, "online")
    assert [(r["arm"], r["auc"], r["rate"]) for r in found] == [
        ("y", "0.6", "0.02"),
        ("x", "0.5", "0.08"),
    ]


def test_tables_name_their_command(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", [{"a": 1, "b": 0.123456}, {"a": 2, "c": "x"}], "make it")
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[0].startswith("# make it; python benchmarks/preference_studies.py summarise")
    assert lines[1:] == ["a,b,c", "1,0.1235,", "2,,x"]
