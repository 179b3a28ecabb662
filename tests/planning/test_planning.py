"""Dynamic programming on known models (spec §9: 4, 6-9, 12, 16, 21, 25) and discounted optima."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from rlentropy import FiniteMDP, entropy, planning

seeds = st.integers(0, 2**32 - 1)
H, S, A = 4, 5, 3


def problem(oracles, seed, **options):
    rng = np.random.default_rng(seed)
    m = oracles.random_mdp(rng, S, A, **options)
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
def test_backward_induction_is_bellmans_equation(oracles, seed, temperature) -> None:
    rng, m, mdp = problem(oracles, seed)
    r = rng.normal(size=(H, S, A))
    plan = planning.backward_induction(mdp, r, H, temperature)
    Q, V = oracles.plan(m, r, temperature)
    np.testing.assert_allclose(plan.Q, Q, atol=1e-12)
    np.testing.assert_allclose(plan.V, V, atol=1e-12)
    np.testing.assert_array_equal(plan.V[H], 0.0)
    np.testing.assert_allclose(plan.pi.sum(2), 1.0, atol=1e-14)
    achieved = policy_value(m, plan.pi, r, temperature)
    assert achieved == pytest.approx(m.mu @ plan.V[0], abs=1e-10)
    rivals = [policy_value(m, oracles.random_policy(rng, H, S, A), r, temperature)]
    assert max(rivals) <= achieved + 1e-12


def test_no_deterministic_policy_beats_the_hard_plan(oracles, rng) -> None:
    """All 4 096 stage-dependent policies of S = 3, A = 2, H = 4."""
    m = oracles.random_mdp(rng, 3, 2)
    r = rng.normal(size=(4, 3, 2))
    plan = planning.backward_induction(FiniteMDP(*m.args), r, 4)
    best = max(
        policy_value(m, np.eye(2)[np.reshape(choice, (4, 3))], r)
        for choice in itertools.product(range(2), repeat=12)
    )
    assert m.mu @ plan.V[0] == pytest.approx(best, abs=1e-12)


def test_a_stationary_reward_is_every_stages(oracles, rng) -> None:
    _, _, mdp = problem(oracles, 0)
    r = rng.normal(size=(S, A))
    for temperature in (0.0, 1.0):
        once = planning.backward_induction(mdp, r, H, temperature)
        staged = planning.backward_induction(mdp, np.tile(r, (H, 1, 1)), H, temperature)
        np.testing.assert_array_equal(once.Q, staged.Q)
        np.testing.assert_array_equal(once.pi, staged.pi)


def test_ties_are_shared_evenly(oracles) -> None:
    m = oracles.double_chain(5)
    plan = planning.backward_induction(FiniteMDP(*m.args), np.zeros((5, 2)), 6)
    np.testing.assert_array_equal(plan.pi, 0.5)
    r = np.zeros((S, A))
    r[:, 0] = r[:, 2] = 1.0
    _, _, mdp = problem(oracles, 3)
    shared = planning.backward_induction(mdp, r, 1).pi
    np.testing.assert_array_equal(shared, np.tile([0.5, 0.0, 0.5], (1, S, 1)))


def test_ties_that_rounding_breaks_are_ties(oracles, rng) -> None:
    """Left and right of the middle are equally good, but their sums round differently."""
    m = oracles.double_chain(31)
    r = rng.random(16)
    r = np.concatenate([r, r[-2::-1]])[:, None].repeat(2, 1)
    plan = planning.backward_induction(FiniteMDP(*m.args), r, 200)
    np.testing.assert_array_equal(plan.pi[:, 15], 0.5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("temperature", [1e-9, 1e9])
def test_extreme_temperatures(oracles, rng, temperature) -> None:
    _, m, mdp = problem(oracles, 5)
    r = 100 * rng.normal(size=(H, S, A))
    plan = planning.backward_induction(mdp, r, H, temperature)
    hard = oracles.plan(m, r)[1]
    if temperature < 1:
        np.testing.assert_allclose(plan.V, hard, rtol=1e-9)
    else:
        np.testing.assert_allclose(plan.pi, 1 / A, atol=1e-5)
    np.testing.assert_allclose(plan.pi.sum(2), 1.0, atol=1e-14)


def test_the_reward_is_not_changed(oracles, rng) -> None:
    _, _, mdp = problem(oracles, 0)
    r = rng.normal(size=(H, S, A))
    before = r.copy()
    planning.backward_induction(mdp, r, H, 1.0)
    np.testing.assert_array_equal(r, before)


def test_backward_induction_refusals(oracles) -> None:
    _, _, mdp = problem(oracles, 0)
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
        with pytest.raises(ValueError, match=f"horizon must be a whole number >= 1, got {horizon}"):
            planning.backward_induction(mdp, np.zeros((S, A)), horizon)


# ---------------------------------------------------------------- trajectory entropy


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_soft_plan_attains_the_maximum_trajectory_entropy(oracles, seed, final) -> None:
    """Test 4, by enumeration; and none of 2 000 random policies does better."""
    rng = np.random.default_rng(seed)
    m = oracles.random_mdp(rng, 3, 2)
    mdp = FiniteMDP(*m.args)
    best = planning.max_trajectory_entropy(mdp, 4, final_transition=final)
    assert 0.0 <= best.certificate <= 1e-11  # rounding
    achieved = oracles.shannon(oracles.trajectory_law(m, best.pi, final))
    assert abs(best.value - achieved) <= 1e-10
    for _ in range(2000):
        pi = rng.dirichlet(np.full(2, rng.choice([0.3, 1.0, 10.0])), size=(4, 3))
        assert oracles.shannon(oracles.trajectory_law(m, pi, final)) <= best.value + 1e-12


@given(seed=seeds, final=st.booleans())
def test_max_trajectory_entropy_is_the_soft_bellman_equation(oracles, seed, final) -> None:
    _, m, mdp = problem(oracles, seed)
    best = planning.max_trajectory_entropy(mdp, H, final_transition=final)
    Q, V = oracles.plan(m, oracles.trajectory_reward(m, H, final), 1.0)
    np.testing.assert_allclose(best.Q, Q, atol=1e-12)
    np.testing.assert_allclose(best.V, V, atol=1e-12)
    np.testing.assert_allclose(best.pi, oracles.softmax(Q), atol=1e-12)
    assert best.value == pytest.approx(oracles.shannon(m.mu) + m.mu @ V[0], abs=1e-11)


def test_deterministic_mdps_have_uniform_optima(oracles) -> None:
    """Test 6: H log A, whatever the successors are."""
    _, _, mdp = problem(oracles, 9, successors=1, start=2)
    best = planning.max_trajectory_entropy(mdp, H)
    assert best.value == pytest.approx(H * np.log(A), abs=1e-9)
    np.testing.assert_allclose(best.pi, 1 / A, atol=1e-9)


def test_the_tree(oracles) -> None:
    """Test 6: A = 3, H = 4 has 81 trajectories."""
    m = oracles.tree(3, 4)
    best = planning.max_trajectory_entropy(FiniteMDP(*m.args), 4)
    assert best.value == pytest.approx(np.log(81), abs=1e-9)
    assert best.value == pytest.approx(4.394449, abs=5e-7)
    np.testing.assert_allclose(best.pi, 1 / 3, atol=1e-9)


@pytest.mark.parametrize("K", [2, 5, 11])
def test_the_fan(oracles, K) -> None:
    """Test 7: 2 (K + 1) trajectories, all of which can be made equally likely."""
    m = oracles.fan(K)
    best = planning.max_trajectory_entropy(FiniteMDP(*m.args), 2)
    assert best.value == pytest.approx(np.log(2 * (K + 1)), abs=1e-9)
    assert best.pi[0, 0, 1] == pytest.approx(K / (K + 1), abs=1e-9)
    if K == 5:
        assert best.value == pytest.approx(2.484907, abs=5e-7)
        assert best.pi[0, 0, 1] == pytest.approx(0.833333, abs=5e-7)


@pytest.mark.parametrize("final", [False, True])
def test_constant_noise_makes_the_uniform_policy_optimal(oracles, final) -> None:
    """Test 8."""
    m = oracles.double_chain()
    best = planning.max_trajectory_entropy(FiniteMDP(*m.args), 20, final_transition=final)
    np.testing.assert_allclose(best.pi, 0.5, atol=1e-9)
    h = oracles.shannon([0.9, 0.1])
    assert best.value == pytest.approx(20 * np.log(2) + (20 if final else 19) * h, abs=1e-9)


def test_the_noisy_chain(oracles) -> None:
    """Test 9: the optimum seeks noise."""
    m = oracles.noisy_chain()
    mdp = FiniteMDP(*m.args)
    best = planning.max_trajectory_entropy(mdp, 10)
    assert best.value == pytest.approx(11.115425, abs=1e-5)
    uniform = entropy.trajectory_entropy(mdp, oracles.uniform_policy(10, 10, 3), 10)
    assert uniform == pytest.approx(11.019060, abs=1e-5)
    assert best.pi[0, 0, 1] > 0.34


@given(seed=seeds, scale=st.sampled_from([0.01, 0.3, 3.0]))
def test_errors_in_action_values_cost_their_square(oracles, seed, scale) -> None:
    """Test 12: V* - V^softmax(Q̂) <= ½ Σ E max_a (Q̂ - Q*)², with E over softmax(Q̂)."""
    rng, _, mdp = problem(oracles, seed, start=0)
    best = planning.max_trajectory_entropy(mdp, H)
    guess = best.Q + scale * rng.normal(size=best.Q.shape)
    pi = oracles.softmax(guess)
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
def test_the_dual_certificate_is_a_divergence(oracles, seed, temperature) -> None:
    """Test 16: g - VE_λ(d) = Σ KL(d_h^S ‖ q_h) >= 0 at any forecaster."""
    rng, m, mdp = problem(oracles, seed)
    q = forecast(2 * rng.normal(size=(H, S)))
    g, d = dual(mdp, m.mu, q, temperature)
    states = d.sum(2)
    divergence = np.where(states > 0, states * np.log(np.where(states > 0, states, 1) / q), 0).sum()
    value = entropy.visitation_entropy(d, "VE", temperature)
    assert divergence >= 0
    assert g - value == pytest.approx(divergence, abs=1e-11)
    bound = planning.visitation_entropy_bound(mdp, q, "VE", temperature)
    assert bound == pytest.approx(g, abs=1e-11)


def test_the_dual_gradient(oracles) -> None:
    """Test 16: ∇g = q - d^S, against central differences."""
    rng, m, mdp = problem(oracles, 8)
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
def test_every_forecaster_bounds_every_policy(oracles, seed) -> None:
    """§7.4, by its definition: the largest cross-entropy that a policy can pay against q."""
    rng, m, mdp = problem(oracles, seed)
    shapes = {"VE_S": (H, S), "AVE": (S, A), "AVE_S": (S,)}
    d = oracles.occupancy(m, oracles.random_policy(rng, H, S, A))
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
        assert bound == pytest.approx(m.mu @ oracles.plan(m, r)[1][0], abs=1e-11)
        assert oracles.visitation_entropy(d, objective) <= bound + 1e-12
    q = rng.dirichlet(np.ones(S), size=H)
    soft = planning.visitation_entropy_bound(mdp, q)
    assert oracles.visitation_entropy(d, "VE") <= soft + 1e-12


def test_the_true_marginals_certify_the_optimum(oracles) -> None:
    _, _, mdp = problem(oracles, 4)
    best = planning.max_visitation_entropy(mdp, H)
    q = entropy.visitation(mdp, best.pi, H).sum(2)
    q = (q + 1e-12) / (q + 1e-12).sum(1, keepdims=True)
    assert best.value - 1e-9 <= planning.visitation_entropy_bound(mdp, q) <= best.value + 1e-4


def test_a_forecaster_may_be_zero_where_nobody_goes(oracles) -> None:
    _, m, mdp = problem(oracles, 9, successors=1, start=2)
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


def test_bound_refusals(oracles) -> None:
    _, _, mdp = problem(oracles, 0)
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


def relabel(m, states, actions, oracles):
    """State i of the result is states[i] of m, and so on."""
    P = m.P[states][:, actions][:, :, states]
    return oracles.Dense(P, m.mu[states])


@pytest.mark.parametrize("objective", ["VE", "VE_S", "AVE", "AVE_S", "TE", "TE+"])
def test_labels_do_not_matter(oracles, objective) -> None:
    """Test 21; the policy too, where the optimum is unique."""
    rng, m, mdp = problem(oracles, 12)
    states, actions = rng.permutation(S), rng.permutation(A)
    other = FiniteMDP(*relabel(m, states, actions, oracles).args)

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


def test_a_duplicated_action(oracles) -> None:
    """Test 21: twice the weight in the log-sum-exp, and no new state distribution."""
    _, m, mdp = problem(oracles, 13, start=0)
    twin = oracles.Dense(np.concatenate([m.P, m.P[:, :1]], axis=1), m.mu)
    other = FiniteMDP(*twin.args)
    V = np.zeros((H + 1, S))
    for h in reversed(range(H)):
        Q = oracles.trajectory_reward(m, H)[h] + m.P @ V[h + 1]
        V[h] = np.log((np.exp(Q) * [2, 1, 1]).sum(1))
    assert planning.max_trajectory_entropy(other, H).value == pytest.approx(V[0, 0], abs=1e-9)
    one = planning.max_visitation_entropy(mdp, H, "VE_S")
    two = planning.max_visitation_entropy(other, H, "VE_S")
    assert abs(one.value - two.value) <= 1e-9 + one.certificate + two.certificate


def test_all_actions_doubled(oracles) -> None:
    _, m, mdp = problem(oracles, 14)
    other = FiniteMDP(*oracles.Dense(np.repeat(m.P, 2, axis=1), m.mu).args)
    gain = H * np.log(2)
    te = [planning.max_trajectory_entropy(x, H).value for x in (mdp, other)]
    assert te[1] - te[0] == pytest.approx(gain, abs=1e-9)
    ve = [planning.max_visitation_entropy(x, H).value for x in (mdp, other)]
    assert ve[1] - ve[0] == pytest.approx(gain, abs=1e-7)


# ---------------------------------------------------------------- edges


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("objective", ["VE", "VE_S", "AVE", "AVE_S"])
@pytest.mark.parametrize(("S", "A", "H"), [(1, 1, 1), (1, 3, 2), (3, 1, 2), (3, 2, 1)])
def test_no_nan_on_small_sizes(oracles, rng, S, A, H, objective) -> None:
    m = oracles.random_mdp(rng, S, A)
    mdp = FiniteMDP(*m.args)
    best = planning.max_visitation_entropy(mdp, H, objective)
    for final in (False, True):
        te = planning.max_trajectory_entropy(mdp, H, final_transition=final)
        assert np.isfinite(te.pi).all()
        assert np.isfinite(te.value)
    np.testing.assert_allclose(best.pi.sum(2), 1.0)
    assert 0 <= best.certificate <= 1e-5
    achieved = oracles.visitation_entropy(oracles.occupancy(m, best.pi), objective)
    assert best.value == pytest.approx(achieved, abs=1e-12)
    if objective == "VE" and H == 1:
        assert best.value == pytest.approx(oracles.shannon(m.mu) + np.log(A), abs=1e-8)
    if A == 1 and objective.startswith("VE"):
        d = oracles.occupancy(m, oracles.uniform_policy(H, S, 1))
        assert best.value == pytest.approx(oracles.visitation_entropy(d, objective), abs=1e-12)


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


def test_max_entropy_refusals(oracles) -> None:
    _, _, mdp = problem(oracles, 0)
    for solve in (planning.max_visitation_entropy, planning.max_trajectory_entropy):
        for horizon in (0, 1.5):
            with pytest.raises(ValueError, match="horizon must be a whole number >= 1"):
                solve(mdp, horizon)
    with pytest.raises(ValueError, match="objective must be one of VE, VE_S, AVE, AVE_S, got 've'"):
        planning.max_visitation_entropy(mdp, H, "ve")
    with pytest.raises(ValueError, match="temperature must be >= 0"):
        planning.max_visitation_entropy(mdp, H, temperature=-1.0)
    with pytest.raises(ValueError, match="tolerance must be > 0, got 0"):
        planning.max_visitation_entropy(mdp, H, tolerance=0.0)
    with pytest.raises(RuntimeError, match=r"certificate .* after .* tolerance is 1e-30"):
        planning.max_visitation_entropy(mdp, H, "AVE", tolerance=1e-30)


# ---------------------------------------------------------------- discounted optima


def policy_iteration(P, r, gamma):
    """Howard's algorithm with dense linear solves."""
    S = len(P)
    choice = np.zeros(S, int)
    for _ in range(1000):
        V = np.linalg.solve(np.eye(S) - gamma * P[np.arange(S), choice], r[np.arange(S), choice])
        Q = r + gamma * P @ V
        better = Q.max(1) > Q[np.arange(S), choice] + 1e-14 * (1 + np.abs(V).max())
        if not better.any():
            return V
        choice = np.where(better, Q.argmax(1), choice)
    raise AssertionError("policy iteration cycles")


