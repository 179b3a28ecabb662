"""Policies that act on batches of episodes: those of finished runs, and the uniform one.

A batch has one slot an episode. Row i of every array belongs to slot i, also after the episode in
it has ended (its action is then ignored), so that a slot always gets the same random numbers.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from rlentropy import cli
from rlentropy.checked import Checked
from rlentropy.errors import InputError
from rlentropy.kernels import Array, Count


class Policy(Protocol):
    """Acts in n episodes at once."""

    def begin(self, index: Count, rng: np.random.Generator) -> None:
        """Episodes start in these slots; comes before the first `act`."""

    def act(self, observations: Any, t: Count, rng: np.random.Generator) -> Any:
        """Actions (n, ...) of the action space.

        Args:
            observations: (n, *shape of the space); Discrete: whole numbers, (n,).
            t: steps since the reset of each episode, (n,).
        """


class Tabular:
    """Draws actions from π_t(· | s), t taken modulo H: beyond its horizon a policy starts over.

    Args:
        pi: (H, S, A); H = 1 is a stationary policy.
        first_state, first_action: what the environment calls state and action 0.
    """

    def __init__(self, pi: Array, first_state: int = 0, first_action: int = 0) -> None:
        self.pi = pi
        self.first_state, self.first_action = first_state, first_action
        self._cumulative = running_sums(pi)

    def begin(self, index: Count, rng: np.random.Generator) -> None:
        pass

    def act(self, observations: Any, t: Count, rng: np.random.Generator) -> Count:
        sums = self._cumulative[t % len(self.pi), observations - self.first_state]
        return self.first_action + draw(sums, rng)


class Mixture:
    """Draws one of K policies for each episode, and plays it to the episode's end.

    Args:
        pi: (K, H, S, A).
    """

    def __init__(self, pi: Array, first_state: int = 0, first_action: int = 0) -> None:
        self.pi = pi
        self.first_state, self.first_action = first_state, first_action
        self._cumulative = running_sums(pi)
        self._chosen: Count = np.zeros(0, np.int64)  # of each slot

    def begin(self, index: Count, rng: np.random.Generator) -> None:
        missing = int(index.max(initial=-1)) + 1 - self._chosen.size
        self._chosen = np.append(self._chosen, np.zeros(max(missing, 0), np.int64))
        self._chosen[index] = rng.integers(len(self.pi), size=index.size)

    def act(self, observations: Any, t: Count, rng: np.random.Generator) -> Count:
        stage, s = t % self.pi.shape[1], observations - self.first_state
        return self.first_action + draw(self._cumulative[self._chosen[: t.size], stage, s], rng)


class Uniform:
    """Uniformly random actions."""

    def __init__(self, space: gymnasium.Space[Any]) -> None:
        self.space = copy.deepcopy(space)  # sampling seeds it

    def begin(self, index: Count, rng: np.random.Generator) -> None:
        pass

    def act(self, observations: Any, t: Count, rng: np.random.Generator) -> Any:
        return uniform_actions(self.space, t.size, rng)


def running_sums(pi: Array) -> Array:
    """Running sums over actions; infinite from the last possible one, so rounding can't pass it."""
    sums = np.cumsum(pi, axis=-1)
    later = np.cumsum(pi[..., ::-1], axis=-1)[..., ::-1] - pi  # mass on the actions that follow
    return np.where(later > 0.0, sums, np.inf)


def draw(sums: Array, rng: np.random.Generator) -> Count:
    """An index for each row of running sums, (n, A) -> (n,); one random number a row."""
    index: Count = (sums > rng.random(len(sums))[:, None]).argmax(axis=1)
    return index


def uniform_actions(space: gymnasium.Space[Any], n: int, rng: np.random.Generator) -> Any:
    """n actions: uniform where the space is Discrete or bounded, else by the space's own law."""
    if isinstance(space, Discrete):
        return space.start + rng.integers(space.n, size=n)
    if isinstance(space, Box) and space.is_bounded() and space.dtype.kind == "f":
        actions = rng.uniform(space.low, space.high, (n, *space.shape)).astype(space.dtype)
        return np.clip(actions, space.low, space.high)
    space.seed(int(rng.integers(2**31)))
    return np.stack([space.sample() for _ in range(n)])


