"""The outer loop, driven with agents that count and draw."""

import json
import time

import numpy as np
import pytest

from rlentropy.errors import InputError
from rlentropy.log import Interrupted, Log, drive


class Walk:
    """A random walk that comes in batches, and stops where it is sure."""

    def __init__(self, batch=1, steps=1, sure=10**9, figures=False, seconds=0.0):
        self.batch, self.steps, self.sure = batch, steps, sure
        self.figures, self.seconds = figures, seconds
        self.done, self.place = 0, 0.0
        self.rng = np.random.default_rng(7)
        self.asked = []

    @property
    def step(self):
        return self.done * self.steps

    @property
    def stopped(self):
        return self.done >= self.sure

    def advance(self, units):
        assert units >= 1
        self.asked.append(units)
        batches = max(1, units // self.batch)
        for _ in range(min(batches, self.sure - self.done)):
            time.sleep(self.seconds)
            self.place += self.rng.normal()
            self.done += self.batch
        return {"train/place": self.place} if self.figures else None

    def state_dict(self):
        return {"done": self.done, "walk": {"place": self.place, "rng": self.rng}}

    def load_state_dict(self, state):
        self.done = state["done"]
        self.place, self.rng = state["walk"]["place"], state["walk"]["rng"]


class Evaluation:
    """Tags of a walk, its place as score, and how often it was asked."""

    def __init__(self, agent):
        self.agent, self.calls = agent, []

    def __call__(self):
        self.calls.append(self.agent.done)
        return {"eval/place": self.agent.place}, (self.agent.done, self.agent.place)


def walk(
    folder, total, *, log=None, first=False, unit=None, agent=None, last_differs=False, **schedule
):
    """Drive a walk; its evaluation, its score, and the lines of its log."""
    agent = agent or Walk()
    log = log or Log(folder, **schedule)
    evaluate = Evaluation(agent)
    try:
        score = drive(
            agent, log, evaluate, total=total, budget="steps", unit=unit, evaluate_first=first,
            last_differs=last_differs,
        )  # fmt: skip
    finally:
        log.close()
    return evaluate, score, lines(folder)


def lines(folder, clock=False):
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [
        (row["tag"], row["step"], row["value"])
        for row in rows
        if clock or not row["tag"].startswith("time/")
    ]


def steps_of(rows, tag="eval/place"):
    return [step for name, step, _ in rows if name == tag]


class Killed(Exception):
    """The process is gone."""


# ---------------------------------------------------------------- evaluations


def test_evaluations_are_on_schedule_and_at_the_end(tmp_path):
    evaluate, score, rows = walk(tmp_path, 25, eval_every=10)
    assert steps_of(rows) == evaluate.calls == [10, 20, 25]
    assert score == (25, rows[-1][2])


def test_the_geometric_schedule_needs_no_budget(tmp_path):
    _, _, rows = walk(tmp_path, 50)
    assert steps_of(rows) == [1, 2, 3, 4, 6, 7, 10, 13, 18, 24, 32, 42, 50]


def test_the_final_policy_is_scored_once_where_an_evaluation_is_due(tmp_path):
    evaluate, _, rows = walk(tmp_path, 20, eval_every=10)
    assert steps_of(rows) == evaluate.calls == [10, 20]


def test_batches_larger_than_the_schedule(tmp_path):
    """One evaluation a batch in which any fell due, and none in the others."""
    _, _, rows = walk(tmp_path / "a", 70, agent=Walk(batch=32), eval_every=10)
    assert steps_of(rows) == [32, 64, 96]
    _, _, rows = walk(tmp_path / "b", 200, agent=Walk(batch=32), eval_every=50)
    assert steps_of(rows) == [64, 128, 160, 224]


def test_an_evaluation_before_anything(tmp_path):
    evaluate, _, rows = walk(tmp_path / "a", 12, first=True, eval_every=10)
    assert steps_of(rows) == evaluate.calls == [0, 10, 12]
    evaluate, score, rows = walk(tmp_path / "b", 0, first=True)
    assert (steps_of(rows), evaluate.calls, score) == ([0], [0], (0, 0.0))


@pytest.mark.parametrize("sure", [1, 17, 20])
def test_an_agent_that_is_sure_ends_at_once(tmp_path, sure):
    evaluate, score, rows = walk(tmp_path, 100, agent=Walk(sure=sure), eval_every=10)
    assert evaluate.calls[-1] == score[0] == sure
    assert steps_of(rows) == sorted({10, sure} if sure > 10 else {sure})


def test_an_agent_that_is_sure_from_the_start_is_scored(tmp_path):
    evaluate, score, rows = walk(tmp_path, 10, agent=Walk(sure=0))
    assert (evaluate.calls, score, steps_of(rows)) == ([0], (0, 0.0), [0])


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    agent = Walk()
    evaluate = Evaluation(agent)
    assert drive(agent, Log(None), evaluate, total=9, budget="steps") == (9, agent.place)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- what is logged, and where


def test_steps_are_the_agents_and_speed_is_in_its_unit(tmp_path):
    agent = Walk(steps=5, seconds=0.001)
    walk(tmp_path, 40, agent=agent, unit="steps", eval_every=20)
    rows = lines(tmp_path, clock=True)
    assert [row[:2] for row in rows] == [
        ("eval/place", 100),
        ("time/steps_per_second", 100),
        ("eval/place", 200),
        ("time/steps_per_second", 200),
    ]
    assert all(0.0 < row[2] < 5_000.0 for row in rows if row[0].startswith("time/"))


def test_figures_of_an_agent_are_logged_after_every_call(tmp_path):
    agent = Walk(batch=4, figures=True)
    walk(tmp_path, 20, agent=agent, eval_every=16)
    rows = [row[:2] for row in lines(tmp_path, clock=True)]
    each = [[("train/place", n), ("time/steps_per_second", n)] for n in (4, 8, 12, 16, 20)]
    each[3].append(("eval/place", 16))
    each[4].append(("eval/place", 20))
    assert rows == [row for rows in each for row in rows]


def test_progress_and_chunks_of_a_tenth_of_a_second(tmp_path):
    log, seen, agent = Log(tmp_path, eval_every=1_000), [], Walk(seconds=0.001)
    log.on_progress = lambda done, total: seen.append((done, total))
    walk(tmp_path, 300, log=log, agent=agent)
    assert seen[-1] == (300, 300)
    assert [total for _, total in seen] == [300] * len(seen)
    assert agent.asked[:4] == [1, 2, 4, 8]
    assert max(agent.asked) <= 100


# ---------------------------------------------------------------- checkpoints


def test_checkpoints_at_multiples_and_at_the_end(tmp_path, monkeypatch):
    saved, checkpoint = [], Log.checkpoint
    monkeypatch.setattr(
        Log,
        "checkpoint",
        lambda log, state, *cut: (
            saved.append(state["agent"]["done"]),
            checkpoint(log, state, *cut),
        ),
    )
    walk(tmp_path / "a", 20, checkpoint_every=6)
    assert saved == [6, 12, 18, 20]
    saved.clear()
    walk(tmp_path / "b", 100, agent=Walk(batch=32), checkpoint_every=50)
    assert saved == [64, 128]  # the last is the end
    saved.clear()
    walk(tmp_path / "c", 40, eval_every=10)
    assert saved == [40]


def test_checkpoints_by_the_clock(tmp_path, monkeypatch):
    saved, checkpoint = [], Log.checkpoint
    monkeypatch.setattr("rlentropy.log.writer.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(
        Log,
        "checkpoint",
        lambda log, state, *cut: (
            saved.append(state["agent"]["done"]),
            checkpoint(log, state, *cut),
        ),
    )
    walk(tmp_path, 5, eval_every=1)
    assert saved == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("at", [1, 10, 29, 48])
def test_killed_anywhere_it_ends_as_if_it_had_not_been(tmp_path, monkeypatch, batch, at):
    """A kill after any line of the log; generators and places are as they were."""
    schedule = {"eval_every": 7, "checkpoint_every": 5}

    def agent():
        return Walk(batch=batch, figures=batch > 1)

    whole = walk(tmp_path / "whole", 40, agent=agent(), **schedule)
    scalar, calls = Log.scalar, []

    def killed(log, tag, value, step):
        calls.append(tag)
        if len(calls) == at:
            raise Killed
        scalar(log, tag, value, step)

    with monkeypatch.context() as patch:
        patch.setattr(Log, "scalar", killed)
        try:
            walk(tmp_path / "broken", 40, agent=agent(), **schedule)
        except Killed:
            pass
        else:
            assert len(calls) < at
    again = walk(tmp_path / "broken", 40, agent=agent(), **schedule)
    assert again[1:] == whole[1:]


def test_interrupted_it_saves_and_says_so(tmp_path):
    log, agent = Log(tmp_path, eval_every=10), Walk()
    log.on_progress = lambda done, total: setattr(log, "interrupted", done >= 20)
    with pytest.raises(Interrupted):
        walk(tmp_path, 40, log=log, agent=agent)
    assert log.saved
    assert agent.done == 20
    whole = walk(tmp_path / "whole", 40, eval_every=10)
    assert walk(tmp_path, 40, eval_every=10)[1:] == whole[1:]


def test_interrupted_at_its_end_it_ends(tmp_path):
    log = Log(tmp_path, eval_every=10)
    log.on_progress = lambda done, total: setattr(log, "interrupted", done == total)
    assert walk(tmp_path, 20, log=log)[1][0] == 20


# ---------------------------------------------------------------- resumed


def test_resumed_with_nothing_left_it_is_scored_and_not_logged_again(tmp_path):
    _, score, rows = walk(tmp_path, 20, eval_every=8)
    evaluate, again, same = walk(tmp_path, 20, eval_every=8)
    assert evaluate.calls == [20]
    assert (again, same) == (score, rows)


def test_a_run_that_is_sure_stays_so(tmp_path):
    _, score, rows = walk(tmp_path, 50, agent=Walk(sure=13))
    evaluate, again, same = walk(tmp_path, 90, agent=Walk(sure=13))
    assert evaluate.calls == [13]
    assert (again, same) == (score, rows)


def test_a_longer_budget_goes_on(tmp_path):
    walk(tmp_path / "parts", 25, eval_every=10)
    _, score, rows = walk(tmp_path / "parts", 45, eval_every=10)
    _, whole, expected = walk(tmp_path / "whole", 45, eval_every=10)
    assert score == whole
    assert [row for row in rows if row[1] != 25] == expected
    assert steps_of(rows) == [10, 20, 25, 30, 40, 45]


def test_a_longer_budget_drops_an_end_that_differs(tmp_path):
    walk(tmp_path / "parts", 25, eval_every=10, last_differs=True)
    assert steps_of(lines(tmp_path / "parts")) == [10, 20, 25]
    walk(tmp_path / "parts", 25, eval_every=10, last_differs=True)  # nothing left to do
    assert steps_of(lines(tmp_path / "parts")) == [10, 20, 25]
    found = walk(tmp_path / "parts", 45, eval_every=10, last_differs=True)
    assert found[1:] == walk(tmp_path / "whole", 45, eval_every=10, last_differs=True)[1:]


def test_a_budget_below_what_is_done_is_refused(tmp_path):
    walk(tmp_path, 20)
    with pytest.raises(InputError, match="steps must be >= 20, which the run has done, got 19"):
        walk(tmp_path, 19)
    walk(tmp_path, 20)


def test_batches_beyond_their_budget_are_no_reason_to_refuse_it(tmp_path):
    walk(tmp_path, 20, agent=Walk(batch=16))
    assert walk(tmp_path, 20, agent=Walk(batch=16))[1][0] == 32
    assert walk(tmp_path, 30, agent=Walk(batch=16))[1][0] == 32
    with pytest.raises(InputError, match="steps must be >= 32, which the run has done, got 16"):
        walk(tmp_path, 16, agent=Walk(batch=16))


def test_a_smaller_budget_that_is_not_spent_yet_is_taken(tmp_path):
    log = Log(tmp_path)
    log.on_progress = lambda done, total: setattr(log, "interrupted", done >= 6)
    with pytest.raises(Interrupted):
        walk(tmp_path, 40, log=log)
    _, score, rows = walk(tmp_path, 10)
    assert score[0] == 10
    assert rows == walk(tmp_path / "whole", 10)[2]
