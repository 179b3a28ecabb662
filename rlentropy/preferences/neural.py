"""Neural policies that learn from preferences: log-ratios of segments, and steps of Adam on them.

A policy network starts at its reference, a frozen copy, and S of a segment is the sum over its
steps of γ^t log π(a_t|s_t)/π_ref(a_t|s_t), or without a reference of γ^t log π(a_t|s_t)
(preferences §1.1-1.3, §7). Only steps that count pass through a network. The reference's part of S
never changes, so labelled pairs carry it with them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rlentropy.errors import InputError, in_range
from rlentropy.neural import devices
from rlentropy.neural.gradients import BLOCK, activations, add_to_gradient, added, backward
from rlentropy.neural.networks import MLP, Activation, Adam, Layers, Rows, forward, layers_of
from rlentropy.neural.saved import saved_policy
from rlentropy.neural.spaces import (
    OBSERVATION_CLIP,
    Actions,
    Encoder,
    NeuralPolicy,
    make_head,
    standardised,
    warn_if_wide,
)
from rlentropy.preferences.losses import LossFunction
from rlentropy.preferences.segments import Pairs, Segments, check_starts, joined
from rlentropy.types import Array, Count, Env, State


class Flat(NamedTuple):
    """The steps of N segments that count, B in all, segment by segment."""

    x: Rows  # standardised observations, (B, width)
    actions: Actions  # (B, K)
    discounts: Array  # γ^t, t steps after the segment's start, (B,)
    ends: Count  # (N + 1,); segment i has the rows ends[i]..ends[i + 1] - 1

    @property
    def owner(self) -> Count:
        """The segment of each step, (B,)."""
        return np.repeat(np.arange(len(self.ends) - 1), np.diff(self.ends))

    def sums(self, values: Any) -> Array:
        """Discounted sums over each segment, (B,) -> (N,)."""
        weighted = self.discounts * values
        return np.asarray(np.bincount(self.owner, weighted, len(self.ends) - 1), np.float64)

    def blocks(self) -> Iterator[slice]:
        """Rows in parts that fit the cache."""
        return (slice(k, k + BLOCK) for k in range(0, len(self.x), BLOCK))


def flattened(segments: Segments, scaling: tuple[Array, Array], gamma: float = 1.0) -> Flat:
    """The steps that count, with observations as networks see them."""
    mask = segments.mask
    x = standardised(segments.states[:, :-1][mask], *scaling, OBSERVATION_CLIP)
    discounts = np.power(gamma, np.nonzero(mask)[1], dtype=np.float64)
    ends = np.append(0, np.cumsum(segments.lengths))
    return Flat(x, segments.actions[mask], discounts, ends)


@dataclass(frozen=True)
class Labelled:
    """N pairs as `SegmentPolicy.learn` takes them: segment 2i is the first of pair i."""

    steps: Flat  # of 2N segments
    reference: Array  # the reference's part of S, (2N,); 0 without one

    def __len__(self) -> int:
        return len(self.reference) // 2

    def take(self, index: Any) -> Labelled:
        """Some of them, in the order of an index."""
        index = np.arange(len(self))[index]
        segments = (2 * index[:, None] + [0, 1]).ravel()
        x, actions, discounts, ends = self.steps
        lengths = np.diff(ends)[segments]
        starts = np.append(0, np.cumsum(lengths))
        rows = np.arange(starts[-1]) + np.repeat(ends[segments] - starts[:-1], lengths)
        steps = Flat(x[rows], actions[rows], discounts[rows], starts)
        return Labelled(steps, self.reference[segments])

    def parts(self) -> Iterator[tuple[slice, Flat, Array]]:
        """Whole pairs whose steps fit the cache: which, their steps and the reference's sums."""
        x, actions, discounts, ends = self.steps
        by_pair, i = ends[::2], 0
        while i < len(self):
            most = int(np.searchsorted(by_pair, by_pair[i] + BLOCK, side="right")) - 1
            j = min(max(most, i + 1), len(self))
            rows = slice(int(by_pair[i]), int(by_pair[j]))
            ends_here = ends[2 * i : 2 * j + 1] - by_pair[i]
            steps = Flat(x[rows], actions[rows], discounts[rows], ends_here)
            yield slice(i, j), steps, self.reference[2 * i : 2 * j]
            i = j


