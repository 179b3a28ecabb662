# ruff: noqa: E402
"""The experiments on acquisition rules behind docs/results/preferences.md; one CSV each.

python benchmarks/preference_studies.py e1 [e2 ...] [--seeds 300-319] [--tasks A,B] [--arms A,B]
                                        [--settings TEXT] [--out DIR]
python benchmarks/preference_studies.py all
python benchmarks/preference_studies.py summarise [--runs DIR] [--out results/preferences]

A run is an experiment, a task, a setting, an arm and a seed, and one row of DIR/EXPERIMENT.csv;
rows that are there are not run again, so that it can be stopped and started. Arms of one seed meet
the same start states and the same noise of actions and answers. "tune1" and "tune2" are e1 and e2
at four learning rates on other seeds, by which e7-best.csv chooses a rate for each arm.

e1  retrain from the reference on all labels so far: 8 rounds of 64, 30 steps each
e2  online: 40 rounds of 16, 3 steps each on the newest, all rules
e3  e2's margins of bought pairs, round by round
e4  e2 with Bradley-Terry noise and flipped answers
e5  e1 with teachers that make mistakes, skip, see ties, or look at the last steps
e6  what is judged and by which loss, on slippery and other ice
e7  e1 and e2 at four learning rates
e8  entropy and certainty with right, displaced, reshaped and negated entropy scores
e9  who gets the pairs that a judge is in doubt about
"""

from __future__ import annotations

import os

for _library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # read when numpy and numba are imported

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from preference_pictures import PICTURES
from preference_rules import read, seeds_of
from preference_subjects import ENTROPIES, Setting, subject_of, the_task
from preference_summaries import TABLES, Curve, confidence, confidently_wrong, labels_to
from preference_tasks import UNIFORM, teacher

from rlentropy.preferences import judges, oracles
from rlentropy.preferences.acquisition import RULES
from rlentropy.preferences.campaign import Campaign, Plan
from rlentropy.preferences.store import Store
from rlentropy.preferences.tables import noisy_expert

RUNS, RESULTS = "results/runs/preferences", "results/preferences"
TASKS = ("lake8", "slip8", "cliff", "grid")  # taxi is run apart, with fewer arms
THREE = ("lake8", "cliff", "grid")
PAPER = ("random", "entropy", "certainty", "uncertainty", "entropy-certainty", "half-certainty")
FEW = (*PAPER, "label-information", "push-value", "oracle-gap")
RATED = ("random", "certainty", "uncertainty", *FEW[5:])
PILOT = (*PAPER[:4], "with-duplicates", *PAPER[4:], "oracle-gap")
RATES = (0.01, 0.02, 0.04, 0.08)
LEVEL = 0.8  # of normalised return, that labels are counted to
FIELDS = (
    *("task", "setting", "arm", "seed", "auc", "final", "kl", "labels_to", "reached"),
    *("agreement", "wrong", "correlation", "seconds", "labels", "curve", "kls", "margins"),
)
JUDGED = ("task", "setting", "arm", "seed", "accuracy", "conflict")


ONLINE = Setting()
RETRAIN = Setting(train="all", restart=True, rounds=8, batch=64, epochs=30)

# ---------------------------------------------------------------- runs


