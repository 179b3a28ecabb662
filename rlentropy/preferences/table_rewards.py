"""Rewards of tables as beliefs have them: features of segments, and what of a return was luck.

    ψ(s, a, s') = (z(s) ⊗ onehot(a), ζ(s'), log π_ref(a|s))

z and ζ are principal coordinates of the features of states, so that what is learnt of a state tells
of its neighbours. An advantage is of (s, a) alone: a teacher that judges it leaves ζ out. What the
reference likes to do may say something of the reward; whether it does is for the answers to say.

Under a reward w the return of a segment is V(s_0), plus the summed advantages of the policy, plus
luck (preferences §4.5): Σ_t f_{t+1}(s_{t+1}) - E f_{t+1}, f the reward of entering a state and
the value there. The expectation is by the transitions that the rollouts showed, never by a model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from rlentropy.preferences.segments import Pairs, Segments
from rlentropy.types import Array, Count, Mask, State

CUT = 0.03  # of the largest singular value, below which a coordinate is dropped
MOST = 128  # coordinates of a state
OWN = 0.1  # weight of a state's own indicator beside the features that it shares


def coordinates(features: Array, cut: float = CUT, most: int = MOST) -> Array:
    """Principal coordinates of rows, (n, F) → (n, k), without what is small.

    More than `most` of them are projected at random, which keeps lengths and angles about as they
    were (Johnson and Lindenstrauss, 1984): beliefs cost the square of their number.
    """
    _, singular, directions = np.linalg.svd(features, full_matrices=False)
    kept = features @ directions[singular > cut * singular[0]].T
    if kept.shape[1] > most:
        rng = np.random.default_rng(0)
        kept = kept @ rng.standard_normal((kept.shape[1], most)) / np.sqrt(most)
    return np.asarray(kept)


class TableFeatures:
    """ψ of segments.

    Args:
        phi: features of states, (S, F).
        live: states that a segment may act in, (n,).
        reference: π_ref, (S, A), positive.
        entered: whether a reward may depend on the state that is entered.
    """

    def __init__(self, phi: Array, live: Count, reference: Array, entered: bool) -> None:
        S = len(phi)
        self.num_actions, self.entered = reference.shape[1], entered
        self.log_reference = np.log(np.maximum(reference, 1e-12))
        if np.ptp(self.log_reference) < 1e-9:  # uniform: it would only count steps
            self.log_reference = np.zeros_like(reference)
        acted = coordinates(np.concatenate([phi, OWN * np.eye(S)], axis=1)[live])
        self.z = np.zeros((S, acted.shape[1]))
        self.z[live] = acted
        self.zeta = coordinates(phi) if entered else np.zeros((S, 0))

    @property
    def size(self) -> int:
        """D, of ψ."""
        return int(self.num_actions * self.z.shape[1] + self.zeta.shape[1] + 1)

    @property
    def groups(self) -> dict[str, slice]:
        """Features of the reward, among them those of states that are entered; the reference's.

        Where rewards are of actions alone, the former stand in for the latter.
        """
        split, last = self.num_actions * self.z.shape[1], self.size - 1
        return {
            "features": slice(0, last),
            "entered": slice(split if self.entered else 0, last),
            "reference": slice(last, last + 1),
        }

    def keys(self, segments: Segments) -> Count:
        """What each segment takes and enters, in ascending order, (N, T): equal if counts are."""
        S, A, T = len(self.z), self.num_actions, segments.rewards.shape[1]
        cells = segments.states[:, :T] * A + segments.actions
        steps = np.where(segments.mask, cells * S + segments.states[:, 1:], -1)
        return np.sort(steps, axis=1)

    def of(self, pairs: Pairs) -> Array:
        """x = ψ(a) - ψ(b), (N, D), the last number that of the reference."""
        n, S, A = len(pairs), len(self.z), self.num_actions
        taken, entered = np.zeros(n * A * S), np.zeros(n * S)
        for segments, sign in ((pairs.a, 1.0), (pairs.b, -1.0)):
            i, t = np.nonzero(segments.mask)
            s, a, after = segments.states[i, t], segments.actions[i, t], segments.states[i, t + 1]
            taken += sign * np.bincount((i * A + a) * S + s, minlength=taken.size)
            entered += sign * np.bincount(i * S + after, minlength=entered.size)
        acted = (taken.reshape(n * A, S) @ self.z).reshape(n, -1)
        likely = taken.reshape(n, A * S) @ self.log_reference.T.ravel()
        return np.concatenate([acted, entered.reshape(n, S) @ self.zeta, likely[:, None]], axis=1)

    def rewards(self, w: Array) -> tuple[Array, Array]:
        """Rewards of J draws w (J, D): of actions, (S, A, J), and of entering states, (S, J)."""
        split = self.num_actions * self.z.shape[1]
        acted = w[:, :split].reshape(len(w), self.num_actions, -1)
        r = np.einsum("sk,jak->saj", self.z, acted)
        r += self.log_reference[:, :, None] * w[:, -1]
        return r, self.zeta @ w[:, split:-1].T


class SeenTransitions:
    """Counts of the transitions in all rollouts so far, free of labels.

    A pair of state and action that was never seen is taken to stay where it is.
    """

    def __init__(self, num_states: int, num_actions: int) -> None:
        self.num_states, self.num_actions = num_states, num_actions
        self.keys: Count = np.zeros(0, np.int64)  # (s A + a) S + s', ascending
        self.hits: Array = np.zeros(0)
        self.ended = np.zeros(num_states, bool)  # states in which a segment terminated

    def add(self, segments: Segments) -> None:
        S, A = self.num_states, self.num_actions
        i, t = np.nonzero(segments.mask)
        cells = segments.states[i, t] * A + segments.actions[i, t]
        keys = np.concatenate([self.keys, cells * S + segments.states[i, t + 1]])
        self.keys, place = np.unique(keys, return_inverse=True)
        hits = np.concatenate([self.hits, np.ones(len(i))])
        self.hits = np.asarray(np.bincount(place.ravel(), weights=hits), np.float64)
        self.ended = self.ended.copy()  # a checkpoint may hold the array
        self.ended[segments.last[segments.terminated]] = True

    @property
    def stochastic(self) -> bool:
        """Whether some state and action had two different successors."""
        return bool((np.diff(self.keys // self.num_states) == 0).any())

    def kernel(self) -> Any:
        """Frequencies, sparse (S*A, S)."""
        S, A = self.num_states, self.num_actions
        row, column = np.divmod(self.keys, S)
        seen = np.bincount(row, weights=self.hits, minlength=S * A)
        unseen = np.flatnonzero(seen == 0.0)
        row, column = np.append(row, unseen), np.append(column, unseen // A)
        p = np.append(self.hits / seen[self.keys // S], np.ones(unseen.size))
        return sp.coo_array((p, (row, column)), shape=(S * A, S)).tocsr()

    def state_dict(self) -> State:
        return {"keys": self.keys, "hits": self.hits, "ended": self.ended}

    def load_state_dict(self, state: State) -> None:
        vars(self).update(state)


def luck(segments: Segments, pi: Array, P: Any, ended: Mask, r: Array, r_entered: Array) -> Array:
    """Σ_t f_{t+1}(s_{t+1}) - Σ_s' P(s'|s_t, a_t) f_{t+1}(s') of each segment, (J, N).

    Args:
        pi: the policy, (S, A), that plays T steps.
        P: kernel, sparse (S*A, S).
        ended: states without a future, (S,).
        r, r_entered: J rewards side by side, (S, A, J) and (S, J).
    """
    (n, T), (S, A, J) = segments.rewards.shape, r.shape
    cells, after = segments.states[:, :T] * A + segments.actions, segments.states[:, 1:]
    mask = segments.mask
    total, V = np.zeros((n, J)), np.zeros((S, J))
    for t in reversed(range(T)):
        f = r_entered + V
        expected = P @ f
        i = np.flatnonzero(mask[:, t])
        total[i] += f[after[i, t]] - expected[cells[i, t]]
        V = (pi[:, :, None] * (r + expected.reshape(S, A, J))).sum(1)
        V[ended] = 0.0
    return np.ascontiguousarray(total.T)


def soft_plan(
    P: Any, ended: Mask, r: Array, r_entered: Array, reference: Array, beta: float, T: int
) -> Array:
    """Q*(s, a) with T steps left of a reward less β KL(π | π_ref), (S, A) (§7).

    Args:
        P: kernel, sparse (S*A, S).
        ended: states without a future, (S,).
        r, r_entered: rewards of actions, (S, A), and of entering states, (S,).
    """
    V, Q = np.zeros(len(r)), r
    for _ in range(T):
        Q = r + (P @ (r_entered + V)).reshape(r.shape)
        high = Q.max(1, keepdims=True)
        V = high[:, 0] + beta * np.log((reference * np.exp((Q - high) / beta)).sum(1))
        V[ended] = 0.0
    return Q
