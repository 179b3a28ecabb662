"""A small network behind the logits of a table: what one label teaches spreads to other states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rlentropy.neural import devices
from rlentropy.neural.networks import MLP, Adam, layers_of
from rlentropy.types import Array, State

SPREAD = 2.0  # deviation of the first weights and biases, for inputs of unit deviation


class NetworkLogits:
    """f(features of a state), (S, A), of a network whose output layer starts at 0.

    Args:
        inputs: of each state, (S, D).
    """

    def __init__(
        self,
        inputs: Array,
        num_actions: int,
        learning_rate: float,
        rng: np.random.Generator,
        hidden: Sequence[int] = (64,),
    ) -> None:
        self.inputs = devices.put(inputs, devices.current(), torch.float32)
        self.learning_rate = learning_rate
        sizes = (inputs.shape[1], *hidden, num_actions)
        self.network = MLP(sizes, [rng], "tanh", output_gain=0.0)
        self._spread(rng)
        self.start = self.network.copy()
        self.fresh_optimiser()

    def _spread(self, rng: np.random.Generator) -> None:
        """Let the first layer bend all over the inputs, not only where they are 0."""
        with torch.no_grad():
            for view in (self.network.weights[0], self.network.biases[0]):
                drawn = SPREAD * rng.standard_normal(tuple(view.shape))
                view.copy_(torch.as_tensor(drawn, device=devices.CPU))

    @property
    def features(self) -> Array:
        """Of the last hidden layer of the network as it started, (S, width)."""
        x = self.inputs.cpu().numpy()
        for weight, bias in layers_of(self.start)[:-1]:
            x = np.tanh(x @ weight + bias)
        return np.asarray(x, np.float64)

    def fresh_optimiser(self) -> None:
        self.adam = Adam(self.network, self.learning_rate)

    def reset(self) -> None:
        self.network.copy_from(self.start)
        self.fresh_optimiser()

    def table(self) -> Array:
        with torch.no_grad():
            return np.asarray(self.network(self.inputs)[0].cpu().numpy(), np.float64)

    def descend(self, gradient: Array) -> None:
        out = self.network(self.inputs)[0]
        out.backward(torch.as_tensor(gradient, dtype=out.dtype, device=out.device))
        self.adam.step()

    def state_dict(self) -> State:
        return {"network": self.network.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: State) -> None:
        self.network.load_state_dict(state["network"])
        self.adam.load_state_dict(state["adam"])
