"""Robust actor-critic: its estimator against exactly solved MDPs, its parts, its runs."""

import json
import math

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from scipy.special import logsumexp, softmax

from rlentropy import FiniteMDP, cli, planning, risk
from rlentropy.envs.tabular import TabularEnv
from rlentropy.errors import InputError
from rlentropy.log import Log
from rlentropy.neural.rollouts import Batch, Copies, next_values
from rlentropy.neural.spaces import Categorical, Encoder, Gaussian, Moments, forward, layers_of
from rlentropy.robust.actor_critic import (
    ActorCritic,
    Config,
    advantages,
    linex_gradient,
    linex_loss,
    load_policy,
    occupancy_weights,
    run,
    self_normalised,
    transition_weights,
)
from rlentropy.runs.policies import load

SMALL = {"num_envs": 2, "rollout_steps": 16, "epochs": 2, "minibatches": 2, "final_episodes": 3}
SMALL |= {"hidden": (8,), "evaluation_episodes": 2}


# ---------------------------------------------------------------- the gradient, exactly

GAMMA, S, A = 0.7, 4, 3


def random_problem(seed):
    """P (S, A, S) with zeros, rewards of transitions, mu; the last state is terminal."""
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.full(S, 0.6), size=(S, A))
    P[rng.random(P.shape) < 0.2] = 0.0
    P[..., 0] += 0.05
    P /= P.sum(-1, keepdims=True)
    mu = rng.dirichlet(np.ones(S))
    mu[-1] = 0.0
    return P, rng.normal(size=(S, A, S)), mu / mu.sum()


def solved(P, R, pi, beta):
    """Fixed point V of the entropic evaluation by plain iteration, and Q (S, A)."""
    V, b, live = np.zeros(S), beta / GAMMA, np.arange(S) < S - 1
    for _ in range(300):
        z = R + GAMMA * V
        Q = -logsumexp(-b * z, axis=-1, b=P) / b if b > 0.0 else (P * z).sum(-1)
        V = live * (pi * Q).sum(-1)
    return V, Q


def exact_gradient(P, R, mu, theta, beta, h=1e-5):
    """Central differences of mu · V in the logits of a softmax policy."""
    found = np.zeros((S, A))
    for s, a in np.ndindex(S, A):
        up, down = theta.copy(), theta.copy()
        up[s, a] += h
        down[s, a] -= h
        values = [mu @ solved(P, R, softmax(t, axis=1), beta)[0] for t in (up, down)]
        found[s, a] = (values[0] - values[1]) / (2 * h)
    return found


def sampled_gradients(P, R, mu, theta, beta, gae_lambda, trace_decay, rng, T=25, N=20_000):
    """The estimate of each of N episodes, (N, S, A), with the exact critics."""
    pi, b = softmax(theta, axis=1), beta / GAMMA
    V, Q = solved(P, R, pi, beta)
    states, actions = np.empty((T + 1, N), int), np.empty((T, N), int)
    rewards, ended = np.empty((T, N)), np.zeros((T, N), bool)
    states[0] = rng.choice(S, N, p=mu)
    for t in range(T):
        actions[t] = (rng.random(N)[:, None] > pi.cumsum(1)[states[t]][:, :-1]).sum(1)
        rows = P[states[t], actions[t]].cumsum(1)
        states[t + 1] = (rng.random(N)[:, None] > rows[:, :-1]).sum(1)
        rewards[t] = R[states[t], actions[t], states[t + 1]]
        ended[t] = states[t + 1] == S - 1
    alive = np.vstack([np.ones((1, N), bool), ~np.logical_or.accumulate(ended)[:-1]])
    surprise = rewards + GAMMA * V[states[1:]] - V[states[:-1]]
    certainty = Q[states[:-1], actions] - V[states[:-1]]
    log_w, errors = transition_weights(surprise, certainty, b)
    found = advantages(errors, log_w, ended, GAMMA, gae_lambda)
    log_rho, _ = occupancy_weights(log_w, ended, np.zeros(N), trace_decay)
    weight = GAMMA ** np.arange(T)[:, None] * np.exp(log_rho) * found * alive
    gradients = np.zeros((N, S, A))
    score = np.eye(A)[actions] - pi[states[:-1]]  # d log pi(a|s) / d theta[s, :]
    for s in range(S):
        gradients[:, s] = np.einsum("tn,tna->na", weight * (states[:-1] == s), score)
    return gradients


