"""Entropy of what follows a state: exact on a known model, and estimated from sampled segments.

A path from s is s_0 = s, a_0, s_1, …, up to T actions or a terminal state, whichever comes first;
a prompt's score is how uncertain its path is (preferences §2). The recursions go backward over the
stored transitions of `FiniteMDP`, with m(s) = 0 at terminal states and 1 elsewhere:

    H_t = m (h_t + Σ_a π_t P H_{t+1}),   h_t(s) = -Σ_a π_t(a|s) log π_t(a|s)          (§2.1)
    W_t = m Σ_a π_t Σ_s' P [(c_t(s, a) + H_{t+1}(s') - H_t)² + W_{t+1}(s')]

With c = -log π, W is the variance of the Monte-Carlo score -Σ_t log π(a_t|s_t); with c = h of the
score Σ_t h(s_t) (§2.2). Policies are (S, A) or (T, S, A), results (S,), in nats.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from rlentropy.entropy.occupancies import staged_policy
from rlentropy.entropy.samples import shannon
from rlentropy.errors import InputError, whole
from rlentropy.mdp import FiniteMDP
from rlentropy.types import Array

# ---------------------------------------------------------------- exact


def path_entropy(mdp: FiniteMDP, pi: Any, T: int, transitions: bool = False) -> Array:
    """H(s) = E[Σ_t H(π_t(·|s_t))], the causal entropy of the actions that follow s, (S,).

    Args:
        transitions: add Σ_t H(P(·|s_t, a_t)): the joint entropy of actions and states.

    Raises:
        InputError: T is no whole number >= 1, or pi no policy.
    """
    stages = _stages(mdp, pi, T)
    gain = shannon(stages)
    if transitions:
        gain = gain + (stages * mdp.transition_entropy).sum(-1)
    return _expected_sum(mdp, stages, gain, T)


def path_divergence(mdp: FiniteMDP, pi: Any, ref: Any, T: int) -> Array:
    """E[Σ_t KL(π_t(·|s_t), ref_t(·|s_t))] under π from each state, (S,).

    Infinite from where π comes to an action that ref never takes.
    """
    p, q = np.broadcast_arrays(_stages(mdp, pi, T), _stages(mdp, ref, T))
    taken = p > 0.0
    with np.errstate(divide="ignore"):
        ratio = np.log(np.where(taken, p, 1.0)) - np.log(np.where(taken, q, 1.0))
    kl = (p * np.where(taken, ratio, 0.0)).sum(-1)
    beyond = np.isinf(kl)
    finite = _expected_sum(mdp, p, np.where(beyond, 0.0, kl), T)
    if not beyond.any():
        return finite
    return np.where(_expected_sum(mdp, p, beyond.astype(float), T) > 0.0, np.inf, finite)


def expected_steps(mdp: FiniteMDP, pi: Any, T: int) -> Array:
    """How many of T steps are taken from each state before the end, on average, (S,)."""
    stages = _stages(mdp, pi, T)
    return _expected_sum(mdp, stages, np.ones(stages.shape[:2]), T)


def path_varentropy(mdp: FiniteMDP, pi: Any, T: int) -> Array:
    """Variance of -Σ_t log π(a_t|s_t) over paths from each state, (S,)."""
    stages = _stages(mdp, pi, T)
    return _variance(mdp, stages, -np.log(np.where(stages > 0.0, stages, 1.0)), T)


def conditional_varentropy(mdp: FiniteMDP, pi: Any, T: int) -> Array:
    """Variance of Σ_t H(π_t(·|s_t)) over paths from each state, (S,)."""
    stages = _stages(mdp, pi, T)
    h = shannon(stages)[..., None]
    return _variance(mdp, stages, np.broadcast_to(h, stages.shape), T)


def outcome_entropy(mdp: FiniteMDP, pi: Any, T: int, outcome: Any = None) -> Array:
    """Entropy of the outcome of T steps from each state, (S,) (§2.3).

    Args:
        outcome: what a path comes to if it ends in s, (S,) whole numbers; default s itself.

    Raises:
        InputError: outcome has another shape or type, or as `path_entropy`.
    """
    S = mdp.num_states
    outcome = np.arange(S) if outcome is None else np.asarray(outcome)
    if outcome.shape != (S,) or not np.issubdtype(outcome.dtype, np.integer):
        raise InputError(
            f"outcome must be (S,) = {(S,)} whole numbers, got {outcome.shape} of {outcome.dtype}"
        )
    stages = _stages(mdp, pi, T)
    kinds, kind = np.unique(outcome, return_inverse=True)
    law = np.eye(kinds.size)[kind]  # (S, kinds): of the outcome, from each state at t
    chains = _chains(mdp, stages)
    for t in reversed(range(T)):
        law = np.where(mdp.terminal[:, None], law, chains[t % len(chains)] @ law)
    entropy: Array = shannon(law)
    return entropy


def _stages(mdp: FiniteMDP, pi: Any, T: int) -> Array:
    """The policy as (T, S, A), or as (1, S, A) where all stages are alike."""
    whole("T", T, 1)
    pi = np.asarray(pi, np.float64)
    alike = pi.shape == (mdp.num_states, mdp.num_actions)
    return staged_policy(mdp, pi, 1 if alike else T)


def _chains(mdp: FiniteMDP, stages: Array) -> list[sp.csr_array]:
    """The steps of a policy as (S, S), one a stage, with no way out of terminal states.

    An entry is a stored transition of the model: those of several actions stand side by side.
    """
    P, (S, A) = mdp.P, stages.shape[1:]
    weight = np.where(mdp.terminal[:, None], 0.0, stages).reshape(-1, S * A)
    each = np.repeat(weight, np.diff(P.indptr), axis=1) * P.data
    return [sp.csr_array((data, P.indices, P.indptr[::A]), (S, S)) for data in each]


def _expected_sum(mdp: FiniteMDP, stages: Array, gain: Array, T: int) -> Array:
    """E[Σ_t gain_t(s_t)] from each state until the end, (S,); gain (T, S) or (1, S)."""
    chains = _chains(mdp, stages)
    gain = np.where(mdp.terminal, 0.0, gain)
    total: Array = np.zeros(mdp.num_states)
    for t in reversed(range(T)):
        total = gain[t % len(gain)] + chains[t % len(chains)] @ total
    return total


def _variance(mdp: FiniteMDP, stages: Array, score: Array, T: int) -> Array:
    """Variance of Σ_t score_t(s_t, a_t) from each state, (S,); score like stages."""
    chains, P = _chains(mdp, stages), mdp.P
    begin, successor = chains[0].indptr[:-1], chains[0].indices
    state = np.repeat(np.arange(mdp.num_states), np.diff(chains[0].indptr))
    scores = np.repeat(score.reshape(len(score), -1), np.diff(P.indptr), axis=1)  # (., nnz)
    H: Array = np.zeros(mdp.num_states)
    W: Array = np.zeros(mdp.num_states)
    for t in reversed(range(T)):
        p, to_go = chains[t % len(chains)].data, scores[t % len(scores)] + H[successor]
        H = np.add.reduceat(p * to_go, begin)
        W = np.add.reduceat(p * ((to_go - H[state]) ** 2 + W[successor]), begin)
    return W


# ---------------------------------------------------------------- from samples


class Scores(NamedTuple):
    """Of each prompt, (P,): the mean over its samples, and the standard error of that mean."""

    mean: Array
    standard_error: Array  # NaN for a single sample


def by_prompt(values: Any, n: int) -> Any:
    """A flat list (P n, …) of n samples of each prompt as (P, n, …).

    The list has all samples of prompt 0 first, then all of prompt 1: `np.repeat(prompts, n)`, not
    `np.tile`. Row p of the result is values[p n : (p + 1) n]; averages go over axis 1.

    Raises:
        InputError: the length is no multiple of n.
    """
    whole("n", n, 1)
    values = np.asarray(values)
    if values.ndim < 1 or values.shape[0] % n:
        raise InputError(f"values must be (P n, …) with n = {n}, got {values.shape}")
    return values.reshape(-1, n, *values.shape[1:])


def plain_scores(log_p: Any, mask: Any) -> Scores:
    """Ĥ = -mean_n Σ_t log π(a_t|s_t) of each prompt, whose variance is `path_varentropy` / n.

    Args:
        log_p: log-probabilities of the actions that were taken, (P, n, T).
        mask: the steps that count, (P, n, T); what is elsewhere is never read.
    """
    return _scores("log_p", log_p, mask, -1.0)


def conditional_scores(h: Any, mask: Any) -> Scores:
    """Ĥ = mean_n Σ_t h(s_t) of each prompt, whose variance is `conditional_varentropy` / n.

    Args:
        h: entropies of the policy in the states that were met, (P, n, T).
        mask: the steps that count, (P, n, T).
    """
    return _scores("h", h, mask, 1.0)


def _scores(name: str, values: Any, mask: Any, sign: float) -> Scores:
    values, mask = np.asarray(values, np.float64), np.asarray(mask, bool)
    if values.ndim != 3 or values.shape != mask.shape or not values.size:
        raise InputError(
            f"{name} and mask must both be (P, n, T), got {values.shape} and {mask.shape}"
        )
    total = sign * np.where(mask, values, 0.0).sum(2)  # (P, n)
    n = total.shape[1]
    error = total.std(1, ddof=1) / np.sqrt(n) if n > 1 else np.full(len(total), np.nan)
    return Scores(total.mean(1), error)


def sampled_outcome_entropy(labels: Any) -> Array:
    """Entropy of the outcomes of each prompt's samples, (P, n) → (P,), in [0, log n].

    Labels are whatever tells outcomes apart. Frequencies stand in for probabilities, so it is
    biased low, by about (kinds - 1) / 2n.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or not labels.size:
        raise InputError(f"labels must be (P, n) with P, n >= 1, got {labels.shape}")
    alike = (labels[:, :, None] == labels[:, None, :]).sum(2)  # (P, n): as many share the label
    entropy: Array = np.log(labels.shape[1] / alike).mean(1)
    return entropy


