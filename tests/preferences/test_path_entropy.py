"""Entropies of paths against the enumeration of every path, and estimates against what they are of.

The oracles walk dense kernels path by path and share nothing with the recursions.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles.episodic import shannon
from oracles.models import dense, random_mdp, random_policy

from rlentropy.mdp import FiniteMDP
from rlentropy.preferences import path_entropy as pe

seeds = st.integers(0, 2**32 - 1)


def model(rng, S=3, A=2, successors=None, ends=1) -> FiniteMDP:
    """A random model whose last `ends` states are terminal."""
    m = random_mdp(rng, S, A, successors)
    terminal = np.arange(S) >= S - ends
    m.P[terminal] = np.eye(S)[terminal][:, None, :]
    return FiniteMDP(*m.args, terminal=terminal)


def paths(mdp, pi, s, t=0):
    """Every path of positive probability from s: [(states, actions, probability)]."""
    if t == len(pi) or mdp.terminal[s]:
        return [((s,), (), 1.0)]
    P, found = dense(mdp), []
    for a in range(mdp.num_actions):
        for s2 in range(mdp.num_states):
            p = pi[t, s, a] * P[s, a, s2]
            if p > 0:
                found += [((s, *x), (a, *y), p * q) for x, y, q in paths(mdp, pi, s2, t + 1)]
    return found


def over_paths(mdp, pi, score):
    """Mean and variance of score(states, actions) over the paths from each state, (S,), (S,)."""
    mean, variance = [], []
    for s in range(mdp.num_states):
        law = paths(mdp, pi, s)
        p = np.array([q for _, _, q in law])
        x = np.array([score(states, actions) for states, actions, _ in law])
        mean.append((p * x).sum())
        variance.append((p * (x - mean[-1]) ** 2).sum())
    return np.array(mean), np.array(variance)


def surprisal(pi):
    return lambda states, actions: -sum(np.log(pi[t, states[t], a]) for t, a in enumerate(actions))


def entropy_met(pi):
    return lambda states, actions: sum(shannon(pi[t, states[t]]) for t in range(len(actions)))


def sampled(mdp, pi, s, n, rng):
    """log π of the actions, entropies of π, the mask, and the last states of n paths from s."""
    T, P = len(pi), dense(mdp)
    log_p, h, mask = np.full((n, T), np.nan), np.full((n, T), np.nan), np.zeros((n, T), bool)
    now = np.full(n, s)

    def draw(p):
        return (p.cumsum(-1) < rng.random((n, 1))).sum(-1).clip(max=p.shape[-1] - 1)

    for t in range(T):
        mask[:, t] = ~mdp.terminal[now]
        a = draw(pi[t, now])
        with np.errstate(divide="ignore"):
            log_p[:, t] = np.where(mask[:, t], np.log(pi[t, now, a]), np.nan)
        h[:, t] = np.where(mask[:, t], [shannon(p) for p in pi[t]] @ np.eye(len(P))[:, now], np.nan)
        now = np.where(mask[:, t], draw(P[now, a]), now)
    return log_p, h, mask, now


# ---------------------------------------------------------------- exact


@given(seed=seeds, ends=st.integers(0, 2))
def test_recursions_are_sums_over_every_path(seed, ends) -> None:
    rng = np.random.default_rng(seed)
    mdp, T = model(rng, ends=ends), 4
    pi, ref = random_policy(rng, T, 3, 2), random_policy(rng, T, 3, 2)
    H, W = over_paths(mdp, pi, surprisal(pi))
    np.testing.assert_allclose(pe.path_entropy(mdp, pi, T), H, rtol=0, atol=1e-12)
    np.testing.assert_allclose(pe.path_varentropy(mdp, pi, T), W, rtol=0, atol=1e-11)
    H, W = over_paths(mdp, pi, entropy_met(pi))
    np.testing.assert_allclose(pe.path_entropy(mdp, pi, T), H, rtol=0, atol=1e-12)
    np.testing.assert_allclose(pe.conditional_varentropy(mdp, pi, T), W, rtol=0, atol=1e-12)
    steps, _ = over_paths(mdp, pi, lambda states, actions: len(actions))
    np.testing.assert_allclose(pe.expected_steps(mdp, pi, T), steps, rtol=0, atol=1e-12)
    kl, _ = over_paths(mdp, pi, lambda s, a: surprisal(ref)(s, a) - surprisal(pi)(s, a))
    np.testing.assert_allclose(pe.path_divergence(mdp, pi, ref, T), kl, rtol=0, atol=1e-11)
    assert (kl >= -1e-12).all()


@given(seed=seeds)
def test_transitions_make_it_the_entropy_of_the_law_of_paths(seed) -> None:
    rng = np.random.default_rng(seed)
    mdp, T = model(rng), 3
    pi = random_policy(rng, T, 3, 2)
    joint = [shannon([p for _, _, p in paths(mdp, pi, s)]) for s in range(3)]
    np.testing.assert_allclose(pe.path_entropy(mdp, pi, T, transitions=True), joint, atol=1e-12)
    world, _ = over_paths(
        mdp,
        pi,
        lambda states, actions: sum(
            shannon(dense(mdp)[s, a]) for s, a in zip(states, actions, strict=False)
        ),
    )
    causal = pe.path_entropy(mdp, pi, T)
    np.testing.assert_allclose(joint - causal, world, rtol=0, atol=1e-12)
    fixed = model(rng, successors=1)
    both = [pe.path_entropy(fixed, pi, T, transitions=x) for x in (False, True)]
    np.testing.assert_allclose(*both, rtol=1e-13)


def test_a_uniform_policy_without_end(rng) -> None:
    mdp = model(rng, S=5, A=4, ends=0)
    uniform = np.full((5, 4), 0.25)
    H = pe.path_entropy(mdp, uniform, 12)
    np.testing.assert_allclose(H, 12 * np.log(4), rtol=1e-14)
    assert H[0] == pytest.approx(16.635532, abs=5e-7)
    np.testing.assert_allclose(pe.path_varentropy(mdp, uniform, 12), 0.0, atol=1e-25)
    np.testing.assert_allclose(pe.expected_steps(mdp, uniform, 12), 12.0, rtol=1e-14)
    for n in (1, 3):
        log_p, h, mask, _ = sampled(mdp, np.tile(uniform, (12, 1, 1)), 0, n, rng)
        for scores in (
            pe.plain_scores(log_p[None], mask[None]),
            pe.conditional_scores(h[None], mask[None]),
        ):
            np.testing.assert_allclose(scores.mean, H[:1], rtol=1e-14)


def test_a_certain_policy_and_a_terminal_start(rng) -> None:
    mdp = model(rng, S=4, A=3)
    certain = np.eye(3)[[0, 2, 1, 1]]
    for recursion in (pe.path_entropy, pe.path_varentropy, pe.conditional_varentropy):
        assert (recursion(mdp, certain, 6) == 0.0).all()
        assert recursion(mdp, random_policy(rng, 6, 4, 3), 6)[3] == 0.0
    assert pe.expected_steps(mdp, certain, 6)[3] == 0.0


def test_a_policy_that_is_uniform_over_paths() -> None:
    """Its plain score is the same on every path; what it meets on the way is not."""
    P = np.zeros((4, 2, 4))  # 0 ends by action 0; by action 1 it goes to 1, where both actions end
    P[0, 0, 3] = P[0, 1, 1] = P[1, :, 2] = 1.0
    P[2, :, 2] = P[3, :, 3] = 1.0
    mdp = FiniteMDP(P, np.zeros((4, 2)), np.eye(4)[0], terminal=np.arange(4) >= 2)
    pi = np.array([[1 / 3, 2 / 3], [0.5, 0.5], [1.0, 0.0], [1.0, 0.0]])
    assert pe.path_entropy(mdp, pi, 5)[0] == pytest.approx(np.log(3), rel=1e-14)
    assert pe.path_varentropy(mdp, pi, 5)[0] == pytest.approx(0.0, abs=1e-25)
    varies = 2 / 3 * (1 / 3) * np.log(2) ** 2  # h(s_0), and with probability 2/3 log 2 besides
    assert pe.conditional_varentropy(mdp, pi, 5)[0] == pytest.approx(varies, rel=1e-13)


@given(seed=seeds)
def test_divergence_is_zero_for_what_agrees_on_the_way(seed) -> None:
    rng = np.random.default_rng(seed)
    mdp = model(rng, S=4, successors=2)
    pi = random_policy(rng, 3, 4, 2)
    np.testing.assert_allclose(pe.path_divergence(mdp, pi, pi, 3), 0.0, atol=1e-15)
    other = pi.copy()
    other[:, 3] = other[:, 3, ::-1]  # terminal: nobody acts there
    np.testing.assert_allclose(pe.path_divergence(mdp, pi, other, 3), 0.0, atol=1e-15)
    other[2, 0] = other[2, 0, ::-1]
    assert (pe.path_divergence(mdp, pi, other, 3) >= -1e-15).all()


def test_divergence_is_infinite_only_from_where_it_is_met() -> None:
    P = np.zeros((3, 2, 3))
    P[0, 0, 0] = P[0, 1, 1] = P[1, :, 1] = P[2, :, 2] = 1.0
    mdp = FiniteMDP(P, np.zeros((3, 2)), np.eye(3)[0])
    stay, ref = (
        np.array([[1.0, 0.0], [0.5, 0.5], [0.5, 0.5]]),
        np.array([[0.5, 0.5], [1, 0], [0.5, 0.5]]),
    )
    np.testing.assert_allclose(pe.path_divergence(mdp, stay, ref, 3), [3 * np.log(2), np.inf, 0.0])
    np.testing.assert_allclose(pe.path_divergence(mdp, ref, ref, 3), 0.0)
    go = np.array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    assert pe.path_divergence(mdp, go, ref, 2)[0] == np.inf
    assert pe.path_divergence(mdp, go, ref, 1)[0] == 0.0


def test_one_policy_for_all_stages_is_the_same_policy_staged(rng) -> None:
    mdp, T = model(rng, S=6, A=3, ends=2), 7
    pi, ref = random_policy(rng, 2, 6, 3)
    staged = np.tile(pi, (T, 1, 1))
    for f in (pe.path_entropy, pe.path_varentropy, pe.conditional_varentropy, pe.outcome_entropy):
        np.testing.assert_allclose(f(mdp, pi, T), f(mdp, staged, T), rtol=1e-14)
    np.testing.assert_allclose(
        pe.path_divergence(mdp, pi, np.tile(ref, (T, 1, 1)), T), pe.path_divergence(mdp, pi, ref, T)
    )


def test_what_is_no_policy_or_horizon(rng) -> None:
    mdp = model(rng)
    uniform = np.full((3, 2), 0.5)
    with pytest.raises(ValueError, match=r"T must be >= 1, got 0"):
        pe.path_entropy(mdp, uniform, 0)
    with pytest.raises(ValueError, match=r"pi must be \(S, A\) = \(3, 2\) or"):
        pe.path_varentropy(mdp, uniform[:2], 4)
    with pytest.raises(ValueError, match=r"pi must be .*\(4, 3, 2\), got \(3, 3, 2\)"):
        pe.expected_steps(mdp, np.tile(uniform, (3, 1, 1)), 4)


# ---------------------------------------------------------------- outcomes


@given(seed=seeds)
def test_outcomes_are_images_of_paths(seed) -> None:
    rng = np.random.default_rng(seed)
    mdp, T = model(rng, S=4, successors=2), 3
    pi = random_policy(rng, T, 4, 2)
    outcome = rng.integers(-1, 2, size=4)

    def of(image):
        laws = []
        for s in range(4):
            law: dict[int, float] = {}
            for states, _, p in paths(mdp, pi, s):
                law[image[states[-1]]] = law.get(image[states[-1]], 0.0) + p
            laws.append(shannon(list(law.values())))
        return laws

    final, coarse = pe.outcome_entropy(mdp, pi, T), pe.outcome_entropy(mdp, pi, T, outcome)
    np.testing.assert_allclose(final, of(np.arange(4)), rtol=0, atol=1e-12)
    np.testing.assert_allclose(coarse, of(outcome), rtol=0, atol=1e-12)
    assert (coarse <= final + 1e-12).all()
    assert (final <= pe.path_entropy(mdp, pi, T, transitions=True) + 1e-12).all()
    np.testing.assert_allclose(pe.outcome_entropy(mdp, pi, T, np.zeros(4, int)), 0.0, atol=1e-15)


def test_outcomes_that_tell_paths_apart() -> None:
    """On a binary tree the final state is the path, whose entropy is that of the actions."""
    S, T = 15, 3
    P = np.zeros((S, 2, S))
    for s in range(S):
        for a in range(2):
            P[s, a, 2 * s + 1 + a if s < 7 else s] = 1.0
    mdp = FiniteMDP(P, np.zeros((S, 2)), np.eye(S)[0], terminal=np.arange(S) >= 7)
    pi = np.random.default_rng(3).dirichlet(np.ones(2), S)
    found = pe.outcome_entropy(mdp, pi, T)
    np.testing.assert_allclose(found, pe.path_entropy(mdp, pi, T), rtol=1e-13, atol=1e-15)


def test_what_is_no_outcome(rng) -> None:
    mdp = model(rng)
    for outcome in (np.zeros(2, int), np.zeros(3)):
        with pytest.raises(ValueError, match=r"outcome must be \(S,\) = \(3,\) whole numbers"):
            pe.outcome_entropy(mdp, np.full((3, 2), 0.5), 2, outcome)


def test_sampled_outcomes() -> None:
    labels = [[3, 3, 3, 3], [0, 1, 2, 9], [5, 5, 7, 7], [1, 1, 1, 2]]
    want = [0.0, np.log(4), np.log(2), shannon([0.75, 0.25])]
    np.testing.assert_allclose(pe.sampled_outcome_entropy(labels), want, atol=1e-15)
    with pytest.raises(ValueError, match=r"labels must be \(P, n\) with P, n >= 1, got \(3,\)"):
        pe.sampled_outcome_entropy([1, 2, 3])


# ---------------------------------------------------------------- estimates


def test_estimates_have_the_means_and_variances_of_the_recursions(rng) -> None:
    mdp, T, n = model(rng, S=6, A=3, ends=2), 8, 20_000
    pi = random_policy(rng, T, 6, 3)
    H = pe.path_entropy(mdp, pi, T)
    drawn = [sampled(mdp, pi, s, n, rng) for s in range(4)]
    log_p, h, mask, last = (np.stack(x) for x in zip(*drawn, strict=True))
    cases = (
        (pe.plain_scores(log_p, mask), pe.path_varentropy(mdp, pi, T), -np.nansum(log_p, 2)),
        (pe.conditional_scores(h, mask), pe.conditional_varentropy(mdp, pi, T), np.nansum(h, 2)),
    )
    for scores, W, x in cases:
        assert (np.abs(scores.mean - H[:4]) < 4.0 * scores.standard_error).all()
        squares = (x - x.mean(1, keepdims=True)) ** 2
        error = squares.std(1) / np.sqrt(n)  # of the sample variance, to first order
        assert (np.abs(scores.standard_error**2 * n - W[:4]) < 4.0 * error).all()
    # Frequencies are biased by (kinds - 1) / 2n, and vary as -log of their probabilities does.
    exact, few = pe.outcome_entropy(mdp, pi, T)[:4], 400
    for s, found in enumerate(pe.sampled_outcome_entropy(last[:, :few])):
        p = np.bincount(last[s]) / n
        p = p[p > 0]
        error = np.sqrt((p * (np.log(p) + (p * -np.log(p)).sum()) ** 2).sum() / few)
        assert abs(found + (p.size - 1) / (2 * few) - exact[s]) < 4.0 * error


@pytest.mark.parametrize(("P", "n", "T"), [(2, 2, 1), (5, 3, 4), (16, 8, 2), (7, 32, 3), (1, 4, 2)])
def test_scores_belong_to_their_prompts(P, n, T) -> None:
    """Each prompt has a value of its own: averages over any other blocks would mix them."""
    value = np.random.default_rng(P).permutation(P) + 0.5
    flat = np.repeat(value, n)  # all samples of prompt 0, then all of prompt 1
    log_p = pe.by_prompt(np.repeat(-flat[:, None] / T, T, axis=1), n)
    mask = np.ones((P, n, T), bool)
    for scores in (pe.plain_scores(log_p, mask), pe.conditional_scores(-log_p, mask)):
        np.testing.assert_allclose(scores.mean, value, rtol=1e-14)
        np.testing.assert_allclose(scores.standard_error, 0.0, atol=1e-14)
    np.testing.assert_array_equal(pe.by_prompt(flat, n).mean(1), value)
    if P > 1:
        sliding = np.array([flat[p : p + n].mean() for p in range(P)])  # what a published code does
        tiled = np.tile(value, n).reshape(P, n).mean(1)  # samples laid out the other way
        assert not np.allclose(sliding, value)
        assert not np.allclose(tiled, value)


def test_batches_of_any_size_give_the_same_scores(rng) -> None:
    P, n, T = 12, 4, 3
    flat = -rng.exponential(size=(P * n, T))
    mask = np.arange(T) < rng.integers(0, T + 1, size=P * n)[:, None]
    whole = pe.plain_scores(pe.by_prompt(flat, n), pe.by_prompt(mask, n))
    for size in (1, 2, 3, 6):
        parts = [
            pe.plain_scores(
                pe.by_prompt(flat[i : i + size * n], n), pe.by_prompt(mask[i : i + size * n], n)
            )
            for i in range(0, P * n, size * n)
        ]
        np.testing.assert_array_equal(np.concatenate([x.mean for x in parts]), whole.mean)
    one = [-flat[p * n + k][mask[p * n + k]].sum() for p in range(P) for k in range(n)]
    blocks = np.array(one).reshape(P, n)
    np.testing.assert_allclose(whole.mean, blocks.mean(1), rtol=1e-13)
    np.testing.assert_allclose(whole.standard_error, blocks.std(1, ddof=1) / 2.0, rtol=1e-12)


def test_a_certain_prompt_scores_below_an_uncertain_one(rng) -> None:
    certain, uniform = np.array([0.998, 0.001, 0.001]), np.full(3, 1 / 3)
    actions = np.stack([rng.choice(3, size=(8, 5), p=p) for p in (certain, uniform)])
    log_p = np.log(np.stack([certain[actions[0]], uniform[actions[1]]]))
    scores = pe.plain_scores(log_p, np.ones((2, 8, 5), bool))
    assert scores.mean[0] < scores.mean[1] == pytest.approx(5 * np.log(3))
    assert scores.mean.argmax() == 1


def test_padding_is_never_read_and_one_sample_has_no_error() -> None:
    log_p = np.array([[[-1.0, np.nan, np.inf]]])
    scores = pe.plain_scores(log_p, np.array([[[True, False, False]]]))
    assert scores.mean == 1.0
    assert np.isnan(scores.standard_error).all()


def test_what_are_no_samples() -> None:
    with pytest.raises(ValueError, match=r"log_p and mask must both be \(P, n, T\), got \(2, 3\)"):
        pe.plain_scores(np.zeros((2, 3)), np.ones((2, 3), bool))
    with pytest.raises(
        ValueError, match=r"h and mask must both be \(P, n, T\), got .* and \(2, 3, 5\)"
    ):
        pe.conditional_scores(np.zeros((2, 3, 4)), np.ones((2, 3, 5), bool))
    with pytest.raises(ValueError, match=r"values must be \(P n, …\) with n = 3, got \(7,\)"):
        pe.by_prompt(np.zeros(7), 3)
    with pytest.raises(ValueError, match="n must be >= 1, got 0"):
        pe.by_prompt(np.zeros(6), 0)


# ---------------------------------------------------------------- corrected scores


def test_entropy_a_step() -> None:
    found = pe.per_step(np.array([6.0, 0.0, 1.5]), np.array([4.0, 0.0, 1.0]))
    np.testing.assert_array_equal(found, [1.5, 0.0, 1.5])


@given(seed=seeds)
def test_strata_keep_their_means_over_calls(seed) -> None:
    rng = np.random.default_rng(seed)
    T, sums, seen = 16, None, []
    for _ in range(3):
        H, steps = rng.normal(size=30), rng.uniform(0, T, size=30)
        steps[:3] = 0.0, T, T / 2
        found, sums = pe.stratified(H, steps, T, sums)
        seen += list(zip(H, np.minimum(steps // 2, 7), strict=True))
        for i in range(30):
            alike = [x for x, k in seen if k == min(steps[i] // 2, 7)]
            assert found[i] == pytest.approx(H[i] - np.mean(alike), abs=1e-12)
    assert sums[0].sum() == 90


def test_what_has_no_strata() -> None:
    with pytest.raises(ValueError, match=r"H and steps must both be \(P,\), got \(2,\) and \(3,\)"):
        pe.stratified(np.zeros(2), np.zeros(3), 4)
    with pytest.raises(ValueError, match=r"steps must be in 0..T = 4, got 1.0 to 5.0"):
        pe.stratified(np.zeros(2), np.array([1.0, 5.0]), 4)
