"""Fitted iteration with networks: u(s, ·) for all actions at once, several seeds side by side.

A network gives one output for each action, and for a Box of actions one for each point of a grid,
between which u is linear; so u(s, ·) peaks at an output, and targets need one evaluation of each
next state. An objective turns outputs into u and tells how far u is from its targets; the rest is
the same for all commands.

Targets stay fixed while the target network does. Where that takes fewer evaluations, it is
evaluated once at all next states of the dataset, instead of at those of each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from rlentropy.errors import InputError
from rlentropy.files import available_memory, size_text
from rlentropy.neural.losses import Objective, TVDual
from rlentropy.neural.networks import MLP, Adam, Descent, weights_of
from rlentropy.neural.spaces import LARGEST, ActionSet
from rlentropy.offline.policy import CHUNK, Features, Greedy, unlikely
from rlentropy.offline.problem import Config, Problem, greedy
from rlentropy.offline.tabular import Model
from rlentropy.types import Array, Count, State

Tensor = torch.Tensor

MARGIN = 0.1  # by which u may leave its range on either side, so that its ends don't saturate


@dataclass(frozen=True)
class Sampled:
    """B transitions of each member; on Discrete spaces, all n outcomes and how often they come."""

    inputs: Tensor | None  # (M, B, width); None where the network is evaluated at every state
    index: Tensor  # (M, B, C) outputs that the action mixes; (n,) cells where inputs is None
    mixture: Tensor | None  # (M, B, C), weights; None: C = 1
    share: Tensor | None  # (M, n) of the batch; None: equal
    x: Tensor  # (M, B) or (M, n), targets


@dataclass(frozen=True)
class Outcomes:
    """The n distinct (s, a, s') of Discrete data, with their mean rewards.

    Drawing a batch is drawing how often each of them comes, whatever the size of either.
    """

    share: Array  # (n,) of the data
    cell: Tensor  # (n,), s * A + a
    excess: Tensor  # (n,), (r - c) / γ
    successor: Tensor  # (n,)
    alive: Tensor  # (n,), of bool: the episode went on
    c: Tensor  # (S, A), mean reward of visited cells
    fixed: Tensor  # (S, A), Q of cells without data; NaN of the others


def total(loss: Tensor, batch: Sampled) -> Tensor:
    """The members' mean losses, (M, n) -> (), summed: their gradients are their own."""
    return loss.mean(1).sum() if batch.share is None else (loss * batch.share).sum()


class Networks:
    """Fitted iteration of M networks on one dataset.

    Args:
        make_objective: called with bounds of u.
        rngs: one generator a member.
    """

    def __init__(
        self,
        problem: Problem,
        config: Config,
        make_objective: Callable[[float, float], Objective],
        rngs: Sequence[np.random.Generator],
    ) -> None:
        self.problem, self.config, self.data = problem, config, problem.train
        self.features = Features.of(self.data, config.embedding)
        self.actions = ActionSet(self.data.action_space, config.action_grid)
        self.device = self.features.table.device
        self.outcomes = None if problem.model is None else self._outcomes(problem.model)
        low, high = self._excess_range()
        low, high = problem.low + low, problem.high + high
        margin = MARGIN * (high - low)
        bounds = (low - margin, high + margin)
        if not np.abs(bounds).max() < LARGEST:
            raise InputError(f"rewards must keep values within ±{LARGEST:.3g} for networks")
        self.objective = make_objective(*bounds)
        sizes = (self.features.width, *config.hidden, len(self.actions))
        check_size(sizes, config)
        parts = [rng.spawn(4) for rng in rngs]

        def network(k: int) -> MLP:
            return MLP(sizes, [part[k] for part in parts], "relu", output_gain=0.01)

        self.batch_rngs = [part[0] for part in parts]
        self.network = network(1)
        self.target = self.network.copy()
        self.networks = {"network": self.network, "target": self.target}
        rate = config.learning_rate
        optimiser = Descent if self.objective.descent else Adam
        self.optimisers: dict[str, Adam | Descent] = {"network": optimiser(self.network, rate)}
        if isinstance(self.objective, TVDual):
            self.networks["dual"] = network(2)
            dual_rate = self.objective.learning_rate
            self.optimisers["dual"] = Adam(self.networks["dual"], dual_rate)
        self.restricts = config.support > 0.0 and self.outcomes is None
        if self.restricts:
            behaviour = network(3)
            self.networks |= {"behaviour": behaviour, "behaviour_target": behaviour.copy()}
            self.optimisers["behaviour"] = Adam(behaviour, 1e-3)
        self.members, self.updates, self.stopped = len(rngs), 0, False
        self.caches = len(self.data) <= config.batch_size * config.target_every
        self.cache: Tensor | None = None

    def _outcomes(self, model: Model) -> Outcomes:
        count = np.repeat(model.visits.ravel()[model.cell], np.diff(model.p.indptr)) * model.p.data
        unvisited = {"pessimistic": self.problem.low, "optimistic": self.problem.high, "zero": 0.0}
        fixed = np.where(model.visits > 0, np.nan, unvisited[self.config.unvisited])
        c = np.zeros(model.visits.shape)
        c.ravel()[model.cell] = model.reward
        return Outcomes(
            share=count / count.sum(),
            cell=self._tensor(np.repeat(model.cell, np.diff(model.p.indptr))),
            excess=self._tensor(model.excess / self.problem.gamma, torch.float32),
            successor=self._tensor(model.successor),
            alive=self._tensor(model.alive),
            c=self._tensor(c, torch.float32),
            fixed=self._tensor(fixed, torch.float32),
        )

    def _excess_range(self) -> tuple[float, float]:
        """The range of (r - c) / γ over the data."""
        if self.outcomes is not None:
            return float(self.outcomes.excess.min()), float(self.outcomes.excess.max())
        rewards = self.data.rewards
        return float(rewards.min()) / self.problem.gamma, float(rewards.max()) / self.problem.gamma

    def _tensor(self, x: Any, dtype: torch.dtype | None = None) -> Tensor:
        return torch.as_tensor(x, dtype=dtype, device=self.device)

    # ------------------------------------------------------------ values and targets

    def action_values(self, network: str, inputs: Tensor) -> Tensor:
        """c + γ u at inputs (M, n, width) or (n, width), those of all states where all is Discrete.

        Args:
            network: "network" or "target".

        Returns:
            (M, n, K); -inf for actions that the data's policy hardly takes.
        """
        u = self.objective.head(self.networks[network](inputs))
        if self.outcomes is not None:
            Q, fixed = self.outcomes.c + self.problem.gamma * u, self.outcomes.fixed
            return torch.where(fixed.isnan(), Q, fixed)
        Q = self.problem.gamma * u
        if self.restricts:
            name = "behaviour" if network == "network" else "behaviour_target"
            Q = Q.masked_fill(unlikely(self.networks[name](inputs), self.config.support), -np.inf)
        return Q

    def sampled(self) -> Sampled:
        size, N = self.config.batch_size, len(self.data)
        if self.outcomes is not None:
            drawn = np.stack(
                [rng.multinomial(size, self.outcomes.share) for rng in self.batch_rngs]
            )
            share = self._tensor(drawn / size, torch.float32)
            return Sampled(None, self.outcomes.cell, None, share, self._outcome_targets())
        shape = (self.members, size)
        rows = np.stack([rng.integers(N, size=size) for rng in self.batch_rngs]).ravel()
        index, weights = self.actions.mixed(self.data.actions[rows])
        mixture = self._tensor(weights, torch.float32).view(*shape, -1)
        reward = self._tensor(self.data.rewards[rows].astype(np.float32)).view(shape)
        alive = self._tensor(~self.data.terminations[rows]).view(shape)
        return Sampled(
            inputs=self.features(self.data.observations[rows]).view(*shape, -1),
            index=self._tensor(index).view(*shape, -1),
            mixture=None if index.shape[1] == 1 else mixture,
            share=None,
            x=reward / self.problem.gamma + alive * self._next_values(rows),
        )

    @torch.inference_mode()
    def _outcome_targets(self) -> Tensor:
        """x of every outcome, (M, n)."""
        if self.cache is None:
            assert self.outcomes is not None
            o = self.outcomes
            V = self.action_values("target", self.features.table).amax(-1)  # (M, S)
            self.cache = o.excess + o.alive * V[:, o.successor]
        return self.cache

    @torch.inference_mode()
    def _next_values(self, rows: Count) -> Tensor:
        """max_a γ u of the target network after transitions (M * B,), (M, B)."""
        after = self.data.next_observations
        if not self.caches:
            inputs = self.features(after[rows]).view(self.members, -1, self.features.width)
            return self.action_values("target", inputs).amax(-1)
        if self.cache is None:
            chunks = (after[k : k + CHUNK] for k in range(0, len(after), CHUNK))
            values = [self.action_values("target", self.features(x)).amax(-1) for x in chunks]
            self.cache = torch.cat(values, dim=1)
        return self.cache.gather(1, self._tensor(rows).view(self.members, -1))

    def read(self, network: MLP, head: Callable[[Tensor], Tensor], batch: Sampled) -> Tensor:
        """A network's head at the (s, a) of a batch, like its targets."""
        if batch.inputs is None:
            return head(network(self.features.table).flatten(1)[:, batch.index])
        u = head(network(batch.inputs).gather(2, batch.index))
        return u[..., 0] if batch.mixture is None else (u * batch.mixture).sum(-1)

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
        batch = self.sampled()
        x = batch.x
        if isinstance(self.objective, TVDual):
            x = self._worst(batch, self.objective)
        u = self.read(self.network, self.objective.head, batch)
        total(self.objective.loss(u, x, self.updates), batch).backward()
        self.optimisers["network"].step()
        if self.restricts:
            self._imitate(batch)
        self.updates += 1
        if self.updates % self.config.target_every == 0:
            self._move_target()

    def _move_target(self) -> None:
        with torch.no_grad():
            self.target.flat.lerp_(self.network.flat, self.config.tau)
        if self.restricts:
            self.networks["behaviour_target"].copy_from(self.networks["behaviour"])
        self.cache = None

    def _worst(self, batch: Sampled, objective: TVDual) -> Tensor:
        """Ascend the dual, and return what it makes of the targets."""
        dual = self.networks["dual"]
        for _ in range(objective.steps):
            eta = self.read(dual, objective.threshold, batch)
            total(-objective.dual(eta, batch.x), batch).backward()
            self.optimisers["dual"].step()
        with torch.no_grad():
            return objective.dual(self.read(dual, objective.threshold, batch), batch.x)

    def _imitate(self, batch: Sampled) -> None:
        """A step of maximum likelihood for the policy that the data come from."""
        assert batch.inputs is not None
        logits = self.networks["behaviour"](batch.inputs)
        likelihood = torch.log_softmax(logits, -1).gather(2, batch.index)
        if batch.mixture is not None:
            likelihood = likelihood * batch.mixture
        total(-likelihood.sum(-1), batch).backward()
        self.optimisers["behaviour"].step()

    # ------------------------------------------------------------ what comes out

    @torch.no_grad()
    def Q(self) -> Array | None:
        if self.problem.model is None:
            return None
        found = self.action_values("network", self.features.table)
        Q: Array = found.cpu().numpy().astype(np.float64)
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
            "actions": torch.as_tensor(self.actions.elements),
            "discrete_actions": not self.actions.axes,
        }
        if self.restricts:
            saved["behaviour"] = weights_of(self.networks["behaviour"])
            saved["support"] = self.config.support
        return saved

    @torch.no_grad()
    def diagnostics(self) -> dict[str, Array]:
        """Loss on held-out transitions, the range of u, and how flat its sigmoids are there."""
        own = self.problem.held_out or self.data
        place = np.linspace(0, len(own) - 1, min(len(own), CHUNK)).astype(np.int64)
        inputs = self.features.table
        if self.outcomes is None:
            inputs = self.features(own.observations[place])
        output = self.network(inputs)  # (M, n, K)
        u = self.objective.head(output)
        tags = {"eval/u_min": u.amin((1, 2)), "eval/u_max": u.amax((1, 2))}
        tags["eval/saturation"] = (output.abs() > 5.0).float().mean((1, 2))
        if self.outcomes is None:
            index, weights = (self._tensor(x) for x in self.actions.mixed(own.actions[place]))
            same = index == output.argmax(-1, keepdim=True)  # (M, n, C)
            tags["eval/action_agreement"] = (same * weights).sum(-1).mean(1)
            after = self.action_values("network", self.features(own.next_observations[place]))
            alive = self._tensor(~own.terminations[place])
            reward = self._tensor(own.rewards[place].astype(np.float32))
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
        self.cache = None


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
