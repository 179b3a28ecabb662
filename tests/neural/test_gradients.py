"""Gradients in numpy against torch's autograd."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete

torch = pytest.importorskip("torch")

from rlentropy.neural.gradients import (  # noqa: E402
    activations,
    add_to_gradient,
    added,
    backward,
)
from rlentropy.neural.networks import MLP, layers_of  # noqa: E402
from rlentropy.neural.spaces import make_head  # noqa: E402

SPACES = (Discrete(3), MultiDiscrete([2, 3]), Box(-2.0, 2.0, (2,)))


@pytest.mark.parametrize("space", SPACES)
def test_scores_and_entropies_are_those_of_the_law(space, rng):
    head = make_head(space)
    outputs = 3.0 * rng.standard_normal((50, head.num_outputs), dtype=np.float32)
    actions = head.choose(outputs, head.noise(rng, (50,)))
    free = torch.tensor(outputs, requires_grad=True)
    log_p, entropy = head.law(free, torch.as_tensor(actions))
    log_p.sum().backward()
    found, slopes = head.score(outputs, actions)
    np.testing.assert_allclose(found, log_p.detach(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(slopes, free.grad, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(head.entropies(outputs), entropy.detach(), rtol=1e-5, atol=1e-5)
    assert found.dtype == slopes.dtype == np.float32


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_gradients_are_autograds(activation, rng):
    network = MLP((4, 7, 5, 3), rng.spawn(2), activation)
    with torch.no_grad():
        network.flat.add_(0.1 * torch.as_tensor(rng.normal(size=len(network.flat))))
    x, slope = (rng.standard_normal((60, n), dtype=np.float32) for n in (4, 3))
    (network(torch.as_tensor(x)) * torch.as_tensor(slope)).sum().backward()
    wanted = network.gradient.clone()
    network.gradient.zero_()
    for member in range(2):
        layers, total = layers_of(network, member), None
        for rows in (slice(0, 13), slice(13, 60)):
            seen = activations(layers, x[rows], activation)
            outputs = network(torch.as_tensor(x[rows]))[member].detach()
            np.testing.assert_allclose(seen[-1], outputs, rtol=1e-5, atol=1e-6)
            total = added(total, backward(layers, seen, slope[rows], activation))
        add_to_gradient(network, member, total)
    torch.testing.assert_close(network.gradient, wanted, rtol=1e-4, atol=1e-4)
