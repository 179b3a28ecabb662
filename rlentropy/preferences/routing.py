"""Who answers a pair: a judge that is asked in both positions, or a person where it is in doubt.

The judge speaks when a question is chosen, and its answers are written down with the question: a
front end never shows people what the judge has taken, and a campaign that is killed finds the
judge's answers where they were (preferences §3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rlentropy.preferences.judges import Judge, doubt, evidence, judgement, share_of, to_person
from rlentropy.preferences.judging import Judging, Simulated
from rlentropy.preferences.oracles import in_order, keyed_uniforms, resolved
from rlentropy.preferences.questions import JUDGE
from rlentropy.preferences.segments import Pairs, Segments, joined
from rlentropy.preferences.store import ANSWERED, Reply, Store
from rlentropy.preferences.teaching import SimulatedTeacher
from rlentropy.types import Array, Count, Mask

BY_PERSON = (
    f"FROM {ANSWERED} JOIN answers j ON j.round = q.round AND j.position = q.position "
    "AND j.asking = 'judge' AND j.superseded_by IS NULL WHERE s.probability IS NOT NULL"
)
BEFORE = "SELECT query_id, count(*) FROM questions WHERE query_id IN ({}) GROUP BY query_id"


class Quota(NamedTuple):
    """How many pairs of a batch a person answers, and how many more where the judge can't say."""

    usual: int
    most: int


class Routed(NamedTuple):
    """What a judge says of N pairs, and which of them a person answers."""

    answers: Array  # (N,), 1, 0 or 1/2; NaN where it can't say
    person: Mask  # (N,)


@dataclass(frozen=True)
class Router:
    """A judge, and a person for the pairs it is most in doubt about."""

    judge: Judging
    name: str  # of the judge, as a labeller
    seed: int  # of what the judge draws, and of the coin between pairs of equal doubt
    draws: int = 1  # K, uniforms for a pair in one position
    rule: str = "entropy"  # of `judges.ROUTES`
    share: float = 0.2  # of a batch that goes to a person, rounded down
    labels: int | None = None  # of the person in all, in place of the share
    tie: float = 0.5  # a single reading up to this is a tie
    person: str = ""  # the labeller's name, where it is simulated

    def readings(self, pairs: Pairs, first: Mask, u: Array) -> Array:
        """How much better the query's own first segment is, asked in both positions, (N, 2, k).

        Uniforms u (N, 2 K) favour that segment in either.
        """
        both, n = joined([pairs.a, pairs.b]), len(pairs)
        index = np.arange(n)
        one = both.take(np.where(first, index, n + index))
        two = both.take(np.where(first, n + index, index))
        left, right = np.split(u, 2, axis=1)
        return evidence(self.judge(one, two, left), self.judge(two, one, 1.0 - right))

    def quota(self, n: int, bought: int, budget: int, spent: int) -> Quota:
        """What a person may be asked of n pairs.

        An absolute number of labels is spread evenly over the budget: of the first m labels of M
        the person gives N m / M, rounded down.

        Args:
            bought: labels before these, of all labellers.
            budget: M.
            spent: labels of the person before these.
        """
        if self.labels is None:
            return Quota(share_of(self.share, n), n if self.share else 0)
        most = max(self.labels - spent, 0)
        due = self.labels * (bought + n) // budget - spent
        return Quota(min(max(due, 0), n), min(most, n))

    def __call__(
        self, pairs: Pairs, ids: Sequence[str], repeats: Count, margins: Array, quota: Quota
    ) -> Routed:
        """The judge's answers, and who answers.

        Args:
            margins: of the policy, for a over b, (N,).
        """
        first = in_order(pairs.a.digests(), pairs.b.digests())
        u = keyed_uniforms(self.seed, ids, repeats, 2 * self.draws + 1)
        readings = self.readings(pairs, first, u[:, :-1])
        silent = np.isnan(readings.sum((1, 2)))
        found = judgement(np.where(silent[:, None, None], 0.0, readings), self.tie)
        asks = doubt(self.rule, found, np.where(first, margins, -margins))
        n = min(max(quota.usual, int(silent.sum())), quota.most)
        person = to_person(np.where(silent, np.inf, asks), n, u[:, -1])
        answers = np.where(first, found.answers, 1.0 - found.answers)
        return Routed(np.where(silent, np.nan, answers), person)

    def replies(
        self,
        store: Store,
        place: tuple[int, int],
        pairs: Pairs,
        margins: Array,
        bought: int,
        budget: int,
    ) -> list[Reply]:
        """What the judge says of a batch: answers, and opinions of what it leaves to a person.

        Nothing of questions that the store has: what was said of them is there, too.

        Args:
            place: round, and position of the first.
            bought, budget: see `quota`.
        """
        round, first = place
        if store.identities(*place)[0]:
            return []
        ids = pairs.query_ids()
        quota = self.quota(len(ids), bought, budget, given_by_person(store))
        said = self(pairs, ids, asked_before(store, ids), margins, quota)
        return [
            Reply(round, first + i, y, self.name, None, "judge" if left else "label")
            for i, (y, left) in enumerate(zip(*(x.tolist() for x in said), strict=True))
        ]

    def listen(self, store: Store, round: int) -> None:
        """Let a judge that learns know what people answered in a round."""
        learn = getattr(self.judge, "learn", None)
        if learn is not None and (answered := answered_by_person(store, round)) is not None:
            learn(*answered)


def by_returns(spec: Judge, sample: Segments, seed: int, name: str) -> Router:
    """The simulated judge, and a person who sees returns.

    Args:
        sample: segments of the reference, whose returns are the unit of temperatures in std.
    """
    spec = resolved(spec, float(sample.returns.std()))
    return Router(
        Simulated(spec),
        JUDGE + name,
        seed,
        spec.readings,
        share=spec.human,
        tie=spec.tie,
        person="return",
    )


class Panel:
    """A judge and a simulated person as one teacher, for pairs that no campaign asks about."""

    def __init__(self, router: Router, person: SimulatedTeacher) -> None:
        self.router, self.person = router, person

    def __call__(self, pairs: Pairs, ids: list[str], repeats: Count, left: Mask) -> Array:
        n = len(pairs)
        quota = Quota(share_of(self.router.share, n), n)
        routed = self.router(pairs, ids, repeats, np.zeros(n), quota)
        by_person = self.person(pairs, ids, repeats, left)
        return np.where(routed.person, by_person, routed.answers)


# ---------------------------------------------------------------- what the store knows


def asked_before(store: Store, ids: Sequence[str]) -> Count:
    """How often queries will have been asked before, once they are asked in this order, (n,)."""
    marks = ", ".join("?" * len(ids))
    counts = dict(store.database.read(BEFORE.format(marks), *ids))
    found = []
    for key in ids:
        found.append(counts.get(key, 0))
        counts[key] = found[-1] + 1
    return np.array(found, np.int64)


def given_by_person(store: Store) -> int:
    """Labels that a judge left to a person, and that the person gave; skips are none."""
    return int(store.database.read(f"SELECT count(*) {BY_PERSON}")[0][0])


def answered_by_person(store: Store, round: int) -> tuple[Pairs, Array] | None:
    """The pairs of a round that a judge left to a person, and the answers (m,), if any."""
    rows = store.database.read(
        f"SELECT q.segment_a, q.segment_b, s.probability {BY_PERSON} AND q.round = ? "
        "ORDER BY q.position",
        round,
    )
    if not rows:
        return None
    a, b, y = zip(*rows, strict=True)
    return store.pairs(a, b), np.array(y, np.float64)
