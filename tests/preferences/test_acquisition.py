"""Rules and how batches are drawn: against brute force, closed forms and simulation."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from rlentropy.preferences import acquisition, batches, scores
from rlentropy.preferences.acquisition import RULES, Pool, Rule, compose, select

NAMES = [
    *("random", "entropy", "certainty", "uncertainty", "entropy-certainty", "half-certainty"),
    *("disagreement", "vote-entropy", "bald", "pairwise-kl", "member-entropy", "volume-removal"),
    *("max-regret", "thompson", "d-optimal", "label-information", "push-value", "oracle-gap"),
]


def pool_of(seed, N=40, J=6, D=4, **changes):
    rng = np.random.default_rng(seed)
    X, draws = rng.normal(size=(N, D)), rng.normal(size=(J, D))
    root = rng.normal(size=(D, D))
    given = {
        "margins": rng.normal(size=N),
        "gaps": draws @ X.T,
        "weights": rng.dirichlet(np.ones(J)),
        "values": draws @ X.T + rng.normal(size=(J, N)),
        "features": X,
        "covariance": root @ root.T,
        "true_gaps": rng.normal(size=N),
        "entropies": rng.random(N),
    }
    return Pool(**{**given, **changes})


def swapped(pool):
    signs = ("margins", "gaps", "values", "features", "true_gaps")
    return dataclasses.replace(pool, **{name: -getattr(pool, name) for name in signs})


def taken(indices, N):
    return np.bincount(indices, minlength=N)


def simulated(draw, N, runs, seed=0):
    """Share of runs in which each is chosen, and its largest standard error."""
    rng = np.random.default_rng(seed)
    shares = sum(taken(draw(rng), N) for _ in range(runs)) / runs
    return shares, 0.5 / math.sqrt(runs)


# What the table holds


def test_rules_are_those_of_the_command_line():
    assert [name for name in RULES if name != "value-information"] == NAMES
    assert {name for name, rule in RULES.items() if rule.filters_prompts} == {
        "entropy",
        "entropy-certainty",
    }
    shares = {name: rule.random_share for name, rule in RULES.items() if rule.random_share}
    assert shares == {"random": 1.0, "half-certainty": 0.5, "push-value": 0.25}
    powers = {name: rule.power for name, rule in RULES.items() if rule.power}
    assert powers == {"label-information": 4.0, "push-value": 4.0, "value-information": 4.0}


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_needs_what_it_says_and_no_more(name):
    full = pool_of(1)
    kept = {field: getattr(full, field) for field in RULES[name].needs}
    found = select(name, Pool(full.margins, **kept), 7, np.random.default_rng(0))
    wanted = select(name, full, 7, np.random.default_rng(0))
    np.testing.assert_array_equal(found.indices, wanted.indices)
    for field in RULES[name].needs:
        with pytest.raises(ValueError, match=f"pool must have {field} for this acquisition"):
            select(name, dataclasses.replace(full, **{field: None}), 7, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("entropy", lambda p: p.entropies),
        ("certainty", lambda p: np.abs(p.margins)),
        ("uncertainty", lambda p: -np.abs(p.margins)),
        ("disagreement", lambda p: scores.disagreement(p.gaps, p.weights)),
        ("vote-entropy", lambda p: scores.vote_entropy(p.gaps, p.weights)),
        ("bald", lambda p: scores.bald(p.gaps, p.weights)),
        ("pairwise-kl", lambda p: scores.pairwise_kl(p.gaps, p.weights)),
        ("member-entropy", lambda p: scores.expected_entropy(p.gaps, p.weights)),
        ("volume-removal", lambda p: scores.volume_removal(p.gaps, p.weights)),
        ("max-regret", lambda p: scores.max_regret(p.gaps, p.weights)),
        ("oracle-gap", lambda p: np.abs(p.true_gaps)),
    ],
)
def test_the_n_largest_scores_are_taken(name, wanted):
    pool = pool_of(2)
    found = select(name, pool, 8, np.random.default_rng(0))
    np.testing.assert_allclose(found.scores, wanted(pool))
    assert set(found.indices) == set(np.argsort(-wanted(pool), kind="stable")[:8])
    assert found.diagnostics["batch_score"] > found.diagnostics["pool_score"]
    np.testing.assert_array_equal(found.propensities, taken(found.indices, 40))


def test_scores_of_the_soft_rules():
    pool = pool_of(3)
    found = select("label-information", pool, 8, np.random.default_rng(0)).scores
    np.testing.assert_allclose(found, scores.label_information(pool.gaps, pool.weights))
    found = select("push-value", pool, 8, np.random.default_rng(0)).scores
    wanted = scores.push_value(pool.gaps, pool.values, pool.weights, pool.margins)
    np.testing.assert_allclose(found, wanted)


def test_push_value_of_another_share():
    pool = pool_of(3)
    found = select(acquisition.push_value(0.0), pool, 8, np.random.default_rng(0))
    wanted = scores.push_value(pool.gaps, pool.values, pool.weights, pool.margins, alpha=0.0)
    np.testing.assert_allclose(found.scores, wanted)
    assert found.diagnostics["random"] == 2.0
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\], got 1.5"):
        acquisition.push_value(1.5)


def test_the_scale_of_values_is_that_of_distinct_pairs():
    pool = pool_of(3)
    values = np.array(pool.values)
    values[:, ::2] = 0.0
    alone = Pool(
        pool.margins[1::2], gaps=pool.gaps[:, 1::2], weights=pool.weights, values=values[:, 1::2]
    )
    pool = dataclasses.replace(pool, values=values, duplicates=np.arange(40) % 2 == 0)
    found = select("push-value", pool, 8, np.random.default_rng(0)).scores[1::2]
    np.testing.assert_allclose(
        found, select("push-value", alone, 8, np.random.default_rng(0)).scores
    )


# Every rule


@pytest.mark.parametrize("name", NAMES)
def test_a_selection_is_a_function_of_its_generator(name):
    pool, state = pool_of(4), np.random.get_state
    before = state()[1].copy()
    first = select(name, pool, 9, np.random.default_rng(7))
    again = select(name, pool_of(4), 9, np.random.default_rng(7))
    np.testing.assert_array_equal(first.indices, again.indices)
    np.testing.assert_array_equal(first.propensities, again.propensities)
    np.testing.assert_array_equal(before, state()[1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 9, 39, 40, 41])
def test_indices_are_unique_and_propensities_sum_to_n(name, n):
    found = select(name, pool_of(5), n, np.random.default_rng(3))
    size = min(n, 40)
    assert found.indices.shape == (size,)
    assert len(set(found.indices)) == size
    assert found.indices.dtype.kind == "i"
    assert found.propensities.sum() == pytest.approx(size, abs=1e-9)
    assert (found.propensities >= 0.0).all()
    assert (found.propensities <= 1.0 + 1e-12).all()
    assert (found.propensities[found.indices] > 0.0).all()


@pytest.mark.parametrize("name", NAMES)
def test_trading_places_leaves_a_selection_as_it_is(name):
    pool = pool_of(6)
    one = select(name, pool, 9, np.random.default_rng(3))
    other = select(name, swapped(pool), 9, np.random.default_rng(3))
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_allclose(one.propensities, other.propensities, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_duplicates_come_only_where_distinct_pairs_run_out(name):
    duplicates = np.zeros(40, bool)
    duplicates[::4] = True
    pool = pool_of(7, duplicates=duplicates)
    found = select(name, pool, 12, np.random.default_rng(0))
    assert not duplicates[found.indices].any()
    assert found.propensities[duplicates].sum() == 0.0
    assert found.diagnostics["duplicates"] == 10.0
    assert found.diagnostics["duplicates_taken"] == 0.0
    found = select(name, pool, 34, np.random.default_rng(0))
    assert set(np.flatnonzero(~duplicates)) < set(found.indices)
    assert found.diagnostics["duplicates_taken"] == 4.0
    np.testing.assert_allclose(found.propensities, np.where(duplicates, 0.4, 1.0))


@pytest.mark.parametrize("name", NAMES)
def test_all_random_is_the_random_rule(name):
    pool = pool_of(8, duplicates=np.arange(40) % 5 == 0)
    found = select(name, pool, 12, np.random.default_rng(5), random_share=1.0)
    wanted = select("random", pool, 12, np.random.default_rng(5))
    np.testing.assert_array_equal(found.indices, wanted.indices)
    np.testing.assert_array_equal(found.propensities, wanted.propensities)
    assert found.propensities[~pool.duplicates] == pytest.approx(12 / 32)


@pytest.mark.parametrize("name", NAMES)
def test_a_pool_of_duplicates_alone(name):
    pool = pool_of(9, duplicates=np.ones(40, bool))
    found = select(name, pool, 5, np.random.default_rng(0))
    assert found.diagnostics["duplicates_taken"] == 5.0
    np.testing.assert_allclose(found.propensities, 5 / 40)


# Rules of margins


def test_certainty_ranks_as_the_chance_of_either_answer_does():
    pool = pool_of(10)
    u = 1.0 - 2.0 * np.abs(1.0 / (1.0 + np.exp(-pool.margins)) - 0.5)
    found = select("certainty", pool, 40, np.random.default_rng(0)).scores
    np.testing.assert_array_equal(np.argsort(-found), np.argsort(u))
    one = select("certainty", pool, 9, np.random.default_rng(0)).indices
    for scale in (0.1, -3.0):
        pool = dataclasses.replace(pool, margins=scale * pool.margins)
        other = select("certainty", pool, 9, np.random.default_rng(0)).indices
        np.testing.assert_array_equal(one, other)


def test_certainty_and_uncertainty_are_disjoint():
    pool = pool_of(11)
    most = select("certainty", pool, 20, np.random.default_rng(0)).indices
    least = select("uncertainty", pool, 20, np.random.default_rng(0)).indices
    assert not set(most) & set(least)


def test_filters_in_sequence():
    """With one prompt a slot the filter drops none; with one pair a slot it decides alone."""
    pool, n = pool_of(12), 8
    all_prompts = acquisition.filter_prompts(pool.entropies, 40, np.random.default_rng(0))
    assert sorted(all_prompts) == list(range(40))
    filtered = dataclasses.replace(
        pool,
        **{name: getattr(pool, name)[all_prompts] for name in ("margins", "entropies")},
        **dict.fromkeys(("gaps", "values", "features", "true_gaps")),
    )
    both = select("entropy-certainty", filtered, n, np.random.default_rng(1)).indices
    alone = select("certainty", pool, n, np.random.default_rng(1)).indices
    assert set(all_prompts[both]) == set(alone)
    kept = acquisition.filter_prompts(pool.entropies, n, np.random.default_rng(0))
    few = Pool(pool.margins[kept], entropies=pool.entropies[kept])
    for name in ("entropy", "entropy-certainty"):
        found = kept[select(name, few, n, np.random.default_rng(1)).indices]
        assert set(found) == set(np.argsort(-pool.entropies)[:n])


def test_highest_entropy_is_that_of_the_uniform_policy():
    """The sign: -E log π of rollouts is low for a prompt that is all but decided."""
    rng, steps, runs = np.random.default_rng(0), 12, 64
    estimates = []
    for p in ([0.997, 0.001, 0.001, 0.001], [0.25] * 4, [0.7, 0.1, 0.1, 0.1]):
        actions = rng.choice(4, (runs, steps), p=p)
        estimates.append(-np.log(np.asarray(p)[actions]).sum(1).mean())
    assert acquisition.filter_prompts(estimates, 1, rng).tolist() == [1]
    assert acquisition.filter_prompts(estimates, 1, rng, highest=False).tolist() == [0]
    assert sorted(acquisition.filter_prompts(estimates, 2, rng)) == [1, 2]
    assert acquisition.filter_prompts(estimates, 0, rng).tolist() == []
    pool = Pool(np.ones(3), entropies=estimates)
    assert select("entropy", pool, 1, rng).indices.tolist() == [1]


def test_filtered_prompts_stand_in_random_order():
    def first(rng):
        return acquisition.filter_prompts(np.arange(6.0), 3, rng)[:1]

    shares, error = simulated(first, 6, 2000)
    np.testing.assert_allclose(shares, [0, 0, 0, 1 / 3, 1 / 3, 1 / 3], atol=4 * error)


@pytest.mark.parametrize("name", ["certainty", "uncertainty", "entropy-certainty"])
def test_margin_rules_are_uniform_before_any_training(name):
    """Margins of the reference itself are 0, or what rounding leaves of it."""
    pool = Pool(np.random.default_rng(0).normal(size=12) * 1e-16)
    found = select(name, pool, 4, np.random.default_rng(1))
    assert found.diagnostics["degenerate"] == 1.0
    np.testing.assert_allclose(found.propensities, 1 / 3)
    shares, error = simulated(lambda rng: select(name, pool, 4, rng).indices, 12, 2000)
    np.testing.assert_allclose(shares, 1 / 3, atol=4 * error)
    told = select(name, pool_of(13), 4, np.random.default_rng(1))
    assert told.diagnostics["degenerate"] == 0.0


# Propensities


@pytest.mark.parametrize(
    ("name", "options"),
    [("random", {}), ("certainty", {}), ("half-certainty", {}), ("uncertainty", {})],
)
def test_propensities_are_frequencies(name, options):
    """Exactly known, ties and duplicates included: within 4 standard errors of 2000 batches."""
    margins = np.array([3.0, -2.0, 2.0, 2.0, 1.0, 1.0, -1.0, 0.5, 0.0, 0.0, 7.0])
    pool = Pool(margins, np.arange(11) == 10)
    wanted = select(name, pool, 3, np.random.default_rng(0), **options).propensities
    shares, error = simulated(lambda rng: select(name, pool, 3, rng).indices, 11, 2000)
    np.testing.assert_allclose(shares, wanted, atol=4 * error)


def test_ties_at_the_threshold_share_what_is_left():
    pool = Pool(np.array([3.0, -2.0, 2.0, 2.0, 1.0]))
    found = select("certainty", pool, 3, np.random.default_rng(0))
    np.testing.assert_allclose(found.propensities, [1.0, 2 / 3, 2 / 3, 2 / 3, 0.0])
    half = select("certainty", pool, 4, np.random.default_rng(0), random_share=0.5)
    np.testing.assert_allclose(half.propensities, [1.0] + [1 / 3 + 2 / 3 * 2 / 3] * 3 + [2 / 3])
    assert half.diagnostics["random"] == 2.0


def test_soft_draws_are_in_proportion_to_a_power():
    """The law of sequential draws by enumeration; propensities by clocks are within .03 of it."""
    score, power, n = np.array([0.9, 0.7, 0.7, 0.5, 0.3, 0.0]), 2.0, 3
    p, exact = np.maximum(score, 1e-12) ** power, np.zeros(6)
    for order in itertools.permutations(range(6), n):
        chance, rest = 1.0, p.sum()
        for i in order:
            chance, rest = chance * p[i] / rest, rest - p[i]
        exact[list(order)] += chance
    rule = Rule(lambda pool: score, power=power)
    pool = Pool(np.ones(6))
    shares, error = simulated(lambda rng: select(rule, pool, n, rng).indices, 6, 4000)
    np.testing.assert_allclose(shares, exact, atol=4 * error)
    found = select(rule, pool, n, np.random.default_rng(0)).propensities
    assert found.sum() == pytest.approx(n, abs=1e-9)
    np.testing.assert_allclose(found, exact, atol=0.03)


@pytest.mark.parametrize("n", [1, 3, 5])
def test_soft_propensities_over_many_orders_of_magnitude(n):
    score = np.array([1.0, 1e-2, 1e-4, 0.0, -3.0, 1e-9])
    found = batches.soft(score, n, np.random.default_rng(0), 4.0)
    assert found.propensities.sum() == pytest.approx(n, abs=1e-9)
    assert (np.diff(found.propensities[np.argsort(score)]) >= -1e-12).all()
    assert found.propensities[3] == found.propensities[4]  # both count as 1e-12


def test_a_large_power_takes_the_largest():
    pool = pool_of(14)
    hard = np.argsort(-scores.label_information(pool.gaps, pool.weights))[:5]
    soft = select("label-information", pool, 5, np.random.default_rng(0), power=1e6)
    np.testing.assert_array_equal(soft.indices, hard)


# Slot by slot


def sequences(gaps, weights, n, duel):
    """Exact propensities of a Thompson batch: every sequence of draws, ties uniformly."""
    J, N = gaps.shape
    total = np.zeros(N)

    def go(chance, free, slot):
        if slot == n:
            total[[i for i in range(N) if i not in free]] += chance
            return
        draws = itertools.product(range(J), repeat=2 if duel else 1)
        for draw in draws:
            size = [abs(gaps[draw[0]][i] - (gaps[draw[1]][i] if duel else 0.0)) for i in free]
            best = [i for i, s in zip(free, size, strict=True) if s == max(size)]
            share = chance * math.prod(weights[j] for j in draw) / len(best)
            for i in best:
                go(share, [k for k in free if k != i], slot + 1)

    go(1.0, list(range(N)), 0)
    return total


@pytest.mark.parametrize("duel", [False, True])
def test_thompson_takes_the_largest_gap_of_each_draw(duel):
    pool = pool_of(15, N=6, J=3)
    rule = acquisition.THOMPSON_DUEL if duel else "thompson"
    exact = sequences(pool.gaps, pool.weights, 2, duel)
    if duel:  # two equal draws tie all, which one order of ties settles in each call
        found = [select(rule, pool, 2, np.random.default_rng(k)).propensities for k in range(60)]
        error = np.std(found, axis=0) / math.sqrt(60)
        assert (np.abs(np.mean(found, axis=0) - exact) <= 4 * error + 1e-12).all()
    else:
        found = select(rule, pool, 2, np.random.default_rng(0)).propensities
        error = 0.5 / math.sqrt(batches.REPLICAS)
        np.testing.assert_allclose(found, exact, atol=4 * error)
    shares, error = simulated(lambda rng: select(rule, pool, 2, rng).indices, 6, 1000)
    np.testing.assert_allclose(shares, exact, atol=4 * error)


def test_thompson_of_one_member_takes_its_largest_gaps():
    pool = pool_of(16, J=1, weights=np.ones(1))
    found = select("thompson", pool, 6, np.random.default_rng(0))
    np.testing.assert_array_equal(found.indices, np.argsort(-np.abs(pool.gaps[0]))[:6])


def test_equal_candidates_of_a_thompson_batch_have_equal_chances():
    gaps = np.array([[1.0, 1.0, 1.0, 2.0, 0.0], [3.0, 3.0, 3.0, 0.5, 0.0]])
    pool = Pool(np.ones(5), gaps=gaps, weights=[0.5, 0.5])
    found = select("thompson", pool, 2, np.random.default_rng(0)).propensities
    exact = sequences(gaps, [0.5, 0.5], 2, False)
    np.testing.assert_allclose(found, exact, atol=4 * 0.5 / math.sqrt(batches.REPLICAS))
    assert np.ptp(found[:3]) == 0.0


def test_designs_are_greedy_in_the_determinant():
    """Against inverses and determinants of every candidate at every step."""
    pool, n = pool_of(17, N=15, D=4), 7
    p = 1.0 / (1.0 + np.exp(-pool.margins))
    precision, wanted = np.linalg.inv(pool.covariance), []
    for _ in range(n):
        gains = [
            -np.inf
            if i in wanted
            else np.linalg.slogdet(precision + p[i] * (1 - p[i]) * np.outer(x, x))[1]
            for i, x in enumerate(pool.features)
        ]
        wanted.append(int(np.argmax(gains)))
        i = wanted[-1]
        x = pool.features[i]
        precision = precision + p[i] * (1 - p[i]) * np.outer(x, x)
    before = pool.covariance.copy()
    found = select("d-optimal", pool, n, np.random.default_rng(0))
    assert found.indices.tolist() == wanted
    np.testing.assert_array_equal(pool.covariance, before)


def test_a_design_asks_of_each_direction_before_it_repeats():
    X = np.repeat(np.eye(4), 5, 0)
    pool = Pool(np.zeros(20), features=X, covariance=9.0 * np.eye(4))
    found = select("d-optimal", pool, 8, np.random.default_rng(0))
    np.testing.assert_array_equal(np.bincount(found.indices // 5), 2)
    np.testing.assert_allclose(found.propensities, 0.4)
    shares, error = simulated(lambda rng: select("d-optimal", pool, 8, rng).indices, 20, 500)
    np.testing.assert_allclose(shares, 0.4, atol=4 * error)


# Diversity


@pytest.mark.parametrize("name", batches.DIVERSITIES)
def test_a_diverse_batch_is_of_the_shortlist_and_not_of_one_kind(name):
    """Four directions, a pair of each at each level of certainty; the best 20 hold all four."""
    X = np.tile(np.eye(4), (15, 1))
    pool = Pool(np.repeat(np.arange(15.0, 0.0, -1.0), 4), features=X)
    found = select("certainty", pool, 4, np.random.default_rng(0), diversity=name)
    assert set(found.indices) <= set(range(20))
    assert set(found.indices % 4) == {0, 1, 2, 3}
    np.testing.assert_array_equal(found.propensities, taken(found.indices, 60))
    if name != "k-center":
        assert set(found.indices) == {0, 1, 2, 3}
    with pytest.raises(ValueError, match="pool must have features"):
        select("certainty", Pool(pool.margins), 4, np.random.default_rng(0), diversity=name)


@pytest.mark.parametrize("name", batches.DIVERSITIES)
def test_a_diverse_batch_knows_no_order_of_a_pair(name, rng):
    X, score = rng.normal(size=(30, 3)), rng.random(30)
    one = batches.diverse(name, X, score, 6)
    other = batches.diverse(name, X * rng.choice([-1.0, 1.0], size=(30, 1)), score, 6)
    np.testing.assert_array_equal(one.indices, other.indices)


def test_centers_are_farthest_by_the_query_kernel(rng):
    X = rng.normal(size=(30, 3))
    found = batches.diverse("k-center", X, np.zeros(30), 6).indices
    likeness = ((X @ X.T) ** 2) / np.outer((X * X).sum(1), (X * X).sum(1))
    for k in range(1, 6):
        nearest = likeness[:, found[:k]].max(1)
        assert nearest[found[k]] == pytest.approx(nearest.min(), abs=1e-9)


@pytest.mark.parametrize("name", batches.DIVERSITIES)
def test_pairs_of_no_difference_come_last(name, rng):
    X = np.concatenate([np.zeros((3, 2)), rng.normal(size=(5, 2)), np.zeros((2, 2))])
    for n in (4, 5, 7):
        found = batches.diverse(name, X, np.ones(10), n).indices
        assert set(found[:5]) <= {3, 4, 5, 6, 7}
        assert found[5:].tolist() == [0, 1][: max(n - 5, 0)]
    found = batches.diverse(name, np.zeros((4, 2)), np.ones(4), 2)
    assert found.indices.tolist() == [0, 1]


def test_a_diverse_batch_leaves_out_duplicates_and_fills_random_slots():
    pool = pool_of(18, duplicates=np.arange(40) < 10)
    found = select("random", pool, 8, np.random.default_rng(0), diversity="k-center")
    assert (found.indices >= 10).all()
    assert found.diagnostics["random"] == 0.0
    half = compose("certainty", batch_diversity="dpp", random_share=0.5)
    found = select(half, pool, 8, np.random.default_rng(0))
    assert found.diagnostics["random"] == 4.0
    assert len(set(found.indices)) == 8
    assert found.propensities.sum() == pytest.approx(8.0)


# Pieces


def test_rules_of_the_table_are_composed():
    pool = pool_of(19)
    for name, made in {
        "half-certainty": compose("certainty", random_share=0.5),
        "entropy-certainty": compose("certainty", prompt_filter=True),
        "random": compose(),
    }.items():
        assert dataclasses.replace(made, score=RULES[name].score) == RULES[name]
        one = select(made, pool, 9, np.random.default_rng(2))
        other = select(name, pool, 9, np.random.default_rng(2))
        np.testing.assert_array_equal(one.indices, other.indices)
    assert compose("entropy").filters_prompts
    with pytest.raises(ValueError, match="pair_filter must be one of random"):
        compose("certain")
    with pytest.raises(ValueError, match="diversity must be one of k-center"):
        compose(batch_diversity="kcenter")
    with pytest.raises(ValueError, match=r"random_share must be in \[0, 1\]"):
        compose(random_share=1.5)


def test_best_pairs_by_brute_force(rng):
    sums = rng.normal(size=(30, 5))
    for row, (i, j) in zip(sums, acquisition.best_pairs(sums), strict=True):
        assert abs(row[i] - row[j]) == max(abs(a - b) for a in row for b in row)
    np.testing.assert_array_equal(acquisition.best_pairs(np.zeros((2, 4))), [[0, 1], [0, 1]])
    with pytest.raises(ValueError, match=r"sums must be \(P, n\) with n >= 2, got \(3, 1\)"):
        acquisition.best_pairs(np.zeros((3, 1)))


def test_single_pairs_are_consecutive():
    np.testing.assert_array_equal(acquisition.single_pairs(2), [[0, 1]])
    np.testing.assert_array_equal(acquisition.single_pairs(5), [[0, 1], [2, 3]])
    with pytest.raises(ValueError, match="n must be >= 2"):
        acquisition.single_pairs(1)


def test_prompts_of_a_batch_are_counted():
    pool = Pool(np.arange(6.0), prompts=[0, 1, 2, 3, 3, 3])
    found = select("certainty", pool, 4, np.random.default_rng(0))
    assert found.diagnostics["prompts"] == 2.0


# Refusals


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"margins": np.ones((2, 3))}, r"margins must be \(N\)"),
        ({"duplicates": np.zeros(3, bool)}, r"duplicates must be \(N\) with N = 40, got \(3,\)"),
        ({"gaps": np.ones(40)}, r"gaps must be \(J, N\) with"),
        ({"weights": np.full(3, 1 / 3)}, r"weights must be \(J\) with N = 40, J = 6, got \(3,\)"),
        ({"values": np.ones((2, 40))}, r"values must be \(J, N\) with N = 40, J = 6"),
        ({"covariance": np.eye(3)}, r"covariance must be \(D, D\) with N = 40, J = 6, D = 4"),
        ({"weights": np.full(6, 0.1)}, "weights must be >= 0 and sum to 1, got a sum of 0.6"),
        ({"margins": np.full(40, np.nan)}, "margins must be finite, got nan"),
    ],
)
def test_pools_that_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        pool_of(0, **given)


@pytest.mark.parametrize(
    ("rule", "n", "options", "message"),
    [
        ("certainy", 3, {}, "acquisition must be one of .*did you mean certainty"),
        ("certainty", 0, {}, "n must be >= 1, got 0"),
        ("certainty", 2.0, {}, "n must be a whole number"),
        ("certainty", 3, {"random_share": 2.0}, r"random_share must be in \[0, 1\], got 2.0"),
        ("certainty", 3, {"power": 0.0}, "power must be > 0"),
        ("certainty", 3, {"diversity": "vend"}, "diversity must be one of k-center, dpp, vendi"),
        (Rule(lambda pool: np.full(40, np.inf)), 3, {}, "scores must be finite, got inf"),
    ],
)
def test_selections_that_are_refused(rule, n, options, message):
    with pytest.raises(ValueError, match=message):
        select(rule, pool_of(0), n, np.random.default_rng(0), **options)


def test_an_empty_pool_is_refused():
    with pytest.raises(ValueError, match="pool must have candidates, got none"):
        select("random", Pool(np.empty(0)), 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="n must be <= 3, got 4"):
        acquisition.filter_prompts(np.ones(3), 4, np.random.default_rng(0))
