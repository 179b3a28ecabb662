"""Policies that act on batches of episodes: those of finished runs, and the uniform one.

A batch has one slot an episode. Row i of every array belongs to slot i, also after the episode in
it has ended (its action is then ignored), so that a slot always gets the same random numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

from rlentropy.errors import InputError, floats, shown, whole
from rlentropy.types import Array, Count, Env
from rlentropy.wrappers import Checked, uniform_actions

__all__ = ["Mixture", "Policy", "Several", "Tabular", "Uniform", "play", "random"]


def __dir__() -> list[str]:
    """What users want, without what is imported on the way."""
    return [*__all__]


class Policy(Protocol):
    """Acts in n episodes at once."""

    def begin(self, index: Count, rng: np.random.Generator) -> None:
        """Episodes start in these slots; comes before the first `act`."""

    def act(self, observations: Any, t: Any = 0, rng: np.random.Generator | None = None) -> Any:
        """Actions (n, ...) of the action space; of one observation, one action.

        Args:
            observations: (n, *shape of the space), or one of the space's shape; Discrete: whole
                numbers, (n,) or ().
            t: steps since the reset of each episode, (n,) or ().
            rng: default: one of the policy's own, seeded with 0.

        Raises:
            InputError: observations of another shape, that are not finite, or outside a Discrete
                space.
        """

    def act_batch(
        self, observations: Any, t: Any = 0, rng: np.random.Generator | None = None
    ) -> Any:
        """Actions (n, ...) of a batch (n, *shape) of observations, which may hold just one.

        Raises:
            InputError: as of `act`, or for one observation that is no batch.
        """
        shape = getattr(self, "shape", None)
        if shape is None:  # then times say how many there are
            t = np.broadcast_to(t, len(observations))
        elif np.ndim(observations) == len(shape):
            raise InputError(
                f"observations must be a batch, got one of shape {shape}, which is for act"
            )
        return self.act(observations, t, rng)


def one_or_many(act: Callable[[Any, Any, Count, np.random.Generator], Any]) -> Callable[..., Any]:
    """Let an `act` for batches do all that `Policy.act` says; `self.shape` is of observations."""

    @wraps(act)
    def acts(
        self: Any, observations: Any, t: Any = 0, rng: np.random.Generator | None = None
    ) -> Any:
        x, t, single = as_batch(observations, t, self.shape)
        if rng is None:
            rng = vars(self).setdefault("_own_rng", np.random.default_rng(0))
        if not hasattr(rng, "random"):  # a seed
            raise InputError(f"rng must be a numpy.random.Generator, got {shown(rng)}")
        actions = act(self, x, t, rng)
        return actions[0] if single else actions

    return acts


def as_batch(observations: Any, t: Any, shape: tuple[int, ...] | None) -> tuple[Any, Count, bool]:
    """Observations (n, *shape), times (n,), and whether there was but one, of no batch.

    Args:
        shape: of an observation; None: any, and a single time says that it is one.
    """
    try:
        x, times = np.asarray(observations), np.asarray(t)
    except (TypeError, ValueError):
        raise InputError(f"observations must be an array, got {shown(observations)}") from None
    if times.dtype.kind not in "iu" or (times.size and times.min() < 0):
        raise InputError(f"t must be whole numbers >= 0, got {shown(t)}")
    single = times.ndim == 0 if shape is None else x.shape == shape
    x = x[None] if single else x
    if not x.ndim or (shape is not None and x.shape[1:] != shape):
        dicts = isinstance(observations, dict)
        came = "a dict, which gymnasium.spaces.flatten makes flat" if dicts else x.shape
        raise InputError(
            f"observations must be of shape {shape or ()}, or a batch of such, got {came}"
        )
    if shape is not None:
        check_numbers(x)
    try:
        return x, np.broadcast_to(times, len(x)), single
    except ValueError:
        raise InputError(
            f"t must be of shape () or ({len(x)},), as the observations, got {times.shape}"
        ) from None


def check_numbers(x: Any) -> None:
    """Refuse observations that are no real numbers, or not finite."""
    if x.dtype.kind not in "biuf":
        raise InputError(f"observations must be numbers, got {x.dtype}")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        first = np.argwhere(~np.isfinite(x))[0].tolist()
        raise InputError(f"observations must be finite, got {x[tuple(first)]} at index {first}")


class Tabular(Policy):
    """Draws actions from π_t(· | s), t taken modulo H: beyond its horizon a policy starts over.

    Args:
        pi: (H, S, A); H = 1 is a stationary policy.
        first_state, first_action: what the environment calls state and action 0.
    """

    shape: tuple[int, ...] = ()  # of an observation

    def __init__(self, pi: Array, first_state: int = 0, first_action: int = 0) -> None:
        self.pi = probabilities(pi, "H, S, A")
        self.first_state, self.first_action = first_state, first_action
        self._cumulative = running_sums(self.pi)

    def __repr__(self) -> str:
        H, S, A = self.pi.shape
        return f"Tabular({S} states, {A} actions, {'stationary' if H == 1 else f'{H} steps'})"

    def begin(self, index: Count, rng: np.random.Generator) -> None:
        pass

    @one_or_many
    def act(self, observations: Any, t: Count, rng: np.random.Generator) -> Count:
        s = states_of(observations, self.first_state, self.pi.shape[1])
        return self.first_action + draw(self._cumulative[t % len(self.pi), s], rng)


class Mixture(Policy):
    """Draws one of K policies for each episode, and plays it to the episode's end.

    Args:
        pi: (K, H, S, A).
    """

    shape: tuple[int, ...] = ()  # of an observation

    def __init__(self, pi: Array, first_state: int = 0, first_action: int = 0) -> None:
        self.pi = probabilities(pi, "K, H, S, A")
        self.first_state, self.first_action = first_state, first_action
        self._cumulative = running_sums(self.pi)
        self._chosen: Count = np.zeros(0, np.int64)  # of each slot

    def __repr__(self) -> str:
        K, H, S, A = self.pi.shape
        return f"Mixture({K} policies, {S} states, {A} actions, {H} steps)"

    def begin(self, index: Count, rng: np.random.Generator) -> None:
        missing = int(index.max(initial=-1)) + 1 - self._chosen.size
        self._chosen = np.append(self._chosen, np.zeros(max(missing, 0), np.int64))
        self._chosen[index] = rng.integers(len(self.pi), size=index.size)

    @one_or_many
    def act(self, observations: Any, t: Count, rng: np.random.Generator) -> Count:
        if self._chosen.size < t.size:  # slots where no episode was begun
            self.begin(np.arange(self._chosen.size, t.size), rng)
        stage, s = t % self.pi.shape[1], states_of(observations, self.first_state, self.pi.shape[2])
        return self.first_action + draw(self._cumulative[self._chosen[: t.size], stage, s], rng)


class Uniform(Policy):
    """Uniformly random actions.

    Args:
        space: of actions.
        observation_space: by which one observation is told from several; default: by its time.
    """

    def __init__(
        self, space: gymnasium.Space[Any], observation_space: gymnasium.Space[Any] | None = None
    ) -> None:
        self.space = copy.deepcopy(space)  # sampling seeds it
        self.shape: tuple[int, ...] | None = None
        if observation_space is not None:
            self.shape = observation_space.shape

    def __repr__(self) -> str:
        return f"Uniform({self.space})"

    def begin(self, index: Count, rng: np.random.Generator) -> None:
        pass

    @one_or_many
    def act(self, observations: Any, t: Count, rng: np.random.Generator) -> Any:
        return uniform_actions(self.space, t.size, rng)


def probabilities(pi: Any, axes: str) -> Array:
    """A table of a policy, its axes as said."""
    pi = floats("pi", pi)
    if pi.ndim != axes.count(",") + 1 or not pi.size or not (pi >= 0.0).all():
        raise InputError(f"pi must be probabilities ({axes}), got {shown(pi)}")
    return np.asarray(pi)


def states_of(observations: Any, first: int, count: int) -> Count:
    """Observations of a Discrete space as 0..count - 1.

    Raises:
        InputError: some are outside of it.
    """
    if observations.dtype.kind not in "iu":
        raise InputError(f"observations must be whole numbers, got {observations.dtype}")
    s: Count = observations - first
    if s.size and not (0 <= s.min() and s.max() < count):
        raise InputError(
            f"observations must be in {first}..{first + count - 1}, got "
            f"{observations.min()}..{observations.max()}"
        )
    return s


def running_sums(pi: Array) -> Array:
    """Running sums over actions; infinite from the last possible one, so rounding can't pass it."""
    sums = np.cumsum(pi, axis=-1)
    later = np.cumsum(pi[..., ::-1], axis=-1)[..., ::-1] - pi  # mass on the actions that follow
    return np.where(later > 0.0, sums, np.inf)


