"""Continuous environments whose dynamics are functions of arrays: one, or many side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rlentropy.envs.raster import Frame
from rlentropy.errors import InputError, one_of, whole
from rlentropy.types import Array, Mask

Vector = NDArray[np.float32]
Step = tuple[Array, Array, Mask]  # next states (n, k), rewards (n,), whether they end it (n,)


class ArrayEnv(gymnasium.Env[Vector, Any]):
    """An environment without noise whose state is a row of k numbers.

    A subclass sets the spaces and the features, and says where an episode starts (`draw_start`),
    how it goes on (`advance`), and what of it is seen (`observe`).

    Args:
        render_mode: "ansi" (text), "rgb_array" (frames, uint8 (height, width, 3)) or None.

    Raises:
        InputError: ``render_mode`` is unknown.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 15}
    feature_names: tuple[str, ...]  # (d,)
    feature_ranges: tuple[tuple[float, float], ...]  # of each feature, in its own unit
    feature_bins: tuple[int, ...]  # of the histogram whose entropy is reported
    state: Array  # (k,); tests and tools may set it

    def __init__(self, render_mode: str | None = None) -> None:
        if render_mode is not None:
            one_of("render_mode", render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode

    def draw_start(self, rng: np.random.Generator) -> Sequence[float]:
        """The state (k,) in which an episode starts."""
        raise NotImplementedError

    def advance(self, states: Array, actions: NDArray[Any]) -> Step:
        """One step from each of n states (n, k), by as many actions of the action space."""
        raise NotImplementedError

    def observe(self, states: Array) -> Vector:
        """What is seen of states (n, k); here, all of it."""
        return states.astype(np.float32)

    def features(self, observations: NDArray[Any]) -> Array:
        """Of observations (n, ...), in their own units (n, d); here, they are the features."""
        return np.asarray(observations, np.float64)

    def text(self, state: Array) -> str:
        """A state (k,) in characters."""
        raise NotImplementedError

    def picture(self, state: Array) -> Frame:
        """A state (k,) as a frame."""
        raise NotImplementedError

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Vector, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = np.array(self.draw_start(self.np_random), np.float64)
        return self.observe(self.state[None])[0], {}

    def step(self, action: Any) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        states, rewards, ended = self.advance(self.state[None], np.asarray(action)[None])
        self.state = states[0]
        return self.observe(states)[0], float(rewards[0]), bool(ended[0]), False, {}

    def render(self) -> Frame | str | None:
        """Lines of text, or a picture (height, width, 3)."""
        return None if self.render_mode is None else self.drawn(self.state)

    def drawn(self, state: Array) -> Frame | str:
        """A state (k,) as the render mode wants it."""
        return self.text(state) if self.render_mode == "ansi" else self.picture(state)


class BatchedEnv(VectorEnv[Vector, Any, NDArray[Any]]):
    """N slots of an `ArrayEnv`, stepped at once; ``gymnasium.make_vec`` makes them.

    Slot i, reset with the seed of a single environment, starts as that one does and shows the same
    observations, rewards and ends for the same actions. A slot never resets itself: one whose
    episode is over may be stepped on, and still says what it would say.

    Args:
        num_envs: N, at least 1.
        max_episode_steps: steps after which an episode is truncated, at least 1; None for never.
            `make_vec` passes the limit of the registered id.
        kwargs: of the single environment.

    Raises:
        InputError: a count is no whole number >= 1.
    """

    single: type[ArrayEnv]
    metadata = {**ArrayEnv.metadata, "autoreset_mode": AutoresetMode.DISABLED}

    def __init__(
        self, num_envs: int = 1, max_episode_steps: int | None = None, **kwargs: Any
    ) -> None:
        whole("num_envs", num_envs, 1)
        if max_episode_steps is not None:
            whole("max_episode_steps", max_episode_steps, 1)
        self.env = self.single(**kwargs)
        self.num_envs, self.render_mode = num_envs, self.env.render_mode
        self.single_observation_space = self.env.observation_space
        self.single_action_space = self.env.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.limit = np.inf if max_episode_steps is None else max_episode_steps
        self.states: Array | None = None  # (N, k)
        self.steps = np.zeros(num_envs, np.int64)  # of each slot's episode
        self._generators: list[np.random.Generator | None] = [None] * num_envs

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Vector, dict[str, Any]]:
        """Start an episode in each slot.

        Args:
            seed: of each slot, (N,); or that of the first, whose followers take the next numbers.
                A slot without one goes on with its generator.
            options: "reset_mask", (N,), says which slots to reset, and leaves the others.

        Raises:
            InputError: there is not one seed, or entry of the mask, a slot.
            ResetNeeded: of gymnasium: slots are left that were never reset.
        """
        N = self.num_envs
        if seed is None or isinstance(seed, int | np.integer):
            seed = [None] * N if seed is None else [int(seed) + i for i in range(N)]
        mask = np.asarray((options or {}).get("reset_mask", np.ones(N, bool)), bool)
        if len(seed) != N or mask.shape != (N,):
            raise InputError(
                f"seed and reset_mask must have {N} entries, got {len(seed)} and {mask.size}"
            )
        states = self._states if not mask.all() else [None] * N
        self.states = np.array(
            [self._start(i, seed[i]) if mask[i] else states[i] for i in range(N)], np.float64
        )
        self.steps = np.where(mask, 0, self.steps)
        return self.env.observe(self.states), {}

    def _start(self, slot: int, seed: int | None) -> Sequence[float]:
        rng = self._generators[slot]
        if seed is not None or rng is None:
            rng, _ = seeding.np_random(None if seed is None else int(seed))
            self._generators[slot] = rng
        return self.env.draw_start(rng)

    @property
    def _states(self) -> Array:
        if self.states is None:
            raise ResetNeeded("Cannot step, render or keep slots before they are reset")
        return self.states

    def step(
        self, actions: Any
    ) -> tuple[Vector, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """One step in each slot, by actions (N, ...).

        Raises:
            InputError: there is not one action a slot.
            ResetNeeded: of gymnasium: before the first reset.
        """
        actions = np.asarray(actions)
        if actions.shape != self.action_space.shape:
            raise InputError(f"actions must be {self.action_space.shape}, got {actions.shape}")
        self.states, rewards, ended = self.env.advance(self._states, actions)
        self.steps += 1
        return self.env.observe(self.states), rewards, ended, self.steps >= self.limit, {}

    def render(self) -> tuple[Any, ...] | None:
        """A picture, or a text, of each slot."""
        if self.render_mode is None:
            return None
        return tuple(map(self.env.drawn, self._states))
