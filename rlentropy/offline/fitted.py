"""What the offline commands share: fitted iteration on a dataset, on tables or with networks.

All of them learn Q(s, a) = c(s, a) + γ u(s, a) from transitions alone, where u estimates

    W(P_{s,a}, x),    x = (r - c(s, a)) / γ + max_a' Q(s', a'), or without the maximum at an end,

W the robust expectation of the command's risk: -(1/β) log E e^{-βx} for `rfzi`, of a total
variation ball for `rfqi`, the mean for `fqi`. c is any function: W moves with constants, so that
it changes no Q. Where c is the reward function, x is V(s') and u is the paper's -(1/β) log Z; no
reward at unseen (s', a') is ever needed. Tables take the average reward for c; so do networks on
Discrete spaces, and elsewhere c = 0, with which a network learns the reward along with the rest.

Only networks bring torch: `rlentropy.neural` and `offline.networks` load when they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

from rlentropy import offline
from rlentropy.data import Transitions
from rlentropy.errors import InputError
from rlentropy.log import Log, drive, ranks
from rlentropy.offline.comparison import with_nominal
from rlentropy.offline.problem import Config, Learner, Problem, greedy, member_rngs, split
from rlentropy.offline.tabular import Model, ValueIteration
from rlentropy.policies import Policy, Tabular
from rlentropy.risk import Entropic, Measure, Nominal
from rlentropy.types import Array, Result, State


class Table:
    """Fitted iteration on the empirical model: one member, nothing random."""

    def __init__(self, problem: Problem, config: Config) -> None:
        assert problem.model is not None
        self.problem, self.tolerance = problem, config.tolerance
        values = {"pessimistic": problem.low, "optimistic": problem.high, "zero": 0.0}
        self.unvisited = values[config.unvisited]
        self.measure = measure = problem.measure(
            problem.model.successor.size + (problem.fail is not None)
        )
        self.iteration = ValueIteration(
            problem.model, measure, problem.gamma, self.unvisited, problem.fail
        )
        self.updates = 0

    @property
    def done(self) -> int:
        return self.updates

    @property
    def step(self) -> int:
        return self.updates

    @property
    def stopped(self) -> bool:
        return self.iteration.bound <= self.tolerance

    def advance(self, updates: int) -> None:
        for _ in range(updates):
            self.iteration.update()
            self.updates += 1
            if self.stopped:
                return

    def Q(self) -> Array:
        return self.iteration.Q[None]

    def policy(self, member: int) -> Policy:
        spaces = (self.problem.train.observation_space, self.problem.train.action_space)
        starts = [int(space.start) for space in spaces if isinstance(space, Discrete)]
        return Tabular(greedy(self.iteration.Q)[None], *starts)

    def diagnostics(self) -> dict[str, Array]:
        return {"eval/bound": np.array([self.iteration.bound])}

    def result(self) -> dict[str, Any]:
        Q = self.iteration.Q
        return {"policy": {"pi": greedy(Q), "Q": Q, "V": Q.max(1)}}

    def state_dict(self) -> State:
        iteration = self.iteration
        numbers = {"updates": self.updates, "bound": iteration.bound}
        return {"V": iteration.V, "Q": iteration.Q} | numbers

    def load_state_dict(self, state: State) -> None:
        iteration = self.iteration
        iteration.V, iteration.Q, iteration.bound = state["V"], state["Q"], state["bound"]
        self.updates = state["updates"]


def fit(
    data: Transitions,
    config: Config,
    measure: Callable[[int], Measure],
    fail: float | None,
    objective: Callable[[float, float], Any],
    rng: np.random.Generator,
    log: Log,
    env: gymnasium.Env[Any, Any] | None,
) -> Result:
    """Learn from the data, evaluating and saving on the way.

    Args:
        measure, fail: as of `Problem`.
        objective: what networks minimise (`losses.Objective`), given bounds of u.
        env: where to evaluate; its model is used where it is known.

    Raises:
        InputError: data that don't suit the environment or the approximator.
    """
    if env is not None:
        data = data.check_spaces(env.observation_space, env.action_space)
    problem = split(data, config, measure, fail)
    learner: Learner
    if problem.model is not None and config.approximator != "neural":
        if config.seeds > 1:
            raise InputError(f"seeds must be 1 for tables, which draw nothing, got {config.seeds}")
        if ranks.size() > 1:
            raise InputError("approximator must be neural for several processes, got tables")
        learner = Table(problem, config)
    elif config.approximator == "tabular":
        spaces = f"{data.observation_space} and {data.action_space}"
        raise InputError(f"approximator must be neural unless all is Discrete, got {spaces}")
    else:
        learner = offline.networks.Networks(
            problem, config, objective, member_rngs(rng, config.seeds)
        )
    evaluator = offline.scoring.Evaluator(
        problem, config, env, int(rng.spawn(1)[0].integers(2**31))
    )

    def evaluate() -> tuple[dict[str, float], offline.scoring.Scores]:
        scores = evaluator.scores(learner)
        return {tag: float(x.mean()) for tag, x in scores.tags.items()}, scores

    final = drive(learner, log, evaluate, total=config.updates, budget="updates")
    summary: dict[str, Any] = {
        "dataset": config.data,
        "dataset_size": len(data),
        "env_steps": 0,
        "episodes": 0,  # of learning: those of an evaluation are counted beside its figures
        "updates": learner.done,
        "stopped_by_certificate": learner.stopped,
        "approximator": "tabular" if isinstance(learner, Table) else "neural",
        "risk": config.risk,
        "gamma": config.gamma,
        "seeds": config.seeds,
    }
    if isinstance(learner, Table) and not isinstance(learner.measure, Nominal):
        summary |= compared(learner)
    if data.guessed:
        summary["guessed_spaces"] = data.guessed
    if doubts := "; ".join(doubtful_ends(data, problem.model)):
        summary["warning"] = f"{doubts}: if that is a time limit, store it as truncations"
    return Result(summary | evaluator.summary(final), **learner.result())


def compared(learner: Table) -> dict[str, Any]:
    """What risk changed of the greedy policy, and where it changed nothing, what to do."""
    problem, measure, Q = learner.problem, learner.measure, learner.iteration.Q
    assert problem.model is not None
    found = with_nominal(problem.model, Q, problem.gamma, learner.unvisited, learner.tolerance)
    if found is None:
        return {}
    facts: dict[str, Any] = {"differs_from_nominal": found.differing}
    parameter, none, scale = "the radius", "radius 0", ""
    if isinstance(measure, Entropic):
        scaled = measure.risk_aversion * found.spread
        facts |= {"next_value_spread": found.spread, "scaled_risk_aversion": scaled}
        parameter, none, scale = (
            "β",
            "β = 0",
            f" (times the spread of next values it is {scaled:.2g})",
        )
    if not found.differing:
        same = f"same greedy policy as {none} on these data"
        if found.spread == 0.0:
            facts["hint"] = f"{same}, which show no noise to be robust against"
        else:
            facts["hint"] = f"{same}: raise {parameter}{scale}"
    return facts


def doubtful_ends(data: Transitions, model: Model | None) -> Iterator[str]:
    """Where terminations look like time limits, which are no ends to a planner."""
    if (limit := data.suspected_limit()) is not None:
        yield f"nothing is truncated, and the longest episodes all end terminated at step {limit}"
    if model is not None:
        passed = ~model.alive & ~model.terminal[model.successor]
        states = np.unique(model.successor[passed])
        if states.size:
            assert isinstance(data.observation_space, Discrete)
            first = int(states[0] + data.observation_space.start)
            yield (
                f"episodes end terminated in states that others pass through ({states.size} of "
                f"them, such as {first}), taken as ends that depend on (s, a, s')"
            )
