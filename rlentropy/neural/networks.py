"""Small networks that train side by side: M perceptrons of one shape are one batched perceptron.

On a CPU a 64 × 64 network spends its time between operations, not in them. Seeds that are stacked
along a leading axis share each operation, and all parameters are one array, so that a step of Adam
is one fused operation too. Members never mix: each has its own initial weights, and the members of
a stack end where they would have ended alone, within rounding.

Acting needs no torch: for few observations its calls cost more than a small network's arithmetic,
so `layers_of` and `forward` do in numpy what a member does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from rlentropy.errors import InputError
from rlentropy.neural import devices
from rlentropy.types import Array, State

Activation = Literal["tanh", "relu"]
Rows = NDArray[np.float32]  # (n, width), inputs or outputs of a network
Layers = Sequence[tuple[Rows, Rows]]  # weights (in, out) and biases (out,)


class MLP:
    """M multilayer perceptrons, (M, B, sizes[0]) -> (M, B, sizes[-1]).

    Args:
        sizes: widths of all layers, the input's and the output's among them.
        rngs: one generator a member, which draws its weights: orthogonal, with biases of 0.
        activation: between layers; the output is linear.
        output_gain: scale of the output layer's weights; small ones make a policy start uniform.
        device: of the parameters; default: `devices.current`.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        rngs: Sequence[np.random.Generator],
        activation: Activation = "tanh",
        output_gain: float = 1.0,
        device: torch.device | None = None,
    ) -> None:
        self.sizes, self.activation = tuple(sizes), activation
        gain = np.sqrt(2.0) if activation == "relu" else 5.0 / 3.0
        gains = [gain] * (len(sizes) - 2) + [output_gain]
        shapes = list(pairwise(sizes))
        self.members = len(rngs)
        device = devices.current() if device is None else device
        size = self.members * sum((rows + 1) * columns for rows, columns in shapes)
        self.flat = torch.zeros(size, device=device)  # every parameter of every member
        self.gradient = torch.zeros_like(self.flat)  # where backward() adds up
        self.flat.grad = self.gradient
        self.weights: list[torch.Tensor] = []  # (M, in, out), views of flat
        self.biases: list[torch.Tensor] = []  # (M, 1, out), views of flat
        start = 0
        for (rows, columns), scale in zip(shapes, gains, strict=True):
            drawn = np.stack([scale * orthogonal(rows, columns, rng) for rng in rngs])
            for height, views in ((rows, self.weights), (1, self.biases)):
                end = start + self.members * height * columns
                shape = (self.members, height, columns)
                view = self.flat[start:end].view(shape).detach().requires_grad_()
                view.grad = self.gradient[start:end].view(shape)
                views.append(view)
                start = end
            with torch.no_grad():
                self.weights[-1].copy_(torch.as_tensor(drawn, device=devices.CPU))

    def gradient_norms(self) -> torch.Tensor:
        """Euclidean norm of each member's gradient, (M, 1, 1)."""
        if self.members == 1:
            whole: torch.Tensor = torch.linalg.vector_norm(self.gradient)
            return whole.view(1, 1, 1)
        pieces = [
            torch.linalg.vector_norm(view.grad, dim=(1, 2), keepdim=True)
            for view in (*self.weights, *self.biases)
        ]
        norms: torch.Tensor = torch.linalg.vector_norm(torch.stack(pieces), dim=0)
        return norms

    def scale_gradients(self, factors: torch.Tensor) -> None:
        """Multiply each member's gradient by its factor, (M, 1, 1)."""
        if self.members == 1:
            self.gradient.mul_(factors.view(1))
            return
        for view in (*self.weights, *self.biases):
            assert view.grad is not None
            view.grad.mul_(factors)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs (M, B, out) of inputs (M, B, in), or (B, in) for all members."""
        if x.ndim == 2:
            x = x.expand(self.members, -1, -1)
        last = len(self.weights) - 1
        alone = self.members == 1  # one plain product is faster than a batch of one
        x = x[0] if alone else x
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.addmm(bias[0], x, weight[0]) if alone else torch.baddbmm(bias, x, weight)
            if k < last:
                x = torch.tanh(x) if self.activation == "tanh" else torch.relu(x)
        return x[None] if alone else x

    def copy_from(self, other: MLP) -> None:
        """Take another network's parameters."""
        with torch.no_grad():
            self.flat.copy_(other.flat)

    def copy(self) -> MLP:
        """A network with the same parameters."""
        rngs = [np.random.default_rng(0)] * self.members  # what they draw is overwritten
        twin = MLP(self.sizes, rngs, self.activation, device=self.flat.device)
        twin.copy_from(self)
        return twin

    def state_dict(self) -> State:
        return {"flat": self.flat.detach().cpu().numpy().copy()}

    def load_state_dict(self, state: State) -> None:
        with torch.no_grad():
            self.flat.copy_(torch.as_tensor(np.asarray(state["flat"]), device=devices.CPU))


