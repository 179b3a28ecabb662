"""Worst-case distributions of many rows at once: pure functions of arrays, behind the measures.

Throughout, p is (R, n) with rows that sum to 1 and x, like p, are values scaled to [0, 1] with 0
the least admissible one; ok, like p, says where a worst case may put mass. Parameters (a radius,
a multiplier) are (R, 1). Each function returns q, like p; sums and products never see p = 0 next
to an infinite factor.
"""

from collections.abc import Callable

import numpy as np

from rlentropy.types import Array, Count, Mask

HALVINGS = 80


def total(a: Array) -> Array:
    """Row sums, (R, 1)."""
    return np.asarray(a.sum(1, keepdims=True))


def bisect(above: Callable[[Array], Mask], low: Array, high: Array) -> tuple[Array, Array]:
    """Halve (low, high) to rounding: above(z), (R, 1), is false at low and true at high."""
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        if ((middle <= low) | (middle >= high)).all():
            break
        up = above(middle)
        low, high = np.where(up, low, middle), np.where(up, middle, high)
    return low, high


def order_of(x: Array, ok: Mask) -> Count:
    """Admissible states by ascending x, ties by index, then the others (robust §1.7.7)."""
    return np.argsort(np.where(ok, x, np.inf), axis=1, kind="stable")


def unsort(order: Count, q: Array) -> Array:
    out = np.empty_like(q)
    np.put_along_axis(out, order, q, axis=1)
    return out


def point_mass(x: Array, ok: Mask) -> Array:
    """All mass on the first admissible argmin of x."""
    q = np.zeros(x.shape)
    first = np.where(ok, x, np.inf).argmin(1)
    q[np.arange(len(q)), first] = 1.0
    return q


def fill(lower: Array, upper: Array, x: Array, ok: Mask) -> Array:
    """Least E_q x over lower <= q <= upper: start at lower, pour into ascending x (§1.5)."""
    order = order_of(x, ok)
    l = np.take_along_axis(lower, order, 1)
    room = np.maximum(np.take_along_axis(upper, order, 1) - l, 0.0)
    before = np.cumsum(room, 1) - room
    return unsort(order, l + np.clip(1.0 - total(l) - before, 0.0, room))


def shift(p: Array, x: Array, ok: Mask, mass: Array) -> Array:
    """Move at most ``mass`` from the largest x to the argmin: the TV ball (§1.5)."""
    order = order_of(x, ok)
    q = np.take_along_axis(p, order, 1)
    higher = np.cumsum(q[:, ::-1], 1)[:, ::-1] - q
    gone = np.clip(mass - higher, 0.0, q)
    gone[:, 0] = 0.0
    q = q - gone
    q[:, :1] += total(gone)
    return unsort(order, q)


def clip_tilt(p: Array, x: Array, ok: Mask, ceiling: Array) -> Array:
    """All mass with x above the ceiling moves to the argmin: the L1 penalty (§1.4)."""
    stay = x <= ceiling
    return np.where(stay, p, 0.0) + point_mass(x, ok) * total(np.where(stay, 0.0, p))


def exponential(p: Array, x: Array, b: Array) -> Array:
    """q ∝ p exp(-b x) where p > 0 (§1.4); the exponent is masked, not the product."""
    exponent = np.where(p > 0.0, -b * x, -np.inf)
    q: Array = p * np.exp(exponent - exponent.max(1, keepdims=True))
    return q / total(q)


def log_mean_exp(p: Array, x: Array, b: Array) -> Array:
    """-(1/b) log Σ p exp(-b x), (R, 1): form 2 of §1.7 for b < 0.01, form 1 above; E x at b = 0."""
    x = np.where(p > 0.0, x, 0.0)
    mean = total(p * x)
    small, safe = b < 1e-2, np.maximum(b, 1e-300)
    near = mean - np.log1p(total(p * np.expm1(-np.minimum(b, 1.0) * (x - mean)))) / safe
    far = -np.log(total(p * np.exp(np.where(p > 0.0, -b * x, 0.0)))) / safe
    return np.where(b < 1e-200, mean, np.where(small, near, far))


def quadratic_tilt(p: Array, x: Array, k: Array) -> Array:
    """q = p (θ - x)_+ / 2k with Σ q = 1, for k χ²(q, p) (§1.4): θ = η + 2k by the sorted rule."""
    order = order_of(x, p > 0.0)
    ps, xs = np.take_along_axis(p, order, 1), np.take_along_axis(x, order, 1)
    P, M = np.cumsum(ps, 1), np.cumsum(ps * xs, 1)
    following = np.where(ps > 0.0, xs, np.inf)[:, 1:]
    following = np.concatenate([following, np.full((len(p), 1), np.inf)], 1)
    last = (P * following - M >= 2.0 * k).argmax(1)[:, None]
    theta = (2.0 * k + np.take_along_axis(M, last, 1)) / np.take_along_axis(P, last, 1)
    q = p * np.maximum(theta - x, 0.0) / (2.0 * k)
    return q / total(q)


