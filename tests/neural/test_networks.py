"""Stacked perceptrons against torch's own, member by member."""

from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rlentropy.errors import InputError  # noqa: E402
from rlentropy.neural.networks import (  # noqa: E402
    MLP,
    Adam,
    Descent,
    check_shapes,
    forward,
    layers_of,
    orthogonal,
    weights_of,
    with_weights,
)

SIZES = (3, 8, 5, 2)
ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}


def stack(members, seed=0, activation="tanh"):
    return MLP(SIZES, np.random.default_rng(seed).spawn(members), activation)


def twin(network, member):
    """A member as a torch.nn.Sequential of its own parameters."""
    layers = []
    for k, (rows, columns) in enumerate(pairwise(network.sizes)):
        linear = torch.nn.Linear(rows, columns)
        with torch.no_grad():
            linear.weight.copy_(network.weights[k][member].T)
            linear.bias.copy_(network.biases[k][member, 0])
        layers += [linear, ACTIVATIONS[network.activation]()]
    return torch.nn.Sequential(*layers[:-1])


def parameters(module):
    """Weights (in, out) and biases (1, out) in the order of `weights_of`."""
    linears = [m for m in module if isinstance(m, torch.nn.Linear)]
    return [m.weight.T for m in linears] + [m.bias[None] for m in linears]


def assert_same(network, twins, atol):
    for m, module in enumerate(twins):
        for ours, theirs in zip(weights_of(network), parameters(module), strict=True):
            torch.testing.assert_close(ours[m], theirs.detach(), rtol=0.0, atol=atol)


def biased(network, rng):
    """The same network with biases that aren't 0."""
    with torch.no_grad():
        for bias in network.biases:
            bias.copy_(torch.as_tensor(rng.normal(size=bias.shape)))
    return network