def plain(actions: Any, space: gymnasium.Space[Any]) -> Any:
    """Discrete actions as Python integers, whose checks in `step` are the quickest."""
    return np.asarray(actions).tolist() if isinstance(space, Discrete) else actions


def random(env: gymnasium.Env[Any, Any]) -> Policy:
    """Uniformly random actions in an environment's action space."""
    return Uniform(env.action_space)


def play(
    envs: Sequence[gymnasium.Env[Any, Any]],
    policy: Policy,
    seeds: Any,
    horizon: int,
    rng: np.random.Generator,
) -> tuple[Array, Count]:
    """An episode in each of n environments, in step: undiscounted returns and lengths, (n,) each.

    Args:
        envs: not vectorised; the policy's slot i plays in the i-th.
        seeds: of their resets, (n,).
        horizon: steps after which an episode is cut off.
    """
    n, played = len(envs), [Checked(env) for env in envs]
    starts = [env.reset(int(seed)) for env, seed in zip(played, seeds, strict=True)]
    observations = np.stack(starts)
    returns, lengths, over = [0.0] * n, [0] * n, [False] * n
    alive = list(range(n))
    policy.begin(np.arange(n), rng)
    for t in range(horizon):
        actions = plain(policy.act(observations, np.full(n, t), rng), envs[0].action_space)
        for i in alive:
            observations[i], reward, terminated, truncated = played[i].step(actions[i])
            returns[i] += reward
            lengths[i] = t + 1
            over[i] = terminated or truncated
        alive = [i for i in alive if not over[i]]
        if not alive:
            break
    return np.array(returns), np.array(lengths)


def load(run: Path, env: gymnasium.Env[Any, Any], mixture: bool = False) -> Policy:
    """The policy of a finished run: policy.npz, or policy.pt through its command's `load_policy`.

    Args:
        run: run folder.
        env: where it shall act.
        mixture: the mixture of policies that the run played (mixture.npz) instead of its
            projection onto one.

    Raises:
        InputError: the folder holds no finished run or no such policy, or the environment's spaces
            are not those of the policy.
    """
    command = read_summary(run)["command"]
    name = "mixture.npz" if mixture else "policy.npz"
    if (run / name).is_file():
        pi = read_table(run / name, 4 if mixture else 3)
        S, A = pi.shape[-2:]
        starts = (
            check_discrete(env.observation_space, S, "observations", run),
            check_discrete(env.action_space, A, "actions", run),
        )
        return Mixture(pi, *starts) if mixture else Tabular(pi, *starts)
    if mixture or not (run / "policy.pt").is_file():
        wanted = name if mixture else "policy.npz or policy.pt"
        raise InputError(f"run must hold {wanted}, got {run}")

    import torch

    try:
        saved = torch.load(run / "policy.pt", map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds
        raise unreadable(run / "policy.pt", error) from error
    policy: Policy = import_module(cli.COMMANDS[command][0]).load_policy(saved, env)
    return policy


def read_summary(run: Path) -> dict[str, Any]:
    """The summary of a finished run.

    Raises:
        InputError: there is none.
    """
    try:
        summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
        if summary["finished"] and summary["command"] in cli.COMMANDS:
            return summary
        why = f"it is of the command {summary['command']!r}"
    except FileNotFoundError:
        why = "it has no summary.json"
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"its summary.json is not readable: {type(error).__name__}"
    raise InputError(f"run must be the folder of a finished run, got {run} ({why})")


def read_table(path: Path, axes: int) -> Array:
    """The array `pi` of a policy file, with the axis of stages put in where it is stationary."""
    try:
        with np.load(path) as arrays:
            pi = np.asarray(arrays["pi"], np.float64)
    except Exception as error:  # numpy and zipfile raise several kinds
        raise unreadable(path, error) from error
    if pi.ndim == axes - 1:
        pi = np.expand_dims(pi, -3)
    if pi.ndim != axes or not pi.size:
        raise InputError(f"run must hold probabilities (..., S, A) in {path}, got {pi.shape}")
    return pi


def unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"run must hold a readable {path.name}, got {path}: {error}")


def check_discrete(space: gymnasium.Space[Any], n: int, name: str, run: Path) -> int:
    """The first element of a Discrete space of size n."""
    if not (isinstance(space, Discrete) and space.n == n):
        raise InputError(f"env must have Discrete({n}) {name} as in {run}, got {space}")
    return int(space.start)
