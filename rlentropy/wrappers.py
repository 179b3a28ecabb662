"""What an environment's `reset` and `step` return, checked at every door where one is played.

The number of values, a finite reward, flags that are booleans, an observation of the space's shape
and kind. The bounds of a Box are not enforced: many environments leave the ones they declare.
Errors that the environment's own code raises pass through.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from contextlib import suppress
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from rlentropy.errors import LISTED, InputError, did_you_mean
from rlentropy.types import Env

Frame = NDArray[np.uint8]  # a picture, (height, width, 3)

RESET, STEP = ("observation", "info"), ("observation", "reward", "terminated", "truncated", "info")
# Where what was returned is taken apart before it comes here; errors from there are about that.
BETWEEN = (
    "gymnasium.core",
    "gymnasium.wrappers.",
    "gymnasium.utils.passive_env_checker",
    __name__,
)


class Checked:
    """An environment that is played; observations come in the space's dtype, Discrete as int."""

    def __init__(self, env: Env) -> None:
        self.env, self.space, self.t = env, env.observation_space, 0
        self.states: range | None = None
        if isinstance(self.space, Discrete):
            self.states = range(int(self.space.start), int(self.space.start + self.space.n))
        # Of a short vector of floats; None elsewhere, where checks are slower.
        self.shape: tuple[int, ...] | None = None
        if isinstance(space := self.space, Box) and space.dtype.kind == "f":
            self.shape = space.shape if len(space.shape) == 1 and space.shape[0] <= 64 else None
        self.dtype = self.space.dtype

    def reset(self, seed: int) -> Any:
        """Begin an episode; its first observation."""
        self.t = 0
        try:
            result = self.env.reset(seed=seed)
        except Exception as error:
            self._blame(error, "reset", "seed and options", RESET)
            raise
        observation, _ = self._values(result, "reset", RESET)
        return self._observation(observation)

    def step(self, action: Any) -> tuple[Any, float, bool, bool]:
        """Observation, reward, terminated, truncated."""
        self.t += 1
        try:
            result = self.env.step(action)
        except Exception as error:
            self._blame(error, "step", "an action", STEP)
            raise
        if type(result) is tuple and len(result) == 5:
            x, reward, terminated, truncated, _ = result
            if (
                type(x) is np.ndarray
                and x.dtype is self.dtype
                and x.shape == self.shape
                and type(reward) is float
                and type(terminated) is bool
                and type(truncated) is bool
                and math.isfinite(reward + sum(x.tolist()))
            ):  # all as it should be, in a third of a microsecond
                return x, reward, terminated, truncated
        x, reward, terminated, truncated, _ = self._values(result, "step", STEP)
        flags = self._flag("terminated", terminated), self._flag("truncated", truncated)
        return self._observation(x), self._number(reward), *flags

    def _values(self, result: Any, method: str, names: tuple[str, ...]) -> Any:
        several = isinstance(result, tuple | list)
        if not (several and len(result) == len(names)):
            came = f"{len(result)} values" if several else described(result)
            self._refuse(method, f"return {len(names)} values ({', '.join(names)})", came)
        return result

    def _number(self, reward: Any) -> float:
        if type(reward) is float and math.isfinite(reward):
            return reward
        value = single(reward)
        if not isinstance(value, Real):
            self._refuse("reward", "be a number", described(reward))
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self._refuse("reward", "be finite", described(value))
        return number

    def _flag(self, name: str, flag: Any) -> bool:
        if type(flag) is bool:
            return flag
        value = single(flag)
        if not (isinstance(value, int) and value in (0, 1)):
            self._refuse(name, "be a boolean", described(flag))
        return bool(value)

    def _observation(self, x: Any) -> Any:
        if self.states is not None:
            return x if type(x) is int and x in self.states else self._state(x)
        if isinstance(self.space, Box | MultiBinary | MultiDiscrete):
            return self._array(x)
        with suppress(Exception):  # what spaces raise of things they weren't made for
            if self.space.contains(x):
                return x
        self._refuse("observation", f"be in {self._named_space}", described(x))

    def _state(self, x: Any) -> int:
        """An observation of a Discrete space, which may be any whole number of its own."""
        assert self.states is not None
        value: Any = single(x)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not (isinstance(value, int) and value in self.states):
            must = f"be one of {self.states[0]}..{self.states[-1]}"
            self._refuse("observation", must, described(x))
        return value

    def _array(self, x: Any) -> Any:
        """An observation as an array of the space's dtype."""
        try:
            given = np.asarray(None if np.ma.is_masked(x) else x)
        except Exception:  # ragged lists, and what other libraries raise
            given = np.asarray(None)
        if given.dtype.kind not in "biuf":
            self._refuse("observation", f"be numbers of {self._named_space}", described(x))
        if given.shape != self.space.shape:
            self._refuse("observation", f"have shape {self.space.shape}", described(given))
        with np.errstate(all="ignore"):
            array = given.astype(self.space.dtype, copy=False)
        is_float = array.dtype.kind == "f"
        wrong = ~np.isfinite(array) if is_float else array != given
        if wrong.any():
            first = np.argwhere(wrong)[0].tolist()
            must = "be finite" if is_float else f"be whole numbers of {self.space.dtype}"
            came = f"{given[tuple(first)].item()!r} at index {first if first else ()}"
            self._refuse("observation", must, came)
        if not isinstance(self.space, Box) and not self.space.contains(array):
            self._refuse("observation", f"be in {self._named_space}", described(given.tolist()))
        return array

    def _blame(self, error: Exception, method: str, takes: str, names: tuple[str, ...]) -> None:
        """Say it is the input where gymnasium's wrappers could not take apart what came back."""
        trace: TracebackType | None = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = trace.tb_frame.f_globals.get("__name__", "") if trace is not None else ""
        known = isinstance(error, TypeError | ValueError | AssertionError)
        if where.startswith(BETWEEN) and (known or type(error) is gymnasium.error.Error):
            must = f"take {takes} and return {len(names)} values ({', '.join(names)})"
            self._refuse(method, must, f"{type(error).__name__}: {error}")

    def _refuse(self, part: str, must: str, came: str) -> NoReturn:
        when = f"at step {self.t} of an episode" if self.t else "at reset"
        name = self.env.spec.id if self.env.spec else type(self.env.unwrapped).__name__
        raise InputError(f"{part} must {must}, got {came} {when} in {name}")

    @property
    def _named_space(self) -> str:
        text = str(self.space)
        return text if len(text) <= 60 else f"{text[:56]} …"


