"""What an environment's `reset` and `step` return, checked at every door where one is played.

The number of values, a finite reward, flags that are booleans, an observation of the space's shape
and kind. The bounds of a Box are not enforced: many environments leave the ones they declare.
Errors that the environment's own code raises pass through.
"""

from __future__ import annotations

import math
from contextlib import suppress
from numbers import Real
from types import TracebackType
from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from rlentropy.errors import InputError

RESET, STEP = ("observation", "info"), ("observation", "reward", "terminated", "truncated", "info")
# Where what was returned is taken apart before it comes here; errors from there are about that.
BETWEEN = (
    "gymnasium.core",
    "gymnasium.wrappers.",
    "gymnasium.utils.passive_env_checker",
    "rlentropy.perturbations",
    __name__,
)


class Checked:
    """An environment that is played; observations come in the space's dtype, Discrete as int."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
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