def quadratic_ball(p: Array, x: Array, radius: Array) -> Array:
    """q ∝ p (η - x)_+ with χ²(q, p) = radius (§1.5), or all mass on the argmin if it can go there.

    On the prefix of states below η, with mass P, mean μ and second central moment v (not divided
    by P), the constraint reads (η - μ)² P ((1 + radius) P - 1) = v.
    """
    p = np.where(p < 1e-200, 0.0, p)  # q² <= (1 + radius) p is nothing there; its moments underflow
    order = order_of(x, p > 0.0)
    ps, xs = np.take_along_axis(p, order, 1), np.take_along_axis(x, order, 1)
    # η lies at or below the next x if χ² at that η is no more than the radius; halve for the first
    first, last = np.zeros((len(p), 1), np.int64), (ps > 0.0).sum(1)[:, None] - 1
    for _ in range(p.shape[1].bit_length()):
        middle = (first + last) // 2
        beyond = np.take_along_axis(xs, np.minimum(middle + 1, p.shape[1] - 1), 1)
        gap = np.maximum(beyond - xs, 0.0)
        up = (1.0 + radius) * total(ps * gap) ** 2 >= total(ps * gap * gap)
        up &= (total(ps * gap) > 0.0) | (middle >= last)
        first, last = np.where(up, first, np.minimum(middle + 1, last)), np.where(up, middle, last)
    inside = (np.arange(p.shape[1]) <= last) & (ps > 0.0)
    mass = total(np.where(inside, ps, 0.0))
    # Seen from the heaviest state, differences stay exact where the others have p like 1e-30.
    heavy = np.take_along_axis(xs, np.where(inside, ps, -1.0).argmax(1)[:, None], 1)
    ys, y = xs - heavy, x - heavy
    mean = total(np.where(inside, ps * ys, 0.0)) / mass
    v = total(np.where(inside, ps * (ys - mean) ** 2, 0.0))
    outside = total(np.where(inside, 0.0, ps))  # 1 - mass, to all digits where radii are tiny
    slack = mass * (radius * mass - outside)
    eta = np.sqrt(v / np.where(slack > 0.0, slack, 1.0)) + mean
    q = np.where(slack > 0.0, p * np.maximum(eta - y, 0.0), 0.0)
    least = np.where(p > 0.0, p * (x == _least(p, x)), 0.0)
    q = np.where((1.0 + radius) * total(least) >= 1.0, least, q)
    q = np.where((radius <= 0.0) | (total(q) <= 0.0), p, q)
    return q / total(q)


def _least(p: Array, x: Array) -> Array:
    """min of x where p > 0, (R, 1)."""
    return np.asarray(np.where(p > 0.0, x, np.inf).min(1, keepdims=True))


def kl(q: Array, p: Array) -> Array:
    """KL(q ‖ p), (R, 1), exact to rounding relative to itself even as q → p (§1.7.2)."""
    return f_divergence(cressie_read(1.0), q, p)


def f_divergence(phi: Callable[[Array, Array], Array], q: Array, p: Array) -> Array:
    """Σ p φ(t, t - 1) with t = q / p, (R, 1), over p > 0; φ takes the argument with more digits."""
    base = np.where(p > 0.0, p, 1.0)
    with np.errstate(over="ignore"):  # q >> p: infinite is what it costs
        t, u = (np.where(p > 0.0, a / base, b) for a, b in ((q, 1.0), (q - p, 0.0)))
        return total(np.where(p > 0.0, p * phi(t, u), 0.0))


def chi2(q: Array, p: Array) -> Array:
    """Σ (q - p)² / p, (R, 1), over p > 0."""
    base = np.where(p > 0.0, p, 1.0)
    with np.errstate(over="ignore"):
        return total(np.where(p > 0.0, (q - p) * ((q - p) / base), 0.0))


def cressie_read(order: float) -> Callable[[Array, Array], Array]:
    """f_a(t) = (t^a - a t + a - 1) / (a (a - 1)) from t and u = t - 1; t log t - t + 1 at a = 1,
    t - 1 - log t at a = 0 (§1.4)."""

    def phi(t: Array, u: Array) -> Array:
        log_t = np.where(t < 0.5, np.log(np.maximum(t, 1e-320)), np.log1p(np.maximum(u, -0.5)))
        if order == 1.0:
            return t * log_t - u
        if order == 0.0:
            return np.where(t > 0.0, u - log_t, np.inf)
        power = np.expm1(order * log_t) - order * u
        at_zero = 1.0 / order if order > 0.0 else np.inf
        return np.where(t > 0.0, power / (order * (order - 1.0)), at_zero)

    return phi


