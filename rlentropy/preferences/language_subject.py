"""A language model as a campaign aligns it.

A prompt is a text, its completion a segment: tokens are the actions, the states what they lead to,
from the prompt's number on. Nothing that follows a prompt is random but the tokens, so values are
gaps. Rewards are one number a completion, given with its last token (preferences §8).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlentropy.intervals import mean_ci95
from rlentropy.preferences.export import SEPARATOR
from rlentropy.preferences.language_policy import Completions, LanguagePolicy
from rlentropy.preferences.language_training import LanguageTraining, Row, dpo, figures
from rlentropy.preferences.path_entropy import by_prompt, conditional_scores, plain_scores
from rlentropy.preferences.segments import Pairs, Segments, joined
from rlentropy.types import Array, Count, Mask, State

Generator = np.random.Generator
# Of segments, by their hashes: log π_ref, and the mean of the reference's hidden states, projected.
Known = dict[str, tuple[float, Array]]

ESTIMATES = ("monte-carlo", "rao-blackwell")


@dataclass(frozen=True)
class LanguageTask:
    """What is asked of a model."""

    prompts: tuple[str, ...]  # to ask about
    evaluation: tuple[str, ...]  # never asked about
    score: Callable[[str], float] | None  # of a completion's text; None: people alone can tell
    length: int = 16  # T, tokens of a completion at most
    temperature: float = 0.7  # of the completions of pairs
    evaluation_temperature: float = 0.25
    entropy: str = "monte-carlo"  # estimate of prompts' entropies, of ESTIMATES
    samples: int = 8  # completions behind each
    features: int = 32  # of the belief about rewards

    @property
    def texts(self) -> tuple[str, ...]:
        """All prompts; a prompt's number is its place here."""
        return self.prompts + self.evaluation


