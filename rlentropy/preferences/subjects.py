"""The subject of a campaign from an environment: a table, or, where torch is needed, a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Discrete

from rlentropy import neural, preferences
from rlentropy.errors import InputError, one_of
from rlentropy.mdp import known, model_or_reason
from rlentropy.policies import Policy, Tabular
from rlentropy.preferences.table_reward_subject import PlannedLogits, TableRewardSubject
from rlentropy.preferences.table_rewards import TableFeatures
from rlentropy.preferences.table_subject import TableSubject
from rlentropy.preferences.tables import (
    LinearLogits,
    Logits,
    TablePolicy,
    TabularTask,
    floored,
    noisy_expert,
    state_features,
)
from rlentropy.preferences.units import Units
from rlentropy.types import Array, Env

if TYPE_CHECKING:
    from rlentropy.preferences.config import Config, Defaults
    from rlentropy.preferences.neural_subject import NeuralSubject

SIDE_BY_SIDE = 64  # copies of an environment that are stepped together
SCALED_BY = 64  # segments of the reference that observations are standardised by

Generator = np.random.Generator


def is_tabular(env: Env, approximator: str) -> bool:
    """Whether a table is aligned: Discrete spaces and a known model, whose states can be set.

    Raises:
        InputError: a table is asked for where observations or actions are not Discrete.
    """
    both = (env.observation_space, env.action_space)
    discrete = all(isinstance(space, Discrete) for space in both)
    if approximator == "tabular" and not discrete:
        raise InputError(
            "approximator must be neural or auto unless observations and actions are Discrete, "
            f"got tabular with {both[0]} and {both[1]}"
        )
    if approximator == "auto":
        return discrete and model_or_reason(env)[0] is not None
    return discrete and approximator == "tabular"


def table_subject(
    env: Env, config: Config, defaults: Defaults, reference: Policy | None, rng: Generator
) -> TableSubject:
    """A table over the known model of an environment.

    Args:
        reference: of a run; None: as `config.reference` says.

    Raises:
        InputError: the model is not known, or the reference is of other states or actions.
    """
    mdp, reason = model_or_reason(env)
    if mdp is None:
        raise InputError(
            "env must have a known model, so that its states can be set, unless approximator is "
            f"neural: {reason}"
        )
    length = config.segment_length or defaults.segment_length
    assert isinstance(env.observation_space, Discrete)
    shape = known.grid_shape(env, int(env.observation_space.n))
    task = TabularTask.of(mdp, length, shape, config.starts == "all")
    reference_rng, network_rng = rng.spawn(2)
    A = mdp.num_actions
    pi = table_reference(task, config.reference, reference, reference_rng)
    phi = state_features(task, config.features)
    rate = config.learning_rate or defaults.learning_rate
    logits: Logits = LinearLogits(phi, A, rate)
    if config.features == "cells":
        logits = preferences.network_logits.NetworkLogits(phi, A, rate, network_rng)
        phi = logits.features
    planned = config.loss == "reward-model"
    if planned:
        logits = PlannedLogits(mdp.num_states, A)
    policy = TablePolicy(
        floored(pi, config.reference_floor), logits, config.segment_gamma, config.with_reference
    )
    entered = not config.oracle.startswith("regret")  # advantages are of states and actions alone
    kind = TableRewardSubject if planned else TableSubject
    return kind(
        task,
        policy,
        TableFeatures(phi, task.starts, policy.reference, entered),
        config.training(defaults),
        temperature=config.temperature,
        completions=config.completions,
        offline=config.offline,
        entropy=config.entropy or "exact",
        num_states=int(env.observation_space.n),
    )


def units_of(env: Env, subject: object) -> Units:
    """What segments of a subject are in the units of its environment."""
    if isinstance(subject, TableSubject):
        return Units.of(env, True, len(subject.policy.pi))
    return Units.of(env, False)


def table_reference(task: TabularTask, name: str, policy: Policy | None, rng: Generator) -> Array:
    """π_ref, (S, A); of a policy with stages their mean, as segments may start at any time."""
    S, A = task.mdp.num_states, task.mdp.num_actions
    if policy is None:
        return noisy_expert(task, rng) if name == "noisy-expert" else np.full((S, A), 1.0 / A)
    if not isinstance(policy, Tabular) or policy.pi.shape[2] != A:
        raise InputError(f"reference must be a run with a table of {A} actions, got {policy!r}")
    pi = np.full((S, A), 1.0 / A)  # a model may have one more state than its environment
    pi[: policy.pi.shape[1]] = policy.pi.mean(0)
    return pi


def network_subject(
    env: Env, config: Config, defaults: Defaults, reference: Policy | None, rng: Generator
) -> NeuralSubject:
    """A network over copies of an environment.

    Raises:
        InputError: the spaces are none that networks take, or the reference is no such network.
    """
    if config.reference == "noisy-expert":
        raise InputError("reference must be uniform or a run, for networks, got noisy-expert")
    entropy = config.entropy or "rao-blackwell"
    one_of("entropy", entropy, preferences.neural_subject.ESTIMATES)
    nets, rollouts = preferences.neural, preferences.neural_rollouts
    scaling_rng, network_rng, features_rng, seed_rng, agent_rng = rng.spawn(5)
    length = config.segment_length or defaults.segment_length
    copies = neural.copies.replicate(env, SIDE_BY_SIDE, 0.0, config.horizon)
    starts = rollouts.SharedStarts(copies, snapshots=config.snapshots)
    given: Any = reference
    if given is None:
        blank = nets.untrained(env, config.hidden, scaling_rng)
        drawn = starts.draw(SCALED_BY, scaling_rng)
        sample = starts.segments(blank, drawn, length, scaling_rng)
        scaling = rollouts.scaling_of(blank, sample)
        given = nets.untrained(env, config.hidden, network_rng, scaling)
    rate = config.learning_rate or defaults.learning_rate
    policy = nets.SegmentPolicy(given, rate, config.segment_gamma, config.with_reference)
    psi = preferences.neural_features.RandomFeatures(
        policy.head, policy.scaling, config.reward_features, features_rng
    )
    arguments: tuple[Any, ...] = (policy, starts, psi, config.training(defaults), length)
    settings: dict[str, Any] = {
        "temperature": config.temperature,
        "completions": config.completions,
        "offline": config.offline,
        "entropy": entropy,
        "evaluations": config.evaluation_segments,
        "final_episodes": config.final_episodes,
        "seed": int(seed_rng.integers(2**31)),
    }
    if config.loss == "reward-model":
        return reward_subject(env, config, reference, agent_rng, arguments, settings)
    subject: NeuralSubject = preferences.neural_subject.NeuralSubject(*arguments, **settings)
    return subject


def reward_subject(
    env: Env,
    config: Config,
    reference: Policy | None,
    rng: Generator,
    arguments: tuple[Any, ...],
    settings: dict[str, Any],
) -> NeuralSubject:
    """A network that learns from a learnt reward.

    Raises:
        InputError: it is to start from a run.
    """
    if reference is not None:
        raise InputError(f"reference must be uniform where loss is reward-model, got {reference!r}")
    agent_rng, models_rng = rng.spawn(2)
    agent = neural.actor_critic.ActorCritic(
        env,
        neural.actor_critic.Config(hidden=config.hidden, horizon=config.horizon),
        agent_rng,
    )
    policy = arguments[0]
    models = preferences.reward_models.RewardModels(
        policy.head, policy.scaling, config.reward_members, models_rng, config.hidden
    )
    subject: NeuralSubject = preferences.reward_subject.RewardSubject(
        agent, models, config.policy_steps, *arguments, **settings
    )
    return subject
