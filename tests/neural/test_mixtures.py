"""Mixtures of networks, against networks evaluated one by one, exact laws and counts."""

import copy
import math
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

torch = pytest.importorskip("torch")

from scipy import stats  # noqa: E402

from rlentropy.errors import InputError  # noqa: E402
from rlentropy.neural.mixtures import (  # noqa: E402
    Choice,
    Members,
    Mixture,
    Squashed,
    Uniform,
    evenly,
    head_of,
    load_mixture,
    parameters_of,
    saved_mixture,
    stacked_layers,
    time_left,
)
from rlentropy.neural.networks import MLP  # noqa: E402
from rlentropy.neural.spaces import ActionSet  # noqa: E402

PLAYED = {"horizon": 12, "repeat": 3, "timed": True, "activation": "relu"}


class Spaces(gymnasium.Env):
    def __init__(self, observation_space=None, action_space=None):
        self.observation_space = observation_space or Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = action_space or Discrete(4)


def slow_outputs(flat, sizes, mean, deviation, x, t=None, activation="relu", horizon=12):
    """One network on one observation, in float64, layer by layer."""
    x = np.clip((np.asarray(x, float) - mean) / deviation, -10, 10)
    if t is not None:
        x = np.append(x, 1.0 - 2.0 * (t % horizon) / horizon)
    start = 0
    for k in range(len(sizes) - 1):
        rows, columns = sizes[k], sizes[k + 1]
        W = flat[start : start + rows * columns].reshape(rows, columns).astype(float)
        b = flat[start + rows * columns : start + (rows + 1) * columns].astype(float)
        x = x @ W + b
        if k < len(sizes) - 2:
            x = np.maximum(x, 0) if activation == "relu" else np.tanh(x)
        start += (rows + 1) * columns
    return x


def some_mixture(rng, K=5, env=None, kind="softmax", points=3, hidden=(7,), **played):
    env = env or Spaces()
    head = head_of(kind, env.action_space, points)
    played = PLAYED | played
    width = int(np.prod(env.observation_space.shape or ())) or 1
    if isinstance(env.observation_space, Discrete):
        width = int(env.observation_space.n)
    sizes = (width + played["timed"], *hidden, head.num_outputs)
    P = sum((a + 1) * b for a, b in pairwise(sizes))
    flat = rng.normal(size=(K, P)).astype(np.float32)
    scaling = rng.normal(size=(K, width)), rng.uniform(0.5, 2.0, (K, width))
    return Mixture(env, head, flat, sizes, scaling, **played), flat, sizes, scaling


# ---------------------------------------------------------------- acting


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize(("K", "hidden"), [(5, (7,)), (5, (6, 4)), (1, (7,)), (3, ())])
def test_each_slot_acts_with_its_own_network(K, hidden, timed, activation, rng):
    mixture, flat, sizes, (mean, deviation) = some_mixture(
        rng, K, hidden=hidden, timed=timed, activation=activation
    )
    mixture.begin(np.arange(40), rng)
    x = rng.normal(size=(40, 2)).astype(np.float32)
    t = rng.integers(12, size=40)
    found = mixture.outputs(x, t)
    for i in range(40):
        k = mixture.chosen[i]
        slow = slow_outputs(
            flat[k], sizes, mean[k], deviation[k], x[i], t[i] if timed else None, activation
        )
        np.testing.assert_allclose(found[i], slow, rtol=2e-5, atol=2e-5)
    assert set(mixture.chosen.tolist()) == set(range(K))


def test_the_newest_slots_may_be_fewer(rng):
    mixture, flat, sizes, (mean, deviation) = some_mixture(rng)
    mixture.begin(np.arange(20), rng)
    x = rng.normal(size=(3, 2)).astype(np.float32)
    found = mixture.outputs(x, np.zeros(3, int))
    for i, k in enumerate(mixture.chosen[:3]):
        slow = slow_outputs(flat[k], sizes, mean[k], deviation[k], x[i], 0)
        np.testing.assert_allclose(found[i], slow, rtol=2e-5, atol=2e-5)


