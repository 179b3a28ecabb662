"""Training from the command line: what is refused, whose folder it is, and what is in it."""

import json
import os
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from examples.command_line import CHAIN, SMALL, check_refusal, load, process, read_json
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlentropy import plots
from rlentropy.commands.drawing import draw
from rlentropy.files import locked
from rlentropy.log import Log
from rlentropy.runs.folder import LOCK
from rlentropy.runs.table import COMMANDS as TABLE
from rlentropy.types import Film, Result

COMMANDS = ("entgame", "random-policy", "optimal-exploration")


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("entgame", *SMALL, "--episoeds", "5"), ["episoeds", "--episodes"]),
        (("entgame", *SMALL, "--objectiv", "VE"), ["objectiv", "--objective"]),
        (("entgame", *SMALL, "stray"), ["stray"]),
        (("entgame", *SMALL, "--episodes", "many"), ["episodes", "whole number", "many"]),
        (("entgame", *SMALL, "--episodes", "2.5"), ["episodes", "2.5"]),
        (("entgame", *SMALL, "--episodes"), ["episodes"]),
        (("entgame", *SMALL, "--objective", "TE"), ["objective", "VE_S", "AVE_S", "TE"]),
        (("random-policy", *SMALL, "--objective", "H"), ["objective", "TE", "H"]),
        (("entgame", *SMALL, "--bonus", "hoefding-kl"), ["bonus", "hoeffding-kl", "hoefding-kl"]),
        (("entgam", *SMALL), ["command must be", "'entgam'", "did you mean .*entgame"]),
        (("optimal", *SMALL), ["command must be", "optimal-exploration"]),
        (("", *SMALL), ["command must be"]),
        (("entgame", "--env-id", "rlentropy/DoubleChian-v0"), ["env_id", "DoubleChain"]),
        (("entgame", "--env-id", "FrozenLke-v1"), ["env_id", "FrozenLake"]),
        (("entgame", "--env-id", "rlentropy/DoubleChain-v9"), ["env_id", "DoubleChain-v0|`v0`"]),
        (("entgame", "--env-id", "Nothing/At:all"), ["env_id must"]),
        (("entgame", "--env-id", "no_such_module_qa:QA/Known-v0"), ["env_id", "no_such_module_qa"]),
        (("entgame", "--env-id", "Taxi-v3"), ["env_id", "Taxi-v4|v4"]),
        (("entgame", "--env-id", CHAIN, "--env-kwargs", "{n: 5}"), ["env_kwargs", "JSON", "n: 5"]),
        (("entgame", "--env-id", CHAIN, "--env-kwargs", "[5]"), ["env_kwargs", "JSON object"]),
        (("entgame", "--env-id", CHAIN, "--env-kwargs", '{"sise": 5}'), ["env_kwargs", "sise"]),
        (
            ("entgame", "--env-id", CHAIN, "--env-kwargs", '{"num_states": 0}'),
            ["env_kwargs", "num_states must be", "got 0"],
        ),
        (
            ("entgame", "--env-id", "FrozenLake-v1", "--env-kwargs", '{"map_name": "9x9"}'),
            ["env_kwargs", "9x9"],
        ),
        (("entgame",), ["env_id must be"]),
        (("entgame", *SMALL, "--episodes", "-5"), ["episodes must be >= 1", "-5"]),
        (("entgame", *SMALL, "--episodes", "0"), ["episodes must be >= 1", "got 0"]),
        (("random-policy", *SMALL, "--episodes", "-1"), ["episodes must be >= 1", "-1"]),
        (("entgame", "--env-id", CHAIN, "--horizon", "-3"), ["horizon must be >= 1", "-3"]),
        (("random-policy", "--env-id", CHAIN, "--horizon", "0"), ["horizon must be >= 1", "got 0"]),
        (("entgame", "--env-id", "qa_outside:QA/Endless-v0"), ["horizon must be"]),
        (("entgame", *SMALL, "--seed", "-1"), ["seed must be >= 0", "-1"]),
        (("entgame", *SMALL, "--seed", "one"), ["seed", "one"]),
        (("entgame", *SMALL, "--eval-every", "-2"), ["eval_every must be >= 0", "-2"]),
        (("entgame", *SMALL, "--checkpoint-every", "-2"), ["checkpoint_every must be >= 0", "-2"]),
        (("entgame", *SMALL, "--prior", "0"), ["prior must be", "got 0"]),
        (("entgame", *SMALL, "--prior", "nan"), ["prior must be", "nan"]),
        (("entgame", *SMALL, "--prior", "inf"), ["prior must be", "inf"]),
        (("entgame", *SMALL, "--bonus-scale", "-1"), ["bonus_scale must be", "-1"]),
        (
            ("entgame", *SMALL, "--bonus", "code", "--bonus-scale", "inf"),
            ["bonus_scale must be", "inf"],
        ),
        (("entgame", *SMALL, "--delta", "1"), ["delta must be", "got 1"]),
        (("entgame", *SMALL, "--mixture-size", "-1"), ["mixture_size must be", "-1"]),
        (("entgame", *SMALL, "--resume", "--overwrite"), ["resume", "overwrite"]),
        (("entgame", *SMALL, "--out", "x" * 300), ["out must be"]),
        (
            ("entgame", "--env-id", "qa_outside:QA/Hidden-v0", "--simulator", "compiled"),
            ["simulator must be", "compiled"],
        ),
        (("optimal-exploration", "--env-id", "qa_outside:QA/Hidden-v0"), ["model"]),
        (("optimal-exploration", "--env-id", "Blackjack-v1", "--horizon", "3"), ["Discrete"]),
        *[((command, "--env-id", "CartPole-v1"), ["Discrete", "Box"]) for command in COMMANDS],
        (("entgame", "--env-id", "qa_outside:QA/Grid-v0"), ["observation", "Discrete"]),
        (
            ("entgame", "--env-id", "qa_outside:QA/Grid-v0", "--env-kwargs", '{"actions": true}'),
            ["action", "Discrete", "Box"],
        ),
    ],
    ids=lambda x: "-".join(x[:1] + x[3:])[:60] if isinstance(x, tuple) else "",
)
def test_wrong_input_is_one_line_and_exit_2(command_line, arguments, said):
    code, out, err = command_line(*arguments)
    check_refusal(code, err, *said)
    assert "Traceback" not in out


