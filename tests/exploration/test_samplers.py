"""Samplers, against soft backward induction, losses written plainly, and densities of scipy."""

import copy
import math
from itertools import pairwise

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from scipy import stats

torch = pytest.importorskip("torch")

from rlentropy.exploration.samplers import SCALE, Batch, SoftActorCritic, SoftQ, Tuning  # noqa: E402
from rlentropy.neural.mixtures import Squashed  # noqa: E402
from rlentropy.neural.networks import Descent  # noqa: E402
from rlentropy.neural.spaces import ActionSet  # noqa: E402

OPTIONS = {"temperature": 0.7, "gamma": 0.9, "learning_rate": 3e-3, "polyak": 0.05}


def soft_q(rng, n=3, inputs=4, hidden=(32,), **options):
    return SoftQ(ActionSet(Discrete(n), 2), inputs, hidden, rng, Tuning(**(OPTIONS | options)))


def actor_critic(rng, m=1, inputs=2, hidden=(32,), **options):
    head = Squashed(Box(-1.0, 1.0, (m,), np.float32))
    return SoftActorCritic(head, inputs, hidden, rng, Tuning(**(OPTIONS | options)))


def tensors(x, actions, rewards, x_next, more):
    floats = (torch.as_tensor(np.asarray(part, np.float32)) for part in (x, rewards, x_next, more))
    x, rewards, x_next, more = floats
    kind = np.int64 if np.asarray(actions).dtype.kind == "i" else np.float32
    return Batch(x, torch.as_tensor(np.asarray(actions, kind)), rewards, x_next, more)


def perceptrons(flat, sizes, members, x):
    """Outputs of M networks with ReLU between, (M, n, out), of their flat parameters, in float64.

    Each layer is the weights of all members, then the biases of all.
    """
    outputs = []
    for k in range(members):
        y, start = np.asarray(x, float), 0
        for layer, (rows, columns) in enumerate(pairwise(sizes)):
            size = rows * columns
            W = flat[start + k * size : start + (k + 1) * size].reshape(rows, columns)
            start += members * size
            b = flat[start + k * columns : start + (k + 1) * columns]
            start += members * columns
            y = y @ W + b
            y = np.maximum(y, 0) if layer < len(sizes) - 2 else y
        outputs.append(y)
    return np.array(outputs)


def slopes(f, flat, h=1e-5):
    """Of a function by central differences."""
    return np.array([(f(flat + h * e) - f(flat - h * e)) / (2 * h) for e in np.eye(flat.size)])


def numbers(network):
    return network.flat.detach().numpy().astype(float)


def huber(difference):
    a = np.abs(difference)
    return np.where(a < 1.0, 0.5 * a**2, a - 0.5)


# ---------------------------------------------------------------- soft Q-learning


def chain():
    """Deterministic, 3 states, 3 actions, 4 decisions: where actions lead, and rewards."""
    rng = np.random.default_rng(5)
    return rng.integers(3, size=(4, 3, 3)), rng.normal(size=(4, 3, 3)) * 2.0


def soft_induction(where, r, temperature, gamma):
    """V = λ log mean exp(Q / λ), backward from 0 at the end; one number after the other."""
    T, S, A = r.shape
    Q, V = np.zeros((T, S, A)), np.zeros((T + 1, S))
    for t in reversed(range(T)):
        for s in range(S):
            for a in range(A):
                Q[t, s, a] = r[t, s, a] + gamma * V[t + 1, where[t, s, a]]
            V[t, s] = temperature * math.log(sum(math.exp(q / temperature) for q in Q[t, s]) / A)
    return Q


def encoded(t, s, T=4, S=3):
    return np.append(np.eye(S)[s], 1.0 - 2.0 * t / T)


