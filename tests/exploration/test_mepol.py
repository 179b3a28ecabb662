"""MEPOL, against slow formulas, finite differences and scripted divergences."""

import math
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

torch = pytest.importorskip("torch")

import rlentropy  # noqa: E402, F401
from rlentropy.entropy import nearest_neighbour  # noqa: E402
from rlentropy.errors import InputError  # noqa: E402
from rlentropy.exploration import mepol  # noqa: E402
from rlentropy.exploration.features import features_of  # noqa: E402
from rlentropy.exploration.mepol import (  # noqa: E402
    MEPOL,
    Config,
    entropy_slopes,
    load_policy,
    particle_weights,
    particles_of,
    run,
)
from rlentropy.log import Log  # noqa: E402

SMALL = {"hidden": (16, 16), "episodes": 6, "horizon": 25, "evaluation_episodes": 5}
SMALL |= {"final_episodes": 5, "inner_steps": 5}


class Line(gymnasium.Env):
    """A place in [-1, 1] that actions move by 0.05; an episode ends beyond `end`."""

    def __init__(self, end=2.0, discrete=False):
        self.end = end
        self.observation_space = Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = Discrete(3) if discrete else Box(-1.0, 1.0, (1,), np.float32)
        self.discrete = discrete

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = float(self.np_random.uniform(-0.1, 0.1))
        return np.array([self.x], np.float32), {}

    def step(self, action):
        push = int(action) - 1 if self.discrete else float(action[0])
        self.x = min(max(self.x + 0.05 * push, -1.0), 1.0)
        return np.array([self.x], np.float32), 0.0, self.x > self.end, False, {}


def grid():
    return gymnasium.make("rlentropy/ContinuousGrid-v0")


def agent_of(env, rng, **options):
    config = Config(**(SMALL | options))
    return MEPOL(env, features_of(env), config.horizon, config, rng)


def some_particles(rng, k=3, resolution=1e-9):
    """Of episodes of 7, 4 and 7 steps in the plane."""
    visited = np.arange(7) < np.array([7, 4, 7])[:, None]
    points = rng.random((3, 7, 2))
    return points, visited, particles_of(points, visited, k, resolution)


# ---------------------------------------------------------------- formulas


def test_particles_by_brute_force(rng):
    points, visited, particles = some_particles(rng, resolution=0.15)
    x = [points[e, t] for e in range(3) for t in range(7) if visited[e, t]]
    for i, here in enumerate(x):
        distance = [math.dist(here, there) for there in x]
        order = sorted(range(len(x)), key=lambda j: distance[j])  # itself first
        assert list(particles.near[i]) == order[:3]
        radius = max(distance[order[3]], 0.15)
        assert particles.log_volume[i] == pytest.approx(math.log(math.pi * radius**2))


def test_a_particle_of_many_copies_is_its_own_neighbour_once():
    points = np.zeros((2, 6, 1))
    particles = particles_of(points, np.ones((2, 6), bool), 4, 1e-3)
    assert [row[0] for row in particles.near] == list(range(12))
    assert all(len(set(row)) == 4 for row in particles.near.tolist())


def test_weights_are_products_of_ratios_along_episodes(rng):
    _, visited, _ = some_particles(rng)
    log_ratios = rng.normal(size=18)
    slow, at = [], 0
    for length in (7, 4, 7):
        product = 1.0
        for _ in range(length):
            product *= math.exp(log_ratios[at])
            slow.append(product)
            at += 1
    w = particle_weights(log_ratios, visited)
    np.testing.assert_allclose(w, np.array(slow) / sum(slow), rtol=1e-12)
    assert w.sum() == pytest.approx(1.0, abs=1e-12)
    extreme = particle_weights(400.0 * log_ratios, visited)
    assert np.isfinite(extreme).all()
    assert extreme.sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_slopes_by_finite_differences(rng, k):
    points, visited, particles = some_particles(rng, k)
    log_ratios, h = rng.normal(size=18), 1e-5

    def entropy(log_ratios):
        w = particle_weights(log_ratios, visited)
        return nearest_neighbour(points[visited], k, w, include_self=True)

    found = entropy_slopes(particle_weights(log_ratios, visited), particles)
    slow = [
        (entropy(log_ratios + h * e) - entropy(log_ratios - h * e)) / (2 * h) for e in np.eye(18)
    ]
    np.testing.assert_allclose(found, slow, rtol=1e-6, atol=1e-9)


def test_slopes_are_finite_where_weights_vanish(rng):
    _, _, particles = some_particles(rng)
    assert np.isfinite(entropy_slopes(np.eye(18)[0], particles)).all()


# ---------------------------------------------------------------- the ascent


