"""Nature's problem in one row: min_q E_q z + γ D(q, p), by its optimality conditions.

Each function takes p, z on the support, γ, the measure's numbers and the root found last, if there
was one; it returns the row of q and γ D.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from exact.arithmetic import ONE, TIE, ZERO, Row, increasing_root, lowest
from exact.joint import l2_response

Answer = tuple[Row, Decimal]  # nature's distribution, and what it pays


def restricted(p: Row, states: list[int]) -> Row:
    """p given that the state is one of these; even where p is 0 on all of them."""
    mass = sum(p.get(j, ZERO) for j in states)
    if not mass:
        return {j: ONE / len(states) for j in states}
    return {j: p[j] / mass for j in states if p.get(j)}


def nominal(p: Row, z: Row, gamma: Decimal, numbers: list[Decimal], warm: Any) -> Answer:
    return p, ZERO


def worst_case(p: Row, z: Row, gamma: Decimal, numbers: list[Decimal], warm: Any) -> Answer:
    return {lowest(z, z)[0]: ONE}, ZERO


def contamination(p: Row, z: Row, gamma: Decimal, numbers: list[Decimal], warm: Any) -> Answer:
    epsilon, least = numbers[0], lowest(z, z)[0]
    q = {j: (1 - epsilon) * x for j, x in p.items()}
    q[least] = q.get(least, ZERO) + epsilon
    return q, ZERO


def entropic(p: Row, z: Row, gamma: Decimal, numbers: list[Decimal], warm: Any) -> Answer:
    if numbers[0] == 0:
        return p, ZERO
    if gamma == 0:
        return restricted(p, lowest(z, p)), ZERO
    return tilt(p, z, gamma / numbers[0])


def tilt(p: Row, z: Row, k: Decimal) -> Answer:
    """argmin E_q z + k KL(q ‖ p)."""
    m = min(z[j] for j in p)
    weight = {j: x * (-(z[j] - m) / k).exp() for j, x in p.items()}
    total = sum(weight.values())
    q = {j: w / total for j, w in weight.items()}
    return q, m - k * total.ln() - sum(x * z[j] for j, x in q.items())


def pour(lower: Row, upper: Row, z: Row) -> Row:
    """argmin E_q z with lower <= q <= upper: what is free goes to the least z."""
    q, free = dict(lower), 1 - sum(lower.values())
    for j in sorted(z, key=lambda j: z[j]):
        more = min(free, upper[j] - lower[j])
        q[j] += more
        free -= more
    return q


def mean_cvar(p: Row, z: Row, gamma: Decimal, numbers: list[Decimal], warm: Any) -> Answer:
    weight, level = numbers if len(numbers) == 2 else (ONE, numbers[0])
    lower = {j: (1 - weight) * x for j, x in p.items()}
    upper = {j: (1 - weight) * x + weight * x / level for j, x in p.items()}
    return pour(lower, upper, {j: z[j] for j in p}), ZERO


def linf_ball(p: Row, z: Row, gamma: Decimal, numbers: list[Decimal], warm: Any) -> Answer:
    lower = {j: max(p.get(j, ZERO) - numbers[0], ZERO) for j in z}
    upper = {j: min(p.get(j, ZERO) + numbers[0], ONE) for j in z}
    return pour(lower, upper, z), ZERO


def tv_ball(p: Row, z: Row, gamma: Decimal, numbers: list[Decimal], warm: Any) -> Answer:
    least, budget, q = lowest(z, z)[0], numbers[0], dict(p)
    q.setdefault(least, ZERO)
    for j in sorted(p, key=lambda j: -z[j]):
        moved = min(budget, q[j]) if j != least else ZERO
        q[j] -= moved
        q[least] += moved
        budget -= moved
    return q, ZERO


def l1_ball(p: Row, z: Row, gamma: Decimal, numbers: list[Decimal], warm: Any) -> Answer:
    return tv_ball(p, z, gamma, [numbers[0] / 2], warm)


def l2_ball(p: Row, z: Row, gamma: Decimal, numbers: list[Decimal], warm: Any) -> Answer:
    found = l2_response({0: (p, z)}, {0: ONE}, numbers[0])
    return found[0], ZERO


def l1_penalty(p: Row, z: Row, gamma: Decimal, numbers: list[Decimal], warm: Any) -> Answer:
    k, least, q = gamma * numbers[0], lowest(z, z)[0], dict(p)
    moved = [j for j in p if z[j] - z[least] > 2 * k]
    mass = sum(q.pop(j) for j in moved) + ZERO
    q[least] = q.get(least, ZERO) + mass
    return q, 2 * k * mass


def chi2_penalty(p: Row, z: Row, gamma: Decimal, numbers: list[Decimal], warm: Any) -> Answer:
    k = gamma * numbers[0]
    if k == 0:
        return restricted(p, lowest(z, p)), ZERO
    order = sorted(p, key=lambda j: z[j])
    mass = moment = ZERO
    for n, j in enumerate(order):
        mass, moment = mass + p[j], moment + p[j] * z[j]
        eta = (2 * k * (1 - mass) + moment) / mass
        if n + 1 == len(order) or eta + 2 * k <= z[order[n + 1]]:
            break
    q = {j: p[j] * max(1 + (eta - z[j]) / (2 * k), ZERO) for j in p}
    return q, k * sum((q[j] - p[j]) ** 2 / p[j] for j in p)


def chi2_ball(p: Row, z: Row, gamma: Decimal, numbers: list[Decimal], warm: Any) -> Answer:
    delta, least = numbers[0], lowest(z, p)
    if delta == 0:
        return p, ZERO
    if (1 + delta) * sum(p[j] for j in least) >= 1:
        return restricted(p, least), ZERO
    order = sorted(p, key=lambda j: z[j])
    for n in range(len(least), len(order) + 1):
        some = order[:n]
        mass = sum(p[j] for j in some)
        mean = sum(p[j] * z[j] for j in some) / mass
        variance = sum(p[j] * (z[j] - mean) ** 2 for j in some) / mass
        room = (1 + delta) * mass - 1
        if room <= 0:
            continue
        eta = mean + (variance / room).sqrt()
        if n == len(order) or eta <= z[order[n]]:
            break
    q = {j: p[j] * (eta - z[j]) for j in some}
    total = sum(q.values())
    return {j: x / total for j, x in q.items()}, ZERO


def kl_ball(p: Row, z: Row, gamma: Decimal, numbers: list[Decimal], warm: list[Decimal]) -> Answer:
    delta, least = numbers[0], lowest(z, p)
    if delta == 0 or len(least) == len(p):
        return p, ZERO
    if delta >= -sum(p[j] for j in least).ln():
        return restricted(p, least), ZERO
    m = z[least[0]]
    span = max(z[j] for j in p) - m
    x = {j: (z[j] - m) / span for j in p}

    def tilted(b: Decimal) -> tuple[Row, Decimal]:
        weight = {j: p[j] * (-b * x[j]).exp() for j in p}
        total = sum(weight.values())
        return {j: w / total for j, w in weight.items()}, total

    def excess(b: Decimal) -> tuple[Decimal, Decimal]:
        q, total = tilted(b)
        mean = sum(q[j] * x[j] for j in p)
        return -b * mean - total.ln() - delta, b * sum(q[j] * (x[j] - mean) ** 2 for j in p)

    mean = sum(p[j] * x[j] for j in p)
    start = (2 * delta / sum(p[j] * (x[j] - mean) ** 2 for j in p)).sqrt()
    return tilted(increasing_root(excess, ZERO, None, warm, start))[0], ZERO


def burg_ball(p: Row, z: Row, gamma: Decimal, numbers: list[Decimal], warm: Any) -> Answer:
    """q ∝ p / (z - ν) with ν below all z: at the least z off p where the radius allows."""
    delta, least = numbers[0], lowest(z, z)[0]
    span = max(z[j] for j in p) - z[least]
    if delta == 0 or span <= TIE * max(abs(x) for x in z.values()):
        return p, ZERO
    m = min(z[j] for j in p)
    x = {j: (z[j] - m) / span for j in p}

    def shortage(log_d: Decimal) -> tuple[Decimal, Decimal]:
        d = log_d.exp()
        one = sum(p[j] / (x[j] + d) for j in p)
        two = sum(p[j] / (x[j] + d) ** 2 for j in p)
        gap = delta - sum(p[j] * (x[j] + d).ln() for j in p) - one.ln()
        return gap, d * (two / one - one)

    low = (m - z[least]) / span  # 0 unless the least z is off p
    if low > TIE and shortage(low.ln())[0] >= 0:
        scale = (sum(p[j] * (x[j] + low).ln() for j in p) - delta).exp()
        q = {j: scale * p[j] / (x[j] + low) for j in p}
        q[least] = 1 - sum(q.values())
        return q, ZERO
    if max(x.values()) == 0:
        return p, ZERO
    mass = sum(p[j] for j in p if x[j] == 0)
    above = sum(p[j] * x[j].ln() for j in p if x[j] > 0)
    least_log = (above + mass.ln() - delta) / (1 - mass)  # KL is at least δ there, and
    log_d = increasing_root(shortage, least_log - 1, 1 - delta.ln(), warm)  # at most 1/d
    q = {j: p[j] / (x[j] + log_d.exp()) for j in p}
    total = sum(q.values())
    return {j: y / total for j, y in q.items()}, ZERO


def burg_penalty(p: Row, z: Row, gamma: Decimal, numbers: list[Decimal], warm: Any) -> Answer:
    return cressie_read(p, z, gamma, [numbers[0], ZERO], warm)


def cressie_read(
    p: Row, z: Row, gamma: Decimal, numbers: list[Decimal], warm: list[Decimal]
) -> Answer:
    k, a = gamma * numbers[0], numbers[1]
    if k == 0:
        states = lowest(z, z if a < 1 else p)
        return restricted(p, states), ZERO
    if a == 1:
        return tilt(p, z, k)
    m = min(z[j] for j in p)
    x = {j: abs(1 - a) * (z[j] - m) / k for j in p}
    c = 1 / abs(1 - a)
    mass = sum(p[j] for j in p if x[j] == 0)
    if a > 1:  # q = p (v - x)₊ᶜ

        def excess(v: Decimal) -> tuple[Decimal, Decimal]:
            inside = [j for j in p if v > x[j]]
            total = sum(p[j] * (v - x[j]) ** c for j in inside)
            return total - 1, c * sum(p[j] * (v - x[j]) ** (c - 1) for j in inside)

        if max(x.values()) == 0:
            return p, ZERO
        v = increasing_root(excess, ONE, min(mass ** (-1 / c), 1 + max(x.values())), warm)
        q = {j: p[j] * max(v - x[j], ZERO) ** c for j in p}
    else:  # q = p (v + x)^-c; the least z off p takes what is left once v is as low as it allows

        def shortage(v: Decimal) -> tuple[Decimal, Decimal]:
            total = sum(p[j] * (v + x[j]) ** -c for j in p)
            return 1 - total, c * sum(p[j] * (v + x[j]) ** (-c - 1) for j in p)

        least = lowest(z, z)[0]
        low = (1 - a) * (m - z[least]) / k
        if low > 0 and shortage(low)[0] >= 0:
            q = {j: p[j] * (low + x[j]) ** -c for j in p}
            q[least] = q.get(least, ZERO) + 1 - sum(q.values())
            off = q[least] if least not in p else ZERO
            return q, k * (divergence(q, p, a) + off / (1 - a))
        if max(x.values()) == 0:
            return p, ZERO
        v = increasing_root(shortage, max(low, mass ** (1 / c) / 2), ONE, warm)
        q = {j: p[j] * (v + x[j]) ** -c for j in p}
    total = sum(q.values())
    q = {j: y / total for j, y in q.items()}
    return q, k * divergence(q, p, a)


def divergence(q: Row, p: Row, a: Decimal) -> Decimal:
    """E_p f(q/p) of Cressie and Read on the support of p, a other than 1."""
    total = ZERO
    for j in p:
        t = q[j] / p[j]
        f = t - 1 - t.ln() if a == 0 else (t**a - a * t + a - 1) / (a * (a - 1))
        total += p[j] * f
    return total


def wasserstein_penalty(
    p: Row, z: Row, gamma: Decimal, numbers: list[Decimal], warm: Any
) -> Answer:
    """Every x goes where z(y) + γ κ |x - y| is least."""
    k, q, paid = gamma * numbers[0], dict.fromkeys(z, ZERO), ZERO
    for j, mass in p.items():
        to = min(z, key=lambda y: (z[y] + k * abs(y - j), abs(y - j)))
        q[to] += mass
        paid += mass * k * abs(to - j)
    return q, paid


def wasserstein_ball(p: Row, z: Row, gamma: Decimal, numbers: list[Decimal], warm: Any) -> Answer:
    """Moves along each x's convex frontier (distance, z), the steepest first."""
    moves, budget = [], numbers[0]
    for j in p:
        here = j
        while lower := [y for y in z if z[y] < z[here] and abs(y - j) > abs(here - j)]:

            def slope(y: int, here: int = here, j: int = j) -> Decimal:
                return (z[here] - z[y]) / (abs(y - j) - abs(here - j))

            there = max(lower, key=lambda y: (slope(y), abs(y - j)))
            moves.append((slope(there), j, here, there))
            here = there
    q = dict.fromkeys(z, ZERO) | p
    for _, j, here, there in sorted(moves, key=lambda move: -move[0]):
        distance = abs(there - j) - abs(here - j)
        mass = min(
            p[j], budget / distance
        )  # a donor's moves come steepest first: all of it is here
        q[here] -= mass
        q[there] += mass
        budget -= mass * distance
    return q, ZERO


NATURE: dict[str, Callable[..., Answer]] = {
    "nominal": nominal,
    "worst-case": worst_case,
    "entropic": entropic,
    "cvar": mean_cvar,
    "mean-cvar": mean_cvar,
    "chi2-penalty": chi2_penalty,
    "l1-penalty": l1_penalty,
    "burg-penalty": burg_penalty,
    "cressie-read-penalty": cressie_read,
    "wasserstein-penalty": wasserstein_penalty,
    "contamination": contamination,
    "kl-ball": kl_ball,
    "burg-ball": burg_ball,
    "chi2-ball": chi2_ball,
    "tv-ball": tv_ball,
    "l1-ball": l1_ball,
    "linf-ball": linf_ball,
    "l2-ball": l2_ball,
    "wasserstein-ball": wasserstein_ball,
}
