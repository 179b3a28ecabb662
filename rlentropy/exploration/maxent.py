"""MaxEnt: Frank-Wolfe for the entropy of the visited states.

Hazan, Kakade, Singh and Van Soest, "Provably Efficient Maximum Entropy Exploration", ICML 2019
(exploration §5.1). With d̂ the estimated occupancy of the mixture and σ a smoothing, each round

    r(x)  = -log(d̂(x) + σ) - d̂(x) / (d̂(x) + σ)      gradient of -Σ d log(d + σ)
    π     = optimal for r on the estimated model
    mix   ← (1 - η) mix + η π,   d̂ ← (1 - η) d̂ + η (frequencies of fresh rollouts of π)

A mixture draws one of its policies for a whole episode. (The public code averages action
probabilities, or draws anew at every step: other policies, with other occupancies.)

Differences from the paper: the horizon is finite instead of discounted, the entropy any of the
four visitation objectives (the paper's is AVE_S), and the oracle plans on all transitions seen so
far, an unvisited pair counting as leading to the best state. Step "line-search" maximises the
entropy of the estimated mixture along the segment; "fixed" is the paper's.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np

from rlentropy import calls
from rlentropy.entropy.occupancies import markov_policy, visitation, visitation_entropy
from rlentropy.errors import InputError, in_range, whole
from rlentropy.exploration.episodes import Explored, explore
from rlentropy.exploration.learner import Scoring
from rlentropy.exploration.setting import Setting, Simulator
from rlentropy.kernels.cache import called_from_python
from rlentropy.kernels.rows import backward, decisions
from rlentropy.kernels.sampling import draw_action, rollout
from rlentropy.log import Log
from rlentropy.mdp.empirical import EmpiricalModel
from rlentropy.planning import planning_task
from rlentropy.types import Array, Count, State, VisitationObjective

Step = Literal["line-search", "fixed"]


@dataclass(frozen=True)
class Config:
    """Spreads visits over states and actions, by the Frank-Wolfe method.

    Each round plans for the gradient of the entropy at what the mixture has visited so far, and
    mixes the new policy in. Use it as the classical baseline of the explorers.

    Paper: Hazan et al., "Provably Efficient Maximum Entropy Exploration", ICML 2019; sizes for
    budgets of thousands of episodes.

    Example::

        rlentropy maxent --env-id rlentropy/DoubleChain-v0 --horizon 20 --episodes 5000
    """

    horizon: int | None = None  # steps an episode; default: the environment's time limit
    episodes: int = 5000  # budget, in episodes
    # VE, VE_S: stage by stage; AVE, AVE_S (the paper's): over an episode
    objective: VisitationObjective = "VE"
    round_episodes: int = 50  # fresh rollouts of each round's policy
    step: Step = "line-search"  # weight of a new policy: the best on the line, or --step-size
    step_size: float = 0.02  # weight of a new policy with --step fixed, in (0, 1]
    smoothing: float = 1e-4  # probability added to each frequency in the reward, > 0
    stage_dependent: bool = False  # estimate one kernel a stage instead of one for all
    mixture_size: int = 32  # policies kept, drawn from the mixture; 0 keeps none
    simulator: Simulator = "auto"  # compiled: draw from the declared model; gymnasium: call step

    def __post_init__(self) -> None:
        whole("round_episodes", self.round_episodes, 1)
        if self.step not in ("line-search", "fixed"):
            raise InputError(f"step must be line-search or fixed, got {self.step!r}")
        in_range("step_size", self.step_size, "(0, 1]")
        in_range("smoothing", self.smoothing, "(0, inf)")
        whole("mixture_size", self.mixture_size, 0)


def marginal(d: Array, objective: VisitationObjective) -> Array:
    """The law whose entropy the objective takes, (H or 1, S, A or 1), from d (H, S, A)."""
    d = d if objective in ("VE", "AVE") else d.sum(2, keepdims=True)
    return d if objective in ("VE", "VE_S") else d.mean(0, keepdims=True)


def smoothed_gradient(d: Array, smoothing: float) -> Array:
    """Gradient of -Σ d log(d + σ) (exploration §5.1)."""
    return -np.log(d + smoothing) - d / (d + smoothing)


def line_search(old: Array, new: Array, objective: VisitationObjective) -> float:
    """η in [0, 1] of greatest entropy of (1 - η) old + η new, occupancies (H, S, A)."""
    from scipy.optimize import minimize_scalar

    def loss(eta: float) -> float:
        return -visitation_entropy((1.0 - eta) * old + eta * new, objective)

    options = {"xatol": 1e-9}
    inner = minimize_scalar(loss, bounds=(0.0, 1.0), method="bounded", options=options).x
    return float(min((0.0, float(inner), 1.0), key=loss))


class MaxEnt:
    """A mixture that grows by one policy a round."""

    heuristic = False

    def __init__(self, setting: Setting, config: Config, rng: np.random.Generator) -> None:
        H, S, A = setting.horizon, setting.num_states, setting.num_actions
        self.setting, self.config = setting, config
        self.policy_rng, self.mixture_rng = rng.spawn(2)
        self.model = EmpiricalModel(S, A, stages=H if config.stage_dependent else 1)
        self.episodes, self.stopped, self.rounds = 0, False, 0
        self.visits: Count = np.zeros((H, S, A), np.int64)
        self.fresh: Count = np.zeros((H, S, A), np.int64)  # visits of this round
        self.d: Array = np.zeros((H, S, A))  # estimated occupancy of the mixture
        self.D: Array = np.zeros((H, S, A) if setting.mdp else (0, 0, 0))  # the true one
        self.pi: Array = np.full((H, S, A), 1.0 / A)  # of this round
        self.mixture = np.full((config.mixture_size, H, S, A), 1.0 / A, np.float32)

    def _end_round(self) -> None:
        """Take the policy just played into the mixture, and plan the next."""
        new = self.fresh / self.fresh[0].sum()
        if self.rounds == 0:
            eta = 1.0
        elif self.config.step == "fixed":
            eta = self.config.step_size
        else:
            eta = line_search(self.d, new, self.config.objective)
        self.d = (1.0 - eta) * self.d + eta * new
        if self.setting.mdp is not None:
            played = visitation(self.setting.mdp, self.pi, self.setting.horizon)
            self.D = (1.0 - eta) * self.D + eta * played
        # Each place is an independent draw from the mixture: it changes with probability η.
        self.mixture[self.mixture_rng.random(len(self.mixture)) < eta] = self.pi
        self.fresh[...] = 0
        self.rounds += 1
        self.pi = self.last_iterate()

    def last_iterate(self) -> Array:
        """The oracle's answer to the present mixture, (H, S, A)."""
        if self.rounds == 0:
            return self.pi
        H, S, A = self.visits.shape
        r = smoothed_gradient(marginal(self.d, self.config.objective), self.config.smoothing)
        task = planning_task(r, H)._replace(optimistic=True)
        V, Q, pi = np.zeros((H + 1, S)), np.empty((H, S, A)), np.empty((H, S, A))
        backward(self.model.rows, task, V, Q)
        decisions(Q, 0.0, pi)
        return pi

    def _count(self, states: Count, actions: Count) -> None:
        """Count episodes: states (n, H + 1), actions (n, H)."""
        stages = np.arange(actions.shape[1])
        for visits in (self.visits, self.fresh):
            np.add.at(visits, (stages, states[:, :-1], actions), 1)
        kinds = stages if self.model.stages > 1 else 0
        self.model.update(states[:, :-1], actions, states[:, 1:], kinds)
        self.episodes += len(actions)
        if self.fresh[0].sum() >= self.config.round_episodes:
            self._end_round()

    def begin_episode(self) -> bool:
        return True

    def act(self, h: int, s: int) -> int:
        return int(called_from_python(draw_action)(self.pi[h], s, self.policy_rng))

    def end_episode(self, states: Count, actions: Count, terminated_at: int) -> None:
        self._count(states[None], actions[None])

    def play(self, episodes: int, env_rng: np.random.Generator) -> int:
        H, steps = self.setting.horizon, 0
        while episodes > 0:
            n = min(episodes, self.config.round_episodes - int(self.fresh[0].sum()))
            states, actions = np.empty((n, H + 1), np.int64), np.empty((n, H), np.int64)
            lengths = np.empty(n, np.int64)
            world, rngs = self.setting.world, (env_rng, self.policy_rng)
            rollout(world, self.pi, states, actions, lengths, *rngs)
            self._count(states, actions)
            episodes -= n
            steps += int(lengths.sum())
        return steps

    def policy(self) -> Array:
        """Markov projection of the mixture by its estimated occupancy, (H, S, A)."""
        return markov_policy(self.d)

    def mixture_occupancy(self) -> Array | None:
        return self.D if self.D.size and self.rounds else None

    def certified_gap(self) -> None:
        return None

    def state_dict(self) -> State:
        names = ("visits", "fresh", "d", "D", "pi", "mixture", "episodes", "rounds")
        state: State = {name: getattr(self, name) for name in names}
        state |= {"model": self.model.state_dict()}
        return state | {"policy_rng": self.policy_rng, "mixture_rng": self.mixture_rng}

    def load_state_dict(self, state: State) -> None:
        for name in ("visits", "fresh", "d", "D", "pi", "mixture", "episodes", "rounds"):
            setattr(self, name, state[name])
        self.model.load_state_dict(state["model"])
        self.policy_rng, self.mixture_rng = deepcopy((state["policy_rng"], state["mixture_rng"]))


@calls.on_env(Config)
def run(
    env: gymnasium.Env[Any, Any],
    config: Config,
    rng: np.random.Generator,
    log: Log,
    score: Scoring | None = None,
) -> Explored:
    """Explore a tabular environment; learns from `reset` and `step` alone."""
    return explore(env, config, MaxEnt, rng, log, score)
