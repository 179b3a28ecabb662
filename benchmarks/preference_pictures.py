"""Pictures of the preference studies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from preference_summaries import BINS, Make, Row, Tables, comparisons, grouped, histograms, mean_of

from rlentropy import plots
from rlentropy.files import replace_file
from rlentropy.intervals import estimate

COLOURS, STYLES = plots.COLOURS, plots.STYLES
SHOWN = ("random", "certainty", "uncertainty", "label-information", "push-value", "oracle-gap")


def panels(n: int, width: float, height: float, columns: int = 3, **shared: Any) -> Any:
    """A figure with n axes side by side."""
    from matplotlib.figure import Figure

    rows = -(-n // columns)
    columns = min(n, columns)
    figure = Figure(figsize=(width * columns, height * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **shared).ravel()
    for spare in axes[n:]:
        spare.set_visible(False)
    return figure, axes[:n]


def save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110)


def legend(figure: Any, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    style = {"frameon": False, "fontsize": 9, "ncols": 6}
    figure.legend(handles, labels, loc="outside upper center", **style)


def tidy(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.grid(True, alpha=0.3, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def curves(rows: Sequence[Row], path: Path) -> None:
    """Normalised return over labels, mean over seeds with its 95 % interval; a panel a task."""
    tasks = list(dict.fromkeys(r["task"] for r in rows))
    figure, grid = panels(len(tasks), 3.4, 2.7)
    for axes, task in zip(grid, tasks, strict=True):
        for k, arm in enumerate(SHOWN):
            runs = [r for r in rows if r["task"] == task and r["arm"] == arm]
            if not runs:
                continue
            labels = np.append(0.0, np.array(runs[0]["labels"].split(";"), float))
            values = np.array([[0.0, *map(float, r["curve"].split(";"))] for r in runs])
            band = estimate(values, "mean", np.random.default_rng(0))
            axes.plot(labels, band.value, color=COLOURS[k], ls=STYLES[k % 5], lw=1.6, label=arm)
            axes.fill_between(labels, band.low, band.high, color=COLOURS[k], alpha=0.15, lw=0)
        tidy(axes, f"{task}, {len(runs)} seeds")
        axes.set(xlabel="labels", ylabel="normalised return")
    legend(figure, grid[0])
    save(figure, path)


def forest(found: Sequence[Row], path: Path, against: str) -> None:
    """Differences of areas with their 95 % intervals; a panel a task and setting."""
    keys = list(dict.fromkeys((r["task"], r["setting"]) for r in found))
    arms = [a for a in dict.fromkeys(r["arm"] for r in found) if a != against]
    figure, grid = panels(len(keys), 3.0, 0.8 + 0.19 * len(arms), sharey=True)
    for axes, key in zip(grid, keys, strict=True):
        of_key = {r["arm"]: r for r in found if (r["task"], r["setting"]) == key}
        for k, arm in enumerate(arms):
            if arm in of_key:
                r = of_key[arm]
                sure = r["low"] > 0.0 or r["high"] < 0.0
                colour = COLOURS[0] if r["low"] > 0.0 else COLOURS[1] if sure else "0.5"
                axes.plot([r["low"], r["high"]], [k, k], color=colour, lw=2.5, alpha=0.6)
                axes.plot([r["difference"]], [k], "o", color=colour, ms=4)
        axes.axvline(0.0, color="0.4", lw=1.0, ls=(0, (4, 3)))
        axes.set_yticks(range(len(arms)), arms, fontsize=8)
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.locator_params(axis="x", nbins=5)
        tidy(axes, f"{' '.join(filter(None, key))}, {of_key[against]['seeds']} seeds")
    figure.supxlabel(f"area under the curve, less that of {against}", fontsize=10)
    save(figure, path)


def of_protocol(name: str) -> Callable[[Path, Tables], None]:
    def draw(out: Path, rows: Tables) -> None:
        curves(rows[name], out / f"{name}-curves.png")
        forest(comparisons(rows[name]), out / f"{name}.png", "random")

    return draw


def confidences(out: Path, rows: Tables) -> None:
    """Predicted probabilities of the answers, early to late, of online arms on the grid."""
    found = []
    middle = (np.arange(BINS) + 0.5) / BINS
    logits = np.log(middle / (1.0 - middle))
    sums = histograms(rows["e3"])
    for arm in ("random", "certainty", "uncertainty", "label-information"):
        counts = sums["grid", "online", arm][1:]
        for k, part in enumerate(np.array_split(counts, 4)):
            found.append((f"{arm}, quarter {k + 1}", np.repeat(logits, part.sum(0))))
    replace_file(out / "e3.png", plots.png(plots.margins(found)))


def noise(out: Path, rows: Tables) -> None:
    """Heat maps of the gain over random: temperature of the teacher by rate of flips."""
    found = comparisons(rows["e4"])
    tasks = list(dict.fromkeys(r["task"] for r in found))
    arms = [a for a in dict.fromkeys(r["arm"] for r in found) if a != "random"]
    figure, grid = panels(len(tasks) * len(arms), 2.8, 2.5, columns=len(arms))
    for axes, (task, arm) in zip(grid, [(t, a) for t in tasks for a in arms], strict=True):
        here = [r for r in found if (r["task"], r["arm"]) == (task, arm)]
        where = [r["setting"].split() for r in here]
        taus, flips = (sorted({float(w[i]) for w in where}) for i in (1, 3))
        table = np.full((len(taus), len(flips)), np.nan)
        for r, (_, tau, _, flip) in zip(here, where, strict=True):
            i, j = taus.index(float(tau)), flips.index(float(flip))
            table[i, j] = r["difference"]
            mark = "*" if r["holm_wilcoxon"] < 0.05 else ""
            axes.text(j, i, f"{r['difference']:+.2f}{mark}", ha="center", va="center", fontsize=8)
        axes.imshow(table, cmap="RdBu", vmin=-0.25, vmax=0.25)
        axes.set_xticks(range(len(flips)), [f"{x:g}" for x in flips])
        axes.set_yticks(range(len(taus)), [f"{x:g}" for x in taus])
        axes.set_title(f"{task}: {arm}", fontsize=10)
    figure.supxlabel("flipped answers", fontsize=10)
    figure.supylabel("temperature, std of returns", fontsize=10)
    save(figure, out / "e4.png")


def divergence(out: Path, rows: Tables) -> None:
    """Final return against final KL at four learning rates, online."""
    runs = [dict(r, setting="lr 0.02 online") for r in rows["e2"]]
    runs += [r for r in rows["e7"] if r["setting"].endswith("online")]
    tasks = list(dict.fromkeys(r["task"] for r in rows["e7"]))
    figure, grid = panels(len(tasks), 3.4, 2.9)
    for axes, task in zip(grid, tasks, strict=True):
        for k, arm in enumerate(SHOWN):
            points = []
            for rate in ("0.01", "0.02", "0.04", "0.08"):
                place = (task, arm, f"lr {rate} online")
                here = [r for r in runs if (r["task"], r["arm"], r["setting"]) == place]
                if here:
                    points.append((mean_of(here, "kl"), mean_of(here, "final")))
            if points:
                x, y = zip(*points, strict=True)
                style: dict[str, Any] = {"color": COLOURS[k], "ls": STYLES[k % 5]}
                axes.plot(x, y, marker=plots.MARKERS[k], ms=4, lw=1.4, label=arm, **style)
        tidy(axes, task)
        axes.set(xlabel="final KL, nats", ylabel="final normalised return")
    legend(figure, grid[0])
    save(figure, out / "e7.png")


def scored(out: Path, rows: Tables) -> None:
    forest(comparisons(rows["e8"], "random-prompts"), out / "e8.png", "random-prompts")


def routes(out: Path, rows: Tables) -> None:
    """Right answers by who gets the doubtful fifth; a panel a bias, mean over tasks."""
    values = grouped(rows["e9"], "accuracy")
    settings = list(dict.fromkeys(setting for _, setting in values))
    taus, biases = (sorted({float(s.split()[i]) for s in settings}) for i in (1, 3))
    arms = list(dict.fromkeys(r["arm"] for r in rows["e9"]))
    figure, grid = panels(len(biases), 3.2, 2.8, sharey=True)
    for axes, bias in zip(grid, biases, strict=True):
        for k, arm in enumerate(arms):
            means = [
                np.mean(
                    [
                        np.mean([*of_arm[arm].values()])
                        for (_, setting), of_arm in values.items()
                        if setting == f"tau {tau:g} bias {bias:g}"
                    ]
                )
                for tau in taus
            ]
            style: dict[str, Any] = {"color": COLOURS[k], "ls": STYLES[k % 5]}
            axes.plot(taus, means, marker=plots.MARKERS[k], lw=1.4, ms=4, label=arm, **style)
        tidy(axes, f"bias {bias:g}")
        axes.set(xscale="log", xlabel="temperature, std", ylabel="right answers")
    legend(figure, grid[0])
    save(figure, out / "e9.png")


PICTURES: dict[str, Make] = {
    "e1 picture": (of_protocol("e1"), ("e1",)),
    "e2 picture": (of_protocol("e2"), ("e2",)),
    "e3 picture": (confidences, ("e3",)),
    "e4 picture": (noise, ("e4",)),
    "e7 picture": (divergence, ("e2", "e7")),
    "e8 picture": (scored, ("e8",)),
    "e9 picture": (routes, ("e9",)),
}
