# ruff: noqa: E402
"""Which pairs a judge should leave to a person: labels and policies by each rule of routing.

python benchmarks/preference_judges.py run [--seeds 300-319] [--tasks A,B] [--judges A,B]
                                           [--arms A,B] [--acquisition RULE] [--runs FILE]
python benchmarks/preference_judges.py networks [--seeds 300-309]
python benchmarks/preference_judges.py table [--out results/preferences/judges.csv]
python benchmarks/preference_judges.py language --model MODEL

A campaign buys 640 labels, 16 a round and online as e2 of preference_studies; a judge answers, and
a person who sees returns has 120 labels, three a round, by the arm's rule. "alone" has no person;
"person" has nobody but the person, with three labels a round. Judges:

noisy b      readings of the return, thrice in either order, at 4 std, b logits for the left
half         a rubric that sees the rewards of the first half of a segment, and doesn't err there
ensemble     the belief about rewards from what the person answered; it knows nothing alone

Accuracy is the share of right answers to bought pairs of unequal return; area is that under the
curve of normalised return. Networks: Pendulum, 192 labels, defaults of active-preference.
"""

from __future__ import annotations

import os

for _library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # read when numpy and numba are imported

import argparse
import csv
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from preference_rules import read, seeds_of
from preference_studies import Recorded
from preference_subjects import Setting, Subject, subject_of
from preference_summaries import comparisons, paired, write
from preference_tasks import teacher

from rlentropy import FiniteMDP
from rlentropy.log import Log
from rlentropy.preferences import active_preference
from rlentropy.preferences.campaign import Plan
from rlentropy.preferences.judges import ROUTES, Judge, evidence, judgement
from rlentropy.preferences.judging import Ensemble, Judging, Simulated, scores_of
from rlentropy.preferences.language_judge import LanguageJudge
from rlentropy.preferences.routing import Router, given_by_person
from rlentropy.preferences.segments import Segments
from rlentropy.preferences.store import Store
from rlentropy.preferences.tables import TabularTask, noisy_expert

RUNS, OUT = "results/runs/preferences/judges.csv", "results/preferences/judges.csv"
TASKS = ("lake8", "slip8", "cliff", "grid", "taxi")
JUDGES = ("noisy 0", "noisy 1", "noisy 2", "half", "ensemble")
ARMS = ("alone", "person", *ROUTES)
ROUNDS, BATCH, PERSON = 40, 16, 3  # labels of the person a round
NET = {"labels": 192, "acquisition": "random", "final_episodes": 10}
FIELDS = ("task", "judge", "acquisition", "arm", "seed", "accuracy", "auc", "final", "by_person")


class Judged(Recorded):
    """Counts the person's labels behind a judge."""

    by_person = 0

    def _finish(self) -> dict[str, float]:
        self.by_person = given_by_person(self.store)
        return super()._finish()