def deviations(gradients, exact):
    """(mean - exact) in standard errors, where the estimate varies."""
    error = gradients.std(0, ddof=1) / math.sqrt(len(gradients))
    return ((gradients.mean(0) - exact) / np.where(error > 0, error, np.inf))[:-1]


@pytest.mark.parametrize(
    ("beta", "gae_lambda"), [(0.0, 0.9), (0.3, 0.0), (1.0, 0.0), (1.0, 0.9), (1.0, 1.0)]
)
def test_mean_of_the_estimate_is_the_exact_gradient(beta, gae_lambda):
    P, R, mu = random_problem(3)
    rng = np.random.default_rng(7)
    theta = rng.normal(size=(S, A))
    exact = exact_gradient(P, R, mu, theta, beta)
    gradients = sampled_gradients(P, R, mu, theta, beta, gae_lambda, 1.0, rng)
    assert np.abs(deviations(gradients, exact)).max() < 4.5


def test_without_occupancy_weights_the_estimate_is_another():
    """The check above can fail: trace_decay = 0 leaves the nominal occupancy."""
    P, R, mu = random_problem(3)
    rng = np.random.default_rng(7)
    theta = rng.normal(size=(S, A))
    exact = exact_gradient(P, R, mu, theta, 2.0)
    gradients = sampled_gradients(P, R, mu, theta, 2.0, 0.9, 0.0, rng, N=60_000)
    assert np.abs(deviations(gradients, exact)).max() > 6.5


def test_mean_of_the_estimate_is_the_planned_gradient():
    """`planning.robust_policy_gradient` is in π; the softmax turns it into π (G - Σ π G)."""
    P, R, mu = random_problem(11)
    R = np.repeat(R[..., :1], S, axis=2)  # planning takes rewards of (s, a)
    R[-1], P[-1] = 0.0, np.eye(S)[-1]
    rng = np.random.default_rng(1)
    theta = rng.normal(size=(S, A))
    pi = softmax(theta, axis=1)
    mdp = FiniteMDP(P, R[..., 0], mu, terminal=np.arange(S) == S - 1)
    G = planning.robust_policy_gradient(mdp, pi, risk.Entropic(1.0), GAMMA)
    exact = pi * (G - (pi * G).sum(1, keepdims=True))
    gradients = sampled_gradients(P, R, mu, theta, 1.0, 0.9, 1.0, rng)
    assert np.abs(deviations(gradients, exact)).max() < 4.5


def test_robust_error_is_second_order_in_the_critic():
    """E δ, as the certainty equivalent is off by e: the bias falls fourfold as e is halved."""
    rng = np.random.default_rng(0)
    p, x, b = rng.dirichlet(np.ones(6)), rng.normal(size=6), 0.8
    exact = -logsumexp(-b * x, b=p) / b
    bias = []
    for e in (0.1, 0.05, 0.025):
        _, errors = transition_weights(x, np.full(6, exact + e), b)
        bias.append(p @ errors - exact)
    assert bias[0] / bias[1] == pytest.approx(4.0, rel=0.1)
    assert bias[1] / bias[2] == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize("self_normalise", [False, True])
def test_weights_and_errors_tend_to_the_ordinary_ones(rng, self_normalise):
    surprise, certainty = rng.normal(size=(2, 5, 7))
    for b in (1e-12, 1e-8, 1e-4):
        log_w, errors = transition_weights(surprise, certainty, b, 10.0, self_normalise)
        np.testing.assert_allclose(errors, surprise, atol=20 * b + 1e-12)
        np.testing.assert_allclose(log_w, 0.0, atol=10 * b)
    log_w, errors = transition_weights(surprise, certainty, 0.0, 10.0, self_normalise)
    np.testing.assert_array_equal(errors, surprise)
    np.testing.assert_array_equal(log_w, 0.0)


