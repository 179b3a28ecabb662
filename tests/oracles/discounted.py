"""Discounted problems on dense arrays, from their equations.

Kernels P (S, A, S), rewards r (S, A) or (S, A, S), policies pi (S, A), initial distributions mu
(S,); γ is below 1.
"""

import numpy as np


def mean(P, z):
    """E z under the nominal kernel, (S, A); z (S, A, S)."""
    return (P * z).sum(-1)


def entropic(b):
    """-(1/b) log E exp(-b z), which of z = r + γ V is r - (γ/β) log E exp(-β V) where b = β/γ."""

    def expectation(P, z):
        low = np.where(P > 0, z, np.inf).min(-1, keepdims=True)
        exponent = np.where(P > 0, -b * (z - low), 0.0)
        return low[..., 0] - np.log((P * np.exp(exponent)).sum(-1)) / b

    return expectation


def action_values(P, r, gamma, expectation=mean, pi=None):
    """Q (S, A) of the best policy, or of pi, by value iteration."""
    r = np.broadcast_to(np.reshape(r, (*P.shape[:2], -1)), P.shape)
    Q, change = np.zeros(P.shape[:2]), np.inf
    while change > max(1e-13, 1e-15 * np.abs(Q).max()):
        V = Q.max(1) if pi is None else (pi * Q).sum(1)
        new = expectation(P, r + gamma * V)
        Q, change = new, np.abs(new - Q).max()
    return Q


def occupancy(P, mu, pi, gamma):
    """(1 - γ) Σ_t γ^t P(s_t), (S,), by a linear solve."""
    chain = np.einsum("sa,sat->st", pi, P)
    return (1.0 - gamma) * np.linalg.solve(np.eye(len(P)) - gamma * chain.T, mu)


def tilted(P, V, beta):
    """The kernel that entropic risk of parameter β is afraid of where values are V."""
    weights = P * np.exp(-beta * (V - V.min()))
    return weights / weights.sum(-1, keepdims=True)


def greedy(Q):
    """The first of the best actions, (S, A)."""
    return np.eye(Q.shape[1])[Q.argmax(1)]
