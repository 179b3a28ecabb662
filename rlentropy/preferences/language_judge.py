"""A causal language model as a judge: it reads two segments as text, and names the better one.

The reading is the difference of the log-probabilities of the two answers, A for what is shown left
and B for what is shown right (preferences §3.2); what the model likes of a letter or of a place
cancels in the mean of both positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rlentropy.errors import InputError
from rlentropy.preferences.export import as_text
from rlentropy.preferences.language_models import Loaded, load
from rlentropy.preferences.segments import Segments
from rlentropy.types import Array

QUESTION = """Two attempts at the same task, each a line a step: the action, and what was seen then.

Attempt A:
{left}

Attempt B:
{right}

The better attempt is"""
ANSWERS = (" A", " B")


class LanguageJudge:
    """Scores (N, 1, 2): the log-probabilities of A and of B, in float64.

    Args:
        loaded: the model and its tokenizer.
        describe: one segment as text.
        question: with {left} and {right} in it.

    Raises:
        InputError: the tokenizer doesn't tell the answers apart.
    """

    def __init__(
        self,
        loaded: Loaded,
        describe: Callable[[Segments], str] = as_text,
        question: str = QUESTION,
    ) -> None:
        self.model, self.tokenizer = loaded
        self.describe, self.question = describe, question
        one, two = (self._tokens(answer) for answer in ANSWERS)
        same = 0  # tokens that both answers begin with
        while same < min(len(one), len(two)) and one[same] == two[same]:
            same += 1
        if same == min(len(one), len(two)):
            raise InputError("judge lm must tell A from B, got a tokenizer that doesn't")
        self.prefix, self.answers = one[:same], [one[same], two[same]]

    @classmethod
    def of(cls, name: str, rng: np.random.Generator) -> LanguageJudge:
        """The judge of a model's name, see `language_models.load`."""
        return cls(load(name, rng))

    def __call__(self, left: Segments, right: Segments, uniforms: Array) -> Array:
        scores = np.empty((len(left), 1, 2))
        for i in range(len(left)):
            shown = (self.describe(part.take([i])) for part in (left, right))
            scores[i, 0] = self.says(*shown)
        return scores

    def says(self, left: str, right: str) -> Any:
        """Log-probabilities of both answers, (2,).

        Raises:
            InputError: the question is longer than what the model can attend to.
        """
        import torch

        text = self.question.format(left=left, right=right)
        tokens = self.tokenizer(text)["input_ids"] + self.prefix
        most = getattr(self.model.config, "max_position_embeddings", None)
        if most is not None and len(tokens) > most:
            raise InputError(
                f"judge lm must attend to a whole question, got one of {len(tokens)} tokens with a "
                f"model of {most}; a smaller segment_length is shorter"
            )
        with torch.inference_mode():
            logits = self.model(torch.tensor([tokens])).logits[0, -1].double()
        return torch.log_softmax(logits, 0)[self.answers].numpy()

    def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return tokens
