"""The command campaign: what it prints, writes and takes, on campaigns that were really run."""

import csv
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from rlentropy import cli
from rlentropy.preferences.campaign import Campaign
from rlentropy.preferences.segments import Pairs, Segments
from rlentropy.preferences.store import IMPORTED, Store

ROOT = Path(__file__).parents[2]
LAKE = ("--env-id", "FrozenLake-v1", "--env-kwargs", '{"is_slippery": false}')
SMALL = ("--labels", "8", "--batch-size", "4", "--pool", "2", "--quiet")
ASK = ("active-preference", *SMALL)
PENDULUM = ("--env-id", "Pendulum-v1", "--segment-length", "6", "--hidden", "4")
RUNS = {
    "lake": (*ASK, *LAKE),
    "pendulum": (*ASK, *PENDULUM),
    "pole": (*ASK, "--env-id", "CartPole-v1", "--segment-length", "6", "--hidden", "4"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    base = tmp_path_factory.mktemp("campaigns")
    for name, argv in RUNS.items():
        assert cli.main([*argv, "--out", str(base / name)]) == 0
    return base


def campaign(*argv):
    return cli.main(["campaign", "--campaign", *map(str, argv)])


def store_of(run):
    return Store(run / "campaign")


def told(capsys):
    return capsys.readouterr().err.strip()


# ---------------------------------------------------------------- report


def test_a_report_of_a_finished_run(runs, tmp_path, capsys):
    path = tmp_path / "new" / "report.json"
    assert campaign(runs / "lake", "--json", path, "--hourly-wage", "30") == 0
    shown = capsys.readouterr().out
    found = json.loads(path.read_text())
    summary = json.loads((runs / "lake" / "summary.json").read_text())
    figures = found["figures"]
    assert figures["labels"] == {"value": 8, "unit": "labels", "n": 8, "ci95": None}
    assert figures["budget"]["value"] == 8
    gained = summary["mean_return"] - summary["reference_return"]
    assert figures["return_gained"]["value"] == pytest.approx(gained)
    want = 8 / gained if gained > 0 else None
    assert figures["labels_per_return"]["value"] == (want and pytest.approx(want))
    assert figures["seconds"] == {"value": None, "unit": "s", "n": 0, "ci95": None}
    assert list(found["labellers"]) == ["return"]
    assert found["about"]["env_id"] == "FrozenLake-v1"
    names = [*figures, *found["labellers"]["return"]]
    rows = [line.split() for line in shown.splitlines()]
    assert [row[1] for row in rows[1:]] == names
    assert re.search(r"^campaign +budget +8 +labels +8$", shown, re.M)
    by_folder = tmp_path / "other.json"
    assert campaign(runs / "lake" / "campaign", "--json", by_folder, "--hourly-wage", "30") == 0
    assert by_folder.read_text() == path.read_text()


def test_a_report_before_the_end(runs, tmp_path):
    """Without a summary the log says what was reached; a line that is being written is no line."""
    run = tmp_path / "run"
    shutil.copytree(runs / "lake", run)
    (run / "summary.json").unlink()
    entries = [("eval/return", 0, 1.0), ("eval/kl", 0, 9.0), ("eval/return", 4, 3.0)]
    lines = [json.dumps({"tag": t, "step": s, "value": v}) + "\n" for t, s, v in entries]
    (run / "metrics.jsonl").write_text("".join(lines) + '{"tag": "eval/return", "step": 8, "val')
    assert campaign(run, "--json", tmp_path / "r.json", "--quiet") == 0
    figures = json.loads((tmp_path / "r.json").read_text())["figures"]
    assert (figures["reference_return"]["value"], figures["return"]["value"]) == (1.0, 3.0)
    assert figures["labels_per_return"]["value"] == 4.0


def test_a_store_alone_has_no_budget_and_no_return(runs, tmp_path):
    shutil.copytree(runs / "lake" / "campaign", tmp_path / "alone")
    assert campaign(tmp_path / "alone", "--json", tmp_path / "r.json", "--quiet") == 0
    figures = json.loads((tmp_path / "r.json").read_text())["figures"]
    assert figures["budget"]["value"] is figures["return_gained"]["value"] is None


def test_odd_names_are_shown_without_their_letters(tmp_path, capsys):
    store = Store(tmp_path / "c")
    one = Segments(np.array([[1, 2]]), np.array([[0]]), np.zeros((1, 1)), np.array([1]),
                   np.array([False]), np.array([1]))  # fmt: skip
    other = Segments(one.states + 1, *[getattr(one, x) for x in
                     ("actions", "rewards", "lengths", "terminated", "starts")])  # fmt: skip
    store.ask(0, Pairs(one, other))
    store.answer(0, 0, 1.0, "\x1b[2J状态🙂", 3.0, reason="=HYPERLINK(1)\n\x00")
    store.answer(0, 0, 0.0, "@bert", asking="second")
    assert campaign(tmp_path / "c", "--json", tmp_path / "r.json") == 0
    assert "\x1b" not in capsys.readouterr().out
    found = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert list(found["labellers"]) == ["\x1b[2J状态🙂", "@bert"]
    assert campaign(tmp_path / "c", "--export", tmp_path / "t.csv") == 0
    cells = list(csv.DictReader(io.StringIO((tmp_path / "t.csv").read_text("utf-8"), newline="")))
    assert [cells[0][x] for x in ("labeller", "reason", "seconds", "shown")] == [
        "\x1b[2J状态🙂", "'=HYPERLINK(1)\n\x00", "3.0", f"{cells[0]['shown_left']} left",
    ]  # fmt: skip
    assert cells[1]["labeller"] == "'@bert"


# ---------------------------------------------------------------- export


def test_the_table_of_answers_has_all_that_was_written_down(runs, tmp_path):
    assert campaign(runs / "lake", "--export", tmp_path / "t.csv", "--quiet") == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "t.csv").read_text(), newline="")))
    records = list(store_of(runs / "lake").records())
    assert len(rows) == len(records) == 8
    for row, record in zip(rows, records, strict=True):
        for name, value in record.items():
            if name == "duration_ms":
                continue
            assert row[name] == ("" if value is None else str(value))
    empty = tmp_path / "none"
    Store(empty)
    assert campaign(empty, "--export", tmp_path / "e.csv", "--quiet") == 0
    assert (tmp_path / "e.csv").read_text().startswith("round,position,query_id,")


