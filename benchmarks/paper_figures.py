"""The two experiments of "Fast Rates for Maximum Entropy Exploration" (exploration §6.2, §6.3).

    python benchmarks/paper_figures.py double-chain --out results/exploration/paper
    python benchmarks/paper_figures.py grid-world --out results/exploration/paper

Visits per state: during learning for Random, RF-UCRL and EntGame; of the fixed optimal policies for
the oracles MVEE (time-averaged visitation entropy) and MTEE (trajectory entropy); of the final
policy, on as many fresh samples, for UCBVI-Ent. The authors ran the chain with optimistic values
clipped, the grid without; both are run here, as is regularised EntGame. Two processes, one thread
each.
"""

from __future__ import annotations

import argparse
import csv
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import redraw

from rlentropy import planning
from rlentropy.entropy.samples import shannon
from rlentropy.exploration import entgame, reg_entgame, rf_ucrl, ucbvi_ent
from rlentropy.exploration.setting import Setting
from rlentropy.intervals import estimate
from rlentropy.kernels.sampling import rollout

HORIZON = 20


@dataclass(frozen=True)
class Experiment:
    env_id: str
    episodes: int
    runs: int
    published_clip: bool  # of the published configuration


EXPERIMENTS = {
    "double-chain": Experiment("rlentropy/DoubleChain-v0", 5_000, 48, True),
    "grid-world": Experiment("rlentropy/GridWorld-v0", 30_000, 12, False),
}
AGENTS = (
    "Random",
    "MTEE oracle",
    "MVEE oracle",
    "EntGame no bonus",
    "EntGame bonus, clip",
    "EntGame bonus, no clip",
    "reg-EntGame",
    "RF-UCRL clip",
    "RF-UCRL no clip",
    "UCBVI-Ent",
    "UCBVI-Ent no bonus",
)


@cache
def setting(env_id: str) -> Setting:
    return Setting.of(gymnasium.make(env_id), HORIZON, "compiled")


@cache
def oracle(env_id: str, name: str) -> Any:
    mdp = setting(env_id).mdp
    assert mdp is not None
    if name == "MTEE oracle":
        return planning.max_trajectory_entropy(mdp, HORIZON, final_transition=True).pi
    return planning.max_visitation_entropy(mdp, HORIZON, "AVE").pi


def counts_of(pi: Any, s: Setting, episodes: int, rng: np.random.Generator) -> Any:
    """Visits (S, A) of fresh episodes of a fixed policy (H or 1, S, A)."""
    counts = np.zeros((s.num_states, s.num_actions), np.int64)
    states = np.empty((1000, HORIZON + 1), np.int64)
    actions = np.empty((1000, HORIZON), np.int64)
    for _ in range(episodes // 1000):
        rollout(s.world, pi, states, actions, np.empty(1000, np.int64), *rng.spawn(2))
        np.add.at(counts, (states[:, :-1], actions), 1)
    return counts


def visits(name: str, env_id: str, episodes: int, seed: int) -> Any:
    """Visits (S, A) of one run of an agent."""
    s, rng = setting(env_id), np.random.default_rng([1253, seed])
    if name == "Random":
        return counts_of(
            np.full((1, s.num_states, s.num_actions), 1 / s.num_actions), s, episodes, rng
        )
    if "oracle" in name:
        return counts_of(oracle(env_id, name), s, episodes, rng)
    env_rng, learner_rng, fresh_rng = rng.spawn(3)
    options: dict[str, Any] = {"mixture_size": 0}
    learner: Any
    if name.startswith("EntGame"):
        options |= {"objective": "AVE", "clip": name.endswith(", clip")}
        options |= {"bonus": "none" if "no bonus" in name else "code"}
        learner = entgame.EntGame(s, entgame.Config(**options), learner_rng)
    elif name == "reg-EntGame":
        learner = reg_entgame.RegEntGame(s, reg_entgame.Config(mixture_size=0), learner_rng)
    elif name.startswith("RF-UCRL"):
        options |= {"clip": name.endswith(" clip") and "no" not in name}
        learner = rf_ucrl.RewardFree(s, rf_ucrl.Config(**options), learner_rng)
    else:
        variant: Any = "none" if "no bonus" in name else "code"
        config = ucbvi_ent.Config(objective="TE+", variant=variant)
        learner = ucbvi_ent.UCBVIEnt(s, config, learner_rng)
    learner.D = np.zeros((0, 0, 0))  # nobody asks for the mixture's exact occupancy here
    learner.play(episodes, env_rng)
    if name.startswith("UCBVI"):
        return counts_of(learner.policy(), s, episodes, fresh_rng)
    return learner.visits.sum(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--out", type=Path, default=Path("results/exploration/paper"))
    parser.add_argument("--runs", type=int, help="fewer runs than the paper's")
    arguments = parser.parse_args()
    e = EXPERIMENTS[arguments.experiment]
    runs = arguments.runs or e.runs
    jobs = [(name, e.env_id, e.episodes, seed) for name in AGENTS for seed in range(runs)]
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        results = list(pool.map(visits, *zip(*jobs, strict=True), chunksize=2))
    counts = dict(
        zip(AGENTS, np.array(results).reshape(len(AGENTS), runs, *results[0].shape), strict=True)
    )

    arguments.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    bands = {name: estimate(c.sum(-1), "mean", rng) for name, c in counts.items()}
    published = "clip" if e.published_clip else "no clip"
    with open(arguments.out / f"{arguments.experiment}.csv", "w", newline="") as file:
        file.write(f"# python benchmarks/{Path(sys.argv[0]).name} {arguments.experiment}\n")
        file.write(f"# {runs} runs, {e.episodes} episodes; as published: bonus, {published}\n")
        writer = csv.writer(file)
        writer.writerow(["agent", "entropy_of_visits", "low", "high", "states_visited"])
        print(f"{'agent':24} entropy of the visits N(s, a), 95 % interval; states visited")
        for name, c in counts.items():
            flat = c.reshape(runs, -1)
            band = estimate(shannon(flat / flat.sum(1, keepdims=True)), "mean", rng)
            seen = (c.sum(-1) > 0).sum(-1).mean()
            writer.writerow([name, *(f"{x:.5f}" for x in (band.value, band.low, band.high)), seen])
            print(f"{name:24} {band.value:.4f}  [{band.low:.4f}, {band.high:.4f}]  {seen:.1f}")
    with open(arguments.out / f"{arguments.experiment}-visits.csv", "w", newline="") as file:
        writer = csv.writer(file)
        ends = ((" low", "low"), (" high", "high"), ("", "value"))
        parts = {name + end: getattr(bands[name], part) for end, part in ends for name in AGENTS}
        writer.writerow(["state", *parts])
        for state, row in enumerate(np.array(list(parts.values())).T):
            writer.writerow([state, *(f"{x:.1f}" for x in row)])
    redraw.paper(arguments.out, {arguments.experiment: runs})


if __name__ == "__main__":
    main()
