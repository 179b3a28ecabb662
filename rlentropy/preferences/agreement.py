"""How far labellers agree, and agree with themselves: shares, Cohen's κ, Krippendorff's α.

Answers are words here, a, b and tie; of a soft answer the word that it leans to. Everything is a
function of the records of a store (preferences §6.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from rlentropy.intervals import DRAWN_AT_ONCE, RESAMPLES, interval
from rlentropy.preferences.export import standing
from rlentropy.types import Array

WORDS = ("a", "b", "tie")
Record = Mapping[str, Any]
Votes = dict[str, dict[str, int]]  # question → labeller → index of a word


def votes(records: Iterable[Record]) -> Votes:
    """The first answer of each labeller to each pair, whose first segment is that of lower hash.

    Labels and second opinions count, whatever the round; mirrored questions are a labeller's own,
    and judges' opinions are of `judged`.
    """
    found: Votes = {}
    for record in standing(records):
        if record["asking"] in ("label", "second"):
            word = WORDS.index(record["answer"])
            if word < 2 and record["segment_a"] > record["segment_b"]:
                word = 1 - word
            found.setdefault(record["query_id"], {}).setdefault(record["labeller"], word)
    return found


def between(found: Votes, one: str, other: str) -> list[tuple[int, int]]:
    """Both answers to each pair that two labellers judged."""
    return [(v[one], v[other]) for v in found.values() if one in v and other in v]


def answered_twice(records: Iterable[Record], again: str) -> list[tuple[str, str, str, str]]:
    """Questions with a label and a standing answer of another kind.

    Returns:
        The labeller and the word of the label, then those of the other answer.
    """
    said: dict[tuple[int, int], dict[str, tuple[str, str]]] = {}
    for record in standing(records):
        where = said.setdefault((record["round"], record["position"]), {})
        where[record["asking"]] = record["labeller"], record["answer"]
    return [(*x["label"], *x[again]) for x in said.values() if "label" in x and again in x]


# ---------------------------------------------------------------- coefficients


def tables(pairs: Iterable[tuple[int, int]], size: int = len(WORDS)) -> Array:
    """A table of one entry for each pair of answers, (U, C, C)."""
    both = np.array(list(pairs), np.int64).reshape(-1, 2)
    found = np.zeros((len(both), size, size))
    found[np.arange(len(both)), both[:, 0], both[:, 1]] = 1.0
    return found


def coincidences(found: Iterable[Iterable[int]], size: int = len(WORDS)) -> Array:
    """Krippendorff's coincidence matrix of each unit, (U, C, C), from the answers to it.

    The m answers of a unit are paired in both orders, each pair counting 1 / (m - 1), so that each
    answer counts once; units with one answer say nothing and are left out.
    """
    matrices = []
    for answers in found:
        counts = np.bincount(np.fromiter(answers, np.int64), minlength=size).astype(float)
        if (m := counts.sum()) > 1:
            matrices.append((np.outer(counts, counts) - np.diag(counts)) / (m - 1.0))
    return np.array(matrices).reshape(-1, size, size)


def cohen_kappa(table: Array) -> Array:
    """κ = (p_o - p_e) / (1 - p_e), (..., C, C) → (...) (§6.4).

    NaN where both labellers gave one and the same answer throughout.
    """
    n = table.sum((-2, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = np.trace(table, axis1=-2, axis2=-1) / n
        expected = (table.sum(-1) * table.sum(-2)).sum(-1) / n**2
        kappa: Array = (observed - expected) / (1.0 - expected)
    return np.where(expected < 1.0 - 1e-12, kappa, np.nan)


def krippendorff_alpha(coincidence: Array) -> Array:
    """α = 1 - D_o / D_e of nominal answers, (..., C, C) → (...) (§6.4).

    NaN where all answers were the same, or none.
    """
    counts = coincidence.sum(-1)
    n = counts.sum(-1)
    apart = n - np.trace(coincidence, axis1=-2, axis2=-1)
    by_chance = n**2 - (counts**2).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        alpha: Array = 1.0 - (n - 1.0) * apart / by_chance
    return np.where(by_chance > 1e-9, alpha, np.nan)


def coefficient(units: Array, statistic: Callable[[Array], Array]) -> tuple[float, list[float]]:
    """A coefficient of the sum of units (U, C, C), and its 95 % interval over units drawn again.

    Draws that leave it undefined are left out; a single unit has no interval.
    """
    n = len(units)
    if not n:
        return float("nan"), [float("nan")] * 2
    rng, even, size = np.random.default_rng(0), np.full(n, 1.0 / n), max(1, DRAWN_AT_ONCE // n)
    sizes = (min(size, RESAMPLES - k) for k in range(0, RESAMPLES, size))
    weights = (rng.multinomial(n, even, size=k).astype(float) for k in sizes)
    samples = np.concatenate([statistic(np.tensordot(w, units, 1)) for w in weights])
    samples = samples[~np.isnan(samples)]
    ends = interval(samples, n) if samples.size else (np.nan, np.nan)
    return float(statistic(units.sum(0))), [float(end) for end in ends]


def labellers_of(found: Votes) -> list[tuple[str, str]]:
    """Pairs of labellers who judged some pair both."""
    pairs = {pair for said in found.values() for pair in combinations(sorted(said), 2)}
    return sorted(pairs)
