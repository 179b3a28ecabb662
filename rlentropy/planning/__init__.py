"""Planning on known finite MDPs: exact optima, with certificates and bounds; nothing is sampled."""

from rlentropy.planning.discounted import Optimum, optimum
from rlentropy.planning.entropies import (
    Exploration,
    max_trajectory_entropy,
    max_visitation_entropy,
    visitation_entropy_bound,
)
from rlentropy.planning.episodic import Plan, backward_induction, planning_task
from rlentropy.planning.robust import (
    RobustValue,
    evaluation,
    robust_evaluation,
    robust_optimum,
    robust_policy_gradient,
)

__all__ = [
    "Exploration",
    "Optimum",
    "Plan",
    "RobustValue",
    "backward_induction",
    "evaluation",
    "max_trajectory_entropy",
    "max_visitation_entropy",
    "optimum",
    "planning_task",
    "robust_evaluation",
    "robust_optimum",
    "robust_policy_gradient",
    "visitation_entropy_bound",
]


def __dir__() -> list[str]:
    """What users want, without what is imported on the way."""
    return [*__all__]
