"""Nature's problem in one state, where one budget is for the rows of all actions.

Rows come as {action: (p, z)}. A response is nature's best one to a policy; a saddle is the policy
{action: probability} that does best against nature, and the value that it guarantees.
"""

from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from typing import Any

from exact.arithmetic import ONE, TIE, ZERO, Row, lowest


class Ray:
    """Projections of p - τ z onto the simplex as τ grows: of all q at a distance from p, the least.

    Each piece, until a state's mass runs out, is (τ, states with mass, mean z there, share added).
    """

    def __init__(self, p: Row, z: Row) -> None:
        self.p, self.z, self.pieces = p, z, []
        states = list(p)
        for j in sorted(set(z) - set(p), key=lambda j: z[j]):  # they enter at once or never
            if z[j] < sum(z[i] for i in states) / len(states):
                states.append(j)
        tau = ZERO
        while True:
            mean = sum(z[j] for j in states) / len(states)
            share = (1 - sum(p.get(j, ZERO) for j in states)) / len(states)
            self.pieces.append((tau, states, mean, share))
            size = max(abs(x) for x in z.values())
            leaving = {
                j: (p.get(j, ZERO) + share) / (z[j] - mean)
                for j in states
                if z[j] - mean > TIE * size
            }
            if not leaving:
                break
            tau = max(min(leaving.values()), tau)
            states = [j for j in states if leaving.get(j, tau + 1) > tau]

    def at(self, tau: Decimal, piece: int) -> Row:
        _, states, mean, share = self.pieces[piece]
        return {
            j: max(self.p.get(j, ZERO) + share - tau * (self.z[j] - mean), ZERO) for j in states
        }

    def spread(self, piece: int) -> Decimal:
        """Σ (z - mean)² of a piece: how fast its squared distance grows in τ², and E z falls."""
        _, states, mean, _ = self.pieces[piece]
        return sum(((self.z[j] - mean) ** 2 for j in states), ZERO)

    def fixed(self, piece: int) -> Decimal:
        """The squared distance of a piece at τ = 0."""
        _, states, _, share = self.pieces[piece]
        gone = sum((x**2 for j, x in self.p.items() if j not in states), ZERO)
        return gone + share**2 * len(states)

    def value(self, piece: int) -> Decimal:
        """E z of a piece at τ = 0."""
        _, states, _, share = self.pieces[piece]
        return sum(((self.p.get(j, ZERO) + share) * self.z[j] for j in states), ZERO)


def l2_response(rows: dict[int, tuple[Row, Row]], pi: Row, radius: Decimal) -> dict[int, Row]:
    """argmin Σ_a π_a E_{q_a} z_a, Σ_a ‖q_a - p_a‖₂² <= radius²: q_a on its ray at τ π_a."""
    rays = {a: Ray(*rows[a]) for a in pi if pi[a] > 0}
    q = {a: rows[a][0] for a in pi}
    ends = sorted({piece[0] / pi[a] for a, ray in rays.items() for piece in ray.pieces})
    if radius == 0:
        return q
    for tau, after in zip(ends, [*ends[1:], None], strict=True):
        now = {
            a: max(k for k, piece in enumerate(ray.pieces) if piece[0] <= tau * pi[a] * (1 + TIE))
            for a, ray in rays.items()
        }
        growth = sum(pi[a] ** 2 * ray.spread(now[a]) for a, ray in rays.items())
        left = radius**2 - sum(ray.fixed(now[a]) for a, ray in rays.items())
        if after is not None and growth * after**2 < left:
            continue
        stop = (max(left, ZERO) / growth).sqrt() if after is not None and growth > 0 else tau
        return q | {a: ray.at(stop * pi[a], now[a]) for a, ray in rays.items()}
    raise AssertionError


