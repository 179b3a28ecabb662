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


def learned(name, steps, seed):
    """What the default options find, as a share of the optimum.

    Plug-in entropies of n visits to K cells are low by about (K - 1) / 2n: episodes of one step
    need more of them than 200.
    """
    more = {"final_episodes": 4000} if probes.HORIZONS[name] == 1 else {}
    config = Config(steps=steps, **more)
    result = run(probes.make(name), config, np.random.default_rng(seed), Log(None))
    return result.summary["mixture_value"] / probes.OPTIMA[name]
