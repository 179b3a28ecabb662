"""Rounds of whole episodes: what is recorded of them, against what was played and seen."""

import copy
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

pytest.importorskip("torch")

import rlentropy  # noqa: F401
from rlentropy.envs.batched import ArrayEnv, BatchedEnv
from rlentropy.errors import InputError
from rlentropy.exploration.features import features_of
from rlentropy.exploration.rounds import (
    FRAME_EVERY,
    Recorder,
    Rounds,
    Shared,
    check_memory,
    default_repeat,
    horizon_of,
)
from rlentropy.neural.mixtures import Mixture, head_of


class Diary(ArrayEnv):
    """A place that actions move, and the sum of all moves; ends beyond 0.5."""

    observation_space = Box(-2.0, 2.0, (2,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def draw_start(self, rng):
        return float(rng.uniform(-0.4, 0.4)), 0.0

    def advance(self, states, actions):
        moved = states + 0.1 * actions
        return moved, np.zeros(len(moved)), moved[:, 0] > 0.5


class DiaryBatch(BatchedEnv):
    single = Diary


@pytest.fixture(params=[True, False], ids=["batched", "turns"])
def env(request):
    gymnasium.register(
        "Diary-v0",
        entry_point=Diary,
        vector_entry_point=DiaryBatch if request.param else None,
        max_episode_steps=17,
    )
    yield gymnasium.make("Diary-v0")
    del gymnasium.registry["Diary-v0"]


def squashed(env, rng, K=4, T=17, repeat=3, scale=1.0):
    head = head_of("squashed", env.action_space, 3)
    flat = scale * rng.normal(size=(K, 4 * 2)).astype(np.float32)
    scaling = np.zeros((K, 2)), np.ones((K, 2))
    return Mixture(env, head, flat, (3, 2), scaling, horizon=T, repeat=repeat, timed=True)


def rounds_of(env, rng, episodes=11, T=17, bins="4,3"):
    return Rounds(env, features_of(env, bins=bins), T, episodes, rng)


@pytest.mark.parametrize("size", [11, 30])
def test_observations_follow_from_starts_and_actions(env, size, rng):
    """Held actions, replayed by hand from the first observation, lead to what is recorded."""
    rounds = rounds_of(env, rng, size)
    played = rounds.play(squashed(env, rng))
    assert played.observations.shape == (size, 18, 2)
    assert played.actions.shape == (size, 6, 1)
    assert played.points.shape == (size, 18, 2)
    assert len(set(played.lengths.tolist())) > 2
    assert played.terminated.any()
    for e in range(size):
        x = played.observations[e, 0].astype(float)
        over = 17
        for t in range(17):
            x = x + 0.1 * played.actions[e, t // 3]
            np.testing.assert_allclose(played.observations[e, t + 1], x, atol=1e-5)
            if x[0] > 0.5:
                over = t + 1
                break
        assert played.lengths[e] == over
        assert played.terminated[e] == (x[0] > 0.5)
        rest = played.observations[e, over:]
        assert (rest == rest[0]).all()
        assert (np.abs(played.observations[e, 0]) < 0.41).all()
    np.testing.assert_allclose(played.points, (played.observations + 2.0) / 4.0, atol=1e-6)
    np.testing.assert_array_equal(played.real.sum(1), played.lengths)


def test_counts_are_of_what_steps_led_to(env, rng):
    rounds = rounds_of(env, rng)
    total = np.zeros(12, int)
    for k in range(1, 4):
        played = rounds.play(squashed(env, rng))
        for e, length in enumerate(played.lengths):
            for x in played.observations[e, 1 : length + 1].astype(float):
                column = np.minimum(np.floor((x + 2) / 4 * [4, 3]).astype(int), [3, 2])
                total[3 * column[0] + column[1]] += 1
        np.testing.assert_array_equal(rounds.counts, total)
        assert rounds.env_steps == total.sum()
        assert rounds.episodes == 11 * k
        assert len(played.visits) == played.lengths.sum()


def test_rounds_that_no_memory_holds_are_refused(env, rng):
    """2 numbers of 4 bytes; of 2^14 episodes of 2^14 steps, 2 GiB and a little more."""
    with pytest.raises(InputError, match=r"horizon times episodes must be of at most 2 GiB"):
        rounds_of(env, rng, 2**14, 2**14)
    check_memory("episodes", 2**14, 2**14 - 1, env)


def test_every_episode_has_a_seed_of_its_own(env, rng):
    rounds = rounds_of(env, rng)
    starts = [rounds.play(squashed(env, rng)).observations[:, 0, 0] for _ in range(4)]
    assert len(set(np.concatenate(starts).tolist())) == 44


def test_the_same_generator_plays_the_same_rounds(env):
    pair = []
    for _ in range(2):
        rounds = rounds_of(env, np.random.default_rng(3))
        pair.append([rounds.play(squashed(env, np.random.default_rng(4))) for _ in range(2)])
    for one, two in zip(*pair, strict=True):
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a, b)


def test_batched_and_turns_play_the_same_rounds():
    """Of more episodes than are stepped in turns at once there are other draws."""
    found = []
    for batch in (DiaryBatch, None):
        gymnasium.register(
            "Diary-v0", entry_point=Diary, vector_entry_point=batch, max_episode_steps=17
        )
        env = gymnasium.make("Diary-v0")
        rounds = rounds_of(env, np.random.default_rng(3))
        assert (rounds.player.vector is None) == (batch is None)
        policy = squashed(env, np.random.default_rng(4))
        found.append([rounds.play(policy) for _ in range(3)])
        del gymnasium.registry["Diary-v0"]
    for one, two in zip(*found, strict=True):
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_state_goes_on_as_it_was(env):
    one = rounds_of(env, np.random.default_rng(3))
    one.play(squashed(env, np.random.default_rng(4)))
    two = rounds_of(env, np.random.default_rng(77))
    two.play(squashed(env, np.random.default_rng(5)))
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    policy = squashed(env, np.random.default_rng(6))
    for a, b in zip(one.play(policy), two.play(policy), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.counts, two.counts)
    for each in (one, two):
        each.close()
    film, again = one.film(), two.film()
    assert [step for step, _ in film.frames] == [step for step, _ in again.frames]


def test_a_recorder_remembers_decisions_alone(env, rng):
    policy = squashed(env, rng, repeat=4)
    recorder = Recorder(policy)
    recorder.begin(np.arange(3), rng)
    x = np.zeros((3, 2), np.float32)
    given = [recorder.act(x, np.full(3, t), rng) for t in range(9)]
    assert len(recorder.decided) == 3
    for k, decided in enumerate(recorder.decided):
        np.testing.assert_allclose(given[4 * k], decided, atol=1e-6)


@pytest.mark.parametrize(("horizon", "n"), [(200, 20), (300, 13), (4000, 1), (9000, 1), (1, 4000)])
def test_rounds_make_about_4000_steps(horizon, n, rng):
    env = gymnasium.make("rlentropy/MountainCarWalled-v0")
    rounds = Rounds(env, features_of(env), horizon, 0, rng)
    assert rounds.size == n
    rounds.close()


@pytest.mark.parametrize("bins", ["4,3", "12"])
def test_a_film_has_ever_rarer_frames_and_the_last_of_now(bins, env, rng):
    features = features_of(env, "0" if bins == "12" else "", bins=bins)
    rounds = Rounds(env, features, 17, 5, rng)
    for _ in range(60):
        rounds.play(squashed(env, rng, scale=0.1))
    film = rounds.film()
    steps = [step for step, _ in film.frames]
    assert steps[-1] == rounds.env_steps
    np.testing.assert_array_equal(film.frames[-1][1], rounds.counts)
    assert steps == sorted(set(steps))
    assert 5 < len(steps) < 25
    for before, after in pairwise(steps[:-1]):
        assert after >= FRAME_EVERY * before
    for step, counts in film.frames:
        assert counts.sum() == step
        assert counts.shape == (12,)
    assert film.axes == features.axes


# ---------------------------------------------------------------- horizons and options


def test_repeats_by_default():
    found = [default_repeat(T) for T in (1, 50, 199, 200, 299, 400, 500, 1200)]
    assert found == [1, 1, 1, 2, 2, 4, 5, 5]


def test_horizons(env):
    assert horizon_of(env, None) == 17
    assert horizon_of(env, 5) == 5
    assert horizon_of(Diary(), 5) == 5
    with pytest.raises(InputError, match=r"horizon must be >= 1 .*no limit.*, got none"):
        horizon_of(Diary(), None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be >= 1"),
        ({"steps": 2.5}, "steps must be"),
        ({"horizon": 0}, "horizon must be >= 1"),
        ({"episodes": -1}, "episodes must be >= 0"),
        ({"evaluation_episodes": -1}, "evaluation_episodes must be >= 0"),
        ({"final_episodes": -1}, "final_episodes must be >= 0"),
        ({"mixture_size": 0}, "mixture_size must be >= 1"),
        ({"hidden": (16, 0)}, "hidden must be >= 1"),
        ({"resolution": 0.0}, r"resolution must be in \(0, 1\)"),
        ({"resolution": 1.0}, r"resolution must be in \(0, 1\)"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(InputError, match=message):
        Shared(**options)


def test_discrete_actions_are_recorded_by_their_index(rng):
    class Named(Diary):
        action_space = Discrete(3, start=5)

        def advance(self, states, actions):
            assert set(np.ravel(actions).tolist()) <= {5, 6, 7}
            return super().advance(states, np.asarray(actions)[:, None] - 6.0)

    env = Named()
    head = head_of("softmax", env.action_space, 3)
    scaling = np.zeros((1, 2)), np.ones((1, 2))
    flat = np.zeros((1, 4 * 3), np.float32)
    policy = Mixture(env, head, flat, (3, 3), scaling, horizon=9, repeat=2, timed=True)
    played = Rounds(env, features_of(env), 9, 6, rng).play(policy)
    assert set(np.ravel(played.actions).tolist()) == {0, 1, 2}
    x, first = played.observations[:, :, 0], played.lengths > 2
    moves = np.rint((x[:, 1] - x[:, 0]) * 10)
    np.testing.assert_array_equal(moves[first], played.actions[first, 0, 0] - 1)
