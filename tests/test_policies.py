"""Policies on batches: the laws they draw from, and how those of finished runs are read."""

import json
import sys
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from hypothesis import given
from hypothesis import strategies as st

from rlentropy import cli, policies
from rlentropy.policies import Mixture, Tabular, load, play, uniform_actions


def spaces(observation, action):
    return SimpleNamespace(observation_space=observation, action_space=action)


def finished(folder, command="maxent", **changes):
    """A run folder with a summary, as far as `load` reads one."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = {"command": command, "env_id": "x", "seed": 0, "finished": True}
    (folder / "summary.json").write_text(json.dumps(summary | changes))
    return folder


# ---------------------------------------------------------------- laws


def test_tabular_actions_follow_the_table(rng):
    pi = rng.dirichlet(np.ones(4), size=(1, 3))
    n = 30_000
    policy = Tabular(pi)
    for s in range(3):
        actions = policy.act(np.full(n, s), np.zeros(n, int), rng)
        share = np.bincount(actions, minlength=4) / n
        assert (np.abs(share - pi[0, s]) < 4.5 * np.sqrt(pi[0, s] * (1 - pi[0, s]) / n)).all()


def test_tabular_policy_starts_over_beyond_its_horizon(rng):
    choice = rng.integers(3, size=(4, 5))  # (H, S)
    policy = Tabular(np.eye(3)[choice])
    s, t = rng.integers(5, size=200), rng.integers(100, size=200)
    np.testing.assert_array_equal(policy.act(s, t, rng), choice[t % 4, s])


def test_spaces_that_do_not_start_at_zero(rng):
    choice = rng.integers(3, size=5)
    policy = Tabular(np.eye(3)[choice][None], first_state=10, first_action=-2)
    s = np.arange(5)
    np.testing.assert_array_equal(policy.act(s + 10, np.zeros(5, int), rng), choice - 2)


@given(seed=st.integers(0, 2**32 - 1))
def test_impossible_actions_are_never_drawn(seed):
    """Also where the draw lands on a boundary, or rounding leaves a row below 1."""
    rng = np.random.default_rng(seed)
    row = rng.dirichlet(np.ones(3)) * (1.0 - 1e-9)
    pi = np.zeros(6)
    pi[np.sort(rng.choice(6, size=3, replace=False))] = row
    policy = Tabular(pi[None, None])
    for u in (0.0, *np.cumsum(pi)[:-1], np.nextafter(1.0, 0.0)):
        fixed = SimpleNamespace(random=lambda n, u=u: np.full(n, u))
        action = policy.act(np.zeros(1, int), np.zeros(1, int), fixed)[0]
        assert pi[action] > 0.0 or u >= 1.0


def test_a_slot_draws_the_same_whatever_happens_in_the_others(rng):
    pi = rng.dirichlet(np.ones(4), size=(2, 3))
    for policy in (Tabular(pi), Mixture(np.stack([pi, pi[::-1]]))):
        runs = []
        for others in (0, 2):
            same = np.random.default_rng(1)
            policy.begin(np.arange(6), same)
            s = np.array([1, others, others, 2, others, 0])
            runs.append([policy.act(s, np.full(6, t), same)[[0, 3, 5]] for t in range(20)])
        np.testing.assert_array_equal(*runs)


def test_mixture_plays_one_of_its_policies_for_a_whole_episode(rng):
    K, n = 5, 4000
    policy = Mixture(np.eye(K)[:, None, None, :].repeat(3, axis=1))  # policy k plays action k
    policy.begin(np.arange(n), rng)
    first = policy.act(np.zeros(n, int), np.zeros(n, int), rng)
    for t in range(1, 5):
        np.testing.assert_array_equal(policy.act(np.zeros(n, int), np.full(n, t), rng), first)
    share = np.bincount(first, minlength=K) / n
    assert (np.abs(share - 1 / K) < 4 * np.sqrt(1 / K / n)).all()
    policy.begin(np.arange(10), rng)  # new episodes in ten slots
    after = policy.act(np.zeros(n, int), np.zeros(n, int), rng)
    np.testing.assert_array_equal(after[10:], first[10:])
    assert (after[:10] != first[:10]).any()


def test_uniform_actions(rng):
    box = Box(np.array([-1.0, 2.0], np.float32), np.array([0.0, 8.0], np.float32))
    n = 20_000
    x = uniform_actions(box, n, rng)
    assert x.shape == (n, 2)
    assert x.dtype == np.float32
    assert (x >= box.low).all()
    assert (x <= box.high).all()
    width = box.high - box.low
    assert (np.abs(x.mean(0) - (box.low + width / 2)) < 4 * width / np.sqrt(12 * n)).all()
    a = uniform_actions(Discrete(3, start=5), n, rng)
    share = np.bincount(a - 5, minlength=3) / n
    assert share.size == 3
    assert (np.abs(share - 1 / 3) < 4 * np.sqrt(2 / 9 / n)).all()
    assert uniform_actions(MultiDiscrete([2, 3]), 7, rng).shape == (7, 2)
    assert uniform_actions(Box(-np.inf, np.inf, (2,)), 7, rng).shape == (7, 2)
    whole = uniform_actions(Box(0, 3, (2,), np.int64), 500, rng)
    assert set(np.unique(whole)) == {0, 1, 2, 3}


def test_random_policy_leaves_the_space_of_the_environment_alone(rng):
    env = spaces(Discrete(2), MultiDiscrete([50, 50]))
    env.action_space.seed(3)
    expected = env.action_space.sample()
    env.action_space.seed(3)
    policies.random(env).act(np.zeros(4), np.zeros(4, int), rng)
    np.testing.assert_array_equal(env.action_space.sample(), expected)


# ---------------------------------------------------------------- episodes


class Countdown(gymnasium.Env):
    """Ends after as many steps as its seed; each step gives its number and the action."""

    observation_space, action_space = Discrete(100), Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.left, self.t = seed, 0
        return np.int64(self.left), {}

    def step(self, action):
        self.left, self.t = self.left - 1, self.t + 1
        return np.int64(self.left), self.t + 100.0 * action, self.left == 0, False, {}


def test_play_adds_up_each_episode_to_its_own_end(rng):
    odd = Tabular(np.eye(2)[np.arange(100) % 2][None])  # the action is the state's parity
    seeds = np.array([3, 1, 9])
    returns, lengths = play([Countdown() for _ in seeds], odd, seeds, 5, rng)
    assert lengths.tolist() == [3, 1, 5]
    # 1 + 2 + 3 with odd states 3 and 1; 1 with 1; 1 + ... + 5 with 9, 7 and 5
    assert returns.tolist() == [206.0, 101.0, 315.0]


# ---------------------------------------------------------------- finished runs


def test_policies_of_a_run_on_disk(tmp_path, rng):
    run = finished(tmp_path / "run")
    stationary, mixture = rng.dirichlet(np.ones(2), size=3), rng.dirichlet(np.ones(2), size=(4, 3))
    np.savez(run / "policy.npz", pi=stationary, V=np.zeros(3))
    np.savez(run / "mixture.npz", pi=mixture)
    env = spaces(Discrete(3, start=1), Discrete(2, start=7))
    policy = load(run, env)
    np.testing.assert_array_equal(policy.pi, stationary[None])
    assert policy.act(np.array([1, 2, 3]), np.zeros(3, int), rng).min() >= 7
    np.testing.assert_array_equal(load(run, env, mixture=True).pi, mixture[:, None])
    staged = rng.dirichlet(np.ones(2), size=(5, 3))
    np.savez(run / "policy.npz", pi=staged)
    np.testing.assert_array_equal(load(run, env).pi, staged)


def test_mixture_of_a_real_run(tmp_path):
    out = str(tmp_path / "run")
    ring = ["--env-id", "rlentropy/Ring-v0", "--horizon", "6"]
    options = ["--episodes", "200", "--mixture-size", "8", "--out", out, "--quiet"]
    assert cli.main(["maxent", *ring, *options]) == 0
    env = gymnasium.make("rlentropy/Ring-v0")
    assert load(tmp_path / "run", env).pi.shape == (6, 14, 3)
    assert load(tmp_path / "run", env, mixture=True).pi.shape == (8, 6, 14, 3)


def test_neural_policy_comes_from_the_module_of_its_command(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    module = SimpleNamespace(load_policy=lambda saved, env: (saved["weight"].tolist(), env))
    monkeypatch.setitem(sys.modules, "a_neural_command", module)
    monkeypatch.setitem(cli.COMMANDS, "neural", ("a_neural_command", ""))
    run = finished(tmp_path / "run", "neural")
    torch.save({"weight": torch.tensor([1.0, 2.0])}, run / "policy.pt")
    assert load(run, "env") == ([1.0, 2.0], "env")
    (run / "policy.pt").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"run must hold a readable policy\.pt, got .*policy\.pt"):
        load(run, "env")


@pytest.mark.parametrize(
    ("summary", "why"),
    [
        (None, "has no summary.json"),
        ("{", "not readable: JSONDecodeError"),
        ('{"command": "maxent"}', "not readable: KeyError"),
        ('{"command": "sweep", "finished": true}', "of the command 'sweep'"),
    ],
)
def test_folders_without_a_finished_run(tmp_path, summary, why):
    if summary is not None:
        (tmp_path / "summary.json").write_text(summary)
    with pytest.raises(ValueError, match=f"run must be the folder of a finished run, got .*{why}"):
        load(tmp_path, spaces(Discrete(3), Discrete(2)))


def test_runs_without_a_fitting_policy(tmp_path):
    run, env = finished(tmp_path / "run"), spaces(Discrete(3), Discrete(2))
    with pytest.raises(ValueError, match=r"run must hold policy\.npz or policy\.pt, got"):
        load(run, env)
    np.savez(run / "policy.npz", pi=np.full((3, 2), 0.5))
    with pytest.raises(ValueError, match=r"run must hold mixture\.npz, got"):
        load(run, env, mixture=True)
    with pytest.raises(ValueError, match=r"env must have Discrete\(3\) observations as in"):
        load(run, spaces(Discrete(4), Discrete(2)))
    with pytest.raises(ValueError, match=r"env must have Discrete\(2\) actions as in .* got Box"):
        load(run, spaces(Discrete(3), Box(0, 1)))
    np.savez(run / "policy.npz", pi=np.ones(3))
    with pytest.raises(ValueError, match=r"probabilities \(\.\.\., S, A\) .* got \(3,\)"):
        load(run, env)
    (run / "policy.npz").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"run must hold a readable policy\.npz, got"):
        load(run, env)
