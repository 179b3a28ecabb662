"""How the policies of finished runs score: sampled returns, exact values, robustness curves.

Metrics:
    return: undiscounted rewards of an episode, from sampled episodes.
    value: exact, where the environment's model is known and the policy a table: the expected return
        of an episode, or, for a run with a discount γ, the discounted value from the initial
        distribution, without an end.
    robust value: the discounted value when nature plays the worst case of a risk measure at every
        step (robust §5.1, item 2).

A point is an agent at one value of one perturbation. Episode k of every point starts from the same
seed and the same random numbers, so that differences between agents, and along a curve, aren't
those of the draw.

Intervals are those of `rlentropy.intervals`: of an agent over its episodes; of an algorithm over
its training seeds, or with one seed over the episodes of that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlentropy import planning, risk
from rlentropy.entropy.occupancies import visitation
from rlentropy.errors import InputError
from rlentropy.files import plain
from rlentropy.intervals import Estimate, estimate
from rlentropy.mdp import FiniteMDP, known_model
from rlentropy.perturbations import PREFIX, Perturbation, acts, perturbation, perturbed
from rlentropy.perturbations.grids import Grid, rounded
from rlentropy.policies import Mixture, Policy, Tabular, play
from rlentropy.runs.folder import stored_settings
from rlentropy.runs.policies import load
from rlentropy.types import Array, Count, Env
from rlentropy.wrappers import make_env, trusted

RETURN, VALUE, ROBUST = "return", "value", "robust value"
# Settings in which the runs of one algorithm may differ.
INCIDENTAL = {
    "seed",
    "out",
    "label",
    "quiet",
    "eval_every",
    "checkpoint_every",
    "device",
    "env_workers",
}
INCIDENTAL |= {"keep_checkpoint"}


@dataclass(frozen=True)
class NominalEnv:
    """The environment that is played, or perturbed."""

    env_id: str
    env_kwargs: str
    horizon: int  # steps an episode
    unlimited: bool  # the horizon stands in for the environment's own time limit

    def make(self) -> Env:
        return make_env(self.env_id, self.env_kwargs, self.unlimited)


@dataclass(frozen=True)
class Agent:
    """The policy of a finished run, and what tells it from others."""

    folder: Path
    algorithm: str  # the label, and the settings that tell it from others of that label
    seed: int
    gamma: float | None
    policy: Policy


@dataclass(frozen=True)
class Curve:
    """One metric of one agent over a grid of K values."""

    agent: Agent
    grid: Grid
    metric: str
    samples: Array  # (episodes, K); (1, K) where exact
    lengths: Count | None = None  # (episodes, K), steps


@dataclass(frozen=True)
class Band:
    """One metric of one algorithm over a grid."""

    algorithm: str
    grid: Grid
    metric: str
    seeds: int
    band: Estimate  # (K,)
    area: Estimate  # ()


# ---------------------------------------------------------------- which agents, and where


def nominal_env(
    env_id: str,
    env_kwargs: str,
    horizon: int | None,
    summaries: Sequence[dict[str, Any]],
    folders: Sequence[Path],
) -> NominalEnv:
    """What is asked for, else what all runs say, else the environment's own time limit.

    Args:
        env_id, env_kwargs, horizon: empty or None where nothing is asked for.
        summaries, folders: of the runs.

    Raises:
        InputError: the runs differ in what isn't asked for, or nobody says.
    """

    def agreed(name: str, otherwise: Any = None) -> Any:
        values = [summary.get(name) or otherwise for summary in summaries]
        for value, folder in zip(values, folders, strict=True):
            if value != values[0]:
                raise InputError(
                    f"{name} must be given for runs that differ in it, got none, {values[0]} in "
                    f"{folders[0]} and {value} in {folder}"
                )
        return values[0]

    env_id = env_id or trusted("env_id", agreed("env_id", ""), folders[0])
    if not env_id:
        raise InputError("env_id must be given for runs without an environment, got none")
    env_kwargs = env_kwargs or trusted("env_kwargs", agreed("env_kwargs") or "{}", folders[0])
    env = make_env(env_id, env_kwargs, unlimited=False)
    limit = env.spec.max_episode_steps if env.spec else None
    horizon = horizon or agreed("horizon", limit)
    if horizon is None:
        raise InputError(f"horizon must be given for {env_id}, which has no time limit, got none")
    return NominalEnv(env_id, env_kwargs, horizon, unlimited=horizon != limit)


def read_agents(
    nominal: NominalEnv,
    summaries: Sequence[dict[str, Any]],
    folders: Sequence[Path],
    mixture: bool,
) -> list[Agent]:
    """The policies of runs; runs of one label that differ in a setting are told apart by it.

    Raises:
        InputError: a policy doesn't suit the environment, or a seed comes twice in one algorithm,
            which would count one result as two.
    """
    env = nominal.make()
    labels = [str(s.get("label") or s["command"]) for s in summaries]
    stored = [stored_settings(folder) or {} for folder in folders]
    agents: list[Agent] = []
    for label, folder, summary, settings in zip(labels, folders, summaries, stored, strict=True):
        alike = [s for other, s in zip(labels, stored, strict=True) if other == label]
        names = sorted({name for s in alike for name in s} - INCIDENTAL)
        varying = [name for name in names if any(s.get(name) != settings.get(name) for s in alike)]
        algorithm = plain(", ".join([label, *(f"{name}={settings.get(name)}" for name in varying)]))
        seed, gamma = int(summary["seed"]), summary.get("gamma", settings.get("gamma"))
        for agent in agents:
            if (agent.algorithm, agent.seed) == (algorithm, seed):
                raise InputError(
                    f"run must name each seed once, got seed {seed} of {algorithm} in "
                    f"{agent.folder} and {folder}"
                )
        agents.append(Agent(folder, algorithm, seed, gamma, load(folder, env, mixture)))
    return agents


# ---------------------------------------------------------------- perturbations


def measures() -> list[str]:
    """Risk measures with one parameter, over which a grid makes sense."""
    return [name for name, named in risk.NAMES.items() if named.parameters == 1]


def resolved(grid: Grid, nominal: NominalEnv, agents: Sequence[Agent]) -> Grid:
    """The grid in physical values, where its parameter has a nominal one.

    Raises:
        InputError: the environment or the agents don't allow its name or its values.
    """
    if not grid.name:
        return grid
    env = nominal.make()
    is_known = known_model(env) is not None
    if is_known and grid.name in measures():
        check_measures(grid, agents)
        return grid
    if grid.name in measures():
        raise InputError(
            f"perturb must name a parameter of {nominal.env_id}, whose model isn't known, "
            f"got {grid.name!r}"
        )
    p = perturbation(env, grid.name, measures() if is_known else [])
    values = [p.numbers(value, grid.relative) for value in grid.values.tolist()]
    ends = [p.apply(nominal.make(), values[k]) for k in (0, -1)]
    if grid.name.startswith(PREFIX):
        check_acts(nominal, p, ends, [float(values[k][0]) for k in (0, -1)])
    for end in ends:
        end.close()
    if p.nominal is None:
        return replace(grid, nominal=1.0, unit="times nominal")
    physical = np.sort(rounded(np.array(values)[:, 0]))
    return Grid(grid.name, physical, nominal=p.nominal, unit=p.unit)


def check_acts(
    nominal: NominalEnv, p: Perturbation, ends: Sequence[Env], values: Sequence[float]
) -> None:
    """Refuse an attribute by which no end of a grid plays other than nominally."""
    changed = [k for k, value in enumerate(values) if value != p.nominal]
    if changed and not any(acts(nominal.make(), ends[k]) for k in changed):
        raise InputError(
            f"perturb {p.name} must act in {nominal.env_id}, got the same random play with "
            f"{' and '.join(f'{values[k]:g}' for k in changed)} as with {p.nominal:g}"
        )


def check_measures(grid: Grid, agents: Sequence[Agent]) -> None:
    """Refuse a grid of a risk measure's parameter that has no robust values."""
    if grid.relative:
        raise InputError(
            f"perturb {grid.name} must be LO:HI:STEP, since a measure has no nominal parameter, "
            "got x"
        )
    for value in (float(grid.values[0]), float(grid.values[-1])):
        risk.parse(f"{grid.name}:{value!r}")
    for agent in agents:
        policy = agent.policy
        if agent.gamma is None or not (isinstance(policy, Tabular) and len(policy.pi) == 1):
            raise InputError(
                f"perturb {grid.name} must come with a tabular stationary policy and a "
                f"discount, got {agent.folder} without"
            )


