"""Reward models against networks trained one by one, and policies that learn from them."""

import dataclasses
import math

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

torch = pytest.importorskip("torch")

from rlentropy.errors import InputError  # noqa: E402
from rlentropy.neural.actor_critic import ActorCritic, Config  # noqa: E402
from rlentropy.neural.copies import replicate  # noqa: E402
from rlentropy.neural.spaces import make_head  # noqa: E402
from rlentropy.preferences.neural_rollouts import SharedStarts  # noqa: E402
from rlentropy.preferences.reward_models import (  # noqa: E402
    RewardModels,
    bootstrap,
    improve,
    relabel,
)
from rlentropy.preferences.segments import Pairs, Segments  # noqa: E402

T, N, K = 6, 40, 3
HEADS = {"discrete": make_head(Discrete(3)), "box": make_head(Box(-2.0, 2.0, (2,)))}


def make_pairs(head, rng, n=N):
    def segments():
        states = rng.standard_normal((n, T + 1, 4), dtype=np.float32)
        outputs = np.zeros((n, T, head.num_outputs), np.float32)
        actions = head.choose(outputs, head.noise(rng, (n, T)))
        lengths = rng.integers(1, T + 1, n)
        rewards = states[:, :-1, 0] + head.features(actions)[..., 0]
        return Segments(states, actions, rewards, lengths, lengths < T, np.arange(n))

    return Pairs(segments(), segments())


def make_models(head, rng, members=K, **options):
    scaling = np.full(4, 0.1), np.full(4, 1.2)
    return RewardModels(head, scaling, members, rng, (8, 8), **options)


def torch_gaps(models, network, pairs):
    """Each member's difference of returns by torch, segment by segment, (K, n)."""
    sums = []
    for part in (pairs.a, pairs.b):
        x = np.clip((part.states[:, :-1] - 0.1) / 1.2, -10.0, 10.0)
        inputs = np.concatenate([x, models.head.features(part.actions)], axis=2)
        rows = torch.as_tensor(inputs.reshape(-1, inputs.shape[2]), dtype=torch.float32)
        r = network(rows)[..., 0].reshape(models.members, *part.mask.shape)
        r = torch.tanh(r) if models.bounded else r
        sums.append((r * torch.as_tensor(part.mask)).sum(2))
    return sums[0] - sums[1]


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("kind", HEADS)
def test_gaps_and_gradients_are_autograds(kind, bounded, rng):
    head = HEADS[kind]
    models, pairs = make_models(head, rng, bounded=bounded), make_pairs(head, rng)
    y, weights = rng.choice([0.0, 0.5, 1.0], N), bootstrap(K, N, rng)
    gaps = torch_gaps(models, models.network, pairs)
    np.testing.assert_allclose(models.gaps(pairs), gaps.detach(), rtol=1e-4, atol=1e-5)
    targets = torch.as_tensor(y, dtype=torch.float32).expand(K, N)
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        gaps, targets, torch.as_tensor(weights), reduction="none"
    )
    losses.mean(1).sum().backward()  # a sum over members: each learns as fast as alone
    wanted = models.network.gradient.clone()
    models.network.gradient.zero_()
    found = []
    models.adam.step = lambda: found.append(models.network.gradient.clone())
    loss = models.fit(models.labelled(pairs), y, rng, 1, N, weights=weights)
    torch.testing.assert_close(found[0], wanted, rtol=1e-3, atol=1e-5)
    assert loss == pytest.approx(losses.mean().item(), rel=1e-5)


@pytest.mark.parametrize("kind", HEADS)
def test_members_end_where_each_would_have_ended_alone(kind, rng):
    head = HEADS[kind]
    models, pairs = make_models(head, rng), make_pairs(head, rng)
    y, weights = rng.integers(0, 2, N).astype(float), bootstrap(K, N, rng)
    alone = [make_models(head, rng, 1) for _ in range(K)]
    with torch.no_grad():
        for k, one in enumerate(alone):
            for mine, theirs in ((one.network.weights, models.network.weights),
                                 (one.network.biases, models.network.biases)):  # fmt: skip
                for a, b in zip(mine, theirs, strict=True):
                    a[0].copy_(b[k])
    settings = {"passes": 5, "batch_size": 7, "enough": math.inf}
    models.fit(models.labelled(pairs), y, np.random.default_rng(1), weights=weights, **settings)
    for k, one in enumerate(alone):
        shuffles, own = np.random.default_rng(1), weights[k : k + 1]
        one.fit(one.labelled(pairs), y, shuffles, weights=own, **settings)
        np.testing.assert_allclose(models.gaps(pairs)[k], one.gaps(pairs)[0], rtol=1e-4, atol=1e-5)


