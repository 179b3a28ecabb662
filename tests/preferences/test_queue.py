"""The queue of a store against a plain list of what everybody did."""

import multiprocessing
import os
from contextlib import closing, suppress

import numpy as np
import pytest

from rlentropy.errors import InputError
from rlentropy.preferences.queue import GAP, SIDES, Queue, share
from rlentropy.preferences.segments import Pairs, Segments
from rlentropy.preferences.store import Store

nan = float("nan")
PATIENCE = 10.0


def pairs(rng, n):
    def some():
        return Segments(
            rng.integers(10**6, size=(n, 2)), rng.integers(4, size=(n, 1)), np.zeros((n, 1)),
            np.full(n, 1), np.zeros(n, bool), np.zeros(n, int),
        )  # fmt: skip

    return Pairs(some(), some())


class Clock:
    def __init__(self):
        self.now = 1e9

    def __call__(self):
        return self.now


@pytest.fixture
def store(rng):
    found = Store(None)
    found.ask(0, pairs(rng, 6))
    yield found
    found.close()


def answers(store, asking="label"):
    """What stands, by question: labeller and probability."""
    return {
        (row["round"], row["position"]): (row["labeller"], row["probability"])
        for row in store.records()
        if row["asking"] == asking and row["superseded_by"] is None and row["answer"] != "undo"
    }


# ---------------------------------------------------------------- one thing at a time


def test_questions_come_in_order_and_a_window_keeps_its_own(store):
    queue = Queue(store, mirror=0)
    first = queue.next("w", "anna")
    assert (first.round, first.position, first.asking) == (0, 0, "label")
    assert queue.next("w", "anna") == first
    assert queue.answer("anna", first, "left", 1.5, "it falls")
    assert queue.next("w", "anna").position == 1
    row = next(iter(store.records()))
    assert (row["labeller"], row["duration_ms"], row["reason"]) == ("anna", 1500.0, "it falls")
    assert store.answers(0)[0] == (1.0 if first.a_left else 0.0)


def test_what_is_shown_is_what_the_store_says(store):
    queue = Queue(store, mirror=1)
    for position in range(6):
        question = store.question(0, position)
        a, b = question.pair.a.digests()[0], question.pair.b.digests()[0]
        shown = queue.ticket(0, position, "label")
        again = queue.ticket(0, position, "mirror")
        assert (shown.left, shown.right) == ((a, b) if question.left else (b, a))
        assert (again.left, again.right) == (shown.right, shown.left)
        assert shown.query_id == again.query_id == question.query_id
        for ticket in (shown, again):
            left_is_a = ticket.left == a
            assert ticket.value("left") == (1.0 if left_is_a else 0.0)
            assert ticket.value("right") == (0.0 if left_is_a else 1.0)
            assert ticket.value("equal") == 0.5
            assert np.isnan(ticket.value("skip"))
    with pytest.raises(InputError, match="question must have been asked, got 6 of round 0"):
        queue.ticket(0, 6, "label")


@pytest.mark.parametrize("name", ["mirror", "second"])
def test_options_that_are_refused(store, name):
    with pytest.raises(InputError, match=rf"{name} must be in \[0, 1\], got 1.5"):
        Queue(store, **{name: 1.5})
    with pytest.raises(InputError, match="patience must be > 0 and finite, got 0"):
        Queue(store, patience=0)


def test_a_lease_runs_out(store):
    clock = Clock()
    queue = Queue(store, mirror=0, patience=PATIENCE, clock=clock)
    held = queue.next("w", "anna")
    clock.now += PATIENCE - 0.1
    assert queue.next("v", "bert").position == 1
    clock.now += 0.2
    assert queue.next("u", "cleo") == held
    late = queue.next("w", "anna")  # somebody has it now
    assert late.position == 2
    assert queue.answer("anna", held, "left")  # but who answers first wins
    assert not queue.answer("cleo", held, "right")
    assert queue.next("u", "cleo").position == 3


def test_a_lease_that_ran_out_is_renewed_where_nobody_took_it(store):
    clock = Clock()
    queue = Queue(store, mirror=0, patience=PATIENCE, clock=clock)
    held = queue.next("w", "anna")
    clock.now += 10 * PATIENCE
    assert queue.next("w", "anna") == held
    assert queue.next("v", "bert").position == 1


