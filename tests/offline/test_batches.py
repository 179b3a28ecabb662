"""Batches against transitions taken one by one, in numpy."""

import copy

import numpy as np
import pytest
import torch
from examples.offline import PASSED, boxed, table

from rlentropy.neural.networks import MLP
from rlentropy.neural.spaces import ActionSet
from rlentropy.offline import fqi
from rlentropy.offline.batches import OutcomeBatches, TransitionBatches
from rlentropy.offline.policy import Features
from rlentropy.offline.problem import split
from rlentropy.risk import Nominal

GAMMA = 0.8


def parts(data, **options):
    """Problem, config, features and actions of a dataset."""
    config = fqi.Config(gamma=GAMMA, holdout=0.0, action_grid=5, **options)
    problem = split(data, config, lambda n: Nominal(), None)
    features = Features.of(problem.train, "one-hot")
    return problem, config, features, ActionSet(data.action_space, config.action_grid)


def linear(width, K, members=2):
    """Action values that are linear in inputs, (..., width) -> (M, ..., K), and their weights."""
    W = torch.as_tensor(np.random.default_rng(1).normal(size=(members, width, K))).float()
    return lambda inputs: inputs @ W, W.numpy()


def standardised(data, observations):
    o = data.observations.astype(float)
    return (observations - o.mean(0)) / o.std(0)


@pytest.mark.parametrize("batch_size", [7, 900])
@pytest.mark.parametrize("kind", ["discrete", "box"])
def test_transitions_are_drawn_and_their_targets_made(kind, batch_size):
    """900 > 600: then the values of all next states are kept, until they are forgotten."""
    data = boxed(actions=kind)
    batches = TransitionBatches(*parts(data, batch_size=batch_size, target_every=1))
    assert batches.keeps == (batch_size == 900)
    target, W = linear(2, len(batches.actions))
    rngs = np.random.default_rng(0).spawn(2)
    rows = [rng.integers(600, size=batch_size) for rng in copy.deepcopy(rngs)]
    batch = batches.draw(rngs, target)
    network = MLP((2, len(batches.actions)), np.random.default_rng(2).spawn(2))
    u = batch.read(network, torch.tanh).detach()
    for m in range(2):
        o, o2 = (
            standardised(data, x[rows[m]]) for x in (data.observations, data.next_observations)
        )
        np.testing.assert_allclose(batch.inputs[m], o, atol=1e-5)
        V = np.where(data.terminations[rows[m]], 0.0, (o2 @ W[m]).max(1))
        np.testing.assert_allclose(batch.x[m], data.rewards[rows[m]] / GAMMA + V, atol=1e-4)
        outputs = np.tanh(o @ network.weights[0][m].detach().numpy())
        if kind == "discrete":
            want = outputs[np.arange(batch_size), data.actions[rows[m]]]
        else:
            grid = np.linspace(-2.0, 2.0, 5)
            actions = data.actions[rows[m]][:, 0]
            want = [np.interp(a, grid, row) for a, row in zip(actions, outputs, strict=True)]
        np.testing.assert_allclose(u[m], want, atol=1e-4)
    loss = torch.arange(2.0 * batch_size).view(2, -1)
    assert float(batch.total(loss)) == pytest.approx(float(loss.mean(1).sum()))
    other, again = lambda inputs: target(inputs) + 1.0, copy.deepcopy(rngs)
    stale = batches.draw(rngs, other).x
    batches.forget()
    fresh = batches.draw(again, other).x
    assert torch.equal(stale, fresh) == (not batches.keeps)


def test_range_of_what_rewards_add():
    data = boxed()
    low, high = TransitionBatches(*parts(data)).excess_range
    assert (low, high) == (data.rewards.min() / GAMMA, data.rewards.max() / GAMMA)


# ---------------------------------------------------------------- outcomes


def outcomes(**options):
    data = table(*PASSED)
    problem, config, features, _ = parts(data, **options)
    return data, OutcomeBatches(problem, config, features, problem.model)


def test_losses_of_outcomes_are_those_of_transitions():
    """Σ share × loss is the mean over as many transitions as there are, where all come once."""
    data, batches = outcomes(batch_size=9)
    assert data.observations.size == 9
    target, W = linear(3, 2)
    batch = batches.draw(np.random.default_rng(0).spawn(2), target)
    np.testing.assert_allclose(batch.share.sum(1), 1.0)
    counts = 9 * batch.share.numpy()
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-5)
    network = MLP((3, 2), np.random.default_rng(2).spawn(2))
    u = batch.read(network, torch.tanh).detach().numpy()
    s, a = data.observations, data.actions
    c = np.array([[data.rewards[(s == i) & (a == j)].mean() for j in (0, 1)] for i in range(3)])
    assert np.ptp(data.rewards[(s == 1) & (a == 0)]) > 0.0
    for m in range(2):
        outputs = np.tanh(network.weights[0][m].detach().numpy())  # of one-hot states
        V = np.where(data.terminations, 0.0, W[m].max(1)[data.next_observations])
        x = (data.rewards - c[s, a]) / GAMMA + V
        of_data = batches.share @ (u[m] - batch.x[m].numpy()) ** 2
        assert of_data == pytest.approx(((outputs[s, a] - x) ** 2).mean(), rel=1e-5)
        loss = torch.as_tensor(u) * torch.tensor([[1.0 - m], [m]])
        want = float((batch.share[m] * torch.as_tensor(u[m])).sum())
        assert float(batch.total(loss)) == pytest.approx(want, rel=1e-5)


def test_shares_are_those_of_the_data_on_average():
    _, batches = outcomes(batch_size=500)
    target, _ = linear(3, 2, members=40)
    share = batches.draw(np.random.default_rng(0).spawn(40), target).share.numpy()
    error = np.sqrt(batches.share * (1.0 - batches.share) / (500 * 40))
    assert (np.abs(share.mean(0) - batches.share) < 4.5 * error).all()


def test_targets_of_outcomes_are_kept_until_forgotten():
    _, batches = outcomes(batch_size=9)
    target, _ = linear(3, 2)
    rngs = np.random.default_rng(0).spawn(2)
    first = batches.draw(rngs, target).x
    other = lambda inputs: target(inputs) + 1.0  # noqa: E731
    assert torch.equal(batches.draw(rngs, other).x, first)
    batches.forget()
    fresh = batches.draw(rngs, other).x
    np.testing.assert_allclose(
        fresh - first, np.broadcast_to(batches.alive, fresh.shape), atol=1e-5
    )


@pytest.mark.parametrize(("unvisited", "value"), [("pessimistic", -10.0), ("zero", 0.0)])
def test_action_values_of_cells_without_data_are_fixed(unvisited, value):
    data = table((0, 0, -2.0, 1, False), (0, 0, 4.0, 0, False), (1, 1, 1.0, 0, False), S=2)
    problem, config, features, _ = parts(data, unvisited=unvisited)
    batches = OutcomeBatches(problem, config, features, problem.model)
    u = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    np.testing.assert_allclose(
        batches.action_values(u)[0], [[1.0 + 0.8, value], [value, 1.0 + 3.2]]
    )
    assert batches.excess_range == pytest.approx((-3.0 / GAMMA, 3.0 / GAMMA))