def test_a_few_labels_are_learnt_by_heart(rng):
    head = HEADS["discrete"]
    models, pairs = make_models(head, rng, learning_rate=1e-2), make_pairs(head, rng, 20)
    y, weights = rng.integers(0, 2, 20).astype(float), np.ones((K, 20), np.int64)
    settings = {"passes": 300, "enough": math.inf, "weights": weights}
    assert models.fit(models.labelled(pairs), y, rng, **settings) < 0.1
    np.testing.assert_array_equal(models.gaps(pairs) > 0.0, np.tile(y == 1.0, (K, 1)))


def test_many_labels_generalise(rng):
    """To pairs of other segments; the mean of the members is right more often than they are."""
    head = HEADS["discrete"]
    models, pairs = make_models(head, rng, learning_rate=1e-2), make_pairs(head, rng, 200)
    models.fit(models.labelled(pairs), (pairs.gaps > 0.0).astype(float), rng)
    others = make_pairs(head, rng, 500)
    right = (models.gaps(others) > 0.0) == (others.gaps > 0.0)
    together = (models.gaps(others).mean(0) > 0.0) == (others.gaps > 0.0)
    assert together.mean() > max(0.85, right.mean())


def test_ties_bring_gaps_to_zero(rng):
    head = HEADS["box"]
    models, pairs = make_models(head, rng, learning_rate=1e-2), make_pairs(head, rng, 10)
    before = np.abs(models.gaps(pairs)).mean()
    models.fit(models.labelled(pairs), np.full(10, 0.5), rng, passes=100, enough=math.inf)
    assert np.abs(models.gaps(pairs)).mean() < 0.3 * before


def test_members_differ_by_weights_and_resamples_alone(rng):
    """Of one resample and one beginning they stay one, and nothing is left to learn about them."""
    head = HEADS["discrete"]
    models, pairs = make_models(head, rng), make_pairs(head, rng)
    with torch.no_grad():
        for view in (*models.network.weights, *models.network.biases):
            view.copy_(view[:1].clone().expand_as(view))
    y, weights = rng.integers(0, 2, N).astype(float), np.ones((K, N), np.int64)
    models.fit(models.labelled(pairs), y, rng, 5, weights=weights)
    assert not models.gaps(pairs).std(0).any()
    models.fit(models.labelled(pairs), y, rng, 5)
    assert models.gaps(pairs).std(0).all()


def test_resamples_are_of_full_size(rng):
    drawn = bootstrap(400, 50, rng)
    assert (drawn.sum(1) == 50).all()
    error = math.sqrt(0.98 / (400 * 50))  # of the mean, where a count has variance 1 - 1/50
    assert abs((drawn == 0).mean() - (1 - 1 / 50) ** 50) < 5 * error


def test_enough_agreement_stops(rng):
    head = HEADS["discrete"]
    models, pairs = make_models(head, rng), make_pairs(head, rng)
    labelled, y = models.labelled(pairs), rng.integers(0, 2, N).astype(float)
    models.fit(labelled, y, rng, passes=3, batch_size=N, enough=0.0)
    assert models.adam.state_dict()["step"] == 1
    models.fit(labelled, y, rng, passes=3, batch_size=N, enough=math.inf)
    assert models.adam.state_dict()["step"] == 4


def test_rewards_are_members_means_and_padding_counts_for_nothing(rng):
    head = HEADS["box"]
    models, pairs = make_models(head, rng), make_pairs(head, rng)
    part = pairs.a
    r = models.rewards(part.states[:, :-1].reshape(-1, 4), part.actions.reshape(-1, 2))
    assert (np.abs(r) < 1.0).all()
    returns = (r.reshape(N, T) * part.mask).sum(1)
    silent = dataclasses.replace(part, lengths=np.zeros(N, np.int64))
    np.testing.assert_allclose(models.gaps(Pairs(part, silent)).mean(0), returns, rtol=1e-5)
    states = part.states.copy()
    states[:, :-1][~part.mask] = 5.0
    other = Pairs(dataclasses.replace(part, states=states), pairs.b)
    np.testing.assert_array_equal(models.gaps(other), models.gaps(pairs))


