"""Random features of segments, against the sum written out."""

import dataclasses

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

pytest.importorskip("torch")

from rlentropy.errors import InputError
from rlentropy.neural.spaces import make_head
from rlentropy.preferences.neural_features import RandomFeatures
from rlentropy.preferences.segments import Segments

T, N, D = 6, 40, 16


def example(space, rng, n=N):
    head = make_head(space)
    actions = head.choose(np.zeros((n, T, head.num_outputs), np.float32), head.noise(rng, (n, T)))
    lengths = rng.integers(0, T + 1, n)
    states = rng.standard_normal((n, T + 1, 3), dtype=np.float32)
    part = Segments(states, actions, np.zeros((n, T)), lengths, lengths < T, np.arange(n))
    scaling = rng.normal(size=3), rng.uniform(0.5, 2.0, 3)
    return RandomFeatures(head, scaling, D, rng), part


@pytest.mark.parametrize("space", [Discrete(3), Box(-2.0, 2.0, (2,))])
def test_sums_of_a_random_layer(space, rng):
    features, part = example(space, rng)
    wanted = np.zeros((N, D))
    for i in range(N):
        for t in range(part.lengths[i]):
            x = (part.states[i, t] - features.scaling[0]) / features.scaling[1]
            a = features.head.features(part.actions[i, t])
            inner = np.concatenate([x, a]) @ features.W.astype(float) + features.b
            wanted[i] += [1.0, *np.tanh(inner)]
    found = features.sums(part)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found[:, 0], part.lengths)
    steps = features.steps(part)
    assert steps.shape == (N, T, D)
    np.testing.assert_allclose(steps.sum(1), found, rtol=1e-4, atol=1e-5)
    assert not steps[~part.mask].any()


def test_chunks_behind_ends_and_seeds_change_nothing(rng):
    features, part = example(Discrete(2), rng, n=3000)
    found = features.sums(part)
    np.testing.assert_allclose(features.sums(part.take(slice(2900, None))), found[2900:], rtol=1e-5)
    states = part.states.copy()
    states[:, :-1][~part.mask] = 7.0
    np.testing.assert_array_equal(features.sums(dataclasses.replace(part, states=states)), found)
    one, other = (
        RandomFeatures(features.head, features.scaling, D, np.random.default_rng(5))
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.sums(part), other.sums(part))


def test_features_tell_steps_apart_in_all_directions(rng):
    """On many steps the features are linearly independent, or a reward could not be anything."""
    features, part = example(Box(-2.0, 2.0, (2,)), rng, n=400)
    steps = features.steps(part)[part.mask].astype(float)
    assert np.linalg.matrix_rank(steps) == D


def test_too_few_are_refused(rng):
    head = make_head(Discrete(2))
    with pytest.raises(InputError, match="features must be >= 2, got 1"):
        RandomFeatures(head, (np.zeros(2), np.ones(2)), 1, rng)
