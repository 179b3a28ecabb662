"""Entropies of policies and their optima over a finite horizon, in 60 digits.

    VE_λ = Σ_h H(d_h(s)) + λ Σ_h E[H(π_h)]    (VE at λ = 1, VE_S at λ = 0)
    AVE, AVE_S = H(mean_h d_h), of states and actions or of states
    TE = H(μ) + Σ_h E[H(π_h)] + Σ_{h<H} E[H(P)], with TE+ counting the last transition too

TE has a soft plan. For the others the optimum is the least value, over forecasters q, of the plan
for reward -log q (-1/H log q where stages are averaged): a smooth convex function of logits when
policies also get temperature × their entropy. Newton's method minimises it, with a Hessian of
differences that 90 digits can afford. Objectives without an entropy of policies are bracketed, as a
temperature τ adds between 0 and τ H log A.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from exact.arithmetic import ONE, ZERO, Row, context, distribution

STEP = Decimal("1e-35")  # of differences
COLD = Decimal("1e-9")  # the last temperature

Table = list[list[list[Decimal]]]  # (H, S, A)


def entropy(masses: Any) -> Decimal:
    return -sum((x * x.ln() for x in masses if x > 0), ZERO)


@dataclass(frozen=True)
class Episodes:
    """A finite horizon of a kernel P (S, A, S) from μ."""

    P: list[list[Row]]
    mu: Row
    horizon: int

    @classmethod
    def of(cls, P: Any, mu: Any, horizon: int) -> "Episodes":
        with context():
            rows = [[distribution(p) for p in actions] for actions in np.asarray(P, float)]
            return cls(rows, distribution(np.asarray(mu, float)), horizon)

    def occupancy(self, pi: Table) -> Table:
        S, A = len(self.P), len(self.P[0])
        state, d = [self.mu.get(s, ZERO) for s in range(S)], []
        for h in range(self.horizon):
            d.append([[state[s] * pi[h][s][a] for a in range(A)] for s in range(S)])
            state = [ZERO] * S
            for s in range(S):
                for a in range(A):
                    for j, p in self.P[s][a].items():
                        state[j] += d[h][s][a] * p
        return d

    def plan(self, r: Table, temperature: Decimal) -> tuple[Decimal, Table]:
        """Value and policy of the best plan for r plus temperature × entropy of the policy."""
        V, policy = [ZERO] * len(self.P), []
        for h in reversed(range(self.horizon)):
            stage, after = [], V
            V = []
            for s, actions in enumerate(self.P):
                Q = [r[h][s][a] + sum(p * after[j] for j, p in row.items()) for a, row in
                     enumerate(actions)]  # fmt: skip
                top = max(Q)
                weight = [((q - top) / temperature).exp() for q in Q]
                total = sum(weight)
                V.append(top + temperature * total.ln())
                stage.append([w / total for w in weight])
            policy.append(stage)
        return sum(p * V[s] for s, p in self.mu.items()), policy[::-1]


def of_policy(episodes: Episodes, pi: Any, objective: str, temperature: float = 1.0) -> Decimal:
    """VE, VE_S, AVE, AVE_S, TE or TE+ of floats pi (H, S, A)."""
    with context():
        A, H = len(episodes.P[0]), episodes.horizon
        rows = [[distribution(row) for row in stage] for stage in np.asarray(pi, float)]
        table = [[[row.get(a, ZERO) for a in range(A)] for row in stage] for stage in rows]
        d = episodes.occupancy(table)
        states = [[sum(x) for x in stage] for stage in d]
        policies = sum(
            (states[h][s] * entropy(table[h][s]) for h in range(H) for s in range(len(states[h]))),
            ZERO,
        )
        if objective in ("TE", "TE+"):
            counted = d if objective == "TE+" else d[:-1]
            moves = sum(
                stage[s][a] * entropy(row.values())
                for stage in counted
                for s, actions in enumerate(episodes.P)
                for a, row in enumerate(actions)
            )
            return entropy(episodes.mu.values()) + policies + moves
        if objective in ("VE", "VE_S"):
            weight = Decimal(temperature) if objective == "VE" else ZERO
            return sum((entropy(stage) for stage in states), ZERO) + weight * policies
        if objective == "AVE":
            return entropy(sum(cells) / H for cells in zip(*map(flat, d), strict=True))
        return entropy(sum(cells) / H for cells in zip(*states, strict=True))


def flat(stage: list[list[Decimal]]) -> list[Decimal]:
    return [x for row in stage for x in row]


def optimum(
    episodes: Episodes, objective: str, temperature: float = 1.0
) -> tuple[Decimal, Decimal]:
    """Bounds on the largest entropy of any policy."""
    with context():
        H, S, A = episodes.horizon, len(episodes.P), len(episodes.P[0])
        if objective in ("TE", "TE+"):
            moves = [[entropy(row.values()) for row in actions] for actions in episodes.P]
            last = moves if objective == "TE+" else [[ZERO] * A for _ in range(S)]
            value = (
                entropy(episodes.mu.values()) + episodes.plan([moves] * (H - 1) + [last], ONE)[0]
            )
            return value, value
        dual = Dual(episodes, objective)
        final = Decimal(temperature) if objective == "VE" else COLD
        logits, heat = [ZERO] * len(dual.cells), max(final, ONE)
        while True:
            logits = dual.minimise(logits, heat)
            if heat == final:
                break
            heat = max(heat / 10, final)
        high = dual.at(logits, final)[0]
        low = high - (ZERO if objective == "VE" else final * H * Decimal(A).ln())
        return low, high


class Dual:
    """The value of the plan for -log q, q the softmax of logits of the cells that it forecasts."""

    def __init__(self, episodes: Episodes, objective: str) -> None:
        H, S, A = episodes.horizon, len(episodes.P), len(episodes.P[0])
        self.episodes = episodes
        self.pooled, self.actions = objective.startswith("AVE"), objective == "AVE"
        self.weight = ONE / H if self.pooled else ONE
        even = [[[ONE / A] * A for _ in range(S)] for _ in range(H)]
        reached = {
            self.cell(h, s, a)
            for h, stage in enumerate(episodes.occupancy(even))
            for s, row in enumerate(stage)
            for a, x in enumerate(row)
            if x > 0
        }
        self.cells = {cell: i for i, cell in enumerate(sorted(reached))}

    def cell(self, h: int, s: int, a: int) -> tuple[int, int, int]:
        """What a forecaster sees of (h, s, a); forecasts of one h sum to 1."""
        return 0 if self.pooled else h, s, a if self.actions else 0

    def at(self, logits: Sequence[Decimal], heat: Decimal) -> tuple[Decimal, list[Decimal]]:
        """Value and gradient, q - d."""
        H, S, A = self.episodes.horizon, len(self.episodes.P), len(self.episodes.P[0])
        total: dict[int, Decimal] = {}
        for (h, _, _), i in self.cells.items():
            total[h] = total.get(h, ZERO) + logits[i].exp()
        log_q = {cell: logits[i] - total[cell[0]].ln() for cell, i in self.cells.items()}
        r = [
            [
                [-self.weight * log_q.get(self.cell(h, s, a), ZERO) for a in range(A)]
                for s in range(S)
            ]
            for h in range(H)
        ]
        value, pi = self.episodes.plan(r, heat)
        slope = [logits[i].exp() / total[cell[0]] for cell, i in self.cells.items()]
        for h, stage in enumerate(self.episodes.occupancy(pi)):
            for s, row in enumerate(stage):
                for a, x in enumerate(row):
                    if x > 0:
                        slope[self.cells[self.cell(h, s, a)]] -= self.weight * x
        return value, slope

    def minimise(self, logits: list[Decimal], heat: Decimal) -> list[Decimal]:
        """Damped Newton; a ridge on the Hessian fixes what a constant in all logits leaves free."""
        n = len(logits)
        for _ in range(200):
            value, slope = self.at(logits, heat)
            if max(abs(x) for x in slope) < Decimal("1e-28"):
                return logits
            columns = []
            for i in range(n):
                moved = [x + (STEP if j == i else ZERO) for j, x in enumerate(logits)]
                columns.append(
                    [(y - x) / STEP for x, y in zip(slope, self.at(moved, heat)[1], strict=True)]
                )
            matrix = [
                [columns[j][i] + (Decimal("1e-20") if i == j else ZERO) for j in range(n)]
                for i in range(n)
            ]
            step = gauss(matrix, slope)
            size = ONE
            while size > Decimal("1e-12"):
                candidate = [x - size * y for x, y in zip(logits, step, strict=True)]
                if self.at(candidate, heat)[0] < value:
                    break
                size /= 2
            else:
                return logits
            logits = candidate
        raise ArithmeticError("the dual didn't settle")


def gauss(matrix: list[list[Decimal]], right: Sequence[Decimal]) -> list[Decimal]:
    """x with M x = right, with pivots."""
    rows = [[*line, b] for line, b in zip(matrix, right, strict=True)]
    n = len(rows)
    for k in range(n):
        best = max(range(k, n), key=lambda i: abs(rows[i][k]))
        rows[k], rows[best] = rows[best], rows[k]
        for i in range(k + 1, n):
            factor = rows[i][k] / rows[k][k]
            rows[i] = [x - factor * y for x, y in zip(rows[i], rows[k], strict=True)]
    x = [ZERO] * n
    for k in reversed(range(n)):
        x[k] = (rows[k][n] - sum(rows[k][j] * x[j] for j in range(k + 1, n))) / rows[k][k]
    return x
