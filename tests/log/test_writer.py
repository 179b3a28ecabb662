"""The log as its readers see it: TensorBoard's own loader, and line by line."""

import dataclasses
import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlentropy import load_run, plots
from rlentropy.cli import main
from rlentropy.errors import InputError, OutputError
from rlentropy.files import pack, replace_file
from rlentropy.log import CHECKPOINT, Log

EVERYTHING = {"scalars": 0, "images": 0, "tensors": 0}
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000003000000020802000000120c6bd70000000c4944415478"
    "9c63606060000000040001f61738550000000049454e44ae426082"
)


def events(folder):
    accumulator = EventAccumulator(str(folder), size_guidance=EVERYTHING)
    accumulator.Reload()
    return accumulator


def metrics(folder):
    lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def by_tag(rows):
    found = {}
    for row in rows:
        found.setdefault(row["tag"], []).append((row["step"], row["value"]))
    return found


def assert_same_scalars(folder):
    """metrics.jsonl and the events hold the same numbers; TensorBoard keeps float32."""
    jsonl, accumulator = by_tag(metrics(folder)), events(folder)
    tags = [t for t in accumulator.Tags()["scalars"] if not t.startswith("hparam/")]
    assert set(tags) == set(jsonl)
    for tag in tags:
        seen = [(e.step, e.value) for e in accumulator.Scalars(tag)]
        want = [(step, float(np.float32(value))) for step, value in jsonl[tag]]
        assert seen == want, tag


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run of each kind."""
    base = tmp_path_factory.mktemp("runs")
    chain = ["--env-id", "rlentropy/DoubleChain-v0", "--horizon", "6", "--quiet"]
    lake = ["--env-id", "FrozenLake-v1", "--horizon", "6", "--quiet"]
    for name, command in {
        "chain": ["entgame", *chain, "--episodes", "150"],
        "lake": ["entgame", *lake, "--episodes", "40", "--objective", "AVE"],
        "random": ["random-policy", *chain, "--episodes", "150", "--objective", "TE"],
        "optimal": ["optimal-exploration", *chain],
    }.items():
        assert main([*command, "--seed", "2", "--out", str(base / name)]) == 0
    return base


@pytest.mark.parametrize("name", ["chain", "lake", "random", "optimal"])
def test_metrics_equal_the_tensorboard_scalars(finished, name):
    assert_same_scalars(finished / name)
    rows = metrics(finished / name)
    assert any(row["tag"].startswith("eval/") for row in rows)
    for tag, points in by_tag(rows).items():
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps)), tag
        assert all(value is not None and math.isfinite(value) for _, value in points)


@pytest.mark.parametrize("name", ["chain", "lake", "random"])
def test_last_evaluation_is_the_summary(finished, name):
    summary = json.loads((finished / name / "summary.json").read_text())
    last = {tag: points[-1] for tag, points in by_tag(metrics(finished / name)).items()}
    tag = f"eval/{'trajectory' if name == 'random' else 'visitation'}_entropy"
    assert last[tag] == (summary["env_steps"], summary["value"])
    if "mixture_value" in summary:
        mixture = last["eval/mixture_visitation_entropy"]
        assert mixture == (summary["env_steps"], summary["mixture_value"])
    if name != "lake":  # no episode of 6 steps is cut short
        assert summary["env_steps"] == 150 * 6


def test_steps_are_environment_steps_on_about_eight_points_a_decade(finished):
    steps = [s for s, _ in by_tag(metrics(finished / "chain"))["eval/visitation_entropy"]]
    episodes = [s // 6 for s in steps]
    assert [s % 6 for s in steps] == [0] * len(steps)
    assert {1, 10, 100, 150} <= set(episodes)
    assert 4 <= sum(10 < e <= 100 for e in episodes) <= 12


@pytest.mark.parametrize("name", ["chain", "lake", "random"])
def test_images_text_and_hparams(finished, name):
    accumulator = events(finished / name)
    tags = accumulator.Tags()
    assert tags["images"]
    image = accumulator.Images(tags["images"][0])[0]
    assert image.encoded_image_string.startswith(b"\x89PNG")
    assert (image.width, image.height) > (100, 100)
    for tag in tags["images"]:
        last = accumulator.Images(tag)[-1].encoded_image_string
        suffix = "" if tag.endswith(".gif") else ".png"
        assert (finished / name / f"{tag}{suffix}").read_bytes() == last
    assert {
        f"_hparams_/{x}" for x in ("experiment", "session_start_info", "session_end_info")
    } <= set(accumulator.summary_metadata)
    assert any(tag.startswith("config") for tag in tags["tensors"])


def test_hparams_are_the_algorithms_settings_and_two_results(finished):
    from tensorboard.plugins.hparams import plugin_data_pb2

    from rlentropy.exploration.entgame import Config

    def content(part):
        found = accumulator.summary_metadata[f"_hparams_/{part}"].plugin_data.content
        return plugin_data_pb2.HParamsPluginData.FromString(found)

    accumulator = events(finished / "chain")
    start = content("session_start_info").session_start_info
    own = {field.name for field in dataclasses.fields(Config)}
    assert set(start.hparams) == own | {"command", "seed"}
    assert start.hparams["episodes"].number_value == 150
    assert start.hparams["clip"].bool_value is False
    assert start.hparams["objective"].string_value == "VE"
    experiment = content("experiment").experiment
    first = {info.name for info in experiment.hparam_infos if info.differs}  # than the default
    assert first == {"command", "seed", "episodes", "horizon"}
    tags = [metric.name.tag for metric in experiment.metric_infos]
    assert tags == ["hparam/gap", "hparam/mixture_value"]
    summary = json.loads((finished / "chain" / "summary.json").read_text())
    gap = summary["optimum"] - summary["value"]
    assert accumulator.Scalars("hparam/gap")[-1].value == pytest.approx(gap, rel=1e-6)
    mixture = accumulator.Scalars("hparam/mixture_value")[-1].value
    assert mixture == pytest.approx(summary["mixture_value"], rel=1e-6)


def test_more_scalars_than_tensorboard_keeps_by_default(tmp_path):
    log = Log(tmp_path)
    for k in range(12_000):
        log.scalar("eval/x", math.sin(k), k)
    log.close()
    assert_same_scalars(tmp_path)
    assert len(metrics(tmp_path)) == 12_000


def test_extreme_numbers(tmp_path):
    log = Log(tmp_path)
    for k, value in enumerate((1e-30, -0.0, 3, np.float32(0.1), np.int64(7), 2**40 + 1)):
        log.scalar("eval/x", value, np.int64(k))
    log.scalar("eval/late", 0.5, 2**40)
    log.scalar("train/Δ loss", 1.0, 0)
    log.close()
    assert_same_scalars(tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_not_a_number_stays_valid_json(tmp_path, value):
    log = Log(tmp_path)
    log.scalar("eval/x", value, 1)
    log.close()

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=refuse)["tag"] == "eval/x"


def test_figure_is_saved_and_shown(tmp_path):
    log = Log(tmp_path)
    log.figure("dots", PNG, 5)
    log.close()
    accumulator = events(tmp_path)
    (tag,) = accumulator.Tags()["images"]
    (image,) = accumulator.Images(tag)
    assert (image.width, image.height, image.step) == (3, 2, 5)
    assert [p.read_bytes() for p in tmp_path.rglob("*.png")] == [PNG]


def test_a_film_stands_beside_the_picture_of_its_name(tmp_path):
    film = plots.gif([Image.new("P", (3, 2), shade) for shade in (0, 1)], [100, 100])
    log = Log(tmp_path)
    log.figure("dots", PNG, 5)
    log.figure("dots", film, 5)
    log.close()
    accumulator = events(tmp_path)
    assert sorted(accumulator.Tags()["images"]) == ["figures/dots", "figures/dots.gif"]
    (image,) = accumulator.Images("figures/dots.gif")
    assert (image.width, image.height, image.encoded_image_string) == (3, 2, film)
    assert (tmp_path / "figures" / "dots.gif").read_bytes() == film
    assert (tmp_path / "figures" / "dots.png").read_bytes() == PNG


def test_log_of_nothing_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = Log(None)
    log.scalar("eval/x", 1.0, 1)
    log.scalars({"a": 1.0}, 1)
    log.text("t", "x")
    log.figure("dots", PNG, 1)
    log.hparams({"a": 1}, {"b": 2.0})
    log.checkpoint({"x": np.zeros(2)})
    assert log.restore() is None
    log.close()
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- checkpoints


def test_restoring_cuts_the_files_back_to_the_checkpoint(tmp_path):
    log = Log(tmp_path)
    log.scalar("eval/x", 1.0, 1)
    log.checkpoint({"n": 1})
    log.scalar("eval/x", 2.0, 2)
    log.figure("dots", PNG, 2)
    log.close()
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(b'{"tag": "eval/x", "st')  # torn by a kill
    (path,) = tmp_path.glob("events*")
    with open(path, "ab") as file:
        file.write(b"\x07\x00\x00")
    for _ in range(2):  # resuming twice is as good as once
        log = Log(tmp_path)
        assert log.restore() == {"n": 1}
        log.scalar("eval/x", 2.5, 2)
        log.close()
    assert [(r["step"], r["value"]) for r in metrics(tmp_path)] == [(1, 1.0), (2, 2.5)]
    assert len(list(tmp_path.glob("events*"))) == 1
    assert_same_scalars(tmp_path)


def test_without_a_checkpoint_everything_starts_over(tmp_path):
    log = Log(tmp_path)
    log.scalar("eval/x", 1.0, 1)
    log.close()
    log = Log(tmp_path)
    assert log.restore() is None
    log.scalar("eval/x", 3.0, 1)
    log.close()
    assert [r["value"] for r in metrics(tmp_path)] == [3.0]
    assert_same_scalars(tmp_path)


def saved(folder, **state):
    """A checkpoint after one scalar, and the names of the two log files."""
    log = Log(folder)
    log.scalar("eval/x", 1.0, 1)
    log.checkpoint({"n": 1, "x": np.arange(4.0)} | state)
    log.scalar("eval/x", 2.0, 2)
    log.close()
    (events,) = folder.glob("events*")
    return folder / "metrics.jsonl", events


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("how", ["short", "empty", "gone", "other", "folder"])
def test_a_log_file_that_is_not_what_it_was_is_refused_as_it_is(tmp_path, which, how):
    path = saved(tmp_path)[which]
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how != "gone":
        path.write_bytes({"short": path.name.encode(), "empty": b"", "other": content}[how])
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(InputError, match=rf"{path.name} must begin with the \d+ bytes .*overwrite"):
        Log(tmp_path).restore()
    assert (path.read_bytes() if path.is_file() else None) == before


@pytest.mark.parametrize("how", ["short", "other", "longer"])
def test_metrics_that_a_finished_run_did_not_write(finished, tmp_path, how):
    shutil.copytree(finished / "chain", tmp_path / "run")
    path = tmp_path / "run" / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    changed = {
        "short": lines[:-3],
        "other": [lines[1], lines[0], *lines[2:]],
        "longer": [*lines, lines[-1]],
    }[how]
    assert load_run(tmp_path / "run").metrics
    path.write_text("".join(changed))
    if how == "longer":
        assert load_run(tmp_path / "run").metrics
        return
    with pytest.raises(InputError, match=r"metrics\.jsonl is not what the run wrote"):
        load_run(tmp_path / "run")
    (tmp_path / "run" / CHECKPOINT).write_bytes(b"damaged, so that it says nothing")
    assert load_run(tmp_path / "run").metrics


def test_the_sum_of_the_log_files_goes_on_over_checkpoints(tmp_path):
    for k in range(3):
        log = Log(tmp_path)
        assert (log.restore() is None) == (k == 0)
        for n in range(3):
            log.scalar("eval/x", float(n), 10 * k + n)
            log.checkpoint({"k": k})
        log.close()
    assert Log(tmp_path).restore() == {"k": 2}
    assert_same_scalars(tmp_path)


def test_another_events_file_is_left_alone(tmp_path):
    saved(tmp_path)
    other = tmp_path / "events.out.tfevents.0.other"
    other.write_bytes(b"somebody's")
    log = Log(tmp_path)
    log.restore()
    log.scalar("eval/x", 2.0, 2)
    log.close()
    assert other.read_bytes() == b"somebody's"


def test_a_link_is_no_log_file(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "run" / "metrics.jsonl").symlink_to(tmp_path / "mine")
    log = Log(tmp_path / "run")
    log.restore()
    with pytest.raises(InputError, match="must be a file of the run, got a link"):
        log.scalar("eval/x", 1.0, 1)
    assert (tmp_path / "mine").read_text() == "precious"


def test_wall_time_adds_up_over_processes(tmp_path):
    log = Log(tmp_path)
    time.sleep(0.05)
    log.checkpoint({})
    log.close()
    log = Log(tmp_path)
    log.restore()
    assert log.seconds >= 0.05


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "state"
    replace_file(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    for call in ("os.fsync", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(call, full)
            with pytest.raises(OutputError, match="No space left"):
                replace_file(path, b"new")
        assert path.read_bytes() == b"old"
        assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_same_arrays_same_bytes(rng):
    x = rng.random((3, 3))
    for compressed in (False, True):
        assert pack({"x": x, "y": x}, compressed) == pack({"x": x.copy(), "y": x}, compressed)


# ---------------------------------------------------------------- schedules


def test_about_eight_evaluations_a_decade():
    log = Log(None)
    due = [n for n in range(1, 10_001) if log.evaluation_due(n - 1, n)]
    assert due == sorted({round(10 ** (k / 8)) for k in range(33)})


@pytest.mark.parametrize(("every", "checkpoint"), [(0, 0), (1, 0), (7, 0), (0, 3), (4, 6), (50, 1)])
@pytest.mark.parametrize("total", [1, 2, 40])
def test_the_loop_stops_wherever_something_is_due(every, checkpoint, total):
    """Whatever the budget, so that a short run is the beginning of a long one."""
    log = Log(None, eval_every=every, checkpoint_every=checkpoint)
    done, stops = 0, []
    while done < total:
        stop = log.next_stop(done, total)
        assert done < stop <= total
        done = stop
        stops.append(done)
    due = {n for n in range(1, total + 1) if log.evaluation_due(n - 1, n)}
    assert due <= set(stops)
    if every:
        assert due == set(range(every, total + 1, every))
    if checkpoint:
        assert set(range(checkpoint, total + 1, checkpoint)) <= set(stops)


@pytest.mark.parametrize("name", ["eval_every", "checkpoint_every"])
def test_negative_schedules_are_refused(name):
    with pytest.raises(InputError, match=f"{name} must be >= 0, got -1"):
        Log(None, **{name: -1})


def test_unwritable_folder_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="out must be"):
        Log(tmp_path / "file" / "run").scalar("eval/x", 1.0, 1)
