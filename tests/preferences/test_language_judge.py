"""A language model as a judge: against the probabilities of whole texts, token by token."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the extra lm")

import torch

from rlentropy.errors import InputError
from rlentropy.preferences.language_judge import QUESTION, LanguageJudge
from rlentropy.preferences.language_models import Loaded, load
from rlentropy.preferences.segments import Segments


def made(**options):
    return LanguageJudge(load("random:1,8", np.random.default_rng(3)), **options)


def segments(*states):
    n, T = len(states), len(states[0]) - 1
    return Segments(
        np.array(states),
        np.ones((n, T), int),
        np.zeros((n, T)),
        np.full(n, T),
        np.zeros(n, bool),
        np.zeros(n, int),
    )


def test_the_reading_is_that_of_whole_texts():
    """log P(text A) - log P(text B), each by the chain rule over all of its tokens."""
    judge = made()
    found = judge.says("left is here", "right is there")
    text = QUESTION.format(left="left is here", right="right is there")

    def log_probability(whole):
        tokens = judge.tokenizer(whole)["input_ids"]
        with torch.no_grad():
            logits = judge.model(torch.tensor([tokens])).logits[0].double().numpy()
        total = 0.0
        for t in range(1, len(tokens)):
            row = logits[t - 1]
            total += row[tokens[t]] - row.max() - np.log(np.exp(row - row.max()).sum())
        return total

    wanted = log_probability(text + " A") - log_probability(text + " B")
    assert found[0] - found[1] == pytest.approx(wanted, abs=1e-4)
    assert abs(wanted) > 1e-3


def test_pairs_are_shown_in_their_places():
    shown = []
    judge = made(describe=lambda one: f"from {one.states[0, 0]}", question="{left} {right} is")
    says = judge.says
    judge.says = lambda left, right: shown.append((left, right)) or says(left, right)
    scores = judge(segments([1, 2], [3, 4]), segments([5, 6], [7, 8]), np.zeros((2, 1)))
    assert scores.shape == (2, 1, 2)
    assert shown == [("from 1", "from 5"), ("from 3", "from 7")]
    np.testing.assert_array_equal(scores[1, 0], says("from 3", "from 7"))


def test_questions_that_are_too_long():
    with pytest.raises(InputError, match="judge lm must attend to a whole question, got one of"):
        made().says("a" * 600, "b")


def test_a_tokenizer_that_tells_no_letters_apart():
    loaded = load("random:1,8", np.random.default_rng(3))

    def blind(text, **_):
        return {"input_ids": [7] * len(text)}

    with pytest.raises(InputError, match="judge lm must tell A from B"):
        LanguageJudge(Loaded(loaded.model, blind))


def test_answers_of_one_token_need_no_prefix():
    """As most tokenizers have " A" and " B"."""
    words = {" A": [5], " B": [6]}

    def tokens(text, **_):
        return {"input_ids": words.get(text, [1, 2, 3])}

    seen = []

    def model(ids):
        seen.append(ids.tolist())
        return SimpleNamespace(logits=torch.arange(8.0).expand(1, ids.shape[1], 8))

    model.config = SimpleNamespace()
    judge = LanguageJudge(Loaded(model, tokens))
    found = judge.says("x", "y")
    assert seen == [[[1, 2, 3]]]
    p = np.exp(np.arange(8.0)) / np.exp(np.arange(8.0)).sum()
    np.testing.assert_allclose(found, np.log(p[[5, 6]]))


def test_the_model_of_a_name():
    judge = LanguageJudge.of("random:1,8", np.random.default_rng(3))
    np.testing.assert_array_equal(judge.says("x", "y"), made().says("x", "y"))
    with pytest.raises(InputError, match=r"model must be a folder, a \.gguf file"):
        LanguageJudge.of("nowhere", np.random.default_rng(3))
