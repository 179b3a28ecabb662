"""Datasets and environments of the tests of offline learning."""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from rlentropy.data import Transitions
from rlentropy.log import Log

# Networks that learn in no time.
SMALL = {"hidden": (16, 16), "batch_size": 32, "target_every": 5, "approximator": "neural"}

# State 2 ends an episode after (2, 1), and after (0, 1), which pays; (1, 0) passes through it.
PASSED = [
    *[(1, 0, 2.0, 2, False), (1, 0, 0.0, 1, False), (1, 0, 1.0, 2, True), (1, 0, 1.0, 2, True)],
    *[(0, 0, 1.0, 1, False), (0, 1, 3.0, 2, True), (2, 1, 7.0, 2, True), (1, 1, -1.0, 0, False)],
    *[(2, 0, -2.0, 1, False)],
]


def dataset(mdp, N, seed, horizon=200):
    """Uniform actions in episodes of `horizon` steps."""
    rng = np.random.default_rng(seed)
    S, A = mdp.num_states, mdp.num_actions
    cumulative = np.cumsum(mdp.P.toarray().reshape(S, A, S), axis=2)
    s = rng.choice(S, N // horizon, p=mdp.mu)
    rows = []
    for _ in range(horizon):
        a = rng.integers(A, size=s.size)
        after = (cumulative[s, a] < rng.random(s.size)[:, None]).sum(1)
        rows.append((s, a, mdp.r[s, a], after))
        s = after
    o, a, r, o2 = (np.stack(column, 1).ravel() for column in zip(*rows, strict=True))
    ends = np.arange(1, o.size + 1) % horizon == 0
    spaces = {"observation_space": Discrete(S), "action_space": Discrete(A)}
    return Transitions.from_arrays(o, a, r, o2, np.zeros(o.size, bool), ends, **spaces)


def table(*rows, S=3, A=2):
    """Transitions (s, a, r, s', terminated), an episode each."""
    o, a, r, o2, terminated = map(np.array, zip(*rows, strict=True))
    spaces = {"observation_space": Discrete(S), "action_space": Discrete(A)}
    terminated = terminated.astype(bool)
    return Transitions.from_arrays(o, a, r.astype(float), o2, terminated, ~terminated, **spaces)


def boxed(seed=0, N=600, actions="discrete"):
    """A made-up dataset with two-dimensional observations."""
    rng = np.random.default_rng(seed)
    o, o2 = rng.normal(size=(2, N, 2)).astype(np.float32)
    if actions == "discrete":
        a, space = rng.integers(3, size=N), Discrete(3)
    else:
        a, space = rng.uniform(-2, 2, (N, 1)).astype(np.float32), Box(-2.0, 2.0, (1,))
    terminated = rng.random(N) < 0.1
    spaces = {"observation_space": Box(-np.inf, np.inf, (2,)), "action_space": space}
    return Transitions.from_arrays(o, a, rng.normal(size=N), o2, terminated, ~terminated, **spaces)


def extreme(observations=1.0, rewards=1.0, actions=None):
    rng = np.random.default_rng(0)
    x, a = rng.normal(size=(50, 2)), rng.integers(2, size=50)
    ends = np.ones(50, bool)
    a = a if actions is None else a[:, None] * actions
    return Transitions.from_arrays(
        x * observations, a, x[:, 0] * rewards, x * observations, ends, ~ends
    )


def learnt(module, data, seed=0, env=None, log=None, **options):
    config = module.Config(**({"holdout": 0.0} | options))
    return module.run(data, config, np.random.default_rng(seed), log or Log(None), env)


class Coin(gymnasium.Env):
    """The spaces of the made-up data."""

    observation_space = Box(-np.inf, np.inf, (2,))
    action_space = Discrete(3)


class Bandit(gymnasium.Env):
    """One step of the made-up data."""

    observation_space = Box(-1.0, 1.0, (1,))
    action_space = Box(-1.0, 1.0, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.x, {}

    def step(self, action):
        return self.x.copy(), float(1.0 - (action[0] - self.x[0]) ** 2), True, False, {}
