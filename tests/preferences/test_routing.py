"""Routing against a judge and a person written out pair by pair; campaigns that stop anywhere."""

import copy
import math
import os
import random
import signal
import time
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from oracles.models import random_mdp

from rlentropy import FiniteMDP
from rlentropy.preferences import campaign as campaign_module
from rlentropy.preferences.campaign import Campaign, Plan
from rlentropy.preferences.judges import Judge
from rlentropy.preferences.judging import Ensemble, Simulated
from rlentropy.preferences.oracles import keyed_uniforms, parse_oracle
from rlentropy.preferences.routing import (
    Panel,
    Quota,
    Router,
    answered_by_person,
    asked_before,
    given_by_person,
)
from rlentropy.preferences.segments import Pairs
from rlentropy.preferences.store import Reply, Store
from rlentropy.preferences.table_rewards import TableFeatures
from rlentropy.preferences.table_subject import TableSubject
from rlentropy.preferences.tables import LinearLogits, TablePolicy, TabularTask, state_features
from rlentropy.preferences.teaching import SimulatedTeacher
from rlentropy.preferences.training import Training

S, A, T, N = 5, 2, 4, 60
nan = float("nan")


def make(rng, n=N):
    P = random_mdp(rng, S, A, successors=2).P
    r = rng.integers(-1, 2, size=(S, A, S)) * 1.0
    task = TabularTask.of(FiniteMDP(P, r, np.full(S, 1 / S)), T)
    starts = task.prompts(n, rng)
    pi = np.full((S, A), 1 / A)
    return Pairs(task.roll_out(pi, starts, rng), task.roll_out(pi, starts, rng))


def by_hand(spec, pairs, seed, repeats=0):
    """Readings of the first segment, both orders, from their definition (preferences §3.2)."""
    ids = pairs.query_ids()
    k = spec.readings
    u = keyed_uniforms(seed, ids, np.full(len(ids), repeats), 2 * k + 1)
    found = []
    for i, (a, b) in enumerate(zip(pairs.a.digests(), pairs.b.digests(), strict=True)):
        gap = (1 if a <= b else -1) * (pairs.a.returns[i] - pairs.b.returns[i])
        noise = [math.log(x / (1 - x)) for x in u[i, : 2 * k].tolist()]
        found.append(
            [
                [gap / spec.temperature + z + spec.left_bias for z in noise[:k]],
                [gap / spec.temperature + z - spec.left_bias for z in noise[k:]],
            ]
        )
    return found, u[:, 2 * k]


SPEC = Judge(temperature=1.5, in_std=False, left_bias=0.8, readings=3, tie=0.5)


@pytest.mark.parametrize("rule", ["entropy", "margin", "contradiction", "random"])
def test_who_answers_pair_by_pair(rule, rng):
    pairs = make(rng)
    margins = rng.normal(size=N)
    router = Router(Simulated(SPEC), "judge", seed=9, draws=3, rule=rule, tie=0.5)
    ids, repeats = pairs.query_ids(), np.full(N, 2)
    said = router(pairs, ids, repeats, margins, Quota(13, N))
    readings, coins = by_hand(SPEC, pairs, 9, 2)
    keys, answers = [], []
    for i, (a, b) in enumerate(zip(pairs.a.digests(), pairs.b.digests(), strict=True)):
        flat = [x for order in readings[i] for x in order]
        mean = sum(flat) / 6
        wins, loses = sum(x > 0.5 for x in flat), sum(x < -0.5 for x in flat)
        shares = [n / 6 for n in (wins, 6 - wins - loses, loses) if n]
        entropy = -sum(p * np.log(p) for p in shares)  # to the last bit, as equal ones toss a coin
        y = 1.0 if mean > 0 else 0.0
        margin = margins[i] if a <= b else -margins[i]
        against = abs(margin) if (margin > 0) != (y == 1.0) else 0.0
        score = {"entropy": entropy, "margin": -abs(mean), "contradiction": against}
        keys.append((-score.get(rule, 0.0), coins[i], i))
        answers.append(y if a <= b else 1 - y)
    np.testing.assert_array_equal(said.answers, answers)
    assert sorted(np.flatnonzero(said.person)) == sorted(key[2] for key in sorted(keys)[:13])


