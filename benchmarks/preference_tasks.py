"""Tasks and learners of the study of acquisition rules: 39 cells of regime x task.

Built as docs/results/preferences.md describes, on the package's own campaign. A cell is a task, a
way to learn and a teacher; a run is a cell, a rule and a seed; its score is the area under the
curve of normalised return, the mean over the rounds.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np

import rlentropy  # noqa: F401  # registers environments
from rlentropy import FiniteMDP
from rlentropy.envs.stakes_grid import StakesGridEnv
from rlentropy.preferences.campaign import Campaign, Plan
from rlentropy.preferences.oracles import Teacher, parse_oracle
from rlentropy.preferences.store import Store
from rlentropy.preferences.table_rewards import TableFeatures
from rlentropy.preferences.table_subject import TableSubject
from rlentropy.preferences.tables import (
    LinearLogits,
    TablePolicy,
    TabularTask,
    noisy_expert,
    state_features,
)
from rlentropy.preferences.teaching import SimulatedTeacher
from rlentropy.preferences.training import Training

WORST = -10.0  # a step's reward in CliffWalking, where falls are clipped
UNIFORM = ("grid", "grid2", "wind")  # tasks whose reference is uniform, as there is no goal
LENGTHS = {"lake8": 16, "cliff": 12, "grid": 12, "lake4": 8, "grid2": 12}
LENGTHS |= {"slip4": 16, "slip8": 32, "wind": 12, "cliffslip": 12}


@dataclass(frozen=True)
class Cell:
    """A regime on a task."""

    task: str
    oracle: str = "return"
    train: str = "newest"
    learning_rate: float = 0.02
    neural: bool = False
    restart: bool = False
    rounds: int = 40
    epochs: int = 3
    expertise: float = 0.7  # weight of the optimal advantage in the reference's logits

    @property
    def name(self) -> str:
        parts = [self.task, self.oracle, self.train]
        parts += [f"lr{self.learning_rate}"] * (self.learning_rate != 0.02)
        parts += ["neural"] * self.neural + ["restart"] * self.restart
        parts += [f"expertise{self.expertise}"] * (self.expertise != 0.7)
        return "/".join(parts)


def cells() -> list[Cell]:
    """The 39 cells, in the order of the table."""
    sparse, slippery = ("lake8", "cliff", "grid"), ("slip4", "slip8", "wind")
    regimes: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        (sparse, {}),
        (sparse, {"train": "all"}),
        (slippery, {}),
        (slippery, {"oracle": "regret"}),
        (slippery, {"train": "all"}),
        (sparse, {"oracle": "bradley-terry:1std"}),
        (sparse, {"oracle": "bradley-terry:1std", "train": "all"}),
        (sparse, {"oracle": "bradley-terry:4std"}),
        (sparse, {"oracle": "bradley-terry:4std", "train": "all"}),
        (sparse, {"learning_rate": 0.08}),
        (sparse, {"neural": True, "learning_rate": 0.005}),
        (sparse, {"train": "all", "restart": True, "rounds": 12, "epochs": 60}),
        (("lake4", "grid2", "cliffslip"), {}),
    ]
    return [Cell(task, **regime) for tasks, regime in regimes for task in tasks]


def controls() -> list[Cell]:
    """Cells whose reference knows nothing of the reward, and whose reference is against it."""
    regimes: list[dict[str, Any]] = [{}, {"train": "all"}]
    regimes += [{"oracle": f"bradley-terry:{n}std"} for n in (1, 4)]
    return [
        Cell(task, expertise=expertise, **regime)
        for expertise in (0.0, -0.7)
        for regime in regimes
        for task in ("lake8", "cliff")
    ]


@lru_cache(maxsize=64)
def task_of(name: str, seed: int) -> TabularTask:
    """A task; grids have new rewards each seed, the others are fixed maps."""
    if name in UNIFORM:
        stakes = 1.0 if name == "grid2" else 15.0
        wind = 0.4 if name == "wind" else 0.0
        env = StakesGridEnv(stakes=stakes, wind=wind, map_seed=seed)
        return TabularTask.of(env.mdp, LENGTHS[name], env.grid_shape)
    if seed:
        return task_of(name, 0)
    if name.startswith("cliff"):
        env = gymnasium.make("CliffWalking-v1", is_slippery=name == "cliffslip")
        return TabularTask.of(clipped(FiniteMDP.from_env(env)), LENGTHS[name], (4, 12))
    size = int(name[-1])
    kwargs = {"map_name": f"{size}x{size}", "is_slippery": name.startswith("slip")}
    mdp = FiniteMDP.from_env(gymnasium.make("FrozenLake-v1", **kwargs))
    return TabularTask.of(mdp, LENGTHS[name], (size, size))


def clipped(mdp: FiniteMDP) -> FiniteMDP:
    """The MDP with rewards of at least WORST."""
    r = np.maximum(mdp.r, WORST)
    if mdp.r_successor is not None:
        r = mdp.P.copy()
        r.data = np.maximum(mdp.r_successor, WORST)
    return FiniteMDP(mdp.P, r, mdp.mu, terminal=mdp.terminal)


def subject_of(cell: Cell, seed: int) -> TableSubject:
    """The policy to align, at its reference."""
    task = task_of(cell.task, seed)
    S, A = task.mdp.num_states, task.mdp.num_actions
    rng = np.random.default_rng([seed, 1])
    uniform = np.full((S, A), 1.0 / A)
    expert = noisy_expert(task, rng, cell.expertise)
    reference = uniform if cell.task in UNIFORM else expert
    phi = state_features(task, "rbf")
    logits: Any = LinearLogits(phi, A, cell.learning_rate)
    if cell.neural:
        from rlentropy.preferences.network_logits import NetworkLogits

        logits = NetworkLogits(state_features(task, "cells"), A, cell.learning_rate, rng)
        phi = logits.features
    entered = not cell.oracle.startswith("regret")
    features = TableFeatures(phi, task.starts, reference, entered)
    training = Training(
        train=cell.train,
        epochs=cell.epochs,
        restart=cell.restart,  # type: ignore[arg-type]
    )
    return TableSubject(task, TablePolicy(reference, logits), features, training)


def campaign_of(cell: Cell, acquisition: str, seed: int, **plan: Any) -> Campaign:
    """A campaign in memory; arms of one seed meet the same starts and the same noise."""
    subject = subject_of(cell, seed)
    settings = Plan(labels=16 * cell.rounds, acquisition=acquisition)
    teach = teacher(cell.oracle, subject.task, subject.original, seed)
    rng = np.random.default_rng([seed, 0])
    return Campaign(subject, dataclasses.replace(settings, **plan), teach, Store(None), rng)


def teacher(oracle: str, task: TabularTask, reference: Any, seed: int) -> SimulatedTeacher:
    """Answers to pairs, by the environment's own rewards."""
    rng = np.random.default_rng([seed, 2])
    sample = task.roll_out(reference, task.prompts(4000, rng), rng)
    spec = parse_oracle(oracle)
    assert isinstance(spec, Teacher)
    plan = task.beyond if spec.judged == "bootstrapped-return" else task.optimum
    return SimulatedTeacher(spec, sample, plan, seed)


def run(cell: Cell, acquisition: str, seed: int, **plan: Any) -> dict[str, float]:
    """Area under the curve, and how the run ended."""
    campaign = campaign_of(cell, acquisition, seed, **plan)
    while campaign.labels < campaign.plan.labels:
        campaign.advance(1)
    curve = [point["normalised_return"] for point in campaign.curve[1:]]
    last = campaign.curve[-1]
    return {"auc": float(np.mean(curve)), "final": curve[-1], "kl": last["kl"]}
