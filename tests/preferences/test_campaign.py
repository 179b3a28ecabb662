"""Campaigns: budgets, what is asked, who plays, and going on to the same bits after any stop."""

import copy
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from rlentropy import FiniteMDP
from rlentropy.errors import InputError
from rlentropy.log import Log, drive
from rlentropy.preferences import campaign as campaign_module
from rlentropy.preferences import table_subject
from rlentropy.preferences.acquisition import RULES
from rlentropy.preferences.campaign import Campaign, Plan
from rlentropy.preferences.oracles import parse_oracle
from rlentropy.preferences.path_entropy import path_entropy
from rlentropy.preferences.store import Store
from rlentropy.preferences.table_rewards import TableFeatures
from rlentropy.preferences.table_subject import TableSubject
from rlentropy.preferences.tables import (
    LinearLogits,
    TablePolicy,
    TabularTask,
    noisy_expert,
    state_features,
)
from rlentropy.preferences.teaching import SimulatedTeacher
from rlentropy.preferences.training import Training

nan = float("nan")
ROOT = Path(__file__).parents[2]
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
TASKS: dict = {}


def task_of(slippery):
    if slippery not in TASKS:
        env = gymnasium.make("FrozenLake-v1", map_name="4x4", is_slippery=slippery)
        TASKS[slippery] = TabularTask.of(FiniteMDP.from_env(env), 8, (4, 4))
    return TASKS[slippery]


def subject_of(slippery=False, **options):
    task = task_of(slippery)
    A, phi = task.mdp.num_actions, state_features(task, "rbf")
    reference = noisy_expert(task, np.random.default_rng(1))
    policy = TablePolicy(reference, LinearLogits(phi, A, 0.05))
    training = options.pop("training", Training())
    return TableSubject(
        task, policy, TableFeatures(phi, task.starts, reference, True), training, **options
    )


def teacher(text="return", slippery=False, seed=5):
    task = task_of(slippery)
    rng = np.random.default_rng(2)
    reference = noisy_expert(task, np.random.default_rng(1))
    sample = task.roll_out(reference, task.prompts(400, rng), rng)
    return SimulatedTeacher(parse_oracle(text), sample, task.optimum, seed)


def make(store=None, oracle="return", slippery=False, teach=None, subject=None, seed=0, **plan):
    """A campaign of 32 labels in rounds of 8, small and quick."""
    return Campaign(
        subject or subject_of(slippery),
        Plan(**{"labels": 32, "batch_size": 8, "pool": 4, "prompts": 2, **plan}),
        teach or teacher(oracle, slippery),
        store or Store(None),
        np.random.default_rng(seed),
    )


def finish(campaign):
    while campaign.labels < campaign.plan.labels:
        campaign.advance(1)
    return campaign


def asked(campaign):
    """Of each round: the questions, in order."""
    found: dict = {}
    for row in campaign.store.records():
        found.setdefault(row["round"], []).append(row["query_id"])
    return [found[k] for k in sorted(found)]


def answers(campaign):
    return [
        {name: row[name] for name in ("round", "position", "query_id", "repeats", "probability",
                                      "score", "margin", "propensity", "shown_left")}
        for row in campaign.store.records()
    ]  # fmt: skip


def same(one, two):
    """To the same bits."""
    np.testing.assert_array_equal(one.subject.policy.pi, two.subject.policy.pi)
    assert one.curve == two.curve
    assert one.at == two.at
    assert one.costs == two.costs
    np.testing.assert_array_equal(one.margins, two.margins)
    assert answers(one) == answers(two)
    for name, stream in one.rngs.items():
        assert stream.bit_generator.state == two.rngs[name].bit_generator.state, name
    if one.belief is not None:
        np.testing.assert_array_equal(one.belief.weights, two.belief.weights)
        np.testing.assert_array_equal(one.belief.evidence, two.belief.evidence)
        np.testing.assert_array_equal(one.belief.mean(), two.belief.mean())


# ---------------------------------------------------------------- the budget


