"""What curves say: by hand, and win rates against enumeration."""

import math

import gymnasium
import numpy as np
import pytest

from rlentropy import FiniteMDP
from rlentropy.errors import InputError
from rlentropy.preferences.evaluation import labels_to, return_at_divergence, win_rate
from rlentropy.preferences.tables import TabularTask


def test_labels_to_a_level_take_two_evaluations_in_a_row():
    labels = [16, 32, 48, 64, 80]
    assert labels_to(0.8, labels, [0.1, 0.9, 0.7, 0.8, 0.85]) == 64
    assert labels_to(0.8, labels, [0.8, 0.8, 0.1, 0.1, 0.1]) == 16
    assert labels_to(0.8, labels, [0.1, 0.9, 0.7, 0.9, 0.7]) is None
    assert labels_to(0.8, labels, [0.1, 0.1, 0.1, 0.1, 0.9]) is None  # the last stands alone
    assert labels_to(0.8, [], []) is None
    assert labels_to(0.8, [16], [0.9]) is None


def test_return_at_a_divergence_is_interpolated():
    d, v = [0.0, 1.0, 3.0, 2.0, 4.0], [0.1, 0.3, 0.7, 0.9, 0.5]
    assert return_at_divergence(2.0, d, v) == pytest.approx(0.5)  # the first time it went so far
    assert return_at_divergence(0.0, d, v) == pytest.approx(0.1)
    assert return_at_divergence(3.5, d, v) == pytest.approx(0.6)
    assert math.isnan(return_at_divergence(4.1, d, v))
    assert return_at_divergence(1.0, [1.0, 1.0], [0.2, 0.4]) == pytest.approx(0.2)
    with pytest.raises(InputError, match="divergences and returns must be"):
        return_at_divergence(1.0, [1.0], [1.0, 2.0])
    with pytest.raises(InputError, match="divergences and returns must be"):
        return_at_divergence(1.0, [], [])


def bandit():
    """One step; arm 0 pays 1, arm 1 nothing."""
    P = np.zeros((2, 2, 2))
    P[0, :, 1] = P[1, :, 1] = 1.0
    r = np.array([[1.0, 0.0], [0.0, 0.0]])
    return TabularTask.of(FiniteMDP(P, r, [1.0, 0.0], terminal=[False, True]), 1)


def test_equal_policies_win_exactly_half(rng):
    env = gymnasium.make("FrozenLake-v1", is_slippery=True)
    task = TabularTask.of(FiniteMDP.from_env(env), 8, (4, 4))
    pi = rng.dirichlet(np.ones(task.mdp.num_actions), size=task.mdp.num_states)
    assert win_rate(task, pi, pi, 200, rng) == 0.5


@pytest.mark.parametrize(("p", "q"), [(1.0, 0.0), (0.0, 1.0), (0.8, 0.3)])
def test_a_win_rate_in_closed_form(p, q, rng):
    """Of one uniform number u for both: ours wins where q <= u < p, the rest ties."""
    ours, theirs = (np.array([[x, 1.0 - x]] * 2) for x in (p, q))
    n = 20_000
    share = abs(p - q)
    expected = 0.5 + 0.5 * (p - q)
    error = 0.5 * math.sqrt(share * (1.0 - share) / n)
    assert abs(win_rate(bandit(), ours, theirs, n, rng) - expected) <= 4.0 * error
