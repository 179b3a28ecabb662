"""Campaigns of a small language model: what is asked, what TRL is given and makes of it."""

import copy
import random as python_random

import numpy as np
import pytest
from oracles import episodic

from rlentropy.errors import InputError
from rlentropy.log import Log
from rlentropy.preferences import language_models, language_scores, oracles
from rlentropy.preferences.acquisition import RULES
from rlentropy.preferences.campaign import Campaign, Plan
from rlentropy.preferences.export import trl_rows
from rlentropy.preferences.language_stems import STEMS
from rlentropy.preferences.segments import joined
from rlentropy.preferences.store import Store
from rlentropy.preferences.teaching import SimulatedTeacher

pytest.importorskip("trl", reason="needs the extra lm")
torch = pytest.importorskip("torch")

from rlentropy.preferences import language_subject, language_training  # noqa: E402
from rlentropy.preferences.language_policy import LanguagePolicy  # noqa: E402

BETA, T = 0.2, 8
LabelledBy = language_training.LanguageTraining


def subject(score="share:aeiou", seed=1, model="random:2,16", blocks=None, task=(), **training):
    loaded = language_models.load(model, np.random.default_rng(seed))
    language_models.train_last(loaded.model, blocks)
    asked = language_subject.LanguageTask(
        STEMS[:24], STEMS[24:32], language_scores.parse_score(score), length=T, **dict(task)
    )
    how = {"beta": BETA, "learning_rate": 0.01, "epochs": 3} | training
    return language_subject.LanguageSubject(LanguagePolicy(*loaded), asked, LabelledBy(**how), 5)


def campaign(one, store=None, oracle="return", **plan):
    held = one.held_out(8, np.random.default_rng(2))
    teacher = SimulatedTeacher(oracles.parse_oracle(oracle), joined([held.a, held.b]), None, 3)
    plan = Plan(**{"labels": 8, "batch_size": 4, "pool": 3, "prompts": 2, **plan})
    store = store or Store(None, describe=one.describe)
    return Campaign(one, plan, teacher, store, np.random.default_rng(4))


def finish(made):
    figures = []
    while made.labels < made.plan.labels:
        figures.append(made.advance(1))
    return figures


@pytest.fixture
def trained(monkeypatch):
    """Every call of the trainer: rows and what it logged."""
    calls, dpo = [], language_training.dpo

    def watched(policy, reference, rows, training, seed):
        before = policy.weights()
        logs = dpo(policy, reference, rows, training, seed)
        calls.append((rows, logs, before, policy.weights()))
        return logs

    monkeypatch.setattr(language_subject, "dpo", watched)
    return calls


# ---------------------------------------------------------------- segments


def test_a_segment_is_a_prompt_and_what_was_written():
    one = subject()
    prompts = np.array([3, 0, 3])
    segments = one.complete(prompts, np.random.default_rng(0), 0.7)
    assert segments.starts.tolist() == [3, 0, 3]
    np.testing.assert_array_equal(segments.states[:, 0], prompts)
    np.testing.assert_array_equal(segments.states[:, 1:], segments.actions)
    for i, length in enumerate(segments.lengths.tolist()):
        tokens = segments.actions[i, :length].tolist()
        assert segments.terminated[i] == (tokens[-1] == one.policy.tokenizer.eos_token_id)
        text = one.policy.tokenizer.decode(tokens, skip_special_tokens=True)
        assert one.describe(segments.take([i])) == f"{STEMS[prompts[i]]}\n\x1f\n{text}"
        vowels = sum(letter in "aeiou" for letter in text) / max(len(text), 1)
        assert segments.returns[i] == pytest.approx(vowels)
        assert np.flatnonzero(segments.rewards[i]).tolist() in ([], [length - 1])
    pairs = one.roll_out(np.array([5, 7]), np.random.default_rng(1))
    assert pairs.a.starts.tolist() == pairs.b.starts.tolist() == [5, 7]
    assert pairs.same_start.all()


