"""How a policy learns from labelled pairs in a round: on which of them, how long, from where."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, get_args

import numpy as np

from rlentropy.errors import in_range, one_of, whole
from rlentropy.preferences.losses import LOSSES, LossFunction, preference_loss
from rlentropy.preferences.segments import Pairs
from rlentropy.types import Array, Count

DECAY = 0.9  # of the moving average of losses that ends training early


@dataclass(frozen=True)
class Training:
    """The variants of the loop (preferences §1.5)."""

    loss: str = "dpo"
    beta: float = 0.2  # temperature of the implicit reward
    label_smoothing: float = 0.0
    conservative: float = 1.0  # λ of cpl
    train: Literal["newest", "all"] = "newest"
    epochs: int = 3  # gradient steps a round, each on all labels that it trains on
    restart: bool = False  # from the reference each round, with a fresh optimiser
    fresh_optimiser: bool = False  # each round
    update_reference: bool = False  # after each round the policy becomes the reference
    mixing: float | None = None  # r in [0, 1]: epochs draw from all rounds, see `round_shares`
    early_stop: float = 0.0  # ends a round where the loss is below this share of its maximum

    def __post_init__(self) -> None:
        one_of("loss", self.loss, LOSSES)
        in_range("dpo_beta", self.beta, "(0, inf)")
        in_range("label_smoothing", self.label_smoothing, "[0, 0.5)")
        in_range("conservative", self.conservative, "(0, 1]")
        one_of("train", self.train, get_args(Literal["newest", "all"]))
        whole("epochs", self.epochs, 1)
        if self.mixing is not None:
            in_range("mixing", self.mixing, "[0, 1]")
        in_range("early_stop", self.early_stop, "[0, 1)")

    @property
    def loss_function(self) -> LossFunction:
        return partial(
            preference_loss,
            self.loss,
            beta=self.beta,
            smoothing=self.label_smoothing,
            conservative=self.conservative,
        )


class Learner(Protocol):
    """A policy that takes gradient steps on pairs."""

    def labelled(self, pairs: Pairs, shared_start: bool = True) -> Any: ...
    def learn(self, labelled: Any, y: Array, loss: LossFunction) -> float: ...
    def reset(self) -> None: ...
    def fresh_optimiser(self) -> None: ...
    def rebase(self) -> None: ...


def round_shares(rounds: int, r: float) -> Array:
    """Shares of an epoch that rounds 0.. (oldest first) get, summing to 1.

    With w_0 = 1 and w_p = (r + 1) w_{p-1} / (w_{p-1} + 1), round p gets w_p of what newer rounds
    left. r = 0 draws evenly, r = 1 from the newest alone; beyond it shares would exceed 1.
    """
    weights = np.ones(rounds)
    for p in range(1, rounds):
        weights[p] = (r + 1.0) * weights[p - 1] / (weights[p - 1] + 1.0)
    shares, left = np.zeros(rounds), 1.0
    for p in reversed(range(rounds)):
        shares[p] = weights[p] * left
        left -= shares[p]
    return shares


def mixed(sizes: Count, r: float, rng: np.random.Generator) -> Count:
    """Indices of an epoch: as many labels as the newest round has, of all rounds, none twice."""
    shares = np.repeat(round_shares(len(sizes), r) / np.maximum(sizes, 1), sizes)
    n = min(int(sizes[-1]), int(np.count_nonzero(shares)))
    return rng.choice(shares.size, n, replace=False, p=shares / shares.sum())


def fit(
    policy: Learner,
    pairs: Pairs,
    y: Array,
    sizes: Count,
    training: Training,
    rng: np.random.Generator,
) -> dict[str, float]:
    """A round of training; returns its figures.

    Args:
        pairs, y: all labels so far, oldest first.
        sizes: labels of each round.
    """
    if training.restart:
        policy.reset()
    elif training.fresh_optimiser:
        policy.fresh_optimiser()
    chosen: Any = slice(len(y) - int(sizes[-1]), len(y))
    if training.train == "all":
        chosen = slice(0, len(y))
    shared_start, loss = training.loss != "cpl", training.loss_function
    batch, answers = policy.labelled(pairs.take(chosen), shared_start), y[chosen]
    average = largest = first = last = 0.0
    for epoch in range(training.epochs):
        if training.mixing is not None:
            chosen = mixed(sizes, training.mixing, rng)
            batch, answers = policy.labelled(pairs.take(chosen), shared_start), y[chosen]
        last = policy.learn(batch, answers, loss)
        first = last if epoch == 0 else first
        average = last if epoch == 0 else DECAY * average + (1.0 - DECAY) * last
        largest = max(largest, average)
        if average < training.early_stop * largest:
            break
    if training.update_reference:
        policy.rebase()
    return {"train/loss": first, "train/final_loss": last}
