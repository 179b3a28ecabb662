"""Statistics, tables and pictures of the preference studies."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from preference_rules import holm
from scipy import stats

from rlentropy.intervals import centre, estimate, median_time
from rlentropy.preferences import evaluation

BINS = 20  # of probabilities; 1/2 is an edge
SURE = 0.8  # predicted probability from which a policy is confident
PROGRAM = "python benchmarks/preference_studies.py"
Row = dict[str, Any]

# ---------------------------------------------------------------- of a run


@dataclass(frozen=True)
class Curve:
    """After each round: labels so far, normalised return and KL from the reference, (R,) each."""

    labels: Any
    returns: Any
    kls: Any

    @classmethod
    def of(cls, row: Row) -> Curve:
        columns = (row[name].split(";") for name in ("labels", "curve", "kls"))
        return cls(*(np.array(column, float) for column in columns))


def labels_to(level: float, curve: Curve) -> tuple[int, bool]:
    """Labels at the first of two evaluations in a row that reach a level, and whether one did."""
    found = evaluation.labels_to(level, curve.labels, curve.returns)
    return (int(curve.labels[-1]), False) if found is None else (found, True)


def at_kl(kl: float, curve: Curve) -> float:
    """Normalised return where the KL first comes to a level, from 0 at the reference."""
    kls, returns = np.append(0.0, curve.kls), np.append(0.0, curve.returns)
    return evaluation.return_at_divergence(kl, kls, returns)


Said = list[tuple[int, Any, Any]]  # round, margins (n,), answers (n,) of each batch


def signed(said: Said) -> tuple[Any, Any]:
    """Margins in favour of what was answered, and their rounds; without ties and skips."""
    rounds = np.concatenate([np.full(len(m), k) for k, m, _ in said])
    margins, y = (np.concatenate([part[i] for part in said]) for i in (1, 2))
    decided = (y == 0.0) | (y == 1.0)
    return np.where(y > 0.5, margins, -margins)[decided], rounds[decided]


def probabilities(margins: Any) -> Any:
    return 0.5 * (1.0 + np.tanh(0.5 * margins))


def confidently_wrong(said: Said) -> tuple[float, float]:
    """Share of bought pairs that the policy had right, and of those it was sure of, wrong.

    Without the first round, where the policy is its reference. A margin of 0 is right by half.
    """
    margins, rounds = signed(said)
    margins = margins[rounds > 0]
    p = probabilities(margins)
    right = np.where(margins == 0.0, 0.5, margins > 0.0)
    sure = (p > SURE) | (p < 1.0 - SURE)
    return (
        float(right.mean()) if right.size else float("nan"),
        float((p[sure] < 0.5).mean()) if sure.any() else float("nan"),
    )


def confidence(said: Said) -> str:
    """Histograms of the probability of the answer, round by round: "n;n;…|n;n;…"."""
    margins, rounds = signed(said)
    found = []
    for k in range(max(k for k, _, _ in said) + 1):
        counts, _ = np.histogram(probabilities(margins[rounds == k]), BINS, (0.0, 1.0))
        found.append(";".join(map(str, counts)))
    return "|".join(found)


# ---------------------------------------------------------------- over seeds

Key = tuple[str, ...]


def grouped(rows: Iterable[Row], value: str) -> dict[Key, dict[str, dict[str, float]]]:
    """(task, setting) → arm → seed → value."""
    found: dict[Key, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        found[row["task"], row["setting"]][row["arm"]][row["seed"]] = float(row[value])
    return found


def paired(mine: dict[str, float], other: dict[str, float]) -> Row:
    """A comparison of two arms over the seeds that both have."""
    both = sorted(set(mine) & set(other))
    d = np.array([mine[s] - other[s] for s in both])
    band = estimate(d, "mean", np.random.default_rng(0))
    error = d.std(ddof=1) / np.sqrt(len(d)) if len(d) > 1 else np.nan
    t = d.mean() / error if error > 0.0 else np.nan
    return {
        "seeds": len(d),
        "level": np.mean([mine[s] for s in both]),
        "spread": np.std([mine[s] for s in both], ddof=1) if len(d) > 1 else np.nan,
        "difference": d.mean(),
        "low": float(band.low),
        "high": float(band.high),
        "error": error,
        "t": t,
        "p_t": 2.0 * stats.t.sf(abs(t), len(d) - 1) if np.isfinite(t) else 1.0,
        "p_wilcoxon": stats.wilcoxon(d).pvalue if d.any() else 1.0,
        "wins": int((d > 0.0).sum()),
    }


def comparisons(rows: Iterable[Row], against: str = "random", value: str = "auc") -> list[Row]:
    """Every arm less another, in each task and setting; Holm's correction over the arms there."""
    found = []
    for (task, setting), arms in grouped(rows, value).items():
        if against not in arms:
            continue
        group = [
            {"task": task, "setting": setting, "arm": arm, **paired(seeds, arms[against])}
            for arm, seeds in arms.items()
        ]
        others = [row for row in group if row["arm"] != against]
        for name in ("p_t", "p_wilcoxon"):
            for row, p in zip(others, holm([row[name] for row in others]), strict=True):
                row["holm_" + name[2:]] = p
        found += group
    return found


