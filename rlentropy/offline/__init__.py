"""Learning from a fixed dataset: robust and plain fitted iteration."""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlentropy.offline import networks, policy, scoring

ALGORITHMS = ("fqi", "rfqi", "rfzi")
__all__ = ["networks", "policy", "scoring"]


def __getattr__(name: str) -> ModuleType:
    """Import on first use: networks bring torch, and scores planning, which tables do without."""
    if name in (*__all__, *ALGORITHMS):
        return import_module(f"rlentropy.offline.{name}")
    raise AttributeError(f"module 'rlentropy.offline' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What users want, without what is imported on the way."""
    return [*ALGORITHMS]
