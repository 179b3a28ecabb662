# ruff: noqa: E402
"""Certificates of discounted planning near γ = 1, against values in 60 digits.

python benchmarks/certificates.py [--solves N] [--entropies N] [--workers N] [--summary PATH] …

Each solve draws an MDP of a few states (`small_mdps`), a discount up to 1 - 1e-8, scale and offset
of the rewards, a measure, a solver with its arguments and a tolerance, asks rlentropy, and compares
with `exact` in exact arithmetic:

    miss      |V - V*| > tolerance at some state, or the returned policy loses more than that
    outside   V* not in [lower, upper] at some state
    astray    V not in [lower, upper] at some state, or not 0 though the state is terminal
    refused   RuntimeError; `attained` says whether the tolerance that its text names is then met
    idle      refused although the tolerance is above 100 ε (max |V*| + max |r|) / (1 - γ)
    late      no answer within --limit seconds

Optima of exploration (--entropies) come with their numbers below 0 and the style "entropy": there
the certificate is the width, and the optimum is outside if it is above value + certificate.

Solve k depends on --seed and k alone. Lines are added to the CSV as they come, and those that are
there already are not done again, so a stopped study goes on.
"""

import os

for _library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # read when numpy and numba are imported

import argparse
import csv
import math
import multiprocessing
import re
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import exact
import numpy as np
from exact import entropies
from small_mdps import STYLES, Arrays, kernel

from rlentropy import FiniteMDP, planning, risk

GAMMAS = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, *(1.0 - 10.0**-k for k in (6, 7, 8)))
OFFSETS = (0.0, 0.0, 0.0, 1e6, -1e6)
SCALES = (1.0, 1.0, 1e-9, 1e9)
METHODS = ("newton", "policy-iteration", "value-iteration")
PARAMETERS: dict[str, Callable[[np.random.Generator], tuple[float, ...]]] = {
    "mean-cvar": lambda rng: (round(rng.random(), 3), round(rng.uniform(0.05, 1.0), 3)),
    "cvar": lambda rng: (round(rng.uniform(0.05, 1.0), 3),),
    "contamination": lambda rng: (round(rng.uniform(0.0, 0.5), 3),),
    "cressie-read-penalty": lambda rng: (size(rng), float(rng.choice([-1, 0.5, 1.5, 2, 3]))),
    "nominal": lambda rng: (),
    "worst-case": lambda rng: (),
}


def size(rng: np.random.Generator) -> float:
    """A radius, weight or risk aversion."""
    return float(f"{10.0 ** rng.uniform(-3.0, 1.0):.3g}")


@dataclass(frozen=True)
class Case:
    """What is asked."""

    solve: int
    style: str
    model: Arrays
    gamma: float
    scale: float
    offset: float
    measure: str
    support: str | None
    solver: str  # optimum, a method of robust_optimum, or evaluation
    policy: str  # of an evaluation
    start: str  # of an evaluation
    tolerance: float
    pi: Any  # (S, A)


@dataclass
class Line:
    """What came."""

    solve: int
    style: str
    states: int
    actions: int
    gamma: str
    scale: float
    offset: float
    measure: str
    support: str
    solver: str
    policy: str
    start: str
    tolerance: float
    rounding: float  # ε (max |V*| + max |r|) / (1 - γ): about what float64 can attain
    outcome: str  # answered, refused, late, or the name of another exception
    error: float | None = None  # max |V - V*|
    loss: float | None = None  # max (V* - V^π) of the returned policy
    width: float | None = None  # max (upper - lower)
    outside: int | None = None  # states with V* outside of the bounds
    astray: int | None = None  # states with V outside of the bounds, or terminal with V not 0
    attainable: float | None = None  # the tolerance that a refusal names
    attained: bool | None = None  # whether it is met
    ms: float = 0.0

    @property
    def missed(self) -> bool:
        found = max(self.error or 0.0, self.loss or 0.0)
        return self.outcome == "answered" and not found <= self.tolerance

    @property
    def idle(self) -> bool:
        """Refused though far above rounding."""
        return self.outcome == "refused" and self.tolerance > 100.0 * self.rounding


