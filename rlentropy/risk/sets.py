"""Uncertainty sets (robust §1.4, §1.5): nature may play any q inside for free."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from rlentropy.errors import UNIT, InputError, as_numbers
from rlentropy.risk import rows, tilts
from rlentropy.risk.base import SLACK, Ball, Interval, Measure, check, count
from rlentropy.risk.rows import Block
from rlentropy.types import Array, Mask

NOTHING = 1e-33  # KL radius up to which √(2δ Var V) is lost in the rounding of E V


@dataclass(frozen=True)
class Nominal(Measure):
    """No robustness: W = E_p V."""

    priced = False

    def error(self, low: Any, high: Any, count: Any) -> Any:
        """That of a sum."""
        return UNIT * (count + 2.0) * np.maximum(np.abs(low), np.abs(high))

    def _worst(self, block: Block) -> Array:
        return block.p

    def _excess(self, q: Array, p: Array, state: Any, index: Any, ok: Mask) -> Array:
        return np.asarray(np.abs(q - p).max(1, keepdims=True) - SLACK)


@dataclass(frozen=True)
class WorstCase(Measure):
    """Any q on the support at no cost: W = min V there."""

    support: Any = "nominal"
    priced, one_outsider, units = False, True, 4.0

    def compiled(self) -> tuple[str, tuple[float, ...]] | None:
        return "worst-case", ()

    def _worst(self, block: Block) -> Array:
        return tilts.point_mass(block.x, block.ok)

    def _excess(self, q: Array, p: Array, state: Any, index: Any, ok: Mask) -> Array:
        return np.zeros((len(q), 1))


@dataclass(frozen=True)
class Contamination(Measure):
    """q = (1 - ε) p + ε u with u free on the support: W = (1 - ε) E_p V + ε min V."""

    fraction: float  # ε in [0, 1]
    support: Any = "full"
    priced, one_outsider, units = False, True, 4.0

    def __post_init__(self) -> None:
        check("fraction", self.fraction, 0.0, 1.0)

    def compiled(self) -> tuple[str, tuple[float, ...]] | None:
        return "contamination", (float(self.fraction),)

    def _worst(self, block: Block) -> Array:
        worst = tilts.point_mass(block.x, block.ok)
        return np.asarray((1.0 - self.fraction) * block.p + self.fraction * worst)

    def _excess(self, q: Array, p: Array, state: Any, index: Any, ok: Mask) -> Array:
        short = ((1.0 - self.fraction) * p * (1.0 - SLACK) - q).max(1, keepdims=True)
        return np.asarray(short - 1e-12)


@dataclass(frozen=True)
class MeanCVaR(Interval):
    """(1 - w) E_p V + w CVaR_α V: (1 - w) p <= q <= (1 - w + w/α) p."""

    cvar_weight: float  # w in [0, 1]
    level: float  # α in (0, 1]
    units = 4.0

    def __post_init__(self) -> None:
        check("cvar_weight", self.cvar_weight, 0.0, 1.0)
        check("level", self.level, 0.0, 1.0, above=True)

    def compiled(self) -> tuple[str, tuple[float, ...]] | None:
        return "mean-cvar", (float(self.cvar_weight), float(self.level))

    def _bounds(self, p: Array, ok: Any, state: Any, index: Any) -> tuple[Array, Array]:
        w = self.cvar_weight
        return (1.0 - w) * p, (1.0 - w) * p + w * np.minimum(p / self.level, 1.0)


def CVaR(level: float) -> MeanCVaR:
    """The mean of the worst share α of outcomes: q <= p / α."""
    return MeanCVaR(1.0, level)


@dataclass(frozen=True)
class KLBall(Ball):
    """KL(q ‖ p) <= δ, nature's distribution first."""

    radius: float  # δ >= 0, nats
    units = 64.0  # at radii of 1e-6

    def compiled(self) -> tuple[str, tuple[float, ...]] | None:
        return "kl-ball", (float(self.radius) if self.radius > NOTHING else 0.0,)

    def _worst(self, block: Block) -> Array:
        return tilts.kl_ball(block.p, block.x, self._radii(block))

    def _distance(self, q: Array, p: Array, state: Any) -> Array:
        return tilts.kl(q, p)


@dataclass(frozen=True)
class BurgBall(Ball):
    """KL(p ‖ q) <= δ, the nominal distribution first."""

    radius: float  # δ >= 0, nats
    support: Any = "nominal"
    anonymous, units = True, 32.0

    def _worst(self, block: Block) -> Array:
        return tilts.burg_ball(block.p, block.x, block.ok, self._radii(block))

    def _distance(self, q: Array, p: Array, state: Any) -> Array:
        inner = tilts.f_divergence(tilts.cressie_read(0.0), q, p)
        return np.asarray(inner + tilts.total(np.where(p > 0.0, 0.0, q)))


@dataclass(frozen=True)
class Chi2Ball(Ball):
    """Σ (q - p)² / p <= δ."""

    radius: float  # δ >= 0
    anonymous, units = True, 64.0  # at radii of 1e-6

    def _worst(self, block: Block) -> Array:
        return tilts.quadratic_ball(block.p, block.x, self._radii(block))

    def _distance(self, q: Array, p: Array, state: Any) -> Array:
        return tilts.chi2(q, p)


