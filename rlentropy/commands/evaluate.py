"""Evaluate the policies of finished runs: returns, exact values, robustness curves.

Metrics:
    return: undiscounted rewards of an episode, from sampled episodes.
    value: exact, where the environment's model is known and the policy a table: the expected return
        of an episode, or, for a run with a discount γ, the discounted value from the initial
        distribution, without an end.
    robust value: the discounted value when nature plays the worst case of a risk measure at every
        step (robust spec §5.1, item 2).

A point is a run at one value of one perturbation. Episode k of every point starts from the same
seed and the same random numbers, so that differences between runs, and along a curve, aren't those
of the draw.

Intervals are 95 % bootstrap intervals (`rlentropy.intervals`): of a run over its episodes; of an
algorithm over its training seeds, or with one seed over the episodes of that.
The area under a robustness curve is the mean of the curve over the grid, by the trapezoid rule.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import numpy as np
import tyro

from rlentropy import planning, plots, risk
from rlentropy.commands.compare import aligned
from rlentropy.entropy import visitation
from rlentropy.errors import InputError
from rlentropy.files import csv_table, plain, replace_file, writing
from rlentropy.intervals import Estimate, estimate
from rlentropy.mdp import known_model
from rlentropy.perturbations import perturbation, perturbed
from rlentropy.perturbations.grids import Grid, rounded
from rlentropy.policies import Mixture, Policy, Tabular, play
from rlentropy.runs.folder import stored_settings, trusted
from rlentropy.runs.policies import load, read_summary
from rlentropy.runs.reading import find_folders
from rlentropy.types import Array, Count
from rlentropy.wrappers import make_env

Env = gymnasium.Env[Any, Any]
Row = dict[str, Any]

RETURN, VALUE, ROBUST = "return", "value", "robust value"
WRAPPERS = ("random_action", "observation_noise")  # what is then played isn't the model
# Settings in which the runs of one algorithm may differ.
INCIDENTAL = {"seed", "out", "label", "quiet", "eval_every", "checkpoint_every", "device"}


@dataclass(frozen=True)
class Config:
    """Scores the policies of finished runs, also over grids of perturbations."""

    run: tuple[str, ...] = ()  # run folders, folders that hold some, or quoted globs (required)
    env_id: str = ""  # where to evaluate; default: the environment of the runs
    env_kwargs: str = ""  # JSON object of its keyword arguments; default: those of the runs
    episodes: int = 20  # a run and point, >= 1
    horizon: int | None = None  # steps an episode; default: the runs', else the time limit
    # NAME=LO:HI:STEP, both ends included; repeat it for several. NAME is a parameter of the
    # environment (a wrong one lists them with their nominal values), the numbers are values in its
    # own unit: force_mag=5:15:5 is 5, 10, 15 N. With an x they are multiples of the nominal value:
    # force_mag=x0.5:1.5:0.5. With a known model NAME may be a risk measure: kl-ball=0:0.6:0.1
    perturb: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    mixture: bool = False  # evaluate the mixture that a run played, not its projection
    seed: int = 0  # of the episodes, >= 0
    out: Path | None = None  # folder of the results; default: evaluation in the first run's folder
    quiet: bool = False  # print nothing but errors

    def __post_init__(self) -> None:
        if not self.run:
            raise InputError("run must name at least one run folder, got none")
        if self.episodes < 1:
            raise InputError(f"episodes must be >= 1, got {self.episodes}")
        if self.horizon is not None and self.horizon < 1:
            raise InputError(f"horizon must be >= 1, got {self.horizon}")
        if self.seed < 0:
            raise InputError(f"seed must be >= 0, got {self.seed}")


@dataclass(frozen=True)
class Run:
    """A finished run and its policy."""

    folder: Path
    algorithm: str  # the label, and the settings that tell it from others of that label
    seed: int
    gamma: float | None
    policy: Policy


@dataclass(frozen=True)
class Curve:
    """One metric of one run over a grid of K values."""

    run: Run
    grid: Grid
    metric: str
    samples: Array  # (episodes, K); (1, K) where exact
    lengths: Count | None = None  # (episodes, K), steps


@dataclass(frozen=True)
class Band:
    """One metric of one algorithm over a grid."""

    algorithm: str
    grid: Grid
    metric: str
    seeds: int
    band: Estimate  # (K,)
    area: Estimate  # ()


@dataclass(frozen=True)
class Place:
    """The nominal environment."""

    env_id: str
    env_kwargs: str
    horizon: int  # steps an episode
    unlimited: bool  # the horizon stands in for the environment's own time limit

    def make(self) -> Env:
        return make_env(self.env_id, self.env_kwargs, self.unlimited)


def run(config: Config) -> int:
    """Evaluate, write and print; the exit code.

    Raises:
        InputError: no finished runs, a policy that doesn't suit the environment, or a perturbation
            that it doesn't allow; nothing is evaluated then.
    """
    grids = [Grid.parse(text) for text in config.perturb] or [Grid()]
    if len({grid.name for grid in grids}) < len(grids):
        raise InputError(f"perturb must name each parameter once, got {', '.join(config.perturb)}")
    folders = list(find_folders(config.run))
    summaries = [read_summary(folder) for folder in folders]
    place = choose_place(config, summaries, folders)
    runs = read_runs(place, summaries, folders, config.mixture)
    grids = [settled(grid, place, runs) for grid in grids]

    rng = np.random.default_rng([config.seed, 1])
    curves: list[Curve] = []
    for grid in grids:
        if not config.quiet:
            print(f"{grid}: {counted(grid.values.size, 'value')}, {counted(len(runs), 'run')}")
        curves += evaluated(grid, place, runs, config)
    rows = [row for curve in curves for row in curve_rows(curve, rng)]
    bands = [band_of(group, rng) for group in grouped(curves)]
    out = config.out or folders[0] / "evaluation"
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        members = {
            r.algorithm: [str(m.folder) for m in runs if m.algorithm == r.algorithm] for r in runs
        }
        record = asdict(place) | {"episodes": config.episodes, "seed": config.seed}
        record |= {"perturb": config.perturb, "mixture": config.mixture}
        write(out, rows, bands, record | {"runs": members, "argv": shlex.join(sys.argv)})
    if not config.quiet:
        print(report(rows, bands))
        print(f"written to {out}")
    return 0


# ---------------------------------------------------------------- which runs, and where


def choose_place(config: Config, summaries: Sequence[Row], folders: Sequence[Path]) -> Place:
    """What the command line says, else what all runs say, else the environment's time limit."""

    def agreed(name: str, otherwise: Any = None) -> Any:
        said = [summary.get(name) or otherwise for summary in summaries]
        for other, folder in zip(said, folders, strict=True):
            if other != said[0]:
                raise InputError(
                    f"{name} must be given for runs that differ in it, got none, {said[0]} in "
                    f"{folders[0]} and {other} in {folder}"
                )
        return said[0]

    env_id = config.env_id or trusted("env_id", agreed("env_id"), folders[0])
    if not env_id:
        raise InputError("env_id must be given for runs without an environment, got none")
    env_kwargs = config.env_kwargs
    env_kwargs = env_kwargs or trusted("env_kwargs", agreed("env_kwargs") or "{}", folders[0])
    env = make_env(env_id, env_kwargs, unlimited=False)
    limit = env.spec.max_episode_steps if env.spec else None
    horizon = config.horizon or agreed("horizon", limit)
    if horizon is None:
        raise InputError(f"horizon must be given for {env_id}, which has no time limit, got none")
    return Place(env_id, env_kwargs, horizon, unlimited=horizon != limit)


