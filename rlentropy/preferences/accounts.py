"""What labels are like and what they cost: figures of a campaign, each with its unit and its n.

Every function is of the records of a store, and gives figures by name; a value that nobody knows
is None (preferences §6.4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rlentropy.intervals import NORMAL_TAIL, mean_ci95, share_ci95
from rlentropy.preferences import agreement
from rlentropy.preferences.export import by_judge, shown_left, sides_chosen, standing
from rlentropy.preferences.judges import conflict_rate, position_bias
from rlentropy.preferences.store import IMPORTED

PAUSE = 120.0  # seconds after which a question that is shown returns to the queue
VALUE = {"a": 1.0, "b": 0.0, "tie": 0.5}

Record = Mapping[str, Any]


class Figure(NamedTuple):
    """A number, and what it rests on."""

    value: float | None
    unit: str
    n: int  # answers, questions or pairs of answers behind it
    ci95: list[float] | None = None


Figures = dict[str, Figure]


class Return(NamedTuple):
    """What a policy earns, and what its reference does; None where it isn't known."""

    reached: float | None
    reference: float | None


class Report(NamedTuple):
    """All figures."""

    campaign: Figures
    labellers: dict[str, Figures]
    between: dict[str, Figures]  # of two labellers


def figure(value: float, unit: str, n: int, ci95: Sequence[float] | None = None) -> Figure:
    """A figure, without what is not finite."""
    ends = [float(end) for end in ci95 or ()]
    whole = bool(ends) and all(map(math.isfinite, ends))
    return Figure(float(value) if math.isfinite(value) else None, unit, n, ends if whole else None)


def share(k: int, n: int) -> Figure:
    """k of n, with Wilson's interval."""
    return figure(k / n if n else math.nan, "share", n, share_ci95(k, n))


def report(
    records: Sequence[Record],
    budget: int | None = None,
    earned: Return | None = None,
    hourly_wage: float | None = None,
    pause: float = PAUSE,
) -> Report:
    """All that the records say.

    Args:
        budget: labels.
        hourly_wage: of a labeller, in any currency.
        pause: seconds beyond which a labeller was away, not looking at a question.
    """
    found = agreement.votes(records)
    named = sorted({r["labeller"] for r in records if r["labeller"] is not None})
    of = {name: [r for r in records if r["labeller"] == name] for name in named}
    return Report(
        {
            **questions(records, budget),
            **consistency(records),
            **bias(records),
            **opinions(found),
            **judged(records),
            **cost(records, earned or Return(None, None), hourly_wage, pause),
            **propensities(records),
        },
        {name: labeller(rows, records, pause) for name, rows in of.items()},
        {" and ".join(both): pair(found, *both) for both in agreement.labellers_of(found)},
    )


# ---------------------------------------------------------------- questions and answers


def questions(records: Iterable[Record], budget: int | None) -> Figures:
    """What was asked, and what became of it."""
    records = list(records)
    asked = {(r["round"], r["position"]) for r in records if r["round"] != IMPORTED}
    stand = [r for r in records if stands(r) and r["asking"] == "label"]
    imported = [r for r in stand if r["round"] == IMPORTED]
    own = [r for r in stand if r["round"] != IMPORTED]
    labels = sum(r["answer"] != "skip" for r in own)
    given = sum(r["answer"] not in (None, "undo") for r in records)
    left = math.nan if budget is None else budget - labels
    return {
        "questions": figure(len(asked), "questions", len(asked)),
        "rounds": figure(len({where[0] for where in asked}), "rounds", len(asked)),
        "labels": figure(labels, "labels", len(own)),
        "budget": figure(math.nan if budget is None else budget, "labels", len(own)),
        "left_in_budget": figure(left, "labels", len(own)),
        "unanswered": figure(len(asked) - len(own), "questions", len(asked)),
        "imported": figure(len(imported), "labels", len(imported)),
        "ties": share(sum(r["answer"] == "tie" for r in own), labels),
        "skips": share(len(own) - labels, len(own)),
        "undone": figure(sum(r["answer"] == "undo" for r in records), "answers", given),
    }


