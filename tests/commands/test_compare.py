"""`compare` on made-up run folders whose statistics are known, and its statistics by themselves."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlentropy import intervals
from rlentropy.cli import main
from rlentropy.runs.reading import Refused, Run, accepted, find_folders, read_run

STEPS = np.array([10, 30, 100, 300, 1000, 3000, 10000])


def write_run(folder, curves, **changes):
    """A run folder; curves: tag → values at STEPS, or (steps, values)."""
    folder.mkdir(parents=True)
    lines = []
    for tag, curve in curves.items():
        steps, values = curve if isinstance(curve, tuple) else (STEPS, curve)
        for step, value in zip(steps, values, strict=True):
            lines.append(json.dumps({"tag": tag, "step": int(step), "value": value}))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    summary = {"command": "entgame", "env_id": "Chain-v0", "seed": 0, "env_steps": 10000}
    summary |= {"episodes": 1000, "objective": "VE", "horizon": 10, "finished": True}
    (folder / "summary.json").write_text(json.dumps(summary | changes))
    return folder


def power_law(scale, exponent=-0.5):
    return (scale * STEPS**exponent).tolist()


@pytest.fixture
def two_algorithms(tmp_path):
    """Ten seeds of a fast and a slow algorithm, gaps c_i / √step and c_i."""
    for seed in range(10):
        scale = 1.0 + 0.1 * seed
        path = tmp_path / "runs" / "fast" / f"seed{seed}"
        write_run(path, {"eval/mixture_gap": power_law(scale), "eval/gap": [9.0] * 7}, seed=seed)
        path = tmp_path / "runs" / "slow" / f"seed{seed}"
        write_run(path, {"eval/gap": [scale] * 7}, seed=seed, command="random-policy")
    return tmp_path


def compare(folder, *arguments):
    return main(["compare", str(folder / "runs"), "--out", str(folder / "out"), *arguments])


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------- statistics over seeds


@given(n=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_interquartile_mean_is_scipys_trimmed_mean(n, seed):
    x = np.random.default_rng(seed).normal(size=n)
    assert intervals.centre(x, "iqm") == pytest.approx(stats.trim_mean(x, 0.25))
    assert intervals.centre(x, "mean") == pytest.approx(x.sum() / n)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 20), shift=st.floats(-5, 5))
@pytest.mark.parametrize("statistic", ["mean", "iqm"])
def test_bootstrap_interval_lies_within_the_data_and_moves_with_it(statistic, seed, n, shift):
    x = np.random.default_rng(seed).normal(size=n)
    e = intervals.estimate(x, statistic, np.random.default_rng(0))
    assert x.min() - 1e-12 <= e.low <= e.high <= x.max() + 1e-12  # means round
    moved = intervals.estimate(3.0 * x + shift, statistic, np.random.default_rng(0))
    assert [moved.low, moved.high] == pytest.approx([3 * e.low + shift, 3 * e.high + shift])


def test_bootstrap_interval_covers_the_mean(rng):
    data = rng.exponential(size=(300, 30))
    hits = 0
    for x in data:
        e = intervals.estimate(x, "mean", rng)
        hits += e.low <= 1.0 <= e.high
    error = math.sqrt(0.9 * 0.1 / 300)
    assert abs(hits / 300 - 0.92) < 4 * error  # a percentile interval falls a little short of 0.95


def test_one_seed_has_no_interval():
    e = intervals.estimate([[3.0, 4.0]], "mean", np.random.default_rng(0))
    assert e.value.tolist() == [3.0, 4.0]
    assert np.isnan(e.low).all()
    assert np.isnan(e.high).all()


def survival_by_definition(times, reached):
    """Kaplan-Meier from its definition, one event time after another."""
    survival = 1.0
    for t in sorted({t for t, r in zip(times, reached, strict=True) if r}):
        under_way = sum(u >= t for u in times)
        ends = sum(u == t and r for u, r in zip(times, reached, strict=True))
        survival *= 1 - ends / under_way
        if survival <= 0.5 + 1e-9:
            return t
    return math.inf


@given(
    st.lists(st.tuples(st.integers(1, 8), st.booleans()), min_size=1, max_size=12),
    st.lists(st.integers(1, 3), min_size=12, max_size=12),
)
def test_kaplan_meier_median_is_that_of_the_definition(runs, repeats):
    times = np.array([t for t, _ in runs], float)
    reached = np.array([r for _, r in runs])
    weights = np.array(repeats[: len(runs)], float)
    found = intervals.survival_medians(times, reached, np.stack([np.ones(len(runs)), weights]))
    assert found[0] == survival_by_definition(times, reached)
    copies = weights.astype(int)
    assert found[1] == survival_by_definition(np.repeat(times, copies), np.repeat(reached, copies))


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 15), budget=st.floats(0.1, 3.0))
def test_a_common_budget_gives_the_plain_median(seed, n, budget):
    """With one budget for all, censoring only hides times beyond it."""
    true = np.random.default_rng(seed).exponential(size=n)
    lower_median = np.sort(true)[(n - 1) // 2]
    found = intervals.survival_medians(np.minimum(true, budget), true <= budget, np.ones((1, n)))[0]
    assert found == (lower_median if lower_median <= budget else math.inf)


def test_censoring_does_not_bias_the_median(rng):
    """Exponential times, half of them cut by random budgets: dropping those would halve it."""
    times, budgets = rng.exponential(size=4000), rng.exponential(size=4000)
    reached = times <= budgets
    found = intervals.median_time(np.minimum(times, budgets), reached, rng)
    assert np.median(times[reached]) < 0.4
    # Greenwood: its sd is √(∫ e^{2t} dt / n) over t from 0 to log 2, which is √(1.5 / n).
    assert abs(found.value - math.log(2)) < 4 * math.sqrt(1.5 / 4000)
    assert found.low < found.value < found.high


def test_median_intervals_cover(rng):
    hits = 0
    for _ in range(200):
        times, budgets = rng.exponential(size=25), rng.exponential(2.0, size=25)
        e = intervals.median_time(np.minimum(times, budgets), times <= budgets, rng)
        hits += e.low <= math.log(2) <= e.high
    assert hits / 200 > 0.94 - 4 * math.sqrt(0.94 * 0.06 / 200)


def test_nobody_reaching_is_beyond_the_budget():
    e = intervals.median_time(np.full(5, 7.0), np.zeros(5, bool), np.random.default_rng(0))
    assert (e.value, e.low, e.high) == (math.inf, math.inf, math.inf)


@given(st.floats(-2, 2), st.floats(0.01, 100))
def test_slope_of_a_power_law_is_its_exponent(exponent, scale):
    steps = STEPS.astype(float)
    values = scale * np.stack([steps**exponent, 3 * steps**exponent])
    assert intervals.log_slopes(steps, values, 100.0) == pytest.approx([exponent] * 2, abs=1e-9)


def test_slope_is_numpys_fit_and_skips_what_has_no_logarithm(rng):
    steps, values = STEPS.astype(float), rng.uniform(0.1, 1, size=(1, 7))
    values[0, 3] = -0.2
    keep = np.array([2, 4, 5, 6])
    oracle = np.polyfit(np.log(steps[keep]), np.log(values[0, keep]), 1)[0]
    assert intervals.log_slopes(steps, values, 100.0) == pytest.approx(oracle)
    assert np.isnan(intervals.log_slopes(steps, values, 3000.0)).all()  # two points are no fit


def test_common_grid_keeps_equal_steps_and_interpolates_others():
    one, two = np.array([0.1, 0.2, 0.7]), np.array([5.0, 6.0, 7.0])
    steps = np.array([1.0, 10.0, 100.0])
    grid, values = intervals.on_common_grid([(steps, one), (steps, two)])
    assert (grid == steps).all()
    assert (values == np.stack([one, two])).all()
    other = np.array([3.0, 50.0, 200.0])  # begins and ends later
    grid, values = intervals.on_common_grid([(steps, one), (other, np.log1p(other))])
    assert grid.tolist() == [10.0, 100.0]
    assert values[1] == pytest.approx(np.log1p(grid))


# ---------------------------------------------------------------- the command


def test_tables(two_algorithms, capsys):
    assert compare(two_algorithms, "--gaps", "0.1", "0.012") == 0
    out = two_algorithms / "out"
    assert "random-policy" in capsys.readouterr().out

    fast, slow = read_csv(out / "final.csv")
    assert (fast["algorithm"], fast["metric"], fast["seeds"]) == (
        *("entgame", "eval/mixture_gap"),
        "10",
    )
    assert slow["metric"] == "eval/gap"
    assert float(fast["mean"]) == pytest.approx(0.0145)
    # Scales 1, 1.1 … 1.9 over 10: standard error of the mean 0.0009, of a bootstrap 0.95 of it.
    assert float(fast["low"]) == pytest.approx(0.0145 - 1.96 * 0.00091, abs=2e-4)
    assert float(fast["high"]) == pytest.approx(0.0145 + 1.96 * 0.00091, abs=2e-4)

    rows = {(r["algorithm"], float(r["gap"])): r for r in read_csv(out / "reach.csv")}
    # c / √t ≤ 0.1: at step 100 for c = 1, at 300 for c ≤ 1.73, then at 1000.
    assert float(rows["entgame", 0.1]["env_steps"]) == 300
    assert float(rows["entgame", 0.1]["episodes"]) == 30  # ten steps an episode
    assert rows["entgame", 0.1]["reached"] == "10"
    # c / 100 ≤ 0.012 for c = 1, 1.1, 1.2 alone: the median lies beyond the budget.
    assert rows["entgame", 0.012]["reached"] == "3"
    assert float(rows["entgame", 0.012]["env_steps"]) == math.inf
    assert rows["random-policy", 0.1]["reached"] == "0"

    slopes = {r["algorithm"]: r for r in read_csv(out / "slopes.csv")}
    for end in ("slope", "low", "high"):
        assert float(slopes["entgame"][end]) == pytest.approx(-0.5)
        assert float(slopes["random-policy"][end]) == pytest.approx(0.0, abs=1e-12)
    assert len(read_csv(out / "curves.csv")) == 14


def test_same_input_same_output_and_stale_files_go(two_algorithms):
    out = two_algorithms / "out"
    assert compare(two_algorithms) == 0
    first = {p.name: p.read_bytes() for p in out.glob("*.[cp][sn][vg]")}
    assert set(first) == {f"{n}.csv" for n in ("final", "reach", "slopes", "curves")} | {
        f"{n}.png" for n in ("final", "reach", "curves")
    }
    assert compare(two_algorithms, "--quiet") == 0
    assert first == {p.name: p.read_bytes() for p in out.glob("*.[cp][sn][vg]")}
    assert len(list(out.glob("aggregate/*/events*"))) == 2
    only = two_algorithms / "runs" / "slow"
    assert main(["compare", str(only), "--out", str(out), "--metric", "eval/gap"]) == 0
    assert [p.parent.name for p in out.glob("aggregate/*/events*")] == ["random-policy"]


def test_episodes_are_those_logged(tmp_path):
    episodes = [1, 2, 5, 20, 90, 400, 1000]
    write_run(
        tmp_path / "runs" / "seed0",
        {"eval/gap": power_law(1.0), "time/episodes": episodes},
    )
    assert compare(tmp_path, "--gaps", "0.05") == 0
    (row,) = read_csv(tmp_path / "out" / "reach.csv")
    assert (float(row["env_steps"]), float(row["episodes"])) == (1000, 90)
    assert row["episodes_low"] == "nan"  # one seed


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"env_id": "Other-v0"}, "env_id is Other-v0, not Chain-v0"),
        ({"env_kwargs": '{"size": 3}'}, "env_kwargs"),
        ({"objective": "TE"}, "objective is TE, not VE"),
        ({"temperature": 0.5}, "temperature is 0.5, not 1.0"),
        ({"horizon": 20}, "horizon is 20, not 10"),
        ({"finished": False}, "not finished"),
        ({"seed": 0}, "seed 0 of entgame is that of"),
    ],
)
def test_what_is_refused_and_why(tmp_path, capsys, change, why):
    write_run(tmp_path / "runs" / "a", {"eval/gap": power_law(1.0)})
    write_run(tmp_path / "runs" / "b", {"eval/gap": power_law(2.0)}, **{"seed": 1, **change})
    assert compare(tmp_path) == 0
    told = capsys.readouterr().err
    assert str(tmp_path / "runs" / "b") in told
    assert why in told
    (row,) = read_csv(tmp_path / "out" / "final.csv")
    assert row["seeds"] == "1"
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert list(record["refused"]) == [str(tmp_path / "runs" / "b")]


def test_forced_runs_are_compared_but_never_pooled(tmp_path, capsys):
    write_run(tmp_path / "runs" / "a", {"eval/gap": power_law(1.0)})
    write_run(tmp_path / "runs" / "b", {"eval/gap": power_law(2.0)}, env_id="Other-v0")
    assert compare(tmp_path, "--force") == 0
    assert "refused" not in capsys.readouterr().err
    names = [row["algorithm"] for row in read_csv(tmp_path / "out" / "final.csv")]
    assert names == ["entgame, Chain-v0", "entgame, Other-v0"]


def test_steps_that_count_other_things_are_never_compared(tmp_path, capsys):
    write_run(tmp_path / "runs" / "a", {"eval/gap": power_law(1.0)})
    write_run(tmp_path / "runs" / "b", {"eval/gap": power_law(2.0)}, updates=10000)
    assert compare(tmp_path, "--force") == 0
    assert "its steps count updates, not env_steps as in" in capsys.readouterr().err
    assert [row["algorithm"] for row in read_csv(tmp_path / "out" / "final.csv")] == ["entgame"]


def test_unfinished_and_broken_folders_are_refused(tmp_path):
    for name in ("unfinished", "broken", "odd"):
        write_run(tmp_path / name, {"eval/gap": power_law(1.0)})
    (tmp_path / "unfinished" / "summary.json").unlink()
    (tmp_path / "broken" / "metrics.jsonl").write_text('{"tag": "eval/g')
    (tmp_path / "odd" / "summary.json").write_text('{"finished": true}')
    _, refused = accepted(_read(tmp_path), force=True)
    reasons = {folder.name: why for folder, why in refused}
    assert "no summary.json" in reasons["unfinished"]
    assert "not readable" in reasons["broken"]
    assert "no command, env_id" in reasons["odd"]


def _read(folder):
    from rlentropy.runs.reading import read_runs

    return read_runs([str(folder)])


def test_labels_keep_settings_apart(tmp_path):
    for label in ("", "published"):
        write_run(tmp_path / "runs" / f"x{label}", {"eval/gap": power_law(1.0)}, label=label)
    assert compare(tmp_path) == 0
    names = [row["algorithm"] for row in read_csv(tmp_path / "out" / "final.csv")]
    assert names == ["entgame", "published"]


def test_globs_find_each_run_once(two_algorithms, monkeypatch):
    monkeypatch.chdir(two_algorithms)
    assert len(list(find_folders(["runs/**", "runs/fast", "runs/fast/seed3"]))) == 20
    assert [p.name for p in find_folders(["runs/*/seed3"])] == ["seed3"] * 2
    assert len(list(find_folders(["runs/slow/seed[0-4]"]))) == 5


def test_reads_only_metrics_and_summary(two_algorithms):
    folder = two_algorithms / "runs" / "fast" / "seed0"
    (folder / "config.json").write_text("not JSON")
    run = read_run(folder)
    assert isinstance(run, Run)
    assert run.label == "entgame"
    assert set(run.curves) == {"eval/mixture_gap", "eval/gap"}


def test_null_values_are_left_out_and_repeats_replace(tmp_path):
    steps = np.array([10, 20, 20, 30])
    folder = write_run(tmp_path / "r", {"eval/gap": (steps, [1.0, 2.0, 3.0, None])})
    found_steps, values = read_run(folder).curves["eval/gap"]
    assert found_steps.tolist() == [10.0, 20.0]
    assert values.tolist() == [1.0, 3.0]


def test_gaps_of_zero_and_flat_or_single_curves_are_drawn(tmp_path):
    write_run(tmp_path / "runs" / "a", {"eval/gap": [1.0, 0.5, 0.1, 0.0, 0.0, -1e-12, 0.0]})
    write_run(tmp_path / "runs" / "b", {"eval/gap": ([0], [0.0])}, command="optimal-exploration")
    assert compare(tmp_path) == 0
    assert (tmp_path / "out" / "curves.png").stat().st_size > 1000


def test_other_metrics_are_reached_from_below(tmp_path):
    write_run(tmp_path / "runs" / "a", {"eval/visitation_entropy": STEPS.tolist()})
    assert compare(tmp_path, "--gaps", "200") == 0
    (row,) = read_csv(tmp_path / "out" / "reach.csv")
    assert float(row["env_steps"]) == 300
    assert not (tmp_path / "out" / "slopes.csv").exists()


def test_heat_maps_where_states_form_a_grid(tmp_path):
    for seed, visits in enumerate(([1, 0, 3, 4, 5, 6], [3, 0, 1, 0, 1, 2])):
        write_run(
            *(tmp_path / "runs" / f"{seed}", {"eval/gap": power_law(1.0)}),
            **{"seed": seed, "grid_shape": [2, 3], "state_visits": visits},
        )
    assert compare(tmp_path) == 0
    assert (tmp_path / "out" / "visits.png").stat().st_size > 1000
    from rlentropy.commands import compare as module

    runs, _ = accepted(_read(tmp_path / "runs"), force=False)
    ((_, mean),) = module.visits_of(module.group(runs, ()))
    assert mean.tolist() == [[2, 0, 2], [2, 3, 4]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "runs must name at least one run folder"),
        (["nowhere/*"], "runs must be run folders or globs"),
        (["runs", "--metric", "eval/nothing"], "metric must be logged by every run"),
        (["runs", "--gaps", "0"], "gaps must be > 0"),
        (["runs", "--gaps", "inf"], "gaps must be > 0"),
        (["runs", "--gaps", "nan"], "gaps must be > 0"),
        (["runs", "--slope-decades", "0"], "slope_decades must be > 0"),
        (["runs", "--slope-decades", "1e9"], "slope_decades must be > 0 and <= 300"),
        (["runs", "--seed", "-1"], "seed must be >= 0"),
        (["unfinished"], "all refused"),
    ],
)
def test_wrong_input_is_one_line(two_algorithms, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(two_algorithms)
    Path("unfinished").mkdir()
    Path("unfinished/metrics.jsonl").write_text("")
    assert main(["compare", *arguments]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert not Path("results").exists()


# ---------------------------------------------------------------- TensorBoard


def test_bands_load_in_tensorboard(two_algorithms):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar import layout_pb2, metadata

    assert compare(two_algorithms, "--quiet") == 0
    curves = [r for r in read_csv(two_algorithms / "out" / "curves.csv") if "ent" in r["algorithm"]]
    events = EventAccumulator(str(two_algorithms / "out" / "aggregate" / "entgame"))
    events.Reload()
    for name, column in (("mean", "value"), ("low", "low"), ("high", "high")):
        points = events.Scalars(f"eval/mixture_gap/{name}")
        assert [p.step for p in points] == [float(r["step"]) for r in curves]
        if name == "mean":
            assert [p.value for p in points] == pytest.approx(
                [float(r[column]) for r in curves], rel=1e-6
            )
    assert events.SummaryMetadata(metadata.CONFIG_SUMMARY_TAG).plugin_data.plugin_name == (
        metadata.PLUGIN_NAME
    )
    content = events.Tensors(metadata.CONFIG_SUMMARY_TAG)[0].tensor_proto.string_val[0]
    charts = layout_pb2.Layout.FromString(content).category[0].chart
    assert [chart.title for chart in charts] == ["eval/gap", "eval/mixture_gap"]
    series = charts[1].margin.series[0]
    assert (series.value, series.lower, series.upper) == tuple(
        f"eval/mixture_gap/{name}" for name in ("mean", "low", "high")
    )


def test_compare_does_not_import_torch(two_algorithms):
    code = (
        "import sys; from rlentropy.cli import main; code = main(sys.argv[1:]);"
        "sys.exit(code or 'torch' in sys.modules or 'tensorflow' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "compare", "runs"]
    assert subprocess.run(command, cwd=two_algorithms, timeout=120).returncode == 0


# ---------------------------------------------------------------- odd labels and summaries

ODD = ("x y", "x-y", "X/Y", "..", "../../up", "$a$ $b", "\\frac$", "=1+1", "_hidden", "a\nb\x1b[2J")


def test_odd_labels_stay_apart_and_break_nothing(tmp_path, capsys):
    labels = [*ODD, "\u202eabc", "\ud800", "z" * 9000, "z" * 9001]
    for k, label in enumerate(labels):
        summary = {"label": label, "grid_shape": [1, 2], "state_visits": [k + 1, 2]}
        write_run(tmp_path / "runs" / str(k), {"eval/gap": power_law(1.0 + k)}, **summary)
    assert compare(tmp_path) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert all(c.isprintable() or c == "\n" for c in out)
    assert max(map(len, out.splitlines())) < 300
    rows = read_csv(tmp_path / "out" / "final.csv")
    names = [row["algorithm"] for row in rows]
    assert len(set(names)) == len(labels)
    assert not [name for name in names if name.startswith(("=", "+", "-", "@"))]
    aggregate = tmp_path / "out" / "aggregate"
    folders = sorted(path.parent for path in aggregate.rglob("events*"))
    assert len(set(folders)) == len(labels)
    assert {folder.parent for folder in folders} == {aggregate}
    assert {p.name for p in tmp_path.iterdir()} == {"runs", "out"}
    for picture in ("curves", "final", "reach", "visits"):
        assert (tmp_path / "out" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_show_labels_as_they_are():
    from matplotlib.figure import Figure

    from rlentropy.plots import shown

    axes = Figure().subplots()
    for label in ODD:
        axes.plot([0, 1], label=shown(label))
    axes.figure.legend()
    axes.figure.canvas.draw()
    _, drawn = axes.get_legend_handles_labels()
    assert len(drawn) == len(ODD)
    assert len(shown("z" * 9000)) <= 60
    for text in axes.figure.legends[0].get_texts():
        seen, is_formula = text._preprocess_math(text.get_text())
        assert not is_formula
        assert "\\$" not in seen


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"grid_shape": [3, 5], "state_visits": [1] * 31}, "grid_shape must be that of state_vis"),
        ({"grid_shape": [31], "state_visits": [1] * 31}, "grid_shape must be"),
        ({"grid_shape": [1, 2], "state_visits": ["a", "b"]}, "state_visits must be numbers"),
        ({"grid_shape": [1, 2]}, "grid_shape must be that of state_visits"),
        ({"env_steps": "many"}, "env_steps must be a number >= 0, got 'many'"),
        ({"env_steps": True}, "env_steps must be a number"),
        ({"episodes": -1}, "episodes must be a number"),
        ({"episodes": 1e999}, "episodes must be a number"),
        ({"seed": 0.5}, "seed must be a whole number"),
        ({"seed": None}, "seed must be a whole number"),
        ({"label": ["x"]}, "label must be text"),
        ({"command": {"a": 1}}, "command must be text"),
        ({"horizon": "x"}, "horizon must be a whole number"),
        ({"finished": "yes"}, "it is not finished"),
    ],
)
def test_summaries_whose_facts_are_of_another_kind(tmp_path, capsys, change, why):
    write_run(tmp_path / "runs" / "a", {"eval/gap": power_law(1.0)}, **change)
    assert compare(tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: runs must hold a finished run")
    assert why in line


@pytest.mark.parametrize(
    "line",
    [
        "[]", "5", "null", '{"tag": "eval/gap"}', '{"tag": 1, "step": 1, "value": 1}', "\0\0\0",
        '{"tag": "eval/gap", "step": -1, "value": 1}', '{"tag": "x", "step": 1e999, "value": 1}',
        '{"tag": "eval/gap", "step": 1.5, "value": 1}', '{"tag": "x", "step": 1, "value": "1"}',
        '{"tag": "eval/gap", "step": 1, "value": [1]}', "[" * 100_000, '{"tag": "x", "st',
    ],
)  # fmt: skip
def test_metrics_that_are_none(tmp_path, line):
    folder = write_run(tmp_path / "a", {"eval/gap": power_law(1.0)})
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(Refused, match="it is not readable"):
        read_run(folder)


@pytest.mark.parametrize("value", [1e308, -1e308, 1e-320, float("nan"), float("inf")])
def test_numbers_at_the_ends_of_floating_point_are_drawn(tmp_path, value):
    for k, tag in enumerate(("eval/gap", "eval/return")):
        folder = tmp_path / str(k)
        for seed in range(2):
            values = [1.0, 2.0, value, 3.0, value, 2.0, 1.5 + seed]
            write_run(folder / "runs" / str(seed), {tag: values}, seed=seed)
        assert compare(folder, "--quiet") == 0


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "\0", "9" * 5000, "{}"])
def test_a_summary_that_is_none(tmp_path, content):
    folder = write_run(tmp_path / "a", {"eval/gap": power_law(1.0)})
    (folder / "summary.json").write_text(content)
    with pytest.raises(Refused, match="it is not readable"):
        read_run(folder)


@pytest.mark.parametrize("name", ["n" * 300, "n" * 5000, "a/" * 3000, "[", "**/[!", "~nobody"])
def test_names_that_no_folder_has(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    for command in (["compare", name], ["evaluate", "--run", name]):
        assert main(command) == 2
        assert capsys.readouterr().err.startswith("error: runs must be run folders or globs")