@pytest.mark.parametrize(
    ("plan", "ends"),
    [
        ({"labels": 24}, [0, 8, 16, 24]),
        ({"labels": 20}, [0, 8, 16, 20]),  # the last round is short
        ({"labels": 5}, [0, 5]),
        ({"labels": 30, "schedule": (5, 12)}, [0, 5, 12, 20, 28, 30]),
        ({"labels": 10, "schedule": (5, 12)}, [0, 5, 10]),
        ({"labels": 12, "batch_size": 5, "schedule": (1, 2)}, [0, 1, 2, 7, 12]),
    ],
)
@pytest.mark.parametrize("skips", [0.0, 0.4])
def test_labels_never_exceed_the_budget(plan, ends, skips, rng):
    said = []

    def teach(pairs, ids, repeats, left, session, before):
        assert before == sum(len(x) for x in said)  # questions before these
        y = np.where(rng.random(len(pairs)) < skips, nan, rng.choice([0.0, 0.5, 1.0], len(pairs)))
        said.append(y)
        return y

    campaign = make(teach=teach, **plan)
    while campaign.labels < campaign.plan.labels:
        campaign.advance(1)
        assert campaign.labels <= campaign.plan.labels
        assert campaign.store.count() == campaign.labels == len(campaign.labelled.y)
    assert campaign.at == ends
    y = np.concatenate(said)
    assert campaign.costs["skipped"] == np.isnan(y).sum()
    np.testing.assert_array_equal(campaign.labelled.y, y[~np.isnan(y)])
    assert len(campaign.curve) == len(ends) == campaign.round + 1
    assert campaign.subject.sizes == np.diff(ends).tolist()
    assert len(campaign.margins) == campaign.labels
    assert campaign.done == campaign.step == campaign.labels


def test_a_teacher_who_never_answers_is_told_so():
    def teach(pairs, *_):
        return np.full(len(pairs), nan)

    campaign = make(teach=teach, batch_size=2, pool=1)
    with pytest.raises(InputError, match="oracle must answer some of 200 questions of a round"):
        campaign.advance(1)


def test_a_long_round_may_have_skips():
    """The patience of a round is of its own size, not of the rounds after the schedule."""

    def teach(pairs, ids, repeats, left, session, before):
        return np.where(np.arange(len(pairs)) < 5, nan, 1.0) if not before else np.ones(len(pairs))

    campaign = finish(make(teach=teach, labels=120, schedule=(120,), batch_size=1, pool=1))
    assert campaign.at == [0, 120]
    assert campaign.costs["skipped"] == 5


def test_costs_are_those_of_the_rollouts(monkeypatch):
    steps = []
    roll_out = TabularTask.roll_out

    def counted(self, pi, starts, rng):
        part = roll_out(self, pi, starts, rng)
        steps.append(part.lengths.sum())
        return part

    monkeypatch.setattr(TabularTask, "roll_out", counted)
    campaign = make()
    steps.clear()
    finish(campaign)
    assert campaign.costs["env_steps"] == sum(steps)
    assert campaign.costs["candidates"] == 32 * 4


# ---------------------------------------------------------------- what is asked


def test_entropy_and_certainty_without_a_filter_is_certainty():
    one, two = (
        finish(make(acquisition=rule, prompts=1)) for rule in ("entropy-certainty", "certainty")
    )
    assert asked(one) == asked(two)
    np.testing.assert_array_equal(one.subject.policy.pi, two.subject.policy.pi)


def test_entropy_and_certainty_of_one_candidate_a_label_is_entropy():
    one = finish(make(acquisition="entropy-certainty", pool=1))
    two = finish(make(acquisition="entropy", pool=1))
    assert asked(one) == asked(two)
    assert asked(one) != asked(finish(make(acquisition="certainty", pool=1)))


def test_an_entropy_filter_keeps_the_starts_of_most_entropy(monkeypatch):
    campaign = make(acquisition="entropy", prompts=3)
    drawn, kept = [], []
    subject, prompts, roll_out = campaign.subject, TableSubject.prompts, TableSubject.roll_out
    monkeypatch.setattr(
        subject, "prompts", lambda n, rng: drawn.append(prompts(subject, n, rng)) or drawn[-1]
    )
    monkeypatch.setattr(
        subject, "roll_out", lambda x, rng: kept.append(x) or roll_out(subject, x, rng)
    )
    campaign.advance(1)
    assert (len(drawn[0]), len(kept[0])) == (24, 8)
    values = dict(
        enumerate(path_entropy(subject.task.mdp, subject.original, subject.task.length).tolist())
    )
    expected = sorted((values[s] for s in drawn[0].tolist()), reverse=True)[:8]
    found = sorted((values[s] for s in kept[0].tolist()), reverse=True)
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("rule", ["certainty", "uncertainty"])
def test_the_first_round_of_a_margin_rule_is_a_seeded_uniform_choice(rule):
    one, two, other = make(acquisition=rule), make(acquisition=rule), make(acquisition=rule, seed=1)
    figures = one.advance(1)
    assert figures["train/degenerate"] == 1.0
    assert figures["train/agreement"] == 0.5
    assert figures["train/margin"] == 0.0
    assert one.advance(1)["train/degenerate"] == 0.0
    two.advance(1)
    other.advance(1)
    assert asked(one)[0] == asked(two)[0] != asked(other)[0]
    first = [row["propensity"] for row in two.store.records()]
    distinct = 32 - figures["train/duplicates"]
    np.testing.assert_allclose(first, 8 / distinct)


