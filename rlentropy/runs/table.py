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
    family: str = "others"  # group of the overview, one of `FAMILIES`
    networks: bool = False  # whether it may use torch, so that --device counts
    # what the steps of eval/* count, which must agree for runs to be compared
    axis: Literal["env_steps", "updates", "labels", ""] = ""
    parallel: bool = False  # whether several processes of torchrun can learn together
    compiling: int = 0  # CPU seconds of the compiler, about, in the first run on a machine


planner = partial(Command, needs="env", axis="env_steps")  # by a known model, at step 0
explorer = partial(Command, needs="env", budget="episodes", axis="env_steps", family="explore")
neural = partial(Command, needs="env", budget="steps", axis="env_steps", networks=True)
fitted = partial(
    Command,
    needs="data",
    budget="updates",
    axis="updates",
    family="offline",
    networks=True,
    parallel=True,
)
tool = partial(Command, family="tools")

# Groups of the overview: a heading, and command lines that show how one begins.
FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "explore": (
        "reach everything, without a reward",
        ("rlentropy reg-entgame --env-id FrozenLake-v1 --episodes 2000",),
    ),
    "plan": (
        "policies that hold under a changed model",
        ("rlentropy robust-planning --env-id FrozenLake-v1 --risk kl-ball:0.1",),
    ),
    "offline": (
        "collect a dataset, and learn from it alone",
        (
            "rlentropy collect --env-id CartPole-v1 --steps 20000 --data cartpole.npz",
            "rlentropy rfzi --data cartpole.npz --env-id CartPole-v1 --updates 1000",
        ),
    ),
    "preferences": (
        "learn from labels of pairs",
        ("rlentropy active-preference --env-id FrozenLake-v1 --labels 160",),
    ),
    "tools": (
        "find environments, judge and compare runs, run many",
        (
            "rlentropy envs rlentropy/",
            "rlentropy sweep --commands entgame maxent --env-ids FrozenLake-v1 --seeds 3",
        ),
    ),
    "others": ("of other packages", ()),
}

# They learn: `run(env or data, config, rng, log)` returns a `Result`; without the first where
# nothing is needed.
COMMANDS = {
    "optimal-exploration": planner(
        "rlentropy.exploration.optimal",
        "exact optimum of a known model",
        family="explore",
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
    "neural-entgame": neural(
        "rlentropy.exploration.neural_entgame",
        "state entropy by networks, any environment",
        family="explore",
    ),
    "mepol": neural(
        "rlentropy.exploration.mepol",
        "state entropy by policy gradient (MEPOL)",
        family="explore",
    ),
    "neural-maxent": neural(
        "rlentropy.exploration.neural_maxent",
        "state entropy by Frank-Wolfe with networks",
        family="explore",
    ),
    "neural-random": neural(
        "rlentropy.exploration.neural_random",
        "their baseline: uniformly random actions",
        family="explore",
    ),
    "robust-planning": planner(
        "rlentropy.robust.planning",
        "optimal robust value of a known model",
        family="plan",
        compiling=6,
    ),
    "robust-pg": Command(
        "rlentropy.robust.policy_gradient",
        "exact robust policy gradient on a known model",
        needs="env",
        budget="updates",
        axis="updates",
        family="plan",
        compiling=6,
    ),
    "robust-actor-critic": neural(
        "rlentropy.robust.actor_critic",
        "neural robust policy gradient, any environment",
        family="plan",
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
        family="preferences",
        networks=True,
        compiling=2,
    ),
    "language-preference": Command(
        "rlentropy.preferences.language_preference",
        "the same of a language model, by TRL's DPO",
        budget="labels",
        axis="labels",
        family="preferences",
        networks=True,
    ),
}

# They read or make what others have: `run(config)` returns the exit code.
TOOLS = {
    "envs": tool("rlentropy.commands.envs", "environments, with spaces, horizon, and known models"),
    "collect": tool(
        "rlentropy.commands.collect",
        "an offline dataset from random actions or a run's policy",
        family="offline",
    ),
    "evaluate": tool(
        "rlentropy.commands.evaluate", "returns of finished runs, over grids of perturbations"
    ),
    "video": tool("rlentropy.commands.video", "films a run's policy, as an animated GIF"),
    "relabel": tool(
        "rlentropy.commands.relabel",
        "a goal for data that were collected without one",
        family="offline",
    ),
    "campaign": tool(
        "rlentropy.commands.campaign",
        "who answered what: report, export, import of answers",
        family="preferences",
    ),
    "compare": tool(
        "rlentropy.commands.compare", "tables, pictures and a page, over seeds and tasks"
    ),
    "label": tool(
        "rlentropy.commands.label",
        "a page on which people answer a campaign's questions",
        family="preferences",
    ),
    "sweep": tool(
        "rlentropy.commands.sweep", "algorithms x environments x seeds in parallel processes"
    ),
}