def single(value: Any) -> Any:
    """The one element of an array or of a numpy scalar as a Python object; else as it is."""
    if isinstance(value, int | float):
        return value
    with suppress(Exception):  # what any object may raise that merely looks like an array
        if math.prod(value.shape) == 1 and not np.ma.is_masked(value):
            return value.item()
    return value


def described(value: Any) -> str:
    """What came, in a few words."""
    shape = getattr(value, "shape", ())
    if isinstance(shape, tuple) and shape:
        return f"an array of shape {tuple(shape)}"
    try:
        text = repr(single(value))
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:56]} …"


def make_env(env_id: str, env_kwargs: str, unlimited: bool) -> Env:
    """Make an environment; unlimited drops its time limit, since the horizon takes its place.

    `max_episode_steps` among the keyword arguments is that of `gymnasium.make`. So that nothing is
    said twice, gymnasium's own checker is left out: `Checked` does its work. Dict and Tuple
    observations are flattened into one Box.
    """
    try:
        kwargs = json.loads(env_kwargs)
        if not isinstance(kwargs, dict):
            raise ValueError("no object")
    except (ValueError, RecursionError):
        raise InputError(f"env_kwargs must be a JSON object, got {env_kwargs!r}") from None
    limit = kwargs.pop("max_episode_steps", None)
    if limit is not None and (type(limit) is not int or (limit < 1 and limit != -1)):
        raise InputError(
            "env_kwargs must have max_episode_steps >= 1, or -1 for no limit, as a whole number, "
            f"got {limit!r}"
        )
    limit = -1 if unlimited else limit
    module, colon, name = env_id.partition(":")
    if colon and (":" in name or not (name and all(map(str.isidentifier, module.split("."))))):
        raise InputError(f"env_id must be an id, or MODULE:ID, got {env_id!r}")
    if colon and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        env = gymnasium.make(env_id, limit, **{"disable_env_checker": True} | kwargs)
    except (gymnasium.error.Error, ImportError) as error:
        hint = did_you_mean(env_id, gymnasium.registry)
        raise InputError(
            f"env_id must name a gymnasium environment, got {env_id!r}: {error}{hint}; {LISTED}"
        ) from None
    except Exception as error:  # whatever a constructor makes of arguments that it wasn't made for
        if not kwargs:
            raise
        what = f"{type(error).__name__}: {error}"
        raise InputError(f"env_kwargs must suit {env_id}, got {env_kwargs}: {what}") from error
    for name in ("observation_space", "action_space"):
        if not isinstance(space := getattr(env, name, None), gymnasium.Space):
            raise InputError(f"env must have a gymnasium space as its {name}, got {space!r}")
    if isinstance(env.observation_space, Dict | Tuple) and _flattens(env.observation_space):
        return gymnasium.wrappers.FlattenObservation(env)
    return env


