"""What is explored: a tabular environment as the learners see it, and the objective.

Learners see `reset` and `step` alone. A known model is used for two things: to evaluate, and as a
compiled simulator that draws from the same process as `step`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from rlentropy.entropy.occupancies import trajectory_entropy, visitation, visitation_entropy
from rlentropy.errors import NO_LIMIT, InputError, whole
from rlentropy.files import available_memory, size_text
from rlentropy.kernels.rows import Rows
from rlentropy.kernels.sampling import World
from rlentropy.mdp import FiniteMDP, known, model_or_reason
from rlentropy.types import Array, Objective

Simulator = Literal["auto", "gymnasium", "compiled"]


@dataclass(frozen=True)
class Setting:
    """A tabular environment as the learners see it, with its model where that is known."""

    horizon: int
    num_states: int
    num_actions: int
    first_state: int  # what the environment calls state 0
    first_action: int
    mdp: FiniteMDP | None
    compiled: bool  # play in the compiled simulator
    grid_shape: tuple[int, int] | None = None
    unknown: str = ""  # why there is no model
    truth: Rows = field(init=False)  # the model's kernel and start, empty where it is unknown
    mu: Array = field(init=False)

    def __post_init__(self) -> None:
        none, no = np.zeros(0, np.uint32), np.zeros(0)
        truth = self.mdp.rows if self.mdp else Rows(none, none, none, no, no)
        object.__setattr__(self, "truth", truth)
        object.__setattr__(self, "mu", self.mdp.mu.copy() if self.mdp else no)

    @property
    def world(self) -> World:
        assert self.mdp is not None
        return self.mdp.world

    @classmethod
    def of(cls, env: gymnasium.Env[Any, Any], horizon: int | None, simulator: Simulator) -> Setting:
        """Read an environment.

        Raises:
            InputError: spaces that are not Discrete, no horizon, a model that contradicts the
                spaces, or a compiled simulator asked of an environment without a model.
        """
        S, first_state = _discrete(env.observation_space, "observation")
        A, first_action = _discrete(env.action_space, "action")
        if horizon is None and env.spec is not None:
            horizon = env.spec.max_episode_steps
        if horizon is None:
            raise InputError(NO_LIMIT)
        whole("horizon", horizon, 1)
        size, room = 32 * horizon * S * A, available_memory()  # four tables are the least
        if size > room:
            raise InputError(
                "env and horizon must have tables that fit in memory, got H x S x A = "
                f"{horizon} x {S} x {A}, which take {size_text(size)} of {size_text(room)}"
            )
        mdp, unknown = model_or_reason(env)
        if simulator == "compiled" and mdp is None:
            raise InputError(
                f"simulator must be gymnasium or auto without a known model, got {simulator}: "
                f"{unknown}"
            )
        by_model = mdp is not None and steps_by_its_model(env)
        compiled = simulator == "compiled" or (simulator == "auto" and by_model)
        shape = known.grid_shape(env, S)
        return cls(int(horizon), S, A, first_state, first_action, mdp, compiled, shape, unknown)


def _discrete(space: gymnasium.Space[Any], name: str) -> tuple[int, int]:
    if not isinstance(space, Discrete):
        flat = isinstance(space, Box | MultiDiscrete | MultiBinary)
        way = f"a gymnasium.{name.capitalize()}Wrapper that numbers them makes it so"
        if flat:
            way = f"neural-entgame takes it, or bin it by a gymnasium.{name.capitalize()}Wrapper"
        raise InputError(f"the environment's {name} space must be Discrete, got {space}; {way}")
    return int(space.n), int(space.start)


def steps_by_its_model(env: gymnasium.Env[Any, Any]) -> bool:
    """Whether `step` declares itself to be nothing but a draw from the environment's ``mdp``.

    Only wrappers that change nothing, and write nothing, may stand before it.
    """
    try:
        return known.draws_from_mdp(known.behind(env, known.SILENT))
    except InputError:
        return False


@dataclass(frozen=True)
class Goal:
    """What is maximised: one of the six objectives, or VE_λ for a temperature λ other than 1."""

    objective: Objective
    temperature: float = 1.0

    @property
    def tag(self) -> str:
        trajectory = self.objective in ("TE", "TE+")
        return "trajectory_entropy" if trajectory else "visitation_entropy"

    def of_occupancy(self, d: Array) -> float:
        return visitation_entropy(d, self.objective, self.temperature)

    def of_policy(self, mdp: FiniteMDP, pi: Array, horizon: int) -> float:
        if self.objective in ("TE", "TE+"):
            return trajectory_entropy(mdp, pi, horizon, self.objective == "TE+")
        return self.of_occupancy(visitation(mdp, pi, horizon))
