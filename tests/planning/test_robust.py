"""Robust planning against the definitions of robust §8.2 and its golden tables, §8.3 and §8.4."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracles import discounted
from scipy.optimize import minimize_scalar

from rlentropy import FiniteMDP
from rlentropy.envs.ring import RingEnv
from rlentropy.envs.river_swim import RiverSwimEnv
from rlentropy.planning import robust_evaluation, robust_optimum, robust_policy_gradient
from rlentropy.risk import (
    Chi2Penalty,
    Contamination,
    CVaR,
    Entropic,
    KLBall,
    L1Penalty,
    LinfBall,
    MeanCVaR,
    Nominal,
    SRectangular,
    TVBall,
    WassersteinPenalty,
    WorstCase,
)

GAMMA = 0.9


# ------------------------------------------------------------------- random models, dense oracles


class Model:
    """P (S, A, S) with zeros, ties and deterministic rows; r (S, A, S); the last state may end."""

    def __init__(self, rng, S=4, A=3, successor_rewards=True, ends=True, tied=False):
        P = rng.dirichlet(np.full(S, 0.8), size=(S, A)) * (rng.random((S, A, S)) < 0.8)
        P = np.ceil(4.0 * P) / 4.0 if tied else P
        P[..., 0] += P.sum(2) == 0.0
        P[0, 0] = np.eye(S)[S - 1]
        self.P = P / P.sum(2, keepdims=True)
        r = rng.choice([0.0, 0.5, 1.0], (S, A, S)) if tied else rng.normal(size=(S, A, S))
        self.r = r if successor_rewards else np.repeat(r[:, :, :1], S, axis=2)
        self.terminal = np.zeros(S, bool)
        if ends:
            self.P[-1], self.r[-1], self.terminal[-1] = np.eye(S)[-1], 0.0, True
        self.mu = rng.dirichlet(np.ones(S))
        self.by_state = not successor_rewards

    @property
    def mdp(self) -> FiniteMDP:
        r = self.r[:, :, 0] if self.by_state else self.r
        return FiniteMDP(self.P, r, self.mu, terminal=self.terminal)

    def policy(self, rng):
        return rng.dirichlet(np.full(self.P.shape[1], 0.7), size=len(self.P))


def entropic_backup(m, V, beta):
    """min_q E_q z + (γ/β) KL = -(γ/β) log E exp(-(β/γ) z), z = r + γ V (§1.3), (S, A)."""
    return discounted.entropic(beta / GAMMA)(m.P, m.r + GAMMA * V)


def fixed_point(backup, S, pi=None):
    """By value iteration, each sweep moved to the middle of MacQueen's bounds."""
    V = np.zeros(S)
    for _ in range(int(np.log(1e-14) / np.log(GAMMA))):
        Q = backup(V)
        change = (Q.max(1) if pi is None else (pi * Q).sum(1)) - V
        V = V + change + GAMMA / (1.0 - GAMMA) * 0.5 * (change.min() + change.max())
        if np.abs(change).max() < 1e-15:
            break
    return V


def divergence(measure, q, p):
    """D(q, p) from the definitions, (S, A); 0 for sets, after checking that q is inside."""
    assert not q[p == 0.0].any()
    ratio = np.where(p > 0.0, q / np.where(p > 0.0, p, 1.0), 1.0)
    kl = (q * np.log(np.where(q > 0.0, ratio, 1.0))).sum(-1)
    if isinstance(measure, Entropic):
        return kl / measure.risk_aversion
    if isinstance(measure, Chi2Penalty):
        return measure.weight * (p * (ratio - 1.0) ** 2).sum(-1)
    if isinstance(measure, L1Penalty):
        return measure.weight * np.abs(q - p).sum(-1)
    if isinstance(measure, MeanCVaR):
        assert (ratio <= 1.0 / measure.level + 1e-9).all()
    elif isinstance(measure, KLBall):
        assert (kl <= measure.radius + 1e-6).all()  # to second order in the value
    else:
        assert isinstance(measure, TVBall)
        assert (np.abs(q - p).sum(-1) <= 2.0 * measure.radius + 1e-9).all()
    return np.zeros(p.shape[:-1])