def stands(record: Record) -> bool:
    """Whether an answer was given and not taken back; skips are answers."""
    return record["superseded_by"] is None and record["answer"] not in (None, "undo")


# ---------------------------------------------------------------- one labeller


def labeller(own: Sequence[Record], records: Sequence[Record], pause: float = PAUSE) -> Figures:
    """Of one labeller, from own records and those of all."""
    given = [r for r in own if stands(r)]
    seconds = [r["duration_ms"] / 1e3 for r in given if r["duration_ms"] is not None]
    looked = [s for s in seconds if s <= pause]
    shown = [r for r in given if not by_judge(r) and r["round"] != IMPORTED]
    decided = [r for r in shown if r["answer"] in ("a", "b")]
    labels = [r for r in given if r["asking"] == "label" and r["answer"] != "skip"]
    words, n = [r["answer"] for r in given], len(given)
    return {
        "answers": figure(n, "answers", n),
        "labels": figure(len(labels), "labels", n),
        "seconds_median": figure(middle(seconds), "s", len(seconds)),
        "seconds_mean": figure(mean(looked), "s", len(looked), ends_of_mean(looked)),
        "pauses": figure(len(seconds) - len(looked), "answers", len(seconds)),
        "seconds": figure(seconds_spent(own, pause), "s", timed(own)),
        "left": share(sum(r["answer"] == shown_left(r) for r in decided), len(decided)),
        "ties": share(words.count("tie"), n - words.count("skip")),
        "skips": share(words.count("skip"), n),
        "undone": figure(sum(r["answer"] == "undo" for r in own), "answers", n),
        **consistency(records, own[0]["labeller"]),
        **bias(shown),
    }


