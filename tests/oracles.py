"""Dense numpy references written from the equations; nothing here imports the package.

Kernels are dense arrays P (S, A, S), initial distributions mu (S,), policies pi (H, S, A).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp


@dataclass(frozen=True)
class Dense:
    """A finite MDP without a reward."""

    P: np.ndarray  # (S, A, S)
    mu: np.ndarray  # (S,)

    @property
    def sizes(self) -> tuple[int, int]:
        return self.P.shape[:2]

    @property
    def args(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The arguments of FiniteMDP, with reward 0."""
        return self.P, np.zeros(self.sizes), self.mu


# ---------------------------------------------------------------- environments, from scratch


def random_mdp(rng, S, A, successors=None, start=None) -> Dense:
    """Dirichlet rows on random supports; a random initial distribution, or a fixed start."""
    P = np.zeros((S, A, S))
    for s in range(S):
        for a in range(A):
            n = rng.integers(1, S + 1) if successors is None else successors
            P[s, a, rng.choice(S, n, replace=False)] = rng.dirichlet(np.ones(n))
    return Dense(P, rng.dirichlet(np.ones(S)) if start is None else np.eye(S)[start])


def random_policy(rng, H, S, A):
    return rng.dirichlet(np.full(A, 0.7), size=(H, S))


def uniform_policy(H, S, A):
    return np.full((H, S, A), 1.0 / A)


def double_chain(L=31, fail=0.1) -> Dense:
    P = np.zeros((L, 2, L))
    for s in range(L):
        left, right = max(s - 1, 0), min(s + 1, L - 1)
        P[s, 0, left] += 1 - fail
        P[s, 0, right] += fail
        P[s, 1, right] += 1 - fail
        P[s, 1, left] += fail
    return Dense(P, np.eye(L)[L // 2])


def grid_world(n=21, success=0.95) -> Dense:
    """Actions left, right, up, down; a move out of the grid stays put without noise."""
    P = np.zeros((n * n, 4, n * n))
    moves = [(0, -1), (0, 1), (-1, 0), (1, 0)]
    for row in range(n):
        for column in range(n):
            s = row * n + column
            cells = [(row + i, column + j) for i, j in moves]
            valid = [i * n + j for i, j in cells if 0 <= i < n and 0 <= j < n]
            for a, (i, j) in enumerate(cells):
                if not (0 <= i < n and 0 <= j < n):
                    P[s, a, s] = 1.0
                    continue
                for other in valid:
                    P[s, a, other] = (1 - success) / (len(valid) - 1)
                P[s, a, i * n + j] = success
    return Dense(P, np.eye(n * n)[(n // 2) * n + n // 2])


def noisy_chain(S=10) -> Dense:
    """Test 9: left, right, and a jump to {s-2..s+2} (clipped) from the right half."""
    P = np.zeros((S, 3, S))
    for s in range(S):
        P[s, 0, max(s - 1, 0)] = 1.0
        P[s, 1, min(s + 1, S - 1)] = 1.0
        if s >= 5:
            for step in range(-2, 3):
                P[s, 2, min(max(s + step, 0), S - 1)] += 0.2
        else:
            P[s, 2, s] = 1.0
    return Dense(P, np.eye(S)[0])


def fan(K=5) -> Dense:
    """Test 7: action 0 leads to one state, action 1 to one of K; all of them absorb."""
    S = K + 2
    P = np.zeros((S, 2, S))
    P[0, 0, 1] = 1.0
    P[0, 1, 2:] = 1.0 / K
    P[1:, :, :] = np.eye(S)[1:, None, :]
    return Dense(P, np.eye(S)[0])


def tree(A, H) -> Dense:
    """Complete A-ary tree of H levels; the leaves absorb."""
    inner = (A ** (H - 1) - 1) // (A - 1)
    S = (A**H - 1) // (A - 1)
    P = np.zeros((S, A, S))
    for s in range(S):
        for a in range(A):
            P[s, a, s * A + a + 1 if s < inner else s] = 1.0
    return Dense(P, np.eye(S)[0])


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
