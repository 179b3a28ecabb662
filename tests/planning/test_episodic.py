"""Dynamic programming over a finite horizon on known models."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import episodic, models

from rlentropy import FiniteMDP, planning

seeds = st.integers(0, 2**32 - 1)
H, S, A = 4, 5, 3


def problem(seed, **options):
    rng = np.random.default_rng(seed)
    m = models.random_mdp(rng, S, A, **options)
    return rng, m, FiniteMDP(*m.args)


def policy_value(m, pi, r, temperature=0.0):
    """E[Σ r + temperature H(π)] from the definition: forward, no Bellman equation."""
    value, now = 0.0, m.mu
    for h in range(len(pi)):
        d = now[:, None] * pi[h]
        surprise = -np.log(np.where(pi[h] > 0, pi[h], 1.0))
        value += (d * (r[h] + temperature * surprise)).sum()
        now = np.einsum("sa,sat->t", d, m.P)
    return value


# ---------------------------------------------------------------- backward induction


@given(seed=seeds, temperature=st.sampled_from([0.0, 0.05, 1.0, 4.0]))
def test_backward_induction_is_bellmans_equation(seed, temperature) -> None:
    rng, m, mdp = problem(seed)
    r = rng.normal(size=(H, S, A))
    plan = planning.backward_induction(mdp, r, H, temperature)
    Q, V = episodic.plan(m, r, temperature)
    np.testing.assert_allclose(plan.Q, Q, atol=1e-12)
    np.testing.assert_allclose(plan.V, V, atol=1e-12)
    np.testing.assert_array_equal(plan.V[H], 0.0)
    np.testing.assert_allclose(plan.pi.sum(2), 1.0, atol=1e-14)
    achieved = policy_value(m, plan.pi, r, temperature)
    assert achieved == pytest.approx(m.mu @ plan.V[0], abs=1e-10)
    rivals = [policy_value(m, models.random_policy(rng, H, S, A), r, temperature)]
    assert max(rivals) <= achieved + 1e-12


def test_no_deterministic_policy_beats_the_hard_plan(rng) -> None:
    """All 4 096 stage-dependent policies of S = 3, A = 2, H = 4."""
    m = models.random_mdp(rng, 3, 2)
    r = rng.normal(size=(4, 3, 2))
    plan = planning.backward_induction(FiniteMDP(*m.args), r, 4)
    best = max(
        policy_value(m, np.eye(2)[np.reshape(choice, (4, 3))], r)
        for choice in itertools.product(range(2), repeat=12)
    )
    assert m.mu @ plan.V[0] == pytest.approx(best, abs=1e-12)


def test_a_stationary_reward_is_every_stages(rng) -> None:
    _, _, mdp = problem(0)
    r = rng.normal(size=(S, A))
    for temperature in (0.0, 1.0):
        once = planning.backward_induction(mdp, r, H, temperature)
        staged = planning.backward_induction(mdp, np.tile(r, (H, 1, 1)), H, temperature)
        np.testing.assert_array_equal(once.Q, staged.Q)
        np.testing.assert_array_equal(once.pi, staged.pi)


def test_ties_are_shared_evenly() -> None:
    m = models.double_chain(5)
    plan = planning.backward_induction(FiniteMDP(*m.args), np.zeros((5, 2)), 6)
    np.testing.assert_array_equal(plan.pi, 0.5)
    r = np.zeros((S, A))
    r[:, 0] = r[:, 2] = 1.0
    _, _, mdp = problem(3)
    shared = planning.backward_induction(mdp, r, 1).pi
    np.testing.assert_array_equal(shared, np.tile([0.5, 0.0, 0.5], (1, S, 1)))


def test_ties_that_rounding_breaks_are_ties(rng) -> None:
    """Left and right of the middle are equally good, but their sums round differently."""
    m = models.double_chain(31)
    r = rng.random(16)
    r = np.concatenate([r, r[-2::-1]])[:, None].repeat(2, 1)
    plan = planning.backward_induction(FiniteMDP(*m.args), r, 200)
    np.testing.assert_array_equal(plan.pi[:, 15], 0.5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("temperature", [1e-9, 1e9])
def test_extreme_temperatures(rng, temperature) -> None:
    _, m, mdp = problem(5)
    r = 100 * rng.normal(size=(H, S, A))
    plan = planning.backward_induction(mdp, r, H, temperature)
    hard = episodic.plan(m, r)[1]
    if temperature < 1:
        np.testing.assert_allclose(plan.V, hard, rtol=1e-9)
    else:
        np.testing.assert_allclose(plan.pi, 1 / A, atol=1e-5)
    np.testing.assert_allclose(plan.pi.sum(2), 1.0, atol=1e-14)


def test_the_reward_is_not_changed(rng) -> None:
    _, _, mdp = problem(0)
    r = rng.normal(size=(H, S, A))
    before = r.copy()
    planning.backward_induction(mdp, r, H, 1.0)
    np.testing.assert_array_equal(r, before)


def test_backward_induction_refusals() -> None:
    _, _, mdp = problem(0)
    with pytest.raises(ValueError, match=r"r must be \(S, A\) = \(5, 3\) or \(H, S, A\), got"):
        planning.backward_induction(mdp, np.zeros((H + 1, S, A)), H)
    with pytest.raises(ValueError, match=r"r must be \(S, A\) = \(5, 3\) or \(H, S, A\), got"):
        planning.backward_induction(mdp, np.zeros(S), H)
    with pytest.raises(ValueError, match="r must be finite, got nan"):
        planning.backward_induction(mdp, np.full((S, A), np.nan), H)
    for temperature in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="temperature must be >= 0 and finite"):
            planning.backward_induction(mdp, np.zeros((S, A)), H, temperature)
    for horizon in (0, -2, 1.5):
        with pytest.raises(ValueError, match=rf"horizon must be .*>= 1, got {horizon}"):
            planning.backward_induction(mdp, np.zeros((S, A)), horizon)
