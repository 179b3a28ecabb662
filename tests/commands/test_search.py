"""A search: what becomes of its trials, by an engine that makes them up, and by a real one."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest

from rlentropy.cli import main
from rlentropy.commands import search as module
from rlentropy.commands.board import Board
from rlentropy.commands.engines import Outcome, Progress
from rlentropy.commands.options import parse
from rlentropy.commands.search import BEST, MARK, STUDY, Search, toml_lines
from rlentropy.commands.space import Space
from rlentropy.errors import InputError
from rlentropy.exploration import entgame

optuna = pytest.importorskip("optuna", reason="the extra tune is not installed")

SPACE = Space(
    "entgame",
    "rlentropy/DoubleChain-v0",
    {"prior": {"low": 0.1, "high": 10.0, "log": True}, "bonus": {"choices": ["none", "code"]}},
    {"episodes": 100, "horizon": 4},
    metric="eval/gap",
    direction="minimize",
    trials=6,
    seeds=[5, 6],
)


def setting(job, name):
    return job.argv[job.argv.index(f"--{name}") + 1]


class Made:
    """An engine whose runs log what a function of the job says, one evaluation a tick."""

    def __init__(self, curve, workers=1):
        self.curve, self.workers, self.asked, self.ran = curve, workers, set(), []

    def stop(self, job):
        self.asked.add(job)

    def run(self, take):
        running = {}
        while True:
            while len(running) < self.workers and (job := take()) is not None:
                running[job] = self.curve(job)
                self.ran.append(job)
                job.folder.mkdir(parents=True, exist_ok=True)
                (job.folder / "metrics.jsonl").write_text("")
                yield Progress(job, "here", 0.0, "")
            if not running:
                return
            for job, left in list(running.items()):
                if job in self.asked or not left:
                    del running[job]
                    yield Outcome(job, "stopped" if job in self.asked else "done", "", "", 1.0)
                elif left == "breaks":
                    del running[job]
                    yield Outcome(job, "failed", "broken", "it broke", 1.0)
                else:
                    running[job] = left[1:]
                    line = {"tag": "eval/gap", "step": 1, "value": left[0]}
                    with (job.folder / "metrics.jsonl").open("a") as file:
                        file.write(json.dumps(line) + "\n")
            yield None


def go(search, engine, most=None):
    """Run a search, or so many of its events."""
    board = Board(search.runs_left, quiet=True)
    for k, event in enumerate(engine.run(search.take)):
        search.heard(event, engine, board)
        if k == most:
            break
    return board


def states(search):
    return [trial.state.name for trial in search.study.trials]


def falling(job):
    """Four evaluations, the last the distance of log prior from log 2, and more for seed 6."""
    end = abs(np.log(float(setting(job, "prior"))) - np.log(2.0)) + 0.1 * (job.seed == 6)
    return [end + 3.0, end + 2.0, end + 1.0, end]


# ---------------------------------------------------------------- trials


def test_a_trial_is_the_mean_of_its_seeds(tmp_path):
    search = Search(SPACE, tmp_path)
    engine = Made(falling)
    board = go(search, engine)
    assert states(search) == ["COMPLETE"] * 6
    assert [(job.label, job.seed) for job in engine.ran[:4]] == [
        *(("trial0000", 5), ("trial0000", 6), ("trial0001", 5), ("trial0001", 6)),
    ]
    assert (board.ends, board.total) == (12, 12)
    for trial in search.study.trials:
        end = abs(np.log(trial.params["prior"]) - np.log(2.0))
        assert trial.value == pytest.approx(end + 0.05)
        # The n-th evaluation of the trial: of the second seed averaged with the first's end.
        seen = [end + 3, end + 2, end + 1, end]
        seen += [end + 0.05 + x / 2 for x in (3, 2, 1, 0)]
        assert list(trial.intermediate_values.values()) == pytest.approx(seen)
        assert list(trial.intermediate_values) == list(range(1, 9))
    assert search.study.trials[0].params == {"prior": 1.0, "bonus": "none"}  # the defaults


def test_what_was_found_is_written(tmp_path, monkeypatch):
    search = Search(SPACE, tmp_path)
    go(search, Made(falling))
    lines = list(search.report())
    assert lines[0] == "6 complete, 0 pruned, 0 fail"
    best = tomllib.loads((tmp_path / BEST).read_text())
    trial = min(search.study.trials, key=lambda t: t.value)
    assert best == {
        "env_id": SPACE.env_id,
        **SPACE.options,
        "prior": trial.params["prior"],
        "bonus": trial.params["bonus"],
    }
    options, config = parse("entgame", entgame.Config, ["--config", str(tmp_path / BEST)])
    assert (options.env_id, config.prior) == (SPACE.env_id, trial.params["prior"])
    table = (tmp_path / "trials.csv").read_text().splitlines()
    assert table[0] == "trial,state,eval/gap,seconds,prior,bonus"
    assert len(table) == 7
    for name in ("history", "importance", "settings"):
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


def test_bad_trials_are_pruned_and_marked(tmp_path, monkeypatch):
    """By the median of those before at the same evaluation, from the third on."""
    monkeypatch.setattr(module, "STARTUP", 2)
    monkeypatch.setattr(module, "WARMUP", 2)
    search = Search(SPACE, tmp_path)

    def curve(job):
        bad = job.label in ("trial0003", "trial0005")
        return [9.0 + 10 * bad - k for k in range(6)]

    board = go(search, Made(curve))
    assert states(search) == [*["COMPLETE"] * 3, "PRUNED", "COMPLETE", "PRUNED"]
    assert (board.ends, board.total) == (10, 10)  # the second seeds of the pruned ones are not run
    marks = sorted(tmp_path.glob(f"**/{MARK}"))
    assert [path.parts[-3:-1] for path in marks] == [("trial0003", "seed5"), ("trial0005", "seed5")]
    assert json.loads(marks[0].read_text()) == {"trial": 3, "evaluations": 3}
    assert search.study.trials[3].intermediate_values == {1: 19.0, 2: 18.0, 3: 17.0}
    assert Space(**SPACE.__dict__ | {"prune": "none"}) != SPACE


def test_nothing_is_pruned_where_that_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STARTUP", 1)
    monkeypatch.setattr(module, "WARMUP", 0)
    search = Search(Space(**SPACE.__dict__ | {"prune": "none"}), tmp_path)
    go(search, Made(lambda job: [float(job.label[-1])] * 3))
    assert states(search) == ["COMPLETE"] * 6


def test_a_failed_run_fails_its_trial_alone(tmp_path):
    search = Search(SPACE, tmp_path)
    board = go(search, Made(lambda job: "breaks" if job.label == "trial0001" else falling(job)))
    assert states(search) == ["COMPLETE", "FAIL", *["COMPLETE"] * 4]
    assert [(o.job.label, o.why) for o in search.failed] == [("trial0001", "broken")]
    assert (board.ends, board.total) == (11, 11)


def test_scores_that_are_not_finite(tmp_path):
    search = Search(SPACE, tmp_path)
    go(search, Made(lambda job: [None] if job.label == "trial0002" else falling(job)))
    assert states(search)[2] == "FAIL"
    assert next(search.report()) == "5 complete, 0 pruned, 1 fail"


def test_a_metric_that_nobody_logs(tmp_path):
    search = Search(Space(**SPACE.__dict__ | {"metric": "eval/gappe"}), tmp_path)
    with pytest.raises(InputError, match="metric must be a tag that entgame logs"):
        go(search, Made(falling))


def test_trials_side_by_side(tmp_path):
    search = Search(SPACE, tmp_path)
    engine = Made(falling, workers=4)
    go(search, engine)
    assert states(search) == ["COMPLETE"] * 6
    assert {job.label for job in engine.ran[:4]} == {f"trial000{k}" for k in range(4)}


# ---------------------------------------------------------------- going on


def test_a_search_goes_on_where_it_was_cut(tmp_path):
    """Trials under way are taken up, with what they had reported; no first draw comes twice."""
    go(Search(SPACE, tmp_path), Made(falling, workers=2), most=20)
    cut = Search(SPACE, tmp_path)
    under_way = [t.number for t in cut.study.trials if t.state.name == "RUNNING"]
    assert len(under_way) == 2
    assert cut.runs_left == 2 * (6 - sum(t.state.is_finished() for t in cut.study.trials))
    engine = Made(falling)
    go(cut, engine)
    assert states(cut) == ["COMPLETE"] * 6
    assert {int(job.label[-4:]) for job in engine.ran[:4]} == set(under_way)
    drawn = [trial.params["prior"] for trial in cut.study.trials]
    assert len(set(drawn)) == 6
    for trial in cut.study.trials:
        assert list(trial.intermediate_values) == list(range(1, 9))
    more = Search(SPACE, tmp_path, trials=8)
    go(more, Made(falling))
    assert states(more) == ["COMPLETE"] * 8
    assert Search(SPACE, tmp_path).take() is None


def test_a_trial_that_was_killed_while_it_was_drawn(tmp_path):
    Search(SPACE, tmp_path).study.ask()  # without its settings
    search = Search(SPACE, tmp_path)
    assert states(search) == ["FAIL"]
    go(search, Made(falling))
    assert states(search) == ["FAIL", *["COMPLETE"] * 5]


def test_another_space_is_refused(tmp_path):
    Search(SPACE, tmp_path)
    Search(Space(**SPACE.__dict__ | {"trials": 9, "prune": "none"}), tmp_path)
    with pytest.raises(InputError, match="metric must be 'eval/gap' as when the study in"):
        Search(Space(**SPACE.__dict__ | {"metric": "eval/return"}), tmp_path)


def test_a_study_that_is_none(tmp_path):
    (tmp_path / STUDY).write_text("something else, and long enough to be read as a database" * 50)
    with pytest.raises(InputError, match="out must hold a study of ours, or none") as error:
        Search(SPACE, tmp_path)
    assert "\n" not in str(error.value)


def test_without_optuna(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'rlentropy\[tune\]'"):
        Search(SPACE, tmp_path)


def test_toml_lines():
    table = {"a": 1e-05, "b": [64, 32], "c": 'x"y', "d": True, "env_kwargs": {"k": 1}}
    read = tomllib.loads("\n".join(toml_lines(table)))
    assert read == table | {"env_kwargs": '{"k": 1}'}


# ---------------------------------------------------------------- from outside

FILE = """
command = "entgame"
env_id = "rlentropy/GridWorld-v0"
metric = "eval/gap"
direction = "minimize"
trials = 5
[options]
episodes = 400
horizon = 10
checkpoint_every = 100
[space]
prior = { low = 0.1, high = 10.0, log = true }
"""


def test_options_that_belong_to_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text(FILE)
    assert main(["sweep", "--search", "s.toml", "--seeds", "3"]) == 2
    assert "seeds must be left out with --search" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_search_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text(FILE)
    code = "import sys; from rlentropy.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "sweep", "--search", "s.toml", "--workers", "1"]
    process = subprocess.Popen([*command, "--quiet"])
    found, end = Path("results/search/s"), time.monotonic() + 120
    while len(list(found.glob("**/summary.json"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert again.returncode == 0, again.stderr
    assert "5 complete, 0 pruned, 0 fail" in again.stdout
    assert len(list(found.glob("*/trial*/seed0/summary.json"))) == 5
    assert (found / BEST).exists()
    assert not list(found.glob("**/.tmp-*"))


# ---------------------------------------------------------------- finalists


def test_finalists_are_judged_on_further_seeds(tmp_path):
    """The best of few seeds was lucky: on further ones the second is better."""
    space = Space(**SPACE.__dict__ | {"finalists": 2, "final_seeds": [10, 11]})
    luck = {"trial0003": (0.0, 5.0), "trial0001": (1.0, 2.0)}  # at first, and later
    luck["trial0000"] = (9.0, 3.0)  # the defaults, which are always among them

    def curve(job):
        first, later = luck.get(job.label, (3.0, 0.0))
        return [first if job.seed < 10 else later + 0.5 * (job.seed == 11)]

    search = Search(space, tmp_path)
    engine = Made(curve)
    assert search.runs_left == 6 * 2 + 3 * 2
    board = go(search, engine)
    assert (board.ends, board.total) == (18, 18)
    assert [(job.label, job.seed) for job in engine.ran[-6:]] == [
        *(("trial0003", 10), ("trial0001", 10), ("trial0000", 10)),
        *(("trial0003", 11), ("trial0001", 11), ("trial0000", 11)),
    ]
    assert search.finals() == {1: 2.25, 0: 3.25, 3: 5.25}
    lines = list(search.report())
    assert lines[1:3] == ["finalist 1: 2.25", "finalist 0 (the defaults): 3.25"]
    assert lines[4] == "best: 2.25 in trial 1, the mean of 2 further seeds"
    best = tomllib.loads((tmp_path / BEST).read_text())
    assert best["prior"] == search.study.trials[1].params["prior"]
    rows = (tmp_path / "trials.csv").read_text().splitlines()
    assert rows[0].split(",")[:4] == ["trial", "state", "eval/gap", "final"]
    assert [row.split(",")[3] for row in rows[1:]] == ["3.25", "2.25", "", "5.25", "", ""]


def test_finals_go_on_after_a_kill_and_a_failure_is_no_winner(tmp_path):
    space = Space(**SPACE.__dict__ | {"finalists": 2, "final_seeds": [10, 11]})
    go(Search(SPACE, tmp_path), Made(falling))
    search = Search(space, tmp_path)
    assert search.finals() == {}
    assert search.runs_left == 6
    go(search, Made(falling), most=5)
    assert search.finals() == {}  # not all have ended
    again = Search(space, tmp_path)
    first = again._finalists()[0].label
    go(again, Made(lambda job: "breaks" if job.label == first else falling(job)))
    assert len(again.finals()) == 2
    assert len(again.failed) == 2
    assert int(first[-4:]) not in again.finals()
