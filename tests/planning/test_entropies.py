"""Optima of entropies: by definition, by their duals, by three solvers, and the table of
exploration §6.4."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import episodic, models

from rlentropy import FiniteMDP, entropy, planning

seeds = st.integers(0, 2**32 - 1)
H, S, A = 4, 5, 3


def problem(seed, **options):
    rng = np.random.default_rng(seed)
    m = models.random_mdp(rng, S, A, **options)
    return rng, m, FiniteMDP(*m.args)


OBJECTIVES = ["VE", "VE_S", "AVE", "AVE_S"]


def check_result(m, best, horizon, objective, tolerance) -> None:
    """The value is that of the policy, and the certificate is as small as promised."""
    np.testing.assert_allclose(best.pi.sum(2), 1.0, atol=1e-12)
    assert best.pi.shape == (horizon, *m.sizes)
    assert best.iterations >= 1
    achieved = episodic.visitation_entropy(episodic.occupancy(m, best.pi), objective)
    assert abs(best.value - achieved) <= 1e-10
    assert 0.0 <= best.certificate <= tolerance


# ---------------------------------------------------------------- trajectory entropy


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_soft_plan_attains_the_maximum_trajectory_entropy(seed, final) -> None:
    """Test 4, by enumeration; and none of 2 000 random policies does better."""
    rng = np.random.default_rng(seed)
    m = models.random_mdp(rng, 3, 2)
    mdp = FiniteMDP(*m.args)
    best = planning.max_trajectory_entropy(mdp, 4, final_transition=final)
    assert 0.0 <= best.certificate <= 1e-11  # rounding
    achieved = episodic.shannon(episodic.trajectory_law(m, best.pi, final))
    assert abs(best.value - achieved) <= 1e-10
    for _ in range(2000):
        pi = rng.dirichlet(np.full(2, rng.choice([0.3, 1.0, 10.0])), size=(4, 3))
        assert episodic.shannon(episodic.trajectory_law(m, pi, final)) <= best.value + 1e-12


@given(seed=seeds, final=st.booleans())
def test_max_trajectory_entropy_is_the_soft_bellman_equation(seed, final) -> None:
    _, m, mdp = problem(seed)
    best = planning.max_trajectory_entropy(mdp, H, final_transition=final)
    Q, V = episodic.plan(m, episodic.trajectory_reward(m, H, final), 1.0)
    np.testing.assert_allclose(best.Q, Q, atol=1e-12)
    np.testing.assert_allclose(best.V, V, atol=1e-12)
    np.testing.assert_allclose(best.pi, episodic.softmax(Q), atol=1e-12)
    assert best.value == pytest.approx(episodic.shannon(m.mu) + m.mu @ V[0], abs=1e-11)


def test_deterministic_mdps_have_uniform_optima() -> None:
    """Test 6: H log A, whatever the successors are."""
    _, _, mdp = problem(9, successors=1, start=2)
    best = planning.max_trajectory_entropy(mdp, H)
    assert best.value == pytest.approx(H * np.log(A), abs=1e-9)
    np.testing.assert_allclose(best.pi, 1 / A, atol=1e-9)


def test_the_tree() -> None:
    """Test 6: A = 3, H = 4 has 81 trajectories."""
    m = models.tree(3, 4)
    best = planning.max_trajectory_entropy(FiniteMDP(*m.args), 4)
    assert best.value == pytest.approx(np.log(81), abs=1e-9)
    assert best.value == pytest.approx(4.394449, abs=5e-7)
    np.testing.assert_allclose(best.pi, 1 / 3, atol=1e-9)


@pytest.mark.parametrize("K", [2, 5, 11])
def test_the_fan(K) -> None:
    """Test 7: 2 (K + 1) trajectories, all of which can be made equally likely."""
    m = models.fan(K)
    best = planning.max_trajectory_entropy(FiniteMDP(*m.args), 2)
    assert best.value == pytest.approx(np.log(2 * (K + 1)), abs=1e-9)
    assert best.pi[0, 0, 1] == pytest.approx(K / (K + 1), abs=1e-9)
    if K == 5:
        assert best.value == pytest.approx(2.484907, abs=5e-7)
        assert best.pi[0, 0, 1] == pytest.approx(0.833333, abs=5e-7)


@pytest.mark.parametrize("final", [False, True])
def test_constant_noise_makes_the_uniform_policy_optimal(final) -> None:
    """Test 8."""
    m = models.double_chain()
    best = planning.max_trajectory_entropy(FiniteMDP(*m.args), 20, final_transition=final)
    np.testing.assert_allclose(best.pi, 0.5, atol=1e-9)
    h = episodic.shannon([0.9, 0.1])
    assert best.value == pytest.approx(20 * np.log(2) + (20 if final else 19) * h, abs=1e-9)


def test_the_noisy_chain() -> None:
    """Test 9: the optimum seeks noise."""
    m = models.noisy_chain()
    mdp = FiniteMDP(*m.args)
    best = planning.max_trajectory_entropy(mdp, 10)
    assert best.value == pytest.approx(11.115425, abs=1e-5)
    uniform = entropy.trajectory_entropy(mdp, models.uniform_policy(10, 10, 3), 10)
    assert uniform == pytest.approx(11.019060, abs=1e-5)
    assert best.pi[0, 0, 1] > 0.34


@given(seed=seeds, scale=st.sampled_from([0.01, 0.3, 3.0]))
def test_errors_in_action_values_cost_their_square(seed, scale) -> None:
    """Test 12: V* - V^softmax(Q̂) <= ½ Σ E max_a (Q̂ - Q*)², with E over softmax(Q̂)."""
    rng, _, mdp = problem(seed, start=0)
    best = planning.max_trajectory_entropy(mdp, H)
    guess = best.Q + scale * rng.normal(size=best.Q.shape)
    pi = episodic.softmax(guess)
    states = entropy.visitation(mdp, pi, H).sum(2)
    bound = 0.5 * (states * ((guess - best.Q) ** 2).max(2)).sum()
    loss = best.value - entropy.trajectory_entropy(mdp, pi, H)
    assert -1e-12 <= loss <= bound


# ---------------------------------------------------------------- the dual of visitation entropy


def reachable_stages(m):
    """Which states some policy can be in at each stage, (H, S)."""
    seen = [m.mu > 0]
    for _ in range(H - 1):
        seen.append((seen[-1] @ m.P.sum(1)) > 0)
    return np.array(seen)


def forecast(theta):
    q = np.exp(theta - theta.max(-1, keepdims=True))
    return q / q.sum(-1, keepdims=True)


def dual(mdp, mu, q, temperature):
    """g(q) = μ·V of the soft plan for -log q, and the occupancies of its policy (§7.2)."""
    reward = np.repeat(-np.log(q)[:, :, None], mdp.num_actions, axis=2)
    plan = planning.backward_induction(mdp, reward, len(q), temperature)
    return mu @ plan.V[0], entropy.visitation(mdp, plan.pi, len(q))


@given(seed=seeds, temperature=st.sampled_from([0.2, 1.0, 3.0]))
def test_the_dual_certificate_is_a_divergence(seed, temperature) -> None:
    """Test 16: g - VE_λ(d) = Σ KL(d_h^S ‖ q_h) >= 0 at any forecaster."""
    rng, m, mdp = problem(seed)
    q = forecast(2 * rng.normal(size=(H, S)))
    g, d = dual(mdp, m.mu, q, temperature)
    states = d.sum(2)
    divergence = np.where(states > 0, states * np.log(np.where(states > 0, states, 1) / q), 0).sum()
    value = entropy.visitation_entropy(d, "VE", temperature)
    assert divergence >= 0
    assert g - value == pytest.approx(divergence, abs=1e-11)
    bound = planning.visitation_entropy_bound(mdp, q, "VE", temperature)
    assert bound == pytest.approx(g, abs=1e-11)


def test_the_dual_gradient() -> None:
    """Test 16: ∇g = q - d^S, against central differences."""
    rng, m, mdp = problem(8)
    theta = rng.normal(size=(H, S))
    q = forecast(theta)
    gradient = q - dual(mdp, m.mu, q, 1.0)[1].sum(2)
    numeric = np.zeros((H, S))
    for index in np.ndindex(H, S):
        step = np.zeros((H, S))
        step[index] = 1e-5
        ends = [dual(mdp, m.mu, forecast(theta + sign * step), 1.0)[0] for sign in (1, -1)]
        numeric[index] = (ends[0] - ends[1]) / 2e-5
    np.testing.assert_allclose(numeric, gradient, atol=1e-6)


@given(seed=seeds)
def test_every_forecaster_bounds_every_policy(seed) -> None:
    """§7.4, by its definition: the largest cross-entropy that a policy can pay against q."""
    rng, m, mdp = problem(seed)
    shapes = {"VE_S": (H, S), "AVE": (S, A), "AVE_S": (S,)}
    d = episodic.occupancy(m, models.random_policy(rng, H, S, A))
    for objective, shape in shapes.items():
        q = rng.dirichlet(np.ones(np.prod(shape[-1:])), size=shape[:-1])
        if objective == "AVE":
            q = q / S
        surprise = -np.log(q)
        if objective == "VE_S":
            r = np.repeat(surprise[:, :, None], A, axis=2)
        elif objective == "AVE":
            r = np.tile(surprise, (H, 1, 1)) / H
        else:
            r = np.tile(surprise[:, None], (H, 1, A)) / H
        bound = planning.visitation_entropy_bound(mdp, q, objective, horizon=H)
        assert bound == pytest.approx(m.mu @ episodic.plan(m, r)[1][0], abs=1e-11)
        assert episodic.visitation_entropy(d, objective) <= bound + 1e-12
    q = rng.dirichlet(np.ones(S), size=H)
    soft = planning.visitation_entropy_bound(mdp, q)
    assert episodic.visitation_entropy(d, "VE") <= soft + 1e-12


def test_the_true_marginals_certify_the_optimum() -> None:
    _, _, mdp = problem(4)
    best = planning.max_visitation_entropy(mdp, H)
    q = entropy.visitation(mdp, best.pi, H).sum(2)
    q = (q + 1e-12) / (q + 1e-12).sum(1, keepdims=True)
    assert best.value - 1e-9 <= planning.visitation_entropy_bound(mdp, q) <= best.value + 1e-4


def test_a_forecaster_may_be_zero_where_nobody_goes() -> None:
    _, m, mdp = problem(9, successors=1, start=2)
    reach = reachable_stages(m)
    assert not reach.all()
    q = reach / reach.sum(1, keepdims=True)
    bound = planning.visitation_entropy_bound(mdp, q)
    assert np.isfinite(bound)
    smaller = np.where(reach, 0.0, 1.0)
    smaller /= np.maximum(smaller.sum(1, keepdims=True), 1)
    smaller[reach.all(1)] = 1 / S
    with pytest.raises(ValueError, match="q must be > 0"):
        planning.visitation_entropy_bound(mdp, smaller)


def test_bound_refusals() -> None:
    _, _, mdp = problem(0)
    q = np.full((H, S), 1 / S)
    with pytest.raises(ValueError, match=r"q must be \(4, 5\) for VE, got \(4, 5, 3\)"):
        planning.visitation_entropy_bound(mdp, np.full((H, S, A), 1 / (S * A)))
    with pytest.raises(ValueError, match=r"q must be \(5,\) for AVE_S, got \(4, 5\)"):
        planning.visitation_entropy_bound(mdp, q, "AVE_S", horizon=H)
    for bad in (-0.1, np.nan, 0.5):
        wrong = q.copy()
        wrong[1, 0] = bad
        with pytest.raises(ValueError, match="q must be a distribution"):
            planning.visitation_entropy_bound(mdp, wrong)
    with pytest.raises(ValueError, match="objective must be one of"):
        planning.visitation_entropy_bound(mdp, q, "TE")
    with pytest.raises(ValueError, match="horizon must be"):
        planning.visitation_entropy_bound(mdp, np.full(S, 1 / S), "AVE_S")


# ---------------------------------------------------------------- symmetries


def relabel(m, states, actions):
    """State i of the result is states[i] of m, and so on."""
    P = m.P[states][:, actions][:, :, states]
    return models.Dense(P, m.mu[states])


@pytest.mark.parametrize("objective", ["VE", "VE_S", "AVE", "AVE_S", "TE", "TE+"])
def test_labels_do_not_matter(objective) -> None:
    """Test 21; the policy too, where the optimum is unique."""
    rng, m, mdp = problem(12)
    states, actions = rng.permutation(S), rng.permutation(A)
    other = FiniteMDP(*relabel(m, states, actions).args)

    def best(model):
        if objective.startswith("TE"):
            return planning.max_trajectory_entropy(model, H, objective == "TE+")
        return planning.max_visitation_entropy(model, H, objective)

    one, two = best(mdp), best(other)
    slack = one.certificate + two.certificate
    assert abs(one.value - two.value) <= 1e-9 + slack
    if objective.startswith("TE"):
        np.testing.assert_allclose(two.pi, one.pi[:, states][:, :, actions], atol=1e-9)
    if objective == "VE":
        np.testing.assert_allclose(two.pi, one.pi[:, states][:, :, actions], atol=1e-3)


def test_a_duplicated_action() -> None:
    """Test 21: twice the weight in the log-sum-exp, and no new state distribution."""
    _, m, mdp = problem(13, start=0)
    twin = models.Dense(np.concatenate([m.P, m.P[:, :1]], axis=1), m.mu)
    other = FiniteMDP(*twin.args)
    V = np.zeros((H + 1, S))
    for h in reversed(range(H)):
        Q = episodic.trajectory_reward(m, H)[h] + m.P @ V[h + 1]
        V[h] = np.log((np.exp(Q) * [2, 1, 1]).sum(1))
    assert planning.max_trajectory_entropy(other, H).value == pytest.approx(V[0, 0], abs=1e-9)
    one = planning.max_visitation_entropy(mdp, H, "VE_S")
    two = planning.max_visitation_entropy(other, H, "VE_S")
    assert abs(one.value - two.value) <= 1e-9 + one.certificate + two.certificate


def test_all_actions_doubled() -> None:
    _, m, mdp = problem(14)
    other = FiniteMDP(*models.Dense(np.repeat(m.P, 2, axis=1), m.mu).args)
    gain = H * np.log(2)
    te = [planning.max_trajectory_entropy(x, H).value for x in (mdp, other)]
    assert te[1] - te[0] == pytest.approx(gain, abs=1e-9)
    ve = [planning.max_visitation_entropy(x, H).value for x in (mdp, other)]
    assert ve[1] - ve[0] == pytest.approx(gain, abs=1e-7)


# ---------------------------------------------------------------- edges


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("objective", ["VE", "VE_S", "AVE", "AVE_S"])
@pytest.mark.parametrize(("S", "A", "H"), [(1, 1, 1), (1, 3, 2), (3, 1, 2), (3, 2, 1)])
def test_no_nan_on_small_sizes(rng, S, A, H, objective) -> None:
    m = models.random_mdp(rng, S, A)
    mdp = FiniteMDP(*m.args)
    best = planning.max_visitation_entropy(mdp, H, objective)
    for final in (False, True):
        te = planning.max_trajectory_entropy(mdp, H, final_transition=final)
        assert np.isfinite(te.pi).all()
        assert np.isfinite(te.value)
    np.testing.assert_allclose(best.pi.sum(2), 1.0)
    assert 0 <= best.certificate <= 1e-5
    achieved = episodic.visitation_entropy(episodic.occupancy(m, best.pi), objective)
    assert best.value == pytest.approx(achieved, abs=1e-12)
    if objective == "VE" and H == 1:
        assert best.value == pytest.approx(episodic.shannon(m.mu) + np.log(A), abs=1e-8)
    if A == 1 and objective.startswith("VE"):
        d = episodic.occupancy(m, models.uniform_policy(H, S, 1))
        assert best.value == pytest.approx(episodic.visitation_entropy(d, objective), abs=1e-12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("objective", ["VE", "VE_S", "AVE", "AVE_S"])
def test_no_nan_where_nothing_goes(objective) -> None:
    """A terminal start, an unreachable state, zero-probability successors."""
    P = np.zeros((3, 2, 3))
    P[0, :, 0] = P[1, :, 0] = 1.0
    P[2] = [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    mdp = FiniteMDP(P, np.zeros((3, 2)), [1.0, 0.0, 0.0], terminal=[True, False, False])
    best = planning.max_visitation_entropy(mdp, 4, objective)
    expected = {"VE": 4 * np.log(2), "AVE": np.log(2)}.get(objective, 0.0)
    assert best.value == pytest.approx(expected, abs=1e-7)
    np.testing.assert_allclose(best.pi.sum(2), 1.0)
    assert planning.max_trajectory_entropy(mdp, 4).value == pytest.approx(4 * np.log(2), abs=1e-12)


def test_max_entropy_refusals() -> None:
    _, _, mdp = problem(0)
    for solve in (planning.max_visitation_entropy, planning.max_trajectory_entropy):
        for horizon in (0, 1.5):
            with pytest.raises(ValueError, match=r"horizon must be .*>= 1"):
                solve(mdp, horizon)
    with pytest.raises(ValueError, match="objective must be one of VE, VE_S, AVE, AVE_S, got 've'"):
        planning.max_visitation_entropy(mdp, H, "ve")
    with pytest.raises(ValueError, match="temperature must be >= 0"):
        planning.max_visitation_entropy(mdp, H, temperature=-1.0)
    with pytest.raises(ValueError, match="tolerance must be > 0, got 0"):
        planning.max_visitation_entropy(mdp, H, tolerance=0.0)
    with pytest.raises(RuntimeError, match=r"certificate .* after .* tolerance is 1e-30"):
        planning.max_visitation_entropy(mdp, H, "AVE", tolerance=1e-30)


# ---------------------------------------------------------------- three solvers


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("passes", [1, 10])
def test_a_search_that_is_cut_off_knows_how_far_it_is(objective, passes) -> None:
    """Value and certificate hold the optimum of the conic program, however early it is cut off."""
    _, m, mdp = problem(3)
    best = planning.max_visitation_entropy(mdp, H, objective, strict=False, max_passes=passes)
    achieved = episodic.visitation_entropy(episodic.occupancy(m, best.pi), objective)
    assert abs(best.value - achieved) <= 1e-10
    assert (
        best.iterations <= passes + 5
    )  # a line search may go on; the last bound, and the plan behind it
    conic = episodic.occupancy(m, episodic.conic(m, H, objective))
    optimum = episodic.visitation_entropy(conic, objective)
    assert best.value <= optimum + 1e-7
    assert best.value + best.certificate >= optimum - 1e-10
    whole = planning.max_visitation_entropy(mdp, H, objective)
    assert best.certificate > whole.certificate
    enough = planning.max_visitation_entropy(mdp, H, objective, max_passes=10**6)
    assert (enough.value, enough.iterations) == (whole.value, whole.iterations)


def test_a_strict_search_that_is_cut_off_says_what_to_raise() -> None:
    mdp = problem(3)[2]
    with pytest.raises(RuntimeError, match="raise tolerance or max_passes, or pass strict=False"):
        planning.max_visitation_entropy(mdp, H, max_passes=3)
    with pytest.raises(ValueError, match="max_passes must be >= 1, got 0"):
        planning.max_visitation_entropy(mdp, H, max_passes=0)


@pytest.mark.parametrize("seed", range(4))
def test_three_solvers_agree(seed) -> None:
    """Test 17: the dual, a conic program and Frank-Wolfe, each with its own bound."""
    m = models.random_mdp(np.random.default_rng(seed), 5, 3, start=None if seed % 2 else 0)
    best = planning.max_visitation_entropy(FiniteMDP(*m.args), 4)
    check_result(m, best, 4, "VE", 1e-8)
    conic = episodic.visitation_entropy(episodic.occupancy(m, episodic.conic(m, 4, "VE")), "VE")
    assert abs(best.value - conic) <= 1e-5
    d, gap = episodic.frank_wolfe(m, 4, iterations=400)
    walk = episodic.visitation_entropy(d, "VE")
    assert abs(best.value - walk) <= 1e-5
    assert -1e-8 <= best.value - walk <= gap + 1e-8


def test_three_solvers_agree_on_the_double_chain() -> None:
    """Test 17. Frank-Wolfe keeps the policy entropy exact here, or it would need an hour."""
    m = models.double_chain()
    best = planning.max_visitation_entropy(FiniteMDP(*m.args), 20)
    conic = episodic.visitation_entropy(episodic.occupancy(m, episodic.conic(m, 20, "VE")), "VE")
    assert abs(best.value - conic) <= 1e-5
    d, gap = episodic.frank_wolfe(m, 20, iterations=300, soft=True)
    walk = episodic.visitation_entropy(d, "VE")
    assert abs(best.value - walk) <= 1e-5
    assert -1e-8 <= best.value - walk <= gap + 1e-8


@pytest.mark.parametrize("objective", ["VE_S", "AVE", "AVE_S"])
@pytest.mark.parametrize("seed", range(4))
def test_the_other_objectives_agree_with_the_conic_program(seed, objective) -> None:
    rng = np.random.default_rng(seed)
    m = models.random_mdp(rng, 6, 2, successors=1 + seed, start=None if seed % 2 else 0)
    best = planning.max_visitation_entropy(FiniteMDP(*m.args), 5, objective)
    check_result(m, best, 5, objective, 1e-5)
    pi = episodic.conic(m, 5, objective)
    conic = episodic.visitation_entropy(episodic.occupancy(m, pi), objective)
    assert abs(best.value - conic) <= 1e-5 + 1e-6
    assert conic <= best.value + best.certificate + 1e-9


@pytest.mark.parametrize("temperature", [0.0, 0.05, 0.5, 1.0])
def test_the_regularised_family_agrees_with_the_conic_program(temperature) -> None:
    m = models.random_mdp(np.random.default_rng(7), 5, 3, successors=3)
    best = planning.max_visitation_entropy(FiniteMDP(*m.args), 4, "VE", temperature)

    def value(pi):
        d = episodic.occupancy(m, pi)
        return episodic.visitation_entropy(d, "VE_S") + temperature * episodic.policy_entropy(d, pi)

    conic = value(episodic.conic(m, 4, "VE", temperature))
    assert abs(best.value - value(best.pi)) <= 1e-10
    assert abs(best.value - conic) <= 2e-5
    assert conic <= best.value + best.certificate + 1e-9


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_policy_beats_value_plus_certificate(rng, objective) -> None:
    """Also with a certificate that is far from 0."""
    m = models.random_mdp(rng, 5, 3)
    mdp = FiniteMDP(*m.args)
    tight = planning.max_visitation_entropy(mdp, 4, objective)
    loose = planning.max_visitation_entropy(mdp, 4, objective, tolerance=0.3)
    assert loose.certificate <= 0.3
    assert tight.value <= loose.value + loose.certificate + 1e-12
    for _ in range(200):
        d = entropy.visitation(mdp, models.random_policy(rng, 4, 5, 3), 4)
        assert entropy.visitation_entropy(d, objective) <= tight.value + tight.certificate


def test_an_unreachable_state_changes_nothing() -> None:
    m = models.random_mdp(np.random.default_rng(1), 4, 2, start=0)
    P = np.zeros((5, 2, 5))
    P[:4, :, :4], P[4, :, 0] = m.P, 1.0
    larger = FiniteMDP(P, np.zeros((5, 2)), np.append(m.mu, 0.0))
    for objective in OBJECTIVES:
        one = planning.max_visitation_entropy(FiniteMDP(*m.args), 4, objective)
        two = planning.max_visitation_entropy(larger, 4, objective)
        slack = one.certificate + two.certificate + 1e-9
        assert abs(one.value - two.value) <= slack
        assert np.isfinite(two.pi).all()


# ---------------------------------------------------------------- closed forms


def test_the_tree_can_be_filled_evenly() -> None:
    """Test 6: max VE = Σ h log A, and every objective has its closed form."""
    m = models.tree(3, 4)
    mdp = FiniteMDP(*m.args)
    best = planning.max_visitation_entropy(mdp, 4)
    assert best.value == pytest.approx(10 * np.log(3), abs=1e-8)
    assert best.value == pytest.approx(10.986123, abs=5e-7)
    states = planning.max_visitation_entropy(mdp, 4, "VE_S")
    assert abs(states.value - 6 * np.log(3)) <= 1e-9 + states.certificate
    average = planning.max_visitation_entropy(mdp, 4, "AVE")  # levels are disjoint
    assert abs(average.value - (np.log(4) + 10 * np.log(3) / 4)) <= 1e-9 + average.certificate


def test_visitation_entropy_of_the_noisy_chain() -> None:
    """Test 9."""
    m = models.noisy_chain()
    mdp = FiniteMDP(*m.args)
    assert planning.max_visitation_entropy(mdp, 10).value == pytest.approx(25.143779, abs=1e-5)
    uniform = entropy.visitation(mdp, models.uniform_policy(10, 10, 3), 10)
    assert entropy.visitation_entropy(uniform) == pytest.approx(22.5019, abs=5e-5)


# ---------------------------------------------------------------- the table of §6.4

slow = pytest.mark.slow
TABLE = [  # environment, objective, optimum, tolerance: §9's, and for _S the digits printed
    ("double_chain", "VE", 53.7249578547, 1e-6),
    ("double_chain", "VE_S", 42.32244, 1.5e-5),
    ("double_chain", "AVE", 3.99353136, 1e-5),
    ("double_chain", "AVE_S", 3.426402, 1e-5),
    ("grid_world", "VE", 108.5401265520, 1e-6),
    pytest.param("grid_world", "VE_S", 84.6712, 1e-4, marks=slow),
    pytest.param("grid_world", "AVE", 7.05539, 1e-5, marks=slow),
    ("grid_world", "AVE_S", 5.867922, 1e-5),
]


@pytest.mark.parametrize(("name", "objective", "optimum", "tolerance"), TABLE)
def test_visitation_optima(name, objective, optimum, tolerance) -> None:
    """Test 18."""
    m = getattr(models, name)()
    best = planning.max_visitation_entropy(FiniteMDP(*m.args), 20, objective)
    check_result(m, best, 20, objective, 1e-8 if objective == "VE" else 1e-5)
    assert abs(best.value - optimum) <= tolerance
    if objective == "VE":  # the optimum is unique, so its other entropies are in the table too
        averaged, joint = {
            "double_chain": (3.760935, 18.342769),
            "grid_world": (6.747381, 29.558847),
        }[name]
        d = episodic.occupancy(m, best.pi)
        assert episodic.visitation_entropy(d, "AVE") == pytest.approx(averaged, abs=1e-4)
        te = entropy.trajectory_entropy(FiniteMDP(*m.args), best.pi, 20)
        assert te == pytest.approx(joint, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "final", "optimum"),
    [
        ("double_chain", False, 20.0395201056),
        ("double_chain", True, 20.3646030790),
        ("grid_world", False, 32.5409509257),
        ("grid_world", True, 32.7941954566),
    ],
)
def test_trajectory_optima(name, final, optimum) -> None:
    """Test 18; to the digits printed."""
    mdp = FiniteMDP(*getattr(models, name)().args)
    best = planning.max_trajectory_entropy(mdp, 20, final_transition=final)
    assert best.value == pytest.approx(optimum, abs=5e-10)
    achieved = entropy.trajectory_entropy(mdp, best.pi, 20, final_transition=final)
    assert achieved == pytest.approx(best.value, abs=1e-10)
