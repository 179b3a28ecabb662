"""EntGame: maximum visitation entropy as a game of a forecaster and a sampler.

Tiapkin et al., "Fast Rates for Maximum Entropy Exploration", ICML 2023. Before each episode the
forecaster predicts the next state-action pair by the frequencies so far,

    d̄_h(s, a) = (n_h(s, a) + n_0) / (t - 1 + n_0 S A),

and the sampler plans optimistically on reward log 1/d̄ with the transitions seen so far (spec §2).
The uniform mixture of the played policies has nearly maximal entropy; its last one does not.

Differences from the paper: the bonus defaults to none, since the theoretical ones fail at practical
budgets (spec §6.4); besides VE it plays VE_S (forecaster of states), and AVE and AVE_S with a
forecaster that pools the stages, as the authors' code does for AVE; an episode that terminates
rests in its last state, which counts as absorbing, for the rest of the horizon.
"""

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np

from rlentropy import kernels
from rlentropy.entropy import markov_policy
from rlentropy.errors import InputError
from rlentropy.exploration.episodes import Explored, Setting, Simulator, explore
from rlentropy.kernels import Array, Count, Game, Task
from rlentropy.log import Log, State
from rlentropy.mdp import EmpiricalModel
from rlentropy.objectives import VisitationObjective

Bonus = Literal["none", "inverse-n", "code", "hoeffding-kl", "bernstein-kl"]


@dataclass(frozen=True)
class Config:
    """EntGame (spec §2). The defaults are those of spec §11 and, for prior and delta, of §6.2."""

    horizon: int | None = None  # steps an episode; default: the environment's time limit
    episodes: int = 5000  # budget, in episodes; the paper's DoubleChain runs have 5000
    objective: VisitationObjective = "VE"  # VE, VE_S: stage-wise; AVE, AVE_S: time-averaged
    prior: float = 1.0  # n_0 > 0, visits that the forecaster adds to every cell
    bonus: Bonus = "none"  # optimism of the sampler; "code" is the authors'
    bonus_scale: float = 1.0  # factor of the bonus, >= 0
    clip: bool = False  # cap optimistic values at what is possible, (H - h) log(t / n_0 + S A)
    delta: float = 0.1  # failure probability inside the bonus, in (0, 1)
    stage_dependent: bool = False  # estimate one kernel a stage instead of one for all
    mixture_size: int = 32  # policies kept, a uniform sample of those played; 0 keeps none
    simulator: Simulator = "auto"  # compiled: draw from the declared model; gymnasium: call step

    def __post_init__(self) -> None:
        if not self.prior > 0.0:
            raise InputError(f"prior must be > 0, got {self.prior}")
        if not self.bonus_scale >= 0.0:
            raise InputError(f"bonus_scale must be >= 0, got {self.bonus_scale}")
        if not 0.0 < self.delta < 1.0:
            raise InputError(f"delta must be in (0, 1), got {self.delta}")
        if self.mixture_size < 0:
            raise InputError(f"mixture_size must be >= 0, got {self.mixture_size}")
        if self.bonus not in kernels.BONUSES:
            choices = ", ".join(kernels.BONUSES)
            raise InputError(f"bonus must be one of {choices}, got {self.bonus!r}")


