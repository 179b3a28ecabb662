"""An environment of any two spaces, by name: what commands make of them is in the table."""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple

WORLD = "space_worlds:spaces/World-v0"

OBSERVATIONS = {
    "discrete": Discrete(3),
    "discrete-from-5": Discrete(3, start=5),
    "box": Box(-1.0, 1.0, (2,)),
    "unbounded": Box(-np.inf, np.inf, (2,)),
    "whole-box": Box(-3, 3, (2,), np.int64),
    "picture": Box(0, 255, (4, 4, 3), np.uint8),
    "multi-discrete": MultiDiscrete([2, 3]),
    "multi-binary": MultiBinary(2),
    "tuple": Tuple((Discrete(2), Box(-1.0, 1.0, (1,)))),
    "dict": Dict({"a": Discrete(2), "b": Dict({"c": MultiBinary(2)})}),
    "text": Text(3),
    "tuple-with-text": Tuple((Discrete(2), Text(3))),
}
WIDE = {"wide-picture": Box(0, 255, (20, 20, 3), np.uint8)}
ACTIONS = {
    "discrete": Discrete(2),
    "discrete-from-5": Discrete(2, start=5),
    "box": Box(-1.0, 1.0, (1,)),
    "unbounded": Box(-np.inf, np.inf, (1,)),
    "whole-box": Box(-3, 3, (1,), np.int64),
    "many-dimensions": Box(-1.0, 1.0, (13,)),
    "multi-discrete": MultiDiscrete([2, 3]),
    "multi-discrete-from-1": MultiDiscrete([2, 3], start=[1, 1]),
    "multi-binary": MultiBinary(2),
    "many-combinations": MultiBinary(13),
    "tuple": Tuple((Discrete(2), Discrete(2))),
    "dict": Dict({"a": Discrete(2)}),
    "text": Text(3),
}


class World(gymnasium.Env):
    """Observations are drawn anew at each step; an action out of its space is an error."""

    def __init__(self, observations="box", actions="discrete"):
        self.observation_space = (OBSERVATIONS | WIDE)[observations]
        self.action_space = ACTIONS[actions]

    def observe(self):
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observe(), {}

    def step(self, action):
        if isinstance(self.action_space, Box):
            assert np.shape(action) == self.action_space.shape
        else:
            assert self.action_space.contains(action), action
        return self.observe(), float(np.sum(action) > 0), False, False, {}


gymnasium.register(id="spaces/World-v0", entry_point=World, max_episode_steps=5)