def test_advantages_and_occupancy_weights_by_hand():
    w = np.array([[0.5, 2.0], [3.0, 1.0], [0.1, 4.0]])
    errors = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    ended = np.array([[False, True], [False, False], [False, False]])
    found = advantages(errors, np.log(w), ended, 0.5, 0.8)
    one = 3.0 + 0.4 * 3.0 * 5.0
    two = 4.0 + 0.4 * 1.0 * 6.0
    np.testing.assert_allclose(found, [[1.0 + 0.4 * 0.5 * one, 2.0], [one, two], [5.0, 6.0]])
    log_rho, after = occupancy_weights(np.log(w), ended, np.log([2.0, 3.0]), 1.0)
    np.testing.assert_allclose(np.exp(log_rho), [[2.0, 3.0], [1.0, 1.0], [3.0, 1.0]])
    np.testing.assert_allclose(np.exp(after), [0.3, 4.0])


def test_self_normalised_weights_have_mean_one_and_are_cut_off(rng):
    log_weights = rng.normal(scale=3.0, size=1000) + 700.0
    weights = self_normalised(log_weights, math.inf)
    np.testing.assert_allclose(weights, 1000 * softmax(log_weights))
    cut = self_normalised(log_weights, 5.0)
    assert cut.mean() == pytest.approx(1.0)
    order = np.argsort(log_weights)
    assert (np.diff(cut[order]) >= 0).all()
    assert cut.max() / cut[order[500]] < weights.max() / weights[order[500]]


# ---------------------------------------------------------------- the LINEX regression


@pytest.mark.parametrize("b", [0.0, 1e-9, 0.1, 3.0])
def test_linex_minimiser_is_the_entropic_mean(rng, b):
    x = rng.normal(size=200)
    target = torch.as_tensor(x)
    low, high = x.min(), x.max()
    for _ in range(100):  # the gradient grows with the prediction
        u = (low + high) / 2
        slope = float(linex_gradient(torch.full((200,), u).double(), target, b, math.inf).mean())
        low, high = (u, high) if slope < 0 else (low, u)
    want = x.mean() if b < 1e-3 else -logsumexp(-b * x, b=1 / 200) / b
    assert u == pytest.approx(want, abs=1e-6)


def test_weights_cut_off_in_the_regression_average_to_one(rng):
    x = rng.normal(size=500)
    x[0], b, most = -40.0, 2.0, 10.0
    target, u = torch.as_tensor(x), torch.zeros(500, dtype=torch.float64)
    for _ in range(5000):
        u -= 0.01 * linex_gradient(u, target, b, most).mean()
    log_w, _ = transition_weights(x, u.numpy(), b, most)
    assert np.exp(log_w).mean() == pytest.approx(1.0, abs=1e-6)
    assert np.exp(log_w).max() == pytest.approx(most)


@pytest.mark.parametrize("max_weight", [2.0, math.inf])
@pytest.mark.parametrize("b", [1e-7, 0.3, 2.0])
def test_linex_gradient_is_that_of_the_loss(b, max_weight):
    errors = np.array([-3.0, -0.2, 0.0, 0.4, 1.5])
    h = 1e-6
    for e in errors:
        up, down = (linex_loss(np.array([x]), b, max_weight) for x in (e + h, e - h))
        error = torch.tensor([e], dtype=torch.float64)
        got = linex_gradient(error, torch.zeros(1, dtype=torch.float64), b, max_weight)
        assert float(got) == pytest.approx((up - down) / (2 * h), abs=1e-6)
    y = b * errors
    if b == 2.0 and max_weight == math.inf:
        assert linex_loss(errors, b) == pytest.approx(((np.exp(y) - y - 1) / b**2).mean())
    assert linex_loss(errors, 0.0) == pytest.approx((errors**2).mean() / 2)