def check_optimum(best, V, P, r, gamma, tolerance) -> None:
    S = len(P)
    rounding = (1e-12 + 1e-15 / (1 - gamma)) * (1 + np.abs(V).max())
    assert (best.lower <= V + rounding).all()
    assert (best.upper + rounding >= V).all()
    assert (best.lower <= best.V).all()
    assert (best.upper >= best.V).all()
    assert (best.upper - best.lower <= tolerance + rounding).all()
    np.testing.assert_allclose(best.Q, r + gamma * P @ V, rtol=0, atol=tolerance + rounding)
    np.testing.assert_allclose(best.pi.sum(1), 1.0)
    kernel, reward = np.einsum("sa,sat->st", best.pi, P), (best.pi * r).sum(1)
    achieved = np.linalg.solve(np.eye(S) - gamma * kernel, reward)
    assert (achieved >= best.lower - rounding).all()


@given(seed=seeds, gamma=st.sampled_from([0.0, 0.3, 0.9, 0.99]), scale=st.sampled_from([1e-3, 50]))
def test_optimum_is_policy_iterations(oracles, seed, gamma, scale) -> None:
    rng, m, _ = problem(oracles, seed)
    r = scale * rng.normal(size=(S, A))
    best = planning.optimum(FiniteMDP(m.P, r, m.mu), gamma)
    check_optimum(best, policy_iteration(m.P, r, gamma), m.P, r, gamma, 1e-8)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-5, 1e-9])