def test_far_observations_are_cut_off(rng):
    mixture, flat, sizes, (mean, deviation) = some_mixture(rng, 1)
    x = np.array([[1e6, -1e6]], np.float32)
    slow = slow_outputs(flat[0], sizes, mean[0], deviation[0], x[0], 0)
    assert np.abs(slow).max() < 1e3
    np.testing.assert_allclose(mixture.outputs(x, np.zeros(1, int))[0], slow, rtol=1e-4)


def test_states_are_one_hot(rng):
    env = Spaces(Discrete(4, start=2))
    mixture, flat, sizes, (mean, deviation) = some_mixture(rng, 3, env)
    mixture.begin(np.arange(8), rng)
    states = np.array([2, 3, 4, 5, 5, 4, 3, 2])
    found = mixture.outputs(states, np.arange(8))
    for i, k in enumerate(mixture.chosen):
        one_hot = np.eye(4)[states[i] - 2]
        slow = slow_outputs(flat[k], sizes, mean[k], deviation[k], one_hot, i)
        np.testing.assert_allclose(found[i], slow, rtol=2e-5, atol=2e-5)


def test_the_time_left_runs_from_1_to_minus_1():
    np.testing.assert_allclose(time_left(np.arange(5), 4), [1.0, 0.5, 0.0, -0.5, -1.0])


@pytest.mark.parametrize(("repeat", "horizon"), [(3, 12), (4, 10), (1, 5), (7, 7), (20, 6)])
def test_actions_are_held(repeat, horizon, rng):
    """New ones at steps 0, K, 2K, … of an episode, and when an episode of T steps starts over."""
    mixture, *_ = some_mixture(
        rng, 3, Spaces(None, Box(-1, 1, (2,))), "squashed", repeat=repeat, horizon=horizon
    )
    mixture.begin(np.arange(6), rng)
    x = np.zeros((6, 2), np.float32)
    played = [mixture.act(x, np.full(6, t), rng) for t in range(2 * horizon)]
    for t in range(1, 2 * horizon):
        assert (played[t] == played[t - 1]).all() == ((t % horizon) % repeat != 0)


def test_slots_at_different_times_decide_at_their_own(rng):
    mixture, *_ = some_mixture(rng, 3, Spaces(None, Box(-1, 1, (1,))), "squashed")
    mixture.begin(np.arange(4), rng)
    x = np.zeros((4, 2), np.float32)
    offset = np.array([0, 1, 2, 3])
    before = mixture.act(x, offset, rng)
    for t in range(1, 8):
        now = mixture.act(x, offset + t, rng)
        changed = (now != before)[:, 0]
        assert changed.tolist() == ((offset + t) % 3 == 0).tolist()
        before = now


def test_networks_are_drawn_uniformly_an_episode_and_independently(rng):
    mixture, *_ = some_mixture(rng, 5)
    n = 20_000
    mixture.begin(np.arange(n), rng)
    first = mixture.chosen.copy()
    assert stats.chisquare(np.bincount(first, minlength=5)).pvalue > 1e-3
    mixture.begin(np.arange(n), rng)
    table = np.zeros((5, 5))
    np.add.at(table, (first, mixture.chosen), 1)
    assert stats.chi2_contingency(table)[1] > 1e-3
    neighbours = np.zeros((5, 5))
    np.add.at(neighbours, (first[:-1], first[1:]), 1)
    assert stats.chi2_contingency(neighbours)[1] > 1e-3


def test_other_slots_keep_their_network_and_action(rng):
    mixture, *_ = some_mixture(rng, 50, Spaces(None, Box(-1, 1, (1,))), "squashed")
    mixture.begin(np.arange(30), rng)
    chosen = mixture.chosen.copy()
    x = np.zeros((30, 2), np.float32)
    held = mixture.act(x, np.zeros(30, int), rng)
    mixture.begin(np.array([3, 17]), rng)
    others = np.delete(np.arange(30), [3, 17])
    np.testing.assert_array_equal(mixture.chosen[others], chosen[others])
    again = mixture.act(x, np.ones(30, int), rng)
    np.testing.assert_array_equal(again[others], held[others])