def log_density(agent, parameters, played):
    """Of the actions that were played, by a normal law, (N,), in double precision."""
    d, h = agent.sizes[0], agent.config.hidden
    sizes, x, start = (d, *h, agent.sizes[-1]), played.observations[:, :-1], 0
    x = x.astype(float)
    for k, (m, n) in enumerate(pairwise(sizes)):
        W, b = parameters[start : start + m * n], parameters[start + m * n : start + (m + 1) * n]
        x, start = x @ W.reshape(m, n).astype(float) + b, start + (m + 1) * n
        x = x if k == len(h) else np.maximum(x, 0.0)
    mean, log_deviation = np.split(x, 2, axis=-1)
    z = (played.actions - mean) / np.exp(log_deviation)
    return (-0.5 * z**2 - log_deviation - 0.5 * math.log(2 * math.pi)).sum(-1)[played.real]


def test_figures_of_a_batch_are_those_of_the_definitions(rng, monkeypatch):
    """Entropy of the particles, divergence from the policy that played to the one that results."""
    agent = agent_of(grid(), rng, learning_rate=3e-3)
    before, rounds = mepol.parameters_of(agent.network), []
    play = agent.rounds.play
    monkeypatch.setattr(
        agent.rounds, "play", lambda policy: rounds.append(play(policy)) or rounds[0]
    )
    figures = agent.advance(1)
    (played,), after = rounds, mepol.parameters_of(agent.network)
    x, visited = played.points[:, 1:][played.real], played.real
    assert figures["train/knn_entropy"] == pytest.approx(nearest_neighbour(x, 4, resolution=1e-3))
    ratios = log_density(agent, after, played) - log_density(agent, before, played)
    w = particle_weights(ratios, visited)
    near = particles_of(played.points[:, 1:], visited, 4, 1e-3).near
    divergence = np.mean(np.log(4 / (len(x) * w[near].sum(axis=1))))
    assert figures["train/kl"] == pytest.approx(max(0.0, divergence), rel=1e-3, abs=1e-6)
    assert figures["train/inner_steps"] == 5
    weighted = nearest_neighbour(x, 4, w, resolution=1e-3, include_self=True)
    assert weighted > figures["train/knn_entropy"]


def test_the_gradient_of_the_network_is_autograds(rng):
    """Through products of ratios, in double precision."""
    agent = agent_of(grid(), rng)
    agent.advance(1)
    played = agent.rounds.play(agent.policy())
    particles = particles_of(played.points[:, 1:], played.real, 4, 1e-3)
    x = torch.as_tensor(agent.inputs(played.observations[:, :-1][played.real]))
    actions = torch.as_tensor(played.actions[played.real])
    log_p, _ = agent.head.law(agent.network(x)[0], actions)
    ratios = (log_p - log_p.detach() + 0.01 * torch.as_tensor(rng.normal(size=len(x)))).double()
    w = torch.exp(ratios.reshape(6, 25).cumsum(dim=1)).ravel()
    w = w / w.sum()
    W = w[torch.as_tensor(particles.near)].sum(dim=1)
    (-(W / 4) @ (W.log() - torch.as_tensor(particles.log_volume))).backward(retain_graph=True)
    wanted = agent.network.gradient.clone()
    agent.network.gradient.zero_()
    slopes = entropy_slopes(w.detach().numpy(), particles)
    (torch.as_tensor(slopes.astype(np.float32)) @ log_p).backward()
    torch.testing.assert_close(agent.network.gradient, wanted, rtol=1e-3, atol=1e-4)


def scripted(agent, monkeypatch, divergences):
    """Advance with these divergences; the rates of the steps, and parameters after each."""
    found, rates, seen = iter(divergences), [], []
    step = agent._step

    def record(rate):
        step(rate)
        rates.append(rate)
        seen.append(mepol.parameters_of(agent.network))

    monkeypatch.setattr(mepol, "neighbour_divergence", lambda w, near: next(found))
    monkeypatch.setattr(agent, "_step", record)
    return agent.advance(1), rates, seen


def test_a_step_too_far_is_taken_back(rng, monkeypatch):
    agent = agent_of(grid(), rng)
    figures, rates, seen = scripted(agent, monkeypatch, [1.0, 15.0, 15.1])
    assert (figures["train/inner_steps"], figures["train/kl"], rates) == (2, 15.0, [1e-4] * 3)
    np.testing.assert_array_equal(mepol.parameters_of(agent.network), seen[1])
    assert agent.adam.state_dict()["step"] == 2


def test_a_first_step_too_far_is_halved_until_it_is_accepted(rng, monkeypatch):
    agent = agent_of(grid(), rng)
    before = mepol.parameters_of(agent.network)
    figures, rates, seen = scripted(agent, monkeypatch, [99.0, 99.0, 2.0, 0.0])
    assert (figures["train/inner_steps"], figures["train/kl"]) == (1, 2.0)
    assert rates == [1e-4, 5e-5, 2.5e-5]
    after = mepol.parameters_of(agent.network)
    np.testing.assert_array_equal(after, seen[-1])
    np.testing.assert_allclose(after - before, (seen[0] - before) / 4, rtol=0.05, atol=1e-6)


