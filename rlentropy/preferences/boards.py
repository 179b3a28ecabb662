"""Segments of tables in characters: the way over the board where states are cells of a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from gymnasium.spaces import Discrete

from rlentropy.mdp import known
from rlentropy.preferences.export import Describe, as_text
from rlentropy.preferences.segments import Segments
from rlentropy.types import Env

START, PASSED, HERE = "o", "*", "@"


def shown_states(env: Env, segment: Segments) -> list[int]:
    """States of a table's segment, (length + 1,), as its environment numbers them.

    A model may have states behind those of the environment, for steps that end where others go on.
    They are shown as where the step led, or, where that might be several, as where it began.
    """
    space, table = env.observation_space, known.attribute(env.unwrapped, "P")
    states: list[int] = segment.states[0, : int(segment.lengths[0]) + 1].tolist()
    if len(states) > 1 and isinstance(space, Discrete) and states[-1] >= space.n:
        outcomes = table[states[-2]][int(segment.actions[0, len(states) - 2])] if table else ()
        ends = {int(successor) for p, successor, _, ended in outcomes if ended and p > 0.0}
        states[-1] = ends.pop() if len(ends) == 1 else states[-2]
    return states


def board(env: Env, states: Sequence[int]) -> list[str]:
    """The rows of a grid with the way through some states; none where states are no cells."""
    n = int(getattr(env.observation_space, "n", 0))
    if (shape := known.grid_shape(env, n)) is None:
        return []
    cells = np.full(shape, ".", "U1")
    letters = known.attribute(env.unwrapped, "desc")
    if getattr(letters, "dtype", None) == np.dtype("S1") and letters.shape == shape:
        cells = letters.astype("U1")
    cells.flat[list(states)] = PASSED
    cells.flat[states[0]] = START
    cells.flat[states[-1]] = HERE
    return ["".join(row) for row in cells.tolist()]


def describing(make: Callable[[], Env]) -> Describe:
    """Describes segments, those of tables with their board.

    Args:
        make: the environment; called for the first table, and where it fails there is no board.
    """
    found: list[Env | None] = []

    def describe(segment: Segments) -> str:
        text = as_text(segment)
        if segment.states.ndim != 2:
            return text
        if not found:
            try:
                found.append(make())
            except Exception:  # whatever a foreign constructor raises: the text says it all
                found.append(None)
        if (env := found[0]) is None:
            return text
        start, _, steps = text.partition("\n")
        return "\n".join([start, *board(env, shown_states(env, segment)), steps])

    return describe
