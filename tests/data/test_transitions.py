"""Transitions: how they are drawn, counted, and made of episodes."""

import gymnasium
import numpy as np
import pytest
from examples.datasets import KEYS, MAKERS, made, tabular_arrays
from gymnasium.spaces import Box, Discrete
from hypothesis import given
from hypothesis import strategies as st

from rlentropy import data as offline
from rlentropy.data import Transitions
from rlentropy.errors import InputError

# ---------------------------------------------------------------- streaming


def test_batches_are_uniform_and_follow_their_generator():
    data = made("tabular", N=20)
    draws = data.batches(1000, np.random.default_rng(5))
    first = [next(draws) for _ in range(20)]
    again = data.batches(1000, np.random.default_rng(5))
    for batch in first:
        for x, y in zip(batch, next(again), strict=True):
            np.testing.assert_array_equal(x, y)
    rewards = np.concatenate([batch.rewards for batch in first])
    counts = np.array([(rewards == r).sum() for r in data.rewards])
    assert counts.sum() == 20_000
    assert (abs(counts - 1000) < 5 * np.sqrt(1000)).all()


def test_a_generator_that_is_restored_goes_on_with_the_same_batches():
    data, rng = made("tabular"), np.random.default_rng(0)
    draws = data.batches(8, rng)
    next(draws)
    state = rng.bit_generator.state
    wanted = next(draws)
    rng = np.random.default_rng(1)
    rng.bit_generator.state = state
    np.testing.assert_array_equal(next(data.batches(8, rng)).rewards, wanted.rewards)


# ---------------------------------------------------------------- tabular counts


def loop_counts(x, S, A):
    n, r = np.zeros((S * A, S)), np.zeros((S * A, S))
    terminal, starts, fresh = np.zeros(S, bool), np.zeros(S, int), True
    for s, a, reward, s2, terminated, truncated in zip(*(x[k] for k in KEYS), strict=True):
        n[s * A + a, s2] += 1
        r[s * A + a, s2] += reward
        terminal[s2] |= terminated
        starts[s] += fresh
        fresh = terminated or truncated
    return n, r, terminal, starts


@given(seed=st.integers(0, 1000), S=st.integers(2, 6), A=st.integers(1, 3))
def test_counts_are_those_of_a_loop(seed, S, A):
    arrays = tabular_arrays(60, S, A, seed)
    arrays["observations"] = np.where(arrays["observations"] == 0, 1, arrays["observations"])
    x2, ends = arrays["next_observations"], arrays["truncations"]
    x2[:-1] = np.where(ends[:-1], x2[:-1], arrays["observations"][1:])
    arrays["terminations"] = ends & (x2 == 0)  # only state 0 ends episodes, and always does
    data = Transitions.from_arrays(**arrays)
    n, r, terminal, starts = loop_counts(arrays, S, A)
    found = data.counts(S, A)
    np.testing.assert_array_equal(found.transitions.toarray(), n)
    np.testing.assert_allclose(found.rewards.toarray(), r, atol=1e-12)
    np.testing.assert_array_equal(found.terminal, terminal)
    np.testing.assert_array_equal(found.starts, starts)
    assert found.starts.sum() == len(data.returns()) == len(data.episode_starts)


def test_counts_subtract_the_first_element_of_a_space():
    arrays = tabular_arrays()
    wanted = Transitions.from_arrays(**arrays).counts(6, 3)
    moved = arrays | {k: arrays[k] + 4 for k in ("observations", "next_observations")}
    moved["actions"] = arrays["actions"] - 2
    spaces = {"observation_space": Discrete(6, start=4), "action_space": Discrete(3, start=-2)}
    found = Transitions.from_arrays(**moved, **spaces).counts()
    np.testing.assert_array_equal(found.transitions.toarray(), wanted.transitions.toarray())
    np.testing.assert_array_equal(found.starts, wanted.starts)


def test_counts_of_small_integers_do_not_overflow():
    arrays = tabular_arrays(600, 200, 3)
    wanted = Transitions.from_arrays(**arrays).counts(200, 3)
    small = arrays | {k: arrays[k].astype(np.uint8) for k in ("observations", "actions")}
    small["next_observations"] = arrays["next_observations"].astype(np.uint8)
    found = Transitions.from_arrays(**small).counts(200, 3)
    assert (found.transitions != wanted.transitions).nnz == 0