@pytest.mark.parametrize("label", ["a\nb", "\x1b[2J", "x" * 101, "\u202e"])
def test_labels_that_would_steer_a_terminal(command_line, label):
    code, _, err = command_line("entgame", *SMALL, "--episodes", "2", "--label", label)
    check_refusal(code, err, "label must be at most 100 printable characters")


@pytest.mark.parametrize("env_id", ["a:b:c", ":", "a:", ":b", ".x:y", "x y:z", "rlentropy/"])
def test_ids_that_are_none(command_line, env_id):
    code, _, err = command_line("entgame", "--env-id", env_id, "--episodes", "2", "--horizon", "3")
    check_refusal(code, err, "env_id")


def test_deep_json_as_keyword_arguments(command_line):
    code, _, err = command_line("entgame", *SMALL, "--episodes", "2", "--env-kwargs", "[" * 100_000)
    check_refusal(code, err, "env_kwargs must be a JSON object")


# ---------------------------------------------------------------- whose folder it is


def test_here_is_a_folder_too(command_line, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    run = ("entgame", *SMALL, "--out", ".", "--quiet")
    assert command_line(*run, "--episodes", "5") == (0, "", "")
    assert read_json("summary.json")["episodes"] == 5
    assert command_line(*run, "--episodes", "4", "--overwrite") == (0, "", "")
    assert read_json("summary.json")["episodes"] == 4
    assert command_line(*run, "--episodes", "6", "--resume") == (0, "", "")
    assert not [p for p in Path().iterdir() if p.name.startswith(".")]
    code, _, err = command_line(*run, "--episodes", "-4", "--overwrite")
    check_refusal(code, err, "episodes")
    assert read_json("summary.json")["episodes"] == 6


@pytest.mark.parametrize("flag", ["--resume", "--overwrite"])
def test_a_folder_in_use_is_left_alone(command_line, tmp_path, flag):
    run = ("entgame", *SMALL, "--episodes", "5", "--out", "run")
    assert command_line(*run)[0] == 0
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    with locked(tmp_path / "run" / LOCK, "out", tmp_path / "run"):
        code, _, err = command_line(*run, "--episodes", "9", flag)
        check_refusal(code, err, f"out must not be in use, got run, where process {os.getpid()}")
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before
    with locked(tmp_path / "new" / LOCK, "out", tmp_path / "new"):
        code, _, err = command_line("entgame", *SMALL, "--episodes", "5", "--out", "new")
        check_refusal(code, err, "out must not be in use")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("flaw", "said"),
    [("outside", ["observation", r"0\.\.5"]), ("truncates", ["horizon must be at most 3", "12"])],
)
def test_misbehaving_environment_in_a_real_process(outside, tmp_path, flaw, said):
    """In a process of its own, where gymnasium's warnings would land on standard error."""
    ended = process(
        *("entgame", "--env-id", "qa_outside:QA/Hidden-v0", "--env-kwargs"),
        *(json.dumps({"flaw": flaw}), "--episodes", 50, "--out", tmp_path / "run"),
        cwd=outside,
    )
    check_refusal(ended.returncode, ended.stderr, *said)


