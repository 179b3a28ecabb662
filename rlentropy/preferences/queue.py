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
from typing import Any, NamedTuple

from rlentropy.errors import InputError, in_range
from rlentropy.preferences.store import ANSWERED, STANDING, Asking, Store

GAP = 5  # answers between an answer and its mirrored question, while others wait
SIDES = {"left": 1.0, "right": 0.0, "equal": 0.5, "skip": float("nan")}

LEASE = "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?)"
DROP = "DELETE FROM leases WHERE holder = ?"
HELD = "SELECT round, position, asking FROM leases WHERE holder = :window"
WAITING = f"SELECT q.round, q.position FROM {ANSWERED} WHERE s.id IS NULL AND q.closed = 0"
# Answered questions of some hashes that have no standing answer of another kind yet.
AGAIN = (
    "SELECT q.round, q.position FROM {again} JOIN answers first ON first.round = q.round "
    "AND first.position = q.position AND first.asking = 'label' AND first.superseded_by IS NULL "
    "AND first.probability IS NOT NULL WHERE s.id IS NULL AND q.round >= 0 "  # not elsewhere
    "AND first.labeller {whose} :labeller AND substr(q.query_id, {digit}, 8) < :{share}"
)
SINCE = (  # of the labeller's answers the one that so many follow
    "SELECT id FROM answers WHERE labeller = :labeller AND superseded_by IS NULL "
    "AND answer != 'undo' ORDER BY id DESC LIMIT 1 OFFSET :gap"
)
MIRROR = AGAIN.format(again=STANDING.format(asking="mirror"), whose="=", digit=9, share="mirror")
SECOND = AGAIN.format(again=STANDING.format(asking="second"), whose="!=", digit=17, share="second")
FOR: dict[Asking, str] = {  # what waits for a labeller
    "label": WAITING,
    "mirror": f"{MIRROR} AND first.id <= ({SINCE})",
    "second": SECOND,
}
FREE = (
    "NOT EXISTS (SELECT 1 FROM leases l WHERE l.round = q.round AND l.position = q.position "
    "AND l.asking = :asking AND l.holder != :window AND l.until > :now)"
)
FIRST = f"AND {FREE} ORDER BY q.round, q.position LIMIT 1"
ONLY = "AND q.round = :round AND q.position = :position"
# What a labeller said last, and whether it can be taken back.
LAST = (
    "SELECT s.round, s.position, s.asking, q.closed = 0 OR s.asking != 'label' FROM answers s "
    "JOIN questions q ON q.round = s.round AND q.position = s.position WHERE s.labeller = ? "
    "AND s.superseded_by IS NULL AND s.answer != 'undo' ORDER BY s.id DESC LIMIT 1"
)


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
        return SIDES[side] if self.a_left else 1.0 - SIDES[side]


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
        self.shares = {"mirror": share(mirror), "second": share(second)}

    def next(self, holder: str, labeller: str) -> Ticket | None:
        """What a window shows next, leased to it; what it had, while that is not answered.

        Returns:
            None where nothing waits for this labeller: all is answered, or shown to others.
        """
        with self.store.database.transaction():
            found = self._held(holder, labeller) or self._choose(holder, labeller)
            self.store.database.write(DROP, [(holder,)])
            if found is None:
                return None
            self._lease(holder, *found)
        return self.ticket(*found)

    def answer(
        self,
        labeller: str,
        ticket: Ticket,
        side: str,
        seconds: float | None = None,
        reason: str | None = None,
    ) -> bool:
        """Write an answer down; it is on disk when this returns.

        Returns:
            Whether it stands, also where it was given before; False where another one does, or the
            question is not for this labeller any more.
        """
        where, value = (ticket.round, ticket.position), ticket.value(side)
        with self.store.database.transaction():
            if ticket.asking == "label" or self._fits(labeller, *where, ticket.asking):
                more: Any = {"asking": ticket.asking, "reason": reason}
                if self.store.answer(*where, value, labeller, seconds, **more):
                    return True
            said = self.store.database.read(
                "SELECT labeller, probability FROM answers WHERE round = ? AND position = ? "
                "AND asking = ? AND superseded_by IS NULL AND answer != 'undo'",
                *(*where, ticket.asking),
            )
        return said == [(labeller, None if value != value else value)]

    def ahead(self, n: int) -> list[str]:
        """Hashes of segments that are to be shown soon, at most those of n questions."""
        rows = self.store.database.read(
            f"SELECT q.segment_a, q.segment_b FROM {ANSWERED} WHERE s.id IS NULL "
            f"AND q.closed = 0 AND {FREE} ORDER BY q.round, q.position LIMIT :n",
            **{"asking": "label", "window": "", "now": self.clock(), "n": n},
        )
        return list(dict.fromkeys(digest for row in rows for digest in row))

    def undo(self, holder: str, labeller: str) -> Ticket | None:
        """Take the labeller's last answer back, and lease its question to the window.

        Returns:
            None where there is none, or it was learnt from.
        """
        with self.store.database.transaction():
            if not self.can_undo(labeller):
                return None
            round, position, asking, _ = self.store.database.read(LAST, labeller)[0]
            self.store.undo(round, position, labeller, asking)
            self.store.database.write(DROP, [(holder,)])
            self._lease(holder, round, position, asking)
        return self.ticket(round, position, asking)

    def waits(self, labeller: str, ticket: Ticket) -> bool:
        """Whether a question that is shown still waits for the labeller."""
        return self._fits(labeller, ticket.round, ticket.position, ticket.asking)

    def leave(self, holder: str) -> None:
        """Give back what a window that closes was shown."""
        with self.store.database.transaction():
            self.store.database.write(DROP, [(holder,)])

    def can_undo(self, labeller: str) -> bool:
        """Whether the labeller's last answer can be taken back."""
        rows = self.store.database.read(LAST, labeller)
        return bool(rows and rows[0][3])

    def given(self, labeller: str) -> int:
        """How many questions the labeller answered; skips and what came again do not count."""
        rows = self.store.database.read(
            f"SELECT count(*) FROM {ANSWERED} WHERE s.probability IS NOT NULL AND s.labeller = ?",
            labeller,
        )
        return int(rows[0][0])

    def ticket(self, round: int, position: int, asking: Asking) -> Ticket:
        """A question as it is shown.

        Raises:
            InputError: there is none.
        """
        rows = self.store.database.read(
            "SELECT query_id, shown_left = 'a', segment_a, segment_b FROM questions "
            "WHERE round = ? AND position = ?",
            *(round, position),
        )
        if not rows:
            raise InputError(f"question must have been asked, got {position} of round {round}")
        key, a_first, a, b = rows[0]
        a_left = bool(a_first) != (asking == "mirror")
        return Ticket(round, position, asking, key, *((a, b) if a_left else (b, a)), a_left)

    def _held(self, holder: str, labeller: str) -> tuple[int, int, Asking] | None:
        """What is leased to the window, if it still waits for whoever looks at it."""
        for row in self.store.database.read(HELD, window=holder):
            if self._fits(labeller, *row):
                found: tuple[int, int, Asking] = row
                return found
        return None

    def _fits(self, labeller: str, round: int, position: int, asking: Asking) -> bool:
        """Whether a question waits for a labeller, leases aside."""
        given: dict[str, Any] = {"labeller": labeller, "round": round, "position": position}
        return bool(
            self.store.database.read(f"{FOR[asking]} {ONLY}", **given, gap=0, **self.shares)
        )

    def _choose(self, holder: str, labeller: str) -> tuple[int, int, Asking] | None:
        """Mirrored questions that are due, then new ones, then what comes again."""
        given = {"window": holder, "labeller": labeller, "now": self.clock(), **self.shares}
        order: tuple[tuple[Asking, int], ...] = (
            *(("mirror", GAP), ("label", 0)),
            *(("mirror", 0), ("second", 0)),
        )
        for asking, gap in order:
            rows = self.store.database.read(
                f"{FOR[asking]} {FIRST}", **given, asking=asking, gap=gap
            )
            if rows:
                return (*rows[0], asking)
        return None

    def _lease(self, holder: str, round: int, position: int, asking: Asking) -> None:
        until = self.clock() + self.patience
        self.store.database.write(LEASE, [(round, position, asking, holder, until)])


def share(p: float) -> str:
    """The bound below which a share p of eight hexadecimal digits lies."""
    return "g" if p >= 1.0 else f"{int(p * 2**32):08x}"