def improvement(mine: Any, other: Any) -> float:
    """Probability that a run of one arm beats one of another, ties by half."""
    d = np.asarray(mine)[:, None] - np.asarray(other)[None]
    return float((d > 0.0).mean() + 0.5 * (d == 0.0).mean())


def across(rows: Iterable[Row], against: str = "random") -> list[Row]:
    """Over all tasks: interquartile mean of areas, and mean probability of improvement."""
    rng = np.random.default_rng(0)
    tasks = grouped(rows, "auc")
    found = []
    for arm in next(iter(tasks.values())):
        per_task = [
            (np.array([*arms[arm].values()]), np.array([*arms[against].values()]))
            for arms in tasks.values()
            if arm in arms and against in arms
        ]
        seeds = min(min(len(a), len(b)) for a, b in per_task)
        samples = [[resampled(pair, rng) for pair in per_task] for _ in range(500)]
        row: Row = {"arm": arm, "tasks": len(per_task), "seeds": seeds}
        for name, of in (("iqm", pooled_iqm), ("improvement", mean_improvement)):
            low, high = np.quantile([of(sample) for sample in samples], (0.025, 0.975))
            row |= {name: of(per_task), f"{name}_low": low, f"{name}_high": high}
        found.append(row)
    return found


def resampled(pair: Any, rng: np.random.Generator) -> Any:
    """Both arms' seeds, drawn with replacement."""
    return [x[rng.integers(len(x), size=len(x))] for x in pair]


def pooled_iqm(per_task: Any) -> float:
    return float(centre(np.concatenate([a for a, _ in per_task]), "iqm"))


def mean_improvement(per_task: Any) -> float:
    return float(np.mean([improvement(a, b) for a, b in per_task]))


def secondary(rows: Sequence[Row]) -> dict[Key, Row]:
    """(task, setting, arm) → final return, KL, labels to the level, return at matched KL, …

    The KL is what the random arm of the same seed ends with. Labels: the median of Kaplan and
    Meier, and the mean restricted to the budget, that of min(labels, budget), as all have one.
    """
    by_arm: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        by_arm[row["task"], row["setting"], row["arm"]].append(row)
    found = {}
    for (task, setting, arm), runs in by_arm.items():
        others = by_arm.get((task, setting, "random"), runs)
        kls = {r["seed"]: float(Curve.of(r).kls[-1]) for r in others}
        times = np.array([float(r["labels_to"]) for r in runs])
        reached = np.array([r["reached"] == "1" for r in runs])
        matched = np.array([at_kl(kls[r["seed"]], Curve.of(r)) for r in runs if r["seed"] in kls])
        there = ~np.isnan(matched)
        found[task, setting, arm] = {
            "final": mean_of(runs, "final"),
            "kl": mean_of(runs, "kl"),
            "labels_to_80": times.mean(),
            "median_to_80": float(median_time(times, reached, np.random.default_rng(0)).value),
            "reached_80": reached.mean(),
            "at_kl": float(np.mean([*kls.values()])),
            "return_at_kl": matched[there].mean() if there.any() else np.nan,
            "share_at_kl": there.mean(),
            "agreement": mean_of(runs, "agreement"),
            "confidently_wrong": mean_of(runs, "wrong"),
            "cpu_seconds": mean_of(runs, "seconds"),
        }
    return found


