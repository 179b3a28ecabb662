"""Histogram entropies of what random actions visit, counted from scratch."""

import gymnasium
import numpy as np

import rlentropy  # noqa: F401  (registers the ids)


def plug_in(counts):
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def random_visits(env_id, draw, n=200, **kwargs):
    """(pooled entropy, mean of each episode's own, bins visited) of n episodes, in nats.

    Args:
        draw: of n, gives n actions.
    """
    slots = gymnasium.make_vec(env_id, n, vectorization_mode="vector_entry_point", **kwargs)
    env = slots.unwrapped.env
    low, high = np.array(env.feature_ranges).T
    shape = np.array(env.feature_bins)
    counts = np.zeros((n, *shape))
    seen, _ = slots.reset(seed=0)
    truncated = np.zeros(n, bool)
    while not truncated.all():
        share = (env.features(seen) - low) / (high - low)
        bins = np.clip((share * shape).astype(int), 0, shape - 1)
        counts[np.arange(n), *bins.T] += 1
        seen, _, terminated, truncated, _ = slots.step(draw(n))
        assert not terminated.any()
    pooled = counts.sum(axis=0)
    return plug_in(pooled), np.mean([plug_in(own) for own in counts]), (pooled > 0).sum()
