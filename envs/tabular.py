"""A finite MDP as a gymnasium environment: the base class of every finite environment here."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from numpy.typing import NDArray

from rlentropy.mdp import FiniteMDP
from rlentropy.types import Array

if TYPE_CHECKING:
    from rlentropy.envs.picture import Layout

Frame = NDArray[np.uint8]  # (height, width, 3)
STRIP_COLUMNS = 32  # states in one row of a picture
STRIP_CHARACTERS = 64  # states in one line of text


class TabularEnv(gymnasium.Env[np.int64, np.int64]):
    """Draws states from a `FiniteMDP`, which it shows as ``mdp``; subclasses build that model.

    An observation is the state, an action an integer below A. Rewards are the model's: r(s, a), or
    that of the drawn transition where it depends on the successor. ``terminated`` is the model's
    ``terminal``; episodes are truncated by the ``max_episode_steps`` each id is registered with.

    Args:
        mdp: the model.
        action_names: one word an action, (A,); default "0", "1", ….
        render_mode: "ansi" (text), "rgb_array" (frames, uint8 (height, width, 3)) or None.

    Raises:
        ValueError: ``action_names`` has not one name an action, or ``render_mode`` is unknown.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}
    grid_shape: tuple[int, int] | None = (
        None  # (rows, columns) where state = row * columns + column
    )
    state: int | None  # None before the first reset; tests and tools may set it

    def __init__(
        self,
        mdp: FiniteMDP,
        *,
        action_names: tuple[str, ...] | None = None,
        render_mode: str | None = None,
    ) -> None:
        names = tuple(map(str, range(mdp.num_actions))) if action_names is None else action_names
        if len(names) != mdp.num_actions:
            raise ValueError(
                f"action_names must hold one name for each of {mdp.num_actions} actions, "
                f"got {names}"
            )
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(
                f"render_mode must be None, 'ansi' or 'rgb_array', got {render_mode!r}"
            )
        self.mdp = mdp
        self.action_names = names
        self.render_mode = render_mode
        self.observation_space = Discrete(mdp.num_states)
        self.action_space = Discrete(mdp.num_actions)
        possible = np.flatnonzero(mdp.mu)
        self._marked = possible if possible.size < mdp.num_states else possible[:0]
        self.state = None
        self._forget()
        self._canvas: tuple[Layout, Any] | None = None

    def _forget(self) -> None:
        """Start the record of the last step, which only pictures read, anew."""
        self._previous: int | None = None
        self._action: int | None = None
        self._reward: float | None = None
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Draw a state from ``mdp.mu``; there are no options."""
        super().reset(seed=seed)
        self.state = _draw(self.mdp.world.start, self.np_random.random())
        self._forget()
        return np.int64(self.state), {}

    def step(self, action: Any) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Draw a successor and its reward from ``mdp``.

        Raises:
            ValueError: the action is outside the action space.
            gymnasium.error.ResetNeeded: there was no reset yet.
        """
        mdp, world, s = self.mdp, self.mdp.world, self.state
        try:  # action_space.contains would nearly double the time of a step
            a = operator.index(action)
        except TypeError:
            a = -1
        if not 0 <= a < mdp.num_actions:
            raise ValueError(
                f"action must be an integer in 0..{mdp.num_actions - 1}, got {action!r}"
            )
        if s is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        i = s * mdp.num_actions + a
        begin, end = int(world.begin[i]), int(world.end[i])
        j = begin + _draw(world.cumulative[begin:end], self.np_random.random())
        reward = float(mdp.r[s, a] if mdp.r_successor is None else mdp.r_successor[j])
        self.state = int(world.successor[j])
        self._previous, self._action, self._reward = s, a, reward
        self._steps += 1
        return np.int64(self.state), reward, bool(mdp.terminal[self.state]), False, {}

    def place(self, state: int, action: int | None = None) -> None:
        """Be in a state, as if an action had just led there, to draw what was played before.

        Args:
            action: default: none; an episode starts here.
        """
        previous, steps = self.state, self._steps + 1
        self._forget()
        self.state = state
        if action is not None:
            self._previous, self._action, self._steps = previous, action, steps

    # They say "this is a draw from self.mdp and nothing else", which lets a compiled simulator of
    # `mdp` stand in. They sit on the functions, not the class: a subclass that overrides one of
    # them replaces the function, and so loses the promise without having to know of it.
    reset.samples_mdp = True  # type: ignore[attr-defined]
    step.samples_mdp = True  # type: ignore[attr-defined]

    def render(self) -> Any:
        """The present state, the last action and its reward: a string or a frame."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() draws nothing without a render_mode, e.g. 'rgb_array'")
            return None
        if self.state is None:
            raise gymnasium.error.ResetNeeded("call reset() before render()")
        return (self._text if self.render_mode == "ansi" else self._frame)(self.state)

    def _status(self) -> str:
        status = f"step {self._steps}   state {self.state}"
        if self._action is None:
            return status
        status += f"   action {self.action_names[self._action]}"
        return status if self._reward is None else f"{status}   reward {self._reward:.4g}"

    def _text(self, state: int) -> str:
        """One character a state: @ the agent, o a possible start; then a line on the last step."""
        S = self.mdp.num_states
        cells = np.full(S, ".")
        cells[self._marked] = "o"
        cells[state] = "@"
        if self.grid_shape is not None:
            lines = ["".join(line) for line in cells.reshape(self.grid_shape)]
        else:
            begin = max(0, min(state - STRIP_CHARACTERS // 2, S - STRIP_CHARACTERS))
            line = "".join(cells[begin : begin + STRIP_CHARACTERS])
            lines = ["…" * (begin > 0) + line + "…" * (begin + STRIP_CHARACTERS < S)]
        return "\n".join([*lines, self._status()])

    def _layout(self) -> Layout:
        """Where each state is drawn: numbered cells in reading order."""
        from rlentropy.envs.picture import lattice

        return lattice(self.mdp.num_states, min(self.mdp.num_states, STRIP_COLUMNS))

    def _frame(self, state: int) -> Frame:
        from rlentropy.envs.picture import background, frame

        if self._canvas is None:
            layout = self._layout()
            self._canvas = layout, background(layout, self._state_reward(), self._marked)
        picture: Frame = frame(*self._canvas, self._previous, state, self._status())
        return picture

    def _state_reward(self) -> Array:
        """What colours a state, (S,): its mean reward over actions, or that of entering it."""
        mdp, rows = self.mdp, self.mdp.rows
        if mdp.r_successor is None:
            reward: Array = mdp.r.mean(axis=1)
        else:
            entered = np.bincount(rows.successor, rows.p, mdp.num_states)
            gained = np.bincount(rows.successor, rows.p * mdp.r_successor, mdp.num_states)
            reward = gained / np.maximum(entered, np.finfo(float).tiny)
        return reward


def _draw(cumulative: Array, u: float) -> int:
    """The first index whose running sum exceeds u in [0, 1); the last if rounding leaves none."""
    return min(int(cumulative.searchsorted(u, side="right")), cumulative.size - 1)


def check_whole(name: str, value: int, least: int) -> None:
    """Refuse a constructor argument that is not a whole number of at least ``least``."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not (whole and value >= least):
        raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")


def check_probability(name: str, value: float, most: float = 1.0) -> None:
    """Refuse a constructor argument that is not a number in [0, most]."""
    if not (isinstance(value, float | int | np.number) and 0.0 <= value <= most):
        raise ValueError(f"{name} must be a probability in [0, {most:g}], got {value!r}")