# ---------------------------------------------------------------- corrected scores


def per_step(H: Array, steps: Array) -> Array:
    """Entropy a step, H / E[steps taken], 0 where no step is; arrays of one shape."""
    rate: Array = np.divide(H, steps, out=np.zeros(np.shape(H)), where=np.asarray(steps) > 0.0)
    return rate


def stratified(H: Any, steps: Any, T: int, sums: Array | None = None) -> tuple[Array, Array]:
    """H less the running mean of its stratum, (P,), and the sums that the next call takes.

    Strata are equal parts of (0, T] by the expected steps: so prompts compete with others of
    their length, not with those that live longer.

    Args:
        H, steps: entropies and expected steps of prompts, (P,).
        sums: count and sum of H of each stratum so far, (2, strata); default eight empty ones.
    """
    whole("T", T, 1)
    H, steps = np.asarray(H, np.float64), np.asarray(steps, np.float64)
    if H.ndim != 1 or H.shape != steps.shape:
        raise InputError(f"H and steps must both be (P,), got {H.shape} and {steps.shape}")
    if not ((steps >= 0.0) & (steps <= T * (1.0 + 1e-9))).all():
        raise InputError(f"steps must be in 0..T = {T}, got {steps.min()} to {steps.max()}")
    sums = np.zeros((2, 8)) if sums is None else sums
    strata = sums.shape[1]
    stratum = np.minimum((steps * strata / T).astype(np.int64), strata - 1)
    added = [np.bincount(stratum, weights, strata) for weights in (np.ones(H.shape), H)]
    sums = sums + np.stack(added)
    return H - sums[1, stratum] / sums[0, stratum], sums
