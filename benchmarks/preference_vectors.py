"""Acquisition rules for policy networks on three continuous tasks, paired by seed, as CSV lines.

python benchmarks/preference_vectors.py run random,value-information --seeds 100-139 --out runs.csv
    [--tasks pendulum,car,maze] [--set train=all]
python benchmarks/preference_vectors.py table runs.csv [--out table.csv]
python benchmarks/preference_vectors.py picture runs.csv --out curves.png

Campaigns are those of `python train.py active-preference` with a network, on numpy twins of the
environments (`vector_tasks`). The score of a run is the mean over its rounds of the mean return of
64 segments, from the same starts and with the same noise each time. Runs that the file has are
skipped. A rule may carry settings, ``oracle-gap:power=4``.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import redraw
from preference_networks import parsed
from preference_rules import holm, plan_of, read, seeds_of
from scipy import stats
from vector_tasks import VectorStarts, vector_starts

from rlentropy import plots
from rlentropy.neural.networks import forward
from rlentropy.neural.spaces import OBSERVATION_CLIP, NeuralPolicy, standardised
from rlentropy.plots import style
from rlentropy.preferences.campaign import Campaign, Plan
from rlentropy.preferences.neural import SegmentPolicy, untrained
from rlentropy.preferences.neural_features import RandomFeatures
from rlentropy.preferences.neural_rollouts import scaling_of
from rlentropy.preferences.neural_subject import NeuralSubject
from rlentropy.preferences.oracles import Teacher, parse_oracle
from rlentropy.preferences.store import Store
from rlentropy.preferences.teaching import SimulatedTeacher
from rlentropy.preferences.training import Training

FIELDS = ("task", "settings", "rule", "seed", "auc", "first", "final", "kl", "ties", "agreement")
FIELDS += ("belief", "weights", "seconds", "curve")
ENVS = {"pendulum": "Pendulum-v1", "car": "MountainCar-v0", "maze": "rlentropy/PointMaze-v0"}
LENGTHS = {"pendulum": 25, "car": 100, "maze": 50}
ANYWHERE = {"low": -1.1, "high": 0.4}  # where cars start, at rest
ORDER = {"oracle-gap": 1, "value-information": 0, "label-information": 2, "push-value": 4}
ORDER |= {"certainty": 3, "oracle-gap:power=4": 6}  # rules in pictures, and their colours
SLOPE = 1.5  # logits of pushing right, less those of coasting, at full speed to the right


@dataclass(frozen=True)
class Setting:
    """How a policy learns; the rule is no part of it."""

    train: str = "newest"
    learning_rate: float = 0.003
    label_smoothing: float = 0.0
    epochs: int = 3
    batch_size: int = 16
    rounds: int = 40
    pool: int = 16
    length: int = 0  # of segments; 0: the task's own
    hidden: int = 32  # units of each of two layers
    features: int = 128
    oracle: str = "return"
    dpo_beta: float = 0.2
    temperature: float = 1.0


@lru_cache
def starts_of(task: str) -> VectorStarts:
    return vector_starts(ENVS[task], ANYWHERE if task == "car" else None)


def reference_of(
    task: str, starts: VectorStarts, hidden: int, length: int, rng: np.random.Generator
) -> NeuralPolicy:
    """An untrained network, as the command makes one; of a car it is cloned, see `clone`."""
    env, sizes = starts.envs[0], (hidden, hidden)
    blank = untrained(env, sizes, rng)
    sample = starts.segments(blank, starts.draw(64, rng), length, rng)
    policy = untrained(env, sizes, rng, scaling_of(blank, sample))
    if task == "car":
        clone(policy)
    return policy


def clone(policy: NeuralPolicy, slope: float = SLOPE) -> None:
    """Make a car push along with its speed v: logits (-1, 0, 1) · slope · v / .07.

    The output layer is fitted by least squares on a grid over the space of observations.
    """
    places = np.linspace(-1.2, 0.6, 40), np.linspace(-0.07, 0.07, 40)
    seen = np.stack(np.meshgrid(*places), axis=-1).reshape(-1, 2).astype(np.float32)
    *inner, (w, b) = policy.layers
    x = standardised(seen, *policy.scaling, OBSERVATION_CLIP)
    inputs = np.column_stack([np.tanh(forward(inner, x, policy.activation)), np.ones(len(x))])
    logits = slope * np.outer(seen[:, 1] / 0.07, [-1.0, 0.0, 1.0])
    found = np.linalg.lstsq(inputs, logits, rcond=1e-4)[0]
    w[:], b[:] = found[:-1], found[-1]


def campaign_of(task: str, setting: Setting, rule: str, seed: int) -> Campaign:
    """A campaign in memory; arms of one seed meet the same starts and the same noise."""
    rngs = np.random.default_rng([seed, 0]).spawn(4)
    starts, length = starts_of(task), setting.length or LENGTHS[task]
    reference = reference_of(task, starts, setting.hidden, length, rngs[0])
    policy = SegmentPolicy(reference, setting.learning_rate)
    psi = RandomFeatures(policy.head, policy.scaling, setting.features, rngs[1])
    training = Training(
        beta=setting.dpo_beta,
        label_smoothing=setting.label_smoothing,
        train=setting.train,  # type: ignore[arg-type]
        epochs=setting.epochs,
    )
    subject = NeuralSubject(
        policy, starts, psi, training, length, temperature=setting.temperature, seed=seed
    )
    spec = parse_oracle(setting.oracle)
    assert isinstance(spec, Teacher)
    teacher = SimulatedTeacher(spec, starts.segments(
        reference, starts.draw(256, rngs[2]), length, rngs[2]), None, seed)  # fmt: skip
    name, own = plan_of(rule)
    plan = Plan(
        setting.batch_size * setting.rounds,
        setting.batch_size,
        pool=setting.pool,
        acquisition=name,
        **own,
    )
    return Campaign(subject, plan, teacher, Store(None), rngs[3])


def one(task: str, settings: str, rule: str, seed: int) -> dict[str, Any]:
    """A run, and what its figures were on average over the rounds."""
    begin = time.perf_counter()
    campaign = campaign_of(task, Setting(**parsed(settings)), rule, seed)
    figures = defaultdict(list)
    while campaign.labels < campaign.plan.labels:
        for name, value in (campaign.advance(1) or {}).items():
            figures[name].append(value)
    curve = [point["return"] for point in campaign.curve]
    belief = figures["train/belief_agreement"]
    weights = [] if campaign.belief is None else campaign.belief.weights
    return {
        "task": task, "settings": settings, "rule": rule, "seed": seed,
        "auc": float(np.mean(curve[1:])), "first": curve[0], "final": curve[-1],
        "kl": campaign.curve[-1]["kl"], "ties": float(np.mean(figures["train/ties"])),
        "agreement": float(np.mean(figures["train/agreement"])),
        "belief": float(np.mean(belief)) if belief else "",
        "weights": " ".join(f"{w:.2f}" for w in weights),
        "seconds": round(time.perf_counter() - begin, 2),
        "curve": " ".join(f"{value:.5g}" for value in curve),
    }  # fmt: skip


def simulate(
    tasks: list[str], settings: str, rules: list[str], seeds: list[int], out: Path
) -> None:
    """Run what the file does not have yet, seed by seed, all rules of a task side by side."""
    done = {(r["task"], r["settings"], r["rule"], r["seed"]) for r in read(out)}
    out.parent.mkdir(parents=True, exist_ok=True)
    new = not out.exists()
    with out.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if new:
            writer.writeheader()
        for seed in seeds:
            for task in tasks:
                for rule in rules:
                    if (task, settings, rule, str(seed)) not in done:
                        writer.writerow(one(task, settings, rule, seed))
                        file.flush()


def compared(path: Path, rule: str, against: str) -> list[dict[str, Any]]:
    """Of each task and setting: the paired difference of a rule and another."""
    areas: dict[tuple[str, str], dict[str, dict[str, float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for row in read(path):
        areas[row["settings"], row["task"]][row["rule"]][row["seed"]] = float(row["auc"])
    rows: list[dict[str, Any]] = []
    for (settings, task), arms in areas.items():
        both = sorted(set(arms[rule]) & set(arms[against]))
        if len(both) < 2:
            continue
        d = np.array([arms[rule][s] - arms[against][s] for s in both])
        error = float(d.std(ddof=1) / np.sqrt(len(d)))
        rows.append({
            "settings": settings, "task": task, "rule": rule, "against": against,
            "seeds": len(d), "level": float(np.mean([arms[against][s] for s in both])),
            "difference": float(d.mean()), "error": error,
            "t": float(d.mean() / error) if error else float("nan"),
            "p": float(stats.wilcoxon(d).pvalue) if d.any() else 1.0, "wins": int((d > 0).sum()),
        })  # fmt: skip
    for settings in {row["settings"] for row in rows}:
        family = [row for row in rows if row["settings"] == settings]
        for row, p in zip(family, holm([row["p"] for row in family]), strict=True):
            row["holm"] = p
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    for r in rows:
        print(
            f"{r['settings']:28s} {r['rule']:20s} - {r['against']} {r['task']:8s} n {r['seeds']:3d}"
            f" {r['level']:8.2f} {r['difference']:+7.2f} ({r['error']:.2f}) t {r['t']:5.1f} "
            f"p {r['p']:.1e} Holm {r['holm']:.1e} wins {r['wins']}"
        )


@style.styled
def picture(path: Path, out: Path, against: str) -> None:
    """How far each rule is ahead at each number of labels: mean over seeds ± a standard error."""
    runs: dict[tuple[str, str], dict[str, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
    for row in read(path):
        curve = np.array(row["curve"].split(), float)
        runs[row["settings"], row["task"]][row["rule"]][row["seed"]] = curve
    settings = sorted({key[0] for key in runs}, reverse=True)
    names = [rule for rule in ORDER if any(rule in arms for arms in runs.values())]
    shape = {"width": style.PAGE, "height": 1.7 * len(settings), "sharex": True}
    figure, grid = style.canvas(len(settings), len(ENVS), **shape)
    for axes, setting in zip(grid, settings, strict=True):
        for ax, task in zip(axes, ENVS, strict=True):
            arms = runs[setting, task]
            for rule in names:
                both = sorted(set(arms[rule]) & set(arms[against]))
                if len(both) < 2:
                    continue
                d = np.array([arms[rule][s] - arms[against][s] for s in both])
                mean, error = d.mean(0), d.std(0, ddof=1) / np.sqrt(len(d))
                band = redraw.band(mean, mean - error, mean + error)
                labels = Setting().batch_size * np.arange(len(mean))
                style.line(ax, ORDER[rule], labels, band, rule)
            ax.axhline(0.0, color="0.4", lw=0.8)
            ax.set_title(f"{ENVS[task]}, {setting.split()[0].removeprefix('train=')} labels")
    names_of_axes = {"xlabel": "labels", "ylabel": f"return above {against}'s"}
    note = "mean over pairs of seeds, one standard error"
    plots.save(style.finish(figure, grid[0][0], note, **names_of_axes), out.with_suffix(""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("run", "table", "picture"))
    parser.add_argument("what", help="rules, separated by commas, or a CSV file")
    parser.add_argument("--tasks", default=",".join(ENVS))
    parser.add_argument("--seeds", default="100-139")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--against", default="random")
    options = parser.parse_args()
    path = Path(options.what)
    if options.action == "run":
        settings, rules = " ".join(options.settings), options.what.split(",")
        out = options.out or Path("preference_vectors.csv")
        simulate(options.tasks.split(","), settings, rules, seeds_of(options.seeds), out)
    elif options.action == "picture":
        picture(path, options.out or Path("preference_vectors.png"), options.against)
    else:
        rules = sorted({row["rule"] for row in read(path)} - {options.against})
        rows = [row for rule in rules for row in compared(path, rule, options.against)]
        rows.sort(key=lambda row: (row["settings"], row["task"]))
        show(rows)
        if options.out:
            rounded = [
                {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}
                for row in rows
            ]
            with options.out.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rounded)


if __name__ == "__main__":
    main()
