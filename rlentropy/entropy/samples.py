"""Estimates of entropy from samples, in nats: neighbours, histograms, intervals over episodes.

Steps of one episode resemble each other, so intervals count episodes and not steps: they are
jackknives that leave out whole ones (exploration §8.1-8.3 has every equation). No two calls differ
for the same points, and neighbours are found on one thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from rlentropy.errors import InputError, floats, in_range, one_of, whole
from rlentropy.intervals import TAILS, Estimate
from rlentropy.types import Array, Count

ParticleReward = Literal["apt", "re3", "re3-log"]


def shannon(p: Any, axis: int | tuple[int, ...] = -1) -> Any:
    """H(p) = Σ p log 1/p along an axis."""
    p = floats("p", p)
    return -np.sum(p * np.log(np.where(p > 0.0, p, 1.0)), axis=axis)


# ---------------------------------------------------------------- nearest neighbours


class Neighbours(NamedTuple):
    """The k nearest points of each query, nearest first."""

    distances: Array  # (n, k)
    indices: Count  # (n, k), which points


def neighbours(points: Any, k: int, queries: Any = None) -> Neighbours:
    """The k nearest of points (N, D), by Euclidean distance.

    Args:
        queries: whose neighbours, (n, D). Default: the points' own, none of which is a neighbour
            of itself; its copies are.

    Raises:
        ValueError: points or queries are not such arrays, or there are fewer than k others.
    """
    from scipy.spatial import cKDTree

    x = _matrix("points", points)
    own = queries is None
    most = len(x) - own
    whole("k", k, 1)
    if k > most:
        raise InputError(f"k must be in 1..{most} for {len(x)} points, got {k}")
    y = x if own else _matrix("queries", queries)
    if y.shape[1] != x.shape[1]:
        raise InputError(f"queries must be (n, {x.shape[1]}) as points are, got {y.shape}")
    ranks = np.arange(1, k + own + 1)
    distances, indices = cKDTree(x).query(y, ranks)
    if own:
        itself = indices == np.arange(len(x))[:, None]
        itself[~itself.any(1), -1] = True  # of more than k copies it may not be among the first
        distances, indices = (a[~itself].reshape(len(x), k) for a in (distances, indices))
    return Neighbours(distances, np.asarray(indices, np.int64))


def nearest_neighbour(
    points: Any,
    k: int = 4,
    weights: Any = None,
    resolution: float = 0.0,
    include_self: bool = False,
) -> float:
    """Differential entropy of the law behind points (N, D), from k-th neighbour distances.

        Ĥ = log N - ψ(k) + mean_i log V_i,   V_i the volume of the ball to the k-th neighbour of i

    (Kozachenko and Leonenko, 1987; exploration §8.1). Edges of the support bias it upwards, the
    more the larger k. With weights w, of points that were drawn from another law (§8.3),

        Ĥ = -Σ_i (W_i / k) log(W_i / V_i) + log k - ψ(k),   W_i = Σ w_j over the neighbours j of i

    Args:
        weights: >= 0, (N,), in proportion to the ratio of the laws.
        resolution: shorter distances count as this one, so that places which are hit again and
            again, such as a fixed start, do not count as infinitely dense.
        include_self: count w_i in W_i instead of the weight of the k-th neighbour, as the code of
            MEPOL does; distances are the same.

    Raises:
        ValueError: an argument is out of range, or without a resolution, k + 1 points are in one
            place, of infinite density.
    """
    return float(nearest_neighbour_terms(points, k, weights, resolution, include_self).mean())


def nearest_neighbour_terms(
    points: Any,
    k: int = 4,
    weights: Any = None,
    resolution: float = 0.0,
    include_self: bool = False,
) -> Array:
    """The (N,) terms whose mean is `nearest_neighbour`, for an interval over episodes.

    Without weights the term of i is log(N V_i) - ψ(k), about -log of the density there.
    """
    from scipy.special import digamma

    in_range("resolution", resolution, "[0, inf)")
    near = neighbours(points, k)
    radius = np.maximum(near.distances[:, -1], resolution)
    if not radius.all():
        raise InputError(
            f"points must not have k + 1 = {k + 1} copies of one place: raise k or the resolution"
        )
    n, log_volume = len(radius), log_ball(radius, np.shape(points)[1])
    if weights is None:
        terms: Array = np.log(n) - digamma(k) + log_volume
        return terms
    W = _weights_near(weights, near.indices, include_self)
    log_density = np.log(np.where(W > 0.0, W, 1.0)) - log_volume
    terms = np.log(k) - digamma(k) - n * (W / k) * log_density
    return terms


def nearest_neighbour_across(
    points: Any, episodes: Any, k: int = 4, resolution: float = 0.0
) -> Array:
    """Terms whose mean is the entropy of the pooled visits (n, D) of episodes, (n,) (§8.2).

        log N_i - ψ(k) + log V_i      V_i the ball to the k-th nearest of the N_i of other episodes

    Steps of one path lie near each other however rarely other paths come by: a path that returns
    to its own places would otherwise seem to be concentrated there. For paths that hardly move it
    is high instead, unless k exceeds their steps. With `clustered_interval`.

    Args:
        episodes: which episode each point is of, (n,), whole numbers in any order.

    Raises:
        ValueError: an argument is out of range, other episodes have fewer than k points, or without
            a resolution, k of them are in one place.
    """
    from scipy.spatial import cKDTree
    from scipy.special import digamma

    x, which = _matrix("points", points), _which(episodes, len(points))
    whole("k", k, 1)
    in_range("resolution", resolution, "[0, inf)")
    others = len(x) - np.bincount(which)[which]
    if others.min() < k:
        raise InputError(f"episodes must leave {k} points of others, got {others.min()}")
    distances, indices = cKDTree(x).query(x, np.arange(1, len(x) - others.min() + k + 1))
    foreign = which[indices] != which[:, None]
    kth = (foreign & (foreign.cumsum(axis=1) == k)).argmax(axis=1)
    radius = np.maximum(distances[np.arange(len(x)), kth], resolution)
    if not radius.all():
        raise InputError(f"points must not have {k} copies of one place: raise k or the resolution")
    terms: Array = np.log(others) - digamma(k) + log_ball(radius, x.shape[1])
    return terms


def neighbour_divergence(weights: Any, indices: Any, include_self: bool = False) -> float:
    """Kullback-Leibler divergence KL(law of the points ‖ weighted law) (§8.3).

        max(0, (1/N) Σ_i log(k / (N W_i))),   W_i = Σ w_j over the neighbours j of i

    Args:
        weights: >= 0, (N,), as in `nearest_neighbour`.
        indices: neighbours of each point, (N, k), as `neighbours` finds them.
        include_self: as in `nearest_neighbour`.

    Returns:
        Infinity where all weights around a point are 0.
    """
    W = _weights_near(weights, indices, include_self)
    n, k = np.shape(indices)
    with np.errstate(divide="ignore"):
        return max(0.0, float(np.mean(np.log(k / n) - np.log(W))))


def particle_rewards(
    points: Any,
    k: int,
    kind: ParticleReward = "apt",
    queries: Any = None,
    include_self: bool = False,
) -> Array:
    """Rewards for being far from the k nearest of points (N, D), one a query, (n,) (§8.3).

        apt       log(1 + mean of the distances to the k nearest)    (Liu and Abbeel, 2021)
        re3       distance to the k-th nearest                       (Seo et al., 2021)
        re3-log   log(1 + that)

    Args:
        queries: (n, D), as in `neighbours`; default the points themselves.
        include_self: a point is the first of its own k neighbours, at distance 0, as in the code
            of APT (URLB) but not that of RE3. Only without queries.
    """
    one_of("kind", kind, get_args(ParticleReward))
    if include_self and queries is not None:
        raise InputError("include_self must be False where there are queries, got True")
    whole("k", k, 2 if include_self else 1)
    distances = neighbours(points, k - include_self, queries).distances
    rewards: Array = distances.sum(1) / k if kind == "apt" else distances[:, -1]
    return rewards if kind == "re3" else np.log1p(rewards)


def _matrix(name: str, values: Any) -> Array:
    x: Array = floats(name, values)
    if x.ndim != 2 or not x.size or not np.isfinite(x).all():
        raise InputError(f"{name} must be (N, D) with N, D >= 1 and finite, got {x.shape}")
    return x


def log_ball(radius: Array, dimension: int) -> Array:
    """Log volume of balls, V = π^{D/2} R^D / Γ(D/2 + 1)."""
    from scipy.special import gammaln

    unit_ball = 0.5 * dimension * np.log(np.pi) - gammaln(0.5 * dimension + 1.0)
    volumes: Array = dimension * np.log(radius) + unit_ball
    return volumes


def _weights_near(weights: Any, indices: Any, include_self: bool) -> Array:
    """W_i = Σ w_j over the neighbours j of i, (N,), of weights with sum 1."""
    w, near = np.asarray(weights, np.float64), np.asarray(indices)
    if w.shape != near.shape[:1]:
        raise InputError(f"weights must be (N,) = {near.shape[:1]}, got {w.shape}")
    total = w.sum()
    if not ((w >= 0.0).all() and 0.0 < total < np.inf):
        raise InputError(f"weights must be >= 0 with a positive sum, got sum {total}")
    W = w[near[:, : near.shape[1] - include_self]].sum(1)
    sums: Array = (W + w if include_self else W) / total
    return sums


# ---------------------------------------------------------------- histograms


def histogram(counts: Any) -> float:
    """Plug-in entropy of counts (K,), H(counts / n): biased low (exploration §8.2)."""
    counts = _counts(counts)
    return float(shannon(counts / counts.sum()))


def miller_madow(counts: Any) -> float:
    """Entropy of the law behind counts (K,): plug-in + (K⁺ - 1) / (2n), K⁺ the cells that were hit.

    The plug-in estimate of independent draws is biased low by that much, to first order (Miller,
    1955). Where visits are correlated it is lower still: `histogram_by_episode`.
    """
    counts = _counts(counts)
    return histogram(counts) + (np.count_nonzero(counts) - 1) / (2 * float(counts.sum()))


def _counts(counts: Any) -> Array:
    flat: Array = floats("counts", counts).ravel()
    n = flat.sum()
    if not (n > 0 and (flat >= 0).all()):
        raise InputError(f"counts must be >= 0 with a positive sum, got sum {n}")
    return flat


# ---------------------------------------------------------------- intervals over episodes

GROUPS = 20  # of episodes, one of which a jackknife by nearest neighbours leaves out


@dataclass(frozen=True)
class PooledEstimate:
    """Entropy of the pooled visits of episodes, in nats."""

    plug_in: float  # of the pooled visits, as it is
    value: float  # less its bias; NaN for one episode
    low: float  # of the 95 % interval around value
    high: float


def histogram_by_episode(counts: Any) -> PooledEstimate:
    """Entropy of the pooled visits of independent episodes, counts (E, K) (exploration §8.2).

    The jackknife that leaves out one episode, e, of share m_e of all visits, at a time: with H the
    plug-in entropy and H_e that of the others,

        P_e = (H - (1 - m_e) H_e) / m_e,   value = Σ m_e P_e = E H - Σ (1 - m_e) H_e

    and the interval is `clustered_interval`'s for terms P_e. It removes the bias of first order
    whatever the correlation within episodes.

    Raises:
        ValueError: counts are not such an array, or an episode has none.
    """
    counts = floats("counts", counts)
    if counts.ndim != 2 or not counts.size:
        raise InputError(f"counts must be (E, K) with E, K >= 1, got {counts.shape}")
    lengths = counts.sum(1)
    if not ((counts >= 0).all() and (lengths > 0).all() and np.isfinite(lengths).all()):
        raise InputError(f"counts must be >= 0 with a positive sum in each row, got sums {lengths}")
    pooled, n = counts.sum(0), lengths.sum()
    others = np.full(1, np.nan)
    if len(counts) > 1:
        others = shannon((pooled - counts) / (n - lengths)[:, None])
    return _jackknife(histogram(pooled), others, lengths / n)


def nearest_neighbour_by_episode(
    points: Any, episodes: Any, k: int = 4, resolution: float = 0.0, groups: int = GROUPS
) -> PooledEstimate:
    """Differential entropy of the pooled visits (n, D) of independent episodes (exploration §8.2).

    As `histogram_by_episode`, with `nearest_neighbour` for H. Paths leave fewer separate points
    than steps, so it is low too. One of min(E, groups) groups of episodes is left out at a time.

    Args:
        episodes: which episode each point is of, (n,), whole numbers in any order.

    Raises:
        ValueError: an argument is out of range, or too few points are left for k.
    """
    whole("groups", groups, 2)
    x, which = _matrix("points", points), _which(episodes, len(points))
    E = int(which.max()) + 1
    group = which * min(E, groups) // E
    shares = np.bincount(group) / len(x)
    others = np.full(1, np.nan)
    if E > 1:
        parts = (x[group != g] for g in range(len(shares)))
        others = np.array([nearest_neighbour(y, k, resolution=resolution) for y in parts])
    return _jackknife(nearest_neighbour(x, k, resolution=resolution), others, shares)


def clustered_interval(terms: Any, episodes: Any) -> Estimate:
    """Mean of terms (n,) and its 95 % interval when those of one episode are correlated.

        Ĥ ± t sqrt(E / (E - 1) Σ_e (Σ_{i in e} (term_i - Ĥ))²) / n,   t of E - 1 degrees of freedom

    For an entropy whose terms are about -log density, such as `nearest_neighbour_terms` without
    weights, or -log p̂(x_i) of a histogram, this is its infinitesimal jackknife (exploration §8.2).
    It knows of no bias.

    Args:
        episodes: which episode each term is of, (n,), whole numbers in any order.

    Returns:
        The mean, and NaN for the ends if there is one episode.
    """
    terms = floats("terms", terms)
    if terms.ndim != 1 or not terms.size:
        raise InputError(f"terms must be (n,) with n >= 1, got {terms.shape}")
    which = _which(episodes, len(terms))
    lengths = np.bincount(which)
    return _interval(np.bincount(which, terms) / lengths, lengths / len(terms))


def _which(episodes: Any, n: int) -> Count:
    """Episodes numbered from 0 in the order of their ids, (n,)."""
    episodes = np.asarray(episodes)
    if episodes.shape != (n,) or episodes.dtype.kind not in "iu":
        given = f"{episodes.dtype} {episodes.shape}"
        raise InputError(f"episodes must be whole numbers, one for each of {n} steps, got {given}")
    return np.asarray(np.unique(episodes, return_inverse=True)[1], np.int64)


def _jackknife(plug_in: float, others: Array, shares: Array) -> PooledEstimate:
    """From the estimates without each part, (G,), and the shares of the parts, (G,)."""
    found = _interval((plug_in - (1.0 - shares) * others) / shares, shares)
    return PooledEstimate(plug_in, float(found.value), float(found.low), float(found.high))


def _interval(means: Array, shares: Array) -> Estimate:
    """Σ_e shares means, with its interval over episodes, (E,)."""
    from scipy.special import stdtrit

    value = np.asarray(shares @ means)
    if (E := len(means)) == 1:
        return Estimate(value, np.asarray(np.nan), np.asarray(np.nan))
    error = np.sqrt(E / (E - 1) * np.sum((shares * (means - value)) ** 2))
    half = stdtrit(E - 1, TAILS[1]) * error
    return Estimate(value, value - half, value + half)
