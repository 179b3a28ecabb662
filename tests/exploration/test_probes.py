"""EntGame with networks where the largest entropy is known."""

import math

import numpy as np
import pytest

pytest.importorskip("torch")

from examples import probes

from rlentropy.exploration.features import features_of
from rlentropy.exploration.neural_entgame import Config, run
from rlentropy.log import Log

NAMES = list(probes.HORIZONS)


@pytest.mark.parametrize("name", NAMES)
def test_a_script_attains_the_optimum(name):
    """Visits of a script are even, to the last one; its actions are within their bounds."""
    env, n = probes.make(name), 200 if probes.HORIZONS[name] == 1 else 3
    features = features_of(env)
    counts = np.zeros(features.num_cells, int)
    for episode in range(n):
        seen, _ = env.reset(seed=episode)
        place = env.unwrapped.state.copy()
        way = probes.script(name, place[0], episode, n)
        assert len(way) == probes.HORIZONS[name]
        for t, there in enumerate(way):
            action = probes.action(name, place, there)
            assert np.abs(action).max() <= 1.0 + 1e-9
            seen, _, terminated, truncated, _ = env.step(np.asarray(action, np.float32))
            assert (terminated, truncated) == (False, t + 1 == len(way))
            place = env.unwrapped.state.copy()
            np.testing.assert_allclose(place, there, atol=1e-5)
            counts[features.cells(features.points(seen[None]))] += 1
    assert counts.min() == counts.max() > 0
    assert probes.OPTIMA[name] == math.log(len(counts))


def test_a_wall_is_a_wall():
    """All of the square is free, and the other room is reached through the door alone."""
    env, rng = probes.make("Rooms").unwrapped, np.random.default_rng(0)
    states = np.concatenate([rng.uniform(0, 1, (5000, 2))])
    after, *_ = env.advance(states, rng.uniform(-1, 1, (5000, 2)))
    through = (states[:, 0] < 0.5) != (after[:, 0] < 0.5)
    assert 0 < through.sum()
    assert (np.abs(states[through, 1] - 0.5) <= 0.1).all()
    assert (np.abs(after - states) <= 0.05 + 1e-12).all()


def learned(name, steps, seed, **options):
    """Entropy of what is found, as a share of the optimum."""
    config = Config(steps=steps, **options)
    result = run(probes.make(name), config, np.random.default_rng(seed), Log(None))
    return result.summary["mixture_value"] / probes.OPTIMA[name]


@pytest.mark.parametrize(
    ("name", "steps", "at_least"), [("Line", 30_000, 0.95), ("Rooms", 24_000, 0.95)]
)
def test_few_steps_come_close(name, steps, at_least):
    assert learned(name, steps, 0, updates=50, final_episodes=100) > at_least


def test_few_actions_are_even_in_what_they_lead_to():
    """Uniform actions have 0.948 of the largest entropy: sin(πa / 2) is too often near ±1."""
    options = {"episodes": 1000, "updates": 40, "evaluation_episodes": 100, "hidden": (32, 32)}
    assert learned("Sine", 8_000, 0, final_episodes=2000, learning_rate=3e-3, **options) > 0.975


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("Rooms", 100_000),
        ("Drift", 200_000),
        ("Line", 100_000),
        ("Bandit", 60_000),
        ("Sine", 60_000),
        ("Cube", 60_000),
    ],
)
def test_default_options_come_within_2_percent(name, steps, seed):
    assert learned(name, steps, seed) > 0.98


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least", "most"), [("Sine", 0.98, 1.0), ("Cube", 0.93, 0.97)])
def test_squashed_normals_have_one_peak(name, least, most):
    """Enough for sin(πa / 2); of a³ one has at most 0.946 of the largest entropy, 2.833 nats.

    It is the soft response to its own visits, so that a mixture has no more.
    """
    assert least < learned(name, 60_000, 0, sampler="actor-critic") <= most
