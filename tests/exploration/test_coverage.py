"""The harness: entropies by hand, by scipy and of known laws; what is logged and reported."""

import json
import math

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from scipy import stats
from scipy.special import digamma

pytest.importorskip("torch")

import rlentropy  # noqa: F401
from rlentropy.exploration.coverage import Harness, coverage, explore, knn_entropy
from rlentropy.exploration.features import features_of
from rlentropy.exploration.neural_random import Config, Uniform
from rlentropy.log import Log


class Space(gymnasium.Env):
    action_space = Discrete(2)

    def __init__(self, space):
        self.observation_space = space


def square(bins="4,4", high=(1.0, 1.0)):
    return features_of(Space(Box(np.zeros(2, np.float32), np.array(high, np.float32))), bins=bins)


def test_entropies_by_hand():
    """Two episodes: one in two cells, half and half; one of one step, in a third."""
    points = np.array([[[0.1, 0.1], [0.9, 0.1]], [[0.1, 0.9], [0.4, 0.4]]])
    visited = np.array([[True, True], [True, False]])
    found = coverage(square(), points, visited, 1e-3)
    assert float(found.entropy.value) == pytest.approx(math.log(3.0))
    assert found.episode == pytest.approx(0.5 * math.log(2.0))
    assert found.cells == 3
    assert found.knn is None  # of three points


def test_the_same_cell_always_has_no_entropy():
    found = coverage(square(), np.full((5, 3, 2), 0.3), np.ones((5, 3), bool), 1e-3)
    assert float(found.entropy.value) == found.episode == 0.0
    assert found.cells == 1


def test_pooled_entropy_by_scipy(rng):
    features = square("7,3")
    points = rng.beta(0.5, 2.0, (30, 40, 2))
    visited = np.arange(40) < rng.integers(1, 41, size=30)[:, None]
    found = coverage(features, points, visited, 1e-3)
    x = points[visited]
    counts = np.histogramdd(x, (7, 3), [(0, 1), (0, 1)])[0]
    assert float(found.entropy.value) == pytest.approx(stats.entropy(counts.ravel()), rel=1e-12)
    single = [
        stats.entropy(np.histogramdd(row[there], (7, 3), [(0, 1), (0, 1)])[0].ravel())
        for row, there in zip(points, visited, strict=True)
    ]
    assert found.episode == pytest.approx(np.mean(single), rel=1e-12)
    assert found.cells == np.count_nonzero(counts)
    assert found.episode < float(found.entropy.value)


def test_intervals_cover_the_entropy_of_the_law(rng):
    """Episodes that stay near a centre of their own: of 300 intervals about 95 % cover."""
    features = square("4,1")
    p = np.array([0.4, 0.3, 0.2, 0.1])
    truth, hits, narrow, runs = stats.entropy(p), 0, 0, 300
    for _ in range(runs):
        own = rng.choice(4, p=p, size=(60, 1))
        fresh = rng.choice(4, p=p, size=(60, 8))
        cell = np.where(rng.random((60, 8)) < 0.7, own, fresh)
        points = np.stack([(cell + rng.random(cell.shape)) / 4.0, rng.random(cell.shape)], axis=-1)
        found = coverage(features, points, np.ones((60, 8), bool), 1e-3).entropy
        hits += bool(found.low <= truth <= found.high)
        narrow += float(found.high - found.low)
    assert hits / runs > 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs) - 0.02
    assert narrow / runs < 0.4


def test_neighbours_of_uniform_draws_in_their_own_units(rng):
    """log 12 on a box of 3 x 4, biased upwards a little by its edges."""
    features = square(high=(3.0, 4.0))
    points = rng.random((100, 80, 2))
    found = coverage(features, points, np.ones((100, 80), bool), 1e-3).knn
    assert float(found.low) < float(found.value) < float(found.high)
    error = float(found.high - found.low) / 4
    assert -4 * error < float(found.value) - math.log(12.0) < 0.03 + 4 * error