def loop_ends(x, S, A):
    """Counts and rewards (S*A, S, 2), the last axis for transitions that went on and that ended."""
    n, r = np.zeros((2, S * A, S, 2))
    for s, a, reward, s2, terminated, _ in zip(*(x[k] for k in KEYS), strict=True):
        n[s * A + a, s2, int(terminated)] += 1
        r[s * A + a, s2, int(terminated)] += reward
    return n, r


@given(seed=st.integers(0, 1000))
def test_ends_that_are_no_function_of_the_successor_are_counted_apart(seed):
    S, A, rng = 5, 2, np.random.default_rng(seed)
    arrays = tabular_arrays(80, S, A, seed)
    ends = arrays["truncations"]
    arrays["terminations"] = ends & (rng.random(80) < 0.5)
    found = Transitions.from_arrays(**arrays).counts(S, A)
    n, r = loop_ends(arrays, S, A)
    at_terminal = n * found.terminal[:, None]
    np.testing.assert_array_equal(found.transitions.toarray(), n[..., 0] + at_terminal[..., 1])
    np.testing.assert_array_equal(found.ends.toarray(), (n - at_terminal)[..., 1])
    total = found.rewards.toarray() + found.end_rewards.toarray()
    np.testing.assert_allclose(total, r.sum(-1), atol=1e-12)
    passed = n[..., 0].any(0) | n.any((1, 2)).reshape(S, A).any(1)
    assert not (found.terminal & passed).any()


def test_a_state_that_data_leave_is_not_terminal():
    # An episode ends where it began; and one that begins in the end of the other stays there.
    for r, terminal in ((1.0, [False, False]), (0.0, [False, True])):
        o, a, o2 = np.array([[0, 0, 1], [1, 0, 0], [1, 0, 1]]).T
        rewards, terminations = np.array([1.0, 1.0, r]), np.array([True, True, True])
        data = Transitions.from_arrays(
            o[::2], a[::2], rewards[::2], o2[::2], *[terminations[:2]] * 2
        )
        np.testing.assert_array_equal(data.counts(2, 1).terminal, terminal)
    data = Transitions.from_arrays(o, a, rewards, o2, terminations, terminations)
    assert not data.counts(2, 1).terminal.any()  # 1 -> 0 pays


@pytest.mark.parametrize(
    ("spaces", "why"),
    [
        ({"observation_space": Discrete(4 * 10**9 + 1)}, "states up to 4000000000 and actions up"),
        ({"action_space": Discrete(10**12)}, "and actions up to 999999999999, which take"),
        ({"observation_space": Discrete(10**12, start=-5)}, "states up to 999999999994 and"),
    ],
)
def test_tables_that_do_not_fit_in_memory_are_refused_before_it_is_taken(spaces, why, monkeypatch):
    monkeypatch.setattr(offline.transitions, "available_memory", lambda: 2**35)
    data = Transitions.from_arrays(**tabular_arrays(), **spaces)
    with pytest.raises(InputError, match=f"{why}.*number the ids that occur"):
        data.counts()


def test_counts_refuse_other_spaces():
    with pytest.raises(InputError, match="actions must be of a space that is Discrete with at mos"):
        made("tabular").counts(6, 2)
    with pytest.raises(InputError, match="observations must be of a space that is Discrete, got"):
        made("continuous").counts()


def test_terminations_at_one_length_are_suspected():
    def limit(lengths, terminated, truncated=0):
        ends = np.zeros(sum(lengths), bool)
        ends[np.cumsum(lengths) - 1] = True
        cut = ends & (np.cumsum(ends) <= truncated)
        x, a = np.zeros(ends.size), np.zeros(ends.size, int)
        return Transitions.from_arrays(x, a, x, x, ends & ~cut, cut).suspected_limit()

    assert limit([20] * 5, True) == 20
    assert limit([3, 20, 20, 7, 20, 20, 20], True) == 20
    assert limit([20] * 4, True) is None
    assert limit([6] * 20, True) is None  # a short way to the goal
    assert limit([20] * 6, True, truncated=1) is None
    assert limit([20, 20, 20, 20, 20, 21], True) is None


# ---------------------------------------------------------------- types and shapes of columns


