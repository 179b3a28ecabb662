#!/usr/bin/env bash
# Everything behind docs/results/preferences.md but the rule for all regimes; from the checkout's root.
# About forty minutes on a core that does nothing else. Rows that are in results/runs/preferences are
# not run again, so it can be stopped and started.
set -euo pipefail
study="python benchmarks/preference_studies.py"

# The pilot's table in half a minute: eight arms, three tasks, ten seeds.
$study e2 --arms pilot --tasks lake8,grid,cliff --seeds 0-9 --runs results/runs/preferences-pilot

$study e1 e2 e3 e4 e5 e6 e8 e9
$study tune1 tune2 e7 # learning rates
$study e1 e2 --tasks taxi --arms \
  random,entropy,certainty,uncertainty,entropy-certainty,half-certainty,label-information,push-value,oracle-gap
$study summarise

# The rule for all regimes: 39 cells, about three hours on one core; rules.csv and rules.png.
rules="python benchmarks/preference_rules.py"
runs=results/runs/preference-rules
$rules run random,value-information --seeds 300-399 --out $runs.csv
$rules run label-information,push-value,oracle-gap --seeds 300-324 --out $runs.csv
$rules run random:keep_identical=1 --seeds 300-349 --out $runs.csv
$rules table $runs.csv --rules value-information,push-value,label-information,oracle-gap \
  --out results/preferences/rules.csv
$rules run random,value-information --cells controls --seeds 0-24 --out $runs-controls.csv
python benchmarks/preference_routes.py

# Judges and routing: about fifteen minutes, and as many for the network.
judges="python benchmarks/preference_judges.py"
$judges run
$judges networks --judges "noisy 1" --arms alone,person,random,margin,contradiction --seeds 300-309
$judges table
