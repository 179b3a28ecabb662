"""What solvers, runs, data and policies return: short to print, and the same after a pickle."""

import copy
import pickle
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from examples.offline import boxed

import rlentropy
from rlentropy import EmpiricalModel, FiniteMDP, cli, planning, policies, risk
from rlentropy.data import Transitions
from rlentropy.exploration import entgame, neural_entgame
from rlentropy.intervals import estimate
from rlentropy.offline import fqi, rfzi
from rlentropy.perturbations import perturbed
from rlentropy.preferences import active_preference
from rlentropy.preferences.acquisition import Pool, select
from rlentropy.runs.policies import load

LAKE, GRID = "FrozenLake-v1", "rlentropy/ContinuousGrid-v0"
MDP = FiniteMDP.from_env(gymnasium.make(LAKE))
SHORT = {"horizon": 20, "steps": 200, "episodes": 2, "final_episodes": 2}


def small_data():
    s = np.arange(10)
    return Transitions.from_arrays(s % 3, 0 * s, s / 9.0, (s + 1) % 3, s < 0, s == 9)


def networks():
    run = neural_entgame.run(GRID, evaluation_episodes=2, hidden=(8,), **SHORT)
    return neural_entgame.load_policy(dict(run.network), gymnasium.make(GRID), mixture=True)


def greedy():
    data = boxed(N=60)
    run = fqi.run(data, updates=5, hidden=(8,))
    return fqi.load_policy(dict(run.network), SimpleNamespace(**vars(data)))


def pool():
    gaps = np.random.default_rng(0).normal(size=(5, 200))
    return Pool(margins=gaps[0], gaps=gaps, weights=np.full(5, 0.2))


def counted():
    model = EmpiricalModel(3, 2)
    model.update(np.array([0, 1]), np.array([1, 0]), np.array([1, 2]))
    return model


RETURNED = {
    "FiniteMDP": lambda: MDP,
    "EmpiricalModel": counted,
    "Optimum": lambda: planning.optimum(MDP, 0.9),
    "Plan": lambda: planning.backward_induction(MDP, MDP.r, 5),
    "Exploration": lambda: planning.max_visitation_entropy(MDP, 5),
    "RobustValue": lambda: planning.robust_optimum(MDP, risk.KLBall(0.1), 0.9),
    "Explored": lambda: entgame.run(LAKE, episodes=10, horizon=10),
    "Result": lambda: rfzi.run(small_data(), updates=20),
    "preferences": lambda: active_preference.run(
        LAKE, labels=8, batch_size=4, segment_length=4, final_episodes=20
    ),
    "Transitions": small_data,
    "Batch": lambda: small_data().sample([0, 1]),
    "Counts": lambda: small_data().counts(),
    "Tabular": lambda: policies.Tabular(np.full((1, 16, 4), 0.25)),
    "Mixture": lambda: policies.Mixture(np.full((3, 1, 16, 4), 0.25)),
    "Uniform": lambda: policies.random(gymnasium.make(GRID)),
    "networks": networks,
    "Greedy": greedy,
    "Pool": pool,
    "Selection": lambda: select("label-information", pool(), 16, np.random.default_rng(0)),
    "Estimate": lambda: estimate(np.arange(12.0).reshape(4, 3), "mean", np.random.default_rng(0)),
    "Config": entgame.Config,
}


def same(one, two):
    """Whether two things hold the same, at any depth."""
    if type(one) is not type(two):
        return False
    if isinstance(one, np.ndarray):
        return np.array_equal(one, two, equal_nan=one.dtype.kind == "f")
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[k], two[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if hasattr(one, "toarray"):
        return np.array_equal(one.toarray(), two.toarray())
    if type(one).__module__.startswith("rlentropy") and hasattr(one, "__dict__"):
        return same(vars(one), vars(two))
    return repr(one) == repr(two)


@pytest.mark.parametrize("name", RETURNED)
def test_what_is_returned_is_short_and_can_be_kept(name):
    found = RETURNED[name]()
    assert len(repr(found)) < 400
    assert "\n" not in repr(found)
    for kept in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        assert same(found, kept)
        assert repr(found) == repr(kept)


@pytest.mark.parametrize("name", ["Tabular", "Mixture", "Uniform", "networks", "Greedy"])
def test_kept_policies_act_alike(name):
    policy = RETURNED[name]()
    kept = pickle.loads(pickle.dumps(policy))
    observations = (
        np.zeros((4, 2), np.float32) if name in ("Uniform", "networks", "Greedy") else [0, 1, 2, 0]
    )
    seeds = (np.random.default_rng(0), np.random.default_rng(0))
    one, two = (
        p.act_batch(observations, 0, rng) for p, rng in zip((policy, kept), seeds, strict=True)
    )
    np.testing.assert_array_equal(one, two)


def test_finished_runs_can_be_kept(tmp_path):
    line = ["entgame", "--env-id", LAKE, "--horizon", "5", "--episodes", "20", "--quiet"]
    assert cli.main([*line, "--out", str(tmp_path / "run")]) == 0
    run = rlentropy.load_run(str(tmp_path / "run"))
    acted = run.policy.act_batch([0, 1, 2], 1, np.random.default_rng(0))
    kept = pickle.loads(pickle.dumps(run))
    assert repr(kept) == repr(run)
    assert len(repr(run)) < 400
    assert kept.summary == run.summary
    np.testing.assert_array_equal(
        kept.policy.act_batch([0, 1, 2], 1, np.random.default_rng(0)), acted
    )
    mixture = load(str(tmp_path / "run"), gymnasium.make(LAKE), mixture=True)
    assert mixture.act(0) in range(4)


@pytest.mark.parametrize(
    ("env_id", "name", "value"),
    [
        *(("CartPole-v1", "length", 1.0), ("CartPole-v1", "attr.tau", 0.01)),
        *((LAKE, "success_rate", 0.5), ("CartPole-v1", "observation_noise", 0.1)),
    ],
)
def test_perturbed_environments_can_be_kept(env_id, name, value):
    env = perturbed(gymnasium.make(env_id), name, value)
    kept = pickle.loads(pickle.dumps(env))
    for one, two in zip(*(played(e) for e in (env, kept)), strict=True):
        np.testing.assert_array_equal(one, two)


def played(env):
    yield env.reset(seed=3)[0]
    for t in range(5):
        observation, reward, *_ = env.step(t % 2)
        yield np.append(observation, reward)
