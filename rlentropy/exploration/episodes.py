"""What the tabular exploration algorithms share: the setting, the episodes, the evaluation.

An algorithm is a `Learner`; `explore` plays it, evaluates it on a schedule, and lets the log save
it. Learners see `reset` and `step` alone. A known model is used for two things: to evaluate, and as
a compiled simulator that draws from the same process as `step`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

from rlentropy import planning, plots
from rlentropy.diversity import vendi_score_of_policy
from rlentropy.entropy import trajectory_entropy, visitation, visitation_entropy
from rlentropy.errors import InputError
from rlentropy.files import available_memory, size_text
from rlentropy.kernels.rows import Rows
from rlentropy.kernels.sampling import World
from rlentropy.log import Log
from rlentropy.mdp import FiniteMDP, known, model_or_reason
from rlentropy.types import Array, Count, Objective, Result, State
from rlentropy.wrappers import Checked

Simulator = Literal["auto", "gymnasium", "compiled"]


class Settings(Protocol):
    """The fields that every episodic `Config` has."""

    @property
    def horizon(self) -> int | None: ...
    @property
    def episodes(self) -> int: ...
    @property
    def objective(self) -> Objective: ...
    @property
    def simulator(self) -> Simulator: ...


class Learner(Protocol):
    """A tabular exploration algorithm."""

    @property
    def episodes(self) -> int: ...  # played so far
    @property
    def stopped(self) -> bool: ...  # certified to be good enough before the budget is spent
    @property
    def visits(self) -> Count: ...  # (H, S, A)
    @property
    def heuristic(self) -> bool: ...  # whether its certified gap is no guarantee
    @property
    def mixture(self) -> Any: ...  # (K, H, S, A): draws from the mixture it plays, or None
    def begin_episode(self) -> bool: ...  # False: stopped, nothing to play
    def act(self, h: int, s: int) -> int: ...
    def end_episode(self, states: Count, actions: Count, terminated_at: int) -> None: ...
    def play(self, episodes: int, env_rng: np.random.Generator) -> int: ...
    def policy(self) -> Array: ...
    def last_iterate(self) -> Array: ...
    def mixture_occupancy(self) -> Array | None: ...
    def certified_gap(self) -> float | None: ...
    def state_dict(self) -> State: ...
    def load_state_dict(self, state: State) -> None: ...


@dataclass(frozen=True)
class Explored(Result):
    """What an exploration run returns: pi is (H, S, A), the mixture's policies (K, H, S, A)."""

    visits: Count | None = None  # (H, S, A)
    last_iterate: Array | None = None  # (H, S, A)


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
        if horizon is None or horizon < 1:
            raise InputError(f"horizon must be >= 1 (the environment has no limit), got {horizon}")
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
        shape = _grid_shape(env, S)
        return cls(int(horizon), S, A, first_state, first_action, mdp, compiled, shape, unknown)


def _grid_shape(env: gymnasium.Env[Any, Any], S: int) -> tuple[int, int] | None:
    """(rows, columns) where an environment says that its states are the cells of a grid."""
    base: Any = env.unwrapped
    for shape in (
        known.attribute(base, "grid_shape"),
        known.attribute(base, "shape"),  # CliffWalking
        known.attribute(known.attribute(base, "desc"), "shape"),  # FrozenLake
    ):
        whole = isinstance(shape, tuple) and all(isinstance(n, int | np.integer) for n in shape)
        if whole and len(shape) == 2 and shape[0] * shape[1] == S:
            return int(shape[0]), int(shape[1])
    return None


def _discrete(space: gymnasium.Space[Any], name: str) -> tuple[int, int]:
    if not isinstance(space, Discrete):
        raise InputError(f"the environment's {name} space must be Discrete, got {space}")
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

    def optimum(self, mdp: FiniteMDP, horizon: int) -> planning.Exploration:
        """The exact optimum, as well as it can be certified."""
        if self.objective in ("TE", "TE+"):
            return planning.max_trajectory_entropy(mdp, horizon, self.objective == "TE+")
        return planning.max_visitation_entropy(
            mdp, horizon, self.objective, self.temperature, strict=False
        )


