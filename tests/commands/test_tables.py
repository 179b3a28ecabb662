"""How the tables of a comparison read: no interval that isn't one, no column of two quantities."""

import math
import re

import pytest
from examples.runs import STEPS, power_law, write_run

from rlentropy.cli import main
from rlentropy.commands.tables import chance, time_text, with_interval

pytestmark = pytest.mark.usefixtures("undrawn")
NAN, INF = math.nan, math.inf


def compared(folder, capsys, *options):
    out = str(folder / "out")
    assert main(["compare", str(folder / "runs"), "--out", out, *options]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ((0.5, 0.4, 0.6), "0.5 [0.4, 0.6]"),
        ((0.5, NAN, NAN), "0.5 (1 seed, no interval)"),
        ((0.5, 0.5, 0.5), "0.5 (every seed alike)"),
        ((0.3, 0.3, 0.3 + 1e-16), "0.3 (every seed alike)"),
        ((0.0, 0.0, 0.0), "0 (every seed alike)"),
        ((-0.0, -1.0, 2.0), "0 [-1, 2]"),
        ((NAN, NAN, NAN), "-"),
    ],
)
def test_an_interval_is_one_or_says_why_there_is_none(value, shown):
    assert with_interval(*value) == shown


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [
        (316, 237, 316, "316 [237, 316]"),
        (316, NAN, NAN, "316 (1 seed, no interval)"),
        (INF, NAN, NAN, "> 2 000 (1 seed, no interval)"),
        (1e6, 5000, INF, "1 000 000 [5 000, > 2 000]"),
        (INF, INF, INF, "> 2 000"),
    ],
)
def test_times_say_what_is_beyond_the_budget(value, low, high, shown):
    row = {"updates": value, "updates_low": low, "updates_high": high, "updates_followed": 2000}
    assert time_text(row, "updates") == shown


def test_chances():
    assert [chance(p) for p in (NAN, 1e-9, 0.012345, 1.0)] == ["-", "< 0.0001", "0.012", "1"]


def test_nothing_reads_nan(tmp_path, capsys):
    write_run(tmp_path / "runs" / "a", {"eval/gap": power_law(1.0)})
    write_run(tmp_path / "runs" / "b", {"eval/gap": power_law(0.5)}, command="maxent")
    shown = compared(tmp_path, capsys)
    assert not re.search(r"\bnan\b", shown.lower())
    assert "0.01 (1 seed, no interval)" in shown
    assert "-0.500 (1 seed, no interval)" in shown
    assert "Final: gap of the returned policy (nats), eval/gap\n" in shown
    assert "evaluations are a factor of 3.17 apart, and an interval begins at the one" in shown


def test_two_quantities_have_a_column_each(tmp_path, capsys):
    both = {"eval/mixture_gap": [2.5] * 7, "eval/gap": [1.5] * 7}
    for seed in range(2):
        write_run(tmp_path / "runs" / f"a{seed}", both, seed=seed)
        gap = {"eval/gap": [3.5] * 7}
        write_run(tmp_path / "runs" / f"b{seed}", gap, seed=seed, command="ucbvi-ent")
    lines = compared(
        tmp_path, capsys, "--metric", "eval/mixture_gap", "eval/gap", "--gaps", "1"
    ).splitlines()
    (header,) = (line for line in lines if line.startswith("algorithm  seeds"))
    first = next(line for line in lines if line.startswith("entgame "))
    second = next(line for line in lines if line.startswith("ucbvi-ent "))
    mixture, returned = (
        header.index(words) for words in ("gap of the mixture played", "gap of the returned policy")
    )
    assert first[mixture:].startswith("2.5 (every seed alike)")
    assert len(first) <= returned
    assert second[returned:].startswith("3.5")
    assert second[mixture:returned].isspace()
    assert "Pairs" not in "\n".join(lines)


def test_what_is_no_line_has_no_slope(tmp_path, capsys):
    steps = STEPS.astype(float)
    runs = {
        "line": 3.0 * steps**-0.5,
        "flat": 0 * steps + 2.0,
        "bent": [9.0, 9.0, 9.0, 8.0, 8.0, 1.0, 1.0],
        "zero": [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.0],
    }
    for name, gaps in runs.items():
        for seed in range(3):
            folder = tmp_path / "runs" / name / str(seed)
            write_run(folder, {"eval/gap": list(gaps)}, seed=seed, command=name)
    write_run(tmp_path / "runs" / "two", {"eval/gap": ([10, 10**5], [2.0, 1.0])}, command="two")
    shown = compared(tmp_path, capsys)
    table = shown[shown.index("Slope of") :].split("\n\n")[0]
    found = {line.split()[0]: line for line in table.splitlines()[2:]}
    assert "-0.500 (alike)" in found["line"]
    assert " 0.000 (alike)" in found["flat"]
    assert "none: no line: " in found["bent"]
    assert "none: the gap comes to 0" in found["zero"]
    assert "none: fewer than three evaluations" in found["two"]


def test_the_costs_of_every_family_have_their_names(tmp_path, capsys):
    write_run(tmp_path / "runs" / "a", {"eval/gap": power_law(1.0)}, updates=9, command="fqi")
    shown = compared(tmp_path, capsys)
    assert "algorithm  seeds  updates  final mean [95 %]" in shown
    assert "to reach  algorithm  reached  median updates [95 %]" in shown
    assert "environment" not in shown
    tmp_path = tmp_path / "labels"
    curves = {"eval/normalised_return": power_law(1.0)}
    write_run(tmp_path / "runs" / "a", curves, labels=9, objective=None, command="x")
    assert "algorithm  seeds  labels  final mean [95 %]" in compared(tmp_path, capsys)


