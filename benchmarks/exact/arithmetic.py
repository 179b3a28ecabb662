"""Numbers of 90 digits: rows of probabilities, linear systems, roots."""

from collections.abc import Callable
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from typing import Any

import numpy as np

DIGITS = 90
TINY = Decimal("1e-80")  # what a root, relatively, is found to
TIE = Decimal("1e-70")  # values as close as this, relatively, are one
ZERO, ONE = Decimal(0), Decimal(1)

Row = dict[int, Decimal]  # by state or action


def context() -> Any:
    """`with context():` computes in 90 digits."""
    return localcontext(Context(prec=DIGITS, Emin=MIN_EMIN, Emax=MAX_EMAX))


def distribution(p: Any) -> Row:
    """The nonzeros of floats p, over their exact sum."""
    row = {int(j): Decimal(float(p[j])) for j in np.flatnonzero(p)}
    total = sum(row.values())
    return {j: x / total for j, x in row.items()}


def lowest(z: Row, among: Any) -> list[int]:
    """The states among those given whose z is least."""
    least = min(z[j] for j in among)
    size = max(abs(x) for x in z.values())
    return [j for j in among if z[j] - least <= TIE * size]


def eliminate(matrix: list[Row], right: list[Decimal]) -> list[Decimal]:
    """x with M x = right, for a diagonally dominant M, given as rows {column: entry}."""
    n = len(right)
    rows, x = [dict(row) for row in matrix], list(right)
    for k in range(n):
        pivot = rows[k][k]
        for i in range(k + 1, n):
            if entry := rows[i].pop(k, ZERO):
                factor = entry / pivot
                for j, value in rows[k].items():
                    if j > k:
                        rows[i][j] = rows[i].get(j, ZERO) - factor * value
                x[i] -= factor * x[k]
    for k in reversed(range(n)):
        x[k] = (x[k] - sum(v * x[j] for j, v in rows[k].items() if j > k)) / rows[k][k]
    return x


def increasing_root(
    f: Callable[[Decimal], tuple[Decimal, Decimal]],
    low: Decimal,
    high: Decimal | None,
    warm: list[Decimal],
    start: Decimal = ONE,
) -> Decimal:
    """x in (low, high) where an increasing f (value, slope) is 0, by Newton inside a bracket."""
    x = warm[0] if warm and low < warm[0] and (high is None or warm[0] < high) else start
    if high is not None and not low < x < high:
        x = (low + high) / 2
    for _ in range(1000):
        value, slope = f(x)
        step = x - value / slope if slope > 0 else low
        if value == 0 or (slope > 0 and abs(step - x) <= TINY * abs(x)):
            break
        if value < 0:
            low = x
        else:
            high = x
        if not (low < step and (high is None or step < high)):
            step = 4 * x if high is None else (low + high) / 2
        x = step
    else:
        raise ArithmeticError(f"no root near {x}")
    warm[:] = [x]
    return x
