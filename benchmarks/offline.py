# ruff: noqa: E402
"""Offline robust learning: speed of the networks, and the studies behind results/offline.

python benchmarks/offline.py speed      [--csv PATH]
python benchmarks/offline.py sizes      [--out DIR] [--seeds 10]
python benchmarks/offline.py behaviour  [--out DIR] [--seeds 10]
python benchmarks/offline.py networks   [--out DIR] [--seeds 5]
python benchmarks/offline.py perturbations [--out DIR] [--seeds 5] [--agents DIR] [--runs DIR]

speed: gradient steps a second, the fastest of 5 repetitions, CPU time, one thread. The dataset has
1e5 transitions of 4 numbers and 2 actions, as CartPole's. d3rlpy's DQN does the same updates in
the same run, where it is installed.

sizes: gap E V* - E V^π of tables against the size of uniformly collected datasets, in episodes of
200 steps from uniform starts (robust §8.4), with least-squares slopes in log-log.

behaviour: whether exploring by entropy buys a better robust policy from the same environment steps.
Of N steps each: uniform actions; all that EntGame or its regularised form plays while it learns
from nothing; and N new steps of the mixture with which N steps of exploration, not charged, end.

networks: gap against updates, LINEX beside the published recipe, all seeds as one batched network.

perturbations: returns of FQI, RFQI and RFZI where CartPole and Pendulum change after training
(robust §5.1-5.2), and areas under these curves. The data are 1e5 steps with ε = 0.3 of an agent of
robust-actor-critic, in --agents/ENV/beta0/seed0, where another tenth of the actions is replaced
unseen: without noise entropic risk has nothing to act on. All methods have the same settings
(perturbations.toml), chosen by the nominal return of FQI. Finished runs in --runs are not trained
again.
"""

import os

for _library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # read when numpy and numba are imported

import argparse
import csv
import shlex
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import redraw
import scipy.sparse as sp
from gymnasium.spaces import Box, Discrete

import rlentropy  # noqa: F401  (registers the environments)
from rlentropy import FiniteMDP, cli, planning, risk
from rlentropy.data import Counts, Transitions
from rlentropy.exploration import entgame, reg_entgame
from rlentropy.exploration.setting import Setting
from rlentropy.intervals import estimate, slope
from rlentropy.kernels.sampling import rollout
from rlentropy.offline import rfzi, tabular
from rlentropy.offline.problem import greedy, member_rngs, split
from rlentropy.offline.scoring import Evaluator
from rlentropy.perturbations.grids import Grid
from rlentropy.runs import scores
from rlentropy.wrappers import RandomAction

GAMMA = 0.95
UPDATES = 10_000
SEEDS = {"sizes": 10, "behaviour": 10, "networks": 5, "perturbations": 5}
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
RINGS: dict[str, tuple[dict[str, Any], float]] = {  # options, β
    "toy10, beta 0.1": ({"p": 0.15}, 0.1),
    "toy10, beta 1": ({"p": 0.15}, 1.0),
    "zone, beta 0.5": ({"layout": "zone", "p": 0.15}, 0.5),
}
WORLDS: dict[str, tuple[str, dict[str, Any], int, float]] = {  # id, options, horizon, β
    "Ring": ("rlentropy/Ring-v0", {"p": 0.15}, 50, 1.0),
    "RiverSwim": ("rlentropy/RiverSwim-v0", {}, 50, 1.0),
    "GridWorld": ("rlentropy/GridWorld-v0", {}, 50, 1.0),
    "Taxi": ("Taxi-v4", {}, 200, 0.1),
}
X, SCALE = ("value", "mean_return"), ("unit", "nominal")  # columns
ENDS = ("low", "high")
NOISE, EPSILON, STEPS, EPISODES = 0.1, 0.3, 100_000, 20
SETTINGS = Path(__file__).parents[1] / "results/offline/perturbations.toml"


class Change(NamedTuple):
    """A study of perturbations."""

    betas: tuple[float, ...]  # per unit of reward
    radii: tuple[float, ...]  # ρ
    perturb: tuple[str, ...]


