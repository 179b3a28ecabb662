"""Finite MDPs, known or counted."""

from rlentropy.mdp.finite import (
    ROUNDING,
    FiniteMDP,
    check_mdp,
    known_model,
    model_or_reason,
    of_observations,
)

__all__ = [
    "ROUNDING",
    "FiniteMDP",
    "check_mdp",
    "known_model",
    "model_or_reason",
    "of_observations",
]


def __dir__() -> list[str]:
    """What users want, without what is imported on the way."""
    return [*__all__]
