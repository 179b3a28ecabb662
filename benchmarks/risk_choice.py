"""How large a β or a radius must be on the ring, and what it costs (docs/choosing.md).

    python benchmarks/risk_choice.py --out results/robust

For each β of the entropic risk and each radius of a KL ball, the policy that is planned for it on
the ring of robust §5.1 (p = 0.01, γ = 0.95), and what that policy is worth where the noise is
another: its cost where nothing changes, and what it buys where much does. Dotted lines mark β times
the spread of next values = 1, and the radius that reaches each noise, KL(changed ‖ nominal).
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import gymnasium
import numpy as np

import rlentropy  # noqa: F401  (registers the environments)
from rlentropy import FiniteMDP, planning, risk
from rlentropy.offline.comparison import next_value_spreads
from rlentropy.offline.tabular import Model
from rlentropy.plots import save
from rlentropy.plots.style import canvas, finish, series, styled

GAMMA, NOMINAL = 0.95, 0.01
NOISES = (0.01, 0.1, 0.2, 0.3)
BETAS = np.round(np.geomspace(0.03, 10.0, 60), 6)
RADII = np.round(np.geomspace(0.01, 3.0, 60), 6)


def ring(p: float) -> FiniteMDP:
    return FiniteMDP.from_env(gymnasium.make("rlentropy/Ring-v0", p=p))


def reach(p: float) -> float:
    """The KL ball around the nominal noise that another one lies on the edge of, nats."""
    changed = np.array([p, 1.0 - 2.0 * p, p])
    nominal = np.array([NOMINAL, 1.0 - 2.0 * NOMINAL, NOMINAL])
    return float((changed * np.log(changed / nominal)).sum())


def spread(mdp: FiniteMDP) -> float:
    """Of next values without risk: the median over state-action pairs of max - min."""
    V = planning.optimum(mdp, GAMMA).V
    return float(np.median(next_value_spreads(Model.of(mdp), GAMMA, V)))


def planned(
    name: str, parameters: Sequence[float]
) -> Iterator[tuple[str, float, int, dict[float, float]]]:
    """Of each parameter how many states act otherwise, and the value at each noise."""
    mdp = ring(NOMINAL)
    usual = planning.optimum(mdp, GAMMA).pi.argmax(1)
    worlds = {p: ring(p) for p in NOISES}
    for x in parameters:
        best = planning.robust_optimum(mdp, risk.parse(f"{name}:{x}"), GAMMA)
        values = {
            p: float(w.mu @ planning.robust_evaluation(w, best.pi, risk.Nominal(), GAMMA).V)
            for p, w in worlds.items()
        }
        yield name, x, int((best.pi.argmax(1) != usual).sum()), values


@styled
def draw(rows: Sequence[tuple[str, float, int, dict[float, float]]], out: Path) -> None:
    figure, ((left, right),) = canvas(1, 2, width=6.6, height=2.4, sharey=True)
    for k, p in enumerate(NOISES):
        label = f"p = {p:g}" + (", as planned for" if p == NOMINAL else "")
        for axes, name in ((left, "entropic"), (right, "kl-ball")):
            of_name = [row for row in rows if row[0] == name]
            x, y = [row[1] for row in of_name], [row[3][p] for row in of_name]
            axes.plot(x, y, label=label, drawstyle="steps-mid", **series(k))
        if p != NOMINAL:
            right.axvline(reach(p), color=series(k)["color"], ls=":", lw=1.0)
    left.axvline(1.0 / spread(ring(NOMINAL)), color="0.35", ls=":", lw=1.0)
    left.set(xscale="log", xlabel="β of --risk entropic:β", ylabel="value (discounted reward)")
    right.set(xscale="log", xlabel="radius of --risk kl-ball:δ, nats")
    note = (
        "dotted: where β times the spread of next values is 1; the radius that reaches that noise"
    )
    save(finish(figure, left, note), out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/robust"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    rows = [*planned("entropic", BETAS.tolist()), *planned("kl-ball", RADII.tolist())]
    with open(out / "choice.csv", "w", newline="") as file:
        file.write("# python benchmarks/risk_choice.py --out results/robust\n")
        writer = csv.writer(file)
        writer.writerow(["risk", "parameter", "states_changed", *(f"p={p:g}" for p in NOISES)])
        for name, x, changed, values in rows:
            writer.writerow([name, x, changed, *(f"{values[p]:.5g}" for p in NOISES)])
    draw(rows, out / "choice")
    print(f"spread of next values {spread(ring(NOMINAL)):.4g}")
    print({p: round(reach(p), 3) for p in NOISES})


if __name__ == "__main__":
    main()