def test_soft_q_learning_finds_the_soft_values_of_a_finite_horizon(rng):
    where, r = chain()
    Q = soft_induction(where, r, 0.7, 0.9)
    rows = [(t, s, a) for t in range(4) for s in range(3) for a in range(3)]
    batch = tensors(
        [encoded(t, s) for t, s, a in rows],
        [[a] for *_, a in rows],
        [r[row] for row in rows],
        [encoded(t + 1, where[t, s, a]) for t, s, a in rows],
        [t < 3 for t, s, a in rows],
    )
    sampler = soft_q(rng, hidden=(64,), learning_rate=1e-2)
    for step in range(1000):
        if step == 700:
            sampler.adam.optimiser.param_groups[0]["lr"] = 1e-3
        loss = float(sampler.update(batch))
    assert loss < 1e-5
    logits = perceptrons(sampler.acting().astype(float), sampler.sizes, 1, batch.x.numpy())[0]
    found = np.array([logits[i, a] * 0.7 for i, (_, _, a) in enumerate(rows)])
    np.testing.assert_allclose(found, [Q[row] for row in rows], atol=0.1)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    for i, (t, s, a) in enumerate(rows):
        exact = np.exp(Q[t, s] / 0.7)
        assert p[i, a] == pytest.approx(exact[a] / exact.sum(), abs=0.03)


def test_soft_q_starts_uniform(rng):
    sampler = soft_q(rng)
    x = rng.normal(size=(5, 4))
    assert (perceptrons(sampler.acting(), sampler.sizes, 1, x) == 0.0).all()


@pytest.mark.parametrize("scale", [1.0, 30.0])  # of rewards; far ones are beyond Huber's square
def test_a_step_of_soft_q_learning(scale, rng):
    sampler = soft_q(rng, inputs=3, hidden=(5,))
    n = sampler.network.flat.numel()
    with torch.no_grad():
        sampler.network.flat.copy_(torch.as_tensor(rng.normal(size=n) * 0.5))
        sampler.target.flat.copy_(torch.as_tensor(rng.normal(size=n) * 0.5))
    sampler.adam = Descent(sampler.network, 1.0)
    x, x_next, more = rng.normal(size=(8, 3)), rng.normal(size=(8, 3)), rng.integers(2, size=8)
    actions, rewards = rng.integers(3, size=(8, 1)), scale * rng.normal(size=8)
    old, target = numbers(sampler.network), numbers(sampler.target)
    after = perceptrons(target, (3, 5, 3), 1, x_next)[0] * SCALE
    value = 0.7 * np.log(np.exp(after / 0.7).mean(axis=1))
    aim = (rewards + 0.9 * more * value) / SCALE

    def loss(flat):
        q = perceptrons(flat, (3, 5, 3), 1, x)[0][np.arange(8), actions[:, 0]]
        return huber(q - aim).mean()

    found = float(sampler.update(tensors(x, actions, rewards, x_next, more)))
    assert found == pytest.approx(loss(old), rel=1e-4)
    np.testing.assert_allclose(numbers(sampler.network), old - slopes(loss, old), atol=2e-5)
    mixed = 0.95 * target + 0.05 * numbers(sampler.network)
    np.testing.assert_allclose(numbers(sampler.target), mixed, atol=1e-6)


# ---------------------------------------------------------------- squashed normals


class Given:
    """Noise that is known."""

    def __init__(self, *noise):
        self.noise = list(noise)

    def standard_normal(self, shape, dtype):
        noise = self.noise.pop(0)
        assert noise.shape == tuple(shape)
        return noise.astype(dtype)


def with_law(sampler, mean, log_deviation):
    """An actor that says these whatever it sees."""
    with torch.no_grad():
        sampler.actor.flat.zero_()
        end = torch.as_tensor(np.array([*mean, *log_deviation], np.float32))
        sampler.actor.flat[-len(end) :] = end