# ---------------------------------------------------------------- scores


def scored(
    grid: Grid, nominal: NominalEnv, agents: Sequence[Agent], episodes: int, seed: int
) -> list[Curve]:
    """Every metric of every agent on a resolved grid.

    Args:
        episodes: of an agent and point.
        seed: of the episodes.
    """
    if grid.name in measures():
        return [worst_cases(grid, nominal, agent) for agent in agents]
    shape = (len(agents), episodes, grid.values.size)
    returns, lengths = np.empty(shape), np.empty(shape, np.int64)
    values = np.empty((len(agents), grid.values.size))
    seeds = np.random.SeedSequence(seed).generate_state(episodes)
    for k, value in enumerate(grid.values.tolist()):
        envs = [nominal.make() for _ in range(episodes)]
        if grid.name:
            envs = [perturbed(env, grid.name, value, grid.relative) for env in envs]
        mdp = moved_model(nominal, grid, value, envs[0])
        for j, agent in enumerate(agents):
            rng = np.random.default_rng([seed, 0])
            played = play(envs, agent.policy, seeds, nominal.horizon, rng)
            returns[j, :, k], lengths[j, :, k] = played
            values[j, k] = exact_value(mdp, agent, nominal.horizon)
        for env in envs:
            env.close()
    sampled = [Curve(a, grid, RETURN, returns[j], lengths[j]) for j, a in enumerate(agents)]
    exact = [Curve(a, grid, VALUE, values[j : j + 1]) for j, a in enumerate(agents)]
    return sampled + [curve for curve in exact if not np.isnan(curve.samples).any()]


