"""Networks of the offline commands against tables, closed forms and themselves."""

import dataclasses

import numpy as np
import pytest
from examples.offline import (
    PASSED,
    SMALL,
    Bandit,
    Coin,
    boxed,
    dataset,
    extreme,
    learnt,
    table,
)
from gymnasium.spaces import Box

from rlentropy import risk
from rlentropy.data import Transitions
from rlentropy.envs.ring import RingEnv
from rlentropy.neural import losses
from rlentropy.neural.networks import forward, layers_of
from rlentropy.offline import fqi, problem, rfqi, rfzi
from rlentropy.offline.networks import Networks


@pytest.mark.parametrize(
    ("module", "embedding"),
    [(fqi, "one-hot"), (rfzi, "one-hot"), (rfzi, "fourier"), (rfqi, "one-hot")],
)
def test_networks_learn_what_tables_solve(module, embedding):
    data = dataset(RingEnv(p=0.2).mdp, 5000, seed=0)
    options = {"risk": {fqi: "nominal", rfzi: "entropic:0.3", rfqi: "tv-ball:0.1"}[module]}
    exact = learnt(module, data, gamma=0.7, **options).policy["Q"]
    network = {"approximator": "neural", "hidden": (64, 64), "embedding": embedding}
    network |= {"learning_rate": 2e-3, "batch_size": 5000, "target_every": 25, "updates": 600}
    if module is rfqi:
        network |= {"dual_steps": 4, "dual_learning_rate": 3e-3}
    rough = learnt(module, data, gamma=0.7, **network, **options).policy["Q"]
    assert np.abs(rough - exact).max() < 0.1 * np.ptp(exact)
    assert np.abs(rough - exact).mean() < 0.02 * np.ptp(exact)


def test_networks_learn_a_bandit_in_a_box_of_states_and_actions():
    # Ends after one step: Q(x, a) = r = 1 - (a - x)² is best at a = x; the noise is priced by β.
    rng = np.random.default_rng(0)
    N, beta = 4000, 2.0
    x = rng.uniform(-1, 1, (N, 1)).astype(np.float32)
    a = rng.uniform(-1, 1, (N, 1)).astype(np.float32)
    r = 1.0 - (a - x)[:, 0] ** 2 + rng.choice([-0.5, 0.5], N)
    ends = np.ones(N, bool)
    spaces = {"observation_space": Box(-1.0, 1.0, (1,)), "action_space": Box(-1.0, 1.0, (1,))}
    data = Transitions.from_arrays(x, a, r, x, ends, ~ends, **spaces)
    options = {"hidden": (64, 64), "batch_size": 500, "gamma": 0.9, "updates": 600}
    result = learnt(rfzi, data, risk=f"entropic:{beta}", approximator="auto", **options)
    b = beta / 0.9
    certain = -np.log(np.cosh(0.5 * b)) / b  # of the noise ±½
    policy = rfzi.load_policy(dict(result.network), Bandit())
    states = np.linspace(-0.8, 0.8, 9, dtype=np.float32)[:, None]
    acted = policy.act(states, np.zeros(9, np.int64), rng)
    assert acted.shape == (9, 1)
    assert np.abs(acted - states).max() <= 0.31  # a grid of step 0.2
    output = policy.network(policy.features(states)).detach()[0]
    assert output.shape == (9, 11)
    u = learnt_range(data, output, 0.9)
    assert np.abs(0.9 * u.max(1) - (1.0 + certain)).max() < 0.15


def test_actions_foreign_to_the_data_are_not_chosen():
    # Action 2 is rare and pays most: it is chosen unless it must be likely in the data.
    rng = np.random.default_rng(0)
    N = 2000
    x = rng.normal(size=(N, 2)).astype(np.float32)
    a = rng.choice(3, N, p=[0.5, 0.4, 0.1])
    ends = np.ones(N, bool)
    data = Transitions.from_arrays(x, a, np.array([0.0, 0.5, 1.0])[a], x, ends, ~ends)
    options = {"hidden": (32,), "batch_size": 500, "updates": 300, "approximator": "neural"}
    options |= {"learning_rate": 5e-3}
    for support, expected in ((0.0, 2), (0.5, 1)):
        result = learnt(fqi, data, support=support, **options)
        policy = fqi.load_policy(dict(result.network), Coin())
        acted = policy.act(x[:100], np.zeros(100, np.int64), rng)
        assert (acted == expected).mean() > 0.95