def play_episode(
    env: gymnasium.Env[Any, Any], setting: Setting, learner: Learner, rng: np.random.Generator
) -> int:
    """Play one episode through gymnasium; returns the environment steps taken.

    Every episode has its own seed, so that a resumed run needs no access to the environment's
    generator. After termination the rest of the horizon is spent in the last state.
    """
    H = setting.horizon
    states, actions = np.empty(H + 1, np.int64), np.empty(H, np.int64)
    if not learner.begin_episode():
        return 0
    played = Checked(env)
    s = states[0] = played.reset(int(rng.integers(2**31))) - setting.first_state
    terminated_at, steps = -1, 0
    for h in range(H):
        a = learner.act(h, int(s))
        if terminated_at < 0:
            observation, _, terminated, truncated = played.step(a + setting.first_action)
            s, steps = observation - setting.first_state, steps + 1
            if terminated:
                terminated_at = h + 1
            elif truncated and h + 1 < H:
                raise InputError(
                    f"horizon must be at most {h + 1}, where the environment truncates, got {H}"
                )
        actions[h], states[h + 1] = a, s
    learner.end_episode(states, actions, terminated_at)
    return steps


def explore(
    env: gymnasium.Env[Any, Any],
    config: Settings,
    make_learner: Callable[[Setting, Any, np.random.Generator], Learner],
    rng: np.random.Generator,
    log: Log,
) -> Explored:
    """Play a learner for ``config.episodes`` episodes, evaluating and saving it on the way.

    Args:
        config: the algorithm's `Config`, with the fields of `Settings`.
        make_learner: called with the setting, the config and a generator of its own.
    """
    if config.episodes < 1:
        raise InputError(f"episodes must be >= 1, got {config.episodes}")
    setting = Setting.of(env, config.horizon, config.simulator)
    goal = Goal(config.objective, getattr(config, "temperature", 1.0))
    env_rng, learner_rng, evaluation_rng = rng.spawn(3)
    evaluation_seed = int(evaluation_rng.integers(2**63))
    learner = make_learner(setting, config, learner_rng)
    env_steps, best, evaluated = 0, None, 0
    if (state := log.restore()) is not None:
        learner.load_state_dict(state)
        env_rng.bit_generator.state = state["env_rng"]
        env_steps, best = state["env_steps"], state["optimum"]
        evaluated = state["evaluated"]
        if learner.episodes > config.episodes:
            raise InputError(
                f"episodes must be >= {learner.episodes}, which the run has played, "
                f"got {config.episodes}"
            )
    elif setting.mdp is not None:
        found = goal.optimum(setting.mdp, setting.horizon)
        best = [found.value, found.certificate]

    def saved() -> State:
        mine = {"env_rng": env_rng.bit_generator.state, "env_steps": env_steps, "optimum": best}
        return learner.state_dict() | mine | {"evaluated": evaluated}

    def evaluate() -> dict[str, Any]:
        nonlocal evaluated
        scores = score(learner, setting, goal, best, evaluation_seed)
        log.scalars(evaluation_tags(scores, learner, goal), env_steps)
        log.scalar("time/episodes", learner.episodes, env_steps)
        evaluated = learner.episodes
        return scores

    total, chunk = config.episodes, 1
    while learner.episodes < total and not learner.stopped:
        # Chunks of about 0.1 s, so that progress and Ctrl-C are quick; their ends change no result.
        episodes = min(chunk, log.next_stop(learner.episodes, total) - learner.episodes)
        began = time.perf_counter()
        if setting.compiled:
            steps = learner.play(episodes, env_rng)
        else:
            steps = sum(play_episode(env, setting, learner, env_rng) for _ in range(episodes))
        seconds = time.perf_counter() - began
        env_steps += steps
        chunk = max(1, min(2 * episodes, round(0.1 * episodes / seconds)))
        over = learner.stopped or learner.episodes == total
        if (over or log.evaluation_due(learner.episodes)) and evaluated != learner.episodes:
            evaluate()
            log.scalar("time/steps_per_second", steps / seconds, env_steps)
        log.tick(learner.episodes, total, saved, over)
    if evaluated != learner.episodes:  # resumed with nothing left to play
        evaluate()
        log.tick(learner.episodes, total, saved, over=True)

    if log.directory is not None:
        picture = plots.visits(learner.visits.sum((0, 2)), setting.grid_shape)
        log.figure("visits", picture, env_steps)
    summary: dict[str, Any] = {
        "env_steps": env_steps,
        "episodes": learner.episodes,
        "horizon": setting.horizon,
        "objective": config.objective,
        "temperature": goal.temperature,
        "stopped_by_certificate": learner.stopped,
    }
    if setting.unknown:
        summary["model_unknown"] = setting.unknown
    if setting.num_states <= 10_000:  # what `compare` draws
        summary["state_visits"] = learner.visits.sum((0, 2)).tolist()
        summary["grid_shape"] = setting.grid_shape
    return Explored(
        policy={"pi": learner.policy()},
        summary=summary | score(learner, setting, goal, best, evaluation_seed),
        visits=learner.visits,
        mixture=learner.mixture,
        last_iterate=learner.last_iterate(),
    )


