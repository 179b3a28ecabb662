"""Observations as inputs and outputs as actions, against numpy, scipy and torch.distributions."""

import math

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from scipy.stats import norm

torch = pytest.importorskip("torch")

from rlentropy.errors import InputError  # noqa: E402
from rlentropy.neural.networks import MLP, layers_of  # noqa: E402
from rlentropy.neural.spaces import (  # noqa: E402
    LOG_DEVIATION,
    ActionSet,
    Categorical,
    Encoder,
    Gaussian,
    NeuralPolicy,
    RunningMeanStd,
    make_head,
    standardised,
    state_features,
)

LINE = Box(-math.inf, math.inf, (1,), np.float32)


# ---------------------------------------------------------------- observations


@pytest.mark.parametrize(("space", "observations", "rows"), [
    (LINE, [[1.5], [-2.0]], [[1.5], [-2.0]]),
    (Box(-9, 9, (2, 2), np.float64), [[[1, 2], [3, 4]]], [[1, 2, 3, 4]]),
    (Box(0, 255, (2,), np.uint8), np.array([[7, 255]], np.uint8), [[7, 255]]),
    (MultiDiscrete([3, 4]), [[2, 3]], [[2, 3]]),
    (MultiBinary(3), [[0, 1, 1]], [[0, 1, 1]]),
    (Discrete(3), [2, 0], [[0, 0, 1], [1, 0, 0]]),
    (Discrete(3, start=-1), np.array([-1, 1], np.int8), [[1, 0, 0], [0, 0, 1]]),
])  # fmt: skip
def test_encoded_observations(space, observations, rows):
    encode = Encoder.of(space)
    encoded = encode(observations)
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded, rows)
    assert encoded.shape == (len(rows), encode.width)


def test_states_with_features_of_their_own():
    table = state_features(5, "fourier").astype(np.float32)
    encode = Encoder(3, 4, table)
    np.testing.assert_array_equal(encode([3, 7]), table[[0, 4]])
    one_hot = Encoder(3, 5, state_features(5, "one-hot").astype(np.float32))
    np.testing.assert_array_equal(one_hot([4, 6]), Encoder.of(Discrete(5, start=3))([4, 6]))
    for states in ([2, 3], [3, 8]):
        with pytest.raises(InputError, match=r"observations must be in 3\.\.7, got"):
            encode(states)


@pytest.mark.parametrize("n", [2, 7, 8])
def test_fourier_features_of_a_ring(n):
    """Inner products depend on the distance round the ring alone, and tell all states apart."""
    x = state_features(n, "fourier")
    gram = x @ x.T
    for shift in range(n):
        np.testing.assert_allclose(np.roll(gram, (shift, shift), (0, 1)), gram, atol=1e-12)
    assert (np.linalg.norm(x[0] - x[1:], axis=1) > 0.5).all()


@pytest.mark.parametrize("space", [Dict({"x": LINE}), Tuple((LINE, LINE))])
def test_other_spaces_are_refused(space):
    with pytest.raises(
        InputError,
        match=r"observations must .* got (Dict|Tuple).*FlattenObs",
    ):
        Encoder.of(space)
    with pytest.raises(InputError, match=r"actions must be of a Box, .* got (Dict|Tuple)"):
        make_head(space)
    with pytest.raises(InputError, match=r"actions must be of a Box, .*TransformAction makes"):
        ActionSet(space, 3)


def test_running_mean_and_deviation(rng):
    rows, running = rng.normal(3.0, 5.0, (1000, 2)) + 1e6, RunningMeanStd(2)
    rows[:, 1] = 7.0
    np.testing.assert_array_equal(running.deviation(), 1.0)
    for part in np.array_split(rows, [3, 500, 501]):
        running.update(part)
    np.testing.assert_allclose(running.mean, rows.mean(0))
    np.testing.assert_allclose(running.deviation(), [rows[:, 0].std(), 1.0])
    np.testing.assert_array_equal(running.deviation(least=6.0), 1.0)
    again = RunningMeanStd(2)
    again.load_state_dict(running.state_dict())
    for one in (running, again):
        one.update(rows[:7])
    np.testing.assert_array_equal(again.deviation(), running.deviation())


def test_standardised_rows(rng):
    rows = rng.normal(3.0, 5.0, (50, 2)).astype(np.float32)
    mean, deviation = rows.mean(0, dtype=float), rows.std(0, dtype=float)
    found = standardised(rows, mean, deviation)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(0), 0.0, atol=1e-6)
    np.testing.assert_allclose(found.std(0), 1.0, rtol=1e-6)
    cut = standardised(rows, mean, deviation, clip=0.5)
    np.testing.assert_array_equal(cut, found.clip(-0.5, 0.5))
    in_single = standardised(rows, mean.astype(np.float32), deviation.astype(np.float32))
    want = (torch.as_tensor(rows) - torch.as_tensor(mean).float()) / torch.as_tensor(
        deviation
    ).float()
    np.testing.assert_array_equal(in_single, want)