def weights_of(network: MLP) -> list[torch.Tensor]:
    """The weights and then the biases, of all members: (M, in, out) and (M, 1, out) each."""
    return [view.detach().cpu().clone() for view in (*network.weights, *network.biases)]


def with_weights(
    sizes: Sequence[int], weights: Sequence[torch.Tensor], member: int, activation: Activation
) -> MLP:
    """A network of one member, out of those of `weights_of`; on the CPU, where it acts."""
    network = MLP(sizes, [np.random.default_rng(0)], activation, device=devices.CPU)
    with torch.no_grad():
        for view, stored in zip((*network.weights, *network.biases), weights, strict=True):
            view[0].copy_(stored[member])
    return network


def layers_of(network: MLP, member: int = 0) -> Layers:
    """A member's layers as numpy arrays; on the CPU they share the network's memory."""
    return [
        (weight.detach()[member].cpu().numpy(), bias.detach()[member, 0].cpu().numpy())
        for weight, bias in zip(network.weights, network.biases, strict=True)
    ]


def forward(layers: Layers, x: Rows, activation: Activation) -> Rows:
    """What a member of an MLP computes, in numpy: (n, in) -> (n, out)."""
    for k, (weight, bias) in enumerate(layers):
        x = x @ weight
        x += bias
        if k + 1 < len(layers):
            x = np.tanh(x, out=x) if activation == "tanh" else np.maximum(x, 0.0, out=x)
    return x


def check_shapes(sizes: Sequence[Any], tensors: Mapping[str, tuple[Any, tuple[int, ...]]]) -> None:
    """Refuse stored networks that aren't of their sizes.

    Args:
        sizes: widths of all layers.
        tensors: name → (tensor, the shape it must have).

    Raises:
        InputError: the sizes are none, or a tensor is of another shape or not of real numbers.
    """
    if len(sizes) < 2 or not all(type(size) is int and size > 0 for size in sizes):
        raise InputError(f"policy.pt must hold the sizes of layers, got {list(sizes)}")
    for name, (tensor, shape) in tensors.items():
        if not isinstance(tensor, torch.Tensor) or tuple(tensor.shape) != shape:
            found = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else tensor
            raise InputError(f"policy.pt must hold {name} of shape {shape}, got {found}")
        if tensor.is_complex():
            raise InputError(f"policy.pt must hold real numbers as {name}, got {tensor.dtype}")


def orthogonal(rows: int, columns: int, rng: np.random.Generator) -> Array:
    """A random (rows, columns) matrix with orthonormal rows or columns, whichever are fewer."""
    tall = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diag(r))
    return np.asarray(q if rows >= columns else q.T)


class Adam:
    """Adam (Kingma & Ba, 2015) on the flat parameters of a network, member by member."""

    def __init__(self, network: MLP, learning_rate: float, epsilon: float = 1e-8) -> None:
        self.network = network
        self.optimiser = torch.optim.Adam([network.flat], learning_rate, eps=epsilon, fused=True)

    def step(self, learning_rate: float | None = None, max_norm: float | None = None) -> None:
        """Descend along `network.gradient`, then zero it; gradients are clipped member by member.

        Args:
            learning_rate: of this step on; default: as before.
            max_norm: largest Euclidean norm of a member's gradient; default: no limit.
        """
        if learning_rate is not None:
            self.optimiser.param_groups[0]["lr"] = learning_rate
        if max_norm is not None:
            norms = self.network.gradient_norms()
            self.network.scale_gradients((max_norm / (norms + 1e-6)).clamp_(max=1.0))
        self.optimiser.step()
        self.network.gradient.zero_()

    def state_dict(self) -> State:
        """Moments and step count as arrays; empty before the first step."""
        state = self.optimiser.state.get(self.network.flat, {})
        return {name: value.detach().cpu().numpy().copy() for name, value in state.items()}

    def load_state_dict(self, state: State) -> None:
        self.optimiser.state.clear()
        if state:
            device = self.network.flat.device  # of the step, too, as the optimiser is fused
            self.optimiser.state[self.network.flat] = {
                name: torch.as_tensor(np.asarray(value).copy(), device=device)
                for name, value in state.items()
            }


class Descent:
    """Plain gradient descent, with the interface of `Adam`."""

    def __init__(self, network: MLP, learning_rate: float) -> None:
        self.network, self.learning_rate = network, learning_rate

    def step(self) -> None:
        with torch.no_grad():
            self.network.flat.sub_(self.learning_rate * self.network.gradient)
        self.network.gradient.zero_()

    def state_dict(self) -> State:
        return {}

    def load_state_dict(self, state: State) -> None:
        pass
