"""Answers and pairs from elsewhere: what they mean, what is refused, and that nothing is halved."""

import json
import multiprocessing
import re
import sqlite3
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete

from rlentropy.errors import InputError
from rlentropy.files import csv_table
from rlentropy.log import Log
from rlentropy.preferences import active_preference
from rlentropy.preferences.active_preference import Config
from rlentropy.preferences.beliefs import Belief
from rlentropy.preferences.export import answers_table, checked, json_lines
from rlentropy.preferences.imports import Imported, import_answers, import_pairs, labelled_pairs
from rlentropy.preferences.rows import Row
from rlentropy.preferences.segments import Pairs, Segments
from rlentropy.preferences.store import IMPORTED, Reply, Store
from rlentropy.preferences.table_subject import TableSubject
from rlentropy.preferences.units import Units

nan = float("nan")
UNITS = Units(Discrete(64), Discrete(4), tabular=True, num_states=64)
T = 3


def pairs(rng, n):
    start = rng.integers(64, size=n)

    def some():
        states = rng.integers(64, size=(n, T + 1))
        states[:, 0] = start
        return Segments(
            states, rng.integers(4, size=(n, T)), np.zeros((n, T)), np.full(n, T),
            np.zeros(n, bool), start,
        )  # fmt: skip

    return Pairs(some(), some())


def asked(folder, rng, n=6, **columns):
    store = Store(folder, {"oracle": "human"})
    store.ask(0, pairs(rng, n), shown_left=[i % 2 == 0 for i in range(n)], **columns)
    return store


def given(store):
    """(position, asking) → answer, probability, labeller, of what stands."""
    return {
        (r["position"], r["asking"]): (r["answer"], r["probability"], r["labeller"])
        for r in store.records()
        if r["superseded_by"] is None and r["answer"] not in (None, "undo")
    }


def write(path, rows):
    if path.suffix == ".csv":
        names = list(dict.fromkeys(name for row in rows for name in row))
        path.write_bytes(csv_table([{name: row.get(name) for name in names} for row in rows]))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_answers_mean_what_was_shown(tmp_path, rng, suffix):
    store = asked(tmp_path, rng)  # a is left at even positions
    ids, _ = store.identities(0)
    rows = [
        {"query_id": ids[0], "answer": "a", "labeller": "anna", "seconds": 2.5, "reason": "=1+1"},
        {"round": 0, "position": 1, "answer": "LEFT", "labeller": "状态 🙂"},
        {"query_id": ids[2], "round": 0, "position": 2, "answer": "right", "labeller": "bert"},
        {"query_id": ids[3], "answer": 0.75, "labeller": "bert"},
        {"query_id": ids[4], "answer": "skip", "labeller": "bert"},
        {"query_id": ids[1], "answer": "left", "labeller": "anna", "asking": "mirror"},
        {"query_id": ids[5], "answer": "", "labeller": ""},
        {"query_id": ids[0], "answer": "equal", "labeller": "bert", "asking": "second"},
    ]
    assert import_answers(store, write(tmp_path / f"in{suffix}", rows)) == Imported(7, 0, 1)
    assert given(store) == {
        (0, "label"): ("a", 1.0, "anna"), (1, "label"): ("b", 0.0, "状态 🙂"),
        (2, "label"): ("b", 0.0, "bert"), (3, "label"): ("a", 0.75, "bert"),
        (4, "label"): ("skip", None, "bert"), (1, "mirror"): ("a", 1.0, "anna"),
        (0, "second"): ("tie", 0.5, "bert"),
    }  # fmt: skip
    first = next(r for r in store.records() if r["position"] == 0)
    assert (first["duration_ms"], first["reason"]) == (2500.0, "=1+1")
    again = [{"query_id": ids[0], "answer": "b", "labeller": "carl"}]
    assert import_answers(store, write(tmp_path / f"in{suffix}", again)) == Imported(0, 1, 0)
    assert given(store)[0, "label"] == ("a", 1.0, "anna")


