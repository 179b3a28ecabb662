"""Perturbations of attributes: of any, by the name ``attr.PATH``, and of those a class declares.

An environment declares its own in a mapping ``perturbations`` on the class, from a name to what it
is: a text, or a dictionary with any of ``text``, ``unit``, ``range`` ("[0, 1]", "(0, inf)", …) and
``attribute``. The parameter is the keyword argument of that name, with which the environment is
then made anew; else, or with ``attribute``, an attribute (dots lead to those of parts), which is
read, and set in place. A property with a setter can do whatever else a change takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from rlentropy.errors import InputError, did_you_mean, in_range
from rlentropy.perturbations.keywords import is_number
from rlentropy.perturbations.parameters import ANY, Domain
from rlentropy.perturbations.perturbation import IN_PLACE, Perturbation, called
from rlentropy.types import Array, Env

PREFIX = "attr."
FIELDS = ("text", "unit", "range", "attribute")
TEXT = "attribute, where reset leaves it as it is"


def declared(env: Env, keywords: Mapping[str, Perturbation]) -> Iterator[Perturbation]:
    """What an environment's class declares.

    Raises:
        InputError: the declaration is none.
    """
    table = getattr(type(env.unwrapped), "perturbations", None)
    for name, entry in table.items() if isinstance(table, Mapping) else ():
        said = f"{called(env)}.perturbations[{name!r}]"
        what: Any = {"text": entry} if isinstance(entry, str) else entry
        if not isinstance(what, Mapping) or not all(isinstance(v, str) for v in what.values()):
            raise InputError(f"{said} must be a text, or a dictionary of texts, got {entry!r}")
        for key in what:
            if key not in FIELDS:
                hint = did_you_mean(str(key), FIELDS)
                raise InputError(
                    f"{said} must have keys among {', '.join(FIELDS)}, got {key!r}{hint}"
                )
        if "attribute" not in what and name in keywords:
            p = keywords[name]
        else:
            p = attribute(env, name, what.get("attribute", name))
        domain = domain_of(said, what["range"]) if "range" in what else p.domain
        text = what.get("text", p.text)
        yield replace(p, text=text, unit=what.get("unit", ""), domain=domain)


def domain_of(said: str, interval: str) -> Domain:
    """The finite numbers of an interval, as `errors.in_range` reads it."""

    def holds(value: float) -> bool:
        with suppress(InputError):
            in_range("value", value, interval)
            return math.isfinite(value)
        return False

    ends = interval[:1] + interval[-1:]
    with suppress(ValueError):
        low, high = map(float, interval[1:-1].split(", "))
        if ends in ("[]", "[)", "(]", "()") and low < high:
            return Domain(f"in {interval}", holds)
    raise InputError(f"{said} must have a range such as [0, 1] or (0, inf), got {interval!r}")


def attribute(env: Env, name: str, path: str) -> Perturbation:
    """What a path means in an environment.

    Args:
        path: names of attributes with dots between; numbers are indices, and names are keys where
            there is a dictionary.

    Raises:
        InputError: it leads to no number.
    """
    value = read(env, name, path)
    return Perturbation(name, TEXT, "", ANY, np.array([value], np.float64), setter(name, path))


def read(env: Env, name: str, path: str) -> float:
    value: Any = env.unwrapped
    for part in path.split("."):
        try:
            value = value[key_of(value, part)] if has_keys(value) else getattr(value, part)
        except Exception as error:  # whatever a property raises
            near = did_you_mean(part, public(value))
            raise InputError(
                f"perturb {name} must name an attribute of {called(env)}, got {part!r}: "
                f"{type(error).__name__}: {error}{near}"
            ) from None
    if not is_number(value):
        kind = type(value).__name__
        raise InputError(f"perturb {name} must be a number in {called(env)}, got a {kind}")
    return value  # type: ignore[no-any-return]


def has_keys(value: Any) -> bool:
    return isinstance(value, Mapping | Sequence | np.ndarray)


def key_of(value: Any, part: str) -> Any:
    return part if isinstance(value, Mapping) else int(part)


def public(value: Any) -> list[str]:
    """Attributes, or keys, that a path could go on with."""
    names = value if isinstance(value, Mapping) else dir(value)
    return [name for name in names if isinstance(name, str) and not name.startswith("_")]


def setter(name: str, path: str) -> Callable[[Env, Array], Env]:
    """Sets the attribute, in place; refused where it doesn't hold, or not beyond a reset."""

    def apply(env: Env, values: Array) -> Env:
        base: Any = env.unwrapped
        before, new = read(env, name, path), float(values[0])
        whole = isinstance(before, int | np.integer) and new.is_integer()
        kind: Any = int if whole else type(before)
        write(env, name, path, new if isinstance(before, int) and not whole else kind(new))
        for done in ("being set", "reset"):
            now = float(read(env, name, path))
            if not math.isclose(now, new, rel_tol=1e-6):
                raise InputError(
                    f"perturb {name} must keep its value in {called(env)}, got {now:g} after "
                    f"{done}, not {new:g}"
                )
            if done != "reset":
                base.reset(seed=0)
        setattr(base, IN_PLACE, True)
        return env

    return apply


def write(env: Env, name: str, path: str, value: Any) -> None:
    holder: Any = env.unwrapped
    *parts, last = path.split(".")
    for part in parts:
        holder = holder[key_of(holder, part)] if has_keys(holder) else getattr(holder, part)
    try:
        if has_keys(holder):
            holder[key_of(holder, last)] = value
        else:
            setattr(holder, last, value)
    except Exception as error:  # of a property without a setter, of one that checks
        raise InputError(
            f"perturb {name} must be possible to set in {called(env)}, got "
            f"{type(error).__name__}: {error}"
        ) from None


def attributes(env: Env) -> Iterator[Perturbation]:
    """The floating-point numbers among an environment's own public attributes."""
    base = env.unwrapped
    for name, value in vars(base).items():
        if isinstance(value, float | np.floating) and not name.startswith("_"):
            yield attribute(env, f"{PREFIX}{name}", name)
