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