def test_optimum_is_the_linear_programs(oracles, rng, tolerance) -> None:
    """min Σ V subject to V >= r + γ P V."""
    m = oracles.random_mdp(rng, 30, 4, successors=3)
    r, gamma = rng.random((30, 4)), 0.95
    rows = (gamma * m.P - np.eye(30)[:, None, :]).reshape(120, 30)
    V = linprog(np.ones(30), rows, -r.ravel(), bounds=(None, None)).x
    best = planning.optimum(FiniteMDP(m.P, r, m.mu), gamma, tolerance)
    assert (np.abs(best.V - V) <= tolerance + 1e-7).all()
    check_optimum(best, policy_iteration(m.P, r, gamma), m.P, r, gamma, tolerance)


@pytest.mark.parametrize("gamma", [0.999, 0.9999])
@pytest.mark.parametrize("seed", range(4))
def test_optimum_at_a_discount_close_to_one(oracles, seed, gamma) -> None:
    """Some of these have several recurrent classes, whose values drift apart along the way."""
    rng = np.random.default_rng(seed)
    m = oracles.random_mdp(rng, 40, 2, successors=2)
    r = rng.random((40, 2))
    best = planning.optimum(FiniteMDP(m.P, r, m.mu), gamma, 1e-6, max_iterations=10_000)
    check_optimum(best, policy_iteration(m.P, r, gamma), m.P, r, gamma, 1e-6)