def test_an_exported_table_can_be_filled_in(tmp_path, rng):
    """By whoever opens it elsewhere, here with a text editor's means."""
    store = asked(tmp_path, rng)
    store.answer(0, 1, 1.0, "anna", 3.0)
    store.undo(0, 1, "anna")
    text = answers_table(store).decode().splitlines()
    names = text[0].split(",")
    filled = [text[0]]
    for line in text[1:]:
        cells = line.split(",")
        if cells[names.index("answer")] == "":
            cells[names.index("answer")], cells[names.index("labeller")] = "b", "bert"
        filled.append(",".join(cells))
    (tmp_path / "filled.csv").write_text("\n".join(filled))
    assert import_answers(store, tmp_path / "filled.csv") == Imported(5, 0, 2)
    assert {key[0]: value[0] for key, value in given(store).items()} == dict.fromkeys(
        (0, 2, 3, 4, 5), "b"
    )


def test_a_question_that_was_asked_twice_is_answered_twice(tmp_path, rng):
    both = pairs(rng, 1)
    store = Store(tmp_path)
    store.ask(0, both)
    store.ask(1, both)
    (key,), _ = store.identities(0)
    rows = [{"query_id": key, "answer": x, "labeller": "anna"} for x in ("a", "b", "tie")]
    assert import_answers(store, write(tmp_path / "in.jsonl", rows)) == Imported(2, 1, 0)
    assert [store.answers(k).tolist() for k in (0, 1)] == [[1.0], [0.0]]


GOOD = {"round": 0, "position": 0, "answer": "a", "labeller": "anna"}


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ({"answer": "c"}, "answer as a, b, tie, skip, left, right, or a probability, got 'c'"),
        ({"answer": 1.5}, "answer as a, b, tie, skip, left, right, or a probability, got 1.5"),
        ({"answer": True}, "answer as a, b, tie, skip, left, right, or a probability, got True"),
        ({"answer": ["a"]}, "answer as a, b, tie, skip, left, right, or a probability, got ['a']"),
        ({"answer": "a\x1b[2J"}, "answer as a, b, tie"),
        ({"answer": "a", "probability": 0.2}, "probability that suits the answer a, got 0.2"),
        ({"answer": "skip", "probability": 0.5}, "probability that suits the answer skip"),
        ({"labeller": None}, "labeller in each row, got none"),
        ({"labeller": "x" * 101}, "labeller as text of at most 100 characters"),
        ({"labeller": 5}, "labeller as text of at most 100 characters, got 5"),
        ({"labeller": "\ud800"}, "labeller as text of whole letters"),
        ({"reason": "x" * 10_001}, "reason as text of at most 10000 characters"),
        ({"seconds": -1}, "seconds as a finite number >= 0, got -1"),
        ({"seconds": "soon"}, "seconds as a finite number >= 0, got 'soon'"),
        ({"asking": "twice"}, "asking as one of label, mirror, second, judge, got 'twice'"),
        ({"round": 9}, "round and position of a question that was asked, got (9, 0)"),
        ({"position": 6}, "round and position of a question that was asked, got (0, 6)"),
        ({"position": 0.5}, "position as a whole number"),
        ({"position": None}, "query_id, or round and position, in each row, got none"),
        ({"query_id": "0" * 32}, f"query_id of a question that was asked, got {'0' * 32}"),
    ],
)
def test_a_malformed_row_is_named_and_nothing_is_written(tmp_path, rng, cells, why):
    store = asked(tmp_path, rng)
    rows = [{**GOOD, "position": 1}, {**GOOD, "position": 2}, {**GOOD, **cells}]
    path = write(tmp_path / "in.jsonl", rows)
    with pytest.raises(InputError, match=re.escape(f"answers must have {why}")) as error:
        import_answers(store, path)
    assert f"in row 3 of {path}" in str(error.value)
    assert str(error.value).isprintable()
    assert not given(store)


def test_a_table_without_a_place_for_answers_is_refused(tmp_path, rng):
    store, path = asked(tmp_path, rng), tmp_path / "in.csv"
    path.write_text("round,position,label\n0,0,a\n")
    with pytest.raises(InputError, match="answer as a column, got round, position, label in row 2"):
        import_answers(store, path)
    path.write_text("round;position;answer;labeller\n0;0;a;anna\n")
    assert import_answers(store, path).written == 1


