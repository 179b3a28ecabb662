"""Finite MDPs as dense arrays: random ones, and the environments from their descriptions."""

from dataclasses import dataclass

import numpy as np


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


# ---------------------------------------------------------------- what the package stores


def dense(mdp) -> np.ndarray:
    """The kernel of a FiniteMDP, (S, A, S)."""
    return mdp.P.toarray().reshape(mdp.num_states, mdp.num_actions, mdp.num_states)


def dense_rows(rows, S) -> np.ndarray:
    """The rows that compiled loops read, written out, (R, S)."""
    P = np.repeat(rows.uniform[:, None] / S, S, axis=1)
    for i, (begin, end) in enumerate(zip(rows.begin, rows.end, strict=True)):
        for j in range(begin, end):
            P[i, rows.successor[j]] += rows.p[j]
    return P


# ---------------------------------------------------------------- made up


def two_states():
    """P (2, 2, 2), r (2, 2), mu (2,): a valid MDP to damage."""
    P = np.array([[[0.5, 0.5], [0.0, 1.0]], [[0.25, 0.75], [1.0, 0.0]]])
    return P, np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0.5, 0.5])


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


# ---------------------------------------------------------------- environments (exploration §2)


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
