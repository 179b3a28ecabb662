#!/usr/bin/env bash
# Everything behind docs/results/preferences.md but the 39 cells and the networks; from the checkout's
# root. About an hour and a half on one core; rows that are in results/runs/preferences are not run
# again, so it can be stopped and started.
set -euo pipefail
study="python benchmarks/preference_studies.py"

# The pilot's table in a minute: eight arms and a control, three tasks, ten seeds.
$study e2 --arms pilot --tasks lake8,grid,cliff --seeds 0-9 --runs results/runs/preferences-pilot

$study e1 e2 e3 e4 e5 e6 e8 e9
$study tune1 tune2 e7 # learning rates
$study summarise
