#!/usr/bin/env bash
# Everything behind results/robust but the neural runs; from the checkout's root. The first two take
# seconds, the table about a quarter of an hour.
set -euo pipefail
here=results/robust

# 1. The paper's policy-gradient figure and its robustness figures, on Toy-10.
python benchmarks/robust_figures.py gradient --out "$here"
python benchmarks/robust_figures.py robustness --out "$here"

# 2. Robust values of every measure on five environments, with solve times.
python benchmarks/robust_figures.py table --out "$here"
