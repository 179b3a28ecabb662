# ruff: noqa: E402
"""Speed of EntGame, of tabular rollouts, and of the first solve in a fresh process.

python benchmarks/exploration.py [--csv PATH]

Medians of 7 repetitions, CPU time (the fresh process: wall time), one thread, kernels warm.

EntGame plays GridWorld for H = 50 after 6 S episodes of learning; its figure is the time of whole
episodes (plan, play, learn) per (h, s, a). The rival is the planner alone, in dense numpy written
from the equations, on the same counts: P̂ (S*A, S) is built untimed, and both must find the same V.
Two more things an episode may do are switched on one by one: `exact` books the exact occupancies
of the played policy under the true model, which is for evaluation only, and `reservoir` keeps 32 of
the played policies.
"""

import os

for _library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # read when numpy and numba are imported

import argparse
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from rlentropy import FiniteMDP
from rlentropy.exploration import reg_entgame, ucbvi_ent
from rlentropy.exploration.entgame import Config, EntGame
from rlentropy.exploration.game import GameLearner
from rlentropy.exploration.reg_entgame import RegEntGame
from rlentropy.exploration.setting import Setting
from rlentropy.exploration.ucbvi_ent import UCBVIEnt
from rlentropy.kernels.sampling import rollout
from rlentropy.types import Array, Count

H, REPETITIONS = 50, 7
EPISODES_PER_STATE = 6  # of learning before the clock starts, so that rows are about as full
SIZES = (11, 21, 41)
ROLLOUT_EPISODES = 20_000
FIRST_SOLVE = """
import gymnasium
import rlentropy
from rlentropy import FiniteMDP, planning
mdp = FiniteMDP.from_env(gymnasium.make("rlentropy/RiverSwim-v0"))
planning.optimum(mdp, 0.95)
"""


def median_cpu_s(work: Callable[[], Any]) -> float:
    spent = []
    for _ in range(REPETITIONS):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return float(np.median(spent))


class Report:
    """Prints each figure beside its target, and keeps it for the CSV file."""

    def __init__(self) -> None:
        self.lines = [
            "# python benchmarks/exploration.py --csv results/benchmarks/exploration.csv",
            "figure,value,unit,target,met",
        ]

    def add(self, figure: str, value: float, unit: str, least: float = 0, most: float = 0) -> None:
        """At most one of `least` and `most`, the target; none for a figure that only informs."""
        target = f">= {least:g}" if least else f"<= {most:g}" if most else ""
        met = (value >= least if least else value <= most) if target else None
        verdict = "" if met is None else f"target {target}: {'met' if met else 'MISSED'}"
        print(f"{figure:48} {value:14,.3f} {unit:16} {verdict}")
        word = "" if met is None else "yes" if met else "no"
        self.lines.append(f"{figure},{value:.4g},{unit},{target},{word}")


def grid(size: int) -> gymnasium.Env[Any, Any]:
    return gymnasium.make("rlentropy/GridWorld-v0", size=size)


def dense_kernel(learner: GameLearner) -> Array:
    """P̂ (S*A, S) from the transition counts; a row that was never visited is uniform."""
    S, A = learner.setting.num_states, learner.setting.num_actions
    state = learner.model.state_dict()
    n = np.zeros((S * A, S))
    n[np.repeat(np.arange(S * A), state["length"]), state["successor"]] = state["hits"]
    N = n.sum(1, keepdims=True)
    return np.where(N > 0, n / np.maximum(N, 1), 1 / S)


def dense_plan(P: Array, visits: Count, episodes: int) -> Array:
    """V (H + 1, S) for reward log 1/d̄ with n_0 = 1: V_h = max_a r_h + P̂ V_{h+1}."""
    _, S, A = visits.shape
    r = np.log(episodes + S * A) - np.log(visits + 1.0)
    V = np.zeros((H + 1, S))
    for h in reversed(range(H)):
        V[h] = (r[h] + (P @ V[h + 1]).reshape(S, A)).max(1)
    return V


def time_entgame(report: Report) -> None:
    figures: dict[str, list[float]] = defaultdict(list)
    for size in SIZES:
        setting = Setting.of(grid(size), H, "auto")
        env_rng, learner_rng = np.random.default_rng(0).spawn(2)
        learner = EntGame(setting, Config(horizon=H, mixture_size=0), learner_rng)
        D, reservoir = learner.D, np.zeros((32, *learner.D.shape), np.float32)
        S, cells = setting.num_states, learner.D.size
        learner.D = np.zeros((0, 0, 0))
        learner.play(EPISODES_PER_STATE * S, env_rng)
        share = (learner.model.N > 0).mean()

        P, visits, V = dense_kernel(learner), learner.visits.copy(), np.zeros_like(learner.V)
        learner.fill(V, np.empty_like(learner.Q))
        rival = dense_plan(P, visits, learner.episodes)
        np.testing.assert_allclose(V, rival, rtol=1e-9)
        dense = median_cpu_s(partial(dense_plan, P, visits, EPISODES_PER_STATE * S)) / cells

        n = max(10, round(4e7 / cells / 5))
        print(
            f"\nS={S}, A=4, H={H}: {share:.0%} of all (s, a) visited, same V as the dense planner"
        )
        for name, d, kept in (
            ("plain", learner.D, learner.reservoir),
            ("exact", D, learner.reservoir),
            ("reservoir", learner.D, reservoir),
            ("exact + reservoir", D, reservoir),
        ):
            learner.D, learner.reservoir = d, kept
            learner.play(n, env_rng)
            spent = median_cpu_s(partial(learner.play, n, env_rng)) / (n * cells)
            figures[name].append(spent)
            target = 5 if name == "plain" else 0  # the others pay for figures, not for learning
            report.add(f"EntGame {name} S={S}", 1e9 * spent, "ns per (h;s;a)", most=target)
        report.add(f"dense planner S={S}", 1e9 * dense, "ns per (h;s;a)")
        report.add(f"dense planner / EntGame plain S={S}", dense / figures["plain"][-1], "ratio")
    print()
    for name, values in figures.items():
        flatness = max(values) / min(values)
        report.add(f"flatness of EntGame {name} S=121..1681", flatness, "ratio", most=1.5)