def l2_saddle(rows: dict[int, tuple[Row, Row]], r: Row, radius: Decimal) -> tuple[Row, Decimal]:
    """max_π min_q Σ_a π_a (r_a + E_{q_a} z_a): the least θ that all u_a can be brought to."""
    rays = {a: Ray(*row) for a, row in rows.items()}
    start = {a: r[a] + ray.value(0) for a, ray in rays.items()}
    if radius == 0:
        a = max(start, key=lambda a: start[a])
        return {a: ONE}, start[a]
    ends = sorted(
        {
            r[a] + ray.value(k) - piece[0] * ray.spread(k)
            for a, ray in rays.items()
            for k, piece in enumerate(ray.pieces)
        },
        reverse=True,
    )
    floors = {a: r[a] + ray.value(len(ray.pieces) - 1) for a, ray in rays.items()}
    floor = max(floors.values())
    size = max(abs(x) for x in [*ends, ONE * 0]) * TIE
    for theta, after in zip(ends, [*ends[1:], None], strict=True):
        if theta <= floor + size or after is None:
            break
        low = max(after, floor)
        # On (low, θ) every action is on one piece: dist² = fixed + (value - u)² / spread.
        middle = (theta + low) / 2
        now = {a: piece_at(ray, middle - r[a]) for a, ray in rays.items() if start[a] > middle}
        if not now:
            continue

        def spent(
            u: Decimal, now: dict[int, int] = now
        ) -> tuple[Decimal, Decimal, dict[int, Decimal]]:
            total = slope = ZERO
            taus = {}
            for a, k in now.items():
                taus[a] = (r[a] + rays[a].value(k) - u) / rays[a].spread(k)
                total += rays[a].fixed(k) + taus[a] ** 2 * rays[a].spread(k)
                slope += 2 * taus[a]
            return total, slope, taus

        if spent(low)[0] < radius**2:
            continue
        A = sum(1 / rays[a].spread(k) for a, k in now.items())
        top = {a: r[a] + rays[a].value(k) for a, k in now.items()}
        B = sum(top[a] / rays[a].spread(k) for a, k in now.items())
        C = sum(top[a] ** 2 / rays[a].spread(k) + rays[a].fixed(k) for a, k in now.items())
        # A u² - 2 B u + C = radius²; the lower root, where distance grows as u falls.
        u = (B - max(B * B - A * (C - radius**2), ZERO).sqrt()) / A
        _, slope, taus = spent(u)
        return {a: 2 * tau / slope for a, tau in taus.items() if tau > 0}, u
    a = max(floors, key=lambda a: floors[a])
    return {a: ONE}, floor


def piece_at(ray: Ray, u: Decimal) -> int:
    """Which piece of a ray brings E z to u."""
    found = 0
    for k, piece in enumerate(ray.pieces):
        if ray.value(k) - piece[0] * ray.spread(k) >= u:
            found = k
    return found


def donors(p: Row, z: Row) -> list[tuple[Decimal, int]]:
    """(z - min z, state) of the states that l1 takes mass from, dearest first."""
    least = min(z.values())
    size = TIE * max(abs(x) for x in z.values())
    return sorted(((z[j] - least, j) for j in p if z[j] - least > size), reverse=True)


def l1_response(rows: dict[int, tuple[Row, Row]], pi: Row, radius: Decimal) -> dict[int, Row]:
    """argmin Σ_a π_a E_{q_a} z_a, Σ_a ‖q_a - p_a‖₁ <= radius: the dearest mass first."""
    q = {a: dict(rows[a][0]) for a in pi}
    moves = [(pi[a] * gain, a, j) for a in pi for gain, j in donors(*rows[a])]
    budget = radius / 2
    for gain, a, j in sorted(moves, key=lambda move: -move[0]):
        if gain == 0:
            break
        p, z = rows[a]
        mass, least = min(budget, p[j]), lowest(z, z)[0]
        q[a][j] -= mass
        q[a][least] = q[a].get(least, ZERO) + mass
        budget -= mass
    return q


def l1_saddle(rows: dict[int, tuple[Row, Row]], r: Row, radius: Decimal) -> tuple[Row, Decimal]:
    """As `l2_saddle`: u_a falls by `gain` for each mass moved, so π_a ∝ 1 / gain where θ is met."""
    start = {a: r[a] + sum(x * z[j] for j, x in p.items()) for a, (p, z) in rows.items()}
    pieces = []  # (u at its begin, at its end, gain, action)
    floors = {}
    for a, (p, z) in rows.items():
        u = start[a]
        for gain, j in donors(p, z):
            pieces.append((u, u - p[j] * gain, gain, a))
            u -= p[j] * gain
        floors[a] = r[a] + min(z.values())
    floor = max(floors.values())
    budget, ends = radius / 2, sorted({x for piece in pieces for x in piece[:2]}, reverse=True)
    pure = max(floors, key=lambda a: floors[a])
    if radius == 0:
        best = max(start, key=lambda a: start[a])
        return {best: ONE}, start[best]
    for theta, after in pairwise(ends):
        middle = (theta + after) / 2
        rate = {a: 1 / gain for begin, end, gain, a in pieces if end < middle < begin}
        if not rate:
            continue
        total = sum(rate.values())
        stop = max(theta - budget / total, floor)
        if stop >= after and theta > floor:
            if stop == floor:
                return {pure: ONE}, floor
            return {a: x / total for a, x in rate.items()}, stop
        budget -= (theta - after) * total
    return {pure: ONE}, floor


JOINT: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "s-l1-ball": (l1_saddle, l1_response),
    "s-l2-ball": (l2_saddle, l2_response),
}
