"""Segments and pairs: what counts, what is padding, and hashes that know the difference."""

import dataclasses

import numpy as np
import pytest

from rlentropy.errors import InputError
from rlentropy.preferences.segments import (
    Pairs,
    Segments,
    alive,
    check_starts,
    joined,
    joined_pairs,
    query_id,
)

T = 5


def segments(rng, n=6, width=None, lengths=None):
    shape = (n, T + 1) if width is None else (n, T + 1, width)
    lengths = rng.integers(0, T + 1, n) if lengths is None else np.asarray(lengths)
    states = rng.integers(9, size=shape) if width is None else rng.normal(size=shape)
    actions = rng.integers(3, size=(n, T) if width is None else (n, T, 2))
    rewards = rng.normal(size=(n, T))
    return Segments(states, actions, rewards, lengths, lengths < T, rng.integers(9, size=n))


def padded_otherwise(part, rng):
    """The same segments with other numbers behind their ends."""
    states, actions, rewards = (
        np.array(x, copy=True) for x in (part.states, part.actions, part.rewards)
    )
    for i, length in enumerate(part.lengths):
        states[i, length + 1 :] = rng.integers(9, size=states[i, length + 1 :].shape)
        actions[i, length:] = rng.integers(3, size=actions[i, length:].shape)
        rewards[i, length:] = np.nan
    return dataclasses.replace(part, states=states, actions=actions, rewards=rewards)


def test_streams_go_along_and_hashes_do_not_know_them(rng):
    part = segments(rng)
    np.testing.assert_array_equal(part.streams, np.zeros(6, np.int64))
    streamed = dataclasses.replace(part, streams=np.arange(6))
    assert streamed.digests() == part.digests()
    np.testing.assert_array_equal(streamed.take([4, 1]).streams, [4, 1])
    both = joined([streamed.take([2]), part.take([3, 0])])
    np.testing.assert_array_equal(both.streams, [2, 0, 0])


def test_a_segment_that_ends_with_its_third_action_has_three_steps():
    np.testing.assert_array_equal(
        alive([3, 0, 5], 5), [[1, 1, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
    )


@pytest.mark.parametrize("width", [None, 3])
def test_sums_and_ends_by_hand(width, rng):
    part = segments(rng, width=width)
    for i, length in enumerate(part.lengths):
        assert part.returns[i] == pytest.approx(sum(part.rewards[i, t] for t in range(length)))
        np.testing.assert_array_equal(part.last[i], part.states[i, length])
        assert part.mask[i].tolist() == [t < length for t in range(T)]
    assert len(part) == 6
    some = part.take([4, 1])
    np.testing.assert_array_equal(some.states, part.states[[4, 1]])
    np.testing.assert_array_equal(some.starts, part.starts[[4, 1]])
    np.testing.assert_array_equal(some.returns, part.returns[[4, 1]])


@pytest.mark.parametrize("width", [None, 3])
def test_padding_changes_nothing(width, rng):
    part, other = segments(rng, width=width), segments(rng, width=width)
    again = padded_otherwise(part, rng)
    assert not np.array_equal(part.actions, again.actions)
    np.testing.assert_array_equal(part.returns, again.returns)
    np.testing.assert_array_equal(part.last, again.last)
    assert part.digests() == again.digests()
    assert Pairs(part, again).identical.all()
    assert Pairs(part, other).query_ids() == Pairs(again, other).query_ids()
    np.testing.assert_array_equal(
        Pairs(part, other).identical, Pairs(again, padded_otherwise(other, rng)).identical
    )


@pytest.mark.parametrize("change", ["state", "action", "length", "terminated", "start"])
def test_what_counts_changes_the_hash(change, rng):
    part = segments(rng, n=1, lengths=[3])
    changed = dataclasses.replace(
        part, **{name: np.array(getattr(part, name)) for name in ("states", "actions", "lengths")}
    )
    if change == "state":
        changed.states[0, 3] += 1
    elif change == "start":
        changed.states[0, 0] += 1
    elif change == "action":
        changed.actions[0, 2] += 1
    elif change == "length":
        changed.lengths[0] = 2
    else:
        changed = dataclasses.replace(part, terminated=~part.terminated)
    assert part.digests() != changed.digests()
    if change != "terminated":
        assert not Pairs(part, changed).identical.any()


def test_pairs(rng):
    pairs = Pairs(segments(rng), segments(rng))
    swapped = pairs.swapped()
    assert len(pairs) == 6
    np.testing.assert_allclose(pairs.gaps, pairs.a.returns - pairs.b.returns)
    np.testing.assert_array_equal(swapped.gaps, -pairs.gaps)
    assert pairs.query_ids() == swapped.query_ids()
    assert len(set(pairs.query_ids())) == 6
    assert all(len(key) == 32 and int(key, 16) >= 0 for key in pairs.query_ids())
    assert query_id("x", "y") == query_id("y", "x") != query_id("x", "x")
    np.testing.assert_array_equal(pairs.take([2]).b.states, pairs.b.states[[2]])


def test_identical_is_said_of_equal_segments_alone(rng):
    """Against a comparison of the lists that segments show."""
    part = segments(rng, n=200, lengths=rng.integers(0, 2, 200))
    other = segments(rng, n=200, lengths=rng.integers(0, 2, 200))
    pairs = Pairs(part, other)

    def shown(x, i):
        n = x.lengths[i]
        return x.states[i, : n + 1].tolist(), x.actions[i, :n].tolist()

    expected = [shown(part, i) == shown(other, i) for i in range(200)]
    assert 0 < sum(expected) < 200
    np.testing.assert_array_equal(pairs.identical, expected)


def test_starts_that_differ_are_refused(rng):
    part = segments(rng, n=3)
    check_starts(Pairs(part, part))
    states = part.states.copy()
    states[1, 0] += 1
    with pytest.raises(InputError, match=r"pairs must start in one state each.* got 1 of 3"):
        check_starts(Pairs(part, dataclasses.replace(part, states=states)))
    seen = segments(rng, n=3, width=2)
    moved = np.array(seen.states)
    moved[2, 0, 1] += 1e-9  # one number of an observation is enough
    pairs = Pairs(seen, dataclasses.replace(seen, states=moved))
    assert pairs.same_start.tolist() == [True, True, False]


def test_batches_are_joined_in_order(rng):
    parts = [segments(rng, n) for n in (2, 0, 3)]
    whole = joined(parts)
    assert len(whole) == 5
    assert whole.digests() == parts[0].digests() + parts[2].digests()
    pairs = joined_pairs([Pairs(p, p) for p in parts])
    assert pairs.b.digests() == whole.digests()
    short = Segments(*(getattr(parts[0], f.name)[:, :-1] if f.name in ("states", "actions",
                       "rewards") else getattr(parts[0], f.name)
                       for f in dataclasses.fields(Segments)))  # fmt: skip
    with pytest.raises(InputError, match="parts must be segments of one length, got"):
        joined([parts[0], short])
    with pytest.raises(InputError, match="parts must be segments of one length, got"):
        joined([])