def read_runs(
    place: Place, summaries: Sequence[Row], folders: Sequence[Path], mixture: bool
) -> list[Run]:
    """Runs of one label that differ in a setting are told apart by it.

    Raises:
        InputError: a policy doesn't suit the environment, or a seed comes twice in one algorithm,
            which would count one result as two.
    """
    env = place.make()
    labels = [str(s.get("label") or s["command"]) for s in summaries]
    settings = [stored_settings(folder) or {} for folder in folders]
    runs: list[Run] = []
    for label, folder, summary, mine in zip(labels, folders, summaries, settings, strict=True):
        others = [s for other, s in zip(labels, settings, strict=True) if other == label]
        names = sorted({name for s in others for name in s} - INCIDENTAL)
        varying = [name for name in names if any(s.get(name) != mine.get(name) for s in others)]
        algorithm = plain(", ".join([label, *(f"{name}={mine.get(name)}" for name in varying)]))
        seed, gamma = int(summary["seed"]), summary.get("gamma", mine.get("gamma"))
        for r in runs:
            if (r.algorithm, r.seed) == (algorithm, seed):
                raise InputError(
                    f"run must name each seed once, got seed {seed} of {algorithm} in {r.folder} "
                    f"and {folder}"
                )
        runs.append(Run(folder, algorithm, seed, gamma, load(folder, env, mixture)))
    return runs