def test_a_window_that_closes_gives_its_question_back(store):
    queue = Queue(store, mirror=0)
    first = queue.next("w", "anna")
    assert queue.next("v", "ben") != first
    queue.leave("w")
    queue.leave("nobody")
    assert queue.next("u", "eve") == first


def test_a_question_waits_until_it_is_answered_or_closed(store, rng):
    queue = Queue(store, mirror=0)
    first = queue.next("w", "anna")
    assert queue.waits("anna", first)
    assert queue.answer("ben", first, "left")
    assert not queue.waits("anna", first)
    assert queue.undo("v", "ben") == first
    assert queue.waits("anna", first)
    store.ask(1, pairs(rng, 1))  # which closes what was before
    assert not queue.waits("anna", first)


def test_an_answer_that_is_sent_again_is_no_other(store):
    queue = Queue(store, mirror=0)
    ticket = queue.next("w", "anna")
    assert queue.answer("anna", ticket, "skip")
    assert queue.answer("anna", ticket, "skip")
    assert not queue.answer("anna", ticket, "left")
    assert not queue.answer("bert", ticket, "skip")
    assert len([row for row in store.records() if row["id"] is not None]) == 1


def test_leases_outlast_the_server(tmp_path, rng):
    clock = Clock()
    store = Store(tmp_path)
    store.ask(0, pairs(rng, 3))
    held = Queue(store, mirror=0, clock=clock).next("w", "anna")
    store.close()
    store = Store(tmp_path)
    queue = Queue(store, mirror=0, clock=clock)
    assert queue.next("v", "bert").position == 1
    assert queue.next("w", "anna") == held
    store.close()


def test_an_undo_shows_the_question_again(store):
    queue = Queue(store, mirror=0)
    assert not queue.can_undo("anna")
    assert queue.undo("w", "anna") is None
    first = queue.next("w", "anna")
    queue.answer("anna", first, "left")
    queue.answer("anna", second := queue.next("w", "anna"), "right")
    third = queue.next("w", "anna")
    assert queue.can_undo("anna")
    assert not queue.can_undo("bert")
    assert queue.undo("w", "anna") == second
    assert queue.next("w", "anna") == second
    assert queue.next("v", "bert") == third  # which the first window let go of
    assert queue.undo("w", "anna") == first
    assert queue.undo("w", "anna") is None
    assert store.pending(0) == list(range(6))


def test_an_undo_in_another_window_is_of_the_same_person(store):
    queue = Queue(store, mirror=0)
    ticket = queue.next("w", "anna")
    queue.answer("anna", ticket, "left")
    held = queue.next("w", "anna")
    assert queue.undo("v", "anna") == ticket
    assert queue.next("w", "anna") == held
    assert queue.next("v", "anna") == ticket


def test_what_was_learnt_is_not_taken_back(rng, store):
    queue = Queue(store, mirror=0)
    for _ in range(6):
        queue.answer("anna", queue.next("w", "anna"), "left")
    assert store.settle(0)
    assert not queue.can_undo("anna")
    assert queue.undo("w", "anna") is None
    store.ask(1, pairs(rng, 2))
    assert queue.next("w", "anna").round == 1


def test_an_answer_of_mirrored_sides_can_be_taken_back_after_that(store):
    queue = Queue(store, mirror=1)
    for _ in range(6):
        queue.answer("anna", queue.next("w", "anna"), "left")
    again = queue.next("w", "anna")
    assert again.asking == "mirror"
    store.settle(0)
    queue.answer("anna", again, "left")
    assert queue.undo("w", "anna") == again
    assert queue.next("w", "anna") == again


def test_a_mirrored_question_waits_for_some_answers(store):
    queue, shown = Queue(store, mirror=1), []
    while (ticket := queue.next("w", "anna")) is not None:
        shown.append((ticket.asking, ticket.position))
        queue.answer("anna", ticket, "left")
    assert shown[:6] == [("label", position) for position in range(6)]
    assert [position for asking, position in shown[6:]] == list(range(6))
    store.settle(0)
    store.ask(1, pairs(np.random.default_rng(1), 8))
    shown = []
    while (ticket := queue.next("w", "anna")) is not None and len(shown) <= 2 * GAP:
        shown.append((ticket.asking, ticket.position))
        queue.answer("anna", ticket, "left")
    # mirrored ones count among the answers between: 0..5 first, then one of each in turn
    assert shown[:8] == [*(("label", p) for p in range(6)), ("mirror", 0), ("mirror", 1)]


