"""The SQLite file of a campaign: its tables, its transactions, and its errors in one line each."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gymnasium

from rlentropy.errors import InputError, OutputError
from rlentropy.files import Unreadable

FILE = "answers.sqlite"
SCHEMA = 2
APPLICATION = 0x724C6570  # marks a file of ours
PATIENCE = 30.0  # seconds that a write waits for another process
UNWRITABLE = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_CANTOPEN")

TABLES = """
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE questions (
    round INTEGER NOT NULL,
    position INTEGER NOT NULL,
    query_id TEXT NOT NULL,         -- of both segments, in any order
    repeats INTEGER NOT NULL,       -- how often it was asked before
    start TEXT,                     -- the state that was set, or the seed of the reset
    segment_a TEXT NOT NULL,        -- hash
    segment_b TEXT NOT NULL,
    shown_left TEXT NOT NULL CHECK (shown_left IN ('a', 'b')),
    asked_at REAL NOT NULL,         -- seconds since 1970
    score REAL,                     -- of the rule
    entropy REAL,                   -- of the start
    margin REAL,                    -- of the policy, implicit reward of a less that of b
    policy TEXT,                    -- hash of the policy that rolled it out
    propensity REAL,                -- probability of having been chosen
    closed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (round, position)
) WITHOUT ROWID;
CREATE INDEX asked ON questions (query_id);
CREATE TABLE answers (
    id INTEGER PRIMARY KEY,
    round INTEGER NOT NULL,
    position INTEGER NOT NULL,
    -- what for: to learn from it; again with the sides changed; by another labeller; by a judge
    -- whose doubt sent the question to a person
    asking TEXT NOT NULL CHECK (asking IN ('label', 'mirror', 'second', 'judge')),
    answer TEXT NOT NULL CHECK (answer IN ('a', 'b', 'tie', 'skip', 'undo')),
    probability REAL,               -- that a is preferred
    labeller TEXT NOT NULL,
    answered_at REAL NOT NULL,
    duration_ms REAL,
    reason TEXT,                    -- in the labeller's words
    superseded_by INTEGER
);
CREATE UNIQUE INDEX standing ON answers (round, position, asking) WHERE superseded_by IS NULL;
CREATE TABLE leases (
    round INTEGER NOT NULL,
    position INTEGER NOT NULL,
    asking TEXT NOT NULL,
    holder TEXT NOT NULL,           -- who is shown the question, one window of a browser
    until REAL NOT NULL,            -- when it returns to the queue, seconds since 1970
    PRIMARY KEY (round, position, asking)
) WITHOUT ROWID;
"""
ANSWERS = TABLES[TABLES.index("CREATE TABLE answers") :]
UPGRADE = f"""ALTER TABLE answers RENAME TO answers_1;
DROP INDEX standing;
{ANSWERS}INSERT INTO answers SELECT id, round, position, iif(mirrored, 'mirror', 'label'), answer,
    probability, labeller, answered_at, duration_ms, NULL, superseded_by FROM answers_1;
DROP TABLE answers_1;
"""  # from schema 1


class Database:
    """A file that other processes may read and write too, or tables in memory."""

    def __init__(self, path: Path | None) -> None:
        """Open a file, or make it.

        Raises:
            InputError: it is damaged, or of another program or schema.
            OutputError: it can't be written.
        """
        self.path = path or Path(":memory:")
        with self.errors():
            self.connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
            try:
                self._open(path is None)
            except BaseException:
                self.connection.close()
                raise

    def _open(self, in_memory: bool) -> None:
        """Make the tables of a new file; know the file of an older day, or of another program."""
        if in_memory:
            self.connection.executescript(TABLES)
            return
        self._write_ahead()
        self.connection.execute("PRAGMA synchronous = FULL")
        with self.transaction():
            application = self.read("PRAGMA application_id")[0][0]
            schema = self.read("PRAGMA user_version")[0][0]
            if not self.read("SELECT 1 FROM sqlite_master"):
                self._run(TABLES)
                self.connection.execute(f"PRAGMA application_id = {APPLICATION}")
                self.connection.execute(f"PRAGMA user_version = {SCHEMA}")
            elif (application, schema) == (APPLICATION, 1):
                self._run(UPGRADE)
                self.connection.execute(f"PRAGMA user_version = {SCHEMA}")
            elif (application, schema) != (APPLICATION, SCHEMA):
                raise InputError(
                    f"campaign must hold {FILE} of schema {SCHEMA}, got {self.path} of "
                    f"application {application:#x} and schema {schema}"
                )
        if (found := self.read("PRAGMA quick_check")[0][0]) != "ok":
            raise Unreadable(self.path, found)

    def _write_ahead(self) -> None:
        """Keep a log beside the file; SQLite doesn't wait where others change to it just now."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                busy = getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
                if not busy or time.monotonic() > until:
                    raise
            time.sleep(0.01)

    def _run(self, script: str) -> None:
        for statement in script.split(";\n"):
            self.connection.execute(statement)

    def close(self) -> None:
        """Let go of the file."""
        self.connection.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what SQLite says into one line."""
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise OutputError(
                    f"campaign must not be locked by another process for {PATIENCE:g} s, got "
                    f"{self.path}: {error}"
                ) from error
            if name.startswith(UNWRITABLE):
                must = "out must be a writable folder with free space"
                raise OutputError(f"{must}, got {error} writing {self.path}") from error
            raise Unreadable(self.path, error) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the writes in the block, on disk when it ends, or none of them.

        One inside another is a part of it.
        """
        if self.connection.in_transaction:
            yield
            return
        with self.errors():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self.connection.execute("ROLLBACK")
                raise

    def read(self, query: str, *values: Any, **named: Any) -> list[Any]:
        """Rows, each a tuple; a query has values by place, or by name."""
        with self.errors():
            return self.connection.execute(query, named or values).fetchall()

    def write(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Run a statement once for each row of values, in a transaction of the caller's."""
        self.connection.executemany(statement, rows)

    def about(self, given: Mapping[str, Any], begin: bool = True) -> dict[str, Any]:
        """What is the same for all questions: what is given, written down or compared.

        Args:
            begin: write it down where nothing is, which is else left to whoever made the file.

        Raises:
            InputError: the file is about something else, or nothing yet.
        """
        plain = json.loads(json.dumps(dict(given), default=str))
        with self.transaction():
            try:
                about = {k: json.loads(v) for k, v in self.read("SELECT key, value FROM about")}
            except (ValueError, TypeError) as error:
                raise Unreadable(self.path, error) from None
            if not about and not begin:
                raise InputError(f"campaign must be one that was begun, got the new {self.path}")
            if not about:
                fixed = {"campaign": uuid.uuid4().hex, "gymnasium": gymnasium.__version__}
                about = fixed | plain
                rows = [(key, json.dumps(value)) for key, value in about.items()]
                self.write("INSERT INTO about VALUES (?, ?)", rows)
        for key, value in plain.items():
            if about.get(key) != value:
                raise InputError(
                    f"campaign must be one of {key} {value}, got {self.path} of {about.get(key)}"
                )
        return about
