"""Fitted iteration with networks: u(s, ·) for all actions at once, several seeds side by side.

A network gives one output for each action, and for a Box of actions one for each point of a grid,
between which u is linear; so u(s, ·) peaks at an output, and targets need one evaluation of each
next state. An objective turns outputs into u and tells how far u is from its targets; the rest is
the same for all commands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete

from rlentropy.errors import InputError
from rlentropy.files import available_memory, size_text
from rlentropy.log import ranks
from rlentropy.neural import devices
from rlentropy.neural.losses import Objective, TVDual
from rlentropy.neural.networks import MLP, Adam, Descent, weights_of
from rlentropy.neural.spaces import ActionSet, warn_if_wide
from rlentropy.offline.batches import (
    Batch,
    Batches,
    OutcomeBatches,
    TransitionBatch,
    TransitionBatches,
)
from rlentropy.offline.policy import CHUNK, Features, Greedy, unlikely
from rlentropy.offline.problem import Config, Problem, greedy
from rlentropy.spaces import LARGEST
from rlentropy.types import Array, State

Tensor = torch.Tensor

MARGIN = 0.1  # by which u may leave its range on either side, so that its ends don't saturate
BEHAVIOUR_LEARNING_RATE = 1e-3


class Networks:
    """Fitted iteration of M networks on one dataset; an agent of `rlentropy.log.drive`.

    Args:
        make_objective: called with bounds of u.
        rngs: one generator a member.
    """

    stopped = False  # never before the budget is spent

    def __init__(
        self,
        problem: Problem,
        config: Config,
        make_objective: Callable[[float, float], Objective],
        rngs: Sequence[np.random.Generator],
    ) -> None:
        self.problem, self.config, self.data = problem, config, problem.train
        self.features = Features.of(self.data, config.embedding)
        warn_if_wide(self.data.observation_space)
        self.actions = ActionSet(self.data.action_space, config.action_grid)
        self.batches: Batches
        if problem.model is not None:
            self.batches = OutcomeBatches(problem, config, self.features, problem.model)
        else:
            self.batches = TransitionBatches(problem, config, self.features, self.actions)
        self.objective = make_objective(*self._bounds())
        self.restricts = config.support > 0.0 and problem.model is None
        self.batch_rngs: list[np.random.Generator] = []
        self.networks: dict[str, MLP] = {}
        self.optimisers: dict[str, Adam | Descent] = {}
        self._make_networks([rng.spawn(4) for rng in rngs])
        self.network, self.target = self.networks["network"], self.networks["target"]
        self.updates = 0

    def _bounds(self) -> tuple[float, float]:
        """What u is kept between."""
        low, high = self.batches.excess_range
        low, high = self.problem.low + low, self.problem.high + high
        margin = MARGIN * (high - low)
        bounds = (low - margin, high + margin)
        if not np.abs(bounds).max() < LARGEST:
            raise InputError(f"rewards must keep values within ±{LARGEST:.3g} for networks")
        return bounds

    def _make_networks(self, parts: list[list[np.random.Generator]]) -> None:
        """Networks and optimisers; each member has four generators, of batches and of networks."""
        config = self.config
        sizes = (self.features.width, *config.hidden, len(self.actions))
        check_size(sizes, config)

        def network(k: int) -> MLP:
            return MLP(sizes, [part[k] for part in parts], "relu", output_gain=0.01)

        self.batch_rngs = [part[0] for part in parts]
        learning = network(1)
        self.networks |= {"network": learning, "target": learning.copy()}
        optimiser = Descent if self.objective.descent else Adam
        self.optimisers["network"] = optimiser(learning, config.learning_rate)
        if isinstance(self.objective, TVDual):
            dual = self.networks["dual"] = network(2)
            self.optimisers["dual"] = Adam(dual, self.objective.learning_rate)
        if self.restricts:
            behaviour = network(3)
            self.networks |= {"behaviour": behaviour, "behaviour_target": behaviour.copy()}
            self.optimisers["behaviour"] = Adam(behaviour, BEHAVIOUR_LEARNING_RATE)

    def action_values(self, network: str, inputs: Tensor) -> Tensor:
        """c + γ u at inputs (M, n, width) or (n, width), those of all states where all is Discrete.

        Args:
            network: "network" or "target".

        Returns:
            (M, n, K); -inf for actions that the data's policy hardly takes.
        """
        Q = self.batches.action_values(self.objective.head(self.networks[network](inputs)))
        if self.restricts:
            name = "behaviour" if network == "network" else "behaviour_target"
            Q = Q.masked_fill(unlikely(self.networks[name](inputs), self.config.support), -np.inf)
        return Q

    # ------------------------------------------------------------ steps

    @property
    def done(self) -> int:
        return self.updates

    @property
    def step(self) -> int:
        return self.updates

    def advance(self, updates: int) -> None:
        for _ in range(updates):
            self._update()
        if not bool(torch.isfinite(self.network.flat).all()):
            raise InputError(
                "learning_rate must be small enough for finite weights, got "
                f"{self.config.learning_rate} and others after {self.updates} updates"
            )

    def _update(self) -> None:
        batch = self.batches.draw(
            self.batch_rngs, lambda inputs: self.action_values("target", inputs)
        )
        x = batch.x
        if isinstance(self.objective, TVDual):
            x = self._worst(batch, self.objective)
        u = batch.read(self.network, self.objective.head)
        batch.total(self.objective.loss(u, x, self.updates)).backward()
        self._descend("network")
        if self.restricts:
            assert isinstance(batch, TransitionBatch)
            self._imitate(batch)
        self.updates += 1
        if self.updates % self.config.target_every == 0:
            self._move_target()

    def _descend(self, network: str) -> None:
        ranks.add_up(self.networks[network].gradient)
        self.optimisers[network].step()

    def _move_target(self) -> None:
        with torch.no_grad():
            self.target.flat.lerp_(self.network.flat, self.config.tau)
        if self.restricts:
            self.networks["behaviour_target"].copy_from(self.networks["behaviour"])
        self.batches.forget()

    def _worst(self, batch: Batch, objective: TVDual) -> Tensor:
        """Ascend the dual, and return what it makes of the targets."""
        dual = self.networks["dual"]
        for _ in range(objective.steps):
            eta = batch.read(dual, objective.threshold)
            batch.total(-objective.dual(eta, batch.x)).backward()
            self._descend("dual")
        with torch.no_grad():
            return objective.dual(batch.read(dual, objective.threshold), batch.x)

    def _imitate(self, batch: TransitionBatch) -> None:
        """A step of maximum likelihood for the policy that the data come from."""
        logits = self.networks["behaviour"](batch.inputs)
        likelihood = torch.log_softmax(logits, -1).gather(2, batch.index)
        if batch.mixture is not None:
            likelihood = likelihood * batch.mixture
        batch.total(-likelihood.sum(-1)).backward()
        self._descend("behaviour")

    # ------------------------------------------------------------ what comes out

    @torch.no_grad()
    def Q(self) -> Array | None:
        if self.problem.model is None:
            return None
        Q: Array = (
            self.action_values("network", self.features.table).cpu().numpy().astype(np.float64)
        )
        Q[:, self.problem.model.terminal] = 0.0
        return Q

    def policy(self, member: int) -> Greedy:
        return Greedy(self.saved(), member)

    def saved(self) -> dict[str, Any]:
        """Everything that `Greedy` needs, of all members, as `torch.save` holds it."""
        space = self.data.observation_space
        saved = {
            "sizes": list(self.network.sizes),
            "network": weights_of(self.network),
            "first_state": -1 if self.features.first is None else self.features.first,
            "discrete": self.features.first is not None,
            "features": self.features.table.cpu().clone(),
            "observation_shape": list(space.shape or ()),
            "actions": torch.as_tensor(self.actions.elements, device=devices.CPU),
            "discrete_actions": isinstance(self.data.action_space, Discrete),
        }
        if self.restricts:
            saved["behaviour"] = weights_of(self.networks["behaviour"])
            saved["support"] = self.config.support
        return saved

    @torch.no_grad()
    def diagnostics(self) -> dict[str, Array]:
        """Loss on held-out transitions, the range of u, and how flat its sigmoids are there."""
        data = self.problem.held_out or self.data
        rows = np.linspace(0, len(data) - 1, min(len(data), CHUNK)).astype(np.int64)
        if isinstance(self.batches, TransitionBatches):
            inputs, index, weights = self.batches.seen(data, rows)
        else:
            inputs = self.features.table
        output = self.network(inputs)  # (M, n, K)
        u = self.objective.head(output)
        tags = {"eval/u_min": u.amin((1, 2)), "eval/u_max": u.amax((1, 2))}
        tags["eval/saturation"] = (output.abs() > 5.0).float().mean((1, 2))
        if isinstance(self.batches, TransitionBatches):
            same = index == output.argmax(-1, keepdim=True)  # (M, n, C)
            tags["eval/action_agreement"] = (same * weights).sum(-1).mean(1)
            after = self.action_values("network", self.features(data.next_observations[rows]))
            reward, alive = self.batches.ends(data, rows)
            x = reward / self.problem.gamma + alive * after.amax(-1)
            now = (u.gather(2, index.expand(len(u), -1, -1)) * weights).sum(-1)
            tags["eval/bellman_loss"] = self.objective.loss(now, x, self.updates).mean(1)
        return {tag: x.cpu().numpy().astype(np.float64) for tag, x in tags.items()}

    def result(self) -> dict[str, Any]:
        if (Q := self.Q()) is not None:
            return {"policy": {"pi": greedy(Q[0]), "Q": Q[0], "V": Q[0].max(1)}}
        return {"network": self.saved()}

    def state_dict(self) -> State:
        return {
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "optimisers": {name: o.state_dict() for name, o in self.optimisers.items()},
            "batch_rngs": self.batch_rngs,
            "updates": self.updates,
        }

    def load_state_dict(self, state: State) -> None:
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.batch_rngs, self.updates = state["batch_rngs"], state["updates"]
        self.batches.forget()


def check_size(sizes: Sequence[int], config: Config) -> None:
    """Refuse networks and batches that don't fit in memory, before it is taken."""
    weights = sum((n + 1) * m for n, m in pairwise(sizes))
    outputs = config.batch_size * sum(sizes)
    size = 4 * config.seeds * (8 * weights + 4 * outputs)  # with moments, targets and gradients
    if size > (room := available_memory()):
        raise InputError(
            f"hidden, seeds and batch_size must make networks that fit in memory, got "
            f"{size_text(size)} for {size_text(room)}"
        )
