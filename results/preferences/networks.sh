#!/usr/bin/env bash
# The study of networks in docs/results/preferences.md; from the checkout's root. Two seconds a run on
# a free core, half an hour in all. Rows that are in results/runs/preferences are not run again.
set -euo pipefail
study="python benchmarks/preference_vectors.py"
runs=results/runs/preferences
slow="--set train=all --set label_smoothing=0.1 --set learning_rate=0.001"

# Settings of the learner were chosen on these seeds, by random and the oracle alone. Each row of
# networks-tuning.csv is such a run with the --set of its settings; --set length=50 for segments of
# another length. networks-entered.csv compares features that were not kept with those of now.
for rate in 0.003 0.01; do
  $study run random,oracle-gap --seeds 0-5 --set learning_rate=$rate --out $runs/networks-tuning.csv
done
for rate in 0.001 0.003 0.01; do
  $study run random,oracle-gap --seeds 0-5 --set train=all --set label_smoothing=0.1 \
    --set learning_rate=$rate --out $runs/networks-tuning.csv
done

$study run random,certainty,label-information,push-value,value-information,oracle-gap,oracle-gap:power=4 \
  --seeds 100-119 --set train=newest --out $runs/networks.csv
$study run random,value-information,oracle-gap --seeds 120-139 --set train=newest --out $runs/networks.csv
$study run random,value-information,oracle-gap --seeds 100-119 $slow --out $runs/networks.csv
$study table $runs/networks.csv --out results/preferences/networks.csv
$study picture $runs/networks.csv --out results/preferences/networks-curves.png
for rate in 0.006 0.01; do
  $study run random,value-information,oracle-gap --seeds 0-4 --set train=newest \
    --set learning_rate=$rate --out $runs/networks-rates.csv
done
$study table $runs/networks-rates.csv --out results/preferences/networks-rates.csv