def test_nobody_is_mirrored_after_a_skip_or_for_another(store):
    queue = Queue(store, mirror=1)
    for side in ("skip", "left", "skip", "equal", "skip", "skip"):
        queue.answer("anna", queue.next("w", "anna"), side)
    assert queue.next("v", "bert") is None
    again = queue.next("w", "anna")
    assert (again.asking, again.position) == ("mirror", 1)
    assert queue.next("w", "bert") is None  # another person sits at the window
    again = queue.next("v", "anna")
    assert not queue.answer("bert", again, "left")
    assert queue.answer("anna", again, "left")
    assert queue.next("v", "anna").position == 3


def test_a_second_opinion_is_of_another(store):
    queue = Queue(store, mirror=0, second=1)
    for _ in range(6):
        queue.answer("anna", queue.next("w", "anna"), "left")
    assert queue.next("w", "anna") is None
    ticket = queue.next("v", "bert")
    assert (ticket.asking, ticket.position) == ("second", 0)
    assert queue.next("u", "cleo").position == 1  # not the same at once
    assert queue.next("v", "anna") is None
    assert not queue.answer("anna", ticket, "left")
    assert queue.answer("bert", ticket, "equal")
    assert answers(store, "second") == {(0, 0): ("bert", 0.5)}
    assert queue.given("bert") == 0
    assert queue.given("anna") == 6
    assert store.count() == 6


def test_a_question_without_its_first_answer_is_not_asked_again(store):
    queue = Queue(store, mirror=1)
    for _ in range(6):
        queue.answer("anna", queue.next("w", "anna"), "left")
    again = queue.next("v", "anna")
    assert again.asking == "mirror"
    store.undo(0, again.position, "anna")
    assert not queue.answer("anna", again, "left")
    assert queue.next("v", "anna") == queue.ticket(0, again.position, "label")


def test_a_question_that_was_closed_is_not_shown(rng, store):
    queue = Queue(store, mirror=0)
    assert queue.next("w", "anna").round == 0
    store.ask(1, pairs(rng, 2))
    assert queue.next("w", "anna").round == 1
    assert queue.next("v", "bert").round == 1
    assert queue.next("u", "cleo") is None


def test_clips_ahead_are_of_what_nobody_is_shown(store):
    queue = Queue(store, mirror=0)
    queue.next("w", "anna")
    soon = [queue.ticket(0, position, "label") for position in (1, 2)]
    assert set(queue.ahead(2)) == {d for ticket in soon for d in (ticket.left, ticket.right)}
    assert queue.ahead(0) == []
    assert len(queue.ahead(9)) == 10


def test_the_share_of_mirrored_questions_is_binomial(rng):
    n, p = 4000, 0.05
    store = Store(None)
    store.ask(0, pairs(rng, n))
    store.answer_all(0, 0, np.ones(n), "anna")
    queue, found = Queue(store, mirror=p, second=p), {"mirror": set(), "second": set()}
    for asking, labeller in (("mirror", "anna"), ("second", "bert")):
        while (ticket := queue.next(labeller, labeller)) is not None:
            assert ticket.asking == asking
            assert ticket.position not in found[asking]
            found[asking].add(ticket.position)
            queue.answer(labeller, ticket, "left")
        error = np.sqrt(p * (1 - p) / n)
        assert abs(len(found[asking]) / n - p) < 4 * error
    both = len(found["mirror"] & found["second"])  # drawn from different digits
    assert abs(both / n - p * p) < 4 * np.sqrt(p * p * (1 - p * p) / n)
    left = np.array([queue.ticket(0, k, "label").a_left for k in found["mirror"]])
    assert abs(left.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(left))
    store.close()


def test_shares_at_their_ends():
    assert share(0.0) == "00000000"
    assert share(0.5) == "80000000"
    assert not "00000000" < share(0.0)
    assert "ffffffff" < share(1.0)


