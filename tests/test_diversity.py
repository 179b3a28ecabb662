"""Vendi scores against matrix functions, similarities against counting by hand, and the tag."""

import itertools
import json
from collections import Counter

import gymnasium
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from rlentropy.diversity import (
    cosine_kernel,
    dpp_greedy,
    k_center,
    query_kernel,
    rbf_kernel,
    trajectory_features,
    vendi_greedy,
    vendi_score,
    vendi_score_of_features,
    vendi_score_of_policy,
)
from rlentropy.exploration import entgame, random_policy, scoring
from rlentropy.log import Log
from rlentropy.mdp import FiniteMDP

seeds = st.integers(0, 2**32 - 1)
ORDERS = (0.0, 0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 50.0, np.inf)


def random_kernel(rng, n, rank):
    X = rng.normal(size=(n, rank))
    return cosine_kernel(X)


# ---------------------------------------------------------------- the score


@pytest.mark.parametrize("q", ORDERS)
def test_closed_forms(q) -> None:
    assert vendi_score(np.eye(7), q) == pytest.approx(7.0, rel=1e-12)
    assert vendi_score(np.ones((7, 7)), q) == pytest.approx(1.0, rel=1e-12)
    two_groups = np.kron(np.eye(2), np.ones((3, 3)))
    assert vendi_score(two_groups, q) == pytest.approx(2.0, rel=1e-12)
    assert vendi_score([[1.0]], q) == pytest.approx(1.0, rel=1e-12)
    weights = np.array([0.5, 0.3, 0.2])
    found = vendi_score(np.eye(3), q, weights)  # the Hill number of the weights
    if q == 1.0:
        want = np.prod(weights**-weights)
    elif np.isinf(q):
        want = 2.0
    else:
        want = (weights**q).sum() ** (1.0 / (1.0 - q))
    assert found == pytest.approx(want, rel=1e-12)


def test_a_matrix_by_hand() -> None:
    K = [[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]]
    assert vendi_score(K) == pytest.approx(2.1573, abs=5e-5)


@given(seed=seeds, n=st.integers(1, 12), spare=st.integers(0, 4))
def test_every_order_is_a_trace_of_a_matrix_function(seed, n, spare) -> None:
    K = random_kernel(np.random.default_rng(seed), n, n + spare)
    M = K / n
    for q in (2, 3, 7):
        trace = np.trace(np.linalg.matrix_power(M, q))
        assert vendi_score(K, q) == pytest.approx(trace ** (1.0 / (1 - q)), rel=1e-9)
    assert vendi_score(K, 0.5) == pytest.approx(np.trace(scipy.linalg.sqrtm(M)).real ** 2, rel=1e-5)
    entropy = -np.trace(M @ scipy.linalg.logm(M + 1e-15 * np.eye(n))).real
    assert vendi_score(K) == pytest.approx(np.exp(entropy), rel=1e-6)
    assert vendi_score(K, np.inf) == pytest.approx(1.0 / np.linalg.norm(M, 2), rel=1e-9)


@given(seed=seeds, n=st.integers(2, 12), rank=st.integers(1, 14))
def test_never_increases_in_q_and_stays_in_its_range(seed, n, rank) -> None:
    K = random_kernel(np.random.default_rng(seed), n, rank)
    scores = [vendi_score(K, q) for q in ORDERS]
    assert (np.diff(scores) <= 1e-9).all()
    assert scores[0] == min(n, rank)
    assert scores[-1] >= 1.0 - 1e-12


@given(seed=seeds, q0=st.sampled_from([1.0, 2.0]))
def test_continuous_where_the_formula_changes(seed, q0) -> None:
    K = random_kernel(np.random.default_rng(seed), 9, 5)
    for step in (1e-7, 1e-8, 1e-9):
        for q in (q0 - step, q0 + step):
            assert vendi_score(K, q) == pytest.approx(vendi_score(K, q0), rel=1e-6)
    assert vendi_score(K, 1e6) == pytest.approx(vendi_score(K, np.inf), rel=1e-5)