def test_neighbours_are_of_other_episodes_and_steps_far_apart(rng):
    """By brute force, of episodes of 1 to 70 steps of which at most 30 count."""
    features, points = square(high=(2.0, 1.0)), rng.random((6, 70, 2))
    lengths = [70, 1, 30, 31, 7, 64]
    visited = np.arange(70) < np.array(lengths)[:, None]
    chosen = [sorted({int((i + 0.5) / 30 * n) for i in range(30)}) for n in lengths]
    assert [len(steps) for steps in chosen] == [30, 1, 30, 30, 7, 30]
    terms = []
    for e, steps in enumerate(chosen):
        others = [points[f, t] for f in range(6) if f != e for t in chosen[f]]
        for t in steps:
            radius = max(sorted(math.dist(points[e, t], x) for x in others)[3], 0.05)
            terms.append(math.log(len(others)) - digamma(4) + math.log(math.pi * radius**2))
    found = knn_entropy(features, points, visited, 0.05)
    assert float(found.value) == pytest.approx(np.mean(terms) + math.log(2.0), abs=1e-9)


def test_too_few_points_of_others_have_no_density():
    features, points = square(), np.full((2, 9, 2), 0.25)
    assert knn_entropy(features, points, np.arange(9) < [[9], [3]], 1e-2) is None
    assert knn_entropy(features, points[:1], np.ones((1, 9), bool), 1e-2) is None
    assert knn_entropy(features, points, np.arange(9) < [[9], [4]], 1e-2) is not None


def test_places_that_are_hit_again_are_as_dense_as_the_resolution():
    points = np.full((4, 10, 2), 0.25)
    found = knn_entropy(square(), points, np.ones((4, 10), bool), 1e-2)
    slow = math.log(30) - digamma(4) + math.log(math.pi * 1e-4)
    assert float(found.value) == pytest.approx(slow, abs=1e-9)


def test_states_have_no_density(rng):
    features = features_of(Space(Discrete(5)))
    points = features.points(rng.integers(5, size=60)).reshape(6, 10, 1)
    found = coverage(features, points, np.ones((6, 10), bool), 1e-3)
    assert found.knn is None
    counts = np.bincount((points.ravel() * 5).astype(int), minlength=5)
    assert float(found.entropy.value) == pytest.approx(stats.entropy(counts))


# ---------------------------------------------------------------- the harness


class Walk(gymnasium.Env):
    """Five places in a row, from the middle one; falling off ends the episode."""

    observation_space, action_space = Discrete(5, start=1), Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = 3
        return self.s, {}

    def step(self, action):
        self.s += 2 * int(action) - 1
        off = not 1 <= self.s <= 5
        self.s = min(max(self.s, 1), 5)
        return self.s, 0.0, off, False, {}


def occupancy(horizon):
    """Of states that steps of a random walk lead to, with those of falling off, pooled, (5,)."""
    d, alive = np.zeros(5), np.eye(5)[2]
    for _ in range(horizon):
        after = np.zeros(5)
        for s in range(5):
            for step in (-1, 1):
                there = s + step
                d[min(max(there, 0), 4)] += 0.5 * alive[s]
                if 0 <= there <= 4:
                    after[there] += 0.5 * alive[s]
        alive = after
    return d / d.sum()


def explorer(env, config, horizon=6):
    features = features_of(env)
    return features, Uniform(env, features, horizon, config, np.random.default_rng(1))


def test_scores_of_a_random_walk(rng):
    """Against its exact occupancy; the plug-in's bias is 4 / 2n, n about 7000 dependent visits."""
    config = Config(horizon=6, episodes=10, final_episodes=2000)
    features, agent = explorer(Walk(), config)
    harness = Harness(Walk(), features, 6, config, 5)
    truth = stats.entropy(occupancy(6))
    for found in harness.scores(agent, 2000):
        half = float(found.entropy.high - found.entropy.low) / 2
        assert half < 0.05
        assert abs(float(found.entropy.value) - truth) < 2.5 * half
        assert found.knn is None