def test_observation_that_is_no_whole_number(command_line):
    code, _, err = command_line(
        *("entgame", "--env-id", "qa_outside:QA/Hidden-v0", "--episodes", "5"),
        *("--env-kwargs", '{"flaw": "fraction"}'),
    )
    check_refusal(code, err, "observation", "0.5")


def test_existing_folders(command_line, tmp_path):
    run = ("entgame", *SMALL, "--episodes", "12", "--out", "run")
    assert command_line(*run)[0] == 0
    before = (tmp_path / "run" / "summary.json").read_bytes()
    code, _, err = command_line(*run)
    check_refusal(code, err, "out must be", "--resume", "--overwrite")
    assert (tmp_path / "run" / "summary.json").read_bytes() == before
    code, out, _ = command_line(*run, "--overwrite", "--seed", "3")
    assert code == 0
    assert read_json("run/summary.json")["seed"] == 3
    lines = out.strip().splitlines()
    assert "run" in lines[0]  # the path comes first and last
    assert lines[0] == lines[-1]


@pytest.mark.parametrize("flag", [(), ("--resume",), ("--overwrite",)])
@pytest.mark.parametrize("files", [{"thesis.tex": "x"}, {"config.json": '{"model_type": "bert"}'}])
def test_a_folder_that_is_no_run_is_left_alone(command_line, tmp_path, flag, files):
    """Another program's folder, even one that also has a config.json, is never deleted or used."""
    folder = tmp_path / "precious"
    folder.mkdir()
    for name, content in (files | {"weights.bin": "years of work"}).items():
        (folder / name).write_text(content)
    code, _, err = command_line("entgame", *SMALL, "--episodes", "5", "--out", "precious", *flag)
    check_refusal(code, err, "out must")
    found = {p.name: p.read_text() for p in folder.iterdir()}
    assert found == files | {"weights.bin": "years of work"}


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/rlentropy/run"])
def test_unwritable_folder(command_line, tmp_path, out):
    (tmp_path / "file").write_text("not a folder")
    code, _, err = command_line("entgame", *SMALL, "--episodes", "5", "--out", out)
    check_refusal(code, err, "out must be")
    assert (tmp_path / "file").read_text() == "not a folder"


@pytest.mark.parametrize(
    "wrong",
    [
        *(("--episodes", "-5"), ("--eval-every", "-1"), ("--simulator", "compiled")),
        *(("--device", "nowhere"), ("--seed", str(2**63))),
    ],
)
def test_a_refused_command_can_be_corrected(command_line, wrong):
    """It must not leave a half-made run behind that stands in the way of the corrected command."""
    hidden = ("entgame", "--env-id", "qa_outside:QA/Hidden-v0", "--out", "run")
    assert command_line(*hidden, *wrong)[0] == 2
    code, _, err = command_line(*hidden, "--episodes", "3")
    assert (code, err) == (0, "")


# ---------------------------------------------------------------- help and imports


def test_quiet_says_nothing(command_line):
    assert command_line("entgame", *SMALL, "--episodes", "3", "--out", "run", "--quiet") == (
        0,
        "",
        "",
    )


# ---------------------------------------------------------------- the run folder


