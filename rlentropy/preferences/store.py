"""What was asked and answered, durable before it is used, in one SQLite file of a campaign.

A question is on disk before anyone is asked, and an answer before the next question is shown.
Answers are only ever added: an undo supersedes the last one, and so does the answer after it. Any
other process may answer, a console or a page; the first answer to a question stands. Segments lie
beside the file, each in an .npz that is named by the hash of what it shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from rlentropy.errors import InputError
from rlentropy.files import Unreadable, writing
from rlentropy.preferences.database import FILE, SCHEMA, Database
from rlentropy.preferences.questions import ASK, QUESTION, rows_of, word
from rlentropy.preferences.segment_files import load, pick, save
from rlentropy.preferences.segments import Pairs, Segments
from rlentropy.types import Array, Count, Mask

REPLY = (
    *("id", "asking", "answer", "probability", "labeller", "answered_at", "duration_ms", "reason"),
    "superseded_by",
)
IMPORTED = -1  # the round of pairs that were labelled elsewhere
Asking = Literal["label", "mirror", "second", "judge"]  # what for; answers to "label" are learnt
ASKINGS: tuple[Asking, ...] = ("label", "mirror", "second", "judge")
CLOSE = "UPDATE questions SET closed = 1 WHERE closed = 0 AND (round, position) < (?, ?)"
SUPERSEDE = "UPDATE answers SET superseded_by = ? WHERE id = ?"
ANSWER = "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)"
RELEASE = "DELETE FROM leases WHERE round = ? AND position = ? AND asking = ?"
STANDING = (
    "questions q LEFT JOIN answers s ON s.round = q.round AND s.position = q.position "
    "AND s.asking = '{asking}' AND s.superseded_by IS NULL AND s.answer != 'undo'"
)
ANSWERED = STANDING.format(asking="label")


class Question(NamedTuple):
    """A pair that waits for an answer."""

    position: int
    query_id: str
    left: bool  # whether the first segment is shown left
    pair: Pairs  # one


class Reply(NamedTuple):
    """An answer, and whose it is."""

    round: int
    position: int
    value: float  # probability that a is preferred: 1, 0, 1/2 for a tie, …; NaN for a skip
    labeller: str = ""  # default: the campaign's oracle
    duration: float | None = None  # seconds that the question was looked at
    # what for: mirror where the question was asked again with its sides changed, second where
    # another labeller was asked, judge for the opinion of a judge that left it to a person
    asking: Asking = "label"
    reason: str | None = None  # in the labeller's words


class Store:
    """Questions and answers of a campaign, in a folder or, for simulated teachers, in memory."""

    def __init__(
        self,
        folder: Path | None,
        about: Mapping[str, Any] | None = None,
        *,
        must_exist: bool = False,
        describe: Callable[[Segments], str] | None = None,
    ) -> None:
        """Open the store of a folder, or make it.

        Args:
            about: what is the same for all questions, like env_id, env_kwargs, rule and oracle. A
                store that exists must agree with it.
            must_exist: refuse a folder without a store, or with one that is just being made.
            describe: of a segment whose numbers don't say what it shows, its text, kept beside it.

        Raises:
            InputError: there is none, it is damaged, somebody else's, or about something else.
            OutputError: the folder can't be written.
        """
        self.folder, self.describe = folder, describe
        self._held: dict[str, tuple[Segments, int]] = {}  # segments of a store in memory
        path = None if folder is None else folder / FILE
        if path is not None:
            if must_exist and not path.is_file():
                raise InputError(f"campaign must be a folder with {FILE}, got {folder}")
            with writing(path):
                (path.parent / "segments").mkdir(parents=True, exist_ok=True)
        self.database = Database(path)
        self.about = self.database.about(about or {}, begin=not must_exist)

    def close(self) -> None:
        """Let go of the file."""
        self.database.close()

    # ---------------------------------------------------------------- questions

    def ask(
        self,
        round: int,
        pairs: Pairs,
        *,
        first: int = 0,
        shown_left: Any = None,
        replies: Sequence[Reply] = (),
        **columns: Any,
    ) -> None:
        """Write questions down, at positions first, first + 1, … of a round; again is no change.

        All questions before them are closed.

        Args:
            shown_left: whether a is shown left, (n,); default: by the hash of the query, a coin.
            replies: answers that are known, on disk together with the questions.
            columns: score, entropy, margin, policy and propensity, each (n,) or the same for all.

        Raises:
            InputError: an unknown column, or the store has other questions there, so that the
                folder is of another campaign.
            OutputError: it can't be written; then nothing was.
        """
        a, b = pairs.a.digests(), pairs.b.digests()
        rows = rows_of(round, first, pairs, a, b, shown_left, columns)
        n = len(rows)
        with self.database.transaction():
            known = self.database.read(
                "SELECT position, segment_a, segment_b FROM questions "
                "WHERE round = ? AND position >= ? AND position < ? ORDER BY position",
                *(round, first, first + n),
            )
            if known != [(first + i, a[i], b[i]) for i in range(len(known))]:
                raise InputError(
                    f"campaign must be the one that is resumed, got {self.database.path} with "
                    f"other questions in round {round}"
                )
            if len(known) < n:
                self._keep(pairs.a, a)  # before the question, which names them
                self._keep(pairs.b, b)
                self.database.write(ASK, rows[len(known) :])
                self.database.write(CLOSE, [(round, first)])
                for reply in replies:
                    self._reply(reply, word(reply.value), time.time())

    def identities(self, round: int, first: int = 0) -> tuple[list[str], Count]:
        """Of the questions of a round from a position on: their ids, and how often asked before."""
        rows = self.database.read(
            "SELECT query_id, repeats FROM questions WHERE round = ? AND position >= ? "
            "ORDER BY position",
            *(round, first),
        )
        return [row[0] for row in rows], self._array([row[1] for row in rows], np.int64)

    def sides(self, round: int, first: int = 0) -> tuple[Mask, Mask]:
        """Of the same questions: whether a is shown left, and whether its hash is the first."""
        rows = self.database.read(
            "SELECT shown_left = 'a', segment_a <= segment_b FROM questions "
            "WHERE round = ? AND position >= ? ORDER BY position",
            *(round, first),
        )
        both = self._array(rows, np.bool_).reshape(-1, 2)
        return both[:, 0], both[:, 1]

    def latest(self) -> int | None:
        """The round that was asked last; None before the first."""
        query = "SELECT max(round) FROM questions WHERE round >= 0"
        found: int | None = self.database.read(query)[0][0]
        return found

    def pending(self, round: int, asking: Asking = "label") -> list[int]:
        """Positions of a round that have no answer."""
        rows = self.database.read(
            f"SELECT q.position FROM {STANDING.format(asking=asking)} "
            "WHERE q.round = ? AND s.id IS NULL ORDER BY q.position",
            round,
        )
        return [row[0] for row in rows]

    def question(self, round: int, position: int) -> Question:
        """A question with its segments.

        Raises:
            InputError: there is none, or its segments are damaged.
        """
        rows = self.database.read(
            "SELECT query_id, shown_left, segment_a, segment_b FROM questions "
            "WHERE round = ? AND position = ?",
            *(round, position),
        )
        if not rows:
            raise InputError(f"question must have been asked, got {position} of round {round}")
        key, left, a, b = rows[0]
        return Question(position, key, left == "a", self.pairs([a], [b]))

    # ---------------------------------------------------------------- answers

    def answer(
        self,
        round: int,
        position: int,
        value: float,
        labeller: str = "",
        duration: float | None = None,
        asking: Asking = "label",
        reason: str | None = None,
    ) -> bool:
        """Write an answer down, as a `Reply` has it; it is on disk when this returns.

        Returns:
            Whether it stands; False where the question has an answer.

        Raises:
            InputError: there is no such question, or the value is out of range.
            OutputError: it can't be written.
        """
        return self.reply([Reply(round, position, value, labeller, duration, asking, reason)])[0]

    def answer_all(self, round: int, first: int, values: Any, labeller: str = "") -> int:
        """Answers to the questions at first, first + 1, … at once; how many of them stand."""
        values = np.asarray(values, np.float64).tolist()
        replies = [Reply(round, first + i, value, labeller) for i, value in enumerate(values)]
        return sum(self.reply(replies))

    def reply(self, replies: Sequence[Reply]) -> list[bool]:
        """Write answers down, all of them or none; whether each stands.

        Raises:
            InputError: there is no such question, or a value is out of range.
            OutputError: they can't be written.
        """
        words, now = [word(reply.value) for reply in replies], time.time()
        with self.database.transaction():
            return [
                self._reply(reply, word, now) for reply, word in zip(replies, words, strict=True)
            ]

    def _reply(self, reply: Reply, word: str, now: float) -> bool:
        where = reply.round, reply.position, reply.asking
        former = self._standing(*where)
        if former is not None and former[1] != "undo":
            return False
        number = self._next()
        value = None if word == "skip" else reply.value
        labeller = reply.labeller or str(self.about.get("oracle", ""))
        milliseconds = None if reply.duration is None else 1e3 * reply.duration
        if former is not None:
            self.database.write(SUPERSEDE, [(number, former[0])])
        row = (number, *where, word, value, labeller, now, milliseconds, reply.reason)
        self.database.write(ANSWER, [row])
        self.database.write(RELEASE, [where])
        return True

    def _standing(self, round: int, position: int, asking: Asking) -> tuple[int, str] | None:
        """The answer, or the undo, that stands at a question: its number and its word."""
        rows = self.database.read(
            "SELECT s.id, s.answer FROM questions q LEFT JOIN answers s ON s.round = q.round "
            "AND s.position = q.position AND s.asking = ? AND s.superseded_by IS NULL "
            "WHERE q.round = ? AND q.position = ?",
            *(asking, round, position),
        )
        if not rows:
            raise InputError(f"question must have been asked, got {position} of round {round}")
        return None if rows[0][0] is None else rows[0]

    def _next(self) -> int:
        return int(self.database.read("SELECT coalesce(max(id), 0) + 1 FROM answers")[0][0])

    def undo(
        self,
        round: int,
        position: int | None = None,
        labeller: str = "",
        asking: Asking = "label",
    ) -> int | None:
        """Take an answer back, so that its question is pending; nothing is deleted.

        Args:
            position: default: of the round's last answer.

        Returns:
            The position; None where there is nothing to take back: no answer, or one that was
            learnt from.

        Raises:
            OutputError: it can't be written.
        """
        with self.database.transaction():
            found = self.database.read(
                f"SELECT s.id, q.position FROM {STANDING.format(asking=asking)} "
                "WHERE q.round = :round AND (q.closed = 0 OR s.asking != 'label') "
                "AND s.id IS NOT NULL AND (:position IS NULL OR q.position = :position) "
                "ORDER BY s.id DESC LIMIT 1",
                round=round,
                position=position,
            )
            if not found:
                return None
            former, position = found[0]
            new = self._next()
            row = (new, round, position, asking, "undo", None, labeller, time.time(), None, None)
            self.database.write(SUPERSEDE, [(new, former)])
            self.database.write(ANSWER, [row])
        return position

    def settle(self, round: int, grace: float = 0.0) -> bool:
        """Close a round that is answered, so that no answer to it can be taken back any more.

        Args:
            grace: seconds that its last answer must be old.

        Returns:
            Whether it is; False while questions are pending.
        """
        with self.database.transaction():
            if self.pending(round):
                return False
            last = self.database.read(
                f"SELECT max(s.answered_at) FROM {ANSWERED} WHERE q.round = ?", round
            )[0][0]
            if last is not None and 0.0 <= time.time() - last < grace:
                return False
            self.database.write("UPDATE questions SET closed = 1 WHERE round = ?", [(round,)])
        return True

    def answers(self, round: int, asking: Asking = "label") -> Array:
        """What a round was answered, by position: (n,), NaN for a skip and where nothing is yet."""
        rows = self.database.read(
            f"SELECT s.probability FROM {STANDING.format(asking=asking)} "
            "WHERE q.round = ? ORDER BY q.position",
            round,
        )
        values = [np.nan if row[0] is None else row[0] for row in rows]
        found: Array = self._array(values, np.float64)
        return found

    def _array(self, values: Any, kind: type) -> Any:
        try:
            return np.array(values, kind)
        except (ValueError, TypeError, OverflowError) as error:  # of a damaged file
            raise Unreadable(self.database.path, error) from None

    def labelled(self, round: int) -> tuple[Pairs, Array]:
        """The pairs of a round that were answered, skips left out, and their answers (m,)."""
        rows = self.database.read(
            f"SELECT q.segment_a, q.segment_b, s.probability FROM {ANSWERED} "
            "WHERE q.round = ? AND s.probability IS NOT NULL ORDER BY q.position",
            round,
        )
        if not rows:
            raise InputError(
                f"round must have an answer, got none in round {round} of {self.database.path}"
            )
        a, b, y = zip(*rows, strict=True)
        return self.pairs(a, b), self._array(y, np.float64)

    def count(self) -> int:
        """How many questions are answered; skips are not, nor what was imported."""
        query = f"SELECT count(*) FROM {ANSWERED} WHERE s.probability IS NOT NULL AND q.round >= 0"
        return int(self.database.read(query)[0][0])

    # ---------------------------------------------------------------- segments

    def _keep(self, segments: Segments, digests: Sequence[str]) -> None:
        if self.folder is None:
            self._held.update((digest, (segments, i)) for i, digest in enumerate(digests))
        else:
            save(self.folder / "segments", segments, digests, self.describe)

    def segments(self, digests: Sequence[str]) -> Segments:
        """Segments by their hashes.

        Raises:
            InputError: a file is missing or damaged.
        """
        if self.folder is None:
            return pick(self._held, digests)
        return load(self.folder / "segments", digests)

    def pairs(self, a: Sequence[str], b: Sequence[str]) -> Pairs:
        """Pairs of segments by their hashes."""
        return Pairs(self.segments(a), self.segments(b))

    def records(self) -> Iterator[dict[str, Any]]:
        """All that was asked, a dictionary for each answer, and for each question without one."""
        rows = self.database.read(
            f"SELECT {', '.join(f'q.{name}' for name in QUESTION)}, "
            f"{', '.join(f's.{name}' for name in REPLY)} FROM questions q "
            "LEFT JOIN answers s ON s.round = q.round AND s.position = q.position "
            "ORDER BY q.round, q.position, s.id"
        )
        for row in rows:
            yield {"schema": SCHEMA, **self.about} | dict(zip(QUESTION + REPLY, row, strict=True))
