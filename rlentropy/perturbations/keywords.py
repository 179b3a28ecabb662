"""Perturbations by a keyword argument of a registered environment, which is made anew with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator

from rlentropy.errors import InputError
from rlentropy.perturbations.parameters import ANY, WHOLE
from rlentropy.perturbations.perturbation import IN_PLACE, NUMBER, Perturbation
from rlentropy.spaces import outline
from rlentropy.types import Array, Env

# Keywords that act only beside another one, and their value in effect without that.
SWITCHES = {
    ("FrozenLakeEnv", "success_rate"): ("is_slippery", 1.0),
    ("TaxiEnv", "rainy_probability"): ("is_rainy", 1.0),
    ("TaxiEnv", "fickle_probability"): ("fickle_passenger", 0.0),
}


def keywords(env: Env) -> Iterator[Perturbation]:
    """The numbers that an environment is made from."""
    given, annotations = keyword_arguments(env)
    kinds = [kind.__name__ for kind in type(env.unwrapped).__mro__]
    for name, nominal in given.items():
        if not is_number(nominal) or np.isnan(nominal):
            continue
        domain = WHOLE if annotations.get(name) in (int, "int") else ANY
        switch, off = next((SWITCHES[k, name] for k in kinds if (k, name) in SWITCHES), ("", 0.0))
        nominals = np.array([nominal if not switch or given[switch] else off], np.float64)
        is_integer = isinstance(nominal, int | np.integer)
        as_integer = is_integer and annotations.get(name) not in (float, "float")
        apply = rebuilt(name, as_integer, {switch: True} if switch else {})
        text = "keyword of the environment"
        yield Perturbation(name, text, "", domain, nominals, apply, anew=True)


def is_number(value: Any) -> bool:
    return isinstance(value, NUMBER) and not isinstance(value, bool)


def keyword_arguments(env: Env) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a registered environment is made from; and the types it declares.

    A keyword whose default says nothing, since it is None or stands behind ``**kwargs``, has the
    value of the attribute of its name, if that is a number.
    """
    if env.spec is None or env.spec.entry_point is None:
        return {}, {}
    point = env.spec.entry_point
    creator: Any = load_env_creator(point) if isinstance(point, str) else point
    parents = [vars(kind).get("__init__") for kind in type(env.unwrapped).__mro__]
    given: dict[str, Any] = {}
    annotations: dict[str, Any] = {}
    for behind, takes in enumerate([creator, *filter(None, parents)]):
        parameters: dict[str, inspect.Parameter] = {}
        with suppress(TypeError, ValueError):  # of what is written in C
            parameters = dict(inspect.signature(takes).parameters)
        for name, p in parameters.items():
            if name not in given and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                said = p.default is not None and not behind
                given[name] = p.default if said else kept(env, name)
                annotations[name] = p.annotation
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    return given | env.spec.kwargs, annotations


def kept(env: Env, name: str) -> Any:
    """The attribute of an environment that has the name of a keyword; None if it is no number."""
    for attribute in (name, f"_{name}"):
        with suppress(Exception):  # whatever a property raises
            if is_number(value := getattr(env.unwrapped, attribute)):
                return value
    return None


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
