"""Worlds that are slow, that break, and that take their process with them."""

import os
import signal
import time

import gymnasium
from gymnasium.spaces import Discrete


class World(gymnasium.Env):
    observation_space, action_space = Discrete(3), Discrete(2)

    def __init__(self, flaw="none"):
        self.flaw, self.episodes = flaw, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episodes += 1
        if self.episodes == 3 and self.flaw == "raises":
            raise RuntimeError("the world broke")
        if self.episodes == 3 and self.flaw == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        return 0, {}

    def step(self, action):
        time.sleep(0.01 * (self.flaw == "slow"))
        return int(self.np_random.integers(3)), 0.0, False, False, {}


gymnasium.register("Sweep/World-v0", World)
