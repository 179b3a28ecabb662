"""Entropies, in nats with 0 log 0 = 0: of known laws (`occupancies`), and from samples (`samples`).

Names load when they are first used: occupancies bring a compiler, estimates from samples do not.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlentropy.entropy.occupancies import (
        check_objective,
        markov_policy,
        staged_policy,
        trajectory_entropy,
        visitation,
        visitation_entropy,
    )
    from rlentropy.entropy.samples import (
        Neighbours,
        PooledEstimate,
        clustered_interval,
        histogram,
        histogram_by_episode,
        log_ball,
        miller_madow,
        nearest_neighbour,
        nearest_neighbour_across,
        nearest_neighbour_by_episode,
        nearest_neighbour_terms,
        neighbour_divergence,
        neighbours,
        particle_rewards,
        shannon,
    )

__all__ = [
    "Neighbours",
    "PooledEstimate",
    "check_objective",
    "clustered_interval",
    "histogram",
    "histogram_by_episode",
    "log_ball",
    "markov_policy",
    "miller_madow",
    "nearest_neighbour",
    "nearest_neighbour_across",
    "nearest_neighbour_by_episode",
    "nearest_neighbour_terms",
    "neighbour_divergence",
    "neighbours",
    "particle_rewards",
    "shannon",
    "staged_policy",
    "trajectory_entropy",
    "visitation",
    "visitation_entropy",
]


HOMES = ("samples", "occupancies")  # the one that needs no compiler first


def __getattr__(name: str) -> object:
    """Import on first use, from the first module that has it."""
    if name in (*HOMES, *__all__):
        for home in HOMES:
            module = import_module(f"rlentropy.entropy.{home}")
            if name == home:
                return module
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module 'rlentropy.entropy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