def test_prompts_come_again_when_all_have_come():
    one = subject()
    drawn = one.prompts(24 + 5, np.random.default_rng(0))
    assert sorted(drawn[:24]) == list(range(24))
    assert len(set(drawn[24:].tolist())) == 5


def test_margins_are_sums_of_log_ratios_and_0_at_first():
    one = subject()
    pairs = one.roll_out(np.arange(6), np.random.default_rng(0))
    np.testing.assert_allclose(one.margins(pairs), 0.0, atol=1e-5)
    one.learn(pairs, np.array([1.0, 0.0, 1.0, 0.5, 0.0, 1.0]), 6, np.random.default_rng(0))
    sums = []
    for segments in (pairs.a, pairs.b):
        each = []
        for i, n in enumerate(segments.lengths.tolist()):
            prompt, total = one.encoded[int(segments.starts[i])], 0.0
            for model, sign in ((one.policy.model, 1.0), (one.reference.model, -1.0)):
                for t in range(n):
                    so_far = prompt + segments.actions[i, :t].tolist()
                    with torch.no_grad():
                        logits = model(torch.tensor([so_far])).logits[0, -1].double()
                    p = torch.log_softmax(logits, -1)[segments.actions[i, t]]
                    total += sign * float(p)
            each.append(total)
        sums.append(np.array(each))
    expected = BETA * (sums[0] - sums[1])
    assert np.abs(expected).min() > 1e-3
    np.testing.assert_allclose(one.margins(pairs), expected, atol=1e-4)
    np.testing.assert_allclose(one.margins(pairs.swapped()), -expected, atol=1e-4)


def test_features_are_of_the_reference_and_in_units_of_the_first():
    one = subject()
    pairs = one.roll_out(np.arange(5), np.random.default_rng(0))
    x = one.features(pairs)
    assert x.shape == (5, one.task.features + 2)
    rms = np.sqrt((x * x).mean(0))
    np.testing.assert_allclose(rms[rms > 0.0], 1.0)
    lengths = (pairs.a.lengths - pairs.b.lengths).astype(float)
    scale = np.sqrt((lengths**2).mean())
    np.testing.assert_allclose(x[:, 0], lengths / (scale or 1.0))
    read = [
        one.reference.read(one._ids(s.starts), s.actions, s.lengths, hidden=True)
        for s in (pairs.a, pairs.b)
    ]
    likely = read[0].log_pi.sum(1) - read[1].log_pi.sum(1)
    np.testing.assert_allclose(x[:, -1], likely / np.sqrt((likely**2).mean()), atol=1e-5)
    shown = (read[0].hidden - read[1].hidden) @ one.projection
    np.testing.assert_allclose(x[:, 1:-1], shown / np.sqrt((shown**2).mean(0)), atol=1e-4)
    one.learn(pairs, np.ones(5), 5, np.random.default_rng(0))
    np.testing.assert_allclose(one.features(pairs), x, atol=1e-5)  # the policy has no part in it
    np.testing.assert_allclose(one.features(pairs.take([1, 3])), x[[1, 3]], atol=1e-5)
    w = np.random.default_rng(1).standard_normal((3, x.shape[1]))
    np.testing.assert_allclose(one.values(pairs, x, w), np.einsum("jd,nd->jn", w, x))


