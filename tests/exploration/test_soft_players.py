"""What a soft player logs of its learning, and the rule by which a Box is discretised."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

import rlentropy  # noqa: F401  # registers environments
from rlentropy.exploration.features import features_of
from rlentropy.exploration.neural_entgame import Config, NeuralEntGame
from rlentropy.exploration.soft_players import chosen_sampler


def test_the_loss_is_of_the_steps_of_a_round(rng, monkeypatch) -> None:
    """The mean of what the sampler says of each; the pool is paid by what is said of its points."""
    env = gymnasium.make("rlentropy/HangingPendulum-v0")
    config = Config(episodes=2, hidden=(4,), updates=5, batch_size=7)
    agent = NeuralEntGame(env, features_of(env), 20, config, rng)
    batches = []

    def update(batch):
        batches.append(batch)
        return torch.tensor(float(len(batches)))

    monkeypatch.setattr(agent.sampler, "update", update)
    agent.play()
    figures, centre = agent.learn(lambda points: points[:, 0])
    assert figures["train/q_loss"] == 3.0  # of 1, 2, 3, 4, 5
    assert [len(batch.x) for batch in batches] == [7] * 5
    visits = agent.replay.visits[:, 0]
    assert centre == pytest.approx(-visits.mean())  # every decision is in so small a pool
    paid = -visits - centre  # a step a decision, at this horizon
    assert figures["train/reward_deviation"] == pytest.approx(paid.std())
    rewards = torch.cat([batch.rewards for batch in batches]).numpy()
    assert np.abs(rewards[:, None] - paid).min(axis=1).max() < 1e-6


@pytest.mark.parametrize(
    ("space", "decisions", "cells", "chosen"),
    [
        (Discrete(2), 1, 10**6, ("soft-q", 3)),
        (Box(-1.0, 1.0, (1,)), 100, 64, ("soft-q", 3)),
        (Box(-1.0, 1.0, (2,)), 240, 400, ("soft-q", 3)),
        (Box(-1.0, 1.0, (1,)), 1, 50, ("soft-q", 256)),  # three places
        (Box(-1.0, 1.0, (2,)), 1, 50, ("actor-critic", 3)),  # nine
        (Box(-1.0, 1.0, (3,)), 500, 64, ("actor-critic", 3)),  # 27 actions
    ],
)
def test_a_box_is_discretised_where_its_grid_leads_far(space, decisions, cells, chosen) -> None:
    options = chosen_sampler(Config(), space, decisions, cells)
    assert (options.sampler, options.action_grid) == chosen
    for asked in ("soft-q", "actor-critic"):
        assert chosen_sampler(Config(sampler=asked), space, decisions, cells).sampler == asked
