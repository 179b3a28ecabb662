"""Noise on what is observed, as a wrapper around any environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from rlentropy.types import Env


class ObservationNoise(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Adds normal noise to observations, from a generator of its own, seeded by `reset`."""

    def __init__(self, env: Env, deviation: float) -> None:
        RecordConstructorArgs.__init__(self, deviation=deviation)
        super().__init__(env)
        self.deviation, self.rng = deviation, np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None:
            self.rng = np.random.default_rng([seed, 1])
        observation, info = self.env.reset(seed=seed, options=options)
        return self.noisy(observation), info

    def step(self, action: Any) -> Any:
        observation, *rest = self.env.step(action)
        return self.noisy(observation), *rest

    def noisy(self, observation: Any) -> Any:
        exact = np.asarray(observation)
        noise = self.deviation * self.rng.standard_normal(exact.shape)
        return (exact + noise).astype(self.observation_space.dtype)