def moved_model(nominal: NominalEnv, grid: Grid, value: float, env: Env) -> FiniteMDP | None:
    """The known model of a perturbed environment; None where that didn't change along with it.

    One that is made anew has the model of its constructor. One that was changed in place must show
    another model than the nominal one.
    """
    mdp = known_model(env)
    if mdp is None or not grid.name or (value == grid.nominal and not grid.relative):
        return mdp
    is_anew = perturbation(nominal.make(), grid.name).anew
    return mdp if is_anew or mdp != known_model(nominal.make()) else None


def worst_cases(grid: Grid, nominal: NominalEnv, agent: Agent) -> Curve:
    """Robust values of an agent against a measure with each parameter of a grid."""
    assert isinstance(agent.policy, Tabular)  # `check_measures` saw to it
    assert agent.gamma is not None
    mdp = known_model(nominal.make())
    sets = [risk.parse(f"{grid.name}:{value!r}") for value in grid.values.tolist()]
    values = [robust_value(mdp, agent.policy.pi[0], measure, agent.gamma) for measure in sets]
    return Curve(agent, grid, ROBUST, np.array([values]))


def exact_value(mdp: Any, agent: Agent, horizon: int) -> float:
    """The value under a known model; NaN where there is no model or no table.

    With a discount: μ·V^π of a stationary policy. Without: the expected return of an episode,
    Σ_h Σ_sa d_h(s, a) r(s, a). Of a mixture: the mean over its policies.
    """
    policy = agent.policy
    if mdp is None or not isinstance(policy, Tabular | Mixture):
        return math.nan
    pi = policy.pi if isinstance(policy, Mixture) else policy.pi[None]  # (K, H, S, A)
    if agent.gamma is None:
        stages = np.arange(horizon) % pi.shape[1]
        totals = [(visitation(mdp, p[stages], horizon) * mdp.r).sum() for p in pi]
        return float(np.mean(totals))
    if pi.shape[1] > 1:
        return math.nan
    return float(np.mean([robust_value(mdp, p[0], risk.Nominal(), agent.gamma) for p in pi]))


def robust_value(
    mdp: Any, pi: Array, measure: risk.Measure | risk.SRectangular, gamma: float
) -> float:
    """μ·V^π where nature plays the worst case of a measure at every step; pi (S, A)."""
    return float(planning.robust_evaluation(mdp, pi, measure, gamma, strict=False).V @ mdp.mu)


# ---------------------------------------------------------------- statistics


def area(values: Array, curves: Array) -> Array:
    """Area under curves (..., K) over their grid (K,) as their mean height, (...).

    The mean of the piecewise linear curve, by the trapezoid rule; K = 1: its value.
    """
    if values.size == 1:
        return curves[..., 0]
    pieces = np.diff(values) * (curves[..., 1:] + curves[..., :-1]) / 2.0
    mean: Array = pieces.sum(axis=-1) / (values[-1] - values[0])
    return mean


def by_algorithm(curves: Sequence[Curve]) -> list[list[Curve]]:
    """The curves of the seeds of one algorithm, for each grid, metric and algorithm."""
    groups: dict[tuple[str, str, str], list[Curve]] = {}
    for curve in curves:
        key = (curve.grid.name, curve.metric, curve.agent.algorithm)
        groups.setdefault(key, []).append(curve)
    return list(groups.values())


def band_of(curves: Sequence[Curve], rng: np.random.Generator) -> Band:
    """Mean over the curves of training seeds with its interval, or over the episodes of one."""
    first = curves[0]
    samples = np.stack([c.samples.mean(0) for c in curves]) if len(curves) > 1 else first.samples
    band = estimate(samples, "mean", rng)
    mean = estimate(area(first.grid.values, samples), "mean", rng)
    return Band(first.agent.algorithm, first.grid, first.metric, len(curves), band, mean)