@pytest.mark.parametrize("entropy", language_subject.ESTIMATES)
def test_prompt_scores_are_entropies_of_completions(entropy):
    """A model of few letters and two tokens, whose completions can be listed."""
    one = subject(task={"entropy": entropy, "samples": 400})
    one.task = language_subject.LanguageTask(
        STEMS[:24], STEMS[24:32], None, length=2, entropy=entropy, samples=400
    )
    prompts = np.array([0, 1, 2])
    scores = one.prompt_scores(prompts, np.random.default_rng(0))
    V, end = one.policy.model.config.vocab_size, one.policy.tokenizer.eos_token_id
    for i, score in zip(prompts, scores, strict=True):
        ids = one.encoded[i]
        with torch.no_grad():
            first = torch.softmax(one.policy.model(torch.tensor([ids])).logits[0, -1].double(), -1)
            more = torch.tensor([[*ids, v] for v in range(V)])
            second = torch.softmax(one.policy.model(more).logits[:, -1].double(), -1)
        p, q = first.numpy(), second.numpy()
        joint = p[:, None] * q
        law = np.append(np.delete(joint, end, axis=0).ravel(), p[end])
        surprise = -np.log(law)
        deviation = np.sqrt((law * (surprise - (law * surprise).sum()) ** 2).sum())
        assert abs(score - episodic.shannon(law)) < 4.0 * deviation / np.sqrt(400)


# ---------------------------------------------------------------- what TRL is given


def test_rows_are_those_of_the_export_and_margins_are_ours(trained, tmp_path):
    """Two rounds on all labels: in the second round margins are not 0 before the first step."""
    one = subject(train="all", epochs=2, minibatch=100)
    store = Store(tmp_path / "campaign", describe=one.describe)
    made = campaign(one, store, acquisition="certainty", oracle="return:ties=coin")
    expected = []
    learn = one.learn

    def watched(pairs, y, newest, rng):
        margins = one.margins(pairs)
        expected.append(np.where(y > 0.5, margins, -margins)[y != 0.5])
        return learn(pairs, y, newest, rng)

    one.learn = watched
    figures = finish(made)
    exported = list(trl_rows(store))
    assert len(exported) == 8
    for k, (rows, logs, before, after) in enumerate(trained):
        given = [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows]
        assert given == exported[: 4 * (k + 1)]
        assert len(logs) == 2
        assert logs[0]["rewards/margins"] == pytest.approx(expected[k].mean(), abs=1e-4)
        accuracy = (expected[k] > 0.0).mean() if k else None
        assert accuracy is None or logs[0]["rewards/accuracies"] == pytest.approx(accuracy)
        loss = np.log1p(np.exp(-expected[k])).mean()
        assert logs[0]["loss"] == pytest.approx(loss, abs=1e-3)
        assert figures[k]["train/loss"] == logs[0]["loss"]
        assert figures[k]["train/final_loss"] == logs[1]["loss"] < logs[0]["loss"]
        for name in ("rewards/margins", "rewards/accuracies"):
            assert figures[k][f"train/{name}"] == logs[1][name]
        assert any((before[name] != after[name]).any() for name in before)
    assert np.abs(expected[0]).max() < 1e-4 < 1e-2 < np.abs(expected[1]).min()
    assert made.costs["candidates"] == 24


def test_tokens_that_were_sampled_are_trained_on_whatever_their_text_is(monkeypatch):
    """A cut completion gets no end, and letters that no text holds stay."""
    one = subject()
    trl = language_models.extra("trl")
    batches, compute = [], trl.DPOTrainer._compute_loss

    def watched(self, model, inputs, return_outputs):
        batches.append({name: value.clone() for name, value in inputs.items()})
        return compute(self, model, inputs, return_outputs)

    monkeypatch.setattr(trl.DPOTrainer, "_compute_loss", watched)
    pairs = one.roll_out(np.arange(1), np.random.default_rng(0))
    pairs.a.actions[0, :3] = (1, 1, 5)  # two unknown letters
    one.learn(pairs, np.array([0.0]), 1, np.random.default_rng(0))
    batch = batches[0]
    for row, segment in enumerate((pairs.b, pairs.a)):
        n = int(segment.lengths[0])
        said = batch["input_ids"][row][batch["completion_mask"][row] == 1].tolist()
        assert said == segment.actions[0, :n].tolist()
        asked = batch["input_ids"][row][batch["completion_mask"][row] == 0].tolist()
        assert asked[: len(one.encoded[0])] == one.encoded[0]


