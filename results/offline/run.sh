#!/usr/bin/env bash
# Everything behind results/offline; from the checkout's root. The last part takes about half an
# hour on one core. Run folders go to results/runs.
set -euo pipefail
here=results/offline
agents=results/runs/robust-actor-critic

# 1. Tables: gap against dataset size, and behaviour policies against each other; ten seeds.
python benchmarks/offline.py sizes --out "$here"
python benchmarks/offline.py behaviour --out "$here"

# 2. Networks: gap against updates, LINEX and the published recipe; five seeds.
python benchmarks/offline.py networks --out "$here"

# 3. CartPole and Pendulum when they change: FQI, RFQI and RFZI on data of our own agents.
agent() { # env-id steps options
  [ -e "$agents/$1/beta0/seed0/summary.json" ] ||
    python train.py robust-actor-critic --env-id "$1" --risk entropic:0 --random-action 0.1 \
      --steps "$2" "${@:3}" --overwrite --quiet --out "$agents/$1/beta0/seed0"
}
agent CartPole-v1 200000
agent Pendulum-v1 300000 --gamma 0.9 --rollout-steps 256 --epochs 10 --minibatches 8
python benchmarks/offline.py perturbations --out "$here/perturbations" --agents "$agents"
