"""The study of routing: its judges, what a run says, and its table."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import preference_judges as study
from preference_judges import Half, kin, network, one, table
from preference_subjects import Setting, subject_of


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(study, "ROUNDS", 6)


def test_the_rubric_of_half_a_segment() -> None:
    subject = subject_of("cliff", Setting(), "random", 0)
    rng = np.random.default_rng(1)
    part = subject.task.roll_out(subject.original, subject.task.prompts(30, rng), rng)
    T = part.rewards.shape[1]
    wanted = [part.rewards[i, : min(T // 2, part.lengths[i])].sum() for i in range(30)]
    np.testing.assert_allclose(Half(subject).of(part), wanted)
    scores = Half(subject)(part.take([0]), part.take([1]), None)
    assert scores.shape == (1, 1, 2)
    assert scores[0, 0, 0] - scores[0, 0, 1] == pytest.approx(wanted[0] - wanted[1])


@pytest.mark.parametrize("judge", study.JUDGES)
def test_a_run_says_who_answered(judge: str, short: None) -> None:
    found = {
        arm: one("cliff", judge, "random", arm, 300)
        for arm in study.ARMS
        if (judge, arm) != ("ensemble", "alone")
    }
    assert found["person"]["accuracy"] == 1.0
    for arm in ("entropy", "margin", "contradiction", "random"):
        assert found[arm]["by_person"] == 18
        assert 0.0 < found[arm]["accuracy"] < 1.0 or judge == "ensemble"
    assert found.get("alone", {"by_person": 0})["by_person"] == 0


def test_arms_that_a_bias_cannot_change_are_run_once(short: None) -> None:
    for arm in study.ARMS:
        runs = [one("lake8", f"noisy {bias}", "random", arm, 300) for bias in (0, 2)]
        assert (runs[0] == runs[1]) or arm == "entropy"
        assert (kin("noisy 0", arm) == kin("noisy 2", arm)) == (arm != "entropy")


@pytest.mark.slow
def test_a_network_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "NET", study.NET | {"labels": 32})
    found = network("noisy 1", "margin", 300)
    assert found["by_person"] == 6
    assert found["auc"] < 0.0


def test_the_table_is_of_paired_differences(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"task": task, "judge": "half", "acquisition": "random", "arm": arm, "seed": str(seed)}
        | {name: str(rng.random()) for name in ("accuracy", "auc", "final")}
        for task in study.TASKS
        for arm in ("random", "margin")
        for seed in range(6)
    ]
    table(rows, tmp_path / "t.csv")
    lines = [x for x in (tmp_path / "t.csv").read_text().splitlines() if not x.startswith("#")]
    found = {(r["of"], r["task"], r["arm"]): r for r in csv.DictReader(lines)}

    def values(task: str, arm: str) -> np.ndarray:
        return np.array(
            [float(r["auc"]) for r in rows if r["task"] in (task, "") and r["arm"] == arm]
        )

    d = values("grid", "margin") - values("grid", "random")
    assert float(found["auc", "grid", "margin"]["difference"]) == pytest.approx(d.mean(), rel=1e-3)
    d = np.mean([values(t, "margin") - values(t, "random") for t in study.TASKS], axis=0)
    row = found["auc", "mean", "margin"]
    assert float(row["difference"]) == pytest.approx(d.mean(), rel=1e-3)
    assert float(row["low"]) < d.mean() < float(row["high"])
