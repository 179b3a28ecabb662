"""The learner behind EntGame, regularised EntGame, RF-UCRL, RF-Express and UCBVI-Ent.

They are one loop: plan optimistically on the transitions counted so far, play the plan, count.
They differ in what is rewarded (surprising a forecaster, nothing, the entropy of the next
transition), in the bonus, and in the temperature of the plan.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlentropy.entropy import markov_policy
from rlentropy.errors import InputError
from rlentropy.exploration.setting import Setting
from rlentropy.kernels.game import (
    BONUSES,
    REWARDS,
    Game,
    before_episode,
    deviation_stage,
    learn,
    mean_gap,
    plan_episode,
    play,
    refresh,
)
from rlentropy.kernels.rows import Task, decide_at, decisions
from rlentropy.kernels.sampling import pick_action
from rlentropy.mdp.empirical import EmpiricalModel
from rlentropy.types import Array, Count, Objective, State


def check_bonus(bonus: str, choices: tuple[str, ...], bonus_scale: float, delta: float) -> None:
    """Refuse settings of the optimism that are out of range."""
    if bonus not in choices:
        raise InputError(f"bonus must be one of {', '.join(choices)}, got {bonus!r}")
    if not (bonus_scale >= 0.0 and np.isfinite(bonus_scale)):
        raise InputError(f"bonus_scale must be >= 0 and finite, got {bonus_scale}")
    if not 0.0 < delta < 1.0:
        raise InputError(f"delta must be in (0, 1), got {delta}")


class GameLearner:
    """What an optimistic explorer has seen and plans; `rlentropy.exploration.episodes` drives it.

    Args:
        reward: one of `REWARDS`.
        objective: shapes the forecaster, and tells TE+ from TE.
        forecasts_actions: whether the forecaster predicts state-action pairs, or states alone.
        temperature: of the plan; 0 is greedy.
        bonus: one of `BONUSES`.
        optimistic: an unvisited pair leads to the best state, not to a uniformly drawn one.
        output: "projection": the policy is the Markov projection of what was played, by the
            learner's own counts; "plan": it is the latest plan.
        tolerance: stop when the bonus certifies a gap this small, in nats; 0: never.
        model: transitions known from before, which then stay as they are.
    """

    def __init__(
        self,
        setting: Setting,
        rng: np.random.Generator,
        *,
        reward: str,
        objective: Objective,
        forecasts_actions: bool = True,
        temperature: float = 0.0,
        bonus: str = "none",
        bonus_scale: float = 1.0,
        clip: bool = False,
        delta: float = 0.1,
        prior: float = 1.0,
        stage_dependent: bool = False,
        optimistic: bool = False,
        output: str = "projection",
        tolerance: float = 0.0,
        mixture_size: int = 0,
        model: EmpiricalModel | None = None,
    ) -> None:
        if not (prior > 0.0 and np.isfinite(prior)):
            raise InputError(f"prior must be > 0 and finite, got {prior}")
        if mixture_size < 0:
            raise InputError(f"mixture_size must be >= 0, got {mixture_size}")
        if not tolerance >= 0.0:
            raise InputError(f"tolerance must be >= 0, got {tolerance}")
        H, S, A = setting.horizon, setting.num_states, setting.num_actions
        self.setting, self.output = setting, output
        self.policy_rng, self.mixture_rng = rng.spawn(2)
        self.episodes, self.stopped = 0, False
        self.model = model or EmpiricalModel(S, A, stages=H if stage_dependent else 1)
        R = self.model.counts.N.size
        if reward == "forecaster":
            pooled = objective in ("AVE", "AVE_S")
            shape = (1 if pooled else H, S, A if forecasts_actions else 1)
        elif reward == "nothing":
            shape = (1, S, 1)
        elif reward == "given":
            shape = (H, S, 1)
        else:
            shape = (R // (S * A), S, A)
        task = Task(
            reward=np.zeros(shape),
            reward_scale=np.ones(H),
            offset=np.zeros(H),
            width=np.zeros(0 if bonus == "none" else R),
            width_scale=np.zeros(H),
            variance_width=np.zeros(R if bonus == "bernstein-kl" else 0),
            cap=np.full(H, np.inf),
            temperature=temperature,
            growth=1.0 + 1.0 / H if bonus == "rf-express" else 1.0,
            optimistic=optimistic,
        )
        self.game = Game(
            visits=np.zeros((H, S, A), np.int64),
            forecast=np.zeros(shape if reward == "forecaster" else (0, 0, 0)),
            task=task,
            model=self.model.counts,
            width=np.zeros((H, S, A) if bonus == "quadratic-gap" else (0, 0, 0)),
            gap=np.full(S, np.inf),
            reward=REWARDS.index(reward),
            bonus=BONUSES.index(bonus),
            prior=float(prior),
            bonus_scale=float(bonus_scale),
            delta=float(delta),
            clip=clip,
            final_transition=objective == "TE+",
            frozen=model is not None,
            tolerance=float(tolerance),
        )
        refresh(self.game)
        self.V = np.zeros((H + 1, S))
        self.Q = np.zeros((H, S, A))
        self.p = np.empty((S, A))
        self.deviation = -1
        # Σ_t d^{π_t} under the true model: for evaluation only, nothing here learns from it.
        mixes = output == "projection" and setting.mdp is not None
        self.D = np.zeros((H, S, A) if mixes else (0, 0, 0))
        self.reservoir = np.zeros((mixture_size, H, S, A), np.float32)

    @property
    def visits(self) -> Count:
        return self.game.visits

    @property
    def mixture(self) -> NDArray[np.float32]:
        """A uniform sample of the policies played, (K, H, S, A)."""
        return self.reservoir[: self.episodes]

    def _reserve(self, episodes: int) -> None:
        if self.game.frozen:
            return
        endings = self.setting.num_actions * self.model.stages  # counted when an episode terminates
        self.model.reserve(episodes * (self.setting.horizon + endings))
        self.game = self.game._replace(model=self.model.counts)

    def begin_episode(self) -> bool:
        """Plan; False when the plan is certified and nothing more needs to be played."""
        self._reserve(1)
        s = self.setting
        goes_on = before_episode(
            self.game, self.episodes, self.V, self.Q, s.truth, s.mu, self.D,
            self.reservoir, self.mixture_rng,
        )  # fmt: skip
        self.stopped = not goes_on
        if goes_on:
            self.deviation = deviation_stage(self.game, self.policy_rng)
        return goes_on

    def act(self, h: int, s: int) -> int:
        if h == self.deviation:
            return int(self.game.width[h, s].argmax())
        # Few arguments, no generator: handing the game to compiled code takes 0.1 ms, and a
        # generator 20 µs.
        decide_at(self.Q[h], s, self.game.task.temperature, self.p)
        sure = int(self.p[s].argmax())
        if self.p[s, sure] == 1.0:
            return sure
        return pick_action(self.p, s, self.policy_rng.random())

    def end_episode(self, states: Count, actions: Count, terminated_at: int) -> None:
        learn(self.game, states, actions, terminated_at)
        self.episodes += 1

    def play(self, episodes: int, env_rng: np.random.Generator) -> int:
        """Play episodes in the compiled simulator; returns the environment steps taken."""
        total, s = 0, self.setting
        while episodes > 0 and not self.stopped:
            n = min(256, episodes)
            self._reserve(n)
            played, steps = play(
                self.game, self.episodes, n, self.V, self.Q, s.world, s.truth, s.mu, self.D,
                self.reservoir, env_rng, self.policy_rng, self.mixture_rng,
            )  # fmt: skip
            self.episodes += played
            self.stopped = played < n
            episodes -= n
            total += steps
        return total

    def policy(self) -> Array:
        return markov_policy(self.game.visits) if self.output == "projection" else self.plan()

    def plan(self) -> Array:
        """The policy that would be played next, (H, S, A)."""
        V, Q, pi = np.zeros_like(self.V), np.empty_like(self.Q), np.empty_like(self.Q)
        plan_episode(self.game, self.episodes, V, Q)
        decisions(Q, self.game.task.temperature, pi)
        return pi

    last_iterate = plan

    def mixture_occupancy(self) -> Array | None:
        """Average of the played occupancies under the true model, where that is known."""
        return self.D / self.episodes if self.D.size and self.episodes else None

    @property
    def heuristic(self) -> bool:
        """Whether the certified gap holds only by experience: its widths are scaled down."""
        return self.game.bonus_scale < 1.0

    def certified_gap(self) -> float | None:
        """What the bonus guarantees of the latest plan, in nats, where it guarantees something.

        With random starts it is the average over those seen, itself an estimate.
        """
        certifying = ("rf-ucrl", "rf-express", "linear-gap", "quadratic-gap")
        if BONUSES[self.game.bonus] not in certifying or not self.episodes:
            return None
        self.plan()
        return float(mean_gap(self.game))

    def state_dict(self) -> State:
        state: State = {"visits": self.game.visits, "D": self.D, "stopped": self.stopped}
        state |= {"mixture": self.mixture, "episodes": self.episodes}
        state |= {f"model_{k}": v for k, v in self.model.state_dict().items()}
        rngs = [rng.bit_generator.state for rng in (self.policy_rng, self.mixture_rng)]
        return state | {"rngs": rngs}

    def load_state_dict(self, state: State) -> None:
        self.episodes, self.stopped = state["episodes"], state["stopped"]
        self.model.load_state_dict(
            {k.removeprefix("model_"): v for k, v in state.items() if k.startswith("model_")}
        )
        self.game = self.game._replace(model=self.model.counts)
        for mine, saved in (
            (self.game.visits, state["visits"]),
            (self.D, state["D"]),
            (self.reservoir[: len(state["mixture"])], state["mixture"]),
        ):
            mine[...] = saved
        refresh(self.game)
        self.policy_rng.bit_generator.state, self.mixture_rng.bit_generator.state = state["rngs"]
