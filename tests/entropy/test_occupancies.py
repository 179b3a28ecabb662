"""Occupancies and entropies against their definitions, with the properties of exploration §9."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import episodic, models

from rlentropy import FiniteMDP, entropy

OBJECTIVES = ["VE", "VE_S", "AVE", "AVE_S"]
seeds = st.integers(0, 2**32 - 1)


def problem(seed, S=5, A=3, H=4):
    rng = np.random.default_rng(seed)
    m = models.random_mdp(rng, S, A)
    return rng, m, FiniteMDP(*m.args), models.random_policy(rng, H, S, A)


# ---------------------------------------------------------------- occupancies


@given(seed=seeds)
def test_visitation_is_the_forward_recursion(seed) -> None:
    _, m, mdp, pi = problem(seed)
    d = entropy.visitation(mdp, pi, 4)
    np.testing.assert_allclose(d, episodic.occupancy(m, pi), atol=1e-14)
    np.testing.assert_allclose(d.sum((1, 2)), 1.0, atol=1e-14)
    stationary = entropy.visitation(mdp, pi[0], 4)
    np.testing.assert_array_equal(stationary, entropy.visitation(mdp, [pi[0]] * 4, 4))


def test_visitation_is_what_episodes_visit(rng) -> None:
    """Within 5 standard errors of the frequencies in sampled episodes, in every cell."""
    m = models.random_mdp(rng, 4, 2)
    pi = models.random_policy(rng, 3, 4, 2)
    n = 20_000
    hits = np.zeros((3, 4, 2))
    s = rng.choice(4, size=n, p=m.mu)
    for h in range(3):
        a = (rng.random((n, 1)) > pi[h, s].cumsum(1)).sum(1)
        np.add.at(hits[h], (s, a), 1 / n)
        s = (rng.random((n, 1)) > m.P[s, a].cumsum(1)).sum(1)
    d = entropy.visitation(FiniteMDP(*m.args), pi, 3)
    assert (np.abs(hits - d) <= 5 * np.sqrt(d * (1 - d) / n) + 1e-12).all()


def test_the_policy_is_not_changed() -> None:
    _, _, mdp, pi = problem(0)
    before = pi.copy()
    entropy.visitation(mdp, pi, 4)
    np.testing.assert_array_equal(pi, before)


@given(seed=seeds)
def test_mixtures(seed) -> None:
    """The average of occupancies is realised by its Markov policy; entropies are concave (10)."""
    rng, m, mdp, _ = problem(seed)
    policies = [models.random_policy(rng, 4, 5, 3) for _ in range(6)]
    parts = [entropy.visitation(mdp, pi, 4) for pi in policies]
    mixture = np.mean(parts, axis=0)
    projection = entropy.markov_policy(mixture)
    np.testing.assert_allclose(episodic.occupancy(m, projection), mixture, atol=1e-12)
    for objective in OBJECTIVES:
        mean = np.mean([entropy.visitation_entropy(d, objective) for d in parts])
        assert entropy.visitation_entropy(mixture, objective) >= mean - 1e-12


def test_markov_policy_is_uniform_where_nothing_went() -> None:
    d = np.array([[[0.25, 0.75, 0.0], [0.0, 0.0, 0.0]]])
    np.testing.assert_allclose(entropy.markov_policy(d), [[[0.25, 0.75, 0.0], [1 / 3] * 3]])
    tiny = entropy.markov_policy(np.full((1, 1, 2), 5e-324))
    np.testing.assert_allclose(tiny, 0.5)


def test_the_grid_reaches_437_states() -> None:
    """Stage-wise, in the 19 moves before the last recorded visit: all but the corners (22)."""
    m = models.grid_world()
    mdp = FiniteMDP(*m.args)
    d = entropy.visitation(mdp, models.uniform_policy(21, 441, 4), 21)
    visited = d.sum(2) > 0
    assert visited[:20].any(0).sum() == 437
    corners = np.array([0, 20, 420, 440])
    assert not visited[:20, corners].any()
    assert visited[20, corners].all()
    assert mdp.reachable().all()


# ---------------------------------------------------------------- visitation entropies


@given(seed=seeds)
def test_visitation_entropies_are_their_definitions(seed) -> None:
    _, m, _, pi = problem(seed)
    d = episodic.occupancy(m, pi)
    for objective in OBJECTIVES:
        expected = episodic.visitation_entropy(d, objective)
        assert entropy.visitation_entropy(d, objective=objective) == pytest.approx(expected, 1e-13)
    assert entropy.visitation_entropy(d) == entropy.visitation_entropy(d, "VE")
    assert isinstance(entropy.visitation_entropy(d), float)


@given(seed=seeds)
def test_bounds(seed) -> None:
    """Test 1; the bound on VE of exploration §1 is for a fixed start, where H(d_1) <= log A."""
    rng = np.random.default_rng(seed)
    H, S, A = 4, 5, 3
    m = models.random_mdp(rng, S, A, start=0)
    d = entropy.visitation(FiniteMDP(*m.args), models.random_policy(rng, H, S, A), H)
    value = {name: entropy.visitation_entropy(d, name) for name in OBJECTIVES}
    assert 0 <= value["VE"] <= np.log(A) + (H - 1) * np.log(S * A)
    assert 0 <= value["VE_S"] <= (H - 1) * np.log(S)
    assert value["AVE"] <= np.log(S * A)
    assert value["AVE_S"] <= np.log(S)
    assert value["AVE"] >= value["VE"] / H
    assert value["AVE_S"] >= value["VE_S"] / H


@given(seed=seeds, temperature=st.floats(0.0, 3.0))
def test_state_action_entropy_is_state_entropy_plus_policy_entropy(seed, temperature):
    """Test 2, and the family VE_λ with it."""
    _, m, _, pi = problem(seed)
    d = episodic.occupancy(m, pi)
    states, actions = entropy.visitation_entropy(d, "VE_S"), episodic.policy_entropy(d, pi)
    assert abs(entropy.visitation_entropy(d) - (states + actions)) <= 1e-12
    regularised = entropy.visitation_entropy(d, "VE", temperature=temperature)
    assert abs(regularised - (states + temperature * actions)) <= 1e-12


def test_uniform_policies() -> None:
    """The uniform-random rows of §6.4, to the digits printed."""
    table = {
        "double_chain": (47.203550, 33.340606, 3.217174, 2.524027, 20.0395201056, 20.3646030790),
        "grid_world": (94.407100, 66.681213, 5.716412, 4.330117, 32.5408790323, 32.7940826093),
    }
    for name, row in table.items():
        m = getattr(models, name)()
        mdp = FiniteMDP(*m.args)
        pi = models.uniform_policy(20, *m.sizes)
        d = entropy.visitation(mdp, pi, 20)
        got = [entropy.visitation_entropy(d, objective) for objective in OBJECTIVES]
        np.testing.assert_allclose(got, row[:4], rtol=0, atol=5e-7)
        for final, expected in zip((False, True), row[4:], strict=True):
            value = entropy.trajectory_entropy(mdp, pi, 20, final_transition=final)
            assert abs(value - expected) <= 5e-11


# ---------------------------------------------------------------- trajectory entropy


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("start", [None, 0])
@pytest.mark.parametrize("seed", range(3))
def test_trajectory_entropy_is_the_entropy_of_all_trajectories(seed, start, final):
    """Test 3: every trajectory of S = 4, A = 3, H = 5 enumerated (a million with s_{H+1})."""
    rng = np.random.default_rng(seed)
    m = models.random_mdp(rng, 4, 3, start=start)
    pi = models.random_policy(rng, 5, 4, 3)
    law = episodic.trajectory_law(m, pi, final)
    assert law.sum() == pytest.approx(1.0, abs=1e-12)
    value = entropy.trajectory_entropy(FiniteMDP(*m.args), pi, 5, final_transition=final)
    assert abs(value - episodic.shannon(law)) <= 1e-10
    assert isinstance(value, float)


@given(seed=seeds)
def test_the_joint_is_at_most_the_sum_of_its_marginals(seed) -> None:
    """Test 5."""
    _, _, mdp, pi = problem(seed)
    d = entropy.visitation(mdp, pi, 4)
    assert entropy.trajectory_entropy(mdp, pi, 4) <= entropy.visitation_entropy(d)


def test_one_stage_makes_them_equal() -> None:
    _, _, mdp, pi = problem(1, H=1)
    d = entropy.visitation(mdp, pi, 1)
    expected = pytest.approx(entropy.trajectory_entropy(mdp, pi, 1), abs=1e-14)
    assert entropy.visitation_entropy(d) == expected
    assert entropy.visitation_entropy(d, "AVE") == expected


# ---------------------------------------------------------------- forecasts


@given(sequence=st.lists(st.integers(0, 5), min_size=1, max_size=200))
def test_the_add_one_forecaster_on_any_sequence(sequence) -> None:
    """Test 11: its log loss exceeds that of the best fixed forecast by (m-1) log(e(1+T/(m-1)))."""
    m, T = 6, len(sequence)
    counts, loss = np.zeros(m), 0.0
    for t, symbol in enumerate(sequence):
        loss -= np.log((counts[symbol] + 1) / (t + m))
        counts[symbol] += 1
    regret = loss - T * entropy.shannon(counts / T)
    assert -1e-9 <= regret <= (m - 1) * np.log(np.e * (1 + T / (m - 1)))


# ---------------------------------------------------------------- edges and refusals


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("S", "A", "H"), [(1, 1, 1), (1, 3, 2), (3, 1, 2), (3, 2, 1)])
def test_no_nan_on_small_sizes(rng, S, A, H) -> None:
    m = models.random_mdp(rng, S, A)
    mdp = FiniteMDP(*m.args)
    pi = models.random_policy(rng, H, S, A)
    d = entropy.visitation(mdp, pi, H)
    values = [entropy.visitation_entropy(d, objective) for objective in OBJECTIVES]
    values += [entropy.trajectory_entropy(mdp, pi, H, final_transition=x) for x in (False, True)]
    assert np.isfinite(values).all()
    assert (np.array(values) >= 0).all()
    assert np.isfinite(entropy.markov_policy(d)).all()


@pytest.mark.filterwarnings("error")
def test_no_nan_where_nothing_goes() -> None:
    """An unreachable state, a zero-probability successor, a start that is terminal."""
    P = np.zeros((3, 2, 3))
    P[0, :, 0] = P[1, :, 0] = 1.0
    P[2] = [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    mdp = FiniteMDP(P, np.zeros((3, 2)), [1.0, 0.0, 0.0], terminal=[True, False, False])
    pi = np.zeros((4, 3, 2))
    pi[:, :, 1] = 1.0
    d = entropy.visitation(mdp, pi, 4)
    np.testing.assert_array_equal(d[:, 0, 1], 1.0)
    for objective in OBJECTIVES:
        assert entropy.visitation_entropy(d, objective) == 0.0
    assert entropy.trajectory_entropy(mdp, pi, 4, final_transition=True) == 0.0


def test_refusals() -> None:
    _, _, mdp, pi = problem(0)
    d = entropy.visitation(mdp, pi, 4)
    with pytest.raises(ValueError, match=r"pi must be \(S, A\) = \(5, 3\) or .*got \(3, 5, 3\)"):
        entropy.visitation(mdp, pi[:3], 4)
    for bad in (np.nan, -0.1, 0.4):
        wrong = pi.copy()
        wrong[1, 2, 0] = wrong[2, 0, 0] = bad
        with pytest.raises(ValueError, match=r"pi must be a distribution.*\(1, 2\)"):
            entropy.visitation(mdp, wrong, 4)
    for horizon in (0, -1, 2.5):
        with pytest.raises(ValueError, match=rf"horizon must be .*>= 1, got {horizon}"):
            entropy.visitation(mdp, pi[0], horizon)
    with pytest.raises(ValueError, match=r"d must be \(H, S, A\), got \(5, 3\)"):
        entropy.visitation_entropy(d[0])
    with pytest.raises(ValueError, match="objective must be one of VE, VE_S, AVE, AVE_S, got 'TE'"):
        entropy.visitation_entropy(d, "TE")
    for temperature in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="temperature must be >= 0"):
            entropy.visitation_entropy(d, "VE", temperature)
    with pytest.raises(ValueError, match="temperature must be 1 unless the objective is VE"):
        entropy.visitation_entropy(d, "AVE", 0.5)
