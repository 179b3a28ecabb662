#!/usr/bin/env bash
# Every run behind results/exploration, about an hour on two cores; from the checkout's root.
# Finished runs are skipped, so it can be stopped and started again. Run folders go to results/runs.
set -euo pipefail
runs=results/runs/exploration
here=results/exploration
VISITATION="entgame reg-entgame maxent rf-ucrl random-policy"

# 1. The paper's two experiments: 48 runs of 100 000 steps, 12 runs of 600 000 steps.
python benchmarks/paper_figures.py double-chain --out "$here/paper"
python benchmarks/paper_figures.py grid-world --out "$here/paper"

# 2. Sample complexity of visitation entropy (VE): ten seeds.
complexity() { # name env-id kwargs horizon episodes
  python train.py sweep --commands $VISITATION --env-ids "$2" --seeds 10 --quiet \
    --set env_kwargs="$3" --set horizon="$4" --set episodes="$5" --out "$runs/complexity/$1"
  python train.py compare "$runs/complexity/$1" --out "$here/complexity/$1"
}
complexity double-chain rlentropy/DoubleChain-v0 '{}' 20 10000
complexity grid-world rlentropy/GridWorld-v0 '{}' 20 10000
complexity garnet-50 rlentropy/Garnet-v0 '{"num_states": 50, "num_actions": 4, "branching": 3, "seed": 0}' 20 5000
complexity garnet-200 rlentropy/Garnet-v0 '{"num_states": 200, "num_actions": 4, "branching": 5, "seed": 1}' 20 5000
complexity frozen-lake-8x8 FrozenLake8x8-v1 '{}' 50 5000
complexity taxi Taxi-v4 '{}' 50 5000

# 3. Trajectory entropy where the uniform policy is not optimal: ten seeds.
trajectory() { # name env-id kwargs horizon
  python train.py sweep --config "$here/trajectory.toml" --env-ids "$2" --quiet \
    --set env_kwargs="$3" --set horizon="$4" --out "$runs/trajectory/$1"
  python train.py compare "$runs/trajectory/$1" --out "$here/trajectory/$1" --metric eval/gap
}
trajectory noisy-chain rlentropy/NoisyChain-v0 '{}' 10
trajectory fan rlentropy/Fan-v0 '{}' 2
trajectory noisy-garnet-20 rlentropy/Garnet-v0 \
  '{"num_states": 20, "num_actions": 4, "branching": 10, "seed": 0, "heterogeneous": true}' 10
trajectory noisy-garnet-50 rlentropy/Garnet-v0 \
  '{"num_states": 50, "num_actions": 3, "branching": 20, "seed": 1, "heterogeneous": true}' 10