def test_slots_that_nobody_began_begin_themselves(rng):
    mixture, *_ = some_mixture(rng, 20)
    mixture.act(np.zeros((3, 2), np.float32), np.zeros(3, int), rng)
    before = mixture.chosen.copy()
    mixture.act(np.zeros((200, 2), np.float32), np.zeros(200, int), rng)
    np.testing.assert_array_equal(mixture.chosen[:3], before)
    assert len(set(mixture.chosen.tolist())) == 20


def test_an_action_of_one_observation(rng):
    mixture, *_ = some_mixture(rng, 3)
    action = mixture.act(np.zeros(2, np.float32), 0, rng)
    assert np.shape(action) == ()
    assert Discrete(4).contains(action)
    box = Spaces(None, Box(-2.0, 1.0, (2, 3), np.float32))
    mixture, *_ = some_mixture(rng, 3, box, "squashed")
    assert box.action_space.contains(mixture.act(np.zeros(2, np.float32), 0))
    with pytest.raises(InputError, match="observations must be"):
        mixture.act(np.zeros((2, 3), np.float32), 0)
    assert "3 networks, observations (2,), 12 steps" in repr(mixture)


# ---------------------------------------------------------------- laws


def test_softmax_actions_have_their_probabilities(rng):
    mixture, flat, sizes, (mean, deviation) = some_mixture(rng, 2, hidden=())
    n = 40_000
    mixture.begin(np.arange(n), rng)
    x = np.array([0.3, -0.4], np.float32)
    actions = mixture.act(np.tile(x, (n, 1)), np.zeros(n, int), rng)
    for k in range(2):
        z = slow_outputs(flat[k], sizes, mean[k], deviation[k], x, 0)
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        mine = actions[mixture.chosen == k]
        counts = np.bincount(mine, minlength=4) / len(mine)
        assert (np.abs(counts - p) < 4.5 * np.sqrt(p * (1 - p) / len(mine)) + 1e-12).all()


@pytest.mark.parametrize("start", [0, 5, -3])
def test_discrete_actions_have_their_names(start, rng):
    head = head_of("softmax", Discrete(3, start=start), 2)
    assert head.to_space(np.array([[0], [2], [1]])).tolist() == [start, start + 2, start + 1]


def test_a_box_is_its_grid():
    space = Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32))
    head = Choice(ActionSet(space, 3))
    assert head.num_outputs == 9
    found = head.to_space(np.arange(9)[:, None])
    slow = [[a, b] for a in (-2.0, 0.0, 2.0) for b in (0.0, 0.5, 1.0)]
    np.testing.assert_array_equal(found, np.array(slow, np.float32))
    assert all(space.contains(action) for action in found)


@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
def test_squashed_actions_are_tanh_of_normals_within_their_bounds(scale, rng):
    space = Box(np.array([-3.0, 1.0], np.float32), np.array([1.0, 2.0], np.float32))
    head = head_of("squashed", space, 3)
    outputs = np.tile(np.array([0.5 * scale, -0.2, -1.0, 0.3], np.float32), (20_000, 1))
    actions = head.choose(outputs, head.noise(rng, (20_000,)))
    assert np.abs(actions).max() <= 1.0
    given = head.to_space(actions)
    assert all(space.contains(action) for action in given[:500])
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, [-1.0, 1.5] + actions * [2.0, 0.5], rtol=1e-6, atol=1e-6)
    law = stats.norm(-0.2, math.exp(0.3)).cdf
    assert stats.kstest(np.arctanh(actions[:, 1].astype(float)), law).pvalue > 1e-3
    if scale == 0.1:
        law = stats.norm(0.05, math.exp(-1.0)).cdf
        assert stats.kstest(np.arctanh(actions[:, 0].astype(float)), law).pvalue > 1e-3
    np.testing.assert_allclose(head.choose(outputs[:1], None), np.tanh(outputs[:1, :2]))