# ---------------------------------------------------------------- perturbations


def measures() -> list[str]:
    """Risk measures with one parameter, over which a grid makes sense."""
    return [name for name, named in risk.NAMES.items() if named.parameters == 1]


def settled(grid: Grid, place: Place, runs: Sequence[Run]) -> Grid:
    """The grid in physical values, where its parameter has a nominal one.

    Raises:
        InputError: the environment or the runs don't allow its name or its values.
    """
    if not grid.name:
        return grid
    env = place.make()
    if known_model(env) is not None and grid.name in measures():
        check_measures(grid, runs)
        return grid
    if grid.name in measures():
        raise InputError(
            f"perturb must name a parameter of {place.env_id}, whose model isn't known, "
            f"got {grid.name!r}"
        )
    others = measures() if known_model(env) is not None else []
    p = perturbation(env, grid.name, others)
    values = [p.numbers(value, grid.relative) for value in grid.values.tolist()]
    for value in (float(grid.values[0]), float(grid.values[-1])):
        perturbed(place.make(), grid.name, value, grid.relative).close()
    if p.nominal is None:
        return replace(grid, nominal=1.0, unit="times nominal")
    physical = np.sort(rounded(np.array(values)[:, 0]))
    return Grid(grid.name, physical, nominal=p.nominal, unit=p.unit)


def check_measures(grid: Grid, runs: Sequence[Run]) -> None:
    if grid.relative:
        raise InputError(
            f"perturb {grid.name} must be LO:HI:STEP, since a measure has no nominal parameter, "
            "got x"
        )
    for value in (float(grid.values[0]), float(grid.values[-1])):
        risk.parse(f"{grid.name}:{value!r}")
    for r in runs:
        if r.gamma is None or not (isinstance(r.policy, Tabular) and len(r.policy.pi) == 1):
            raise InputError(
                f"perturb {grid.name} must come with a tabular stationary policy and a "
                f"discount, got {r.folder} without"
            )


# ---------------------------------------------------------------- evaluation


def evaluated(grid: Grid, place: Place, runs: Sequence[Run], config: Config) -> list[Curve]:
    """Every metric of every run on a grid."""
    if grid.name in measures():
        return [worst_cases(grid, place, r) for r in runs]
    n, K = config.episodes, grid.values.size
    returns, lengths = np.empty((len(runs), n, K)), np.empty((len(runs), n, K), np.int64)
    values = np.empty((len(runs), K))
    seeds = np.random.SeedSequence(config.seed).generate_state(n)
    for k, value in enumerate(grid.values.tolist()):
        envs = [place.make() for _ in range(n)]
        if grid.name:
            envs = [perturbed(env, grid.name, value, grid.relative) for env in envs]
        mdp = None if grid.name in WRAPPERS else known_model(envs[0])
        for j, r in enumerate(runs):
            rng = np.random.default_rng([config.seed, 0])
            played = play(envs, r.policy, seeds, place.horizon, rng)
            returns[j, :, k], lengths[j, :, k] = played
            values[j, k] = exact_value(mdp, r, place.horizon)
        for env in envs:
            env.close()
    curves = [Curve(r, grid, RETURN, returns[j], lengths[j]) for j, r in enumerate(runs)]
    exact = [Curve(r, grid, VALUE, values[j : j + 1]) for j, r in enumerate(runs)]
    return curves + [curve for curve in exact if not np.isnan(curve.samples).any()]


