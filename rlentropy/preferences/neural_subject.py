"""A policy network as a campaign aligns it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from rlentropy.intervals import mean_ci95
from rlentropy.neural.rollouts import SIDE_BY_SIDE, Evaluator
from rlentropy.neural.spaces import NeuralPolicy
from rlentropy.preferences.acquisition import best_pairs
from rlentropy.preferences.neural import SegmentPolicy
from rlentropy.preferences.neural_features import RandomFeatures
from rlentropy.preferences.neural_rollouts import SharedStarts
from rlentropy.preferences.path_entropy import (
    by_prompt,
    conditional_scores,
    per_step,
    plain_scores,
)
from rlentropy.preferences.segments import Pairs, Segments, joined
from rlentropy.preferences.training import Training, fit
from rlentropy.types import Array, Count, Mask, State

Generator = np.random.Generator

ESTIMATES = ("rao-blackwell", "monte-carlo", "per-step")
SAMPLES = 8  # rollouts behind the entropy of a start
PROBES = 4  # starts by which dynamics are seen to be deterministic
RIDGE = 1e-3  # of regressions, against mean squares of 1


class NeuralSubject:
    """See `rlentropy.preferences.campaign.Subject`.

    Args:
        length: T, steps of a segment.
        completions: segments a start; of more than 2 the pair of largest margin is kept.
        entropy: how starts are scored, of ESTIMATES.
        final_episodes: whole episodes at the end of a run.
        evaluations: starts that each score is a mean over; the same ones every time.
        seed: of the evaluations.
    """

    def __init__(
        self,
        policy: SegmentPolicy,
        starts: SharedStarts,
        features: RandomFeatures,
        training: Training,
        length: int,
        *,
        temperature: float = 1.0,
        completions: int = 2,
        offline: bool = False,
        entropy: str = "rao-blackwell",
        evaluations: int = 64,
        final_episodes: int = 100,
        seed: int = 0,
    ) -> None:
        self.policy, self.starts, self.psi, self.training = policy, starts, features, training
        D = features.size
        self.groups: Mapping[str, slice] = {
            **dict.fromkeys(("features", "entered"), slice(0, D)),
            "reference": slice(D, D + 1),
        }
        self.length, self.temperature, self.offline = length, temperature, offline
        self.completions, self.entropy = completions, entropy
        self.original = policy.acting()  # scores compare with it, whatever is trained on
        self.original.layers = [(w.copy(), b.copy()) for w, b in self.original.layers]
        self._frozen = SegmentPolicy(self.original, 1.0, with_reference=False)
        self.sizes: list[int] = []  # labels of each round
        self.evaluations, self.final_episodes, self.seed = evaluations, final_episodes, seed
        spec = starts.envs[0].spec
        self.horizon = spec.max_episode_steps if spec is not None else None
        probes = starts.draw(PROBES, np.random.default_rng([seed, 1]))
        pairs = starts.pairs(self.original, probes, length, np.random.default_rng(seed), 0.0)
        self.deterministic = bool(pairs.identical.all())  # the same actions led to the same states
        self.reference_segments = self._evaluation_segments()

    def acting(self) -> NeuralPolicy:
        """The policy as it is now."""
        return self.policy.acting()

    @property
    def scored(self) -> SegmentPolicy:
        """The same, to read log-probabilities from."""
        return self.policy

    def prompts(self, n: int, rng: Generator) -> Count:
        return self.starts.draw(n, rng)

    def prompt_scores(self, prompts: Count, rng: Generator) -> Array:
        """Entropy of what the one who plays does from each start, estimated (preferences §2.2)."""
        scored = self._frozen if self.offline else self.scored
        many = np.repeat(prompts, SAMPLES)
        segments = self.starts.segments(scored.acting(), many, self.length, rng)
        steps, mask = scored.steps(segments), by_prompt(segments.mask, SAMPLES)
        if self.entropy == "monte-carlo":
            return plain_scores(by_prompt(steps.log_pi, SAMPLES), mask).mean
        found = conditional_scores(by_prompt(steps.entropy, SAMPLES), mask).mean
        lengths = by_prompt(segments.lengths, SAMPLES).mean(1)
        return per_step(found, lengths) if self.entropy == "per-step" else found

    def roll_out(self, prompts: Count, rng: Generator) -> Pairs:
        playing, n, k = self._playing(), len(prompts), self.completions
        if k == 2:
            return self.starts.pairs(playing, prompts, self.length, rng, self.temperature)
        many = np.repeat(prompts, k)
        segments = self.starts.segments(playing, many, self.length, rng, self.temperature)
        chosen = best_pairs(self.scored.log_ratios(segments).reshape(n, k))
        first = k * np.arange(n)
        return Pairs(segments.take(first + chosen[:, 0]), segments.take(first + chosen[:, 1]))

    def _playing(self) -> NeuralPolicy:
        return self.original if self.offline else self.acting()

    def margins(self, pairs: Pairs) -> Array:
        a, b = self.policy.log_ratios(pairs.a), self.policy.log_ratios(pairs.b)
        return self.training.beta * (a - b)

    def duplicates(self, pairs: Pairs) -> Mask:
        return pairs.identical

    def features(self, pairs: Pairs) -> Array:
        a, b = (
            np.column_stack([self.psi.sums(x), self._frozen.log_ratios(x)])  # Σ log π_ref
            for x in (pairs.a, pairs.b)
        )
        return np.asarray(a - b)

    def gaps(self, pairs: Pairs) -> tuple[Array, Array] | None:
        """The belief of a campaign stands in: there is no ensemble."""
        return None

    def observe(self, pairs: Pairs) -> None:
        """Nothing is kept: values are regressed on each pool anew."""

    @property
    def saw_chance(self) -> bool:
        return not self.deterministic

    def values(self, pairs: Pairs, x: Array, w: Array) -> Array:
        """Summed advantages under J rewards w, (J, N)."""
        both = joined([pairs.a, pairs.b])
        likely = self._frozen.steps(both).log_reference  # the last feature's reward, (2N, T)
        advantages = advantage_features(self.psi, both, likely)
        return np.asarray(w @ (advantages[: len(pairs)] - advantages[len(pairs) :]).T)

    def learn(self, pairs: Pairs, y: Array, newest: int, rng: Generator) -> dict[str, float]:
        self.sizes.append(newest)
        return fit(self.policy, pairs, y, np.array(self.sizes), self.training, rng)

    def _evaluation_segments(self) -> Segments:
        rng = np.random.default_rng([self.seed, 2])
        starts = self.starts.draw(self.evaluations, rng)
        return self.starts.segments(self.acting(), starts, self.length, rng)

    def score(self) -> dict[str, float]:
        """Return and divergence over the same starts and the same noise each time."""
        segments = self._evaluation_segments()
        gap = segments.returns - self.reference_segments.returns
        ratios = self.scored.steps(segments).log_pi - self._frozen.steps(segments).log_pi
        return {
            "return": float(segments.returns.mean()),
            "kl": float(ratios.sum(1).mean()),
            "win_rate": float((0.5 * (1.0 + np.sign(gap))).mean()),
            "length": float(segments.lengths.mean()),
        }

    def digest(self) -> str:
        state = hashlib.sha256()
        for weight, bias in self._playing().layers:
            state.update(weight.tobytes() + bias.tobytes())
        return state.hexdigest()[:16]

    @property
    def luck_is_judged(self) -> bool:
        """Whether returns depend on more than actions."""
        return not self.deterministic

    def judged_by(self, spec: object) -> None:
        """Nobody knows the model."""

    def held_out(self, n: int, rng: Generator) -> Pairs:
        """Pairs of the reference, which nothing is learnt from."""
        return self.starts.pairs(self.original, self.starts.draw(n, rng), self.length, rng)

    def figures(self) -> dict[str, float]:
        return self.score()

    def final(self, config: object) -> dict[str, Any]:
        """Whole episodes, of the policy and of its reference from the same seeds."""
        found: dict[str, Any] = {}
        for name, policy in (("", self.acting()), ("reference_", self.original)):
            evaluator = Evaluator(self.starts.envs[:SIDE_BY_SIDE], self.horizon, self.seed)
            returns = evaluator.returns(policy, self.final_episodes, 0)
            found[f"{name}episode_return"] = float(returns.mean())
            found[f"{name}episode_return_ci95"] = mean_ci95(returns)
        return found

    def saved(self) -> dict[str, Any]:
        return {"network": self.policy.saved_policy()}

    def state_dict(self) -> State:
        return {"policy": self.policy.state_dict(), "sizes": list(self.sizes)}

    def load_state_dict(self, state: State) -> None:
        self.policy.load_state_dict(state["policy"])
        self.sizes = list(state["sizes"])


def advantage_features(psi: RandomFeatures, segments: Segments, more: Array | None = None) -> Array:
    """Σ_t Q̂_t - V̂_t of each segment, (N, D), for the reward of each feature on its own (§4.5).

    Q̂ and V̂ are least squares of what followed in these segments, on features of (s, a) and of s,
    each beside itself times the share of the steps that is left. What dynamics did by chance
    averages out of both, so the sum has the advantages without the luck.

    Args:
        more: another reward of each step, (N, T), whose advantages come last: (N, D + 1).
    """
    mask, T = segments.mask, segments.rewards.shape[1]
    owner, t = np.nonzero(mask)
    seen, acted = segments.states[:, :-1][mask], segments.actions[mask]
    steps = np.zeros((*mask.shape, psi.size))
    steps[mask] = psi.of(seen, acted)
    rewards = steps if more is None else np.concatenate([steps, more[:, :, None]], axis=2)
    ahead = np.cumsum(rewards[:, ::-1], axis=1)[:, ::-1][mask]  # Σ from here on, (B, D)
    left = (1.0 - t / T)[:, None]
    values = []
    for features in (steps[mask], psi.of(seen, None).astype(np.float64)):
        inputs = np.concatenate([features, features * left], axis=1)
        gram = inputs.T @ inputs
        gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
        values.append(inputs @ np.linalg.solve(gram, inputs.T @ ahead))
    total = np.zeros((len(segments), ahead.shape[1]))
    np.add.at(total, owner, values[0] - values[1])
    return total
