"""Continuous tasks whose segments are played side by side in numpy, for studies of many campaigns.

Each is the twin of a gymnasium environment with deterministic dynamics: the start of a seed is what
resetting that environment with it shows, and from there the same actions lead to the same
observations, rewards and ends. `tests/test_vector_tasks.py` compares them step by step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np

import rlentropy  # noqa: F401  # registers environments
from rlentropy.neural.networks import Rows, forward
from rlentropy.neural.spaces import OBSERVATION_CLIP, NeuralPolicy, standardised
from rlentropy.preferences.neural_rollouts import SharedStarts
from rlentropy.preferences.segments import Segments
from rlentropy.types import Array, Count, Env, Mask

Step = tuple[Array, Array, Mask]  # next states (n, K), rewards (n,), whether they are terminal


class Dynamics(NamedTuple):
    """What `VectorStarts` needs of an environment."""

    state: Callable[[Any], Any]  # of an unwrapped environment after its reset, (K,)
    observe: Callable[[Array], Array]  # states (n, K) to observations
    step: Callable[[Array, Any], Step]  # states and the environment's own actions


# ---------------------------------------------------------------- Pendulum-v1


def pendulum_step(states: Array, actions: Any) -> Step:
    """Angle and speed; the torque is in single precision, as actions are."""
    angle, speed = states.T
    u = np.clip(actions[:, 0], -2.0, 2.0)
    off = (angle + np.pi) % (2.0 * np.pi) - np.pi
    costs = off**2 + 0.1 * speed**2 + 0.001 * u**2
    speed = np.clip(speed + (15.0 * np.sin(angle) + 3.0 * u) * 0.05, -8.0, 8.0)
    return np.stack([angle + speed * 0.05, speed], axis=1), -costs, np.zeros(len(u), bool)


def pendulum_seen(states: Array) -> Array:
    angle, speed = states.T
    return np.stack([np.cos(angle), np.sin(angle), speed], axis=1)


# ---------------------------------------------------------------- MountainCar-v0


def car_step(states: Array, actions: Any) -> Step:
    """Place and speed; -1 a step until the goal."""
    x, v = states.T
    v = np.clip(v + (actions - 1) * 0.001 - np.cos(3.0 * x) * 0.0025, -0.07, 0.07)
    x = np.clip(x + v, -1.2, 0.6)
    v = np.where((x == -1.2) & (v < 0.0), 0.0, v)
    return np.stack([x, v], axis=1), np.full(len(x), -1.0), (x >= 0.5) & (v >= 0.0)


# ---------------------------------------------------------------- by name


def dynamics_of(env: Env) -> Dynamics:
    name, inner = env.spec.id if env.spec else "", env.unwrapped
    if name == "Pendulum-v1":
        return Dynamics(lambda env: env.state, pendulum_seen, pendulum_step)
    if name == "MountainCar-v0":
        return Dynamics(lambda env: env.state, lambda states: states, car_step)
    if name == "rlentropy/PointMaze-v0":
        return Dynamics(lambda env: env.state, lambda states: states, inner.advance)
    raise ValueError(f"env must be Pendulum, MountainCar or PointMaze, got {name}")


# ---------------------------------------------------------------- segments


class VectorStarts(SharedStarts):
    """`SharedStarts` of an environment with a twin: the same segments of the same generators.

    Args:
        options: of resets; a MountainCar takes the bounds of where it starts.
    """

    def __init__(self, env: Env, options: dict[str, Any] | None = None) -> None:
        super().__init__([env])
        self.dynamics, self.options = dynamics_of(env), options
        self.known: dict[int, Any] = {}  # states at the starts of seeds

    def _start(self, seed: int) -> Any:
        if seed not in self.known:
            self.envs[0].reset(seed=seed, options=self.options)
            self.known[seed] = tuple(self.dynamics.state(self.envs[0].unwrapped))
        return self.known[seed]

    def _play(
        self,
        policy: NeuralPolicy,
        starts: Count,
        T: int,
        rng: np.random.Generator,
        temperature: float,
        copied: bool,
    ) -> Segments:
        head, N = policy.head, len(starts)
        noise = head.noise(rng, (T, N)) * np.float32(temperature)
        rng.integers(2**63, size=N)  # streams of dynamics, which draw nothing
        seen = np.zeros((T + 1, N, policy.encode.width), np.float32)
        actions = np.zeros((T, N, head.num_components), head.dtype)
        rewards, lengths, ended = np.zeros((T, N)), np.full(N, T), np.zeros(N, bool)
        states = np.array([self._start(seed) for seed in starts.tolist()])
        seen[0] = self.dynamics.observe(states)
        live: Any = slice(None)
        for t in range(T):
            rows: Rows = seen[t, live]
            x = standardised(rows, *policy.scaling, OBSERVATION_CLIP)
            chosen = head.choose(forward(policy.layers, x, policy.activation), noise[t, live])
            actions[t, live] = chosen
            states, rewards[t, live], over = self.dynamics.step(states, head.to_space(chosen))
            seen[t + 1, live] = self.dynamics.observe(states)
            if over.any():
                index = np.arange(N)[live]
                lengths[index[over]], ended[index[over]] = t + 1, True
                live, states = index[~over], states[~over]
                if not live.size:
                    break
        order = (1, 0, 2)
        return Segments(
            np.ascontiguousarray(seen.transpose(order)),
            np.ascontiguousarray(actions.transpose(order)),
            np.ascontiguousarray(rewards.T),
            lengths,
            ended,
            np.asarray(starts, np.int64),
        )


def vector_starts(name: str, options: dict[str, Any] | None = None) -> VectorStarts:
    return VectorStarts(gymnasium.make(name, disable_env_checker=True), options)
