"""Whether the model that an environment declares is the law of what `reset` and `step` do.

A wrapper may change that law, so only what stands behind passive wrappers counts. There the model
is compared with some hundred steps of a copy: impossible successors, wrong rewards, wrong ends, and
frequencies by bets at the declared odds. The seed is fixed and the copy is thrown away, so nothing
that is played later changes.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.wrappers import (
    HumanRendering,
    OrderEnforcing,
    PassiveEnvChecker,
    RecordEpisodeStatistics,
    RecordVideo,
    RenderCollection,
    TimeLimit,
)

from rlentropy.errors import InputError
from rlentropy.types import Array, Env

Outcome = tuple[float, int, float, bool]  # probability, successor, reward, terminated
Law = Callable[[int, int], list[Outcome]]  # of a state and an action

# Wrappers that hand actions and answers on as they are; TimeLimit's cut is no part of a model.
SILENT = (OrderEnforcing, PassiveEnvChecker, TimeLimit)
# These also write or draw, which a compiled simulator would leave out.
PASSIVE = (*SILENT, RecordEpisodeStatistics, RecordVideo, HumanRendering, RenderCollection)

STARTS = 100  # episodes of one step each, which repeat the start and one action of it
WALKS, STEPS, LONG = 5, 40, 150  # episodes of each kind, and their lengths; towards odd rewards
VISITS = 3  # of a goal, after which a walk is random
WORK = 30_000_000  # multiplications spent on planning the walks
FALSE_ALARM = 1e-9  # probability that a true model is refused for its frequencies, twice
BINS = 5  # of the ranks of what happens, from the likeliest down
STRENGTH = 2.0  # visits for which the declared odds stand in the bets
REWARD_ROUNDING = 1e-6  # relative: rewards may be float32


class Model(Protocol):
    """What of a `FiniteMDP` is read here."""

    num_states: int
    num_actions: int
    r: Array
    mu: Array
    terminal: Any

    @property
    def P(self) -> Any: ...
    def reachable(self) -> Any: ...


def behind(env: Env, wrappers: tuple[type, ...] = PASSIVE) -> Env:
    """The environment behind the wrappers that change nothing of it.

    A wrapper class of the user's own is passive while it overrides neither `reset` nor `step` of a
    passive one (or of `gymnasium.Wrapper`) and leaves both spaces alone.

    Raises:
        InputError: naming the first wrapper that may change rewards, actions, observations or ends.
    """
    if not isinstance(env, gymnasium.Env):
        way = f"; gymnasium.make({env!r:.60}) makes one" if isinstance(env, str) else ""
        kind = type(env).__name__
        raise InputError(f"env must be a gymnasium.Env, not vectorised, got a {kind}{way}")
    while isinstance(env, gymnasium.Wrapper):
        if not _hands_on(env, wrappers):
            raise InputError(
                f"env must be known through passive wrappers alone, got {type(env).__name__}, "
                "which may change what the model says"
            )
        env = env.env
    return env


def _hands_on(wrapper: Any, wrappers: tuple[type, ...]) -> bool:
    for name in ("reset", "step"):
        allowed = [getattr(kind, name) for kind in (gymnasium.Wrapper, *wrappers)]
        if name in vars(wrapper) or getattr(type(wrapper), name) not in allowed:
            return False
    inner = wrapper.env
    same = wrapper.observation_space == inner.observation_space
    return bool(same and wrapper.action_space == inner.action_space)


def grid_shape(env: Env, S: int) -> tuple[int, int] | None:
    """(rows, columns) where an environment says that its states are the cells of a grid."""
    base: Any = env.unwrapped
    for shape in (
        attribute(base, "grid_shape"),
        attribute(base, "shape"),  # CliffWalking
        attribute(attribute(base, "desc"), "shape"),  # FrozenLake
    ):
        whole = isinstance(shape, tuple) and all(isinstance(n, int | np.integer) for n in shape)
        if whole and len(shape) == 2 and shape[0] * shape[1] == S:
            return int(shape[0]), int(shape[1])
    return None


def draws_from_mdp(env: Env) -> bool:
    """Whether `step` and `reset` declare themselves to be nothing but draws from ``env.mdp``.

    The mark sits on the functions, so a subclass that overrides one of them loses it, unless it
    copies it with `functools.wraps`, which leaves a trace. States and actions count from 0 there.
    """
    if {"reset", "step"} & set(vars(env)):
        return False
    methods = type(env).reset, type(env).step
    marked = all(
        getattr(m, "samples_mdp", False) and not hasattr(m, "__wrapped__") for m in methods
    )
    spaces = env.observation_space, env.action_space
    return marked and all(getattr(space, "start", 0) == 0 for space in spaces)


def attribute(env: Env, name: str) -> Any:
    """An attribute of an environment, None where reading it fails in whatever way."""
    try:
        return getattr(env, name, None)
    except Exception:
        return None


def check_spaces(env: Env, num_states: int, num_actions: int) -> None:
    """Refuse spaces that are not Discrete of these sizes."""
    sizes = (num_states, num_actions)
    spaces = (env.observation_space, env.action_space)
    for name, space, n in zip(("observation", "action"), spaces, sizes, strict=True):
        if not (isinstance(space, Discrete) and space.n == n):
            raise InputError(
                f"env's {name} space must be Discrete({n}) as its model has it, got {space}"
            )


def twin(env: Env) -> Env:
    """A copy that can be played while the given environment stays as it is.

    Raises:
        InputError: it can be neither copied nor made again.
    """
    try:
        other: Env = copy.deepcopy(env)
    except Exception as error:
        if env.spec is None:
            raise InputError(
                f"env must be copied to compare its model with its steps, got {error}"
            ) from None
        options = {"render_mode": None} if "render_mode" in env.spec.kwargs else {}
        spec = dataclasses.replace(env.spec, additional_wrappers=())
        other = gymnasium.make(spec, **options).unwrapped
    if "render_mode" in vars(other):
        other.render_mode = None  # no window opens
    return other


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Puts the global generators back: an environment may draw from them."""
    state, other = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
        random.setstate(other)