def test_scores_depend_on_the_seed_and_the_step_alone(rng):
    config = Config(horizon=6, episodes=10)
    features, agent = explorer(Walk(), config)

    def value(seed, step):
        return Harness(Walk(), features, 6, config, seed).score(agent.policy(), 30, step)

    assert value(5, 10) == value(5, 10)
    assert value(5, 10) != value(5, 11)
    assert value(5, 10) != value(6, 10)


def test_the_mixture_and_the_last_iterate_play_from_the_same_seeds():
    config = Config(horizon=6, episodes=10)
    features, agent = explorer(Walk(), config)
    both = Harness(Walk(), features, 6, config, 5).scores(agent, 30)
    assert both.mixture == both.last  # of neural-random they are one policy


def test_fewer_episodes_on_the_way_where_they_take_turns():
    """Short ones are so many that they have 10 000 steps, and 20 000 at the end."""
    grid, config = gymnasium.make("rlentropy/ContinuousGrid-v0"), Config(episodes=10)
    for env, horizon, episodes, final in (
        (Walk(), 2000, 20, 200),
        (grid, 2000, 100, 200),
        (Walk(), 6, 1667, 3334),
        (grid, 50, 200, 400),
    ):
        harness = Harness(env, features_of(env), horizon, config, 5)
        assert (harness.episodes, harness.final_episodes) == (episodes, final)
    asked = Config(episodes=10, evaluation_episodes=3, final_episodes=4)
    harness = Harness(grid, features_of(grid), 50, asked, 5)
    assert (harness.episodes, harness.final_episodes) == (3, 4)


SUMMARY = {
    "objective", "value", "value_is_exact", "mixture_value", "mixture_ci95", "last_iterate_value",
    "last_iterate_ci95", "knn_entropy", "knn_ci95", "episode_value", "cells_visited", "num_cells",
    "features", "feature_ranges", "bins", "env_steps", "episodes", "steps", "horizon",
    "visit_entropy", "evaluation_episodes",
}  # fmt: skip


def explored(env, tmp_path, steps=300, **options):
    config = Config(**({"horizon": 6, "episodes": 10, "steps": steps} | options))
    log, made = Log(tmp_path), []

    def make(*arguments):
        made.append(Uniform(*arguments))
        return made[0]

    result = explore(env, config, make, np.random.default_rng(2), log)
    (agent,) = made
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    return result, agent, lines


def test_what_is_reported(tmp_path):
    result, agent, lines = explored(Walk(), tmp_path)
    summary = result.summary
    assert set(summary) == SUMMARY
    json.dumps(summary, allow_nan=False)
    assert summary["knn_entropy"] is None
    assert summary["knn_ci95"] is None
    assert summary["objective"] == "AVE_S"
    assert summary["value"] == summary["last_iterate_value"]
    assert summary["bins"] == [5]
    assert summary["num_cells"] == 5
    assert summary["feature_ranges"] == [[0.5, 5.5]]
    assert summary["env_steps"] == agent.rounds.counts.sum() >= 300
    assert summary["visit_entropy"] == pytest.approx(stats.entropy(agent.rounds.counts))
    assert summary["evaluation_episodes"] == 3334
    low, high = summary["mixture_ci95"]
    assert low < high
    film = result.film
    assert film.axes == (("state", 0.5, 5.5, 5),)
    np.testing.assert_array_equal(film.frames[-1][1], agent.rounds.counts)
    tags = {line["tag"] for line in lines}
    assert {
        "eval/mixture_entropy", "eval/last_iterate_entropy", "eval/episode_entropy",
        "eval/cells_visited", "eval/visit_entropy",
    } <= tags  # fmt: skip
    assert "eval/knn_entropy" not in tags


def test_a_density_is_reported_where_there_is_one(tmp_path):
    result, _, lines = explored(gymnasium.make("rlentropy/ContinuousGrid-v0"), tmp_path)
    assert set(result.summary) == SUMMARY
    low, high = result.summary["knn_ci95"]
    assert low < result.summary["knn_entropy"] < high
    assert "eval/knn_entropy" in {line["tag"] for line in lines}
