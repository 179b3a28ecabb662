"""The pictures of results/ from the tables beside them, in the style of `rlentropy.plots`.

    python benchmarks/redraw.py [PART ...]     # default: all of them, in a minute; no run is made

Studies that make the tables call the same functions. What tables don't hold needs its runs: visits
of comparisons and of networks, learning curves and e3, e7, e9 of preferences.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from rlentropy import plots
from rlentropy.intervals.seeds import estimate
from rlentropy.plots import style

RESULTS = Path("results")
GAP = "gap to the optimum (nats)"
ROBUST_GAP = "gap to the robust optimum (reward)"
AGENTS = (  # of the paper's two experiments, and the groups that it shows them in, and ours
    ("Random", "MVEE oracle", "EntGame bonus, clip", "EntGame no bonus", "reg-EntGame"),
    ("Random", "MTEE oracle", "UCBVI-Ent", "UCBVI-Ent no bonus"),
    ("EntGame bonus, no clip", "RF-UCRL clip", "RF-UCRL no clip", "MVEE oracle"),
)

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """Rows of a table, numbers as numbers; lines that begin with # are its history."""
    with path.open(newline="") as file:
        lines = [line for line in file if not line.startswith("#")]
    return [{k: number(v) for k, v in row.items()} for row in csv.DictReader(lines)]


def number(text: str) -> Any:
    try:
        return float(text.removeprefix("'"))  # which keeps spreadsheets from computing
    except ValueError:
        return text


def column(rows: Iterable[Row], name: str) -> Any:
    return np.array([row[name] for row in rows], float)


def names(rows: Iterable[Row], *keys: str) -> list[Any]:
    """The different values of a column, or of several together, in order of appearance."""
    found = dict.fromkeys(tuple(row[key] for key in keys) for row in rows)
    return [values if len(keys) > 1 else values[0] for values in found]


