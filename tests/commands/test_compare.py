"""`compare` on made-up run folders whose statistics are known."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from examples.runs import ODD, STEPS, power_law, write_run

from rlentropy.cli import main
from rlentropy.runs.comparable import accepted, tasks_of
from rlentropy.runs.comparisons import visits_of
from rlentropy.runs.reading import Run, find_folders, read_run


@pytest.fixture
def two_algorithms(tmp_path):
    """Ten seeds of a fast and a slow algorithm, gaps c_i / √step and c_i."""
    for seed in range(10):
        scale = 1.0 + 0.1 * seed
        path = tmp_path / "runs" / "fast" / f"seed{seed}"
        write_run(path, {"eval/gap": power_law(scale), "eval/return": [9.0] * 7}, seed=seed)
        path = tmp_path / "runs" / "slow" / f"seed{seed}"
        write_run(path, {"eval/gap": [scale] * 7}, seed=seed, command="random-policy")
    return tmp_path


def compare(folder, *arguments):
    return main(["compare", str(folder / "runs"), "--out", str(folder / "out"), *arguments])


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------- the command


@pytest.mark.usefixtures("undrawn")
def test_tables(two_algorithms, capsys):
    assert compare(two_algorithms, "--gaps", "0.1", "0.012") == 0
    out = two_algorithms / "out"
    assert "random-policy" in capsys.readouterr().out

    fast, slow = read_csv(out / "final.csv")
    assert (fast["algorithm"], fast["metric"], fast["seeds"]) == (
        *("entgame", "eval/gap"),
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
    # The gap was above it at the evaluation before the earliest: at 30 for c = 1.
    assert float(rows["entgame", 0.1]["env_steps_low"]) in (30, 100)
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
    tables = ("final", "reach", "slopes", "curves", "runs", "scale", "pairs")
    assert set(first) == {f"{n}.csv" for n in tables} | {
        f"{n}.png" for n in ("final", "reach", "curves")
    }
    assert compare(two_algorithms, "--quiet") == 0
    assert first == {p.name: p.read_bytes() for p in out.glob("*.[cp][sn][vg]")}
    assert len(list(out.glob("aggregate/*/events*"))) == 2
    only = two_algorithms / "runs" / "slow"
    assert main(["compare", str(only), "--out", str(out), "--metric", "eval/gap"]) == 0
    assert [p.parent.name for p in out.glob("aggregate/*/events*")] == ["random-policy"]


@pytest.mark.usefixtures("undrawn")
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


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("change", "why"),
    [
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


@pytest.mark.usefixtures("undrawn")
def test_forced_runs_are_compared_but_never_pooled(tmp_path, capsys):
    write_run(tmp_path / "runs" / "a", {"eval/gap": power_law(1.0)})
    write_run(tmp_path / "runs" / "b", {"eval/gap": power_law(2.0)}, env_id="Other-v0")
    assert compare(tmp_path, "--force") == 0
    assert "refused" not in capsys.readouterr().err
    names = [row["algorithm"] for row in read_csv(tmp_path / "out" / "final.csv")]
    assert names == ["entgame, Chain-v0", "entgame, Other-v0"]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("options", [[], ["--force"]])
def test_steps_that_count_other_things_are_tasks_apart(tmp_path, capsys, options):
    write_run(tmp_path / "runs" / "a", {"eval/gap": power_law(1.0)})
    write_run(tmp_path / "runs" / "b", {"eval/gap": power_law(2.0)}, updates=10000)
    assert compare(tmp_path, *options) == 0
    rows = read_csv(tmp_path / "out" / "final.csv")
    assert [row["algorithm"] for row in rows] == ["entgame"] * 2
    assert len({row["task"] for row in rows}) == 2
    printed = capsys.readouterr().out
    assert "median environment steps" in printed
    assert "median updates" in printed


def _read(folder):
    from rlentropy.runs.reading import read_runs

    return read_runs([str(folder)])


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
    assert set(run.curves) == {"eval/gap", "eval/return"}


def test_gaps_of_zero_and_flat_or_single_curves_are_drawn(tmp_path):
    write_run(tmp_path / "runs" / "a", {"eval/gap": [1.0, 0.5, 0.1, 0.0, 0.0, -1e-12, 0.0]})
    write_run(tmp_path / "runs" / "b", {"eval/gap": ([0], [0.0])}, command="optimal-exploration")
    assert compare(tmp_path) == 0
    assert (tmp_path / "out" / "curves.png").stat().st_size > 1000


@pytest.mark.usefixtures("undrawn")
def test_other_metrics_are_reached_from_below(tmp_path):
    write_run(tmp_path / "runs" / "a", {"eval/visitation_entropy": STEPS.tolist()})
    assert compare(tmp_path, "--gaps", "200") == 0
    (row,) = read_csv(tmp_path / "out" / "reach.csv")
    assert float(row["env_steps"]) == 300
    assert not (tmp_path / "out" / "slopes.csv").exists()


@pytest.mark.parametrize(
    ("first", "best", "targets"),
    [
        (2.3, 4.61, [2.5, 3.0, 3.5, 4.0, 4.5]),
        (2.95, 4.2, [3.0, 3.5, 4.0]),
        (0.0, 10.0, [2.0, 4.0, 6.0, 8.0, 10.0]),  # where runs begin is no target
        (4.611, 4.6178, [4.612, 4.614, 4.616]),
        (-3.1, -1.0, [-3.0, -2.0, -1.0]),
        (2.0, 2.0, []),
        (3.0, 1.0, []),
    ],
)
def test_entropies_rise_to_round_values(tmp_path, first, best, targets):
    rise = [first, first, min(best, first + 1e-4), best, best - 0.5, best - 1.0, best - 0.1]
    values = rise if best > first else [first, *[best] * 6]
    for seed in range(3):
        tags = {"eval/mixture_entropy": values, "eval/visitation_entropy": [9.0] * 7}
        write_run(tmp_path / "runs" / f"{seed}", tags, seed=seed, command="neural-entgame")
    assert compare(tmp_path) == 0
    out = tmp_path / "out"
    (row,) = read_csv(out / "final.csv")
    assert (row["metric"], float(row["mean"])) == ("eval/mixture_entropy", values[-1])
    assert not (out / "slopes.csv").exists()
    found = read_csv(out / "reach.csv") if targets else []
    assert (out / "reach.csv").exists() == (out / "reach.png").exists() == bool(targets)
    assert [float(r["gap"]) for r in found] == targets
    for r in found:
        steps = 10 if float(r["gap"]) <= first else 300
        assert (float(r["env_steps"]), r["reached"]) == (steps, "3")


@pytest.mark.usefixtures("undrawn")
def test_entropies_of_other_features_are_tasks_apart(tmp_path):
    for k, bins in enumerate(([12, 11], [12, 11], [20, 20])):
        write_run(
            tmp_path / "runs" / f"{k}", {"eval/mixture_entropy": [1.0] * 7}, seed=k, bins=bins
        )
    assert compare(tmp_path) == 0
    rows = read_csv(tmp_path / "out" / "final.csv")
    assert [row["task"] for row in rows] == [f"Chain-v0, bins {b}" for b in ([12, 11], [20, 20])]


def test_heat_maps_where_states_form_a_grid(tmp_path):
    for seed, visits in enumerate(([1, 0, 3, 4, 5, 6], [3, 0, 1, 0, 1, 2])):
        write_run(
            *(tmp_path / "runs" / f"{seed}", {"eval/gap": power_law(1.0)}),
            **{"seed": seed, "grid_shape": [2, 3], "state_visits": visits},
        )
    assert compare(tmp_path) == 0
    assert (tmp_path / "out" / "visits.png").stat().st_size > 1000
    runs, _ = accepted(_read(tmp_path / "runs"))
    (task,) = tasks_of(runs, (), force=False)
    ((_, mean),) = visits_of(task.algorithms)
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


@pytest.mark.usefixtures("undrawn")
def test_bands_load_in_tensorboard(two_algorithms):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar import layout_pb2, metadata

    assert compare(two_algorithms, "--quiet") == 0
    curves = [r for r in read_csv(two_algorithms / "out" / "curves.csv") if "ent" in r["algorithm"]]
    events = EventAccumulator(str(two_algorithms / "out" / "aggregate" / "entgame"))
    events.Reload()
    for name, column in (("mean", "value"), ("low", "low"), ("high", "high")):
        points = events.Scalars(f"eval/gap/{name}")
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
    assert [chart.title for chart in charts] == ["eval/gap", "eval/return"]
    series = charts[0].margin.series[0]
    assert (series.value, series.lower, series.upper) == tuple(
        f"eval/gap/{name}" for name in ("mean", "low", "high")
    )


def test_compare_does_not_import_torch(two_algorithms):
    code = (
        "import sys; from rlentropy.cli import main; code = main(sys.argv[1:]);"
        "sys.exit(code or 'torch' in sys.modules or 'tensorflow' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "compare", "runs"]
    assert subprocess.run(command, cwd=two_algorithms, timeout=120).returncode == 0


# ---------------------------------------------------------------- odd labels and summaries


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


@pytest.mark.parametrize("value", [1e308, -1e308, 1e-320, float("nan"), float("inf")])
def test_numbers_at_the_ends_of_floating_point_are_drawn(tmp_path, value):
    for k, tag in enumerate(("eval/gap", "eval/return")):
        folder = tmp_path / str(k)
        for seed in range(2):
            values = [1.0, 2.0, value, 3.0, value, 2.0, 1.5 + seed]
            write_run(folder / "runs" / str(seed), {tag: values}, seed=seed)
        assert compare(folder, "--quiet") == 0


@pytest.mark.parametrize("name", ["n" * 300, "n" * 5000, "a/" * 3000, "[", "**/[!", "~nobody"])
def test_names_that_no_folder_has(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    for command in (["compare", name], ["evaluate", "--run", name]):
        assert main(command) == 2
        assert capsys.readouterr().err.startswith("error: runs must be run folders or globs")