def learnt_range(data, output, gamma):
    """u of the outputs: a sigmoid over the range of targets that the rewards allow."""
    low, high = problem.value_range(data, gamma)
    low, high = low + data.rewards.min() / gamma, high + data.rewards.max() / gamma
    low, high = low - 0.1 * (high - low), high + 0.1 * (high - low)
    return (low + (high - low) / (1.0 + np.exp(-output.numpy()))).astype(float)


@pytest.mark.parametrize("kind", ["states", "boxes", "actions"])
@pytest.mark.parametrize("module", [rfzi, rfqi])
def test_stacked_seeds_are_single_runs(kind, module):
    """The first of three members ends where a run of its own seed does, within rounding."""
    data = {
        "states": lambda: dataset(RingEnv(p=0.2).mdp, 1000, seed=0),
        "boxes": boxed,
        "actions": lambda: boxed(actions="box"),
    }[kind]()

    def weights(seed, members):
        config = module.Config(seeds=members, holdout=0.0, **SMALL)
        rngs = problem.member_rngs(np.random.default_rng(seed), members)
        parts = problem.split(data, config, *learnt_parts(module, config))
        networks = Networks(parts, config, learnt_objective(module, config), rngs)
        networks.advance(20)
        return [
            np.concatenate([w[m].detach().numpy().ravel() for w in networks.network.weights])
            for m in range(members)
        ]

    stacked = weights(5, 3)
    for k in range(3):
        np.testing.assert_allclose(weights(5 + k, 1)[0], stacked[k], rtol=0.0, atol=2e-4)
    assert np.abs(stacked[0] - stacked[1]).max() > 0.1


def learnt_parts(module, config):
    if module is rfzi:
        return (lambda n: config.measure), None
    return (lambda n: risk.TVBall(0.1, support=np.array([n - 1]))), -100.0


def learnt_objective(module, config):
    if module is rfzi:
        return lambda low, high: losses.Linex(low, high, 0.1, 3.0, 0)
    return lambda low, high: losses.TVDual(low, high, 0.1, -100.0, 2, 1e-3)


def test_networks_on_states_end_where_tables_do():
    options = {"approximator": "neural", "hidden": (32,), "batch_size": 200, "target_every": 10}
    options |= {"learning_rate": 0.01, "updates": 600, "gamma": 0.7}
    rough = learnt(fqi, table(*PASSED), **options).policy["Q"]
    exact = learnt(fqi, table(*PASSED), gamma=0.7).policy["Q"]
    assert np.abs(rough - exact).max() < 0.05 * np.ptp(exact)


# ---------------------------------------------------------------- what is logged


