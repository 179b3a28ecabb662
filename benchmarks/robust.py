# ruff: noqa: E402
"""Robust planning: Bellman sweeps, solves against the published CRAAM2 figures, a large problem.

python benchmarks/robust.py [--csv PATH] [--only sweeps solves large]

CPU time, medians of 7 repetitions (solves: 5) taken in turns, one thread, compiled code warm, all
in one run. Two kinds of figures are not of this run: CRAAM2's, published for the same problems on
another machine, and the targets.

sweeps: the backups of all (s, a) at the first 5 iterates of value iteration from the nominal
optimum, per stored transition. So V changes between calls as it does in a solver, whose warm starts
and kept orders count. The rivals sweep the same V on padded dense rows by a log-sum-exp per row: in
plain numpy, by scipy's function and by torch's.

solves: bounds on V* that are 1e-6 apart, for the L1 ball of radius 0.2. Errors are the largest
distance to a reference solved to 1e-10. The yardstick is robust value iteration in plain numpy: it
sorts every row in every sweep, and stops on the span as ours does, without which it takes hundreds
of sweeps more. It runs once.

large: entropic risk, 100 000 states, 4 actions, 8 successors, in a process of its own. Memory is
the peak of what the solve allocates, by tracemalloc, which sees all of numpy's arrays.
"""

import os

for _library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # read when numpy and numba are imported

import argparse
import multiprocessing
import time
import tracemalloc
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from scipy.special import logsumexp

import rlentropy  # registers the environments
from rlentropy import FiniteMDP, planning, risk
from rlentropy.planning.nature import Nature
from rlentropy.planning.robust import METHODS
from rlentropy.types import Array

GAMMA, TOLERANCE, RADIUS, REPETITIONS, ITERATES = 0.99, 1e-6, 0.2, 7, 5
PROBLEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "garnet b=10": ("Garnet", {"num_states": 1000, "num_actions": 10, "branching": 10}),
    "garnet b=100": ("Garnet", {"num_states": 1000, "num_actions": 10, "branching": 100}),
    "grid 100²": ("GridWorld", {"size": 100}),
}
CRAAM2 = {"garnet b=10": 166.0, "garnet b=100": 1744.0, "grid 100²": 2364.0}  # ms, published
MEASURES: dict[str, tuple[risk.Measure, float]] = {  # and the target, ns per transition
    "nominal": (risk.Nominal(), 0.0),
    "entropic": (risk.Entropic(1.0), 1.0),
    "L1 penalty": (risk.L1Penalty(0.5), 2.0),
    "L1 penalty, full support": (risk.L1Penalty(0.5, "full"), 2.0),
    "contamination": (risk.Contamination(0.1), 0.0),
    "L1 (TV) ball": (risk.L1Ball(RADIUS), 2.0),
    "L1 (TV) ball, full support": (risk.L1Ball(RADIUS, "full"), 2.0),
    "CVaR": (risk.CVaR(0.2), 0.0),
    "L∞ ball": (risk.LinfBall(0.05), 0.0),
    "KL ball": (risk.KLBall(0.1), 10.0),
    "χ² penalty": (risk.Chi2Penalty(0.5), 0.0),
    "χ² ball": (risk.Chi2Ball(0.2), 0.0),
    "Wasserstein penalty": (risk.WassersteinPenalty(0.01), 0.0),
}
SLOW = ("χ² penalty", "χ² ball", "Wasserstein penalty")  # numpy, on the smallest problem only


class Padded(NamedTuple):
    """Rows of one length: p = 0 where a row is shorter."""

    r: Array  # (S, A); 0 where rewards depend on the successor
    p: Array  # (S*A, n)
    successor: Any  # (S*A, n)
    bonus: Any  # those rewards over γ, (S*A, n), or 0

    def values(self, V: Array) -> Array:
        """V + r / γ, (S*A, n)."""
        return np.asarray(V[self.successor] + self.bonus)

    def Q(self, W: Array) -> Array:
        return np.asarray(self.r + GAMMA * W.reshape(self.r.shape))


class Report:
    """Prints each figure beside its target, and keeps it for the CSV file."""

    def __init__(self) -> None:
        self.lines = [
            "# python benchmarks/robust.py --csv results/benchmarks/robust.csv",
            f"# load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
            "figure,value,unit,target,met",
        ]

    def add(self, figure: str, value: float, unit: str, least: float = 0, most: float = 0) -> None:
        """At most one of `least` and `most`, the target; none for a figure that only informs."""
        target = f">= {least:g}" if least else f"<= {most:g}" if most else ""
        met = (value >= least if least else value <= most) if target else None
        verdict = "" if met is None else f"target {target}: {'met' if met else 'MISSED'}"
        print(f"{figure:52} {value:12,.4g} {unit:18} {verdict}", flush=True)
        word = "" if met is None else "yes" if met else "no"
        self.lines.append(f"{figure.replace(',', ';')},{value:.4g},{unit},{target},{word}")