# ---------------------------------------------------------------- small environments


class Probe(gymnasium.Env):
    """Any spaces; rewards and ends from functions of the step and the action."""

    def __init__(self, observations, actions, reward, terminal=lambda t: False):
        self.observation_space, self.action_space = observations, actions
        self.reward, self.terminal = reward, terminal

    def observation(self):
        space = self.observation_space
        if isinstance(space, Discrete):
            return space.start + self.t % int(space.n)
        return np.full(space.shape, self.t, space.dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observation(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.t += 1
        reward = self.reward(action, self.np_random)
        return self.observation(), reward, self.terminal(self.t), False, {}


def limited(env, steps):
    return gymnasium.wrappers.TimeLimit(env, steps)


LINE = Box(-math.inf, math.inf, (1,), np.float32)


def test_truncation_bootstraps_and_termination_does_not():
    """One copy each: truncated after 3 steps, terminated after 2, both at once after 4."""
    rng = np.random.default_rng(0)
    envs = [
        limited(Probe(LINE, Discrete(2), lambda a, r: 1.0), 3),
        Probe(LINE, Discrete(2), lambda a, r: 1.0, lambda t: t == 2),
        limited(Probe(LINE, Discrete(2), lambda a, r: 1.0, lambda t: t == 4), 4),
    ]
    encode, head = Encoder(envs[0]), Categorical(Discrete(2))
    copies, batch = Copies(envs, encode, rng), Batch(5, 3, 1, head)
    for i in range(3):
        copies.begin(i)
    for t in range(5):
        batch.observations[t] = encode(copies.observations)
        copies.step(np.zeros(3, int), batch, t)
    batch.observations[5] = encode(copies.observations)
    np.testing.assert_array_equal(batch.observations[..., 0].T, [
        [0, 1, 2, 0, 1, 2], [0, 1, 0, 1, 0, 1], [0, 1, 2, 3, 0, 1]])  # fmt: skip
    assert [(t, i, float(last[0])) for t, i, last in batch.cut] == [(2, 0, 3.0)]
    V = 10.0 + batch.observations[..., 0]  # V(s) = 10 + s
    found = next_values(V, batch, np.array([13.0]))
    np.testing.assert_array_equal(found.T, [
        [11, 12, 13, 11, 12], [11, 0, 11, 0, 11], [11, 12, 13, 0, 11]])  # fmt: skip
    assert sorted(batch.returns) == [2.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(("ends", "value"), [("truncated", 2.0), ("terminated", 1.5)])
def test_critic_learns_the_value_of_a_clock(ends, value):
    """Reward 1 a step for 2 steps, γ = 1/2: 2 where the time limit is none of the problem's."""
    clock = Probe(Box(0, 9, (1,), np.float32), Discrete(2), lambda a, r: 1.0)
    if ends == "terminated":
        clock.terminal = lambda t: t == 2
    else:
        clock = limited(clock, 2)
    config = Config(steps=6_000, gamma=0.5, num_envs=4, rollout_steps=30, minibatches=1,
                    hidden=(16,), critic_learning_rate=1e-2, final_episodes=1)  # fmt: skip
    found = run(clock, config, np.random.default_rng(0), Log(None)).summary
    assert found["value"] == pytest.approx(value, rel=0.05)
    assert found["mean_return"] == 2.0


def gamble(action, rng):
    """Action 0 costs 0.6; action 1 costs 0 or 1, evenly."""
    return -0.6 if action == 0 else -float(rng.random() < 0.5)


@pytest.mark.parametrize(("beta", "scale"), [(0.0, 1.0), (4.0, 1.0), (4.0, 100.0)])
def test_risk_aversion_refuses_the_gamble(beta, scale):
    """Episodes of one step; β is per unit of the environment's own reward."""
    env = Probe(LINE, Discrete(2), lambda a, rng: scale * gamble(a, rng), lambda t: True)
    config = Config(steps=20_000, risk=f"entropic:{beta / scale}", gamma=0.9, rollout_steps=64,
                    epochs=4, minibatches=1, hidden=(8,), learning_rate=1e-2,
                    critic_learning_rate=1e-2, final_episodes=5)  # fmt: skip
    result = run(env, config, np.random.default_rng(1), Log(None))
    b = beta / 0.9
    risky = -0.5 if b == 0.0 else -math.log(0.5 + 0.5 * math.exp(b)) / b
    assert (risky < -0.6) == (beta > 0.0)
    act = load_policy(result.network, env).act
    chosen = act(np.zeros((1, 1), np.float32), np.zeros(1, int), np.random.default_rng(0))
    assert chosen[0] == (0 if beta else 1)
    assert result.summary["value"] == pytest.approx(scale * max(risky, -0.6), rel=0.08)


def test_critic_learns_certainty_equivalents_of_a_tabular_problem():
    """A policy that stays put: V̂ and Q̂ = V̂ + ĝ, averaged over batches, against exact ones."""
    P, R, mu = random_problem(40)
    r = (P * R).sum(-1)
    beta, pi, V = 1.0, np.full((S, A), 1 / A), np.zeros(S)
    for _ in range(300):
        Q = -logsumexp(-beta / GAMMA * (r[..., None] + GAMMA * V), axis=-1, b=P) * GAMMA / beta
        V = (pi * Q).sum(-1)
    config = Config(risk=f"entropic:{beta}", gamma=GAMMA, rollout_steps=128, epochs=4,
                    learning_rate=1e-9, critic_learning_rate=3e-3, minibatches=1,
                    normalise_rewards=False, max_weight=100.0)  # fmt: skip
    learner = ActorCritic(TabularEnv(FiniteMDP(P, r, mu)), config, np.random.default_rng(0))
    for i in range(config.num_envs):
        learner.copies.begin(i)
    states, found = np.eye(S, dtype=np.float32), []
    s, a = np.divmod(np.arange(S * A), A)
    for _ in range(120):
        learner.learn(learner.play())
        g = learner.certainties(states[s], np.eye(A, dtype=np.float32)[a])
        found.append(np.append(learner.values(states), g))
    mean = np.mean(found[50:], axis=0)
    nominal = np.linalg.solve(np.eye(S) - GAMMA * P.mean(1), r.mean(1))
    assert (nominal - V > 0.25).all()
    np.testing.assert_allclose(mean, np.append(V, Q - V[:, None]), atol=0.08)


# ---------------------------------------------------------------- spaces


@pytest.mark.parametrize("observations", [
    LINE, Box(-1, 1, (2, 3), np.float64), Box(0, 255, (4,), np.uint8), Discrete(5, start=3),
])  # fmt: skip
@pytest.mark.parametrize("actions", [
    Discrete(3), Discrete(3, start=-1), MultiDiscrete([2, 3]), MultiBinary(3),
    Box(-2, 2, (1,), np.float32), Box(np.array([0, -np.inf]), np.array([5, 1]), dtype=np.float64),
    Box(0, 9, (2, 2), np.int64),
])  # fmt: skip
def test_every_space_is_acted_in(observations, actions):
    """The probe refuses actions outside its space."""
    env = limited(Probe(observations, actions, lambda a, r: float(r.random())), 7)
    config = Config(steps=64, risk="entropic:0.5", random_action=0.5, stochastic_evaluation=True,
                    **SMALL)  # fmt: skip
    result = run(env, config, np.random.default_rng(0), Log(None))
    assert math.isfinite(result.summary["value"])
    assert result.summary["env_steps"] == 64


@pytest.mark.parametrize("space", [Dict({"x": LINE}), Tuple((LINE, LINE))])
@pytest.mark.parametrize("where", ["observations", "actions"])
def test_other_spaces_are_refused(space, where):
    spaces = {"observations": LINE, "actions": Discrete(2)} | {where: space}
    env = Probe(spaces["observations"], spaces["actions"], lambda a, r: 0.0)
    with pytest.raises(InputError, match=f"env must have Box.*{where} for robust-actor-critic"):
        run(env, Config(steps=8, **SMALL), np.random.default_rng(0), Log(None))


@pytest.mark.parametrize("reward", [math.nan, math.inf])
def test_rewards_that_are_not_finite_are_refused(reward):
    env = Probe(LINE, Discrete(2), lambda a, r: reward)
    with pytest.raises(InputError, match=r"reward must be finite, got (nan|inf) at step 1"):
        run(env, Config(steps=64, **SMALL), np.random.default_rng(0), Log(None))


def test_laws_of_actions(rng):
    """Log-probabilities against frequencies and densities from scipy; entropies against both."""
    from scipy.stats import norm

    head = Categorical(MultiDiscrete([2, 3]))
    outputs = rng.normal(size=(1, 5)).astype(np.float32)
    drawn = head.choose(np.repeat(outputs, 60_000, 0), head.noise(rng, (60_000,)))
    entropy = 0.0
    for i in range(2):
        for j in range(3):
            log_p, H = head.law(torch.as_tensor(outputs), torch.tensor([[i, j]]))
            p = math.exp(log_p)
            entropy -= p * math.log(p)
            share = (drawn == [i, j]).all(1).mean()
            assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / 60_000)
    assert float(H) == pytest.approx(entropy, rel=1e-5)
    features = head.features(np.array([[1, 2], [0, 0]]))
    np.testing.assert_array_equal(features, [[0, 1, 0, 0, 1], [1, 0, 1, 0, 0]])

    head = Gaussian(Box(-2.0, 2.0, (2,)))
    outputs = np.array([[0.1, -0.4, 0.3, -1.0]], np.float32)
    action = head.choose(outputs, np.array([[0.5, -2.0]], np.float32))
    log_p, H = head.law(torch.as_tensor(outputs), torch.as_tensor(action))
    law = norm(outputs[0, :2], np.exp(outputs[0, 2:]))
    assert float(log_p) == pytest.approx(law.logpdf(action[0]).sum(), rel=1e-5)
    assert float(H) == pytest.approx(law.entropy().sum(), rel=1e-5)
    np.testing.assert_allclose(head.to_space(np.array([[0.5, -3.0]])), [[1.0, -2.0]])
    np.testing.assert_allclose(head.features(np.array([[0.5, -3.0]])), [[0.5, -1.0]])


def test_numpy_forward_is_the_network(rng):
    from rlentropy.neural.networks import MLP

    for activation in ("tanh", "relu"):
        net = MLP((3, 8, 5, 2), rng.spawn(2), activation)
        x = rng.normal(size=(7, 3)).astype(np.float32)
        for member in range(2):
            want = net(torch.as_tensor(x))[member].detach().numpy()
            np.testing.assert_allclose(
                forward(layers_of(net, member), x, activation), want, rtol=1e-4, atol=1e-5
            )


def test_running_moments(rng):
    rows, moments = rng.normal(3.0, 5.0, (1000, 2)) + 1e6, Moments(2)
    rows[:, 1] = 7.0
    for part in np.array_split(rows, [3, 500, 501]):
        moments.update(part)
    np.testing.assert_allclose(moments.mean, rows.mean(0))
    np.testing.assert_allclose(moments.deviation, [rows[:, 0].std(), 1.0])


# ---------------------------------------------------------------- runs

CASES = {
    "cart-pole": ("CartPole-v1", {"risk": "entropic:0.05", "random_action": 0.1}),
    "pendulum": ("Pendulum-v1", {"stochastic_evaluation": True, "activation": "relu"}),
    "river-swim": ("rlentropy/RiverSwim-v0", {"risk": "entropic:1"}),
}


def outcome(folder, result):
    """All that a run leaves, without times."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    metrics = [row for row in map(json.loads, lines) if not row["tag"].startswith("time/")]
    with np.load(folder / "checkpoint" / "state.npz") as file:
        arrays = {name: file[name].tolist() for name in file.files if name != "json"}
        rest = json.loads(str(file["json"]))
    arrays |= {k: v for k, v in rest.items() if not k.startswith("_")}
    network = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in result.network.items()}
    return metrics, arrays, network, result.summary


def play(case, folder, steps, **schedule):
    env_id, options = CASES[case]
    log = Log(folder, **schedule)
    config = Config(steps=steps, gamma=0.9, **options, **SMALL)
    result = run(gymnasium.make(env_id), config, np.random.default_rng(3), log)
    log.close()
    return outcome(folder, result)


@pytest.mark.parametrize("case", CASES)
def test_half_and_resume_is_the_whole(tmp_path, case):
    """Bit for bit; 330 steps are rounded up to whole batches of 32."""
    whole = play(case, tmp_path / "whole", 660)
    half = play(case, tmp_path / "halves", 330)
    assert half[3]["env_steps"] == 352
    assert half[2] != whole[2]
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    metrics, *rest = play(case, tmp_path / "halves", 660)
    (end,) = (row for row in half[0] if (row["tag"], row["step"]) == ("eval/return", 352))
    assert [row for row in metrics if row != end] == whole[0]
    assert rest == list(whole[1:])


@pytest.mark.parametrize("case", ["cart-pole", "pendulum"])
def test_killed_anywhere_and_resumed_is_the_whole(tmp_path, case, monkeypatch):
    whole = play(case, tmp_path / "whole", 300, checkpoint_every=50)
    scalar = Log.scalar
    for k, at in enumerate((1, 17, 40, 58)):
        calls = 0

        def killed(log, tag, value, step, at=at):
            nonlocal calls
            calls += 1
            if calls == at:
                raise RuntimeError("killed")
            scalar(log, tag, value, step)

        with monkeypatch.context() as patch:
            patch.setattr(Log, "scalar", killed)
            with pytest.raises(RuntimeError, match="killed"):
                play(case, tmp_path / str(k), 300, checkpoint_every=50)
        assert play(case, tmp_path / str(k), 300, checkpoint_every=50) == whole


def test_checkpoints_are_written_between_batches(tmp_path, monkeypatch):
    """Every 50 steps, with batches of 32: after 64, 128, 160, 224, 256, 320, 352."""
    written = []
    checkpoint = Log.checkpoint
    monkeypatch.setattr(Log, "checkpoint", lambda log, state: (
        written.append(state["agent"]["env_steps"]), checkpoint(log, state)))  # fmt: skip
    play("cart-pole", tmp_path, 330, checkpoint_every=50)
    assert written == [64, 128, 160, 224, 256, 320, 352]


def test_resume_refuses_an_environment_that_does_not_repeat_itself(tmp_path):
    chance = np.random.default_rng(0)

    class Moody(Probe):
        def observation(self):
            return chance.normal(size=1).astype(np.float32)

    for steps in (64, 128):
        log = Log(tmp_path)
        config, env = Config(steps=steps, **SMALL), Moody(LINE, Discrete(2), lambda a, r: 1.0)
        if steps == 64:
            run(env, config, np.random.default_rng(0), log)
        else:
            with pytest.raises(InputError, match="env must repeat an episode"):
                run(env, config, np.random.default_rng(0), log)
        log.close()


def test_evaluations_do_not_disturb_training(tmp_path):
    seldom = play("cart-pole", tmp_path / "a", 400, eval_every=400)
    often = play("cart-pole", tmp_path / "b", 400, eval_every=40)
    assert seldom[1:] == often[1:]
    assert [row["step"] for row in often[0] if row["tag"] == "eval/return"] == [
        64, 96, 128, 160, 224, 256, 288, 320, 384, 416]  # fmt: skip


def test_no_risk_is_the_limit_of_little_risk():
    """One update with β = 0 and with tiny ones: the same batch, nearly the same networks."""
    found = {}
    for beta in (0.0, 1e-10, 1e-6):
        config = Config(risk=f"entropic:{beta}", rollout_steps=64)
        learner = ActorCritic(gymnasium.make("CartPole-v1"), config, np.random.default_rng(0))
        for i in range(config.num_envs):
            learner.copies.begin(i)
        figures = learner.learn(learner.play())
        found[beta] = learner.policy.flat.detach().clone(), learner.critic.flat.detach().clone()
        assert figures["train/effective_sample_size"] == pytest.approx(512, rel=1e-4)
        assert figures["train/weight_max"] == pytest.approx(1.0, rel=1e-3)
    for beta in (1e-10, 1e-6):
        for one, other in zip(found[beta], found[0.0], strict=True):
            np.testing.assert_allclose(one, other, atol=2e-4)


def test_nominal_and_entropic_zero_are_the_same_run():
    results = [
        run(gymnasium.make("CartPole-v1"), Config(steps=128, risk=risk, **SMALL),
            np.random.default_rng(0), Log(None)) for risk in ("nominal", "entropic:0")
    ]  # fmt: skip
    assert torch.equal(results[0].network["flat"], results[1].network["flat"])


def test_command_line_and_the_saved_policy(tmp_path, capsys):
    command = ["robust-actor-critic", "--env-id", "CartPole-v1", "--steps", "300", "--out",
               str(tmp_path / "run"), "--risk", "entropic:0.1", "--hidden", "8", "8",
               "--rollout-steps", "16", "--final-episodes", "12", "--quiet"]  # fmt: skip
    assert cli.main(command) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["env_steps"], summary["steps"], summary["evaluation_episodes"]) == (
        384,
        300,
        12,
    )
    assert summary["risk"] == "entropic:0.1"
    env = gymnasium.make("CartPole-v1")
    policy = load(tmp_path / "run", env)
    actions = policy.act(np.zeros((5, 4), np.float32), np.zeros(5, int), np.random.default_rng(0))
    assert actions.shape == (5,)
    assert all(env.action_space.contains(a) for a in actions)
    with pytest.raises(InputError, match="env must have 4 observed numbers"):
        load(tmp_path / "run", gymnasium.make("Pendulum-v1"))


@pytest.mark.parametrize("change", [
    {"risk": "cvar:0.5"}, {"risk": "kl-ball:0.1"}, {"risk": "entropic:-1"}, {"risk": "entropc:1"},
    {"gamma": 1.0}, {"gamma": 0.0}, {"steps": 0}, {"num_envs": 0}, {"rollout_steps": 0},
    {"epochs": 0}, {"minibatches": 0}, {"minibatches": 2000}, {"learning_rate": 0.0},
    {"critic_learning_rate": -1.0}, {"gae_lambda": 1.1}, {"clip": 0.0}, {"entropy_bonus": -0.1},
    {"max_gradient_norm": 0.0}, {"trace_decay": -0.1}, {"max_weight": 1.0}, {"hidden": (0,)},
    {"activation": "gelu"}, {"random_action": 1.5}, {"evaluation_episodes": 0},
    {"final_episodes": 0},
])  # fmt: skip
def test_bad_settings_are_refused_by_name(change):
    name = next(iter(change))
    with pytest.raises(InputError, match=f"{name if name != 'risk' else 'risk'}.* must "):
        Config(**change)


def test_other_measures_are_named_as_not_supported():
    with pytest.raises(InputError, match="risk must be nominal or entropic"):
        Config(risk="tv-ball:0.1")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_cart_pole_is_solved(seed):
    env = gymnasium.make("CartPole-v1")
    summary = run(env, Config(), np.random.default_rng(seed), Log(None)).summary
    assert summary["env_steps"] <= 200_704
    assert summary["evaluation_episodes"] == 100
    assert summary["mean_return"] >= 475.0
