"""Pictures of arrays, environments and finished runs, for notebooks.

Every function returns the figure, which a notebook shows by itself and `rlentropy.plots.save`
writes. Those that take `ax` draw there instead, and return its figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from rlentropy.errors import InputError, as_numbers, one_of
from rlentropy.intervals.seeds import Statistic, estimate, on_common_grid
from rlentropy.mdp import known_model
from rlentropy.mdp.known import grid_shape
from rlentropy.plots import preferences, style
from rlentropy.plots.runs import COSTS, occupancies
from rlentropy.plots.style import bare, canvas, colour_bar, finish, round_ticks, shown, styled
from rlentropy.preferences.calibration import reliability_curve
from rlentropy.types import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Where = gymnasium.Env[Any, Any] | tuple[int, int]  # states on a grid: an environment, or its shape
GAPS = {"eval/gap": "gap of the returned policy", "eval/mixture_gap": "gap of the mixture played"}
LEAST_ARROW = 0.02  # probability: less isn't drawn


@styled
def grid_values(
    where: Where,
    V: Any = None,
    pi: Any = None,
    *,
    moves: Any = None,
    label: str = "V",
    title: str = "",
    ax: Any = None,
) -> Figure:
    """Values as a map of a grid, and a policy as arrows on it.

    Args:
        where: an environment whose states are the cells of a grid, row by row, or (rows, columns).
        V: a number for each state, (S,); NaN is grey: a wall, a state that was never visited.
        pi: probabilities of actions, (S, A), as lengths of arrows beside that of the likeliest; or
            actions, (S,). Actions that stay are dots; states that nothing leaves have none.
        moves: how actions go, (A, 2): rows down, columns right; default: by the known model.
        label: what V is, beside its colours.

    Raises:
        InputError: states that are no grid, arrays of other shapes, or directions that nobody told.
    """
    rows, columns = _shape(where)
    S = rows * columns
    if V is None and pi is None:
        raise InputError("V or pi must be given, got neither")
    values = np.zeros(S) if V is None else _numbers("V", V, (S,))
    figure, axes = _place(ax, 0.55 + 2.4 * min(max(rows / columns, 0.3), 1.4))
    shades = style.sequential("viridis" if V is not None else "Greys")
    limits = {} if V is not None else {"vmin": 0.0, "vmax": 1.0}
    image = axes.imshow(np.ma.masked_invalid(values.reshape(rows, columns)), cmap=shades, **limits)
    bare(axes)
    if V is not None:
        colour_bar(figure, image, shown(label), ax=axes)
    if pi is not None:
        chances = _chances(pi, S)
        steps, leaves = _moves(where, moves, chances.shape[1], columns)
        _arrows(axes, chances, steps, leaves & np.isfinite(values), columns)
    return _done(figure, axes, ax, title=title)


def occupancy(where: Where | None, d: Any, optimal: Any = None, *, title: str = "") -> Figure:
    """How often each state is visited, beside how often it is by the optimum.

    Args:
        where: the grid, as in `grid_values`; None: states without one, as lines.
        d: occupancies or counts, (S,), (S, A) or (H, S, A); shown as shares.
        optimal: those to compare with.

    Raises:
        InputError: arrays of other shapes, negative numbers, or nothing but zeros.
    """
    shape = None if where is None else _shape(where)
    parts = {"visited": _shares("d", d)}
    if optimal is not None:
        parts["optimal"] = _shares("optimal", optimal)
    sizes = {part.size for part in parts.values()}
    if len(sizes) > 1 or (shape is not None and sizes != {shape[0] * shape[1]}):
        wanted = "one size" if shape is None else f"{shape[0]} x {shape[1]} states"
        raise InputError(f"d and optimal must be of {wanted}, got {sorted(sizes)} states")
    return occupancies(parts, shape, title)


@styled
def gap_curves(
    runs: Any,
    tag: str = "eval/gap",
    *,
    statistic: Statistic = "mean",
    ylabel: str = "",
    title: str = "",
    ax: Any = None,
) -> Figure:
    """Learning curves of runs, the mean and a 95 % band over the seeds of each label.

    Args:
        runs: what `rlentropy.load_run` returns, one or several, or lists of them by name.
        tag: which of their metrics; a gap has two logarithmic axes.

    Raises:
        InputError: no runs, or one without the tag.
    """
    one_of("statistic", statistic, ("mean", "iqm"))
    groups = _groups(runs)
    first = next(iter(groups.values()))[0]
    figure, axes = _place(ax, 2.2)
    axes.set(xscale="log", xlabel=COSTS.get(first.axis, first.axis))
    words = GAPS.get(tag) or tag.removeprefix("eval/").replace("_", " ")
    unit = " (nats)" if tag in GAPS and getattr(first, "summary", {}).get("objective") else ""
    axes.set_ylabel(shown(ylabel or words + unit))
    for k, (name, members) in enumerate(groups.items()):
        steps, values = on_common_grid([_curve(run, tag) for run in members])
        band = estimate(values, statistic, np.random.default_rng(0))
        style.line(axes, k, steps, band, name)
    if tag.endswith("gap"):
        axes.set_yscale("log", nonpositive="mask")
        round_ticks(axes.yaxis)
    round_ticks(axes.xaxis)
    note = style.over_seeds(statistic, [len(members) for members in groups.values()])
    return _done(figure, axes, ax, note, title)


@styled
def robustness_curves(
    values: Any,
    scores: Mapping[str, Any],
    *,
    nominal: float | None = None,
    xlabel: str = "",
    ylabel: str = "return",
    title: str = "",
    ax: Any = None,
) -> Figure:
    """Scores of policies along a changed parameter, the mean and a 95 % band over seeds.

    Args:
        values: of the parameter, (K,), increasing.
        scores: by name, (n, K) of n seeds, or (K,) of one.
        nominal: the value that policies were trained for, marked by a dashed line.

    Raises:
        InputError: arrays of other shapes, or no scores.
    """
    x = as_numbers(values, "values", "(K,)")
    if x.ndim != 1 or not x.size or (np.diff(x) <= 0).any():
        raise InputError(f"values must be (K,) and increase, got shape {x.shape}")
    if not isinstance(scores, Mapping) or not scores:
        raise InputError(f"scores must be arrays by name, got {type(scores).__name__}")
    figure, axes = _place(ax, 2.2)
    axes.set(xlabel=shown(xlabel), ylabel=shown(ylabel))
    if nominal is not None:
        axes.axvline(nominal, color="0.4", ls=(0, (4, 3)), lw=1.0, zorder=0)
    seeds = []
    for k, (name, given) in enumerate(scores.items()):
        y = np.atleast_2d(as_numbers(given, f"scores[{name!r}]", "(n, K) or (K,)"))
        if y.ndim != 2 or y.shape[1] != x.size or not len(y):
            raise InputError(f"scores[{name!r}] must be (n, {x.size}), got {np.shape(given)}")
        style.line(axes, k, x, estimate(y, "mean", np.random.default_rng(0)), str(name))
        seeds.append(len(y))
    marked = "" if nominal is None else f"; dashed: nominal, {nominal:g}"
    return _done(figure, axes, ax, style.over_seeds("mean", seeds) + marked, title)


def reliability_diagram(predictions: Any, *, title: str = "") -> Figure:
    """How often what was predicted with probability p came true, over the density of p.

    Args:
        predictions: p (n,) in [0, 1] and what came true, y (n,) of 0 and 1 (or 1/2, undecided): a
            pair, or pairs by name.

    Raises:
        InputError: other shapes or numbers.
    """
    pairs = predictions if isinstance(predictions, Mapping) else {"predictions": predictions}
    curves = []
    for name, pair in pairs.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(f"predictions must be pairs (p, y), got {type(pair).__name__}")
        curves.append((str(name), reliability_curve(*pair, symmetric=False)))
    return preferences.reliability(curves, title)


# ---------------------------------------------------------------- axes


def _place(ax: Any, height: float) -> tuple[Any, Any]:
    if ax is not None:
        return ax.figure, ax
    figure, ((axes,),) = canvas(height=height)
    return figure, axes


def _done(figure: Any, axes: Any, ax: Any, note: str = "", title: str = "") -> Figure:
    """Legend, note and title: of a figure of our own around the axes, else in them."""
    if ax is None:
        return finish(figure, axes, note, title=title)
    style.tidy(axes, shown(title))
    if axes.get_legend_handles_labels()[1]:
        axes.legend()
    result: Figure = figure
    return result


# ---------------------------------------------------------------- checks of what is given


def _shape(where: Any) -> tuple[int, int]:
    if isinstance(where, gymnasium.Env):
        size = getattr(where.observation_space, "n", None)
        shape = None if size is None else grid_shape(where, int(size))
        if shape is None:
            raise InputError(
                "where must be an environment whose states are the cells of a grid, or "
                f"(rows, columns), got {where}"
            )
        return shape
    whole = isinstance(where, tuple | list) and len(where) == 2
    if not whole or not all(isinstance(n, int | np.integer) and n > 0 for n in where):
        raise InputError(f"where must be an environment or (rows, columns), got {where!r}")
    return int(where[0]), int(where[1])


def _numbers(name: str, given: Any, shape: tuple[int, ...]) -> Array:
    numbers: Array = as_numbers(given, name, str(shape))
    if numbers.shape != shape:
        raise InputError(f"{name} must be {shape}, got shape {numbers.shape}")
    return numbers


def _shares(name: str, given: Any) -> Array:
    """Shares of states, (S,), of occupancies or counts (S,), (S, A) or (H, S, A)."""
    d = as_numbers(given, name, "(S,), (S, A) or (H, S, A)")
    if d.ndim == 3:
        d = d.sum(0)
    if d.ndim == 2:
        d = d.sum(1)
    if d.ndim != 1 or not d.size:
        raise InputError(f"{name} must be (S,), (S, A) or (H, S, A), got shape {np.shape(given)}")
    if not (np.isfinite(d).all() and (d >= 0).all() and d.sum() > 0):
        raise InputError(f"{name} must be >= 0 and not all 0, got {d.min():g} to {d.max():g}")
    shares: Array = d / d.sum()
    return shares


def _chances(pi: Any, S: int) -> Array:
    """Probabilities of actions, (S, A), also of actions (S,)."""
    given = as_numbers(pi, "pi", f"({S}, A) or ({S},)")
    if given.shape == (S,) and (given == given.astype(np.int64)).all() and given.min() >= 0:
        return np.asarray(np.eye(int(given.max()) + 1)[given.astype(np.int64)])
    if given.ndim != 2 or len(given) != S:
        way = ", one stage at a time" if given.ndim == 3 else ""
        raise InputError(f"pi must be ({S}, A) or ({S},){way}, got shape {given.shape}")
    if (given < 0).any() or not np.allclose(given.sum(1), 1.0, atol=1e-6):
        raise InputError(
            f"pi must be probabilities of actions, got sums up to {given.sum(1).max()}"
        )
    chances: Array = given
    return chances


def _moves(where: Any, moves: Any, A: int, columns: int) -> tuple[Array, Any]:
    """How actions go, (A, 2), each of length 1 or 0; and which states something leaves, (S,)."""
    mdp = known_model(where) if isinstance(where, gymnasium.Env) else None
    leaves: Any = True
    if mdp is not None:
        S = mdp.num_states
        places = np.stack(np.divmod(np.arange(S), columns), axis=1).astype(float)  # (S, 2)
        mass = np.asarray(mdp.P.sum(axis=1)).reshape(S, -1, 1)
        gone = (mdp.P @ places).reshape(S, -1, 2) - mass * places[:, None]  # (S, A, 2)
        leaves = np.abs(gone).max((1, 2)) > 1e-9
    if moves is not None:
        steps = as_numbers(moves, "moves", "(A, 2)")
        if steps.ndim != 2 or steps.shape[1] != 2 or len(steps) < A:
            raise InputError(f"moves must be ({A}, 2), got shape {steps.shape}")
    elif mdp is not None:
        steps = np.median(gone[leaves], axis=0) if leaves.any() else np.zeros((A, 2))
    else:
        raise InputError("moves must be (A, 2) where no model tells how actions go, got none")
    lengths = np.linalg.norm(steps, axis=1, keepdims=True)
    return np.where(lengths > 0.05, steps / np.maximum(lengths, 1e-12), 0.0), leaves


def _arrows(axes: Any, chances: Array, steps: Array, drawn: Any, columns: int) -> None:
    """An arrow for each action, as long as it is probable beside the likeliest; dots stay."""
    use = (chances > LEAST_ARROW) & np.broadcast_to(drawn, len(chances))[:, None]
    states, actions = np.nonzero(use)
    y, x = np.divmod(states, columns)
    size = 0.45 * (chances / chances.max(axis=1, keepdims=True))[states, actions]
    down, right = steps[actions].T
    stays = (down == 0.0) & (right == 0.0)
    go = ~stays
    outline: dict[str, Any] = {"facecolor": "black", "edgecolor": "white", "linewidth": 0.25}
    axes.quiver(
        x[go], y[go], (right * size)[go], (down * size)[go], angles="xy", scale_units="xy",
        scale=1.0, width=0.08, units="xy", headwidth=3.2, headlength=3.0, headaxislength=2.8,
        minlength=0.1, minshaft=0.1, **outline,
    )  # fmt: skip
    axes.scatter(x[stays], y[stays], s=30.0 * size[stays], **outline)


# ---------------------------------------------------------------- runs


def _groups(runs: Any) -> dict[str, list[Any]]:
    """Runs by the name of their line."""
    if isinstance(runs, Mapping):
        groups = {str(name): _listed(part) for name, part in runs.items()}
    else:
        groups = {}
        for run in _listed(runs):
            groups.setdefault(str(run.label), []).append(run)
    if not groups or not all(groups.values()):
        raise InputError("runs must hold one run or more of each name, got none")
    return groups


def _listed(runs: Any) -> list[Any]:
    found = list(runs) if isinstance(runs, Sequence) and not isinstance(runs, str) else [runs]
    for run in found:
        if not hasattr(run, "metrics") or not hasattr(run, "label"):
            kind = type(run).__name__
            raise InputError(f"runs must be what rlentropy.load_run returns, got {kind}")
    return found


def _curve(run: Any, tag: str) -> tuple[Array, Array]:
    if tag not in run.metrics:
        known = ", ".join(sorted(name for name in run.metrics if name.startswith("eval/")))
        raise InputError(f"tag must be a metric of every run ({known}), got {tag!r} of {run!r}")
    steps, values = run.metrics[tag]
    use = steps > 0  # the axis is logarithmic
    return steps[use], values[use]
