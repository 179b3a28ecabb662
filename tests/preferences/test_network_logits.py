"""A network behind a table's logits: gradients by finite differences, and what a reset restores."""

from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rlentropy.neural.networks import layers_of  # noqa: E402
from rlentropy.preferences.losses import preference_loss  # noqa: E402
from rlentropy.preferences.network_logits import NetworkLogits  # noqa: E402
from rlentropy.preferences.segments import Pairs, Segments  # noqa: E402
from rlentropy.preferences.tables import TablePolicy  # noqa: E402

S, A, T, N = 6, 3, 5, 25
DPO = partial(preference_loss, "dpo", beta=0.2)
widths = pytest.mark.parametrize("hidden", [(4,), (5, 4)])


def make(rng, hidden=(4,), moved=True, learning_rate=0.01):
    logits = NetworkLogits(rng.normal(size=(S, 2)), A, learning_rate, rng, hidden)
    if moved:
        flat = logits.network.flat
        with torch.no_grad():
            flat.add_(0.5 * torch.as_tensor(rng.standard_normal(len(flat)), dtype=torch.float32))
    return logits


def forward(x, layers):
    """The network in double precision, layer by layer."""
    for k, (w, b) in enumerate(layers):
        x = x @ w + b
        x = np.tanh(x) if k + 1 < len(layers) else x
    return x


def doubled(logits):
    return [[np.array(part, np.float64) for part in layer] for layer in layers_of(logits.network)]


def caught(logits):
    """A list that gradients go to instead of to Adam."""
    found = []
    logits.adam.step = lambda: found.append(logits.network.gradient.clone().numpy())
    return found


def differences(layers, value, h=1e-6):
    """Central differences of a value by every weight, then every bias, layer by layer."""
    found = []
    for layer in layers:
        for part in layer:
            for i in np.ndindex(part.shape):
                kept, ends = part[i], []
                for step in (h, -h):
                    part[i] = kept + step
                    ends.append(value(layers))
                part[i] = kept
                found.append((ends[0] - ends[1]) / (2 * h))
    return np.array(found)


def segments(rng):
    lengths = rng.integers(1, T + 1, N)
    states = rng.integers(S, size=(N, T + 1))
    states[:, 0] = np.arange(N) % S
    return Segments(states, rng.integers(A, size=(N, T)), np.zeros((N, T)), lengths,
                    lengths < T, states[:, 0])  # fmt: skip


@widths
def test_the_table_is_the_network_at_each_state(hidden, rng):
    logits = make(rng, hidden)
    x = logits.inputs.numpy().astype(float)
    np.testing.assert_allclose(logits.table(), forward(x, doubled(logits)), atol=1e-5)
    assert logits.table().dtype == np.float64


@widths
def test_a_step_is_against_the_gradient_by_the_table(hidden, rng):
    logits, G = make(rng, hidden), rng.normal(size=(S, A))
    found, x = caught(logits), logits.inputs.numpy().astype(float)
    logits.descend(G)
    expected = differences(doubled(logits), lambda layers: (G * forward(x, layers)).sum())
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-4)


def test_a_policy_learns_along_the_gradient_of_its_loss(rng):
    logits, reference = make(rng), rng.dirichlet(np.ones(A), size=S)
    policy, pairs = TablePolicy(reference, logits, gamma=0.9), Pairs(segments(rng), segments(rng))
    y, found, x = (
        rng.choice([0.0, 0.5, 1.0], N),
        caught(logits),
        logits.inputs.numpy().astype(float),
    )

    def value(layers):
        log_pi = np.log(reference) + forward(x, layers)
        log_pi -= np.log(np.exp(log_pi).sum(1, keepdims=True))
        both = [
            np.array(
                [
                    sum(
                        0.9**t * (log_pi - np.log(reference))[part.states[i, t], part.actions[i, t]]
                        for t in range(part.lengths[i])
                    )
                    for i in range(N)
                ]
            )
            for part in (pairs.a, pairs.b)
        ]
        return DPO(*both, y).value.mean()

    loss = policy.learn(policy.labelled(pairs), y, DPO)
    assert loss == pytest.approx(value(doubled(logits)), abs=1e-6)
    expected = differences(doubled(logits), value)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    assert np.abs(expected).max() > 1e-3


@widths
def test_it_starts_at_the_reference_and_bends_all_over_its_inputs(hidden, rng):
    logits = make(rng, hidden, moved=False)
    assert not logits.table().any()
    policy = TablePolicy(rng.dirichlet(np.ones(A), size=S), logits)
    assert not policy.log_ratios(segments(rng)).any()
    first = layers_of(logits.network)[0]
    assert first[1].std() > 0.3  # biases, too
    x = logits.inputs.numpy().astype(float)
    layers = doubled(logits)
    h = np.tanh(x @ layers[0][0] + layers[0][1])
    for w, b in layers[1:-1]:
        h = np.tanh(h @ w + b)
    assert logits.features.shape == (S, hidden[-1])
    np.testing.assert_allclose(logits.features, h, atol=1e-5)


def test_the_first_layer_spreads_by_two_deviations():
    logits = NetworkLogits(np.zeros((S, 20)), A, 0.01, np.random.default_rng(0), (400,))
    w, b = layers_of(logits.network)[0]
    assert abs(w.std() - 2.0) <= 4.0 * 2.0 / np.sqrt(2 * w.size)
    assert abs(b.std() - 2.0) <= 4.0 * 2.0 / np.sqrt(2 * b.size)


def learnt(policy, pairs, y, steps):
    labelled = policy.labelled(pairs)
    for _ in range(steps):
        policy.learn(labelled, y, DPO)


def test_a_reset_restores_bits_and_a_fresh_optimiser(rng):
    logits, pairs = make(rng, moved=False), Pairs(segments(rng), segments(rng))
    policy, y = (
        TablePolicy(rng.dirichlet(np.ones(A), size=S), logits),
        rng.integers(2, size=N) * 1.0,
    )
    before, features = policy.pi.copy(), logits.features.copy()
    learnt(policy, pairs, y, 4)
    after = policy.pi.copy()
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_array_equal(logits.features, features)  # of the network as it started
    policy.reset()
    np.testing.assert_array_equal(policy.pi, before)
    learnt(policy, pairs, y, 4)
    np.testing.assert_array_equal(policy.pi, after)


def test_a_state_goes_on_to_the_same_bits(rng):
    reference, pairs = (
        rng.dirichlet(np.ones(A), size=S),
        Pairs(segments(rng), segments(rng)),
    )
    y, inputs = rng.integers(2, size=N) * 1.0, rng.normal(size=(S, 2))
    one, two = (
        TablePolicy(reference, NetworkLogits(inputs, A, 0.01, np.random.default_rng(3), (4,)))
        for _ in range(2)
    )
    learnt(one, pairs, y, 3)
    state = one.state_dict()
    learnt(one, pairs, y, 3)  # must not reach into the state
    two.load_state_dict(state)
    learnt(two, pairs, y, 3)
    np.testing.assert_array_equal(one.pi, two.pi)
    one.reset()
    two.reset()
    np.testing.assert_array_equal(one.pi, two.pi)
