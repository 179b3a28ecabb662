"""The one outer loop of everything that learns.

An agent knows how to go on, how to be saved and how to be taken up again. `drive` does the rest:
it restores, advances in chunks, evaluates and saves on schedule, shows progress, obeys Ctrl-C, and
scores the final policy once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from rlentropy.errors import InputError
from rlentropy.log import ranks
from rlentropy.log.writer import Interrupted, Log
from rlentropy.types import State

CHUNK = 0.1  # seconds of work between looks at the clock and at Ctrl-C

Scores = TypeVar("Scores")


class Agent(Protocol):
    """What learns by spending a budget.

    How far `advance` goes in one call must not change what is learnt, and an agent that is made
    anew and given a `state_dict` must go on to the same bits as the one that it is of.
    """

    @property
    def done(self) -> int: ...  # units of the budget spent so far
    @property
    def step(self) -> int: ...  # of everything logged: environment steps, updates or labels so far
    @property
    def stopped(self) -> bool: ...  # sure before the budget is spent
    def advance(self, units: int) -> Mapping[str, float] | None:
        """Spend about so many units: less to stop, more where they come in batches.

        Returns:
            Figures (train/*) to log after each call, if any.
        """

    def state_dict(self) -> State: ...
    def load_state_dict(self, state: State) -> None: ...


def drive(
    agent: Agent,
    log: Log,
    evaluate: Callable[[], tuple[Mapping[str, float], Scores]],
    *,
    total: int,
    budget: str,
    unit: str | None = None,
    evaluate_first: bool = False,
    last_differs: bool = False,
) -> Scores:
    """Let an agent spend its budget; returns the scores of the final policy.

    Args:
        evaluate: the tags to log of the agent as it is now, and its scores, whatever they are. It
            must not change the agent, nor depend on how often it was called.
        total: the budget.
        budget: the option that sets it: "episodes", "steps", "updates" or "labels".
        unit: what `agent.step` counts, for time/<unit>_per_second; default: that of the budget.
        evaluate_first: evaluate before anything is spent, too.
        last_differs: the evaluation at the end isn't like the others, so that a run that goes on
            with a larger budget drops it, unless it is one of the schedule.

    Raises:
        InputError: a run with a larger budget is resumed, or its checkpoint can't be used.
        Interrupted: the process was told to stop; a checkpoint is written.
        Dismissed: it is one of several, and follows their leader, which has ended.
    """
    agent = ranks.led(agent)
    evaluated = -1  # units that were done at the last evaluation in the log
    if (state := log.restore()) is not None:
        agent.load_state_dict(state["agent"])
        evaluated = state["evaluated"]
        if agent.done > total and state["total"] > total:  # batches may go beyond their budget
            done = agent.done
            raise InputError(f"{budget} must be >= {done}, which the run has done, got {total}")

    def score(speed: Mapping[str, float]) -> Scores:
        nonlocal evaluated
        tags, scores = evaluate()
        if evaluated < agent.done:
            log.scalars({**tags, **speed}, agent.step)
            evaluated = agent.done
        return scores

    def snapshot(evaluated: int) -> State:
        return {"agent": agent.state_dict(), "evaluated": evaluated, "total": total}

    scores = score({}) if evaluate_first and evaluated < 0 else None  # None: of a former policy
    units, over = 1, agent.stopped or agent.done >= total
    cut, last = None, evaluated  # before an evaluation at the end that a longer run drops
    while not over:
        before, units = agent.done, min(units, log.next_stop(agent.done, total) - agent.done)
        figures, speed, units = _timed(agent, units, unit or budget)
        if figures:
            log.scalars({**figures, **speed}, agent.step)
        over = agent.stopped or agent.done >= total
        due = log.evaluation_due(before, agent.done)
        if last_differs and over and not due:
            cut, last = log.mark(), evaluated
        scores = score({} if figures else speed) if over or due else None
        log.on_progress(agent.done, total)
        if not over and (log.checkpoint_due(before, agent.done) or log.interrupted):
            log.checkpoint(snapshot(evaluated))
        if not over and log.interrupted:
            raise Interrupted
    if scores is None:  # resumed with nothing left to do
        if last_differs and evaluated < agent.done:
            cut, last = log.mark(), evaluated
        scores = score({})
    log.checkpoint(snapshot(evaluated if cut is None else last), cut)
    return scores


def _timed(
    agent: Agent, units: int, unit: str
) -> tuple[Mapping[str, float] | None, dict[str, float], int]:
    """Advance: the agent's figures, the speed to log, and how many units the next call may take."""
    done, step, began = agent.done, agent.step, time.perf_counter()
    figures = agent.advance(units)
    seconds = max(time.perf_counter() - began, 1e-9)
    speed = {f"time/{unit}_per_second": (agent.step - step) / seconds}
    return figures, speed, max(1, min(2 * units, round(CHUNK * (agent.done - done) / seconds)))
