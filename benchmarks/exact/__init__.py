"""Values of small MDPs in 60 digits, written from the definitions; nothing here imports rlentropy.

Every float is taken as the binary number that it is, and a row of probabilities as p / Σ p in exact
arithmetic. Policies are evaluated by exact elimination, robustly by Newton's method on nature's
worst case (it falls to the value from above, each step solving nature's last answer), and improved
until no action gains. What is returned is good to max |T V - V| / (1 - γ), which is checked.

Nature's problem in a row (Q(s, a) = r(s, a) + min_q E_q z + γ D(q, p) with z = γ V, plus the reward
of the successor where rewards depend on it, so that γ = 0 leaves a penalty nothing) is solved by
its optimality conditions: in closed form where sorting gives one, else by a root to 80 digits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from exact.arithmetic import ONE, TIE, ZERO, Row, context, distribution, eliminate
from exact.joint import JOINT
from exact.rows import NATURE, Answer

DONE = Decimal("1e-62")  # |T V - V| relative to the largest value or reward, which counts as
LEAST = Decimal("1e-18")  # this where all are 0
FULL = {"contamination", "wasserstein-penalty", "wasserstein-ball"}  # support unless told


@dataclass(frozen=True)
class Model:
    """An MDP in exact numbers; row s * A + a."""

    P: list[Row]
    r: list[list[Decimal]]  # (S, A), 0 where rewards depend on the successor
    bonus: list[Row] | None  # rewards of the stored successors, by row
    gamma: Decimal
    terminal: frozenset[int]

    @classmethod
    def of(cls, P: Any, r: Any, gamma: float, terminal: Any = None) -> "Model":
        """From arrays P (S, A, S), r (S, A) or (S, A, S), terminal (S,) of bool."""
        P, r = np.asarray(P, float), np.asarray(r, float)
        S, A = P.shape[:2]
        ended = (
            frozenset(np.flatnonzero(terminal).tolist()) if terminal is not None else frozenset()
        )
        with context():
            rows = [distribution(p) for p in P.reshape(S * A, S)]
            bonus = None
            if r.ndim == 3:
                paid = r.reshape(S * A, S)
                bonus = [{j: Decimal(float(paid[i, j])) for j in p} for i, p in enumerate(rows)]
                r = np.zeros((S, A))
                if all(len(set(row.values())) == 1 for row in bonus):  # they are those of (s, a)
                    r, bonus = (
                        np.reshape([paid[i, min(p)] for i, p in enumerate(rows)], (S, A)),
                        None,
                    )
            rewards = [[Decimal(float(x)) for x in line] for line in r]
            return cls(rows, rewards, bonus, Decimal(float(gamma)), ended)

    @property
    def sizes(self) -> tuple[int, int]:
        return len(self.r), len(self.r[0])


class Robust:
    """T of one model under one measure, named as --risk does: "kl-ball:0.1".

    support: "nominal", "full" or a list of states beside those with p > 0; default as rlentropy's.
    """

    def __init__(self, model: Model, measure: str = "nominal", support: Any = None) -> None:
        name, _, numbers = measure.partition(":")
        self.model, self.name = model, name
        self.numbers = [Decimal(float(x)) for x in numbers.split(",") if x]
        support = support or ("full" if name in FULL else "nominal")
        S = model.sizes[0]
        self.extra = range(S) if support == "full" else () if support == "nominal" else support
        self.guess: dict[int, list[Decimal]] = {}  # roots found last, by row

    def outcomes(self, V: Sequence[Decimal], i: int) -> tuple[Row, Row]:
        """p, and z where nature may put mass."""
        p, gamma = self.model.P[i], self.model.gamma
        paid = self.model.bonus[i] if self.model.bonus else {}
        return p, {j: gamma * V[j] + paid.get(j, ZERO) for j in sorted({*p, *self.extra})}

    def answer(self, V: Sequence[Decimal], i: int) -> Answer:
        """Nature's q* and payment in row i."""
        s = i // self.model.sizes[1]
        if s in self.model.terminal:
            return {s: ONE}, ZERO
        p, z = self.outcomes(V, i)
        warm = self.guess.setdefault(i, [])
        return NATURE[self.name](p, z, self.model.gamma, self.numbers, warm)

    def gain(self, V: Sequence[Decimal], i: int, found: Answer) -> Decimal:
        """Q of row i under nature's answer."""
        q, paid = found
        s, a = divmod(i, self.model.sizes[1])
        bonus = self.model.bonus[i] if self.model.bonus else {}
        mean = sum(x * (self.model.gamma * V[j] + bonus.get(j, ZERO)) for j, x in q.items())
        return self.model.r[s][a] + mean + paid

    def respond(self, V: Sequence[Decimal], s: int, pi: Row) -> dict[int, Answer]:
        """Nature's answers to a policy {action: probability} in state s, by action."""
        A = self.model.sizes[1]
        if self.name.startswith("s-") and s not in self.model.terminal:
            rows = {a: self.outcomes(V, s * A + a) for a in pi}
            found = JOINT[self.name][1](rows, pi, self.numbers[0])
            return {a: (q, ZERO) for a, q in found.items()}
        return {a: self.answer(V, s * A + a) for a in pi}

    def best(self, V: Sequence[Decimal], s: int, now: Row) -> tuple[Row, Decimal]:
        """A best policy in state s, `now` unless another gains, and its value."""
        A = self.model.sizes[1]
        if self.name.startswith("s-") and s not in self.model.terminal:
            rows = {a: self.outcomes(V, s * A + a) for a in range(A)}
            r = dict(enumerate(self.model.r[s]))
            return JOINT[self.name][0](rows, r, self.numbers[0])
        gains = [self.gain(V, s * A + a, self.answer(V, s * A + a)) for a in range(A)]
        top = max(gains)
        floor = top - TIE * max(abs(x) for x in [*gains, *V])
        if all(gains[a] >= floor for a in now):
            return now, top
        return {gains.index(top): ONE}, top

    def evaluate(self, pi: list[Row], V: list[Decimal] | None = None) -> list[Decimal]:
        """V^π of a policy, a row {action: probability} for each state."""
        S, A = self.model.sizes
        V = [ZERO] * S if V is None else V
        for _ in range(200):
            matrix: list[Row] = []
            right: list[Decimal] = []
            TV: list[Decimal] = []
            for s in range(S):
                flow, constant, value = {}, ZERO, ZERO
                for a, found in self.respond(V, s, pi[s]).items():
                    i = s * A + a
                    value += pi[s][a] * self.gain(V, i, found)
                    constant += pi[s][a] * self.gain([ZERO] * S, i, found)
                    for j, x in found[0].items():
                        flow[j] = flow.get(j, ZERO) + pi[s][a] * x * self.model.gamma
                matrix.append({j: -x for j, x in flow.items()})
                matrix[s][s] = matrix[s].get(s, ZERO) + ONE
                right.append(constant)
                TV.append(value)
            if self.settled(V, TV):
                return V
            V = eliminate(matrix, right)
        raise ArithmeticError(f"{self.name}: Newton's method didn't settle")

    def settled(self, V: Sequence[Decimal], TV: Sequence[Decimal]) -> bool:
        size = max(abs(x) for x in [LEAST, *V, *TV, *(x for line in self.model.r for x in line)])
        return max(abs(x - y) for x, y in zip(V, TV, strict=True)) <= DONE * size

    def optimum(self) -> tuple[list[Decimal], list[Row]]:
        """V* and a policy that attains it."""
        S = self.model.sizes[0]
        pi: list[Row] = [{0: ONE} for _ in range(S)]
        V: list[Decimal] | None = None
        for _ in range(200):
            V = self.evaluate(pi, V)
            found = [self.best(V, s, pi[s]) for s in range(S)]
            if self.settled(V, [value for _, value in found]):
                return V, pi
            pi = [row for row, _ in found]
        raise ArithmeticError(f"{self.name}: policy iteration didn't settle")


