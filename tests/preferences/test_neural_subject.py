"""Networks as subjects of campaigns: advantages from pools, references, scores, resuming."""

import copy

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete
from scipy.stats import spearmanr

torch = pytest.importorskip("torch")

from rlentropy.log import Log  # noqa: E402
from rlentropy.neural.copies import replicate  # noqa: E402
from rlentropy.neural.spaces import make_head  # noqa: E402
from rlentropy.preferences.neural import SegmentPolicy, untrained  # noqa: E402
from rlentropy.preferences.neural_features import RandomFeatures  # noqa: E402
from rlentropy.preferences.neural_rollouts import SharedStarts  # noqa: E402
from rlentropy.preferences.neural_subject import NeuralSubject, advantage_features  # noqa: E402
from rlentropy.preferences.segments import Pairs, Segments  # noqa: E402
from rlentropy.preferences.training import Training  # noqa: E402

# ---------------------------------------------------------------- advantages without luck

CELLS, T = 13, 8


def walk(slip):
    """P (13, 2, 13) of a walk on a line to the left or right, which slips the other way."""
    P = np.zeros((CELLS, 2, CELLS))
    for s in range(CELLS):
        for a, step in enumerate((-1, 1)):
            for move, p in ((step, 1.0 - slip), (-step, slip)):
                P[s, a, min(max(s + move, 0), CELLS - 1)] += p
    return P


