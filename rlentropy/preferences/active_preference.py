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
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from rlentropy import calls, neural
from rlentropy.errors import InputError
from rlentropy.log import Log
from rlentropy.policies import Policy
from rlentropy.preferences import language_judge, oracles
from rlentropy.preferences.boards import describing
from rlentropy.preferences.campaign import Campaign
from rlentropy.preferences.config import BUILT_IN, NETWORK, TABLE, Config
from rlentropy.preferences.console import Front
from rlentropy.preferences.imports import import_pairs
from rlentropy.preferences.judges import Judge
from rlentropy.preferences.judging import Ensemble, Judging, Scripted
from rlentropy.preferences.questions import JUDGE
from rlentropy.preferences.report import HELD_OUT, Reported, Reporter
from rlentropy.preferences.routing import Panel, Router, by_returns
from rlentropy.preferences.segments import Pairs, joined
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


@calls.on_env(Config)
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
    both = joined([held_out.a, held_out.b])
    teacher = None
    if not isinstance(spec := config.teacher, oracles.Human):
        teacher = SimulatedTeacher(spec, both, subject.judged_by(spec), seeds[1])
    router = router_of(env, config, subject, held_out, seeds[1])
    store = Store(None if log.directory is None else log.directory / "campaign", about(env, config))
    if config.pairs is not None:
        shared_start = config.loss not in ("cpl", "reward-model")
        length = config.segment_length or defaults.segment_length
        import_pairs(store, config.pairs, units_of(env, subject), length, shared_start)
    front = None
    if teacher is None:
        front = Front(lambda: log.interrupted, config.grace, describing(lambda: env))
    plan = config.plan(defaults)
    campaign = Campaign(subject, plan, teacher, store, campaign_rng, front, router)
    panel: Panel | SimulatedTeacher | None = teacher
    if router is not None and teacher is not None and config.judge is None:
        panel = Panel(router, teacher)
    reporter = Reporter(campaign, subject, held_out, panel)
    try:
        scores = reporter.spend(log, config.labels)
        return reporter.result(scores, config)
    finally:
        store.close()


def router_of(
    env: Env, config: Config, subject: Reported, held_out: Pairs, seed: int
) -> Router | None:
    """The judge that the options name, and what it leaves to a person; None without one.

    Raises:
        InputError: there is no such judge.
    """
    spec = oracles.parse_oracle(config.oracle)
    if not isinstance(spec, Judge):
        return None
    both = joined([held_out.a, held_out.b])
    router = by_returns(spec, both, seed, config.oracle)
    if config.judge is not None:
        judge: Judging
        if config.judge == "ensemble":
            judge = Ensemble(subject.features, subject.groups, held_out)
        elif config.judge.startswith("lm:"):
            rng = np.random.default_rng(seed)
            judge = language_judge.LanguageJudge.of(config.judge[3:], rng)
        else:
            judge = Scripted(config.judge, units_of(env, subject))
        router = replace(router, judge=judge, name=JUDGE + config.judge, rule="contradiction")
    return replace(
        router,
        rule=config.routing or router.rule,
        share=router.share if config.human_share is None else config.human_share,
        labels=config.human_labels,
        person=config.person,
    )


def about(env: Env, config: Config) -> dict[str, str]:
    """What is the same for all questions of a campaign, which its store holds."""
    spec = env.spec
    return {
        "env_id": spec.id if spec else "",
        "env_kwargs": json.dumps(spec.kwargs if spec else {}, sort_keys=True, default=str),
        "gymnasium": gymnasium.__version__,
        "acquisition": config.acquisition,
        "oracle": config.oracle,
        **({"judge": config.judge} if config.judge else {}),
        **({"person": config.person} if config.person != "return" else {}),
    }


def load_policy(saved: dict[str, Any], env: Env) -> Policy:
    """The policy in policy.pt, to act in an environment.

    Raises:
        InputError: it is none of this command, or of other spaces than the environment's.
    """
    policy: Policy = neural.saved.load_policy(saved, env)
    return policy
