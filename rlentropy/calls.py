"""How the `run` of an algorithm is called from Python: with settings, a seed, an environment's id.

    entgame.run("FrozenLake-v1", episodes=500, seed=0)
    entgame.run(env, entgame.Config(episodes=500), seed=0)
    entgame.run(env, config, rng, log)

An algorithm's own `run` has the last form alone; a decorator adds the others. What comes in is
checked as the command line checks its options, and refused in the same words.
"""

from __future__ import annotations

import inspect
import operator
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from functools import wraps
from pathlib import Path
from types import NoneType
from typing import Any, Literal, Protocol, TypeVar, get_args, get_origin, get_type_hints

import gymnasium
import numpy as np

from rlentropy.errors import InputError, one_of, whole
from rlentropy.log import Log
from rlentropy.types import Env
from rlentropy.wrappers import described, make_env

Given = TypeVar("Given", contravariant=True)
Returned = TypeVar("Returned", covariant=True)
Named = dict[str, Any]
Reader = Callable[[Named, ExitStack], None]
SHARED = ("config", "rng", "log")  # arguments of every run

ABOUT = """

    Args:
        config: a `Config`; default: one of the settings. Settings beside it win.
        rng: what draws; default: `numpy.random.default_rng(seed)`.
        log: where to write; default: nowhere.
        seed: as on the command line; default 0.
        settings: any fields of `Config`.

    An environment may be given by its id. An InputError says what is of another kind or out of its
    range, or an unknown setting.
    """


class Run(Protocol[Given, Returned]):
    """The `run` of an algorithm, as it can be called."""

    def __call__(
        self,
        given: Given,
        /,
        config: Any = None,
        rng: np.random.Generator | None = None,
        log: Log | None = None,
        *more: Any,
        seed: int | None = None,
        **settings: Any,
    ) -> Returned: ...


class RunAlone(Protocol[Returned]):
    """The same of one that is given neither environment nor data."""

    def __call__(
        self,
        config: Any = None,
        rng: np.random.Generator | None = None,
        log: Log | None = None,
        *,
        seed: int | None = None,
        **settings: Any,
    ) -> Returned: ...


def on_env(config: type[Any]) -> Callable[[Callable[..., Returned]], Run[Env | str, Returned]]:
    """Let a `run(env, config, rng, log, …)` be called as this module says."""
    return lambda run: callable_as_said(run, config, read_env)


def alone(config: type[Any]) -> Callable[[Callable[..., Returned]], RunAlone[Returned]]:
    """Let a `run(config, rng, log)` be called as this module says."""
    return lambda run: callable_as_said(run, config, lambda known, stack: None)


def callable_as_said(run: Callable[..., Any], config: type[Any], read: Reader) -> Any:
    """The decorated function.

    Args:
        config: the `Config` of the algorithm.
        read: puts what the run is about in the place of how it was named; the stack closes what
            that opened when the run is over.
    """
    parameters = list(inspect.signature(run).parameters)

    @wraps(run)
    def called(*arguments: Any, seed: int | None = None, **named: Any) -> Any:
        known = bound(run, parameters, arguments, named, config)
        settings = {name: value for name, value in named.items() if name not in known}
        known["config"] = configured(config, known.get("config"), settings)
        known["rng"] = generator(known.get("rng"), seed)
        known["log"] = logged(known.get("log"))
        with ExitStack() as stack:
            read(known, stack)
            return run(**known)

    called.__signature__ = signature(run, config)  # type: ignore[attr-defined]
    called.__doc__ = (run.__doc__ or "").rstrip() + ABOUT
    return called


def signature(run: Callable[..., Any], config: type[Any]) -> inspect.Signature:
    """What editors show: settings by name."""
    own = inspect.signature(run)
    optional = [
        p.replace(default=None) if name in SHARED else p for name, p in own.parameters.items()
    ]
    named = inspect.Parameter.KEYWORD_ONLY
    seed = inspect.Parameter("seed", named, default=None, annotation="int | None")
    settings = [
        inspect.Parameter(f.name, named, default=f.default, annotation=f.type)
        for f in fields(config)
        if f.name not in own.parameters
    ]
    return own.replace(parameters=[*optional, seed, *settings])


