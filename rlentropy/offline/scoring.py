"""How good what the offline commands learn is: exactly, or by episodes."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np

from rlentropy import planning
from rlentropy.errors import InputError
from rlentropy.intervals import estimate
from rlentropy.mdp import FiniteMDP, model_or_reason
from rlentropy.offline.problem import Config, Learner, Problem, greedy, model_of
from rlentropy.offline.tabular import Model, bellman
from rlentropy.policies import play
from rlentropy.types import Array

Env = gymnasium.Env[Any, Any]


class Scores(NamedTuple):
    """What an evaluation of M members finds."""

    tags: dict[str, Array]  # (M,) each
    returns: Array | None  # (M, episodes), undiscounted, where the model is not known


class Evaluator:
    """Scores learners: exactly where the environment's model is known, else by episodes."""

    def __init__(self, problem: Problem, config: Config, env: Env | None, seed: int) -> None:
        self.problem, self.env, self.episodes, self.seed = problem, env, config.episodes, seed
        self.mdp, self.unknown = None, ""
        if env is not None and problem.model is not None:
            self.mdp, self.unknown = model_or_reason(env)
        self.horizon = config.horizon or (env.spec.max_episode_steps if env and env.spec else None)
        if env is not None and self.mdp is None and self.horizon is None:
            name = env.spec.id if env.spec else env
            raise InputError(
                f"horizon must be >= 1 to evaluate in {name}, which has no time limit, got none"
            )
        self.optimum: float | None = None
        if self.mdp is not None:
            truth = self.mdp if problem.fail is None else with_fail_state(self.mdp, problem)
            self.truth, self.measure = truth, problem.measure(truth.num_states)
            best = planning.robust_optimum(truth, self.measure, problem.gamma, strict=False)
            self.optimum = float(truth.mu @ best.V)
        self.held_out: Model | None = None
        if problem.model is not None and problem.held_out is not None:
            self.held_out = model_of(problem.held_out, problem.fail)

    def scores(self, learner: Learner) -> Scores:
        """Score the members as they are now."""
        tags, returns = learner.diagnostics(), None
        if (Q := learner.Q()) is not None:
            tags |= self.of_tables(Q)
        if self.env is not None and self.mdp is None:
            returns = self.returns(learner)
            tags["eval/return"] = returns.mean(1)
        return Scores(tags, returns)

    def of_tables(self, Q: Array) -> dict[str, Array]:
        tags = {}
        if self.held_out is not None:
            tags["eval/bellman_residual"] = np.array([self.residual(q) for q in Q])
        if self.mdp is not None:
            assert self.optimum is not None
            values = np.array([self.value(greedy(q)) for q in Q])
            tags["eval/coverage"] = np.array([self.coverage(greedy(q)) for q in Q])
            tags["eval/robust_value"] = values
            tags["eval/gap"] = self.optimum - values
            tags["eval/overestimation"] = Q.max(2) @ self.mdp.mu - values
        return tags

    def value(self, pi: Array) -> float:
        """μ·V^π, exact to 1e-8 where float64 can, under the command's risk; at most the optimum."""
        if self.problem.fail is not None:
            pi = np.append(pi, pi[:1], axis=0)  # what is done in the fail state changes nothing
        evaluation = planning.robust_evaluation(
            self.truth, pi, self.measure, self.problem.gamma, strict=False
        )
        assert self.optimum is not None
        return min(float(self.truth.mu @ evaluation.V), self.optimum)

    def coverage(self, pi: Array) -> float:
        """Share of the occupancy (1 - γ) Σ_t γ^t P(s_t, a_t) of π that is on cells with data.

        Under the nominal kernel; terminal states count as seen.
        """
        assert self.mdp is not None
        assert self.problem.model is not None
        gamma, P = self.problem.gamma, self.mdp.P.T.tocsr()
        state = self.mdp.mu
        weight, seen = 1.0 - gamma, 0.0
        visited = (self.problem.model.visits > 0) | self.mdp.terminal[:, None]
        while weight > 1e-9:
            d = state[:, None] * pi
            seen += weight * float(d[visited].sum())
            state, weight = P @ d.ravel(), weight * gamma
        return seen

    def residual(self, Q: Array) -> float:
        """Root mean square of Q - T Q over held-out transitions, T of their empirical model."""
        assert self.held_out is not None
        problem, model = self.problem, self.held_out
        measure = problem.measure(model.successor.size + (problem.fail is not None))
        backup = bellman(model, measure, problem.gamma, Q.max(1), 0.0, problem.fail)
        weights = model.visits / model.visits.sum()
        return float(np.sqrt((weights * (Q - backup) ** 2).sum()))

    def returns(self, learner: Learner) -> Array:
        """Undiscounted returns of each member's policy, (M, episodes), the same seeds each time."""
        assert self.env is not None
        assert self.horizon is not None
        seeds = np.random.default_rng(self.seed).integers(2**31, size=self.episodes)
        members = len(next(iter(learner.diagnostics().values())))
        returns = np.empty((members, self.episodes))
        for m in range(members):
            policy = learner.policy(m)
            for k, seed in enumerate(seeds.tolist()):
                rng = np.random.default_rng(seed)
                returns[m, k] = play([self.env], policy, [seed], self.horizon, rng)[0][0]
        return returns

    def summary(self, scores: Scores) -> dict[str, Any]:
        """The figures of summary.json, with the means of the members and their intervals."""
        rng = np.random.default_rng(self.seed)
        facts: dict[str, Any] = {}
        if self.mdp is not None:
            values = scores.tags["eval/robust_value"]
            facts = {"value": float(values.mean()), "optimum": self.optimum}
            for name in ("gap", "coverage", "overestimation"):
                facts[name] = float(scores.tags[f"eval/{name}"].mean())
            if values.size > 1:
                band = estimate(values, "mean", rng)
                facts |= {"values": values.tolist()}
                facts |= {"value_ci95": [float(band.low), float(band.high)]}
        elif (returns := scores.returns) is not None:
            band = estimate(returns.mean(1) if len(returns) > 1 else returns[0], "mean", rng)
            facts = {"mean_return": float(returns.mean())}
            facts |= {"return_ci95": [float(band.low), float(band.high)]}
            facts |= {"returns": returns.mean(1).tolist(), "evaluation_episodes": self.episodes}
            facts["horizon"] = self.horizon
            if self.unknown:
                facts["model_unknown"] = self.unknown
        return facts


def with_fail_state(mdp: FiniteMDP, problem: Problem) -> FiniteMDP:
    """The model with one more state, the last, which nothing leads to and whose value is `fail`."""
    import scipy.sparse as sp

    assert problem.fail is not None
    S, A = mdp.num_states, mdp.num_actions
    P, stay = mdp.P, np.ones(A)
    last = sp.csr_array((stay, (np.arange(A), np.full(A, S))), shape=(A, S + 1))
    wide = sp.csr_array((P.data, P.indices, P.indptr), shape=(S * A, S + 1))
    reward = np.append(mdp.r, np.full((1, A), problem.fail * (1.0 - problem.gamma)), axis=0)
    kernel = sp.vstack([wide, last]).tocsr()
    support = mdp.support
    if support is not None:
        support = sp.csr_array((support.data, support.indices, support.indptr), wide.shape)
        support = sp.vstack([support, sp.csr_array((A, S + 1), dtype=bool)])
    return FiniteMDP(
        kernel,
        reward,
        np.append(mdp.mu, 0.0),
        terminal=np.append(mdp.terminal, False),
        support=support,
    )