def test_returns_are_sums_over_episodes():
    data = made("tabular", N=24)
    np.testing.assert_array_equal(data.episode_starts, [0, 7, 14, 21])
    r = data.rewards
    np.testing.assert_allclose(
        data.returns(), [r[:7].sum(), r[7:14].sum(), r[14:21].sum(), r[21:].sum()]
    )


# ---------------------------------------------------------------- refusals


def cut(kind, key):
    arrays = MAKERS[kind]()
    return arrays | {key: arrays[key][:-1]}


def test_check_spaces_against_an_environment():
    tabular = made("tabular")
    found = tabular.check_spaces(Discrete(8), Discrete(4))  # guessed: may well be larger
    assert (found.observation_space, found.action_space) == (Discrete(8), Discrete(4))
    with pytest.raises(
        InputError, match=r"observations must be of Discrete\(9\), got data of Disc"
    ):
        found.check_spaces(Discrete(9), Discrete(4))
    with pytest.raises(InputError, match=r"actions must be in Discrete\(2\)"):
        tabular.check_spaces(Discrete(8), Discrete(2))
    with pytest.raises(InputError, match="observations must be"):
        tabular.check_spaces(Box(0.0, 1.0, (4,)), Discrete(4))
    env = gymnasium.make("CartPole-v1")
    with pytest.raises(InputError, match=r"observations must be \(N, \*shape\) with the shape \(4"):
        made("continuous").check_spaces(env.observation_space, env.action_space)


# ---------------------------------------------------------------- episodes and Minari


class Episode:
    def __init__(self, x, a, r, terminations, truncations):
        self.observations, self.actions, self.rewards = x, a, r
        self.terminations, self.truncations = terminations, truncations


def test_episodes_become_transitions():
    first = Episode([0, 1, 2], [1, 0], [0.5, 1.0], [False, True], [False, False])
    second = Episode([2, 0], [1], [2.0], [False], [True])
    data = Transitions.from_episodes([first, second], action_space=Discrete(2))
    np.testing.assert_array_equal(data.observations, [0, 1, 2])
    np.testing.assert_array_equal(data.next_observations, [1, 2, 0])
    np.testing.assert_array_equal(data.terminations, [False, True, False])
    np.testing.assert_array_equal(data.truncations, [False, False, True])
    np.testing.assert_array_equal(data.returns(), [1.5, 2.0])


@pytest.mark.parametrize(
    ("episodes", "why"),
    [
        ([], "data must hold at least one transition"),
        ([Episode([0, 1], [1, 0], [0, 0], [0, 1], [0, 0])], r"episode 0 must hold T \+ 1 obs"),
        ([Episode([0, 1], [1], [0], [0], [0])], "got neither in episode 0"),
        ([Episode({"x": [0, 1]}, [1], [0], [1], [0])], "episode 0 must hold arrays, got a dict"),
        ([Episode([0, 1], None, [0], [1], [0])], "episode 0 must hold arrays, got"),
        ([Episode([0, 1], [1], 0.0, [1], [0])], r"got \[2, 1, 0, 1, 1\]"),
        ([Episode([[0], [1, 2]], [1], [0], [1], [0])], "observations must be an array of numbers"),
        ([Episode([0, 1], [None], [0], [1], [0])], "episode 0 must hold real numbers, got object"),
        ([Episode([0, 1], ["left"], [0], [1], [0])], "must hold real numbers, got <U4"),
        (
            [
                Episode([0, 1], [1], [0], [1], [0]),
                Episode([0.5, 1.0], [1], [0], [1], [0]),
            ],
            "observations must have one shape and type in all episodes",
        ),
    ],
)
def test_episodes_that_are_refused(episodes, why):
    with pytest.raises(InputError, match=why):
        Transitions.from_episodes(episodes)


def test_episodes_may_differ_where_nothing_is_lost():
    first = Episode([0, 1], [1], [0.5], [False], [True])
    empty = Episode([3], [], [], [], [])
    narrow = Episode(np.array([1, 2], np.int32), np.array([0], np.uint8), [1], [1], [0])
    data = Transitions.from_episodes([first, empty, narrow])
    np.testing.assert_array_equal(data.observations, [0, 1])
    np.testing.assert_array_equal(data.rewards, [0.5, 1.0])
    assert data.observations.dtype == np.int64
