"""MaxEnt with networks: its rewards, the order of its rounds, its mixture."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

torch = pytest.importorskip("torch")

import rlentropy  # noqa: E402, F401
from rlentropy.errors import InputError  # noqa: E402
from rlentropy.exploration.features import features_of  # noqa: E402
from rlentropy.exploration.neural_maxent import (  # noqa: E402
    Config,
    NeuralMaxEnt,
    cell_rewards,
    load_policy,
    run,
)
from rlentropy.log import Log  # noqa: E402

SMALL = {"hidden": (16,), "episodes": 6, "horizon": 25, "evaluation_episodes": 5, "updates": 5}
SMALL |= {"final_episodes": 5, "oracle_rounds": 2, "batch_size": 32}


class Line(gymnasium.Env):
    """The whole numbers from -20 to 20, from 0 on; an action moves by -1, 0 or 1."""

    observation_space = Box(-20.0, 20.0, (1,), np.float32)
    action_space = Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.x = min(max(self.x + int(action) - 1, -20), 20)
        return np.array([self.x], np.float32), 0.0, False, False, {}


def grid():
    return gymnasium.make("rlentropy/ContinuousGrid-v0")


def agent_of(env, rng, **options):
    config = Config(**(SMALL | options))
    return NeuralMaxEnt(env, features_of(env, bins=config.bins), config.horizon, config, rng)


def test_rewards_are_the_gradient_of_the_smoothed_entropy(rng):
    d, h = rng.dirichlet(np.ones(6)), 1e-6
    d[0], d[1] = 0.0, d[0] + d[1]
    for smoothing in (1e-3, 0.1):
        value = lambda d, s=smoothing: -(d * np.log(d + s)).sum()  # noqa: E731
        slow = [(value(d + h * e) - value(d - h * e)) / (2 * h) for e in np.eye(6)]
        np.testing.assert_allclose(cell_rewards(d, smoothing, "gradient"), slow, rtol=1e-5)
        np.testing.assert_allclose(cell_rewards(d, smoothing, "log"), -np.log(d + smoothing))


def test_rounds_of_an_oracle_then_fresh_episodes_of_what_it_found(rng):
    """The density is the mean of the frequencies of fresh episodes alone, the reward theirs."""
    agent = agent_of(grid(), rng)
    fresh, sizes, done = [], [], []
    for k in range(7):
        before = agent.rounds.counts.copy()
        rewards = agent.rewards.copy()
        figures = agent.advance(1)
        visits = agent.rounds.counts - before
        if k % 3 == 0:
            assert figures is None
            fresh.append(visits / visits.sum())
            d = np.mean(fresh, axis=0)
            np.testing.assert_allclose(agent.density, d, atol=1e-15)
            np.testing.assert_allclose(agent.rewards, cell_rewards(d, 1e-4, "gradient"))
            assert agent.replay.visits.shape[0] == 0
        else:
            assert set(figures) == {"train/q_loss", "train/reward_deviation"}
            np.testing.assert_array_equal(agent.rewards, rewards)
        sizes.append(len(agent.members.parameters))
        done.append(agent.done)
    assert sizes == [1, 1, 1, 2, 2, 2, 3]
    assert done == [150 * k for k in range(1, 8)]


def test_states_are_paid_what_their_cells_are(rng):
    agent = agent_of(grid(), rng)
    agent.advance(1)
    points = np.array([[0.01, 0.01], [0.99, 0.99]], np.float32)
    paid = -agent.unpaid(points)
    assert paid[1] == pytest.approx(-np.log(1e-4))  # never visited
    assert paid[0] == agent.rewards[0]


def test_an_oracle_begins_anew_or_goes_on(rng):
    for warm in (False, True):
        agent = agent_of(grid(), rng, warm_start=warm)
        agent.advance(1)
        for _ in range(2):
            agent.advance(1)
        learnt = agent.sampler.acting()
        assert np.abs(learnt).max() > 0.0
        agent.advance(1)
        np.testing.assert_array_equal(agent.last_network, learnt)
        np.testing.assert_array_equal(agent.members.parameters[-1], learnt)
        acting = agent.sampler.acting()
        if warm:
            np.testing.assert_array_equal(acting, learnt)
            assert len(agent.replay.visits) == 4 * 150
        else:
            assert (acting[-(16 + 1) * 9 :] == 0.0).all()  # uniform again
            assert len(agent.replay.visits) == 0


def test_an_oracle_goes_where_the_mixture_was_not(rng):
    """A random walk of 60 steps is seldom beyond 15 on a line of 41; the first oracle is."""
    options = {"horizon": 60, "episodes": 20, "hidden": (32,), "updates": 60, "bins": "41"}
    options |= {"oracle_rounds": 6, "batch_size": 128, "action_repeat": 3}
    agent = agent_of(Line(), rng, **options)
    agent.advance(1)
    outer = np.abs(np.arange(41) - 20) > 15
    walked = agent.density[outer].sum()
    for _ in range(7):
        agent.advance(1)
    found = 2 * agent.density[outer].sum() - walked  # of the second policy alone
    assert found > walked + 0.1


def play(folder, steps, env=None, **options):
    log = Log(folder)
    config = Config(steps=steps, **(SMALL | options))
    result = run(env or grid(), config, np.random.default_rng(3), log)
    log.close()
    network = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in result.network.items()}
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [line for line in lines if "per_second" not in line], network, dict(result.summary)


@pytest.mark.parametrize("options", [{}, {"sampler": "actor-critic", "warm_start": True}])
@pytest.mark.parametrize("half", [450, 600])
def test_half_and_resume_is_the_whole(tmp_path, options, half):
    whole = play(tmp_path / "whole", 1200, **options)
    play(tmp_path / "halves", half, **options)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    assert play(tmp_path / "halves", 1200, **options) == whole


def test_what_a_run_returns_acts(rng):
    env = grid()
    result = run(env, Config(steps=1000, **SMALL), np.random.default_rng(0), Log(None))
    assert result.summary["env_steps"] == 1050
    assert len(result.network["flat"]) == 3 + 1  # three policies, and the last again
    np.testing.assert_array_equal(result.network["flat"][-1], result.network["flat"][-2])
    for mixture in (False, True):
        policy = load_policy(dict(result.network), env, mixture)
        policy.begin(np.arange(1), rng)
        assert env.action_space.contains(policy.act(env.observation_space.sample(), 0, rng))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"oracle_rounds": 0}, "oracle_rounds must be >= 1"),
        ({"smoothing": 0.0}, "smoothing must be > 0"),
        ({"reward": "kde"}, "reward must be one of gradient, log"),
        ({"temperature": 0.0}, "temperature must be > 0"),
        ({"sampler": "ppo"}, "sampler must be one of"),
        ({"gamma": 0.0}, r"gamma must be in \(0, 1\]"),
        ({"polyak": 2.0}, r"polyak must be in \(0, 1\]"),
        ({"learning_rate": 0.0}, "learning_rate must be > 0"),
        ({"action_grid": 1}, "action_grid must be >= 2"),
        ({"action_repeat": -1}, "action_repeat must be >= 0"),
        ({"updates": -1}, "updates must be >= 0"),
        ({"batch_size": -1}, "batch_size must be >= 0"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(InputError, match=message):
        Config(**options)
