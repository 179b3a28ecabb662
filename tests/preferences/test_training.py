"""Rounds of training: which labels, how long, from where."""

import itertools
import math

import numpy as np
import pytest

from rlentropy.errors import InputError
from rlentropy.preferences.losses import preference_loss
from rlentropy.preferences.segments import Pairs, Segments
from rlentropy.preferences.training import Training, fit, mixed, round_shares


def numbered(n):
    """Pairs that are known by their start."""
    part = Segments(np.zeros((n, 2), int), np.zeros((n, 1), int), np.zeros((n, 1)),
                    np.ones(n, int), np.ones(n, bool), np.arange(n))  # fmt: skip
    return Pairs(part, part)


class Spy:
    """A learner that writes down what it is told, with losses that are given."""

    def __init__(self, losses=()):
        self.said, self.losses = [], itertools.chain(losses, itertools.repeat(1.0))

    def labelled(self, pairs, shared_start=True):
        self.shared_start = shared_start
        return pairs.a.starts.tolist()

    def learn(self, labelled, y, loss):
        assert len(y) == len(labelled)
        self.said.append((labelled, y.tolist(), loss))
        return next(self.losses)

    def reset(self):
        self.said.append("reset")

    def fresh_optimiser(self):
        self.said.append("fresh")

    def rebase(self):
        self.said.append("rebase")


def fitted(spy, sizes=(2, 3), rng=None, **options):
    n = sum(sizes)
    y = np.arange(n) / n
    training = Training(**{"epochs": 1, **options})
    return fit(spy, numbered(n), y, np.array(sizes), training, rng or np.random.default_rng(0))


def trained_on(spy):
    return [x[0] for x in spy.said if isinstance(x, tuple)]


# ---------------------------------------------------------------- shares of rounds