def worst_cases(grid: Grid, place: Place, run: Run) -> Curve:
    """Robust values of a run against a measure with each parameter of a grid."""
    assert isinstance(run.policy, Tabular)  # `check` saw to it
    assert run.gamma is not None
    mdp = known_model(place.make())
    sets = [risk.parse(f"{grid.name}:{value!r}") for value in grid.values.tolist()]
    values = [robust_value(mdp, run.policy.pi[0], measure, run.gamma) for measure in sets]
    return Curve(run, grid, ROBUST, np.array([values]))


def exact_value(mdp: Any, run: Run, horizon: int) -> float:
    """The value under a known model; NaN where there is no model or no table.

    With a discount: μ·V^π of a stationary policy. Without: the expected return of an episode,
    Σ_h Σ_sa d_h(s, a) r(s, a). Of a mixture: the mean over its policies.
    """
    if mdp is None or not isinstance(run.policy, Tabular | Mixture):
        return math.nan
    pi = run.policy.pi if isinstance(run.policy, Mixture) else run.policy.pi[None]  # (K, H, S, A)
    if run.gamma is None:
        stages = np.arange(horizon) % pi.shape[1]
        totals = [(visitation(mdp, p[stages], horizon) * mdp.r).sum() for p in pi]
        return float(np.mean(totals))
    if pi.shape[1] > 1:
        return math.nan
    return float(np.mean([robust_value(mdp, p[0], risk.Nominal(), run.gamma) for p in pi]))


def robust_value(
    mdp: Any, pi: Array, measure: risk.Measure | risk.SRectangular, gamma: float
) -> float:
    """μ·V^π where nature plays the worst case of a measure at every step; pi (S, A)."""
    return float(planning.robust_evaluation(mdp, pi, measure, gamma, strict=False).V @ mdp.mu)


# ---------------------------------------------------------------- statistics


def area(values: Array, curves: Array) -> Array:
    """Mean of piecewise linear curves over their grid, (..., K) -> (...); K = 1: their value."""
    if values.size == 1:
        return curves[..., 0]
    pieces = np.diff(values) * (curves[..., 1:] + curves[..., :-1]) / 2.0
    mean: Array = pieces.sum(axis=-1) / (values[-1] - values[0])
    return mean


def grouped(curves: Sequence[Curve]) -> list[list[Curve]]:
    """The curves of the seeds of one algorithm, for each grid, metric and algorithm."""
    groups: dict[tuple[str, str, str], list[Curve]] = {}
    for curve in curves:
        key = (curve.grid.name, curve.metric, curve.run.algorithm)
        groups.setdefault(key, []).append(curve)
    return list(groups.values())


def band_of(seeds: Sequence[Curve], rng: np.random.Generator) -> Band:
    """Mean over training seeds with its interval, or over the episodes of a single one."""
    first = seeds[0]
    samples = np.stack([c.samples.mean(0) for c in seeds]) if len(seeds) > 1 else first.samples
    band = estimate(samples, "mean", rng)
    mean = estimate(area(first.grid.values, samples), "mean", rng)
    return Band(first.run.algorithm, first.grid, first.metric, len(seeds), band, mean)


def curve_rows(curve: Curve, rng: np.random.Generator) -> Iterator[Row]:
    """The rows of evaluation.csv; exact values have no deviation, length or episodes."""
    n, exact = len(curve.samples), curve.lengths is None
    found = estimate(curve.samples, "mean", rng)
    for k, value in enumerate(curve.grid.values.tolist()):
        mean = float(found.value[k])
        yield {
            "run": str(curve.run.folder),
            "label": curve.run.algorithm,
            "seed": curve.run.seed,
            "perturbation": curve.grid.name or "none",
            "value": value,
            **curve.grid.scale,
            "metric": curve.metric,
            "mean": mean,
            "low": mean if exact else float(found.low[k]),
            "high": mean if exact else float(found.high[k]),
            "std": float(curve.samples[:, k].std(ddof=1)) if n > 1 else math.nan,
            "length": math.nan if curve.lengths is None else float(curve.lengths[:, k].mean()),
            "episodes": 0 if exact else n,
        }


def band_rows(b: Band) -> Iterator[Row]:
    head = {"label": b.algorithm, "seeds": b.seeds, "perturbation": b.grid.name or "none"}
    columns = (b.grid.values, b.band.value, b.band.low, b.band.high)
    for value, mean, low, high in zip(*(c.tolist() for c in columns), strict=True):
        row = head | {"value": value} | b.grid.scale
        yield row | {"metric": b.metric, "mean": mean, "low": low, "high": high}