@dataclass(frozen=True)
class TVBall(Ball):
    """½ ‖q - p‖₁ <= δ."""

    radius: float  # δ >= 0
    support: Any = "nominal"
    one_outsider, units = True, 4.0

    def compiled(self) -> tuple[str, tuple[float, ...]] | None:
        return "tv-ball", (min(float(self.radius), 1.0),)

    def _worst(self, block: Block) -> Array:
        return tilts.shift(block.p, block.x, block.ok, self._radii(block))

    def _distance(self, q: Array, p: Array, state: Any) -> Array:
        return 0.5 * tilts.total(np.abs(q - p))


@dataclass(frozen=True)
class L1Ball(Ball):
    """‖q - p‖₁ <= ξ: the TV ball of half the radius."""

    radius: float  # ξ >= 0
    support: Any = "nominal"
    one_outsider, units = True, 4.0

    def compiled(self) -> tuple[str, tuple[float, ...]] | None:
        return "tv-ball", (min(0.5 * float(self.radius), 1.0),)

    def _worst(self, block: Block) -> Array:
        return tilts.shift(block.p, block.x, block.ok, 0.5 * self._radii(block))

    def _distance(self, q: Array, p: Array, state: Any) -> Array:
        return tilts.total(np.abs(q - p))


@dataclass(frozen=True, eq=False)
class WeightedL1Ball(Ball):
    """Σ w |q - p| <= ξ."""

    radius: float  # ξ >= 0
    weights: Any = field(repr=False)  # (S,), > 0
    support: Any = "nominal"
    reach = None
    units = 32.0

    def __post_init__(self) -> None:
        super().__post_init__()
        w = as_numbers(self.weights, "weights", "(S,)")
        if w.ndim != 1 or not (np.isfinite(w) & (w > 0.0)).all():
            raise InputError(f"weights must be (S,), > 0 and finite, got {self.weights}")
        object.__setattr__(self, "weights", w)

    def _at(self, state: Any, shape: tuple[int, ...]) -> Array:
        if state.max() >= self.weights.size:
            raise InputError(f"weights must be (S,), got {self.weights.shape}")
        return np.broadcast_to(self.weights[state], shape)

    def _worst(self, block: Block) -> Array:
        w = self._at(block.state, block.p.shape)
        respond = tilts.weighted_response(block.p, block.x, block.ok, w)
        return tilts.on_budget(respond, 0.5 / float(self.weights.min()), self._radii(block))

    def _distance(self, q: Array, p: Array, state: Any) -> Array:
        return tilts.total(self._at(state, p.shape) * np.abs(q - p))

    def _unit(self) -> float:
        return float(self.weights.max())


@dataclass(frozen=True)
class LinfBall(Interval):
    """|q_i - p_i| <= ξ for every state of the support."""

    radius: float  # ξ >= 0
    support: Any = "nominal"
    units = 4.0

    def __post_init__(self) -> None:
        check("radius", self.radius, 0.0)

    def compiled(self) -> tuple[str, tuple[float, ...]] | None:
        return "linf-ball", (min(float(self.radius), 1.0),)

    @property
    def reach(self) -> int | None:  # type: ignore[override]
        """Off-support states take ξ each, and at most 1 in all."""
        return math.ceil(1.0 / self.radius) + 1 if self.radius > 1e-6 else None

    def _bounds(self, p: Array, ok: Any, state: Any, index: Any) -> tuple[Array, Array]:
        upper = np.where(ok, np.minimum(p + self.radius, 1.0), 0.0)
        return np.maximum(p - self.radius, 0.0), upper


@dataclass(frozen=True, eq=False)
class IntervalBall(Interval):
    """lower <= q <= upper, whatever p is, on the support.

    The bounds are (S,), or (R, S) for the R rows of p in order. A row without a distribution
    between its bounds is refused.
    """

    lower: Any = field(repr=False)
    upper: Any = field(repr=False)
    support: Any = "nominal"
    reach = None
    units = 4.0

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            bound = as_numbers(getattr(self, name), name, "(S,) or (R, S)")
            bound = bound if bound.ndim <= 1 else bound.reshape(-1, bound.shape[-1])
            if bound.ndim == 0 or not ((bound >= 0.0) & (bound <= 1.0)).all():
                raise InputError(f"{name} must be (S,) or (R, S), in [0, 1], got {bound}")
            object.__setattr__(self, name, bound)

    def _bounds(self, p: Array, ok: Any, state: Any, index: Any) -> tuple[Array, Array]:
        for name in ("lower", "upper"):
            shape = getattr(self, name).shape
            if state.max() >= shape[-1] or (len(shape) == 2 and index.max() >= shape[0]):
                raise InputError(f"{name} must be (S,) or (R, S) to match p, got {shape}")
        lower, upper = (
            np.where(ok, b[state] if b.ndim == 1 else b[index[:, None], state], 0.0)
            for b in (self.lower, self.upper)
        )
        return lower, upper

    def _worst(self, block: Block) -> Array:
        lower, upper = self._bounds(block.p, block.ok, block.state, block.index)
        room = (lower.sum(1) <= 1.0 + SLACK) & (upper.sum(1) >= 1.0 - SLACK)
        if not (room & (lower <= upper).all(1)).all():
            raise InputError(
                "lower and upper must leave room for a distribution on the support, got a row "
                "without"
            )
        return tilts.fill(lower, upper, block.x, block.ok)

    def of_rows(self, index: Any) -> Measure:
        by_row = {
            name: bound[index]
            for name in ("lower", "upper")
            if (bound := getattr(self, name)).ndim == 2
        }
        whole: Any = super().of_rows(index)
        return cast(Measure, replace(whole, **by_row))

    def _required(self, S: int) -> Any:
        """States of the support where q > 0 is required, in a sparse row or not."""
        if rows.is_sparse(self.support):
            return super()._required(S)  # they are stored
        listed = rows.candidates(self.support, S)
        wanted = np.zeros(S, bool) if listed is None else listed & (self.lower > 0.0)
        return np.flatnonzero(wanted if wanted.ndim == 1 else wanted.any(0))


