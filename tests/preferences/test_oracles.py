"""Simulated teachers against loops over single steps, closed forms and binomial errors."""

import dataclasses
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlentropy import FiniteMDP
from rlentropy.errors import InputError
from rlentropy.planning import backward_induction
from rlentropy.preferences.judges import Judge
from rlentropy.preferences.oracles import (
    Human,
    Teacher,
    Thresholds,
    answers,
    in_order,
    judged_scores,
    keyed_uniforms,
    parse_oracle,
    preference,
    resolved,
    thresholds,
    usual_return,
)
from rlentropy.preferences.segments import Pairs, Segments


def ids(n, salt=0):
    return [f"{salt:016x}{i:016x}" for i in range(n)]


def played(rng, P, r, N, T):
    """Segments of random actions that an environment may end after any step."""
    S, A = r.shape
    states, actions = np.zeros((N, T + 1), np.int64), rng.integers(A, size=(N, T))
    states[:, 0] = rng.integers(S, size=N)
    for t in range(T):
        for i in range(N):
            states[i, t + 1] = rng.choice(S, p=P[states[i, t], actions[i, t]])
    rewards = r[states[:, :-1], actions]
    lengths = rng.integers(0, T + 1, N)
    lengths[: N // 2] = T
    behind = np.arange(T) >= lengths[:, None]
    rewards[behind] = np.nan  # padding, which nobody may read
    actions[behind] = 10**6
    states[:, 1:][behind] = 10**6
    return Segments(states, actions, rewards, lengths, lengths < T, states[:, 0].copy())


# ---------------------------------------------------------------- what is judged


def test_scores_are_sums_over_single_steps(rng):
    S, A, T, H = 4, 3, 5, 8
    P, r = rng.dirichlet(np.ones(S), (S, A)), rng.normal(size=(S, A))
    segments = played(rng, P, r, 30, T)
    V, Q = np.zeros((H + 1, S)), np.zeros((H, S, A))
    for h in reversed(range(H)):
        Q[h] = r + P @ V[h + 1]
        V[h] = Q[h].max(1)
    plan = backward_induction(FiniteMDP(P, r, np.ones(S) / S), r, H)
    for i in range(30):
        one, L = segments.take([i]), int(segments.lengths[i])
        steps = [
            (t, int(segments.states[i, t]), int(segments.actions[i, t]), segments.rewards[i, t])
            for t in range(L)
        ]
        plain = sum(x for *_, x in steps)
        near = pytest.approx
        assert judged_scores(one)[0] == near(plain)
        late = sum(0.9 ** (T - 1 - t) * x for t, _, _, x in steps)
        assert judged_scores(one, myopic=0.9)[0] == near(late)
        regret = sum(Q[t, s, a] - V[t, s] for t, s, a, _ in steps)
        assert judged_scores(one, "regret", plan)[0] == near(regret)
        rest = 0.0 if segments.terminated[i] else V[L, segments.states[i, L]]
        assert judged_scores(one, "bootstrapped-return", plan)[0] == near(plain + rest)


def test_myopic_weights_of_three_steps():
    one = np.eye(3)
    segments = Segments(
        np.zeros((3, 4), int), np.zeros((3, 3), int), one, np.full(3, 3), np.zeros(3, bool),
        np.zeros(3, int),
    )  # fmt: skip
    np.testing.assert_allclose(judged_scores(segments, myopic=0.9), [0.81, 0.9, 1.0])


def test_regret_is_return_where_nothing_is_random(rng):
    """Q*(s, a) - V*(s) telescopes: Σ A* = Σ r + V*_T(s_T) - V*_0(s_0)."""
    S, A, T = 5, 3, 6
    P = np.eye(S)[rng.integers(S, size=(S, A))]
    r = rng.normal(size=(S, A))
    plan = backward_induction(FiniteMDP(P, r, np.ones(S) / S), r, T + 2)
    whole = played(rng, P, r, 20, T).take(np.arange(10))
    boot = judged_scores(whole, "bootstrapped-return", plan)
    start = plan.V[0, whole.states[:, 0]]
    np.testing.assert_allclose(judged_scores(whole, "regret", plan), boot - start, atol=1e-12)


def test_scores_need_a_plan(rng):
    P, r = rng.dirichlet(np.ones(2), (2, 2)), np.zeros((2, 2))
    segments = played(rng, P, r, 4, 3)
    with pytest.raises(InputError, match="known model, got none"):
        judged_scores(segments, "regret")
    plan = backward_induction(FiniteMDP(P, r, np.ones(2) / 2), r, 2)
    with pytest.raises(InputError, match="at least 3 stages, got 2"):
        judged_scores(segments, "bootstrapped-return", plan)
    with pytest.raises(InputError, match="judged must be one of"):
        judged_scores(segments, "regrets", plan)


# ---------------------------------------------------------------- answers


@given(
    gap=st.floats(-50, 50), temperature=st.floats(0.05, 20), bias=st.floats(-2, 2),
    drift=st.floats(-1, 1), asked=st.integers(0, 300),
)  # fmt: skip
def test_preference_is_the_logistic_function(gap, temperature, bias, drift, asked):
    teacher = Teacher(temperature=temperature, left_bias=bias, drift=drift)
    z = gap / (temperature * math.exp(drift * asked / 100))
    for left, sign in ((True, 1), (False, -1)):
        x = z + sign * bias
        want = 1 / (1 + math.exp(-x)) if x > -700 else 0.0
        got = preference(teacher, np.array([gap]), left, asked)[0]
        assert got == pytest.approx(want, rel=1e-9, abs=1e-12)
        other = preference(teacher, np.array([-gap]), not left, asked)[0]
        assert got + other == pytest.approx(1.0, abs=1e-15)


def test_the_ends_of_rationality():
    gaps = np.array([-3.0, -1e-9, 0.0, 1e-9, 2.0])
    np.testing.assert_array_equal(preference(Teacher(temperature=np.inf), gaps), 0.5)
    np.testing.assert_array_equal(preference(Teacher(), gaps), [0, 0, 0.5, 1, 1])
    u = keyed_uniforms(0, ids(5))
    np.testing.assert_array_equal(answers(Teacher(), gaps, 0 * gaps, u), [0, 0, 0.5, 1, 1])


def within(rate, p, n):
    """An observed rate is within four standard errors."""
    return abs(rate - p) <= 4 * math.sqrt(p * (1 - p) / n)


def test_rates_of_choices_coins_and_mistakes():
    n = 20_000
    u, a = keyed_uniforms(3, ids(n)), np.full(n, 0.7)
    p = 1 / (1 + math.exp(-0.7 / 0.5))
    noisy = answers(Teacher(temperature=0.5), a, 0 * a, u)
    assert within(noisy.mean(), p, n)
    wrong = answers(Teacher(mistake=0.1), a, 0 * a, u)
    assert within((wrong == 0).mean(), 0.1, n)
    both = answers(Teacher(temperature=0.5, mistake=0.1), a, 0 * a, u)
    assert within(both.mean(), 0.9 * p + 0.1 * (1 - p), n)
    coin = answers(Teacher(ties="coin"), a, a, u)
    assert within(coin.mean(), 0.5, n)
    assert set(coin) == {0.0, 1.0}
    left = answers(Teacher(temperature=1.0, left_bias=0.8), a, a, u, left=np.arange(n) < n // 2)
    assert within(left[: n // 2].mean(), 1 / (1 + math.exp(-0.8)), n / 2)
    assert within(left[n // 2 :].mean(), 1 / (1 + math.exp(0.8)), n / 2)


def test_stages_come_in_the_order_of_b_pref():
    """Skips are decided first and override; ties override mistakes; both read plain returns."""
    u = keyed_uniforms(0, ids(4))
    a, b = np.array([5.0, 5.0, 1.0, -1.0]), np.array([4.9, 3.0, 0.5, 0.0])
    got = answers(Teacher(mistake=1.0), a, b, u, limits=Thresholds(2.0, 0.5))
    np.testing.assert_array_equal(got, [0.5, 0.0, np.nan, np.nan])
    swapped = answers(
        Teacher(mistake=1.0), a, b, u, limits=Thresholds(2.0, 0.5), returns=(b + 2, a - 9)
    )
    np.testing.assert_array_equal(swapped, [0.0, 0.0, 0.0, 1.0])


def test_thresholds_and_their_defect():
    """ε of the usual return; B-Pref multiplies by ε twice after the first session."""
    usual = usual_return([100.0, *[20.0] * 5, *[40.0] * 5], T=50, episode_length=1000.0)
    assert usual == pytest.approx(30 * 0.05)
    teacher = Teacher(skip=0.1, equal=0.2)
    for session in (0, 1, 7):
        assert thresholds(teacher, usual, session) == pytest.approx((0.15, 0.3))
    old = dataclasses.replace(teacher, bpref_compat=True)
    assert thresholds(old, usual, 0) == pytest.approx((0.15, 0.3))
    assert thresholds(old, usual, 1) == pytest.approx((0.015, 0.06))
    assert thresholds(Teacher(), usual, 0) == (-np.inf, 0.0)
    with pytest.raises(InputError, match="at least one episode"):
        usual_return([], 5, 10.0)
    with pytest.raises(InputError, match="episode_length must be > 0"):
        usual_return([1.0], 5, 0.0)
    with pytest.raises(InputError, match="session must be >= 0"):
        thresholds(teacher, usual, -1)


@given(seed=st.integers(0, 2**64 - 1), kind=st.integers(0, 4))
def test_both_orders_of_a_query_get_complementary_answers(seed, kind):
    rng = np.random.default_rng(seed)
    teacher = [
        Teacher(temperature=0.7),
        Teacher(ties="coin"),
        Teacher(),
        Teacher(temperature=1.0, mistake=0.3, left_bias=0.9, drift=0.2),
        Teacher(ties="coin", mistake=0.4),
    ][kind]
    P, r = rng.dirichlet(np.ones(3), (3, 2)), np.round(rng.normal(size=(3, 2)))
    pairs = Pairs(played(rng, P, r, 12, 4), played(rng, P, r, 12, 4))
    left, limits = rng.random(12) < 0.5, Thresholds(-1.0, 0.5)
    told = []
    for these, shown in ((pairs, left), (pairs.swapped(), ~left)):
        u = keyed_uniforms(seed, these.query_ids(), 3)
        first = in_order(these.a.digests(), these.b.digests())
        scores = judged_scores(these.a), judged_scores(these.b)
        told.append(answers(teacher, *scores, u, first=first, left=shown, limits=limits))
    np.testing.assert_array_equal(told[0], 1.0 - told[1])


# ---------------------------------------------------------------- noise


def splitmix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


STEP = 0x9E3779B97F4A7C15


def test_noise_is_the_mixing_of_its_key():
    assert splitmix(STEP) == 0xE220A8397B1DCDAF  # the first number of SplitMix64 from 0
    query, seed, repeat = "0123456789abcdeffedcba9876543210", 2**63 + 5, 4
    key = splitmix(int(query[:16], 16) ^ splitmix((seed + STEP) % 2**64))
    key = splitmix((key + int(query[16:], 16)) % 2**64)
    key = splitmix(key ^ splitmix((repeat + STEP) % 2**64))
    want = [((splitmix((key + j * STEP) % 2**64) >> 12) + 0.5) / 2**52 for j in (1, 2, 3)]
    assert keyed_uniforms(seed, [query], repeat, 3)[0].tolist() == want


def test_noise_depends_on_nothing_else():
    """Not on what else is asked, nor in which order; but on the seed, the query, its repeats."""
    names = ids(40, salt=7)
    all_of_them = keyed_uniforms(1, names, np.arange(40) % 3, 4)
    some = np.array([31, 2, 17])
    np.testing.assert_array_equal(
        keyed_uniforms(1, [names[i] for i in some], some % 3, 2), all_of_them[some, :2]
    )
    stacked = [
        keyed_uniforms(1, names),
        keyed_uniforms(2, names),
        keyed_uniforms(1, names, 1),
        keyed_uniforms(1, ids(40, salt=8)),
    ]
    assert len(np.unique(np.concatenate(stacked))) == 4 * 80


def test_noise_is_uniform_and_independent():
    n = 4096
    columns = [keyed_uniforms(s, ids(n), q, 2) for s in (0, 1) for q in (0, 1)]
    u = np.concatenate(columns, axis=1)
    assert ((u > 0) & (u < 1)).all()
    for column in u.T:  # Kolmogorov: P(sup > 2 / √n) < 0.001
        grid = np.arange(1, n + 1) / n
        assert np.abs(np.sort(column) - grid).max() < 2.0 / math.sqrt(n)
    z = (u - 0.5) * math.sqrt(12)
    correlations = (z.T @ z / n)[np.triu_indices(8, 1)]
    neighbours = (z[1:] * z[:-1]).mean(0)
    assert np.abs([*correlations, *neighbours]).max() < 5.0 / math.sqrt(n)


def test_noise_of_a_round_is_quick():
    names = ids(32)
    seconds = []
    for _ in range(50):
        begin = time.perf_counter()
        keyed_uniforms(5, names, np.zeros(32, int), 2)
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 0.3e-3


def test_noise_needs_a_seed_and_ids():
    with pytest.raises(InputError, match="seed must be >= 0"):
        keyed_uniforms(-1, ids(1))
    with pytest.raises(InputError, match="seed must be <="):
        keyed_uniforms(2**64, ids(1))
    for wrong in (["xyz"], ["ab"], [""]):
        with pytest.raises(InputError, match="32 hexadecimal digits"):
            keyed_uniforms(0, wrong)
    assert keyed_uniforms(0, []).shape == (0, 2)


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("return", Teacher()),
        ("return:mistake=0.1,ties=coin", Teacher(mistake=0.1, ties="coin")),
        ("bradley-terry:2.5", Teacher(temperature=2.5)),
        ("bradley-terry:1std", Teacher(temperature=1.0, in_std=True)),
        ("bradley-terry:inf", Teacher(temperature=np.inf)),
        ("bootstrapped-return", Teacher("bootstrapped-return")),
        ("bootstrapped-return:0.5std", Teacher("bootstrapped-return", 0.5, True)),
        ("regret", Teacher("regret")),
        (" regret:3, left-bias=1", Teacher("regret", 3.0, left_bias=1.0)),
        ("return:skip=.1,bpref-compat=true", Teacher(skip=0.1, bpref_compat=True)),
        ("judge", Judge()),
        ("judge:2,readings=5,human=0.1", Judge(2.0, False, readings=5, human=0.1)),
        ("human", Human()),
    ],
)
def test_names(text, want):
    assert parse_oracle(text) == want


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("returns", "oracle must be one of .* did you mean return"),
        (3, "oracle must be NAME or NAME:TEMPERATURE, got 3"),
        ("return:1", "oracle return must have no temperature"),
        ("bradley-terry", "must have a number after the colon"),
        ("bradley-terry:mistake=0.1", "must have a number after the colon"),
        ("bradley-terry:one", "must have a number as temperature, got 'one'"),
        ("bradley-terry:-1", "temperature must be >= 0, got -1"),
        ("regret:1,2", "must have options OPTION=VALUE, got '2'"),
        ("regret:1,mistakes=2", "option of oracle regret must be one of .* did you mean mistake"),
        ("regret:1,mistake=often", "must have a valid mistake, got 'often'"),
        ("regret:1,bpref-compat=2", "must have a valid bpref_compat, got '2'"),
        ("regret:1,mistake=2", r"mistake must be in \[0, 1\], got 2"),
        ("return:ties=both", "ties must be one of half, coin"),
        ("return:left-bias=1", "temperature must be > 0 for a left_bias or a drift"),
        ("regret:myopic=0.9", "myopic must be 1 unless returns are judged"),
        ("judge:0", "temperature must be > 0"),
        ("judge:1,readings=2.5", "must have a valid readings, got '2.5'"),
        ("human:1", "oracle human must have no parameters"),
    ],
)
def test_refused_names(text, match):
    with pytest.raises(InputError, match=match):
        parse_oracle(text)


def test_fields_of_a_teacher():
    for field, value in {
        "judged": "luck", "temperature": -1.0, "myopic": 0.0, "skip": -1.0, "equal": -0.1,
        "left_bias": np.inf, "drift": np.nan,
    }.items():  # fmt: skip
        with pytest.raises(InputError, match=f"{field} must be"):
            Teacher(**{field: value})


def test_standard_deviations_are_resolved():
    told = parse_oracle("bradley-terry:2std,mistake=0.1")
    assert resolved(told, 0.25) == Teacher(temperature=0.5, mistake=0.1)
    assert resolved(Judge(), 3.0).temperature == 3.0
    assert resolved(Teacher(temperature=2.0), 0.0) == Teacher(temperature=2.0)
    for std in (0.0, np.nan):
        with pytest.raises(InputError, match="without std, where all segments"):
            resolved(told, std)
    with pytest.raises(InputError, match="oracle must be resolved"):
        preference(told, np.zeros(1))
