"""Policies on batches: the laws they draw from, and how those of finished runs are read."""

import json
import shutil
import sys
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from hypothesis import given
from hypothesis import strategies as st

from rlentropy import cli, load_run, policies
from rlentropy.errors import InputError
from rlentropy.policies import Mixture, Tabular, play
from rlentropy.runs.policies import load
from rlentropy.runs.table import COMMANDS, Command
from rlentropy.wrappers import uniform_actions


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


# ---------------------------------------------------------------- one observation


def test_one_observation_gets_one_action(rng):
    pi = np.eye(3)[[0, 2, 1, 0]]  # deterministic
    for policy in (Tabular(pi[None], 5, 7), Mixture(np.stack([pi[None]] * 2), 5, 7)):
        for observation in (6, np.int64(6), np.array(6)):
            action = policy.act(observation, 0, rng)
            assert action == 9
            assert np.shape(action) == ()
            assert policy.act(observation) == 9
        np.testing.assert_array_equal(policy.act([5, 6, 7]), [7, 9, 8])
        np.testing.assert_array_equal(policy.act(np.array([6])), [9])


def test_without_a_generator_a_policy_uses_its_own(rng):
    fair = np.full((1, 4, 2), 0.5)
    first, second = ([Tabular(fair).act(1) for _ in range(30)] for _ in range(2))
    assert first == second
    policy = Tabular(fair)
    drawn = [int(policy.act(1)) for _ in range(200)]
    assert 60 < sum(drawn) < 140


def test_a_mixture_that_was_not_begun_chooses_for_each_slot(rng):
    pi = np.stack([np.full((1, 3, 2), [1.0, 0.0]), np.full((1, 3, 2), [0.0, 1.0])])
    policy = Mixture(pi)
    first = policy.act(np.zeros(50, int), 0, rng)
    assert 5 < first.sum() < 45
    np.testing.assert_array_equal(policy.act(np.ones(50, int), 1, rng), first)


def test_uniform_actions_for_one_and_for_many(rng):
    env = spaces(Box(-1, 1, (3,)), Discrete(4))
    policy = policies.random(env)
    assert policy.act(np.zeros(3), 0, rng) in range(4)
    assert policy.act(np.zeros((3, 3)), 0, rng).shape == (3,)
    unseen = policies.Uniform(Discrete(4))
    assert np.shape(unseen.act("anything", 0, rng)) == ()
    assert unseen.act([{}, {}], [0, 3], rng).shape == (2,)


@pytest.mark.parametrize(
    ("observations", "t", "said"),
    [
        ([[1, 2]], 0, r"must be \(n, \*\(\)\), or one of shape \(\), .* got list and \(\)"),
        (np.array([1, 2]), [0, 1, 2], r"got \(2,\) and \(3,\)"),
        (4, 0, r"must be in 0\.\.3, got 4\.\.4"),
        ([-1, 2], 0, r"must be in 0\.\.3, got -1\.\.2"),
        (1.0, 0, "must be whole numbers, got float64"),
        (True, 0, "must be whole numbers, got bool"),
        ("a", 0, "must be whole numbers"),
        ([[1], [2, 3]], 0, "observations must be"),
    ],
)
def test_observations_that_are_none(observations, t, said, rng):
    with pytest.raises(InputError, match=said):
        Tabular(np.full((1, 4, 2), 0.5)).act(observations, t, rng)


def test_policies_say_what_they_are():
    assert repr(Tabular(np.ones((1, 16, 4)) / 4)) == "Tabular(16 states, 4 actions, stationary)"
    assert repr(Tabular(np.ones((9, 16, 4)) / 4)) == "Tabular(16 states, 4 actions, 9 steps)"
    mixture = "Mixture(3 policies, 16 states, 4 actions, 9 steps)"
    assert repr(Mixture(np.ones((3, 9, 16, 4)) / 4)) == mixture
    assert repr(policies.Uniform(Discrete(3))) == "Uniform(Discrete(3))"


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
    monkeypatch.setitem(COMMANDS, "neural", Command("a_neural_command", ""))
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


ODD_TABLES = {
    "NaN": (np.nan, "numbers from nan"),
    "negative": (-0.5, "numbers from -0.5"),
    "zero": (0.0, "rows that sum to 0.5"),
    "double": (1.5, "rows that sum to 0.5 to 2|rows that sum to 1 to 2"),
    "infinite": (np.inf, "to inf"),
    "complex": (0.5 + 0.1j, "numbers of complex128"),
    "tiny": (0.5 + 1e-5, "rows that sum to"),
}