@pytest.mark.parametrize(("output", "deviation"), [(-50.0, math.exp(-5)), (50.0, math.exp(2))])
def test_deviations_have_a_range(output, deviation, rng):
    head = Squashed(Box(-1.0, 1.0, (1,), np.float32))
    noise = np.array([[0.1]], np.float32)
    found = head.choose(np.array([[0.2, output]], np.float32), noise)
    assert found[0, 0] == pytest.approx(math.tanh(0.2 + 0.1 * deviation), rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "space", "head"),
    [
        ("softmax", Discrete(3), Choice),
        ("softmax", Box(-1, 1, (2,)), Choice),
        ("squashed", Box(-1, 1, (2,)), Squashed),
        ("uniform", Box(-1, 1, (2,)), Uniform),
    ],
)
def test_heads_by_their_kind(kind, space, head):
    assert type(head_of(kind, space, 3)) is head


def test_uniform_is_plain_where_there_is_no_box():
    for space in (Discrete(3), MultiBinary(2), MultiDiscrete([2, 3])):
        heads = [head_of(kind, space, 3) for kind in ("uniform", "plain")]
        assert type(heads[0]) is type(heads[1])


@pytest.mark.parametrize(
    "space", [Discrete(3), Box(-np.inf, 1.0, (1,), np.float32), MultiBinary(2)]
)
def test_squashed_normals_need_a_bounded_box(space):
    with pytest.raises(InputError, match="actions must be of a bounded Box for squashed normals"):
        head_of("squashed", space, 3)


@pytest.mark.parametrize("kind", ["softmax", "squashed", "plain", "uniform"])
def test_actions_of_nothing_are_refused(kind):
    with pytest.raises(InputError, match=r"actions must have at least one number, got Box"):
        head_of(kind, Box(-1.0, 1.0, (0,), np.float32), 3)


def test_a_softmax_needs_finitely_many_actions():
    with pytest.raises(InputError, match="actions must be of a Discrete space or a bounded Box"):
        head_of("softmax", Box(-np.inf, 1.0, (1,), np.float32), 3)
    with pytest.raises(InputError, match="actions must be at most 5000 combinations"):
        head_of("softmax", MultiBinary(13), 3)


# ---------------------------------------------------------------- members


def test_layers_are_views(rng):
    flat = rng.normal(size=(2, 3 * 4 + 4 + 4 * 2 + 2)).astype(np.float32)
    layers = stacked_layers(flat, (3, 4, 2))
    assert [(W.shape, b.shape) for W, b in layers] == [
        ((2, 3, 4), (2, 1, 4)),
        ((2, 4, 2), (2, 1, 2)),
    ]
    assert all(np.shares_memory(part, flat) for layer in layers for part in layer)


def test_parameters_of_a_network_and_its_outputs_times_a_number(rng):
    network = MLP((3, 5, 2), [rng], "relu")
    with torch.no_grad():
        network.flat.add_(0.3)
    x = rng.normal(size=(4, 3)).astype(np.float32)
    expected = network(torch.as_tensor(x))[0].detach().numpy()
    before = network.flat.detach().numpy().copy()
    for scale in (1.0, 2.5):
        flat = parameters_of(network, scale)
        found = [slow_outputs(flat, (3, 5, 2), 0.0, 1.0, row) for row in x]
        np.testing.assert_allclose(found, scale * expected, rtol=1e-5, atol=1e-6)
        flat[:] = 0.0  # a copy
    np.testing.assert_array_equal(network.flat.detach().numpy(), before)


def test_members_up_to_the_most_are_all_kept_in_order(rng):
    members = Members(4, 2, 1)
    for k in range(4):
        members.add(np.full(2, k, np.float32), (np.full(1, k + 0.5), np.full(1, k + 1.0)), rng)
    np.testing.assert_array_equal(members.parameters, np.arange(4)[:, None] * np.ones(2))
    np.testing.assert_array_equal(members.mean[:, 0], np.arange(4) + 0.5)
    np.testing.assert_array_equal(members.deviation[:, 0], np.arange(4) + 1.0)
    assert members.seen == 4