def mean_of(runs: Sequence[Row], name: str) -> float:
    values = np.array([float(r[name]) for r in runs])
    return float(np.nanmean(values)) if (~np.isnan(values)).any() else float("nan")


def best_rates(rows: Iterable[Row]) -> dict[Key, str]:
    """(task, arm) → the setting of the largest mean area."""
    means: dict[Key, dict[str, float]] = defaultdict(dict)
    for (task, setting), arms in grouped(rows, "auc").items():
        for arm, seeds in arms.items():
            means[task, arm][setting] = float(np.mean([*seeds.values()]))
    return {key: max(found, key=lambda s: found[s]) for key, found in means.items()}


# ---------------------------------------------------------------- tables


def shown(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def write(path: Path, rows: Sequence[Row], command: str) -> None:
    """A table under the command that made its runs."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        file.write(f"# {command}; {PROGRAM} summarise\n")
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows({name: shown(value) for name, value in row.items()} for row in rows)


def full(rows: Sequence[Row], against: str = "random") -> list[Row]:
    """Comparisons beside the secondary figures."""
    more = secondary(rows)
    return [r | more[r["task"], r["setting"], r["arm"]] for r in comparisons(rows, against)]


def at_best(
    usual: Sequence[Row], other: Sequence[Row], tuned: Sequence[Row], tag: str
) -> list[Row]:
    """Every arm at the rate that separate seeds chose for it, as rows with the setting "best"."""
    rates = best_rates(tuned)
    of_rate = [dict(r, setting="lr 0.02") for r in usual]
    of_rate += [
        dict(r, setting=r["setting"].removesuffix(tag).strip())
        for r in other
        if r["setting"].endswith(tag)
    ]
    return [
        dict(r, setting="best", rate=r["setting"][3:])
        for r in of_rate
        if rates.get((r["task"], r["arm"])) == r["setting"]
    ]


Tables = dict[str, list[Row]]


def equal_rates(name: str) -> Callable[[Path, Tables], None]:
    def make(out: Path, rows: Tables) -> None:
        write(out / f"{name}.csv", full(rows[name]), f"{PROGRAM} {name}")
        write(out / f"{name}-across.csv", across(rows[name]), f"{PROGRAM} {name}")

    return make


def tuned_rates(out: Path, rows: Tables) -> None:
    found = []
    for name, protocol, tune in (("e1", "retrain", "tune1"), ("e2", "online", "tune2")):
        best = at_best(rows[name], rows["e7"], rows.get(tune, []), protocol)
        rates = {(r["task"], r["arm"]): r["rate"] for r in best}
        for row in full(best):
            rate = rates[row["task"], row["arm"]]
            found.append({"protocol": protocol, "rate": rate} | row)
    write(out / "e7-best.csv", found, f"{PROGRAM} e1 e2 e7 tune1 tune2")


def every_rate(out: Path, rows: Tables) -> None:
    here = [dict(r, setting="lr 0.02 online") for r in rows["e2"]]
    here += [dict(r, setting="lr 0.02 retrain") for r in rows["e1"]]
    arms = {r["arm"] for r in rows["e7"]}
    found = full([r for r in (*here, *rows["e7"]) if r["arm"] in arms])
    keep = ("task", "setting", "arm", "seeds", "level", "difference", "low", "high", "t")
    keep += ("holm_wilcoxon", "final", "kl", "at_kl", "return_at_kl", "share_at_kl")
    write(out / "e7.csv", [{k: r.get(k, "") for k in keep} for r in found], f"{PROGRAM} e7")


def histograms(rows: Iterable[Row]) -> dict[Key, Any]:
    """(task, setting, arm) → counts summed over seeds, (rounds, BINS)."""
    found: dict[Key, Any] = defaultdict(int)
    for r in rows:
        counts = [[int(n) for n in part.split(";")] for part in r["margins"].split("|")]
        found[r["task"], r["setting"], r["arm"]] += np.array(counts)
    return found


def margins(out: Path, rows: Tables) -> None:
    """Each quarter of the rounds: how many were sure, and wrong."""
    found = []
    for (task, setting, arm), counts in histograms(rows["e3"]).items():
        cut = round(BINS * (1.0 - SURE))
        for quarter, part in enumerate(np.array_split(counts[1:], 4)):
            n = part.sum(0)
            sure = n[:cut].sum() + n[-cut:].sum()
            found.append({
                "task": task, "protocol": setting, "arm": arm,
                "quarter": quarter + 1, "answers": int(n.sum()),
                "sure": sure / max(n.sum(), 1),
                "right": n[BINS // 2 :].sum() / max(n.sum(), 1),
                "sure_and_wrong": n[:cut].sum() / max(n.sum(), 1),
                "wrong_of_sure": n[:cut].sum() / sure if sure else np.nan,
            })  # fmt: skip
    write(out / "e3.csv", found, f"{PROGRAM} e3")


def noise(out: Path, rows: Tables) -> None:
    write(out / "e4.csv", comparisons(rows["e4"]), f"{PROGRAM} e4")


def teachers(out: Path, rows: Tables) -> None:
    """Of each teacher the arms against random; and what the fault costs each arm."""
    tasks = {r["task"] for r in rows["e5"]}
    oracle = [dict(r, setting="oracle") for r in rows["e1"] if r["task"] in tasks]
    mine = [*oracle, *rows["e5"]]
    turned = [dict(r, arm=r["setting"], setting=r["arm"]) for r in mine]
    cost = {(r["task"], r["arm"], r["setting"]): r for r in comparisons(turned, against="oracle")}
    found = []
    for r in comparisons(mine):
        c = cost[r["task"], r["setting"], r["arm"]]
        names = ("difference", "low", "high", "t", "holm_wilcoxon")
        found.append(r | {f"to_oracle_{k}": c.get(k, "") for k in names})
    write(out / "e5.csv", found, f"{PROGRAM} e1 e5")


def losses(out: Path, rows: Tables) -> None:
    """Labels and losses against DPO on returns, of each arm."""
    turned = []
    for r in rows["e6"]:
        length, _, kind = r["setting"].partition(" ")
        turned.append(dict(r, setting=f"{length} {r['arm']}", arm=kind))
    write(out / "e6.csv", comparisons(turned, against="dpo-return"), f"{PROGRAM} e6")


def scored(out: Path, rows: Tables) -> None:
    found = comparisons(rows["e8"], against="random-prompts")
    keys = defaultdict(list)
    for r in rows["e8"]:
        keys[r["task"], r["setting"], r["arm"]].append(r)
    for r in found:
        r["correlation"] = mean_of(keys[r["task"], r["setting"], r["arm"]], "correlation")
    write(out / "e8.csv", found, f"{PROGRAM} e8")


def routes(out: Path, rows: Tables) -> None:
    found = comparisons(rows["e9"], value="accuracy")
    conflicts = grouped(rows["e9"], "conflict")
    for r in found:
        r["conflict"] = np.mean([*conflicts[r["task"], r["setting"]][r["arm"]].values()])
    write(out / "e9.csv", found, f"{PROGRAM} e9")


Make = tuple[Callable[[Path, Tables], None], tuple[str, ...]]
TABLES: dict[str, Make] = {
    "e1": (equal_rates("e1"), ("e1",)),
    "e2": (equal_rates("e2"), ("e2",)),
    "e3": (margins, ("e3",)),
    "e4": (noise, ("e4",)),
    "e5": (teachers, ("e1", "e5")),
    "e6": (losses, ("e6",)),
    "e7": (every_rate, ("e1", "e2", "e7")),
    "e7 best": (tuned_rates, ("e1", "e2", "e7", "tune2")),
    "e8": (scored, ("e8",)),
    "e9": (routes, ("e9",)),
}
