"""Scores of start states of a table: how unsure it is what a policy does from there.

High entropy marks the states from which one wanders for long, where all segments return the same.
The last three scores are meant to mend that (preferences §2.3); none is known to beat chance.
"""

from __future__ import annotations

import numpy as np

from rlentropy.entropy.samples import shannon
from rlentropy.errors import one_of
from rlentropy.preferences.path_entropy import (
    by_prompt,
    conditional_scores,
    expected_steps,
    outcome_entropy,
    path_entropy,
    per_step,
    plain_scores,
    stratified,
)
from rlentropy.preferences.tables import TabularTask
from rlentropy.types import Array, Count

ESTIMATES = ("exact", "monte-carlo", "rao-blackwell", "per-step", "stratified", "outcome")
SAMPLES = 8  # rollouts a start of the sampled scores


def prompt_entropies(
    kind: str, task: TabularTask, pi: Array, prompts: Count, rng: np.random.Generator
) -> Array:
    """Scores of start states, (n,), in nats, or nats a step.

    Args:
        kind: of ESTIMATES. "outcome" is the entropy of the state that a segment ends in.
        pi: the policy that plays, (S, A).
    """
    one_of("entropy", kind, ESTIMATES)
    mdp, T = task.mdp, task.length
    if kind in ("monte-carlo", "rao-blackwell"):
        segments = task.roll_out(pi, np.repeat(prompts, SAMPLES), rng)
        mask, s = by_prompt(segments.mask, SAMPLES), segments.states[:, :T]
        if kind == "monte-carlo":
            log_p = np.log(np.maximum(pi, 1e-300))[s, segments.actions]
            return plain_scores(by_prompt(log_p, SAMPLES), mask).mean
        return conditional_scores(by_prompt(shannon(pi)[s], SAMPLES), mask).mean
    if kind == "outcome":
        return np.asarray(outcome_entropy(mdp, pi, T)[prompts])
    H = path_entropy(mdp, pi, T)
    if kind == "exact":
        return np.asarray(H[prompts])
    steps = expected_steps(mdp, pi, T)
    if kind == "per-step":
        return np.asarray(per_step(H, steps)[prompts])
    return stratified(H[prompts], steps[prompts], T)[0]
