"""Finite-horizon planning and occupancies over sparse transition rows.

Every loop runs over transition *rows*. Row ``i = (k * S + s) * A + a`` is the distribution

    p(s' | i) = uniform[i] / S + Σ_{begin[i] <= j < end[i]} p[j] 1{successor[j] = s'}

with k the stage for stage-dependent kernels and 0 for shared ones. The ``uniform`` part lets a row
that was never visited, or one smoothed over all states, cost one mean of V a stage, exactly.
Row pointers and successors share one unsigned type, which lets LLVM drop its sign extensions.
"""

from typing import Any, NamedTuple

import numpy as np

from rlentropy.kernels.arithmetic import exp_all, log_all
from rlentropy.kernels.cache import compiled, inlined, inner
from rlentropy.types import Array, Index


class Rows(NamedTuple):
    """Transition rows of a known or an estimated kernel."""

    begin: Index  # (R,) with R = S*A, or H*S*A when the kernel depends on the stage
    end: Index  # (R,)
    successor: Index  # (M,), increasing within a row
    p: Array  # (M,)
    uniform: Array  # (R,) mass spread evenly over all S states


class Task(NamedTuple):
    """A finite-horizon planning problem on rows: reward, optimism, temperature.

    Q_h(s, a) = offset[h] + reward_scale[h] reward[h, s, a] + width_scale[h] width[i]
                + sqrt(variance_width[i] Var_i(V_{h+1})) + growth E_i[V_{h+1}]
    V_h(s)    = min(cap[h], max_a Q_h(s, a)), or τ log Σ_a exp(Q_h(s, a) / τ) at temperature τ > 0

    An optimistic task takes the uniform part of a row for its best state: E becomes max V there.
    """

    reward: Array  # (H or 1, S, A or 1): axes of length 1 are shared by all stages, by all actions
    reward_scale: Array  # (H,)
    offset: Array  # (H,)
    width: Array  # (R,) or (0,) for none
    width_scale: Array  # (H,)
    variance_width: Array  # (R,) or (0,) for none
    cap: Array  # (H,), inf where V is not clipped
    temperature: float  # 0: greedy
    growth: float  # 1 but for bounds that widen from stage to stage
    optimistic: bool


@inner
def stage_stride(num_rows: int, S: int, A: int) -> int:
    return 0 if num_rows == S * A else S * A


@inner
def expectations(
    begin: Index,
    end: Index,
    successor: Index,
    p: Array,
    uniform: Array,
    V: Array,
    optimistic: bool,
    growth: float,
    reward: Array,
    scale: float,
    offset: float,
    q: Array,
) -> None:
    """q[s, a] = growth E[V(s')] + scale reward[s, a] + offset, for the rows of one stage.

    The reward may be (S, 1), the same for all actions. Optimistic: a uniform part finds max V.
    """
    S, A = q.shape
    level = V[0]
    for s in range(1, S):
        level = max(level, V[s]) if optimistic else level + V[s]
    if not optimistic:
        level /= S
    step = 0 if reward.shape[1] == 1 else 1
    i = 0
    for s in range(S):
        for a in range(A):
            expected = uniform[i] * level
            for j in range(begin[i], end[i]):
                expected += p[j] * V[successor[j]]
            q[s, a] = growth * expected + (scale * reward[s, a * step] + offset)
            i += 1


@inner
def _add_deviation(
    begin: Index,
    end: Index,
    successor: Index,
    p: Array,
    uniform: Array,
    V: Array,
    width: Array,
    q: Array,
) -> None:
    """q[s, a] += sqrt(width Var[V(s')]) for the rows of one stage.

    Variances are taken around the mean: a difference of squares would leave 1e-7 where they vanish.
    """
    S, A = q.shape
    mean = spread = 0.0
    for s in range(S):
        mean += V[s]
    mean /= S
    for s in range(S):
        spread += (V[s] - mean) ** 2
    spread /= S
    i = 0
    for s in range(S):
        for a in range(A):
            centre = uniform[i] * mean
            for j in range(begin[i], end[i]):
                centre += p[j] * V[successor[j]]
            variance = uniform[i] * (spread + (mean - centre) ** 2)
            for j in range(begin[i], end[i]):
                variance += p[j] * (V[successor[j]] - centre) ** 2
            q[s, a] += np.sqrt(width[i] * variance)
            i += 1


@inner
def _add_bonus(width: Array, scale: float, q: Array) -> None:
    i = 0
    for s in range(q.shape[0]):
        for a in range(q.shape[1]):
            q[s, a] += scale * width[i]
            i += 1


@inner
def state_values(q: Array, temperature: float, cap: float, V: Array, scratch: Array) -> None:
    """V(s) = max_a q(s, a), or its log-sum-exp at a temperature, at most the cap.

    Pass by pass, each over all states, so that the exponentials and logarithms are vectorised;
    scratch is (S, A + 1).
    """
    S, A = q.shape
    for s in range(S):
        top = q[s, 0]
        for a in range(1, A):
            top = max(top, q[s, a])
        V[s] = top
    if temperature > 0.0:
        flat = scratch.reshape(scratch.size)
        shifted, total = flat[: S * A], flat[S * A : S * A + S]
        for s in range(S):
            for a in range(A):
                shifted[s * A + a] = q[s, a] - V[s]
        exp_all(shifted, 1.0 / temperature)
        for s in range(S):
            total[s] = 0.0
            for a in range(A):
                total[s] += shifted[s * A + a]
        log_all(total)
        for s in range(S):
            V[s] += temperature * total[s]
    for s in range(S):
        V[s] = min(V[s], cap)


