"""The baseline of neural explorers: actions are uniform, and figures those of random walks."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

pytest.importorskip("torch")

import rlentropy  # noqa: F401
from rlentropy.exploration.features import features_of
from rlentropy.exploration.neural_random import Config, Uniform, load_policy, run
from rlentropy.log import Log

SMALL = {"episodes": 6, "horizon": 25, "evaluation_episodes": 5, "final_episodes": 8}


class Space(gymnasium.Env):
    """Sees nothing; any actions."""

    observation_space = Box(0.0, 1.0, (1,), np.float32)

    def __init__(self, action_space):
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {}


def policy_of(action_space, rng):
    env = Space(action_space)
    return Uniform(env, features_of(env), 5, Config(**SMALL), rng).policy()


def test_box_actions_are_uniform_within_their_bounds(rng):
    low, high = np.array([-3.0, 1.0]), np.array([1.0, 2.0])
    policy = policy_of(Box(low, high, (2,), np.float64), rng)
    x = policy.act(np.zeros((40_000, 1), np.float32), np.zeros(40_000, int), rng)
    share = (x - low) / (high - low)
    assert 0.0 <= share.min() < 1e-3
    assert 1.0 - 1e-3 < share.max() <= 1.0
    error = np.sqrt(0.1 * 0.9 / 40_000)
    for k in range(2):
        counts = np.histogram(share[:, k], 10, (0.0, 1.0))[0] / 40_000
        assert np.abs(counts - 0.1).max() < 4.5 * error
    assert abs(np.corrcoef(share.T)[0, 1]) < 4.5 / np.sqrt(40_000)


@pytest.mark.parametrize(
    ("space", "n"),
    [(Discrete(3, start=4), 3), (MultiBinary(2), 4), (MultiDiscrete([2, 3]), 6)],
)
def test_other_actions_are_uniform_too(space, n, rng):
    policy = policy_of(space, rng)
    actions = policy.act(np.zeros((20_000, 1), np.float32), np.zeros(20_000, int), rng)
    assert all(space.contains(action) for action in actions[:10])
    counts = np.unique(actions.reshape(20_000, -1), axis=0, return_counts=True)[1]
    assert len(counts) == n
    assert np.abs(counts / 20_000 - 1 / n).max() < 4.5 * np.sqrt((1 - 1 / n) / n / 20_000)


def play(folder, steps):
    log, env = Log(folder), gymnasium.make("rlentropy/ContinuousGrid-v0")
    result = run(env, Config(steps=steps, **SMALL), np.random.default_rng(3), log)
    log.close()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [line for line in lines if "per_second" not in line], dict(result.summary)


def test_half_and_resume_is_the_whole(tmp_path):
    whole = play(tmp_path / "whole", 600)
    play(tmp_path / "halves", 300)
    np.random.seed(0)  # noqa: NPY002
    assert play(tmp_path / "halves", 600) == whole


def test_what_a_run_returns_acts_and_is_what_was_played(rng):
    """The visits of training, of the mixture and of the last iterate are of one law."""
    env = gymnasium.make("rlentropy/ContinuousGrid-v0")
    options = {"episodes": 100, "horizon": 40, "final_episodes": 400}
    result = run(env, Config(steps=16_000, **options), np.random.default_rng(0), Log(None))
    low, high = result.summary["mixture_ci95"]
    assert result.summary["mixture_value"] == result.summary["last_iterate_value"]
    assert abs(result.summary["visit_entropy"] - (low + high) / 2) < 2 * (high - low)
    for mixture in (False, True):
        policy = load_policy(dict(result.network), env, mixture)
        assert env.action_space.contains(policy.act(env.observation_space.sample(), 0, rng))
