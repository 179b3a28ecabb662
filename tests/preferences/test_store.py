"""The store against a list in memory; killed, damaged, locked, full, and written to by others."""

import copy
import dataclasses
import os
import random
import shutil
import signal
import sqlite3
import time

import numpy as np
import pytest

from rlentropy import FiniteMDP
from rlentropy.errors import InputError, OutputError
from rlentropy.preferences import database
from rlentropy.preferences.campaign import Campaign, Plan
from rlentropy.preferences.database import APPLICATION, FILE
from rlentropy.preferences.oracles import parse_oracle
from rlentropy.preferences.segments import Pairs, Segments
from rlentropy.preferences.store import IMPORTED, Reply, Store
from rlentropy.preferences.table_rewards import TableFeatures
from rlentropy.preferences.table_subject import TableSubject
from rlentropy.preferences.tables import LinearLogits, TablePolicy, TabularTask
from rlentropy.preferences.teaching import SimulatedTeacher
from rlentropy.preferences.training import Training

nan = float("nan")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def segments(rng, n, T=6, width=None):
    lengths = rng.integers(0, T + 1, n)
    shape = () if width is None else (width,)
    states = (
        rng.integers(64, size=(n, T + 1)) if width is None else rng.normal(size=(n, T + 1, width))
    )
    return Segments(
        states,
        rng.integers(4, size=(n, T, *shape)),
        rng.normal(size=(n, T)),
        lengths,
        lengths < T,
        rng.integers(100, size=n),
    )


def pairs(rng, n=4, **options):
    return Pairs(segments(rng, n, **options), segments(rng, n, **options))