def test_beyond_the_most_each_is_kept_with_the_same_probability(rng):
    """Each of 12, and each pair; and networks stay with their scaling."""
    n, most, runs = 12, 4, 6000
    pairs = np.zeros((n, n))
    for _ in range(runs):
        members = Members(most, 1, 1)
        for k in range(n):
            row = np.full(1, k, np.float32)
            members.add(row, (row * 2.0, row + 1.0), rng)
        kept = members.parameters[:, 0].astype(int)
        assert len(kept) == most == len(set(kept.tolist()))
        np.testing.assert_array_equal(members.mean[:, 0], 2.0 * kept)
        np.testing.assert_array_equal(members.deviation[:, 0], kept + 1.0)
        pairs[np.ix_(kept, kept)] += 1
    p = most / n
    assert np.abs(np.diag(pairs) / runs - p).max() < 4.5 * np.sqrt(p * (1 - p) / runs)
    q = most * (most - 1) / (n * (n - 1))
    off = pairs[~np.eye(n, dtype=bool)] / runs
    assert np.abs(off - q).max() < 4.5 * np.sqrt(q * (1 - q) / runs)


def test_members_go_on_as_they_were():
    one, two = Members(3, 2, 1), Members(3, 2, 1)
    rng, row = np.random.default_rng(0), np.ones(2, np.float32)
    for k in range(7):
        if k == 4:
            two.load_state_dict(copy.deepcopy(one.state_dict()))
            twin = copy.deepcopy(rng)
        one.add(k * row, (np.zeros(1), np.ones(1)), rng)
        if k >= 4:
            two.add(k * row, (np.zeros(1), np.ones(1)), twin)
    np.testing.assert_array_equal(one.parameters, two.parameters)
    assert one.seen == two.seen == 7


# ---------------------------------------------------------------- policy.pt


def some_saved(rng, K=3, kind="softmax", env=None, points=3, **played):
    mixture, flat, sizes, (mean, deviation) = some_mixture(rng, K + 1, env, kind, points, **played)
    members = Members(K, flat.shape[1], mean.shape[1])
    for k in range(K):
        members.add(flat[k], (mean[k], deviation[k]), rng)
    last = flat[K], (mean[K], deviation[K])
    return saved_mixture(kind, points, members, last, sizes, **(PLAYED | played)), mixture


@pytest.mark.parametrize("kind", ["softmax", "squashed"])
@pytest.mark.parametrize("played", [{}, {"timed": False, "activation": "tanh", "repeat": 1}])
def test_what_is_saved_acts_as_before(kind, played, rng, tmp_path):
    env = Spaces(None, Box(-2.0, 1.0, (1,), np.float32))
    saved, mixture = some_saved(rng, 3, kind, env, **played)
    torch.save(saved, tmp_path / "policy.pt")
    saved = torch.load(tmp_path / "policy.pt", weights_only=True)
    x, t = rng.normal(size=(10, 2)).astype(np.float32), np.arange(10)
    for whole in (False, True):
        loaded = load_mixture(saved, env, whole)
        assert loaded.size == (3 if whole else 1)
        loaded.begin(np.arange(10), rng)
        mixture.chosen = loaded.chosen.copy() if whole else np.full(10, 3)
        mixture._own = [(W[mixture.chosen], b[mixture.chosen]) for W, b in mixture.layers]
        found, expected = loaded.outputs(x, t), mixture.outputs(x, t)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        actions = loaded.act(x, t, rng)
        assert all(env.action_space.contains(action) for action in actions)
        assert (loaded.horizon, loaded.repeat) == (12, played.get("repeat", 3))
        assert loaded.activation == played.get("activation", "relu")


def damaged(saved, **changes):
    return {k: v for k, v in (saved | changes).items() if v is not None}