def test_a_store_that_says_odd_things_is_refused(tmp_path, rng):
    store = asked(tmp_path, rng)
    store.answer(0, 0, 1.0, "anna", 1.0)
    for column, value in (("duration_ms", "long"), ("labeller", b"\0x"), ("probability", 7.0)):
        store.database.connection.execute("SAVEPOINT s")
        store.database.connection.execute(f"UPDATE answers SET {column} = ?", (value,))
        with pytest.raises(InputError, match=rf"readable answers.sqlite.*{column} of round 0"):
            checked(store)
        store.database.connection.execute("ROLLBACK TO s")
        store.database.connection.execute("RELEASE s")
    assert len(checked(store)) == 6


def answer_beside(folder, n):
    store = Store(Path(folder))
    for position in range(n):
        store.answer(0, position, 0.0, "bert")


def test_another_process_answers_meanwhile(tmp_path, rng):
    n = 60
    store = asked(tmp_path, rng, n)
    rows = [{"round": 0, "position": i, "answer": "a", "labeller": "anna"} for i in range(n)]
    path = write(tmp_path / "in.csv", rows)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=answer_beside, args=(str(tmp_path), n))
    process.start()
    written = 0
    while not written and process.is_alive():
        if (store.count() or 0) >= 5:
            written = import_answers(store, path).written
    process.join()
    found = given(store)
    assert len(found) == n
    assert sum(who == "anna" for _, _, who in found.values()) == written
    assert {word for word, _, who in found.values() if who == "bert"} == {"b"}


# ---------------------------------------------------------------- pairs


def cells_of(pair, i, **more):
    found = {"answer": "a", "labeller": "anna"}
    for side, segments in (("a", pair.a), ("b", pair.b)):
        n = int(segments.lengths[i])
        found[f"states_{side}"] = segments.states[i, : n + 1].tolist()
        found[f"actions_{side}"] = segments.actions[i, :n].tolist()
    return found | more


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_pairs_become_a_round_before_the_first(tmp_path, rng, suffix):
    want = pairs(rng, 4)
    more = ({"answer": "tie", "labeller": ""}, {"answer": 0.2, "terminated_b": 1, "seconds": 4},
            {"answer": "left", "shown_left": "b"}, {"answer": "skip"})  # fmt: skip
    rows = [cells_of(want, i, **cells) for i, cells in enumerate(more)]
    texts = [{k: json.dumps(v) if isinstance(v, list) else v for k, v in r.items()} for r in rows]
    path = write(tmp_path / f"p{suffix}", texts if suffix == ".csv" else rows)
    store = Store(tmp_path)
    import_pairs(store, path, UNITS, T, True)
    np.testing.assert_array_equal(store.answers(IMPORTED), [0.5, 0.2, 0.0, nan])
    found = checked(store)
    assert [r["labeller"] for r in found] == ["elsewhere", "anna", "anna", "anna"]
    assert found[2]["shown_left"] == "b"
    assert found[1]["duration_ms"] == 4000.0
    pair, y = store.labelled(IMPORTED)
    assert pair.b.terminated.tolist() == [False, True, False]
    assert pair.a.digests() == want.a.digests()[:3]
    assert (store.count(), store.latest(), len(y)) == (0, None, 3)
    path.unlink()
    import_pairs(store, path, UNITS, T, True)  # resumed: the store has them
    assert len(checked(store)) == 4


def test_export_and_import_are_inverse(tmp_path, rng):
    store = asked(tmp_path / "one", rng, 6)
    store.answer_all(0, 0, [1.0, 0.0, 0.5, nan, 0.3], "anna")
    store.answer(0, 0, 0.0, "anna", asking="mirror")
    store.undo(0, 1)
    (tmp_path / "x.jsonl").write_text("\n".join(json_lines(store, UNITS)))
    other = Store(tmp_path / "two")
    import_pairs(other, tmp_path / "x.jsonl", UNITS, T, True)
    ids, _ = store.identities(0)
    assert other.identities(IMPORTED)[0] == [ids[i] for i in (0, 2, 3, 4)]
    np.testing.assert_array_equal(other.answers(IMPORTED), [1.0, 0.5, nan, 0.3])
    kept = ("start", "shown_left", "segment_a", "segment_b", "labeller", "probability")
    before = {r["query_id"]: [r[k] for k in kept] for r in store.records() if r["answer"]}
    for record in other.records():
        if record["asking"] == "label" and record["query_id"] != ids[0]:
            assert [record[k] for k in kept] == before[record["query_id"]]


