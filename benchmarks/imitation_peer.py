# ruff: noqa: E402
"""A preference loop of imitation 1.0.1, timed in a process and an environment of its own.

python benchmarks/imitation_peer.py MEMBERS

Printed is one JSON object: CPU seconds of the loop, imports and construction left out, and what it
used. `benchmarks/preferences.py loop` runs it with the Python that has imitation, which needs an
older gymnasium than ours does.
"""

import os

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # read when numpy and torch are imported

import contextlib
import io
import json
import sys
import time
from typing import Any

ENV_ID, STEPS, COMPARISONS = "Pendulum-v1", 4000, 100
# Defaults of imitation's command, as are those of its PPO.
FRAGMENT, ITERATIONS, EPOCHS = 100, 5, 3
FIRST_SHARE, FIRST_EPOCHS = 0.1, 600  # of the comparisons before training, and passes over them
HIDDEN, ENVS, FACTOR = (32, 32), 8, 2  # of the reward networks; copies; candidates a comparison


def loop(members: int) -> dict[str, Any]:
    """Random pairs for one reward network; for several, those they disagree about."""
    import imitation
    import numpy as np
    import torch
    from imitation.algorithms import preference_comparisons as pc
    from imitation.rewards import reward_nets
    from imitation.util.networks import RunningNorm
    from imitation.util.util import make_vec_env
    from stable_baselines3 import PPO

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    venv = make_vec_env(ENV_ID, n_envs=ENVS, rng=rng)
    spaces = venv.observation_space, venv.action_space

    def network() -> Any:
        return reward_nets.BasicRewardNet(
            *spaces, hid_sizes=HIDDEN, normalize_input_layer=RunningNorm
        )

    fragmenter: Any = pc.RandomFragmenter(warning_threshold=0, rng=rng)
    shown: Any
    if members == 1:
        shown = model = network()
        preferences = pc.PreferenceModel(model)
        make = pc.BasicRewardTrainer
    else:
        model = reward_nets.RewardEnsemble(*spaces, [network() for _ in range(members)])
        shown = reward_nets.AddSTDRewardWrapper(model, default_alpha=0.0)
        preferences = pc.PreferenceModel(model)
        fragmenter = pc.ActiveSelectionFragmenter(preferences, fragmenter, FACTOR, "probability")
        make = pc.EnsembleTrainer
    trainer = make(preferences, pc.CrossEntropyRewardLoss(), epochs=EPOCHS, rng=rng)
    ppo = PPO("MlpPolicy", venv, n_steps=STEPS // ITERATIONS // ENVS, seed=0, device="cpu")
    comparisons = pc.PreferenceComparisons(
        pc.AgentTrainer(ppo, shown, venv, rng=rng),
        shown,
        num_iterations=ITERATIONS,
        fragmenter=fragmenter,
        preference_gatherer=pc.SyntheticGatherer(rng=rng),
        reward_trainer=trainer,
        fragment_length=FRAGMENT,
        initial_comparison_frac=FIRST_SHARE,
        initial_epoch_multiplier=FIRST_EPOCHS / EPOCHS,
    )
    began = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        comparisons.train(STEPS, COMPARISONS)
    return {"seconds": time.process_time() - began, "version": imitation.__version__}


if __name__ == "__main__":
    print(json.dumps(loop(int(sys.argv[1]))))
