import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from rlentropy.envs.garnet import GarnetEnv, distinct


@pytest.mark.parametrize(("S", "A", "b"), [(30, 3, 5), (6, 2, 6), (5, 1, 1), (1, 1, 1)])
def test_shape(S: int, A: int, b: int) -> None:
    mdp = GarnetEnv(S, A, b, seed=3).mdp
    assert (mdp.num_states, mdp.num_actions) == (S, A)
    assert (np.diff(mdp.P.indptr) == b).all()
    assert ((mdp.r >= 0.0) & (mdp.r < 1.0)).all()
    assert mdp.mu[0] == 1.0


def test_every_set_of_successors_is_equally_likely() -> None:
    drawn = np.sort(distinct(np.random.default_rng(0), 60_000, 5, 3), axis=1)
    sets = list(combinations(range(5), 3))
    counts = [(drawn == chosen).all(axis=1).sum() for chosen in sets]
    assert sum(counts) == 60_000
    assert chisquare(counts).pvalue > 1e-4


def test_probabilities_are_spacings_of_uniform_cuts() -> None:
    b = 4
    p = GarnetEnv(5_000, 1, b, seed=1).mdp.P.data.reshape(-1, b)
    # A spacing exceeds x with probability (1 - x)^(b-1), wherever it lies among the successors.
    for k in range(b):
        assert kstest(p[:, k], lambda x: 1.0 - (1.0 - x) ** (b - 1)).pvalue > 1e-4


def test_the_seed_alone_makes_the_model() -> None:
    first = GarnetEnv(seed=4).mdp
    np.random.seed(0)  # noqa: NPY002  (the global generator must not matter)
    again, other = GarnetEnv(seed=4).mdp, GarnetEnv(seed=5).mdp
    for name in ("data", "indices"):
        np.testing.assert_array_equal(getattr(first.P, name), getattr(again.P, name))
        assert (getattr(first.P, name) != getattr(other.P, name)).any()
    np.testing.assert_array_equal(first.r, again.r)


def test_a_hundred_thousand_states_stay_sparse() -> None:
    tracemalloc.start()
    mdp = GarnetEnv(100_000, 4, 8).mdp
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mdp.P.nnz == 3_200_000
    assert peak < 1e9


@pytest.mark.parametrize("name", ["num_states", "num_actions", "branching"])
def test_sizes_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a whole number >= 1, got 0"):
        GarnetEnv(**{name: 0})


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="seed must be a whole number >= 0, got -1"):
        GarnetEnv(seed=-1)
    with pytest.raises(ValueError, match="branching must be <= num_states = 5, got 6"):
        GarnetEnv(5, branching=6)


def test_heterogeneous_rows_have_one_to_branching_successors() -> None:
    """Each number of successors is equally likely, and each state to be one of them."""
    mdp = GarnetEnv(60, 50, branching=4, seed=3, heterogeneous=True).mdp
    counts = np.diff(mdp.P.indptr)
    assert counts.min() == 1
    assert counts.max() == 4
    n = counts.size
    for k in range(1, 5):
        assert abs((counts == k).sum() - n / 4) <= 4 * np.sqrt(n * 0.25 * 0.75)
    hits = np.bincount(mdp.P.indices, minlength=60)
    assert (abs(hits - hits.mean()) <= 5 * np.sqrt(hits.mean())).all()
