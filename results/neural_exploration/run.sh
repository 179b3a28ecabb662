#!/usr/bin/env bash
# Everything behind docs/results/neural_exploration.md; from the checkout's root, in about three
# hours of one core. Runs that are finished are not run again, so it can be stopped and started.
set -euo pipefail
study="python benchmarks/neural_exploration.py"

$study explore --processes 2
$study goals --processes 2
$study summarise