def test_ties_are_no_rows(trained):
    one = subject()
    pairs = one.roll_out(np.arange(5), np.random.default_rng(0))
    one.learn(pairs, np.array([0.5, 1.0, 0.5, 0.0, 0.8]), 5, np.random.default_rng(0))
    ((rows, *_),) = trained
    texts = [
        [one.describe(s.take([i])).partition("\n\x1f\n") for s in (pairs.a, pairs.b)]
        for i in range(5)
    ]
    assert [row["prompt"] for row in rows] == [texts[i][0][0] for i in (1, 3, 4)]
    assert [row["chosen"] for row in rows] == [texts[1][0][2], texts[3][1][2], texts[4][0][2]]
    before = one.digest()
    assert one.learn(pairs, np.full(5, 0.5), 5, np.random.default_rng(0)) == {}
    assert one.digest() == before


@pytest.mark.parametrize("train", ["newest", "all"])
def test_what_a_round_trains_on(train, trained):
    made = campaign(subject(train=train), acquisition="random", oracle="return:ties=coin")
    finish(made)
    assert [len(rows) for rows, *_ in trained] == ([4, 4] if train == "newest" else [4, 8])


def test_restart_begins_at_the_reference(trained):
    one = subject(restart=True)
    first = one.policy.weights()
    finish(campaign(one, acquisition="random", oracle="return:ties=coin"))
    finish(campaign(one, acquisition="random", oracle="return:ties=coin"))
    for _, _, before, after in trained:
        for name, weight in before.items():
            np.testing.assert_array_equal(weight, first[name])
        assert any((after[name] != first[name]).any() for name in after)


def test_frozen_blocks_and_the_reference_stay(trained):
    one = subject(blocks=1)
    everything = [copy.deepcopy(m.state_dict()) for m in (one.policy.model, one.reference.model)]
    finish(campaign(one, acquisition="random", oracle="return:ties=coin"))
    now = [m.state_dict() for m in (one.policy.model, one.reference.model)]
    for k, before in enumerate(everything):
        for name, weight in before.items():
            moved = not torch.equal(weight, now[k][name])
            trains = k == 0 and name.startswith("model.layers.1.")
            assert moved == trains, name
    for model in (one.policy.model, one.reference.model):
        assert "forward" not in vars(model)  # TRL's own would pile up round by round
        assert not model.training
        assert all(weight.grad is None for weight in model.parameters())


def test_global_generators_are_left_alone():
    one = subject()
    pairs = one.roll_out(np.arange(3), np.random.default_rng(0))
    weights = []
    for seed in (1, 2):
        python_random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        one.policy.load_weights(one.first)
        one.learn(pairs, np.array([1.0, 0.0, 1.0]), 3, np.random.default_rng(0))
        after = python_random.random(), np.random.random(), torch.rand(1)  # noqa: NPY002
        python_random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        assert after == (python_random.random(), np.random.random(), torch.rand(1))  # noqa: NPY002
        weights.append(one.digest())
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, "dpo_beta must be > 0"),
        ({"learning_rate": -1.0}, "learning_rate must be > 0"),
        ({"epochs": 0}, "epochs must be >= 1"),
        ({"minibatch": 0}, "minibatch must be >= 1"),
        ({"train": "old"}, "train must be one of newest, all"),
    ],
)
def test_training_that_is_none(options, message):
    with pytest.raises(InputError, match=message):
        LabelledBy(**options)


# ---------------------------------------------------------------- campaigns