# ---------------------------------------------------------------- outputs


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("members", [1, 3])
def test_outputs_are_those_of_torch(rng, members, activation):
    network = biased(stack(members, activation=activation), rng)
    x = torch.as_tensor(rng.normal(size=(members, 7, 3)), dtype=torch.float32)
    outputs = network(x)
    assert outputs.shape == (members, 7, 2)
    for m in range(members):
        torch.testing.assert_close(outputs[m], twin(network, m)(x[m]), rtol=1e-5, atol=1e-6)
        numpy_outputs = forward(layers_of(network, m), x[m].numpy(), activation)
        np.testing.assert_allclose(numpy_outputs, outputs[m].detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("members", [1, 3])
def test_two_dimensional_inputs_go_to_all_members(rng, members):
    network = stack(members)
    x = torch.as_tensor(rng.normal(size=(7, 3)), dtype=torch.float32)
    torch.testing.assert_close(network(x), network(x.repeat(members, 1, 1)))


def test_layers_share_the_memory_of_the_network(rng):
    network = stack(2)
    layers, x = layers_of(network, 1), rng.normal(size=(4, 3)).astype(np.float32)
    before = forward(layers, x, "tanh")
    with torch.no_grad():
        network.flat.mul_(0.5)
    assert not np.allclose(forward(layers, x, "tanh"), before)


# ---------------------------------------------------------------- initial weights


@pytest.mark.parametrize(("rows", "columns"), [(5, 5), (3, 8), (8, 3), (1, 4)])
def test_orthogonal(rng, rows, columns):
    q = orthogonal(rows, columns, rng)
    gram = q @ q.T if rows <= columns else q.T @ q
    np.testing.assert_allclose(gram, np.eye(min(rows, columns)), atol=1e-12)


def test_orthogonal_matrices_are_uniform(rng):
    """Haar's law is the same after any rotation: entries have mean 0 and variance 1/n."""
    drawn = np.stack([orthogonal(3, 3, rng) for _ in range(4000)])
    error = 1.0 / np.sqrt(3 * 4000)
    assert np.abs(drawn.mean(0)).max() < 4.5 * error
    np.testing.assert_allclose((drawn**2).mean(0), 1 / 3, atol=0.03)


@pytest.mark.parametrize(("activation", "gain"), [("tanh", 5 / 3), ("relu", np.sqrt(2.0))])
def test_initial_weights_are_scaled_and_biases_nothing(activation, gain):
    network = MLP(SIZES, np.random.default_rng(0).spawn(2), activation, output_gain=0.01)
    assert not any(bias.detach().any() for bias in network.biases)
    for weight, scale in zip(network.weights, (gain, gain, 0.01), strict=True):
        for member in weight.detach().numpy():
            largest = np.linalg.svd(member, compute_uv=False)
            np.testing.assert_allclose(largest, scale, rtol=1e-5)


def test_members_begin_where_they_would_alone():
    rngs = np.random.default_rng(4).spawn(3)
    together = weights_of(MLP(SIZES, rngs))
    for m, rng in enumerate(np.random.default_rng(4).spawn(3)):
        for stacked, alone in zip(together, weights_of(MLP(SIZES, [rng])), strict=True):
            assert torch.equal(stacked[m], alone[0])
    assert not torch.equal(together[0][0], together[0][1])


# ---------------------------------------------------------------- steps


def losses(outputs):
    """One number a member, of scales that differ by far."""
    scale = 10.0 ** torch.arange(len(outputs), dtype=torch.float32)
    return scale * (outputs - 1.0).square().mean((1, 2))


def trained(network, twins, x, step, steps):
    """Let `step` move the network, and torch's optimisers its twins: pairs of optimiser, limit."""
    for _ in range(steps):
        losses(network(x)).sum().backward()
        step()
        for m, (module, (optimiser, limit)) in enumerate(twins):
            optimiser.zero_grad()
            (10.0**m * (module(x) - 1.0).square().mean()).backward()
            if limit is not None:
                torch.nn.utils.clip_grad_norm_(module.parameters(), limit)
            optimiser.step()


@pytest.mark.parametrize("max_norm", [None, 0.5])
@pytest.mark.parametrize("members", [1, 3])
def test_adam_is_torchs_member_by_member(rng, members, max_norm):
    """Gradients of the members differ a hundredfold, so a limit for all at once would show."""
    network = biased(stack(members), rng)
    x = torch.as_tensor(rng.normal(size=(16, 3)), dtype=torch.float32)
    twins = [twin(network, m) for m in range(members)]
    optimisers = [torch.optim.Adam(module.parameters(), 1e-2, eps=1e-5) for module in twins]
    adam = Adam(network, 1e-2, epsilon=1e-5)
    pairs = list(zip(twins, [(o, max_norm) for o in optimisers], strict=True))
    trained(network, pairs, x, lambda: adam.step(max_norm=max_norm), 20)
    assert_same(network, twins, atol=2e-5)


@pytest.mark.parametrize("members", [1, 3])
def test_gradients_are_clipped_member_by_member(rng, members):
    network = stack(members)
    x = torch.as_tensor(rng.normal(size=(16, 3)), dtype=torch.float32)
    losses(network(x)).sum().backward()
    norms = network.gradient_norms()
    assert norms.shape == (members, 1, 1)
    gradients = [view.grad.clone() for view in (*network.weights, *network.biases)]
    by_hand = [sum(g[m].square().sum() for g in gradients).sqrt() for m in range(members)]
    torch.testing.assert_close(norms.ravel(), torch.stack(by_hand))
    factors = torch.linspace(0.5, 2.0, members).view(-1, 1, 1)
    network.scale_gradients(factors)
    for view, before in zip((*network.weights, *network.biases), gradients, strict=True):
        torch.testing.assert_close(view.grad, before * factors)
    torch.testing.assert_close(network.gradient_norms(), norms * factors)


def test_a_step_leaves_no_gradient_and_takes_a_new_rate(rng):
    network = stack(2)
    for optimiser in (Adam(network, 1e-2), Descent(network, 1e-2)):
        losses(network(torch.ones(4, 3))).sum().backward()
        assert network.gradient.any()
        optimiser.step()
        assert not network.gradient.any()
    adam, before = Adam(network, 1e-2), network.flat.clone()
    losses(network(torch.ones(4, 3))).sum().backward()
    adam.step(learning_rate=0.0)
    assert torch.equal(network.flat, before)


def test_descent_is_torchs(rng):
    network = stack(2)
    twins = [twin(network, m) for m in range(2)]
    optimisers = [torch.optim.SGD(module.parameters(), 1e-2) for module in twins]
    descent = Descent(network, 1e-2)
    x = torch.as_tensor(rng.normal(size=(16, 3)), dtype=torch.float32)
    pairs = list(zip(twins, [(o, None) for o in optimisers], strict=True))
    trained(network, pairs, x, descent.step, 10)
    assert_same(network, twins, atol=1e-5)


def test_members_are_independent(rng):
    """What one is trained on changes nothing of the other."""
    x = torch.as_tensor(rng.normal(size=(2, 16, 3)), dtype=torch.float32)
    ends = []
    for other in (x[1], 5.0 * x[1] + 1.0):
        network = stack(2)
        adam = Adam(network, 1e-2)
        for _ in range(5):
            losses(network(torch.stack([x[0], other]))).sum().backward()
            adam.step(max_norm=0.1)
        ends.append(weights_of(network))
    for one, two in zip(*ends, strict=True):
        assert torch.equal(one[0], two[0])
        assert not torch.equal(one[1], two[1])


# ---------------------------------------------------------------- states


@pytest.mark.parametrize("optimiser", [Adam, Descent])
def test_a_restored_network_goes_on_as_it_would_have(rng, optimiser):
    x = torch.as_tensor(rng.normal(size=(16, 3)), dtype=torch.float32)

    def train(network, adam, steps):
        for _ in range(steps):
            losses(network(x)).sum().backward()
            adam.step()

    whole = stack(2)
    adam = optimiser(whole, 1e-2)
    fresh = adam.state_dict()
    train(whole, adam, 3)
    states = whole.state_dict(), adam.state_dict()
    train(whole, adam, 4)

    resumed = stack(2, seed=9)
    again = optimiser(resumed, 1e-2)
    train(resumed, again, 2)
    resumed.load_state_dict(states[0])
    again.load_state_dict(states[1])
    train(resumed, again, 4)
    assert torch.equal(resumed.flat, whole.flat)
    again.load_state_dict(fresh)  # before its first step
    assert again.state_dict() == {}


def test_copies_are_equal_and_apart():
    network = stack(2)
    copy = network.copy()
    assert torch.equal(copy.flat, network.flat)
    with torch.no_grad():
        network.flat.zero_()
    assert copy.flat.any()
    copy.copy_from(network)
    assert not copy.flat.any()


def test_a_member_is_rebuilt_from_stored_weights(rng):
    network = biased(stack(3, activation="relu"), rng)
    x = torch.as_tensor(rng.normal(size=(7, 3)), dtype=torch.float32)
    for m in range(3):
        alone = with_weights(SIZES, weights_of(network), m, "relu")
        torch.testing.assert_close(alone(x)[0], network(x)[m], rtol=1e-5, atol=1e-6)


def test_stored_networks_of_other_shapes_are_refused():
    check_shapes([3, 2], {"w": (torch.zeros(3, 2), (3, 2))})
    for sizes in ([3], [], [3, 0], [3, 2.0], [True, 2]):
        with pytest.raises(InputError, match=r"policy\.pt must hold the sizes of layers, got"):
            check_shapes(sizes, {})
    for tensor, message in (
        (torch.zeros(2, 3), r"w of shape \(3, 2\), got \(2, 3\)"),
        ("x", r"w of shape \(3, 2\), got x"),
        (torch.zeros(3, 2, dtype=torch.complex64), "real numbers as w, got torch.complex64"),
    ):
        with pytest.raises(InputError, match=message):
            check_shapes([3, 2], {"w": (tensor, (3, 2))})