class Half:
    """A rubric that adds rewards up to the middle of a segment, from states and actions alone."""

    def __init__(self, subject: Subject) -> None:
        mdp = subject.task.mdp
        self.r = np.asarray(mdp.r).reshape(mdp.num_states, mdp.num_actions)

    def __call__(self, left: Segments, right: Segments, uniforms: Any) -> Any:
        return scores_of((self.of(left) - self.of(right))[:, None].round(9))

    def of(self, segments: Segments) -> Any:
        T = segments.rewards.shape[1]
        rewards = self.r[segments.states[:, :T], segments.actions]
        return np.where(segments.mask & (np.arange(T) < T // 2), rewards, 0.0).sum(1)


def judge_of(name: str, subject: Subject, std: float, seed: int) -> tuple[Judging, float]:
    """A judge, and the band of single readings that are ties."""
    if name == "half":
        return Half(subject), 0.0
    if name == "ensemble":
        held_out = subject.held_out(512, np.random.default_rng([seed, 4]))
        return Ensemble(subject.features, subject.groups, held_out), 0.5
    bias = float(name.split()[1])
    return Simulated(Judge(temperature=4.0 * std, in_std=False, left_bias=bias)), 0.5


def one(task: str, judge: str, acquisition: str, arm: str, seed: int) -> dict[str, Any]:
    subject = subject_of(task, Setting(), arm, seed)
    person = teacher("return", subject.task, subject.original, seed)
    rng = np.random.default_rng([seed, 2])
    sample = subject.task.roll_out(subject.original, subject.task.prompts(4000, rng), rng)
    batch, router = (PERSON if arm == "person" else BATCH), None
    if arm != "person":
        door, tie = judge_of(judge, subject, float(sample.returns.std()), seed)
        rule, labels = (arm, ROUNDS * PERSON) if arm != "alone" else ("random", 0)
        router = Router(door, judge, seed, 3, rule, labels=labels, tie=tie, person="person")
    plan = Plan(labels=ROUNDS * batch, batch_size=batch, acquisition=acquisition)
    rng = np.random.default_rng([seed, 0])
    campaign = Judged(subject, plan, person, Store(None), rng, None, router)
    while campaign.labels < plan.labels:
        campaign.advance(1)
    return scored(campaign, "normalised_return")


def scored(campaign: Judged, key: str) -> dict[str, Any]:
    curve = [point[key] for point in campaign.curve[1:]]
    gaps = campaign.labelled.pairs.gaps.round(9)
    right = (campaign.labelled.y > 0.5) == (gaps > 0.0)
    right = np.where(campaign.labelled.y == 0.5, 0.5, right)[gaps != 0.0]
    return {
        "accuracy": right.mean(),
        "auc": np.mean(curve),
        "final": curve[-1],
        "by_person": campaign.by_person,
    }


def network(judge: str, arm: str, seed: int) -> dict[str, Any]:
    """A run of the command on Pendulum; returns are not normalised."""
    made: list[Judged] = []

    class Watched(Judged):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    active_preference.Campaign = Watched  # type: ignore[misc]
    options: dict[str, Any] = {"oracle": "return", **NET}
    if arm == "person":
        options |= {"labels": NET["labels"] * PERSON // BATCH, "batch_size": PERSON}
    else:
        bias = judge.partition(" ")[2] or "0"
        options |= {"oracle": f"judge:4std,left-bias={bias}", "human_labels": 0}
        if judge == "ensemble":
            options["judge"] = judge
        if arm != "alone":
            options |= {"human_labels": NET["labels"] * PERSON // BATCH, "routing": arm}
    config = active_preference.Config(**options)
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    active_preference.run(gymnasium.make("Pendulum-v1"), config, rng, Log(None))
    return scored(made[0], "return")


def kin(judge: str, arm: str) -> str:
    """Whose runs these are, too: a bias for the left cancels but in the entropy of outcomes."""
    if arm == "person":
        return ""
    return judge if arm == "entropy" else judge.partition(" ")[0]


def language(model: str, pairs: int = 40) -> dict[str, Any]:
    """How a language model judges pairs of unequal return on FrozenLake 4x4, shown as steps."""
    rng = np.random.default_rng(0)
    judge = LanguageJudge.of(model, rng)
    env = gymnasium.make("FrozenLake-v1", is_slippery=False)
    task = TabularTask.of(FiniteMDP.from_env(env), 8, (4, 4))
    expert = noisy_expert(task, np.random.default_rng(1))
    starts = task.prompts(20 * pairs, rng)
    a, b = (task.roll_out(expert, starts, rng) for _ in range(2))
    chosen = np.flatnonzero(a.returns != b.returns)[:pairs]
    a, b = a.take(chosen), b.take(chosen)
    none = np.zeros((len(chosen), 0))
    began = time.perf_counter()
    readings = evidence(judge(a, b, none), judge(b, a, none))
    found = judgement(readings)
    return {
        "pairs": len(chosen),
        "accuracy": ((found.answers == 1.0) == (a.returns > b.returns)).mean(),
        "conflict": found.conflict.mean(),
        "left_bias": 0.5 * (readings[:, 0] - readings[:, 1]).mean(),
        "seconds_per_pair": (time.perf_counter() - began) / len(chosen),
    }


def simulate(options: argparse.Namespace) -> None:
    path = Path(options.runs)
    path.parent.mkdir(parents=True, exist_ok=True)
    place = ("task", "judge", "acquisition", "arm", "seed")
    done, new = {tuple(r[name] for name in place) for r in read(path)}, not path.exists()
    networks, known = options.what == "networks", {}
    tasks = ["pendulum"] if networks else options.tasks.split(",")
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if new:
            writer.writeheader()
        for seed in seeds_of(options.seeds):
            for task in tasks:
                for judge in options.judges.split(","):
                    for arm in options.arms.split(","):
                        key = (task, judge, options.acquisition, arm, str(seed))
                        if key in done or (judge, arm) == ("ensemble", "alone"):
                            continue
                        same = (task, kin(judge, arm), options.acquisition, arm, seed)
                        if same not in known:
                            run = network(judge, arm, seed) if networks else one(*key[:4], seed)
                            known[same] = {k: f"{v:.6g}" for k, v in run.items()}
                        row = known[same]
                        writer.writerow(dict(zip(place, key, strict=True)) | row)
                        file.flush()


def table(rows: list[dict[str, Any]], out: Path) -> None:
    """Each arm less random routing, and the mean over tasks, seed by seed."""
    found = []
    for value in ("accuracy", "auc", "final"):
        cells = [r | {"setting": f"{r['judge']}/{r['acquisition']}"} for r in rows]
        tabular = [r for r in cells if r["task"] != "pendulum"]
        for row in [*comparisons(cells, value=value), *means(tabular, value)]:
            judge, _, acquisition = row.pop("setting").partition("/")
            found.append({"of": value, "judge": judge, "acquisition": acquisition} | row)
    write(out, found, "python benchmarks/preference_judges.py run; … networks; … table")


def means(rows: list[dict[str, Any]], value: str) -> list[dict[str, Any]]:
    """The same of the mean over tasks, for seeds that have all of them."""
    values: Any = defaultdict(lambda: defaultdict(dict))
    for r in rows:
        values[r["setting"], r["arm"]][r["seed"]][r["task"]] = float(r[value])
    mean = {
        key: {s: np.mean([*t.values()]) for s, t in seeds.items() if len(t) == len(TASKS)}
        for key, seeds in values.items()
    }
    return [
        {"task": "mean", "setting": s, "arm": arm, **paired(seeds, mean[s, "random"])}
        for (s, arm), seeds in mean.items()
        if seeds and mean.get((s, "random"))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("run", "networks", "table", "language"))
    parser.add_argument("--seeds", default="300-319")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--judges", default=",".join(JUDGES))
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--acquisition", default="random")
    parser.add_argument("--runs", default=RUNS)
    parser.add_argument("--out", default=OUT)
    parser.add_argument("--model", default="random:2,32", help="of the language model that judges")
    options = parser.parse_args()
    if options.what == "language":
        print(language(options.model))
    elif options.what == "table":
        table(read(Path(options.runs)), Path(options.out))
    else:
        simulate(options)


if __name__ == "__main__":
    main()
