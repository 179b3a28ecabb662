"""Neural robust policy gradient: the actor-critic of `rlentropy.neural`, as a command.

Its mathematics is in `rlentropy.neural.estimator`, its agent in `rlentropy.neural.actor_critic`.
"""

from __future__ import annotations

import warnings

import numpy as np

from rlentropy import calls
from rlentropy.errors import InputWarning
from rlentropy.intervals import mean_ci95
from rlentropy.log import Log, drive
from rlentropy.neural.actor_critic import ActorCritic, Config
from rlentropy.neural.copies import copies
from rlentropy.neural.rollouts import SIDE_BY_SIDE, Evaluator
from rlentropy.neural.saved import load_policy
from rlentropy.types import Array, Env, Result

__all__ = ["Config", "load_policy", "run"]


@calls.on_env(Config)
def run(env: Env, config: Config, rng: np.random.Generator, log: Log) -> Result:
    """Train on copies of an environment, evaluating and saving on the way.

    The copies are made from ``env.spec``, or are deep copies where there is none; `env` itself is
    never stepped.

    Raises:
        InputError: the environment's spaces are not supported, it returns what is not in them or
            not finite, or it does not repeat itself on resuming.
    """
    agent_rng, evaluation_rng = rng.spawn(2)
    seed = int(evaluation_rng.integers(2**63))
    agent = ActorCritic(env, config, agent_rng)
    horizon = config.horizon or (env.spec.max_episode_steps if env.spec else None)
    n, workers = max(config.evaluation_episodes, config.final_episodes), config.env_workers
    played = copies(env, min(SIDE_BY_SIDE, n), config.random_action, config.horizon, workers)
    evaluator = Evaluator(played, horizon, seed)
    size = config.num_envs * config.rollout_steps
    if config.steps < size:
        told = f"steps {config.steps} are less than a batch of num_envs * rollout_steps = {size}"
        warnings.warn(f"{told}, which is played whole", InputWarning, stacklevel=2)
    total = -(-config.steps // size) * size

    def evaluate() -> tuple[dict[str, float], Array]:
        """eval/return, and returns: of the final policy those of the summary."""
        policy, step, over = agent.acting(), agent.env_steps, agent.env_steps >= total
        episodes = config.final_episodes if over else config.evaluation_episodes
        shown = returns = evaluator.returns(policy, episodes, step)
        if over and log.evaluation_due(total - size, total):  # of as many as on the way
            shown = evaluator.returns(policy, config.evaluation_episodes, step)
        return {"eval/return": float(shown.mean())}, returns

    returns = drive(agent, log, evaluate, total=total, budget="steps", last_differs=True)
    values = agent.values(agent.inputs(agent.encode(evaluator.first_observations())))
    agent.envs.close()
    evaluator.close()
    summary = {
        "env_steps": agent.env_steps,
        "episodes": agent.episodes,
        "steps": config.steps,
        "risk": config.risk,
        "gamma": config.gamma,
        "horizon": horizon,
        "value": float(values.mean() * agent.reward_scale),
        "value_is_exact": False,
        "mean_return": float(returns.mean()),
        "return_ci95": mean_ci95(returns),
        "evaluation_episodes": returns.size,
    }
    return Result(summary, network=agent.saved_policy())