@given(seed=seeds)
def test_optimum_of_deterministic_mdps(oracles, seed) -> None:
    """Many recurrent classes at an everyday discount."""
    rng = np.random.default_rng(seed)
    m = oracles.random_mdp(rng, 20, 2, successors=1)
    r = rng.random((20, 2))
    best = planning.optimum(FiniteMDP(m.P, r, m.mu), 0.99, 1e-6, max_iterations=10_000)
    check_optimum(best, policy_iteration(m.P, r, 0.99), m.P, r, 0.99, 1e-6)


def test_optimum_of_two_islands() -> None:
    """Rewards 0 and 1 forever: V = 0 and 1 / (1 - γ), for any kernel inside the islands."""
    P = np.zeros((4, 1, 4))
    P[:2, 0, :2] = [[0.5, 0.5], [0.9, 0.1]]
    P[2:, 0, 2:] = [[0.0, 1.0], [1.0, 0.0]]
    r = np.array([[0.0], [0.0], [1.0], [1.0]])
    best = planning.optimum(FiniteMDP(P, r, np.full(4, 0.25)), 0.999)
    np.testing.assert_allclose(best.V, [0.0, 0.0, 1000.0, 1000.0], atol=1e-8)


def test_optimum_of_a_periodic_chain() -> None:
    """Two states that swap: plain bounds on differences converge, averages of V don't."""
    P = np.array([[[0.0, 1.0]], [[1.0, 0.0]]])
    best = planning.optimum(FiniteMDP(P, [[1.0], [0.0]], [1.0, 0.0]), 0.9)
    np.testing.assert_allclose(best.V, [1 / (1 - 0.81), 0.9 / (1 - 0.81)], atol=1e-8)