def start_states(env: Env, count: int = 100) -> list[int]:
    """The states in which episodes of these seeds start, each once."""
    first = int(getattr(env.observation_space, "start", 0))
    with undisturbed():
        other = twin(env)
        try:
            return sorted({int(other.reset(seed=seed)[0]) - first for seed in range(count)})
        except Exception as error:
            raise InputError(f"env's reset must return a state, got {error}") from error


def check_law(env: Env, model: Model, law: Law) -> None:
    """Compare a declared model with what a copy of the environment does.

    Args:
        env: unwrapped.
        model: its kernel guides the walks; it may have more states than the environment, last.
        law: what the environment declares of (s, a).

    Raises:
        InputError: naming the first disagreement.
    """
    if replaced := {"reset", "step"} & set(vars(env)):  # a copy might play the original
        raise InputError(
            f"env's model must be the law of its class, got one whose {min(replaced)} is replaced"
        )
    fickle = attribute(env, "fickle_passenger")  # its law depends on what the state doesn't hold
    if isinstance(fickle, int | np.bool_) and fickle:
        raise InputError(
            "env's table P must be the law of its step, got Taxi with a fickle passenger, "
            "whose destination changes on the way"
        )
    with undisturbed():
        _Comparison(twin(env), model, law).run()


class _Comparison:
    """Plays the copy; every answer is looked up in the declared law."""

    def __init__(self, env: Any, model: Model, law: Law) -> None:
        self.env, self.model, self.law = env, model, law
        self.first_state = int(env.observation_space.start)
        self.first_action = int(env.action_space.start)
        self.S, self.A = int(env.observation_space.n), model.num_actions
        self.bets, self.ranks = _Bets(model.num_states * self.A + 1), _Bets(1)
        self.known: dict[tuple[int, int], list[Outcome]] = {}
        # Not the generator of a reset with any seed, of which the environment's may be a copy.
        self.rng, self.rank_rng = np.random.default_rng([1, 2, 3]).spawn(2)

    def run(self) -> None:
        P = self.model.P
        most = int(self.model.mu.argmax())
        wide = np.diff(P.indptr[most * self.A : (most + 1) * self.A + 1])
        s, action = self.start(0), int(wide.argmax())  # the action with the most successors
        for _ in range(STARTS):
            if not self.model.terminal[s]:
                self.move(s, action)
            s = self.start()
        for goals, walks, steps in self.plans():
            guide = self.guide(list(goals))
            for _ in range(walks):
                self.walk(s, goals, guide, steps)
                s = self.start()

    def walk(self, s: int, goals: dict[int, int], guide: Any, steps: int) -> None:
        """An episode from s towards states where an action is to be tried; random in the end."""
        visits = 0
        for _ in range(0 if self.model.terminal[s] else steps):
            visits += s in goals
            a = goals.get(s, int(guide[s]))
            if visits > VISITS or a < 0:
                a = int(self.rng.integers(self.A))
            s, over = self.move(s, a)
            if over:
                break

    def start(self, seed: int | None = None) -> int:
        try:
            observation, _ = self.env.reset(seed=seed)
        except Exception as error:
            raise self.broken("reset", error) from error
        s = self.state(observation, "reset")
        chance = float(self.model.mu[s])
        if not chance > 0.0:
            raise self.differs(f"reset starting in state {s}, which has no probability")
        self.bets.place(-1, s, chance, "start states")
        return s

    def move(self, s: int, a: int) -> tuple[int, bool]:
        try:
            observation, reward, terminated, truncated, _ = self.env.step(a + self.first_action)
            gain, end = float(reward), bool(terminated)
        except Exception as error:
            raise self.broken("step", error) from error
        after, here = self.state(observation, "step"), f"step from (s, a) = ({s}, {a})"
        if (s, a) not in self.known:
            self.known[s, a] = _merged(self.law(s, a))
        entries = self.known[s, a]
        same = [e for e in entries if e[1] == after]
        if not same:
            raise self.differs(f"{here} leading to {after}, which has no probability")
        if not (ending := [e for e in same if e[3] == end]):
            raise self.differs(f"{here} to {after} {'with' if end else 'without'} termination")
        close = [e for e in ending if abs(e[2] - gain) <= REWARD_ROUNDING * max(1.0, abs(e[2]))]
        if not close:
            raise self.differs(
                f"{here} to {after} with reward {gain:g}, where the model has {ending[0][2]:g}"
            )
        happened = close[self.rank_rng.integers(len(close))] if len(close) > 1 else close[0]
        self.bets.place(s * self.A + a, happened[1:], happened[0], f"successors of {s, a}")
        # Uniform on [0, 1) in every row alike, so that all rows count together.
        rank = sum(e[0] for e in entries[: entries.index(happened)])
        rank += happened[0] * self.rank_rng.random()
        self.ranks.place(0, min(int(BINS * rank), BINS - 1), 1.0 / BINS, "likely against unlikely")
        return after, end or bool(truncated)

    def state(self, observation: Any, method: str) -> int:
        try:
            whole = observation == int(observation)
            s = int(observation) - self.first_state if whole else -1
        except Exception:
            s = -1
        if not 0 <= s < self.S:
            raise self.differs(f"{method} returning observation {observation!r}")
        return s

    def differs(self, what: str) -> InputError:
        return InputError(f"env's model must be the law of its steps, got {what}")

    def broken(self, method: str, error: Exception) -> InputError:
        return self.differs(f"{method} raising {type(error).__name__}: {error}")

    def plans(self) -> list[tuple[dict[int, int], int, int]]:
        """What is worth some walks: goals, state -> action; walks; their length.

        Any odd reward, whichever is nearest; a few ends; a few of all (s, a).
        """
        model, A = self.model, self.A
        P, live = model.P, np.repeat(model.reachable() & ~model.terminal, A)
        live[self.S * A :] = False
        row = np.repeat(np.arange(live.size), np.diff(P.indptr))
        far = np.abs(model.r.ravel() - np.median(model.r)) * live
        odd = self.rng.permutation(np.flatnonzero((far > 0.0) & (far >= 0.5 * far.max())))
        ends = np.unique(row[model.terminal[P.indices] & live[row]])
        chosen = [
            self.rng.choice(group, WALKS, group.size < WALKS)
            for group in (ends, np.flatnonzero(live))
            if group.size
        ]
        single = [({i // A: i % A}, 1, STEPS) for i in np.concatenate(chosen or [odd]).tolist()]
        return [(dict(divmod(i, A) for i in odd.tolist()), WALKS, LONG), *single]

    def guide(self, goals: list[int]) -> Any:
        """The actions that are most likely to reach a goal within an episode, (S,), or -1."""
        P, shape = self.model.P, (self.model.num_states, self.A)
        chances, reached = np.zeros(shape), np.zeros(shape[0])
        for _ in range(max(1, min(2 * STEPS, WORK // (2 * WALKS * P.nnz)))):
            reached[goals] = 1.0
            chances = 0.99 * (P @ reached).reshape(shape)  # rather soon than late
            reached = chances.max(1)
        return np.where(reached > 0.0, chances.argmax(1), -1)


def _merged(outcomes: list[Outcome]) -> list[Outcome]:
    """Outcomes with probability, those that look the same together, the likeliest first."""
    chances: dict[tuple[int, float, bool], float] = {}
    for p, successor, reward, terminated in outcomes:
        key = (int(successor), float(reward), bool(terminated))
        chances[key] = chances.get(key, 0.0) + float(p)
    possible = [(p, *key) for key, p in chances.items() if p > 0.0]
    return sorted(possible, key=lambda outcome: -outcome[0])


class _Bets:
    """Bets at the declared odds: a true model lets wealth pass 1 / α with probability α at most.

    Of each row, outcome x is bet on with what was seen of it so far, (n(x) + c p(x)) / (N + c), and
    pays 1 / p(x). Wealth is a martingale under the declared p, however rows are chosen (Ville's
    inequality). Two accounts, of half of α each: all rows together, and the best single row.

    Args:
        num_rows: that may be bet on.
    """

    def __init__(self, num_rows: int) -> None:
        self.seen: dict[int, Counter[Any]] = {}
        self.wealth: dict[int, float] = {}  # logarithms
        self.total = 0.0
        self.enough = math.log(2.0 / FALSE_ALARM)
        self.enough_alone = self.enough + math.log(num_rows)

    def place(self, row: int, outcome: Any, chance: float, name: str) -> None:
        counts = self.seen.setdefault(row, Counter())
        gain = math.log((counts[outcome] / chance + STRENGTH) / (counts.total() + STRENGTH))
        counts[outcome] += 1
        self.total += gain
        self.wealth[row] = self.wealth.get(row, 0.0) + gain
        if self.wealth[row] > self.enough_alone or self.total > self.enough:
            raise InputError(
                "env's model must be the law of its steps, got frequencies that it makes as good "
                f"as impossible (last seen: {name})"
            )