@dataclass(frozen=True)
class L2Ball(Ball):
    """‖q - p‖₂ <= ξ with q >= 0, exactly."""

    radius: float  # ξ >= 0
    support: Any = "nominal"
    reach = None
    anonymous, units = True, 8.0

    def _worst(self, block: Block) -> Array:
        return tilts.euclidean_ball(block.p, block.x, block.ok, self._radii(block))

    def _distance(self, q: Array, p: Array, state: Any) -> Array:
        return np.sqrt(tilts.total((q - p) ** 2))


class Scenarios(Measure):
    """The least of finitely many models, or of their convex hull; p itself does not matter.

    Args:
        models: K kernels, each (S,) or like p (sparse where p is). List p among them if it is to
            be a scenario.
    """

    priced, units = False, 4.0

    def __init__(self, models: Any) -> None:
        self.models = [rows.distributions(model, "models") for model in models]
        if not self.models:
            raise InputError("models must hold at least one model, got none")

    def _expectations(self, p: Any, V: Array) -> Array:
        """E V under each scenario, (K, ...)."""
        S, low = p.shape[-1], V.min()
        for model in self.models:
            if model.shape not in ((S,), p.shape):
                raise InputError(f"models must be (S,) or like p {p.shape}, got {model.shape}")
        means = []
        for model in self.models:
            mean = (model * (V - low)).sum(-1) if V.ndim > 1 else model @ (V - low)
            means.append(low + np.broadcast_to(mean, p.shape[:-1]))
        return np.stack(means)

    def of_rows(self, index: Any) -> Scenarios:
        def cut(model: Any) -> Any:
            if rows.is_sparse(model):
                return model if model.shape[0] == 1 else model[index]
            return model if model.ndim == 1 else model.reshape(-1, model.shape[-1])[index]

        return Scenarios([cut(model) for model in self.models])

    def expectation(self, p: Any, V: Any) -> Array:
        """min over the scenarios of E V."""
        return np.asarray(self._expectations(*self._inputs(p, V)).min(0))

    def worst_case(self, p: Any, V: Any) -> Any:
        """The first scenario of least E V, row by row."""
        p, V = self._inputs(p, V)
        choice = self._expectations(p, V).argmin(0)
        if not rows.is_sparse(p):
            q = np.empty(p.shape)
            for k, model in enumerate(self.models):
                dense = model.toarray() if rows.is_sparse(model) else model
                q[choice == k] = np.broadcast_to(dense, p.shape)[choice == k]
            return q
        import scipy.sparse as sp

        stacked = sp.vstack([sp.csr_array(m) for m in self.models], "csr")
        sizes = [m.shape[0] if m.ndim == 2 else 1 for m in self.models]
        start = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        row = np.where(np.array(sizes)[choice] > 1, np.arange(p.shape[0]), 0)
        return stacked[start[choice] + row]

    def penalty(self, q: Any, p: Any) -> Array:
        """0 in the convex hull of the scenarios, else inf: nonnegative least squares a row."""
        from scipy.optimize import nnls

        q, p = rows.distributions(q, "q"), rows.distributions(p, "p")
        if q.shape != p.shape:
            raise InputError(f"q must be like p {p.shape}, got {q.shape}")
        S = p.shape[-1]

        def row(m: Any, i: int) -> Array:
            if rows.is_sparse(m):
                return np.asarray(m[[i]].toarray()[0])
            return np.asarray(m if m.ndim == 1 else m.reshape(-1, S)[i])

        D = np.empty(count(p))
        for i in range(D.size):
            hull = np.stack([row(m, i) for m in self.models], axis=1)
            left = nnls(hull, row(q, i))[1]  # weights sum to 1 as all columns and q do
            D[i] = 0.0 if left <= SLACK else np.inf
        return D.reshape(p.shape[:-1])
