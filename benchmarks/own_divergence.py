# ruff: noqa: E402
"""Robust optima under a user's own f, beside what the package did before and beside closed forms.

python benchmarks/own_divergence.py [--csv PATH] [--states N …] [--before N …]

Garnets with 5 actions and 8 successors, γ = 0.95, bounds 1e-8 apart; CPU time on one thread,
medians of 3 (before: one), compiled code warm. Before: golden section on f for each successor of
each row, inside bisection for each row, in each sweep. That is asked for small problems only, and
the growth of both is shown there. V is compared with that of the closed form, where there is one.
"""

import os

for _library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # read when numpy and numba are imported

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import rlentropy  # registers the environments
from rlentropy import FiniteMDP, planning, risk
from rlentropy.risk.rows import Block
from rlentropy.types import Array

GAMMA, TOLERANCE = 0.95, 1e-8
WEIGHTS = (1.0, 0.05)  # nearly risk neutral; near the worst case


def kl(t: Array) -> Array:
    return np.asarray(t * np.log(np.maximum(t, 1e-300)) - t + 1.0)


def kl_of_numbers(t: float) -> float:
    return t * math.log(t) - t + 1.0


def total_variation(t: Array) -> Array:
    return np.abs(t - 1.0)


def hellinger(t: Array) -> Array:
    return np.asarray((np.sqrt(t) - 1.0) ** 2)


def kinked(t: Array) -> Array:
    return np.maximum(-2.0 * (t - 1.0), np.maximum((t - 1.0) / 4.0, 3.0 * t - 4.0175))


Closed = Callable[[float], risk.Measure]
DIVERGENCES: dict[str, tuple[Callable[[Any], Any], Closed | None]] = {
    "KL": (kl, lambda weight: risk.Entropic(1.0 / weight)),
    "KL of numbers": (kl_of_numbers, lambda weight: risk.Entropic(1.0 / weight)),
    "total variation": (total_variation, risk.L1Penalty),
    "Hellinger": (hellinger, lambda weight: risk.CressieReadPenalty(weight / 2.0, 0.5)),
    "kinked": (kinked, None),
}


class Before(risk.FDivergencePenalty):
    """As it was."""

    def _worst(self, block: Block) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return golden_tilt(block.p, block.x, block.scaled(self.weight), self.f)


def golden_tilt(p: Array, x: Array, k: Array, f: Callable[[Array], Any]) -> Array:
    top = np.where(p > 0.0, 1.0 / np.where(p > 0.0, p, 1.0), 1.0)

    def total(a: Array) -> Array:
        return np.asarray(a.sum(1, keepdims=True))

    def tilt(eta: Array) -> Array:
        y = np.where(p > 0.0, eta - x, 0.0)
        t = golden(lambda t: k * f(t) - y * t, top)
        return np.where(p > 0.0, p * np.clip(t, 0.0, top), 0.0)

    width = np.maximum(k, 1.0)
    for _ in range(200):
        short, over = total(tilt(-width)) <= 1.0, total(tilt(1.0 + width)) >= 1.0
        if (short & over).all():
            break
        width = np.where(short & over, width, 2.0 * width)
    low, high = -width, 1.0 + width
    for _ in range(80):
        middle = 0.5 * (low + high)
        if ((middle <= low) | (middle >= high)).all():
            break
        up = total(tilt(middle)) > 1.0
        low, high = np.where(up, low, middle), np.where(up, middle, high)
    less, more = tilt(low), tilt(high)
    gap = total(more) - total(less)
    share = np.clip((1.0 - total(less)) / np.where(gap > 0.0, gap, 1.0), 0.0, 1.0)
    q = np.where(gap > 0.0, share * more + (1.0 - share) * less, more)
    return np.asarray(q / total(q))


def golden(f: Callable[[Array], Array], top: Array, steps: int = 76) -> Array:
    """argmin over [0, top] of a convex function, elementwise."""
    ratio = (np.sqrt(5.0) - 1.0) / 2.0
    low, high = np.zeros_like(top), top.copy()
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = f(left), f(right)
    for _ in range(steps):
        down = at_left <= at_right
        low, high = np.where(down, low, left), np.where(down, right, high)
        fresh = np.where(down, high - ratio * (high - low), low + ratio * (high - low))
        at_fresh = f(fresh)
        left, right = np.where(down, fresh, right), np.where(down, left, fresh)
        at_left, at_right = np.where(down, at_fresh, at_right), np.where(down, at_left, at_fresh)
    return 0.5 * (low + high)


def garnet(S: int) -> FiniteMDP:
    return FiniteMDP.from_env(
        gymnasium.make("rlentropy/Garnet-v0", num_states=S, num_actions=5, branching=8)
    )


def timed(work: Callable[[], Any], repetitions: int) -> tuple[float, Any]:
    """Median CPU seconds, and the last answer."""
    spent, answer = [], None
    for _ in range(repetitions):
        began = time.process_time()
        answer = work()
        spent.append(time.process_time() - began)
    return float(np.median(spent)), answer


def measured(mdp: FiniteMDP, measure: Callable[[], Any], repetitions: int) -> tuple[float, Any]:
    """A solve, the making of the measure's tables included."""
    return timed(lambda: planning.robust_optimum(mdp, measure(), GAMMA, TOLERANCE), repetitions)


class Report:
    def __init__(self) -> None:
        self.lines = [
            "# python benchmarks/own_divergence.py --csv results/benchmarks/own_divergence.csv",
            f"# load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
            "figure,value,unit",
        ]

    def add(self, figure: str, value: float, unit: str) -> None:
        print(f"{figure:58} {value:12.4g} {unit}", flush=True)
        self.lines.append(f"{figure},{value:.4g},{unit}")


def compare(report: Report, mdp: FiniteMDP, name: str, weight: float, before: bool) -> None:
    f, closed = DIVERGENCES[name]
    problem = f"S={mdp.num_states} {name} κ={weight:g}"
    ours, found = measured(mdp, partial(risk.FDivergencePenalty, weight, f), 3)
    report.add(problem, ours, "s")
    report.add(f"{problem}; width of the bounds", (found.upper - found.lower).max(), "reward")
    if closed is not None:
        seconds, want = measured(mdp, partial(closed, weight), 3)
        report.add(f"{problem}; closed form", seconds, "s")
        report.add(f"{problem}; from its V", np.abs(found.V - want.V).max(), "reward")
    if before and f is not kl_of_numbers:  # which it didn't take
        seconds, want = measured(mdp, partial(Before, weight, f), 1)
        report.add(f"{problem}; before", seconds, "s")
        report.add(f"{problem}; from V before", np.abs(found.V - want.V).max(), "reward")
        report.add(f"{problem}; before / ours", seconds / ours, "ratio")


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--csv", help="also write the figures to this file")
    parser.add_argument("--states", type=int, nargs="+", default=(20, 100, 1000, 5000))
    parser.add_argument("--before", type=int, nargs="+", default=(20, 100))
    options = parser.parse_args()
    print(f"rlentropy {rlentropy.__version__}, γ={GAMMA}, load {os.getloadavg()[0]:.1f}")
    report = Report()
    for S in options.states:
        mdp = garnet(S)
        for name in DIVERGENCES:
            for weight in WEIGHTS:
                compare(report, mdp, name, weight, S in options.before)
    if options.csv:
        Path(options.csv).write_text("\n".join(report.lines) + "\n")


if __name__ == "__main__":
    main()