def visit_frequencies(learner: Learner) -> Array:
    """Occupancies as counted, (H, S, A)."""
    visits = learner.visits
    return visits / max(int(visits[0].sum()), 1)


def score(
    learner: Learner, setting: Setting, goal: Goal, best: list[float] | None, seed: int
) -> dict[str, Any]:
    """The figures of summary.json: exact where the model is known.

    Without a model, `value` is the plug-in entropy of the visit frequencies: they are the
    occupancies of the projected policy under the stage-wise empirical model. It is biased low.

    Args:
        seed: of the trajectories that are drawn to score the policy. With the number of episodes it
            is all they depend on, so that a resumed run draws the same ones.
    """
    mdp, H = setting.mdp, setting.horizon
    scores: dict[str, Any] = {"value": None, "value_is_exact": mdp is not None}
    scores["last_iterate_value"] = None
    if mdp is not None:
        pi = learner.policy()
        scores["value"] = goal.of_policy(mdp, pi, H)
        rng = np.random.default_rng([seed, learner.episodes])
        scores["vendi_score"] = vendi_score_of_policy(mdp, pi, H, rng)
        scores["last_iterate_value"] = goal.of_policy(mdp, learner.last_iterate(), H)
        if (d := learner.mixture_occupancy()) is not None and goal.tag == "visitation_entropy":
            scores["mixture_value"] = goal.of_occupancy(d)
    elif goal.tag == "visitation_entropy":
        scores["value"] = goal.of_occupancy(visit_frequencies(learner))
    if best is not None:
        scores["optimum"], scores["certificate"] = best
    if (gap := learner.certified_gap()) is not None:
        scores["certified_gap"] = gap
        scores["certified_gap_is_heuristic"] = learner.heuristic
    return scores


def evaluation_tags(scores: dict[str, Any], learner: Learner, goal: Goal) -> dict[str, float]:
    """The eval/* tags of one evaluation; the README defines each."""
    tags = {}
    for prefix in ("", "mixture_", "last_iterate_"):
        if (value := scores.get(f"{prefix}value")) is not None:
            tags[f"eval/{prefix}{goal.tag}"] = value
            if "optimum" in scores:
                tags[f"eval/{prefix}gap"] = scores["optimum"] - value
    for name in ("certified_gap", "vendi_score"):
        if name in scores:
            tags[f"eval/{name}"] = scores[name]
    if goal.tag == "visitation_entropy":
        frequencies = visit_frequencies(learner)
        tags["eval/visit_frequency_entropy"] = goal.of_occupancy(frequencies)
    tags["eval/states_visited"] = float(np.count_nonzero(learner.visits.sum((0, 2))))
    return tags
