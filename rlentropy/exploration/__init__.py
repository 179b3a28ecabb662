"""Maximum-entropy exploration: one module per algorithm, each with `Config` and `run`."""

from importlib import import_module
from types import ModuleType

__all__ = ["scoring"]


def __getattr__(name: str) -> ModuleType:
    """Import on first use: scores need planning, and algorithms do without it."""
    if name in __all__:
        return import_module(f"rlentropy.exploration.{name}")
    raise AttributeError(f"module 'rlentropy.exploration' has no attribute {name!r}")
