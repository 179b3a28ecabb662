"""What the offline commands are asked, and the data they have for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, get_args, get_type_hints

import numpy as np
from gymnasium.spaces import Discrete

from rlentropy import calls
from rlentropy.data import Batch, Transitions, load
from rlentropy.errors import InputError, in_range, one_of, whole
from rlentropy.log import Agent
from rlentropy.offline.tabular import Model
from rlentropy.policies import Policy
from rlentropy.risk import Measure
from rlentropy.types import Array

Returned = TypeVar("Returned")


@dataclass(frozen=True)
class Config:
    """Options of every offline command; the networks' are those of the runs in results/offline."""

    data: str = ""  # dataset: a Minari id, or a path that ends in .npz, .hdf5 or .h5 (required)
    risk: str = "nominal"  # risk measure, NAME or NAME:PARAMETER
    gamma: float = 0.95  # discount, in (0, 1)
    # budget: gradient steps, or sweeps of a table, which may need fewer; networks of the default
    # size take some minutes for 10 000 on one core
    updates: int = 10_000
    # a table for Discrete spaces, else networks
    approximator: Literal["auto", "tabular", "neural"] = "auto"
    holdout: float = 0.05  # share of transitions, the last ones, kept for diagnostics, in [0, 1)

    # tables:

    # Q of a table's cells without data: r / (1 - γ) of the least or largest reward, or zero
    unvisited: Literal["pessimistic", "optimistic", "zero"] = "pessimistic"
    tolerance: float = 1e-9  # a table is done when its V is known to this, in reward units, > 0

    # networks:

    # networks trained side by side, with seeds --seed, --seed + 1, …; the policy is the first's
    seeds: int = 1
    hidden: tuple[int, ...] = (256, 256)  # widths of the hidden layers
    batch_size: int = 1000  # transitions a gradient step
    learning_rate: float = 1e-3  # of Adam, > 0
    target_every: int = 50  # gradient steps between moves of the target network
    tau: float = 1.0  # how far it moves to the network, in (0, 1]; 1 is fitted iteration
    # how networks see Discrete observations; fourier: sines and cosines, for states on a ring
    embedding: Literal["one-hot", "fourier"] = "one-hot"
    # points a dimension of a Box of actions, between which networks interpolate linearly
    action_grid: int = 11
    # networks choose among actions that are at least this share as likely in the data as the
    # likeliest, in [0, 1); 0: among all. Tables, and networks on Discrete spaces: see --unvisited
    support: float = 0.0
    episodes: int = 20  # an evaluation, where --env-id has no known model
    horizon: int | None = None  # steps of an evaluation episode; default: the environment's limit

    def __post_init__(self) -> None:
        for name in ("updates", "batch_size", "target_every"):
            whole(name, getattr(self, name), 1)
        whole("action_grid", self.action_grid, 2)
        whole("episodes", self.episodes, 1, 10**6)
        whole("seeds", self.seeds, 1, 10**4)
        if self.horizon is not None:
            whole("horizon", self.horizon, 1)
        in_range("tolerance", self.tolerance, "(0, inf)")
        in_range("learning_rate", self.learning_rate, "(0, inf)")
        in_range("gamma", self.gamma, "(0, 1)")
        in_range("holdout", self.holdout, "[0, 1)")
        in_range("tau", self.tau, "(0, 1]")
        in_range("support", self.support, "[0, 1)")
        if not isinstance(self.hidden, tuple | list) or not self.hidden:
            raise InputError(f"hidden must be widths >= 1, got {self.hidden!r}")
        for width in self.hidden:
            is_whole = isinstance(width, int | np.integer) and not isinstance(width, bool)
            if not is_whole or width < 1:
                raise InputError(f"hidden must be widths >= 1, got {width!r}")
        if not isinstance(self.risk, str):
            raise InputError(f"risk must be NAME or NAME:PARAMETER, got {self.risk!r}")
        for field in fields(self):  # choices, which the command line has checked
            choices = get_args(get_type_hints(type(self))[field.name])
            if choices and all(isinstance(choice, str) for choice in choices):
                one_of(field.name, getattr(self, field.name), choices)


