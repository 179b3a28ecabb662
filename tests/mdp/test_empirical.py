"""EmpiricalModel against dense counts."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from oracles import models

from rlentropy import EmpiricalModel, FiniteMDP

seeds = st.integers(0, 2**32 - 1)


def reference(S, A, stages, transitions, smoothing, support=None):
    """N and p̂ from the formula, with dense counts (stages, S, A, S)."""
    n = np.zeros((stages, S, A, S))
    for h, s, a, s2 in transitions:
        n[h, s, a, s2] += 1
    B = np.ones((S, A, S), bool) if support is None else support
    N, size = n.sum(3), B.sum(2)
    total = N + smoothing * size
    with np.errstate(invalid="ignore"):
        p = (n + smoothing * B) / total[..., None]
    return N, np.where(total[..., None] > 0, p, B / size[..., None])


def random_transitions(rng, n, stages, P):
    S, A = P.shape[:2]
    h, s, a = (rng.integers(k, size=n) for k in (stages, S, A))
    s2 = np.array([rng.choice(S, p=P[x, y]) for x, y in zip(s, a, strict=True)], dtype=int)
    return h, s, a, s2


def check_model(model, N, p) -> None:
    stages, S, _ = N.shape
    np.testing.assert_array_equal(model.N, N[0] if stages == 1 else N)
    got = models.dense_rows(model.rows, S)
    np.testing.assert_allclose(got, p.reshape(-1, S), rtol=1e-13, atol=1e-16)


@given(
    seed=seeds,
    n=st.integers(0, 300),
    smoothing=st.sampled_from([0.0, 0.5, 1.0]),
    restricted=st.booleans(),
    stages=st.sampled_from([1, 3]),
)
def test_the_empirical_model_is_its_formula(seed, n, smoothing, restricted, stages):
    rng = np.random.default_rng(seed)
    S, A = 11, 2
    m = models.random_mdp(rng, S, A)
    support = FiniteMDP(*m.args) if restricted else None
    model = EmpiricalModel(S, A, smoothing=smoothing, support=support, stages=stages)
    h, s, a, s2 = random_transitions(rng, n, stages, m.P)
    half = n // 2
    for part in (slice(0, half), slice(half, None)):  # rows move between the two
        model.update(s[part], a[part], s2[part], h[part])
    transitions = np.stack([h, s, a, s2], axis=1)
    N, p = reference(S, A, stages, transitions, smoothing, m.P > 0 if restricted else None)
    check_model(model, N, p)

    other = EmpiricalModel(S, A, smoothing=smoothing, support=support, stages=stages)
    other.load_state_dict(model.state_dict())
    check_model(other, N, p)
    model.update(s, a, s2, h)
    other.update(s, a, s2, h)
    N, p = reference(
        S, A, stages, np.tile(transitions, (2, 1)), smoothing, m.P > 0 if restricted else None
    )
    check_model(model, N, p)
    check_model(other, N, p)


def test_long_histories_and_scalar_updates(rng) -> None:
    S, n = 400, 5000
    s2 = rng.integers(S, size=n)
    model = EmpiricalModel(S, 1, smoothing=0.25)
    model.update(0, 0, s2)  # broadcast
    model.update(7, 0, 9)
    transitions = [(0, 0, 0, x) for x in s2] + [(0, 7, 0, 9)]
    check_model(model, *reference(S, 1, 1, transitions, 0.25))


def test_a_saved_state_is_a_copy() -> None:
    model = EmpiricalModel(3, 1)
    model.update(0, 0, 1)
    state = model.state_dict()
    model.update(0, 0, [1, 2])
    other = EmpiricalModel(3, 1)
    other.load_state_dict(state)
    other.update(0, 0, 2)
    again = EmpiricalModel(3, 1)
    again.load_state_dict(state)
    check_model(again, *reference(3, 1, 1, [(0, 0, 0, 1)], 0.0))


def test_a_state_of_another_size_is_refused() -> None:
    """Else compiled code would count into memory that isn't the model's."""
    model = EmpiricalModel(5, 2)
    with pytest.raises(ValueError, match=r"state.* must .*got"):
        model.load_state_dict(EmpiricalModel(3, 2).state_dict())


def test_an_index_that_is_not_whole_is_refused() -> None:
    model = EmpiricalModel(3, 1)
    with pytest.raises(ValueError, match="next_state must be whole"):
        model.update(0, 0, 1.7)


def test_a_transition_outside_the_support_changes_nothing() -> None:
    support = sp.csr_array(np.eye(3))
    model = EmpiricalModel(3, 1, support=support)
    with pytest.raises(ValueError, match=r"in the support, got 2 at \(s, a\) = \(1, 0\)"):
        model.update([0, 1], 0, [0, 2])
    assert model.N.sum() == 0


def test_supports_that_are_not_canonical() -> None:
    """A duplicate, or a stored zero, doesn't make a successor twice or at all possible."""
    twice = sp.csr_array(([0.5, 0.5, 1.0, 1.0], [0, 0, 1, 1], [0, 3, 4]), shape=(2, 2))
    model = EmpiricalModel(2, 1, smoothing=1.0, support=twice)
    np.testing.assert_allclose(models.dense_rows(model.rows, 2), [[0.5, 0.5], [0.0, 1.0]])
    zero = sp.csr_array(([0.0, 1.0, 1.0], [0, 1, 1], [0, 2, 3]), shape=(2, 2))
    model = EmpiricalModel(2, 1, smoothing=1.0, support=zero)
    np.testing.assert_allclose(models.dense_rows(model.rows, 2), [[0.0, 1.0], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ((2, 1), {"smoothing": -1.0}, "smoothing must be >= 0 and finite, got -1"),
        ((2, 1), {"smoothing": np.nan}, "smoothing must be >= 0 and finite, got nan"),
        ((2, 1), {"smoothing": np.inf}, "smoothing must be >= 0 and finite, got inf"),
        ((0, 1), {}, "num_states must be >= 1, got 0"),
        ((2, 0), {}, "num_actions must be >= 1, got 0"),
        ((2, 1), {"stages": 0}, "stages must be >= 1, got 0"),
        ((2, 1), {"support": sp.csr_array((3, 2))}, r"support must be \(S\*A, S\) = \(2, 2\)"),
        (
            (2, 1),
            {"support": sp.csr_array([[1.0, 0.0], [0.0, 0.0]])},
            r"support must not be empty, got none at \(s, a\) = \(1, 0\)",
        ),
    ],
)
def test_empirical_model_arguments(sizes, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        EmpiricalModel(*sizes, **options)


@pytest.mark.parametrize(
    ("transition", "message"),
    [
        ((3, 0, 0, 0), r"state must be in 0\.\.2, got 3"),
        ((0, -1, 0, 0), r"action must be in 0\.\.1, got -1"),
        ((0, 0, 3, 0), r"next_state must be in 0\.\.2, got 3"),
        ((0, 0, 0, 1), r"stage must be in 0\.\.0, got 1"),
    ],
)
def test_transitions_out_of_range(transition, message) -> None:
    model = EmpiricalModel(3, 2)
    with pytest.raises(ValueError, match=message):
        model.update(*transition)
    assert model.N.sum() == 0