TENSOR = torch.zeros


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": None}, "kind"),
        ({"kind": 3}, "kind"),
        ({"flat": None}, "flat"),
        ({"mean": [0.0]}, "mean"),
        ({"timed": 1}, "timed"),
        ({"horizon": "12"}, "horizon"),
        ({"kind": "beta"}, "policy.pt must hold a known kind and activation"),
        ({"activation": "gelu"}, "policy.pt must hold a known kind and activation"),
        ({"horizon": 0}, "policy.pt must hold a horizon, repeat and points >= 1, got less"),
        ({"repeat": -1}, "policy.pt must hold a horizon, repeat and points >= 1, got less"),
        ({"points": 0}, "policy.pt must hold a horizon, repeat and points >= 1, got less"),
        ({"sizes": []}, "policy.pt must hold the sizes of layers"),
        ({"sizes": [3, -7, 4]}, "policy.pt must hold the sizes of layers"),
        ({"sizes": [3, 8, 4]}, "policy.pt must hold flat of shape"),
        ({"flat": TENSOR(4, 5)}, "policy.pt must hold flat of shape"),
        ({"flat": TENSOR(())}, "policy.pt must hold flat of shape"),
        ({"mean": TENSOR(4, 3)}, r"policy.pt must hold mean of shape \(4, 2\)"),
        ({"deviation": TENSOR(3, 2)}, r"policy.pt must hold deviation of shape \(4, 2\)"),
        ({"deviation": TENSOR(4, 2)}, "policy.pt must hold networks and deviations > 0"),
        ({"mean": TENSOR(4, 2, dtype=torch.complex64)}, "policy.pt must hold real numbers as mean"),
        ({"timed": False}, "policy.pt must hold mean of shape"),
    ],
)
def test_damaged_policies(changes, message, rng):
    saved, _ = some_saved(rng)
    with pytest.raises(InputError, match=message):
        load_mixture(damaged(saved, **changes), Spaces())


def test_no_networks_at_all(rng):
    saved, _ = some_saved(rng)
    empty = {name: saved[name][:0] for name in ("flat", "mean", "deviation")}
    with pytest.raises(InputError, match=r"policy.pt must hold networks and deviations > 0"):
        load_mixture(saved | empty, Spaces())


@pytest.mark.parametrize("name", ["flat", "mean", "deviation"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_none(name, value, rng):
    saved, _ = some_saved(rng)
    saved[name][0, 0] = value
    with pytest.raises(InputError, match=f"policy.pt must hold finite numbers as {name}"):
        load_mixture(saved, Spaces())


def test_one_network_alone_is_no_mixture(rng):
    saved, _ = some_saved(rng)
    alone = {name: saved[name][-1:] for name in ("flat", "mean", "deviation")}
    load_mixture(saved | alone, Spaces())
    with pytest.raises(InputError, match="run must hold a mixture, got one network alone"):
        load_mixture(saved | alone, Spaces(), mixture=True)


@pytest.mark.parametrize(
    "env",
    [
        Spaces(Box(-1, 1, (3,), np.float32)),
        Spaces(None, Discrete(5)),
        Spaces(None, Box(-1, 1, (1,), np.float32)),
        Spaces(Discrete(5)),
    ],
)
def test_other_spaces_are_refused(env, rng):
    saved, _ = some_saved(rng)
    with pytest.raises(InputError, match="env must have 2 observed numbers and actions of 4 param"):
        load_mixture(saved, env)


def test_members_are_dealt_evenly(rng):
    """Each draw is uniform, and no member comes twice as often as it must."""
    dealt = np.stack([evenly(5, 12, rng) for _ in range(4000)])
    counts = np.stack([np.bincount(row, minlength=5) for row in dealt])
    assert counts.min() == 2
    assert counts.max() == 3
    frequencies = np.stack([np.bincount(column, minlength=5) for column in dealt.T]) / len(dealt)
    error = np.sqrt(0.2 * 0.8 / len(dealt))
    assert np.abs(frequencies - 0.2).max() < 4.5 * error