def test_optimum_with_a_terminal_state_and_sparse_rewards() -> None:
    """A corridor of 50 states with reward 1 on entering the end: V = γ^(48 - s)."""
    n, gamma = 50, 0.9
    s = np.arange(n)
    P = sp.coo_array((np.ones(n), (s, np.minimum(s + 1, n - 1))), shape=(n, n)).tocsr()
    reward = sp.coo_array(([1.0], ([n - 2], [n - 1])), shape=(n, n)).tocsr()
    mdp = FiniteMDP(P, reward, np.eye(n)[0], terminal=s == n - 1)
    best = planning.optimum(mdp, gamma)
    expected = np.append(gamma ** (n - 2 - s[:-1]), 0.0)
    np.testing.assert_allclose(best.V, expected, atol=1e-8)


def test_optimum_refusals(oracles) -> None:
    _, m, mdp = problem(oracles, 0)
    for gamma in (-0.1, 1.0, np.nan):
        with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\)"):
            planning.optimum(mdp, gamma)
    for tolerance in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="tolerance must be > 0"):
            planning.optimum(mdp, 0.9, tolerance)
    r = np.arange(15.0).reshape(5, 3)
    with pytest.raises(
        RuntimeError, match=r"apart after 1 applications of T, tolerance is 1e-08: raise"
    ):
        planning.optimum(FiniteMDP(m.P, r, m.mu), 0.99, max_iterations=1)