@pytest.mark.parametrize("actions", ["discrete", "box"])
@pytest.mark.parametrize("holdout", [0.0, 0.25])
def test_diagnostics_are_what_they_are_called(actions, holdout):
    """Of held-out transitions where there are some; against numpy, member by member."""
    data = boxed(actions=actions)
    config = fqi.Config(holdout=holdout, seeds=2, action_grid=3, **SMALL)
    parts = problem.split(data, config, lambda n: risk.Nominal(), None)
    rngs = problem.member_rngs(np.random.default_rng(0), 2)
    networks = Networks(parts, config, losses.Squared, rngs)
    networks.advance(300)
    found = networks.diagnostics()
    scored, gamma, objective = parts.held_out or parts.train, config.gamma, networks.objective
    assert len(scored) == (150 if holdout else 600)
    mean, deviation = (f(parts.train.observations.astype(float), 0) for f in (np.mean, np.std))
    for m in range(2):
        layers = layers_of(networks.network, m)

        def values(observations, layers=layers):
            x = ((observations - mean) / deviation).astype(np.float32)
            output = forward(layers, x, "relu")
            return output, objective.low + (objective.high - objective.low) / (1 + np.exp(-output))

        output, u = values(scored.observations)
        assert found["eval/u_min"][m] == pytest.approx(u.min(), rel=1e-4)
        assert found["eval/u_max"][m] == pytest.approx(u.max(), rel=1e-4)
        saturation = (np.abs(output) > 5.0).mean()
        assert found["eval/saturation"][m] == pytest.approx(saturation, abs=1e-3)
        x = scored.rewards / gamma + ~scored.terminations * gamma * values(
            scored.next_observations
        )[1].max(1)
        if actions == "discrete":
            taken = u[np.arange(len(scored)), scored.actions]
            agreement = output.argmax(1) == scored.actions
        else:  # the share that a grid of -2, 0, 2 gives the best of its points
            share = np.maximum(1.0 - np.abs(scored.actions - [-2.0, 0.0, 2.0]) / 2.0, 0.0)
            taken = (share * u).sum(1)
            agreement = share[np.arange(len(scored)), output.argmax(1)]
        assert found["eval/action_agreement"][m] == pytest.approx(agreement.mean(), abs=2e-3)
        loss = (0.5 * (taken - x) ** 2).mean()
        assert found["eval/bellman_loss"][m] == pytest.approx(loss, rel=1e-3)
    assert found["eval/saturation"].shape == (2,)


# ---------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ({"observations": 1e300}, {}, r"observations must be within ±3.4e\+38 for networks"),
        ({"rewards": 1e38}, {}, r"rewards must keep values within ±3.4e\+38 for networks"),
        ({"rewards": 2e307}, {}, "rewards must be small enough for finite values"),
        ({"actions": -1e300}, {}, r"actions must be within ±3.4e\+38 for networks"),
        ({}, {"batch_size": 10**12}, "batch_size must make networks that fit in memory, got"),
        ({}, {"hidden": (10**9,)}, "hidden, seeds and batch_size must make networks that fit"),
        ({"actions": 0.5}, {"action_grid": 10**9}, "action_grid must make at most 5000 points"),
        ({}, {"learning_rate": 1e30}, "learning_rate must be small enough for finite weights"),
    ],
)
def test_what_networks_cannot_hold_is_refused(data, options, message):
    with pytest.raises(ValueError, match=message):
        learnt(fqi, extreme(**data), **({"updates": 3} | SMALL | options))


@pytest.mark.parametrize("beta", ["1e20", "1e-20"])
def test_networks_refuse_a_risk_whose_square_overflows(beta):
    with pytest.raises(ValueError, match=r"risk must have BETA in \(1e-15, .* for networks, got"):
        learnt(rfzi, boxed(), updates=3, risk=f"entropic:{beta}", **SMALL)


def test_networks_read_columns_of_any_type():
    data = extreme()
    wanted = learnt(fqi, data, updates=3, **SMALL).network["network"]
    for dtype in ("f8", "f4", "f2"):
        odd = dataclasses.replace(data, rewards=data.rewards.astype(dtype))
        odd = dataclasses.replace(odd, observations=odd.observations.astype(dtype))
        found = learnt(fqi, odd, updates=3, **SMALL).network["network"]
        tolerance = 0.1 if dtype == "f2" else 1e-4
        for one, two in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one.numpy(), two.numpy(), atol=tolerance)
    images = (np.abs(data.observations) * 80).clip(0, 255).astype(np.uint8)
    ends = np.ones(50, bool)
    for actions in (data.actions.astype(np.uint64), data.actions.astype(np.int8)):
        seen = Transitions.from_arrays(images, actions, data.rewards, images, ends, ~ends)
        assert np.isfinite(
            learnt(fqi, seen, updates=3, **SMALL).network["network"][0].numpy()
        ).all()
        assert seen.observations.dtype == np.uint8