def draw(sums: Array, rng: np.random.Generator) -> Count:
    """An index for each row of running sums, (n, A) -> (n,); one random number a row."""
    index: Count = (sums > rng.random(len(sums))[:, None]).argmax(axis=1)
    return index


def plain(actions: Any, space: gymnasium.Space[Any]) -> Any:
    """Discrete actions as Python integers, whose checks in `step` are the quickest."""
    return np.asarray(actions).tolist() if isinstance(space, Discrete) else actions


def random(env: gymnasium.Env[Any, Any]) -> Policy:
    """Uniformly random actions in an environment's action space.

    Raises:
        InputError: it has none.
    """
    if not isinstance(getattr(env, "action_space", None), gymnasium.Space):
        raise InputError(f"env must be a gymnasium.Env, got {shown(env)}")
    return Uniform(env.action_space, env.observation_space)


# ---------------------------------------------------------------- environments that are played


Index = Sequence[int]
Step = tuple[Any, float, bool, bool]  # observation, reward, terminated, truncated


class Several(Protocol):
    """Environments alike, numbered from 0, that are played side by side."""

    action_space: gymnasium.Space[Any]

    def __len__(self) -> int: ...
    def reset(self, index: Index, seeds: Index) -> list[Any]:
        """Begin episodes in some of them; their first observations."""

    def step(self, index: Index, actions: Sequence[Any]) -> list[Step]:
        """Step some of them."""

    def replay(self, index: Index, seeds: Index, actions: Sequence[Any]) -> list[Any]:
        """Begin episodes again, and repeat the actions of each; their last observations."""

    def close(self) -> None: ...