def draw(seed: int, solve: int) -> Case:
    rng = np.random.default_rng([seed, solve])
    style = list(STYLES)[solve % len(STYLES)]  # all in turn
    P, r, terminal = STYLES[style](rng)
    gamma = float(rng.choice(GAMMAS))
    scale, offset = float(rng.choice(SCALES)), float(rng.choice(OFFSETS))
    r = scale * (r + offset)
    r[terminal] = 0.0
    S, A = P.shape[:2]
    solver = str(rng.choice(["optimum", *METHODS, "evaluation", "evaluation", "markov"]))
    names = [*exact.NATURE] if r.ndim == 3 or solver == "markov" else [*exact.NATURE, *exact.JOINT]
    name = str(rng.choice(names)) if solver != "optimum" else "nominal"
    if solver == "markov" and r.ndim == 3:
        solver = "evaluation"
    numbers = PARAMETERS.get(name, lambda rng: (size(rng),))(rng)
    policy, start, pi = "", "", None
    if solver in ("evaluation", "markov"):
        policy = str(rng.choice(["random", "uniform", "deterministic"]))
        start = str(rng.choice(["default", "zero", "far", "random"]))
        pi = rng.dirichlet(np.ones(A), S) if policy == "random" else np.full((S, A), 1.0 / A)
        if policy == "deterministic":
            pi = np.eye(A)[rng.integers(A, size=S)]
    largest = float(np.abs(r).max()) / (1.0 - gamma) or 1.0
    reach = np.finfo(float).eps * largest / (1.0 - gamma)  # about the best that float64 can do
    relative = [1e-10 * largest, 1e-13 * largest, 200.0 * reach, 1000.0 * reach, 1e5 * reach]
    tolerance = float(rng.choice([1e-8, 1e-8 * scale, 1e-6 * scale, 1e-6, *relative]))
    return Case(
        solve, style, Arrays(P, r, terminal), gamma, scale, offset,
        ":".join([name, ",".join(map(str, numbers))]).rstrip(":"),
        [None, None, "full"][rng.integers(3)], solver, policy, start, tolerance, pi,
    )  # fmt: skip


def truth(case: Case, pi: Any = None) -> list[Decimal]:
    """V*, or V^π, in 60 digits."""
    P, r, terminal = case.model
    model = exact.Model.of(P, r, case.gamma, terminal)
    pi = case.pi if pi is None else pi
    if case.solver == "markov":
        return exact.markov_evaluation(model, pi, case.measure, case.support)
    if pi is not None:
        return exact.evaluation(model, pi, case.measure, case.support)
    return exact.optimum(model, case.measure, case.support)


def ask(case: Case, tolerance: float) -> Any:
    """The answer of the solver under test."""
    P, r, terminal = case.model
    S = len(P)
    mdp = FiniteMDP(P, r, np.full(S, 1.0 / S), terminal=terminal)
    if case.solver == "optimum":
        return planning.optimum(mdp, case.gamma, tolerance)
    measure = risk.parse(case.measure, case.support)
    if case.pi is None:
        return planning.robust_optimum(mdp, measure, case.gamma, tolerance, method=case.solver)
    far = 10.0 * float(np.abs(r).max() + case.scale) / (1.0 - case.gamma)
    noise = np.random.default_rng(case.solve).normal(size=S)
    start = {"zero": 0.0 * noise, "far": np.full(S, far), "random": far * noise}.get(case.start)
    options = {"markov_risk": case.solver == "markov", "start": start}
    return planning.robust_evaluation(mdp, case.pi, measure, case.gamma, tolerance, **options)


class Late(Exception):
    pass


@contextmanager
def limit(seconds: float | None) -> Any:
    if seconds is None:
        yield
        return

    def stop(*_: Any) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


NAMED = re.compile(r"attain\D*?(\d[\d.]*(?:e[+-]?\d+)?)")  # the first number after the word


