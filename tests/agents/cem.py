"""Cross-entropy method (Rubinstein, 1999) for Box observations and Discrete actions."""

from dataclasses import dataclass

import numpy as np
import torch

from rlentropy.log import drive
from rlentropy.policies import Policy, one_or_many, play
from rlentropy.types import Result


@dataclass(frozen=True)
class Config:
    """Cross-entropy method with linear policies."""

    steps: int = 20_000  # budget, in environment steps; whole generations are played
    population: int = 16  # policies a generation, an episode each
    elites: int = 4  # the best of them, around which the next are drawn
    horizon: int | None = None  # steps of an episode; default: the environment's limit


class Linear(Policy):
    def __init__(self, weights):
        self.weights, self.shape = weights, (len(weights) - 1,)  # (D + 1, A); of an observation

    def begin(self, index, rng): ...
    @one_or_many
    def act(self, observations, t, rng):
        return (observations @ self.weights[:-1] + self.weights[-1]).argmax(1)


class CrossEntropy:
    stopped, step = False, property(lambda self: self.done)

    def __init__(self, env, config, rng):
        self.env, self.config, self.rng, self.done, self.episodes = env, config, rng, 0, 0
        self.mean = np.zeros((env.observation_space.shape[0] + 1, int(env.action_space.n)))
        self.deviation = np.ones_like(self.mean)

    def returns(self, weights, seeds):
        limit, rng = self.config.horizon, np.random.default_rng(0)  # linear policies draw nothing
        pairs = zip(weights, seeds, strict=True)
        episodes = [play([self.env], Linear(w), [seed], limit, rng) for w, seed in pairs]
        return np.concatenate(episodes, axis=1)  # and lengths

    def advance(self, steps):
        n = self.config.population
        weights = self.rng.normal(self.mean, self.deviation, (n, *self.mean.shape))
        returns, lengths = self.returns(weights, self.rng.integers(2**31, size=n))
        best = weights[np.argsort(returns, kind="stable")[-self.config.elites :]]
        self.mean, self.deviation = best.mean(0), best.std(0) + 0.1
        self.done, self.episodes = self.done + int(lengths.sum()), self.episodes + n
        return {"train/return": returns.mean()}

    def state_dict(self):
        return {k: v for k, v in vars(self).items() if k not in ("env", "config")}

    def load_state_dict(self, state):
        vars(self).update(state)


def run(env, config, rng, log):
    """Learn to maximise the return of an episode."""
    agent_rng, evaluation_rng = rng.spawn(2)
    agent, seeds = CrossEntropy(env, config, agent_rng), evaluation_rng.integers(2**31, size=10)

    def evaluate():
        mean = float(agent.returns([agent.mean] * len(seeds), seeds)[0].mean())
        return {"eval/return": mean}, {"mean_return": mean}

    summary = drive(agent, log, evaluate, total=config.steps, budget="steps")
    summary |= {"env_steps": agent.done, "steps": config.steps, "episodes": agent.episodes}
    return Result(summary, network={"weights": torch.as_tensor(agent.mean)})


def load_policy(saved, env):
    return Linear(saved["weights"].numpy())
