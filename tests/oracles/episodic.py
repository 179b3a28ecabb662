"""Episodic problems: occupancies, entropies, plans and optima, from their equations.

Kernels are dense arrays P (S, A, S), initial distributions mu (S,), policies pi (H, S, A).
"""

import numpy as np
from scipy.special import logsumexp

from oracles.models import Dense, uniform_policy

# ---------------------------------------------------------------- entropies


def shannon(p) -> float:
    p = np.asarray(p, float).ravel()
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def occupancy(m: Dense, pi):
    d = np.zeros(pi.shape)
    now = m.mu
    for h in range(len(pi)):
        d[h] = now[:, None] * pi[h]
        now = np.tensordot(d[h], m.P, axes=([0, 1], [0, 1]))
    return d


def visitation_entropy(d, objective) -> float:
    if objective == "VE":
        return sum(shannon(x) for x in d)
    if objective == "VE_S":
        return sum(shannon(x.sum(1)) for x in d)
    mean = d.mean(0)
    return shannon(mean if objective == "AVE" else mean.sum(1))


def policy_entropy(d, pi) -> float:
    """Σ_h E H(π_h(· | s_h))."""
    H, S, _ = d.shape
    return sum(d[h, s].sum() * shannon(pi[h, s]) for h in range(H) for s in range(S))


def trajectory_law(m: Dense, pi, final_transition):
    """Probability of every (s_1, a_1, …, s_H, a_H[, s_{H+1}]), by brute-force enumeration."""
    S, A = m.sizes
    law = m.mu[:, None] * pi[0]  # (S, A)
    law = law.reshape(1, S, A)
    for h in range(1, len(pi)):
        law = law[..., None, None] * m.P[None, :, :, :, None] * pi[h][None, None, None]
        law = law.reshape(-1, S, A)
    if final_transition:
        law = law[..., None] * m.P[None]
    return law.ravel()


# ---------------------------------------------------------------- diversity


def trajectories(m: Dense, pi, n, rng):
    """The cells s * A + a of n episodes, (n, H)."""
    A = m.sizes[1]

    def draw(p):  # an index of each row of p
        return (p.cumsum(-1) < rng.random((n, 1))).sum(-1).clip(max=p.shape[-1] - 1)

    s, cells = draw(np.tile(m.mu, (n, 1))), []
    for p in pi:
        a = draw(p[s])
        cells.append(s * A + a)
        s = draw(m.P[s, a])
    return np.stack(cells, axis=1)


def vendi_score(cells) -> float:
    """exp of the entropy of the eigenvalues of K / n, K what visits of cells overlap, over H."""
    n, H = cells.shape
    visits = (cells[:, :, None] == np.arange(cells.max() + 1)).sum(1)
    K = np.minimum(visits[:, None], visits[None]).sum(2) / H
    return float(np.exp(shannon(np.linalg.eigvalsh(K / n).clip(min=0.0))))


# ---------------------------------------------------------------- planning


def plan(m: Dense, r, temperature=0.0):
    """Q (H, S, A), V (H + 1, S) for r (H, S, A): hard max, or soft at temperature > 0."""
    H, S, A = r.shape
    Q, V = np.zeros((H, S, A)), np.zeros((H + 1, S))
    for h in reversed(range(H)):
        Q[h] = r[h] + m.P @ V[h + 1]
        V[h] = Q[h].max(1)
        if temperature > 0:
            V[h] = temperature * logsumexp(Q[h] / temperature, axis=1)
    return Q, V


def softmax(Q):
    return np.exp(Q - logsumexp(Q, axis=-1, keepdims=True))


def row_entropy(m: Dense):
    return np.array([[shannon(row) for row in rows] for rows in m.P])


def trajectory_reward(m: Dense, H, final_transition=False):
    """H(P(· | s, a)) at each stage that has a counted successor, (H, S, A)."""
    r = np.repeat(row_entropy(m)[None], H, axis=0)
    if not final_transition:
        r[-1] = 0.0
    return r


