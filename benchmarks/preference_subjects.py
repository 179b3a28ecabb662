"""Tasks and subjects of the preference studies, and ways to get the entropy of a prompt wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
from preference_tasks import UNIFORM, task_of

from rlentropy import FiniteMDP
from rlentropy.preferences.path_entropy import by_prompt
from rlentropy.preferences.table_rewards import TableFeatures
from rlentropy.preferences.table_subject import TableSubject
from rlentropy.preferences.tables import (
    LinearLogits,
    TablePolicy,
    TabularTask,
    noisy_expert,
    state_features,
    steps_of,
)
from rlentropy.preferences.training import Training

SAMPLES = 8  # paths a start state, of sampled entropy scores


@dataclass(frozen=True)
class Setting:
    """How labels are bought and learnt from; an experiment varies some of it."""

    name: str = ""
    oracle: str = "return"
    loss: str = "dpo"
    conservative: float = 1.0
    train: str = "newest"
    restart: bool = False
    rounds: int = 40
    batch: int = 16
    epochs: int = 3
    learning_rate: float = 0.02
    prompts: int = 8  # start states scored for each that an entropy filter keeps
    cut: int = 0  # steps of a segment, where episodes are longer; 0: whole episodes


# ---------------------------------------------------------------- tasks and subjects


@lru_cache(maxsize=64)
def the_task(name: str, seed: int) -> TabularTask:
    """Those of `preference_tasks`; Taxi, 20 steps; lake4, 16 steps on ice that is not slippery."""
    if name == "taxi":
        if seed:
            return the_task(name, 0)
        return TabularTask.of(FiniteMDP.from_env(gymnasium.make("Taxi-v4")), 20)
    if name == "lake4":
        return replace(task_of("lake4", seed), length=16)
    return task_of(name, seed)


@lru_cache(maxsize=8)
def taxi_features(num_states: int) -> Any:
    """RBFs of the taxi's cell for each of its errands, (S, 200).

    Errands are to fetch the passenger from one of four stands, or to take them to one.
    """
    state = np.arange(num_states) % 500
    destination, passenger, column, row = state % 4, state // 4 % 5, state // 20 % 5, state // 100
    errand = np.where(passenger < 4, passenger, 4 + destination)
    cells = np.stack(np.divmod(np.arange(25), 5), 1)
    square = ((np.stack([row, column], 1)[:, None] - cells) ** 2).sum(2)
    phi = np.zeros((num_states, 8, 25))
    phi[np.arange(num_states), errand] = np.exp(-0.5 * square)
    phi[500:] = 0.0  # a state that the table adds
    return phi.reshape(num_states, 200)


class Subject(TableSubject):
    """A table that may be scored over longer episodes than its segments, with odd prompt scores."""

    episodes: TabularTask | None = None
    scored: Callable[[Any, int], Any] | None = None
    keep_duplicates = False

    def prepare(self, episodes: TabularTask, arm: str) -> None:
        self.episodes = episodes
        self.correlations: list[float] = []
        self.scored = ENTROPIES.get(arm)
        self.keep_duplicates = arm == "with-duplicates"
        low = episodes.score(self.original, self.original)[0]
        self.bounds = low, float(episodes.optimum.V[0][episodes.starts].mean())

    def score(self) -> dict[str, float]:
        assert self.episodes is not None
        J, kl = self.episodes.score(self.policy.pi, self.original)
        low, high = self.bounds
        return {"return": J, "kl": kl, "normalised_return": (J - low) / (high - low)}

    def duplicates(self, pairs: Any) -> Any:
        return np.zeros(len(pairs), bool) if self.keep_duplicates else super().duplicates(pairs)

    def prompt_scores(self, prompts: Any, rng: np.random.Generator) -> Any:
        exact = super().prompt_scores(prompts, rng)
        if self.scored is None:
            return exact
        found = self.scored(surprisals(self, prompts, rng), SAMPLES)
        if found.std() > 0.0 and exact.std() > 0.0:
            self.correlations.append(float(np.corrcoef(found, exact)[0, 1]))
        return found


def surprisals(subject: TableSubject, prompts: Any, rng: np.random.Generator) -> Any:
    """-log π of sampled paths, all of the first prompt, then all of the second, (P n,)."""
    paths = subject.task.roll_out(subject.policy.pi, np.repeat(prompts, SAMPLES), rng)
    log_pi = np.log(np.maximum(subject.policy.pi, 1e-300))
    return -steps_of(paths, log_pi.shape[1]).sums(log_pi)


def disjoint(values: Any, n: int) -> Any:
    """Each prompt's mean over its own n samples, (P n,) → (P,): what is right."""
    return by_prompt(values, n).mean(1)


def sliding_window(values: Any, n: int) -> Any:
    """Prompt p gets the mean of [p : p + n], which are samples of prompts near p / n."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    p = np.arange(len(values) // n)
    return (sums[p + n] - sums[p]) / n


def misshaped(values: Any, n: int) -> Any:
    """The list taken for (n, P): prompt p gets every P-th sample, which are of n prompts."""
    return np.asarray(values).reshape(n, -1).mean(0)


def negated(values: Any, n: int) -> Any:
    """The mean log-probability without its minus sign: lowest entropy first."""
    return -disjoint(values, n)


def shuffled(values: Any, n: int) -> Any:
    """Scores without meaning, by the last digits of the samples: random prompts."""
    return np.mod(disjoint(values, n) * 1e6, 1.0)


ENTROPIES: dict[str, Callable[[Any, int], Any]] = {
    "disjoint": disjoint,
    "sliding-window": sliding_window,
    "misshaped": misshaped,
    "negated": negated,
    "random-prompts": shuffled,
}


def subject_of(task_name: str, setting: Setting, arm: str, seed: int) -> Subject:
    episodes = the_task(task_name, seed)
    task = replace(episodes, length=setting.cut) if setting.cut else episodes
    S, A = task.mdp.num_states, task.mdp.num_actions
    rng = np.random.default_rng([seed, 1])
    uniform = np.full((S, A), 1.0 / A)
    reference = uniform if task_name in UNIFORM else noisy_expert(episodes, rng)
    phi = taxi_features(S) if task_name == "taxi" else state_features(task, "rbf")
    features = TableFeatures(phi, task.starts, reference, not setting.oracle.startswith("regret"))
    training = Training(
        loss=setting.loss,
        conservative=setting.conservative,
        train=setting.train,  # type: ignore[arg-type]
        epochs=setting.epochs,
        restart=setting.restart,
    )
    logits = LinearLogits(phi, A, setting.learning_rate)
    subject = Subject(task, TablePolicy(reference, logits), features, training)
    subject.prepare(episodes, arm)
    return subject