def test_each_pair_is_asked_once_in_either_position(rng):
    pairs, asked = make(rng), []

    def judge(left, right, uniforms):
        asked.append((left.digests(), right.digests(), uniforms))
        return np.zeros((len(left), 1, 2))

    router = Router(judge, "judge", seed=9, draws=2)
    said = router(pairs, pairs.query_ids(), np.zeros(N, int), np.zeros(N), Quota(0, 0))
    (one, two, u), (three, four, v) = asked
    both = list(zip(pairs.a.digests(), pairs.b.digests(), strict=True))
    assert one == four == [min(x) for x in both]
    assert two == three == [max(x) for x in both]
    assert u.shape == v.shape == (N, 2)
    assert len(np.unique(np.concatenate([u, v]))) == len(np.unique(pairs.query_ids())) * 4
    np.testing.assert_array_equal(said.answers, np.full(N, 0.5))
    assert not said.person.any()


def test_what_a_judge_says_belongs_to_the_query(rng):
    """The other order of the pair, and of the sides, changes nothing; asking again does."""
    pairs = make(rng)
    pairs = pairs.take(~pairs.identical)
    n = len(pairs)
    ids, zeros = pairs.query_ids(), np.zeros(n, int)
    router = Router(Simulated(SPEC), "judge", seed=9, draws=3)
    one = router(pairs, ids, zeros, np.ones(n), Quota(5, n))
    two = router(pairs.swapped(), ids, zeros, -np.ones(n), Quota(5, n))
    np.testing.assert_array_equal(one.answers, 1.0 - two.answers)
    np.testing.assert_array_equal(one.person, two.person)
    again = router(pairs, ids, zeros + 1, np.ones(n), Quota(5, n))
    assert (one.answers != again.answers).any()


def test_a_judge_that_cannot_say_leaves_the_pair_to_a_person(rng):
    pairs = make(rng, 10)

    def judge(left, right, uniforms):
        silent = np.isin(np.arange(10), [2, 5, 6])
        gap = left.returns - right.returns
        scores = np.stack([np.where(silent, nan, gap), np.zeros(10)], axis=1)
        return scores[:, None]

    router, ids, zeros = Router(judge, "j", seed=1, rule="margin"), pairs.query_ids(), np.zeros(10)
    for quota, silent_asked, total in (
        (Quota(1, 10), 3, 3),
        (Quota(4, 10), 3, 4),
        (Quota(4, 2), 2, 2),
    ):
        said = router(pairs, ids, zeros.astype(int), zeros, quota)
        assert np.isnan(said.answers).tolist() == [i in (2, 5, 6) for i in range(10)]
        assert said.person[[2, 5, 6]].sum() == silent_asked
        assert said.person.sum() == total


@pytest.mark.parametrize(
    ("labels", "budget", "batch"), [(7, 40, 8), (40, 40, 8), (0, 16, 4), (5, 33, 16)]
)
def test_the_persons_labels_are_spread_evenly(labels, budget, batch):
    router = Router(Simulated(SPEC), "j", seed=1, labels=labels)
    spent = bought = 0
    while bought < budget:
        n = min(batch, budget - bought)
        quota = router.quota(n, bought, budget, spent)
        assert quota.most == min(labels - spent, n)
        spent, bought = spent + quota.usual, bought + n
        assert spent == math.floor(Fraction(labels * bought, budget))
    assert spent == labels


def test_a_share_is_of_the_batch():
    router = Router(Simulated(SPEC), "j", seed=1, share=0.2)
    assert router.quota(16, 100, 640, 77) == (3, 16)
    assert Router(Simulated(SPEC), "j", seed=1, share=0.0).quota(16, 0, 640, 0) == (0, 0)