def power_tilt(p: Array, x: Array, ok: Mask, k: Array, a: float) -> Array:
    """The worst case of k D_a, Cressie-Read of order a ≠ 1 (§1.4).

    q = p (1 + (a-1)(η - x)/k)_+^{1/(a-1)}. For a < 1 the unknown is z = k/(1-a) - η + min x > 0:
    q = p ((1-a)(z + x - min x)/k)^{-1/(1-a)}, and z can't fall below min x over p > 0 less min x
    over ok; mass still missing there goes to the argmin over ok at no further cost (§1.4, Notes).
    """
    least = _least(p, x)
    y = np.where(p > 0.0, x - least, 0.0)
    mass = total(np.where((p > 0.0) & (y == 0.0), p, 0.0))
    if a > 1.0:

        def bounded(eta: Array) -> Array:
            ratio = np.maximum(1.0 + (a - 1.0) * (eta - y) / k, 0.0)
            return np.where(p > 0.0, p * ratio ** (1.0 / (a - 1.0)), 0.0)

        with np.errstate(over="ignore"):
            high = np.minimum(k / (a - 1.0) * np.expm1((1.0 - a) * np.log(mass)), 1.0)
        _, eta = bisect(lambda e: total(bounded(e)) >= 1.0, np.zeros_like(high), high)
        q = bounded(eta)
        return q / total(q)

    # In logs throughout: with a = -1 and p = 1e-300 at the argmin, z is 1e-600.
    log_p, log_y, log_least = (np.log(np.where(b > 0.0, b, 1.0)) for b in (p, y, least))
    log_y, log_least = np.where(y > 0.0, log_y, -np.inf), np.where(least > 0.0, log_least, -np.inf)
    scale = np.log(k / (1.0 - a))

    def tilt(log_z: Array) -> Array:
        log_t = (scale - np.logaddexp(log_z, log_y)) / (1.0 - a)
        return np.where(p > 0.0, np.exp(np.minimum(log_p + log_t, 1.0)), 0.0)

    low = scale + (1.0 - a) * np.log(mass) - 1e-9
    _, high = bisect(lambda log_z: total(tilt(log_z)) <= 1.0, low, scale + 1e-9)
    q = tilt(np.maximum(high, log_least))
    spare = np.where(high < log_least, np.maximum(1.0 - total(q), 0.0), 0.0)
    return q * (1.0 - spare) / total(q) + spare * point_mass(x, ok)


def kl_ball(p: Array, x: Array, radius: Array) -> Array:
    """q ∝ p exp(-b x) with KL(q ‖ p) = radius; all on the argmin once that is allowed (§1.5).

    KL grows with b, and is at most b²/8, which brackets b from below.
    """
    low = 0.5 * np.log(8.0 * np.maximum(radius, 1e-300)) - 1e-9
    high = np.full_like(low, np.log(1e18))
    low, _ = bisect(lambda b: kl(exponential(p, x, np.exp(b)), p) > radius, low, high)
    least = np.where((p > 0.0) & (x == _least(p, x)), p, 0.0)
    collapse = radius >= -np.log(total(least))
    q = np.where(collapse, least / total(least), exponential(p, x, np.exp(low)))
    return np.where(radius <= 0.0, p, q)


def burg_ball(p: Array, x: Array, ok: Mask, radius: Array) -> Array:
    """Least E_q x with KL(p ‖ q) <= radius: q ∝ p / (c + x) for one c > 0 (§1.5).

    Stationarity of E_q x + κ KL(p ‖ q) gives p κ / (κ + x - η), so the two unknowns are one. Where
    the argmin has p = 0, c stops at 0 with KL short of the radius by -log τ, and the share 1 - τ
    goes to the argmin.
    """
    least = _least(p, x)
    y = np.where(p > 0.0, x - least, 0.0)

    heavy = np.take_along_axis(y, p.argmax(1)[:, None], 1)

    def spread(c: Array) -> Array:
        """KL(p ‖ q) = Σ p log r + log Σ p / r, r = (c + y) / (c + y of the heaviest state)."""
        u = (y - heavy) / (c + heavy)
        r = (c + y) / (c + heavy)
        log_r = np.where(r < 0.5, np.log(r), np.log1p(np.maximum(u, -0.5)))
        return total(p * log_r) + np.log1p(total(p * (heavy - y) / (c + y)))

    low = np.full_like(radius, -700.0)
    high = np.log(10.0 + 10.0 / np.sqrt(np.maximum(radius, 1e-300)))
    _, high = bisect(lambda c: spread(np.exp(c)) <= radius, low, high)
    c = np.maximum(np.exp(high), least)
    q = p / (c + y)
    q = q / total(q)
    keep = np.where(least > np.exp(high), np.exp(spread(c) - radius), 1.0)
    q = q * keep + (1.0 - keep) * point_mass(x, ok)
    q = np.where(p > 0.0, np.maximum(q, 1e-307), q)  # 0 there would be outside
    return np.where(radius <= 0.0, p, q)