def run(case: Case, seconds: float | None = None) -> Line:
    """One solve, and for a refusal a second one with the tolerance that it names."""
    V = truth(case)
    S, A = case.model.P.shape[:2]
    gamma = f"1-1e-{round(-math.log10(1 - case.gamma))}" if case.gamma > 0.99 else str(case.gamma)
    largest = float(max(abs(x) for x in V))
    line = Line(
        case.solve, case.style, S, A, gamma, case.scale, case.offset, case.measure,
        case.support or "default", case.solver, case.policy, case.start, case.tolerance,
        float(np.finfo(float).eps * (largest + np.abs(case.model.r).max()) / (1.0 - case.gamma)),
        "answered",
    )  # fmt: skip
    began = time.process_time()
    try:
        with limit(seconds):
            found = ask(case, case.tolerance)
    except RuntimeError as error:
        line.outcome = "refused"
        line.ms = 1e3 * (time.process_time() - began)
        if named := NAMED.search(str(error)):
            line.attainable = float(named[1])
            line.attained = meets(case, V, line.attainable, seconds)
        return line
    except Late:
        line.outcome = "late"
    except Exception as error:
        line.outcome = type(error).__name__
    line.ms = 1e3 * (time.process_time() - began)
    if line.outcome == "answered":
        judge(case, V, found, line)
    return line


def judge(case: Case, V: list[Decimal], found: Any, line: Line) -> None:
    with exact.context():
        low, high, given = (
            [Decimal(float(x)) for x in part] for part in (found.lower, found.upper, found.V)
        )
        line.error = rounded_up(max(abs(x - y) for x, y in zip(V, given, strict=True)))
        line.width = rounded_up(max(y - x for x, y in zip(low, high, strict=True)))
        every = list(zip(low, V, given, high, case.model.terminal, strict=True))
        line.outside = sum(not x <= v <= y for x, v, _, y, _ in every)
        line.astray = sum(not x <= g <= y or bool(end and g) for x, _, g, y, end in every)
        if case.pi is None:
            achieved = truth(case, found.pi)
            line.loss = rounded_up(max(x - y for x, y in zip(V, achieved, strict=True)))


def rounded_up(x: Decimal) -> float:
    """The least float that is no less, so that comparisons with a tolerance stay exact."""
    near = float(x)
    return near if Decimal(near) >= x else math.nextafter(near, math.inf)


def meets(case: Case, V: list[Decimal], tolerance: float, seconds: float | None) -> bool:
    try:
        with limit(seconds):
            found = ask(case, tolerance)
    except (RuntimeError, ValueError, Late):
        return False
    with exact.context():
        pairs = zip(V, found.V, strict=True)
        return all(abs(x - Decimal(float(y))) <= Decimal(tolerance) for x, y in pairs)


OBJECTIVES = ("TE", "TE+", "VE", "VE_S", "AVE", "AVE_S")


def explore(seed: int, k: int) -> Line:
    """One optimum of an entropy over two or three stages, all objectives in turn."""
    rng = np.random.default_rng([seed, 1, k])
    objective = OBJECTIVES[k % len(OBJECTIVES)]
    S, horizon = int(rng.integers(2, 4)), int(rng.integers(2, 4))
    P, mu = kernel(rng, S, 2, 3), rng.dirichlet(np.ones(S))
    mu = np.eye(S)[0] if rng.random() < 0.5 else mu
    episodes = entropies.Episodes.of(P, mu, horizon)
    low, high = entropies.optimum(episodes, objective)
    line = Line(
        -1 - k, "entropy", S, 2, f"H={horizon}", 1.0, 0.0, objective, "", "exploration", "", "",
        1e-8 if objective in ("TE", "TE+", "VE") else 1e-5, float(np.finfo(float).eps) * 10.0,
        "answered",
    )  # fmt: skip
    mdp = FiniteMDP(P, np.zeros((S, 2)), mu)
    began = time.process_time()
    try:
        if objective.startswith("TE"):
            found = planning.max_trajectory_entropy(mdp, horizon, objective == "TE+")
        else:
            found = planning.max_visitation_entropy(mdp, horizon, objective)
    except RuntimeError:
        line.outcome = "refused"
        return line
    line.ms = 1e3 * (time.process_time() - began)
    reached = entropies.of_policy(episodes, found.pi, objective)
    with exact.context():
        value, certificate = Decimal(found.value), Decimal(found.certificate)
        line.error = rounded_up(abs(reached - value))
        line.loss = rounded_up(high - reached)
        line.width = float(found.certificate)
        line.outside = int(low > value + certificate)
        line.astray = int(certificate < 0)
    return line