def _flattens(space: gymnasium.Space[Any]) -> bool:
    """Whether a space is made of such as are numbers, to be laid side by side."""
    if isinstance(space, Dict):
        return bool(space.spaces) and all(map(_flattens, space.spaces.values()))
    if isinstance(space, Tuple):
        return bool(space.spaces) and all(map(_flattens, space.spaces))
    return isinstance(space, Box | Discrete | MultiBinary | MultiDiscrete)


def headless() -> None:
    """Let environments draw without a display; before pygame and mujoco are loaded."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # which it prints
    if not os.environ.get("DISPLAY"):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        if sys.platform == "linux":
            os.environ.setdefault("MUJOCO_GL", "egl")


def make_with_pictures(env_id: str, env_kwargs: str, unlimited: bool) -> Env:
    """The same environment, made to draw itself.

    Raises:
        InputError: it can't be made, or doesn't draw.
    """
    headless()
    env = make_env(env_id, env_kwargs, unlimited)
    modes = (env.metadata or {}).get("render_modes") or []
    env.close()
    if "rgb_array" not in modes:
        known = ", ".join(map(str, modes)) or "nothing"
        raise InputError(
            f"env_id must name an environment that renders rgb_array, got {env_id}, which renders "
            f"{known}"
        )
    kwargs = json.loads(env_kwargs) | {"render_mode": "rgb_array"}
    return make_env(env_id, json.dumps(kwargs), unlimited)


def picture(env: Env) -> Frame:
    """What an environment draws of the state that it is in.

    Raises:
        InputError: a library for it is missing, or it draws anything else.
    """
    try:
        frame: Any = env.render()
    except gymnasium.error.DependencyNotInstalled as error:
        raise InputError(f"env_id must name one that can be drawn here, got {error}") from None
    kind = getattr(frame, "dtype", None)
    if kind != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise InputError(
            "the environment's pictures must be (height, width, 3) of uint8, got "
            f"{described(frame)}{f' of {kind}' if kind else ''}"
        )
    return np.ascontiguousarray(frame)


def names_a_file(env_kwargs: str) -> bool:
    """Whether a text in a JSON object could be a path, or a module."""
    with suppress(ValueError, RecursionError):  # then it makes no environment either
        left = [json.loads(env_kwargs)]
        while left:
            value = left.pop()
            if isinstance(value, str) and re.search(r"[/\\:.]", value):
                return True
            left += value.values() if isinstance(value, dict) else ()
            left += value if isinstance(value, list) else ()
    return False


def trusted(name: str, value: Any, folder: Path) -> str:
    """What a folder says of its environment or judge, unless that could run code or open a file.

    Raises:
        InputError: env_id or judge names a module, or env_kwargs a path; they must then be typed.
    """
    option = f"--{name.replace('_', '-')}"
    if not isinstance(value, str):
        raise InputError(f"{name} must be text in {folder}, got {value!r}")
    if name == "env_id" and ":" in value:
        raise InputError(
            f"env_id must be given ({option}) where the one stored in {folder} imports a module, "
            f"got {value!r}"
        )
    if name == "judge" and ":" in value and not value.startswith("lm:"):
        raise InputError(
            f"judge must be given (--oracle judge {option}) where the one stored in {folder} is a "
            f"function, got {value!r}"
        )
    if name == "env_kwargs" and names_a_file(value):
        raise InputError(
            f"env_kwargs must be given ({option}) where those stored in {folder} name a file, "
            f"got {value}"
        )
    return value


class RandomAction(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Replaces an action by a uniform one with some probability.

    Draws from a generator of its own, seeded by `reset`, and at every step: which steps are hit
    grows with the probability, and all else is as without.
    """

    def __init__(self, env: Env, probability: float) -> None:
        RecordConstructorArgs.__init__(self, probability=probability)
        super().__init__(env)
        self.probability, self.rng = probability, np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None:
            self.rng = np.random.default_rng([seed, 0])
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        other = uniform_actions(self.action_space, 1, self.rng)[0]
        return self.env.step(other if self.rng.random() < self.probability else action)


def uniform_actions(space: gymnasium.Space[Any], n: int, rng: np.random.Generator) -> Any:
    """n actions: uniform where the space is Discrete or bounded, else by the space's own law."""
    if isinstance(space, Discrete):
        return space.start + rng.integers(space.n, size=n)
    if isinstance(space, Box) and space.is_bounded() and space.dtype.kind == "f":
        actions = rng.uniform(space.low, space.high, (n, *space.shape)).astype(space.dtype)
        return np.clip(actions, space.low, space.high)
    space.seed(int(rng.integers(2**31)))
    return np.stack([space.sample() for _ in range(n)])
