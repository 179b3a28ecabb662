"""Environments whose largest entropy is known, because a script attains the logarithm of its cells.

Importing this registers them with gymnasium. `OPTIMA` has the entropy of each, in nats, and
`SCRIPTS` the way there: actions of all steps, given the observations so far.

- Rooms: two rooms of a box, a door between. A path of equal steps goes through all cells once.
- Drift: a ring on which all drifts to one point; the force suffices to go round at one speed.
- Line: from one end to the other at one speed.
- Bandit, Sine, Cube: one step to f(a); equal spaces between the f(a) of all episodes.
"""

from __future__ import annotations

import math

import gymnasium
import numpy as np
from gymnasium.spaces import Box

import rlentropy  # noqa: F401
from rlentropy.envs.batched import ArrayEnv, BatchedEnv


class Rooms(ArrayEnv):
    """A place in the unit square, from a corner on; the wall at x = 1/2 has a door."""

    feature_names, feature_bins = ("x", "y"), (10, 10)
    feature_ranges = ((0.0, 1.0), (0.0, 1.0))
    observation_space = Box(0.0, 1.0, (2,), np.float32)
    action_space = Box(-1.0, 1.0, (2,), np.float32)
    LARGEST_STEP, DOOR = 0.05, (0.4, 0.6)

    def draw_start(self, rng):
        return rng.uniform(0.025, 0.075, 2).tolist()

    def advance(self, states, actions):
        after = np.clip(states + self.LARGEST_STEP * np.clip(actions, -1.0, 1.0), 0.0, 1.0)
        low, high = self.DOOR
        crosses = (states[:, 0] < 0.5) != (after[:, 0] < 0.5)
        blocked = crosses & ((states[:, 1] < low) | (states[:, 1] > high))
        after[blocked, 0] = states[blocked, 0]
        return after, np.zeros(len(after)), np.zeros(len(after), bool)


class Drift(ArrayEnv):
    """An angle in turns, [0, 1), seen as (cos, sin); it drifts to 0, where episodes start."""

    feature_names, feature_bins = ("turn",), (20,)
    feature_ranges = ((0.0, 1.0),)
    observation_space = Box(-1.0, 1.0, (2,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)
    FORCE, PULL = 0.03, 0.02

    def draw_start(self, rng):
        return (float(rng.uniform(0.0, 0.01)),)

    def advance(self, states, actions):
        push = self.FORCE * np.clip(actions, -1.0, 1.0)
        after = (states + push - self.PULL * np.sin(2.0 * np.pi * states)) % 1.0
        return after, np.zeros(len(after)), np.zeros(len(after), bool)

    def observe(self, states):
        angle = 2.0 * np.pi * states[:, 0]
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)

    def features(self, observations):
        x = np.asarray(observations, np.float64)
        return (np.arctan2(x[:, 1], x[:, 0]) / (2.0 * np.pi) % 1.0)[:, None]


class Line(ArrayEnv):
    """A place in [0, 1], from about 0 on."""

    feature_names, feature_bins = ("x",), (40,)
    feature_ranges = ((0.0, 1.0),)
    observation_space = Box(0.0, 1.0, (1,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)
    LARGEST_STEP = 0.03

    def draw_start(self, rng):
        return (float(rng.uniform(0.0, 0.03)),)

    def advance(self, states, actions):
        after = np.clip(states + self.LARGEST_STEP * np.clip(actions, -1.0, 1.0), 0.0, 1.0)
        return after, np.zeros(len(after)), np.zeros(len(after), bool)


class Bandit(ArrayEnv):
    """One step, from 0 to a."""

    feature_names, feature_bins = ("x",), (20,)
    feature_ranges = ((-1.0, 1.0),)
    observation_space = Box(-1.0, 1.0, (1,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def draw_start(self, rng):
        return (0.0,)

    def advance(self, states, actions):
        after = self.reached(np.clip(np.asarray(actions, np.float64), -1.0, 1.0))
        return after, np.zeros(len(after)), np.zeros(len(after), bool)

    reached, chosen = staticmethod(np.positive), staticmethod(np.positive)  # f and its inverse


class Sine(Bandit):
    """One step, from 0 to sin(πa / 2): uniform actions go to the ends too often."""

    reached = staticmethod(lambda a: np.sin(0.5 * np.pi * a))
    chosen = staticmethod(lambda x: np.arcsin(x) * 2.0 / np.pi)


class Cube(Bandit):
    """One step, from 0 to a³: actions must have two modes."""

    reached = staticmethod(lambda a: a**3)
    chosen = staticmethod(np.cbrt)


class RoomsBatch(BatchedEnv):
    single = Rooms


class DriftBatch(BatchedEnv):
    single = Drift


class LineBatch(BatchedEnv):
    single = Line


class BanditBatch(BatchedEnv):
    single = Bandit


class SineBatch(BatchedEnv):
    single = Sine


class CubeBatch(BatchedEnv):
    single = Cube


HORIZONS = {"Rooms": 300, "Drift": 100, "Line": 200, "Bandit": 1, "Sine": 1, "Cube": 1}
for name, limit in HORIZONS.items():
    gymnasium.register(
        f"probes/{name}-v0",
        entry_point=globals()[name],
        vector_entry_point=globals()[f"{name}Batch"],
        max_episode_steps=limit,
    )


def make(name):
    return gymnasium.make(f"probes/{name}-v0")


OPTIMA = {
    name: math.log(math.prod(globals()[name].feature_bins)) for name in HORIZONS
}  # attained by `script`, as tests/examples' users check


def tour():
    """A path through all cells of the Rooms, (100, 2), of neighbours; column and row of each."""
    left = [(0, row) for row in range(10)]
    for row in (9, 8, 7, 6):
        columns = range(1, 5) if row % 2 else range(4, 0, -1)
        left += [(column, row) for column in columns]
    for column in range(1, 5):
        rows = range(5, -1, -1) if column % 2 else range(6)
        left += [(column, row) for row in rows]
    return np.array(left + [(9 - column, row) for column, row in reversed(left)])


def script(name, start, episode, episodes):
    """The places of an episode that a script goes to, (T, k), from where it starts."""
    T = HORIZONS[name]
    t = np.arange(1, T + 1)
    if name == "Rooms":  # three steps a cell, the second of which ends in its middle
        along = np.clip((t - 2) / 3.0, 0.0, 99.0)
        corners = (tour() + 0.5) / 10.0
        return np.stack([np.interp(along, range(100), corners[:, k]) for k in (0, 1)], axis=1)
    if name == "Drift":
        return (start + t[:, None] / T) % 1.0
    if name == "Line":
        return (t[:, None] - 0.5) / T
    return np.full((1, 1), (2.0 * episode + 1.0) / episodes - 1.0)  # what the only step leads to


def action(name, here, there):
    """What leads from one place to another, (k,)."""
    cls, T = globals()[name], HORIZONS[name]
    if name == "Drift":
        way = (there - here + 0.5) % 1.0 - 0.5
        return (way + cls.PULL * np.sin(2.0 * np.pi * here)) / cls.FORCE
    if T == 1:
        return cls.chosen(there)
    return (there - here) / cls.LARGEST_STEP
