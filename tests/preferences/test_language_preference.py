"""The command `language-preference`, its prompts and its scores."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rlentropy import cli
from rlentropy.errors import InputError
from rlentropy.preferences import language_models, language_preference
from rlentropy.preferences.language_prompts import read_prompts
from rlentropy.preferences.language_scores import parse_score
from rlentropy.preferences.language_stems import LIKED, LOATHED, STEMS

ROOT = Path(__file__).parents[2]
TINY = (
    *("language-preference", "--model", "random:2,8", "--labels", "4", "--batch-size", "2"),
    *("--pool", "2", "--max-new-tokens", "4", "--evaluation-prompts", "4", "--epochs", "1"),
    *("--evaluation-pairs", "4", "--reward", "share:aeiou", "--learning-rate", "0.01"),
)

# ---------------------------------------------------------------- scores and prompts


@pytest.mark.parametrize(
    ("name", "text", "score"),
    [
        ("length:3", " a b c d e", -2.0),
        ("length:3", "", -3.0),
        ("length:0", "", 0.0),
        ("lexicon", "A lovely day, and a LOVELY evening; the soup was terrible.", 1.0),
        ("lexicon", "nothing of note", 0.0),
        ("lexicon", "awful awful good", -1.0),
        ("share:aeiou", "AbEd", 0.5),
        ("share:AE", "abed", 0.5),
        ("share:!", "", 0.0),
        ("share::", "a:b:", 0.5),
    ],
)
def test_scores_of_texts(name, text, score):
    assert parse_score(name)(text) == pytest.approx(score)


def test_none_scores_nothing():
    assert parse_score("none") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("loud", "reward must be one of length, lexicon, share, none, got 'loud'"),
        ("length", "reward length must have a number of words below 10000, got 'length'"),
        ("length:-1", "reward length must have a number of words"),
        ("length:x", "reward length must have a number of words"),
        ("share", "reward share must have letters after the colon"),
        ("lexicon:x", "reward lexicon must have no parameter, got 'lexicon:x'"),
        ("none:1", "reward none must have no parameter"),
    ],
)
def test_scores_that_are_none(name, message):
    with pytest.raises(InputError, match=message):
        parse_score(name)


def test_stems_and_words_are_in_order():
    assert 100 <= len(STEMS) == len(set(STEMS)) <= 200
    assert all(stem == stem.strip() and stem.isascii() for stem in STEMS)
    assert not LIKED & LOATHED
    assert min(len(LIKED), len(LOATHED)) > 50
    assert all(word == word.lower() for word in LIKED | LOATHED)


def test_prompts_are_lines_or_json_lines(tmp_path):
    (tmp_path / "lines").write_text("\ufeffOne and\n\nzwei ist {x}\n", "utf-8")
    assert read_prompts(tmp_path / "lines") == ("One and", "zwei ist {x}")
    rows = [{"prompt": "a\nb"}, {"prompt": "c", "other": 1}]
    (tmp_path / "rows").write_text("\n".join(map(json.dumps, rows)))
    assert read_prompts(tmp_path / "rows") == ("a\nb", "c")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "prompts must hold a prompt, got none in"),
        (b"\n \n", "prompts must hold a prompt"),
        (b"a\nb\na\n", "prompts must be different, got 'a' twice"),
        (b"a\x1fb", r"prompts must be printable, got 'a\\x1fb'"),
        (b"a\x07b", r"prompts must be printable, got 'a\\x07b' in"),
        (b"\xff\xfe", "prompts must be a readable text file, got"),
        (b'{"prompt": "a"}\nb', "prompts must be JSON lines with \"prompt\" each, got 'b'"),
        (b'{"text": "a"}', 'prompts must be JSON lines with "prompt" each'),
        (b'{"prompt": 1}', 'prompts must have a text as "prompt", got 1'),
        (b'{"prompt": " "}', 'prompts must have a text as "prompt"'),
    ],
)
def test_files_that_hold_no_prompts(content, message, tmp_path):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_prompts(tmp_path / "f")


def test_a_file_that_is_not_there_or_too_large(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"prompts must be a readable text file, got .*No such"):
        read_prompts(tmp_path / "f")
    (tmp_path / "f").write_bytes(b"a" * 9)
    monkeypatch.setattr("rlentropy.preferences.language_prompts.LONGEST", 8)
    with pytest.raises(InputError, match="9 bytes are too many"):
        read_prompts(tmp_path / "f")


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": 0}, "labels must be >= 1"),
        ({"pool": 0}, "pool must be >= 1"),
        ({"evaluation_prompts": 1}, "evaluation_prompts must be >= 2"),
        ({"entropy_samples": 0}, "entropy_samples must be >= 1"),
        ({"reward_features": 0}, "reward_features must be >= 1"),
        ({"max_new_tokens": 0}, "max_new_tokens must be >= 1"),
        ({"trainable_layers": 0}, "trainable_layers must be >= 1"),
        ({"schedule": (4, 2)}, "schedule must be rising label counts"),
        ({"acquisition": "best"}, "acquisition must be one of"),
        ({"sampling_temperature": 0.0}, "sampling_temperature must be > 0"),
        ({"evaluation_temperature": -1.0}, "evaluation_temperature must be > 0"),
        ({"random_share": 2.0}, r"random_share must be in \[0, 1\]"),
        ({"power": 0.0}, "power must be > 0"),
        ({"dpo_beta": 0.0}, "dpo_beta must be > 0"),
        ({"learning_rate": 0.0}, "learning_rate must be > 0"),
        ({"epochs": 0}, "epochs must be >= 1"),
        ({"minibatch": 0}, "minibatch must be >= 1"),
        ({"oracle": "regret:1"}, "oracle must judge --reward alone, got 'regret:1'"),
        ({"oracle": "nobody"}, "oracle must be one of"),
        ({"judge": "random:1,8"}, "judge must come with oracle judge, got 'bradley-terry"),
        ({"grace": -1.0}, "grace must be >= 0"),
        ({"reward": "loud"}, "reward must be one of"),
        ({"reward": "none"}, "reward must not be none unless oracle is human"),
    ],
)
def test_options_that_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        language_preference.Config(**options)


def test_a_person_may_answer_without_a_score():
    config = language_preference.Config(oracle="human", reward="none")
    assert config.at_console
    assert not language_preference.Config().at_console


def test_no_environment_is_played(capsys):
    assert cli.main([*TINY, "--env-id", "CartPole-v1"]) == 2
    error = capsys.readouterr().err
    assert error == (
        "error: env_id must be left out, as no environment is played, got CartPole-v1\n"
    )


def test_the_absence_of_the_extra_is_one_line(monkeypatch, capsys, tmp_path):
    def absent(name):
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(language_models, "import_module", absent)
    assert cli.main([*TINY, "--out", str(tmp_path / "run")]) == 2
    cure = "language models must have trl, which is not installed: pip install 'rlentropy[lm]'"
    assert capsys.readouterr().err == f"error: {cure}\n"
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    pytest.importorskip("trl", reason="needs the extra lm")
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert cli.main([*TINY, "--acquisition", "push-value", "--out", str(folder), "--quiet"]) == 0
    return folder


def read(folder):
    summary = json.loads((folder / "summary.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    keep = [(d["tag"], d["step"], d["value"]) for d in lines if not d["tag"].startswith("time/")]
    for name in ("wall_seconds", "compile_seconds"):
        del summary[name]
    return summary, keep


def test_a_run_leaves_its_model_and_its_texts(finished):
    summary, lines = read(finished)
    tags = {tag for tag, _, _ in lines}
    assert {"train/rewards/margins", "train/rewards/accuracies", "eval/win_rate"} <= tags
    assert summary["labels"] == 4
    assert summary["axis"] == "labels"
    assert summary["env_id"] == ""
    assert 0.0 <= summary["win_rate_ci95"][0] <= summary["win_rate"] <= summary["win_rate_ci95"][1]
    assert summary["kl"] > 0.0
    policy = language_models.load(str(finished / "model"), np.random.default_rng(0))
    from rlentropy.preferences.language_policy import LanguagePolicy

    with np.load(finished / "checkpoint" / "state.npz") as state:
        stored = {k.rpartition("weights/")[2]: v for k, v in state.items() if "weights/" in k}
    weights = LanguagePolicy(*policy).weights()
    assert stored.keys() == weights.keys()
    for name, weight in weights.items():
        np.testing.assert_array_equal(weight, stored[name])
    segments = finished / "campaign" / "segments"
    for path in segments.glob("*.npz"):
        prompt, line, _ = path.with_suffix(".txt").read_text().partition("\n\x1f\n")
        assert prompt in STEMS
        assert line


def test_the_same_seed_does_the_same(finished, tmp_path, monkeypatch):
    argv = [*TINY, "--acquisition", "push-value", "--quiet"]
    assert cli.main([*argv, "--out", str(tmp_path / "again")]) == 0
    assert read(tmp_path / "again") == read(finished)
    assert cli.main([*argv, "--out", str(tmp_path / "other"), "--seed", "1"]) == 0
    assert read(tmp_path / "other")[1] != read(finished)[1]


def test_a_larger_budget_goes_on(finished, tmp_path):
    argv = [*TINY, "--acquisition", "push-value", "--quiet", "--labels"]
    out = ["--out", str(tmp_path / "run")]
    assert cli.main([*argv, "2", *out]) == 0
    assert cli.main([*argv, "4", *out, "--resume"]) == 0
    assert read(tmp_path / "run") == read(finished)


def test_a_model_may_judge(tmp_path, monkeypatch):
    """It reads whole texts, in both positions; one pair in four goes to who knows the score."""
    said, says = [], language_preference.LanguageJudge.says

    def watched(self, left, right):
        said.append((left, right))
        return says(self, left, right)

    monkeypatch.setattr(language_preference.LanguageJudge, "says", watched)
    argv = [*TINY, "--batch-size", "4", "--oracle", "judge:human=0.25", "--judge", "random:1,8"]
    assert cli.main([*argv, "--quiet", "--out", str(tmp_path / "run")]) == 0
    from rlentropy.preferences.store import Store

    store = Store(tmp_path / "run" / "campaign", must_exist=True)
    records = list(store.records())
    labellers = [record["labeller"] for record in records if record["asking"] == "label"]
    store.close()
    assert sorted(labellers) == ["judge lm:random:1,8"] * 3 + ["return"]
    texts = [
        path.read_text().replace("\n\x1f\n", "")
        for path in (tmp_path / "run" / "campaign" / "segments").glob("*.txt")
    ]
    assert {text for pair in said for text in pair} == set(texts)
    assert {(b, a) for a, b in said} == set(said)


def test_too_few_prompts(tmp_path, capsys):
    (tmp_path / "f").write_text("a\nb\nc\nd\n")
    argv = [*TINY, "--prompts", str(tmp_path / "f"), "--out", str(tmp_path / "run")]
    assert cli.main(argv) == 2
    assert "prompts must be more than the 4 of evaluation_prompts, got 4" in capsys.readouterr().err


def test_a_campaign_of_another_model_is_refused(finished, tmp_path, capsys):
    import shutil

    shutil.copytree(finished / "campaign", tmp_path / "run" / "campaign")
    shutil.copy(finished / "config.json", tmp_path / "run")
    argv = [*TINY, "--acquisition", "push-value", "--out", str(tmp_path / "run"), "--resume"]
    assert cli.main([*argv, "--model", "random:1,8"]) == 2
    assert "model must be 'random:2,8' as when the run was started" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_and_resumed_to_the_same_numbers(tmp_path):
    """SIGKILL while rounds go on; the checkpoint of each round brings back the same bits."""
    options = [*TINY[:4], "16", *TINY[5:], "--checkpoint-every", "2", "--quiet"]
    command = [sys.executable, str(ROOT / "train.py"), *options]
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True)
    folder, killed = tmp_path / "cut", 0
    while True:
        resume = ["--resume"] if (folder / "config.json").exists() else []
        process = subprocess.Popen([*command, "--out", str(folder), *resume])
        segments = folder / "campaign" / "segments"
        known = len(os.listdir(segments)) if segments.exists() else 0
        while killed < 3 and process.poll() is None:
            if segments.exists() and len(os.listdir(segments)) > known + 8:
                process.kill()
                break
            time.sleep(0.01)
        if process.wait() != -signal.SIGKILL:
            break
        killed += 1
    assert process.returncode == 0
    assert killed >= 2
    assert read(folder) == read(tmp_path / "whole")
