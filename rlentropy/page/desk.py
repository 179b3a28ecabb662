"""What the page is told: the next question, and how far the campaign is, as plain data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

from rlentropy.errors import InputError
from rlentropy.preferences.queue import Queue, Ticket
from rlentropy.preferences.store import Store

AHEAD = 3  # questions whose clips are made before they are asked for
Asked = Literal["label", "mirror", "second"]  # what a person is asked for
ASKED: tuple[str, ...] = get_args(Asked)


class Refused(Exception):
    """A request that can't be done: its HTTP status, and one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


class Answer(NamedTuple):
    """What a person said of a question, as the page sends it."""

    query: str
    round: int
    position: int
    asking: Asked
    side: str
    seconds: float | None
    reason: str | None


class Desk:
    """Hands questions to windows and takes their answers; for one thread."""

    def __init__(
        self,
        store: Store,
        queue: Queue,
        budget: Callable[[], int | None] = lambda: None,
        training: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take a store and the queue of it.

        Args:
            budget: labels that the campaign buys; None where nobody knows.
            training: whether a process learns from the answers and asks more.
        """
        self.store, self.queue, self.budget, self.training = store, queue, budget, training
        self.campaign = str(store.about["campaign"])

    def next(self, window: str, labeller: str, late: bool = False) -> dict[str, Any]:
        """What a window shows now."""
        ticket = self.queue.next(window, labeller)
        answered, budget, latest = self.store.count(), self.budget(), self.store.latest()
        left = 0 if latest is None else len(self.store.pending(latest))
        return {
            "campaign": self.campaign,
            "about": self.store.about,
            "state": self._state(ticket, left, answered, budget),
            "question": None if ticket is None else as_question(ticket),
            "ahead": self.queue.ahead(AHEAD),
            "progress": {
                "answered": answered,
                "budget": budget,
                "round": latest,
                "left_in_round": left,
                "yours": self.queue.given(labeller),
            },
            "can_undo": self.queue.can_undo(labeller),
            "late": late,
        }

    def answer(self, campaign: str, window: str, labeller: str, said: Answer) -> dict[str, Any]:
        """Take an answer; both it and what the window shows next are on disk when this returns.

        Raises:
            Refused: it is of another campaign, or of a question that was not asked.
        """
        self._same(campaign)
        with self.store.database.transaction():
            try:
                ticket = self.queue.ticket(said.round, said.position, said.asking)
            except InputError as error:
                raise Refused(404, str(error)) from None
            if ticket.query_id != said.query:
                raise Refused(
                    404,
                    f"query must be {ticket.query_id} at {said.position} of round {said.round}, "
                    f"got {said.query}",
                )
            stands = self.queue.answer(labeller, ticket, said.side, said.seconds, said.reason)
            return self.next(window, labeller, late=not stands)

    def undo(self, campaign: str, window: str, labeller: str) -> dict[str, Any]:
        """Take the labeller's last answer back, if it can be, and show its question again.

        Raises:
            Refused: another campaign.
        """
        self._same(campaign)
        with self.store.database.transaction():
            self.queue.undo(window, labeller)
            return self.next(window, labeller)

    def knows(self, digest: str) -> bool:
        """Whether a hash is of a segment that was asked about."""
        rows = self.store.database.read(
            "SELECT 1 FROM questions WHERE ? IN (segment_a, segment_b) LIMIT 1", digest
        )
        return bool(rows)

    def _same(self, campaign: str) -> None:
        if campaign != self.campaign:
            raise Refused(409, f"campaign must be {self.campaign}, got {campaign}")

    def _state(self, ticket: Ticket | None, left: int, answered: int, budget: int | None) -> str:
        if ticket is not None:
            return "question"
        if left:
            return "busy"
        if budget is not None and answered >= budget:
            return "done"
        return "training" if self.training() else "stopped"


def as_question(ticket: Ticket) -> dict[str, Any]:
    """A question as the page has it."""
    names = ("round", "position", "asking", "left", "right")
    return {"query": ticket.query_id} | {name: getattr(ticket, name) for name in names}
