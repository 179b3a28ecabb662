"""Robust and risk-sensitive agents: dynamic programming, exact and sampled policy gradients."""

from importlib import import_module
from types import ModuleType

ALGORITHMS = ("actor_critic", "planning", "policy_gradient")


def __getattr__(name: str) -> ModuleType:
    """Import on first use."""
    if name in ALGORITHMS:
        return import_module(f"rlentropy.robust.{name}")
    raise AttributeError(f"module 'rlentropy.robust' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What users want, without what is imported on the way."""
    return [*ALGORITHMS]