def of(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def band(value: Any, low: Any = None, high: Any = None) -> Any:
    """A line with a band, or with none."""
    ends = {"low": value if low is None else low, "high": value if high is None else high}
    return SimpleNamespace(value=np.asarray(value), **ends)


def over_seeds(rows: Sequence[Row], x: str, y: str) -> tuple[Any, Any, int]:
    """x (T,), the mean of y with its band, and the number of seeds, of rows with one each."""
    points = names(rows, x)
    values = np.array([column(of(rows, **{x: point}), y) for point in points]).T  # (n, T)
    return np.array(points), estimate(values, "mean", np.random.default_rng(0)), len(values)


# ---------------------------------------------------------------- comparisons


def comparison(folder: Path) -> None:
    """Learning curves, final values and costs of targets, as `compare` draws them."""
    rows, final, reach = (read(folder / f"{name}.csv") for name in ("curves", "final", "reach"))
    fits = {row["algorithm"]: row for row in read(folder / "slopes.csv")}
    lines = []
    for name in names(final, "algorithm"):
        mine = of(rows, algorithm=name)
        parts = band(*(column(mine, part) for part in ("value", "low", "high")))
        fit = SimpleNamespace(value=straight(mine, fits[name]))
        place = {"steps": column(mine, "step"), "from_step": fits[name]["from_step"]}
        lines.append(SimpleNamespace(name=name, band=parts, slope=fit, **place))
    for row in (*final, *reach):
        row["seeds"] = int(row["seeds"])
    note = style.over_seeds("mean", [row["seeds"] for row in final])
    plots.save(plots.curves(lines, GAP, "environment steps", True, note), folder / "curves")
    plots.save(plots.final(final, GAP, True), folder / "final")
    plots.save(plots.reach(reach, "env_steps", "environment steps", True), folder / "reach")


def straight(rows: Sequence[Row], fit: Row) -> float:
    """A slope, where the curve is a line there: within a tenth of its logarithms' fall."""
    use = [row for row in rows if row["step"] >= fit["from_step"] and row["value"] > 0]
    x, y = np.log(column(use, "step")), np.log(column(use, "value"))
    off = y - y.mean() - fit["slope"] * (x - x.mean())
    return float(fit["slope"]) if np.abs(off).max() < 0.1 * np.ptp(y) else math.nan


def exploration() -> None:
    for folder in sorted((RESULTS / "exploration").glob("*/*/comparison.json")):
        comparison(folder.parent)


# ---------------------------------------------------------------- the paper's two experiments


@style.styled
def chain(rows: Sequence[Row], note: str) -> Any:
    """Mean visits of each state, in the paper's two groupings and ours."""
    figure, grid = style.canvas(3, 1, height=4.4, sharex=True)
    every = list(dict.fromkeys(name for group in AGENTS for name in group))
    for axes, group in zip(grid.flat, AGENTS, strict=True):
        axes.set(yscale="log", ylabel="visits")
        for name in group:
            ends = [
                column(rows, f"{name} {end}")
                for end in ("low", "high")
                if f"{name} {end}" in rows[0]
            ]
            at = column(rows, "state")
            style.line(axes, every.index(name), at, band(column(rows, name), *ends), name)
    for axes in grid.flat:
        axes.set_ylim(bottom=0.5)
        style.round_ticks(axes.yaxis)
    grid[-1, 0].set_xlabel("state")
    handles = {h.get_label(): h for axes in grid.flat for h in axes.lines}
    for name in every:  # one legend for all
        if name not in AGENTS[0]:
            grid[0, 0].plot([], [], label=name, **look(handles[name]))
    return style.finish(figure, grid[0, 0], note)


def look(line: Any) -> dict[str, Any]:
    """What makes a line alike."""
    parts = ("color", "linestyle", "marker", "markersize", "markerfacecolor", "markeredgecolor")
    return {part: getattr(line, f"get_{part}")() for part in parts}


def paper(
    here: Path = RESULTS / "exploration" / "paper", runs: dict[str, int] | None = None
) -> None:
    for name, count in (runs or {"double-chain": 48, "grid-world": 12}).items():
        rows, note = read(here / f"{name}-visits.csv"), f"mean visits of {count} runs"
        if name == "double-chain":
            plots.save(chain(rows, note), here / name)
            continue
        side = math.isqrt(len(rows))
        agents = [
            agent for agent in rows[0] if agent != "state" and not agent.endswith((" low", " high"))
        ]
        maps = [(agent, column(rows, agent).reshape(side, side)) for agent in agents]
        plots.save(plots.heat_maps(maps, note), here / name)


# ---------------------------------------------------------------- gaps, a panel a problem


@style.styled
def gaps(
    panels: dict[str, dict[str, Any]], x_name: str, columns: int = 2, ylabel: str = ROBUST_GAP
) -> Any:
    """Means over seeds with 95 % bands; panels[title][label] = (x (T,), band, seeds)."""
    shared = {"sharey": True} if len(panels) > 1 else {}
    figure, grid = style.panels(
        len(panels), 1.6 if len(panels) > 2 else 2.2, columns=columns, **shared
    )
    seeds = set()
    for axes, (title, curves) in zip(grid, panels.items(), strict=True):
        axes.set(xscale="log")
        for k, (label, (x, middle, n)) in enumerate(curves.items()):
            style.line(axes, k, x, middle, label)
            seeds.add(n)
        axes.set_yscale("symlog", linthresh=1e-2, linscale=0.6)
        style.round_ticks(axes.xaxis, short=len(panels) > 1)
        if title:
            axes.set_title(title)
    for axes in grid:
        axes.set_ylim(bottom=0.0)
        style.plain_symlog(axes.yaxis, 1e-2)
    note = style.over_seeds("mean", seeds)
    return style.finish(figure, grid[0], note, xlabel=x_name, ylabel=ylabel)


def sizes(here: Path = RESULTS / "offline") -> None:
    rows = read(here / "sizes_runs.csv")
    curves = {
        greek(name): over_seeds(of(rows, problem=name), "steps", "gap")
        for name in names(rows, "problem")
    }
    plots.save(gaps({"": curves}, "dataset size (steps)"), here / "sizes")


def behaviour(here: Path = RESULTS / "offline") -> None:
    rows = read(here / "behaviour_runs.csv")
    panels = {}
    for world, best in names(rows, "world", "optimum"):
        mine = of(rows, world=world)
        panels[f"{world}, best {best:.3g}"] = {
            label: over_seeds(of(mine, behaviour=label), "steps", "gap")
            for label in names(mine, "behaviour")
        }
    plots.save(gaps(panels, "environment steps"), here / "behaviour")


def networks(here: Path = RESULTS / "offline") -> None:
    rows = [row | {"gap": max(row["gap"], 0.0)} for row in read(here / "networks.csv")]
    panels: dict[str, dict[str, Any]] = {}
    for problem, recipe in names(rows, "problem", "recipe"):
        mine = of(rows, problem=problem, recipe=recipe)
        panels.setdefault(greek(problem), {})[recipe] = over_seeds(mine, "updates", "gap")
    plots.save(gaps(panels, "updates"), here / "networks")


def greek(problem: str) -> str:
    return problem.replace("beta ", "β = ")


# ---------------------------------------------------------------- along a changed parameter


def named(parameter: str, unit: str) -> str:
    return f"{parameter} ({unit})".replace("^2", "²") if unit else parameter


@style.styled
def along(rows: Sequence[Row], name: str, value: str, seeds: str) -> Any:
    """Scores along each parameter; a panel a parameter, a line a method."""
    parameters = names(rows, "perturbation", "unit", "nominal")
    methods = names(rows, name)
    figure, grid = style.panels(len(parameters), 1.45, columns=2, sharey=True)
    for axes, (parameter, unit, nominal) in zip(grid, parameters, strict=True):
        for k, method in enumerate(methods):
            mine = of(rows, perturbation=parameter, **{name: method})
            middle = band(*(column(mine, part) for part in (value, "low", "high")))
            style.line(axes, k, column(mine, "value"), middle, str(method))
        x = column(of(rows, perturbation=parameter), "value")
        if isinstance(nominal, float) and x.min() <= nominal <= x.max():
            axes.axvline(nominal, color="0.4", ls=(0, (4, 3)), lw=0.8, zorder=0)
        axes.set_xlabel(named(parameter, unit))
    note = f"{seeds}; dashed: nominal"
    return style.finish(figure, grid[0], note, ylabel="return of an episode")


def perturbations(here: Path = RESULTS / "offline" / "perturbations") -> None:
    rows = read(here / "bands.csv")
    note = style.over_seeds("mean", [len(names(read(here / "runs.csv"), "seed"))])
    for env_id in names(rows, "env_id"):
        plots.save(along(of(rows, env_id=env_id), "method", "mean_return", note), here / env_id)


def actor_critic(here: Path = RESULTS / "robust" / "actor-critic") -> None:
    for picture in sorted(here.glob("*.png")):
        env_id, _, parameter = picture.stem.rpartition("-")
        rows = of(read(here / f"{env_id}-bands.csv"), perturbation=parameter)
        note = style.over_seeds("mean", [int(seeds) for seeds in names(rows, "seeds")])
        plots.save(one_parameter(rows, note), here / picture.stem)


@style.styled
def one_parameter(rows: Sequence[Row], note: str) -> Any:
    figure, ((axes,),) = style.canvas(height=2.2)
    for k, label in enumerate(names(rows, "label")):
        mine = of(rows, label=label)
        middle = band(*(column(mine, part) for part in ("mean", "low", "high")))
        style.line(axes, k, column(mine, "value"), middle, str(label).replace("beta=", "β = "))
    (parameter, unit, nominal), *_ = names(rows, "perturbation", "unit", "nominal")
    axes.axvline(nominal, color="0.4", ls=(0, (4, 3)), lw=0.8, zorder=0)
    axes.set(xlabel=named(parameter, unit), ylabel="return of an episode")
    return style.finish(figure, axes, f"{note}; dashed: nominal, {nominal:g}")


# ---------------------------------------------------------------- Toy-10


def gradient(here: Path = RESULTS / "robust") -> None:
    plots.save(descents(read(here / "gradient.csv")), here / "gradient")


@style.styled
def descents(rows: Sequence[Row]) -> Any:
    noises, betas = names(rows, "p"), sorted(names(rows, "risk_aversion"))
    figure, grid = style.panels(len(noises), 2.0, columns=2, sharey=True)
    for axes, p in zip(grid, noises, strict=True):
        for beta in names(of(rows, p=p), "risk_aversion"):
            mine = of(rows, p=p, risk_aversion=beta)
            middle = band(column(mine, "gap"))
            style.line(axes, betas.index(beta), column(mine, "iteration"), middle, f"β = {beta:g}")
        axes.set(yscale="log", title=f"noise p = {p:g}", xlim=(0, 240), ylim=(1e-6, 200))
    style.round_ticks(grid[0].yaxis)
    handles = {h.get_label(): h for axes in grid for h in axes.lines}
    for beta in betas:  # one legend for all
        if (label := f"β = {beta:g}") not in [line.get_label() for line in grid[0].lines]:
            grid[0].plot([], [], label=label, **look(handles[label]))
    names_ = {"xlabel": "iteration, step size η = 0.1", "ylabel": "gap to the optimum (reward)"}
    return style.finish(figure, grid[0], **names_)


def robustness(here: Path = RESULTS / "robust") -> None:
    rows = read(here / "robustness.csv")
    for changed, name, xlabel, ylabel in (
        ("kl-ball", "kl-ball", "radius of the KL ball (nats)", "robust value"),
        ("p", "noise", "true noise p", "value"),
    ):
        picture = changes(of(rows, changed=changed), xlabel, f"{ylabel} (uniform start, γ = 0.95)")
        plots.save(picture, here / f"robustness-{name}")


@style.styled
def changes(rows: Sequence[Row], xlabel: str, ylabel: str) -> Any:
    """Values of policies that were planned for a noise; equal policies are one line."""
    noises = names(rows, "p")
    figure, grid = style.canvas(len(noises), 1, height=1.9 * len(noises))
    for axes, p in zip(grid.flat, noises, strict=True):
        curves: dict[tuple[float, ...], list[str]] = {}
        for policy in names(of(rows, p=p), "policy"):
            mine = of(rows, p=p, policy=policy)
            curves.setdefault(tuple(column(mine, "value")), []).append(policy)
        x = column(of(rows, p=p, policy="risk-neutral"), "to")
        for k, (values, policies) in enumerate(curves.items()):
            style.line(
                axes,
                k,
                x,
                band(np.array(values)),
                ", ".join(policies).replace("risk-neutral", "neutral"),
            )
        if x.max() > 0.3 and "noise" in xlabel:
            axes.axvline(p, color="0.4", ls=(0, (4, 3)), lw=0.8, zorder=0)
        axes.set_title(f"planned for noise p = {p:g}")
        axes.legend(loc="lower left" if "noise" in xlabel else "upper right")
    dashed = "dashed: the noise that was planned for" if "noise" in xlabel else ""
    empty = figure.add_subplot(label="none", frame_on=False, xticks=[], yticks=[])
    empty.set_in_layout(False)
    empty.set_visible(False)
    return style.finish(figure, empty, dashed, xlabel=xlabel, ylabel=ylabel)


# ---------------------------------------------------------------- networks that explore


def neural(here: Path = RESULTS / "neural_exploration") -> None:
    rows = of(read(here / "curves.csv"), tag="mixture_entropy")
    for task in names(rows, "task"):
        lines = []
        for arm in names(of(rows, task=task), "arm"):
            mine = of(rows, task=task, arm=arm)
            parts = band(*(column(mine, part) for part in ("mean", "low", "high")))
            none = {"slope": SimpleNamespace(value=math.nan), "from_step": 0.0}
            lines.append(SimpleNamespace(name=arm, steps=column(mine, "step"), band=parts, **none))
        note = style.over_seeds("mean", [int(n) for n in names(of(rows, task=task), "seeds")])
        picture = plots.curves(lines, "mixture entropy (nats)", "environment steps", False, note)
        plots.save(picture, here / f"{task}-curves")


# ---------------------------------------------------------------- preferences


@style.styled
def forest(rows: Sequence[Row], against: str) -> Any:
    """Differences of areas with their 95 % intervals; a panel a task and setting."""
    keys, arms = names(rows, "task", "setting"), [a for a in names(rows, "arm") if a != against]
    high = 0.42 + 0.155 * len(arms)
    columns = 2 if len(keys) > 1 else 1
    figure, grid = style.panels(len(keys), high, columns=columns, sharey=True)
    for axes, key in zip(grid, keys, strict=True):
        here = {row["arm"]: row for row in of(rows, task=key[0], setting=key[1])}
        for k, arm in enumerate(arms):
            if arm in here:
                interval(axes, k, here[arm])
        axes.axvline(0.0, color="0.4", lw=0.8, ls=(0, (4, 3)))
        axes.set_yticks(range(len(arms)), arms)
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.locator_params(axis="x", nbins=3)
        axes.set_title(" ".join(part for part in map(str, key) if part))
    seeds = sorted({int(row["seeds"]) for row in rows})
    note = f"mean of {' or '.join(map(str, seeds))} pairs of seeds, 95 % interval; grey: 0 is in it"
    return style.finish(
        figure, grid[0], note, xlabel=f"area under the curve, less that of {against}"
    )


def interval(axes: Any, k: int, row: Row) -> None:
    sure = row["low"] > 0.0 or row["high"] < 0.0
    colour = style.COLOURS[0] if row["low"] > 0.0 else style.COLOURS[1] if sure else "0.5"
    axes.plot([row["low"], row["high"]], [k, k], color=colour, lw=2.2, alpha=0.6)
    shape = ">" if row["low"] > 0.0 else "<" if sure else "o"
    axes.plot([row["difference"]], [k], shape, color=colour, ms=3.5)


def preferences(here: Path = RESULTS / "preferences") -> None:
    for name, against in (("e1", "random"), ("e2", "random"), ("e8", "random-prompts")):
        plots.save(forest(read(here / f"{name}.csv"), against), here / name)
    plots.save(noise(read(here / "e4.csv")), here / "e4")
    plots.save(cells(read(here / "rules.csv"), "random"), here / "rules")


@style.styled
def noise(rows: Sequence[Row]) -> Any:
    """Heat maps of the gain over random: temperature of the teacher by rate of flips."""
    arms = [arm for arm in names(rows, "arm") if arm != "random"]
    keys = [(task, arm) for task in names(rows, "task") for arm in arms]
    figure, grid = style.panels(len(keys), 1.35, columns=2)
    for axes, (task, arm) in zip(grid, keys, strict=True):
        here = of(rows, task=task, arm=arm)
        where = [row["setting"].split() for row in here]
        taus, flips = (sorted({float(w[i]) for w in where}) for i in (1, 3))
        table = np.full((len(taus), len(flips)), np.nan)
        for row, (_, tau, _, flip) in zip(here, where, strict=True):
            i, j = taus.index(float(tau)), flips.index(float(flip))
            table[i, j] = row["difference"]
            mark = "*" if row["holm_wilcoxon"] < 0.05 else ""
            text = f"{100 * row['difference']:+.0f}{mark}".replace("-", "\N{MINUS SIGN}")
            axes.text(j, i, text, ha="center", va="center", fontsize=7.0)
        axes.imshow(table, cmap="RdBu", vmin=-0.35, vmax=0.35, aspect="auto")
        axes.set_xticks(range(len(flips)), [f"{x:g}" for x in flips])
        axes.set_yticks(range(len(taus)), [f"{x:g}" for x in taus])
        axes.grid(visible=False)
        axes.set_title(f"{task}: {arm}", fontsize=7.0)
    note = "hundredths of area under the curve more than random; * p < 0.05 after Holm's correction"
    labels = {"xlabel": "share of answers flipped", "ylabel": "temperature (std of returns)"}
    return style.finish(figure, grid[0], note, **labels)


@style.styled
def cells(rows: Sequence[Row], against: str) -> Any:
    """Differences of rules from one of them in every cell, with two standard errors."""
    rules, shown = names(rows, "rule"), names(rows, "cell")
    figure, ((axes,),) = style.canvas(height=0.7 + 0.17 * len(shown))
    for k, rule in enumerate(rules):
        mine = of(rows, rule=rule)
        y = [
            shown.index(row["cell"]) + 0.6 * (k - (len(rules) - 1) / 2) / len(rules) for row in mine
        ]
        colour = style.series(k)["color"]
        x, error = column(mine, "difference"), 2.0 * column(mine, "error")
        axes.errorbar(x, y, xerr=error, fmt="none", ecolor=colour, lw=0.8)
        axes.plot(x, y, ls="none", label=rule, **style.marker(k) | {"ms": 3.0})
    axes.axvline(0.0, color="0.4", lw=0.8)
    axes.set_yticks(range(len(shown)), shown)
    axes.tick_params(axis="y", labelsize=7.0)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    note = f"mean over 25 to 100 pairs of seeds, two standard errors; against {against}"
    axes.set_xlabel("difference in area under the curve", loc="right")
    return style.finish(figure, axes, note)


PARTS: dict[str, Callable[[], None]] = {
    part.__name__: part
    for part in (
        *(exploration, paper, sizes, behaviour, networks, perturbations, actor_critic),
        *(gradient, robustness, neural, preferences),
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}")
    for name in parser.parse_args().parts or PARTS:
        PARTS[name]()
        print(name, flush=True)


if __name__ == "__main__":
    main()