def test_run_folder_is_as_the_contract_says(command_line):
    code, out, _ = command_line(
        *("entgame", "--env-id", "FrozenLake-v1", "--horizon", "9", "--episodes", "60"),
        *("--env-kwargs", '{"is_slippery": true}', "--seed", "11", "--out", "run"),
    )
    assert code == 0
    config, summary = read_json("run/config.json"), read_json("run/summary.json")
    assert config["command"] == "entgame"
    assert config["seed"] == 11
    assert config["threads"] == 1
    assert config["platform"]
    assert {"rlentropy", "python", "numpy", "torch", "gymnasium"} <= set(config["versions"])
    assert "git_commit" in config
    settings = config["settings"]
    for name in ("env_id", "env_kwargs", "seed", "horizon", "episodes", "objective", "bonus"):
        assert name in settings
    common = {"command", "env_id", "seed", "env_steps", "episodes", "wall_seconds", "finished"}
    common |= {"axis", "compile_seconds"}
    exploration = {"objective", "value", "value_is_exact", "mixture_value", "optimum"}
    assert common | exploration | {"certificate", "last_iterate_value"} <= set(summary)
    assert summary["finished"] is True
    assert (summary["command"], summary["env_id"]) == ("entgame", "FrozenLake-v1")
    assert (summary["seed"], summary["episodes"], summary["objective"]) == (11, 60, "VE")
    assert 60 <= summary["env_steps"] <= 540
    assert summary["wall_seconds"] > 0.0
    assert summary["value_is_exact"] is True
    assert max(summary["value"], summary["mixture_value"]) <= summary["optimum"] + 1e-6
    assert summary["last_iterate_value"] < summary["mixture_value"]
    pi = load("run")["pi"]
    assert pi.shape == (9, 16, 4)
    np.testing.assert_allclose(pi.sum(-1), 1.0, atol=1e-12)
    assert pi.min() >= 0.0
    for line in Path("run/metrics.jsonl").read_text().splitlines():
        assert set(json.loads(line)) == {"tag", "step", "value"}
    assert len(list(Path("run").glob("events.out.tfevents.*"))) == 1
    assert list(Path("run").rglob("*.png"))
    assert Path("run/checkpoint").is_dir()
    assert not list(Path("run").rglob(".tmp*"))
    for name in ("value", "optimum"):
        assert name in out  # the final table


def test_what_is_refused_at_once_says_no_folder_and_leaves_none(command_line):
    for refused in (
        ("robust-planning", "--env-id", "CartPole-v1"),
        ("entgame", *SMALL, "--delta", "2", "--bonus", "hoeffding-kl"),
    ):
        code, out, err = command_line(*refused)
        assert (code, out) == (2, "")
        assert not Path("results").exists(), err


def test_a_second_run_is_told_the_ways_on(command_line):
    first = ("entgame", *SMALL, "--episodes", "3")
    code, out, _ = command_line(*first)
    assert (code, out.splitlines()[0]) == (0, out.splitlines()[-1])
    assert out.startswith("run folder: results/runs/")
    code, out, err = command_line(*first)
    check_refusal(code, err, "this very run is finished: --resume shows it, .*larger --episodes")
    assert out == ""
    code, _, err = command_line(*first, "--prior", "2")
    check_refusal(code, err, "where a run is finished: .*; --overwrite .*; --seed or --out makes")
    Path("results/runs/rlentropy-DoubleChain-v0/entgame/seed0/summary.json").unlink()
    code, _, err = command_line(*first)
    check_refusal(code, err, "pass --resume to go on with the run there, or --overwrite")


@pytest.mark.parametrize("seconds", [0.0, 3.5])
def test_the_compiler_is_announced_and_timed(command_line, monkeypatch, seconds):
    @contextmanager
    def compilation(announce):
        if seconds:
            announce()
        yield SimpleNamespace(seconds=seconds)

    monkeypatch.setattr("rlentropy.kernels.cache.compilation", compilation)
    code, out, _ = command_line("random-policy", *SMALL, "--episodes", "3", "--out", "run")
    assert code == 0
    about = TABLE["random-policy"].compiling
    assert (f"compiling kernels, once: about {about} s" in out.splitlines()) == bool(seconds)
    assert read_json("run/summary.json")["compile_seconds"] == seconds