def optimum(model: Model, measure: str = "nominal", support: Any = None) -> list[Decimal]:
    """V* of a model, robust under `measure`."""
    with context():
        return Robust(model, measure, support).optimum()[0]


def evaluation(
    model: Model, pi: Any, measure: str = "nominal", support: Any = None
) -> list[Decimal]:
    """V^π of floats pi (S, A)."""
    with context():
        return Robust(model, measure, support).evaluate(
            [distribution(row) for row in np.asarray(pi)]
        )


def markov_evaluation(
    model: Model, pi: Any, measure: str = "nominal", support: Any = None
) -> list[Decimal]:
    """V = Σ_a π r + γ W(Σ_a π P, V): the risk of action and successor together."""
    A = model.sizes[1]
    with context():
        rows, gains = [], []
        for s, chances in enumerate(distribution(row) for row in np.asarray(pi)):
            mixed: Row = {}
            for a, x in chances.items():
                for j, p in model.P[s * A + a].items():
                    mixed[j] = mixed.get(j, ZERO) + x * p
            rows.append(mixed)
            gains.append([sum(x * model.r[s][a] for a, x in chances.items())])
        chain = Model(rows, gains, None, model.gamma, model.terminal)
        return Robust(chain, measure, support).evaluate([{0: ONE}] * len(rows))