def cpu_s(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def medians(works: dict[str, Callable[[], Any]], repetitions: int) -> dict[str, float]:
    """CPU seconds of each, taken in turns so that a busy moment hits all of them."""
    for work in works.values():
        work()
    spent: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repetitions):
        for name, work in works.items():
            spent[name].append(cpu_s(work))
    return {name: float(np.median(times)) for name, times in spent.items()}


def make(name: str, options: dict[str, Any]) -> FiniteMDP:
    return FiniteMDP.from_env(gymnasium.make(f"rlentropy/{name}-v0", **options))


def padded(mdp: FiniteMDP) -> Padded:
    begin, count = mdp.P.indptr[:-1, None], np.diff(mdp.P.indptr)[:, None]
    column = np.arange(count.max())
    inside = column < count
    at = np.where(inside, begin + column, begin)
    p = np.where(inside, mdp.P.data[at], 0.0)
    successor = mdp.P.indices[at].astype(np.int64)
    if mdp.r_successor is None:
        return Padded(mdp.r, p, successor, 0.0)
    return Padded(np.zeros(mdp.r.shape), p, successor, mdp.r_successor[at] / GAMMA)


# ---------------------------------------------------------------------------------- sweeps


def iterates(nature: Nature, V: Array) -> list[Array]:
    """What value iteration passes through."""
    found = []
    for _ in range(ITERATES):
        V = nature.backup(V).max(1)
        found.append(V)
    return found


def sweep(nature: Nature, path: list[Array]) -> Callable[[], None]:
    def work() -> None:
        for V in path:
            nature.backup(V)

    return work


def numpy_entropic(rows: Padded, V: Array, beta: float) -> Array:
    """Q (S, A), with each row's own shift."""
    z = rows.values(V)
    low = z.min(1, keepdims=True)
    total = (rows.p * np.exp(-beta * (z - low))).sum(1)
    return rows.Q(low[:, 0] - np.log(total) / beta)


def scipy_entropic(rows: Padded, V: Array, beta: float) -> Array:
    return rows.Q(-logsumexp(-beta * rows.values(V), axis=1, b=rows.p) / beta)


def torch_entropic(rows: Padded, beta: float) -> Callable[[Array], Any]:
    import torch

    torch.set_num_threads(1)
    r, successor = torch.tensor(rows.r), torch.tensor(rows.successor)
    log_p = torch.log(torch.tensor(rows.p)) - beta * torch.tensor(rows.bonus)  # rewards built in

    def backup(V: Array) -> Any:
        W = -torch.logsumexp(log_p - beta * torch.tensor(V)[successor], 1) / beta
        return r + GAMMA * W.reshape(r.shape)

    return backup


def time_sweeps(report: Report, problem: str, mdp: FiniteMDP) -> None:
    start = planning.optimum(mdp, GAMMA, TOLERANCE).V
    work: dict[str, Callable[[], Any]] = {}
    for name, (measure, _) in MEASURES.items():
        if name in SLOW and problem != "garnet b=10":
            continue
        nature = Nature(mdp, measure, GAMMA)
        work[name] = sweep(nature, iterates(nature, start))
    entropic, rows = Nature(mdp, risk.Entropic(1.0), GAMMA), padded(mdp)
    path = iterates(entropic, start)
    want = entropic.backup(path[-1])
    for name, rival in (("numpy", numpy_entropic), ("scipy", scipy_entropic)):
        np.testing.assert_allclose(rival(rows, path[-1], 1.0), want, rtol=1e-9)
        work[f"entropic in {name}"] = lambda f=rival: [f(rows, V, 1.0) for V in path]
    if find_spec("torch"):
        backup = torch_entropic(rows, 1.0)
        np.testing.assert_allclose(backup(path[-1]).numpy(), want, rtol=1e-9)
        work["entropic in torch"] = lambda: [backup(V) for V in path]
    found = medians(work, REPETITIONS)
    dense = problem == "garnet b=100"
    for name, seconds in found.items():
        ns = 1e9 * seconds / (ITERATES * mdp.P.nnz)
        target = MEASURES[name][1] if name in MEASURES else 0.0
        # entropic sweeps have a target at b = 100 alone, L1 and KL on grids too
        report.add(
            f"{problem} {name}", ns, "ns per transition", most=target if dense or target > 1 else 0
        )
    ratio = found["entropic"] / found["nominal"]
    report.add(f"{problem} entropic / nominal", ratio, "ratio", most=1.5 if dense else 0)
    for name in found:
        if name.startswith("entropic in "):
            ratio = found[name] / found["entropic"]
            report.add(f"{problem} {name} / ours", ratio, "ratio", least=10.0 if dense else 0)


# ---------------------------------------------------------------------------------- solves