# ---------------------------------------------------------------- laws of actions


def test_categorical_law_is_torchs(rng):
    head = Categorical(MultiDiscrete([2, 3]))
    outputs = torch.as_tensor(rng.normal(size=(40, 5)), dtype=torch.float32)
    actions = torch.as_tensor(rng.integers([2, 3], size=(40, 2)))
    parts = [torch.distributions.Categorical(logits=p) for p in outputs.split([2, 3], dim=1)]
    log_p, entropy = head.law(outputs, actions)
    wanted = sum(part.log_prob(a) for part, a in zip(parts, actions.T, strict=True))
    torch.testing.assert_close(log_p, wanted)
    torch.testing.assert_close(entropy, sum(part.entropy() for part in parts))


def test_categorical_draws_have_the_laws_probabilities(rng):
    head, n = Categorical(MultiDiscrete([2, 3])), 60_000
    outputs = rng.normal(size=(1, 5)).astype(np.float32)
    drawn = head.choose(np.repeat(outputs, n, 0), head.noise(rng, (n,)))
    for i in range(2):
        for j in range(3):
            p = math.exp(head.law(torch.as_tensor(outputs), torch.tensor([[i, j]]))[0])
            share = (drawn == [i, j]).all(1).mean()
            assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / n)
    likeliest = [[outputs[0, :2].argmax(), outputs[0, 2:].argmax()]]
    np.testing.assert_array_equal(head.choose(outputs, None), likeliest)


def test_gaussian_law_is_torchs(rng):
    head = Gaussian(Box(-2.0, 2.0, (3,)))
    outputs = torch.as_tensor(rng.normal(size=(40, 6)), dtype=torch.float32)
    outputs[:2, 3:] = torch.tensor([[-9.0], [9.0]])  # deviations that are cut off
    actions = torch.as_tensor(rng.normal(size=(40, 3)), dtype=torch.float32)
    deviation = outputs[:, 3:].clamp(*LOG_DEVIATION).exp()
    normal = torch.distributions.Independent(
        torch.distributions.Normal(outputs[:, :3], deviation), 1
    )
    log_density, entropy = head.law(outputs, actions)
    torch.testing.assert_close(log_density, normal.log_prob(actions))
    torch.testing.assert_close(entropy, normal.entropy())


def test_gaussian_draws_have_the_laws_moments(rng):
    head, n = Gaussian(Box(-2.0, 2.0, (2,))), 40_000
    outputs = np.array([[0.1, -0.4, 0.3, -1.0]], np.float32)
    drawn = head.choose(np.repeat(outputs, n, 0), head.noise(rng, (n,)))
    law = norm(outputs[0, :2], np.exp(outputs[0, 2:]))
    assert (np.abs(drawn.mean(0) - law.mean()) < 5 * law.std() / math.sqrt(n)).all()
    assert (np.abs(drawn.std(0) / law.std() - 1.0) < 5 / math.sqrt(2 * n)).all()
    np.testing.assert_array_equal(head.choose(outputs, None), outputs[:, :2])


@pytest.mark.parametrize(("space", "actions", "given", "features"), [
    (Discrete(3), [[2], [0]], [2, 0], [[0, 0, 1], [1, 0, 0]]),
    (Discrete(3, start=-1), [[2], [0]], [1, -1], [[0, 0, 1], [1, 0, 0]]),
    (MultiDiscrete([2, 3], start=[1, -1]), [[1, 2]], [[2, 1]], [[0, 1, 0, 0, 1]]),
    (MultiBinary(2), [[1, 0]], [[1, 0]], [[0, 1, 1, 0]]),
    (Box(-2.0, 2.0, (2,)), [[0.5, -3.0]], [[1.0, -2.0]], [[0.5, -1.0]]),
    (Box(0.0, 10.0, (1, 2)), [[0.0, 1.0]], [[[5.0, 10.0]]], [[0.0, 1.0]]),
    (Box(np.float32([0, -np.inf]), np.float32([5, 1])), [[0.0, 3.0]], [[2.5, 1.0]], [[0.0, 1.0]]),
    (Box(0, 9, (2,), np.int64), [[0.0, 0.1]], [[4, 5]], [[0.0, 0.1]]),
    (Box(3.0, 3.0, (1,)), [[0.7]], [[3.0]], [[0.0]]),
])  # fmt: skip
def test_actions_as_environments_and_critics_get_them(space, actions, given, features):
    head = make_head(space)
    actions = np.array(actions, head.dtype)
    assert actions.shape == (len(actions), head.num_components)
    environment = head.to_space(actions)
    np.testing.assert_allclose(environment, given)
    assert all(space.contains(a) for a in environment)
    seen = head.features(actions)
    assert seen.dtype == np.float32
    assert seen.shape == (len(actions), head.num_features)
    np.testing.assert_allclose(seen, features)
    outputs = np.zeros((4, head.num_outputs), np.float32)
    drawn = head.choose(outputs, head.noise(np.random.default_rng(0), (4,)))
    assert all(space.contains(a) for a in head.to_space(drawn))


