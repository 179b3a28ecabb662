"""The loop of an optimistic explorer: plan on the counts, play the plan, count.

Three things make an algorithm of it, and stand in that algorithm's file: its `schedule`, numbers
that depend on how many episodes were played; and two compiled functions,

    plan(rows, task, guarantee, V, Q)     fills V (H + 1, S) and Q (H, S, A), and may fill the gap;
                                          tells whether that is as small as was wanted
    revise(memory, task, i)               derives reward and width of row i from its counts

The functions below that take them return a loop which is compiled for them.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlentropy.kernels.cache import borrowing, compiled, inlined, inner
from rlentropy.kernels.counting import Counts, count, to_frequencies
from rlentropy.kernels.rows import (
    Rows,
    Task,
    add_occupancy_of_plan,
    backward,
    backward_with_bonus,
    decide_state,
    decisions,
    stage_stride,
)
from rlentropy.kernels.sampling import World, draw_action, draw_state, search
from rlentropy.types import Array, Count

GRAIN = 4096.0  # of probabilities in a sample of policies, which take half the place of exact ones


class Memory(NamedTuple):
    """What an explorer has seen, updated in place, and the constants of its bonus."""

    visits: Count  # (H, S, A) per stage
    model: Counts
    forecast: Array  # visits as a forecaster counts them, shaped like task.reward; or (0, 0, 0)
    prior: float  # n_0 of the forecaster
    bonus_scale: float
    pairs: float  # S A H / δ
    frozen: bool  # the model no longer learns


class Schedule(NamedTuple):
    """Numbers of the task that depend on the number of episodes played: one row each, (n, H)."""

    offset: Array
    width_scale: Array
    cap: Array


class Guarantee(NamedTuple):
    """What a plan certifies, updated in place, and what it is wanted for."""

    visits: Count  # (H, S, A) of the memory
    width: Array  # (H, S, A) how far Q may lie above Q*, for a quadratic gap; else (0, 0, 0)
    gap: Array  # (S,) certified gap of the plan from each start state
    scale: float  # of the bonus
    tolerance: float  # stop once the certified gap is this small; 0: never


@inlined
def plan_alone(rows: Rows, task: Task, guarantee: Guarantee, V: Array, Q: Array) -> bool:
    """A plan without a bonus."""
    backward(rows, task, V, Q)
    return False


@compiled
def plan_with_bonus(rows: Rows, task: Task, guarantee: Guarantee, V: Array, Q: Array) -> bool:
    """A plan with a bonus that certifies nothing."""
    backward_with_bonus(rows, task, V, Q)
    return False


@inlined
def revise_nothing(memory: Memory, task: Task, i: int) -> None:
    """Without a bonus, nothing but the kernel itself follows from the counts of a row."""


@inner
def good_enough(guarantee: Guarantee) -> bool:
    """Whether the gap just certified is as small as was wanted."""
    wanted = guarantee.tolerance
    return wanted > 0.0 and mean_gap(guarantee.visits, guarantee.gap) <= wanted


@inner
def mean_gap(visits: Count, gap: Array) -> float:
    """The certified gap from the start states seen so far; inf before any."""
    S, A = visits.shape[1:]
    total, count = 0.0, 0
    for s in range(S):
        for a in range(A):
            total += visits[0, s, a] * gap[s]
            count += visits[0, s, a]
    return total / count if count > 0 else np.inf


@inner
def keep(Q: Array, temperature: float, pi: NDArray[np.float32]) -> None:
    """Store the policy that Q (H, S, A) induces, in multiples of 1 / GRAIN that sum to 1.

    Running sums are rounded, so that none is negative; numbers are off by less than 1 / GRAIN.
    """
    exact = np.empty(Q.shape)
    decisions(Q, temperature, exact)
    for h in range(Q.shape[0]):
        for s in range(Q.shape[1]):
            total, before = 0.0, 0.0
            for a in range(Q.shape[2]):
                total += exact[h, s, a]
                rounded = np.rint(GRAIN * total)
                pi[h, s, a] = (rounded - before) / GRAIN
                before = rounded


@inlined
def book(
    truth: Rows,
    mu: Array,
    Q: Array,
    temperature: float,
    D: Array,
    mixture: NDArray[np.float32],
    episode: int,
    mixture_rng: np.random.Generator,
) -> None:
    """Book a plan: its exact occupancies, and a place in the reservoir.

    D (H, S, A) sums the occupancies in `truth`; it may be empty, as may the mixture (K, H, S, A),
    which is a uniform sample without replacement of the policies played so far (Vitter, 1985).
    """
    if D.size > 0:
        add_occupancy_of_plan(truth, mu, Q, temperature, D)
    K = mixture.shape[0]
    if K > 0:
        place = episode if episode < K else np.int64(mixture_rng.random() * (episode + 1))
        if place < K:
            keep(Q, temperature, mixture[place])


@inlined
def sample_episode(
    Q: Array,
    temperature: float,
    width: Array,
    world: World,
    states: Count,
    actions: Count,
    p: Array,
    env_rng: np.random.Generator,
    policy_rng: np.random.Generator,
) -> int:
    """Fill states (H + 1,) and actions (H,); returns the stage of termination, or -1.

    Where there are widths (H, S, A), one stage takes the action that is least certain.
    """
    begin, end, successor = world.begin, world.end, world.successor
    cumulative, terminal = world.cumulative, world.terminal
    A = p.shape[1]
    deviation = np.int64(policy_rng.random() * actions.size) if width.size > 0 else -1
    s = draw_state(world, env_rng)
    states[0] = s
    terminated_at = -1
    for h in range(actions.size):
        if terminated_at < 0 and terminal[s]:
            terminated_at = h
        if h == deviation:
            a = 0
            for b in range(1, A):
                if width[h, s, b] > width[h, s, a]:
                    a = b
        else:
            decide_state(Q[h], s, temperature, 1.0, p)
            a = draw_action(p, s, policy_rng)
        if terminated_at < 0:
            i = s * A + a
            s = np.int64(successor[search(cumulative, begin[i], end[i], env_rng.random())])
        actions[h] = a
        states[h + 1] = s
    return actions.size if terminated_at < 0 and terminal[s] else terminated_at


@cache
def refreshing(revise: Callable[..., None]) -> Callable[..., None]:
    """All that follows from the counts, with the very operations that update it.

    A resumed run must go on with the same bits, and numpy's log differs in the last one.
    """

    @compiled
    def refresh(memory: Memory, task: Task) -> None:
        for i in range(memory.model.N.size):
            revise(memory, task, i)

    return refresh


@cache
def learning(revise: Callable[..., None]) -> Callable[..., None]:
    """How an episode is counted."""

    @inlined
    def learn(
        memory: Memory, task: Task, states: Count, actions: Count, terminated_at: int
    ) -> None:
        """Count an episode: states (H + 1,), actions (H,).

        `terminated_at` is the stage from which it rested in an absorbing state, or -1. That flag
        says the state is absorbing whatever the action: each is counted there once.
        """
        visits, model, forecast, reward = memory.visits, memory.model, memory.forecast, task.reward
        H, S, A = visits.shape
        stride = stage_stride(model.N.size, S, A)
        if terminated_at >= 0 and not memory.frozen:
            s = states[terminated_at]
            for h in range(H if stride > 0 else 1):
                for a in range(A):
                    i = h * stride + s * A + a
                    if model.N[i] == 0:
                        count(model, i, s)
                        to_frequencies(model, i)
                        revise(memory, task, i)
        for h in range(H):
            s, a = states[h], actions[h]
            visits[h, s, a] += 1
            if forecast.size > 0:
                k = h if forecast.shape[0] > 1 else 0
                b = a if forecast.shape[2] > 1 else 0
                forecast[k, s, b] += 1.0
                reward[k, s, b] = -np.log(forecast[k, s, b] + memory.prior)
            if not memory.frozen:
                i = h * stride + s * A + a
                count(model, i, states[h + 1])
                to_frequencies(model, i)
                revise(memory, task, i)

    return learn


@cache
def playing(plan: Callable[..., bool], revise: Callable[..., None]) -> Callable[..., Any]:
    """Whole episodes in the simulator."""
    learn = learning(revise)

    @borrowing
    def play(
        memory: Memory,
        task: Task,
        guarantee: Guarantee,
        schedule: Schedule,
        episode: int,
        V: Array,
        Q: Array,
        world: World,
        truth: Rows,
        mu: Array,
        D: Array,
        mixture: NDArray[np.float32],
        states: Count,
        actions: Count,
        p: Array,
        env_rng: np.random.Generator,
        policy_rng: np.random.Generator,
        mixture_rng: np.random.Generator,
    ) -> tuple[int, int]:
        """Plan, play and learn an episode for each row of the schedule; `episode` came before.

        Returns the episodes and the steps it took; they are fewer than asked when the plan is
        certified before.
        """
        model, H, temperature = memory.model, memory.visits.shape[0], task.temperature
        rows = Rows(model.begin, model.end, model.successor, model.p, model.uniform)
        steps = 0
        for t in range(schedule.offset.shape[0]):
            for h in range(H):
                task.offset[h] = schedule.offset[t, h]
                task.width_scale[h] = schedule.width_scale[t, h]
                task.cap[h] = schedule.cap[t, h]
            if plan(rows, task, guarantee, V, Q):
                return t, steps
            book(truth, mu, Q, temperature, D, mixture, episode + t, mixture_rng)
            end = sample_episode(
                Q, temperature, guarantee.width, world, states, actions, p, env_rng, policy_rng
            )
            learn(memory, task, states, actions, end)
            steps += H if end < 0 else end
        return schedule.offset.shape[0], steps

    return play
