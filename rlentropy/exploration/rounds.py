"""Rounds of whole episodes, and what of them counts: shared by all neural explorers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rlentropy.errors import NO_LIMIT, InputError, in_range, whole
from rlentropy.exploration.features import Features, Points
from rlentropy.neural.copies import MOST_WORKERS
from rlentropy.neural.episodes import Player
from rlentropy.neural.mixtures import Mixture
from rlentropy.neural.networks import Rows
from rlentropy.neural.spaces import Actions
from rlentropy.policies import Policy
from rlentropy.types import Array, Count, Env, Film, Mask, State

MOST_BYTES = 2**31  # of the observations of episodes that are in memory together
FRAME_EVERY = 1.3  # steps at a frame of the film, in multiples of those at the one before


@dataclass(frozen=True)
class Shared:
    """Options of every neural explorer."""

    steps: int = 300_000  # budget, in environment steps; whole rounds are played
    # steps an episode, in training and evaluation; default: the environment's limit
    horizon: int | None = None

    # what counts:

    # observation coordinates that count, as 0,1; default: those the environment declares, else all
    features: str = ""
    bins: str = ""  # of each feature, as 12,11: the cells of histograms; default: the features' own
    ranges: str = ""  # of each feature, as LO:HI,LO:HI; default: the features' own

    # rounds and networks:

    episodes: int = 0  # of a round; 0: as many as make 4 000 steps
    # processes that step the environment where it doesn't step in arrays; 0: this one, the faster
    # for quick environments
    env_workers: int = 0
    hidden: tuple[int, ...] = (128, 128)  # widths of the hidden layers
    mixture_size: int = 100  # most networks of the mixture that are kept, drawn evenly
    # of each evaluation on the way, of the mixture and of the last iterate; 0: 100 where the
    # environment steps in arrays (vector_entry_point), else 20; at least 10 000 steps
    evaluation_episodes: int = 0
    final_episodes: int = 0  # of those in the summary; 0: 200, at least 20 000 steps
    resolution: float = 1e-3  # smallest distance that knn_entropy tells apart, share of the ranges

    def __post_init__(self) -> None:
        for name in ("steps", "mixture_size"):
            whole(name, getattr(self, name), 1)
        for name in ("episodes", "evaluation_episodes", "final_episodes"):
            whole(name, getattr(self, name), 0)
        whole("env_workers", self.env_workers, 0, MOST_WORKERS)
        if self.horizon is not None:
            whole("horizon", self.horizon, 1)
        for width in self.hidden:
            whole("hidden", width, 1)
        in_range("resolution", self.resolution, "(0, 1)")


def horizon_of(env: Env, horizon: int | None) -> int:
    """Steps of an episode.

    Raises:
        InputError: neither the option nor the environment says.
    """
    limit = env.spec.max_episode_steps if env.spec else None
    if (T := horizon or limit) is None:
        raise InputError(NO_LIMIT)
    return int(T)


def check_memory(name: str, episodes: int, horizon: int, env: Env) -> None:
    """Refuse episodes whose observations no memory holds.

    Args:
        name: what sets how many there are.

    Raises:
        InputError: they take more than MOST_BYTES.
    """
    space = env.observation_space
    one = np.zeros(space.shape or (), space.dtype).nbytes
    size = episodes * (horizon + 1) * one
    if size > MOST_BYTES:
        raise InputError(
            f"horizon times {name} must be of at most {MOST_BYTES / 2**30:g} GiB of observations, "
            f"got {horizon} times {episodes}, {size / 2**30:.3g} GiB"
        )


class Round(NamedTuple):
    """n episodes of T steps with D decisions each."""

    observations: Rows  # encoded, (n, T + 1, width)
    actions: Actions  # as the head has them, of each decision, (n, D, components)
    points: Points  # features of the observations, (n, T + 1, d)
    lengths: Count  # steps, (n,)
    terminated: Mask  # (n,)

    @property
    def real(self) -> Mask:
        """Which steps were taken, (n, T)."""
        steps: Mask = np.arange(self.points.shape[1] - 1) < self.lengths[:, None]
        return steps

    @property
    def visits(self) -> Points:
        """Points of the states that steps led to, (N, d)."""
        return self.points[:, 1:][self.real]


class Recorder(Policy):
    """A policy that remembers what it decided."""

    def __init__(self, policy: Mixture) -> None:
        self.policy, self.decided = policy, list[Actions]()

    def begin(self, index: Count, rng: np.random.Generator) -> None:
        self.policy.begin(index, rng)

    def act(self, observations: Any, t: Any = 0, rng: np.random.Generator | None = None) -> Any:
        actions = self.policy.act(observations, t, rng)
        if t[0] % self.policy.repeat == 0:
            self.decided.append(self.policy.held[: len(t)].copy())
        return actions


class Rounds:
    """Plays rounds of one policy, each episode from a seed of its own, and counts cells."""

    def __init__(
        self,
        env: Env,
        features: Features,
        horizon: int,
        episodes: int,
        rng: np.random.Generator,
        workers: int = 0,
    ) -> None:
        self.features, self.horizon = features, horizon
        self.size = episodes or max(1, 4000 // horizon)
        check_memory("episodes", self.size, horizon, env)
        self.player = Player(env, self.size, horizon, workers)
        self.seed_rng, self.policy_rng = rng.spawn(2)
        self.counts: Count = np.zeros(features.num_cells, np.int64)  # visits of cells so far
        self.env_steps, self.episodes = 0, 0
        self.frames: list[tuple[int, Count]] = []  # of the film: steps, and visits of its cells

    def play(self, policy: Mixture) -> Round:
        seeds = self.seed_rng.integers(2**31, size=self.size)
        n, D = self.size, -(-self.horizon // policy.repeat)
        parts: list[Any] = []
        actions = np.zeros((n, D, policy.head.num_components), policy.head.dtype)
        for k in range(0, n, self.player.num_envs):
            recorder = Recorder(policy)
            part = seeds[k : k + self.player.num_envs]
            parts.append(self.player.play(recorder, part, self.policy_rng))
            decided = np.stack(recorder.decided, axis=1)
            actions[k : k + len(part), : decided.shape[1]] = decided
        columns = (np.concatenate(column) for column in zip(*parts, strict=True))
        observations, lengths, terminated, _ = columns
        flat = observations.reshape(-1, *observations.shape[2:])
        shape = (n, self.horizon + 1, -1)
        played = Round(
            policy.encode(flat).reshape(shape),
            actions,
            self.features.points(flat).reshape(shape),
            lengths,
            terminated,
        )
        cells = self.features.cells(played.visits)
        self.counts += np.bincount(cells, minlength=len(self.counts))
        self.env_steps += int(lengths.sum())
        self.episodes += n
        if not self.frames or self.env_steps >= FRAME_EVERY * self.frames[-1][0]:
            self.frames.append((self.env_steps, self.features.shown(self.counts)))
        return played

    def film(self) -> Film:
        """Visits in the course of training; the last frame is of now."""
        frames = [frame for frame in self.frames if frame[0] < self.env_steps]
        frames.append((self.env_steps, self.features.shown(self.counts)))
        return Film(self.features.axes[:2], tuple(frames))

    def close(self) -> None:
        self.player.close()

    def state_dict(self) -> State:
        names = ("seed_rng", "policy_rng", "counts", "env_steps", "episodes", "frames")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: State) -> None:
        vars(self).update(state)


def default_repeat(horizon: int) -> int:
    """Steps that an action is held for: about 100 decisions an episode, at most 5 steps."""
    return max(1, min(5, horizon // 100))


Scaling = tuple[Array, Array]