@pytest.mark.parametrize("r", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("rounds", [1, 2, 7])
def test_round_shares_in_closed_form(r, rounds):
    """v = 1 / w obeys v_p = c (1 + v_{p-1}), c = 1 / (1 + r), whose fixed point is 1 / r.

    So v_p = 1 / r + (1 - 1 / r) c^p, and at r = 0 p + 1.
    """
    c = 1.0 / (1.0 + r)
    w = [1 / (p + 1) if r == 0 else 1 / (1 / r + (1 - 1 / r) * c**p) for p in range(rounds)]
    expected, left = [], 1.0
    for p in reversed(range(rounds)):
        expected.insert(0, w[p] * left)
        left *= 1.0 - w[p]
    found = round_shares(rounds, r)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found.sum() == pytest.approx(1.0)
    assert (found >= 0.0).all()
    assert (np.diff(found) >= -1e-12).all()  # newer rounds never get less


def test_the_ends_of_mixing():
    np.testing.assert_allclose(round_shares(5, 0.0), 0.2)
    np.testing.assert_allclose(round_shares(5, 1.0), [0, 0, 0, 0, 1])
    with pytest.raises(InputError, match=r"mixing must be in \[0, 1\], got 3"):
        Training(mixing=3.0)


def test_mixed_epochs_draw_rounds_by_their_shares(rng):
    sizes, draws, r = np.array([6, 4, 5]), 4000, 0.5
    counts = np.zeros(15)
    first = np.zeros(15)
    for _ in range(draws):
        chosen = mixed(sizes, r, rng)
        assert len(chosen) == len(set(chosen.tolist())) == 5
        counts[chosen] += 1
        first[chosen[0]] += 1
    assert (counts > 0).all()
    share = np.add.reduceat(first / draws, [0, 6, 10])  # of the first draw, which nothing precedes
    expected = round_shares(3, r)
    error = np.sqrt(expected * (1.0 - expected) / draws)
    assert (np.abs(share - expected) <= 4.0 * error).all()


def test_mixing_with_all_weight_on_the_newest(rng):
    assert sorted(mixed(np.array([6, 3]), 1.0, rng).tolist()) == [6, 7, 8]
    assert sorted(mixed(np.array([4]), 0.3, rng).tolist()) == [0, 1, 2, 3]
    assert len(mixed(np.array([2, 9]), 0.0, rng)) == 9  # as many as the newest round has


# ---------------------------------------------------------------- a round


def test_the_newest_round_or_all():
    spy = Spy()
    fitted(spy, epochs=2)
    assert trained_on(spy) == [[2, 3, 4]] * 2
    assert spy.said[0][1] == [0.4, 0.6, 0.8]
    spy = Spy()
    fitted(spy, train="all")
    assert trained_on(spy) == [[0, 1, 2, 3, 4]]
    assert spy.said[0][1] == [0.0, 0.2, 0.4, 0.6, 0.8]


def test_where_a_round_starts_and_ends():
    for options, before, after in [
        ({}, [], []),
        ({"fresh_optimiser": True}, ["fresh"], []),
        ({"restart": True}, ["reset"], []),
        ({"restart": True, "fresh_optimiser": True}, ["reset"], []),
        ({"update_reference": True}, [], ["rebase"]),
        ({"restart": True, "update_reference": True}, ["reset"], ["rebase"]),
    ]:
        spy = Spy()
        fitted(spy, epochs=3, **options)
        assert [x if isinstance(x, str) else "learn" for x in spy.said] == (
            before + ["learn"] * 3 + after
        )


def test_mixed_rounds_keep_answers_with_their_pairs(rng):
    spy = Spy()
    fitted(spy, (20, 5), rng, epochs=30, mixing=0.0)
    seen = trained_on(spy)
    assert {len(x) for x in seen} == {5}
    assert len({tuple(x) for x in seen}) > 20
    for chosen, y, _ in spy.said:
        np.testing.assert_allclose(y, np.array(chosen) / 25)


def test_a_round_stops_early_below_a_share_of_the_largest_average():
    losses = [1.0, 2.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    average, largest, stop = None, 0.0, None
    for k, x in enumerate(losses):
        average = x if average is None else 0.9 * average + 0.1 * x
        largest = max(largest, average)
        if average < 0.7 * largest:
            stop = k + 1
            break
    assert stop == 6
    spy = Spy(losses)
    figures = fitted(spy, epochs=10, early_stop=0.7)
    assert len(trained_on(spy)) == 6
    assert figures == {"train/loss": 1.0, "train/final_loss": 0.1}
    spy = Spy([1.0, 0.0, 0.0])
    fitted(spy, epochs=10)
    assert len(trained_on(spy)) == 10  # 0 never stops


def test_the_loss_is_the_one_that_is_asked_for(rng):
    a, b, y = rng.normal(size=3), rng.normal(size=3), np.array([1.0, 0.0, 0.5])
    training = Training(loss="cpl", beta=0.4, label_smoothing=0.1, conservative=0.5)
    for x, z in zip(
        training.loss_function(a, b, y),
        preference_loss("cpl", a, b, y, beta=0.4, smoothing=0.1, conservative=0.5),
        strict=True,
    ):
        np.testing.assert_array_equal(x, z)
    for loss, shared in (("dpo", True), ("ipo", True), ("cpl", False)):
        spy = Spy()
        fitted(spy, loss=loss)
        assert spy.shared_start is shared
    assert Training().loss_function(np.zeros(1), np.zeros(1), np.ones(1)).value[0] == pytest.approx(
        math.log(2)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge"}, "loss must be one of dpo, cpl, ipo"),
        ({"beta": 0.0}, "dpo_beta must be > 0"),
        ({"label_smoothing": 0.6}, "label_smoothing must be in"),
        ({"conservative": 0.0}, "conservative must be in"),
        ({"train": "old"}, "train must be one of newest, all"),
        ({"epochs": 0}, "epochs must be"),
        ({"mixing": -0.1}, "mixing must be in"),
        ({"early_stop": 1.0}, "early_stop must be in"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        Training(**options)
