"""Ensembles of reward networks learnt from labels, and policies that learn from their mean.

Each member scores a segment by the sum of its rewards r_k(s, a) over the steps that count, and
prefers by Bradley-Terry; each sees a bootstrap resample of the labels of its own, as whole weights
(preferences §5.2). They share inputs, shuffles and one step of Adam, and end where each would have
ended alone. Policies learn from the mean reward by the package's actor-critic, whose batches are
relabelled once they are played (§7): environments and teachers keep the true reward.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlentropy.errors import InputError, in_range, whole
from rlentropy.neural import devices
from rlentropy.neural.actor_critic import ActorCritic
from rlentropy.neural.gradients import BLOCK, activations, add_to_gradient, added, backward
from rlentropy.neural.networks import MLP, Adam, Rows, forward, layers_of
from rlentropy.neural.rollouts import Rollouts
from rlentropy.neural.spaces import OBSERVATION_CLIP, Actions, Head, standardised
from rlentropy.preferences.losses import dpo
from rlentropy.preferences.neural import Flat, Labelled, flattened
from rlentropy.preferences.segments import Pairs, joined
from rlentropy.types import Array, Count, State


class RewardModels:
    """K reward networks.

    Args:
        head: of the actions.
        scaling: mean and deviation that observations are standardised by, (width,).
        members: K.
        rng: draws the initial weights of each.
        hidden: widths of the hidden layers.
        learning_rate: of Adam.
        bounded: whether rewards pass through tanh, so that members keep one scale.

    Raises:
        InputError: a number is out of range.
    """

    activation = "tanh"

    def __init__(
        self,
        head: Head,
        scaling: tuple[Array, Array],
        members: int,
        rng: np.random.Generator,
        hidden: Sequence[int] = (64, 64),
        learning_rate: float = 1e-3,
        bounded: bool = True,
    ) -> None:
        whole("members", members, 1)
        in_range("learning_rate", learning_rate, "(0, inf)")
        self.head, self.scaling, self.bounded = head, scaling, bounded
        sizes = (len(scaling[0]) + head.num_features, *hidden, 1)
        seeds = rng.integers(2**63, size=members).tolist()
        rngs = [np.random.default_rng(seed) for seed in seeds]
        self.network = MLP(sizes, rngs, device=devices.CPU)  # gradients are made in numpy
        self.adam = Adam(self.network, learning_rate)

    @property
    def members(self) -> int:
        return self.network.members

    def labelled(self, pairs: Pairs) -> Labelled:
        """Pairs as `fit` takes them; their segments may start anywhere."""
        order = np.arange(2 * len(pairs)).reshape(2, -1).T.ravel()
        flat = flattened(joined([pairs.a, pairs.b]).take(order), self.scaling)
        inputs = np.concatenate([flat.x, self.head.features(flat.actions)], axis=1)
        return Labelled(flat._replace(x=inputs), np.zeros(2 * len(pairs)))

    def fit(
        self,
        labelled: Labelled,
        y: Array,
        rng: np.random.Generator,
        passes: int = 50,
        batch_size: int = 32,
        enough: float = 0.97,
        weights: Count | None = None,
    ) -> float:
        """Cross-entropy on soft targets; the mean loss of the last pass.

        Args:
            y: probabilities that the first segment is preferred, (N,); 1/2 is a tie.
            rng: draws resamples and shuffles.
            passes: over the labels, at most.
            batch_size: pairs a step of Adam.
            enough: share of their decided labels that members must agree with to stop before.
            weights: how often each member sees each label, (K, N); default: `bootstrap`.

        Raises:
            InputError: there is no answer, one that is none, or a number is out of range.
        """
        y, N = np.asarray(y, np.float64), len(labelled)
        if not (y.shape == (N,) and y.size and (y >= 0.0).all() and (y <= 1.0).all()):
            raise InputError(f"y must be {N} >= 1 numbers in [0, 1], got {y}")
        whole("passes", passes, 1)
        whole("batch_size", batch_size, 1)
        weights = bootstrap(self.members, N, rng) if weights is None else weights
        decided, loss = weights[:, y != 0.5].sum(), 0.0
        for _ in range(passes):
            order, figures = rng.permutation(N), np.zeros(2)
            for part in np.split(order, range(batch_size, N, batch_size)):
                figures += self._learn(labelled.take(part), y[part], weights[:, part])
            loss = figures[0] / (self.members * N)
            if decided and figures[1] >= enough * decided:
                break
        return float(loss)

    def _learn(self, labelled: Labelled, y: Array, weights: Count) -> Array:
        """A step of Adam; sums over pairs and members of the losses, and of agreements."""
        figures = np.zeros(2)
        for k in range(self.members):
            layers, slopes = layers_of(self.network, k), None
            for pairs, steps, _ in labelled.parts():
                seen = activations(layers, steps.x, "tanh")
                r = self._rewards(seen[-1])
                sums, y_here = steps.sums(r), y[pairs]
                loss = dpo(sums[0::2], sums[1::2], y_here, beta=1.0)
                by_a = weights[k, pairs] * loss.by_a / len(y)
                slope = np.stack([by_a, -by_a], axis=1).ravel()[steps.owner].astype(np.float32)
                slope = slope * (1.0 - r * r) if self.bounded else slope
                slopes = added(slopes, backward(layers, seen, slope[:, None], "tanh"))
                right = (sums[0::2] - sums[1::2]) * (y_here - 0.5) > 0.0
                figures += weights[k, pairs] @ loss.value, weights[k, pairs] @ right
            assert slopes is not None
            add_to_gradient(self.network, k, slopes)
        self.adam.step()
        return figures

    def _rewards(self, outputs: Rows) -> Rows:
        return np.tanh(outputs[:, 0]) if self.bounded else outputs[:, 0]

    def _of(self, inputs: Rows) -> Array:
        """Each member's rewards, (K, B)."""
        found = np.empty((self.members, len(inputs)))
        stacked = [layers_of(self.network, k) for k in range(self.members)]
        for start in range(0, len(inputs), BLOCK):
            rows = slice(start, start + BLOCK)
            for k, layers in enumerate(stacked):
                found[k, rows] = self._rewards(forward(layers, inputs[rows], "tanh"))
        return found

    def gaps(self, pairs: Pairs) -> Array:
        """Each member's return of the first segments less that of the second ones, (K, N)."""
        steps: Flat = self.labelled(pairs).steps
        sums = np.stack([steps.sums(rewards) for rewards in self._of(steps.x)])
        return np.asarray(sums[:, 0::2] - sums[:, 1::2])

    def rewards(self, observations: Rows, actions: Actions) -> Array:
        """Mean reward of steps, (B,), from encoded observations (B, width), actions (B, K)."""
        x = standardised(observations, *self.scaling, OBSERVATION_CLIP)
        mean: Array = self._of(np.concatenate([x, self.head.features(actions)], axis=1)).mean(0)
        return mean

    def state_dict(self) -> State:
        return {"network": self.network.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: State) -> None:
        self.network.load_state_dict(state["network"])
        self.adam.load_state_dict(state["adam"])


def bootstrap(members: int, N: int, rng: np.random.Generator) -> Count:
    """How often each member's resample of N labels holds each of them, (members, N)."""
    return rng.multinomial(N, np.full(N, 1.0 / N), size=members)


def relabel(rollouts: Rollouts, models: RewardModels) -> None:
    """Put the models' mean rewards in place of those of the environment."""
    T, N = rollouts.rewards.shape
    states = rollouts.observations[:-1].reshape(T * N, -1)
    actions = rollouts.actions.reshape(T * N, -1)
    rollouts.rewards = models.rewards(states, actions).reshape(T, N)


def improve(agent: ActorCritic, models: RewardModels, steps: int) -> dict[str, float]:
    """Train an actor-critic on the models' mean reward, in whole batches.

    Args:
        steps: of the environment, at least.

    Returns:
        The train/* figures of the last batch; train/return is of the environment's own rewards.
    """
    whole("steps", steps, 1)
    until, figures = agent.env_steps + steps, {}
    while agent.env_steps < until:
        rollouts = agent.play()
        relabel(rollouts, models)
        figures = agent.learn(rollouts)
    return figures