CHANGES = {
    "CartPole-v1": Change(
        betas=(0.01, 0.1, 1.0),
        radii=(0.1,),
        perturb=(
            "force_mag=2:50:6",  # N, nominal 10
            "gravity=-19.6:39.2:7.35",  # m/s^2, nominal 9.8
            "length=0.1:2.5:0.3",  # m, nominal 0.5
            "random_action=0:0.8:0.1",
        ),
    ),
    "Pendulum-v1": Change(
        betas=(0.001, 0.01, 0.1),
        radii=(0.1,),
        perturb=(
            "g=5:25:2.5",  # m/s^2, nominal 10
            "l=0.6:1.4:0.1",  # m, nominal 1
            "m=0.4:2:0.2",  # kg, nominal 1
            "max_torque=0.8:3.2:0.3",  # N m, nominal 2
            "random_action=0:0.8:0.1",
        ),
    ),
}
EXPLORERS = {
    "entgame": (entgame.EntGame, entgame.Config),
    "reg-entgame": (reg_entgame.RegEntGame, reg_entgame.Config),
}


# ---------------------------------------------------------------- speed


def cartpole_like(N: int = 100_000) -> Transitions:
    rng = np.random.default_rng(0)
    o, o2 = rng.normal(size=(2, N, 4)).astype(np.float32)
    ends = rng.random(N) < 0.01
    ends[-1] = True
    spaces = {"observation_space": Box(-np.inf, np.inf, (4,)), "action_space": Discrete(2)}
    episodic = np.where(ends[:-1, None], o[1:], o2[:-1])  # rows of an episode lead to each other
    o[1:] = episodic
    return Transitions.from_arrays(
        o, rng.integers(2, size=N), np.ones(N), np.vstack([o[1:], o2[-1:]]), ends, ~ends & False,
        **spaces,
    )  # fmt: skip


def updates_per_second(data: Transitions, **options: Any) -> float:
    from rlentropy.neural import losses
    from rlentropy.offline.networks import Networks

    config = rfzi.Config(**options)
    measure = config.measure

    def linex(low: float, high: float) -> Any:
        return losses.Linex(low, high, measure.risk_aversion, config.tail)

    problem = split(data, config, lambda n: measure, None)
    rngs = member_rngs(np.random.default_rng(0), config.seeds)
    networks = Networks(problem, config, linex, rngs)
    networks.advance(50)
    spent = []
    for _ in range(5):
        began = time.process_time()
        networks.advance(100)
        spent.append(time.process_time() - began)
    return 100.0 / min(spent)


def d3rlpy_updates_per_second(data: Transitions) -> float:
    d3rlpy = import_module("d3rlpy")
    encoder = d3rlpy.models.VectorEncoderFactory([256, 256])
    config = d3rlpy.algos.DQNConfig(batch_size=1000, encoder_factory=encoder)
    dataset = d3rlpy.dataset.MDPDataset(
        data.observations, data.actions, data.rewards, data.terminations.astype(np.float32)
    )
    dqn = config.create()
    dqn.build_with_dataset(dataset)
    batches = [dataset.sample_transition_batch(1000) for _ in range(20)]
    spent = []
    for _ in range(5):
        began = time.process_time()
        for batch in batches:
            dqn.update(batch)
        spent.append(time.process_time() - began)
    return len(batches) / min(spent)


def speed(csv_path: str | None) -> None:
    import torch

    torch.set_num_threads(1)
    data = cartpole_like()
    lines = ["# python benchmarks/offline.py speed --csv results/benchmarks/offline.csv"]
    lines.append("figure,value,unit,target,met")

    def add(figure: str, value: float, unit: str, least: float = 0.0) -> None:
        verdict = f"target >= {least:g}: {'met' if value >= least else 'MISSED'}" if least else ""
        print(f"{figure:52} {value:10,.2f} {unit:12} {verdict}", flush=True)
        met = ("yes" if value >= least else "no") if least else ""
        lines.append(f"{figure},{value:.4g},{unit},{f'>= {least:g}' if least else ''},{met}")

    wide: dict[str, Any] = {"hidden": (256, 256), "batch_size": 1000}
    for every in (50, 200):
        found = updates_per_second(data, target_every=every, **wide)
        add(f"rfzi 256x256 batch 1000 target every {every}", found, "updates/s", 100.0)
    if find_spec("d3rlpy"):
        peer = d3rlpy_updates_per_second(data)
        add("d3rlpy DQN 256x256 batch 1000", peer, "updates/s")
    else:
        print("d3rlpy is not installed: pip install d3rlpy")
    small: dict[str, Any] = {"hidden": (64, 64), "batch_size": 64}
    one = updates_per_second(data, **small)
    five = updates_per_second(data, seeds=5, **small)
    add("rfzi 64x64 batch 64", one, "updates/s")
    add("rfzi 64x64 batch 64 5 seeds stacked", 5 * five, "updates/s")
    add("5 stacked seeds against 5 runs", 5 * five / one, "x", 3.0)
    if csv_path:
        Path(csv_path).write_text("\n".join(lines) + "\n")


