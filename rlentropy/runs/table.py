"""Every command, and the module that does it."""

from __future__ import annotations

COMMANDS = {
    "optimal-exploration": ("rlentropy.exploration.optimal", "exact optimum of a known model"),
    "entgame": ("rlentropy.exploration.entgame", "visitation entropy: forecaster against sampler"),
    "reg-entgame": ("rlentropy.exploration.reg_entgame", "visitation entropy: soft sampler"),
    "maxent": ("rlentropy.exploration.maxent", "visitation entropy: Frank-Wolfe (Hazan et al.)"),
    "rf-ucrl": ("rlentropy.exploration.rf_ucrl", "reward-free exploration: RF-UCRL, RF-Express"),
    "ucbvi-ent": ("rlentropy.exploration.ucbvi_ent", "trajectory entropy: optimistic soft plans"),
    "rf-explore-ent": ("rlentropy.exploration.rf_explore_ent", "trajectory entropy: two phases"),
    "random-policy": ("rlentropy.exploration.random_policy", "baseline: uniformly random actions"),
    "robust-planning": ("rlentropy.robust.planning", "optimal robust value of a known model"),
    "robust-pg": ("rlentropy.robust.policy_gradient", "exact robust policy gradient"),
    "robust-actor-critic": ("rlentropy.robust.actor_critic", "neural robust policy gradient"),
    "rfzi": ("rlentropy.offline.rfzi", "robust fitted Z iteration on a dataset"),
    "rfqi": ("rlentropy.offline.rfqi", "robust fitted Q iteration on a dataset (TV ball)"),
    "fqi": ("rlentropy.offline.fqi", "fitted Q iteration on a dataset: the nominal baseline"),
}


TOOLS = {  # they take no environment: a `Config`, and `run(config)`, which returns the exit code
    "collect": (
        "rlentropy.commands.collect",
        "an offline dataset from random actions or a run's policy",
    ),
    "evaluate": (
        "rlentropy.commands.evaluate",
        "returns of finished runs, over grids of perturbations",
    ),
    "compare": (
        "rlentropy.commands.compare",
        "tables, pictures and TensorBoard bands from run folders",
    ),
    "sweep": (
        "rlentropy.commands.sweep",
        "algorithms x environments x seeds in parallel processes",
    ),
}
