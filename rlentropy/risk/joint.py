"""s-rectangular uncertainty: one budget for all actions of a state (robust §1.6).

Nature picks the distributions {q_a} of a state together, before the action is drawn, so a policy
may gain by randomising:

    l1:  Σ_a ‖q_a - p_a‖₁ <= radius
    l2:  sqrt(Σ_a ‖q_a - p_a‖₂²) <= radius, the norm of the stacked vector, with q >= 0 exactly

Along each action's frontier, from p_a to all mass on the argmin of V, the budget spent is piecewise
linear (l1) or quadratic (l2) in the value u_a = r_a + γ E_{q_a} V. The frontiers of a state are
merged at their breakpoints, so every answer is exact to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rlentropy.errors import InputError, as_numbers
from rlentropy.risk import rows
from rlentropy.risk.base import check, csr
from rlentropy.types import Array, Count, in_short

if TYPE_CHECKING:
    import scipy.sparse as sp

NORMS = ("l1", "l2")


@dataclass(frozen=True)
class JointBackup:
    """A robust Bellman backup at every state."""

    value: Array  # (S,)
    pi: Array  # (S, A)
    kernel: sp.csr_array  # (S*A, S), nature's answer to pi

    __repr__ = in_short


@dataclass(frozen=True)
class SRectangular:
    """A budget on the distance of all q_a of a state together from their p_a.

    The q_a may have mass where ``support`` says: "nominal", "full" or candidates, as for the
    measures. l2 with many candidates takes time and memory of order (successors + candidates)² and
    (successors + candidates) a row; l1 needs but the lowest candidate.

    Raises:
        ValueError: a negative radius, an unknown norm or support.
    """

    radius: float  # >= 0
    norm: str = "l1"
    support: Any = "nominal"

    def __post_init__(self) -> None:
        check("radius", self.radius, 0.0)
        if self.norm not in NORMS:
            raise InputError(f"norm must be {' or '.join(NORMS)}, got {self.norm!r}")
        if isinstance(self.support, str):
            rows.candidates(self.support, 1)

    def solve(self, p: Any, r: Any, V: Any, gamma: float, pi: Any = None) -> JointBackup:
        """The backup r + γ E_q V of the best randomised policy, or of the given one.

            pi None:   max_pi min_q Σ_a pi_a (r_a + γ E_{q_a} V), a saddle point: q is a best answer
                       to pi, and pi to q (§1.6)
            else:      min_q Σ_a pi_a (r_a + γ E_{q_a} V)

        Args:
            p: nominal kernel, an array (S, A, S) or scipy.sparse (S*A, S).
            r: rewards, (S, A).
            V: values, (S,).
            gamma: discount, in [0, 1].
            pi: policy, (S, A).

        Raises:
            ValueError: shapes disagree, a row of p or pi is no distribution, r or V is not finite,
                or gamma is out of range.
        """
        p, r, V = _inputs(p, r, V)
        check("gamma", gamma, 0.0, 1.0)
        if pi is not None:
            pi = rows.distributions(pi, "pi")
            if pi.shape != r.shape:
                raise InputError(f"pi must be (S, A) = {r.shape}, got {pi.shape}")
        value, policy, parts = np.empty(len(r)), np.empty(r.shape), []
        for block in _blocks(self._admissible(p, V), r, V, gamma):
            s = block.index
            if pi is None:
                optimum = _l1_optimum if self.norm == "l1" else _l2_optimum
                scaled, policy[s], q = optimum(block, self.radius)
                value[s] = block.floor + block.span * scaled
            else:
                response = _l1_response if self.norm == "l1" else _l2_response
                policy[s], q = pi[s], response(block, pi[s], self.radius)
                gain = block.least + (q * block.x).sum(2)
                value[s] = block.floor + block.span * (pi[s] * gain).sum(1)
            at = np.nonzero(q)
            parts.append((q[at], s[at[0]] * r.shape[1] + at[1], block.state[at]))
        entries, row, column = (np.concatenate(part) for part in zip(*parts, strict=True))
        return JointBackup(value, policy, csr(entries, row, column, p.shape))

    def listing(self, listed: Any, S: int) -> SRectangular:
        """The set with more successors admissible: scipy.sparse (S*A, S) of bool, or None."""
        if listed is None:
            return self
        return replace(self, support=rows.joined(self.support, listed, S))

    def _admissible(self, p: Any, V: Array) -> Any:
        """p with a stored entry, 0 or not, exactly where q may have mass."""
        R, S = p.shape
        if rows.is_sparse(self.support):
            return rows.storing(p, self.support)
        listed = rows.candidates(self.support, S)
        if listed is None:
            return p
        if listed.ndim == 2 and listed.shape != p.shape:
            raise InputError(f"support mask must be (S,) or like p {p.shape}, got {listed.shape}")
        if listed.ndim == 2:
            wanted = np.flatnonzero(listed)
        else:
            states = np.flatnonzero(listed)
            if self.norm == "l1":  # mass moves to the lowest alone
                states = states[np.argsort(V[states], kind="stable")[:1]]
            wanted = (np.arange(R)[:, None] * S + states).ravel()
        return rows.with_zeros(p, wanted)


@dataclass(frozen=True)
class _Block:
    """G states whose A rows are padded to n successors. Values are scaled: u = floor + span u'."""

    p: Array  # (G, A, n), each row sums to 1
    x: Array  # (G, A, n), γ (V - least admissible V); 0 in padding
    ok: Any  # (G, A, n), False in padding
    state: Count  # (G, A, n)
    least: Array  # (G, A), value of all mass on the argmin, <= 0
    index: Count  # (G,)
    floor: Array  # (G,), max_a r_a + γ min V: nature can't go below
    span: Array  # (G,)


