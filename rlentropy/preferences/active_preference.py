"""Active preference learning: buy the labels that teach a policy most, and align it with them.

Rounds of candidates, choice, questions and DPO (Muldrew et al., "Active Preference Learning for
Large Language Models", ICML 2024, arXiv 2402.08114), on segments of gymnasium environments. The
acquisition rules are a table (`rlentropy.preferences.acquisition`); `label-information` and
`push-value` are this package's own (preferences §4.4-4.5).

Differences from the paper's code: start states are shared by setting a tabular state or by reset
seeds; entropies of tables are exact; every candidate is scored; identical pairs are dropped; the
online form (newest labels, no restart) is the default, since it is what selection helps most.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from rlentropy import neural
from rlentropy.errors import InputError
from rlentropy.log import Log, drive
from rlentropy.policies import Policy
from rlentropy.preferences import oracles
from rlentropy.preferences.campaign import Campaign
from rlentropy.preferences.config import BUILT_IN, NETWORK, TABLE, Config
from rlentropy.preferences.console import ask_person, reader
from rlentropy.preferences.imports import import_pairs
from rlentropy.preferences.report import HELD_OUT, Reported, Reporter
from rlentropy.preferences.segments import joined
from rlentropy.preferences.store import Store
from rlentropy.preferences.subjects import (
    is_tabular,
    network_subject,
    table_subject,
    units_of,
)
from rlentropy.preferences.teaching import SimulatedTeacher
from rlentropy.types import Env, Result

__all__ = ["Config", "load_policy", "run"]


def run(
    env: Env,
    config: Config,
    rng: np.random.Generator,
    log: Log,
    reference: Policy | None = None,
) -> Result:
    """Buy labels and align a policy.

    Args:
        reference: the policy of the run that `config.reference` names, if it names one.

    Raises:
        InputError: the environment, the reference or the oracle doesn't suit the options.
    """
    subject_rng, campaign_rng, evaluation_rng = rng.spawn(3)
    if reference is None and config.reference_run is not None:
        raise InputError(
            f"reference must be {' or '.join(BUILT_IN)}, or a run folder, got {config.reference!r}"
        )
    tabular = is_tabular(env, config.approximator)
    make, defaults = (table_subject, TABLE) if tabular else (network_subject, NETWORK)
    subject: Reported = make(env, config, defaults, reference, subject_rng)
    seeds = evaluation_rng.integers(2**31, size=2).tolist()
    held_out = subject.held_out(HELD_OUT, np.random.default_rng(seeds[0]))
    spec = oracles.parse_oracle(config.oracle)
    teacher = None
    if not isinstance(spec, oracles.Human):
        both = joined([held_out.a, held_out.b])
        teacher = SimulatedTeacher(spec, both, subject.judged_by(spec), seeds[1])
    store = Store(None if log.directory is None else log.directory / "campaign", about(env, config))
    if config.pairs is not None:
        shared_start = config.loss not in ("cpl", "reward-model")
        length = config.segment_length or defaults.segment_length
        import_pairs(store, config.pairs, units_of(env, subject), length, shared_start)
    front = partial(ask_person, read=reader(lambda: log.interrupted)) if teacher is None else None
    campaign = Campaign(subject, config.plan(defaults), teacher, store, campaign_rng, front)
    reporter = Reporter(campaign, subject, held_out, teacher)
    try:
        scores = drive(
            campaign,
            log,
            reporter.evaluate,
            total=config.labels,
            budget="labels",
            evaluate_first=True,
            last_differs=True,
        )
        return reporter.result(scores, config)
    finally:
        store.close()


def about(env: Env, config: Config) -> dict[str, str]:
    """What is the same for all questions of a campaign, which its store holds."""
    spec = env.spec
    return {
        "env_id": spec.id if spec else "",
        "env_kwargs": json.dumps(spec.kwargs if spec else {}, sort_keys=True, default=str),
        "gymnasium": gymnasium.__version__,
        "acquisition": config.acquisition,
        "oracle": config.oracle,
    }


def load_policy(saved: dict[str, Any], env: Env) -> Policy:
    """The policy in policy.pt, to act in an environment.

    Raises:
        InputError: it is none of this command, or of other spaces than the environment's.
    """
    policy: Policy = neural.saved.load_policy(saved, env)
    return policy