def test_a_first_step_that_no_halving_helps_is_not_taken(rng, monkeypatch):
    agent = agent_of(grid(), rng)
    before = mepol.parameters_of(agent.network)
    figures, rates, _ = scripted(agent, monkeypatch, [99.0] * 11)
    assert (figures["train/inner_steps"], figures["train/kl"], len(rates)) == (0, 0.0, 11)
    np.testing.assert_array_equal(mepol.parameters_of(agent.network), before)
    assert agent.adam.state_dict() == {}


def test_steps_without_measure_are_not_taken(rng):
    agent = agent_of(grid(), rng, learning_rate=1e30)
    before = mepol.parameters_of(agent.network)
    assert agent.advance(1)["train/inner_steps"] == 0
    np.testing.assert_array_equal(mepol.parameters_of(agent.network), before)


# ---------------------------------------------------------------- the policy


def test_a_policy_starts_in_the_middle_with_one_deviation_for_all(rng):
    agent = agent_of(grid(), rng, initial_log_deviation=-1.0, hidden=(64, 64))
    x = rng.uniform(-6.0, 6.0, (500, 2)).astype(np.float32)
    outputs = agent.network(torch.as_tensor(agent.inputs(x)))[0].detach().numpy()
    assert np.abs(outputs[:, :2]).mean() < 0.05
    assert (outputs[:, 2:] == -1.0).all()
    for _ in range(2):
        agent.advance(1)
    outputs = agent.network(torch.as_tensor(agent.inputs(x)))[0].detach().numpy()
    assert (outputs[:, 2:] == outputs[0, 2:]).all()
    assert (outputs[0, 2:] != -1.0).all()


def test_observations_are_as_they_are_or_normalised(rng):
    x = np.array([[3.0, -6.0]], np.float32)
    plain, normal = (agent_of(grid(), rng, normalise_observations=n) for n in (False, True))
    np.testing.assert_array_equal(plain.inputs(x), x)
    np.testing.assert_array_equal(normal.inputs(x), x / 6)


@pytest.mark.parametrize("discrete", [False, True])
def test_it_spreads_over_a_line(rng, discrete):
    """From a tenth around 0; as a share of the line its entropy is at most log 1 = 0."""
    env = Line(discrete=discrete)
    options = {"horizon": 30, "episodes": 15, "learning_rate": 3e-3, "inner_steps": 20}
    agent = agent_of(env, rng, **options)
    first = agent.advance(1)["train/knn_entropy"]
    for _ in range(10):
        last = agent.advance(1)["train/knn_entropy"]
    assert last > first + 0.3


def test_episodes_end_and_too_few_particles_teach_nothing(rng):
    agent = agent_of(Line(end=0.0, discrete=True), rng, horizon=9, episodes=5)
    figures = agent.advance(1)
    assert 5 <= agent.done < 45
    assert "train/kl" in figures
    played = agent.rounds.play(agent.policy())
    ended = played._replace(lengths=np.array([1, 1, 1, 1, 0]))
    assert agent.learn(ended) == {}


# ---------------------------------------------------------------- runs


def play(folder, steps, env=None, **schedule):
    log = Log(folder, **schedule)
    result = run(env or grid(), Config(steps=steps, **SMALL), np.random.default_rng(3), log)
    log.close()
    network = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in result.network.items()}
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [line for line in lines if "per_second" not in line], network, dict(result.summary)


@pytest.mark.parametrize("make", [grid, lambda: Line(end=0.5)])
def test_half_and_resume_is_the_whole(tmp_path, make):
    whole = play(tmp_path / "whole", 900, make())
    play(tmp_path / "halves", 450, make())
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    assert play(tmp_path / "halves", 900, make()) == whole


def test_what_a_run_returns_acts(rng):
    env = grid()
    result = run(env, Config(steps=450, **SMALL), np.random.default_rng(0), Log(None))
    assert result.summary["env_steps"] == 450
    assert result.summary["mixture_value"] > 0.0
    assert len(result.network["flat"]) == 3 + 1  # three batches' policies, and the last iterate
    x = env.observation_space.sample()
    for mixture in (False, True):
        policy = load_policy(dict(result.network), env, mixture)
        policy.begin(np.arange(1), rng)
        assert env.action_space.contains(policy.act(x, 0, rng))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighbours": 0}, "neighbours must be >= 1"),
        ({"inner_steps": 0}, "inner_steps must be >= 1"),
        ({"learning_rate": 0.0}, "learning_rate must be > 0"),
        ({"kl_threshold": 0.0}, "kl_threshold must be > 0"),
        ({"initial_log_deviation": 3.0}, r"initial_log_deviation must be in \[-5, 2\]"),
        ({"episodes": -1}, "episodes must be >= 0"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(InputError, match=message):
        Config(**options)


def test_refused_environments(rng):
    config = Config(**(SMALL | {"neighbours": 150}))
    with pytest.raises(InputError, match="neighbours must be < 150"):
        run(grid(), config, rng, Log(None))
    env = gymnasium.make("rlentropy/DoubleChain-v0")
    with pytest.raises(InputError, match="env must have states with a density"):
        run(env, Config(**SMALL), rng, Log(None))