@pytest.mark.parametrize("kind", ODD_TABLES)
@pytest.mark.parametrize("name", ["policy", "mixture"])
def test_tables_that_are_no_probabilities(tmp_path, kind, name):
    run, env = finished(tmp_path / "run"), spaces(Discrete(3), Discrete(2))
    value, said = ODD_TABLES[kind]
    shape = (3, 2) if name == "policy" else (4, 5, 3, 2)
    pi = np.full(shape, 0.5, type(value))
    pi[(*[0] * (pi.ndim - 1), 1)] = value
    np.savez(run / f"{name}.npz", pi=pi)
    with pytest.raises(InputError, match=f"run must hold probabilities in .*{name}.npz, got .*"):
        load(run, env, mixture=name == "mixture")
    with pytest.raises(InputError, match=said):
        load(run, env, mixture=name == "mixture")


def test_probabilities_in_single_precision_are_read(tmp_path, rng):
    run, env = finished(tmp_path / "run"), spaces(Discrete(50), Discrete(30))
    pi = rng.dirichlet(np.ones(30), 50)
    np.savez(run / "policy.npz", pi=pi.astype(np.float32))
    np.testing.assert_allclose(load(run, env).pi[0], pi, rtol=1e-6)
    np.savez(run / "policy.npz", pi=np.eye(30, dtype=int)[np.arange(50) % 30])
    assert load(str(run), env).act(31) == 1


# ---------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "ring"
    options = ["--gamma", "0.5", "--quiet", "--out", str(out), "--label", "exact"]
    assert cli.main(["robust-planning", "--env-id", "rlentropy/Ring-v0", *options]) == 0
    return out


def test_a_run_from_python(ring):
    run = load_run(str(ring))
    assert run.summary["risk"] == "entropic:1"
    assert run.config["settings"]["gamma"] == 0.5
    steps, values = run.metrics["eval/robust_value"]
    assert values[-1] == run.summary["value"]
    assert len(steps) == len(values)
    assert repr(run) == f"Run({str(ring)!r}, exact, {len(run.metrics)} metrics)"
    with np.load(ring / "policy.npz") as file:
        np.testing.assert_array_equal(run.policy.pi[0], file["pi"])
    env = gymnasium.make("rlentropy/Ring-v0")
    state, _ = env.reset(seed=0)
    for t in range(5):
        state, *_ = env.step(run.policy.act(state, t))


def test_a_run_from_python_says_what_is_missing(ring, tmp_path):
    with pytest.raises(InputError, match=r"got .*none: it is not finished \(no summary.json\)"):
        load_run(tmp_path / "none")
    copy = tmp_path / "copy"
    shutil.copytree(ring, copy)
    (copy / "config.json").unlink()
    with pytest.raises(InputError, match=r"run must hold config\.json, got"):
        _ = load_run(copy).config
    (copy / "config.json").write_text("{}")
    with pytest.raises(InputError, match="it has no command or no settings"):
        _ = load_run(copy).config
    (copy / "metrics.jsonl").write_text("{")
    with pytest.raises(InputError, match=r"it is not readable \(JSONDecodeError"):
        load_run(copy)


def stranger(run, copy, **facts):
    """A copy of a run whose files say other things of its environment."""
    shutil.copytree(run, copy)
    for name in ("summary.json", "config.json"):
        content = json.loads((copy / name).read_text())
        content.get("settings", content).update(facts)
        (copy / name).write_text(json.dumps(content))
    return copy