def test_rules_meet_the_same_starts_and_the_same_noise_of_actions():
    """In the first round, where the policy is still the same."""
    seen = []
    for rule in ("random", "certainty", "label-information", "push-value", "oracle-gap"):
        subject = subject_of()
        roll_out = subject.roll_out
        pools: list = []
        subject.roll_out = lambda x, rng, pools=pools, roll_out=roll_out: (
            pools.append(roll_out(x, rng)) or pools[-1]
        )
        make(acquisition=rule, subject=subject).advance(1)
        seen.append(pools[0].query_ids())
    assert all(x == seen[0] for x in seen)


def test_identical_pairs_are_asked_last():
    campaign = finish(make(acquisition="uncertainty"))
    parts = campaign.labelled.pairs
    assert not campaign.subject.duplicates(parts).any()


def test_teachers_judge_the_reward_of_the_environment():
    task = task_of(True)
    P, r = task.mdp.P.tocoo(), task.mdp.r_successor
    rewards = {(int(i), int(j)): x for i, j, x in zip(*P.coords, r, strict=True)}
    shown = []
    judge = teacher(slippery=True)

    def teach(pairs, *rest):
        shown.extend([pairs.a, pairs.b])
        return judge(pairs, *rest)

    finish(make(slippery=True, teach=teach, acquisition="push-value"))
    A, n = task.mdp.num_actions, 0
    for part in shown:
        for i, length in enumerate(part.lengths):
            for t in range(length):
                s, a, after = part.states[i, t], part.actions[i, t], part.states[i, t + 1]
                assert part.rewards[i, t] == rewards[int(s * A + a), int(after)]
                n += 1
    assert n > 100


def test_alpha_is_an_option_of_push_value():
    with pytest.raises(InputError, match="acquisition of alpha must be one of push-value"):
        make(acquisition="random", alpha=0.3)
    one = finish(make(acquisition="push-value", alpha=0.5))
    assert asked(one) == asked(finish(make(acquisition="push-value")))
    assert asked(one) != asked(finish(make(acquisition="push-value", alpha=0.0)))


@pytest.mark.parametrize("rule", sorted(RULES))
@pytest.mark.parametrize("slippery", [False, True])
def test_every_rule_spends_its_budget(rule, slippery):
    campaign = finish(make(acquisition=rule, slippery=slippery, labels=16))
    assert campaign.labels == 16
    assert all(np.isfinite(list(point.values())).all() for point in campaign.curve)
    learnt = campaign.curve[-1]["kl"] > 1e-6
    assert campaign.curve[0]["kl"] == pytest.approx(0.0, abs=1e-12)
    assert learnt == (campaign.labelled.y != 0.5).any()


def test_figures_of_a_round_by_hand():
    campaign = make(oracle="bradley-terry:0.3", acquisition="label-information")
    campaign.advance(1)
    mean = campaign.belief.mean()
    figures = campaign.advance(1)
    y = campaign.labelled.y[8:]
    margins = np.array([row["margin"] for row in campaign.store.records()][8:])
    assert figures["train/ties"] == 0.0
    assert figures["train/margin"] == pytest.approx(np.abs(margins).mean())
    right = [
        0.5 if m == 0 else float((m > 0) == (v > 0.5)) for m, v in zip(margins, y, strict=True)
    ]
    assert figures["train/agreement"] == pytest.approx(np.mean(right))
    x = campaign.subject.features(campaign.labelled.pairs.take(slice(8, 16)))
    right = np.where(x @ mean == 0.0, 0.5, (x @ mean > 0) == (y > 0.5))
    assert figures["train/belief_agreement"] == pytest.approx(right.mean())