class Turns:
    """Environments of this process, which take turns."""

    def __init__(self, envs: Sequence[Env]) -> None:
        self.envs, self.played = envs, [Checked(env) for env in envs]
        self.action_space = envs[0].action_space

    def __len__(self) -> int:
        return len(self.envs)

    def reset(self, index: Index, seeds: Index) -> list[Any]:
        return [self.played[i].reset(int(seed)) for i, seed in zip(index, seeds, strict=True)]

    def step(self, index: Index, actions: Sequence[Any]) -> list[Step]:
        return [self.played[i].step(action) for i, action in zip(index, actions, strict=True)]

    def replay(self, index: Index, seeds: Index, actions: Sequence[Any]) -> list[Any]:
        found = self.reset(index, seeds)
        for k, i in enumerate(index):
            for action in actions[k]:
                found[k] = self.played[i].step(action)[0]
        return found

    def close(self) -> None:
        for env in self.envs:
            env.close()


def side_by_side(envs: Sequence[Env] | Several) -> Several:
    """Environments as they are played together."""
    return Turns(envs) if isinstance(envs, Sequence) else envs


def play(
    envs: Sequence[gymnasium.Env[Any, Any]] | Several,
    policy: Policy,
    seeds: Any,
    horizon: int,
    rng: np.random.Generator,
) -> tuple[Array, Count]:
    """An episode in each of n environments, in step: undiscounted returns and lengths, (n,) each.

    Args:
        envs: not vectorised, at least n; the policy's slot i plays in the i-th.
        seeds: of their resets, (n,).
        horizon: steps after which an episode is cut off.
    """
    whole("horizon", horizon, 1)
    if not (callable(getattr(policy, "act", None)) and callable(getattr(policy, "begin", None))):
        raise InputError(f"policy must be one of rlentropy.policies, got {shown(policy)}")
    if np.ndim(seeds := floats("seeds", seeds).astype(np.int64)) != 1 or not len(seeds):
        raise InputError(f"seeds must be numbers (n,), n >= 1, got {shown(seeds)}")
    if isinstance(envs, Sequence):
        if not all(isinstance(env, gymnasium.Env) for env in envs):
            raise InputError(f"envs must hold gymnasium.Envs, not vectorised, got {shown(envs)}")
        if len(envs) < len(seeds):
            raise InputError(f"envs must be one for each of {len(seeds)} seeds, got {len(envs)}")
    elif isinstance(envs, gymnasium.Env) or not hasattr(envs, "action_space"):
        raise InputError(f"envs must be a list of gymnasium.Env, got {shown(envs)}")
    n, played = len(seeds), side_by_side(envs)
    observations = np.stack(played.reset(range(n), seeds.tolist()))
    returns, lengths, over = [0.0] * n, [0] * n, [False] * n
    alive = list(range(n))
    policy.begin(np.arange(n), rng)
    for t in range(horizon):
        actions = plain(policy.act(observations, np.full(n, t), rng), played.action_space)
        steps = played.step(alive, [actions[i] for i in alive])
        for i, (observation, reward, terminated, truncated) in zip(alive, steps, strict=True):
            observations[i] = observation
            returns[i] += reward
            lengths[i] = t + 1
            over[i] = terminated or truncated
        alive = [i for i in alive if not over[i]]
        if not alive:
            break
    return np.array(returns), np.array(lengths)