def project_simplex(v: Array, ok: Mask) -> Array:
    """The nearest distribution on ok, by sorting."""
    u = -np.sort(-np.where(ok, v, -np.inf), axis=1)
    finite = np.isfinite(u)
    sums = np.cumsum(np.where(finite, u, 0.0), 1) - 1.0
    count = np.arange(1, v.shape[1] + 1)
    last = np.where(finite, u * count > sums, False).sum(1)[:, None] - 1
    tau = np.take_along_axis(sums, last, 1) / (last + 1.0)
    return np.where(ok, np.maximum(v - tau, 0.0), 0.0)


def euclidean_ball(p: Array, x: Array, ok: Mask, radius: Array) -> Array:
    """Least E_q x with ‖q - p‖₂ <= radius, q >= 0: q projects p - s x, further as s grows."""

    def distance(q: Array) -> Array:
        return np.sqrt(total((q - p) ** 2))

    face = project_simplex(p, ok & (x == 0.0))
    low = np.log(np.maximum(radius, 1e-150) / np.sqrt(p.shape[1])) - 1.0
    high = np.full_like(low, np.log(1e18))

    def beyond(s: Array) -> Mask:
        return np.asarray(distance(project_simplex(p - np.exp(s) * x, ok)) > radius)

    low, _ = bisect(beyond, low, high)
    q = np.where(distance(face) <= radius, face, project_simplex(p - np.exp(low) * x, ok))
    return np.where(radius <= 0.0, p, q)


def on_budget(
    respond: Callable[[Array], tuple[Array, Array]], ceiling: float, radius: Array
) -> Array:
    """The worst case under a budget, from the best responses to its price.

    Args:
        respond: price (R, 1) to the q that minimises E_q x + price × spent, and spent (R, 1).
        ceiling: a price at which nothing is worth spending.

    The value is concave and piecewise linear in the price; at the best one a mixture of the
    responses on both sides spends the radius exactly (§1.5, weighted L1 and Wasserstein).
    """
    low, high = np.zeros_like(radius), np.full_like(radius, ceiling)
    free, spent = respond(low)
    enough = spent <= radius
    low, high = bisect(lambda price: respond(price)[1] <= radius, low, high)
    (dear, cost), (cheap, excess) = respond(high), respond(low)
    gap = excess - cost
    share = np.clip((radius - cost) / np.where(gap > 0.0, gap, np.inf), 0.0, 1.0)
    return np.where(enough, free, share * cheap + (1.0 - share) * dear)


def weighted_response(
    p: Array, x: Array, ok: Mask, w: Array
) -> Callable[[Array], tuple[Array, Array]]:
    """Best response to a price on Σ w |q - p|: donors i give all to the j of least x + price w."""

    def respond(price: Array) -> tuple[Array, Array]:
        taker = point_mass(x + price * w, ok)
        offer = total(taker * (x + price * w))
        gone = np.where(x - price * w > offer, p, 0.0) * (1.0 - taker)
        q = p - gone + taker * total(gone)
        return q, total(w * np.abs(q - p))

    return respond


def transport_response(
    p: Array, x: Array, ok: Mask, donors: Count, distance: Array
) -> Callable[[Array], tuple[Array, Array]]:
    """Best response to a price on transport: the mass of i goes to argmin_j x_j + price d(i, j).

    Args:
        donors: columns that may hold mass, (m,).
        distance: d(i, j) from the donors, (R or 1, m, n).
    """
    rows, values = np.arange(len(p))[:, None], np.where(ok, x, np.inf)[:, None, :]
    mass = p[:, donors]

    def respond(price: Array) -> tuple[Array, Array]:
        target = (values + price[:, :, None] * distance).argmin(2)
        q = np.zeros_like(p)
        np.add.at(q, (rows, target), mass)
        moved = np.take_along_axis(
            np.broadcast_to(distance, (*mass.shape, p.shape[1])), target[:, :, None], 2
        )
        return q, total(mass * moved[:, :, 0])

    return respond