def test_a_teacher_drifts_by_the_questions_before(monkeypatch):
    """Skips count once, however many pools a round took."""
    before = []
    judge = teacher("bradley-terry:0.3,skip=0.9", seed=3)

    def teach(pairs, ids, repeats, left, session, asked):
        before.append((asked, len(pairs)))
        return judge(pairs, ids, repeats, left, session, asked)

    finish(make(teach=teach))
    assert len(before) > 4
    total = 0
    for asked_before, n in before:
        assert asked_before == total
        total += n


# ---------------------------------------------------------------- who plays


@pytest.mark.parametrize(
    "training", [{}, {"update_reference": True}, {"restart": True, "train": "all"}]
)
@pytest.mark.parametrize("rule", ["random", "entropy-certainty", "label-information"])
def test_an_offline_campaign_never_plays_the_trained_policy(training, rule, monkeypatch):
    played = []
    roll_out, entropies = TabularTask.roll_out, table_subject.prompt_entropies
    monkeypatch.setattr(
        TabularTask,
        "roll_out",
        lambda self, pi, *rest: played.append(pi) or roll_out(self, pi, *rest),
    )
    monkeypatch.setattr(
        table_subject,
        "prompt_entropies",
        lambda kind, task, pi, *rest: played.append(pi) or entropies(kind, task, pi, *rest),
    )
    for offline in (True, False):
        subject = subject_of(offline=offline, training=Training(**training))
        judge, played[:] = teacher(), []
        finish(make(subject=subject, acquisition=rule, teach=judge))
        assert len(played) >= 4
        only = all((pi == subject.original).all() for pi in played)
        assert only is offline
        assert np.abs(subject.policy.pi - subject.original).max() > 1e-3


def test_a_restart_begins_each_round_at_the_reference():
    resets = []

    class Watched(TablePolicy):
        def reset(self):
            super().reset()
            resets.append((self.pi.copy(), self.logits.W.copy()))

    subject = subject_of(training=Training(restart=True, train="all"))
    first = subject.policy.pi.copy()
    subject.policy.__class__ = Watched
    finish(make(subject=subject))
    assert len(resets) == 4
    for pi, W in resets:
        np.testing.assert_array_equal(pi, first)
        assert not W.any()


def test_of_many_completions_the_pair_of_largest_margin_is_kept(rng):
    subject = subject_of(completions=5)
    finish(make(subject=subject))
    prompts = subject.prompts(40, rng)
    seed = np.random.default_rng(9)
    segments = subject.task.roll_out(subject.policy.pi, np.tile(prompts, 5), copy.deepcopy(seed))
    sums = subject.policy.log_ratios(segments).reshape(5, 40)
    pairs = subject.roll_out(prompts, seed)
    np.testing.assert_array_equal(pairs.a.starts, prompts)
    np.testing.assert_array_equal(pairs.b.starts, prompts)
    np.testing.assert_allclose(subject.policy.log_ratios(pairs.a), sums.max(0))
    np.testing.assert_allclose(subject.policy.log_ratios(pairs.b), sums.min(0))


def test_tempered_candidates_are_of_the_tempered_policy():
    subject = subject_of(temperature=2.0)
    expected = np.sqrt(subject.original)
    np.testing.assert_allclose(subject.playing, expected / expected.sum(1, keepdims=True))


# ---------------------------------------------------------------- stopped and resumed

SETTINGS = [
    {"acquisition": "random"},
    {"acquisition": "label-information", "oracle": "bradley-terry:0.3"},
    {"acquisition": "push-value", "slippery": True, "oracle": "bradley-terry:0.3,skip=0.5"},
    {"acquisition": "entropy-certainty", "schedule": (5, 25)},
]


def restored(state, store, **settings):
    campaign = make(store, **settings)
    campaign.load_state_dict(state)
    return campaign


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_campaign_goes_on_to_the_same_bits_after_any_round(settings, tmp_path):
    """In memory against on disk, each stopped after every round."""
    whole = finish(make(**settings))
    memory, disk = Store(None), Store(tmp_path / "stopped")
    one, two = make(memory, **settings), make(disk, **settings)
    while one.labels < one.plan.labels:
        one.advance(1)
        two.advance(1)
        one = restored(copy.deepcopy(one.state_dict()), memory, **settings)
        log = Log(tmp_path)
        log.checkpoint(two.state_dict())
        log.close()
        state = Log(tmp_path).restore()
        disk.close()
        disk = Store(tmp_path / "stopped")
        two = restored(state, disk, **settings)
    same(one, whole)
    same(two, whole)