# ---------------------------------------------------------------- data


def counted(states: Any, actions: Any, after: Any, mdp: FiniteMDP) -> Counts:
    """Counts of transitions (n,) of a model, with its rewards."""
    S, A = mdp.num_states, mdp.num_actions
    place = (states * A + actions, after)
    n = sp.coo_array((np.ones(len(states)), place), shape=(S * A, S)).tocsr()
    return with_rewards(n, mdp)


def with_rewards(n: Any, mdp: FiniteMDP) -> Counts:
    n.sum_duplicates()
    if mdp.r_successor is None:
        each = np.repeat(mdp.r.ravel(), np.diff(n.indptr))
    else:
        P = mdp.P
        r = sp.csr_array((mdp.r_successor, P.indices, P.indptr), shape=P.shape)
        rows = np.repeat(np.arange(n.shape[0]), np.diff(n.indptr))
        each = np.asarray(r[rows, n.indices]).ravel()
    rewards = sp.csr_array((n.data * each, n.indices, n.indptr), shape=n.shape)
    terminal = mdp.terminal & (np.bincount(n.indices, minlength=n.shape[1]) > 0)
    return Counts(n, rewards, terminal, np.zeros(mdp.num_states, np.int64))


def rolled_out(
    mdp: FiniteMDP, pi: Any, steps: int, horizon: int, rng: np.random.Generator
) -> Counts:
    """Steps of the policies pi (K, H or 1, S, A), one drawn an episode."""
    world, rows, left = mdp.world, [], steps
    while left > 0:
        n = -(-left // horizon)
        states, actions = np.empty((n, horizon + 1), np.int64), np.empty((n, horizon), np.int64)
        lengths, chosen = np.empty(n, np.int64), rng.integers(len(pi), size=n)
        for k in np.unique(chosen):
            own = np.flatnonzero(chosen == k)
            x, y, z = (np.empty_like(array[own]) for array in (states, actions, lengths))
            rollout(world, np.asarray(pi[k], np.float64), x, y, z, rng, rng)
            states[own], actions[own], lengths[own] = x, y, z
        real = np.arange(horizon) < lengths[:, None]
        block = (states[:, :-1][real], actions[real], states[:, 1:][real])
        rows.append([column[:left] for column in block])
        left -= len(block[0])
    s, a, s2 = (np.concatenate(column) for column in zip(*rows, strict=True))
    return counted(s, a, s2, mdp)


def explored(
    setting: Setting, name: str, steps: int, rng: np.random.Generator
) -> tuple[Counts, Any]:
    """What an explorer sees in its first steps, and the mixture it has then."""
    mdp = setting.mdp
    assert mdp is not None
    make, config = EXPLORERS[name]
    play_rng, learner_rng = rng.spawn(2)
    learner = make(setting, config(horizon=setting.horizon), learner_rng)
    done = 0
    while done < steps:
        done += learner.play(1, play_rng)
    state = learner.model.state_dict()
    S, A = mdp.num_states, mdp.num_actions
    begin = np.append(0, np.cumsum(state["length"]))
    n = sp.csr_array((state["hits"].astype(float), state["successor"], begin), shape=(S * A, S))
    n = sp.csr_array(sp.diags_array(np.repeat(~mdp.terminal, A).astype(float)) @ n)
    n.eliminate_zeros()  # after the end an episode's time passes in its last state
    return with_rewards(n, mdp), learner.mixture


def gap_of(counts: Counts, mdp: FiniteMDP, measure: risk.Measure, best: float) -> float:
    """μ·V* - μ·V^π of the table learnt from counts, pessimistic where there are none."""
    least = float(mdp.r.min() if mdp.r_successor is None else mdp.r_successor.min())
    unvisited = min(0.0, least) / (1.0 - GAMMA)
    model = tabular.Model.counted(counts)
    iteration = tabular.ValueIteration(model, measure, GAMMA, unvisited)
    pi = greedy(tabular.solve(iteration, 1e-6).Q)
    found = planning.robust_evaluation(mdp, pi, measure, GAMMA).V
    return max(best - float(mdp.mu @ found), 0.0)


# ---------------------------------------------------------------- studies


def write(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        file.write(f"# python {shlex.join(sys.argv)}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([[f"{x:.6g}" if isinstance(x, float) else x for x in r] for r in rows])


def sizes(out: Path, seeds: int) -> None:
    rows: list[list[Any]] = []
    summary: list[list[Any]] = []
    for name, (options, beta) in RINGS.items():
        mdp = gymnasium.make("rlentropy/Ring-v0", **options).unwrapped.mdp  # type: ignore[attr-defined]
        measure = risk.Entropic(beta)
        best = float(mdp.mu @ planning.robust_optimum(mdp, measure, GAMMA).V)
        uniform = np.full((1, 1, mdp.num_states, 3), 1.0 / 3.0)
        gaps = np.empty((seeds, len(SIZES)))
        for seed in range(seeds):
            for k, N in enumerate(SIZES):
                counts = rolled_out(mdp, uniform, N, 200, np.random.default_rng([seed, k]))
                gaps[seed, k] = gap_of(counts, mdp, measure, best)
                rows.append([name, seed, N, float(gaps[seed, k])])
        rng, x = np.random.default_rng(0), np.array(SIZES, float)
        fall = slope(x, gaps, 0.0, "mean", rng)
        for k, N in enumerate(SIZES):
            band = estimate(gaps[:, k], "mean", rng)
            cells = [float(y) for y in (band.value, band.low, band.high, fall.value)]
            summary.append([name, N, best, *cells, float(fall.low), float(fall.high)])
        print(name, np.round(gaps.mean(0), 4), "slope", fall, flush=True)
    write(out / "sizes_runs.csv", ["problem", "seed", "steps", "gap"], rows)
    header = ["problem", "steps", "optimum", "gap", "low", "high"]
    write(out / "sizes.csv", [*header, "slope", "slope_low", "slope_high"], summary)
    redraw.sizes(out)


def behaviour(out: Path, seeds: int) -> None:
    budgets = SIZES[:5]
    rows: list[list[Any]] = []
    summary: list[list[Any]] = []
    for world, (env_id, options, horizon, beta) in WORLDS.items():
        env = gymnasium.make(env_id, max_episode_steps=-1, **options)
        mdp, measure = FiniteMDP.from_env(env), risk.Entropic(beta)
        setting = Setting.of(env, horizon, "auto")
        assert setting.mdp is not None
        best = float(mdp.mu @ planning.robust_optimum(mdp, measure, GAMMA).V)
        uniform = np.full((1, 1, *mdp.r.shape), 1.0 / mdp.num_actions)
        gaps: dict[str, Any] = {}
        for seed in range(seeds):
            for k, N in enumerate(budgets):
                rng = np.random.default_rng([seed, k])
                found = {"uniform": rolled_out(mdp, uniform, N, horizon, rng)}
                for name in EXPLORERS:
                    found[name], mixture = explored(setting, name, N, rng)
                    found[f"{name} mixture"] = rolled_out(mdp, mixture, N, horizon, rng)
                for label, counts in found.items():
                    gap = gap_of(counts, mdp, measure, best)
                    gaps.setdefault(label, np.full((seeds, len(budgets)), np.nan))[seed, k] = gap
                    cells = int((np.diff(counts.transitions.indptr) > 0).sum())
                    rows.append([world, label, seed, N, best, gap, cells])
        rng = np.random.default_rng(0)
        for label, values in gaps.items():
            print(world, label, np.round(values.mean(0), 4), flush=True)
            for k, N in enumerate(budgets):
                band = estimate(values[:, k], "mean", rng)
                difference = estimate(values[:, k] - gaps["uniform"][:, k], "mean", rng)
                figures = (band.value, band.low, band.high)
                figures += (difference.value, difference.low, difference.high)
                summary.append([world, label, N, best, *map(float, figures)])
        header = ["world", "behaviour", "seed", "steps", "optimum", "gap", "cells_seen"]
        write(out / "behaviour_runs.csv", header, rows)
        header = ["world", "behaviour", "steps", "optimum", "gap", "low", "high"]
        more = ["less_uniform", "less_uniform_low", "less_uniform_high"]
        write(out / "behaviour.csv", header + more, summary)
    redraw.behaviour(out)


def networks(out: Path, seeds: int) -> None:
    import torch

    from rlentropy.neural import losses
    from rlentropy.offline.networks import Networks

    torch.set_num_threads(1)
    recipes: dict[str, dict[str, Any]] = {
        "linex": {"hidden": (128, 128), "learning_rate": 3e-4},
        "published": {"hidden": (256, 32), "recipe": "published", "learning_rate": 1.0},
    }
    rows: list[list[Any]] = []
    for name in ("zone, beta 0.5", "toy10, beta 0.1"):
        options, beta = RINGS[name]
        env = gymnasium.make("rlentropy/Ring-v0", **options)
        mdp = FiniteMDP.from_env(env)
        data = uniform_data(mdp, 1_000_000)
        for recipe, choices in recipes.items():
            config = rfzi.Config(
                risk=f"entropic:{beta}", approximator="neural", batch_size=10_000, seeds=seeds,
                holdout=0.0, **choices,
            )  # fmt: skip
            measure = config.measure

            def objective(low: float, high: float, config: Any = config, b: float = beta) -> Any:
                if config.recipe == "published":
                    return losses.SquaredZ(b)
                return losses.Linex(low, high, b, config.tail)

            problem = split(data, config, lambda n, m=measure: m, None)
            rngs = member_rngs(np.random.default_rng(0), seeds)
            learner = Networks(problem, config, objective, rngs)
            evaluator = Evaluator(problem, config, env, 0)
            spent, gaps, steps = 0.0, [], []
            while learner.updates < UPDATES:
                began = time.process_time()
                learner.advance(500 if learner.updates < 5_000 else 2_500)
                spent += time.process_time() - began
                gaps.append(evaluator.scores(learner).tags["eval/gap"])
                steps.append(learner.updates)
                for seed, gap in enumerate(gaps[-1].tolist()):
                    rows.append([name, recipe, seed, learner.updates, gap, spent / seeds])
            values = np.maximum(np.array(gaps).T, 0.0)
            print(name, recipe, np.round(values[:, -1], 3), f"{spent:.0f} s of all", flush=True)
            header = ["problem", "recipe", "seed", "updates", "gap", "cpu_seconds_a_seed"]
            write(out / "networks.csv", header, rows)
    redraw.networks(out)


def uniform_data(mdp: FiniteMDP, steps: int, horizon: int = 200) -> Transitions:
    n = steps // horizon
    states, actions = np.empty((n, horizon + 1), np.int64), np.empty((n, horizon), np.int64)
    pi = np.full((1, *mdp.r.shape), 1.0 / mdp.num_actions)
    rng = np.random.default_rng(0)
    rollout(mdp.world, pi, states, actions, np.empty(n, np.int64), rng, rng)
    s, a, s2 = states[:, :-1].ravel(), actions.ravel(), states[:, 1:].ravel()
    never = np.zeros(s.size, bool)
    last = np.arange(1, s.size + 1) % horizon == 0
    spaces = {"observation_space": Discrete(len(mdp.r)), "action_space": Discrete(mdp.num_actions)}
    return Transitions.from_arrays(s, a, mdp.r[s, a], s2, never, last, **spaces)


def perturbations(out: Path, seeds: int, agents: Path, runs: Path) -> None:
    import torch

    torch.set_num_threads(1)
    rows: list[list[Any]] = []
    points: list[list[Any]] = []
    areas: list[list[Any]] = []
    for env_id, study in CHANGES.items():
        data = runs / env_id / "data.npz"
        if not data.exists():
            choices = {"policy": agents / env_id / "beta0" / "seed0", "env_id": noisy(env_id)}
            call("collect", data=data, epsilon=EPSILON, steps=STEPS, **choices)
        methods = [("fqi", "nominal", "FQI")]
        methods += [("rfqi", f"tv-ball:{x:g}", f"RFQI, ρ = {x:g}") for x in study.radii]
        methods += [("rfzi", f"entropic:{x:g}", f"RFZI, β = {x:g}") for x in study.betas]
        limit = gymnasium.spec(env_id).max_episode_steps
        assert limit is not None
        nominal = scores.NominalEnv(env_id, "{}", limit, unlimited=False)
        members: list[scores.Agent] = []
        for command, measure, label in methods:
            folder = runs / env_id / measure.replace(":", "")
            if not (folder / "summary.json").exists():
                call(command, config=SETTINGS, data=data, risk=measure, seeds=seeds, out=folder)
            members += members_of(folder, label, seeds, nominal)
        rng, bands = np.random.default_rng(0), []
        for text in study.perturb:
            grid = scores.resolved(Grid.parse(text), nominal, members)
            scale = [grid.unit, grid.nominal]
            curves = scores.scored(grid, nominal, members, EPISODES, seed=0)
            groups = scores.by_algorithm(curves)
            means = [np.stack([c.samples.mean(0) for c in group]) for group in groups]  # (seeds, K)
            under = [scores.area(grid.values, values) for values in means]
            for group, values, area in zip(groups, means, under, strict=True):
                band = scores.band_of(group, rng)
                bands.append(band)
                head = [env_id, band.algorithm, grid.name]
                for seed, of_seed in enumerate(values.tolist()):
                    each = zip(grid.values.tolist(), of_seed, strict=True)
                    rows += [[*head[:2], seed, grid.name, *x, *scale] for x in each]
                columns = (grid.values, band.band.value, band.band.low, band.band.high)
                each_point = zip(*(c.tolist() for c in columns), strict=True)
                points += [[*head, *x, *scale] for x in each_point]
                more = estimate(area - under[0], "mean", rng)
                cells = [band.area.value, band.area.low, band.area.high, band.band.value.min()]
                cells += [more.value, more.low, more.high]
                areas.append([*head, *(float(x) for x in cells)])
                print(*head, *(f"{x:.4g}" for x in areas[-1][3:]), flush=True)
            kind = ["env_id", "method"]
            write(out / "runs.csv", [*kind, "seed", "perturbation", *X, *SCALE], rows)
            write(out / "bands.csv", [*kind, "perturbation", *X, *ENDS, *SCALE], points)
            more_names = ["more_than_fqi", "more_low", "more_high"]
            header = [*kind, "perturbation", "area", *ENDS, "worst", *more_names]
            write(out / "areas.csv", header, areas)
        redraw.perturbations(out)


def noisy(env_id: str) -> str:
    """The id of an environment that replaces a share NOISE of the actions it is given."""
    spec = gymnasium.spec(env_id)
    new = f"Noisy{env_id}"
    if new not in gymnasium.registry:
        gymnasium.register(
            new,
            spec.entry_point,
            max_episode_steps=spec.max_episode_steps,
            additional_wrappers=(RandomAction.wrapper_spec(probability=NOISE),),
            kwargs=spec.kwargs,
        )
    return new


def call(command: str, **options: Any) -> None:
    named = [x for k, v in options.items() for x in (f"--{k.replace('_', '-')}", str(v))]
    if code := cli.main([command, *named, "--overwrite", "--quiet"]):
        raise SystemExit(code)


def members_of(
    folder: Path, label: str, seeds: int, nominal: scores.NominalEnv
) -> list[scores.Agent]:
    """The policies of all seeds of a run."""
    import torch

    from rlentropy.offline.policy import load_policy

    saved, env = torch.load(folder / "policy.pt", weights_only=True), nominal.make()
    policies = [load_policy(saved, env, k) for k in range(seeds)]
    return [scores.Agent(folder, label, k, None, policy) for k, policy in enumerate(policies)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("speed", *SEEDS))
    parser.add_argument("--csv", help="of speed: also write the figures to this file")
    parser.add_argument("--out", type=Path, help="of a study")
    parser.add_argument("--seeds", type=int, help="of a study")
    agents, runs = Path("results/runs/robust-actor-critic"), Path("results/runs/offline")
    parser.add_argument(
        "--agents", type=Path, default=agents, help="of perturbations: who collects"
    )
    parser.add_argument("--runs", type=Path, default=runs, help="of perturbations: run folders")
    asked = parser.parse_args()
    if asked.what == "speed":
        speed(asked.csv)
        return
    here, seeds = Path("results/offline"), asked.seeds or SEEDS[asked.what]
    if asked.what == "perturbations":
        perturbations(asked.out or here / "perturbations", seeds, asked.agents, asked.runs)
    else:
        study = {"sizes": sizes, "behaviour": behaviour, "networks": networks}[asked.what]
        study(asked.out or here, seeds)


if __name__ == "__main__":
    main()