class Recorded(Campaign):
    """Keeps what the policy said of the pairs that were bought, and what the teacher answered."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.said: list[tuple[int, Any, Any]] = []

    def _take(self, answers: Any) -> None:
        assert self.asked is not None
        self.said.append((self.round, self.asked.margins, answers))
        super()._take(answers)


def rule_of(arm: str) -> str:
    """The rule behind an arm."""
    if arm in ENTROPIES or arm == "exact":
        return "entropy-certainty"
    return "uncertainty" if arm == "with-duplicates" else arm


def one(
    task_name: str, setting: Setting, arm: str, seed: int, bins: bool = False
) -> dict[str, Any]:
    """A run as a row."""
    began = time.process_time()
    subject = subject_of(task_name, setting, arm, seed)
    plan = Plan(
        labels=setting.rounds * setting.batch,
        batch_size=setting.batch,
        acquisition=rule_of(arm),
        prompts=setting.prompts,
    )
    assert subject.episodes is not None
    ask = teacher(setting.oracle, subject.task, subject.original, seed)
    ask.plan = subject.episodes.optimum
    rng = np.random.default_rng([seed, 0])
    campaign = Recorded(subject, plan, ask, Store(None), rng)
    while campaign.labels < plan.labels:
        campaign.advance(1)
    points = campaign.curve[1:]
    curve = Curve(
        np.array(campaign.at[1:]),
        np.array([p["normalised_return"] for p in points]),
        np.array([p["kl"] for p in points]),
    )
    labels, reached = labels_to(LEVEL, curve)
    agreement, wrong = confidently_wrong(campaign.said)
    return {
        **{"auc": curve.returns.mean(), "final": curve.returns[-1], "kl": curve.kls[-1]},
        **{"labels_to": labels, "reached": int(reached), "agreement": agreement, "wrong": wrong},
        "correlation": np.mean(subject.correlations) if subject.correlations else np.nan,
        "seconds": time.process_time() - began,
        "labels": ";".join(map(str, curve.labels)),
        "curve": ";".join(f"{x:.4f}" for x in curve.returns),
        "kls": ";".join(f"{x:.4f}" for x in curve.kls),
        "margins": confidence(campaign.said) if bins else "",
    }


ROUTES = ("judge", "random", "conflict", "entropy", "margin", "oracle")


def judged(task_name: str, setting: Setting, route: str, seed: int) -> dict[str, Any]:
    """Share of right answers to 500 pairs, a fifth of which a person answers."""
    task = the_task(task_name, seed)
    uniform = np.full((task.mdp.num_states, task.mdp.num_actions), 1.0 / task.mdp.num_actions)
    reference = (
        uniform if task_name in UNIFORM else noisy_expert(task, np.random.default_rng([seed, 1]))
    )
    rng = np.random.default_rng([seed, 3])
    starts = task.prompts(4000, rng)
    a, b = (task.roll_out(reference, starts, rng).returns for _ in range(2))
    judge = oracles.parse_oracle(setting.oracle)
    assert isinstance(judge, judges.Judge)
    judge = oracles.resolved(judge, float(np.concatenate([a, b]).std()))
    gaps = (a - b)[a != b][:500]  # a tie has no right answer
    u = rng.random((len(gaps), 2 * judge.readings + 1))
    readings = judges.read(judge, gaps, u[:, :-1])
    found = judges.judgement(readings, judge.tie)
    right = found.answers == judges.verdicts(gaps)
    doubt = {
        "random": np.zeros(len(gaps)),
        "conflict": found.conflict.astype(float),
        "entropy": found.entropy,
        "margin": -np.abs(readings.mean((1, 2))),
        "oracle": (~right).astype(float),
    }
    if route != "judge":
        n = judges.share_of(judge.human, len(gaps))
        right = right | judges.to_person(doubt[route], n, u[:, -1])
    return {"accuracy": right.mean(), "conflict": found.conflict.mean()}


# ---------------------------------------------------------------- experiments


@dataclass(frozen=True)
class Experiment:
    tasks: tuple[str, ...]
    settings: tuple[Setting, ...]
    arms: tuple[str, ...]
    seeds: str = "300-319"


def at_rates(setting: Setting, rates: tuple[float, ...]) -> tuple[Setting, ...]:
    return tuple(replace(setting, name=f"lr {r:g}", learning_rate=r) for r in rates)


def noises() -> tuple[Setting, ...]:
    """Temperatures by rates of mistakes."""
    found = []
    for tau in (0.0, 0.25, 1.0, 4.0):
        for flips in (0.0, 0.1, 0.2, 0.3):
            oracle = (
                f"bradley-terry:{tau:g}std,mistake={flips}" if tau else f"return:mistake={flips}"
            )
            found.append(replace(ONLINE, name=f"tau {tau:g} flips {flips:g}", oracle=oracle))
    return tuple(found)


def irrational() -> tuple[Setting, ...]:
    """The settings of B-Pref's teachers, one at a time."""
    teachers = {}
    for fault in ("mistake=0.1", "skip=0.1", "equal=0.1", "myopic=0.9"):
        teachers[fault] = f"return:{fault}"
    return tuple(replace(RETRAIN, name=n, oracle=oracle) for n, oracle in teachers.items())


def labels_and_losses() -> tuple[Setting, ...]:
    """What is judged, and by which loss it is learnt, of whole episodes and of cut ones."""
    kinds: dict[str, dict[str, Any]] = {
        "dpo-return": {"oracle": "return"},
        "dpo-bootstrapped": {"oracle": "bootstrapped-return"},
        "cpl-regret": {"oracle": "regret", "loss": "cpl"},
        "cpl-regret 0.5": {"oracle": "regret", "loss": "cpl", "conservative": 0.5},
    }
    whole = [replace(ONLINE, name=f"whole {n}", **kind) for n, kind in kinds.items()]
    cut = [replace(ONLINE, name=f"cut {n}", cut=6, **kind) for n, kind in kinds.items()]
    return (*whole, *cut)


