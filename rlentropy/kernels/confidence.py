"""How far estimated rows may be from the true ones, and soft plans that bound what follows."""

import numpy as np

from rlentropy.kernels.cache import inner
from rlentropy.kernels.rows import Rows, Task, decide, expectations, stage_stride, state_values
from rlentropy.types import Array


@inner
def kl_radius(N: int, S: int, log_confidence: float) -> float:
    """β with KL(p̂ ‖ p) <= β / max(N, 1) for all visit counts at once (exploration §2.3)."""
    if S == 1:
        return log_confidence
    return float(log_confidence + (S - 1) * np.log(np.e * (1.0 + N / (S - 1))))


@inner
def entropy_width(kappa: float, S: int) -> float:
    """How far H(p̂) may lie from H(p) when KL(p̂ ‖ p) <= κ (Pinsker, then Fannes–Audenaert)."""
    t = min(np.sqrt(kappa / 2.0), 1.0 - 1.0 / S)
    if t <= 0.0:
        return 0.0
    binary = -t * np.log(t) - (1.0 - t) * np.log(1.0 - t) if t < 1.0 else 0.0
    return float(min(np.log(S), t * np.log(max(S - 1, 1)) + binary))


@inner
def confident_plan(
    rows: Rows,
    task: Task,
    V: Array,
    Q: Array,
    widths: Array,
    gap: Array,
    scale: float,
    quadratic: bool,
) -> None:
    """Upper and lower soft values on the event KL(p̂ ‖ p) <= κ, and a certified gap (§3.2, §3.3).

    V (H + 1, S) and Q (H, S, A) are the upper values, whose softmax is played. `gap` (S,) becomes
    the bound on V* - V^π: linear in the widths, or quadratic, and then `widths` (H, S, A) how far
    the upper values lie above the lower. κ stands in `task.width`, Ĥ in `task.reward`.
    """
    H, S, A = Q.shape
    stride = stage_stride(rows.begin.size, S, A)
    log_SA = np.log(S * A)
    lower, ones, scratch = np.zeros(S), np.ones(S), np.empty((S, A + 1))
    below, after, pi = np.empty((S, A)), np.empty((S, A)), np.empty((S, A))
    kappa, R = task.width, task.width.size
    entropy_widths, transition_widths = np.empty(R), np.empty(R)
    for i in range(R):
        entropy_widths[i] = scale * entropy_width(kappa[i], S)
        transition_widths[i] = scale * np.sqrt(kappa[i] / 2.0)
    for s in range(S):
        gap[s] = 0.0
    for h in range(H - 1, -1, -1):
        k = h * stride
        entropy = task.reward[0 if task.reward.shape[0] == 1 else h]
        for values, expected in ((V[h + 1], Q[h]), (lower, below), (gap, after)):
            expectations(
                rows.begin[k:], rows.end[k:], rows.successor, rows.p, rows.uniform[k:], values,
                False, 1.0, entropy, 0.0, 0.0, expected,
            )  # fmt: skip
        rest, above = (H - h - 1) * log_SA, Q[h]
        add_widths(
            kappa[k:], entropy_widths[k:], transition_widths[k:], entropy, task.reward_scale[h],
            scale, H, rest, quadratic, above, below, after, gap,
        )  # fmt: skip
        if quadratic:
            for s in range(S):
                for a in range(A):
                    widths[h, s, a] = above[s, a] - below[s, a]
        decide(above, 1.0, ones, pi)
        for s in range(S):
            for a in range(A):
                gap[s] += pi[s, a] * after[s, a]
            gap[s] = min(gap[s], rest + log_SA)
        state_values(above, 1.0, rest + log_SA, V[h], scratch)
        state_values(below, 1.0, np.inf, lower, scratch)


@inner
def add_widths(
    kappa: Array,
    entropy_widths: Array,
    transition_widths: Array,
    entropy: Array,
    counted: float,
    scale: float,
    H: int,
    rest: float,
    quadratic: bool,
    above: Array,
    below: Array,
    after: Array,
    gap: Array,
) -> None:
    """Turn expectations of the next values and gaps (S, A) into bounds on Q and its gap (S, A).

    A law with KL(p̂ ‖ p) <= κ moves an expectation over [0, rest] by at most w_p = rest sqrt(κ/2)
    and the entropy by w_H. `gap` becomes what is left of the quadratic one at each state, (S,).
    """
    S, A = above.shape
    log_S, log_SA, i = np.log(S), np.log(S * A), 0
    for s in range(S):
        widest = 0.0
        for a in range(A):
            w_p, w_H = rest * transition_widths[i], counted * entropy_widths[i]
            H_hat = counted * entropy[s, a]
            above[s, a] = min(H_hat + w_H + above[s, a] + w_p, counted * log_S + rest)
            below[s, a] = max(max(H_hat - w_H, 0.0) + below[s, a] - w_p, 0.0)
            widest = max(widest, above[s, a] - below[s, a])
            if quadratic:
                after[s, a] *= 1.0 + 1.0 / H
                after[s, a] += (H + 4.0) * rest * scale * kappa[i]
            else:
                after[s, a] = min(2.0 * (w_H + w_p) + after[s, a], rest + log_SA)
            i += 1
        gap[s] = 0.5 * widest * widest if quadratic else 0.0