@pytest.mark.parametrize(
    ("mean", "log_deviation"),
    [(0.0, 0.0), (1.5, -1.0), (-0.3, 0.7), (3.0, -3.0), (0.0, 2.0), (0.2, 9.0), (0.0, -20.0)],
)
def test_densities_of_squashed_normals(mean, log_deviation, rng):
    """By scipy, and by their integral over [-1, 1]."""
    sampler = actor_critic(rng)
    with_law(sampler, [mean], [log_deviation])
    z = np.linspace(-8.0, 8.0, 20_001)
    sampler.noise_rng = Given(z[:, None])
    actions, log_ratio = (part.detach().numpy() for part in sampler.draw(torch.zeros(z.size, 2)))
    deviation = math.exp(min(max(log_deviation, -5.0), 2.0))
    y = mean + deviation * z
    np.testing.assert_allclose(actions[:, 0], np.tanh(y), atol=1e-6)
    slope = 4.0 * np.exp(-2.0 * np.abs(y)) / (1.0 + np.exp(-2.0 * np.abs(y))) ** 2  # 1 - tanh²
    slow = stats.norm(mean, deviation).logpdf(y) - np.log(slope) + math.log(2.0)
    np.testing.assert_allclose(log_ratio, slow, rtol=1e-4, atol=1e-4)
    integral = np.trapezoid(np.exp(log_ratio.astype(float)) / 2.0 * slope * deviation, z)
    assert integral == pytest.approx(1.0, abs=1e-3)