def value_in(P, reward, pi):
    """Value of a policy in a fixed kernel, (S,), by a linear solve; reward (S, A)."""
    chain = (pi[:, :, None] * P).sum(1)
    return np.linalg.solve(np.eye(len(P)) - GAMMA * chain, (pi * reward).sum(1))


MEASURES = [
    Entropic(0.3),
    Entropic(5.0),
    Chi2Penalty(0.5),
    L1Penalty(0.3),
    CVaR(0.4),
    KLBall(0.2),
    TVBall(0.15),
]
every_measure = pytest.mark.parametrize("measure", MEASURES, ids=repr)
seeds = st.integers(0, 2**32 - 1)


# ------------------------------------------------------------------------------- 8.2 (1), (2)


@pytest.mark.parametrize("measure", [Entropic(0.7), Chi2Penalty(0.8)], ids=repr)
@pytest.mark.parametrize("tied", [False, True])
def test_value_is_the_least_penalised_return_over_kernels(rng, measure, tied) -> None:
    """8.2 (1): nature descends on softmax-parametrised kernels from several starts."""
    torch = pytest.importorskip("torch")
    m = Model(rng, S=3, A=2, tied=tied)
    pi, on = m.policy(rng), torch.tensor(m.P > 0.0)
    P, r, weights = (torch.tensor(a) for a in (m.P, m.r, pi))
    safe = torch.where(on, P, 1.0)

    def penalised(logits):
        q = torch.softmax(torch.where(on, logits, -torch.inf), 2)
        ratio = torch.where(on, q / safe, 1.0)
        if isinstance(measure, Entropic):
            D = (q * torch.log(torch.where(on, ratio, 1.0))).sum(2) / measure.risk_aversion
        else:
            D = measure.weight * (P * (ratio - 1.0) ** 2).sum(2)
        D[m.terminal] = 0.0
        gain = (weights * ((q * r).sum(2) + GAMMA * D)).sum(1)
        chain = (weights[:, :, None] * q).sum(1)
        return torch.linalg.solve(torch.eye(len(P), dtype=P.dtype) - GAMMA * chain, gain)

    found = []
    for _ in range(3):
        logits = torch.tensor(rng.normal(size=m.P.shape), requires_grad=True)
        descent = torch.optim.LBFGS(
            [logits],
            max_iter=200,
            tolerance_grad=1e-12,
            tolerance_change=1e-15,
            line_search_fn="strong_wolfe",
        )

        def closure(logits=logits, descent=descent):
            descent.zero_grad()
            loss = penalised(logits).sum()
            loss.backward()
            return loss

        descent.step(closure)
        found.append(penalised(logits).detach().numpy())
    value = robust_evaluation(m.mdp, pi, measure, GAMMA, 1e-10)
    np.testing.assert_allclose(value.V, np.min(found, axis=0), rtol=0, atol=1e-6)


@every_measure
@given(seed=seeds, tied=st.booleans(), successor_rewards=st.booleans())
@settings(max_examples=6)
def test_worst_kernel_reproduces_the_value(measure, seed, tied, successor_rewards) -> None:
    """8.2 (2): a linear solve in q* with reward r + γ D; and no other kernel gives less."""
    rng = np.random.default_rng(seed)
    m = Model(rng, tied=tied, successor_rewards=successor_rewards)
    pi = m.policy(rng)
    value = robust_evaluation(m.mdp, pi, measure, GAMMA, 1e-10)
    q = value.kernel().toarray().reshape(m.P.shape)
    np.testing.assert_allclose(q.sum(2), 1.0, rtol=0, atol=1e-12)
    D = divergence(measure, q, m.P)
    again = value_in(q, (q * m.r).sum(2) + GAMMA * D, pi)
    np.testing.assert_allclose(again, value.V, rtol=0, atol=1e-7)
    np.testing.assert_allclose((pi * value.Q).sum(1), value.V, rtol=0, atol=1e-9)
    assert (value.upper - value.lower <= 1e-10).all()
    assert ((value.lower <= value.V) & (value.V <= value.upper)).all()
    nominal = value_in(m.P, (m.P * m.r).sum(2), pi)
    assert (value.V <= nominal + 1e-9).all()


# --------------------------------------------------------------------------------- 8.2 (3), (4)


