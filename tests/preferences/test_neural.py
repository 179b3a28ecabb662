"""Neural policies on segments: against torch's autograd, and what must cancel or be left alone."""

import dataclasses
import functools
import math

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete

torch = pytest.importorskip("torch")

from rlentropy import policies  # noqa: E402
from rlentropy.errors import InputError  # noqa: E402
from rlentropy.neural.gradients import BLOCK  # noqa: E402
from rlentropy.neural.saved import load_policy  # noqa: E402
from rlentropy.neural.spaces import NeuralPolicy  # noqa: E402
from rlentropy.preferences.losses import preference_loss  # noqa: E402
from rlentropy.preferences.neural import (  # noqa: E402
    SegmentPolicy,
    flattened,
    joined_labelled,
    untrained,
)
from rlentropy.preferences.segments import Pairs, Segments  # noqa: E402

T, N, BETA = 7, 30, 0.2
SPACES = {"discrete": Discrete(3), "multi": MultiDiscrete([2, 3]), "box": Box(-2.0, 2.0, (2,))}
DPO = functools.partial(preference_loss, "dpo", beta=BETA)
PLANE = Box(-math.inf, math.inf, (4,), np.float32)


class Spaces(gymnasium.Env):
    """Its spaces are all that these tests need."""

    def __init__(self, actions):
        self.observation_space, self.action_space = PLANE, actions


def make_reference(kind, rng, hidden=(8, 6), activation="tanh"):
    """A policy network whose outputs are not 0, on observations that it standardises."""
    scaling = rng.normal(size=4), rng.uniform(0.5, 2.0, 4)
    reference = untrained(Spaces(SPACES[kind]), hidden, rng, scaling, activation)
    for w, b in reference.layers:
        w += 0.5 * rng.standard_normal(w.shape, dtype=np.float32)
        b += 0.5 * rng.standard_normal(b.shape, dtype=np.float32)
    return reference


def segments(head, rng, n=N, starts=None):
    states = rng.standard_normal((n, T + 1, 4), dtype=np.float32)
    if starts is not None:
        states[:, 0] = starts
    actions = head.choose(np.zeros((n, T, head.num_outputs), np.float32), head.noise(rng, (n, T)))
    lengths = rng.integers(1, T + 1, n)
    return Segments(states, actions, rng.normal(size=(n, T)), lengths, lengths < T, np.arange(n))


def make_pairs(head, rng, n=N):
    a = segments(head, rng, n)
    return Pairs(a, segments(head, rng, n, a.states[:, 0]))


def moved(policy, rng):
    """The policy away from its reference."""
    flat = policy.network.flat
    with torch.no_grad():
        flat.add_(0.3 * torch.as_tensor(rng.standard_normal(len(flat)), dtype=torch.float32))
    return policy


def log_p(layers, policy, part):
    """Σ γ^t log π by torch, segment by segment, step by step: (n,), float32."""
    mean, deviation = policy.scaling
    sums = []
    for i in range(len(part)):
        total = torch.zeros(())
        for t in range(int(part.lengths[i])):
            x = np.clip((part.states[i, t] - mean) / deviation, -10.0, 10.0)
            x = torch.as_tensor(x, dtype=torch.float32)
            for k, (w, b) in enumerate(layers):
                x = x @ w + b
                if k + 1 < len(layers):
                    x = torch.tanh(x) if policy.activation == "tanh" else torch.relu(x)
            action = torch.as_tensor(part.actions[i, t][None])
            total = total + policy.gamma**t * policy.head.law(x[None], action)[0][0]
        sums.append(total)
    return torch.stack(sums)


def tensors(layers):
    return [tuple(torch.tensor(x, requires_grad=True) for x in layer) for layer in layers]