def solve(seed: int, seconds: float, k: int) -> Line:
    return run(draw(seed, k), seconds) if k >= 0 else explore(seed, -1 - k)


def summary(lines: Iterable[Line]) -> list[dict[str, Any]]:
    """Counts over all solves, and by discount, style, measure and solver; `s` is CPU seconds."""
    lines = list(lines)
    groups: dict[str, Callable[[Line], str]] = {
        "": lambda x: "all",
        "gamma": lambda x: x.gamma,
        "style": lambda x: x.style,
        "measure": lambda x: x.measure.partition(":")[0],
        "solver": lambda x: x.solver,
    }
    return [
        {"by": by, "name": name} | counts([x for x in lines if key(x) == name])
        for by, key in groups.items()
        for name in dict.fromkeys(sorted((key(x) for x in lines), key=str.casefold))
    ]


def counts(lines: list[Line]) -> dict[str, Any]:
    answered = [x for x in lines if x.outcome == "answered"]
    refused = [x for x in lines if x.outcome == "refused"]
    return {
        "solves": len(lines),
        "answered": len(answered),
        "refused": len(refused),
        "late": len(lines) - len(answered) - len(refused),
        "misses": sum(x.missed for x in lines),
        "outside": sum(bool(x.outside) for x in answered),
        "astray": sum(bool(x.astray) for x in answered),
        "idle": sum(x.idle for x in lines),
        "named": sum(x.attainable is not None for x in refused),
        "attained": sum(bool(x.attained) for x in refused),
        "s": round(sum(x.ms for x in lines) / 1e3, 2),
    }


def read(path: Path) -> list[Line]:
    """The lines of a study that was stopped."""
    kinds = {f.name: f.type for f in fields(Line)}

    def parse(kind: Any, text: str) -> Any:
        if text == "":
            return "" if kind is str else None
        if kind == bool | None:
            return text == "True"
        return (
            int(text) if kind == int | None else kind(text) if kind in (int, str) else float(text)
        )

    with open(path, newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return [Line(**{k: parse(kinds[k], v) for k, v in row.items()}) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--solves", type=int, default=2600)
    parser.add_argument("--entropies", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--limit", type=float, default=30.0, help="seconds for one answer")
    parser.add_argument("--csv", type=Path, help="where lines are kept, and a study goes on")
    parser.add_argument("--summary", type=Path, help="a CSV file for the table")
    options = parser.parse_args()
    command = (
        f"python benchmarks/certificates.py --seed {options.seed} --solves {options.solves}"
        f" --entropies {options.entropies}"
    )
    lines: list[Line] = []
    if options.csv and options.csv.exists():
        lines = read(options.csv)
    elif options.csv:
        with open(options.csv, "w") as file:
            file.write(f"# {command} --csv {options.csv}\n")
            csv.writer(file).writerow(f.name for f in fields(Line))
    there = {line.solve for line in lines}
    every = [*range(options.solves), *range(-1, -1 - options.entropies, -1)]
    wanted = [k for k in every if k not in there]
    with multiprocessing.Pool(options.workers) as pool:
        for line in pool.imap_unordered(partial(solve, options.seed, options.limit), wanted):
            lines.append(line)
            if options.csv:
                with open(options.csv, "a", newline="") as file:
                    csv.writer(file).writerow(asdict(line).values())
    table = summary(lines)
    print("".join(f"{name:>22}" if name == "name" else f"{name:>9}" for name in table[0]))
    for row in table:
        print("".join(f"{x:>22}" if name == "name" else f"{x:>9}" for name, x in row.items()))
    if options.summary:
        with open(options.summary, "w", newline="") as file:
            file.write(f"# {command} --summary {options.summary}\n")
            writer = csv.DictWriter(file, table[0])
            writer.writeheader()
            writer.writerows(table)


if __name__ == "__main__":
    main()