def test_an_offline_run_is_finished_when_its_updates_are_done(command_line):
    """Its --episodes are those of an evaluation, no budget."""
    data = ("--data", "data.npz")
    collect = ("collect", *SMALL, "--steps", "200", *data)
    assert command_line(*collect)[0] == 0
    learn = ("fqi", *data, "--updates", "4", "--tolerance", "1e-300", "--out", "run")
    assert command_line(*learn)[0] == 0
    assert read_json("run/summary.json")["axis"] == "updates"
    code, out, _ = command_line(*learn, "--resume")
    assert code == 0
    assert "already finished with this budget" in out


def test_value_in_the_summary_is_that_of_the_policy_in_the_file(command_line):
    """Recomputed with dense arrays from the environment's own table."""
    lake = ("--env-id", "FrozenLake-v1", "--horizon", 6)
    assert command_line("entgame", *lake, "--episodes", 80, "--out", "run")[0] == 0
    env, pi = gymnasium.make("FrozenLake-v1").unwrapped, load("run")["pi"]
    m, value = np.array(env.initial_state_distrib), 0.0
    for h in range(6):
        d = m[:, None] * pi[h]
        value -= (d[d > 0] * np.log(d[d > 0])).sum()
        m = np.zeros(16)
        for s in range(16):
            for a in range(4):
                for p, s2, _, _ in env.P[s][a]:
                    m[s2] += d[s, a] * p
    assert read_json("run/summary.json")["value"] == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("objective", ["VE", "VE_S", "AVE", "AVE_S", "TE", "TE+"])
def test_optimal_exploration_folder(command_line, objective):
    code, _, _ = command_line(
        "optimal-exploration", *SMALL, "--objective", objective, "--out", "run"
    )
    assert code == 0
    summary, arrays = read_json("run/summary.json"), load("run")
    assert summary["value_is_exact"] is True
    assert summary["optimum"] == pytest.approx(summary["value"], abs=1e-9)
    assert 0.0 <= summary["certificate"] < 1e-4
    assert arrays["pi"].shape == (5, 7, 2)
    np.testing.assert_allclose(arrays["pi"].sum(-1), 1.0, atol=1e-12)
    tags = {json.loads(x)["tag"] for x in Path("run/metrics.jsonl").read_text().splitlines()}
    assert any(tag.startswith("eval/") for tag in tags)


def test_mixture_file_holds_policies_only(command_line):
    """Fewer episodes than places: what was never filled must not pass for a policy."""
    assert (
        command_line("entgame", *SMALL, "--episodes", "5", "--mixture-size", "8", "--out", "run")[0]
        == 0
    )
    with np.load("run/mixture.npz") as file:
        mixture = file["pi"]
    assert mixture.shape[0] in (5, 8)
    np.testing.assert_allclose(mixture.sum(-1), 1.0, atol=1e-6)


# ---------------------------------------------------------------- what is drawn


def test_visits_of_features_are_shown_step_by_step_and_as_a_film(tmp_path):
    axes = (("x", 0.0, 1.0, 3), ("y", 0.0, 1.0, 2))
    frames = Film(axes, tuple((100 * k, np.arange(6) * k) for k in (1, 2, 5)))
    log = Log(tmp_path)
    draw(Result({}, film=frames), log)
    log.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    shown = events.Images("figures/visits")
    assert [image.step for image in shown] == [100, 200, 500]
    assert [image.encoded_image_string for image in shown] == plots.densities(frames)
    assert shown[-1].encoded_image_string == (tmp_path / "figures" / "visits.png").read_bytes()
    (film,) = events.Images("figures/visits.gif")
    assert film.step == 500
    assert film.encoded_image_string == (tmp_path / "figures" / "visits.gif").read_bytes()
    with Image.open(tmp_path / "figures" / "visits.gif") as gif:
        assert (gif.n_frames, gif.width, gif.height) == (3, film.width, film.height)


@pytest.mark.parametrize("number", [0, 1])
def test_a_film_of_less_than_two_pictures_is_none(tmp_path, number):
    frames = tuple((9, np.ones(4)) for _ in range(number))
    log = Log(tmp_path)
    draw(Result({}, film=Film((("x", 0.0, 1.0, 4),), frames)), log)
    log.close()
    names = {path.name for path in tmp_path.glob("figures/*")}
    assert names == ({"visits.png"} if number else set())