def played(P, n, rng, start=CELLS // 2):
    """Segments of the uniform policy; observations are one number, in [-1, 1]."""
    cells, actions = np.full((n, T + 1), start), rng.integers(2, size=(n, T))
    for t in range(T):
        u = rng.random((n, 1))
        cells[:, t + 1] = (P[cells[:, t], actions[:, t]].cumsum(1) < u).sum(1)
    seen = (2.0 * cells / (CELLS - 1) - 1.0).astype(np.float32)
    states = np.stack([seen, seen**2], axis=2)  # (n, T + 1, 2)
    part = Segments(states, actions[:, :, None], np.zeros((n, T)), np.full(n, T),
                    np.zeros(n, bool), np.zeros(n, np.int64))  # fmt: skip
    return cells, part


def features(rng, size=24):
    return RandomFeatures(make_head(Discrete(2)), (np.zeros(2), 0.5 * np.ones(2)), size, rng)


def true_advantages(P, psi, w, cells, part):
    """Σ A of each segment of the uniform policy under r = w·ψ(s, a), by dense recursion, (n,)."""
    all_cells = (2.0 * np.arange(CELLS) / (CELLS - 1) - 1.0).astype(np.float32)
    seen = np.stack([all_cells, all_cells**2], axis=1)
    r = np.stack([psi.of(seen, np.full((CELLS, 1), a)) @ w for a in range(2)], axis=1)
    V, total = np.zeros(CELLS), np.zeros(len(part))
    for t in reversed(range(T)):
        Q = r + P @ V
        V = Q.mean(1)
        s, a = cells[:, t], part.actions[:, t, 0]
        total += Q[s, a] - V[s]
    return total


def test_advantages_rank_like_returns_where_nothing_is_left_to_chance(rng):
    P, psi = walk(0.0), features(rng)
    cells, part = played(P, 800, rng)
    found = advantage_features(psi, part)
    assert found.shape == (800, psi.size)
    for _ in range(5):
        w = rng.normal(size=psi.size)
        returns, advantages = psi.sums(part) @ w, found @ w
        true = true_advantages(P, psi, w, cells, part)
        assert np.corrcoef(true, returns)[0, 1] == pytest.approx(1.0)  # R = V(s_0) + Σ A
        assert spearmanr(advantages, returns).statistic > 0.93


def test_advantages_are_nearer_to_the_true_ones_than_returns_with_luck(rng):
    P, psi = walk(0.4), features(rng)
    cells, part = played(P, 800, rng)
    found = advantage_features(psi, part)
    better = []
    for _ in range(10):
        w = rng.normal(size=psi.size)
        true = true_advantages(P, psi, w, cells, part)
        by_return = np.corrcoef(true, psi.sums(part) @ w)[0, 1]
        by_advantage = np.corrcoef(true, found @ w)[0, 1]
        better.append(by_advantage - by_return)
    assert min(better) > 0.0
    assert np.mean(better) > 0.1


def test_advantages_are_linear_know_no_order_and_no_padding(rng):
    P, psi = walk(0.4), features(rng, 6)
    _, part = played(P, 60, rng)
    lengths = rng.integers(1, T + 1, 60)
    part = Segments(part.states, part.actions, part.rewards, lengths, lengths < T, part.starts)
    found = advantage_features(psi, part)
    order = rng.permutation(60)
    np.testing.assert_allclose(advantage_features(psi, part.take(order)), found[order], atol=1e-6)
    states, actions = part.states.copy(), part.actions.copy()
    for i, length in enumerate(lengths):
        states[i, length + 1 :], actions[i, length:] = 9.0, 1
    other = Segments(states, actions, part.rewards, lengths, lengths < T, part.starts)
    np.testing.assert_array_equal(advantage_features(psi, other), found)


# ---------------------------------------------------------------- a campaign's subject

CART, LENGTH = "CartPole-v1", 12


def subject_of(env_id=CART, seed=0, **options):
    kwargs = {"is_slippery": True} if env_id.startswith("Frozen") else {}
    env = gymnasium.make(env_id, **kwargs)
    rng = np.random.default_rng(seed)
    starts = SharedStarts(replicate(env, 8, 0.0, None))
    training = options.pop("training", Training(epochs=2))
    policy = SegmentPolicy(untrained(env, (8,), rng), 0.02)
    psi = RandomFeatures(policy.head, policy.scaling, 10, rng)
    return NeuralSubject(policy, starts, psi, training, LENGTH, evaluations=16, **options)


def labelled(subject, rng, n=16):
    pairs = subject.roll_out(subject.prompts(n, rng), rng)
    return pairs, rng.integers(2, size=n) * 1.0


def learn(subject, rng, rounds=1):
    parts, answers = [], []
    for _ in range(rounds):
        pairs, y = labelled(subject, rng)
        subject.learn(pairs, y, len(y), rng)
        parts.append(pairs)
        answers.append(y)
    return parts, answers


def test_at_the_reference(rng):
    subject = subject_of()
    pairs, _ = labelled(subject, rng)
    assert pairs.same_start.all()
    assert not subject.margins(pairs).any()
    score = subject.score()
    assert score["kl"] == 0.0
    assert score["win_rate"] == 0.5  # the same noise: every pair ties
    assert score == subject.score()
    assert score["return"] == pytest.approx(score["length"])  # CartPole pays 1 a step


def test_margins_and_features_turn_round_with_a_pair(rng):
    subject = subject_of()
    learn(subject, rng)
    pairs, _ = labelled(subject, rng)
    assert subject.margins(pairs).any()
    np.testing.assert_array_equal(subject.margins(pairs.swapped()), -subject.margins(pairs))
    x = subject.features(pairs)
    np.testing.assert_array_equal(subject.features(pairs.swapped()), -x)
    longer = pairs.a.lengths - pairs.b.lengths  # the reference is uniform over two actions
    np.testing.assert_allclose(x[:, -1], -np.log(2.0) * longer, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(subject.duplicates(Pairs(pairs.a, pairs.a)), True)
    beta = subject.training.beta
    ratios = [subject.policy.log_ratios(part) for part in (pairs.a, pairs.b)]
    np.testing.assert_allclose(subject.margins(pairs), beta * (ratios[0] - ratios[1]))


def test_values_differ_from_gaps_where_dynamics_are_random_alone(rng):
    subject = subject_of()
    assert subject.deterministic
    pairs, _ = labelled(subject, rng)
    x = subject.features(pairs)
    w = rng.normal(size=(3, x.shape[1]))
    assert not subject.saw_chance
    icy = subject_of("FrozenLake-v1")
    assert not icy.deterministic
    pairs, _ = labelled(icy, rng)
    x = icy.features(pairs)
    values = icy.values(pairs, x, w)
    assert values.shape == (3, 16)
    np.testing.assert_allclose(icy.values(pairs.swapped(), -x, w), -values, atol=1e-6)


def test_the_entropy_of_a_uniform_policy_is_log_2_a_step(rng):
    subject = subject_of()
    scores = subject.prompt_scores(subject.prompts(20, rng), rng)
    assert scores.shape == (20,)
    assert (scores <= LENGTH * np.log(2) + 1e-5).all()
    assert scores.max() == pytest.approx(LENGTH * np.log(2), rel=1e-5)


def test_divergence_and_offline_stay_with_the_first_reference(rng):
    """Also where training moves on from it after each round."""
    for training in (Training(epochs=2), Training(epochs=2, update_reference=True)):
        subject = subject_of(training=training, offline=True)
        start = [w.copy() for layer in subject.policy.acting().layers for w in layer]
        fresh = subject_of(offline=True)
        learn(subject, rng, rounds=3)
        prompts = subject.prompts(16, rng)
        one, two = (
            s.roll_out(prompts, np.random.default_rng(4)).query_ids() for s in (subject, fresh)
        )
        assert one == two
        one, two = (s.prompt_scores(prompts, np.random.default_rng(4)) for s in (subject, fresh))
        np.testing.assert_array_equal(one, two)
        for w, kept in zip(
            (w for layer in subject.original.layers for w in layer), start, strict=True
        ):
            np.testing.assert_array_equal(w, kept)
        segments = subject._evaluation_segments()
        present, first = (p.steps(segments).log_pi.sum(1) for p in (subject.policy, fresh.policy))
        assert subject.score()["kl"] == pytest.approx((present - first).mean())
        assert subject.score()["kl"] != 0.0


def test_online_rollouts_come_from_the_policy(rng):
    subject, fresh = subject_of(), subject_of()
    learn(subject, rng, rounds=3)
    prompts = subject.prompts(16, rng)
    one, two = (s.roll_out(prompts, np.random.default_rng(4)).query_ids() for s in (subject, fresh))
    assert one != two


def test_a_restart_is_the_reference_bit_for_bit(rng):
    subject = subject_of()
    pairs, y = labelled(subject, rng)
    flat = subject.policy.network.flat.detach().numpy()
    before = flat.copy()
    subject.learn(pairs, y, len(y), rng)
    after = flat.copy()
    assert (after != before).any()
    subject.policy.reset()
    np.testing.assert_array_equal(flat, before)
    restarted = subject_of(training=Training(epochs=2, restart=True))
    for _ in range(2):
        restarted.learn(pairs, y, len(y), rng)
        np.testing.assert_array_equal(restarted.policy.network.flat.detach().numpy(), after)


def from_disk(state, folder):
    """The state as a checkpoint brings it back."""
    log = Log(folder)
    log.checkpoint(state)
    log.close()
    return Log(folder).restore()


@pytest.mark.parametrize("training", [{}, {"update_reference": True}, {"train": "all"}])
def test_a_state_goes_on_to_the_same_bits(training, tmp_path):
    options = {"epochs": 2, **training}
    one, two = (subject_of(training=Training(**options)) for _ in range(2))
    rng = np.random.default_rng(0)
    learn(one, rng, rounds=2)
    state, twin_rng = from_disk(one.state_dict(), tmp_path), copy.deepcopy(rng)
    two.load_state_dict(state)
    for subject, its in ((one, rng), (two, twin_rng)):
        learn(subject, its, rounds=2)
    np.testing.assert_array_equal(
        one.policy.network.flat.detach().numpy(), two.policy.network.flat.detach().numpy()
    )
    assert one.score() == two.score()
    pairs, _ = labelled(one, np.random.default_rng(1))
    np.testing.assert_array_equal(one.margins(pairs), two.margins(pairs))
