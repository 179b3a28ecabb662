"""Networks by way of a learnt reward, as subjects of campaigns."""

import copy

import gymnasium
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rlentropy.log import Log  # noqa: E402
from rlentropy.neural.actor_critic import ActorCritic, Config  # noqa: E402
from rlentropy.neural.copies import replicate  # noqa: E402
from rlentropy.preferences.neural import SegmentPolicy, untrained  # noqa: E402
from rlentropy.preferences.neural_features import RandomFeatures  # noqa: E402
from rlentropy.preferences.neural_rollouts import SharedStarts  # noqa: E402
from rlentropy.preferences.reward_models import RewardModels  # noqa: E402
from rlentropy.preferences.reward_subject import RewardSubject  # noqa: E402
from rlentropy.preferences.training import Training  # noqa: E402

LENGTH = 10


def subject_of(members=3):
    env, rng = gymnasium.make("CartPole-v1"), np.random.default_rng(0)
    agent = ActorCritic(env, Config(hidden=(8,)), np.random.default_rng(1))
    policy = SegmentPolicy(untrained(env, (8,), rng), 0.02)
    models = RewardModels(policy.head, policy.scaling, members, rng, (8,))
    psi = RandomFeatures(policy.head, policy.scaling, 10, rng)
    starts = SharedStarts(replicate(env, 8, 0.0, None))
    return RewardSubject(agent, models, 256, policy, starts, psi, Training(), LENGTH, evaluations=8)


def labelled(subject, rng, n=12):
    pairs = subject.roll_out(subject.prompts(n, rng), rng)
    return pairs, rng.integers(2, size=n) * 1.0


def learn(subject, rng, rounds=1):
    for _ in range(rounds):
        pairs, y = labelled(subject, rng)
        subject.learn(pairs, y, len(y), rng)


def test_before_labels_margins_are_0_and_then_the_ensemble_speaks(rng):
    subject = subject_of()
    pairs, _ = labelled(subject, rng)
    assert not subject.margins(pairs).any()
    learn(subject, rng)
    gaps, weights = subject.gaps(pairs)
    assert gaps.shape == (3, 12)
    np.testing.assert_allclose(weights, 1 / 3)
    sums = []
    for part in (pairs.a, pairs.b):
        states, actions = part.states[:, :-1].reshape(-1, 4), part.actions.reshape(-1, 1)
        mean = subject.models.rewards(states, actions).reshape(12, LENGTH)
        sums.append((mean * part.mask).sum(1))
    np.testing.assert_allclose(gaps.mean(0), sums[0] - sums[1], rtol=1e-4, atol=1e-5)
    assert (gaps.std(0) > 0.0).all()
    np.testing.assert_allclose(subject.margins(pairs), gaps.mean(0))
    np.testing.assert_allclose(subject.margins(pairs.swapped()), -gaps.mean(0), atol=1e-6)


def test_the_policy_that_plays_is_the_agents(rng):
    subject = subject_of()
    before = subject.score()
    assert before["win_rate"] == 0.5
    assert abs(before["kl"]) < 0.05  # both are about uniform
    learn(subject, rng, 2)
    segments = subject._evaluation_segments()
    ours = SegmentPolicy(subject.agent.acting(), 1.0).steps(segments).log_pi.sum(1)
    first = SegmentPolicy(subject.original, 1.0).steps(segments).log_pi.sum(1)
    assert subject.score()["kl"] == pytest.approx((ours - first).mean())
    assert subject.score() == subject.score()


def from_disk(state, folder):
    """The state as a checkpoint brings it back."""
    log = Log(folder)
    log.checkpoint(state)
    log.close()
    return Log(folder).restore()


def test_a_state_goes_on_to_the_same_bits(tmp_path):
    one, two = subject_of(), subject_of()
    rng = np.random.default_rng(0)
    learn(one, rng, 2)
    state, its = from_disk(one.state_dict(), tmp_path), copy.deepcopy(rng)
    two.load_state_dict(state)
    learn(one, rng, 2)
    learn(two, its, 2)
    assert one.score() == two.score()
    pairs, _ = labelled(one, np.random.default_rng(3))
    np.testing.assert_array_equal(one.margins(pairs), two.margins(pairs))
    np.testing.assert_array_equal(one.gaps(pairs)[0], two.gaps(pairs)[0])
