"""Environments that `--env-id` can name: spaces, time limit, whether the model is known.

Of a single one also what can be perturbed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import warnings
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Discrete
from tyro.conf import Positional

from rlentropy.commands.console import Console, aligned
from rlentropy.errors import InputError, did_you_mean
from rlentropy.mdp.finite import model_or_reason
from rlentropy.perturbations import allowed
from rlentropy.types import Env
from rlentropy.wrappers import headless

HEADING = ("env id", "observations", "actions", "horizon", "model")
OWN = "rlentropy/"


@dataclass(frozen=True)
class Config:
    """Lists environments with spaces, time limit, and whether the model is known.

    Use it to find an --env-id. Those of this package come first, each in its newest version.

    Example::

        rlentropy envs lake
        rlentropy envs --json rlentropy/
    """

    text: Positional[str] = ""  # part of an id; MODULE: or MODULE:part imports a module first
    all: bool = False  # old versions too, and those that can't be made here
    json: bool = False  # print a JSON list in place of a table
    quiet: bool = False  # print nothing but errors


@dataclass(frozen=True)
class Listed:
    """An environment, as far as it says."""

    env_id: str
    observation_space: str | None = None  # None: it can't be made here
    action_space: str | None = None
    horizon: int | None = None  # its time limit, steps; None: it has none
    known_model: bool = False
    unavailable: str | None = None  # why it can't be made
    perturbations: dict[str, str] | None = None  # what evaluate --perturb can name


def run(config: Config) -> int:
    """Print the list; the exit code.

    Raises:
        InputError: no id has the text, or the module can't be imported.
    """
    module, colon, _ = config.text.rpartition(":")
    before = set(gymnasium.registry)
    found = [
        replace(
            listed(spec), env_id=f"{module}{colon}{spec.id}" if spec.id not in before else spec.id
        )
        for spec in named(config.text, config.all)
    ]
    if not (config.all or config.text):
        found = [row for row in found if row.unavailable is None]
    if config.json:
        if not config.quiet:
            print(json.dumps([asdict(row) for row in found], indent=2))
        return 0
    say = Console(config.quiet)
    table = [HEADING, *(cells(row) for row in found if row.unavailable is None)]
    if len(table) > 1:
        for line in aligned(table).splitlines():
            say.line(line)
    for row in found:
        if row.unavailable is not None:
            say.line(f"{row.env_id} can't be made here: {row.unavailable}")
    made = [row for row in found if row.perturbations]
    if len(only := [row for row in made if row.env_id == config.text] or made) == 1:
        say.line("")
        say.line("evaluate --perturb NAME=LO:HI:STEP")
        for line in aligned(list((only[0].perturbations or {}).items())).splitlines():
            say.line(f"  {line}")
    return 0


def named(text: str, all_versions: bool = False) -> list[EnvSpec]:
    """Environments whose id has a text, in whatever case: of the module it names, ours, others'."""
    module, colon, part = text.rpartition(":")
    before = set(gymnasium.registry)
    if colon:
        _import(module)
    new = set(gymnasium.registry) - before
    everything = list(gymnasium.registry.values())
    specs = [spec for spec in everything if spec.id in new] if new and not part else everything
    newest: dict[tuple[str | None, str], int] = {}
    for spec in specs:
        newest[_name(spec)] = max(_version(spec), newest.get(_name(spec), -1))
    fits = [
        spec
        for spec in specs
        if part.lower() in spec.id.lower()
        and (all_versions or spec.id == part or _version(spec) == newest[_name(spec)])
    ]
    if not fits:
        hint = did_you_mean(part, gymnasium.registry)
        raise InputError(f"text must be part of an environment's id, got {text!r}{hint}")
    return sorted(fits, key=lambda spec: (spec.id not in new, not spec.id.startswith(OWN)))


def _import(module: str) -> None:
    if not all(map(str.isidentifier, module.split("."))):
        raise InputError(f"text must be part of an id, or MODULE:part, got {module + ':'!r}")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        import_module(module)
    except ImportError as error:
        raise InputError(f"text must name a module that is here, got {module!r}: {error}") from None


def _name(spec: EnvSpec) -> tuple[str | None, str]:
    return spec.namespace, spec.name


def _version(spec: EnvSpec) -> int:
    return -1 if spec.version is None else spec.version


def listed(spec: EnvSpec) -> Listed:
    """What an environment says of itself; whatever making it raises is why it is unavailable."""
    headless()
    silent = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    try:
        with silent[0], silent[1], warnings.catch_warnings():
            warnings.simplefilter("ignore")
            env = gymnasium.make(spec.id, disable_env_checker=True)
            limit = env.spec.max_episode_steps if env.spec else None
            known = model_or_reason(env)[0] is not None
            row = Listed(spec.id, *spaces(env), limit, known, perturbations=allowed(env))
            env.close()
    except Exception as error:  # of packages that aren't here, or of old ones
        return Listed(spec.id, unavailable=" ".join(str(error).split()) or type(error).__name__)
    return row


def spaces(env: Env) -> tuple[str, str]:
    """Observations and actions in a word."""

    def word(space: Any) -> str:
        if isinstance(space, Discrete):
            return f"Discrete({space.n})"
        if isinstance(space, Box):
            return f"Box{space.shape}".replace(",)", ")")
        text = str(space)
        return text if len(text) <= 40 else type(space).__name__

    return word(env.observation_space), word(env.action_space)


def cells(row: Listed) -> tuple[str, ...]:
    horizon = "-" if row.horizon is None else str(row.horizon)
    model = "known" if row.known_model else "-"
    return (row.env_id, row.observation_space or "", row.action_space or "", horizon, model)