@given(seed=seeds, beta=st.sampled_from([0.1, 1.0, 4.0]), successor_rewards=st.booleans())
@settings(max_examples=10)
def test_gradient_against_finite_differences(seed, beta, successor_rewards) -> None:
    """8.2 (3): along directions that sum to zero in each state, V by a fixed point of its own."""
    rng = np.random.default_rng(seed)
    m = Model(rng, successor_rewards=successor_rewards)
    pi = 0.8 * m.policy(rng) + 0.2 / 3.0
    gradient = robust_policy_gradient(m.mdp, pi, Entropic(beta), GAMMA, 1e-11)
    direction = rng.normal(size=pi.shape)
    direction -= direction.mean(1, keepdims=True)
    h = 1e-5

    def J(pi):
        return m.mu @ fixed_point(lambda V: entropic_backup(m, V, beta), len(m.P), pi)

    slope = (J(pi + h * direction) - J(pi - h * direction)) / (2.0 * h)
    assert (gradient * direction).sum() == pytest.approx(slope, rel=1e-6, abs=1e-7)


def test_gradient_is_autograd_through_the_fixed_point(rng) -> None:
    torch = pytest.importorskip("torch")
    for kind in ("entropic", "chi2"):
        m = Model(rng, ends=False)
        P, r = torch.tensor(m.P), torch.tensor(m.r)
        pi = torch.tensor(m.policy(rng), requires_grad=True)
        V = torch.zeros(len(P), dtype=P.dtype)
        beta, kappa = 0.8, 50.0  # the χ² worst case is then nowhere cut off at 0
        for _ in range(330):
            z = r + GAMMA * V
            if kind == "entropic":
                Q = -GAMMA / beta * torch.logsumexp(torch.log(P) - beta / GAMMA * z, 2)
            else:
                mean = (P * z).sum(2)
                variance = (P * (z - mean[:, :, None]) ** 2).sum(2)
                Q = mean - variance / (4.0 * GAMMA * kappa)
            V = (pi * Q).sum(1)
        (torch.tensor(m.mu) @ V).backward()
        measure = Entropic(beta) if kind == "entropic" else Chi2Penalty(kappa)
        gradient = robust_policy_gradient(m.mdp, pi.detach().numpy(), measure, GAMMA, 1e-11)
        np.testing.assert_allclose(gradient, pi.grad.numpy(), rtol=1e-7, atol=1e-9)


@every_measure
@given(seed=seeds)
@settings(max_examples=6)
def test_gradient_domination(measure, seed) -> None:
    """8.2 (4), (3.2): the gap is at most the mismatch times the best first-order gain."""
    rng = np.random.default_rng(seed)
    m = Model(rng, ends=False)
    pi = m.policy(rng)
    best = robust_optimum(m.mdp, measure, GAMMA, 1e-9)
    value = robust_evaluation(m.mdp, pi, measure, GAMMA, 1e-9)
    gradient = robust_policy_gradient(m.mdp, pi, measure, GAMMA)
    q = value.kernel().toarray().reshape(m.P.shape)

    gap = m.mu @ (best.V - value.V)
    d_best, d = (discounted.occupancy(q, m.mu, each, GAMMA) for each in (best.pi, pi))
    mismatch = (d_best / d).max()
    gain = (gradient.max(1) - (pi * gradient).sum(1)).sum()
    assert -1e-8 <= gap <= mismatch * gain + 1e-8


def project_simplex(x):
    """Rows of x to the nearest distributions, by bisection on the shift."""
    low, high = x.min(1, keepdims=True) - 1.0, x.max(1, keepdims=True)
    for _ in range(200):
        middle = 0.5 * (low + high)
        over = np.maximum(x - middle, 0.0).sum(1, keepdims=True) > 1.0
        low, high = np.where(over, middle, low), np.where(over, high, middle)
    pi = np.maximum(x - low, 0.0)
    return pi / pi.sum(1, keepdims=True)


