"""DPO beside planning for a learnt reward, on FrozenLake 8x8 from the uniform policy.

python benchmarks/preference_routes.py [--seeds 10]

A line a setting: the summary's auc (mean and standard error over seeds) and normalised_return, of
runs of `active-preference` with 640 labels and the command's defaults.
"""

from __future__ import annotations

import argparse

import gymnasium
import numpy as np

import rlentropy  # noqa: F401  # registers environments
from rlentropy.log import Log
from rlentropy.preferences import active_preference

ROUTES = (("dpo", 0.2), ("reward-model", 0.2), ("reward-model", 0.02))
RULES = ("random", "label-information", "value-information")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    seeds = range(parser.parse_args().seeds)
    for slippery in (False, True):
        for loss, beta in ROUTES:
            for rule in RULES:
                config = active_preference.Config(acquisition=rule, loss=loss, dpo_beta=beta)
                found = []
                for seed in seeds:
                    env = gymnasium.make("FrozenLake8x8-v1", is_slippery=slippery)
                    rng = np.random.default_rng(np.random.SeedSequence(seed))
                    summary = active_preference.run(env, config, rng, Log(None)).summary
                    found.append((summary["auc"], summary["normalised_return"]))
                auc, final = np.array(found).T
                error = auc.std(ddof=1) / np.sqrt(len(auc))
                print(
                    f"slippery={slippery!s:5} {loss:12} beta={beta:<4} {rule:17} "
                    f"auc {auc.mean():.3f} ({error:.3f}) final {final.mean():.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