def test_formats_are_known_by_their_suffix_or_named(runs, tmp_path, capsys):
    for name, kind in (("x.jsonl", "auto"), ("x.dat", "json-lines")):
        assert campaign(runs / "lake", "--export", tmp_path / name, "--format", kind) == 0
    assert (tmp_path / "x.jsonl").read_bytes() == (tmp_path / "x.dat").read_bytes()
    assert capsys.readouterr().out.splitlines()[0] == f"written to {tmp_path / 'x.jsonl'}"
    assert campaign(runs / "lake", "--export", tmp_path / "x.dat") == 2
    assert "format must be given where export doesn't end in .jsonl" in told(capsys)


@pytest.mark.parametrize("name", ["lake", "pole", "pendulum"])
def test_imitation_arrays_are_what_the_environment_would_show(runs, tmp_path, name):
    path = tmp_path / "pairs.npz"
    assert campaign(runs / name, "--export", path, "--quiet") == 0
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    store = store_of(runs / name)
    env_id = store.about["env_id"]
    env = gymnasium.make(env_id, **json.loads(store.about["env_kwargs"]))
    obs, acts, lengths = arrays["obs"], arrays["acts"], arrays["lengths"]
    assert (obs.dtype, acts.dtype) == (env.observation_space.dtype, env.action_space.dtype)
    assert len(obs) == lengths.sum() + len(lengths)
    assert len(acts) == lengths.sum()
    records = list(store.records())
    assert arrays["preferences"].tolist() == [r["probability"] for r in records]
    assert arrays["preferences"].dtype == np.float32
    assert arrays["query_ids"].tolist() == [r["query_id"] for r in records]
    at, done = 0, 0
    for i, length in enumerate(lengths.tolist()):
        seen, did = obs[at : at + length + 1], acts[done : done + length]
        at, done = at + length + 1, done + length
        assert all(x in env.observation_space for x in seen)
        assert all(a in env.action_space for a in did)
        if name == "lake":
            env.reset()
            env.unwrapped.s = int(seen[0])
        else:
            start, _ = env.reset(seed=int(records[i // 2]["start"]))
            np.testing.assert_array_equal(start, seen[0])
        for action, after in zip(did, seen[1:], strict=True):
            found, _, terminated, _, _ = env.step(action)
            np.testing.assert_allclose(found, after, rtol=1e-5, atol=1e-6)
        assert arrays["terminal"][i] == (length > 0 and terminated)


def tiny_tokenizer():
    """Bytes are the tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<end>", "<pad>"]
    tokenizer = Tokenizer(models.BPE({x: i for i, x in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>")


def tiny_model(tokenizer):
    from transformers import GPT2Config, GPT2LMHeadModel

    end = tokenizer.eos_token_id
    sizes = {"n_positions": 512, "n_embd": 8, "n_layer": 2, "n_head": 2}
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), bos_token_id=end, eos_token_id=end, **sizes)
    )


def with_texts(folder):
    """A campaign about texts of several lines; in the first question b is chosen."""
    texts = ["Say it:\n1. twice\n\x1f\n yes, 状态\n\nyes", "Say it:\n1. twice\n\x1f\nno"]
    store = Store(folder)
    one, other = (
        Segments(np.array([[0, k]]), np.array([[k]]), np.zeros((1, 1)), np.array([1]),
                 np.array([True]), np.array([0]))
        for k in (1, 2)
    )  # fmt: skip
    for segment, text in zip((one, other), texts, strict=True):
        (folder / "segments" / f"{segment.digests()[0]}.txt").write_bytes(text.encode())
    store.ask(0, Pairs(one, other))
    store.answer(0, 0, 0.0, "anna")
    return store


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="needs the extra lm")
@pytest.mark.parametrize("kind", ["lake", "texts"])
def test_trl_s_own_trainer_reads_the_rows(runs, tmp_path, kind, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run = runs / "lake" if kind == "lake" else tmp_path / "texts"
    if kind == "texts":
        with_texts(run)
    path = tmp_path / "rows.jsonl"
    assert campaign(run, "--export", path, "--format", "trl", "--quiet") == 0
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert rows
    if kind == "texts":
        assert rows == [
            {"prompt": "Say it:\n1. twice", "chosen": "no", "rejected": " yes, 状态\n\nyes"}
        ]
    tokenizer = tiny_tokenizer()
    arguments = DPOConfig(
        str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=1, max_length=None,
        bf16=False, gradient_checkpointing=False, use_cpu=True, report_to=[], disable_tqdm=True,
        save_strategy="no",
    )  # fmt: skip
    trainer = DPOTrainer(
        tiny_model(tokenizer),
        ref_model=tiny_model(tokenizer),
        args=arguments,
        train_dataset=Dataset.from_json(str(path), cache_dir=str(tmp_path / "cache")),
        processing_class=tokenizer,
    )
    assert len(trainer.train_dataset) == len(rows)
    for tokenised, row in zip(trainer.train_dataset, rows, strict=True):
        for name, end in (("prompt", ""), ("chosen", "<end>"), ("rejected", "<end>")):
            assert tokenizer.decode(tokenised[f"{name}_ids"]) == row[name] + end
    assert np.isfinite(trainer.train().training_loss)


def test_texts_are_exported_as_such(tmp_path, capsys):
    with_texts(tmp_path / "c")
    assert campaign(tmp_path / "c", "--export", tmp_path / "x.jsonl", "--quiet") == 0
    row = json.loads((tmp_path / "x.jsonl").read_text("utf-8"))
    assert row["text_b"] == "Say it:\n1. twice\n\x1f\nno"
    assert campaign(tmp_path / "c", "--export", tmp_path / "x.npz") == 2
    assert "format must be json-lines, csv or trl for a campaign without segments" in told(capsys)


# ---------------------------------------------------------------- import


@pytest.mark.parametrize("name", ["lake", "pole", "pendulum"])
def test_exported_pairs_are_imported_elsewhere(runs, tmp_path, name):
    path, two = tmp_path / "pairs.jsonl", tmp_path / "two"
    assert campaign(runs / name, "--export", path, "--quiet") == 0
    argv = [*RUNS[name], "--pairs", str(path), "--out", str(two)]
    assert cli.main(argv) == 0
    ids = [r["query_id"] for r in store_of(runs / name).records()]
    records = list(store_of(two).records())
    assert [r["query_id"] for r in records if r["round"] == IMPORTED] == ids
    assert {r["labeller"] for r in records if r["round"] == IMPORTED} == {"return"}
    summary = json.loads((two / "summary.json").read_text())
    assert (summary["imported"], summary["labels"]) == (8, 8)
    assert "imported" not in json.loads((runs / name / "summary.json").read_text())


def policy_of(run):
    with np.load(run / "policy.npz") as file:
        return file["pi"]


def test_pairs_are_learnt_from_and_a_resumed_run_ends_the_same(runs, tmp_path, monkeypatch):
    path = tmp_path / "pairs.jsonl"
    assert campaign(runs / "lake", "--export", path, "--quiet") == 0
    argv = [*RUNS["lake"], "--pairs", str(path), "--checkpoint-every", "4", "--train", "all"]
    assert cli.main([*argv, "--out", str(tmp_path / "whole")]) == 0
    without = [*RUNS["lake"], "--train", "all", "--out", str(tmp_path / "without")]
    assert cli.main(without) == 0
    assert not np.array_equal(policy_of(tmp_path / "whole"), policy_of(tmp_path / "without"))
    whole = Campaign._ask
    for rounds in (0, 1):  # stopped in the first round, and in the second
        cut, asked = tmp_path / f"cut{rounds}", []

        def ask(self, n, asked=asked, rounds=rounds):
            asked.append(n)
            if len(asked) > rounds:
                raise KeyboardInterrupt
            return whole(self, n)

        monkeypatch.setattr(Campaign, "_ask", ask)
        assert cli.main([*argv, "--out", str(cut)]) == 130
        monkeypatch.undo()
        moved = path.rename(tmp_path / "gone.jsonl")  # the store has them
        assert cli.main([*argv, "--out", str(cut), "--resume"]) == 0
        moved.rename(path)
        np.testing.assert_array_equal(policy_of(cut), policy_of(tmp_path / "whole"))


def wait_for(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def test_a_running_trainer_picks_answers_up(tmp_path):
    """Twice: export what is asked, fill it in, import it; the run ends by itself."""
    out = tmp_path / "run"
    argv = [sys.executable, str(ROOT / "train.py"), *ASK, *LAKE, "--oracle", "human"]
    process = subprocess.Popen([*argv, "--out", str(out)], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, cwd=ROOT)  # fmt: skip
    try:
        for k in range(2):
            wait_for(lambda: (out / "campaign" / "answers.sqlite").is_file())
            store = Store(out / "campaign")
            wait_for(lambda store=store, k=k: store.latest() == k)
            assert campaign(out, "--export", tmp_path / "ask.csv", "--quiet") == 0
            text = (tmp_path / "ask.csv").read_text()
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
            for row in rows:
                if not row["answer"]:
                    row |= {"answer": "left", "labeller": "anna", "seconds": "1.5"}
            with (tmp_path / "said.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
            assert campaign(out, "--answers", tmp_path / "said.csv", "--quiet") == 0
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()
    assert campaign(out, "--json", tmp_path / "r.json", "--quiet", "--hourly-wage", "36") == 0
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["labellers"]["anna"]["left"]["value"] == 1.0
    assert found["figures"]["seconds"]["value"] == 12.0
    assert found["figures"]["money"]["value"] == pytest.approx(0.12)


def test_what_an_import_says(tmp_path, runs, capsys):
    path = tmp_path / "a.jsonl"
    late = {"round": 0, "position": 0, "answer": "b", "labeller": "anna"}
    again = {**late, "asking": "second"}
    path.write_text("\n".join(map(json.dumps, [late, again, {**late, "answer": None}])))
    run = tmp_path / "run"
    shutil.copytree(runs / "lake", run)
    assert campaign(run, "--answers", path, "--json", tmp_path / "r.json") == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == (
        "1 answers written, 1 came after an answer that stands, 1 rows without one passed over"
    )
    assert list(json.loads((tmp_path / "r.json").read_text())["between"]) == ["anna and return"]


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        ((), "campaign must be a run folder of active-preference, got none"),
        (("--campaign", "."), "or the campaign folder in it, got ."),
        (("--campaign", "x" * 5000), "or the campaign folder in it, got x"),
        (("--campaign", "RUN", "--pause", "0"), "pause must be > 0 and finite, got 0.0"),
        (("--campaign", "RUN", "--hourly-wage", "-1"), "hourly_wage must be >= 0 and finite"),
        (("--campaign", "RUN", "--answers", "no.csv"), "answers must be a file, got no.csv"),
        (("--campaign", "RUN", "--json", "RUN"), "json must be a file in a writable folder"),
        (
            ("--campaign", "RUN", "--format=csv", "--export", "RUN/campaign/answers.sqlite"),
            "export must be outside of the campaign's own folder, got",
        ),
        (("--campaign", "RUN", "--export", "RUN/config.json/x.csv"), "export must be a file in a"),
        (
            ("--campaign", "RUN", "--export", "x.npz", "--env-id=CartPole-v1", "--env-kwargs={}"),
            "env_id must name the campaign's environment, got CartPole-v1",
        ),
    ],
)
def test_refusals(runs, tmp_path, monkeypatch, capsys, argv, why):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["campaign", *[a.replace("RUN", str(runs / "lake")) for a in argv]]) == 2
    assert why in told(capsys)


def test_an_environment_that_imports_a_module_is_typed(runs, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(runs / "pole", run)
    config = json.loads((run / "config.json").read_text())
    config["settings"]["env_id"] = "os:CartPole-v1"
    (run / "config.json").write_text(json.dumps(config))
    assert campaign(run, "--export", tmp_path / "x.jsonl") == 2
    assert "env_id must be given (--env-id) where the one stored" in told(capsys)
    assert not (tmp_path / "x.jsonl").exists()
    typed = ("--env-id", "CartPole-v1")
    assert campaign(run, "--export", tmp_path / "x.jsonl", *typed, "--quiet") == 0


def test_damaged_campaigns(runs, tmp_path, capsys):
    for k, (name, damage) in enumerate(
        [
            ("answers.sqlite", lambda path: path.write_bytes(path.read_bytes()[:5000])),
            ("segments", lambda path: next(path.glob("*.npz")).write_bytes(b"PK")),
            ("segments", lambda path: next(path.glob("*.npz")).unlink()),
        ]
    ):
        folder = tmp_path / str(k)
        shutil.copytree(runs / "lake" / "campaign", folder)
        damage(folder / name)
        assert campaign(folder, "--export", tmp_path / "x.npz", "--env-id", "FrozenLake-v1") == 2
        assert told(capsys).startswith("error: ")
        assert not (tmp_path / "x.npz").exists()
