"""Which pairs of a pool to ask about: a table of rules behind one seeded, pure function.

A rule scores the candidates of a `Pool`, and `select` draws a batch from the scores: the n largest,
or softly, each pair the likelier the larger its score (preferences §4.6). Pairs of identical
segments are set aside first and come in only where distinct ones run out; equal scores are chosen
among uniformly, so that a margin rule is uniform while the policy is still the reference.

Options compose in this order: prompts are filtered before their pairs are rolled out, pairs are
filtered by the rule's score, a batch is spread out by `diversity`, and a share of the slots is
filled uniformly from the rest. `compose` builds a rule from these pieces, and the table does too:
"entropy-certainty" is certainty on filtered prompts, "half-certainty" certainty for half the slots.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlentropy.errors import ROUNDING, InputError, in_range, one_of, whole
from rlentropy.preferences import batches, scores
from rlentropy.preferences.batches import DIVERSITIES, FLOOR, Batch
from rlentropy.types import Array, Count, Mask, in_short

Generator = np.random.Generator

POWER = 4.0  # of scores in soft draws (§4.6)
SHORTLIST = 5  # candidates a slot that a diverse batch is chosen from: half of ten, as in B-Pref
SHAPES = {
    **dict.fromkeys(("margins", "duplicates", "prompts", "true_gaps", "entropies"), "N"),
    **{"gaps": "JN", "weights": "J", "values": "JN", "features": "ND", "covariance": "DD"},
}


@dataclass(frozen=True)
class Pool:
    """N candidate pairs and what rules may look at; a rule says what it needs.

    Raises:
        InputError: an array has another shape than beside it or is not finite, or weights are not
            probabilities.
    """

    margins: Array  # (N,) of the present policy: β (S_a - S_b)
    duplicates: Any = None  # (N,) whether both segments are identical; default none is
    prompts: Any = None  # (N,) start states
    gaps: Any = None  # (J, N) beliefs about the return difference ΔR
    weights: Any = None  # (J,) of the beliefs, summing to 1
    values: Any = None  # (J, N) differences ΔA of summed advantages under them
    features: Any = None  # (N, D) feature differences
    covariance: Any = None  # (D, D) of the belief about the features' weights
    true_gaps: Any = None  # (N,) of the environment; for the rule that cheats
    entropies: Any = None  # (N,) of what follows each pair's start state

    __repr__ = in_short

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {}
        for name, axes in SHAPES.items():
            if getattr(self, name) is None:
                continue
            array = np.asarray(getattr(self, name))
            object.__setattr__(self, name, array)
            if array.ndim != len(axes) or any(
                sizes.setdefault(axis, size) != size
                for axis, size in zip(axes, array.shape, strict=True)
            ):
                known = ", ".join(f"{axis} = {size}" for axis, size in sizes.items())
                raise InputError(
                    f"{name} must be ({', '.join(axes)}) with {known}, got {array.shape}"
                )
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise InputError(f"{name} must be finite, got {array[~np.isfinite(array)][0]}")
        w = self.weights
        if w is not None and not ((w >= 0.0).all() and abs(w.sum() - 1.0) <= ROUNDING):
            raise InputError(f"weights must be >= 0 and sum to 1, got a sum of {w.sum()}")

    def __len__(self) -> int:
        return len(self.margins)

    @property
    def distinct(self) -> Mask:
        """Whether the segments of a pair differ, (N,)."""
        if self.duplicates is None:
            return np.ones(len(self), bool)
        distinct: Mask = ~np.asarray(self.duplicates, bool)
        return distinct


@dataclass(frozen=True)
class Selection:
    """A batch of n pairs, and what the choice was made by."""

    indices: Count  # (n,) in the pool, no two equal; ranked ones first, then random ones
    scores: Array  # (N,)
    propensities: Array  # (N,) probability of each candidate to be in the batch, summing to n
    diagnostics: dict[str, float]

    __repr__ = in_short


@dataclass(frozen=True)
class Rule:
    """A way to score the pairs of a pool and to draw a batch."""

    score: Callable[[Pool], Array]  # (N,), larger is better
    needs: frozenset[str] = frozenset()  # fields of the pool, beside margins
    filters_prompts: bool = False  # start states by entropy before pairs are rolled out
    random_share: float = 0.0  # of the slots, filled uniformly
    power: float | None = None  # of the score in a soft draw; None takes the n largest
    diversity: str | None = None  # how a shortlist of the best is spread out, of DIVERSITIES
    # Slot by slot instead of by score: (pool, free, n, rng) to a batch of the free candidates.
    choose: Callable[[Pool, Count, int, Generator], Batch] | None = None


def filter_prompts(entropies: Any, n: int, rng: Generator, highest: bool = True) -> Count:
    """The n start states of highest, or lowest, entropy in random order, (n,) (§4.1).

    Args:
        entropies: of start states, (P,); equal ones are chosen among uniformly.

    Raises:
        InputError: n is not in 0..P.
    """
    entropies = np.asarray(entropies, np.float64)
    whole("n", n, 0, len(entropies))
    if n in (0, len(entropies)):
        return rng.permutation(len(entropies))[:n]
    batch = batches.largest(entropies if highest else -entropies, n, rng)
    return rng.permutation(batch.indices)


def single_pairs(n: int) -> Count:
    """Consecutive pairs (0, 1), (2, 3), … of n completions, (n // 2, 2); an odd one is left."""
    whole("n", n, 2)
    return np.arange(n // 2 * 2).reshape(-1, 2)


def best_pairs(sums: Any) -> Count:
    """Of each prompt the two completions whose implicit rewards are furthest apart, (P, 2) (§4.1).

    Args:
        sums: implicit rewards of n completions a prompt, (P, n). Where all are equal the first
            two are the pair; never a completion with itself.

    Raises:
        InputError: sums is not (P, n) with n >= 2.
    """
    sums = np.asarray(sums, np.float64)
    if sums.ndim != 2 or sums.shape[1] < 2:
        raise InputError(f"sums must be (P, n) with n >= 2, got {sums.shape}")
    high, low = sums.argmax(1), sums.argmin(1)
    low = np.where(high == low, 1, low)
    return np.stack([high, low], 1)


def select(
    rule: str | Rule,
    pool: Pool,
    n: int,
    rng: Generator,
    *,
    random_share: float | None = None,
    power: float | None = None,
    diversity: str | None = None,
) -> Selection:
    """Choose n pairs of a pool (§4.6).

    Args:
        rule: a name in RULES, or a rule.
        n: pairs to choose, > 0; all where the pool has no more.
        random_share, power, diversity: instead of the rule's own.

    The propensities are exact for the n largest, ties included, and for random slots; those of a
    soft draw are 1 - exp(-t p), which is what independent clocks of rates p show by a common time
    t; of "thompson" they are shares of 256 replicas, the selection among them; where a choice is
    greedy ("d-optimal", and any diversity) they are 1 for what it takes.

    Raises:
        InputError: an unknown rule or diversity, a number out of range, scores that are not
            finite, or a pool without what the rule needs.
    """
    if isinstance(rule, str):
        one_of("acquisition", rule, RULES)
        rule = RULES[rule]
    rule = _replaced(rule, random_share, power, diversity)
    whole("n", n, 1)
    _must_have(pool, rule)
    score = np.asarray(rule.score(pool), np.float64)
    if not np.isfinite(score).all():
        raise InputError(f"scores must be finite, got {score[~np.isfinite(score)][0]}")
    free, spare = np.flatnonzero(pool.distinct), np.flatnonzero(~pool.distinct)
    n = min(n, len(pool))
    slots = min(n, len(free))
    randoms = int(rule.random_share * slots + 0.5)
    chances = np.zeros(len(pool))
    ranked = _ranked(rule, pool, score, free, slots - randoms, rng)
    others = np.setdiff1d(np.arange(len(free)), ranked.indices)
    drawn = others[batches.uniform(len(others), randoms, rng).indices]
    share = randoms / max(len(others), 1)
    chances[free] = ranked.propensities + (1.0 - ranked.propensities) * share
    extra = batches.uniform(len(spare), n - slots, rng)
    chances[spare] = extra.propensities
    indices = np.concatenate([free[ranked.indices], free[drawn], spare[extra.indices]])
    tied = slots > randoms and len(free) > slots and np.ptp(score[free]) <= FLOOR
    diagnostics = {
        "duplicates": float(len(spare)),
        "duplicates_taken": float(n - slots),
        "random": float(randoms),
        "degenerate": float(tied),
        "pool_score": float(score.mean()),
        "batch_score": float(score[indices].mean()),
    }
    if pool.prompts is not None:
        diagnostics["prompts"] = float(len(np.unique(pool.prompts[indices])))
    return Selection(indices, score, chances, diagnostics)


def _ranked(rule: Rule, pool: Pool, score: Array, free: Count, n: int, rng: Generator) -> Batch:
    """n of the free candidates, as a rule ranks them."""
    N = len(free)
    if n in (0, N):
        return Batch(np.arange(n), np.full(N, float(n > 0)))
    if rule.diversity is not None:
        narrow = dataclasses.replace(rule, diversity=None)
        short = _ranked(narrow, pool, score, free, min(SHORTLIST * n, N), rng).indices
        batch = batches.diverse(rule.diversity, pool.features[free[short]], score[free[short]], n)
        chances = np.zeros(N)
        chances[short] = batch.propensities
        return Batch(short[batch.indices], chances)
    if rule.choose is not None:
        return rule.choose(pool, free, n, rng)
    if np.ptp(score[free]) <= FLOOR:
        return batches.uniform(N, n, rng)
    if rule.power is None:
        return batches.largest(score[free], n, rng)
    return batches.soft(score[free], n, rng, rule.power)


def _replaced(
    rule: Rule, random_share: float | None, power: float | None, diversity: str | None
) -> Rule:
    """The rule with what is not None in place of its own."""
    changes: dict[str, Any] = {}
    if diversity is not None:
        one_of("diversity", diversity, DIVERSITIES)
        changes["diversity"] = diversity
        if rule.random_share == 1.0:  # a diverse batch of a random shortlist
            changes["random_share"] = 0.0
    if random_share is not None:
        in_range("random_share", random_share, "[0, 1]")
        changes["random_share"] = random_share
    if power is not None:
        in_range("power", power, "(0, inf)")
        changes["power"] = power
    return dataclasses.replace(rule, **changes)


def _must_have(pool: Pool, rule: Rule) -> None:
    """Refuse a pool that is empty or lacks what the rule needs."""
    if not len(pool):
        raise InputError("pool must have candidates, got none")
    needs = rule.needs | ({"features"} if rule.diversity is not None else set())
    if missing := sorted(name for name in needs if getattr(pool, name) is None):
        raise InputError(f"pool must have {', '.join(missing)} for this acquisition, got none")


def _of_belief(score: Callable[[Array, Array], Array], **options: Any) -> Rule:
    """A rule that scores by `gaps` and `weights`."""
    return Rule(lambda pool: score(pool.gaps, pool.weights), BELIEF, **options)


def push_value(alpha: float = 0.5) -> Rule:
    """The rule "push-value" with another share of the policy's own preference (§4.5).

    The scale of values is that of distinct pairs.

    Raises:
        InputError: α outside [0, 1].
    """
    in_range("alpha", alpha, "[0, 1]")

    def score(pool: Pool) -> Array:
        kappa = scores.value_scale(pool.values[:, pool.distinct], pool.weights)
        belief = (pool.gaps, pool.values, pool.weights, pool.margins)
        return scores.push_value(*belief, alpha, kappa)

    return Rule(score, BELIEF | {"values"}, random_share=0.25, power=POWER)


def _design_gain(pool: Pool) -> Array:
    return scores.design_gain(pool.features, pool.covariance, pool.margins)


def _thompson(pool: Pool, free: Count, n: int, rng: Generator) -> Batch:
    return batches.thompson(pool.gaps[:, free], pool.weights, n, rng)


def _duel(pool: Pool, free: Count, n: int, rng: Generator) -> Batch:
    return batches.thompson(pool.gaps[:, free], pool.weights, n, rng, duel=True)


def _d_optimal(pool: Pool, free: Count, n: int, rng: Generator) -> Batch:
    return batches.d_optimal(pool.features[free], pool.covariance, pool.margins[free], n, rng)


BELIEF = frozenset({"gaps", "weights"})
CERTAINTY = Rule(lambda pool: scores.certainty(pool.margins))
RULES: dict[str, Rule] = {
    "random": Rule(lambda pool: np.zeros(len(pool)), random_share=1.0),
    "entropy": Rule(
        lambda pool: np.asarray(pool.entropies), frozenset({"entropies"}), filters_prompts=True
    ),
    "certainty": CERTAINTY,
    "uncertainty": Rule(lambda pool: scores.uncertainty(pool.margins)),
    "entropy-certainty": dataclasses.replace(CERTAINTY, filters_prompts=True),
    "half-certainty": dataclasses.replace(CERTAINTY, random_share=0.5),
    "disagreement": _of_belief(scores.disagreement),
    "vote-entropy": _of_belief(scores.vote_entropy),
    "bald": _of_belief(scores.bald),
    "pairwise-kl": _of_belief(scores.pairwise_kl),
    "member-entropy": _of_belief(scores.expected_entropy),
    "volume-removal": _of_belief(scores.volume_removal),
    "max-regret": _of_belief(scores.max_regret),
    "thompson": _of_belief(scores.expected_gap, choose=_thompson),
    "d-optimal": Rule(_design_gain, frozenset({"features", "covariance"}), choose=_d_optimal),
    "label-information": _of_belief(scores.label_information, power=POWER),
    "push-value": push_value(),
    "value-information": dataclasses.replace(push_value(0.0), random_share=0.0),
    "oracle-gap": Rule(lambda pool: np.abs(pool.true_gaps), frozenset({"true_gaps"})),
}
# Two draws a slot instead of one, which look for what they disagree about.
THOMPSON_DUEL = _of_belief(scores.logit_deviation, choose=_duel)


def compose(
    pair_filter: str = "random",
    *,
    prompt_filter: bool = False,
    batch_diversity: str | None = None,
    random_share: float | None = None,
) -> Rule:
    """A rule of the table with other pieces: `compose("certainty", random_share=0.5)`.

    Raises:
        InputError: a name that is unknown, or a share outside [0, 1].
    """
    one_of("pair_filter", pair_filter, RULES)
    rule = _replaced(RULES[pair_filter], random_share, None, batch_diversity)
    return dataclasses.replace(rule, filters_prompts=prompt_filter or rule.filters_prompts)