def test_pairs_that_are_there_stay(tmp_path, rng):
    store = Store(tmp_path)
    for _ in range(2):
        path = write(tmp_path / "p.jsonl", [cells_of(pairs(rng, 1), 0)])
        import_pairs(store, path, UNITS, T, True)
    assert len(checked(store)) == 1


def test_pairs_and_answers_are_there_together(tmp_path, rng, monkeypatch):
    """The power goes with the last answer: nothing was asked."""
    path = write(tmp_path / "p.jsonl", [cells_of(pairs(rng, 3), i) for i in range(3)])
    store, written = Store(tmp_path), []

    def reply(self, one, *more):
        written.append(one)
        if len(written) == 3:
            raise KeyboardInterrupt
        return whole(self, one, *more)

    whole = Store._reply
    monkeypatch.setattr(Store, "_reply", reply)
    with pytest.raises(KeyboardInterrupt):
        import_pairs(store, path, UNITS, T, True)
    assert not checked(Store(tmp_path))
    monkeypatch.undo()
    import_pairs(store, path, UNITS, T, True)
    np.testing.assert_array_equal(store.answers(IMPORTED), [1.0, 1.0, 1.0])


def test_pairs_that_start_apart_are_for_other_losses(tmp_path, rng):
    want = pairs(rng, 2)
    want.b.states[1, 0] = (want.a.states[1, 0] + 1) % 64
    path = write(tmp_path / "p.jsonl", [cells_of(want, i) for i in range(2)])
    with pytest.raises(InputError, match=r"must start in one state each, unless .* in row 2 of"):
        import_pairs(Store(tmp_path), path, UNITS, T, True)
    assert not checked(Store(tmp_path))
    import_pairs(Store(tmp_path), path, UNITS, T, False)
    assert len(checked(Store(tmp_path))) == 2


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ({"actions_a": [0] * 4, "states_a": [0] * 5}, "actions_a of at most 3 steps, got 4"),
        ({"states_b": None}, "states_b in each row, got none"),
        ({"actions_b": [0, 1, 4]}, "actions_b in Discrete(4), got 4"),
        ({"answer": "left"}, "answer as a, b, tie, skip, or a probability, got 'left'"),
        ({"shown_left": "left"}, "shown_left as one of a, b, got 'left'"),
    ],
)
def test_malformed_pairs(tmp_path, rng, cells, why):
    want = pairs(rng, 2)
    path = write(tmp_path / "p.jsonl", [cells_of(want, 0), cells_of(want, 1, **cells)])
    store = Store(tmp_path)
    with pytest.raises(InputError, match=re.escape(f"pairs must have {why} in row 2 of {path}")):
        import_pairs(store, path, UNITS, T, True)
    assert not checked(store)


def test_no_pairs_at_all(tmp_path):
    rows = [Row("pairs", tmp_path, 1, {"answer": None}), Row("pairs", tmp_path, 2, {"x": 1})]
    with pytest.raises(InputError, match="pairs must have a row with an answer, got none"):
        labelled_pairs(rows, UNITS, T, True)


def test_a_file_that_is_no_database(tmp_path, rng):
    asked(tmp_path, rng).close()
    (tmp_path / "answers.sqlite").write_bytes(b"SQLite format 3\0" + b"x" * 500)
    with pytest.raises((InputError, sqlite3.Error), match="must hold"):
        Store(tmp_path)