def on_data(
    config: type[Any],
) -> Callable[[Callable[..., Returned]], calls.Run[Transitions | str | Path, Returned]]:
    """Let a `run(data, config, rng, log, env)` be called as `rlentropy.calls` says."""
    return lambda run: calls.callable_as_said(run, config, read_data)


def read_data(known: dict[str, Any], stack: ExitStack) -> None:
    """Load the dataset that is named, and make the environment."""
    data, config = known.get("data"), known["config"]
    if isinstance(data, str | Path):
        known["data"], known["config"] = load(str(data)), replace(config, data=str(data))
    elif not isinstance(data, Transitions):
        kind = "none" if data is None else f"a {type(data).__name__}"
        raise InputError(f"data must be Transitions, or the path or Minari id of some, got {kind}")
    if known.get("env") is not None:
        calls.read_env(known, stack)


@dataclass(frozen=True)
class Problem:
    """What is to be learnt, and from what."""

    train: Transitions
    held_out: Transitions | None
    gamma: float
    measure: Callable[[int], Measure]  # for n states, of which the fail state is the last
    fail: float | None  # value of a state that nature may always lead to; None: there is none
    low: float  # least value of a state that the rewards allow
    high: float  # largest
    model: Model | None  # of the training data, where spaces are Discrete


class Learner(Agent, Protocol):
    """Fitted iteration of M members."""

    def Q(self) -> Array | None: ...  # (M, S, A), where spaces are Discrete
    def policy(self, member: int) -> Policy: ...
    def diagnostics(self) -> dict[str, Array]: ...  # tags and values, (M,)
    def result(self) -> dict[str, Any]: ...  # fields of `Result`


def split(
    data: Transitions, config: Config, measure: Callable[[int], Measure], fail: float | None
) -> Problem:
    """Keep the last transitions for diagnostics, and learn from the rest."""
    size = len(data) - int(config.holdout * len(data))
    train = part(data, slice(0, size))
    low, high = value_range(data, config.gamma)
    if not np.isfinite(low + high):
        raise InputError("rewards must be small enough for finite values, got an overflow")
    low = low if fail is None else min(low, fail)
    tabular = all(isinstance(s, Discrete) for s in (data.observation_space, data.action_space))
    return Problem(
        train=train,
        held_out=part(data, slice(size, None)) if size < len(data) else None,
        gamma=config.gamma,
        measure=measure,
        fail=fail,
        low=low,
        high=high,
        model=model_of(train, fail) if tabular else None,
    )


def model_of(data: Transitions, fail: float | None) -> Model:
    """The empirical model; with a fail state, where no reward is known, rewards are averaged."""
    model = Model.counted(data.counts())
    return model if fail is None else replace(model, excess=np.zeros_like(model.excess))


def part(data: Transitions, rows: slice) -> Transitions:
    return replace(data, **{key: getattr(data, key)[rows] for key in Batch._fields})


def value_range(data: Transitions, gamma: float) -> tuple[float, float]:
    """The least and largest discounted return that the rewards of the data allow."""
    least, most = float(np.min(data.rewards)), float(np.max(data.rewards))
    low, high = least / (1.0 - gamma), most / (1.0 - gamma)
    if np.any(data.terminations):
        low, high = min(low, least, 0.0), max(high, most, 0.0)
    return low, high


def member_rngs(rng: np.random.Generator, members: int) -> list[np.random.Generator]:
    """The generators of runs with this run's seed, the next seed, and so on."""
    first = rng.bit_generator.seed_seq
    assert isinstance(first, np.random.SeedSequence)
    assert isinstance(first.entropy, int)
    seeds = [first.entropy + k for k in range(members)]
    return [np.random.default_rng(np.random.SeedSequence(seed)) for seed in seeds]


def greedy(Q: Array) -> Array:
    """The policy that takes the first of the best actions, like Q."""
    pi = np.zeros(Q.shape)
    np.put_along_axis(pi, Q.argmax(-1)[..., None], 1.0, axis=-1)
    return pi