def test_a_policy_draws_or_takes_the_likeliest(rng):
    """Against the network of torch and the law of its outputs."""
    env = gymnasium.make("Pendulum-v1")
    network = MLP((3, 8, 2), [rng])
    mean, deviation = rng.normal(size=3), rng.uniform(0.5, 2.0, size=3)
    x = rng.normal(size=(6, 3)).astype(np.float32)
    outputs = network(torch.as_tensor((x - mean) / deviation, dtype=torch.float32))[0].detach()
    likeliest = NeuralPolicy(env, layers_of(network), "tanh", (mean, deviation), False)
    np.testing.assert_allclose(likeliest.act(x), 2.0 * outputs[:, :1].clamp(-1, 1), rtol=1e-4)
    drawing = NeuralPolicy(env, layers_of(network), "tanh", (mean, deviation), True)
    noise = np.random.default_rng(5).standard_normal((6, 1), dtype=np.float32)
    drawn = outputs[:, :1] + outputs[:, 1:].clamp(*LOG_DEVIATION).exp() * torch.as_tensor(noise)
    actions = drawing.act(x, np.zeros(6, int), np.random.default_rng(5))
    np.testing.assert_allclose(actions, 2.0 * drawn.clamp(-1, 1), rtol=1e-4)
    assert "stochastic" in repr(drawing)


# ---------------------------------------------------------------- finitely many actions


def test_grid_actions_mix_the_corners_of_their_cell(rng):
    actions = ActionSet(Box(np.array([-1.0, 0.0]), np.array([1.0, 4.0]), dtype=np.float64), 5)
    assert len(actions) == 25
    x = rng.uniform([-1.0, 0.0], [1.0, 4.0], (100, 2))
    x[0], x[1] = [-1.0, 0.0], [1.0, 4.0]
    index, weight = actions.mixed(x)
    assert (weight >= 0.0).all()
    np.testing.assert_allclose(weight.sum(1), 1.0)
    np.testing.assert_allclose((weight[..., None] * actions.elements[index]).sum(1), x, atol=1e-12)
    bilinear = actions.elements[:, 0] * actions.elements[:, 1]
    np.testing.assert_allclose((weight * bilinear[index]).sum(1), x[:, 0] * x[:, 1], atol=1e-12)


def test_discrete_actions_are_outputs():
    actions = ActionSet(Discrete(4, start=2), points=11)
    np.testing.assert_array_equal(actions.elements, [2, 3, 4, 5])
    index, weight = actions.mixed(np.array([5, 2]))
    np.testing.assert_array_equal(index, [[3], [0]])
    np.testing.assert_array_equal(weight, 1.0)


def test_one_action_alone_is_no_grid_of_nothing():
    actions = ActionSet(Box(0.5, 0.5, (1,), np.float64), 3)
    index, weight = actions.mixed(np.full((2, 1), 0.5))
    assert np.isfinite(weight).all()
    np.testing.assert_allclose((weight * actions.elements[index][..., 0]).sum(1), 0.5)


@pytest.mark.parametrize(("space", "points", "message"), [
    (Discrete(2**21), 2, "networks must have at most 1048576 actions"),
    (LINE, 3, r"actions must be of a Discrete space or a bounded Box, got Box\(-inf"),
    (Box(0.0, 1.0, (0,)), 3, "actions must have at least one number"),
    (Box(0.0, 1.0, (5,)), 11, "action_grid must make at most 5000 points in 5 dimensions, got 11"),
    (Box(0.0, 1.0, (40,)), 2, "action_grid must make at most 5000 points in 40 dimensions, got 2"),
    (Box(-1e300, 1e300, (1,), np.float64), 3, r"actions must be within ±3.4e\+38 for networks"),
])  # fmt: skip
def test_sets_that_no_network_holds_are_refused(space, points, message):
    with pytest.raises(InputError, match=message):
        ActionSet(space, points)
