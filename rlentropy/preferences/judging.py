"""Judges behind one door: a function that scores what is shown left and right (preferences §3.2).

    judge(left, right, uniforms) -> scores (N, k, 2)

k readings of each pair, each a score of the left segment and one of the right; NaN where it can't
say, which leaves the pair to a person. Judges that draw do so by the uniforms, (N, K), which belong
to the query and the position. `routing` asks each judge in both positions. One that also has a
method `learn` is told what people answer.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri

from rlentropy.errors import InputError, as_numbers, whole
from rlentropy.preferences.beliefs import LaplacePosterior, Prior, variances
from rlentropy.preferences.judges import Judge, read
from rlentropy.preferences.segments import Pairs, Segments
from rlentropy.preferences.units import Units
from rlentropy.types import Array

Judging = Callable[[Segments, Segments, Array], Array]

NATS = 3.0  # typical gap of a pair before any answer, of the learnt judge


class Simulated:
    """Noisy readings of true returns, with a taste for the left."""

    def __init__(self, spec: Judge) -> None:
        self.spec = spec

    def __call__(self, left: Segments, right: Segments, uniforms: Array) -> Array:
        u = uniforms[:, : self.spec.readings]
        both = read(self.spec, left.returns - right.returns, np.concatenate([u, u], axis=1))
        return scores_of(both[:, 0])


def scores_of(differences: Array) -> Array:
    """Scores (N, k, 2) of a judge that says only how much better the left one is, (N, k)."""
    scores: Array = np.stack([differences, np.zeros_like(differences)], axis=2)
    return scores


# ---------------------------------------------------------------- learnt from people


class Ensemble:
    """The belief about rewards from what people have answered so far; its members are quantiles.

    Until somebody has answered, it can't say.

    Args:
        features: x = ψ(a) - ψ(b) of pairs, (N, D).
        groups: of features, by name; "features" are those of the reward.
        sample: pairs that the prior takes its units from.
        members: k, readings of a pair.
    """

    def __init__(
        self,
        features: Callable[[Pairs], Array],
        groups: Mapping[str, slice],
        sample: Pairs,
        members: int = 8,
    ) -> None:
        whole("members", members, 1)
        self.features, self.answered = features, 0
        (variance,) = variances([Prior(NATS, {"features": 1.0})], groups, features(sample))
        self.posterior = LaplacePosterior(len(variance), variance)
        self.quantiles = ndtri((np.arange(members) + 0.5) / members)

    def __call__(self, left: Segments, right: Segments, uniforms: Array) -> Array:
        if not self.answered:
            return np.full((len(left), len(self.quantiles), 2), np.nan)
        m, v = self.posterior.moments(self.features(Pairs(left, right)))
        return scores_of(m[:, None] + np.sqrt(v)[:, None] * self.quantiles)

    def learn(self, pairs: Pairs, y: Array) -> None:
        """Learn people's answers, (n,)."""
        self.posterior.update(self.features(pairs), y)
        self.answered += len(pairs)


# ---------------------------------------------------------------- the user's own function


class Trajectory(NamedTuple):
    """What a rubric is shown of a segment, in the environment's own units; never its rewards."""

    observations: Any  # (L + 1, …), the start first
    actions: Any  # (L, …)
    ended: bool  # whether the environment ended it; else it was cut

    @property
    def length(self) -> int:
        """L, steps taken."""
        return len(self.actions)


def trajectories(segments: Segments, units: Units) -> list[Trajectory]:
    """Segments as their environment would have shown them."""
    found = []
    for i in range(len(segments)):
        one = segments.take([i])
        ended = bool(one.terminated[0])
        found.append(Trajectory(units.observations(one), units.actions(one), ended))
    return found


class Scripted:
    """A function of the user's: of one trajectory, its score; of two, left and right, two scores.

    A list of scores is as many readings.

    Raises:
        InputError: there is no such function, or it takes something else.
    """

    def __init__(self, name: str, units: Units) -> None:
        self.name, self.units, self.function = name, units, load_function(name)
        self.takes = positional(self.function)
        if self.takes not in (1, 2):
            raise InputError(f"judge must take one trajectory or two, got {name} of {self.takes}")

    def __call__(self, left: Segments, right: Segments, uniforms: Array) -> Array:
        shown = list(
            zip(trajectories(left, self.units), trajectories(right, self.units), strict=True)
        )
        if self.takes == 2:
            found = [self._say(*both) for both in shown]
        else:
            found = [tuple(self._say(one) for one in both) for both in shown]
        try:
            scores = np.array([as_numbers(x, "judge", "") for x in found])
        except ValueError:
            scores = np.zeros(0)
        if scores.ndim not in (2, 3) or scores.shape[1] != 2 or not scores.size:
            wanted = "a number, or a list of as many every time" if self.takes == 1 else "two"
            raise InputError(f"judge {self.name} must return {wanted}, got {found[0]}")
        return scores.reshape(len(shown), 2, -1).transpose(0, 2, 1)

    def _say(self, *shown: Trajectory) -> Any:
        try:
            return self.function(*shown)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise InputError(f"judge {self.name} must return scores, got {said}") from error


def load_function(name: str) -> Callable[..., Any]:
    """The function that FILE.py:FUNCTION or MODULE:FUNCTION names.

    Raises:
        InputError: there is none, or its file can't be run.
    """
    source, _, function = name.rpartition(":")
    if not (source and function.isidentifier()):
        raise InputError(f"judge must be FILE.py:FUNCTION or MODULE:FUNCTION, got {name!r}")
    try:
        module = _module(source)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise InputError(f"judge must be in a file or module that runs, got {said}") from error
    found = getattr(module, function, None)
    if not callable(found):
        raise InputError(f"judge must be a function of {source}, got {function!r}")
    checked: Callable[..., Any] = found
    return checked


def _module(source: str) -> ModuleType:
    if not source.endswith(".py"):
        return importlib.import_module(source)
    spec = importlib.util.spec_from_file_location(Path(source).stem, source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def positional(function: Callable[..., Any]) -> int:
    """How many arguments a function must be given."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters: Sequence[inspect.Parameter] = list(inspect.signature(function).parameters.values())
    return sum(p.kind in kinds and p.default is p.empty for p in parameters)