@inlined
def _expect_stage(rows: Rows, task: Task, h: int, V: Array, Q: Array) -> None:
    """Q_h without what a bonus adds, from V_{h+1}."""
    k = h * stage_stride(rows.begin.size, Q.shape[1], Q.shape[2])
    reward = task.reward[0 if task.reward.shape[0] == 1 else h]
    expectations(
        rows.begin[k:], rows.end[k:], rows.successor, rows.p, rows.uniform[k:], V[h + 1],
        task.optimistic, task.growth, reward, task.reward_scale[h], task.offset[h], Q[h],
    )  # fmt: skip


@compiled
def backward(rows: Rows, task: Task, V: Array, Q: Array) -> None:
    """Backward induction: fill Q (H, S, A) and V (H + 1, S) from V's last stage, which is given.

    A task with widths is for `backward_with_bonus`.
    """
    H, S, A = Q.shape
    scratch = np.empty((S, A + 1))
    for h in range(H - 1, -1, -1):
        _expect_stage(rows, task, h, V, Q)
        state_values(Q[h], task.temperature, task.cap[h], V[h], scratch)


@compiled
def backward_with_bonus(rows: Rows, task: Task, V: Array, Q: Array) -> None:
    """As `backward`, with the bonus that the widths make."""
    H, S, A = Q.shape
    stride = stage_stride(rows.begin.size, S, A)
    scratch = np.empty((S, A + 1))
    for h in range(H - 1, -1, -1):
        k = h * stride
        _expect_stage(rows, task, h, V, Q)
        if task.variance_width.size > 0:
            _add_deviation(
                rows.begin[k:], rows.end[k:], rows.successor, rows.p, rows.uniform[k:], V[h + 1],
                task.variance_width[k:], Q[h],
            )  # fmt: skip
        _add_bonus(task.width[k:], task.width_scale[h], Q[h])
        state_values(Q[h], task.temperature, task.cap[h], V[h], scratch)


@inlined
def decide_state(q: Array, s: Any, temperature: float, mass: float, d: Array) -> None:
    """d(s, a) = mass π(a|s) for the policy that the action values q (S, A) induce at s.

    Greedy ties are shared evenly. Values equal in exact arithmetic may differ by rounding, which
    grows with the horizon; 1e-9 of the value covers it and stays far below any bonus.
    """
    top = q[s, 0]
    for a in range(1, q.shape[1]):
        top = max(top, q[s, a])
    threshold = top - 1e-9 * (1.0 + abs(top))
    total = 0.0
    for a in range(q.shape[1]):
        if temperature > 0.0:
            d[s, a] = np.exp((q[s, a] - top) / temperature)
        else:
            d[s, a] = 1.0 if q[s, a] >= threshold else 0.0
        total += d[s, a]
    for a in range(q.shape[1]):
        d[s, a] *= mass / total


@inner
def decide(q: Array, temperature: float, now: Array, d: Array) -> None:
    """d(s, a) = now(s) π(a|s), (S, A), for the policy that q (S, A) induces and masses now (S,)."""
    S, A = q.shape
    for s in range(S):
        if now[s] > 0.0:
            decide_state(q, s, temperature, now[s], d)
        else:
            for a in range(A):
                d[s, a] = 0.0


@compiled
def decisions(Q: Array, temperature: float, pi: Array) -> None:
    """Fill pi (H, S, A) with the policy that Q (H, S, A) induces."""
    for h in range(Q.shape[0]):
        for s in range(Q.shape[1]):
            decide_state(Q[h], s, temperature, 1.0, pi[h])


@inner
def _flow(
    begin: Index, end: Index, successor: Index, p: Array, uniform: Array, d: Array, after: Array
) -> None:
    """Send the masses d (S, A) of one stage to the states after (S,) of the next."""
    S, A = d.shape
    for s in range(S):
        after[s] = 0.0
    spread = 0.0
    i = 0
    for s in range(S):
        for a in range(A):
            mass = d[s, a]
            if mass > 0.0:
                spread += mass * uniform[i]
                for j in range(begin[i], end[i]):
                    after[successor[j]] += mass * p[j]
            i += 1
    if spread > 0.0:
        for s in range(S):
            after[s] += spread / S


@compiled
def occupancy(rows: Rows, mu: Array, pi: Array, d: Array) -> None:
    """Fill d (H, S, A), the state-action occupancies of pi (H, S, A) started from mu (S,)."""
    H, S, A = pi.shape
    stride = stage_stride(rows.begin.size, S, A)
    now = mu.copy()
    for h in range(H):
        for s in range(S):
            for a in range(A):
                d[h, s, a] = now[s] * pi[h, s, a]
        k = h * stride
        begin, end, uniform = rows.begin[k:], rows.end[k:], rows.uniform[k:]
        _flow(begin, end, rows.successor, rows.p, uniform, d[h], now)


@compiled
def add_occupancy_of_plan(rows: Rows, mu: Array, Q: Array, temperature: float, D: Array) -> None:
    """Add to D (H, S, A) the occupancies of the policy that Q (H, S, A) induces.

    The policy is formed at the states that carry mass alone, so a greedy plan costs its support.
    """
    H, S, A = D.shape
    stride = stage_stride(rows.begin.size, S, A)
    now, d = mu.copy(), np.empty((S, A))
    for h in range(H):
        decide(Q[h], temperature, now, d)
        total = D[h]
        for s in range(S):
            for a in range(A):
                total[s, a] += d[s, a]
        k = h * stride
        begin, end, uniform = rows.begin[k:], rows.end[k:], rows.uniform[k:]
        _flow(begin, end, rows.successor, rows.p, uniform, d, now)


@compiled
def decide_at(q: Array, s: int, temperature: float, p: Array) -> None:
    """Write into p (S, A) the policy that q (S, A) induces at state s."""
    decide_state(q, s, temperature, 1.0, p)
