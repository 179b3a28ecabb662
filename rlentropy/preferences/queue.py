"""Who is shown which question: a queue of a store for several people at once.

A question that is shown is leased to one window, and returns to the queue when its lease runs out.
Leases are in the store, so that a server that starts again shows each window what it had. Some
questions come again: mirrored, to whoever answered them, with the sides changed, and as a second
opinion to somebody else. Which ones is in their hashes; nothing is learnt from these answers, and
they cost no label.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from rlentropy.errors import in_range
from rlentropy.preferences.store import ANSWERED, STANDING, Asking, Store

GAP = 5  # answers between an answer and its mirrored question, while others wait
LEASE = "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?)"
DROP = "DELETE FROM leases WHERE holder = ?"
FREE = (
    "NOT EXISTS (SELECT 1 FROM leases l WHERE l.round = q.round AND l.position = q.position "
    "AND l.asking = ?1 AND l.holder != ?2 AND l.until > ?3)"
)
HELD = (
    "SELECT l.round, l.position, l.asking FROM leases l WHERE l.holder = ?1 AND NOT EXISTS "
    "(SELECT 1 FROM answers s WHERE s.round = l.round AND s.position = l.position "
    "AND s.asking = l.asking AND s.superseded_by IS NULL AND s.answer != 'undo')"
)
WAITING = (
    f"SELECT q.round, q.position FROM {ANSWERED} WHERE s.id IS NULL AND q.closed = 0 AND {FREE} "
    "ORDER BY q.round, q.position LIMIT 1"
)
# Answered questions of some hashes that have no standing answer of another kind yet.
AGAIN = (
    "SELECT q.round, q.position FROM {again} JOIN answers first ON first.round = q.round "
    "AND first.position = q.position AND first.asking = 'label' AND first.superseded_by IS NULL "
    "AND first.probability IS NOT NULL WHERE s.id IS NULL AND {free} "
    "AND first.labeller {whose} ?4 AND substr(q.query_id, {digit}, 8) < ?5 "
    "AND (SELECT count(*) FROM answers later WHERE later.id > first.id "
    "AND later.labeller = ?4 AND later.superseded_by IS NULL AND later.answer != 'undo') >= ?6 "
    "ORDER BY q.round, q.position LIMIT 1"
)
MIRRORED = AGAIN.format(again=STANDING.format(asking="mirror"), free=FREE, whose="=", digit=9)
SECOND = AGAIN.format(again=STANDING.format(asking="second"), free=FREE, whose="!=", digit=17)


class Ticket(NamedTuple):
    """A question that is shown to somebody."""

    round: int
    position: int
    asking: Asking
    query_id: str
    left: str  # hash of the segment that is shown left
    right: str
    a_left: bool  # whether the left one is the first of the pair

    def value(self, side: str) -> float:
        """The answer of a side, "left", "right", "equal" or "skip", as the store has it."""
        return ANSWERS[side] if self.a_left else 1.0 - ANSWERS[side]


ANSWERS = {"left": 1.0, "right": 0.0, "equal": 0.5, "skip": float("nan")}


class Queue:
    """Hands the open questions of a store out, each to one window at a time."""

    def __init__(
        self,
        store: Store,
        *,
        mirror: float = 0.05,
        second: float = 0.0,
        patience: float = 120.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take a store.

        Args:
            mirror: share of the questions that come again with the sides changed, in [0, 1].
            second: share that another labeller is asked too, in [0, 1].
            patience: seconds after which a question that was shown and not answered returns.
            clock: seconds since 1970.
        """
        in_range("mirror", mirror, "[0, 1]")
        in_range("second", second, "[0, 1]")
        in_range("patience", patience, "(0, inf)")
        self.store, self.patience, self.clock = store, patience, clock
        self.mirror, self.second = share(mirror), share(second)

    def next(self, holder: str, labeller: str) -> Ticket | None:
        """What a window shows next, leased to it; what it had, while that is not answered.

        Returns:
            None where nothing waits for this labeller: all is answered, or shown to others.
        """
        with self.store.database.transaction():
            found = self._held(holder) or self._choose(holder, labeller)
            if found is None:
                return None
            self._lease(holder, *found)
        return self.ticket(*found)

    def ahead(self, n: int) -> list[str]:
        """Hashes of segments that are to be shown soon, at most those of n questions."""
        rows = self.store.database.read(
            f"SELECT q.segment_a, q.segment_b FROM {ANSWERED} WHERE s.id IS NULL "
            "AND q.closed = 0 ORDER BY q.round, q.position LIMIT ?",
            n,
        )
        return list(dict.fromkeys(digest for row in rows for digest in row))

    def undo(self, holder: str, labeller: str) -> Ticket | None:
        """Take the labeller's last answer back, and lease its question to the window.

        Returns:
            None where there is none, or it was learnt from.
        """
        rows = self.store.database.read(
            "SELECT round, position, asking FROM answers WHERE labeller = ? "
            "AND superseded_by IS NULL AND answer != 'undo' ORDER BY id DESC LIMIT 1",
            labeller,
        )
        if not rows or self.store.undo(rows[0][0], rows[0][1], labeller, rows[0][2]) is None:
            return None
        with self.store.database.transaction():
            self._lease(holder, *rows[0])
        return self.ticket(*rows[0])

    def ticket(self, round: int, position: int, asking: Asking) -> Ticket:
        """A question as it is shown."""
        key, a_first, a, b = self.store.database.read(
            "SELECT query_id, shown_left = 'a', segment_a, segment_b FROM questions "
            "WHERE round = ? AND position = ?",
            *(round, position),
        )[0]
        a_left = bool(a_first) != (asking == "mirror")
        return Ticket(round, position, asking, key, *((a, b) if a_left else (b, a)), a_left)

    def _held(self, holder: str) -> tuple[int, int, Asking] | None:
        rows = self.store.database.read(HELD, holder)
        return rows[0] if rows else None

    def _choose(self, holder: str, labeller: str) -> tuple[int, int, Asking] | None:
        """Mirrored questions that are due, then new ones, then what comes again."""
        read, now = self.store.database.read, self.clock()
        mirrored = (MIRRORED, "mirror", labeller, self.mirror)
        second = (SECOND, "second", labeller, self.second)
        for query, asking, *more in (
            (*mirrored, GAP),
            (WAITING, "label"),
            (*mirrored, 0),
            (*second, 0),
        ):
            if rows := read(query, asking, holder, now, *more):
                return (*rows[0], asking)
        return None

    def _lease(self, holder: str, round: int, position: int, asking: Asking) -> None:
        until = self.clock() + self.patience
        self.store.database.write(DROP, [(holder,)])
        self.store.database.write(LEASE, [(round, position, asking, holder, until)])


def share(p: float) -> str:
    """The bound below which a share p of eight hexadecimal digits lies."""
    return "g" if p >= 1.0 else f"{int(p * 2**32):08x}"
