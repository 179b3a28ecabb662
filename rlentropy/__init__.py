"""Entropy that does work in reinforcement learning.

``import rlentropy`` registers the rlentropy/* environments; all else loads when first named.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlentropy import (
        data,
        diversity,
        entropy,
        estimators,
        exploration,
        log,
        mdp,
        neural,
        offline,
        perturbations,
        planning,
        plots,
        policies,
        preferences,
        risk,
        robust,
    )
    from rlentropy.mdp import FiniteMDP
    from rlentropy.mdp.empirical import EmpiricalModel
    from rlentropy.runs.reading import load_run

__version__ = "0.1.0"
__all__ = [
    "EmpiricalModel",
    "FiniteMDP",
    "data",
    "diversity",
    "entropy",
    "estimators",
    "exploration",
    "load_run",
    "log",
    "mdp",
    "neural",
    "offline",
    "perturbations",
    "planning",
    "plots",
    "policies",
    "preferences",
    "risk",
    "robust",
]

# A wheel holds the environments inside this package; a checkout keeps them beside it, in envs/.
if not (Path(__file__).parent / "envs").is_dir():
    __path__.append(str(Path(__file__).parents[1]))

from rlentropy.start import is_ours, loading

with loading(is_ours()):
    import rlentropy.envs  # noqa: F401  (registers the rlentropy/* ids)


def __getattr__(name: str) -> object:
    """Import on first use: the solvers bring a compiler, which registering ids doesn't need."""
    homes = {"FiniteMDP": "mdp", "EmpiricalModel": "mdp.empirical", "load_run": "runs.reading"}
    if name in homes:
        return getattr(import_module(f"rlentropy.{homes[name]}"), name)
    if name in __all__:
        return import_module(f"rlentropy.{name}")
    raise AttributeError(f"module 'rlentropy' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What users want, without the modules that were loaded on the way."""
    return [*__all__, "__version__"]