def test_state_continues_to_the_same_bits(rng):
    head = HEADS["discrete"]
    one, other = make_models(head, rng), make_models(head, rng)
    pairs, y = make_pairs(head, rng), rng.integers(0, 2, N).astype(float)
    one.fit(one.labelled(pairs), y, rng, 2)
    other.load_state_dict(one.state_dict())
    for models in (one, other):
        models.fit(models.labelled(pairs), y, np.random.default_rng(0), 2)
    assert torch.equal(one.network.flat, other.network.flat)


def test_refusals(rng):
    head = HEADS["discrete"]
    with pytest.raises(InputError, match="members must be >= 1, got 0"):
        make_models(head, rng, 0)
    with pytest.raises(InputError, match="learning_rate must be > 0 and finite, got -1"):
        make_models(head, rng, learning_rate=-1.0)
    models = make_models(head, rng)
    labelled = models.labelled(make_pairs(head, rng, 2))
    for y in ([1.0, math.nan], [1.0], [0.0, 1.5]):
        with pytest.raises(InputError, match=r"y must be 2 >= 1 numbers in \[0, 1\], got \["):
            models.fit(labelled, np.array(y), rng)
    with pytest.raises(InputError, match="passes must be >= 1, got 0"):
        models.fit(labelled, np.ones(2), rng, passes=0)
    with pytest.raises(InputError, match="batch_size must be >= 1, got 0"):
        models.fit(labelled, np.ones(2), rng, batch_size=0)


# ---------------------------------------------------------------- policies


class Choice(gymnasium.Env):
    """Shows noise for ten steps, and pays for the second action alone."""

    observation_space = Box(-math.inf, math.inf, (2,), np.float64)
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.normal(size=2), {}

    def step(self, action):
        self.t += 1
        return self.np_random.normal(size=2), float(action), self.t >= 10, False, {}


CONFIG = Config(num_envs=4, rollout_steps=32, hidden=(16,), learning_rate=1e-2)


def test_a_policy_learns_what_labels_say_and_teachers_see_the_true_reward():
    """Labels prefer the first action, against the reward; returns are still the environment's."""
    env, rng = Choice(), np.random.default_rng(0)
    agent = ActorCritic(env, CONFIG, rng)
    shared = SharedStarts(replicate(env, 8, 0.0))
    pairs = shared.pairs(agent.acting(), shared.draw(60, rng), 5, rng)
    models = RewardModels(agent.head, (np.zeros(2), np.ones(2)), K, rng, (8,), 1e-2)
    models.fit(models.labelled(pairs), np.sign(-pairs.gaps) / 2 + 0.5, rng, passes=100)
    figures = improve(agent, models, 2000)
    assert agent.env_steps == 2048
    assert figures["train/return"] < 2.0  # of the true rewards; 5 at random
    after = shared.segments(agent.acting(), shared.draw(50, rng), 10, rng)
    np.testing.assert_array_equal(after.rewards, after.actions[..., 0])  # what teachers see
    assert after.actions.mean() < 0.2
    with pytest.raises(InputError, match="steps must be >= 1, got 0"):
        improve(agent, models, 0)


def test_relabelled_batches_hold_the_models_rewards(rng):
    agent = ActorCritic(Choice(), CONFIG, rng)
    models = RewardModels(agent.head, (np.zeros(2), np.ones(2)), K, rng, (8,))
    rollouts = agent.play()
    returns, shape = list(rollouts.returns), rollouts.rewards.shape
    relabel(rollouts, models)
    assert rollouts.returns == returns
    t, i = 3, 1
    wanted = models.rewards(rollouts.observations[t, i][None], rollouts.actions[t, i][None])
    assert rollouts.rewards.shape == shape
    assert rollouts.rewards[t, i] == pytest.approx(wanted[0], rel=1e-5)
