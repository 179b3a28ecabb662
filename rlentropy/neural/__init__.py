"""Networks and what every neural agent shares: spaces, losses, rollouts."""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlentropy.neural import (
        actor_critic,
        copies,
        devices,
        episodes,
        estimator,
        gradients,
        losses,
        mixtures,
        networks,
        rollouts,
        saved,
        spaces,
    )

__all__ = [
    "actor_critic",
    "copies",
    "devices",
    "episodes",
    "estimator",
    "gradients",
    "losses",
    "mixtures",
    "networks",
    "rollouts",
    "saved",
    "spaces",
]


def __getattr__(name: str) -> ModuleType:
    """Import on first use: torch takes seconds to load, and tables do without it."""
    if name in __all__:
        return import_module(f"rlentropy.neural.{name}")
    raise AttributeError(f"module 'rlentropy.neural' has no attribute {name!r}")
