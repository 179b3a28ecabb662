"""What EntGame, regularised EntGame, RF-UCRL, RF-Express and UCBVI-Ent share.

They are one loop: plan optimistically on the transitions counted so far, play the plan, count. They
differ in what is rewarded (surprising a forecaster, nothing, the entropy of the next transition),
in the bonus, and in the temperature of the plan; each says so in its own file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rlentropy.entropy.occupancies import markov_policy
from rlentropy.errors import in_range, one_of, whole
from rlentropy.exploration.setting import Setting
from rlentropy.kernels.cache import called_from_python
from rlentropy.kernels.game import (
    Guarantee,
    Memory,
    Schedule,
    book,
    learning,
    mean_gap,
    plan_alone,
    playing,
    refreshing,
    revise_nothing,
)
from rlentropy.kernels.rows import Task, backward, decide_at, decisions
from rlentropy.kernels.sampling import pick_action
from rlentropy.mdp.empirical import EmpiricalModel
from rlentropy.types import Array, Count, State

BLOCK = 256  # episodes of the simulator between two returns to Python


def check_bonus(bonus: str, choices: tuple[str, ...], bonus_scale: float, delta: float) -> None:
    """Refuse settings of the optimism that are out of range."""
    one_of("bonus", bonus, choices)
    in_range("bonus_scale", bonus_scale, "[0, inf)")
    in_range("delta", delta, "(0, 1)")


@dataclass(frozen=True)
class Rules:
    """The compiled parts of an algorithm (`rlentropy.kernels.game`), and what they fill."""

    plan: Callable[..., bool] = plan_alone
    revise: Callable[..., None] = revise_nothing
    has_width: bool = False  # `revise` fills widths,
    has_variance: bool = False  # and those of the variance
    certifies: bool = False  # `plan` fills the gap,
    deviates: bool = False  # and widths, by which an episode takes its least certain action once


class GameLearner:
    """What an optimistic explorer has seen and plans; `rlentropy.exploration.episodes` drives it.

    Args:
        reward: of the plan, (H or 1, S, A or 1); where `forecasts`, its shape alone matters.
        rules: how it plans, and what it derives from counts.
        forecasts: the reward is the surprise of a forecaster, log 1 / (n + n_0) and an offset.
        temperature: of the plan; 0 is greedy.
        growth: of expectations from stage to stage.
        bonus_scale, delta: factor and failure probability of the bonus.
        prior: n_0 > 0 of the forecaster.
        stage_dependent: one kernel a stage is estimated instead of one for all.
        optimistic: an unvisited pair leads to the best state, not to a uniformly drawn one.
        tolerance: stop when the plan certifies a gap this small; 0: never.
        mixture_size: policies kept of those played.
        model: transitions known from before, which then stay as they are.
    """

    plays_plan: ClassVar[bool] = False  # the output is the latest plan, not what was played

    def __init__(
        self,
        setting: Setting,
        rng: np.random.Generator,
        *,
        reward: Array,
        rules: Rules,
        forecasts: bool = False,
        temperature: float = 0.0,
        growth: float = 1.0,
        bonus_scale: float = 1.0,
        delta: float = 0.1,
        prior: float = 1.0,
        stage_dependent: bool = False,
        optimistic: bool = False,
        tolerance: float = 0.0,
        mixture_size: int = 0,
        model: EmpiricalModel | None = None,
    ) -> None:
        check_learner(prior, mixture_size, tolerance)
        H, S, A = setting.horizon, setting.num_states, setting.num_actions
        self.setting = setting
        self.policy_rng, self.mixture_rng = rng.spawn(2)
        self.episodes, self.stopped = 0, False
        self.model = model or EmpiricalModel(S, A, stages=H if stage_dependent else 1)
        self.rules = rules
        R = self.model.counts.N.size
        self.task = Task(
            reward=np.array(reward, np.float64),
            reward_scale=np.ones(H),
            offset=np.zeros(H),
            width=np.zeros(R if rules.has_width else 0),
            width_scale=np.zeros(H),
            variance_width=np.zeros(R if rules.has_variance else 0),
            cap=np.full(H, np.inf),
            temperature=float(temperature),
            growth=float(growth),
            optimistic=optimistic,
        )
        self.memory = Memory(
            visits=np.zeros((H, S, A), np.int64),
            model=self.model.counts,
            forecast=np.zeros(self.task.reward.shape if forecasts else (0, 0, 0)),
            prior=float(prior),
            bonus_scale=float(bonus_scale),
            pairs=S * A * H / float(delta),
            frozen=model is not None,
        )
        self.guarantee = Guarantee(
            visits=self.visits,
            width=np.zeros((H, S, A) if rules.deviates else (0, 0, 0)),
            gap=np.full(S, np.inf),
            scale=float(bonus_scale),
            tolerance=float(tolerance),
        )
        self.V, self.Q = np.zeros((H + 1, S)), np.zeros((H, S, A))
        self.states, self.actions = np.empty(H + 1, np.int64), np.empty(H, np.int64)
        self.p = np.empty((S, A))
        self.deviation = -1
        # Σ_t d^{π_t} under the true model: for evaluation only, nothing here learns from it.
        mixes = not self.plays_plan and setting.mdp is not None
        self.D = np.zeros((H, S, A) if mixes else (0, 0, 0))
        self.reservoir = np.zeros((mixture_size, H, S, A), np.float32)
        self.refresh()

    # ------------------------------------------------------------ what an algorithm says

    def schedule(self, episodes: Count) -> Schedule:
        """Offsets, scales of widths and caps (n, H) after so many episodes each, (n,)."""
        n, H = episodes.size, self.setting.horizon
        return Schedule(np.zeros((n, H)), np.zeros((n, H)), np.full((n, H), np.inf))

    # ------------------------------------------------------------ playing

    @property
    def visits(self) -> Count:
        return self.memory.visits

    @property
    def mixture(self) -> NDArray[np.float32]:
        """A uniform sample of the policies played, (K, H, S, A)."""
        return self.reservoir[: self.episodes]

    def refresh(self) -> None:
        """Derive rewards and widths from the counts, and take up the model's present arrays."""
        self.memory = self.memory._replace(model=self.model.counts)
        if (forecast := self.memory.forecast).size:
            sizes, place = np.unique(forecast + self.memory.prior, return_inverse=True)
            self.task.reward[...] = -logarithms(sizes)[place].reshape(forecast.shape)
        if self.rules.revise is not revise_nothing:
            refreshing(self.rules.revise)(self.memory, self.task)

    def fill(self, V: Array, Q: Array) -> bool:
        """Fill V (H + 1, S) and Q (H, S, A) with the plan for the next episode.

        Returns whether the plan is certified to be as good as was wanted.
        """
        now = self.schedule(np.array([self.episodes]))
        self.task.offset[:] = now.offset[0]
        self.task.width_scale[:], self.task.cap[:] = now.width_scale[0], now.cap[0]
        rows, plan = self.model.rows, self.rules.plan
        if plan is plan_alone:
            backward(rows, self.task, V, Q)
            return False
        return bool(plan(rows, self.task, self.guarantee, V, Q))

    def begin_episode(self) -> bool:
        """Plan; False when the plan is certified and nothing more needs to be played."""
        self._reserve(1)
        self.stopped, setting = self.fill(self.V, self.Q), self.setting
        if self.stopped:
            return False
        if self.D.size or len(self.reservoir):
            called_from_python(book)(
                setting.truth, setting.mu, self.Q, self.task.temperature, self.D, self.reservoir,
                self.episodes, self.mixture_rng,
            )  # fmt: skip
        if self.rules.deviates:
            self.deviation = int(self.policy_rng.random() * setting.horizon)
        return True

    def act(self, h: int, s: int) -> int:
        if h == self.deviation:
            return int(self.guarantee.width[h, s].argmax())
        # Few arguments, no generator: handing many to compiled code takes 0.1 ms, and a
        # generator 20 µs.
        decide_at(self.Q[h], s, self.task.temperature, self.p)
        sure = int(self.p[s].argmax())
        if self.p[s, sure] == 1.0:
            return sure
        return int(called_from_python(pick_action)(self.p, s, self.policy_rng.random()))

    def end_episode(self, states: Count, actions: Count, terminated_at: int) -> None:
        learn = called_from_python(learning(self.rules.revise))
        learn(self.memory, self.task, states, actions, terminated_at)
        self.episodes += 1

    def play(self, episodes: int, env_rng: np.random.Generator) -> int:
        """Play episodes in the compiled simulator; returns the environment steps taken."""
        total, s = 0, self.setting
        play = playing(self.rules.plan, self.rules.revise)
        while episodes > 0 and not self.stopped:
            n = min(BLOCK, episodes)
            self._reserve(n)
            schedule = self.schedule(self.episodes + np.arange(n))
            played, steps = play(
                self.memory, self.task, self.guarantee, schedule, self.episodes, self.V, self.Q,
                s.world, s.truth, s.mu, self.D, self.reservoir, self.states, self.actions, self.p,
                env_rng, self.policy_rng, self.mixture_rng,
            )  # fmt: skip
            self.episodes += played
            self.stopped = played < n
            episodes -= n
            total += steps
        return total

    def _reserve(self, episodes: int) -> None:
        if self.memory.frozen:
            return
        endings = self.setting.num_actions * self.model.stages  # counted when an episode terminates
        self.model.reserve(episodes * (self.setting.horizon + endings))
        self.memory = self.memory._replace(model=self.model.counts)

    # ------------------------------------------------------------ what comes out

    def policy(self) -> Array:
        """The latest plan; or the Markov projection of what was played, by the visits counted."""
        return self.plan() if self.plays_plan else markov_policy(self.visits)

    def plan(self) -> Array:
        """The policy that would be played next, (H, S, A)."""
        V, Q, pi = np.zeros_like(self.V), np.empty_like(self.Q), np.empty_like(self.Q)
        self.fill(V, Q)
        decisions(Q, self.task.temperature, pi)
        return pi

    last_iterate = plan

    def mixture_occupancy(self) -> Array | None:
        """Average of the played occupancies under the true model, where that is known."""
        return self.D / self.episodes if self.D.size and self.episodes else None

    @property
    def heuristic(self) -> bool:
        """Whether the certified gap holds only by experience: its widths are scaled down."""
        return self.memory.bonus_scale < 1.0

    def certified_gap(self) -> float | None:
        """What the bonus guarantees of the latest plan, in nats, where it guarantees something.

        With random starts it is the average over those seen, itself an estimate.
        """
        if not self.rules.certifies or not self.episodes:
            return None
        self.plan()
        return self._mean_gap()

    # ------------------------------------------------------------ going on after a kill

    def _mean_gap(self) -> float:
        return float(called_from_python(mean_gap)(self.visits, self.guarantee.gap))

    def state_dict(self) -> State:
        state: State = {"visits": self.visits, "D": self.D, "stopped": self.stopped}
        state |= {"mixture": self.mixture, "episodes": self.episodes}
        state |= {"model": self.model.state_dict()}
        return state | {"policy_rng": self.policy_rng, "mixture_rng": self.mixture_rng}

    def load_state_dict(self, state: State) -> None:
        self.episodes, self.stopped = state["episodes"], state["stopped"]
        self.model.load_state_dict(state["model"])
        self.visits[...], self.D[...] = state["visits"], state["D"]
        self.reservoir[: len(state["mixture"])] = state["mixture"]
        if (forecast := self.memory.forecast).size:
            axes = tuple(k for k in (0, 2) if forecast.shape[k] < self.visits.shape[k])
            forecast[...] = self.visits.sum(axes, keepdims=True)
        self.refresh()
        self.policy_rng, self.mixture_rng = deepcopy((state["policy_rng"], state["mixture_rng"]))


def check_learner(prior: float, mixture_size: int, tolerance: float) -> None:
    in_range("prior", prior, "(0, inf)")
    whole("mixture_size", mixture_size, 0)
    in_range("tolerance", tolerance, "[0, inf]")


def logarithms(x: Array) -> Array:
    """log x with the bits that compiled code gives: numpy's differ in the last one."""
    return np.array([math.log(value) for value in x.tolist()])