class EntGame:
    """Forecaster, sampler and what they have seen; `rlentropy.exploration.episodes` drives it."""

    def __init__(self, setting: Setting, config: Config, rng: np.random.Generator) -> None:
        H, S, A = setting.horizon, setting.num_states, setting.num_actions
        self.setting, self.config = setting, config
        self.policy_rng, self.mixture_rng = rng.spawn(2)
        self.episodes = 0
        self.model = EmpiricalModel(S, A, stages=H if config.stage_dependent else 1)
        R = self.model.counts.N.size
        pooled = config.objective in ("AVE", "AVE_S")
        shape = (1 if pooled else H, S, A if config.objective in ("VE", "AVE") else 1)
        width = np.zeros(0 if config.bonus == "none" else R)
        task = Task(
            reward=np.zeros(shape),
            offset=np.zeros(H),
            width=width,
            width_scale=np.zeros(H),
            variance_width=np.zeros(R if config.bonus == "bernstein-kl" else 0),
            cap=np.full(H, np.inf),
            temperature=0.0,
        )
        self.game = Game(
            visits=np.zeros((H, S, A), np.int64),
            forecast=np.zeros(shape),
            task=task,
            model=self.model.counts,
            prior=config.prior,
            bonus=kernels.BONUSES.index(config.bonus),
            bonus_scale=config.bonus_scale,
            delta=config.delta,
            clip=config.clip,
        )
        kernels.refresh(self.game)
        self.V = np.zeros((H + 1, S))
        self.Q = np.empty((H, S, A))
        self.p = np.empty(A)
        # Σ_t d^{π_t} under the true model: for evaluation only, nothing here learns from it.
        self.D = np.zeros((H, S, A) if setting.mdp else (0, 0, 0))
        self.mixture = np.zeros((config.mixture_size, H, S, A), np.float32)

    @property
    def visits(self) -> Count:
        return self.game.visits

    def _reserve(self, episodes: int) -> None:
        setting = self.setting
        endings = setting.num_actions * self.model.stages  # counted when an episode terminates
        self.model.reserve(episodes * (setting.horizon + endings))
        self.game = self.game._replace(model=self.model.counts)

    def begin_episode(self) -> None:
        self._reserve(1)
        s = self.setting
        kernels.before_episode(
            self.game, self.episodes, self.V, self.Q, s.truth, s.mu, self.D,
            self.mixture, self.mixture_rng,
        )  # fmt: skip

    def act(self, h: int, s: int) -> int:
        kernels.decide(self.Q[h, s], self.game.task.temperature, self.p)
        return kernels.draw_action(self.p, self.policy_rng)

    def end_episode(
        self, states: kernels.Count, actions: kernels.Count, terminated_at: int
    ) -> None:
        kernels.learn(self.game, states, actions, terminated_at)
        self.episodes += 1

    def play(self, episodes: int, env_rng: np.random.Generator) -> int:
        """Play episodes in the compiled simulator; returns the environment steps taken."""
        steps, s = 0, self.setting
        for begin in range(0, episodes, 256):
            n = min(256, episodes - begin)
            self._reserve(n)
            steps += kernels.play(
                self.game, self.episodes, n, self.V, self.Q, s.world, s.truth, s.mu, self.D,
                self.mixture, env_rng, self.policy_rng, self.mixture_rng,
            )  # fmt: skip
            self.episodes += n
        return steps

    def policy(self) -> Array:
        """The Markov projection of the mixture by the agent's own counts, (H, S, A)."""
        return markov_policy(self.game.visits)

    def mixture_occupancy(self) -> Array | None:
        """Average of the played occupancies under the true model, where that is known."""
        return self.D / self.episodes if self.D.size and self.episodes else None

    def last_iterate(self) -> Array:
        """The policy that would be played next, (H, S, A)."""
        V, Q, pi = np.zeros_like(self.V), np.empty_like(self.Q), np.empty_like(self.Q)
        kernels.plan_episode(self.game, self.episodes, V, Q)
        kernels.decisions(Q, self.game.task.temperature, pi)
        return pi

    def state_dict(self) -> State:
        state: State = {"visits": self.game.visits, "D": self.D}
        state |= {"mixture": self.mixture[: self.episodes], "episodes": self.episodes}
        state |= {f"model_{k}": v for k, v in self.model.state_dict().items()}
        rngs = [rng.bit_generator.state for rng in (self.policy_rng, self.mixture_rng)]
        return state | {"rngs": rngs}

    def load_state_dict(self, state: State) -> None:
        self.episodes = state["episodes"]
        self.model.load_state_dict(
            {k.removeprefix("model_"): v for k, v in state.items() if k.startswith("model_")}
        )
        self.game = self.game._replace(model=self.model.counts)
        for mine, saved in (
            (self.game.visits, state["visits"]),
            (self.D, state["D"]),
            (self.mixture[: len(state["mixture"])], state["mixture"]),
        ):
            mine[...] = saved
        kernels.refresh(self.game)
        for generator, saved in zip(
            (self.policy_rng, self.mixture_rng), state["rngs"], strict=True
        ):
            generator.bit_generator.state = saved


def run(
    env: gymnasium.Env[Any, Any], config: Config, rng: np.random.Generator, log: Log
) -> Explored:
    """Explore a tabular environment; learns from `reset` and `step` alone."""
    return explore(env, config, EntGame, rng, log)