def test_an_answer_and_what_is_shown_next_are_one_transaction(tmp_path, rng):
    """If what comes next can't be leased, the answer isn't there either, and is sent again."""
    store = Store(tmp_path)
    store.ask(0, pairs(rng, 3))
    queue = Queue(store, mirror=0)
    ticket = queue.next("w", "anna")
    with suppress(KeyError), store.database.transaction():
        assert queue.answer("anna", ticket, "left")
        raise KeyError
    assert store.pending(0) == [0, 1, 2]
    assert queue.next("w", "anna") == ticket
    assert queue.answer("anna", ticket, "left")
    store.close()


# ---------------------------------------------------------------- everything at once


class Model:
    """What a queue must do, told in lists that are searched from end to end."""

    def __init__(self, mirror, second, clock):
        self.mirror, self.second, self.clock = mirror, second, clock
        self.questions = []  # (round, position, query_id)
        self.closed = set()
        self.said = []  # [question, asking, labeller, value], those that stand, oldest first
        self.leases = []  # [question, asking, window, until]

    def standing(self, question, asking):
        return next((s for s in self.said if s[:2] == [question, asking]), None)

    def free(self, question, asking, window):
        return not any(
            lease[:2] == [question, asking] and lease[2] != window and lease[3] > self.clock()
            for lease in self.leases
        )

    def waits(self, question, asking, labeller, gap=0):
        """Whether a question may be shown to a labeller, whoever holds it."""
        key = next(q[2] for q in self.questions if q[:2] == question)
        if self.standing(question, asking):
            return False
        first = self.standing(question, "label")
        if asking == "label":
            return question not in self.closed
        if first is None or first[3] == "skip":
            return False
        if asking == "mirror":
            drawn, hers = int(key[8:16], 16) / 2**32 < self.mirror, first[2] == labeller
            since = self.said[self.said.index(first) + 1 :]
            return drawn and hers and sum(s[2] == labeller for s in since) >= gap
        return int(key[16:24], 16) / 2**32 < self.second and first[2] != labeller

    def next(self, window, labeller):
        found = None
        for lease in self.leases:
            if lease[2] == window and self.waits(*lease[:2], labeller):
                found = lease[:2]
        order = (("mirror", GAP), ("label", 0), ("mirror", 0), ("second", 0))
        for asking, gap in order:
            for key in sorted(self.questions):
                question = key[:2]
                if found is None and self.waits(question, asking, labeller, gap):
                    found = [question, asking] if self.free(question, asking, window) else None
        self.leases = [lease for lease in self.leases if lease[2] != window]
        return None if found is None else self.lease(found, window)

    def lease(self, found, window):
        self.leases = [lease for lease in self.leases if lease[:2] != found]
        self.leases.append([*found, window, self.clock() + PATIENCE])
        return found

    def answer(self, question, asking, labeller, value):
        if (old := self.standing(question, asking)) is not None:
            return old[2:] == [labeller, value]
        if asking != "label" and not self.waits(question, asking, labeller):
            return False
        self.said.append([question, asking, labeller, value])
        self.leases = [lease for lease in self.leases if lease[:2] != [question, asking]]
        return True

    def undo(self, window, labeller):
        hers = [s for s in self.said if s[2] == labeller]
        if not hers or (hers[-1][1] == "label" and hers[-1][0] in self.closed):
            return None
        self.said.remove(hers[-1])
        self.leases = [lease for lease in self.leases if lease[2] != window]
        return self.lease(hers[-1][:2], window)