def bound(
    run: Callable[..., Any],
    parameters: Sequence[str],
    arguments: Sequence[Any],
    named: Named,
    config: type[Any],
) -> Named:
    """The arguments of the run itself, by name."""
    where = run.__module__.rpartition(".")[2] + ".run"
    if len(arguments) > len(parameters):
        raise InputError(
            f"{where} must be given at most {len(parameters)} arguments without a name "
            f"({', '.join(parameters)}), got {len(arguments)}"
        )
    known = dict(zip(parameters, arguments, strict=False))
    for name in parameters:
        # The reference of preferences is a setting where it is text.
        is_setting = name in {f.name for f in fields(config)} and name != parameters[0]
        if name in named and not (is_setting and isinstance(named[name], str)):
            if name in known:
                raise InputError(f"{name} must be given once, got it twice")
            known[name] = named[name]
    return known


def configured(config: type[Any], given: Any, settings: Named) -> Any:
    """The config, of settings or with them, each of the kind that its field says.

    Raises:
        InputError: another kind, another value than the algorithm takes, or no such setting.
    """
    if given is not None and not isinstance(given, config):
        name = f"{config.__module__}.{config.__qualname__}"
        raise InputError(f"config must be a {name}, got {described(given)}")
    kinds = get_type_hints(config)
    for name in settings:
        one_of("setting", name, [f.name for f in fields(config)])
    checked = {name: of_kind(name, value, kinds[name]) for name, value in settings.items()}
    if given is None:
        return config(**checked)
    for f in fields(config):
        value = getattr(given, f.name)
        if (
            f.name not in checked
            and (fitting := of_kind(f.name, value, kinds[f.name])) is not value
        ):
            checked[f.name] = fitting
    return replace(given, **checked) if checked else given


def of_kind(name: str, value: Any, kind: Any) -> Any:
    """A setting as its field has it: paths and tuples for texts and lists.

    Raises:
        InputError: it is of another kind.
    """
    if NoneType in get_args(kind):
        (kind,) = (k for k in get_args(kind) if k is not NoneType)
        if value is None:
            return None
    if get_origin(kind) is Literal:
        if not isinstance(value, str):
            raise InputError(f"{name} must be one of {', '.join(get_args(kind))}, got {value!r}")
        one_of(name, value, get_args(kind))
        return value
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        parts = [of_kind(name, part, get_args(kind)[0]) for part in value]
        same = isinstance(value, tuple) and all(map(operator.is_, parts, value))
        return value if same else tuple(parts)
    if kind in (Path, str) and isinstance(value, str | os.PathLike):
        return value if isinstance(value, kind) else kind(value)
    words, types = KINDS.get(get_origin(kind) or kind, ("", object))
    if not isinstance(value, types) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"{name} must be {words}, got {value!r:.60}")
    return value


KINDS: dict[Any, tuple[str, Any]] = {
    bool: ("True or False", bool | np.bool_),
    int: ("a whole number", int | np.integer),
    float: ("a number", int | float | np.integer | np.floating),
    str: ("text", ()),
    Path: ("a path", ()),
    tuple: ("a list", ()),
}


def generator(rng: Any, seed: Any) -> np.random.Generator:
    if rng is None:
        seed = 0 if seed is None else seed
        whole("seed", seed, 0)
        return np.random.default_rng(np.random.SeedSequence(int(seed)))
    if seed is not None:
        raise InputError(f"seed must not come with rng, got {seed!r}")
    if not isinstance(rng, np.random.Generator):
        raise InputError(
            f"rng must be a numpy.random.Generator (or give a seed), got {described(rng)}"
        )
    return rng


def logged(log: Any) -> Log:
    if log is None:
        return Log(None)
    if not isinstance(log, Log):
        raise InputError(f"log must be a rlentropy.log.Log, got {described(log)}")
    return log


def read_env(known: Named, stack: ExitStack) -> None:
    """Make the environment that is named; its time limit is that of a horizon left open.

    Raises:
        InputError: it is neither an environment nor the id of one.
    """
    env, config = known.get("env"), known["config"]
    if isinstance(env, str):
        env = made(env, unlimited=getattr(config, "horizon", None) is not None)
        stack.callback(env.close)
    if not isinstance(env, gymnasium.Env):
        kind = "none" if env is None else f"a {type(env).__name__}"
        raise InputError(f"env must be a gymnasium.Env, not vectorised, or an id, got {kind}")
    if env.spec is not None and getattr(config, "horizon", 0) is None:
        known["config"] = replace(config, horizon=env.spec.max_episode_steps)
    known["env"] = env


def made(env_id: str, unlimited: bool = False) -> Env:
    return make_env(env_id, "{}", unlimited)