@pytest.fixture(scope="module")
def moved():
    """Weights after a round, and what TRL logged of it."""
    one = subject()
    pairs = one.roll_out(np.arange(4), np.random.default_rng(0))
    rows = one.rows(pairs, np.array([1.0, 0.0, 1.0, 0.0]))
    logs = language_training.dpo(one.policy, one.reference, rows, one.training, 0)
    return one.policy.weights(), logs


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_runs(rule, moved, monkeypatch):
    """Margins are 0 in the first round and not in the second; all rules share what was trained."""

    def train(policy, *rest):
        policy.load_weights(moved[0])
        return moved[1]

    monkeypatch.setattr(language_subject, "dpo", train)
    made = campaign(subject(), acquisition=rule, oracle="return:ties=coin", pool=2)
    finish(made)
    assert made.labels == 8
    assert np.abs(made.margins[:4]).max() < 1e-4
    assert np.abs(made.margins[4:]).max() > 1e-3
    assert np.isfinite([list(point.values()) for point in made.curve]).all()
    assert (made.curve[0]["kl"], made.curve[0]["win_rate"]) == (0.0, 0.5)
    assert made.curve[-1]["kl"] > 0.0


@pytest.mark.parametrize("rule", ["certainty", "push-value", "entropy-certainty"])
def test_a_campaign_goes_on_to_the_same_bits_after_a_round(rule, tmp_path):
    options = {"acquisition": rule, "oracle": "bradley-terry:0.5std"}
    whole = campaign(subject(), **options)
    figures = finish(whole)
    cut = campaign(one := subject(), Store(tmp_path / "campaign", describe=one.describe), **options)
    cut.advance(1)
    log = Log(tmp_path)
    log.checkpoint(cut.state_dict())
    log.close()
    cut.store.close()
    again = campaign(
        one := subject(), Store(tmp_path / "campaign", describe=one.describe), **options
    )
    again.load_state_dict(Log(tmp_path).restore())
    assert again.advance(1) == figures[1]
    assert again.subject.digest() == whole.subject.digest()
    assert again.curve == whole.curve
    np.testing.assert_array_equal(again.margins, whole.margins)


def test_scores_are_of_the_prompts_that_are_never_asked_about():
    one = subject()
    finish(campaign(one, acquisition="random", oracle="return:ties=coin"))
    found = one.score()
    rng = np.random.default_rng([5, 2])
    uniforms = rng.random((8, T))
    ids = [one.policy.encode(text) for text in STEMS[24:32]]
    returns = []
    for policy in (one.policy, one.reference):
        written = policy.complete(ids, uniforms, 0.25)
        texts = [
            policy.decode(row[:n].tolist())
            for row, n in zip(written.tokens, written.lengths.tolist(), strict=True)
        ]
        returns.append([sum(c in "aeiou" for c in text) / max(len(text), 1) for text in texts])
    ours, theirs = np.array(returns)
    assert found["return"] == pytest.approx(ours.mean())
    wins = np.where(np.isclose(ours, theirs), 0.5, ours > theirs)
    assert found["win_rate"] == pytest.approx(wins.mean())
    low, high = one.final(None)["win_rate_ci95"]
    assert low <= wins.mean() <= high
    written = one.policy.complete(ids, np.random.default_rng([5, 3]).random((8, T)), 1.0)
    kl = one.policy.divergence(one.reference, ids, written).mean()
    assert found["kl"] == pytest.approx(kl)
    assert set(np.concatenate([p.a.starts for p in [one.held_out(8, rng)]])) <= set(range(24))


def test_without_a_score_people_alone_can_tell():
    one = subject("none")
    pairs = one.roll_out(np.arange(3), np.random.default_rng(0))
    assert not pairs.gaps.any()
    found = one.score()
    assert np.isnan(found["return"])
    assert np.isnan(found["win_rate"])
    assert found["kl"] == 0.0
    assert one.final(None) == {"win_rate_ci95": None}


def test_a_model_learns_what_its_teacher_likes():
    """A canary: 64 labels of vowels, and a win rate far above a half against the frozen model."""
    one = subject(learning_rate=0.003, epochs=10, task={})
    finish(campaign(one, acquisition="certainty", labels=64, batch_size=16, pool=4))
    found = one.score()
    assert found["win_rate"] > 0.5 + 2.0 * np.sqrt(0.25 / 8)  # of 8 prompts
    assert found["return"] > 0.2 > one._evaluation(one.reference).returns.mean()
