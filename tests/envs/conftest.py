"""Dense oracles for small models, written from the definitions."""

from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture
def dense() -> Callable[..., np.ndarray]:
    """The kernel of a FiniteMDP as an array (S, A, S)."""
    return lambda mdp: mdp.P.toarray().reshape(mdp.num_states, mdp.num_actions, mdp.num_states)


@pytest.fixture
def discounted_optimum() -> Callable[..., np.ndarray]:
    """Optimal values, (S,), by value iteration."""

    def solve(P: np.ndarray, r: np.ndarray, gamma: float) -> np.ndarray:
        V = np.zeros(len(P))
        for _ in range(int(np.ceil(np.log(1e-13) / np.log(gamma)))):
            V = (r + gamma * P @ V).max(axis=1)
        return V

    return solve


@pytest.fixture
def trajectory_entropy() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """H(s_1, a_1, …, s_H, a_H) from each s_1, (S,), and the first policy, (S, A), in nats.

    Of the best policy, by log Σ exp of the entropy still to come, or of the uniform one.
    """

    def solve(P: np.ndarray, H: int, uniform: bool = False) -> tuple[np.ndarray, np.ndarray]:
        S, A, _ = P.shape
        noise = -(P * np.log(np.where(P > 0, P, 1.0))).sum(axis=2)
        V = pi = None
        for _ in range(H):
            Q = np.zeros((S, A)) if V is None else noise + P @ V
            weight = np.ones((S, A)) if uniform else np.exp(Q)
            pi = weight / weight.sum(axis=1, keepdims=True)
            V = (pi * (Q - np.log(pi))).sum(axis=1)
        return V, pi

    return solve
