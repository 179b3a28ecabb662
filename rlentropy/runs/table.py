"""Every command: the module that does it, and what the rest of the package must know of it.

A new algorithm is a row here, and a module with `Config` and `run`; a policy of its own kind needs
`load_policy`, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal


@dataclass(frozen=True)
class Command:
    """A row of the table."""

    module: str  # with `Config`, and `run` as the table that holds the row says
    about: str  # one line, for the overview
    # what `run` is given first: an environment; or a dataset, and an environment as `env`, if any
    needs: Literal["env", "data", "campaign", ""] = ""
    # the option that says for how long it learns; a resumed run may change it
    budget: Literal["episodes", "steps", "updates", "labels", ""] = ""
    # what the steps of eval/* count, which must agree for runs to be compared
    axis: Literal["env_steps", "updates", "labels", ""] = ""
    compiling: int = 0  # CPU seconds of the compiler, about, in the first run on a machine


planner = partial(Command, needs="env", axis="env_steps")  # by a known model, at step 0
explorer = partial(Command, needs="env", budget="episodes", axis="env_steps")
fitted = partial(Command, needs="data", budget="updates", axis="updates")

# They learn: `run(env or data, config, rng, log)` returns a `Result`; without the first where
# nothing is needed.
COMMANDS = {
    "optimal-exploration": planner(
        "rlentropy.exploration.optimal",
        "exact optimum of a known model",
        compiling=3,
    ),
    "entgame": explorer(
        "rlentropy.exploration.entgame",
        "visitation entropy: forecaster against sampler",
        compiling=7,
    ),
    "reg-entgame": explorer(
        "rlentropy.exploration.reg_entgame",
        "visitation entropy: soft sampler",
        compiling=8,
    ),
    "maxent": explorer(
        "rlentropy.exploration.maxent",
        "visitation entropy: Frank-Wolfe (Hazan et al.)",
        compiling=5,
    ),
    "rf-ucrl": explorer(
        "rlentropy.exploration.rf_ucrl",
        "reward-free exploration: RF-UCRL, RF-Express",
        compiling=10,
    ),
    "ucbvi-ent": explorer(
        "rlentropy.exploration.ucbvi_ent",
        "trajectory entropy: optimistic soft plans",
        compiling=8,
    ),
    "rf-explore-ent": explorer(
        "rlentropy.exploration.rf_explore_ent",
        "trajectory entropy: two phases",
        compiling=7,
    ),
    "random-policy": explorer(
        "rlentropy.exploration.random_policy",
        "baseline: uniformly random actions",
        compiling=3,
    ),
    "neural-entgame": Command(
        "rlentropy.exploration.neural_entgame",
        "state entropy by networks, any environment",
        needs="env",
        budget="steps",
        axis="env_steps",
    ),
    "mepol": Command(
        "rlentropy.exploration.mepol",
        "state entropy by policy gradient (MEPOL)",
        needs="env",
        budget="steps",
        axis="env_steps",
    ),
    "neural-maxent": Command(
        "rlentropy.exploration.neural_maxent",
        "state entropy by Frank-Wolfe with networks (Hazan et al.)",
        needs="env",
        budget="steps",
        axis="env_steps",
    ),
    "neural-random": Command(
        "rlentropy.exploration.neural_random",
        "their baseline: uniformly random actions",
        needs="env",
        budget="steps",
        axis="env_steps",
    ),
    "robust-planning": planner(
        "rlentropy.robust.planning",
        "optimal robust value of a known model",
        compiling=6,
    ),
    "robust-pg": Command(
        "rlentropy.robust.policy_gradient",
        "exact robust policy gradient",
        needs="env",
        budget="updates",
        axis="updates",
        compiling=6,
    ),
    "robust-actor-critic": Command(
        "rlentropy.robust.actor_critic",
        "neural robust policy gradient",
        needs="env",
        budget="steps",
        axis="env_steps",
    ),
    "rfzi": fitted("rlentropy.offline.rfzi", "robust fitted Z iteration on a dataset", compiling=6),
    "rfqi": fitted(
        "rlentropy.offline.rfqi", "robust fitted Q iteration on a dataset (TV ball)", compiling=6
    ),
    "fqi": fitted(
        "rlentropy.offline.fqi",
        "fitted Q iteration on a dataset: the nominal baseline",
        compiling=6,
    ),
    "active-preference": Command(
        "rlentropy.preferences.active_preference",
        "DPO from the labels that teach most",
        needs="env",
        budget="labels",
        axis="labels",
        compiling=2,
    ),
    "language-preference": Command(
        "rlentropy.preferences.language_preference",
        "the same of a language model, by TRL's DPO",
        budget="labels",
        axis="labels",
    ),
}

# They read or make what others have: `run(config)` returns the exit code.
TOOLS = {
    "envs": Command(
        "rlentropy.commands.envs", "environments, with spaces, horizon, and known models"
    ),
    "collect": Command(
        "rlentropy.commands.collect", "an offline dataset from random actions or a run's policy"
    ),
    "evaluate": Command(
        "rlentropy.commands.evaluate", "returns of finished runs, over grids of perturbations"
    ),
    "video": Command("rlentropy.commands.video", "films a run's policy, as an animated GIF"),
    "relabel": Command(
        "rlentropy.commands.relabel", "a goal for data that were collected without one"
    ),
    "campaign": Command(
        "rlentropy.commands.campaign", "who answered what: report, export, import of answers"
    ),
    "compare": Command(
        "rlentropy.commands.compare", "tables, pictures and TensorBoard bands from run folders"
    ),
    "label": Command(
        "rlentropy.commands.label", "a page on which people answer a campaign's questions"
    ),
    "sweep": Command(
        "rlentropy.commands.sweep", "algorithms x environments x seeds in parallel processes"
    ),
}
