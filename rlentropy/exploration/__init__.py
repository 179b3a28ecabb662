"""Maximum-entropy exploration: one module per algorithm, each with `Config` and `run`."""

from importlib import import_module
from types import ModuleType

ALGORITHMS = (
    *("entgame", "maxent", "mepol", "neural_entgame", "neural_maxent", "neural_random", "optimal"),
    *("random_policy", "reg_entgame", "rf_explore_ent", "rf_ucrl", "ucbvi_ent"),
)
__all__ = ["scoring"]


def __getattr__(name: str) -> ModuleType:
    """Import on first use: scores need planning, and algorithms do without it."""
    if name in (*__all__, *ALGORITHMS):
        return import_module(f"rlentropy.exploration.{name}")
    raise AttributeError(f"module 'rlentropy.exploration' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What users want, without what is imported on the way."""
    return [*ALGORITHMS]
