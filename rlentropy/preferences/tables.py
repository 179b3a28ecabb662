"""Tabular tasks and policies: segments from states that are set, exact scores, gradients by counts.

A task is a finite MDP seen from a set of start states, for T steps. Its model plays (it draws what
`step` would) and scores; what learns from the segments never reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from rlentropy.errors import InputError, in_range, one_of
from rlentropy.mdp import FiniteMDP
from rlentropy.planning import Plan, backward_induction
from rlentropy.policies import running_sums
from rlentropy.preferences.losses import LossFunction
from rlentropy.preferences.segments import Pairs, Segments, check_starts
from rlentropy.types import Array, Count, State

FEATURES = ("auto", "one-hot", "rbf", "cells")


class Outcomes(NamedTuple):
    """The kernel as padded rows, for draws of whole batches."""

    successor: Count  # (S*A, M)
    cumulative: Array  # (S*A, M) running sums of p, infinite from the last successor on
    reward: Array  # (S*A, M)


@dataclass(frozen=True)
class TabularTask:
    """A finite MDP, the length of its segments, and the states that they may start in."""

    mdp: FiniteMDP
    length: int  # T, steps of a segment
    starts: Count  # prompts, the states that are drawn evenly
    grid_shape: tuple[int, int] | None = None  # where the first states are cells

    @classmethod
    def of(
        cls,
        mdp: FiniteMDP,
        length: int,
        grid_shape: tuple[int, int] | None = None,
        from_all: bool = True,
    ) -> TabularTask:
        """From every state that is reachable and not terminal, or from those of ``mdp.mu`` alone.

        Raises:
            InputError: every such state is terminal.
        """
        possible = mdp.reachable() if from_all else mdp.mu > 0.0
        starts = np.flatnonzero(possible & ~mdp.terminal)
        if not starts.size:
            raise InputError("env must have a start state that is not terminal, got none")
        return cls(mdp, length, starts, grid_shape)

    @cached_property
    def outcomes(self) -> Outcomes:
        rows, mdp = self.mdp.rows, self.mdp
        begin, size = rows.begin.astype(np.int64), mdp.longest
        counts = rows.end.astype(np.int64) - begin
        place = np.minimum(begin[:, None] + np.arange(size), rows.p.size - 1)
        p = np.where(np.arange(size) < counts[:, None], rows.p[place], 0.0)
        r = mdp.r.ravel()[:, None] if mdp.r_successor is None else mdp.r_successor[place]
        successor = rows.successor[place].astype(np.int64)
        return Outcomes(successor, running_sums(p), np.broadcast_to(r, p.shape))

    @cached_property
    def optimum(self) -> Plan:
        """V* and Q* of every stage, (T + 1, S) and (T, S, A)."""
        return backward_induction(self.mdp, self.mdp.r, self.length)

    @cached_property
    def beyond(self) -> Plan:
        """V* and Q* with as many stages again, for what a segment that is cut leaves ahead."""
        return backward_induction(self.mdp, self.mdp.r, 2 * self.length)

    def prompts(self, n: int, rng: np.random.Generator) -> Count:
        """Start states, (n,)."""
        return self.starts[rng.integers(self.starts.size, size=n)]

    def roll_out(self, pi: Array, starts: Count, rng: np.random.Generator) -> Segments:
        """A segment of a policy (S, A) from each start.

        The same generator gives the same random numbers to step t of segment i, whatever the
        policy: runs that differ in it alone are compared with less noise.
        """
        n, T, A = starts.size, self.length, pi.shape[1]
        u = rng.random((T, 2, n, 1))
        likely, (successor, cumulative, reward) = running_sums(pi), self.outcomes
        states, actions = np.empty((n, T + 1), np.int64), np.empty((n, T), np.int64)
        rewards, lengths = np.zeros((n, T)), np.zeros(n, np.int64)
        s, live = starts.copy(), ~self.mdp.terminal[starts]
        for t in range(T):
            states[:, t] = s
            a = (likely[s] <= u[t, 0]).sum(1)
            i = s * A + a
            j = (cumulative[i] <= u[t, 1]).sum(1)
            rewards[:, t] = np.where(live, reward[i, j], 0.0)
            actions[:, t] = a
            lengths += live
            s = np.where(live, successor[i, j], s)
            live &= ~self.mdp.terminal[s]
        states[:, T] = s
        return Segments(states, actions, rewards, lengths, self.mdp.terminal[s], starts)

    def totals(self, pi: Array, r: Array) -> Array:
        """Expected sums over T steps of r under a policy, from each state.

        Args:
            pi: (S, A).
            r: (S, A, K), K rewards side by side; terminal states earn nothing.

        Returns:
            (S, K).
        """
        S, A, K = r.shape
        P, going = self.mdp.P, ~self.mdp.terminal[:, None]
        V = np.zeros((S, K))
        for _ in range(self.length):
            V = going * (pi[:, :, None] * (r + (P @ V).reshape(S, A, K))).sum(1)
        return V

    def score(self, pi: Array, reference: Array) -> tuple[float, float]:
        """Return J of a policy, and KL(π | π_ref) along its way, means over the starts; exact.

        KL = E Σ_t KL(π(·|s_t) | π_ref(·|s_t)) (preferences §6.1).
        """
        ratio = np.log(np.where(pi > 0.0, pi, 1.0)) - np.log(np.where(pi > 0.0, reference, 1.0))
        V = self.totals(pi, np.stack([self.mdp.r, ratio], axis=2))[self.starts].mean(0)
        return float(V[0]), float(V[1])


# ---------------------------------------------------------------- references and features


def cell_positions(task: TabularTask) -> Array | None:
    """(row, column) of each cell, (cells, 2); None where states are no cells of a grid."""
    if task.grid_shape is None:
        return None
    rows, columns = task.grid_shape
    positions = np.stack(np.divmod(np.arange(rows * columns), columns), axis=1)
    return np.asarray(positions, np.float64)


def state_features(task: TabularTask, kind: str, width: float = 1.0) -> Array:
    """Features of states, (S, F).

    Args:
        kind: "one-hot"; "rbf", radial basis functions around the cells of a grid; "cells", its
            standardised rows and columns; "auto", rbf where there is a grid.

    Raises:
        InputError: another kind, or one of a grid where states are no cells.
    """
    one_of("features", kind, FEATURES)
    S, positions = task.mdp.num_states, cell_positions(task)
    if kind == "one-hot" or (kind == "auto" and positions is None):
        return np.eye(S)
    if positions is None:
        raise InputError(
            f"features must be one-hot where states are no cells of a grid, got {kind}"
        )
    if kind == "cells":
        deviation = np.maximum(positions.std(0), 1e-12)
        phi = np.zeros((S, 2))  # a state that a table adds is no cell
        phi[: len(positions)] = (positions - positions.mean(0)) / deviation
        return phi
    square = ((positions[:, None] - positions) ** 2).sum(2)
    phi = np.zeros((S, len(positions)))
    phi[: len(positions)] = np.exp(-square / (2.0 * width**2))
    return phi


def noisy_expert(
    task: TabularTask, rng: np.random.Generator, scale: float = 0.7, noise: float = 0.5
) -> Array:
    """softmax(scale × standardised T-step advantage + noise × normal), (S, A)."""
    A = task.optimum.Q[0] - task.optimum.V[0][:, None]
    live = A[task.starts]
    logits = scale * (A - live.mean()) / max(live.std(), 1e-12)
    return softmax(logits + noise * rng.standard_normal(A.shape))


def floored(pi: Array, share: float) -> Array:
    """A policy with a share of uniform actions mixed in, so that divergences from it are finite."""
    return np.asarray((1.0 - share) * pi + share / pi.shape[-1])


def softmax(logits: Array) -> Array:
    """Of the last axis."""
    x = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(x / x.sum(-1, keepdims=True))


# ---------------------------------------------------------------- policies


class Steps(NamedTuple):
    """Steps of segments as cells s*A + a of a table, with weights γ^t that are 0 after the end."""

    cells: Count  # (n, T)
    weights: Array  # (n, T)

    def sums(self, table: Array) -> Array:
        """Σ_t γ^t table(s_t, a_t) of each segment, (n,)."""
        total: Array = (table.ravel()[self.cells] * self.weights).sum(1)
        return total


def steps_of(segments: Segments, num_actions: int, gamma: float = 1.0) -> Steps:
    T = segments.rewards.shape[1]
    cells = segments.states[:, :T] * num_actions + segments.actions
    return Steps(cells, segments.mask * gamma ** np.arange(T))


class Logits(Protocol):
    """Parameters behind a table of logits."""

    def table(self) -> Array: ...  # (S, A), added to log π_ref
    def descend(self, gradient: Array) -> None: ...  # one step against dL/dtable
    def reset(self) -> None: ...  # to the reference, with a fresh optimiser
    def fresh_optimiser(self) -> None: ...
    def state_dict(self) -> State: ...
    def load_state_dict(self, state: State) -> None: ...


class LinearLogits:
    """Φ W with Adam (Kingma & Ba, 2015); W = 0 is the reference.

    Args:
        features: Φ, (S, F).
    """

    DECAYS = (0.9, 0.999)

    def __init__(self, features: Array, num_actions: int, learning_rate: float) -> None:
        self.features, self.learning_rate = features, learning_rate
        self.W = np.zeros((features.shape[1], num_actions))
        self.fresh_optimiser()

    def fresh_optimiser(self) -> None:
        self.mean, self.square, self.count = np.zeros_like(self.W), np.zeros_like(self.W), 0

    def reset(self) -> None:
        self.W = np.zeros_like(self.W)
        self.fresh_optimiser()

    def table(self) -> Array:
        return self.features @ self.W

    def descend(self, gradient: Array) -> None:
        g, (b1, b2) = self.features.T @ gradient, self.DECAYS
        self.count += 1
        self.mean = b1 * self.mean + (1.0 - b1) * g
        self.square = b2 * self.square + (1.0 - b2) * g * g
        mean = self.mean / (1.0 - b1**self.count)
        square = self.square / (1.0 - b2**self.count)
        self.W = self.W - self.learning_rate * mean / (np.sqrt(square) + 1e-8)

    def state_dict(self) -> State:
        names = ("W", "mean", "square", "count")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: State) -> None:
        vars(self).update(state)


class LabelledSteps(NamedTuple):
    """The steps of n pairs, as a policy learns from them."""

    a: Steps
    b: Steps


class TablePolicy:
    """π = softmax(log π_ref + logits), trained on labelled pairs (§1.1).

    Args:
        reference: π_ref, (S, A), positive.
        gamma: γ in (0, 1] of the sums S.
        with_reference: whether S sums log-ratios; else log π.
    """

    def __init__(
        self, reference: Array, logits: Logits, gamma: float = 1.0, with_reference: bool = True
    ) -> None:
        in_range("gamma", gamma, "(0, 1]")
        self.reference, self.logits = reference, logits
        self.gamma, self.with_reference = gamma, with_reference
        self.refresh()

    def refresh(self) -> None:
        """Read the logits again."""
        logits = self.logits.table()
        logits = logits - logits.max(1, keepdims=True)
        weights = self.reference * np.exp(logits)
        share = weights.sum(1, keepdims=True) / self.reference.sum(1, keepdims=True)
        self.pi = weights / share  # equal logits are the reference, to the bit
        ratios = logits - np.log(share)
        self.summed = ratios if self.with_reference else ratios + np.log(self.reference)

    def log_ratios(self, segments: Segments) -> Array:
        """S of each segment, (N,); exactly 0 where the policy is its reference."""
        return steps_of(segments, self.pi.shape[1], self.gamma).sums(self.summed)

    def labelled(self, pairs: Pairs, shared_start: bool = True) -> LabelledSteps:
        """Pairs to learn from.

        Args:
            shared_start: whether the loss compares segments from one state only, as dpo and ipo do.

        Raises:
            InputError: it does, and some don't share theirs.
        """
        if shared_start:
            check_starts(pairs)
        A = self.pi.shape[1]
        a, b = (steps_of(segments, A, self.gamma) for segments in (pairs.a, pairs.b))
        return LabelledSteps(a, b)

    def learn(self, labelled: LabelledSteps, y: Array, loss: LossFunction) -> float:
        """One gradient step on the mean loss of pairs, which is returned.

        With C(s, a) the weights γ^t dL/dS that pass through a cell, the gradient by the logits is
        C(s, a) - π(a|s) Σ_b C(s, b).
        """
        S, A = self.pi.shape
        found = loss(labelled.a.sums(self.summed), labelled.b.sums(self.summed), y)
        C = np.zeros(S * A)
        for steps, slope in ((labelled.a, found.by_a), (labelled.b, found.by_b)):
            weights = (steps.weights * slope[:, None]).ravel()
            C += np.bincount(steps.cells.ravel(), weights=weights, minlength=S * A)
        C = C.reshape(S, A) / len(y)
        self.logits.descend(C - self.pi * C.sum(1, keepdims=True))
        self.refresh()
        return float(found.value.mean())

    def reset(self) -> None:
        """Back to the reference, bit for bit, with a fresh optimiser."""
        self.logits.reset()
        self.refresh()

    def fresh_optimiser(self) -> None:
        self.logits.fresh_optimiser()

    def rebase(self) -> None:
        """Let the policy as it is now be the reference."""
        self.reference = np.maximum(self.pi, 1e-12)
        self.reset()

    def state_dict(self) -> State:
        return {"reference": self.reference, "logits": self.logits.state_dict()}

    def load_state_dict(self, state: State) -> None:
        self.reference = state["reference"]
        self.logits.load_state_dict(state["logits"])
        self.refresh()