def same(a, b):
    for name in ("states", "actions", "rewards", "lengths", "terminated", "starts"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.fixture(params=["folder", "memory"])
def folder(request, tmp_path):
    return tmp_path / "campaign" if request.param == "folder" else None


# ---------------------------------------------------------------- asking and answering


def test_a_round(folder, rng):
    store, asked = Store(folder, {"oracle": "return"}), pairs(rng, 5)
    assert store.latest() is None
    store.ask(0, asked, score=np.arange(5.0), margin=np.array([1.0, nan, 2, 3, 4]), policy="abc")
    assert store.latest() == 0
    assert store.pending(0) == [0, 1, 2, 3, 4]
    assert store.answer(0, 1, 0.5)
    assert store.answer(0, 0, nan, "anna", duration=1.5)
    assert store.pending(0) == [2, 3, 4]
    assert store.answer_all(0, 2, [1.0, 0.0, 0.7]) == 3
    assert not store.pending(0)
    np.testing.assert_array_equal(store.answers(0), [nan, 0.5, 1.0, 0.0, 0.7])
    assert store.count() == 4
    kept, y = store.labelled(0)
    np.testing.assert_array_equal(y, [0.5, 1.0, 0.0, 0.7])
    same(kept.a, asked.a.take([1, 2, 3, 4]))
    same(kept.b, asked.b.take([1, 2, 3, 4]))
    ids, repeats = store.identities(0)
    assert ids == asked.query_ids()
    assert repeats.tolist() == [0] * 5


def test_a_store_that_another_process_is_just_making_is_left_to_it(tmp_path, rng):
    database.Database(tmp_path / FILE).close()  # as far as it is
    with pytest.raises(InputError, match="campaign must be one that was begun, got the new"):
        Store(tmp_path, must_exist=True)
    store = Store(tmp_path, {"oracle": "human"})
    assert Store(tmp_path, must_exist=True).about == store.about


def test_the_first_answer_stands(folder, rng):
    store = Store(folder)
    store.ask(0, pairs(rng))
    assert store.answer(0, 2, 1.0)
    assert not store.answer(0, 2, 0.0)
    assert store.answer_all(0, 0, [0.0] * 4) == 3
    np.testing.assert_array_equal(store.answers(0), [0, 0, 1, 0])


def test_an_undo_deletes_nothing(folder, rng):
    store = Store(folder)
    store.ask(3, pairs(rng))
    assert store.undo(3) is None
    for position, value in ((1, 1.0), (0, nan), (2, 0.5)):
        store.answer(3, position, value)
    assert store.undo(3) == 2
    assert store.pending(3) == [2, 3]
    assert store.undo(3, 1, "anna") == 1
    assert store.undo(3, 1) is None
    assert store.answer(3, 1, 0.0)
    np.testing.assert_array_equal(store.answers(3), [nan, 0.0, nan, nan])
    assert store.pending(3) == [2, 3]
    rows = [row for row in store.records() if row["position"] == 1]
    assert [row["answer"] for row in rows] == ["a", "undo", "b"]
    assert [row["superseded_by"] for row in rows] == [rows[1]["id"], rows[2]["id"], None]
    assert rows[1]["labeller"] == "anna"
    assert store.undo(3) == 1  # the last that was given, not the last position


def test_nothing_is_taken_back_from_what_was_learnt(folder, rng):
    store = Store(folder)
    store.ask(0, pairs(rng, 2))
    store.answer(0, 0, 1.0)
    assert not store.settle(0)
    assert store.undo(0) == 0
    store.answer_all(0, 0, [1.0, nan])
    assert store.settle(0)
    assert store.undo(0) is None
    store.ask(0, pairs(rng, 1), first=2)  # for the skip
    store.answer(0, 2, 0.0)
    assert store.undo(0) == 2
    store.answer(0, 2, 0.0)
    store.ask(1, pairs(rng, 1))
    assert store.undo(0, 2) is None
    assert store.settle(0)


def test_mirrored_answers_are_kept_apart(folder, rng):
    store = Store(folder)
    store.ask(0, pairs(rng, 3))
    store.answer_all(0, 0, [1.0, 0.0, 1.0])
    assert store.settle(0)
    assert store.answer(0, 1, 1.0, asking="mirror")
    np.testing.assert_array_equal(store.answers(0), [1, 0, 1])
    np.testing.assert_array_equal(store.answers(0, asking="mirror"), [nan, 1, nan])
    assert store.count() == 3


def test_asking_again_changes_nothing(folder, rng):
    store, asked = Store(folder), pairs(rng)
    store.ask(0, asked, score=1.0)
    store.answer(0, 1, 1.0)
    before = list(store.records())
    store.ask(0, asked, score=2.0)
    assert list(store.records()) == before
    for other in (pairs(rng), asked.swapped(), asked.take([1, 0, 2, 3])):
        with pytest.raises(InputError, match=r"must be the one that is resumed, .* in round 0"):
            store.ask(0, other)
    assert list(store.records()) == before


def test_repeats_are_counted_in_either_order(folder, rng):
    store, asked = Store(folder), pairs(rng, 2)
    store.ask(0, asked)
    store.ask(0, asked.swapped().take([1]), first=2)
    store.ask(1, Pairs(*(getattr(asked, x).take([0, 0]) for x in "ab")))
    assert store.identities(0, 2)[1].tolist() == [1]
    ids, repeats = store.identities(1)
    assert ids == [asked.query_ids()[0]] * 2
    assert repeats.tolist() == [1, 2]


def test_sides(rng):
    store, asked = Store(None), pairs(rng, 200)
    store.ask(0, asked)
    left, ordered = store.sides(0)
    assert abs(left.mean() - 0.5) < 4 * 0.5 / np.sqrt(200)
    both = zip(asked.a.digests(), asked.b.digests(), strict=True)
    assert ordered.tolist() == [a <= b for a, b in both]
    assert [store.question(0, i).left for i in range(200)] == left.tolist()
    store.ask(1, asked, shown_left=~left)
    np.testing.assert_array_equal(store.sides(1, 50)[0], ~left[50:])


def test_columns_of_a_record(tmp_path, rng):
    store = Store(tmp_path, {"env_id": "X-v0", "env_kwargs": {"slip": 0.1}, "rule": "certainty"})
    asked = pairs(rng, 2)
    store.ask(0, asked, score=[0.5, nan], entropy=[1.0, 2.0], propensity=0.25, policy="hash")
    store.answer(0, 0, 0.0, "anna", duration=0.25)
    one, two = store.records()
    assert one["env_kwargs"] == {"slip": 0.1}
    assert (one["env_id"], one["rule"], one["schema"]) == ("X-v0", "certainty", 2)
    assert len(one["campaign"]) == 32
    assert one["gymnasium"].startswith("1.")
    assert one["start"] == str(asked.a.starts[0])
    assert one["segment_a"] == asked.a.digests()[0]
    assert (one["score"], two["score"], two["propensity"]) == (0.5, None, 0.25)
    assert (one["answer"], one["probability"], one["labeller"]) == ("b", 0.0, "anna")
    assert one["duration_ms"] == 250.0
    assert abs(one["answered_at"] - time.time()) < 60
    assert one["asked_at"] <= one["answered_at"]
    assert (two["answer"], two["superseded_by"]) == (None, None)


def test_wrong_arguments(folder, rng):
    store = Store(folder)
    with pytest.raises(InputError, match=r"columns must be of score, .* got margins"):
        store.ask(0, pairs(rng), margins=[1.0])
    with pytest.raises(InputError, match="margin must be one for each of 4 pairs, got 1"):
        store.ask(0, pairs(rng), margin=[1.0])
    with pytest.raises(InputError, match="shown_left must be one for each of 4 pairs, got 2"):
        store.ask(0, pairs(rng), shown_left=[True, False])
    store.ask(0, pairs(rng))
    for value in (-0.1, 1.1):
        with pytest.raises(InputError, match=r"answer must be in \[0, 1\]"):
            store.answer(0, 0, value)
    for round_, position in ((0, 4), (1, 0)):
        with pytest.raises(InputError, match=f"asked, got {position} of round {round_}"):
            store.answer(round_, position, 1.0)
        with pytest.raises(InputError, match=f"asked, got {position} of round {round_}"):
            store.question(round_, position)
    with pytest.raises(InputError, match="must have an answer, got none in round 0"):
        store.labelled(0)
    assert store.pending(0) == [0, 1, 2, 3]


# ---------------------------------------------------------------- what lasts


@pytest.mark.parametrize("width", [None, 3])
def test_round_trip_and_replay(tmp_path, rng, width):
    """What is read after a new start is what was written, bit for bit, of tables and networks."""
    store, kept = Store(tmp_path), []
    for k in range(3):
        asked, y = pairs(rng, 6, width=width), rng.choice([0.0, 0.5, 1.0, nan, 0.3], 6)
        y[0] = 1.0
        store.ask(k, asked)
        store.answer_all(k, 0, y)
        kept.append((asked, y))
    store.close()
    again = Store(tmp_path, must_exist=True)
    for k, (asked, y) in enumerate(kept):
        np.testing.assert_array_equal(again.answers(k), y)
        told = np.flatnonzero(~np.isnan(y))
        read, answers = again.labelled(k)
        np.testing.assert_array_equal(answers, y[told])
        same(read.a, asked.a.take(told))
        same(read.b, asked.b.take(told))
        assert read.a.states.dtype == asked.a.states.dtype
    assert again.about == store.about
    assert not list(tmp_path.rglob(".tmp-*"))


def campaign(store):
    """A small one, whose teacher is noisy and skips."""
    rng = np.random.default_rng(3)
    S, A = 6, 2
    P, r = rng.dirichlet(np.full(S, 0.3), (S, A)), rng.normal(size=(S, A))
    task = TabularTask.of(FiniteMDP(P, r, np.full(S, 1 / S)), 5)
    uniform, eye = np.full((S, A), 1 / A), np.eye(S)
    policy = TablePolicy(uniform, LinearLogits(eye, A, 0.1))
    subject = TableSubject(task, policy, TableFeatures(eye, task.starts, uniform, True), Training())
    reference = task.roll_out(uniform, task.prompts(200, rng), rng)
    spec = parse_oracle("bradley-terry:1std,mistake=0.1,skip=0.3,equal=0.1")
    teach = SimulatedTeacher(spec, reference, None, seed=1)
    plan = Plan(labels=40, batch_size=8, pool=4, acquisition="certainty")
    return Campaign(subject, plan, teach, store, np.random.default_rng(4))


def finished(agent):
    while agent.done < agent.plan.labels:
        agent.advance(1)
    return agent


def test_a_campaign_replays_to_the_same_weights(tmp_path):
    """In memory, in a folder, and in one where a killed process left answers and no checkpoint."""
    want = finished(campaign(Store(None)))
    assert want.costs["skipped"] > 0
    there = finished(campaign(Store(tmp_path / "one")))
    killed = campaign(Store(tmp_path / "two"))
    killed.advance(1)
    state = copy.deepcopy(killed.state_dict())
    killed.advance(1)
    killed.store.close()
    again = campaign(Store(tmp_path / "two", must_exist=True))
    again.load_state_dict(state)
    for other in (there, finished(again)):
        np.testing.assert_array_equal(other.subject.policy.pi, want.subject.policy.pi)
        assert other.curve == want.curve
        assert other.store.count() == other.labels == want.labels == 40
        assert len(list(other.store.records())) == 40 + want.costs["skipped"]


def test_segments_that_look_alike_share_a_file(tmp_path, rng):
    asked = pairs(rng, 4)
    store = Store(tmp_path)
    store.ask(0, asked)
    store.ask(1, Pairs(asked.a, asked.a))
    names = {path.stem for path in (tmp_path / "segments").iterdir()}
    assert names == {*asked.a.digests(), *asked.b.digests()}


@forks
def test_another_process_may_answer(tmp_path, rng):
    store = Store(tmp_path)
    store.ask(0, pairs(rng, 3))
    if (child := os.fork()) == 0:
        try:
            other = Store(tmp_path, must_exist=True)
            for position in other.pending(0):
                other.answer(0, position, 0.0, "child")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert not store.pending(0)
    np.testing.assert_array_equal(store.answers(0), [0, 0, 0])


def work(folder, seed, said):
    """Ask and answer as a campaign and its front end do, and say so after each that is written."""
    rng = np.random.default_rng(seed)
    store = Store(folder)
    for k in range(10**6):
        store.ask(k, pairs(np.random.default_rng(k), 3))
        for position in store.pending(k):
            os.write(said, f"asks {k} {position}\n".encode())
            value = float(rng.choice([0.0, 0.5, 1.0]))
            assert store.answer(k, position, value)
            os.write(said, f"told {k} {position} {value}\n".encode())
            if rng.random() < 0.2:
                assert store.undo(k) == position
                os.write(said, f"undo {k} {position}\n".encode())
                value = 1.0 - value
                assert store.answer(k, position, value)
                os.write(said, f"told {k} {position} {value}\n".encode())


def killed(folder, seed, seconds):
    """Let a process work for a while, kill it, and return what it said."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.close(read)
            work(folder, seed, write)
        finally:
            os._exit(1)
    os.close(write)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL  # it did not end by an error of its own
    with os.fdopen(read) as pipe:
        return [line.split() for line in pipe.read().splitlines()]


@forks
def test_killed_at_any_instant(tmp_path):
    """No answer that was acknowledged is lost, none is half there, no answered question comes up.

    What comes after the last acknowledgement may be there or not.
    """
    moments, known = random.Random(0), {}
    for attempt in range(20):
        said = killed(tmp_path, attempt, moments.uniform(0.0, 0.15))
        for what, k, position, *value in said:
            key = int(k), int(position)
            if what == "asks":
                assert known.get(key) is None, "an answered question was asked again"
            known[key] = float(value[0]) if what == "told" else None
        store = Store(tmp_path)
        last = store.latest()
        answered = {
            (k, i): y
            for k in range(-1 if last is None else last + 1)
            for i, y in enumerate(store.answers(k))
        }
        for key, value in known.items():
            if value is not None and said and key != tuple(map(int, said[-1][1:3])):
                assert answered[key] == value
        if said and said[-1][0] == "told":
            key = int(said[-1][1]), int(said[-1][2])
            assert answered[key] == float(said[-1][3]) or np.isnan(answered[key])  # by an undo
        for k in range(0 if last is None else last + 1):
            assert len(store.answers(k)) == 3, "a round was half asked"
            if k < last:
                assert not store.pending(k)
        # What the killed process had written when it could not say so any more is known now.
        known = {key: None if np.isnan(y) else y for key, y in answered.items()}
        store.close()
    store = Store(tmp_path)
    assert store.count() > 20
    for k in range(store.latest()):
        kept, y = store.labelled(k)
        want = pairs(np.random.default_rng(k), 3)
        assert kept.query_ids() == want.query_ids()
        assert len(y) == 3
    rows = list(store.records())
    standing = [(r["round"], r["position"]) for r in rows if r["superseded_by"] is None]
    assert len(standing) == len(set(standing))


# ---------------------------------------------------------------- what can go wrong


def test_folders_of_others(tmp_path, rng):
    with pytest.raises(InputError, match=f"campaign must be a folder with {FILE}, got"):
        Store(tmp_path / "none", must_exist=True)
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="out must be a writable folder"):
        Store(tmp_path / "file")
    Store(tmp_path / "one", {"env_id": "A-v0", "batch_size": 16}).close()
    Store(tmp_path / "one", {"env_id": "A-v0"}).close()
    with pytest.raises(InputError, match=r"campaign must be one of env_id B-v0, got .* of A-v0"):
        Store(tmp_path / "one", {"env_id": "B-v0"})
    (tmp_path / "two").mkdir()
    other = sqlite3.connect(tmp_path / "two" / FILE)
    other.execute("CREATE TABLE things (x)")
    other.close()
    with pytest.raises(InputError, match=r"of schema 2, got .* of application 0x0 and schema 0"):
        Store(tmp_path / "two")
    later = sqlite3.connect(tmp_path / "one" / FILE)
    later.execute("PRAGMA user_version = 3")
    later.close()
    with pytest.raises(InputError, match=f"of application {APPLICATION:#x} and schema 3"):
        Store(tmp_path / "one")


def test_a_full_disk(tmp_path, rng):
    store = Store(tmp_path)
    store.ask(0, pairs(rng))
    size = store.database.read("PRAGMA page_count")[0][0]
    store.database.read(f"PRAGMA max_page_count = {size}")
    rounds = ((k, pairs(rng)) for k in range(1, 100))
    with pytest.raises(OutputError, match=r"writable folder with free space, got .* full writing"):
        all(store.ask(*each) is None for each in rounds)
    last = store.latest()
    assert len(store.answers(last)) == 4
    store.database.read("PRAGMA max_page_count = 10000")
    store.ask(last + 1, pairs(rng))
    assert store.pending(last + 1) == [0, 1, 2, 3]


def test_a_disk_that_is_read_only(tmp_path, rng):
    store = Store(tmp_path)
    store.ask(0, pairs(rng))
    store.database.read("PRAGMA query_only = 1")
    with pytest.raises(OutputError, match=r"writable folder with free space, got .*readonly"):
        store.answer(0, 0, 1.0)


def test_another_process_that_never_ends_its_write(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(database, "PATIENCE", 0.05)
    store = Store(tmp_path)
    store.ask(0, pairs(rng))
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OutputError, match=r"must not be locked by another process for 0.05 s"):
        store.answer(0, 0, 1.0)
    assert store.pending(0) == [0, 1, 2, 3]  # who only reads does not wait
    other.execute("ROLLBACK")
    assert store.answer(0, 0, 1.0)


def test_streams_of_segments_are_kept_and_older_files_have_none(tmp_path, rng):
    a = dataclasses.replace(segments(rng, 2), streams=np.array([2**62, 7]))
    store = Store(tmp_path)
    store.ask(0, Pairs(a, segments(rng, 2)))
    digests = a.digests()
    np.testing.assert_array_equal(store.segments(digests).streams, [2**62, 7])
    path = tmp_path / "segments" / f"{digests[1]}.npz"
    arrays = dict(np.load(path))
    del arrays["streams"]
    np.savez(path, **arrays)
    found = store.segments(digests)
    np.testing.assert_array_equal(found.streams, [2**62, 0])
    same(found, a)
    np.savez(path, **arrays, streams=np.zeros((1, 2), np.int64))
    with pytest.raises(InputError, match="run must hold a readable "):
        store.segments(digests)


def test_damaged_segments(tmp_path, rng):
    store, asked = Store(tmp_path), pairs(rng, 2)
    store.ask(0, asked)
    store.answer_all(0, 0, [1.0, 0.0])
    files = [tmp_path / "segments" / f"{digest}.npz" for digest in asked.a.digests()]
    content = files[0].read_bytes()
    files[0].write_bytes(content[:-40])
    with pytest.raises(InputError, match=f"must hold a readable {files[0].name}, got"):
        store.labelled(0)
    files[0].write_bytes(files[1].read_bytes())
    with pytest.raises(InputError, match="it shows another segment than its name says"):
        store.labelled(0)
    with np.load(files[1]) as arrays:
        np.savez(files[0], **{**arrays, "lengths": np.array([99])})
    with pytest.raises(InputError, match="its arrays are"):
        store.labelled(0)
    files[0].unlink()
    with pytest.raises(InputError, match="campaign must hold its segments, got no"):
        store.labelled(0)
    files[0].write_bytes(content)
    store.labelled(0)


def test_a_damaged_file_is_one_line_or_right(tmp_path, rng):
    store, y = Store(tmp_path / "whole"), rng.choice([0.0, 0.5, 1.0], 40)
    asked = pairs(rng, 40)
    store.ask(0, asked)
    store.answer_all(0, 0, y)
    store.close()
    content = (tmp_path / "whole" / FILE).read_bytes()
    refused = 0
    for attempt in range(60):
        bad = bytearray(content)
        if attempt % 3:
            for place in rng.integers(len(bad), size=int(rng.integers(1, 40))):
                bad[place] = int(rng.integers(256))
        else:
            del bad[int(rng.integers(1, len(bad))) :]
        folder = tmp_path / str(attempt)
        folder.mkdir()
        (folder / FILE).write_bytes(bad)
        try:
            broken = Store(folder, must_exist=True)
            broken.answers(0), broken.pending(0), broken.count(), list(broken.records())
            broken.identities(0), broken.sides(0), broken.settle(0)
        except InputError:
            refused += 1
        shutil.rmtree(folder)
    assert refused > 20


def test_a_round_in_memory_is_quick(rng):
    store, times = Store(None), []
    for k in range(60):
        asked, score, y = pairs(rng, 16, T=20), rng.random(16), rng.random(16).round()
        begin = time.perf_counter()
        store.ask(k, asked, score=score, margin=score, propensity=score)
        assert store.pending(k)
        store.identities(k)
        store.answer_all(k, 0, y)
        store.answers(k)
        times.append(time.perf_counter() - begin)
    assert min(times) < 0.5e-3


def test_replies_are_written_together_or_not_at_all(tmp_path, rng):
    store = Store(tmp_path)
    store.ask(0, pairs(rng, 3))
    store.ask(IMPORTED, pairs(rng, 2))
    several = [
        Reply(0, 2, 1.0, "anna", 2.5, reason="状态"),
        Reply(0, 2, 0.0, "bert"),  # late, in one batch with the first
        Reply(IMPORTED, 1, nan, "bert", asking="second"),
    ]
    with pytest.raises(InputError, match="question must have been asked, got 3 of round 0"):
        store.reply([*several, Reply(0, 3, 1.0)])
    with pytest.raises(InputError, match="answer must be in"):
        store.reply([*several, Reply(0, 1, 1.5)])
    assert all(row["answer"] is None for row in store.records())
    assert store.reply(several) == [True, False, True]
    found = [row for row in Store(tmp_path).records() if row["answer"]]
    assert [(r["round"], r["position"], r["labeller"], r["answer"]) for r in found] == [
        (IMPORTED, 1, "bert", "skip"), (0, 2, "anna", "a"),
    ]  # fmt: skip
    assert (found[1]["duration_ms"], found[1]["reason"]) == (2500.0, "状态")


def test_what_was_imported_is_no_round_and_costs_nothing(rng):
    store = Store(None)
    store.ask(IMPORTED, pairs(rng, 2))
    store.answer_all(IMPORTED, 0, [1.0, 0.0])
    assert (store.latest(), store.count()) == (None, 0)
    store.ask(0, pairs(rng, 1))
    store.answer(0, 0, 0.0)
    assert (store.latest(), store.count()) == (0, 1)
