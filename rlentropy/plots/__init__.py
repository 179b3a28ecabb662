"""Every picture: for TensorBoard, run folders, comparisons, evaluations and notebooks.

Functions return matplotlib's Figure; `save` writes one as PNG, PDF or SVG. matplotlib itself is
imported when one is drawn: it takes longer than most commands that draw none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlentropy.plots.across import improvement, profiles, scores
    from rlentropy.plots.comparisons import curves, final, heat_maps, reach
    from rlentropy.plots.evaluations import robustness
    from rlentropy.plots.films import video
    from rlentropy.plots.notebooks import (
        gap_curves,
        grid_values,
        occupancy,
        reliability_diagram,
        robustness_curves,
    )
    from rlentropy.plots.preferences import margins, reliability
    from rlentropy.plots.runs import (
        FRAME,
        animation,
        densities,
        density,
        gaps,
        gif,
        occupancies,
        on_screen,
        visits,
    )
    from rlentropy.plots.searches import history, importance, slices
    from rlentropy.plots.style import (
        COLOURS,
        FORMATS,
        MARKERS,
        STYLES,
        finish,
        mark_nominal,
        over_seeds,
        png,
        save,
        shown,
    )

__all__ = [
    "COLOURS",
    "FORMATS",
    "FRAME",
    "MARKERS",
    "STYLES",
    "animation",
    "curves",
    "densities",
    "density",
    "final",
    "finish",
    "gap_curves",
    "gaps",
    "gif",
    "grid_values",
    "heat_maps",
    "history",
    "importance",
    "improvement",
    "margins",
    "mark_nominal",
    "occupancies",
    "occupancy",
    "on_screen",
    "over_seeds",
    "png",
    "profiles",
    "reach",
    "reliability",
    "reliability_diagram",
    "robustness",
    "robustness_curves",
    "save",
    "scores",
    "shown",
    "slices",
    "video",
    "visits",
]

HOMES = {
    **dict.fromkeys(("gap_curves", "grid_values", "occupancy"), "notebooks"),
    **dict.fromkeys(("reliability_diagram", "robustness_curves"), "notebooks"),
    **dict.fromkeys(("improvement", "profiles", "scores"), "across"),
    **dict.fromkeys(("curves", "final", "heat_maps", "reach"), "comparisons"),
    "robustness": "evaluations",
    "video": "films",
    **dict.fromkeys(("margins", "reliability"), "preferences"),
    **dict.fromkeys(("history", "importance", "slices"), "searches"),
    **dict.fromkeys(("FRAME", "animation", "densities", "density", "gaps"), "runs"),
    **dict.fromkeys(("gif", "occupancies", "on_screen", "visits"), "runs"),
}


def __getattr__(name: str) -> Any:
    """Import on first use."""
    if name in __all__:
        return getattr(import_module(f"rlentropy.plots.{HOMES.get(name, 'style')}"), name)
    raise AttributeError(f"module 'rlentropy.plots' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What users want, without what is imported on the way."""
    return [*__all__]
