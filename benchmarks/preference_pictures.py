"""Pictures of the preference studies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import redraw
from preference_summaries import BINS, Make, Row, Tables, comparisons, grouped, histograms, mean_of

from rlentropy import plots
from rlentropy.intervals import estimate
from rlentropy.plots import style

SHOWN = ("random", "certainty", "uncertainty", "label-information", "push-value", "oracle-gap")


@style.styled
def curves(rows: Sequence[Row]) -> Any:
    """Normalised return over labels, mean over seeds with its 95 % interval; a panel a task."""
    tasks = list(dict.fromkeys(r["task"] for r in rows))
    figure, grid = style.panels(len(tasks), 1.5, columns=2)
    seeds = set()
    for axes, task in zip(grid, tasks, strict=True):
        for k, arm in enumerate(SHOWN):
            runs = [r for r in rows if r["task"] == task and r["arm"] == arm]
            if not runs:
                continue
            labels = np.append(0.0, np.array(runs[0]["labels"].split(";"), float))
            values = np.array([[0.0, *map(float, r["curve"].split(";"))] for r in runs])
            band = estimate(values, "mean", np.random.default_rng(0))
            style.line(axes, k, labels, band, arm)
            seeds.add(len(runs))
        axes.set_title(task)
    note = style.over_seeds("mean", seeds)
    return style.finish(figure, grid[0], note, xlabel="labels", ylabel="normalised return")


def of_protocol(name: str) -> Callable[[Path, Tables], None]:
    def draw(out: Path, rows: Tables) -> None:
        plots.save(curves(rows[name]), out / f"{name}-curves")
        plots.save(redraw.forest(comparisons(rows[name]), "random"), out / name)

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
    plots.save(plots.margins(found, columns=4), out / "e3")


def noise(out: Path, rows: Tables) -> None:
    plots.save(redraw.noise(comparisons(rows["e4"])), out / "e4")


@style.styled
def divergence(out: Path, rows: Tables) -> None:
    """Final return against final KL at four learning rates, online."""
    runs = [dict(r, setting="lr 0.02 online") for r in rows["e2"]]
    runs += [r for r in rows["e7"] if r["setting"].endswith("online")]
    tasks = list(dict.fromkeys(r["task"] for r in rows["e7"]))
    figure, grid = style.panels(len(tasks), 1.5, columns=2)
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
                axes.plot(x, y, label=arm, **style.series(k), **style.marker(k))
        axes.set_title(task)
    labels = {"xlabel": "final KL (nats)", "ylabel": "final normalised return"}
    plots.save(style.finish(figure, grid[0], **labels), out / "e7")


def scored(out: Path, rows: Tables) -> None:
    found = comparisons(rows["e8"], "random-prompts")
    plots.save(redraw.forest(found, "random-prompts"), out / "e8")


@style.styled
def routes(out: Path, rows: Tables) -> None:
    """Right answers by who gets the doubtful fifth; a panel a bias, mean over tasks."""
    values = grouped(rows["e9"], "accuracy")
    settings = list(dict.fromkeys(setting for _, setting in values))
    taus, biases = (sorted({float(s.split()[i]) for s in settings}) for i in (1, 3))
    arms = list(dict.fromkeys(r["arm"] for r in rows["e9"]))
    figure, grid = style.panels(len(biases), 1.6, columns=2, sharey=True)
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
            axes.plot(taus, means, label=arm, **style.series(k), **style.marker(k))
        axes.set_title(f"bias {bias:g}")
        axes.set_xscale("log")
        style.round_ticks(axes.xaxis, short=True)
    labels = {"xlabel": "temperature (std of returns)", "ylabel": "share of right answers"}
    plots.save(style.finish(figure, grid[0], **labels), out / "e9")


PICTURES: dict[str, Make] = {
    "e1 picture": (of_protocol("e1"), ("e1",)),
    "e2 picture": (of_protocol("e2"), ("e2",)),
    "e3 picture": (confidences, ("e3",)),
    "e4 picture": (noise, ("e4",)),
    "e7 picture": (divergence, ("e2", "e7")),
    "e8 picture": (scored, ("e8",)),
    "e9 picture": (routes, ("e9",)),
}
