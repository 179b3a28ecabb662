"""How many different things a sample holds: Vendi scores and similarities of trajectories.

Friedman and Dieng, "The Vendi Score: A Diversity Evaluation Metric for Machine Learning", TMLR
2023, and its orders q by Pasarkar and Dieng, 2023 (diversity §1). With λ the
eigenvalues of K / n for a similarity matrix K, positive semidefinite with ones on its diagonal,

    VS_q = (Σ λ^q)^(1 / (1 - q)),   VS_1 = exp(-Σ λ log λ),   VS_inf = 1 / max λ,   VS_0 = rank K.

It is n for n things of no similarity, 1 for n equal ones, and never increases in q: small orders
count what is rare, large ones only what is common. From a sample it is biased low, and at most n.

Greedy choices of n things that differ, from a pool of N, are below the kernels (diversity §1.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from rlentropy.entropy.occupancies import staged_policy
from rlentropy.errors import InputError, floats, in_range, one_of, whole
from rlentropy.kernels.sampling import rollout
from rlentropy.mdp import ROUNDING, FiniteMDP
from rlentropy.types import Array, Count

if TYPE_CHECKING:
    import scipy.sparse as sp

Features = Literal["overlap", "visits", "stages"]

__all__ = [
    "cosine_kernel",
    "dpp_greedy",
    "k_center",
    "query_kernel",
    "rbf_kernel",
    "trajectory_features",
    "vendi_greedy",
    "vendi_score",
    "vendi_score_of_features",
    "vendi_score_of_policy",
]


def __dir__() -> list[str]:
    """What users want, without what is imported on the way."""
    return [*__all__]


def vendi_score(K: Any, q: float = 1.0, weights: Any = None) -> float:
    """Effective number of different items, in [1, n].

    Args:
        K: similarities, (n, n), positive semidefinite with unit diagonal.
        q: order, in [0, inf].
        weights: probabilities of the items, (n,); default 1/n each.

    Raises:
        ValueError: K is not such a matrix, or another argument is out of range. At q = 2, which
            needs no eigenvalues, K is not checked for being positive semidefinite.
    """
    K = floats("K", K)
    if K.ndim != 2 or K.shape[0] != K.shape[1] or not K.size:
        raise InputError(f"K must be (n, n) with n >= 1, got {K.shape}")
    if not np.isfinite(K).all():
        raise InputError(f"K must be finite, got {K[~np.isfinite(K)][0]}")
    if (worst := np.abs(K - K.T).max()) > ROUNDING:
        raise InputError(f"K must be symmetric within {ROUNDING}, got a difference of {worst}")
    diagonal = np.diag(K)
    if (np.abs(diagonal - 1.0) > ROUNDING).any():
        worst = diagonal[np.argmax(np.abs(diagonal - 1.0))]
        raise InputError(f"K must have a diagonal of ones within {ROUNDING}, got {worst}")
    return _score(_weighted(K, _weights(weights, len(K))), q, len(K))


def vendi_score_of_features(X: Any, q: float = 1.0, weights: Any = None) -> float:
    """The Vendi score of the cosine similarities of features X (n, d), dense or sparse.

    X Xᵀ / n and Xᵀ X / n have the same positive eigenvalues: whichever is smaller is formed, so
    the cost is min(n, d)³.

    Raises:
        ValueError: as `vendi_score`, or a row of X is zero and so has no direction.
    """
    X, (n, d) = _unit_rows(X), X.shape
    p = _weights(weights, n)
    if n <= d:
        return _score(_weighted(_dense(X @ X.T), p), q, d)
    Y = X * np.sqrt(p)[:, None]
    return _score(_dense(Y.T @ Y), q, n)


def _weights(weights: Any, n: int) -> Array:
    p: Array = np.full(n, 1.0 / n) if weights is None else np.asarray(weights, np.float64)
    if p.shape != (n,) or not ((p >= 0.0).all() and abs(p.sum() - 1.0) <= ROUNDING):
        raise InputError(f"weights must be {n} probabilities that sum to 1, got {weights}")
    return p


def _weighted(K: Array, p: Array) -> Array:
    """D^½ K D^½ with D = diag(p), whose trace is 1."""
    root = np.sqrt(p)
    return root[:, None] * K * root


def _score(M: Array, q: float, size: int) -> float:
    """exp of the Rényi entropy of order q of the eigenvalues of M, which has trace 1."""
    in_range("q", q, "[0, inf]")
    if q == 2.0:
        return float(1.0 / np.sum(M * M))
    eigenvalues = np.linalg.eigvalsh(M)
    if eigenvalues[0] < -ROUNDING:
        raise InputError(f"K must be positive semidefinite, got eigenvalue {eigenvalues[0]} of K/n")
    # What rounding leaves of a zero would count as a rare type at small orders.
    noise = 4.0 * size * np.finfo(np.float64).eps * eigenvalues[-1]
    x = eigenvalues[eigenvalues > noise]
    x /= x.sum()
    if q == 0.0:
        return float(x.size)
    if np.isinf(q):
        return float(1.0 / x[-1])
    if abs(q - 1.0) < 1e-8:  # where 1 / (1 - q) would lose more digits than the limit does
        return float(np.exp(-np.sum(x * np.log(x))))
    log_sum = q * np.log(x[-1]) + np.log(np.sum((x / x[-1]) ** q))
    return float(np.exp(log_sum / (1.0 - q)))


# ---------------------------------------------------------------- similarities


def trajectory_features(
    states: Any, actions: Any = None, kind: Features = "overlap", lengths: Any = None
) -> sp.csr_array:
    """Sparse features (n, d) of trajectories; `cosine_kernel` makes similarities of them.

    A cell is a state-action pair, or a state where no actions are given; only cells that occur get
    columns. With n_i(c) the visits of cell c by trajectory i of length l_i, the similarities are

        overlap: Σ_c min(n_i(c), n_j(c)) / sqrt(l_i l_j), from "c was visited at least k times"
        visits:  the cosine of the angle between n_i and n_j
        stages:  #{h: both are in the same cell at step h} / sqrt(l_i l_j)

    Args:
        states, actions: (n, H), whole numbers >= 0.
        lengths: how many steps of each trajectory count, (n,) in 1..H; default all.

    Raises:
        ValueError: wrong shapes, indices or lengths, or an unknown kind.
    """
    import scipy.sparse as sp

    one_of("kind", kind, get_args(Features))
    cell = _indices(states, "states")
    n, H = cell.shape
    if actions is not None:
        a = _indices(actions, "actions")
        if a.shape != cell.shape:
            raise InputError(f"actions must be {cell.shape} like states, got {a.shape}")
        cell = cell * (a.max() + 1) + a
    length = np.full(n, H) if lengths is None else np.asarray(lengths)
    if length.shape != (n,) or not ((length >= 1) & (length <= H)).all():
        raise InputError(f"lengths must be {n} numbers in 1..{H}, got {lengths}")
    row, h = np.nonzero(np.arange(H) < length[:, None])
    column = np.unique(cell[row, h], return_inverse=True)[1].ravel()
    if kind == "overlap":
        column = column * H + _occasion(row * (column.max() + 1) + column)
    elif kind == "stages":
        column = column * H + h
    column = np.unique(column, return_inverse=True)[1].ravel()
    return sp.coo_array((np.ones(row.size), (row, column)), (n, column.max() + 1)).tocsr()


def _indices(x: Any, name: str) -> Any:
    x = np.asarray(x)
    if x.ndim != 2 or not x.size:
        raise InputError(f"{name} must be (n, H) with n, H >= 1, got {x.shape}")
    if not np.issubdtype(x.dtype, np.integer) or x.min() < 0:
        raise InputError(f"{name} must be whole numbers >= 0, got {x.dtype} from {x.min()}")
    return x.astype(np.int64)


def _occasion(key: Any) -> Any:
    """How many equal entries stand before each one."""
    order = np.argsort(key, kind="stable")
    first = np.flatnonzero(np.diff(key[order], prepend=-1))
    rank = np.empty_like(order)
    run = np.diff(first, append=key.size)
    rank[order] = np.arange(key.size) - np.repeat(first, run)
    return rank


def cosine_kernel(X: Any) -> Array:
    """⟨x_i, x_j⟩ / (|x_i| |x_j|), (n, n), of features X (n, d), dense or sparse."""
    X = _unit_rows(X)
    return _dense(X @ X.T)


def query_kernel(X: Any) -> Array:
    """(⟨x_i, x_j⟩ / (|x_i| |x_j|))², (N, N), of feature differences X (N, d) of pairs.

    An answer tells as much about x as about -x, so the order of a pair must not matter.
    """
    K: Array = cosine_kernel(X) ** 2
    return K


def rbf_kernel(X: Any, bandwidth: float = 1.0) -> Array:
    """exp(-|z_i - z_j|² / (2 d bandwidth²)), (n, n), z the d features that vary, standardised.

    Two independent items have a mean of |z_i - z_j|² / 2d near 1, whatever d is.
    """
    in_range("bandwidth", bandwidth, "(0, inf]")
    X = _features(_dense(X))
    deviation = X.std(0)
    varies = deviation > 1e-12 * np.abs(X).max(0)
    z = (X[:, varies] - X[:, varies].mean(0)) / deviation[varies]
    square = (z * z).sum(1)
    distance = np.maximum(square[:, None] + square - 2.0 * z @ z.T, 0.0)
    np.fill_diagonal(distance, 0.0)
    K: Array = np.exp(-distance / (2.0 * max(z.shape[1], 1) * bandwidth**2))
    return K


def _dense(X: Any) -> Array:
    dense: Array = X.toarray() if hasattr(X, "toarray") else np.asarray(X, np.float64)
    return dense


def _features(X: Any) -> Any:
    if not hasattr(X, "toarray"):
        X = np.asarray(X, np.float64)
    if X.ndim != 2 or 0 in X.shape:
        raise InputError(f"X must be (n, d) with n, d >= 1, got {X.shape}")
    if not np.isfinite(X.data if hasattr(X, "toarray") else X).all():
        raise InputError("X must be finite, got NaN or infinity")
    return X


def _unit_rows(X: Any) -> Any:
    import scipy.sparse as sp

    X = _features(X)
    norm = np.sqrt(np.asarray((X * X).sum(1), np.float64).ravel())
    if not norm.all():
        raise InputError(f"X must have no row of zeros, got one at {int(np.argmin(norm))}")
    return sp.diags_array(1.0 / norm) @ X if sp.issparse(X) else X / norm[:, None]


# ---------------------------------------------------------------- greedy choices


def k_center(X: Any, n: int, chosen: Any = None) -> Count:
    """Indices of n rows of X (N, d), each the farthest from all before it, (n,).

    The largest distance to what is chosen is at most twice the least possible one (Gonzalez, 1985).

    Args:
        n: in 1..N.
        chosen: what was chosen before, (M, d). With none, the row nearest the mean is the first.

    Raises:
        ValueError: an argument is out of range, or not finite.
    """
    X = _features(_dense(X))
    whole("n", n, 1, len(X))
    before = X[:0] if chosen is None or not len(chosen) else _features(_dense(chosen))
    if before.shape[1] != X.shape[1]:
        raise InputError(f"chosen must be (M, {X.shape[1]}) like X, got {before.shape}")
    square = (X * X).sum(1)
    if len(before):
        to_each = square[:, None] + (before * before).sum(1) - 2.0 * X @ before.T
        distance = np.maximum(to_each.min(1), 0.0)
    else:
        distance = -((X - X.mean(0)) ** 2).sum(1)
    found: Count = np.empty(n, np.int64)
    for k in range(n):
        found[k] = j = int(np.argmax(distance))
        to_new = ((X - X[j]) ** 2).sum(1)
        distance = to_new if k == 0 and not len(before) else np.minimum(distance, to_new)
        distance[found[: k + 1]] = -1.0
    return found


def dpp_greedy(K: Any, scores: Any, n: int) -> Count:
    """Indices of n things of a large det of L_ij = q_i K_ij q_j, found one by one, (n,).

    Each maximises what the Schur complement leaves of its L_ii (Chen et al., 2018: O(N n) a step).
    Where nothing is left, because K has a rank below n, the highest scores fill the rest.

    Args:
        K: similarities, (N, N), positive semidefinite; not checked for it.
        scores: qualities q, (N,), >= 0 and finite.
        n: in 1..N.

    Raises:
        ValueError: an argument is out of range.
    """
    K, q = _pool(K, scores, "scores", n)
    if not ((q >= 0.0) & (q < np.inf)).all():
        raise InputError(f"scores must be >= 0 and finite, got {q.min()} to {q.max()}")
    left = np.diag(K) * q * q  # (N,) Schur complements
    least = 1e-12 * left.max()
    factor = np.zeros((n, q.size))  # rows of a Cholesky factor of L
    taken = np.zeros(q.size, bool)
    found: Count = np.empty(n, np.int64)
    for k in range(n):
        found[k] = j = int(np.argmax(np.where(taken, -1.0, left)))
        if not left[j] > least:
            found[k:] = np.argsort(np.where(taken, np.inf, -q), kind="stable")[: n - k]
            break
        taken[j] = True
        factor[k] = (q[j] * K[j] * q - factor[:k, j] @ factor[:k]) / np.sqrt(left[j])
        left = left - factor[k] ** 2
    return found


def vendi_greedy(K: Any, log_scores: Any, n: int, eta: float = 1.0, q: float = 2.0) -> Count:
    """Indices of n things, each maximising log_scores_i + η log VS_q(chosen and i), (n,).

    At q = 2, VS_2 = n² / ‖K‖²_F, a step costs O(N); at other orders an eigenproblem a candidate.

    Args:
        K: similarities, (N, N), with unit diagonal.
        log_scores: (N,), -inf for what comes last.
        n: in 1..N.
        eta: η >= 0; 0 keeps the highest scores.

    Raises:
        ValueError: an argument is out of range.
    """
    K, log_scores = _pool(K, log_scores, "log_scores", n)
    if not (log_scores < np.inf).all():
        raise InputError("log_scores must not be NaN or inf, got one that is")
    in_range("eta", eta, "[0, inf)")
    in_range("q", q, "[0, inf]")
    found: Count = np.empty(n, np.int64)
    square, inside, across = K * K, 0.0, np.zeros(len(K))  # ‖K‖² of the chosen, Σ K² with them
    rest = np.arange(len(K))
    for k in range(n):
        if q == 2.0:
            log_vs = -np.log(inside + 2.0 * across + square.diagonal())[rest]
        else:
            sets = [np.append(found[:k], i) for i in rest]
            log_vs = np.log([vendi_score(K[np.ix_(s, s)], q) for s in sets])
        found[k] = j = rest[np.argmax(log_scores[rest] + eta * log_vs)]
        inside += 2.0 * across[j] + square[j, j]
        across += square[j]
        rest = rest[rest != j]
    return found


def _pool(K: Any, scores: Any, name: str, n: int) -> tuple[Array, Array]:
    K, scores = np.asarray(K, np.float64), np.asarray(scores, np.float64)
    N = scores.size
    if scores.ndim != 1 or K.shape != (N, N):
        raise InputError(f"K must be (N, N) and {name} (N,), got {K.shape} and {scores.shape}")
    whole("n", n, 1, N)
    return K, scores


# ---------------------------------------------------------------- of a policy


def vendi_score_of_policy(
    mdp: FiniteMDP,
    pi: Any,
    horizon: int,
    rng: np.random.Generator,
    *,
    trajectories: int = 100,
    q: float = 1.0,
    kind: Features = "overlap",
) -> float:
    """Vendi score of fresh trajectories of a policy, by the state-action pairs they visit.

    Steps after a terminal state count as resting there, as they do in occupancies. The cost hardly
    depends on the number of states.

    Args:
        pi: (S, A) or (H, S, A).
        trajectories: how many to draw, which is also the largest possible score.
    """
    whole("trajectories", trajectories, 1)
    staged = staged_policy(mdp, pi, horizon)
    states = np.empty((trajectories, horizon + 1), np.int64)
    actions = np.empty((trajectories, horizon), np.int64)
    lengths = np.empty(trajectories, np.int64)
    rollout(mdp.world, staged, states, actions, lengths, *rng.spawn(2))
    return vendi_score_of_features(trajectory_features(states[:, :-1], actions, kind), q)