def joined_labelled(parts: Sequence[Labelled]) -> Labelled:
    """Pairs of several rounds."""
    x, actions, discounts, ends = zip(*(part.steps for part in parts), strict=True)
    lengths = np.concatenate([np.diff(one) for one in ends])
    steps = Flat(
        np.concatenate(x),
        np.concatenate(actions),
        np.concatenate(discounts),
        np.append(0, np.cumsum(lengths)),
    )
    return Labelled(steps, np.concatenate([part.reference for part in parts]))


class StepValues(NamedTuple):
    """What a policy gives each step, (N, T); 0 behind the end."""

    log_pi: Array  # log π(a_t|s_t)
    log_reference: Array
    entropy: Array  # of π(·|s_t), in nats


class SegmentPolicy:
    """A policy that learns from preferences, beside the reference that it starts from.

    Args:
        reference: frozen; the policy begins as its copy.
        learning_rate: of Adam.
        gamma: γ in (0, 1] of the sums.
        with_reference: whether the sums are of log-ratios; else of log π.

    Raises:
        InputError: the reference is no policy network, or a number is out of range.
    """

    def __init__(
        self,
        reference: NeuralPolicy,
        learning_rate: float,
        gamma: float = 1.0,
        with_reference: bool = True,
    ) -> None:
        if not isinstance(reference, NeuralPolicy):
            raise InputError(f"reference must be a policy network, got {reference!r}")
        in_range("learning_rate", learning_rate, "(0, inf)")
        in_range("gamma", gamma, "(0, 1]")
        self.gamma, self.with_reference = gamma, with_reference
        self.reference: Layers = [(w.copy(), b.copy()) for w, b in reference.layers]
        self.head, self.activation, self.scaling = (
            reference.head,
            reference.activation,
            reference.scaling,
        )
        sizes = [len(w) for w, _ in self.reference] + [len(self.reference[-1][1])]
        # Its gradients are made in numpy, so no other device would be faster.
        rngs = [np.random.default_rng(0)]
        self.network = MLP(sizes, rngs, self.activation, device=devices.CPU)
        self.adam = Adam(self.network, learning_rate)
        self._acting = copy.copy(reference)
        self.reset()

    def reset(self) -> None:
        """Back to the reference, with a fresh optimiser."""
        pieces = [w.ravel() for layer in self.reference for w in layer]
        self.network.load_state_dict({"flat": np.concatenate(pieces)})
        self.network.gradient.zero_()
        self.adam.load_state_dict({})

    def fresh_optimiser(self) -> None:
        self.adam.load_state_dict({})

    def rebase(self) -> None:
        """Let the policy as it is now be the reference; pairs must be labelled anew."""
        self.reference = [(w.copy(), b.copy()) for w, b in layers_of(self.network)]
        self.reset()

    def acting(self, stochastic: bool = True) -> NeuralPolicy:
        """The policy as it is now, to roll out or to evaluate."""
        policy = copy.copy(self._acting)
        policy.layers, policy.stochastic = layers_of(self.network), stochastic
        return policy

    def log_ratios(self, segments: Segments) -> Array:
        """S of each segment, (N,); exactly 0 where the policy is its reference."""
        flat = flattened(segments, self.scaling, self.gamma)
        present, found = layers_of(self.network), np.empty(len(flat.x))
        for rows in flat.blocks():
            found[rows] = self._log_p(present, flat, rows)
            if self.with_reference:
                found[rows] -= self._log_p(self.reference, flat, rows)
        return flat.sums(found)

    def _log_p(self, layers: Layers, flat: Flat, rows: slice) -> Rows:
        outputs = forward(layers, flat.x[rows], self.activation)
        return self.head.score(outputs, flat.actions[rows])[0]

    def steps(self, segments: Segments) -> StepValues:
        """Log-probabilities and entropies step by step, for scores and diagnostics (§2.2)."""
        flat, mask = flattened(segments, self.scaling), segments.mask
        values = np.zeros((3, *mask.shape))
        found, present = np.empty((3, len(flat.x))), layers_of(self.network)
        for rows in flat.blocks():
            outputs = forward(present, flat.x[rows], self.activation)
            found[0, rows] = self.head.score(outputs, flat.actions[rows])[0]
            found[1, rows] = self._log_p(self.reference, flat, rows)
            found[2, rows] = self.head.entropies(outputs)
        values[:, mask] = found
        return StepValues(*values)

    def labelled(self, pairs: Pairs, shared_start: bool = True) -> Labelled:
        """Pairs with the reference's part of their sums, to learn from.

        Args:
            shared_start: whether the loss compares segments from one state only, as dpo and ipo do.

        Raises:
            InputError: it does, and some don't share theirs.
        """
        if shared_start:
            check_starts(pairs)
        order = np.arange(2 * len(pairs)).reshape(2, -1).T.ravel()
        flat = flattened(joined([pairs.a, pairs.b]).take(order), self.scaling, self.gamma)
        log_p = np.zeros(len(flat.x))
        if self.with_reference:
            for rows in flat.blocks():
                log_p[rows] = self._log_p(self.reference, flat, rows)
        return Labelled(flat, flat.sums(log_p))

    def learn(
        self, labelled: Labelled, y: Array, loss: LossFunction, max_norm: float | None = None
    ) -> float:
        """One step of Adam on the mean loss of pairs, which is returned.

        Args:
            y: (N,), in [0, 1].
            loss: as `losses.preference_loss` with a name and its parameters.
            max_norm: largest Euclidean norm of the gradient; default: no limit.

        Raises:
            InputError: there is no answer, or one that is none.
        """
        y = np.asarray(y, np.float64)
        if not (y.shape == (len(labelled),) and y.size and (y >= 0.0).all() and (y <= 1.0).all()):
            raise InputError(f"y must be {len(labelled)} >= 1 numbers in [0, 1], got {y}")
        layers, slopes, total = layers_of(self.network), None, 0.0
        for pairs, steps, reference in labelled.parts():
            seen = activations(layers, steps.x, self.activation)
            log_p, score = self.head.score(seen[-1], steps.actions)
            sums = steps.sums(log_p) - reference
            value, by_a, by_b = loss(sums[0::2], sums[1::2], y[pairs])
            by_sum = np.stack([by_a, by_b], axis=1).ravel() / len(y)
            score *= (by_sum[steps.owner] * steps.discounts)[:, None].astype(np.float32)
            slopes = added(slopes, backward(layers, seen, score, self.activation))
            total += float(value.sum())
        assert slopes is not None
        add_to_gradient(self.network, 0, slopes)
        self.adam.step(max_norm=max_norm)
        return total / len(y)

    def saved_policy(self, stochastic: bool = True) -> dict[str, Any]:
        """What policy.pt holds."""
        return saved_policy(self.network, self.scaling, stochastic)

    def state_dict(self) -> State:
        return {
            "network": self.network.state_dict(),
            "adam": self.adam.state_dict(),
            "reference": [list(layer) for layer in self.reference],
        }

    def load_state_dict(self, state: State) -> None:
        self.reference = [(w, b) for w, b in state["reference"]]
        self.network.load_state_dict(state["network"])
        self.adam.load_state_dict(state["adam"])


def untrained(
    env: Env,
    hidden: Sequence[int],
    rng: np.random.Generator,
    scaling: tuple[Array, Array] | None = None,
    activation: Activation = "tanh",
) -> NeuralPolicy:
    """A policy network whose outputs are 0: uniform, or in a Box normal around its middle.

    Args:
        scaling: mean and deviation of observations, (width,); default: 0 and 1.
    """
    warn_if_wide(env.observation_space)
    encode, head = Encoder.of(env.observation_space), make_head(env.action_space)
    sizes = (encode.width, *hidden, head.num_outputs)
    layers = layers_of(MLP(sizes, [rng], activation, 0.0, devices.CPU))
    scaling = (np.zeros(encode.width), np.ones(encode.width)) if scaling is None else scaling
    return NeuralPolicy(env, layers, activation, scaling, stochastic=True)
