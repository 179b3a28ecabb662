# ruff: noqa: E402
"""Discounted planning against quantecon and mdpsolver: same problems, same run, same tolerance.

python benchmarks/planning.py [--csv PATH]

Every solver is asked for bounds on V* that are 1e-6 apart, and its true error is the largest
distance to a reference solved to 1e-10. Medians of 5 repetitions, CPU time, one thread, compiled
code warm, models built beforehand in each solver's own form.

quantecon: modified policy iteration with k = 5, 20 (its default) and 50 sweeps of each policy, and
policy iteration up to 10 000 states, on sparse rows and, where it fits, on the dense kernel. The
fastest whose answer is within the tolerance counts.

mdpsolver: modified policy iteration with both of its updates. The one called standard leaves V off
by a constant, yet the faster counts. A second solve of one model would start from the first's
answer, so each repetition builds its model anew, untimed, while they take less than 5 s.
"""

import os

for _library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # read when numpy and numba are imported

import argparse
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import scipy.sparse as sp

import rlentropy  # registers the environments
from rlentropy import FiniteMDP, planning

GAMMA, TOLERANCE, REPETITIONS = 0.99, 1e-6, 5
PROBLEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "grid 100²": ("GridWorld", {"size": 100}),
    "grid 300²": ("GridWorld", {"size": 300}),
    "garnet b=10": ("Garnet", {"num_states": 1000, "branching": 10}),
    "garnet b=100": ("Garnet", {"num_states": 1000, "branching": 100}),
    "garnet b=1000": ("Garnet", {"num_states": 1000, "branching": 1000}),
}


class Timing(NamedTuple):
    problem: str
    solver: str
    milliseconds: float
    error: float  # max |V - V*|

    @property
    def solves(self) -> bool:
        return self.error <= TOLERANCE


def cpu_ms(solve: Callable[[], Any]) -> float:
    began = time.process_time()
    solve()
    return 1e3 * (time.process_time() - began)


def quantecon_solvers(mdp: FiniteMDP) -> dict[str, Callable[[], Any]]:
    """Each returns V (S,)."""
    DiscreteDP = import_module("quantecon.markov").DiscreteDP
    S, A = mdp.num_states, mdp.num_actions
    s, a = np.divmod(np.arange(S * A), A)
    forms = {"sparse": DiscreteDP(mdp.r.ravel(), sp.csr_matrix(mdp.P), GAMMA, s, a)}
    if S * A * S * 8 < 2**28:
        forms["dense"] = DiscreteDP(mdp.r.copy(), mdp.P.toarray().reshape(S, A, S), GAMMA)

    def solver(ddp: Any, method: str, k: int = 20) -> Callable[[], Any]:
        return lambda: ddp.solve(method, epsilon=TOLERANCE, k=k).v

    solvers = {
        f"quantecon mpi {form} k={k}": solver(ddp, "modified_policy_iteration", k)
        for form, ddp in forms.items()
        for k in (5, 20, 50)
    }
    if S <= 10_000:
        form, ddp = list(forms.items())[-1]
        solvers[f"quantecon pi {form}"] = solver(ddp, "policy_iteration")
    return solvers


def time_mdpsolver(problem: str, mdp: FiniteMDP, reference: Any) -> list[Timing]:
    mdpsolver = import_module("mdpsolver")
    P, (S, A) = mdp.P, mdp.r.shape
    values, columns = (np.split(x, P.indptr[1:-1]) for x in (P.data, P.indices))
    nested = [
        [[rows[s * A + a].tolist() for a in range(A)] for s in range(S)]
        for rows in (values, columns)
    ]
    found = []
    for update in ("standard", "gs"):
        spent: list[float] = []
        while len(spent) < REPETITIONS and (not spent or sum(spent) < 5000):
            model = mdpsolver.model()
            model.mdp(GAMMA, mdp.r.tolist(), tranMatProbs=nested[0], tranMatColumns=nested[1])
            options = {"postProcessing": False, "makeFinalCheck": False, "parallel": False}
            began = time.process_time()
            model.solve("mpi", TOLERANCE, update, **options)
            spent.append(1e3 * (time.process_time() - began))
        error = float(np.abs(np.array(model.getValueVector()) - reference).max())
        name = f"mdpsolver mpi {update}"
        found.append(Timing(problem, name, float(np.median(spent)), error))
    return found


def time_problem(problem: str, mdp: FiniteMDP) -> list[Timing]:
    reference = planning.optimum(mdp, GAMMA, 1e-10).V
    solvers: dict[str, Callable[[], Any]] = {
        "rlentropy optimum": lambda: planning.optimum(mdp, GAMMA, TOLERANCE).V
    }
    if find_spec("quantecon"):
        solvers |= quantecon_solvers(mdp)
    errors = {name: float(np.abs(solve() - reference).max()) for name, solve in solvers.items()}
    spent: dict[str, list[float]] = {name: [] for name in solvers}
    for _ in range(REPETITIONS):  # in turns, so that a busy moment hits all of them
        for name, solve in solvers.items():
            spent[name].append(cpu_ms(solve))
    found = [Timing(problem, k, float(np.median(spent[k])), errors[k]) for k in solvers]
    return found + (time_mdpsolver(problem, mdp, reference) if find_spec("mdpsolver") else [])


def verdicts(timings: list[Timing]) -> list[tuple[str, float, float]]:
    """(peer, how many times faster we are, how many times we want to be)."""
    ours, grid = timings[0], timings[0].problem.startswith("grid")
    found = []
    for peer, target in (("quantecon", 2.0 if grid else 1 / 1.1), ("mdpsolver", 5.0)):
        rivals = [x for x in timings if x.solver.startswith(peer)]
        rivals = [x for x in rivals if x.solves or peer == "mdpsolver"]
        if rivals:
            fastest = min(x.milliseconds for x in rivals)
            found.append((peer, fastest / ours.milliseconds, target))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--csv", help="also write the figures to this file")
    path = parser.parse_args().csv
    lines = [
        "# python benchmarks/planning.py --csv results/benchmarks/planning.csv",
        "problem,solver,cpu_ms,error",
    ]
    print(
        f"discounted optimum, γ={GAMMA}, tolerance {TOLERANCE}, rlentropy {rlentropy.__version__}"
    )
    for peer in ("quantecon", "mdpsolver"):
        if not find_spec(peer):
            print(f"{peer} is not installed: pip install 'rlentropy[bench]'")
    for problem, (name, options) in PROBLEMS.items():
        mdp = FiniteMDP.from_env(gymnasium.make(f"rlentropy/{name}-v0", **options))
        timings = time_problem(problem, mdp)
        print(f"\n{problem}: {mdp}")
        for x in timings:
            note = "" if x.solves else "  not within the tolerance"
            print(f"  {x.solver:32} {x.milliseconds:10.2f} ms   error {x.error:.1e}{note}")
            lines.append(f"{x.problem},{x.solver},{x.milliseconds:.4g},{x.error:.2g}")
        for peer, ratio, target in verdicts(timings):
            met = "met" if ratio >= target else "MISSED"
            print(f"  {ratio:.2f}x as fast as {peer}'s best, target {target:.2f}x: {met}")
    if path:
        with open(path, "w") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
