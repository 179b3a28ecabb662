"""A tabular policy as a campaign aligns it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from rlentropy.preferences.acquisition import best_pairs
from rlentropy.preferences.evaluation import win_rate
from rlentropy.preferences.prompt_entropy import prompt_entropies
from rlentropy.preferences.segments import Pairs
from rlentropy.preferences.table_rewards import SeenTransitions, TableFeatures, luck
from rlentropy.preferences.tables import TablePolicy, TabularTask, softmax
from rlentropy.preferences.training import Training, fit
from rlentropy.types import Array, Count, Mask, State

Generator = np.random.Generator

EVALUATED = 1024  # segments of a win rate, of standard error 0.016 at most
EVALUATION_SEED = 0  # the same starts and noise each time, and for every run


class TableSubject:
    """See `rlentropy.preferences.campaign.Subject`.

    Args:
        temperature: of the actions in candidates; 1 plays the policy itself.
        completions: segments a prompt, of which the pair with the largest margin is kept; 2: all.
        offline: candidates come from the reference that the policy began as.
        entropy: how starts are scored, of `prompt_entropy.ESTIMATES`.
        num_states: of the environment, whose model may have one more; default: the model's.
    """

    def __init__(
        self,
        task: TabularTask,
        policy: TablePolicy,
        features: TableFeatures,
        training: Training,
        *,
        temperature: float = 1.0,
        completions: int = 2,
        offline: bool = False,
        entropy: str = "exact",
        num_states: int | None = None,
    ) -> None:
        self.task, self.policy, self.psi, self.training = task, policy, features, training
        self.temperature, self.completions, self.offline = temperature, completions, offline
        self.groups: Mapping[str, slice] = features.groups
        self.original = policy.reference.copy()  # scores compare with it, whatever is trained on
        self.seen = SeenTransitions(*policy.pi.shape)
        self.sizes: list[int] = []  # labels of each round
        mean = float(task.optimum.V[0][task.starts].mean())
        self.bounds = task.score(self.original, self.original)[0], mean
        self.num_states, self.entropy = num_states, entropy

    def prompts(self, n: int, rng: Generator) -> Count:
        return self.task.prompts(n, rng)

    def prompt_scores(self, prompts: Count, rng: Generator) -> Array:
        """Entropy of what the one who plays does from each start (preferences §2.1-2.3)."""
        pi = self.original if self.offline else self.policy.pi
        return prompt_entropies(self.entropy, self.task, pi, prompts, rng)

    @property
    def playing(self) -> Array:
        """The policy that candidates come from, (S, A)."""
        pi = self.original if self.offline else self.policy.pi
        if self.temperature == 1.0:
            return pi
        logits = np.log(np.maximum(pi, 1e-300))
        with np.errstate(over="ignore"):  # at temperatures near 0 the likeliest is all there is
            return softmax((logits - logits.max(1, keepdims=True)) / self.temperature)

    def roll_out(self, prompts: Count, rng: Generator) -> Pairs:
        n, k = len(prompts), self.completions
        segments = self.task.roll_out(self.playing, np.tile(prompts, k), rng)
        if k == 2:
            return Pairs(segments.take(slice(0, n)), segments.take(slice(n, None)))
        pairs = best_pairs(self.policy.log_ratios(segments).reshape(k, n).T)
        a, b = (segments.take(pairs[:, side] * n + np.arange(n)) for side in (0, 1))
        return Pairs(a, b)

    def margins(self, pairs: Pairs) -> Array:
        a, b = self.policy.log_ratios(pairs.a), self.policy.log_ratios(pairs.b)
        return self.training.beta * (a - b)

    def duplicates(self, pairs: Pairs) -> Mask:
        """Pairs whose segments take and enter the same as often: nothing can be learnt of them."""
        a, b = (self.psi.keys(segments) for segments in (pairs.a, pairs.b))
        return np.asarray((a == b).all(1))

    def features(self, pairs: Pairs) -> Array:
        return self.psi.of(pairs)

    def gaps(self, pairs: Pairs) -> tuple[Array, Array] | None:
        """The belief of a campaign stands in: there is no ensemble."""
        return None

    def observe(self, pairs: Pairs) -> None:
        for segments in (pairs.a, pairs.b):
            self.seen.add(segments)

    @property
    def saw_chance(self) -> bool:
        return self.seen.stochastic

    def values(self, pairs: Pairs, x: Array, w: Array) -> Array:
        """Gaps without their luck under J rewards w, (J, N)."""
        P, (r, entered) = self.seen.kernel(), self.psi.rewards(w)
        lucks = [
            luck(segments, self.policy.pi, P, self.seen.ended, r, entered)
            for segments in (pairs.a, pairs.b)
        ]
        return np.asarray(w @ x.T - (lucks[0] - lucks[1]))

    def learn(self, pairs: Pairs, y: Array, newest: int, rng: Generator) -> dict[str, float]:
        self.sizes.append(newest)
        return fit(self.policy, pairs, y, np.array(self.sizes), self.training, rng)

    def score(self) -> dict[str, float]:
        J, kl = self.task.score(self.policy.pi, self.original)
        low, high = self.bounds
        normalised = (J - low) / (high - low) if high > low else float("nan")
        return {"return": J, "kl": kl, "normalised_return": normalised}

    def digest(self) -> str:
        return hashlib.sha256(self.playing.tobytes()).hexdigest()[:16]

    @property
    def luck_is_judged(self) -> bool:
        """Whether returns depend on more than actions."""
        return bool((np.diff(self.task.mdp.P.indptr) > 1).any())

    def judged_by(self, spec: object) -> Any:
        """What a teacher judges by, V* and Q* of the true model."""
        cut = getattr(spec, "judged", "") == "bootstrapped-return"
        return self.task.beyond if cut else self.task.optimum

    def held_out(self, n: int, rng: Generator) -> Pairs:
        """Pairs of the reference, which nothing is learnt from."""
        starts = np.tile(self.task.prompts(n, rng), 2)
        segments = self.task.roll_out(self.original, starts, rng)
        return Pairs(segments.take(slice(0, n)), segments.take(slice(n, None)))

    def figures(self) -> dict[str, float]:
        rng = np.random.default_rng(EVALUATION_SEED)
        rate = win_rate(self.task, self.policy.pi, self.original, EVALUATED, rng)
        return self.score() | {"win_rate": rate}

    def final(self, config: object) -> dict[str, float]:
        return {"optimal_return": self.bounds[1]}

    def saved(self) -> dict[str, Any]:
        """The policy over the environment's own states."""
        n = self.task.mdp.num_states if self.num_states is None else self.num_states
        return {"policy": {"pi": self.policy.pi[:n], "reference": self.original[:n]}}

    def state_dict(self) -> State:
        return {
            "policy": self.policy.state_dict(),
            "seen": self.seen.state_dict(),
            "sizes": list(self.sizes),
        }

    def load_state_dict(self, state: State) -> None:
        self.policy.load_state_dict(state["policy"])
        self.seen.load_state_dict(state["seen"])
        self.sizes = list(state["sizes"])