def test_a_campaign_learns_from_them_first(tmp_path, rng, monkeypatch):
    """The policy and the belief see them before anything is asked, and they cost no label."""
    env = gymnasium.make("FrozenLake-v1", map_name="8x8", is_slippery=False)
    want = pairs(rng, 5)
    y = [1.0, 0.0, 0.5, 1.0, 0.25]
    path = write(tmp_path / "p.jsonl", [cells_of(want, i, answer=y[i]) for i in range(5)])
    seen = []

    def spy(kind, name, take):
        whole = getattr(kind, name)

        def method(self, *arguments, **named):
            seen.append((name, take(*arguments)))
            return whole(self, *arguments, **named)

        monkeypatch.setattr(kind, name, method)

    spy(TableSubject, "learn", lambda pairs, y, newest, rng: (pairs.a.digests(), y, newest))
    spy(Belief, "update", lambda x, y: (x.shape[0], y))
    spy(Store, "ask", lambda round, *more: round)
    config = Config(labels=6, batch_size=3, pool=2, pairs=path, segment_length=T)
    found = active_preference.run(env, config, np.random.default_rng(0), Log(None))
    assert [name for name, _ in seen[:4]] == ["ask", "learn", "update", "ask"]
    assert [what for name, what in seen if name == "ask"] == [IMPORTED, 0, 1]
    digests, answers, newest = seen[1][1]
    assert (digests, answers.tolist(), newest) == (want.a.digests(), y, 5)
    assert seen[2][1][0] == 5
    assert seen[2][1][1].tolist() == y
    learnt = [what for name, what in seen if name == "learn"]
    assert [(len(a), n) for a, _, n in learnt] == [(5, 5), (8, 3), (11, 3)]
    assert (found.summary["labels"], found.summary["imported"]) == (6, 5)


ODD = (
    *(
        None,
        True,
        -1,
        0.5,
        10**30,
        1e308,
        "",
        "a",
        "nan",
        "1e999",
        "\ud800",
        "\x1b[2J",
        "状态",
        "=1",
    ),
    *([], [1], [[1]], ["x"], [None], {}, {"a": []}, "[1, 2", "[" * 2000, "9" * 500, [10**400]),
)


def damaged(rng, content, suffix):
    """A table with bytes, or a cell, that nobody meant."""
    kind = rng.integers(4)
    if kind == 0 or suffix == ".csv":
        content = bytearray(content)
        for _ in range(1 + int(rng.integers(3))):
            content[rng.integers(len(content))] = rng.integers(256)
        return bytes(content[: rng.integers(len(content))] if kind == 1 else content)
    lines = content.decode().splitlines()
    row = json.loads(lines[k := int(rng.integers(len(lines)))])
    name = list(row)[rng.integers(len(row))]
    if kind == 1:
        del row[name]
    else:
        row[name] = ODD[rng.integers(len(ODD))]
    return "\n".join([*lines[:k], json.dumps(row), *lines[k + 1 :]]).encode()


@pytest.mark.parametrize("seed", range(4))
def test_damaged_tables_are_taken_or_refused_as_a_whole(tmp_path, seed):
    rng = np.random.default_rng(seed)
    source = asked(tmp_path / "source", rng, 4, margin=0.5)
    source.reply([Reply(0, i, 0.3 * i, "anna", 2.0, reason="so, so") for i in range(4)])
    texts = {".csv": answers_table(source), ".jsonl": "\n".join(json_lines(source, UNITS)).encode()}
    refused = []
    for k in range(60):
        suffix = list(texts)[k % 2]
        path = tmp_path / f"in{suffix}"
        path.write_bytes(damaged(rng, texts[suffix], suffix))
        store = Store(None)
        store.ask(0, source.pairs(*_segments(source)))
        before = list(store.records())
        imports = [lambda s=store, p=path: import_answers(s, p)]
        if suffix == ".jsonl":
            imports.append(lambda s=store, p=path: import_pairs(s, p, UNITS, T, True))
        for take in imports:
            try:
                take()
                before = list(store.records())
            except InputError as error:
                refused.append(str(error))
            assert list(store.records()) == before
    assert len(refused) > 15
    assert all(why.isprintable() and len(why) < 600 for why in refused)


def _segments(store):
    records = [r for r in store.records() if r["asking"] == "label"]
    return [r["segment_a"] for r in records], [r["segment_b"] for r in records]