class LanguageSubject:
    """See `rlentropy.preferences.campaign.Subject`.

    Args:
        policy: the model, some of whose weights are trained. A copy of it is the reference.
        seed: of the evaluations, and of what features are projected by.
    """

    luck_is_judged = saw_chance = False

    def __init__(
        self, policy: LanguagePolicy, task: LanguageTask, training: LanguageTraining, seed: int
    ) -> None:
        self.policy, self.task, self.training, self.seed = policy, task, training, seed
        self.reference = LanguagePolicy(copy.deepcopy(policy.model), policy.tokenizer)
        self.reference.model.requires_grad_(False)
        self.first = policy.weights()
        self.encoded = [policy.encode(text) for text in task.texts]
        policy.check_room(self.encoded, task.length)
        D, rng = task.features + 1, np.random.default_rng([seed, 1])
        shape = (policy.width, task.features)
        self.projection = rng.standard_normal(shape) / np.sqrt(policy.width)
        self.groups: Mapping[str, slice] = {
            **dict.fromkeys(("features", "entered"), slice(0, D)),
            "reference": slice(D, D + 1),
        }
        self.scale: Array | None = None  # of features, by the first that are asked for
        self.known: Known = {}  # of the pool
        self.held: tuple[Pairs | None, Known] = None, {}
        self.evaluated: tuple[str, dict[str, float], Array] | None = None
        self._reference_returns: Array | None = None

    # ---------------------------------------------------------------- completions

    def prompts(self, n: int, rng: Generator) -> Count:
        """n prompts, none again before all have come."""
        rounds = -(-n // len(self.task.prompts))
        drawn = [rng.permutation(len(self.task.prompts)) for _ in range(rounds)]
        return np.concatenate(drawn)[:n]

    def complete(
        self,
        prompts: Count,
        rng: Generator,
        temperature: float,
        policy: LanguagePolicy | None = None,
    ) -> Segments:
        """A completion of each prompt, by the policy as it is or another."""
        uniforms = rng.random((len(prompts), self.task.length))
        written = (policy or self.policy).complete(self._ids(prompts), uniforms, temperature)
        return self.segments(prompts, written)

    def segments(self, prompts: Count, written: Completions) -> Segments:
        """Completions as a campaign has them."""
        tokens, lengths, ended = written
        rewards = np.zeros(tokens.shape)
        if self.task.score is not None:
            texts = [self._text(row, n) for row, n in zip(tokens, lengths.tolist(), strict=True)]
            rewards[np.arange(len(texts)), lengths - 1] = [self.task.score(text) for text in texts]
        states = np.concatenate([prompts[:, None], tokens], axis=1)
        return Segments(states, tokens, rewards, lengths, ended, np.asarray(prompts, np.int64))

    def _ids(self, prompts: Count) -> list[list[int]]:
        return [self.encoded[i] for i in prompts.tolist()]

    def _text(self, tokens: Any, length: int) -> str:
        return self.policy.decode(tokens[:length].tolist())

    def describe(self, segment: Segments) -> str:
        """One segment as text: its prompt, `SEPARATOR`, its completion."""
        prompt = self.task.texts[int(segment.starts[0])]
        completion = self._text(segment.actions[0], int(segment.lengths[0]))
        return f"{prompt}{SEPARATOR}{completion}"

    def roll_out(self, prompts: Count, rng: Generator) -> Pairs:
        pairs = self._pairs(prompts, rng, self.policy)
        self.known = self._by_reference(joined([pairs.a, pairs.b]))
        return pairs

    def _pairs(self, prompts: Count, rng: Generator, policy: LanguagePolicy) -> Pairs:
        both = self.complete(np.repeat(prompts, 2), rng, self.task.temperature, policy)
        return Pairs(both.take(slice(0, None, 2)), both.take(slice(1, None, 2)))

    def prompt_scores(self, prompts: Count, rng: Generator) -> Array:
        """Entropy of completions at temperature 1, estimated from samples (preferences §2.2)."""
        n = self.task.samples
        segments = self.complete(np.repeat(prompts, n), rng, 1.0)
        conditional = self.task.entropy == "rao-blackwell"
        read = self._read(self.policy, segments, entropy=conditional)
        mask = by_prompt(segments.mask, n)
        if conditional:
            return conditional_scores(by_prompt(read.entropy, n), mask).mean
        return plain_scores(by_prompt(read.log_pi, n), mask).mean

    def _read(self, policy: LanguagePolicy, segments: Segments, **more: bool) -> Any:
        ids = self._ids(segments.starts)
        return policy.read(ids, segments.actions, segments.lengths, **more)

    # ---------------------------------------------------------------- what rules look at

    def _by_reference(self, segments: Segments) -> Known:
        """What the reference makes of segments."""
        read = self._read(self.reference, segments, hidden=True)
        shown = read.hidden @ self.projection
        sums = read.log_pi.sum(1).tolist()
        return dict(zip(segments.digests(), zip(sums, shown, strict=True), strict=True))

    def _recalled(self, segments: Segments, known: Known) -> tuple[Array, Array]:
        """The same as arrays, (N,) and (N, features), from what is known if all are."""
        digests = segments.digests()
        if not known.keys() >= set(digests):
            known = self._by_reference(segments)
        sums, shown = zip(*(known[digest] for digest in digests), strict=True)
        return np.array(sums), np.array(shown)

    def margins(self, pairs: Pairs) -> Array:
        n, both = len(pairs), joined([pairs.a, pairs.b])
        known = self.held[1] if pairs is self.held[0] else self.known
        log_pi = self._read(self.policy, both).log_pi.sum(1)
        ratios = log_pi - self._recalled(both, known)[0]
        return np.asarray(self.training.beta * (ratios[:n] - ratios[n:]))

    def duplicates(self, pairs: Pairs) -> Mask:
        return pairs.identical

    def features(self, pairs: Pairs) -> Array:
        """Differences of length, of mean hidden states and of log π_ref, (N, D + 1)."""
        n, both = len(pairs), joined([pairs.a, pairs.b])
        sums, shown = self._recalled(both, self.known)
        each = np.column_stack([both.lengths, shown, sums])
        x: Array = each[:n] - each[n:]
        if self.scale is None:
            self.scale = np.sqrt((x * x).mean(0))
            self.scale[self.scale == 0.0] = 1.0
        return x / self.scale

    def gaps(self, pairs: Pairs) -> tuple[Array, Array] | None:
        """The belief of a campaign stands in: there is no ensemble."""
        return None

    def observe(self, pairs: Pairs) -> None:
        """Nothing is kept: what a token leads to is known."""

    def values(self, pairs: Pairs, x: Array, w: Array) -> Array:
        """Gaps, as only tokens are random, (J, N)."""
        return np.asarray(w @ x.T)

    # ---------------------------------------------------------------- learning

    def rows(self, pairs: Pairs, y: Array) -> list[Row]:
        """Rows for TRL's trainer of pairs with a preferred side."""
        return [
            self._row(pairs.take([i]), bool(answer > 0.5)) for i, answer in enumerate(y.tolist())
        ]

    def _row(self, pair: Pairs, first: bool) -> Row:
        prompt = int(pair.a.starts[0])
        row: Row = {"prompt": self.task.texts[prompt], "prompt_tokens": self.encoded[prompt]}
        for name, one in zip(
            ("chosen", "rejected"), (pair.a, pair.b)[:: 1 if first else -1], strict=True
        ):
            row[f"{name}_tokens"] = one.actions[0, : int(one.lengths[0])].tolist()
            row[name] = self.policy.decode(row[f"{name}_tokens"])
        return row

    def learn(self, pairs: Pairs, y: Array, newest: int, rng: Generator) -> dict[str, float]:
        """A round of DPO; where all labels that it could train on are ties, none."""
        seed = int(rng.integers(2**31))
        if self.training.restart:
            self.policy.load_weights(self.first)
        chosen = self.training.chosen(y, newest)
        if not chosen.size:
            return {}
        rows = self.rows(pairs.take(chosen), y[chosen])
        return figures(dpo(self.policy, self.reference, rows, self.training, seed))

    def digest(self) -> str:
        return self.policy.digest()

    # ---------------------------------------------------------------- evaluation

    def judged_by(self, spec: object) -> None:
        """There is no model of what follows to plan with."""

    def held_out(self, n: int, rng: Generator) -> Pairs:
        """Pairs of the reference, which nothing is learnt from."""
        pairs = self._pairs(self.prompts(n, rng), rng, self.reference)
        self.held = pairs, self._by_reference(joined([pairs.a, pairs.b]))
        return pairs

    def score(self) -> dict[str, float]:
        """Of completions of the prompts for evaluation, from the same uniform numbers each time."""
        digest = self.digest()
        if self.evaluated is None or self.evaluated[0] != digest:
            self.evaluated = digest, *self._score()
        return dict(self.evaluated[1])

    figures = score

    def _score(self) -> tuple[dict[str, float], Array]:
        """The scores, and whether each prompt was won, ties half, (n,)."""
        if self._reference_returns is None:
            self._reference_returns = self._evaluation(self.reference).returns
        segments = self._evaluation(self.policy)
        wins = 0.5 * (1.0 + np.sign((segments.returns - self._reference_returns).round(9)))
        prompts, rng = self._evaluation_prompts(), np.random.default_rng([self.seed, 3])
        uniforms = rng.random((len(prompts), self.task.length))
        written = self.policy.complete(self._ids(prompts), uniforms, 1.0)
        kl = self.policy.divergence(self.reference, self._ids(prompts), written)
        known = np.nan if self.task.score is None else 1.0
        return {
            "return": known * float(segments.returns.mean()),
            "kl": float(kl.mean()),
            "win_rate": known * float(wins.mean()),
            "length": float(segments.lengths.mean()),
        }, wins

    def _evaluation_prompts(self) -> Count:
        return np.arange(len(self.task.prompts), len(self.task.texts))

    def _evaluation(self, policy: LanguagePolicy) -> Segments:
        rng = np.random.default_rng([self.seed, 2])
        prompts = self._evaluation_prompts()
        return self.complete(prompts, rng, self.task.evaluation_temperature, policy)

    def final(self, config: object) -> dict[str, Any]:
        """The interval of the win rate over prompts."""
        self.score()
        assert self.evaluated is not None
        if self.task.score is None:
            return {"win_rate_ci95": None}
        return {"win_rate_ci95": mean_ci95(self.evaluated[2])}

    def saved(self) -> dict[str, Any]:
        """Nothing that policy.npz or policy.pt hold; the model has a folder of its own."""
        return {}

    def state_dict(self) -> State:
        return {"weights": self.policy.weights(), "scale": self.scale}

    def load_state_dict(self, state: State) -> None:
        self.policy.load_weights(state["weights"])
        self.scale = state["scale"]