def trajectory_entropy(P, H, uniform=False):
    """H(s_1, a_1, …, s_H, a_H) from each s_1, (S,), and the first policy, (S, A), in nats.

    Of the best policy, by log Σ exp of the entropy still to come, or of the uniform one.
    """
    S, A, _ = P.shape
    noise = -(P * np.log(np.where(P > 0, P, 1.0))).sum(axis=2)
    V = pi = None
    for _ in range(H):
        Q = np.zeros((S, A)) if V is None else noise + P @ V
        weight = np.ones((S, A)) if uniform else np.exp(Q)
        pi = weight / weight.sum(axis=1, keepdims=True)
        V = (pi * (Q - np.log(pi))).sum(axis=1)
    return V, pi


# ---------------------------------------------------------------- optima


def frank_wolfe(m: Dense, H, iterations, soft=False):
    """Maximise VE by conditional gradient; golden-section line search. Returns d and its gap.

    ``soft`` linearises the state part alone and keeps the policy entropy, which converges faster.
    """
    S, A = m.sizes
    d = occupancy(m, uniform_policy(H, S, A))
    gap = np.inf
    for _ in range(iterations):
        if soft:
            reward = np.repeat(-np.log(np.maximum(d.sum(2, keepdims=True), 1e-12)), A, axis=2)
            Q, V = plan(m, reward, 1.0)
            pi = softmax(Q)
        else:
            reward = -np.log(np.maximum(d, 1e-12))
            Q, V = plan(m, reward)
            best = np.isclose(Q, Q.max(2, keepdims=True), rtol=0.0, atol=1e-12)
            pi = best / best.sum(2, keepdims=True)
        gap = m.mu @ V[0] - visitation_entropy(d, "VE")
        atom = occupancy(m, pi)
        low, high = 0.0, 1.0
        for _ in range(40):
            x, y = high - 0.618 * (high - low), low + 0.618 * (high - low)
            at_x, at_y = (visitation_entropy((1 - z) * d + z * atom, "VE") for z in (x, y))
            low, high = (low, y) if at_x > at_y else (x, high)
        d = (1 - low) * d + low * atom
    return d, gap


def conic(m: Dense, H, objective, temperature=1.0):
    """The program of exploration §7.1 by cvxpy and Clarabel; the optimal policy, (H, S, A)."""
    import cvxpy as cp

    S, A = m.sizes
    flow = m.P.reshape(S * A, S).T  # (S, S*A)
    sum_actions = np.kron(np.eye(S), np.ones(A))  # (S, S*A)
    reach = np.zeros((H, S), bool)
    reach[0] = m.mu > 0
    for h in range(1, H):
        reach[h] = np.einsum("s,sat->t", reach[h - 1].astype(float), m.P) > 0
    d = [cp.Variable(S * A, nonneg=True) for _ in range(H)]
    constraints = [sum_actions @ d[0] == m.mu]
    constraints += [sum_actions @ d[h + 1] == flow @ d[h] for h in range(H - 1)]
    value = 0.0
    if objective == "VE":  # VE_λ = (1 - λ) VE_S + λ VE
        for h in range(H):
            live = np.repeat(reach[h], A)
            value += temperature * cp.sum(cp.entr(d[h][live]))
            if temperature < 1.0:
                value += (1 - temperature) * cp.sum(cp.entr((sum_actions @ d[h])[reach[h]]))
    elif objective == "VE_S":
        value = sum(cp.sum(cp.entr((sum_actions @ d[h])[reach[h]])) for h in range(H))
    else:
        mean = sum(d) / H
        some = reach.any(0)
        if objective == "AVE":
            value = cp.sum(cp.entr(mean[np.repeat(some, A)]))
        else:
            value = cp.sum(cp.entr((sum_actions @ mean)[some]))
    cp.Problem(cp.Maximize(value), constraints).solve(solver=cp.CLARABEL)
    x = np.maximum([v.value for v in d], 0.0).reshape(H, S, A)
    mass = x.sum(2, keepdims=True)
    return np.where(mass > 1e-14, x / np.maximum(mass, 1e-14), 1.0 / A)
