"""What was played, against slow loops over its episodes."""

import numpy as np
import pytest

pytest.importorskip("torch")

from rlentropy.exploration.replay import Growing, Replay, centred_rewards
from rlentropy.exploration.rounds import Round

LENGTHS = np.array([11, 1, 4, 5, 8, 10, 2])  # T = 11: whole, one step, in and at decisions' ends


def some_round(rng, lengths=LENGTHS, T=11, K=4):
    n, D = len(lengths), -(-T // K)
    lengths = np.asarray(lengths)
    return Round(
        rng.normal(size=(n, T + 1, 3)).astype(np.float32),
        rng.integers(9, size=(n, D, 1)),
        rng.random((n, T + 1, 2)),
        lengths,
        lengths < T,
    )


def slow_decisions(rounds, T, K):
    """One after the other: (observation, t, action, points, next observation, next t, last)."""
    found = []
    for r in rounds:
        for e, length in enumerate(r.lengths.tolist()):
            t, j = 0, 0
            while t < length:
                stop = min(t + K, T)
                led = [r.points[e, s] for s in range(t + 1, min(stop, length) + 1)]
                over = length <= stop
                here, there = r.observations[e, t], r.observations[e, stop]
                found.append((here, t, r.actions[e, j], led, there, stop, over))
                t, j = stop, j + 1
    return found


def filled(rng, rounds=3, T=11, K=4):
    replay, played = Replay(T, K), []
    for _ in range(rounds):
        played.append(some_round(rng, rng.permutation(LENGTHS.clip(max=T)), T, K))
        replay.add(played[-1])
    return replay, played


@pytest.mark.parametrize(("T", "K"), [(11, 4), (11, 1), (12, 4), (11, 11), (3, 5), (1, 1)])
def test_decisions_of_all_episodes(T, K, rng):
    replay, played = filled(rng, T=T, K=K)
    slow = slow_decisions(played, T, K)
    found = replay.sample(10_000, rng)  # each once, in order
    assert len(found.t) == len(slow)
    for i, (seen, t, action, led, seen_next, t_next, last) in enumerate(slow):
        np.testing.assert_array_equal(found.observations[i], seen)
        np.testing.assert_array_equal(found.actions[i], action)
        np.testing.assert_array_equal(found.next_observations[i], seen_next)
        assert (found.t[i], found.next_t[i], bool(found.last[i])) == (t, t_next, last)
        assert found.real[i].tolist() == [k < len(led) for k in range(K)]
        np.testing.assert_array_equal(found.points[i][found.real[i]], led)
    assert found.points.shape == (len(slow), K, 2)


def test_a_sample_is_uniform_over_decisions(rng):
    replay, played = filled(rng)
    slow = slow_decisions(played, 11, 4)
    place = {row[0].tobytes(): i for i, row in enumerate(slow)}
    counts = np.zeros(len(slow))
    calls, n = 400, len(slow) - 1
    for _ in range(calls):
        for row in replay.sample(n, rng).observations:
            counts[place[row.tobytes()]] += 1
    p, draws = 1.0 / len(slow), calls * n
    assert counts.sum() == draws
    assert np.abs(counts / draws - p).max() < 4.5 * np.sqrt(p * (1 - p) / draws)


def test_a_sample_depends_on_its_generator_alone(rng):
    replay, _ = filled(rng)
    one, two = (replay.sample(5, np.random.default_rng(7)) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_visits_are_the_states_that_steps_led_to_in_order(rng):
    replay, played = filled(rng)
    slow = [
        r.points[e, t]
        for r in played
        for e in range(len(LENGTHS))
        for t in range(1, r.lengths[e] + 1)
    ]
    np.testing.assert_array_equal(replay.visits, slow)
    assert len(replay.visits) == 3 * LENGTHS.sum()


def test_a_replay_has_no_visits_before_the_first(rng):
    assert len(Replay(11, 4).visits) == 0


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_rows_grow_in_an_array_that_doubles(dtype, rng):
    growing, parts, stores = Growing(), [], 0
    for size in (3, 1, 1, 5, 0, 30, 2, *[1] * 200):
        part = rng.normal(size=(size, 2)).astype(dtype)
        before = id(growing.store)
        growing.add(part)
        stores += id(growing.store) != before
        parts.append(part)
        np.testing.assert_array_equal(growing.rows, np.concatenate(parts))
        assert growing.rows.dtype == dtype
    assert stores <= 8


def test_a_state_goes_on_as_it_was(rng):
    replay, _ = filled(rng)
    state = {name: rows.copy() for name, rows in replay.state_dict().items()}
    twin = Replay(11, 4)
    twin.add(some_round(rng))  # what it had before is gone
    twin.load_state_dict(state)
    more = some_round(rng)
    for each in (replay, twin):
        each.add(more)
    np.testing.assert_array_equal(twin.visits, replay.visits)
    for n in (10, 10_000):
        pair = [each.sample(n, np.random.default_rng(1)) for each in (replay, twin)]
        for a, b in zip(*pair, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


def test_a_state_of_nothing_is_nothing(rng):
    twin = Replay(11, 4)
    twin.add(some_round(rng))
    twin.load_state_dict(Replay(11, 4).state_dict())
    assert len(twin.visits) == 0
    played = some_round(rng)
    twin.add(played)
    np.testing.assert_array_equal(twin.visits, played.visits)


def test_rewards_by_hand():
    log_density = np.array([[-1.0, -2.0, 5.0], [0.5, 7.0, 7.0], [-3.0, -3.0, -3.0]])
    real = np.array([[True, True, False], [True, False, False], [True, True, True]])
    found = centred_rewards(log_density, real, 1.25)
    np.testing.assert_allclose(found, [0.5, -1.75, 5.25])


def test_centred_rewards_of_all_visits_sum_to_0(rng):
    replay, _ = filled(rng)
    found = replay.sample(10_000, rng)
    log_density = rng.normal(size=found.real.shape)
    centre = -log_density[found.real].mean()
    assert centred_rewards(log_density, found.real, centre).sum() == pytest.approx(0.0, abs=1e-9)