def caught(policy):
    """A list that gradients go to instead of to Adam."""
    gradients = []
    policy.adam.step = lambda **_: gradients.append(policy.network.gradient.clone())
    return gradients


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("gamma", [1.0, 0.8])
def test_log_ratios_are_sums_over_the_steps_that_count(kind, gamma, rng):
    reference = make_reference(kind, rng)
    policy = moved(SegmentPolicy(reference, 1e-3, gamma), rng)
    part = segments(policy.head, rng)
    with torch.no_grad():
        present = log_p(tensors(policy.acting().layers), policy, part)
        before = log_p(tensors(reference.layers), policy, part)
    found = policy.log_ratios(part)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, (present - before).numpy(), rtol=1e-4, atol=1e-4)
    alone = SegmentPolicy(reference, 1e-3, gamma, with_reference=False)
    alone.network.copy_from(policy.network)
    np.testing.assert_allclose(alone.log_ratios(part), present, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(alone.labelled(Pairs(part, part)).reference, 0.0)


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_step_descends_along_autograds_gradient(kind, activation, rng):
    reference = make_reference(kind, rng, activation=activation)
    policy = moved(SegmentPolicy(reference, 1e-3, gamma=0.9), rng)
    pairs, y = make_pairs(policy.head, rng), rng.choice([0.0, 0.5, 1.0], N)
    layers, before = tensors(policy.acting().layers), tensors(reference.layers)
    S_a, S_b = (
        log_p(layers, policy, one) - log_p(before, policy, one).detach()
        for one in (pairs.a, pairs.b)
    )
    target = torch.as_tensor(y, dtype=torch.float32)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(BETA * (S_a - S_b), target)
    loss.backward()
    wanted = torch.cat([x.grad.ravel() for layer in layers for x in layer])
    gradients = caught(policy)
    assert policy.learn(policy.labelled(pairs), y, DPO) == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(gradients[0], wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["dpo", "ipo", "cpl"])
def test_gradients_of_every_loss_are_finite_differences(name, rng):
    policy = moved(SegmentPolicy(make_reference("discrete", rng, (3,)), 1e-3), rng)
    pairs, y = make_pairs(policy.head, rng), rng.integers(0, 2, N).astype(float)
    lam = 0.5 if name == "cpl" else 1.0
    loss = functools.partial(preference_loss, name, beta=BETA, smoothing=0.1, conservative=lam)
    gradients = caught(policy)
    policy.learn(policy.labelled(pairs), y, loss)

    def value():
        return loss(policy.log_ratios(pairs.a), policy.log_ratios(pairs.b), y).value.mean()

    flat, h = policy.network.flat, 1e-2
    for k in range(0, len(flat), 5):
        sides = []
        for shift in (h, -2.0 * h):  # up, and from there down
            with torch.no_grad():
                flat[k] += shift
            sides.append(value())
        with torch.no_grad():
            flat[k] += h
        slope = (sides[0] - sides[1]) / (2.0 * h)
        assert float(gradients[0][k]) == pytest.approx(slope, rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("kind", SPACES)
def test_at_the_reference_nothing_is_preferred(kind, rng):
    """Loss ln 2, sums of exactly 0 and a weight of 1/2 (preferences §1.1)."""
    policy = SegmentPolicy(make_reference(kind, rng), 1e-3)
    pairs, y = make_pairs(policy.head, rng), np.ones(N)
    for part in (pairs.a, pairs.b):
        np.testing.assert_array_equal(policy.log_ratios(part), 0.0)
    weights = []

    def loss(S_a, S_b, y):
        weights.append(DPO(S_a, S_b, y).by_a)
        return DPO(S_a, S_b, y)

    assert policy.learn(policy.labelled(pairs), y, loss) == pytest.approx(math.log(2), abs=1e-5)
    np.testing.assert_allclose(np.concatenate(weights), -BETA / 2, rtol=1e-4)


def test_swapping_a_pair_and_its_label_changes_nothing(rng):
    reference = make_reference("discrete", rng)
    pairs, y = make_pairs(reference.head, rng), rng.integers(0, 2, N).astype(float)
    found = []
    for shown, answer in ((pairs, y), (pairs.swapped(), 1.0 - y)):
        policy = moved(SegmentPolicy(reference, 1e-3), np.random.default_rng(3))
        gradients = caught(policy)
        loss = policy.learn(policy.labelled(shown), answer, DPO)
        found.append([loss, *gradients[0].tolist()])
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)


def test_what_stands_behind_the_end_changes_nothing(rng):
    policy = moved(SegmentPolicy(make_reference("discrete", rng), 1e-3), rng)
    part = segments(policy.head, rng)
    states, actions, behind = part.states.copy(), part.actions.copy(), ~part.mask
    states[:, :-1][behind], actions[behind] = 99.0, 2
    other = dataclasses.replace(part, states=states, actions=actions)
    np.testing.assert_array_equal(policy.log_ratios(other), policy.log_ratios(part))
    for a, b in zip(policy.steps(other), policy.steps(part), strict=True):
        np.testing.assert_array_equal(a, b)
        assert not b[behind].any()


def test_identical_segments_teach_nothing(rng):
    policy = moved(SegmentPolicy(make_reference("box", rng), 1e-3), rng)
    part, gradients = segments(policy.head, rng), caught(policy)
    policy.learn(policy.labelled(Pairs(part, part)), np.ones(N), DPO)
    np.testing.assert_allclose(gradients[0], 0.0, atol=1e-5)


def test_pairs_of_different_starts_are_for_advantages_alone(rng):
    policy = SegmentPolicy(make_reference("discrete", rng), 1e-3)
    pairs = make_pairs(policy.head, rng)
    other = Pairs(pairs.a, pairs.b.take(np.roll(np.arange(N), 1)))
    with pytest.raises(InputError, match=rf"pairs must start in one state each, .* got {N} of {N}"):
        policy.labelled(other)
    assert len(policy.labelled(other, shared_start=False)) == N


def test_a_reset_restores_the_reference_bit_for_bit(rng):
    reference = make_reference("discrete", rng)
    frozen = [x.copy() for layer in reference.layers for x in layer]
    policy = SegmentPolicy(reference, 1e-2)
    fresh = policy.network.flat.clone()
    labelled, y = policy.labelled(make_pairs(policy.head, rng)), np.ones(N)

    def learn():
        for _ in range(3):
            policy.learn(labelled, y, DPO)
        return policy.network.flat.clone()

    first = learn()
    assert not torch.equal(first, fresh)
    policy.reset()
    assert torch.equal(policy.network.flat, fresh)
    assert torch.equal(learn(), first)  # Adam's moments are gone, too
    for now, then in zip([x for layer in reference.layers for x in layer], frozen, strict=True):
        np.testing.assert_array_equal(now, then)


def test_state_continues_to_the_same_bits(rng):
    reference = make_reference("box", rng)
    one, other = (SegmentPolicy(reference, 1e-2) for _ in range(2))
    labelled, y = one.labelled(make_pairs(one.head, rng)), np.ones(N)
    one.learn(labelled, y, DPO)
    other.load_state_dict(one.state_dict())
    for policy in (one, other):
        policy.learn(labelled, y, DPO)
    assert torch.equal(one.network.flat, other.network.flat)


def test_labelled_pairs_are_taken_and_joined(rng):
    policy = moved(SegmentPolicy(make_reference("discrete", rng), 1e-3, gamma=0.9), rng)
    pairs = make_pairs(policy.head, rng)
    index = rng.permutation(N)[:11]
    wanted, whole = policy.labelled(pairs.take(index)), policy.labelled(pairs)
    halves = joined_labelled([policy.labelled(pairs.take(i)) for i in (index[:4], index[4:])])
    for found in (whole.take(index), halves):
        assert len(found) == 11
        for a, b in zip(found.steps, wanted.steps, strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(found.reference, wanted.reference, rtol=1e-5)


def test_pairs_pass_in_blocks_whole(rng):
    """Of more steps than a block holds, of segments longer than a block, and of none at all."""
    policy = SegmentPolicy(make_reference("discrete", rng), 1e-3)
    part = segments(policy.head, rng, 2 * BLOCK // T)
    labelled = policy.labelled(Pairs(part, part))
    every = np.arange(len(labelled))
    found, rows = [], 0
    for pairs, steps, reference in labelled.parts():
        found += every[pairs].tolist()
        rows += len(steps.x)
        assert len(steps.x) <= BLOCK
        assert len(reference) == len(steps.ends) - 1 == 2 * len(every[pairs])
    assert (found, rows) == (every.tolist(), 2 * part.lengths.sum())
    n = BLOCK + 5
    states = rng.standard_normal((2, n + 1, 4), dtype=np.float32)
    lengths, ended = np.array([n, 0]), np.zeros(2, bool)
    long = Segments(states, rng.integers(0, 3, (2, n, 1)), np.zeros((2, n)), lengths, ended, every)
    parts = list(policy.labelled(Pairs(long, long)).parts())
    assert sum(len(steps.x) for _, steps, _ in parts) == 2 * n
    assert sum(len(every[pairs]) for pairs, _, _ in parts) == 2
    np.testing.assert_array_equal(policy.log_ratios(long), 0.0)


def test_learning_raises_the_margin_of_what_is_preferred(rng):
    policy = SegmentPolicy(make_reference("box", rng), 1e-2)
    pairs, y = make_pairs(policy.head, rng), rng.integers(0, 2, N).astype(float)
    labelled = policy.labelled(pairs)
    losses = [policy.learn(labelled, y, DPO, max_norm=10.0) for _ in range(300)]
    assert losses[-1] < 0.1
    margins = policy.log_ratios(pairs.a) - policy.log_ratios(pairs.b)
    np.testing.assert_array_equal(margins > 0.0, y == 1.0)


def test_steps_are_what_sums_are_made_of(rng):
    policy = moved(SegmentPolicy(make_reference("discrete", rng), 1e-3), rng)
    part = segments(policy.head, rng)
    steps = policy.steps(part)
    sums = (steps.log_pi - steps.log_reference).sum(1)
    np.testing.assert_allclose(policy.log_ratios(part), sums, rtol=1e-5, atol=1e-5)
    outputs = policy.network(torch.as_tensor(flattened(part, policy.scaling).x))[0].detach()
    wanted = torch.distributions.Categorical(logits=outputs).entropy()
    np.testing.assert_allclose(steps.entropy[part.mask], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", SPACES)
def test_untrained_policies_are_uniform_or_in_the_middle(kind, rng):
    reference = untrained(Spaces(SPACES[kind]), (8,), rng)
    policy = SegmentPolicy(reference, 1e-3)
    part = segments(policy.head, rng)
    entropy = policy.steps(part).entropy[part.mask]
    wanted = {"discrete": math.log(3), "multi": math.log(6), "box": math.log(2 * math.pi * math.e)}
    np.testing.assert_allclose(entropy, wanted[kind], rtol=1e-5)
    if kind == "box":
        np.testing.assert_array_equal(policy.acting(stochastic=False).act(part.states[:, 0]), 0.0)


def test_the_acting_policy_follows_and_is_saved(rng):
    policy = moved(SegmentPolicy(make_reference("box", rng), 1e-3), rng)
    acting = policy.acting(stochastic=False)
    x = rng.standard_normal((5, 4), dtype=np.float32)
    again = load_policy(policy.saved_policy(stochastic=False), Spaces(SPACES["box"]))
    assert isinstance(again, NeuralPolicy)
    np.testing.assert_allclose(again.act(x), acting.act(x), rtol=1e-6)
    assert policy.acting().stochastic


def test_refusals(rng):
    reference = make_reference("discrete", rng)
    with pytest.raises(InputError, match="reference must be a policy network, got Uniform"):
        SegmentPolicy(policies.random(Spaces(Discrete(3))), 1e-3)
    with pytest.raises(InputError, match="learning_rate must be > 0 and finite, got 0"):
        SegmentPolicy(reference, 0.0)
    with pytest.raises(InputError, match=r"gamma must be in \(0, 1\], got 2"):
        SegmentPolicy(reference, 1e-3, gamma=2.0)
    policy = SegmentPolicy(reference, 1e-3)
    labelled = policy.labelled(make_pairs(policy.head, rng, 2))
    for y in ([1.0, math.nan], [1.0], [0.0, 1.5]):
        with pytest.raises(InputError, match=r"y must be 2 >= 1 numbers in \[0, 1\], got \["):
            policy.learn(labelled, np.array(y), DPO)
