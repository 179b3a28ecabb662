#!/usr/bin/env bash
# Everything behind results/robust, from the checkout's root: the first three take seconds, the table a
# quarter of an hour, the neural runs about two hours on one core.
set -euo pipefail
here=results/robust

# 1. The paper's policy-gradient figure and its robustness figures, on Toy-10.
python benchmarks/robust_figures.py gradient --out "$here"
python benchmarks/robust_figures.py robustness --out "$here"

# 2. How large a β or a radius must be (docs/choosing.md).
python benchmarks/risk_choice.py --out "$here"

# 3. Robust values of every measure on five environments, with solve times.
python benchmarks/robust_figures.py table --out "$here"

# 4. robust-actor-critic against itself at beta = 0 and stable-baselines3's PPO, five seeds each; the
# evaluations' areas, bands and pictures are in actor-critic/.
python benchmarks/actor_critic.py returns --out results/runs/robust/actor-critic