def test_what_was_spent_beyond_the_quota_is_saved_later():
    """A judge that couldn't say took more of the person at first."""
    router = Router(Simulated(SPEC), "j", seed=1, labels=10)
    assert router.quota(8, 0, 40, 8) == (0, 2)
    assert router.quota(8, 32, 40, 8) == (2, 2)
    assert router.quota(8, 32, 40, 12) == (0, 0)


def test_a_panel_is_judge_and_person(rng):
    pairs = make(rng)
    person = SimulatedTeacher(parse_oracle("return"), pairs.a, None, 3)
    ids, zeros, left = pairs.query_ids(), np.zeros(N, int), np.ones(N, bool)
    true = np.sign(pairs.gaps.round(9)) / 2 + 0.5
    panels = {
        s: Panel(Router(Simulated(SPEC), "j", 3, 3, share=s), person) for s in (0.0, 0.5, 1.0)
    }
    y = {share: panel(pairs, ids, zeros, left) for share, panel in panels.items()}
    np.testing.assert_array_equal(y[1.0], true)
    right = {share: (answers == true).mean() for share, answers in y.items()}
    assert right[0.0] < right[0.5] < 1.0
    assert (y[0.5] != y[0.0]).sum() <= N // 2


# ---------------------------------------------------------------- what the store knows


def test_what_the_store_knows_of_judge_and_person(rng):
    pairs, store = make(rng, 6), Store(None)
    replies = [
        Reply(0, i, 1.0, "j", None, "judge" if i in (1, 3, 4) else "label") for i in range(6)
    ]
    store.ask(0, pairs, replies=replies)
    assert store.pending(0) == [1, 3, 4]
    assert given_by_person(store) == 0
    assert answered_by_person(store, 0) is None
    store.answer(0, 3, 0.0, "p")
    store.answer(0, 4, nan, "p")
    assert given_by_person(store) == 1
    store.answer(0, 1, 0.5, "p")
    assert given_by_person(store) == 2
    found, y = answered_by_person(store, 0)
    assert found.a.digests() == [pairs.a.digests()[i] for i in (1, 3)]
    np.testing.assert_array_equal(y, [0.5, 0.0])
    store.undo(0, 3, "p")
    assert given_by_person(store) == 1
    assert answered_by_person(store, 1) is None
    store.ask(0, pairs, replies=[Reply(0, i, 0.0, "late") for i in range(6)])  # again is no change
    assert store.pending(0) == [3]
    np.testing.assert_array_equal(store.answers(0, "judge"), [nan, 1.0, nan, 1.0, 1.0, nan])


def test_how_often_a_query_was_asked_is_what_the_store_writes(rng):
    pairs, store = make(rng, 8), Store(None)
    twice = pairs.take([0, 1, 0, 2, 0, 1])
    before = asked_before(store, twice.query_ids())
    store.ask(0, twice)
    np.testing.assert_array_equal(before, store.identities(0)[1])
    more = pairs.swapped().take([0, 3, 3])
    before = asked_before(store, more.query_ids())
    store.ask(1, more)
    np.testing.assert_array_equal(before, store.identities(1)[1])
    assert before.tolist() == [3, 0, 1] or pairs.identical.any()


# ---------------------------------------------------------------- campaigns

LABELS, BATCH = 32, 8


def subject_of():
    task = TASK
    phi = state_features(task, "one-hot")
    reference = np.full((S, A), 1 / A)
    policy = TablePolicy(reference, LinearLogits(phi, A, 0.05))
    return TableSubject(task, policy, TableFeatures(phi, task.starts, reference, True), Training())


def grid():
    rng = np.random.default_rng(3)
    P = random_mdp(rng, S, A, successors=3).P
    return TabularTask.of(FiniteMDP(P, rng.normal(size=(S, A)), np.full(S, 1 / S)), 6)


TASK = grid()


