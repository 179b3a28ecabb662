"""The file of a campaign: of an older day, cut short, opened by several at once, nested writes."""

import multiprocessing
import sqlite3
from contextlib import closing, suppress

import numpy as np
import pytest

from rlentropy.errors import InputError
from rlentropy.preferences import database
from rlentropy.preferences.database import APPLICATION, FILE, Database
from rlentropy.preferences.segments import query_id
from rlentropy.preferences.store import Store

SCHEMA_1 = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE questions (
    round INTEGER NOT NULL,
    position INTEGER NOT NULL,
    query_id TEXT NOT NULL,
    repeats INTEGER NOT NULL,
    start TEXT,
    segment_a TEXT NOT NULL,
    segment_b TEXT NOT NULL,
    shown_left TEXT NOT NULL CHECK (shown_left IN ('a', 'b')),
    asked_at REAL NOT NULL,
    score REAL,
    entropy REAL,
    margin REAL,
    policy TEXT,
    propensity REAL,
    closed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (round, position)
) WITHOUT ROWID;
CREATE INDEX asked ON questions (query_id);
CREATE TABLE answers (
    id INTEGER PRIMARY KEY,
    round INTEGER NOT NULL,
    position INTEGER NOT NULL,
    mirrored INTEGER NOT NULL,
    answer TEXT NOT NULL CHECK (answer IN ('a', 'b', 'tie', 'skip', 'undo')),
    probability REAL,
    labeller TEXT NOT NULL,
    answered_at REAL NOT NULL,
    duration_ms REAL,
    superseded_by INTEGER
);
CREATE UNIQUE INDEX standing ON answers (round, position, mirrored) WHERE superseded_by IS NULL;
"""
ANSWERS_1 = [  # id, round, position, mirrored, answer, probability, labeller, at, ms, superseded_by
    (1, 0, 0, 0, "a", 1.0, "anna", 10.0, 900.0, 3),
    (2, 0, 1, 0, "tie", 0.5, "anna", 11.0, None, None),
    (3, 0, 0, 0, "undo", None, "anna", 12.0, None, 4),
    (4, 0, 0, 0, "b", 0.0, "bert", 13.0, 1.5, None),
    (5, 0, 0, 1, "a", 1.0, "bert", 14.0, 2.5, None),
    (6, 0, 2, 0, "skip", None, "anna", 15.0, 3.5, None),
]


def of_schema_1(path):
    """A file as it was written before answers said what they were asked for."""
    with closing(sqlite3.connect(path)) as file:
        file.executescript("PRAGMA journal_mode = WAL;" + SCHEMA_1)
        file.execute(f"PRAGMA application_id = {APPLICATION}")
        file.execute("PRAGMA user_version = 1")
        about = [("campaign", '"c0ffee"'), ("env_id", '"CartPole-v1"')]
        file.executemany("INSERT INTO about VALUES (?, ?)", about)
        for k in range(4):
            a, b = f"{k:064x}", f"{k + 100:064x}"
            row = (0, k, query_id(a, b), 0, "7", a, b, "ab"[k % 2], 9.0, 0.5, None, 2.0, "p", 0.1)
            file.execute(f"INSERT INTO questions VALUES ({', '.join('?' * 14)}, 0)", row)
        file.executemany(f"INSERT INTO answers VALUES ({', '.join('?' * 10)})", ANSWERS_1)
        file.commit()
    return path


def schema(path):
    """Tables and indices, without comments and spaces."""
    with closing(sqlite3.connect(path)) as file:
        rows = file.execute("SELECT type, name, sql FROM sqlite_master WHERE sql NOT NULL")
        found = set()
        for kind, name, sql in rows:
            lines = (line.split("--")[0] for line in sql.splitlines())
            found.add((kind, name, "".join("".join(lines).split()).replace('"', "")))
        version = file.execute("PRAGMA user_version").fetchone()[0]
        return found, version


def test_a_file_of_schema_1_is_read_as_if_it_were_new(tmp_path):
    of_schema_1(tmp_path / FILE)
    store = Store(tmp_path, {"env_id": "CartPole-v1"}, must_exist=True)
    assert store.about["campaign"] == "c0ffee"
    rows = [row for row in store.records() if row["id"] is not None]
    names = ("id", "round", "position", "answer", "probability", "labeller", "answered_at")
    names += ("duration_ms", "superseded_by")
    found = sorted(tuple(row[name] for name in names) for row in rows)
    assert found == [row[:3] + row[4:] for row in ANSWERS_1]
    assert {row["id"]: row["asking"] for row in rows} == {
        row[0]: "mirror" if row[3] else "label" for row in ANSWERS_1
    }
    assert {row["reason"] for row in rows} == {None}
    np.testing.assert_array_equal(store.answers(0), [0.0, 0.5, np.nan, np.nan])
    np.testing.assert_array_equal(store.answers(0, "mirror"), [1.0, np.nan, np.nan, np.nan])
    assert store.pending(0) == [3]
    assert store.count() == 2
    assert store.answer(0, 3, 1.0, "anna", asking="label", reason="it stands")
    assert store.undo(0) == 3
    store.close()
    with closing(Store(tmp_path)) as store:  # once
        assert len([row for row in store.records() if row["id"] is not None]) == 8


def test_an_upgraded_file_is_like_a_new_one(tmp_path):
    Database(of_schema_1(tmp_path / "old")).close()
    Database(tmp_path / "new").close()
    assert schema(tmp_path / "old") == schema(tmp_path / "new")


@pytest.mark.parametrize("after", range(1, 6))
def test_an_upgrade_that_is_cut_short_changes_nothing(tmp_path, monkeypatch, after):
    of_schema_1(tmp_path / FILE)
    before = schema(tmp_path / FILE)
    statements = database.UPGRADE.split(";\n")
    assert len(statements) > after
    cut = ";\n".join([*statements[:after], "SELECT 1 FROM nowhere"])
    monkeypatch.setattr(database, "UPGRADE", cut)
    with pytest.raises(InputError, match="no such table: nowhere"):
        Database(tmp_path / FILE)
    assert schema(tmp_path / FILE) == before
    monkeypatch.undo()
    with closing(Store(tmp_path)) as store:
        assert store.count() == 2


def opened(path, ready, results):
    ready.wait()
    try:
        with closing(Database(path)) as found:
            results.put(found.read("SELECT count(*) FROM answers")[0][0])
    except Exception as error:
        results.put(repr(error))


@pytest.mark.parametrize("old", [True, False])
def test_several_processes_open_a_file_at_once(tmp_path, old):
    if old:
        of_schema_1(tmp_path / FILE)
    start = multiprocessing.get_context("fork")
    ready, results = start.Event(), start.Queue()
    each = [start.Process(target=opened, args=(tmp_path / FILE, ready, results)) for _ in range(4)]
    for process in each:
        process.start()
    ready.set()
    assert [results.get(timeout=60) for _ in each] == [6 if old else 0] * 4
    for process in each:
        process.join()


@pytest.mark.parametrize(("application", "version"), [(APPLICATION, 0), (APPLICATION, 9), (1, 2)])
def test_files_of_others(tmp_path, application, version):
    with closing(sqlite3.connect(tmp_path / FILE)) as file:
        file.executescript(SCHEMA_1)
        file.execute(f"PRAGMA application_id = {application}")
        file.execute(f"PRAGMA user_version = {version}")
    must = f"campaign must hold {FILE} of schema 2, got .* of application .* and schema {version}"
    with pytest.raises(InputError, match=must):
        Database(tmp_path / FILE)


def test_a_write_in_a_write_is_a_part_of_it(tmp_path):
    """Others see both or neither, also where the inner one is done."""
    ours, theirs = Database(tmp_path / FILE), Database(tmp_path / FILE)

    def written():
        return theirs.read("SELECT key FROM about ORDER BY key")

    def write(key):
        with ours.transaction():
            ours.write("INSERT INTO about VALUES (?, '')", [(key,)])

    with ours.transaction():
        write("a")
        write("b")
        assert written() == []
    assert written() == [("a",), ("b",)]
    with suppress(KeyError), ours.transaction():
        write("c")
        raise KeyError
    with suppress(InputError), ours.transaction():
        write("d")
        write("a")  # is there
    assert written() == [("a",), ("b",)]
    write("e")
    assert written() == [("a",), ("b",), ("e",)]
    ours.close()
    theirs.close()