def routing() -> tuple[Setting, ...]:
    return tuple(
        Setting(f"tau {tau:g} bias {bias:g}", f"judge:{tau:g}std,left_bias={bias:g}")
        for tau in (1.0, 4.0, 16.0)
        for bias in (0.0, 1.0, 2.0)
    )


EIGHT = ("random", "certainty", "exact", "disjoint", "sliding-window", "misshaped", "negated")
PROTOCOLS = replace(ONLINE, name="online"), replace(RETRAIN, name="retrain")
EXPERIMENTS = {
    "e1": Experiment(TASKS, (RETRAIN,), FEW),
    "e2": Experiment(TASKS, (ONLINE,), (*RULES, "with-duplicates")),
    "tune1": Experiment(THREE, at_rates(RETRAIN, RATES), FEW, "280-284"),
    "tune2": Experiment(THREE, at_rates(ONLINE, RATES), FEW, "280-284"),
    "e3": Experiment(("lake8", "grid"), PROTOCOLS, FEW, "300-309"),
    "e4": Experiment(("lake8", "grid"), noises(), ("random", "certainty", "label-information")),
    "e5": Experiment(("lake8", "grid"), irrational(), FEW),
    "e6": Experiment(("lake4", "slip4", "cliff", "cliffslip"), labels_and_losses(), ("random",)),
    "e7": Experiment(
        THREE,
        tuple(
            replace(s, name=f"{s.name} {protocol}")
            for protocol, base in (("online", ONLINE), ("retrain", RETRAIN))
            for s in at_rates(base, (0.01, 0.04, 0.08))
        ),
        RATED,
    ),
    "e8": Experiment(
        THREE,
        tuple(replace(s, prompts=4) for s in PROTOCOLS),
        (*EIGHT, "random-prompts"),
    ),
    "e9": Experiment((*TASKS, "taxi"), routing(), ROUTES),
}
Job = tuple[str, Setting, str, int]


def jobs(experiment: Experiment, options: argparse.Namespace) -> Iterator[Job]:
    """Seed by seed, all arms of a task side by side."""
    arms = PILOT if options.arms == "pilot" else options.arms and options.arms.split(",")
    for seed in seeds_of(options.seeds or experiment.seeds):
        for task in options.tasks.split(",") if options.tasks else experiment.tasks:
            for setting in experiment.settings:
                if options.settings in setting.name:
                    for arm in arms or experiment.arms:
                        yield task, setting, arm, seed


def simulate(name: str, options: argparse.Namespace) -> None:
    """Run what the file does not have yet."""
    path = Path(options.runs) / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    done = {(r["task"], r["setting"], r["arm"], r["seed"]) for r in read(path)}
    begun, runs, new = time.time(), 0, not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, JUDGED if name == "e9" else FIELDS)
        if new:
            writer.writeheader()
        for task, setting, arm, seed in jobs(EXPERIMENTS[name], options):
            if (task, setting.name, arm, str(seed)) in done:
                continue
            if name == "e9":
                row = judged(task, setting, arm, seed)
            else:
                row = one(task, setting, arm, seed, bins=name == "e3")
            row = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
            place = {"task": task, "setting": setting.name, "arm": arm, "seed": seed}
            writer.writerow(place | row)
            file.flush()
            runs += 1
    print(f"{name}: {runs} runs in {time.time() - begun:.0f} s", flush=True)


def summarise(runs: Path, out: Path) -> None:
    """All tables and pictures that there are rows for."""
    rows = {path.stem: read(path) for path in sorted(runs.glob("*.csv"))}
    for name, (make, needs) in {**TABLES, **PICTURES}.items():
        if all(rows.get(need) for need in needs):
            make(out, rows)
            print(f"{name} from {', '.join(needs)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = (*EXPERIMENTS, "all", "summarise")
    parser.add_argument("what", nargs="+", choices=names, metavar="WHAT", help=", ".join(names))
    parser.add_argument("--seeds", default="", help="A-B; default: the experiment's own")
    parser.add_argument("--tasks", default="")
    parser.add_argument("--arms", default="", help='names, or "pilot"')
    parser.add_argument("--settings", default="", help="a part of the names of settings")
    parser.add_argument("--runs", default=RUNS, help="folder of the rows")
    parser.add_argument("--out", default=RESULTS, help="folder of tables and pictures")
    options = parser.parse_args()
    for name in EXPERIMENTS if "all" in options.what else options.what:
        if name == "summarise":
            summarise(Path(options.runs), Path(options.out))
        else:
            simulate(name, options)


if __name__ == "__main__":
    main()