def sample():
    rng = np.random.default_rng(4)
    return TASK.roll_out(np.full((S, A), 1 / A), TASK.prompts(200, rng), rng)


def judge_of(kind, subject):
    if kind == "noisy":
        return Simulated(SPEC)
    rng = np.random.default_rng(6)
    return Ensemble(subject.features, subject.groups, subject.held_out(50, rng))


def campaign_of(store, kind="noisy", person=True, rule="margin", **options):
    subject = subject_of()
    router = Router(judge_of(kind, subject), "the judge", 5, 3, rule, person="p", **options)
    teach = SimulatedTeacher(parse_oracle("return"), sample(), None, 5) if person else None
    plan = Plan(labels=LABELS, batch_size=BATCH, pool=2, acquisition="random")
    return Campaign(subject, plan, teach, store, np.random.default_rng(0), None, router)


def finish(campaign):
    while campaign.labels < LABELS:
        campaign.advance(1)
    return campaign


def said(store):
    names = ("round", "position", "query_id", "asking", "labeller", "probability")
    return [tuple(row[name] for name in names) for row in store.records()]


@pytest.mark.parametrize("kind", ["noisy", "ensemble"])
@pytest.mark.parametrize(
    "options", [{"share": 0.3}, {"labels": 13}, {"share": 0.3, "rule": "contradiction"}]
)
def test_a_campaign_has_both(kind, options):
    campaign = finish(campaign_of(Store(None), kind, **options))
    rows = said(campaign.store)
    by = {who: [r for r in rows if r[3] == "label" and r[4] == who] for who in ("the judge", "p")}
    opinions = {r[:2] for r in rows if r[3] == "judge"}
    assert {r[:2] for r in by["p"]} == opinions
    assert len(by["p"]) + len(by["the judge"]) == LABELS == campaign.labels
    of_round = [sum(r[0] == k for r in by["p"]) for k in range(LABELS // BATCH)]
    first = BATCH if kind == "ensemble" else 2  # which knows nothing in the first round
    wanted = (
        [first, 2, 2, 2] if "share" in options else {"noisy": [3, 3, 3, 4]}.get(kind, [8, 0, 1, 4])
    )
    assert of_round == wanted
    true = dict(
        zip([r[:2] for r in rows if r[3] == "label"], campaign.labelled.pairs.gaps, strict=True)
    )
    assert all(
        r[5] == (0.5 if abs(true[r[:2]]) < 1e-9 else float(true[r[:2]] > 0)) for r in by["p"]
    )


class Person:
    """Answers what is pending by true returns, a few at a time."""

    def __init__(self, store):
        self.store = store

    def answer(self, most):
        k = self.store.latest()
        for position in self.store.pending(k)[:most]:
            gap = float(self.store.question(k, position).pair.gaps[0])
            self.store.answer(k, position, 0.5 if abs(gap) < 1e-9 else float(gap > 0), "p")


@pytest.mark.parametrize("kind", ["noisy", "ensemble"])
@pytest.mark.parametrize("options", [{"share": 0.4}, {"labels": 11}])
def test_a_person_behind_a_judge_may_be_interrupted_anywhere(kind, options, tmp_path, monkeypatch):
    """Stopped after every answer or two: as with a simulated person who never stopped."""
    monkeypatch.setattr(campaign_module, "WAIT", 0.0)
    whole = finish(campaign_of(Store(None), kind, **options))
    store = Store(tmp_path)
    campaign, person, asked = campaign_of(store, kind, person=False, **options), Person(store), []
    while campaign.labels < LABELS:
        campaign.advance(1)
        if (k := store.latest()) is not None:
            assert all(
                r[3] == "judge" for r in said(store) if r[1] in store.pending(k) and r[0] == k
            )
        person.answer(2)
        if campaign.labels % 3 == 0:  # not always, so that rounds end by themselves, too
            campaign.advance(1)
        state = copy.deepcopy(campaign.state_dict())
        store.close()
        store = Store(tmp_path)
        campaign, person = campaign_of(store, kind, person=False, **options), Person(store)
        judge = campaign.router.judge
        campaign.router = replace(campaign.router, judge=Counted(judge, asked))
        campaign.load_state_dict(state)
    assert sorted(said(store)) == sorted(said(whole.store))
    np.testing.assert_array_equal(campaign.subject.policy.pi, whole.subject.policy.pi)
    assert campaign.curve == whole.curve
    assert len(asked) <= 2 * LABELS // BATCH  # both positions, a batch once


class Counted:
    def __init__(self, judge, asked):
        self.judge, self.asked = judge, asked
        if hasattr(judge, "learn"):
            self.learn = judge.learn

    def __call__(self, *shown):
        self.asked.append(len(shown[0]))
        return self.judge(*shown)


def test_a_judge_is_not_asked_again_about_what_the_store_has(tmp_path):
    """Not even where it would say something else today."""
    store = Store(tmp_path)
    first = campaign_of(store, share=0.3)
    first.advance(1)
    then = said(store)
    later = campaign_of(store, share=0.3)

    def fails(*_):
        raise AssertionError

    later.router = replace(later.router, judge=fails)
    later.advance(1)
    assert said(store) == then
    np.testing.assert_array_equal(first.subject.policy.pi, later.subject.policy.pi)


def test_what_a_person_skips_is_no_label_of_theirs():
    campaign = campaign_of(Store(None), labels=8)
    teach = campaign.teach
    campaign.teach = lambda pairs, ids, *rest: np.where(
        [int(key, 16) % 2 for key in ids], nan, teach(pairs, ids, *rest)
    )
    finish(campaign)
    assert campaign.labels == LABELS
    assert campaign.costs["skipped"] > 0
    assert given_by_person(campaign.store) <= 8


def test_a_round_waits_for_an_undo_of_a_page_but_not_of_our_own_front(monkeypatch):
    monkeypatch.setattr(campaign_module, "WAIT", 0.0)
    store = Store(None)
    campaign = campaign_of(store, person=False, share=0.3)
    campaign.plan = replace(campaign.plan, grace=0.3)
    person = Person(store)
    campaign.advance(1)
    person.answer(9)
    assert campaign.advance(1) is None
    assert store.undo(0) is not None
    person.answer(9)
    began = time.monotonic()
    while campaign.advance(1) is None:
        time.sleep(0.01)
    assert time.monotonic() - began >= 0.25
    assert store.undo(0) is None
    campaign.plan = replace(campaign.plan, grace=1e9)
    campaign.front = lambda store, round: person.answer(9) or 1
    assert campaign.advance(1) is not None


def dies_in(store, writes):
    """Kill this process before one of the writes to come, in the middle of a transaction."""
    write, left = store.database.write, writes

    def counted(statement, rows):
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        write(statement, rows)

    store.database.write = counted


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("kind", ["noisy", "ensemble"])
def test_power_cuts(kind, tmp_path):
    """Killed before a random write, begun anew from the store each time: the same in the end."""
    whole = finish(campaign_of(Store(tmp_path / "whole"), kind, labels=11))
    chance, kills = random.Random(8), 0
    while True:
        left = chance.randint(1, 6)
        pid = os.fork()
        if not pid:
            code = 1
            with suppress(BaseException):
                store = Store(tmp_path / "cut")
                if kills < 8:
                    dies_in(store, left)
                found = finish(campaign_of(store, kind, labels=11))
                np.save(tmp_path / "pi.npy", found.subject.policy.pi)
                code = 0
            os._exit(code)
        if (status := os.waitpid(pid, 0)[1]) == 0:
            break
        assert os.WIFSIGNALED(status)
        kills += 1
    assert kills >= 4
    assert said(Store(tmp_path / "cut")) == said(whole.store)
    np.testing.assert_array_equal(np.load(tmp_path / "pi.npy"), whole.subject.policy.pi)
