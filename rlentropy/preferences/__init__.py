"""Preferences: which pairs of segments to ask about, so that few labels align a policy."""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlentropy.preferences import (
        language_policy,
        language_subject,
        language_training,
        network_logits,
        neural,
        neural_features,
        neural_rollouts,
        neural_subject,
        reward_models,
        reward_subject,
    )

USED = ("acquisition", "active_preference", "calibration", "language_preference", "scores")
__all__ = [
    "language_policy",
    "language_subject",
    "language_training",
    "network_logits",
    "neural",
    "neural_features",
    "neural_rollouts",
    "neural_subject",
    "reward_models",
    "reward_subject",
]


def __getattr__(name: str) -> ModuleType:
    """Import on first use: torch takes seconds to load, and tables do without it."""
    if name in (*__all__, *USED):
        return import_module(f"rlentropy.preferences.{name}")
    raise AttributeError(f"module 'rlentropy.preferences' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What users want, without what is imported on the way."""
    return [*USED]
