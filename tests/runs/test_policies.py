"""Policies of finished runs: read as they were written, or refused."""

import json
import sys
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from rlentropy import cli
from rlentropy.errors import InputError
from rlentropy.runs.policies import load
from rlentropy.runs.table import COMMANDS, Command


def spaces(observation, action):
    return SimpleNamespace(observation_space=observation, action_space=action)


def finished(folder, command="maxent", **changes):
    """A run folder with a summary, as far as `load` reads one."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = {"command": command, "env_id": "x", "seed": 0, "finished": True}
    (folder / "summary.json").write_text(json.dumps(summary | changes))
    return folder


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


def test_a_mixture_of_networks_comes_from_the_same_file(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")

    def load_policy(saved, env, mixture=False):
        return saved["weight"].tolist()[:-1] if mixture else saved["weight"].tolist()[-1]

    reader = SimpleNamespace(load_policy=load_policy)
    monkeypatch.setitem(sys.modules, "a_neural_command", reader)
    monkeypatch.setitem(COMMANDS, "neural", Command("a_neural_command", ""))
    run = finished(tmp_path / "run", "neural")
    with pytest.raises(InputError, match=r"run must hold mixture\.npz, got"):
        load(run, "env", mixture=True)
    torch.save({"weight": torch.tensor([1.0, 2.0, 3.0])}, run / "policy.pt")
    assert load(run, "env") == 3.0
    assert load(run, "env", mixture=True) == [1.0, 2.0]
    reader.load_policy = lambda saved, env: saved
    with pytest.raises(InputError, match=r"run must hold a mixture, got .* of neural, which plays"):
        load(run, "env", mixture=True)


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
    with pytest.raises(InputError, match=r"be of shape \(4,\), or a batch of such, got \(50, 3\)"):
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


def test_a_mixture_of_ties_is_a_distribution_in_double_precision(tmp_path):
    """Mixtures are stored in single precision, whose thirds sum to 1 + 3e-8."""
    cli.main([
        "entgame", "--env-id", "rlentropy/GridWorld-v0", "--env-kwargs", '{"size": 3}', "--quiet",
        "--horizon", "4", "--episodes", "3", "--out", str(tmp_path),
    ])  # fmt: skip
    env = gymnasium.make("rlentropy/GridWorld-v0", size=3)
    mixture = load(tmp_path, env, mixture=True)
    np.testing.assert_allclose(mixture.pi.sum(-1), 1.0, atol=1e-15)