def _inputs(p: Any, r: Any, V: Any) -> tuple[Any, Array, Array]:
    import scipy.sparse as sp

    p = rows.distributions(p, "p")
    if not rows.is_sparse(p):
        if p.ndim != 3 or p.shape[0] != p.shape[2]:
            raise InputError(f"p must be (S, A, S), or scipy.sparse (S*A, S), got {p.shape}")
        p = p.reshape(-1, p.shape[2])
    p = sp.csr_array(p)
    p.eliminate_zeros()
    r = as_numbers(r, "r", "(S, A)")
    R, S = p.shape
    if R % S or r.shape != (S, R // S):
        raise InputError(f"r must be (S, A) to match p {p.shape}, got {r.shape}")
    if not np.isfinite(r).all():
        raise InputError(f"r must be finite, got {r[~np.isfinite(r)][0]}")
    return p, r, rows.values(V, p)


def _blocks(p: Any, r: Array, V: Array, gamma: float) -> Iterator[_Block]:
    """The states, those with rows of about the same length together."""
    A = r.shape[1]
    counts = np.diff(p.indptr).astype(np.int64)
    longest = counts.reshape(-1, A).max(1)
    width = np.where(longest <= 8, longest, 1 << np.ceil(np.log2(longest)).astype(int))
    for n in np.unique(width):
        members = np.flatnonzero(width == n)
        step = max(1, rows.ENTRIES // (A * int(n)))
        for begin in range(0, members.size, step):
            index = members[begin : begin + step]
            row = index[:, None] * A + np.arange(A)
            ok = np.arange(n) < counts[row, None]
            at = np.where(ok, p.indptr[row][:, :, None].astype(np.int64) + np.arange(n), 0)
            state, here = p.indices[at].astype(np.int64), np.where(ok, p.data[at], 0.0)
            low = np.where(ok, V[state], np.inf).min(2)
            x = np.where(ok, gamma * (V[state] - low[:, :, None]), 0.0)
            span = x.max((1, 2))
            span = np.where(span > 0.0, span, 1.0)
            least = r[index] + gamma * low
            floor = least.max(1)
            yield _Block(
                here / here.sum(2, keepdims=True),
                x / span[:, None, None],
                ok,
                state,
                (least - floor[:, None]) / span[:, None],
                index,
                floor,
                span,
            )


def _l1_optimum(block: _Block, radius: float) -> tuple[Array, Array, Array]:
    """Value (G,), policy (G, A) and kernel (G, A, n): the least θ that Σ_a proj_a(θ) allows.

    Lowering θ past u_a costs action a 2 / x of budget per unit, x being the highest value that
    still has mass: this derivative is the policy's weight.
    """
    order = np.argsort(-block.x, axis=2, kind="stable")
    x, p = (np.take_along_axis(a, order, 2) for a in (block.x, block.p))
    rest = np.cumsum((p * x)[:, :, ::-1], 2)[:, :, ::-1]  # value once the higher ones are moved
    u = block.least[:, :, None] + rest
    rate = np.where(x > 0.0, 2.0 / np.maximum(x, 1e-290), 0.0)
    start, spent, slope, _ = _merge(u, rate, np.zeros_like(rate), radius)
    left = np.maximum(radius - spent, 0.0)
    theta = np.maximum(start - np.where(slope > 0.0, left / np.where(slope > 0.0, slope, 1), 0), 0)
    passed = np.where(u >= start[:, None, None], rate, 0.0).max(2)
    pi = _normalised(passed, (start > 0.0) & (slope > 0.0), block.least)
    gap = np.maximum(u - theta[:, None, None], 0.0)
    gone = np.where(x > 0.0, np.minimum(gap / np.where(x > 0.0, x, 1.0), p), 0.0)
    return theta, pi, _moved(block, order, gone, radius)


def _l1_response(block: _Block, pi: Array, radius: float) -> Array:
    """Nature's kernel (G, A, n): moves the mass where pi_a (V - min V) is largest."""
    G, A, n = block.p.shape
    worth = (pi[:, :, None] * block.x).reshape(G, A * n)
    order = np.argsort(-worth, axis=1, kind="stable")
    mass = np.take_along_axis(block.p.reshape(G, A * n), order, 1)
    mass = np.where(np.take_along_axis(worth, order, 1) > 0.0, mass, 0.0)
    before = np.cumsum(mass, 1) - mass
    gone = np.empty_like(mass)
    np.put_along_axis(gone, order, np.clip(0.5 * radius - before, 0.0, mass), 1)
    same = np.broadcast_to(np.arange(n), block.p.shape)
    return _moved(block, same, gone.reshape(G, A, n), radius)


def _moved(block: _Block, order: Count, gone: Array, radius: float) -> Array:
    """p less what is gone (in the given order), which the argmin receives."""
    most = 0.5 * radius / np.maximum(gone.sum((1, 2)), 1e-300)
    gone = gone * np.minimum(most, 1.0)[:, None, None]  # rounding may not pass the budget
    out = np.empty_like(gone)
    np.put_along_axis(out, order, gone, 2)
    q = np.maximum(block.p - out, 0.0)
    taker = np.where(block.ok, block.x, np.inf).argmin(2)[:, :, None]
    received = np.take_along_axis(q, taker, 2) + gone.sum(2, keepdims=True)
    np.put_along_axis(q, taker, received, 2)
    return q


@dataclass(frozen=True)
class _Path:
    """q(s) = projection of p - s x on the simplex, in k <= n pieces; a component leaves once.

    On a piece K is the set with mass, v = Σ_K (x - mean_K x)², E_q x falls by v ds and the squared
    distance grows by v d(s²).
    """

    s: Array  # (G, A, k), where the piece begins
    u: Array  # (G, A, k), value there
    distance: Array  # (G, A, k), squared, there
    v: Array  # (G, A, k), 0 once all mass is on the argmin
    leaves: Array  # (G, A, n), the s at which each component becomes 0, inf if never


def _path(block: _Block) -> _Path:
    p, x, K = block.p, block.x, block.ok.copy()
    shape = p.shape
    leaves = np.full(shape, np.inf)
    s, distance = np.zeros(shape[:2]), np.zeros(shape[:2])
    pieces = []
    for _ in range(shape[2]):
        raised, d = _line(p, x, K)
        v = (d * d).sum(2)
        value = np.where(v > 0.0, (np.maximum(raised - s[:, :, None] * d, 0.0) * K * x).sum(2), 0.0)
        pieces.append((s, block.least + value, distance, v))
        if not (v > 0.0).any():
            break
        falling = K & (d > 0.0)
        at = np.where(falling, raised / np.where(falling, d, 1.0), np.inf)
        following = np.maximum(at.min(2), s)
        following = np.where(v > 0.0, following, s)
        leaving = falling & (at <= following[:, :, None])
        leaves = np.where(leaving, following[:, :, None], leaves)
        distance = distance + v * (following - s) * (following + s)
        s, K = following, K & ~leaving
    begin, u, far, slope = (np.stack(part, 2) for part in zip(*pieces, strict=True))
    return _Path(begin, u, far, slope, leaves)


def _line(p: Array, x: Array, K: Any) -> tuple[Array, Array]:
    """q = raised - s d on the components K that have mass."""
    count = K.sum(2, keepdims=True)
    raised = p + np.where(K, 0.0, p).sum(2, keepdims=True) / count
    d = np.where(K, x - np.where(K, x, 0.0).sum(2, keepdims=True) / count, 0.0)
    return raised, d


def _at(block: _Block, path: _Path, s: Array) -> Array:
    """q(s), (G, A, n)."""
    s = np.minimum(s, path.s[:, :, -1])[:, :, None]
    K = block.ok & (path.leaves > s)
    raised, d = _line(block.p, block.x, K)
    q = np.where(K, np.maximum(raised - s * d, 0.0), 0.0)
    return np.where(s > 0.0, q / q.sum(2, keepdims=True), block.p)


def _l2_optimum(block: _Block, radius: float) -> tuple[Array, Array, Array]:
    """Value (G,), policy (G, A) and kernel (G, A, n); the policy's weights are the s_a."""
    path = _path(block)
    bend = np.where(path.v > 0.0, 1.0 / np.maximum(path.v, 1e-290), 0.0)
    start, spent, slope, curve = _merge(path.u, np.zeros_like(bend), bend, radius**2)
    left = np.maximum(radius**2 - spent, 0.0)
    root = slope + np.sqrt(slope**2 + 4.0 * curve * left)
    step = np.where(root > 0.0, 2.0 * left / np.where(root > 0.0, root, 1.0), 0.0)
    theta = np.maximum(start - step, 0.0)
    piece = np.maximum((path.u >= theta[:, None, None]).sum(2, keepdims=True) - 1, 0)
    s0, u0, w0 = (np.take_along_axis(a, piece, 2)[:, :, 0] for a in (path.s, path.u, bend))
    s = s0 + np.maximum(u0 - theta[:, None], 0.0) * w0
    # Where no budget is spent, all s_a are 0 and the limit of their ratios counts.
    weight = np.where((s > 0.0).any(1, keepdims=True), s, w0 * (u0 >= theta[:, None]))
    pi = _normalised(weight, theta > 0.0, block.least)
    return theta, pi, _at(block, path, s)


def _l2_response(block: _Block, pi: Array, radius: float) -> Array:
    """Nature's kernel (G, A, n): s_a = σ pi_a, with the σ that spends the budget."""
    path = _path(block)
    used = pi > 1e-100  # less would not be noticed, and could overflow
    sigma = path.s / np.where(used, pi, 1.0)[:, :, None]

    def spent(at: Array) -> tuple[Array, Array]:
        """Squared distance at σ, and its derivative in σ²."""
        k = np.maximum((sigma <= at[:, None, None]).sum(2, keepdims=True) - 1, 0)
        s0, d0, v0 = (np.take_along_axis(a, k, 2)[:, :, 0] for a in (path.s, path.distance, path.v))
        s = np.maximum(at[:, None] * pi, s0)
        cost = np.where(used, d0 + v0 * (s - s0) * (s + s0), 0.0)
        return cost.sum(1), (v0 * pi**2).sum(1)

    marks = np.sort(np.where(used[:, :, None], sigma, 0.0).reshape(len(pi), -1), 1)
    first, last = np.zeros(len(pi), np.int64), np.full(len(pi), marks.shape[1] - 1)
    for _ in range(marks.shape[1].bit_length()):
        middle = (first + last + 1) // 2
        inside = spent(marks[np.arange(len(pi)), middle])[0] <= radius**2
        first = np.where(inside, middle, first)
        last = np.where(inside, last, np.maximum(middle - 1, first))
    start = marks[np.arange(len(pi)), first]
    cost, slope = spent(start)
    left = np.maximum(radius**2 - cost, 0.0)
    more = left / np.maximum(slope, 1e-290)
    end = marks[np.arange(len(pi)), np.minimum(first + 1, marks.shape[1] - 1)]
    return _at(block, path, np.minimum(np.sqrt(start**2 + more), end)[:, None] * pi)


def _merge(u: Array, rate: Array, bend: Array, budget: float) -> tuple[Array, Array, Array, Array]:
    """The segment of θ on which Σ_a proj_a(θ) reaches the budget, each output (G,).

    Args:
        u: values at which the pieces of each action begin, (G, A, n), descending.
        rate, bend: slope (of a linear proj_a) and second derivative / 2 (of a quadratic one) as θ
            falls through the piece, (G, A, n), nondecreasing while positive.

    Returns:
        The upper end, what is spent there, slope and bend from there on. All are sums of
        nonnegative terms: nothing cancels. Where the floor θ = 0 is within the budget it is the
        upper end.
    """
    G = len(u)
    above = u > 0.0
    level = np.where(above, u, 0.0).reshape(G, -1)
    order = np.argsort(-level, axis=1, kind="stable")

    def jumps(piece: Array) -> Array:
        jump = np.diff(piece, axis=2, prepend=0.0)
        jump = np.where(above, np.maximum(jump, 0.0), 0.0).reshape(G, -1)
        return np.asarray(np.cumsum(np.take_along_axis(jump, order, 1), 1))

    level, curve, step = np.take_along_axis(level, order, 1), jumps(bend), jumps(rate)
    gap = level[:, :-1] - level[:, 1:]
    slope = step.copy()
    slope[:, 1:] += np.cumsum(2.0 * curve[:, :-1] * gap, 1)
    spent = np.zeros_like(level)
    spent[:, 1:] = np.cumsum((slope[:, :-1] + curve[:, :-1] * gap) * gap, 1)
    last = (spent <= budget).sum(1, keepdims=True) - 1
    start, cost, fall, second = (
        np.take_along_axis(a, last, 1)[:, 0] for a in (level, spent, slope, curve)
    )
    return start, cost, fall, second


def _normalised(weight: Array, mixed: Any, least: Array) -> Array:
    """Policy from weights; on the floor, the action that nature can't push below it."""
    total = weight.sum(1, keepdims=True)
    pi = weight / np.where(total > 0.0, total, 1.0)
    sure = np.eye(least.shape[1])[least.argmax(1)]
    return np.where(mixed[:, None] & (total > 0.0), pi, sure)