def numpy_l1(rows: Padded, V: Array, radius: float) -> Array:
    """Q (S, A): the L1 ball moves radius / 2 from each row's highest states to its lowest."""
    z = np.where(rows.p > 0.0, rows.values(V), np.inf)
    order = np.argsort(z, axis=1)
    z, p = np.take_along_axis(z, order, 1), np.take_along_axis(rows.p, order, 1)
    z = np.where(p > 0.0, z, 0.0)
    moved = np.minimum(0.5 * radius, 1.0 - p[:, 0])
    above = np.cumsum(p[:, ::-1], 1)[:, ::-1] - p  # the mass of higher states, which gives first
    given = np.clip(moved[:, None] - above, 0.0, p)
    return rows.Q((p * z).sum(1) - (given * z).sum(1) + given.sum(1) * z[:, 0])


def numpy_iteration(rows: Padded) -> tuple[Array, int]:
    """V within TOLERANCE, and how many sweeps that takes."""
    V, sweeps, scale = np.zeros(len(rows.r)), 0, GAMMA / (1.0 - GAMMA)
    while True:
        change = numpy_l1(rows, V, RADIUS).max(1) - V
        sweeps += 1
        V = V + change
        if scale * np.ptp(change) <= TOLERANCE:
            return V + scale * 0.5 * (change.min() + change.max()), sweeps


def time_solves(report: Report, problem: str, mdp: FiniteMDP) -> None:
    measure = risk.L1Ball(RADIUS)
    reference = planning.robust_optimum(mdp, measure, GAMMA, 1e-10).V
    answers: dict[str, Any] = {}

    def solver(method: Any) -> Callable[[], None]:
        def work() -> None:
            found = planning.robust_optimum(mdp, measure, GAMMA, TOLERANCE, method=method)
            answers[method] = (found.V, found.iterations)

        return work

    spent = medians({method: solver(method) for method in METHODS}, 5)
    rows = padded(mdp)
    spent["numpy value iteration"] = cpu_s(
        lambda: answers.update({"numpy value iteration": numpy_iteration(rows)})
    )
    for name, seconds in spent.items():
        V, sweeps = answers[name]
        report.add(f"{problem} L1 {name}", 1e3 * seconds, "ms")
        report.add(f"{problem} L1 {name}, sweeps", sweeps, "sweeps")
        report.add(f"{problem} L1 {name}, error", np.abs(V - reference).max(), "max |V - V*|")
    ours = spent["newton"]
    ratio = spent["numpy value iteration"] / ours
    report.add(f"{problem} L1 numpy value iteration / newton", ratio, "ratio")
    published = CRAAM2[problem]
    report.add(f"{problem} L1 CRAAM2 partial policy iteration (published)", published, "ms")
    report.add(
        f"{problem} L1 published CRAAM2 / newton", published / (1e3 * ours), "ratio", least=15.0
    )


# ----------------------------------------------------------------------------------- large


def solve_large(queue: Any) -> None:
    small = make("Garnet", {"num_states": 100, "num_actions": 4, "branching": 8})
    planning.robust_optimum(small, risk.Entropic(1.0), GAMMA, TOLERANCE)  # compiles
    mdp = make("Garnet", {"num_states": 100_000, "num_actions": 4, "branching": 8})

    def solve() -> Any:
        return planning.robust_optimum(mdp, risk.Entropic(1.0), GAMMA, TOLERANCE)

    spent = [cpu_s(solve) for _ in range(5)]
    tracemalloc.start()
    found = solve()
    growth = tracemalloc.get_traced_memory()[1] / 2**20
    rows = mdp.rows
    model = sum(a.nbytes for a in (rows.begin, rows.end, rows.successor, rows.p, mdp.r)) / 2**20
    width = float((found.upper - found.lower).max())
    queue.put((float(np.median(spent)), found.iterations, width, model, growth))


def time_large(report: Report) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=solve_large, args=(queue,))
    process.start()
    seconds, sweeps, width, model, growth = queue.get()
    process.join()
    name = "S=100 000 A=4 b=8 entropic"
    report.add(name, seconds, "s")
    report.add(f"{name}, sweeps", sweeps, "sweeps")
    report.add(f"{name}, width of the bounds", width, "reward", most=TOLERANCE)
    report.add(f"{name}, the model", model, "MB")
    report.add(f"{name}, the solve beside it", growth, "MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--csv", help="also write the figures to this file")
    parts = ("sweeps", "solves", "large")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    options = parser.parse_args()
    print(f"rlentropy {rlentropy.__version__}, γ={GAMMA}, load {os.getloadavg()[0]:.1f}")
    report = Report()
    problems = {name: make(*given) for name, given in PROBLEMS.items()}
    if "sweeps" in options.only:
        for name, mdp in problems.items():
            time_sweeps(report, name, mdp)
    if "solves" in options.only:
        for name, mdp in problems.items():
            time_solves(report, name, mdp)
    if "large" in options.only:
        time_large(report)
    if options.csv:
        Path(options.csv).write_text("\n".join(report.lines) + "\n")


if __name__ == "__main__":
    main()