class Players:
    """A queue and its model, which are asked the same and must say the same."""

    def __init__(self, folder, seed, mirror, second):
        self.rng, self.clock, self.round = np.random.default_rng(seed), Clock(), 0
        self.store, self.options = Store(folder), {"mirror": mirror, "second": second}
        self.model = Model(mirror, second, self.clock)
        self.shown = []  # tickets, old ones among them
        self.restart()
        self.ask()

    def restart(self):
        self.queue = Queue(self.store, patience=PATIENCE, clock=self.clock, **self.options)

    def ask(self):
        n = int(self.rng.integers(1, 9))
        self.store.ask(self.round, pairs(self.rng, n))
        ids = self.store.identities(self.round)[0]
        self.model.closed |= {q[:2] for q in self.model.questions}
        self.model.questions += [(self.round, k, ids[k]) for k in range(n)]
        self.round += 1

    def look(self, window, labeller):
        self.same(self.queue.next(window, labeller), self.model.next(window, labeller))

    def undo(self, window, labeller):
        can = self.queue.can_undo(labeller)
        ticket = self.queue.undo(window, labeller)
        assert can == (ticket is not None)
        self.same(ticket, self.model.undo(window, labeller))

    def same(self, ticket, found):
        assert found == (ticket and [(ticket.round, ticket.position), ticket.asking])
        if ticket is not None:
            self.shown.append(ticket)

    def answer(self, labeller, which, side):
        if self.shown:
            ticket = self.shown[-1 - which % len(self.shown)]
            place = (ticket.round, ticket.position)
            value = side if side in ("equal", "skip") else (side == "left") == ticket.a_left
            stands = self.queue.answer(labeller, ticket, side)
            assert stands == self.model.answer(place, ticket.asking, labeller, value)

    def step(self):
        window, labeller = (str(self.rng.integers(3)) for _ in range(2))
        kind = self.rng.choice(
            ["look", "answer", "stale", "undo", "wait", "ask", "restart"],
            p=[0.35, 0.35, 0.08, 0.09, 0.08, 0.02, 0.03],
        )
        side = str(self.rng.choice(list(SIDES), p=[0.4, 0.4, 0.1, 0.1]))
        if kind == "look":
            self.look(window, labeller)
        elif kind == "answer":
            self.look(window, labeller)
            self.answer(labeller, 0, side)
        elif kind == "stale":
            self.answer(labeller, int(self.rng.integers(9)), side)
        elif kind == "undo":
            self.undo(window, labeller)
        elif kind == "wait":
            self.clock.now += self.rng.exponential(PATIENCE / 2)
        elif kind == "ask":
            self.ask()
        elif kind == "restart":
            self.restart()
        self.check()

    def check(self):
        """No question is held twice, what stands is what was said, and nothing is counted twice."""
        rows = self.store.database.read("SELECT round, position, asking, holder, until FROM leases")
        assert len({row[3] for row in rows}) == len(rows)
        held = sorted([row[:2], *row[2:]] for row in rows)
        assert held == sorted(self.model.leases)
        labels = [s for s in self.model.said if s[1] == "label" and s[3] != "skip"]
        assert self.store.count() == len(labels)
        for labeller in "012":
            assert self.queue.given(labeller) == sum(s[2] == labeller for s in labels)
        for asking in ("label", "mirror", "second"):
            said = {s[0]: s[2] for s in self.model.said if s[1] == asking}
            assert {place: who for place, (who, _) in answers(self.store, asking).items()} == said


@pytest.mark.parametrize("shares", [(0.0, 0.0), (0.4, 0.0), (0.3, 0.4), (1.0, 1.0)])
@pytest.mark.parametrize("seed", range(6))
def test_against_a_model(shares, seed):
    players = Players(None, seed, *shares)
    for _ in range(150):
        players.step()
    players.store.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 140))
def test_against_a_model_for_long(seed):
    rng = np.random.default_rng(seed)
    players = Players(None, seed, *rng.random(2))
    for _ in range(800):
        players.step()
    players.store.close()


def answer_all(folder, name, ready, results):
    ready.wait()
    with closing(Store(folder)) as store:
        queue, found = Queue(store, mirror=0), []
        while (ticket := queue.next(f"window of {name}", name)) is not None:
            found.append((ticket.position, queue.answer(name, ticket, "left")))
        results.put(found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_several_servers_of_one_campaign(tmp_path, rng):
    """Each question is shown by one of them alone."""
    with closing(Store(tmp_path)) as store:
        store.ask(0, pairs(rng, 60))
    start = multiprocessing.get_context("fork")
    ready, results = start.Event(), start.Queue()
    servers = [
        start.Process(target=answer_all, args=(tmp_path, name, ready, results)) for name in "abc"
    ]
    for server in servers:
        server.start()
    ready.set()
    found = [shown for _ in servers for shown in results.get(timeout=60)]
    for server in servers:
        server.join()
    assert all(stands for _, stands in found)
    assert sorted(position for position, _ in found) == list(range(60))
