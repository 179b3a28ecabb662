"""Environments with another parameter: one name, one number.

The number is the new value of the parameter itself, in its own unit, for all parameters alike; or,
where `relative` is asked for, a multiple of its nominal value, which is what the environment given
holds. A parameter that is several numbers of different values (the springs of a leg) has no one
value: it takes multiples only. One that is nominally 0 has no multiples. `allowed` says what each
is. Spaces stay the nominal ones, so that a bound on actions only acts below its nominal value.

What a name means, the first that there is: what the environment's class declares (`attributes`);
parameters of gymnasium's environments (robust §5.1-5.2), which are changed in place; any other
number among the keyword arguments of a registered environment, which is made anew; a wrapper
around any environment; and with the prefix ``attr.``, any number among its attributes.

Not offered, since they are bare numbers in the code of the environment: the gravity of Acrobot and
that of MountainCarContinuous.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils.env_checker import data_equivalence

from rlentropy.errors import InputError, did_you_mean, shown
from rlentropy.perturbations.attributes import PREFIX, attribute, attributes, declared
from rlentropy.perturbations.keywords import keyword_arguments, keywords
from rlentropy.perturbations.noise import ObservationNoise
from rlentropy.perturbations.parameters import BASES, MODELS, NONNEGATIVE, PROBABILITY, Domain
from rlentropy.perturbations.perturbation import IN_PLACE, Perturbation, called
from rlentropy.types import Array, Env
from rlentropy.wrappers import RandomAction, uniform_actions

__all__ = [
    "PREFIX",
    "Perturbation",
    "acts",
    "allowed",
    "perturbation",
    "perturbations",
    "perturbed",
]


def allowed(env: Env) -> dict[str, str]:
    """The names that an environment allows: what each is, its unit, range and nominal value.

    Of ``attr.PATH`` those that are floating-point numbers of the environment itself, under no other
    name; any other number that can be reached by a path is allowed, too.
    """
    named = perturbations(check_env(env))
    own = {p.name: p for p in attributes(env) if p.name.removeprefix(PREFIX) not in named}
    return {name: p.description for name, p in (named | own).items()}


def perturbed(env: Env, name: str, value: float, relative: bool = False) -> Env:
    """The environment with a parameter changed; the one given may be changed itself, or closed.

    Reset what comes back before it is played.

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
    choices = perturbations(check_env(env))
    if not isinstance(name, str):
        raise InputError(f"perturb must be a name, got {shown(name)}")
    if name in choices:
        return choices[name]
    if name.startswith(PREFIX):
        return attribute(env, name, name.removeprefix(PREFIX))
    if keyword_arguments(env)[0].get(name, 0) is None:
        raise InputError(
            f"perturb {name} must be a number in {called(env)}, got a keyword without a nominal "
            f"value; one can be given, as in --env-kwargs '{{\"{name}\": 0.1}}'"
        )
    own = [p.name for p in attributes(env) if p.name.removeprefix(PREFIX) not in choices]
    short = [p.in_short for p in choices.values()]
    listed = ", ".join([*short, *own, *others, f"{PREFIX}NAME of its other numbers"])
    hint = did_you_mean(name, [*choices, *own, *others])
    raise InputError(f"perturb must name one of {listed} in {called(env)}, got {name!r}{hint}")


def check_env(env: Env) -> Env:
    if not isinstance(env, gymnasium.Env):
        raise InputError(f"env must be a gymnasium.Env, not vectorised, got {type(env).__name__}")
    return env


def perturbations(env: Env) -> dict[str, Perturbation]:
    """What names mean in an environment, without those of attributes."""
    base: Any = env.unwrapped
    anew = {p.name: p for p in keywords(env)}
    known = {p.name: p for p in declared(env, anew)}
    kinds = [kind.__name__ for kind in type(base).__mro__]  # so that nothing need be imported
    tables = [(BASES, base)] + ([(MODELS, base.model)] if "MujocoEnv" in kinds else [])
    for table, target in tables:
        for kind in kinds:
            for name, (text, unit, domain, read, write) in table.get(kind, {}).items():
                with suppress(AttributeError, KeyError):  # another class of that name
                    nominals = np.atleast_1d(np.asarray(read(target), np.float64))
                    apply = in_place(write, table is MODELS)
                    known.setdefault(name, Perturbation(name, text, unit, domain, nominals, apply))
    known |= {name: p for name, p in anew.items() if name not in known}
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


def acts(env: Env, other: Env, episodes: int = 3, steps: int = 100) -> bool:
    """Whether two environments differ in some steps of the same random actions; plays both."""
    spread = np.random.default_rng(0)
    for seed in range(episodes):
        ends = [False, False]
        shown: list[Any] = [one.reset(seed=seed) for one in (env, other)]
        for _ in range(steps):
            if ends[0] or not data_equivalence(shown[0][:-1], shown[1][:-1]):
                break
            action = uniform_actions(env.action_space, 1, spread)[0]
            shown = [one.step(action) for one in (env, other)]
            ends = [bool(terminated or truncated) for _, _, terminated, truncated, _ in shown]
        if not data_equivalence(shown[0][:-1], shown[1][:-1]):
            return True
    return False


def __dir__() -> list[str]:
    """What users want, without what is imported on the way."""
    return [*__all__]