@pytest.mark.parametrize("settings", SETTINGS)
def test_answers_in_the_store_are_not_asked_for_again(settings, tmp_path):
    """A checkpoint of two rounds before, or none at all, and a store that knows more."""
    whole = finish(make(**settings))
    store = Store(tmp_path)
    first = make(store, **settings)
    states = [copy.deepcopy(first.state_dict())]
    for _ in range(3):
        first.advance(1)
        states.append(copy.deepcopy(first.state_dict()))
    known = store.latest()
    for state in (states[1], states[0]):
        judge, sessions = teacher(settings.get("oracle", "return"), "slippery" in settings), []

        def teach(*arguments, judge=judge, sessions=sessions):
            sessions.append(arguments[4])
            return judge(*arguments)

        later = restored(state, store, teach=teach, **settings)
        finish(later)
        same(later, whole)
        assert all(session > known for session in sessions)


class Person:
    """Fills the store as a front end would, with what a teacher says."""

    def __init__(self, store, oracle):
        self.store, self.judge = store, teacher(oracle)

    def answer(self, most):
        """Answer some pending questions of the latest round."""
        if (k := self.store.latest()) is None:
            return
        for position in self.store.pending(k)[:most]:
            question = self.store.question(k, position)
            ids, repeats = self.store.identities(k, position)
            left = np.array([question.left])
            y = self.judge(question.pair, ids[:1], repeats[:1], left, k, 0)
            self.store.answer(k, position, float(y[0]))


@pytest.mark.parametrize(
    ("rule", "skip"), [("label-information", 0.3), ("push-value", 0.3), ("random", 0.0)]
)
def test_a_person_may_be_interrupted_at_any_answer(rule, skip, tmp_path, monkeypatch):
    """The state is saved and taken up again while questions are out, between pools of a round."""
    monkeypatch.setattr(campaign_module, "WAIT", 0.0)
    oracle = "bradley-terry:0.3"
    settings = {"acquisition": rule, "labels": 14, "batch_size": 7}

    class Choosy(Person):
        def __init__(self, store, oracle):
            super().__init__(store, oracle)
            judge = self.judge
            self.judge = lambda pairs, ids, *rest: np.where(
                int(ids[0], 16) % 10 < 10 * skip, nan, judge(pairs, ids, *rest)
            )

    def person_campaign(store):
        campaign = make(store, **settings)
        campaign.teach = None
        return campaign

    store = Store(tmp_path / "whole")
    whole, person = person_campaign(store), Choosy(store, oracle)
    while whole.labels < 14:
        whole.advance(1)
        person.answer(100)
    folder = tmp_path / "stopped"
    store = Store(folder)
    campaign, person = person_campaign(store), Choosy(store, oracle)
    stops = 0
    while campaign.labels < 14:
        campaign.advance(1)
        person.answer(3)
        campaign.advance(1)
        state = copy.deepcopy(campaign.state_dict())
        store.close()
        store = Store(folder)
        campaign, person = person_campaign(store), Choosy(store, oracle)
        campaign.load_state_dict(state)
        stops += 1
    assert stops >= 5
    same(campaign, whole)
    assert (whole.costs["skipped"] > 0) == (skip > 0)


# ---------------------------------------------------------------- power cuts

CUT = {"acquisition": "label-information", "oracle": "bradley-terry:0.3", "labels": 96,
       "batch_size": 8}  # fmt: skip


def driven(folder, settings):
    """A run as the command line drives it: log, store, checkpoints every few labels."""
    log, store = Log(folder, checkpoint_every=24), Store(folder / "campaign")
    oracle = settings["oracle"]
    judge = teacher(oracle)

    def teach(pairs, ids, repeats, left, session, before):
        open_ = store.pending(session)
        if len(open_) != len(pairs):  # some of these were answered before
            (folder / "asked twice").touch()
        with open(folder / "asked", "a") as file:
            file.write(f"{session} {before}\n")
        return judge(pairs, ids, repeats, left, session, before)

    campaign = make(store, teach=teach, **settings)

    def evaluate():
        return {"eval/return": campaign.curve[-1]["return"]}, None

    try:
        drive(campaign, log, evaluate, total=settings["labels"], budget="labels",
              evaluate_first=True)  # fmt: skip
    finally:
        log.close()
        store.close()
    return campaign