def area_row(b: Band) -> Row:
    worst = int(b.band.value.argmin())
    return {
        "label": b.algorithm,
        "seeds": b.seeds,
        "perturbation": b.grid.name,
        "from": float(b.grid.values[0]),
        "to": float(b.grid.values[-1]),
        **b.grid.scale,
        "metric": b.metric,
        "area": float(b.area.value),
        "low": float(b.area.low),
        "high": float(b.area.high),
        "worst": float(b.band.value[worst]),
        "worst_at": float(b.grid.values[worst]),
    }


# ---------------------------------------------------------------- what is written and printed


def write(out: Path, rows: Sequence[Row], bands: Sequence[Band], record: Row) -> None:
    """CSV files, a picture for each grid and metric, and, last, evaluation.json.

    Replaces those of an earlier evaluation, also where this one has no such file.
    """
    for stale in ("*-return.png", "*-value.png", "areas.csv", "evaluation.json"):
        for path in out.glob(stale):
            path.unlink()
    replace_file(out / "evaluation.csv", csv_table(rows))
    replace_file(out / "bands.csv", csv_table([row for b in bands for row in band_rows(b)]))
    if areas := [area_row(b) for b in bands if b.grid.name]:
        replace_file(out / "areas.csv", csv_table(areas))
    for name, metric in dict.fromkeys((b.grid.name, b.metric) for b in bands if b.grid.name):
        shown = [b for b in bands if (b.grid.name, b.metric) == (name, metric)]
        png = picture(shown, metric)
        replace_file(out / f"{name}-{metric.replace(' ', '-')}.png", png)
    replace_file(out / "evaluation.json", (json.dumps(record, indent=2) + "\n").encode())


def picture(bands: Sequence[Band], metric: str) -> bytes:
    """Robustness curves of one grid with their intervals. Returns a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for k, b in enumerate(bands):
        colour, x = plots.COLOURS[k % len(plots.COLOURS)], b.grid.values
        label = f"{plots.shown(b.algorithm)} ({counted(b.seeds, 'seed')})"
        axes.plot(x, b.band.value, color=colour, ls=plots.STYLES[k % 5], lw=1.8, label=label)
        axes.fill_between(x, b.band.low, b.band.high, color=colour, alpha=0.2, lw=0)
    bands[0].grid.mark_nominal(axes)
    axes.set(xlabel=bands[0].grid.axis, ylabel=metric)
    return plots.finish(figure, axes)


def report(rows: Sequence[Row], bands: Sequence[Band]) -> str:
    """In the nominal environment the scores of runs and algorithms, else areas under curves."""
    if all(b.grid.name for b in bands):
        heads = ("perturbation", "metric", "label", "seeds", "mean over grid [95 %]", "worst", "at")
        lines = [heads]
        for b, r in zip(bands, map(area_row, bands), strict=True):
            worst = (number(r["worst"]), number(r["worst_at"]))
            head = (str(b.grid), r["metric"], r["label"], str(r["seeds"]))
            lines.append((*head, interval(r, "area"), *worst))
        return aligned(lines)
    lines = [("label", "seed", "metric", "mean [95 %]", "std", "length", "episodes")]
    for r in rows:
        sizes = (number(r["std"]), number(r["length"]), str(r["episodes"] or "exact"))
        lines.append((r["label"], str(r["seed"]), r["metric"], interval(r, "mean"), *sizes))
    over_seeds = [("label", "seeds", "metric", "mean [95 %]")]
    for r in (row for b in bands if b.seeds > 1 for row in band_rows(b)):
        over_seeds.append((r["label"], str(r["seeds"]), r["metric"], interval(r, "mean")))
    return "\n\n".join(aligned(part) for part in (lines, over_seeds) if len(part) > 1)


def counted(n: int, name: str) -> str:
    return f"{n} {name}{'s' * (n > 1)}"


def number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.5g}"


def interval(row: Row, name: str) -> str:
    """A number with its interval, where it has one."""
    if math.isnan(row["low"]) or row["low"] == row["high"]:
        return number(row[name])
    return f"{number(row[name])} [{number(row['low'])}, {number(row['high'])}]"
