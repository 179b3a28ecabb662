"""The harness of neural explorers: what they cover, measured alike for all of them.

The value of a policy is the entropy of the pooled visits of its episodes over the cells of the
features (of a mixture, one network an episode), beside it their entropy by nearest neighbours, and
the mean entropy of single episodes, which is another quantity and smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from rlentropy.entropy.samples import (
    clustered_interval,
    histogram_by_episode,
    nearest_neighbour_across,
    shannon,
)
from rlentropy.exploration.features import Features, Points, features_of
from rlentropy.exploration.rounds import Rounds, Shared, check_memory, horizon_of
from rlentropy.intervals import Estimate
from rlentropy.log import Log, drive
from rlentropy.neural.episodes import Player
from rlentropy.neural.mixtures import Mixture
from rlentropy.types import Env, Mask, Result, State

NEIGHBOURS = 4  # k of knn_entropy
STEPS_APART = 30  # of each episode that it is made of, evenly spaced in time
# Episodes of an evaluation where they are stepped in arrays, elsewhere, and at the end; short ones
# are so many that they have STEPS steps, or twice as many, since entropies of few visits are low.
QUICK, SLOW, FINAL, STEPS = 100, 20, 200, 10_000
SIDE_BY_SIDE = 200  # episodes that are played at once


Settings = TypeVar("Settings", bound=Shared)


class Explorer(Protocol):
    """An agent of `drive` that plays rounds of whole episodes."""

    rounds: Rounds

    @property
    def done(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def stopped(self) -> bool: ...
    def advance(self, units: int) -> Mapping[str, float] | None: ...
    def policy(self, mixture: bool) -> Mixture: ...
    def saved_policy(self) -> dict[str, Any]: ...
    def state_dict(self) -> State: ...
    def load_state_dict(self, state: State) -> None: ...


class Coverage(NamedTuple):
    """Entropies of what some episodes visit, in nats, with 95 % intervals over episodes."""

    # Plug-in, of the pooled visits over cells; its interval is around the value less its bias.
    entropy: Estimate
    knn: Estimate | None  # differential, in the features' own units; None: states have no density
    episode: float  # mean of the entropies of single episodes over cells
    cells: int  # that were visited


def coverage(features: Features, points: Points, visited: Mask, resolution: float) -> Coverage:
    """Entropies of episodes.

    Args:
        points: (n, T, d).
        visited: which of them count, (n, T).
        resolution: shortest distance that is told apart, in units of the ranges.
    """
    # Cells that nobody visited are left out: there may be millions.
    used, cell = np.unique(features.cells(points[visited]), return_inverse=True)
    shape = len(points), len(used)
    place = np.nonzero(visited)[0] * len(used) + cell
    counts = np.bincount(place, minlength=shape[0] * shape[1]).reshape(shape)
    single = shannon(counts / counts.sum(axis=1, keepdims=True))
    pooled = histogram_by_episode(counts)
    ends = np.asarray(pooled.low), np.asarray(pooled.high)
    return Coverage(
        Estimate(np.asarray(pooled.plug_in), *ends),
        None if features.discrete else knn_entropy(features, points, visited, resolution),
        float(single.mean()),
        len(used),
    )


def knn_entropy(
    features: Features, points: Points, visited: Mask, resolution: float
) -> Estimate | None:
    """Differential entropy of pooled visits by nearest neighbours; None of too few.

    Distances are those of the box, whose volume is added: in their own units the one feature that
    has the largest numbers would be the only one. Neighbours are of other episodes, and steps of an
    episode far apart: its own would be near however rarely others come by.
    """
    lengths = visited.sum(axis=1)
    spaced = (np.arange(STEPS_APART) + 0.5) / STEPS_APART * lengths[:, None]
    steps = spaced.astype(np.int64)
    new = np.diff(steps, axis=1, prepend=-1) > 0
    episode, place = np.nonzero(new & (lengths > 0)[:, None])
    x = points[episode, steps[episode, place]]
    if len(x) - np.bincount(episode).max() < NEIGHBOURS:
        return None
    terms = nearest_neighbour_across(x, episode, NEIGHBOURS, resolution)
    return clustered_interval(terms + features.log_volume, episode)


class Scores(NamedTuple):
    """Of what an explorer has found."""

    mixture: Coverage
    last: Coverage  # of the last iterate


class Harness:
    """Plays policies in environments of its own, from the same seeds for the same step."""

    def __init__(
        self, env: Env, features: Features, horizon: int, config: Shared, seed: int
    ) -> None:
        self.features, self.resolution, self.seed = features, config.resolution, seed
        self.player = Player(env, SIDE_BY_SIDE, horizon, config.env_workers)
        few = QUICK if self.player.vector is not None else SLOW
        self.episodes = config.evaluation_episodes or max(few, -(-STEPS // horizon))
        self.final_episodes = config.final_episodes or max(FINAL, -(-2 * STEPS // horizon))
        check_memory("final_episodes", max(self.episodes, self.final_episodes), horizon, env)

    def scores(self, agent: Explorer, episodes: int) -> Scores:
        """Of the mixture and of the last iterate, over so many episodes; 0: as on the way."""
        both = (agent.policy(mixture) for mixture in (True, False))
        return Scores(*(self.score(p, episodes or self.episodes, agent.step) for p in both))

    def score(self, policy: Mixture, episodes: int, step: int) -> Coverage:
        """Of fresh episodes; `step` of training makes their seeds, with ours."""
        rng = np.random.default_rng([self.seed, step])
        played = self.player.play(policy, rng.integers(2**31, size=episodes), rng)
        x = played.observations[:, 1:]
        points = self.features.points(x.reshape(-1, *x.shape[2:])).reshape(*x.shape[:2], -1)
        return coverage(self.features, points, played.real, self.resolution)


def explore(
    env: Env,
    config: Settings,
    make_agent: Callable[[Env, Features, int, Settings, np.random.Generator], Explorer],
    rng: np.random.Generator,
    log: Log,
) -> Result:
    """Let an explorer spend its budget; its mixture and its last iterate are scored on the way.

    Args:
        make_agent: called with the environment, its features, the steps of an episode, the config
            and a generator of its own.

    Raises:
        InputError: an option doesn't suit the environment.
    """
    horizon = horizon_of(env, config.horizon)
    features = features_of(env, config.features, config.bins, config.ranges)
    agent_rng, evaluation_rng = rng.spawn(2)
    agent = make_agent(env, features, horizon, config, agent_rng)
    rounds = agent.rounds
    harness = Harness(env, features, horizon, config, int(evaluation_rng.integers(2**63)))
    size = rounds.size * rounds.horizon

    def evaluate() -> tuple[dict[str, float], Scores]:
        """What is logged, and the scores: of the final policies those of the summary."""
        over = agent.done >= config.steps
        shown = found = harness.scores(agent, harness.final_episodes if over else 0)
        if over and log.evaluation_due(agent.done - size, agent.done):  # as on the way
            shown = harness.scores(agent, 0)
        return tags_of(shown, rounds), found

    found = drive(agent, log, evaluate, total=config.steps, budget="steps", last_differs=True)
    rounds.close()
    harness.player.close()
    summary = summary_of(found, features) | {
        "env_steps": rounds.env_steps,
        "episodes": rounds.episodes,
        "steps": config.steps,
        "horizon": rounds.horizon,
        "visit_entropy": float(shannon(rounds.counts / rounds.counts.sum())),
        "evaluation_episodes": harness.final_episodes,
    }
    return Result(summary, network=agent.saved_policy(), film=rounds.film())


def tags_of(scores: Scores, rounds: Rounds) -> dict[str, float]:
    """The eval/* tags; docs/tags.md defines each."""
    tags = {
        "eval/mixture_entropy": float(scores.mixture.entropy.value),
        "eval/last_iterate_entropy": float(scores.last.entropy.value),
        "eval/episode_entropy": scores.mixture.episode,
        "eval/cells_visited": float(np.count_nonzero(rounds.counts)),
        "eval/visit_entropy": float(shannon(rounds.counts / rounds.counts.sum())),
    }
    if scores.mixture.knn is not None:
        tags["eval/knn_entropy"] = float(scores.mixture.knn.value)
    return tags


def summary_of(scores: Scores, features: Features) -> dict[str, Any]:
    """Figures of summary.json; docs/tags.md defines each."""
    mixture, last = scores.mixture, scores.last
    knn = None if mixture.knn is None else float(mixture.knn.value)
    return {
        "objective": "AVE_S",
        "value": float(last.entropy.value),
        "value_is_exact": False,
        "mixture_value": float(mixture.entropy.value),
        "mixture_ci95": ends_of(mixture.entropy),
        "last_iterate_value": float(last.entropy.value),
        "last_iterate_ci95": ends_of(last.entropy),
        "knn_entropy": knn,
        "knn_ci95": None if mixture.knn is None else ends_of(mixture.knn),
        "episode_value": mixture.episode,
        "cells_visited": mixture.cells,
        "num_cells": features.num_cells,
        "features": list(features.names),
        "feature_ranges": np.stack([features.low, features.high], axis=1).tolist(),
        "bins": list(features.bins),
    }


def ends_of(estimate: Estimate) -> list[float]:
    return [float(estimate.low), float(estimate.high)]