@pytest.mark.parametrize("step", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("measure", [Entropic(1.0), TVBall(0.1), CVaR(0.5)], ids=repr)
def test_gradient_steps_of_any_size_improve_every_state(rng, measure, step) -> None:
    """8.2 (4): projected and natural gradient; the largest step reaches the optimum."""
    m = Model(rng)
    best = robust_optimum(m.mdp, measure, GAMMA, 1e-9).V
    for natural in (False, True):
        pi = np.full((4, 3), 1.0 / 3.0)
        V = robust_evaluation(m.mdp, pi, measure, GAMMA, 1e-9).V
        for _ in range(12):
            if natural:
                Q = robust_evaluation(m.mdp, pi, measure, GAMMA, 1e-9).Q
                pi = pi * np.exp(step / (1.0 - GAMMA) * (Q - Q.max(1, keepdims=True)))
                pi = pi + 1e-12
                pi /= pi.sum(1, keepdims=True)
            else:
                pi = project_simplex(pi + step * robust_policy_gradient(m.mdp, pi, measure, GAMMA))
            after = robust_evaluation(m.mdp, pi, measure, GAMMA, 1e-9).V
            assert (after >= V - 1e-7).all()
            V = after
        assert (V <= best + 1e-7).all()
        if step == 1e3:
            np.testing.assert_allclose(V, best, rtol=0, atol=1e-6)


# ------------------------------------------------------------------------------- 8.2 (5), (6), (7)


@example(seed=4155, tied=False)  # probabilities so small that β = 1000 is not yet the worst case
@given(seed=seeds, tied=st.booleans())
def test_optimum_falls_with_risk_aversion(seed, tied) -> None:
    """8.2 (5): from the nominal one to the worst case on the support."""
    rng = np.random.default_rng(seed)
    m = Model(rng, tied=tied)
    betas = [1e-3, 0.1, 1.0, 10.0, 1e3]
    values = [robust_optimum(m.mdp, Entropic(b), GAMMA, 1e-8).V for b in betas]
    nominal = fixed_point(lambda V: (m.P * (m.r + GAMMA * V)).sum(2), 4)
    worst = fixed_point(lambda V: np.where(m.P > 0, m.r + GAMMA * V, np.inf).min(2), 4)
    np.testing.assert_allclose(
        robust_optimum(m.mdp, Nominal(), GAMMA, 1e-8).V, nominal, rtol=0, atol=1e-7
    )
    np.testing.assert_allclose(
        robust_optimum(m.mdp, WorstCase(), GAMMA, 1e-8).V, worst, rtol=0, atol=1e-7
    )
    for above, below in zip([nominal, *values], [*values, worst], strict=True):
        assert (above >= below - 1e-7).all()
    # A step loses at most γ β span² / 8 (Hoeffding); γ log(1 / p) / β is left to the worst.
    span, steps = np.ptp(nominal) + np.ptp(m.r) / GAMMA, 1.0 / (1.0 - GAMMA)
    lost, short = betas[0] * span**2 / 8.0, -np.log(m.P[m.P > 0].min()) / betas[-1]
    np.testing.assert_allclose(values[0], nominal, rtol=0, atol=steps * GAMMA * lost + 1e-7)
    np.testing.assert_allclose(values[-1], worst, rtol=0, atol=steps * GAMMA * short + 1e-7)


@every_measure
@given(seed=seeds)
@settings(max_examples=6)
def test_larger_rewards_and_other_labels(measure, seed) -> None:
    """8.2 (5): r <= r' gives V <= V', and renaming states renames values."""
    rng = np.random.default_rng(seed)
    m = Model(rng)
    V = robust_optimum(m.mdp, measure, GAMMA, 1e-9).V
    order = rng.permutation(4)
    P, r = m.P[order][:, :, order], m.r[order][:, :, order]
    renamed = FiniteMDP(P, r, m.mu[order], terminal=m.terminal[order])
    other = robust_optimum(renamed, measure, GAMMA, 1e-9).V
    np.testing.assert_allclose(other, V[order], rtol=0, atol=1e-8)
    m.r[:-1] += rng.random(m.r[:-1].shape)
    assert (robust_optimum(m.mdp, measure, GAMMA, 1e-9).V >= V - 1e-8).all()


@every_measure
@given(seed=seeds)
@settings(max_examples=6)
def test_markov_risk_is_no_more_than_the_papers(measure, seed) -> None:
    """8.2 (6): less for randomised policies, the same for deterministic ones."""
    rng = np.random.default_rng(seed)
    m = Model(rng, successor_rewards=False)
    pi = m.policy(rng)
    ours = robust_evaluation(m.mdp, pi, measure, GAMMA, 1e-9).V
    markov = robust_evaluation(m.mdp, pi, measure, GAMMA, 1e-9, markov_risk=True).V
    assert (markov <= ours + 1e-8).all()
    if isinstance(measure, Entropic):

        def joint(V):
            mixed = (pi[:, :, None] * m.P).sum(1)
            weight = mixed @ np.exp(-measure.risk_aversion * V)
            risk = -np.log(weight) / measure.risk_aversion
            return ((pi * m.r[:, :, 0]).sum(1) + GAMMA * risk)[:, None]

        np.testing.assert_allclose(markov, fixed_point(joint, 4), rtol=0, atol=1e-8)
    sure = np.eye(3)[rng.integers(3, size=4)]
    pair = [
        robust_evaluation(m.mdp, sure, measure, GAMMA, 1e-9, markov_risk=flag).V
        for flag in (False, True)
    ]
    np.testing.assert_allclose(*pair, rtol=0, atol=1e-8)


@pytest.mark.parametrize("method", ["newton", "policy-iteration", "value-iteration"])
@given(seed=seeds, beta=st.sampled_from([0.1, 1.0, 20.0]), tied=st.booleans())
def test_bounds_hold_the_optimum_at_every_tolerance(method, seed, beta, tied) -> None:
    """8.2 (7): loose tolerances stop early, where the bounds still are wide."""
    rng = np.random.default_rng(seed)
    m = Model(rng, tied=tied)
    exact = fixed_point(lambda V: entropic_backup(m, V, beta), 4)
    for tolerance in (100.0, 3.0, 0.1, 1e-3, 1e-8):
        found = robust_optimum(m.mdp, Entropic(beta), GAMMA, tolerance, method=method)
        assert (found.lower <= exact + 1e-11).all()
        assert (exact <= found.upper + 1e-11).all()
        assert (found.upper - found.lower <= tolerance).all()
        achieved = fixed_point(lambda V: entropic_backup(m, V, beta), 4, found.pi)
        assert (achieved >= exact - tolerance - 1e-11).all()


@every_measure
@given(seed=seeds, tied=st.booleans())
@settings(max_examples=4)
def test_bounds_of_every_measure_hold_its_fixed_point(measure, seed, tied) -> None:
    """8.2 (7): planning's sweeps against the measure's own W, which test_risk.py tests."""
    rng = np.random.default_rng(seed)
    m = Model(rng, successor_rewards=False, ends=False, tied=tied)
    pi = m.policy(rng)

    def backup(V):
        return m.r[:, :, 0] + GAMMA * measure.expectation(m.P, V)

    best, exact = fixed_point(backup, 4), fixed_point(backup, 4, pi)
    for tolerance in (30.0, 1.0, 0.01, 1e-8):
        found = robust_optimum(m.mdp, measure, GAMMA, tolerance)
        assert (found.lower <= best + 1e-9).all()
        assert (best <= found.upper + 1e-9).all()
        found = robust_evaluation(m.mdp, pi, measure, GAMMA, tolerance)
        assert (found.lower <= exact + 1e-9).all()
        assert (exact <= found.upper + 1e-9).all()
    np.testing.assert_allclose(found.Q, backup(found.V), rtol=0, atol=1e-8)


# -------------------------------------------------------------------------------- 8.2 (10), (12)


@given(seed=seeds, b=st.sampled_from([0.05, 0.5, 3.0]))
def test_nested_convention_is_gamma_times_the_level(seed, b) -> None:
    """8.2 (10): V = -(1/b) log E exp(-b (r + γ V)) is the paper's model with β = γ b."""
    rng = np.random.default_rng(seed)
    m = Model(rng)

    def nested(V):
        return -np.log((m.P * np.exp(-b * (m.r + GAMMA * V))).sum(2)) / b

    found = robust_optimum(m.mdp, Entropic(GAMMA * b), GAMMA, 1e-9).V
    np.testing.assert_allclose(found, fixed_point(nested, 4), rtol=0, atol=1e-8)


@pytest.mark.parametrize("radius", [0.01, 0.1, 0.3])
def test_ball_is_the_penalty_at_its_best_multiplier(rng, radius) -> None:
    """8.2 (12): max over β of W_β - δ/β, one β for each (s, a), solved as a soft problem."""
    m = Model(rng, S=5, A=2, successor_rewards=False, ends=False)
    found = robust_optimum(m.mdp, KLBall(radius), GAMMA, 1e-10)

    def soft(p, V, beta):
        low = V[p > 0.0].min()
        return low - np.log(p[p > 0.0] @ np.exp(-beta * (V[p > 0.0] - low))) / beta

    beta = np.empty((5, 2))
    for s, a in np.ndindex(beta.shape):

        def dual(log_beta, p=m.P[s, a]):
            return -(soft(p, found.V, np.exp(log_beta)) - radius / np.exp(log_beta))

        best = minimize_scalar(dual, bounds=(-6.0, 14.0), method="bounded", options={"xatol": 1e-9})
        beta[s, a] = np.exp(best.x)

    def backup(V):
        W = np.empty(beta.shape)
        for s, a in np.ndindex(W.shape):
            W[s, a] = soft(m.P[s, a], V, beta[s, a]) - radius / beta[s, a]
        return m.r[:, :, 0] + GAMMA * W

    np.testing.assert_allclose(fixed_point(backup, 5), found.V, rtol=0, atol=1e-5)


# ---------------------------------------------------------------------------------- golden tables

RIGHT = [1] * 6
LINE = np.abs(np.arange(6)[:, None] - np.arange(6)).astype(float)
RIVER = [
    (Nominal(), 3.525922598, 2.045977155, RIGHT),
    (Entropic(0.1), 3.281329609, 1.867298931, RIGHT),
    (Entropic(1.0), 1.797952795, 0.890667867, RIGHT),
    (WorstCase(), 0.254969370, 0.1, [0, 0, 0, 0, 0, 1]),
    (Chi2Penalty(1.0), 2.429277220, 1.286528233, RIGHT),
    (L1Penalty(0.5, support="full"), 1.112258707, 0.575919118, RIGHT),
    (L1Penalty(0.5), 1.906504586, 1.046756641, RIGHT),
    (CVaR(0.9), 2.119574385, 0.947673638, RIGHT),
    (CVaR(0.5), 0.254969370, 0.1, [0, 0, 0, 0, 0, 1]),
    (KLBall(0.05), 1.106196714, 0.300688184, RIGHT),
    (TVBall(0.1), 1.191012575, 0.361023478, RIGHT),
    (LinfBall(0.1), 1.191012575, 0.361023478, RIGHT),
    (LinfBall(0.1, support="full"), 0.535513918, 0.1, [0, 1, 1, 1, 1, 1]),
    (WassersteinPenalty(2.0, LINE), 3.525922598, 2.045977155, RIGHT),
    (Contamination(0.1), 1.363893140, 0.568481647, RIGHT),
    (SRectangular(0.1, "l1", "full"), 1.6632510, None, RIGHT),
    (SRectangular(0.2, "l1", "full"), 0.8203345, None, RIGHT),
]


@pytest.mark.parametrize(("measure", "mean", "first", "policy"), RIVER)
@pytest.mark.parametrize("method", ["newton", "policy-iteration", "value-iteration"])
def test_golden_river(measure, mean, first, policy, method) -> None:
    """Robust §8.3, to the digits given."""
    found = robust_optimum(RiverSwimEnv().mdp, measure, 0.95, 1e-10, method=method)
    assert found.V.mean() == pytest.approx(mean, abs=1.01e-7 if first is None else 1.01e-9)
    assert first is None or found.V[0] == pytest.approx(first, abs=1.01e-9)
    np.testing.assert_array_equal(found.pi.argmax(1), policy)


RING = {
    (0.01, 0.0): (71.55682471, "00222222100000"),
    (0.01, 0.01): (71.16011760, "00222222100000"),
    (0.01, 0.1): (65.24502456, "00222222100000"),
    (0.01, 1.0): (-0.78146507, "22210000122222"),
    (0.01, 2.0): (-18.83821789, "00210000122210"),
    (0.01, 3.0): (-24.77020559, "00010000122210"),
    (0.01, 10.0): (-39.81725974, None),
    (0.15, 0.0): (16.91444142, "22210000122212"),
    (0.15, 0.01): (16.69727730, "22210000122212"),
    (0.15, 0.1): (14.66570561, "22210000122210"),
    (0.15, 1.0): (-24.58112602, "00000000122210"),
    (0.15, 2.0): (-33.34292193, None),
    (0.15, 3.0): (-37.50450869, None),
    (0.15, 10.0): (-44.90551375, None),
}


@pytest.mark.parametrize(("noise", "beta"), RING)
def test_golden_ring(noise, beta) -> None:
    """Robust §8.4, first table and policies."""
    mean, policy = RING[noise, beta]
    found = robust_optimum(RingEnv(p=noise).mdp, Entropic(beta), 0.95, 1e-9)
    assert found.V.mean() == pytest.approx(mean, abs=1.01e-8)
    if policy is not None:
        assert "".join(map(str, found.pi.argmax(1))) == policy


GRADIENT = [  # p, β, gaps after 0, 5, 10, 25 iterations at η = 0.1, iterations to 1e-6 at 0.1, 10
    (0.01, 0.1, (85.470, 26.958, 17.587, 0.6106), 226, 6),
    (0.01, 1.0, (115.119, 15.193, 0.5098, 0.0829), 67, 6),
    (0.01, 2.0, (125.540, 10.669, 1.3229, 0.2149), 76, 6),
    (0.01, 3.0, (129.135, 8.332, 0.7995, 0.2745), 192, 6),
    (0.15, 0.01, (36.960, 1.1595, 0.8624, 0.5871), 114, 5),
    (0.15, 0.1, (55.679, 0.8066, 0.3022, 0.1576), 109, 5),
    (0.15, 1.0, (125.091, 6.858, 0.2730, 0.1755), 233, 9),
]


@pytest.mark.parametrize(("noise", "beta", "gaps", "slow", "quick"), GRADIENT)
def test_golden_projected_gradient(noise, beta, gaps, slow, quick) -> None:
    """§8.4, table of gradients, by `robust_policy_gradient` and a projection of the test's own."""
    mdp, measure = RingEnv(p=noise).mdp, Entropic(beta)
    best = robust_optimum(mdp, measure, 0.95, 1e-9).V.mean()

    def descend(step):
        pi, seen = np.full((14, 3), 1.0 / 3.0), []
        while True:
            seen.append(best - robust_evaluation(mdp, pi, measure, 0.95, 1e-9).V.mean())
            if seen[-1] < 1e-6:
                return seen
            pi = project_simplex(pi + step * robust_policy_gradient(mdp, pi, measure, 0.95, 1e-9))

    seen = descend(0.1)
    assert len(seen) - 1 == slow
    for iteration, gap in zip((0, 5, 10, 25), gaps, strict=True):
        digits = 1e-3 if gap > 1.7 else 1e-4
        assert seen[iteration] == pytest.approx(gap, abs=0.51 * digits)
    assert len(descend(10.0)) - 1 == quick


KL_BALLS = {  # p: δ, then the value of the optimal policy of each β (0 first)
    0.01: (
        (0.0, 1.0, 2.0, 3.0),
        [
            (0.0, 71.55, 34.08, 28.11, 25.48),
            (0.1, 48.71, 27.04, 22.55, 17.82),
            (0.3, 25.65, 21.44, 18.53, 14.14),
            (0.4, 16.18, 19.24, 16.98, 12.95),
            (0.6, -0.92, 15.35, 14.25, 11.00),
        ],
    ),
    0.15: (
        (0.0, 0.1, 1.0),
        [
            (0.0, 16.91, 16.48, 12.48),
            (0.05, 8.62, 9.90, 9.27),
            (0.1, 5.05, 7.07, 7.84),
            (0.2, 0.01, 2.96, 5.67),
            (0.3, -3.89, -0.27, 3.89),
        ],
    ),
}


@pytest.mark.parametrize("noise", KL_BALLS)
def test_golden_robust_evaluation(noise) -> None:
    """Robust §8.4, KL balls: a horizon of 200 leaves 0.95^200 = 4e-5 of the values' size."""
    mdp = RingEnv(p=noise).mdp
    betas, table = KL_BALLS[noise]
    policies = [robust_optimum(mdp, Entropic(beta), 0.95, 1e-9).pi for beta in betas]
    for radius, *values in table:
        found = [robust_evaluation(mdp, pi, KLBall(radius), 0.95, 1e-7).V.mean() for pi in policies]
        np.testing.assert_allclose(found, values, rtol=0, atol=0.0125)