def outcome(folder):
    """What a finished run left, without the clock."""
    store = Store(folder / "campaign")
    rows = [
        {k: v for k, v in row.items() if not (k.endswith("_at") or k == "campaign")}
        for row in store.records()
    ]
    store.close()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if not line["tag"].startswith("time/")]
    return rows, lines


def child(folder, settings):
    """Run in a fork; 0 where the campaign came to its end."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        campaign = driven(folder, settings)
        np.save(folder / "pi.npy", campaign.subject.policy.pi)
        code = 0
    finally:
        os._exit(code)


def lines(path):
    return len(path.read_text().splitlines()) if path.exists() else 0


def cut(tmp_path, kills, settings=CUT):
    """Kill a run again and again: at once, or after it came to ask, at some instant of a round."""
    whole = driven(tmp_path / "whole", settings)
    chance, folder, killed = random.Random(kills), tmp_path / "cut", 0
    while True:
        before, pid, ended = lines(folder / "asked"), child(folder, settings), 0
        if killed < kills:
            more = chance.choice([0, 1, 1])
            while lines(folder / "asked") < before + more and not ended:
                ended, status = os.waitpid(pid, os.WNOHANG)
                time.sleep(0.002)
            if not ended:
                time.sleep(chance.uniform(0.0, 0.06))
                os.kill(pid, signal.SIGKILL)  # of one that has ended it does nothing
        if not ended:
            status = os.waitpid(pid, 0)[1]
        if not os.WIFSIGNALED(status):
            break
        killed += 1
    assert os.waitstatus_to_exitcode(status) == 0
    assert killed >= kills // 2
    np.testing.assert_array_equal(np.load(folder / "pi.npy"), whole.subject.policy.pi)
    assert outcome(folder) == outcome(tmp_path / "whole")
    assert not (folder / "asked twice").exists()
    said = (folder / "asked").read_text().splitlines()
    assert len(said) - len(set(said)) <= killed  # a cut between an answer and its commit
    return killed


@forks
def test_power_cuts(tmp_path):
    cut(tmp_path, 4)


@forks
@pytest.mark.slow
def test_many_power_cuts(tmp_path):
    assert cut(tmp_path, 30, CUT | {"labels": 1000, "batch_size": 4}) >= 20


@pytest.mark.slow
def test_the_command_line_survives_kills(tmp_path):
    """`--resume` after a SIGKILL: same policy, same summary, each question answered once."""
    options = [*("--env-id", "FrozenLake-v1"), *("--env-kwargs", '{"is_slippery": false}')]
    options += [*("--reference", "noisy-expert"), *("--labels", "320"), *("--seed", "3")]
    options += [*("--oracle", "bradley-terry:0.3"), *("--checkpoint-every", "64"), "--quiet"]
    command = [sys.executable, str(ROOT / "train.py"), "active-preference", *options]
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True)
    chance, folder, killed = random.Random(0), tmp_path / "cut", 0
    while True:
        resume = ["--resume"] if (folder / "config.json").exists() else []
        process = subprocess.Popen([*command, "--out", str(folder), *resume])
        segments, known = folder / "campaign" / "segments", 0
        if segments.exists():
            known = len(os.listdir(segments))
        while killed < 5 and process.poll() is None:
            if segments.exists() and len(os.listdir(segments)) > known:
                time.sleep(chance.uniform(0.0, 0.2))
                process.kill()
                break
            time.sleep(0.01)
        if process.wait() != -signal.SIGKILL:
            break
        killed += 1
    assert process.returncode == 0
    assert killed >= 3
    for name in ("pi", "reference"):
        one, two = (np.load(x / "policy.npz")[name] for x in (tmp_path / "whole", folder))
        np.testing.assert_array_equal(one, two)
    summaries = [json.loads((x / "summary.json").read_text()) for x in (tmp_path / "whole", folder)]
    for summary in summaries:
        del summary["wall_seconds"], summary["compile_seconds"]
    assert summaries[0] == summaries[1]
    assert outcome(folder) == outcome(tmp_path / "whole")