# ---------------------------------------------------------------- pairs and tasks


@pytest.fixture
def three_tasks(tmp_path):
    """Four seeds of three algorithms on three environments; the third lacks one algorithm."""
    for k, env_id in enumerate(("A-v0", "B-v0", "C-v0")):
        for name, scale in (("entgame", 1.0), ("maxent", 3.0), ("random-policy", 900.0)):
            for seed in range(4):
                if (env_id, name) != ("C-v0", "maxent"):
                    gaps = power_law(scale * (k + 1) * (1 + seed / 9))
                    folder = tmp_path / "runs" / env_id / name / str(seed)
                    write_run(folder, {"eval/gap": gaps}, env_id=env_id, command=name, seed=seed)
    return tmp_path


def test_tasks_then_all_of_them(three_tasks, capsys):
    shown = compared(three_tasks, capsys)
    for heading in ("A-v0: VE, horizon 10", "B-v0: VE, horizon 10", "C-v0: VE, horizon 10"):
        assert f"\n{heading}\n\n" in f"\n{shown}"
    last = shown[shown.index("\n3 tasks\n") :]
    assert "All 2 tasks: normalised scores of final values" in last
    assert "scores: 0 is random-policy, 1 is the optimum" in last
    assert "left out, C-v0: not every algorithm ran on it" in last
    assert "entgame - random-policy  4 " in last
    assert "p: sign flips, two-sided; Holm over 3 comparisons" in last
    assert "with so few seeds p is at least 0.12" in last


def test_a_baseline_asks_for_fewer_pairs(three_tasks, capsys):
    shown = compared(three_tasks, capsys, "--baseline", "maxent")
    assert "Holm over 2 comparisons" in shown
    assert "entgame - random-policy" not in shown
    assert "random-policy - maxent" in shown
    runs = str(three_tasks / "runs")
    assert main(["compare", runs, "--baseline", "maxnet"]) == 2
    assert "baseline must be" in capsys.readouterr().err


def test_scores_far_below_0_say_where_the_scale_is_narrow(three_tasks, capsys):
    shown = compared(three_tasks, capsys, "--zero", "A-v0=1e-5", "500")
    assert "down to -1" in shown
    assert "(random-policy on A-v0), where 0 and 1 are 1e-05 and 0; --zero sets it" in shown
    assert "scores: 0 is 1e-05, 1 is the optimum; 0 is 500, 1 is the optimum" in shown


def test_of_many_pairs_the_rest_is_in_the_file(tmp_path, capsys):
    for k in range(7):
        for seed in range(2):
            folder = tmp_path / "runs" / f"{k}{seed}"
            write_run(folder, {"eval/gap": power_law(1.0 + k)}, command=f"a{k}", seed=seed)
    assert "6 pairs more in pairs.csv; --baseline asks for fewer" in compared(tmp_path, capsys)
    assert len((tmp_path / "out" / "pairs.csv").read_text().splitlines()) == 22


def test_where_nothing_can_be_said_across_tasks_it_says_why(tmp_path, capsys):
    """As of offline learners for different risks."""
    for k, risk in enumerate(("nominal", "entropic:1")):
        command = ("fqi", "rfzi")[k]
        folder = tmp_path / "runs" / command
        write_run(folder, {"eval/gap": power_law(1.0)}, risk=risk, updates=9, command=command)
    shown = compared(tmp_path, capsys)
    assert "\nChain-v0, risk nominal: VE, horizon 10\n" in f"\n{shown}"
    assert "\n2 tasks: no scores across them (" in shown
    assert "Chain-v0, risk nominal: not every algorithm ran on it; Chain-v0, risk ent" in shown
    assert not (tmp_path / "out" / "scores.csv").exists()


@pytest.mark.parametrize("budget", [0.5, 0.97])
def test_pairs_say_where_budgets_differ(tmp_path, capsys, budget):
    steps = (STEPS * budget).tolist()
    for seed in range(2):
        write_run(tmp_path / "runs" / f"a{seed}", {"eval/gap": power_law(1.0)}, seed=seed)
        shorter = {"eval/gap": (steps, power_law(0.5))}
        spent = {"env_steps": int(10000 * budget), "episodes": int(1000 * budget)}
        write_run(tmp_path / "runs" / f"b{seed}", shorter, seed=seed, command="maxent", **spent)
    note = "budgets differ, 5 000 to 10 000 environment steps: final values are of unequal effort"
    assert (note in compared(tmp_path, capsys)) == (budget == 0.5)


def test_a_task_without_the_baseline_says_so(tmp_path, capsys):
    for k, (env, command) in enumerate([("A", "maxent"), ("B", "maxent"), ("B", "entgame")]):
        write_run(
            *(tmp_path / "runs" / f"{k}", {"eval/gap": power_law(1.0)}),
            env_id=f"{env}-v0", command=command,
        )  # fmt: skip
    write_run(
        *(tmp_path / "runs" / "3", {"eval/gap": power_law(1.0)}),
        env_id="A-v0", command="rf-ucrl",
    )  # fmt: skip
    shown = compared(tmp_path, capsys, "--baseline", "entgame")
    assert shown.count("no pairs: the baseline has no runs here") == 1
    assert shown.count("Pairs: ") == 1
