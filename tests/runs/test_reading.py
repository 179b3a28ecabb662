"""Finished runs as they are read: which are, which are comparable, and from Python."""

import json
import shutil
import sys
import types

import gymnasium
import numpy as np
import pytest
from examples.runs import power_law, write_run

from rlentropy import cli, load_run
from rlentropy.errors import InputError
from rlentropy.runs.comparable import accepted
from rlentropy.runs.reading import Refused, read_run, read_runs

# ---------------------------------------------------------------- which runs


def test_unfinished_and_broken_folders_are_refused(tmp_path):
    for name in ("unfinished", "broken", "odd"):
        write_run(tmp_path / name, {"eval/gap": power_law(1.0)})
    (tmp_path / "unfinished" / "summary.json").unlink()
    (tmp_path / "broken" / "metrics.jsonl").write_text('{"tag": "eval/g')
    (tmp_path / "odd" / "summary.json").write_text('{"finished": true}')
    _, refused = accepted(_read(tmp_path))
    reasons = {folder.name: why for folder, why in refused}
    assert "no summary.json" in reasons["unfinished"]
    assert "not readable" in reasons["broken"]
    assert "no command, env_id" in reasons["odd"]


def _read(folder):
    return read_runs([str(folder)])


def test_labels_keep_settings_apart(tmp_path):
    for label in ("", "published"):
        write_run(tmp_path / "runs" / f"x{label}", {"eval/gap": power_law(1.0)}, label=label)
    runs, refused = accepted(_read(tmp_path))
    assert [run.label for run in runs] == ["entgame", "published"]
    assert not refused


@pytest.mark.parametrize(
    ("facts", "axis"),
    [
        ({}, "env_steps"),
        ({"updates": 3}, "updates"),
        ({"updates": 3, "labels": 4}, "labels"),
        ({"updates": 3, "axis": "env_steps"}, "env_steps"),
    ],
)
def test_the_axis_is_what_the_summary_says_or_implies(tmp_path, facts, axis):
    folder = write_run(tmp_path / "r", {"eval/gap": power_law(1.0)}, **facts)
    assert read_run(folder).axis == axis


def test_an_axis_that_is_none(tmp_path):
    folder = write_run(tmp_path / "r", {"eval/gap": power_law(1.0)}, axis="seconds")
    with pytest.raises(Refused, match="axis must be env_steps or updates or labels, got 'seconds'"):
        read_run(folder)


def test_null_values_are_left_out_and_repeats_replace(tmp_path):
    steps = np.array([10, 20, 20, 30])
    folder = write_run(tmp_path / "r", {"eval/gap": (steps, [1.0, 2.0, 3.0, None])})
    found_steps, values = read_run(folder).curves["eval/gap"]
    assert found_steps.tolist() == [10.0, 20.0]
    assert values.tolist() == [1.0, 3.0]


# ---------------------------------------------------------------- damaged files


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


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "\0", "9" * 5000, "{}"])
def test_a_summary_that_is_none(tmp_path, content):
    folder = write_run(tmp_path / "a", {"eval/gap": power_law(1.0)})
    (folder / "summary.json").write_text(content)
    with pytest.raises(Refused, match="it is not readable"):
        read_run(folder)


# ---------------------------------------------------------------- from Python


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "ring"
    options = ["--gamma", "0.5", "--quiet", "--out", str(out), "--label", "exact"]
    assert cli.main(["robust-planning", "--env-id", "rlentropy/Ring-v0", *options]) == 0
    return out


def test_a_run_from_python(ring):
    run = load_run(str(ring))
    assert run.summary["risk"] == "entropic:1"
    assert run.config["settings"]["gamma"] == 0.5
    steps, values = run.metrics["eval/robust_value"]
    assert values[-1] == run.summary["value"]
    assert len(steps) == len(values)
    assert repr(run) == f"Run({str(ring)!r}, exact, {len(run.metrics)} metrics)"
    with np.load(ring / "policy.npz") as file:
        np.testing.assert_array_equal(run.policy.pi[0], file["pi"])
    env = gymnasium.make("rlentropy/Ring-v0")
    state, _ = env.reset(seed=0)
    for t in range(5):
        state, *_ = env.step(run.policy.act(state, t))


def test_a_run_from_python_says_what_is_missing(ring, tmp_path):
    with pytest.raises(InputError, match=r"got .*none: it is not finished \(no summary.json\)"):
        load_run(tmp_path / "none")
    copy = tmp_path / "copy"
    shutil.copytree(ring, copy)
    (copy / "config.json").unlink()
    with pytest.raises(InputError, match=r"run must hold config\.json, got"):
        _ = load_run(copy).config
    (copy / "config.json").write_text("{}")
    with pytest.raises(InputError, match="it has no command or no settings"):
        _ = load_run(copy).config
    (copy / "metrics.jsonl").write_text("{")
    with pytest.raises(InputError, match=r"it is not readable \(JSONDecodeError"):
        load_run(copy)


def stranger(run, copy, **facts):
    """A copy of a run whose files say other things of its environment."""
    shutil.copytree(run, copy)
    for name in ("summary.json", "config.json"):
        content = json.loads((copy / name).read_text())
        content.get("settings", content).update(facts)
        (copy / name).write_text(json.dumps(content))
    return copy


@pytest.mark.parametrize(
    ("facts", "option"),
    [
        ({"env_id": "evil_module:CartPole-v1"}, "--env-id"),
        ({"env_kwargs": '{"xml_file": "\\u002ftmp\\u002fx"}'}, "--env-kwargs"),
        ({"env_kwargs": '{"xml_file": ["x.xml"]}'}, "--env-kwargs"),
    ],
)
def test_a_stranger_imports_no_module_and_opens_no_file(
    ring, tmp_path, monkeypatch, capsys, facts, option
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil_module.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    copy = str(stranger(ring, tmp_path / "copy", **facts))
    for command in (
        ["evaluate", "--run", copy, "--horizon", "3"],
        ["collect", "--policy", copy, "--data", "x.npz", "--horizon", "3", "--steps", "9"],
        ["robust-planning", "--resume", "--out", copy, "--tolerance", "1e-6"],
    ):
        assert cli.main(command) == 2, command
        assert f"must be given ({option})" in capsys.readouterr().err
    with pytest.raises(InputError, match="must be given"):
        _ = load_run(copy).policy
    assert load_run(copy, gymnasium.make("rlentropy/Ring-v0")).policy.pi.shape == (1, 14, 3)
    assert not (tmp_path / "ran").exists()
    typed = ["--env-id", "rlentropy/Ring-v0", "--env-kwargs", "{}", "--horizon", "3", "--quiet"]
    assert cli.main(["evaluate", "--run", copy, *typed, "--episodes", "1"]) == 0


def test_a_module_that_is_imported_needs_no_environment(ring, tmp_path, monkeypatch):
    copy = stranger(ring, tmp_path / "copy", env_id="my_own_module:rlentropy/Ring-v0")
    said = "env must be given to load_run, or my_own_module be imported first, for a run in my_own"
    with pytest.raises(InputError, match=said):
        _ = load_run(copy).policy
    monkeypatch.setitem(sys.modules, "my_own_module", types.ModuleType("my_own_module"))
    assert load_run(copy).policy.pi.shape == (1, 14, 3)