@given(seed=seeds, q=st.sampled_from(ORDERS), copies=st.integers(2, 4))
def test_duplicates_change_nothing(seed, q, copies) -> None:
    """Nor do they at small orders, where the zeros they bring must not count as rare types."""
    X = np.random.default_rng(seed).normal(size=(8, 6))
    once, often = cosine_kernel(X), cosine_kernel(np.tile(X, (copies, 1)))
    assert vendi_score(often, q) == pytest.approx(vendi_score(once, q), rel=1e-9)


@given(seed=seeds, q=st.sampled_from(ORDERS))
def test_a_weight_is_a_share_of_copies(seed, q) -> None:
    rng = np.random.default_rng(seed)
    X, copies = rng.normal(size=(6, 4)), rng.integers(1, 5, 6)
    want = vendi_score(cosine_kernel(np.repeat(X, copies, axis=0)), q)
    weights = copies / copies.sum()
    assert vendi_score(cosine_kernel(X), q, weights) == pytest.approx(want, rel=1e-9)
    assert vendi_score_of_features(X, q, weights) == pytest.approx(want, rel=1e-9)


@given(seed=seeds, n=st.integers(1, 20), d=st.integers(1, 20), q=st.sampled_from(ORDERS))
def test_features_give_the_score_of_their_kernel(seed, n, d, q) -> None:
    """Through n x n or d x d, dense or sparse."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.5)
    X[:, 0] += 0.1
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    want = vendi_score(unit @ unit.T, q)
    for given_as in (X, sp.csr_array(X), sp.coo_array(X)):
        assert vendi_score_of_features(given_as, q) == pytest.approx(want, rel=1e-7)


@pytest.mark.parametrize(
    ("K", "options", "message"),
    [
        (np.ones((2, 3)), {}, r"K must be \(n, n\) with n >= 1, got \(2, 3\)"),
        (np.ones((0, 0)), {}, "K must be"),
        ([[1.0, np.nan], [np.nan, 1.0]], {}, "K must be finite, got nan"),
        ([[1.0, 0.5], [0.4, 1.0]], {}, "K must be symmetric within .*, got a difference of 0.0999"),
        ([[1.0, 0.5], [0.5, 2.0]], {}, "K must have a diagonal of ones within .*, got 2.0"),
        ([[1.0, 2.0], [2.0, 1.0]], {}, "K must be positive semidefinite, got eigenvalue -0.5"),
        (np.eye(2), {"q": -0.5}, "q must be >= 0, got -0.5"),
        (np.eye(2), {"q": np.nan}, "q must be >= 0, got nan"),
        (np.eye(2), {"weights": [0.5, 0.4]}, "weights must be 2 probabilities that sum to 1, got"),
        (np.eye(2), {"weights": [1.0]}, "weights must be 2 probabilities"),
        (np.eye(2), {"weights": [1.5, -0.5]}, "weights must be 2 probabilities"),
    ],
)
def test_what_is_no_similarity_matrix(K, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        vendi_score(K, **options)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([1.0, 2.0], r"X must be \(n, d\) with n, d >= 1, got \(2,\)"),
        ([[1.0, np.inf]], "X must be finite"),
        ([[1.0], [0.0]], "X must have no row of zeros, got one at 1"),
    ],
)
def test_what_are_no_features(X, message) -> None:
    with pytest.raises(ValueError, match=message):
        vendi_score_of_features(X)


# ---------------------------------------------------------------- similarities


def similarity(kind, one, two):
    """From the definition, for two lists of cells."""
    if kind == "stages":
        return sum(x == y for x, y in zip(one, two, strict=False)) / np.sqrt(len(one) * len(two))
    m, n = Counter(one), Counter(two)
    if kind == "overlap":
        return sum(min(m[c], n[c]) for c in m) / np.sqrt(len(one) * len(two))
    dot = sum(m[c] * n[c] for c in m)
    return dot / np.sqrt(sum(x * x for x in m.values()) * sum(x * x for x in n.values()))


@given(seed=seeds, paired=st.booleans(), short=st.booleans())
@pytest.mark.parametrize("kind", ["overlap", "visits", "stages"])
def test_trajectory_similarities_are_their_definitions(kind, seed, paired, short) -> None:
    rng = np.random.default_rng(seed)
    n, H = int(rng.integers(1, 9)), int(rng.integers(1, 12))
    states, actions = rng.integers(0, 4, (n, H)), rng.integers(0, 3, (n, H))
    lengths = rng.integers(1, H + 1, n) if short else np.full(n, H)
    X = trajectory_features(states, actions if paired else None, kind, lengths if short else None)
    cells = [
        list(zip(s[:k], a[:k], strict=True)) if paired else list(s[:k])
        for s, a, k in zip(states.tolist(), actions.tolist(), lengths, strict=True)
    ]
    want = [[similarity(kind, one, two) for two in cells] for one in cells]
    np.testing.assert_allclose(cosine_kernel(X), want, atol=1e-12)
    assert (np.diff(X.tocsc().indptr) > 0).all()  # no column that nobody uses


@given(seed=seeds, bandwidth=st.sampled_from([0.3, 1.0, 4.0]))
def test_rbf(seed, bandwidth) -> None:
    rng = np.random.default_rng(seed)
    X = rng.normal(2.0, [1.0, 30.0, 1e-3], size=(15, 3))
    z = X / X.std(0)
    want = np.exp(-cdist(z, z, "sqeuclidean") / (6.0 * bandwidth**2))
    K = rbf_kernel(X, bandwidth)
    np.testing.assert_allclose(K, want, rtol=1e-9, atol=1e-12)
    shifted = np.hstack([X * 10.0 + 5.0, np.full((15, 1), 0.1)])  # a constant tells nothing apart
    np.testing.assert_allclose(rbf_kernel(shifted, bandwidth), want, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(rbf_kernel(sp.csr_array(X), bandwidth), K, rtol=1e-12)
    assert 1.0 <= vendi_score(K) <= 15.0
    assert vendi_score(rbf_kernel(np.ones((4, 2)))) == pytest.approx(1.0)
    assert vendi_score(rbf_kernel(X, 1e-6)) == pytest.approx(15.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1],), r"states must be \(n, H\) with n, H >= 1, got \(2,\)"),
        (([[0.5]],), "states must be whole numbers >= 0, got float64 from 0.5"),
        (([[0, -1]],), "states must be whole numbers >= 0, got int64 from -1"),
        (([[0, 1]], [[0]]), r"actions must be \(1, 2\) like states, got \(1, 1\)"),
        (([[0, 1]], None, "edit"), "kind must be one of overlap, visits, stages, got 'edit'"),
        (([[0, 1]], None, "visits", [0]), r"lengths must be 1 numbers in 1\.\.2, got \[0\]"),
        (([[0, 1]], None, "visits", [1, 1]), "lengths must be 1 numbers"),
    ],
)
def test_what_are_no_trajectories(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        trajectory_features(*arguments)


def test_a_bandwidth_of_zero() -> None:
    with pytest.raises(ValueError, match="bandwidth must be > 0, got 0"):
        rbf_kernel(np.eye(2), 0.0)


@given(seed=seeds)
def test_queries_have_no_order(seed) -> None:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(9, 4))
    K = query_kernel(X)
    swapped = X * rng.choice([-1.0, 1.0], size=(9, 1))
    np.testing.assert_allclose(query_kernel(swapped), K, rtol=0, atol=1e-15)
    outer = np.einsum("ni,nj->nij", X, X).reshape(9, -1)  # the kernel is the cosine of x xᵀ
    norm = np.sqrt((outer**2).sum(1))
    np.testing.assert_allclose(K, (outer @ outer.T) / norm[:, None] / norm, atol=1e-14)
    assert np.linalg.eigvalsh(K)[0] > -1e-12
    with pytest.raises(ValueError, match="X must have no row of zeros, got one at 1"):
        query_kernel([[1.0, 0.0], [0.0, 0.0]])


# ---------------------------------------------------------------- greedy choices


def first_of_best(values, taken) -> int:
    """The lowest index of the largest value, up to rounding, among those not taken."""
    values = np.where(np.isin(np.arange(len(values)), taken), -np.inf, values)
    return int(np.flatnonzero(values >= values.max() - 1e-9)[0])


@given(seed=seeds, N=st.integers(1, 8), before=st.integers(0, 3))
def test_farthest_points(seed, N, before) -> None:
    assume(N != 2 or before)  # both are as near to their mean
    rng = np.random.default_rng(seed)
    X, chosen = rng.normal(size=(N, 2)), rng.normal(size=(before, 2))
    n = int(rng.integers(1, N + 1))
    found = k_center(X, n, chosen)
    want = [] if before else [first_of_best(-cdist(X, X.mean(0)[None])[:, 0], [])]
    while len(want) < n:
        centres = np.concatenate([chosen, X[want]])
        want.append(first_of_best(cdist(X, centres).min(1), want))
    np.testing.assert_array_equal(found, want)
    if not before:  # within a factor of two of the best n centres
        sets = itertools.combinations(range(N), n)
        best = min(cdist(X, X[list(s)]).min(1).max() for s in sets)
        assert cdist(X, X[found]).min(1).max() <= 2 * best + 1e-12


@given(seed=seeds, N=st.integers(1, 7), rank=st.integers(1, 7))
def test_determinants(seed, N, rank) -> None:
    rng = np.random.default_rng(seed)
    K, q = random_kernel(rng, N, rank), rng.uniform(0.5, 2.0, size=N)
    n = int(rng.integers(1, N + 1))
    found = dpp_greedy(K, q, n)
    L, want = np.outer(q, q) * K, []
    for _ in range(min(n, rank)):
        log_dets = [np.linalg.slogdet(L[np.ix_([*want, i], [*want, i])])[1] for i in range(N)]
        want.append(first_of_best(log_dets, want))
    assert found[: len(want)].tolist() == want
    rest = [i for i in np.argsort(-q, kind="stable").tolist() if i not in want]
    np.testing.assert_array_equal(found[len(want) :], rest[: n - len(want)])
    assert len(set(found.tolist())) == n


def test_determinants_weigh_quality_against_likeness() -> None:
    K = np.array([[1.0, 0.99, 0.0], [0.99, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert dpp_greedy(K, [1.0, 0.9, 0.5], 2).tolist() == [0, 2]
    assert dpp_greedy(np.eye(3), [1.0, 0.9, 1.5], 3).tolist() == [2, 0, 1]
    assert dpp_greedy(np.eye(3), [0.0, 0.0, 0.0], 2).tolist() == [0, 1]


@given(
    seed=seeds, N=st.integers(1, 7), eta=st.floats(0, 5), q=st.sampled_from([0.5, 1.0, 2.0, np.inf])
)
def test_greedy_vendi_scores(seed, N, eta, q) -> None:
    rng = np.random.default_rng(seed)
    K, log_scores = query_kernel(rng.normal(size=(N, 3))), rng.normal(size=N)
    n = int(rng.integers(1, N + 1))
    want: list[int] = []
    for _ in range(n):
        values = [
            log_scores[i] + eta * np.log(vendi_score(K[np.ix_([*want, i], [*want, i])], q))
            for i in range(N)
        ]
        want.append(first_of_best(values, want))
    np.testing.assert_array_equal(vendi_greedy(K, log_scores, n, eta, q), want)


def test_greedy_vendi_scores_take_from_each_group() -> None:
    groups = np.kron(np.eye(3), np.ones((4, 4)))
    for q in (1.0, 2.0):
        found = vendi_greedy(groups, np.zeros(12), 3, q=q)
        assert sorted(found // 4) == [0, 1, 2]
    log_scores = np.array([-np.inf, 0.0, -1.0, -np.inf])
    assert vendi_greedy(np.eye(4), log_scores, 4).tolist() == [1, 2, 0, 3]
    assert vendi_greedy(groups, np.arange(12.0), 3, eta=0.0).tolist() == [11, 10, 9]


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lambda: k_center(np.eye(3), 4), "n must be <= 3, got 4"),
        (
            lambda: k_center(np.eye(3), 1, np.eye(2)),
            r"chosen must be \(M, 3\) like X, got \(2, 2\)",
        ),
        (lambda: k_center([[np.nan]], 1), "X must be finite"),
        (
            lambda: dpp_greedy(np.eye(3), np.ones(2), 1),
            r"K must be \(N, N\) and scores \(N,\), got",
        ),
        (lambda: dpp_greedy(np.eye(2), [-1.0, 1.0], 1), "scores must be >= 0 and finite, got -1.0"),
        (lambda: vendi_greedy(np.eye(2), np.ones(2), 0), "n must be >= 1, got 0"),
        (lambda: vendi_greedy(np.eye(2), [0.0, np.nan], 1), "log_scores must not be NaN or inf"),
        (lambda: vendi_greedy(np.eye(2), np.ones(2), 1, eta=-1.0), "eta must be >= 0"),
        (lambda: vendi_greedy(np.eye(2), np.ones(2), 1, q=-1.0), "q must be >= 0, got -1.0"),
    ],
)
def test_what_can_not_be_chosen(choose, message) -> None:
    with pytest.raises(ValueError, match=message):
        choose()


# ---------------------------------------------------------------- of a policy


def star(A):
    """Action a leads from the hub 0 to the tip a + 1, which is terminal."""
    P = np.zeros((A + 1, A, A + 1))
    P[0, np.arange(A), np.arange(A) + 1] = 1.0
    P[np.arange(1, A + 1), :, np.arange(1, A + 1)] = 1.0
    terminal = np.arange(A + 1) > 0
    return FiniteMDP(P, np.zeros((A + 1, A)), np.eye(A + 1)[0], terminal=terminal)


def test_a_policy_of_known_diversity() -> None:
    A, H, n = 5, 4, 400
    mdp, pi = star(A), np.zeros((A + 1, A))
    pi[:, 0] = 1.0
    rng = np.random.default_rng(0)
    assert vendi_score_of_policy(mdp, pi, H, rng) == pytest.approx(1.0, rel=1e-12)
    pi[0] = 1.0 / A
    # Trajectories are equal or share nothing: the score is exp of the entropy of the frequencies,
    # and twice n times their divergence from uniform has mean A - 1 and variance 2 (A - 1).
    slack = (A - 1 + 4.0 * np.sqrt(2.0 * (A - 1))) / (2 * n)
    for kind in ("overlap", "visits", "stages"):
        found = vendi_score_of_policy(mdp, pi, H, rng, trajectories=n, kind=kind)
        assert A * np.exp(-slack) <= found <= A + 1e-9
    assert vendi_score_of_policy(mdp, pi, H, rng, q=0.0) == A
    with pytest.raises(ValueError, match="trajectories must be >= 1, got 0"):
        vendi_score_of_policy(mdp, pi, H, rng, trajectories=0)


class Unknown(gymnasium.Env):
    """Two states and no declared model."""

    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return int(action), 0.0, False, False, {}


def test_the_tag_needs_a_known_model(tmp_path) -> None:
    log = Log(tmp_path)
    c = random_policy.Config(horizon=3, episodes=5)
    found = random_policy.run(Unknown(), c, np.random.default_rng(0), log, scoring.Scores)
    log.close()
    assert "vendi_score" not in found.summary
    assert "vendi_score" not in (tmp_path / "metrics.jsonl").read_text()


def explored(folder, seed=3):
    env = gymnasium.make("rlentropy/DoubleChain-v0", num_states=9)
    log = Log(folder)
    c = entgame.Config(horizon=6, episodes=40)
    found = entgame.run(env, c, np.random.default_rng(seed), log, scoring.Scores)
    log.close()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return found, [x["value"] for x in lines if x["tag"] == "eval/vendi_score"]


def test_the_tag_disturbs_nothing(tmp_path, monkeypatch) -> None:
    """It draws the same trajectories each time, and takes no number from anyone's generator."""
    found, values = explored(tmp_path / "a")
    assert len(values) > 5
    assert all(1.0 <= x <= 100.0 for x in values)
    assert found.summary["vendi_score"] == values[-1]
    again, same = explored(tmp_path / "b")
    assert same == values
    assert explored(tmp_path / "c", seed=4)[1] != values

    def greedy_for_randomness(mdp, pi, horizon, rng):
        rng.random(1000)
        return 1.0

    monkeypatch.setattr(scoring, "vendi_score_of_policy", greedy_for_randomness)
    without, _ = explored(tmp_path / "d")
    for other in (again, without):
        np.testing.assert_array_equal(other.visits, found.visits)
        np.testing.assert_array_equal(other.policy["pi"], found.policy["pi"])