def test_components_are_independent(rng):
    sampler = actor_critic(rng, m=3)
    with_law(sampler, [0.1, -1.0, 2.0], [0.0, -0.5, 0.3])
    noise = rng.normal(size=(50, 3))
    sampler.noise_rng = Given(noise)
    _, together = sampler.draw(torch.zeros(50, 2))
    total = np.zeros(50)
    laws = zip([0.1, -1.0, 2.0], [0.0, -0.5, 0.3], strict=True)
    for k, (mean, log_deviation) in enumerate(laws):
        alone = actor_critic(rng)
        with_law(alone, [mean], [log_deviation])
        alone.noise_rng = Given(noise[:, k : k + 1])
        total += alone.draw(torch.zeros(50, 2))[1].detach().numpy()
    np.testing.assert_allclose(together.detach().numpy(), total, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- soft actor-critic


def squashed(flat, sizes, x, noise, m):
    """Actions and log π / u, of the actor's flat parameters."""
    outputs = perceptrons(flat, sizes, 1, x)[0]
    mean, deviation = outputs[:, :m], np.exp(np.clip(outputs[:, m:], -5.0, 2.0))
    y = mean + deviation * noise
    log_density = stats.norm(mean, deviation).logpdf(y) - np.log(1.0 - np.tanh(y) ** 2)
    return np.tanh(y), log_density.sum(1) + m * math.log(2.0)


@pytest.mark.parametrize("m", [1, 2])
def test_a_step_of_the_soft_actor_critic(m, rng):
    """The critics' gradient, then the actor's by the new critics, by finite differences."""
    sampler = actor_critic(rng, m, inputs=2, hidden=(4,))
    for network in (sampler.actor, sampler.critic, sampler.target):
        with torch.no_grad():
            network.flat.copy_(torch.as_tensor(rng.normal(size=network.flat.numel()) * 0.4))
    sampler.actor_adam = Descent(sampler.actor, 1.0)
    sampler.critic_adam = Descent(sampler.critic, 1.0)
    B = 6
    noise, noise_next = rng.normal(size=(2, B, m)).astype(np.float32).astype(float)
    sampler.noise_rng = Given(noise_next, noise)
    x, x_next, more = rng.normal(size=(B, 2)), rng.normal(size=(B, 2)), rng.integers(2, size=B)
    actions, rewards = rng.uniform(-1, 1, (B, m)), 15.0 * rng.normal(size=B)
    actor, critic, target = map(numbers, (sampler.actor, sampler.critic, sampler.target))
    sizes, wide = (2, 4, 2 * m), (2 + m, 4, 1)
    lam = 0.7

    def q_of(flat, x, a):
        return perceptrons(flat, wide, 2, np.concatenate([x, a], axis=1))[..., 0] * SCALE

    a_next, log_ratio = squashed(actor, sizes, x_next, noise_next, m)
    value = q_of(target, x_next, a_next).min(axis=0) - lam * log_ratio
    aim = rewards + 0.9 * more * value

    def critics_loss(flat):
        return huber((q_of(flat, x, actions) - aim) / SCALE).mean(axis=1).sum()

    found = float(sampler.update(tensors(x, actions, rewards, x_next, more)))
    assert found == pytest.approx(critics_loss(critic) / 2.0, rel=1e-4)  # the mean of both
    new = numbers(sampler.critic)
    np.testing.assert_allclose(new, critic - slopes(critics_loss, critic), atol=2e-5)

    def actor_loss(flat):
        a, log_ratio = squashed(flat, sizes, x, noise, m)
        return np.mean(lam * log_ratio - q_of(new, x, a).min(axis=0)) / SCALE

    expected = actor - slopes(actor_loss, actor)
    np.testing.assert_allclose(numbers(sampler.actor), expected, atol=5e-5)
    np.testing.assert_allclose(numbers(sampler.target), 0.95 * target + 0.05 * new, atol=1e-6)


def test_the_actor_of_one_decision_finds_the_soft_optimum(rng):
    """Rewards λ log(p / u), whose soft optimum is p: here a squashed normal, N(0.4, 0.5²)."""
    lam, mean, deviation = 1.0, 0.4, 0.5
    sampler = actor_critic(rng, temperature=lam, hidden=(32, 32), polyak=0.1)
    zero = np.zeros((128, 2))
    for _ in range(700):
        actions = np.clip(np.tanh(rng.normal(0.0, 1.0, (128, 1))), -0.98, 0.98)
        y = np.arctanh(actions[:, 0])
        log_p = stats.norm(mean, deviation).logpdf(y) - np.log(1.0 - actions[:, 0] ** 2)
        batch = tensors(zero, actions, lam * (log_p + math.log(2.0)), zero, np.zeros(128))
        sampler.update(batch)
    found = perceptrons(sampler.acting(), sampler.sizes, 1, zero[:1])[0, 0]
    assert found[0] == pytest.approx(mean, abs=0.08)
    assert math.exp(found[1]) == pytest.approx(deviation, abs=0.08)
    value = perceptrons(numbers(sampler.critic), (3, 32, 32, 1), 2, [[0.0, 0.0, math.tanh(0.4)]])
    slope = 1.0 - math.tanh(0.4) ** 2
    log_p = stats.norm(mean, deviation).logpdf(0.4) - math.log(slope) + math.log(2.0)
    np.testing.assert_allclose(SCALE * value.ravel(), log_p, atol=0.2)


# ---------------------------------------------------------------- going on


def random_batch(rng, continuous):
    actions = rng.uniform(-1, 1, (16, 1)) if continuous else rng.integers(3, size=(16, 1))
    x, x_next = rng.normal(size=(2, 16, 4))
    return tensors(x, actions, rng.normal(size=16), x_next, rng.integers(2, size=16))


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("updates", [0, 3])
def test_a_state_goes_on_to_the_same_bits(continuous, updates):
    def make(seed):
        rng = np.random.default_rng(seed)
        return actor_critic(rng, inputs=4) if continuous else soft_q(rng)

    one, two = make(0), make(1)
    rng = np.random.default_rng(2)
    for _ in range(updates):
        one.update(random_batch(rng, continuous))
    two.update(random_batch(rng, continuous))  # whatever it was before
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    torch.manual_seed(0)
    for _ in range(3):
        batch = random_batch(rng, continuous)
        assert float(one.update(batch)) == float(two.update(batch))
    np.testing.assert_array_equal(one.acting(), two.acting())
    for name, part in one.state_dict().items():
        if isinstance(part, dict):
            for key, value in part.items():
                np.testing.assert_array_equal(value, two.state_dict()[name][key])


def test_what_acts_is_a_copy(rng):
    for sampler, continuous in ((soft_q(rng), False), (actor_critic(rng, inputs=4), True)):
        before = sampler.acting()
        held = before.copy()
        sampler.update(random_batch(rng, continuous))
        np.testing.assert_array_equal(before, held)
        assert (sampler.acting() != held).any()