def middle(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else math.nan


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def ends_of_mean(values: Sequence[float]) -> list[float] | None:
    return mean_ci95(values) if len(values) > 1 else None


def timed(records: Iterable[Record]) -> int:
    return sum(r["duration_ms"] is not None for r in records)


def seconds_spent(records: Iterable[Record], pause: float = PAUSE) -> float:
    """Seconds of one labeller's work, answers that were taken back among it; NaN without any.

    A pause counts as the median of what is none, and as its whole length where all are.
    """
    seconds = [r["duration_ms"] / 1e3 for r in records if r["duration_ms"] is not None]
    looked = [s for s in seconds if s <= pause]
    if not looked:
        return float(sum(seconds)) if seconds else math.nan
    return float(sum(looked)) + (len(seconds) - len(looked)) * middle(looked)


def consistency(records: Iterable[Record], name: str | None = None) -> Figures:
    """Answers that changed when the same labeller was asked again with the sides changed."""
    both = [
        (VALUE[word], VALUE[again])
        for who, word, other, again in agreement.answered_twice(records, "mirror")
        if who == other and name in (None, who)
    ]
    rate = conflict_rate([x for x, _ in both], [y for _, y in both])
    changed = sum(x != y for x, y in both)
    return {"conflicts": figure(rate, "share", len(both), share_ci95(changed, len(both)))}


def bias(records: Sequence[Record]) -> Figures:
    """What the left segment has for being left, in logits of an answer (§3.2)."""
    margins, left = sides_chosen(records)
    if not len(margins):
        return {name: figure(math.nan, "logits", 0) for name in BIAS}
    found = position_bias(margins, left)
    half = NORMAL_TAIL * found.error
    ends = [found.bias - half, found.bias + half]
    return {
        BIAS[0]: figure(found.bias, "logits", found.used, ends),
        BIAS[1]: figure(found.error, "logits", found.used),
    }


BIAS = ("position_bias", "position_bias_error")


# ---------------------------------------------------------------- several labellers


def opinions(found: agreement.Votes) -> Figures:
    """How far all labellers agree about pairs that several of them judged."""
    said = [list(v.values()) for v in found.values() if len(v) > 1]
    both = [(x, y) for v in said for i, x in enumerate(v) for y in v[i + 1 :]]
    units = agreement.coincidences(said)
    value, ends = agreement.coefficient(units, agreement.krippendorff_alpha)
    return {
        "agreement": share(sum(x == y for x, y in both), len(both)),
        "krippendorff_alpha": figure(value, "alpha", len(units), ends),
    }


def pair(found: agreement.Votes, one: str, other: str) -> Figures:
    """How far two labellers agree."""
    return both_said(agreement.between(found, one, other), "agreement", "cohen_kappa")


def judged(records: Iterable[Record]) -> Figures:
    """How far judges, where they were in doubt, agree with the person who decided."""
    index = agreement.WORDS.index
    twice = agreement.answered_twice(records, "judge")
    both = [(index(judge), index(word)) for who, word, other, judge in twice if who != other]
    return both_said(both, "judge_agreement", "judge_kappa")


def both_said(both: Sequence[tuple[int, int]], raw: str, kappa: str) -> Figures:
    """The share of equal answers, and κ."""
    statistic: Callable[..., Any] = agreement.cohen_kappa
    value, ends = agreement.coefficient(agreement.tables(both), statistic)
    return {
        raw: share(sum(x == y for x, y in both), len(both)),
        kappa: figure(value, "kappa", len(both), ends),
    }


# ---------------------------------------------------------------- costs and chances


def cost(
    records: Iterable[Record],
    earned: Return,
    hourly_wage: float | None = None,
    pause: float = PAUSE,
) -> Figures:
    """Labels, seconds and money for each unit of return that the policy gained over its reference.

    They are known only where it gained something. What was labelled elsewhere costs nothing here,
    nor does a judge's time.
    """
    records = [r for r in records if r["round"] != IMPORTED and r["asking"] != "judge"]
    names = {r["labeller"] for r in records if r["labeller"] is not None}
    spent = [seconds_spent([r for r in records if r["labeller"] == x], pause) for x in names]
    seconds = sum(s for s in spent if not math.isnan(s)) if timed(records) else math.nan
    own = [r for r in standing(records) if r["asking"] == "label"]
    labels, n = len(own), timed(records)
    reached, reference = (math.nan if x is None else x for x in earned)
    gained = reached - reference
    per = 1.0 / gained if gained > 0.0 else math.nan
    money = math.nan if hourly_wage is None else seconds / 3600.0 * hourly_wage
    return {
        "return": figure(reached, "return", labels),
        "reference_return": figure(reference, "return", labels),
        "return_gained": figure(gained, "return", labels),
        "seconds": figure(seconds, "s", n),
        "money": figure(money, "money", n),
        "labels_per_return": figure(labels * per, "labels/return", labels),
        "seconds_per_return": figure(seconds * per, "s/return", n),
        "money_per_return": figure(money * per, "money/return", n),
    }


def propensities(records: Iterable[Record]) -> Figures:
    """The probabilities with which questions were chosen; what they are worth as weights 1/π."""
    chances = {(r["round"], r["position"]): r["propensity"] for r in records}
    known = np.array([p for p in chances.values() if p is not None and p > 0.0])
    n = len(known)
    if not n:
        return {
            name: figure(math.nan, unit, 0)
            for name, unit in zip(CHANCES, CHANCE_UNITS, strict=True)
        }
    effective = (1.0 / known).sum() ** 2 / (known**-2.0).sum()
    values = known.mean(), known.min(), (1.0 / known).sum(), effective
    of = zip(CHANCES, values, CHANCE_UNITS, strict=True)
    return {name: figure(float(value), unit, n) for name, value, unit in of}


CHANCES = ("propensity_mean", "propensity_least", "pairs_stood_for", "effective_questions")
CHANCE_UNITS = ("probability", "probability", "pairs", "questions")
