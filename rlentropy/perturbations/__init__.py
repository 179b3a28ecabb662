"""Environments with another parameter: one name, one number.

The number is the new value of the parameter itself, in its own unit, for all parameters alike; or,
where `relative` is asked for, a multiple of its nominal value, which is what the environment given
holds. A parameter that is several numbers of different values (the springs of a leg) has no one
value: it takes multiples only. One that is nominally 0 has no multiples. `allowed` says what each
is. Spaces stay the nominal ones, so that a bound on actions only acts below its nominal value.

Parameters of gymnasium's environments (robust §5.1-5.2) are changed in place; any other
number among the keyword arguments of a registered environment, by making it anew.

Not offered, since they are bare numbers in the code of the environment: the gravity of Acrobot and
that of MountainCarContinuous.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.spaces import Box

from rlentropy.data.spaces import outline
from rlentropy.errors import InputError, did_you_mean
from rlentropy.perturbations.parameters import (
    ANY,
    BASES,
    MODELS,
    NONNEGATIVE,
    PROBABILITY,
    WHOLE,
    Domain,
)
from rlentropy.types import Array, Env
from rlentropy.wrappers import ObservationNoise, RandomAction

NUMBER = int | float | np.integer | np.floating
IN_PLACE = "_rlentropy_perturbed"  # set on an environment that was changed itself


@dataclass(frozen=True)
class Perturbation:
    """What a name means in one environment."""

    name: str
    text: str
    unit: str  # empty for a number without one
    domain: Domain
    nominals: Array  # (n,)
    apply: Callable[[Env, Array], Env]

    @property
    def nominal(self) -> float | None:
        """The nominal value; None where the parameter is several different numbers."""
        first = float(self.nominals[0])
        return first if (self.nominals == first).all() else None

    @property
    def description(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if self.nominal is None:
            return f"{self.text}: in multiples of the nominal {self.listed}{unit}"
        return f"{self.text}{unit and ','}{unit}: {self.domain.text}, nominal {self.nominal:g}"

    @property
    def listed(self) -> str:
        values = sorted(set(self.nominals.tolist()), reverse=True)
        if len(values) > 6:
            return f"{values[0]:g} to {values[-1]:g}"
        return ", ".join(f"{value:g}" for value in values)

    def numbers(self, value: float, relative: bool) -> Array:
        """The new values, (n,).

        Raises:
            InputError: naming what the number must be instead.
        """
        must = f"perturb {self.name} must be"
        if not isinstance(value, NUMBER):
            raise InputError(f"{must} a number, got {value!r}")
        if relative and not self.nominals.any():
            raise InputError(
                f"{must} a value, since it is nominally 0, got {value:g} times nominal"
            )
        if not relative and self.nominal is None:
            raise InputError(
                f"{must} in multiples of nominal ({self.name}=xLO:HI:STEP), since it is several "
                f"numbers ({self.listed}), got {value:g}"
            )
        numbers = value * self.nominals if relative else np.full(self.nominals.shape, value)
        if not all(map(self.domain.holds, numbers.tolist())):
            times = " times nominal" if relative else ""
            unit = f" ({self.unit})" if self.unit else ""
            raise InputError(f"{must} {self.domain.text}{unit}, got {value:.12g}{times}")
        return numbers


def allowed(env: Env) -> dict[str, str]:
    """The names that an environment allows: what each is, its unit, range and nominal value."""
    return {name: p.description for name, p in perturbations(env).items()}


def perturbed(env: Env, name: str, value: float, relative: bool = False) -> Env:
    """The environment with a parameter changed; the one given may be changed itself, or closed.

    Args:
        value: of the parameter, in its own unit.
        relative: the value is a multiple of the nominal one instead.

    Raises:
        InputError: the environment has no such name, or not with this value.
    """
    p = perturbation(env, name)
    return p.apply(env, p.numbers(value, relative))


def perturbation(env: Env, name: str, others: Sequence[str] = ()) -> Perturbation:
    """What a name means in an environment.

    Raises:
        InputError: it means nothing there; lists what does, and `others`.
    """
    choices = perturbations(env)
    if name not in choices:
        listed = ", ".join([*map(in_short, choices.values()), *others])
        raise InputError(
            f"perturb must name one of {listed} in {env.spec.id if env.spec else env}, "
            f"got {name!r}{did_you_mean(name, [*choices, *others])}"
        )
    return choices[name]


def in_short(p: Perturbation) -> str:
    if p.nominal is None:
        return f"{p.name} (multiples of nominal)"
    return f"{p.name} (nominal {p.nominal:g}{p.unit and ' '}{p.unit})"


def perturbations(env: Env) -> dict[str, Perturbation]:
    base: Any = env.unwrapped
    kinds = [kind.__name__ for kind in type(base).__mro__]  # so that nothing need be imported
    known: dict[str, Perturbation] = {}
    tables = [(BASES, base)] + ([(MODELS, base.model)] if "MujocoEnv" in kinds else [])
    for table, target in tables:
        for kind in kinds:
            for name, (text, unit, domain, read, write) in table.get(kind, {}).items():
                with suppress(AttributeError, KeyError):  # another class of that name
                    nominals = np.atleast_1d(np.asarray(read(target), np.float64))
                    apply = in_place(write, table is MODELS)
                    known.setdefault(name, Perturbation(name, text, unit, domain, nominals, apply))
    given, annotations = keyword_arguments(env)
    for name, nominal in given.items():
        if isinstance(nominal, bool) or not isinstance(nominal, NUMBER) or np.isnan(nominal):
            continue
        text = "keyword of the environment"
        domain = WHOLE if annotations.get(name) in (int, "int") else ANY
        switch, off = next((SWITCHES[k, name] for k in kinds if (k, name) in SWITCHES), ("", 0.0))
        nominals = np.array([nominal if not switch or given[switch] else off], np.float64)
        as_integer = isinstance(nominal, int) and annotations.get(name) not in (float, "float")
        apply = rebuilt(name, as_integer, {switch: True} if switch else {})
        known.setdefault(name, Perturbation(name, text, "", domain, nominals, apply))
    for name, (text, domain, wrapper) in WRAPPERS.items():
        if name == "random_action" or is_vector(env.observation_space):
            apply = wrapped(wrapper)
            known[name] = Perturbation(name, text, "", domain, np.zeros(1), apply)
    return known


def is_vector(space: gymnasium.Space[Any]) -> bool:
    return isinstance(space, Box) and space.dtype.kind == "f"


# ---------------------------------------------------------------- any environment


WRAPPERS: dict[str, tuple[str, Domain, Callable[[Env, float], Env]]] = {
    "random_action": (
        "probability that an action is replaced by a uniform one",
        PROBABILITY,
        RandomAction,
    ),
    "observation_noise": (
        "standard deviation of noise on each observation",
        NONNEGATIVE,
        ObservationNoise,
    ),
}


def wrapped(wrapper: Callable[[Env, float], Env]) -> Callable[[Env, Array], Env]:
    return lambda env, values: wrapper(env, float(values[0]))


def in_place(write: Callable[[Any, Array], None], is_model: bool) -> Callable[[Env, Array], Env]:
    """Changes the unwrapped environment, or its MuJoCo model, which `reset` leaves alone."""

    def apply(env: Env, values: Array) -> Env:
        base: Any = env.unwrapped
        write(base.model if is_model else base, values)
        setattr(base, IN_PLACE, True)
        return env

    return apply


# ---------------------------------------------------------------- keyword arguments

# Keywords that act only beside another one, and their value in effect without that.
SWITCHES = {
    ("FrozenLakeEnv", "success_rate"): ("is_slippery", 1.0),
    ("TaxiEnv", "rainy_probability"): ("is_rainy", 1.0),
    ("TaxiEnv", "fickle_probability"): ("fickle_passenger", 0.0),
}


def keyword_arguments(env: Env) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a registered environment is made from, with defaults; and the types it declares."""
    if env.spec is None or env.spec.entry_point is None:
        return {}, {}
    point = env.spec.entry_point
    creator: Any = load_env_creator(point) if isinstance(point, str) else point
    parameters: Mapping[str, inspect.Parameter] = {}
    with suppress(TypeError, ValueError):  # of what is written in C
        parameters = inspect.signature(creator).parameters
    defaults = {name: p.default for name, p in parameters.items()}
    return defaults | env.spec.kwargs, {name: p.annotation for name, p in parameters.items()}


def rebuilt(name: str, as_integer: bool, others: dict[str, Any]) -> Callable[[Env, Array], Env]:
    """Makes the environment anew with another keyword argument, and those it needs beside."""

    def apply(env: Env, values: Array) -> Env:
        assert env.spec is not None
        if getattr(env.unwrapped, IN_PLACE, False):
            raise InputError(
                f"perturb {name} must come before parameters that are changed in place"
            )
        value: Any = float(values[0])
        value = int(value) if as_integer and value.is_integer() else value
        changed: dict[str, Any] = {**others, name: value}
        try:
            new = gymnasium.make(env.spec, **changed)
        except Exception as error:  # whatever a constructor makes of a value it wasn't made for
            what = str(error) or type(error).__name__
            raise InputError(f"perturb {name} must suit {env.spec.id}: {what}") from error
        for space in ("observation_space", "action_space"):
            before, now = getattr(env, space), getattr(new, space)
            if outline(before) != outline(now):
                raise InputError(
                    f"perturb {name} must leave the {space} of {env.spec.id} as it is, {before}, "
                    f"got {now} with {value:g}"
                )
        env.close()
        return new

    return apply