@pytest.mark.parametrize(
    ("facts", "option"),
    [
        ({"env_id": "evil_module:CartPole-v1"}, "--env-id"),
        ({"env_kwargs": '{"xml_file": "\\u002ftmp\\u002fx"}'}, "--env-kwargs"),
        ({"env_kwargs": '{"xml_file": ["x.xml"]}'}, "--env-kwargs"),
    ],
)
def test_a_stranger_imports_no_module_and_opens_no_file(
    ring, tmp_path, monkeypatch, capsys, facts, option
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil_module.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    copy = str(stranger(ring, tmp_path / "copy", **facts))
    for command in (
        ["evaluate", "--run", copy, "--horizon", "3"],
        ["collect", "--policy", copy, "--data", "x.npz", "--horizon", "3", "--steps", "9"],
        ["robust-planning", "--resume", "--out", copy, "--tolerance", "1e-6"],
    ):
        assert cli.main(command) == 2, command
        assert f"must be given ({option})" in capsys.readouterr().err
    with pytest.raises(InputError, match="must be given"):
        _ = load_run(copy).policy
    assert load_run(copy, gymnasium.make("rlentropy/Ring-v0")).policy.pi.shape == (1, 14, 3)
    assert not (tmp_path / "ran").exists()
    typed = ["--env-id", "rlentropy/Ring-v0", "--env-kwargs", "{}", "--horizon", "3", "--quiet"]
    assert cli.main(["evaluate", "--run", copy, *typed, "--episodes", "1"]) == 0


# ---------------------------------------------------------------- neural policies


def neural(kind):
    """What policy.pt holds of a network 4-3-2 on CartPole, and who reads it."""
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)

    def some(*shape):
        return torch.randn(shape, generator=generator)

    if kind == "actor-critic":
        from rlentropy.robust.actor_critic import load_policy

        saved = {"flat": some(4 * 3 + 3 + 3 * 2 + 2), "sizes": [4, 3, 2], "activation": "tanh"}
        saved |= {"mean": some(4).double(), "deviation": torch.ones(4).double()}
        return saved | {"stochastic": False}, load_policy
    from rlentropy.offline.fqi import load_policy

    layers = [some(1, 4, 3), some(1, 3, 2), some(1, 1, 3), some(1, 1, 2)]
    saved = {"sizes": [4, 3, 2], "network": layers, "first_state": -1, "discrete": False}
    saved |= {"features": torch.stack([some(4), torch.ones(4)]), "observation_shape": [4]}
    saved |= {"actions": torch.arange(2), "discrete_actions": True}
    return saved | {"behaviour": layers, "support": 0.1}, load_policy


@pytest.mark.parametrize("kind", ["actor-critic", "offline"])
def test_one_observation_of_a_neural_policy(kind, rng):
    """CartPole's four numbers are one observation, not four."""
    saved, load_policy = neural(kind)
    env = gymnasium.make("CartPole-v1")
    policy = load_policy(saved, env)
    batch = rng.normal(size=(50, 4))
    actions = policy.act(batch, np.zeros(50, int), rng)
    assert actions.shape == (50,)
    for observation, action in zip(batch, actions, strict=True):
        assert np.shape(policy.act(observation)) == ()
        assert policy.act(observation) == action
    assert env.action_space.contains(policy.act(batch[0]))
    assert "(4,)" in repr(policy)
    with pytest.raises(InputError, match=r"or one of shape \(4,\), .* got \(50, 3\)"):
        policy.act(batch[:, :3])


@pytest.mark.parametrize("kind", ["actor-critic", "offline"])
def test_networks_that_do_not_fit_together(kind):
    torch = pytest.importorskip("torch")
    saved, load_policy = neural(kind)
    env = gymnasium.make("CartPole-v1")
    odd = (None, "x", [], [4, 3], [4, "3", 2], 5, torch.zeros(2), torch.zeros(1, 2, 3), True, 1j)
    odd += (torch.tensor(0.0), [torch.tensor(0.0)], -0.5, torch.zeros(2, dtype=torch.complex64))
    refused = 0
    for name in saved:
        others = [{k: v for k, v in saved.items() if k != name}]
        others += [saved | {name: value} for value in odd]
        for other in others:
            try:
                load_policy(other, env).act(np.zeros(4))
            except InputError:
                refused += 1
            # Whatever is accepted acts.
    assert refused > 6 * len(saved)


def test_a_network_of_another_command(tmp_path):
    torch = pytest.importorskip("torch")
    env = gymnasium.make("CartPole-v1")
    for kind, command in (("actor-critic", "fqi"), ("offline", "robust-actor-critic")):
        run = finished(tmp_path / kind, command)
        torch.save(neural(kind)[0], run / "policy.pt")
        with pytest.raises(InputError, match=r"policy\.pt must .*policy\.pt\)"):
            load(run, env)
    run = finished(tmp_path / "tabular", "maxent")
    torch.save({}, run / "policy.pt")
    with pytest.raises(InputError, match=r"run must hold policy\.npz of maxent"):
        load(run, env)