def dense_soft_plan(P: Array, r: Array) -> Array:
    """V (H + 1, S) of the soft plan at temperature 1 for reward r (H, S, A)."""
    S, A = r.shape[1:]
    V = np.zeros((H + 1, S))
    for h in reversed(range(H)):
        q = r[h] + (P @ V[h + 1]).reshape(S, A)
        top = q.max(1)
        V[h] = top + np.log(np.exp(q - top[:, None]).sum(1))
    return V


def time_soft_learners(report: Report) -> None:
    """reg-EntGame and UCBVI-Ent at S=441, against a dense soft planner on the same counts."""
    setting = Setting.of(grid(21), H, "auto")
    print()
    for name, make in (
        ("reg-EntGame", partial(RegEntGame, setting, reg_entgame.Config(mixture_size=0))),
        ("UCBVI-Ent no bonus", partial(UCBVIEnt, setting, ucbvi_ent.Config())),
        ("UCBVI-Ent code", partial(UCBVIEnt, setting, ucbvi_ent.Config(variant="code"))),
        ("UCBVI-Ent fast", partial(UCBVIEnt, setting, ucbvi_ent.Config(variant="fast"))),
    ):
        env_rng, learner_rng = np.random.default_rng(0).spawn(2)
        learner = make(learner_rng)
        cells = learner.visits.size
        learner.D = np.zeros((0, 0, 0))
        learner.play(EPISODES_PER_STATE * setting.num_states, env_rng)
        spent = median_cpu_s(partial(learner.play, 100, env_rng)) / (100 * cells)
        r = np.broadcast_to(learner.task.reward, learner.visits.shape)
        dense = median_cpu_s(partial(dense_soft_plan, dense_kernel(learner), r)) / cells
        target = 0 if name.endswith("fast") else 8  # it plans upper, lower values and a gap
        report.add(f"{name} S=441", 1e9 * spent, "ns per (h;s;a)", most=target)
        report.add(f"dense soft planner / {name}", dense / spent, "ratio")


def time_rollouts(report: Report) -> None:
    env = grid(21)
    mdp = FiniteMDP.from_env(env)
    S, A = mdp.num_states, mdp.num_actions
    env_rng, policy_rng = np.random.default_rng(0).spawn(2)
    n, pi = ROLLOUT_EPISODES, np.full((1, S, A), 1 / A)
    states, actions = np.empty((n, H + 1), np.int64), np.empty((n, H), np.int64)
    lengths = np.empty(n, np.int64)

    def compiled() -> None:
        rollout(mdp.world, pi, states, actions, lengths, env_rng, policy_rng)

    def gymnasium_loop(episodes: int = 50) -> None:
        for _ in range(episodes):
            env.reset(seed=0)
            for _ in range(20):
                env.step(policy_rng.integers(A))

    P = mdp.P.toarray().reshape(S, A, S)

    def choice_loop(steps: int = 1000) -> None:
        s = S // 2
        for _ in range(steps):
            s = env_rng.choice(S, p=P[s, policy_rng.integers(A)])

    compiled()
    ours = n * H / median_cpu_s(compiled)
    stepped, chosen = 1000 / median_cpu_s(gymnasium_loop), 1000 / median_cpu_s(choice_loop)
    print()
    report.add("rollouts S=441 compiled", ours / 1e6, "M steps/s", least=10)
    report.add("rollouts S=441 gymnasium loop", stepped / 1e6, "M steps/s")
    report.add("rollouts S=441 rng.choice loop", chosen / 1e6, "M steps/s")
    report.add("rollouts compiled / gymnasium", ours / stepped, "ratio")
    report.add("rollouts compiled / rng.choice", ours / chosen, "ratio")


def time_first_solve(report: Report) -> None:
    spent = []
    for _ in range(1 + REPETITIONS):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", FIRST_SOLVE], check=True)
        spent.append(time.perf_counter() - began)
    print()
    report.add("import and first solve (fresh process)", float(np.median(spent[1:])), "s", most=2)
    report.add("the same with whatever cache there was", spent[0], "s")


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--csv", help="also write the figures to this file")
    path, report = parser.parse_args().csv, Report()
    time_entgame(report)
    time_soft_learners(report)
    time_rollouts(report)
    time_first_solve(report)
    if path:
        with open(path, "w") as file:
            file.write("\n".join(report.lines) + "\n")


if __name__ == "__main__":
    main()
